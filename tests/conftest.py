"""What holds for every test: no network, no model hub; and array shapes checked at each call, where that is asked for.

This runs before any test module is collected, so before anything imports the package.
"""

import importlib
import ipaddress
import os
import socket
import uuid
from pathlib import Path
from typing import Any, runtime_checkable

import hypothesis
import jaxtyping
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["SAE_AUTO_INTERP_NO_PAID_CALLS"] = "1"
for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "OPENROUTER_API_KEY"):
    os.environ.pop(variable, None)


# How long an example takes says something about the machine, nothing about the code.
hypothesis.settings.register_profile("short", deadline=None, max_examples=30)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=300)
hypothesis.settings.load_profile("soak" if os.environ.get("SAE_AUTO_INTERP_SOAK") else "short")


class NetworkBlockedError(OSError):
    """A test tried to leave this machine."""


def _is_local(address: object) -> bool:
    """Whether an address given to `connect` is a Unix socket's or lies on the loopback device."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    if host in {"localhost", ""}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _require_local(address: object) -> None:
    if not _is_local(address):
        raise NetworkBlockedError(f"tests run offline, and this one wants {address!r}")


class _LocalSocket(socket.socket):
    """A socket that reaches this machine only."""

    def connect(self, address: Any, /) -> None:
        _require_local(address)
        super().connect(address)

    def connect_ex(self, address: Any, /) -> int:
        _require_local(address)
        return super().connect_ex(address)

    def sendto(self, *arguments: Any) -> int:
        _require_local(arguments[-1])
        return super().sendto(*arguments)


_resolve = socket.getaddrinfo


def _resolve_local(host: Any, *arguments: Any, **options: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    _require_local((name or "",))
    return _resolve(host, *arguments, **options)


socket.socket = _LocalSocket
socket.getaddrinfo = _resolve_local


@pytest.fixture(autouse=True, scope="session")
def _cache_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where fixtures of modules keep answers of language models."""
    os.environ["SAE_AUTO_INTERP_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture(autouse=True)
def _own_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Answers that one test got are no answers to another, nor to the user's runs."""
    monkeypatch.setenv("SAE_AUTO_INTERP_CACHE", str(tmp_path_factory.getbasetemp() / f"cache-{uuid.uuid4().hex}"))


def _check_annotations() -> None:
    """Check every annotated argument, result and dataclass field of the package, array shapes included.

    `protocols` itself is left out: it holds no code, and beartype refuses an annotation with a protocol that is
    not runtime-checkable. All of them are made so here, for the tests: an argument annotated with a protocol must
    then have its members.
    """
    package = Path(__file__).resolve().parents[1] / "src" / "sae_auto_interp"
    names = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    checked = sorted(f"sae_auto_interp.{name}" for name in names - {"protocols"})
    importlib.import_module("tests.annotations")  # jaxtyping itself imports `tests` alone
    jaxtyping.install_import_hook(checked, "tests.annotations.checked")
    protocols = importlib.import_module("sae_auto_interp.protocols")
    for value in vars(protocols).values():
        if getattr(value, "_is_protocol", False) and value.__module__ == protocols.__name__:
            runtime_checkable(value)


CHECKS_ANNOTATIONS = bool(os.environ.get("SAE_AUTO_INTERP_CHECK_ANNOTATIONS"))
"""Whether annotations are checked at each call, which takes two and a half times as long."""
if CHECKS_ANNOTATIONS:
    _check_annotations()

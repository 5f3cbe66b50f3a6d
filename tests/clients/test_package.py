"""The folder's public names are loaded when first used, and nothing heavy before."""

import subprocess
import sys

import pytest

import sae_auto_interp.clients as clients


def loaded_by(statement: str) -> set[str]:
    """Which of the heavy packages are loaded in a fresh interpreter after the statement."""
    heavy = "{'httpx2', 'torch', 'transformers', 'nnsight', 'xllamacpp'}"
    program = f"import sys; {statement}; print(' '.join({heavy} & set(sys.modules)))"
    return set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )


def test_importing_the_folder_and_the_wrappers_loads_no_http_library_and_no_torch() -> None:
    assert (
        loaded_by("import sae_auto_interp.clients as c; c.RetryingClient, c.LimitedClient, c.ScriptedClient") == set()
    )


def test_the_http_client_loads_no_torch() -> None:
    assert loaded_by("from sae_auto_interp.clients import OpenAIClient") == {"httpx2"}


def test_every_public_name_is_there() -> None:
    assert set(clients.__all__) <= set(dir(clients))
    assert [getattr(clients, name).__name__ for name in clients.__all__] == clients.__all__


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="TelepathicClient"):
        _ = clients.TelepathicClient  # pyright: ignore[reportAttributeAccessIssue]

"""From `client` in the run file to the client of its kind; what is wrong there is said with the key that is wrong."""

from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.clients import Local, OpenAIClient, TransformersClient
from sae_auto_interp.config import ClientConfig, load_config
from sae_auto_interp.errors import ConfigError, InputError, UnknownNameError
from sae_auto_interp.pipeline.clients.open_clients import build_provider, provider_names

URL = "http://127.0.0.1:1/v1"


def built(**client: Any) -> Any:
    return build_provider(ClientConfig.model_validate(client))


def test_every_provider_is_a_kind_and_no_wrapper_is() -> None:
    names = provider_names()
    assert {"openai", "anthropic", "transformers", "local", "openrouter"} <= set(names)
    assert not {"retry", "limit", "scripted"} & set(names)


def test_the_default_kind_is_an_openai_compatible_endpoint() -> None:
    client = built(base_url=URL, model="judge", timeout_seconds=7)
    assert type(client) is OpenAIClient
    assert (client.base_url, client.model, client.api_key_env) == (URL, "judge", "OPENAI_API_KEY")
    assert client.timeout_seconds == 7
    assert built(base_url=URL, api_key_env="OTHER").api_key_env == "OTHER"


def test_a_kind_with_a_place_of_its_own_needs_no_address() -> None:
    client = built(kind="local", model="judge")
    assert type(client) is Local
    assert client.base_url == "http://localhost:8000/v1"


def test_options_are_settings_of_the_kind() -> None:
    options = {"device": "cpu", "max_batch": "7"}
    client = built(kind="transformers", model="embedded:language_model", options=options)
    assert isinstance(client, TransformersClient)
    assert (client.device, client.max_batch) == ("cpu", 7)
    assert Path(client.model).is_dir()


@pytest.mark.parametrize(
    ("client", "error", "said"),
    [
        ({"kind": "antropic"}, UnknownNameError, "unknown client.kind 'antropic'; did you mean 'anthropic'?"),
        ({"kind": "retry"}, UnknownNameError, "unknown client.kind 'retry'"),
        ({}, ConfigError, "client.kind openai needs a setting: client.base_url"),
        ({"kind": "transformers"}, ConfigError, "needs a setting: client.model"),
        (
            {"kind": "transformers", "model": "m", "options": {"max_batches": 3}},
            UnknownNameError,
            "'max_batches'; did you mean 'max_batch'?",
        ),
        ({"kind": "transformers", "model": "m", "options": {"max_batch": "many"}}, ConfigError, "max_batch"),
        ({"kind": "transformers", "model": "m", "base_url": URL}, ConfigError, "client.base_url says nothing to"),
        ({"kind": "anthropic", "model": "m"}, InputError, "ANTHROPIC_API_KEY"),
    ],
)
def test_what_is_wrong_is_named(client: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        built(**client)
    assert said in str(caught.value)


def test_a_model_in_a_folder_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "run.yaml").write_text(
        "model: m\nautoencoders: [a]\nclient: {kind: transformers, model: weights}\nexplainers: [simple]\n"
    )
    monkeypatch.chdir(tmp_path)
    client = load_config(tmp_path / "run.yaml").client
    assert client is not None
    assert client.model == str(tmp_path / "weights")

"""The run file: every key checked, defaults visible, and nothing lost on the way to disk and back."""

from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.config import (
    AutoencoderConfig,
    ClientConfig,
    MadeCoderConfig,
    dump_config,
    fingerprint,
    load_config,
    openai_endpoint,
    parse_config,
    resolve_path,
)
from sae_auto_interp.errors import ConfigError, InputError, UnknownNameError
from sae_auto_interp.pipeline.resolved import resolve

RANDOM: dict[str, Any] = {"kind": "random", "module_paths": ["h.1"], "width": 64}
LEAST: dict[str, Any] = {"model": "embedded:language_model", "autoencoders": ["embedded:sparse_coders/openai"]}


def test_defaults_survive_the_disk(tmp_path: Path) -> None:
    config = parse_config(LEAST | {"explainers": [{"name": "lexical", "max_clauses": 3}], "features": {"n_test": 20}})
    (tmp_path / "run.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "run.yaml") == config
    assert config.explainers[0].settings == {"max_clauses": 3}
    assert config.features.record_settings == {"n_test": 20}


def test_bare_names_and_single_values_will_do() -> None:
    config = parse_config(LEAST | {"autoencoders": "a/b", "explainers": "lexical", "scorers": ["detection"]})
    assert [a.label for a in config.autoencoders] == ["a/b"]
    assert [e.judge_name for e in config.explainers] == ["lexical"]
    assert [s.name for s in config.scorers] == ["detection"]


def test_other_explainers_are_judged_by_the_language_model() -> None:
    config = parse_config(LEAST | {"explainers": ["simple", {"name": "simple", "judge": "lexical"}]})
    assert [e.judge_name for e in config.explainers] == ["llm", "lexical"]
    assert config.explainers[1].settings == {}


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"dat": {}}, "unknown setting in configuration 'dat'; did you mean 'data'?"),
        ({"data": {"ctx_length": 3}}, "'data.ctx_length'; did you mean 'data.ctx_len'?"),
        ({"client": {"base_url": "x", "modle": "m"}}, "'client.modle'; did you mean 'client.model'?"),
        ({"autoencoders": [{"path": "a", "module_path": "b"}]}, "did you mean 'autoencoders[0].module_paths'?"),
        ({"autoencoders": [{**RANDOM, "wide": 3}]}, "did you mean 'autoencoders[0].width'?"),
    ],
)
def test_unknown_keys_name_the_nearest(wrong: dict[str, Any], expected: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse_config(LEAST | wrong)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"seed": "x"}, {"autoencoders": []}, {"cache": {"activation_dtype": "int8"}}, {"data": {"n_tokens": 0}}]
)
def test_impossible_values_are_refused_with_their_place(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(LEAST | wrong)
    assert next(iter(wrong)) in str(caught.value)


def test_relative_paths_hold_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "coders").mkdir()
    (tmp_path / "run.yaml").write_text("model: some/hub-model\nautoencoders: [coders]\n")
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("run.yaml"))
    assert config.model == "some/hub-model"
    assert config.autoencoders[0].label == str(tmp_path / "coders")


def test_files_that_are_no_run_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match="settings by name"):
        load_config(tmp_path / "list.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "binary.yaml")


def test_embedded_assets_resolve_and_unknown_ones_are_named() -> None:
    assert (Path(resolve_path("embedded:language_model")) / "config.json").is_file()
    assert resolve_path("some/model") == "some/model"
    with pytest.raises(UnknownNameError, match="did you mean 'embedded:language_model'"):
        resolve_path("embedded:languagemodel")


def test_fingerprints_depend_on_values_and_not_on_order() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_no_key_is_part_of_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")
    config = parse_config(LEAST | {"client": {"base_url": openai_endpoint(), "model": "m"}})
    assert "sk-planted" not in dump_config(config) + repr(config)
    assert config.client == ClientConfig(base_url="https://api.openai.com/v1", model="m")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert openai_endpoint() is None


MADE: list[dict[str, Any]] = [
    {"kind": "neurons", "module_paths": ["h.0.mlp.c_proj:in"], "k": 32},
    {"kind": "neurons", "module_paths": ["h.0.mlp.c_proj:in"], "threshold": 0.5, "rotated": True},
    {"kind": "random", "module_paths": ["h.1", "h.2"], "width": 4096, "k": 32},
    {"kind": "random", "module_paths": ["h.1"], "width": 4096},
]


def test_coders_without_files_survive_the_disk_beside_those_with(tmp_path: Path) -> None:
    config = parse_config(LEAST | {"autoencoders": ["embedded:sparse_coders/openai", *MADE]})
    (tmp_path / "run.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "run.yaml") == config
    assert [type(a) for a in config.autoencoders] == [AutoencoderConfig] + 4 * [MadeCoderConfig]
    assert config.autoencoders[3].label == "random at h.1, h.2"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"kind": "neurons", "k": None, "width": None}, "either k or threshold"),
        ({"kind": "neurons", "width": None, "threshold": 1.0}, "either k or threshold"),
        ({"kind": "neurons"}, "no width of their own"),
        ({"width": None}, "need a width"),
        ({"rotated": True}, "neither threshold nor rotation"),
        ({"k": 0}, "greater than or equal to 1"),
        ({"kind": "neuron"}, "'neurons' or 'random'"),
        ({"module_paths": []}, "at least 1"),
    ],
)
def test_impossible_coders_without_files_are_refused(changes: dict[str, Any], problem: str) -> None:
    made = {"kind": "random", "module_paths": ["h.1"], "width": 64, "k": 4} | changes
    with pytest.raises(ConfigError, match=problem):
        parse_config(LEAST | {"autoencoders": [made]})


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "-1"])
@pytest.mark.parametrize(
    "setting",
    [
        "client: {{base_url: 'http://127.0.0.1:1', price: {{usd_per_million_prompt_tokens: {}, "
        "usd_per_million_completion_tokens: 1}}}}",
        "client: {{base_url: 'http://127.0.0.1:1', price: {{usd_per_million_prompt_tokens: 1, "
        "usd_per_million_completion_tokens: {}}}}}",
        "client: {{base_url: 'http://127.0.0.1:1', timeout_seconds: {}}}",
        "client: {{base_url: 'http://127.0.0.1:1', give_up_seconds: {}}}",
        "client: {{base_url: 'http://127.0.0.1:1', requests_per_minute: {}}}",
        "client: {{base_url: 'http://127.0.0.1:1', max_same_refusals: {}}}",
        "budget: {{max_tokens: {}}}",
        "budget: {{max_usd: {}}}",
        "cache: {{max_norm_multiple: {}}}",
        "data: {{n_tokens: {}}}",
        "data: {{split_documents: {}}}",
        "seed: {}",
    ],
)
def test_numbers_that_no_setting_can_be(setting: str, number: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: m\nautoencoders: [a]\n" + setting.format(number) + "\n")
    with pytest.raises(ConfigError, match=r"run\.yaml: \S+: Input should be .*got"):
        load_config(path)


@pytest.mark.parametrize(
    "line",
    [
        "explainers: [{name: simple, threshold: .nan}]",
        "features: {train_fraction: .inf}",
        "1: 2",
        "? {a: b}\n: c",
        "null: 1",
    ],
)
def test_odd_keys_and_numbers_of_components_are_one_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"model: m\nautoencoders: [a]\nclient: {{base_url: 'http://127.0.0.1:1', model: m}}\n{line}\n")

    def read() -> None:
        config = load_config(path)
        resolve(config)

    with pytest.raises(InputError) as refused:
        read()
    assert "\n" not in str(refused.value)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("model: m\nautoencoders: [a]\nseed: 1\nseed: 2\n")
    with pytest.raises(ConfigError, match=r"run\.yaml is not valid YAML: the key 'seed' stands there twice \(line 4"):
        load_config(tmp_path / "run.yaml")

"""From a hub, here one on this machine: only what is needed is fetched, at one commit; what goes wrong is one error."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nnsight
import pytest
from huggingface_hub import constants

from sae_auto_interp.autoencoders import load_autoencoders
from sae_auto_interp.autoencoders.attach import attached_coder
from sae_auto_interp.autoencoders.hub_files import fetch, wanted_files
from sae_auto_interp.errors import InputError, UnknownNameError
from sae_auto_interp.models.hub import HubRef, parse_hub_ref, pinned
from tests.autoencoders import families
from tests.support.hub_server import COMMIT, Hub, hub_server, point_at
from tests.support.records import D_MODEL, tiny_gpt2

SAES = "someone/saes"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Sparsify autoencoders of three modules, and files that nobody asked for."""
    monkeypatch.setattr(families, "D_IN", D_MODEL)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    repo = tmp_path / "served" / SAES
    for module in ("h.0", "h.1", "h.1.mlp"):
        folder = tmp_path / module
        folder.mkdir()
        (repo / "many").mkdir(parents=True, exist_ok=True)
        families.sparsify(folder, families.random_weights()).path.rename(repo / "many" / module)
    (repo / "many" / "config.json").write_text('{"model": "tiny/gpt", "sae": {}, "ctx_len": 32}')
    (repo / "README.md").write_text("Read me.")
    (repo / "optimizer.bin").write_bytes(b"0" * 1000)
    with hub_server(tmp_path / "served", tmp_path / "cache") as served:
        yield served


def model() -> Any:
    return nnsight.NNsight(tiny_gpt2())


def test_only_what_is_chosen_is_fetched(hub: Hub) -> None:
    attached = load_autoencoders(model(), f"hf:{SAES}/many", ["h.1"])
    assert list(attached) == ["transformer.h.1"]
    names = {f"{SAES}/many/{name}" for name in ("config.json", "h.1/cfg.json", "h.1/sae.safetensors")}
    assert set(hub.fetched) == names
    settings = attached_coder(attached["transformer.h.1"]).settings
    assert settings.source == settings.hub_source == f"hf:{SAES}/many/h.1@{COMMIT}"
    assert settings.source_name == "h.1"
    assert (settings.claims.model, settings.claims.ctx_len) == ("tiny/gpt", 32)


def test_all_below_an_address_is_fetched_without_a_choice(hub: Hub) -> None:
    assert len(load_autoencoders(model(), f"hf:{SAES}/many@v1")) == 3
    assert not [name for name in hub.fetched if name.endswith((".md", ".bin"))]


@pytest.mark.parametrize("path", ["many/h.0", "many/h.0/sae.safetensors"])
def test_a_directory_of_one_coder_and_a_single_file_will_do(path: str, hub: Hub) -> None:
    attached = load_autoencoders(model(), f"hf:{SAES}/{path}")
    assert list(attached) == ["transformer.h.0"]
    assert attached_coder(attached["transformer.h.0"]).settings.source == f"hf:{SAES}/many/h.0@{COMMIT}"
    assert len(hub.fetched) == 3


def test_what_is_there_is_not_fetched_again(hub: Hub) -> None:
    for _ in range(2):
        load_autoencoders(model(), f"hf:{SAES}/many@{COMMIT}", ["h.0"])
    assert len(hub.fetched) == 3


def test_offline_the_cache_serves(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    load_autoencoders(model(), f"hf:{SAES}/many", ["h.0"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = hub.requests
    assert list(load_autoencoders(model(), f"hf:{SAES}/many@{COMMIT}")) == ["transformer.h.0"]
    assert hub.requests == before
    with pytest.raises(UnknownNameError, match=r"choice of autoencoders .* 'h\.1'"):
        load_autoencoders(model(), f"hf:{SAES}/many@{COMMIT}", ["h.1"])
    with pytest.raises(InputError, match=f"HF_HUB_OFFLINE is set, and what commit 'v1' is, .*{COMMIT}"):
        load_autoencoders(model(), f"hf:{SAES}/many@v1")
    refs = Path(constants.HF_HUB_CACHE) / "models--someone--saes" / "refs"  # as other programs leave them there
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text(COMMIT)
    assert list(load_autoencoders(model(), f"hf:{SAES}/many", ["h.0"])) == ["transformer.h.0"]
    with pytest.raises(InputError, match=r"HF_HUB_OFFLINE is set, and .* holds nothing of it"):
        load_autoencoders(model(), f"hf:{SAES}@{'a' * 40}")


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("hf:someone/nothing", r"has no repository 'someone/nothing' that you may see; .*HF_TOKEN"),
        (f"hf:{SAES}@nowhere", f"{SAES} has no branch, tag or commit 'nowhere'"),
        (f"hf:{SAES}/many/h.7", r"has no 'many/h\.7'; near it are: many/h\.0"),
        (f"hf:{SAES}/optimizer.bin", "holds no weights"),
        ("hf:someone", r"is no hub address; write hf:owner/repo\[/path\]"),
        ("hf:someone/saes@", "is no hub address"),
        ("hf:someone/saes/../../etc", "is no hub address"),
    ],
)
def test_what_is_not_there_is_named(ref: str, message: str, hub: Hub) -> None:
    with pytest.raises(InputError, match=message):
        load_autoencoders(model(), ref)
    assert hub.fetched == []


def test_an_unknown_choice_is_answered_with_what_there_is(hub: Hub) -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'h\.1\.mlp'.* known: h\.0, h\.1, h\.1\.mlp"):
        load_autoencoders(model(), f"hf:{SAES}/many", ["h.1.mlpp"])


def test_a_gated_repository_says_how_to_get_in(hub: Hub) -> None:
    hub.gated.add(SAES)
    with pytest.raises(InputError, match="access to someone/saes must be asked for on its page"):
        load_autoencoders(model(), f"hf:{SAES}")


def test_a_hub_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(monkeypatch, "http://127.0.0.1:9", tmp_path)
    with pytest.raises(InputError, match=r"hf:a/b@main: the hub at http://127\.0\.0\.1:9 gave no answer \("):
        load_autoencoders(model(), "hf:a/b")


def test_the_token_of_the_environment_goes_to_the_hub_and_into_no_log(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with caplog.at_level("DEBUG"):
        attached = load_autoencoders(model(), f"hf:{SAES}/many", ["h.0"])
    assert hub.tokens == {"Bearer hf_secret"}
    assert "hf_secret" not in caplog.text
    assert "hf_secret" not in repr(attached_coder(attached["transformer.h.0"]).settings)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("hf:a/b", HubRef("a/b")),
        ("hf:a/b/c/d.e", HubRef("a/b", "c/d.e")),
        ("hf:a/b@refs/pr/1", HubRef("a/b", "", "refs/pr/1")),
        ("hf:a/b/c/@v2", HubRef("a/b", "c", "v2")),
    ],
)
def test_an_address_is_taken_apart(text: str, ref: HubRef) -> None:
    found = parse_hub_ref(text)
    assert found == ref
    assert parse_hub_ref(str(found)) == found
    assert parse_hub_ref("a/b") is None


SIZES = {
    "config.yaml": 10, "layer_3.safetensors": 1000, "layer_13.safetensors": 1000, "huge.json": 2 << 20, "a/b/README": 1,
    "layer_20/width_16k/average_l0_3/params.npz": 1000, "layer_20/width_16k/average_l0_71/params.npz": 1000,
    "layer_20/width_16k/average_l0_71/cfg.json": 5, "layer_21/x/params.npz": 1000,
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "chosen", "weights"),
    [
        ("", ["3"], ["layer_3.safetensors"]),
        ("", ["layer_3"], ["layer_3.safetensors"]),
        ("", ["layer_20/width_16k/average_l0_71"], ["layer_20/width_16k/average_l0_71/params.npz"]),
        ("", ["average_l0_3"], ["layer_20/width_16k/average_l0_3/params.npz"]),
        ("layer_20", None, [f"layer_20/width_16k/average_l0_{n}/params.npz" for n in (3, 71)]),
        ("layer_20/width_16k", ["average_l0_71"], ["layer_20/width_16k/average_l0_71/params.npz"]),
        ("layer_13.safetensors", None, ["layer_13.safetensors"]),
    ],
)
def test_files_are_chosen_by_number_directory_or_name(path: str, chosen: list[str] | None, weights: list[str]) -> None:
    found = wanted_files(HubRef("a/b", path), SIZES, chosen)
    assert [name for name in found if not name.endswith((".json", ".yaml"))] == sorted(weights)
    assert "config.yaml" in found
    assert "huge.json" not in found
    assert ("layer_20/width_16k/average_l0_71/cfg.json" in found) == any("l0_71" in name for name in weights)


def test_hundreds_of_gigabytes_are_not_fetched_unasked() -> None:
    sizes = {f"layers.{n}/sae.safetensors": 10 << 30 for n in range(3)}
    with pytest.raises(InputError, match=r"holds 30 GiB of weights; choose among them .* layers\.0, layers\.1"):
        wanted_files(HubRef("a/b"), sizes, None)
    assert wanted_files(HubRef("a/b"), sizes, ["layers.0", "layers.2"]) == [
        f"layers.{n}/sae.safetensors" for n in (0, 2)
    ]


def test_a_commit_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    point_at(monkeypatch, "http://127.0.0.1:9", tmp_path)
    ref = HubRef("a/b", revision=COMMIT)
    assert pinned(ref) == ref
    with pytest.raises(InputError, match="gave no answer"):
        fetch(ref, None)


def test_a_password_in_the_server_s_address_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    point_at(monkeypatch, "http://me:secret@127.0.0.1:9", tmp_path)
    with pytest.raises(InputError, match=r"the hub at http://127\.0\.0\.1:9 gave no answer") as refused:
        fetch(HubRef("a/b", revision=COMMIT), None)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["../../evil.safetensors", "/nowhere/evil.safetensors", "a//b.pt", "a\\..\\b.pt"])
def test_a_file_that_would_lie_elsewhere_is_refused(name: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.hf_api import HfApi, RepoFile

    listed = RepoFile(path=name, size=3, oid="0" * 40)
    monkeypatch.setattr(HfApi, "list_repo_tree", lambda *_, **__: [listed])
    with pytest.raises(InputError, match="would lie outside of the repository"):
        fetch(HubRef(SAES, "many", COMMIT), None)
    assert hub.fetched == []


@pytest.mark.parametrize("commit", ["../../../etc", "main", "0" * 39, "0" * 40 + "/.."])
def test_what_is_no_commit_becomes_no_directory(commit: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the hub's word for it nor the note of an earlier one."""
    from types import SimpleNamespace

    from huggingface_hub import HfApi

    with monkeypatch.context() as patch:
        patch.setattr(HfApi, "repo_info", lambda *_, **__: SimpleNamespace(sha=commit))
        with pytest.raises(InputError, match="gives no commit"):
            pinned(HubRef(SAES))
    note = Path(constants.HF_HUB_CACHE) / "models--someone--saes" / "refs" / "main"
    note.parent.mkdir(parents=True)
    note.write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="holds no commit"):
        pinned(HubRef(SAES))


@pytest.mark.parametrize("ref", ["hf:a/b@../../x", "hf:a/b@x/../../y", "hf:a/b/./c", "hf:a/b@/x"])
def test_no_part_of_an_address_leads_upwards(ref: str) -> None:
    with pytest.raises(InputError, match="is no hub address"):
        parse_hub_ref(ref)

"""Entries of `autoencoders:` in a run: options, two coders of one place, and features that are named."""

import json
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.autoencoders import load_autoencoders
from sae_auto_interp.config import PreflightConfig, RunConfig, parse_config, resolve_path
from sae_auto_interp.errors import ConfigError, InputError, UnknownNameError
from sae_auto_interp.features import FeatureDataset
from sae_auto_interp.models.sites.site import Placement, Site
from sae_auto_interp.pipeline.cache_stage import load_inputs, run_cache_stage
from sae_auto_interp.pipeline.record_stage import candidates
from sae_auto_interp.pipeline.resolved import resolve, resolve_inputs
from sae_auto_interp.pipeline.run_directory import RunDirectory, evidence_settings, with_digests
from sae_auto_interp.preflight.check import check_attached
from sae_auto_interp.preflight.measure import Wiring
from sae_auto_interp.preflight.search import _how_to_move
from tests.pipeline.embedded import coder, model, rows
from tests.pipeline.test_record_stage import Counter

SPARSIFY = "embedded:sparse_coders/sparsify"
RANDOM = {"kind": "random", "module_paths": ["h.1"], "width": 96, "k": 4}
MODULE = "transformer.h.1"


def configuration(*autoencoders: Any, indices: Any = None, **settings: Any) -> RunConfig:
    return parse_config(
        {
            "model": "embedded:language_model", "autoencoders": list(autoencoders), "device": "cpu",
            "data": {"n_tokens": 1024, "ctx_len": 32, "max_chars_per_document": 500},
            "preflight": {"enabled": False}, "features": {"indices": indices, "min_examples": 2}, **settings,
        }
    )  # fmt: skip


def claimed(config: RunConfig, folder: Path) -> RunDirectory:
    directory = RunDirectory(folder)
    directory.claim(evidence_settings(config))
    return directory


@pytest.mark.parametrize("index", [96, 5000, -1, 2**63])
def test_a_feature_that_is_not_there_is_refused_before_caching(index: int, tmp_path: Path) -> None:
    config = configuration(RANDOM, indices={MODULE: [3, index]})
    directory = claimed(config, tmp_path)
    message = rf"features\.indices: there is no feature {index} of transformer\.h\.1; it has 0 to 95"
    with pytest.raises(InputError, match=message):
        run_cache_stage(resolve_inputs(config), directory, Counter(), records=resolve(config).records)
    assert not directory.features.exists()


def test_a_module_that_is_not_there_is_refused_before_caching(tmp_path: Path) -> None:
    config = configuration(RANDOM, indices={"h.7": [3]})
    with pytest.raises(UnknownNameError, match=r"unknown module path in features\.indices 'h\.7'"):
        run_cache_stage(resolve_inputs(config), claimed(config, tmp_path), Counter(), records=resolve(config).records)


def test_two_coders_of_one_place_are_cached_and_named_in_short(tmp_path: Path) -> None:
    config = configuration(RANDOM, RANDOM | {"width": 64}, indices={"h.1": [5, 3], "@random": [63]})
    directory = claimed(config, tmp_path)
    run_cache_stage(resolve_inputs(config), directory, Counter())
    dataset = FeatureDataset(directory.features)
    assert list(dataset.readers) == [MODULE, f"{MODULE}@random"]
    records = resolve(config).records
    chosen = {module: sorted(f.index for f in candidates(records, dataset, module)[0]) for module in dataset.readers}
    assert chosen == {MODULE: [3, 5], f"{MODULE}@random": [63]}
    before = (directory.features / f"{MODULE}@random" / "manifest.json").read_bytes()
    run_cache_stage(resolve_inputs(config), directory, Counter())  # done already
    assert (directory.features / f"{MODULE}@random" / "manifest.json").read_bytes() == before
    _, attached, _ = load_inputs(resolve_inputs(config), directory, Counter())
    assert sorted(attached) == sorted(dataset.readers)
    beyond = configuration(RANDOM, RANDOM | {"width": 64}, indices={"@random": [64]})
    with pytest.raises(InputError, match="it has 0 to 63"):
        candidates(resolve(beyond).records, dataset, MODULE)


def test_one_file_read_in_two_ways_is_two_coders(tmp_path: Path) -> None:
    config = configuration(SPARSIFY, {"path": SPARSIFY, "k": 3})
    run_cache_stage(resolve_inputs(config), claimed(config, tmp_path), Counter())
    manifests = {
        path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "features").glob("*/manifest.json")
    }
    assert set(manifests) == {"transformer.h.2", "transformer.h.2@h.2"}
    per_token = {
        name: sum(shard["n_activations"] for shard in found["shards"]) / (found["n_rows"] * found["ctx_len"])
        for name, found in manifests.items()
    }
    assert per_token["transformer.h.2@h.2"] <= 3 < per_token["transformer.h.2"]


def test_options_are_evidence_and_their_absence_changes_nothing() -> None:
    plain = with_digests(evidence_settings(configuration(SPARSIFY)))
    assert "autoencoder_options" not in plain["settings"]
    assert plain == with_digests(evidence_settings(configuration({"path": SPARSIFY, "k": None, "reading": None})))
    found = with_digests(evidence_settings(configuration({"path": SPARSIFY, "k": 4, "reading": {"active_groups": 2}})))
    wanted = {"normalise_decoder": True, "scale_by_decoder_norm": False, "active_groups": 2}
    assert found["settings"]["autoencoder_options"] == [{"k": 4, "reading": wanted}]
    other = with_digests(evidence_settings(configuration({"path": SPARSIFY, "k": 5})))
    assert other["settings"] != found["settings"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kk": 3}, r"'autoencoders\[0\]\.kk'; did you mean 'autoencoders\[0\]\.k'"),
        ({"k": "many"}, r"autoencoders\[0\]\.k: .*integer.*'many'"),
        ({"k": 0}, r"autoencoders\[0\]\.k: .*greater than or equal to 1"),
        ({"norm_scaling_factor": float("inf")}, r"autoencoders\[0\]\.norm_scaling_factor: .*finite"),
        ({"norm_scaling_factor": -1}, r"autoencoders\[0\]\.norm_scaling_factor: .*greater than 0"),
        ({"processed": "perhaps"}, r"autoencoders\[0\]\.processed: "),
        ({"normalisation": "layernorm"}, r"autoencoders\[0\]\.normalisation: .*did you mean 'layer_norm'"),
        ({"kind": "mpl"}, r"autoencoders\[0\]\.kind: .*did you mean 'mlp'"),
        ({"location": "resid_post_mlpp"}, r"autoencoders\[0\]\.location: .*did you mean 'resid_post_mlp'"),
        ({"reading": {"active_group": 2}}, r"did you mean 'autoencoders\[0\]\.reading\.active_groups'"),
        ({"site": 3}, r"autoencoders\[0\]\.site: .*the name of a place"),
        ({"site": []}, r"autoencoders\[0\]\.site: .*the name of a place"),
    ],
)
def test_bad_names_and_values_are_said_in_the_run_files_words(entry: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        configuration({"path": SPARSIFY} | entry)


def test_an_option_of_another_family_is_said_in_the_run_files_words(tmp_path: Path) -> None:
    config = configuration(RANDOM, {"path": SPARSIFY, "processed": True})
    with pytest.raises(InputError, match=r"autoencoders\[1\]\.processed: files of the family sparsify"):
        run_cache_stage(resolve_inputs(config), claimed(config, tmp_path), Counter())


def test_a_wrong_site_is_mended_by_deleting_its_line() -> None:
    subject = model()
    attached = load_autoencoders(subject, resolve_path(SPARSIFY), site="transformer.h.1:out")
    (found,) = check_attached(subject, attached, rows(), PreflightConfig(n_tokens=500))
    (refusal,) = found.refusals
    assert refusal.message.endswith("delete the line site: ... from the run file, its own place fits")


def test_a_wrong_site_of_a_transcoder_is_said_in_the_run_files_words() -> None:
    place = Placement((Site("transformer.h.1.mlp", "input"),), Site("transformer.h.1.mlp"))
    transcoder = coder("sparsify")
    assert _how_to_move(Wiring(transcoder, place)) == (
        "give it site: transformer.h.1.mlp:in and target: transformer.h.1.mlp:out in the run file, or attach it there"
    )
    transcoder.own_placement = place
    assert "delete the line site: ..." in _how_to_move(Wiring(transcoder, place))

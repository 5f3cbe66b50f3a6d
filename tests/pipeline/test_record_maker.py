"""Records of runs with everything that may be in them: the same bytes whoever makes them, in whatever order."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sae_auto_interp.autoencoders.attach import attach, attached_coder
from sae_auto_interp.autoencoders.logit_attribution import token_logits, writes_to_residual_stream
from sae_auto_interp.config import load_config, parse_config
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.features import FeatureConfig, FeatureDataset, FeatureLoader
from sae_auto_interp.features.similar import WindowIndex, index_source, window_index
from sae_auto_interp.pipeline.record_stage import Outcome, RecordMaker
from sae_auto_interp.pipeline.resolved import resolve, resolve_inputs
from sae_auto_interp.pipeline.run_directory import RunDirectory, evidence_settings, with_digests
from sae_auto_interp.pipeline.subject.logits import SubjectLogits
from sae_auto_interp.pipeline.triage import triage_of
from sae_auto_interp.results import codec
from sae_auto_interp.types import Failure, FeatureId, FeatureRecord
from tests.pipeline import embedded
from tests.support.embedders import BagOfHashes

KINDS = {"random": 3, "neighbour": 3, "token": 3, "similar": 3}
SETTINGS: dict[str, Any] = {
    "n_train": 10, "n_test": 10, "n_dev": 5, "n_quantiles": 5, "similar_pool": 300, "n_neighbours": 4,
    "n_non_activating_train": KINDS, "n_non_activating_test": KINDS, "n_non_activating_dev": KINDS,
}  # fmt: skip


def loader_of(demo: RunDirectory, **settings: Any) -> FeatureLoader:
    dataset = FeatureDataset(demo.features, FeatureConfig(**SETTINGS | settings))
    return FeatureLoader(demo.load_tokens(), dataset, neighbours=())


def some_features(loader: FeatureLoader, n: int = 4) -> list[FeatureId]:
    """Of every module some that fire often, and one that hardly ever does."""
    chosen: list[FeatureId] = []
    for module, reader in loader.dataset.readers.items():
        counts = reader.statistics()["n_activations"]
        often = np.flatnonzero(counts > 150)[:n].tolist()
        chosen += [FeatureId(module, i) for i in (*often, int(np.flatnonzero(counts == counts[counts > 0].min())[0]))]
    return chosen


def made(maker: RecordMaker, features: Sequence[FeatureId]) -> dict[FeatureId, Outcome]:
    async def collect() -> dict[FeatureId, Outcome]:
        return {feature: outcome async for feature, outcome in maker.outcomes(features, len(features))}

    return asyncio.run(collect())


def encoded(outcome: Outcome) -> bytes:
    return codec.encode_failure(outcome) if isinstance(outcome, Failure) else codec.encode_record(outcome)


def maker_of(demo: RunDirectory, workers: int = 0, **settings: Any) -> RecordMaker:
    loader = loader_of(demo, **settings)
    logits = SubjectLogits(resolve_inputs(load_config(demo.config)).subject, demo, loader.vocabulary, 6)
    return RecordMaker(loader, demo, workers=workers, embedder=BagOfHashes(), triage=True, logits=logits)


@pytest.fixture(scope="module")
def alone(demo: RunDirectory) -> dict[FeatureId, Outcome]:
    return made(maker_of(demo), some_features(loader_of(demo)))


def test_processes_and_order_change_no_byte(demo: RunDirectory, alone: dict[FeatureId, Outcome]) -> None:
    expected = {feature: encoded(outcome) for feature, outcome in alone.items()}
    together = made(maker_of(demo, workers=2), list(reversed(alone)))
    assert {feature: encoded(outcome) for feature, outcome in together.items()} == expected
    one_by_one = maker_of(demo)
    for feature in list(alone)[::3]:
        assert encoded(made(one_by_one, [feature])[feature]) == expected[feature]
    kinds = [outcome.kind if isinstance(outcome, Failure) else "record" for outcome in alone.values()]
    assert kinds.count("record") >= 9
    assert "rare" in kinds


def test_windows_of_every_kind_are_what_they_say(demo: RunDirectory, alone: dict[FeatureId, Outcome]) -> None:
    loader = loader_of(demo)
    for record in [outcome for outcome in alone.values() if isinstance(outcome, FeatureRecord)]:
        silent = record.non_activating
        for pool, examples in ((silent.explain, record.train), (silent.test, record.test), (silent.dev, record.dev)):
            peaks = {int(example.tokens[example.activations.argmax()]) for example in examples}
            for example in pool:
                assert not example.activations.any()
                at = example.row * loader.grid.rows.ctx_len + example.start
                if example.source == "neighbour":
                    assert example.neighbour is not None
                    fires = loader.dataset.entries(example.neighbour).locations
                    assert ((fires >= at) & (fires < at + 32)).any()
                    assert 0 < (example.distance or 0) < 1
                if example.source == "token":
                    assert peaks & set(example.tokens.tolist())
            found = [example.source for example in pool]
            short = {s.source: s.wanted - s.found for s in record.shortages if s.pool.startswith("non")}
            assert all(found.count(kind) == 3 or kind in short for kind in KINDS)


@pytest.mark.parametrize("neighbours", ["decoder", "encoder", "pmi"])
def test_neighbours_of_each_kind_give_windows(
    neighbours: str, demo: RunDirectory, alone: dict[FeatureId, Outcome]
) -> None:
    """And others than those by co-occurrence, which the records of this module have."""
    features = [feature for feature, outcome in alone.items() if isinstance(outcome, FeatureRecord)][::3]
    n_others = 0
    for feature, outcome in made(maker_of(demo, neighbours=neighbours), features).items():
        usual = alone[feature]
        assert isinstance(outcome, FeatureRecord), outcome
        assert isinstance(usual, FeatureRecord), usual
        whose = [{e.neighbour for e in record.non_activating.test} - {None} for record in (outcome, usual)]
        assert whose[0] or any(short.source == "neighbour" for short in outcome.shortages)
        n_others += len(whose[0] - whose[1])
    assert n_others > 0


def test_similar_windows_are_nearer_than_random_ones(alone: dict[FeatureId, Outcome]) -> None:
    """Each is the nearest that there was to one of the examples; a random window is near to one only by chance."""
    near: dict[str, list[float]] = {"similar": [], "random": []}
    for record in [outcome for outcome in alone.values() if isinstance(outcome, FeatureRecord)]:
        vectors = asyncio.run(BagOfHashes().embed([example.text for example in record.test]))
        for example in record.non_activating.test:
            if example.source in near:
                cosines = vectors @ asyncio.run(BagOfHashes().embed([example.text]))[0]
                near[example.source].append(float(cosines.max()))
                if example.source == "similar":
                    assert np.abs(cosines - (1 - (example.distance or 0))).min() < 1e-5
    assert np.median(near["similar"]) > np.median(near["random"]) + 0.1


def test_profiles_and_logits_are_with_the_record(demo: RunDirectory, alone: dict[FeatureId, Outcome]) -> None:
    loader = loader_of(demo)
    for record in [outcome for outcome in alone.values() if isinstance(outcome, FeatureRecord)]:
        triage = triage_of(loader, record.feature.module_path, demo.root)
        assert record.profile is not None
        assert record.profile.labels == triage.labels(record.feature.index)
        assert record.logits is not None
        assert (len(record.logits.top), len(record.logits.bottom)) == (6, 6)
        assert codec.decode_record(codec.encode_record(record)).profile == record.profile
        assert codec.decode_record(codec.encode_record(record)).logits == record.logits


def test_labelled_features_can_be_skipped(demo: RunDirectory) -> None:
    loader = loader_of(demo, n_non_activating_train=3, n_non_activating_test=3, n_non_activating_dev=3)
    module = next(iter(loader.dataset.readers))
    triage = triage_of(loader, module, demo.root)
    labelled = next(i for i in range(len(triage.profiles)) if "single_token" in triage.labels(i))
    feature = FeatureId(module, labelled)
    maker = RecordMaker(loader, demo, triage=True, skip=["single_token"])
    outcome = made(maker, [feature])[feature]
    assert isinstance(outcome, Failure)
    assert (outcome.stage, outcome.kind) == ("records", "single_token")
    assert isinstance(made(RecordMaker(loader, demo, triage=True), [feature])[feature], FeatureRecord)


def test_logits_are_the_unembedding_of_the_decoder_row() -> None:
    model, coder = embedded.wrapped_model(), embedded.stored_coder("openai")
    whole: Any = embedded.model()
    unembedding = whole.get_output_embeddings().weight.double()
    expected = (unembedding @ coder.w_dec[5].double()).detach().numpy()
    assert token_logits(model, coder.w_dec[5]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("site", "writes"),
    [
        ("transformer.h.1:out", True), ("transformer.h.1:in", True), ("transformer.h.1.mlp:out", True),
        ("transformer.h.1.mlp:in", False), ("transformer.h.1.attn.c_proj:in", False), ("transformer.h.1.ln_2:out",
        False),
    ],
)  # fmt: skip
def test_only_what_is_added_to_the_residual_stream_has_logits(site: str, writes: bool) -> None:
    weights = replace(embedded.weights_of(embedded.stored_coder("openai")))
    coder = type(embedded.stored_coder("openai"))(weights, embedded.stored_coder("openai").settings)
    (handle,) = attach(embedded.wrapped_model(), {site: coder}).values()
    assert writes_to_residual_stream(embedded.wrapped_model(), attached_coder(handle)) is writes


def test_settings_that_cannot_work_are_refused(demo: RunDirectory) -> None:
    def run_file(**features: Any) -> Any:
        return parse_config({"model": "m", "autoencoders": ["a"], "features": features})

    with pytest.raises(ConfigError, match=r"set features\.embedder"):
        resolve(run_file(n_non_activating_test={"similar": 5}))
    with pytest.raises(ConfigError, match="neighbor"):
        resolve(run_file(n_non_activating_test={"neighbor": 5}))
    with pytest.raises(ConfigError, match="triage"):
        resolve(run_file(skip="dense", triage=False))
    with pytest.raises(ConfigError, match=r"set features\.embedder"):
        RecordMaker(loader_of(demo))
    with pytest.raises(ConfigError, match="not given neighbours"):
        FeatureLoader(demo.load_tokens(), FeatureDataset(demo.features, FeatureConfig(**SETTINGS)))
    logits = {"explainers": ["max_activation_logits"], "client": {"base_url": "http://localhost:1/v1"}}
    whole = {"model": "m", "autoencoders": ["a"], "scorers": ["detection"], **logits}
    with pytest.raises(ConfigError, match=r"set features\.n_logits"):
        resolve(parse_config(whole))
    resolve(parse_config(whole | {"features": {"n_logits": 10}}))
    assert with_digests(evidence_settings(run_file(n_logits=3))) != with_digests(evidence_settings(run_file()))


def test_what_is_new_and_not_asked_for_does_not_change_what_a_run_is() -> None:
    settings = with_digests(evidence_settings(parse_config({"model": "m", "autoencoders": ["a"]})))["settings"][
        "features"
    ]
    assert set(settings) == {"n_features", "indices"}


@pytest.mark.parametrize("change", ["overwritten", "older", "foreign", "cut"])
def test_a_triage_file_that_is_not_this_caches_is_made_again(change: str, demo: RunDirectory, tmp_path: Path) -> None:
    """A column of ones made 773 rare features none, without a word."""
    loader = loader_of(demo)
    module = next(iter(loader.dataset.readers))
    expected = triage_of(loader, module, tmp_path)
    path = tmp_path / "triage" / f"{module}.safetensors"
    written, arrays = path.read_bytes(), load_file(path)
    if change == "overwritten":
        arrays["n_windows"] = np.ones_like(arrays["n_windows"])
    elif change == "older":
        del arrays["sha256"]
    if change in ("overwritten", "older"):
        save_file(arrays, path)
    elif change == "cut":
        path.write_bytes(written[:-8])
    else:
        triage_of(loader_of(demo, window=16), module, tmp_path)
    found = triage_of(loader, module, tmp_path)
    assert found.counts() == expected.counts()
    assert found.profiles == expected.profiles
    assert path.read_bytes() == written


def test_an_index_of_windows_counts_for_its_text_and_its_embedder(demo: RunDirectory, tmp_path: Path) -> None:
    loader = loader_of(demo)
    source = index_source(loader, loader.grid, BagOfHashes())
    index = asyncio.run(window_index(loader, loader.grid, BagOfHashes()))
    index.save(tmp_path / "all.safetensors", source)
    again = WindowIndex.load(tmp_path / "all.safetensors", source)
    assert again is not None
    assert np.array_equal(again.vectors, index.vectors)
    assert np.array_equal(again.windows, index.windows)
    others = {
        index_source(loader_of(demo, similar_pool=200), loader.grid, BagOfHashes()),
        index_source(loader, loader.grid, BagOfHashes(name="another")),
    }
    assert len(others - {source}) == 2
    assert [WindowIndex.load(tmp_path / "all.safetensors", other) for other in others] == [None, None]

"""The pieces of the stages that decide validity: partners, open failures, settings that must not mix."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.config import ComponentConfig, parse_config
from sae_auto_interp.errors import ConfigError, RunDirectoryError, UnknownNameError
from sae_auto_interp.features import FeatureConfig
from sae_auto_interp.pipeline.components import build_component, check_components, checked_settings
from sae_auto_interp.pipeline.score_stage import shuffled_partners
from sae_auto_interp.pipeline.units import RETRYABLE_KINDS, claim_component, may_heal, store_open_failure
from sae_auto_interp.pipeline.workers import for_each
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Failure, FeatureId

FEATURES = [FeatureId(module, index) for module in ("h.1", "h.2") for index in (3, 5, 8, 13)]


def test_partners_are_a_derangement_within_the_module() -> None:
    for seed in range(50):
        partners = shuffled_partners(FEATURES, seed)
        assert sorted(partners) == sorted(partners.values()) == FEATURES
        assert all(f != p and f.module_path == p.module_path for f, p in partners.items())


def test_partners_depend_on_the_seed_and_not_on_order() -> None:
    assert shuffled_partners(FEATURES[::-1], 0) == shuffled_partners(FEATURES, 0)
    assert len({tuple(shuffled_partners(FEATURES, seed).items()) for seed in range(20)}) > 1


def test_a_feature_alone_in_its_module_has_no_partner() -> None:
    assert shuffled_partners([FeatureId("h.1", 1), FeatureId("h.2", 1)], 0) == {}


def test_failures_that_may_heal_stay_open(tmp_path: Path) -> None:
    assert {
        "unreachable",
        "timeout",
        "rate_limited",
        "server_error",
        "broken_reply",
        "no_access",
        "not_stored",
    } == RETRYABLE_KINDS
    assert not may_heal(Failure("explain", "unparsable", ""))
    with ResultStore.open(tmp_path / "results.sqlite") as store:
        for attempt in ("first", "second"):
            store_open_failure(store, "simple/h.1:3", Failure("explain", "timeout", attempt))
        assert [failure.message for _, failure in store.failures()] == ["second"]
        assert store.finished_units("explain") == set()


def test_other_settings_under_one_name_are_refused(tmp_path: Path) -> None:
    with ResultStore.open(tmp_path / "results.sqlite") as store:
        claim_component(store, "explainer simple", {"threshold": 0.3})
        claim_component(store, "explainer simple", {"threshold": 0.3})
        with pytest.raises(RunDirectoryError, match="explainer simple with other settings"):
            claim_component(store, "explainer simple", {"threshold": 0.6})


def test_settings_are_converted_and_checked() -> None:
    assert checked_settings(FeatureConfig, {"n_test": "60"}, "features") == {"n_test": 60}
    with pytest.raises(UnknownNameError, match="did you mean 'n_test'"):
        checked_settings(FeatureConfig, {"n_tests": 60}, "features")
    with pytest.raises(ConfigError, match=r"features\.sampling"):
        checked_settings(FeatureConfig, {"sampling": "best"}, "features")


def test_collaborators_are_no_settings() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown setting of scorers\.detection 'judge'"):
        build_component("scorers", ComponentConfig.model_validate({"name": "detection", "judge": "x"}), {})


def test_a_language_model_that_is_missing_is_noticed_before_any_work() -> None:
    base: dict[str, Any] = {"model": "m", "autoencoders": ["a"]}
    with pytest.raises(ConfigError, match=r"explainers\.simple needs a language model"):
        check_components(parse_config(base | {"explainers": ["simple"]}))
    with pytest.raises(ConfigError, match=r"judges\.llm needs a language model"):
        check_components(parse_config(base | {"explainers": [{"name": "lexical", "judge": "llm"}]}))
    check_components(parse_config(base | {"explainers": ["simple"], "client": {"base_url": "http://127.0.0.1:1"}}))


def test_workers_are_bounded_and_see_every_item() -> None:
    running = most = 0
    seen: list[int] = []

    async def work(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        seen.append(item)
        running -= 1

    asyncio.run(for_each(range(400), work, n_workers=7))
    assert sorted(seen) == list(range(400))
    assert most == 7


def test_an_exception_stops_the_others_and_comes_through() -> None:
    started: list[int] = []

    async def work(item: int) -> None:
        started.append(item)
        await asyncio.sleep(0 if item == 3 else 10)
        raise KeyError(item)

    with pytest.raises(KeyError, match="3"):
        asyncio.run(for_each(range(100), work, n_workers=5))
    assert started == [0, 1, 2, 3, 4]

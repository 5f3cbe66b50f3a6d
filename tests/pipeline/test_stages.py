"""The pieces of the stages that decide validity: partners, open failures, settings that must not mix."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.config import ComponentConfig, parse_config
from sae_auto_interp.config.settings import checked_settings
from sae_auto_interp.errors import CacheError, ConfigError, RunDirectoryError, UnknownNameError
from sae_auto_interp.features import FeatureConfig
from sae_auto_interp.pipeline.components import resolve_component
from sae_auto_interp.pipeline.resolved import resolve
from sae_auto_interp.pipeline.units import RETRYABLE_KINDS, claim_component, may_heal, store_open_failure
from sae_auto_interp.pipeline.workers import ahead, for_each, isolated, together
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Failure


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
    with pytest.raises(UnknownNameError, match=r"unknown setting of judges\.llm 'client'"):
        resolve_component("judges", ComponentConfig.model_validate({"name": "llm", "client": "x"})).build({})


def test_a_language_model_that_is_missing_is_noticed_before_any_work() -> None:
    base: dict[str, Any] = {"model": "m", "autoencoders": ["a"]}
    with pytest.raises(ConfigError, match=r"explainers\.simple needs a language model"):
        resolve(parse_config(base | {"explainers": ["simple"]}))
    with pytest.raises(ConfigError, match=r"judges\.llm needs a language model"):
        resolve(parse_config(base | {"explainers": [{"name": "lexical", "judge": "llm"}]}))
    resolve(parse_config(base | {"explainers": ["simple"], "client": {"base_url": "http://127.0.0.1:1"}}))


async def numbers(n: int) -> AsyncGenerator[int, None]:
    for i in range(n):
        yield i


def test_workers_are_bounded_and_see_every_item_in_order() -> None:
    running = most = 0
    began: list[int] = []

    async def work(item: int) -> None:
        nonlocal running, most
        began.append(item)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (item % 3))
        running -= 1

    asyncio.run(for_each(numbers(200), work, lambda: 7))
    assert began == list(range(200))
    assert most == 7


@pytest.mark.parametrize("is_waiting", [True, False])
def test_an_exception_stops_the_others_and_comes_through(is_waiting: bool) -> None:
    """Also while the next item is waited for."""
    ended: list[int] = []

    async def slow() -> AsyncGenerator[int, None]:
        for i in range(5):
            yield i
        if is_waiting:
            await asyncio.sleep(100)

    async def work(item: int) -> None:
        try:
            await asyncio.sleep(0.01 if item == 3 else 100)
            raise KeyError(item)
        finally:
            ended.append(item)

    with pytest.raises(KeyError, match="3"):
        asyncio.run(for_each(slow(), work, lambda: 10))
    assert sorted(ended) == [0, 1, 2, 3, 4]


def test_one_that_breaks_ends_those_beside_it() -> None:
    ended: list[int] = []

    async def work(item: int) -> None:
        try:
            await asyncio.sleep(100 * item)
            raise KeyError(item)
        finally:
            ended.append(item)

    with pytest.raises(KeyError, match="0"):
        asyncio.run(together(work(item) for item in range(3)))
    assert sorted(ended) == [0, 1, 2]


def test_items_are_made_ahead_but_not_without_end() -> None:
    made: list[int] = []

    async def items() -> AsyncGenerator[int, None]:
        async for i in numbers(20):
            made.append(i)
            yield i

    async def consume() -> list[int]:
        taken: list[int] = []
        async with aclosing(ahead(items(), 3)) as source:
            async for item in source:
                taken.append(item)
                await asyncio.sleep(0.001)
                assert len(made) <= len(taken) + 4
        return taken

    assert asyncio.run(consume()) == list(range(20))


def test_who_makes_the_items_may_break_too() -> None:
    async def items() -> AsyncGenerator[int, None]:
        yield 1
        raise KeyError("no more")

    async def consume() -> list[int]:
        return [item async for item in ahead(items(), 3)]

    with pytest.raises(KeyError, match="no more"):
        asyncio.run(consume())


def test_a_component_that_breaks_is_a_failure_and_our_errors_are_not() -> None:
    async def raises(error: Exception) -> None:
        raise error

    outcome = asyncio.run(isolated("score", raises(ZeroDivisionError("oh"))))
    assert isinstance(outcome, Failure)
    assert (outcome.stage, outcome.kind) == ("score", "crashed")
    assert "ZeroDivisionError: oh (in raises, line" in outcome.message
    with pytest.raises(CacheError):
        asyncio.run(isolated("score", raises(CacheError("the disk is full"))))

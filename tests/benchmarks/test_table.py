"""The page is what the committed lines give, and what the tables say is what the lines say."""

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.claims import CLAIMS, Claim
from benchmarks.columns import TABLES
from benchmarks.lines import Line, read_lines
from benchmarks.options import LINES
from benchmarks.run_all import ORDER
from benchmarks.table import PAGE, benchmark_table, claims_table, filled, machines_table, section


def line(benchmark: str, who: str, result: dict[str, Any], repetition: int = 0, **settings: Any) -> Line:
    common: dict[str, Any] = {"repetition": repetition, "machine": {"cores": 2}, "result": result}
    return Line(benchmark=benchmark, who=who, settings=settings, **common)


def timed(who: str, seconds: list[float], *, heavy: bool = False, width: int = 32768) -> list[Line]:
    settings = {"width": width, "activation": "topk", "heavy": heavy, "n_tokens": 1000}
    return [
        line("caching", who, {"seconds": s, "tokens_per_second": 1000 / s, "above_loaded_mib": 100 * s}, i, **settings)
        for i, s in enumerate(seconds)
    ]


def claim(start: str) -> Claim:
    return next(claim for claim in CLAIMS if claim.text.startswith(start))


def test_the_page_is_what_the_committed_lines_give() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == filled(page, read_lines(sorted(LINES.glob("*.jsonl")))), "run: python -m benchmarks.table"


def test_the_page_has_a_table_for_every_benchmark() -> None:
    assert set(ORDER) == set(TABLES)
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in ("claims", "machines", *ORDER) if f"<!-- table: {name} -->\n" not in page] == []


def test_a_claim_takes_medians_and_the_worst_case() -> None:
    light = timed("ours", [1.1, 9.0, 1.0]) + timed("bare", [1.0, 1.0, 0.1])
    over_bare = claim("caching time over the bare limit with the fastest")
    assert over_bare.value(light) is None, "heavy-tailed firing was not measured"
    both = light + timed("ours", [2.6], heavy=True) + timed("bare", [2.0], heavy=True)
    assert over_bare.value(both) == pytest.approx(1.3)
    assert not over_bare.holds(1.3)
    assert over_bare.holds(1.2)
    assert claim("caching time over the bare limit with one product").value(both) is None, "it was not measured"
    over_peer = claim("caching speed over the peer's, width 32768")
    peers = timed("peer", [8.8]) + timed("peer", [15.6], heavy=True)
    assert over_peer.value(both + peers) == pytest.approx(6.0)
    assert claim("peak memory of caching").value(both) == pytest.approx(260)


def test_memory_growth_compares_four_million_with_one() -> None:
    lines = [
        line("growth", "ours", {"above_loaded_mib": mib, "bytes_per_activation": 6.1}, n_tokens=n_tokens, width=4096)
        for n_tokens, mib in ((1 << 18, 50), (1 << 20, 100), (1 << 22, 104))
    ]
    assert claim("peak memory at 4 M").value(lines) == pytest.approx(1.04)
    assert claim("disk").value(lines) == pytest.approx(6.1)


def test_memory_of_neighbours_is_that_of_the_whole_process() -> None:
    result = {"loaded_mib": 512, "above_loaded_mib": 1024, "seconds": 60}
    lines = [line("neighbours", "ours", result, kind="decoder", width=131072)]
    assert claim("top-50 decoder cosine").value(lines) == pytest.approx(1.5)


def test_every_claim_says_when_it_was_not_measured() -> None:
    table = claims_table(CLAIMS, [])
    assert table.count("not measured") == len(CLAIMS)


def test_a_table_shows_medians_ratios_and_what_is_missing() -> None:
    lines = timed("ours", [1.0, 2.0, 4.0]) + timed("bare", [1.0, 1.0, 1.0])
    gone = replace(lines[0], who="peer", result={}, missing="no peer")
    text = benchmark_table(TABLES["caching"], [*lines, gone])
    row = text.splitlines()[2]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "32,768", "topk", "light", "1000", "500", "1,000", "–", "–", "2.00", "–", "200", "–", "–", "–", "3",
    ]  # fmt: skip
    assert "- peer, width 32,768, activation topk, firing light, tokens 1000: no peer" in text


def test_a_benchmark_that_was_not_run_says_its_command() -> None:
    assert "python -m benchmarks.growth" in section("growth", [])
    with pytest.raises(KeyError):
        section("unknown", [line("unknown", "ours", {})])


def test_versions_are_listed_once_for_each_side() -> None:
    lines = timed("ours", [1.0]) + timed("bare", [1.0])
    assert len(machines_table(lines).splitlines()) == 3

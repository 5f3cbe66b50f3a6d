"""Which figures of each benchmark its table shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.lines import ALL_LAYERS, Line, median_of, ratio

Value = Callable[[Sequence[Line]], float | None]


@dataclass(frozen=True, slots=True)
class Column:
    """A figure computed from the measurements of one case."""

    title: str
    value: Value
    format: str = ",.0f"


@dataclass(frozen=True, slots=True)
class Table:
    """What tells the cases apart, {heading: settings -> value}, and the figures."""

    cases: Mapping[str, Callable[[dict[str, Any]], Any]]
    columns: tuple[Column, ...]


def figure(who: str, name: str, scale: float = 1.0) -> Value:
    """The median of one figure, of ours, the bare limit or the peer."""

    def value(lines: Sequence[Line]) -> float | None:
        found = median_of([line for line in lines if line.who == who], name)
        return None if found is None else found * scale

    return value


def quotient(name: str, above: str, below: str) -> Value:
    """The ratio of two medians of one figure."""
    return lambda lines: ratio(figure(above, name)(lines), figure(below, name)(lines))


def over_one_product(lines: Sequence[Line]) -> float | None:
    """Seconds of ours over those of the bare limit with one product per batch."""
    return ratio(figure("ours", "seconds")(lines), figure("bare", "one_product_seconds")(lines))


def setting(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda settings: settings.get(name, "")


def firing(settings: dict[str, Any]) -> str:
    return "heavy-tailed" if settings.get("heavy") else "light"


WIDTH = {"width": setting("width")}
TOKENS = {"tokens": setting("n_tokens")}
SPEED = "tokens_per_second"
PEAK = "above_loaded_mib"
DISK = "bytes_per_activation"

TABLES: dict[str, Table] = {
    "caching": Table(
        {**WIDTH, "activation": setting("activation"), "firing": firing, **TOKENS},
        (
            Column("ours, tokens/s", figure("ours", SPEED)),
            Column("bare limit", figure("bare", SPEED)),
            Column("peer", figure("peer", SPEED)),
            Column("ours / one product, time", over_one_product, ".2f"),
            Column("ours / bare, time", quotient("seconds", "ours", "bare"), ".2f"),
            Column("ours / peer, speed", quotient(SPEED, "ours", "peer"), ".1f"),
            Column("ours, MiB", figure("ours", PEAK)),
            Column("peer, MiB", figure("peer", PEAK)),
            Column("ours, bytes per activation", figure("ours", DISK), ".2f"),
            Column("peer", figure("peer", DISK), ".2f"),
        ),
    ),
    "growth": Table(
        {**WIDTH, **TOKENS},
        (
            Column("ours, MiB", figure("ours", PEAK)),
            Column("peer, MiB", figure("peer", PEAK)),
            Column("ours, tokens/s", figure("ours", SPEED)),
            Column("peer", figure("peer", SPEED)),
            Column("ours, bytes per activation", figure("ours", DISK), ".2f"),
            Column("peer", figure("peer", DISK), ".2f"),
        ),
    ),
    "early_stop": Table(
        {"d_model": setting("d_model"), "layers": setting("n_layers"), "read at": setting("layer"), **WIDTH},
        (
            Column("stopped, tokens/s", figure("ours", SPEED)),
            Column("all layers, tokens/s", figure(ALL_LAYERS, SPEED)),
            Column("ratio", lambda lines: ratio(figure("ours", SPEED)(lines), figure(ALL_LAYERS, SPEED)(lines)), ".2f"),
        ),
    ),
    "reading": Table(
        {**WIDTH, "firing": firing},
        (
            Column("activations", figure("ours", "n_activations")),
            Column("opening, ms", figure("ours", "open_seconds", 1e3), ".1f"),
            Column("median read, ms", figure("ours", "median_ms"), ".3f"),
            Column("95th percentile", figure("ours", "p95_ms"), ".3f"),
            Column("longest", figure("ours", "longest_ms"), ".3f"),
            Column("entries of the longest", figure("ours", "entries_of_longest")),
        ),
    ),
    "records": Table(
        {**WIDTH, "firing": firing, **TOKENS},
        (
            Column("ours, records/s", figure("ours", "records_per_second"), ",.1f"),
            Column("peer", figure("peer", "records_per_second"), ",.1f"),
            Column("ratio", quotient("records_per_second", "ours", "peer"), ".1f"),
            Column("ours, first after s", figure("ours", "first_record_seconds"), ".3f"),
            Column("peer", figure("peer", "first_record_seconds"), ".3f"),
            Column("ours, MiB", figure("ours", PEAK)),
            Column("peer, MiB", figure("peer", PEAK)),
            Column("ours, records", figure("ours", "records")),
            Column("peer", figure("peer", "records")),
            Column("ours, examples each", figure("ours", "examples_per_record"), ".1f"),
            Column("peer", figure("peer", "examples_per_record"), ".1f"),
        ),
    ),
    "neighbours": Table(
        {"kind": setting("kind"), **WIDTH, "features": setting("n_features")},
        (
            Column("ours, s", figure("ours", "seconds"), ".1f"),
            Column("peer, s", figure("peer", "seconds"), ".1f"),
            Column("ours, MiB", figure("ours", PEAK)),
            Column("peer, MiB", figure("peer", PEAK)),
        ),
    ),
    "llm_throughput": Table(
        {
            "latency, s": setting("latency_seconds"), "limit": setting("limit"), "features": setting("n_features"),
        },
        (
            Column("ours, requests", figure("ours", "requests")),
            Column("requests/s", figure("ours", "requests_per_second"), ",.1f"),
            Column("peer", figure("peer", "requests_per_second"), ",.1f"),
            Column("ours, in flight over limit", figure("ours", "steady_concurrency"), ".3f"),
            Column("ours, time over requests × latency / limit", figure("ours", "wall_over_ideal"), ".3f"),
            Column("ours, CPU ms per request", figure("ours", "cpu_ms_per_request"), ".2f"),
            Column("peer", figure("peer", "cpu_ms_per_request"), ".2f"),
            Column("ours, characters per feature", figure("ours", "characters_per_feature")),
            Column("peer", figure("peer", "characters_per_feature")),
        ),
    ),
    "gpu": Table(
        {"model": setting("model"), "activation": setting("activation"), **WIDTH, **TOKENS},
        (
            Column("ours, tokens/s", figure("ours", SPEED)),
            Column("bare limit", figure("bare", SPEED)),
            Column("ours / bare, time", quotient("seconds", "ours", "bare"), ".2f"),
            Column("ours, GPU MiB above loaded", figure("ours", "device_above_loaded_mib")),
            Column("bare", figure("bare", "device_above_loaded_mib")),
            Column("ours, host MiB", figure("ours", PEAK)),
            Column("ours, activations per token", figure("ours", "activations_per_token"), ".1f"),
        ),
    ),
}  # fmt: skip

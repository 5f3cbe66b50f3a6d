"""What the figures must show, each as a target and how it is computed from the measurements: the worst case counts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.lines import ALL_LAYERS, Line, chosen, median_of, ratio

MILLION = 1_000_000
MIB_PER_GIB = 1024


@dataclass(frozen=True, slots=True)
class Claim:
    """A figure with a bound; `value` gives None where something that it needs was not measured."""

    text: str
    bound: Literal["at most", "at least"]
    target: float
    unit: str
    value: Callable[[Sequence[Line]], float | None]

    def holds(self, value: float) -> bool:
        return value <= self.target if self.bound == "at most" else value >= self.target


def over_bare(lines: Sequence[Line], width: int, figure: str = "seconds") -> float | None:
    """Seconds of ours over those of the bare limit; the larger of light and heavy-tailed firing."""
    found = [
        ratio(_figure(lines, "caching", "ours", "seconds", **case), _figure(lines, "caching", "bare", figure, **case))
        for case in _firings(width)
    ]
    return _worst(found, max)


def over_peer(lines: Sequence[Line], width: int) -> float | None:
    """Tokens per second of ours over those of the peer; the smaller of light and heavy-tailed firing."""
    figure = "tokens_per_second"
    found = [
        ratio(_figure(lines, "caching", "ours", figure, **case), _figure(lines, "caching", "peer", figure, **case))
        for case in _firings(width)
    ]
    return _worst(found, min)


def early_stop(lines: Sequence[Line]) -> float | None:
    all_layers = median_of(chosen(lines, "early_stop", ALL_LAYERS), "seconds")
    return ratio(all_layers, median_of(chosen(lines, "early_stop", "ours"), "seconds"))


def most_memory(lines: Sequence[Line]) -> float | None:
    """Of all cases of caching, at any width and length: the largest median."""
    figure = "above_loaded_mib"
    found = [
        _figure(lines, benchmark, "ours", figure, **settings)
        for benchmark in ("caching", "growth")
        for settings in _cases(lines, benchmark)
    ]
    return _worst(found, max)


def memory_growth(lines: Sequence[Line]) -> float | None:
    """Peak at 4 M tokens over that at 1 M."""
    figure = "above_loaded_mib"
    million, four = (_figure(lines, "growth", "ours", figure, n_tokens=n << 20) for n in (1, 4))
    return ratio(four, million)


def disk(lines: Sequence[Line]) -> float | None:
    """Bytes per activation with everything that is written, of runs over a million tokens and more."""
    cases = [case for case in _cases(lines, "growth") if case["n_tokens"] >= MILLION]
    return _worst([_figure(lines, "growth", "ours", "bytes_per_activation", **case) for case in cases], max)


def reading(lines: Sequence[Line]) -> float | None:
    return _worst([_figure(lines, "reading", "ours", "longest_ms", **case) for case in _cases(lines, "reading")], max)


def records(lines: Sequence[Line]) -> float | None:
    """Records per second of ours over those of the peer; the smaller of light and heavy-tailed firing."""
    figure = "records_per_second"
    found = [
        ratio(_figure(lines, "records", "ours", figure, **case), _figure(lines, "records", "peer", figure, **case))
        for case in _cases(lines, "records")
    ]
    return _worst(found, min)


def first_record(lines: Sequence[Line]) -> float | None:
    figure = "first_record_seconds"
    return _worst([_figure(lines, "records", "ours", figure, **case) for case in _cases(lines, "records")], max)


def neighbour_memory(lines: Sequence[Line], kind: str, width: int) -> float | None:
    """Of the whole process, in GiB: what was loaded is part of it."""
    found = chosen(lines, "neighbours", "ours", kind=kind, width=width)
    loaded, above = (median_of(found, name) for name in ("loaded_mib", "above_loaded_mib"))
    return None if loaded is None or above is None else (loaded + above) / MIB_PER_GIB


def asked(lines: Sequence[Line], figure: str) -> float | None:
    """Of ours at 250 ms and a limit of 100."""
    return _figure(lines, "llm_throughput", "ours", figure, latency_seconds=0.25, limit=100)


def requests_over_peer(lines: Sequence[Line]) -> float | None:
    """Requests per second of ours at a limit of 100 over those of the peer at its best one, at 50 ms."""
    figure, compared = "requests_per_second", {"latency_seconds": 0.05}
    limits = {line.settings["limit"] for line in chosen(lines, "llm_throughput", "peer", **compared)}
    found = [_figure(lines, "llm_throughput", "peer", figure, limit=limit, **compared) for limit in limits]
    return ratio(_figure(lines, "llm_throughput", "ours", figure, limit=100, **compared), _worst(found, max))


def _width_claims(width: int) -> list[Claim]:
    return [
        Claim(
            f"caching time over the bare limit with one product per batch, width {width}",
            "at most",
            1.2,
            "×",
            lambda lines: over_bare(lines, width, "one_product_seconds"),
        ),
        Claim(
            f"caching time over the bare limit with the fastest of 17 ways to multiply, width {width}",
            "at most",
            1.2,
            "×",
            lambda lines: over_bare(lines, width),
        ),
        Claim(
            f"caching speed over the peer's, width {width}", "at least", 6, "×", lambda lines: over_peer(lines, width)
        ),
    ]


CLAIMS: tuple[Claim, ...] = (
    *_width_claims(32768),
    *_width_claims(131072),
    Claim("layer 1 of 6: speed over computing all layers", "at least", 2.5, "×", early_stop),
    Claim("peak memory of caching above model and autoencoder, any width", "at most", 700, "MiB", most_memory),
    Claim("peak memory at 4 M tokens over that at 1 M", "at most", 1.05, "×", memory_growth),
    Claim("disk per activation, everything included", "at most", 6.5, "bytes", disk),
    Claim("any one feature of 100 M activations, longest of 1000 reads", "at most", 5, "ms", reading),
    Claim("records per second over the peer's", "at least", 30, "×", records),
    Claim("first record after opening", "at most", 0.2, "s", first_record),
    Claim("top-50 decoder cosine over 131072 × 128, whole process", "at most", 3, "GiB",
          lambda lines: neighbour_memory(lines, "decoder", 131072)),
    Claim("requests in flight over the limit of 100, 250 ms per answer", "at least", 0.9, "",
          lambda lines: asked(lines, "steady_concurrency")),
    Claim("time of 200 features over requests × latency / limit", "at most", 1.15, "×",
          lambda lines: asked(lines, "wall_over_ideal")),
    Claim("processor time per request, records, prompts, parsing and storing included", "at most", 2, "ms",
          lambda lines: asked(lines, "cpu_ms_per_request")),
    Claim("requests per second over the peer's at its best setting, 50 ms", "at least", 5, "×", requests_over_peer),
    Claim("co-occurrence of 1000 features of 32768, whole process", "at most", 2, "GiB",
          lambda lines: neighbour_memory(lines, "jaccard", 32768)),
)  # fmt: skip


def _firings(width: int) -> list[dict[str, Any]]:
    return [{"width": width, "activation": "topk", "heavy": heavy} for heavy in (False, True)]


def _cases(lines: Sequence[Line], benchmark: str) -> list[dict[str, Any]]:
    """The different settings that ours was measured with."""
    found = chosen(lines, benchmark, "ours")
    return [line.settings for i, line in enumerate(found) if line.settings not in [f.settings for f in found[:i]]]


def _figure(lines: Sequence[Line], benchmark: str, who: str, name: str, **settings: Any) -> float | None:
    return median_of(chosen(lines, benchmark, who, **settings), name)


def _worst(values: Iterable[float | None], choose: Callable[[list[float]], float]) -> float | None:
    """None unless every case was measured."""
    found = list(values)
    known = [value for value in found if value is not None]
    return choose(known) if known and len(known) == len(found) else None

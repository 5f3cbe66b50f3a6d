"""A run directory -> report/report.html, and beside it the same numbers for programs (`exports`).

The page needs neither network nor server. Up to `WHOLE_PAGE` features it is one file with the evidence of each in its
row; of more, the evidence is in pages of their own (report/features/), and the table links to them: a browser would
take long over a page of hundreds of megabytes.

The template escapes everything it prints (jinja2 autoescape is on throughout), no text of the run gets into the
script or the style sheet, and a content security policy forbids loading anything: a token may well be a script tag.
Pages are streamed, one feature at a time, so their size does not matter to memory.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import jinja2

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics.bootstrap import DEFAULT_RESAMPLES
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.report import display
from sae_auto_interp.report.pages.examples import Section, marked_text, sections
from sae_auto_interp.report.pages.exports import exported_files, replace_file
from sae_auto_interp.report.summary import summarise_store
from sae_auto_interp.report.summary.spending import HEADINGS, uncounted_note
from sae_auto_interp.report.summary.values import FeatureScore, FeatureSummary, RunSummary, VariantSummary
from sae_auto_interp.report.summary.variants import LEXICAL
from sae_auto_interp.report.tables.checks import sides
from sae_auto_interp.results import RESULTS_FILE, ResultStore

_TEMPLATE, _FEATURE_TEMPLATE = "report.html.j2", "feature_page.html.j2"
FIRST_ROWS = 200
"""Rows laid out at first; a button shows as many more, and without scripts all are there."""
WHOLE_PAGE = 300
"""Features at most whose evidence is on the report's own page: 20 to 50 KB each."""
_MAIN_FACTS = ("model", "autoencoders", "autoencoder", "data", "explainer_model", "scorer_model", "seed", "version")


@dataclass(frozen=True, slots=True)
class Card:
    """The variants of one explainer under one judge."""

    explainer: str
    judge: str
    is_primary: bool
    variants: tuple[VariantSummary, ...]


@dataclass(frozen=True, slots=True)
class ScoreGroup:
    """A feature's scores of one explainer under one judge."""

    explainer: str
    judge: str
    scores: tuple[FeatureScore, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One feature of the page, with the examples that the summary leaves in the results file."""

    rank: int
    key: str
    summary: FeatureSummary
    primary_scores: tuple[FeatureScore | None, ...]
    score_groups: tuple[ScoreGroup, ...]
    n_judged: int
    n_failed: int
    sections: tuple[Section, ...]


def write_report(
    run_dir: Path,
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DEFAULT_RESAMPLES,
    *,
    whole_page: int = WHOLE_PAGE,
    summary: RunSummary | None = None,
    out: Path | None = None,
) -> Path:
    """Write a folder from the run's results, `out` or `run_dir/report`; return the path of its page, report.html.

    Existing files are each replaced whole, or not at all; the page comes last. `summary` is that of this run, where it
    was made already. A run of more than `whole_page` features gets a page for each. Raises `InputError` where the
    folder cannot be written to, `CacheError` for damaged results.
    """
    folder = run_dir / "report" if out is None else out
    try:
        return _write_report(run_dir, folder, level, n_resamples, whole_page, summary)
    except OSError as error:
        raise InputError(
            f"the report cannot be written to {folder} ({error.strerror or error}); give another folder with --out"
        ) from error


def _write_report(
    run_dir: Path, folder: Path, level: float, n_resamples: int, whole_page: int, summary: RunSummary | None
) -> Path:
    with ResultStore.open(run_dir / RESULTS_FILE, read_only=True, verify=summary is None) as store:
        found = summary or summarise_store(store, level, n_resamples)
        environment = _environment()
        is_whole = len(found.features) <= whole_page
        if not is_whole:
            _write_feature_pages(folder / "features", environment, found, store)
        for name, pieces in exported_files(found):
            replace_file(folder / name, pieces)
        rows = _rows(found, store if is_whole else None)
        context = _context(found) | {"rows": rows, "is_whole": is_whole}
        replace_file(folder / "report.html", environment.get_template(_TEMPLATE).generate(**context))
    return folder / "report.html"


def _write_feature_pages(
    folder: Path, environment: jinja2.Environment, summary: RunSummary, store: ResultStore
) -> None:
    template = environment.get_template(_FEATURE_TEMPLATE)
    for row in _rows(summary, store):
        context = {"row": row, "feature": row.summary, "stats": row.summary.stats}
        replace_file(folder / f"{row.key}.html", template.generate(**context))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sae_auto_interp.report.pages", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "visible": display.visible,
        "number": display.number,
        "interval": display.interval,
        "with_interval": display.with_interval,
        "significant": display.significant,
        "percent": display.percent,
        "shorten": display.shorten,
        "share": display.share,
        "share_interval": display.share_interval,
        "behind": display.behind,
        "token": marked_text,
    }
    for name, function in filters.items():
        environment.filters[name] = function
    return environment


def _context(summary: RunSummary) -> dict[str, object]:
    facts, more_facts = _facts(summary.info)
    return {
        "spending_headings": HEADINGS,
        "uncounted_note": uncounted_note(summary.spending),
        "summary": summary,
        "facts": facts,
        "more_facts": more_facts,
        "cards": _cards(summary),
        "modules": sorted({feature.feature.module_path for feature in summary.features}),
        "n_explained": _n_explained(summary),
        "first_rows": FIRST_ROWS,
        "sides": sides,
        "scorers": summary.primary_scorers,
        "has_nearest": any(each.name == "nearest" for row in summary.variants for each in row.baselines),
        "has_lexical": any(e.name == LEXICAL for e in summary.explainers),
    }


def _n_explained(summary: RunSummary) -> int:
    """Features that the primary explainer explained."""
    name = summary.primary.explainer if summary.primary else ""
    return sum(explainer.n_explanations for explainer in summary.explainers if explainer.name == name)


def _facts(info: Mapping[str, str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What the run recorded about itself: what everybody asks for, and the rest."""
    main = [(name.replace("_", " "), info[name]) for name in _MAIN_FACTS if name in info]
    rest = [(name.replace("_", " "), value) for name, value in info.items() if name not in _MAIN_FACTS]
    return main, rest


def _cards(summary: RunSummary) -> list[Card]:
    first = summary.primary
    pairs = list(dict.fromkeys((row.variant.explainer, row.variant.judge) for row in summary.variants))
    return [
        Card(
            explainer=explainer,
            judge=judge,
            is_primary=first is not None and (explainer, judge) == (first.explainer, first.judge),
            variants=tuple(
                row for row in summary.variants if (row.variant.explainer, row.variant.judge) == (explainer, judge)
            ),
        )
        for explainer, judge in pairs
    ]


def _rows(summary: RunSummary, store: ResultStore | None) -> Iterator[Row]:
    """The features in their order; without `store`, without examples."""
    for rank, feature in enumerate(summary.features, start=1):
        record = None if store is None else store.record(feature.feature)
        scores = summary.primary_scores(feature)
        yield Row(
            rank=rank,
            key=f"f-{feature.feature.file_key}",
            summary=feature,
            primary_scores=scores,
            score_groups=_score_groups(feature),
            n_judged=sum(score.balanced_accuracy.n for score in scores if score is not None),
            n_failed=sum(score.balanced_accuracy.n_failed for score in scores if score is not None),
            sections=() if record is None else sections(record),
        )


def _score_groups(feature: FeatureSummary) -> tuple[ScoreGroup, ...]:
    """Scores come in reading order, so those of one explainer and judge are neighbours."""
    groups = groupby(feature.scores, key=lambda score: (score.variant.explainer, score.variant.judge))
    return tuple(ScoreGroup(explainer, judge, tuple(scores)) for (explainer, judge), scores in groups)

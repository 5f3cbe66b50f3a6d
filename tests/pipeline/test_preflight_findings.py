"""What is said of figures: which limits refuse, which cause is named, and when none is."""

from dataclasses import replace

import pytest

from sae_auto_interp.preflight.findings import BaseModel, findings_of, unexplained
from sae_auto_interp.types.fit import Alternative, AlternativeKind, FitClaims, FitFigures

HERE = BaseModel(None, "my/model")

GOOD = FitFigures(
    n_tokens=500, n_unusable_tokens=0, width=100, l0=10.0, fvu=0.2, cosine=0.9, norm_ratio=0.9, dead_fraction=0.1,
    dense_fraction=0.0, mean_norm=5.0, median_norm=5.0, max_norm=9.0, first_norm_ratio=1.0,
)  # fmt: skip
SILENT = FitClaims(model=None, l0=None, hook=None, ctx_len=None, k=None)


def other(kind: AlternativeKind = "place", **figures: float) -> Alternative:
    return Alternative(kind, "at h.2:out", "give it site: h.2:out", replace(GOOD, **figures))


def said(
    figures: FitFigures = GOOD,
    claims: FitClaims = SILENT,
    chance: float | None = 0.9,
    alternatives: tuple[Alternative, ...] = (),
    allowed: tuple[str, ...] = (),
) -> list[tuple[str, str]]:
    found = findings_of(figures, claims, chance, figures, alternatives, HERE, allowed)
    return [(finding.code, finding.severity) for finding in found]


def test_a_good_fit_has_no_findings() -> None:
    assert said() == []
    assert said(alternatives=(other(fvu=0.19),)) == []


@pytest.mark.parametrize(("fvu", "chance", "codes"), [(1.01, 0.9, ["fvu"]), (0.85, 0.9, ["chance"]), (0.85, None, [])])
def test_a_fit_worse_than_the_mean_or_no_better_than_chance(fvu: float, chance: float | None, codes: list[str]) -> None:
    assert said(replace(GOOD, fvu=fvu), chance=chance) == [(code, "refused") for code in codes]


@pytest.mark.parametrize(
    ("l0", "claimed", "k", "is_refused"),
    [
        (10.0, 29.0, None, False), (10.0, 31.0, None, True), (10.0, 3.4, None, False), (10.0, 3.2, None, True),
        (10.0, None, 29, False), (10.0, None, 31, True), (10.0, 12.0, 64, False),
    ],
)  # fmt: skip
def test_l0_against_what_is_claimed(l0: float, claimed: float | None, k: int | None, is_refused: bool) -> None:
    found = said(replace(GOOD, l0=l0), replace(SILENT, l0=claimed, k=k))
    assert found == ([("l0", "refused")] if is_refused else [])


def test_a_much_better_place_is_refused_and_a_little_better_one_said() -> None:
    assert said(alternatives=(other(fvu=0.1),)) == [("site", "refused")]
    assert said(alternatives=(other("reading", fvu=0.1),)) == [("reading", "refused")]
    assert said(alternatives=(other(fvu=0.17),)) == [("fit", "warning")]


def test_a_lower_fvu_alone_does_not_convince() -> None:
    """A few enormous vectors may decide it; nor does a place where the claimed number of features does not fire."""
    assert said(alternatives=(other(fvu=0.05, cosine=0.5),)) == []
    claims = replace(SILENT, l0=10.0)
    assert said(claims=claims, alternatives=(other(fvu=0.05, l0=90.0),)) == []
    assert said(claims=claims, alternatives=(other(fvu=0.05, l0=90.0), other(fvu=0.1))) == [("site", "refused")]


def test_the_first_tokens_are_a_cause_and_no_mistake() -> None:
    first = other("rows", fvu=0.1)
    assert said(alternatives=(first,)) == [("fit", "warning")]
    found = findings_of(replace(GOOD, fvu=3.0), SILENT, 4.0, replace(GOOD, fvu=3.0), (first,), HERE, ())
    assert [finding.code for finding in found] == ["fvu"]
    assert "it fits better at h.2:out" in found[0].message


def test_where_nothing_explains_it_the_message_says_so_with_the_best() -> None:
    bad = replace(GOOD, fvu=1.5)
    (found,) = findings_of(bad, SILENT, 1.6, bad, (other(fvu=1.2), other(fvu=1.4)), HERE, ())
    assert "none of 2 other places and readings that were tried explains it" in found.message
    assert "FVU 1.2, here 1.5" in found.message
    assert "likely causes, the likeliest first: (1) it was trained on another model than my/model" in found.message


@pytest.mark.parametrize(
    ("base", "first", "second"),
    [
        (BaseModel(None, "my/model"), "another model than my/model (its files name none)", "another checkpoint"),
        (BaseModel("their/model", "my/model"), "(its files name their/model, and this is my/model)", "checkpoint"),
        (BaseModel("gpt2", "gpt2", True), "another checkpoint of this model", "were not all loaded"),
    ],
)
def test_what_names_say_decides_the_order_of_the_causes(base: BaseModel, first: str, second: str) -> None:
    bad = replace(GOOD, fvu=1.5)
    message = unexplained(bad, (other(fvu=1.2),), base)
    assert 0 < message.index("(1) ") < message.index(first) < message.index("(2) ") < message.index(second, 200)


def test_what_the_reconstructions_are_like_is_said() -> None:
    bad = replace(GOOD, fvu=300.0, cosine=0.01, norm_ratio=16.8)
    assert "have 16.8 times the norm of these activations, which are of another scale" in unexplained(bad, (), HERE)
    assert "point elsewhere (mean cosine 0.01)" in unexplained(replace(bad, norm_ratio=0.8), (), HERE)
    assert "reconstructions" not in unexplained(replace(bad, norm_ratio=None), (), HERE)


def test_what_is_allowed_stays_to_be_seen() -> None:
    assert said(replace(GOOD, fvu=1.5), allowed=("fvu",)) == [("fvu", "allowed")]
    unusable = replace(GOOD, n_unusable_tokens=3)
    assert said(unusable) == [("numbers", "refused")]
    assert said(unusable, allowed=("numbers",)) == [("numbers", "allowed")]


@pytest.mark.parametrize(
    ("own", "cosine", "elsewhere", "codes"),
    [
        (0.004, 0.998, 0.0011, []), (0.002, 0.999, 0.0001, []), (0.02, 0.99, 0.001, []),
        (0.021, 0.99, 0.001, ["site"]), (0.36, 0.9, 0.08, ["site"]), (0.8, 0.5, 0.96, []), (0.8, 0.5, 0.08, ["site"]),
        (0.01, 0.5, 0.001, ["site"]),  # a few enormous vectors make the FVU small, and the others point elsewhere
    ],
)  # fmt: skip
def test_below_a_floor_a_ratio_says_nothing(own: float, cosine: float, elsewhere: float, codes: list[str]) -> None:
    """A coder that was trained on two places fits at both."""
    figures = replace(GOOD, fvu=own, cosine=cosine)
    found = findings_of(figures, SILENT, 0.9, figures, (other(fvu=elsewhere, cosine=0.9994),), HERE, ())
    assert [finding.code for finding in found if finding.severity == "refused"] == codes


def test_a_small_misfit_still_names_the_cause_of_a_wrong_l0() -> None:
    figures = replace(GOOD, fvu=0.004, cosine=0.998, l0=90.0)
    found = findings_of(
        figures, replace(SILENT, l0=10.0), 0.9, figures, (other(fvu=0.001, cosine=0.9994, l0=10.0),), HERE, ()
    )
    assert [finding.code for finding in found] == ["l0", "site"]

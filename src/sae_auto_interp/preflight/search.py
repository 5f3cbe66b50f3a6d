"""Read a coder at other places and in other ways, and see what fits best."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.models.sites.site import Site
from sae_auto_interp.preflight.measure import FitMeter, Wiring
from sae_auto_interp.preflight.other_readings import changes_of
from sae_auto_interp.preflight.other_sites import other_placements
from sae_auto_interp.types import NO_DOCUMENT
from sae_auto_interp.types.fit import Alternative, AlternativeKind, FitFigures

AS_GOOD = 1.05
"""Times the lowest FVU: below it two fits are taken for equal."""

_Tried = tuple[AlternativeKind, str, str, Wiring]


def search(model: Any, meter: FitMeter, wiring: Wiring) -> tuple[FitFigures, list[Alternative]]:
    """The figures of `wiring` on the meter's rows, and those of everything else that was tried there, best first (see
    `ranked`)."""
    present = meter.measure({"present": wiring})["present"]
    tried = _readings(wiring, present) + _places(model, meter, wiring)
    figures = meter.measure({str(i): other for i, (_, _, _, other) in enumerate(tried)})
    found = [Alternative(kind, what, remedy, figures[str(i)]) for i, (kind, what, remedy, _) in enumerate(tried)]
    found += _without_first_positions(meter, wiring)
    return present, ranked(found)


def ranked(tried: Sequence[Alternative]) -> list[Alternative]:
    """By FVU, but those as good as the best in the order in which they were tried: the simplest comes first. A coder
    that normalises its input, for one, fits behind a norm as well as before it. What has no FVU comes last."""
    by_fvu = sorted(tried, key=lambda each: float("inf") if each.figures.fvu is None else each.figures.fvu)
    best = by_fvu[0].figures.fvu if by_fvu else None
    if best is None:
        return by_fvu
    as_good = [each for each in tried if each.figures.fvu is not None and each.figures.fvu <= AS_GOOD * best]
    return as_good + by_fvu[len(as_good) :]


def misfit(wiring: Wiring, widths: dict[Site, int]) -> str | None:
    """Why a wiring cannot be measured; None when it can."""
    place, coder = wiring.placement, wiring.coder
    missing = [site for site in (*place.sites, place.reconstructed) if site not in widths]
    if missing:
        return f"the model does not run {missing[0]}, or it gives no vector per token"
    d_in = sum(widths[site] for site in place.sites)
    if d_in != coder.d_in:
        return f"it reads {coder.d_in} dimensions, but {' and '.join(map(str, place.sites))} gives {d_in}"
    d_target = d_in if place.target is None else widths[place.target]
    if coder.settings.reconstructs and (d_out := _d_out(coder)) != d_target:
        return f"it writes {d_out} dimensions, but {place.reconstructed}, which it reconstructs, has {d_target}"
    return None


def _d_out(coder: Coder) -> int:
    """Dimensions that a coder writes."""
    return coder.reconstruct(torch.zeros(1, coder.d_in, device=coder.device)).shape[1]


def reversed_wirings(wirings: Mapping[str, Wiring]) -> dict[str, Wiring]:
    """Return wirings with the activations' dimensions in reverse order: what chance would reach."""
    return {
        name: replace(wiring, is_reversed=True)
        for name, wiring in wirings.items()
        if wiring.placement.target is None and wiring.coder.settings.reconstructs
    }


def _places(model: Any, meter: FitMeter, wiring: Wiring) -> list[_Tried]:
    """Those of the dimensions that the present place has."""
    places = other_placements(model, wiring.placement)
    own = wiring.coder.own_placement
    if own is not None and own != wiring.placement and len(own.sites) == 1:
        places = {own: places.get(own, f"at its own place, {own.sites[0]}")} | places
    others = {Wiring(wiring.coder, placement): what for placement, what in places.items()}
    widths = meter.widths([wiring, *others])
    d_out = widths[wiring.placement.reconstructed]
    return [
        ("place", what, _how_to_move(other), other)
        for other, what in others.items()
        if all(site in widths for site in (*other.placement.sites, other.placement.reconstructed))
        and misfit(other, widths) is None
        and widths[other.placement.reconstructed] == d_out
    ]


def _how_to_move(wiring: Wiring) -> str:
    place = wiring.placement
    (site,) = place.sites
    if wiring.coder.own_placement == place:
        return "delete the line site: ... from the run file, its own place fits"
    if place.target is not None:
        return f"give it site: {site} and target: {place.target} in the run file, or attach it there"
    return f"give it site: {site} in the run file, or attach it there"


def _readings(wiring: Wiring, present: FitFigures) -> list[_Tried]:
    """Scaling is tried for autoencoders only: a transcoder's output has a scale of its own."""
    mean_norm = present.mean_norm if wiring.placement.target is None else None
    changes = changes_of(wiring.coder, mean_norm)
    return [("reading", change.what, change.remedy, replace(wiring, coder=change.coder)) for change in changes]


def _without_first_positions(meter: FitMeter, wiring: Wiring) -> list[Alternative]:
    """Where rows begin with text and not with BOS: their first tokens have activations of their own."""
    documents = meter.rows.documents.copy()
    if (documents[:, 0] == NO_DOCUMENT).all():
        return []
    documents[:, 0] = NO_DOCUMENT
    rows = replace(meter.rows, documents=documents)
    if not rows.n_text_tokens:
        return []
    figures = replace(meter, rows=rows).measure({"rest": wiring})["rest"]
    return [Alternative("rows", "without the first token of each row", "set data.prepend_bos: true", figures)]

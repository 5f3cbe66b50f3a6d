"""From the coders that files describe to coders at their places: as the files say, or as whoever loads says.

With `site` a coder's own place is only asked for what is done to the vectors there, and for what a transcoder
reconstructs. That the model has no such place is then a warning.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.autoencoders.options import CoderOptions
from sae_auto_interp.autoencoders.settings import HAS_K
from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.sites.hook_names import with_epsilon
from sae_auto_interp.models.sites.site import Placement, Site
from sae_auto_interp.models.sites.site_names import resolve_site

logger = logging.getLogger(__name__)
NOTHING = " (none)"
"""Behind a site: nothing is done to the vectors there."""

Placed = list[tuple[Placement, Coder]]
Writes = Literal["what it reads", "its module's output", "elsewhere"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A coder that files describe, neither placed nor read yet."""

    name: str
    """Among those of its directory."""
    own: Callable[[], Placement]
    """Where its files say that it belongs; raises `InputError` where the model has no such place, or they say none."""
    read: Callable[[], Coder]
    writes: Writes = "what it reads"
    """What it reconstructs; elsewhere: its own place says."""
    settle: Callable[[Coder, Site], Coder] | None = None
    """Makes a value of the model at its place part of the weights, which then fit no other place."""


def placed_coders(
    model: Any, listed: Sequence[Listed], family: str, chosen: Sequence[str] | None, options: CoderOptions | None = None
) -> Placed:
    """The coders with where they belong. Several for one place are taken only where each was `chosen` by name."""
    options = options or CoderOptions()
    if options.site is not None:
        return [_moved(model, _only(listed, options), options)]
    if options.target is not None:
        _only(listed, options)
    places = [_own_place(model, each, options) for each in listed]
    if chosen is None or len(listed) > len(chosen):
        _check_one_per_place(places, listed, family)
    return [
        (place, _adjusted(_settled(each, place), place, options)) for each, place in zip(listed, places, strict=True)
    ]


def _only(listed: Sequence[Listed], options: CoderOptions) -> Listed:
    if len(listed) != 1:
        name = "site" if options.site is not None else "target"
        found = ", ".join(each.name for each in listed)
        raise InputError(
            f"{options.where}.{name}={getattr(options, name)!r} is for one autoencoder, but there are {found}; choose "
            "by module_paths"
        )
    return listed[0]


def _own_place(model: Any, listed: Listed, options: CoderOptions) -> Placement:
    place = listed.own()
    return place if options.target is None else replace(place, target=resolve_site(model, options.target))


def _check_one_per_place(places: Sequence[Placement], listed: Sequence[Listed], family: str) -> None:
    names: dict[Placement, str] = {}
    for place, each in zip(places, listed, strict=True):
        if place in names:
            raise InputError(
                f"{family} coders: {names[place]} and {each.name} are both for {place.home}; choose one by its "
                "name, or several (module_paths)"
            )
        names[place] = each.name


def _settled(listed: Listed, place: Placement) -> Coder:
    coder = listed.read()
    return coder if listed.settle is None else listed.settle(coder, place.sites[0])


def _moved(model: Any, listed: Listed, options: CoderOptions) -> tuple[Placement, Coder]:
    """The coder, reading at `site`; what a transcoder reconstructs stays.

    A bare module path means the side that the coder would be attached to (of transcoders: what the module reads). What
    is done to the vectors stays as well, unless the name says it: ` (none)` behind it for nothing.
    """
    assert options.site is not None
    if not isinstance(options.site, str):
        raise InputError(f"{options.where}.site: {listed.name} reads one place; name one, not {len(options.site)}")
    site = options.site
    own = _found_place(listed, options)
    coder = listed.read()
    if (isinstance(coder, SparseCoder) and coder.holds_value_bias) or (listed.settle is not None and own is not None):
        home = listed.name if own is None else own.home
        raise InputError(
            f"{options.where}.site: the value bias of {home} is part of the weights of {coder.settings.source}, so it "
            f"cannot read at site={site!r}; load it where its files say"
        )
    is_transcoder = listed.writes != "what it reads" or (own is not None and own.target is not None)
    there = resolve_site(model, site.removesuffix(NOTHING), "input" if is_transcoder else coder.settings.side)
    if own is not None and there.transform == "none" and not site.endswith(NOTHING):
        there = with_epsilon(model, replace(there, transform=own.sites[-1].transform, epsilon=0.0))
    place = Placement((there,), _target(model, listed, own, there, options))
    if listed.settle is not None:
        coder = listed.settle(coder, there)
    coder.own_placement = own
    if is_transcoder and place.target is None:
        coder.settings = replace(coder.settings, reconstructs=False)
        logger.warning(
            "%s: what this transcoder reconstructs is not known in this model, so its fit is not measured; "
            "give %s.target",
            coder.settings.source, options.where,
        )  # fmt: skip
    return place, _adjusted(coder, place, options)


def _found_place(listed: Listed, options: CoderOptions) -> Placement | None:
    try:
        return listed.own()
    except InputError as error:
        logger.warning(
            "%s: its own place is not found (%s); it reads at site=%s, as that is written", listed.name, error,
            options.site,
        )  # fmt: skip
        return None


def _target(model: Any, listed: Listed, own: Placement | None, there: Site, options: CoderOptions) -> Site | None:
    if options.target is not None:
        return resolve_site(model, options.target)
    if own is not None:
        return own.target
    return Site(there.module_path) if listed.writes == "its module's output" else None


def _adjusted(coder: Coder, place: Placement, options: CoderOptions) -> Coder:
    """With the `k` and the normalisation that were given."""
    settings = coder.settings
    if options.k is not None and options.k != settings.k:
        if settings.activation not in HAS_K:
            raise WeightsError(
                f"{options.where}.k: {settings.source} has the activation {settings.activation}, which keeps no fixed "
                "number of entries; delete k"
            )
        if not 1 <= options.k <= coder.width:
            raise WeightsError(f"{options.where}.k: {options.k} does not fit a width of {coder.width}")
        is_claim = settings.claims.l0 == settings.k
        claims = replace(settings.claims, l0=float(options.k)) if is_claim else settings.claims
        settings = replace(settings, k=options.k, claims=claims)
    if options.normalisation is not None and options.normalisation != settings.normalisation:
        if place.target is not None:
            raise WeightsError(
                f"{options.where}.normalisation: {settings.source} is a transcoder, whose output cannot be scaled back "
                "by its input; delete normalisation"
            )
        settings = replace(settings, normalisation=options.normalisation)
    coder.settings = settings
    return coder

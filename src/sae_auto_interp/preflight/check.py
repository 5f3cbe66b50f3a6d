"""The preflight: do the autoencoders fit the model where they are attached, and if not, what would?

Each is measured on the first tokens of the run's rows and held against what its files claim. On fewer tokens it is then
read at other places of the model and in other ways (`autoencoders.fit_places`, `fit_changes`), also where nothing is
wrong: a top k in the wrong layer keeps its L0 and a tolerable FVU, and only the right one beside it gives it away.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from sae_auto_interp.config import PreflightConfig
from sae_auto_interp.errors import InputError, SaeAutoInterpError, WeightsError
from sae_auto_interp.preflight.findings import BaseModel, finding, findings_of
from sae_auto_interp.types import NO_DOCUMENT, TokenRows
from sae_auto_interp.types.fit import SIGNED, WEIGHTS, Finding, FitClaims, FitFigures, Preflight

SEARCH_TOKENS = 512
"""Text tokens on which other places and readings are tried."""
KEPT_ALTERNATIVES = 5


def check_attached(
    model: Any, attached: Mapping[str, Any], rows: TokenRows, options: PreflightConfig, backend: str = "hooks"
) -> tuple[Preflight, ...]:
    """Check every autoencoder of `attached`, {module path: submodule} as the loaders return it.

    `rows` may hold more tokens than `options.n_tokens`; the first are used. Nothing is changed, and nothing raised for
    what does not fit: that is in the findings.
    """
    from sae_auto_interp.autoencoders.attach import attached_coder, placement_of
    from sae_auto_interp.preflight.measure import Wiring
    from sae_auto_interp.preflight.search import misfit, reversed_wirings

    if rows.n_text_tokens == 0:
        raise InputError("preflight: the rows hold no text token")
    wirings = {path: Wiring(attached_coder(handle), placement_of(handle)) for path, handle in attached.items()}
    meter = _meter(model, backend, first_rows(rows, options.n_tokens))
    widths = meter.widths(wirings.values())
    reasons = {path: reason for path, wiring in wirings.items() if (reason := misfit(wiring, widths))}
    fitting = {path: wiring for path, wiring in wirings.items() if path not in reasons}
    mixed_up = {f"{path} reversed": wiring for path, wiring in reversed_wirings(fitting).items()}
    figures = meter.measure(fitting | mixed_up)
    searching = _meter(model, backend, first_rows(meter.rows, SEARCH_TOKENS))
    return tuple(
        _unmeasured(path, reasons[path])
        if path in reasons
        else _check(model, path, wiring, figures[path], figures.get(f"{path} reversed"), searching, options.allow)
        for path, wiring in wirings.items()
    )


def first_rows(rows: TokenRows, n_tokens: int) -> TokenRows:
    """The first rows that hold `n_tokens` text tokens together; all if there are fewer."""
    counts = (rows.documents != NO_DOCUMENT).sum(1).cumsum()
    n_rows = min(rows.n_rows, int(np.searchsorted(counts, n_tokens)) + 1)
    return TokenRows(rows.tokens[:n_rows], rows.documents[:n_rows], rows.document_names)


def unattached(path: str, error: WeightsError) -> Preflight:
    """The check of weights, at `path` on disk, that could not be attached at all."""
    return _unmeasured(path, str(error))


def _check(
    model: Any,
    path: str,
    wiring: Any,
    figures: FitFigures,
    mixed_up: FitFigures | None,
    searching: Any,
    allowed: Collection[str],
) -> Preflight:
    from sae_auto_interp.preflight.search import search

    settings, place = wiring.coder.settings, wiring.placement
    claims = FitClaims(
        settings.claims.model, settings.claims.l0, settings.claims.hook, settings.claims.ctx_len, settings.k
    )
    chance_fvu = mixed_up.fvu if mixed_up else None
    searched, alternatives = search(model, searching, wiring) if settings.reconstructs else (figures, [])
    return Preflight(
        module_path=path,
        autoencoder=f"{settings.family}: {settings.source}",
        reads=" and ".join(map(str, place.sites)),
        target=None if place.target is None else str(place.target),
        claims=claims,
        figures=figures,
        chance_fvu=chance_fvu,
        alternatives=tuple(alternatives[:KEPT_ALTERNATIVES]),
        findings=(
            *_model_findings(model, claims, allowed),
            *findings_of(figures, claims, chance_fvu, searched, alternatives, _base_model(model, claims), allowed),
            *_warnings(model, place, claims, searching.rows.ctx_len),
            *([Finding("signed", "warning", SIGNED)] if settings.is_signed else []),
        ),
    )


def _model_findings(model: Any, claims: FitClaims, allowed: Collection[str]) -> list[Finding]:
    """The base model that its files name against this one."""
    from sae_auto_interp.models.placement import torch_model
    from sae_auto_interp.models.sites.known_models import compare_with_claim

    mismatch = None if claims.model is None else compare_with_claim(claims.model, torch_model(model))
    if mismatch is None:
        return []
    if mismatch.certainty == "other_name":
        return [Finding("model", "warning", mismatch.message)]
    return [finding("model", mismatch.message, allowed)]


def _base_model(model: Any, claims: FitClaims) -> BaseModel:
    from sae_auto_interp.models.identity import model_name
    from sae_auto_interp.models.placement import torch_model
    from sae_auto_interp.models.sites.known_models import normalised_name

    here = model_name(torch_model(model))
    is_same = claims.model is not None and normalised_name(claims.model) == normalised_name(here)
    return BaseModel(claims.model, here, is_same)


def _warnings(model: Any, place: Any, claims: FitClaims, ctx_len: int) -> list[Finding]:
    """What its files say otherwise, and what may be meant so."""
    found: list[Finding] = []
    if claims.ctx_len is not None and ctx_len > claims.ctx_len:
        message = f"rows have {ctx_len} tokens, and it was trained on rows of {claims.ctx_len}"
        found.append(Finding("ctx_len", "warning", message))
    claimed = None if claims.hook is None else _module_of(model, claims.hook)
    if claimed is not None and claimed not in [site.module_path for site in place.sites]:
        message = f"its files say that it reads {claims.hook}, which is at {claimed}"
        found.append(Finding("hook", "warning", message))
    return found


def _module_of(model: Any, hook: str) -> str | None:
    """The module that a hook's name means; None for names that mean nothing here."""
    from sae_auto_interp.models.sites.site_names import resolve_site

    try:
        return resolve_site(model, hook).module_path
    except SaeAutoInterpError:
        return None


def _unmeasured(path: str, reason: str) -> Preflight:
    refusal = Finding(WEIGHTS, "refused", reason)
    return Preflight(path, path, "", None, None, None, None, (), (refusal,))


def _meter(model: Any, backend: str, rows: TokenRows) -> Any:
    from sae_auto_interp.features.token_input import attention_mask
    from sae_auto_interp.preflight.measure import FitMeter

    return FitMeter.of(model, backend, rows, attention_mask(rows.documents))

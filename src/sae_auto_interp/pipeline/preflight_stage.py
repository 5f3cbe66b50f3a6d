"""The preflight in a run: what was found is kept beside it, and a refusal ends it before caching.

`preflight.json` holds everything; the manifest says in short whether the autoencoders were checked and what was allowed
to pass. A run that goes on does not check again what it has found to fit.
"""

import json
from collections.abc import Sequence
from typing import Any

from sae_auto_interp.cache.layout import write_text
from sae_auto_interp.config import fingerprint
from sae_auto_interp.errors import PreflightError, RunDirectoryError
from sae_auto_interp.pipeline.resolved import Caching
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.preflight.check import check_attached
from sae_auto_interp.preflight.findings import short
from sae_auto_interp.protocols import Progress
from sae_auto_interp.types import TokenRows
from sae_auto_interp.types.fit import Preflight


def run_preflight(
    caching: Caching,
    directory: RunDirectory,
    model: Any,
    attached: dict[str, Any],
    rows: TokenRows,
    progress: Progress,
) -> None:
    """Check the run's autoencoders, unless that is done or switched off. Raises `PreflightError`."""
    options = caching.preflight
    if not options.enabled:
        directory.preflight.unlink(missing_ok=True)  # what an earlier one found is not this run's
        directory.record("preflight", {"checked": False})
        return
    settings = options.model_dump(mode="json")
    if _is_done(directory, settings):
        return
    progress.note(f"checking the autoencoders on {min(options.n_tokens, rows.n_text_tokens):,} tokens")
    found = check_attached(model, attached, rows, options, caching.cache.backend)
    for each in found:
        for line in (in_short(each), *remarks(each)):
            progress.note(line)
    kept = _as_kept(found, settings)
    kept["sha256"] = fingerprint(kept)
    write_text(directory.preflight, json.dumps(kept, indent=2) + "\n")
    raise_refused(found)
    directory.record("preflight", {"checked": True, "allowed": allowed_in(found)})


def _as_kept(found: Sequence[Preflight], settings: dict[str, Any]) -> dict[str, Any]:
    """What `preflight.json` holds."""
    return {
        "refused": any(each.refusals for each in found),
        "settings": settings,
        "summary": [line for each in found for line in (in_short(each), *_refused_in(each), *remarks(each))],
        "autoencoders": [each.as_json() for each in found],
    }


def stored_summary(directory: RunDirectory) -> str | None:
    """What was found, for the report; None of a run that was not checked. Raises `RunDirectoryError` for damage."""
    if not directory.preflight.is_file():
        return None
    try:
        return "; ".join(_read_kept(directory)["summary"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise RunDirectoryError(
            f"{directory.preflight} is damaged ({error}); delete it: the report then says nothing of the check"
        ) from error


def _read_kept(directory: RunDirectory) -> dict[str, Any]:
    """What is kept, as it was written; that of older runs has no checksum."""
    content: dict[str, Any] = json.loads(directory.preflight.read_text(encoding="utf-8"))
    checksum = content.pop("sha256", None)
    if checksum not in (None, fingerprint(content)):
        raise ValueError("its checksum is not that of its content")
    return content


def raise_refused(found: Sequence[Preflight]) -> None:
    """Raise `PreflightError` with a message for each autoencoder that is refused."""
    messages = [refusal(each) for each in found if each.refusals]
    if messages:
        raise PreflightError(messages)


def refusal(check: Preflight) -> str:
    """Why one autoencoder is refused, and how it could pass all the same."""
    reasons = ". ".join(f"[{each.code}] {each.message}" for each in check.refusals)
    codes = [each.code for each in check.refusals]
    names = " ".join(f"--allow {code}" for code in dict.fromkeys(codes))
    overridden = "" if "weights" in codes else f". To go on all the same: {names}"
    return f"{check.module_path} does not fit ({check.autoencoder}). {reasons}{overridden}"


def in_short(check: Preflight) -> str:
    """One line for a log or a page."""
    figures, claims = check.figures, check.claims
    if figures is None or claims is None:
        return f"{check.module_path}: could not be measured"
    claimed = "" if claims.l0 is None else f" (claimed {short(claims.l0)})"
    return f"{check.module_path}: FVU {short(figures.fvu)}, L0 {short(figures.l0)}{claimed}"


def remarks(check: Preflight) -> list[str]:
    """Warnings, and what was allowed to pass."""
    said = [each for each in check.findings if each.severity in ("warning", "allowed")]
    return [f"{check.module_path}: {each.severity} [{each.code}] {each.message}" for each in said]


def _refused_in(check: Preflight) -> list[str]:
    return [f"{check.module_path}: refused [{each.code}] {each.message}" for each in check.refusals]


def allowed_in(found: Sequence[Preflight]) -> dict[str, list[str]]:
    """{module path: names of what was allowed to pass}."""
    allowed = {each.module_path: [f.code for f in each.findings if f.severity == "allowed"] for each in found}
    return {path: codes for path, codes in allowed.items() if codes}


def _is_done(directory: RunDirectory, settings: dict[str, Any]) -> bool:
    try:
        content = _read_kept(directory)
        return content["refused"] is False and content["settings"] == settings
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False

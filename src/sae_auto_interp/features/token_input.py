"""What users hand over as tokens and as filters, in whichever form -> the library's own types, checked."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from sae_auto_interp.errors import InputError
from sae_auto_interp.module_names import resolve_module_name
from sae_auto_interp.types import NO_DOCUMENT, Array, CacheManifest, TokenRows


def token_rows(tokens: Any) -> TokenRows:
    """`TokenRows` as they are; a tensor, array or nested list [rows, ctx_len] of ids with each row as a document."""
    try:
        array = tokens.tokens if isinstance(tokens, TokenRows) else _as_array(tokens)
    except (TypeError, ValueError) as error:
        raise InputError(f"tokens: {error}; give token ids as [rows, ctx_len]") from error
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"tokens have shape {list(array.shape)}; give at least one row as [rows, ctx_len]")
    if array.dtype.kind not in "iu":
        raise InputError(f"tokens are of type {array.dtype}; give token ids, which are whole numbers")
    if isinstance(tokens, TokenRows):
        return tokens
    try:
        return TokenRows.from_ids(array)
    except ValueError as error:
        raise InputError(f"tokens: {error}") from error


def budgeted(rows: TokenRows, n_tokens: int | None) -> TokenRows:
    """The first n_tokens // ctx_len rows; all of them for None."""
    if n_tokens is None or n_tokens >= rows.tokens.size:
        return rows
    if n_tokens < rows.ctx_len:
        raise InputError(f"n_tokens={n_tokens} is less than one row of {rows.ctx_len} tokens")
    return _first_rows(rows, n_tokens // rows.ctx_len)


def cached_rows(rows: TokenRows, manifests: Mapping[str, CacheManifest]) -> TokenRows:
    """The rows that were cached: the first of those given, when `n_tokens` left some out.

    Raises `InputError` when they cannot be those of the cache, or when not all modules were cached over the same rows.
    """
    shapes = {(manifest.n_rows, manifest.ctx_len): path for path, manifest in manifests.items()}
    if len(shapes) > 1:
        listed = ", ".join(f"{path}: {n_rows} rows of {ctx_len}" for (n_rows, ctx_len), path in shapes.items())
        raise InputError(f"the modules were cached over different tokens ({listed}); keep them in separate directories")
    for n_rows, ctx_len in shapes:
        if rows.ctx_len != ctx_len or rows.n_rows < n_rows:
            found = f"{rows.n_rows} rows of {rows.ctx_len}"
            raise InputError(f"the cache has {n_rows} rows of {ctx_len} tokens, not {found}; pass the tokens it is of")

        rows = _first_rows(rows, n_rows)
    return rows


def either_order(positional: Sequence[Any], n_tokens: Any, tokens: Any) -> tuple[int | None, Any]:
    """`n_tokens` and `tokens` from arguments given by name or, in either order, by position."""
    for value in positional:
        is_count = isinstance(value, Integral)
        if is_count and n_tokens is None:
            n_tokens = value
        elif tokens is None and not is_count:
            tokens = value
        else:
            message = f"FeatureCache.run takes n_tokens and tokens once each; a second {type(value).__name__} was given"
            raise InputError(message)
    if tokens is None:
        raise InputError("FeatureCache.run: no tokens given; pass tokens=[rows, ctx_len]")
    if n_tokens is not None and not isinstance(n_tokens, Integral):
        raise InputError(f"n_tokens={n_tokens!r}; give a whole number")
    return None if n_tokens is None else int(n_tokens), tokens


def kept_features(widths: Mapping[str, int], filters: Mapping[str, Any]) -> dict[str, Int64[Array, " kept"]]:
    """Sorted indices of the features to keep, of each module that `filters` names."""
    kept: dict[str, Array] = {}
    for name, features in filters.items():
        path = resolve_module_name(name, widths, "filters")
        indices = np.unique(_as_array(features))
        if indices.size and indices.dtype.kind not in "iu":
            raise InputError(f"filters: {path} has {indices.dtype} values; give the indices of features")
        if indices.size and not 0 <= int(indices[0]) <= int(indices[-1]) < widths[path]:
            raise InputError(f"filters: features of {path} must lie in 0..{widths[path] - 1}")
        kept[path] = indices.astype(np.int64)
    return {path: kept[path] for path in sorted(kept)}


def attention_mask(documents: Int32[Array, "n_rows ctx_len"]) -> Int64[Array, "n_rows ctx_len"]:
    """1 up to a row's last text token: BOS in front is read, padding behind is not."""
    is_text = documents != NO_DOCUMENT
    return np.flip(np.maximum.accumulate(np.flip(is_text, 1), axis=1), 1).astype(np.int64)


def without_positions(rows: TokenRows, locations: Int64[Array, " n"]) -> TokenRows:
    """The same rows with some flat token indices as no text: what a module with a norm mask was cached over."""
    if len(locations) == 0:
        return rows
    documents = rows.documents.copy()
    documents.reshape(-1)[locations] = NO_DOCUMENT
    return TokenRows(rows.tokens, documents, rows.document_names)


def _first_rows(rows: TokenRows, n_rows: int) -> TokenRows:
    return TokenRows(rows.tokens[:n_rows], rows.documents[:n_rows], rows.document_names)


def _as_array(values: Any) -> Array:
    """Any array, also a tensor on another device; this file imports no torch."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)

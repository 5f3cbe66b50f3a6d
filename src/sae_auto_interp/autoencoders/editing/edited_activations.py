"""Activations of one place -> the same with an autoencoder's edits in them: pure tensor functions.

Edits of a feature are folded into v' = factor · v + addend at each position. The change (factor - 1) · v + addend is
exact for what is added, zero for what is left alone, and goes through the decoder by itself: with the error term kept,
x is never taken apart and put together again, and only positions where something changes are touched. Changes are
computed in float32 and added in the model's own dtype. Features are encoded by themselves where the activation
function allows it, and not at all where edits only add.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.coder import RECONSTRUCTED_AT_ONCE, Coder
from sae_auto_interp.autoencoders.editing.edits import Edit, FeatureEdit, Positions, Replacement
from sae_auto_interp.autoencoders.encoding.encoder import SparseCode
from sae_auto_interp.errors import WeightsError
from sae_auto_interp.models.sites.site import Site, transformed


@dataclass(frozen=True, slots=True)
class Piece:
    """Which columns of the sequences a forward pass computes: all of them, or the newest where the rest is cached."""

    first: int
    n_prompt: int
    """Columns of the prompts."""
    ends: Int64[Tensor, " batch"]
    """Where each row's prompt ends (exclusive), padding left out."""


def edited(
    coder: Coder,
    target: Site,
    edits: Sequence[Edit],
    read: Float[Tensor, "batch seq d_in"],
    value: Float[Tensor, "batch seq d_out"],
    piece: Piece,
) -> Float[Tensor, "batch seq d_out"]:
    """`value`, which stands at `target`, with `edits`, at least one, in it; itself where no position is meant.

    `read` is what the coder reads there. Raises `WeightsError` where it reads or writes another number of dimensions.
    """
    marks = [marked(edit.positions, piece, value.shape[1]) for edit in edits]
    places = torch.stack(marks).any(0).flatten().nonzero()[:, 0]
    if len(places) == 0:
        return value
    new = value.reshape(-1, value.shape[-1]).clone()
    for part in places.split(RECONSTRUCTED_AT_ONCE):
        here = [(edit, mark.flatten()[part].to(coder.device)) for edit, mark in zip(edits, marks, strict=True)]
        x = read.flatten(0, 1)[part.to(read.device)].to(coder.device)
        there = part.to(value.device)
        new[there] = _edited_part(coder, target, here, x, new[there])
    return new.reshape(value.shape)


def marked(positions: Positions, piece: Piece, n_columns: int) -> Bool[Tensor, "batch seq"]:
    """Which of the columns that a pass computes `positions` mean, row by row; on the CPU."""
    columns = torch.arange(piece.first, piece.first + n_columns)
    if positions.mask is not None:
        mask = torch.zeros(len(piece.ends), piece.first + n_columns, dtype=torch.bool)
        n = min(piece.n_prompt, mask.shape[1])
        mask[:, :n] = torch.from_numpy(positions.mask)[:, :n]
        return mask[:, piece.first :]
    start = _column(positions.start, piece.ends)
    found = columns >= start[:, None]
    return found if positions.stop is None else found & (columns < _column(positions.stop, piece.ends)[:, None])


def _column(position: int, ends: Int64[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
    return ends + position if position < 0 else torch.full_like(ends, position)


Changes = Sequence[tuple[FeatureEdit, Tensor]]
"""Each edit with the positions, [n] of bool, that it is for."""


def _edited_part(
    coder: Coder,
    target: Site,
    here: Sequence[tuple[Edit, Tensor]],
    x: Float[Tensor, "n d_in"],
    value: Float[Tensor, "n d_out"],
) -> Float[Tensor, "n d_out"]:
    """`value` at some positions, replaced where it is to be, and with what the changed features add."""
    coder.check_dimensions(x, "the activations have")
    changes = [(edit, mark) for edit, mark in here if isinstance(edit, FeatureEdit)]
    replacements = [(edit, mark) for edit, mark in here if isinstance(edit, Replacement)]
    features = torch.tensor(sorted({edit.feature.index for edit, _ in changes}), dtype=torch.long, device=x.device)
    code = _code(coder, changes, any(edit.vector is None for edit, _ in replacements), features, x)
    for edit, mark in replacements:
        by = _reconstruction(coder, code, x) if edit.vector is None else torch.from_numpy(edit.vector)
        value = torch.where(mark.to(value.device)[:, None], _put(target, by, value), value)
    if not changes:
        return value
    change = _change(code, changes, features, len(x))
    return _with_change(coder, target, change, x, value)


def _with_change(
    coder: Coder, target: Site, change: SparseCode, x: Float[Tensor, "n d_in"], value: Float[Tensor, "n d_out"]
) -> Float[Tensor, "n d_out"]:
    """What the change of the code writes is added, where there is one."""
    added = coder.decode_change(change, x)
    if added.shape[-1] != value.shape[-1]:
        where = coder.settings.source or "the autoencoder"
        raise WeightsError(f"{where} writes {added.shape[-1]} dimensions, but {target} has {value.shape[-1]}")
    touched = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    touched[change.positions] = True
    return torch.where(touched.to(value.device)[:, None], value + added.to(value.device, value.dtype), value)


def _code(
    coder: Coder, changes: Changes, reconstructs: bool, features: Int64[Tensor, " f"], x: Float[Tensor, "n d_in"]
) -> SparseCode:
    """The entries that are needed: all to reconstruct, those of the edited features, or none."""
    if reconstructs:
        return coder.encode(x)
    if any(edit.kind != "add" for edit, _ in changes):
        return coder.encode(x, features)
    nothing = torch.empty(0, dtype=torch.long, device=x.device)
    return SparseCode(nothing, nothing, torch.empty(0, device=x.device))


@torch.no_grad()
def _reconstruction(coder: Coder, code: SparseCode, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
    return coder.decode_sparse(code, x)


def _put(target: Site, by: Float[Tensor, "*n d"], value: Float[Tensor, "n d_out"]) -> Float[Tensor, "n d_out"]:
    """`by` in the place of what is seen of `value`: of a centred site the mean, which is not seen, stays."""
    if by.shape[-1] != value.shape[-1]:
        raise WeightsError(
            f"what is to replace {target} has {by.shape[-1]} dimensions, but there are {value.shape[-1]}"
        )
    by = by.to(value.device)
    if target.transform == "centred":
        by = value.float() + (by - transformed(target, value))
    return by.to(value.dtype).expand_as(value)


def _change(code: SparseCode, changes: Changes, features: Int64[Tensor, " f"], n: int) -> SparseCode:
    """What is added to the code; entries of zero, where nothing changes, are left out."""
    factor = torch.ones(n, len(features), device=features.device)
    addend = torch.zeros_like(factor)
    for edit, mark in changes:
        j = int(torch.searchsorted(features, edit.feature.index))
        times, plus = _factor_and_addend(edit)
        factor[:, j] = torch.where(mark, factor[:, j] * times, factor[:, j])
        addend[:, j] = torch.where(mark, addend[:, j] * times + plus, addend[:, j])
    change = (factor - 1) * _columns(code, features, n) + addend
    positions, which = change.nonzero(as_tuple=True)
    return SparseCode(positions, features[which], change[positions, which])


def _factor_and_addend(edit: FeatureEdit) -> tuple[float, float]:
    value = edit.value or 0.0
    return {"add": (1.0, value), "clamp": (0.0, value), "scale": (value, 0.0), "ablate": (0.0, 0.0)}[edit.kind]


def _columns(code: SparseCode, features: Int64[Tensor, " f"], n: int) -> Float32[Tensor, "n f"]:
    """The values of some features, sorted, at each position."""
    dense = torch.zeros(n, len(features), device=code.values.device)
    j = torch.searchsorted(features, code.features).clamp(max=len(features) - 1)
    wanted = features[j] == code.features
    dense.index_put_((code.positions[wanted], j[wanted]), code.values[wanted], accumulate=True)
    return dense

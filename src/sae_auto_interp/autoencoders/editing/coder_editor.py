"""The edits of one forward pass or generation, ready to be applied inside an NNsight trace.

All that can be wrong with edits is found before the model runs: `FeatureEditor` is made from the very tokens that the
trace is then given. In the trace each autoencoder's place is read, edited and written as the model gets there.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.autoencoders.editing.edited_activations import Piece, edited
from sae_auto_interp.autoencoders.editing.edits import Edit, FeatureEdit, Replacement
from sae_auto_interp.errors import InputError
from sae_auto_interp.models.sites.module_paths import module_at, resolve_module_path, submodule
from sae_auto_interp.models.sites.site import Placement, Site, transformed
from sae_auto_interp.models.traced_value import replace_traced_value, traced_value
from sae_auto_interp.module_names import BESIDE

TokenIds = Int[Tensor, "..."]
"""[batch, seq], or a mask of that shape; they come from the user, so it is `FeatureEditor` that checks."""


class CoderEditor:
    """The edits at one autoencoder. Counts the forward passes that it was applied in."""

    def __init__(self, path: str, coder: Coder, edits: Sequence[Edit], prompt: Piece, n_passes: int) -> None:
        self.path = path
        self._coder = coder
        self._placement = coder.placement or Placement((Site(path, coder.settings.side),))
        self._edits = edits
        self._prompt = prompt
        self._n_passes = n_passes
        self._done = 0
        _check_place(self._placement, path)
        for edit in edits:
            _check_feature(edit, coder, path)
            if isinstance(edit, Replacement) and edit.vector is None:
                check_reconstructs(coder, path)

    def apply(self, model: Any) -> None:
        """In a trace of `model`: put the edits into the pass that is running. Once per pass, in order of the model."""
        if self._done == self._n_passes:
            raise InputError(
                f"{self.path}: edits for {self._n_passes} passes are used up; make an editor for each call"
            )
        sites, target = self._placement.sites, self._placement.reconstructed
        own = [traced_value(submodule(model, site.module_path), site) for site in sites]
        seen = [transformed(site, value).to(self._coder.device) for site, value in zip(sites, own, strict=True)]
        read = seen[0] if len(seen) == 1 else torch.cat(seen, dim=-1)
        handle = submodule(model, target.module_path)
        value = own[-1] if self._placement.target is None else traced_value(handle, target)
        new = edited(self._coder, target, self._edits, read, value, self._piece(value, target))
        self._done += 1
        if new is not value:
            replace_traced_value(handle, target, new)

    def _piece(self, value: Tensor, target: Site) -> Piece:
        """The newest columns, as many as the pass computes: one where a generation keeps the rest."""
        n_columns = self._prompt.n_prompt + self._done
        n_rows = len(self._prompt.ends)
        if value.ndim != 3 or len(value) != n_rows or value.shape[1] > n_columns:
            raise InputError(
                f"{target} has the shape {list(value.shape)} in pass {self._done + 1}; "
                f"edits for [{n_rows}, {self._prompt.n_prompt}] tokens cannot be put there"
            )
        return Piece(n_columns - value.shape[1], self._prompt.n_prompt, self._prompt.ends)


class FeatureEditor:
    """Applies `edits` in your own trace, over `tokens`: `editor.apply(model)` in the block.

    With several autoencoders edits are given in the order in which the model runs their modules, as everything in a
    trace; `edited_logits` and `generate_with_edits` take them in any order. In a generation `apply` stands in
    `for _ in trace.iter[:n]`: outside of it the first forward pass alone is edited. `attention_mask` marks padding;
    `n_new_tokens` is what will be generated. Raises `InputError` for edits that name no attached autoencoder, no
    feature of it, or no position of the tokens.
    """

    def __init__(
        self,
        model: Any,
        edits: Sequence[Edit],
        tokens: TokenIds,
        attention_mask: TokenIds | None = None,
        n_new_tokens: int = 0,
    ) -> None:
        if tokens.ndim != 2 or 0 in tokens.shape:
            raise InputError(f"tokens have the shape {list(tokens.shape)}; give at least one row as [batch, seq]")
        n_passes = max(1, n_new_tokens)
        prompt = Piece(0, tokens.shape[1], _ends(tokens, attention_mask))
        lengths = tokens.shape[1] * torch.ones(len(tokens)) if attention_mask is None else attention_mask.sum(1)
        for edit in edits:
            edit.positions.check(len(tokens), tokens.shape[1], int(lengths.min()), tokens.shape[1] + n_passes - 1)
        grouped: dict[str, list[Edit]] = {}
        for edit in edits:
            grouped.setdefault(_full_name(model, edit.module_path), []).append(edit)
        self.coders = tuple(
            CoderEditor(path, _coder_at(model, path), group, prompt, n_passes) for path, group in grouped.items()
        )

    def apply(self, model: Any) -> None:
        """Edit the forward pass that is running in a trace of `model`."""
        for coder in self.coders:
            coder.apply(model)


def check_reconstructs(coder: Coder, path: str) -> None:
    """Raise `InputError` for a coder whose decoder is no reconstruction: neurons, random weights, a layer of a CLT."""
    if not coder.settings.reconstructs:
        raise InputError(
            f"{path}: {coder.settings.source or 'its autoencoder'} was not made to reconstruct what is there, so "
            "nothing can be replaced by its reconstruction; edit single features of it, or give a vector"
        )


def _ends(tokens: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Where each prompt ends: behind its last token that is no padding."""
    if attention_mask is None:
        return torch.full((len(tokens),), tokens.shape[1])
    if attention_mask.shape != tokens.shape or not bool(attention_mask.any(1).all()):
        raise InputError(
            f"attention_mask: give 1 for tokens and 0 for padding, {list(tokens.shape)} of them and a token in each row"
        )
    columns = torch.arange(1, tokens.shape[1] + 1)
    return (columns * (attention_mask.cpu() != 0)).amax(1)


def _full_name(model: Any, name: str) -> str:
    """The name of an attached coder, its module's path written in full."""
    path, beside, own = name.partition(BESIDE)
    return resolve_module_path(model, path) + beside + own


def _coder_at(model: Any, path: str) -> Coder:
    module = module_at(model, path.partition(BESIDE)[0])
    coder = getattr(module, "ae", None)
    if BESIDE in path:
        there = (each for each in module.children() if isinstance(each, Coder))
        coder = next((each for each in there if each.attached_as == path), None)
    if not isinstance(coder, Coder):
        raise InputError(f"no autoencoder is attached at {path!r}; use a load_*_autoencoders function, or `attach`")
    return coder


def _check_feature(edit: Edit, coder: Coder, path: str) -> None:
    if isinstance(edit, FeatureEdit) and not 0 <= edit.feature.index < coder.width:
        raise InputError(f"there is no feature {edit.feature.index} of {path}; it has 0 to {coder.width - 1}")


def _check_place(placement: Placement, path: str) -> None:
    """Raise `InputError` where what the autoencoder reconstructs cannot be put back into the model."""
    target = placement.reconstructed
    if target.transform in ("rms_norm", "layer_norm"):
        raise InputError(
            f"{path}: its autoencoder reconstructs {target}, which is no value of the model: the norm's gain comes "
            "after it, and its scale is lost; only a transcoder that reads there can be edited, at its target"
        )
    if placement.target is None and len(placement.sites) > 1:
        raise InputError(f"{path}: its autoencoder reads {len(placement.sites)} places; edits need one that it writes")

"""Batches of token rows -> the entries of their codes, module by module, as arrays.

Each module's activations are encoded while the model's forward pass stands at it, so that one module's activations are
in memory at a time. What a batch found on a GPU is copied while the next one runs, and whether its activations were
sound is looked at when the copy arrives: with a top k nothing waits for the device (ReLU and JumpReLU wait once per
block, for the number of entries).

How many rows go through the subject model at a time when nobody says: as many as fit a budget of memory.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.autoencoders.encoding.encoder import Scratch, is_sound
from sae_auto_interp.autoencoders.encoding.host_copy import HostCopy, to_device
from sae_auto_interp.autoencoders.encoding.other_encoders import CodeEncoder
from sae_auto_interp.errors import InputError
from sae_auto_interp.features.caching.coder_inputs import CoderInputs
from sae_auto_interp.features.caching.outlier_norms import NormLimits, is_outlier
from sae_auto_interp.features.token_input import attention_mask
from sae_auto_interp.models.activations import activation_reader
from sae_auto_interp.models.placement import input_device, torch_model
from sae_auto_interp.types import NO_DOCUMENT, Array, TokenRows

TOKENS_AHEAD, MOST_AHEAD = 1 << 15, 8
"""What waits to be stored covers the time of a spill (docs/decisions/0006-encoding.md)."""


@dataclass(frozen=True, slots=True)
class ModuleEntries:
    """What one batch found at one module, in order of location."""

    module_path: str
    features: Int64[Array, " n"]
    locations: Int64[Array, " n"]
    activations: Float32[Array, " n"]
    masked: Int64[Array, " n_masked"]
    """Locations that were not read because of their norm."""


class CodeStream:
    """Runs `model` (a torch module or one wrapped by NNsight) and encodes with `coders`, {module path: coder}.

    `kept` gives {module path: sorted features} of modules of which only some are wanted. `backend` is how activations
    are read: "hooks" or "nnsight". `limits` says which norms are outliers; None masks none.
    """

    def __init__(
        self,
        model: Any,
        coders: Mapping[str, Coder],
        kept: Mapping[str, Int64[Array, " kept"]],
        backend: str,
        limits: NormLimits | None = None,
    ) -> None:
        self._read_activations = activation_reader(model, backend)
        self._device = input_device(torch_model(model))
        self._coders = coders
        self._limits = limits
        self._inputs = CoderInputs(coders)
        scratch = Scratch()
        self._encoders = {path: _encoder(coder, kept.get(path), scratch) for path, coder in coders.items()}
        self._is_kept = {path: _marks(features, coders[path].width) for path, features in kept.items()}

    @property
    def device_type(self) -> str:
        """Where the model begins: "cpu", "cuda", ..."""
        return self._device.type

    def batches_ahead(self, n_tokens: int) -> int:
        """Batches of `n_tokens` that may wait while another is stored; none on a CPU, which is busy with one at a time.

        As many as hold `TOKENS_AHEAD` tokens of all modules together, for what they found is in memory; but one.
        """
        if self._device.type == "cpu":
            return 0
        return max(1, min(MOST_AHEAD, TOKENS_AHEAD // (n_tokens * len(self._coders))))

    def begin(self, rows: TokenRows, first: int, last: int) -> "PendingBatch":
        """Encode rows `first` to `last` (exclusive); padding and BOS are read by the model and never encoded."""
        documents = rows.documents[first:last]
        places = np.flatnonzero(documents != NO_DOCUMENT)
        batch = PendingBatch(last - first, places + first * rows.ctx_len, self._is_kept)
        if len(places) == 0:
            return batch
        tokens = to_device(rows.tokens[first:last].astype(np.int64), self._device)
        mask = to_device(attention_mask(documents), self._device)
        text = None if len(places) == documents.size else places

        def encode(path: str, activations: Tensor) -> None:
            batch.add(path, self._encode(path, activations, text))

        self._read_activations(self._inputs.sites, tokens, mask, self._inputs.reader(encode))
        return batch

    def _encode(
        self, path: str, activations: Float[Tensor, "batch seq d"], text: Int64[Array, " n"] | None
    ) -> HostCopy:
        coder = self._coders[path]
        x = activations.flatten(0, 1)
        coder.check_dimensions(x, f"{path} gives")
        if text is not None:
            x = x.index_select(0, to_device(text, x.device))
        target = coder.device
        x = x.to(target, non_blocking=target.type != "cpu")  # what goes to the CPU is read at once
        code = self._encoders[path].encode(x)
        outliers = [] if self._limits is None or path not in self._limits else [is_outlier(x, self._limits.of(path))]
        return HostCopy([is_sound(x), code.positions, code.features, code.values, *outliers])


class PendingBatch:
    """One batch whose entries may still be on their way."""

    def __init__(
        self, n_rows: int, locations: Int64[Array, " n_text"], is_kept: Mapping[str, Bool[Array, " width"]]
    ) -> None:
        self.n_rows = n_rows
        self._locations = locations
        self._is_kept = is_kept
        self._copies: dict[str, HostCopy] = {}

    def add(self, path: str, copy: HostCopy) -> None:
        self._copies[path] = copy

    def entries(self) -> Iterator[ModuleEntries]:
        """What was found at each module; raises `InputError` where its activations were no usable numbers."""
        for path, copy in self._copies.items():
            sound, positions, features, values, *outliers = copy.arrays()
            if not sound:
                raise InputError(
                    f"{path} gives NaN, infinite or enormous activations; load the subject model in float32 or bfloat16"
                )
            wanted = values > 0
            masked = self._locations[outliers[0]] if outliers else self._locations[:0]
            if len(masked):
                wanted &= ~outliers[0][positions]
            if path in self._is_kept:
                wanted &= self._is_kept[path][features]
            if not wanted.all():
                positions, features, values = positions[wanted], features[wanted], values[wanted]
            yield ModuleEntries(path, features, self._locations[positions], values, masked)


def _encoder(coder: Coder, kept: Int64[Array, " kept"] | None, scratch: Scratch) -> CodeEncoder:
    return coder.encoder(None if kept is None else torch.from_numpy(kept), scratch)


def _marks(features: Int64[Array, " kept"], width: int) -> Bool[Array, " width"]:
    marks = np.zeros(width, dtype=np.bool_)
    marks[features] = True
    return marks


BUDGET_BYTES = {"cpu": 128 << 20}


BUDGET_BYTES_ON_DEVICE = 4 << 30


VECTORS_PER_TOKEN = 24
"""Vectors of the model's width that are alive at a time: residual stream, attention, an MLP of four times the width."""


BYTES_PER_NUMBER = 4


def rows_per_batch(config: Any, ctx_len: int, device_type: str) -> int:
    """Rows whose forward pass needs about the budget, but at least one and at most 256.

    `config` is the model's Hugging Face configuration; what it does not tell is taken as for a small model. The same on
    every machine of a kind.
    """
    budget = BUDGET_BYTES.get(device_type, BUDGET_BYTES_ON_DEVICE)
    return max(1, min(256, budget // bytes_per_row(config, ctx_len)))


def bytes_per_row(config: Any, ctx_len: int) -> int:
    """Return the bytes of one layer's activations and attention scores, in float32."""
    hidden = _number(config, "hidden_size", 768)
    heads = _number(config, "num_attention_heads", 12)
    return BYTES_PER_NUMBER * (VECTORS_PER_TOKEN * hidden + 2 * heads * ctx_len) * ctx_len


def _number(config: Any, name: str, otherwise: int) -> int:
    text_config = getattr(config, "text_config", None) or config
    value = getattr(text_config, name, None)
    return value if isinstance(value, int) and value > 0 else otherwise

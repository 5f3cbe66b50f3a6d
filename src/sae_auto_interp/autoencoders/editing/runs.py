"""Run a model with edits of its features, through NNsight: logits of given tokens, and generation.

`model` is anything that autoencoders were attached to: a torch model, or one that NNsight wraps. Edits name their
autoencoders by module path. Each autoencoder's edits wait in an invoke of their own, so NNsight serves them when the
model gets there, whatever the order. The trace runs on the model's modules alone, as when activations are read:
autoencoders do not run where nothing is edited, and stored edits of the user's are not replayed. Wrapping the modules
takes longer than a small model's pass: for many calls, wrap once (`models.trace.plain_trace`) and pass that.

Sampling is by the Gumbel-max rule (Gumbel 1954): the token with the largest log p / temperature + noise, noise from the
row's own generator. No global generator is touched, and what a row becomes does not depend on the rows beside it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from nnsight.intervention.interleaver import OutOfOrderError
from torch import Tensor, nn

from sae_auto_interp.autoencoders.editing.coder_editor import CoderEditor, FeatureEditor, TokenIds
from sae_auto_interp.autoencoders.editing.edits import Edit
from sae_auto_interp.errors import InputError
from sae_auto_interp.models.by_nnsight import plain_trace
from sae_auto_interp.models.placement import input_device, torch_model
from sae_auto_interp.models.site_reader import evaluation_mode


@torch.inference_mode()
def edited_logits(
    model: Any, tokens: TokenIds, edits: Sequence[Edit], *, attention_mask: TokenIds | None = None
) -> Float[Tensor, "batch seq vocab"]:
    """Logits of the next token after each of `tokens`, in the model's dtype, in one forward pass.

    Without edits those of the model itself. Raises what `FeatureEditor` does, and `WeightsError` where an autoencoder
    does not fit what it meets.
    """
    editor = FeatureEditor(model, edits, tokens, attention_mask)
    device = input_device(torch_model(model))
    mask = torch.ones_like(tokens) if attention_mask is None else attention_mask
    inputs = {"input_ids": tokens.to(device), "attention_mask": mask.to(device), "use_cache": False}
    found = _run(model, editor, "__call__", inputs, n_passes=1)
    return found if isinstance(found, Tensor) else found.logits


@torch.inference_mode()
def generate_with_edits(
    model: Any,
    prompts: TokenIds,
    edits: Sequence[Edit],
    n_new_tokens: int,
    *,
    attention_mask: TokenIds | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    temperature: float = 1.0,
) -> Int[Tensor, "batch longer"]:
    """`prompts` and up to `n_new_tokens` after them, with the edits in every step; shorter where all rows end in EOS.

    Greedy, whatever the checkpoint says of sampling, beams and repetition; or, with a generator for each row, sampled
    at `temperature`. Prompts of several lengths are padded on the
    left, with `attention_mask` 0 there; a row that ends before others goes on with the padding token. Raises what
    `edited_logits` does.
    """
    module = torch_model(model)
    editor = FeatureEditor(model, edits, prompts, attention_mask, n_new_tokens)
    _check_generation(module, prompts, n_new_tokens, attention_mask, rngs, temperature)
    device = input_device(module)
    mask = torch.ones_like(prompts) if attention_mask is None else attention_mask
    inputs: dict[str, Any] = {"input_ids": prompts.to(device), "attention_mask": mask.to(device)}
    inputs |= {"max_new_tokens": n_new_tokens, "do_sample": False, "num_beams": 1, "use_cache": True}
    inputs |= {"repetition_penalty": 1.0, "pad_token_id": _padding(module), "return_dict_in_generate": False}
    if rngs is not None:
        inputs["logits_processor"] = [_GumbelNoise(rngs, temperature)]
    return _run(model, editor, "generate", inputs, n_passes=n_new_tokens)


def _run(model: Any, editor: FeatureEditor, method: str, inputs: dict[str, Any], n_passes: int) -> Any:
    """What `method` of the model returns for `inputs` while the edits are made."""
    traced = plain_trace(model)
    results: list[Any] = []
    trace: Any = traced.trace(fn=method)
    with evaluation_mode(torch_model(traced)):
        try:
            with trace:
                with trace.invoke(**inputs):
                    results.append(trace.result)
                for coder in editor.coders:
                    with trace.invoke():
                        _at_every_pass(traced, coder, trace, n_passes)
        except OutOfOrderError as error:
            raise InputError(f"the model's forward pass never runs what is to be edited: {error}") from error
    return results[0]


def _at_every_pass(traced: Any, coder: CoderEditor, trace: Any, n_passes: int) -> None:
    """A generation may end before its last step; NNsight then ends the loop with an error."""
    n_done = 0
    try:
        for _ in trace.iter[:n_passes]:
            coder.apply(traced)
            n_done += 1
    except OutOfOrderError:
        if n_done == 0:
            raise


class _GumbelNoise:
    """A logits processor of transformers: the largest of what it returns is a draw from the softmax."""

    def __init__(self, rngs: Sequence[np.random.Generator], temperature: float) -> None:
        self._rngs = rngs
        self._temperature = temperature

    def __call__(self, _ids: Tensor, scores: Float[Tensor, "batch vocab"]) -> Float[Tensor, "batch vocab"]:
        noise = np.stack([rng.gumbel(size=scores.shape[1]) for rng in self._rngs]).astype(np.float32)
        return scores.float() / self._temperature + torch.from_numpy(noise).to(scores.device)


def _check_generation(
    module: nn.Module,
    prompts: Tensor,
    n_new_tokens: int,
    attention_mask: Tensor | None,
    rngs: Sequence[np.random.Generator] | None,
    temperature: float,
) -> None:
    if not isinstance(getattr(module, "generate", None), Callable):
        raise InputError(f"{type(module).__name__} has no `generate`; give a causal language model of transformers")
    if n_new_tokens < 1:
        raise InputError(f"n_new_tokens={n_new_tokens}; give at least 1")
    if attention_mask is not None and not bool(attention_mask[:, -1].all()):
        raise InputError("prompts end in padding; pad them on the left, so that each goes on from its last token")
    if rngs is not None and len(rngs) != len(prompts):
        raise InputError(f"there are {len(rngs)} generators for {len(prompts)} prompts; give each its own")
    if not temperature > 0:
        raise InputError(
            f"temperature={temperature}; give a number above 0, or leave out `rngs` for the likeliest token"
        )


def _padding(module: nn.Module) -> int:
    """What a finished row goes on with: the model's padding token, else its EOS, else 0."""
    config: Any = getattr(module, "generation_config", None)
    for token in (getattr(config, "pad_token_id", None), getattr(config, "eos_token_id", None)):
        if isinstance(token, list) and token:
            return int(token[0])
        if isinstance(token, int):
            return token
    return 0

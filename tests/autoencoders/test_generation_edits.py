"""Edits in generation are made at every step: against a slow reference that runs the whole text anew for each token."""

import warnings
from collections.abc import Callable
from typing import Any

import nnsight
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.editing.coder_editor import FeatureEditor
from sae_auto_interp.autoencoders.editing.edits import FROM_LAST_PROMPT_TOKEN, Edit, FeatureEdit, Positions, Replacement
from sae_auto_interp.autoencoders.editing.runs import edited_logits, generate_with_edits
from sae_auto_interp.types import FeatureId
from tests.autoencoders.hook_reference import codes, logits_with
from tests.support.records import VOCAB, byte_level_tokenizer, tiny_coder, tiny_gpt2

BLOCK, MLP = "transformer.h.1", "transformer.h.0.mlp"
PROMPTS = torch.randint(1, VOCAB, (2, 5), generator=torch.Generator().manual_seed(1))
N_NEW = 6
Pick = Callable[[Tensor], Tensor]


def lively_gpt2() -> Any:
    """Larger weights and a head of its own, so that what comes next depends on the text before."""
    model = tiny_gpt2(n_layers=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(15 if parameter.ndim > 1 else 1)
    model.lm_head.weight = nn.Parameter(torch.randn(VOCAB, 16, generator=torch.Generator().manual_seed(2)))
    model.generation_config.eos_token_id = None
    return model


@pytest.fixture
def model() -> Any:
    wrapped = nnsight.NNsight(lively_gpt2())
    attach(wrapped, {BLOCK: tiny_coder("relu"), MLP: tiny_coder("topk", seed=2)})
    return wrapped


def clamped(path: str, index: int, value: float, positions: Positions = FROM_LAST_PROMPT_TOKEN) -> FeatureEdit:
    return FeatureEdit(FeatureId(path, index), "clamp", value, positions)


def slow_generation(model: Any, change: Callable[[Tensor], Tensor], pick: Pick, n_new: int = N_NEW) -> Tensor:
    """One whole forward pass per token, with plain hooks and no cache. `change` is of all positions at BLOCK."""
    ids = PROMPTS
    for _ in range(n_new):
        logits = logits_with(model._module, ids, BLOCK, change, use_cache=False)
        ids = torch.cat([ids, pick(logits[:, -1])[:, None]], dim=1)
    return ids


def likeliest(logits: Tensor) -> Tensor:
    return logits.argmax(-1)


def clamp_from(coder: Any, index: int, value: float, first: int, stop: int | None = None) -> Callable[[Tensor], Tensor]:
    def change(x: Tensor) -> Tensor:
        new = x.clone()
        new[:, first:stop] += (value - codes(coder, x)[:, first:stop, index, None]) * coder.w_dec[index]
        return new

    return change


@pytest.mark.parametrize(
    ("positions", "first", "stop"),
    [
        (FROM_LAST_PROMPT_TOKEN, 4, None),
        (Positions(), 0, None),
        (Positions(1, 3), 1, 3),
        (Positions(6, 8), 6, 8),
        (Positions(mask=np.array([[False, True, False, False, False]] * 2)), 1, 2),
    ],
)
def test_every_step_is_edited(model: Any, positions: Positions, first: int, stop: int | None) -> None:
    coder = model._module.get_submodule(BLOCK).ae
    expected = slow_generation(model, clamp_from(coder, 3, 30.0, first, stop), likeliest)
    assert torch.equal(generate_with_edits(model, PROMPTS, [clamped(BLOCK, 3, 30.0, positions)], N_NEW), expected)
    assert not torch.equal(expected, slow_generation(model, lambda x: x, likeliest)), "a test that shows something"


def test_without_edits_it_is_the_models_own_generation(model: Any) -> None:
    expected = slow_generation(model, lambda x: x, likeliest)
    assert torch.equal(generate_with_edits(model, PROMPTS, [], N_NEW), expected)
    assert torch.equal(
        generate_with_edits(model, PROMPTS, [FeatureEdit(FeatureId(MLP, 1), "scale", 1.0)], N_NEW), expected
    )


def test_editing_every_step_is_another_thing_than_editing_the_first_pass(model: Any) -> None:
    """NNsight edits the first forward pass alone where no loop over the steps is written."""
    edits = [clamped(BLOCK, 3, 30.0)]

    def own_trace(n_edited: int) -> Tensor:
        editor = FeatureEditor(model, edits, PROMPTS, n_new_tokens=N_NEW)
        with model.trace(PROMPTS, fn="generate", max_new_tokens=N_NEW, do_sample=False, pad_token_id=0) as trace:
            for _ in trace.iter[:n_edited]:
                editor.apply(model)
            ids = trace.result.save()
        return ids  # noqa: RET504, the trace's block ends before it has a value

    every, once = own_trace(N_NEW), own_trace(1)
    assert torch.equal(every, generate_with_edits(model, PROMPTS, edits, N_NEW))
    coder = model._module.get_submodule(BLOCK).ae
    assert torch.equal(once, slow_generation(model, clamp_from(coder, 3, 30.0, 4, 5), likeliest))
    assert not torch.equal(once, every)


def test_several_autoencoders_in_a_generation(model: Any) -> None:
    edits: list[Edit] = [clamped(BLOCK, 3, 30.0), Replacement(MLP)]
    ids = PROMPTS
    for _ in range(N_NEW):
        logits = edited_logits(model, ids, [clamped(BLOCK, 3, 30.0, Positions(4)), Replacement(MLP)])
        ids = torch.cat([ids, logits[:, -1].argmax(-1)[:, None]], dim=1)
    assert torch.equal(generate_with_edits(model, PROMPTS, edits, N_NEW), ids)


def test_prompts_padded_on_the_left_give_what_they_give_alone(model: Any) -> None:
    edits = [clamped(BLOCK, 3, 30.0)]
    short = PROMPTS[1:, 2:]
    padded = torch.cat([PROMPTS[:1], torch.cat([torch.zeros(1, 2, dtype=torch.long), short], dim=1)])
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    together = generate_with_edits(model, padded, edits, N_NEW, attention_mask=mask)
    assert torch.equal(together[:1], generate_with_edits(model, PROMPTS[:1], edits, N_NEW))
    assert torch.equal(together[1:, 2:], generate_with_edits(model, short, edits, N_NEW))


# ------------------------------------------------------------------ sampling


def rngs(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def test_sampling_takes_its_noise_from_each_rows_generator(model: Any) -> None:
    own = rngs(1, 2)

    def draw(logits: Tensor) -> Tensor:
        noise = np.stack([rng.gumbel(size=VOCAB) for rng in own])
        return torch.from_numpy(np.argmax(logits.double().numpy() / 0.75 + noise, axis=1))

    state = torch.get_rng_state()
    edits = [clamped(BLOCK, 3, 30.0)]
    found = generate_with_edits(model, PROMPTS, edits, N_NEW, rngs=rngs(1, 2), temperature=0.75)
    coder = model._module.get_submodule(BLOCK).ae
    assert torch.equal(found, slow_generation(model, clamp_from(coder, 3, 30.0, 4), draw))
    assert torch.equal(torch.get_rng_state(), state)
    alone = generate_with_edits(model, PROMPTS[1:], edits, N_NEW, rngs=rngs(2), temperature=0.75)
    assert torch.equal(alone, found[1:])


def test_samples_have_the_models_probabilities(model: Any) -> None:
    prompts, temperature = PROMPTS[:1].expand(3000, 5), 2.0
    found = generate_with_edits(model, prompts, [], 1, rngs=rngs(*range(3000)), temperature=temperature)[:, -1]
    p = torch.softmax(edited_logits(model, PROMPTS[:1], [])[0, -1] / temperature, dim=-1).numpy()
    counts = np.bincount(found.numpy(), minlength=VOCAB)
    assert (np.abs(counts - 3000 * p) < 4.5 * np.sqrt(3000 * p * (1 - p)) + 1).all()
    assert (counts > 0).sum() > 3


# ------------------------------------------------------------------ ends, wrappers


def test_a_generation_that_ends_early_is_complete_and_warns_of_nothing(model: Any) -> None:
    first = generate_with_edits(model, PROMPTS[:1], [clamped(BLOCK, 3, 30.0)], N_NEW)[0, 5:].tolist()
    model._module.generation_config.eos_token_id = first[1]
    n = first.index(first[1]) + 1
    found = generate_with_edits(model, PROMPTS[:1], [clamped(BLOCK, 3, 30.0)], N_NEW)
    assert found[0, 5:].tolist() == first[:n]


def test_the_attached_code_is_read_at_every_step(model: Any) -> None:
    """`submodule.ae.output` in a user's own generation, also after another coder took the place of the first."""
    coder = tiny_coder("jumprelu", seed=5, side="input")
    handle = attach(model, {BLOCK: coder})[BLOCK]
    found: list[Tensor] = []
    with model.trace(PROMPTS, fn="generate", max_new_tokens=3, do_sample=False, pad_token_id=0) as trace:
        for _ in trace.iter[:3]:
            found += [handle.ae.output.clone(), handle.input.clone()]
        trace.result.save()
    assert [tuple(x.shape) for x in found[::2]] == [(2, 5, 40), (2, 1, 40), (2, 1, 40)]
    for code, x in zip(found[::2], found[1::2], strict=True):
        torch.testing.assert_close(code, codes(coder, x))


@pytest.mark.filterwarnings("ignore:LanguageModel is deprecated:FutureWarning")
@pytest.mark.parametrize("wrap", ["plain", "NNsight", "TransformersModel", "LanguageModel"])
def test_models_are_taken_in_every_wrapping(wrap: str, model: Any) -> None:
    module, tokenizer = lively_gpt2(), byte_level_tokenizer(["the cat"])
    wrapped = {
        "plain": lambda: module,
        "NNsight": lambda: nnsight.NNsight(module),
        "TransformersModel": lambda: nnsight.TransformersModel(module, task="text-generation", tokenizer=tokenizer),
        "LanguageModel": lambda: nnsight.LanguageModel(module, tokenizer=tokenizer),
    }[wrap]()
    attach(wrapped, {BLOCK: tiny_coder("relu"), MLP: tiny_coder("topk", seed=2)})
    edits: list[Edit] = [Replacement(MLP), clamped(BLOCK, 3, 30.0)]
    logits = edited_logits(model, PROMPTS, edits)
    assert torch.equal(edited_logits(wrapped, PROMPTS, edits), logits)
    expected = generate_with_edits(model, PROMPTS, edits, N_NEW)
    assert torch.equal(generate_with_edits(wrapped, PROMPTS, edits, N_NEW), expected)
    if isinstance(wrapped, nn.Module):
        return
    editor = FeatureEditor(wrapped, edits, PROMPTS)
    with torch.inference_mode(), wrapped.trace(input_ids=PROMPTS):
        editor.apply(wrapped)
        own = wrapped.lm_head.output.save()
    assert torch.equal(own, logits)
    if wrap == "NNsight":
        return
    editor = FeatureEditor(wrapped, edits, PROMPTS, n_new_tokens=N_NEW)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers, about how its own generation was asked for
        with wrapped.generate(PROMPTS, max_new_tokens=N_NEW, do_sample=False, pad_token_id=0) as trace:
            for _ in trace.iter[:N_NEW]:
                editor.apply(wrapped)
            ids = trace.result.save()
    assert torch.equal(ids, expected)

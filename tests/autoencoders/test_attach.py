"""Coders attached to a model that NNsight wraps are read in the user's own trace; what does not fit is refused."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nnsight
import pytest
import torch
from torch import nn

from sae_auto_interp.autoencoders.attach import attach, attached_coder
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError, UnknownNameError, WeightsError
from sae_auto_interp.models.sites.module_paths import resolve_module_path
from tests.support.records import D_MODEL, byte_level_tokenizer, tiny_coder, tiny_gpt2

IDS = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])
BLOCK, MLP, ATTENTION = "transformer.h.1", "transformer.h.0.mlp", "transformer.h.1.attn"


@pytest.fixture
def model() -> Any:
    return nnsight.NNsight(tiny_gpt2(n_layers=3))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in Hugging Face format, for the wrappers that load one themselves."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = byte_level_tokenizer(["the cat sat on the mat"], vocab_size=270)
    torch_model = tiny_gpt2(n_layers=3)
    torch_model.resize_token_embeddings(len(tokenizer))
    torch_model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def seen_by_hook(model: Any, path: str, *, side: str = "output") -> torch.Tensor:
    """What goes into or comes out of a module, read with a plain PyTorch hook."""
    caught: dict[str, Any] = {}
    module = model._module.get_submodule(path)
    if side == "input":
        handle = module.register_forward_pre_hook(lambda _m, args: caught.update(x=args[0]))
    else:
        handle = module.register_forward_hook(lambda _m, _a, out: caught.update(x=out))
    with torch.inference_mode():
        model._module(input_ids=IDS)
    handle.remove()
    return caught["x"][0] if isinstance(caught["x"], tuple) else caught["x"]


def traced(model: Any, handle: Any, **inputs: Any) -> torch.Tensor:
    with torch.inference_mode(), model.trace(**(inputs or {"input_ids": IDS})):
        code = handle.ae.output.save()
    assert isinstance(code, torch.Tensor)
    return code


@pytest.mark.parametrize(
    ("path", "side", "activation"),
    [
        (BLOCK, "output", "topk"),
        (BLOCK, "output", "relu"),
        (BLOCK, "output", "jumprelu"),
        (BLOCK, "input", "topk"),
        (MLP, "output", "relu"),
        (ATTENTION, "output", "jumprelu"),
    ],
)
def test_a_trace_reads_the_dense_code(model: Any, path: str, side: Any, activation: Any) -> None:
    coder = tiny_coder(activation, side=side)
    attached = attach(model, {path: coder})
    assert list(attached) == [path]
    code = traced(model, attached[path])
    assert code.shape == (2, 5, 40)
    torch.testing.assert_close(code, coder(seen_by_hook(model, path, side=side)))
    assert (code > 0).any()
    assert attached_coder(attached[path]) is coder


@pytest.mark.parametrize("wrapper", ["LanguageModel", "TransformersModel"])
def test_the_users_own_wrapper_is_served(wrapper: str, directory: Path) -> None:
    with warnings.catch_warnings():
        # `LanguageModel` is the original README's and deprecated; loading a pipeline warns of other things too
        warnings.simplefilter("ignore")
        if wrapper == "LanguageModel":
            model = nnsight.LanguageModel(str(directory), device_map="cpu", dispatch=True)
        else:
            model = nnsight.TransformersModel(str(directory), task="text-generation", device_map="cpu", dispatch=True)
    coder = tiny_coder("topk")
    attached = attach(model, {"h.1": coder})
    with torch.inference_mode(), model.trace(IDS):
        code = attached[BLOCK].ae.output.save()
        hidden = attached[BLOCK].output.save()
    torch.testing.assert_close(code, coder(hidden))
    torch.testing.assert_close(hidden, seen_by_hook(model, BLOCK))
    with torch.inference_mode(), model.trace(IDS):
        as_in_the_readme = model.transformer.h[1].ae.output.save()
    assert torch.equal(as_in_the_readme, code)


def test_language_model_is_known_to_be_deprecated(directory: Path) -> None:
    """When this fails, the wrapper is gone and the README's first lines with it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nnsight.LanguageModel(str(directory), device_map="cpu", dispatch=True)
    assert any(issubclass(w.category, FutureWarning) and "deprecated" in str(w.message).lower() for w in caught)


def test_several_coders_are_read_in_one_trace_in_any_order_of_attaching(model: Any) -> None:
    coders = {BLOCK: tiny_coder("relu"), MLP: tiny_coder("topk", seed=1), ATTENTION: tiny_coder("jumprelu", seed=2)}
    attached = attach(model, coders)
    with torch.inference_mode(), model.trace(input_ids=IDS):
        mlp = attached[MLP].ae.output.save()
        attention = attached[ATTENTION].ae.output.save()
        block = attached[BLOCK].ae.output.save()
    for path, code in ((MLP, mlp), (ATTENTION, attention), (BLOCK, block)):
        torch.testing.assert_close(code, coders[path](seen_by_hook(model, path)))


@pytest.mark.parametrize("sides", [("output", "output"), ("input", "output"), ("output", "input")])
def test_a_second_coder_replaces_the_first(model: Any, sides: tuple[Any, Any]) -> None:
    first, second = (tiny_coder("relu", side=side, seed=n) for n, side in enumerate(sides))
    attach(model, {BLOCK: first})
    attached = attach(model, {BLOCK: second})
    torch.testing.assert_close(traced(model, attached[BLOCK]), second(seen_by_hook(model, BLOCK, side=sides[1])))


def test_however_often_coders_are_attached_the_last_runs_once_per_pass(model: Any) -> None:
    coders = [tiny_coder("relu", seed=seed) for seed in range(3)]
    n_runs = [0, 0, 0]
    for i, coder in enumerate(coders):
        coder.register_forward_hook(lambda *_, i=i: n_runs.__setitem__(i, n_runs[i] + 1))
        attached = attach(model, {BLOCK: coder})
        torch.testing.assert_close(traced(model, attached[BLOCK]), coder(seen_by_hook(model, BLOCK)))
    assert n_runs == [2, 2, 2], "in the trace, and in the line above"
    model.clear_edits()
    attached = attach(model, {BLOCK: coders[0]})
    assert traced(model, attached[BLOCK]).shape == (2, 5, 40)


def test_hidden_states_handed_over_by_name_are_what_is_read() -> None:
    class Inner(nn.Module):
        def forward(self, scale: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
            return hidden_states * scale

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(scale=torch.ones(1), hidden_states=x)

    model, coder = nnsight.NNsight(Outer()), coder_of(8, side="input")
    attached = attach(model, {"inner": coder})
    x = torch.randn(4, 8)
    torch.testing.assert_close(traced(model, attached["inner"], x=x), coder(x))


def test_attaching_changes_nothing_in_what_the_model_computes(model: Any) -> None:
    with torch.inference_mode():
        before = model._module(input_ids=IDS).logits
        attach(model, {BLOCK: tiny_coder("topk"), MLP: tiny_coder("relu")})
        with model.trace(input_ids=IDS):
            after = model.lm_head.output.save()
    assert torch.equal(before, after)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (BLOCK, BLOCK),
        ("h.1", BLOCK),
        ("h.0.mlp", MLP),
        ("1.mlp.c_proj", "transformer.h.1.mlp.c_proj"),
        ("wte", "transformer.wte"),
        ("lm_head", "lm_head"),
    ],
)
def test_how_a_module_is_named(model: Any, name: str, path: str) -> None:
    assert resolve_module_path(model, name) == path


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("transformer.h.1.mpl", "transformer.h.1.mlp"),
        ("h.7", "transformer.h."),
        ("transformer.layers.1", "transformer.h.1"),
    ],
)
def test_an_unknown_module_is_answered_with_the_nearest(model: Any, name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        attach(model, {name: tiny_coder("relu")})
    assert f"unknown module path {name!r}; did you mean '{nearest}" in str(caught.value)


def test_an_ambiguous_name_is_not_guessed(model: Any) -> None:
    with pytest.raises(InputError, match=r"ambiguous: it ends transformer\.h\.0\.mlp, transformer\.h\.1\.mlp"):
        resolve_module_path(model, "mlp")
    with pytest.raises(UnknownNameError):
        resolve_module_path(model, "")


def coder_of(d_in: int, **settings: Any) -> SparseCoder:
    weights = CoderWeights(torch.randn(6, d_in), torch.zeros(6), torch.randn(6, d_in), torch.zeros(d_in))
    return SparseCoder(weights, CoderSettings(activation="relu", **settings))


@pytest.mark.parametrize(
    ("path", "side", "width"),
    [
        (BLOCK, "output", D_MODEL),
        (MLP, "input", D_MODEL),
        ("transformer.h.1.mlp.c_fc", "output", 4 * D_MODEL),
        ("transformer.h.1.mlp.c_fc", "input", D_MODEL),
        ("transformer.h.1.mlp.c_proj", "input", 4 * D_MODEL),
        ("transformer.h.1.ln_1", "output", D_MODEL),
        ("transformer.wte", "output", D_MODEL),
    ],
)
def test_weights_of_another_width_are_refused_before_anything_is_attached(
    model: Any, path: str, side: Any, width: int
) -> None:
    coder = coder_of(width, side=side)
    attached = attach(model, {path: coder})
    torch.testing.assert_close(traced(model, attached[path]), coder(seen_by_hook(model, path, side=side)))
    other = nnsight.NNsight(tiny_gpt2(n_layers=3))
    message = rf"my\.pt reads {width + 1} dimensions, but {path}:(in|out) of this model has {width}: "
    with pytest.raises(WeightsError, match=message):
        attach(other, {"h.0": tiny_coder("relu"), path: coder_of(width + 1, side=side, source="my.pt")})
    assert not [name for name, _ in other._module.named_modules() if name.endswith("ae")]


def test_a_width_that_only_a_forward_pass_can_tell_is_checked_there(model: Any) -> None:
    act = "transformer.h.1.mlp.act"
    attached = attach(model, {act: coder_of(4 * D_MODEL)})
    assert traced(model, attached[act]).shape == (2, 5, 6)
    wrong = attach(model, {act: coder_of(D_MODEL, source="my.pt")})
    with pytest.raises(Exception, match=r"my\.pt reads 16 dimensions, but the activations have 64"):
        traced(model, wrong[act])


def test_two_coders_for_one_module_are_refused(model: Any) -> None:
    with pytest.raises(InputError, match=r"h\.1 and transformer\.h\.1 are one module, transformer\.h\.1"):
        attach(model, {"h.1": tiny_coder("relu"), BLOCK: tiny_coder("topk")})


def test_what_is_no_model_is_refused() -> None:
    for model in (SimpleNamespace(_module=3), None):
        with pytest.raises(InputError, match="expected a torch model, or one wrapped by NNsight"):
            attach(model, {"h.1": tiny_coder("relu")})


def test_a_plain_torch_model_is_wrapped() -> None:
    model, coder = tiny_gpt2(), tiny_coder("relu")
    attached = attach(model, {"h.1": coder})
    assert attached_coder(attached["transformer.h.1"]) is coder
    assert model.transformer.h[1].ae is coder


def test_a_model_without_its_weights_is_refused() -> None:
    """NNsight builds one when it is told to load later; a coder moved there would lose its own weights."""
    with pytest.raises(InputError, match="dispatch=True"):
        attach(nnsight.NNsight(tiny_gpt2().to("meta")), {"h.1": tiny_coder("relu")})


def test_a_module_of_any_torch_model_will_do() -> None:
    """No configuration, no base model, no weights in the module itself."""
    model = nnsight.NNsight(nn.Sequential(nn.Linear(3, 8), nn.ReLU()))
    coder = coder_of(8)
    attached = attach(model, {"1": coder})
    x = torch.randn(4, 3)
    torch.testing.assert_close(traced(model, attached["1"], input=x), coder(model._module(x)))


def test_a_submodule_without_a_coder_is_told_apart(model: Any) -> None:
    with pytest.raises(InputError, match=r"no autoencoder is attached at 'model\.transformer\.h\.1'"):
        attached_coder(model.transformer.h[1])


def test_what_is_no_place_is_refused() -> None:
    model = nnsight.NNsight(tiny_gpt2())
    with pytest.raises(InputError, match="3 is no place of the model"):
        attach(model, {3: tiny_coder("relu")})


@pytest.mark.parametrize("x", [torch.ones(2, 3, D_MODEL), torch.ones(D_MODEL), torch.ones(2, D_MODEL).long()])
def test_only_a_matrix_of_activations_is_encoded(x: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"encode takes floating-point numbers \[n, d_in\]"):
        tiny_coder("relu").encode(x)

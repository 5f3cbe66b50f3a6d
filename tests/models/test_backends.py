"""What holds for both ways of reading activations, plain hooks and an NNsight trace: one suite, the same bits."""

import gc
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import nnsight
import pytest
import torch
from torch import Tensor, nn

from sae_auto_interp.errors import InputError, UnknownNameError
from sae_auto_interp.models.activations import BACKENDS, activation_reader
from sae_auto_interp.models.sites.site import Side
from tests.support.records import D_MODEL, VOCAB, byte_level_tokenizer, tiny_gpt2, tiny_world

TOKENS = torch.randint(0, VOCAB, (3, 6), generator=torch.Generator().manual_seed(1))
MASK = torch.ones_like(TOKENS)
MASK[1, 4:] = 0


def tiny_llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB, hidden_size=D_MODEL, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64,
        )
    )  # fmt: skip


def tiny_gpt_neox() -> Any:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=VOCAB, hidden_size=D_MODEL, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
            max_position_embeddings=64,
        )
    )  # fmt: skip


class Odd(nn.Module):
    """Registered in another order than it runs, folded, shared, run twice, called by name, and not run at all."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Linear(D_MODEL, D_MODEL)
        self.folded = nn.Linear(D_MODEL, D_MODEL)
        self.twice = nn.Linear(D_MODEL, D_MODEL)
        self.same_as_twice = self.twice
        self.keyword = Keyword()
        self.embed = nn.Embedding(VOCAB, D_MODEL)
        self.pooled = nn.Identity()
        self.unused = nn.Identity()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool) -> Tensor:
        x = self.twice(self.twice(self.embed(input_ids)))
        x = self.keyword(other=2.0, hidden_states=x)[0]
        x = self.folded(x.flatten(0, 1)).view(x.shape)
        return self.pooled(self.late(x).mean(1))


class Keyword(nn.Module):
    def forward(self, other: float, hidden_states: Tensor) -> list[Tensor]:
        return [hidden_states * other, hidden_states]


ARCHITECTURES: dict[str, tuple[Callable[[], Any], dict[str, Side]]] = {
    "gpt2": (
        lambda: tiny_gpt2(n_layers=3),
        {
            "transformer.h.1": "output",
            "transformer.h.0.attn": "output",
            "transformer.h.1.mlp": "input",
            "transformer.h.0.mlp.act": "output",
        },
    ),
    "llama": (
        tiny_llama,
        {
            "model.layers.1.mlp": "output",
            "model.layers.1": "input",
            "model.layers.0.self_attn": "input",
            "model.layers.0.self_attn.o_proj": "input",
            "model.layers.1.self_attn": "output",
            "model.layers.1.post_attention_layernorm": "output",
        },
    ),
    "gpt_neox": (
        tiny_gpt_neox,
        {"gpt_neox.layers.1": "output", "gpt_neox.layers.1.attention": "output", "gpt_neox.layers.0.mlp": "input"},
    ),
    "odd": (
        Odd,
        {"late": "input", "same_as_twice": "input", "twice": "output", "keyword": "input", "folded": "output"},
    ),
}


def make(name: str) -> tuple[Any, dict[str, Side]]:
    build, sites = ARCHITECTURES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval(), sites


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def read_all(model: Any, backend: str, sites: Mapping[str, Side], tokens: Tensor = TOKENS) -> dict[str, Tensor]:
    """{path: activations} in the order in which they were read."""
    found: dict[str, Tensor] = {}
    activation_reader(model, backend)(sites, tokens, MASK, lambda path, x: found.update({path: x.clone()}))
    return found


def whole_pass(model: nn.Module) -> dict[tuple[str, Side], Tensor]:
    """The first input and output of every module in one pass to the end, by hooks of the test's own."""
    found: dict[tuple[str, Side], Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            sides: dict[Side, Any] = {"input": args[0] if args else kwargs.get("hidden_states"), "output": output}
            for side, value in sides.items():
                first = value[0] if isinstance(value, tuple | list) else value
                if isinstance(first, Tensor):
                    found.setdefault((name, side), first.clone())

        return hook

    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    handles = [model.get_submodule(name).register_forward_hook(keep(name), with_kwargs=True) for name in names]
    with torch.inference_mode():
        model(input_ids=TOKENS, attention_mask=MASK, use_cache=False)
    for handle in handles:
        handle.remove()
    return found


def starts(model: nn.Module) -> list[str]:
    """The names of modules, as they start; grows with every forward pass."""
    names: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: names.append(name))
    return names


@contextmanager
def without_garbage_collection() -> Generator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_activations_are_those_of_a_whole_pass_to_the_bit(name: str, backend: str) -> None:
    model, sites = make(name)
    expected = whole_pass(model)
    found = read_all(model, backend, sites)
    assert set(found) == set(sites)
    for path, side in sites.items():
        assert torch.equal(found[path], expected[path, side].reshape(*TOKENS.shape, -1)), path
        assert found[path].shape == (*TOKENS.shape, found[path].shape[-1])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_both_backends_read_in_the_order_of_the_pass(name: str) -> None:
    model, sites = make(name)
    orders = [list(read_all(model, backend, dict(given))) for backend in BACKENDS for given in both_ways(sites)]
    for order in orders:
        assert [path for path in order if path not in ("twice", "same_as_twice")] == [
            path for path in orders[0] if path not in ("twice", "same_as_twice")
        ], "two names of one module may come in either order"


def both_ways(sites: Mapping[str, Side]) -> list[list[tuple[str, Side]]]:
    return [list(sites.items()), list(sites.items())[::-1]]


@pytest.mark.parametrize(
    ("sites", "last"),
    [
        ({"transformer.h.0": "output"}, "transformer.h.0.mlp.dropout"),
        ({"transformer.h.0.mlp": "input"}, "transformer.h.0.mlp"),
        ({"transformer.h.1.mlp": "output", "transformer.h.0.attn": "output"}, "transformer.h.1.mlp.dropout"),
    ],
)
def test_later_layers_are_not_run(sites: dict[str, Side], last: str, backend: str) -> None:
    model = tiny_gpt2(n_layers=3)
    started = starts(model)
    read = activation_reader(model, backend)
    for _ in range(2):
        read(sites, TOKENS, MASK, lambda path, x: None)
        assert started[-1] == last
        assert not any("h.2" in name or "lm_head" in name for name in started)
    model(input_ids=TOKENS)
    assert started[-1] == "lm_head", "the model itself still runs to its end"


def test_one_site_is_in_memory_at_a_time(backend: str) -> None:
    model = tiny_gpt2(n_layers=4)
    sites: dict[str, Side] = {f"transformer.h.{i}.mlp": "output" for i in range(4)}
    references: list[weakref.ref[Tensor]] = []

    def read(path: str, x: Tensor) -> None:
        assert [reference for reference in references if reference() is not None] == []
        references.append(weakref.ref(x))

    reader = activation_reader(model, backend)
    with without_garbage_collection():
        reader(sites, TOKENS, MASK, read)
        assert len(references) == 4
        assert references[-1]() is None, "the last one goes too, and without the garbage collector"


def test_activations_keep_their_dtype_and_carry_no_gradient(backend: str) -> None:
    model = tiny_gpt2().to(torch.bfloat16)
    found = read_all(model, backend, {"transformer.h.1": "output"})["transformer.h.1"]
    assert found.dtype == torch.bfloat16
    assert found.is_inference()
    assert torch.equal(found, whole_pass(model)["transformer.h.1", "output"])


def test_dropout_makes_nothing_up_and_the_mode_is_left_as_it_was(backend: str) -> None:
    model = tiny_gpt2()
    expected = read_all(model, backend, {"transformer.h.1": "output"})["transformer.h.1"]
    model.train()
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    assert torch.equal(read_all(model, backend, {"transformer.h.1": "output"})["transformer.h.1"], expected)
    with pytest.raises(IndexError):
        read_all(model, backend, {"transformer.h.1": "output"}, TOKENS + VOCAB)
    assert [module.training for module in model.modules()] == modes


def test_what_the_reader_raises_ends_the_pass_and_leaves_the_model_whole(backend: str) -> None:
    model = tiny_gpt2(n_layers=3)
    sites: dict[str, Side] = {"transformer.h.0": "output", "transformer.h.1.mlp": "input", "transformer.h.2": "output"}
    expected = read_all(model, backend, sites)
    before = n_hooks(model)
    started = starts(model)
    reader = activation_reader(model, backend)

    def full(path: str, x: Tensor) -> None:
        if path != "transformer.h.0":
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        reader(sites, TOKENS, MASK, full)
    assert started[-1] == "transformer.h.1.mlp"
    assert n_hooks(model) == before + len(list(model.modules())), "only the test's own were added"
    found: dict[str, Tensor] = {}
    reader(sites, TOKENS, MASK, lambda path, x: found.update({path: x.clone()}))
    assert all(torch.equal(found[path], expected[path]) for path in sites)


def n_hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize(
    ("site", "side", "message"),
    [
        ("unused", "output", "never runs unused"),
        ("pooled", "output", r"pooled does not give one vector per token \(\(3, 16\) for tokens of shape \(3, 6\)\)"),
        ("embed", "input", "embed does not give activations but numbers of type torch.int64"),
        ("lat", "output", "unknown module path 'lat'; did you mean 'late'"),
    ],
)
def test_sites_without_activations_are_refused(site: str, side: Side, message: str, backend: str) -> None:
    with pytest.raises(InputError, match=message):
        read_all(Odd(), backend, {site: side, "twice": "output"})


def test_several_sites_that_are_never_reached_are_all_named(backend: str) -> None:
    model = Odd()
    model.another = nn.Identity()
    read: list[str] = []
    sites: dict[str, Side] = {"unused": "output", "twice": "output", "another": "input"}
    with pytest.raises(InputError, match="never runs another, unused"):
        activation_reader(model, backend)(sites, TOKENS, MASK, lambda path, x: read.append(path))
    assert read == ["twice"]


def test_without_sites_nothing_runs(backend: str) -> None:
    model = Odd()
    started = starts(model)
    assert read_all(model, backend, {}) == {}
    assert started == []


def test_attached_autoencoders_and_edits_do_not_run(backend: str) -> None:
    wrapped, _ = tiny_world()
    sites: dict[str, Side] = {"transformer.h.0": "output", "transformer.h.1.mlp": "input"}
    expected = read_all(tiny_gpt2(), backend, sites)
    with wrapped.edit(inplace=True):
        wrapped.transformer.h[0].output[:] = 0
    started = starts(wrapped._module)
    found = read_all(wrapped, backend, sites)
    assert not [name for name in started if name.endswith(".ae")]
    assert all(torch.equal(found[path], expected[path]) for path in sites)
    with wrapped.trace(input_ids=TOKENS):
        edited = wrapped.transformer.h[0].output.save()
    assert not edited.any(), "a user's own trace still has the edit"


@pytest.mark.filterwarnings("ignore:LanguageModel is deprecated:FutureWarning")
@pytest.mark.parametrize("wrap", ["plain", "NNsight", "TransformersModel", "LanguageModel"])
def test_models_are_taken_in_every_wrapping(wrap: str, backend: str) -> None:
    model = tiny_gpt2()
    expected = whole_pass(model)["transformer.h.1", "output"]
    tokenizer = byte_level_tokenizer(["the cat"])
    wrapped = {
        "plain": lambda: model,
        "NNsight": lambda: nnsight.NNsight(model),
        "TransformersModel": lambda: nnsight.TransformersModel(model, task="text-generation", tokenizer=tokenizer),
        "LanguageModel": lambda: nnsight.LanguageModel(model, tokenizer=tokenizer),
    }[wrap]()
    assert torch.equal(read_all(wrapped, backend, {"transformer.h.1": "output"})["transformer.h.1"], expected)


def test_unknown_backends_and_things_that_are_no_model_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown activation backend 'hook'; did you mean 'hooks'"):
        activation_reader(Odd(), "hook")
    with pytest.raises(InputError, match="expected a torch model, or one wrapped by NNsight, got str"):
        activation_reader("gpt2")

"""Activations are those of a full forward pass in evaluation mode, and the pass stops after the deepest module."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sae_auto_interp.errors import InputError
from sae_auto_interp.models.by_hooks import capture
from sae_auto_interp.models.sites.site import Side
from tests.support.records import D_MODEL, VOCAB, lookup_world, tiny_gpt2

TOKENS = torch.randint(0, VOCAB, (3, 6), generator=torch.Generator().manual_seed(1))
ALL = torch.ones_like(TOKENS)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_gpt2(n_layers=3)


def ran(model: nn.Module) -> list[str]:
    """The names of modules, as they finish; grows with every forward pass."""
    names: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: names.append(name))
    return names


def test_activations_are_those_of_a_whole_forward_pass(model: Any) -> None:
    with torch.inference_mode():
        hidden = model(input_ids=TOKENS, output_hidden_states=True).hidden_states
        block = model.transformer.h[1]
        attention = block.attn(block.ln_1(hidden[1]))[0]
    sites: dict[str, Side] = {
        "transformer.h.1": "output",
        "transformer.h.0": "output",
        "transformer.h.1.attn": "output",
        "transformer.h.1.mlp": "input",
        "transformer.h.2": "input",
    }
    found = capture(model, sites, TOKENS, ALL)
    assert set(found) == set(sites)
    torch.testing.assert_close(found["transformer.h.0"], hidden[1])
    torch.testing.assert_close(found["transformer.h.1"], hidden[2])
    torch.testing.assert_close(found["transformer.h.2"], hidden[2])
    torch.testing.assert_close(found["transformer.h.1.attn"], attention)
    with torch.inference_mode():
        torch.testing.assert_close(found["transformer.h.1.mlp"], block.ln_2(hidden[1] + attention))


@pytest.mark.parametrize(
    ("sites", "last"),
    [
        ({"transformer.h.0": "output"}, "transformer.h.0"),
        ({"transformer.h.0.mlp": "input"}, "transformer.h.0.ln_2"),
        ({"transformer.h.1.mlp": "output", "transformer.h.0.attn": "output"}, "transformer.h.1.mlp"),
    ],
)
def test_nothing_runs_after_the_deepest_module(sites: dict[str, Side], last: str) -> None:
    model = tiny_gpt2(n_layers=3)
    finished = ran(model)
    capture(model, sites, TOKENS, ALL)
    assert finished[-1] == last
    model(input_ids=TOKENS)
    assert finished[-1] == "", "without hooks of its own the model runs to its end again"
    assert "transformer.h.2" in finished


def test_hooks_are_removed_also_after_an_error(model: Any) -> None:
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())

    before = hooks()
    capture(model, {"transformer.h.0": "output"}, TOKENS, ALL)
    with pytest.raises(IndexError):
        capture(model, {"transformer.h.0": "output"}, TOKENS + VOCAB, ALL)
    assert hooks() == before


def test_dropout_makes_nothing_up_and_the_mode_is_left_as_it_was() -> None:
    model = tiny_gpt2()
    expected = capture(model, {"transformer.h.1": "output"}, TOKENS, ALL)["transformer.h.1"]
    model.train()
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    found = capture(model, {"transformer.h.1": "output"}, TOKENS, ALL)["transformer.h.1"]
    torch.testing.assert_close(found, expected)
    assert [module.training for module in model.modules()] == modes
    assert not found.requires_grad


def test_masked_padding_changes_no_text(model: Any) -> None:
    mask = ALL.clone()
    mask[1, 4:] = 0
    other = TOKENS.clone()
    other[1, 4:] = 7
    a, b = (capture(model, {"transformer.h.2": "output"}, t, mask)["transformer.h.2"] for t in (TOKENS, other))
    torch.testing.assert_close(a[mask.bool()], b[mask.bool()])


class Odd(nn.Module):
    """Modules that are called in unusual ways."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, D_MODEL)
        self.twice = nn.Linear(D_MODEL, D_MODEL)
        self.keyword = Keyword()
        self.folded = nn.Linear(D_MODEL, D_MODEL)
        self.pooled = nn.Identity()
        self.nothing = Nothing()
        self.unused = nn.Identity()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool) -> Tensor:
        x = self.embed(input_ids)
        y = self.twice(self.twice(x))
        y = self.keyword(value=y)[0]
        self.folded(y.flatten(0, 1))
        self.nothing()
        return self.pooled(y.mean(1))


class Keyword(nn.Module):
    def forward(self, value: Tensor) -> list[Tensor]:
        return [value + 1, value]


class Nothing(nn.Module):
    def forward(self) -> dict[str, int]:
        return {}


def test_modules_that_are_called_in_unusual_ways() -> None:
    model = Odd()
    sites: dict[str, Side] = {"twice": "output", "keyword": "input", "folded": "output"}
    found = capture(model, sites, TOKENS, ALL)
    with torch.inference_mode():
        first = model.twice(model.embed(TOKENS))
        second = model.twice(first)
        torch.testing.assert_close(found["twice"], first)
        torch.testing.assert_close(found["keyword"], second)
        torch.testing.assert_close(found["folded"], model.folded(second + 1))
    torch.testing.assert_close(capture(model, {"keyword": "output"}, TOKENS, ALL)["keyword"], second + 1)


@pytest.mark.parametrize(
    ("site", "side", "message"),
    [
        ("unused", "output", "never runs unused"),
        ("pooled", "output", r"pooled does not give one vector per token \(\(3, 16\) for tokens of shape \(3, 6\)\)"),
        ("nothing", "output", "nothing does not give activations but dict"),
        ("nothing", "input", "nothing does not give activations but NoneType"),
    ],
)
def test_modules_that_have_no_activations_are_refused(site: str, side: Side, message: str) -> None:
    with pytest.raises(InputError, match=message):
        capture(Odd(), {site: side}, TOKENS, ALL)


def test_the_cache_never_runs_later_layers() -> None:
    from sae_auto_interp.features import FeatureCache

    model, submodules = lookup_world([[1, 2, 0], [0, 1, 3]])
    finished = ran(model._module)
    FeatureCache(model, submodules).run(tokens=[[0, 1]])
    assert finished == ["site"]

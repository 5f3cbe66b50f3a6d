"""The same edits done by plain PyTorch hooks and dense codes: what the library's editing is compared with."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from tests.support.records import dense_code

Change = Callable[[Tensor], Tensor]


@contextmanager
def changed(module: nn.Module, change: Change, side: str = "output") -> Generator[None]:
    """Let `module` read or give `change` of what it would."""

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    if side == "input":
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def logits_with(
    model: nn.Module, tokens: Tensor, path: str, change: Change, side: str = "output", **inputs: Any
) -> Tensor:
    with changed(model.get_submodule(path), change, side):
        return model(input_ids=tokens, **inputs).logits


def codes(coder: Any, x: Tensor) -> Tensor:
    """Dense codes [..., width], written down from the definitions."""
    return dense_code(coder, x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], coder.width).float()


def set_to(coder: Any, feature: int, value: float) -> Change:
    """The feature set to a value, the error term kept."""
    return lambda x: x + (value - codes(coder, x)[..., feature, None]) * coder.w_dec[feature]


def reconstruction(coder: Any) -> Change:
    return lambda x: codes(coder, x) @ coder.w_dec + coder.b_dec


class LinearWorld(nn.Module):
    """Small whole numbers from the embedding to the logits, so that all results are exact."""

    def __init__(self, d: int = 6, vocabulary: int = 11) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)

        def whole(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randint(-3, 4, shape, generator=generator).float(), requires_grad=False)

        self.embed, self.block, self.head = nn.Embedding(vocabulary, d), nn.Linear(d, d), nn.Linear(d, vocabulary)
        for layer in (self.embed, self.block, self.head):
            layer.weight = whole(*layer.weight.shape)
        self.block.bias, self.head.bias = whole(d), whole(vocabulary)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool) -> Tensor:
        return self.head(self.block(self.embed(input_ids)))


def whole_coder(d: int = 6, width: int = 9) -> SparseCoder:
    """A ReLU coder of small whole numbers."""
    generator = torch.Generator().manual_seed(5)

    def whole(*shape: int) -> Tensor:
        return torch.randint(-2, 3, shape, generator=generator).float()

    weights = CoderWeights(whole(width, d), whole(width), whole(width, d), whole(d))
    return SparseCoder(weights, CoderSettings(activation="relu", subtract_b_dec=False))

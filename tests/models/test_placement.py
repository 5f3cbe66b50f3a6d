"""Models spread over places or offloaded by accelerate: the same activations and digests as in one place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nnsight
import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from torch import Tensor, nn

from sae_auto_interp.errors import InputError
from sae_auto_interp.models.activations import BACKENDS, activation_reader
from sae_auto_interp.models.identity import sampled_sha256, weights_sha256
from sae_auto_interp.models.placement import input_device, stored_value
from sae_auto_interp.models.sites.site import Side
from tests.support.records import VOCAB, tiny_gpt2

TOKENS = torch.randint(0, VOCAB, (3, 6), generator=torch.Generator().manual_seed(1))
SITES: dict[str, Side] = {
    "transformer.h.0": "output",
    "transformer.h.1.mlp": "input",
    "transformer.h.1.attn": "output",
}
CPU = torch.device("cpu")


def spread(model: nn.Module, folder: Path, **options: Any) -> Any:
    places: dict[str, str | int | torch.device] = {
        "transformer.wte": "cpu", "transformer.wpe": "disk", "transformer.drop": "cpu", "transformer.h.0": "disk",
        "transformer.h.1": "cpu", "transformer.ln_f": "disk", "lm_head": "cpu",
    }  # fmt: skip
    return dispatch_model(model, places, main_device=CPU, offload_dir=folder, **options)


PLACEMENTS: dict[str, Callable[[nn.Module, Path], Any]] = {
    "to cpu": lambda model, folder: cpu_offload(model, CPU),
    "to disk": lambda model, folder: disk_offload(model, folder, CPU),
    "spread": spread,
    "whole blocks": lambda model, folder: spread(model, folder, preload_module_classes=["GPT2Block"]),
}


@pytest.fixture(params=PLACEMENTS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[nn.Module], Any]:
    return lambda model: PLACEMENTS[request.param](model, tmp_path / "offloaded")


def activations(model: Any, backend: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    reader = activation_reader(model, backend)
    for _ in range(2):  # once more: a pass that was left must leave the placement usable
        reader(SITES, TOKENS, torch.ones_like(TOKENS), lambda path, x: found.update({path: x.clone()}))
    return found


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("wrapped", ["before", "after"])
def test_activations_of_a_placed_model_are_the_same_bits(
    place: Callable[[nn.Module], Any], backend: str, wrapped: str
) -> None:
    expected = activations(tiny_gpt2(), "hooks")
    model: Any = nnsight.NNsight(tiny_gpt2()) if wrapped == "before" else tiny_gpt2()
    placed = place(model._module if wrapped == "before" else model)
    assert any(parameter.is_meta for parameter in placed.parameters())
    assert input_device(placed) == CPU
    found = activations(model, backend)
    assert all(torch.equal(found[path], expected[path]) for path in SITES)


def test_digests_do_not_depend_on_the_placement_but_on_the_weights(place: Callable[[nn.Module], Any]) -> None:
    plain, other = tiny_gpt2(), tiny_gpt2(1)
    placed = place(tiny_gpt2())
    for digest in (sampled_sha256, weights_sha256):
        assert digest(placed) == digest(plain) != digest(other)


@pytest.mark.parametrize(
    "name", ["transformer.wte.weight", "transformer.h.1.ln_2.bias", "transformer.h.0.mlp.c_fc.weight"]
)
def test_any_offloaded_weight_changes_the_digest(name: str) -> None:
    changed = tiny_gpt2()
    with torch.no_grad():
        changed.get_parameter(name).view(-1)[-1] += 1e-3
    assert sampled_sha256(cpu_offload(changed, CPU)) != sampled_sha256(cpu_offload(tiny_gpt2(), CPU))


def test_tied_weights_count_the_same_when_offloading_unties_them() -> None:
    model = tiny_gpt2()
    expected = sampled_sha256(model)
    offloaded: Any = cpu_offload(model, CPU)
    assert torch.equal(
        stored_value(offloaded, "lm_head.weight", offloaded.lm_head.weight),
        stored_value(offloaded, "transformer.wte.weight", offloaded.transformer.wte.weight),
    )
    assert sampled_sha256(offloaded) == expected


def test_inputs_go_where_the_embedding_runs() -> None:
    assert input_device(tiny_gpt2()) == CPU
    assert input_device(nn.Identity()) == CPU
    offloaded: Any = cpu_offload(tiny_gpt2(), CPU)
    offloaded.transformer.h[0].ln_1._hf_hook.execution_device = "cuda:0"
    offloaded.transformer.wte._hf_hook.execution_device = "cuda:1"
    assert input_device(offloaded) == torch.device("cuda:1")


def test_the_embedding_is_found_also_where_other_weights_come_first() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2, 2, device="meta")
            self.embed = nn.Embedding(2, 2)

        def get_input_embeddings(self) -> nn.Module:
            return self.embed

    assert input_device(Late()) == CPU


def test_weights_that_are_not_loaded_are_named() -> None:
    with torch.device("meta"):
        empty = nn.Sequential(nn.Embedding(3, 2))
    for use in (input_device, sampled_sha256, weights_sha256):
        with pytest.raises(
            InputError, match=r"not loaded yet \(0\.weight is on the meta device\); load it with dispatch"
        ):
            use(empty)

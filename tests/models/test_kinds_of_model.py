"""Quantised and compiled models are read, told apart and given autoencoders as plain ones are."""

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sae_auto_interp.autoencoders.attach import attach, attached_coder
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.features import FeatureCache
from sae_auto_interp.features.config import CacheOptions
from sae_auto_interp.models.activations import activation_reader
from sae_auto_interp.models.identity import check_token_ids, sampled_sha256
from sae_auto_interp.models.placement import input_device
from sae_auto_interp.models.sites.hook_names import sites_of_layer
from sae_auto_interp.models.sites.site import Site
from sae_auto_interp.models.sites.site_names import resolve_site
from tests.models.tiny_models import D_MODEL, VOCAB, tiny_model
from tests.support.records import read_entries, tiny_coder

TOKENS = torch.randint(3, VOCAB, (2, 7), generator=torch.Generator().manual_seed(1))


class Int8Linear(nn.Module):
    """As bitsandbytes keeps weights: one int8 parameter and a scale per row."""

    scale: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = nn.Parameter((linear.weight.detach() / scale).round().to(torch.int8), requires_grad=False)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.weight.to(x.dtype) * self.scale).T


class PackedLinear(nn.Module):
    """As GPTQ and AWQ keep weights: buffers alone, no parameter."""

    qweight: Tensor
    scales: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        quantised = Int8Linear(linear)
        self.register_buffer("qweight", quantised.weight.data.view(torch.uint8))
        self.register_buffer("scales", quantised.scale)

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.qweight.view(torch.int8).to(x.dtype) * self.scales).T


def replaced(model: nn.Module, kind: type[nn.Module]) -> nn.Module:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, kind(child))
    return model


def dynamic(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own quantisation is on its way to another package
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)  # type: ignore[reportDeprecated]


QUANTISED: Mapping[str, Callable[[nn.Module], nn.Module]] = {
    "int8": lambda model: replaced(model, Int8Linear),
    "packed": lambda model: replaced(model, PackedLinear),
    "dynamic": dynamic,
}


@pytest.fixture(params=QUANTISED)
def quantise(request: pytest.FixtureRequest) -> Callable[[nn.Module], Any]:
    return QUANTISED[request.param]


def read_all(model: Any, sites: Mapping[str, Site], backend: str = "hooks") -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    read = activation_reader(model, backend)
    read(sites, TOKENS, torch.ones_like(TOKENS), lambda name, x: found.update({name: x.clone()}))
    return found


def test_every_site_of_a_quantised_model_is_read(quantise: Callable[[nn.Module], Any]) -> None:
    model, plain = quantise(tiny_model("llama")), tiny_model("llama")
    sites = sites_of_layer(model, 1)
    assert sites == sites_of_layer(plain, 1)
    by_hooks, by_trace, expected = read_all(model, sites), read_all(model, sites, "nnsight"), read_all(plain, sites)
    for name in sites:
        assert torch.equal(by_hooks[name], by_trace[name])
        relative_error = (by_hooks[name] - expected[name]).norm() / expected[name].norm()
        assert relative_error < 0.1, name
    assert not torch.equal(by_hooks["blocks.1.hook_mlp_out"], expected["blocks.1.hook_mlp_out"])


def test_a_quantised_model_is_cached_as_its_dense_codes(quantise: Callable[[nn.Module], Any], tmp_path: Path) -> None:
    model = quantise(tiny_model("llama"))
    assert input_device(model) == torch.device("cpu")
    site, coder = resolve_site(model, "blocks.1.hook_mlp_out"), tiny_coder("relu")
    cache = FeatureCache(model, attach(model, {site: coder}), options=CacheOptions(activation_dtype="float32"))
    cache.run(tokens=TOKENS)
    cache.save_splits(2, tmp_path)
    found = sorted(read_entries(CacheReader(tmp_path / site.module_path)))
    dense = coder(read_all(model, {"site": site})["site"]).numpy()
    assert [entry[:3] for entry in found] == [tuple(place) for place in np.argwhere(dense).tolist()]
    np.testing.assert_allclose([entry[3] for entry in found], dense[dense > 0], rtol=1e-5)


def test_weights_of_another_width_are_refused_also_there(quantise: Callable[[nn.Module], Any]) -> None:
    model = quantise(tiny_model("gemma3_multimodal"))
    weights = CoderWeights(torch.randn(6, 17), torch.zeros(6), torch.randn(6, 17), torch.zeros(17))
    for name in ("layers.1.mlp", "layers.1", "blocks.1.hook_mlp_out"):
        attach(model, {name: tiny_coder("relu")})
        with pytest.raises(WeightsError, match=rf"reads 17 dimensions, but model\.language_model\..* has {D_MODEL}"):
            attach(model, {name: SparseCoder(weights, CoderSettings(activation="relu"))})


def test_quantised_models_are_told_apart_by_any_weight(quantise: Callable[[nn.Module], Any]) -> None:
    one = sampled_sha256(quantise(tiny_model("llama")))
    assert one == sampled_sha256(quantise(tiny_model("llama")))
    for name in ("model.layers.1.mlp.down_proj", "lm_head"):
        changed: Any = tiny_model("llama")
        with torch.no_grad():
            changed.get_submodule(name).weight[0, 0] += 0.1
        assert sampled_sha256(quantise(changed)) != one, name


def test_a_tensor_that_holds_others_counts_as_what_it_holds() -> None:
    """As torchao's weights are."""

    class Holder(Tensor):
        inner: Tensor  # type: ignore[reportIncompatibleMethodOverride]

        @staticmethod
        def __new__(cls: type["Holder"], inner: Tensor) -> "Holder":
            made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=torch.float32)  # type: ignore
            made.inner = inner
            return made

        def __tensor_flatten__(self) -> tuple[list[str], None]:
            return ["inner"], None

        @classmethod
        def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            assert func is torch.ops.aten.detach.default
            return Holder(args[0].inner)

    digests = set()
    for value in (1, 2, 2):
        module = nn.Module()
        module.weight = nn.Parameter(Holder(torch.full((3, 2), value, dtype=torch.int8)), requires_grad=False)
        digests.add(sampled_sha256(module))
    assert len(digests) == 2


def test_attached_autoencoders_are_none_of_the_models_weights() -> None:
    model = tiny_model("llama")
    before = sampled_sha256(model)
    attached = attach(model, {"layers.1": tiny_coder("topk")})
    assert "model.layers.1.ae.w_enc" in model.state_dict()
    assert sampled_sha256(model) == before
    coder = attached_coder(attached["model.layers.1"])
    assert sampled_sha256(coder) != sampled_sha256(tiny_coder("topk", seed=1)), "a coder's own digest counts it"


def test_ids_are_checked_against_the_text_vocabulary_of_a_multimodal_model() -> None:
    check_token_ids(tiny_model("gemma3_multimodal"), np.array([[0, VOCAB - 1]]))
    with pytest.raises(InputError, match="the model knows 0 to 49"):
        check_token_ids(tiny_model("gemma3_multimodal"), np.array([[0, VOCAB]]))


def whole(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def in_place(model: Any) -> Any:
    model.compile(backend="eager")
    return model


def by_block(model: Any) -> Any:
    for i, block in enumerate(model.model.layers):
        model.model.layers[i] = torch.compile(block, backend="eager")
    return model


@pytest.mark.parametrize(
    ("compiled", "backend"), [(whole, "hooks"), (whole, "nnsight"), (in_place, "hooks"), (by_block, "hooks")]
)
def test_compiled_models_are_read_whether_they_have_run_or_not(compiled: Callable[[Any], Any], backend: str) -> None:
    plain = tiny_model("llama")
    expected = read_all(plain, sites_of_layer(plain, 1))
    model = compiled(copy.deepcopy(plain))
    sites = sites_of_layer(model, 1)
    for _ in range(2):
        found = read_all(nnsight.NNsight(model) if backend == "nnsight" else model, sites, backend)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        with torch.inference_mode():
            model(input_ids=TOKENS, use_cache=False)


@pytest.mark.parametrize("compiled", [whole, by_block])
def test_a_compiled_model_is_cached(compiled: Callable[[Any], Any], tmp_path: Path) -> None:
    entries: list[Any] = []
    for i, model in enumerate((compiled(tiny_model("llama")), tiny_model("llama"))):
        attached = attach(model, {"layers.1.mlp": tiny_coder("topk")})
        cache = FeatureCache(model, attached)
        cache.run(tokens=TOKENS)
        cache.save_splits(2, tmp_path / str(i))
        entries.append(sorted(read_entries(CacheReader(tmp_path / str(i) / next(iter(attached))))))
    assert entries[0] == entries[1] != []

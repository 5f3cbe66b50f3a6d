"""A crosscoder over two layers: what is cached, and what a trace shows, are what a computation apart gives."""

from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders import load_autoencoders
from sae_auto_interp.autoencoders.attach import placement_of
from sae_auto_interp.autoencoders.families.crosscoder import load_crosscoder
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.features import CacheOptions, FeatureCache
from sae_auto_interp.models.activations import BACKENDS
from tests.autoencoders import families_single_files as single
from tests.autoencoders.families import WIDTH, Weights, Written
from tests.support.records import D_MODEL, plain_rows, tiny_gpt2

HOME = "transformer.h.1.mlp"
BETWEEN = "transformer.h.0"


def written(folder: Path, hooks: Any = ("blocks.0.hook_resid_post", "blocks.1.hook_mlp_out")) -> Written:
    """For two places of D_MODEL dimensions."""
    rng = np.random.default_rng(3)
    draws = [
        rng.normal(size=shape) for shape in ((WIDTH, 2 * D_MODEL), WIDTH, (WIDTH, 2 * D_MODEL), 2 * D_MODEL, WIDTH)
    ]
    return single.crosscoder(folder, Weights(*(draw.astype(np.float32) for draw in draws)), hooks)


def side_by_side(model: Any, ids: torch.Tensor) -> np.ndarray:
    """[rows, positions, 2 * D_MODEL], read with plain hooks."""
    caught: dict[str, torch.Tensor] = {}
    handles = [
        model.get_submodule(path).register_forward_hook(lambda _m, _a, out, path=path: caught.update({path: out}))
        for path in (BETWEEN, HOME)
    ]
    with torch.inference_mode():
        model(input_ids=ids)
    for handle in handles:
        handle.remove()
    return torch.cat([caught[BETWEEN], caught[HOME]], dim=-1).numpy()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_cached_is_the_code_of_both_layers_together(backend: str, tmp_path: Path) -> None:
    crosscoder, model = written(tmp_path), tiny_gpt2()
    attached = load_autoencoders(nnsight.NNsight(model), tmp_path / "crosscoder")
    assert list(attached) == [HOME]
    rows = plain_rows(6, 10, vocab=50)
    options = CacheOptions(activation_dtype="float32", backend=backend)
    cache = FeatureCache(model, attached, batch_size=4, options=options)
    cache.run(tokens=rows)
    cache.save_splits(2, tmp_path / "cache")
    found = np.zeros((rows.tokens.size, WIDTH), np.float32)
    from safetensors.numpy import load_file

    for file in (tmp_path / "cache" / HOME).glob("*_*.safetensors"):
        first = int(file.stem.partition("_")[0])
        arrays = load_file(file)
        counts = np.diff(arrays["offsets"].astype(np.int64))
        features = first + np.repeat(np.arange(len(counts)), counts)
        found[arrays["locations"], features] = arrays["activations"]
    x = side_by_side(model, torch.from_numpy(rows.tokens.astype(np.int64)))
    expected = crosscoder.encode(x.reshape(-1, 2 * D_MODEL))
    assert np.array_equal(found > 0, expected > 0)
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert (found > 0).any()


def test_a_trace_shows_the_code_and_what_is_reconstructed(tmp_path: Path) -> None:
    crosscoder, model = written(tmp_path), nnsight.NNsight(tiny_gpt2())
    attached = load_crosscoder(model, None, tmp_path / "crosscoder")
    ids = torch.tensor([[1, 2, 3, 4]])
    code: Any = None
    with torch.inference_mode(), model.trace(input_ids=ids):
        code = attached[HOME].ae.output.save()
    x = side_by_side(model._module, ids).reshape(-1, 2 * D_MODEL)
    np.testing.assert_allclose(code[0].numpy(), crosscoder.encode(x), rtol=1e-4, atol=1e-5)
    assert [str(site) for site in placement_of(attached[HOME]).sites] == [f"{BETWEEN}:out", f"{HOME}:out"]


def test_places_may_be_named_by_whoever_loads(tmp_path: Path) -> None:
    written(tmp_path, "blocks.1.hook_resid_pre")
    attached = load_crosscoder(tiny_gpt2(), ["h.0", "h.1.mlp"], tmp_path / "crosscoder")
    assert list(attached) == [HOME]


def test_places_of_other_dimensions_are_refused(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(WeightsError, match=r"reads 32 dimensions, but transformer\.h\.0:out and .*c_fc:out .* has 80"):
        load_crosscoder(tiny_gpt2(), ["h.0", "h.1.mlp.c_fc"], tmp_path / "crosscoder")


@pytest.mark.parametrize(
    ("hooks", "how"),
    [
        (("blocks.1.hook_mlp_out", "blocks.0.hook_resid_post"), "before"),
        (("blocks.1.hook_mlp_out", "blocks.1.hook_attn_out"), "before"),
        (("blocks.1.hook_mlp_out", "h.1.mlp"), "no later than"),
    ],
)
def test_places_out_of_the_order_of_the_forward_pass_are_refused(
    hooks: tuple[str, str], how: str, tmp_path: Path
) -> None:
    written(tmp_path, list(hooks))
    with pytest.raises(InputError, match=f"the forward pass reaches {hooks[1]} {how} {hooks[0]}; they must be in its"):
        load_autoencoders(nnsight.NNsight(tiny_gpt2()), tmp_path / "crosscoder")

"""Weight files in each family's own layout, and what each means: published formulas, written here in numpy alone.

Nothing here uses the library's readers, writers or encoder. Codes are [n, width], dense, in float64. Only which of
equal entries a top k keeps is asked of torch.topk, which is what the families' own code calls.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

D_IN, WIDTH, K = 12, 40, 5
Array = np.ndarray


@dataclass(frozen=True)
class Weights:
    """Latents are rows of both matrices, whatever a family's file says."""

    w_enc: Array
    b_enc: Array
    w_dec: Array
    b_dec: Array
    threshold: Array


@dataclass(frozen=True)
class Written:
    """A file and its meaning."""

    path: Path
    weights: Weights
    encode: Callable[[Array], Array]
    decode: Callable[[Array, Array], Array]


def random_weights(seed: int = 0, *, whole_numbers: bool = False) -> Weights:
    """With `whole_numbers`, small ones: pre-activations are then exact, and often equal 0 or a threshold."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 1.0) -> Array:
        values = rng.integers(-2, 3, shape) if whole_numbers else scale * rng.normal(size=shape)
        return values.astype(np.float32)

    thresholds = rng.integers(-1, 4, WIDTH) if whole_numbers else rng.normal(1, 1, WIDTH)
    return Weights(
        draw(WIDTH, D_IN),
        draw(WIDTH, scale=0.3),
        draw(WIDTH, D_IN),
        draw(D_IN, scale=0.3),
        thresholds.astype(np.float32),
    )


def pre_activations(w: Weights, x: Array, *, subtract: bool) -> Array:
    x = x.astype(np.float64)
    return (x - w.b_dec if subtract else x) @ w.w_enc.astype(np.float64).T + w.b_enc


def top_k(pre: Array, k: int) -> Array:
    """ReLU of the k largest of each row, zero elsewhere. Which are the largest is decided in float32, as in the
    families' own code."""
    best = torch.from_numpy(pre.astype(np.float32)).topk(k, dim=1).indices.numpy()
    kept = np.zeros_like(pre)
    np.put_along_axis(kept, best, np.maximum(np.take_along_axis(pre, best, axis=1), 0), axis=1)
    return kept


def normalised(x: Array) -> tuple[Array, Array, Array]:
    """OpenAI's layer norm: unbiased standard deviation, 1e-5 added to it; decoding multiplies with it as it is."""
    x = x.astype(np.float64)
    mean = x.mean(axis=1, keepdims=True)
    deviation = np.sqrt(((x - mean) ** 2).sum(axis=1, keepdims=True) / (x.shape[1] - 1))
    return (x - mean) / (deviation + 1e-5), mean, deviation


def plain_decode(w: Weights) -> Callable[[Array, Array], Array]:
    return lambda codes, x: codes @ w.w_dec.astype(np.float64) + w.b_dec


def scaled_decode(w: Weights) -> Callable[[Array, Array], Array]:
    def decode(codes: Array, x: Array) -> Array:
        _, mean, deviation = normalised(x)
        return plain_decode(w)(codes, x) * deviation + mean

    return decode


def openai_topk(folder: Path, w: Weights) -> Written:
    """github.com/openai/sparse_autoencoder, v5: layer norm, top k of raw pre-activations, then ReLU."""
    state = _openai_state(w) | {"activation": "TopK", "activation_state_dict": {"k": K, "postact_fn": "ReLU"}}
    torch.save(state, folder / "3.pt")
    return Written(
        folder / "3.pt", w, lambda x: top_k(pre_activations(w, normalised(x)[0], subtract=True), K), scaled_decode(w)
    )


def openai_relu(folder: Path, w: Weights) -> Written:
    """v1: no layer norm."""
    torch.save(_openai_state(w) | {"activation": "ReLU", "activation_state_dict": {}}, folder / "3.pt")
    return Written(folder / "3.pt", w, lambda x: np.maximum(pre_activations(w, x, subtract=True), 0), plain_decode(w))


def _openai_state(w: Weights) -> dict[str, Any]:
    statistics = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")
    return {
        "encoder.weight": torch.tensor(w.w_enc), "latent_bias": torch.tensor(w.b_enc),
        "decoder.weight": torch.tensor(w.w_dec.T.copy()), "pre_bias": torch.tensor(w.b_dec),
        **{name: torch.zeros(WIDTH) for name in statistics},
    }  # fmt: skip


def sparsify(folder: Path, w: Weights) -> Written:
    """github.com/EleutherAI/sparsify: ReLU, then top k; both matrices [width, d_in]."""
    directory = folder / "h.1"
    directory.mkdir()
    config = {
        "activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": WIDTH, "k": K,
        "multi_topk": False, "skip_connection": False, "transcode": False, "d_in": w.w_enc.shape[1], "a_later_field": 1,
    }  # fmt: skip
    (directory / "cfg.json").write_text(json.dumps(config))
    tensors = {"encoder.weight": w.w_enc, "encoder.bias": w.b_enc, "W_dec": w.w_dec, "b_dec": w.b_dec}
    save_file(tensors, directory / "sae.safetensors")
    return Written(
        directory, w, lambda x: top_k(np.maximum(pre_activations(w, x, subtract=True), 0), K), plain_decode(w)
    )


def saelens_config(**fields: Any) -> dict[str, Any]:
    """A version 6 cfg.json."""
    metadata = {
        "model_name": "tiny", "hook_name": "blocks.1.hook_resid_post", "hook_head_index": None, "prepend_bos": True,
        "sae_lens_version": "6.14.1", "model_from_pretrained_kwargs": {},
    }  # fmt: skip
    config = {
        "d_in": D_IN, "d_sae": WIDTH, "dtype": "float32", "device": "cpu", "architecture": "standard",
        "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
    }  # fmt: skip
    return config | {"metadata": metadata | fields.pop("metadata", {})} | fields


def flat_config(**fields: Any) -> dict[str, Any]:
    """A cfg.json of the versions before 6."""
    config = {
        "model_name": "tiny", "hook_point": "blocks.1.hook_mlp_out", "hook_point_layer": 1, "d_in": D_IN,
        "d_sae": WIDTH, "activation_fn_str": "relu", "normalize_activations": False, "prepend_bos": True,
    }  # fmt: skip
    return config | fields


def write_saelens(folder: Path, w: Weights, config: dict[str, Any], **extra: Array) -> Path:
    """W_enc is [d_in, width] in these files."""
    directory = folder / "my_sae"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cfg.json").write_text(json.dumps(config))
    tensors = {"W_enc": w.w_enc.T.copy(), "b_enc": w.b_enc, "W_dec": w.w_dec, "b_dec": w.b_dec, **extra}
    save_file(tensors, directory / "sae_weights.safetensors")
    return directory


def saelens_standard(folder: Path, w: Weights) -> Written:
    path = write_saelens(folder, w, saelens_config())
    return Written(path, w, lambda x: np.maximum(pre_activations(w, x, subtract=True), 0), plain_decode(w))


def saelens_without_input_bias(folder: Path, w: Weights) -> Written:
    path = write_saelens(folder, w, saelens_config(apply_b_dec_to_input=False))
    return Written(path, w, lambda x: np.maximum(pre_activations(w, x, subtract=False), 0), plain_decode(w))


def saelens_jumprelu(folder: Path, w: Weights) -> Written:
    """relu(p) where p is above its threshold; at the threshold it is silent."""
    path = write_saelens(folder, w, saelens_config(architecture="jumprelu"), threshold=w.threshold)

    def encode(x: Array) -> Array:
        pre = pre_activations(w, x, subtract=True)
        return np.maximum(pre, 0) * (pre > w.threshold)

    return Written(path, w, encode, plain_decode(w))


def saelens_topk(folder: Path, w: Weights) -> Written:
    path = write_saelens(folder, w, saelens_config(architecture="topk", k=K, normalize_activations="layer_norm"))
    return Written(path, w, lambda x: top_k(pre_activations(w, normalised(x)[0], subtract=True), K), scaled_decode(w))


def saelens_rescaled_topk(folder: Path, w: Weights) -> Written:
    """Pre-activations times the norm of their decoder rows before the top k; codes divided by it on decoding."""
    path = write_saelens(folder, w, saelens_config(architecture="topk", k=K, rescale_acts_by_decoder_norm=True))
    norms = np.linalg.norm(w.w_dec.astype(np.float64), axis=1)
    divided = np.divide(1, norms, out=np.ones_like(norms), where=norms > 0)
    return Written(
        path, w, lambda x: top_k(pre_activations(w, x, subtract=True) * norms, K),
        lambda codes, x: (codes * divided) @ w.w_dec.astype(np.float64) + w.b_dec,
    )  # fmt: skip


def flat_standard(folder: Path, w: Weights) -> Written:
    ones = np.ones(WIDTH, np.float32)
    path = write_saelens(folder, w, flat_config(), scaling_factor=ones)
    return Written(path, w, lambda x: np.maximum(pre_activations(w, x, subtract=True), 0), plain_decode(w))


def flat_topk(folder: Path, w: Weights) -> Written:
    path = write_saelens(folder, w, flat_config(activation_fn_str="topk", activation_fn_kwargs={"k": K}))
    return Written(path, w, lambda x: top_k(pre_activations(w, x, subtract=True), K), plain_decode(w))


TOP_K = (openai_topk, sparsify, saelens_topk, saelens_rescaled_topk, flat_topk)
ALL_OTHERS = (openai_relu, saelens_standard, saelens_without_input_bias, saelens_jumprelu, flat_standard)
ALL = (*TOP_K, *ALL_OTHERS)

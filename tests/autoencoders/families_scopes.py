"""Gemma Scope 1 and 2, Llama Scope (v1, R1, and lm-saes' v2) and Qwen Scope: files, and what they mean, in numpy alone.

Formulas: Gemma Scope's tutorial; for OpenMOSS, `encode` and `standardize_parameters_of_dataset_norm` of lm-saes, which
rescale the weights to raw activations. They are followed here step by step, and codes are then given in the scale of
training. Average norms are such that the scales are 2 and 4: exact in float32.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from tests.autoencoders.families import D_IN, WIDTH, Array, K, Weights, Written, plain_decode, pre_activations, top_k

S_IN, S_OUT = 2.0, 4.0
V1_THRESHOLD = 0.5
HOOK = "blocks.1.hook_resid_post"


def jump(pre: Array, threshold: Array | float) -> Array:
    return np.maximum(pre, 0) * (pre > threshold)


def gemma_scope(folder: Path, w: Weights, path: str = "layer_1/width_16k/average_l0_71") -> Written:
    directory = folder / path
    directory.mkdir(parents=True)
    np.savez(
        directory / "params.npz", W_enc=w.w_enc.T, b_enc=w.b_enc, W_dec=w.w_dec, b_dec=w.b_dec, threshold=w.threshold
    )
    return Written(directory, w, lambda x: jump(pre_activations(w, x, subtract=False), w.threshold), plain_decode(w))


def gemma_scope_embedding(folder: Path, w: Weights) -> Written:
    """Trained on embeddings that the model then multiplies by sqrt(d): x here is what the model has."""
    written = gemma_scope(folder, w, "embedding/width_4k/average_l0_111")
    root = math.sqrt(w.w_enc.shape[1])
    return Written(
        written.path, w, lambda x: written.encode(x / root), lambda codes, x: root * written.decode(codes, x / root)
    )


def gemma_scope_2(
    folder: Path, w: Weights, path: str = "resid_post/layer_1_width_16k_l0_medium", **config: Any
) -> Written:
    directory = folder / path
    directory.mkdir(parents=True, exist_ok=True)
    settings = {
        "architecture": "jump_relu", "model_name": "gemma-v3-1b-pt", "width": WIDTH, "l0": 60,
        "hf_hook_point_in": "model.layers.1.output",
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(settings | config))
    save_file(gemma_tensors(w), directory / "params.safetensors")
    return Written(directory, w, lambda x: jump(pre_activations(w, x, subtract=False), w.threshold), plain_decode(w))


def gemma_scope_2_affine(folder: Path, w: Weights) -> Written:
    """A transcoder with `y += x @ affine_skip_connection`."""
    written = gemma_scope_2(
        folder, w, "transcoder/layer_1_width_16k_l0_medium_affine", affine_connection=True,
        hf_hook_point_in="model.layers.1.pre_feedforward_layernorm.output",
        hf_hook_point_out="model.layers.1.post_feedforward_layernorm.output",
    )  # fmt: skip
    skip = skip_matrix()
    save_file(gemma_tensors(w) | {"affine_skip_connection": skip}, written.path / "params.safetensors")
    return Written(written.path, w, written.encode, lambda codes, x: written.decode(codes, x) + x @ skip)


def gemma_scope_2_cross_layer(folder: Path, w: Weights, layer: int = 1) -> Written:
    """One layer of a cross-layer transcoder of 3: w_dec [width, 3, d]."""
    directory = folder / "clt" / "width_16k_l0_medium"
    directory.mkdir(parents=True, exist_ok=True)
    parts = np.stack([w.w_dec, -0.5 * w.w_dec, 0.25 * w.w_dec], axis=1)
    save_file(gemma_tensors(w) | {"w_dec": parts}, directory / f"params_layer_{layer}.safetensors")
    decode: Callable[[Array, Array], Array] = lambda codes, x: codes @ parts.sum(axis=1) + w.b_dec  # noqa: E731
    encode: Callable[[Array], Array] = lambda x: jump(pre_activations(w, x, subtract=False), w.threshold)  # noqa: E731
    return Written(directory / f"params_layer_{layer}.safetensors", w, encode, decode)


def gemma_tensors(w: Weights) -> dict[str, Array]:
    return {
        "w_enc": w.w_enc.T.copy(), "b_enc": w.b_enc, "w_dec": w.w_dec, "b_dec": w.b_dec, "threshold": w.threshold,
    }  # fmt: skip


def skip_matrix() -> Array:
    return np.random.default_rng(8).normal(size=(D_IN, D_IN)).astype(np.float32)


def openmoss_config(**fields: Any) -> dict[str, Any]:
    root = math.sqrt(D_IN)
    config = {
        "d_model": D_IN, "d_sae": WIDTH, "expansion_factor": WIDTH / D_IN, "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False, "act_fn": "jumprelu", "top_k": K, "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": root / S_IN, "out": root / S_OUT}, "hook_point_in": HOOK,
        "hook_point_out": "blocks.1.hook_mlp_out", "use_glu_encoder": False,
    }  # fmt: skip
    return config | fields


def of_lm_saes(w: Weights, includes_norm: bool, select: Callable[[Array], Array]) -> Any:
    """`standardize_parameters_of_dataset_norm`, then `encode`; codes times s_in are those of training."""
    b_enc, w_dec = w.b_enc / S_IN, w.w_dec.astype(np.float64) * S_IN / S_OUT

    def encode(x: Array) -> Array:
        pre = x.astype(np.float64) @ w.w_enc.astype(np.float64).T + b_enc
        norms = np.linalg.norm(w_dec, axis=1)
        return S_IN * pre * (select(pre * norms if includes_norm else pre) > 0)

    return encode, lambda codes, x: (codes / S_IN) @ w_dec + w.b_dec / S_OUT


def linear(w: Weights) -> dict[str, Array]:
    return {
        "encoder.weight": w.w_enc, "encoder.bias": w.b_enc, "decoder.weight": w.w_dec.T.copy(), "decoder.bias": w.b_dec,
    }  # fmt: skip


def llama_scope(folder: Path, w: Weights, **fields: Any) -> Written:
    """v1: lm-saes compares one threshold with what it has after rescaling."""
    directory = folder / "Llama3_1-8B-Base-L1R-8x"
    (directory / "checkpoints").mkdir(parents=True)
    config = openmoss_config(jump_relu_threshold=V1_THRESHOLD, **fields)
    (directory / "hyperparams.json").write_text(json.dumps(config))
    save_file(linear(w), directory / "checkpoints" / "final.safetensors")
    includes_norm = bool(fields.get("sparsity_include_decoder_norm"))
    return Written(directory, w, *of_lm_saes(w, includes_norm, lambda scores: jump(scores, V1_THRESHOLD)))


def llama_scope_with_decoder_norm(folder: Path, w: Weights) -> Written:
    return llama_scope(folder, w, sparsity_include_decoder_norm=True)


def llama_scope_r1(folder: Path, w: Weights) -> Written:
    """A threshold per feature, in the scale of training."""
    directory = folder / "400M-Slimpajama-400M-OpenR1-Math-220k" / "L1R"
    threshold = np.abs(w.threshold) + 0.5
    _v2(directory, linear(w) | {"log_jumprelu_threshold": np.log(threshold)}, openmoss_config())
    return Written(directory, w, *of_lm_saes(w, False, lambda scores: jump(scores, threshold / S_IN)))


def openmoss_jump_relu(folder: Path, w: Weights) -> Written:
    threshold = np.abs(w.threshold) + 0.5
    state = _row_vector(w) | {"activation_function.log_jumprelu_threshold": np.log(threshold)} | _saved_norms()
    config = openmoss_config(sparsity_include_decoder_norm=True, dataset_average_activation_norm=None)
    _v2(folder / "sae", state, config)
    return Written(folder / "sae", w, *of_lm_saes(w, True, lambda scores: jump(scores, threshold / S_OUT)))


def openmoss_top_k(folder: Path, w: Weights) -> Written:
    _v2(folder / "sae", _row_vector(w), openmoss_config(sparsity_include_decoder_norm=True, act_fn="topk"))
    return Written(folder / "sae", w, *of_lm_saes(w, True, lambda scores: top_k(scores, K)))


def openmoss_token_wise(folder: Path, w: Weights) -> Written:
    """Each vector is given the norm sqrt(d), and the reconstruction its own norm back."""
    _v2(
        folder / "sae",
        _row_vector(w),
        openmoss_config(act_fn="relu", norm_activation="token-wise", hook_point_out=HOOK),
    )

    def scale(x: Array) -> Array:
        norm = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
        return math.sqrt(D_IN) / np.where(norm > 0, norm, math.sqrt(D_IN))

    return Written(
        folder / "sae", w, lambda x: np.maximum(pre_activations(w, x * scale(x), subtract=False), 0),
        lambda codes, x: plain_decode(w)(codes, x) / scale(x),
    )  # fmt: skip


def _row_vector(w: Weights) -> dict[str, Array]:
    return {"W_E": w.w_enc.T.copy(), "b_E": w.b_enc, "W_D": w.w_dec, "b_D": w.b_dec}


def _saved_norms() -> dict[str, Array]:
    root = math.sqrt(D_IN)
    name = "dataset_average_activation_norm"
    return {
        f"{name}.{HOOK}": np.array([root / S_IN], np.float32),
        f"{name}.blocks.1.hook_mlp_out": np.array([root / S_OUT], np.float32),
    }


def _v2(directory: Path, state: dict[str, Array], config: dict[str, Any]) -> None:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file(
        {name: np.asarray(value, np.float32) for name, value in state.items()}, directory / "sae_weights.safetensors"
    )


def qwen_scope(folder: Path, w: Weights) -> Written:
    directory = folder / f"SAE-Res-Qwen3-1.7B-Base-W32K-L0_{K}"
    directory.mkdir()
    state = {"W_enc": w.w_enc, "W_dec": w.w_dec.T.copy(), "b_enc": w.b_enc, "b_dec": w.b_dec}
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, directory / "layer1.sae.pt")
    return Written(
        directory / "layer1.sae.pt", w, lambda x: top_k(pre_activations(w, x, subtract=False), K), plain_decode(w)
    )

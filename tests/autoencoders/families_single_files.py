"""Goodfire, qresearch, circuit-tracer and crosscoders: files, and what they mean, in numpy alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.numpy import save_file

from tests.autoencoders.families import WIDTH, Array, Weights, Written, plain_decode, pre_activations
from tests.autoencoders.families_scopes import jump, skip_matrix

CONFIG = {
    "model_name": "some/model", "model_kind": "transcoder_set", "feature_input_hook": "mlp.hook_in",
    "feature_output_hook": "hook_mlp_out", "scan": "a-scan",
}  # fmt: skip


def relu_written(path: Path, w: Weights) -> Written:
    return Written(path, w, lambda x: np.maximum(pre_activations(w, x, subtract=False), 0), plain_decode(w))


def goodfire(folder: Path, w: Weights, encoder: str = "encoder_linear", decoder: str = "decoder_linear") -> Written:
    path = folder / "Llama-3.1-8B-Instruct-SAE-l1.pth"
    state = {
        f"{encoder}.weight": w.w_enc, f"{encoder}.bias": w.b_enc, f"{decoder}.weight": w.w_dec.T.copy(),
        f"{decoder}.bias": w.b_dec,
    }  # fmt: skip
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
    return relu_written(path, w)


def qresearch(folder: Path, w: Weights) -> Written:
    written = goodfire(folder, w, "encoder", "decoder")
    return relu_written(written.path.rename(folder / "DeepSeek-R1-Distill-Llama-8B-SAE-l1.pt"), w)


def per_layer_transcoder(folder: Path, w: Weights, config: dict[str, Any] = CONFIG) -> Written:
    """ReLU, with a skip connection: y += x @ W_skip.T."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    skip = skip_matrix()
    save_file(_tensors(w) | {"W_skip": skip}, folder / "layer_1.safetensors")
    written = relu_written(folder / "layer_1.safetensors", w)
    return Written(written.path, w, written.encode, lambda codes, x: plain_decode(w)(codes, x) + x @ skip.T)


def jump_relu_transcoder(folder: Path, w: Weights) -> Written:
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    save_file(_tensors(w) | {"activation_function.threshold": w.threshold}, folder / "layer_1.safetensors")
    return Written(
        folder / "layer_1.safetensors", w, lambda x: jump(pre_activations(w, x, subtract=False), w.threshold),
        plain_decode(w),
    )  # fmt: skip


def cross_layer_transcoder(folder: Path, w: Weights) -> Written:
    """W_dec_1 [width, 2, d]: to layers 1 and 2."""
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"model_kind": "cross_layer_transcoder"}))
    encoder = {"W_enc_1": w.w_enc, "b_enc_1": w.b_enc, "b_dec_1": w.b_dec, "threshold_1": w.threshold[None]}
    parts = np.stack([w.w_dec, 0.5 * w.w_dec], axis=1)
    save_file(encoder, folder / "W_enc_1.safetensors")
    save_file({"W_dec_1": parts}, folder / "W_dec_1.safetensors")
    return Written(
        folder / "W_enc_1.safetensors", w, lambda x: jump(pre_activations(w, x, subtract=False), w.threshold),
        lambda codes, x: codes @ parts.astype(np.float64).sum(axis=1) + w.b_dec,
    )  # fmt: skip


def crosscoder(folder: Path, w: Weights, hooks: Any = ("blocks.0.hook_resid_post", "blocks.1.hook_mlp_out")) -> Written:
    """Two places of half the dimensions each: f = ReLU(x_0 @ W_enc[0] + x_1 @ W_enc[1] + b_enc)."""
    half = w.w_enc.shape[1] // 2
    w_enc = w.w_enc.reshape(WIDTH, 2, half).transpose(1, 2, 0)
    w_dec = w.w_dec.reshape(WIDTH, 2, half)
    state = {"W_enc": w_enc.copy(), "b_enc": w.b_enc, "W_dec": w_dec, "b_dec": w.b_dec.reshape(2, half)}
    directory = folder / "crosscoder"
    directory.mkdir(parents=True, exist_ok=True)
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, directory / "cc_weights.pt")
    name = "hook_point" if isinstance(hooks, str) else "hook_points"
    (directory / "cfg.json").write_text(
        json.dumps({"dict_size": WIDTH, "d_in": half, name: hooks, "model_name": "tiny"})
    )

    def encode(x: Array) -> Array:
        parts = x.astype(np.float64).reshape(len(x), 2, half)
        return np.maximum(np.einsum("nid,idw->nw", parts, w_enc.astype(np.float64)) + w.b_enc, 0)

    def decode(codes: Array, x: Array) -> Array:
        return (np.einsum("nw,wid->nid", codes, w_dec.astype(np.float64)) + w.b_dec.reshape(2, half)).reshape(
            len(x), -1
        )

    return Written(directory, w, encode, decode)


def _tensors(w: Weights) -> dict[str, Array]:
    return {"W_enc": w.w_enc, "b_enc": w.b_enc, "W_dec": w.w_dec, "b_dec": w.b_dec}

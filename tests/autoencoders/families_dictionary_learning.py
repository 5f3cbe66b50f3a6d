"""`trainer_0/ae.pt` and `config.json` of every class of dictionary_learning, and what each means, in numpy alone.

Formulas of github.com/saprmarks/dictionary_learning (`dictionary.py`, `trainers/*.py`).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.autoencoders.families import WIDTH, Array, K, Weights, Written, plain_decode, pre_activations, top_k

THRESHOLD = 2.0
GROUPS = (8, 12, 20)


def config(dict_class: str, **trainer: Any) -> dict[str, Any]:
    """As the trainers and buffers of the family write it."""
    buffer = {"d_submodule": 12, "io": "out", "ctx_len": 128, "remove_bos": True} | trainer.pop("buffer", {})
    given = {
        "dict_class": dict_class, "trainer_class": "SomeTrainer", "layer": 1, "lm_name": "some/model", "k": K,
        "submodule_name": "resid_post_layer_1", "norm_factor": 7.5, "device": "cuda:0",
    }  # fmt: skip
    return {"trainer": given | trainer, "buffer": buffer}


def write(folder: Path, state: dict[str, Any], settings: dict[str, Any], name: str = "trainer_0") -> Path:
    directory = folder / name
    directory.mkdir(parents=True, exist_ok=True)
    torch.save({key: torch.as_tensor(value) for key, value in state.items()}, directory / "ae.pt")
    (directory / "config.json").write_text(json.dumps(settings))
    return directory


def linear(w: Weights, bias: str) -> dict[str, Any]:
    return {
        "encoder.weight": w.w_enc, "encoder.bias": w.b_enc, "decoder.weight": w.w_dec.T.copy(), bias: w.b_dec,
    }  # fmt: skip


def matrices(w: Weights) -> dict[str, Any]:
    return {"W_enc": w.w_enc.T.copy(), "b_enc": w.b_enc, "W_dec": w.w_dec, "b_dec": w.b_dec}


def norms(w: Weights) -> Array:
    found = np.linalg.norm(w.w_dec.astype(np.float64), axis=1)
    return np.where(found > 0, found, 1)


def divided(w: Weights, codes: Array) -> Array:
    """What codes that were multiplied by the norms of their decoder rows reconstruct."""
    return (codes / norms(w)) @ w.w_dec.astype(np.float64) + w.b_dec


def auto_encoder(folder: Path, w: Weights) -> Written:
    """`from_pretrained` normalises the decoder."""
    path = write(folder, linear(w, "bias"), config("AutoEncoder"))
    return Written(
        path, w, lambda x: np.maximum(pre_activations(w, x, subtract=True), 0) * norms(w),
        lambda codes, x: divided(w, codes),
    )  # fmt: skip


def auto_encoder_new(folder: Path, w: Weights) -> Written:
    path = write(folder, linear(w, "decoder.bias"), config("AutoEncoderNew"))
    return Written(path, w, lambda x: np.maximum(pre_activations(w, x, subtract=False), 0), plain_decode(w))


def gated(folder: Path, w: Weights) -> Written:
    """The gate opens above zero, not at zero."""
    r_mag, mag_bias = w.threshold / 8, w.b_enc  # exact, also of half precision
    state = linear(w, "decoder_bias") | {"r_mag": r_mag, "gate_bias": -w.threshold, "mag_bias": mag_bias}
    del state["encoder.bias"]
    path = write(folder, state, config("GatedAutoEncoder"))

    def encode(x: Array) -> Array:
        u = pre_activations(w, x, subtract=True) - w.b_enc
        return (u - w.threshold > 0) * np.maximum(np.exp(r_mag.astype(np.float64)) * u + mag_bias, 0)

    return Written(path, w, encode, plain_decode(w))


def jump_relu(folder: Path, w: Weights) -> Written:
    path = write(folder, matrices(w) | {"threshold": w.threshold}, config("JumpReluAutoEncoder"))

    def encode(x: Array) -> Array:
        pre = pre_activations(w, x, subtract=False)
        return np.maximum(pre * (pre > w.threshold), 0)

    return Written(path, w, encode, plain_decode(w))


def top_k_of_each(folder: Path, w: Weights) -> Written:
    """Its threshold is saved and not used."""
    state = linear(w, "b_dec") | {"k": np.int32(K), "threshold": np.float32(THRESHOLD)}
    path = write(folder, state, config("AutoEncoderTopK"))
    return Written(path, w, lambda x: top_k(np.maximum(pre_activations(w, x, subtract=True), 0), K), plain_decode(w))


def batch_top_k(folder: Path, w: Weights) -> Written:
    state = linear(w, "b_dec") | {"k": np.int32(K), "threshold": np.float32(THRESHOLD)}
    path = write(folder, state, config("BatchTopKSAE"))

    def encode(x: Array) -> Array:
        post = np.maximum(pre_activations(w, x, subtract=True), 0)
        return post * (post > THRESHOLD)

    return Written(path, w, encode, plain_decode(w))


def batch_top_k_without_threshold(folder: Path, w: Weights) -> Written:
    """-1: never estimated in training."""
    state = linear(w, "b_dec") | {"k": np.int32(K), "threshold": np.float32(-1)}
    path = write(folder, state, config("BatchTopKSAE"))
    return Written(path, w, lambda x: top_k(np.maximum(pre_activations(w, x, subtract=True), 0), K), plain_decode(w))


def matryoshka(folder: Path, w: Weights, threshold: float = THRESHOLD) -> Written:
    state = matrices(w) | {"k": np.int32(K), "threshold": np.float32(threshold), "group_sizes": np.array(GROUPS)}
    path = write(folder, state, config("MatryoshkaBatchTopKSAE"))

    def encode(x: Array) -> Array:
        post = np.maximum(pre_activations(w, x, subtract=True), 0)
        return post * (post > threshold)

    return Written(path, w, encode, plain_decode(w))


def matryoshka_without_threshold(folder: Path, w: Weights) -> Written:
    written = matryoshka(folder, w, threshold=-1)
    return Written(
        written.path, w, lambda x: top_k(np.maximum(pre_activations(w, x, subtract=True), 0), K), plain_decode(w)
    )


def first_groups(codes: Array, n: int) -> Array:
    """What `active_groups` = n leaves of codes."""
    return codes * (np.arange(WIDTH) < sum(GROUPS[:n]))

"""Writes the files beside it with dictionary_learning's own classes; run it where its version 0.1.0 is.

    python tests/autoencoders/written_by_dictionary_learning/make.py

What its `encode` and `decode` give for a few activations is in expected.safetensors: `{name}.x`, `.codes`, `.decoded`.
Its `from_pretrained` is used where it does something beyond loading (AutoEncoder's decoder).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from dictionary_learning import dictionary  # pyright: ignore[reportMissingImports]
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE  # pyright: ignore[reportMissingImports]
from dictionary_learning.trainers.matryoshka_batch_top_k import (  # pyright: ignore[reportMissingImports]
    MatryoshkaBatchTopKSAE,
)
from dictionary_learning.trainers.top_k import AutoEncoderTopK  # pyright: ignore[reportMissingImports]
from safetensors.torch import save_file

HERE = Path(__file__).parent
D_IN, WIDTH, K, N = 16, 40, 5, 32
GROUPS = [8, 12, 20]


def randomised(made: Any, seed: int, **buffers: float) -> Any:
    """Every parameter drawn anew, so that none is left at zero or tied to another."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    for name, value in buffers.items():
        getattr(made, name).fill_(value)
    return made


MADE: dict[str, Callable[[], Any]] = {
    "AutoEncoder": lambda: randomised(dictionary.AutoEncoder(D_IN, WIDTH), 0),
    "AutoEncoderNew": lambda: randomised(dictionary.AutoEncoderNew(D_IN, WIDTH), 1),
    "GatedAutoEncoder": lambda: randomised(dictionary.GatedAutoEncoder(D_IN, WIDTH), 2),
    "JumpReluAutoEncoder": lambda: randomised(dictionary.JumpReluAutoEncoder(D_IN, WIDTH), 3),
    "AutoEncoderTopK": lambda: randomised(AutoEncoderTopK(D_IN, WIDTH, K), 4, threshold=3.0),
    "BatchTopKSAE": lambda: randomised(BatchTopKSAE(D_IN, WIDTH, K), 5, threshold=3.0),
    "MatryoshkaBatchTopKSAE": lambda: randomised(MatryoshkaBatchTopKSAE(D_IN, WIDTH, K, GROUPS), 6, threshold=3.0),
}


def config(name: str, layer: int) -> dict[str, Any]:
    """As the family's trainers and buffers write it."""
    trainer = {
        "dict_class": name, "activation_dim": D_IN, "dict_size": WIDTH, "k": K, "layer": layer, "lm_name": "some/model",
        "submodule_name": f"resid_post_layer_{layer}", "norm_factor": 7.5, "wandb_name": name, "device": "cpu",
    }  # fmt: skip
    return {"trainer": trainer, "buffer": {"d_submodule": D_IN, "io": "out", "ctx_len": 128, "remove_bos": True}}


def main() -> None:
    expected: dict[str, torch.Tensor] = {}
    x = 2 * torch.randn(N, D_IN, generator=torch.Generator().manual_seed(9))
    for layer, (name, make) in enumerate(MADE.items()):
        folder = HERE / name / "trainer_0"
        folder.mkdir(parents=True, exist_ok=True)
        made = make()
        torch.save(made.state_dict(), folder / "ae.pt")
        (folder / "config.json").write_text(json.dumps(config(name, layer), indent=1) + "\n")
        if name == "AutoEncoder":
            made = type(made).from_pretrained(folder / "ae.pt")
        with torch.no_grad():
            codes = made.encode(x)
            expected |= {f"{name}.x": x.clone(), f"{name}.codes": codes.clone(), f"{name}.decoded": made.decode(codes)}
    save_file(expected, HERE / "expected.safetensors")


if __name__ == "__main__":
    main()

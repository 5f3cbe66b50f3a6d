"""Writes the directories beside it with sparsify's own class; run it in an environment that has eai-sparsify 1.3.3.

    python scripts/setup_conformance.py .venv-conformance
    .venv-conformance/bin/python tests/autoencoders/written_by_sparsify/make.py

As in `written_by_sae_lens/make.py`: directories as sparsify saves them, with what it made of inputs after it had read
them again. Files of its first version are the same tensors with a shorter cfg.json.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from sparsify import SparseCoder, SparseCoderConfig  # pyright: ignore[reportMissingImports]
from torch import Tensor

HERE = Path(__file__).parent
D_IN, N, WIDTH, K = 8, 16, 136, 2
CASES = {
    "topk": {},
    "groupmax": {"activation": "groupmax", "k": 8},
    "transcoder": {"transcode": True},
    "skip_transcoder": {"transcode": True, "skip_connection": True},
    "skip_autoencoder": {"skip_connection": True},
    "by_expansion": {"num_latents": 0, "expansion_factor": 17},
}


def drawn(generator: torch.Generator, shape: tuple[int, ...], whole: bool) -> Tensor:
    if whole:
        return torch.randint(-2, 3, shape, generator=generator).float()
    return torch.randn(shape, generator=generator)


def inputs(generator: torch.Generator, whole: bool, b_dec: Tensor) -> Tensor:
    """Also of huge and of tiny norm, constant, equal to the bias, and all zeros."""
    x = drawn(generator, (N, D_IN), whole)
    x[0] = 0
    x[1] = 3
    x[2] = b_dec
    x[3] *= 2.0**30
    x[4] *= 2.0**-20
    x[5, 1:] = 0
    x[6] = x[7]
    return x


def write_expected(directory: Path, generator: torch.Generator, whole: bool) -> None:
    coder = SparseCoder.load_from_disk(directory)
    x = inputs(generator, whole, coder.b_dec.detach())
    with torch.no_grad():
        values, columns, _ = coder.encode(x)
        out = coder(x).sae_out
    rows = torch.arange(len(x))[:, None].expand_as(columns)
    fires = values > 0
    entries = {"rows": rows[fires].byte(), "columns": columns[fires].byte(), "values": values[fires]}
    save_file({"x": x, "out": out, **entries}, directory / "expected.safetensors")


def write_case(name: str, whole: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    config = SparseCoderConfig(**{"num_latents": WIDTH, "k": K, **CASES[name]})
    coder = SparseCoder(D_IN, config)
    for value in coder.parameters():
        value.data = drawn(generator, tuple(value.shape), whole)
    directory = HERE / f"{name}{'_whole' if whole else ''}"
    coder.save_to_disk(directory)
    write_expected(directory, generator, whole)


def write_old(seed: int) -> None:
    """Before there were transcoders and a choice of activations."""
    write_case("topk", False, seed)
    directory = HERE / "old"
    directory.mkdir(exist_ok=True)
    (HERE / "topk" / "sae.safetensors").rename(directory / "sae.safetensors")
    config = {"expansion_factor": 17, "normalize_decoder": True, "num_latents": WIDTH, "k": K, "d_in": D_IN}
    (directory / "cfg.json").write_text(json.dumps({**config, "signed": False}))
    write_expected(directory, torch.Generator().manual_seed(seed), whole=False)


def main() -> None:
    write_old(99)
    for seed, name in enumerate(CASES):
        for whole in (False, True):
            write_case(name, whole, 2 * seed + whole)


if __name__ == "__main__":
    main()

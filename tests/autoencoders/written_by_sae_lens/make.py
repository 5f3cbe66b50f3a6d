"""Writes the directories beside it with SAELens' own classes; run it in an environment that has sae-lens 6.54.12.

    python scripts/setup_conformance.py .venv-conformance
    .venv-conformance/bin/python tests/autoencoders/written_by_sae_lens/make.py

Every case is a directory as SAELens saves it, and in `expected.safetensors` the inputs, and what SAELens made of them
after it had read the directory again: the entries of the codes, and the reconstructions. Each architecture comes with
random weights, and (where inputs are not normalised) with whole numbers, whose pre-activations are exact and often
equal to each other, 0 or a threshold.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE  # pyright: ignore[reportMissingImports]
from sae_lens.registry import get_sae_class, get_sae_training_class  # pyright: ignore[reportMissingImports]
from safetensors.torch import save_file
from torch import Tensor

HERE = Path(__file__).parent
D_IN, D_OUT, N, N_HEADS = 8, 6, 16, 2
WIDTH, TOPK_WIDTH, K = 20, 136, 2
LN = {"normalize_activations": "layer_norm"}
RAW = {"apply_b_dec_to_input": False}
CASES = {
    "standard": ("standard", {}),
    "standard_raw_input": ("standard", RAW),
    "standard_constant_norm": ("standard", {"normalize_activations": "constant_norm_rescale"}),
    "hook_z": ("standard", {"reshape_activations": "hook_z"}),
    "gated": ("gated", {}),
    "topk": ("topk", {"k": K}),
    "topk_layer_norm": ("topk", {"k": K, **LN}),
    "topk_rescaled": ("topk", {"k": K, "rescale_acts_by_decoder_norm": True}),
    "abstopk": ("abstopk", {"k": K}),
    "abstopk_rescaled": ("abstopk", {"k": K, "rescale_acts_by_decoder_norm": True}),
    "jumprelu": ("jumprelu", {}),
    "jumprelu_layer_norm": ("jumprelu", LN),
    "transcoder": ("transcoder", RAW),
    "skip_transcoder": ("skip_transcoder", RAW),
    "jumprelu_transcoder": ("jumprelu_transcoder", RAW),
    "jumprelu_skip_transcoder": ("jumprelu_skip_transcoder", RAW),
}
FLAT = {
    "flat_standard": ({}, True),
    "flat_topk": ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, **LN}, False),
    "flat_gated": ({"architecture": "gated"}, False),
    "flat_jumprelu": ({"architecture": "jumprelu", "apply_b_dec_to_input": False}, False),
    "flat_hook_z": ({"hook_name": "blocks.1.attn.hook_z"}, False),
}


def drawn(generator: torch.Generator, shape: tuple[int, ...], whole: bool) -> Tensor:
    if whole:
        return torch.randint(-2, 3, shape, generator=generator).float()
    return torch.randn(shape, generator=generator)


def inputs(generator: torch.Generator, whole: bool, b_dec: Tensor) -> Tensor:
    """Also of huge and of tiny norm, constant, equal to the bias, and all zeros."""
    x = drawn(generator, (N, D_IN), whole) * (1 if whole else 2)
    x[0] = 0
    x[1] = 3
    if len(b_dec) == D_IN:
        x[2] = b_dec
    x[3] *= 2.0**30
    x[4] *= 2.0**-20
    x[5, 1:] = 0
    x[6] = x[7]
    return x


def entries(codes: Tensor) -> dict[str, Tensor]:
    rows, columns = codes.nonzero(as_tuple=True)
    return {"rows": rows.byte(), "columns": columns.byte(), "values": codes[rows, columns]}


def write_expected(directory: Path, generator: torch.Generator, whole: bool) -> None:
    sae = SAE.load_from_disk(directory)
    x = inputs(generator, whole, sae.b_dec.detach())
    if sae.cfg.normalize_activations == "constant_norm_rescale":
        x = x[(x != 0).any(1)]
    given = x.reshape(len(x), N_HEADS, -1) if sae.cfg.reshape_activations == "hook_z" else x
    with torch.no_grad():
        codes = sae.encode(given)
        out = sae(given).reshape(len(x), -1)
    save_file({"x": x, "out": out.contiguous(), **entries(codes)}, directory / "expected.safetensors")


def metadata(name: str) -> dict[str, Any]:
    hook = "blocks.1.attn.hook_z" if name == "hook_z" else "blocks.1.hook_resid_post"
    found: dict[str, Any] = {
        "model_name": "tiny",
        "hook_name": hook,
        "prepend_bos": False,
        "context_size": 64,
        "dataset_path": "texts",
    }
    if name.endswith("transcoder"):
        found |= {"hook_name": "blocks.1.hook_mlp_in", "hook_name_out": "blocks.1.hook_mlp_out"}
    return found


def fill(sae: Any, generator: torch.Generator, whole: bool) -> None:
    for value in sae.parameters():
        value.data = drawn(generator, tuple(value.shape), whole)
    if whole and hasattr(sae, "r_mag"):  # its exponential would not be exact
        sae.r_mag.data.zero_()
    if whole and getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):  # equal norms, for ties
        sae.W_dec.data = torch.where(sae.W_dec.data > 0, 1.0, -1.0)


def write_case(name: str, whole: bool, seed: int) -> None:
    architecture, settings = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    width = TOPK_WIDTH if "k" in settings else WIDTH
    config = {
        "d_in": D_IN, "d_sae": width, "architecture": architecture, "metadata": metadata(name), **settings,
        **({"d_out": D_OUT} if architecture.endswith("transcoder") else {}),
    }  # fmt: skip
    sae_class, config_class = get_sae_class(architecture)
    sae = sae_class(config_class.from_dict(config))
    fill(sae, generator, whole)
    directory = HERE / f"{name}{'_whole' if whole else ''}"
    sae.save_model(directory)
    write_expected(directory, generator, whole)


def write_flat(name: str, whole: bool, seed: int) -> None:
    """Files of the versions before 6, which SAELens no longer writes but still reads."""
    settings, has_scaling = FLAT[name]
    generator = torch.Generator().manual_seed(seed)
    width = TOPK_WIDTH if "topk" in name else WIDTH
    config = {
        "model_name": "tiny", "hook_point": "blocks.1.hook_mlp_out", "hook_point_layer": 1, "d_in": D_IN,
        "hook_point_head_index": None, "d_sae": width, "activation_fn_str": "relu", "dtype": "float32",
        "device": "cpu", "normalize_activations": False, "context_size": 64, "dataset_path": "texts",
    } | settings  # fmt: skip
    shapes = {"W_enc": (D_IN, width), "W_dec": (width, D_IN), "b_dec": (D_IN,), "b_enc": (width,)}
    if config.get("architecture") == "gated":
        shapes |= {"b_gate": (width,), "b_mag": (width,), "r_mag": (width,)}
        del shapes["b_enc"]
    if config.get("architecture") == "jumprelu":
        shapes["threshold"] = (width,)
    weights = {key: drawn(generator, shape, whole) for key, shape in shapes.items()}
    if whole and "r_mag" in weights:
        weights["r_mag"].zero_()
    if has_scaling:
        weights["scaling_factor"] = torch.ones(width)
    directory = HERE / f"{name}{'_whole' if whole else ''}"
    directory.mkdir(exist_ok=True)
    (directory / "cfg.json").write_text(json.dumps(config) + "\n")
    save_file(weights, directory / "sae_weights.safetensors")
    write_expected(directory, generator, whole)


def write_trained(architecture: str, settings: dict[str, object], seed: int) -> None:
    """What is trained as another architecture, as its training class saves it for use."""
    generator = torch.Generator().manual_seed(seed)
    training_class, config_class = get_sae_training_class(architecture)
    sae = training_class(
        config_class.from_dict({"d_in": D_IN, "d_sae": WIDTH, "architecture": architecture, **settings})
    )
    sae.cfg.metadata.hook_name = "blocks.1.hook_resid_post"
    fill(sae, generator, whole=False)
    sae.topk_threshold.fill_(0.75)
    directory = HERE / architecture
    sae.save_inference_model(directory)
    write_expected(directory, generator, whole=False)


def main() -> None:
    warnings.simplefilter("ignore")
    for seed, name in enumerate(CASES):
        for whole in (False, True) if CASES[name][1].get("normalize_activations") is None else (False,):
            write_case(name, whole, 2 * seed + whole)
    for seed, name in enumerate(FLAT, start=100):
        for whole in (False, True) if "normalize_activations" not in FLAT[name][0] else (False,):
            write_flat(name, whole, 2 * seed + whole)
    write_trained("batchtopk", {"k": 4}, 301)
    write_trained("matryoshka_batchtopk", {"k": 4, "matryoshka_widths": [8, 20]}, 302)


if __name__ == "__main__":
    main()

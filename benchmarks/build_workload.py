"""Make the files of a workload, once: the model and tokenizer in Hugging Face's format, the autoencoder, the tokens.

TopK weights are in sparsify's layout, which the peer reads too; ReLU and JumpReLU weights in SAELens'.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from benchmarks.bare.forward import output_at
from benchmarks.workload import CODERS, MODEL, TOKENS, Workload
from sae_auto_interp.autoencoders.families import saelens
from sae_auto_interp.autoencoders.families.saelens import save_jumprelu
from sae_auto_interp.autoencoders.families.sparsify import save as save_topk
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights
from sae_auto_interp.types import Array

HEAVY_SCALE = 0.15
HEAVY_RANK = 16.0
"""The bias of the feature of rank r is HEAVY_SCALE / sqrt(1 + r / HEAVY_RANK)."""
SAMPLED_TOKENS = 512
SAMPLED_FEATURES = 4096


def prepare(workload: Workload, work: Path) -> Path:
    """The folder with the workload's files; made when it is not there yet, and whole when it has its name."""
    folder = work / "workloads" / workload.name
    if folder.is_dir():
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tokens = zipfian_tokens(workload.n_rows, workload.ctx_len, workload.vocab, workload.seed)
    np.save(partial / TOKENS, tokens)
    disable_progress_bar()
    model = random_gpt2(workload)
    model.save_pretrained(partial / MODEL)
    word_tokenizer(workload.vocab).save_pretrained(partial / MODEL)
    _save_coder(workload, model, tokens, partial / CODERS)
    partial.rename(folder)
    return folder


def zipfian_tokens(n_rows: int, ctx_len: int, vocab: int, seed: int) -> Int64[Array, "n_rows ctx_len"]:
    """Token ids drawn with probability proportional to 1 / (id + 1)."""
    frequency = 1.0 / np.arange(1, vocab + 1)
    rng = np.random.default_rng([seed, 2])
    return rng.choice(vocab, size=(n_rows, ctx_len), p=frequency / frequency.sum()).astype(np.int32)


def random_gpt2(workload: Workload) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=workload.vocab, n_positions=workload.ctx_len, n_embd=workload.d_model, n_layer=workload.n_layers,
        n_head=workload.n_heads, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(workload.seed)
        return GPT2LMHeadModel(config).eval()


def word_tokenizer(vocab: int) -> Any:
    """A byte-level tokenizer whose every token is one word with a space in front."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"Ġw{number:04d}": number for number in range(vocab)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="Ġw0000"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def random_coder(workload: Workload) -> CoderWeights:
    """Unit-norm random directions, the same for encoder and decoder; a bias where firing is to be heavy-tailed."""
    generator = torch.Generator().manual_seed(workload.seed + 1)
    directions = torch.randn(workload.width, workload.d_model, generator=generator)
    directions /= directions.norm(dim=1, keepdim=True)
    bias = torch.zeros(workload.width)
    if workload.heavy:
        rank = torch.randperm(workload.width, generator=generator)
        bias = HEAVY_SCALE / (1 + rank / HEAVY_RANK).sqrt()
    return CoderWeights(w_enc=directions, b_enc=bias, w_dec=directions.clone(), b_dec=torch.zeros(workload.d_model))


def _save_coder(workload: Workload, model: Any, tokens: Int64[Array, "n_rows ctx_len"], folder: Path) -> None:
    weights = random_coder(workload)
    if workload.activation == "topk":
        save_topk(folder / f"h.{workload.layer}", weights, workload.k)
        return
    threshold = _threshold(workload, model, weights, tokens)
    if workload.activation == "relu":
        weights = CoderWeights(weights.w_enc, weights.b_enc - threshold, weights.w_dec, weights.b_dec, threshold)
    else:
        weights = CoderWeights(weights.w_enc, weights.b_enc, weights.w_dec, weights.b_dec, threshold)
    save_jumprelu(folder, weights, {"hook_name": f"blocks.{workload.layer}.hook_resid_post", "prepend_bos": False})
    if workload.activation == "relu":
        _as_relu(folder)


def _as_relu(folder: Path) -> None:
    """Make a saved JumpReLU autoencoder a ReLU one, whose files have no threshold."""
    config = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))
    (folder / "cfg.json").write_text(json.dumps(config | {"architecture": "standard"}), encoding="utf-8")
    tensors = load_file(folder / saelens.WEIGHTS_FILE)
    tensors.pop("threshold")
    save_file({name: value.clone() for name, value in tensors.items()}, folder / saelens.WEIGHTS_FILE)


@torch.inference_mode()
def _threshold(
    workload: Workload, model: Any, weights: CoderWeights, tokens: Int64[Array, "n_rows ctx_len"]
) -> Float[Tensor, " width"]:
    """The pre-activation above which about `k` features per token lie, the same for all features."""
    rows = torch.from_numpy(tokens[: max(1, SAMPLED_TOKENS // workload.ctx_len)])
    x = output_at(model, model.transformer.h[workload.layer], rows).reshape(-1, workload.d_model)
    pre = x @ weights.w_enc[:SAMPLED_FEATURES].T + weights.b_enc[:SAMPLED_FEATURES]
    n_above = max(1, round(pre.numel() * workload.k / workload.width))
    return pre.flatten().topk(n_above).values[-1].expand(workload.width).clone()

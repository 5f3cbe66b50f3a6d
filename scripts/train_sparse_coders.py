"""Train the embedded sparse coders on the embedded language model, each saved in a public family's own layout.

    python scripts/train_sparse_coders.py MODEL_DIR OUT_DIR [--minutes 5] [--only openai,sparsify,saelens]

openai/1.pt               TopK on the residual stream after block 1 (layer-normalised input)
sparsify/h.2/             TopK on the residual stream after block 2
saelens/mlp_0/            JumpReLU on block 0's MLP output, trained as BatchTopK with one running threshold

Training follows Gao et al. 2024 (arXiv 2406.04093): unit-norm decoder rows, encoder initialised to the
decoder's transpose, and an auxiliary loss that lets features which have not fired lately explain the residual.
OUT_DIR/figures.json reports L0, fraction of variance unexplained and living features on held-out text.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, GPT2LMHeadModel

from sae_auto_interp.autoencoders.families import openai, saelens, sparsify
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.data.standard_library import is_held_out, standard_library_documents

WIDTH = 2048
CONTEXT = 128
DEAD_AFTER_TOKENS = 150_000


@dataclass(frozen=True)
class Recipe:
    family: str
    module: str
    k: int
    layer_norm: bool
    batch_topk: bool


RECIPES = (
    Recipe("openai", "transformer.h.1", 12, layer_norm=True, batch_topk=False),
    Recipe("sparsify", "transformer.h.2", 16, layer_norm=False, batch_topk=False),
    Recipe("saelens", "transformer.h.0.mlp", 12, layer_norm=False, batch_topk=True),
)


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(0)
    model = GPT2LMHeadModel.from_pretrained(arguments.model).eval()
    train_rows, held_out_rows = token_rows(arguments.model)
    train_rows = train_rows[:: max(1, len(train_rows) // arguments.rows)]
    path = arguments.out / "figures.json"
    figures = json.loads(path.read_text()) if path.exists() else {}
    for recipe in RECIPES:
        if recipe.family in arguments.only:
            train = activations(model, recipe.module, train_rows)
            weights, threshold = optimise(train, recipe, arguments)
            save(arguments.out, weights, threshold, recipe)
            figures[recipe.family] = measure(model, weights, threshold, recipe, held_out_rows, train_rows)
            path.write_text(json.dumps(figures, indent=2) + "\n")
            print(json.dumps(figures[recipe.family], indent=2), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0, help="wall-clock training time of each coder")
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--rows", type=int, default=12_000, help="rows of training text, spread over all documents")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[r.family for r in RECIPES])
    return parser.parse_args()


def token_rows(model_dir: Path) -> tuple[Tensor, Tensor]:
    """Rows of CONTEXT tokens for training and held out; a row never crosses documents."""
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    rows: dict[bool, list[list[int]]] = {False: [], True: []}
    for document in standard_library_documents():
        ids = tokenizer.encode(document.text, add_special_tokens=False, verbose=False)
        kept = range(0, len(ids) - CONTEXT + 1, CONTEXT)
        rows[is_held_out(document)].extend(ids[i : i + CONTEXT] for i in kept)
    return torch.tensor(rows[False]), torch.tensor(rows[True])


@torch.inference_mode()
def activations(model: GPT2LMHeadModel, module: str, rows: Tensor) -> Tensor:
    """Outputs of one module over all rows, [tokens, d] in float16."""
    caught: list[Tensor] = []

    def keep(_module: object, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        value = output if isinstance(output, Tensor) else output[0]
        caught.append(value.reshape(-1, value.shape[-1]).half())

    handle = model.get_submodule(module).register_forward_hook(keep)
    for chunk in rows.split(128):
        model.transformer(input_ids=chunk, use_cache=False)
    handle.remove()
    return torch.cat(caught)


def normalise(x: Tensor, recipe: Recipe) -> Tensor:
    if not recipe.layer_norm:
        return x
    x = x - x.mean(-1, keepdim=True)
    return x / (x.std(-1, keepdim=True) + 1e-5)


def optimise(train: Tensor, recipe: Recipe, arguments: argparse.Namespace) -> tuple[CoderWeights, float]:
    """Train one coder; returns canonical weights and the running threshold of a BatchTopK coder."""
    generator = torch.Generator().manual_seed(0)
    scale = 1.0 if recipe.layer_norm else float(train[:65536].float().pow(2).mean().sqrt())
    w_dec = torch.nn.functional.normalize(torch.randn(WIDTH, train.shape[1], generator=generator), dim=-1)
    parameters = [w_dec.clone(), torch.zeros(WIDTH), w_dec, normalise(train[:65536].float(), recipe).mean(0) / scale]
    w_enc, b_enc, w_dec, b_dec = (p.requires_grad_() for p in parameters)
    optimiser = torch.optim.Adam([w_enc, b_enc, w_dec, b_dec], lr=arguments.learning_rate, betas=(0.9, 0.999))
    last_fired, threshold, seen = torch.zeros(WIDTH, dtype=torch.long), 0.0, 0
    start, step, seconds = time.monotonic(), 0, arguments.minutes * 60
    while (elapsed := time.monotonic() - start) < seconds:
        for group in optimiser.param_groups:
            group["lr"] = arguments.learning_rate * min(1.0, (step + 1) / 50, 2 * (1 - elapsed / seconds) + 0.02)
        index = torch.randint(0, len(train), (arguments.batch,), generator=generator)
        x = normalise(train[index].float(), recipe) / scale
        pre = (x - b_dec) @ w_enc.T + b_enc
        values, features = selected(pre, recipe)
        reconstruction = combine(values, features, w_dec) + b_dec
        residual = x - reconstruction
        loss = residual.pow(2).sum(-1).mean() / x.var(0).sum()
        loss = loss + auxiliary_loss(pre, residual.detach(), w_dec, last_fired < seen - DEAD_AFTER_TOKENS)
        loss.backward()
        remove_parallel_gradient(w_dec)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            w_dec.copy_(torch.nn.functional.normalize(w_dec, dim=-1))
            seen += arguments.batch
            last_fired[features[values > 0].unique()] = seen
            lowest = float(values[values > 0].min())
            threshold = lowest if step == 0 else 0.99 * threshold + 0.01 * lowest
        step += 1
        if step % 200 == 0:
            dead = int((last_fired < seen - DEAD_AFTER_TOKENS).sum())
            print(
                f"{recipe.family} step {step} loss {loss.item():.4f} dead {dead} {seen / elapsed:.0f} tokens/s",
                flush=True,
            )
    weights = CoderWeights(w_enc.detach(), b_enc.detach() * scale, w_dec.detach(), b_dec.detach() * scale)
    return weights, threshold * scale


def selected(pre: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Values and feature indices kept, [n, m]: m is k, or enough columns for a BatchTopK's fullest row."""
    if not recipe.batch_topk:
        values, features = pre.topk(recipe.k, dim=-1)
        return torch.relu(values), features
    candidates, features = torch.relu(pre).topk(4 * recipe.k, dim=-1)
    cut = candidates.flatten().topk(recipe.k * len(pre)).values[-1]
    return candidates * (candidates >= cut), features


def combine(values: Tensor, features: Tensor, w_dec: Tensor) -> Tensor:
    """Sparse code times decoder."""
    return torch.nn.functional.embedding_bag(features, w_dec, mode="sum", per_sample_weights=values)


def auxiliary_loss(pre: Tensor, residual: Tensor, w_dec: Tensor, dead: Tensor) -> Tensor:
    """Loss of the dead features' own reconstruction of what the living ones missed (Gao et al., A.2)."""
    n_dead = int(dead.sum())
    if n_dead == 0:
        return torch.zeros(())
    values, positions = pre[:, dead].topk(min(64, n_dead), dim=-1)
    features = dead.nonzero().squeeze(1)[positions]
    missed = residual - combine(torch.relu(values), features, w_dec)
    return missed.pow(2).sum(-1).mean() / residual.pow(2).sum(-1).mean() / 32


def remove_parallel_gradient(w_dec: Tensor) -> None:
    assert w_dec.grad is not None
    with torch.no_grad():
        w_dec.grad -= (w_dec.grad * w_dec).sum(-1, keepdim=True) * w_dec


def save(out: Path, weights: CoderWeights, threshold: float, recipe: Recipe) -> None:
    layer = int(recipe.module.split(".")[2])
    if recipe.family == "openai":
        openai.save(out / "openai" / f"{layer}.pt", weights, recipe.k)
    elif recipe.family == "sparsify":
        sparsify.save(out / "sparsify" / recipe.module.removeprefix("transformer."), weights, recipe.k)
    else:
        metadata = {
            "model_name": "embedded standard-library model", "hook_name": f"blocks.{layer}.hook_mlp_out",
            "prepend_bos": False, "context_size": CONTEXT, "sae_lens_version": "6.0.0",
        }  # fmt: skip
        with_threshold = CoderWeights(
            weights.w_enc, weights.b_enc, weights.w_dec, weights.b_dec, torch.full((WIDTH,), threshold)
        )
        saelens.save_jumprelu(out / "saelens" / f"mlp_{layer}", with_threshold, metadata)


def measure(
    model: GPT2LMHeadModel, weights: CoderWeights, threshold: float, recipe: Recipe, held_out: Tensor, train: Tensor
) -> dict[str, str | float]:
    """L0 and FVU on all held-out tokens; living features on 200k tokens (held-out first, then training text)."""
    coder = canonical(weights, threshold, recipe)
    x = activations(model, recipe.module, held_out).float()
    error, total, active = 0.0, float((x - x.mean(0)).pow(2).sum()), 0
    for chunk in x.split(4096):
        code = coder.encode(chunk)
        dense = torch.zeros(len(chunk), WIDTH)
        dense[code.positions, code.features] = code.values
        error += float((chunk - coder.decode(dense, chunk)).pow(2).sum())
        active += len(code.values)
    more = activations(model, recipe.module, train[:: max(1, len(train) // 1600)]).float()
    fired = torch.zeros(WIDTH, dtype=torch.bool)
    for chunk in torch.cat([x, more])[:200_000].split(4096):
        fired[coder.encode(chunk).features] = True
    return {
        "module": recipe.module, "width": WIDTH, "held_out_tokens": len(x), "l0": active / len(x),
        "fraction_of_variance_unexplained": error / total, "alive_fraction_200k_tokens": float(fired.float().mean()),
        "alive_tokens": min(200_000, len(x) + len(more)),
    }  # fmt: skip


def canonical(weights: CoderWeights, threshold: float, recipe: Recipe) -> SparseCoder:
    if recipe.batch_topk:
        thresholds = torch.full((WIDTH,), threshold)
        weights = CoderWeights(weights.w_enc, weights.b_enc, weights.w_dec, weights.b_dec, thresholds)
        return SparseCoder(weights, CoderSettings(activation="jumprelu"))
    normalisation = "layer_norm" if recipe.layer_norm else "none"
    return SparseCoder(weights, CoderSettings(activation="topk", k=recipe.k, normalisation=normalisation))


if __name__ == "__main__":
    main()

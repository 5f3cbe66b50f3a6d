# ruff: noqa: E501  (the lines of the page)
"""Write the card of the embedded assets from what training measured and what a run found.

    sae-auto-interp demo --out RUN_DIR --features 300
    python scripts/write_asset_card.py RUN_DIR

Reads assets/language_model/training.json, assets/sparse_coders/figures.json and the run's results; writes assets/README.md.
"""

import json
import sys
from pathlib import Path
from typing import Any

from sae_auto_interp.prompting.highlights import highlighted_tokens, marked_text
from sae_auto_interp.report import summarise
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import FeatureRecord

ASSETS = Path(__file__).parents[1] / "src" / "sae_auto_interp" / "assets"
N_FEATURES = 10
LAYOUTS = {
    "openai": ("OpenAI `sparse_autoencoder`", "TopK 12, layer-normalised input", "residual stream after block 1"),
    "sparsify": ("EleutherAI sparsify", "TopK 16", "residual stream after block 2"),
    "saelens": ("SAELens", "JumpReLU, trained as BatchTopK 12", "MLP output of block 0"),
}


def main() -> None:
    run_dir = Path(sys.argv[1])
    training = json.loads((ASSETS / "language_model" / "training.json").read_text())
    figures = json.loads((ASSETS / "sparse_coders" / "figures.json").read_text())
    text = "\n".join([*language_model(training), *sparse_coders(figures), *good_features(run_dir)])
    (ASSETS / "README.md").write_text(text + "\n", encoding="utf-8")


def language_model(training: dict[str, Any]) -> list[str]:
    return [
        "# The embedded model and its autoencoders",
        "",
        "Made by `scripts/train_language_model.py`, `scripts/train_sparse_coders.py` and `scripts/write_asset_card.py` (this page), on text that",
        "every machine with Python has: the language reference (`pydoc_data.topics`) and the sources of the standard library with their",
        "docstrings (CPython 3.11; tests left out), under the PSF licence. They exist to try and test the library; nobody should study them for",
        "their own sake. Documents whose name hashes below 5 % were held out. The demo reads the same kind of text, training documents included.",
        "",
        "## Language model",
        "",
        f"GPT-2 architecture, {training['parameters']:,} parameters: 4 layers, 128 dimensions, 4 heads, context 128, byte-level BPE with 4,096 tokens",
        f"trained on the same text. {training['tokens_seen']:,} tokens seen ({training['train_tokens']:,} distinct) in {training['minutes']:.0f} minutes on two cores.",
        "",
        "| on held-out text | nats per token |",
        "|---|---|",
        f"| this model | {training['held_out_loss_nats']:.3f} ({100 * training['fraction_of_unigram']:.0f} % of the unigram baseline) |",
        f"| unigram baseline | {training['unigram_loss_nats']:.3f} |",
        f"| ln(vocabulary) | {training['ln_vocabulary_nats']:.3f} |",
        "",
        f"{training['held_out_tokens']:,} held-out tokens of {training['held_out_documents']} documents.",
        "",
    ]


def sparse_coders(figures: dict[str, Any]) -> list[str]:
    lines = [
        "## Sparse autoencoders",
        "",
        "Width 2,048 on 128 dimensions, trained as in Gao et al. 2024 (arXiv 2406.04093) with an auxiliary loss for features that have not fired.",
        "FVU is the fraction of variance unexplained; L0 is the mean number of active features per token.",
        "",
        "| directory | layout | activation | reads | L0 | FVU | alive on 200k tokens |",
        "|---|---|---|---|---|---|---|",
    ]
    for family, (layout, activation, site) in LAYOUTS.items():
        f = figures[family]
        lines.append(
            f"| `sparse_coders/{family}` | {layout} | {activation} | {site} (`{f['module']}`) | {f['l0']:.1f} "
            f"| {f['fraction_of_variance_unexplained']:.3f} | {100 * f['alive_fraction_200k_tokens']:.1f} % |"
        )
    held_out = next(iter(figures.values()))["held_out_tokens"]
    return [*lines, "", f"L0 and FVU on {held_out:,} held-out tokens.", ""]


def good_features(run_dir: Path) -> list[str]:
    """The best-scored features of the run, at most four per module, each with its strongest training example."""
    summary = summarise(run_dir)
    lines = [
        f"## {N_FEATURES} good ones",
        "",
        f"Best by detection and fuzzing with the lexical rule, among {len(summary.features)} drawn at random, at most four per autoencoder.",
        "Balanced accuracy on held-out documents; chance is 0.5.",
        "",
        "| feature | rule found | detection | fuzzing | fires on |",
        "|---|---|---|---|---|",
    ]
    taken: dict[str, int] = {}
    with ResultStore.open(run_dir / RESULTS_FILE, read_only=True) as store:
        for feature in summary.features:
            module = feature.feature.module_path
            if sum(taken.values()) == N_FEATURES or taken.get(module, 0) == 4:
                continue
            taken[module] = taken.get(module, 0) + 1
            record = store.record(feature.feature)
            assert record is not None
            scores = {s.variant.scorer: s.balanced_accuracy for s in feature.scores if s.variant.explainer == "lexical"}
            values = " | ".join(
                f"{scores[name].value:.2f} [{scores[name].low:.2f}, {scores[name].high:.2f}]"
                for name in ("detection", "fuzzing")
            )
            lines.append(
                f"| `{feature.feature}` | {cell(feature.explanations[0].text)} | {values} | {cell(example(record))} |"
            )
    return lines


def example(record: FeatureRecord) -> str:
    """The text around the peak of the strongest training example, the peak marked."""
    best = record.train[0]
    peak = int(best.activations.argmax())
    window = slice(max(0, peak - 8), peak + 5)
    marked = highlighted_tokens(best.activations, 0.5)[window]
    return "… " + marked_text(best.str_tokens[window], [bool(m) for m in marked], ("⟦", "⟧")) + " …"


def cell(text: str) -> str:
    """Text safe inside a Markdown table."""
    return "`" + text.replace("`", "'").replace("|", "¦").replace("\n", "↵") + "`"


if __name__ == "__main__":
    main()

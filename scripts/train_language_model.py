"""Train the embedded language model: GPT-2 architecture, on the standard library's own text.

    python scripts/train_language_model.py OUT_DIR [--minutes 30]

Writes OUT_DIR/{config.json, model.safetensors, tokenizer.json, ..., training.json}. Documents whose name
hashes below 5 % are held out of both the tokenizer and the model; training.json reports the held-out loss
beside ln(vocabulary) and the unigram baseline measured on the same tokens.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from sae_auto_interp.data.standard_library import is_held_out, standard_library_documents

VOCABULARY = 4096
CONTEXT = 128
END_OF_TEXT = "<|endoftext|>"


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(0)
    documents = list(standard_library_documents())
    train = [d.text for d in documents if not is_held_out(d)]
    held_out = [d.text for d in documents if is_held_out(d)]
    tokenizer = train_tokenizer(train)
    save_tokenizer(tokenizer, arguments.out)
    train_stream, held_out_stream = encode(tokenizer, train), encode(tokenizer, held_out)
    print(
        f"{len(train)} documents, {len(train_stream)} tokens to train on; {len(held_out_stream)} held out", flush=True
    )
    model = build_model(arguments.d_model, arguments.layers, tokenizer.get_vocab()[END_OF_TEXT])
    steps = optimise(model, train_stream, held_out_stream, arguments)
    report = evaluate(model, train_stream, held_out_stream) | {
        "train_tokens": len(train_stream), "train_documents": len(train), "held_out_documents": len(held_out),
        "steps": steps, "tokens_seen": steps * arguments.batch * CONTEXT,
        "parameters": sum(p.numel() for p in model.parameters()), "minutes": arguments.minutes,
    }  # fmt: skip
    model.save_pretrained(arguments.out)
    (arguments.out / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0, help="wall-clock training time")
    parser.add_argument("--d-model", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32, help="rows per step")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    return parser.parse_args()


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END_OF_TEXT], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, unk_token=END_OF_TEXT,
        model_max_length=CONTEXT, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Under the class that all releases of transformers have; newer ones write a name that older ones do not know."""
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    file.write_text(json.dumps(config, indent=2) + "\n")


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> np.ndarray:
    """One stream of token ids, documents separated by the end-of-text token."""
    stream: list[int] = []
    for text in texts:
        stream.append(tokenizer.get_vocab()[END_OF_TEXT])
        stream.extend(tokenizer.encode(text, add_special_tokens=False, verbose=False))
    return np.array(stream, dtype=np.int64)


def build_model(d_model: int, layers: int, eos: int) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=d_model, n_layer=layers, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=eos, eos_token_id=eos,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def optimise(model: GPT2LMHeadModel, train: np.ndarray, held_out: np.ndarray, arguments: argparse.Namespace) -> int:
    """AdamW with linear warm-up and a cosine that ends when the time does. Returns the number of steps."""
    generator = np.random.default_rng(0)
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=arguments.learning_rate, betas=(0.9, 0.95))
    start, step, seconds = time.monotonic(), 0, arguments.minutes * 60
    while (elapsed := time.monotonic() - start) < seconds:
        rate = learning_rate(step, elapsed / seconds, arguments.learning_rate)
        for group in optimiser.param_groups:
            group["lr"] = rate
        rows = sample_rows(train, generator, arguments.batch)
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        if step % 200 == 0:
            speed = step * arguments.batch * CONTEXT / (time.monotonic() - start)
            print(
                f"step {step} loss {loss.item():.3f} held-out {held_out_loss(model, held_out[:16_384]):.3f} "
                f"{speed:.0f} tokens/s",
                flush=True,
            )
    return step


def learning_rate(step: int, progress: float, peak: float) -> float:
    return peak * min(1.0, (step + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def sample_rows(stream: np.ndarray, generator: np.random.Generator, n: int) -> torch.Tensor:
    starts = generator.integers(0, len(stream) - CONTEXT, size=n)
    return torch.from_numpy(np.stack([stream[s : s + CONTEXT] for s in starts]))


def held_out_loss(model: GPT2LMHeadModel, stream: np.ndarray) -> float:
    rows = torch.from_numpy(stream[: len(stream) // CONTEXT * CONTEXT].reshape(-1, CONTEXT))
    model.eval()
    with torch.inference_mode():
        losses = [model(input_ids=chunk, labels=chunk).loss.item() * len(chunk) for chunk in rows.split(64)]
    model.train()
    return sum(losses) / len(rows)


def evaluate(model: GPT2LMHeadModel, train: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    counts = np.bincount(train, minlength=VOCABULARY) + 1.0
    unigram = float(-np.log(counts / counts.sum())[held_out].mean())
    loss = held_out_loss(model, held_out)
    return {
        "held_out_loss_nats": loss, "unigram_loss_nats": unigram, "ln_vocabulary_nats": math.log(VOCABULARY),
        "fraction_of_unigram": loss / unigram, "held_out_tokens": len(held_out),
    }  # fmt: skip


if __name__ == "__main__":
    main()

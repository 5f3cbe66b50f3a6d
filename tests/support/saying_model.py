"""A real language model, small enough for two cores, that always says the same sentence: weights by construction.

`write_saying_model` writes a GPT-2 without attention (all its block weights are zero), so the next token follows from
the last one alone: token i of the sentence is followed by token i + 1, the last one by the end of text, and any token
that is not of the sentence by its first. A sentence must therefore be made of tokens that differ.

It answers explainers and judges alike when the sentence holds both answers, and reads prompts of 4096 tokens. Where a
grammar forbids its next token, all others are equally likely: what it then says is what the server's decoding allows.
"""

import json
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from tests.support.embedded_gguf import CHAT_TEMPLATE, embedded_language_model

SENTENCE = "[EXPLANATION]: words of code [1]"
N_POSITIONS = 4096
WIDTH = 64


def write_saying_model(folder: Path, sentence: str = SENTENCE) -> list[str]:
    """Write a Hugging Face model that says `sentence`; returns the tokens that it says it in."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(embedded_language_model() / name, folder / name)
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"chat_template": CHAT_TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pieces = _different_pieces(sentence, {tokenizer.decode([i]): i for i in range(tokenizer.get_vocab_size())})
    assert pieces is not None, f"{sentence!r} cannot be made of tokens that differ"
    chain = [id_ for _, id_ in pieces]
    _model(chain, tokenizer.get_vocab_size()).save_pretrained(folder)
    return [piece for piece, _ in pieces]


def _different_pieces(
    text: str, known: dict[str, int], used: frozenset[str] = frozenset()
) -> list[tuple[str, int]] | None:
    if not text:
        return []
    for length in range(len(text), 0, -1):
        piece = text[:length]
        if piece in known and piece not in used:
            rest = _different_pieces(text[length:], known, used | {piece})
            if rest is not None:
                return [(piece, known[piece]), *rest]
    return None


@torch.no_grad()
def _model(chain: list[int], n_tokens: int) -> GPT2LMHeadModel:
    end = json.loads((embedded_language_model() / "config.json").read_text())["eos_token_id"]
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=n_tokens, n_positions=N_POSITIONS, n_embd=WIDTH, n_layer=1, n_head=1, n_inner=WIDTH,
            bos_token_id=end, eos_token_id=end, tie_word_embeddings=False,
        )
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        parameter.zero_() if ".ln_" not in name or name.endswith("bias") else parameter.fill_(1.0)
    states = torch.eye(len(chain) + 1, WIDTH)
    model.transformer.wte.weight[:] = states[0]  # anything else: the sentence begins
    for i, token in enumerate(chain, 1):
        model.transformer.wte.weight[token] = states[i]
    for i, following in enumerate([*chain, end]):
        model.lm_head.weight[following] += 3 * states[i]
    return model

"""The embedded language model as a plain Hugging Face model, and what it says of a text by one forward pass.

An independent computation for the tests: no batch, no padding, no cache, softmax in double precision.
"""

from dataclasses import dataclass
from functools import cache

import torch
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from tests.support.embedded_gguf import embedded_language_model


@dataclass(frozen=True)
class Rated:
    ids: list[int]
    pieces: list[str]
    """Each token printed by itself, as servers do."""
    logprobs: torch.Tensor
    """[n_tokens - 1, vocabulary]: of the token after each position but the last."""

    def of_token(self, i: int) -> float:
        """Log-probability of token `i` > 0."""
        return float(self.logprobs[i - 1, self.ids[i]])

    def likeliest(self, i: int, k: int) -> dict[int, float]:
        """The `k` likeliest tokens in the place of token `i`."""
        values, ids = self.logprobs[i - 1].topk(k)
        return dict(zip(ids.tolist(), values.tolist(), strict=True))


@cache
def reference_model() -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(embedded_language_model()).eval()


@cache
def reference_tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(embedded_language_model() / "tokenizer.json"))


def rate(text: str) -> Rated:
    return rate_ids(reference_tokenizer().encode(text).ids)


@torch.inference_mode()
def next_logprobs(text: str) -> torch.Tensor:
    """[vocabulary]: of the token after a text."""
    ids = reference_tokenizer().encode(text).ids
    return torch.log_softmax(reference_model()(torch.tensor([ids])).logits[0, -1].double(), dim=-1)


@torch.inference_mode()
def rate_ids(ids: list[int]) -> Rated:
    logits = reference_model()(torch.tensor([ids])).logits[0].double()
    return Rated(ids, [piece_of(i) for i in ids], torch.log_softmax(logits, dim=-1)[:-1])


def greedy(text: str, n_tokens: int) -> list[int]:
    return greedy_ids(reference_tokenizer().encode(text).ids, n_tokens)


@torch.inference_mode()
def greedy_ids(before: list[int], n_tokens: int) -> list[int]:
    """The likeliest token, again and again."""
    ids, n_before = list(before), len(before)
    for _ in range(n_tokens):
        ids.append(int(reference_model()(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[n_before:]


def piece_of(token: int) -> str:
    return reference_tokenizer().decode([token])

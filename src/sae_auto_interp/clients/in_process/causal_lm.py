"""A Hugging Face causal language model, run in batches: it writes text, and it rates given texts.

torch and transformers are imported when a model is loaded, and not before. Everything here runs in one thread.

Each row draws its own random numbers, from its request and not from a global generator, and its softmax is its own: a
batch changes nothing but the last bits of the logits, because matrix products of another shape round differently.

What a tokenizer makes of a conversation and of a text, for the clients that run a model themselves.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sae_auto_interp.clients.in_process.turn_ends import end_ids
from sae_auto_interp.errors import PromptTooLongError, RefusedRequestError
from sae_auto_interp.model_loading.positions import position_limit
from sae_auto_interp.model_loading.pretrained import load_language_model
from sae_auto_interp.types import Message, TokenLogprob

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Generation:
    """What one row is to do."""

    ids: tuple[int, ...]
    """The prompt."""
    max_tokens: int
    temperature: float
    top_logprobs: int
    rng: np.random.Generator


@dataclass(slots=True)
class Row:
    """What one row has done."""

    ids: list[int] = field(default_factory=lambda: [])
    """Generated so far, without the token that ended it."""
    logprobs: list[tuple[float, dict[int, float]]] = field(default_factory=lambda: [])
    """For each generated token: its own log-probability, and the likeliest tokens' by id."""
    finish_reason: str | None = None


Done: TypeAlias = Callable[[int, Row], None]
"""Called with the index of a row and the row, once it has its end."""


@dataclass(frozen=True, slots=True)
class CausalLanguageModel:
    """A loaded model with its tokenizer."""

    model: Any
    tokenizer: Any
    context_length: int
    end_ids: frozenset[int]

    @classmethod
    def load(cls, path: str, device: str, dtype: str) -> "CausalLanguageModel":
        """Load from a folder or the hub. Raises InputError where there is no such model."""
        import torch

        what = f"client.model {path!r}"
        model, tokenizer = load_language_model(what, path, dtype=dtype)
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        model = model.to(auto if device == "auto" else device)
        limit = position_limit(model)
        return cls(model, tokenizer, limit.n_tokens if limit else 1 << 30, end_ids(model, tokenizer))

    def generate(self, batch: Sequence[Generation], done: Done) -> None:
        """Answer each row; `done(i, row)` is called as soon as row `i` has its end."""
        import torch

        rows = [Row() for _ in batch]
        ids, mask = _left_padded([generation.ids for generation in batch], self.model.device)
        cache = None
        with torch.inference_mode():
            while any(row.finish_reason is None for row in rows):
                positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
                output = self._forward(ids, mask, positions, past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                logits = output.logits[:, -1].float()
                chosen = [self._step(i, batch[i], rows[i], logits[i], done) for i in range(len(rows))]
                ids = torch.tensor(chosen, device=mask.device)[:, None]
                mask = torch.cat([mask, torch.ones_like(ids)], dim=1)

    def rate(self, texts: Sequence[Sequence[int]], top_logprobs: Sequence[int]) -> list[list[TokenLogprob]]:
        """Log-probabilities of each text's tokens but the first, given those before; without the tokens' text."""
        import torch

        ids, mask = _right_padded(texts, self.model.device)
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        with torch.inference_mode():
            logits = self._forward(ids, mask, positions).logits
            return [self._rated(logits[i], text, top_logprobs[i]) for i, text in enumerate(texts)]

    def text_of(self, row: Row) -> tuple[str, tuple[TokenLogprob, ...] | None]:
        """What a row says, and its tokens, which make up the text (one alone may be printed without its space)."""
        text = self._decoded(row.ids)
        if not row.logprobs:
            return text, None
        ends = [len(self._decoded(row.ids[: i + 1])) for i in range(len(row.ids))]
        pieces = [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        tokens = (self._token_logprob(*values) for values in zip(pieces, row.logprobs, strict=True))
        return text, tuple(tokens)

    def require_room(self, n_tokens: int, max_tokens: int = 0) -> None:
        """Raise PromptTooLongError for a prompt that leaves no room for its answer in the context."""
        if n_tokens + max_tokens > self.context_length:
            answer = f" and its answer may have {max_tokens}" if max_tokens else ""
            raise PromptTooLongError(
                f"the prompt has {n_tokens} tokens{answer}, and the model reads {self.context_length}",
                context_tokens=self.context_length,
                prompt_tokens=n_tokens,
            )

    def require_known(self, ids: Sequence[int]) -> None:
        """Raise RefusedRequestError for a token that the tokenizer has and the model has not."""
        n_ids = len(self.model.get_input_embeddings().weight)
        if max(ids, default=0) >= n_ids:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            raise RefusedRequestError(
                f"the tokenizer writes {token!r} as {max(ids)}; the model knows ids below {n_ids}"
            )

    def _forward(self, ids: "Tensor", mask: "Tensor", positions: "Tensor", **more: Any) -> Any:
        if "position_ids" in inspect.signature(self.model.forward).parameters:
            more["position_ids"] = positions
        return self.model(input_ids=ids, attention_mask=mask, **more)

    def _step(self, i: int, wanted: Generation, row: Row, logits: "Tensor", done: Done) -> int:
        """Choose the row's next token; a row that has its end goes on with anything, which is not looked at."""
        if row.finish_reason is not None:
            return 0
        token = _chosen(logits, wanted)
        if token in self.end_ids:
            row.finish_reason = "stop"
        else:
            row.ids.append(token)
            if wanted.top_logprobs:
                row.logprobs.append(_logprobs(logits, token, wanted.top_logprobs))
            row.finish_reason = "length" if len(row.ids) >= wanted.max_tokens else None
        if row.finish_reason is not None:
            done(i, row)
        return token

    def _rated(self, logits: "Tensor", ids: Sequence[int], top_logprobs: int) -> list[TokenLogprob]:
        """By position, so that no second copy of all the logits is made."""
        found = [_logprobs(logits[at - 1].float(), ids[at], top_logprobs) for at in range(1, len(ids))]
        return [self._token_logprob("", values) for values in found]

    def _token_logprob(self, piece: str, values: tuple[float, dict[int, float]]) -> TokenLogprob:
        """With text in place of ids; of alternatives that print alike the likeliest stays, which is listed first."""
        logprob, likeliest = values
        texts: dict[str, float] = {}
        for token, value in likeliest.items():
            texts.setdefault(self.tokenizer.decode([token]), value)
        return TokenLogprob(piece, logprob, texts)

    def _decoded(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def _chosen(logits: "Tensor", wanted: Generation) -> int:
    """The likeliest token; above temperature 0 a sample by the Gumbel-max trick (Maddison et al., 2014), on the CPU."""
    if wanted.temperature <= 0:
        return int(logits.argmax())
    scores = logits.double().cpu().numpy() / wanted.temperature
    return int((scores + wanted.rng.gumbel(size=scores.shape)).argmax())


def _logprobs(logits: "Tensor", token: int, k: int) -> tuple[float, dict[int, float]]:
    """Natural-log probability of a token, and of the `k` likeliest, by falling probability."""
    normaliser = float(logits.logsumexp(-1))
    values, ids = logits.topk(k)
    likeliest = {int(ids[i]): min(0.0, float(values[i]) - normaliser) for i in range(k)}
    return min(0.0, float(logits[token]) - normaliser), likeliest


def _left_padded(texts: Sequence[Sequence[int]], device: Any) -> "tuple[Tensor, Tensor]":
    """Ids and mask with all ends in one column, where generation goes on."""
    import torch

    longest = max(len(text) for text in texts)
    ids = torch.tensor([[0] * (longest - len(text)) + list(text) for text in texts], device=device)
    mask = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in texts], device=device)
    return ids, mask


def _right_padded(texts: Sequence[Sequence[int]], device: Any) -> "tuple[Tensor, Tensor]":
    """Ids and mask with all beginnings in one column: no token looks at what comes after it."""
    import torch

    longest = max(len(text) for text in texts)
    ids = torch.tensor([list(text) + [0] * (longest - len(text)) for text in texts], device=device)
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts], device=device)
    return ids, mask


def conversation_ids(tokenizer: Any, messages: Sequence[Message]) -> tuple[int, ...]:
    """Token ids of a conversation, by the chat template; of a model without one, its texts one below the other.

    Raises RefusedRequestError for messages that the template refuses, or that hold half of a character.
    """
    if any(is_broken(message.content) for message in messages):
        raise RefusedRequestError("a message holds half of a character (a lone surrogate)")
    if tokenizer.chat_template is None:
        return tuple(tokenizer.encode("\n\n".join(message.content for message in messages) + "\n\n", verbose=False))
    text = _by_template(tokenizer, [{"role": m.role, "content": m.content} for m in messages])
    return tuple(tokenizer.encode(text, add_special_tokens=False, verbose=False))


def text_ids(tokenizer: Any, text: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Token ids of a text as the model wants to read it, and what each covers of it (special tokens: nothing).

    Raises RefusedRequestError for a text that is empty, or holds half of a character.
    """
    if not text or is_broken(text):
        raise RefusedRequestError("the text is empty, or holds half of a character (a lone surrogate)")
    encoded = tokenizer(text, return_offsets_mapping=True, verbose=False)
    pieces: list[str] = []
    at = 0
    for _, end in encoded["offset_mapping"]:
        # Tokens that are bytes of one character have the same offsets: the first of them covers it.
        pieces.append(text[at:end])
        at = max(at, end)
    pieces[-1] += text[at:]  # white space at the end, of a tokenizer that drops it
    return tuple(encoded["input_ids"]), tuple(pieces)


def is_broken(text: str) -> bool:
    """Whether a text cannot be encoded: it holds half of a character."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _by_template(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """Templates that know no system message get it in front of the first user message."""
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        if messages[0]["role"] != "system" or len(messages) == 1:
            raise RefusedRequestError(f"the model's chat template refuses the messages: {error}") from error
        merged = f"{messages[0]['content']}\n\n{messages[1]['content']}"
        return _by_template(tokenizer, [{"role": messages[1]["role"], "content": merged}, *messages[2:]])


def first_unrated(pieces: Sequence[str], rated: Sequence[TokenLogprob]) -> tuple[TokenLogprob, ...]:
    """Tokens of a text as `PromptLogprobs` wants them: those that cover it, the first one without a log-probability."""
    start = next((i for i, piece in enumerate(pieces) if piece), len(pieces))
    first = [TokenLogprob(pieces[start], math.nan)] if start < len(pieces) else []
    rest = zip(pieces[start + 1 :], rated[start:], strict=True)
    return (*first, *(TokenLogprob(piece, token.logprob, token.alternatives) for piece, token in rest))

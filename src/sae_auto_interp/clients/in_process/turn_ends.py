"""The tokens that end an answer: whoever goes on after one writes the next speaker's turn."""

from collections.abc import Iterator
from typing import Any

_ASKED, _ANSWERED = "What is it?", "It is a word."


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """All that the model's settings, its tokenizer and its chat template end a turn with; they seldom name the same."""
    return frozenset([*_of_settings(model), *turn_ends(tokenizer)])


def turn_ends(tokenizer: Any) -> frozenset[int]:
    """The tokenizer's own end, and the special token that its chat template writes behind an answer."""
    own: int | None = tokenizer.eos_token_id
    return frozenset(token for token in (own, _behind_answer(tokenizer)) if token is not None)


def _of_settings(model: Any) -> Iterator[int]:
    for settings in (getattr(model, "generation_config", None), model.config, model.config.get_text_config()):
        ends: int | list[int] | None = getattr(settings, "eos_token_id", None)
        yield from [ends] if isinstance(ends, int) else ends or ()


def _behind_answer(tokenizer: Any) -> int | None:
    """The first token behind an answer's text, if it is a token of its own (added, or special) and no text."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    from jinja2 import TemplateError

    turns = [{"role": "user", "content": _ASKED}, {"role": "assistant", "content": _ANSWERED}]
    try:
        written: str = tokenizer.apply_chat_template(turns, tokenize=False)
    except (TemplateError, TypeError, ValueError):  # a template that knows no answers
        return None
    _, found, behind = written.rpartition(_ANSWERED)
    ids: list[int] = tokenizer.encode(behind.lstrip(), add_special_tokens=False, verbose=False) if found else []
    own = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    return ids[0] if ids and ids[0] in own else None

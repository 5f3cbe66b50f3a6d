"""A record (a line of JSON, a row of a table) -> its text: a field of it, or a conversation through a chat template.

The conversation's text is what the tokenizer's own template writes, special tokens included; they come out of
tokenizing it as the model knows them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from sae_auto_interp.errors import InputError


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    """Of the document that it becomes."""
    where: str
    """For messages: which line of which file."""
    value: Any
    columns: tuple[str, ...] | None = None
    """What fields the source has, where `value` has only some of them."""


@dataclass(frozen=True, slots=True)
class TextField:
    """The text is in `field`."""

    field: str = "text"

    def __call__(self, record: Record) -> str:
        """Half a surrogate pair, which no tokenizer takes, becomes U+FFFD. Raises `InputError` for what is no text."""
        value = _field_of(record, self.field, "text_field")
        if not isinstance(value, str):
            raise InputError(
                f"{record.where}: field {self.field!r} holds {_kind(value)}, not a text: {_brief(value)}; "
                f"{_fields(record)} (data.text_field)"
            )
        return _well_formed(value)


@dataclass(frozen=True, slots=True)
class ChatField:
    """A conversation, a list of {role, content}, is in `field`; `tokenizer` knows how the model writes it."""

    field: str
    tokenizer: Any

    def __post_init__(self) -> None:
        if not getattr(self.tokenizer, "chat_template", None):
            raise InputError(
                f"data.messages_field={self.field!r} needs a chat template, and the model's tokenizer has none; "
                "use data.text_field, or the model's chat version"
            )

    def __call__(self, record: Record) -> str:
        """Raises `InputError` for what is no conversation, or none that the template takes."""
        from jinja2 import TemplateError

        messages = _field_of(record, self.field, "messages_field")
        if not _are_messages(messages):
            raise InputError(
                f"{record.where}: field {self.field!r} holds no list of messages with role and content: "
                f"{_brief(messages)}; {_fields(record)} (data.messages_field)"
            )
        try:
            text: Any = self.tokenizer.apply_chat_template(messages, tokenize=False)
        except (TemplateError, TypeError, ValueError) as error:
            raise InputError(f"{record.where}: the tokenizer's chat template refuses the messages: {error}") from error
        return _well_formed(str(text))


Extract: TypeAlias = TextField | ChatField


def _field_of(record: Record, field: str, setting: str) -> Any:
    if not isinstance(record.value, Mapping):
        raise InputError(f"{record.where}: expected a JSON object with a field {field!r}, found {_brief(record.value)}")
    value = cast("Mapping[str, Any]", record.value)
    if field not in value:
        raise InputError(f"{record.where}: there is no field {field!r}; {_fields(record)} (data.{setting})")
    return value[field]


def _are_messages(value: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return False
    messages = cast("Sequence[Any]", value)
    return all(isinstance(message, Mapping) and "role" in message and "content" in message for message in messages)


def _fields(record: Record) -> str:
    columns = record.columns or tuple(map(str, record.value))
    return f"there are: {', '.join(columns)}" if columns else "there are none"


def _kind(value: Any) -> str:
    return "nothing (null)" if value is None else type(value).__name__


def _brief(value: Any) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _well_formed(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

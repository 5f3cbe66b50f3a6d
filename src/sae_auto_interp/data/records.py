"""A record (a line of JSON, a row of a table) -> its text: a field of it, or a conversation through a chat template.

The conversation's text is what the tokenizer's own template writes, special tokens included; they come out of
tokenizing it as the model knows them. A template is given texts alone: the parts of a message are joined, and what is
no text (an image, a number) is refused, for a template would write it as Python does.

A record that has nothing in the field (null) is passed over and counted.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from sae_auto_interp.errors import InputError

TEXT_PARTS = ("text", "input_text", "output_text")
"""Types of the parts of a message that are text, as APIs of language models name them."""


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    """Name of the document that the record becomes."""
    where: str
    """For messages: which line of which file."""
    value: Any
    columns: tuple[str, ...] | None = None
    """What fields the source has, where `value` has only some of them."""


@dataclass(slots=True)
class PassedOver:
    """What of a source is no text and no mistake either."""

    n_records: int = 0
    """Records with nothing in their field."""
    suffixes: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    """{suffix: files of a directory that are of this type, which is not read}."""

    @property
    def line(self) -> str:
        """For the user; empty where there is nothing."""
        n = self.n_records
        parts = [f"{n:,} {'record' if n == 1 else 'records'} without a text (null)"] if n else []
        if self.suffixes:
            n = sum(self.suffixes.values())
            kinds = ", ".join(sorted(self.suffixes))
            parts.append(f"{n:,} {'file' if n == 1 else 'files'} of types that are not read ({kinds})")
        return f"passed over: {', '.join(parts)}" if parts else ""


@dataclass(frozen=True, slots=True)
class TextField:
    """The text is in `field`."""

    field: str = "text"
    passed_over: PassedOver = dataclasses.field(default_factory=PassedOver, compare=False)

    def __call__(self, record: Record) -> str | None:
        """Half a surrogate pair, which no tokenizer takes, becomes U+FFFD; None where there is nothing in the field.

        Raises `InputError` for what is no text.
        """
        value = _field_of(record, self.field, "text_field")
        if value is None:
            self.passed_over.n_records += 1
            return None
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
    passed_over: PassedOver = dataclasses.field(default_factory=PassedOver, compare=False)

    def __post_init__(self) -> None:
        if not getattr(self.tokenizer, "chat_template", None):
            raise InputError(
                f"data.messages_field={self.field!r} needs a chat template, and the model's tokenizer has none; "
                "use data.text_field, or the model's chat version"
            )

    def __call__(self, record: Record) -> str | None:
        """None where there is nothing in the field. Raises `InputError` for what the template does not take."""
        from jinja2 import TemplateError

        messages = _field_of(record, self.field, "messages_field")
        if messages is None:
            self.passed_over.n_records += 1
            return None
        if not _are_messages(messages):
            raise InputError(
                f"{record.where}: field {self.field!r} holds no list of messages with role and content: "
                f"{_brief(messages)}; {_fields(record)} (data.messages_field)"
            )
        writes_calls = "tool_calls" in str(self.tokenizer.chat_template)
        plain = [
            _with_text(message, f"{record.where}, message {number}", writes_calls=writes_calls)
            for number, message in enumerate(messages, start=1)
        ]
        try:
            text: Any = self.tokenizer.apply_chat_template(plain, tokenize=False)
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
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


def _with_text(message: Mapping[str, Any], where: str, *, writes_calls: bool) -> dict[str, Any]:
    """The message with a text as its content. Raises `InputError` for a content or a role that is no text.

    A call of a tool is left to a template that writes them (`writes_calls`), and refused with any other.
    """
    if not isinstance(message["role"], str):
        raise InputError(f"{where}: the role is {_kind(message['role'])}, not a text: {_brief(message['role'])}")
    if not writes_calls and (message.get("tool_calls") or message.get("function_call")):
        raise InputError(
            f"{where}: calls a tool, which the tokenizer's chat template does not write; leave such conversations out"
        )
    return {**message, "content": _content(message["content"], where)}


def _content(value: Any, where: str) -> str:
    """The text of a message: its content, or that of its parts one after the other; empty for null."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) or not isinstance(value, Sequence):
        raise InputError(f"{where}: the content is {_kind(value)}, not a text: {_brief(value)}")
    return "".join(_part(part, where) for part in cast("Sequence[Any]", value))


def _part(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    fields: Mapping[str, Any] = cast("Mapping[str, Any]", part) if isinstance(part, Mapping) else {}
    text = fields.get("text")
    if fields.get("type", "text") in TEXT_PARTS and isinstance(text, str):
        return text
    raise InputError(f"{where}: a part of the content is no text: {_brief(part)}; leave such conversations out")


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

"""An API key that can be sent and can be removed from a text, but is shown nowhere.

The key is read from the environment, once. Every body that a server sent goes through `taken_out_of` before anything is
read in it, and every text of a server through `quote` before it enters an error message: servers do echo the key they
refuse.

A key that may be a word (`ollama`, `none`, `EMPTY`, `v1`) is no secret, and texts keep that word.

Keeps API keys out of the logs of the HTTP library.

At level DEBUG it logs the headers of answers, and a server may repeat in them what it was sent. A filter on its loggers
takes every key that this process has read out of what they say; it sees only records that are written anyway.
"""

import logging
import os
import re
from functools import cached_property

from sae_auto_interp.clients.http.redaction import REDACTED, Redaction
from sae_auto_interp.errors import InputError

_LOGGERS = (
    "httpx2",
    "httpcore2.connection",
    "httpcore2.http11",
    "httpcore2.http2",
    "httpcore2.proxy",
    "httpcore2.socks",
)
"""A filter holds for its own logger and not for those below it."""


class _Redaction(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.secrets: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Never holds a record back."""
        message = record.getMessage()
        for secret in sorted(self.secrets, key=len, reverse=True):  # one may begin another
            message = message.replace(secret, "[redacted]")
        record.msg, record.args = message, ()
        return True


_redaction = _Redaction()


def keep_out_of_logs(secret: str) -> None:
    """From now on, the HTTP library's logs do not show `secret`."""
    if not secret:
        return
    _redaction.secrets.add(secret)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_redaction)  # adding it again changes nothing


_LONGEST_QUOTE = 400


_LONG = 16
"""Characters of a key that is no word of a text or a protocol; its beginning is as secret."""


_BEGINNING = 10
"""So many of its first characters are as good as the key, or half of it."""


_NO_WORD = 8
"""Characters of a key with letters and digits that is no word either."""


_SECRET = 6
"""Characters of a key that may be a secret at all."""


class ApiKey:
    """The key in one environment variable; empty where the variable is not set, as local servers need none."""

    def __init__(self, variable: str, value: str) -> None:
        """Raises InputError when the value cannot stand in an HTTP header (the message does not show it)."""
        if not all("!" <= character <= "~" for character in value):
            raise InputError(
                f"the API key in the environment variable {variable} holds a space, a line break or a non-ASCII "
                "character, and cannot be sent; set the variable to the key alone"
            )
        if not _is_word(value):
            keep_out_of_logs(value)
        self.variable = variable
        self._value = value

    @classmethod
    def from_environment(cls, variable: str) -> "ApiKey":
        """White space around the key, such as a trailing line break, is dropped."""
        return cls(variable, os.environ.get(variable, "").strip())

    def __repr__(self) -> str:
        return f"ApiKey({self.variable!r}, {'set' if self._value else 'not set'})"

    def __bool__(self) -> bool:
        return bool(self._value)

    def headers(self, name: str = "Authorization", prefix: str = "Bearer ") -> dict[str, str]:
        """The header that carries the key; none where there is no key."""
        return {name: f"{prefix}{self._value}"} if self._value else {}

    def is_in(self, text: str) -> bool:
        """Whether a text shows it. A short one may be there as a word: servers of one's own take `ollama` or `v1`."""
        return len(self._value) >= _LONG and self._value in text

    def taken_out_of(self, body: bytes) -> bytes:
        """What a server sent, without the key: not even a completion may bring it into results. A key that may be a
        word by itself stays; `quote` takes it out of what is shown, where it is not plainly a word."""
        return body if self._redaction is None else self._redaction.of_body(body)

    def quote(self, text: str) -> str:
        """What may be shown of a server's text: on one line, without the key, shortened after the key is gone."""
        if self._redaction is not None:
            text = self._redaction.of_text(text)
        elif not _is_word(self._value):
            text = re.sub(rf"(?<!\w){re.escape(self._value)}(?!\w)", REDACTED, text)
        shown = " ".join(text.split())
        return shown if len(shown) <= _LONGEST_QUOTE else shown[:_LONGEST_QUOTE] + " ..."

    @cached_property
    def _redaction(self) -> Redaction | None:
        """None for a key that may stand in a text as a word."""
        n = len(self._value)
        if n >= _LONG:
            return Redaction(self._value, min(_BEGINNING, n // 2))
        is_mixed = any(c.isdigit() for c in self._value) and any(c.isalpha() for c in self._value)
        return Redaction(self._value, n) if n >= _NO_WORD and is_mixed else None


def _is_word(key: str) -> bool:
    return len(key) < _SECRET or (key.isalpha() and (key.islower() or key.isupper() or key.istitle()))

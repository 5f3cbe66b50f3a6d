"""An API key that can be sent and can be removed from a text, but is shown nowhere.

The key is read from the environment, once. Every text that a server sent goes through `quote` before it enters
an error message: servers do echo the key they refuse.
"""

import os

from sae_auto_interp.clients._log_redaction import keep_out_of_logs
from sae_auto_interp.errors import InputError

_LONGEST_QUOTE = 400
_REDACTED = "[redacted]"
_LONG = 16
"""Characters of a key that is no word of a text or a protocol."""


class ApiKey:
    """The key in one environment variable; empty where the variable is not set, as local servers need none."""

    __slots__ = ("_value", "variable")

    def __init__(self, variable: str, value: str) -> None:
        """Raises InputError when the value cannot stand in an HTTP header (the message does not show it)."""
        if not all("!" <= character <= "~" for character in value):
            raise InputError(
                f"the API key in the environment variable {variable} holds a space, a line break or a non-ASCII "
                "character, and cannot be sent; set the variable to the key alone"
            )
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
        """What a server sent, without the key: not even a completion may bring it into results. A key so short that
        it may be a word by itself stays; `quote` takes that out of what is shown."""
        key = self._value.encode("ascii")
        return body.replace(key, _REDACTED.encode("ascii")) if len(key) >= _LONG and key in body else body

    def quote(self, text: str) -> str:
        """What may be shown of a server's text: on one line, without the key, shortened after the key is gone."""
        shown = text.replace(self._value, _REDACTED) if self._value else text
        shown = " ".join(shown.split())
        return shown if len(shown) <= _LONGEST_QUOTE else shown[:_LONGEST_QUOTE] + " ..."

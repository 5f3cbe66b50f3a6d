"""An HTTP answer as it came, whatever its status; made for every request, and so of little weight."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers (their names in any case) and the body, decompressed."""

    url: str
    """What was asked."""
    status_code: int
    reason: str
    """The words after the status; often empty."""
    headers: Mapping[str, str] = field(repr=False)  # a server may repeat in it what it was sent: the key
    content: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300

    @property
    def is_error(self) -> bool:
        return self.status_code >= 400

    @property
    def is_server_error(self) -> bool:
        return self.status_code >= 500

    @property
    def text(self) -> str:
        """The body as text, by the character set that its header names, else UTF-8; never an error."""
        named = _CHARSET.search(self.headers.get("Content-Type", ""))
        try:
            return self.content.decode(named[1] if named else "utf-8", "replace")
        except (LookupError, UnicodeError):  # no character set, or one that replaces nothing, as idna
            return self.content.decode("utf-8", "replace")

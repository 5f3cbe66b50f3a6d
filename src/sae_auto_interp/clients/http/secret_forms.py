"""Where a secret stands in a text as it is: broken by white space, in part, or in base64.

Messages are wrapped at lines, and what is quoted may be cut at both ends, so a long enough run of the secret's
characters is the secret. A login is sent as base64 of `user:password`, and base64 of the same characters differs by
how many stand before them, modulo three. The time is linear in the text.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

MOST_OF_A_RUN = 16
"""Characters in a row, wherever in the secret, that are as good as all of it."""
_URL_SAFE = str.maketrans("+/", "-_")


@dataclass(frozen=True)
class SecretForms:
    """`shortest` is how many characters of the secret are enough to tell it by."""

    secret: str
    shortest: int

    def spans(self, text: str) -> list[tuple[int, int]]:
        r"""Begin and end of each occurrence; white space within one belongs to it.

        >>> SecretForms("sk-Ab12cd34ef56", 6).spans("it is sk-Ab12\ncd34ef56.")
        [(6, 22)]
        """
        compact = "".join(text.split())
        found = sorted({run for form, least in self._forms for run in _runs(compact, form, least)})
        if not found:
            return []
        places = [place for place, sign in enumerate(text) if not sign.isspace()]
        return [(places[begin], places[end - 1] + 1) for begin, end in found]

    def may_be_in(self, content: bytes) -> bool:
        """Whether a body may hold an occurrence; a quick look."""
        compact = b"".join(content.split())
        return any(block in compact for block in self._blocks)

    @cached_property
    def _forms(self) -> list[tuple[str, int]]:
        """Each way to write the secret, and how much of it is enough."""
        half = len(self.secret) // 2
        least = self.shortest if self.shortest == len(self.secret) else min(max(self.shortest, half), MOST_OF_A_RUN)
        encoded = [_in_base64(self.secret, n_before) for n_before in range(3)]
        both = {form for core in encoded for form in (core, core.translate(_URL_SAFE))}
        return [(self.secret, least), *((form, min(len(form), least * 4 // 3)) for form in sorted(both))]

    @cached_property
    def _blocks(self) -> list[bytes]:
        return [block.encode("ascii") for form, least in self._forms for _, block in _blocks_of(form, least)]


def _in_base64(secret: str, n_before: int) -> str:
    """The characters of base64 that the secret alone decides, behind that many other bytes."""
    raw = b"\0" * n_before + secret.encode("ascii")
    return base64.b64encode(raw).decode("ascii")[-(-8 * n_before // 6) : 8 * len(raw) // 6]


def _blocks_of(form: str, least: int) -> Iterable[tuple[int, str]]:
    """Parts of a form, of which every run of `least` characters holds one whole."""
    size = (least + 1) // 2
    return [(at, form[at : at + size]) for at in range(0, len(form) - size + 1, size)]


def _runs(text: str, form: str, least: int) -> Iterable[tuple[int, int]]:
    """Where at least so many characters of a form stand in a row."""
    for at, block in _blocks_of(form, least):
        found = text.find(block)
        while found >= 0:
            begin, end = found, found + len(block)
            while begin > 0 and at - (found - begin) > 0 and text[begin - 1] == form[at - (found - begin) - 1]:
                begin -= 1
            while end < len(text) and at + end - found < len(form) and text[end] == form[at + end - found]:
                end += 1
            if end - begin >= least:
                yield begin, end
            found = text.find(block, found + len(block))

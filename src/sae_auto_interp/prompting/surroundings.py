"""What stands around a place in a text: the words that introduce it, its line, marks that only set it off."""

MAX_CHARACTERS = 2_000_000
"""Characters of a text that are looked at."""
MAX_LINES = 20_000
MAX_LABEL = 200
"""Characters before and behind a value that are looked at."""

COLONS = ":\uff1a"
MARKUP = " \t\r\n\ufeff*_~>#|$\"'`“”„‘’-–—•({["  # noqa: RUF001
"""What stands around a value or a label without saying anything."""
_CLOSING = " \t\ufeff*_~$\"'`“”„‘’»)]}"  # noqa: RUF001
_FENCE = "```"


def placed_lines(text: str) -> list[tuple[int, str]]:
    """Offset and content of each line of a text, without those that only open or close a fence.

    Empty for a text that is too long to be read, or has too many lines.
    """
    lines: list[tuple[int, str]] = []
    at = 0
    every = text.splitlines(keepends=True) if len(text) <= MAX_CHARACTERS else []
    for line in every if len(every) <= MAX_LINES else ():
        if not _is_fence(line) or _FENCE in line.strip()[len(_FENCE) :]:
            lines.append((at, line))
        at += len(line)
    return lines


def without_markup(text: str) -> str:
    """A text without what stands at its ends to set it off: spaces, quotes, stars, list marks, fences, brackets."""
    return text.strip(MARKUP + ")]}")


def words_before(text: str, begin: int, floor: int) -> str:
    """The words before a place in its sentence or, where it begins its line, a line above it that ends in a colon.

    `floor`: where what is before it ends at the latest.
    """
    lines = text[max(floor, begin - MAX_LABEL) : begin].replace("\r", "\n").split("\n")
    own = _quoted_key(lines[-1]) or _clean(_last_sentence(lines[-1]))
    if own or len(lines) == 1:
        return own
    above = next((line for line in reversed(lines[:-1]) if line.strip(MARKUP) and not _is_fence(line)), "")
    above = _clean(_last_sentence(above))
    return above if above and above[-1] in COLONS else ""


def words_after(text: str, end: int) -> str:
    """The rest of a line, without what only closes what set the value off."""
    rest = text[end : end + MAX_LABEL].replace("\r", "\n").split("\n", 1)[0]
    return rest.lstrip(_CLOSING).rstrip(MARKUP + ")]}")


def _quoted_key(words: str) -> str | None:
    """The key right before a value whose object is none: `... "verdicts": `."""
    key, colon, rest = words.rpartition(":")
    if not colon or rest.strip() or not key.rstrip().endswith(('"', "'")):
        return None
    quote = key.rstrip()[-1]
    return key.rstrip()[:-1].rpartition(quote)[2].strip() + ":"


def _clean(words: str) -> str:
    r"""Words without fence, emphasis and LaTeX around them: `**Final:**`, "```json", `\boxed{`."""
    if words.lstrip().startswith(_FENCE):
        words = words.lstrip()[len(_FENCE) :].lstrip("abcdefghijklmnopqrstuvwxyz0123456789")
    words = words.strip(MARKUP)
    last = words.rfind("\\")
    is_command = last >= 0 and words[last + 1 :].isalpha()
    return (words[:last] if is_command else words).strip(MARKUP)


def _is_fence(line: str) -> bool:
    return line.lstrip().startswith(_FENCE)


def _last_sentence(line: str) -> str:
    """What stands behind the last sentence that ends in the line; "e.g." and the like end none."""
    ends = [at for at, sign in enumerate(line) if sign in ".!?。！？" and _ends_sentence(line, at)]  # noqa: RUF001
    return line[ends[-1] + 1 :] if ends else line


def _ends_sentence(line: str, at: int) -> bool:
    if line[at + 1 : at + 2].strip() or line[at] != ".":
        return line[at] != "." and not line[at + 1 : at + 2].strip(MARKUP)
    word = line[:at].rsplit(None, 1)[-1:]
    plain = word[0].strip(MARKUP + ")]}") if word else ""
    return plain.isdigit() or (len(plain) > 2 and "." not in plain)

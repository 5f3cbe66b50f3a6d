"""What holds for every reader of replies and every text."""

import json
from collections.abc import Callable

from sae_auto_interp.judges._numbers import read_choice, read_numbers
from sae_auto_interp.judges._verdict_lists import Verdicts, read_verdicts
from sae_auto_interp.scorers._writing import parse_texts
from sae_auto_interp.scorers.simulation import parse_levels
from sae_auto_interp.types import Failure, Response, Usage

N = 3
TOKENS = ("the", " cat", " sat")
READERS: dict[str, Callable[[Response], object]] = {
    "detection": lambda reply: read_verdicts(reply, N),
    "saebench": lambda reply: read_numbers(reply, N),
    "choice": lambda reply: read_choice(reply, N),
    "simulation": lambda reply: parse_levels(reply, TOKENS, 10),
    "generation": lambda reply: parse_texts(reply, N),
}
TASKS = (*READERS,)
WHOLE: dict[str, object] = {
    "detection": {"verdicts": [1, 0, 1]},
    "choice": {"choice": 2},
    "simulation": {"tokens": [{"token": token, "level": 3} for token in TOKENS]},
    "generation": {"texts": ["a", "b", "c"]},
}
"""An object with the key that was asked for; saebench asks for none."""


def read(task: str, text: str, finish_reason: str = "stop") -> object:
    """What a task's reader makes of a text; None, or a `Failure`, where it is no answer."""
    return READERS[task](Response(text, Usage(), finish_reason, "m"))


def check_reading(task: str, text: str, finish_reason: str) -> None:
    """No error, and as many answers as asked or none."""
    found = read(task, text, finish_reason)
    if isinstance(found, Verdicts):
        assert len(found.matches) == len(found.places) == N, found
        assert all(place is None or 0 <= place < len(text) for place in found.places), found
    if task == "choice":
        assert found is None or found in range(1, N + 1), found
    if task == "simulation" and not isinstance(found, Failure):
        assert isinstance(found, tuple), found
        assert len(found) == len(TOKENS), found
        assert all(0 <= level <= 10 for level in found), found


def check_appended(task: str, text: str) -> None:
    """Words behind a whole object change nothing, unless they hold another object with the key."""
    if task not in WHOLE or next(iter(WHOLE[task])) in text.casefold():  # pyright: ignore
        return
    whole = json.dumps(WHOLE[task])
    wanted = read(task, whole)
    assert wanted is not None
    assert not isinstance(wanted, Failure), wanted
    for reason in ("stop", "length"):
        assert read(task, f"{whole}\n{text}", reason) == wanted
        assert read(task, f"{whole}{text}", reason) == wanted

"""What scorers are given beside judge and client: a model that rates given texts, and the subject model.

Only what the run's scorers ask for is opened. Whether a model rates given texts is tried with a short one before any
work is done: many servers answer everything but this.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

from sae_auto_interp.errors import ClientError, ConfigError
from sae_auto_interp.pipeline.components import ResolvedComponent
from sae_auto_interp.pipeline.resolved import Inputs
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.subject.reader import SubjectReader, subject_texts
from sae_auto_interp.protocols import ActivationReader, Client, PromptReader
from sae_auto_interp.types import PromptRequest
from sae_auto_interp.types.spending import PROBE, spending_on

Readers: TypeAlias = Mapping[type, Any]
"""{protocol: what has it}."""
NO_READERS: Readers = {}
TRIED = PromptRequest("One, two, three", top_logprobs=2)


@asynccontextmanager
async def model_readers(
    inputs: Inputs,
    scorers: Sequence[ResolvedComponent],
    directory: RunDirectory,
    reader: Client | None,
    *,
    is_scoring: bool,
) -> AsyncGenerator[Readers]:
    """What `scorers` ask for; nothing is opened unless it `is_scoring`.

    Raises `ConfigError` where a scorer needs given texts rated and the model does not do that.
    """
    wanted = _wanted(scorers) if is_scoring else {}
    found: dict[type, Any] = {}
    subject = SubjectReader(partial(subject_texts, inputs, directory))
    try:
        if wanted.get(ActivationReader):
            found[ActivationReader] = subject
        if wanted.get(PromptReader):
            found[PromptReader] = reader
            await _try(reader, wanted[PromptReader])
        yield found
    finally:
        subject.close()


async def _try(reader: Any, scorer: str) -> None:
    """Read a short text; raises `ConfigError` where that is not done."""
    needs = (
        f"scorers.{scorer} needs a model that rates the tokens of a given text (prompt log-probabilities); "
        "give one in the section prompt_reader"
    )
    if not isinstance(reader, PromptReader):
        raise ConfigError(f"{needs}: {getattr(reader, 'model', 'the client')} cannot be asked for them")
    try:
        with spending_on(PROBE, ""):
            found = await reader.read(TRIED)
    except ClientError as error:
        raise ConfigError(f"{needs}: {error}") from error
    if "".join(token.token for token in found.tokens) != TRIED.text:
        raise ConfigError(f"{needs}: {reader.model} gives tokens that are not those of the text")


def _wanted(scorers: Sequence[ResolvedComponent]) -> dict[type, str]:
    """{protocol: the first scorer that wants it}."""
    wanted: dict[type, str] = {}
    for scorer in reversed(scorers):
        wanted |= dict.fromkeys(scorer.collaborators, scorer.name)
    return wanted

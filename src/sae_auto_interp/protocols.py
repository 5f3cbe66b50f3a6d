"""The interfaces between folders; no implementation.

A component that satisfies one of these can be put in its place by anyone: in the run file as
"package.module:Class", in Python by passing it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from jaxtyping import Float32

from sae_auto_interp.types import (
    Array,
    Explanation,
    Failure,
    FeatureId,
    FeatureRecord,
    PromptLogprobs,
    PromptRequest,
    Request,
    Response,
    Score,
    ShownExample,
    TextActivations,
    Usage,
    Verdict,
)

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Client(Protocol):
    """A language model behind an endpoint. Wrappers (retry, limit, cache) have the same protocol."""

    @property
    def model(self) -> str: ...

    async def generate(self, request: Request) -> Response:
        """Answer one request; raises `ClientError` subclasses only."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Provider(Client, Protocol):
    """A client that can be named in the run file as `client.kind`: it reaches a model by itself."""

    async def prepare(self, memory: Path | None = None) -> str:
        """Make sure, before a run, that the model can be asked; returns in one line what it can do.

        `memory` is a folder in which it may keep what a later run needs not ask or pay again. Raises `ClientError`
        subclasses, and `InputError` for a model that is not there.
        """
        ...


@runtime_checkable
class PromptReader(Protocol):
    """A language model that says how probable the tokens of a given text are (surprisal, simulation)."""

    @property
    def model(self) -> str: ...

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        """Rate one text; raises `ClientError` subclasses only."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Embedder(Protocol):
    """Texts -> vectors whose cosine says how alike the texts are in meaning."""

    @property
    def name(self) -> str: ...

    async def embed(self, texts: Sequence[str]) -> "Float32[Array, 'n d']":
        """One row per text, in order, each of length one; raises `ClientError` subclasses only."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class ActivationReader(Protocol):
    """Runs the subject model with its autoencoders on texts that are of no cache (generation)."""

    async def activations(self, texts: Sequence[str], feature: FeatureId) -> list[TextActivations]:
        """One result per text, in order, that depends on the given texts alone and not on other calls."""
        ...


@runtime_checkable
class Explainer(Protocol):
    """Evidence about one feature -> a text about it."""

    name: ClassVar[str]

    async def explain(self, record: FeatureRecord) -> Explanation | Failure: ...


@runtime_checkable
class Judge(Protocol):
    """Says of each shown example whether an explanation fits it; sees no activation and no label."""

    @property
    def name(self) -> str: ...

    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        """One verdict per example, in order. `task` says what is asked, e.g. `detection` or `fuzzing`; a judge that is
        no language model can go by whether the examples are marked."""
        ...


@runtime_checkable
class Chooser(Protocol):
    """A judge that compares examples with each other; other judges are asked about each example alone instead."""

    @property
    def name(self) -> str: ...

    async def choose(
        self, explanation: str | None, examples: Sequence[ShownExample], task: str
    ) -> tuple[Sequence[float] | Failure, Usage]:
        """How strongly each example is the one that `task` asks for: the largest is chosen, ties are drawn.

        `intruder`: the one that does not belong with the others (there is no explanation); `intruder_explained`: the
        one that the explanation does not fit; `discrimination`: the one that it fits best.
        """
        ...


@runtime_checkable
class Scorer(Protocol):
    """(evidence, explanation) -> trials. Never a metric."""

    name: ClassVar[str]

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score: ...


class SparseActivations(Protocol):
    """What an autoencoder hands to the cache: the entries above zero, and nothing else."""

    @property
    def positions(self) -> "Tensor": ...

    @property
    def features(self) -> "Tensor": ...

    @property
    def values(self) -> "Tensor": ...


class Autoencoder(Protocol):
    """A sparse coder attached to one module."""

    d_in: int
    width: int

    def encode(self, x: "Tensor") -> SparseActivations:
        """[n, d_in] -> sparse codes, without a dense [n, width] code in between being kept."""
        ...

    def decode(self, codes: "Tensor") -> "Tensor":
        """[n, width] dense codes -> [n, d_in]."""
        ...


class Progress(Protocol):
    """Where a stage says how far it is."""

    def note(self, text: str) -> None:
        """One line about what begins now and has no count."""
        ...

    def start(self, stage: str, total: int, done: int, unit: str) -> None: ...

    def advance(self, n: int = 1) -> None: ...

    def finish(self) -> None: ...

"""The values that cross folder borders: frozen, slotted, numpy only.

A feature fires at (row, position). Everything after the cache is made of these types; none of them
knows how it was computed, stored or shown.
"""

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float32, Int32, Int64

from sae_auto_interp.types.cache import CacheManifest as CacheManifest, NormMask as NormMask, ShardInfo as ShardInfo
from sae_auto_interp.types.evidence import (
    ExampleSource as ExampleSource,
    FeatureProfile as FeatureProfile,
    FeatureStats as FeatureStats,
    Shortage as Shortage,
    TokenLogits as TokenLogits,
    TriageLabel as TriageLabel,
)
from sae_auto_interp.types.requests import (
    Message as Message,
    PromptLogprobs as PromptLogprobs,
    PromptRequest as PromptRequest,
    Request as Request,
    Response as Response,
    Sampling as Sampling,
    TokenLogprob as TokenLogprob,
    Usage as Usage,
    as_logprob as as_logprob,
    tokens_of as tokens_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]
else:
    Array = np.ndarray

ScoreKind: TypeAlias = Literal["classification", "ranking", "choice", "simulation"]
NO_DOCUMENT = -1
"""Document id of a position that carries no text: padding, BOS or another special token."""


@dataclass(frozen=True, slots=True, order=True)
class FeatureId:
    """The only address of a feature: where its autoencoder is attached, and its index in the width."""

    module_path: str
    index: int

    def __str__(self) -> str:
        return f"{self.module_path}:{self.index}"

    @classmethod
    def parse(cls, text: str) -> "FeatureId":
        """Read `module.path:index`; raises ValueError on anything else."""
        match = re.fullmatch(r"([^:\s]+):(\d+)", text)
        if match is None:
            raise ValueError(f"{text!r} is not a feature id; write module_path:index, e.g. transformer.h.2:17")
        return cls(match.group(1), int(match.group(2)))

    @property
    def file_key(self) -> str:
        """A name safe in any file system and in an HTML id; a checksum keeps apart what signs would make equal."""
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", self.module_path)
        if safe != self.module_path:
            safe += f"_{zlib.crc32(self.module_path.encode('utf-8', 'surrogatepass')):08x}"
        return f"{safe}_{self.index}"


@dataclass(frozen=True, slots=True)
class Document:
    """A text with a name that identifies it in the manifest."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class TokenRows:
    """What the subject model reads: rows of token ids, and which document each position belongs to."""

    tokens: Int32[Array, "n_rows ctx_len"]
    """Token ids; short rows are filled with the padding token on the right."""
    documents: Int32[Array, "n_rows ctx_len"]
    """Index into `document_names`, or NO_DOCUMENT where the position carries no text."""
    document_names: tuple[str, ...]

    @classmethod
    def from_ids(cls, tokens: Any) -> "TokenRows":
        """Rows of ids alone ([rows, ctx_len], any array): each row stands for its own document.

        Rows are then what must not leak into each other. Ids of 32 bits are not copied. Raises ValueError for another
        number of dimensions, and for ids beyond 32 bits.
        """
        array = np.asarray(tokens)
        if array.ndim != 2:
            raise ValueError(f"tokens must be [rows, ctx_len], got shape {array.shape}")
        if array.size and not -(1 << 31) <= int(array.min()) <= int(array.max()) < 1 << 31:
            raise ValueError(f"token ids must fit 32 bits, got {array.min()} to {array.max()}")
        array = array.astype(np.int32, copy=False)
        owners = np.broadcast_to(np.arange(len(array), dtype=np.int32)[:, None], array.shape)  # takes no memory
        return cls(array, owners, tuple(f"row {i}" for i in range(len(array))))

    @property
    def n_rows(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def ctx_len(self) -> int:
        return int(self.tokens.shape[1])

    @property
    def n_text_tokens(self) -> int:
        return int((self.documents != NO_DOCUMENT).sum())


@dataclass(frozen=True, slots=True)
class FeatureEntries:
    """Every activation of one feature, sorted by location: one contiguous slice of the cache."""

    feature: FeatureId
    locations: Int64[Array, " n_entries"]
    """Flat token index: row * ctx_len + position."""
    activations: Float32[Array, " n_entries"]


@dataclass(frozen=True, slots=True)
class Example:
    """One window of text with the feature's activation on each token."""

    tokens: Int32[Array, " window"]
    str_tokens: tuple[str, ...]
    """Strings of the tokens; they concatenate to the window's text."""
    activations: Float32[Array, " window"]
    row: int
    start: int
    """Position of the first token within the row."""
    document: int
    source: ExampleSource
    quantile: int | None = None
    """Equal-count bin of the window's maximum; 0 is the highest."""
    neighbour: FeatureId | None = None
    """Which feature fires in a window of source `neighbour`."""
    distance: float | None = None
    """Distance to the neighbour (1 - cosine, 1 - Jaccard index or -PMI), or to the text that a `similar` window is
    like (1 - cosine)."""

    @property
    def text(self) -> str:
        return "".join(self.str_tokens)

    @property
    def max_activation(self) -> float:
        return float(self.activations.max(initial=0.0))


@dataclass(frozen=True, slots=True)
class NonActivating:
    """Pools of windows on which the feature is silent, disjoint by window and by document."""

    explain: tuple[Example, ...]
    """May be shown to the explainer."""
    test: tuple[Example, ...]
    """Used for scoring only."""
    dev: tuple[Example, ...] = ()
    """For choosing among explanations and for revising them; never in a reported score."""


@dataclass(frozen=True, slots=True)
class FeatureRecord:
    """All the evidence about one feature; complete when built, and it holds no explanation.

    `train`, `dev`, `test` and the pools of `non_activating` share no window, and those of different purpose no
    document: nothing that may be shown to an explainer, or chose an explanation, is of a document used for scoring.
    """

    feature: FeatureId
    stats: FeatureStats
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    non_activating: NonActivating
    dev: tuple[Example, ...] = ()
    """For choosing among explanations and for revising them; empty unless asked for."""
    logits: TokenLogits | None = None
    """What the feature writes to the model's output, where the subject model was at hand."""
    shortages: tuple[Shortage, ...] = ()
    """Sources with fewer windows than requested."""
    profile: FeatureProfile | None = None
    """What is known of the feature without a model, where a run computed it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Work that gave no result, as a value. It is never scored and never a number."""

    stage: str
    kind: str
    """A short stable word that failures are counted by, e.g. `unparsable`, `rate_limited`."""
    message: str
    raw: str | None = None
    """What the model really answered, where it did."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An explanation that was tried on the development examples, which choose; no reported score has seen them."""

    text: str
    is_chosen: bool
    n_hits: int
    """Judged activating development examples that it was said to fit."""
    n_activating: int
    n_rejected: int
    """Judged silent ones that it was said not to fit."""
    n_silent: int
    n_failed: int
    """Development examples without a verdict."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an explainer says about a feature."""

    feature: FeatureId
    text: str
    explainer: str
    prompt_id: str
    """Name and hash of the prompt, or of the rule format where there is no prompt."""
    usage: Usage = Usage()
    candidates: tuple[Candidate, ...] = ()
    """What it was chosen from, in the order of trying, itself among them; none where nothing was chosen."""
    n_shown: int | None = None
    """Examples that were shown, where more did not fit into the model's context; None where none was left out."""


@dataclass(frozen=True, slots=True)
class ShownExample:
    """What a judge may see of an example: the tokens, and which are marked. Never an activation."""

    str_tokens: tuple[str, ...]
    highlighted: tuple[bool, ...] | None = None
    """None: the task shows no marks (detection)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's answer about one shown example: does the explanation fit it?"""

    matches: bool
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One question put to a judge, with the truth beside it."""

    target: bool
    prediction: bool | None
    """None where `failure` is set, and in rankings, which say how well an example fits but not whether it does."""
    confidence: float | None
    """Larger where the example fits better. A probability, where a judge gave it; a ranking's may have any unit."""
    source: ExampleSource
    quantile: int | None
    document: int
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class ChoiceTrial:
    """One question with several answers of which one is right, and which was given."""

    target: int
    """Place of the right answer among those offered, from 0."""
    chosen: int | None
    """None exactly when `failure` is set."""
    n_choices: int
    """How many were offered; chance is 1 / n_choices."""
    source: ExampleSource
    """Source of the example that makes the question hard: the intruder, or the one to be told from the activating
    one."""
    quantile: int | None
    """Quantile of the activating examples."""
    document: int
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class SimulationTrial:
    """One window whose activations were predicted from an explanation, with the true ones beside them."""

    true: tuple[float, ...]
    """One activation per token."""
    predicted: tuple[float, ...] | None
    """One value per token, in any unit; None exactly when `failure` is set."""
    source: ExampleSource
    quantile: int | None
    document: int
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class TextActivations:
    """What a feature does on a text that is of no cache."""

    str_tokens: tuple[str, ...]
    """They concatenate to the text, or to its beginning where it is longer than the run's rows."""
    activations: Float32[Array, " n_tokens"]


@dataclass(frozen=True, slots=True)
class Score:
    """The trials of one explanation under one scorer. Metrics are computed from it, elsewhere."""

    feature: FeatureId
    scorer: str
    explanation_id: str
    kind: ScoreKind
    """Which metrics apply, and which list is filled: `trials` by classification and ranking, `choices` by choice,
    `simulations` by simulation."""
    trials: tuple[Trial, ...]
    usage: Usage = Usage()
    simulations: tuple[SimulationTrial, ...] = ()
    choices: tuple[ChoiceTrial, ...] = ()
    n_split: int = 0
    """Prompts that were too long for the judge's context, so that its examples were shown in smaller groups."""

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Those of all trials, whatever their kind."""
        every = (*self.trials, *self.choices, *self.simulations)
        return tuple(trial.failure for trial in every if trial.failure is not None)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The only thing a table or a page may print as a result.

    An undefined metric has `value`, `low` and `high` None, and `reason` says why.
    """

    value: float | None
    low: float | None
    high: float | None
    level: float
    """Nominal coverage of the interval, e.g. 0.95."""
    method: str
    n: int
    n_failed: int
    reason: str | None = None

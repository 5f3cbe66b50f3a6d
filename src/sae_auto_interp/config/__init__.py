"""The run file: YAML <-> settings, every key checked, and the fingerprints of what changes results.

model: path, hub id, or hf:owner/repo@revision
autoencoders: [directory or hf:owner/repo/path@revision, ..., {kind: neurons, module_paths: [h.0.mlp.c_proj:in], k: 32}]
data: {source: standard_library, n_tokens: 200000, ctx_len: 128}
preflight: {n_tokens: 4096, allow: [...]}
features: {...}          settings of FeatureConfig, and n_features per module
explainers: [lexical, {name: simple, threshold: 0.3}]
scorers: [detection, fuzzing]
client: {base_url: "http://127.0.0.1:8000/v1", model: ...}          this and more of language models: client_config
preset: delphi           what is not said above is taken from this file of `presets/`
"""

import glob
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from sae_auto_interp.config.autoencoders import AutoencoderConfig, CoderConfig, MadeCoderConfig, ReadingConfig
from sae_auto_interp.config.clients import BudgetConfig, ClientConfig, PriceConfig, ResponsesConfig, Section
from sae_auto_interp.config.presets import with_preset
from sae_auto_interp.config.problems import first_problem
from sae_auto_interp.errors import ConfigError, InputError, UnknownNameError
from sae_auto_interp.files import read_yaml
from sae_auto_interp.types import TriageLabel
from sae_auto_interp.types.fit import OVERRIDABLE

STANDARD_LIBRARY = "standard_library"
"""Name of the text source that is the running Python's documentation and source."""
DATASET_PREFIX = "hf:"
"""Before the name of a Hugging Face dataset."""
EMBEDDED = "embedded:"
"""Prefix of paths below the package's own assets, so that a run file of the demo works on any machine."""


class ComponentConfig(Section):
    """A component by its registered name, with its settings; in YAML a bare name will do."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ExplainerConfig(ComponentConfig):
    """An explainer, and who judges its explanations."""

    judge: ComponentConfig | None = None
    """A name, or {name: llm, top_logprobs: 20}; None: `lexical` for the lexical explainer, `llm` for all others. A
    scorer with a judge of its own, {name: detection, judge: ...}, asks that one instead."""

    @property
    def judge_config(self) -> ComponentConfig:
        return self.judge or ComponentConfig(name="lexical" if self.name == "lexical" else "llm")

    @property
    def judge_name(self) -> str:
        return self.judge_config.name


class DataConfig(Section):
    """Where the text comes from and how it is cut into rows; docs/data.md explains each."""

    source: str = STANDARD_LIBRARY
    """`standard_library` (of the running Python); a .txt, .md, .jsonl or .parquet file, or a directory of
    them; a .npy
    file of token ids; a Hugging Face dataset, `hf:owner/name@revision`, or a directory that `save_to_disk` wrote."""
    subset: str | None = None
    """Configuration of a Hugging Face dataset, its `name` in `load_dataset`."""
    split: str | None = None
    """Split of a Hugging Face dataset; None: train."""
    data_files: tuple[str, ...] = ()
    """Files of a Hugging Face dataset, or those that `hf:json`, `hf:csv`, ... is to read; patterns may be used."""
    text_field: str = "text"
    """Field of each record that holds the text."""
    messages_field: str | None = None
    """Field that holds a conversation instead, which the tokenizer's chat template turns into text."""
    n_tokens: int = Field(default=200_000, ge=1)
    """Text tokens at least; masked positions do not count."""
    ctx_len: int = Field(default=128, ge=2)
    """Tokens per row."""
    max_chars_per_document: int | None = Field(default=None, ge=1)
    """Longer documents are cut, so that more of them fit `n_tokens`."""
    split_documents: int | None = Field(default=None, ge=100)
    """Cut documents longer than this many characters into parts of about that length, at blank lines; each part then
    counts as a document. For one long text in one file; None: documents stay whole."""
    skip_documents: int = Field(default=0, ge=0)
    """Documents to leave out at the beginning."""
    max_documents: int | None = Field(default=None, ge=1)
    """Documents at most, counted after the skipped ones; None: as many as `n_tokens` needs."""
    shuffle_buffer: int = Field(default=0, ge=0)
    """Shuffle the documents by the run's seed, with this many of them in memory; 0 keeps the order of the source."""
    packing: bool = False
    """Fill rows with successive documents; attention then sees across them, as it did in training."""
    separator: str = Field(default="auto", pattern="^(auto|eos|bos|none)$")
    """Between packed documents: BOS before each, EOS after each; auto: BOS where rows begin with BOS, else EOS."""
    prepend_bos: bool | None = None
    """Begin each row with the BOS token; None does what the autoencoders were trained with."""
    mask_special_tokens: bool = True
    """Leave special tokens within the text out of features and statistics; the model reads them all the same."""

    @field_validator("data_files", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class CacheConfig(Section):
    """How activations are cached; only `activation_dtype` and the norm mask change what is stored."""

    batch_size: int | None = Field(default=None, ge=1)
    """Rows per forward pass; None takes as many as fit a modest amount of memory."""
    n_splits: int = Field(default=4, ge=1)
    """Shards over the width of each autoencoder."""
    activation_dtype: str = Field(default="float16", pattern="^(float16|bfloat16|float32)$")
    """How activations are stored: float16, bfloat16 or float32."""
    buffer_mib: int = Field(default=64, ge=1, le=16_384)
    """Memory for activations waiting to be written; sorting them takes as much again for a moment."""
    backend: str = Field(default="hooks", pattern="^(hooks|nnsight)$")
    """How the model's activations are read: torch hooks, or an NNsight trace. Both give the same bits."""
    max_norm_multiple: float | None = Field(default=None, gt=1)
    """Leave out positions where a module's activation is longer than this many median norms, e.g. 10; None: none."""
    median_norms: dict[str, float] | None = None
    """{module path: median norm} of another cache's manifest, so that both can be merged; None: from the first rows."""


class PreflightConfig(Section):
    """The check of the autoencoders before caching (docs/check.md); changes no result, so it is not fingerprinted."""

    enabled: bool = True
    """False caches without looking whether the autoencoders fit."""
    n_tokens: int = Field(default=4096, ge=1)
    """Text tokens that the figures are measured on: the first of the run's rows."""
    allow: tuple[str, ...] = ()
    """What may pass though it would be refused, by name: fvu, l0, model, ..."""

    @field_validator("allow", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("allow")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in OVERRIDABLE:
                raise UnknownNameError("refusal to allow", name, OVERRIDABLE)
        return names


class FeaturesConfig(Section):
    """Which features, and (as further keys) the settings of `FeatureConfig`: window, n_train, n_test, ..."""

    model_config = ConfigDict(extra="allow", frozen=True)

    n_features: int = Field(default=20, ge=1)
    """Features per module, drawn at random among those with enough examples."""
    indices: dict[str, tuple[int, ...]] | None = None
    """{module path: features} to look at exactly those instead."""
    workers: int = Field(default=0, ge=0)
    """Processes that build records beside this one; changes nothing but the time it takes."""
    embedder: ComponentConfig | None = None
    """The embedding model that finds silent windows of kind `similar`, by its registered name and settings."""
    triage: bool = True
    """Whether to profile and label all features of the cache first."""
    skip: tuple[TriageLabel, ...] = ()
    """Labels of features that get no record: they need no language model."""
    n_logits: int = Field(default=0, ge=0)
    """Tokens whose logits a feature raises most, and lowers most, to keep with its record; needs the subject model."""

    @field_validator("skip", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @property
    def record_settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class RunConfig(Section):
    """Everything a run needs; equal configurations give equal results."""

    model: str
    """The subject model: a directory, or `owner/name[@revision]` on the hub."""
    device: str | dict[str, str | int] = "auto"
    """A torch device, "auto" (a GPU if there is one), "balanced" over several, or {module path: device}."""
    dtype: str = "auto"
    """Dtype of the subject model: float32, bfloat16, float16, or "auto", as its files say. Autoencoders use float32."""
    autoencoders: tuple[CoderConfig, ...] = Field(min_length=1)
    """Directories or hub addresses of weights, or coders that are made: see docs/loading.md."""
    data: DataConfig = DataConfig()
    preflight: PreflightConfig = PreflightConfig()
    cache: CacheConfig = CacheConfig()
    features: FeaturesConfig = FeaturesConfig()
    explainers: tuple[ExplainerConfig, ...] = (ExplainerConfig(name="lexical"),)
    """By name, or {name: ..., judge: ..., settings}."""
    scorers: tuple[ComponentConfig, ...] = (ComponentConfig(name="detection"), ComponentConfig(name="fuzzing"))
    """By name, or {name: ..., settings}."""
    n_shuffled: int | None = Field(default=None, ge=0)
    """Features per module whose scores are repeated with another feature's explanation, as the control; None: all."""
    n_nearest: int | None = Field(default=0, ge=0)
    """The same with the explanation of the most similar other feature of the run, a harder control; None: all."""
    n_hidden: int | None = Field(default=10, ge=0)
    """Features per module whose questions are also put with the explanation hidden, to see what else gives the answers
    away; None: all."""
    n_lexical: int | None = Field(default=None, ge=0)
    """Features per module that are also explained and scored by a rule about tokens, which asks no model; None: all."""
    client: ClientConfig | None = None
    """The endpoint that explains and scores, but for what the next three say."""
    explainer_client: ClientConfig | None = None
    """Who explains; None: `client`."""
    scorer_client: ClientConfig | None = None
    """Who judges; None: `client`."""
    prompt_reader: ClientConfig | None = None
    """What rates the tokens of given texts, for the scorers that need it; None: who judges."""
    budget: BudgetConfig = BudgetConfig()
    """What the run may spend."""
    responses: ResponsesConfig = ResponsesConfig()
    """The cache of answers."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything random; equal seeds give equal results at any concurrency, and after any interruption."""

    @field_validator("autoencoders", "explainers", "scorers", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @property
    def for_explaining(self) -> ClientConfig | None:
        return self.explainer_client or self.client

    @property
    def for_reading(self) -> ClientConfig | None:
        """Who rates the tokens of given texts."""
        return self.prompt_reader or self.for_scoring

    @property
    def for_scoring(self) -> ClientConfig | None:
        return self.scorer_client or self.client

    @model_validator(mode="after")
    def _budget_has_prices(self) -> "RunConfig":
        for client in filter(None, (self.for_explaining, self.for_scoring, self.prompt_reader)):
            if self.budget.max_usd is not None and client.price is None:
                raise ValueError(
                    f"budget.max_usd needs the price of {client.base_url or client.kind}; give price in its section"
                )
        return self


def load_config(path: Path) -> RunConfig:
    """Read a run file; raises `InputError` / `ConfigError` naming the key that is wrong."""
    if not path.is_file():
        raise InputError(f"run file: there is no file {path}")
    try:
        content: Any = read_yaml(path, "run file")
    except InputError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold settings by name, e.g. `model: ...`")
    return _with_absolute_paths(parse_config(cast("dict[str, Any]", content), str(path)))


def parse_config(content: dict[str, Any], where: str = "configuration") -> RunConfig:
    """Check a mapping; the first problem is reported, an unknown key with its nearest match."""
    try:
        return RunConfig.model_validate(with_preset(content))
    except ValidationError as error:
        raise first_problem(error, where, _section_at) from error


def with_preflight(
    config: RunConfig, *, allow: Iterable[str] = (), n_tokens: int | None = None, enabled: bool | None = None
) -> RunConfig:
    """The configuration with more allowed, and with other settings of its check where they are given."""
    changed: dict[str, Any] = config.preflight.model_dump()
    changed["allow"] = tuple(dict.fromkeys((*config.preflight.allow, *allow)))
    given = {"n_tokens": n_tokens, "enabled": enabled}
    changed |= {name: value for name, value in given.items() if value is not None}
    return config.model_copy(update={"preflight": PreflightConfig.model_validate(changed)})


def dump_config(config: RunConfig) -> str:
    """The run file of a configuration, defaults included."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def fingerprint(value: Any) -> str:
    """Hash of settings: equal for equal values, whatever the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def resolve_path(ref: str) -> str:
    """A reference with `embedded:` replaced by the package's assets folder; anything else as it is."""
    if not ref.startswith(EMBEDDED):
        return ref
    assets = Path(__file__).parent.parent / "assets"
    target = assets / ref.removeprefix(EMBEDDED)
    if not target.exists():
        raise UnknownNameError("embedded asset", ref, [f"{EMBEDDED}{p.name}" for p in assets.iterdir() if p.is_dir()])
    return str(target)


def openai_endpoint(api_key_env: str = "OPENAI_API_KEY") -> str | None:
    """OpenAI's own endpoint when there is a key for it in the environment."""
    return "https://api.openai.com/v1" if os.environ.get(api_key_env) else None


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """Local paths as seen from anywhere: the run directory may be used from another working directory."""

    def absolute(ref: str) -> str:
        return str(Path(ref).resolve()) if ref != STANDARD_LIBRARY and Path(ref).exists() else ref

    def absolute_pattern(ref: str) -> str:
        return str(Path(ref).absolute()) if "://" not in ref and glob.glob(ref, recursive=True) else ref  # noqa: PTH207

    autoencoders = tuple(
        a.model_copy(update={"path": absolute(a.path)}) if isinstance(a, AutoencoderConfig) else a
        for a in config.autoencoders
    )
    prefix = DATASET_PREFIX if config.data.source.startswith(DATASET_PREFIX) else ""
    source = prefix + absolute(config.data.source.removeprefix(prefix))
    data_files = tuple(absolute_pattern(pattern) for pattern in config.data.data_files)
    data = config.data.model_copy(update={"source": source, "data_files": data_files})
    explainers = tuple(
        ExplainerConfig.model_validate(e.model_dump() | {"path": absolute(str(e.settings["path"]))})
        if e.name == "stored" and "path" in e.settings
        else e
        for e in config.explainers
    )
    answers = config.responses.path
    whole = None if answers is None else str(Path(answers).expanduser().resolve())
    changed: dict[str, Any] = {
        "model": absolute(config.model), "autoencoders": autoencoders, "data": data, "explainers": explainers,
        "responses": config.responses.model_copy(update={"path": whole}),
    }  # fmt: skip
    for name in ("client", "explainer_client", "scorer_client", "prompt_reader"):
        client: ClientConfig | None = getattr(config, name)
        if client is not None and client.base_url is None and client.model is not None:
            changed[name] = client.model_copy(update={"model": absolute(client.model)})
    return config.model_copy(update=changed)


def _section_at(location: tuple[int | str, ...]) -> list[str]:
    sections: dict[str, type[BaseModel]] = {
        "data": DataConfig, "cache": CacheConfig, "features": FeaturesConfig, "client": ClientConfig,
        "prompt_reader": ClientConfig, "explainer_client": ClientConfig, "scorer_client": ClientConfig,
        "budget": BudgetConfig, "responses": ResponsesConfig,
        "autoencoders": AutoencoderConfig, "preflight": PreflightConfig,
    }  # fmt: skip
    model = sections.get(str(location[0]), RunConfig) if location else RunConfig
    model = PriceConfig if "price" in location else model
    model = MadeCoderConfig if "made" in location else model
    model = ReadingConfig if "reading" in location else model
    return list(model.model_fields)

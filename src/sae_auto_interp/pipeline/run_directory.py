"""The run directory: where each file lies, and the refusal to mix two configurations in one.

    config.yaml  manifest.json  revisions.json  tokens.safetensors  data.json  preflight.json
    clients/...  features/<module>/...  results.sqlite  progress.json  log.jsonl  report/

The manifest carries the fingerprint of everything that decides which tokens, activations and records there are.
Explainers and scorers may be added later; each one's own fingerprint is kept with the results.
"""

import glob
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from sae_auto_interp.cache.layout import DATA, MANIFEST, TOKENS, write_text
from sae_auto_interp.cache.tokens import load_tokens, save_tokens
from sae_auto_interp.config import (
    DATASET_PREFIX,
    STANDARD_LIBRARY,
    AutoencoderConfig,
    CoderConfig,
    DataConfig,
    FeaturesConfig,
    RunConfig,
    dump_config,
    fingerprint,
    resolve_path,
)
from sae_auto_interp.errors import CacheError, InputError, RunDirectoryError
from sae_auto_interp.models.hub import parse_hub_ref, pinned
from sae_auto_interp.pipeline.run_links import refuse_links_outside
from sae_auto_interp.types import TokenRows

CONFIG_DIGEST = "config_sha256"
"""In the manifest: of the run file as the last run wrote it."""
FIRST_DATA = ("n_tokens", "ctx_len", "max_chars_per_document", "prepend_bos")
"""Settings of `data` that every manifest names."""
NO_EVIDENCE = {
    "explainers", "scorers", "n_shuffled", "n_nearest", "n_hidden", "n_lexical", "budget", "responses",
    "client", "explainer_client", "scorer_client", "prompt_reader",
    "device", "model", "autoencoders", "preflight",
}  # fmt: skip
"""Sections that decide no token, activation or record, or of which only a part does."""
WHOLE_FILE_LIMIT = 256 << 20
"""Files beyond this are fingerprinted by name, size and their first and last MiB."""
_File: TypeAlias = Mapping[str, str | None]
"""`path` as configured and `digest` of the content, None where that is not local."""


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """What decides which tokens, activations and records there are; two runs of one directory agree in it."""

    settings: Mapping[str, Any]
    files: Mapping[str, str]
    """{run-file key: file, directory or address}, whose content counts."""
    patterns: Mapping[str, str]
    """{run-file key: pattern of files}, whose content counts."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def manifest(self) -> Path:
        return self.root / MANIFEST

    @property
    def revisions(self) -> Path:
        """{hub address as configured: the same with its commit}."""
        return self.root / "revisions.json"

    @property
    def tokens(self) -> Path:
        return self.root / TOKENS

    @property
    def data(self) -> Path:
        """What the rows in `tokens` were made from: enough to make them again."""
        return self.root / DATA

    @property
    def preflight(self) -> Path:
        """What the check of the autoencoders found, before anything was cached."""
        return self.root / "preflight.json"

    @property
    def clients(self) -> Path:
        """What clients remember: what an endpoint can do, which batches it has."""
        return self.root / "clients"

    @property
    def features(self) -> Path:
        return self.root / "features"

    @property
    def progress(self) -> Path:
        """How far the process is that is working on it, or was last."""
        return self.root / "progress.json"

    @property
    def log(self) -> Path:
        """What the library logged while runs wrote here, one JSON object per line."""
        return self.root / "log.jsonl"

    @property
    def unfinished(self) -> Path:
        """Where a cache that is not finished yet keeps its work."""
        return self.root / "features" / ".unfinished"

    @property
    def results(self) -> Path:
        return self.root / "results.sqlite"

    def claim(self, evidence: EvidenceSettings) -> None:
        """Create the directory, or check that it belongs to this configuration.

        One whose autoencoders were refused before anything was cached may take another: that is how it is mended.
        """
        refuse_links_outside(self.root)
        wanted = with_digests(evidence)
        if not self.manifest.is_file():
            self._refuse_foreign()
            self.root.mkdir(parents=True, exist_ok=True)
        elif not self._has_changed(wanted):
            return
        for file in (self.tokens, self.preflight):
            file.unlink(missing_ok=True)
        content = {"fingerprint": fingerprint(wanted), **wanted}
        write_text(self.manifest, json.dumps(content, indent=2, sort_keys=True) + "\n")

    def save_config(self, config: RunConfig) -> None:
        """Keep the run file: `explain`, `score` and `report` go by it."""
        text = dump_config(config)
        write_text(self.config, text)
        if self.manifest.is_file():
            self.record(CONFIG_DIGEST, hashlib.sha256(text.encode()).hexdigest())

    def has_changed_config(self) -> bool:
        """Whether the run file here is not the one that a run wrote: edited, or damaged."""
        try:
            noted = json.loads(self.manifest.read_text(encoding="utf-8"))[CONFIG_DIGEST]
            return noted != hashlib.sha256(self.config.read_bytes()).hexdigest()
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return False  # an older run noted nothing; a damaged manifest is said when it is needed

    def pinned(self, ref: str) -> str:
        """A hub address with the commit that it meant when this run first asked; any other reference as it is.

        Noted in `revisions.json`, so that a run that is continued goes on with what it began with.
        """
        address = parse_hub_ref(ref)
        if address is None:
            return ref
        known = self._known_revisions()
        if ref not in known:
            known[ref] = str(pinned(address))
            write_text(self.revisions, json.dumps(known, indent=2, sort_keys=True) + "\n")
        return known[ref]

    def _known_revisions(self) -> dict[str, str]:
        if not self.revisions.is_file():
            return {}
        try:
            content: Any = json.loads(self.revisions.read_text(encoding="utf-8"))
            return {str(ref): _pin(pin) for ref, pin in content.items()}
        except (OSError, ValueError, AttributeError, InputError, RecursionError) as error:
            raise RunDirectoryError(
                f"{self.revisions} is damaged ({error}); restore it, or choose another directory: without it the hub's "
                "newest commits would be mixed with what this run began with"
            ) from error

    def fingerprint(self) -> str:
        return str(self._read_manifest()["fingerprint"])

    def record(self, name: str, facts: Any) -> None:
        """Add to the manifest what is to be known of the run and decides nothing."""
        self._read_manifest()
        content = json.loads(self.manifest.read_text(encoding="utf-8")) | {name: facts}
        write_text(self.manifest, json.dumps(content, indent=2, sort_keys=True) + "\n")

    def save_tokens(self, rows: TokenRows) -> None:
        save_tokens(self.tokens, rows)

    def load_tokens(self) -> TokenRows:
        """The run's rows. Raises `CacheError` when there are none, or they are not those that `data.json` describes."""
        if not self.tokens.is_file():
            raise CacheError(f"{self.root} holds no tokens; run the cache stage first (it resumes where it stopped)")
        try:
            return load_tokens(self.tokens)
        except CacheError as error:
            raise CacheError(f"{self.tokens} cannot be read ({error}); delete {self.root} and run again") from error

    def _has_changed(self, wanted: dict[str, Any]) -> bool:
        """Whether the configuration is another one; raises unless it may be."""
        found = self._read_manifest()
        changed = _differences(found["settings"], wanted["settings"])
        changed += _changed_files(found["files"], wanted["files"])
        if changed and not self._ended_in_refusal():
            raise RunDirectoryError(
                f"{self.root} belongs to another configuration ({', '.join(changed)} changed); "
                "choose another directory, or delete this one"
            )
        return bool(changed)

    def _ended_in_refusal(self) -> bool:
        if self.features.exists() or not self.preflight.is_file():
            return False
        try:
            return json.loads(self.preflight.read_text(encoding="utf-8"))["refused"] is True
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False

    def _read_manifest(self) -> dict[str, Any]:
        try:
            content = json.loads(self.manifest.read_text(encoding="utf-8"))
            found = {key: content[key] for key in ("fingerprint", "settings", "files")}
            if found.pop("fingerprint") != fingerprint(found):
                raise ValueError("its fingerprint is not that of its settings")
            return {key: content[key] for key in ("fingerprint", "settings", "files")}
        except FileNotFoundError as error:
            raise RunDirectoryError(f"{self.root} is not a run directory (no {MANIFEST})") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RunDirectoryError(
                f"{self.manifest} is damaged; choose another directory, or delete {self.root}"
            ) from error

    def _refuse_foreign(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise RunDirectoryError(f"{self.root} is a file; choose a directory")
        if self.root.is_dir() and any(not p.name.startswith(".") for p in self.root.iterdir()):
            raise RunDirectoryError(
                f"{self.root} holds other files and is no run directory; choose an empty or new one"
            )


def with_digests(evidence: EvidenceSettings) -> dict[str, Any]:
    """Return what the manifest holds: the settings, and each file with the digest of its content."""
    files = {name: {"path": ref, "digest": path_digest(resolve_path(ref))} for name, ref in evidence.files.items()}
    files |= {name: {"path": pattern, "digest": pattern_digest(pattern)} for name, pattern in evidence.patterns.items()}
    return json.loads(json.dumps({"settings": evidence.settings, "files": files}))


def evidence_settings(config: RunConfig) -> EvidenceSettings:
    """Return what decides tokens, activations and records."""
    settings = config.model_dump(mode="json", exclude=NO_EVIDENCE)
    settings["cache"] = {"activation_dtype": config.cache.activation_dtype}
    if config.cache.max_norm_multiple is not None:
        settings["cache"] |= config.cache.model_dump(mode="json", include={"max_norm_multiple", "median_norms"})
    settings["autoencoders"] = [
        coder.module_paths if isinstance(coder, AutoencoderConfig) else coder.model_dump(mode="json")
        for coder in config.autoencoders
    ]
    refs = {"model": config.model, "data.source": config.data.source}
    refs |= {
        f"autoencoders[{i}]": coder.path
        for i, coder in enumerate(config.autoencoders)
        if isinstance(coder, AutoencoderConfig)
    }
    settings["data"] = _data_settings(config.data)
    del settings["features"]["workers"]
    for name in ("embedder", "triage", "skip", "n_logits"):  # as it was before there were these: older runs go on
        if getattr(config.features, name) == FeaturesConfig.model_fields[name].default:
            del settings["features"][name]
    sites = [coder.site if isinstance(coder, AutoencoderConfig) else None for coder in config.autoencoders]
    if any(sites):
        settings["sites"] = sites
    options = [_options_of(coder) for coder in config.autoencoders]
    if any(options):
        settings["autoencoder_options"] = options
    if config.dtype == "auto":  # as it was before there was a choice: older runs go on
        del settings["dtype"]
    patterns = {f"data.data_files[{i}]": pattern for i, pattern in enumerate(config.data.data_files)}
    return EvidenceSettings(settings, refs, patterns)


def _options_of(coder: CoderConfig) -> dict[str, Any]:
    """What is said of an autoencoder beside its files, but where it reads: older runs go on."""
    if not isinstance(coder, AutoencoderConfig):
        return {}
    return coder.model_dump(mode="json", exclude={"path", "module_paths", "site"}, exclude_none=True)


def _data_settings(data: DataConfig) -> dict[str, Any]:
    """All but the files; of what was no setting at first only what is not its default: older runs go on."""
    settings = data.model_dump(mode="json", exclude={"source", "data_files"})
    defaults = DataConfig().model_dump(mode="json")
    return {name: value for name, value in settings.items() if name in FIRST_DATA or value != defaults[name]}


def _changed_files(found: Mapping[str, _File], wanted: Mapping[str, _File]) -> list[str]:
    """Names of the files that are others now, or are named by one of the two only."""
    names = dict.fromkeys((*wanted, *found))
    return [name for name in names if not _is_same_file(found.get(name), wanted.get(name))]


def _is_same_file(found: _File | None, wanted: _File | None) -> bool:
    """By content where both are known; a run directory that was moved away from its model goes by the path."""
    if found is None or wanted is None:
        return False
    if found["digest"] is not None and wanted["digest"] is not None:
        return found["digest"] == wanted["digest"]
    return found["path"] == wanted["path"]


def _pin(value: object) -> str:
    """A pinned address as kept. Raises `ValueError` for anything else."""
    if not isinstance(value, str) or parse_hub_ref(value) is None:
        raise ValueError(f"{value!r} is no hub address")
    return value


def path_digest(ref: str) -> str | None:
    """Digest of a local file or directory; None for what is not local (its name and revision stand for it)."""
    path = Path(ref.removeprefix(DATASET_PREFIX))
    if ref == STANDARD_LIBRARY or not path.exists():
        return None
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size}".encode())
        digest.update(_content_digest(file))
    return digest.hexdigest()


def pattern_digest(pattern: str) -> str | None:
    """Digest of all local files that a pattern fits; None where it fits none."""
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - the pattern may be absolute
    digests = [[Path(file).name, path_digest(file)] for file in found]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest() if found else None


def _content_digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        if file.stat().st_size <= WHOLE_FILE_LIMIT:
            return hashlib.file_digest(stream, "sha256").digest()
        head = stream.read(1 << 20)
        stream.seek(-(1 << 20), 2)
        return hashlib.sha256(head + stream.read()).digest()


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the settings that are not equal."""
    names: list[str] = []
    for key in sorted({*found, *wanted}):
        one, other = found.get(key), wanted.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            names += _differences(cast("dict[str, Any]", one), cast("dict[str, Any]", other), f"{prefix}{key}.")
        elif one != other:
            names.append(f"{prefix}{key}")
    return names

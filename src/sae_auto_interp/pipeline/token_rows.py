"""The run's token rows: made once, kept with what they were made from, and made again from that.

`tokens.safetensors` holds the rows; a resumed run reads them back, so that it sees the same text whatever Python runs
it. `data.json` beside it is their manifest: the source with the commit of a dataset and the digest of local files, the
layout with the BOS policy and where that comes from, the seed, the tokenizer's digest, and the digest of the rows.
It is written first, so where there are rows there is their manifest.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sae_auto_interp.cache.layout import write_text
from sae_auto_interp.cache.tokens import token_arrays
from sae_auto_interp.config import RunConfig
from sae_auto_interp.data import sources
from sae_auto_interp.data.layout import RowLayout
from sae_auto_interp.data.sources import TextSource, rows_from
from sae_auto_interp.data.tokenizer_facts import tokenizer_sha256
from sae_auto_interp.errors import ConfigError, InputError
from sae_auto_interp.pipeline.run_directory import RunDirectory, path_digest, pattern_digest
from sae_auto_interp.protocols import Progress
from sae_auto_interp.types import TokenRows

FORMAT_VERSION = 1
NEEDED = {"source", "files", "layout", "tokenizer_sha256", "versions", "rows_sha256"}
PACKAGES = ("tokenizers", "transformers", "datasets", "pyarrow")
"""Named in the manifest with their versions: what may read the same files differently one day."""


@dataclass(frozen=True, slots=True)
class BosPolicy:
    """Whether rows begin with BOS, and who says so."""

    prepend_bos: bool
    origin: str
    """`data.prepend_bos`, or `autoencoders`."""

    def describe(self, tokenizer: Any) -> str:
        """One line for the user."""
        because = "as data.prepend_bos says" if self.origin != "autoencoders" else "as the autoencoders were trained"
        what = f"begin with BOS ({tokenizer.bos_token!r})" if self.prepend_bos else "have no BOS in front"
        return f"rows {what}, {because}"


def token_rows(
    config: RunConfig, directory: RunDirectory, tokenizer: Any, policies: Mapping[str, bool], progress: Progress
) -> TokenRows:
    """The rows of a run; `policies` says of each autoencoder whether it was trained with BOS in front."""
    policy = bos_policy(config, policies)
    progress.note(policy.describe(tokenizer))
    if directory.tokens.is_file():
        return directory.load_tokens()
    progress.note(f"reading text from {config.data.source}")
    source, layout = sources.pinned(_source(config)), row_layout(config, policy)
    rows = rows_from(source, layout, tokenizer)
    write_text(directory.data, json.dumps(_manifest(source, layout, policy, tokenizer, rows), indent=2) + "\n")
    directory.save_tokens(rows)
    progress.note(
        f"{rows.n_rows:,} rows of {rows.ctx_len} tokens, {rows.n_text_tokens:,} of them text of "
        f"{len(rows.document_names):,} documents"
    )
    return rows


def first_rows(config: RunConfig, tokenizer: Any, policies: Mapping[str, bool], n_tokens: int) -> TokenRows:
    """The rows with which a run of this configuration would begin: at least `n_tokens` text tokens; kept nowhere."""
    config = config.model_copy(update={"data": config.data.model_copy(update={"n_tokens": n_tokens})})
    return rows_from(sources.pinned(_source(config)), row_layout(config, bos_policy(config, policies)), tokenizer)


def bos_policy(config: RunConfig, policies: Mapping[str, bool]) -> BosPolicy:
    """What the configuration says, else what the autoencoders were trained with; `ConfigError` if they disagree."""
    if config.data.prepend_bos is not None:
        return BosPolicy(config.data.prepend_bos, "data.prepend_bos")
    if len(set(policies.values())) > 1:
        listed = ", ".join(f"{path}: {'with' if bos else 'without'}" for path, bos in policies.items())
        raise ConfigError(
            f"the autoencoders disagree on a BOS token in front ({listed}); set data.prepend_bos, or run them apart"
        )
    return BosPolicy(next(iter(policies.values()), False), "autoencoders")


def rebuilt_rows(manifest: Path, tokenizer: Any) -> TokenRows:
    """The rows that a run's `data.json` describes, made again from their source.

    Raises `InputError` when the manifest cannot be read; when a file, the tokenizer or a setting is not what it was;
    and when the rows come out otherwise.
    """
    content = _read(manifest)
    source, layout = _parsed(content, manifest)
    changed = [name for name, digest in content["files"].items() if digest != _file_digests(source).get(name)]
    if changed:
        raise InputError(f"{manifest}: {', '.join(changed)} changed since the rows were made, or cannot be found")
    if content["tokenizer_sha256"] != tokenizer_sha256(tokenizer):
        raise InputError(f"{manifest}: its rows were made with another tokenizer; load that of the run's model")
    rows = rows_from(source, layout, tokenizer)
    if rows_sha256(rows) != content["rows_sha256"]:
        raise InputError(
            f"{manifest}: the rows come out otherwise than they were; they were made with {content['versions']}, "
            f"these with {_versions()}"
        )
    return rows


def rows_sha256(rows: TokenRows) -> str:
    """Digest of every byte that is stored of rows."""
    digest = hashlib.sha256()
    for name, array in token_arrays(rows).items():
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _source(config: RunConfig) -> TextSource:
    data = config.data
    return TextSource(
        source=data.source, subset=data.subset, split=data.split, data_files=data.data_files,
        text_field=data.text_field, messages_field=data.messages_field,
        max_chars_per_document=data.max_chars_per_document, skip_documents=data.skip_documents,
        max_documents=data.max_documents, shuffle_buffer=data.shuffle_buffer, seed=config.seed,
    )  # fmt: skip


def row_layout(config: RunConfig, policy: BosPolicy) -> RowLayout:
    """How the run's texts are laid out in rows."""
    data = config.data
    return RowLayout(
        ctx_len=data.ctx_len, n_tokens=data.n_tokens, prepend_bos=policy.prepend_bos, packing=data.packing,
        separator=data.separator, mask_special_tokens=data.mask_special_tokens,
    )  # fmt: skip


def _manifest(
    source: TextSource, layout: RowLayout, policy: BosPolicy, tokenizer: Any, rows: TokenRows
) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "source": asdict(source),
        "files": _file_digests(source),
        "layout": asdict(layout),
        "prepend_bos_from": policy.origin,
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "versions": _versions(),
        "n_rows": rows.n_rows,
        "n_documents": len(rows.document_names),
        "n_text_tokens": rows.n_text_tokens,
        "rows_sha256": rows_sha256(rows),
    }


def _file_digests(source: TextSource) -> dict[str, str]:
    """Of the local files; the commit, which is part of the source, stands for others."""
    digests = {"source": path_digest(source.source)}
    digests |= {f"data_files[{i}]": pattern_digest(pattern) for i, pattern in enumerate(source.data_files)}
    return {name: digest for name, digest in digests.items() if digest is not None}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _read(manifest: Path) -> dict[str, Any]:
    try:
        content: Any = json.loads(manifest.read_text(encoding="utf-8"))
        found, missing = content.get("format_version"), NEEDED - set(content)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{manifest} cannot be read ({error}); give the data.json of a run directory") from error
    if found != FORMAT_VERSION or missing:
        lacks = f", and lacks {', '.join(sorted(missing))}" if missing else ""
        raise InputError(f"{manifest} is of format {found}{lacks}; this version reads format {FORMAT_VERSION}")
    return content


def _parsed(content: Mapping[str, Any], manifest: Path) -> tuple[TextSource, RowLayout]:
    try:
        source = content["source"] | {"data_files": tuple(content["source"]["data_files"])}
        return TextSource(**source), RowLayout(**content["layout"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{manifest} is damaged ({error}); delete the run directory and run again") from error

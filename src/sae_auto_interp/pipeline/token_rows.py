"""The run's token rows: made once, kept with what they were made from, and made again from that.

`tokens.safetensors` holds the rows; a resumed run reads them back, so that it sees the same text whatever Python runs
it. `data.json` beside it is their manifest: the source with the commit of a dataset and the digest of local files, the
layout with the BOS policy and where that comes from, the seed, the tokenizer's digest, and the digest of the rows.
It is written first, so where there are rows there is their manifest.

A feature is explained on some documents and tested on others, never on the same: without a second document no feature
can have a record, however much text there is. A run that is to explain says so before anything is cached; a cache by
itself may be merged with others, and is made.
"""

import json
import platform
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sae_auto_interp.cache.layout import write_text
from sae_auto_interp.cache.tokens import rows_sha256
from sae_auto_interp.data import sources
from sae_auto_interp.data.layout import RowLayout, tokenizer_sha256
from sae_auto_interp.data.records import PassedOver
from sae_auto_interp.data.sources import TextSource, rows_from
from sae_auto_interp.errors import ConfigError, InputError
from sae_auto_interp.pipeline.resolved import Text
from sae_auto_interp.pipeline.run_directory import RunDirectory, path_digest, pattern_digest
from sae_auto_interp.protocols import Progress
from sae_auto_interp.types import TokenRows
from sae_auto_interp.visible_text import counted

FORMAT_VERSION = 1
NEEDED = {"source", "files", "layout", "tokenizer_sha256", "versions", "rows_sha256"}
PACKAGES = ("tokenizers", "transformers", "datasets", "pyarrow")
"""Named in the manifest with their versions: what may read the same files differently one day."""


_BECAUSE = {
    "data.prepend_bos": "as data.prepend_bos says",
    "autoencoders": "as the autoencoders were trained",
    "assumption": "which is assumed: the autoencoders' files do not record it (data.prepend_bos decides)",
}


@dataclass(frozen=True, slots=True)
class BosPolicy:
    """Whether rows begin with BOS, and who says so."""

    prepend_bos: bool
    origin: str
    """`data.prepend_bos`, `autoencoders`, or `assumption`."""

    def describe(self, tokenizer: Any) -> str:
        """One line for the user."""
        what = f"begin with BOS ({tokenizer.bos_token!r})" if self.prepend_bos else "have no BOS in front"
        return f"rows {what}, {_BECAUSE[self.origin]}"


def token_rows(
    text: Text,
    directory: RunDirectory,
    tokenizer: Any,
    policies: Mapping[str, bool],
    progress: Progress,
    assumed: Collection[str] = (),
) -> TokenRows:
    """The rows of a run; `policies` says of each autoencoder whether it was trained with BOS in front.

    Of those in `assumed`, nothing says it.
    """
    policy = bos_policy(text, policies, assumed)
    progress.note(policy.describe(tokenizer))
    if directory.tokens.is_file():
        return directory.load_tokens()
    progress.note(f"reading text from {text.data.source}")
    source, layout = sources.pinned(_source(text)), row_layout(text, policy)
    passed_over = PassedOver()
    rows = rows_from(source, layout, tokenizer, passed_over)
    for line in (passed_over.line, few_documents(rows)):
        if line:
            progress.note(line)
    write_text(directory.data, json.dumps(_manifest(source, layout, policy, tokenizer, rows), indent=2) + "\n")
    directory.save_tokens(rows)
    progress.note(
        f"{counted(rows.n_rows, 'row')} of {rows.ctx_len} tokens, {counted(rows.n_text_tokens, 'text token')} from "
        f"{counted(len(rows.document_names), 'document')}"
    )
    return rows


def first_rows(
    text: Text, tokenizer: Any, policies: Mapping[str, bool], n_tokens: int, assumed: Collection[str] = ()
) -> TokenRows:
    """The rows with which a run of this configuration would begin: at least `n_tokens` text tokens; kept nowhere."""
    layout = replace(row_layout(text, bos_policy(text, policies, assumed)), n_tokens=n_tokens)
    return rows_from(sources.pinned(_source(text)), layout, tokenizer)


def bos_policy(text: Text, policies: Mapping[str, bool], assumed: Collection[str] = ()) -> BosPolicy:
    """What the configuration says, else what the autoencoders were trained with; `ConfigError` if they disagree.

    What is only `assumed` of an autoencoder disagrees with nothing: what others' files record goes before it, and of
    assumptions alone, BOS.
    """
    if text.data.prepend_bos is not None:
        return BosPolicy(text.data.prepend_bos, "data.prepend_bos")
    recorded = {path: bos for path, bos in policies.items() if path not in assumed}
    if policies and not recorded:
        return BosPolicy(any(policies.values()), "assumption")
    if len(set(recorded.values())) > 1:
        listed = ", ".join(f"{path}: {'with' if bos else 'without'}" for path, bos in recorded.items())
        raise ConfigError(
            f"the autoencoders disagree on a BOS token in front ({listed}); set data.prepend_bos, or run them apart"
        )
    return BosPolicy(next(iter(recorded.values()), False), "autoencoders")


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


def _source(text: Text) -> TextSource:
    data = text.data
    return TextSource(
        source=data.source, subset=data.subset, split=data.split, data_files=data.data_files,
        text_field=data.text_field, messages_field=data.messages_field,
        max_chars_per_document=data.max_chars_per_document, split_documents=data.split_documents,
        skip_documents=data.skip_documents,
        max_documents=data.max_documents, shuffle_buffer=data.shuffle_buffer, seed=text.seed,
    )  # fmt: skip


def row_layout(text: Text, policy: BosPolicy) -> RowLayout:
    """How the run's texts are laid out in rows."""
    data = text.data
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
    """Return the digests of the local files; for others the commit, part of the source, stands in."""
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
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
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


FEW_DOCUMENTS = 20
"""With fewer, many features fire in too few documents to have examples on both sides."""


def check_documents(text: Text, rows: TokenRows) -> None:
    """Raises `InputError` where the rows hold fewer documents than a record needs."""
    n = len(rows.document_names)
    if n < text.n_documents:
        held = f"{counted(rows.n_text_tokens, 'token')} of {counted(n, 'document')}"
        full = f" (data.n_tokens: {text.data.n_tokens:,} is reached there)" if _is_full(text, rows) else ""
        raise InputError(
            f"the text gives {held}{full}: {', '.join(rows.document_names)[:200]}. Explaining and scoring need "
            f"several, for a document is shown or tested, never both; {_remedy(text)}"
        )


def few_documents(rows: TokenRows) -> str:
    """A line where there are few; empty otherwise."""
    n = len(rows.document_names)
    if n >= FEW_DOCUMENTS:
        return ""
    held = "one document only: by itself it gives no feature a record" if n == 1 else f"{n} documents only: features "
    then = "" if n == 1 else "that fire in too few of them get no record"
    return f"the text has {held}{then}; data.split_documents cuts long documents at blank lines"


def _remedy(text: Text) -> str:
    if text.data.source.lower().endswith(".npy"):
        return "give the token ids of more documents"
    return (
        "set data.split_documents: 2000, which cuts long documents at blank lines into parts of that many characters "
        "that count as documents, or give text of more documents (a directory of files, or .jsonl with one per line)"
    )


def _is_full(text: Text, rows: TokenRows) -> bool:
    return rows.n_text_tokens >= text.data.n_tokens

"""Addresses on the Hugging Face hub, `hf:owner/repo[/path][@revision]`, and the commit that one means.

In: such an address, or a subject model's plain hub id. Out: the same address with the branch or tag replaced by its
commit, so that what is noted beside results can be fetched again. Everything goes through huggingface_hub, which takes
the server from HF_ENDPOINT and a token, for private and gated repositories, from HF_TOKEN or its own login; neither is
read or noted here. With HF_HUB_OFFLINE set, the local cache is asked instead, and so it is, with a warning, when the
hub gives no answer. Loads no torch.
"""

import logging
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sae_auto_interp.errors import InputError

PREFIX = "hf:"
DEFAULT_REVISION = "main"
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_MODEL_ID = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*")
"""Old models have no owner, as `gpt2`."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LOG = logging.getLogger(__name__)


class _NoAnswerError(InputError):
    """The hub could not be asked; what it would have said is not known."""


@dataclass(frozen=True, slots=True)
class HubRef:
    """A repository of the hub, or a file or directory in it."""

    repo: str
    """`owner/name`; of old models the name alone."""
    path: str = ""
    """Within the repository; empty for all of it."""
    revision: str = DEFAULT_REVISION
    """Branch, tag or commit."""

    def __str__(self) -> str:
        return f"{PREFIX}{'/'.join(filter(None, (self.repo, self.path)))}@{self.revision}"

    @property
    def is_pinned(self) -> bool:
        return _COMMIT.fullmatch(self.revision) is not None


def parse_hub_ref(ref: str) -> HubRef | None:
    """The address in `ref`; None when it does not begin with `hf:`. Raises `InputError` for an impossible one."""
    if not ref.startswith(PREFIX):
        return None
    address, at, revision = ref.removeprefix(PREFIX).partition("@")
    parts = address.strip("/").split("/")
    repo = "/".join(parts[:2])
    is_named = _REPO.fullmatch(repo) or (at and _MODEL_ID.fullmatch(repo))
    stays_below = not {"", ".", ".."} & {*parts, *(revision.split("/") if at else ())}  # both become directories
    if not is_named or not stays_below:
        raise InputError(f"{ref!r} is no hub address; write hf:owner/repo[/path][@revision]")
    return HubRef(repo, "/".join(parts[2:]), revision or DEFAULT_REVISION)


def model_address(ref: str) -> str:
    """A subject model's reference, as an address if it is a plain hub id (`owner/name`, `gpt2`); else as it is."""
    is_id = _MODEL_ID.fullmatch(ref) is not None and not Path(ref).exists()
    return f"{PREFIX}{ref}@{DEFAULT_REVISION}" if is_id else ref


def pinned(ref: HubRef) -> HubRef:
    """`ref` with its revision replaced by the commit that it means now; one with a commit needs no connection.

    Raises `InputError` when the hub has no such repository or revision, or cannot be reached and nothing of it was ever
    fetched.
    """
    if ref.is_pinned:
        return ref
    if is_offline():
        return replace(ref, revision=_cached_commit(ref))
    try:
        return replace(ref, revision=_commit_on_hub(ref))
    except _NoAnswerError as error:
        file = _cached_revision(ref)
        if not file.is_file():
            raise
        commit = _noted_commit(ref, file)
        _LOG.warning("%s; going on with commit %s, which it was when it was last fetched", error, commit)
        return replace(ref, revision=commit)


def _commit_on_hub(ref: HubRef) -> str:
    from huggingface_hub import HfApi

    with hub_errors(ref):
        commit = HfApi().repo_info(ref.repo, revision=ref.revision).sha
    if not commit or not _COMMIT.fullmatch(commit):  # it becomes the name of a directory
        raise InputError(f"{ref}: the hub gives no commit for this revision; name a commit after the @")
    return commit


def is_offline() -> bool:
    """Whether the user has told huggingface_hub to do without the hub (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def cached_snapshot(ref: HubRef) -> Path:
    """The directory of the local cache for a pinned address, whether or not anything was ever fetched into it."""
    return _cache_folder(ref) / "snapshots" / ref.revision


@contextmanager
def hub_errors(ref: HubRef) -> Generator[None]:
    """What huggingface_hub raises, as an `InputError` that says what to do."""
    from huggingface_hub import constants, errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise InputError(
            f"{ref}: access to {ref.repo} must be asked for on its page; "
            "then log in with `hf auth login`, or set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{ref}: {shown_endpoint(constants.ENDPOINT)} has no repository {ref.repo!r} that you may see; "
            "check the name, or, if it is private, log in with `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{ref}: {ref.repo} has no branch, tag or commit {ref.revision!r}") from error
    except errors.EntryNotFoundError as error:
        raise InputError(f"{ref}: {ref.repo} has no {ref.path!r} at this revision") from error
    except (errors.HTTPError, OSError) as error:  # pyright: ignore[reportPrivateImportUsage]
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        kind = InputError if isinstance(error, errors.HfHubHTTPError) else _NoAnswerError
        raise kind(
            f"{ref}: the hub at {shown_endpoint(constants.ENDPOINT)} gave no answer ({shown_endpoint(reason)}); "
            "check the connection, or download the files elsewhere and give their directory"
        ) from error


def shown_endpoint(text: str) -> str:
    """Without the user names and passwords that addresses in it may hold."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


def _cached_commit(ref: HubRef) -> str:
    """The commit that a branch or tag meant when it was last fetched under that name."""
    folder, file = _cache_folder(ref), _cached_revision(ref)
    if file.is_file():
        return _noted_commit(ref, file)
    commits = ", ".join(sorted(p.name for p in (folder / "snapshots").glob("*"))) or "none"
    raise InputError(
        f"{ref}: HF_HUB_OFFLINE is set, and what commit {ref.revision!r} is, is not known in {folder.parent}; "
        f"unset it, or name one of the commits that were fetched ({commits}) after the @"
    )


def _noted_commit(ref: HubRef, file: Path) -> str:
    """Raises `InputError` for what cannot be a commit: it becomes the name of a directory."""
    commit = file.read_text(encoding="utf-8", errors="replace").strip()
    if not _COMMIT.fullmatch(commit):
        raise InputError(f"{ref}: {file} holds no commit ({commit[:60]!r}); delete it, or name a commit after the @")
    return commit


def _cached_revision(ref: HubRef) -> Path:
    """Where huggingface_hub notes the commit that a branch or tag meant when it was last fetched."""
    return _cache_folder(ref) / "refs" / ref.revision


def _cache_folder(ref: HubRef) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=ref.repo, repo_type="model")

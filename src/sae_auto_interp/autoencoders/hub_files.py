"""From an address on the hub to the local directory of the few files that are needed.

Repositories of autoencoders hold up to hundreds of gigabytes, so the files are listed first, and only those are fetched
that are below the address and that `chosen` names, with the small configuration files beside and above them. The choice
goes by paths and not by family: what family the files are of can be said for certain only once they are here (OpenAI's
and others' `.pt` files differ in their content alone). Nothing else than weights and configurations is ever fetched.
"""

import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from sae_auto_interp.errors import InputError, UnknownNameError, nearest_names
from sae_auto_interp.models.hub import HubRef, cached_snapshot, hub_errors, is_offline

WEIGHTS = (".safetensors", ".npz", ".pt", ".pth")
CONFIGURATIONS = (".json", ".yaml", ".yml")
LARGEST_CONFIGURATION_BYTES = 1 << 20
LARGEST_UNCHOSEN_GIB = 16
"""More is not fetched unless it was chosen by name."""


def fetch(ref: HubRef, chosen: Sequence[str] | None) -> Path:
    """The local file or directory for a pinned address, with what `chosen` names (None: all) in it.

    Raises `InputError` when the hub gives no answer, nothing is at the address or of a chosen name, or all of it is
    more than `LARGEST_UNCHOSEN_GIB`.
    """
    from huggingface_hub import snapshot_download

    sizes = _cached_sizes(ref) if is_offline() else _listed_sizes(ref)
    wanted = wanted_files(ref, sizes, chosen)
    if is_offline():
        return cached_snapshot(ref) / ref.path
    with hub_errors(ref):
        patterns = [glob.escape(name) for name in wanted]
        return Path(snapshot_download(ref.repo, revision=ref.revision, allow_patterns=patterns)) / ref.path


def wanted_files(ref: HubRef, sizes: Mapping[str, int], chosen: Sequence[str] | None) -> list[str]:
    """Return which of a repository's files (with their sizes in bytes) to fetch."""
    below = [name for name in sizes if PurePosixPath(name).is_relative_to(ref.path)]
    weights = [name for name in below if name.endswith(WEIGHTS)]
    if not weights:
        raise _nothing_there(ref, sizes)
    if chosen is None:
        _check_size(ref, sum(sizes[name] for name in weights), weights)
    else:
        weights = _chosen_among(ref, weights, chosen)
    return sorted({*weights, *_configurations(sizes, ref, weights)})


def _chosen_among(ref: HubRef, weights: Sequence[str], chosen: Sequence[str]) -> list[str]:
    found: list[str] = []
    for choice in chosen:
        matching = [name for name in weights if _is_meant(PurePosixPath(name).relative_to(ref.path), choice)]
        if not matching:
            raise UnknownNameError(f"choice of autoencoders in {ref}", choice, _places(ref, weights))
        found += matching
    return found


def _is_meant(file: PurePosixPath, choice: str) -> bool:
    """Whether a choice names the file or a directory above it, or is the number that the file's name ends with."""
    if choice.isdecimal() and re.findall(r"\d+", file.name.split(".")[0])[-1:] == [choice]:
        return True
    wanted = choice.strip("/").split("/")
    parts = [*file.parts[:-1], file.name.split(".")[0]]
    whole = list(file.parts)
    n = len(wanted)
    return any(wanted in (parts[i : i + n], whole[i : i + n]) for i in range(len(parts) - n + 1))


def _configurations(sizes: Mapping[str, int], ref: HubRef, weights: Iterable[str]) -> list[str]:
    """Small configuration files in the directories of the weights and in all above them."""
    folders = {parent for name in (*weights, ref.path) for parent in PurePosixPath(name).parents}
    folders.add(PurePosixPath(ref.path))
    return [
        name
        for name, size in sizes.items()
        if name.endswith(CONFIGURATIONS)
        and size <= LARGEST_CONFIGURATION_BYTES
        and PurePosixPath(name).parent in folders
    ]


def _check_size(ref: HubRef, n_bytes: int, weights: Sequence[str]) -> None:
    if n_bytes > LARGEST_UNCHOSEN_GIB << 30:
        some = ", ".join(_places(ref, weights)[:8])
        raise InputError(
            f"{ref} holds {n_bytes / 2**30:.0f} GiB of weights; choose among them with module_paths, "
            f"or give a longer path. There are: {some}, ..."
        )


def _places(ref: HubRef, weights: Iterable[str]) -> list[str]:
    """The directories of weights below the address; of weights that lie there directly, the files."""
    relative = [PurePosixPath(name).relative_to(ref.path) for name in weights]
    return sorted({str(path.parent if len(path.parts) > 1 else path) for path in relative})


def _nothing_there(ref: HubRef, sizes: Mapping[str, int]) -> InputError:
    folders = {str(parent) for name in sizes for parent in PurePosixPath(name).parents} - {"."}
    if ref.path and ref.path not in folders and ref.path not in sizes:
        near = ", ".join(nearest_names(ref.path, [*folders, *sizes]) or sorted(folders)[:8]) or "nothing"
        return InputError(f"{ref}: the repository has no {ref.path!r}; near it are: {near}")
    held = ", ".join(sorted(sizes)[:8]) or "nothing"
    return InputError(f"{ref} holds no weights ({', '.join(WEIGHTS)}); it holds {held}")


def _listed_sizes(ref: HubRef) -> dict[str, int]:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    with hub_errors(ref):
        entries = list(HfApi().list_repo_tree(ref.repo, recursive=True, revision=ref.revision))
    sizes = {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}
    for name in sizes:
        if PurePosixPath(name).is_absolute() or {"..", ""} & set(name.split("/")) or "\\" in name or "\0" in name:
            raise InputError(f"{ref}: the hub lists a file {name!r}, which would lie outside of the repository")
    return sizes


def _cached_sizes(ref: HubRef) -> dict[str, int]:
    root = cached_snapshot(ref)
    files = {p.relative_to(root).as_posix(): p.stat().st_size for p in root.rglob("*") if p.is_file()}
    if not files:
        raise InputError(
            f"{ref}: HF_HUB_OFFLINE is set, and {root} holds nothing of it; "
            "unset it, or give the directory of the files"
        )
    return files

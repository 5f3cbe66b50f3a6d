"""Load a subject model from a directory or a hub id, wrapped by NNsight."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sae_auto_interp.errors import InputError


def load_subject_model(ref: str, device: str = "auto") -> Any:
    """A causal language model and its tokenizer as `nnsight.TransformersModel`, weights loaded.

    `ref` is a local directory in Hugging Face format or a hub id. `device` is a torch device or "auto" (a GPU if
    there is one). Raises `InputError` when there is no such model or its files cannot be read.
    """
    from nnsight import TransformersModel

    place = _place(ref)
    try:
        with _no_loading_bar():
            model = TransformersModel(place, task="text-generation", dispatch=True, device_map=device)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"subject model {ref!r} cannot be loaded: {reason}") from error
    model._module.eval()
    return model


@contextmanager
def _no_loading_bar() -> Generator[None, None, None]:
    """Without transformers' own progress bar: the run's progress is ours to show."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def _place(ref: str) -> str:
    """The directory meant, or the hub id; a path that is not there would be looked up on the hub and mislead."""
    path = Path(ref).expanduser()
    looks_local = path.is_absolute() or ref.startswith((".", "~")) or ref.count("/") > 1
    if looks_local and not path.is_dir():
        raise InputError(f"subject model: there is no directory {ref}")
    if path.is_dir() and not (path / "config.json").is_file():
        raise InputError(f"subject model: {ref} holds no config.json; give a directory in Hugging Face format")
    return str(path) if path.is_dir() else ref

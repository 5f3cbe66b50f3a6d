"""Configurations, tokenizers and language models by transformers, without a line of code from where they come from.

torch and transformers are imported when something is loaded. `what` is in each case the subject of messages, and
`place` a directory or a hub id.

Whether a checkpoint held every tensor that its model has: what it lacks, transformers fills with random numbers.
"""

import logging
from collections.abc import Generator, Iterable, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sae_auto_interp.errors import InputError
from sae_auto_interp.model_loading.failures import damaged_file, is_pointer, loading_failures

_LOG = logging.getLogger(__name__)


_MOST_NAMED = 3


def require_all_tensors(model: Any, info: Mapping[str, Any], what: str, unread: tuple[str, ...] = ()) -> None:
    """Raise `InputError` for tensors that a loaded model has from nowhere, or that had another shape in its files.

    `info` is what transformers gives for `output_loading_info`. A parameter that is tied to one that was there counts
    as there, and so does what follows from the settings (buffers). `unread` are parts of names whose tensors nothing
    reads. Raises with the first names, and with the prefix that all names in the files share, where they do.
    """
    missing, buffers = _missing(model, info["missing_keys"], unread)
    unexpected = sorted(info["unexpected_keys"])
    if info["mismatched_keys"]:
        shapes = [f"{name} {list(there)} instead of {list(here)}" for name, there, here in info["mismatched_keys"]]
        raise InputError(f"{what} has tensors of another shape than its config.json says: {_listed(sorted(shapes))}")
    if missing:
        n_all = len(dict(model.named_parameters()))
        raise InputError(
            f"{what} lacks {len(missing)} of its {n_all} tensors, which would be random: {_listed(missing)}"
            f"{_hint(model, unexpected)}"
        )
    if buffers:
        _LOG.warning("%s: its files lack %s; what the architecture begins with is used", what, _listed(buffers))
    if unexpected:
        _LOG.warning("%s: its files hold tensors that the model has no place for: %s", what, _listed(unexpected))


@contextmanager
def quiet_loading() -> Generator[None]:
    """Without transformers' own table of missing tensors, which is said here in one line, and without its progress bar:
    a run's progress is ours to show."""
    from transformers.utils import logging as transformers_logging

    had_bar = transformers_logging.is_progress_bar_enabled()
    logger = logging.getLogger("transformers.modeling_utils")
    transformers_logging.disable_progress_bar()
    logger.addFilter(_is_no_report)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_report)
        if had_bar:
            transformers_logging.enable_progress_bar()


def _is_no_report(record: logging.LogRecord) -> bool:
    return record.funcName not in ("log_state_dict_report", "tie_weights")


def _missing(model: Any, names: Iterable[str], unread: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the parameters (not tied to others) and the buffers that were not in the files, sorted."""
    absent = set(names)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    present = {id(parameter) for name, parameter in parameters.items() if name not in absent}
    random = {id(parameters[name]) for name in absent if name in parameters} - present
    lost = sorted(name for name, parameter in model.named_parameters() if id(parameter) in random)
    buffers = [name for name in sorted(absent) if name not in parameters]
    return [name for name in lost if not any(part in name for part in unread)], buffers


def _hint(model: Any, unexpected: Sequence[str]) -> str:
    if not unexpected:
        return "; its files are not complete, or belong to another config.json"
    own = {*dict(model.named_parameters(remove_duplicate=False)), *dict(model.named_buffers())}
    shared = _shared_prefix(unexpected, own | {name.partition(".")[2] for name in own})
    alike = f", whose names all begin with {shared!r}" if shared else f" ({_listed(unexpected)})"
    save = "; save the model itself, not what wraps it" if shared else "; they belong to another architecture or head"
    return f"; its files hold {len(unexpected)} others{alike}{save}"


def _shared_prefix(names: Sequence[str], own: Set[str]) -> str:
    """What all names begin with before one of the model's `own` names; empty where there is no such thing.

    >>> _shared_prefix(["module.h.0.bias", "module.h.1.bias"], {"h.0.bias", "h.1.bias"})
    'module.'
    """
    parts = names[0].split(".")
    for n in range(1, len(parts)):
        prefix = "".join(f"{part}." for part in parts[:n])
        if all(name.startswith(prefix) and name.removeprefix(prefix) in own for name in names):
            return prefix
    return ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")


_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges*", "*.model", "*.tiktoken", "tekken*", "spiece*", "special_tokens*")


def load_config(what: str, place: str, revision: str | None = None) -> Any:
    """The settings of a model. Raises `InputError` where there are none that transformers can read."""
    with loading_failures(what, place):
        import transformers

        families: Any = transformers  # its types say less than they promise
        config = families.AutoConfig.from_pretrained(place, revision=revision, trust_remote_code=False)
        if "/" in str(getattr(config, "_attn_implementation", "")):
            raise InputError(
                f"{what} asks for attention by code from the hub ({config._attn_implementation}), which is never run "
                "here; take attn_implementation out of its config.json"
            )
        return config


def model_of_settings(what: str, place: str, config: Any) -> Any:
    """A language model by its settings alone: every tensor has its shape, and none takes memory."""
    with loading_failures(what, place):
        import torch

        family = _model_class(what, config)
        with torch.device("meta"):
            return family.from_config(config) if hasattr(family, "from_config") else family(config)


def load_tokenizer(what: str, place: str, revision: str | None = None) -> Any:
    """A tokenizer with a vocabulary. Raises `InputError` where there is none."""
    _require_tokenizer_files(what, place)
    with loading_failures(what, place):
        import transformers

        families: Any = transformers
        tokenizer = families.AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=False)
    if len(tokenizer.get_vocab()) <= len(tokenizer.get_added_vocab()):  # made up from nothing by transformers
        raise InputError(f"{what}: no tokenizer files in {place} hold a vocabulary; {_SAVE_ONE}")
    return tokenizer


def load_language_model(what: str, place: str, revision: str | None = None, **options: Any) -> tuple[Any, Any]:
    """A model that writes text, in evaluation mode, every tensor of it from its files; and its tokenizer.

    `options` go to transformers' `from_pretrained`. Raises `InputError` where it cannot be loaded, or not in full.
    """
    config = load_config(what, place, revision)
    tokenizer = load_tokenizer(what, place, revision)
    with loading_failures(what, place), quiet_loading():
        model, info = _model_class(what, config).from_pretrained(
            place, revision=revision, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True,
            **options,
        )  # fmt: skip
    require_all_tensors(model, info, what)
    return model.eval(), tokenizer


def require_complete_files(what: str, model: Any, revision: str | None, unread: tuple[str, ...]) -> None:
    """Raise `InputError` where a part of a model that others loaded had not all of its tensors in its files.

    Only names and shapes are read again. `unread` are parts of names whose tensors nothing reads.
    """
    import transformers

    families: Any = transformers
    for part in model.modules():
        place: str = getattr(getattr(part, "config", None), "_name_or_path", "")
        is_quantised = getattr(getattr(part, "config", None), "quantization_config", None) is not None
        if not isinstance(part, families.PreTrainedModel) or is_quantised or not place:
            continue
        family: Any = part.__class__
        with loading_failures(what, place), quiet_loading():
            empty, info = family.from_pretrained(
                place, revision=revision, trust_remote_code=False, device_map="meta", output_loading_info=True,
                ignore_mismatched_sizes=True,
            )  # fmt: skip
        require_all_tensors(empty, info, what, unread)
        return  # what it is made of is part of it


_SAVE_ONE = "save one there with tokenizer.save_pretrained"


def _model_class(what: str, config: Any) -> Any:
    """transformers' choice for writing text; for a model that is none by itself, the class that it was saved as."""
    import transformers

    families: Any = transformers
    if type(config) in families.MODEL_FOR_CAUSAL_LM_MAPPING:
        return families.AutoModelForCausalLM
    for name in getattr(config, "architectures", None) or ():
        found = getattr(families, name, None)
        if found is not None:
            return found
    raise InputError(f"{what} is of type {config.model_type!r}, which transformers has no language model of")


def _require_tokenizer_files(what: str, place: str) -> None:
    """Without them transformers makes up a tokenizer that knows no word; of pointers to them, one of three words."""
    folder = Path(place)
    if not folder.is_dir():
        return
    files = [file for pattern in _TOKENIZER_FILES for file in sorted(folder.glob(pattern)) if file.is_file()]
    if not files:
        raise InputError(f"{what}: no tokenizer files in {place}; {_SAVE_ONE}")
    needed = [file for file in files if file.suffix == ".json"] if folder / "tokenizer.json" in files else files
    if any(is_pointer(file) for file in needed):
        raise InputError(f"{what} cannot be loaded: {damaged_file(place)}")

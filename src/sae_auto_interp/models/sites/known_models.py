"""Does a model fit the one that an autoencoder's files name? What the name says of a model's form is compared with the
model itself; names alone prove nothing, for a directory may be called anything and a fine-tuned model is still fit.

Sources: the config.json of each model's repository on the hub; the short names are TransformerLens'.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from sae_auto_interp.models.identity import model_name


@dataclass(frozen=True, slots=True)
class ModelForm:
    """What stays the same when a model is trained on, renamed or given more tokens. None: not known."""

    family: str
    """Beginning of the `model_type` of its configuration."""
    hidden_size: int | None
    n_layers: int | None


@dataclass(frozen=True, slots=True)
class NameMismatch:
    """How sure it is that the model is another one."""

    certainty: Literal["other_form", "other_name"]
    message: str


_SIZES: dict[str, dict[str, tuple[int, int]]] = {
    "gpt2": {"": (768, 12), "medium": (1024, 24), "large": (1280, 36), "xl": (1600, 48)},
    "pythia": {
        "14m": (128, 6), "31m": (256, 6), "70m": (512, 6), "160m": (768, 12), "410m": (1024, 24), "1b": (2048, 16),
        "1.4b": (2048, 24), "2.8b": (2560, 32), "6.9b": (4096, 32), "12b": (5120, 36),
    },
    "gemma-2": {"2b": (2304, 26), "9b": (3584, 42), "27b": (4608, 46)},
    "gemma-3": {"270m": (640, 18), "1b": (1152, 26), "4b": (2560, 34), "12b": (3840, 48), "27b": (5376, 62)},
    "gemma": {"2b": (2048, 18), "7b": (3072, 28)},
    "llama-3.2": {"1b": (2048, 16), "3b": (3072, 28)},
    "llama-3.1": {"8b": (4096, 32), "70b": (8192, 80)},
    "llama-3.3": {"70b": (8192, 80)},
    "llama-3": {"8b": (4096, 32), "70b": (8192, 80)},
    "llama-2": {"7b": (4096, 32), "13b": (5120, 40), "70b": (8192, 80)},
    "qwen2.5": {
        "0.5b": (896, 24), "1.5b": (1536, 28), "3b": (2048, 36), "7b": (3584, 28), "14b": (5120, 48),
        "32b": (5120, 64), "72b": (8192, 80),
    },
    "qwen3": {
        "0.6b": (1024, 28), "1.7b": (2048, 28), "4b": (2560, 36), "8b": (4096, 36), "14b": (5120, 40),
        "32b": (5120, 64),
    },
    "mistral": {"7b": (4096, 32)},
    "gpt-oss": {"20b": (2880, 24), "120b": (2880, 36)},
}  # fmt: skip
"""Series -> size -> (hidden size, layers). The longer of two names that begin alike comes first."""
_FAMILIES = {"pythia": "gpt_neox", "qwen2.5": "qwen2", "gpt-oss": "gpt_oss", "gemma-2": "gemma2", "gemma-3": "gemma3"}
"""`model_type`, where it is not the series' name without its number."""
_ALIASES = {"gpt2-small": "gpt2", "gpt2-124m": "gpt2", "gpt2-sm": "gpt2"}
_VARIANTS = ("it", "instruct", "chat", "base", "pt", "hf", "v0.1", "v0.2", "v0.3", "deduped", "v0", "bf16")


def normalised_name(name: str) -> str:
    """A model's name without owner, path and spelling: `google/gemma-2-2b` and `Gemma_2_2B` are one.

    >>> normalised_name("meta-llama/Meta-Llama-3.1-8B"), normalised_name("gpt2-small")
    ('llama-3.1-8b', 'gpt2')
    """
    last = re.split(r"[/\\]", name.strip().rstrip("/\\"))[-1].lower().replace("_", "-").replace(" ", "-")
    last = re.sub(r"^(meta|openai|google)-", "", last)
    last = re.sub(r"^llama-?(\d)", r"llama-\1", last)
    last = re.sub(r"^gemma-?(\d)-", r"gemma-\1-", last)
    last = re.sub(r"^gpt-2", "gpt2", last)
    return _ALIASES.get(last, last)


def known_form(name: str) -> ModelForm | None:
    """What a model's name says about its form; None unless both its series and its size are known."""
    plain = normalised_name(name)
    for series, sizes in _SIZES.items():
        match = re.match(rf"{re.escape(series)}(?:-(?P<rest>.*))?$", plain)
        if match is None:
            continue
        words = (match["rest"] or "").split("-")
        size = next((word for word in words if word in sizes and (word or words == [""])), None)
        if size is not None:
            return ModelForm(_FAMILIES.get(series, re.sub(r"-[\d.]+$", "", series)), *sizes[size])
    return None


def compare_with_claim(claimed: str, model: nn.Module) -> NameMismatch | None:
    """What speaks against `model` being the one that is named; None when nothing does.

    A form that differs is certain. A name that differs is worth a word only where it is a known model's too: that of a
    directory of one's own says nothing.
    """
    name = model_name(model)
    wanted, form = known_form(claimed), _form_of(model)
    if wanted is not None:
        differences = _differences(wanted, form)
        if differences:
            return NameMismatch("other_form", f"its files name {claimed}, which {' and '.join(differences)}")
    one, other = normalised_name(claimed), normalised_name(name)
    if one == other or not _is_public(name):
        return None
    return NameMismatch("other_name", f"its files name {claimed}, and this is {name}{_relation(one, other)}")


def _form_of(model: nn.Module) -> ModelForm:
    config: Any = getattr(model, "config", None)
    text: Any = getattr(config, "text_config", None) or config
    hidden, layers = getattr(text, "hidden_size", None), getattr(text, "num_hidden_layers", None)
    return ModelForm(
        str(getattr(config, "model_type", "") or ""),
        hidden if isinstance(hidden, int) else None,
        layers if isinstance(layers, int) else None,
    )


def _differences(wanted: ModelForm, found: ModelForm) -> list[str]:
    said: list[str] = []
    if found.family and not found.family.startswith(wanted.family):
        said.append(f"is a {wanted.family} (this model: {found.family})")
    if None not in (wanted.hidden_size, found.hidden_size) and wanted.hidden_size != found.hidden_size:
        said.append(f"has {wanted.hidden_size} dimensions (this model: {found.hidden_size})")
    if None not in (wanted.n_layers, found.n_layers) and wanted.n_layers != found.n_layers:
        said.append(f"has {wanted.n_layers} layers (this model: {found.n_layers})")
    return said


def _is_public(name: str) -> bool:
    """Whether a name is a hub id or a known model's, and not that of a directory or a class."""
    return not Path(name).exists() and (name.count("/") == 1 or known_form(name) is not None)


def _relation(one: str, other: str) -> str:
    """Whether two names differ by a variant only."""

    def without_variant(name: str) -> str:
        return "-".join(word for word in name.split("-") if word not in _VARIANTS)

    is_variant = without_variant(one) == without_variant(other)
    return ": another variant of the same model" if is_variant else ""

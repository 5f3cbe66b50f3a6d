"""SAELens' `cfg.json`, of version 6 and of the flat files before it, as typed settings.

Source: github.com/jbloomAus/SAELens (`handle_pre_6_0_config` has the defaults of the flat files). What is not in these
files for some early releases, and is wrong if it is left out, the caller may give (`Overrides`): SAELens keeps it in a
list of releases by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_auto_interp.autoencoders.families._activation_names import check_activation, plain
from sae_auto_interp.autoencoders.files import flag_of, integer_of, read_json, required_file
from sae_auto_interp.autoencoders.left_out import LEFT_OUT
from sae_auto_interp.autoencoders.settings import Activation, Normalisation
from sae_auto_interp.errors import WeightsError

ACTIVATIONS: dict[str, Activation] = {
    "standard": "relu",
    "gated": "gated",
    "topk": "topk",
    "abstopk": "abstopk",
    "jumprelu": "jumprelu",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
"""The activation function of each architecture. Batch-top-k and matryoshka coders are saved by SAELens as JumpReLU."""
NORMALISATIONS: dict[str, Normalisation] = {
    "none": "none",
    "layer_norm": "layer_norm",
    "constant_norm_rescale": "constant_norm",
}
_FUNCTIONS: dict[Activation, tuple[str, ...]] = {
    "relu": ("relu",), "gated": ("relu",), "jumprelu": ("relu", "jumprelu"), "topk": ("topk", "relu"),
    "abstopk": ("abstopk", "topk", "relu"),
}  # fmt: skip
"""What a config may call the function, beside its architecture. A threshold or top k comes after or before a ReLU."""
_KWARGS = "model_from_pretrained_kwargs"
_IN_METADATA = (
    "model_name", "hook_name", "hook_name_out", "hook_head_index", "prepend_bos", "context_size", "dataset_path",
    _KWARGS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a caller knows and the files may not say; None leaves it to them."""

    processed: bool | None = None
    """Whether it was trained on a model processed by TransformerLens, where what is written to the residual stream is
    centred and value biases are folded away."""
    norm_scaling_factor: float | None = None
    """What activations were multiplied with in training, under `expected_average_only_in`."""
    normalisation: Normalisation | None = None
    k: int | None = None

    def over(self, other: "Overrides") -> "Overrides":
        """These, and those of `other` that are not given here."""
        factor = self.norm_scaling_factor
        if factor is None and self.normalisation is None:
            factor = other.norm_scaling_factor
        normalisation = self.normalisation
        if normalisation is None and self.norm_scaling_factor is None:
            normalisation = other.normalisation
        processed = other.processed if self.processed is None else self.processed
        return Overrides(processed, factor, normalisation, self.k or other.k)


@dataclass(frozen=True, slots=True)
class SaelensConfig:
    architecture: str
    sizes: dict[str, Any]
    """What the file says of `d_in` and `d_sae`."""
    k: int | None
    subtract_b_dec: bool
    normalisation: Normalisation
    norm_scaling_factor: float | None
    rescales_by_decoder_norm: bool
    is_finetuned: bool
    hook: str
    """As SAELens calls it."""
    place: str
    """The same, by its module in the Hugging Face model where the file says that too: the name of the hook does not
    always tell the two sides of a norm apart."""
    hook_out: str
    """Where a transcoder writes, as SAELens calls it."""
    place_out: str | None
    """Where a transcoder writes."""
    centred: bool
    value_bias_folded: bool
    """True only for attention outputs before W_O (`hook_z`)."""
    processing_is_known: bool
    """Whether the files or the caller say the last two."""
    prepend_bos: bool
    bos_is_recorded: bool
    model: str | None
    ctx_len: int | None
    dataset: str | None

    @property
    def activation(self) -> Activation:
        return ACTIVATIONS[self.architecture]

    @property
    def is_transcoder(self) -> bool:
        return self.architecture.endswith("transcoder")

    @property
    def has_skip(self) -> bool:
        return self.architecture.endswith("skip_transcoder")


def read_config(directory: Path, overrides: Overrides | None = None) -> SaelensConfig:
    """Raises `WeightsError` for what SAELens can say and is not read here, by name and with the reason."""
    file = required_file(directory / "cfg.json", "SAELens autoencoder")
    config = read_json(file)
    is_flat = not isinstance(config.get("metadata"), dict)
    if is_flat:
        config = _lifted(config)
    config = _with_top_k(config)
    metadata: dict[str, Any] = config["metadata"]
    overrides = overrides or Overrides()
    architecture = _architecture(config, file)
    for stated in (config, metadata):
        check_activation(stated, _FUNCTIONS[ACTIVATIONS[architecture]], file)
    _refuse_single_head(metadata, file)
    normalisation, factor = _normalisation(config, overrides, file)
    hook = str(metadata.get("hook_name") or "")
    centred, folded = _processing(metadata, hook, is_flat, overrides, file)
    is_transcoder = architecture.endswith("transcoder")
    if is_transcoder and normalisation != "none":
        raise WeightsError(f"{file}: a {architecture} with normalize_activations={normalisation!r} is not read")
    has_k = ACTIVATIONS[architecture] in ("topk", "abstopk")
    return SaelensConfig(
        architecture=architecture, sizes={name: config.get(name) for name in ("d_in", "d_sae")},
        k=(overrides.k or integer_of(config, "k", file)) if has_k else None,
        subtract_b_dec=_subtracts(config, file) and not is_transcoder,
        normalisation=normalisation, norm_scaling_factor=factor,
        rescales_by_decoder_norm=flag_of(config, "rescale_acts_by_decoder_norm", file) and has_k,
        is_finetuned=flag_of(config, "finetuning_scaling_factor", file), hook=hook,
        place=str(metadata.get("hf_hook_name") or hook), hook_out=str(metadata.get("hook_name_out") or ""),
        place_out=_place_out(metadata) if is_transcoder else None,
        centred=centred, value_bias_folded=folded,
        processing_is_known=not is_flat or overrides.processed is not None or _KWARGS in metadata,
        prepend_bos=flag_of(metadata, "prepend_bos", file, default=True),
        bos_is_recorded=metadata.get("prepend_bos") is not None, model=metadata.get("model_name"),
        ctx_len=metadata.get("context_size"), dataset=metadata.get("dataset_path"),
    )  # fmt: skip


def _lifted(config: dict[str, Any]) -> dict[str, Any]:
    """A flat config in version 6's form."""
    renamed = {
        "hook_point": "hook_name",
        "hook_point_head_index": "hook_head_index",
        "activation_fn_str": "activation_fn",
    }
    config = {renamed.get(name, name): value for name, value in config.items()}
    if isinstance(config.get("normalize_activations"), bool):
        config["normalize_activations"] = "expected_average_only_in" if config["normalize_activations"] else "none"
    return config | {"metadata": {name: config[name] for name in _IN_METADATA if name in config}}


def _with_top_k(config: dict[str, Any]) -> dict[str, Any]:
    """Top k was an activation function of the standard architecture before it was one of its own."""
    name = config.get("activation_fn", config.get("activation_fn_str"))
    is_standard = (config.get("architecture") or "standard") in ("standard", "topk")
    if not isinstance(name, str) or plain(name) != "topk" or not is_standard:
        return config
    kwargs = config.get("activation_fn_kwargs")
    k: Any = kwargs.get("k") if isinstance(kwargs, dict) else None
    return config | {"architecture": "topk", "k": k if k is not None else config.get("k")}


def _subtracts(config: Mapping[str, Any], file: Path) -> bool:
    """Files that do not have the key are of before it was a choice; null is SAELens' no."""
    return flag_of(config, "apply_b_dec_to_input", file, default="apply_b_dec_to_input" not in config)


def _place_out(metadata: Mapping[str, Any]) -> str | None:
    return metadata.get("hf_hook_name_out") or metadata.get("hook_name_out")


def _architecture(config: Mapping[str, Any], file: Path) -> str:
    name = str(config.get("architecture") or "standard")
    if name in LEFT_OUT:
        raise WeightsError(f"{file}: {name!r} autoencoders are not read: {LEFT_OUT[name]}")
    if name not in ACTIVATIONS:
        raise WeightsError(f"{file}: architecture {name!r} is not known; known: {', '.join(ACTIVATIONS)}")
    return name


def _refuse_single_head(metadata: Mapping[str, Any], file: Path) -> None:
    if metadata.get("hook_head_index") is not None:
        raise WeightsError(
            f"{file}: reads a single attention head (hook_head_index={metadata['hook_head_index']}), which is no whole "
            "tensor of the model"
        )


def _normalisation(config: Mapping[str, Any], overrides: Overrides, file: Path) -> tuple[Normalisation, float | None]:
    """The normalisation, and a constant factor that stands for one. What the caller says goes before the file."""
    if overrides.normalisation is not None and overrides.norm_scaling_factor is not None:
        raise WeightsError(f"{file}: normalisation and norm_scaling_factor are two ways to scale; give one of them")
    if overrides.normalisation is not None:
        return overrides.normalisation, None
    if overrides.norm_scaling_factor is not None:
        return "none", _factor(overrides.norm_scaling_factor, file)
    name = config.get("normalize_activations") or "none"
    if name in NORMALISATIONS:
        return NORMALISATIONS[name], None
    if name == "covariance_whitening":
        raise WeightsError(
            f"{file}: normalize_activations={name!r}: the whitening was not folded into the weights, and is not in the "
            "file; fold and save it again with SAELens"
        )
    if name != "expected_average_only_in":
        raise WeightsError(f"{file}: normalize_activations={name!r} is not known; known: {', '.join(NORMALISATIONS)}")
    if config.get("norm_scaling_factor") is None:
        raise WeightsError(
            f"{file}: normalize_activations={name!r}: activations were multiplied by a factor in training which is not "
            "in the file; give it as norm_scaling_factor in the run file, in "
            "load_saelens_autoencoders(norm_scaling_factor=...), or in cfg.json (SAELens lists it with the release)"
        )
    return "none", _factor(config["norm_scaling_factor"], file)


def _factor(value: Any, file: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise WeightsError(f"{file}: norm_scaling_factor is {value!r}, but must be a number above zero")
    return float(value)


def _processing(
    metadata: Mapping[str, Any], hook: str, is_flat: bool, overrides: Overrides, file: Path
) -> tuple[bool, bool]:
    """Whether the vectors were centred, and whether they lacked the value bias.

    Before version 6 models were loaded with all of TransformerLens' processing, or asked for it by centring.
    """
    kwargs: Mapping[str, Any] = metadata.get(_KWARGS) or {}
    centred = flag_of(kwargs, "center_writing_weights", file)
    folded = flag_of(kwargs, "fold_value_biases", file, default=centred and is_flat)
    if overrides.processed is not None:
        centred = folded = overrides.processed
    is_z = hook.endswith("hook_z")
    return centred and not is_z, folded and is_z

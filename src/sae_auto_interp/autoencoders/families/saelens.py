"""SAELens weights: `cfg.json` and `sae_weights.safetensors` (version 6 and the flat files before it).

Source: github.com/jbloomAus/SAELens. The hook's name says where the coder reads, in TransformerLens' vocabulary; a
transcoder's second one, what it reconstructs. Coders of models that TransformerLens had processed
(`center_writing_weights`) were trained on vectors without their mean: the site is then read `centred`.
"""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.families.saelens_config import Overrides, SaelensConfig, read_config
from sae_auto_interp.autoencoders.families.saelens_weights import canonical_weights
from sae_auto_interp.autoencoders.files import read_safetensors, required_file
from sae_auto_interp.autoencoders.settings import CoderClaims, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.autoencoders.value_bias import without_value_bias
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.sites.hook_names import is_hook_name
from sae_auto_interp.models.sites.site import Placement, Site
from sae_auto_interp.models.sites.site_names import resolve_site
from sae_auto_interp.models.sites.text_stack import text_stacks

logger = logging.getLogger(__name__)
WEIGHTS_FILE = "sae_weights.safetensors"
_RESIDUAL_HOOKS = re.compile(
    r"(^|\.)(hook_embed|hook_resid_\w+|hook_attn_out|hook_mlp_out|attn\.hook_out|mlp\.hook_out)$"
)
"""What is in the residual stream, or is written to it."""


def load_saelens_autoencoders(
    model: Any,
    directories: Sequence[str] | None,
    weight_dir: str | Path,
    *,
    processed: bool | None = None,
    norm_scaling_factor: float | None = None,
) -> dict[str, Any]:
    """Attach SAELens coders below `weight_dir` at the hooks that their configs name.

    `directories` are names below `weight_dir`; None takes `weight_dir` itself if it holds a cfg.json, otherwise every
    directory below it that does. The last two are for early releases whose files do not say them (`Overrides`):
    gpt2-small-res-jb for example needs processed=True. Returns {module path: submodule}. Raises `InputError` or
    `WeightsError`.
    """
    overrides = Overrides(processed, norm_scaling_factor)
    return attach(model, _coders(model, coder_directories(Path(weight_dir), directories), overrides))


def recognise(root: Path) -> str | None:
    """What gives the family away."""
    if root.is_file():
        return f"it is {WEIGHTS_FILE}" if root.name == WEIGHTS_FILE else None
    found = next((p for p in root.rglob(WEIGHTS_FILE) if (p.parent / "cfg.json").is_file()), None)
    return None if found is None else f"it holds {found.relative_to(root)} with a cfg.json"


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None) -> dict[Placement, SparseCoder]:
    """`chosen` are names of directories."""
    return _coders(model, coder_directories(root, chosen), Overrides())


def coder_directories(root: Path, chosen: Sequence[str] | None = None) -> list[Path]:
    """The `chosen` directories; None: `root` if it holds a coder's config, otherwise those below it that do."""
    if root.is_file():
        return [root.parent]
    if not root.is_dir():
        raise InputError(f"SAELens autoencoders: there is no directory {root}")
    if chosen is not None:
        return [root / name for name in chosen]
    found = [root] if (root / "cfg.json").is_file() else sorted(p.parent for p in root.rglob("cfg.json"))
    if not found:
        raise InputError(f"SAELens autoencoders: no cfg.json in {root} or in a directory below it")
    return found


def read(directory: Path, overrides: Overrides | None = None) -> SparseCoder:
    """Read one coder's directory, as it is for a model that TransformerLens had not processed."""
    config = read_config(directory, overrides)
    return SparseCoder(_weights(directory, config), _settings(directory, config))


def placement(model: Any, config: SaelensConfig) -> Placement:
    """Where in `model` a coder reads and what it reconstructs."""
    target = None if config.place_out is None else _site(model, config.place_out, config.hook_out, config)
    return Placement((_site(model, config.place, config.hook, config),), target)


def save_jumprelu(directory: Path, weights: CoderWeights, metadata: dict[str, Any]) -> None:
    """Write a JumpReLU coder in SAELens' layout; `read` gives the same coder back."""
    if weights.threshold is None:
        raise WeightsError("a JumpReLU coder needs thresholds")
    width, d_in = weights.w_enc.shape
    config = {
        "d_in": d_in, "d_sae": width, "dtype": "float32", "device": "cpu", "architecture": "jumprelu",
        "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": metadata,
    }  # fmt: skip
    tensors = {
        "W_enc": weights.w_enc.T, "b_enc": weights.b_enc, "W_dec": weights.w_dec, "b_dec": weights.b_dec,
        "threshold": weights.threshold,
    }  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cfg.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({name: value.contiguous() for name, value in tensors.items()}, directory / WEIGHTS_FILE)


def _coders(model: Any, directories: Sequence[Path], overrides: Overrides) -> dict[Placement, SparseCoder]:
    origins: dict[Placement, Path] = {}
    coders: dict[Placement, SparseCoder] = {}
    for directory in directories:
        config = read_config(directory, overrides)
        _check_hook(config, directory)
        where = placement(model, config)
        if where in origins:
            both = f"{origins[where].name} and {directory.name}"
            raise InputError(
                f"SAELens autoencoders: {both} are both for {where.home}; choose one by its directory's name"
            )
        weights, settings = _weights(directory, config), _settings(directory, config)
        if config.value_bias_folded:
            weights = without_value_bias(weights, settings, model, where.sites[0])
        origins[where], coders[where] = directory, SparseCoder(weights, settings)
        coders[where].holds_value_bias = config.value_bias_folded
    return coders


def _check_hook(config: SaelensConfig, directory: Path) -> None:
    if not config.place:
        raise WeightsError(
            f"{directory}: cfg.json names no hook, so where it reads is not known; "
            "attach what saelens.read(directory) gives by hand, with autoencoders.attach.attach"
        )
    if not config.processing_is_known:
        logger.warning(
            "%s does not say whether its model was processed by TransformerLens; if its reconstructions are poor, "
            "give load_saelens_autoencoders(processed=True)",
            directory,
        )


def _weights(directory: Path, config: SaelensConfig) -> CoderWeights:
    file = required_file(directory / WEIGHTS_FILE, "SAELens autoencoder")
    return canonical_weights(read_safetensors(file), config, file)


def _settings(directory: Path, config: SaelensConfig) -> CoderSettings:
    return CoderSettings(
        activation=config.activation, k=config.k, subtract_b_dec=config.subtract_b_dec,
        normalisation=config.normalisation, prepend_bos=config.prepend_bos, family="saelens", source=str(directory),
        claims=CoderClaims(config.model, _l0(directory, config), config.hook, config.ctx_len, config.dataset),
    )  # fmt: skip


def _l0(directory: Path, config: SaelensConfig) -> float | None:
    """Of top k its k; else from the frequencies of the features, of which `sparsity.safetensors` has the logarithms."""
    if config.k is not None:
        return float(config.k)
    file = directory / "sparsity.safetensors"
    log_frequency = read_safetensors(file).get("sparsity") if file.is_file() else None
    return None if log_frequency is None else float((10.0 ** log_frequency.double()).sum())


def _site(model: Any, place: str, hook: str, config: SaelensConfig) -> Site:
    """The site of `place`, which TransformerLens calls `hook`.

    It centres what is written to the residual stream, and in models with layer norms only.
    """
    site = resolve_site(model, place)
    if not config.centred or site.transform != "none" or (is_hook_name(hook) and not _RESIDUAL_HOOKS.search(hook)):
        return site
    return site if _uses_rms_norm(model, site) else replace(site, transform="centred")


def _uses_rms_norm(model: Any, site: Site) -> bool:
    """By the configuration of the stack of blocks, which in a multimodal model is below the model's own."""
    module = torch_model(model)
    owners = [stack.module for stack in text_stacks(module) if stack.holds(site.module_path)]
    return any(hasattr(getattr(owner, "config", None), "rms_norm_eps") for owner in (module, *owners))

"""SAELens weights: `cfg.json` and `sae_weights.safetensors` (version 6 and the flat files before it).

Source: github.com/jbloomAus/SAELens. The hook's name says where the coder reads, in TransformerLens' vocabulary; a
transcoder's second one, what it reconstructs. Coders of models that TransformerLens had processed
(`center_writing_weights`) were trained on vectors without their mean: the site is then read `centred`.

Releases in SAELens' form whose files do not say how they were trained, or contradict it: known by name.

Source: SAELens' list of pretrained releases (`config_overrides` and `norm_scaling_factor`). Where a directory lies in
the hub's cache, or is called as the repository is, this goes before its files, and what the caller says before this.
"""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.autoencoders.families.saelens_config import Overrides, SaelensConfig, read_config
from sae_auto_interp.autoencoders.families.saelens_weights import canonical_weights, without_value_bias
from sae_auto_interp.autoencoders.files import read_safetensors, require_size, required_file
from sae_auto_interp.autoencoders.options import CoderOptions
from sae_auto_interp.autoencoders.placing import Listed, Placed, placed_coders
from sae_auto_interp.autoencoders.settings import CoderClaims, CoderSettings, Normalisation
from sae_auto_interp.autoencoders.sparse_coder import WEIGHT_NAMES, CoderWeights, SparseCoder, check_shapes
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.sites.hook_names import is_hook_name
from sae_auto_interp.models.sites.site import Placement, Site
from sae_auto_interp.models.sites.site_names import resolve_site
from sae_auto_interp.models.sites.text_stack import text_stacks


@dataclass(frozen=True, slots=True)
class _Release:
    processed: bool | None = None
    normalisation: Normalisation | None = None
    factors: dict[str, float] = field(default_factory=dict)
    """{beginning of a directory's name: what activations were multiplied with in training}"""


_MLP_OUT = (
    1.049317316132615, 2.3693984005104283, 1.6411934982190302, 1.8958522157897557, 1.81673478700627, 1.550234472245924,
    1.3237742807210804, 1.1042905114723296, 0.9123762783479742, 0.6955335635232373, 0.3619728926727644,
    0.2851548652550073,
)  # fmt: skip
"""The values of gpt2-small-mlp-tm, by layer."""


_RELEASES: dict[str, _Release] = {
    "jbloom/GPT2-Small-SAEs-Reformatted": _Release(processed=True),
    "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8": _Release(processed=True),
    "tommmcgrath/gpt2-small-mlp-out-saes": _Release(
        processed=True,
        factors={f"sae_group_gpt2_blocks.{layer}.hook_mlp_out": factor for layer, factor in enumerate(_MLP_OUT)},
    ),
    "JoshEngels/Mistral-7B-Residual-Stream-SAEs": _Release(normalisation="constant_norm"),
    "jbloom/Gemma-2b-Residual-Stream-SAEs": _Release(
        factors={"gemma_2b_blocks.12.hook_resid_post": 0.21381938399317255}
    ),
}


def release_overrides(directory: Path) -> Overrides:
    """What is known of the release that a directory is of; nothing of most."""
    parts = directory.absolute().parts
    for repository, release in _RELEASES.items():
        owner, _, name = repository.lower().partition("/")
        called = {name, f"models--{owner}--{name}", f"{owner}--{name}", f"{owner}_{name}"}
        if called & {part.lower() for part in parts}:
            factor = next((value for start, value in release.factors.items() if parts[-1].startswith(start)), None)
            return Overrides(release.processed, factor, release.normalisation)
    return Overrides()


logger = logging.getLogger(__name__)


WEIGHTS_FILE = "sae_weights.safetensors"
FILES = (WEIGHTS_FILE,)


OPTIONS = ("processed", "norm_scaling_factor")


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
    options = CoderOptions(processed=processed, norm_scaling_factor=norm_scaling_factor)
    return attach(model, coders_in(model, Path(weight_dir), directories, options))


def recognise(root: Path) -> str | None:
    """What gives the family away."""
    if root.is_file():
        return f"it is {WEIGHTS_FILE}" if root.name == WEIGHTS_FILE else None
    found = next((p for p in root.rglob(WEIGHTS_FILE) if (p.parent / "cfg.json").is_file()), None)
    return None if found is None else f"it holds {found.relative_to(root)} with a cfg.json"


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None, options: CoderOptions | None = None) -> Placed:
    """`chosen` are names of directories."""
    given = _overrides(options or CoderOptions())
    listed = [_listed(model, directory, given) for directory in coder_directories(root, chosen)]
    return placed_coders(model, listed, "SAELens", chosen, options)


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
    config = read_config(directory, _completed(directory, overrides or Overrides()))
    return SparseCoder(_weights(directory, config), _settings(directory, config))


def read_with(directory: Path, options: CoderOptions) -> SparseCoder:
    """As `read`, with what a run file says."""
    return read(directory, _overrides(options))


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


def _overrides(options: CoderOptions) -> Overrides:
    return Overrides(options.processed, options.norm_scaling_factor, options.normalisation, options.k)


def _completed(directory: Path, given: Overrides) -> Overrides:
    """What the caller says, and beside it what is known of the release, where its files say something else."""
    return given.over(release_overrides(directory))


def _listed(model: Any, directory: Path, given: Overrides) -> Listed:
    config = read_config(directory, _completed(directory, given))

    def own() -> Placement:
        _check_hook(config, directory)
        return placement(model, config)

    def settle(coder: Coder, site: Site) -> Coder:
        assert isinstance(coder, SparseCoder)
        weights = CoderWeights(**{name: getattr(coder, name) for name in WEIGHT_NAMES})
        settled = SparseCoder(without_value_bias(weights, coder.settings, model, site), coder.settings)
        settled.holds_value_bias = True
        return settled

    return Listed(
        directory.name,
        own,
        lambda: SparseCoder(_weights(directory, config), _settings(directory, config)),
        "elsewhere" if config.is_transcoder else "what it reads",
        settle if config.value_bias_folded else None,
    )


def _check_hook(config: SaelensConfig, directory: Path) -> None:
    if not config.place:
        raise WeightsError(
            f"{directory}: cfg.json names no hook, so where it reads is not known; give site in the run file, or "
            "attach what saelens.read(directory) gives by hand, with autoencoders.attach.attach"
        )
    if not config.processing_is_known:
        logger.warning(
            "%s does not say whether its model was processed by TransformerLens; if its reconstructions are poor, "
            "give processed: true in the run file, or load_saelens_autoencoders(processed=True)",
            directory,
        )


def _weights(directory: Path, config: SaelensConfig) -> CoderWeights:
    file = required_file(directory / WEIGHTS_FILE, "SAELens autoencoder")
    weights = canonical_weights(read_safetensors(file), config, file)
    check_shapes(weights, str(directory))
    width, d_in = weights.w_enc.shape
    for name, n in (("d_in", d_in), ("d_sae", width)):
        require_size(config.sizes, name, n, directory / "cfg.json")
    return weights


def _settings(directory: Path, config: SaelensConfig) -> CoderSettings:
    return CoderSettings(
        activation=config.activation, k=config.k, subtract_b_dec=config.subtract_b_dec,
        normalisation=config.normalisation, prepend_bos=config.prepend_bos,
        bos_is_recorded=config.bos_is_recorded, family="saelens", source=str(directory),
        claims=CoderClaims(config.model, _l0(directory, config), config.hook, config.ctx_len, config.dataset),
    )  # fmt: skip


def _l0(directory: Path, config: SaelensConfig) -> float | None:
    """Return k for top k; otherwise sum the features' frequencies, whose logarithms `sparsity.safetensors` holds."""
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

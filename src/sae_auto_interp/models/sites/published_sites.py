"""Sites in the words of those who publish weights: Gemma Scope, dictionary_learning, Neuronpedia's source ids.

A source id is `{layer}-{set}`, and what a set reads is a fact of its training that the id does not tell: `res-jb` is
what a block of GPT-2 reads, but what a block of Gemma gives. So there is a table, by architecture, of the sets whose
place is public; another set is an error, never a guess.

Sources: SAELens' list of releases (neuronpedia ids and hook names), the Gemma Scope reports, circuit-tracer's configs.
"""

import re
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from sae_auto_interp.errors import InputError, UnknownNameError
from sae_auto_interp.models.sites.hook_names import EMBEDDING_HOOK, hook_site
from sae_auto_interp.models.sites.site import Site
from sae_auto_interp.models.sites.text_stack import require_text_stack

_SOURCE_ID = re.compile(r"(?:[\w.-]+/)?(?P<layer>\d+|e)-(?P<set>[A-Za-z][\w.-]*?)(?:__[\w.-]+)?")
_DICTIONARY_NAME = re.compile(
    r"(?P<place>resid_(?:pre|mid|post|out)|attn_out|attention_out|mlp_out)_layer_?(?P<layer>\d+)"
)
DICTIONARY_HOOKS = {
    "resid_pre": "hook_resid_pre", "resid_mid": "hook_resid_mid", "resid_post": "hook_resid_post",
    "resid_out": "hook_resid_post", "resid": "hook_resid_post", "attn": "attn.hook_out", "attn_out": "attn.hook_out",
    "attention": "attn.hook_out", "attention_out": "attn.hook_out", "mlp": "mlp.hook_out", "mlp_out": "mlp.hook_out",
}  # fmt: skip
"""The part of a `submodule_name` before the layer -> hook of the layer. Of attention and MLP dictionary_learning reads
the modules, not what is added to the stream."""

GEMMA_SCOPE_SITES = {
    "res": "hook_resid_post", "resid_post": "hook_resid_post", "crosscoder": "hook_resid_post",
    "mlp": "hook_mlp_out", "mlp_out": "hook_mlp_out", "transcoder_out": "hook_mlp_out", "clt_out": "hook_mlp_out",
    "att": "attn.hook_z", "attn_out": "attn.hook_z",
}  # fmt: skip
"""Sites of Gemma Scope 1 and 2; `embedding`, `transcoder_in` and `clt_in` depend on more."""
_TRANSCODER_INPUTS = {"gemma2": "ln2.hook_normalized", "gemma3_text": "mlp.hook_in"}

CENTRED = " (centred)"
SOURCE_SETS: dict[str, dict[str, str]] = {
    "gpt2": {
        "res-jb": f"hook_resid_pre{CENTRED}", "res_fs*-jb": f"hook_resid_pre{CENTRED}",
        "res_sce-ajt": "hook_resid_pre", "res_scefr-ajt": "hook_resid_pre", "res_scl-ajt": "hook_resid_pre",
        "res_sle-ajt": "hook_resid_pre", "res_slefr-ajt": "hook_resid_pre", "res_sll-ajt": "hook_resid_pre",
        "att-kk": "attn.hook_z", "tres-dc": "ln2.hook_normalized",
        "res_mid_*-oai": "hook_resid_mid", "res_post_*-oai": "hook_resid_post",
        "att_*-oai": "hook_attn_out", "mlp_*-oai": "hook_mlp_out",
    },
    "gpt_neox": {
        "res-sm": "hook_resid_post", "att-sm": "hook_attn_out", "mlp-sm": "hook_mlp_out",
        "sae_bench-*-res-*": "hook_resid_post",
    },
    "llama": {
        "llamascope-res-*": "hook_resid_post", "llamascope-att-*": "hook_attn_out",
        "llamascope-mlp-*": "hook_mlp_out", "llamascope-*-res-*": "hook_resid_post", "res-jh": "hook_resid_post",
        "resid-post-aa": "hook_resid_post", "resid-post-gf": "hook_resid_post", "temporal-res": "hook_resid_post",
        "qresearch-res-*": "hook_resid_post",
    },
    "gemma": {"res-jb": "hook_resid_post"},
    "gemma2": {
        "gemmascope-res-*": "hook_resid_post", "gemmascope-mlp-*": "hook_mlp_out", "gemmascope-att-*": "attn.hook_z",
        "gemmascope-transcoder-*": "ln2.hook_normalized", "res-matryoshka-dc": "hook_resid_post",
        "sae_bench-*-res-*": "hook_resid_post", "temporal-res": "hook_resid_post", "clt-hp": "hook_resid_mid",
    },
    "gemma3_text": {
        "gemmascope-2-res-*": "hook_resid_post", "gemmascope-2-mlp-*": "hook_mlp_out",
        "gemmascope-2-att-*": "attn.hook_z", "gemmascope-2-transcoder-*": "mlp.hook_in",
    },
    "qwen2": {"resid-post-aa": "hook_resid_post"},
    "qwen3": {"transcoder-hp*": "mlp.hook_in"},
    "gpt_oss": {"resid-post-aa": "hook_resid_post"},
}  # fmt: skip
"""{architecture: {set, `*` for what varies: hook of the layer}}."""


def is_source_id(name: str) -> bool:
    """Whether it is written as Neuronpedia's source ids are, such as `6-res-jb` or `gpt2-small/6-res-jb`."""
    return _SOURCE_ID.fullmatch(name) is not None


def is_dictionary_name(name: str) -> bool:
    """Whether it is written as dictionary_learning's, such as `resid_post_layer_3`."""
    return _DICTIONARY_NAME.fullmatch(name) is not None


def dictionary_site(model: Any, name: str) -> Site:
    """The site of a name such as `resid_post_layer_3`. Raises as `hook_site` does."""
    match = _DICTIONARY_NAME.fullmatch(name)
    if match is None:
        raise InputError(f"{name!r} is no name of dictionary_learning's; they are such as 'resid_post_layer_3'")
    return hook_site(model, DICTIONARY_HOOKS[match["place"]], int(match["layer"]))


def gemma_scope_site(model: Any, site: str, layer: int) -> Site:
    """Where a coder of Gemma Scope reads: `res`, `embedding`, `mlp`, `att`, `transcoder_in`, `transcoder_out`, or in
    the words of the second one `resid_post`, `attn_out`, `mlp_out`, `clt_in`, `clt_out`, `crosscoder`.

    `mlp` and `transcoder_out` are what the norm after the MLP gives, and `att` what the output projection reads.
    A transcoder of Gemma 2 reads the norm without its gain, one of Gemma 3 with it. `embedding` is of no layer.
    """
    model_type = require_text_stack(model, f"Gemma Scope's {site!r}").model_type
    if model_type not in _TRANSCODER_INPUTS:
        raise InputError(f"Gemma Scope is of Gemma 2 and 3; this model is of type {model_type}")
    if site == "embedding":
        return hook_site(model, EMBEDDING_HOOK)
    hooks = GEMMA_SCOPE_SITES | dict.fromkeys(("transcoder_in", "clt_in"), _TRANSCODER_INPUTS[model_type])
    if site not in hooks:
        raise UnknownNameError("Gemma Scope site", site, [*hooks, "embedding"])
    return hook_site(model, hooks[site], layer)


def source_site(model: Any, source_id: str) -> Site:
    """Where the coder of a Neuronpedia source reads; of transcoders, their input.

    Raises `UnknownNameError` with the sets that are known for the model's architecture.
    """
    match = _SOURCE_ID.fullmatch(source_id)
    stack = require_text_stack(model, f"the source id {source_id!r}")
    if match is None:
        raise InputError(f"{source_id!r} is no source id; they are such as '6-res-jb'")
    if (stack.model_type, match["layer"], match["set"]) == ("gpt_neox", "e", "att-sm"):
        return hook_site(model, "hook_resid_pre", 0)
    sets = SOURCE_SETS.get(stack.model_type, {}) if match["layer"] != "e" else {}
    hook = next((hook for pattern, hook in sets.items() if fnmatchcase(match["set"], pattern)), None)
    if hook is None:
        raise UnknownNameError(f"Neuronpedia source set of {stack.model_type} models", match["set"], sets)
    layer, bare = match["layer"], hook.removesuffix(CENTRED)
    if bare == "hook_resid_pre" and int(layer) == stack.n_layers:
        layer, bare = str(stack.n_layers - 1), "hook_resid_post"
    site = hook_site(model, bare, int(layer))
    return replace(site, transform="centred") if hook.endswith(CENTRED) else site

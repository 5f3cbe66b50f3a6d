"""A subject model's form without its weights: which modules there are, under which names. Costs no memory."""

from typing import Any

import torch

from sae_auto_interp.errors import InputError
from sae_auto_interp.model_loading import LOADING
from sae_auto_interp.models.hub import parse_hub_ref


def model_form(ref: str) -> Any:
    """The causal language model that `ref`, a directory or a pinned hub address, has the configuration of.

    Its tensors are on the meta device. Raises `InputError` where the configuration cannot be read; runs no code of it.
    """
    with LOADING:
        import transformers

        auto: Any = transformers
    address = parse_hub_ref(ref)
    place, revision = (ref, None) if address is None else (address.repo, address.revision)
    try:
        form = auto.AutoConfig.from_pretrained(place, revision=revision, trust_remote_code=False)
        with torch.device("meta"):
            return auto.AutoModelForCausalLM.from_config(form, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"the form of the subject model {ref} cannot be read: {reason}") from error

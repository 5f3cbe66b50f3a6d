"""What rows need to know of a Hugging Face tokenizer: which ids are special, which stand between texts, and which
tokenizer it is.

Special are `all_special_ids`, and every added token that is marked special: the turn markers of chat models are
often only that.
"""

import hashlib
import json
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.errors import InputError
from sae_auto_interp.types import Array

Marker = Literal["bos", "eos"]


def special_ids(tokenizer: Any) -> Int64[Array, " n"]:
    """Ids that stand for no text, sorted."""
    added: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    marked = [index for index, token in added.items() if token.special]
    return np.unique(np.array([*tokenizer.all_special_ids, *marked], dtype=np.int64))


def marker_id(tokenizer: Any, marker: Marker, why: str) -> int:
    """The BOS or EOS id; raises `InputError`, saying `why` it is needed, when the tokenizer has none."""
    found = getattr(tokenizer, f"{marker}_token_id")
    if found is None:
        raise InputError(f"{why}, but the tokenizer has none")
    return int(found)


def padding_id(tokenizer: Any) -> int:
    """What short rows are filled with; the model is told not to look at it."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def tokenizer_sha256(tokenizer: Any) -> str:
    """Digest of everything that decides ids: the tokenizer's own description, its special ids and chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    markers = [tokenizer.bos_token_id, tokenizer.eos_token_id, padding_id(tokenizer), *special_ids(tokenizer).tolist()]
    template = getattr(tokenizer, "chat_template", None)
    return hashlib.sha256(json.dumps([content, markers, template], sort_keys=True).encode()).hexdigest()

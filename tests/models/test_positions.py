"""What a model's settings and tables say of its positions, against what it does beyond them."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.errors import InputError
from sae_auto_interp.features import FeatureCache
from sae_auto_interp.model_loading.positions import PositionLimit, beyond_positions, position_limit
from sae_auto_interp.models.subject import subject_positions
from tests.models.tiny_models import NAMES, tiny_model
from tests.support.records import tiny_coders, tiny_gpt2

SMALL: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 16, "n_embd": 16, "d_model": 16, "num_hidden_layers": 2, "n_layer": 2,
    "n_layers": 2, "decoder_layers": 2, "num_layers": 2, "num_attention_heads": 2, "n_head": 2, "n_heads": 2,
    "num_heads": 2, "decoder_attention_heads": 2, "intermediate_size": 16, "ffn_dim": 16, "decoder_ffn_dim": 16,
    "max_position_embeddings": 32, "n_positions": 32, "max_seq_len": 32, "rotary_dim": 4, "pad_token_id": 1,
    "attention_types": [[["global", "local"], 1]], "is_decoder": True, "word_embed_proj_dim": 16,
}  # fmt: skip
FAMILIES = {
    "GPT2": (32, True), "GPTNeo": (32, True), "GPTJ": (32, True), "OPT": (32, True), "GPTBigCode": (32, True),
    "BioGpt": (32, True), "CTRL": (32, True), "Roberta": (30, True), "Bert": (32, True), "Mpt": (32, True),
    "Bloom": None, "XGLM": (32, False), "GPTNeoX": (32, False), "Falcon": (32, False),
}  # fmt: skip
"""Family -> its limit, and whether it is an end. Tables begin behind unused rows in OPT and RoBERTa."""


def built(family: str) -> Any:
    import transformers

    settings = getattr(transformers, f"{family}Config")
    config = settings(**{name: value for name, value in SMALL.items() if hasattr(settings(), name)})
    classes: Any = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    return classes[type(config)](config).eval()


def reads(model: Any, n_tokens: int) -> bool:
    try:
        with torch.inference_mode():
            model(input_ids=torch.full((1, n_tokens), 5))
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("family", FAMILIES)
def test_the_limit_is_where_the_model_ends(family: str) -> None:
    expected, model = FAMILIES[family], built(family)
    limit = position_limit(model)
    assert (limit and (limit.n_tokens, limit.is_end)) == expected
    n_tokens, is_end = expected or (32, False)
    assert reads(model, n_tokens)
    assert reads(model, n_tokens + 1) is not is_end


@pytest.mark.parametrize("name", NAMES)
def test_of_every_known_architecture(name: str) -> None:
    """A vision tower's table of positions is not the text's."""
    limit = position_limit(tiny_model(name))
    assert limit is not None
    assert limit.is_end == (name == "gpt2")


def test_settings_alone_tell_it(tmp_path: Path) -> None:
    for family in ("OPT", "GPTNeoX"):
        built(family).config.save_pretrained(tmp_path / family)
        assert subject_positions(str(tmp_path / family)) == PositionLimit(32, family == "OPT")


def test_beyond_is_refused_or_warned_of() -> None:
    for n in (1, 32):
        assert beyond_positions(PositionLimit(32, is_end=True), n, "data.ctx_len") is None
    assert beyond_positions(None, 10**9, "data.ctx_len") is None
    with pytest.raises(InputError, match=r"data\.ctx_len: 33 is more than the model's 32 positions; give at most that"):
        beyond_positions(PositionLimit(32, is_end=True), 33, "data.ctx_len")
    warning = beyond_positions(PositionLimit(32, is_end=False), 33, "data.ctx_len")
    assert warning == "data.ctx_len: 33 is more than the 32 positions that the model was trained for"


def test_given_rows_are_looked_at_too(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_gpt2()
    n = model.config.n_positions
    cache = FeatureCache(model, attach(model, tiny_coders()))
    with pytest.raises(InputError, match=f"tokens per row: {n + 1} is more than the model's {n} positions"):
        cache.run(tokens=np.ones((2, n + 1), np.int32))
    rotary = tiny_model("llama")
    coders = {"model.layers.0": next(iter(tiny_coders().values()))}
    with caplog.at_level(logging.WARNING):
        FeatureCache(rotary, attach(rotary, coders)).run(tokens=np.ones((1, 65), np.int32))
    assert "65 is more than the 64 positions that the model was trained for" in caplog.text

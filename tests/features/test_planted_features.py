"""A model whose every activation is known: the cache holds exactly the known (row, position, feature, value) set.

Token t is the t-th row of a Hadamard matrix, twice: a vector of +2 and -2. Each block moves it two rows on, in two
steps that are exact in binary: attention, in which every position sees itself alone, takes 2 h[t] away and adds
4 h[t+1]; the MLP takes that away and adds 2 h[t+2]. All entries of a vector that a norm sees are of one size, so what
it gives is exactly h. Feature j reads off the share of h[j]: it fires where that is positive, and nowhere else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.features import FeatureCache
from sae_auto_interp.features.config import CacheOptions
from sae_auto_interp.models.activations import BACKENDS
from sae_auto_interp.models.sites.site import Placement
from sae_auto_interp.models.sites.site_names import resolve_site
from sae_auto_interp.types import NO_DOCUMENT, TokenRows
from tests.support.records import Entry, make_rows, read_entries

N = 16
PLUS_MINUS = torch.tensor([[1.0 - 2 * (bin(i & j).count("1") % 2) for j in range(N)] for i in range(N)])
READS_SHARES = PLUS_MINUS / N
Shares = Mapping[int, float]
"""{row of the matrix: how much of it a vector holds}; numbered on from 16 as from 0."""


def moving(from_: float, to: float) -> Tensor:
    """The matrix that turns h[j], for every j, into `-from_` h[j] + `to` h[j+1]."""
    return (to * PLUS_MINUS.roll(-1, 0) - from_ * PLUS_MINUS).T @ READS_SHARES


class TellsTwice(nn.Module):
    """Attention that gives, second, the negative of what it gives first."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, **inputs: Any) -> tuple[Tensor, Tensor]:
        out = self.inner(**inputs)[0]
        return out, -out


def planted_model() -> Any:
    config = LlamaConfig(
        vocab_size=N, hidden_size=N, intermediate_size=N, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, hidden_act="relu", rms_norm_eps=0.0, attention_bias=True, tie_word_embeddings=False,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(2 * PLUS_MINUS)
        for block in model.model.layers:
            for parameter in block.self_attn.parameters():
                parameter.zero_()
            for projection in (block.self_attn.q_proj, block.self_attn.k_proj):
                projection.bias[::4] = 300  # rotated by the distance: nothing comes near a position's own score
            block.input_layernorm.weight.fill_(4)
            block.self_attn.v_proj.weight.copy_(torch.eye(N) / 4)
            block.self_attn.o_proj.weight.copy_(moving(2, 4))
            block.post_attention_layernorm.weight.fill_(2)
            block.mlp.gate_proj.weight.copy_(READS_SHARES / 2)
            block.mlp.up_proj.weight.copy_(READS_SHARES / 2)
            block.mlp.down_proj.weight.copy_((2 * PLUS_MINUS.roll(-1, 0) - 4 * PLUS_MINUS).T)
        model.model.layers[2].self_attn = TellsTwice(model.model.layers[2].self_attn)
    return model


def coder(n_sites: int = 1, side: Any = "output") -> SparseCoder:
    """Feature j is the share of h[j]; of several sites, the sum of their shares."""
    weights = CoderWeights(READS_SHARES.repeat(1, n_sites), torch.zeros(N), PLUS_MINUS, torch.zeros(N))
    return SparseCoder(weights, CoderSettings(activation="relu", subtract_b_dec=False, side=side))


PLANTED: dict[str, Any] = {
    "hook_embed": lambda t: {t: 2},
    "blocks.0.hook_resid_pre": lambda t: {t: 2},
    "blocks.0.ln1.hook_normalized": lambda t: {t: 1},
    "blocks.0.attn.hook_z": lambda t: {t: 1},
    "blocks.0.hook_attn_out": lambda t: {t: -2, t + 1: 4},
    "blocks.0.hook_resid_mid": lambda t: {t + 1: 4},
    "blocks.0.ln2.hook_normalized": lambda t: {t + 1: 1},
    "blocks.0.mlp.hook_in": lambda t: {t + 1: 2},
    "blocks.0.hook_mlp_out": lambda t: {t + 1: -4, t + 2: 2},
    "blocks.0.hook_resid_post": lambda t: {t + 2: 2},
    "layers.1:in": lambda t: {t + 2: 2},
    "layers.1:out": lambda t: {t + 4: 2},
    "layers.1:out (centred)": lambda t: {
        t + 4: 0 if (t + 4) % N == 0 else 2
    },  # h[0] is all ones, and goes with its mean
    "layers.2.self_attn:out": lambda t: {t + 4: -2, t + 5: 4},
    "layers.2.self_attn:out#1": lambda t: {t + 4: 2, t + 5: -4},
}
"""{name of a site: token -> the shares that its vector holds}."""


def known_entries(rows: TokenRows, *names: str) -> list[Entry]:
    """By construction, with no model and no tensor; several names are read side by side and add up."""
    entries: list[Entry] = []
    for row, position in np.argwhere(rows.documents != NO_DOCUMENT).tolist():
        total: dict[int, float] = {}
        for name in names:
            for j, share in PLANTED[name](int(rows.tokens[row, position])).items():
                total[j % N] = total.get(j % N, 0.0) + share
        entries += [(row, position, j, share) for j, share in total.items() if share > 0]
    return sorted(entries)


def cached(model: Any, coders: Mapping[Any, SparseCoder], backend: str, root: Path, rows: TokenRows) -> dict[str, Any]:
    cache = FeatureCache(
        model, attach(model, coders), batch_size=5, options=CacheOptions(activation_dtype="float32", backend=backend)
    )
    cache.run(tokens=rows)
    cache.save_splits(3, root)
    return {path: sorted(read_entries(CacheReader(root / path))) for path in cache.coders}


@pytest.fixture(scope="module")
def rows() -> TokenRows:
    return make_rows(24, 8, vocab=N, bos=1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", PLANTED)
def test_the_cache_holds_exactly_what_was_planted(name: str, backend: str, rows: TokenRows, tmp_path: Path) -> None:
    model = planted_model()
    found = cached(model, {name: coder()}, backend, tmp_path, rows)
    assert found == {resolve_site(model, name).module_path: known_entries(rows, name)}
    assert len(known_entries(rows, name)) > 50


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_sites_at_once_hold_exactly_what_was_planted(backend: str, rows: TokenRows, tmp_path: Path) -> None:
    """One coder to a module: of two names for one module the first is taken."""
    model = planted_model()
    names: dict[str, str] = {}
    for name in PLANTED:
        names.setdefault(resolve_site(model, name).module_path, name)
    assert len(names) == 9
    found = cached(model, {name: coder() for name in names.values()}, backend, tmp_path, rows)
    assert found == {path: known_entries(rows, name) for path, name in names.items()}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bare_path_is_read_on_the_coders_side(backend: str, rows: TokenRows, tmp_path: Path) -> None:
    coders = {"layers.0": coder(side="input"), "layers.1": coder(side="output")}
    found = cached(planted_model(), coders, backend, tmp_path, rows)
    assert found["model.layers.0"] == known_entries(rows, "blocks.0.hook_resid_pre")
    assert found["model.layers.1"] == known_entries(rows, "layers.1:out")


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_sites_side_by_side_hold_the_sum(backend: str, rows: TokenRows, tmp_path: Path) -> None:
    model = planted_model()
    names = ("blocks.0.hook_resid_mid", "layers.1:out (centred)", "layers.2.self_attn:out#1")
    placement = Placement(tuple(resolve_site(model, name) for name in names))
    found = cached(model, {placement: coder(n_sites=3)}, backend, tmp_path, rows)
    assert found == {placement.home: known_entries(rows, *names)}

"""The figures of a fit against their formulas in numpy, on a tiny random model."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import WeightsError
from sae_auto_interp.models.by_hooks import capture
from sae_auto_interp.models.sites.site import Placement, Site
from sae_auto_interp.preflight.measure import FitMeter, Wiring
from sae_auto_interp.preflight.other_readings import changes_of
from sae_auto_interp.preflight.other_sites import other_placements
from sae_auto_interp.preflight.search import misfit
from sae_auto_interp.types import NO_DOCUMENT, TokenRows
from sae_auto_interp.types.fit import FitFigures

HERE, THERE = Site("transformer.h.1"), Site("transformer.h.0.mlp")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_layer=3, n_embd=16, n_head=2, vocab_size=50, n_positions=12)).eval()


@pytest.fixture(scope="module")
def rows() -> TokenRows:
    """Five rows that begin with BOS; the last is half padding."""
    tokens = np.random.default_rng(0).integers(1, 50, (5, 12)).astype(np.int32)
    documents = np.zeros((5, 12), dtype=np.int32)
    documents[:, 0] = NO_DOCUMENT
    documents[4, 6:] = NO_DOCUMENT
    return TokenRows(tokens, documents, ("text",))


def coder(activation: str = "relu", k: int | None = None, width: int = 40, subtract_b_dec: bool = False) -> SparseCoder:
    generator = torch.Generator().manual_seed(1)
    w_enc = torch.randn(width, 16, generator=generator)
    b_dec = torch.randn(16, generator=generator) / 10
    weights = CoderWeights(w_enc, torch.randn(width, generator=generator) / 10, w_enc / 30, b_dec)
    return SparseCoder(weights, CoderSettings(activation=activation, k=k, subtract_b_dec=subtract_b_dec))  # pyright: ignore[reportArgumentType]


def measure(model: nn.Module, rows: TokenRows, wiring: Wiring) -> FitFigures:
    mask = np.ones_like(rows.tokens, dtype=np.int64)
    return FitMeter.of(model, "hooks", rows, mask).measure({"it": wiring})["it"]


def read(model: nn.Module, rows: TokenRows, site: Site) -> np.ndarray:
    tokens = torch.from_numpy(rows.tokens).long()
    return capture(model, {"here": site}, tokens, torch.ones_like(tokens))["here"].double().numpy()


@pytest.mark.parametrize("target", [None, THERE])
def test_figures_are_their_formulas_on_text_tokens_alone(
    model: nn.Module, rows: TokenRows, target: Site | None
) -> None:
    one = coder()
    found = measure(model, rows, Wiring(one, Placement((HERE,), target)))
    everywhere, is_text = read(model, rows, HERE), rows.documents != NO_DOCUMENT
    x = everywhere[is_text]
    y = x if target is None else read(model, rows, target)[is_text]
    w_enc, b_enc, w_dec, b_dec = (getattr(one, name).double().numpy() for name in ("w_enc", "b_enc", "w_dec", "b_dec"))
    code = np.maximum(x @ w_enc.T + b_enc, 0)
    out = code @ w_dec + b_dec
    norms = np.linalg.norm(x, axis=1)
    assert found.n_tokens == is_text.sum() == 5 * 11 - 6
    assert found.l0 == pytest.approx((code > 0).sum(1).mean())
    assert found.fvu == pytest.approx(((y - out) ** 2).sum() / ((y - y.mean(0)) ** 2).sum(), rel=1e-5)
    y_norms, out_norms = np.linalg.norm(y, axis=1), np.linalg.norm(out, axis=1)
    assert found.cosine == pytest.approx(((y * out).sum(1) / (y_norms * out_norms)).mean(), rel=1e-5)
    assert found.norm_ratio == pytest.approx((out_norms / y_norms).mean(), rel=1e-5)
    assert found.dead_fraction == pytest.approx(((code > 0).sum(0) == 0).mean())
    assert found.dense_fraction == pytest.approx(((code > 0).mean(0) > 0.1).mean())
    assert found.mean_norm == pytest.approx(norms.mean(), rel=1e-5)
    assert found.max_norm == pytest.approx(norms.max(), rel=1e-5)
    first = np.linalg.norm(everywhere[:, 0], axis=1).mean()
    assert found.median_norm is not None
    assert found.first_norm_ratio == pytest.approx(first / found.median_norm, rel=1e-5)


def test_of_no_usable_token_nothing_is_said(model: nn.Module, rows: TokenRows) -> None:
    broken = GPT2LMHeadModel(model.config).eval()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        broken.transformer.wte.weight.fill_(float("inf"))
    found = measure(broken, rows, Wiring(coder(), Placement((HERE,))))
    assert (found.n_tokens, found.n_unusable_tokens) == (0, 49)
    assert found.fvu is None
    assert found.l0 is None
    assert found.mean_norm is None


def test_what_is_constant_has_no_variance_to_explain(model: nn.Module, rows: TokenRows) -> None:
    """Rows of one token, read where position plays no part."""
    same = TokenRows(np.full((2, 12), 7, np.int32), np.zeros((2, 12), np.int32), ("text",))
    found = measure(model, same, Wiring(coder(), Placement((Site("transformer.wte"),))))
    assert found.fvu is None
    assert found.l0 is not None


def test_dimensions_that_do_not_go_together_are_said_before_anything_is_measured() -> None:
    wide = Site("transformer.h.0.mlp.act")
    found = misfit(Wiring(coder(), Placement((HERE,), wide)), {HERE: 16, wide: 64})
    assert found == "it writes 16 dimensions, but transformer.h.0.mlp.act:out, which it reconstructs, has 64"
    assert misfit(Wiring(coder(), Placement((HERE,))), {HERE: 16}) is None
    assert misfit(Wiring(coder(), Placement((wide,))), {}) is not None


def test_the_places_that_are_tried(model: nn.Module) -> None:
    tried = other_placements(model, Placement((HERE,)))
    sites = [place.sites[0] for place in tried]
    assert HERE not in sites
    assert len(set(sites)) == len(sites)
    assert sites[:2] == [Site("transformer.h.0"), Site("transformer.h.2")]
    assert Site("transformer.h.1.ln_2", "input") in sites
    assert sites[-1].transform != "none"
    assert tried[Placement((Site("transformer.h.0"),))] == "at transformer.h.0:out (blocks.0.hook_resid_post)"


def test_of_an_unknown_architecture_the_other_side_is_tried() -> None:
    tried = other_placements(nn.Sequential(nn.Linear(4, 4)), Placement((Site("0"),)))
    assert [str(place.sites[0]) for place in tried] == ["0:in", "0:out (centred)"]


def test_a_transcoder_may_also_reconstruct_something_else(model: nn.Module) -> None:
    tried = other_placements(model, Placement((Site("transformer.h.1.mlp", "input"),), Site("transformer.h.1.mlp")))
    assert "reconstructing transformer.h.1:out (blocks.1.hook_resid_post)" in tried.values()


def test_only_square_matrices_are_transposed() -> None:
    def named(one: SparseCoder) -> list[str]:
        return [change.what for change in changes_of(one, 1.0)]

    assert not [what for what in named(coder()) if "transposed" in what]
    assert [what for what in named(coder(width=16)) if "transposed" in what] == [
        "with its encoder transposed",
        "with its decoder transposed",
        "with encoder and decoder transposed",
    ]
    assert "with the decoder's bias subtracted from its input" in named(coder())
    assert "with the decoder's bias not subtracted from its input" in named(coder(subtract_b_dec=True))


def test_a_matrix_that_is_not_square_cannot_be_transposed_unnoticed() -> None:
    right = coder()
    with pytest.raises(WeightsError, match="is a matrix transposed"):
        SparseCoder(CoderWeights(right.w_enc.T, right.b_enc, right.w_dec, right.b_dec), right.settings)

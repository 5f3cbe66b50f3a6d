"""Losses under substitution: against cross-entropies one by one, and where the answer is known beforehand."""

from typing import Any

import nnsight
import numpy as np
import pytest
import torch
from torch import Tensor

from sae_auto_interp.autoencoders.attach import attach, attached_coder
from sae_auto_interp.autoencoders.editing.substitution_losses import SubstitutionLosses, substitution_losses
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics import loss_recovered
from sae_auto_interp.models.by_hooks import capture
from sae_auto_interp.models.sites.site import Placement, Site
from sae_auto_interp.types import NO_DOCUMENT, TokenRows
from tests.autoencoders.hook_reference import changed, codes
from tests.support.records import D_MODEL, make_rows, tiny_coder, tiny_gpt2

BLOCK, MLP = "transformer.h.0", "transformer.h.1.mlp"


def losses_of(model: Any, attached: dict[str, Any], rows: TokenRows, batch_size: int = 5) -> SubstitutionLosses:
    return substitution_losses(model, {p: attached_coder(h) for p, h in attached.items()}, rows, batch_size)


def text_mean(model: Any, rows: TokenRows, path: str) -> Tensor:
    """Mean of a module's output over the text."""
    mask = torch.from_numpy((rows.documents != NO_DOCUMENT) | (np.arange(rows.ctx_len) == 0)).long()
    found = capture(model._module, {path: "output"}, torch.from_numpy(rows.tokens).long(), mask)[path]
    return found[torch.from_numpy(rows.documents != NO_DOCUMENT)].mean(0)


@torch.no_grad()
def by_hand(model: Any, rows: TokenRows, path: str, put: Any) -> dict[int, float]:
    """{document: summed loss}, a row at a time without its padding, with `put(x)` in the place of text positions."""
    totals: dict[int, float] = {}
    for ids, documents in zip(rows.tokens, rows.documents, strict=True):
        n = int(np.flatnonzero(documents != NO_DOCUMENT)[-1]) + 1
        is_text = torch.from_numpy(documents[:n] != NO_DOCUMENT)[None, :, None]
        with changed(model._module.get_submodule(path), lambda x, t=is_text: torch.where(t, put(x), x)):
            logits = model._module(input_ids=torch.from_numpy(ids[:n]).long()[None]).logits[0].double()
        log_p = torch.log_softmax(logits, dim=-1)
        for i in range(n - 1):
            if documents[i] == documents[i + 1] != NO_DOCUMENT:
                document = int(documents[i])
                totals[document] = totals.get(document, 0.0) - float(log_p[i, ids[i + 1]])
    return totals


@pytest.mark.parametrize("bos", [None, 1])
def test_losses_are_those_of_each_token_by_itself(bos: int | None) -> None:
    """With padding, BOS, several rows per document, and batches that do not divide the rows."""
    model = nnsight.NNsight(tiny_gpt2())
    coder = tiny_coder("topk")
    attached = attach(model, {BLOCK: coder})
    rows = make_rows(7, 12, bos=bos)
    found = losses_of(model, attached, rows, batch_size=3)
    mean = text_mean(model, rows, BLOCK)
    puts = {
        "reconstruction": lambda x: codes(coder, x) @ coder.w_dec + coder.b_dec,
        "mean": lambda x: mean.expand_as(x),
        "zero": torch.zeros_like,
    }
    expected = by_hand(model, rows, BLOCK, lambda x: x)
    np.testing.assert_allclose(found.clean, [expected[d] for d in sorted(expected)], rtol=1e-5)
    for what, put in puts.items():
        expected = by_hand(model, rows, BLOCK, put)
        np.testing.assert_allclose(found.substituted[BLOCK][what], [expected[d] for d in sorted(expected)], rtol=1e-5)
    counted = [
        ((d == k) & (np.roll(d, 1) == k) & (np.arange(12) > 0)).sum()
        for k in sorted(expected)
        for d in [rows.documents]
    ]
    assert found.n_targets.tolist() == counted


def identity_coder() -> SparseCoder:
    """ReLU(x) and ReLU(-x), decoded to their difference."""
    eye = torch.eye(D_MODEL)
    both = torch.cat([eye, -eye])
    weights = CoderWeights(both, torch.zeros(2 * D_MODEL), both, torch.zeros(D_MODEL))
    return SparseCoder(weights, CoderSettings(activation="relu", subtract_b_dec=False))


def silent_coder(reconstruction: Tensor) -> SparseCoder:
    """Nothing fires; the reconstruction is always the same."""
    zeros = torch.zeros(4, D_MODEL)
    weights = CoderWeights(zeros, torch.zeros(4), zeros, reconstruction)
    return SparseCoder(weights, CoderSettings(activation="relu", subtract_b_dec=False))


def lively_world(rows: TokenRows) -> Any:
    """A model that knows what comes next: its head is fitted to the text, so ablations do harm."""
    model = tiny_gpt2()
    ids = torch.from_numpy(rows.tokens).long()
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(60):
            optimiser.zero_grad()
            logits = model(input_ids=ids).logits[:, :-1]
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
            optimiser.step()
    return nnsight.NNsight(model.eval())


def test_a_perfect_coder_recovers_all_and_one_that_gives_the_mean_nothing() -> None:
    rows = make_rows(12, 10, rows_per_document=1)
    model = lively_world(rows)
    for path in (BLOCK, MLP):
        found = losses_of(model, attach(model, {path: identity_coder()}), rows).substituted[path]
        clean = losses_of(model, {}, rows).clean
        perfect = loss_recovered(clean, found["reconstruction"], found["mean"], np.random.default_rng(0))
        assert perfect.value == pytest.approx(1, abs=1e-5)
        assert perfect.low == pytest.approx(1, abs=1e-4)
        useless = losses_of(model, attach(model, {path: silent_coder(text_mean(model, rows, path))}), rows)
        nothing = loss_recovered(
            clean, useless.substituted[path]["reconstruction"], useless.substituted[path]["mean"],
            np.random.default_rng(0),
        )  # fmt: skip
        assert nothing.value == pytest.approx(0, abs=1e-5)


def test_a_transcoder_stands_in_for_its_target() -> None:
    """The MLP itself has no exact transcoder; one that gives the target's mean recovers nothing of it."""
    rows = make_rows(8, 10)
    model = nnsight.NNsight(tiny_gpt2())
    coder = silent_coder(text_mean(model, rows, MLP))
    attached = attach(model, {Placement((Site(MLP, "input"),), Site(MLP)): coder})
    found = losses_of(model, attached, rows).substituted[MLP]
    np.testing.assert_allclose(found["reconstruction"], found["mean"], rtol=1e-6)
    np.testing.assert_allclose(found["zero"], list(by_hand(model, rows, MLP, torch.zeros_like).values()), rtol=1e-5)


def test_the_batch_size_and_the_autoencoders_beside_it_change_nothing() -> None:
    rows = make_rows(7, 12)
    model = nnsight.NNsight(tiny_gpt2())
    attached = attach(model, {BLOCK: tiny_coder("topk"), MLP: tiny_coder("relu")})
    together = losses_of(model, attached, rows, batch_size=7)
    alone = losses_of(model, {MLP: attached[MLP]}, rows, batch_size=2)
    np.testing.assert_allclose(together.clean, alone.clean, rtol=1e-6)
    for what, losses in alone.substituted[MLP].items():
        np.testing.assert_allclose(together.substituted[MLP][what], losses, rtol=1e-6)


def test_text_without_two_tokens_in_a_row_is_refused() -> None:
    rows = make_rows(2, 4)
    documents = np.full_like(rows.documents, NO_DOCUMENT)
    documents[:, 1] = 0
    model = nnsight.NNsight(tiny_gpt2())
    with pytest.raises(InputError, match="no token of the text follows another of its document"):
        losses_of(model, attach(model, {BLOCK: tiny_coder("relu")}), TokenRows(rows.tokens, documents, ("a",)))

"""What a site's transform computes, and that both backends hand it over."""

import pytest
import torch
from torch import nn

from sae_auto_interp.models.activations import BACKENDS, activation_reader
from sae_auto_interp.models.sites.site import Placement, Site, transformed
from tests.support.records import VOCAB, tiny_gpt2

TOKENS = torch.randint(0, VOCAB, (2, 5), generator=torch.Generator().manual_seed(1))


def test_norms_without_their_gain_are_torchs_own() -> None:
    x = torch.randn(3, 4, 16)
    rms, layer = Site("m", "input", transform="rms_norm", epsilon=1e-3), Site("m", transform="layer_norm", epsilon=1e-3)
    torch.testing.assert_close(transformed(rms, x), nn.functional.rms_norm(x, (16,), eps=1e-3))
    torch.testing.assert_close(transformed(layer, x), nn.functional.layer_norm(x, (16,), eps=1e-3))
    torch.testing.assert_close(transformed(Site("m", transform="centred"), x), x - x.mean(-1, keepdim=True))
    assert transformed(Site("m"), x) is x


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_hand_over_transformed_vectors_under_the_sites_names(backend: str) -> None:
    model = tiny_gpt2(n_layers=2)
    sites = {
        "raw": Site("transformer.h.0"),
        "centred": Site("transformer.h.0", transform="centred"),
        "before the norm": Site("transformer.h.1.ln_2", "input"),
        "normalised": Site("transformer.h.1.ln_2", "input", transform="layer_norm", epsilon=1e-5),
        "norm": Site("transformer.h.1.ln_2"),
    }
    found: dict[str, torch.Tensor] = {}
    activation_reader(model, backend)(sites, TOKENS, torch.ones_like(TOKENS), found.__setitem__)
    assert set(found) == set(sites)
    torch.testing.assert_close(found["centred"], found["raw"] - found["raw"].mean(-1, keepdim=True))
    norm = model.transformer.h[1].ln_2
    torch.testing.assert_close(found["normalised"] * norm.weight.data + norm.bias.data, found["norm"])


def test_sites_and_placements_are_told_in_one_line() -> None:
    assert str(Site("h.2.mlp", "input")) == "h.2.mlp:in"
    assert str(Site("h.2.attn", item=1, transform="centred")) == "h.2.attn:out#1 (centred)"
    transcoder = Placement((Site("h.2.mlp", "input"),), target=Site("h.2.mlp"))
    assert transcoder.home == "h.2.mlp"
    assert transcoder.reconstructed == Site("h.2.mlp")
    assert Placement((Site("h.0"), Site("h.1"))).home == "h.1"

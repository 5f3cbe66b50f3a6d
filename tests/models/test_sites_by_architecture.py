"""Every named site of every architecture against the tensor that it should be, recomputed from the weights."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sae_auto_interp.errors import InputError
from sae_auto_interp.models.activations import BACKENDS, activation_reader
from sae_auto_interp.models.sites.architectures import ARCHITECTURES, Absent
from sae_auto_interp.models.sites.hook_names import hook_site, sites_of_layer
from sae_auto_interp.models.sites.published_sites import gemma_scope_site
from sae_auto_interp.models.sites.site import Site
from sae_auto_interp.models.sites.site_names import resolve_site
from sae_auto_interp.models.sites.text_stack import text_stack
from tests.models.block_references import places_of_block
from tests.models.tiny_models import D_MODEL, NAMES, VOCAB, tiny_model

TOKENS = torch.randint(3, VOCAB, (2, 7), generator=torch.Generator().manual_seed(1))


def read_all(model: Any, sites: dict[str, Site], backend: str = "hooks") -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    read = activation_reader(model, backend)
    read(sites, TOKENS, torch.ones_like(TOKENS), lambda name, x: found.update({name: x.clone()}))
    return found


def streams(model: Any) -> tuple[Tensor, ...]:
    """The residual stream before each layer, as transformers reports it; the last one is after the final norm."""
    with torch.inference_mode():
        return model(input_ids=TOKENS, output_hidden_states=True, use_cache=False).hidden_states


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_every_named_site_is_the_tensor_that_it_should_be(name: str, layer: int) -> None:
    model = tiny_model(name)
    hidden = streams(model)
    sites = sites_of_layer(model, layer)
    found = read_all(model, sites)
    prefix = f"blocks.{layer}."
    expected = places_of_block(name, model, layer, hidden[layer], found[f"{prefix}attn.hook_z"])
    assert {prefix + hook for hook in expected} == set(sites)
    for hook, value in expected.items():
        torch.testing.assert_close(found[prefix + hook].double(), value.double(), rtol=1e-4, atol=1e-5, msg=hook)
    torch.testing.assert_close(found[f"{prefix}hook_resid_post"], hidden[layer + 1])
    torch.testing.assert_close(expected["hook_resid_post"].float(), hidden[layer + 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_both_backends_give_the_same_bits_at_every_site(name: str) -> None:
    model = tiny_model(name)
    sites = {"hook_embed": resolve_site(model, "hook_embed")} | sites_of_layer(model, 0) | sites_of_layer(model, 1)
    by_hooks, by_trace = (read_all(model, sites, backend) for backend in BACKENDS)
    assert set(by_hooks) == set(by_trace) == set(sites)
    assert all(torch.equal(by_hooks[site], by_trace[site]) for site in sites)


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_are_the_rows_of_the_embedding_matrix_scaled_in_gemma(name: str) -> None:
    model = tiny_model(name)
    rows = model.get_input_embeddings().weight[TOKENS]
    expected = rows * D_MODEL**0.5 if "gemma" in name else rows
    torch.testing.assert_close(read_all(model, {"e": resolve_site(model, "hook_embed")})["e"], expected.detach())


@pytest.mark.parametrize("name", NAMES)
def test_the_stream_after_a_block_is_what_the_next_one_reads(name: str) -> None:
    model = tiny_model(name)
    sites = {hook: hook_site(model, hook) for hook in ("blocks.1.hook_resid_post", "blocks.2.hook_resid_pre")}
    found = read_all(model, sites)
    assert torch.equal(*found.values())


@pytest.mark.parametrize(
    ("name", "hook", "reason"),
    [
        ("gpt_neox", "hook_resid_mid", "in parallel, so there is nothing between them"),
        ("phi", "hook_resid_mid", "in parallel, so there is nothing between them"),
        ("phi", "ln2.hook_normalized", "one norm serves attention and MLP; it is ln1"),
        ("gpt2", "mlp.hook_pre_linear", "its MLP has no gate"),
        ("gpt_oss", "mlp.hook_post", "a mixture of experts, whose neurons are not one tensor"),
        ("olmo2", "ln2.hook_normalized", "its norms come after attention and MLP"),
    ],
)
def test_what_an_architecture_does_not_have_is_refused_with_the_reason(name: str, hook: str, reason: str) -> None:
    model = tiny_model(name)
    with pytest.raises(InputError, match=rf"this model has no 'blocks\.1\.{hook}': .*{reason}"):
        resolve_site(model, f"blocks.1.{hook}")
    assert f"blocks.1.{hook}" not in sites_of_layer(model, 1)


def test_all_tables_name_the_same_places() -> None:
    for architecture in ARCHITECTURES.values():
        assert set(architecture.hooks) == set(ARCHITECTURES["llama"].hooks)
        assert all(place.reason for place in architecture.hooks.values() if isinstance(place, Absent))
    tested = {stack.model_type for stack in (text_stack(tiny_model(name)) for name in NAMES) if stack}
    assert tested == set(ARCHITECTURES)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "gemma3_multimodal"])
def test_gemma_scopes_sites_are_the_tensors_that_it_was_trained_on(name: str) -> None:
    model = tiny_model(name)
    hidden = streams(model)
    names = ("res", "embedding", "mlp", "att", "transcoder_in", "transcoder_out")
    found = read_all(model, {site: gemma_scope_site(model, site, 1) for site in names})
    expected = places_of_block(name, model, 1, hidden[1], found["att"])
    hooks = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z", "transcoder_out": "hook_mlp_out"}
    hooks["transcoder_in"] = "ln2.hook_normalized" if name == "gemma2" else "mlp.hook_in"
    for site, hook in hooks.items():
        torch.testing.assert_close(found[site].double(), expected[hook].double(), rtol=1e-4, atol=1e-5, msg=site)
    assert torch.equal(found["embedding"], hidden[0])
    assert found["att"].shape[-1] == 24, "heads side by side, wider than the model"

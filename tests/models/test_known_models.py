"""Names of base models: what is the same model, what is another form, and what proves nothing."""

from types import SimpleNamespace

import pytest
from torch import nn

from sae_auto_interp.models.sites.known_models import compare_with_claim, known_form, normalised_name


def model(name: str, model_type: str, hidden_size: int, n_layers: int) -> nn.Module:
    """A model of which only the configuration matters."""
    module = nn.Module()
    config = SimpleNamespace(
        _name_or_path=name, model_type=model_type, hidden_size=hidden_size, num_hidden_layers=n_layers
    )
    module.config = config  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    return module


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gpt2-small", "openai-community/gpt2"),
        ("google/gemma-2-2b", "Gemma_2_2B"),
        ("meta-llama/Meta-Llama-3.1-8B", "llama-3.1-8b"),
        ("EleutherAI/pythia-70m", "/models/pythia-70m/"),
    ],
)
def test_spellings_of_one_model(one: str, other: str) -> None:
    assert normalised_name(one) == normalised_name(other)


def test_forms_follow_from_series_and_size() -> None:
    found = known_form("google/gemma-2-9b-it")
    assert found is not None
    assert (found.family, found.hidden_size, found.n_layers) == ("gemma2", 3584, 42)
    small = known_form("gpt2")
    assert small is not None
    assert small.hidden_size == 768
    assert known_form("gpt2-my-own") is None
    assert known_form("meta-llama/Llama-3.2-11B-Vision") is None


@pytest.mark.parametrize(
    ("claimed", "loaded"),
    [
        ("gpt2-small", model("openai-community/gpt2", "gpt2", 768, 12)),
        ("gpt2-small", model("./models/finetuned", "gpt2", 768, 12)),
        ("google/gemma-2-2b", model("GemmaForCausalLM", "gemma2", 2304, 26)),
        ("my-own-model", model("./models/other", "gpt2", 128, 4)),
        (
            "gemma-3-4b-pt",
            model("./models/gemma", "gemma3", 2560, 34),
        ),
    ],
)
def test_nothing_speaks_against_these(claimed: str, loaded: nn.Module) -> None:
    assert compare_with_claim(claimed, loaded) is None


@pytest.mark.parametrize(
    ("claimed", "loaded", "said"),
    [
        ("gpt2-small", model("gpt2-xl", "gpt2", 1600, 48), "768 dimensions (this model: 1600)"),
        ("EleutherAI/pythia-160m", model("gpt2", "gpt2", 768, 12), "is a gpt_neox (this model: gpt2)"),
        ("gemma-2-2b", model("./models/gemma-2-2b", "gemma2", 3584, 42), "26 layers (this model: 42)"),
    ],
)
def test_another_form_is_certain_whatever_the_name(claimed: str, loaded: nn.Module, said: str) -> None:
    found = compare_with_claim(claimed, loaded)
    assert found is not None
    assert found.certainty == "other_form"
    assert said in found.message


@pytest.mark.parametrize(
    ("claimed", "loaded", "said"),
    [
        ("google/gemma-2-2b", model("google/gemma-2-2b-it", "gemma2", 2304, 26), "another variant of the same model"),
        ("EleutherAI/pythia-70m-deduped", model("EleutherAI/pythia-70m", "gpt_neox", 512, 6), "another variant"),
        ("llama-3-8b", model("meta-llama/Llama-3.1-8B", "llama", 4096, 32), "and this is meta-llama/Llama-3.1-8B"),
    ],
)
def test_another_name_of_the_same_form_is_worth_a_word(claimed: str, loaded: nn.Module, said: str) -> None:
    found = compare_with_claim(claimed, loaded)
    assert found is not None
    assert found.certainty == "other_name"
    assert said in found.message

"""Models that are loaded side by side have their own weights, whole."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from sae_auto_interp.clients.in_process.causal_lm import CausalLanguageModel
from sae_auto_interp.config import resolve_path
from sae_auto_interp.models.subject import load_subject_model


def test_models_loaded_side_by_side_are_whole() -> None:
    place = resolve_path("embedded:language_model")

    def load(number: int) -> Any:
        if number % 2:
            return CausalLanguageModel.load(place, "cpu", "float32").model
        return load_subject_model(place, "cpu")._module

    with ThreadPoolExecutor(6) as pool:
        first, *others = [model.state_dict() for model in pool.map(load, range(6))]
    for other in others:
        assert other.keys() == first.keys()
        assert all(torch.equal(other[name], first[name]) for name in first)

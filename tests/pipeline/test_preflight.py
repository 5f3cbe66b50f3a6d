"""The embedded autoencoders pass the preflight as they are, and each way of wiring them wrongly is caught and named."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
from sae_auto_interp.errors import WeightsError
from sae_auto_interp.models.sites.site import Placement, Site
from sae_auto_interp.preflight import measure
from sae_auto_interp.types.fit import Finding, Preflight
from tests.pipeline import embedded
from tests.pipeline.embedded import check, check_one, claiming, coder

PLACES = {"transformer.h.1": "openai", "transformer.h.2": "sparsify", "transformer.h.0.mlp": "saelens"}
MLP_IN, MLP_OUT = Site("transformer.h.1.mlp", "input"), Site("transformer.h.1.mlp", "output")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def codes(found: Preflight) -> list[str]:
    return [finding.code for finding in found.refusals]


def refusal(found: Preflight, code: str) -> str:
    assert code in codes(found), found.findings
    return next(finding.message for finding in found.refusals if finding.code == code)


def test_the_embedded_autoencoders_fit() -> None:
    began = time.process_time()
    found = check({path: coder(family) for path, family in PLACES.items()})
    assert time.process_time() - began < 20  # about 3 seconds on an idle machine
    assert [each.module_path for each in found] == list(PLACES)
    for each in found:
        assert not each.findings
        assert each.figures is not None
        assert each.figures.fvu is not None
        assert each.figures.fvu < 0.15


def test_a_wrong_site_is_caught_and_the_right_one_named() -> None:
    found = check_one("transformer.h.3", coder("openai"))
    assert found.figures is not None
    assert found.figures.fvu is not None
    assert found.figures.fvu < 0.6
    message = refusal(found, "site")
    assert "at transformer.h.1:out (blocks.1.hook_resid_post): FVU" in message
    assert "site: transformer.h.1:out" in message


def test_a_wrong_side_of_a_module_is_caught_where_nothing_is_left_of_the_fit() -> None:
    found = check_one(Site("transformer.h.2.ln_2", "output"), coder("sparsify"))
    assert codes(found) == ["fvu", "site"]
    assert "transformer.h.2:out (blocks.2.hook_resid_post)" in refusal(found, "site")


def test_square_matrices_the_right_way_round_fit() -> None:
    assert not check_one("transformer.h.2", embedded.square_coder(Site("transformer.h.2"))).refusals


@pytest.mark.parametrize(
    ("transposed", "cause", "remedy"),
    [
        (("w_enc",), "with its encoder transposed", "transpose the encoder's matrix"),
        (("w_dec",), "with its decoder transposed", "transpose the decoder's matrix"),
        (("w_enc", "w_dec"), "with encoder and decoder transposed", "transpose both matrices"),
    ],
)
def test_transposed_matrices_are_caught_and_named(transposed: tuple[str, ...], cause: str, remedy: str) -> None:
    """Square ones: others are refused by their shapes, before they are attached."""
    right = embedded.square_coder(Site("transformer.h.2"))
    weights = embedded.weights_of(right)
    changes = {name: getattr(weights, name).T.contiguous() for name in transposed}
    found = check_one("transformer.h.2", SparseCoder(replace(weights, **changes), right.settings))
    message = refusal(found, "reading")
    assert f"{cause}: FVU" in message
    assert message.endswith(remedy)


@pytest.mark.parametrize("transposed", [("w_enc",), ("w_dec",), ("w_enc", "w_dec")])
def test_transposed_matrices_that_are_not_square_are_no_coder(transposed: tuple[str, ...]) -> None:
    right = embedded.stored_coder("sparsify")
    weights = embedded.weights_of(right)
    with pytest.raises(WeightsError, match="is a matrix transposed"):
        SparseCoder(replace(weights, **{name: getattr(weights, name).T for name in transposed}), right.settings)


@pytest.mark.parametrize(
    ("family", "place", "given", "cause"),
    [
        ("openai", "transformer.h.1", "none", "with its input layer-normalised"),
        ("sparsify", "transformer.h.2", "layer_norm", "without input normalisation"),
    ],
)
def test_a_missing_or_needless_normalisation_is_caught_and_named(
    family: str, place: str, given: str, cause: str
) -> None:
    found = check_one(place, coder(family, normalisation=given))
    assert cause in refusal(found, "reading")


def test_a_scaled_dataset_is_named() -> None:
    x = embedded.activations(Site("transformer.h.2"))
    factor = float(x.shape[1] ** 0.5 / x.norm(dim=-1).mean())
    weights = embedded.weights_of(embedded.stored_coder("sparsify"))
    scaled = replace(weights, w_enc=weights.w_enc / factor, w_dec=weights.w_dec * factor, b_dec=weights.b_dec * factor)
    found = check_one("transformer.h.2", SparseCoder(scaled, embedded.stored_coder("sparsify").settings))
    assert "with its activations multiplied by 0." in refusal(found, "reading")


@pytest.mark.parametrize("other", [embedded.other_training_run, embedded.untrained_model])
@pytest.mark.parametrize("family", ["openai", "sparsify", "saelens"])
def test_another_model_of_the_same_form_is_caught(family: str, other: Callable[[], nn.Module]) -> None:
    """Same dimensions, same module paths: only the activations tell. The message says what they show, and no more."""
    place = {family: path for path, family in PLACES.items()}[family]
    found = check_one(place, coder(family), other())
    assert set(codes(found)) & {"fvu", "chance"}
    assert not set(codes(found)) & {"site", "reading"}
    message = found.refusals[-1].message
    assert "none of" in message
    assert "norm of these activations" in message or "point elsewhere" in message
    assert "(1) it was trained on another model" in message


def test_the_base_model_that_its_files_name_is_named_beside_this_one() -> None:
    other = embedded.other_training_run()
    other.config._name_or_path = "mine/renamed"  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    message = check_one("transformer.h.2", claiming("sparsify", model="theirs/tiny"), other).refusals[-1].message
    assert "(1) it was trained on another model (its files name theirs/tiny, and this is mine/renamed)" in message


def test_a_base_model_of_another_form_is_refused_by_name() -> None:
    found = check_one("transformer.h.1", claiming("openai", model="EleutherAI/pythia-70m-deduped"))
    message = refusal(found, "model")
    assert "EleutherAI/pythia-70m-deduped" in message
    assert "512 dimensions (this model: 128)" in message
    assert not check_one("transformer.h.1", claiming("openai", model="my own model")).findings


def test_a_claimed_l0_off_by_more_than_three_is_refused() -> None:
    assert "claim 50" in refusal(check_one("transformer.h.1", claiming("openai", l0=50)), "l0")
    assert not check_one("transformer.h.1", claiming("openai", l0=30)).findings
    few = check_one("transformer.h.0.mlp", coder("saelens"))
    assert few.claims is not None
    assert few.claims.l0 is None


def test_what_is_allowed_by_name_is_kept_as_a_finding() -> None:
    found = check_one("transformer.h.1", claiming("openai", l0=50), allow=("l0",))
    assert not found.refusals
    (finding,) = found.findings
    assert (finding.code, finding.severity) == ("l0", "allowed")


def test_claims_about_rows_and_hook_are_warnings() -> None:
    found = check_one("transformer.h.1", claiming("openai", ctx_len=32, hook="blocks.2.hook_resid_post"))
    assert [(each.code, each.severity) for each in found.findings] == [("ctx_len", "warning"), ("hook", "warning")]


def test_activations_that_are_no_numbers_are_refused() -> None:
    broken = embedded.other_training_run()
    with torch.no_grad():
        broken.get_parameter("transformer.h.1.mlp.c_proj.bias")[3] = float("nan")
    found = check_one("transformer.h.1", coder("openai"), broken)
    assert codes(found) == ["numbers"]
    assert found.figures is not None
    assert found.figures.fvu is None


def test_a_transcoder_is_judged_on_its_target() -> None:
    """A linear map by least squares: it explains the MLP's output, and nothing of what it reads."""
    x, y = embedded.activations(MLP_IN).double(), embedded.activations(MLP_OUT).double()
    centred = x - x.mean(0)
    normal = centred.T @ centred + 1e-3 * torch.eye(128)  # a norm's output lacks one direction
    linear = torch.linalg.solve(normal, centred.T @ (y - y.mean(0)))
    transcoder = embedded.signed_pairs(torch.eye(128), linear.float(), (y.mean(0) - x.mean(0) @ linear).float())
    expected = float((y - y.mean(0) - centred @ linear).square().sum() / (y - y.mean(0)).square().sum())
    found = check_one(Placement((MLP_IN,), target=MLP_OUT), transcoder)
    assert found.target == "transformer.h.1.mlp:out"
    assert found.figures is not None
    assert found.figures.fvu == pytest.approx(expected, rel=1e-3)
    assert not found.refusals
    assert codes(check_one(MLP_IN, transcoder)) != []


def test_what_was_never_trained_to_reconstruct_is_not_judged_by_it() -> None:
    found = check_one("transformer.h.0.mlp", coder("openai", reconstructs=False))
    assert [finding.code for finding in found.findings] == ["hook"], "where its files say it reads is another matter"
    assert not found.refusals
    assert not found.alternatives
    assert found.figures is not None
    assert found.figures.fvu is None
    assert found.figures.l0 == 12


def test_equal_runs_give_equal_figures_and_passes_of_any_size_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    first, again = (check_one("transformer.h.1", coder("openai")) for _ in range(2))
    assert first == again
    monkeypatch.setattr(measure, "TOKENS_AT_ONCE", 64)
    other = check_one("transformer.h.1", coder("openai"))
    assert first.figures is not None
    assert other.figures is not None
    assert other.figures.fvu == pytest.approx(first.figures.fvu, rel=1e-5)


def test_weights_of_another_width_are_a_result_of_the_check() -> None:
    wide = Site("transformer.h.1.mlp.act", "output")  # how wide is known when it runs
    found = check_one(wide, coder("openai"))
    (finding,) = found.findings
    assert isinstance(finding, Finding)
    assert finding.code == "weights"
    assert "reads 128 dimensions" in finding.message
    assert "512" in finding.message


def test_that_half_of_a_signed_code_is_not_cached_is_a_warning() -> None:
    signed = check_one("transformer.h.1", coder("openai", activation="abstopk", relu_before_topk=False))
    (finding,) = [each for each in signed.findings if each.code == "signed"]
    assert finding.severity == "warning"
    assert "the positive half alone" in finding.message
    assert "signed" not in codes(check_one("transformer.h.1", coder("openai")))

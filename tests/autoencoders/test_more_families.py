"""Families beyond the first three: files in their own layouts encode and decode as their published formulas say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders.detect import FAMILIES, detect_family
from sae_auto_interp.autoencoders.families import (
    circuit_tracer,
    crosscoder,
    dictionary_learning,
    gemma_scope,
    gemma_scope_2,
    goodfire,
    llama_scope,
    qwen_scope,
)
from sae_auto_interp.autoencoders.families.dictionary_learning import Reading
from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
from sae_auto_interp.errors import InputError, WeightsError
from tests.autoencoders import (
    families_dictionary_learning as dl,
    families_scopes as scopes,
    families_single_files as single,
)
from tests.autoencoders.families import D_IN, WIDTH, K, Weights, Written, random_weights
from tests.autoencoders.test_damaged_files import MakesADirectory
from tests.autoencoders.test_families import close

Write = Callable[[Path, Weights], Written]

TOP_K: dict[Write, Any] = {
    dl.top_k_of_each: dictionary_learning,
    dl.batch_top_k_without_threshold: dictionary_learning,
    dl.matryoshka_without_threshold: dictionary_learning,
    scopes.qwen_scope: qwen_scope,
}
OTHERS: dict[Write, Any] = {
    dl.auto_encoder_new: dictionary_learning,
    dl.gated: dictionary_learning,
    dl.jump_relu: dictionary_learning,
    dl.batch_top_k: dictionary_learning,
    dl.matryoshka: dictionary_learning,
    scopes.gemma_scope: gemma_scope,
    scopes.gemma_scope_2: gemma_scope_2,
    scopes.gemma_scope_2_affine: gemma_scope_2,
    scopes.gemma_scope_2_cross_layer: gemma_scope_2,
    scopes.llama_scope: llama_scope,
    single.goodfire: goodfire,
    single.qresearch: goodfire,
    single.per_layer_transcoder: circuit_tracer,
    single.jump_relu_transcoder: circuit_tracer,
    single.cross_layer_transcoder: circuit_tracer,
    single.crosscoder: crosscoder,
}
WITH_ROOTS: dict[Write, Any] = {
    dl.auto_encoder: dictionary_learning,
    scopes.gemma_scope_embedding: gemma_scope,
    scopes.llama_scope_with_decoder_norm: llama_scope,
    scopes.llama_scope_r1: llama_scope,
    scopes.openmoss_jump_relu: llama_scope,
    scopes.openmoss_top_k: llama_scope,
    scopes.openmoss_token_wise: llama_scope,
}
"""What is compared has a root or a logarithm in it: whole numbers do not make it exact."""
READERS = TOP_K | OTHERS | WITH_ROOTS


def read(write: Write, written: Written) -> SparseCoder:
    return READERS[write].read(written.path)


def inputs(n: int, scale: float = 2.0) -> np.ndarray:
    """The first is zero."""
    x = np.random.default_rng(1).normal(size=(n, D_IN), scale=scale).astype(np.float32)
    x[0] = 0
    return x


def assert_same_codes(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.array_equal(found > 0, expected > 0)
    assert close(found, expected)


@pytest.mark.parametrize("write", READERS)
def test_codes_and_reconstructions_are_those_of_the_published_formula(write: Write, tmp_path: Path) -> None:
    written = write(tmp_path, random_weights())
    coder, x = read(write, written), inputs(64)
    expected = written.encode(x)
    code = coder.encode(torch.tensor(x))
    assert 64 < len(code.values) < 0.8 * expected.size
    assert_same_codes(coder.densified(code, 64).numpy(), expected)
    decoded = written.decode(expected, x)
    assert close(coder.decode(torch.tensor(expected, dtype=torch.float32), torch.tensor(x)).numpy(), decoded)
    assert close(coder.reconstruct(torch.tensor(x)).numpy(), decoded)


@pytest.mark.parametrize("write", READERS)
def test_enormous_activations_are_encoded_as_well(write: Write, tmp_path: Path) -> None:
    written = write(tmp_path, random_weights())
    coder, x = read(write, written), inputs(64, scale=1e6)
    assert_same_codes(coder(torch.tensor(x)).numpy(), written.encode(x))


@pytest.mark.parametrize("write", OTHERS)
def test_what_is_exactly_at_zero_or_at_the_threshold_is_silent(write: Write, tmp_path: Path) -> None:
    written = write(tmp_path, random_weights(whole_numbers=True))
    x = np.random.default_rng(2).integers(-2, 3, (200, D_IN)).astype(np.float32)
    assert_same_codes(read(write, written)(torch.tensor(x)).numpy(), written.encode(x))


@pytest.mark.parametrize("write", READERS)
def test_a_family_is_known_by_what_is_in_its_files(write: Write, tmp_path: Path) -> None:
    written = write(tmp_path, random_weights())
    (tmp_path / "README.md").write_text("openai sparsify saelens")
    family = READERS[write].__name__.rpartition(".")[2]
    found, reason = detect_family(written.path.parent if write is scopes.qwen_scope else tmp_path)
    assert found == family, reason
    assert reason.startswith("it holds ")
    assert detect_family(written.path)[0] == family
    coder = read(write, written)
    assert (coder.settings.family, coder.settings.source) == (family, str(written.path))
    assert (coder.d_in, coder.width, coder.settings.prepend_bos) == (D_IN, WIDTH, True)


@pytest.mark.parametrize("write", [w for w in READERS if READERS[w] not in (circuit_tracer,)])
def test_half_precision_is_read(write: Write, tmp_path: Path) -> None:
    for name in ("halved", "exact"):
        (tmp_path / name).mkdir()
    w = random_weights()
    halved = Weights(*(getattr(w, name).astype(np.float16) for name in w.__dataclass_fields__))
    coder, x = read(write, write(tmp_path / "halved", halved)), inputs(64)
    assert {value.dtype for value in coder.state_dict().values()} == {torch.float32}
    exact = Weights(*(getattr(halved, name).astype(np.float32) for name in w.__dataclass_fields__))
    written = write(tmp_path / "exact", exact)
    expected = written.encode(x)
    assert close(coder(torch.tensor(x)).numpy(), expected)
    assert close(coder.reconstruct(torch.tensor(x)).numpy(), written.decode(expected, x))


def test_files_of_the_older_kind_are_known_too(tmp_path: Path) -> None:
    file = single.goodfire(tmp_path, random_weights()).path
    torch.save(torch.load(file, weights_only=True), file, _use_new_zipfile_serialization=False)
    assert detect_family(file)[0] == "goodfire"


PICKLED: dict[str, tuple[Write, str]] = {
    "dictionary_learning": (dl.batch_top_k, "trainer_0/ae.pt"),
    "qwen_scope": (scopes.qwen_scope, f"SAE-Res-Qwen3-1.7B-Base-W32K-L0_{K}/layer1.sae.pt"),
    "goodfire": (single.goodfire, "Llama-3.1-8B-Instruct-SAE-l1.pth"),
    "qresearch": (single.qresearch, "DeepSeek-R1-Distill-Llama-8B-SAE-l1.pt"),
    "crosscoder": (single.crosscoder, "crosscoder/cc_weights.pt"),
}


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("name", PICKLED)
def test_a_pickle_that_wants_to_run_code_is_refused_and_runs_nothing(name: str, is_zip: bool, tmp_path: Path) -> None:
    write, file = PICKLED[name]
    written = write(tmp_path, random_weights())
    made = tmp_path / "made_by_the_pickle"
    state = torch.load(tmp_path / file, weights_only=True)
    torch.save(state | {"k": MakesADirectory(made)}, tmp_path / file, _use_new_zipfile_serialization=is_zip)
    assert str(made).encode() in (tmp_path / file).read_bytes()
    with pytest.raises(WeightsError, match="refused as a torch file"):
        READERS[write].read(written.path)
    for family in FAMILIES.values():  # looking for the family opens the file too
        family.recognise(tmp_path)
        family.recognise(tmp_path / file)
    assert not made.exists()


def test_an_npz_with_pickled_objects_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    written = scopes.gemma_scope(tmp_path, random_weights())
    made = tmp_path / "made_by_the_pickle"
    arrays: dict[str, Any] = dict(np.load(written.path / "params.npz"))
    arrays["b_enc"] = np.array([MakesADirectory(made)], dtype=object)
    np.savez(written.path / "params.npz", **arrays)
    with pytest.raises(WeightsError, match="refused as an npz file"):
        gemma_scope.read(written.path)
    assert not made.exists()


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("write", READERS)
def test_a_truncated_file_is_named(write: Write, fraction: float, tmp_path: Path) -> None:
    written = write(tmp_path, random_weights())
    weights = [p for p in tmp_path.rglob("*") if p.suffix in (".pt", ".pth", ".npz", ".safetensors")]
    for file in weights:
        file.write_bytes(file.read_bytes()[: int(fraction * file.stat().st_size)])
    with pytest.raises(WeightsError, match="|".join(file.name for file in weights)):
        read(write, written)


HERE = Path(__file__).parent / "written_by_dictionary_learning"


@pytest.mark.parametrize("name", sorted(path.parent.parent.name for path in HERE.glob("*/*/ae.pt")))
def test_what_dictionary_learning_wrote_is_encoded_as_it_does(name: str) -> None:
    """Files and expected values of the family's own classes."""
    from safetensors.numpy import load_file

    expected = {part: load_file(HERE / "expected.safetensors")[f"{name}.{part}"] for part in ("x", "codes", "decoded")}
    coder = dictionary_learning.read(HERE / name / "trainer_0")
    assert_same_codes(coder(torch.tensor(expected["x"])).numpy(), expected["codes"])
    assert close(coder.reconstruct(torch.tensor(expected["x"])).numpy(), expected["decoded"])
    assert coder.settings.claims.model == "some/model"
    assert coder.settings.claims.l0 == K


@pytest.mark.parametrize("write", [w for w, family in READERS.items() if family is dictionary_learning])
def test_codes_can_be_scaled_by_the_norms_of_their_decoder_columns(write: Write, tmp_path: Path) -> None:
    written = write(tmp_path, random_weights())
    x = inputs(64)
    plain = dictionary_learning.read(written.path, Reading(normalise_decoder=False))
    scaled = dictionary_learning.read(written.path, Reading(normalise_decoder=False, scale_by_decoder_norm=True))
    norms = plain.w_dec.norm(dim=1)
    assert_same_codes(scaled(torch.tensor(x)).numpy(), (plain(torch.tensor(x)) * norms).numpy())
    torch.testing.assert_close(
        scaled.reconstruct(torch.tensor(x)), plain.reconstruct(torch.tensor(x)), rtol=1e-4, atol=1e-4
    )


def test_a_decoder_is_left_as_it_is_when_asked_or_of_norm_one(tmp_path: Path) -> None:
    w = random_weights()
    written = dl.auto_encoder(tmp_path, w)
    coder = dictionary_learning.read(written.path, Reading(normalise_decoder=False))
    assert np.array_equal(coder.w_dec.numpy(), w.w_dec)
    unit = Weights(w.w_enc, w.b_enc, w.w_dec / np.linalg.norm(w.w_dec, axis=1, keepdims=True), w.b_dec, w.threshold)
    assert np.array_equal(dictionary_learning.read(dl.auto_encoder(tmp_path, unit).path).w_enc.numpy(), w.w_enc)


@pytest.mark.parametrize("write", [dl.matryoshka, dl.matryoshka_without_threshold])
def test_only_the_active_groups_of_a_matryoshka_coder_fire(write: Write, tmp_path: Path) -> None:
    written = write(tmp_path, random_weights())
    x = inputs(64)
    for n in (1, 2, 3):
        coder = dictionary_learning.read(written.path, Reading(active_groups=n))
        assert_same_codes(coder(torch.tensor(x)).numpy(), dl.first_groups(written.encode(x), n))
    with pytest.raises(InputError, match=r"active_groups=4, but .*ae\.pt has 3 groups"):
        dictionary_learning.read(written.path, Reading(active_groups=4))


def test_what_files_claim_of_themselves(tmp_path: Path) -> None:
    w = random_weights()
    places = [
        tmp_path / name for name in ("gemma-scope-2b-pt-res", "gemma-scope-2-1b-pt", "llama", "qwen", "goodfire", "ct")
    ]
    for place in places:
        place.mkdir()
    first, second, llama, qwen, good, tracer = places
    claims = gemma_scope.read(scopes.gemma_scope(first, w).path).settings.claims
    assert (claims.model, claims.l0) == ("google/gemma-2-2b", 71)
    claims = gemma_scope_2.read(scopes.gemma_scope_2(second, w).path).settings.claims
    assert (claims.model, claims.l0, claims.hook) == ("google/gemma-3-1b-pt", 60, "model.layers.1.output")
    claims = llama_scope.read(scopes.llama_scope(llama, w).path).settings.claims
    assert (claims.l0, claims.hook) == (K, "blocks.1.hook_resid_post")
    claims = qwen_scope.read(scopes.qwen_scope(qwen, w).path).settings.claims
    assert (claims.model, claims.l0, claims.hook) == ("Qwen/Qwen3-1.7B-Base", K, "model.layers.1")
    claims = goodfire.read(single.goodfire(good, w).path).settings.claims
    assert (claims.model, claims.hook) == ("Llama-3.1-8B-Instruct", "blocks.1.hook_resid_post")
    claims = circuit_tracer.read(single.cross_layer_transcoder(tracer, w).path).settings.claims
    assert (claims.model, claims.hook) == ("some/model", "mlp.hook_in")


@pytest.mark.parametrize("write", [scopes.gemma_scope_2_cross_layer, single.cross_layer_transcoder])
def test_one_layer_of_a_cross_layer_transcoder_says_that_it_does_not_reconstruct(write: Write, tmp_path: Path) -> None:
    assert not read(write, write(tmp_path, random_weights())).settings.reconstructs


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another class": (lambda p: _changed_config(p, dl.jump_relu, "trainer", "dict_class", "CrossCoder"), "CrossCoder"),
    "two models": (lambda p: _crosscoder_of_models(p), "trained on 2 models"),
    "a glu encoder": (lambda p: _llama(p, use_glu_encoder=True), "use_glu_encoder"),
    "batch top k": (lambda p: _llama(p, act_fn="batchtopk"), "act_fn 'batchtopk'"),
    "another kind": (lambda p: _llama(p, sae_type="lorsa"), "sae_type 'lorsa'"),
    "no norm": (lambda p: _llama(p, dataset_average_activation_norm={}), "average norm"),
    "no k": (lambda p: _qwen_without_k(p), "how many entries are kept"),
    "gemma crosscoder": (lambda p: _gemma_crosscoder(p), "one layer of a crosscoder"),
    "gemma without a place": (lambda p: _gemma_without_place(p), "nor do the directories' names"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_read_wrong_is_refused_with_its_reason(case: str, tmp_path: Path) -> None:
    act, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        act(tmp_path)


def _changed_config(folder: Path, write: Write, section: str, key: str, value: Any) -> Any:
    path = write(folder, random_weights()).path
    config = json.loads((path / "config.json").read_text())
    config[section][key] = value
    (path / "config.json").write_text(json.dumps(config))
    return dictionary_learning.read(path)


def _crosscoder_of_models(folder: Path) -> Any:
    written = single.crosscoder(folder, random_weights(), "blocks.1.hook_resid_pre")
    return crosscoder.placement(None, written.path)


def _llama(folder: Path, **fields: Any) -> Any:
    return llama_scope.read(scopes.llama_scope(folder, random_weights(), **fields).path)


def _qwen_without_k(folder: Path) -> Any:
    path = scopes.qwen_scope(folder, random_weights()).path
    return qwen_scope.read(path.rename(folder / "layer1.sae.pt"))


def _gemma_crosscoder(folder: Path) -> Any:
    path = scopes.gemma_scope_2_cross_layer(folder, random_weights()).path
    from safetensors.numpy import save_file

    save_file(scopes.gemma_tensors(random_weights()), path)
    return gemma_scope_2.read(path)


def _gemma_without_place(folder: Path) -> Any:
    path = scopes.gemma_scope_2(folder, random_weights(), "somewhere").path
    (path / "config.json").unlink()
    return gemma_scope_2.placement(None, path / "params.safetensors")


def _without_a_decoder_row() -> Weights:
    """Of a feature that would else fire nearly everywhere."""
    w = random_weights()
    w.w_dec[7], w.b_enc[7] = 0, 40
    return w


@pytest.mark.parametrize(
    "write", [scopes.llama_scope_with_decoder_norm, scopes.openmoss_jump_relu, scopes.openmoss_top_k]
)
def test_what_is_ranked_by_a_decoder_row_of_zeros_never_fires(write: Write, tmp_path: Path) -> None:
    written = write(tmp_path, _without_a_decoder_row())
    coder, x = read(write, written), inputs(64)
    expected = written.encode(x)
    assert not expected[:, 7].any()
    assert_same_codes(coder(torch.tensor(x)).numpy(), expected)


def resaved(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    if file.suffix in (".pt", ".pth"):
        state = torch.load(file, weights_only=True)
        change(state)
        torch.save(state, file)
        return
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    change(tensors)
    save_file({name: value.contiguous() for name, value in tensors.items()}, file)


def _transposed(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda state: state.update({name: state[name].T.contiguous()})


MISSHAPEN: dict[str, tuple[Write, str, Callable[[dict[str, Any]], Any]]] = {
    "dictionary": (dl.auto_encoder, "ae.pt", _transposed("decoder.weight")),
    "decoder norm": (scopes.openmoss_top_k, "sae_weights.safetensors", _transposed("W_D")),
    "decoder norm v1": (
        scopes.llama_scope_with_decoder_norm, "checkpoints/final.safetensors", _transposed("decoder.weight"),
    ),
    "scaled": (scopes.llama_scope, "checkpoints/final.safetensors", _transposed("encoder.weight")),
    "thresholds": (
        scopes.llama_scope_r1, "sae_weights.safetensors",
        lambda state: state.update({"log_jumprelu_threshold": torch.zeros(WIDTH - 1)}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISSHAPEN)
def test_shapes_that_disagree_are_named_with_their_file(case: str, tmp_path: Path) -> None:
    write, name, change = MISSHAPEN[case]
    written = write(tmp_path, random_weights())
    resaved(written.path / name, change)
    with pytest.raises(WeightsError, match=f"{Path(name).name}: .* has shape"):
        read(write, written)

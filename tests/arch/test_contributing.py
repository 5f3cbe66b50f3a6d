"""The examples of CONTRIBUTING.md are complete: each loads by its address and does what it says."""

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_auto_interp import protocols
from sae_auto_interp.registry import load_component
from sae_auto_interp.types import (
    Example,
    Explanation,
    Failure,
    FeatureId,
    FeatureRecord,
    FeatureStats,
    Message,
    NonActivating,
    Request,
)
from tests.arch.source_files import PACKAGE, ROOT, folder_of, imports_of
from tests.arch.test_import_rules import problem_with_own, problem_with_torch

BLOCKS = dict(
    re.findall(r"```python\n# src/sae_auto_interp/(\S+)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
)
FEATURE = FeatureId("h.1", 5)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(tmp_path)

    def load(file: str, class_name: str) -> Any:
        module = "contributed_" + Path(file).stem
        (tmp_path / f"{module}.py").write_text(BLOCKS[file])
        return load_component(Path(file).parent.name, f"{module}:{class_name}")

    return load


def example(text: str, document: int, peak: int | None = None) -> Example:
    words = tuple(re.findall(r"\s*\S+", text))
    activations = np.zeros(len(words), dtype=np.float32)
    if peak is not None:
        activations[peak] = 2.0
    source = "random" if peak is None else "activating"
    tokens = np.arange(len(words), dtype=np.int32)
    return Example(tokens, words, activations, row=document, start=0, document=document, source=source)


def record() -> FeatureRecord:
    return FeatureRecord(
        feature=FEATURE,
        stats=FeatureStats(100, 4, 20, 4, 2.0, 2.0),
        train=(example("the cat sat", 0, peak=1), example("a cat ran", 1, peak=1)),
        test=(example("one cat more", 2, peak=1), example("old cat here", 5, peak=1)),
        non_activating=NonActivating((), (example("no animal at all", 3), example("nothing", 4))),
    )


def test_examples_obey_the_import_rules(tmp_path: Path) -> None:
    for file, source in BLOCKS.items():
        written = tmp_path / "example.py"
        written.write_text(source)
        place = PACKAGE / file
        assert not place.exists(), f"{file} is now a real component; take another for CONTRIBUTING.md"
        assert folder_of(place) == Path(file).parts[0]
        imports = imports_of(written)
        problems = [p for e in imports for p in (problem_with_own(e, place), problem_with_torch(e, place)) if p]
        assert not problems, (file, problems)


def test_explainer(load: Any) -> None:
    explainer: protocols.Explainer = load("explainers/peaks.py", "PeaksExplainer")()
    explanation = asyncio.run(explainer.explain(record()))
    assert isinstance(explanation, Explanation)
    assert explanation.text == "tokens such as 'cat'"
    empty = FeatureRecord(FEATURE, record().stats, (), (), NonActivating((), ()))
    assert isinstance(asyncio.run(explainer.explain(empty)), Failure)


def test_judge_and_scorer(load: Any) -> None:
    judge: protocols.Judge = load("judges/words.py", "WordsJudge")()
    scorer: protocols.Scorer = load("scorers/whole_window.py", "WholeWindowScorer")(judge=judge)
    explanation = Explanation(FEATURE, "tokens such as 'cat'", "peaks", "peaks-1")
    score = asyncio.run(scorer.score(record(), explanation, "e1"))
    assert [trial.document for trial in score.trials] == [2, 3, 4, 5]
    assert [trial.target for trial in score.trials] == [True, False, False, True]
    assert [trial.prediction for trial in score.trials] == [True, False, False, True]


def test_client(load: Any) -> None:
    client: protocols.Client = load("clients/canned.py", "CannedClient")(answer="cats")
    response = asyncio.run(client.generate(Request((Message("user", "what is it?"),))))
    assert (response.text, response.usage.n_requests) == ("cats", 1)


def test_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from sae_auto_interp.autoencoders import detect
    from sae_auto_interp.autoencoders.attach import attached_coder
    from tests.support.records import D_MODEL, tiny_gpt2

    (tmp_path / "lab.py").write_text(BLOCKS["autoencoders/lab.py"])
    monkeypatch.setitem(detect.FAMILIES, "lab", import_file(tmp_path / "lab.py"))
    encoder, decoder = torch.nn.Linear(D_MODEL, 24), torch.nn.Linear(24, D_MODEL, bias=False)
    arrays = {"encoder": encoder.weight, "bias": encoder.bias, "decoder": decoder.weight.T}
    saved: dict[str, Any] = {name: value.detach().numpy() for name, value in arrays.items()}
    np.savez(tmp_path / "h.1.npz", **saved)
    (coder,) = map(attached_coder, detect.load_autoencoders(tiny_gpt2(), tmp_path).values())
    x = torch.randn(8, D_MODEL)
    codes = torch.relu(encoder(x))
    torch.testing.assert_close(coder(x), codes)
    torch.testing.assert_close(coder.reconstruct(x), decoder(codes))
    assert coder.placement is not None
    assert coder.placement.home == "transformer.h.1"


def import_file(path: Path) -> Any:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

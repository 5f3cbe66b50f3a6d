"""A run file read once: its parts, what is said of a wrong one, and what reading it does not do."""

import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

from sae_auto_interp.config import parse_config
from sae_auto_interp.errors import ConfigError, UnknownNameError
from sae_auto_interp.pipeline.commands.demo import demo_config
from sae_auto_interp.pipeline.planning.requests import left_out
from sae_auto_interp.pipeline.resolved import resolve, resolve_inputs

LEAST: dict[str, Any] = {"model": "m", "autoencoders": ["a", {"kind": "neurons", "module_paths": ["x", "y"], "k": 3}]}
CLIENT = {"base_url": "http://127.0.0.1:1/v1", "max_concurrency": 3}


def test_each_part_holds_what_its_stage_takes() -> None:
    run = resolve(
        parse_config(LEAST | {"seed": 5, "n_shuffled": 2, "data": {"n_tokens": 7}, "features": {"n_test": 60}})
    )
    assert (run.inputs.subject.model, run.inputs.subject.n_modules, run.inputs.subject.seed) == ("m", 3, 5)
    assert (run.inputs.text.data.n_tokens, run.inputs.text.seed) == (7, 5)
    assert (run.records.config.n_test, run.records.config.seed, run.records.seed) == (60, 5, 5)
    assert run.controls.n_shuffled == 2
    assert [explainer.name for explainer in run.components.explainers] == ["lexical"]
    assert [scorer.settings["seed"] for scorer in run.components.scorers] == [5, 5]
    assert run.lexical is None, "it is listed already"


def test_a_seed_of_a_components_own_stays() -> None:
    run = resolve(parse_config(LEAST | {"scorers": [{"name": "detection", "seed": 9}], "seed": 5}))
    (scorer,) = run.components.scorers
    assert scorer.settings["seed"] == 9
    assert scorer.given == {"seed": 9}, "what tells two components apart is what the run file says"


@pytest.mark.parametrize(
    ("sections", "explaining", "judging", "reading"),
    [
        ({"explainers": ["lexical"]}, set(), set(), set()),
        ({"explainers": ["simple"]}, {"explain"}, {"score"}, set()),
        ({"explainers": ["best_of_n"], "features": {"n_dev": 20, "n_non_activating_dev": 20}}, {"explain"},
         {"explain", "score"}, set()),
        ({"explainers": ["lexical"], "scorers": ["surprisal"]}, set(), set(), {"score"}),
    ],
)  # fmt: skip
def test_an_endpoint_knows_the_stages_that_ask_it(
    sections: dict[str, Any], explaining: set[str], judging: set[str], reading: set[str]
) -> None:
    endpoints = resolve(parse_config(LEAST | {"client": CLIENT} | sections)).endpoints
    assert (endpoints.explaining.stages, endpoints.judging.stages) == (explaining, judging)
    assert endpoints.reading.stages == reading
    assert endpoints.judging.needed("cache") is None
    assert (endpoints.judging.needed("explain") is not None) == ("explain" in judging)


def test_the_lexical_baseline_has_the_scorers_that_a_rule_can_answer() -> None:
    scorers = [{"name": "detection", "judge": {"name": "llm", "temperature": 0.5}}, "intruder", "simulation"]
    run = resolve(parse_config(LEAST | {"client": CLIENT, "explainers": ["simple"], "scorers": scorers}))
    assert run.lexical is not None
    (scorer,) = run.lexical.scorers
    assert (scorer.name, scorer.given, dict(scorer.own)) == ("detection", {}, {}), "without a judge of its own"
    assert resolve(parse_config(LEAST | {"client": CLIENT, "explainers": ["simple"], "n_lexical": 0})).lexical is None


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"scorers": [{"name": "detection", "n_shwn": 1}]}, "did you mean 'n_shown'"),
        ({"features": {"n_tset": 1}}, "did you mean 'n_test'"),
        ({"explainers": ["simple"]}, "needs a language model"),
        ({"explainers": ["lexical", "lexical"]}, "stands there twice"),
        ({"explainers": ["stored"]}, r"explainers\.stored needs a setting: path"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_done(sections: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        resolve(parse_config(LEAST | sections))


def test_what_a_cache_is_made_from_needs_no_endpoint() -> None:
    inputs = resolve_inputs(parse_config(LEAST | {"explainers": ["simple"], "features": {"n_dev": 4}}))
    assert inputs.text.n_documents == 3, "to explain, to test, and for development"
    assert inputs.caching.preflight.n_tokens == 4096


def test_it_can_be_sent_to_another_process() -> None:
    assert len(ForkingPickler.dumps(resolve(demo_config(3)))) > 1000


def test_reading_it_loads_no_torch() -> None:
    program = (
        "import sys; from sae_auto_interp.pipeline.commands.demo import demo_config; "
        "from sae_auto_interp.pipeline.resolved import resolve; resolve(demo_config(3)); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_asks_an_embedding_model_is_not_planned() -> None:
    embedder = {"name": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "small"}
    judge = {"name": "embedding", "threshold": 0.2, "embedder": embedder}
    scorers = ["detection", {"name": "embedding", "embedder": embedder}, {"name": "fuzzing", "judge": judge}]
    run = resolve(parse_config(LEAST | {"scorers": scorers}))
    assert left_out(run.components.scorers) == ["embedding", "fuzzing"]


@pytest.mark.parametrize("budget", [{"max_usd": 1.0}, {"max_tokens": 1000}])
@pytest.mark.parametrize(
    "sections",
    [
        lambda embedder: {"features": {"embedder": embedder, "n_non_activating_train": {"similar": 2}}},
        lambda embedder: {"scorers": [{"name": "embedding", "embedder": embedder}]},
        lambda embedder: {
            "scorers": [{"name": "detection", "judge": {"name": "embedding", "threshold": 0.2, "embedder": embedder}}]
        },
    ],
)
def test_a_cap_is_no_cap_where_embeddings_are_paid_for(sections: Any, budget: dict[str, Any]) -> None:
    def run_file(host: str) -> dict[str, Any]:
        return LEAST | sections({"name": "openai", "base_url": f"http://{host}/v1", "model": "small"})

    resolve(parse_config(run_file("127.0.0.1:8000") | {"budget": budget}))
    resolve(parse_config(run_file("api.example.com")))
    with pytest.raises(
        ConfigError, match=r"budget: what api\.example\.com charges for embeddings \(embedders\.openai\)"
    ):
        resolve(parse_config(run_file("api.example.com") | {"budget": budget}))

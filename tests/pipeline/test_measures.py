"""Judges and embedders in the run file: built once, filed under their names, and not mixed with others."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.config import ComponentConfig, dump_config, load_config, parse_config
from sae_auto_interp.errors import ConfigError, RunDirectoryError, UnknownNameError
from sae_auto_interp.judges import HiddenJudge, LlmJudge
from sae_auto_interp.pipeline import stages
from sae_auto_interp.pipeline.components import OpenEmbedders, resolve_component
from sae_auto_interp.pipeline.judged_scorers import JudgedScorer, judged_scorers_of
from sae_auto_interp.pipeline.resolved import asks_language_model, resolve
from sae_auto_interp.protocols import Client, Embedder
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import ShownExample
from tests.pipeline.small_runs import configuration, loader_of, run, write_small_cache

BASE: dict[str, Any] = {"model": "m", "autoencoders": ["a"]}
ENDPOINT = {"client": {"base_url": "http://127.0.0.1:1/v1"}}
HIDDEN = {"name": "hidden", "of": "llm"}
EMBEDDER = {"name": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "small"}


def always(explanation: str, shown: ShownExample) -> bool:
    return True


def built(folder: str, settings: dict[str, Any]) -> Any:
    collaborators = {Client: ScriptedClient([], model="llama"), Embedder: OpenEmbedders()}
    return resolve_component(folder, ComponentConfig.model_validate(settings)).build(collaborators)


def measures(root: Path, scorers: list[Any], explainer: Any = "simple") -> list[JudgedScorer]:
    config = parse_config(BASE | ENDPOINT | {"explainers": [explainer], "scorers": scorers})
    collaborators = {Client: ScriptedClient([], model="llama"), Embedder: OpenEmbedders()}
    with ResultStore.open(root / "results.sqlite") as store:
        return list(
            judged_scorers_of(
                resolve(config).components.explainers[0], resolve(config).components.scorers, store, collaborators
            )
        )


def test_a_judge_within_a_judge_and_its_settings_are_built() -> None:
    judge = built("judges", {"name": "hidden", "of": {"name": "llm", "top_logprobs": 20}})
    assert isinstance(judge, HiddenJudge)
    assert isinstance(judge.of, LlmJudge)
    assert (judge.of.top_logprobs, judge.name) == (20, "hidden:llm:llama")


def test_results_are_filed_under_whom_a_scorer_asks(tmp_path: Path) -> None:
    scorers = ["detection", {"name": "detection", "judge": HIDDEN}, {"name": "embedding", "embedder": EMBEDDER}]
    found = measures(tmp_path, scorers)
    assert [m.unit("simple/h.1:3") for m in found] == [
        "detection/llm:llama/simple/h.1:3",
        "detection/hidden:llm:llama/simple/h.1:3",
        "embedding/openai:small/simple/h.1:3",
    ]


def test_what_reads_no_explanation_needs_no_control(tmp_path: Path) -> None:
    probe = {"name": "detection", "judge": "hidden"}
    found = measures(tmp_path, ["detection", "intruder", "intruder_explained", probe])
    assert [m.reads_explanation for m in found] == [True, False, True, False]


def test_the_seed_of_the_run_reaches_every_scorer(tmp_path: Path) -> None:
    config = parse_config(BASE | ENDPOINT | {"explainers": ["simple"], "scorers": ["fuzzing_same_window"], "seed": 7})
    with ResultStore.open(tmp_path / "results.sqlite") as store:
        (found,) = judged_scorers_of(
            resolve(config).components.explainers[0],
            resolve(config).components.scorers,
            store,
            {Client: ScriptedClient([])},
        )
    assert getattr(found.scorer, "seed", None) == 7


def test_other_settings_of_a_judge_are_refused_in_the_same_directory(tmp_path: Path) -> None:
    measures(tmp_path, ["detection"])
    measures(tmp_path, ["detection"])
    warm = {"name": "simple", "judge": {"name": "llm", "temperature": 0.7}}
    with pytest.raises(RunDirectoryError, match="detection with judge llm:llama with other settings"):
        measures(tmp_path, ["detection"], warm)
    with pytest.raises(RunDirectoryError, match="detection with judge llm:llama with other settings"):
        measures(tmp_path, [{"name": "detection", "judge": {"name": "llm", "temperature": 0.7}}])


def test_two_scores_under_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="detection stands there twice with llm:llama"):
        measures(tmp_path, ["detection", {"name": "detection", "n_shown": 1}])


def test_each_embedding_model_is_opened_once_and_closed() -> None:
    def opened(settings: Mapping[str, Any]) -> Any:
        return pool.opened(resolve_component("embedders", ComponentConfig.model_validate(settings)))

    pool = OpenEmbedders()
    first = opened(EMBEDDER)
    assert opened(EMBEDDER) is first
    assert opened(EMBEDDER | {"model": "large"}) is not first
    asyncio.run(pool.close())


def test_the_embedding_model_of_an_explainers_judge_is_the_runs_and_closed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`best_of_n` asks the judge while it explains; the scorer asks the same one."""
    made: list[OpenEmbedders] = []
    closed: list[int] = []

    class Watched(OpenEmbedders):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

        async def close(self) -> None:
            closed.append(len(self._open))
            await super().close()

    monkeypatch.setattr(stages, "OpenEmbedders", Watched)
    judge = {"name": "embedding", "embedder": EMBEDDER, "threshold": 0.5}
    pools = {"n_dev": 10, "n_non_activating_dev": 10, "n_features": 1}
    config = configuration(pools, explainers=[{"name": "best_of_n", "judge": judge}], scorers=["detection"])
    run(config, loader_of(write_small_cache(tmp_path), config), tmp_path / "results.sqlite")
    assert len(made) == 1
    assert closed == [1], "one model, opened once"


@pytest.mark.parametrize(
    ("scorers", "message"),
    [
        (["embedding"], r"scorers\.embedding needs an embedding model; write {name: embedding, embedder: "),
        ([{"name": "embedding", "embedder": "openai"}], r"embedders\.openai needs a setting: base_url"),
        ([{"name": "detection", "judge": 3}], r"scorers\.detection\.judge must be a name, or {name: ...,"),
        ([{"name": "detection", "judge": {"temperature": 1}}], r"scorers\.detection\.judge must be a name"),
        ([{"name": "detection", "judge": {"name": "embedding", "embedder": EMBEDDER}}], "needs a setting: threshold"),
    ],
)
def test_mistakes_are_named_before_any_work(scorers: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(parse_config(BASE | ENDPOINT | {"explainers": ["simple"], "scorers": scorers}))


def test_the_probe_of_a_scorer_asks_the_explainers_judge_unless_it_names_another(tmp_path: Path) -> None:
    warm = {"name": "simple", "judge": {"name": "llm", "temperature": 0.7}}
    (found,) = measures(tmp_path, [{"name": "detection", "judge": "hidden"}], warm)
    judge = getattr(found.scorer, "judge", None)
    assert isinstance(judge, HiddenJudge)
    assert isinstance(judge.of, LlmJudge)
    assert judge.of.temperature == 0.7
    config = parse_config(BASE | ENDPOINT | {"explainers": [{"name": "simple", "judge": "hidden"}]})
    with pytest.raises(ConfigError, match=r"judges\.hidden needs a judge to ask; write {name: hidden, of: llm}"):
        resolve(config)


def test_an_unknown_judge_of_a_scorer_is_answered_with_the_nearest() -> None:
    config = parse_config(BASE | ENDPOINT | {"scorers": [{"name": "detection", "judge": {"name": "lexcal"}}]})
    with pytest.raises(UnknownNameError, match="did you mean 'lexical'"):
        resolve(config)


def test_a_language_model_is_needed_exactly_where_something_asks_it() -> None:
    def needs(**sections: Any) -> bool:
        config = parse_config(BASE | sections)
        has_own = config.prompt_reader is not None
        return asks_language_model(config.explainers, config.scorers, has_own_reader=has_own)

    assert not needs(explainers=["lexical"])
    assert needs(explainers=["simple"])
    assert needs(explainers=[{"name": "lexical", "judge": "llm"}])
    assert needs(explainers=["lexical"], scorers=[{"name": "detection", "judge": HIDDEN}])
    address = f"{__name__}:always"
    mine = {"name": "detection", "judge": {"name": "function", "function": address}}
    assert not needs(explainers=["lexical"], scorers=[mine])
    assert not needs(explainers=["lexical"], scorers=[{"name": "embedding", "embedder": EMBEDDER}])
    with pytest.raises(ConfigError, match=r"scorers\.detection needs a language model"):
        resolve(parse_config(BASE | {"scorers": [{"name": "detection", "judge": HIDDEN}]}))


def test_judges_with_settings_survive_the_disk(tmp_path: Path) -> None:
    explainers = [{"name": "simple", "judge": {"name": "hidden", "of": {"name": "llm", "top_logprobs": 20}}}, "lexical"]
    config = parse_config(BASE | {"explainers": explainers, "scorers": [{"name": "detection", "judge": HIDDEN}]})
    (tmp_path / "run.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "run.yaml") == config
    assert config.explainers[0].judge_config.settings == {"of": {"name": "llm", "top_logprobs": 20}}
    assert [e.judge_name for e in config.explainers] == ["hidden", "lexical"]

"""The explainers that ask once: what they ask, word for word, what they read, and what they never look at."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.errors import ConfigError, ServerError
from sae_auto_interp.explainers import (
    ContrastiveExplainer,
    MaxActivationExplainer,
    MaxActivationLogitsExplainer,
    SaebenchExplainer,
    SingleTokenExplainer,
    TokenActivationPairsExplainer,
)
from sae_auto_interp.explainers.max_activation import label
from sae_auto_interp.explainers.saebench import after_activates_on
from sae_auto_interp.explainers.token_activation_pairs import after_prefix
from sae_auto_interp.prompting.marked_lines import Found
from sae_auto_interp.types import Explanation, Failure, FeatureRecord, TokenLogits
from tests.support.evidence import assert_golden, make_evidence, make_example

GOLDEN = Path(__file__).parent / "golden"
SECRET = " SECRET"
RECORD = replace(
    make_evidence(
        train=[
            make_example(["the", " cat", "\n", " sat", " down"], [0, 8, 0.4, 3.99, 0]),
            make_example(["a", " <<", " cat", "\t", " ran"], [0, 0, 4, 0, 0], document=1),
            make_example([" dogs", " chase", " cats"], [0.05, 0, 2], document=2),
        ],
        test=[make_example([SECRET, " test"], [0, 5], document=3)],
        explain=[
            make_example([" random", " words"], document=4),
            make_example([" cart", " of", " hay"], document=5, source="neighbour"),
        ],
        silent=[make_example([SECRET, " silent"], document=6)],
    ),
    dev=(make_example([SECRET, " dev"], [0, 5], document=7),),
    logits=TokenLogits(((" meow", 2.5), (" purr", 1.5)), ((" bark", -1.0),)),
)
ALL: dict[str, Callable[..., Any]] = {
    "contrastive": ContrastiveExplainer,
    "max_activation": MaxActivationExplainer,
    "max_activation_logits": MaxActivationLogitsExplainer,
    "saebench": SaebenchExplainer,
    "single_token": SingleTokenExplainer,
    "token_activation_pairs": TokenActivationPairsExplainer,
}
GOOD_REPLIES = {
    "contrastive": "So: [EXPLANATION]: cats",
    "max_activation": 'Step 1 holds.\nExplanation: "cats"\n',
    "max_activation_logits": "Explanation: cats\nThat is all.",
    "saebench": "This neuron activates on cats.",
    "single_token": "[EXPLANATION]: cats ",
    "token_activation_pairs": " cats\n",
}


def text_of(found: Found | None) -> str | None:
    return None if found is None else found.text


def explained(name: str, record: FeatureRecord, *answers: Any, **settings: Any) -> Explanation | Failure:
    return asyncio.run(ALL[name](client=ScriptedClient(list(answers)), **settings).explain(record))


@pytest.mark.parametrize("name", ALL)
def test_the_request_is_word_for_word_this(name: str) -> None:
    assert_golden(ALL[name](client=ScriptedClient([])).request(RECORD), GOLDEN / f"{name}.txt")


@pytest.mark.parametrize("name", ALL)
def test_only_what_is_for_explaining_is_shown(name: str) -> None:
    assert SECRET not in ALL[name](client=ScriptedClient([])).request(RECORD).canonical_json()


@pytest.mark.parametrize("name", ALL)
def test_the_answer_becomes_an_explanation_with_its_origin(name: str) -> None:
    found = explained(name, RECORD, GOOD_REPLIES[name])
    assert isinstance(found, Explanation)
    assert (found.text, found.explainer, found.feature) == ("cats", name, RECORD.feature)
    assert found.prompt_id.startswith(f"explainers/{name}@")
    assert found.usage.n_requests == 1


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("reply", ["", "  \n"])
def test_an_empty_reply_is_a_failure(name: str, reply: str) -> None:
    found = explained(name, RECORD, reply)
    assert isinstance(found, Failure)
    assert (found.stage, found.kind, found.raw) == ("explain", "unparsable", reply)


@pytest.mark.parametrize("name", [name for name in ALL if name != "token_activation_pairs"])
def test_a_reply_in_another_form_is_a_failure(name: str) -> None:
    found = explained(name, RECORD, "Maybe cats.")
    assert isinstance(found, Failure)
    assert found.kind == "unparsable"
    refused = explained(name, RECORD, "I cannot tell.")
    assert isinstance(refused, Failure)
    assert refused.kind == "refusal"


@pytest.mark.parametrize("name", ALL)
def test_trouble_with_the_server_is_a_failure_of_its_kind(name: str) -> None:
    assert explained(name, RECORD, ServerError("502")) == Failure("explain", "server_error", "502")


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_asked_where_there_is_nothing_to_show(name: str) -> None:
    for record, kind in [
        (replace(RECORD, train=()), "no_examples"),
        (replace(RECORD, train=(replace(RECORD.train[0], str_tokens=()),)), "no_text"),
    ]:
        found = explained(name, record)
        assert isinstance(found, Failure)
        assert found.kind == kind


@pytest.mark.parametrize("name", ALL)
def test_settings_below_their_least_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"explainers\.{name}\.max_tokens=0"):
        ALL[name](client=ScriptedClient([]), max_tokens=0)


def test_contrast_needs_a_pool_and_takes_the_hardest_of_it() -> None:
    bare = replace(RECORD, non_activating=replace(RECORD.non_activating, explain=()))
    found = explained("contrastive", bare)
    assert isinstance(found, Failure)
    assert found.kind == "no_examples"
    request = ContrastiveExplainer(client=ScriptedClient([]), n_non_activating=1).request(RECORD)
    assert "cart of hay" in request.messages[-1].content
    assert "random words" not in request.messages[-1].content


def test_labels_from_logits_need_logits() -> None:
    found = explained("max_activation_logits", replace(RECORD, logits=None))
    assert isinstance(found, Failure)
    assert found.kind == "no_logits"


@pytest.mark.parametrize(("rounding", "levels"), [("floor", [0, 0, 1, 1, 2, 9, 10]), ("ceil", [0, 0, 1, 2, 3, 10, 10])])
def test_activations_are_discretised_as_the_source_does(rounding: str, levels: list[int]) -> None:
    """The goldens of neuron-explainer (floor) and of delphi's later versions (ceil)."""
    activations = [-1, 0, 0.4, 0.5, 1, 3.99, 4]
    record = make_evidence([make_example(list("abcdefg"), activations)])
    request = TokenActivationPairsExplainer(client=ScriptedClient([]), rounding=rounding).request(record)  # type: ignore[arg-type]
    shown = request.messages[-1].content.split("<start>\n")[1].split("\n<end>")[0]
    assert [int(line.split("\t")[1]) for line in shown.splitlines()] == levels


def test_active_tokens_are_repeated_only_where_they_are_few() -> None:
    few = make_evidence([make_example([f"t{i}" for i in range(10)], [0, 5] + [0] * 8)])
    many = make_evidence([make_example([f"t{i}" for i in range(10)], [0, 5, 5] + [0] * 7)])
    client = ScriptedClient([])
    assert "The same" in TokenActivationPairsExplainer(client=client).request(few).messages[-1].content
    assert "The same" not in TokenActivationPairsExplainer(client=client).request(many).messages[-1].content


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("the main thing this neuron does is find cats", "cats"),
        ("cats", "cats"),
        ("", None),
        ("the main thing this neuron does is find", None),
    ],
)
def test_a_repeated_prefix_is_no_part_of_the_explanation(reply: str, text: str | None) -> None:
    assert text_of(after_prefix(reply)) == text


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("This neuron activates on cats.", "cats"),
        ("It activates on x. It activates on the word y", "x. It activates on the word y"),
        ("This neuron activates on .", None),
        ("cats", None),
    ],
)
def test_saebench_answers_are_what_follows_its_phrase(reply: str, text: str | None) -> None:
    assert text_of(after_activates_on(reply)) == text


@pytest.mark.parametrize(
    ("reply", "text"),
    [("Explanation: a\nb", "a"), ("Explanation: x\nExplanation: y", "y"), ("Explanation: ", None), ("y", None)],
)
def test_a_label_is_one_line_after_the_last_mark(reply: str, text: str | None) -> None:
    assert text_of(label(reply)) == text

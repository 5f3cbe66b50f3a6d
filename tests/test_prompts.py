"""Prompts: read from the package, filled completely, and filed under what they say."""

import re
from pathlib import Path

import pytest

import sae_auto_interp
from sae_auto_interp.errors import UnknownNameError
from sae_auto_interp.prompting.prompts import Prompt, conversation_id, load_prompt, prompts_digest

PACKAGE = Path(sae_auto_interp.__file__).parent
TESTS = Path(__file__).parent
PROMPTS = [(path.parent.name, path.stem) for path in sorted(PACKAGE.glob("*/*.md")) if path.name != "README.md"]
GOLDENS = {folder: sorted((TESTS / folder).glob("golden/*.txt")) for folder in ("explainers", "judges", "scorers")}


def test_there_are_prompts() -> None:
    assert {("explainers", "simple"), ("judges", "detection"), ("judges", "fuzzing")} <= set(PROMPTS)


@pytest.mark.parametrize(("folder", "name"), PROMPTS)
def test_a_prompt_is_its_file_and_its_id_says_which_version(folder: str, name: str) -> None:
    prompt = load_prompt(folder, name)
    assert prompt.template == (PACKAGE / folder / f"{name}.md").read_text(encoding="utf-8").strip()
    assert re.fullmatch(rf"{folder}/{name}@[0-9a-f]{{8}}", prompt.id)


@pytest.mark.parametrize(("folder", "name"), PROMPTS)
def test_every_placeholder_is_filled(folder: str, name: str) -> None:
    values = dict.fromkeys(("explanation", "max_level", "unknown"), "7")
    filled = load_prompt(folder, name).fill(n="5", opening="<<", closing=">>", **values)
    assert "$" not in filled


@pytest.mark.parametrize(("folder", "name"), PROMPTS)
def test_a_golden_file_holds_every_word_of_a_prompt(folder: str, name: str) -> None:
    """Goldens are whole requests: a prompt is in one of them with its placeholders filled."""
    parts = [part for part in re.split(r"\$\w+|\$\{\w+\}", load_prompt(folder, name).template) if part.strip()]
    texts = [file.read_text(encoding="utf-8") for file in GOLDENS[folder]]
    assert any(all(part in text for part in parts) for text in texts), f"no golden for {folder}/{name}.md"


def test_a_placeholder_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="closing"):
        Prompt("x@1", "between $opening and $closing").fill(opening="<<")


def test_values_are_put_in_as_they_are() -> None:
    assert Prompt("x@1", "$n excerpts").fill(n="$opening \\1") == "$opening \\1 excerpts"


def test_an_unknown_prompt_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown prompt of judges 'detecton'; did you mean 'detection'"):
        load_prompt("judges", "detecton")


def test_the_id_of_a_conversation_changes_with_any_part() -> None:
    parts = [Prompt("explainers/simple@0", "a"), Prompt("explainers/example@0", "b")]
    ids = {
        conversation_id(parts),
        conversation_id([parts[0], Prompt("explainers/example@0", "c")]),
        conversation_id([Prompt("explainers/simple@0", "c"), parts[1]]),
        conversation_id([Prompt("explainers/simple@0", "ab"), Prompt("explainers/example@0", "")]),
    }
    assert len(ids) == 4
    assert all(id.startswith("explainers/simple@") for id in ids)
    assert conversation_id(parts) == conversation_id(list(parts))


def test_a_components_prompts_are_known_by_their_digest() -> None:
    digests = [
        prompts_digest("judges", "detection"),
        prompts_digest("judges", "fuzzing"),
        prompts_digest("explainers", "simple"),
    ]
    assert None not in digests
    assert len(set(digests)) == 3
    assert prompts_digest("explainers", "lexical") is None

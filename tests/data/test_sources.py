"""Which documents of a source are taken, in which order; and conversations."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from sae_auto_interp import config
from sae_auto_interp.data import huggingface, sources
from sae_auto_interp.data.layout import RowLayout
from sae_auto_interp.data.records import PassedOver
from sae_auto_interp.data.sources import TextSource, documents_of, rows_from, shuffled
from sae_auto_interp.errors import InputError
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import NO_DOCUMENT
from tests.support.records import byte_level_tokenizer, chat_tokenizer

HELLO = [{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "Good morning"}]


@pytest.fixture
def lines(tmp_path: Path) -> str:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": f"text {i}"}) for i in range(10)))
    return str(tmp_path / "a.jsonl")


def texts(**settings: Any) -> list[str]:
    return [document.text for document in documents_of(TextSource(**settings), tokenizer=None)]


def test_documents_are_skipped_then_counted(lines: str) -> None:
    assert texts(source=lines, skip_documents=3, max_documents=2) == ["text 3", "text 4"]
    assert texts(source=lines, skip_documents=8) == ["text 8", "text 9"]
    assert texts(source=lines, max_documents=1, max_chars_per_document=3) == ["tex"]


def test_a_seed_decides_the_order_and_not_the_choice(lines: str) -> None:
    chosen = texts(source=lines, skip_documents=2, max_documents=5)
    orders = [texts(source=lines, skip_documents=2, max_documents=5, shuffle_buffer=9, seed=seed) for seed in range(5)]
    assert all(sorted(order) == chosen for order in orders)
    assert len(set(map(tuple, orders))) > 1
    assert orders[3] == texts(source=lines, skip_documents=2, max_documents=5, shuffle_buffer=9, seed=3)


@given(st.integers(0, 60), st.integers(1, 20), st.integers(0, 5))
def test_shuffling_keeps_every_item_and_brings_none_too_early(n: int, buffer: int, seed: int) -> None:
    found = list(shuffled(range(n), buffer, derived_rng(seed, "test")))
    assert sorted(found) == list(range(n))
    assert all(item - place < buffer for place, item in enumerate(found))
    assert found == list(shuffled(range(n), buffer, derived_rng(seed, "test")))


def test_a_buffer_for_all_is_a_fair_shuffle() -> None:
    """Each of the 24 orders of four items about equally often: chi-squared with 23 degrees of freedom."""
    from collections import Counter

    from scipy.stats import chisquare

    rng = derived_rng(0, "test")
    counts = Counter(tuple(shuffled(range(4), 4, rng)) for _ in range(4800))
    assert len(counts) == 24
    assert chisquare(list(counts.values())).pvalue > 0.001


def test_a_source_without_documents_is_named(lines: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jsonl' holds no document after the first 10"):
        texts(source=lines, skip_documents=10)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match=r"empty\.jsonl' holds no document$"):
        texts(source=str(tmp_path / "empty.jsonl"))


def test_settings_of_datasets_do_not_apply_to_files(lines: str) -> None:
    wrong: list[dict[str, Any]] = [{"split": "test"}, {"subset": "en"}, {"data_files": ("a",)}]
    for settings in wrong:
        with pytest.raises(InputError, match="is no Hugging Face dataset, and has no subset, split or data_files"):
            TextSource(source=lines, **settings)


def test_names_that_two_folders_know_are_the_same() -> None:
    """`data` may not import `config`, nor the other way round."""
    assert config.STANDARD_LIBRARY == sources.STANDARD_LIBRARY
    assert config.DATASET_PREFIX == huggingface.PREFIX


# ------------------------------------------------------------------ conversations


def conversations(folder: Path, *values: Any) -> TextSource:
    path = folder / "chats.jsonl"
    path.write_text("\n".join(json.dumps({"id": i, "messages": value}) for i, value in enumerate(values)))
    return TextSource(source=str(path), messages_field="messages")


def test_a_conversation_reads_as_the_model_writes_it(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(["Hello there, Good morning"])
    source = conversations(tmp_path, HELLO)
    (document,) = documents_of(source, tokenizer)
    assert document.text == "<|user|>Hello there<|end|><|assistant|>Good morning<|end|>"
    rows = rows_from(source, RowLayout(ctx_len=32, n_tokens=10), tokenizer)
    ids = tokenizer.apply_chat_template(HELLO, tokenize=True, return_dict=False)
    assert rows.tokens[0, : len(ids)].tolist() == ids
    is_text = rows.documents[0] != NO_DOCUMENT
    assert tokenizer.decode(rows.tokens[0][is_text]) == "Hello thereGood morning"
    assert [tokenizer.decode([i]) for i in rows.tokens[0, : len(ids)][~is_text[: len(ids)]]] == [
        "<|user|>", "<|end|>", "<|assistant|>", "<|end|>",
    ]  # fmt: skip


def test_conversations_of_a_parquet_table(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"id": [1], "messages": [HELLO]}).to_parquet(tmp_path / "chats.parquet")
    tokenizer = chat_tokenizer(["Hello"])
    for place in (str(tmp_path / "chats.parquet"), f"hf:{tmp_path}"):
        (document,) = documents_of(TextSource(source=place, messages_field="messages"), tokenizer)
        assert document.text == "<|user|>Hello there<|end|><|assistant|>Good morning<|end|>"


def test_a_tokenizer_without_a_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.messages_field='messages' needs a chat template, and the .* has none"):
        list(documents_of(conversations(tmp_path, HELLO), byte_level_tokenizer(["Hello"])))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "Hello",
            r"line 1: field 'messages' holds no list of messages with .*: \"Hello\"; there are: id, messages",
        ),
        ([], "holds no list of messages"),
        ([{"from": "human", "value": "x"}], "holds no list of messages"),
        ([{"role": "robot", "content": "x"}], "line 1: the tokenizer's chat template refuses .* no role robot"),
    ],
)
def test_what_is_no_conversation_is_named(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        list(documents_of(conversations(tmp_path, value), chat_tokenizer(["Hello"])))


def test_plain_text_has_no_messages(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    for source in (str(tmp_path / "a.txt"), "standard_library"):
        with pytest.raises(InputError, match=r"leave out data\.messages_field"):
            list(documents_of(TextSource(source=source, messages_field="m"), chat_tokenizer(["Hello"])))


TRIMMING = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] | trim }}\n{% endfor %}"
WITH_CALLS = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ m.get('tool_calls', '') }}\n{% endfor %}"


def written(folder: Path, messages: Any, template: str = TRIMMING) -> str:
    tokenizer = chat_tokenizer(["Hello"])
    tokenizer.chat_template = template
    (document,) = documents_of(conversations(folder, messages), tokenizer)
    return document.text


def said(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}, {"role": "assistant", "content": " Yes "}]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ([{"type": "text", "text": "On a cold day"}], "On a cold day"),
        ([{"type": "text", "text": "On a "}, {"type": "input_text", "text": "cold"}, " day"], "On a cold day"),
        ([{"text": "On a cold day"}], "On a cold day"),
        ([{"type": "text", "text": "On a cold day", "image_url": None}], "On a cold day"),
        ([], ""),
    ],
)
def test_the_content_of_a_message_is_its_text(content: Any, text: str, tmp_path: Path) -> None:
    assert written(tmp_path, said(content)) == f"user: {text}\nassistant: Yes\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([{"type": "image_url", "image_url": {"url": "x"}}], "a part of the content is no text: "),
        ([{"type": "text", "text": "see"}, {"type": "image"}], "a part of the content is no text: "),
        ([{"type": "text", "text": None}], "a part of the content is no text: "),
        ([3], "a part of the content is no text: 3"),
        ({"text": "On a cold day"}, "the content is dict, not a text: "),
        (3.5, "the content is float, not a text: 3.5"),
        (True, "the content is bool, not a text: true"),
    ],
)
def test_a_content_that_is_no_text_is_refused_with_its_line(content: Any, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"chats\.jsonl, line 1, message 1: ") as refused:
        written(tmp_path, said(content))
    assert problem in str(refused.value)


def test_a_role_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 1, message 1: the role is nothing \(null\), not a text"):
        written(tmp_path, [{"role": None, "content": "x"}])


def test_calls_of_tools_are_left_to_a_template_that_writes_them(tmp_path: Path) -> None:
    calls = [{"function": {"name": "look"}}]
    messages = [{"role": "assistant", "content": None, "tool_calls": calls}]
    assert written(tmp_path, messages, WITH_CALLS) == f"assistant: {calls}\n"
    with pytest.raises(InputError, match="message 1: calls a tool, which the tokenizer's chat template does not write"):
        written(tmp_path, messages)
    assert written(tmp_path, [{"role": "assistant", "content": "Hi", "tool_calls": None}]) == "assistant: Hi\n"


def test_no_conversation_at_all_is_passed_over(tmp_path: Path) -> None:
    passed_over = PassedOver()
    source = conversations(tmp_path, None, HELLO, None)
    assert len(list(documents_of(source, chat_tokenizer(["Hello"]), passed_over))) == 1
    assert passed_over.n_records == 2
    with pytest.raises(InputError, match=r"holds no document; passed over: 2 records without a text \(null\)"):
        list(documents_of(conversations(tmp_path, None, None), chat_tokenizer(["Hello"])))


def test_nulls_of_tables_are_passed_over(tmp_path: Path) -> None:
    import datasets

    (tmp_path / "a.csv").write_text('id,text\n1,one\n2,null\n3,NA\n4,"two"\n5,\n')
    datasets.Dataset.from_dict({"text": ["one", None, "two"]}).to_parquet(tmp_path / "a.parquet")
    for n, settings in (
        (3, {"source": "hf:csv", "data_files": (str(tmp_path / "a.csv"),)}),
        (1, {"source": str(tmp_path / "a.parquet")}),
    ):
        passed_over = PassedOver()
        found = documents_of(TextSource(**settings), None, passed_over)  # pyright: ignore[reportArgumentType]
        assert [document.text for document in found] == ["one", "two"]
        assert passed_over.n_records == n

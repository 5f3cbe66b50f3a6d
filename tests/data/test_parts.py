"""A long document in parts: together they are the document, and no paragraph is in two of them."""

import json
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from sae_auto_interp.data.sources import TextSource, documents_of, parts_of
from sae_auto_interp.types import Document

PARAGRAPHS = [f"Paragraph {i} says {'this and that ' * (i % 7)}." for i in range(60)]
BOOK = "\n\n".join(PARAGRAPHS)


def split(text: str, n: int) -> list[str]:
    return [part.text for part in parts_of(Document("book.txt", text), n)]


def test_a_book_is_cut_at_blank_lines() -> None:
    parts = list(parts_of(Document("book.txt", BOOK), 300))
    assert len(parts) > 5
    assert [part.name for part in parts[:2]] == ["book.txt, part 1", "book.txt, part 2"]
    assert "".join(part.text for part in parts) == BOOK
    assert all(sum(paragraph in part.text for part in parts) == 1 for paragraph in PARAGRAPHS[10:])
    assert all(300 <= len(part.text) < 300 + max(map(len, PARAGRAPHS)) + 2 for part in parts[:-1])


@pytest.mark.parametrize("blank", ["\n\n", "\n \t\n", "\n\n\n\n", "\n\r\n"])
def test_what_a_blank_line_is(blank: str) -> None:
    assert [part.strip() for part in split(blank.join(["x" * 100] * 4), 100)] == ["x" * 100] * 4


def test_a_short_document_stays_whole() -> None:
    assert split("a\n\nb", 100) == ["a\n\nb"]
    assert list(parts_of(Document("a", "short"), 100)) == [Document("a", "short")]


def test_text_without_blank_lines_is_cut_at_line_ends_and_a_line_never() -> None:
    assert split("\n".join(["x" * 60] * 4), 100) == ["x" * 60 + "\n" + "x" * 60 + "\n", "x" * 60 + "\n" + "x" * 60]
    assert split("x" * 1000, 100) == ["x" * 1000]


@given(st.text(alphabet="ab \n\r\t\u2028\x0c", max_size=300), st.integers(1, 40))
def test_nothing_is_lost_and_nothing_added(text: str, n: int) -> None:
    parts = split(text, n)
    assert "".join(parts) == text
    assert all(len(part) >= n for part in parts[:-1])


def test_the_setting_of_a_source(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(BOOK)
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in (BOOK, "short")))

    def names(name: str, **settings: int | None) -> list[str]:
        source = TextSource(source=str(tmp_path / name), **settings)  # pyright: ignore[reportArgumentType]
        return [document.name for document in documents_of(source, tokenizer=None)]

    assert names("book.txt") == ["book.txt"]
    whole = names("book.txt", split_documents=300)
    assert whole[:2] == ["book.txt, part 1", "book.txt, part 2"]
    assert names("book.txt", split_documents=300, skip_documents=2, max_documents=3) == whole[2:5], (
        "parts are documents"
    )
    assert names("book.txt", split_documents=300, max_chars_per_document=50) == whole, "of each part"
    assert names("rows.jsonl", split_documents=300)[-1] == "rows.jsonl:2"

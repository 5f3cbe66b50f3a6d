"""Documents from files: what becomes a document, and which line of which file is wrong."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from sae_auto_interp.data.files import documents_from
from sae_auto_interp.data.records import TextField
from sae_auto_interp.errors import InputError
from sae_auto_interp.types import Document


def read(path: Path, **options: Any) -> list[tuple[str, str]]:
    return [(document.name, document.text) for document in documents_from(path, **options)]


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Zeile 1\r\nZeile 2 – ß\n\x0cend".encode())
    assert read(tmp_path / "a.txt") == [("a.txt", "Zeile 1\nZeile 2 – ß\n\x0cend")]


def test_a_file_of_another_suffix_is_read_as_text_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("some text")
    assert read(tmp_path / "notes") == [("notes", "some text")]


def test_each_line_of_a_json_lines_file_is_a_document_named_by_its_number(tmp_path: Path) -> None:
    lines = ['{"text": "one", "id": 7}', "", '  {"text": "two\\nlines"}  ', '{"text": ""}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    assert read(tmp_path / "a.jsonl") == [("a.jsonl:1", "one"), ("a.jsonl:3", "two\nlines"), ("a.jsonl:4", "")]


def test_the_field_of_the_text_is_a_setting(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "no", "content": "yes"}')
    assert read(tmp_path / "a.jsonl", text_field="content") == [("a.jsonl:1", "yes")]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(), min_size=1, max_size=5), st.booleans())
def test_any_text_survives_a_json_lines_file(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], is_ascii: bool
) -> None:
    """Also one with U+2028, U+0085 or a form feed in it: only a line feed ends a line."""
    path = tmp_path_factory.mktemp("data") / "a.jsonl"
    path.write_bytes("\n".join(json.dumps({"text": t}, ensure_ascii=is_ascii) for t in texts).encode())
    assert [text for _, text in read(path)] == texts


def test_separators_that_python_counts_as_line_ends_do_not_end_a_line(tmp_path: Path) -> None:
    text = "a\u2028b\x85c\x0bd"
    (tmp_path / "a.jsonl").write_bytes(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\r\n")
    assert read(tmp_path / "a.jsonl") == [("a.jsonl:1", text)]


def test_half_a_character_becomes_a_replacement_and_a_whole_one_stays(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x\\ud83dy \\ud83c\\udf89"}')
    assert read(tmp_path / "a.jsonl") == [("a.jsonl:1", "x\ufffdy 🎉")]


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_a_byte_order_mark_is_no_text(suffix: str, tmp_path: Path) -> None:
    content = "text" if suffix == ".txt" else '{"text": "text"}'
    (tmp_path / f"a{suffix}").write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert [text for _, text in read(tmp_path / f"a{suffix}")] == ["text"]


def test_a_directory_gives_all_its_texts_each_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "b.md").write_text("B")
    (tmp_path / "deep" / "a.txt").write_text("A")
    (tmp_path / "deep" / "er" / "a.txt").write_text("other A")
    (tmp_path / "c.jsonl").write_text('{"text": "C1"}\n{"text": "C2"}')
    (tmp_path / "ignored.py").write_text("code")
    (tmp_path / "folder.txt").mkdir()
    assert read(tmp_path) == [
        ("b.md", "B"), ("c.jsonl:1", "C1"), ("c.jsonl:2", "C2"), ("deep/a.txt", "A"), ("deep/er/a.txt", "other A"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json}", r"line 2: is not valid JSON \(.* at column 2\)"),
        ('{"text": "cut', r"line 2: is not valid JSON"),
        ("[1, 2]", r"line 2: expected a JSON object with a field 'text', found \[1, 2\]"),
        ('{"content": "x", "id": 1}', r"line 2: there is no field 'text'; there are: content, id \(data\.text_field\)"),
        ('{"text": true}', r"line 2: field 'text' holds bool, not a text: true"),
        ('{"text": ' + "[" * 100_000, r"line 2: is nested too deeply for JSON"),
        ('{"text": "x", "id": ' + "9" * 5000 + "}", r"line 2: is not valid JSON \(Exceeds the limit"),
        ('{"text": 3, "id": 1}', r"line 2: field 'text' holds int, not a text: 3; there are: text, id"),
        ('"' + 500 * "x" + '"', r"line 2: .*x\.\.\.$"),
    ],
)
def test_a_bad_line_is_named_with_its_number(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n' + line + '\n{"text": "good"}\n')
    documents = documents_from(tmp_path / "a.jsonl")
    assert next(documents) == Document("a.jsonl:1", "good")
    with pytest.raises(InputError, match=r"a\.jsonl, " + message):
        next(documents)


def test_what_is_not_utf_8_is_named_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.txt: is not UTF-8 \(.* at byte 2\); convert it, .*iconv -f ISO-8859-1"):
        read(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_bytes("Grüße".encode("utf-16"))
    with pytest.raises(InputError, match=r"b\.txt: is not UTF-8 .*iconv -f UTF-16 -t UTF-8"):
        read(tmp_path / "b.txt")
    (tmp_path / "c.txt").write_bytes("Text".encode("utf-16-le"))
    with pytest.raises(InputError, match=r"c\.txt holds NUL bytes .*; if it is UTF-16, save it as UTF-8"):
        read(tmp_path / "c.txt")
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n{"text": "\xff"}')
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: is not UTF-8"):
        read(tmp_path / "a.jsonl")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file or directory .*nowhere\.txt"):
        read(tmp_path / "nowhere.txt")
    with pytest.raises(InputError, match=r"holds no \.txt, \.md, \.jsonl, \.ndjson, \.jsonlines or \.parquet file$"):
        read(tmp_path)


ROW = b'{"text": "On a cold day"}\n'


@pytest.mark.parametrize("name", ["a.JSONL", "a.ndjson", "a.NDJson", "a.jsonlines", "a.jsonl.gz", "a.ndjson.GZ"])
@pytest.mark.parametrize("is_folder", [False, True])
def test_json_lines_by_any_of_their_names(name: str, is_folder: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(gzip.compress(ROW) if name.lower().endswith(".gz") else ROW)
    assert read(tmp_path if is_folder else tmp_path / name) == [(f"{name}:1", "On a cold day")]


@pytest.mark.parametrize("name", ["a.TXT", "a.Md", "a.txt.gz", "LICENSE"])
def test_plain_text_by_any_of_its_names(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"a text") if name.endswith(".gz") else b"a text")
    assert read(tmp_path / name) == [(name, "a text")]


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("rows.json", "set data.source: hf:json and data.data_files: "),
        ("rows.CSV", "set data.source: hf:csv and data.data_files: "),
        ("rows.tsv", "hf:csv"),
        ("run.yaml", "give it the suffix .txt if it is plain text"),
        ("page.html", "give it the suffix .txt if it is plain text"),
        ("code.py", "give it the suffix .txt if it is plain text"),
        ("v1.2", "give it the suffix .txt if it is plain text"),
        ("rows.parquet.gz", "unpack it"),
        ("rows.jsonl.zst", "unpack it"),
        ("rows.json.gz", "unpack it"),
        ("texts.zip", "unpack it"),
    ],
)
def test_a_file_of_another_type_is_not_read_as_text(name: str, way_out: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('[{"text": "..."}]')
    with pytest.raises(InputError) as refused:
        read(tmp_path / name)
    assert f"{name} is of a type that is not read (.txt, .md, .jsonl" in str(refused.value)
    assert way_out in str(refused.value)


def test_files_of_other_types_in_a_directory_are_counted(tmp_path: Path) -> None:
    for name in ("a.txt", "b.csv", "c.csv", "d.py", "README"):
        (tmp_path / name).write_text("text")
    extract = TextField()
    assert [d.name for d in documents_from(tmp_path, extract=extract)] == ["a.txt"]
    assert extract.passed_over.line == "passed over: 4 files of types that are not read (.csv, .py, none)"
    (tmp_path / "a.txt").unlink()
    with pytest.raises(InputError, match=r"or \.parquet file; it holds others \(\.csv, \.py, none\)"):
        read(tmp_path)


def test_nothing_in_the_field_is_passed_over_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": null}\n{"text": ""}\n{"text": null}\n{"text": "two"}')
    extract = TextField()
    found = [(d.name, d.text) for d in documents_from(tmp_path / "a.jsonl", extract=extract)]
    assert found == [("a.jsonl:1", "one"), ("a.jsonl:3", ""), ("a.jsonl:5", "two")]
    assert extract.passed_over.line == "passed over: 2 records without a text (null)"


@pytest.mark.parametrize("content", [b"", b" \n\t\n"])
def test_an_empty_text_is_called_empty(content: bytes, tmp_path: Path) -> None:
    for name, packed in (("a.txt", content), ("a", content), ("a.txt.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(packed)
        with pytest.raises(InputError, match=f"{name} is empty"):
            read(tmp_path / name)
    for name in ("a.jsonl", "a.parquet", "a.jsonl.gz"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match=f"{name} is empty"):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet", "a"])
def test_a_pointer_of_git_lfs_is_no_text(name: str, tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (tmp_path / name).write_text(pointer)
    with pytest.raises(InputError, match=f"{name} is a Git LFS pointer, not the file itself; .* git lfs pull"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    "packed",
    [ROW, gzip.compress(ROW * 1000)[:-20], gzip.compress(ROW)[:12]],
    ids=["not packed", "end cut off", "beginning alone"],
)
def test_a_damaged_archive_is_named(packed: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    with pytest.raises(InputError, match=r"a\.jsonl\.gz cannot be unpacked"):
        read(tmp_path / "a.jsonl.gz")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/dev/null is neither a file nor a directory"):
        read(Path("/dev/null"))

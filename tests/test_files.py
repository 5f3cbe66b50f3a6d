"""Whatever is wrong with a YAML or JSON text, it is one line with its place, and it is said soon."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, strategies as st

from sae_auto_interp.errors import InputError
from sae_auto_interp.files import is_writable, parse_json, parse_yaml, read_yaml, refuse_lfs_pointer

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
MAPS = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{b: *a{i - 1}, c: *a{i - 1}}}\n" for i in range(1, 40))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("model: !!int x", r"'x' is no int .* \(line 1, column 8\)"),
        ("a: 1\nb: !!float x", r"'x' is no float .* \(line 2, column 4\)"),
        ("a: !!bool x", "'x' is no bool"),
        ("a: !!int ''", "'' is no int"),
        ("a: !!timestamp foo", "'foo' is no timestamp"),
        ("a: 2024-13-45", r"'2024-13-45' is no timestamp \(month must be in 1..12\)"),
        ("a: !!binary é", "failed to convert base64 data"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: " + "9" * 5000, "is no int"),
        ("a: 0x" + "f" * 5000, "the number has too many digits"),
        ("a: " + ":".join(["59"] * 3000), "the number has too many digits"),
        ("a: " + "[" * 3000, r"more than 100 levels \(line 1, column"),
        ("a: " + "[" * 100_000, "more than 100 levels"),
        ("".join(" " * i + "a:\n" for i in range(300)), r"more than 100 levels \(line 100, column"),
        ("seed: 1\nseed: 2", r"the key 'seed' stands there twice \(line 2, column 1\)"),
        ("data: {n_tokens: 1, ctx_len: 2, n_tokens: 3}", "the key 'n_tokens' stands there twice"),
        ("a: [{b: 1, 'b': 2}]", "the key 'b' stands there twice"),
        (LAUGHS, "its aliases stand for too many values"),
        (MAPS, "its aliases stand for too many values"),
        ("a: &a [*a]", "an anchor holds itself"),
        ("a: &a {b: [1, *a]}", "an anchor holds itself"),
        ("a: *b", "found undefined alias 'b'"),
        ('a: "x\\0y"', "holds NUL, or half of a character"),
        ('a: "\\ud800"', "holds NUL, or half of a character"),
        ("? [a]\n: b", "found unhashable key"),
        ("a: [", "expected the node content"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: \x01", "special characters are not allowed"),
    ],
)
def test_bad_yaml_is_one_line_with_its_place_in_good_time(text: str, problem: str) -> None:
    began = time.process_time()
    with pytest.raises(InputError, match=f"^run.yaml is not valid YAML: .*{problem}") as refused:
        parse_yaml(text, "run.yaml")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &a {x: 1}\nb: {<<: *a, x: 2, y: 3}", {"a": {"x": 1}, "b": {"x": 2, "y": 3}}),
        ("a: &a [1, 2]\nb: [*a, *a]", {"a": [1, 2], "b": [[1, 2], [1, 2]]}),
        ("a: {b: 1}\nc: {b: 2}", {"a": {"b": 1}, "c": {"b": 2}}),
        ("[" * 90 + "]" * 90, None),
        ("a: 🎉 é", {"a": "🎉 é"}),
        ("", None),
    ],
)
def test_good_yaml_stays_what_it_is(text: str, value: Any) -> None:
    assert parse_yaml(text, "run.yaml") == (yaml.safe_load(text) if value is None else value)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**30), 10**30)
        | st.floats(allow_nan=False)
        | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
        lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text("abcd", min_size=1), each, max_size=4),
    )
)
def test_what_was_written_is_read(value: Any) -> None:
    assert parse_yaml(yaml.safe_dump(value, allow_unicode=True), "run.yaml") == value


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("a: 1\n" * 300_000)
    with pytest.raises(InputError, match=r"run\.yaml has 1,500,000 bytes; a run file has at most 1,048,576"):
        read_yaml(path, "run file")
    path.write_bytes(b"a: \xff")
    with pytest.raises(InputError, match=r"run\.yaml is not valid YAML: it is not UTF-8 \(.* at byte 3\)"):
        read_yaml(path)
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read_yaml(tmp_path)
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(path) == {"a": 1}, "a byte order mark is no text"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 100_000, "is nested too deeply for JSON"),
        ('{"a":' * 100_000, "is nested too deeply for JSON"),
        ("9" * 5000, "Exceeds the limit"),
        (b"\xff", "can't decode byte"),
        ('{"a": 1}\n{', "Extra data at line 2, column 1"),
        ("{not json}", "at column 2"),
        ("", "Expecting value at column 1"),
    ],
)
def test_bad_json_is_one_line(text: str | bytes, problem: str) -> None:
    with pytest.raises(InputError, match=f"^rows, line 3: .*{problem}"):
        parse_json(text, "rows, line 3")


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(InputError, match="is a Git LFS pointer"):
        refuse_lfs_pointer(tmp_path / "a")
    (tmp_path / "b").write_text("version 1 of a text")
    refuse_lfs_pointer(tmp_path / "b")


def test_what_can_be_written_down() -> None:
    assert [is_writable(text) for text in ("a b é 🎉", "", "a\0", "\udcff", "x\ud83c")] == [
        True,
        True,
        False,
        False,
        False,
    ]

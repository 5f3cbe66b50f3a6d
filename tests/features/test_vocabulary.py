"""A window's strings, joined, are what the tokenizer decodes; also where it cuts characters."""

from codecs import getincrementaldecoder
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import sae_auto_interp
from sae_auto_interp.errors import CacheError
from sae_auto_interp.features.vocabulary import FILE, Vocabulary
from tests.support.records import byte_level_tokenizer

TEXT = (
    "Straße, naïve café; 東京は日本の首都です。 한국어 Ελληνικά 👩‍👩‍👧 🎉🎉 مرحبا \t two  spaces\n\n"
    "e\u0301 is not é; zero\0byte, BOM \ufeff, line\u2028separator and \U0001f9d1\u200d\U0001f680."
)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def joined(vocabulary: Vocabulary, ids: Any) -> str:
    strings = vocabulary.str_tokens(np.array(ids, dtype=np.int32))
    assert len(strings) == len(ids)
    return "".join(strings)


def decoded(tokenizer: Any, ids: Any) -> str:
    return tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)


@pytest.fixture(scope="module")
def byte_level() -> Any:
    return byte_level_tokenizer(["the cat sat on the mat and the dog", "naïve café"])


@pytest.fixture(scope="module")
def embedded() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Path(sae_auto_interp.__file__).parent / "assets" / "language_model")


@pytest.fixture(scope="module")
def vocabularies() -> dict[int, Vocabulary]:
    """Made once per tokenizer, not once per example."""
    return {}


def byte_fallback_tokenizer() -> Any:
    """As sentencepiece models have it: `▁` for a space, and `<0xF0>` for bytes of characters they do not know."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz", "▁t"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab, [("▁", "t")], unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>")


def test_a_text_comes_back_token_by_token(byte_level: Any) -> None:
    vocabulary = Vocabulary.from_tokenizer(byte_level)
    ids = ids_of(byte_level, TEXT)
    assert len(ids) > len(TEXT), "characters should be split over tokens here"
    assert joined(vocabulary, ids) == TEXT == decoded(byte_level, ids)
    plain = ids_of(byte_level, "the cat sat")
    assert vocabulary.str_tokens(np.array(plain)) == tuple(byte_level.decode([i]) for i in plain)


def test_a_character_is_on_the_token_that_completes_it(byte_level: Any) -> None:
    vocabulary = Vocabulary.from_tokenizer(byte_level)
    assert vocabulary.str_tokens(np.array(ids_of(byte_level, "🎉a"))) == ("", "", "", "🎉", "a")


def test_every_window_reads_as_the_tokenizer_decodes_it(byte_level: Any) -> None:
    """Windows begin and end in the middle of characters."""
    vocabulary = Vocabulary.from_tokenizer(byte_level)
    ids = ids_of(byte_level, TEXT)
    n_cut = 0
    for window in (1, 2, 3, 7, 8):
        for start in range(len(ids) - window + 1):
            cut = ids[start : start + window]
            assert joined(vocabulary, cut) == decoded(byte_level, cut)
            n_cut += "\ufffd" in decoded(byte_level, cut)
    assert n_cut > 100


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=30), begin=st.integers(0, 5), end=st.integers(0, 40))
def test_any_text_and_any_window(
    text: str, begin: int, end: int, byte_level: Any, embedded: Any, vocabularies: dict[int, Vocabulary]
) -> None:
    for tokenizer in (byte_level, embedded):
        vocabulary = vocabularies.get(id(tokenizer)) or Vocabulary.from_tokenizer(tokenizer)
        vocabularies[id(tokenizer)] = vocabulary
        ids = ids_of(tokenizer, text)
        assert joined(vocabulary, ids) == text
        assert joined(vocabulary, ids[begin:end]) == decoded(tokenizer, ids[begin:end])


def test_special_and_added_tokens_read_as_they_are_written(byte_level: Any) -> None:
    tokenizer = byte_level_tokenizer(["abc"])
    tokenizer.add_tokens(["<新>", "Ġodd"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im start|>"]})
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    text = "a<|end|>b <新>c<|im start|>Ġodd🎉"
    ids = ids_of(tokenizer, text)
    assert len(vocabulary.pieces) == len(tokenizer)
    assert joined(vocabulary, ids) == text
    assert {"<|end|>", "<新>", "<|im start|>", "Ġodd"} <= set(vocabulary.str_tokens(np.array(ids)))


def test_byte_fallback_tokens_are_bytes() -> None:
    tokenizer = byte_fallback_tokenizer()
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    text = " to be é 🎉 or\nnot"
    ids = ids_of(tokenizer, text)
    assert len(ids) > len(text)
    assert joined(vocabulary, ids) == text == decoded(tokenizer, ids)
    assert vocabulary.str_tokens(np.array(ids))[0] == " t"


def test_the_embedded_tokenizer_gives_back_source_code(embedded: Any) -> None:
    vocabulary = Vocabulary.from_tokenizer(embedded)
    for text in (Path(__file__).read_text(encoding="utf-8"), Path(np.__file__).read_text(encoding="utf-8"), TEXT):
        ids = ids_of(embedded, text)
        assert joined(vocabulary, ids) == text
        for start in range(0, len(ids), 97):
            assert joined(vocabulary, ids[start : start + 32]) == decoded(embedded, ids[start : start + 32])


def test_saved_and_loaded_it_is_the_same(byte_level: Any, tmp_path: Path) -> None:
    for vocabulary in (Vocabulary.from_tokenizer(byte_level), Vocabulary((b"", b"a", b"")), Vocabulary(())):
        vocabulary.save(tmp_path)
        assert Vocabulary.load(tmp_path) == vocabulary
    assert Vocabulary.load(tmp_path / "elsewhere") is None


def test_a_damaged_vocabulary_is_named(byte_level: Any, tmp_path: Path) -> None:
    Vocabulary.from_tokenizer(byte_level).save(tmp_path)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-1])
    with pytest.raises(CacheError, match=FILE):
        Vocabulary.load(tmp_path)


@pytest.mark.parametrize("place", [-1, -40, -200])
def test_a_vocabulary_with_one_wrong_byte_is_named(place: int, byte_level: Any, tmp_path: Path) -> None:
    """Otherwise every later token would be read as parts of its neighbours."""
    Vocabulary.from_tokenizer(byte_level).save(tmp_path)
    content = bytearray((tmp_path / FILE).read_bytes())
    content[place] ^= 1
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(CacheError, match=f"{FILE} is damaged: it is not what was written"):
        Vocabulary.load(tmp_path)


def test_unknown_ids_are_named() -> None:
    vocabulary = Vocabulary((b"a",))
    assert vocabulary.str_tokens(np.array([0, 1, -1])) == ("a", "<token 1>", "<token -1>")
    assert vocabulary.str_tokens(np.array([], dtype=np.int64)) == ()


def token_by_token(pieces: tuple[bytes, ...], tokens: list[int]) -> tuple[str, ...]:
    """The definition: feed the bytes of one token after the other to a decoder."""
    decoder = getincrementaldecoder("utf-8")(errors="replace")
    strings = [
        decoder.decode(pieces[token] if 0 <= token < len(pieces) else f"<token {token}>".encode()) for token in tokens
    ]
    if strings:
        strings[-1] += decoder.decode(b"", final=True)
    return tuple(strings)


PIECES = st.lists(
    st.binary(max_size=3)
    | st.text(max_size=2).map(str.encode)
    | st.sampled_from([b"", "\U0001f389".encode()[:2], "\U0001f389".encode()[2:], "\u00e9".encode()[:1], b"\xa9"]),
    max_size=8,
)


@given(pieces=PIECES, window=st.integers(0, 6), data=st.data())
def test_all_windows_at_once_are_each_decoded_token_by_token(
    pieces: list[bytes], window: int, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.lists(st.integers(-1, 9), min_size=window, max_size=window), max_size=5))
    vocabulary = Vocabulary(tuple(pieces))
    found = vocabulary.windows(np.array(rows, dtype=np.int32).reshape(len(rows), window))
    assert found == [token_by_token(vocabulary.pieces, row) for row in rows]

"""Token strings of every kind of tokenizer: joined, they are what the tokenizer decodes, or it is refused."""

import time
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from sae_auto_interp.errors import InputError
from sae_auto_interp.features.vocabulary import Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz=.1,(){}:'"
WORDS = ("the", "heron", "waits", "near", "sh", "a", "x", "1", "b", ".")


def fast(tokenizer: Tokenizer, **special: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special)


def wordpiece(prefix: str = "##", *, cleanup: bool = True) -> Any:
    words = ["<unk>", "the", "heron", "n", "s", "a", ".", ",", "don", "'", "t", *(f"{prefix}{c}" for c in "eashrn")]
    model = models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="<unk>", continuing_subword_prefix=prefix)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=prefix, cleanup=cleanup)
    return fast(tokenizer, cls_token="<unk>")


def wordlevel(*, decoder: Any = None) -> Any:
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<unk>", *WORDS])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if decoder is not None:
        tokenizer.decoder = decoder
    return fast(tokenizer)


def suffixed(suffix: str = "</w>", *, singles: bool = True) -> Any:
    inside = [*LETTERS] if singles else ["t", "h", "e", "s"]
    words = [*inside, *(f"{c}{suffix}" for c in LETTERS), "th", f"the{suffix}"]
    vocab = {w: i for i, w in enumerate(["<unk>", *dict.fromkeys(words)])}
    merges = [("t", "h"), ("th", f"e{suffix}")]
    model = models.BPE(vocab, merges, unk_token="<unk>", end_of_word_suffix=suffix)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder(suffix=suffix)
    return fast(tokenizer)


def byte_fallback(*, strip: bool = False, added: tuple[str, ...] = ("▁▁", "▁▁▁▁")) -> Any:
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *LETTERS, "▁t"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab, [("▁", "t")], unk_token="<unk>", byte_fallback=True))
    front = [normalizers.Prepend("▁")] if strip else []
    tokenizer.normalizer = normalizers.Sequence([*front, normalizers.Replace(" ", "▁")])
    end = [decoders.Strip(" ", 1, 0)] if strip else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *end])
    made = fast(tokenizer, bos_token="<s>")
    made.add_tokens(list(added), special_tokens=False)
    return made


def unigram(replacement: str, scheme: str = "always", *, byte_fallback: bool = False) -> Any:
    rest = [f"<0x{byte:02X}>" for byte in range(256)] if byte_fallback else []
    pieces = ["<unk>", *(f"{replacement}{w}" for w in WORDS), replacement, *LETTERS, *rest]
    vocab = [(piece, -float(i)) for i, piece in enumerate(dict.fromkeys(pieces))]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=byte_fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement, scheme)  # type: ignore[arg-type]
    metaspace = decoders.Metaspace(replacement, scheme)  # type: ignore[arg-type]
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), metaspace]) if byte_fallback else metaspace
    return fast(tokenizer)


def replaced(mark: str) -> Any:
    """Spaces by a sign of its own, without Metaspace."""
    vocab = {piece: i for i, piece in enumerate(["<unk>", mark, *LETTERS, f"{mark}t"])}
    tokenizer = Tokenizer(models.BPE(vocab, [(mark, "t")], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", mark)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(mark, " "), decoders.Fuse()])
    return fast(tokenizer)


def stripping(start: int, stop: int) -> Any:
    made = replaced("_")
    made.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("_", " "), decoders.Fuse(), decoders.Strip(" ", start, stop)]
    )
    return made


def byte_level(*, add_prefix_space: bool = False) -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: i for i, piece in enumerate(["<unk>", *alphabet, "Ġt", "ĠĠ"])}
    tokenizer = Tokenizer(models.BPE(vocab, [("Ġ", "t"), ("Ġ", "Ġ")], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    made = fast(tokenizer)
    made.add_tokens(["<turn>", "    "], special_tokens=False)
    return made


CASES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "wordpiece": (wordpiece, ("near sh", "the heron . near, a", "don't")),
    "wordpiece_untidied": (lambda: wordpiece(cleanup=False), ("near sh .", "the heron, near")),
    "wordpiece_other_prefix": (lambda: wordpiece("@@", cleanup=False), ("near sh", "the ash")),
    "wordlevel": (wordlevel, ("the heron waits .", "near sh", "a the unknown a")),
    "wordlevel_fused": (lambda: wordlevel(decoder=decoders.Fuse()), ("the heron waits .",)),
    "suffix": (suffixed, ("the heron", "a the ashes .", "th")),
    "suffix_other": (lambda: suffixed("|"), ("the heron", "a the ashes")),
    "suffix_few_inner": (lambda: suffixed(singles=False), ("the these", "s the")),
    "byte_fallback_added": (byte_fallback, ("a    x = 1\n  b", "é 🎉  t to", " the  end ")),
    "byte_fallback_stripped": (lambda: byte_fallback(strip=True), ("a    x = 1\n  b", "to é 🎉", "  a")),
    "unigram": (lambda: unigram("▁"), ("the heron waits", "near a  sh.")),
    "unigram_other": (lambda: unigram("_"), ("the heron waits", "near a  sh.", "  a")),
    "unigram_never": (lambda: unigram("·", "never"), ("the heron waits", " near a")),
    "unigram_first": (lambda: unigram("~", "first"), ("the heron waits", "near a")),
    "replaced": (lambda: replaced("_"), ("to the end", "  a  b")),
    "replaced_long": (lambda: replaced("‗‗"), ("to the end", " a b")),
    "strip_start": (lambda: stripping(1, 0), ("to the end", " a b", "   a")),
    "strip_both": (lambda: stripping(1, 1), (" a b ", "to the end", "  a  ")),
    "byte_level": (byte_level, ("to the  end", "é 🎉 <turn>      x", "Ġ a")),
    "byte_level_prefix": (lambda: byte_level(add_prefix_space=True), ("to the end", "é  a")),
}


def joined(tokenizer: Any, ids: list[int]) -> str:
    strings = Vocabulary.from_tokenizer(tokenizer).str_tokens(np.array(ids, dtype=np.int32))
    assert len(strings) == len(ids)
    return "".join(strings)


@pytest.mark.parametrize("kind", CASES)
def test_the_strings_of_a_text_are_what_the_tokenizer_decodes(kind: str) -> None:
    make, texts = CASES[kind]
    tokenizer = make()
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert len(ids) > 0
        assert "".join(vocabulary.str_tokens(np.array(ids))) == tokenizer.decode(ids), text


def test_the_entries() -> None:
    for tokenizer, text, expected in (
        (byte_fallback(), "a    x = 1\n  b", "a    x = 1\n  b"),
        (wordpiece(), "near sh", "near sh"),
        (wordlevel(), "the heron waits.", "the heron waits ."),
    ):
        assert joined(tokenizer, tokenizer.encode(text, add_special_tokens=False)) == expected


def test_each_token_has_its_own_part() -> None:
    """A word's space is on its first token, or behind its last, as the tokenizer marks it."""
    for tokenizer, text, expected in (
        (wordpiece(), "near sh", ("n", "e", "a", "r", " s", "h")),
        (wordlevel(), "the heron .", ("the", " heron", " .")),
        (suffixed(), "the a b", ("the ", "a ", "b")),
        (wordlevel(decoder=decoders.Fuse()), "the a", ("the", "a")),
        (unigram("_"), "the heron", ("the", " heron")),
        (byte_fallback(), "a    x", ("a", "    ", "x")),
    ):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert Vocabulary.from_tokenizer(tokenizer).str_tokens(np.array(ids)) == expected


def test_a_token_alone_keeps_its_space() -> None:
    tokenizer = unigram("_")
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    (token,) = tokenizer.encode("heron", add_special_tokens=False)
    assert vocabulary.alone(token) == " heron"
    assert vocabulary.str_tokens(np.array([token])) == ("heron",)


def test_a_window_in_the_middle_of_a_text_reads_as_it_is_decoded() -> None:
    for tokenizer, text in (
        (byte_fallback(strip=True), "to the  end of   it"),
        (unigram("_"), "the heron waits near a"),
    ):
        vocabulary = Vocabulary.from_tokenizer(tokenizer)
        ids = tokenizer.encode(text, add_special_tokens=False)
        for start in range(len(ids)):
            for end in range(start + 1, len(ids) + 1):
                part = ids[start:end]
                assert "".join(vocabulary.str_tokens(np.array(part))) == tokenizer.decode(part)


def ctc() -> Any:
    """Speech: what repeats is one letter, so no letter has a text of its own."""
    tokenizer = Tokenizer(
        models.BPE({c: i for i, c in enumerate(["<unk>", "<pad>", "|", *LETTERS])}, [], unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Replace(" ", "|")
    tokenizer.decoder = decoders.CTC()
    return fast(tokenizer)


def backwards() -> Any:
    """Every other `ab` of the whole text is another word."""
    made = replaced("_")
    made.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("_", " "), decoders.Fuse(), decoders.Replace(Regex("l+"), "L")]
    )
    return made


@pytest.mark.parametrize("make", [ctc, backwards])
def test_a_decoder_that_looks_at_whole_texts_is_refused_in_one_line(make: Any) -> None:
    with pytest.raises(InputError, match=r"the tokenizer's decoder .* gives its tokens no text each") as caught:
        Vocabulary.from_tokenizer(make())
    assert "\n" not in str(caught.value)


def test_what_is_dropped_at_the_ends_is_kept_with_the_strings(tmp_path: Any) -> None:
    vocabulary = Vocabulary.from_tokenizer(stripping(1, 1))
    vocabulary.save(tmp_path)
    assert vocabulary.ends == (1, 1)
    assert Vocabulary.load(tmp_path) == vocabulary


def test_special_tokens_are_as_decoded() -> None:
    tokenizer = byte_fallback(strip=True)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    ids = tokenizer.encode("to be")
    assert joined(tokenizer, ids) == tokenizer.decode(ids)


def test_a_large_vocabulary_is_read_in_seconds() -> None:
    pieces = ["<unk>", "▁", *LETTERS, *(f"▁w{i}" for i in range(100_000))]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    tokenizer.decoder = decoders.Metaspace("▁", "always")
    started = time.process_time()
    Vocabulary.from_tokenizer(fast(tokenizer))
    assert time.process_time() - started < 20

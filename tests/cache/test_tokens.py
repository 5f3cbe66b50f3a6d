"""Token rows come back from disk as they were; what is no file of tokens is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from sae_auto_interp.cache.tokens import load_tokens, save_tokens
from sae_auto_interp.errors import CacheError, InputError
from tests.support.records import make_rows

TOKENS = np.array([[70_000, 1, 2], [3, 4, 5]])


def test_token_files_of_each_kind_are_read(tmp_path: Path) -> None:
    rows = make_rows(bos=0)
    save_tokens(tmp_path / "rows.safetensors", rows)
    back = load_tokens(tmp_path / "rows.safetensors")
    assert np.array_equal(back.tokens, rows.tokens)
    assert np.array_equal(back.documents, rows.documents)
    assert back.document_names == rows.document_names
    np.save(tmp_path / "ids.npy", TOKENS)
    save_file({"tokens": TOKENS}, tmp_path / "ids.safetensors")
    for name in ("ids.npy", "ids.safetensors"):
        ids = load_tokens(tmp_path / name)
        assert (ids.tokens == TOKENS).all()
        assert ids.documents[:, 0].tolist() == [0, 1]


@pytest.mark.parametrize(
    "tokens",
    [np.zeros(3, np.int64), np.zeros((2, 3)), np.full((1, 2), 1 << 31), np.full((1, 2), -1), np.zeros((0, 3), int)],
)
def test_what_is_no_token_file_is_named(tokens: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", tokens)
    with pytest.raises(CacheError, match=r"ids\.npy cannot be read as tokens"):
        load_tokens(tmp_path / "ids.npy")
    (tmp_path / "ids.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(CacheError, match=r"ids\.safetensors cannot be read as tokens"):
        load_tokens(tmp_path / "ids.safetensors")
    with pytest.raises(InputError, match="there is no file of tokens"):
        load_tokens(tmp_path / "absent.npy")

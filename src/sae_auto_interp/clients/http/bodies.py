"""Reads the body of an answer, no more of it than is allowed: what a server packs small may be gigabytes.

Bodies are unpacked here and not by aiohttp, a bounded piece at a time, so that what is counted is what is in memory.
gzip and deflate are asked for, and no other packing is read.
"""

import zlib
from collections.abc import AsyncIterator, Iterator

ACCEPTED = "gzip, deflate"
"""For the header `Accept-Encoding`."""
MOST_BYTES = 32 << 20
"""Limit of one unpacked body. An answer with log-probabilities has some hundred kilobytes."""
_STEP = 1 << 18


class TooLongBodyError(Exception):
    """The body is longer than is allowed."""


class PackedBodyError(Exception):
    """The body is not packed in the way that its header names, or in one that is not read."""


async def read_body(chunks: AsyncIterator[bytes], packing: str, most_bytes: int) -> bytes:
    """The whole body, unpacked. Raises TooLongBodyError as soon as it is too long, and PackedBodyError."""
    names = [name.strip().lower() for name in packing.split(",")]
    unpack = _unpacker([name for name in names if name not in ("", "identity")])
    whole = bytearray()
    async for chunk in chunks:
        for piece in unpack.pieces(chunk):
            whole += piece
            if len(whole) > most_bytes:
                raise TooLongBodyError
    if not unpack.is_whole:
        raise PackedBodyError(f"it ends before its {packing} does")
    return bytes(whole)


class _AsItIs:
    is_whole = True

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk


class _Unpacked:
    """gzip, of one member or several, or deflate, with its header or (as some servers send it) without."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inner = None

    @property
    def is_whole(self) -> bool:
        return self._inner is None or self._inner.eof

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        try:
            while chunk:
                if self._inner is None or self._inner.eof:
                    if self._inner is not None and not chunk.strip(b"\0"):
                        return  # padding
                    self._inner = zlib.decompressobj(self._window(chunk))
                yield self._inner.decompress(chunk, _STEP)
                chunk = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
        except zlib.error as error:
            raise PackedBodyError(f"it is not {self._name}: {error}") from None

    def _window(self, chunk: bytes) -> int:
        if self._name != "deflate":
            return 16 + zlib.MAX_WBITS
        return zlib.MAX_WBITS if chunk[0] & 0xF == 8 else -zlib.MAX_WBITS


def _unpacker(names: list[str]) -> _AsItIs | _Unpacked:
    if not names:
        return _AsItIs()
    if len(names) > 1 or names[0] not in ("gzip", "x-gzip", "deflate"):
        raise PackedBodyError(f"its Content-Encoding is {', '.join(names)[:60]!r}, and {ACCEPTED} was asked for")
    return _Unpacked(names[0])

"""Bounded decompression: the body of a reply that came compressed although identity was asked for.

Decodes gzip and deflate as the bytes arrive and never gives more than its limit, so a bomb costs the limit and no more.
It never guesses another coding and reads no headers. Place in the line: `connection.py` feeds it the pieces of a body.

Source: RFC 9110 section 8.4.1; RFC 1950 (zlib), RFC 1951 (raw deflate), RFC 1952 (gzip).
"""

import zlib
from typing import Final, Literal

CODINGS: Final = frozenset({b"gzip", b"x-gzip", b"deflate"})
"""The content codings, in lower case, that can be decoded here."""

_MAGIC_BYTES: Final = 2
_MOST_TIMES: Final = 100
"""Text becomes perhaps twenty times as long; a bomb a thousand times, and decoding it at once would hold up the loop."""
_AT_ONCE: Final = 1 << 20
_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32
_RAW_DEFLATE: Final = -zlib.MAX_WBITS


class Inflate:
    """One compressed body, decoded piece by piece.

    `feed` raises `OverflowError` when the decoded body outgrows `limit` bytes and `zlib.error` when it is malformed.
    """

    __slots__ = ("_begun", "_limit", "_stream", "_total")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._begun = b""
        self._stream: zlib._Decompress | None = None

    @property
    def finished(self) -> bool:
        """Whether the end of the compressed body has been seen; an empty body is finished too."""
        return self._stream.eof if self._stream else not self._begun

    def unpack(self, pieces: list[bytes], before: int) -> tuple[Literal["too_large", "encoding"], str] | None:
        """Replace the pieces from that one on with what they say; where they say nothing that can be used, give why."""
        packed = b"".join(pieces[before:])
        del pieces[before:]
        try:
            data = self.feed(packed) if packed else b""
        except OverflowError:
            return "too_large", f"sent a body of more than {self._limit} bytes, compressed"
        except zlib.error:
            return "encoding", "sent a body that is not compressed as its content-encoding says"
        if data:
            pieces.append(data)
        return None

    def feed(self, piece: bytes) -> bytes:
        """Decode the next piece of the body; the result may be empty."""
        stream = self._stream
        if stream is None:
            piece = self._begun = self._begun + piece
            if len(piece) < _MAGIC_BYTES:
                return b""
            stream = self._stream = zlib.decompressobj(_window(piece))
        room, swollen = self._limit - self._total, max(_AT_ONCE, _MOST_TIMES * len(piece))
        # One byte more than there is room for tells "too large" from "just fits".
        data = stream.decompress(piece, min(room, swollen) + 1)
        self._total += len(data)
        if self._total > self._limit:
            raise OverflowError(f"the decoded body is larger than {self._limit} bytes")
        if len(data) > swollen:
            raise OverflowError(f"a piece of the body became more than {_MOST_TIMES} times as long")
        if stream.unused_data:
            raise zlib.error("bytes follow the end of the compressed body")
        return data


def _window(piece: bytes) -> int:
    """Tell gzip and zlib from the raw deflate that some servers send where RFC 9110 asks for the zlib wrapper."""
    wrapped = piece[0] & 0x0F == zlib.DEFLATED and int.from_bytes(piece[:_MAGIC_BYTES], "big") % 31 == 0
    return _GZIP_OR_ZLIB if wrapped or piece.startswith(b"\x1f\x8b") else _RAW_DEFLATE

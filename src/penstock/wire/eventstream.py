"""AWS event-streams: bytes to frames and back, safe at every byte boundary.

Pure. A frame is, in big-endian numbers: total length (4 bytes), length of the headers (4), CRC-32 of those eight (4),
headers, payload, CRC-32 of everything before it (4). Both checksums are checked, the first before the length is believed,
so garbage is refused with its first twelve bytes. Nothing in this file knows a dialect or reads a payload.
Place in the line: below the dialect that streams this way. Source: Amazon's event stream encoding (Transcribe Developer
Guide, "Event stream encoding"; the ten header types as in the AWS SDKs).
"""

import struct
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID
from zlib import crc32

from msgspec import Struct

from penstock.errors import UpstreamGarbled

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""Enough for a picture in base64 within one event; a frame that says it is larger is refused."""
MAX_HEADER_BYTES: Final = 128 * 1024
CONTENT_TYPE: Final = b"application/vnd.amazon.eventstream"

HeaderValue = bool | int | str | bytes | UUID
Headers = Mapping[str, HeaderValue]
"""Values by name. Timestamps are milliseconds since the epoch, as ints."""

_PRELUDE: Final = struct.Struct(">III")
_CRC: Final = struct.Struct(">I")
_LENGTH: Final = struct.Struct(">H")
_LEAST: Final = _PRELUDE.size + _CRC.size
_NUMBERS: Final = (struct.Struct(">b"), struct.Struct(">h"), struct.Struct(">i"), struct.Struct(">q"))
"""Signed numbers of the types 2 to 5."""
_TRUE, _FALSE, _FIRST_NUMBER, _INT64, _BYTES, _STRING, _TIMESTAMP, _UUID = 0, 1, 2, 5, 6, 7, 8, 9
_KEPT_HEADERS: Final = 64
"""Streams repeat a handful of header blocks; more than these are read anew each time."""


class Frame(Struct, frozen=True):
    """One message. `start` and `end` are its place in `EventStreamReader.taken`."""

    headers: Headers
    payload: bytes
    start: int
    end: int


class EventStreamReader:
    """Frames of one stream.

    After each `feed`, `taken` holds the bytes of the frames that it completed: the very object that was fed, where that
    ends with a frame. `fault` says why the stream cannot be read on, once that is so; frames before the fault still count.
    """

    __slots__ = ("_headers", "_limit", "_need", "_rest", "fault", "taken")

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self.taken = b""
        self.fault: UpstreamGarbled | None = None
        self._rest = bytearray()
        self._need = _PRELUDE.size  # what has to wait before anything can be said
        self._limit = limit
        self._headers: dict[bytes, Headers] = {}

    def feed(self, data: bytes) -> list[Frame]:
        """Give the frames that these bytes complete. Never raises: see `fault`."""
        self.taken = b""
        rest = self._rest
        if self.fault is not None:
            return []
        if rest:
            rest += data
            if len(rest) < self._need:
                return []
            whole = bytes(rest)
        else:
            whole = data
        frames: list[Frame] = []
        start, last = 0, len(whole)
        while last - start >= _PRELUDE.size:
            self._need = total = self._total(whole, start)
            if last - start < total or (frame := self._frame(whole, start, start + total)) is None:
                break
            frames.append(frame)
            start += total
            self._need = _PRELUDE.size
        self.taken = whole if start == last else whole[:start]
        if rest:
            del rest[:start]
        elif start < last:
            rest += whole[start:]
        return frames

    def end(self) -> None:
        """Take the end of the bytes: within a frame it is a fault."""
        self.taken = b""
        if self._rest and self.fault is None:
            self.fault = UpstreamGarbled("The provider's event stream stopped within a frame.")

    def _total(self, data: bytes, at: int) -> int:
        """Give the length of the frame that begins here; 0 and a fault if that is none."""
        total, headers, checksum = _PRELUDE.unpack_from(data, at)
        if crc32(data[at : at + 8]) != checksum:
            return self._fail("the checksum of a frame's head is wrong")
        if total > self._limit or headers > MAX_HEADER_BYTES:
            return self._fail(f"a frame exceeds {self._limit} bytes, or its headers {MAX_HEADER_BYTES}")
        if headers + _LEAST > total:
            return self._fail("a frame's headers are longer than the frame")
        return int(total)

    def _frame(self, data: bytes, start: int, end: int) -> Frame | None:
        if start == end:
            return None  # a fault was found in its head
        body = end - _CRC.size
        if crc32(data[start:body]) != _CRC.unpack_from(data, body)[0]:
            self._fail("the checksum of a frame is wrong")
            return None
        first = start + _PRELUDE.size
        payload = first + _PRELUDE.unpack_from(data, start)[1]
        block = data[first:payload]
        headers = self._headers.get(block)
        if headers is None:
            try:
                headers = read_headers(block)
            except ValueError as error:
                self._fail(str(error))
                return None
            if len(self._headers) < _KEPT_HEADERS:
                self._headers[block] = headers
        return Frame(headers, data[payload:body], start, end)

    def _fail(self, why: str) -> int:
        self.fault = UpstreamGarbled(f"The provider's event stream cannot be read: {why}.")
        return 0


def read_headers(block: bytes) -> Headers:
    """Read the headers of a frame. Raises ValueError that says what is wrong."""
    headers: dict[str, HeaderValue] = {}
    at = 0
    try:
        while at < len(block):
            start = at + 1
            at = start + block[at]
            name = _piece(block, start, at).decode()
            if name in headers:
                raise ValueError(f"a frame has the header {name[:40]!r} twice")
            headers[name], at = _value(block, at + 1, block[at])
    except (IndexError, struct.error):
        raise ValueError("a frame's headers stop in the middle") from None
    except UnicodeDecodeError:
        raise ValueError("a frame's headers are not UTF-8") from None
    return headers


def _value(block: bytes, at: int, kind: int) -> tuple[HeaderValue, int]:
    """Read a value; give it and where the next header begins."""
    if kind in {_BYTES, _STRING}:
        start = at + _LENGTH.size
        end = start + int(_LENGTH.unpack_from(block, at)[0])
        piece = _piece(block, start, end)
        return piece if kind == _BYTES else piece.decode(), end
    if kind in {_TRUE, _FALSE}:
        return kind == _TRUE, at
    if _FIRST_NUMBER <= kind <= _INT64 or kind == _TIMESTAMP:
        packing = _NUMBERS[min(kind, _INT64) - _FIRST_NUMBER]
        return int(packing.unpack_from(block, at)[0]), at + packing.size
    if kind == _UUID:
        return UUID(bytes=_piece(block, at, at + 16)), at + 16
    raise ValueError(f"a frame has a header of the unknown type {kind}")


def _piece(block: bytes, start: int, end: int) -> bytes:
    if end > len(block):
        raise IndexError(end)
    return block[start:end]


# -- writing --


def header_block(headers: Mapping[str, HeaderValue | datetime]) -> bytes:
    """Write headers. Raises ValueError for a name or value that has no room in one."""
    return b"".join(_header(name, value) for name, value in headers.items())


def _header(name: str, value: HeaderValue | datetime) -> bytes:
    word = name.encode()
    if not 0 < len(word) < 256:
        raise ValueError(f"The header name {name[:40]!r} has to have 1 to 255 bytes.")
    head = bytes((len(word),)) + word
    match value:
        case bool():
            return head + bytes((_TRUE if value else _FALSE,))
        case datetime():
            return head + bytes((_TIMESTAMP,)) + _NUMBERS[-1].pack(round(value.timestamp() * 1000))
        case int():
            if not -(2**63) <= value < 2**63:
                raise ValueError(f"The header {name!r} does not fit into 64 bits.")
            kind = next(
                kind
                for kind, packing in enumerate(_NUMBERS, 2)
                if -(1 << (8 * packing.size - 1)) <= value < 1 << (8 * packing.size - 1)
            )
            return head + bytes((kind,)) + _NUMBERS[kind - _FIRST_NUMBER].pack(value)
        case UUID():
            return head + bytes((_UUID,)) + value.bytes
        case _:
            data = value.encode() if isinstance(value, str) else value
            if len(data) > 0xFFFF:
                raise ValueError(f"The header {name!r} exceeds 65535 bytes.")
            return head + bytes((_STRING if isinstance(value, str) else _BYTES,)) + _LENGTH.pack(len(data)) + data


def event_frame(headers: bytes, payload: bytes) -> bytes:
    """Write a frame from a block of headers and a payload, with both checksums."""
    lengths = _PRELUDE.pack(len(headers) + len(payload) + _LEAST, len(headers), 0)[:8]
    head = b"%b%b%b%b" % (lengths, _CRC.pack(crc32(lengths)), headers, payload)
    return head + _CRC.pack(crc32(head))

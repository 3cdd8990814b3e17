"""Framing: bytes of a stream to frames, and back; safe at every byte boundary.

Server-sent events (WHATWG HTML, 9.2) are read and written here. Nothing in this file knows a dialect or reads the data of a
frame. Strategy of the reader: a block is everything up to and with a blank line; whole blocks are cut out of what has
arrived, the unfinished rest waits. So what `feed` took can be passed on as it came and never ends inside a frame.
Place in the line: below the dialects' stream readers and writers.
"""

import re
from typing import Final

from msgspec import Struct

from penstock.errors import UpstreamGarbled

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""Enough for a picture in base64 within one event; a block that grows beyond it is refused."""

_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n?|\n")
_EMPTY: Final = re.compile(rb"[\r\n]+").match
"""Blank lines where a block would begin: nothing, but complete."""
_BLANK_LINE: Final = re.compile(rb"\n(?:\r\n?|\n)|\r(?:\n(?:\r\n?|\n)|\r\n?)").search
"""The end of the last line of a block, and the blank line; a CRLF is never taken for two line ends."""
_SHORT: Final = 65_536
"""More than this is not copied again for each piece that arrives."""
_FIELDS: Final = (b"data:", b"event:")
_CR: Final = 13
_LF: Final = 10
_LOOK_BACK: Final = 3
"""A blank line that is not complete yet can have this many bytes: CR LF CR."""


class Frame(Struct, frozen=True, gc=False):
    """One event. `start` and `end` are its place in `SseReader.taken`, blank line and comments included."""

    data: bytes
    event: str
    start: int
    end: int


class SseReader:
    """Frames of one server-sent event stream.

    Lines end at CR, LF or CRLF and nowhere else. Comments, `id` and `retry` are read and mean nothing here; a block without
    `data` is no frame. After each `feed` (or `end`), `taken` holds the bytes of the blocks that it completed: the very
    object that was fed, where that ends with a block. `leads` is 1 where `taken` begins with the LF of a CRLF whose CR ended
    the block before, else 0.
    """

    __slots__ = ("_at_start", "_cr", "_fault", "_limit", "_plain", "_rest", "_short", "leads", "taken")

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self.taken = b""
        self.leads = 0
        self._rest = bytearray()
        self._limit = limit
        self._short = min(limit, _SHORT)
        self._at_start = True  # a byte order mark may follow
        self._cr = False  # the last block ended with a CR: an LF that follows belongs to it
        self._plain = False  # none of these, and what waits has no CR
        self._fault: UpstreamGarbled | None = None

    @property
    def between(self) -> bool:
        """Whether the next byte begins a block, and nothing before it has a say in how that is read."""
        return self._plain and not self._rest

    def begins(self, data: bytes) -> bool:
        """Tell whether these bytes begin a block, and nothing before them has a say in how they are read."""
        if self._plain:
            return not self._rest
        if not self._at_start or self._rest or self._fault is not None or not data.startswith(_FIELDS):
            return False
        self._at_start = self._cr = False  # it is no byte order mark
        self._plain = True
        return True

    def feed(self, data: bytes) -> list[Frame]:
        """Give the frames that these bytes complete.

        Raises UpstreamGarbled when a block exceeds the limit, from the first feed that has no frame before it; the stream
        cannot be read on after that.
        """
        if not (self._plain or self.begins(data)):
            return self._any_blocks(data)
        rest = self._rest
        if _CR in data:
            frames = None
            if not rest and data.endswith(b"\r\n\r\n") and len(data) <= self._limit:
                frames = self._crlf_blocks(data)
            if frames is None:
                return self._any_blocks(data)
            self.leads = 0
            self.taken = data
            return frames
        self.leads = 0
        if not rest and data.endswith(b"\n\n") and len(data) <= self._limit:
            self.taken = data
            return self._whole_blocks(data)
        if len(rest) + len(data) > self._short:
            return self._any_blocks(data)
        whole = b"".join((rest, data))
        end = whole.rfind(b"\n\n", max(0, len(rest) - 1)) + 2
        if end < 2:  # nothing is complete but blank lines before the block
            end = len(whole) - len(whole.lstrip(b"\n"))
        self.taken = whole[:end]
        rest[:] = whole[end:]
        return self._whole_blocks(self.taken)

    def end(self) -> list[Frame]:
        """Give the frame whose blank line never came, if there is one; `taken` has the blank line added."""
        self._check()
        rest = bytes(self._rest)
        self._rest.clear()
        self.taken, self.leads = b"", 0
        frame = self._block(rest, 0, 0)
        if frame is None:
            return []
        self.taken = rest + (b"\n" if rest.endswith(b"\n") else b"\n\n")
        return [Frame(frame.data, frame.event, 0, len(self.taken))]

    def _whole_blocks(self, data: bytes) -> list[Frame]:
        """Split blocks that are all complete and whose lines all end with LF: what nearly every read brings."""
        frames = []
        start, last = 0, len(data)
        while start < last:
            end = data.find(_LF, start)
            if end == start:
                start += 1
                continue
            if data[end + 1] != _LF:  # never beyond the end, where two LFs stand
                end = data.find(b"\n\n", end)
                frame = self._block(data[start:end], start, end + 2)
            elif data.startswith(b"data: ", start):
                frame = Frame(data[start + 6 : end], "", start, end + 2)
            else:
                frame = self._block(data[start:end], start, end + 2)
            if frame is not None:
                frames.append(frame)
            start = end + 2
        return frames

    def _crlf_blocks(self, data: bytes) -> list[Frame] | None:
        """Split blocks that are all complete and whose lines all end with CRLF, as Google writes them; None if one does not."""
        frames = []
        start, last = 0, len(data)
        while start < last:
            end = data.find(b"\r\n\r\n", start)
            block = data[start:end]
            if block.startswith(b"data: ") and _CR not in block and _LF not in block:
                frames.append(Frame(block[6:], "", start, end + 4))
            elif end <= start or block.startswith(b"\r\n") or not _has_only_crlf(block):
                return None
            elif (frame := self._block(block, start, end + 4)) is not None:
                frames.append(frame)
            start = end + 4
        return frames

    def _any_blocks(self, data: bytes) -> list[Frame]:
        """Take any bytes: blocks in pieces, every kind of line end, a byte order mark."""
        self._check()
        rest = self._rest
        searched = max(0, len(rest) - _LOOK_BACK)
        rest += data
        start = self.leads = 1 if self._cr and rest.startswith(b"\n") else 0
        self._cr = self._cr and not rest
        frames: list[Frame] = []
        while (found := _EMPTY(rest, start) or _BLANK_LINE(rest, max(start, searched))) is not None:
            end = found.end()
            if end - start > self._limit:
                break
            frame = self._block(bytes(rest[start : found.start()]), start, end)
            if frame is not None:
                frames.append(frame)
            self._cr = end == len(rest) and rest.endswith(b"\r")
            start = end
        self.taken = data if start == len(rest) == len(data) else bytes(rest[:start])
        del rest[:start]
        self._plain = not (self._cr or self._at_start or _CR in rest)
        if len(rest) > self._limit:
            self._plain = False
            self._fault = UpstreamGarbled(f"An event of the provider's stream exceeds {self._limit} bytes.")
            rest.clear()
            if not frames:
                raise self._fault
        return frames

    def _check(self) -> None:
        if self._fault is not None:
            self.taken, self.leads = b"", 0
            raise self._fault

    def _block(self, block: bytes, start: int, end: int) -> Frame | None:
        """Read the lines of one block; None if it holds no data."""
        if self._at_start:
            self._at_start = False
            block = block.removeprefix(_BOM)
        data: list[bytes] = []
        event = ""
        for line in block.splitlines():  # of bytes: at CR, LF and CRLF only
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data.append(value)
            elif name == b"event":
                event = value.decode("utf-8", "replace")
        return Frame(b"\n".join(data), event, start, end) if data else None


def _has_only_crlf(data: bytes) -> bool:
    """Return whether no line end is a CR or an LF alone."""
    return data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r")


def sse(data: bytes, event: str | None = None) -> bytes:
    """Write one event. Line ends within `data` become further data lines, so nothing in it can end the event or forge one.

    Raises ValueError for an event name with a line end in it.
    """
    if b"\n" in data or b"\r" in data:
        data = _LINE_END.sub(b"\ndata: ", data)
    if event is None:
        return b"data: %b\n\n" % data
    if "\n" in event or "\r" in event:
        raise ValueError(f"The event name {event!r} has a line end in it; an event name is one word.")
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)

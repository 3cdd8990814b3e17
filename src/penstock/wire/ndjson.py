"""Newline-delimited JSON: bytes of a stream to lines, and back; safe at every byte boundary.

Pure, and it reads no JSON. A line is everything up to a line feed; whole lines are cut out of what has arrived, the unfinished
rest waits. So what `feed` took can be passed on as it came and never ends inside a line.
Place in the line: below the stream readers and writers of the dialects that stream this way (Ollama's), beside `framing.py`.

Source: the NDJSON specification (github.com/ndjson/ndjson-spec). Its readers are less strict: Python's `str.splitlines`, on
which HTTPX and so Ollama's own SDK rely, also ends a line at U+0085, U+2028, U+2029 and some control characters.
"""

import re
from typing import Final

from penstock.errors import UpstreamGarbled
from penstock.wire.framing import MAX_FRAME_BYTES

_ENDS_A_LINE: Final = re.compile(rb"[\n\r\v\f\x1c-\x1e]|\xc2\x85|\xe2\x80[\xa8\xa9]")
_CONTROLS: Final = b"\n\r\v\f\x1c\x1d\x1e"
_SUSPECT: Final = re.compile(rb"[\n\r\v\f\x1c-\x1e\x85\xa8\xa9]").search
"""A quick look: without one of these bytes there is no such character."""
_ESCAPES: Final = {b"\xc2\x85": rb"\u0085", b"\xe2\x80\xa8": rb"\u2028", b"\xe2\x80\xa9": rb"\u2029"}


class NdjsonReader:
    """Lines of one stream, without their line feeds; blank ones are among them.

    After each `feed` (or `end`), `taken` holds the bytes of the lines that it gave: the very object that was fed, where that
    ends with a line. The n-th line begins in it where the ones before it, each with one line feed, end.
    """

    __slots__ = ("_fault", "_limit", "_rest", "taken")

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self.taken = b""
        self._rest = bytearray()
        self._limit = limit
        self._fault: UpstreamGarbled | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Give the lines that these bytes complete.

        Raises UpstreamGarbled when a line exceeds the limit, from the first feed that has no line before it; the stream cannot
        be read on after that.
        """
        self._check()
        end = data.rfind(b"\n") + 1
        rest = self._rest
        if not end:
            self.taken = b""
            rest += data
            if len(rest) > self._limit:
                self._refuse()
                self._check()
            return []
        if rest:
            rest += data[:end]
            self.taken = bytes(rest)
            rest.clear()
        else:
            self.taken = data if end == len(data) else data[:end]
        if end < len(data):
            rest += data[end:]
        return self._lines()

    def end(self) -> list[bytes]:
        """Give the line whose line feed never came, if there is one; `taken` has the line feed added."""
        self._check()
        line = bytes(self._rest)
        self._rest.clear()
        self.taken = line + b"\n" if line else b""
        return [line] if line else []

    def _lines(self) -> list[bytes]:
        """Split what was taken; of lines of which one is too long, give those before it."""
        taken = self.taken
        lines = taken.split(b"\n")
        lines.pop()
        if len(self._rest) > self._limit:
            self._refuse()
        if len(taken) > self._limit:
            long = next((place for place, line in enumerate(lines) if len(line) > self._limit), None)
            if long is not None:
                self._refuse()
                lines = lines[:long]
                self.taken = taken[: sum(map(len, lines)) + long]
                if not lines:
                    self._check()
        return lines

    def _refuse(self) -> None:
        self._fault = UpstreamGarbled(f"A line of the provider's stream exceeds {self._limit} bytes.")
        self._rest.clear()

    def _check(self) -> None:
        if self._fault is not None:
            self.taken = b""
            raise self._fault


def ndjson(data: bytes) -> bytes:
    """Write one JSON text as one line, whichever characters its reader takes for the end of a line.

    Within JSON such a character stands between tokens, where a space says the same, or in a string, where it has an escape.
    """
    suspect = len(data.translate(None, _CONTROLS)) < len(data) if data.isascii() else _SUSPECT(data) is not None
    if suspect:
        data = _ENDS_A_LINE.sub(lambda found: _ESCAPES.get(found[0], b" "), data)
    return data + b"\n"

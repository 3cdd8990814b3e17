"""What the head of a reply says about the rest: how the body ends, whether it streams, how it is packed; what of it is passed on.

Pure, but for what it remembers, within bounds. A head that came before, byte for byte, says what it said then: so a server
that repeats its heads is not parsed anew for each reply. Place in the line: `connection.py` asks; the parser has checked the
form of every head by then.

Source: RFC 9112 section 6 (the length of a body), RFC 9110 section 8.4 (codings).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from penstock.providers.exchange import FaultKind, Header
from penstock.providers.inflate import CODINGS

HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length"
MOST_BYTES: Final = 512
"""Longer heads are not remembered: they are of services that number their replies, so no two of them are the same."""
MOST_HEADS: Final = 256
PAUSE: Final = 4096
"""Where so many heads came and none of them again, this many replies go by before the next is remembered."""
_MOST_LINES: Final = 12
OK: Final = 200

_STREAMS: Final = (b"text/event-stream", b"application/x-ndjson", b"application/vnd.amazon.eventstream")
_BODILESS: Final = frozenset({204, 304})
MOST_NAMES: Final = 1000
_PASSED: Final = frozenset(
    {b"retry-after", b"x-request-id", b"request-id", b"openai-processing-ms", b"openai-version", b"x-amzn-requestid"}
)
_PASSED_PREFIXES: Final = (b"x-ratelimit-", b"anthropic-ratelimit-", b"openai-")
_UNLIKE: Final = frozenset({b"content-encoding", b"set-cookie", b"x-request-id", b"request-id"})
_KEEP_ALIVE: Final = re.compile(rb"timeout=(\d{1,6})")

Delimited = Literal["length", "chunked", "close"]
Framing = Mapping[bytes, bytes]
"""The headers by their names; of two with one name, the last."""
Refusal = tuple[FaultKind, str]


class Passed(dict[bytes, bool]):
    """Whether clients rely on a header of this name, so that it is passed on to them; remembered, since names repeat."""

    def __missing__(self, name: bytes) -> bool:
        if len(self) >= MOST_NAMES:
            self.clear()
        is_passed = self[name] = name in _PASSED or name.startswith(_PASSED_PREFIXES)
        return is_passed


def weight(fields: Sequence[Header]) -> int:
    """Count the bytes of a head."""
    return sum(len(name) + len(value) + 4 for name, value in fields)


def body(framing: Framing, status: int, *, keep: bool) -> tuple[bool, Delimited, bool]:
    """Tell whether a body is to be read as it arrives, how it ends, and whether the head is one to `learn`.

    `keep` is whether the parser finds that the connection may go on. Heads to learn may come again just so, before a body
    that its length alone ends, and leave the connection in step.
    """
    streamed = framing.get(b"content-type", b"").lower().startswith(_STREAMS)
    if b"transfer-encoding" in framing:
        return streamed, "chunked", False
    if keep:
        plain = status == OK and not streamed and len(framing) <= _MOST_LINES and framing.keys().isdisjoint(_UNLIKE)
        return streamed, "length", plain
    return streamed, "length" if b"content-length" in framing or status in _BODILESS else "close", False


def promised(framing: Framing, version: str) -> tuple[Refusal | None, bytes, int | None]:
    """Say what else a head promises: something that is not read here, the coding of the body, the time of an unused connection.

    `version` is of the HTTP. The coding is b"" where the body is plain. The time is a second less than the server says, in
    seconds, so that the two do not meet.
    """
    refused: Refusal | None = None
    coding = framing.get(b"content-encoding", b"").strip().lower()
    coding = b"" if coding == b"identity" else coding
    if framing.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
        refused = "protocol", "sent a transfer-encoding other than chunked"
    elif version not in {"1.1", "1.0"}:
        refused = "protocol", "answered in a version other than HTTP/1.1"
    elif coding and coding not in CODINGS:
        refused = "encoding", "sent a content-encoding that is neither identity nor gzip nor deflate"
    named = _KEEP_ALIVE.search(framing.get(b"keep-alive", b"").lower())
    return refused, coding, None if named is None else int(named[1]) - 1


class Heads(dict[bytes, tuple[tuple[Header, ...], int]]):
    """Heads of whole replies that left their connections in step: what they say, and how long the body is.

    The one that was found last is at hand: its `head` as bytes, their number (`end`), what it says (`fields`), and the `size` of the
    whole reply, -1 where there is none. The one that was learned last is known whatever its length is, as long as that is told
    right: most services say nothing else that differs from one reply to the next of the same second.
    """

    __slots__ = ("_before", "_behind", "_is_useful", "_pause", "_place", "_said", "end", "fields", "head", "size")

    def __init__(self) -> None:
        self._is_useful = False  # since the last of them were forgotten, one has been found
        self._pause = 0
        self._forget()

    def _forget(self) -> None:
        self.head, self.end, self.size = b"", 0, -1
        self._before = self._behind = b""  # the one learned last, around the digits of its length
        self._place = 0  # of its length among what it says
        self.fields: tuple[Header, ...] = ()
        self._said: tuple[Header, ...] = ()
        self.clear()

    def find(self, data: bytes, most: int) -> bool:
        """Tell whether this is a reply whose head was learned, all of it and nothing else; then that is at hand.

        No body of another length than what was learned may have more than `most` bytes.
        """
        end = data.find(HEAD_END) + len(HEAD_END)
        head, length = data[:end], len(data) - end
        known = self.get(head)
        if known is not None:
            fields, told = known
            if told != length:
                return False
        else:
            digits = b"%d" % length
            if not self._behind or length > most or head != self._before + digits + self._behind:
                return False
            place, said = self._place, self._said
            fields = (*said[:place], (_LENGTH, digits), *said[place + 1 :])
        self._is_useful = True
        self.head, self.end, self.size, self.fields = head, end, len(data), fields
        return True

    def learn(self, data: bytes, fields: Sequence[Header], length: int) -> bool:
        """Remember the head of a plain reply that came as these bytes and had a body of that length; False if it is no use."""
        if self._pause:
            self._pause -= 1
            return False
        at = len(data) - length
        head = data[:at]
        if at > MOST_BYTES or data.find(HEAD_END) != at - len(HEAD_END):
            return False
        if head not in self:
            if len(self) >= MOST_HEADS:
                self._forget()
                self._pause = 0 if self._is_useful else PAUSE
                self._is_useful = False
            self[head] = tuple(fields), length
            self._take_apart(head, tuple(fields), b"%d" % length)
        return True

    def _take_apart(self, head: bytes, fields: tuple[Header, ...], digits: bytes) -> None:
        """Have a head at hand whatever its length is, if that is plainly told; else none."""
        before, line, _ = head.lower().partition(b"\r\n%b: %b\r\n" % (_LENGTH, digits))
        names = [name for name, _ in fields]
        self._behind = b""
        if line and names.count(_LENGTH) == 1:
            start = len(before) + len(line) - len(digits) - 2
            self._before, self._behind = head[:start], head[start + len(digits) :]
            self._place, self._said = names.index(_LENGTH), fields

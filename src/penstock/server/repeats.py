"""Heads that come again: a client sends the same one with each request, but for the digits of its content-length.

What was read from one head holds for the next that has the same bytes, so that need not be parsed a second time. Only a
plain case is remembered, of which nothing can be read in two ways: a POST of HTTP/1.1 that keeps the connection, with one
content-length and no other header that has to do with framing, which came in one read of the socket with nothing before
or behind it. Whatever differs in a byte goes to the parser, as everything did at first.

Equal heads of one peer are kept once, however many connections send them, and only while one of these lives: a head holds
a credential. So a new connection need not have its first head parsed either, where it is the one that another of its peer's
has sent last. Pure: `reading` says when to learn and when to look.
"""

from collections.abc import Collection
from typing import Final
from weakref import WeakValueDictionary, ref

from penstock.server.request import DIGITS, Head, Limits, Request

LONGEST: Final = 4096
"""Bytes of a head that is remembered."""
MOST: Final = 1024
"""Heads remembered at once, for all connections of a server."""
CHANCES: Final = 8
"""Heads that a connection may show in vain, one after another; then its heads are taken to be always new."""
FIRST: Final = 8
"""Of so many connections one has its first head learned, which is often its last, and of no use where it is always new."""

_LENGTH: Final = b"content-length"
_FRAMING: Final = (b"transfer-encoding", b"transfer_encoding", b"content_length", b"expect", b"upgrade")


class Heads:
    """The heads that the connections of one server have sent last."""

    def __init__(self, apart: Collection[str] = ()) -> None:
        """Heads for the paths in `apart` are not remembered, so that such requests are always looked at one by one."""
        self._apart = apart
        self._known: WeakValueDictionary[tuple[str, bytes, bytes], Head] = WeakValueDictionary()
        self._last: dict[str, ref[Head]] = {}  # by peer
        self._firsts = 0  # heads that a connection began with, and that were not known

    def __len__(self) -> int:
        return len(self._known)

    def last(self, peer: str) -> Head | None:
        """Return the head that was learned last of a peer, while a connection lives that sends it."""
        found = self._last.get(peer)
        return None if found is None else found()

    def wants_first(self) -> bool:
        """Tell whether to learn the head that a connection begins with, which is not known."""
        self._firsts += 1
        return not self._firsts % FIRST

    def learn(self, raw: bytes, request: Request, limits: Limits) -> Head | None:
        """Return the head of a request that was read from exactly `raw`, to be looked for; None where that is unsafe."""
        start = _digits_in(raw, request, limits)
        if start is None or request.path in self._apart:
            return None
        headers, fields = request.headers, request.fields
        assert fields is not None, "a request that was read has its fields"
        digits = fields[_LENGTH]
        behind = raw[start + len(digits) : len(raw) - len(request.body)]
        key = (request.peer, raw[:start], behind)
        head = self._known.get(key)
        if head is None or head.limits is not limits:
            if len(self._known) >= MOST:
                return None
            place = headers.index((_LENGTH, digits))
            head = Head(
                *(raw[:start], digits, behind, start, place, limits),
                *(request.target, request.path, request.query, headers, fields, request.peer),
            )
            self._known[key] = head
        if len(self._last) >= MOST:
            self._last.clear()
        self._last[request.peer] = ref(head)
        return head


def _digits_in(raw: bytes, request: Request, limits: Limits) -> int | None:
    """Return where the digits of the content-length begin, if all of the head is plain."""
    fields, size = request.fields or {}, len(raw) - len(request.body)
    digits, room = (
        fields.get(_LENGTH, b""),
        len(request.headers) + DIGITS,
    )  # other digits, and what a limit counts beside
    if not (
        request.method == "POST"
        and request.http_version == "1.1"
        and request.keep_alive
        and fields.get(b"connection", b"keep-alive").lower() == b"keep-alive"
        and 0 < len(digits) <= DIGITS
        and digits == b"%d" % len(request.body)
        and size <= LONGEST
        and size + room <= limits.header_bytes
    ):
        return None
    head = raw[:size]
    lower = head.lower()
    start = lower.find(b"\r\n" + _LENGTH + b":") + 2 + len(_LENGTH) + 1
    start = size - len(head[start:].lstrip(b" \t"))
    lines = len(request.headers) + 2  # with the first one and the empty one
    is_plain = (
        head.startswith(b"POST %b HTTP/1.1\r\n" % request.target)
        and head.find(b"\r\n\r\n") == size - 4
        and head.count(b"\r\n") == head.count(b"\r") == head.count(b"\n") == lines
        and lower.count(_LENGTH) == lower.count(b"\r\n" + _LENGTH + b":") == 1
        and head.startswith(digits + b"\r\n", start)
        and not any(name in lower for name in _FRAMING)
    )
    return start if is_plain else None

"""What a client asked over HTTP: one complete request, and the checks of its head that llhttp leaves to us.

llhttp (through `httptools`) refuses what is malformed: bare CR or LF, folded lines, blanks before a colon, control
characters, bad chunks, a Content-Length that is repeated, signed or beside Transfer-Encoding. It accepts what this
file refuses: a missing or second Host, any transfer coding but one `chunked`, names that a CGI-like reader would take
for framing, foreign versions, odd targets. The rules are those of RFC 9112; what could be read in two ways is
refused, never repaired. Pure: no socket, no clock.
"""

from asyncio import BaseTransport
from typing import Any, Final, NoReturn, Self
from urllib.parse import unquote

import msgspec

Header = tuple[bytes, bytes]  # the name in lower case

_HOST_BYTES: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+;=%:[]"
DIGITS: Final = 8
"""The longest content-length of a head that is remembered."""
# Headers that ask for a decision. A request that carries none of them, and no name twice, needs no further look.
_RARE: Final = frozenset({b"transfer-encoding", b"expect", b"content_length", b"transfer_encoding"})


class Request(msgspec.Struct, frozen=True, gc=False):
    """One complete request: head and whole body.

    `target` is as it was sent; `path` is percent-decoded (UTF-8) where it holds a `%`; `query` is raw, without the
    `?`. `peer` is the address of the client's end of the connection: headers that claim another one are not looked
    at. What has a default may be left out.
    """

    method: str
    target: bytes
    path: str
    query: bytes
    headers: list[Header]
    body: bytes
    http_version: str
    peer: str
    keep_alive: bool = True
    fields: dict[bytes, bytes] | None = None  # the first value of each name
    endpoints: "Endpoints | None" = None
    head: "Head | None" = None  # where this one has come before, so that what follows from it is known
    begun: Any = None  # what was begun without a task, and is to be gone on with: see `direct`

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of the header with this lower-case name."""
        if self.fields is not None:
            return self.fields.get(name)
        return next((value for key, value in self.headers if key == name), None)


class Head(msgspec.Struct, eq=False, weakref=True):
    """A head as bytes, but for the digits of its content-length, and as they were read; see `repeats`.

    It holds the client's credential, and so does `made`: neither is shown, and both go with the connections that use them.
    `made` belongs to the handler, which may leave there what follows from the head and the peer alone; never a verdict.
    """

    before: bytes
    digits: bytes  # as they were at first
    behind: bytes  # up to the end of the empty line
    start: int  # where the digits begin
    place: int  # of the content-length among the headers
    limits: "Limits"  # under which it was let in
    target: bytes
    path: str
    query: bytes
    headers: list[Header]
    fields: dict[bytes, bytes]
    peer: str
    made: Any = None
    whole: bytes = b""  # as it was at first
    end: int = 0  # its length
    size: int = 0  # of it and the body that it tells of; -1 where that is too much

    def __post_init__(self) -> None:
        length = int(self.digits)
        self.whole = self.before + self.digits + self.behind
        self.end = len(self.whole)
        self.size = self.end + length if length <= self.limits.body_bytes else -1

    def __repr__(self) -> str:
        return "Head(***)"

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of the header with this lower-case name; not of the content-length, which differs."""
        return self.fields.get(name)

    def body(self, data: bytes) -> bytes | None:
        """Return the body, if `data` is this head again, whatever its length is, the body, and nothing behind; else None."""
        length = len(data) - self.end
        digits = b"%d" % length
        if len(digits) == len(self.digits) and data[: self.end] == self.before + digits + self.behind:  # most likely
            return data[self.end :] if 0 <= length <= self.limits.body_bytes else None
        start, behind = self.start, self.behind
        end = data.find(b"\r", start, start + DIGITS + 1)
        digits = data[start:end]
        length = len(data) - end - len(behind)
        is_it = (
            0 <= length <= self.limits.body_bytes
            and digits == b"%d" % length
            and data.startswith(self.before)
            and data.startswith(behind, end)
        )
        return data[end + len(behind) :] if is_it else None

    def request(self, body: bytes, ends: "Endpoints", begun: Any = None) -> Request:
        """Return the request of this head with such a body."""
        headers, fields = self.headers, self.fields
        digits = b"%d" % len(body)
        if digits != self.digits:
            headers, fields = headers.copy(), fields.copy()
            headers[self.place] = (b"content-length", digits)
            fields[b"content-length"] = digits
        parts = (self.target, self.path, self.query, headers, body, "1.1", self.peer, True, fields, ends, self, begun)
        return Request("POST", *parts)


class Limits(msgspec.Struct, frozen=True):
    """What one client may ask of the server. Times are kept to within 0.25 s."""

    header_bytes: int = 32_768  # where the head arrives in pieces, up to one read of the socket more
    header_count: int = 100
    body_bytes: int = 20 * 1024 * 1024
    header_s: float = 9.0  # for the whole head; on a new connection from its start
    body_s: float = 60.0
    body_idle_s: float = 9.0
    body_rate: int = 1024  # bytes a second that a body has to bring, all in all, once `body_idle_s` have passed
    keepalive_s: float = 75.0
    write_stall_s: float = 60.0  # a congested reply of which nothing is read
    connections: int = 10_000
    line_s: float = 1.0  # how long the first call in line may have waited for its turn, before others are turned away
    busy_poll_s: float = 0.0  # see `busy_poll`; 0: never
    pipelined: int = 16  # requests that wait behind the one being answered; then reading pauses

    @property
    def sweep_s(self) -> float:
        """Seconds between two looks at all connections."""
        shortest = min(self.header_s, self.body_s, self.body_idle_s, self.keepalive_s, self.write_stall_s)
        return max(0.005, min(0.25, shortest / 4))


DEFAULTS: Final = Limits()


class Endpoints(msgspec.Struct, frozen=True, gc=False):
    """Both ends of a connection, as (address, port); `scheme` is `http` or `https`."""

    client: tuple[str, int]
    server: tuple[str, int]
    scheme: str

    @classmethod
    def of(cls, transport: BaseTransport) -> Self:
        """Return the ends of a transport; a Unix socket has no address."""
        names = (transport.get_extra_info("peername"), transport.get_extra_info("sockname"))
        client, server = ((name[0], name[1]) if isinstance(name, tuple) else ("", 0) for name in names)
        return cls(client, server, "http" if transport.get_extra_info("sslcontext") is None else "https")


class Refused(Exception):
    """The request breaks a rule of HTTP or a limit: it gets this answer, and the connection ends."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def refuse(message: str) -> NoReturn:
    """Raise the verdict 400."""
    raise Refused(400, "bad_request", message)


def split_target(method: str, target: bytes) -> tuple[str, bytes]:
    """Return (path, query) of a request target in origin, absolute or asterisk form (RFC 9112, section 3.2)."""
    text = target.decode("latin-1")
    if text[:1] != "/":
        text = _origin_form(method, text)
    if "#" in text:
        refuse("the request target holds a fragment ('#'): percent-encode it or leave it out")
    query = b""
    if "?" in text:
        text, _, raw = text.partition("?")
        query = raw.encode("latin-1")
    if "%" in text:
        try:
            text = unquote(text, errors="strict")
        except UnicodeDecodeError:
            refuse("the percent-encoded path is not UTF-8")
    return text, query


def _origin_form(method: str, text: str) -> str:
    if method == "CONNECT":
        raise Refused(405, "method_not_allowed", "CONNECT is not served: this is no tunnel")
    if text == "*":
        if method != "OPTIONS":
            refuse("the target '*' goes with OPTIONS only")
        return text
    scheme, mark, rest = text.partition("://")
    if not mark or scheme.lower() not in ("http", "https"):
        refuse("the request target must be a path or an http(s) address")
    for place, char in enumerate(rest):
        if char == "/":
            return rest[place:]
        if char in "?#":
            return "/" + rest[place:]
    return "/"


def check_head(headers: list[Header], version: str, header_count: int) -> tuple[dict[bytes, bytes], bool]:
    """Return the first value of each name and whether the client waits for `100 Continue`; raise `Refused`.

    Cost matters here: this runs for every request. One dictionary answers nearly all questions.
    """
    count = len(headers)
    if count > header_count:
        raise Refused(431, "headers_too_large", f"more than {header_count} header lines: send fewer")
    fields = dict(headers)
    if version != "1.1" and version != "1.0":  # noqa: PLR1714 - a set would be built for every request
        raise Refused(505, "version_not_supported", f"HTTP/{version} is not spoken here: use HTTP/1.1")
    if len(fields) != count:
        fields = _first_values(headers)
    waits = False
    if not _RARE.isdisjoint(fields):
        waits = _check_rare(fields, version)
    host = fields.get(b"host")
    if host is None:
        if version == "1.1":
            refuse("the Host header is missing: HTTP/1.1 requires it")
    elif host.translate(None, _HOST_BYTES):
        refuse("the Host header is not a host name with an optional port")
    return fields, waits


def _first_values(headers: list[Header]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in fields:
            if name == b"host":
                refuse("more than one Host header")
        else:
            fields[name] = value
    return fields


def _check_rare(fields: dict[bytes, bytes], version: str) -> bool:
    """Judge the headers that change framing or ask for an interim reply; return whether the client waits for 100."""
    if b"content_length" in fields or b"transfer_encoding" in fields:
        refuse("header names with an underscore that imitate framing are refused: use '-'")
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if version != "1.1":
            refuse("Transfer-Encoding does not go with HTTP/1.0")
        if coding.strip(b" \t").lower() != b"chunked":
            refuse("the only transfer coding understood is a single 'chunked'")
    expect = fields.get(b"expect")
    if expect is None or version != "1.1":
        return False
    if expect.strip(b" \t").lower() != b"100-continue":
        raise Refused(417, "expectation_failed", "the only expectation met is '100-continue'")
    return True

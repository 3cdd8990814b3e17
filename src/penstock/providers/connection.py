"""One HTTP/1.1 client connection and the reply that it carries: an `asyncio.Protocol` over llhttp.

Writes a complete request with one `write`, parses the reply as it arrives and wakes its reader once per event: for a reply
that is not a stream when the whole body is there, for a stream at the end of its head and then at each arrival, which goes
to its `sink` at once where there is one. A short reply whose head is known (`head.py`) is not parsed, nor are chunks that the
`short` way takes. Every way to fail ends as one `Fault`; a connection goes back to the pool only after a complete reply that
leaves it in step. It knows bytes only: no dialect, no JSON, no retry (see `sent`, `reused`), no redirect; no HEAD, no CONNECT.

States of a connection: idle (`reply` is None), head (`_status` is 0), body, ended; then idle again, or dropped. Time is kept
from outside: the sweep of `pool.py` compares `due` and `deadline` with its clock and calls `expire`.

Source: RFC 9112 (framing), RFC 9110 (semantics). Place in the line: `pool.py` opens the connections and lends them.
"""

import asyncio
import ssl
from collections import deque
from math import inf
from typing import Final, cast

import httptools

from penstock.passage import Passage, Passages
from penstock.providers.exchange import Fault, FaultKind, Guide, Header, Limits, Owner, Reply, Sink, shorten
from penstock.providers.head import OK, Framing, Heads, body, promised, weight
from penstock.providers.inflate import Inflate
from penstock.providers.sending import Sending

_BACKLOG_BYTES: Final = 256 * 1024
_LOOSE_PIECES: Final = 64  # of one arrival; more are joined, since each object weighs more than a tiny chunk
_UNREADABLE: Final = (httptools.HttpParserError, httptools.HttpParserUpgrade)
_NOT_INTERIM: Final = frozenset({*range(100), 101})  # 101 would be a switch of protocols


class Connection(Sending, asyncio.Protocol):
    """One socket to one upstream, with one exchange at a time. The parser calls the methods named `on_...`."""

    __slots__ = (
        *("alive", "chunks", "guide", "inflate", "on_body", "on_chunk_complete", "on_chunk_header", "short", "sink"),
        *("_barren", "_ended", "_fields", "_held", "_interim", "_keep", "_keepalive_s", "_known", "_label"),
        *("_limits", "_owner", "_parser", "_paused", "_plain", "_status", "_teaches", "_time", "_transport", "_used"),
        *("at_line", "idle_s", "within", "_passages"),
    )

    _transport: asyncio.Transport

    def __init__(self, owner: "Owner[Connection]", limits: Limits, label: str, known: Heads | None = None) -> None:
        """`known` are the heads that all connections to one upstream have seen."""
        super().__init__(asyncio.get_running_loop())
        self.sink: Sink | None = None  # is handed what arrives, unless that came compressed
        self.guide: Guide | None = None  # knows what may pass without being parsed
        self.short: Passage | None = None  # the way that takes what arrives next, between two chunks
        self.chunks: list[bytes] = []  # of the body: arrived, not taken
        self.on_body = self.chunks.append  # for the parser, without a Python frame in between
        self.within = deque((False, True))  # whether the parser is within a chunk: it turns this at both ends of each
        self.on_chunk_header = self.on_chunk_complete = self.within.rotate
        self.alive = True
        self._owner = owner
        self._limits = limits
        self._label = label
        self._time, self._passages = self.loop.time, Passages.of(self.loop)
        self._first_byte_s, self.idle_s, self._keepalive_s = limits.first_byte_s, limits.idle_s, limits.keepalive_s
        self._parser = httptools.HttpResponseParser(self)
        self.inflate: Inflate | None = None
        self._known = Heads() if known is None else known
        self._fields: list[Header] = []
        self._status = 0  # of the reply, once its head is complete
        self._plain = False  # the last head is one that may come again, and nothing has come behind that reply
        self._teaches = self._ended = False  # the head may be remembered; the reply is complete
        self._barren = 0  # bytes that have arrived since the last byte of a body
        self._held = 0  # bytes of the body that are in `chunks`
        self.at_line = False  # what was parsed last ended with the end of a line
        self._interim = 0  # 1xx replies so far
        self._keep = True  # the connection may carry another exchange
        self._used = self._paused = False

    def take(self) -> bytes:
        """Give what has arrived, and let more come."""
        data = b"".join(self.chunks)
        self.chunks.clear()
        self._held = 0
        if self._paused:
            self._paused = False
            self.due = self._time() + self.idle_s
            self._transport.resume_reading()
        return data

    def linger(self, seconds: float) -> None:
        """Give the reply a little time to come to its end; nobody reads what comes."""
        self.chunks.clear()
        self._held = 0
        self.deadline = min(self.deadline, self._time() + seconds)

    def expire(self, now: float) -> None:
        """End what has outlived its time, and tell which time that was."""
        limits, reply = self._limits, self.reply
        if now < self.deadline and self._passages.brought(self):
            return  # it has spoken, and only was not heard yet
        if reply is None:
            self.drop()
        elif now >= self.deadline:
            self._cut("deadline", "had not finished its reply when the time for the call was over")
        elif not reply.first_byte_at:
            self._cut("first_byte_timeout", f"sent no byte of a reply within {limits.first_byte_s:g} s")
        else:
            self._cut("idle_timeout", f"fell silent for {limits.idle_s:g} s within its reply")

    def drop(self) -> None:
        """End the connection at once and for good."""
        if self.alive:
            self.alive, self.pending = False, b""
            self._transport.abort()
            self._owner.lost(self)

    def fail(self, kind: FaultKind, detail: str) -> None:
        """End the connection, and the exchange on it with a fault."""
        reply, is_unsent = self.reply, bool(self.pending)
        self.drop()
        if reply is not None:
            reply.unsent = reply.unsent or is_unsent
            reused = self._used and kind in {"closed", "reset"} and not reply.first_byte_at and not self._interim
            reply.fault = Fault(kind, detail, sent=True, reused=reused)
            if reply.streamed:
                reply.rest = b"".join(self.chunks)
            self.chunks.clear()
            self.sink = self.guide = self.short = self.inflate = self.reply = reply.connection = None
            reply.wake()

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take hold of the transport; with hardly any room in its buffer, `pause_writing` tells that a request waits there."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=1)  # with 0, TLS pauses on an empty buffer
        self.send = self._transport.write

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, then finish, feed or refuse the reply; what may take the short way need not be parsed."""
        if (short := self.short) is not None:
            arrive = self._passages.arrive  # what a slot holds is called at less cost once it is at hand
            arrive((short, data))
            return
        if self._plain and (reply := self.reply) is not None:
            known, time = self._known, self._time
            if (len(data) == known.size and data[: known.end] == known.head) or known.find(
                data, self._limits.reply_bytes
            ):
                now = time()  # to parse it would tell nothing new
                reply.status, reply.headers, reply.first_byte_at = OK, known.fields, now
                reply.whole = reply.rest = data[known.end :]
                self._settle(reply, now)
                return
        sink = self.sink
        if sink is None:
            self._received(data)
            return
        self.due = self._time() + self.idle_s
        try:
            self._parser.feed_data(data)
        except _UNREADABLE as error:
            if self._broke(error):
                return
        chunks = self.chunks
        if chunks and not self._ended:  # they are taken all at once, so there is nothing to account for
            piece = b"".join(chunks)
            chunks.clear()
            self._barren = 0
            self.at_line = data.endswith(b"\n")
            if sink(piece):
                self.fill()
            elif self.guide is not None:
                shorten(self)
        else:
            self._barren += len(data)
            self._judge(0, self._status, self._time())

    def fill(self) -> None:
        """Hand on nothing more for now."""
        self.sink = self.guide = self.short = None
        if self.reply is not None:
            self.reply.wake(is_full=True)

    def read_on(self, data: bytes) -> None:
        """Do as `data_received` for what could not take the short way; what is raised ends the connection."""
        try:
            self.data_received(data)
        except BaseException as why:
            self._sever(why)
            raise

    def _received(self, data: bytes) -> None:
        """Take what completes a reply or a head, or is kept for a reader."""
        reply = self.reply
        if reply is None:
            self.drop()  # bytes that nobody asked for: the connection is out of step
            return
        now, self._plain = self._time(), False
        is_first = not reply.first_byte_at and not self._interim
        if not reply.first_byte_at:
            reply.first_byte_at = now
        self.due = now + self.idle_s
        self._barren += len(data)
        self.at_line = data.endswith(b"\n")
        before, begun = len(self.chunks), self._status
        try:
            self._parser.feed_data(data)
        except _UNREADABLE as error:
            if self._broke(error):
                return
        if self._ended and self.inflate is None:
            self._finish(reply, now)
            if self._teaches and self.alive:
                self._plain = is_first and self._known.learn(data, reply.headers, len(reply.rest))
        else:
            self._judge(before, begun, now)

    def _broke(self, error: Exception) -> bool:
        """Take in that what arrived cannot be read on; tell whether that ends the exchange."""
        self._keep = False
        if self._ended:  # the reply is complete, and what came too much is left alone
            return False
        cause = error.__context__
        if isinstance(cause, Fault):  # of one of the methods that the parser calls
            self.fail(cause.kind, cause.detail)
        else:
            self._cut("protocol", f"sent what is not HTTP/1.1: {error}")
        return True

    def _judge(self, before: int, begun: int, now: float) -> None:
        """Go on from what was parsed: before it there were so many pieces of the body, and this status."""
        reply = self.reply
        assert reply is not None, "whatever ends a reply within the parser is a fault, which has been seen to"
        refused = None if self.inflate is None else self.inflate.unpack(self.chunks, before)
        if refused is not None:
            self._cut(*refused)
        elif self._ended:
            self._finish(reply, now)
        elif self._grow(reply, before) or (self._status and not begun and reply.streamed):
            reply.wake()

    def eof_received(self) -> None:
        """Judge the end of what the upstream sends: the end of a reply, the end of a silent connection, or a fault."""
        self._passages.read_of(self)
        self._hang_up("closed", "closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        """Judge the end of the connection, unless it was ours."""
        self._passages.read_of(self)
        self._sever(exc)
        del self._parser  # it holds our methods: a cycle

    def _sever(self, exc: BaseException | None) -> None:
        """Judge what broke the connection, if anything did: the network, or a defect of ours."""
        if exc is None:
            self._hang_up("closed", "closed the connection")
            return
        why = exc.strerror if isinstance(exc, OSError) else repr(exc)
        if self.reply is not None and self.sink is not None and not isinstance(exc, OSError):
            self.reply.defect = exc  # raised by the sink within `data_received`
        self._hang_up("tls" if isinstance(exc, ssl.SSLError) else "reset", f"broke the connection ({why})")

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Refuse bytes that follow a complete reply, since nobody has asked for another; drop the trailer before them."""
        if self._ended:
            raise self._fault("protocol", "sent more than one reply")
        if self._fields:
            self._fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header of the head, or of a trailer, which nobody sees."""
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Read from the head how the reply goes on."""
        reply, parser, fields = self.reply, self._parser, self._fields
        assert reply is not None, "the parser is fed only while a reply is awaited"
        most = self._limits.head_bytes
        if self._barren > most and weight(fields) > most:  # one read may have brought more than the head
            raise self._fault("too_large", f"sent a head of more than {most} bytes")
        self._fields = []
        status = parser.get_status_code()
        if status < OK:
            self._take_interim(reply, status)
            return
        framing = dict(fields)
        keep = self._keep = parser.should_keep_alive()
        self._status = reply.status = status
        reply.headers = fields
        reply.streamed, reply.delimited, self._teaches = body(framing, status, keep=keep)
        if self._interim:
            reply.first_byte_at = self._time()
        if not (keep and self._used) or b"content-encoding" in framing or b"transfer-encoding" in framing:
            self._check(reply, framing)

    def on_message_complete(self) -> None:
        """Note that the reply has ended, if it is not one of those before the real one."""
        if self._status:
            self._ended = True

    def _check(self, reply: Reply, framing: Framing) -> None:
        """Refuse a head that promises what is not read here, and prepare for a body that came compressed."""
        refused, coding, keepalive_s = promised(framing, "1.1" if self._keep else self._parser.get_http_version())
        if refused is not None:
            raise self._fault(*refused)
        if coding:
            self.inflate = Inflate(self._limits.reply_bytes)
            gone = {b"content-encoding", b"content-length"}  # they describe bytes that are not given on
            reply.headers = [field for field in reply.headers if field[0] not in gone]
        if keepalive_s is not None:
            self._keepalive_s = min(self._keepalive_s, keepalive_s)

    def _take_interim(self, reply: Reply, status: int) -> None:
        """Pass over a 1xx reply; the time to the first byte starts again, since the real reply has not begun."""
        self._interim += 1
        if status in _NOT_INTERIM:
            raise self._fault("protocol", f"answered with status {status}, which was not asked for")
        if self._interim > self._limits.interim:
            raise self._fault("protocol", f"sent more than {self._limits.interim} interim (1xx) replies")
        reply.first_byte_at = 0.0
        self.due = self._time() + self._limits.first_byte_s

    def _grow(self, reply: Reply, before: int) -> bool:
        """Account for the pieces of the body that have arrived; tell whether a reader may take them."""
        new, limits = self.chunks[before:], self._limits
        if not new:
            if self._barren > limits.head_bytes:
                self._cut("too_large", f"sent more than {limits.head_bytes} bytes of headers or chunk framing")
            return False
        self._barren = 0
        self._held += sum(map(len, new))
        if len(new) > _LOOSE_PIECES:
            self.chunks[before:] = [b"".join(new)]
        if not reply.streamed:
            if self._held > limits.reply_bytes:
                self._cut("too_large", f"sent a body of more than {limits.reply_bytes} bytes")
            return False
        if self._held > _BACKLOG_BYTES:
            self.due = inf  # the silence is ours
            if not self._paused:
                self._paused = True
                self._transport.pause_reading()
        return True

    def _finish(self, reply: Reply, now: float) -> None:
        """Let a complete reply go to its reader, if it is what it should be."""
        chunks, limits = self.chunks, self._limits
        if self.inflate is not None and not self.inflate.finished:
            self._cut("truncated", "ended a compressed body too early")
            return
        reply.rest = b"".join(chunks)
        if not reply.streamed:
            if len(reply.rest) > limits.reply_bytes:
                self._cut("too_large", f"sent a body of more than {limits.reply_bytes} bytes")
                return
            reply.whole = reply.rest
        chunks.clear()
        if self._paused and self._keep:
            self._paused = False
            self._transport.resume_reading()
        self.sink = self.guide = self.short = self.inflate = None
        self._ended = False
        self._status = self._barren = self._held = self._interim = 0
        self._settle(reply, now)

    def _settle(self, reply: Reply, now: float) -> None:
        """Give a reply that has ended to its reader, and the connection to the pool, if it is in step."""
        self.reply = reply.connection = None
        waiter, reply.waiter = reply.waiter, None
        if waiter is not None and not (isinstance(waiter, asyncio.Future) and waiter.done()):
            waiter.set_result(False)
        if not self._keep or self._unsent:
            self.drop()
            return
        self.due, self.deadline, self._used = now + self._keepalive_s, inf, True
        release = self._owner.release
        release(self)

    def _hang_up(self, kind: FaultKind, how: str) -> None:
        """Judge an end of the connection: the end of a body, a cut, or nothing that concerns anybody."""
        reply = self.reply
        if reply is None:
            self.drop()
        elif not self._status:
            self._cut(kind, f"{how} before the end of its reply's head")
        elif kind != "closed":
            self._cut(kind, f"{how} within its reply")
        elif reply.delimited == "close":
            self._keep = False
            self._finish(reply, inf)
        else:
            self._cut("truncated", f"{how} before the end of its reply")

    def _cut(self, kind: FaultKind, what: str) -> None:
        self.fail(kind, f"{self._label} {what}")

    def _fault(self, kind: FaultKind, what: str) -> Fault:
        return Fault(kind, f"{self._label} {what}", sent=True)

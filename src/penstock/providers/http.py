"""Any HTTP provider: a dialect, an address, a credential and a pool.

It sends one call and gives its reply as chunks; a failure of any kind leaves it as an `UpstreamError` that says what the
line may do next. It never retries, never follows a redirect and never shows a credential.

Verbatim lane: client and provider speak the same dialect and only top-level members differ. Then the client's own body
goes out with those members spliced in, and the reply's bytes come back untouched beside their meaning.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from msgspec import Struct, structs

from penstock.call import Call, Operation
from penstock.errors import (
    Inexpressible,
    PenstockError,
    UpstreamAuth,
    UpstreamGarbled,
)
from penstock.passage import Taker
from penstock.providers.auth import Header, authority, static_key
from penstock.providers.exchange import Fault, Limits, Reply
from penstock.providers.failures import failure, retry_after_s, spelled_out
from penstock.providers.head import Passed
from penstock.providers.kinds import VERTEX_VERSION, base_url, dialect_of, path
from penstock.providers.pool import Address, Pool, proxy_for
from penstock.providers.prepared import Prepared
from penstock.providers.secrecy import HIDDEN, Secrecy
from penstock.providers.writing import LIMIT_NEEDED, fixed_lines, trusted, typed
from penstock.receipt import Lane
from penstock.reply import Chunk, Ended, Failed
from penstock.settings import ProviderSettings
from penstock.target import Target
from penstock.wire.dialect import Dialect, Readers, StreamReader, Tell, told_nothing
from penstock.wire.extras import neutral
from penstock.wire.registry import dialect, on_vertex

_LENGTH = b"content-length: %d\r\n\r\n"
REMEMBERED = 1000
"""Paths of models that are remembered."""

T = TypeVar("T")

_Question = tuple[str, Operation, bool, str, str]  # of what model, whether it streams, the path's form, the dialect


class _Route(Struct, frozen=True):
    """How one kind of question to one model is asked: in which dialect, where, and with which head.

    own      the call is in the provider's own dialect
    passes   what the client's head says to this dialect goes along
    mute     of a stream: the provider cannot be asked for usage
    tell     says a whole reply in one value, where the dialect can
    reader   makes the reader of a stream
    """

    speaks: Dialect
    path: str
    head: bytes
    own: bool
    passes: bool
    mute: bool
    tell: Tell
    reader: Readers


class _Asked(Struct, frozen=True):
    """A question that is on its way: in which lane, and what of it had to be left out."""

    route: _Route
    call: Call
    target: Target
    lane: Lane = "verbatim"
    dropped: tuple[str, ...] = ()


class HttpProvider:
    """A provider reached over HTTP. `dialect` is the name of what it speaks."""

    def __init__(self, settings: ProviderSettings) -> None:
        """Resolve address, dialect and credential; no connection is made yet. Raises ConfigError."""
        self.dialect = dialect_of(settings)
        address, self._prefix = Address.parse(base_url(settings))
        self._settings = settings
        self._speaks = _speaks(settings, self.dialect)
        self._pool = Pool(
            address,
            Limits(
                connect_s=settings.connect_s,
                first_byte_s=settings.first_byte_s,
                idle_s=settings.idle_s,
                connections=settings.concurrency,
            ),
            proxy=proxy_for(address, {name: value.reveal() for name, value in settings.proxy_environ}),
            tls=None if settings.ca_file is None else trusted(settings.name, str(settings.ca_file)),
        )
        self._authority = authority(settings, address.host_header.decode())
        self.secrecy = Secrecy(static_key(settings), self._authority)
        self._fixed = fixed_lines(address.host_header, settings)
        self._routes: dict[_Question, _Route] = {}
        self.silent: Sequence[Header] = ()  # the headers of a reply, of which there was nothing to pass on
        self._passed = Passed()

    async def send(self, call: Call, target: Target, deadline: float) -> "WholeExchange | StreamExchange":
        """Send the call and wait until its reply begins (for one that is not a stream: until it is complete)."""
        route = self._asked(call, target)
        if route.mute:
            call = structs.replace(call, stream_usage=True)  # as if it were asked for already: nothing is added
        dropped: tuple[str, ...] = ()
        body = route.speaks.splice(call, target.model) if route.own and call.raw else None
        lane: Lane = "translated" if body is None else "verbatim"
        if body is None:
            body, dropped = self._written(route.speaks, call, target)
        reply = None if self._authority is not None else self._pool.begin(_request(route, call, body), deadline)
        if reply is None:  # a signature or a connection has to be had first
            reply = await self._ask(route, call, body, target, deadline)
        else:
            await reply.begun()
        return await self._arrived(reply, _Asked(route, call, target, lane, dropped))

    def prepare(self, call: Call, target: Target) -> "Prepared | None":
        """Give a call that can be sent this moment, on the verbatim lane, without waiting for anything; None for any other.

        Of a stream nothing is told: it is for a task from its beginning on.
        """
        if self._authority is not None or call.headers or not call.raw or not self._pool.ready:
            return None
        asked = (target.model, call.operation, call.stream, call.form, call.dialect)
        route = self._routes.get(asked) or self._route(asked)
        if route is None or not route.own or route.mute:
            return None
        body = route.speaks.splice(call, target.model)
        if body is None:
            return None
        request = b"".join((route.head, _LENGTH % len(body), body))
        return Prepared(self, self._pool, call, target, told_nothing if call.stream else route.tell, request)

    def whole(self, reply: Reply, call: Call, target: Target) -> "WholeExchange | None":
        """Give the answer to what was `prepare`d, where that is what has come, all of it; none to who asked for a stream."""
        if reply.whole is None or reply.status != 200 or call.stream:
            return None
        headers = () if reply.headers is self.silent else self.pass_on(reply.headers)
        return WholeExchange(
            self, self._asked(call, target).speaks, reply.whole, target.id, "verbatim", (), headers, True
        )

    async def arrived(self, reply: Reply, call: Call, target: Target) -> "WholeExchange | StreamExchange":
        """Give what has come to what was `prepare`d, or raise what came instead of a reply."""
        return await self._arrived(reply, _Asked(self._asked(call, target), call, target))

    async def _arrived(self, reply: Reply, asked: _Asked) -> "WholeExchange | StreamExchange":
        """Give the exchange of a reply that has begun, or raise what came instead of one."""
        route, call, target, lane = asked.route, asked.call, asked.target.id, asked.lane
        if reply.status != 200 or (reply.fault is not None and not reply.streamed):
            await self._judge(reply, target, route.speaks)
        if call.stream is not (reply.whole is None):
            lane = "translated"  # one piece came instead of a stream: it has to be written as a stream
        headers = () if reply.headers == self.silent else self.pass_on(reply.headers)
        if reply.whole is not None:
            return WholeExchange(self, route.speaks, reply.whole, target, lane, asked.dropped, headers, route.own)
        reader = route.reader(strip_usage=call.stream and not call.stream_usage)
        return StreamExchange(self, reader, reply, target, lane, asked.dropped, headers, route.own, call.stream)

    async def count(self, call: Call, target: Target, deadline: float) -> int | None:
        """Ask the provider how many tokens a prompt has; None where it has no such question."""
        route = self._route((target.model, "count", False, "", call.dialect))
        body = None if route is None else route.speaks.write_count_request(call, target.model)
        if route is None or body is None:
            return None
        reply = await self._ask(route, call, body, target, deadline)
        await self._judge(reply, target.id, route.speaks)
        if reply.whole is None:
            reply.close()
            raise UpstreamGarbled(f"{target.id} answered with a stream that nobody asked for.")
        return route.speaks.read_count(reply.whole)

    def _asked(self, call: Call, target: Target) -> _Route:
        """Give how a call is asked. Raises Inexpressible where the provider cannot be asked that."""
        asked = (target.model, call.operation, call.stream, call.form, call.dialect)
        route = self._routes.get(asked) or self._route(asked)
        if route is None:
            raise Inexpressible(f"{target.id} cannot be asked to {call.operation}.", hint="Ask another model.")
        return route

    def _route(self, asked: _Question) -> _Route | None:
        """Give what is known of a question, remembered; None where the provider cannot be asked that."""
        model, operation, stream, form, own_dialect = asked
        speaks = self._speaks.get("generate" if operation == "count" else operation)
        form = form if own_dialect == self.dialect else ""
        where = path(self._settings, self._prefix, model, operation, stream=stream, form=form)
        if speaks is None or where is None:
            return None
        if len(self._routes) >= REMEMBERED:  # clients may ask for any model
            self._routes.clear()
        head = b"POST " + where.encode() + b" HTTP/1.1\r\n" + self._fixed
        own, passes = own_dialect == speaks.name, own_dialect == self.dialect
        tell: Tell = getattr(speaks, "tell", told_nothing)
        readers: Callable[[], Readers] | None = getattr(speaks, "stream_readers", None)
        reader = speaks.stream_reader if readers is None else readers()
        mute = stream and not self._settings.stream_usage
        route = _Route(speaks, where, head, own, passes, mute, tell, reader)
        self._routes[asked] = route
        return route

    def _written(self, speaks: Dialect, call: Call, target: Target) -> tuple[bytes, tuple[str, ...]]:
        """Write the call in the provider's own dialect; refuse what it cannot say where the caller wants that."""
        longest = target.profile.output_tokens
        if call.sampling.max_tokens is None and longest is not None and call.operation == "generate":
            known = structs.replace(call.sampling, max_tokens=longest)
            call = structs.replace(call, sampling=known) if speaks.name in LIMIT_NEEDED else call
        body, dropped = speaks.write_request(call, target.model)
        if dropped and (call.strict or target.strict):
            raise Inexpressible(
                f"{target.id} cannot express {', '.join(dropped)}.",
                hint="Leave it out, ask another model, or allow that it is left out (strict = false).",
                param=dropped[0],
            )
        return body, dropped

    async def _ask(self, route: _Route, call: Call, body: bytes, target: Target, deadline: float) -> Reply:
        """Post a body and give the reply, whatever its status."""
        lines = b"" if self._authority is None else await self._authority.lines(route.path, body)
        try:
            return await self._pool.send(_request(route, call, body, lines), deadline=deadline)
        except Fault as fault:
            raise failure(fault, target.id) from None

    async def _judge(self, reply: Reply, target: str, speaks: Dialect) -> None:
        """Raise what came instead of an answer."""
        if reply.fault is not None and not reply.streamed:
            raise failure(reply.fault, target)
        if reply.status != 200:
            raise await self._refusal(reply, target, speaks)

    async def close(self) -> None:
        """Drop every connection."""
        if self._authority is not None:
            self._authority.close()
        self._pool.close()

    def pass_on(self, headers: Sequence[Header]) -> tuple[Header, ...]:
        """Keep what clients rely on, by a list of names; never a header that quotes our credential."""
        passed = [one for one in headers if self._passed[one[0]]]
        if not passed:
            self.silent = headers
            return ()
        return tuple(one for one in passed if not self.secrecy.shows(one[1].decode("latin-1")))

    async def _refusal(self, reply: Reply, target: str, speaks: Dialect) -> PenstockError:
        """Read an error reply and say what it means."""
        body = await reply.beginning()
        if reply.status < 400:
            return UpstreamGarbled(f"{target} answered with status {reply.status}, which is no answer to a call.")
        error = speaks.read_error(reply.status, typed(body, reply.header(b"x-amzn-errortype")))
        if self.secrecy.shows(spelled_out(body)):
            error.message, error.body = HIDDEN, b""
        if self._authority is not None and isinstance(error, UpstreamAuth):
            self._authority.forget()
        self.secrecy.keep(error)
        asked = retry_after_s(reply.header, datetime.now(UTC))
        error.retry_after_s = error.retry_after_s if asked is None else asked  # Google says it in the body
        error.message = f"{target}: {error.message}"
        return error


_LAST = frozenset({Ended, Failed})
"""What no other event follows, but the one the other."""


class WholeExchange(Struct, eq=False):
    """One reply that came in one piece."""

    provider: HttpProvider
    speaks: Dialect
    body: bytes | None  # until it is read
    target: str
    lane: Lane
    dropped: tuple[str, ...]
    headers: tuple[Header, ...]
    own: bool  # provider and caller speak the same
    status: int = 200

    __repr__ = object.__repr__  # shows no content

    async def read(self) -> Chunk | None:
        """Give the reply; None after it."""
        return self.take()

    def take(self) -> Chunk | None:
        """Do as `read`, which need not wait for anything."""
        body = self.body
        if body is None:
            return None
        self.body = None
        if self.lane == "verbatim":
            events = self.speaks.tap_reply(body)
        else:
            events = self.speaks.read_reply(body)
            events = events if self.own else neutral(events)
        if Failed in map(type, events):
            self.provider.secrecy.keep_in(events)
        return Chunk(events, body if self.lane == "verbatim" else None)

    def close(self) -> None:
        """Let go of it; its connection has gone back already."""
        self.body = None


class StreamExchange(Struct, eq=False):
    """One reply while it comes in."""

    provider: HttpProvider
    reader: StreamReader
    reply: Reply
    target: str
    lane: Lane
    dropped: tuple[str, ...]
    headers: tuple[Header, ...]
    own: bool
    asked: bool  # for a stream
    status: int = 200
    done: bool = False
    ended: bool = False  # the last event was seen
    say: Taker | None = None  # takes words that go on as they came

    __repr__ = object.__repr__

    async def read(self) -> Chunk | None:
        """Give what arrived since the last read; None after the end."""
        if self.done:
            return None
        if not self.asked:
            raise UpstreamGarbled(f"{self.target} answered with a stream that nobody asked for.")
        data = self.reply.taken()
        if data is None:
            try:
                data = await self.reply.read()
            except Fault as fault:
                raise failure(fault, self.target) from None
            self.done = data is None
        return self._hand(_as_it_is, data)

    async def pump(self, give: Callable[[Chunk], bool]) -> bool:
        """Hand each chunk to `give` the moment it arrives, until it says True; False where the reply has no more."""
        hand, say, knows = partial(self._hand, give), self.say, getattr(self.reader, "short_way", None)
        guide = None if knows is None or say is None or self.lane != "verbatim" else partial(knows, say)
        while not await self.reply.relay(hand, guide):
            chunk = await self.read()  # what had arrived before, came compressed, or is the end
            if chunk is None or give(chunk):
                return chunk is not None
        return True

    def _hand(self, give: Callable[[Chunk], T], data: bytes | None) -> T:
        """Read what has arrived, None for the end, and hand on what it says."""
        reader = self.reader
        events = reader.end() if data is None else reader.feed(data)
        if events and (kind := type(events[-1])) in _LAST:
            self.ended = kind is Ended
            if kind is Failed or (len(events) > 1 and type(events[-2]) is Failed):
                self.provider.secrecy.keep_in(events)
        events = events if self.own else neutral(events)
        return give(Chunk(events, reader.passed if self.lane == "verbatim" else None))

    def close(self) -> None:
        """Give the connection back if the reply is complete, else drop it at once."""
        self.done, self.say = True, None  # which refers back
        if self.ended:
            self.reply.leave()
        else:
            self.reply.close()


def _as_it_is(chunk: Chunk) -> Chunk:
    return chunk


def _request(route: _Route, call: Call, body: bytes, lines: bytes = b"") -> bytes:
    """Write a request; `lines` of its head are for it alone."""
    if call.headers and route.passes:
        lines = b"".join([name + b": " + value + b"\r\n" for name, value in call.headers]) + lines
    return b"".join((route.head, lines, _LENGTH % len(body), body))


def _speaks(settings: ProviderSettings, name: str) -> dict[Operation, Dialect]:
    """Give what a provider speaks, for each operation that it has."""
    answers = on_vertex(name, VERTEX_VERSION) if settings.kind == "vertex" else dialect(name)
    found: dict[Operation, Dialect] = {"generate": answers}
    with suppress(KeyError):
        found["embed"] = dialect(name, "embed")
    return found

"""Any HTTP provider: a dialect, an address, a credential and a pool.

It sends one call and gives its reply as chunks; a failure of any kind leaves it as an `UpstreamError` that says what the
line may do next. It never retries, never follows a redirect and never shows a credential.

Verbatim lane: client and provider speak the same dialect and only top-level members differ. Then the client's own body
goes out with those members spliced in, and the reply's bytes come back untouched beside their meaning.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from msgspec import Struct, structs

from penstock.call import Call, Operation
from penstock.errors import (
    ConfigError,
    Inexpressible,
    Mistake,
    PenstockError,
    UpstreamAuth,
    UpstreamError,
    UpstreamGarbled,
)
from penstock.providers.auth import Header, authority, credential_headers, static_key
from penstock.providers.connection import Fault, Limits, Reply
from penstock.providers.failures import failure, quotes, retry_after_s, spelled_out
from penstock.providers.kinds import VERTEX_VERSION, base_url, dialect_of, path
from penstock.providers.pool import Address, Pool, SSLContext, proxy_for, trust_store
from penstock.receipt import Lane
from penstock.reply import Chunk, Ended, Event, Failed
from penstock.settings import ProviderSettings
from penstock.target import Target
from penstock.wire.dialect import Dialect, StreamReader
from penstock.wire.extras import neutral
from penstock.wire.registry import dialect, on_vertex

PASSED_HEADERS = frozenset(
    {b"retry-after", b"x-request-id", b"request-id", b"openai-processing-ms", b"openai-version", b"x-amzn-requestid"}
)
PASSED_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-", b"openai-")
HIDDEN = "the provider's own words quote a credential and are not shown."
REMEMBERED = 1000
"""Paths of models that are remembered."""

LIMIT_NEEDED = frozenset({"messages"})
"""Dialects in which a request has to say how long the answer may be."""

ERROR_BYTES = 262_144
"""More of an error's body than this is not read."""

Shielded = TypeVar("Shielded", bound=PenstockError)


class _Route(Struct, frozen=True):
    """How one kind of question to one model is asked: in which dialect, where, and with which head."""

    speaks: Dialect
    path: str
    head: bytes


class HttpProvider:
    """A provider reached over HTTP. `dialect` is the name of what it speaks."""

    def __init__(self, settings: ProviderSettings) -> None:
        """Resolve address, dialect and credential; no connection is made yet. Raises ConfigError."""
        self.dialect = dialect_of(settings)
        address, self._prefix = Address.parse(base_url(settings))
        self._settings = settings
        self._speaks = _speaks(settings, self.dialect)
        self._key = static_key(settings)
        self._stream_usage = settings.stream_usage
        self._pool = Pool(
            address,
            Limits(
                connect_s=settings.connect_s,
                first_byte_s=settings.first_byte_s,
                idle_s=settings.idle_s,
                connections=settings.concurrency,
            ),
            proxy=proxy_for(address, {name: value.reveal() for name, value in settings.proxy_environ}),
            tls=None if settings.ca_file is None else _trusted(settings.name, str(settings.ca_file)),
        )
        self._authority = authority(settings, address.host_header.decode())
        self._fixed = _fixed_lines(address.host_header, settings)
        self._routes: dict[tuple[str, Operation, bool, str], _Route | None] = {}

    async def send(self, call: Call, target: Target, deadline: float) -> "HttpExchange":
        """Send the call and wait until its reply begins (for one that is not a stream: until it is complete)."""
        form = call.form if call.dialect == self.dialect else ""
        route = self._route(target, call.operation, call.stream, form)
        if route is None:
            raise Inexpressible(f"{target.id} cannot be asked to {call.operation}.", hint="Ask another model.")
        speaks = route.speaks
        if call.stream and not self._stream_usage:
            call = structs.replace(call, stream_usage=True)  # as if it were asked for already: nothing is added
        body = speaks.splice(call, target.model) if call.raw and call.dialect == speaks.name else None
        is_verbatim = body is not None
        dropped: tuple[str, ...] = ()
        if body is None:
            body, dropped = self._written(speaks, call, target)
        reply = await self._ask(route, call, body, target, deadline)
        exchange = HttpExchange(call, reply, speaks, target.id)
        exchange.shield = self.shield
        exchange.headers = self._pass_on(reply.headers)
        exchange.dropped = dropped
        if is_verbatim and call.stream is (reply.whole is None):
            exchange.lane = (
                "verbatim"  # else a stream was asked for and one piece came: it has to be written as a stream
            )
        return exchange

    async def count(self, call: Call, target: Target, deadline: float) -> int | None:
        """Ask the provider how many tokens a prompt has; None where it has no such question."""
        route = self._route(target, "count", False, "")
        body = None if route is None else route.speaks.write_count_request(call, target.model)
        if route is None or body is None:
            return None
        reply = await self._ask(route, call, body, target, deadline)
        if reply.whole is None:
            reply.close()
            raise UpstreamGarbled(f"{target.id} answered with a stream that nobody asked for.")
        return route.speaks.read_count(reply.whole)

    def _route(self, target: Target, operation: Operation, stream: bool, form: str) -> "_Route | None":  # noqa: FBT001
        """Give dialect, path and head of a question, remembered; None where the provider cannot be asked that."""
        key = (target.model, operation, stream, form)
        if key in self._routes:
            return self._routes[key]
        speaks = self._speaks.get("generate" if operation == "count" else operation)
        where = path(self._settings, self._prefix, target.model, operation, stream=stream, form=form)
        route = None
        if speaks is not None and where is not None:
            route = _Route(speaks, where, b"POST " + where.encode() + b" HTTP/1.1\r\n" + self._fixed)
        if len(self._routes) >= REMEMBERED:  # clients may ask for any model
            self._routes.clear()
        self._routes[key] = route
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

    async def _ask(self, route: "_Route", call: Call, body: bytes, target: Target, deadline: float) -> Reply:
        """Post a body and give the reply, if it is no error."""
        head = route.head
        if call.headers and call.dialect == self.dialect:
            head += b"".join([name + b": " + value + b"\r\n" for name, value in call.headers])
        if self._authority is not None:
            head += await self._authority.lines(route.path, body)
        try:
            reply = await self._pool.send(
                b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body), deadline=deadline
            )
        except Fault as fault:
            raise failure(fault, target.id) from None
        if reply.status != 200:
            raise await self._refusal(reply, target.id, route.speaks)
        return reply

    async def close(self) -> None:
        """Drop every connection."""
        if self._authority is not None:
            self._authority.close()
        self._pool.close()

    def _pass_on(self, headers: list[Header]) -> tuple[Header, ...]:
        """Keep what clients rely on, by a list of names; never a header that quotes our credential."""
        passed = [one for one in headers if one[0] in PASSED_HEADERS or one[0].startswith(PASSED_PREFIXES)]
        if not passed:
            return ()
        return tuple(one for one in passed if not self._shows(one[1].decode("latin-1")))

    def shield(self, error: Shielded) -> Shielded:
        """Take the provider's words out of an error that quotes our credential."""
        if self._shows(error.message):
            error.message = HIDDEN
            if isinstance(error, UpstreamError):
                error.body = b""
        return error

    def _shows(self, text: str) -> bool:
        """Tell whether a text quotes our credential."""
        return quotes(self._key, text) or (self._authority is not None and quotes(self._authority.text, text))

    async def _refusal(self, reply: Reply, target: str, speaks: Dialect) -> PenstockError:
        """Read an error reply and say what it means."""
        body = reply.whole
        if body is None:
            body = b""
            try:
                while len(body) < ERROR_BYTES and (data := await reply.read()) is not None:
                    body += data
            except Fault:
                pass  # the status alone says enough
            finally:
                reply.close()
        if reply.status < 400:
            return UpstreamGarbled(f"{target} answered with status {reply.status}, which is no answer to a call.")
        error = speaks.read_error(reply.status, _typed(body, reply.header(b"x-amzn-errortype")))
        if self._shows(spelled_out(body)):
            error.message, error.body = HIDDEN, b""
        if self._authority is not None and isinstance(error, UpstreamAuth):
            self._authority.forget()
        self.shield(error)
        asked = retry_after_s(reply.header, datetime.now(UTC))
        error.retry_after_s = error.retry_after_s if asked is None else asked  # Google says it in the body
        error.message = f"{target}: {error.message}"
        return error


_LAST = frozenset({Ended, Failed})
"""What no other event follows, but the one the other."""


class HttpExchange:
    """One reply while it comes in."""

    __slots__ = (
        "_call",
        "_done",
        "_ended",
        "_own",
        "_reader",
        "_reply",
        "_speaks",
        "_target",
        "dropped",
        "headers",
        "lane",
        "shield",
        "status",
    )

    def __init__(self, call: Call, reply: Reply, speaks: Dialect, target: str) -> None:
        self.lane: Lane = "translated"
        self.dropped: tuple[str, ...] = ()
        self.status = reply.status
        self.headers: tuple[Header, ...] = ()
        self._call = call
        self._reply = reply
        self._speaks = speaks
        self._target = target
        self._reader: StreamReader | None = None
        self._done = False
        self._ended = False
        self._own = call.dialect == speaks.name
        self.shield: Callable[[PenstockError], PenstockError] = lambda error: error
        if reply.whole is None:
            self._reader = speaks.stream_reader(strip_usage=call.stream and not call.stream_usage)

    async def read(self) -> Chunk | None:
        """Give what arrived since the last read; None after the end."""
        if self._done:
            return None
        try:
            return await self._stream() if self._reader is not None else self._whole()
        except Fault as fault:
            raise failure(fault, self._target) from None

    def _whole(self) -> Chunk:
        self._done = True
        body = self._reply.whole
        assert body is not None, "a reply without a stream reader is whole"
        self._reply.close()
        if self.lane == "verbatim":
            return Chunk(self._shielded(self._speaks.tap_reply(body)), body)
        events = self._shielded(self._speaks.read_reply(body))
        return Chunk(events if self._own else neutral(events))

    async def _stream(self) -> Chunk:
        if not self._call.stream:
            raise UpstreamGarbled(f"{self._target} answered with a stream that nobody asked for.")
        return self._read(await self._reply.read())

    async def pump(self, give: Callable[[Chunk], bool]) -> bool:
        """Hand each chunk to `give` the moment it arrives, until it says True; False where the reply has no more."""
        stopped = False

        def arrived(data: bytes) -> bool:
            nonlocal stopped
            stopped = give(self._read(data))
            return stopped

        while True:
            await self._reply.relay(arrived)
            if stopped:
                return True
            chunk = await self.read()  # what had arrived before, or the end: no wait
            if chunk is None or give(chunk):
                return chunk is not None

    def _read(self, data: bytes | None) -> Chunk:
        reader = self._reader
        assert reader is not None, "called for streams only"
        if data is None:
            self._done = True
            events = self._shielded(reader.end())
        else:
            events = reader.feed(data)
            if events and (kind := type(events[-1])) in _LAST:
                self._ended = kind is Ended
                self._shielded(events)
        if not self._own:
            events = neutral(events)
        return Chunk(events, reader.passed if self.lane == "verbatim" else None)

    def _shielded(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """See that an error which the provider puts into its reply quotes no credential."""
        for event in events:
            if type(event) is Failed:
                self.shield(event.error)
        return events

    def close(self) -> None:
        """Give the connection back if the reply is complete, else drop it at once."""
        self._done = True
        if self._ended:
            self._reply.leave()
        else:
            self._reply.close()


def _typed(body: bytes, kind: bytes | None) -> bytes:
    """Put the type of an error into its body, where AWS says it in a header alone."""
    word = (kind or b"").partition(b":")[0]
    if not word.isalnum() or not body.startswith(b"{") or b'"__type"' in body:
        return body
    rest = body[1:].lstrip()
    return b'{"__type":"%b"%b%b' % (word, b"" if rest.startswith(b"}") else b",", rest)


def _speaks(settings: ProviderSettings, name: str) -> dict[Operation, Dialect]:
    """Give what a provider speaks, for each operation that it has."""
    answers = on_vertex(name, VERTEX_VERSION) if settings.kind == "vertex" else dialect(name)
    found: dict[Operation, Dialect] = {"generate": answers}
    with suppress(KeyError):
        found["embed"] = dialect(name, "embed")
    return found


def _trusted(name: str, ca_file: str) -> SSLContext:
    """Read the certificates that a provider's own may go back to. Raises ConfigError where there are none."""
    try:
        return trust_store(ca_file)
    except OSError:  # what TLS raises is one
        mistake = Mistake(f"providers.{name}.ca_file", f"{ca_file} holds no certificate.", None, "Give a file in PEM.")
        raise ConfigError("the configuration", (mistake,)) from None


def _fixed_lines(host: bytes, settings: ProviderSettings) -> bytes:
    """Write the lines of a head that are the same for every question."""
    own = tuple((name.lower().encode(), value.encode()) for name, value in settings.headers)
    lines = [
        b"host: " + host,
        b"content-type: application/json",
        b"accept: */*" if settings.kind == "bedrock" else b"accept: application/json, text/event-stream",
        b"accept-encoding: identity",
        b"user-agent: penstock",
        *(name + b": " + value for name, value in (*credential_headers(settings), *own)),
        b"",
    ]
    return b"\r\n".join(lines)

"""Any HTTP provider: a dialect, an address, a credential and a pool.

It sends one call and gives its reply as chunks; a failure of any kind leaves it as an `UpstreamError` that says what the
line may do next. It never retries, never follows a redirect and never shows a credential.

Verbatim lane: client and provider speak the same dialect and only top-level members differ. Then the client's own body
goes out with those members spliced in, and the reply's bytes come back untouched beside their meaning.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isnan
from types import MappingProxyType
from typing import TypeVar

import msgspec
from msgspec import structs

from penstock.call import Call
from penstock.errors import (
    ConfigError,
    DeadlineExceeded,
    Mistake,
    PenstockError,
    UpstreamError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from penstock.providers.auth import Header, credential_headers
from penstock.providers.connection import Fault, Limits, Reply
from penstock.providers.pool import Address, Pool, proxy_for, trust_store
from penstock.receipt import Lane
from penstock.reply import Chunk, Ended, Event, Failed
from penstock.settings import ProviderSettings
from penstock.target import Target
from penstock.wire.dialect import Dialect, StreamReader
from penstock.wire.registry import dialect

BASE_URLS: Mapping[str, str] = MappingProxyType({"openai": "https://api.openai.com/v1"})
DIALECTS: Mapping[str, str] = MappingProxyType({"openai": "chat"})
PATHS: Mapping[str, bytes] = MappingProxyType({"chat": b"/chat/completions"})

PASSED_HEADERS = frozenset({b"retry-after", b"x-request-id", b"request-id", b"openai-processing-ms", b"openai-version"})
PASSED_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-", b"openai-")
MAX_RETRY_AFTER_S = 86_400.0
HIDDEN = "the provider's own words quote a credential and are not shown."
PART_CHARACTERS = 12
SHORTEST_KEY = 8
ERROR_BYTES = 262_144
"""More of an error's body than this is not read."""

Shielded = TypeVar("Shielded", bound=PenstockError)


class HttpProvider:
    """A provider reached over HTTP. `dialect` is the name of what it speaks."""

    def __init__(self, settings: ProviderSettings) -> None:
        """Resolve address, dialect and credential; no connection is made yet."""
        self.dialect = settings.dialect or DIALECTS[settings.kind]
        base_url = settings.base_url or BASE_URLS.get(settings.kind)
        if base_url is None:
            raise ConfigError(
                "the configuration",
                (Mistake(f"providers.{settings.name}.base_url", f"kind {settings.kind!r} needs a base_url."),),
            )
        address, prefix = Address.parse(base_url)
        self._speaks: Dialect = dialect(self.dialect)
        self._secret = b"" if settings.api_key is None else settings.api_key.reveal().encode()
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
            tls=None if settings.ca_file is None else trust_store(str(settings.ca_file)),
        )
        self._head = _head(prefix.encode() + PATHS[self.dialect], address.host_header, settings)

    async def send(self, call: Call, target: Target, deadline: float) -> "HttpExchange":
        """Send the call and wait until its reply begins (for one that is not a stream: until it is complete)."""
        speaks = self._speaks
        if call.stream and not self._stream_usage:
            call = structs.replace(call, stream_usage=True)  # as if it were asked for already: nothing is added
        body = speaks.splice(call, target.model) if call.dialect == speaks.name else None
        is_verbatim = body is not None
        dropped: tuple[str, ...] = ()
        if body is None:
            body, dropped = speaks.write_request(call, target.model)
        try:
            reply = await self._pool.send(b"%b%d\r\n\r\n%b" % (self._head, len(body), body), deadline=deadline)
        except Fault as fault:
            raise _failure(fault, target.id) from None
        if reply.status != 200:
            raise await self._refusal(reply, target.id)
        exchange = HttpExchange(call, reply, speaks, target.id)
        exchange.shield = self.shield
        exchange.headers = self._pass_on(reply.headers)
        exchange.dropped = dropped
        if is_verbatim and call.stream is (reply.whole is None):
            exchange.lane = (
                "verbatim"  # else a stream was asked for and one piece came: it has to be written as a stream
            )
        return exchange

    async def close(self) -> None:
        """Drop every connection."""
        self._pool.close()

    def _pass_on(self, headers: list[Header]) -> tuple[Header, ...]:
        """Keep what clients rely on, by a list of names; never a header that quotes our credential."""
        passed = [one for one in headers if one[0] in PASSED_HEADERS or one[0].startswith(PASSED_PREFIXES)]
        if not passed:
            return ()
        secret = self._secret.decode()
        return tuple(one for one in passed if not _quotes(secret, one[1].decode("latin-1")))

    def shield(self, error: Shielded) -> Shielded:
        """Take the provider's words out of an error that quotes our credential."""
        if _quotes(self._secret.decode(), error.message):
            error.message = HIDDEN
            if isinstance(error, UpstreamError):
                error.body = b""
        return error

    async def _refusal(self, reply: Reply, target: str) -> PenstockError:
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
        error = self._speaks.read_error(reply.status, body)
        if _quotes(self._secret.decode(), _spelled_out(body)):
            error.message, error.body = HIDDEN, b""
        self.shield(error)
        error.retry_after_s = retry_after_s(reply.header, datetime.now(UTC))
        error.message = f"{target}: {error.message}"
        return error


class HttpExchange:
    """One reply while it comes in."""

    __slots__ = (
        "_call",
        "_done",
        "_ended",
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
            raise _failure(fault, self._target) from None

    def _whole(self) -> Chunk:
        self._done = True
        body = self._reply.whole
        assert body is not None, "a reply without a stream reader is whole"
        self._reply.close()
        if self.lane == "verbatim":
            return Chunk(self._shielded(self._speaks.tap_reply(body)), body)
        return Chunk(self._shielded(self._speaks.read_reply(body)))

    async def _stream(self) -> Chunk:
        reader = self._reader
        assert reader is not None, "called for streams only"
        if not self._call.stream:
            raise UpstreamGarbled(f"{self._target} answered with a stream that nobody asked for.")
        data = await self._reply.read()
        if data is None:
            self._done = True
            events = reader.end()
        else:
            events = reader.feed(data)
            self._ended = bool(events) and type(events[-1]) is Ended
        return Chunk(self._shielded(events), reader.passed if self.lane == "verbatim" else None)

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


def _quotes(secret: str, text: str) -> bool:
    """Whether a text holds a key, or as much of it as would help anybody."""
    if len(secret) < SHORTEST_KEY:
        return False  # a placeholder, as servers without keys are given one
    most = max(1, len(secret) - PART_CHARACTERS + 1)
    return any(secret[at : at + PART_CHARACTERS] in text for at in range(most))


def _spelled_out(body: bytes) -> str:
    """Give a body's text as it is, and once more with JSON's escapes undone."""
    text = body.decode("utf-8", "replace")
    try:
        return text + msgspec.json.encode(msgspec.json.decode(body)).decode("utf-8", "replace")
    except (msgspec.DecodeError, RecursionError, ValueError):
        return text + text.replace("\\/", "/")


def _head(path: bytes, host: bytes, settings: ProviderSettings) -> bytes:
    """Write everything of a request that stays the same, up to the value of content-length."""
    own = tuple((name.lower().encode(), value.encode()) for name, value in settings.headers)
    lines = [
        b"POST " + path + b" HTTP/1.1",
        b"host: " + host,
        b"content-type: application/json",
        b"accept: application/json, text/event-stream",
        b"accept-encoding: identity",
        b"user-agent: penstock",
        *(name + b": " + value for name, value in (*credential_headers(settings), *own)),
        b"content-length: ",
    ]
    return b"\r\n".join(lines)


def _failure(fault: Fault, target: str) -> PenstockError:
    """Say what a failed connection means for the line."""
    error = _classified(fault, target)
    error.worked = fault.sent and not fault.reused
    return error


def _classified(fault: Fault, target: str) -> PenstockError:
    message = f"{target}: {fault.detail}"
    if fault.kind == "deadline":
        return DeadlineExceeded(f"The deadline passed while {target} was answering.")
    if fault.kind in {"first_byte_timeout", "idle_timeout", "connect_timeout"}:
        return UpstreamTimeout(message)
    if fault.kind in {"truncated", "protocol", "too_large", "encoding"}:
        return UpstreamGarbled(message)
    if fault.kind == "busy":
        return UpstreamOverloaded(message)
    failed: UpstreamError = UpstreamFailed(message)
    if fault.reused:
        failed.retry_after_s = 0.0  # the provider closed an idle connection as we wrote: nothing to wait for
    return failed


def retry_after_s(header: Callable[[bytes], bytes | None], now: datetime) -> float | None:
    """Read how long a provider asks us to wait, in seconds; None if it does not say, or says nonsense.

    `retry-after-ms` (OpenAI, Azure) wins over `retry-after`, which is seconds or an HTTP date (RFC 9110, 10.2.3).
    """
    for name, scale in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        value = header(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            pass
        else:
            if isnan(seconds):
                continue
            return min(max(0.0, seconds), MAX_RETRY_AFTER_S)
        try:
            when = parsedate_to_datetime(value.decode("latin-1"))
        except ValueError:
            continue
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return min(max(0.0, (when - now).total_seconds()), MAX_RETRY_AFTER_S)
    return None

"""The streamed load: many streams at once, each checked to the last chunk. Never counts a torn stream as a good one.

A raw `asyncio.Protocol` keeps the generator's own cost small. While streams run it only notes when bytes came and keeps
them; whether each stream is complete (every chunk, in order, with usage and the end mark) is judged afterwards.
"""

import asyncio
import contextlib
import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any, cast

import httptools
import upstream
import uvloop
from load import Request

_SPREAD_S = 0.25  # the first requests leave over this time: a herd of 256 at once would measure the herd


@dataclass(frozen=True)
class StreamLoad:
    """What the streams saw. `chunks` counts content chunks, those of torn streams too; times in milliseconds."""

    streams: int
    complete: int
    chunks: int
    seconds: float
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    total_p50_ms: float | None
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Heard:
    """One stream as it came: status, body, and when (seconds after its request) the first byte and the end came."""

    status: int
    body: bytes
    first_s: float
    total_s: float


def stream_problem(status: int, body: bytes) -> str | None:
    """Say what is wrong with a stream of the mock that came through a gateway; None when it is complete."""
    if status != 200:
        return f"status {status}: {body[:300].decode(errors='replace')}"
    events = [part for part in body.replace(b"\r\n", b"\n").split(b"\n\n") if part.strip()]
    data = [event.partition(b"data:")[2].strip() for event in events if event.startswith(b"data:")]
    if not data or data[-1] != b"[DONE]":
        return f"no end mark after {len(data)} events"
    texts: list[str] = []
    usage: dict[str, Any] | None = None
    try:
        for event in data[:-1]:
            chunk = json.loads(event)
            texts += [choice["delta"].get("content") or "" for choice in chunk["choices"]]
            usage = chunk.get("usage") or usage
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"a chunk is not one of a chat completion: {error!r}"
    if "".join(texts) != upstream.stream_text():
        return f"the text is not the provider's: {len(''.join(texts))} of {len(upstream.stream_text())} characters"
    if usage is None or (usage["prompt_tokens"], usage["completion_tokens"]) != upstream.PACED_TOKENS:
        return f"the usage is not the provider's: {usage}"
    return None


class Listener(asyncio.Protocol):
    """One connection that sends the same request `passes` times, one after the other, and keeps what it hears."""

    def __init__(self, request: bytes, passes: int, done: asyncio.Future[None]) -> None:
        self._request, self._left, self._done = request, passes, done
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._sent_at = self._first_at = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self.heard: list[Heard] = []

    @property
    def unfinished(self) -> bytes:
        """What came of a stream that has not ended."""
        return b"".join(self._parts)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection and send the first request."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class, of the same shape
        self._send()

    def _send(self) -> None:
        if self._transport is None:
            return
        self._parts, self._first_at, self._sent_at = [], 0.0, time.perf_counter()
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Parse what came; what is no HTTP ends the connection, and its stream stays incomplete."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_body(self, body: bytes) -> None:
        """Keep the bytes; the first ones stop the clock of the time to first token."""
        if not self._parts:
            self._first_at = time.perf_counter()
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Note the ended stream and ask for the next, until all passes are done."""
        now = time.perf_counter()
        status = self._parser.get_status_code()
        self.heard.append(Heard(status, b"".join(self._parts), self._first_at - self._sent_at, now - self._sent_at))
        self._parts = []
        self._left -= 1
        if self._left:
            asyncio.get_running_loop().call_soon(self._send)  # after the parser has returned
        else:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits that nothing more will come."""
        del exc
        self._transport = None
        if not self._done.done():
            self._done.set_result(None)

    def close(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()


def _bytes_of(request: Request) -> bytes:
    lines = [f"POST {request.path} HTTP/1.1", f"host: 127.0.0.1:{request.port}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    lines += [f"content-length: {len(request.body)}", "", ""]
    return "\r\n".join(lines).encode() + request.body


async def _listen(request: Request, streams: int, passes: int, limit_s: float) -> list[Listener]:
    loop = asyncio.get_running_loop()
    message, ends_at = _bytes_of(request), loop.time() + limit_s
    listeners: list[Listener] = []
    futures: list[asyncio.Future[None]] = []
    for _ in range(streams):
        done: asyncio.Future[None] = loop.create_future()
        listener = Listener(message, passes, done)
        with contextlib.suppress(OSError):  # a connection refused is a stream that is missing in the count
            await loop.create_connection(lambda listener=listener: listener, "127.0.0.1", request.port)  # type: ignore[misc]
            listeners.append(listener)
            futures.append(done)
        await asyncio.sleep(_SPREAD_S / streams)
    if futures:
        await asyncio.wait(futures, timeout=max(0.0, ends_at - loop.time()))
    for listener in listeners:
        listener.close()
    return listeners


def judge(asked: int, heard: list[Heard], torn: list[bytes], seconds: float) -> StreamLoad:
    """Check every stream that ended and sum up; `torn` holds what came of those that did not: chunks, but no stream."""
    problems = [stream_problem(one.status, one.body) for one in heard]
    good = [one for one, problem in zip(heard, problems, strict=True) if problem is None]
    first = sorted(one.first_s * 1e3 for one in good)
    return StreamLoad(
        streams=asked,
        complete=len(good),
        chunks=len(good) * upstream.CHUNKS + sum(body.count(b"data:") for body in torn),
        seconds=seconds,
        ttft_p50_ms=statistics.median(first) if first else None,
        ttft_p99_ms=first[min(len(first) - 1, int(len(first) * 0.99))] if first else None,
        total_p50_ms=statistics.median(one.total_s * 1e3 for one in good) if good else None,
        problems=tuple(dict.fromkeys(problem for problem in problems if problem is not None))[:5],
    )


def run(request: Request, streams: int, passes: int, limit_s: float) -> StreamLoad:
    """Run `streams` at once, each `passes` times, for at most `limit_s` seconds."""
    began = time.perf_counter()
    listeners = uvloop.run(_listen(request, streams, passes, limit_s))
    seconds = time.perf_counter() - began
    heard = [one for listener in listeners for one in listener.heard]
    return judge(streams * passes, heard, [listener.unfinished for listener in listeners], seconds)

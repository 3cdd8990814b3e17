"""A client of each of the six dialects that streams: what it sends, whether what comes back is well-formed, and how it leaves.

What is translated has to be what the official SDKs take (`conformance/parsers.py`); what a provider said itself is read as
in `faults/client.py`.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from tests.faults.client import Answer as Verbatim
from tests.server.conftest import Replies

from conformance.parsers import accept_stream, frames, sse

DIALECTS = ("chat", "responses", "messages", "generate", "converse", "ollama")
UPSTREAM = {"responses": "responses", "messages": "messages"}
"""What the provider speaks behind a client's dialect; chat otherwise."""
MOST = 50  # max_tokens of every call


def request(dialect: str, model: str, prompt: str, **headers: str) -> bytes:
    """The bytes of one call that wants a stream; headers by their names with underscores."""
    chat = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": True}
    path, body = {
        "chat": ("/v1/chat/completions", chat | {"max_tokens": MOST}),
        "responses": (
            "/v1/responses",
            {"model": model, "input": prompt, "stream": True, "max_output_tokens": MOST},
        ),
        "messages": ("/v1/messages", chat | {"max_tokens": MOST}),
        "generate": (
            f"/v1beta/models/{model}:streamGenerateContent?alt=sse",
            {
                "contents": [{"role": "user", "parts": [{"text": prompt}]}],
                "generationConfig": {"maxOutputTokens": MOST},
            },
        ),
        "converse": (
            f"/model/{model}/converse-stream",
            {
                "messages": [{"role": "user", "content": [{"text": prompt}]}],
                "inferenceConfig": {"maxTokens": MOST},
            },
        ),
        "ollama": ("/api/chat", chat | {"options": {"num_predict": MOST}}),
    }[dialect]
    data = json.dumps(body).encode()
    named = {"host": "127.0.0.1", "content-type": "application/json"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join([*lines, f"content-length: {len(data)}", "", ""]).encode() + data


class Answer:
    """What came back: complete as HTTP sees it, and how many errors stand in it."""

    def __init__(self, dialect: str, reply: Any, request: bytes) -> None:
        self.request = request  # that it answers
        self.dialect, self.status, self.complete, self.body = dialect, reply.status, reply.complete, bytes(reply.body)
        self.call_id = dict(reply.headers).get(b"x-penstock-call", b"").decode()

    @property
    def errors(self) -> int:
        """Errors in a stream; where the stream is not well-formed in its dialect, this raises."""
        assert self.status == 200, self.body[:1000]
        if self.dialect in {"chat", "messages", "responses"}:
            read = Verbatim(self.dialect, stream=True, raw=self.body)
            read.headers = [(b"content-type", b"text/event-stream")]
            read.read()
            assert read.ended is not bool(read.errors), (self.request, self.body[-300:])
            assert not read.after_error
            return len(read.errors)
        accept_stream(self.dialect, self.body)
        if self.dialect == "converse":
            return sum(name.endswith("Exception") for name, _ in frames(self.body))
        if self.dialect == "ollama":
            return sum("error" in json.loads(line) for line in self.body.splitlines())
        return sum(_is_error(event) for _, event in sse(self.body))


def _is_error(event: Any) -> bool:
    return "error" in event


async def ask(port: int, dialect: str, data: bytes) -> Answer:
    """Make one call on a connection of its own, and read the answer to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    replies = Replies([])
    try:
        writer.write(data)
        async with asyncio.timeout(20):
            while not (replies.found and replies.found[-1].complete):
                piece = await reader.read(65_536)
                if not piece:
                    replies.end()
                    break
                replies.feed(piece)
    finally:
        writer.transport.abort()
    (reply,) = replies.found
    return Answer(dialect, reply, data)


async def leave(port: int, data: bytes, after: bytes, heard: Callable[[], bool]) -> None:
    """Make a call, and hang up once the provider has heard of it and some text of its answer is there, if there is to be any."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    seen = b""
    with contextlib.closing(writer.transport):
        async with asyncio.timeout(10):
            while not heard():  # noqa: ASYNC110 - the provider tells nobody
                await asyncio.sleep(0.005)
            while after not in seen:
                piece = await reader.read(65_536)
                assert piece, seen
                seen += piece
        writer.transport.abort()

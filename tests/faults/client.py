"""A client that keeps to nothing but HTTP: it sends one call, and says what exactly came back, in its own dialect.

Replies are read by llhttp, the strictest parser at hand; what is not well-formed in the client's dialect fails the test.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from tests.server.conftest import Replies

PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
END_MARKS = {"chat": "[DONE]", "messages": "message_stop", "responses": "response.completed"}


def request(dialect: str, model: str, prompt: str, *, stream: bool, key: str = "", **headers: str) -> bytes:
    """The bytes of one call; further headers by their names with underscores."""
    body: dict[str, Any] = {"model": model}
    if stream:
        body["stream"] = True
    if dialect == "responses":
        body["input"] = prompt
    else:
        body["messages"] = [{"role": "user", "content": prompt}]
    if dialect == "messages":
        body["max_tokens"] = 100
    data = msgspec.json.encode(body)
    named = {"host": "127.0.0.1", "content-type": "application/json"}
    if key:
        named["authorization"] = f"Bearer {key}"
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"POST {PATHS[dialect]} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join([*lines, f"content-length: {len(data)}", "", ""]).encode() + data


@dataclass
class Answer:
    """What came back. `text` is all content; `errors` the error objects, of which a stream may have one."""

    dialect: str
    stream: bool
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    raw: bytes = b""
    complete: bool = False  # as HTTP sees it
    took_s: float = 0.0
    text: str = ""
    errors: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False  # with the end mark of a whole answer
    after_error: int = 0  # events that came behind an error
    first_at_s: float | None = None

    def header(self, name: str) -> str:
        """The value of a header; empty if there is none."""
        return dict(self.headers).get(name.encode(), b"").decode("latin-1")

    @property
    def call_id(self) -> str:
        return self.header("x-penstock-call")

    def read(self) -> "Answer":
        """Take the body apart."""
        if self.header("content-type").startswith("text/event-stream"):
            self._read_stream()
        elif self.raw:
            self._read_whole(msgspec.json.decode(self.raw))
        return self

    def _read_whole(self, body: dict[str, Any]) -> None:
        if self.status != 200:
            self.errors.append(_error(self.dialect, body))
            return
        if self.dialect == "chat":
            (choice,) = body["choices"]
            self.text, self.ended = choice["message"]["content"], choice["finish_reason"] == "stop"
        elif self.dialect == "messages":
            self.text = "".join(part["text"] for part in body["content"])
            self.ended = body["stop_reason"] == "end_turn"
        else:
            self.text = "".join(part["text"] for item in body["output"] for part in item["content"])
            self.ended = body["status"] == "completed"

    def _read_stream(self) -> None:
        blocks = self.raw.decode().split("\n\n")
        assert blocks.pop() == "", f"the stream ends within an event: {self.raw[-200:]!r}"
        for block in blocks:
            lines = [line for line in block.split("\n") if not line.startswith(":")]
            fields = dict(line.split(": ", 1) for line in lines)
            if fields:
                self._take(fields.get("event"), fields["data"])

    def _take(self, name: str | None, data: str) -> None:
        if self.errors:
            self.after_error += 1
        if data == END_MARKS["chat"]:
            self.ended = True
            return
        value = msgspec.json.decode(data)
        kind = value.get("type") if self.dialect != "chat" else None
        assert name == kind, f"the event {name} says it is {kind}"
        if kind in {"error", "response.failed"} or "error" in value:
            self.errors.append(_error(self.dialect, value))
        elif kind == END_MARKS[self.dialect]:
            self.ended = True
        else:
            self.text += _delta(self.dialect, value)


def _delta(dialect: str, value: dict[str, Any]) -> str:
    """The content of one event."""
    if dialect == "chat":
        return "".join(choice["delta"].get("content") or "" for choice in value["choices"])
    if dialect == "messages":
        return value["delta"]["text"] if value["type"] == "content_block_delta" else ""
    return value["delta"] if value["type"] == "response.output_text.delta" else ""


def _error(dialect: str, body: dict[str, Any]) -> dict[str, Any]:
    """The error object, which has the form of its dialect and no other."""
    if dialect == "messages":
        assert body["type"] == "error"
        error = body["error"]
    elif body.get("type") == "response.failed":
        error = body["response"]["error"]
        assert body["response"]["status"] == "failed"
    elif body.get("type") == "error":
        error = body
    else:
        assert list(body) == ["error"]
        error = body["error"]
    assert isinstance(error["message"], str)
    assert error["message"]
    return error


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: Sequence[bytes]) -> None:
    """Have requests answered, one after another."""
    for one in requests:
        replies = Replies([])
        writer.write(one)
        while not (replies.found and replies.found[-1].complete):
            replies.feed(await reader.read(65_536))
        assert replies.found[0].status == 200, replies.found[0].body


async def ask(
    port: int, data: bytes, dialect: str, *, stream: bool, limit_s: float = 20.0, before: Sequence[bytes] = ()
) -> Answer:
    """Make one call on a connection of its own, which answers others `before` it."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = Answer(dialect, stream)
    try:
        await converse(reader, writer, before)
        replies = Replies([])
        began = loop.time()
        writer.write(data)
        async with asyncio.timeout(limit_s):
            while not (replies.found and replies.found[-1].complete):
                piece = await reader.read(65_536)
                if not piece:
                    replies.end()
                    break
                if answer.first_at_s is None:
                    answer.first_at_s = loop.time() - began
                replies.feed(piece)
        answer.took_s = loop.time() - began
    finally:
        writer.transport.abort()
    (reply,) = replies.found
    answer.status, answer.headers, answer.complete = reply.status, reply.headers, reply.complete
    answer.raw = reply.body
    return answer.read()

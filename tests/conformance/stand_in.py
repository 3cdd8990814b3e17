"""One server on loopback that stands in for the providers of every dialect.

Each has a folder of its own (`/chat/v1/chat/completions`, `/converse/model/...`). The model's name says which case it plays:
`plain`, `tools`, `e429` ... or, with a word of its own before it, `my-e429`. It checks credential and body as the real one
would, and refuses with 400 what that would refuse; `taken()` gives what came in since the last time, with all that was wrong.
"""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

from conformance.openai_server import Chat, Responses, dumps
from conformance.other_servers import Converse, Generate, Messages, Ollama
from conformance.refusals import problems_of
from conformance.says import SAYS, Say, agent

SERVERS: dict[str, Any] = {
    "chat": Chat,
    "responses": Responses,
    "messages": Messages,
    "generate": Generate,
    "converse": Converse,
    "ollama": Ollama,
}
KEY = "upstream-key-for-the-tests"
COUNT = 17
RETRY_AFTER = 1
TURNS = 10
VECTOR = (0.5, -0.25, 0.125)

_ROUTES = (
    (r"/chat/v1/chat/completions", "chat", "generate"),
    (r"/chat/v1/embeddings", "chat", "embed"),
    (r"/responses/v1/responses", "responses", "generate"),
    (r"/responses/v1/responses/input_tokens", "responses", "count"),
    (r"/responses/v1/embeddings", "responses", "embed"),
    (r"/messages/v1/messages", "messages", "generate"),
    (r"/messages/v1/messages/count_tokens", "messages", "count"),
    (r"/generate/v1beta/models/([^/:]+):generateContent", "generate", "generate"),
    (r"/generate/v1beta/models/([^/:]+):streamGenerateContent\?alt=sse", "generate", "generate"),
    (r"/generate/v1beta/models/([^/:]+):countTokens", "generate", "count"),
    (r"/generate/v1beta/models/([^/:]+):batchEmbedContents", "generate", "embed"),
    (r"/converse/model/([^/]+)/converse", "converse", "generate"),
    (r"/converse/model/([^/]+)/converse-stream", "converse", "generate"),
    (r"/converse/model/([^/]+)/count-tokens", "converse", "count"),
    (r"/ollama/api/chat", "ollama", "generate"),
    (r"/ollama/api/embed", "ollama", "embed"),
)
_CREDENTIALS = {
    "chat": ("authorization", f"Bearer {KEY}"),
    "responses": ("authorization", f"Bearer {KEY}"),
    "messages": ("x-api-key", KEY),
    "generate": ("x-goog-api-key", KEY),
    "converse": ("authorization", f"Bearer {KEY}"),
}


class Got(NamedTuple):
    """One request that came in, and what the real provider would not have taken of it."""

    dialect: str
    operation: str
    model: str
    body: dict[str, Any]
    raw: bytes
    headers: dict[str, str]
    problems: list[str]


class StandIn:
    """The server, in a thread with a loop of its own."""

    def __init__(self) -> None:
        self.port = 0
        self._got: list[Got] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24), self._loop
        ).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def taken(self) -> list[Got]:
        """Give what came in since the last time."""
        got, self._got = self._got, []
        return got

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None, "a server's callback runs in a task"
        self._tasks.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.split("\r\n")
                headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines if one)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                for piece in self._answer(first.split(" ")[1], headers, body):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)

    def _answer(self, path: str, headers: dict[str, str], raw: bytes) -> Iterator[bytes]:
        matches = ((re.fullmatch(route, path), dialect, operation) for route, dialect, operation in _ROUTES)
        found = next(((match, d, o) for match, d, o in matches if match), None)
        if found is None:
            self._got.append(Got("", "", "", {}, raw, headers, [f"there is no {path}"]))
            yield from _reply(404, {}, {"error": {"message": f"there is no {path}"}})
            return
        match, dialect, operation = found
        body = json.loads(raw)
        model = unquote(match[1]) if match.groups() else body["model"]
        free = model.startswith("any-")  # a server of its own kind, which takes more than the official types say
        wrong = ([] if free else problems_of(dialect, operation, body)) + list(_credential(dialect, headers))
        self._got.append(Got(dialect, operation, model, body, raw, headers, wrong))
        server = SERVERS[dialect]
        if wrong:
            yield from _reply(400, *server.error(400, "; ".join(wrong)[:2000]))
        elif refused := re.fullmatch(r"(?:.*-)?e(\d\d\d)", model):
            yield from _refuse(server, int(refused[1]))
        elif operation == "count":
            yield from _reply(200, {}, _counted(dialect))
        elif operation == "embed":
            yield from _reply(200, {}, _embedded(dialect, body))
        else:
            yield from _say(dialect, path, model, body)


def _credential(dialect: str, headers: dict[str, str]) -> Iterator[str]:
    if dialect in _CREDENTIALS:
        name, value = _CREDENTIALS[dialect]
        if headers.get(name) != value:
            yield f"the credential in {name} is not right"
    if dialect == "messages" and headers.get("anthropic-version") != "2023-06-01":
        yield "anthropic-version is missing"
    if any("ps-" in value for value in headers.values()):
        yield "the client's key was passed on"


def _say(dialect: str, path: str, model: str, body: dict[str, Any]) -> Iterator[bytes]:
    server = SERVERS[dialect]
    say = what_it_says(model, body)
    streams = "tream" in path or body.get("stream", dialect == "ollama")
    if not streams:
        yield from _reply(200, {"x-request-id": "req-1"}, server.whole(say, model))
        return
    yield _head(200, {"content-type": server.stream_type.decode(), "transfer-encoding": "chunked"})
    frames = list(server.stream(say, model))
    if model == "break":
        frames = [*frames[: len(frames) // 2], server.broken("The model broke down.")]
    for one in frames:
        yield b"%x\r\n%b\r\n" % (len(one), one)
    yield b"0\r\n\r\n"


def what_it_says(model: str, body: dict[str, Any]) -> Say:
    """Give the answer of a case; where results of tools came, a text that ends the matter, or an agent's next turn."""
    results, case = json.dumps(body).count("result of"), model.rpartition("-")[2]
    if case == "agent":
        return agent(results // 2 + 1) if results < 2 * TURNS else Say("All done.")
    return SAYS["plain"] if results else SAYS[case]


def _refuse(server: Any, status: int) -> Iterator[bytes]:
    headers, body = server.error(status, f"The model says {status}.")
    if status == 429:
        headers = headers | {"retry-after": str(RETRY_AFTER)}
    yield from _reply(status, headers, body)


def _counted(dialect: str) -> Any:
    return {
        "responses": {"object": "response.input_tokens", "input_tokens": COUNT},
        "messages": {"input_tokens": COUNT},
        "generate": {"totalTokens": COUNT, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": COUNT}]},
        "converse": {"inputTokens": COUNT},
    }[dialect]


def _embedded(dialect: str, body: dict[str, Any]) -> Any:
    if dialect == "generate":
        return {"embeddings": [{"values": VECTOR} for _ in body["requests"]]}
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    if dialect == "ollama":
        return {"model": body["model"], "embeddings": [VECTOR for _ in inputs], "prompt_eval_count": COUNT}
    rows = [{"object": "embedding", "index": index, "embedding": VECTOR} for index in range(len(inputs))]
    usage = {"prompt_tokens": COUNT, "total_tokens": COUNT}
    return {"object": "list", "data": rows, "model": body["model"], "usage": usage}


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode()


def _reply(status: int, headers: dict[str, str], body: Any) -> Iterator[bytes]:
    data = dumps(body).encode()
    yield _head(status, {"content-type": "application/json", "content-length": str(len(data)), **headers}) + data

"""What a provider says was used is what the receipt says, to the last token and the last billionth of a dollar.

Every dialect of clients at every dialect of providers, whole and streamed, through one gateway with its real server, real
providers' code and a loopback socket on either side. Costs are worked out by hand, in millionths of a dollar.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from conformance.other_servers import frame
from conformance.outcome import DIALECTS
from conformance.test_golden_matrix import fed
from penstock.config import load
from penstock.gateway import Gateway, start
from penstock.ledger.store import Filter, Span
from penstock.receipt import Receipt, Usage
from penstock.server.app import App
from penstock.server.asgi import Application
from penstock.server.http11 import Server
from penstock.server.listening import bind

KINDS = {"messages": "anthropic", "generate": "gemini", "converse": "bedrock", "ollama": "ollama"}
PRICES = """
input = 1
output = 4
cached_input = 0.1
cache_write = 1.25
cache_write_1h = 2
reasoning = 5
audio_input = 10
audio_output = 20
image_input = 0.5
image_output = 40
"""
"""US dollars per million tokens, the same for every target: dearer than plain tokens, or cheaper, and all different."""
HALF = "input = 0.5\noutput = 2\n"
"""What is taken in the tiers of service."""


DONE = b"data: [DONE]\n\n"


class Told(NamedTuple):
    """What a provider answers, whole and as a stream; what was used, and what that costs in millionths of a dollar."""

    whole: bytes
    stream: bytes
    usage: Usage
    cost: float


def sse(*events: Any, named: bool = False, done: bytes = b"") -> bytes:
    """A stream of server-sent events, with names of their own where the dialect has them."""
    parts = [
        (b"event: %b\n" % event["type"].encode() if named else b"") + b"data: " + msgspec.json.encode(event) + b"\n\n"
        for event in events
    ]
    return b"".join(parts) + done


def chat() -> Told:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 500,
        "total_tokens": 1500,
        "prompt_tokens_details": {
            "cached_tokens": 200,
            "cache_write_tokens": 100,
            "audio_tokens": 50,
            "image_tokens": 300,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 100,
            "audio_tokens": 60,
            "image_tokens": 200,
            "accepted_prediction_tokens": 5,
            "rejected_prediction_tokens": 7,
        },
    }
    head = {"id": "c1", "created": 1, "model": "m"}
    message = {"role": "assistant", "content": "Hi"}
    whole = {
        **head,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }
    chunk = {**head, "object": "chat.completion.chunk"}
    stream = sse(
        {**chunk, "choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {**chunk, "choices": [], "usage": usage},
        done=DONE,
    )
    # 1000 x 1, of which 200 at 0.1, 100 at 1.25, 50 at 10, 300 at 0.5; 500 x 4, of which 100 at 5, 60 at 20, 200 at 40:
    # 1000 - 180 + 25 + 450 - 150 + 2000 + 100 + 960 + 7200
    used = Usage(1000, 500, 200, 100, 0, 100, 50, 60, 5, 7, "provider", 300, 200)
    return Told(msgspec.json.encode(whole), stream, used, 11405)


def responses() -> Told:
    usage = {
        "input_tokens": 1000,
        "input_tokens_details": {
            "cached_tokens": 200,
            "cache_write_tokens": 100,
            "audio_tokens": 50,
            "image_tokens": 300,
        },
        "output_tokens": 500,
        "output_tokens_details": {"reasoning_tokens": 100, "audio_tokens": 60, "image_tokens": 200},
        "total_tokens": 1500,
    }
    text = {"type": "output_text", "text": "Hi", "annotations": []}
    item = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [text]}
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "error": None}
    whole = {**head, "status": "completed", "output": [item], "usage": usage}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events = (
        {"type": "response.created", "response": {**head, "status": "in_progress", "output": [], "usage": None}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **place, "part": {**text, "text": ""}},
        {"type": "response.output_text.delta", **place, "delta": "Hi"},
        {"type": "response.output_text.done", **place, "text": "Hi"},
        {"type": "response.content_part.done", **place, "part": text},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    )
    stream = sse(*[{**event, "sequence_number": number} for number, event in enumerate(events)], named=True)
    used = Usage(1000, 500, 200, 100, 0, 100, 50, 60, 0, 0, "provider", 300, 200)
    return Told(msgspec.json.encode(whole), stream, used, 11405)  # as in a chat


def messages() -> Told:
    given = {
        "input_tokens": 600,
        "cache_read_input_tokens": 250,
        "cache_creation_input_tokens": 150,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 50},
        "service_tier": "standard",
    }
    made = {"output_tokens": 500, "output_tokens_details": {"thinking_tokens": 120}}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
    text = {"type": "text", "text": "Hi"}
    ends = {"stop_reason": "end_turn", "stop_sequence": None}
    whole = {**head, "content": [text], **ends, "usage": given | made}
    begins = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": given | {"output_tokens": 1}}
    stream = sse(
        {"type": "message_start", "message": begins},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ends, "usage": made},
        {"type": "message_stop"},
        named=True,
    )
    # 600 x 1 + 250 x 0.1 + 100 x 1.25 + 50 x 2 + 380 x 4 + 120 x 5: 600 + 25 + 125 + 100 + 1520 + 600
    return Told(msgspec.json.encode(whole), stream, Usage(1000, 500, 250, 100, 50, 120), 2970)


def generate() -> Told:
    usage = {
        "promptTokenCount": 980,
        "toolUsePromptTokenCount": 20,
        "candidatesTokenCount": 400,
        "thoughtsTokenCount": 100,
        "totalTokenCount": 1500,
        "cachedContentTokenCount": 200,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 630},
            {"modality": "IMAGE", "tokenCount": 258},
            {"modality": "VIDEO", "tokenCount": 30},
            {"modality": "DOCUMENT", "tokenCount": 12},
            {"modality": "AUDIO", "tokenCount": 50},
        ],
        "candidatesTokensDetails": [
            {"modality": "TEXT", "tokenCount": 140},
            {"modality": "IMAGE", "tokenCount": 200},
            {"modality": "AUDIO", "tokenCount": 60},
        ],
    }
    content = {"role": "model", "parts": [{"text": "Hi"}]}
    head = {"responseId": "g1", "modelVersion": "m"}
    ended = [{"content": content, "finishReason": "STOP", "index": 0}]
    stream = sse(
        {
            **head,
            "candidates": [{"content": content, "index": 0}],
            "usageMetadata": {"promptTokenCount": 980, "totalTokenCount": 980},
        },
        {**head, "candidates": [{**ended[0], "content": {"role": "model", "parts": []}}], "usageMetadata": usage},
    )
    # as in a chat, but nothing is written to a cache: 1000 - 180 + 450 - 150 + 2000 + 100 + 960 + 7200
    used = Usage(1000, 500, 200, 0, 0, 100, 50, 60, 0, 0, "provider", 300, 200)
    return Told(msgspec.json.encode({**head, "candidates": ended, "usageMetadata": usage}), stream, used, 11380)


def converse() -> Told:
    usage = {
        "inputTokens": 600,
        "outputTokens": 500,
        "totalTokens": 1500,
        "cacheReadInputTokens": 250,
        "cacheWriteInputTokens": 150,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 100}, {"ttl": "1h", "inputTokens": 50}],
    }
    answer = {"role": "assistant", "content": [{"text": "Hi"}]}
    whole = {
        "output": {"message": answer},
        "stopReason": "end_turn",
        "usage": usage,
        "metrics": {"latencyMs": 1},
    }
    stream = b"".join(
        frame(name, payload)
        for name, payload in (
            ("messageStart", {"role": "assistant"}),
            ("contentBlockDelta", {"delta": {"text": "Hi"}, "contentBlockIndex": 0}),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("messageStop", {"stopReason": "end_turn"}),
            ("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}),
        )
    )
    # 600 x 1 + 250 x 0.1 + 100 x 1.25 + 50 x 2 + 500 x 4: 600 + 25 + 125 + 100 + 2000
    return Told(msgspec.json.encode(whole), stream, Usage(1000, 500, 250, 100, 50), 2850)


def ollama() -> Told:
    line = {"model": "m", "created_at": "2026-11-20T10:00:00Z"}
    said = {"role": "assistant", "content": "Hi"}
    ends = {"done": True, "done_reason": "stop", "prompt_eval_count": 1000, "eval_count": 500}
    first, last = {**line, "message": said, "done": False}, {**line, "message": {**said, "content": ""}, **ends}
    whole = msgspec.json.encode({**line, "message": said, **ends})
    stream = msgspec.json.encode(first) + b"\n" + msgspec.json.encode(last) + b"\n"
    return Told(whole, stream, Usage(1000, 500), 3000)  # 1000 x 1 + 500 x 4


EVERYTHING = {
    "chat": chat(),
    "responses": responses(),
    "messages": messages(),
    "generate": generate(),
    "converse": converse(),
    "ollama": ollama(),
}
"""Of each dialect an answer with every kind of tokens that it can tell."""

RECORDED = {
    # 18 x 1 + 12 x 10 + 15 x 4 + 80 x 20
    "chat/audio.json": (Usage(30, 95, 0, 0, 0, 0, 12, 80), 1798),
    "chat/audio.sse": (Usage(30, 95, 0, 0, 0, 0, 12, 80), 1798),
    # 7 x 1 + 10 x 4 + 1290 x 40
    "chat/openrouter_image.json": (Usage(7, 1300, image_output_tokens=1290), 51647),
    # 10 x 1 + 5 x 4 + 25 x 5
    "responses/reasoning.json": (Usage(10, 30, reasoning_tokens=25), 155),
    "responses/reasoning.sse": (Usage(10, 30, reasoning_tokens=25), 155),
    # served as priority, whose price tells but two rates: 188663 x 0.5 + 393 x 2
    "messages/cached.json": (Usage(188_663, 393, 188_086, 456, 100), 95117.5),
    "messages/cached.sse": (Usage(188_663, 393, 188_086, 456, 100), 95117.5),
    # 25 x 1 + 50 x 4 + 150 x 5
    "messages/thinking.sse": (Usage(25, 200, reasoning_tokens=150), 975),
    # 9 x 1 + 20 x 20
    "generate/audio.json": (Usage(9, 20, audio_output_tokens=20), 409),
    # 604 x 1 + 4096 x 0.1 + 300 x 10 + 6 x 4
    "generate/cached.json": (Usage(5000, 6, 4096, audio_input_tokens=300), 4037.6),
    # 9 x 1 + 1290 x 40
    "generate/image.json": (Usage(9, 1290, image_output_tokens=1290), 51609),
    "generate/image.sse": (Usage(9, 1290, image_output_tokens=1290), 51609),
    # 12 x 1 + 4 x 4 + 41 x 5
    "generate/thinking.sse": (Usage(12, 45, reasoning_tokens=41), 233),
    # 9 x 1 + 2048 x 0.1 + 1024 x 1.25 + 512 x 2 + 40 x 4
    "converse/cached.json": (Usage(3593, 40, 2048, 1024, 512), 2677.8),
    "converse/cached.jsonl": (Usage(3593, 40, 2048, 1024, 512), 2677.8),
}
"""Replies as providers gave them, or say that they give them."""

STREAMS = {"ollama": "application/x-ndjson", "converse": "application/vnd.amazon.eventstream"}
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Provider:
    """Answers whatever it is asked with the bytes it was given last."""

    def __init__(self) -> None:
        self.body, self.content_type = b"", ""

    def says(self, dialect: str, body: bytes, *, stream: bool) -> None:
        """Answer so from now on."""
        self.body = body
        self.content_type = STREAMS.get(dialect, "text/event-stream") if stream else "application/json"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                await reader.readexactly(int(length[1]) if length else 0)
                answer = (
                    f"HTTP/1.1 200 OK\r\ncontent-type: {self.content_type}\r\ncontent-length: {len(self.body)}\r\n\r\n"
                )
                writer.write(answer.encode() + self.body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


class World(NamedTuple):
    """A gateway behind its server, the provider behind that, and a client."""

    gateway: Gateway
    provider: Provider
    client: httpx.AsyncClient

    def receipts(self) -> list[Receipt]:
        """Give the receipts, newest first."""
        while self.gateway.ledger.flush(10_000):
            pass
        return list(self.gateway.ledger.store.calls(Filter(Span(0, 2**62)), 1000))


def config(port: int) -> str:
    """One provider and one model for each dialect, all at the same price."""
    lines = []
    for name in DIALECTS:
        lines += [
            f"[providers.{name}]\nkind = '{KINDS.get(name, 'openai')}'\ndialect = '{name}'",
            f"base_url = 'http://127.0.0.1:{port}/v1'\napi_key = 'env:UPSTREAM_KEY'\nretries = 0",
            "region = 'eu-central-1'" if name == "converse" else "",
            f"[models.{name}]\ntargets = ['{name}/m']",
            f"[prices.'{name}/m']{PRICES}[prices.'{name}/m'.flex]\n{HALF}[prices.'{name}/m'.priority]\n{HALF}",
        ]
    return "\n".join(lines)


async def _nothing(*_: Any) -> None:
    raise AssertionError("only the data plane is asked")


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Serve for the length of a block."""
    provider = Provider()
    listening = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    (folder / "penstock.toml").write_text(config(listening.sockets[0].getsockname()[1]))
    environ = {"PENSTOCK_HOME": str(folder / "home"), "UPSTREAM_KEY": "k"}
    gateway = start(load(str(folder / "penstock.toml"), environ))
    plane: Application = _nothing
    app = App(gateway, plane)
    crashes: list[Any] = []
    server = Server(app, app.refuse, on_crash=crashes.append)
    server.at_once = app.at_once
    await server.start(bind("127.0.0.1", 0, 1)[0])
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False)
    try:
        yield World(gateway, provider, client)
    finally:
        await client.aclose()
        await server.close()
        await gateway.close()
        listening.close()
    assert crashes == []


def asked(client: str, model: str, *, stream: bool) -> tuple[str, dict[str, Any]]:
    """The path and the body of a request."""
    turns = [{"role": "user", "content": "Hello"}]
    match client:
        case "chat":
            return "/v1/chat/completions", {"model": model, "messages": turns, "stream": stream}
        case "responses":
            return "/v1/responses", {"model": model, "input": "Hello", "stream": stream}
        case "messages":
            return "/v1/messages", {"model": model, "max_tokens": 99, "messages": turns, "stream": stream}
        case "generate":
            verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
            return f"/v1beta/models/{model}:{verb}", {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
        case "converse":
            verb = "converse-stream" if stream else "converse"
            return f"/model/{model}/{verb}", {"messages": [{"role": "user", "content": [{"text": "Hello"}]}]}
        case _:
            return "/api/chat", {"model": model, "messages": turns, "stream": stream}


async def receipt_of(one: World, client: str, target: str, body: bytes, *, stream: bool) -> Receipt:
    """Make one call and give its receipt."""
    one.provider.says(target, body, stream=stream)
    path, request = asked(client, target, stream=stream)
    reply = await one.client.post(path, json=request)
    assert reply.status_code == 200, reply.text
    return one.receipts()[0]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("target", DIALECTS)
async def test_every_kind_of_token_reaches_the_receipt_whatever_the_client_speaks(
    tmp_path: Path,
    target: str,
    stream: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    told = EVERYTHING[target]
    async with world(tmp_path) as one:
        for client in DIALECTS:
            receipt = await receipt_of(one, client, target, told.stream if stream else told.whole, stream=stream)
            assert (receipt.dialect, receipt.target, receipt.streamed) == (client, f"{target}/m", stream)
            assert receipt.lane == ("verbatim" if client == target else "translated")
            assert receipt.usage == told.usage, client
            assert (receipt.cost_nano_usd, receipt.cost_status) == (told.cost * 1000, "exact"), client
            (attempt,) = receipt.tries
            assert (attempt.usage, attempt.cost_nano_usd) == (told.usage, told.cost * 1000)


@pytest.mark.parametrize("target", DIALECTS)
async def test_recorded_replies_are_billed_by_what_they_say(tmp_path: Path, target: str) -> None:
    recorded = {name: said for name, said in RECORDED.items() if name.startswith(f"{target}/")}
    async with world(tmp_path) as one:
        for name, (usage, cost) in recorded.items():
            stream = not name.endswith(".json")
            for client in (target, "messages" if target == "chat" else "chat"):
                receipt = await receipt_of(one, client, target, fed(name), stream=stream)
                assert receipt.usage == usage, (name, client)
                assert receipt.cost_nano_usd == round(cost * 1000), (name, client)


def tiered(dialect: str, asked: str, served: str) -> tuple[bytes, bytes]:
    """A whole answer and a stream of 1000 and 500 tokens, which say how the call was served where the dialect says it.

    A stream of Responses begins with the tier that was asked for; one of Converse tells of the tier at its end alone.
    """
    count = {"input_tokens": 1000, "output_tokens": 500}
    text = {"content": "Hi"}
    match dialect:
        case "chat":
            usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
            head = {"id": "c1", "model": "m", "service_tier": served}
            whole = {**head, "choices": [{"index": 0, "message": text, "finish_reason": "stop"}], "usage": usage}
            first = {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": text, "finish_reason": "stop"}]}
            return msgspec.json.encode(whole), sse(first, {**head, "choices": [], "usage": usage}, done=DONE)
        case "responses":
            item = {"type": "message", "id": "o", "content": [{"type": "output_text", "text": "Hi"}]}
            whole = {"id": "r", "model": "m", "status": "completed", "output": [item], "service_tier": served}
            begun = {**whole, "status": "in_progress", "output": [], "service_tier": asked}
            whole["usage"] = count
            events = (
                {"type": "response.created", "response": begun},
                {"type": "response.output_item.done", "output_index": 0, "item": item},
                {"type": "response.completed", "response": whole},
            )
            return msgspec.json.encode(whole), sse(*events, named=True)
        case "messages":
            head = {"id": "m1", "type": "message", "role": "assistant", "model": "m"}
            block = {"type": "text", "text": "Hi"}
            whole = {**head, "content": [block], "stop_reason": "end_turn", "usage": {**count, "service_tier": served}}
            events = (
                {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
                {"type": "content_block_start", "index": 0, "content_block": block},
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 500}},
                {"type": "message_stop"},
            )
            return msgspec.json.encode(whole), sse(*events, named=True)
        case "generate":
            usage = {"promptTokenCount": 1000, "candidatesTokenCount": 500, "totalTokenCount": 1500}
            usage["trafficType"] = {"flex": "ON_DEMAND_FLEX", "priority": "ON_DEMAND_PRIORITY"}.get(served, "ON_DEMAND")
            said = [{"content": {"parts": [{"text": "Hi"}]}, "index": 0}]
            ended = [{**said[0], "finishReason": "STOP"}]
            head = {"responseId": "g", "modelVersion": "m"}
            whole = {**head, "candidates": ended, "usageMetadata": usage}
            return msgspec.json.encode(whole), sse({**head, "candidates": said}, whole)
        case _:
            usage = {"inputTokens": 1000, "outputTokens": 500, "totalTokens": 1500}
            tier = {"type": served}
            message = {"role": "assistant", "content": [{"text": "Hi"}]}
            whole = {"output": {"message": message}, "stopReason": "end_turn", "usage": usage, "serviceTier": tier}
            events = (
                frame("messageStart", {"role": "assistant"}),
                frame("contentBlockDelta", {"delta": {"text": "Hi"}, "contentBlockIndex": 0}),
                frame("contentBlockStop", {"contentBlockIndex": 0}),
                frame("messageStop", {"stopReason": "end_turn"}),
                frame("metadata", {"usage": usage, "serviceTier": tier}),
            )
            return msgspec.json.encode(whole), b"".join(events)


@pytest.mark.parametrize(
    ("asked", "served", "cost"), [("auto", "flex", 1500), ("auto", "priority", 1500), ("priority", "default", 3000)]
)
@pytest.mark.parametrize("target", [dialect for dialect in DIALECTS if dialect != "ollama"])
async def test_the_tier_that_served_a_call_is_the_one_that_is_paid_for(
    tmp_path: Path, target: str, asked: str, served: str, cost: int
) -> None:
    whole, stream = tiered(target, asked, "standard" if (target, served) == ("messages", "default") else served)
    async with world(tmp_path) as one:
        for client in (target, "messages" if target == "chat" else "chat"):
            for body, streamed in ((whole, False), (stream, True)):
                receipt = await receipt_of(one, client, target, body, stream=streamed)
                (attempt,) = receipt.tries
                assert (receipt.usage, receipt.cost_nano_usd) == (Usage(1000, 500), cost * 1000), (client, streamed)
                assert (attempt.service_tier, receipt.cost_status) == (served, "exact"), (client, streamed)

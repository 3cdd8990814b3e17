"""Whether the official SDK of a dialect takes what a client of it is written: its models as validators, and its stream readers.

`accept_whole` and `accept_stream` raise where the SDK, or its types taken by their word, would not.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import anthropic.types
import httpx2
import ollama
import openai
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from botocore.eventstream import EventStreamBuffer
from google.genai import types as google
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from conformance.refusals import bedrock
from conformance.valid import shape_problems

_OF_RESPONSES: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_OF_MESSAGES: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def sse(data: bytes) -> Iterator[tuple[str, Any]]:
    """The events of a stream as the SDKs of OpenAI and Anthropic split it: name and JSON."""
    reply = httpx2.Response(200, content=data, request=httpx2.Request("GET", "http://127.0.0.1"))
    for event in _client()._make_sse_decoder().iter_bytes(reply.iter_bytes()):
        yield event.event or "", event.data if event.data == "[DONE]" else event.json()


@cache
def _client() -> openai.OpenAI:
    return openai.OpenAI(api_key="none", base_url="http://127.0.0.1")


def accept_whole(dialect: str, data: bytes) -> None:
    """Take a whole reply."""
    match dialect:
        case "chat":
            ChatCompletion.model_validate_json(data)
        case "responses":
            assert Response.model_validate_json(data).output_text is not None
        case "messages":
            anthropic.types.Message.model_validate_json(data)
        case "generate":
            google.GenerateContentResponse.model_validate_json(data)
        case "converse":
            shape = bedrock().operation_model("Converse").output_shape
            assert shape_problems(json.loads(data), shape) == []
        case "ollama":
            ollama.ChatResponse.model_validate_json(data)


def accept_stream(dialect: str, data: bytes) -> None:
    """Take a stream, whole or with the one error that ends it."""
    _STREAMS[dialect](data)


def _chat(data: bytes) -> None:
    state, events = ChatCompletionStreamState(), list(sse(data))
    failed = "error" in events[-1][1]
    assert failed or events[-1][1] == "[DONE]"
    for _, event in events[:-1]:
        chunk = ChatCompletionChunk.model_validate(event)
        if not any(choice.delta.function_call for choice in chunk.choices):  # which the SDK's helper no longer reads
            state.handle_chunk(chunk)


def _responses(data: bytes) -> None:
    for number, (name, event) in enumerate(sse(data)):
        assert _OF_RESPONSES.validate_python(event).type == name
        assert event["sequence_number"] == number


def _messages(data: bytes) -> None:
    message, last, arguments = None, "", dict[int, bytes]()
    for name, event in sse(data):
        last = name
        if name == "error":
            anthropic.types.ErrorResponse.model_validate(event)
        elif name != "ping":
            parsed = _OF_MESSAGES.validate_python(event)
            message = accumulate_event(event=parsed, current_snapshot=message, json_bufs=arguments)
    assert last in {"message_stop", "error"}


def _generate(data: bytes) -> None:
    for _, event in sse(data):
        if "error" not in event:
            google.GenerateContentResponse.model_validate(event)


def _converse(data: bytes) -> None:
    members = bedrock().operation_model("ConverseStream").output_shape.members["stream"].members
    for name, payload in frames(data):
        assert shape_problems(payload, members[name]) == []


def frames(data: bytes) -> Iterator[tuple[str, Any]]:
    """The messages of an event-stream, by botocore's own reader."""
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    for message in buffer:
        name = message.headers.get(":event-type") or message.headers[":exception-type"]
        yield name, json.loads(message.payload)


def _ollama(data: bytes) -> None:
    lines = data.decode().splitlines()  # as its SDK does: at U+2028 and the like as well
    for number, line in enumerate(lines, 1):
        if "error" not in json.loads(line):
            assert ollama.ChatResponse.model_validate_json(line).done is (number == len(lines))


_STREAMS: dict[str, Callable[[bytes], None]] = {
    "chat": _chat,
    "responses": _responses,
    "messages": _messages,
    "generate": _generate,
    "converse": _converse,
    "ollama": _ollama,
}

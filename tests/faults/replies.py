"""What a provider says when nothing is wrong, in three dialects: a reply in one piece, and the parts of a stream.

Written out here rather than with the product's own writers, so that one mistake cannot hide another. The text of a reply is
a row of numbered words, so that a client can tell who said what, and whether anything came twice.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

WORDS = 6
INPUT_TOKENS, OUTPUT_TOKENS = 11, 6
MODEL = "served-model"


def words(who: str) -> list[str]:
    """What one provider says."""
    return [f"{who}-{number} " for number in range(WORDS)]


@dataclass(frozen=True)
class Stream:
    """The parts of a stream: its beginning, one event per word, its last events of content, and its end mark."""

    start: bytes
    words: list[bytes]
    finish: bytes
    end: bytes

    @property
    def all(self) -> list[bytes]:
        return [self.start, *self.words, self.finish, self.end]


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def event(value: dict[str, Any], *, named: bool = True) -> bytes:
    """One event; the dialects other than chat name it by its type."""
    name = f"event: {value['type']}\n".encode() if named else b""
    return name + b"data: " + _json(value) + b"\n\n"


# -- in one piece --


def whole(dialect: str, who: str, *, usage: object = True, text: str | None = None) -> bytes:
    """A complete reply; `usage` True for the usual one, None for none, else what stands there."""
    said = "".join(words(who)) if text is None else text
    reply = {"chat": _chat, "messages": _messages, "responses": _responses}[dialect](said)
    if usage is None:
        del reply["usage"]
    elif usage is not True:
        reply["usage"] = usage
    return _json(reply)


def _chat(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": _chat_usage(),
    }


def _chat_usage() -> dict[str, int]:
    return {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }


def _messages(text: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": _own_usage(),
    }


def _own_usage() -> dict[str, int]:
    return {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}


def _item(text: str, status: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}] if text else []
    return {"type": "message", "id": "msg_1", "status": status, "role": "assistant", "content": content}


def _responses(text: str) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": MODEL,
        "output": [_item(text, "completed")],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": _own_usage() | {"total_tokens": INPUT_TOKENS + OUTPUT_TOKENS},
    }


# -- as a stream --


def stream(dialect: str, who: str, *, usage: object = True) -> Stream:
    """The parts of a stream; `usage` as for `whole`."""
    return {"chat": _chat_stream, "messages": _messages_stream, "responses": _responses_stream}[dialect](who, usage)


def _chunk(choices: list[dict[str, Any]], **more: object) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return event(head | {"choices": choices} | more, named=False)


def _delta(finish: str | None = None, **delta: str) -> bytes:
    return _chunk([{"index": 0, "delta": delta, "finish_reason": finish}])


def _chat_stream(who: str, usage: object) -> Stream:
    counted = _chat_usage() if usage is True else usage
    told = b"" if usage is None else _chunk([], usage=counted)
    said = [_delta(content=word) for word in words(who)]
    return Stream(_delta(role="assistant", content=""), said, _delta("stop") + told, b"data: [DONE]\n\n")


def _messages_stream(who: str, usage: object) -> Stream:
    message = _messages("") | {"content": [], "stop_reason": None}
    ending: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
    if usage is None:
        del message["usage"]
    elif usage is not True:
        message["usage"] = ending["usage"] = usage
    else:
        ending["usage"] = {"output_tokens": OUTPUT_TOKENS}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    said = [
        event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}})
        for word in words(who)
    ]
    finish = event({"type": "content_block_stop", "index": 0}) + event(ending)
    return Stream(
        event({"type": "message_start", "message": message}) + event(block),
        said,
        finish,
        event({"type": "message_stop"}),
    )


def _responses_stream(who: str, usage: object) -> Stream:
    text = "".join(words(who))
    done = _responses(text)
    if usage is None:
        del done["usage"]
    elif usage is not True:
        done["usage"] = usage
    begun = done | {"status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": []}
    opening: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": _item("", "in_progress")},
        {"type": "response.content_part.added", **place, "part": empty},
    ]
    said: list[dict[str, Any]] = [
        {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in words(who)
    ]
    closing: list[dict[str, Any]] = [
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": empty | {"text": text}},
        {"type": "response.output_item.done", "output_index": 0, "item": _item(text, "completed")},
    ]
    end: list[dict[str, Any]] = [{"type": "response.completed", "response": done}]
    parts, number = [], 0
    for group in (opening, said, closing, end):
        parts.append([event(one | {"sequence_number": number + place}) for place, one in enumerate(group)])
        number += len(group)
    return Stream(b"".join(parts[0]), parts[1], b"".join(parts[2]), parts[3][0])


# -- errors --


def error_body(dialect: str, message: str, kind: str = "server_error") -> bytes:
    """An error reply as each provider writes it."""
    if dialect == "messages":
        return _json({"type": "error", "error": {"type": kind, "message": message}})
    return _json({"error": {"message": message, "type": kind, "param": None, "code": kind}})


def error_event(dialect: str, message: str) -> bytes:
    """An error within a stream as each provider writes it."""
    if dialect == "messages":
        return event({"type": "error", "error": {"type": "overloaded_error", "message": message}})
    if dialect == "responses":
        return event(
            {"type": "error", "code": "server_error", "message": message, "param": None, "sequence_number": 99}
        )
    return event({"error": {"message": message, "type": "server_error", "param": None, "code": "x"}}, named=False)

"""What servers of OpenAI's two APIs answer: hand-made from the types of its SDK."""

import json
from collections.abc import Iterator
from typing import Any

from conformance.says import Say, Use, pieces, signature


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def sse(data: Any, event: str = "") -> bytes:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {dumps(data) if not isinstance(data, str) else data}\n\n".encode()


# -- chat completions --

FINISH = {"stop": "stop", "tools": "tool_calls", "length": "length", "refusal": "content_filter"}


class Chat:
    """Chat completions, with thoughts as OpenRouter documents them in front of Claude."""

    stream_type = b"text/event-stream"

    @staticmethod
    def whole(say: Say, model: str) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": say.text or None, "refusal": None}
        finish = FINISH[say.finish]
        if say.finish == "refusal":
            message, finish = {"role": "assistant", "content": None, "refusal": say.text}, "stop"
        if say.uses:
            message["tool_calls"] = [_call(use) for use in say.uses]
        if say.thought:
            message |= {"reasoning_content": say.thought, "reasoning_details": [_detail(say)]}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1760000000, "model": model}
        return {**head, "choices": [choice], "usage": _usage(say), "service_tier": "default", "of_its_own": 1}

    @staticmethod
    def stream(say: Say, model: str) -> Iterator[bytes]:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1760000000, "model": model}

        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return sse({**head, "choices": [choice], "usage": None})

        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for text in pieces(say.thought):
            yield chunk({"reasoning_content": text})
        if say.thought:
            yield chunk({"reasoning_details": [_detail(say)]})
        for text in pieces(say.text):
            yield chunk({"refusal" if say.finish == "refusal" else "content": text})
        for index, use in enumerate(say.uses):
            whole = {**_call(use), "index": index}
            yield chunk({"tool_calls": [whole | {"function": whole["function"] | {"arguments": ""}}]})
            for text in pieces(whole["function"]["arguments"]):
                yield chunk({"tool_calls": [{"index": index, "function": {"arguments": text}}]})
        yield chunk({}, "stop" if say.finish == "refusal" else FINISH[say.finish])
        yield sse({**head, "choices": [], "usage": _usage(say)})
        yield sse("[DONE]")

    @staticmethod
    def error(status: int, message: str) -> tuple[dict[str, str], Any]:
        return {}, {"error": {"message": message, "type": KINDS[status], "param": None, "code": None}}

    @staticmethod
    def broken(message: str) -> bytes:
        return sse({"error": {"message": message, "type": "server_error", "param": None, "code": None}})


KINDS = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    429: "rate_limit_exceeded",
    500: "server_error",
    529: "overloaded",
}


def _call(use: Use) -> dict[str, Any]:
    function = {"name": use.name, "arguments": dumps(use.arguments)}
    return {"id": f"call_{use.id}", "type": "function", "function": function}


def _detail(say: Say) -> dict[str, Any]:
    signed = {"signature": signature("anthropic", say.signed), "format": "anthropic-claude-v1"}
    return {"type": "reasoning.text", "text": say.thought, **signed, "index": 0}


def _usage(say: Say) -> dict[str, Any]:
    return {
        "prompt_tokens": say.input,
        "completion_tokens": say.output,
        "total_tokens": say.input + say.output,
        "prompt_tokens_details": {"cached_tokens": say.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": say.thinking, "audio_tokens": 0},
    }


# -- responses --


class Responses:
    """Responses of a stateless caller: thoughts come encrypted where they are asked for."""

    stream_type = b"text/event-stream"
    error = Chat.error

    @staticmethod
    def whole(say: Say, model: str) -> Any:
        return _response(say, model, _items(say), _status(say))

    @staticmethod
    def stream(say: Say, model: str) -> Iterator[bytes]:
        events = _events(say, model)
        for number, (name, data) in enumerate(events):
            yield sse({"type": name, **data, "sequence_number": number}, name)

    @staticmethod
    def broken(message: str) -> bytes:
        data = {"type": "error", "code": "server_error", "message": message, "param": None, "sequence_number": 9}
        return sse(data, "error")


def _status(say: Say) -> str:
    return "incomplete" if say.finish == "length" else "completed"


def _response(say: Say, model: str, output: list[Any], status: str) -> dict[str, Any]:
    done = status != "in_progress"
    usage = {
        "input_tokens": say.input,
        "input_tokens_details": {"cached_tokens": say.cached, "cache_write_tokens": 0},
        "output_tokens": say.output,
        "output_tokens_details": {"reasoning_tokens": say.thinking},
        "total_tokens": say.input + say.output,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1760000000,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "max_output_tokens": None,
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage if done else None,
        "user": None,
        "metadata": {},
    }


def _items(say: Say) -> list[Any]:
    items: list[Any] = []
    if say.thought:
        summary = [{"type": "summary_text", "text": say.thought}]
        sealed = signature("openai", say.signed)
        items.append({"type": "reasoning", "id": f"rs_{say.signed}", "summary": summary, "encrypted_content": sealed})
    if say.text:
        items.append(_message(say))
    for use in say.uses:
        said = {"call_id": f"call_{use.id}", "name": use.name, "arguments": dumps(use.arguments)}
        items.append({"type": "function_call", "id": f"fc_{use.id}", "status": "completed", **said})
    return items


def _message(say: Say) -> dict[str, Any]:
    if say.finish == "refusal":
        part: dict[str, Any] = {"type": "refusal", "refusal": say.text}
    else:
        part = {"type": "output_text", "text": say.text, "annotations": [], "logprobs": []}
    return {"type": "message", "id": "msg_1", "status": _status(say), "role": "assistant", "content": [part]}


def _events(say: Say, model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    begun = _response(say, model, [], "in_progress")
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for index, item in enumerate(_items(say)):
        at = {"item_id": item["id"], "output_index": index}
        match item["type"]:
            case "reasoning":
                empty = {name: value for name, value in item.items() if name != "encrypted_content"} | {"summary": []}
                yield "response.output_item.added", {"output_index": index, "item": empty}
                yield from _summary(item["summary"][0], at)
            case "message":
                yield "response.output_item.added", {"output_index": index, "item": _begun(item) | {"content": []}}
                yield from _said(item["content"][0], at)
            case "function_call":
                yield "response.output_item.added", {"output_index": index, "item": _begun(item) | {"arguments": ""}}
                for text in pieces(item["arguments"]):
                    yield "response.function_call_arguments.delta", {**at, "delta": text}
                done = {"arguments": item["arguments"], "name": item["name"]}
                yield "response.function_call_arguments.done", {**at, **done}
        yield "response.output_item.done", {"output_index": index, "item": item}
    status = _status(say)
    yield f"response.{status}", {"response": _response(say, model, _items(say), status)}


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    return item | {"status": "in_progress"}


def _summary(part: dict[str, Any], at: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    at = at | {"summary_index": 0}
    yield "response.reasoning_summary_part.added", {**at, "part": part | {"text": ""}}
    for text in pieces(part["text"]):
        yield "response.reasoning_summary_text.delta", {**at, "delta": text}
    yield "response.reasoning_summary_text.done", {**at, "text": part["text"]}
    yield "response.reasoning_summary_part.done", {**at, "part": part}


def _said(part: dict[str, Any], at: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    at = at | {"content_index": 0}
    kind = "refusal" if part["type"] == "refusal" else "output_text"
    name = "refusal" if kind == "refusal" else "text"
    more = {} if kind == "refusal" else {"logprobs": []}
    yield "response.content_part.added", {**at, "part": part | {name: ""}}
    for text in pieces(part[name]):
        yield f"response.{kind}.delta", {**at, "delta": text, **more}
    yield f"response.{kind}.done", {**at, name: part[name], **more}
    yield "response.content_part.done", {**at, "part": part}

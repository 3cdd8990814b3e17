"""What servers of Anthropic's, Google's, Amazon's and Ollama's APIs answer: hand-made from their SDKs' types."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any, ClassVar

from conformance.openai_server import dumps, sse
from conformance.says import Say, pieces, signature

# -- Anthropic --


class Messages:
    """Anthropic's Messages; `input_tokens` exclude what was read from the cache."""

    stream_type = b"text/event-stream"
    FINISH: ClassVar = {"stop": "end_turn", "tools": "tool_use", "length": "max_tokens", "refusal": "refusal"}

    @classmethod
    def whole(cls, say: Say, model: str) -> Any:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": cls._blocks(say),
            "stop_reason": cls.FINISH[say.finish],
            "stop_sequence": None,
            "usage": cls._usage(say),
        }

    @staticmethod
    def _usage(say: Say) -> dict[str, Any]:
        return {
            "input_tokens": say.input - say.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": say.cached,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": say.output,
            "output_tokens_details": {"thinking_tokens": say.thinking},
            "service_tier": "standard",
        }

    @staticmethod
    def _blocks(say: Say) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        if say.thought:
            sealed = signature("anthropic", say.signed)
            blocks.append({"type": "thinking", "thinking": say.thought, "signature": sealed})
        if say.text:
            blocks.append({"type": "text", "text": say.text, "citations": None})
        blocks += [
            {"type": "tool_use", "id": f"toolu_{use.id}", "name": use.name, "input": use.arguments} for use in say.uses
        ]
        return blocks

    @classmethod
    def stream(cls, say: Say, model: str) -> Iterator[bytes]:
        for data in cls._events(say, model):
            yield sse(data, data["type"])

    @classmethod
    def _events(cls, say: Say, model: str) -> Iterator[dict[str, Any]]:
        begun = cls.whole(say, model) | {"content": [], "stop_reason": None}
        yield {"type": "message_start", "message": begun | {"usage": cls._usage(say) | {"output_tokens": 1}}}
        yield {"type": "ping"}
        for index, block in enumerate(cls._blocks(say)):
            start, deltas = cls._deltas(block)
            yield {"type": "content_block_start", "index": index, "content_block": block | start}
            for delta in deltas:
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        usage = {
            name: value for name, value in cls._usage(say).items() if name not in {"cache_creation", "service_tier"}
        }
        delta = {"stop_reason": cls.FINISH[say.finish], "stop_sequence": None}
        yield {"type": "message_delta", "delta": delta, "usage": usage}
        yield {"type": "message_stop"}

    @staticmethod
    def _deltas(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        match block["type"]:
            case "thinking":
                deltas = [{"type": "thinking_delta", "thinking": text} for text in pieces(block["thinking"])]
                signed = {"type": "signature_delta", "signature": block["signature"]}
                return {"thinking": "", "signature": ""}, [*deltas, signed]
            case "text":
                return {"text": ""}, [{"type": "text_delta", "text": text} for text in pieces(block["text"])]
        texts = ["", *pieces(dumps(block["input"]))]
        return {"input": {}}, [{"type": "input_json_delta", "partial_json": text} for text in texts]

    KINDS: ClassVar = {
        400: "invalid_request_error",
        401: "authentication_error",
        429: "rate_limit_error",
        500: "api_error",
        529: "overloaded_error",
    }

    @classmethod
    def error(cls, status: int, message: str) -> tuple[dict[str, str], Any]:
        error = {"type": cls.KINDS[status], "message": message}
        return {"request-id": "req_1"}, {"type": "error", "error": error, "request_id": "req_1"}

    @classmethod
    def broken(cls, message: str) -> bytes:
        return sse({"type": "error", "error": {"type": "overloaded_error", "message": message}}, "error")


# -- Gemini --


class Generate:
    """Gemini's generateContent; thoughts are not among the candidates' tokens, and calls have no ids."""

    stream_type = b"text/event-stream"
    FINISH: ClassVar = {"stop": "STOP", "tools": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY"}

    @classmethod
    def whole(cls, say: Say, model: str) -> Any:
        return cls._reply(say, model, cls._parts(say), cls.FINISH[say.finish])

    @staticmethod
    def _reply(say: Say, model: str, parts: list[Any], finish: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        usage = {
            "promptTokenCount": say.input,
            "cachedContentTokenCount": say.cached,
            "candidatesTokenCount": say.output - say.thinking,
            "thoughtsTokenCount": say.thinking,
            "totalTokenCount": say.input + say.output,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": say.input}],
        }
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "r1"}

    @staticmethod
    def _parts(say: Say) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        if say.thought:
            parts.append({"text": say.thought, "thought": True})
        if say.text:
            parts.append({"text": say.text})
        for number, use in enumerate(say.uses):
            part: dict[str, Any] = {"functionCall": {"name": use.name, "args": use.arguments}}
            if say.signed and number == 0:
                part["thoughtSignature"] = signature("google", say.signed)
            parts.append(part)
        return parts

    @classmethod
    def stream(cls, say: Say, model: str) -> Iterator[bytes]:
        for part in cls._parts(say):
            if "text" not in part:
                yield sse(cls._reply(say, model, [part], None))
                continue
            for text in pieces(part["text"]):
                yield sse(cls._reply(say, model, [part | {"text": text}], None))
        yield sse(cls._reply(say, model, [{"text": ""}], cls.FINISH[say.finish]))

    KINDS: ClassVar = {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        429: "RESOURCE_EXHAUSTED",
        500: "INTERNAL",
        529: "UNAVAILABLE",
    }

    @classmethod
    def error(cls, status: int, message: str) -> tuple[dict[str, str], Any]:
        return {}, {"error": {"code": status, "message": message, "status": cls.KINDS[status]}}

    @classmethod
    def broken(cls, message: str) -> bytes:
        return sse({"error": {"code": 503, "message": message, "status": "UNAVAILABLE"}})


# -- Bedrock --


class Converse:
    """Bedrock's Converse; streams are frames of an event-stream."""

    stream_type = b"application/vnd.amazon.eventstream"
    FINISH: ClassVar = {
        "stop": "end_turn",
        "tools": "tool_use",
        "length": "max_tokens",
        "refusal": "guardrail_intervened",
    }

    @classmethod
    def whole(cls, say: Say, _model: str) -> Any:
        return {
            "output": {"message": {"role": "assistant", "content": cls._blocks(say)}},
            "stopReason": cls.FINISH[say.finish],
            "usage": cls._usage(say),
            "metrics": {"latencyMs": 12},
        }

    @staticmethod
    def _usage(say: Say) -> dict[str, int]:
        return {
            "inputTokens": say.input - say.cached,
            "outputTokens": say.output,
            "totalTokens": say.input + say.output,
            "cacheReadInputTokens": say.cached,
            "cacheWriteInputTokens": 0,
        }

    @staticmethod
    def _blocks(say: Say) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        if say.thought:
            sealed = {"text": say.thought, "signature": signature("anthropic", say.signed)}
            blocks.append({"reasoningContent": {"reasoningText": sealed}})
        if say.text:
            blocks.append({"text": say.text})
        blocks += [
            {"toolUse": {"toolUseId": f"tooluse_{use.id}", "name": use.name, "input": use.arguments}}
            for use in say.uses
        ]
        return blocks

    @classmethod
    def stream(cls, say: Say, _model: str) -> Iterator[bytes]:
        yield frame("messageStart", {"role": "assistant"})
        for index, block in enumerate(cls._blocks(say)):
            at = {"contentBlockIndex": index}
            if "toolUse" in block:
                use = block["toolUse"]
                start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
                yield frame("contentBlockStart", {**at, "start": start})
            for delta in cls._deltas(block):
                yield frame("contentBlockDelta", {**at, "delta": delta})
            yield frame("contentBlockStop", at)
        yield frame("messageStop", {"stopReason": cls.FINISH[say.finish]})
        yield frame("metadata", {"usage": cls._usage(say), "metrics": {"latencyMs": 12}})

    @staticmethod
    def _deltas(block: dict[str, Any]) -> list[dict[str, Any]]:
        if "text" in block:
            return [{"text": text} for text in pieces(block["text"])]
        if "toolUse" in block:
            return [{"toolUse": {"input": text}} for text in pieces(dumps(block["toolUse"]["input"]))]
        thought = block["reasoningContent"]["reasoningText"]
        texts = [{"reasoningContent": {"text": text}} for text in pieces(thought["text"])]
        return [*texts, {"reasoningContent": {"signature": thought["signature"]}}]

    KINDS: ClassVar = {
        400: "ValidationException",
        401: "UnrecognizedClientException",
        429: "ThrottlingException",
        500: "InternalServerException",
        529: "ServiceUnavailableException",
    }

    @classmethod
    def error(cls, status: int, message: str) -> tuple[dict[str, str], Any]:
        return {"x-amzn-errortype": cls.KINDS[status]}, {"message": message}

    @classmethod
    def broken(cls, message: str) -> bytes:
        return frame("modelStreamErrorException", {"message": message}, kind="exception")


def frame(name: str, payload: Any, kind: str = "event") -> bytes:
    """One message of AWS's event-stream encoding."""
    said = {
        f":{kind}-type": name,
        ":content-type": "application/json",
        ":message-type": kind,
    }
    heads = b"".join(
        bytes((len(key),)) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for key, value in said.items()
    )
    body = dumps(payload).encode()
    prelude = struct.pack(">II", len(heads) + len(body) + 16, len(heads))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    whole = prelude + heads + body
    return whole + struct.pack(">I", zlib.crc32(whole))


# -- Ollama --


class Ollama:
    """Ollama's chat: lines of JSON; no ids, no cache, no signatures."""

    stream_type = b"application/x-ndjson"
    FINISH: ClassVar = {"stop": "stop", "tools": "stop", "length": "length", "refusal": "stop"}

    @classmethod
    def whole(cls, say: Say, model: str) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": say.text}
        if say.thought:
            message["thinking"] = say.thought
        if say.uses:
            message["tool_calls"] = [{"function": {"name": use.name, "arguments": use.arguments}} for use in say.uses]
        return cls._line(model, message, cls._end(say))

    @staticmethod
    def _line(model: str, message: dict[str, Any], end: dict[str, Any]) -> dict[str, Any]:
        head = {"model": model, "created_at": "2026-11-20T10:15:30.123456789Z", "message": message}
        return {**head, **(end or {"done": False})}

    @classmethod
    def _end(cls, say: Say) -> dict[str, Any]:
        counts = {"prompt_eval_count": say.input, "eval_count": say.output}
        times = {"total_duration": 4883583458, "load_duration": 1334875, "prompt_eval_duration": 3, "eval_duration": 4}
        return {"done": True, "done_reason": cls.FINISH[say.finish], **counts, **times}

    @classmethod
    def stream(cls, say: Say, model: str) -> Iterator[bytes]:
        messages: list[dict[str, Any]] = [{"content": "", "thinking": text} for text in pieces(say.thought)]
        messages += [{"content": text} for text in pieces(say.text)]
        for use in say.uses:
            calls = [{"function": {"name": use.name, "arguments": use.arguments}}]
            messages.append({"content": "", "tool_calls": calls})
        for message in messages:
            yield line(cls._line(model, {"role": "assistant", **message}, {}))
        yield line(cls._line(model, {"role": "assistant", "content": ""}, cls._end(say)))

    @classmethod
    def error(cls, _status: int, message: str) -> tuple[dict[str, str], Any]:
        return {}, {"error": message}

    @classmethod
    def broken(cls, message: str) -> bytes:
        return line({"error": message})


def line(data: Any) -> bytes:
    return dumps(data).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode() + b"\n"

"""Writes what a Responses client gets: output items, and the Response object around them.

Pure. The Response says again what was asked, as OpenAI's does. Nothing is stored here, and it says so. Only the first answer of
several has a place, and sound has none. Place in the line: behind `openai_responses.py`, on the client's side.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Raw
from msgspec.json import Decoder, encode

from penstock.call import Call, Foreign, Image, Part, Reasoning, Refusal, Text, ToolUse
from penstock.errors import PenstockError
from penstock.receipt import Usage
from penstock.reply import Choice, Finish, Logprob, Reply, Started
from penstock.wire import openai_responses_citations
from penstock.wire.openai_responses_content import Reading
from penstock.wire.openai_responses_reasoning import item_id, write_item, write_tool_signature
from penstock.wire.openai_responses_reply import IMAGE
from penstock.wire.openai_responses_request_types import NAME
from penstock.wire.splice import Outline

Item = dict[str, Any]

_MEMBERS: Final = Decoder(dict[str, Raw])
_TOO_MANY: Final = 429
_INCOMPLETE: Final[Mapping[Finish, str]] = MappingProxyType(
    {"length": "max_output_tokens", "content_filter": "content_filter"}
)
_REASONS: Final = frozenset({"max_output_tokens", "max_messages", "content_filter", "steered"})
_SAID: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "instructions": None,
        "max_tool_calls": None,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": False,
        "tool_choice": "auto",
        "tools": (),
        "truncation": "disabled",
        "user": None,
        "metadata": {},
    }
)
"""What is said again, and what stands there if nothing was said."""


def write_reply(reply: Reply, call: Call) -> bytes:
    """Write a whole reply; every member that OpenAI's schema requires is there."""
    choice = reply.choices[0] if reply.choices else Choice()
    start = Started(reply.id, reply.model, reply.created, None, reply.service_tier, reply.extra)
    refused = any(isinstance(part, Refusal) for part in choice.parts)
    output = write_items(choice, reply.id)
    end = Ending(choice.finish, choice.native_finish, reply.usage, reply.error, refused=refused)
    return encode(Response(start, call).write(output, end))


class Ending:
    """How a reply ended: its status, why, and what it cost."""

    def __init__(
        self, finish: Finish, native: str, usage: Usage | None, error: PenstockError | None, *, refused: bool
    ) -> None:
        """Say why; a refusal that no part of the answer tells of (`refused`) is a content filter's here."""
        self.error = error
        self.usage = usage
        reason: Finish = "content_filter" if finish == "refusal" and not refused else finish
        self.reason = native if native in _REASONS else _INCOMPLETE.get(reason)
        failed = error is not None or finish == "error"
        self.status = "failed" if failed else "incomplete" if self.reason is not None else "completed"


class Response:
    """The Response object of one call."""

    def __init__(self, start: Started, call: Call) -> None:
        self._echo = _echo(call)
        self._extra = start.extra
        if start.service_tier is not None:
            self._echo["service_tier"] = start.service_tier
        self._head = {
            "id": start.id or item_id("resp", call.model),
            "object": "response",
            "created_at": start.created or 0,
        }
        self._model = start.model or call.model

    def write(self, output: Iterable[Item | Raw], end: Ending | None) -> Item:
        """Write it as it stands; without an ending it is in progress."""
        whole: Item = {
            **self._head,
            "status": "in_progress" if end is None else end.status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": self._model,
            "output": [*output],
            "usage": None,
            **self._echo,
        }
        if end is not None:
            if end.status == "failed":
                whole["error"] = write_failure(end.error)
            elif end.reason is not None:
                whole["incomplete_details"] = {"reason": end.reason}
            if end.usage is not None:
                whole["usage"] = write_usage(end.usage)
            for name, json in self._extra:
                whole.setdefault(name, Raw(json))
        return whole


def _echo(call: Call) -> Item:
    reading = call.read
    if call.dialect != NAME or not call.raw:
        members: dict[str, Raw] = {}
    else:
        members = (reading.outline if isinstance(reading, Reading) else Outline(call.raw)).members
    said = {name: raw for name, raw in members.items() if name in _SAID and bytes(raw) != b"null"}
    sampling = call.sampling
    return {
        **_SAID,
        **said,
        "max_output_tokens": sampling.max_tokens,
        "temperature": 1.0 if sampling.temperature is None else sampling.temperature,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "top_logprobs": sampling.top_logprobs or 0,
        "text": _text(members.get("text")),
    }


def _text(raw: Raw | None) -> Item:
    said = _MEMBERS.decode(raw) if raw is not None and bytes(raw).startswith(b"{") else {}
    return {"format": {"type": "text"}, "verbosity": "medium", **said}


def write_failure(error: PenstockError | None) -> dict[str, Any]:
    """Write why a Response failed, in one of the two codes that fit."""
    if error is None:
        return {"code": "server_error", "message": "The model stopped with an error."}
    return {"code": "rate_limit_exceeded" if error.status == _TOO_MANY else "server_error", "message": str(error)}


def write_usage(usage: Usage) -> dict[str, Any]:
    """Write a count with the details that the schema requires, and sound and pictures where there are any."""
    written = usage.cache_write_tokens + usage.cache_write_1h_tokens
    given = {"cached_tokens": usage.cached_input_tokens, "cache_write_tokens": written}
    made = {"reasoning_tokens": usage.reasoning_tokens}
    for details, name, tokens in (
        (given, "audio_tokens", usage.audio_input_tokens),
        (given, "image_tokens", usage.image_input_tokens),
        (made, "audio_tokens", usage.audio_output_tokens),
        (made, "image_tokens", usage.image_output_tokens),
    ):
        if tokens:
            details[name] = tokens
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": given,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": made,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


# -- items --


def write_items(choice: Choice, reply_id: str) -> list[Item | Raw]:
    """Write an answer as items. Texts and refusals that follow on each other are one message."""
    items: list[Item | Raw] = []
    content: list[Item] | None = None
    logprobs: tuple[Logprob, ...] = choice.logprobs
    for part in choice.parts:
        if isinstance(part, Text | Refusal):
            if content is None:
                content = []
                items.append(message(item_id("msg", reply_id, len(items)), content))
            content.append(refusal(part.text) if isinstance(part, Refusal) else output_text(part, logprobs))
            logprobs = () if isinstance(part, Text) else logprobs
        else:
            content = None
            items += _write_item(part, reply_id, len(items))
    last = items[-1] if items else None
    if choice.finish in _INCOMPLETE and isinstance(last, dict) and "status" in last:
        last["status"] = "incomplete"
    return items


def _write_item(part: Part, reply_id: str, place: int) -> list[Item | Raw]:
    match part:
        case Reasoning():
            return [write_item(part, item_id("rs", reply_id, place))]
        case ToolUse():
            signature = write_tool_signature(part, item_id("rs", reply_id, place))
            before: list[Item | Raw] = [] if signature is None else [signature]
            return [*before, tool_call(part, item_id("fc", reply_id, place + len(before)))]
        case Image() | Foreign():
            item = whole_item(part, reply_id, place)
            return [] if item is None else [item]
        case _:
            return []


def whole_item(part: Part, reply_id: str, place: int) -> Item | Raw | None:
    """Write a picture, or what only this API knows; None for what has no place."""
    if isinstance(part, Foreign):
        return Raw(part.json) if part.dialect == NAME else None
    if not isinstance(part, Image) or not part.data:
        return None
    item: Item = {"type": IMAGE, "result": part.data}
    for name, json in part.extra:
        item.setdefault(name, Raw(json))
    item.setdefault("id", item_id("ig", reply_id, place))
    item.setdefault("status", "completed")
    item.setdefault("output_format", (part.media_type or "image/png").rpartition("/")[2])
    return item


def message(ident: str, content: list[Item], status: str = "completed") -> Item:
    """Write a message of the assistant."""
    return {"id": ident, "type": "message", "status": status, "role": "assistant", "content": content}


def output_text(part: Text, logprobs: tuple[Logprob, ...]) -> Item:
    """Write a text with its sources and log probabilities."""
    annotations = [openai_responses_citations.write(citation) for citation in part.citations]
    return {
        "type": "output_text",
        "annotations": [annotation for annotation in annotations if annotation is not None],
        "logprobs": write_logprobs(logprobs),
        "text": part.text,
    }


def refusal(text: str) -> Item:
    """Write a refusal."""
    return {"type": "refusal", "refusal": text}


def tool_call(part: ToolUse, ident: str, status: str = "completed") -> Item:
    """Write a call of a tool."""
    call: Item = {"id": ident, "type": "function_call", "status": status}
    if part.kind == "custom":
        return {"id": ident, "type": "custom_tool_call", "call_id": part.id, "name": part.name, "input": part.arguments}
    return {**call, "call_id": part.id, "name": part.name, "arguments": part.arguments}


def write_logprobs(tokens: Iterable[Logprob]) -> list[Item]:
    """Write log probabilities; bytes that nobody said are those of the token."""
    return [{**_logprob(token), "top_logprobs": [_logprob(other) for other in token.top]} for token in tokens]


def _logprob(token: Logprob) -> Item:
    known = token.bytes if token.bytes is not None else tuple(token.token.encode("utf-8", "replace"))
    return {"token": token.token, "bytes": known, "logprob": token.logprob}

"""Writes the streams of chat completions: events to chunks.

Pure; one writer per client reply. Place in the line: behind `openai_chat.py`, on the client's side.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Raw
from msgspec.json import encode

from penstock.call import Call, Image, Reasoning
from penstock.receipt import Usage
from penstock.reply import (
    AudioDelta,
    Cited,
    Embedded,
    Ended,
    Event,
    Failed,
    Finished,
    ForeignDelta,
    LogprobsDelta,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)
from penstock.wire.framing import sse
from penstock.wire.openai_chat_content import LEGACY_ID
from penstock.wire.openai_chat_parts import write_citation, write_images
from penstock.wire.openai_chat_reply import OF_CHOICE, native_finish, write_error, write_logprobs
from penstock.wire.openai_chat_request_types import NAME
from penstock.wire.openai_chat_thoughts import write_details, write_signature
from penstock.wire.openai_chat_usage import write_usage

DONE: Final = b"[DONE]"


class ChatStreamWriter:
    """Chunks of one stream, as OpenAI writes them: a role first, `finish_reason` in every choice, usage if asked for, [DONE].

    A signature comes with all of the thinking that it signs, as one entry of `reasoning_details`, so that a client that keeps
    the entries has each of them whole. What has no place in this dialect (parts of other dialects) is left out.
    """

    __slots__ = (
        "_begun",
        "_counts",
        "_head",
        "_roles",
        "_said",
        "_start",
        "_tail",
        "_thoughts",
        "_tools",
        "_usage",
        "_usage_asked",
    )

    content_type = b"text/event-stream; charset=utf-8"

    def __init__(self, call: Call) -> None:
        self._start = Started(model=call.model)
        self._head = b""
        self._usage_asked = call.stream_usage
        self._tail = b',"usage":null}' if call.stream_usage else b"}"
        self._usage: Usage | None = None
        self._roles: set[int] = set()
        self._said: dict[int, int] = {}  # how long the text of each choice is
        self._begun: dict[int, int] = {}  # where in it the last piece without a break began
        self._thoughts: dict[int, list[str]] = {}  # thinking that may be signed yet
        self._counts: dict[tuple[int, str], int] = {}  # of entries in the lists of each choice
        self._tools: dict[tuple[int, int], ToolUseStarted] = {}

    def send(self, events: Iterable[Event]) -> bytes:
        """Write the chunks of some events; b"" if they say nothing yet."""
        waiting = list(events)
        out: list[bytes] = []
        last = len(waiting) - 1
        for index, event in enumerate(waiting):
            if isinstance(event, TextDelta) and event.choice in self._roles:
                after = waiting[index + 1] if index < last else None
                out.append(self._text(event, after if isinstance(after, LogprobsDelta) else None))
                continue
            if isinstance(event, ToolUseDelta) and (delta := self._arguments(event)):
                out.append(delta)
                continue
            if isinstance(event, UsageReported):
                self._usage = event.usage
                continue
            if isinstance(event, LogprobsDelta):
                before = waiting[index - 1] if index else None
                if not isinstance(before, TextDelta | RefusalDelta) or before.choice != event.choice:
                    out.append(self._delta(event.choice, b"{}", _logprobs(event)))
                continue  # else it went along with the text
            after = waiting[index + 1] if index < last else None
            out.append(self._write(event, after))
        return b"".join(out)

    def _text(self, event: TextDelta, after: LogprobsDelta | None) -> bytes:
        """Write text of a choice whose role is told: nearly every chunk of nearly every stream."""
        text, number = event.text, event.choice
        self._said[number] = self._said.get(number, 0) + len(text)
        if self._thoughts:
            self._thoughts.pop(number, None)
        chunk = b'data: %b{"index":%d,"delta":{"content":%b},"logprobs":%b,"finish_reason":null}]%b\n\n'
        logprobs = b"null" if after is None else _logprobs(after, number)
        return chunk % (self._head or self._heading(), number, encode(text), logprobs, self._tail)

    def _arguments(self, event: ToolUseDelta) -> bytes:
        """Write more arguments of a call that has begun; b"" where it is none of a function, or of the deprecated kind."""
        start = self._tools.get((event.choice, event.index))
        if start is None or start.kind != "function" or start.id.startswith(LEGACY_ID):
            return b""
        delta = b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (event.index, encode(event.arguments))
        return self._delta(event.choice, delta)

    def _write(self, event: Event, after: Event | None) -> bytes:
        match event:
            case TextDelta(text, number):
                self._said[number] = self._said.get(number, 0) + len(text)
                if self._thoughts:
                    self._thoughts.pop(number, None)
                return self._delta(number, b'{"content":%b}' % encode(text), _logprobs(after, number), b'""')
            case RefusalDelta(text, number):
                return self._delta(number, b'{"refusal":%b}' % encode(text), _logprobs(after, number))
            case Finished(reason, native, number):
                return self._delta(number, b"{}", finish=encode(native_finish(reason, native)))
            case Failed(error):
                self._usage = None
                return sse(write_error(error))
            case Ended():
                return self._end()
            case ReasoningDelta():
                return self._think(event)
            case Started() | Embedded() | UsageReported():
                if isinstance(event, Started):
                    self._start = event
                    self._head = b""
                return b""
            case _:
                number, delta = event.choice, self._rare(event)
                return self._delta(number, encode(delta)) if delta else b""

    def _think(self, event: ReasoningDelta) -> bytes:
        """Write thoughts as they come, and again as a whole with the signature that closes them."""
        number = event.choice
        self._begun[number] = self._said.get(number, 0)
        told = self._thoughts.setdefault(number, [])
        out = b""
        if event.text:
            told.append(event.text)
            out = self._delta(number, b'{"reasoning_content":%b}' % encode(event.text))
        if event.signature is None and not event.redacted:
            return out
        block = Reasoning("" if event.redacted else "".join(told), event.signature, event.redacted, (), event.signer)
        entries = write_details((block,), self._count(number, "details", 0))
        self._count(number, "details", len(entries))
        del self._thoughts[number]
        return out + self._delta(number, encode({"reasoning_details": entries}))

    def _count(self, number: int, name: str, more: int) -> int:
        """Count on in one list of a choice; give where it stood."""
        before = self._counts.get((number, name), 0)
        self._counts[number, name] = before + more
        return before

    def _rare(self, event: Event) -> dict[str, Any]:
        """Give the delta of an event that most streams do not have."""
        match event:
            case Cited(citation, number):
                item = write_citation(citation, self._begun.get(number, 0))
                if isinstance(item, dict):
                    item["index"] = self._count(number, "annotations", 1)  # without it OpenAI's SDK cannot join them
                return {} if item is None else {"annotations": [item]}
            case PartAdded(Image() as image, number):
                self._begun[number] = self._said.get(number, 0)
                images = write_images((image,), self._count(number, "images", 1))
                return {"images": images} if images else {}
            case ToolUseStarted(index=index, choice=number):
                self._tools[number, index] = event
                self._begun[number] = self._said.get(number, 0)
                self._thoughts.pop(number, None)
                return _tool(event, {"name": event.name}, "")
            case ToolUseDelta(index, arguments, number):
                return _tool(self._tools.get((number, index)) or ToolUseStarted(index, "", ""), None, arguments)
            case AudioDelta():
                said = {"id": event.id, "data": event.data or None, "transcript": event.transcript or None}
                said_of = {name: value for name, value in said.items() if value is not None}
                return {"audio": said_of if event.expires_at is None else {**said_of, "expires_at": event.expires_at}}
            case ForeignDelta(dialect, name, json) if dialect == NAME and not name.startswith(OF_CHOICE):
                return {name: Raw(json)}
            case _:
                return {}

    def _delta(
        self, number: int, delta: bytes, logprobs: bytes = b"null", content: bytes = b"null", finish: bytes = b"null"
    ) -> bytes:
        """Write one chunk of one choice; before the first of a choice goes its role."""
        role = b""
        if number not in self._roles:
            self._roles.add(number)
            role = self._delta(number, b'{"role":"assistant","content":%b}' % content)
        chunk = b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}]%b'
        return role + sse(chunk % (self._head or self._heading(), number, delta, logprobs, finish, self._tail))

    def _heading(self) -> bytes:
        """Write what every chunk begins with."""
        start = self._start
        members: dict[str, Any] = {
            "id": start.id,
            "object": "chat.completion.chunk",
            "created": start.created or 0,
            "model": start.model,
        }
        if start.service_tier is not None:
            members["service_tier"] = start.service_tier
        if start.fingerprint is not None:
            members["system_fingerprint"] = start.fingerprint
        self._head = encode(members)[:-1] + b',"choices":['
        return self._head

    def _end(self) -> bytes:
        usage = b""
        if self._usage_asked and self._usage is not None:
            usage = sse(b'%b],"usage":%b}' % (self._head or self._heading(), encode(write_usage(self._usage))))
        return usage + sse(DONE)


def _tool(start: ToolUseStarted, named: dict[str, str] | None, arguments: str) -> dict[str, Any]:
    """Give the delta of a tool call: its start has id, type and name, its pieces the index and more arguments."""
    said = named or {}
    if start.id.startswith(LEGACY_ID):
        return {"function_call": {**said, "arguments": arguments}}
    call: dict[str, Any] = {"index": start.index}
    if named is not None:
        call["id"] = start.id
    if start.kind == "custom":  # OpenAI's schema of chunks knows functions only, so no type is said
        call["custom"] = {**said, "input": arguments}
    else:
        if named is not None:
            call["type"] = "function"
        call["function"] = {**said, "arguments": arguments}
    if named is not None and start.signature is not None:
        call.update(write_signature(start.signature, start.signer))
    return {"tool_calls": [call]}


def _logprobs(event: Event | None, number: int | None = None) -> bytes:
    """Write the log probabilities, if it is they that come next for this choice."""
    if not isinstance(event, LogprobsDelta) or number not in {None, event.choice}:
        return b"null"
    return encode(write_logprobs(() if event.refusal else event.tokens, event.tokens if event.refusal else ()))

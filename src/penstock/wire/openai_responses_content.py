"""Reads the items, tools and the rest of a Responses request into the neutral `Content`.

Pure, and off the fast path: a `Reading` stands in `Call.read` and works when somebody asks. It cannot fail, since the request
was checked when it came in. What the model said in a row (thoughts, text, tool calls) is one message of the assistant. Ids and
states of items are not kept, apart from those of thoughts: they only name what stands here anyway.
Place in the line: behind `openai_responses_request.py`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Raw, Struct
from msgspec.json import Decoder, encode

from penstock.call import (
    Audio,
    Citation,
    Content,
    File,
    Foreign,
    Image,
    Json,
    Members,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.wire import media, openai_responses_citations
from penstock.wire import openai_responses_request_types as wire
from penstock.wire.openai_chat_parts import read_pairs
from penstock.wire.openai_responses_reasoning import Signature, read_item
from penstock.wire.splice import Outline

IN_CONTENT: Final = "content."
"""Begins the kind of a `Foreign` part that stands within a message, rather than being an item."""

_PARTS: Final = Decoder(str | list[wire.Part] | None)
_TEXT: Final = Decoder(str)
_MEMBERS: Final = Decoder(dict[str, Raw])
_ITEMS: Final = Decoder(list[Raw])
_NEUTRAL: Final = frozenset(
    {
        *("model", "input", "instructions", "stream", "temperature", "top_p", "max_output_tokens", "top_logprobs"),
        *("tools", "tool_choice", "parallel_tool_calls", "metadata", "service_tier", "user"),
    }
)
"""Top-level members that have a neutral form in full; of `text`, `reasoning` and `include` the rest rides along."""
_USUAL: Final = frozenset({("store", b"false"), ("background", b"false"), ("truncation", b'"disabled"')})
"""What says no more than the usual; it goes on to the same dialect, but nobody else misses it."""
_HINTS: Final = frozenset({"stream_options", "prompt_cache_key", "prompt_cache_retention"})
"""What asks for nothing that could be missed in an answer."""
_INCLUDED: Final = frozenset({"message.output_text.logprobs", "reasoning.encrypted_content"})
_OF_MODEL: Final = ("_output", "_response")


class Reading:
    """Gives the content of one request. `outline` is where its top-level members stand, `request` what they say."""

    __slots__ = ("outline", "request")

    def __init__(self, outline: Outline, request: wire.Request) -> None:
        self.outline = outline
        self.request = request

    def __call__(self) -> Content:
        """Read everything but the options."""
        members = self.outline.members
        request = self.request
        tools = [_tool(tool, raw) for tool, raw in zip(request.tools or (), _items(members.get("tools")), strict=True)]
        labels = read_pairs(members["metadata"]) if request.metadata is not None else ()
        thinking = None
        if request.reasoning is not None and request.reasoning.summary is not None:
            thinking = Thinking(summary=request.reasoning.summary)
        return Content(
            tuple(_messages(request, members)),
            tuple(tools),
            _tool_choice(request.tool_choice, members.get("tool_choice")),
            request.parallel_tool_calls,
            None if request.text is None else _output(request.text.format),
            tuple(_extra(members, request))
            + (() if labels is not None else (("metadata", bytes(members["metadata"])),)),
            thinking,
            request.service_tier,
            labels or (),
        )


def _extra(members: Mapping[str, Raw], request: wire.Request) -> Iterator[tuple[str, Json]]:
    """Give the members that nobody else can honour."""
    for name, raw in members.items():
        json = bytes(raw)
        if name in _NEUTRAL or name in _HINTS or json in {b"null", b"{}"} or (name, json) in _USUAL:
            continue
        if name == "text":
            yield from _rest(name, raw, wire.TextConfig)
        elif name == "reasoning":
            yield from _rest(name, raw, wire.ReasoningConfig)
        elif name == "include":
            if rest := [value for value in request.include or () if value not in _INCLUDED]:
                yield name, encode(rest)
        else:
            yield name, json


def _rest(name: str, raw: Raw, kind: type[Struct]) -> Members:
    """Give what of an object its struct does not know, under its name."""
    known = kind.__struct_fields__
    rest = {key: value for key, value in _MEMBERS.decode(raw).items() if key not in known}
    return ((name, encode(rest)),) if rest else ()


# -- items --


def _messages(request: wire.Request, members: Mapping[str, Raw]) -> Iterator[Message]:
    if request.instructions is not None:
        yield Message("system", (Text(request.instructions),))
    if isinstance(request.input, str):
        yield Message("user", (Text(request.input),))
        return
    said: list[Part] = []  # by the model, in a row
    signed: dict[str, Signature] = {}  # of tool calls that follow
    for item, raw in zip(request.input or (), _items(members.get("input")), strict=True):
        if item.type == "reasoning":
            thought = _thought(item)
            if isinstance(thought, Reasoning):
                said.append(thought)
            else:
                signed[thought[0]] = thought
        elif item.type in {"function_call", "custom_tool_call"}:
            said.append(_tool_use(item, signed))
        elif item.type == "message" and item.role == "assistant":
            said += _assistant(item)
        elif item.type not in {"message", "function_call_output", "custom_tool_call_output"} and not item.type.endswith(
            _OF_MODEL
        ):
            said.append(Foreign(wire.NAME, item.type, bytes(raw)))
        else:
            if said:
                yield Message("assistant", tuple(said))
                said = []
            yield _told(item, raw)
    if said:
        yield Message("assistant", tuple(said))


def _told(item: wire.Item, raw: Raw) -> Message:
    """Read an item that is not the model's."""
    if item.type in {"function_call_output", "custom_tool_call_output"}:
        return Message("tool", (ToolResult(item.call_id or "", tuple(_parts(item.output))),))
    if item.type != "message":
        return Message("user", (Foreign(wire.NAME, item.type, bytes(raw)),))
    role: Role = item.role  # type: ignore[assignment]  # checked when the request came in
    return Message(role, tuple(_parts(item.content)))


def _assistant(item: wire.Item) -> list[Part]:
    parts = list(_parts(item.content))
    if item.phase is not None and parts and isinstance(parts[0], Text):
        first = parts[0]
        parts[0] = Text(first.text, (*first.extra, ("phase", encode(item.phase))), first.citations)
    return parts


def _thought(item: wire.Item) -> Reasoning | Signature:
    return read_item(item.id, item.encrypted_content, _texts(item.summary), _texts(item.content))


def _texts(raw: Raw) -> list[str]:
    parts = _PARTS.decode(raw) if raw else None
    return [part.text or "" for part in parts] if isinstance(parts, list) else []


def _tool_use(item: wire.Item, signed: dict[str, Signature]) -> ToolUse:
    call_id, name = item.call_id or "", item.name or ""
    _, signature, signer = signed.pop(call_id, ("", None, ""))
    if item.type == "custom_tool_call":
        text = _TEXT.decode(item.input) if item.input else ""
        return ToolUse(call_id, name, text, "custom", (), signature, signer)  # type: ignore[arg-type]  # a signer
    text = _TEXT.decode(item.arguments) if item.arguments else ""
    return ToolUse(call_id, name, text, "function", (), signature, signer)  # type: ignore[arg-type]  # a signer


def _parts(raw: Raw) -> Iterator[Part]:
    parts = _PARTS.decode(raw)
    if isinstance(parts, str):
        yield Text(parts)
    elif parts is not None:
        for part, own in zip(parts, _ITEMS.decode(raw), strict=True):
            yield _part(part, own)


def _part(part: wire.Part, raw: Raw) -> Part:
    extra = _unknown(_MEMBERS.decode(raw))
    match part:
        case wire.Part(type="input_text" | "output_text" | "text", text=str(text)):
            return Text(text, extra, citations(part.annotations))
        case wire.Part(type="refusal", refusal=str(text)):
            return Refusal(text)
        case wire.Part(type="input_image"):
            held = media.read_data_url(part.image_url or "")
            if held is None:
                return Image(part.image_url, None, None, part.detail, extra, part.file_id)
            data = media.standard_base64(held[1]) or held[1]
            return Image(None, data, held[0], part.detail, extra, part.file_id)
        case wire.Part(type="input_file"):
            media_type, whole = media.read_data_url(part.file_data or "") or (None, part.file_data)
            if part.detail is not None:
                extra += (("detail", encode(part.detail)),)
            return File(part.filename, whole, media_type, part.file_url, part.file_id, extra)
        case wire.Part(type="input_audio", input_audio=wire.InputAudio(data, form)):
            return Audio(data, form, extra=extra)
        case _:
            return Foreign(wire.NAME, IN_CONTENT + part.type, bytes(raw))


def citations(raw: Raw) -> tuple[Citation, ...]:
    """Read the sources of a text."""
    return tuple(openai_responses_citations.read(raw)) if len(raw) > len("[]") else ()


def _unknown(own: dict[str, Raw]) -> Members:
    known = wire.Part.__struct_fields__
    return tuple((name, bytes(raw)) for name, raw in own.items() if name not in known and name != "logprobs")


# -- tools and the form of the answer --


def _tool(tool: wire.ToolDefinition, raw: Raw | None) -> Tool | Foreign:
    assert raw is not None, "tools are always read with their bytes"
    if tool.type != "function":
        return Foreign(wire.NAME, tool.type, bytes(raw))
    known = wire.ToolDefinition.__struct_fields__
    extra = tuple((name, bytes(value)) for name, value in _MEMBERS.decode(raw).items() if name not in known)
    return Tool(tool.name or "", tool.description, _json(tool.parameters), tool.strict, extra)


def _tool_choice(choice: str | wire.ToolChoiceObject | None, raw: Raw | None) -> ToolChoice | None:
    """Read the choice. What has no neutral form (allowed tools, custom and hosted ones) stands whole in `extra`."""
    whole: Members = (("tool_choice", _json(raw) or b"null"),) if raw is not None else ()
    match choice:
        case None:
            return None
        case "none" | "auto" | "required":
            return ToolChoice(choice)
        case wire.ToolChoiceObject(type="function", name=str(name)):
            return ToolChoice("named", name)
        case wire.ToolChoiceObject(type="custom", name=str(name)):
            return ToolChoice("named", name, whole)
        case wire.ToolChoiceObject(type="allowed_tools", mode="auto" | "required" as mode):
            return ToolChoice(mode, None, whole)
        case _:
            return ToolChoice("auto", None, whole)


def _output(form: wire.Format | None) -> OutputFormat | None:
    match form:
        case wire.Format(type="text"):
            return OutputFormat("text")
        case wire.Format(type="json_object"):
            return OutputFormat("json")
        case wire.Format(type="json_schema"):
            return OutputFormat("json_schema", form.name, form.description, _json(form.schema), form.strict)
        case _:
            return None


def _items(raw: Raw | None) -> Iterable[Raw]:
    return _ITEMS.decode(raw) if raw is not None and memoryview(raw)[0] == ord("[") else ()


def _json(raw: Raw | None) -> Json | None:
    """Give the bytes of a value; None for null and for nothing."""
    json = b"" if raw is None else bytes(raw)
    return json if json and json != b"null" else None

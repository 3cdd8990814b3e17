"""Reads the messages, tools and the rest of a chat completions request into the neutral `Content`.

Pure, and off the fast path: a `Reading` stands in `Call.read` and works when somebody asks. It cannot fail, since the
request was checked when it came in. Members that it does not know ride along in `extra`; unknown members of an object
inside a known one (such as `image_url`) stand there under that one's name.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Raw, Struct, ValidationError, structs
from msgspec.json import Decoder, encode

from penstock.call import (
    Audio,
    Cache,
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
    Signer,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.wire import media, openai_chat_parts, openai_chat_thoughts
from penstock.wire import openai_chat_request_types as wire
from penstock.wire.openai_chat_native import read_reasoning, read_thinking
from penstock.wire.splice import Outline

LEGACY_ID: Final = "function_call-"
"""Begins the id of a deprecated `function_call`, which has none of its own."""

_PLAIN: Final = Decoder(wire.Request)
_MEMBERS: Final = Decoder(dict[str, Raw])
_ITEMS: Final = Decoder(list[Raw])
_NEUTRAL: Final = frozenset(wire.Request.__struct_fields__) - {"functions", "function_call", "store"}
"""Top-level members that have a neutral form; all others ride along."""
_READ_WHOLE: Final = _NEUTRAL - {"response_format", "stream_options", "metadata", "reasoning", "thinking"}
"""Those of them that are read whole, whatever they say."""
_NULL: Final = b"null"
_FUNCTIONS: Final = Decoder(list[wire.FunctionTool])
_ROLES: Final[Mapping[type, Role]] = MappingProxyType(
    {wire.System: "system", wire.Developer: "developer", wire.User: "user"}
)
"""Messages that are nothing but their content."""

Own = dict[str, Raw]
"""The members of an object as they were sent; empty where nothing unknown can be among them."""


class Reading(Struct, frozen=True, eq=False, gc=False):
    """Gives the content of one request. `outline` is where its top-level members stand.

    `exact`: the messages hold no unknown members.
    """

    outline: Outline
    exact: bool = True

    def __call__(self) -> Content:
        """Read everything but the options."""
        members = self.outline.members
        request = _PLAIN.decode(self.outline.raw)
        messages: Iterable[tuple[wire.WireMessage, Own]] = (
            ((message, {}) for message in request.messages)
            if self.exact
            else zip(request.messages, map(_MEMBERS.decode, _ITEMS.decode(members["messages"])), strict=True)
        )
        tools = [] if request.tools is None else _tools(request.tools, members["tools"])
        if request.functions is not None:
            tools += [_function(function, ()) for function in request.functions]
        choice = _tool_choice(request.tool_choice, members.get("tool_choice"))
        output, kept = _output(request.response_format, members.get("response_format"))
        labels = openai_chat_parts.read_pairs(members["metadata"]) if request.metadata is not None else ()
        thinking = read_thinking(request.reasoning, request.thinking)
        unread: Members = ()
        if not _READ_WHOLE.issuperset(members):
            left = {
                "response_format": kept,
                "stream_options": _stream_options(members.get("stream_options")),
                "metadata": labels is None,
                "reasoning": _is_left(request.reasoning) and not _is_understood(request, thinking),
                "thinking": _is_left(request.thinking) and thinking is None,
            }
            unread = tuple((n, bytes(raw)) for n, raw in members.items() if left.get(n, n not in _NEUTRAL))
        return Content(
            tuple(_messages(messages)),
            tuple(tools),
            choice if choice is not None else _function_choice(request.function_call),
            request.parallel_tool_calls,
            output,
            unread,
            thinking,
            request.service_tier,
            labels or (),
        )


def _is_left(raw: Raw) -> bool:
    return len(raw) > 0 and bytes(raw) != _NULL


def _is_understood(request: wire.Request, thinking: Thinking | None) -> bool:
    return thinking is not None or read_reasoning(request.reasoning).effort is not None


# -- messages --


def _messages(messages: Iterable[tuple[wire.WireMessage, Own]]) -> Iterator[Message]:
    legacy = LEGACY_ID
    for index, (message, own) in enumerate(messages):
        text = message.content
        content = (Text(text),) if isinstance(text, str) else tuple(_parts(text, own))
        role = _ROLES.get(type(message))
        if role is not None and not own:
            yield Message(role, content, message.name)
            continue
        cache, extra = openai_chat_parts.read_mark(_rest(own, type(message), "role"))
        if cache is not None and not isinstance(message, wire.ToolMessage):
            content, extra = _marked(content, cache, extra)
        match message:
            case _ if role is not None:
                yield Message(role, content, message.name, extra)
            case wire.Assistant():
                if message.function_call is not None:
                    legacy = f"{LEGACY_ID}{index}"
                parts, extra = _assistant(message, own, content, legacy, extra)
                yield Message("assistant", parts, message.name, extra)
            case wire.ToolMessage():
                yield Message("tool", (ToolResult(message.tool_call_id, content, cache=cache),), message.name, extra)
            case wire.FunctionMessage():
                yield Message("tool", (ToolResult(legacy, content),), message.name, extra)


def _marked(content: tuple[Part, ...], cache: Cache, extra: Members) -> tuple[tuple[Part, ...], Members]:
    """Give the mark of a message to its last part; where that cannot have one, it stays with the message."""
    last = content[-1] if content else None
    if isinstance(last, Text | Image | File) and last.cache is None:
        return (*content[:-1], structs.replace(last, cache=cache)), extra
    return content, (*extra, *((name, encode(value)) for name, value in openai_chat_parts.write_mark(cache).items()))


def _assistant(
    message: wire.Assistant, own: Own, content: tuple[Part, ...], legacy: str, extra: Members
) -> tuple[tuple[Part, ...], Members]:
    """Give the parts of an assistant's message, and what of its members stays unread."""
    parts: list[Part] = []
    read: set[str] = set()
    reasoning = message.reasoning_content if message.reasoning_content is not None else message.reasoning
    if (raw := own.get("reasoning_details")) is not None and (
        details := openai_chat_thoughts.read_details(raw)
    ) is not None:
        read.add("reasoning_details")
        parts += (blocks := openai_chat_thoughts.read_blocks(details))
        reasoning = None if blocks else reasoning
    if reasoning is not None:
        parts.append(Reasoning(reasoning))
    if (raw := own.get("annotations")) is not None and any(isinstance(part, Text) for part in content):
        read.add("annotations")
        content = _cited(content, openai_chat_parts.read_annotations(raw))
    parts += content
    if message.refusal is not None:
        parts.append(Refusal(message.refusal))
    if message.audio is not None:
        parts.append(Audio(id=message.audio.id, extra=_rest(_members(own.get("audio")), wire.AudioId)))
    if (raw := own.get("images")) is not None and (images := openai_chat_parts.read_images(raw)) is not None:
        read.add("images")
        parts += images
    if message.tool_calls is not None:
        calls = message.tool_calls
        raws = _items(own.get("tool_calls"), len(calls))
        parts += [_tool_use(call, _members(raw)) for call, raw in zip(calls, raws, strict=True)]
    if message.function_call is not None:
        rest = _rest(_members(own.get("function_call")), wire.Function)
        function = message.function_call
        parts.append(ToolUse(legacy, function.name, function.arguments, "function", rest))
    return tuple(parts), tuple(member for member in extra if member[0] not in read) if read else extra


def _cited(content: tuple[Part, ...], citations: Iterable[Citation]) -> tuple[Part, ...]:
    """Give its sources to the first text."""
    place = next(place for place, part in enumerate(content) if isinstance(part, Text))
    text = structs.replace(content[place], citations=tuple(citations))
    return (*content[:place], text, *content[place + 1 :])


def _tool_use(call: wire.ToolCall, own: Own) -> ToolUse:
    if not own and call.function is not None and call.type != "custom":
        return ToolUse(call.id, call.function.name, call.function.arguments)
    cache, extra = openai_chat_parts.read_mark(_rest(own, wire.ToolCall))
    signature: str | None = None
    signer: Signer = ""
    if (raw := own.get("extra_content")) is not None:
        signature, signer = openai_chat_thoughts.read_signature(raw)
        if signature is not None:
            extra = tuple(member for member in extra if member[0] != "extra_content")
    if call.type == "custom":
        assert call.custom is not None, "checked when the request came in"
        extra += _inner(own, "custom", wire.Custom)
        return ToolUse(call.id, call.custom.name, call.custom.input, "custom", extra, signature, signer, cache)
    assert call.function is not None, "checked when the request came in"
    extra += _inner(own, "function", wire.Function)
    return ToolUse(call.id, call.function.name, call.function.arguments, "function", extra, signature, signer, cache)


def _parts(content: list[wire.Part] | None, own: Own) -> Iterator[Part]:
    if content is not None:
        for part, raw in zip(content, _items(own.get("content"), len(content)), strict=True):
            yield _part(part, raw)


def _part(part: wire.Part, raw: Raw | None) -> Part:
    own = _members(raw)
    cache, extra = openai_chat_parts.read_mark(_rest(own, wire.Part))
    match part:
        case wire.Part(type="text", text=str(text)):
            return Text(text, extra, cache=cache)
        case wire.Part(type="refusal", refusal=str(text)):
            return Refusal(text)
        case wire.Part(type="image_url", image_url=str(url)):
            return structs.replace(openai_chat_parts.read_image(url, None, extra), cache=cache)
        case wire.Part(type="image_url", image_url=wire.ImageUrl(url, detail)):
            extra += _inner(own, "image_url", wire.ImageUrl)
            return structs.replace(openai_chat_parts.read_image(url, detail, extra), cache=cache)
        case wire.Part(type="input_audio", input_audio=wire.InputAudio(data, form)):
            return Audio(data, form, extra=_rest(own, wire.Part) + _inner(own, "input_audio", wire.InputAudio))
        case wire.Part(type="file", file=wire.FileData() as file):
            media_type, whole = media.read_data_url(file.file_data or "") or (None, file.file_data)
            extra += _inner(own, "file", wire.FileData)
            return File(file.filename, whole, media_type, None, file.file_id, extra, cache)
        case _:
            return Foreign(wire.NAME, part.type, bytes(raw) if raw is not None else _written(part))


# -- tools and the form of the answer --


def _tools(tools: list[wire.ToolDefinition], raw: Raw) -> list[Tool | Foreign]:
    """Read the tools: nearly always functions, with nothing beside them."""
    try:
        return [_function(tool.function, ()) for tool in _FUNCTIONS.decode(raw)]
    except ValidationError:
        return [_tool(tool, one) for tool, one in zip(tools, _items(raw), strict=True)]


def _tool(tool: wire.ToolDefinition, raw: Raw | None) -> Tool | Foreign:
    assert raw is not None, "tools are always read with their bytes"
    if tool.type != "function" or tool.function is None:
        return Foreign(wire.NAME, tool.type, bytes(raw))
    own = _members(raw)
    cache, extra = openai_chat_parts.read_mark(_rest(own, wire.ToolDefinition))
    return _function(tool.function, extra + _inner(own, "function", wire.FunctionDefinition), cache)


def _function(function: wire.FunctionDefinition, extra: Members, cache: Cache | None = None) -> Tool:
    return Tool(function.name, function.description, _json(function.parameters), function.strict, extra, cache)


def _tool_choice(choice: str | wire.ToolChoiceObject | None, raw: Raw | None) -> ToolChoice | None:
    """Read the choice. What has no neutral form (allowed tools, custom tools) stands whole in `extra`."""
    match choice:
        case None:
            return None
        case "none" | "auto" | "required":
            return ToolChoice(choice)
        case "any":  # Mistral's word
            return ToolChoice("required")
        case wire.ToolChoiceObject(type="function", function=wire.Named(name)):
            return ToolChoice("named", name)
        case wire.ToolChoiceObject(type="custom", custom=wire.Named(name)):
            return ToolChoice("named", name, _whole(raw))
        case wire.ToolChoiceObject(type="allowed_tools", allowed_tools=wire.AllowedTools(mode)):
            return ToolChoice(mode, None, _whole(raw))
        case _:
            return ToolChoice("auto", None, _whole(raw))


def _whole(raw: Raw | None) -> Members:
    return (("tool_choice", _json(raw) or b"null"),)


def _function_choice(choice: str | wire.Named | None) -> ToolChoice | None:
    if isinstance(choice, wire.Named):
        return ToolChoice("named", choice.name)
    return ToolChoice(choice) if choice in {"none", "auto"} else None  # type: ignore[arg-type]  # one of the two


def _output(form: wire.ResponseFormat | None, raw: Raw | None) -> tuple[OutputFormat | None, bool]:
    """Read the form of the answer, and whether there is more to it than the neutral form holds."""
    own = _members(raw if form is not None else None)
    more = bool(_rest(own, wire.ResponseFormat) + _inner(own, "json_schema", wire.JsonSchema))
    match form:
        case None:
            return None, False
        case wire.ResponseFormat(type="text"):
            return OutputFormat("text"), more
        case wire.ResponseFormat(type="json_object"):
            return OutputFormat("json", schema=_json(form.schema)), more
        case wire.ResponseFormat(type="json_schema", json_schema=wire.JsonSchema() as schema):
            return OutputFormat(
                "json_schema", schema.name, schema.description, _json(schema.schema), schema.strict
            ), more
        case _:
            return None, True


def _stream_options(raw: Raw | None) -> bool:
    return bool(_rest(_members(raw), wire.StreamOptions))


# -- members that nobody knows --


def _members(raw: Raw | None) -> Own:
    """Give the members of an object; none for what is no object."""
    return _MEMBERS.decode(raw) if raw is not None and memoryview(raw)[0] == ord("{") else {}


def _items(raw: Raw | None, count: int = 0) -> list[Raw] | list[None]:
    """Give the items of a list with their bytes, or `count` times None where they were not kept."""
    return _ITEMS.decode(raw) if raw is not None and memoryview(raw)[0] == ord("[") else [None] * count


def _rest(own: Own, kind: type[Struct], *more: str) -> Members:
    """Give the members that a struct does not know."""
    if not own:
        return ()
    known = kind.__struct_fields__
    return tuple((name, bytes(raw)) for name, raw in own.items() if name not in known and name not in more)


def _inner(own: Own, name: str, kind: type[Struct]) -> Members:
    """Give the unknown members of an object within, under its name."""
    if name not in own:
        return ()
    rest = _rest(_members(own[name]), kind)
    return ((name, encode({key: Raw(json) for key, json in rest})),) if rest else ()


def _json(raw: Raw | None) -> Json | None:
    """Give the bytes of a value; None for null and for nothing."""
    json = b"" if raw is None else bytes(raw)
    return json if json and json != b"null" else None


def _written(part: wire.Part) -> Json:
    """Write a part of an unknown type of which every member was read."""
    fields: dict[str, Any] = {name: getattr(part, name) for name in part.__struct_fields__}
    return encode({name: value for name, value in fields.items() if value is not None})

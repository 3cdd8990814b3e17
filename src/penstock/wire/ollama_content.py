"""Reads messages, tools and the rest of a request of Ollama's into the neutral `Content`.

Pure, and off the fast path: a `Reading` stands in `Call.read` and works when somebody asks. It cannot fail, since the
request was checked when it came in. Members that it does not know ride along in `extra`; an unknown option as
`options.<name>`, an unknown member of a function under `function`.

Tool calls often have no id here. Theirs is made of their place in the conversation; a result finds its call by id, else by
the tool's name, else by turn.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Raw, Struct
from msgspec.json import Decoder, encode

from penstock.call import (
    Content,
    Foreign,
    Image,
    Json,
    Members,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
)
from penstock.wire import ollama_request_types as wire
from penstock.wire import tool_ids
from penstock.wire.media import standard_base64
from penstock.wire.ollama_reasoning import read_details, read_tool_signature
from penstock.wire.splice import Outline

OPTION: Final = "options."
"""Begins the name of an option that rides along."""

_CHAT: Final = Decoder(wire.ChatRequest)
_GENERATE: Final = Decoder(wire.GenerateRequest)
_MEMBERS: Final = Decoder(dict[str, Raw])
_ITEMS: Final = Decoder(list[Raw])
_MESSAGES: Final = Decoder(list[dict[str, Raw]])
_HEAD: Final = frozenset(wire.Head.__struct_fields__)
_CHAT_MEMBERS: Final = _HEAD | {"messages", "tools"}
_GENERATE_MEMBERS: Final = _HEAD | {"prompt", "system", "images"}
_OPTIONS: Final = frozenset(wire.Options.__struct_fields__)
_MEDIA: Final = (
    # how base64 of each kind of picture begins
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("Qk", "image/bmp"),
)

Own = dict[str, Raw]
"""The members of an object as they were sent."""


class Reading:
    """Gives the content of one request. `outline` is where its top-level members stand."""

    __slots__ = ("form", "outline")

    def __init__(self, outline: Outline, form: str) -> None:
        self.outline = outline
        self.form = form

    def __call__(self) -> Content:
        """Read everything but the options."""
        members = self.outline.members
        tools: tuple[Tool | Foreign, ...] = ()
        request: wire.ChatRequest | wire.GenerateRequest
        if self.form == wire.GENERATE:
            request, names = _GENERATE.decode(self.outline.raw), _GENERATE_MEMBERS
            messages = tuple(_prompt(request))
        else:
            request, names = _CHAT.decode(self.outline.raw), _CHAT_MEMBERS
            own = _MESSAGES.decode(members["messages"]) if request.messages else []
            messages = tuple(_messages(request.messages or (), own))
            if request.tools:
                items = _ITEMS.decode(members["tools"])
                tools = tuple(_tool(tool, raw) for tool, raw in zip(request.tools, items, strict=True))
        extra = tuple((name, bytes(raw)) for name, raw in members.items() if name not in names)
        return Content(
            messages,
            tools,
            output=_output(request.format),
            extra=extra + _options(request.options, members.get("options")),
            thinking=_thinking(think=request.think),
        )


# -- messages --


def _prompt(request: wire.GenerateRequest) -> Iterator[Message]:
    """Read what a completion has as the messages that say the same."""
    if request.system:
        yield Message("system", (Text(request.system),))
    parts: tuple[Part, ...] = (*_text(request.prompt), *map(read_image, request.images or ()))
    if parts:
        yield Message("user", parts)


def _messages(messages: Iterable[wire.WireMessage], owns: Iterable[Own]) -> Iterator[Message]:
    waiting: list[ToolUse] = []  # calls without a result so far
    for index, (message, own) in enumerate(zip(messages, owns, strict=True)):
        extra = _rest(own, wire.WireMessage)
        parts: tuple[Part, ...] = (*_text(message.content), *map(read_image, message.images or ()))
        match message.role:
            case "assistant":
                uses = tuple(_tool_uses(message, own, index))
                waiting += uses
                yield Message("assistant", (*_thoughts(message), *parts, *uses), None, extra)
            case "tool":
                ident, name = _answered(message, waiting, index)
                yield Message("tool", (ToolResult(ident, parts or (Text(""),)),), name, extra)
            case role:
                yield Message(role, parts or (Text(""),), None, extra)


def _text(content: str | None) -> tuple[Text, ...]:
    return (Text(content),) if content else ()


def read_image(data: str) -> Image:
    """Read a picture; what it is shows in how it begins."""
    data = standard_base64(data) or data
    return Image(data=data, media_type=next((media for start, media in _MEDIA if data.startswith(start)), None))


def _thoughts(message: wire.WireMessage) -> tuple[Reasoning, ...]:
    """Read the thoughts; the signed form holds only where the plain text, which may go on, was not changed since."""
    thoughts, plain = read_details(message.reasoning_details), message.thinking or ""
    text = "".join(thought.text for thought in thoughts)
    if not thoughts or not (plain or text).startswith(text):
        return (Reasoning(plain),) if plain else ()
    rest = plain.removeprefix(text)
    return (*thoughts, Reasoning(rest)) if rest else thoughts


def _tool_uses(message: wire.WireMessage, own: Own, index: int) -> Iterator[ToolUse]:
    calls = message.tool_calls or ()
    items = _MESSAGES.decode(own["tool_calls"]) if calls else []
    for number, (call, members) in enumerate(zip(calls, items, strict=True)):
        arguments = bytes(call.function.arguments)
        extra = _rest(members, wire.ToolCall) + _function_rest(members, wire.FunctionCall)
        signature, signer = read_tool_signature(call.extra_content)
        yield ToolUse(
            call.id or tool_ids.made("call", index, number),
            call.function.name,
            "{}" if arguments in {b"", b"null"} else arguments.decode(),
            extra=extra if signature else extra + _kept("extra_content", call.extra_content),
            signature=signature,
            signer=signer,
        )


def _answered(message: wire.WireMessage, waiting: list[ToolUse], index: int) -> tuple[str, str | None]:
    """Find the call that a result answers, and take it from those that wait.

    Give its id, and the tool's name where the call does not say the same.
    """
    name = message.tool_name or None
    found = next((use for use in waiting if use.id == message.tool_call_id), None)
    if found is None and message.tool_call_id:
        return message.tool_call_id, name
    if found is None:
        found = next((use for use in waiting if use.name == name), waiting[0] if waiting else None)
    if found is None:
        return tool_ids.made("result", index), name
    waiting.remove(found)
    return found.id, None if name == found.name else name


# -- tools and the rest --


def _tool(tool: wire.ToolDefinition, raw: Raw) -> Tool | Foreign:
    if tool.type != "function" or tool.function is None:
        return Foreign(wire.NAME, tool.type, bytes(raw))
    own, function = _MEMBERS.decode(raw), tool.function
    extra = _rest(own, wire.ToolDefinition) + _function_rest(own, wire.FunctionDefinition)
    return Tool(function.name, function.description, _json(function.parameters), None, extra)


def _output(json: Raw) -> OutputFormat | None:
    text = bytes(json)
    if text == b'"json"':
        return OutputFormat("json")
    return OutputFormat("json_schema", schema=text) if text.startswith(b"{") else None


def _thinking(*, think: bool | str | None) -> Thinking | None:
    """Read whether to think; a level stands in `Sampling.reasoning_effort`, and thoughts are always shown."""
    if think is None:
        return None
    if think is False:
        return Thinking(tokens=0)
    return Thinking(visible=True, adaptive=think is True)


def _options(options: wire.Options | None, raw: Raw | None) -> Members:
    """Give the options without a neutral form, limits among them that mean none."""
    if options is None or raw is None:
        return ()
    limit = options.num_predict
    unlimited = limit is not None and limit <= 0
    return tuple(
        (OPTION + name, bytes(json))
        for name, json in _MEMBERS.decode(raw).items()
        if name not in _OPTIONS or (unlimited and name == "num_predict")
    )


# -- members that nobody knows --


def _rest(own: Own, kind: type[Struct]) -> Members:
    """Give the members that a struct does not know."""
    known = kind.__struct_fields__
    if len(own) <= len(known) and own.keys() <= set(known):
        return ()
    return tuple((name, bytes(raw)) for name, raw in own.items() if name not in known)


def _function_rest(own: Own, kind: type[Struct]) -> Members:
    """Give the unknown members of the function within, under its name."""
    rest = _rest(_MEMBERS.decode(own["function"]), kind)
    return (("function", encode({key: Raw(json) for key, json in rest})),) if rest else ()


def _kept(name: str, raw: Raw) -> Members:
    return ((name, bytes(raw)),) if raw else ()


def _json(raw: Raw) -> Json | None:
    """Give the bytes of a value; None for null and for nothing."""
    json = bytes(raw)
    return json if json and json != b"null" else None

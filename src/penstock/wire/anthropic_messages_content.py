"""Reads the messages, tools and the rest of a Messages request into the neutral `Content`.

Pure, and off the fast path: a `Reading` stands in `Call.read` and works when somebody asks. It cannot fail, since the
request was checked when it came in. Members that it does not know ride along in `extra`.

The signature of a tool call (Gemini's) has no place in this API; it travels in a redacted thinking block right before the
call, marked as `signatures.py` does, and becomes the call's own again here.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Raw
from msgspec.json import Decoder, encode

from penstock.call import (
    Cache,
    Content,
    File,
    Foreign,
    Image,
    Members,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Signer,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.wire import anthropic_messages_request_types as wire
from penstock.wire.anthropic_messages_citations import read_citations
from penstock.wire.signatures import take
from penstock.wire.splice import Outline

DIRECT: Final = b'{"type":"direct"}'
"""What is said of a tool call that the model itself made."""
SEARCH_RESULT: Final = "search_result"
"""Names the whole block in `Text.extra`: other dialects get its text."""

_REQUEST: Final = Decoder(wire.Request)
_CONTENT: Final = Decoder(str | list[wire.Block] | None)
_MEMBERS: Final = Decoder(dict[str, Raw])
_OBJECTS: Final = Decoder(list[dict[str, Raw]])
_ITEMS: Final = Decoder(list[Raw])
_STRING: Final = Decoder(str)

_CHOICES: Final[Mapping[str, Literal["auto", "required", "none"]]] = MappingProxyType(
    {"auto": "auto", "any": "required", "none": "none"}
)
_TIERS: Final[Mapping[str, str]] = MappingProxyType({"standard_only": "default"})
_THINKING: Final = frozenset({"enabled", "disabled", "adaptive"})
_SAMPLING: Final = frozenset({"model", "max_tokens", "stream", "temperature", "top_p", "top_k", "stop_sequences"})
_NEUTRAL: Final = _SAMPLING | {"messages", "system", "tools", "tool_choice", "service_tier"}
"""Top-level members that have a neutral form whatever they say; all others ride along, as far as they say more."""

_OF_MESSAGE: Final = frozenset({"role", "content"})
_OF_TEXT: Final = frozenset({"type", "text", "citations", "cache_control"})
_OF_IMAGE: Final = frozenset({"type", "source", "cache_control"})
_OF_DOCUMENT: Final = _OF_IMAGE | {"title"}
_OF_THOUGHT: Final = frozenset({"type", "thinking", "signature"})
_OF_REDACTED: Final = frozenset({"type", "data"})
_OF_TOOL_USE: Final = frozenset({"type", "id", "name", "input", "cache_control"})
_OF_RESULT: Final = frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"})
_OF_TOOL: Final = frozenset(wire.ToolDefinition.__struct_fields__)
_OF_CONFIG: Final = frozenset({"effort", "format"})

Own = dict[str, Raw]
"""The members of an object as they were sent."""


class Reading:
    """Gives the content of one request. `outline` is where its top-level members stand."""

    __slots__ = ("outline",)

    def __init__(self, outline: Outline) -> None:
        self.outline = outline

    def __call__(self) -> Content:
        """Read everything but the options."""
        members = self.outline.members
        request = _REQUEST.decode(self.outline.raw)
        messages = [Message("system", _parts(request.system, members["system"]))] if request.system is not None else []
        for message, own in zip(request.messages, _OBJECTS.decode(members["messages"]), strict=True):
            parts = _parts(message.content, own["content"])
            messages.append(Message(message.role, parts, None, _rest(own, _OF_MESSAGE)))
        tools = () if request.tools is None else zip(request.tools, _items(members["tools"]), strict=True)
        parallel = None if request.tool_choice is None else request.tool_choice.disable_parallel_tool_use
        metadata, strange = _metadata(members.get("metadata"))
        return Content(
            tuple(messages),
            tuple(_tool(tool, raw) for tool, raw in tools),
            _tool_choice(request.tool_choice),
            None if parallel is None else not parallel,
            _output(request),
            _extra(request, members) + strange,
            _thinking(request.thinking),
            None if request.service_tier is None else _TIERS.get(request.service_tier, request.service_tier),
            metadata,
        )


# -- blocks --


def _parts(content: str | list[wire.Block] | None, raw: Raw) -> tuple[Part, ...]:
    """Read content; a signature that waits goes with the tool call behind it."""
    if isinstance(content, str):
        return (Text(content),)
    if content is None:
        return ()
    parts: list[Part] = []
    signature: str | None = None
    for index, (block, own) in enumerate(zip(content, _OBJECTS.decode(raw), strict=True)):
        kind = block.type
        if kind == "tool_use":
            parts.append(_tool_use(block, own, signature))
            signature = None
        elif kind == "text" and len(own) == 2:
            parts.append(Text(block.text or ""))
        elif kind == "redacted_thinking" and _is_before_tool_use(content, index):
            data, signer = take(block.data, "anthropic")
            if signer == "google":
                signature = data
            else:
                parts.append(_redacted(block, own))
        else:
            parts.append(_part(block, own))
    return tuple(parts)


def _is_before_tool_use(content: list[wire.Block], index: int) -> bool:
    return index + 1 < len(content) and content[index + 1].type == "tool_use"


def _part(block: wire.Block, own: Own) -> Part:
    reader = _READERS.get(block.type)
    part = None if reader is None else reader(block, own)
    return Foreign(wire.NAME, block.type, encode(own)) if part is None else part


def _text(block: wire.Block, own: Own) -> Part:
    citations = tuple(read_citations(block.citations))
    extra = _rest(own, _OF_TEXT)
    return Text(block.text or "", extra, citations, _cache(block))


def _image(block: wire.Block, own: Own) -> Part | None:
    source = block.source
    assert isinstance(source, wire.Source), "checked when the request came in"
    extra = _rest(own, _OF_IMAGE)
    match source.type:
        case "base64":
            return Image(None, source.data, source.media_type, None, extra, None, _cache(block))
        case "url":
            return Image(source.url, extra=extra, cache=_cache(block))
        case "file":
            return Image(file_id=source.file_id, extra=extra, cache=_cache(block))
        case _:
            return None


def _document(block: wire.Block, own: Own) -> Part | None:
    """Read a document. One of text blocks becomes a plain text for the others, its own form rides along."""
    source, name, cache = block.source, block.title, _cache(block)
    assert isinstance(source, wire.Source), "checked when the request came in"
    extra = _rest(own, _OF_DOCUMENT)
    match source.type:
        case "base64":
            return File(name, source.data, source.media_type or "application/pdf", None, None, extra, cache)
        case "text":
            return File(name, _base64(source.data or ""), source.media_type or "text/plain", None, None, extra, cache)
        case "url":
            return File(name, None, "application/pdf", source.url, None, extra, cache)
        case "file":
            return File(name, None, None, None, source.file_id, extra, cache)
        case "content":
            content = _CONTENT.decode(source.content) if source.content else None
            texts = [content] if isinstance(content, str) else [block.text for block in content or ()]
            if None in texts:
                return None
            data = _base64("\n".join(text for text in texts if text is not None))
            extra += (("source", bytes(own["source"])),)
            return File(name, data, "text/plain", None, None, extra, cache)
        case _:
            return None


def _search_result(block: wire.Block, own: Own) -> Part:
    """Read a search result as the text that it is to others; whole, it rides along."""
    content = _CONTENT.decode(block.content) if block.content else None
    texts = [content] if isinstance(content, str) else [part.text or "" for part in content or ()]
    source = block.source if isinstance(block.source, str) else ""
    text = "\n".join((block.title or "", source, "", *texts))
    return Text(text, ((SEARCH_RESULT, encode(own)),), (), _cache(block))


def _thought(block: wire.Block, own: Own) -> Part:
    signature, signer = take(block.signature, "anthropic")
    return Reasoning(block.thinking or "", signature, False, _rest(own, _OF_THOUGHT), signer)


def _redacted(block: wire.Block, own: Own) -> Part:
    signature, signer = take(block.data, "anthropic")
    return Reasoning("", signature, True, _rest(own, _OF_REDACTED), signer)


def _tool_use(block: wire.Block, own: Own, signature: str | None) -> Part:
    extra = _rest(own, _OF_TOOL_USE)
    if extra and bytes(own.get("caller", b"")).translate(None, b" ") == DIRECT:
        extra = tuple((name, json) for name, json in extra if name != "caller")  # says nothing
    arguments = bytes(block.input).decode()
    signer: Signer = "" if signature is None else "google"
    return ToolUse(block.id or "", block.name or "", arguments, "function", extra, signature, signer, _cache(block))


def _tool_result(block: wire.Block, own: Own) -> Part:
    extra = _rest(own, _OF_RESULT)
    parts = _parts(_CONTENT.decode(block.content), block.content) if block.content else ()
    return ToolResult(block.tool_use_id or "", parts, block.is_error is True, extra, _cache(block))


_READERS: Final[Mapping[str, Callable[[wire.Block, Own], Part | None]]] = MappingProxyType(
    {
        "text": _text,
        "image": _image,
        "document": _document,
        "search_result": _search_result,
        "thinking": _thought,
        "redacted_thinking": _redacted,
        "tool_result": _tool_result,
    }
)


# -- tools, thinking and the form of the answer --


def _tool(tool: wire.ToolDefinition, raw: Raw) -> Tool | Foreign:
    if tool.type is not None and tool.type != "custom":
        return Foreign(wire.NAME, tool.type, bytes(raw))
    extra = _rest(_MEMBERS.decode(raw), _OF_TOOL)
    return Tool(tool.name or "", tool.description, bytes(tool.input_schema), tool.strict, extra, _cache(tool))


def _tool_choice(choice: wire.ToolChoice | None) -> ToolChoice | None:
    if choice is None:
        return None
    mode = _CHOICES.get(choice.type)
    return ToolChoice("named", choice.name) if mode is None else ToolChoice(mode)


def _thinking(config: wire.ThinkingConfig | None) -> Thinking | None:
    if config is None:
        return None
    visible = None if config.display is None else config.display != "omitted"
    match config.type:
        case "enabled":
            return Thinking(config.budget_tokens, visible)
        case "disabled":
            return Thinking(0, visible)
        case _:
            return Thinking(None, visible, None, adaptive=True)


def _output(request: wire.Request) -> OutputFormat | None:
    form = request.output_format if request.output_config is None else request.output_config.format
    if form is None or form.type != "json_schema":
        return None
    return OutputFormat("json_schema", schema=bytes(form.schema))


def _metadata(raw: Raw | None) -> tuple[tuple[tuple[str, str], ...], Members]:
    """Read the labels beside the user's id; what is no string rides along."""
    members = _MEMBERS.decode(raw) if raw is not None and memoryview(raw)[0] == ord("{") else {}
    pairs, strange = [], {}
    for name, json in members.items():
        if memoryview(json)[0] == ord('"'):
            pairs += [(name, _STRING.decode(json))] if name != "user_id" else []
        elif bytes(json) != b"null":
            strange[name] = json
    return tuple(pairs), ((("metadata", encode(strange)),) if strange else ())


def _extra(request: wire.Request, members: Mapping[str, Raw]) -> Members:
    """Give the top-level members that say more than the neutral form holds."""
    if members.keys() <= _NEUTRAL:
        return ()
    said = dict.fromkeys(members.keys() - _NEUTRAL - {"metadata"})
    if request.thinking is None or request.thinking.type in _THINKING:
        said.pop("thinking", None)
    form = request.output_format
    if form is None or form.type == "json_schema":
        said.pop("output_format", None)
    out = [(name, bytes(members[name])) for name in members if name in said and name != "output_config"]
    config = request.output_config
    if config is not None:
        known = _OF_CONFIG if config.format is None or config.format.type == "json_schema" else _OF_CONFIG - {"format"}
        if rest := _rest(_MEMBERS.decode(members["output_config"]), known):
            out.append(("output_config", encode({name: Raw(json) for name, json in rest})))
    return tuple(out)


# -- members --


def _cache(marked: wire.Block | wire.ToolDefinition) -> Cache | None:
    mark = marked.cache_control
    return None if mark is None else "1h" if mark.ttl == "1h" else "5m"


def _base64(text: str) -> str:
    return b64encode(text.encode("utf-8", "surrogatepass")).decode()


def _items(raw: Raw) -> Sequence[Raw]:
    return _ITEMS.decode(raw)


def _rest(own: Own, known: frozenset[str]) -> Members:
    """Give the members of an object that have no neutral form."""
    if own.keys() <= known:
        return ()
    return tuple((name, bytes(raw)) for name, raw in own.items() if name not in known)

"""Reads a Messages request into a `Call`.

Pure. `read_request` runs once per call, so it is written for speed: one decode proves what the members are, one proves
their types and ranges; messages are turned into the neutral form on first use only, by `Reading`. Whatever is wrong is an
InvalidRequest that names the member. Place in the line: behind `anthropic_messages.py`, on the client's side.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from msgspec import Raw, ValidationError
from msgspec.json import Decoder
from msgspec.json import format as indented

from penstock.call import Call, Sampling
from penstock.errors import InvalidRequest
from penstock.wire import anthropic_messages_request_types as wire
from penstock.wire.anthropic_messages_content import Reading
from penstock.wire.dialect import Asked
from penstock.wire.request_error import refuse
from penstock.wire.splice import Outline

MAX_DEPTH: Final = 64

_REQUEST: Final = Decoder(wire.Request)
_CONTENT: Final = Decoder(str | list[wire.Block] | None)
_DEEPER: Final = b"\n" + b" " * (MAX_DEPTH + 1)

_NATIVE_MEMBERS: Final = ("container", "mcp_servers")
"""Only Anthropic runs containers and calls MCP servers."""
_TEXT_BLOCKS: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use", "search_result"})
_NEUTRAL_BLOCKS: Final = _TEXT_BLOCKS | {"image", "document", "tool_result"}
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "text": ("text",),
        "thinking": ("thinking",),
        "redacted_thinking": ("data",),
        "tool_use": ("id", "name"),
        "tool_result": ("tool_use_id",),
        "search_result": ("source", "title"),
        "image": ("source",),
        "document": ("source",),
    }
)
_SOURCE_NEEDS: Final[Mapping[str, str]] = MappingProxyType(
    {"base64": "data", "text": "data", "url": "url", "file": "file_id"}
)
_EXPECTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "model": "Send the name of a model; GET /v1/models lists them.",
        "messages": "Send a list with at least one message.",
        "role": "Send user or assistant; system text belongs in `system`.",
        "content": "Send a string or a list of content blocks.",
        "max_tokens": "Send a whole number from 1.",
        "temperature": "Send a number from 0 to 1.",
        "top_p": "Send a number from 0 to 1.",
        "top_k": "Send a whole number from 0.",
        "stop_sequences": "Send a list of strings.",
        "stream": "Send true or false.",
        "system": "Send a string or a list of text blocks.",
        "type": "Send the type of the block, such as text.",
        "tool_choice": "Send an object with the type auto, any, tool or none.",
        "budget_tokens": "Send a whole number from 1024, below max_tokens.",
    }
)


class _Seen:
    """What a walk over a request finds out."""

    __slots__ = ("native", "text_only")

    def __init__(self) -> None:
        self.text_only = True  # the length of the body bounds the number of tokens
        self.native: dict[str, None] = {}  # in the order in which they were met


def read_request(body: bytes, asked: Asked) -> Call:
    """Read a body. Raises InvalidRequest, whatever the bytes. A question for the number of tokens needs no `max_tokens`."""
    outline = Outline(body)
    try:
        request = _REQUEST.decode(body)
        _check_depth(body)
        seen = _check(request, outline)
    except (ValidationError, RecursionError) as error:
        raise refuse(error, _EXPECTED, "Send it as Anthropic's API reference has it.") from None
    model = asked.model if asked.model is not None else request.model
    if not model:
        raise _wrong("model", "`model` is missing.", _EXPECTED["model"])
    if request.max_tokens is None and asked.operation != "count":
        raise _wrong("max_tokens", "`max_tokens` is missing.", _EXPECTED["max_tokens"])
    if request.max_tokens == 0:
        seen.native["max_tokens"] = None  # warms Anthropic's prompt cache; elsewhere it means nothing
    metadata = request.metadata or wire.Metadata()
    return Call(
        wire.NAME,
        model,
        _sampling(request),
        Reading(outline),
        request.stream is True if asked.stream is None else asked.stream,
        True,
        body,
        metadata.feature,
        metadata.session,
        metadata.user_id,
        (),
        len(body) if seen.text_only else None,
        asked.operation,
        tuple(seen.native),
        form=asked.form,
    )


def _sampling(request: wire.Request) -> Sampling:
    return Sampling(
        request.temperature,
        request.top_p,
        request.top_k,
        None,
        request.max_tokens,
        tuple(request.stop_sequences or ()),
        reasoning_effort=None if request.output_config is None else request.output_config.effort,
    )


# -- what types cannot say --


def _check_depth(body: bytes) -> None:
    """Refuse a body nested more than 64 levels deep; indentation shows the depth at the decoder's speed."""
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _DEEPER in indented(body, indent=1):
        raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.", hint="Send flatter JSON.")


def _check(request: wire.Request, outline: Outline) -> _Seen:
    """Check what depends on several members; say what only Anthropic can do, and whether all is text."""
    seen = _Seen()
    if isinstance(request.system, list):
        _check_blocks(request.system, "system", seen)
    for index, message in enumerate(request.messages):
        if isinstance(message.content, list):
            _check_blocks(message.content, f"messages[{index}].content", seen)
    if request.tools is not None:
        _check_tools(request.tools, seen)
    choice, thinking = request.tool_choice, request.thinking
    if choice is not None and choice.type == "tool" and not choice.name:
        raise _wrong("tool_choice.name", "`tool_choice.name` is missing.", "Send the tool's name.")
    if thinking is not None and thinking.type == "enabled" and thinking.budget_tokens is None:
        hint = _EXPECTED["budget_tokens"]
        raise _wrong("thinking.budget_tokens", "`thinking.budget_tokens` is missing.", hint)
    output = request.output_config
    for name, form in (("output_config.format", output and output.format), ("output_format", request.output_format)):
        if form and form.type == "json_schema" and not _is_object(form.schema):
            raise _wrong(f"{name}.schema", f"`{name}.schema` is not an object.", "Send a JSON Schema.")
    if request.metadata is not None:
        Outline(bytes(outline.members["metadata"]))  # a name that stands twice in there could mean two things
    for name in _NATIVE_MEMBERS:
        if bytes(outline.members.get(name, b"null")) not in {b"null", b"[]"}:
            seen.native[name] = None
            seen.text_only = False
    return seen


def _check_blocks(blocks: Sequence[wire.Block], place: str, seen: _Seen) -> None:
    """Check that each block has what its type promises."""
    for index, block in enumerate(blocks):
        kind = block.type
        for member in _NEEDED.get(kind, ()):
            if getattr(block, member) is None:
                where = f"{place}[{index}]"
                text = f"`{where}` has the type {kind!r} and no `{member}`."
                raise _wrong(f"{where}.{member}", text, f"Send `{member}`.")
        if kind in _TEXT_BLOCKS:
            if kind == "tool_use" and not _is_object(block.input):
                where = f"{place}[{index}].input"
                raise _wrong(where, f"`{where}` is not an object.", "Send the tool's input as the model gave it.")
        elif kind == "tool_result":
            content = _nested(block.content, f"{place}[{index}].content")
            if isinstance(content, list):
                _check_blocks(content, f"{place}[{index}].content", seen)
        elif kind in _NEUTRAL_BLOCKS:
            _check_source(block.source, f"{place}[{index}].source", seen)
        else:
            seen.native[kind] = None
            seen.text_only = False


def _nested(json: Raw, place: str) -> str | list[wire.Block] | None:
    """Read the content within a block."""
    if not json:
        return None
    try:
        content: str | list[wire.Block] | None = _CONTENT.decode(json)
    except ValidationError as error:
        text = str(error).partition(" - at ")[0]
        raise _wrong(place, f"`{place}`: {text[:1].lower()}{text[1:]}.", _EXPECTED["content"]) from None
    return content


def _check_source(source: wire.Source | str | None, place: str, seen: _Seen) -> None:
    if not isinstance(source, wire.Source):
        raise _wrong(place, f"`{place}` is not an object.", "Send its type and its data, url or file_id.")
    member = _SOURCE_NEEDS.get(source.type)
    if member is not None and getattr(source, member) is None:
        text = f"`{place}` has the type {source.type!r} and no `{member}`."
        raise _wrong(f"{place}.{member}", text, f"Send `{member}`.")
    if source.type == "content":
        content = _nested(source.content, f"{place}.content")
        if isinstance(content, list):
            _check_blocks(content, f"{place}.content", seen)
    elif source.type != "text":
        seen.text_only = False
    if source.type == "file":
        seen.native["file_id"] = None


def _check_tools(tools: Sequence[wire.ToolDefinition], seen: _Seen) -> None:
    """Check the client's own tools; name the others, which only Anthropic's models or servers know."""
    for index, tool in enumerate(tools):
        if tool.type is not None and tool.type != "custom":
            seen.native[tool.type] = None
            seen.text_only = False
            continue
        if not tool.name:
            raise _wrong(f"tools[{index}].name", f"`tools[{index}].name` is missing.", "Send the tool's name.")
        if not _is_object(tool.input_schema):
            place = f"tools[{index}].input_schema"
            raise _wrong(place, f"`{place}` is not an object.", "Send a JSON Schema.")


def _is_object(json: Raw) -> bool:
    return len(json) > 0 and memoryview(json)[0] == ord("{")


def _wrong(param: str, text: str, hint: str) -> InvalidRequest:
    return InvalidRequest(text, param=param, hint=hint)

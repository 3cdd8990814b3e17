"""Reads the messages, tools and the rest of a Converse request into the neutral `Content`.

Pure, and off the fast path: a `Reading` stands in `Call.read` and works when somebody asks. It cannot fail, since the
request was checked when it came in. A cache point marks the part before it. Members that it does not know ride along in
`extra`; unknown members of a block's object stand there under that object's name.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Raw, Struct, ValidationError, structs
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
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.wire import bedrock_converse_request_types as wire
from penstock.wire.bedrock_converse_carried import OWN, Signed, read_redacted, read_tool_signature
from penstock.wire.bedrock_converse_citations import read_citation
from penstock.wire.bedrock_converse_fields import MEMBER, read_fields
from penstock.wire.bedrock_converse_media import audio_format, document_type, text_data, video_type
from penstock.wire.signatures import take
from penstock.wire.splice import Outline

Own = dict[str, Raw]
"""The members of an object as they were sent."""


class _Turn(Struct):
    role: str
    content: list[Own]


class _Tools(Struct):
    tools: list[Own]


class _ExactUse(Struct, rename="camel", forbid_unknown_fields=True):
    """A call of a tool of the client's own, and nothing beside it."""

    tool_use_id: str
    name: str
    input: Raw


class _ExactResult(Struct, rename="camel", forbid_unknown_fields=True):
    """What a tool of the client's own answered, and nothing beside it."""

    tool_use_id: str
    content: list[Own]
    status: str | None = None


class _ExactSpec(wire.ToolSpec, rename="camel", forbid_unknown_fields=True):
    """A tool, and nothing beside it."""


_MEMBERS: Final = Decoder(dict[str, Raw])
_BLOCKS: Final = Decoder(list[dict[str, Raw]])
_TURNS: Final = Decoder(list[_Turn])
_TOOLS: Final = Decoder(_Tools)
_TEXT: Final = Decoder(str)
_MEDIA: Final = Decoder(wire.Media)
_DOCUMENT: Final = Decoder(wire.Document)
_TOOL_USE: Final = Decoder(wire.ToolUse)
_RESULT: Final = Decoder(wire.ToolResult)
_REASONING: Final = Decoder(wire.ReasoningContent)
_GUARD: Final = Decoder(wire.GuardContent)
_CACHE: Final = Decoder(wire.CachePoint)
_CITED: Final = Decoder(wire.CitationsContent)
_SPEC: Final = Decoder(wire.ToolSpec)
_EXACT_USE: Final = Decoder(_ExactUse)
_EXACT_RESULT: Final = Decoder(_ExactResult)
_EXACT_SPEC: Final = Decoder(_ExactSpec)
_OPTIONS: Final = Decoder(wire.Request)
_NEUTRAL: Final = frozenset({"messages", "system", "requestMetadata", MEMBER})
"""Top-level members that are read whole; of the others what is not understood rides along."""
_NULL: Final = len("null")
_EMPTY: Final = Raw(b'""')
_TIERS: Final = frozenset({"default", "flex", "priority"})
_MARKED: Final = (Text, Image, File, ToolUse, ToolResult)
"""Parts that a cache point can stand behind."""


class Reading:
    """Gives the content of one request. `outline` is where its top-level members stand."""

    __slots__ = ("outline", "rest")

    def __init__(self, outline: Outline, rest: Members = ()) -> None:
        self.outline = outline
        self.rest = rest

    def __call__(self) -> Content:
        """Read everything but the options."""
        members = self.outline.members
        request = _OPTIONS.decode(self.outline.raw)
        messages = [Message(turn.role, read_parts(turn.content)) for turn in _turns(members.get("messages"))]  # type: ignore[arg-type]  # checked
        if request.system:
            messages.insert(0, Message("system", read_parts(_BLOCKS.decode(members["system"]))))
        tier = None if request.service_tier is None else request.service_tier.type
        fields = read_fields(request.additional_model_request_fields)
        config = request.tool_config
        return Content(
            tuple(messages),
            _tools(_TOOLS.decode(members["toolConfig"]).tools) if config is not None else (),
            None if config is None or config.tool_choice is None else _tool_choice(config.tool_choice),
            None,
            _output(request.output_config),
            _extra(members, request, self.rest),
            fields.thinking,
            tier if tier in _TIERS else None,
            tuple((request.request_metadata or {}).items()),
        )


class CountReading:
    """Gives a prompt in the model's own form, which only Bedrock can count."""

    __slots__ = ("whole",)

    def __init__(self, whole: Json) -> None:
        self.whole = whole

    def __call__(self) -> Content:
        """Give it as one part."""
        return Content((Message("user", (Foreign(wire.NAME, "invokeModel", self.whole),)),))


# -- messages --


def _turns(raw: Raw | None) -> list[_Turn]:
    return [] if raw is None or bytes(raw) == b"null" else _TURNS.decode(raw)


def read_parts(blocks: list[Own]) -> tuple[Part, ...]:
    """Read the blocks of a message, of instructions or of a tool's answer."""
    parts: list[Part] = []
    signed: dict[str, Signed] = {}
    for block in blocks:
        name, raw = _said(block)
        if name == "text":
            parts.append(Text(_TEXT.decode(raw)))
        elif name == "cachePoint":
            last = parts[-1] if parts else None
            if isinstance(last, _MARKED) and last.cache is None:
                parts[-1] = structs.replace(last, cache=_CACHE.decode(raw).ttl or "5m")
            else:
                parts.append(_foreign(name, raw))
        elif name == "reasoningContent":
            parts += _reasoning(raw, signed)
        else:
            part = _part(name, raw)
            if isinstance(part, ToolUse) and part.id in signed:
                signature, signer = signed[part.id]
                part = structs.replace(part, signature=signature, signer=signer)
            parts.append(part)
    return tuple(parts)


def _said(block: Own) -> tuple[str, Raw]:
    """Give the one member of a block that says something."""
    for item in block.items():
        if len(item[1]) != _NULL or bytes(item[1]) != b"null":
            return item
    return "text", _EMPTY


def _part(name: str, raw: Raw) -> Part:
    """Read a block; what only this dialect knows stays whole."""
    reader = _READERS.get(name)
    part = None if reader is None else reader(raw)
    return _foreign(name, raw) if part is None else part


def _video(raw: Raw) -> File:
    media = _MEDIA.decode(raw)
    kind, extra = video_type(media.format), _unknown(raw, wire.Media)
    if media.source.s3_location is not None:
        return File(media_type=kind, file_id=media.source.s3_location.uri, extra=extra + _owner(media.source))
    return File(data=media.source.bytes, media_type=kind, extra=extra)


def _audio(raw: Raw) -> Audio | None:
    media = _MEDIA.decode(raw)
    if media.source.bytes is None:
        return None
    return Audio(media.source.bytes, audio_format(media.format), extra=_unknown(raw, wire.Media))


def _tool_use(raw: Raw) -> ToolUse | None:
    try:
        exact = _EXACT_USE.decode(raw)
    except ValidationError:
        pass
    else:
        return ToolUse(exact.tool_use_id, exact.name, bytes(exact.input).decode())
    use = _TOOL_USE.decode(raw)
    if use.type is not None:
        return None
    return ToolUse(use.tool_use_id, use.name, bytes(use.input).decode(), extra=_unknown(raw, wire.ToolUse))


def _tool_result(raw: Raw) -> ToolResult | None:
    try:
        exact = _EXACT_RESULT.decode(raw)
    except ValidationError:
        pass
    else:
        return ToolResult(exact.tool_use_id, read_parts(exact.content), exact.status == "error")
    result = _RESULT.decode(raw)
    if result.type is not None:
        return None
    parts = read_parts(_BLOCKS.decode(_MEMBERS.decode(raw)["content"]))
    return ToolResult(result.tool_use_id, parts, result.status == "error", _unknown(raw, wire.ToolResult))


def _json(raw: Raw) -> Text:
    """Read JSON that a tool answered: text, to everybody else."""
    return Text(bytes(raw).decode())


def _foreign(name: str, raw: Raw) -> Foreign:
    return Foreign(wire.NAME, name, encode({name: raw}))


def _image(raw: Raw, more: Members = ()) -> Image:
    media = _MEDIA.decode(raw)
    kind, extra = f"image/{media.format}", _unknown(raw, wire.Media) + more
    if media.source.s3_location is not None:
        return Image(file_id=media.source.s3_location.uri, media_type=kind, extra=extra + _owner(media.source))
    return Image(data=media.source.bytes, media_type=kind, extra=extra)


def _owner(source: wire.MediaSource | wire.DocumentSource) -> Members:
    """Give whose an object in S3 is, where that is said."""
    where = source.s3_location
    return () if where is None or where.bucket_owner is None else (("bucketOwner", encode(where.bucket_owner)),)


def _document(raw: Raw) -> File:
    """Read a document; one that is text already has that text as its data, and its source rides along."""
    document = _DOCUMENT.decode(raw)
    source, extra = document.source, _unknown(raw, wire.Document)
    kind = document_type(document.format or "txt")
    if source.s3_location is not None:
        return File(document.name, None, kind, file_id=source.s3_location.uri, extra=extra + _owner(source))
    if source.bytes is not None:
        return File(document.name, source.bytes, kind, extra=extra)
    text = source.text if source.text is not None else "\n".join(piece.text or "" for piece in source.content or ())
    extra += (("source", bytes(_MEMBERS.decode(raw)["source"])),)
    if document.format is not None:
        extra += (("format", encode(document.format)),)
    return File(document.name, text_data(text), "text/plain", extra=extra)


def _reasoning(raw: Raw, signed: dict[str, Signed]) -> list[Part]:
    """Read thinking; what only carries the signature of a tool call is that call's."""
    content = _REASONING.decode(raw)
    if content.reasoning_text is not None:
        signature, signer = take(content.reasoning_text.signature, OWN)
        return [
            Reasoning(content.reasoning_text.text, signature, extra=_unknown(raw, wire.ReasoningContent), signer=signer)
        ]
    blob = content.redacted_content or ""
    tool = read_tool_signature(blob)
    if tool is not None:
        signed[tool[0]] = tool[1]
        return []
    signature, signer = read_redacted(blob)
    return [Reasoning("", signature, redacted=True, signer=signer)]


def _guarded(raw: Raw) -> Part:
    """Read what a guardrail looks at: text or a picture like any other, to everybody else."""
    guard, members = _GUARD.decode(raw), _MEMBERS.decode(raw)
    if guard.text is None:
        return _image(members["image"], (("guardContent", b"{}"),))
    rest = encode({name: value for name, value in _MEMBERS.decode(members["text"]).items() if name != "text"})
    return Text(guard.text.text, (("guardContent", rest),))


def _cited(raw: Raw) -> Text:
    content = _CITED.decode(raw)
    text = "".join(piece.text or "" for piece in content.content or ())
    citations: tuple[Citation, ...] = tuple(read_citation(one, 0, len(text)) for one in content.citations or ())
    return Text(text, (), citations)


# -- tools and the rest --


def _tools(definitions: list[Own]) -> tuple[Tool | Foreign, ...]:
    tools: list[Tool | Foreign] = []
    for definition in definitions:
        name, raw = _said(definition)
        last = tools[-1] if tools else None
        if name == "toolSpec":
            try:
                extra: Members = ()
                spec: wire.ToolSpec = _EXACT_SPEC.decode(raw)
            except ValidationError:
                spec, extra = _SPEC.decode(raw), _unknown(raw, wire.ToolSpec)
            tools.append(Tool(spec.name, spec.description, bytes(spec.input_schema.json), spec.strict, extra))
        elif name == "cachePoint" and isinstance(last, Tool) and last.cache is None:
            tools[-1] = structs.replace(last, cache=_CACHE.decode(raw).ttl or "5m")
        else:
            tools.append(_foreign(name, raw))
    return tuple(tools)


def _tool_choice(choice: wire.ToolChoice) -> ToolChoice:
    if choice.tool is not None:
        return ToolChoice("named", choice.tool.name)
    return ToolChoice("auto" if choice.auto is not None else "required")


def _output(config: wire.OutputConfig | None) -> OutputFormat | None:
    schema = None if config is None or config.text_format is None else config.text_format.structure.json_schema
    if schema is None:
        return None
    return OutputFormat("json_schema", schema.name, schema.description, schema.schema.encode())


def _extra(members: Own, request: wire.Request, rest: Members) -> Members:
    """Give what has no neutral form; of a member that is understood in part, the rest of it."""
    extra: list[tuple[str, Json]] = []
    for name, raw in members.items():
        if name in _NEUTRAL or bytes(raw) == b"null":
            continue
        kind = _PARTLY.get(name)
        if kind is None or (request.service_tier is not None and _is_own_tier(name, request.service_tier)):
            extra.append((name, bytes(raw)))
        elif inner := _unknown(raw, kind):
            extra.append((name, encode({key: Raw(json) for key, json in inner})))
    if rest:
        extra.append((MEMBER, encode({key: Raw(json) for key, json in rest})))
    return tuple(extra)


def _is_own_tier(name: str, tier: wire.Tier) -> bool:
    return name == "serviceTier" and tier.type not in _TIERS


def _unknown(raw: Raw, kind: type[Struct]) -> Members:
    """Give the members of an object that its struct does not know."""
    own, known = _MEMBERS.decode(raw), kind.__struct_encode_fields__
    if len(own) <= len(known) and frozenset(known).issuperset(own):
        return ()
    return tuple((name, bytes(value)) for name, value in own.items() if name not in known)


_PARTLY: Final[Mapping[str, type[Struct]]] = MappingProxyType(
    {
        "inferenceConfig": wire.InferenceConfig,
        "toolConfig": wire.ToolConfig,
        "outputConfig": wire.OutputConfig,
        "serviceTier": wire.Tier,
    }
)
_READERS: Final[Mapping[str, Callable[[Raw], Part | None]]] = MappingProxyType(
    {
        "image": _image,
        "document": _document,
        "video": _video,
        "audio": _audio,
        "toolUse": _tool_use,
        "toolResult": _tool_result,
        "json": _json,
        "guardContent": _guarded,
        "citationsContent": _cited,
    }
)

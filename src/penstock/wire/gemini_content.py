"""Reads the turns, tools and the rest of a Gemini request into the neutral `Content`.

Pure, and off the fast path: a `Reading` stands in `Call.read` and works when somebody asks. It cannot fail, since the
request was checked when it came in. What follows on itself is joined: turns of the model, and thoughts until one is signed,
since clients that keep the history of a stream return it in the pieces in which it came. A signature on a text or a picture
stands behind it as a `Reasoning` with nothing but that. Members that it does not know ride along in `extra`.
Place in the line: behind `gemini_request.py`.
"""

from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Final, TypeVar

from msgspec import Raw, ValidationError
from msgspec.json import Decoder, encode

from penstock.call import (
    Audio,
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
    Role,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.wire import gemini_types as wire
from penstock.wire.gemini_members import MEMBERS, Own, inner, is_object, items, members, read_signature, rest
from penstock.wire.gemini_schema import to_json_schema
from penstock.wire.media import extension, standard_base64
from penstock.wire.splice import Outline
from penstock.wire.tool_ids import made

SIGNED_ALONE: Final = (("text", b'""'),)
"""Of a signature that came in a part of its own, with an empty text."""
SIGNED_THOUGHT: Final = (("thought", b"true"),)
"""Of Google's signature that came in a thought without text."""
ANSWERED: Final = "name"
"""The member that names the function of a result whose call is not among the turns."""
AUDIO_FORMATS: Final = frozenset({"wav", "mp3", "mpeg", "flac", "ogg", "aac", "aiff", "m4a", "opus", "webm", "pcm"})

_PLAIN: Final = Decoder(wire.Request)
_FUNCTIONS: Final = Decoder(list[wire.ExactToolSet])
_STRING: Final = Decoder(str)
_PART_MEMBERS: Final = ("text", "thought", "thoughtSignature")
_CONFIG: Final = frozenset(name for name in wire.GenerationConfig.__struct_encode_fields__ if "Schema" not in name)
_SCHEMAS: Final = ("responseSchema", "responseJsonSchema")
_CONFIG_MEMBERS: Final = _CONFIG - {"responseMimeType"}
_CONFIG_ALONE: Final = _CONFIG_MEMBERS - {"thinkingConfig"}
"""Members of the configuration that are read whole, whatever they say."""
_OF_OUTPUT: Final = frozenset({"responseMimeType", *_SCHEMAS})
_NO_CONFIG: Final = wire.GenerationConfig()
_UNFINISHED: Final = frozenset({"partialArgs", "willContinue"})
"""What a call says whose arguments come in pieces."""
_TOP: Final = frozenset(
    {
        *("contents", "systemInstruction", "generationConfig", "tools", "toolConfig", "serviceTier", "labels", "model"),
    }
)
_TIERS: Final = {"unspecified": "auto", "standard": "default", "flex": "flex", "priority": "priority"}
_ROLES: Final[dict[str, Role]] = {"model": "assistant", "function": "tool", "tool": "tool", "system": "system"}
_JSON: Final = "application/json"
_NOBODY: Final[Own] = MappingProxyType({})
"""The members of an object in which nothing unknown can be."""
_T = TypeVar("_T")


def turns_of(turns: Sequence[_T] | _T | None) -> Sequence[_T]:
    """Give a list, of one where only one stands there."""
    if isinstance(turns, list):
        return turns
    return () if turns is None else (turns,)  # type: ignore[return-value]  # no list: one of them


class Reading:
    """Gives the content of one request. `outline` is where its top-level members stand, in camelCase.

    `exact`: the turns hold no unknown members.
    """

    __slots__ = ("exact", "outline")

    def __init__(self, outline: Outline, *, exact: bool) -> None:
        self.outline = outline
        self.exact = exact

    def __call__(self) -> Content:
        """Read everything but the options."""
        top = self.outline.members
        request = _PLAIN.decode(self.outline.raw)
        messages: list[Message] = []
        if request.system_instruction is not None:
            own = None if self.exact else top["systemInstruction"]
            messages.append(Message("system", _Turns().parts(request.system_instruction, own, 0)))
        _Turns().read(turns_of(request.contents), None if self.exact else top.get("contents"), messages)
        extra: list[tuple[str, Json]] = []
        if not _TOP.issuperset(top):
            extra += [(name, bytes(raw)) for name, raw in top.items() if name not in _TOP and bytes(raw) != b"null"]
        config = request.generation_config or _NO_CONFIG
        output, read = _output(config)
        if request.generation_config is not None:
            extra += _config_rest(members(top["generationConfig"]), read)
        if request.tool_config is not None:
            more = rest(members(top["toolConfig"]), "functionCallingConfig")
            extra += [(f"toolConfig.{name}", json) for name, json in more]
        return Content(
            tuple(messages),
            tuple(_tools(request.tools, top.get("tools"))),
            _tool_choice(request.tool_config, top.get("toolConfig")),
            None,
            output,
            tuple(extra),
            _thinking(config.thinking_config),
            None if request.service_tier is None else _TIERS.get(request.service_tier.lower(), request.service_tier),
            tuple((request.labels or {}).items()),
        )


# -- turns --


class _Turns:
    """The turns while they are read: which calls of functions wait for their results."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: list[tuple[str, str]] = []  # id and name

    def read(self, turns: Sequence[wire.Turn], own: Raw | None, messages: list[Message]) -> None:
        raws: Sequence[Raw | None] = [None] * len(turns) if own is None else items(own)
        for index, (turn, raw) in enumerate(zip(turns, raws, strict=True)):
            role = _ROLES.get((turn.role or "user").lower(), "user")
            parts = self.parts(turn, raw, index)
            if role == "assistant" and index and messages[-1].role == "assistant":
                parts = _joined((*messages.pop().parts, *parts))
            messages.append(Message(role, parts))

    def parts(self, turn: wire.Turn, own: Raw | None, place: int) -> tuple[Part, ...]:
        """Read the parts of one turn."""
        parts = turns_of(turn.parts)
        if own is None and len(parts) == 1 and (text := _plain_text(parts[0])) is not None:
            return (Text(text),)
        raws: Sequence[Raw | None] = [None] * len(parts) if own is None else items(MEMBERS.decode(own).get("parts"))
        out: list[Part] = []
        thoughts = False
        for index, (part, raw) in enumerate(zip(parts, raws, strict=True)):
            self._part(part, raw, (place, index), out)
            thoughts = thoughts or part.thought is True or part.thought_signature is not None
        return _joined(out) if thoughts else tuple(out)

    def _part(self, part: wire.Part, raw: Raw | None, place: tuple[int, int], out: list[Part]) -> None:
        own = _NOBODY if raw is None else members(raw)
        signature, signer = read_signature(part.thought_signature)
        call, result = part.function_call, part.function_response
        if part.thought is True and part.text is not None:
            out.append(Reasoning(part.text, signature, False, rest(own, *_PART_MEMBERS), signer))
        elif call is not None and not (own and _UNFINISHED & members(own.get("functionCall")).keys()):
            ident = call.id or made(wire.NAME, *place, call.name)
            self._open.append((ident, call.name))
            extra: Members = ()
            if own:
                extra = rest(own, "functionCall", "thoughtSignature") + inner(own, "functionCall", "name", "id", "args")
            out.append(ToolUse(ident, call.name, arguments_of(call), "function", extra, signature, signer))
        elif result is not None:
            answered = self._answered(result)
            ident = answered or result.id or made(wire.NAME, "result", *place, result.name)
            extra = rest(own, "functionResponse") if own else ()
            if answered is None:
                extra += ((ANSWERED, encode(result.name)),)
            if own:
                extra += inner(own, "functionResponse", "name", "id", "response", "parts")
            out.append(_tool_result(result, ident, extra))
        elif _said(part, raw, signature, out):
            _sign(part, out)

    def _answered(self, result: wire.FunctionResponse) -> str | None:
        """Give the id of the open call that a result answers: its own, else the first one of the function."""
        for index, (ident, name) in enumerate(self._open):
            if ident == result.id or (not result.id and name == result.name):
                del self._open[index]
                return ident
        return None


def _plain_text(part: wire.Part) -> str | None:
    return part.text if part.thought is None and part.thought_signature is None else None


def _said(part: wire.Part, raw: Raw | None, signature: str | None, out: list[Part]) -> bool:
    """Read a part that is text, a picture, sound, a file, or what only this dialect knows; return whether it is signed."""
    own = _NOBODY if raw is None else members(raw)
    if part.text is not None:
        if part.text or signature is None:
            out.append(Text(part.text, rest(own, *_PART_MEMBERS)))
    elif part.inline_data is not None and part.thought is not True:
        extra = rest(own, "inlineData", "thoughtSignature") + inner(own, "inlineData", "mimeType", "data")
        out.append(inline(part.inline_data, extra))
    elif part.file_data is not None:
        extra = rest(own, "fileData", "thoughtSignature") + inner(own, "fileData", "mimeType", "fileUri")
        out.append(linked(part.file_data, extra))
    elif (kept := foreign(part, raw)) is not None:
        out.append(kept)
        return False
    return signature is not None


def _sign(part: wire.Part, out: list[Part]) -> None:
    """Put a signature behind what it signs; where there is no such thing, it stands alone."""
    signature, signer = read_signature(part.thought_signature)
    alone = not (part.text or part.inline_data or part.file_data)
    if signer == "google":
        extra: Members = () if not alone else SIGNED_THOUGHT if part.thought is True else SIGNED_ALONE
        out.append(Reasoning("", signature, False, extra, signer))
    else:
        out.append(Reasoning("", signature, alone and part.thought is not True, (), signer))


def _joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Join thoughts that follow on each other, until one is signed."""
    out: list[Part] = []
    for part in parts:
        last = out[-1] if out else None
        if isinstance(part, Reasoning) and isinstance(last, Reasoning) and not last.signature and not part.redacted:
            kept = last.extra + tuple(one for one in part.extra if one not in SIGNED_ALONE + SIGNED_THOUGHT)
            out[-1] = Reasoning(last.text + part.text, part.signature, False, kept, part.signer)
        else:
            out.append(part)
    return tuple(out)


def arguments_of(call: wire.FunctionCall) -> str:
    """Give the arguments of a call as the text of an object."""
    json = bytes(call.args)
    return json.decode() if json and json != b"null" else "{}"


def inline(blob: wire.Blob, extra: Members) -> Image | Audio | File:
    """Read data by what it is."""
    media = (blob.mime_type or "").lower()
    kind, _, form = media.partition("/")
    data = standard_base64(blob.data) or blob.data
    if kind == "image":
        return Image(data=data, media_type=media, extra=extra)
    if kind == "audio" and form.removeprefix("x-") in AUDIO_FORMATS:
        return Audio(data, extension(media), extra=extra)
    return File(None, data, blob.mime_type, extra=extra)


def linked(file: wire.FileData, extra: Members) -> Image | File:
    """Read an address by what it leads to."""
    uri, media = file.file_uri, file.mime_type
    own = not uri.startswith(("http://", "https://")) or "googleapis.com/" in uri
    if (media or "").startswith("image/"):
        return Image(None if own else uri, None, media, None, extra, uri if own else None)
    return File(None, None, media, None if own else uri, uri if own else None, extra)


def foreign(part: wire.Part, raw: Raw | None) -> Foreign | None:
    """Keep a part whole that only this dialect knows; None if it says nothing but its signature."""
    json = encode(part) if raw is None else bytes(raw)
    kind = next((name for name in MEMBERS.decode(json) if name not in {"thought", "thoughtSignature"}), "")
    return Foreign(wire.NAME, kind, json) if kind else None


# -- results of functions --


def _tool_result(result: wire.FunctionResponse, ident: str, extra: Members) -> ToolResult:
    text, is_error = _result_text(bytes(result.response))
    parts: list[Part] = [] if text is None else [Text(text)]
    for part in turns_of(result.parts):
        if part.inline_data is not None:
            parts.append(inline(part.inline_data, ()))
        elif part.file_data is not None:
            parts.append(linked(part.file_data, ()))
    return ToolResult(ident, tuple(parts), is_error, extra)


def _result_text(json: Json) -> tuple[str | None, bool]:
    """Give the text of a result, and whether it tells of an error.

    A string in `output` or `error`, the two members that Google's documentation names, is the text; any other object is
    kept as the JSON that it is.
    """
    if not json or json == b"null" or json.strip(b"{} \t\r\n") == b"":
        return None, False
    own = MEMBERS.decode(json)
    if len(own) == 1:
        name, value = next(iter(own.items()))
        if name in {"output", "error"}:
            said = bytes(value)
            if said.startswith(b'"'):
                return _STRING.decode(said), name == "error"
            if name == "error" and is_object(said):
                return said.decode(), True
    return json.decode(), False


# -- tools and the form of the answer --


def _tools(sets: Sequence[wire.ToolSet] | wire.ToolSet | None, raw: Raw | None) -> Iterable[Tool | Foreign]:
    """Read the tools: nearly always functions with nothing beside them."""
    if sets is None or raw is None:
        return ()
    try:
        exact = _FUNCTIONS.decode(raw)
    except ValidationError:
        return _any_tools(sets, raw)
    return [
        Tool(function.name, function.description, _parameters(function))
        for one in exact
        for function in one.function_declarations or ()
    ]


def _any_tools(sets: Sequence[wire.ToolSet] | wire.ToolSet, raw: Raw) -> Iterable[Tool | Foreign]:
    hosted: list[Foreign] = []
    for tool, one in zip(turns_of(sets), items(raw), strict=True):
        own = MEMBERS.decode(one)
        declared = turns_of(tool.function_declarations)
        raws = items(own.get("functionDeclarations"))
        for function, whole in zip(declared, raws, strict=True):
            kept = rest(MEMBERS.decode(whole), "name", "description", "parameters", "parametersJsonSchema")
            yield Tool(function.name, function.description, _parameters(function), None, kept)
        for name, value in own.items():
            if name != "functionDeclarations" and bytes(value) != b"null":
                hosted.append(Foreign(wire.NAME, name, encode({name: value})))
    yield from hosted


def _parameters(function: wire.FunctionDeclaration) -> Json | None:
    if (schema := _said_json(function.parameters_json_schema)) is not None:
        return schema
    schema = _said_json(function.parameters)
    return None if schema is None else to_json_schema(schema)


def _said_json(raw: Raw) -> Json | None:
    json = bytes(raw)
    return json if json and json != b"null" else None


def _tool_choice(config: wire.ToolConfig | None, raw: Raw | None) -> ToolChoice | None:
    """Read the choice. What has no neutral form (several names, VALIDATED) stands whole in `extra`."""
    choice = None if config is None else config.function_calling_config
    if choice is None:
        return None
    own = members(raw)["functionCallingConfig"]
    more = bool(rest(members(own), "mode", "allowedFunctionNames"))
    whole: Members = (("functionCallingConfig", bytes(own)),)
    names = choice.allowed_function_names or []
    match (choice.mode or "AUTO").upper():
        case "ANY" if len(names) == 1:
            return ToolChoice("named", names[0], whole if more else ())
        case "ANY":
            return ToolChoice("required", None, whole if more or names else ())
        case "NONE":
            return ToolChoice("none", None, whole if more else ())
        case "AUTO" | "MODE_UNSPECIFIED":
            return ToolChoice("auto", None, whole if more or names else ())
        case _:
            return ToolChoice("auto", None, whole)


def _output(config: wire.GenerationConfig) -> tuple[OutputFormat | None, frozenset[str]]:
    """Read the form of the answer, and which members are said by that."""
    schema = _said_json(config.response_json_schema)
    if schema is None and (own := _said_json(config.response_schema)) is not None:
        schema = to_json_schema(own)
    match config.response_mime_type:
        case "application/json" if schema is not None:
            return OutputFormat("json_schema", schema=schema), _OF_OUTPUT
        case "application/json":
            return OutputFormat("json"), _OF_OUTPUT
        case "text/plain" if schema is None:
            return OutputFormat("text"), _OF_OUTPUT
        case _:
            return None, frozenset()


def _config_rest(own: Own, read: frozenset[str]) -> list[tuple[str, Json]]:
    """Give the members of the configuration that have no neutral form; answers in text are what every model gives."""
    if _CONFIG_ALONE.issuperset(own):
        return []
    known = _CONFIG_MEMBERS | read
    left = [(name, json) for name, json in rest(own, *known)]
    more = inner(own, "thinkingConfig", "thinkingBudget", "includeThoughts", "thinkingLevel")
    left += more
    return [
        (f"generationConfig.{name}", json)
        for name, json in left
        if name != "responseModalities" or json.replace(b" ", b"") != b'["TEXT"]'
    ]


def _thinking(config: wire.ThinkingConfig | None) -> Thinking | None:
    if config is None or (config.thinking_budget is None and config.include_thoughts is None):
        return None
    budget = config.thinking_budget
    adaptive = budget is not None and budget < 0
    return Thinking(None if adaptive else budget, config.include_thoughts, None, adaptive)

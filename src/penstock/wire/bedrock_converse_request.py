"""Reads a Converse request into a `Call`.

Pure. `read_request` runs once per call, so it is written for speed: one decode proves what the members are, one proves
their types and ranges; messages are turned into the neutral form on first use only, by `Reading`. Whatever is wrong is an
InvalidRequest that names the member. Place in the line: behind `bedrock_converse.py`, on the client's side.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import DecodeError, Raw, Struct, ValidationError, structs
from msgspec.json import Decoder
from msgspec.json import format as indented

from penstock.call import Call, Sampling
from penstock.errors import InvalidRequest
from penstock.wire import bedrock_converse_request_types as wire
from penstock.wire.bedrock_converse_content import CountReading, Reading
from penstock.wire.bedrock_converse_fields import NOTHING, Fields, read_fields
from penstock.wire.dialect import Asked
from penstock.wire.request_error import refuse
from penstock.wire.splice import Outline

MAX_DEPTH: Final = 64

_REQUEST: Final = Decoder(wire.Request)
_COUNT: Final = Decoder(wire.CountRequest)
_COUNTED: Final = Decoder(wire.Options)
_DEEPER: Final = b"\n" + b" " * (MAX_DEPTH - 1)
_PROMPT: Final = re.compile(r":prompt/").search
_OBJECT: Final = re.compile(rb"\s*\{").match

_TEXTS: Final = frozenset({"tool_use", "cache_point", "reasoning_content", "citations_content"})
"""Blocks that are text and nothing else."""
_KNOWN_BLOCKS: Final = frozenset(wire.Block.__struct_encode_fields__)
_HINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "role": "Send user or assistant.",
        "content": "Send a list of content blocks.",
        "messages": "Send a list with at least one message.",
        "maxTokens": "Send a whole number from 1.",
        "temperature": "Send a number from 0 to 1.",
        "topP": "Send a number from 0 to 1.",
        "stopSequences": "Send a list of texts that are not empty.",
        "tools": "Send a list with at least one tool.",
        "requestMetadata": "Send at most 16 pairs of texts.",
    }
)
_HINT: Final = "Send it as the API reference of Converse has it."


class _Names(Struct):
    """The names in the blocks of messages, to tell new kinds from none."""

    content: list[dict[str, Raw]]


_BLOCK_NAMES: Final = Decoder(list[_Names])


class _Seen(Struct):
    """What the check of a body finds out: members for Bedrock alone, and whether all is text."""

    native: dict[str, None]
    text_only: bool = True
    unknown: bool = False


def read_request(body: bytes, asked: Asked) -> Call:
    """Read a body; the model stands in the path. Raises InvalidRequest, whatever the bytes."""
    if not asked.model:
        raise _wrong("modelId", "The path names no model.", "Send it to /model/{modelId}/converse.")
    try:
        if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _DEEPER in indented(body, indent=1):
            raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.", hint="Send flatter JSON.")
        outline = Outline(body)
        if asked.operation == "count":
            return _read_count(outline, asked.model)
        request = _REQUEST.decode(body)
        seen = _check(request, outline)
        if not request.messages and request.prompt_variables is None and not _PROMPT(asked.model):
            raise _wrong("messages", "`messages` is missing or empty.", _HINTS["messages"])
        fields = _fields(request.additional_model_request_fields)
    except (DecodeError, RecursionError) as error:
        raise _refuse(error) from None
    labels = request.request_metadata or {}
    return Call(
        wire.NAME,
        asked.model,
        _sampling(request, fields),
        Reading(outline, fields.rest),
        asked.stream is True,
        stream_usage=True,
        raw=body,
        feature=labels.get("feature"),
        session=labels.get("session"),
        user=labels.get("user", labels.get("user_id")),
        input_bound=len(body) if seen.text_only else None,
        native=tuple(seen.native),
    )


def _read_count(outline: Outline, model: str) -> Call:
    """Read the question for a count: what stands in it is a prompt in this dialect, or one in the model's own form."""
    asked = _COUNT.decode(outline.raw).input
    has_converse = bytes(asked.converse) not in {b"", b"null"}
    if has_converse == (asked.invoke_model is not None):
        raise _wrong("input", "`input` has to have exactly one of `converse` and `invokeModel`.", _HINT)
    if not has_converse:
        reading: Reading | CountReading = CountReading(bytes(outline.members["input"]))
        return Call(
            wire.NAME,
            model,
            Sampling(),
            reading,
            raw=outline.raw,
            input_bound=len(outline.raw),
            operation="count",
            native=("invokeModel",),
        )
    inner = Outline(bytes(asked.converse))
    counted = _COUNTED.decode(inner.raw)
    seen = _check(counted, inner)
    fields = _fields(counted.additional_model_request_fields)
    return Call(
        wire.NAME,
        model,
        Sampling(reasoning_effort=fields.effort),
        Reading(inner, fields.rest),
        raw=outline.raw,
        input_bound=len(outline.raw) if seen.text_only else None,
        operation="count",
        native=tuple(seen.native),
    )


def _fields(raw: Raw) -> Fields:
    if not raw:
        return NOTHING
    fields = read_fields(raw)
    for name, value in fields.numbers:
        if name != "seed" and not -2 <= value <= (2**31 if name == "top_k" else 2):
            raise _wrong(f"additionalModelRequestFields.{name}", f"`{name}` is {value}.", "Send a number in its range.")
    return fields


def _sampling(request: wire.Request, fields: Fields) -> Sampling:
    config, output = request.inference_config, request.output_config
    effort = fields.effort if output is None or output.effort is None else output.effort
    numbers: Mapping[str, Any] = dict(fields.numbers)
    if config is None:
        return Sampling(reasoning_effort=effort, **numbers) if numbers or effort else Sampling()
    stop = config.stop_sequences
    return Sampling(
        config.temperature,
        config.top_p,
        numbers.get("top_k"),
        numbers.get("min_p"),
        config.max_tokens,
        tuple(stop) if stop else (),
        numbers.get("seed"),
        numbers.get("presence_penalty"),
        numbers.get("frequency_penalty"),
        reasoning_effort=effort,
    )


# -- what types cannot say --


def _check(request: wire.Options, outline: Outline) -> _Seen:
    """Check what depends on several members."""
    seen = _Seen({})
    for index, message in enumerate(request.messages or ()):
        if not message.content:
            raise _wrong(f"messages[{index}].content", f"`messages[{index}].content` is empty.", _HINTS["content"])
        for place, block in enumerate(message.content):
            use = block.tool_use
            if _count(block) == 1 and (block.text is not None or (use is not None and use.type is None)):
                continue
            _check_block(block, f"messages[{index}].content[{place}]", seen)
    if seen.unknown:
        _check_unknown(outline, seen)
    for index, system in enumerate(request.system or ()):
        _check_system(system, f"system[{index}]", seen)
    if request.tool_config is not None:
        _check_tools(request.tool_config, seen)
    if isinstance(request, wire.Request):
        _check_options(request, outline, seen)
    return seen


def _check_options(request: wire.Request, outline: Outline, seen: _Seen) -> None:
    for name in ("inferenceConfig", "requestMetadata"):
        if name in outline.members and bytes(outline.members[name]) != b"null":
            Outline(bytes(outline.members[name]))  # a name that stands twice in there could mean two things
    if request.guardrail_config is not None:
        seen.native["guardrailConfig"] = None
    if request.prompt_variables is not None:
        seen.native["promptVariables"] = None
        seen.text_only = False  # a prompt that is kept at Bedrock may be of any length
    form = None if request.output_config is None else request.output_config.text_format
    if form is not None and form.structure.json_schema is not None:
        place = "outputConfig.textFormat.structure.jsonSchema.schema"
        try:
            fine = bool(_OBJECT(form.structure.json_schema.schema.encode()))
            indented(form.structure.json_schema.schema)
        except (DecodeError, RecursionError, UnicodeEncodeError):
            fine = False
        if not fine:
            raise _wrong(place, f"`{place}` is not the text of a JSON object.", "Send a JSON Schema as a text.")


def _members(struct: Struct) -> list[str]:
    """Give the names of the members that are said."""
    values = structs.astuple(struct)
    return [
        name
        for name, value in zip(struct.__struct_fields__, values, strict=True)
        if value is not None and value is not wire.UNSAID
    ]


def _count(struct: Struct) -> int:
    """Count the members that are said."""
    values = structs.astuple(struct)
    return len(values) - values.count(None) - values.count(wire.UNSAID)


def _only(struct: Struct, place: str) -> str:
    """Give the one member of a union. Raises InvalidRequest for none and for several."""
    return _one(_members(struct), place)


def _one(said: list[str], place: str) -> str:
    if len(said) != 1:
        count = "several members" if said else "none of the members that it may have"
        raise _wrong(place, f"`{place}` has {count}.", "Send exactly one.")
    return said[0]


def _check_block(block: wire.Block, place: str, seen: _Seen) -> None:
    """Check one block that is no plain text; one of a kind that is not known is looked at later."""
    if block.tool_result is not None and _count(block) == 1:
        _check_result(block.tool_result, place, seen)
        return
    said = _members(block)
    if not said:
        seen.unknown = True
        return
    name = _one(said, place)
    if name not in _TEXTS and name != "guard_content":
        seen.text_only = False
    if block.tool_use is not None and block.tool_use.type is not None:
        seen.native["toolUse"] = None
    elif block.guard_content is not None:
        kind = _only(block.guard_content, f"{place}.guardContent")
        seen.text_only = seen.text_only and kind == "text"
    elif block.reasoning_content is not None:
        _only(block.reasoning_content, f"{place}.reasoningContent")
    elif isinstance(media := getattr(block, name), wire.Media | wire.Document):
        _check_source(media, f"{place}.{name}", seen)


def _check_source(media: wire.Media | wire.Document, place: str, seen: _Seen) -> None:
    seen.text_only = False
    if _only(media.source, f"{place}.source") == "s3_location":
        seen.native["s3Location"] = None


def _check_result(result: wire.ToolResult, place: str, seen: _Seen) -> None:
    if result.type is not None:
        seen.native["toolResult"] = None
    for index, block in enumerate(result.content):
        if block.text is not None and _count(block) == 1:
            continue
        where = f"{place}.toolResult.content[{index}]"
        said = _members(block)
        if not said:
            seen.native["searchResult"] = None
        elif (name := _one(said, where)) not in {"text", "json"}:
            _check_source(getattr(block, name), f"{where}.{name}", seen)


def _check_unknown(outline: Outline, seen: _Seen) -> None:
    """See that blocks without a known member have an unknown one: only Bedrock can know what it means."""
    for index, message in enumerate(_BLOCK_NAMES.decode(outline.members["messages"])):
        for place, block in enumerate(message.content):
            if len(block) != 1:
                where = f"messages[{index}].content[{place}]"
                raise _wrong(where, f"`{where}` has {len(block)} members.", "Send exactly one.")
            name = next(iter(block))
            if name not in _KNOWN_BLOCKS:
                seen.native[name] = None
    seen.text_only = False


def _check_system(block: wire.SystemBlock, place: str, seen: _Seen) -> None:
    if block.text and _count(block) == 1:
        return
    _only(block, place)
    if block.text is not None and not block.text:
        raise _wrong(f"{place}.text", f"`{place}.text` is empty.", "Leave the block out, or send text.")
    if block.guard_content is not None and _only(block.guard_content, f"{place}.guardContent") == "image":
        seen.text_only = False


def _check_tools(config: wire.ToolConfig, seen: _Seen) -> None:
    if not config.tools:
        raise _wrong("toolConfig.tools", "`toolConfig.tools` is empty.", _HINTS["tools"])
    for index, tool in enumerate(config.tools):
        if _count(tool) != 1:
            _only(tool, f"toolConfig.tools[{index}]")
        if tool.system_tool is not None:
            seen.native["systemTool"] = None
            seen.text_only = False
        if tool.tool_spec is not None and not _OBJECT(bytes(tool.tool_spec.input_schema.json)):
            where = f"toolConfig.tools[{index}].toolSpec.inputSchema.json"
            raise _wrong(where, f"`{where}` is not an object.", "Send a JSON Schema.")
    if config.tool_choice is not None:
        _only(config.tool_choice, "toolConfig.toolChoice")


def _wrong(param: str, text: str, hint: str) -> InvalidRequest:
    return InvalidRequest(text, param=param, hint=hint)


def _refuse(error: Exception) -> InvalidRequest:
    """Name the member that the decoder objects to, and say what it may be."""
    if not isinstance(error, ValidationError):
        return InvalidRequest("The body is not JSON, or nested too deeply.", hint=_HINT)
    return refuse(error, _HINTS, _HINT)

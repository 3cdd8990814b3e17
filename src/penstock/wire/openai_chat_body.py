"""Writes a `Call` as the body of a chat completions request, from its neutral form or by splicing the client's own bytes.

Pure. What the dialect cannot express is left out and named: never in silence. Members that only this dialect knows are
written back for calls that came in it. Place in the line: behind `openai_chat.py`, on the provider's side.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Raw
from msgspec.json import Decoder, encode

from penstock.call import (
    Audio,
    Call,
    Content,
    File,
    Foreign,
    Image,
    Members,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Sampling,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.wire.openai_chat_content import LEGACY_ID, Reading
from penstock.wire.openai_chat_request_types import NAME
from penstock.wire.splice import Outline, splice

_MEMBERS: Final = Decoder(dict[str, Raw])
_OPENAI_MODEL: Final = re.compile(r"(?:openai/)?(?:ft:)?(?:gpt-(?!oss)|chatgpt-|o\d)").match
"""OpenAI's own models: they refuse `max_tokens` (the reasoning ones), `top_k` and `min_p`, which most other servers take."""
_NOT_OPENAI: Final = ("top_k", "min_p")
_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_SAMPLING: Final = frozenset(Sampling.__struct_fields__)
_OPTIONS: Final = tuple(name for name in Sampling.__struct_fields__ if name != "max_tokens")
_FORMATS: Final[Mapping[str, str]] = MappingProxyType(
    {"text": "text", "json": "json_object", "json_schema": "json_schema"}
)

Object = dict[str, Any]
Dropped = set[str]


def splice_request(call: Call, model: str, *, ask_usage: bool) -> bytes | None:
    """Give the client's own bytes with model, changed options and the question for usage edited in; None if that cannot be."""
    if call.dialect != NAME or not call.raw or not _SAMPLING.issuperset(call.changed):
        return None
    outline = _outline(call)
    edits: list[tuple[str, bytes | None]] = []
    name = encode(model)
    if bytes(outline.members["model"]) != name:
        edits.append(("model", name))
    if call.changed:
        edits += [(name, _option(call.sampling, name)) for name in call.changed if name != "max_tokens"]
        if "max_tokens" in call.changed:
            limit = call.sampling.max_tokens
            value = None if limit is None else encode(limit)
            edits += [(name, value) for name in _limit_names(outline.members, model)]
    if ask_usage and call.stream and not call.stream_usage:
        own = outline.members.get("stream_options")
        if own is None or bytes(own) == b"null":
            edits.append(("stream_options", b'{"include_usage":true}'))
        else:
            edits.append(("stream_options", splice(bytes(own), [("include_usage", b"true")])))
    return outline.splice(edits) if edits else call.raw


def write_request(call: Call, model: str, *, ask_usage: bool) -> tuple[bytes, tuple[str, ...]]:
    """Give the body and the sorted names of what it could not express."""
    content = call.content
    own = call.dialect == NAME
    dropped: Dropped = set()
    body: Object = {
        "model": model,
        "messages": [turn for message in content.messages for turn in _turns(message, dropped, own=own)],
    }
    said = _outline(call).members if own and call.raw else {}
    for name in _OPTIONS:
        if (value := _option(call.sampling, name)) is not None:
            if name in _NOT_OPENAI and not own and _OPENAI_MODEL(model):
                dropped.add(name)
            else:
                body[name] = Raw(value)
    if call.sampling.max_tokens is not None:
        body.update(dict.fromkeys(_limit_names(said, model), call.sampling.max_tokens))
    body.update(_tools(content, dropped, own=own))
    if content.output is not None:
        body["response_format"] = _response_format(content.output)
    if call.user is not None:
        body["user"] = call.user
    if call.stream:
        body["stream"] = True
        if ask_usage or call.stream_usage:
            body["stream_options"] = {"include_usage": True}
    _ride_along(body, content.extra, dropped, own=own)
    return encode(body), tuple(sorted(dropped))


def _outline(call: Call) -> Outline:
    reading = call.read
    return reading.outline if isinstance(reading, Reading) and reading.outline.raw is call.raw else Outline(call.raw)


def _ride_along(body: Object, extra: Members, dropped: Dropped, *, own: bool) -> None:
    """Add the members that only the client's dialect knows, or name them."""
    if not own:
        dropped.update(name for name, _ in extra)
        return
    for name, json in extra:
        if name == "stream_options":
            _merge(body, ((name, json),) if name in body else ())
        else:
            body[name] = Raw(json)
    if "functions" in body:  # the deprecated form says the same as the tools that were read from it
        body.pop("tools", None)
        body.pop("tool_choice", None)


# -- options --


def _option(sampling: Sampling, name: str) -> bytes | None:
    """Give the JSON of one option; None if it is not said. Whole numbers stay whole."""
    value = getattr(sampling, name)
    if value is None or value == ():
        return None
    if name == "logit_bias":
        value = {token: _number(bias) for token, bias in value}
    return encode(_number(value) if isinstance(value, float) else value)


def _number(value: float) -> float:
    return int(value) if value.is_integer() else value


def _limit_names(said: Mapping[str, Raw], model: str) -> tuple[str, ...]:
    """Give the names for `max_tokens`: what the client said, else what the model is sure to take."""
    names = tuple(name for name in _LIMITS if name in said and bytes(said[name]) != b"null")
    return names or (_LIMITS[:1] if _OPENAI_MODEL(model) else _LIMITS[1:])


# -- messages --


def _turns(message: Message, dropped: Dropped, *, own: bool) -> Iterator[Object]:
    """Write one neutral message as messages: each tool result is one of its own here."""
    extra = message.extra if own else ()
    if not own:
        dropped.update(name for name, _ in message.extra)
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    for part in results:
        yield _tool_message(part, message, extra, dropped, own=own)
    rest: tuple[Part, ...] = tuple(part for part in message.parts if not isinstance(part, ToolResult))
    if results and not rest:
        return
    turn: Object = {"role": "user" if message.role == "tool" else message.role}
    if message.role == "assistant":
        rest = _assistant(turn, rest, dropped, own=own)
    content = _content(rest, dropped, message.role, own=own)
    if content != [] or message.role != "assistant":
        turn["content"] = content
    elif "tool_calls" not in turn and "function_call" not in turn:
        turn["content"] = None
    if message.name is not None:
        turn["name"] = message.name
    _merge(turn, extra)
    yield turn


def _tool_message(part: ToolResult, message: Message, extra: Members, dropped: Dropped, *, own: bool) -> Object:
    if part.is_error:
        dropped.add("tool_result.is_error")
    content = _content(part.parts, dropped, "tool", own=own)
    if part.id.startswith(LEGACY_ID):
        turn: Object = {"role": "function", "name": message.name or "", "content": None if content == [] else content}
    else:
        turn = {"role": "tool", "tool_call_id": part.id, "content": content}
        if message.name is not None and message.role == "tool":
            turn["name"] = message.name
    _merge(turn, extra if message.role == "tool" else ())
    return turn


def _assistant(turn: Object, parts: Iterable[Part], dropped: Dropped, *, own: bool) -> tuple[Part, ...]:
    """Write what stands beside the content, and give the rest."""
    rest: list[Part] = []
    thoughts: list[str] = []
    refusals: list[str] = []
    calls: list[Object] = []
    for part in parts:
        match part:
            case Reasoning() if own:
                thoughts.append(part.text)
            case Reasoning():
                dropped.add("reasoning")
            case Refusal():
                refusals.append(part.text)
            case Audio(id=str(ident)):
                turn["audio"] = _merged({"id": ident}, part.extra, dropped, own=own)
            case ToolUse() if part.id.startswith(LEGACY_ID):
                function = {"name": part.name, "arguments": part.arguments}
                turn["function_call"] = _merged(function, part.extra, dropped, own=own)
            case ToolUse():
                calls.append(_tool_call(part, dropped, own=own))
            case _:
                rest.append(part)
    if thoughts:
        turn["reasoning_content"] = "".join(thoughts)
    if refusals:
        turn["refusal"] = "".join(refusals)
    if calls:
        turn["tool_calls"] = calls
    return tuple(rest)


def _tool_call(part: ToolUse, dropped: Dropped, *, own: bool) -> Object:
    if part.kind == "custom":
        call: Object = {"id": part.id, "type": "custom", "custom": {"name": part.name, "input": part.arguments}}
    else:
        call = {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
    return _merged(call, part.extra, dropped, own=own)


def _content(parts: Iterable[Part], dropped: Dropped, role: str, *, own: bool) -> str | list[Object | Raw]:
    """Write content: a string where it is one plain text, else a list."""
    written = [item for part in parts if (item := _part(part, dropped, role, own=own)) is not None]
    if len(written) == 1 and isinstance(written[0], dict) and written[0].keys() == {"type", "text"}:
        text: str = written[0]["text"]
        return text
    return written


def _part(part: Part, dropped: Dropped, role: str, *, own: bool) -> Object | Raw | None:
    """Write one part of a content list; None if there is no place for it."""
    item: Object
    match part:
        case Text():
            item = {"type": "text", "text": part.text}
        case Image() if role != "tool" and (part.url or part.data):
            url = part.url or f"data:{part.media_type or 'image/png'};base64,{part.data}"
            item = {"type": "image_url", "image_url": {"url": url, **_given(detail=part.detail)}}
        case Audio(data=str(data)) if role != "tool":
            item = {"type": "input_audio", "input_audio": {"data": data, "format": part.format or "wav"}}
        case File() if role != "tool" and part.url is None:
            whole = part.data if part.media_type is None else f"data:{part.media_type};base64,{part.data}"
            item = {"type": "file", "file": _given(filename=part.name, file_data=whole, file_id=part.file_id)}
        case Refusal():
            return {"type": "refusal", "refusal": part.text}
        case Foreign() if own and part.dialect == NAME:
            return Raw(part.json)
        case _:
            kind = part.kind if isinstance(part, Foreign) else type(part).__name__.lower()
            dropped.add(f"{role}.{kind}")
            return None
    return _merged(item, part.extra, dropped, own=own)


# -- tools and the form of the answer --


def _tools(content: Content, dropped: Dropped, *, own: bool) -> Object:
    tools: list[Object | Raw] = []
    for tool in content.tools:
        if isinstance(tool, Tool):
            function = _given(
                name=tool.name, description=tool.description, parameters=_raw(tool.parameters), strict=tool.strict
            )
            tools.append(_merged({"type": "function", "function": function}, tool.extra, dropped, own=own))
        elif tool.dialect == NAME:
            tools.append(Raw(tool.json))
        else:
            dropped.add(f"tools.{tool.kind}")
    out: Object = {"tools": tools} if tools else {}
    if content.tool_choice is not None:
        out["tool_choice"] = _tool_choice(content.tool_choice, dropped, own=own)
    if content.parallel_tools is not None:
        out["parallel_tool_calls"] = content.parallel_tools
    return out


def _tool_choice(choice: ToolChoice, dropped: Dropped, *, own: bool) -> Any:
    if own and choice.extra:
        return Raw(choice.extra[0][1])  # a form that only this dialect knows, kept whole
    dropped.update(name for name, _ in choice.extra)
    return {"type": "function", "function": {"name": choice.name}} if choice.mode == "named" else choice.mode


def _response_format(output: OutputFormat) -> Object:
    if output.kind != "json_schema":
        return {"type": _FORMATS[output.kind], **_given(schema=_raw(output.schema))}
    schema = _given(
        name=output.name or "answer",
        description=output.description,
        schema=_raw(output.schema),
        strict=output.strict,
    )
    return {"type": "json_schema", "json_schema": schema}


# -- members --


def _given(**members: Any) -> Object:
    """Keep the members that are said."""
    return {name: value for name, value in members.items() if value is not None}


def _raw(json: bytes | None) -> Raw | None:
    return None if json is None else Raw(json)


def _merge(out: Object, extra: Members) -> None:
    """Add unknown members; where an object of that name was written, they are that object's own."""
    for name, json in extra:
        inner = out.get(name)
        if isinstance(inner, dict):
            for key, value in _MEMBERS.decode(json).items():
                inner.setdefault(key, value)
        else:
            out.setdefault(name, Raw(json))


def _merged(out: Object, extra: Members, dropped: Dropped, *, own: bool) -> Object:
    if own:
        _merge(out, extra)
    else:
        dropped.update(name for name, _ in extra)
    return out

"""Writes a `Call` as the body of a chat completions request, from its neutral form or by splicing the client's own bytes.

Pure. What the dialect cannot express is left out and named: never in silence. Members that only this dialect knows are
written back for calls that came in it. Place in the line: behind `openai_chat.py`, on the provider's side.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Raw
from msgspec.json import decode, encode

from penstock.call import Call, Content, Foreign, Members, OutputFormat, Sampling, Tool, ToolChoice
from penstock.wire import effort, openai_chat_parts
from penstock.wire.openai_chat_content import Reading
from penstock.wire.openai_chat_messages import Dropped, MessageWriter, Object, given, is_openai, merge, merged, raw_json
from penstock.wire.openai_chat_native import write_thinking
from penstock.wire.openai_chat_request_types import NAME
from penstock.wire.splice import Outline, splice

_NOT_OPENAI: Final = ("top_k", "min_p")
"""OpenAI's own models refuse these, which most other servers take."""
_THINKING: Final = ("reasoning", "thinking")
_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_SAMPLING: Final = frozenset(Sampling.__struct_fields__)
_OPTIONS: Final = tuple(name for name in Sampling.__struct_fields__ if name != "max_tokens")
_FORMATS: Final[Mapping[str, str]] = MappingProxyType(
    {"text": "text", "json": "json_object", "json_schema": "json_schema"}
)


def splice_request(call: Call, model: str, *, ask_usage: bool) -> bytes | None:
    """Give the client's own bytes with model, changed options and the question for usage edited in; None if that cannot be."""
    reading, asks = call.read, ask_usage and call.stream and not call.stream_usage
    says_more = asks or call.changed or call.dialect != NAME
    if not says_more and isinstance(reading, Reading) and reading.outline.raw is call.raw:
        return reading.outline.put("model", encode(model))  # nothing else to say, as nearly always
    if call.dialect != NAME or not call.raw or not _SAMPLING.issuperset(call.changed):
        return None
    outline = _outline(call)
    if "reasoning_effort" in call.changed and "reasoning" in outline.members:
        return None  # which says the same in another place
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
    if asks:
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
    said = _outline(call).members if own and call.raw else {}
    body: Object = {"model": model, "messages": MessageWriter(model, dropped, own=own).write(content.messages)}
    sampling = call.sampling
    for name in _OPTIONS:
        if getattr(sampling, name) is not None and (value := _option(sampling, name)) is not None:
            if name in _NOT_OPENAI and not own and is_openai(model):
                dropped.add(name)
            else:
                body[name] = Raw(value)
    _thinking(body, call, said, dropped)
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
    if content.service_tier is not None:
        body["service_tier"] = content.service_tier
    if content.metadata and own:
        body["metadata"] = dict(content.metadata)
    elif content.metadata:
        dropped.add("metadata")  # which OpenAI takes for stored completions only
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
            merge(body, ((name, json),) if name in body else ())
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


def _thinking(body: Object, call: Call, said: Mapping[str, Raw], dropped: Dropped) -> None:
    """Write how much to think: in the client's own words, else as `reasoning`; for a client of another dialect as an effort."""
    if own := {name: said[name] for name in _THINKING if name in said}:
        if "reasoning_effort" not in said:
            changed = body.pop("reasoning_effort", None) if "reasoning_effort" in call.changed else None
            body.pop("reasoning_effort", None)
            if changed is not None:
                own["reasoning"] = Raw(_with_effort(own.get("reasoning"), changed))
        body.update(own)
        return
    thinking = call.content.thinking
    if thinking is None:
        return
    if call.dialect == NAME:
        body["reasoning"] = write_thinking(thinking)
        return
    if thinking.tokens is not None and "reasoning_effort" not in body:
        body["reasoning_effort"] = effort.effort_for(thinking.tokens)
    if thinking.summary is not None:
        dropped.add("thinking")


def _with_effort(reasoning: Raw | None, effort_json: Raw) -> bytes:
    """Put another effort into what the client said about thinking."""
    whole = bytes(reasoning) if reasoning is not None else b"{}"
    return splice(whole if whole.startswith(b"{") else b"{}", [("effort", bytes(effort_json))])


def _number(value: float) -> float:
    return int(value) if value.is_integer() else value


def _limit_names(said: Mapping[str, Raw], model: str) -> tuple[str, ...]:
    """Give the names for `max_tokens`: what the client said, else what the model is sure to take."""
    names = tuple(name for name in _LIMITS if name in said and bytes(said[name]) != b"null")
    return names or (_LIMITS[:1] if is_openai(model) else _LIMITS[1:])


# -- tools and the form of the answer --


def _tools(content: Content, dropped: Dropped, *, own: bool) -> Object:
    tools: list[Object | Raw] = []
    for tool in content.tools:
        if isinstance(tool, Tool):
            function: Object = {"name": tool.name}
            if tool.description is not None:
                function["description"] = tool.description
            if tool.parameters is not None:
                function["parameters"] = Raw(tool.parameters)
            if tool.strict is not None:
                function["strict"] = tool.strict
            written: Object = {"type": "function", "function": function}
            if tool.cache is not None and not own:
                dropped.add("cache")
            elif tool.cache is not None:
                written.update(openai_chat_parts.write_mark(tool.cache))
            tools.append(merged(written, tool.extra, dropped, own=own) if tool.extra else written)
        elif tool.dialect == NAME:
            tools.append(Raw(tool.json))
        elif tool.dialect == "responses" and tool.kind == "custom":
            tools.append(_custom(tool))
        else:
            dropped.add(f"tools.{tool.kind}")
    out: Object = {"tools": tools} if tools else {}
    if content.tool_choice is not None:
        out["tool_choice"] = _tool_choice(content.tool_choice, dropped, own=own)
    if content.parallel_tools is not None:
        out["parallel_tool_calls"] = content.parallel_tools
    return out


def _custom(tool: Foreign) -> Object:
    """Write a custom tool of the Responses API, whose members stand one level deeper here."""
    custom = decode(tool.json, type=dict[str, Any])
    custom.pop("type")
    form = custom.get("format")
    if isinstance(form, dict) and form.get("type") == "grammar":
        custom["format"] = {"type": "grammar", "grammar": {name: form[name] for name in form if name != "type"}}
    return {"type": "custom", "custom": custom}


def _tool_choice(choice: ToolChoice, dropped: Dropped, *, own: bool) -> Any:
    if own and choice.extra:
        return Raw(choice.extra[0][1])  # a form that only this dialect knows, kept whole
    dropped.update(name for name, _ in choice.extra)
    return {"type": "function", "function": {"name": choice.name}} if choice.mode == "named" else choice.mode


def _response_format(output: OutputFormat) -> Object:
    if output.kind != "json_schema":
        return {"type": _FORMATS[output.kind], **given(schema=raw_json(output.schema))}
    schema = given(
        name=output.name or "answer",
        description=output.description,
        schema=raw_json(output.schema),
        strict=output.strict,
    )
    return {"type": "json_schema", "json_schema": schema}

"""Writes a `Call` as the body of a Responses request, from its neutral form or by splicing the client's own bytes.

Pure. What the API cannot express is left out and named: never in silence. A call of another dialect is never stored, and gets
the thoughts encrypted, since its client keeps them. Place in the line: behind `openai_responses.py`, on the provider's side.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Raw
from msgspec.json import Decoder, decode, encode

from penstock.call import Call, Content, Foreign, Message, OutputFormat, Sampling, Text, Tool, ToolChoice
from penstock.wire import effort
from penstock.wire.openai_chat_messages import Dropped, Object, given, merge, raw_json
from penstock.wire.openai_responses_content import Reading
from penstock.wire.openai_responses_items import ItemWriter
from penstock.wire.openai_responses_request import LOGPROBS
from penstock.wire.openai_responses_request_types import NAME
from penstock.wire.splice import Outline, splice

ENCRYPTED: Final = "reasoning.encrypted_content"

_MEMBERS: Final = Decoder(dict[str, Raw])
_THINKS: Final = re.compile(r"(?:openai/)?(?:o\d|gpt-(?:[5-9]|\d\d)|codex)").match
"""OpenAI's models that think; the others refuse to be asked for encrypted thoughts."""
_FLAT: Final[Mapping[str, str]] = MappingProxyType(
    {"temperature": "temperature", "top_p": "top_p", "max_tokens": "max_output_tokens"}
)
_KNOWN: Final = frozenset({*_FLAT, "logprobs", "top_logprobs", "reasoning_effort", "n"})
_COUNTED: Final = frozenset(
    {
        *("model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning"),
        *("conversation", "previous_response_id", "truncation"),
    }
)
_RIDES: Final = frozenset(
    {
        *("prompt_cache_key", "prompt_cache_retention", "stream_options", "store", "background", "truncation"),
    }
)
"""What the neutral form does not hold because nobody misses it, but the same dialect is told."""
_OURS: Final = (b'"penstock.', b'"rs_penstock_')
"""Begin a signature of another family and the id of a thought that OpenAI does not know: it would refuse both."""


def splice_request(call: Call, model: str) -> bytes | None:
    """Give the client's own bytes with model and changed options edited in; None if that cannot be."""
    if (
        call.dialect != NAME
        or not call.raw
        or not _KNOWN.issuperset(call.changed)
        or any(mark in call.raw for mark in _OURS)
    ):
        return None
    outline = _outline(call)
    edits: list[tuple[str, bytes | None]] = []
    name = encode(model)
    if bytes(outline.members["model"]) != name:
        edits.append(("model", name))
    for option in call.changed:
        value = getattr(call.sampling, option)
        if option in _FLAT:
            edits.append((_FLAT[option], None if value is None else encode(_number(value))))
        elif option == "reasoning_effort":
            own = bytes(outline.members.get("reasoning", b"{}"))
            edits.append(("reasoning", splice(own if own.startswith(b"{") else b"{}", [("effort", encode(value))])))
        elif value is not None:
            return None
    return outline.splice(edits) if edits else call.raw


def write_request(call: Call, model: str) -> tuple[bytes, tuple[str, ...]]:
    """Give the body and the sorted names of what it could not express."""
    content = call.content
    own = call.dialect == NAME
    dropped: Dropped = set()
    body: Object = {"model": model}
    messages = content.messages
    if (instructions := _instructions(messages)) is not None:
        body["instructions"] = instructions
        messages = messages[1:]
    body["input"] = ItemWriter(dropped, own=own, openai=_THINKS(model) is not None).write(messages)
    _sampling(body, call.sampling, dropped)
    _tools(body, content, dropped, own=own)
    _shape(body, call)
    if call.user is not None:
        body["user"] = call.user
    if content.service_tier is not None:
        body["service_tier"] = content.service_tier
    if content.metadata:
        body["metadata"] = dict(content.metadata)
    if call.stream:
        body["stream"] = True
    if own:
        merge(body, content.extra)
        _ride_along(body, call, content)
    else:
        dropped.update(name for name, _ in content.extra)
        body["store"] = False
        if _THINKS(model):
            body["include"] = [*body.get("include", ()), ENCRYPTED]
    return encode(body), tuple(sorted(dropped))


def write_count_request(call: Call, model: str) -> bytes:
    """Give the body of the question how many tokens the prompt has."""
    body = _MEMBERS.decode(write_request(call, model)[0])
    return encode({name: value for name, value in body.items() if name in _COUNTED})


def _outline(call: Call) -> Outline:
    reading = call.read
    return reading.outline if isinstance(reading, Reading) and reading.outline.raw is call.raw else Outline(call.raw)


def _instructions(messages: tuple[Message, ...]) -> str | None:
    """Give the first message if it is plain text of the system."""
    match messages[0] if messages else None:
        case Message(role="system", parts=(Text(text=text, extra=(), cache=None),), name=None, extra=()):
            return text
        case _:
            return None


def _ride_along(body: Object, call: Call, content: Content) -> None:
    """Add what the client said that means nothing to others; what it asked to have included, in its own list."""
    said = _outline(call).members if call.raw else {}
    for name in _RIDES:
        if name in said:
            body.setdefault(name, said[name])
    included = [json for name, json in content.extra if name == "include"]
    wanted: list[str] = [*body.get("include", ())] if isinstance(body.get("include"), list) else []
    for json in (*included, bytes(said.get("include", b"[]"))):
        wanted += [value for value in (decode(json) or ()) if value not in wanted]
    if wanted:
        body["include"] = wanted


# -- options --


def _sampling(body: Object, sampling: Sampling, dropped: Dropped) -> None:
    for name in Sampling.__struct_fields__:
        value = getattr(sampling, name)
        if value is None or value == ():
            continue
        if name in _FLAT:
            body[_FLAT[name]] = _number(value)
        elif name not in _KNOWN or (name == "n" and value > 1):
            dropped.add(name)
    if sampling.logprobs:
        body["include"] = [LOGPROBS]
        if sampling.top_logprobs is not None:
            body["top_logprobs"] = sampling.top_logprobs


def _number(value: float) -> float:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shape(body: Object, call: Call) -> None:
    """Write the form of the answer, and how much to think about it and to tell of that."""
    content, word = call.content, call.sampling.reasoning_effort
    if content.output is not None:
        body["text"] = {"format": _format(content.output)}
    thinking = content.thinking
    summary = None
    if thinking is not None:
        summary = thinking.summary or ("auto" if thinking.visible else None)
        if word is None and thinking.tokens is not None:
            word = effort.effort_for(thinking.tokens)
    if word is not None or summary is not None:
        body["reasoning"] = given(effort=word, summary=summary)


def _format(output: OutputFormat) -> Object:
    if output.kind == "text":
        return {"type": "text"}
    if output.kind == "json":
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "name": output.name or "answer",
        **given(description=output.description, schema=raw_json(output.schema), strict=output.strict),
    }


# -- tools --


def _tools(body: Object, content: Content, dropped: Dropped, *, own: bool) -> None:
    tools = [written for tool in content.tools if (written := _tool(tool, dropped, own=own)) is not None]
    if tools:
        body["tools"] = tools
    if content.tool_choice is not None:
        body["tool_choice"] = _tool_choice(content.tool_choice, dropped, own=own)
    if content.parallel_tools is not None:
        body["parallel_tool_calls"] = content.parallel_tools


def _tool(tool: Tool | Foreign, dropped: Dropped, *, own: bool) -> Object | Raw | None:
    if isinstance(tool, Foreign):
        if tool.dialect == NAME:
            return Raw(tool.json)
        if tool.kind == "custom" and (custom := _custom(tool)) is not None:
            return custom
        dropped.add(f"tools.{tool.kind}")
        return None
    if tool.cache is not None:
        dropped.add("cache")
    # Where nothing is said this API is strict, unlike all others.
    strict = tool.strict if own or tool.strict is not None else False
    parameters = raw_json(tool.parameters)
    if parameters is None and not own:
        parameters = Raw(b'{"type":"object","properties":{}}')
    written: Object = {
        "type": "function",
        "name": tool.name,
        **given(description=tool.description, parameters=parameters, strict=strict),
    }
    if own:
        merge(written, tool.extra)
    else:
        dropped.update(name for name, _ in tool.extra)
    return written


def _custom(tool: Foreign) -> Object | None:
    """Write a custom tool of the chat API, which has its members one level deeper."""
    said: Any = decode(tool.json)
    custom = said.get("custom") if isinstance(said, dict) else None
    if tool.dialect != "chat" or not isinstance(custom, dict) or not isinstance(custom.get("name"), str):
        return None
    form = custom.get("format")
    if isinstance(form, dict) and isinstance(form.get("grammar"), dict):
        custom = {**custom, "format": {"type": "grammar", **form["grammar"]}}
    return {"type": "custom", **custom}


def _tool_choice(choice: ToolChoice, dropped: Dropped, *, own: bool) -> Any:
    if own and choice.extra:
        return Raw(choice.extra[0][1])  # a form that only this dialect knows, kept whole
    dropped.update(name for name, _ in choice.extra)
    return {"type": "function", "name": choice.name} if choice.mode == "named" else choice.mode

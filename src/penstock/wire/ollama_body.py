"""Writes a `Call` as the body of a chat (or generate) request of Ollama, from its neutral form or by splicing the client's bytes.

Pure. What the dialect cannot express is left out and named: never in silence. Members that only this dialect knows are
written back for calls that came in it. A call that came as `generate` goes out as such; any other as `chat`.
Place in the line: behind `ollama.py`, on the provider's side.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import DecodeError, Raw
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
    ToolResult,
    ToolUse,
)
from penstock.wire.effort import effort_for
from penstock.wire.media import standard_base64
from penstock.wire.ollama_content import OPTION, Reading
from penstock.wire.ollama_request_types import GENERATE, NAME
from penstock.wire.splice import Outline

_MEMBERS: Final = Decoder(dict[str, Raw])
_OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "temperature": "temperature",
        "top_p": "top_p",
        "top_k": "top_k",
        "min_p": "min_p",
        "max_tokens": "num_predict",
        "stop": "stop",
        "seed": "seed",
        "presence_penalty": "presence_penalty",
        "frequency_penalty": "frequency_penalty",
    }
)
"""Neutral names and those of the options."""
_NAMES: Final = tuple(_OPTIONS.items())
_BESIDE: Final = ("logprobs", "top_logprobs")
"""What stands beside the options, under its neutral name."""
_SPLICED: Final = frozenset({*_OPTIONS, *_BESIDE, "reasoning_effort"})
_LEVELS: Final[Mapping[str, str]] = MappingProxyType(
    {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
)
_TELLS_LEVELS: Final = re.compile(r"gpt-oss").search
"""Models to which a level can be given; Ollama refuses one for any other, which can only be told to think or not to."""
_WHOLE_PROMPT: Final[Mapping[str, bool]] = MappingProxyType({"truncate": False, "shift": False})
"""Without these a prompt that does not fit is cut, and a long answer pushes its beginning out, without a word (Ollama's issue
4967); with them it is an error, or ends with "length", as the clients of other APIs expect. Older servers skip them."""
_NO_TIERS: Final = frozenset({None, "auto", "default"})
_NO_PARAMETERS: Final = Raw(b'{"type":"object","properties":{}}')

Object = dict[str, Any]
Dropped = set[str]


def splice_request(call: Call, model: str) -> bytes | None:
    """Give the client's own bytes with model and changed options edited in; None if that cannot be."""
    if call.dialect != NAME or not call.raw or not _SPLICED.issuperset(call.changed):
        return None
    outline = _outline(call)
    edits: list[tuple[str, bytes | None]] = []
    name = encode(model)
    if bytes(outline.members["model"]) != name:
        edits.append(("model", name))
    inner = [(_OPTIONS[field], _json(getattr(call.sampling, field))) for field in call.changed if field in _OPTIONS]
    if inner:
        options = outline.members.get("options")
        said = b"{}" if options is None or bytes(options) == b"null" else bytes(options)
        edits.append(("options", Outline(said).splice(inner)))
    edits += [(field, _json(getattr(call.sampling, field))) for field in call.changed if field in _BESIDE]
    if "reasoning_effort" in call.changed:
        edits.append(("think", _json(_level(call.sampling.reasoning_effort, model, set(), own=True))))
    return outline.splice(edits) if edits else call.raw


def write_request(call: Call, model: str) -> tuple[bytes, tuple[str, ...]]:
    """Give the body and the sorted names of what it could not express."""
    content, own = call.content, call.dialect == NAME
    dropped: Dropped = set()
    body: Object = {"model": model}
    if own and call.form == GENERATE:
        body.update(_prompt(content.messages, dropped))
    else:
        names = {part.id: part.name for turn in content.messages for part in turn.parts if isinstance(part, ToolUse)}
        body["messages"] = [turn for message in content.messages for turn in _turns(message, names, dropped, own=own)]
    body.update(_tools(content, dropped, own=own))
    if content.output is not None and content.output.kind != "text":
        body["format"] = _format(content.output)
    options = _options(call.sampling, dropped)
    body.update({name: value for name in _BESIDE if (value := getattr(call.sampling, name)) is not None})
    if (think := _think(call, model, dropped, own=own)) is not None:
        body["think"] = think
    _drop_rest(call, content, dropped, own=own)
    for name, json in content.extra:
        if not own:
            dropped.add(name)
        elif name.startswith(OPTION):
            options.setdefault(name.removeprefix(OPTION), Raw(json))
        else:
            body.setdefault(name, Raw(json))
    if options:
        body["options"] = options
    if not own:
        body.update(_WHOLE_PROMPT)
    body["stream"] = call.stream
    return encode(body), tuple(sorted(dropped))


def _outline(call: Call) -> Outline:
    reading = call.read
    return reading.outline if isinstance(reading, Reading) and reading.outline.raw is call.raw else Outline(call.raw)


def _json(value: object) -> bytes | None:
    return None if value is None or value == () else encode(value)


# -- beside the messages --


def _options(sampling: Sampling, dropped: Dropped) -> Object:
    if sampling.logit_bias:
        dropped.add("logit_bias")
    if sampling.n is not None and sampling.n > 1:
        dropped.add("n")
    out: Object = {}
    for name, option in _NAMES:
        value = getattr(sampling, name)
        if value is not None and value != ():
            out[option] = value
    return out


def _think(call: Call, model: str, dropped: Dropped, *, own: bool) -> bool | str | None:
    """Write whether, and how much, to think: a level where the model takes one, else true or false."""
    effort, thinking = call.sampling.reasoning_effort, call.content.thinking
    if thinking is not None and thinking.visible is False and (effort or thinking.tokens or thinking.adaptive):
        dropped.add("thinking")  # Ollama always gives the thoughts
    if effort is not None:
        return _level(effort, model, dropped, own=own)
    if thinking is None:
        return None
    if thinking.tokens is not None:
        return _level(effort_for(thinking.tokens), model, dropped, own=own)
    return True if thinking.adaptive or thinking.visible else None


def _level(effort: str | None, model: str, dropped: Dropped, *, own: bool) -> bool | str | None:
    """Give what `think` is for a word; a client of Ollama's knows its model and is taken at its word."""
    if effort is None:
        return None
    if effort == "none":
        return False
    if own and effort in {"low", "medium", "high", "max"}:
        return effort
    level = _LEVELS.get(effort, "medium")
    if _TELLS_LEVELS(model):
        if level != effort:
            dropped.add("reasoning_effort")
        return level
    dropped.add("reasoning_effort")
    return True


def _format(output: OutputFormat) -> Raw | str:
    return "json" if output.schema is None else Raw(output.schema)


def _tools(content: Content, dropped: Dropped, *, own: bool) -> Object:
    choice = content.tool_choice
    if content.parallel_tools is False:
        dropped.add("parallel_tools")
    if choice is not None:
        dropped.update(name for name, _ in choice.extra)
        if choice.mode == "none":
            return {}  # what it is not told of, a model does not call
        if choice.mode != "auto":
            dropped.add("tool_choice")
    tools: list[Object | Raw] = []
    for tool in content.tools:
        if isinstance(tool, Tool):
            _note(tool, dropped)
            if tool.strict:
                dropped.add("strict")
            function: Object = {"name": tool.name}
            if tool.description is not None:
                function["description"] = tool.description
            function["parameters"] = _NO_PARAMETERS if tool.parameters is None else Raw(tool.parameters)
            tools.append(_merged({"type": "function", "function": function}, tool.extra, dropped, own=own))
        elif tool.dialect == NAME:
            tools.append(Raw(tool.json))
        else:
            dropped.add(f"tools.{tool.kind}")
    return {"tools": tools} if tools else {}


def _drop_rest(call: Call, content: Content, dropped: Dropped, *, own: bool) -> None:
    """Name what Ollama has no member for."""
    if content.service_tier not in _NO_TIERS:
        dropped.add("service_tier")
    if content.metadata:
        dropped.add("metadata")
    if call.user is not None and not own:
        dropped.add("user")


# -- messages --


def _prompt(messages: Iterable[Message], dropped: Dropped) -> Object:
    """Write the messages as a completion has them: system text, a prompt, pictures; turns of a conversation run together."""
    system: list[str] = []
    prompt: list[str] = []
    images: list[str] = []
    for message in messages:
        turn: Object = {}
        _said(turn, message.role, message.parts, dropped)
        (system if message.role in {"system", "developer"} else prompt).append(turn["content"])
        images += turn.get("images", ())
        if message.role in {"assistant", "tool"}:
            dropped.add("messages")
    out: Object = {"prompt": "\n\n".join(prompt)}
    if system:
        out["system"] = "\n\n".join(system)
    if images:
        out["images"] = images
    return out


def _turns(message: Message, names: Mapping[str, str], dropped: Dropped, *, own: bool) -> Iterator[Object]:
    """Write one neutral message as messages: each tool result is one of its own here, before what else is said."""
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    for part in results:
        turn: Object = {"role": "tool", "content": "", "tool_call_id": part.id}
        if name := (message.name if message.role == "tool" else None) or names.get(part.id):
            turn["tool_name"] = name
        _note(part, dropped)
        if part.is_error:
            dropped.add("tool_result.is_error")
        _said(turn, "tool", part.parts, dropped)
        yield _merged(turn, message.extra if message.role == "tool" else part.extra, dropped, own=own)
    rest = message.parts
    if results:
        rest = tuple(part for part in rest if not isinstance(part, ToolResult))
        if not rest:
            return
    role = "user" if message.role == "tool" else "system" if message.role == "developer" and not own else message.role
    turn = {"role": role, "content": ""}
    if message.name is not None and message.role != "tool":
        dropped.add("name")
    if role == "assistant":
        _assistant(turn, rest, dropped, own=own)
    _said(turn, message.role, rest, dropped)
    yield _merged(turn, message.extra if message.role != "tool" else (), dropped, own=own)


def _assistant(turn: Object, parts: Iterable[Part], dropped: Dropped, *, own: bool) -> None:
    """Write what stands beside the content. Thoughts that another family signed are of no use to a model here."""
    thoughts: list[str] = []
    calls: list[Object] = []
    for part in parts:
        if isinstance(part, Reasoning):
            if part.signature or part.redacted:
                dropped.add("reasoning")
            else:
                thoughts.append(part.text)
        elif isinstance(part, ToolUse):
            _note(part, dropped)
            call = {"id": part.id, "function": {"name": part.name, "arguments": arguments(part)}}
            calls.append(_merged(call, part.extra, dropped, own=own))
    if thoughts:
        turn["thinking"] = "".join(thoughts)
    if calls:
        turn["tool_calls"] = calls


def arguments(use: ToolUse) -> Raw | Object:
    """Give the arguments as the object that they have to be here; what is none is wrapped into one."""
    text = use.arguments.strip()
    if use.kind == "custom":
        return {"input": use.arguments}
    if not text:
        return {}
    try:
        if text.startswith("{"):
            _MEMBERS.decode(text)
            return Raw(text.encode())
        return {"arguments": Raw(encode(Decoder().decode(text)))}
    except (DecodeError, UnicodeEncodeError, RecursionError):
        return {"arguments": use.arguments}


def _said(turn: Object, role: str, parts: Iterable[Part], dropped: Dropped) -> None:
    """Write content and pictures. Texts of an assistant are pieces of one; those of others stand apart."""
    texts: list[str] = []
    images: list[str] = []
    for part in parts:
        if isinstance(part, Text):
            if part.extra or part.citations or part.cache is not None:
                _note(part, dropped)
            texts.append(part.text)
            continue
        _note(part, dropped)
        match part:
            case Refusal():
                texts.append(part.text)
            case Image(data=str(data)):
                images.append(standard_base64(data) or data)
                if part.detail not in {None, "auto"}:
                    dropped.add("detail")
            case Image():
                dropped.add("image")
            case Audio():
                dropped.add("audio")
            case File():
                dropped.add("file")
            case Foreign():
                dropped.add(part.kind)
            case _:
                pass
    turn["content"] = ("" if role == "assistant" else "\n").join(texts)
    if images:
        turn["images"] = images


def _note(part: Part | Tool, dropped: Dropped) -> None:
    """Name what a part or a tool says beyond its content."""
    if getattr(part, "cache", None) is not None:
        dropped.add("cache")
    if isinstance(part, Text):
        if part.citations:
            dropped.add("citations")
        dropped.update(name for name, _ in part.extra)
    elif isinstance(part, Image | Audio | File):
        dropped.update(name for name, _ in part.extra)


def _merged(out: Object, extra: Members, dropped: Dropped, *, own: bool) -> Object:
    """Add the unknown members of a client of this dialect; where an object of that name was written, they are its own."""
    for name, json in extra:
        inner = out.get(name)
        if not own:
            dropped.add(name)
        elif isinstance(inner, dict):
            for key, value in _MEMBERS.decode(json).items():
                inner.setdefault(key, value)
        else:
            out.setdefault(name, Raw(json))
    return out

"""Writes a `Call` as the body of a Converse request, from its neutral form or by splicing the client's own bytes.

Pure. What the dialect cannot express is left out and named: never in silence. Members that only this dialect knows are
written back for calls that came in it. Calls of other dialects are brought into the form that the API insists on: turns that
alternate, a turn's tool results first, tools defined wherever one was used. The model stands in the path, not here.
Place in the line: behind `bedrock_converse.py`, on the provider's side.
"""

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Raw, structs
from msgspec.json import Decoder, encode

from penstock.call import (
    Call,
    Content,
    Foreign,
    Message,
    OutputFormat,
    Sampling,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.wire.anthropic_messages_rules import rules_for
from penstock.wire.bedrock_converse_blocks import Blocks, BlockWriter, Object, merge
from penstock.wire.bedrock_converse_carried import holds_carried
from penstock.wire.bedrock_converse_content import Reading
from penstock.wire.bedrock_converse_fields import MEMBER, NUMBERS, Written, write_fields
from penstock.wire.bedrock_converse_request_types import NAME
from penstock.wire.splice import Outline, splice
from penstock.wire.tool_ids import fitted

Turn = tuple[str, Blocks]

_MEMBERS: Final = Decoder(dict[str, Raw])
_SPLICED: Final = {"temperature": "temperature", "top_p": "topP", "max_tokens": "maxTokens", "stop": "stopSequences"}
_THOUGHT: Final = b'"reasoningText"'
_SIGNATURE: Final = b'"signature"'
_LABEL: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}").fullmatch
_MOST_LABELS: Final = 16
_UNSAID: Final = frozenset(NUMBERS) - {"top_k"}
"""Numbers that no model is told whose client did not say them in its own words."""
_TIERS: Final = frozenset({"default", "flex", "priority"})
_NO_SCHEMA: Final = Raw(b'{"type":"object","properties":{}}')
_OPENING: Final = "(The assistant begins.)"
_GO_ON: Final = "Continue."
_IN_PLACE: Final = frozenset({"toolAddition", "toolRemoval"})
"""Parts of a system turn that stands where it is, rather than among the instructions."""


def splice_request(call: Call, model: str = "") -> bytes | None:
    """Give the client's own bytes with changed options edited in; None if that cannot be, or must not."""
    if call.dialect != NAME or not call.raw or call.operation != "generate" or not _SPLICED.keys() >= set(call.changed):
        return None
    if holds_carried(call.raw) or ("claude" in model and call.raw.count(_THOUGHT) > call.raw.count(_SIGNATURE)):
        return None  # signatures of other families, and thoughts without any, have to be taken out
    if not call.changed:
        return call.raw
    if call.sampling.temperature is not None and call.sampling.temperature > 1:
        return None
    config = _inference_config(call.sampling)
    edits = [
        (_SPLICED[name], encode(config[_SPLICED[name]]) if _SPLICED[name] in config else None) for name in call.changed
    ]
    outline = _outline(call)
    own = bytes(outline.members.get("inferenceConfig", b"null"))
    return outline.splice([("inferenceConfig", splice(b"{}" if own == b"null" else own, edits))])


def write_request(call: Call, model: str) -> tuple[bytes, tuple[str, ...]]:
    """Give the body and the sorted names of what it could not express."""
    body, dropped = _prompt(call, model)
    content, own = call.content, call.dialect == NAME
    if (tier := content.service_tier) in _TIERS:
        body["serviceTier"] = {"type": tier}
    elif tier is not None and tier != "auto":
        dropped.add("service_tier")
    if labels := _labels(call, dropped, own=own):
        body["requestMetadata"] = labels
    if own:
        merge(body, tuple(member for member in content.extra if member[0] != MEMBER))
    else:
        dropped.update(name for name, _ in content.extra)
    return encode(body), tuple(sorted(dropped))


def write_count_request(call: Call, model: str) -> bytes:
    """Give the question how many tokens a prompt has: the client's own, where it asked it in this dialect."""
    if call.dialect == NAME and call.operation == "count" and call.raw and not holds_carried(call.raw):
        return call.raw
    body, _ = _prompt(call, model)
    counted = {name: body[name] for name in ("messages", "system", "toolConfig", MEMBER) if name in body}
    return encode({"input": {"converse": counted}})


def _outline(call: Call) -> Outline:
    reading = call.read
    return reading.outline if isinstance(reading, Reading) and reading.outline.raw is call.raw else Outline(call.raw)


def _prompt(call: Call, model: str) -> tuple[Object, set[str]]:
    """Write everything that bears on what the model sees and says."""
    content, own = call.content, call.dialect == NAME
    writer = BlockWriter(model, own=own)
    system, turns = _turns(content.messages, writer)
    if not own:
        system, turns = _as_demanded(system, turns, model, writer)
    body: Object = {"messages": [{"role": role, "content": blocks} for role, blocks in turns]}
    if system:
        body["system"] = system
    written = _options(call, model, writer.dropped, free=_free(content, turns, writer))
    if config := _inference_config(written.sampling):
        body["inferenceConfig"] = config
    if tools := _tool_config(content, writer):
        body["toolConfig"] = tools
    if written.fields:
        body[MEMBER] = written.fields
    output: Object = {} if content.output is None else _output(content.output, writer.dropped)
    if written.effort is not None:
        output["effort"] = written.effort
    if output:
        body["outputConfig"] = output
    return body, writer.dropped


# -- options --


def _options(call: Call, model: str, dropped: set[str], *, free: bool) -> Written:
    """Say the options; for a client of this dialect, in its own words as far as the gateway changed nothing."""
    sampling, own = call.sampling, call.dialect == NAME
    changed = set(call.changed)
    if changed and (foreign := [name for name in changed & _UNSAID if getattr(sampling, name) is not None]):
        dropped.update(foreign)
        sampling = structs.replace(sampling, **dict.fromkeys(foreign))
    if sampling.n not in {None, 1}:
        dropped.add("n")
    if sampling.logprobs:
        dropped.add("logprobs")
    if sampling.logit_bias:
        dropped.add("logit_bias")
    if sampling.temperature is not None and sampling.temperature > 1:
        dropped.add("temperature")
        sampling = structs.replace(sampling, temperature=1.0)
    written = write_fields(sampling, call.content.thinking, model, own=own, free=free)
    dropped.update(written.dropped)
    if own and call.raw:
        _in_own_words(written, call, changed)
    elif own:
        rest = dict(call.content.extra).get(MEMBER)
        merge(
            written.fields,
            () if rest is None else tuple((name, bytes(json)) for name, json in _MEMBERS.decode(rest).items()),
        )
    if own and not free and "claude" in model:
        written.fields.pop("thinking", None)
    if not own and "claude" in model:
        stop = tuple(text for text in sampling.stop if text.strip())
        if stop != sampling.stop:
            dropped.add("stop")
            written.sampling = structs.replace(written.sampling, stop=stop)
    return written


def _in_own_words(written: Written, call: Call, changed: set[str]) -> None:
    """Take the model's own fields as the client wrote them, but for those that the gateway changed."""
    outline = _outline(call)
    members = outline.members
    if call.operation == "count":
        members = _MEMBERS.decode(_MEMBERS.decode(members["input"]).get("converse", b"{}"))
    raw = members.get(MEMBER, b"null")
    said: Object = {} if bytes(raw) == b"null" else dict(_MEMBERS.decode(raw))
    for name in changed & set(NUMBERS):
        said.pop(name, None)
        if name in written.fields:
            said[name] = written.fields[name]
    written.fields = said
    if "reasoning_effort" not in changed:
        config = members.get("outputConfig", b"null")
        effort = {} if bytes(config) == b"null" else _MEMBERS.decode(config)
        written.effort = call.sampling.reasoning_effort if bytes(effort.get("effort", b"null")) != b"null" else None


def _inference_config(sampling: Sampling) -> Object:
    config: Object = {}
    if sampling.max_tokens is not None:
        config["maxTokens"] = sampling.max_tokens
    if sampling.temperature is not None:
        config["temperature"] = sampling.temperature
    if sampling.top_p is not None:
        config["topP"] = sampling.top_p
    if sampling.stop:
        config["stopSequences"] = [text for text in sampling.stop if text]
    return config


def _output(output: OutputFormat, dropped: set[str]) -> Object:
    if output.kind == "text":
        return {}
    if output.kind == "json" or output.schema is None:
        dropped.add("output")
        return {}
    schema: Object = {"schema": output.schema.decode()}
    if output.name is not None:
        schema["name"] = output.name
    if output.description is not None:
        schema["description"] = output.description
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}


def _labels(call: Call, dropped: set[str], *, own: bool) -> Mapping[str, str]:
    """Give the caller's labels, as far as the API takes them."""
    labels = dict(call.content.metadata)
    if own or (not labels and call.user is None):
        return labels
    fine = {key: value for key, value in labels.items() if key and _LABEL(key) and _LABEL(value)}
    kept = dict(list(fine.items())[:_MOST_LABELS])
    if kept != labels:
        dropped.add("metadata")
    if call.user is not None and "user" not in kept:
        if _LABEL(call.user) and len(kept) < _MOST_LABELS:
            kept["user"] = call.user
        else:
            dropped.add("user")
    return kept


# -- messages --


def _turns(messages: tuple[Message, ...], writer: BlockWriter) -> tuple[Blocks, list[Turn]]:
    """Write the instructions and the turns."""
    system: Blocks = []
    turns: list[tuple[str, Blocks, Blocks]] = []
    for message in messages:
        if message.extra and not writer.own:
            writer.dropped.update(name for name, _ in message.extra)
        if message.name is not None:
            writer.dropped.add("name")
        if message.role in {"system", "developer"} and not _in_place(message, writer):
            system += _instructions(message, writer)
            continue
        role = message.role if message.role in {"assistant", "system"} else "user"
        results, others = _sorted_parts(message, writer)
        if not results and not others:
            continue
        if turns and turns[-1][0] == role and not writer.own:
            turns[-1][1].extend(results)
            turns[-1][2].extend(others)
        else:
            turns.append((role, results, others))
    return system, [(role, _with_text(results + others, writer)) for role, results, others in turns]


def _as_demanded(system: Blocks, turns: list[Turn], model: str, writer: BlockWriter) -> tuple[Blocks, list[Turn]]:
    """See that a user asks first, and last where a Claude goes on with no answer that has begun."""
    if not turns:
        return [], [("user", system or [{"text": ""}])]  # instructions alone: somebody has to ask
    if turns[0][0] == "assistant":
        turns.insert(0, ("user", [{"text": _OPENING}]))
    role, blocks = turns[-1]
    if role == "assistant" and "claude" in model:
        if not rules_for(model).prefill:
            writer.dropped.add("prefill")
            turns.append(("user", [{"text": _GO_ON}]))
        elif isinstance(last := blocks[-1], dict) and "text" in last:
            last["text"] = last["text"].rstrip()  # Claude refuses space at its end
    return system, turns


def _free(content: Content, turns: list[Turn], writer: BlockWriter) -> bool:
    """Return whether a model may think; a client of this API knows by itself, as long as no thought was taken out."""
    return (writer.own and "reasoning" not in writer.dropped) or _may_think(content, turns)


def _may_think(content: Content, turns: list[Turn]) -> bool:
    """Return whether a Claude may think: not with a forced tool, a prefill, or a round of tools begun without thoughts."""
    if content.tool_choice is not None and content.tool_choice.mode in {"required", "named"} and content.tools:
        return False
    if turns[-1][0] == "assistant":
        return False
    last = next((blocks for role, blocks in reversed(turns) if role == "assistant"), [])
    kinds = [next(iter(block)) for block in last if isinstance(block, dict)]
    return "toolUse" not in kinds or kinds[0] == "reasoningContent"


def _in_place(message: Message, writer: BlockWriter) -> bool:
    return writer.own and any(getattr(part, "kind", "") in _IN_PLACE for part in message.parts)


def _instructions(message: Message, writer: BlockWriter) -> Blocks:
    """Write system text, which is never empty and holds nothing but text."""
    blocks: Blocks = []
    for part in message.parts:
        if isinstance(part, Text) and part.text.strip():
            blocks += writer.part(structs.replace(part, citations=()))
        elif writer.own:
            blocks += writer.part(part)
        elif not isinstance(part, Text):
            writer.dropped.add(part.kind if isinstance(part, Foreign) else part.__class__.__name__.lower())
    return blocks


def _sorted_parts(message: Message, writer: BlockWriter) -> tuple[Blocks, Blocks]:
    """Write a message: what goes to the front of its turn, and the rest. A client of this dialect has its own order."""
    results: Blocks = []
    others: Blocks = []
    for part in message.parts:
        blocks = writer.said(part) if message.role == "assistant" and not writer.own else writer.part(part)
        if isinstance(part, ToolResult) and not writer.own:
            count = 2 if len(blocks) > 1 and isinstance(blocks[1], dict) and "cachePoint" in blocks[1] else 1
            results += blocks[:count]
            others += blocks[count:]
        else:
            others += blocks
    return results, others


def _with_text(blocks: Blocks, writer: BlockWriter) -> Blocks:
    """See that a document has text beside it, as the API demands: its own name, where there is none."""
    if writer.own:
        return blocks
    document: Object | None = None
    for block in blocks:
        if isinstance(block, dict):
            if "text" in block:
                return blocks
            if document is None:
                document = block.get("document")
    return blocks if document is None else [*blocks, {"text": document["name"]}]


# -- tools --


def _tool_config(content: Content, writer: BlockWriter) -> Object:
    if content.parallel_tools is False:
        writer.dropped.add("parallel_tools")
    choice = content.tool_choice
    tools = _tools(content, writer)
    used, answered = ([], False) if tools and choice is None else _used(content)
    if choice is not None and choice.mode == "none" and not used and not answered:
        return {}
    if not tools and not writer.own and (used or answered):
        tools = [_tool(Tool(name), writer) for name in dict.fromkeys(used or ["tool"])]
    if not tools:
        return {}
    config: Object = {"tools": tools}
    if choice is not None:
        said = _tool_choice(choice, writer)
        if said is not None:
            config["toolChoice"] = said
    return config


def _used(content: Content) -> tuple[list[str], bool]:
    """Give the names of the tools that were called, and whether one answered."""
    parts = [part for message in content.messages for part in message.parts]
    return [part.name for part in parts if isinstance(part, ToolUse)], any(isinstance(p, ToolResult) for p in parts)


def _tools(content: Content, writer: BlockWriter) -> Blocks:
    tools: Blocks = []
    for tool in content.tools:
        if isinstance(tool, Tool):
            tools.append(_tool(tool, writer))
            if tool.cache is not None:
                tools += writer.tool_cache(tool.cache)
        elif tool.dialect == NAME and writer.own:
            tools.append(Raw(tool.json))
        else:
            writer.dropped.add(f"tools.{tool.kind}")
    return tools


def _tool(tool: Tool, writer: BlockWriter) -> Object:
    spec: Object = {"name": fitted(tool.name)}
    if tool.description:
        spec["description"] = tool.description
    spec["inputSchema"] = {"json": _NO_SCHEMA if tool.parameters is None else Raw(tool.parameters)}
    if tool.strict is not None:
        spec["strict"] = tool.strict
    if not tool.extra:
        return {"toolSpec": spec}
    if writer.own:
        merge(spec, tool.extra)
    else:
        writer.dropped.update(name for name, _ in tool.extra)
    return {"toolSpec": spec}


def _tool_choice(choice: ToolChoice, writer: BlockWriter) -> Object | None:
    """Write the choice. That no tool may be used cannot be said once tools were used."""
    writer.dropped.update(name for name, _ in choice.extra)
    if choice.mode == "none":
        writer.dropped.add("tool_choice")
        return None
    if choice.mode == "named":
        return {"tool": {"name": fitted(choice.name or "")}}
    return {"auto": {}} if choice.mode == "auto" else {"any": {}}

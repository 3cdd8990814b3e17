"""Writes a `Call` as the body of a Messages request, from its neutral form or by splicing the client's own bytes.

Pure. What the API cannot express is left out and named: never in silence. What a model of Claude's family would refuse in
combination (thinking with a temperature, a budget above the limit, a forced tool) is adapted and named too.
Place in the line: behind `anthropic_messages.py`, on the provider's side.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from msgspec import DecodeError, Raw
from msgspec.json import Decoder, decode, encode

from penstock.call import Call, Content, OutputFormat, Sampling, Thinking, Tool, ToolChoice
from penstock.wire.anthropic_messages_content import Reading
from penstock.wire.anthropic_messages_request_types import NAME
from penstock.wire.anthropic_messages_rules import Rules, rules_for
from penstock.wire.anthropic_messages_turns import Dropped, Object, add_extra, cache_control, write_turns
from penstock.wire.effort import effort_for, tokens_for
from penstock.wire.splice import Outline, splice

DEFAULT_MAX_TOKENS: Final = 4_096
"""Where nobody said a limit: the API asks for one."""
LEAST_BUDGET: Final = 1_024

_MEMBERS: Final = Decoder(dict[str, Raw])
_UNSIGNED: Final = re.compile(rb'"signature"\s*:\s*""').search
_LONGEST_USER: Final = 256
_NO_PLACE: Final = ("min_p", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs")
_SPLICED: Final = frozenset({"temperature", "top_p", "top_k", "max_tokens", "stop"})
"""Options that the gateway may have set and that can be edited into the client's own bytes."""
_CHOICES: Final[Mapping[str, str]] = MappingProxyType(
    {"auto": "auto", "required": "any", "none": "none", "named": "tool"}
)
_TIERS: Final[Mapping[str, str]] = MappingProxyType(
    {"auto": "auto", "priority": "auto", "default": "standard_only", "standard_only": "standard_only"}
)
_EFFORTS: Final[Mapping[str, str]] = MappingProxyType(
    {word: word for word in ("low", "medium", "high", "xhigh", "max")} | {"minimal": "low"}
)
_COUNTED: Final = frozenset(
    {"model", "messages", "system", "thinking", "tool_choice", "tools", "output_config", "output_format"}
    | {"cache_control", "mcp_servers", "context_management", "speed"}
)
_OURS: Final = ("feature", "session")
"""Labels that say who pays; they were for the gateway, and Anthropic refuses all but `user_id`."""
_KEEPS_STREAM: Final = "vertex"
"""Vertex AI wants `stream` in the body as well, Bedrock refuses it."""


def splice_request(call: Call, model: str, version: str) -> bytes | None:
    """Give the client's own bytes with model and changed options edited in; None if that cannot be."""
    if call.dialect != NAME or not call.raw or not _SPLICED.issuperset(call.changed):
        return None
    if b'"penstock.' in call.raw or ("claude" in model and _UNSIGNED(call.raw) is not None):
        return None  # signatures of other families, and thoughts without any, have to be taken out
    reading = call.read
    outline = reading.outline if isinstance(reading, Reading) and reading.outline.raw is call.raw else Outline(call.raw)
    members = outline.members
    if call.changed and "thinking" in members:
        return None  # thinking has a say in the other options
    edits: list[tuple[str, bytes | None]] = []
    if version:
        edits += [("model", None), ("anthropic_version", encode(version))]
        if not version.startswith(_KEEPS_STREAM):
            edits.append(("stream", None))
    elif bytes(members.get("model", b"")) != (name := encode(model)):
        edits.append(("model", name))
    for option in call.changed:
        edits.append(_option(call.sampling, option))
    if any(label in _MEMBERS.decode(members["metadata"]) for label in _OURS) if _has(members, "metadata") else False:
        edits.append(("metadata", splice(bytes(members["metadata"]), [(label, None) for label in _OURS])))
    return outline.splice(edits) if edits else call.raw


def _has(members: Mapping[str, Raw], name: str) -> bool:
    return bytes(members.get(name, b"null")) != b"null"


def _option(sampling: Sampling, name: str) -> tuple[str, bytes | None]:
    """Give the member that a changed option is, and its JSON."""
    if name == "stop":
        return "stop_sequences", encode(sampling.stop) if sampling.stop else None
    value = getattr(sampling, name)
    if name == "max_tokens" and value is None:
        value = DEFAULT_MAX_TOKENS
    if name in {"temperature", "top_p"} and value is not None:
        value = min(value, 1.0)
    return name, None if value is None else encode(value)


def write_request(call: Call, model: str, version: str) -> tuple[bytes, tuple[str, ...]]:
    """Give the body and the sorted names of what it could not express."""
    dropped: Dropped = set()
    body = _body(call, model, dropped)
    if version:
        body = {"anthropic_version": version, **body}
        del body["model"]
        if not version.startswith(_KEEPS_STREAM):
            body.pop("stream", None)
    return encode(body), tuple(sorted(dropped))


def write_count_request(call: Call, model: str) -> bytes:
    """Give the body of the question how many tokens the prompt has: what an answer would need is left out."""
    body = _body(call, model, set())
    return encode({name: value for name, value in body.items() if name in _COUNTED})


def _body(call: Call, model: str, dropped: Dropped) -> Object:
    content, own, rules = call.content, call.dialect == NAME, rules_for(model)
    turns = write_turns(content.messages, dropped, own=own, system_between=rules.system_between)
    limit = call.sampling.max_tokens
    body: Object = {"model": model, "max_tokens": DEFAULT_MAX_TOKENS if limit is None else limit}
    if turns.system is not None:
        body["system"] = turns.system
    body["messages"] = turns.messages
    body.update(_tools(content, dropped, own=own))
    thinking, effort = _thinking(call.sampling, content.thinking, rules, own=own)
    _put_sampling(body, call.sampling, rules, dropped, own=own)
    config: Object = {}
    if effort is not None and (word := effort if own else _EFFORTS.get(effort)) is not None:
        config["effort"] = word
    elif effort is not None:
        dropped.add("reasoning")
    if content.output is not None:
        config.update(_format(content.output, dropped))
    if config:
        body["output_config"] = config
    if thinking is not None and not (own and "thinking" in dict(content.extra)):  # a kind that only rides along
        _put_thinking(body, thinking, dropped, free=limit is None)
    if not rules.prefill and turns.messages and turns.messages[-1]["role"] == "assistant":
        dropped.add("prefill")
        turns.messages.append({"role": "user", "content": "Continue."})
    _trim_prefill(turns.messages)
    _put_rest(body, call, content, dropped)
    add_extra(body, content.extra, dropped, own=own)
    return body


# -- options --


def _put_sampling(body: Object, sampling: Sampling, rules: Rules, dropped: Dropped, *, own: bool) -> None:
    """Write the options that there are, within their ranges, and name the others."""
    dropped.update(name for name in _NO_PLACE if getattr(sampling, name))  # zero, false and empty say the default
    if sampling.seed is not None:
        dropped.add("seed")
    if sampling.n is not None and sampling.n > 1:
        dropped.add("n")
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(sampling, name)
        if value is None or value < 0:
            continue  # a negative top_k says the default
        if not rules.sampling and (name == "top_k" or value != 1):
            dropped.add(name)
            continue
        if name != "top_k" and value > 1:
            dropped.add(name)
            value = 1.0
        body[name] = value
    if not rules.both and not own and "temperature" in body and "top_p" in body:
        dropped.add("top_p")
        del body["top_p"]
    stop = [text for text in sampling.stop if text.strip()]
    if len(stop) < len(sampling.stop):
        dropped.add("stop")  # Anthropic refuses blank ones
    if stop:
        body["stop_sequences"] = stop


def _put_rest(body: Object, call: Call, content: Content, dropped: Dropped) -> None:
    own = call.dialect == NAME
    labels = {name: value for name, value in content.metadata if name not in _OURS}
    metadata: Object = dict(labels) if own else {}
    if labels and not own:
        dropped.add("metadata")
    if call.user is not None and len(call.user) <= _LONGEST_USER:
        metadata["user_id"] = call.user
    elif call.user is not None:
        dropped.add("user")
    if metadata:
        body["metadata"] = metadata
    if content.service_tier is not None:
        tier = _TIERS.get(content.service_tier, content.service_tier if own else None)
        if tier is None:
            dropped.add("service_tier")
        else:
            body["service_tier"] = tier
    if call.stream:
        body["stream"] = True


def _format(output: OutputFormat, dropped: Dropped) -> Object:
    """Write the form of the answer; JSON without a schema cannot be asked for."""
    if output.kind == "json_schema" and output.schema is not None:
        return {"format": {"type": "json_schema", "schema": Raw(output.schema)}}
    if output.kind != "text":
        dropped.add("output")
    return {}


# -- tools --


def _tools(content: Content, dropped: Dropped, *, own: bool) -> Object:
    tools: list[Object | Raw] = []
    for tool in content.tools:
        if isinstance(tool, Tool):
            tools.append(_tool(tool, dropped, own=own))
        elif tool.dialect == NAME:
            tools.append(Raw(tool.json))
        else:
            dropped.add(f"tools.{tool.kind}")
    out: Object = {"tools": tools} if tools else {}
    choice, parallel = content.tool_choice, content.parallel_tools
    if choice is None and parallel is not None and tools:
        choice = ToolChoice("auto")
    if choice is None:
        return out
    dropped.update(name for name, _ in choice.extra)
    if not tools and not own:
        return out  # a choice without tools is refused, and says nothing
    said: Object = {"type": _CHOICES[choice.mode]}
    if choice.mode == "named":
        said["name"] = choice.name
    if parallel is not None and choice.mode != "none":
        said["disable_parallel_tool_use"] = not parallel
    out["tool_choice"] = said
    return out


def _tool(tool: Tool, dropped: Dropped, *, own: bool) -> Object:
    item: Object = {"name": tool.name}
    if tool.description is not None:
        item["description"] = tool.description
    item["input_schema"] = _schema(tool.parameters)
    if tool.strict is not None and (tool.strict or own):
        item["strict"] = tool.strict
    if tool.cache is not None:
        item["cache_control"] = cache_control(tool.cache)
    if tool.extra:
        add_extra(item, tool.extra, dropped, own=own)
    return item


def _schema(parameters: bytes | None) -> Raw | Object:
    """Write a schema, which has to be an object's here."""
    if parameters is None:
        return {"type": "object", "properties": {}}
    try:
        members = _MEMBERS.decode(parameters)
    except (DecodeError, RecursionError):
        return {"type": "object", "properties": {}}
    return Raw(parameters) if "type" in members else {"type": "object", **members}


# -- thinking --


def _thinking(
    sampling: Sampling, said: Thinking | None, rules: Rules, *, own: bool
) -> tuple[Object | None, str | None]:
    """Give the thinking to ask for, in the form that the model knows, and the effort."""
    effort = sampling.reasoning_effort
    if own and said is None:
        return None, effort
    tokens = None if said is None else said.tokens
    if tokens is None and effort is not None and not own:
        tokens = tokens_for(effort)
    if said is None and effort is None:
        return None, None
    display = {} if said is None or said.visible is None else {"display": "summarized" if said.visible else "omitted"}
    if tokens == 0:
        return ({"type": "disabled"} if own else None), (effort if own else None)
    if own and said is not None and said.adaptive:
        return {"type": "adaptive", **display}, effort
    if rules.adaptive and (not own or not rules.budget):
        word = effort if effort is not None or tokens is None else effort_for(tokens)
        return {"type": "adaptive", **display}, word
    budget = tokens_for("medium") if tokens is None else tokens
    return {"type": "enabled", "budget_tokens": budget, **display}, (effort if own else None)


def _put_thinking(body: Object, thinking: Object, dropped: Dropped, *, free: bool) -> None:
    """Add thinking and take away what does not go with it; or leave it out where the rest is what the caller must have."""
    if thinking["type"] == "disabled":
        body["thinking"] = thinking
        return
    if not _goes_with_thinking(body, thinking) or not _fit_budget(body, thinking, dropped, free=free):
        dropped.add("reasoning")
        return
    body["thinking"] = thinking
    for name, fits in (("temperature", lambda t: t == 1), ("top_p", lambda p: p >= 0.95), ("top_k", lambda _: False)):
        if name in body and not fits(body[name]):
            del body[name]
            dropped.add(name)


def _goes_with_thinking(body: Object, thinking: Object) -> bool:
    """Return whether the model may think: not with a forced tool, a prefill, or a round of tools begun without thoughts."""
    if body.get("tool_choice", {}).get("type") in {"any", "tool"}:
        return False
    turns: Sequence[Object] = body["messages"]
    if turns and turns[-1]["role"] == "assistant":
        return False
    if thinking["type"] == "adaptive":
        return True
    last = next((turn["content"] for turn in reversed(turns) if turn["role"] == "assistant"), "")
    kinds = [_kind(block) for block in last] if isinstance(last, list) else []
    return "tool_use" not in kinds or kinds[0].endswith("thinking")


def _kind(block: Object | Raw) -> str:
    kind = decode(block, type=dict[str, Any]).get("type") if isinstance(block, Raw) else block["type"]
    return kind if isinstance(kind, str) else ""


def _fit_budget(body: Object, thinking: Object, dropped: Dropped, *, free: bool) -> bool:
    """Bring the budget between its least and the limit of tokens; return whether there is room for one."""
    budget = thinking.get("budget_tokens")
    if budget is None:
        return True
    fitted = max(budget, LEAST_BUDGET)
    if free:
        body["max_tokens"] = fitted + DEFAULT_MAX_TOKENS
    elif fitted >= body["max_tokens"]:
        fitted = max(LEAST_BUDGET, body["max_tokens"] // 2)  # an answer needs room as well
    if fitted >= body["max_tokens"]:
        return False
    if fitted != budget:
        dropped.add("reasoning")
    thinking["budget_tokens"] = fitted
    return True


def _trim_prefill(turns: Sequence[Object]) -> None:
    """Take the space from the end of a text that the model is to go on with; Anthropic refuses it there."""
    if not turns or turns[-1]["role"] != "assistant":
        return
    content = turns[-1]["content"]
    if isinstance(content, str):
        turns[-1]["content"] = content.rstrip()
    elif content and isinstance(content[-1], dict) and content[-1]["type"] == "text":
        content[-1]["text"] = content[-1]["text"].rstrip()

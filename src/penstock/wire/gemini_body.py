"""Writes a `Call` as the body of a `generateContent` request, from its neutral form or by splicing the client's own bytes.

Pure. What the dialect cannot express is left out and named: never in silence. Members that only this dialect knows are
written back for calls that came in it. The model and whether the answer is streamed stand in the path, not here.
Place in the line: behind `gemini.py`, on the provider's side.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Raw
from msgspec.json import encode

from penstock.call import Call, Content, Json, OutputFormat, Sampling, Thinking, Tool, ToolChoice, ToolUse
from penstock.wire.effort import effort_for, tokens_for
from penstock.wire.gemini_content import Reading
from penstock.wire.gemini_members import CARRIED, MEMBERS, Object, given, merge, snake
from penstock.wire.gemini_schema import to_gemini_schema
from penstock.wire.gemini_turns import Turns, needs_signed_calls
from penstock.wire.gemini_types import NAME
from penstock.wire.splice import Outline, splice

MAX_STOPS: Final = 5
MAX_CANDIDATES: Final = 8
MAX_SEED: Final = 2**31 - 1

_OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "temperature": "temperature",
        "top_p": "topP",
        "top_k": "topK",
        "max_tokens": "maxOutputTokens",
        "stop": "stopSequences",
        "seed": "seed",
        "presence_penalty": "presencePenalty",
        "frequency_penalty": "frequencyPenalty",
        "n": "candidateCount",
        "logprobs": "responseLogprobs",
        "top_logprobs": "logprobs",
    }
)
_NAMES: Final = tuple(_OPTIONS.items())
_TIERS: Final[Mapping[str, str]] = MappingProxyType(
    {"auto": "unspecified", "default": "standard", "flex": "flex", "priority": "priority"}
)
_LEVELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "none": "MINIMAL",
        "minimal": "MINIMAL",
        "low": "LOW",
        "medium": "MEDIUM",
        "high": "HIGH",
        "xhigh": "HIGH",
        "max": "HIGH",
    }
)
_CLAMPED_LEVELS: Final = frozenset({"none", "xhigh", "max"})
_THINKS_IN_TOKENS: Final = re.compile(r"gemini-2\.5-(pro|flash-lite|flash)").search
_NEVER_THINKS: Final = re.compile(r"gemini-(?:1\.|2\.0)").search
_BUDGETS: Final[Mapping[str, tuple[int, int, bool]]] = MappingProxyType(
    {"pro": (128, 32_768, False), "flash": (1, 24_576, True), "flash-lite": (512, 24_576, True)}
)
"""Least and most thinking tokens of the models that count them, and whether they can do without."""


# -- the client's own bytes --


def splice_request(call: Call, model: str) -> bytes | None:
    """Give the client's own bytes with changed options edited in; None if that cannot be."""
    if call.dialect != NAME or not call.raw or call.operation != "generate":
        return None
    if (call.stream and call.form == "array") or CARRIED in call.raw or not _OPTIONS.keys() >= set(call.changed):
        return None
    if needs_signed_calls(model) and _has_unsigned_calls(call):
        return None
    edits: list[tuple[str, bytes | None]] = []
    if not call.changed and b'"model"' not in call.raw:
        return call.raw
    outline = _outline(call)
    if "model" in outline.members:
        edits.append(("model", encode(f"models/{model}")))
    if call.changed:
        edits.append(_config_edit(outline, call))
    return outline.splice(edits) if edits else call.raw


def _outline(call: Call) -> Outline:
    reading = call.read
    return reading.outline if isinstance(reading, Reading) and reading.outline.raw is call.raw else Outline(call.raw)


def _config_edit(outline: Outline, call: Call) -> tuple[str, bytes | None]:
    """Edit the options where they stand, in the spelling that the client chose."""
    name = next((name for name in ("generationConfig", "generation_config") if name in outline.members), "")
    own = bytes(outline.members[name]) if name else b"{}"
    if not own.startswith(b"{"):
        own = b"{}"
    known = MEMBERS.decode(own)
    edits: list[tuple[str, bytes | None]] = []
    for option in call.changed:
        written = _OPTIONS[option]
        member = snake(written) if snake(written) in known else written
        edits.append((member, _option(call.sampling, option)))
    return name or "generationConfig", splice(own, edits)


def _has_unsigned_calls(call: Call) -> bool:
    """Return whether a step of calls begins with one that no Gemini signed."""
    if b"functionCall" not in call.raw and b"function_call" not in call.raw:
        return False
    for message in call.content.messages:
        first = next((part for part in message.parts if isinstance(part, ToolUse)), None)
        if first is not None and (first.signature is None or first.signer != "google"):
            return True
    return False


# -- written anew --


def write_request(call: Call, model: str) -> tuple[bytes, tuple[str, ...]]:
    """Give the body and the sorted names of what it could not express."""
    dropped: set[str] = set()
    body = _prompt(call, model, dropped)
    content = call.content
    own = call.dialect == NAME
    config = _options(call.sampling, dropped)
    if content.output is not None:
        config.update(_output(content.output))
    config.update(_thinking(call.sampling.reasoning_effort, content.thinking, model, dropped, own=own))
    if content.service_tier is not None:
        tier = _TIERS.get(content.service_tier, content.service_tier if own else "")
        if not tier:
            dropped.add("service_tier")
        elif tier != "unspecified" or own:
            body["serviceTier"] = tier
    if content.metadata and own:
        body["labels"] = dict(content.metadata)
    elif content.metadata:
        dropped.add("metadata")
    if call.user is not None and not own:
        dropped.add("user")
    _ride_along(body, config, content, dropped, own=own)
    if config:
        body["generationConfig"] = config
    return encode(body), tuple(sorted(dropped))


def write_count_request(call: Call, model: str, *, wrapped: bool) -> bytes:
    """Write the question how many tokens a prompt has.

    The Gemini API takes turns alone, or a whole request in an object around it (`wrapped`); Vertex AI knows no such object.
    """
    body = _prompt(call, model, set())
    if wrapped and body.keys() != {"contents"}:
        body = {"generateContentRequest": {"model": f"models/{model}", **body}}
    return encode(body)


def _prompt(call: Call, model: str, dropped: set[str]) -> Object:
    """Write what the model reads: turns, system text, tools."""
    content = call.content
    own = call.dialect == NAME
    turns = Turns(model, dropped, own=own)
    turns.write(content.messages)
    body: Object = {"contents": turns.contents}
    if turns.system:
        body["systemInstruction"] = {"parts": turns.system}
    if tools := _tools(content, dropped, own=own):
        body["tools"] = tools
    if content.tool_choice is not None:
        body["toolConfig"] = {"functionCallingConfig": _tool_choice(content.tool_choice, dropped, own=own)}
    if content.parallel_tools is False:
        dropped.add("parallel_tools")
    return body


def _ride_along(body: Object, config: Object, content: Content, dropped: set[str], *, own: bool) -> None:
    """Add the members that only the client's dialect knows, or name them."""
    for name, json in content.extra:
        place, dot, member = name.partition(".")
        if not own:
            dropped.add(name)
        elif dot and place == "generationConfig":
            merge(config, ((member, json),))
        elif dot and place == "toolConfig":
            body.setdefault("toolConfig", {}).setdefault(member, Raw(json))
        else:
            body.setdefault(name, Raw(json))


# -- options --


def _options(sampling: Sampling, dropped: set[str]) -> Object:
    """Write the options; what is out of range is put to its end, and named."""
    out: Object = {}
    for name, member in _NAMES:
        said = getattr(sampling, name)
        if said is not None and said != () and (value := _option(sampling, name)) is not None:
            out[member] = Raw(value)
    if sampling.min_p is not None:
        dropped.add("min_p")
    if sampling.logit_bias:
        dropped.add("logit_bias")
    if len(sampling.stop) > MAX_STOPS:
        dropped.add("stop")
    if sampling.n is not None and sampling.n > MAX_CANDIDATES:
        dropped.add("n")
    if sampling.seed is not None and not -MAX_SEED <= sampling.seed <= MAX_SEED:
        dropped.add("seed")
    return out


def _option(sampling: Sampling, name: str) -> Json | None:
    """Give the JSON of one option, within its range; None if it is not said. Whole numbers stay whole."""
    value = getattr(sampling, name)
    match name:
        case "stop":
            value = list(value[:MAX_STOPS]) or None
        case "n" if value is not None:
            value = min(value, MAX_CANDIDATES)
        case "seed" if value is not None and not -MAX_SEED <= value <= MAX_SEED:
            value %= MAX_SEED
        case "top_k" if value is not None and value < 1:
            value = None  # all of them, which is what leaving it out means
    if value is None:
        return None
    return encode(int(value) if isinstance(value, float) and value.is_integer() else value)


def _output(output: OutputFormat) -> Object:
    if output.kind == "text":
        return {"responseMimeType": "text/plain"}
    out: Object = {"responseMimeType": "application/json"}
    if output.schema is not None:
        own = to_gemini_schema(output.schema)
        out["responseJsonSchema" if own is None else "responseSchema"] = Raw(own or output.schema)
    return out


def _thinking(effort: str | None, thinking: Thinking | None, model: str, dropped: set[str], *, own: bool) -> Object:
    """Write how much to think: in a word where the model knows words (Gemini 3), in tokens where it counts them (2.5)."""
    if effort is None and thinking is None:
        return {}
    asked = thinking or Thinking()
    if _NEVER_THINKS(model) and not own:
        if effort not in {None, "none"}:
            dropped.add("reasoning_effort")
        if asked.tokens:
            dropped.add("thinking")
        return {}
    out: Object = {}
    visible = True if asked.visible is None and asked.summary is not None else asked.visible
    if visible is not None:
        out["includeThoughts"] = visible
    counts = _THINKS_IN_TOKENS(model)
    if own:
        out.update(given(thinkingBudget=-1 if asked.adaptive else asked.tokens))
        out.update(given(thinkingLevel=None if effort is None else effort.upper()))
    elif asked.adaptive and effort is None:
        if counts:
            out["thinkingBudget"] = -1
    elif counts:
        _write_budget(out, effort, asked.tokens, counts[1], dropped)
    else:
        _write_level(out, effort, asked.tokens, dropped)
    return {"thinkingConfig": out} if out else {}


def _write_budget(out: Object, effort: str | None, tokens: int | None, family: str, dropped: set[str]) -> None:
    """Write a number of tokens, which goes before the word, as far as the model's family takes it."""
    budget = tokens if tokens is not None else tokens_for(effort or "")
    if budget is not None:
        least, most, can_stop = _BUDGETS[family]
        out["thinkingBudget"] = held = 0 if budget == 0 and can_stop else max(least, min(budget, most))
        if held != budget:
            dropped.add("reasoning_effort" if tokens is None else "thinking")
    elif effort is not None:
        dropped.add("reasoning_effort")


def _write_level(out: Object, effort: str | None, tokens: int | None, dropped: set[str]) -> None:
    """Write the word, which goes before tokens; both together are refused."""
    word = effort_for(tokens) if effort is None and tokens is not None else effort
    if word is None:
        return
    level = _LEVELS.get(word.lower())
    if level is None or word.lower() in _CLAMPED_LEVELS:
        dropped.add("thinking" if effort is None else "reasoning_effort")
    if level is not None:
        out["thinkingLevel"] = level


# -- tools --


def _tools(content: Content, dropped: set[str], *, own: bool) -> list[Object | Raw]:
    """Write the functions as one tool, and those that Google hosts each on their own."""
    functions: list[Object] = []
    hosted: list[Object | Raw] = []
    for tool in content.tools:
        if isinstance(tool, Tool):
            functions.append(_function(tool, dropped, own=own))
        elif tool.dialect == NAME:
            hosted.append(Raw(tool.json))
        else:
            dropped.add(f"tools.{tool.kind}")
    return [{"functionDeclarations": functions}, *hosted] if functions else hosted


def _function(tool: Tool, dropped: set[str], *, own: bool) -> Object:
    if tool.cache is not None:
        dropped.add("cache")
    if tool.strict:
        dropped.add("tools.strict")
    out: Object = {"name": tool.name}
    if tool.description is not None:
        out["description"] = tool.description
    if tool.parameters is not None:
        schema = to_gemini_schema(tool.parameters)
        out["parametersJsonSchema" if schema is None else "parameters"] = Raw(schema or tool.parameters)
    if own:
        merge(out, tool.extra)
    elif tool.extra:
        dropped.update(name for name, _ in tool.extra)
    return out


def _tool_choice(choice: ToolChoice, dropped: set[str], *, own: bool) -> Object | Raw:
    for name, json in choice.extra:
        if own and name == "functionCallingConfig":
            return Raw(json)
        dropped.add("tool_choice" if name == "tool_choice" else name)
    match choice.mode:
        case "named":
            return {"mode": "ANY", "allowedFunctionNames": [choice.name]}
        case "required":
            return {"mode": "ANY"}
        case _:
            return {"mode": choice.mode.upper()}

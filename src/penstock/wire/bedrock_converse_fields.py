"""The members of `additionalModelRequestFields` that have a neutral form, both ways.

Pure. What a model takes beyond the options that all models have stands there under the model's own names, so what is written
depends on the family that a model id speaks of; what is read is read under every name. Where thinking goes along with other
options, Claude's and Nova's rules are kept here, and what had to give way is named.
Place in the line: behind `bedrock_converse_request.py` and `bedrock_converse_body.py`. Source: Amazon Bedrock User Guide,
"Inference request parameters for foundation models"; Amazon Nova User Guide; Anthropic's API reference for `thinking`.
"""

import re
from typing import Any, Final

from msgspec import Raw, Struct, ValidationError, structs
from msgspec.json import Decoder

from penstock.call import Members, Sampling, Thinking
from penstock.errors import InvalidRequest
from penstock.wire import bedrock_converse_request_types as wire
from penstock.wire.anthropic_messages_rules import Rules, rules_for
from penstock.wire.effort import effort_for, tokens_for

MEMBER: Final = "additionalModelRequestFields"
NUMBERS: Final = ("top_k", "min_p", "seed", "presence_penalty", "frequency_penalty")
LEAST_BUDGET: Final = 1024
"""Claude thinks with at least so many tokens, or not at all."""
MEDIUM_BUDGET: Final = 8192
"""For one that was only asked to think."""
LEAST_TOP_P: Final = 0.95
"""While it thinks, it takes no less."""

_MEMBERS: Final = Decoder(dict[str, Raw])
_WHOLE: Final = Decoder(int)
_NUMBER: Final = Decoder(float)
_WORD: Final = Decoder(str)
_THINKING: Final = Decoder(wire.ThinkingField)
_NOVA_THINKING: Final = Decoder(wire.NovaThinking)
_NOVA_CONFIG: Final = Decoder(wire.NovaConfig)
_EFFORT: Final = Decoder(wire.Effort)

_CLAUDE: Final = re.compile(r"claude|anthropic").search
_NOVA: Final = re.compile(r"amazon\.nova").search
_OTHERS: Final = re.compile(
    r"\b(?:amazon|meta|mistral|cohere|ai21|deepseek|openai|qwen|writer|minimax|moonshot|nvidia|google|zai)\."
).search
_NOVA_EFFORTS: Final = {"minimal": "low", "low": "low", "medium": "medium"}

Object = dict[str, Any]


class Fields(Struct, frozen=True):
    """What was said: numbers by their neutral names, how to think, and what is not understood, which rides along."""

    numbers: tuple[tuple[str, Any], ...] = ()
    effort: str | None = None
    thinking: Thinking | None = None
    rest: Members = ()


NOTHING: Final = Fields()


def is_claude(model: str) -> bool:
    """Return whether a model may be one of Anthropic's: so it says, or it does not say whose it is (a profile's ARN)."""
    return _CLAUDE(model) is not None or _OTHERS(model) is None


def read_fields(raw: Raw) -> Fields:
    """Read them. Raises InvalidRequest if they are no object."""
    if len(raw) <= len("null") and bytes(raw) in {b"", b"null", b"{}"}:
        return NOTHING
    try:
        members = _MEMBERS.decode(raw)
    except ValidationError:
        raise InvalidRequest(
            f"`{MEMBER}` is no object.", param=MEMBER, hint="Send an object of the model's own members."
        ) from None
    numbers: Object = {}
    said: Object = {}
    rest: list[tuple[str, bytes]] = []
    for name, value in members.items():
        try:
            understood = _read_number(name, value, numbers) or _read_thinking(name, value, said)
        except ValidationError:
            understood = False
        if not understood:
            rest.append((name, bytes(value)))
    return Fields(tuple(numbers.items()), said.get("effort"), said.get("thinking"), tuple(rest))


def _read_number(name: str, value: Raw, numbers: Object) -> bool:
    if name in {"top_k", "seed"}:
        numbers[name] = _WHOLE.decode(value)
    elif name in NUMBERS:
        numbers[name] = _NUMBER.decode(value)
    elif name == "inferenceConfig" and (top_k := _NOVA_CONFIG.decode(value).top_k) is not None:
        numbers["top_k"] = top_k
        return len(_MEMBERS.decode(value)) == 1
    else:
        return False
    return True


def _read_thinking(name: str, value: Raw, said: Object) -> bool:
    """Read how to think, under the names that models have for it; False if there is more to it."""
    match name:
        case "thinking" | "reasoning_config":
            field = _THINKING.decode(value)
            if field.type == "enabled" and field.budget_tokens is None:
                return False
            visible = {"summarized": True, "omitted": False}.get(field.display or "")
            tokens = 0 if field.type == "disabled" else field.budget_tokens
            said["thinking"] = Thinking(tokens, visible, adaptive=field.type == "adaptive")
            return _knows(wire.ThinkingField, value)
        case "reasoningConfig":
            nova = _NOVA_THINKING.decode(value)
            said["effort"] = "none" if nova.type == "disabled" else nova.max_reasoning_effort
            return said["effort"] is not None and _knows(wire.NovaThinking, value)
        case "reasoning_effort":
            said["effort"] = _WORD.decode(value)
        case "output_config":
            said["effort"] = _EFFORT.decode(value).effort
            return _knows(wire.Effort, value)
        case _:
            return False
    return True


def _knows(kind: type[Struct], value: Raw) -> bool:
    return {field.encode_name for field in structs.fields(kind)}.issuperset(_MEMBERS.decode(value))


# -- writing --


class Written(Struct):
    """What has to be said to one model: its own fields, the service's word for effort, and the options that stay.

    `dropped` names what gave way.
    """

    fields: Object
    sampling: Sampling
    effort: str | None = None
    dropped: tuple[str, ...] = ()


def write_fields(sampling: Sampling, thinking: Thinking | None, model: str, *, own: bool, free: bool = True) -> Written:
    """Say it to a model. With `own` the client spoke this dialect and knows the model's rules, so nothing gives way.

    `free`: nothing in the conversation keeps a Claude from thinking.
    """
    written = Written({}, sampling)
    dropped: list[str] = []
    for name in NUMBERS:
        value = getattr(sampling, name)
        if value is None:
            continue
        if name == "top_k" and _NOVA(model):
            written.fields["inferenceConfig"] = {"topK": value}
        elif own or name == "top_k":
            written.fields["k" if not own and "cohere." in model else name] = value
        else:
            dropped.append(name)
    effort = sampling.reasoning_effort
    if own:
        _say(written, effort, model)
        if thinking is not None:
            written.fields["thinking"] = _claude_field(thinking)
    elif _CLAUDE(model):
        rules = rules_for(model)
        _think_as_claude(written, thinking or Thinking(), rules, dropped)
        if "thinking" in written.fields and not free:
            del written.fields["thinking"]
            written.effort = None
            dropped.append("reasoning")
        _give_way(written, rules, dropped)
    else:
        if effort is None and thinking is not None and thinking.tokens is not None:
            effort = effort_for(thinking.tokens)
        _say(written, effort, model)
        if _NOVA(model) and effort is not None:
            _give_way_as_nova(written, model, dropped)
    written.dropped = tuple(dropped)
    return written


def _say(written: Written, effort: str | None, model: str) -> None:
    """Say how hard to think where the model's family has it; the service's own place is for all others."""
    if effort is None:
        return
    if _NOVA(model):
        field = {"type": "enabled", "maxReasoningEffort": _NOVA_EFFORTS.get(effort, "high")}
        written.fields["reasoningConfig"] = {"type": "disabled"} if effort == "none" else field
    elif "openai." in model:
        written.fields["reasoning_effort"] = effort
    else:
        written.effort = effort


def _claude_field(thinking: Thinking) -> Object:
    if thinking.tokens == 0:
        return {"type": "disabled"}
    field: Object = {"type": "adaptive"}
    if thinking.tokens is not None and not thinking.adaptive:
        field = {"type": "enabled", "budget_tokens": thinking.tokens}
    if thinking.visible is not None:
        field["display"] = "summarized" if thinking.visible else "omitted"
    return field


def _think_as_claude(written: Written, wanted: Thinking, rules: Rules, dropped: list[str]) -> None:
    """Say how much to think: as a word to those that decide for themselves, else in tokens. Not to think needs no word."""
    effort, tokens = written.sampling.reasoning_effort, wanted.tokens
    if tokens is None and effort is not None:
        tokens = tokens_for(effort)
    if tokens == 0 or (tokens is None and effort is None and not wanted.adaptive):
        return  # whether thoughts are shown says nothing about whether there are any
    if rules.adaptive:
        word = effort_for(tokens) if effort is None and tokens is not None else effort
        written.effort = "low" if word == "minimal" else word
        tokens = None
    else:
        tokens = _budget(MEDIUM_BUDGET if tokens is None else tokens, written.sampling.max_tokens, dropped)
        if tokens == 0:
            return
    written.fields["thinking"] = _claude_field(Thinking(tokens, wanted.visible))


def _budget(tokens: int, most: int | None, dropped: list[str]) -> int:
    """Give as many tokens as may be asked for: at least 1024, and less than the answer may have; 0 where there is no room."""
    fits = max(tokens, LEAST_BUDGET)
    if most is not None and fits >= most:
        fits = max(LEAST_BUDGET, most // 2)  # an answer needs room as well
        if fits >= most:
            fits = 0
    if fits != tokens:
        dropped.append("reasoning")
    return fits


def _give_way(written: Written, rules: Rules, dropped: list[str]) -> None:
    """Leave out what Claude refuses beside thinking, beside each other, or altogether."""
    sampling, thinks = written.sampling, "thinking" in written.fields
    temperature, top_p = sampling.temperature, sampling.top_p
    if (thinks or not rules.sampling) and temperature not in {None, 1.0}:
        temperature = None
    if top_p is not None and ((thinks and top_p < LEAST_TOP_P) or (not rules.sampling and top_p < 1)):
        top_p = None
    if temperature is not None and not rules.both:
        top_p = None
    if (thinks or not rules.sampling) and written.fields.pop("top_k", None) is not None:
        dropped.append("top_k")
    dropped += [
        name
        for name, kept in (("temperature", temperature), ("top_p", top_p))
        if kept is None and getattr(sampling, name) is not None
    ]
    written.sampling = structs.replace(sampling, temperature=temperature, top_p=top_p)


def _give_way_as_nova(written: Written, model: str, dropped: list[str]) -> None:
    """Leave out what Nova refuses beside much thinking; the first Novas do not think."""
    field, sampling = written.fields["reasoningConfig"], written.sampling
    if "nova-2" not in model:
        del written.fields["reasoningConfig"]
        if field["type"] != "disabled":
            dropped.append("reasoning")
    elif field.get("maxReasoningEffort") == "high":
        if sampling.max_tokens is not None:
            field["maxReasoningEffort"] = "medium"
            dropped.append("reasoning")
        else:
            dropped += [name for name in ("temperature", "top_p") if getattr(sampling, name) is not None]
            written.sampling = structs.replace(sampling, temperature=None, top_p=None)

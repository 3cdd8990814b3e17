"""Reads a chat completions request into a `Call`.

Pure. `read_request` runs once per call, so it is written for speed: one decode proves what the members are, one proves
their types and ranges; messages are turned into the neutral form on first use only, by `Reading`. A request of usual
members and of text alone needs no further look and has a short way, and one that says of them what the one before it said
a still shorter one (`frame`); `_read_any` is the one definition, and has the word wherever a thing is unusual or wrong.
Whatever is wrong is an InvalidRequest that names the member.
Place in the line: behind `openai_chat.py`, on the client's side.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from msgspec import DecodeError, ValidationError
from msgspec.json import Decoder
from msgspec.json import format as indented

from penstock.call import Call, Sampling
from penstock.errors import InvalidRequest
from penstock.wire import openai_chat_native
from penstock.wire import openai_chat_request_types as wire
from penstock.wire.openai_chat_content import Reading
from penstock.wire.openai_chat_frame import Frame
from penstock.wire.openai_chat_native import read_reasoning
from penstock.wire.openai_chat_request_types import NAME
from penstock.wire.request_error import refuse
from penstock.wire.splice import Outline

MAX_DEPTH: Final = 64
LONGEST_FRAME: Final = 1024
"""Bytes around the messages of a call, at most, that are remembered: the client chooses how many there are."""

_TEXT: Final = Decoder(wire.TextRequest)
_EXACT: Final = Decoder(wire.ExactRequest)
_PLAIN: Final = Decoder(wire.Request)
_DEEPER: Final = b"\n" + b" " * (MAX_DEPTH - 1)

_FLAT: Final = frozenset(wire.ExactRequest.__struct_fields__) - {
    *("tools", "tool_choice", "response_format", "functions", "function_call", "metadata", "stream_options")
}
"""Members whose types leave no room for nesting."""

_USUAL: Final = frozenset(
    {
        *(
            "model",
            "messages",
            "stream",
            "stream_options",
            "max_tokens",
            "max_completion_tokens",
            "temperature",
            "top_p",
        ),
        *("presence_penalty", "frequency_penalty", "seed", "stop", "n", "user", "service_tier", "parallel_tool_calls"),
    }
)
"""Members that mean nothing for one another, but for the two limits, and of which none is nested but `stream_options`."""
_FRAMING: Final = _USUAL - {"user"}
"""Those of them that are remembered from one call to the next."""
_USAGE_ASKED: Final = frozenset({b'{"include_usage":true}', b'{"include_usage": true}'})

_TEXT_PARTS: Final = frozenset({"text", "refusal"})
_PART_MEMBER: Final[Mapping[str, str]] = MappingProxyType(
    {"text": "text", "image_url": "image_url", "input_audio": "input_audio", "file": "file", "refusal": "refusal"}
)
_TOOL_CHOICES: Final = frozenset({"none", "auto", "required", "any"})

_EXPECTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "model": "Send the name of a model; GET /v1/models lists them.",
        "messages": "Send a list with at least one message.",
        "role": "Send one of system, developer, user, assistant, tool, function.",
        "content": "Send a string or a list of parts.",
        "tool_call_id": "Send the id of the tool call that this message answers.",
        "temperature": "Send a number from 0 to 2.",
        "top_p": "Send a number from 0 to 1.",
        "min_p": "Send a number from 0 to 1.",
        "top_k": "Send a whole number from -1.",
        "max_tokens": "Send a whole number from 1.",
        "max_completion_tokens": "Send a whole number from 1.",
        "n": "Send a whole number from 1 to 128.",
        "stop": "Send a string or a list of at most 16 strings.",
        "seed": "Send a whole number.",
        "presence_penalty": "Send a number from -2 to 2.",
        "frequency_penalty": "Send a number from -2 to 2.",
        "logit_bias": "Send an object of token ids and numbers from -100 to 100.",
        "top_logprobs": "Send a whole number from 0 to 20.",
        "stream": "Send true or false.",
        "store": "Send true or false.",
        "service_tier": "Send auto, default, flex or priority.",
    }
)


def read_request(body: bytes) -> Call:
    """Read a body. Raises InvalidRequest, whatever the bytes."""
    outline = Outline(body)
    if not _USUAL.issuperset(outline.members):
        return _read_any(outline)
    try:
        said = _TEXT.decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return _read_any(outline)
    limit, stop, asks = said.max_tokens, said.stop, said.stream_options is not None
    if said.max_completion_tokens is not None:
        if limit is not None:
            return _read_any(outline)
        limit = said.max_completion_tokens
    if asks and bytes(outline.members["stream_options"]) not in _USAGE_ASKED:
        return _read_any(outline)
    stops = () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)
    presence, frequency, streams = said.presence_penalty, said.frequency_penalty, said.stream is True
    drawn = Sampling(said.temperature, said.top_p, None, None, limit, stops, said.seed, presence, frequency, (), said.n)
    reading, size = Reading(outline), len(body)
    return Call(NAME, said.model, drawn, reading, streams, asks, body, None, None, said.user, (), size)


def frame(call: Call) -> Frame | None:
    """Give what stands around the messages of a call just read; None where that is long, or says more than how to answer."""
    reading = call.read
    if not isinstance(reading, Reading) or not _FRAMING.issuperset(reading.outline.members):
        return None
    raw, (_, start, end) = call.raw, reading.outline.span("messages")
    is_short = len(raw) - (end - start) <= LONGEST_FRAME
    return Frame(raw[:start], raw[end:], call) if is_short else None


def _read_any(outline: Outline) -> Call:
    """Read a body, whatever it holds."""
    body = outline.raw
    exact = True
    request: wire.Request | wire.ExactRequest
    try:
        try:
            request = _EXACT.decode(body)
        except ValidationError:
            exact = False
            request = _PLAIN.decode(body)
        _check_depth(outline, exact=exact)
    except (ValidationError, RecursionError) as error:
        raise refuse(error, _EXPECTED, "Send it as OpenAI's API reference has it.") from None
    bound = _check(request, outline)
    members = outline.members
    plain = bound and openai_chat_native.MAY_HAVE.isdisjoint(members)
    native = () if plain else openai_chat_native.names(request, members, plain=bound)
    options, metadata = request.stream_options, request.metadata
    return Call(
        NAME,
        request.model,
        _sampling(request),
        Reading(outline, exact),
        request.stream is True,
        options is not None and options.include_usage is True,
        body,
        None if metadata is None else metadata.feature,
        None if metadata is None else metadata.session,
        request.user,
        (),
        len(body) if bound else None,
        native=native,
    )


def _sampling(request: wire.Options) -> Sampling:
    stop, bias = request.stop, request.logit_bias
    newer = request.max_completion_tokens
    effort = request.reasoning_effort
    if effort is None and request.reasoning:
        effort = read_reasoning(request.reasoning).effort
    return Sampling(
        request.temperature,
        request.top_p,
        request.top_k,
        request.min_p,
        request.max_tokens if newer is None else newer,
        () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        request.seed,
        request.presence_penalty,
        request.frequency_penalty,
        () if bias is None else tuple(bias.items()),
        request.n,
        request.logprobs,
        request.top_logprobs,
        effort,
    )


# -- what types cannot say --


def _check_depth(outline: Outline, *, exact: bool) -> None:
    """Refuse values that lie more than 64 levels deep; indentation shows the depth at the decoder's speed.

    Where the exact types fitted, only members that they do not look into can be deep.
    """
    members = outline.members
    if exact and _FLAT.issuperset(members):
        return
    for value in [members[name] for name in members.keys() - _FLAT] if exact else [outline.raw]:
        if _DEEPER in indented(bytes(value), indent=1):
            raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.", hint="Send flatter JSON.")


def _check(request: wire.Request | wire.ExactRequest, outline: Outline) -> bool:
    """Check what depends on several members; return whether the length of the body bounds the number of tokens."""
    bound = True
    messages: Sequence[wire.WireMessage] = request.messages
    for index, message in enumerate(messages):
        content = message.content
        if isinstance(content, list):
            bound = _check_parts(content, f"messages[{index}].content") and bound
        if isinstance(message, wire.Assistant):
            bound = _check_assistant(message, f"messages[{index}]") and bound
    if request.stream_options is not None:
        Outline(bytes(outline.members["stream_options"]))  # a name that stands twice in there could mean two things
    if request.metadata is not None:
        Outline(bytes(outline.members["metadata"]))
    if request.tools is not None:
        bound = _check_tools(request.tools) and bound
    if request.top_logprobs is not None and request.logprobs is not True:
        raise _wrong("top_logprobs", "`top_logprobs` needs `logprobs` to be true.", "Send both, or neither.")
    if (
        request.max_tokens is not None
        and request.max_completion_tokens is not None
        and request.max_tokens != request.max_completion_tokens
    ):
        text = "`max_tokens` and `max_completion_tokens` say different things."
        raise _wrong("max_tokens", text, "Send one of them; the first is deprecated.")
    choice = request.tool_choice
    if isinstance(choice, str) and choice not in _TOOL_CHOICES:
        raise _wrong("tool_choice", f"`tool_choice` is {choice!r}.", "Send none, auto, required, or an object.")
    if isinstance(choice, wire.ToolChoiceObject):
        _check_tool_choice(choice)
    return bound and "web_search_options" not in outline.members


def _check_parts(parts: list[wire.Part], place: str) -> bool:
    """Check that each part has what its type promises; return whether all are text."""
    text_only = True
    for index, part in enumerate(parts):
        kind = part.type
        member = _PART_MEMBER.get(kind)
        if member is not None and getattr(part, member) is None:
            text = f"`{place}[{index}]` has the type {kind!r} and no `{member}`."
            raise _wrong(f"{place}[{index}].{member}", text, f"Send `{member}`.")
        text_only = text_only and kind in _TEXT_PARTS
    return text_only


def _check_assistant(message: wire.Assistant, place: str) -> bool:
    """Check the tool calls; return whether the message is all text."""
    for index, call in enumerate(message.tool_calls or ()):
        if getattr(call, call.type) is None:
            where = f"{place}.tool_calls[{index}]"
            text = f"`{where}` has the type {call.type!r} and no `{call.type}`."
            raise _wrong(f"{where}.{call.type}", text, f"Send `{call.type}`, as the model gave it.")
    return message.audio is None


def _check_tools(tools: list[wire.ToolDefinition]) -> bool:
    """Check the functions; return whether no tool is hosted by the provider, which may bring in tokens of its own."""
    for index, tool in enumerate(tools):
        if tool.type != "function":
            continue
        if tool.function is None:
            text = f"`tools[{index}]` has the type 'function' and no `function`."
            raise _wrong(f"tools[{index}].function", text, "Send its name, description and parameters.")
        schema = tool.function.parameters
        if schema and not bytes(schema).startswith((b"{", b"null")):
            place = f"tools[{index}].function.parameters"
            raise _wrong(place, f"`{place}` is not an object.", "Send a JSON Schema.")
    return all(tool.type in {"function", "custom"} for tool in tools)


def _check_tool_choice(choice: wire.ToolChoiceObject) -> None:
    named = {"function": choice.function, "custom": choice.custom}
    if choice.type in named and named[choice.type] is None:
        place = f"tool_choice.{choice.type}"
        raise _wrong(place, f"`{place}` is missing.", "Send the tool's name in it.")


def _wrong(param: str, text: str, hint: str) -> InvalidRequest:
    return InvalidRequest(text, param=param, hint=hint)

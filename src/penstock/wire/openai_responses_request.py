"""Reads a Responses request into a `Call`.

Pure. One decode proves what the members are, one proves their types and ranges; items are turned into the neutral form on first
use only, by `Reading`. Whatever is wrong is an InvalidRequest that names the member. Place in the line: behind
`openai_responses.py`, on the client's side.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import DecodeError, Raw, ValidationError
from msgspec.json import Decoder
from msgspec.json import format as indented

from penstock.call import Call, Operation, Sampling
from penstock.errors import InvalidRequest
from penstock.wire import openai_responses_request_types as wire
from penstock.wire import request_error
from penstock.wire.openai_responses_content import Reading
from penstock.wire.splice import Outline

MAX_DEPTH: Final = 64
LOGPROBS: Final = "message.output_text.logprobs"

_REQUEST: Final = Decoder(wire.Request)
_CONTENT: Final = Decoder(str | list[wire.Part] | None)
_DEEPER: Final = b"\n" + b" " * (MAX_DEPTH - 1)
_ROLES: Final = frozenset({"user", "assistant", "system", "developer"})
_TEXT_PARTS: Final = frozenset({"input_text", "output_text", "text", "refusal"})
_PART_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "input_text": ("text",),
        "output_text": ("text",),
        "text": ("text",),
        "refusal": ("refusal",),
        "input_image": ("image_url", "file_id"),
        "input_file": ("file_data", "file_id", "file_url"),
        "input_audio": ("input_audio",),
    }
)
_CALLS: Final[Mapping[str, str]] = MappingProxyType({"function_call": "arguments", "custom_tool_call": "input"})
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
_NEUTRAL_ITEMS: Final = frozenset({"message", "reasoning", *_CALLS, *_OUTPUTS})
_OWN_TOOLS: Final = frozenset({"function", "custom"})
_TOOL_CHOICES: Final = frozenset({"none", "auto", "required"})
_STATE: Final = ("previous_response_id", "conversation", "prompt")
_EXPECTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "model": "Send the name of a model; GET /v1/models lists them.",
        "input": "Send a string or a list of items.",
        "role": "Send one of user, assistant, system, developer.",
        "content": "Send a string or a list of parts.",
        "output": "Send what the tool answered: a string or a list of parts.",
        "call_id": "Send the id of the tool call.",
        "instructions": "Send a string.",
        "temperature": "Send a number from 0 to 2.",
        "top_p": "Send a number from 0 to 1.",
        "max_output_tokens": "Send a whole number from 1.",
        "top_logprobs": "Send a whole number from 0 to 20.",
        "stream": "Send true or false.",
    }
)


def read_request(body: bytes, operation: Operation) -> Call:
    """Read a body. Raises InvalidRequest, whatever the bytes."""
    outline = Outline(body)
    try:
        request = _REQUEST.decode(body)
        if body.count(b"{") + body.count(b"[") >= MAX_DEPTH and _DEEPER in indented(body, indent=1):
            raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.", hint="Send flatter JSON.")
    except (ValidationError, RecursionError) as error:
        raise refuse(error, "") from None
    native: list[str] = []
    bound = _check(request, outline.members, native, needs_input=operation == "generate")
    metadata = request.metadata
    return Call(
        wire.NAME,
        request.model,
        _sampling(request),
        Reading(outline, request),
        request.stream is True,
        True,
        body,
        None if metadata is None else metadata.feature,
        None if metadata is None else metadata.session,
        request.user,
        (),
        len(body) if bound else None,
        operation,
        tuple(dict.fromkeys(native)),
    )


def _sampling(request: wire.Request) -> Sampling:
    wanted = request.top_logprobs is not None or (request.include is not None and LOGPROBS in request.include)
    return Sampling(
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=request.max_output_tokens,
        logprobs=True if wanted else None,
        top_logprobs=request.top_logprobs,
        reasoning_effort=None if request.reasoning is None else request.reasoning.effort,
    )


# -- what types cannot say --


def _check(request: wire.Request, members: Mapping[str, Raw], native: list[str], *, needs_input: bool) -> bool:
    """Check what types cannot say and note what is native; return whether the body's length bounds the number of tokens."""
    stored = [name for name in _STATE if name in members and bytes(members[name]) != b"null"]
    native += stored
    if request.store is True:
        native.append("store")
    if request.background is True:
        native.append("background")
    if not request.input and request.input != "" and needs_input and not stored:
        raise wrong("input", "`input` is missing or empty.", _EXPECTED["input"])
    bound = not stored
    if isinstance(request.input, list):
        for index, item in enumerate(request.input):
            bound = _check_item(item, f"input[{index}]", native) and bound
    if request.metadata is not None:
        Outline(bytes(members["metadata"]))  # a name that stands twice in there could mean two things
    for index, tool in enumerate(request.tools or ()):
        if tool.type not in _OWN_TOOLS:
            native.append(tool.type)
            bound = False
        else:
            _check_tool(tool, f"tools[{index}]")
    choice = request.tool_choice
    if isinstance(choice, str) and choice not in _TOOL_CHOICES:
        raise wrong("tool_choice", f"`tool_choice` is {choice!r}.", "Send none, auto, required, or an object.")
    if isinstance(choice, wire.ToolChoiceObject) and choice.type in _OWN_TOOLS and not choice.name:
        raise wrong("tool_choice.name", "`tool_choice.name` is missing.", "Send the tool's name.")
    return bound


def _check_tool(tool: wire.ToolDefinition, place: str) -> None:
    if not tool.name:
        raise wrong(f"{place}.name", f"`{place}` has no `name`.", "Send the tool's name.")
    if tool.parameters and not bytes(tool.parameters).startswith((b"{", b"null")):
        raise wrong(f"{place}.parameters", f"`{place}.parameters` is not an object.", "Send a JSON Schema.")


def _check_item(item: wire.Item, place: str, native: list[str]) -> bool:
    """Check that an item has what its type promises; return whether it is all text."""
    kind = item.type
    if kind == "message":
        if item.role not in _ROLES:
            raise wrong(f"{place}.role", f"`{place}.role` is {item.role!r}.", _EXPECTED["role"])
        if not item.content:
            raise wrong(f"{place}.content", f"`{place}.content` is missing.", _EXPECTED["content"])
        return _check_parts(_read(_CONTENT, item.content, f"{place}.content"), f"{place}.content", native)
    if kind in _CALLS:
        return _check_call(item, _CALLS[kind], place)
    if kind in _OUTPUTS:
        for name, given in (("call_id", item.call_id), ("output", item.output)):
            if not given:
                raise wrong(f"{place}.{name}", f"`{place}.{name}` is missing.", _EXPECTED[name])
        return _check_parts(_read(_CONTENT, item.output, f"{place}.output"), f"{place}.output", native)
    if kind == "reasoning":
        return _check_thought(item, place)
    native.append(kind)
    return False


def _check_call(item: wire.Item, member: str, place: str) -> bool:
    for name, value in (("call_id", item.call_id), ("name", item.name)):
        if not value:
            raise wrong(f"{place}.{name}", f"`{place}.{name}` is missing.", "Send it as the model gave it.")
    raw: Raw = getattr(item, member)
    if raw and not isinstance(_read(_CONTENT, raw, f"{place}.{member}"), str):
        raise wrong(f"{place}.{member}", f"`{place}.{member}` is no string.", "Send it as the model gave it.")
    return True


def _check_thought(item: wire.Item, place: str) -> bool:
    for name, raw in (("summary", item.summary), ("content", item.content)):
        if raw:
            _read(_CONTENT, raw, f"{place}.{name}")
    return True


def _check_parts(parts: str | list[wire.Part] | None, place: str, native: list[str]) -> bool:
    if not isinstance(parts, list):
        return True
    text_only = True
    for index, part in enumerate(parts):
        members = _PART_MEMBERS.get(part.type)
        if members is not None and all(getattr(part, name) is None for name in members):
            text = f"`{place}[{index}]` has the type {part.type!r} and no `{members[0]}`."
            raise wrong(f"{place}[{index}].{members[0]}", text, f"Send `{members[0]}`.")
        if part.file_id is not None:
            native.append("file_id")
        text_only = text_only and part.type in _TEXT_PARTS
    return text_only


def _read(decoder: "Decoder[str | list[wire.Part] | None]", raw: Raw, place: str) -> str | list[wire.Part] | None:
    try:
        return decoder.decode(raw)
    except (DecodeError, RecursionError) as error:
        raise refuse(error, place) from None


def wrong(param: str, text: str, hint: str) -> InvalidRequest:
    """Say what is wrong with a member, and what to do."""
    return InvalidRequest(text, param=param, hint=hint)


def refuse(error: Exception, place: str) -> InvalidRequest:
    """Name the member that the decoder objects to, within `place`, and say what it may be."""
    return request_error.refuse(error, _EXPECTED, "Send it as OpenAI's API reference has it.", place)

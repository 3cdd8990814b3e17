"""Reads a request of Ollama's chat or generate into a `Call`.

Pure. `read_request` runs once per call, so it is written for speed: one decode proves what the members are, one proves
their types and ranges; messages are turned into the neutral form on first use only, by `Reading`. Whatever is wrong is an
InvalidRequest that names the member. Place in the line: behind `ollama.py`, on the client's side.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Raw, ValidationError
from msgspec.json import Decoder
from msgspec.json import format as indented

from penstock.call import Call, Sampling
from penstock.errors import InvalidRequest
from penstock.wire import ollama_request_types as wire
from penstock.wire import request_error
from penstock.wire.ollama_content import Reading
from penstock.wire.splice import Outline

MAX_DEPTH: Final = 64

_CHAT: Final = Decoder(wire.ChatRequest)
_GENERATE: Final = Decoder(wire.GenerateRequest)
_NO_OPTIONS: Final = wire.Options()
_DEEPER: Final = b"\n" + b" " * (MAX_DEPTH - 1)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_=\s-]*\Z").match
_LOOK: Final = 64
"""So many characters of a picture tell base64 from a URL or the name of a file."""
_NOTHING: Final = frozenset({b"", b"null", b'""', b"[]", b"false"})
_DRAWING: Final = ("width", "height", "steps")
"""Members with which a model that draws pictures is asked for one."""

_EXPECTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "model": "Send the name of a model; GET /api/tags lists them.",
        "messages": "Send a list of messages.",
        "role": "Send one of system, user, assistant, tool.",
        "content": "Send a string; pictures stand in `images`.",
        "images": "Send a list of pictures, each as a string of base64.",
        "prompt": "Send a string.",
        "input": "Send a string or a list of strings.",
        "dimensions": "Send a whole number from 1.",
        "think": "Send true, false, or one of low, medium, high, max.",
        "stream": "Send true or false; without it the answer streams.",
        "options": 'Send an object, such as {"temperature": 0}.',
        "temperature": "Send a number from 0.",
        "top_p": "Send a number from 0 to 1.",
        "min_p": "Send a number from 0 to 1.",
        "top_k": "Send a whole number.",
        "seed": "Send a whole number.",
        "num_predict": "Send a whole number; -1 for no limit.",
        "stop": "Send a string or a list of strings.",
        "top_logprobs": "Send a whole number from 0 to 20.",
        "context": "Send the list of numbers that the earlier answer had.",
    }
)  # fmt: skip


def read_request(body: bytes, form: str) -> Call:
    """Read a body of the form "chat" or "generate"; "" leaves it to the body. Raises InvalidRequest, whatever the bytes."""
    outline = Outline(body)
    members = outline.members
    if not form:
        form = wire.GENERATE if "prompt" in members and "messages" not in members else wire.CHAT
    request: wire.ChatRequest | wire.GenerateRequest
    try:
        request = _GENERATE.decode(body) if form == wire.GENERATE else _CHAT.decode(body)
        check_depth(body)
    except (ValidationError, RecursionError) as error:
        raise refuse(error) from None
    if request.options is not None:
        Outline(bytes(members["options"]))  # a name that stands twice in there could mean two things
    _check_format(request.format)
    if isinstance(request, wire.ChatRequest):
        plain, native = _check_chat(request)
    else:
        plain, native = _check_images(request.images, "images"), _native(request, outline)
    return Call(
        wire.NAME,
        request.model,
        _sampling(request, request.options or _NO_OPTIONS),
        Reading(outline, form),
        request.stream is not False,
        True,
        body,
        input_bound=len(body) if plain else None,
        native=native,
        form=form,
    )


def _sampling(request: wire.Head, options: wire.Options) -> Sampling:
    stop, limit, think = options.stop, options.num_predict, request.think
    return Sampling(
        options.temperature,
        options.top_p,
        options.top_k,
        options.min_p,
        limit if limit is not None and limit > 0 else None,
        () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        options.seed,
        options.presence_penalty,
        options.frequency_penalty,
        (),
        None,
        request.logprobs,
        request.top_logprobs,
        think if isinstance(think, str) else None,
    )


# -- what types cannot say --


def check_depth(body: bytes) -> None:
    """Refuse values that lie more than 64 levels deep; indentation shows the depth at the decoder's speed."""
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _DEEPER in indented(body, indent=1):
        raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.", hint="Send flatter JSON.")


def _check_chat(request: wire.ChatRequest) -> tuple[bool, tuple[str, ...]]:
    """Check messages and tools; return whether all is text, and what only Ollama can do."""
    plain = True
    native: tuple[str, ...] = () if request.messages else ("messages",)  # a request to load the model
    for index, message in enumerate(request.messages or ()):
        if message.images:
            plain = _check_images(message.images, f"messages[{index}].images")
        for number, call in enumerate(message.tool_calls or ()):
            place = f"messages[{index}].tool_calls[{number}].function.arguments"
            _check_object(call.function.arguments, place, "Send the arguments as an object, not as text.")
    for index, tool in enumerate(request.tools or ()):
        if tool.type != "function":
            native += (f"tools.{tool.type}",)
        elif tool.function is None:
            place = f"tools[{index}].function"
            raise _wrong(place, f"`{place}` is missing.", "Send the tool's name, description and parameters in it.")
        else:
            _check_object(tool.function.parameters, f"tools[{index}].function.parameters", "Send a JSON Schema.")
    return plain, native


def _check_images(images: list[str] | None, place: str) -> bool:
    """Refuse what is surely no base64; return whether there are no pictures."""
    for index, image in enumerate(images or ()):
        if not image or _BASE64(image[:_LOOK]) is None:
            raise _wrong(
                f"{place}[{index}]", f"`{place}[{index}]` is not base64.", "Send the picture's bytes in base64, no URL."
            )
    return not images


def _check_object(json: Raw, place: str, hint: str) -> None:
    if json and memoryview(json)[0] not in b"{n":
        raise _wrong(place, f"`{place}` is not an object.", hint)


def _check_format(json: Raw) -> None:
    text = bytes(json)
    if not text.startswith(b"{") and text not in {b"", b"null", b'""', b'"json"'}:
        raise _wrong("format", "`format` is neither json nor a schema.", 'Send "json", or a JSON Schema as an object.')


def _native(request: wire.GenerateRequest, outline: Outline) -> tuple[str, ...]:
    """Give the members that mean something to a model behind Ollama alone."""
    said = {
        "prompt": not request.prompt,  # a request to load the model
        "suffix": bool(request.suffix),
        "template": bool(request.template),
        "raw": bool(request.raw),
        "context": bool(request.context),
    } | {name: bytes(outline.members.get(name, b"")) not in _NOTHING for name in _DRAWING}
    return tuple(name for name, is_said in said.items() if is_said)


def _wrong(param: str, text: str, hint: str) -> InvalidRequest:
    return InvalidRequest(text, param=param, hint=hint)


def refuse(error: Exception) -> InvalidRequest:
    """Name the member that the decoder objects to, and say what it may be."""
    return request_error.refuse(error, _EXPECTED, "Send it as Ollama's API reference has it.")

"""Reads a `generateContent`, `streamGenerateContent` or `countTokens` request into a `Call`.

Pure. `read_request` runs once per call, so it is written for speed: one decode proves what the members are, one their types
and ranges; turns are brought into the neutral form on first use only, by `Reading`. A body with any member in snake_case,
which Google's servers take as well, is first written in camelCase. Whatever is wrong is an InvalidRequest that names the
member. Place in the line: behind `gemini.py`, on the client's side.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from msgspec import Raw, ValidationError
from msgspec.json import Decoder
from msgspec.json import format as indented

from penstock.call import Call, Sampling
from penstock.errors import InvalidRequest
from penstock.wire import gemini_types as wire
from penstock.wire import request_error
from penstock.wire.dialect import Asked
from penstock.wire.gemini_content import Reading, turns_of
from penstock.wire.gemini_members import MEMBERS, in_camel, items
from penstock.wire.splice import Outline

MAX_DEPTH: Final = 64

_EXACT: Final = Decoder(wire.ExactRequest)
_PLAIN: Final = Decoder(wire.Request)
_DEEPER: Final = b"\n" + b" " * (MAX_DEPTH - 1)
_OWN_FILES: Final = re.compile(r"gs://|https://[\w.-]*googleapis\.com/|(?:v1\w*/)?files/").match
"""Addresses that only Google can open."""
_ROLES: Final = frozenset({"user", "model", "function", "tool", "system"})
_USUAL_ROLES: Final = frozenset({"user", "model"})
_MODES: Final = frozenset({"", "MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"})
_OBJECT_OR_NULL: Final = frozenset({b"", b"{", b"n"})
_NATIVE: Final = ("cachedContent", "continuationToken")
_NO_CONFIG: Final = wire.GenerationConfig()
_NO_THINKING: Final = wire.ThinkingConfig()

_EXPECTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "contents": 'Send a list with at least one turn: [{"role": "user", "parts": [{"text": ...}]}].',
        "parts": 'Send a list of parts: [{"text": ...}].',
        "role": "Send user or model.",
        "temperature": "Send a number from 0 to 2.",
        "topP": "Send a number from 0 to 1.",
        "topK": "Send a number from 0.",
        "maxOutputTokens": "Send a whole number from 1.",
        "candidateCount": "Send a whole number from 1 to 8.",
        "stopSequences": "Send a list of at most 16 strings.",
        "seed": "Send a whole number.",
        "presencePenalty": "Send a number from -2 to 2.",
        "frequencyPenalty": "Send a number from -2 to 2.",
        "logprobs": "Send a whole number from 0 to 20.",
        "thinkingBudget": "Send a whole number of tokens, 0 for none, -1 to leave it to the model.",
        "labels": "Send an object of strings.",
    }
)


def read_request(body: bytes, asked: Asked) -> Call:
    """Read a body. Raises InvalidRequest, whatever the bytes."""
    outline = Outline(body)
    exact = True
    request: wire.Request | wire.ExactRequest
    try:
        outline = _inner(outline, asked)
        text = outline.raw
        try:
            request = _EXACT.decode(text)
        except ValidationError:
            exact = False
            request = _PLAIN.decode(text)
    except (ValidationError, RecursionError) as error:
        raise refuse(error) from None
    native, bound = _check(request, outline)
    labels = request.labels or {}
    return Call(
        wire.NAME,
        _model(asked.model or request.model),
        _sampling(request.generation_config or _NO_CONFIG),
        Reading(outline, exact=exact),
        asked.stream is True,
        True,
        body,
        labels.get("feature"),
        labels.get("session"),
        labels.get("user"),
        (),
        len(body) if bound else None,
        asked.operation,
        native,
        False,
        asked.form,
    )


def in_one_spelling(outline: Outline) -> Outline:
    """Give the request with all members in camelCase. Raises InvalidRequest for one that is nested too deeply."""
    body = outline.raw
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _DEEPER in indented(body, indent=1):
        raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.", hint="Send flatter JSON.")
    text = in_camel(body if body.startswith(b"{") else body.strip())
    return outline if text is body else Outline(text)


def _inner(outline: Outline, asked: Asked) -> Outline:
    """Give the request itself, without the object around it that a count may have."""
    outline = in_one_spelling(outline)
    if asked.operation == "count" and (whole := outline.members.get("generateContentRequest")) is not None:
        if memoryview(whole)[0] != ord("{"):
            hint = "Send a request as :generateContent takes it, or only its `contents`."
            raise _wrong("generateContentRequest", "`generateContentRequest` is not an object.", hint)
        outline = Outline(bytes(whole))
    for name in ("generationConfig", "labels"):
        if name in outline.members:
            _once(name, outline.members[name])
    return outline


def _once(name: str, raw: Raw) -> None:
    """Refuse an object in which a name stands twice: it could mean two things."""
    text = bytes(raw)
    if text.startswith(b"{"):
        try:
            Outline(text)
        except InvalidRequest as error:
            param = f"{name}.{error.param}" if error.param else name
            raise InvalidRequest(error.message.replace("The body", f"`{name}`"), param=param, hint=error.hint) from None


def _model(name: str | None) -> str:
    model = (name or "").removeprefix("models/")
    if not model:
        text = "The request names no model."
        raise InvalidRequest(text, param="model", hint="Send it in the path: /v1beta/models/{model}:generateContent.")
    return model


def _sampling(config: wire.GenerationConfig) -> Sampling:
    thinking = config.thinking_config or _NO_THINKING
    level = thinking.thinking_level
    return Sampling(
        config.temperature,
        config.top_p,
        None if config.top_k is None else int(config.top_k),
        None,
        config.max_output_tokens,
        () if config.stop_sequences is None else tuple(config.stop_sequences),
        config.seed,
        config.presence_penalty,
        config.frequency_penalty,
        (),
        config.candidate_count,
        config.response_logprobs,
        config.logprobs,
        None if level is None or level.upper() == "THINKING_LEVEL_UNSPECIFIED" else level.lower(),
    )


# -- what types cannot say --


def _check(request: wire.Request | wire.ExactRequest, outline: Outline) -> tuple[tuple[str, ...], bool]:
    """Check what depends on several members; give what only Google can honour, and whether the text is all there is."""
    turns = turns_of(request.contents)
    if not turns:
        raise _wrong("contents", "`contents` is missing or empty.", _EXPECTED["contents"])
    native: set[str] = {name for name in _NATIVE if name in outline.members}
    bound = not native
    for index, turn in enumerate(turns):
        bound = _check_turn(turn, f"contents[{index}]", native) and bound
    if request.system_instruction is not None:
        bound = _check_turn(request.system_instruction, "systemInstruction", native) and bound
    if request.tools is not None:
        hosted = _check_tools(request.tools, outline)
        native |= hosted
        bound = bound and not hosted
    if request.tool_config is not None:
        _check_choice(request.tool_config.function_calling_config)
    config = request.generation_config
    if config is not None and config.logprobs is not None and config.response_logprobs is not True:
        text = "`generationConfig.logprobs` needs `responseLogprobs` to be true."
        raise _wrong("generationConfig.logprobs", text, "Send both, or neither.")
    return tuple(sorted(native)), bound


def _check_turn(turn: wire.Turn, place: str, native: set[str]) -> bool:
    """Check the parts of a turn; return whether all are text."""
    role = turn.role
    if role and role not in _USUAL_ROLES and place != "systemInstruction" and role.lower() not in _ROLES:
        raise _wrong(f"{place}.role", f"`{place}.role` is {role!r}.", "Send user or model.")
    parts = turn.parts
    bound = True
    for index, part in enumerate((parts,) if isinstance(parts, wire.Part) else parts or ()):
        if part.text is None:
            bound = _check_part(part, (place, index), native) and bound
    return bound


def _check_part(part: wire.Part, at: tuple[str, int], native: set[str]) -> bool:
    """Check a part that is no text, of the turn and the number that are given; return whether its length bounds its tokens."""
    call, result = part.function_call, part.function_response
    if call is not None:
        if not call.name or _is_odd(call.args):
            place = _part_place(at)
            _check_name(call.name, f"{place}.functionCall")
            _check_object(call.args, f"{place}.functionCall.args")
    elif result is not None:
        if not result.name or _is_odd(result.response):
            place = _part_place(at)
            _check_name(result.name, f"{place}.functionResponse")
            _check_object(result.response, f"{place}.functionResponse.response")
        return result.parts is None
    elif part.inline_data is not None:
        if not part.inline_data.mime_type:
            place = _part_place(at)
            text = f"`{place}.inlineData.mimeType` is missing."
            raise _wrong(f"{place}.inlineData.mimeType", text, "Send the type of the data, such as image/png.")
        return False
    elif part.file_data is not None:
        uri = part.file_data.file_uri
        if not uri:
            place = _part_place(at)
            text = f"`{place}.fileData.fileUri` is missing."
            raise _wrong(f"{place}.fileData.fileUri", text, "Send the address of the file.")
        if _OWN_FILES(uri):
            native.add("fileData")
        return False
    return True


def _part_place(at: tuple[str, int]) -> str:
    return f"{at[0]}.parts[{at[1]}]"


def _check_name(name: str, place: str) -> None:
    if not name:
        raise _wrong(f"{place}.name", f"`{place}.name` is missing.", "Send the name of the function.")


def _is_odd(raw: Raw) -> bool:
    """Return whether something is said that is neither an object nor null."""
    return bytes(raw)[:1] not in _OBJECT_OR_NULL


def _check_object(raw: Raw, place: str) -> None:
    if _is_odd(raw):
        raise _wrong(place, f"`{place}` is not an object.", "Send an object.")


def _check_tools(tools: Sequence[wire.ToolSet] | wire.ToolSet, outline: Outline) -> set[str]:
    """Check the functions; give the names of the tools that Google hosts."""
    for index, tool in enumerate((tools,) if isinstance(tools, wire.ToolSet) else tools):
        declared = tool.function_declarations or ()
        for number, function in enumerate((declared,) if isinstance(declared, wire.FunctionDeclaration) else declared):
            schemas = (("parameters", function.parameters), ("parametersJsonSchema", function.parameters_json_schema))
            for name, schema in schemas:
                if _is_odd(schema):
                    _check_object(schema, f"tools[{index}].functionDeclarations[{number}].{name}")
    hosted: set[str] = set()
    for raw in items(outline.members["tools"]):
        hosted.update(MEMBERS.decode(raw))
    return hosted - {"functionDeclarations"}


def _check_choice(choice: wire.FunctionCallingConfig | None) -> None:
    if choice is not None and (choice.mode or "").upper() not in _MODES:
        place = "toolConfig.functionCallingConfig.mode"
        raise _wrong(place, f"`{place}` is {choice.mode!r}.", "Send AUTO, ANY, NONE or VALIDATED.")


def _wrong(param: str, text: str, hint: str) -> InvalidRequest:
    return InvalidRequest(text, param=param, hint=hint)


def refuse(error: Exception) -> InvalidRequest:
    """Name the member that the decoder objects to, and say what it may be."""
    if isinstance(error, RecursionError):
        return InvalidRequest("The body is nested too deeply.", hint=f"Send JSON of at most {MAX_DEPTH} levels.")
    return request_error.refuse(error, _EXPECTED, "Send it as the Gemini API's reference has it.")

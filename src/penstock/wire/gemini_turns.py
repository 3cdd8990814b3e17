"""Writes neutral messages as the turns of a Gemini request.

Pure. All system text becomes the one `systemInstruction`, wherever it stood; messages of one side that follow on each other
become one turn, with the results of functions first and in the order of their calls, as Gemini wants it. Calls that came in
this dialect keep their turns. Gemini 3 refuses a step of calls whose first has no signature of its own; where another model
made the call, the word that Google documents for that stands in its place.
Place in the line: behind `gemini_body.py`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import DecodeError, Raw
from msgspec.json import Decoder, decode, encode

from penstock.call import (
    Audio,
    File,
    Foreign,
    Image,
    Members,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolResult,
    ToolUse,
)
from penstock.wire.gemini_content import ANSWERED, SIGNED_ALONE, SIGNED_THOUGHT
from penstock.wire.gemini_members import Object, given, merge
from penstock.wire.gemini_types import NAME
from penstock.wire.media import media_type_of, read_data_url
from penstock.wire.tool_ids import DIGITS

UNSIGNED_CALL: Final = "skip_thought_signature_validator"
"""Stands for the signature of a call that no Gemini made. Source: Google's page on thought signatures."""

_SIGNED_CALLS: Final = re.compile(r"gemini-(?:[3-9]|\d\d|(?:flash|pro)(?:-lite)?-latest)").search
_TEXT_RESULTS: Final = re.compile(r"gemini-(?:1|2)\b").search
"""Models that take no pictures in the results of functions."""
_RESULT_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"})
_MEMBERS: Final = Decoder(dict[str, Raw])
_MADE: Final = re.compile(rf"call_[0-9a-f]{{{DIGITS}}}\Z").match
_FOREIGN_FILE: Final = re.compile(r"(?:file|assistant)[-_]").match
"""Ids of files that other providers keep."""


def needs_signed_calls(model: str) -> bool:
    """Return whether a model refuses calls of functions without a signature."""
    return _SIGNED_CALLS(model) is not None


class Turns:
    """The turns of one request while they are written. `dropped` gets the names of what has no place in them."""

    def __init__(self, model: str, dropped: set[str], *, own: bool) -> None:
        self.system: list[Object | Raw] = []
        self.contents: list[Object] = []
        self._own = own
        self._dropped = dropped
        self._sign_calls = needs_signed_calls(model)
        self._text_results = _TEXT_RESULTS(model) is not None
        self._names: dict[str, str] = {}  # of functions, by the id of the call
        self._order: dict[str, int] = {}

    def write(self, messages: Iterable[Message]) -> None:
        """Write the messages; system text alone is said by the user, since Gemini wants somebody to answer."""
        waiting: list[Part] = []
        for message in messages:
            if message.name is not None:
                self._dropped.add("name")
            if message.extra and not self._own:
                self._dropped.update(name for name, _ in message.extra)
            if message.role in {"system", "developer"}:
                self.system += self._parts(message.parts)
            elif message.role != "assistant" and not self._own:
                waiting += message.parts
            else:
                self._user(waiting)
                waiting = []
                if message.role == "assistant":
                    self._add("model", self._model_parts(message.parts))
                else:
                    self._add("user", self._user_parts(message.parts))
        self._user(waiting)
        if not self.contents and self.system:
            self._add("user", self.system)
            self.system = []

    def _user(self, parts: Sequence[Part]) -> None:
        if parts:
            self._add("user", self._user_parts(parts))

    def _add(self, role: str, parts: list[Object | Raw]) -> None:
        last = self.contents[-1] if self.contents else None
        if last is not None and last["role"] == role and not self._own:
            last["parts"] += parts
        elif parts or self._own:
            self.contents.append({"role": role, "parts": parts})

    # -- the user's side --

    def _user_parts(self, parts: Sequence[Part]) -> list[Object | Raw]:
        results = [part for part in parts if isinstance(part, ToolResult)]
        if not results:
            return self._parts(parts)
        if len(results) > 1:
            results.sort(key=lambda result: self._order.get(result.id, len(self._order)))
        beside: list[Part] = []
        written: list[Object | Raw] = [self._result(result, beside) for result in results]
        if len(results) < len(parts):
            beside += [part for part in parts if not isinstance(part, ToolResult)]
        return written + self._parts(beside) if beside else written

    def _result(self, result: ToolResult, beside: list[Part]) -> Object:
        """Write a result; what it may not hold goes `beside` it."""
        texts: list[str] = []
        media: list[Object | Raw] = []
        for part in result.parts:
            if isinstance(part, Text | Refusal):
                texts.append(part.text)
            elif self._may_hold(part):
                media += self._parts([part])
            else:
                beside.append(part)
        if result.cache is not None:
            self._dropped.add("cache")
        extra = result.extra
        name = self._names.get(result.id)
        if name is None:  # its call is not among the messages
            name = next((decode(json, type=str) for member, json in extra if member == ANSWERED), result.id)
            extra = tuple(one for one in extra if one[0] != ANSWERED)
        response: Object = _identity(result.id)
        response["name"] = name
        response["response"] = _response("\n".join(texts) if texts else None, is_error=result.is_error)
        if media:
            response["parts"] = media
        return self._merged({"functionResponse": response}, extra)

    def _may_hold(self, part: Part) -> bool:
        if self._own:
            return isinstance(part, Image | File)
        return (
            isinstance(part, Image | File)
            and part.data is not None
            and part.media_type in _RESULT_TYPES
            and not self._text_results
        )

    # -- the model's side --

    def _model_parts(self, parts: Sequence[Part]) -> list[Object | Raw]:
        for part in parts:
            if isinstance(part, ToolUse):
                self._names[part.id] = part.name
                self._order[part.id] = len(self._order)
        written = self._parts(parts)
        if self._sign_calls:
            first = next((part for part in written if isinstance(part, dict) and "functionCall" in part), None)
            if first is not None and "thoughtSignature" not in first:
                first["thoughtSignature"] = UNSIGNED_CALL
        return written

    def _parts(self, parts: Sequence[Part]) -> list[Object | Raw]:
        out: list[Object | Raw] = []
        for part in parts:
            if isinstance(part, Text) and not part.extra and not part.citations and part.cache is None:
                if part.text or self._own or len(parts) == 1:
                    out.append({"text": part.text})
            elif isinstance(part, Reasoning):
                self._reasoning(part, out)
            elif (written := self._part(part, only=len(parts) == 1)) is not None:
                out.append(written)
        return out

    def _reasoning(self, part: Reasoning, out: list[Object | Raw]) -> None:
        """Write a thought, or a signature at the part that it signs."""
        if part.signer not in {"", "google"} or (part.signer == "" and not self._own):
            self._dropped.add("reasoning")
            return
        marked = part.extra
        extra = tuple(one for one in part.extra if one not in SIGNED_ALONE + SIGNED_THOUGHT)
        last = out[-1] if out else None
        if part.text or SIGNED_THOUGHT[0] in marked:
            thought: Object = {"text": part.text} if part.text or part.signature is None else {}
            thought |= {"thought": True, **given(thoughtSignature=part.signature)}
            out.append(self._merged(thought, extra))
        elif part.signature is None:
            out.append(self._merged({"text": "", "thought": True}, extra))
        elif isinstance(last, dict) and SIGNED_ALONE[0] not in marked and _may_be_signed(last):
            last["thoughtSignature"] = part.signature
        else:
            out.append(self._merged({"text": "", "thoughtSignature": part.signature}, extra))

    def _part(self, part: Part, *, only: bool) -> Object | Raw | None:
        """Write one part; None if there is no place for it."""
        if getattr(part, "cache", None) is not None:
            self._dropped.add("cache")
        match part:
            case Text():
                if part.citations:
                    self._dropped.add("citations")
                said = part.text or self._own or only
                return self._merged({"text": part.text}, part.extra) if said else None
            case ToolUse():
                return self._call(part)
            case Refusal():
                return {"text": part.text}
            case Image():
                return self._image(part)
            case File():
                return self._file(part)
            case Audio(data=str(data)):
                form = part.format or "wav"
                media = media_type_of(form) or f"audio/{form}"
                return self._merged({"inlineData": {"mimeType": media, "data": data}}, part.extra)
            case Foreign() if self._own and part.dialect == NAME:
                return Raw(part.json)
            case _:
                self._dropped.add(part.kind if isinstance(part, Foreign) else type(part).__name__.lower())
                return None

    def _call(self, use: ToolUse) -> Object:
        call: Object = _identity(use.id)
        call["name"] = use.name
        call["args"] = Raw(_arguments(use).encode())
        item: Object = {"functionCall": call}
        if use.signature is not None and use.signer == "google":
            item["thoughtSignature"] = use.signature
        return self._merged(item, use.extra)

    def _image(self, part: Image) -> Object | None:
        if part.detail not in {None, "auto"}:
            self._dropped.add("image.detail")
        if part.data is not None:
            item: Object = {"inlineData": {"mimeType": part.media_type or "image/png", "data": part.data}}
        else:
            uri = part.url or part.file_id or ""
            data = read_data_url(uri)
            if data is not None:
                item = {"inlineData": {"mimeType": data[0], "data": data[1]}}
            elif uri and not (part.url is None and _FOREIGN_FILE(uri)):
                path = uri.partition("?")[0].partition("#")[0]
                media = part.media_type or media_type_of(path) or "image/jpeg"
                item = {"fileData": {"mimeType": media, "fileUri": uri}}
            else:
                self._dropped.add("image")
                return None
        return self._merged(item, part.extra)

    def _file(self, part: File) -> Object | None:
        if part.data is not None:
            data = read_data_url(part.data) or (
                part.media_type or media_type_of(part.name or "") or "application/octet-stream",
                part.data,
            )
            item: Object = {"inlineData": {"mimeType": data[0], "data": data[1]}}
        elif (uri := part.url or part.file_id) and not (part.url is None and _FOREIGN_FILE(uri)):
            media = part.media_type or (None if self._own else media_type_of(uri.partition("?")[0]))
            item = {"fileData": {**given(mimeType=media), "fileUri": uri}}
        else:
            self._dropped.add("file")
            return None
        return self._merged(item, part.extra)

    def _merged(self, out: Object, extra: Members) -> Object:
        if not extra:
            return out
        if self._own:
            merge(out, extra)
        else:
            self._dropped.update(name for name, _ in extra)
        return out


def _may_be_signed(part: Object) -> bool:
    """Return whether a part may carry a signature that follows on it."""
    return (
        not {"thoughtSignature", "thought", "functionCall", "functionResponse"} & part.keys() and part.get("text") != ""
    )


def _identity(tool_id: str) -> Object:
    """Give the id of a call, if it is one that somebody gave: older versions of the API know none."""
    return {} if _MADE(tool_id) else {"id": tool_id}


def _arguments(use: ToolUse) -> str:
    """Give arguments as the text of an object; what is none is put into one."""
    if use.kind == "function":
        arguments = use.arguments.strip()
        if not arguments or _is_object(arguments):
            return arguments or "{}"
    return encode({"input": use.arguments}).decode()


def _response(text: str | None, *, is_error: bool) -> Object | Raw:
    """Write the text of a result as an object: itself where it is one, else in the member that Google names for it."""
    if text is None:
        return {"error": ""} if is_error else {}
    own = _object(text) if text[:1] == "{" else None
    if is_error:
        return {"error": text if own is None else Raw(text.encode())}
    if own is None or own.keys() <= {"output"} or own.keys() <= {"error"}:
        return {"output": text}
    return Raw(text.encode())


def _is_object(text: str) -> bool:
    return _object(text) is not None


def _object(text: str) -> dict[str, Raw] | None:
    """Read the members of a text that is a JSON object, and nothing before and after it."""
    try:
        return _MEMBERS.decode(text) if text[:1] == "{" and text[-1:] == "}" else None
    except (DecodeError, RecursionError):
        return None

"""Writes the messages of a `Call` as those of a chat completions request.

Pure. What the dialect, or the model that is asked, cannot be told is left out and named. Also here: how the members of an
object are written that no neutral form stands for. Place in the line: below `openai_chat_body.py`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeGuard

from msgspec import Raw
from msgspec.json import Decoder

from penstock.call import (
    Audio,
    Cache,
    File,
    Foreign,
    Image,
    Members,
    Message,
    Part,
    Reasoning,
    Refusal,
    Signer,
    Text,
    ToolResult,
    ToolUse,
)
from penstock.wire import media, openai_chat_parts, openai_chat_thoughts
from penstock.wire.openai_chat_content import LEGACY_ID
from penstock.wire.openai_chat_request_types import NAME

_MEMBERS: Final = Decoder(dict[str, Raw])
_OPENAI_MODEL: Final = re.compile(r"(?:openai/)?(?:ft:)?(?:gpt-(?!oss)|chatgpt-|o\d)").match
"""OpenAI's own models: they refuse `max_tokens` (the reasoning ones), `top_k` and `min_p`, which most other servers take."""
_FAMILIES: Final[tuple[tuple[str, Signer], ...]] = (
    ("claude", "anthropic"),
    ("gemini", "google"),
    ("openai/", "openai"),
)
"""Whose signatures a model of a name takes in `reasoning_details`; OpenAI's own address knows no such member."""
_NAMES: Final[Mapping[type, str]] = MappingProxyType(
    {
        Image: "image",
        Audio: "audio",
        File: "file",
        Reasoning: "reasoning",
        ToolUse: "tool_use",
        ToolResult: "tool_result",
    }
)
"""What a part that has no place is called among the dropped."""


Object = dict[str, Any]
Dropped = set[str]


def is_openai(model: str) -> bool:
    """Return whether a model of that name is one of OpenAI's own."""
    return _OPENAI_MODEL(model) is not None


class MessageWriter:
    """Writes the messages of one call. What a message of a tool cannot hold is said by the user, right after the last of them."""

    def __init__(self, model: str, dropped: Dropped, *, own: bool) -> None:
        self.dropped = dropped
        self.own = own
        self.family = next((signer for word, signer in _FAMILIES if word in model.lower()), "")
        self.shown: list[Part] = []

    def write(self, messages: Iterable[Message]) -> list[Object]:
        """Write all of them."""
        turns: list[Object] = []
        for message in messages:
            for turn in self._plain(message) or self._turns(message):
                if self.shown and turn["role"] not in {"tool", "function"}:
                    turns.append(self._pictures())
                turns.append(turn)
        if self.shown:
            turns.append(self._pictures())
        return turns

    def _plain(self, message: Message) -> list[Object]:
        """Write a message that is one plain text, as most are, or results of tools that are; [] for any other."""
        name = message.name
        if message.extra or not message.parts or (name is not None and message.role == "tool"):
            return []
        turns: list[Object] = []
        for part in message.parts:
            if isinstance(part, Text) and len(message.parts) == 1 and is_plain(part):
                role = "user" if message.role == "tool" else message.role
                turns.append({"role": role, "content": part.text})
            elif isinstance(part, ToolResult) and len(part.parts) == 1 and is_plain(text := part.parts[0]):
                if part.is_error or part.extra or part.cache is not None or part.id.startswith(LEGACY_ID):
                    return []
                turns.append({"role": "tool", "tool_call_id": part.id, "content": text.text})
            else:
                return []
        if name is not None and "tool_call_id" not in turns[-1]:
            turns[-1]["name"] = name
        return turns

    def _pictures(self) -> Object:
        parts, self.shown = self.shown, []
        return {"role": "user", "content": self._content(parts, "user")}

    def _turns(self, message: Message) -> Iterator[Object]:
        """Write one neutral message as messages: each tool result is one of its own here."""
        extra = message.extra if self.own else ()
        if message.extra and not self.own:
            self.dropped.update(name for name, _ in message.extra)
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        for part in results:
            yield self._tool_message(part, message, extra)
        rest = message.parts
        if results:
            rest = tuple(part for part in rest if not isinstance(part, ToolResult))
        if results and not rest:
            return
        turn: Object = {"role": "user" if message.role == "tool" else message.role}
        if message.role == "assistant":
            rest = self._assistant(turn, rest)
        content = self._content(rest, message.role)
        if content != [] or message.role != "assistant":
            turn["content"] = content
        elif "tool_calls" not in turn and "function_call" not in turn:
            turn["content"] = None
        if message.name is not None:
            turn["name"] = message.name
        merge(turn, extra)
        yield turn

    def _tool_message(self, part: ToolResult, message: Message, extra: Members) -> Object:
        if part.is_error:
            self.dropped.add("tool_result.is_error")
        if part.extra:  # in this dialect they stand in the message
            self.dropped.update(name for name, _ in part.extra)
        parts = part.parts
        shown = [item for item in parts if isinstance(item, Image | Audio | File)]
        if shown:
            self.shown += (Text(f"The tool call {part.id} also gave:"), *shown)
            parts = tuple(item for item in parts if not isinstance(item, Image | Audio | File))
        content = self._content(parts, "tool")
        if part.id.startswith(LEGACY_ID):
            turn: Object = {
                "role": "function",
                "name": message.name or "",
                "content": None if content == [] else content,
            }
        else:
            turn = {"role": "tool", "tool_call_id": part.id, "content": content}
            if message.name is not None and message.role == "tool":
                turn["name"] = message.name
        if part.cache is not None:
            turn.update(self._mark(part.cache))
        merge(turn, extra if message.role == "tool" else ())
        return turn

    def _assistant(self, turn: Object, parts: Iterable[Part]) -> tuple[Part, ...]:
        """Write what stands beside the content, and give the rest."""
        rest: list[Part] = []
        thoughts: list[Reasoning] = []
        images: list[Image] = []
        refusals: list[str] = []
        calls: list[Object] = []
        for part in parts:
            match part:
                case Reasoning():
                    thoughts += self._thought(part)
                case Refusal():
                    refusals.append(part.text)
                case Audio(id=str(ident)):
                    turn["audio"] = self._merged({"id": ident}, part.extra)
                case Image() if self.own and (part.url or part.data):
                    images.append(part)
                case ToolUse() if part.id.startswith(LEGACY_ID):
                    function = {"name": part.name, "arguments": part.arguments}
                    turn["function_call"] = self._merged(function, part.extra)
                case ToolUse():
                    calls.append(self._tool_call(part))
                case _:
                    rest.append(part)
        if thoughts:
            self._think(turn, thoughts)
        if images or refusals:
            turn.update(_beside(images, refusals))
        if calls:
            turn["tool_calls"] = calls
        if any(isinstance(part, Text) and part.citations for part in rest):
            self._cite(turn, rest)
        return tuple(rest)

    def _think(self, turn: Object, thoughts: list[Reasoning]) -> None:
        turn["reasoning_content"] = "".join(part.text for part in thoughts)
        if openai_chat_thoughts.are_signed(thoughts):
            turn["reasoning_details"] = openai_chat_thoughts.write_details(thoughts)

    def _thought(self, part: Reasoning) -> list[Reasoning]:
        """Give the block if its target surely takes it: the client's own dialect, else the family of models that signed it."""
        if self.own or (part.signer and part.signer == self.family):
            return [part]
        self.dropped.add("reasoning")
        return []

    def _cite(self, turn: Object, parts: Iterable[Part]) -> None:
        """Write the sources of an earlier answer, which only the client's own dialect is asked for again."""
        annotations, whole = openai_chat_parts.write_annotations(parts)
        if annotations and self.own:
            turn["annotations"] = annotations
        if not whole or (annotations and not self.own):
            self.dropped.add("citations")

    def _tool_call(self, part: ToolUse) -> Object:
        if part.kind == "custom":
            call: Object = {"id": part.id, "type": "custom", "custom": {"name": part.name, "input": part.arguments}}
        else:
            call = {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        if part.signature is not None and (self.own or part.signer == self.family):
            call.update(openai_chat_thoughts.write_signature(part.signature, part.signer))
        if part.cache is not None:
            call.update(self._mark(part.cache))
        return self._merged(call, part.extra)

    def _content(self, parts: Iterable[Part], role: str) -> str | list[Object | Raw]:
        """Write content: a string where it is one plain text, else a list."""
        written = [item for part in parts if (item := self._part(part, role)) is not None]
        if len(written) == 1 and isinstance(written[0], dict) and written[0].keys() == {"type", "text"}:
            text: str = written[0]["text"]
            return text
        return written

    def _part(self, part: Part, role: str) -> Object | Raw | None:
        """Write one part of a content list; None if there is no place for it."""
        item: Object
        match part:
            case Text():
                item = {"type": "text", "text": part.text}
            case Image() if role != "assistant" and (part.url or part.data):
                item = _image(part)
            case Audio(data=str(data)) if role != "assistant":
                item = {"type": "input_audio", "input_audio": {"data": data, "format": part.format or "wav"}}
            case File(data=str(data), media_type=str(kind)) if role != "assistant" and not self.own and _is_image(kind):
                item = _image(Image(data=data, media_type=kind))
            case File() if role != "assistant" and (part.data is not None or part.file_id is not None):
                whole = part.data if part.media_type is None else media.data_url(part.media_type, part.data or "")
                whole = whole if part.data is not None else None
                item = {"type": "file", "file": given(filename=part.name, file_data=whole, file_id=part.file_id)}
            case Refusal():
                return {"type": "refusal", "refusal": part.text}
            case Foreign() if self.own and part.dialect == NAME:
                return Raw(part.json)
            case _:
                self.dropped.add(part.kind if isinstance(part, Foreign) else _NAMES[type(part)])
                return None
        if isinstance(part, Text | Image | File) and part.cache is not None:
            item.update(self._mark(part.cache))
        return self._merged(item, part.extra)

    def _mark(self, cache: Cache) -> Object:
        """Write a mark for the prompt's cache, which is of use to the client's own dialect alone."""
        if not self.own:
            self.dropped.add("cache")
            return {}
        return openai_chat_parts.write_mark(cache)

    def _merged(self, out: Object, extra: Members) -> Object:
        if not extra:
            return out
        return merged(out, extra, self.dropped, own=self.own)


def _beside(images: Iterable[Image], refusals: Iterable[str]) -> Object:
    """Write the pictures and the refusal of an assistant's message."""
    shown, refusal = openai_chat_parts.write_images(images), "".join(refusals)
    out: Object = {"images": shown} if shown else {}
    return {**out, "refusal": refusal} if refusals else out


def _image(part: Image) -> Object:
    return {"type": "image_url", "image_url": {"url": openai_chat_parts.image_url(part), **given(detail=part.detail)}}


def _is_image(media_type: str) -> bool:
    return media_type.startswith("image/")


def is_plain(part: Part) -> TypeGuard[Text]:
    """Return whether a part is text and nothing beside it."""
    return isinstance(part, Text) and not part.extra and not part.citations and part.cache is None


# -- members --


def given(**members: Any) -> Object:
    """Keep the members that are said."""
    return {name: value for name, value in members.items() if value is not None}


def raw_json(json: bytes | None) -> Raw | None:
    """Give JSON to be written as it is."""
    return None if json is None else Raw(json)


def merge(out: Object, extra: Members) -> None:
    """Add unknown members; where an object of that name was written, they are that object's own."""
    for name, json in extra:
        inner = out.get(name)
        if isinstance(inner, dict):
            for key, value in _MEMBERS.decode(json).items():
                inner.setdefault(key, value)
        else:
            out.setdefault(name, Raw(json))


def merged(out: Object, extra: Members, dropped: Dropped, *, own: bool) -> Object:
    """Add unknown members of the same dialect; name those of another."""
    if own:
        merge(out, extra)
    else:
        dropped.update(name for name, _ in extra)
    return out

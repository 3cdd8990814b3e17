"""Writes the messages of a `Call` as the items of a Responses request.

Pure. What the API cannot be told is left out and named. Place in the line: below `openai_responses_body.py`.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Raw
from msgspec.json import decode

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
    Text,
    ToolResult,
    ToolUse,
)
from penstock.wire import media, openai_responses_citations
from penstock.wire.openai_chat_messages import Dropped, Object, given, merge
from penstock.wire.openai_chat_parts import image_url
from penstock.wire.openai_responses_content import IN_CONTENT
from penstock.wire.openai_responses_reasoning import item_id, write_item
from penstock.wire.openai_responses_request_types import NAME

_NAMES: Final[Mapping[type, str]] = MappingProxyType(
    {
        Image: "image",
        Audio: "audio",
        File: "file",
        ToolUse: "tool_use",
        ToolResult: "tool_result",
        Reasoning: "reasoning",
    }
)
_OUTPUT: Final = "_output"


class ItemWriter:
    """Writes the items of one call. Texts and refusals that follow on each other are one message."""

    def __init__(self, dropped: Dropped, *, own: bool, openai: bool) -> None:
        self.dropped = dropped
        self.own = own
        self.openai = openai  # a thinking model of OpenAI's is asked, which takes no thoughts that it did not sign
        self.items: list[Object | Raw] = []
        self.custom: set[str] = set()  # ids of calls of custom tools, whose results have a type of their own

    def write(self, messages: Iterable[Message]) -> list[Object | Raw]:
        """Write all of them."""
        for message in messages:
            if message.name is not None:
                self.dropped.add("name")
            if not self.own:
                self.dropped.update(name for name, _ in message.extra)
            said: list[Object | Raw] = []
            for part in message.parts:
                item = self._item(part, message.role)
                if item is None:
                    content = self._content(part, message.role)
                    said += () if content is None else (content,)
                else:
                    self._say(message, said)
                    said = []
                    self.items += item
            self._say(message, said)
        return self.items

    def _say(self, message: Message, said: list[Object | Raw]) -> None:
        """Write what was said in a row as a message."""
        if not said:
            return
        item: Object = {"type": "message", "role": "user" if message.role == "tool" else message.role, "content": said}
        first = said[0]
        if message.role == "assistant" and isinstance(first, dict) and "phase" in first:
            item["phase"] = first.pop("phase")
        self.items.append(item)

    def _item(self, part: Part, role: str) -> list[Object | Raw] | None:
        """Write a part that is an item of its own, or none; None for what stands within a message."""
        match part:
            case Reasoning():
                return self._thought(part, role)
            case ToolUse() if role == "assistant":
                return self._tool_use(part)
            case ToolResult():
                return [self._tool_result(part)]
            case Foreign() if self.own and part.dialect == NAME and not part.kind.startswith(IN_CONTENT):
                return [Raw(part.json)]
            case _:
                return None

    def _thought(self, part: Reasoning, role: str) -> list[Object | Raw]:
        """Write a thought of the same family; for a client of this dialect, also what nobody signed, where it is taken."""
        signed = part.signature is not None or part.redacted
        if role != "assistant" or (part.signer != "openai" if signed else self.openai or not self.own):
            self.dropped.add("reasoning")
            return []
        made = item_id("rs", "request", len(self.items))
        item = write_item(part, made)
        if self.openai and item["id"] == made:
            del item["id"]  # it would look for it
        return [item]

    def _tool_use(self, part: ToolUse) -> list[Object | Raw]:
        self._mark(part.cache)
        if part.kind == "custom":
            self.custom.add(part.id)
            call: Object = {"type": "custom_tool_call", "call_id": part.id, "name": part.name, "input": part.arguments}
        else:
            call = {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": part.arguments}
        return [self._merged(call, part.extra)]

    def _tool_result(self, part: ToolResult) -> Object:
        if part.is_error:
            self.dropped.add("tool_result.is_error")
        self._mark(part.cache)
        content = [item for inner in part.parts if (item := self._content(inner, "tool")) is not None]
        output: str | list[Object | Raw] = content
        if not content:
            output = ""
        elif len(content) == 1 and isinstance(content[0], dict) and content[0].keys() == {"type", "text"}:
            output = content[0]["text"]
        kind = "custom_tool_call" if part.id in self.custom else "function_call"
        return self._merged({"type": kind + _OUTPUT, "call_id": part.id, "output": output}, part.extra)

    def _content(self, part: Part, role: str) -> Object | Raw | None:
        """Write one part of a message; None if there is no place for it."""
        item: Object
        match part:
            case Text():
                return self._text(part, role)
            case Refusal():
                return {"type": "refusal", "refusal": part.text}
            case Image() if role != "assistant":
                url = image_url(part) if part.url or part.data else None
                item = {"type": "input_image", **given(image_url=url, detail=part.detail, file_id=part.file_id)}
            case File() if role != "assistant":
                item = self._file(part)
            case Audio(data=str(data)) if self.own and role != "assistant":
                item = {"type": "input_audio", "input_audio": {"data": data, "format": part.format or "wav"}}
            case Foreign() if self.own and part.dialect == NAME:
                return Raw(part.json)
            case _:
                self.dropped.add(part.kind if isinstance(part, Foreign) else _NAMES[type(part)])
                return None
        if not isinstance(part, Audio):
            self._mark(part.cache)
        return self._merged(item, part.extra)

    def _text(self, part: Text, role: str) -> Object:
        item: Object = {"type": "output_text" if role == "assistant" else "input_text", "text": part.text}
        self._mark(part.cache)
        if part.citations and self.own:
            written = [openai_responses_citations.write(citation) for citation in part.citations]
            item["annotations"] = [citation for citation in written if citation is not None]
        elif part.citations:
            self.dropped.add("citations")
        extra = part.extra
        if self.own and role == "assistant":
            for phase in (json for name, json in part.extra if name == "phase"):
                item["phase"] = decode(phase)
            extra = tuple(member for member in extra if member[0] != "phase")
        return self._merged(item, extra)

    def _file(self, part: File) -> Object:
        whole, name = part.data, part.name
        if whole is not None and part.media_type is not None:
            if part.media_type.startswith("image/") and not self.own:
                return {"type": "input_image", "image_url": media.data_url(part.media_type, whole)}
            whole = media.data_url(part.media_type, whole)
            name = name or (None if self.own else f"file.{media.extension(part.media_type)}")
        return {
            "type": "input_file",
            **given(filename=name, file_data=whole, file_url=part.url, file_id=part.file_id),
        }

    def _mark(self, cache: Cache | None) -> None:
        if cache is not None:
            self.dropped.add("cache")

    def _merged(self, out: Object, extra: Members) -> Object:
        if self.own:
            merge(out, extra)
        else:
            self.dropped.update(name for name, _ in extra)
        return out

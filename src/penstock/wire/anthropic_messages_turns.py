"""Writes messages as this API has them: system text apart, turns of user and assistant made of blocks.

Pure. What has no place is left out and named in `dropped`. Calls that came in this dialect keep their messages as they
were; those of others are brought into turns: all results of a turn in one message before any other text, two turns of one
side merged, instructions in between moved to where the model takes them. Place in the line: behind
`anthropic_messages_body.py`.
"""

from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from penstock.call import (
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
from penstock.wire.anthropic_messages_content import SEARCH_RESULT
from penstock.wire.anthropic_messages_request_types import NAME
from penstock.wire.media import media_type_of, read_data_url, standard_base64
from penstock.wire.tool_ids import fitted

_OBJECT: Final = Decoder(dict[str, Raw])
_OPENING: Final = "(The assistant begins.)"
"""Stands where a conversation has to begin with the user and does not."""
_WRAPPED: Final = "input"
"""The member that takes arguments which are no JSON object."""
_BEGINNINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "/9j/": "image/jpeg",
        "iVBOR": "image/png",
        "R0lGOD": "image/gif",
        "UklGR": "image/webp",
        "JVBERi": "application/pdf",
    }
)
"""How the base64 of a file of that type begins."""
_IMAGE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})

Object = dict[str, Any]
Dropped = set[str]


class Turns(Struct):
    """Messages as they are sent: `system` is a text, blocks, or None."""

    system: str | list[Any] | None
    messages: list[Object]


def write_turns(messages: Sequence[Message], dropped: Dropped, *, own: bool, system_between: bool) -> Turns:
    """Write all messages; with `own` they came in this dialect."""
    if own:
        return _own_turns(messages, dropped)
    system: list[Any] = []
    turns: list[Object] = []
    for message in messages:
        _add_turn(message, system, turns, dropped, between=system_between)
    for turn in turns:
        turn["content"] = _short(_ordered(turn["role"], turn["content"]))
    if not turns and system:  # instructions alone: somebody has to ask
        return Turns(None, [{"role": "user", "content": _short(system)}])
    if turns and turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": _OPENING})
    return Turns(_short(system) or None, turns)


def _add_turn(message: Message, system: list[Any], turns: list[Object], dropped: Dropped, *, between: bool) -> None:
    """Add a message that came in another dialect: to the system text, to the last turn, or as a turn of its own."""
    if message.extra:
        dropped.update(name for name, _ in message.extra)
    if message.name is not None:
        dropped.add("name")
    blocks = _blocks(message, dropped, own=False)
    if not blocks:
        return
    last = turns[-1]["role"] if turns else ""
    role = "assistant" if message.role == "assistant" else "user"
    if message.role in {"system", "developer"}:
        if not between or last != "user":
            system += blocks
            return
        role = "system"
    if last == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _own_turns(messages: Sequence[Message], dropped: Dropped) -> Turns:
    """Write messages where they stood; the system text comes first."""
    system: str | list[Any] | None = None
    turns: list[Object] = []
    for index, message in enumerate(messages):
        content = _short(_blocks(message, dropped, own=True))
        if index == 0 and message.role in {"system", "developer"}:
            system = content or None
            continue
        role = {"tool": "user", "developer": "system"}.get(message.role, message.role)
        turn: Object = {"role": role, "content": content}
        for name, json in message.extra:
            turn.setdefault(name, Raw(json))
        turns.append(turn)
    return Turns(system, turns)


def _ordered(role: str, blocks: list[Any]) -> list[Any]:
    """Put results before other text, and thoughts before what was said."""
    if len(blocks) < 2:
        return blocks
    first = "tool_result" if role == "user" else "thinking"
    if role == "assistant" and _kind(blocks[0]).endswith("thinking"):
        return blocks
    return sorted(blocks, key=lambda block: not _kind(block).endswith(first))


def _kind(block: Object | Raw) -> str:
    return "" if isinstance(block, Raw) else block["type"]


def _short(blocks: list[Any]) -> str | list[Any]:
    """Write one plain text as a string."""
    if len(blocks) == 1 and isinstance(blocks[0], dict) and blocks[0].keys() == {"type", "text"}:
        text: str = blocks[0]["text"]
        return text
    return blocks


# -- blocks --


def _blocks(message: Message, dropped: Dropped, *, own: bool) -> list[Any]:
    return _written(message.parts, message.role, dropped, own=own)


def _written(parts: Iterable[Part], role: str, dropped: Dropped, *, own: bool) -> list[Any]:
    written: list[Any] = []
    for part in parts:
        block = _text(part, dropped, own=own) if type(part) is Text else _block(part, role, dropped, own=own)
        if block is not None:
            written.append(block)
    return written


def _block(part: Part, role: str, dropped: Dropped, *, own: bool) -> Object | Raw | None:
    """Write one part; None if it has no place, which is named, or is an empty text, which Anthropic refuses."""
    item: Object | Raw | None
    match part:
        case ToolUse():
            item = {"type": "tool_use", "id": fitted(part.id), "name": part.name, "input": _input(part)}
        case ToolResult():
            item = _tool_result(part, dropped, own=own)
        case Reasoning():
            return _thought(part, dropped, own=own)
        case Refusal(text):
            return {"type": "text", "text": text} if text and not text.isspace() else None
        case Image() | File() if role == "assistant" and not own:
            item = None
        case Image():
            item = _image(part, own=own)
        case File():
            item = _document(part, own=own)
        case Foreign() if part.dialect == NAME:
            return Raw(part.json)
        case Foreign():
            dropped.add(part.kind)
            return None
        case _:
            item = None
    if item is None:
        dropped.add(type(part).__name__.lower())
        return None
    return _finished(item, part.extra, getattr(part, "cache", None), dropped, own=own)


def _text(part: Text, dropped: Dropped, *, own: bool) -> Object | Raw | None:
    if not part.text or (not own and part.text.isspace()):
        return None  # refused as well
    if not part.extra and not part.citations and part.cache is None:
        return {"type": "text", "text": part.text}
    if own and part.extra and part.extra[0][0] == SEARCH_RESULT:
        return Raw(part.extra[0][1])
    item: Object = {"type": "text", "text": part.text}
    native = [Raw(citation.native) for citation in part.citations if citation.dialect == NAME and citation.native]
    if native:
        item["citations"] = native
    if len(native) < len(part.citations):
        dropped.add("citations")
    return _finished(item, part.extra, part.cache, dropped, own=own)


def _thought(part: Reasoning, dropped: Dropped, *, own: bool) -> Object | None:
    if part.signer != "anthropic" or not part.signature:
        dropped.add("reasoning")
        return None
    if part.redacted:
        item: Object = {"type": "redacted_thinking", "data": part.signature}
    else:
        item = {"type": "thinking", "thinking": part.text, "signature": part.signature}
    return _finished(item, part.extra, None, dropped, own=own)


def _input(part: ToolUse) -> Raw | Object:
    """Write arguments, which have to be an object here."""
    if part.kind == "function":
        if not part.arguments.strip():
            return {}
        json = part.arguments.encode("utf-8", "replace")
        try:
            _OBJECT.decode(json)
        except (DecodeError, RecursionError):
            pass
        else:
            return Raw(json)
    return {_WRAPPED: part.arguments}


def _tool_result(part: ToolResult, dropped: Dropped, *, own: bool) -> Object:
    content = _short(_written(part.parts, "tool", dropped, own=own))
    item: Object = {"type": "tool_result", "tool_use_id": fitted(part.id)}
    if content or part.parts:
        item["content"] = content or ""
    if part.is_error:
        item["is_error"] = True
    return item


def _image(part: Image, *, own: bool) -> Object | None:
    url, data, media_type = part.url, part.data, part.media_type
    if url is not None and (found := read_data_url(url)) is not None:
        media_type, data = found
    if data is not None:
        return _inline_image(data, media_type, own=own)
    if url is not None:
        return {"type": "image", "source": {"type": "url", "url": url}} if own or _is_web(url) else None
    return {"type": "image", "source": {"type": "file", "file_id": part.file_id}} if own and part.file_id else None


def _inline_image(data: str, media_type: str | None, *, own: bool) -> Object | None:
    if not own:
        media_type = _sniffed(data) or ("image/jpeg" if media_type == "image/jpg" else media_type)
        standard = standard_base64(data)
        if standard is None or media_type not in _IMAGE_TYPES:
            return None
        data = standard
    source = {"type": "base64", "data": data}
    return {"type": "image", "source": source if media_type is None else {**source, "media_type": media_type}}


def _document(part: File, *, own: bool) -> Object | None:
    """Write a PDF, a text or a link; a picture that came as a file is a picture here."""
    source: Object | None = None
    if part.data is not None:
        found = read_data_url(part.data)
        named = media_type_of(part.name) if part.name else None
        media_type, data = found or (part.media_type or _sniffed(part.data) or named or "", part.data)
        if media_type in _IMAGE_TYPES:
            return _inline_image(data, media_type, own=own)
        source = _source(media_type, standard_base64(data), own=own)
    elif part.url is not None and (own or _is_web(part.url)):
        source = {"type": "url", "url": part.url}
    elif own and part.file_id is not None:
        source = {"type": "file", "file_id": part.file_id}
    if source is None:
        return None
    item: Object = {"type": "document", "source": source}
    for name, json in part.extra if own else ():
        if name == "source":
            item["source"] = Raw(json)
    if part.name is not None:
        item["title"] = part.name
    return item


def _source(media_type: str, data: str | None, *, own: bool) -> Object | None:
    if data is None:
        return None
    if media_type.startswith("text/") or media_type == "application/json":
        try:
            text = b64decode(data).decode()
        except ValueError:
            return None
        return {"type": "text", "media_type": "text/plain", "data": text}
    if media_type == "application/pdf" or own:
        return {"type": "base64", "media_type": media_type, "data": data}
    return None


def _sniffed(data: str) -> str | None:
    """Give the media type that base64 shows by its beginning."""
    return next((media for start, media in _BEGINNINGS.items() if data.startswith(start)), None)


def _is_web(url: str) -> bool:
    return url.startswith(("https://", "http://"))


# -- members --


def cache_control(cache: Cache) -> Object:
    """Write a mark."""
    return {"type": "ephemeral", "ttl": "1h"} if cache == "1h" else {"type": "ephemeral"}


def _finished(item: Object, extra: Members, cache: Cache | None, dropped: Dropped, *, own: bool) -> Object:
    """Add the mark and the members that nobody knows."""
    if cache is not None:
        item["cache_control"] = cache_control(cache)
    if extra:
        add_extra(item, extra, dropped, own=own)
    return item


def add_extra(item: Object, extra: Iterable[tuple[str, bytes]], dropped: Dropped, *, own: bool) -> None:
    """Add members that nobody knows to what came in this dialect; name them else."""
    if not own:
        dropped.update(name for name, _ in extra)
        return
    for name, json in extra:
        inner = item.get(name)
        if isinstance(inner, dict) and json.startswith(b"{") and name != "source":
            item[name] = {**_OBJECT.decode(json), **inner}
        else:
            item.setdefault(name, Raw(json))

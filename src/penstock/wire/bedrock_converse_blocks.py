"""Writes the parts of messages as blocks of a Converse request.

Pure. What has no block is left out and named; ids, names of tools and of documents are fitted to what the API takes, the
same way wherever they stand. Place in the line: behind `bedrock_converse_body.py`, on the provider's side.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import DecodeError, Raw, structs
from msgspec.json import Decoder

from penstock.call import (
    Audio,
    Cache,
    File,
    Foreign,
    Image,
    Members,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolResult,
    ToolUse,
)
from penstock.wire.bedrock_converse_carried import OWN, write_redacted
from penstock.wire.bedrock_converse_citations import cited_blocks
from penstock.wire.bedrock_converse_fields import is_claude
from penstock.wire.bedrock_converse_media import AUDIOS, document_format, document_name, image_format, video_format
from penstock.wire.bedrock_converse_request_types import NAME
from penstock.wire.media import extension
from penstock.wire.signatures import carry
from penstock.wire.tool_ids import fitted

Object = dict[str, Any]
Blocks = list[Object | Raw]

S3: Final = "s3://"

_MEMBERS: Final = Decoder(dict[str, Raw])
_ANY: Final = Decoder()
_TOOL_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}").fullmatch
_IN_RESULT: Final = frozenset({"text", "json", "image", "document", "video", "searchResult"})
"""Blocks that the answer of a tool may hold."""


def tool_id(ident: str) -> str:
    """Give an id of a tool call as the API takes it."""
    return ident if _TOOL_ID(ident) else fitted(ident)


def arguments(text: str, kind: str = "function", *, own: bool = False) -> Raw | Object:
    """Give a tool call's arguments as the object that the API wants; what is none is its member `input`, as a text."""
    if kind == "custom":
        return {"input": text}
    if not text.strip():
        return {}
    try:
        value = _ANY.decode(text)
    except (DecodeError, RecursionError, UnicodeEncodeError):
        return {"input": text}
    return Raw(text.encode()) if own or isinstance(value, dict) else {"input": text}


def merge(out: Object, extra: Members) -> Object:
    """Add members that nobody knows; where an object of that name was written, they are that object's own."""
    for name, json in extra:
        inner = out.get(name)
        if isinstance(inner, dict):
            for key, value in _MEMBERS.decode(json).items():
                inner.setdefault(key, value)
        else:
            out.setdefault(name, Raw(json))
    return out


def cache_point(cache: Cache) -> Object:
    """Write a cache point; five minutes are what it means by itself."""
    return {"cachePoint": {"type": "default"} if cache == "5m" else {"type": "default", "ttl": cache}}


class BlockWriter:
    """Writes the blocks of one request. `own`: the call came in this dialect; `dropped` collects what has no block."""

    __slots__ = ("_caches", "_claude", "_names", "_signed", "dropped", "own")

    def __init__(self, model: str, *, own: bool) -> None:
        self.own = own
        self.dropped: set[str] = set()
        self._names: set[str] = set()
        self._signed = own or is_claude(model)
        self._claude = "claude" in model  # which refuses a thought without a signature
        self._caches = self._signed or "amazon.nova" in model

    def parts(self, parts: Iterable[Part]) -> Blocks:
        """Write parts one after the other."""
        return [block for part in parts for block in self.part(part)]

    def part(self, part: Part) -> Blocks:
        """Write a part and the cache point behind it; [] if there is no place for it."""
        if isinstance(part, Text) and not part.extra and not part.citations and part.cache is None:
            return [{"text": part.text}] if self.own or part.text.strip() else []  # blank text is refused
        match part:
            case Text():
                blocks = self._text(part)
            case ToolUse():
                input_ = arguments(part.arguments, part.kind, own=self.own)
                use: Object = {"toolUseId": tool_id(part.id), "name": fitted(part.name), "input": input_}
                blocks = [{"toolUse": self._merged(use, part.extra)}]
            case ToolResult():
                return self._result(part)
            case Reasoning():
                blocks = self._reasoning(part)
            case Refusal():
                blocks = [{"text": part.text}] if part.text else []
            case Foreign(dialect, kind, json):
                blocks = [Raw(json)] if dialect == NAME and self.own else self._drop(kind)
            case _:
                blocks = self._media(part)
        cache = None if isinstance(part, Audio | Reasoning | Refusal | Foreign) else part.cache
        if cache is not None and blocks:
            self._mark(blocks, cache)
        return blocks

    def said(self, part: Part) -> Blocks:
        """Write a part of an assistant's turn, where only users may have pictures, sound and files."""
        if isinstance(part, Image | File):
            return self._drop(type(part).__name__.lower())
        return self.part(Audio(transcript=part.transcript) if isinstance(part, Audio) else part)

    def tool_cache(self, cache: Cache | None) -> Blocks:
        """Write the cache point behind a tool."""
        blocks: Blocks = []
        if cache is not None:
            self._mark(blocks, cache)
        return blocks

    def _mark(self, blocks: Blocks, cache: Cache) -> None:
        if self._caches:
            blocks.append(cache_point(cache))
        else:
            self.dropped.add("cache")

    def _drop(self, name: str) -> Blocks:
        self.dropped.add(name)
        return []

    def _merged(self, out: Object, extra: Members) -> Object:
        if not extra:
            return out
        if self.own:
            return merge(out, extra)
        self.dropped.update(name for name, _ in extra)
        return out

    def _text(self, part: Text) -> Blocks:
        extra = dict(part.extra)
        if self.own and "guardContent" in extra:
            return [{"guardContent": {"text": {"text": part.text, **_MEMBERS.decode(extra["guardContent"])}}}]
        if not self.own:
            self.dropped.update(extra)
        if part.citations:
            if self.own:
                return list(cited_blocks(part.text, part.citations))
            self.dropped.add("citations")
        return [{"text": part.text}] if self.own or part.text.strip() else []  # blank text is refused

    def _reasoning(self, part: Reasoning) -> Blocks:
        """Write thinking if the model's family signed it; of a client of this dialect, also unsigned thinking, but to a Claude."""
        mine = self._signed and part.signature is not None and part.signer == OWN
        if not mine and not (self.own and part.signer in {"", OWN} and not self._claude):
            return self._drop("reasoning")
        if part.redacted:
            return [{"reasoningContent": {"redactedContent": write_redacted(part.signature or "", part.signer)}}]
        thought: Object = {"text": part.text}
        if part.signature is not None:
            thought["signature"] = carry(part.signature, part.signer, OWN)
        return [{"reasoningContent": self._merged({"reasoningText": thought}, part.extra)}]

    # -- pictures, sound, files --

    def _media(self, part: Image | Audio | File) -> Blocks:
        match part:
            case Image():
                if part.detail not in {None, "auto"}:
                    self.dropped.add("detail")
                place = part.file_id if part.file_id is not None else part.url
                return self._sized("image", self._form(image_format, part), part, self._source(part.data, place))
            case Audio(data=str(data)):
                form = part.format or "wav"
                return self._sized("audio", form if form in AUDIOS or self.own else None, part, {"bytes": data})
            case Audio(transcript=str(text)) if text:
                return [{"text": text}]
            case File():
                return self._file(part)
            case _:
                return self._drop("audio")

    def _file(self, part: File) -> Blocks:
        source = self._source(part.data, part.file_id if part.file_id is not None else part.url)
        kind, media = (part.media_type or "").partition("/")[0], part.media_type
        if kind == "video":
            return self._sized("video", self._form(video_format, part), part, source)
        if kind == "image":
            return self._sized("image", self._form(image_format, part), part, source)
        if kind == "audio" and extension(media or "") in AUDIOS:
            return self._sized("audio", extension(media or ""), part, source)
        form = document_format(media, part.name) or (extension(media) if self.own and media else None)
        if form is None or source is None:
            return self._drop("file")
        name = part.name if self.own and part.name else document_name(part.name, self._names)
        extra = dict(part.extra) if self.own else {}
        document: Object = {"name": name, "source": source}
        if "source" in extra:  # a text that was read as a file
            document["source"] = Raw(extra.pop("source"))
        elif "bucketOwner" in extra:
            source["s3Location"]["bucketOwner"] = Raw(extra.pop("bucketOwner"))
        if document["source"] is source:
            document["format"] = form
        return [{"document": self._merged(document, tuple(extra.items()) if self.own else part.extra)}]

    def _form(self, of: Callable[[str | None], str | None], part: Image | File) -> str | None:
        """Give the format; of a client of this dialect also one that is not known yet."""
        media = part.media_type
        return of(media) or (media.partition("/")[2] if self.own and media is not None else None)

    def _source(self, data: str | None, place: str | None) -> Object | None:
        if data:
            return {"bytes": data}
        return {"s3Location": {"uri": place}} if place is not None and place.startswith(S3) else None

    def _sized(self, kind: str, form: str | None, part: Image | Audio | File, source: Object | None) -> Blocks:
        """Write a picture, a sound or a film of a format that the API takes."""
        if form is None or source is None:
            return self._drop("file" if isinstance(part, File) else kind)
        extra = dict(part.extra) if self.own else {}
        if "bucketOwner" in extra and "s3Location" in source:
            source["s3Location"]["bucketOwner"] = Raw(extra.pop("bucketOwner"))
        guarded = extra.pop("guardContent", None) is not None
        rest = tuple(extra.items()) if self.own else part.extra
        block: Object = {kind: self._merged({"format": form, "source": source}, rest)}
        return [{"guardContent": block}] if guarded else [block]

    # -- what a tool answered --

    def _result(self, part: ToolResult) -> Blocks:
        """Write what a tool answered, and after it what such an answer may not hold."""
        inner, after = Blocks(), Blocks()
        cache = part.cache
        for piece in part.parts:
            if isinstance(piece, Text) and not piece.extra and not piece.citations and piece.cache is None:
                inner += self.part(piece)
                continue
            if not isinstance(piece, Foreign | Audio | Reasoning | Refusal) and piece.cache is not None:
                cache = cache or piece.cache
                piece = structs.replace(piece, cache=None)  # noqa: PLW2901 - the mark goes behind the whole answer
            for block in self.part(piece):
                name = (
                    next(iter(block)) if isinstance(block, dict) else piece.kind if isinstance(piece, Foreign) else ""
                )
                (inner if name in _IN_RESULT else after).append(block)
        result: Object = {"toolUseId": tool_id(part.id), "content": inner}
        if part.is_error:
            result["status"] = "error"
        blocks: Blocks = [{"toolResult": self._merged(result, part.extra)}]
        if cache is not None:
            self._mark(blocks, cache)
        return blocks + after

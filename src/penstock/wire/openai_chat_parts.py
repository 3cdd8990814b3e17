"""What stands beside the text of a chat message: sources (`annotations`), pictures (`images`), and marks for prompt caches.

Pure. Sources are OpenAI's `url_citation`s; pictures in answers and `cache_control` are as OpenRouter documents them.
Place in the line: below the readers and writers of `openai_chat*.py`.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder, decode

from penstock.call import Cache, Citation, Image, Members, Part, Text
from penstock.wire import media
from penstock.wire.openai_chat_request_types import NAME


class _UrlCitation(Struct, gc=False):
    url: str | None = None
    title: str | None = None
    start_index: int | None = None
    end_index: int | None = None
    content: str | None = None


class _Annotation(Struct, gc=False):
    type: str = ""
    url_citation: _UrlCitation | None = None


class _ImageUrl(Struct, gc=False):
    url: str


class _Image(Struct, gc=False):
    image_url: _ImageUrl


class _CacheControl(Struct, gc=False, forbid_unknown_fields=True):
    type: str
    ttl: str | None = None


_ITEMS: Final = Decoder(list[Raw])
_ANNOTATION: Final = Decoder(_Annotation)
_IMAGES: Final = Decoder(list[_Image])
_CACHE_CONTROL: Final = Decoder(_CacheControl)
_MARK: Final = "cache_control"


# -- sources --


def read_annotations(json: bytes | Raw) -> list[Citation]:
    """Read sources; each is kept whole as well. Nothing where they are no list."""
    try:
        return [_citation(item) for item in _ITEMS.decode(json)]
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _citation(item: Raw) -> Citation:
    try:
        said = _ANNOTATION.decode(item).url_citation or _UrlCitation()
    except (DecodeError, RecursionError):
        said = _UrlCitation()
    return Citation(
        said.url, said.title, said.content, said.start_index, said.end_index, dialect=NAME, native=bytes(item)
    )


def write_citation(citation: Citation, offset: int = 0) -> dict[str, Any] | Raw | None:
    """Write a source; None where it has no link. `offset` is where its text begins in that of the message."""
    if citation.dialect == NAME and citation.native:
        return Raw(citation.native)
    if citation.url is None:
        return None
    said: dict[str, Any] = {
        "start_index": offset + (citation.start or 0),
        "end_index": offset + (citation.end or 0),
        "title": citation.title or "",
        "url": citation.url,
    }
    if citation.cited_text is not None:
        said["content"] = citation.cited_text
    return {"type": "url_citation", "url_citation": said}


def write_annotations(parts: Iterable[Part]) -> tuple[list[dict[str, Any] | Raw], bool]:
    """Write the sources of all texts; and whether each of them could be."""
    written: list[dict[str, Any] | Raw] = []
    offset, whole = 0, True
    for part in parts:
        if isinstance(part, Text):
            for citation in part.citations:
                item = write_citation(citation, offset)
                if item is None:
                    whole = False
                else:
                    written.append(item)
            offset += len(part.text)
    return written, whole


# -- pictures --


def read_image(url: str, detail: str | None = None, extra: Members = ()) -> Image:
    """Read the link of a picture, which may be the picture itself."""
    held = media.read_data_url(url)
    if held is None:
        return Image(url=url, detail=detail, extra=extra)
    return Image(data=media.standard_base64(held[1]) or held[1], media_type=held[0], detail=detail, extra=extra)


def image_url(image: Image) -> str:
    """Write a picture, which has a link or data, as a link."""
    return image.url or media.data_url(image.media_type or "image/png", image.data or "")


def read_images(json: bytes | Raw) -> list[Image] | None:
    """Read the pictures of an answer; None where they are none."""
    try:
        return [read_image(item.image_url.url) for item in _IMAGES.decode(json)]
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None


def write_images(images: Iterable[Image], index: int = 0) -> list[dict[str, Any]]:
    """Write the pictures of an answer, counted from `index`; one that is only an id has no place."""
    shown = [image for image in images if image.url or image.data]
    return [
        {"type": "image_url", "image_url": {"url": image_url(image)}, "index": number}
        for number, image in enumerate(shown, index)
    ]


# -- marks --


def read_mark(extra: Members) -> tuple[Cache | None, Members]:
    """Take the mark for a prompt's cache out of the members of a part; what is none of the two known ones stays there."""
    for place, (name, json) in enumerate(extra):
        if name == _MARK and (cache := _cache(json)) is not None:
            return cache, extra[:place] + extra[place + 1 :]
    return None, extra


def _cache(json: bytes) -> Cache | None:
    try:
        said = _CACHE_CONTROL.decode(json)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if said.type != "ephemeral" or said.ttl not in {None, "5m", "1h"}:
        return None
    return "1h" if said.ttl == "1h" else "5m"


def write_mark(cache: Cache | None) -> dict[str, Any]:
    """Write the mark: the member to add, or none."""
    if cache is None:
        return {}
    return {_MARK: {"type": "ephemeral", "ttl": "1h"} if cache == "1h" else {"type": "ephemeral"}}


def read_pairs(json: bytes | Raw) -> tuple[tuple[str, str], ...] | None:
    """Read labels: an object of strings; None for anything else."""
    try:
        return tuple(decode(json, type=dict[str, str]).items())
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None

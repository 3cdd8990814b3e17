"""The formats of pictures, sound, films and documents in Converse, to media types and back; names of documents. Pure.

Source: the service model of bedrock-runtime (`ImageFormat`, `AudioFormat`, `VideoFormat`, `DocumentFormat`) and the
restrictions that the API reference puts on a document's name.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from penstock.wire.media import extension, media_type_of

IMAGES: Final = frozenset({"png", "jpeg", "gif", "webp"})
DOCUMENTS: Final = frozenset({"pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"})
AUDIOS: Final = frozenset(
    {"mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mkv", "mka", "x-aac", "m4a", "mpeg", "mpga", "pcm", "webm"}
)
LONGEST_NAME: Final = 200

_VIDEOS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "mkv": "video/x-matroska",
        "mov": "video/quicktime",
        "mp4": "video/mp4",
        "webm": "video/webm",
        "flv": "video/x-flv",
        "mpeg": "video/mpeg",
        "mpg": "video/mpg",
        "wmv": "video/x-ms-wmv",
        "three_gp": "video/3gpp",
    }
)
_VIDEO_FORMATS: Final[Mapping[str, str]] = MappingProxyType({kind: name for name, kind in _VIDEOS.items()})
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9\s()\[\]-]+")
_TEXTUAL: Final = re.compile(r"text/|application/(?:.*\+)?(?:json|xml|yaml)").match
_BLANKS: Final = re.compile(r"\s+")


def image_format(media_type: str | None) -> str | None:
    """Give the format of a picture; None for one that the API does not take."""
    kind = "png" if media_type is None else extension(media_type)
    kind = "jpeg" if kind == "jpg" else kind
    return kind if kind in IMAGES else None


def audio_format(form: str) -> str:
    """Give the field's word for a format of sound."""
    return "aac" if form == "x-aac" else form


def document_type(form: str) -> str:
    """Give the media type of a document's format."""
    return media_type_of(form) or f"application/{form}"


def document_format(media_type: str | None, name: str | None) -> str | None:
    """Give the format of a document by its media type, else by its name; None for one that the API does not take."""
    for kind in (extension(media_type) if media_type else "", (name or "").rpartition(".")[2].lower()):
        if kind in DOCUMENTS:
            return kind
    return "txt" if media_type is not None and _TEXTUAL(media_type) else None


def video_type(form: str) -> str:
    """Give the media type of a film's format."""
    return _VIDEOS.get(form, f"video/{form}")


def video_format(media_type: str | None) -> str | None:
    """Give the format of a film; None for what is none, or none that the API takes."""
    return None if media_type is None else _VIDEO_FORMATS.get(media_type.partition(";")[0].strip().lower())


def document_name(name: str | None, taken: set[str]) -> str:
    """Give a name that the API takes, and that no other document of the request has: itself, where it is so already.

    Letters, digits, single blanks, hyphens, parentheses and square brackets. `taken` has the name added.
    """
    fitted = _BLANKS.sub(" ", _FOREIGN.sub("-", name or "")).strip(" ")[:LONGEST_NAME] or "document"
    unique, number = fitted, 2
    while unique in taken:
        end = f" ({number})"
        unique, number = fitted[: LONGEST_NAME - len(end)] + end, number + 1
    taken.add(unique)
    return unique


def text_data(text: str) -> str:
    """Give a text as the data of a file."""
    return b64encode(text.encode("utf-8", "surrogatepass")).decode()

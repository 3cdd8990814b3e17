"""Pictures, sound and files between the forms in which dialects write them: data URLs, base64 of two alphabets, names. Pure."""

import re
from typing import Final

_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}\Z")
_URL_SAFE: Final = str.maketrans("-_", "+/")
_SPACE: Final = re.compile(r"\s+")
_MEDIA: Final = re.compile(r"[\w.+-]+/[\w.+-]+\Z")
_EXTENSIONS: Final = {
    "application/pdf": "pdf", "text/plain": "txt", "text/csv": "csv", "text/html": "html", "text/markdown": "md",
    "application/msword": "doc", "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp",
    "audio/wav": "wav", "audio/mpeg": "mp3", "audio/flac": "flac", "audio/ogg": "ogg", "audio/aac": "aac",
    "video/mp4": "mp4", "video/quicktime": "mov", "video/webm": "webm", "video/x-matroska": "mkv",
}  # fmt: skip
_TYPES: Final = {extension: media for media, extension in _EXTENSIONS.items()} | {
    "jpg": "image/jpeg",
    "htm": "text/html",
}


def standard_base64(data: str) -> str | None:
    """Give base64 in the standard alphabet with its padding, from either alphabet, with or without; None if it is none."""
    text = data
    if not _BASE64.match(text) or len(text) % 4:
        text = _SPACE.sub("", data).translate(_URL_SAFE).rstrip("=")
        text += "=" * (-len(text) % 4)
    return text if _BASE64.match(text) and len(text) % 4 == 0 and not text.endswith("===") else None


def read_data_url(url: str) -> tuple[str, str] | None:
    """Take a base64 data URL (RFC 2397) apart: its media type and its data; None for anything else."""
    head, comma, data = url.partition(",")
    kind, _, coding = head.removeprefix("data:").rpartition(";")
    if not comma or not head.startswith("data:") or coding.lower() != "base64":
        return None
    media_type = kind.partition(";")[0] or "text/plain"
    return (media_type.lower(), data) if _MEDIA.match(media_type) else None


def data_url(media_type: str, data: str) -> str:
    """Write a base64 data URL."""
    return f"data:{media_type};base64,{data}"


def extension(media_type: str) -> str:
    """Give the extension that goes with a media type, such as pdf; its second half where none is known."""
    media = media_type.partition(";")[0].strip().lower()
    return _EXTENSIONS.get(media) or media.rpartition("/")[2].removeprefix("x-")


def media_type_of(name: str) -> str | None:
    """Give the media type of a file's name or a bare extension; None where it is unknown."""
    return _TYPES.get(name.rpartition(".")[2].lower())

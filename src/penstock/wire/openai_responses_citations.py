"""The sources of a text in the Responses API: `annotations`. Pure; below the readers and writers of `openai_responses*.py`."""

from typing import Any, Final

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from penstock.call import Citation
from penstock.wire.openai_responses_request_types import NAME


class _Annotation(Struct, gc=False):
    type: str = ""
    url: str | None = None
    title: str | None = None
    start_index: int | None = None
    end_index: int | None = None
    file_id: str | None = None
    filename: str | None = None


_ITEMS: Final = Decoder(list[Raw])
_ANNOTATION: Final = Decoder(_Annotation)


def read(json: bytes | Raw) -> list[Citation]:
    """Read a list of sources; nothing where it is none."""
    try:
        return [read_one(item) for item in _ITEMS.decode(json)]
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return []


def read_one(item: bytes | Raw) -> Citation:
    """Read a source; it is kept whole as well."""
    try:
        said = _ANNOTATION.decode(item)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        said = _Annotation()
    title = said.title if said.title is not None else said.filename
    return Citation(
        said.url,
        title,
        start=said.start_index,
        end=said.end_index,
        file_id=said.file_id,
        dialect=NAME,
        native=bytes(item),
    )


def write(citation: Citation) -> dict[str, Any] | Raw | None:
    """Write a source; None where it is neither a link nor a file."""
    if citation.dialect == NAME and citation.native:
        return Raw(citation.native)
    if citation.url is not None:
        return {
            "type": "url_citation",
            "url": citation.url,
            "title": citation.title or "",
            "start_index": citation.start or 0,
            "end_index": citation.end or 0,
        }
    if citation.file_id is not None:
        return {
            "type": "file_citation",
            "file_id": citation.file_id,
            "filename": citation.title or "",
            "index": citation.start or 0,
        }
    return None

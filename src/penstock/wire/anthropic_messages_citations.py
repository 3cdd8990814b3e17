"""Citations between Anthropic's five kinds and the neutral form; texts taken apart where their sources change.

Pure. In this API a citation belongs to a whole block of text, so an answer with sources is many blocks. The neutral form
has one text whose citations say from where to where they hold. Place in the line: behind `anthropic_messages_reply.py`,
`anthropic_messages_stream.py` and, for earlier answers, the files of requests.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from penstock.call import Citation
from penstock.wire.anthropic_messages_request_types import NAME


class _Citation(Struct, gc=False):
    cited_text: str | None = None
    url: str | None = None
    source: str | None = None
    title: str | None = None
    document_title: str | None = None
    document_index: int | None = None
    file_id: str | None = None


_ONE: Final = Decoder(_Citation)
_MANY: Final = Decoder(list[Raw])


def read_citations(json: Raw) -> list[Citation]:
    """Read a list of citations; none where there is no list."""
    try:
        return [read_citation(one) for one in _MANY.decode(json)] if json else []
    except (DecodeError, RecursionError):
        return []


def read_citation(json: Raw) -> Citation:
    """Read one citation. One that is not as it should be is kept as it came."""
    native = bytes(json)
    try:
        said = _ONE.decode(native)
    except (DecodeError, RecursionError):
        said = _Citation()
    title = said.title if said.title is not None else said.document_title
    return Citation(
        said.url or said.source,
        title,
        said.cited_text,
        None,
        None,
        said.document_index,
        said.file_id,
        NAME,
        native,
    )


def placed(citation: Citation, start: int, end: int) -> Citation:
    """Give a citation that holds from `start` to `end` of its text."""
    c = citation
    return Citation(c.url, c.title, c.cited_text, start, end, c.document, c.file_id, c.dialect, c.native)


def write_citation(citation: Citation) -> dict[str, Any] | Raw:
    """Write one citation of an answer: as it was in this dialect, else as the kind that comes nearest."""
    if citation.dialect == NAME and citation.native:
        return Raw(citation.native)
    if citation.url is not None:
        return {
            "type": "web_search_result_location",
            "cited_text": citation.cited_text or "",
            "encrypted_index": "",
            "title": citation.title,
            "url": citation.url,
        }
    return {
        "type": "char_location",
        "cited_text": citation.cited_text or "",
        "document_index": citation.document or 0,
        "document_title": citation.title,
        "start_char_index": 0,
        "end_char_index": len(citation.cited_text or ""),
        "file_id": citation.file_id,
    }


def pieces(text: str, citations: Sequence[Citation]) -> Iterator[tuple[str, list[Citation]]]:
    """Take a text apart so that each piece has its own citations; in one piece where their places do not say how."""
    spans = sorted({(c.start, c.end) for c in citations if c.start is not None and c.end is not None})
    if not spans or not _follow(spans, len(text)) or any(c.start is None or c.end is None for c in citations):
        yield text, list(citations)
        return
    done = 0
    for start, end in spans:
        if start > done:
            yield text[done:start], []
        yield text[start:end], [c for c in citations if (c.start, c.end) == (start, end)]
        done = end
    if done < len(text):
        yield text[done:], []


def _follow(spans: Iterable[tuple[int, int]], length: int) -> bool:
    """Return whether spans lie one after the other within a text."""
    done = 0
    for start, end in spans:
        if not done <= start < end <= length:
            return False
        done = end
    return True

"""Citations of Converse, both ways.

Pure. A block of cited text has its sources beside it; in the neutral form a source says which characters of the text it
stands for. The citation itself is kept whole for clients of this dialect.
Place in the line: behind the readers and writers of contents, replies and streams. Source: the service model of
bedrock-runtime (`Citation`, `CitationLocation`).
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from penstock.call import Citation
from penstock.wire.bedrock_converse_request_types import NAME

Object = dict[str, Any]


class _Piece(Struct):
    text: str | None = None


class _Web(Struct):
    url: str | None = None


class _Place(Struct, rename="camel"):
    document_index: int | None = None
    search_result_index: int | None = None


class _Location(Struct, rename="camel"):
    web: _Web | None = None
    document_char: _Place | None = None
    document_page: _Place | None = None
    document_chunk: _Place | None = None
    search_result_location: _Place | None = None


class _Citation(Struct, rename="camel"):
    title: str | None = None
    source: str | None = None
    source_content: list[_Piece] | None = None
    location: _Location | None = None


_CITATION: Final = Decoder(_Citation)
_NOWHERE: Final = _Location()


def read_citation(raw: Raw | bytes, start: int | None = None, end: int | None = None) -> Citation:
    """Read a citation of the text from `start` to `end`; of one that has another form only the whole is kept."""
    try:
        cited = _CITATION.decode(raw)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return Citation(start=start, end=end, dialect=NAME, native=bytes(raw))
    location = cited.location or _NOWHERE
    place = location.document_char or location.document_page or location.document_chunk
    url = None if location.web is None else location.web.url
    if url is None and cited.source is not None and cited.source.startswith(("https://", "http://")):
        url = cited.source
    text = "".join(piece.text or "" for piece in cited.source_content or ())
    document = None if place is None else place.document_index
    return Citation(url, cited.title, text or None, start, end, document, None, NAME, bytes(raw))


def write_citation(citation: Citation) -> Object | Raw:
    """Write a citation: as it was, if it came in this dialect."""
    if citation.dialect == NAME and citation.native:
        return Raw(citation.native)
    out: Object = {}
    if citation.title is not None:
        out["title"] = citation.title
    if citation.file_id is not None:
        out["source"] = citation.file_id
    if citation.cited_text is not None:
        out["sourceContent"] = [{"text": citation.cited_text}]
    if citation.url is not None:
        out["location"] = {"web": {"url": citation.url}}
    elif citation.document is not None and citation.document >= 0:
        out["location"] = {"documentChunk": {"documentIndex": citation.document}}
    return out


def cited_blocks(text: str, citations: Iterable[Citation]) -> list[Object]:
    """Write text with its sources as blocks: each stretch with the sources that stand for it.

    Where the sources do not say which characters they mean, or these overlap, the whole text is one block with all of them.
    """
    sources = tuple(citations)
    stretches: dict[tuple[int, int], list[Citation]] = {}
    for citation in sources:
        start, end = citation.start, citation.end
        if start is None or end is None or not 0 <= start < end <= len(text):
            return [_block(text, sources)]
        stretches.setdefault((start, end), []).append(citation)
    blocks: list[Object] = []
    done = 0
    for (start, end), cited in sorted(stretches.items(), key=lambda item: item[0]):
        if start < done:
            return [_block(text, sources)]
        if start > done:
            blocks.append({"text": text[done:start]})
        blocks.append(_block(text[start:end], cited))
        done = end
    if done < len(text):
        blocks.append({"text": text[done:]})
    return blocks


def _block(text: str, citations: Iterable[Citation]) -> Object:
    written = [write_citation(citation) for citation in citations]
    return {"citationsContent": {"content": [{"text": text}], "citations": written}}

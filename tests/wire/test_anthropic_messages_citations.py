"""Citations of all kinds, both ways; texts taken apart where their sources change."""

from typing import Any

import anthropic.types as sdk
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.json import decode, encode
from pydantic import TypeAdapter

from penstock.call import Citation
from penstock.wire.anthropic_messages_citations import pieces, placed, read_citation, read_citations, write_citation

CITATION: TypeAdapter[Any] = TypeAdapter(sdk.TextCitation)


@pytest.mark.parametrize(
    ("native", "expected"),
    [
        (
            {"type": "char_location", "cited_text": "x", "document_index": 1, "document_title": "T", "file_id": "f"},
            Citation(None, "T", "x", None, None, 1, "f"),
        ),
        (
            {"type": "web_search_result_location", "cited_text": "x", "url": "u", "title": "T", "encrypted_index": "e"},
            Citation("u", "T", "x"),
        ),
        ({"type": "search_result_location", "cited_text": "x", "source": "s", "title": None}, Citation("s", None, "x")),
        ({"type": "later", "cited_text": 1}, Citation()),
    ],
)
def test_a_citation_is_read_and_kept_whole(native: dict[str, Any], expected: Citation) -> None:
    read = read_citation(Raw(encode(native)))
    e = expected
    assert read == Citation(e.url, e.title, e.cited_text, None, None, e.document, e.file_id, "messages", encode(native))
    assert decode(encode(write_citation(read))) == native
    assert (placed(read, 1, 2).start, placed(read, 1, 2).end, placed(read, 1, 2).native) == (1, 2, read.native)


def test_a_list_of_citations_may_be_missing_or_strange() -> None:
    assert read_citations(Raw(b"")) == []
    assert read_citations(Raw(b"null")) == []
    assert read_citations(Raw(b"{}")) == []
    assert len(read_citations(Raw(b"[{},1]"))) == 2


@pytest.mark.parametrize(
    "citation",
    [
        Citation(url="https://example.com", title="T", dialect="chat", native=b'{"type":"url_citation"}'),
        Citation(url="https://example.com", cited_text="x"),
        Citation(document=2, title="T", cited_text="abc"),
        Citation(file_id="f"),
    ],
)
def test_a_citation_of_another_dialect_becomes_the_nearest_kind(citation: Citation) -> None:
    CITATION.validate_python(decode(encode(write_citation(citation))), strict=False)


def cite(start: int | None, end: int | None, url: str = "u") -> Citation:
    return Citation(url, start=start, end=end)


def test_a_text_is_taken_apart_where_its_sources_change() -> None:
    one, two, three = cite(2, 4), cite(2, 4, "v"), cite(4, 6)
    assert list(pieces("abcdefgh", [one, two, three])) == [
        ("ab", []),
        ("cd", [one, two]),
        ("ef", [three]),
        ("gh", []),
    ]
    assert list(pieces("abcd", [cite(0, 4)])) == [("abcd", [cite(0, 4)])]
    assert list(pieces("abcd", [])) == [("abcd", [])]


@pytest.mark.parametrize("spans", [[(0, 3), (2, 4)], [(0, 9)], [(3, 3)], [(None, 2)], [(0, 2), (None, None)]])
def test_a_text_stays_whole_where_places_do_not_say_how(spans: list[tuple[int | None, int | None]]) -> None:
    citations = [cite(*span) for span in spans]
    assert list(pieces("abcdef", citations)) == [("abcdef", citations)]


@given(st.text(max_size=9), st.lists(st.tuples(st.integers(-1, 9), st.integers(-1, 9)), max_size=4))
def test_no_text_and_no_source_is_lost(text: str, spans: list[tuple[int, int]]) -> None:
    citations = [cite(start, end, str(number)) for number, (start, end) in enumerate(spans)]
    parts = list(pieces(text, citations))
    assert "".join(piece for piece, _ in parts) == text
    assert sorted(c.url or "" for _, some in parts for c in some) == [c.url for c in citations]

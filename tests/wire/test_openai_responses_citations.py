"""Sources are read from every shape, kept whole for their own dialect, and written from the neutral form."""

import pytest
from msgspec.json import decode, encode

from penstock.call import Citation
from penstock.wire.openai_responses_citations import read, read_one, write


@pytest.mark.parametrize(
    ("json", "neutral"),
    [
        (
            {"type": "url_citation", "url": "u", "title": "t", "start_index": 1, "end_index": 2},
            {"url": "u", "title": "t", "start": 1, "end": 2},
        ),
        (
            {"type": "file_citation", "file_id": "f", "filename": "a.pdf", "index": 3},
            {"file_id": "f", "title": "a.pdf"},
        ),
        ({"type": "file_path", "file_id": "f", "index": 1}, {"file_id": "f"}),
        ({"type": "new", "url": 7}, {}),
        (7, {}),
    ],
)
def test_a_source_is_read_and_kept_whole(json: object, neutral: dict[str, object]) -> None:
    citation = read_one(encode(json))
    assert citation == Citation(**neutral, dialect="responses", native=encode(json))  # type: ignore[arg-type]
    assert decode(encode(write(citation))) == json


def test_lists_of_sources() -> None:
    assert [citation.url for citation in read(b'[{"url":"a"},{"url":"b"}]')] == ["a", "b"]
    for raw in (b"{}", b"[", b'"\xff"', b"[" * 9_999):
        assert read(raw) == []


def test_sources_of_other_dialects_are_written_from_their_neutral_form() -> None:
    assert write(Citation("u", "t", start=1, end=2, dialect="messages", native=b"{}")) == {
        "type": "url_citation",
        "url": "u",
        "title": "t",
        "start_index": 1,
        "end_index": 2,
    }
    assert write(Citation(file_id="f")) == {"type": "file_citation", "file_id": "f", "filename": "", "index": 0}
    assert write(Citation(title="a document of the request", document=1)) is None

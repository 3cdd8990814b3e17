"""Sources of a text: kept whole for this API, understood for all others, each at its stretch of the text."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, structs
from msgspec.json import decode, encode

from penstock.call import Citation
from penstock.wire.bedrock_converse_citations import cited_blocks, read_citation, write_citation


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({}, Citation()),
        (
            {
                "title": "T",
                "sourceContent": [{"text": "a"}, {"text": "b"}, {}],
                "location": {"web": {"url": "https://x/"}},
            },
            Citation("https://x/", "T", "ab"),
        ),
        ({"source": "https://y/"}, Citation("https://y/")),
        ({"source": "kb-1"}, Citation()),
        ({"location": {"documentChar": {"documentIndex": 2, "start": 3, "end": 9}}}, Citation(document=2)),
        ({"location": {"documentPage": {"documentIndex": 1}}}, Citation(document=1)),
        ({"location": {"documentChunk": {"documentIndex": 0}}}, Citation(document=0)),
        ({"location": {"searchResultLocation": {"searchResultIndex": 4}}}, Citation()),
        ({"location": 7}, Citation()),
    ],
)
def test_a_citation_is_read_and_kept_whole(said: dict[str, object], meant: Citation) -> None:
    raw = encode(said)
    expected = structs.replace(meant, start=1, end=5, dialect="converse", native=raw)
    assert read_citation(raw, 1, 5) == expected
    assert encode(write_citation(expected)) == raw


def test_a_citation_of_another_api_is_written_with_what_it_says() -> None:
    assert write_citation(Citation("https://x/", "T", "ab", file_id="f")) == {
        "title": "T",
        "source": "f",
        "sourceContent": [{"text": "ab"}],
        "location": {"web": {"url": "https://x/"}},
    }
    assert write_citation(Citation(document=1)) == {"location": {"documentChunk": {"documentIndex": 1}}}
    assert write_citation(Citation(document=-1)) == {}


def test_each_stretch_is_a_block_with_its_sources() -> None:
    a, b, c = Citation("a", start=2, end=4), Citation("b", start=2, end=4), Citation("c", start=4, end=6)
    blocks = decode(encode(cited_blocks("01234567", (c, a, b))))
    assert [block.get("text") or block["citationsContent"]["content"][0]["text"] for block in blocks] == [
        "01",
        "23",
        "45",
        "67",
    ]
    assert [len(block.get("citationsContent", {}).get("citations", ())) for block in blocks] == [0, 2, 1, 0]


@pytest.mark.parametrize(
    "citations",
    [
        (Citation("a"),),
        (Citation("a", start=0),),
        (Citation("a", start=0, end=99),),
        (Citation("a", start=3, end=3),),
        (Citation("a", start=0, end=4), Citation("b", start=2, end=5)),
    ],
)
def test_sources_without_a_place_of_their_own_stand_for_the_whole_text(citations: tuple[Citation, ...]) -> None:
    (block,) = decode(encode(cited_blocks("01234567", citations)))
    assert block["citationsContent"]["content"] == [{"text": "01234567"}]
    assert len(block["citationsContent"]["citations"]) == len(citations)


@given(st.integers(0, 2**64))
def test_no_text_is_lost_whatever_the_places(seed: int) -> None:
    rng = Random(seed)
    text = "0123456789"
    citations = tuple(
        Citation(str(n), start=rng.randrange(-1, 11), end=rng.randrange(12)) for n in range(rng.randrange(5))
    )
    blocks = decode(encode(cited_blocks(text, citations)))
    pieces = [block.get("text") or block["citationsContent"]["content"][0]["text"] for block in blocks]
    assert "".join(pieces) == text
    assert sum(len(block.get("citationsContent", {}).get("citations", ())) for block in blocks) == len(citations)


@given(st.binary(max_size=40))
def test_no_bytes_whatever_raise(data: bytes) -> None:
    read_citation(Raw(data))

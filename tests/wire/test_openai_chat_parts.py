"""Sources, pictures and cache marks of chat messages, both ways."""

import pytest
from msgspec.json import decode, encode

from penstock.call import Citation, Image, Reasoning, Text
from penstock.wire.openai_chat_parts import (
    image_url,
    read_annotations,
    read_image,
    read_images,
    read_mark,
    read_pairs,
    write_annotations,
    write_citation,
    write_images,
    write_mark,
)


def test_sources_are_read_and_kept_whole() -> None:
    said = {"url": "u", "title": "t", "start_index": 1, "end_index": 2, "content": "quoted"}
    items = [
        {"type": "url_citation", "url_citation": said},
        {"type": "file"},
        {"type": "url_citation", "url_citation": 7},
        7,
    ]
    read = read_annotations(encode(items))
    assert read[0] == Citation("u", "t", "quoted", 1, 2, dialect="chat", native=encode(items[0]))
    assert read[1:] == [Citation(dialect="chat", native=encode(item)) for item in items[1:]]
    assert decode(encode([write_citation(citation) for citation in read])) == items
    for raw in (b"{}", b"[", b'"\xff"', b"[" * 9_999):
        assert read_annotations(raw) == []


def test_sources_of_other_dialects_count_from_the_beginning_of_the_message() -> None:
    parts = (
        Text("abc", citations=(Citation("u", start=0, end=3),)),
        Reasoning("hm"),
        Text("de", citations=(Citation("v", "t", "q", start=1, end=2), Citation(title="document", document=0))),
    )
    written, whole = write_annotations(parts)
    assert not whole, "a document of the request has no place"
    assert written == [
        {"type": "url_citation", "url_citation": {"start_index": 0, "end_index": 3, "title": "", "url": "u"}},
        {
            "type": "url_citation",
            "url_citation": {"start_index": 4, "end_index": 5, "title": "t", "url": "v", "content": "q"},
        },
    ]
    assert write_annotations(parts[:2])[1]


def test_pictures_come_as_links_or_as_data_in_either_alphabet() -> None:
    assert read_image("https://x", "low") == Image("https://x", detail="low")
    assert read_image("data:image/png;base64,aG_-") == Image(data="aG/+", media_type="image/png")
    assert read_image("data:image/png;base64,?") == Image(data="?", media_type="image/png")
    assert image_url(Image("https://x")) == "https://x"
    assert image_url(Image(data="aGk=")) == "data:image/png;base64,aGk="


def test_pictures_of_an_answer_are_counted_and_read_back() -> None:
    images = [Image("https://x"), Image(file_id="f"), Image(data="aGk=", media_type="image/webp")]
    written = write_images(images, 3)
    assert [item["index"] for item in written] == [3, 4]
    assert read_images(encode(written)) == [images[0], images[2]]
    for raw in (b"{}", b"[7]", b'[{"image_url":7}]', b"[" * 9_999):
        assert read_images(raw) is None


@pytest.mark.parametrize(
    ("mark", "cache"),
    [
        ({"type": "ephemeral"}, "5m"),
        ({"type": "ephemeral", "ttl": "5m"}, "5m"),
        ({"type": "ephemeral", "ttl": "1h"}, "1h"),
        ({"type": "ephemeral", "ttl": "2h"}, None),
        ({"type": "persistent"}, None),
        ({"type": "ephemeral", "scope": "x"}, None),
        (7, None),
    ],
)
def test_a_mark_is_read_if_it_is_a_known_one(mark: object, cache: str | None) -> None:
    members = (("a", b"1"), ("cache_control", encode(mark)), ("b", b"2"))
    assert read_mark(members) == (cache, members if cache is None else (members[0], members[2]))


def test_marks_are_written_and_read_back() -> None:
    for cache in ("5m", "1h"):
        ((name, value),) = write_mark(cache).items()  # type: ignore[arg-type]  # one of the literals
        assert read_mark(((name, encode(value)),)) == (cache, ())
    assert write_mark(None) == {}


def test_labels_are_strings() -> None:
    assert read_pairs(b'{"a":"b"}') == (("a", "b"),)
    for raw in (b'{"a":1}', b"[]", b"{"):
        assert read_pairs(raw) is None

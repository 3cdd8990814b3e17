"""Lines of a stream: every split, limits, and texts that some reader would split."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.json import decode, encode

from penstock.errors import UpstreamGarbled
from penstock.wire.ndjson import NdjsonReader, ndjson


def read(pieces: list[bytes], limit: int = 1_000) -> tuple[list[bytes], bytes]:
    reader = NdjsonReader(limit)
    lines: list[bytes] = []
    taken = b""
    for piece in pieces:
        lines += reader.feed(piece)
        taken += reader.taken
    lines += reader.end()
    return lines, taken + reader.taken


@settings(max_examples=1_000, deadline=None)
@given(raw=st.text("ab\n\r\u2028", max_size=40).map(str.encode), cuts=st.lists(st.integers(0, 60), max_size=6))
@example(raw=b"", cuts=[])
@example(raw=b"a\n\nb", cuts=[1, 2, 3])
def test_lines_are_the_same_at_every_split(raw: bytes, cuts: list[int]) -> None:
    places = sorted({min(cut, len(raw)) for cut in cuts})
    pieces = [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]
    lines, taken = read(pieces)
    assert lines == (raw.split(b"\n")[:-1] if raw.endswith(b"\n") or not raw else raw.split(b"\n"))
    assert taken == (raw if raw.endswith(b"\n") or not raw else raw + b"\n")


def test_what_ends_with_a_line_is_passed_on_as_the_very_object() -> None:
    reader = NdjsonReader()
    data = b'{"a":1}\n{"b":2}\n'
    assert reader.feed(data) == [b'{"a":1}', b'{"b":2}']
    assert reader.taken is data
    assert reader.feed(b"{") == []
    assert reader.taken == b""
    assert reader.feed(b"}\n{") == [b"{}"]
    assert reader.taken == b"{}\n"


def test_a_line_that_is_too_long_is_refused_after_the_lines_before_it() -> None:
    reader = NdjsonReader(limit=4)
    assert reader.feed(b"a\n\nbb\n12345\nc\n") == [b"a", b"", b"bb"]
    assert reader.taken == b"a\n\nbb\n"
    for _ in range(2):
        with pytest.raises(UpstreamGarbled, match="exceeds 4 bytes"):
            reader.feed(b"d\n")
        assert reader.taken == b""
    with pytest.raises(UpstreamGarbled):
        reader.end()


def test_a_first_line_that_is_too_long_is_refused_at_once() -> None:
    for data in (b"12345\n", b"12345"):
        reader = NdjsonReader(limit=4)
        with pytest.raises(UpstreamGarbled):
            reader.feed(data)


def test_an_unfinished_line_that_is_too_long_is_refused_when_it_is() -> None:
    reader = NdjsonReader(limit=4)
    assert reader.feed(b"ok\n12345") == [b"ok"]
    assert reader.taken == b"ok\n"
    with pytest.raises(UpstreamGarbled):
        reader.feed(b"")
    reader = NdjsonReader(limit=4)
    assert reader.feed(b"1234") == []
    assert reader.end() == [b"1234"]
    assert reader.taken == b"1234\n"


def test_a_megabyte_in_small_pieces_and_many_tiny_lines_take_linear_time() -> None:
    def taking(pieces: int) -> float:
        reader = NdjsonReader()
        start = time.process_time()
        for _ in range(pieces):
            reader.feed(b"x" * 16)
        assert len(reader.feed(b"\n" * pieces)) == pieces
        return time.process_time() - start

    taking(1_000)
    assert taking(64_000) < 8 * max(taking(16_000), 0.002), "four times the bytes must not take sixteen times as long"


# -- writing --


@settings(max_examples=1_000, deadline=None)
@given(text=st.text())
@example(text="\x85 \u2028 \u2029 \x1c \x0b \n é😀")
def test_a_written_line_is_one_line_to_every_reader_and_says_the_same(text: str) -> None:
    line = ndjson(encode({"text": text}))
    assert line.decode().splitlines() == [line.decode()[:-1]]
    assert decode(line) == {"text": text}


@pytest.mark.parametrize("space", ["\n", "\r", "\r\n", " ", "\t", "\n  "])
def test_space_between_tokens_does_not_end_a_line(space: str) -> None:
    line = ndjson(f'{{{space}"a":{space}[1,{space}"\u2028"]}}'.encode())
    assert len(line.decode().splitlines()) == 1
    assert decode(line) == {"a": [1, "\u2028"]}


def test_a_raw_control_character_in_a_text_cannot_end_a_line() -> None:
    assert ndjson(b'{"a":"x\ny\x0bz"}') == b'{"a":"x y z"}\n'


def test_a_line_without_such_characters_goes_out_as_it_is() -> None:
    assert ndjson('{"é":"\u2027"}'.encode()) == '{"é":"\u2027"}\n'.encode()

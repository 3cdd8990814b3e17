"""Server-sent events: every byte boundary, every line end, and nothing that can be injected."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.errors import UpstreamGarbled
from penstock.wire.framing import MAX_FRAME_BYTES, Frame, SseReader, sse

LINE_END = re.compile("\r\n|\r|\n")
CASES = 2_000


def read(pieces: list[bytes], limit: int = MAX_FRAME_BYTES) -> tuple[list[tuple[bytes, str]], bytes, list[bytes]]:
    """Feed the pieces; give the events, the bytes taken, and the bytes of each frame."""
    reader = SseReader(limit)
    events: list[tuple[bytes, str]] = []
    taken = b""
    spans: list[bytes] = []
    for step in (*pieces, None):
        frames = reader.end() if step is None else reader.feed(step)
        assert reader.leads in {0, 1}
        if reader.leads:
            assert reader.taken.startswith(b"\n")
            assert taken.endswith(b"\r")
        taken += reader.taken
        events += [(frame.data, frame.event) for frame in frames]
        spans += [reader.taken[frame.start : frame.end] for frame in frames]
    return events, taken, spans


def by_the_standard(text: str) -> list[tuple[bytes, str]]:
    """An independent reader: WHATWG HTML 9.2.6, line by line over the whole text; the last block needs no blank line."""
    events = []
    data: list[str] = []
    event = ""
    for line in [*LINE_END.split(text.removeprefix("\ufeff")), ""]:
        if not line:
            if data:
                events.append(("\n".join(data).encode(), event))
            data, event = [], ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            event = value
    return events


FIELDS = (
    "data: ",
    "data:",
    "data",
    ": ping",
    "event: error",
    "event:x",
    "id: 7",
    "retry: 5",
    '{"a":"b"}',
    "[DONE]",
    "x",
    " ",
)
ENDS = ("\n", "\n\n", "\r\n", "\r\n\r\n", "\r", "\r\r")
ODD = ("\u2028", "\u0085", "\x1c", "\x0b", "\x0c", "\ufeff", "é", "😀", "\x00")
PIECES = st.sampled_from((*FIELDS, *ENDS, *ODD))
STREAMS = st.lists(PIECES, max_size=14).map("".join)


@settings(max_examples=CASES, deadline=None)
@given(text=STREAMS, cuts=st.sets(st.integers(0, 60), max_size=6))
@example(text="data: a\n\n\n: ping", cuts={9})
@example(text="data: a\r\n\r\ndata: b\r\n\r\n", cuts={10})
@example(text="data: a\r\n\r\n\r\n: ping\r\n\r\nevent: x\r\ndata: b\r\ndata: c\r\n\r\ndata: d\r\n\r\n", cuts={11})
@example(text="data: a\r\n\r\n: ping\r\n\r\nevent: x\r\ndata: b\r\n\r\ndata: c\r\n\r\n\r\n", cuts={11})
@example(text="data: a\r\n\r\nevent: x\r\ndata: b\r\n\r\ndata: c\r\n\r\n", cuts={11})
@example(text="data: a\r\n\r\ndata: b\n\ndata: c\r\n\r\n", cuts={11})
@example(text="data: a\r\n\r\ndata: b\r\n\rdata: c\n\r\n\r\n", cuts={11})
@example(text="\n\ufeffdata: \ndata: ", cuts=set())
@example(text="\ufeffdata: a\n\n", cuts={1})
@example(text="\n\ndata: a\n\n\ndata: b\n\n", cuts=set())
def test_any_split_gives_what_the_standard_gives(text: str, cuts: set[int]) -> None:
    raw = text.encode()
    at = sorted(cut for cut in cuts if 0 < cut < len(raw))
    pieces = [raw[a:b] for a, b in zip([0, *at], [*at, len(raw)], strict=True)]
    expected = by_the_standard(text)

    events, taken, spans = read(pieces)
    assert events == expected
    assert (events, taken) == read([raw])[:2]
    assert (events, taken) == read([raw[i : i + 1] for i in range(len(raw))])[:2]
    assert len(spans) == len(events)
    for span, event in zip(spans, events, strict=True):
        alone = [by_the_standard(before + span.decode()) for before in ("", "\n")]  # a mark counts at the start only
        assert [event] in alone, "a frame's span holds that frame and no other"


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(text=STREAMS)
def test_one_byte_at_a_time_gives_what_the_standard_gives(text: str) -> None:
    raw = text.encode()
    assert read([raw[i : i + 1] for i in range(len(raw))])[0] == by_the_standard(text)


def test_every_byte_boundary_of_a_stream_gives_the_same_events() -> None:
    raw = b': hi\r\n\r\nevent: a\r\ndata: {"x":1}\r\ndata: 2\r\n\r\ndata: \xc3\xa9\n\ndata: [DONE]\n\n'
    whole = read([raw])
    assert whole[0] == [(b'{"x":1}\n2', "a"), (b"\xc3\xa9", ""), (b"[DONE]", "")]
    assert whole[1] == raw
    for cut in range(len(raw)):
        assert read([raw[:cut], raw[cut:]])[:2] == whole[:2]


def test_a_read_of_whole_blocks_is_taken_as_the_object_it_was() -> None:
    reader = SseReader()
    reader.feed(b"data: first\n\n")
    data = b'data: {"a":1}\n\ndata: {"b":2}\n\n: ping\n\nevent: x\ndata: 3\n\n'
    frames = reader.feed(data)
    assert reader.taken is data
    assert [data[frame.start : frame.end] for frame in frames] == [
        b'data: {"a":1}\n\n',
        b'data: {"b":2}\n\n',
        b"event: x\ndata: 3\n\n",
    ]


def test_between_blocks_is_where_nothing_waits_and_nothing_is_special() -> None:
    reader = SseReader()
    places = [False]
    for piece in (b"data: a\n\n", b"data", b": b\n\n", b"data: c\r\n\r", b"\n", b"data: d\n\n"):
        reader.feed(piece)
        places.append(reader.between)
    assert places == [False, True, False, True, False, True, True]


def test_a_partial_block_is_not_taken() -> None:
    reader = SseReader()
    assert reader.feed(b"data: a\n\ndata: b") == [Frame(b"a", "", 0, 9)]
    assert reader.taken == b"data: a\n\n"
    assert reader.feed(b"c\n") == []
    assert reader.taken == b""
    assert reader.feed(b"\n") == [Frame(b"bc", "", 0, 10)]
    assert reader.taken == b"data: bc\n\n"


def test_a_block_that_ends_with_cr_is_given_at_once() -> None:
    reader = SseReader()
    assert [frame.data for frame in reader.feed(b"data: a\r\n\r")] == [b"a"]
    assert reader.feed(b"\n") == []
    assert (reader.taken, reader.leads) == (b"\n", 1)
    assert [frame.data for frame in reader.feed(b"data: b\n\n")] == [b"b"]
    assert reader.leads == 0


def test_the_last_frame_needs_no_blank_line_and_gets_one() -> None:
    for tail, taken in (
        (b"", b"data: a\n\n"),
        (b"\n", b"data: a\n\n"),
        (b"\r\n", b"data: a\r\n\n"),
        (b"\r", b"data: a\r\n\n"),
    ):
        reader = SseReader()
        assert reader.feed(b"data: a" + tail) == []
        assert [frame.data for frame in reader.end()] == [b"a"]
        assert reader.taken == taken
        assert by_the_standard(reader.taken.decode()) == [(b"a", "")]


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_a_frame_above_the_limit_is_refused_after_the_frames_before_it(step: int) -> None:
    raw = b"data: a\n\ndata: " + b"x" * 200 + b"\n\ndata: c\n\n"
    reader = SseReader(limit=100)
    seen = []
    pieces = (raw[start : start + step] for start in range(0, len(raw) + step, step))
    with pytest.raises(UpstreamGarbled, match="exceeds 100 bytes"):
        seen.extend(frame for piece in pieces for frame in reader.feed(piece))
    assert [frame.data for frame in seen] == [b"a"]
    for again in (reader.end, lambda: reader.feed(b"data: d\n\n")):
        with pytest.raises(UpstreamGarbled):
            again()
        assert reader.taken == b""


def test_a_long_frame_in_many_pieces_is_read() -> None:
    reader = SseReader()
    reader.feed(b"data: first\n\n")
    long = b"y" * 300_000
    raw = b"data: " + long + b"\n\n"
    frames = [frame for at in range(0, len(raw), 16_384) for frame in reader.feed(raw[at : at + 16_384])]
    assert [frame.data for frame in frames] == [long]


@settings(max_examples=CASES, deadline=None)
@given(
    data=st.text(alphabet=st.sampled_from("ab:\n\r\u2028 é")).map(str.encode),
    event=st.sampled_from([None, "e", "data: x"]),
)
def test_what_is_written_is_one_event_and_comes_back(data: bytes, event: str | None) -> None:
    written = sse(data, event)
    events, taken, _ = read([written])
    assert taken == written
    expected = re.sub(rb"\r\n|\r", b"\n", data)
    assert events == [(expected, event or "")]


@pytest.mark.parametrize("event", ["a\nb", "a\rb", "a\r\ndata: forged"])
def test_an_event_name_with_a_line_end_is_refused(event: str) -> None:
    with pytest.raises(ValueError, match="line end"):
        sse(b"x", event)


def test_an_event_name_goes_before_the_data() -> None:
    assert sse(b"1", "tick") == b"event: tick\ndata: 1\n\n"
    assert sse(b"1") == b"data: 1\n\n"

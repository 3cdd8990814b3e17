"""AWS event-streams: what we write botocore reads, what botocore could read we read, at every byte boundary; garbage ends it."""

from datetime import UTC, datetime
from random import Random
from time import perf_counter
from uuid import UUID

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.wire.eventstream import (
    MAX_FRAME_BYTES,
    EventStreamReader,
    Frame,
    HeaderValue,
    event_frame,
    header_block,
    read_headers,
)

SEEDS = st.integers(0, 2**64)
EVENT = header_block(
    {":event-type": "contentBlockDelta", ":content-type": "application/json", ":message-type": "event"}
)
HELLO = event_frame(EVENT, b'{"delta":{"text":"hello"}}')


def any_value(rng: Random) -> HeaderValue:
    match rng.randrange(6):
        case 0:
            return rng.random() < 0.5
        case 1:
            return rng.choice((0, -1, 127, -128, 128, -32_768, 40_000, -(2**31), 2**31, 2**63 - 1, -(2**63)))
        case 2:
            return rng.choice(("", "event", "h\u00e9 \U0001f600", "x" * 300))
        case 3:
            return rng.randbytes(rng.randrange(40))
        case 4:
            return UUID(int=rng.getrandbits(128))
        case _:
            return rng.randrange(-(2**63), 2**63)


def any_headers(rng: Random) -> dict[str, HeaderValue]:
    names = (":event-type", ":message-type", ":content-type", "a", "h\u00e9ader", "n" * 255)
    return {name: any_value(rng) for name in names if rng.random() < 0.6 and len(name.encode()) < 256}


def read(pieces: list[bytes]) -> tuple[list[tuple[object, bytes]], bytes, str]:
    """Feed the pieces and the end; give frames, what was taken and the fault."""
    reader = EventStreamReader()
    frames: list[Frame] = []
    taken = b""
    for piece in pieces:
        found = reader.feed(piece)
        for frame in found:
            assert reader.taken[frame.start : frame.end].endswith(
                frame.payload + reader.taken[frame.end - 4 : frame.end]
            )
        frames += found
        taken += reader.taken
    reader.end()
    return [(dict(frame.headers), frame.payload) for frame in frames], taken, str(reader.fault or "")


@given(SEEDS)
@settings(max_examples=300, deadline=None)
def test_what_we_write_botocore_reads_and_so_do_we(seed: int) -> None:
    rng = Random(seed)
    events = [(any_headers(rng), rng.randbytes(rng.choice((0, 1, 30, 2000)))) for _ in range(rng.randrange(1, 6))]
    raw = b"".join(event_frame(header_block(headers), payload) for headers, payload in events)
    buffer = EventStreamBuffer()
    buffer.add_data(raw)
    theirs = []
    for message in buffer:
        headers = {
            name: UUID(bytes=value) if isinstance(ours := events[len(theirs)][0][name], UUID) and ours else value
            for name, value in message.headers.items()
        }
        theirs.append((headers, message.payload))
    assert theirs == events
    cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.randrange(5)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert read(pieces) == (events, raw, "")


def test_every_split_and_every_single_byte_give_the_same_frames() -> None:
    raw = HELLO + event_frame(b"", b"") + HELLO
    whole = read([raw])
    assert len(whole[0]) == 3
    assert whole[1] == raw
    assert read([raw[i : i + 1] for i in range(len(raw))]) == whole
    for cut in range(len(raw) + 1):
        assert read([raw[:cut], raw[cut:]]) == whole


def test_frames_that_come_whole_are_taken_as_the_object_that_came() -> None:
    reader = EventStreamReader()
    reader.feed(HELLO)
    assert reader.taken is HELLO
    reader.feed(HELLO + HELLO[:5])
    assert reader.taken == HELLO
    reader.feed(HELLO[5:])
    assert reader.taken == HELLO


def test_the_parts_of_a_timestamp_are_milliseconds() -> None:
    when = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert read_headers(header_block({"at": when})) == {"at": 1_795_262_400_000}


@pytest.mark.parametrize("place", [0, 4, 8, 12, 20, len(HELLO) // 2, len(HELLO) - 1])
def test_one_flipped_bit_anywhere_is_a_fault_and_the_frames_before_it_count(place: int) -> None:
    broken = bytearray(HELLO)
    broken[place] ^= 1
    frames, taken, fault = read([HELLO + bytes(broken) + HELLO])
    assert len(frames) == 1
    assert taken == HELLO
    assert "checksum" in fault


def test_garbage_is_refused_with_its_first_twelve_bytes() -> None:
    reader = EventStreamReader()
    assert reader.feed(b"HTTP/1.1 502") == []
    assert reader.fault is not None
    assert reader.feed(HELLO) == []
    assert reader.taken == b""


def test_a_stream_that_ends_within_a_frame_is_a_fault() -> None:
    for cut in (1, 11, 12, len(HELLO) - 1):
        assert "within a frame" in read([HELLO, HELLO[:cut]])[2]
    assert read([HELLO])[2] == ""


def frame_head(total: int, headers: int) -> bytes:
    from struct import pack
    from zlib import crc32

    lengths = pack(">II", total, headers)
    return lengths + pack(">I", crc32(lengths))


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (frame_head(MAX_FRAME_BYTES + 1, 0), "exceeds"),
        (frame_head(200_000, 131_073), "exceeds"),
        (frame_head(20, 5), "longer than the frame"),
        (frame_head(0, 0), "longer than the frame"),
        (frame_head(15, 0), "longer than the frame"),
    ],
)
def test_lengths_that_cannot_be_are_refused_before_anything_is_kept(head: bytes, says: str) -> None:
    assert says in read([head])[2]


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (b"\x01a", "in the middle"),
        (b"\x05a", "in the middle"),
        (b"\x01a\x07\x00\x05ab", "in the middle"),
        (b"\x01a\x07\x00", "in the middle"),
        (b"\x01a\x04\x00", "in the middle"),
        (b"\x01a\x09abc", "in the middle"),
        (b"\x01a\x0a", "unknown type 10"),
        (b"\x01\xff\x00", "not UTF-8"),
        (b"\x01a\x07\x00\x01\xff", "not UTF-8"),
        (b"\x01a\x00\x01a\x00", "twice"),
    ],
)
def test_headers_that_cannot_be_read_are_a_fault(block: bytes, says: str) -> None:
    assert says in read([HELLO + event_frame(block, b"{}")])[2]


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"": "x"}, "1 to 255"),
        ({"n" * 256: "x"}, "1 to 255"),
        ({"a": 2**63}, "64 bits"),
        ({"a": "x" * 65_536}, "65535"),
    ],
)
def test_what_has_no_room_in_a_header_is_refused(headers: dict[str, HeaderValue], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        header_block(headers)


def test_more_kinds_of_headers_than_are_kept_are_read_all_the_same() -> None:
    raw = b"".join(event_frame(header_block({"n": number}), b"") for number in range(100))
    assert [headers for headers, _ in read([raw])[0]] == [{"n": number} for number in range(100)]


@given(st.binary(max_size=200), st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_no_bytes_whatever_raise_or_hang(data: bytes, size: int) -> None:
    read([data[i : i + size] for i in range(0, len(data), size)])
    read([HELLO[:20] + data])


def test_large_frames_in_small_pieces_and_many_tiny_frames_take_linear_time() -> None:
    def seconds(raw: bytes, size: int) -> float:
        start = perf_counter()
        frames, _, fault = read([raw[i : i + size] for i in range(0, len(raw), size)])
        assert frames
        assert not fault
        return perf_counter() - start

    small, large = (event_frame(EVENT, b"x" * size) for size in (250_000, 2_000_000))
    assert seconds(large, 500) < 60 * (seconds(small, 500) + 0.01)
    assert seconds(HELLO * 20_000, 65_536) < 3

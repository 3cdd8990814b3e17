"""Words that pass as they came: the same is read, metered and sent as in full, in the same order."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import encode

from penstock.meter import NEVER, Meter
from penstock.outbox import Outbox
from penstock.passage import LEADS, Passage, Passages, Shape, Taker
from penstock.reply import TextDelta
from penstock.wire.framing import Frame
from penstock.wire.sse_template import template

SAID = b'data: {"a":"y"}\n\n'
FILLED = b'data: {"a":"y","b":"mm"}\n\n'


def in_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Loop:
    """The event loop: `turn` is the end of its turn."""

    def __init__(self) -> None:
        self.now, self.soon = 0.0, []

    def time(self) -> float:
        return self.now

    def call_soon(self, work: Callable[[], None]) -> None:
        self.soon.append(work)

    def turn(self) -> None:
        works, self.soon = self.soon, []
        for work in works:
            work()


class Out:
    """A client: keeps what is written; it has no room once it has been sent so many pieces."""

    def __init__(self, room: int = 1 << 62) -> None:
        self.sent, self.room, self.pending, self.gone = [], room, b"", False

    congested = property(lambda self: len(self.sent) >= self.room)

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def write(self, data: bytes) -> None:
        if not self.gone:
            self.pending += data

    def flush(self) -> None:
        data, self.pending = self.pending, b""
        if data:
            self.send(data)


class Stream:
    """A connection to a provider, and all that hangs on it. What it reads in full goes out at once, in brackets."""

    def __init__(self, passages: Passages, shape: Shape, out: Out, look: Callable[[], bool] = lambda: False) -> None:
        self.due, self.filled, self.read, self.out = 0.0, 0, [], out
        self.meter = Meter()
        self.meter.observe((TextDelta("begun"),))
        self.meter.watch(NEVER, NEVER, 0)
        self.passages, self.shape, self.taker = passages, shape, Taker(self.meter, out, look)
        self.short: Passage | None = None
        self.begin()

    def begin(self) -> None:
        self.short = Passage(self.shape, self.taker)
        self.short.from_source(self, 30.0)

    def data_received(self, *pieces: bytes) -> None:
        for data in pieces:
            if self.short is None:
                self.read_on(data)
            else:
                self.passages.arrive((self.short, data))

    def read_on(self, data: bytes) -> None:
        assert self.short is None
        self.read.append(data)
        self.out.flush()
        self.out.send(b"[%b]" % data)

    def fill(self) -> None:
        self.filled, self.short = self.filled + 1, None


def frame(data: bytes) -> Frame:
    return Frame(data=data, event="", start=0, end=0)


def shapes() -> tuple[Shape, Shape]:
    """Give the shapes of a text, and of one with noise."""
    plain = template(b'data: {"a":"x"}\n\n', frame(b'{"a":"x"}'), (6, 7))
    filled = template(b'data: {"a":"x","b":"n"}\n\n', frame(b'{"a":"x","b":"n"}'), (6, 7), (14, 15))
    assert plain is not None
    assert filled is not None
    return plain.in_chunks(NOBODY).shape, filled.in_chunks(NOBODY).shape


NOBODY = Taker(Meter(), Out(), lambda: False)
PLAIN, WITH_NOISE = shapes()


def passed(shape: Shape, *pieces: bytes) -> tuple[list[str], list[bytes], list[bytes]]:
    """Let pieces come in one turn; give what was metered, what was sent, and what was read in full."""
    loop = Loop()
    stream = Stream(Passages(loop), shape, Out())
    stream.data_received(*pieces)
    loop.turn()
    return stream.meter.text[1:], stream.out.sent, stream.read


def test_events_that_are_chunks_are_metered_and_sent_as_they_are() -> None:
    for shape, said in ((PLAIN, SAID), (WITH_NOISE, FILLED)):
        many = b"".join(in_chunk(said.replace(b"y", text)) for text in (b"one", b" \\u00e9", b"!"))
        assert passed(shape, many) == (["one é!"], [many], [])
        chunks = in_chunk(said), in_chunk(said.replace(b"y", b"\\u00e9" * 600)), in_chunk(said)
        assert passed(shape, *chunks) == (["y", "é" * 600, "y"], [*chunks], [])


def test_chunks_of_any_length_pass_each_at_its_own_size() -> None:
    for length in (*range(1, 600), *range(4_000, 4_200), *range(65_400, 65_600)):
        chunk = in_chunk(SAID.replace(b"y", b"z" * length))
        assert passed(PLAIN, chunk, chunk) == (["z" * length] * 2, [chunk] * 2, [])
        for size in (len(chunk) - 1, len(chunk) - 5, len(chunk) - 7, 1, 1 << 24):
            other = b"%x\r\n%b" % (size, chunk.split(b"\r\n", 1)[1])
            assert other == chunk or passed(PLAIN, other) == ([], [b"[%b]" % other], [other]), size
    assert len(PLAIN.leads) <= LEADS


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"x",
        b"x" + in_chunk(SAID)[1:],
        b"\r\n",
        *(event for event in (SAID, FILLED)),
        *(in_chunk(b""), in_chunk(SAID * 2), in_chunk(FILLED * 2)),
        *(in_chunk(SAID) + in_chunk(SAID)[:-1], in_chunk(SAID) * 2 + b"1", b"1" + in_chunk(SAID) * 2),
        *(in_chunk(said) + b"\r\n" + in_chunk(said) for said in (SAID, FILLED)),
        *(in_chunk(said) + in_chunk(said + said) + in_chunk(said) for said in (SAID, FILLED)),
        *(in_chunk(said).replace(b"1", b"-1") + in_chunk(said) for said in (SAID, FILLED)),
        *(in_chunk(said) + in_chunk(said).replace(b"1", b"-1") for said in (SAID, FILLED)),
        *(in_chunk(said) + in_chunk(b": ping\n\n") + in_chunk(said) for said in (SAID, FILLED)),
        *(in_chunk(said) + in_chunk(said.replace(b'"a"', b'"b"')) + in_chunk(said) for said in (SAID, FILLED)),
        *(in_chunk(said) + b"0\r\n\r\n" + in_chunk(said) for said in (SAID, FILLED)),
        *(in_chunk(said) + in_chunk(said.replace(b"y", b"")) for said in (SAID, FILLED)),
        *(in_chunk(said) + in_chunk(said.replace(b"y", b"\xff")) for said in (SAID, FILLED)),
        *(in_chunk(SAID)[:-1], in_chunk(SAID)[1:], in_chunk(SAID) + b"\r\n", in_chunk(SAID)[:-2] + b"\n\n"),
        *(
            in_chunk(SAID.replace(b"}", b"]")),
            in_chunk(SAID.replace(b"a", b"b")),
            in_chunk(SAID.replace(b'"}', b'"} ')),
        ),
        *(in_chunk(SAID.replace(b"y", bad)) for bad in (b"", b"\xff", b"\n", b'"', b"\\", b"\x01")),
        *(in_chunk(FILLED.replace(b"mm", bad)) for bad in (b"", b"\xff", b"\n", b'"', b"\\", b"\x01")),
        *(
            b"%b\r\n%b\r\n" % (size, SAID)
            for size in (b"10", b"12", b"011", b"0x11", b"+11", b" 11", b"11 ", b"11;a", b"")
        ),
        b"%x\r\n%b\r\n" % (1 << 24, SAID),
        b"0000000011\r\n%b\r\n" % SAID,
        b"0\r\n\r\n",
    ],
)
def test_what_is_not_one_such_chunk_is_read_in_full(other: bytes) -> None:
    assert in_chunk(SAID).startswith(b"11\r\n")
    for shape in (PLAIN, WITH_NOISE):
        assert passed(shape, other) == ([], [b"[%b]" % other], [other])


@given(
    st.lists(st.sampled_from(("a", "é", "日本", "\ud800", "x" * 700, "x" * 1_500_000)), max_size=12),
    st.sampled_from((0, 3, 900, NEVER)),
    st.booleans(),
    st.integers(1, 5),
)
def test_a_text_that_passes_is_seen_as_any_other(texts, most, is_worn, together):
    """A meter that is nearly full of pieces, or not, and one that lets more or less pass."""
    loop, looks, long, seen_by_long = Loop(), [], Meter(), []
    shape = Shape(b'"', b'"', lambda said: texts[int(said[1:-1])])
    short = Stream(Passages(loop), shape, Out(), lambda: bool(looks.append(short.meter.passed)))
    long.observe((TextDelta("begun"),))
    for meter in (short.meter, long):
        for _ in range(505 if is_worn else 0):
            meter.observe((TextDelta("y"),))
        meter.limit = meter.passed + most
    short.begin()
    pieces = [in_chunk(b'"%d"' % number) for number in range(len(texts))]
    for at in range(0, len(texts), together):
        short.data_received(*pieces[at : at + together])
        loop.turn()
        for text in texts[at : at + together]:
            long.observe((TextDelta(text),))
            if long.passed > long.limit:
                seen_by_long.append(long.passed)
        values = [(m.passed, m.beyond, m.begun, m.kept, "".join(m.text)) for m in (short.meter, long)]
        assert values[0] == values[1]
    assert looks == seen_by_long
    assert (short.out.sent, short.read, short.filled) == (pieces, [], 0)


def test_a_stream_without_room_brings_no_more_and_what_came_too_soon_is_read_in_full() -> None:
    loop = Loop()
    stream = Stream(Passages(loop), PLAIN, Out(room=2))
    chunk = in_chunk(SAID)
    stream.data_received(chunk, chunk)
    loop.turn()
    assert (stream.out.sent, stream.filled) == ([chunk] * 2, 0)
    stream.data_received(chunk, chunk)
    loop.turn()
    assert (stream.out.pending, stream.filled, stream.read) == (b"", 1, [chunk])
    assert stream.out.sent == [chunk, chunk, chunk, b"[%b]" % chunk]


def test_a_text_that_is_refused_is_metered_and_not_sent() -> None:
    loop = Loop()
    stream = Stream(Passages(loop), PLAIN, Out(), lambda: True)
    stream.meter.limit = stream.meter.passed + 1
    stream.begin()
    chunk = in_chunk(SAID)
    stream.data_received(chunk, chunk, chunk)
    loop.turn()
    assert (stream.meter.text, stream.meter.passed, stream.filled) == (["begun", "y", "y"], 7, 1)
    assert stream.out.sent == [chunk, b"[%b]" % chunk]


def test_a_limit_that_is_put_off_is_looked_at_where_it_is_then() -> None:
    loop, looks = Loop(), []

    def look() -> bool:
        looks.append(stream.meter.passed)
        stream.meter.limit = stream.meter.passed + 3
        return False

    stream = Stream(Passages(loop), PLAIN, Out(), look)
    stream.meter.limit = stream.meter.passed + 1
    stream.begin()
    stream.data_received(*[in_chunk(SAID)] * 10)
    loop.turn()
    assert looks == [7, 11, 15]
    assert len(stream.out.sent) == 10


def test_what_is_written_before_goes_before_and_nothing_goes_to_who_is_gone() -> None:
    loop = Loop()
    passages, chunk = Passages(loop), in_chunk(SAID)
    stream, left = (Stream(passages, PLAIN, Out()) for _ in range(2))
    stream.out.write(b"before")
    left.out.gone = True
    for each in (stream, left):
        each.data_received(chunk)
    loop.turn()
    assert (stream.out.sent, stream.out.pending) == ([], b"before" + chunk)
    assert (left.out.sent, left.out.pending, left.meter.text) == ([], b"", ["begun", "y"])


def test_silence_is_counted_from_the_turn_that_brought_something() -> None:
    loop = Loop()
    stream = Stream(Passages(loop), PLAIN, Out())
    loop.now = 7.0
    stream.data_received(in_chunk(SAID))
    loop.turn()
    assert stream.due == 37.0


def test_what_a_source_that_ends_has_brought_is_read_at_once_and_nothing_is_read_twice() -> None:
    loop = Loop()
    passages, chunk = Passages(loop), in_chunk(SAID)
    ends, other, silent = (Stream(passages, PLAIN, Out()) for _ in range(3))
    for each in (ends, other, ends):
        each.data_received(chunk)
    for each, has in ((ends, True), (silent, False), (other, True), (ends, True)):
        assert passages.brought(each) == has
    passages.read_of(silent)
    assert (ends.out.sent, other.out.sent) == ([], [])
    passages.read_of(ends)
    assert (ends.out.sent, other.out.sent) == ([chunk] * 2, [])
    other.data_received(chunk)
    loop.turn()
    passages.run()
    assert (ends.out.sent, other.out.sent) == ([chunk] * 2, [chunk] * 2)


def test_a_defect_of_a_stream_that_ends_leaves_all_others_their_own() -> None:
    loop = Loop()
    passages, chunk = Passages(loop), in_chunk(SAID)
    ends, other = (Stream(passages, PLAIN, Out()) for _ in range(2))

    def fail(data: bytes) -> None:
        raise RuntimeError("a defect")

    ends.read_on = fail
    other.data_received(chunk)
    ends.data_received(b"what?")
    ends.data_received(b"and?")
    with pytest.raises(RuntimeError):
        passages.read_of(ends)
    passages.read_of(other)
    assert other.out.sent == [chunk]
    with pytest.raises(RuntimeError):
        loop.turn()
    other.data_received(chunk)
    loop.turn()
    assert other.out.sent == [chunk] * 2


def test_a_defect_of_one_stream_keeps_no_other_from_being_read() -> None:
    loop = Loop()
    passages, chunk = Passages(loop), in_chunk(SAID)
    first, broken, last = (Stream(passages, PLAIN, Out()) for _ in range(3))

    def fail(data: bytes) -> None:
        raise RuntimeError("a defect")

    broken.read_on = fail
    first.data_received(chunk)
    broken.data_received(b"what?")
    last.data_received(chunk)
    with pytest.raises(RuntimeError):
        loop.turn()
    assert (first.out.sent, last.out.sent) == ([chunk], [])
    first.data_received(chunk)
    loop.turn()
    assert (first.out.sent, last.out.sent) == ([chunk] * 2, [chunk])


@given(st.integers(0, 2**64))
def test_each_stream_gets_its_own_in_order_whatever_comes_between(seed: int) -> None:
    rng = Random(seed)
    loop = Loop()
    passages = Passages(loop)
    streams = [Stream(passages, PLAIN, Out()) for _ in range(3)]
    given: list[list[bytes]] = [[], [], []]
    for number in range(rng.randrange(40)):
        at = rng.randrange(3)
        piece = in_chunk(SAID.replace(b"y", b"%d" % number)) if rng.random() < 0.8 else b"%d?" % number
        streams[at].data_received(piece)
        given[at].append(piece)
        if rng.random() < 0.2 and streams[at].short is None:
            streams[at].begin()
        if rng.random() < 0.1:
            loop.turn()
        if rng.random() < 0.2:
            passages.read_of(rng.choice(streams))
    loop.turn()
    for stream, came in zip(streams, given, strict=True):
        assert [piece.strip(b"[]") for piece in stream.out.sent] == came


def test_the_outbox_is_that_of_the_loop() -> None:
    loop = Loop()
    assert Passages.of(loop) is Passages.of(loop)
    assert Passages.of(loop)._outbox is Outbox.of(loop)


def test_any_text_is_read_back() -> None:
    for text in ("a", 'q"', "\\", "\n", "é", "日", "\x7f", "😀"):
        assert passed(PLAIN, in_chunk(b'data: {"a":%b}\n\n' % encode(text)))[0] == [text]

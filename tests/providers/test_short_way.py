"""A stream's text that passes without being parsed: the client gets, and the meter sees, exactly what it would the long way.

The whole line is driven: the upstream's connection, the reader, the meter, the flow, the client's responder.
"""

import asyncio
import contextlib
from random import Random
from typing import Any

import httptools
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.call import Call, Content, Sampling, Who
from penstock.errors import BudgetExhausted, PenstockError
from penstock.execute import LiveTry
from penstock.flow import Flow
from penstock.inflight import InFlight
from penstock.meter import LOOSE, LOOSE_BYTES, NEVER, Meter
from penstock.outbox import Outbox
from penstock.passage import Taker
from penstock.providers.connection import Connection
from penstock.providers.exchange import Limits as Bounds
from penstock.providers.http import HttpProvider, StreamExchange
from penstock.receipt import Receipt
from penstock.reply import Chunk, Opening, TextDelta
from penstock.server.app import _stream
from penstock.server.outlet import Outlet
from penstock.server.request import DEFAULTS
from penstock.server.responder import Responder
from penstock.settings import ProviderSettings
from penstock.target import Target
from penstock.wire.dialect import StreamReader
from penstock.wire.openai_chat_habits import Habits
from penstock.wire.openai_chat_stream import ChatStreamReader
from penstock.wire.registry import dialect
from providers.loopback import SSE, chunk
from wire.test_sse_template import START, USUAL, FullChat, FullMessages, any_pieces, chat, message, noisy

SEEDS = st.integers(0, 2**64)
TARGET = Target(id="a/one", provider="a", model="one", dialect="chat")
OPENING = Opening("id", "a/one", "verbatim", 1)
DONE = b"data: [DONE]\n\n"


class Wire:
    """Stands for both transports: keeps what is written, and knows how many writes fill it."""

    def __init__(self, most: int = 1 << 62) -> None:
        self.written: list[bytes] = []
        self.outlet: Outlet | None = None
        self.most, self.unread = most, 0

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.unread += 1
        if self.outlet is not None and self.unread > self.most and not self.outlet.congested:
            self.outlet.pause()

    def get_write_buffer_size(self) -> int:
        return self.unread

    def relieve(self) -> None:
        self.unread = 0
        if self.outlet is not None and self.outlet.congested:
            self.outlet.resume()

    def set_write_buffer_limits(self, high: int) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None: ...


class Clock:
    """The server, as an outlet sees it."""

    def __init__(self) -> None:
        self.limits, self.loop = DEFAULTS, asyncio.get_running_loop()
        self.outbox, self.in_flight, self.now, self.draining = Outbox.of(self.loop), 2, 0.0, False


class Shelf:
    def release(self, connection: Connection) -> None: ...

    def lost(self, connection: Connection) -> None: ...


class Counting:
    """The parser, and how often it was fed."""

    def __init__(self, parser: Any) -> None:
        self.parser, self.fed = parser, 0

    def feed_data(self, data: bytes) -> None:
        self.fed += 1
        self.parser.feed_data(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.parser, name)


class Line:
    """The gateway's part: money for so many looks, each for so many bytes."""

    def __init__(self, looks: int, step: int) -> None:
        self.looks, self.step, self.settled = looks, step, 0

    def settle(self, flight: InFlight[Any]) -> Receipt:
        self.settled += 1
        return Receipt("id", 0, "chat", "fast", flight.status, 200)

    async def guard(self, flight: InFlight[Any], work: Any) -> Any:
        try:
            return await work
        except PenstockError as error:
            flight.fail("error", error)
            raise

    def break_off(self, flight: InFlight[Any], error: BaseException) -> None:
        if isinstance(error, PenstockError):
            flight.fail("error", error)

    def grow(self, flight: InFlight[Any], live: LiveTry) -> None:
        self.looks -= 1
        if self.looks < 0:
            raise BudgetExhausted("no room")
        live.meter.limit = live.meter.passed + self.step


class Long(Flow[Any]):
    """Has every chunk come the long way."""

    outflow = property(lambda _: None, lambda *_: None)  # type: ignore[assignment]


class Course:
    """One stream on its way: what is read of the provider, in these pieces, and what becomes of it."""

    def __init__(self, reader: StreamReader, *, is_short: bool, most: int, looks: int, step: int) -> None:
        self.wire, self.line = Wire(most), Line(looks, step)
        self.wire.outlet = self.outlet = Outlet(Clock(), self.wire, (0, 0, b""))  # type: ignore[arg-type]
        self.connection = Connection(Shelf(), Bounds(head_bytes=4096), "up")
        self.connection.connection_made(Wire())  # type: ignore[arg-type]
        self.counting = self.connection._parser = Counting(self.connection._parser)  # type: ignore[assignment]
        self.reply = self.connection.start(1e18, 0.0)
        settings = ProviderSettings("up", "openai", base_url="http://127.0.0.1:1")
        self.exchange = StreamExchange(
            *(HttpProvider(settings), reader, self.reply, "a/one", "verbatim", (), (), True, True)
        )
        self.kind = Flow if is_short else Long

    @property
    def looks(self) -> int | None:
        """How many looks are left; None with pauses, which the long way makes later: it joins what a turn writes."""
        return self.line.looks if self.wire.most == 1 << 62 else None

    async def run(self, pieces: list[bytes], pauses: frozenset[int] = frozenset()) -> tuple[object, ...]:
        """Let the first piece be read, the others pushed; the loop turns before those of `pauses`."""
        self.connection.data_received(pieces[0])
        flight = InFlight[Any]("id", 0, 0.0, CALL, Who())
        live = LiveTry(TARGET, "first", 0.0)
        self.meter: Meter = live.meter
        live.exchange = self.exchange
        flight.tries.append(live)
        chunk = await self.exchange.read()
        assert chunk is not None
        live.meter.observe(chunk.events)
        if not live.meter.begun:
            return ()
        flow = self.kind(self.line, flight, OPENING, live, chunk)  # type: ignore[arg-type]
        work = asyncio.ensure_future(_stream(dialect("chat"), CALL, flow, Responder(self.outlet, True)))
        await turn()
        for number, piece in enumerate(pieces[1:]):
            if number in pauses:
                await turn()  # what is passed on leaves at its end
                self.wire.relieve()
                await turn()
            if self.connection.reply is not None:
                self.connection.data_received(piece)
        if len(pieces) - 1 in pauses:
            await turn()
        if self.connection.reply is not None:
            self.connection.eof_received()
        await turn()
        for _ in range(len(pieces)):
            self.wire.relieve()
            await turn()
        is_complete = await asyncio.wait_for(work, 5)
        return (
            is_complete,
            heard(b"".join(self.wire.written)),
            seen(self.meter) | ({} if self.looks is not None else {"limit": None, "unseen": None}),
            self.reply.fault and self.reply.fault.kind,
        )


CALL = Call(dialect="chat", model="fast", sampling=Sampling(), read=lambda: Content(()), stream=True)


def metered() -> Meter:
    """Give a meter that lets anything pass."""
    meter = Meter()
    meter.observe((TextDelta("begun"),))
    meter.watch(NEVER, NEVER, 0)
    return meter


async def turn() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


def seen(meter: Meter) -> dict[str, object]:
    state = [name for name, value in vars(Meter).items() if not (name.startswith("__") or callable(value))]
    values = {name: getattr(meter, name) for name in (*state, *vars(meter)) if name != "_full"}
    return {**values, "error": str(meter.error), "text": "".join(meter.text)}


def heard(written: bytes) -> tuple[bytes, bool]:
    """Give the body that a client hears, and whether it is whole."""
    body: list[bytes] = []
    client = type(
        "Client", (), {"on_body": lambda _, data: body.append(data), "on_message_complete": lambda _: body.append(b"|")}
    )
    httptools.HttpResponseParser(client()).feed_data(written)
    return b"".join(body), body[-1:] == [b"|"]


def framed(rng: Random, event: bytes) -> bytes:
    """Frame an event as a chunk, now and then in another way that is right, or in one that is not."""
    if rng.random() < 0.8 or not event:
        return chunk(event) if event else b""
    size, half = len(event), rng.randrange(len(event))
    return rng.choice(
        (
            b"%X\r\n%b\r\n" % (size, event),
            b"0%x\r\n%b\r\n" % (size, event),
            b"%x;a=b\r\n%b\r\n" % (size, event),
            b'%x;a="\r\n"\r\n%b\r\n' % (size, event),
            b"%x \r\n%b\r\n" % (size, event),
            b" %x\r\n%b\r\n" % (size, event),
            b"+%x\r\n%b\r\n" % (size, event),
            b"0x%x\r\n%b\r\n" % (size, event),
            b"%x\n%b\r\n" % (size, event),
            b"%x\r\n%b\n" % (size, event),
            b"%x\r\n%b" % (size, event),
            b"%x\r\n%b\r\n" % (size + 1, event),
            b"%x\r\n%b\r\n" % (size - 1, event),
            b"%x\r\n%b\r\n\r\n" % (size, event),
            b"%x\r\n%b\r\n" % (size + len(chunk(event)), event + chunk(event)),
            chunk(event + event),
            chunk(event[:half]) + chunk(event[half:]) if half else chunk(event),
            b"5\r\n" + chunk(event),
            b"0\r\n\r\n" + chunk(event),
            b"0\r\nx: y\r\n" + chunk(event),
            *(chunk(event) + begun for begun in (b"1", b"1;a", b"0", b"0\r", b"1\r\n")),
            event,
        )
    )


def any_reads(rng: Random, write: Any) -> list[bytes]:
    """Make a stream of HTTP of events, and cut it: at the ends of chunks, here and there within one, or anywhere."""
    events = (
        [piece for _ in range(3) for piece in any_pieces(rng, write)]
        if rng.random() < 0.3
        else [
            write(rng.choice(USUAL), rng.randrange(36) if rng.random() < 0.03 else -1)
            for _ in range(rng.randrange(2, 60))
        ]
    )
    hostile = rng.random() < 0.5
    frames = [framed(rng, event) if hostile else chunk(event) for event in events if event]
    ending = chunk(DONE) + chunk(b"")
    frames += [ending] if rng.random() < 0.7 else [chunk(DONE), chunk(b"")] if rng.random() < 0.7 else []
    reads: list[bytes] = []
    joined = rng.choice((0.0, 0.07, 0.5))
    for frame in frames:
        if rng.random() < joined and reads:
            reads[-1] += frame
        elif rng.random() < 0.07 and len(frame) > 1:
            at = rng.randrange(1, len(frame))
            reads += [frame[:at], frame[at:]]
        else:
            reads.append(frame)
    first = chunk(START) if write is message else b""
    begun = rng.choice((b"1", b"1;a", b"0", b"0\r", b"1\r\n", b"1\n")) if rng.random() < 0.2 else b""
    return [SSE + first + chunk(write(b'"first"')) + begun, *reads]


def habitual() -> StreamReader:
    """Give a reader that knows the events of this stream from another one."""
    habits = Habits()
    known = ChatStreamReader(strip_usage=True, habits=habits)
    known.feed(chat(b'"before"').replace(b'"id":"', b'"id":"other-'))
    assert habits.before
    return ChatStreamReader(strip_usage=True, habits=habits)


READERS = {
    chat: (lambda: dialect("chat").stream_reader(strip_usage=True), lambda: FullChat(strip_usage=True)),
    noisy: (lambda: dialect("chat").stream_reader(strip_usage=False), lambda: FullChat(strip_usage=False)),
    message: (lambda: dialect("messages").stream_reader(strip_usage=False), FullMessages),
}


@settings(max_examples=600, deadline=None)
@given(seed=SEEDS)
def test_what_passes_the_short_way_is_what_passes_the_long_way(seed: int) -> None:
    rng = Random(seed)
    write = rng.choice((chat, chat, noisy, message))
    reads, is_known = any_reads(rng, write), write is chat and rng.random() < 0.5
    pauses = frozenset(number for number in range(len(reads)) if rng.random() < 0.1)
    most, looks = rng.choice(((1 << 62, 1_000), (1 << 62, 2), (2, 1_000), (7, 1_000)))
    bounds = {"most": most, "looks": looks, "step": rng.choice((1 << 40, 7, 40))}

    async def both() -> None:
        found = []
        for is_short in (True, False):
            make = habitual if is_short and is_known else READERS[write][not is_short]
            course = Course(make(), is_short=is_short, **bounds)
            found.append((await course.run(reads, pauses), course.line.settled, course.looks))
        assert found[0] == found[1]

    asyncio.run(both())


HELD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
WORDS = [chat(b'"w%d"' % number) for number in range(10)]


@pytest.mark.parametrize(
    "reads",
    [
        [SSE + chunk(WORDS[0]), chunk(WORDS[1]), chunk(WORDS[2]) + b"1", *map(chunk, WORDS[3:])],
        [SSE + chunk(WORDS[0]), chunk(WORDS[1]), chunk(WORDS[2]) + b"1;", *map(chunk, WORDS[3:])],
        [SSE + chunk(WORDS[0]), chunk(WORDS[1]), b"400\r\n" + WORDS[2], *map(chunk, WORDS[3:])],
        [HELD % 4_000 + WORDS[0], *WORDS[1:4], *map(chunk, WORDS[4:])],
        [SSE[:-30] + b"\r\n" + WORDS[0], *WORDS[1:4], *map(chunk, WORDS[4:])],
    ],
)
async def test_what_looks_like_a_chunk_and_is_none_is_not_taken_for_one(reads: list[bytes]) -> None:
    found = []
    for is_short in (True, False):
        course = Course(READERS[chat][not is_short](), is_short=is_short, most=1 << 62, looks=1, step=1 << 40)
        found.append(await course.run(reads))
    assert found[0] == found[1]


def ordinary(write: Any, words: int) -> list[bytes]:
    first = chunk(START) if write is message else b""
    events = [write(b'"w%d"' % number) for number in range(words)]
    return [SSE + first + chunk(write(b'"first"')), *map(chunk, events), chunk(DONE) + chunk(b"")]


@pytest.mark.parametrize("write", [chat, noisy, message])
async def test_the_parser_sees_no_more_than_the_beginning_and_the_end_of_an_ordinary_stream(write: Any) -> None:
    course = Course(READERS[write][0](), is_short=True, most=1 << 62, looks=1, step=1 << 40)
    await course.run(ordinary(write, 200))
    assert course.counting.fed == 1 + 1 + 1
    assert course.meter.passed == len("first") + sum(len(f"w{number}") for number in range(200))
    course = Course(READERS[write][0](), is_short=False, most=1 << 62, looks=1, step=1 << 40)
    await course.run(ordinary(write, 200))
    assert course.counting.fed == 1 + 200 + 1


async def test_of_a_stream_like_one_before_it_the_parser_sees_only_the_first_word_and_the_end() -> None:
    course = Course(habitual(), is_short=True, most=1 << 62, looks=1, step=1 << 40)
    whole = await course.run(ordinary(chat, 50))
    assert course.counting.fed == 2
    course = Course(READERS[chat][1](), is_short=False, most=1 << 62, looks=1, step=1 << 40)
    assert whole == await course.run(ordinary(chat, 50))


async def test_many_words_are_kept_in_few_pieces_the_short_way_as_well() -> None:
    words = 3 * LOOSE_BYTES // 4 + 100
    found = []
    for is_short in (True, False):
        course = Course(READERS[chat][0](), is_short=is_short, most=1 << 62, looks=1, step=1 << 40)
        await course.run(ordinary(chat, words))
        assert len(course.meter.text) < LOOSE_BYTES // 4 + LOOSE
        found.append(("".join(course.meter.text), course.wire.written[-1]))
    assert found[0] == found[1]


async def test_a_stream_that_has_ended_leaves_nothing_of_itself_with_its_connection() -> None:
    course = Course(READERS[chat][0](), is_short=True, most=1 << 62, looks=1, step=1 << 40)
    reads = ordinary(chat, 5)
    await course.run(reads, frozenset({len(reads) - 1}))
    connection = course.connection
    assert (connection.sink, connection.guide, connection.short, connection.alive) == (None, None, None, True)


async def test_a_silence_is_counted_from_the_last_word_whichever_way_it_came() -> None:
    course = Course(READERS[chat][0](), is_short=True, most=1 << 62, looks=1, step=1 << 40)
    connection = course.connection
    head, *reads = ordinary(chat, 5)
    now = 0.0
    connection._time = connection._passages._time = lambda: now
    connection.data_received(head)
    first = await course.exchange.read()
    assert first is not None
    course.exchange.say = Taker(metered(), course.outlet, lambda: False)
    relay = asyncio.ensure_future(course.exchange.pump(lambda _: False))
    await turn()
    for now in (1.0, 2.0, 3.0, 4.0):
        connection.data_received(reads.pop(0))
        await turn()
        assert connection.due == now + 30.0
    assert course.counting.fed == 2
    for now in (35.0, 70.0):
        connection.data_received(chunk(chat(b'"late"')))
        connection.expire(now)
        await turn()
        assert (connection.alive, connection.due) == (True, now + 30.0), "it had spoken, and only was not heard yet"
    connection.data_received(chunk(chat(b'"later"')))
    connection.expire(connection.deadline)
    assert not connection.alive, "a deadline is one, however much comes"
    relay.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await relay
    assert not connection.alive


async def test_whoever_has_no_room_is_handed_no_more_until_it_is_read_on() -> None:
    course = Course(READERS[chat][0](), is_short=True, most=1 << 62, looks=1, step=1 << 40)
    head, *reads = ordinary(chat, 9)
    course.connection.data_received(head)
    await course.exchange.read()
    meter, wire = metered(), course.wire
    course.exchange.say = Taker(meter, course.outlet, lambda: False)
    given: list[Chunk] = []
    relay = asyncio.ensure_future(course.exchange.pump(lambda chunk: bool(given.append(chunk))))
    await turn()
    for read in reads[:3]:
        course.connection.data_received(read)
    await turn()
    course.outlet.pause()
    for read in reads[3:6]:
        course.connection.data_received(read)
    assert await relay
    assert meter.text == ["begun", "w1", "w2", "w3"]
    assert wire.written == reads[1:4]
    assert len(given) == 1
    relay = asyncio.ensure_future(course.exchange.pump(lambda chunk: bool(given.append(chunk))))
    await turn()
    assert given[1].raw == chat(b'"w4"') + chat(b'"w5"')
    course.outlet.resume()
    for read in reads[6:]:
        course.connection.data_received(read)
    assert not await relay
    assert meter.text[4:] == ["w6", "w7", "w8"], "the last words before it tell how the next ones are read"
    assert wire.written == reads[1:4] + reads[6:9]


async def test_what_is_translated_or_nobody_asks_for_goes_the_long_way() -> None:
    for change in ({"lane": "translated"}, {"say": None}):
        course = Course(READERS[chat][0](), is_short=True, most=1 << 62, looks=1, step=1 << 40)
        exchange = msgspec.structs.replace(course.exchange, say=Taker(metered(), course.outlet, lambda: False))
        for name, value in change.items():
            setattr(exchange, name, value)
        head, *reads = ordinary(chat, 5)
        course.connection.data_received(head)
        await exchange.read()
        given: list[Chunk] = []
        relay = asyncio.ensure_future(exchange.pump(lambda chunk, given=given: bool(given.append(chunk))))
        await turn()
        for read in reads:
            course.connection.data_received(read)
        await relay
        assert course.counting.fed == 1 + 5 + 1


async def test_a_defect_of_who_is_handed_what_was_read_in_full_comes_out_and_ends_the_connection() -> None:
    course, other = (Course(READERS[chat][0](), is_short=True, most=1 << 62, looks=1, step=1 << 40) for _ in range(2))
    meters = [metered(), metered()]
    relays = []

    def give(_: Chunk) -> bool:
        if course.connection.short is None and course.counting.fed > 2:
            raise RuntimeError("a defect")
        return False

    for each, meter in zip((course, other), meters, strict=True):
        each.exchange.say = Taker(meter, each.outlet, lambda: False)
        each.connection.data_received(ordinary(chat, 2)[0])
        await each.exchange.read()
        relays.append(asyncio.ensure_future(each.exchange.pump(give if each is course else lambda _: False)))
        await turn()
        each.connection.data_received(chunk(chat(b'"one"')))
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    course.connection.data_received(chunk(chat(b'"two"')) + b"1")
    other.connection.data_received(chunk(chat(b'"two"')))
    await turn()
    with pytest.raises(RuntimeError, match="a defect"):
        await relays[0]
    assert [type(each) for each in told] == [RuntimeError]
    assert (course.connection.alive, other.connection.alive) == (False, True)
    assert meters[1].text == ["begun", "two"]
    relays[1].cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await relays[1]

"""An answer on its way: pulled or pushed, complete or broken off, it ends once and with its receipt."""

import asyncio

import pytest

from penstock.call import Call, Content, Sampling, Who
from penstock.errors import BudgetExhausted, ClientClosed, Internal, PenstockError, UpstreamFailed, UpstreamGarbled
from penstock.flow import Flow
from penstock.inflight import InFlight
from penstock.live_try import LiveTry
from penstock.meter import NEVER
from penstock.receipt import Receipt
from penstock.reply import Chunk, Ended, Failed, Finished, Opening, TextDelta
from penstock.target import Target

CALL = Call(dialect="chat", model="fast", sampling=Sampling(), read=lambda: Content(()))
TARGET = Target(id="a/one", provider="a", model="one", dialect="chat")
OPENING = Opening("id", "a/one", "verbatim", 1)
ONE, TWO = Chunk((TextDelta("one"),), b"1"), Chunk((TextDelta("two"),), b"2")
LAST = Chunk((Finished("stop"), Ended()), b"3")


class Line:
    """The gateway's part, without a ledger."""

    def __init__(self):
        self.settled = []

    def settle(self, flight):
        if flight.settled is None:
            error = flight.error
            flight.settled = Receipt("id", 0, "chat", "fast", flight.status, 200 if error is None else error.status)
            self.settled.append(flight.settled)
        return flight.settled

    def abandon(self, flight):
        self.settle(flight)

    def grow(self, flight, live):
        live.meter.watch(NEVER, NEVER, 0)

    async def guard(self, flight, work):
        try:
            return await work
        except BaseException as error:
            self.break_off(flight, error)
            raise

    def break_off(self, flight, error):
        if isinstance(error, PenstockError):
            flight.fail("error", error)
        elif isinstance(error, ZeroDivisionError):
            flight.fail("error", Internal("defect"))
            raise flight.error from error


class Played:
    """An exchange of given chunks; an error among them is raised."""

    lane, dropped, status, headers = "verbatim", (), 200, ()

    def __init__(self, *chunks):
        self.chunks = list(chunks)

    async def read(self):
        if not self.chunks:
            return None
        chunk = self.chunks.pop(0)
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def close(self):
        pass


class Pushed(Played):
    """The same, pushed; it notes when it was told to pause."""

    pauses = 0

    async def pump(self, give):
        while (chunk := await self.read()) is not None:
            if give(chunk):
                self.pauses += 1
                return True
        return False


def flowing(first, exchange, line=None):
    line = line or Line()
    flight = InFlight("id", 0, 0.0, CALL, Who())
    live = LiveTry(TARGET, "first", 0.0)
    live.exchange = exchange
    live.meter.observe(first.events)
    flight.tries.append(live)
    return Flow(line, flight, OPENING, live, first), line, flight


async def pulled(flow):
    chunks = []
    while (chunk := await flow.next()) is not None:
        chunks.append(chunk)
    return chunks


async def pumped(flow, full=()):
    """Pump; the chunks by number that leave no room for more, and how often room was waited for."""
    chunks, waits = [], []

    def give(chunk):
        chunks.append(chunk)
        return len(chunks) in full

    async def room():
        waits.append(len(chunks))

    await flow.pump(give, room)
    return chunks, waits


@pytest.mark.parametrize("kind", [Played, Pushed])
@pytest.mark.parametrize("way", [pulled, pumped])
async def test_chunks_pass_as_they_are_and_the_last_has_the_one_receipt(kind, way):
    flow, line, flight = flowing(ONE, kind(TWO, LAST))
    chunks = await way(flow)
    chunks = chunks[0] if way is pumped else chunks

    assert [(chunk.events, chunk.raw) for chunk in chunks] == [(c.events, c.raw) for c in (ONE, TWO, LAST)]
    assert [chunk.receipt for chunk in chunks] == [None, None, line.settled[0]]
    assert len(line.settled) == 1
    assert flight.settled.status == "ok"
    assert flow.done
    assert await flow.next() is None


async def test_a_whole_reply_is_one_chunk_with_its_receipt():
    whole = Chunk((TextDelta("all"), Finished("stop"), Ended()), b"{}")
    flow, line, _ = flowing(whole, Played())
    (chunk,) = await pulled(flow)

    assert chunk == Chunk(whole.events, b"{}", line.settled[0])


async def test_a_fixed_text_needs_no_try():
    line = Line()
    flight = InFlight("id", 0, 0.0, CALL, Who())
    flow = Flow(line, flight, OPENING, None, LAST)
    (chunk,), waits = await pumped(flow)

    assert chunk.receipt is line.settled[0]
    assert waits == []


@pytest.mark.parametrize("kind", [Played, Pushed])
@pytest.mark.parametrize("way", [pulled, pumped])
@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ((UpstreamFailed("reset"),), UpstreamFailed),
        ((), UpstreamGarbled),
        ((ZeroDivisionError(),), Internal),
        ((Chunk((Failed(UpstreamGarbled("cut")),)),), UpstreamGarbled),
    ],
)
async def test_what_breaks_off_ends_in_one_failure_and_one_receipt(kind, way, ending, error):
    flow, line, flight = flowing(ONE, kind(TWO, *ending))
    chunks = await way(flow)
    chunks = chunks[0] if way is pumped else chunks

    (failed,) = chunks[-1].events
    assert isinstance(failed, Failed)
    assert type(failed.error) is error
    assert chunks[:-1] == [ONE, TWO]
    assert chunks[-1].receipt is line.settled[0]
    assert flight.settled.status == "error"


@pytest.mark.parametrize("kind", [Played, Pushed])
async def test_a_caller_without_room_is_waited_for_before_more_is_taken(kind):
    exchange = kind(TWO, ONE, LAST)
    flow, _, _ = flowing(ONE, exchange)
    chunks, waits = await pumped(flow, full={1, 3})

    assert len(chunks) == 4
    assert waits == [1, 3]


async def test_the_last_chunk_waits_for_no_room():
    flow, _, _ = flowing(ONE, Pushed(LAST))
    assert (await pumped(flow, full={2}))[1] == []


async def test_a_call_whose_time_was_over_while_nobody_read_ends_with_that():
    for kind, way in ((Played, pulled), (Pushed, pumped)):
        flow, _, flight = flowing(ONE, kind(TWO, LAST))
        await flow.next()
        flight.fail("error", UpstreamFailed("too late"))
        chunks = await way(flow)
        chunks = chunks[0] if way is pumped else chunks
        assert [str(chunk.events[0].error) for chunk in chunks] == ["too late"]


async def test_a_complete_answer_whose_exchange_cannot_be_closed_stays_complete():
    class Torn(Line):
        def settle(self, flight):
            receipt = super().settle(flight)
            if len(self.settled) == 1 and not self.torn:
                self.torn = True
                raise ZeroDivisionError
            return receipt

        torn = False

    flow, line, _ = flowing(LAST, Played(), Torn())
    assert await pulled(flow) == [Chunk(LAST.events, LAST.raw, line.settled[0])]


async def test_a_last_chunk_that_was_pushed_is_not_given_again_whatever_follows():
    class Late(Pushed):
        async def pump(self, give):
            await super().pump(give)
            raise UpstreamFailed("the deadline passed in the same moment")

    flow, line, _ = flowing(ONE, Late(TWO, LAST))
    chunks, _ = await pumped(flow)

    assert [chunk.raw for chunk in chunks] == [b"1", b"2", b"3"]
    assert [receipt.status for receipt in line.settled] == ["ok"]


async def test_a_flow_that_is_left_is_settled_as_cancelled_once():
    flow, line, flight = flowing(ONE, Played(TWO))
    await flow.next()
    flow.close()
    flow.close()

    assert flight.settled.status == "cancelled"
    assert isinstance(flight.error, ClientClosed)
    assert len(line.settled) == 1
    assert await flow.next() is None


async def test_closing_after_the_end_changes_nothing():
    flow, line, _ = flowing(LAST, Played())
    await pulled(flow)
    flow.close()
    assert [receipt.status for receipt in line.settled] == ["ok"]


async def test_a_cancelled_reader_leaves_the_rest_to_close():
    class Stuck(Played):
        async def read(self):
            await asyncio.Event().wait()

    flow, line, _ = flowing(ONE, Stuck())
    await flow.next()
    task = asyncio.create_task(flow.next())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    flow.close()
    assert [receipt.status for receipt in line.settled] == ["cancelled"]


class Passing(Pushed):
    """Passes its texts on by itself, if that is asked for."""

    say = None

    async def pump(self, give):
        while (chunk := await self.read()) is not None:
            text = chunk.events[0].text if chunk is not LAST else ""
            if self.say is not None and text:
                self.say.meter.observe(chunk.events)
                self.say.outflow.write(chunk.raw)
            elif give(chunk):
                return True
        return False


class Out:
    """Where bytes go."""

    congested = False

    def __init__(self):
        self.bytes = []

    def write(self, data):
        self.bytes.append(data)


async def test_bytes_pass_by_themselves_where_there_is_a_way_out_for_them_and_nobody_has_to_look():
    out = Out()
    flow, line, flight = flowing(ONE, Passing(TWO, TWO, LAST))
    flow.outflow = lambda: out
    chunks, _ = await pumped(flow)
    assert [chunk.events for chunk in chunks] == [ONE.events, LAST.events]
    assert (out.bytes, flight.tries[0].meter.text) == ([b"2", b"2"], ["one", "two", "two"])
    assert chunks[-1].receipt is line.settled[0]


@pytest.mark.parametrize("outflow", [None, lambda: None])
async def test_without_a_way_out_every_chunk_is_given(outflow):
    flow, _, _ = flowing(ONE, Passing(TWO, LAST))
    flow.outflow = outflow
    chunks, _ = await pumped(flow)
    assert [chunk.events for chunk in chunks] == [ONE.events, TWO.events, LAST.events]


async def test_a_provider_that_passes_nothing_on_by_itself_is_asked_for_nothing_more():
    flow, _, _ = flowing(ONE, Pushed(TWO, LAST))
    flow.outflow = Out
    chunks, _ = await pumped(flow)
    assert [chunk.events for chunk in chunks] == [ONE.events, TWO.events, LAST.events]


# -- money that a reply outgrows --


class Strict(Line):
    """Says yes to so many growths, then no."""

    def __init__(self, growths):
        super().__init__()
        self.growths, self.looked = growths, []

    def grow(self, flight, live):
        self.looked.append(live.meter.passed)
        if len(self.looked) > self.growths:
            raise BudgetExhausted("no room")
        live.meter.limit = live.meter.passed + 2


@pytest.mark.parametrize("kind", [Played, Pushed])
@pytest.mark.parametrize("way", [pulled, pumped])
async def test_a_reply_is_looked_at_when_it_passes_its_limit_and_ends_in_one_failure_where_it_may_not(kind, way):
    line = Strict(2)
    flow, _, flight = flowing(ONE, kind(*[TWO] * 3, LAST), line)
    chunks = await way(flow)
    chunks = chunks[0] if way is pumped else chunks

    assert line.looked == [3, 6, 9]
    assert [chunk.events for chunk in chunks[:-1]] == [ONE.events, TWO.events]
    (failed,) = chunks[-1].events
    assert isinstance(failed.error, BudgetExhausted)
    assert chunks[-1].receipt is line.settled[0]
    assert (flight.settled.status, flight.settled.http_status) == ("error", 402)
    assert len(line.settled) == 1


@pytest.mark.parametrize("way", [pulled, pumped])
async def test_a_first_chunk_that_may_not_pass_is_the_one_failure(way):
    line = Strict(0)
    flow, _, flight = flowing(ONE, Pushed(TWO, LAST), line)
    chunks = await way(flow)
    (chunk,) = chunks[0] if way is pumped else chunks

    assert isinstance(chunk.events[0].error, BudgetExhausted)
    assert (chunk.receipt, flight.settled.http_status) == (line.settled[0], 402)


@pytest.mark.parametrize("kind", [Played, Pushed])
@pytest.mark.parametrize("way", [pulled, pumped])
async def test_a_reply_that_is_complete_is_not_asked_for_more_money(kind, way):
    line = Strict(1)
    end = Chunk((TextDelta("much more"), Finished("stop"), Ended()), b"3")
    flow, _, flight = flowing(ONE, kind(end), line)
    await way(flow)

    assert line.looked == [3]
    assert flight.settled.status == "ok"


async def test_a_whole_reply_is_never_looked_at():
    line = Strict(0)
    flow, _, flight = flowing(Chunk((TextDelta("all"), Finished("stop"), Ended()), b"{}"), Played(), line)
    await pulled(flow)

    assert (line.looked, flight.settled.status) == ([], "ok")

"""Which calls are read to their end without a caller, and that nothing is left of them. The line's own tests do the rest."""

import asyncio

from penstock.call import Call, Content, Sampling, Who
from penstock.draining import Drains
from penstock.errors import ClientClosed, DeadlineExceeded, UpstreamGarbled
from penstock.event import Ended, TextDelta
from penstock.inflight import InFlight
from penstock.live_try import LiveTry
from penstock.reply import Chunk
from penstock.target import Target

CALL = Call(dialect="chat", model="fast", sampling=Sampling(), read=lambda: Content(()))
ONE = Target(id="a/one", provider="a", model="one", dialect="chat")
LAST = Chunk((TextDelta("x"), Ended()))


class Exchange:
    """What is left of a reply."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    async def read(self):
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        if piece == "hang":
            await asyncio.Event().wait()
        return piece

    def close(self):
        """Nothing is held."""


def flight(*pieces, error=None, deadline=1e9):
    one = InFlight("id", 0, 0.0, CALL, Who())
    one.deadline = deadline
    one.error = error or ClientClosed("gone")
    live = LiveTry(ONE, "first", 0.0)
    live.exchange = Exchange(*pieces)
    one.tries.append(live)
    return one


def drains(settled, *providers, now=0.0):
    return Drains(frozenset(providers), lambda: now, settled.append)


def test_only_calls_whose_client_hung_up_on_such_a_provider_are_read_on():
    assert drains([], "a").wants(flight())
    assert not drains([], "b").wants(flight())
    assert not drains([]).wants(flight())
    assert not drains([], "a").wants(flight(error=DeadlineExceeded("late")))
    over = flight()
    over.tries[0].end("ok", 1.0)
    assert not drains([], "a").wants(over)
    over.tries.clear()
    assert not drains([], "a").wants(over)


async def test_a_reply_is_read_to_its_end_and_settled():
    settled, one = [], flight(LAST)
    drains(settled, "a").begin(one)
    await asyncio.sleep(0.01)
    assert settled == [one]
    assert one.tries[0].meter.ended


async def test_one_that_breaks_off_is_settled_as_well():
    for pieces in ((UpstreamGarbled("cut"),), (None,)):
        settled, one = [], flight(*pieces)
        drains(settled, "a").begin(one)
        await asyncio.sleep(0.01)
        assert settled == [one]


async def test_one_that_outlasts_its_deadline_is_settled_as_it_is():
    settled, one = [], flight("hang", deadline=0.02)
    drains(settled, "a").begin(one)
    await asyncio.sleep(0.05)
    assert settled == [one]


async def test_what_is_left_at_the_end_is_settled_as_it_is():
    settled, one = [], flight("hang")
    drain = drains(settled, "a")
    drain.begin(one)
    await asyncio.sleep(0)
    await drain.close()
    await drain.close()
    assert settled == [one]


async def test_tries_outlive_their_caller_only_where_a_provider_wants_that():
    async def run(one, targets):
        await asyncio.sleep(0.01)
        return one.tries[0], LAST

    async def caller(pursued):
        return await pursued

    for provider, lives in (("a", True), ("b", False)):
        one = flight()
        waiting = asyncio.create_task(caller(drains([], provider).pursue(one, (ONE,), run)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert (one.pursuit is not None) is lives
        if one.pursuit is not None:
            assert (await one.pursuit)[1] is LAST

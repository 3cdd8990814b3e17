"""Reads that go on when their reader leaves."""

import asyncio

import pytest

from penstock.errors import UpstreamGarbled
from penstock.event import TextDelta
from penstock.reply import Chunk
from penstock.shelter import Sheltered

ONE = Chunk((TextDelta("one"),))


class Slow:
    """An exchange whose next chunk comes when it is let."""

    lane, dropped, status, headers = "verbatim", ("seed",), 200, ()

    def __init__(self):
        self.let = asyncio.Event()
        self.reads = 0
        self.closed = 0
        self.error = None

    async def read(self):
        self.reads += 1
        await self.let.wait()
        if self.error is not None:
            raise self.error
        return ONE

    def close(self):
        self.closed += 1


async def left(exchange):
    reading = asyncio.create_task(exchange.read())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait({reading})


async def test_a_chunk_that_comes_after_its_reader_left_is_there_for_the_next():
    slow = Slow()
    exchange = Sheltered(slow)
    await left(exchange)
    slow.let.set()
    assert await exchange.read() is ONE
    assert slow.reads == 1
    assert (exchange.lane, exchange.dropped, exchange.status) == ("verbatim", ("seed",), 200)


async def test_an_error_comes_out_of_the_read_that_waits_for_it():
    slow = Slow()
    slow.error = UpstreamGarbled("cut")
    exchange = Sheltered(slow)
    await left(exchange)
    slow.let.set()
    with pytest.raises(UpstreamGarbled):
        await exchange.read()


@pytest.mark.parametrize("error", [None, UpstreamGarbled("cut")])
async def test_closing_ends_a_read_that_nobody_waits_for(error):
    slow = Slow()
    slow.error = error
    exchange = Sheltered(slow)
    await left(exchange)
    if error is not None:
        slow.let.set()
        await asyncio.sleep(0)
    exchange.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert slow.closed == 1
    assert len(asyncio.all_tasks()) == 1

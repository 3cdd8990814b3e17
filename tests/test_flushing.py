"""Receipts move into SQL by themselves, while there are any."""

import asyncio

from penstock.flushing import FLUSH_ROWS, FLUSH_S, Flusher


class Ledger:
    """Something to flush, so many times."""

    def __init__(self, times):
        self.left = times
        self.flushed = []

    def flush(self, rows):
        self.flushed.append(rows)
        self.left -= 1
        return self.left


async def test_it_goes_on_until_there_is_nothing_left():
    ledger = Ledger(3)
    flusher = Flusher(ledger)
    flusher.soon()
    flusher.soon()
    await asyncio.sleep(FLUSH_S * 10)
    assert ledger.flushed == [FLUSH_ROWS] * 3


async def test_it_begins_again_with_the_next_receipt():
    ledger = Ledger(1)
    flusher = Flusher(ledger)
    for _ in range(2):
        ledger.left = 1
        flusher.soon()
        await asyncio.sleep(FLUSH_S * 3)
    assert len(ledger.flushed) == 2


async def test_a_closed_one_flushes_no_more():
    ledger = Ledger(9)
    flusher = Flusher(ledger)
    flusher.soon()
    flusher.close()
    flusher.soon()
    await asyncio.sleep(FLUSH_S * 3)
    assert ledger.flushed == []

"""Receipts move into SQL by themselves, while there are any, and so do the figures of calls."""

import asyncio

import pytest

from penstock.flushing import FLUSH_ROWS, FLUSH_S, Flusher


class Ledger:
    """So many receipts to move, unless it is stuck."""

    def __init__(self, rows, *, stuck=False):
        self.backlog, self.stuck = rows, stuck
        self.flushed = []

    def flush(self, rows):
        self.flushed.append(rows)
        self.backlog -= 0 if self.stuck else min(rows, self.backlog)
        return self.backlog


async def test_it_goes_on_until_there_is_nothing_left():
    ledger = Ledger(2 * FLUSH_ROWS + 1)
    flusher = Flusher(ledger, int)
    flusher.soon()
    flusher.soon()
    await asyncio.sleep(FLUSH_S * 10)
    assert ledger.flushed == [FLUSH_ROWS] * 3
    assert flusher.timer is None


async def test_many_follow_one_another_without_a_long_wait():
    ledger = Ledger(8 * FLUSH_ROWS)
    flusher = Flusher(ledger, int)
    flusher.soon()
    await asyncio.sleep(FLUSH_S * 3)
    assert ledger.flushed == [FLUSH_ROWS] * 8


@pytest.mark.parametrize("rows", [1, 8 * FLUSH_ROWS])
async def test_a_store_that_is_stuck_is_not_asked_all_the_time(rows):
    ledger = Ledger(rows, stuck=True)
    flusher = Flusher(ledger, int)
    flusher.soon()
    await asyncio.sleep(FLUSH_S * 4.5)
    assert 1 <= len(ledger.flushed) < 20, "and not each time when others had their turn"
    flusher.close()


async def test_figures_are_added_up_on_the_way():
    added = []
    ledger = Ledger(2 * FLUSH_ROWS)
    flusher = Flusher(ledger, lambda: added.append(ledger.backlog))
    flusher.soon()
    await asyncio.sleep(FLUSH_S * 3)
    assert added == [2 * FLUSH_ROWS, FLUSH_ROWS]


async def test_it_begins_again_with_the_next_receipt():
    ledger = Ledger(1)
    flusher = Flusher(ledger, int)
    for _ in range(2):
        ledger.backlog = 1
        flusher.soon()
        await asyncio.sleep(FLUSH_S * 3)
    assert len(ledger.flushed) == 2


async def test_a_closed_one_flushes_no_more():
    ledger = Ledger(9)
    flusher = Flusher(ledger, int)
    flusher.soon()
    flusher.close()
    flusher.soon()
    await asyncio.sleep(FLUSH_S * 3)
    assert ledger.flushed == []

"""Receipts move into SQL by themselves, while there are any, and so do the figures of calls."""

import asyncio

import pytest

from penstock.flushing import FLUSH_ROWS, FLUSH_S, SOON_S, Flusher


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


async def test_figures_are_added_up_first_some_at_a_time():
    waiting, ledger, moved = [700], Ledger(2 * FLUSH_ROWS), []

    def add_up():
        moved.append(len(ledger.flushed))
        waiting[0] = max(0, waiting[0] - 100)
        return waiting[0]

    flusher = Flusher(ledger, add_up)
    flusher.soon()
    await asyncio.sleep(FLUSH_S * 4)
    assert waiting == [0]
    assert moved == [0] * 7 + [1]
    assert len(ledger.flushed) == 2
    assert flusher.timer is None


async def test_the_more_there_are_the_more_often_they_are_moved_and_about_as_many_each_time(monkeypatch):
    """On a clock of its own, so that it takes no time."""
    loop, ledger = asyncio.get_running_loop(), Ledger(0)
    flusher, waits = Flusher(ledger, int), []
    monkeypatch.setattr(loop, "call_later", lambda wait_s, _: waits.append(wait_s))

    def turns(rate, count):
        sizes = []
        for _ in range(count):
            before = ledger.backlog = ledger.backlog + max(1, round(rate * waits[-1]))
            flusher._flush()
            sizes.append(before - ledger.backlog)
            if not ledger.backlog:
                flusher.timer = None
                flusher.soon()
        return sizes[count // 2 :]

    flusher.soon()
    assert waits == [FLUSH_S]
    assert turns(100, 40) == [5] * 20, "nobody waits longer than that"
    sizes = turns(20_000, 200)
    assert sum(sizes) / len(sizes) > FLUSH_ROWS * 2 / 3
    assert ledger.backlog < 8 * FLUSH_ROWS
    assert turns(100, 40)[-5:] == [5] * 5
    assert all(SOON_S <= wait_s <= FLUSH_S for wait_s in waits)


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

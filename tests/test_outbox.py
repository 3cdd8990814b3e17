"""What is written in a turn of the loop leaves at its end, in order."""

import asyncio

from penstock.outbox import Outbox


class Sender:
    def __init__(self, number, sent):
        self.number, self.sent = number, sent

    def flush(self):
        self.sent.append(self.number)


async def test_whoever_has_something_to_write_does_so_at_the_end_of_the_turn_in_order():
    sent = []
    outbox = Outbox(asyncio.get_running_loop())
    for number in range(3):
        outbox.add(Sender(number, sent))
    assert sent == []
    await asyncio.sleep(0)
    assert sent == [0, 1, 2]


async def test_who_comes_while_others_write_has_its_turn_in_the_next_one():
    sent = []
    outbox = Outbox(asyncio.get_running_loop())

    class Again(Sender):
        def flush(self):
            super().flush()
            outbox.add(Sender("later", sent))

    outbox.add(Again("first", sent))
    await asyncio.sleep(0)
    assert sent == ["first"]
    await asyncio.sleep(0)
    assert sent == ["first", "later"]


async def test_every_turn_is_flushed_once():
    calls = []
    loop = asyncio.get_running_loop()

    class Loop:
        def call_soon(self, what):
            calls.append(what)
            return loop.call_soon(what)

    outbox = Outbox(Loop())
    for number in range(5):
        outbox.add(Sender(number, []))
    await asyncio.sleep(0)
    assert len(calls) == 1

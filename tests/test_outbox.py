"""What is written in a turn of the loop leaves at its end, in order."""

import asyncio

import pytest

from penstock.errors import Overloaded
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


# -- what has to be done before --


@pytest.fixture
async def outbox():
    return Outbox(asyncio.get_running_loop())


def test_a_loop_has_one_outbox():
    loops = asyncio.new_event_loop(), asyncio.new_event_loop()
    one, other = [Outbox.of(loop) for loop in loops]
    assert Outbox.of(loops[0]) is one is not other
    for loop in loops:
        loop.close()


async def test_what_has_to_be_done_before_is_done_before_anybody_writes_and_once(outbox):
    sent = []
    outbox.add(Sender("one", sent))
    outbox.before(lambda: sent.append("record"))
    outbox.add(Sender("two", sent))
    await asyncio.sleep(0)
    assert sent == ["record", "one", "two"]
    assert outbox.due == []
    await asyncio.sleep(0)
    assert len(sent) == 3


async def test_it_is_done_at_the_end_of_the_turn_even_if_nobody_writes(outbox):
    done = []
    outbox.before(lambda: done.append("record"))
    assert done == []
    await asyncio.sleep(0)
    assert done == ["record"]


async def test_whoever_cannot_wait_has_it_done_at_once_and_it_is_not_done_again(outbox):
    done = []
    outbox.before(lambda: done.append("record"))
    outbox.commit()
    assert done == ["record"]
    await asyncio.sleep(0)
    assert done == ["record"]


class Asked(Sender):
    """A request that may be taken back."""

    why = None

    def refuse(self, why):
        self.why = why

    def flush(self):
        self.sent.append((self.number, self.why))


async def test_a_request_whose_intent_could_not_be_written_is_taken_back_and_no_other(outbox):
    sent, lost = [], Overloaded("full")
    for name in ("a", "b"):
        outbox.intent = name
        outbox.add_request(Asked(name, sent))
    outbox.add_request(Asked("of a call before", sent))
    outbox.intent = "which goes nowhere"
    outbox.before(lambda: [outbox.refuse(name, lost) for name in ("a", "which goes nowhere", "unheard of")])
    await asyncio.sleep(0)
    assert sent == [("a", lost), ("b", None), ("of a call before", None)]
    outbox.add_request(Asked("of the next turn", sent))
    outbox.refuse("which goes nowhere", lost)
    outbox.refuse("b", lost)
    await asyncio.sleep(0)
    assert sent[-1] == ("of the next turn", None)


# -- what should never happen --


@pytest.fixture
async def told():
    """What the loop is told of."""
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    return reported


async def test_one_that_fails_keeps_nobody_from_writing(outbox, told):
    sent, broken = [], Sender("broken", None)
    for sender in (Sender(1, sent), broken, Sender(2, sent), Sender(3, sent)):
        outbox.add(sender)
    await asyncio.sleep(0)
    outbox.add(Sender(4, sent))
    await asyncio.sleep(0)
    assert sent == [1, 2, 3, 4]
    assert [type(error) for error in told] == [AttributeError]


async def test_nobody_writes_before_what_has_to_be_done_is_done_whatever_goes_wrong(outbox, told):
    sent, times = [], []

    def record():
        times.append(len(times))
        if len(times) < 3:
            raise MemoryError
        sent.append("record")

    outbox.before(record)
    outbox.add(Sender("one", sent))
    await asyncio.sleep(0)
    assert sent == []
    outbox.add(Sender("two", sent))
    for _ in range(3):
        await asyncio.sleep(0)
    assert sent == ["record", "one", "two"]
    assert [type(error) for error in told] == [MemoryError, MemoryError]

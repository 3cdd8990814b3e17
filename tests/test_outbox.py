"""What is written in a turn of the loop leaves at its end, in order."""

import asyncio

import pytest

from penstock.errors import Overloaded
from penstock.outbox import Outbox


class Sender:
    intent = ""

    def __init__(self, number, sent, pending=b"x"):
        self.number, self.sent, self.pending = number, sent, pending

    def send(self, data):
        assert data
        self.sent.append(self.number)


async def test_whoever_has_something_to_write_does_so_at_the_end_of_the_turn_in_order():
    sent = []
    outbox = Outbox(asyncio.get_running_loop())
    for number in range(3):
        outbox.add(Sender(number, sent))
    assert sent == []
    await asyncio.sleep(0)
    assert sent == [0, 1, 2]


async def test_what_is_of_no_more_use_is_not_written_and_nothing_is_written_twice(outbox):
    sent = []
    given_up, twice = Sender("given up", sent), Sender("twice", sent)
    for sender in (given_up, twice, twice):
        outbox.add(sender)
    given_up.pending = b""
    await asyncio.sleep(0)
    assert (sent, twice.pending) == (["twice"], b"")


async def test_what_is_left_for_the_end_of_the_turn_is_done_first_and_what_it_writes_leaves_with_the_rest(outbox):
    sent = []
    outbox.add(Sender("one", sent))
    outbox.before(lambda: sent.append("record"))

    def last():
        sent.append("last")
        outbox.add(Sender("two", sent))
        outbox.at_end(lambda: sent.append("of the next turn"))

    outbox.at_end(last)
    await asyncio.sleep(0)
    assert sent == ["last", "record", "one", "two"]
    await asyncio.sleep(0)
    assert sent[4:] == ["of the next turn"]
    await asyncio.sleep(0)
    assert len(sent) == 5


async def test_a_defect_of_what_was_left_for_the_end_keeps_nothing_else_from_being_done(outbox, told):
    sent = []
    outbox.add(Sender("one", sent))
    outbox.at_end(lambda: 1 // 0)
    outbox.at_end(lambda: sent.append("last"))
    await asyncio.sleep(0)
    assert sent == []
    await asyncio.sleep(0)
    assert sent == ["last", "one"]
    assert [type(error) for error in told] == [ZeroDivisionError]


async def test_who_comes_while_others_write_has_its_turn_in_the_next_one():
    sent = []
    outbox = Outbox(asyncio.get_running_loop())

    class Again(Sender):
        def send(self, data):
            super().send(data)
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

    def send(self, data):
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

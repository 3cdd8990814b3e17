"""A supervisor's side and a worker's side on real pipes."""

import asyncio
import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import Mistake
from penstock.server.channel import Answer, Ask, Channel, Failed, Order, Pipe, Ready, Worker, tell


@pytest.fixture
def pipes():
    (one, two), (three, four) = os.pipe(), os.pipe()
    made = [Pipe(one, four), Pipe(three, two)]
    yield made
    for pipe in made:
        pipe.close()


MESSAGES = (
    Ready(),
    Failed("penstock.toml", (Mistake("a.b", "is wrong.", 3, "Correct it."),), "words"),
    Order("drain", patient=True),
    Ask(1, "metrics"),
    Answer(1, b"\x00" * 100),
)


def test_messages_arrive_as_they_were_sent(pipes):
    ours, theirs = pipes
    for message in MESSAGES:
        assert not ours.send(message)

    assert theirs.receive() == list(MESSAGES)
    assert theirs.receive() == []


@given(st.lists(st.integers(1, 30), max_size=20))
def test_messages_arrive_however_the_bytes_are_cut(cuts):
    (reads, writes), (other, unused) = os.pipe(), os.pipe()
    data = b"".join(
        len(one).to_bytes(4, "big") + one for one in (msgspec.msgpack.encode(message) for message in MESSAGES)
    )
    pipe, found = Pipe(reads, unused), []
    for cut in [*cuts, len(data)]:
        piece, data = data[:cut], data[cut:]
        os.write(writes, piece)
        found += pipe.receive()
    pipe.close()
    for one in (writes, other):
        os.close(one)

    assert found == list(MESSAGES)


def test_what_a_pipe_does_not_take_is_sent_later(pipes):
    ours, theirs = pipes
    large = Answer(1, b"x" * 1_000_000)
    assert ours.send(large)
    assert ours.send(Ready())
    found = []
    while ours.flush() or not found:
        found += theirs.receive()
    found += theirs.receive()

    assert found == [large, Ready()]


def test_the_end_of_the_other_side_is_seen_and_writing_to_it_is_no_error(pipes):
    ours, theirs = pipes
    theirs.send(Ready())
    for descriptor in (theirs.reads, theirs.writes):
        os.close(descriptor)
    theirs.reads, theirs.writes = os.pipe()  # for the fixture to close

    assert not ours.send(Ready())
    assert ours.receive() == [Ready()] or ours.receive() is None
    assert ours.receive() is None


def test_last_words_are_said_however_long_the_pipe_takes(pipes):
    ours, theirs = pipes
    tell(theirs, Failed("", (), "no"))

    assert ours.receive() == [Failed("", (), "no")]


class Both:
    """A worker's channel, and what its supervisor sees of it."""

    def __init__(self, ours, theirs):
        self.ours, self.orders = ours, []
        self.channel = Channel(2, theirs)
        self.channel.open(self.orders.append, self.answer)

    async def answer(self, what):
        return what.encode() * (1_000_000 if what == "metrics" else 1)

    async def heard(self):
        async with asyncio.timeout(2):
            while not (messages := self.ours.receive()):
                self.ours.flush()
                await asyncio.sleep(0.001)
        return messages


@pytest.fixture
async def both(pipes):
    one = Both(*pipes)
    assert await one.heard() == [Ready()]
    yield one
    one.channel.close()


async def test_a_worker_obeys_answers_and_asks(both):
    both.ours.send(Order("announce"))
    both.ours.send(Ask(7, "health"))
    assert await both.heard() == [Answer(7, b"health")]
    assert both.orders == [Order("announce")]
    asking = asyncio.create_task(both.channel.gather("metrics"))
    (ask,) = await both.heard()
    both.ours.send(Answer(99, b"?"))
    both.ours.send(Answer(ask.number, msgspec.msgpack.encode({1: b"a", 2: b"b"})))

    assert ask.what == "metrics"
    assert await asking == {1: b"a", 2: b"b"}


async def test_an_answer_larger_than_the_pipe_arrives_whole(both):
    both.ours.send(Ask(7, "metrics"))
    assert await both.heard() == [Answer(7, b"metrics" * 1_000_000)]


async def test_a_supervisor_that_does_not_answer_is_not_waited_for(both, monkeypatch):
    monkeypatch.setattr("penstock.server.channel._ANSWER_S", 0.02)
    with pytest.raises(TimeoutError):
        await both.channel.ask("reload")


async def test_a_supervisor_that_is_gone_is_an_order_to_end(both):
    ours = both.ours
    for descriptor in (ours.reads, ours.writes):
        os.close(descriptor)
    ours.reads, ours.writes = os.pipe()
    for _ in range(1000):
        await asyncio.sleep(0 if both.orders else 0.001)

    assert both.orders == [None]


def test_a_worker_is_not_ready_before_it_says_so(pipes):
    assert not Worker(1, 2, pipes[0], 0).ready

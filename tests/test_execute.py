"""Driving the tries of a call: the commit point, the verdict, what is left open."""

import asyncio
import time
from random import Random

import pytest

from penstock.call import Call, Content, Sampling
from penstock.errors import (
    DeadlineExceeded,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.execute import Driver, Rules
from penstock.live_try import LiveTry
from penstock.policy.queue import FairQueue
from penstock.reply import Chunk, Ended, Failed, Finished, Started, TextDelta
from penstock.routing.attempts import Patience
from penstock.routing.health import Health, HealthSettings
from penstock.target import Target

CALL = Call(dialect="chat", model="fast", sampling=Sampling(), read=lambda: Content(()))
ONE = Target(id="a/one", provider="a", model="one", dialect="chat")
TWO = Target(id="b/two", provider="b", model="two", dialect="chat")
NOW = Patience(base_s=0.0)


class Played:
    """A provider that plays a list of replies: an error, or the chunks of an exchange (an error among them is raised)."""

    dialect = "chat"

    def __init__(self, *replies):
        self.replies = list(replies)
        self.exchanges = []

    async def send(self, call, target, deadline):
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        self.exchanges.append(PlayedExchange(reply))
        return self.exchanges[-1]


class PlayedExchange:
    lane, dropped, status, headers = "verbatim", (), 200, ()

    def __init__(self, chunks):
        self.chunks = list(chunks)
        self.closed = 0

    async def read(self):
        if not self.chunks:
            return None
        chunk = self.chunks.pop(0)
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def close(self):
        self.closed += 1


class Asked:
    """A call to be answered."""

    def __init__(self, driver, deadline):
        self.call = CALL
        self.deadline = deadline
        self.error = None
        self.tries: list[LiveTry] = []
        self.asked_tokens = 0
        self._driver = driver

    async def run(self, targets):
        return await self._driver.run(self, targets)


class NobodyStands:
    """A line that nobody has to stand in."""

    queue = FairQueue(0)


def driver(providers, patience=NOW, clock=time.monotonic, again=lambda _: None):
    health = Health({name: HealthSettings() for name in ("a", "b")}, clock())
    return Driver(providers, Rules(health, patience, Random(1)), NobodyStands(), clock, again)


def execution(deadline=1e9, patience=NOW, **providers):
    return Asked(driver(providers, patience), deadline)


HELLO = Chunk((TextDelta("hello"),), b"hello")


async def test_the_first_content_commits_a_try():
    run = execution(a=Played([HELLO]))
    live, chunk = await run.run((ONE,))
    assert (live.target, chunk) == (ONE, HELLO)
    assert live.status == "open"


async def test_what_came_before_the_content_goes_along_with_it():
    run = execution(a=Played([Chunk((Started(id="1"),), b"1"), Chunk((), b"2"), HELLO]))
    _, chunk = await run.run((ONE,))
    assert chunk == Chunk((Started(id="1"), TextDelta("hello")), b"12hello")


async def test_events_without_bytes_stay_without_bytes():
    run = execution(a=Played([Chunk((Started(),)), Chunk((TextDelta("x"),))]))
    _, chunk = await run.run((ONE,))
    assert chunk.raw is None


async def test_an_error_before_the_content_lets_another_target_answer_and_closes_the_first():
    first = Played([Chunk((Started(),), b""), Chunk((Failed(UpstreamGarbled("in-band")),), b"")])
    run = execution(a=first, b=Played([HELLO]))
    live, _ = await run.run((ONE, TWO))
    assert live.target == TWO
    assert [t.status for t in run.tries] == ["error", "open"]
    assert first.exchanges[0].closed


async def test_a_reply_without_content_is_no_answer():
    for chunks in ([], [Chunk((Ended(),), b"")], [Chunk((Started(),), b"")]):
        run = execution(a=Played(chunks), b=Played([HELLO]))
        live, _ = await run.run((ONE, TWO))
        assert live.target == TWO
        assert run.tries[0].error.code == "upstream_garbled"


async def test_an_answer_of_nothing_that_is_finished_is_an_answer():
    run = execution(a=Played([Chunk((Finished("stop"), Ended()), b"x")]))
    live, _ = await run.run((ONE,))
    assert live.target == ONE


async def test_a_cut_before_the_content_is_retried():
    run = execution(a=Played([UpstreamFailed("reset")], [HELLO]))
    live, _ = await run.run((ONE,))
    assert live.kind == "retry"


async def test_one_try_gives_its_own_error_and_a_mistake_of_the_caller_is_passed_on_whole():
    error = UpstreamRejected("bad schema")
    with pytest.raises(UpstreamRejected) as raised:
        await execution(a=Played(error)).run((ONE, TWO))
    assert raised.value is error


async def test_several_tries_give_one_error_that_tells_of_all_and_keeps_the_shortest_wait():
    run = execution(
        patience=Patience(retries=0),
        a=Played(UpstreamRateLimited("slow down", retry_after_s=20.0)),
        b=Played(UpstreamRateLimited("me too", retry_after_s=10.0)),
    )
    with pytest.raises(UpstreamRateLimited) as raised:
        await run.run((ONE, TWO))
    assert str(raised.value) == "All 2 tries failed. a/one: slow down; b/two: me too."
    assert raised.value.retry_after_s == 10.0


async def test_no_try_is_made_after_the_deadline():
    provider = Played([HELLO])
    with pytest.raises(DeadlineExceeded):
        await execution(deadline=0.0, a=provider).run((ONE,))
    assert provider.exchanges == []


async def test_a_wait_is_waited_for():
    run = execution(patience=Patience(base_s=0.001), a=Played(UpstreamFailed("500"), [HELLO]))
    live, _ = await run.run((ONE,))
    assert live.kind == "retry"


async def test_cancelling_leaves_the_try_open_for_the_settlement_to_close():
    class Stuck(PlayedExchange):
        async def read(self):
            await asyncio.Event().wait()

    provider = Played()

    async def send(*_):
        provider.exchanges.append(Stuck([]))
        return provider.exchanges[-1]

    provider.send = send
    run = execution(a=provider)
    task = asyncio.create_task(run.run((ONE,)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    run.tries[0].end("cancelled", 1.0)
    assert provider.exchanges[0].closed == 1
    run.tries[0].end("ok", 2.0)
    assert run.tries[0].status == "cancelled"


async def test_a_first_target_that_may_not_be_called_is_passed_over():
    run = execution(a=Played([HELLO]), b=Played([HELLO]))
    health = run._driver._rules.health
    for _ in range(5):
        health.enter(ONE, 0.0).leave(time.monotonic(), "failed")
    live, _ = await run.run((ONE, TWO))
    assert (live.target, live.kind, [state.in_flight for state in health.states(0.0)]) == (TWO, "first", [0, 1])


async def test_the_room_of_a_first_try_that_failed_is_given_back_before_the_next():
    run = execution(patience=Patience(retries=0), a=Played(UpstreamFailed("500")), b=Played([HELLO]))
    live, _ = await run.run((ONE, TWO))
    health = run._driver._rules.health
    assert (live.kind, [one.kind for one in run.tries]) == ("fallback", ["first", "fallback"])
    assert [(state.target, state.in_flight, state.failures) for state in health.states(time.monotonic())] == [
        ("a/one", 0, 1),
        ("b/two", 1, 0),
    ]

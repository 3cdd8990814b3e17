"""One thread for a model: jobs in turn, tokens back to the loop, nothing after a cancel, everybody told when it ends."""

import asyncio
import threading
import traceback

import pytest

from penstock.errors import InvalidRequest, UpstreamFailed, UpstreamMissing, UpstreamOverloaded
from penstock.providers.worker import Job, Worker


class Counting:
    """An engine whose tokens are numbers: an order is how many. It goes on only while it is allowed to."""

    def __init__(self, slots=2):
        self.slots = slots
        self.left = {}
        self.cancelled = []
        self.threads = set()
        self.go = threading.Semaphore(10_000)
        self.fails = None
        self._next = 0

    @property
    def free(self):
        return self.slots - len(self.left)

    def prompt(self, order):
        return [0] * order

    def begin(self, order):
        if order < 0:
            raise InvalidRequest("no")
        self._next += 1
        self.left[self._next] = order
        return [self._next]

    def step(self):
        self.go.acquire()
        self.threads.add(threading.current_thread())
        if self.fails is not None:
            raise self.fails
        for ticket in self.left:
            self.left[ticket] -= 1
        out = [(ticket, left, left == 0) for ticket, left in self.left.items()]
        self.left = {ticket: left for ticket, left in self.left.items() if left}
        return out

    def cancel(self, ticket):
        self.cancelled.append(ticket)
        self.left.pop(ticket, None)


class Listener:
    def __init__(self, order):
        self.tokens = []
        self.error = None
        self.begun = asyncio.Event()
        self.over = asyncio.Event()
        self.job = Job(order, 1, self.told)

    def told(self, what):
        if isinstance(what, Exception):
            self.error = what
        else:
            self.tokens += [step.token for step in what]
            self.begun.set()
        if self.job.done:
            self.over.set()

    async def end(self):
        async with asyncio.timeout(5):
            await self.over.wait()


async def worked(engine, *orders, most=100):
    worker = Worker("mini", lambda: engine, most)
    listeners = [Listener(order) for order in orders]
    for one in listeners:
        worker.submit(one.job)
    return worker, listeners


async def test_every_job_gets_its_tokens_in_order_whatever_else_runs():
    engine = Counting()
    worker, listeners = await worked(engine, 3, 5, 1, 4)
    for one in listeners:
        await one.end()
    await worker.close()

    assert [one.tokens for one in listeners] == [[2, 1, 0], [4, 3, 2, 1, 0], [0], [3, 2, 1, 0]]
    assert threading.main_thread() not in engine.threads


async def test_a_cancelled_job_is_out_before_the_next_token_and_nothing_more_is_told():
    engine = Counting()
    engine.go = threading.Semaphore(0)
    worker, (one,) = await worked(engine, 1000)
    engine.go.release()
    async with asyncio.timeout(5):
        await one.begun.wait()
    seen = len(one.tokens)
    worker.cancel(one.job)
    worker.cancel(one.job)
    engine.go.release()
    engine.go.release()
    await worker.run(lambda _: None)
    await asyncio.sleep(0)

    assert len(one.tokens) == seen
    assert engine.cancelled == [1]
    assert not engine.left
    await worker.close()


async def test_a_job_that_is_cancelled_while_it_waits_never_begins():
    engine = Counting(slots=1)
    engine.go = threading.Semaphore(0)
    worker, (first, second) = await worked(engine, 2, 2)
    worker.cancel(second.job)
    engine.go.release(5)
    await first.end()
    await worker.run(lambda _: None)

    assert second.tokens == []
    assert engine._next == 1
    await worker.close()


async def test_more_than_it_takes_is_refused_with_a_time_to_come_again():
    engine = Counting()
    engine.go = threading.Semaphore(0)
    worker, listeners = await worked(engine, 2, 2, 2, most=3)
    with pytest.raises(UpstreamOverloaded) as raised:
        worker.submit(Listener(1).job)
    assert raised.value.retry_after_s == 1.0

    engine.go.release(100)
    for one in listeners:
        await one.end()
    again = Listener(1)
    worker.submit(again.job)
    await again.end()
    await worker.close()


async def test_an_order_that_the_engine_refuses_ends_that_job_alone():
    worker, (good, bad) = await worked(Counting(), 2, -1)
    await good.end()
    await bad.end()
    await worker.close()

    assert good.tokens == [1, 0]
    assert isinstance(bad.error, InvalidRequest)


async def test_a_model_that_breaks_ends_every_job_and_all_that_come_later():
    engine = Counting(slots=1)
    engine.fails = UpstreamFailed("no numbers")
    worker, listeners = await worked(engine, 2, 2)
    for one in listeners:
        await one.end()

    assert [str(one.error) for one in listeners] == ["no numbers", "no numbers"]
    with pytest.raises(UpstreamMissing, match="no numbers"):
        worker.submit(Listener(1).job)
    with pytest.raises(UpstreamMissing, match="no numbers"):
        await worker.run(lambda _: None)
    await worker.close()


async def test_each_call_to_a_model_that_is_gone_gets_an_error_of_its_own_and_no_second_try():
    engine = Counting(slots=1)
    engine.fails = UpstreamFailed("no numbers", hint="Look.")
    worker, listeners = await worked(engine, 2, 2)
    asked = [asyncio.create_task(worker.run(lambda _: None)) for _ in range(2)]
    for one in listeners:
        await one.end()
    errors = [one.error for one in listeners]
    errors += [one for one in await asyncio.gather(*asked, return_exceptions=True) if one is not None]
    for _ in range(3):
        with pytest.raises(UpstreamMissing) as caught:
            worker.submit(Listener(1).job)
        errors.append(caught.value)
    await worker.close()

    assert len({id(error) for error in errors}) == len(errors) >= 5  # each has the id of its own call
    assert {(error.message, error.hint, error.then) for error in errors} == {("no numbers", "Look.", "next")}
    assert len(traceback.extract_tb(errors[-1].__traceback__)) == 2  # nothing of the calls before it is kept


async def test_a_model_that_cannot_be_loaded_is_told_to_whoever_waits():
    def load():
        raise UpstreamFailed("no such folder")

    worker = Worker("mini", load, 10)
    one = Listener(1)
    worker.submit(one.job)
    with pytest.raises(UpstreamMissing, match="no such folder"):
        await worker.run(lambda _: None)
    await one.end()

    assert str(one.error) == "no such folder"
    await worker.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_defect_of_the_engine_leaves_nobody_waiting():
    engine = Counting()
    engine.fails = ZeroDivisionError()
    worker, (one,) = await worked(engine, 1)
    await one.end()

    assert "ended; the log says why" in str(one.error)
    await worker.close()


async def test_work_between_two_tokens_gives_its_result_or_its_error():
    def refuse(_):
        raise InvalidRequest("not this")

    worker = Worker("mini", Counting, 10)
    assert await worker.run(lambda engine: engine.prompt(7)) == [0] * 7
    with pytest.raises(InvalidRequest, match="not this"):
        await worker.run(refuse)
    await worker.close()


async def test_closing_ends_what_runs_and_waits_for_the_thread():
    engine = Counting()
    worker, (one,) = await worked(engine, 10**9)
    await asyncio.sleep(0.01)
    await worker.close()
    await one.end()

    assert "was closed" in str(one.error)
    assert not any(thread.name == "penstock-mini" for thread in threading.enumerate())
    await worker.close()


async def test_whoever_no_longer_waits_for_work_is_not_told():
    worker = Worker("mini", Counting, 10)
    await worker.run(lambda _: None)
    held = threading.Event()
    for refusal in (False, True):
        held.clear()

        def slow(_, refusal=refusal):
            held.wait(5)
            if refusal:
                raise InvalidRequest("late")

        task = asyncio.create_task(worker.run(slow))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        held.set()
        await worker.run(lambda _: None)
    await worker.close()

"""One call that several follow: what each of them gets and when, and who ends it. Through `Sharing`, as it is used."""

import asyncio
import gc
import weakref
from contextlib import asynccontextmanager

import pytest

from penstock.broadcast import AHEAD_BYTES, RECORD_BYTES, Joining, again
from penstock.errors import (
    ClientClosed,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    Overloaded,
    UpstreamFailed,
)
from penstock.event import Ended, Failed, Finished, TextDelta
from penstock.ledger.cache import ReplyCache, Stored
from penstock.receipt import Receipt
from penstock.reply import Chunk, Opening
from penstock.sharing import Sharing, Terms

KEY = b"k"
FRESH = Terms(60.0)
GOOD = (*(Chunk((TextDelta(text),)) for text in ("one ", "two ", "three")),)


def receipt(call_id, error=None):
    code = None if error is None else error.code
    return Receipt(call_id, 1, "chat", "fast", "ok" if error is None else "error", 200, error=code)


def end(call_id="work", error=None):
    last = (Finished("stop"), Ended()) if error is None else (Failed(error),)
    return Chunk(last, None, receipt(call_id, error))


class Work:
    """A call whose chunks come when the test says so. It has the face of a `Flow`, and notes how it was settled."""

    def __init__(self, *, fails=None, opens=True):
        self.opening = Opening("work", "box/m", "translated", 1)
        self.begun = 0
        self.settled = []
        self.gate = asyncio.Event()
        self.paused = 0
        self.given = 0
        self._fails = fails
        self._chunks = asyncio.Queue()
        if opens:
            self.gate.set()

    async def __call__(self):
        self.begun += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError as why:
            self.settled.append(("cancelled", why.args))
            raise
        if self._fails is not None:
            self.settled.append(("failed",))
            raise self._fails
        return self

    def say(self, *chunks):
        for chunk in chunks:
            self._chunks.put_nowait(chunk)

    async def pump(self, give, room):
        try:
            while True:
                chunk = await self._chunks.get()
                is_full = give(chunk)
                self.given += 1
                if chunk.receipt is not None:
                    self.settled.append(("done",))
                    return
                if is_full:
                    self.paused += 1
                    await room()
        except asyncio.CancelledError as why:
            self.settled.append(("cancelled", why.args))
            if "shutting down" in why.args:
                give(end(error=Overloaded("shut down")))
            raise

    def close(self):
        self.settled.append(("closed",))


class Caller:
    """One caller, with what it was told and how it was settled."""

    def __init__(self, name="me", within_s=60.0):
        self.name, self.within_s = name, within_s
        self.endings = []
        self.theirs = []
        self.chunks = []
        self.following = None

    def finish(self, error, theirs):
        self.endings.append(error)
        self.theirs.append(theirs and theirs.id)
        return receipt(self.name, error)

    async def begin(self, share, work, terms=FRESH, key=KEY):
        deadline = share.clock() + self.within_s
        self.following = await share.begin(key, terms, work, Joining(self.name, deadline, self.finish))
        return self.following

    async def run(self, share, work, terms=FRESH):
        """What the server does with a call: begin, pump, close."""
        flow = await self.begin(share, work, terms)
        if isinstance(flow, Stored):
            self.chunks.append(flow.chunk)
            return self
        try:
            await flow.pump(self.give, self.room)
        finally:
            flow.close()
        return self

    def give(self, chunk):
        self.chunks.append(chunk)
        return False

    async def room(self):
        raise AssertionError("nobody asked to pause")

    @property
    def text(self):
        return "".join(e.text for chunk in self.chunks for e in chunk.events if isinstance(e, TextDelta))


@asynccontextmanager
async def shared(cache=None, clock=None):
    """A `Sharing`; when the test ends, nothing runs and nothing went wrong unheard."""
    loop = asyncio.get_running_loop()
    reported = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    share = Sharing(ReplyCache() if cache is None else cache, clock or loop.time)
    share.clock = clock or loop.time
    yield share
    await share.close()
    assert share.running == 0
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
    assert reported == []


async def turns(number=10):
    for _ in range(number):
        await asyncio.sleep(0)


class Logged(str):
    """A text that can be watched."""

    __slots__ = ("__weakref__",)


# -- one call for many --


async def test_each_has_its_own_id_in_the_opening():
    async with shared() as share:
        work, one, two = Work(), Caller("one"), Caller("two")
        await one.begin(share, work)
        await two.begin(share, work)
        assert (one.following.opening.call_id, two.following.opening.call_id) == ("work", "two")
        assert (one.following.leads, two.following.leads) == (True, False)
        assert two.following.opening.target == "box/m"
        work.say(end())
        for caller in (one, two):
            assert (await caller.following.next()).receipt.id == ("work" if caller is one else "two")
            assert await caller.following.next() is None
            assert caller.following.done
            caller.following.close()
        assert (two.endings, two.theirs) == ([None], ["work"])


async def test_chunks_come_as_they_arrive_and_late_ones_get_what_was_said_first():
    async with shared() as share:
        work, one, late = Work(), Caller("one"), Caller("late")
        running = [asyncio.create_task(one.run(share, work))]
        await turns()
        for number, chunk in enumerate(GOOD[:2], 1):
            work.say(chunk)
            await turns()
            assert len(one.chunks) == number
        running.append(asyncio.create_task(late.run(share, work)))
        await turns()
        assert late.text == "one two "
        work.say(GOOD[2], end())
        await asyncio.gather(*running)
        assert late.text == one.text == "one two three"
        assert late.chunks[-1].events == (Finished("stop"), Ended())


# -- errors --


async def test_an_error_before_the_opening_reaches_everybody_as_an_error_of_its_own():
    async with shared() as share:
        failure = UpstreamFailed("All 3 tries failed.", hint="Wait.", status=503, retry_after_s=2.0)
        work = Work(fails=failure, opens=False)
        callers = [Caller(f"c{n}") for n in range(3)]
        running = [asyncio.create_task(caller.begin(share, work)) for caller in callers]
        await turns()
        failure.call_id = "work"
        work.gate.set()
        raised = await asyncio.gather(*running, return_exceptions=True)
        assert raised[0] is failure
        for number, error in enumerate(raised[1:], 1):
            assert type(error) is UpstreamFailed
            assert error is callers[number].endings[0]
            assert (str(error), error.status, error.retry_after_s) == ("All 3 tries failed. Wait.", 503, 2.0)
            assert error.call_id == ""
        assert len({id(error) for error in raised}) == 3
        assert [len(caller.endings) for caller in callers] == [0, 1, 1]
        assert share.running == 0


async def test_an_error_in_the_middle_is_the_last_chunk_of_each():
    async with shared() as share:
        failure, work = UpstreamFailed("it broke"), Work()
        callers = [Caller("a"), Caller("b")]
        running = [asyncio.create_task(caller.run(share, work)) for caller in callers]
        await turns()
        work.say(GOOD[0], end(error=failure))
        await asyncio.gather(*running)
        mine, theirs = (caller.chunks[-1] for caller in callers)
        assert mine.events == (Failed(failure),)
        assert theirs.events[0].error is not failure
        assert str(theirs.events[0].error) == "it broke"
        assert theirs.receipt == receipt("b", failure)
        assert callers[1].endings == [theirs.events[0].error]


async def test_a_defect_of_the_work_hangs_nobody():
    class Defect(Exception):
        pass

    async with shared() as share:

        async def work():
            await asyncio.sleep(0)
            raise Defect

        callers = [asyncio.create_task(Caller().begin(share, work)) for _ in range(2)]
        await turns(1)
        (broadcast,) = share._all
        done, _ = await asyncio.wait(callers, timeout=2)
        assert [type(task.exception()) for task in done] == [Internal, Internal]
        assert isinstance(broadcast.task.exception(), Defect), "which the loop reports, if nobody asks"


async def test_an_answer_without_a_last_chunk_ends_in_an_error():
    class Mute(Work):
        async def pump(self, give, room):
            give(GOOD[0])

    async with shared() as share:
        work, caller, other = Mute(), Caller("a"), Caller("b")
        await asyncio.gather(caller.run(share, work), other.run(share, work))
        assert isinstance(caller.chunks[-1].events[0].error, Internal)
        assert isinstance(other.chunks[-1].events[0].error, Internal)
        assert other.chunks[-1].receipt == receipt("b", Internal("x"))


def test_a_copy_of_an_error_says_the_same_and_belongs_to_nobody():
    error = InvalidRequest("No.", hint="Do.", param="model", status=422)
    error.call_id, error.worked = "call-1", True
    copy = again(error)
    assert type(copy) is InvalidRequest
    assert (copy.message, copy.hint, copy.param, copy.status, copy.worked) == ("No.", "Do.", "model", 422, True)
    assert (copy.call_id, error.call_id) == ("", "call-1")
    assert str(copy) == str(error)


# -- leaving --


@pytest.mark.parametrize("when", ["before the opening", "in the middle"])
@pytest.mark.parametrize("who", ["the leader", "a follower"])
async def test_who_leaves_ends_nothing_while_another_follows(when, who):
    async with shared() as share:
        work = Work(opens=when != "before the opening")
        callers = [Caller("a"), Caller("b"), Caller("c")]
        running = [asyncio.create_task(caller.run(share, work)) for caller in callers]
        await turns()
        work.say(GOOD[0])
        await turns()
        leaving = 0 if who == "the leader" else 1
        running.pop(leaving).cancel()
        await turns()
        assert work.settled == []
        work.gate.set()
        work.say(*GOOD[1:], end())
        await asyncio.gather(*running)

        gone = callers.pop(leaving)
        assert [caller.text for caller in callers] == ["one two three"] * 2
        assert work.settled == [("done",), ("closed",)]
        assert [type(error) for error in gone.endings] == ([] if who == "the leader" else [ClientClosed])
        assert isinstance(await Caller().begin(share, Work()), Stored), "it came to its end, so it is remembered"


@pytest.mark.parametrize("when", ["before the opening", "in the middle"])
async def test_when_the_last_one_leaves_the_work_is_cancelled(when):
    async with shared() as share:
        work = Work(opens=when != "before the opening")
        callers = [Caller("a"), Caller("b")]
        running = [asyncio.create_task(caller.run(share, work)) for caller in callers]
        await turns()
        work.say(GOOD[0])
        await turns()
        for task in running:
            assert work.settled == []
            task.cancel()
            await turns()
        assert work.settled[0] == ("cancelled", ())
        assert share.running == 0
        assert [type(error) for error in callers[1].endings] == [ClientClosed]
        assert all(task.cancelled() for task in running)


async def test_closing_twice_or_after_the_end_settles_once():
    async with shared() as share:
        work, one, two = Work(), Caller("one"), Caller("two")
        await one.begin(share, work)
        await two.begin(share, work)
        two.following.close()
        two.following.close()
        assert [type(error) for error in two.endings] == [ClientClosed]
        assert await two.following.next() is None
        work.say(end())
        while await one.following.next():
            one.following.close()
        assert one.endings == []
        await turns()
        assert work.settled == [("done",), ("closed",)]


# -- time --


async def test_a_follower_keeps_its_own_deadline_before_the_opening():
    async with shared() as share:
        work, hasty = Work(opens=False), Caller("hasty", within_s=0.02)
        leader = asyncio.create_task(Caller("leader").run(share, work))
        await turns()
        with pytest.raises(DeadlineExceeded):
            await hasty.begin(share, work)
        assert [type(error) for error in hasty.endings] == [DeadlineExceeded]
        work.gate.set()
        work.say(end())
        await leader
        assert work.begun == 1


async def test_a_follower_keeps_its_own_deadline_in_the_middle():
    async with shared() as share:
        work, hasty, patient = Work(), Caller("hasty", within_s=0.02), Caller("patient")
        running = [asyncio.create_task(patient.run(share, work)), asyncio.create_task(hasty.run(share, work))]
        work.say(GOOD[0])
        await running[1]
        assert isinstance(hasty.chunks[-1].events[0].error, DeadlineExceeded)
        assert hasty.chunks[-1].receipt == receipt("hasty", DeadlineExceeded("x"))
        assert len(hasty.endings) == 1
        work.say(end())
        await running[0]
        assert patient.text == "one "


async def test_no_deadline_is_fine():
    async with shared() as share:
        work, one, two = Work(), Caller(), Caller(within_s=float("inf"))
        running = [asyncio.create_task(caller.run(share, work)) for caller in (one, two)]
        await turns()
        work.say(end())
        await asyncio.gather(*running)


# -- the end of the process --


async def test_at_a_shutdown_everybody_gets_a_last_word():
    async with shared() as share:
        work, callers = Work(), [Caller("a"), Caller("b")]
        running = [asyncio.create_task(caller.run(share, work)) for caller in callers]
        await turns()
        work.say(GOOD[0])
        await turns()
        for task in running:
            task.cancel("shutting down")
        done = await asyncio.gather(*running, return_exceptions=True)
        assert [type(error) for error in done] == [asyncio.CancelledError] * 2
        assert work.settled[0] == ("cancelled", ("shutting down",))
        for caller in callers:
            assert isinstance(caller.chunks[-1].events[0].error, Overloaded)
            assert caller.chunks[-1].receipt is not None
        assert [caller.chunks[-1].receipt.id for caller in callers] == ["work", "b"]


async def test_work_that_takes_its_time_to_end_is_cancelled_once():
    class Tidy(Work):
        async def __call__(self):
            try:
                await self.gate.wait()
            finally:
                await turns(20)
                self.settled.append(("tidy",))

    async with shared() as share:
        work = Tidy(opens=False)
        running = asyncio.create_task(Caller().begin(share, work))
        await turns()
        running.cancel("shutting down")
        await turns(5)
        assert work.settled == []
        await share.close()
        assert work.settled == [("tidy",)]


async def test_at_a_shutdown_before_the_opening_all_are_settled():
    async with shared() as share:
        work, callers = Work(opens=False), [Caller("a"), Caller("b")]
        running = [asyncio.create_task(caller.run(share, work)) for caller in callers]
        await turns()
        for task in reversed(running):
            task.cancel("shutting down")
        await asyncio.gather(*running, return_exceptions=True)
        await turns()
        assert work.settled == [("cancelled", ("shutting down",))]
        assert [type(error) for error in callers[1].endings] == [Overloaded]


# -- slow callers and long answers --


def long(number, length=64 << 10):
    return Chunk((TextDelta(f"{number:06d}" + "x" * length),))


async def test_a_slow_follower_does_not_slow_the_others():
    async with shared() as share:
        work, slow, fast = Work(), Caller("slow"), Caller("fast")
        await slow.begin(share, work)
        running = asyncio.create_task(fast.run(share, work))
        await turns()
        for number in range(60):
            work.say(long(number))
            await turns(6)
        assert len(fast.chunks) == 60
        work.say(end())
        await running
        texts = []
        while chunk := await slow.following.next():
            texts.append(chunk)
        assert len(texts) == 61, "and it gets all of it"
        assert texts[-1].receipt.id == "work"


async def test_the_source_waits_for_the_fastest():
    async with shared() as share:
        work, only = Work(), Caller()
        await only.begin(share, work)
        work.say(*(long(number) for number in range(30)), end())
        await turns(100)
        assert work.given * (64 << 10) <= AHEAD_BYTES + (128 << 10)
        got = 0
        while chunk := await only.following.next():
            got += chunk.receipt is None
            await turns(3)
        assert got == 30
        assert work.paused > 2


async def test_the_source_goes_on_when_the_one_it_waits_for_leaves():
    async with shared() as share:
        work, fast, slow = Work(), Caller("fast"), Caller("slow")
        await fast.begin(share, work)
        await slow.begin(share, work)
        work.say(*(long(number) for number in range(30)), end())
        await turns(100)
        fast.following.close()
        texts = []
        while chunk := await slow.following.next():
            texts.append(chunk)
            await turns(3)
        assert len(texts) == 31


async def test_a_very_long_answer_is_followed_by_nobody_new_and_forgotten_where_it_was_read():
    async with shared() as share:
        work, caller, other = Work(), Caller(), Work()
        running = asyncio.create_task(caller.run(share, work))
        await turns()
        for _ in range(2 * (RECORD_BYTES >> 20)):
            work.say(Chunk((TextDelta("x" * (1 << 20)),)))
            await turns(8)
        (broadcast,) = share._all
        assert broadcast._bytes <= RECORD_BYTES + (2 << 20)
        assert broadcast._first > 0
        assert share.running == 0
        await Caller().begin(share, other)
        assert other.begun == 1
        work.say(end())
        await running
        assert len(caller.text) == 2 * RECORD_BYTES
        assert share.stale(KEY, 60.0) is None


@pytest.mark.parametrize("slow_leads", [True, False])
async def test_one_that_lags_too_far_behind_is_let_go(slow_leads):
    async with shared() as share:
        work, slow, fast = Work(), Caller("slow"), Caller("fast")
        running = None
        if not slow_leads:
            running = asyncio.create_task(fast.run(share, work))
            await turns()
        await slow.begin(share, work)
        if slow_leads:
            running = asyncio.create_task(fast.run(share, work))
            await turns()
        for _ in range(2 * (RECORD_BYTES >> 20)):
            work.say(Chunk((TextDelta("x" * (1 << 20)),)))
            await turns(8)
        (broadcast,) = share._all
        assert broadcast._bytes <= RECORD_BYTES + (2 << 20)
        last = asyncio.create_task(slow.following.next())
        await turns()
        assert last.done() is not slow_leads, "a leader's receipt comes with the end of its call"
        work.say(end())
        await running
        assert len(fast.text) == 2 * RECORD_BYTES
        chunk = await last
        assert isinstance(chunk.events[0].error, Overloaded)
        assert chunk.receipt.id == ("work" if slow_leads else "slow")
        assert [type(error) for error in slow.endings] == ([] if slow_leads else [Overloaded])


async def test_a_leader_that_was_let_go_does_not_hold_up_the_source_when_it_is_alone():
    async with shared() as share:
        work, slow, fast = Work(), Caller("slow"), Caller("fast")
        await slow.begin(share, work)
        await fast.begin(share, work)
        for _ in range(2 * (RECORD_BYTES >> 20)):
            work.say(Chunk((TextDelta("x" * (1 << 20)),)))
            await fast.following.next()
        last = asyncio.create_task(slow.following.next())
        work.say(*(Chunk((TextDelta("x" * (1 << 20)),)) for _ in range(4)), end())
        await turns()
        assert work.settled == [], "it waits for the one that reads"
        fast.following.close()
        chunk = await asyncio.wait_for(last, 2)
        assert isinstance(chunk.events[0].error, Overloaded)
        assert chunk.receipt.id == "work"


async def test_pausing_for_a_client_holds_nothing_back():
    async with shared() as share:
        work, caller = Work(), Caller()
        rooms = []

        async def room():
            rooms.append(len(caller.chunks))
            await asyncio.sleep(0)

        await caller.begin(share, work)
        work.say(*GOOD, end())
        await caller.following.pump(lambda chunk: caller.give(chunk) or True, room)
        caller.following.close()
        assert caller.text == "one two three"
        assert rooms == [1, 2, 3]


async def test_nothing_of_an_answer_is_left_behind():
    async with shared(ReplyCache(max_entries=0)) as share:
        caller, work = Caller(), Work()
        chunk = Chunk((Logged("x"),))
        alive = weakref.ref(chunk.events[0])
        work.say(chunk, end())
        del chunk
        flow = await caller.begin(share, work)
        gc.disable()
        try:
            while await flow.next():
                pass
            flow.close()
            await turns()
            caller.following = flow = None
            assert (share.running, len(share._all)) == (0, 0)
            assert alive() is None, "no cycle keeps the answer until the garbage is collected"
        finally:
            gc.enable()

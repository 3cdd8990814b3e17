"""Calls that are cut off at every step of the loop: whatever is interrupted, one receipt is left and nothing is held."""

import asyncio
import gc
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from functools import wraps
from unittest.mock import patch

import pytest
from tests.test_gateway import (
    ANSWER,
    END,
    HANG,
    HELLO,
    STARTED,
    WEB,
    WHOLE,
    WORLD,
    Broken,
    Played,
    ask,
    worked,
    world,
)
from tests.test_gateway_routes import ROUTES, pieces

from jumping import JumpingLoop
from penstock.call import Caller, Who
from penstock.errors import (
    BudgetExhausted,
    DeadlineExceeded,
    Overloaded,
    PenstockError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamRateLimited,
    UpstreamTimeout,
)
from penstock.event import Failed
from penstock.receipt import Usage

RACES = (
    ROUTES.replace('targets = ["patient/one"]', 'targets = ["patient/one", "a/one"]')
    + """
[providers.again]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
retries = 2
[providers.tight]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
retries = 1
concurrency = 1
on_disconnect = "drain"
[models.again]
targets = ["again/one"]
[models.tight]
targets = ["tight/one"]
[models.lent]
targets = ["patient/one"]
cache_s = 60
[models.lasting]
targets = ["patient/one", "b/two"]
continue = true
[server]
queue_s = 30
[prices."again/one"]
input = 1
output = 2
[prices."tight/one"]
input = 1
output = 2
"""
)
SINGLE = Who(team="single")


class SteppingLoop(JumpingLoop):
    """A loop that runs one callback at a time, and lets somebody interfere before the next one.

    While only timers ring that wake nobody, as those that look for deadlines do a hundred times a second, one moment is as
    good as the next: there `interfere` is called once, at the beginning, unless it wants to be called at `every_ring`.
    """

    def __init__(self):
        super().__init__()
        self.interfere = None
        self.every_ring = False
        self._ran = False
        self.lost = []
        self.set_exception_handler(lambda _, context: self.lost.append(context))

    def _run_once(self):
        ready = self._ready
        if self.interfere is not None and (ready or self._ran or self.every_ring):
            self.interfere()
        self._ran = bool(ready)
        rest = [ready.popleft() for _ in range(len(ready))]
        ready.extend(rest[:1])
        super()._run_once()
        came = list(ready)
        ready.clear()
        ready.extend((*rest[1:], *came))


def stepping(test):
    """Run a test on a loop that can be interfered with; nothing that fails on it may go unnoticed."""

    @wraps(test)
    def run(*arguments, **named):
        with asyncio.Runner(loop_factory=SteppingLoop) as runner:
            runner.run(test(*arguments, **named))
            loop = runner.get_loop()
            gc.collect()
            assert not loop.lost, f"lost: {loop.lost}"

    return run


class Pushed(Played):
    """A provider whose replies push their chunks, as those of HTTP do."""

    async def send(self, call, target, deadline):
        exchange = await super().send(call, target, deadline)

        async def pump(give):
            while (chunk := await exchange.read()) is not None:
                if give(chunk):
                    return True
            return False

        exchange.pump = pump
        return exchange


class Slow(Played):
    """A provider that takes a while to begin, gives up at no deadline, and notes what nobody closed."""

    async def send(self, call, target, deadline):
        await asyncio.sleep(0.5)
        return await super().send(call, target, deadline)


async def served(one, call, who, caller):
    """Make a call as the server does: every chunk is pushed, and somebody may read slowly."""
    one.taken.append(None)
    given = []

    def give(chunk):
        given.append(chunk)
        return True

    async def room():
        await asyncio.sleep(0.1)

    flow = await one.gateway.begin(call, who, caller)
    try:
        await flow.pump(give, room)
    finally:
        flow.close()
    assert given[-1].receipt is not None
    failed = [event for chunk in given for event in chunk.events if isinstance(event, Failed)]
    assert bool(failed) == (given[-1].receipt.status not in {"ok", "degraded"})
    return given


async def taken(one, call, who, caller):
    """Make a call as the library does."""
    one.taken.append(None)
    async with aclosing(one.gateway.open(call, who, caller)) as items:
        return [item async for item in items][1:]


def idle(one):
    """Say what is left of the calls that are over; empty if nothing is."""
    gateway, loop = one.gateway, asyncio.get_running_loop()
    left = []
    if len(one.settled) != len(one.taken) or len(set(one.settled)) != len(one.settled):
        left.append(f"{len(one.settled)} receipts for {len(one.taken)} calls")
    if gateway.in_flight:
        left.append(f"in_flight {gateway.in_flight}")
    if gateway.lobby.waiting or gateway._line.waiting:
        left.append(f"waiting {gateway.lobby.waiting} {gateway._line.waiting}")
    busy = {state.target: state.in_flight for state in gateway.health.states(loop.time()) if state.in_flight}
    if busy:
        left.append(f"slots {busy}")
    if gateway.ledger.open_intents:
        left.append("an open intent")
    if any(one.held()):
        left.append("money is held")
    if any(one.inside().values()):
        left.append(f"room {one.inside()}")
    if not all(exchange.closed for exchange in one.exchanges):
        left.append("an exchange is open")
    if gateway.sharing.running:
        left.append("a broadcast runs")
    if gateway._deadlines._calls:
        left.append("a deadline is watched")
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        left.append(f"tasks {tasks}")
    return left


SLOWLY = (0.5, STARTED, 0.5, HELLO, 0.5, WORLD, 0.5, END)


def failing():
    return UpstreamFailed("reset")


def limited():
    return UpstreamRateLimited("slow down", retry_after_s=1.0)


def torn():
    return worked(UpstreamGarbled("torn"))


# name: (model, who, what each provider plays, the victim's companions before and behind it)
SCRIPTS = {
    "a fallback": ("fast", WEB, lambda: {"a": Slow(failing()), "b": Slow(SLOWLY)}, 0, 0),
    "pushed": ("fast", WEB, lambda: {"a": Pushed(SLOWLY)}, 0, 0),
    "a retry": ("again", WEB, lambda: {"again": Slow(limited(), torn(), SLOWLY)}, 0, 0),
    "the line": ("queued", WEB, lambda: {"narrow": Slow(SLOWLY, SLOWLY, SLOWLY)}, 1, 1),
    "the lobby": ("solo", SINGLE, lambda: {"a": Slow(SLOWLY, SLOWLY, SLOWLY)}, 1, 1),
    "leading": ("cached", WEB, lambda: {"a": Pushed(SLOWLY, SLOWLY, SLOWLY)}, 0, 1),
    "following": ("cached", WEB, lambda: {"a": Slow(SLOWLY, SLOWLY, SLOWLY)}, 1, 1),
    "alone": ("cached", WEB, lambda: {"a": Slow(SLOWLY)}, 0, 0),
    "the last rung": ("stale", WEB, lambda: {"a": Slow(failing())}, 0, 0),
    "going on": (
        "going",
        WEB,
        lambda: {"a": Slow((STARTED, HELLO, 0.5, torn())), "b": Slow((0.5, STARTED, 0.5, WORLD, END))},
        0,
        0,
    ),
    "drained": ("drained", WEB, lambda: {"patient": Slow(SLOWLY)}, 0, 0),
    "drained elsewhere": ("drained", WEB, lambda: {"patient": Slow(failing()), "a": Slow(SLOWLY)}, 0, 0),
    "drained after a retry": ("tight", WEB, lambda: {"tight": Slow(limited(), SLOWLY)}, 0, 0),
    "drained in line": ("tight", WEB, lambda: {"tight": Slow(SLOWLY, SLOWLY, SLOWLY)}, 1, 1),
    "drained and torn": ("drained", WEB, lambda: {"patient": Slow((STARTED, HELLO, 0.5, torn()))}, 0, 0),
    "drained and led": ("lent", WEB, lambda: {"patient": Slow(SLOWLY, SLOWLY)}, 0, 1),
    "drained and gone on with": (
        "lasting",
        WEB,
        lambda: {"patient": Slow((STARTED, HELLO, 0.5, torn())), "b": Slow((0.5, STARTED, 0.5, WORLD, END))},
        0,
        0,
    ),
}


ENDS = {
    "hangs up": lambda task: task.cancel(),
    "is shut down": lambda task: task.cancel("shutting down"),
}


def seldom(often):
    """Have what looks at calls again and again do so less often, unless it is to be met at each look."""
    looks = {"deadlines": 0.1, "standing": 0.1, "alarms": 20.0}
    patched = ExitStack()
    for module, every_s in looks.items() if not often else ():
        patched.enter_context(patch(f"penstock.{module}.LOOK_S", every_s))
    return patched


@asynccontextmanager
async def races(folder, **played):
    async with world(folder, config=RACES, **played) as one:
        one.settled, settle = [], one.gateway.ledger.settle_row

        def settled(call_id, row):
            one.settled.append(call_id)
            return settle(call_id, row)

        with patch.object(one.gateway.ledger, "settle_row", settled):
            yield one


async def trial(one, script, how, end, steps):
    """Have one call interrupted after so many steps of the loop; tell whether it came to be."""
    model, who, play, before, behind = SCRIPTS[script]
    for name, provider in play().items():
        one.played[name].__class__ = type(provider)
        one.played[name].replies[:] = provider.replies
        one.played[name].exchanges.clear()
    one.gateway.sharing._cache.clear()
    one.gateway.health._known.clear()  # no breaker opens on the way
    loop = asyncio.get_running_loop()
    companions = [asyncio.create_task(how(one, ask(model), who, Caller(deadline_s=20.0))) for _ in range(before)]
    await asyncio.sleep(0.1 if before else 0.0)
    victim = asyncio.create_task(how(one, ask(model), who, Caller(deadline_s=20.0)), name="victim")
    companions += [asyncio.create_task(how(one, ask(model), who, Caller(deadline_s=20.0))) for _ in range(behind)]
    left = steps

    def interfere():
        nonlocal left
        left -= 1
        if left == 0:
            end(victim)

    loop.interfere = interfere
    await asyncio.wait({victim, *companions})
    loop.interfere = None
    await asyncio.sleep(60.0)  # those that are read on come to their end; windows of a minute pass
    for one_more in companions:
        error = one_more.exception()
        if error is not None and (end is not ENDS["is shut down"] or "was shut down" not in str(error)):
            raise AssertionError(f"after {steps} steps a companion failed") from error
    with suppress(asyncio.CancelledError, PenstockError):
        victim.result()
    return left <= 0


async def trials(one, script, how, end):
    """Interrupt a call after every number of steps, as long as there are so many."""
    steps, reached = 0, True
    while reached:
        steps += 1
        reached = await trial(one, script, how, end, steps)
        assert not (left := idle(one)), f"cut off after {steps} steps: {left}"
        lost = asyncio.get_running_loop().lost
        assert not lost, f"cut off after {steps} steps: {lost}"
    assert steps > 5


@pytest.mark.parametrize("every_ring", [False, pytest.param(True, marks=pytest.mark.soak)])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("how", [taken, served])
@pytest.mark.parametrize("script", SCRIPTS)
@stepping
async def test_a_call_that_is_cut_off_at_any_step_leaves_its_receipt_and_nothing_else(
    tmp_path, script, how, end, every_ring
):
    """At every step that changes anything; in the soak also whenever a timer rings meanwhile."""
    played = {name: Played() for name in ("a", "b", "narrow", "patient", "again", "tight")}
    with seldom(every_ring):
        async with races(tmp_path, **played) as one:
            asyncio.get_running_loop().every_ring = every_ring
            await trials(one, script, how, ENDS[end])


@pytest.mark.parametrize("script", SCRIPTS)
@stepping
async def test_no_call_outlasts_its_deadline_wherever_it_is(tmp_path, script):
    """Deadlines fall on the very moments at which something else happens, and between them."""
    played = {name: Played() for name in ("a", "b", "narrow", "patient", "again", "tight")}
    async with races(tmp_path, **played) as one:
        for quarters in range(1, 17):
            ended, left_s = [], quarters / 4

            async def timed(gateway, call, who, caller, ended=ended, left_s=left_s):
                mine = asyncio.current_task().get_name() == "victim"
                loop = asyncio.get_running_loop()
                began = loop.time()
                try:
                    return await taken(gateway, call, who, Caller(deadline_s=left_s) if mine else caller)
                finally:
                    if mine:
                        ended.append(loop.time() - began)

            await trial(one, script, timed, ENDS["hangs up"], 0)
            assert ended[0] <= left_s + 0.1, f"with {left_s} s it took {ended[0]}"
            assert not (left := idle(one)), f"with {left_s} s: {left}"
            assert not asyncio.get_running_loop().lost


# -- one by one --


@stepping
async def test_a_further_try_that_cannot_be_paid_for_leaves_no_slot(tmp_path):
    async with races(tmp_path, a=Played(worked(UpstreamTimeout("silent"))), b=Played(ANSWER)) as one:
        first, asked = one.gateway.reservations.budgets.hold, []

        def hold(*about):
            asked.append(about)
            if len(asked) > 1:
                raise Overloaded("The budgets of this machine are busy.")
            return first(*about)

        with patch.object(one.gateway.reservations.budgets, "hold", hold), pytest.raises(Overloaded):
            await taken(one, ask(), WEB, Caller())
        assert not idle(one)


@stepping
async def test_a_call_is_read_on_by_one_task_however_its_caller_left(tmp_path):
    async with races(tmp_path, patient=Played(SLOWLY)) as one:
        task = asyncio.create_task(served(one, ask("drained"), WEB, Caller()))
        await asyncio.sleep(1.25)
        task.cancel()
        await asyncio.wait({task})
        await asyncio.sleep(5)
        assert one.receipt.usage == Usage(9, 2)
        assert not idle(one)


@stepping
async def test_nobody_else_is_asked_for_a_caller_who_is_gone(tmp_path):
    good = Played(WHOLE)
    async with races(tmp_path, patient=Played((2.0, UpstreamFailed("gone as well"))), a=good) as one:
        task = asyncio.create_task(served(one, ask("drained"), WEB, Caller()))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait({task})
        await asyncio.sleep(5)
        assert not idle(one)
        assert not good.calls
        assert [each.target for each in one.receipt.tries] == ["patient/one"]


@stepping
async def test_what_fails_while_it_is_read_on_is_logged_and_settled(tmp_path, caplog):
    async with races(tmp_path, patient=Played((STARTED, HELLO, 1.0, RuntimeError("a defect")))) as one:
        task = asyncio.create_task(served(one, ask("drained"), WEB, Caller()))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait({task})
        await asyncio.sleep(5)
        assert not idle(one)
        del task
    assert "failed after its client had gone" in caplog.text


@stepping
async def test_what_is_read_on_is_settled_even_if_the_gateway_is_closed_at_that_moment(tmp_path):
    async with races(tmp_path, patient=Played(SLOWLY)) as one:
        flow = await one.gateway.begin(ask("drained"), WEB, Caller())
        one.taken.append(None)
        flow.close()
        await one.gateway._drains.close()
        assert not idle(one)


@stepping
async def test_a_call_that_leads_is_settled_even_if_the_gateway_is_closed_at_that_moment(tmp_path):
    async with races(tmp_path, a=Played(SLOWLY)) as one:
        one.taken.append(None)
        leading = asyncio.create_task(one.gateway.begin(ask("cached"), WEB, Caller()))
        await asyncio.sleep(0)
        assert one.gateway.sharing.running, "it leads, and its work has not begun"
        await one.gateway.sharing.close()
        async with asyncio.timeout(60):
            with pytest.raises(Overloaded):
                await leading
        assert not idle(one)


@stepping
async def test_a_chunk_that_nobody_took_in_time_is_not_given_out_with_a_receipt_that_says_otherwise(tmp_path):
    async with races(tmp_path, a=Played(WHOLE)) as one:
        flow = await one.gateway.begin(ask("solo", stream=False), WEB, Caller(deadline_s=1.0))
        one.taken.append(None)
        await asyncio.sleep(2)
        last = await flow.next()
        flow.close()
        assert isinstance(last.events[-1], Failed)
        assert last.receipt.status == "error"


@stepping
async def test_the_deadline_ends_whoever_reads_not_whoever_began(tmp_path):
    async with races(tmp_path, a=Played((STARTED, HELLO, HANG))) as one:
        flow = await one.gateway.begin(ask("solo"), WEB, Caller(deadline_s=1.0))
        one.taken.append(None)

        async def read():
            return [chunk async for chunk in aiter_of(flow)]

        reading = asyncio.create_task(read())
        await asyncio.sleep(60)  # work of its own
        chunks = reading.result()
        flow.close()
        assert isinstance(chunks[-1].events[-1].error, DeadlineExceeded)
        assert not asyncio.current_task().cancelling()


async def aiter_of(flow):
    while (chunk := await flow.next()) is not None:
        yield chunk


@stepping
async def test_who_is_cancelled_at_the_deadline_is_cancelled(tmp_path):
    async with races(tmp_path, a=Played((STARTED, HELLO, HANG))) as one:
        task = asyncio.create_task(served(one, ask("solo"), WEB, Caller(deadline_s=1.0)))
        over = one.gateway._deadlines._over

        def both(flight):
            over(flight)
            task.cancel()

        with patch.object(one.gateway._deadlines, "_over", both):
            await asyncio.wait({task})
        assert task.cancelled()
        assert one.receipt.error == "deadline_exceeded"


@stepping
async def test_a_call_that_cannot_be_ended_leaves_the_others_their_deadlines(tmp_path):
    async with races(tmp_path, a=Broken((STARTED, HELLO, HANG), (STARTED, HELLO, HANG))) as one:
        flow = await one.gateway.begin(ask("solo"), WEB, Caller(deadline_s=1.0))
        one.taken.append(None)
        began = asyncio.get_running_loop().time()
        with suppress(RuntimeError):
            await asyncio.wait_for(taken(one, ask("solo"), WEB, Caller(deadline_s=3.0)), 5.0)
        assert asyncio.get_running_loop().time() - began <= 3.1
        assert not idle(one), "the second call was left to itself"
        flow.close()
        asyncio.get_running_loop().lost.clear()  # the exchange that cannot be closed


@stepping
async def test_a_continued_answer_began_when_its_first_piece_did(tmp_path):
    first = Played((0.5, STARTED, HELLO, 1.0, UpstreamGarbled("cut")))
    async with races(tmp_path, a=first, b=Played((1.0, STARTED, *pieces(" there")))) as one:
        await taken(one, ask("going"), WEB, Caller())
        assert one.receipt.ttft_us == pytest.approx(500_000, abs=2)


@stepping
async def test_a_busy_models_last_rung_is_its_own(tmp_path):
    config = RACES.replace('when_busy = "solo"', 'when_busy = "solo"\nstatic = "We are busy."')
    async with world(tmp_path, config=config, narrow=Played(SLOWLY), a=Played(failing())) as one:
        leading = asyncio.create_task(one.take(ask("busy")))
        await asyncio.sleep(0.1)
        opening, _, error = await one.take(ask("busy"))
        await leading
    assert error is None
    assert opening.target == "static"


@stepping
async def test_a_spent_budget_is_refused_whatever_the_route_has_instead(tmp_path):
    async with races(tmp_path, a=Played(ANSWER)) as one:
        await taken(one, ask("stale"), Who(), Caller())
        with pytest.raises(BudgetExhausted) as refused:
            await taken(one, ask("stale", max_tokens=100_000), Who(), Caller(feature="dear"))
        assert refused.value.status == 402
        assert not idle(one)


@stepping
async def test_a_reload_lets_calls_go_on_waiting_and_leading(tmp_path):
    played = Played(SLOWLY, SLOWLY, SLOWLY)
    async with races(tmp_path, a=played, narrow=Played(SLOWLY, SLOWLY)) as one:
        old = one.gateway
        calls = [(ask("cached"), WEB), (ask("cached"), WEB), (ask("queued"), Who()), (ask("queued"), Who())]
        calls += [(ask("solo"), SINGLE), (ask("solo"), SINGLE)]
        tasks = []
        for call, who in calls:
            tasks.append(asyncio.create_task(taken(one, call, who, Caller())))
            await asyncio.sleep(0.1)
        one.taken.append(None)
        assert (old.lobby.waiting, old._line.waiting) == (1, 1)
        one.gateway = old.succeed(one.config)
        retiring = asyncio.create_task(old.retire())
        following = await one.gateway.begin(ask("cached"), WEB, Caller())
        async with asyncio.timeout(60):
            chunks = [chunk async for chunk in aiter_of(following)]
            await asyncio.gather(*tasks)
            await retiring
        following.close()
        assert chunks[-1].receipt.cost_nano_usd == 0
        assert len(played.calls) == 3
        assert not idle(one)
        assert (old.in_flight, old._line.waiting) == (0, 0)


@stepping
async def test_a_prompt_that_takes_too_long_to_count_does_not_outlast_the_deadline(tmp_path):
    async def forever(*_):
        await asyncio.sleep(60)

    async with races(tmp_path, a=Played()) as one:
        began = asyncio.get_running_loop().time()
        with patch("penstock.calibrating.count_prompt", forever), pytest.raises(DeadlineExceeded):
            await taken(one, ask("small", "word " * 20_000), WEB, Caller(deadline_s=1.0))
        assert asyncio.get_running_loop().time() - began <= 1.1
        assert not asyncio.current_task().cancelling()
        assert not idle(one)

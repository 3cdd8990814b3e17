"""Calls that are cut off at every step of the loop: whatever is interrupted, one receipt is left and nothing is held."""

import asyncio
import gc
from collections import deque
from contextlib import asynccontextmanager, suppress
from functools import wraps

import pytest
from tests.test_gateway import (
    ANSWER,
    END,
    HANG,
    HELLO,
    STARTED,
    WEB,
    WORLD,
    Broken,
    JumpingLoop,
    Played,
    PlayedExchange,
    ask,
    jumping,
    world,
    worked,
)
from tests.test_gateway_routes import ROUTES, pieces

from penstock.call import Caller, Who
from penstock.errors import DeadlineExceeded, PenstockError, UpstreamFailed, UpstreamGarbled, UpstreamRateLimited
from penstock.errors import UpstreamTimeout
from penstock.event import Failed
from penstock.receipt import Usage
from penstock.reply import Chunk

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
"""
)
SINGLE = Who(team="single")


class SteppingLoop(JumpingLoop):
    """A loop that runs one callback at a time, and lets somebody interfere before the next one."""

    def __init__(self):
        super().__init__()
        self.interfere = None
        self.lost = []
        self.set_exception_handler(lambda _, context: self.lost.append(context))

    def _run_once(self):
        if self.interfere is not None:
            self.interfere()
        ready = self._ready
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
    assert bool(failed) == (given[-1].receipt.status != "ok")
    return given


async def taken(one, call, who, caller):
    """Make a call as the library does."""
    _, chunks, error = await one.take(call, who, caller)
    if error is not None:
        raise error
    return chunks


def idle(one):
    """Say what is left of the calls that are over; empty if nothing is."""
    gateway, loop = one.gateway, asyncio.get_running_loop()
    left = []
    receipts = one.receipts()
    if len(receipts) != len(one.taken) or len({receipt.id for receipt in receipts}) != len(receipts):
        left.append(f"{len(receipts)} receipts for {len(one.taken)} calls")
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


LIMITED = UpstreamRateLimited
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


@asynccontextmanager
async def races(folder, **played):
    async with world(folder, config=RACES, **played) as one:
        yield one


async def trial(one, script, how, end, steps):
    """Have one call interrupted after so many steps of the loop; tell whether it came to be."""
    model, who, play, before, behind = SCRIPTS[script]
    for name, provider in play().items():
        one.played[name].__class__ = type(provider)
        one.played[name].replies[:] = provider.replies
        one.played[name].exchanges.clear()
    one.gateway.sharing._cache.clear()
    loop = asyncio.get_running_loop()
    companions = [asyncio.create_task(how(one, ask(model), who, Caller(deadline_s=20.0))) for _ in range(before)]
    await asyncio.sleep(0.1 if before else 0.0)
    victim = asyncio.create_task(how(one, ask(model), who, Caller(deadline_s=20.0)))
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
        assert one_more.exception() is None, f"after {steps} steps a companion failed: {one_more.exception()!r}"
    with suppress(asyncio.CancelledError, PenstockError):
        victim.result()
    return left <= 0


ENDS = {
    "hangs up": lambda task: task.cancel(),
    "is shut down": lambda task: task.cancel("shutting down"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("how", [taken, served])
@pytest.mark.parametrize("script", SCRIPTS)
@stepping
async def test_a_call_that_is_cut_off_at_any_step_leaves_its_receipt_and_nothing_else(tmp_path, script, how, end):
    played = {name: Played() for name in ("a", "b", "narrow", "patient", "again", "tight")}
    async with races(tmp_path, **played) as one:
        steps, reached = 0, True
        while reached:
            steps += 1
            reached = await trial(one, script, how, ENDS[end], steps)
            assert not (left := idle(one)), f"cut off after {steps} steps: {left}"
            gc.collect()
            lost = asyncio.get_running_loop().lost
            assert not lost, f"cut off after {steps} steps: {lost}"
        assert steps > 5

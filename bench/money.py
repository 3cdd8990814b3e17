"""What money costs on the line: microseconds of processor time for each call, and nanoseconds for each chunk of a stream.

`python bench/money.py` makes calls through the whole line of one process, with a provider that answers at once, and takes
turns: with everything that money does (the hold in three budgets, the intent and the receipt in the journal, the settlement,
the row in the store, threads included), and with all of that left out. The difference of the medians is what money costs. It
says so for calls as a busy server has them, so many in each turn of its loop (see `docs/decisions/0013`), and for calls that
come one after another, each of which writes its own records; for budgets in memory and for budgets that processes share. Then
it says what the parts take by themselves, and what a chunk costs before and behind the check that a stream does not outgrow
its hold. Exit code 1: a target is missed, by calls as a busy server has them.
"""

# ruff: noqa: SLF001 - what is measured are parts of the program that nobody else takes apart

import argparse
import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

import uvloop  # noqa: E402  # as the others
from msgspec import structs  # noqa: E402  # as the others

from penstock import closing  # noqa: E402  # needs the path above
from penstock.call import Call, Caller, Content, Message, Sampling, Text, Who  # noqa: E402  # needs the path above
from penstock.calls_alike import Standing  # noqa: E402
from penstock.config import load  # noqa: E402
from penstock.direct import Direct  # noqa: E402
from penstock.errors import PenstockError  # noqa: E402
from penstock.flow import Flow  # noqa: E402
from penstock.gateway import Gateway, start  # noqa: E402
from penstock.inflight import InFlight  # noqa: E402
from penstock.live_try import LiveTry  # noqa: E402
from penstock.meter import NEVER  # noqa: E402
from penstock.outbox import Outbox  # noqa: E402
from penstock.plugins import Waiter  # noqa: E402
from penstock.receipt import Receipt, Settled, Usage  # noqa: E402
from penstock.reply import Chunk, Ended, Finished, Opening, Started, TextDelta, Told, UsageReported  # noqa: E402
from penstock.server.serve import MIDDLE, OLD, YOUNG  # noqa: E402
from penstock.target import Target  # noqa: E402

CONFIG = """
[server]
workers = {workers}
[providers.p]
kind = "scripted"
path = "replies.toml"
[models.fast]
targets = ["p/m"]
[prices."p/m"]
input = 0.15
output = 0.6
[teams.web]
budget_usd = {{ day = 1000000, month = 10000000 }}
[features.invoices]
budget_usd = {{ day = 1000000 }}
"""
WHO = Who(key_id="k", team="web", feature="invoices")
CONTENT = Content((Message("user", (Text("hi"),)),))
BODY = b'{"model":"fast","max_tokens":20,"messages":[{"role":"user","content":"hi"}]}'
CALL = Call("chat", "fast", sampling=Sampling(max_tokens=20), read=lambda: CONTENT, raw=BODY, input_bound=80)
ANSWER = Chunk(
    (Started("1"), TextDelta("Hello."), Finished("stop"), UsageReported(Usage(9, 2)), Ended()),
    b"{}",
)
TOLD = Told(b"{}", "1", "m", "stop", 9, 2)
CALLER = Caller()
NOTHING = Settled("", "ok", None, 0, 11, lambda _: Receipt("", 0, "chat", "fast", "ok", 200), None)
COUNTED = (("web", "fast", "p/m", "ok"), 9, 2, 0, 100, 50)
TARGET_US, TARGET_NS = 25.0, 60.0
AT_ONCE = 16

How = Callable[[Gateway, int], Awaitable[None]]


class Answered:
    """An exchange that has its reply already."""

    lane, dropped, status, headers = "verbatim", (), 200, ()

    async def read(self) -> Chunk:
        """Give all of it."""
        return ANSWER

    def take(self) -> Chunk:
        """Give all of it."""
        return ANSWER

    def close(self) -> None:
        """Nothing to close."""


class Sent(Answered):
    """A request that goes out at the end of the turn, as those over HTTP do, and is answered in the next one."""

    by_outbox = True
    intent = ""
    pending = b"a request"

    def __init__(self, provider: "AtOnce") -> None:
        self.provider = provider

    def leave(self, deadline: float, waiter: Waiter) -> bool:
        """Go out with what else leaves in this turn."""
        del deadline
        self.waiter = waiter
        Outbox.of(asyncio.get_running_loop()).add_request(self)
        return True

    def send(self, data: bytes) -> None:
        """Be written."""
        del data
        self.provider.written.append(self)

    def refuse(self, why: PenstockError) -> None:
        """Not be written: nothing refuses here."""
        raise why

    def tell(self) -> Told:
        """Give the reply."""
        return TOLD


class AtOnce:
    """A provider that answers without a wait."""

    def __init__(self) -> None:
        self.written: list[Sent] = []

    def prepare(self, call: Call, target: Target) -> Sent:
        """Send at once."""
        del call, target
        return Sent(self)

    async def send(self, call: Call, target: Target, deadline: float) -> Answered:
        """Answer."""
        del call, target, deadline
        return Answered()

    async def close(self) -> None:
        """Nothing to close."""


def gateway_at(folder: Path, workers: int) -> Gateway:
    (folder / "replies.toml").write_text('[[rules]]\ntext = "Hello."\n')
    (folder / "penstock.toml").write_text(CONFIG.format(workers=workers))
    gateway = start(load(str(folder / "penstock.toml"), {"PENSTOCK_HOME": str(folder / "home")}))
    provider = gateway._providers["p"] = AtOnce()
    gateway.direct.__self__._commons._prepares["p"] = provider.prepare  # type: ignore[attr-defined]
    return gateway


def without_money(gateway: Gateway) -> None:
    """Leave out what money does; what ends a call otherwise stays."""
    accounts, clock = gateway._accounts, gateway._clock
    books = accounts._books

    def reserve(flight: InFlight[Any], plan: Any) -> bool:
        del flight, plan
        return True

    def intend(flight: InFlight[Any], target: Target, *, soon: bool = False, common: Any = None) -> None:
        del target, soon, common
        flight.intended = True

    def settle(flight: InFlight[Any]) -> Settled:
        if flight.settled is None:
            flight.settled, now = NOTHING, clock()
            for live in flight.tries:
                live.end("ok", now, None)
            ticket, calls = flight.ticket, accounts._calls
            if ticket is not None and books.leave(ticket, 11, now):
                books.left()
            accounts._deadlines.forget(flight)
            books.count(COUNTED)
            calls.in_flight -= 1
            if not calls.in_flight:
                calls.idle()
        return flight.settled

    def settle_told(answered: Sequence[Direct]) -> None:
        for call in answered:
            call.flight.tries[0].told = call.told
            settle(call.flight)

    accounts.reserve, accounts.intend = reserve, intend  # type: ignore[method-assign]
    gateway.settle, gateway.settle_told = settle, settle_told


class Client:
    """Whoever asks: the answer is all that it wants."""

    call, who = CALL, WHO

    def __init__(self) -> None:
        self.standing = Standing(CALLER)

    def begun(self, call: Direct) -> None:
        """Wait."""

    def answered(self, *answer: Any) -> None:
        """Take it."""

    def handed_over(self, call: Direct | None) -> None:
        """Not be called: every call is answered at its first try."""
        raise AssertionError(call)


async def alone(gateway: Gateway, calls: int) -> None:
    """Make so many calls, one after another."""
    for number in range(calls):
        flow = await gateway.begin(CALL, WHO, CALLER)
        while await flow.next() is not None:
            pass
        flow.close()
        if number % 64 == 63:  # as many as come while the flusher waits for its turn
            await asyncio.sleep(0)


async def together(gateway: Gateway, calls: int) -> None:
    """Make so many calls, some in each turn of the loop."""
    provider, clients = gateway._providers["p"], [Client()] * AT_ONCE
    assert isinstance(provider, AtOnce)
    for _ in range(calls // AT_ONCE):
        gateway.direct(clients)
        await asyncio.sleep(0)
        written, provider.written = provider.written, []
        assert len(written) == AT_ONCE
        for sent in written:
            sent.waiter.set_result(False)
        await asyncio.sleep(0)


async def make(gateway: Gateway, calls: int, how: How) -> float:
    """Make so many calls and wait until all of them are in the store; give the processor's microseconds for each."""
    began = time.process_time()
    await how(gateway, calls)
    while gateway.ledger.backlog:  # noqa: ASYNC110 - its timer tells nobody
        await asyncio.sleep(0.002)
    return (time.process_time() - began) / calls * 1e6


def like_a_server() -> None:
    """Do what `penstock serve` does before its first call."""
    sys.set_asyncgen_hooks(firstiter=None)
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)


async def compare(workers: int, rounds: int, calls: int, how: How) -> tuple[float, float]:
    """Give the medians with and without money."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        full, bare = gateway_at(Path(one), workers), gateway_at(Path(two), 1)
        without_money(bare)
        if how is together:
            full.reservations.gather(Outbox.of(asyncio.get_running_loop()), full.ledger)
        taken: tuple[list[float], list[float]] = ([], [])
        like_a_server()
        for number in range(rounds + 1):
            for gateway, to in zip((full, bare), taken, strict=True):
                each = await make(gateway, calls, how)
                if number:  # the first round is for warming up
                    to.append(each)
        await full.close()
        await bare.close()
    return statistics.median(taken[0]), statistics.median(taken[1])


# -- the parts --


async def parts(calls: int) -> dict[str, float]:
    """Give microseconds for each part by itself; a clock stands around each, which costs half of one."""
    spent: dict[str, int] = {}

    def timed(name: str, thing: Any, attribute: str) -> None:
        inner, clock = getattr(thing, attribute), time.thread_time_ns

        def around(*arguments: Any) -> Any:
            began = clock()
            try:
                return inner(*arguments)
            finally:
                spent[name] = spent.get(name, 0) + clock() - began

        setattr(thing, attribute, around)

    with tempfile.TemporaryDirectory() as folder:
        gateway = gateway_at(Path(folder), 1)
        await make(gateway, 500, alone)
        like_a_server()
        accounts, ledger = gateway._accounts, gateway.ledger
        timed("hold: the ceiling and three budgets", accounts, "reserve")
        timed("intent: made and journalled", accounts, "intend")
        timed("row of the receipt: made (usage, cost)", closing, "settle")
        timed("row of the receipt: packed and journalled", ledger, "settle_row")
        timed("settlement of the budgets", gateway.reservations.budgets, "settle")
        timed("metrics", gateway.metrics, "count")
        accounts._books = structs.replace(accounts._books, count=gateway.metrics.count)
        timed("row in the store (SQLite)", ledger, "flush")
        await make(gateway, calls, alone)
        await gateway.close()
    return {name: nanoseconds / calls / 1000 for name, nanoseconds in spent.items()}


# -- a chunk of a stream --


class Unchecked(Flow[Any]):
    """As it would be if nothing had a limit."""

    def _taking(self, live: LiveTry) -> Callable[[Chunk], bool]:
        meter, give = live.meter, self._give
        observe = meter.observe

        def arrived(chunk: Chunk) -> bool:
            observe(chunk.events)
            if meter.ended or meter.error is not None:
                chunk = self._passing(chunk)
                self._given = True
            return give(chunk) or self.done

        return arrived


def a_chunk(kind: type[Flow[Any]], chunks: int) -> float:
    """Give nanoseconds that a chunk takes through a flow whose hold is large enough."""
    live = LiveTry(Target("p/m", "p", "m", "chat"), "first", 0.0)
    live.meter.watch(NEVER, NEVER, 0)
    flight: InFlight[Any] = InFlight("id", 0, 0.0, CALL, WHO)
    flow = kind(None, flight, Opening("id", "p/m", "verbatim", 1), live, ANSWER)  # type: ignore[arg-type]
    flow._give = lambda _: False
    words = [Chunk((TextDelta(f" word{number % 10}"),), b"data") for number in range(chunks)]
    arrived = flow._taking(live)
    began = time.process_time_ns()
    for word in words:
        arrived(word)
    return (time.process_time_ns() - began) / chunks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000, help="calls of a round")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    missed = False
    for name, workers, how in (
        (f"{AT_ONCE} in a turn, budgets in memory", 1, together),
        (f"{AT_ONCE} in a turn, budgets that processes share", 3, together),
        ("one after another, budgets in memory", 1, alone),
        ("one after another, budgets that processes share", 3, alone),
    ):
        full, bare = uvloop.run(compare(workers, options.rounds, options.calls, how))
        target = f" (target {TARGET_US:g})" if how is together else ""
        print(f"{name:48} {full:6.1f} us a call, {bare:6.1f} without money: {full - bare:5.1f} us{target}")
        missed |= how is together and full - bare > TARGET_US
    for name, taken in sorted(uvloop.run(parts(options.calls)).items(), key=lambda each: -each[1]):
        print(f"  {name:45} {taken:6.2f} us")
    turns = [(a_chunk(Unchecked, 50_000), a_chunk(Flow, 50_000)) for _ in range(options.rounds)]
    before, after = (statistics.median(column) for column in zip(*turns, strict=True))
    print(f"a chunk of a stream: {before:.0f} ns before, {after:.0f} ns with the check: {after - before:+.0f} ns")
    missed |= after - before > TARGET_NS
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())

"""A call while it lasts: what the gateway knows of it so far, and the receipt that it becomes.

Values gathered by `gateway.py` and turned into one `Receipt` here; this file does nothing itself and asks nobody.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any, Generic, Literal, Protocol, TypeVar

from msgspec import Struct, structs

from penstock.call import Call, Ticket, Who
from penstock.errors import SHUTDOWN, ClientClosed, DeadlineExceeded, Overloaded, PenstockError, UpstreamError
from penstock.event import Ended, Finished, Started, TextDelta
from penstock.live_try import LiveTry, TryStatus
from penstock.receipt import Attempt, CostStatus, Lane, Receipt, Settled, Status, Usage, UsageSource
from penstock.reply import Chunk, Opening
from penstock.target import Cost, Target, cost

BYTES_PER_TOKEN = 4
__all__ = ("InFlight", "LiveTry", "opening", "rough", "static_events")

H = TypeVar("H")
"""What the ledger gives for money that it holds; this file only keeps it."""

NO_USAGE = Usage(source="none")
NOT_STARTED = Started()
NOTHING = Cost(0, "exact")
NOTHING_FREE = Cost(0, "free")
STATIC = "static"
"""What stands for the target where the last rung, a fixed text, answered."""

_WORST: tuple[CostStatus, ...] = ("free", "exact", "estimated", "unpriced")

Estimate = Callable[["InFlight[Any]", LiveTry], Usage]
"""Counts what a try used where its provider did not say."""


class Kept(Protocol):
    """An answer that was kept: who gave it, and what it used in which tier of service."""

    @property
    def target(self) -> str:
        """The id of who gave it."""
        ...

    @property
    def lane(self) -> Lane:
        """How it was given."""
        ...

    @property
    def usage(self) -> Usage | None:
        """What it used; None where that is not known."""
        ...

    @property
    def service_tier(self) -> str | None:
        """In which tier."""
        ...


class InFlight(Struct, Generic[H], eq=False):
    """One call between its admission and its receipt."""

    id: str
    started_ns: int  # the wall clock
    began: float  # the loop's seconds
    call: Call
    who: Who
    # its time, what is reserved for it, where it goes, and against what it is told how much routing saved
    deadline: float = inf
    ticket: Ticket | None = None
    plan: tuple[Target, ...] = ()
    baseline: Target | None = None
    tries: list[LiveTry] = []
    holds: list[H] = []
    ceiling: int | None = None
    intended: bool = False
    status: Status = "ok"
    error: PenstockError | None = None
    settled: Settled | None = None
    overdue: bool = False
    waiting: bool = True  # the gateway waits for a provider, rather than the caller for itself
    counted: int | None = None  # input tokens, where the bound did not do
    task: "asyncio.Task[object] | None" = None
    cancels: int = 0  # how often that task had been cancelled before
    # what answers if no target does
    continues: bool = False
    pursuit: "asyncio.Task[tuple[LiveTry, Chunk]] | None" = None  # tries that outlive the caller
    key: bytes | None = None  # what equal calls have in common, where an answer may be shared
    cache: str = "none"
    stands_for: str | None = None  # what the receipt names as the target of an answer that is no try's
    lane: Lane | None = None  # and its lane
    stored: tuple[Kept, Target | None] | None = None  # an answer of the cache, and who gave it
    saved: int = 0  # what another call paid for the answer that this one shares, in nano-dollars

    __repr__ = object.__repr__  # shows no content

    @property
    def is_ordinary(self) -> bool:
        """Whether it went as nearly every call does: what a target answered was given out, and nothing else."""
        if self.error is not None or self.status != "ok" or self.stands_for or self.lane is not None:
            return False
        return not self.continues and (self.baseline is None or self.baseline is self.tries[-1].target)

    def degrade(self, stands_for: str, lane: Lane, cache: str, status: Status = "degraded") -> None:
        """Note what answers instead of a target."""
        self.status, self.stands_for, self.lane, self.cache, self.waiting = status, stands_for, lane, cache, False

    @property
    def asked_tokens(self) -> int:
        """How many tokens the call may take, roughly."""
        call = self.call
        return (call.input_bound or len(call.raw)) // BYTES_PER_TOKEN + (call.sampling.max_tokens or 0)

    def fail(self, status: Status, error: PenstockError) -> None:
        """Remember how the call ended; the first word counts."""
        if self.error is None:
            self.status = status
            self.error = error

    def reuse(self, stored: Kept, target: Target | None, cache: str, status: Status) -> None:
        """Note the answer of the cache that is given, and who gave it once, if that one is still known."""
        self.degrade(stored.target, stored.lane, cache, status)
        self.stored = stored, target

    def follow(self, error: PenstockError | None, theirs: Receipt | None) -> None:
        """Note how a call ended that shared the answer of another one, which left that receipt."""
        if error is not None:
            self.fail("cancelled" if isinstance(error, ClientClosed) else "error", error)
        elif theirs is not None:
            paid = theirs.answering
            self.saved = theirs.cache_saved_nano_usd if paid is None else paid.cost_nano_usd or 0

    def share(self, theirs: Opening) -> Opening:
        """Note whose answer it shares, an excuse or an old one among them, and give the opening of its own."""
        cache = "shared" if theirs.cache == "miss" else theirs.cache
        degraded = theirs.target == STATIC or cache == "stale"
        self.degrade(theirs.target, theirs.lane, cache, "degraded" if degraded else "ok")
        return structs.replace(theirs, cache=cache)

    def wait(self) -> None:
        """Note which task waits for a provider from now on: the one to cancel when the time is over."""
        self.waiting, self.task = True, asyncio.current_task()
        self.cancels = 0 if self.task is None else self.task.cancelling()

    def go(self, targets: tuple[Target, ...], baseline: Target | None, *, continues: bool) -> None:
        """Note where the call goes, with what that is compared, and whether another target may go on with its answer."""
        self.plan, self.baseline = targets, baseline
        if continues and self.call.stream:
            self.continues = True
            self.call = structs.replace(self.call, raw=b"")  # what may be gone on with is written, not passed on

    def cut(self, why: BaseException) -> bool:
        """Note why a call was cancelled: its time was over, the process ends, or nobody waits for it any more.

        Give whether it was the deadline alone, whose cancellation is taken back.
        """
        if self.overdue:
            task = self.task if isinstance(why, asyncio.CancelledError) else None
            is_ours = task is not None and task.uncancel() <= self.cancels
            self.fail("error", DeadlineExceeded("The deadline passed while the call was being answered."))
            return is_ours
        if SHUTDOWN in why.args:
            self.fail("cancelled", Overloaded("The gateway was shut down before the call ended."))
        else:
            self.fail("cancelled", ClientClosed("The client closed the connection."))
        return False

    def close(self, now: float, day: str, estimate: Estimate, config_hash: str) -> Receipt:
        """End every try and make the receipt.

        Values are given by position here: with this many fields, keywords cost ten times as much, on every call.
        """
        error, call, who, tries = self.error, self.call, self.who, self.tries
        ending: TryStatus = "ok" if error is None else "cancelled" if self.status == "cancelled" else "error"
        for live in tries:
            live.end(ending, now, error)
        if len(tries) == 1:
            last: LiveTry | None = tries[0]
            row = self._attempt(tries[0], day, estimate)
            rows: tuple[Attempt, ...] = (row,)
            used, total, cost_status = row.usage or NO_USAGE, row.cost_nano_usd, row.cost_status
        else:
            last = tries[-1] if tries else None
            rows = tuple([self._attempt(live, day, estimate) for live in tries])
            used, (total, cost_status) = _total(rows), _sum(rows)
        first_at, exchange, target, finish = None, None, None, None
        if last is not None:
            first_at, exchange, target, finish = last.first_at, last.exchange, last.target, last.meter.finish
        if self.continues:  # what came first came from the try that was cut
            first_at = min([live.first_at for live in tries if live.first_at is not None], default=None)
        stands_for, baseline, routed = self.stands_for, self.baseline, 0
        if baseline is not None and target is not None and target is not baseline and error is None and not stands_for:
            routed = _routed(rows[-1], baseline, day)
        began = self.began
        return Receipt(
            self.id,
            self.started_ns,
            call.dialect,
            call.model,
            self.status,
            200 if error is None else error.status,
            call.stream,
            who.key_id,
            who.team,
            who.feature,
            who.user,
            who.session,
            stands_for or (None if target is None else target.id),
            None if error is None else error.code,
            None if error is None else _origin(self.status, error),
            finish,
            used,
            total,
            cost_status,
            None if first_at is None else int((first_at - began) * 1e6),
            int((now - began) * 1e6),
            self.lane or (None if exchange is None else exchange.lane),
            self.cache,
            None,  # prompt
            () if exchange is None or error is not None or stands_for else exchange.dropped,
            config_hash,
            rows,
            0 if error is not None else self.saved if self.stored is None else _spared(*self.stored, day),
            routed,
        )

    def _attempt(self, live: LiveTry, day: str, estimate: Estimate) -> Attempt:
        """Say how a try went, what it used and what it costs.

        What it used is what its provider reported; else it is counted, unless the provider surely did not work for it.
        """
        meter, target, exchange, error, began = live.meter, live.target, live.exchange, live.error, live.began
        start, usage = meter.start or NOT_STARTED, meter.usage
        tier = meter.tier or start.service_tier
        if usage is None and live.billed:
            usage = estimate(self, live)
        price = cost(usage, target, day, tier) if usage is not None else NOTHING_FREE if target.free else NOTHING
        first_at, ended = live.first_at, live.ended
        return Attempt(
            target.id,
            live.kind,
            "ok" if live.status == "open" else live.status,
            _failed_status(error) if exchange is None else exchange.status,
            None if error is None else error.code,
            None if error is None or error.retry_after_s is None else round(error.retry_after_s * 1000),
            int((began - self.began) * 1e6),
            None if first_at is None else int((first_at - began) * 1e6),
            0 if ended is None else int((ended - began) * 1e6),
            usage,
            price.nano_usd,
            price.status,
            price.price_version,
            start.id,
            start.model,
            start.fingerprint,
            tier,
        )


def _spared(stored: Kept, target: Target | None, day: str) -> int:
    """Say what an answer of the cache would cost today, where it came from; 0 where that has no price."""
    if stored.usage is None or target is None:
        return 0
    return cost(stored.usage, target, day, stored.service_tier).nano_usd or 0


def _routed(row: Attempt, baseline: Target, day: str) -> int:
    """Say how much dearer a try would have been at the baseline; 0 where one of the two has no price."""
    if row.target == baseline.id or row.usage is None or row.cost_nano_usd is None:
        return 0
    there = cost(row.usage, baseline, day, row.service_tier).nano_usd
    return 0 if there is None else there - row.cost_nano_usd


def _failed_status(error: PenstockError | None) -> int | None:
    return error.status if isinstance(error, UpstreamError) else None


def _origin(status: Status, error: PenstockError) -> Literal["client", "gateway", "provider"]:
    if status == "cancelled":
        return "client" if isinstance(error, ClientClosed) else "gateway"
    if error.status in range(400, 500):
        return "provider" if isinstance(error, UpstreamError) and error.status == 429 else "client"
    return "provider" if isinstance(error, UpstreamError) else "gateway"


def _sum(rows: tuple[Attempt, ...]) -> tuple[int | None, CostStatus]:
    """Add up the tries; the worst status is the call's, and one unpriced try leaves the call without a price."""
    if not rows:
        return 0, "free"
    worst: CostStatus = max([row.cost_status for row in rows], key=_WORST.index)
    if worst == "unpriced":
        return None, worst
    return sum(row.cost_nano_usd or 0 for row in rows), worst


def _total(rows: tuple[Attempt, ...]) -> Usage:
    """Add up the usage of the tries: all of them are paid for."""
    used = [row.usage for row in rows if row.usage is not None]
    if len(used) < 2:
        return used[0] if used else NO_USAGE
    sources = {usage.source for usage in used}
    source: UsageSource = "provider"
    if sources != {"provider"}:
        source = "estimated" if "estimated" in sources else "counted"
    sums = {name: sum(getattr(usage, name) for usage in used) for name in Usage.__struct_fields__ if name != "source"}
    return Usage(**sums, source=source)


def opening(flight: InFlight[H], live: LiveTry) -> Opening:
    """Say who answers, in which lane, after how many tries."""
    exchange = live.exchange
    assert exchange is not None, "a try that answered has an exchange"
    return Opening(
        flight.id,
        live.target.id,
        exchange.lane,
        len(flight.tries),
        exchange.dropped,
        exchange.status,
        exchange.headers,
        flight.cache,
    )


def rough(flight: "InFlight[Any]", live: LiveTry) -> Usage:
    """Estimate by the length of bytes alone, which takes no time however long they are."""
    meter = live.meter
    counted, bound = flight.counted, flight.call.input_bound or 0  # pictures have no bound, and were counted
    into = -(-bound // BYTES_PER_TOKEN) if counted is None else counted
    return Usage(into, -(-(meter.kept + meter.beyond) // BYTES_PER_TOKEN), source="estimated")


def static_events(model: str, text: str) -> tuple[Started | TextDelta | Finished | Ended, ...]:
    """Give the last rung's text as the events of a reply."""
    return (Started(model=model), TextDelta(text), Finished("stop", "stop"), Ended())

"""A call while it lasts: what the gateway knows of it so far, and the receipt that it becomes.

Values gathered by `gateway.py` and turned into one `Receipt` here; this file does nothing itself and asks nobody.
"""

from collections.abc import Callable
from typing import Literal

from penstock.call import Call, Who
from penstock.errors import PenstockError, UpstreamError, UpstreamGarbled, UpstreamTimeout
from penstock.execute import LiveTry
from penstock.receipt import Attempt, CostStatus, Receipt, Status, Usage, UsageSource
from penstock.target import Cost, cost

NO_USAGE = Usage(source="none")
_WORST: tuple[CostStatus, ...] = ("free", "exact", "estimated", "unpriced")

Estimate = Callable[[Call, LiveTry], Usage]
"""Counts what a try used where its provider did not say."""


class InFlight:
    """One call between its admission and its receipt."""

    __slots__ = ("began", "call", "error", "id", "receipt", "started_ns", "status", "tries", "who")

    def __init__(self, call_id: str, started_ns: int, began: float, call: Call, who: Who) -> None:
        self.id = call_id
        self.started_ns = started_ns
        self.began = began
        self.call = call
        self.who = who
        self.tries: list[LiveTry] = []
        self.status: Status = "ok"
        self.error: PenstockError | None = None
        self.receipt: Receipt | None = None

    def fail(self, status: Status, error: PenstockError) -> None:
        """Remember how the call ended; the first word counts."""
        if self.error is None:
            self.status = status
            self.error = error

    def close(self, now: float, day: str, estimate: Estimate, config_hash: str) -> Receipt:
        """End every try and make the receipt."""
        for live in self.tries:
            live.end("cancelled" if self.status == "cancelled" else "error", now, self.error)
        rows = tuple(self._attempt(live, day, estimate) for live in self.tries)
        answered = self.tries[-1] if self.tries and self.error is None else None
        last = self.tries[-1] if self.tries else None
        total, status = _sum(rows)
        error = self.error
        self.receipt = Receipt(
            id=self.id,
            started_ns=self.started_ns,
            dialect=self.call.dialect,
            model=self.call.model,
            status=self.status,
            http_status=200 if error is None else error.status,
            streamed=self.call.stream,
            key_id=self.who.key_id,
            team=self.who.team,
            feature=self.who.feature,
            user=self.who.user,
            session=self.who.session,
            target=last.target.id if last is not None else None,
            error=None if error is None else error.code,
            error_origin=_origin(self.status, error),
            finish_reason=last.meter.finish if last is not None else None,
            usage=_total(rows),
            cost_nano_usd=total,
            cost_status=status,
            ttft_us=_us(last.first_at - self.began) if last is not None and last.first_at is not None else None,
            total_us=_us(now - self.began),
            lane=last.exchange.lane if last is not None and last.exchange is not None else None,
            dropped=answered.exchange.dropped if answered is not None and answered.exchange is not None else (),
            config_hash=config_hash,
            tries=rows,
        )
        return self.receipt

    def _attempt(self, live: LiveTry, day: str, estimate: Estimate) -> Attempt:
        usage, price = self._billed(live, day, estimate)
        start, error = live.meter.start, live.error
        ended = live.began if live.ended is None else live.ended
        return Attempt(
            target=live.target.id,
            kind=live.kind,
            status="ok" if live.status == "open" else live.status,
            http_status=_http_status(live),
            error=None if error is None else error.code,
            retry_after_ms=None if error is None or error.retry_after_s is None else round(error.retry_after_s * 1000),
            started_us=_us(live.began - self.began),
            ttft_us=None if live.first_at is None else _us(live.first_at - live.began),
            total_us=_us(ended - live.began),
            usage=usage,
            cost_nano_usd=price.nano_usd,
            cost_status=price.status,
            price_version=price.price_version,
            response_id="" if start is None else start.id,
            response_model="" if start is None else start.model,
            fingerprint=None if start is None else start.fingerprint,
        )

    def _billed(self, live: LiveTry, day: str, estimate: Estimate) -> tuple[Usage | None, Cost]:
        """Say what a try used and costs: as reported; else counted, unless the provider surely did not work for it."""
        usage = live.meter.usage
        if usage is None and _worked(live):
            usage = estimate(self.call, live)
        if usage is None:
            return None, Cost(0, "free" if live.target.free else "exact")
        return usage, cost(usage, live.target, day)


def _worked(live: LiveTry) -> bool:
    """Whether the provider may have spent tokens on a try: it answered, or fell silent after it was asked."""
    if live.exchange is not None or live.status == "cancelled":
        return True
    return isinstance(live.error, UpstreamTimeout | UpstreamGarbled)


def _http_status(live: LiveTry) -> int | None:
    if live.exchange is not None:
        return live.exchange.status
    return live.error.status if isinstance(live.error, UpstreamError) else None


def _origin(status: Status, error: PenstockError | None) -> Literal["client", "gateway", "provider"] | None:
    if error is None:
        return None
    if status == "cancelled" or error.status in range(400, 500):
        return "provider" if isinstance(error, UpstreamError) and error.status == 429 else "client"
    return "provider" if isinstance(error, UpstreamError) else "gateway"


def _sum(rows: tuple[Attempt, ...]) -> tuple[int | None, CostStatus]:
    """Add up the tries; the worst status is the call's, and one unpriced try leaves the call without a price."""
    if len(rows) == 1:
        return rows[0].cost_nano_usd, rows[0].cost_status
    worst: CostStatus = max((row.cost_status for row in rows), key=_WORST.index, default="free")
    if worst == "unpriced":
        return None, worst
    return sum(row.cost_nano_usd or 0 for row in rows), worst


def _total(rows: tuple[Attempt, ...]) -> Usage:
    """Add up the usage of the tries: all of them are paid for."""
    used = [row.usage for row in rows if row.usage is not None]
    if not used:
        return NO_USAGE
    if len(used) == 1:
        return used[0]
    sources = {usage.source for usage in used}
    source: UsageSource = "provider"
    if sources != {"provider"}:
        source = "estimated" if "estimated" in sources else "counted"
    sums = {name: sum(getattr(usage, name) for usage in used) for name in Usage.__struct_fields__ if name != "source"}
    return Usage(**sums, source=source)


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)

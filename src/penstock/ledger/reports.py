"""Reports: what was spent, by whatever people ask for, and the receipts themselves, in the shapes of `--json`.

Sums are made in SQL over integers and put together here: days and hours of a zone from quarters of an hour, days in UTC
from days. The parts and the unattributed row add up to the total, always, since every call falls into exactly one of them.
A call without a price is counted and said to be unpriced, never taken for one that cost nothing.

Reads the store and nothing else; `now` is given.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from msgspec import UNSET, Struct, UnsetType

from penstock.errors import InvalidRequest, NotFound
from penstock.ledger.ids import asked_id
from penstock.ledger.periods import day_of, hour_of, iso
from penstock.ledger.store import Filter, Span, Store, Sums
from penstock.receipt import Attempt, CostStatus, Lane, Receipt, Status, Usage, UsageSource
from penstock.target import usd

DIMENSIONS = ("feature", "model", "team", "user", "key", "target", "prompt", "day", "hour")
_TIMES = ("day", "hour")
_QUARTERS = 50_000
"""Quarters of an hour whose day is remembered while a report is made: more than a year."""


class SpendRow(Struct, frozen=True, kw_only=True):
    """A group of calls, under the dimensions that were asked for.

    cost_usd           None where no call of the group has a price; else the sum of those that have one
    cost_status        the worst of its calls: unpriced, estimated, exact, free
    cache_saved_usd    what calls would have cost that the cache answered
    routing_saved_usd  what the models' baselines would have cost beyond what the answering targets did; may be negative
    unpriced_calls     how many have no price; only there where there are any
    """

    feature: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    team: str | UnsetType = UNSET
    user: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    target: str | UnsetType = UNSET
    prompt: str | UnsetType = UNSET
    day: str | UnsetType = UNSET
    hour: str | UnsetType = UNSET
    calls: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_usd: str | None
    cost_status: CostStatus
    cache_saved_usd: str
    routing_saved_usd: str
    unpriced_calls: int | UnsetType = UNSET


class Spend(Struct, frozen=True):
    """What `penstock spend --json` prints."""

    since: str
    until: str
    zone: str
    by: tuple[str, ...]
    rows: tuple[SpendRow, ...]
    unattributed: SpendRow
    total: SpendRow


class UsageShape(Struct, frozen=True):
    """Tokens of a call or a try."""

    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    source: UsageSource


class TryShape(Struct, frozen=True):
    """One try of a call. Times are milliseconds from the start of the try."""

    target: str
    kind: str
    status: Status
    http_status: int | None
    error: str | None
    usage: UsageShape | None
    cost_usd: str | None
    cost_status: CostStatus
    ttft_ms: float | None
    total_ms: float
    service_tier: str | None


class CallShape(Struct, frozen=True):
    """A receipt as `penstock calls --json` prints it. `started_at` is UTC, money an exact decimal string of dollars."""

    id: str
    started_at: str
    team: str | None
    feature: str | None
    model: str
    target: str | None
    status: Status
    http_status: int
    finish_reason: str | None
    streamed: bool
    usage: UsageShape
    cost_usd: str | None
    cost_status: CostStatus
    ttft_ms: float | None
    total_ms: float
    tries: tuple[TryShape, ...]
    prompt: str | None
    lane: Lane | None
    cache: str
    dialect: str
    key: str | None
    user: str | None
    session: str | None
    error: str | None
    error_origin: str | None
    dropped: tuple[str, ...]
    cache_saved_usd: str
    routing_saved_usd: str


class Calls(Struct, frozen=True):
    """What `penstock calls --json` prints."""

    calls: tuple[CallShape, ...]


# -- receipts --


def calls(store: Store, which: Filter, limit: int = 20) -> Calls:
    """Give receipts, newest first."""
    return Calls(tuple(call_shape(receipt) for receipt in store.calls(which, limit)))


def show(store: Store, call_id: str) -> CallShape:
    """Give one receipt. Raises `NotFound`."""
    receipt = store.call(asked_id(call_id))
    if receipt is None:
        raise NotFound(f"There is no call {call_id!r}.", hint="A call in progress has no receipt before it ends.")
    return call_shape(receipt)


def call_shape(receipt: Receipt) -> CallShape:
    """Write a receipt for people and scripts."""
    return CallShape(
        id=receipt.id,
        started_at=iso(receipt.started_ns),
        team=receipt.team,
        feature=receipt.feature,
        model=receipt.model,
        target=receipt.target,
        status=receipt.status,
        http_status=receipt.http_status,
        finish_reason=receipt.finish_reason,
        streamed=receipt.streamed,
        usage=_usage(receipt.usage),
        cost_usd=_usd(receipt.cost_nano_usd),
        cost_status=receipt.cost_status,
        ttft_ms=_ms(receipt.ttft_us),
        total_ms=receipt.total_us / 1000,
        tries=tuple(_try(attempt) for attempt in receipt.tries),
        prompt=receipt.prompt,
        lane=receipt.lane,
        cache=receipt.cache,
        dialect=receipt.dialect,
        key=receipt.key_id,
        user=receipt.user,
        session=receipt.session,
        error=receipt.error,
        error_origin=receipt.error_origin,
        dropped=receipt.dropped,
        cache_saved_usd=usd(receipt.cache_saved_nano_usd),
        routing_saved_usd=usd(receipt.routing_saved_nano_usd),
    )


def _try(attempt: Attempt) -> TryShape:
    return TryShape(
        target=attempt.target,
        kind=attempt.kind,
        status=attempt.status,
        http_status=attempt.http_status,
        error=attempt.error,
        usage=_usage(attempt.usage) if attempt.usage else None,
        cost_usd=_usd(attempt.cost_nano_usd),
        cost_status=attempt.cost_status,
        ttft_ms=_ms(attempt.ttft_us),
        total_ms=attempt.total_us / 1000,
        service_tier=attempt.service_tier,
    )


def _usage(usage: Usage) -> UsageShape:
    return UsageShape(
        usage.input_tokens, usage.cached_input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.source
    )


def _usd(nano_usd: int | None) -> str | None:
    return None if nano_usd is None else usd(nano_usd)


def _ms(us: int | None) -> float | None:
    return None if us is None else us / 1000


# -- spend --


def dimensions(text: str) -> tuple[str, ...]:
    """Read `feature,model`, or raise `InvalidRequest`; an empty text asks for the total alone."""
    asked = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for word in asked:
        if word not in DIMENSIONS:
            raise InvalidRequest(
                f"spend cannot be given by {word[:64]!r}.", hint=f"Use any of {', '.join(DIMENSIONS)}.", param="by"
            )
    return asked


class _Total:
    """A row while it is added up."""

    __slots__ = (
        *("cached", "calls", "cost", "estimated", "exact", "input", "output", "unpriced"),
        *("cache_saved", "routing_saved"),
    )

    def __init__(self) -> None:
        self.calls = self.input = self.cached = self.output = 0
        self.cost = self.unpriced = self.estimated = self.exact = 0
        self.cache_saved = self.routing_saved = 0

    def add(self, sums: Sums) -> None:
        self.calls += sums.calls
        self.input += sums.input_tokens
        self.cached += sums.cached_input_tokens
        self.output += sums.output_tokens
        self.cost += sums.cost_nano_usd
        self.unpriced += sums.unpriced
        self.estimated += sums.estimated
        self.exact += sums.exact
        self.cache_saved += sums.cache_saved_nano_usd
        self.routing_saved += sums.routing_saved_nano_usd

    def status(self) -> CostStatus:
        if self.unpriced:
            return "unpriced"
        if self.estimated:
            return "estimated"
        return "exact" if self.exact or not self.calls else "free"

    def row(self, **values: str) -> SpendRow:
        priced = self.calls > self.unpriced or not self.calls
        return SpendRow(
            **values,
            calls=self.calls,
            input_tokens=self.input,
            cached_input_tokens=self.cached,
            output_tokens=self.output,
            cost_usd=usd(self.cost) if priced else None,
            cost_status=self.status(),
            cache_saved_usd=usd(self.cache_saved),
            routing_saved_usd=usd(self.routing_saved),
            unpriced_calls=self.unpriced or UNSET,
        )


def spend(store: Store, span: Span, by: Sequence[str], zone: ZoneInfo) -> Spend:
    """Sum up what calls that started in `span` used and cost. `by` holds `DIMENSIONS`, days and hours are the zone's."""
    asked = [name for name in by if name not in _TIMES]
    if set(by) & set(_TIMES):
        asked.append("day" if "hour" not in by and zone.key == "UTC" else "time")
    parts, unattributed, total = _parts(store.sums(span, asked), tuple(by), zone)
    return Spend(
        since=iso(span.since_ns, zone),
        until=iso(span.until_ns, zone),
        zone=zone.key,
        by=tuple(by),
        rows=tuple(part.row(**dict(zip(by, values, strict=True))) for values, part in _ordered(parts, by)),
        unattributed=unattributed.row(),
        total=total.row(),
    )


Parts = dict[tuple[str, ...], _Total]


def _parts(sums: Iterable[Sums], by: tuple[str, ...], zone: ZoneInfo) -> tuple[Parts, _Total, _Total]:
    """Every group goes to the total and either to its part or, where it lacks a dimension, to the unattributed."""
    parts: Parts = {}
    unattributed, total = _Total(), _Total()
    times = {"day": lru_cache(_QUARTERS)(day_of), "hour": lru_cache(_QUARTERS)(hour_of)}
    for group in sums:
        total.add(group)
        values = tuple([times[name](group.quarter, zone) if name in times else getattr(group, name) for name in by])
        whole = tuple(value for value in values if value is not None)
        if len(whole) < len(values):
            unattributed.add(group)
        else:
            parts.setdefault(whole, _Total()).add(group)
    return parts, unattributed, total


def _ordered(parts: Parts, by: Sequence[str]) -> list[tuple[tuple[str, ...], _Total]]:
    """In order of time where it was asked for, then the dearest first."""

    def place(part: tuple[tuple[str, ...], _Total]) -> tuple[list[datetime], int, tuple[str, ...]]:
        moments = [datetime.fromisoformat(value) for name, value in zip(by, part[0], strict=True) if name in _TIMES]
        return moments, -part[1].cost, part[0]

    return sorted(parts.items(), key=place)

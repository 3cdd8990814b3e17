"""Writes what an alert says: one `Notice` with every figure, exact, and a sentence for people.

The same `Notice` is the body of a webhook and the line of the log. Pure; never decides whether anybody is told. Place in
the line: beside `alerts.py`, which says what is due.
"""

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from penstock.target import usd
from penstock.telemetry.alerts import NS_PER_S, Due, Event, Standing, claim

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - written as UTC, with a Z
_MINUTE_S: Final = 60
_HOUR_MINUTES: Final = 60
SAMPLE_USD: Final = 1_000_000_000


class Subject(Struct, frozen=True):
    """The budget that an alert is about. `window` is day or month, in the time zone `zone`."""

    kind: str
    name: str
    window: str
    zone: str
    soft: bool


class Notice(Struct, frozen=True, omit_defaults=True):
    """One alert. Amounts are decimal strings of US dollars, exact; times are ISO 8601, UTC.

    id            the same whenever the same alert is sent again
    percent       the threshold; null for a refusal and for a pace
    burn_rate     how many times the even pace, and `used_up_at` when all would be spent so; for a pace only
    test          somebody only wants to know whether alerts arrive
    text          the whole, for people; chats that take incoming webhooks show it
    """

    event: Event
    id: str
    at: str
    budget: Subject
    percent: int | None
    spent_usd: str
    held_usd: str
    limit_usd: str
    resets_at: str
    text: str
    burn_rate: str | None = None
    used_up_at: str | None = None
    test: bool = False


def notice(due: Due, instance: str) -> Notice:
    """Write an alert; `instance` tells this gateway from others that have a budget of the same name."""
    budget, pace = due.budget, due.pace
    claimed = claim(due)
    return Notice(
        event=due.event,
        id=f"{instance}-{claimed.key.hex()}-{claimed.value}",
        at=_iso(due.at_ns),
        budget=Subject(budget.kind, budget.name, budget.window, budget.zone, budget.soft),
        percent=due.percent,
        spent_usd=usd(budget.spent_nano_usd),
        held_usd=usd(budget.held_nano_usd),
        limit_usd=usd(budget.limit_nano_usd),
        resets_at=_iso(budget.end_ns),
        text=_text(due),
        burn_rate=None if pace is None else _times(pace.tenths),
        used_up_at=None if pace is None else _iso(pace.used_up_ns),
    )


def sample(now_ns: int) -> Notice:
    """Write an alert that is only a test, in the shape of a real one."""
    day_ns = 86_400 * NS_PER_S
    start_ns = now_ns - now_ns % day_ns
    spent, limit = 8 * SAMPLE_USD, 10 * SAMPLE_USD
    budget = Standing("team", "example", "day", limit, spent, 0, start_ns, start_ns + day_ns)
    text = "This is a test: penstock's alerts arrive here. No budget is concerned."
    return Notice(
        event="budget_threshold",
        id=f"test-{now_ns}",
        at=_iso(now_ns),
        budget=Subject(budget.kind, budget.name, budget.window, budget.zone, soft=False),
        percent=80,
        spent_usd=usd(spent),
        held_usd=usd(0),
        limit_usd=usd(limit),
        resets_at=_iso(budget.end_ns),
        text=text,
        test=True,
    )


def _text(due: Due) -> str:
    match due.event:
        case "budget_threshold":
            return _threshold(due)
        case "budget_refusal":
            return (
                f"{_name(due.budget)} refuses calls that may cost more than is left: {_figures(due.budget)}."
                " Calls that set max_tokens reserve less."
                f" {_anew(due.budget)}."
            )
        case "budget_burn_rate":
            return _burn(due)


def _threshold(due: Due) -> str:
    budget, percent = due.budget, due.percent
    also = f" ({_listed(due.lower)} was passed at the same time)" if due.lower else ""
    if percent is None or percent < 100:
        return f"{_name(budget)} has passed {percent} %{also}: {_figures(budget)}. {_anew(budget)}."
    more = f" and has passed {percent} %" if percent > 100 else ""
    then = "Calls go on, since it is soft" if budget.soft else "Calls are refused"
    return f"{_name(budget)} is used up{more}{also}: {_figures(budget)}. {then}. {_anew(budget)}."


def _burn(due: Due) -> str:
    budget, pace = due.budget, due.pace
    assert pace is not None, "a pace is what this event is about"
    return (
        f"{_name(budget)} is being spent {_times(pace.tenths)} times faster than evenly:"
        f" {usd(pace.spent_nano_usd)} USD in the last {_span(pace.span_ns)}; {_figures(budget)}."
        f" At this pace it is used up at {_iso(pace.used_up_ns)}. {_anew(budget)}."
    )


def _name(budget: Standing) -> str:
    return f"The {budget.window} budget of {budget.kind} {budget.name!r}"


def _figures(budget: Standing) -> str:
    share = f" ({budget.spent_nano_usd * 100 // budget.limit_nano_usd} %)" if budget.limit_nano_usd > 0 else ""
    held = f", and calls in progress hold {usd(budget.held_nano_usd)}" if budget.held_nano_usd > 0 else ""
    return f"{usd(budget.spent_nano_usd)} of {usd(budget.limit_nano_usd)} USD are spent{share}{held}"


def _anew(budget: Standing) -> str:
    return f"It starts anew at {_iso(budget.end_ns)}"


def _listed(percents: tuple[int, ...]) -> str:
    return ", ".join(f"{one} %" for one in percents)


def _times(tenths: int) -> str:
    whole, rest = divmod(tenths, 10)
    return f"{whole}.{rest}"


def _span(span_ns: int) -> str:
    minutes = span_ns // NS_PER_S // _MINUTE_S
    return "hour" if minutes >= _HOUR_MINUTES else f"{minutes} minutes"


def _iso(ns: int) -> str:
    """Write a moment as ISO 8601 in UTC, to the second."""
    return (_EPOCH + timedelta(seconds=ns // NS_PER_S)).isoformat() + "Z"

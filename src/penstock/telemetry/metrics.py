"""Counts receipts for Prometheus, and writes the exposition of `GET /metrics`.

Plain counters; the Prometheus library shapes them only when somebody scrapes. On the path of an ordinary call its figures
are only put down: they are added up whenever `flushing.py` has its turn, and before anybody looks.
Labels are few and bounded: never a user, a key, a session or a call, and beyond `SERIES` combinations everything new is
counted under the labels "other". Budgets of teams, features and models are told by name, those of keys and users by their
number.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, islice
from operator import itemgetter
from typing import Final, Protocol, cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from penstock.receipt import Receipt
from penstock.target import NANO_PER_USD
from penstock.telemetry.alerts import Standing

SERIES = 2000
NAMED: Final = frozenset({"team", "feature", "model"})
"""Kinds of budgets of which there are few, so that each may have series of its own."""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_MICROSECONDS: Final = tuple(round(seconds * 1_000_000) for seconds in SECONDS)

Labels = tuple[str, str, str, str]
Counted = tuple[Labels, int, int, int | None, int, int | None]
"""Of a call: its labels (team, model, target and status), the tokens that went in and came out, its cost in nano-dollars
or None, how long it took, and how long its first content, in microseconds or None."""
AT_ONCE = 256
"""Calls that are added up together."""
_TOTAL_US, _TTFT_US = itemgetter(4), itemgetter(5)


class _Series:
    """What is summed per team, model, target and status."""

    __slots__ = ("calls", "cost_nano_usd", "input_tokens", "output_tokens", "tries", "unpriced")

    def __init__(self) -> None:
        self.calls = 0
        self.tries = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_nano_usd = 0
        self.unpriced = 0


class _Histogram:
    """Counts per bucket, and the sum in microseconds."""

    __slots__ = ("counts", "total_us")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.total_us = 0

    def add(self, values_us: list[int]) -> None:
        """Count values, which are put in order."""
        values_us.sort()
        below = 0
        for place, edge in enumerate(_MICROSECONDS):
            up_to = bisect_right(values_us, edge, below)
            self.counts[place] += up_to - below
            below = up_to
        self.counts[-1] += len(values_us) - below
        self.total_us += sum(values_us)

    def buckets(self) -> list[tuple[str, float]]:
        names = [*map(str, SECONDS), "+Inf"]
        return [(name, float(count)) for name, count in zip(names, accumulate(self.counts), strict=True)]


class TargetVitals(Protocol):
    """How one target does; see `routing.health.TargetState`."""

    @property
    def target(self) -> str:
        """Its name."""

    @property
    def breaker(self) -> str:
        """closed, open or half_open."""

    @property
    def openings(self) -> int:
        """How often its breaker opened."""

    @property
    def in_flight(self) -> int:
        """Tries at it now."""

    @property
    def limit(self) -> int:
        """How many it may have."""


class Room(Protocol):
    """The lines in which calls wait, and the targets that they wait for."""

    @property
    def everybody(self) -> int:
        """How many calls wait for room."""

    @property
    def waiting(self) -> int:
        """How many of them wait for a target of this configuration."""

    def states(self) -> Iterable[TargetVitals]:
        """Tell how each target does that was tried so far."""


class Budgets:
    """How the budgets stood when they were last looked at, one by one."""

    __slots__ = ("counts", "named", "used_up")

    def __init__(self) -> None:
        self.named: list[Standing] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        self.used_up: Counter[tuple[str, str]] = Counter()

    def add(self, budget: Standing) -> None:
        """Take one in."""
        kind = (budget.kind, budget.window)
        self.counts[kind] += 1
        if budget.is_used_up:
            self.used_up[kind] += 1
        if budget.kind in NAMED and len(self.named) < SERIES:
            self.named.append(budget)


class Metrics(Collector):
    """The counters of one process. `count` puts down the figures of a call that had one try, for `add_up`."""

    content_type = CONTENT_TYPE_LATEST
    """Of the exposition."""

    def __init__(self) -> None:
        self._series: dict[Labels, _Series] = {}
        self._waiting: list[Counted] = []
        self.count: Callable[[Counted], None] = self._waiting.append
        self._duration = _Histogram()
        self._first = _Histogram()
        self._watched: list[tuple[Callable[[], int], Room | None]] = []
        self._alerts: Counter[tuple[str, str]] = Counter()
        self._failed: Counter[str] = Counter()
        self.budgets = Budgets()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def watch(self, in_flight: Callable[[], int], room: Room | None = None) -> None:
        """Say where the number of calls in flight can be read, and how the targets do.

        The one that is given last is that of the configuration that holds. Those before it count as well, as long as there
        are calls in flight that began with them.
        """
        self._watched = [*self._ending(), *self._watched[-1:], (in_flight, room)]

    def _ending(self) -> list[tuple[Callable[[], int], Room | None]]:
        """Give those of former configurations that still have calls."""
        return [one for one in self._watched[:-1] if one[0]() > 0]

    def alert(self, event: str, percent: int | None) -> None:
        """Count an alert that was given out."""
        self._alerts[event, "" if percent is None else str(percent)] += 1

    def alert_failed(self, reason: str) -> None:
        """Count an alert that did not reach the webhook."""
        self._failed[reason] += 1

    def observe(self, receipt: Receipt) -> None:
        """Count one call."""
        target, usage = receipt.target, receipt.usage
        # A model that was refused may be any name that somebody invents: it gets no label.
        labels = (receipt.team or "", "" if target is None else receipt.model, target or "", receipt.status)
        self._catch_up()
        figures = (labels, usage.input_tokens, usage.output_tokens, receipt.cost_nano_usd)
        self._add([(*figures, receipt.total_us, receipt.ttft_us)], len(receipt.tries))

    def add_up(self) -> int:
        """Add up some of what waits for it, in the order in which labels came; give how much is left."""
        waiting = self._waiting
        self._add(waiting[:AT_ONCE])
        del waiting[:AT_ONCE]
        return len(waiting)

    def _catch_up(self) -> None:
        while self._waiting:
            self.add_up()

    def _add(self, calls: list[Counted], tries: int = 1) -> None:
        """Add up calls that had so many tries each."""
        groups: dict[Labels, list[Counted]] = {}
        for call in calls:
            groups.setdefault(call[0], []).append(call)
        for labels, alike in groups.items():
            _, into, out, costs, _, _ = zip(*alike, strict=True)
            known = _known(costs)
            series = self._series.get(labels) or self._new(labels)
            series.calls += len(alike)
            series.tries += len(alike) * tries
            series.input_tokens += sum(into)
            series.output_tokens += sum(out)
            series.unpriced += len(costs) - len(known)
            series.cost_nano_usd += sum(known)
        self._duration.add([*map(_TOTAL_US, calls)])
        self._first.add([*_known([*map(_TTFT_US, calls)])])

    def _new(self, labels: Labels) -> _Series:
        """Begin to sum up for labels that are new, or for all that are too many."""
        if len(self._series) >= SERIES:
            labels = ("other", "other", "other", labels[-1])
        return self._series.setdefault(labels, _Series())

    def exposition(self) -> bytes:
        """Write everything in Prometheus's text format."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing beforehand: the registry need not collect at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give the metrics as the Prometheus library's values."""
        self._catch_up()
        names = ["team", "model", "target", "status"]
        families = [
            (
                CounterMetricFamily("penstock_calls", "Calls that were let in, by how they ended.", labels=names),
                "calls",
            ),
            (CounterMetricFamily("penstock_tries", "Tries at providers.", labels=names), "tries"),
            (CounterMetricFamily("penstock_input_tokens", "Input tokens.", labels=names), "input_tokens"),
            (CounterMetricFamily("penstock_output_tokens", "Output tokens.", labels=names), "output_tokens"),
            (
                CounterMetricFamily("penstock_unpriced_calls", "Calls whose cost nobody knows.", labels=names),
                "unpriced",
            ),
        ]
        cost = CounterMetricFamily("penstock_cost_usd", "US dollars, where the price is known.", labels=names)
        for labels, series in sorted(self._series.items()):
            for family, field in families:
                family.add_metric(list(labels), getattr(series, field))
            cost.add_metric(list(labels), series.cost_nano_usd / NANO_PER_USD)
        yield from (family for family, _ in families)
        yield cost
        self._watched = [*self._ending(), *self._watched[-1:]]
        in_flight = sum(of() for of, _ in self._watched)
        yield GaugeMetricFamily("penstock_calls_in_flight", "Calls between admission and receipt.", in_flight)
        room = self._watched[-1][1] if self._watched else None
        if room is not None:
            waiting = room.everybody + sum(one.waiting for _, one in self._watched[:-1] if one is not None)
            yield GaugeMetricFamily("penstock_calls_waiting", "Calls that wait for room.", waiting)
            yield from _vitals(room)
        yield from _spending(self.budgets)
        yield from self._told()
        for name, text, histogram in (
            ("penstock_call_seconds", "From the start of a call to its receipt.", self._duration),
            ("penstock_first_content_seconds", "From the start of a call to its first content.", self._first),
        ):
            yield HistogramMetricFamily(name, text, buckets=histogram.buckets(), sum_value=histogram.total_us / 1e6)

    def _told(self) -> Iterator[Metric]:
        alerts = CounterMetricFamily("penstock_alerts", "Alerts that were given out.", labels=["event", "percent"])
        for labels, count in sorted(self._alerts.items()):
            alerts.add_metric(list(labels), count)
        failed = CounterMetricFamily(
            "penstock_alerts_failed", "Alerts that did not reach the webhook.", labels=["reason"]
        )
        for reason, count in sorted(self._failed.items()):
            failed.add_metric([reason], count)
        yield from (alerts, failed)


def _known(values: Sequence[int | None]) -> Sequence[int]:
    """Leave out what nobody knows."""
    return [value for value in values if value is not None] if None in values else cast("Sequence[int]", values)


def _spending(budgets: Budgets) -> Iterator[Metric]:
    names = ["kind", "name", "window"]
    spent = GaugeMetricFamily("penstock_budget_spent_usd", "Spent of a budget in its period.", labels=names)
    held = GaugeMetricFamily("penstock_budget_held_usd", "Held by calls in progress.", labels=names)
    limit = GaugeMetricFamily("penstock_budget_limit_usd", "What a budget allows in a period.", labels=names)
    for one in budgets.named:
        labels = [one.kind, one.name, one.window]
        spent.add_metric(labels, one.spent_nano_usd / NANO_PER_USD)
        held.add_metric(labels, one.held_nano_usd / NANO_PER_USD)
        limit.add_metric(labels, one.limit_nano_usd / NANO_PER_USD)
    count = GaugeMetricFamily("penstock_budgets", "Budgets of a kind.", labels=["kind", "window"])
    used_up = GaugeMetricFamily("penstock_budgets_used_up", "Budgets with nothing left.", labels=["kind", "window"])
    for kind, number in sorted(budgets.counts.items()):
        count.add_metric(list(kind), number)
        used_up.add_metric(list(kind), budgets.used_up[kind])
    yield from (spent, held, limit, count, used_up)


def _vitals(room: Room) -> Iterator[Metric]:
    names = ["target"]
    opened = GaugeMetricFamily("penstock_breaker_open", "1 where a target's breaker is not closed.", labels=names)
    openings = CounterMetricFamily("penstock_breaker_openings", "How often a breaker opened.", labels=names)
    tries = GaugeMetricFamily("penstock_target_in_flight", "Tries at a target now.", labels=names)
    limit = GaugeMetricFamily("penstock_target_limit", "Tries that a target may have at once.", labels=names)
    for state in islice(room.states(), SERIES):
        opened.add_metric([state.target], float(state.breaker != "closed"))
        openings.add_metric([state.target], state.openings)
        tries.add_metric([state.target], state.in_flight)
        limit.add_metric([state.target], state.limit)
    yield from (opened, openings, tries, limit)

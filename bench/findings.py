"""What a run has found, and the arithmetic on it: medians, ratios, targets. Pure: reads no clock, writes no file."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from load import PlainLoad
from measure import Memory
from streams import StreamLoad

BUSY = 64  # the concurrency at which throughput is compared
NOISE = 0.05  # above this share of a core gone to something that takes no part, figures are called noisy


@dataclass(frozen=True)
class Cell:
    """One candidate under one load in one round. CPU in microseconds a call (or content chunk); shares 0..1."""

    name: str
    round: int
    load: PlainLoad | StreamLoad
    cpu_us: float | None
    foreign: float
    stolen: float

    @property
    def disturbed(self) -> float:
        """The share of a core that went to something that takes no part, 0..1."""
        return self.foreign + self.stolen

    @property
    def kind(self) -> str:
        """Name the load: its number of connections, or "streams"."""
        return str(self.load.connections) if isinstance(self.load, PlainLoad) else "streams"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "kind": self.kind, "load": self.load.as_dict()}


@dataclass(frozen=True)
class LedgerCheck:
    """Receipts that one load left, against what the load saw. `at_most` counts what was in flight when it stopped."""

    what: str
    answered: int
    recorded: int
    at_most: int

    @property
    def holds(self) -> bool:
        """At least one receipt for every good answer, and none for a call that was never sent."""
        return self.answered <= self.recorded <= self.at_most


@dataclass(frozen=True)
class Resident:
    """What a candidate needs before it works: seconds from exec to its first good answer (each start), and memory."""

    starts_s: tuple[float, ...]
    idle: Memory
    loaded: Memory | None = None


@dataclass
class Findings:
    """Everything that one run has found; filled while it runs."""

    machine: dict[str, str]
    settings: dict[str, Any]
    versions: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> version, what it does for a call
    not_measured: dict[str, str] = field(default_factory=dict)
    residents: dict[str, Resident] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    ledger: list[LedgerCheck] = field(default_factory=list)
    ledger_problem: str | None = None
    import_s: float | None = None

    def loads(self, name: str, kind: str) -> list[Cell]:
        """Pick the cells of one candidate under one load, by round."""
        return [cell for cell in self.cells if cell.name == name and cell.kind == kind]

    def kinds(self) -> list[str]:
        """Return the concurrencies that were measured, ascending, without the streams."""
        return sorted({cell.kind for cell in self.cells} - {"streams"}, key=int)

    def middle(self, name: str, kind: str, read: Callable[[Cell], float | None]) -> float | None:
        """Return the median over the rounds of what `read` takes from a cell; None when nothing was measured."""
        return median(read(cell) for cell in self.loads(name, kind))

    def per_s(self, name: str, kind: str = str(BUSY)) -> float | None:
        """Median of good answers a second."""
        return self.middle(name, kind, lambda cell: cell.load.per_s if isinstance(cell.load, PlainLoad) else None)

    def p50_us(self, name: str, kind: str) -> float | None:
        """Median over the rounds of the median latency in microseconds."""
        return self.middle(name, kind, lambda cell: cell.load.p50_us if isinstance(cell.load, PlainLoad) else None)

    def p99_us(self, name: str, kind: str) -> float | None:
        """Median over the rounds of the 99th percentile in microseconds."""
        return self.middle(name, kind, lambda cell: cell.load.p99_us if isinstance(cell.load, PlainLoad) else None)

    def cpu_us(self, name: str, kind: str = str(BUSY)) -> float | None:
        """Median CPU in microseconds a call (a content chunk for "streams")."""
        return self.middle(name, kind, lambda cell: cell.cpu_us)

    def spread(self, name: str, kind: str = str(BUSY)) -> tuple[float, float] | None:
        """Return the slowest and the fastest round, in calls a second."""
        rates = [cell.load.per_s for cell in self.loads(name, kind) if isinstance(cell.load, PlainLoad)]
        return (min(rates), max(rates)) if rates else None

    def faults(self, name: str) -> str:
        """Say in words what went wrong under load, over all rounds; empty when nothing did."""
        plain = [cell.load for cell in self.cells if cell.name == name and isinstance(cell.load, PlainLoad)]
        streamed = [cell.load for cell in self.cells if cell.name == name and isinstance(cell.load, StreamLoad)]
        refused, broken = sum(one.refused for one in plain), sum(one.socket_errors for one in plain)
        torn = sum(one.streams - one.complete for one in streamed)
        parts = [f"{refused} calls refused"] * bool(refused) + [f"{broken} socket errors"] * bool(broken)
        parts += [f"{torn} of {sum(one.streams for one in streamed)} streams incomplete"] * bool(torn)
        return ", ".join([*parts, *dict.fromkeys(problem for one in streamed for problem in one.problems)])

    def noise(self) -> float:
        """Return the share of a core that went to something that takes no part: the worst load's median."""
        shares: dict[tuple[str, str], list[float]] = {}
        for cell in self.cells:
            shares.setdefault((cell.name, cell.kind), []).append(cell.disturbed)
        return max((statistics.median(values) for values in shares.values()), default=0.0)


@dataclass(frozen=True)
class Target:
    """One aim and how it went: `met` is None when this run could not tell."""

    aim: str
    found: float | None
    limit: float
    at_least: bool
    unit: str

    @property
    def met(self) -> bool | None:
        """Tell whether the aim was reached."""
        if self.found is None:
            return None
        return self.found >= self.limit if self.at_least else self.found <= self.limit


def median(values: Iterable[float | None]) -> float | None:
    """Return the median of what is there; None when nothing is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def ratio(upper: float | None, lower: float | None) -> float | None:
    """Divide two medians; None when one is missing or the lower one is zero."""
    return None if upper is None or not lower else upper / lower


def difference(upper: float | None, lower: float | None) -> float | None:
    """Subtract two medians; None when one is missing."""
    return None if upper is None or lower is None else upper - lower


def targets(found: Findings, who: str = "penstock") -> list[Target]:
    """Hold `who` against what it should reach, from one interleaved run."""
    busy = str(BUSY)
    resident = found.residents.get(who)
    p99_us = found.p99_us(who, busy)
    rate = found.per_s(who)
    chunk = ratio(found.cpu_us(who, "streams"), found.cpu_us("nginx", "streams"))
    faults = None if rate is None else float(found.faults(who) != "")
    ledger = float(sum(not check.holds for check in found.ledger)) if found.ledger else None
    return [
        Target("req/s at 64 connections against TensorZero", ratio(rate, found.per_s("tensorzero")), 2.5, True, "x"),
        Target("req/s at 64 connections against LiteLLM", ratio(rate, found.per_s("litellm")), 150, True, "x"),
        Target("req/s at 64 connections against nginx", ratio(rate, found.per_s("nginx")), 0.33, True, "x"),
        Target("CPU a call at 64 connections", found.cpu_us(who), 50, False, "us"),
        Target(
            "p50 at one connection, added over nginx",
            difference(found.p50_us(who, "1"), found.p50_us("nginx", "1")),
            60,
            False,
            "us",
        ),
        Target("p99 at 64 connections", None if p99_us is None else p99_us / 1e3, 5, False, "ms"),
        Target("streams: CPU a chunk against nginx", chunk, 2, False, "x"),
        Target("`import penstock`", found.import_s, 0.15, False, "s"),
        Target("exec to first good answer", median(resident.starts_s) if resident else None, 0.6, False, "s"),
        Target("idle memory (RSS)", resident.idle.rss_mb if resident else None, 60, False, "MB"),
        Target("loads with a refused call, a socket error or a torn stream", faults, 0, False, "faulty"),
        Target("loads whose receipts do not match their answers", ledger, 0, False, "loads"),
    ]

"""What the ledger costs: time and room per receipt, and reports, from a thousand receipts to ten million. One command.

    .venv/bin/python bench/ledger.py [--rows 100000]

For each size a ledger is made anew, of calls that lie over the 30 days up to now (`traffic.py`, seeded): each through intent,
receipt, journal and store, as a gateway does it, with checkpoints and with the sums that are kept. Printed are processor
time per receipt, bytes per receipt on disk (everything: tables, indexes, sums; journal gone), what a hold and its
settlement cost with budgets that were summed up from this ledger, and how long reports take. `cold` drops the files from
the page cache before (posix_fadvise) and runs in a new process; `command` is `penstock spend --since yesterday --by
feature` from start to end, the interpreter's start and imports included; `report` is opening the ledger, summing and
closing it, in a process that has just imported the program.

The whole run (ten million, a quarter of an hour at most) writes `bench/results/ledger.md` and `docs/ledger.svg`; one with
fewer rows only prints. Exit codes: 0 every target met, 1 one missed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "bench")]

import ledger_report  # noqa: E402  # needs the path above
from traffic import DAY_NS, FEATURES, NS, TEAMS, USERS, Traffic  # noqa: E402

from penstock.call import Who  # noqa: E402
from penstock.ledger import reports  # noqa: E402
from penstock.ledger.budgets import Budgets, Limit, Scope  # noqa: E402
from penstock.ledger.ledger import Ledger  # noqa: E402
from penstock.ledger.periods import read_moment, zone_of  # noqa: E402
from penstock.ledger.rolling import Rolling  # noqa: E402
from penstock.ledger.store import FILE, Span, Store  # noqa: E402

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
SOME = 100_000
"""Receipts of traffic of other kinds."""
BATCH = 256
ROLL_NS = 6 * 3600 * NS
REPEATS = 7
COMMAND = ("-m", "penstock", "spend", "--since", "yesterday", "--by", "feature", "--json")
REPORTS = (
    ("yesterday by feature", "yesterday", "feature"),
    ("yesterday by prompt", "yesterday", "prompt"),
    ("yesterday by feature, model, hour", "yesterday", "feature,model,hour"),
    ("30 days by feature", "30d", "feature"),
    ("30 days by user", "30d", "user"),
    ("30 days by feature, model, team", "30d", "feature,model,team"),
    ("30 days by key, day", "30d", "key,day"),
)


@dataclass
class Found:
    """What was measured with so many receipts. Microseconds are of processor time per call, milliseconds of the clock."""

    rows: int
    retried: float = 0.0
    per_s: float = 0.0
    us: dict[str, float] = field(default_factory=dict)
    bytes: float = 0.0
    sums_bytes: float = 0.0
    ms: dict[str, float] = field(default_factory=dict)

    @property
    def whole_us(self) -> float:
        """Processor time per call, everything that the ledger does."""
        return sum(self.us[name] for name in ("intent", "receipt", "store", "checkpoints", "sums"))


def build(home: Path, found: Found, traffic: Traffic, until_ns: int, *, sums: bool = True) -> None:
    """Fill a ledger and measure what each part of it takes."""
    ledger = Ledger.open(home, now_ns=until_ns)
    ledger._roller.stop()  # noqa: SLF001 - its clock is the wall's; here the sums are made by the calls' own
    rolling = Rolling.open(ledger.store.path)
    spent, clock = dict.fromkeys(("intent", "receipt", "store", "sums"), 0.0), time.thread_time
    began_process, began_thread, made, left = time.process_time(), clock(), 0.0, iter(traffic)
    next_ns, elapsed = 0, 0.0
    while True:
        at = clock()
        batch = list(islice(left, BATCH))
        made += clock() - at
        if not batch:
            break
        began = time.perf_counter()
        times = [clock()]
        for intent, _ in batch:
            ledger.intend(intent)
        times.append(clock())
        for _, receipt in batch:
            ledger.settle(receipt)
        times.append(clock())
        while ledger.flush(BATCH) > BATCH:  # a checkpoint kept it out: it catches up, as a gateway's timer does
            time.sleep(0.001)
        times.append(clock())
        now_ns = batch[-1][1].started_ns
        if sums and now_ns >= next_ns:
            next_ns = now_ns + ROLL_NS
            rolling.roll(now_ns)
        times.append(clock())
        for name, before, after in zip(spent, times, times[1:], strict=False):
            spent[name] += after - before
        elapsed += time.perf_counter() - began
    at = clock()
    if sums:
        rolling.roll(until_ns)
    spent["sums"] += clock() - at
    rolling.close()
    at = time.process_time()
    ledger.close(60)
    closing = time.process_time() - at
    beside = time.process_time() - began_process - (clock() - began_thread)  # what other threads did: checkpoints
    found.us = {name: value / found.rows * 1e6 for name, value in spent.items()}
    found.us["checkpoints"] = (beside + closing) / found.rows * 1e6
    found.per_s = found.rows / elapsed
    found.bytes = (home / FILE).stat().st_size / found.rows
    found.sums_bytes = kept_bytes(home) / found.rows


def kept_bytes(home: Path) -> int:
    """Give the bytes of the sums that are kept."""
    store = Store.open(home / FILE)
    try:
        pages = "SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name IN ('sums', 'rolled')"
        return int(store._execute(pages).fetchone()[0])  # noqa: SLF001 - this measures the inside
    finally:
        store.close()


def drop(home: Path) -> None:
    """Have the files read from the disk the next time."""
    for path in home.glob(f"{FILE}*"):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def timed(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Give the median milliseconds."""
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took)


def in_child(home: Path, arguments: Sequence[str], *, cold: bool) -> tuple[float, str]:
    """Run a new interpreter; give its milliseconds from start to end, and what it printed."""
    if cold:
        drop(home)
    environment = {**os.environ, "PENSTOCK_HOME": str(home), "PYTHONPATH": str(ROOT / "src")}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=home, check=True, capture_output=True, text=True, timeout=300
    )
    return (time.perf_counter() - began) * 1e3, done.stdout


def report(home: Path) -> None:
    """Open the ledger, sum yesterday up by feature, close it; print how many milliseconds that took, and the total."""
    began, now_ns, zone = time.perf_counter(), time.time_ns(), zone_of("UTC")
    ledger = Ledger.open(home, now_ns=now_ns)
    span = Span(read_moment("yesterday", now_ns, zone), now_ns)
    found = reports.spend(ledger.store, span, ("feature",), zone)
    ledger.close()
    print(json.dumps([(time.perf_counter() - began) * 1e3, found.total.calls]))


def read(home: Path, found: Found) -> None:
    """Measure the reports."""
    for name, cold in (("cold", True), ("warm", False)):
        commands, bare = [], []
        for _ in range(REPEATS if not cold else 3):
            commands.append(in_child(home, COMMAND, cold=cold)[0])
            bare.append(json.loads(in_child(home, (__file__, "--report", str(home)), cold=cold)[1])[0])
        found.ms[f"command, {name}"] = statistics.median(commands)
        found.ms[f"report, {name}"] = statistics.median(bare)
    store, now_ns, zone = Store.open(home / FILE), time.time_ns(), zone_of("UTC")
    for name, since, by in REPORTS:
        span = Span(read_moment(since, now_ns, zone), now_ns)
        found.ms[name] = timed(lambda span=span, by=by: reports.spend(store, span, reports.dimensions(by), zone), 3)
    who = Who(team=TEAMS[3], feature=FEATURES[1], user=USERS[7])
    scopes = (Scope("team", TEAMS[3]), Scope("feature", FEATURES[1]), Scope("user", USERS[7]))
    limits = [Limit(scope, window, 10**18) for scope in scopes for window in ("day", "month")]
    budgets = Budgets(limits, now_ns=now_ns)
    found.ms["budgets at start"] = timed(lambda: Budgets(limits, now_ns=now_ns, sums=store.sums), 3)
    calls = 5_000
    best = float("inf")
    for _ in range(9):
        at = time.process_time()
        for _ in range(calls):
            budgets.settle(budgets.hold(who, 1000, now_ns, ""), 900)
        best = min(best, (time.process_time() - at) / calls)
    found.us["hold, settle"] = best * 1e6
    store.close()


def measure(rows: int, retried: float = 0.0) -> Found:
    """Make a ledger of so many receipts and measure it."""
    found, until_ns = Found(rows, retried), time.time_ns()
    with tempfile.TemporaryDirectory(prefix="penstock-ledger-") as folder:
        home = Path(folder)
        build(home, found, Traffic(rows, until_ns, 30 * DAY_NS, retried), until_ns)
        if not retried:
            read(home, found)
    return found


def at_speed(rows: int) -> Found:
    """Measure a worker at its top speed: 4,000 calls a second, of which thousands are in flight at once."""
    found, until_ns = Found(rows), time.time_ns()
    with tempfile.TemporaryDirectory(prefix="penstock-ledger-") as folder:
        build(Path(folder), found, Traffic(rows, until_ns, rows * NS // 4000), until_ns, sums=False)
    return found


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=SIZES[-1], help="receipts of the largest ledger")
    parser.add_argument("--report", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.report:
        report(Path(options.report))
        return 0
    began = time.monotonic()
    every = []
    for rows in (*(size for size in SIZES if size < options.rows), options.rows):
        every.append(measure(rows))
        print(ledger_report.line(every[-1]), flush=True)
    retried, speed = measure(SOME, 0.2), at_speed(SOME)
    targets = ledger_report.targets(every[-1], retried, speed)
    text = ledger_report.markdown(every, retried, speed, targets, time.monotonic() - began)
    print("\n" + text)
    if options.rows == SIZES[-1]:
        (ROOT / "bench" / "results" / "ledger.md").write_text(text)
        (ROOT / "docs" / "ledger.svg").write_text(ledger_report.picture(every))
    return 0 if all(target.met for target in targets) else 1


if __name__ == "__main__":
    sys.exit(main())

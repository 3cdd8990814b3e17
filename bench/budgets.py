"""What a hold and its settlement cost: in memory, and in the file that several processes share. One command, seconds.

`python bench/budgets.py` has 1, 2 and 3 processes hold and settle one call after another, each call in two budgets of its
team (a day and a month), and prints microseconds of processor time per hold + settle, the slowest one in a hundred, and
what all processes did in a second. `--calls` says how many each of them makes. The lock is all that they fight for here: a
worker that answers calls takes it for less than a hundredth of its time. Then the same for one process with 10, 1,000 and
100,000 keys that each have a budget a day and a month, called in random order: what grows is the machine's own wait for
memory, and not the work. The last column is what the first call of a key takes, which makes its balances.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from penstock.call import Limits, Who  # noqa: E402  # needs the path above
from penstock.ledger.budgets import Budgets, Each, Limit, Scope  # noqa: E402
from penstock.ledger.ids import Ids  # noqa: E402
from penstock.ledger.shared_budgets import SharedBudgets  # noqa: E402
from penstock.ledger.store import FILE, Store  # noqa: E402

WEB = Scope("team", "web")
LIMITS = (Limit(WEB, "day", 10**15), Limit(WEB, "month", 10**16))
PROCESSES = (1, 2, 3)
KEYS = (10, 1_000, 100_000)
OF_A_KEY = Limits(day_nano_usd=10**15, month_nano_usd=10**16)
BATCHES = 20
TARGET_US = 25.0


def work(home: str, calls: int) -> None:
    """Hold and settle so many calls; print the best batch's processor time, the tail, and the time it took."""
    now = time.time_ns()
    budgets = SharedBudgets(LIMITS, now_ns=now, home=Path(home)) if home else Budgets(LIMITS, now_ns=now)
    who, ids = Who(team="web"), Ids(random.Random())
    names = [ids.new(now) for _ in range(calls // BATCHES)]
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    best, took = float("inf"), []
    for _ in range(BATCHES):
        cpu = time.process_time()
        for name in names:
            budgets.settle(budgets.hold(who, 1000, now, name), 900)
        best = min(best, (time.process_time() - cpu) / len(names))
    elapsed = time.perf_counter() - began
    for name in names:
        at = time.perf_counter()
        budgets.settle(budgets.hold(who, 1000, now, name), 900)
        took.append(time.perf_counter() - at)
    budgets.close()
    slow = sorted(took)[len(took) * 99 // 100]
    print(best * 1e6, slow * 1e6, calls / elapsed)


def with_keys(home: Path | None, keys: int, calls: int) -> tuple[float, float]:
    """Give microseconds per hold + settle at best and of a key's first call, where so many keys have budgets."""
    now, chance = time.time_ns(), random.Random(keys)
    budgets = Budgets((), now_ns=now, each=Each())
    if home is not None:
        budgets = SharedBudgets((), now_ns=now, home=home, each=Each())
    name = Ids(chance).new(now)
    whos = [Who(f"key_{number:016x}", limits=OF_A_KEY) for number in range(keys)]
    cpu = time.process_time()
    for who in whos:
        budgets.settle(budgets.hold(who, 1000, now, name), 900)
    first = (time.process_time() - cpu) / keys
    best = float("inf")
    for _ in range(BATCHES):
        called = chance.choices(whos, k=calls // BATCHES)
        cpu = time.process_time()
        for who in called:
            budgets.settle(budgets.hold(who, 1000, now, name), 900)
        best = min(best, (time.process_time() - cpu) / len(called))
    budgets.close()
    return best * 1e6, first * 1e6


def measure(home: str, processes: int, calls: int) -> tuple[float, float, float]:
    """Give microseconds at best, those of one in a hundred, and calls per second of all processes together."""
    command = [sys.executable, str(Path(__file__)), "--home", home, "--calls", str(calls)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    said = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        out, _ = child.communicate(timeout=120)
        said.append([float(word) for word in out.split()])
    return max(one[0] for one in said), max(one[1] for one in said), sum(one[2] for one in said)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=60_000, help="calls of each process")
    parser.add_argument("--home", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.home is not None:
        work(options.home, options.calls)
        return 0
    print(f"{'':24}{'hold + settle':>16}{'one in 100':>16}{'all together':>18}")
    rows = [("in memory", 1, False), *((f"shared, {n} process{'es' * (n > 1)}", n, True) for n in PROCESSES)]
    late = False
    for name, processes, shared in rows:
        with tempfile.TemporaryDirectory() as folder:
            Store.open(Path(folder) / FILE).close()
            best, slow, rate = measure(folder if shared else "", processes, options.calls)
        late |= best > TARGET_US
        print(f"{name:24}{best:13.1f} us{slow:13.1f} us{rate:16,.0f}/s", flush=True)
    print(f"\n{'':24}{'hold + settle':>16}{'first call':>16}")
    for shared in (False, True):
        for keys in KEYS:
            with tempfile.TemporaryDirectory() as folder:
                Store.open(Path(folder) / FILE).close()
                best, first = with_keys(Path(folder) if shared else None, keys, options.calls)
            late |= best > TARGET_US
            print(
                f"{'shared' if shared else 'in memory'}, {keys:,} keys".ljust(24) + f"{best:13.1f} us{first:13.1f} us",
                flush=True,
            )
    return int(late)


if __name__ == "__main__":
    sys.exit(main())

"""What penstock costs before its first call: import time, time until it answers, memory at rest. One command.

`python bench/startup.py` prints each figure with its target. Times are the best of N: a start is the same work every
time, and whatever else the machine does can only add to it.
"""

import argparse
import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import gateways
import measure
from gateways import Places
from peers import NotMeasured
from processes import Fleet, Launch, StartFailed, environment, free_port

ROOT = Path(__file__).resolve().parents[1]
_POLL_S = 0.002


@dataclass(frozen=True)
class Figure:
    """One measured figure with its unit and, where there is one, the target that it must not exceed."""

    what: str
    value: float
    unit: str
    limit: float | None = None

    def line(self) -> str:
        """Return the figure as one line: value, and its ratio to the target."""
        head = f"{self.what:<44} {self.value:8.3f} {self.unit:<3}"
        if self.limit is None:
            return head
        verdict = "pass" if self.value <= self.limit else "FAIL"
        return f"{head} target {self.limit:g} {self.unit}, ratio {self.value / self.limit:.2f}  {verdict}"


def parse_importtime(output: str, module: str) -> float:
    """Read the cumulative seconds of `module` from what `python -X importtime` writes (microseconds, the last column)."""
    for line in output.splitlines():
        columns = line.removeprefix("import time:").split("|")
        if len(columns) == 3 and columns[2].strip() == module:
            return int(columns[1]) / 1e6
    raise NotMeasured(f"-X importtime did not list {module}: {output.strip()[-300:]}")


def _python(python: Path, *words: str) -> tuple[float, str]:
    began = time.perf_counter()
    done = subprocess.run(
        [str(python), *words], env=environment(Path.home()), capture_output=True, text=True, timeout=60, check=False
    )
    took_s = time.perf_counter() - began
    if done.returncode:
        raise NotMeasured(f"python {' '.join(words)} failed: {done.stderr.strip().splitlines()[-1:]}")
    return took_s, done.stderr


def import_s(python: Path, times: int, statement: str = "import penstock") -> float:
    """Seconds that the import of penstock takes inside a fresh interpreter: the best of `times`."""
    found = (_python(python, "-X", "importtime", "-c", statement)[1] for _ in range(times))
    return min(parse_importtime(output, "penstock") for output in found)


def wall_s(python: Path, times: int, statement: str) -> float:
    """Seconds from exec to exit of an interpreter that runs `statement`: the best of `times`."""
    return min(_python(python, "-c", statement)[0] for _ in range(times))


def healthy(port: int) -> bool:
    """Tell whether `GET /healthz` answers 200 now."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    connection.close()
    return False


def ready(places: Places, core: int, limit_s: float = 20.0) -> tuple[float, measure.Memory]:
    """Start penstock once; return seconds from exec to the first 200 of `/healthz`, and its memory a second later."""
    setup = gateways.penstock(places)
    with Fleet() as fleet:
        began = time.perf_counter()
        pid = fleet.start(Launch(setup.argv, setup.env, setup.work, core, places.work / "penstock.log"))
        while not healthy(setup.port):
            fleet.check(pid)
            if time.perf_counter() - began > limit_s:
                raise StartFailed(f"/healthz did not answer 200 within {limit_s:g} s")
            time.sleep(_POLL_S)
        took_s = time.perf_counter() - began
        time.sleep(1.0)
        return took_s, measure.memory(pid)


def figures(python: Path, penstock: Path, times: int, core: int) -> list[Figure]:
    """Measure everything, each `times` times."""
    bare = wall_s(python, times, "pass")
    found = [
        Figure("import penstock (-X importtime, cumulative)", import_s(python, times), "s", 0.15),
        Figure("python -c 'pass' (exec to exit)", bare, "s"),
        Figure("python -c 'import penstock' (exec to exit)", wall_s(python, times, "import penstock"), "s"),
    ]
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        starts = []
        for number in range(times):
            # No upstream listens there: a start must not depend on one.
            work = Path(folder) / f"start-{number}"
            work.mkdir()
            starts.append(ready(Places(ROOT, work, free_port(), free_port(), penstock), core))
    memory = max((start[1] for start in starts), key=lambda one: one.rss_mb)
    found.append(Figure("exec to first 200 on /healthz", min(start[0] for start in starts), "s", 0.6))
    found.append(Figure("idle memory (RSS, the worst start)", memory.rss_mb, "MB", 60))
    if memory.pss_mb is not None:
        found.append(Figure("idle memory (PSS)", memory.pss_mb, "MB"))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=5, help="repetitions of each measurement (default 5)")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="the core that it starts on")
    parser.add_argument("--python", type=Path, default=ROOT / ".venv/bin/python", help="the interpreter to look at")
    parser.add_argument("--penstock", type=Path, default=ROOT / ".venv/bin/penstock", help="the command to start")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    try:
        found = figures(chosen.python, chosen.penstock.absolute(), chosen.times, chosen.core)
    except (NotMeasured, StartFailed, OSError) as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 3
    if chosen.json:
        print(json.dumps([vars(figure) for figure in found], indent=2))
    else:
        print("\n".join(figure.line() for figure in found))
    return int(any(figure.limit is not None and figure.value > figure.limit for figure in found))


if __name__ == "__main__":
    sys.exit(main())

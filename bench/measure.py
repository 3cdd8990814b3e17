"""What a process costs: CPU time, memory and start-up, read from `/proc`. Linux only; sends no load, starts nothing.

CPU time is that of the whole tree under a process (an nginx worker, a server's child), so no candidate can hide work
in a child. It is the kernel's own sum in clock ticks (10 ms): over a window of seconds at thousands of calls a second
the rounding is far below a microsecond a call.
"""

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
MB = 1024 * 1024
_PROC = Path("/proc")


@dataclass(frozen=True)
class Stat:
    """One process, from `/proc/<pid>/stat` (proc(5)); times in clock ticks."""

    pid: int
    parent: int
    own_ticks: int
    reaped_ticks: int


@dataclass(frozen=True)
class Memory:
    """Memory of a process tree in MB. `pss_mb` shares pages fairly between processes; None where it is unreadable."""

    rss_mb: float
    pss_mb: float | None


@dataclass(frozen=True)
class CoreTime:
    """What one core has done since boot, in seconds: running anything at all, and stolen by the hypervisor."""

    busy_s: float
    stolen_s: float


def parse_stat(text: str) -> Stat:
    """Read `/proc/<pid>/stat`. The command name may hold spaces and brackets, so fields count from the last bracket."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    utime, stime, reaped_utime, reaped_stime = (int(field) for field in fields[11:15])
    return Stat(
        pid=int(head.split("(", 1)[0]),
        parent=int(fields[1]),
        own_ticks=utime + stime,
        reaped_ticks=reaped_utime + reaped_stime,
    )


def _stat(pid: int) -> Stat | None:
    try:
        return parse_stat((_PROC / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None  # it ended between the listing and the reading


def tree(root: int) -> list[Stat]:
    """Return the process `root` and everything below it, as far as it still runs."""
    found = [_stat(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdigit()]
    return subtree(root, [stat for stat in found if stat is not None])


def subtree(root: int, stats: list[Stat]) -> list[Stat]:
    """Pick from `stats` the process `root` and its descendants, parents before children."""
    children: dict[int, list[Stat]] = {}
    for stat in stats:
        children.setdefault(stat.parent, []).append(stat)
    picked = [stat for stat in stats if stat.pid == root]
    for stat in picked:  # grows while it is walked: breadth first
        picked.extend(children.get(stat.pid, ()))
    return picked


def cpu_s(root: int) -> float:
    """CPU seconds that the tree under `root` has used so far, ended and reaped children included."""
    return sum(stat.own_ticks + stat.reaped_ticks for stat in tree(root)) * TICK_S


def parse_kb(text: str, field: str) -> int | None:
    """Read one `Field:   123 kB` line of `/proc/<pid>/status` or `smaps_rollup`; None when it is not there."""
    for line in text.splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    return None


def memory(root: int) -> Memory:
    """Resident (and where readable proportional) memory of the tree under `root`, now."""
    rss_kb = 0
    pss_kb: int | None = 0
    for stat in tree(root):
        place = _PROC / str(stat.pid)
        try:
            rss_kb += parse_kb((place / "status").read_text(), "VmRSS") or 0
        except (FileNotFoundError, ProcessLookupError):
            continue
        try:
            part = parse_kb((place / "smaps_rollup").read_text(), "Pss")
        except (OSError, ValueError):
            part = None
        pss_kb = None if part is None or pss_kb is None else pss_kb + part
    return Memory(rss_kb * 1024 / MB, None if pss_kb is None else pss_kb * 1024 / MB)


def parse_core(text: str, core: int) -> CoreTime:
    """Read one core's line of `/proc/stat` (proc(5)): user, nice, system, irq and softirq are busy, steal is stolen."""
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in rest.split()[:8])
            return CoreTime((user + nice + system + irq + softirq) * TICK_S, steal * TICK_S)
    raise ValueError(f"/proc/stat has no line for core {core}; choose the cores with --cores")


def core_time(core: int) -> CoreTime:
    """Read what `core` has done since boot."""
    return parse_core((_PROC / "stat").read_text(), core)


@dataclass(frozen=True)
class Spent:
    """CPU between two moments. Shares of the wall time: what neither the candidate nor the load did, and stolen time."""

    used_s: float
    foreign: float
    stolen: float


class Window:
    """CPU between two moments: of one candidate, and of everything that takes no part, on both cores.

    `candidate` is the process under load; None when there is none, and then only the load's core counts. `resting`
    are the other candidates: what they do meanwhile is foreign. The load is whatever else this process and its
    children do.
    """

    def __init__(self, candidate: int | None, resting: list[int], cores: tuple[int, int]) -> None:
        self._candidate, self._resting, self._cores = candidate, resting, cores
        self._began = time.perf_counter()
        self._then = self._read()

    def _read(self) -> tuple[float, float, CoreTime, CoreTime]:
        used_s = 0.0 if self._candidate is None else cpu_s(self._candidate)
        load_s = cpu_s(os.getpid()) - used_s - sum(cpu_s(pid) for pid in self._resting)
        return used_s, load_s, core_time(self._cores[0]), core_time(self._cores[1])

    def close(self) -> Spent:
        """Return what has been spent since the window was opened; of two noisy cores the noisier one counts."""
        (used_0, load_0, gateway_0, other_0), (used_1, load_1, gateway_1, other_1) = self._then, self._read()
        wall_s = time.perf_counter() - self._began
        foreign_s = max(0.0, other_1.busy_s - other_0.busy_s - (load_1 - load_0))
        stolen_s = other_1.stolen_s - other_0.stolen_s
        if self._candidate is not None:
            foreign_s = max(foreign_s, gateway_1.busy_s - gateway_0.busy_s - (used_1 - used_0))
            stolen_s = max(stolen_s, gateway_1.stolen_s - gateway_0.stolen_s)
        return Spent(used_1 - used_0, foreign_s / wall_s, stolen_s / wall_s)


def _first_line(argv: list[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False, cwd=cwd)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines and done.returncode in {0, 1} else "unknown"  # `wrk -v` ends with 1


def _cpu_model() -> str:
    for line in (_PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _siblings(core: int) -> str:
    place = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    return place.read_text().strip() if place.exists() else str(core)


def machine(root: Path, cores: tuple[int, int]) -> dict[str, str]:
    """Describe where the figures come from: machine, kernel, tools, date and commit of the repository at `root`."""
    commit = _first_line(["git", "rev-parse", "--short", "--verify", "HEAD"], root)
    if commit.startswith("fatal") or commit == "unknown":
        commit = "none"
    elif subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=root, check=False, capture_output=True).returncode:
        commit += " with local changes"
    gateway, load = cores
    shared = "two threads of one physical core" if _siblings(gateway) == _siblings(load) else "separate cores"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": commit,
        "machine": f"{os.cpu_count()} x {_cpu_model()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / MB / 1024:.0f} GB",
        "cores": f"gateway on {gateway}, load and upstream on {load} ({shared})",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "nginx": _first_line(["nginx", "-v"]).removeprefix("nginx version: "),
        "wrk": _first_line(["wrk", "-v"]).partition("Copyright")[0].strip(),
        "load average before": f"{os.getloadavg()[0]:.2f}",
    }

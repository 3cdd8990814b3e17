"""Processes start on their core and end with everything that they started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import measure
import processes
import pytest
from processes import Fleet, Launch, StartFailed, environment

PARENT = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    "print('up', flush=True); time.sleep(60)"
)


def launch(tmp_path: Path, code: str) -> Launch:
    core = max(os.sched_getaffinity(0))
    return Launch((sys.executable, "-c", code), environment(tmp_path), tmp_path, core, tmp_path / "log")


def wait_for(log: Path, text: str) -> None:
    ends_at = time.monotonic() + 10
    while text not in log.read_text():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def alive(pid: int) -> bool:
    return bool(measure.tree(pid))


def test_leaving_the_fleet_ends_a_process_and_its_children(tmp_path: Path) -> None:
    with Fleet() as fleet:
        pid = fleet.start(launch(tmp_path, PARENT))
        wait_for(tmp_path / "log", "up")
        family = [stat.pid for stat in measure.tree(pid)]
        assert len(family) == 2
    ends_at = time.monotonic() + 5
    while any(alive(member) for member in family) and time.monotonic() < ends_at:
        time.sleep(0.01)  # the orphan is reaped by init a moment later
    assert not any(alive(member) for member in family)


def test_a_process_that_ignores_the_request_to_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_GRACE_S", 0.05)
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    with Fleet() as fleet:
        pid = fleet.start(launch(tmp_path, stubborn))
        wait_for(tmp_path / "log", "up")
        fleet.end(pid)
        assert not alive(pid)


def test_a_process_runs_on_its_core_and_we_stay_on_ours(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    with Fleet() as fleet:
        pid = fleet.start(launch(tmp_path, "import time; time.sleep(60)"))
        assert os.sched_getaffinity(pid) == {max(before)}
        assert os.sched_getaffinity(0) == before


def test_a_process_that_ends_by_itself_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with Fleet() as fleet:
        pid = fleet.start(launch(tmp_path, "raise SystemExit('port is taken')"))
        with pytest.raises(StartFailed, match="port is taken"):
            fleet.wait_port(pid, processes.free_port())


def test_waiting_for_a_port_ends_in_time(tmp_path: Path) -> None:
    with Fleet() as fleet:
        pid = fleet.start(launch(tmp_path, "import time; time.sleep(60)"))
        with pytest.raises(StartFailed, match="nothing listened"):
            fleet.wait_port(pid, processes.free_port(), limit_s=0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_benchmark_ends_what_it_started(tmp_path: Path, number: int) -> None:
    bench = Path(processes.__file__).parent
    code = f"""
import os, sys, time
from pathlib import Path
sys.path.insert(0, {str(bench)!r})
from processes import Fleet, Launch, environment
work = Path({str(tmp_path)!r})
try:
    with Fleet() as fleet:
        argv = (sys.executable, "-c", "import time; time.sleep(60)")
        print(fleet.start(Launch(argv, environment(work), work, min(os.sched_getaffinity(0)), work / "log")), flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""
    # As a shell starts a background job: with SIGINT ignored.
    with subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$0" -c "$1"', sys.executable, code], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert alive(child)
        process.send_signal(number)
        assert process.wait(10) == 130
    assert not alive(child)

"""What processes cost: the files of /proc, read right, and a tree that hides nothing."""

import os
import subprocess
import sys
from pathlib import Path

import measure
import pytest
from measure import Stat

STAT = "42 (a b) c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 1 0 100 0 0"
STATUS = "Name:\tx\nVmRSS:\t  2048 kB\nThreads:\t1\n"
PROC_STAT = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 50 1000 5 1 2 3 0 0\ncpu1 1 2 3 4 5 6 7 8 0 0\nintr 5\n"


def test_a_command_name_with_brackets_and_spaces_does_not_shift_the_fields() -> None:
    assert measure.parse_stat(STAT) == Stat(pid=42, parent=7, own_ticks=200, reaped_ticks=50)


def test_a_tree_holds_children_of_children_and_nobody_else() -> None:
    stats = [Stat(pid, parent, 0, 0) for pid, parent in ((1, 0), (5, 4), (4, 2), (2, 1), (3, 1), (6, 3))]
    assert [stat.pid for stat in measure.subtree(2, stats)] == [2, 4, 5]


def test_memory_lines_are_found_by_their_whole_name() -> None:
    assert measure.parse_kb(STATUS, "VmRSS") == 2048
    assert measure.parse_kb(STATUS, "Vm") is None


def test_a_cores_work_and_what_was_stolen_from_it_are_told_apart() -> None:
    core = measure.parse_core(PROC_STAT, 0)
    assert core.busy_s == pytest.approx(153 * measure.TICK_S)
    assert core.stolen_s == pytest.approx(3 * measure.TICK_S)


def test_a_core_that_does_not_exist_is_an_error_with_a_hint() -> None:
    with pytest.raises(ValueError, match="--cores"):
        measure.parse_core(PROC_STAT, 64)


def test_cpu_of_a_grandchild_counts_for_its_grandparent() -> None:
    burn = "import time; end = time.process_time() + .2\nwhile time.process_time() < end: pass\nprint(1, flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the grandchild has burnt its share and waits
        running = measure.cpu_s(process.pid)
        assert len(measure.tree(process.pid)) == 2
        process.communicate(b"\n", timeout=10)
    assert running >= 0.19


def test_this_process_has_memory() -> None:
    here = measure.memory(os.getpid())
    assert here.rss_mb > 5
    assert here.pss_mb is None or 0 < here.pss_mb <= here.rss_mb


def test_a_process_that_has_ended_has_no_cost() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert measure.tree(process.pid) == []
    assert measure.memory(process.pid).rss_mb == 0


def test_the_machine_is_described_without_a_repository_too(tmp_path: Path) -> None:
    found = measure.machine(tmp_path, (0, 0))
    assert found["commit"] == "none"
    assert found["nginx"].startswith("nginx/")
    assert found["wrk"].startswith("wrk ")

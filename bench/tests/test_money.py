"""What money costs: that the calls of the benchmark still go the way that they measure."""

import subprocess
import sys
from pathlib import Path

MONEY = Path(__file__).resolve().parents[1] / "money.py"


def test_every_part_is_measured_in_a_run_too_short_to_judge() -> None:
    words = [sys.executable, str(MONEY), "--calls", "64", "--rounds", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode in {0, 1}, done.stderr
    assert done.stderr == ""
    for part in ("budgets in memory", "that processes share", "intent", "in the store", "a chunk of a stream"):
        assert part in done.stdout

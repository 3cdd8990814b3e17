"""The two command lines, and what a run makes of what its loads leave behind."""

import os

import gateways
import overhead
import pytest
import rounds
import startup
from load import PlainLoad
from peers import NotMeasured
from startup import Figure
from streams import StreamLoad

IMPORTTIME = """import time: self [us] | cumulative | imported package
import time:       200 |        200 |   penstock.call
import time:      1000 |      25000 | penstock
"""
two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the benchmark needs two cores")


@two_cores
def test_a_full_run_takes_every_candidate_and_a_quick_one_three() -> None:
    full, quick = (overhead.settings(overhead.arguments(words)) for words in ([], ["--quick"]))
    assert full.names == tuple(gateways.CANDIDATES)
    assert quick.names == ("direct", "nginx", "penstock")
    assert (full.rounds, full.seconds, quick.rounds, quick.seconds) == (3, 3, 2, 2)


@two_cores
def test_options_override_the_defaults_and_a_seed_is_kept() -> None:
    words = ["--quick", "--only", "nginx,litellm", "--rounds", "5", "--seconds", "1", "--seed", "42"]
    chosen = overhead.settings(overhead.arguments(words))
    assert (chosen.names, chosen.rounds, chosen.seconds, chosen.seed) == (("nginx", "litellm"), 5, 1, 42)


@two_cores
@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--only", "nginx,apache"], "no candidate called apache; choose from direct, nginx"),
        (["--only", ","], "no candidate called nothing"),
        (["--rounds", "0"], "0 is not a whole number above zero"),
        (["--seconds", "1.5"], "1.5 is not a whole number"),
        (["--cores", "0"], "give two core numbers"),
        (["--cores", "0,0"], "must differ"),
        (["--cores", "0,4096"], "among those this process may use"),
    ],
)
def test_a_mistake_on_the_command_line_ends_with_2_and_a_hint(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        overhead.arguments(words)
    assert stopped.value.code == 2
    assert hint in capsys.readouterr().err


def test_a_load_leaves_a_receipt_for_every_answer_and_some_for_what_was_in_flight() -> None:
    load = PlainLoad(64, answers=1000, refused=3, socket_errors=2, duration_s=1, p50_us=1, p99_us=1, max_us=1)
    assert rounds._receipts_of(load) == (997, 1066)  # noqa: SLF001 -- a rule worth a test of its own
    streams = StreamLoad(512, 510, 51000, 2.0, 0.1, 0.2, 1000.0, ())
    assert rounds._receipts_of(streams) == (510, 512)  # noqa: SLF001 -- as above


def test_import_time_is_the_cumulative_one_of_the_package_itself() -> None:
    assert startup.parse_importtime(IMPORTTIME, "penstock") == 0.025
    with pytest.raises(NotMeasured, match="did not list"):
        startup.parse_importtime(IMPORTTIME, "numpy")


def test_a_figure_shows_its_ratio_to_the_target() -> None:
    assert Figure("start", 0.3, "s", 0.6).line().endswith("target 0.6 s, ratio 0.50  pass")
    assert Figure("start", 0.9, "s", 0.6).line().endswith("ratio 1.50  FAIL")
    assert "target" not in Figure("bare", 0.9, "s").line()

"""The figures of the load past capacity, made of calls by hand."""

from typing import Any

import pytest
from overload import Ask, Found, Wanted, arguments, configuration, evaluate, quantile, report

WANTED = Wanted(places=20, latency_s=0.1, queue_s=1.0, seconds=4.0, times=4.0, seed=1, cores=(0, 1))
MARKS = [0.0, 4.0, 8.0, 12.0, 20.0]


def flood(
    *, refused_s: float = 0.001, retry_after: bool = True, per_s: int = 200, late_until: float = 12.0
) -> list[Ask]:
    """Make the calls of a run in which so many a second are served past capacity."""
    calls = [Ask(4 + place / 200, 200, 0.1, retry_after=False) for place in range(800)]
    calls += [Ask(8 + place / per_s, 200, 0.1, retry_after=False) for place in range(4 * per_s)]
    calls += [Ask(8 + place / 600, 503, refused_s, retry_after=retry_after) for place in range(2400)]
    calls.append(Ask(12.0, 200, late_until - 12.0 + 0.1, retry_after=False))
    return calls


def found(**more: Any) -> Found:
    return evaluate(flood(**more), [(9.0, 0.002), (10.0, 0.004)], MARKS, WANTED)


def missed(figures: Found) -> list[str]:
    return [name for name, met in figures.targets() if not met]


def test_a_good_run_meets_every_target() -> None:
    figures = found()
    assert missed(figures) == []
    assert (figures.share, figures.refused, figures.other, figures.recovery_s) == (1.0, 2400, 0, 0.0)
    assert (figures.refusal_p99_ms, figures.health_p95_ms) == (1.0, 4.0)


@pytest.mark.parametrize(
    ("wrong", "target"),
    [
        ({"per_s": 150}, "goodput"),
        ({"refused_s": 0.06}, "refusals within"),
        ({"retry_after": False}, "when to come again"),
        ({"late_until": 18.0}, "as before"),
    ],
)
def test_each_target_can_be_missed(wrong: dict[str, Any], target: str) -> None:
    (name,) = missed(found(**wrong))
    assert target in name
    assert f"{name} | **no** |" in report(found(**wrong))


def test_a_call_that_ends_without_an_answer_is_none_of_both() -> None:
    figures = evaluate([*flood(), Ask(9.0, 0, 1.0, retry_after=False)], [], MARKS, WANTED)
    assert figures.other == 1
    assert len(missed(figures)) == 1


def test_the_quantile_of_nothing_is_nothing() -> None:
    assert quantile([], 0.5) == 0.0
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0


def test_the_gateway_is_told_what_its_provider_takes() -> None:
    assert "concurrency = 20" in configuration(1, WANTED)
    assert "queue_s = 1.0" in configuration(1, WANTED)


@pytest.mark.parametrize("words", [["--places", "0"], ["--latency-ms", "x"]])
def test_a_wrong_option_is_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        arguments(words)
    assert caught.value.code == 2
    assert "is not a number above zero" in capsys.readouterr().err


def test_all_figures_are_in_the_report() -> None:
    assert report(found()).count("\n| ") >= len(Found.__dataclass_fields__)

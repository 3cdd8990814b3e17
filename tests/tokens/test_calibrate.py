"""Learning a factor from reports: it converges, follows a change, and is not thrown off by one wild report."""

from math import exp, sqrt
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.tokens.calibrate import ENOUGH, Factor, corrected, observe
from penstock.tokens.count import Buckets, CallCount, Count, total

START = Factor()


def learn(ratio: float, reports: int, *, factor: Factor = START, spread: float = 0.05, seed: int = 1) -> Factor:
    """Report, many times, `ratio` times the estimate, give or take."""
    rng = Random(seed)
    for _ in range(reports):
        estimated = rng.randrange(100, 10_000)
        factor = observe(factor, estimated, round(estimated * ratio * exp(rng.gauss(0, spread))))
    return factor


@pytest.mark.parametrize("ratio", [0.7, 1.0, 1.18, 1.53])
def test_the_factor_converges_to_the_true_ratio(ratio):
    assert exp(learn(ratio, 200).mean) == pytest.approx(ratio, rel=0.04)


@pytest.mark.parametrize("seed", range(5))
def test_the_band_holds_nearly_every_report_to_come(seed):
    factor = learn(1.3, 100, spread=0.1, seed=seed)
    rng = Random(seed + 100)
    held = 0
    for _ in range(500):
        count = corrected(Count(1_000, "estimated", (500, 2_000)), factor)
        low, high = count.band
        held += low <= 1_300 * exp(rng.gauss(0, 0.1)) <= high
    assert held > 480


def test_a_changed_tokenizer_is_followed():
    factor = learn(1.53, 100, factor=learn(1.18, 300))
    assert exp(factor.mean) == pytest.approx(1.53, rel=0.06)


def test_one_wild_report_moves_a_settled_factor_little():
    settled = learn(1.2, 100)
    assert exp(observe(settled, 1_000, 900_000).mean) == pytest.approx(exp(settled.mean), rel=0.05)


def test_short_prompts_teach_nothing():
    assert observe(Factor(), 10, 40) == Factor()
    assert observe(Factor(), 40, 0) == Factor()


def test_nothing_is_corrected_before_enough_is_known():
    estimate = Count(1_000, "estimated", (600, 2_000))
    few, enough = learn(1.5, ENOUGH - 1), learn(1.5, ENOUGH)
    assert corrected(estimate, few) is estimate
    assert corrected(estimate, enough).n > 1_300


@pytest.mark.parametrize("certainty", ["exact", "provider"])
def test_what_is_no_estimate_is_never_corrected(certainty):
    count = Count(1_000, certainty, (1_000, 1_000))
    assert corrected(count, learn(2.0, 50)) is count


def test_learning_narrows_the_band_and_never_makes_it_a_point():
    before = Count(1_000, "estimated", (600, 2_000))
    low, high = corrected(before, learn(1.0, 500, spread=0.0)).band
    assert 600 < low < 1_000 < high < 2_000


@given(st.lists(st.tuples(st.integers(-5, 10**400), st.integers(-5, 10**400)), max_size=40), st.integers(0, 10**9))
def test_whatever_is_reported_the_correction_is_a_sane_band(reports, n):
    factor = Factor()
    for estimated, reported in reports:
        factor = observe(factor, estimated, reported)
    assert sqrt(factor.variance) > 0
    count = corrected(Count(n, "estimated", (n // 2, n * 2)), factor)
    assert 0 <= count.band[0] <= count.n <= count.band[1]


def test_of_a_call_all_that_is_text_is_corrected_and_pictures_stay_as_they_are():
    text = Count(100, "estimated", (60, 200))
    picture = Count(1_000, "estimated", (900, 1_100))
    buckets = Buckets(system=text, user=text, images=picture)
    call = CallCount(1_200, "estimated", (1_020, 1_500), buckets=buckets, messages=(text, total((text, picture))))
    factor = learn(1.5, 200)
    better = corrected(call, factor)
    assert better.buckets.images == picture
    assert better.buckets.history.n == 0
    assert better.buckets.user.n == pytest.approx(150, rel=0.06)
    assert better.n == better.buckets.system.n + better.buckets.user.n + 1_000
    assert better.band[0] < better.n < better.band[1]
    assert (better.reports, better.messages[0].n) == (200, better.buckets.user.n)

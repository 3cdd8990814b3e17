"""How many retries a target may get."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.retry_budget import RetryBudget


def test_ten_retries_are_there_from_the_start_and_no_eleventh():
    budget, allowed = RetryBudget(), []
    for _ in range(12):
        allowed.append(budget.spend())
        if allowed[-1]:
            budget.earn()  # by the retry itself
    assert allowed == [True] * 10 + [False] * 2


def test_ten_first_tries_earn_one_retry():
    budget = RetryBudget()
    while budget.spend():
        budget.earn()  # the retry that was allowed
    assert not budget.spend()
    for _ in range(10):
        assert not budget.spend()
        budget.earn()
    assert budget.spend()


def test_more_than_ten_are_never_saved_up():
    budget = RetryBudget()
    for _ in range(10_000):
        budget.earn()
    retries = 0
    while budget.spend():
        budget.earn()
        retries += 1
    assert retries == 10


@given(st.lists(st.booleans(), max_size=2000))
def test_retries_never_exceed_a_tenth_of_the_first_tries_and_ten(wishes):
    budget, firsts, retries = RetryBudget(), 0, 0
    for wants_retry in wishes:
        if not wants_retry:
            budget.earn()
            firsts += 1
        elif budget.spend():
            budget.earn()
            retries += 1
        assert retries <= 10 + firsts / 10

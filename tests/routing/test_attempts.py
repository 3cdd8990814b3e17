"""The moves of a call, as playbooks: `>>` is what the driver is told to do, `<<` what it reports."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import (
    DeadlineExceeded,
    PenstockError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.routing.attempts import PATIENCE, Outcome, Patience, Try, Wait, attempts
from penstock.target import Target

ONE = Target(id="a/one", provider="a", model="one", dialect="chat")
TWO = Target(id="b/two", provider="b", model="two", dialect="chat")


class Highest(Random):
    """Draws the upper end of every range, so that the backoff is its bound."""

    def uniform(self, a, b):
        return b


def play(targets, errors, *, deadline=100.0, patience=PATIENCE, now=0.0):
    """Run the moves against a list of failures (None: it answered); give what was done, in short."""
    moves = attempts(targets, deadline, Highest(), patience)
    done, failures = [], iter(errors)
    move = next(moves)
    while True:
        if isinstance(move, Wait):
            done.append(f"wait {move.seconds:g}")
            now += move.seconds
            outcome = Outcome(now)
        else:
            done.append(f"{move.kind} {move.target.id}")
            error = next(failures)
            if error is None:
                moves.close()
                return done
            outcome = Outcome(now, error)
        try:
            move = moves.send(outcome)
        except StopIteration:
            return done


def failed():
    return UpstreamFailed("500")


def test_an_answer_at_once_is_one_move():
    assert play((ONE, TWO), [None]) == ["first a/one"]


def test_a_failure_is_retried_with_a_growing_backoff_and_then_falls_back():
    assert play((ONE, TWO), [failed(), failed(), failed(), None]) == [
        "first a/one",
        "wait 0.25",
        "retry a/one",
        "wait 0.5",
        "retry a/one",
        "fallback b/two",
    ]


def test_after_the_last_target_nothing_is_left():
    assert play((ONE,), [failed()] * 3)[-1] == "retry a/one"


def test_a_callers_mistake_ends_it_at_once():
    assert play((ONE, TWO), [UpstreamRejected("bad")]) == ["first a/one"]


def test_a_mistake_found_on_a_retry_ends_it_too():
    assert play((ONE, TWO), [failed(), UpstreamRejected("bad")])[-1] == "retry a/one"
    assert play((ONE, TWO), [failed(), failed(), UpstreamRejected("bad")])[-1] == "retry a/one"


def test_a_lying_target_is_left_for_the_next_one_without_a_retry():
    assert play((ONE, TWO), [UpstreamGarbled("html"), None]) == ["first a/one", "fallback b/two"]


def test_a_passed_deadline_ends_it():
    assert play((ONE, TWO), [DeadlineExceeded("late")]) == ["first a/one"]


def test_retry_after_is_waited_for_and_never_shortened():
    limited = UpstreamRateLimited("429", retry_after_s=1.5)
    assert play((ONE,), [limited, None]) == ["first a/one", "wait 1.75", "retry a/one"]


def test_a_long_retry_after_means_the_next_target_at_once():
    limited = UpstreamRateLimited("429", retry_after_s=30.0)
    assert play((ONE, TWO), [limited, None]) == ["first a/one", "fallback b/two"]


def test_the_last_target_is_waited_for_as_long_as_the_deadline_allows():
    limited = UpstreamRateLimited("429", retry_after_s=30.0)
    assert play((ONE,), [limited, None], deadline=31.0) == ["first a/one", "wait 30.25", "retry a/one"]
    assert play((ONE,), [limited, None], deadline=30.0) == ["first a/one"]


def test_a_retry_without_a_wait_has_no_wait_move():
    patience = Patience(base_s=0.0)
    assert play((ONE,), [failed(), None], patience=patience) == ["first a/one", "retry a/one"]


def test_no_retries_means_every_target_once():
    assert play((ONE, TWO), [failed(), failed()], patience=Patience(retries=0)) == ["first a/one", "fallback b/two"]


@given(
    st.lists(st.sampled_from([UpstreamFailed, UpstreamGarbled, UpstreamRateLimited]), min_size=30, max_size=30),
    st.integers(0, 4),
    st.integers(1, 4),
)
def test_the_number_of_tries_is_bounded_and_a_provider_is_never_asked_early(kinds, retries, count):
    targets = tuple(Target(id=f"p/{n}", provider="p", model=str(n), dialect="") for n in range(count))
    moves = attempts(targets, 1e9, Random(1), Patience(retries=retries))
    tries, now, not_before = 0, 0.0, {}
    errors: list[PenstockError] = [kind("x", retry_after_s=1.0) for kind in kinds]
    move = next(moves)
    while True:
        if isinstance(move, Wait):
            now += move.seconds
            outcome = Outcome(now)
        else:
            assert isinstance(move, Try)
            assert now >= not_before.get(move.target.id, 0.0)
            not_before[move.target.id] = now + 1.0
            outcome = Outcome(now, errors[tries])
            tries += 1
        try:
            move = moves.send(outcome)
        except StopIteration:
            break
    assert tries <= count * (1 + retries)


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_a_target_that_fails_always_is_tried_once_and_then_retries_times(retries):
    done = play((ONE,), [failed()] * 10, patience=Patience(retries=retries))
    assert sum("a/one" in move for move in done) == 1 + retries

"""The moves of a call, as playbooks: what the driver is told to do, given how the targets are and what the tries came to."""

from copy import copy
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from penstock.errors import (
    DeadlineExceeded,
    Overloaded,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.routing.attempts import PATIENCE, Outcome, Patience, Queue, States, Try, Wait, attempts
from penstock.target import Target

ONE = Target(id="a/one", provider="a", model="one", dialect="chat")
TWO = Target(id="b/two", provider="b", model="two", dialect="chat")
TWIN = Target(id="c/one", provider="c", model="one", dialect="chat")


class Highest(Random):
    """Draws the upper end of every range, so that the backoff is its bound."""

    def uniform(self, a, b):
        return b


class Scripted:
    """Targets that are as a script says: by name a verdict, or a list of (until when, verdict); "go" after its end."""

    def __init__(self, script=None, tokens=100, ttft_s=None):
        self.script = script or {}
        self.tokens = tokens
        self.ttft = ttft_s or {}

    def verdict(self, target, now, left_s):
        script = self.script.get(target.id, "go")
        if isinstance(script, str):
            return script
        return next((verdict for until, verdict in script if now < until), "go")

    def may_retry(self, target, now):
        self.tokens -= 1
        return self.tokens >= 0

    def cooling_s(self, target, now):
        script = self.script.get(target.id, "go")
        return 50.0 if isinstance(script, str) else max([u for u, v in script if v == "cooling"], default=now) - now

    def ttft_s(self, target, now):
        return self.ttft.get(target.id, 0.0)


class Policy(Struct, frozen=True):
    health: States
    patience: Patience | dict[str, Patience] = PATIENCE
    rng: Random = Highest()


def play(targets, results, *, deadline=100.0, patience=PATIENCE, states=None, since=0):
    """Run the moves; each try, and each wait for room, takes the next result: None for an answer, an error, or the target
    that has room. Give what was done, in short: the same whether or not the driver makes the first try by itself."""
    states, results = states or Scripted(), list(results)
    policy = Policy(copy(states), patience)
    if not since and states.verdict(targets[0], 0.0, deadline) == "go":
        error = results[0]
        if error is None:
            done = []
        else:
            done = perform(attempts(targets, deadline, policy, 0.0, 0, Outcome(0.0, error)), results[1:])
        done.insert(0, f"first {targets[0].id}")
        assert done == perform(attempts(targets, deadline, Policy(states, patience), 0.0), results)
        return done
    return perform(attempts(targets, deadline, policy, 0.0, since), results)


def perform(moves, results):
    """Make all moves."""
    now, done, results = 0.0, [], iter(results)
    move = next(moves, None)
    while move is not None:
        if isinstance(move, Wait):
            done.append(f"wait {move.seconds:g}")
            now += move.seconds
            outcome = Outcome(now)
        elif isinstance(move, Queue):
            done.append(f"queue {' '.join(target.id for target in move.targets)}")
            result = next(results)
            now += 1.0
            outcome = Outcome(now, None, result) if isinstance(result, Target) else Outcome(now, result)
        else:
            done.append(f"{'probe ' if move.probe else ''}{move.kind} {move.target.id}")
            error = next(results)
            if error is None:
                moves.close()
                return done
            outcome = Outcome(now, error)
        try:
            move = moves.send(outcome)
        except StopIteration:
            return done
    return done


def failed():
    return UpstreamFailed("500")


def limited(retry_after_s):
    return UpstreamRateLimited("429", retry_after_s=retry_after_s)


# -- retries and fallbacks, while all targets are well --


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


def test_an_answer_of_the_wrong_form_is_not_asked_of_the_same_model_elsewhere():
    assert play((ONE, TWIN, TWO), [UpstreamInvalid("no JSON"), None]) == ["first a/one", "fallback b/two"]
    assert play((ONE, TWIN), [UpstreamInvalid("no JSON")]) == ["first a/one"]
    later = play((ONE, TWIN, TWO), [limited(9.0), UpstreamInvalid("no JSON"), UpstreamGarbled("html")])
    assert later == ["first a/one", "fallback c/one", "fallback b/two"], "nor is it come back to"


def test_a_passed_deadline_ends_it():
    assert play((ONE, TWO), [DeadlineExceeded("late")]) == ["first a/one"]
    assert play((ONE, TWO), [UpstreamGarbled("html")], deadline=0.0) == ["first a/one"]


def test_patience_may_be_each_providers_own():
    patience = {"a": Patience(retries=0), "b": Patience(retries=1, base_s=0.0)}
    assert play((ONE, TWO), [failed()] * 3, patience=patience) == ["first a/one", "fallback b/two", "retry b/two"]


def test_a_retry_without_a_wait_has_no_wait_move():
    assert play((ONE,), [failed(), None], patience=Patience(base_s=0.0)) == ["first a/one", "retry a/one"]


def test_a_call_that_had_tries_before_has_no_first_one():
    assert play((ONE, TWO), [UpstreamGarbled("html"), None], since=1) == ["fallback a/one", "fallback b/two"]


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_a_target_that_fails_always_is_tried_once_and_then_retries_times(retries):
    done = play((ONE,), [failed()] * 10, patience=Patience(retries=retries))
    assert sum("a/one" in move for move in done) == 1 + retries


def test_without_a_token_there_is_no_retry_and_the_next_target_is_tried():
    assert play((ONE, TWO), [failed(), None], states=Scripted(tokens=0)) == ["first a/one", "fallback b/two"]
    assert play((ONE,), [failed()], states=Scripted(tokens=0)) == ["first a/one"]
    assert play((ONE,), [failed(), failed()], states=Scripted(tokens=1))[-1] == "retry a/one"


# -- Retry-After --


def test_retry_after_is_waited_for_and_never_shortened():
    assert play((ONE,), [limited(1.5), None]) == ["first a/one", "wait 1.75", "retry a/one"]


def test_a_long_retry_after_means_the_next_target_at_once():
    assert play((ONE, TWO), [limited(30.0), None]) == ["first a/one", "fallback b/two"]


def test_who_asked_for_a_long_wait_is_come_back_to_when_nothing_else_is_left():
    assert play((ONE, TWO), [limited(30.0), UpstreamGarbled("html"), None]) == [
        "first a/one",
        "fallback b/two",
        "wait 30.25",
        "retry a/one",
    ]
    assert play((ONE, TWO), [limited(30.0), UpstreamGarbled("html")], deadline=30.0)[-1] == "fallback b/two"
    bankrupt = Scripted(tokens=0)
    assert play((ONE, TWO), [limited(30.0), UpstreamGarbled("html")], states=bankrupt)[-1] == "fallback b/two"


def test_a_long_wait_comes_after_a_broken_target_and_before_one_that_is_too_slow():
    broken = Scripted({"b/two": "open"})
    done = play((ONE, TWO), [limited(30.0), UpstreamGarbled("html"), None], states=broken)
    assert done == ["first a/one", "fallback b/two", "wait 30.25", "retry a/one"]
    slow = Scripted({"b/two": "late"})
    assert play((ONE, TWO), [limited(30.0), None], states=slow) == ["first a/one", "wait 30.25", "retry a/one"]


def test_the_last_target_is_waited_for_as_long_as_the_deadline_allows():
    assert play((ONE,), [limited(30.0), None], deadline=31.0) == ["first a/one", "wait 30.25", "retry a/one"]
    assert play((ONE,), [limited(30.0), None], deadline=30.0) == ["first a/one"]


def test_a_driver_that_wakes_too_early_is_sent_to_wait_again():
    moves = attempts((ONE,), 100.0, Policy(Scripted()), 0.0)
    next(moves)
    assert moves.send(Outcome(0.0, limited(1.0))) == Wait(1.25)
    assert moves.send(Outcome(1.0)) == Wait(0.25)
    assert moves.send(Outcome(1.25)) == Try(ONE, "retry")


# -- how the targets are --


def test_a_target_that_may_not_be_called_is_passed_over_and_leaves_no_try():
    for verdict in ("open", "cooling", "full", "late"):
        assert play((ONE, TWO), [None], states=Scripted({"a/one": verdict})) == ["first b/two"]


def test_the_first_in_the_plans_order_that_may_be_called_is_called():
    states = Scripted({"a/one": "open", "c/one": "probe"})
    assert play((ONE, TWIN, TWO), [None], states=states) == ["probe first c/one"]


def test_an_open_breaker_is_tried_where_nothing_else_is_left():
    states = Scripted({"a/one": "open", "b/two": "open"})
    assert play((ONE, TWO), [failed(), UpstreamGarbled("html")], states=states) == ["first a/one", "fallback b/two"]
    assert play((ONE,), [failed(), None], states=states) == ["first a/one", "wait 0.25", "retry a/one"]


def test_a_target_whose_breaker_opened_is_not_tried_again_while_another_is_left():
    states = Scripted({"a/one": [(0.0, "go"), (99.0, "open")]})
    assert play((TWO, ONE), [failed(), None], states=states) == ["first b/two", "wait 0.25", "retry b/two"]
    states = Scripted({"a/one": [(0.1, "open")], "b/two": [(0.1, "open")]})
    assert play((ONE, TWO), [failed(), None], states=states) == ["first a/one", "fallback b/two"]


def test_full_targets_are_queued_for_together():
    states = Scripted({"a/one": "full", "b/two": "full", "c/one": "open"})
    assert play((ONE, TWIN, TWO), [TWO, None], states=states) == ["queue a/one b/two", "first b/two"]


def test_room_may_come_with_the_right_to_a_probe():
    states = Scripted({"a/one": [(1.0, "full"), (2.0, "probe")]})
    assert play((ONE,), [ONE, None], states=states) == ["queue a/one", "probe first a/one"]


def test_who_stood_in_line_for_nothing_looks_again():
    states = Scripted({"a/one": [(2.0, "full")]})
    assert play((ONE,), [None, None, None], states=states) == ["queue a/one", "queue a/one", "first a/one"]


def test_a_refused_wait_ends_it_at_once_even_where_a_broken_target_is_left():
    states = Scripted({"a/one": "full", "b/two": "open"})
    assert play((ONE, TWO), [Overloaded("busy")], states=states) == ["queue a/one"]
    states = Scripted({"a/one": "full", "b/two": [(9.0, "cooling")]})
    assert play((ONE, TWO), [Overloaded("busy")], states=states) == ["queue a/one"]


def test_a_refused_wait_does_not_keep_from_a_target_that_is_ready_soon():
    states = Scripted({"a/one": "full", "b/two": [(2.5, "cooling")]})
    assert play((ONE, TWO), [Overloaded("busy"), None], states=states) == ["queue a/one", "wait 1.75", "first b/two"]


def test_a_target_that_fills_up_during_the_backoff_is_queued_for():
    states = Scripted({"a/one": [(0.1, "go"), (0.5, "full")]})
    done = play((ONE,), [failed(), ONE, None], states=states)
    assert done == ["first a/one", "wait 0.25", "queue a/one", "retry a/one"]


def test_a_target_that_asked_to_be_left_alone_is_waited_for_where_nothing_else_is_left():
    states = Scripted({"a/one": [(30.0, "cooling")]})
    assert play((ONE,), [None], states=states) == ["wait 30.25", "first a/one"]


def test_the_jitter_of_such_a_wait_stays_before_the_deadline():
    states = Scripted({"a/one": [(30.0, "cooling")]})
    assert play((ONE,), [None], states=states, deadline=30.1) == ["wait 30.05", "first a/one"]


def test_a_target_that_asked_for_longer_than_there_is_time_is_tried_all_the_same():
    states = Scripted({"a/one": [(30.0, "cooling")]})
    assert play((ONE,), [None], states=states, deadline=30.0) == ["first a/one"]


def test_but_it_is_not_tried_a_second_time():
    states = Scripted({"a/one": [(0.2, "go"), (99.0, "cooling")]})
    assert play((ONE,), [failed(), None], states=states, deadline=50.0) == ["first a/one", "wait 0.25"]


def test_a_short_wait_is_better_than_a_broken_target_and_a_long_one_is_not():
    soon = Scripted({"a/one": "open", "b/two": [(2.0, "cooling")]})
    assert play((ONE, TWO), [None], states=soon) == ["wait 2.25", "first b/two"]
    late = Scripted({"a/one": "open", "b/two": [(9.0, "cooling")]})
    assert play((ONE, TWO), [UpstreamGarbled("html"), None], states=late) == [
        "first a/one",
        "wait 9.25",
        "fallback b/two",
    ]


def test_of_targets_that_are_all_too_slow_the_fastest_is_tried():
    states = Scripted({"a/one": "late", "b/two": "late"}, ttft_s={"a/one": 9.0, "b/two": 5.0})
    assert play((ONE, TWO), [failed()], states=states, deadline=0.2) == ["first b/two"]


def test_a_target_that_is_too_slow_is_no_fallback():
    states = Scripted({"b/two": "late"})
    assert play((ONE, TWO), [UpstreamGarbled("html")], states=states) == ["first a/one"]


# -- properties --

VERDICTS = ("go", "go", "probe", "open", "cooling", "full", "late")
ERRORS = (UpstreamFailed, UpstreamGarbled, UpstreamRateLimited, UpstreamInvalid, UpstreamRejected)


class Fickle(Scripted):
    """Targets that change with every question."""

    def __init__(self, rng, verdicts):
        super().__init__()
        self.rng = rng
        self.verdicts = verdicts

    def verdict(self, target, now, left_s):
        return self.rng.choice(self.verdicts)

    def may_retry(self, target, now):
        return self.rng.random() < 0.8

    def cooling_s(self, target, now):
        return self.rng.uniform(0.001, 20.0)


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.integers(0, 4), st.integers(1, 5), st.lists(st.sampled_from(VERDICTS), min_size=1))
def test_whatever_the_targets_do_the_moves_end_in_time_and_nobody_is_asked_early_or_too_often(
    seed, retries, count, verdicts
):
    rng = Random(seed)
    targets = tuple(Target(id=f"p/{n}", provider="p", model=str(n % 3), dialect="") for n in range(count))
    deadline, now, ends = 60.0, 0.0, 0.0
    policy = Policy(Fickle(rng, verdicts), Patience(retries=retries), rng)
    moves = attempts(targets, deadline, policy, now)
    not_before, left_out, tries, queues = {}, set(), [], 0
    move = next(moves)
    while True:
        if isinstance(move, Wait):
            assert move.seconds > 0
            now += move.seconds
            assert now < deadline, "a wait that does not fit is not begun"
            outcome = Outcome(now)
        elif isinstance(move, Queue):
            assert len(set(move.targets)) == len(move.targets) > 0
            queues += 1
            now += rng.uniform(0.01, 2.0)
            outcome = Outcome(now, Overloaded("busy")) if rng.random() < 0.2 else Outcome(now, None, move.targets[0])
        else:
            assert not (tries and ends >= deadline), "what comes after the deadline is not tried"
            assert now >= not_before.get(move.target.id, 0.0)
            assert move.target.model not in left_out
            assert (move.kind == "first") == (not tries)
            assert (move.kind == "retry") == (move.target in tries)
            tries.append(move.target)
            now = ends = now + rng.uniform(0.0, 3.0)
            error = rng.choice(ERRORS)("x", retry_after_s=rng.choice([None, 0.0, 1.0, 5.0, 1e9, -1.0]))
            if error.retry_after_s is not None:
                not_before[move.target.id] = now + error.retry_after_s
            if error.then == "model":
                left_out.add(move.target.model)
            outcome = Outcome(now, error)
        try:
            move = moves.send(outcome)
        except StopIteration:
            break
    assert all(tries.count(target) <= 1 + retries for target in targets)
    assert tries or queues

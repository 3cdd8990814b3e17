"""What is known of targets: verdicts, slots, breakers, limits, and what a reload keeps."""

import pytest

from penstock.routing.health import MOST_TARGETS, Health, HealthSettings
from penstock.target import Target
from routing.targets import LEFT_S, ONE, OTHER, TWO, broken, make, state, tried, verdict

# -- the breaker --


def test_five_failures_in_a_row_open_it_and_it_lets_one_probe_through_per_interval():
    health = broken()
    assert verdict(health, 0.0) == verdict(health, 4.9) == "open"
    assert verdict(health, 5.0) == "probe"
    slot = health.enter(ONE, 5.0)
    assert slot.probe
    assert verdict(health, 5.0) == verdict(health, 9.9) == "open"
    assert state(health, 5.0).breaker == "half_open"
    assert verdict(health, 10.0) == "probe"


def test_a_probe_closes_it_with_its_first_content_and_not_only_at_its_end():
    health = broken()
    slot = health.enter(ONE, 5.0)
    slot.first(5.5)
    assert verdict(health, 5.5) == "go"
    slot.leave(60.0, "ok")
    assert state(health, 60.0).breaker == "closed"


def test_a_probe_that_fails_leaves_it_open():
    health = broken()
    health.enter(ONE, 5.0).leave(5.1, "timeout")
    assert state(health, 5.1).breaker == "open"
    assert verdict(health, 9.9) == "open"
    assert verdict(health, 10.0) == "probe"


def test_a_probe_whose_caller_hung_up_decides_nothing():
    health = broken()
    health.enter(ONE, 5.0).leave(5.1, "cancelled")
    assert verdict(health, 5.2) == "open"
    assert verdict(health, 10.0) == "probe"


def test_a_probe_that_is_refused_for_what_the_caller_wrote_shows_that_the_target_answers():
    health = broken()
    health.enter(ONE, 5.0).leave(5.1, "rejected")
    assert verdict(health, 5.1) == "go"


def test_a_call_to_an_open_target_closes_it_if_it_is_answered():
    health = broken()
    tried(health, 1.0, "ok", first_s=0.5, took_s=1.0)
    assert verdict(health, 2.0) == "go"


@pytest.mark.parametrize("ending", ["limited", "rejected", "cancelled"])
def test_what_is_not_the_targets_failure_never_opens_it(ending):
    health = make()
    for number in range(500):
        tried(health, number * 0.01, ending)
    assert state(health, 5.0).breaker == "closed"
    assert state(health, 5.0).failures == 0


@pytest.mark.parametrize("ending", ["failed", "timeout"])
def test_what_is_the_targets_failure_opens_it(ending):
    health = make()
    for _ in range(5):
        tried(health, 0.0, ending)
    assert verdict(health, 0.0) == "open"
    assert state(health, 0.0).openings == 1


def test_old_answers_that_end_well_do_not_hide_that_new_ones_do_not_begin():
    health = make()
    streams = [health.enter(ONE, 0.0) for _ in range(20)]
    for slot in streams:
        slot.first(1.0)
    for slot in streams[:4]:
        tried(health, 2.0, "failed")
        slot.leave(2.0, "ok")
    tried(health, 2.0, "failed")
    assert verdict(health, 2.0) == "open"


def test_streams_that_break_off_open_it_although_each_began_well():
    health = make()
    for number in range(10):
        tried(health, float(number) / 2, "failed", first_s=0.1, took_s=0.2)
    assert verdict(health, 5.0) == "open"


def test_a_late_first_content_is_a_failure_where_that_is_asked_for_and_counts_once():
    health = make(slow_s=2.0)
    for _ in range(4):
        tried(health, 0.0, "ok", first_s=2.1, took_s=3.0)
        tried(health, 0.0, "ok", first_s=2.0, took_s=3.0)
    for _ in range(2):
        tried(health, 0.0, "failed", first_s=2.1, took_s=3.0)
    assert (state(health, 3.0).failures, state(health, 3.0).calls) == (6, 10)
    assert verdict(health, 2.5) == "open"
    lenient = make()
    for _ in range(9):
        tried(lenient, 0.0, "ok", first_s=60.0, took_s=61.0)
    assert state(lenient, 61.0).failures == 0


@pytest.mark.parametrize(
    ("slow_s", "first_s", "took_s", "tokens", "is_failure"),
    [
        (2.0, 1.0, 11.0, 49, True),
        (2.0, 1.0, 11.0, 51, False),
        (2.0, 1.0, 11.0, 31, False),  # too few to tell
        (10.0, 1.0, 11.0, 49, False),  # it took no longer than a first content may
        (2.0, None, 10.0, 49, True),  # a whole reply
        (2.0, None, 10.0, 500, False),  # it is long, not slow
    ],
)
def test_an_answer_slower_than_people_read_is_a_failure_where_that_is_asked_for(
    slow_s, first_s, took_s, tokens, is_failure
):
    for judged, counts in ((slow_s, is_failure), (None, False)):
        health = make(slow_s=judged)
        tried(health, 0.0, "ok", first_s=first_s, took_s=took_s, output_tokens=tokens)
        assert state(health, took_s).failures == counts


# -- asking to be left alone --


def test_a_busy_target_is_left_alone_for_as_long_as_it_asks():
    health = make()
    tried(health, 0.0, "limited", retry_after_s=7.0)
    tried(health, 0.0, "limited", retry_after_s=2.0)
    assert verdict(health, 6.9) == "cooling"
    assert health.cooling_s(ONE, 6.0) == 1.0
    assert health.cooling_s(TWO, 6.0) == 0.0
    assert verdict(health, 7.0) == "go"


@pytest.mark.parametrize(("asked", "cooling_s"), [(1e9, 60.0), (86_400.0, 60.0), (-5.0, 0.0), (0.0, 0.0), (None, 0.0)])
def test_nobody_else_is_kept_away_for_longer_than_a_minute(asked, cooling_s):
    health = make()
    tried(health, 0.0, "failed", retry_after_s=asked)
    assert state(health, 0.0).cooling_s == health.cooling_s(ONE, 0.0) == cooling_s


@pytest.mark.parametrize("ending", ["rejected", "cancelled", "ok"])
def test_nobody_keeps_others_away_by_what_it_writes(ending):
    health = make()
    tried(health, 0.0, ending, retry_after_s=30.0)
    assert verdict(health, 0.0) == "go"


# -- room --


def test_calls_at_once_are_limited_for_all_targets_of_a_provider_together():
    health = make(concurrency=2)
    slots = [health.enter(ONE, 0.0), health.enter(OTHER, 0.0)]
    assert verdict(health, 0.0) == verdict(health, 0.0, OTHER) == "full"
    assert verdict(health, 0.0, TWO) == "go"
    for _ in range(3):
        slots[0].leave(1.0, "ok")  # only the first word counts
    assert verdict(health, 1.0) == "go"
    health.enter(ONE, 1.0)
    assert verdict(health, 1.0) == "full"


def test_nothing_is_noted_after_a_slot_was_given_back():
    health = make()
    slot = health.enter(ONE, 0.0)
    slot.first(1.0)
    slot.first(9.0)
    slot.leave(2.0, "cancelled")
    slot.first(3.0)
    assert state(health, 3.0).ttft_p50_s == 1.0


def test_requests_and_tokens_per_minute_are_kept_and_told():
    health = make(rpm=2)
    for _ in range(2):
        tried(health, 0.0, "ok")
    assert health.free_in_s(ONE, 0.0, 0) == 30.0
    assert verdict(health, 0.0) == verdict(health, 29.0, OTHER) == "full"
    assert health.free_in_s(ONE, 29.0, 0) == pytest.approx(1.0)
    assert verdict(health, 30.0) == "go"
    health = make(tpm=600)
    slot = health.enter(ONE, 0.0, 1000)
    assert verdict(health, 0.0) == "full"
    slot.leave(0.0, "ok", tokens=400)
    assert verdict(health, 0.0) == "go"
    health.enter(ONE, 0.0, 250).leave(0.0, "ok", tokens=250)
    assert health.free_in_s(ONE, 0.0, 0) == pytest.approx(5.1)


def test_a_target_that_says_it_is_busy_gets_less_and_its_neighbour_does_not():
    health = make(concurrency=100)
    slots = [health.enter(ONE, 0.0) for _ in range(10)]
    slots[0].leave(0.1, "limited")
    assert state(health, 0.1).limit == 9
    assert verdict(health, 0.1) == "full"
    assert verdict(health, 0.1, OTHER) == "go"
    for slot in slots[1:]:
        slot.first(0.5)
    assert state(health, 0.5).limit == 18
    assert verdict(health, 0.5) == "go"


def test_a_target_that_stays_silent_gets_less_and_a_failing_one_does_not():
    health = make(concurrency=100)
    slots = [health.enter(ONE, 0.0) for _ in range(100)]
    slots[0].leave(10.0, "failed")
    assert state(health, 10.0).limit == 100
    slots[1].leave(10.0, "timeout")
    slots[2].leave(10.1, "timeout")  # of the same round trip
    assert state(health, 10.1).limit == 90


def test_a_whole_reply_shows_as_much_as_the_first_content_of_a_stream():
    health = make()
    slots = [health.enter(ONE, 0.0) for _ in range(10)]
    slots[0].leave(0.1, "limited")
    slots[1].leave(5.0, "ok")
    assert state(health, 5.0).limit == 10


def test_a_target_that_becomes_slow_of_late_gets_less():
    health = make(concurrency=10)
    for number in range(100):
        tried(health, float(number), "ok", first_s=0.5, took_s=0.6)
    slots = [health.enter(ONE, 100.0) for _ in range(10)]
    for slot in slots:
        slot.first(110.0)
    assert state(health, 110.0).limit < 10


# -- time --


def test_a_target_whose_first_content_would_come_too_late_is_passed_over():
    health = make()
    for number in range(19):
        tried(health, number * 0.1, "ok", first_s=3.0, took_s=4.0)
    assert verdict(health, 2.0, left_s=1.0) == "go"
    assert health.ttft_s(ONE, 2.0) == 0.0
    tried(health, 2.0, "ok", first_s=3.0, took_s=4.0)
    assert verdict(health, 6.0, left_s=2.9) == "late"
    assert verdict(health, 6.0, left_s=3.0) == "go"
    assert health.ttft_s(ONE, 6.0) == 3.0
    assert health.ttft_s(TWO, 6.0) == 0.0
    assert verdict(health, 66.0, left_s=2.9) == "go", "nobody knows whether it is still so slow"


def test_the_wait_for_room_grows_with_those_ahead_and_shrinks_with_the_room():
    health = make(concurrency=10)
    assert health.free_in_s(ONE, 0.0, 0) == 0.0
    assert health.free_in_s(ONE, 0.0, 9) == 0.0
    for number in range(200):
        tried(health, float(number), "ok", took_s=4.0)
    slots = [health.enter(ONE, 200.0) for _ in range(10)]
    assert health.free_in_s(ONE, 200.0, 0) == pytest.approx(0.4)
    assert health.free_in_s(ONE, 200.0, 9) == pytest.approx(4.0)
    slots[0].leave(200.1, "limited", retry_after_s=3.0)
    assert health.free_in_s(ONE, 200.1, 0) == pytest.approx(3.0)
    assert health.free_in_s(ONE, 200.1, 40) > 15.0


# -- retries --


def test_retries_are_paid_from_a_budget_per_target():
    health = make()
    allowed = 0
    while health.may_retry(ONE, 0.0):
        tried(health, 0.0, "failed")
        allowed += 1
    assert allowed == 10
    assert health.may_retry(OTHER, 0.0)
    for _ in range(10):
        tried(health, 0.0, "ok")
    assert health.may_retry(ONE, 0.0)
    assert state(health, 0.0).retry_tokens < 1


# -- what operators see, and what a reload keeps --


def test_operators_see_every_target_that_was_tried():
    health = make(concurrency=50)
    for number in range(20):
        tried(health, float(number), "ok", first_s=1.0 + number / 64, took_s=2.0)
    shown = state(health, 22.0)
    assert (shown.target, shown.breaker, shown.open_for_s, shown.next_probe_in_s) == ("a/one", "closed", None, None)
    assert (shown.openings, shown.failures, shown.calls) == (0, 0, 9)  # of the last ten seconds
    assert (shown.in_flight, shown.limit, shown.cooling_s, shown.retry_tokens) == (0, 50, 0.0, 10.0)
    assert (shown.ttft_p50_s, shown.ttft_p95_s) == (1.15625, 1.296875)
    for _ in range(5):
        tried(health, 22.0, "failed")
    shown = state(health, 23.0)
    assert (shown.breaker, shown.open_for_s, shown.next_probe_in_s, shown.openings) == ("open", 1.0, 4.0, 1)
    assert state(health, 30.0).next_probe_in_s == 0.0


def test_a_reload_keeps_what_is_known_and_what_is_in_flight():
    health = broken(concurrency=3, rpm=100)
    slot = health.enter(TWO, 0.0)
    after = Health({"a": HealthSettings(concurrency=1, rpm=50, tpm=10, probe_s=1.0)}, 1.0, health)
    assert verdict(after, 1.0) == "open"
    assert [one.target for one in after.states(1.0)] == ["a/one"]
    slot.leave(1.0, "ok")
    assert verdict(after, 5.0) == "probe"
    old = health.enter(ONE, 5.0)
    old.first(5.1)
    assert verdict(after, 5.1) == "full", "a call of the old configuration takes room of the new one"
    old.leave(5.2, "ok")
    assert verdict(after, 5.2) == "go"
    assert verdict(make(before=after, now=6.0), 6.0) == "go"


# -- memory --


def test_what_was_not_used_for_longest_makes_room_and_what_is_in_use_or_open_does_not():
    health = broken()
    slot = health.enter(OTHER, 0.0)
    for number in range(3 * MOST_TARGETS):
        target = Target(id=f"b/{number}", provider="b", model=str(number), dialect="chat")
        health.verdict(target, 0.0, LEFT_S)
        if number % 100 == 0:
            tried(health, 0.0, "ok", target=TWO)
    names = [one.target for one in health.states(0.0)]
    assert len(names) == MOST_TARGETS
    assert {"a/one", "a/other", "b/two"} <= set(names)
    slot.leave(1.0, "ok")


def test_where_everything_is_in_use_something_makes_room_all_the_same():
    health = make()
    targets = [Target(id=f"b/{number}", provider="b", model="", dialect="") for number in range(MOST_TARGETS + 50)]
    slots = [health.enter(target, 0.0) for target in targets]
    assert len(health.states(0.0)) == MOST_TARGETS
    for slot in slots:
        slot.leave(1.0, "ok")
    assert all(one.in_flight == 0 for one in health.states(1.0))
    assert health.verdict(TWO, 1.0, LEFT_S) == "go"


def test_a_target_is_full_or_not_whatever_else_is_said_of_it():
    health = Health({"a": HealthSettings(concurrency=1)}, 0.0)
    target = Target(id="a/m", provider="a", model="m", dialect="chat")
    assert not health.is_full(target, 0.0)
    slot = health.enter(target, 0.0)
    assert health.is_full(target, 0.0)
    slot.leave(1.0, "failed", retry_after_s=60.0)
    assert not health.is_full(target, 1.0)
    assert health.verdict(target, 1.0, 10.0) == "cooling"

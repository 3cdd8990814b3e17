"""The room of one try with a slot and without, and what is known of a target meanwhile."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.routing.allowance import Allowance
from penstock.routing.breaker import Breaker
from penstock.routing.concurrency import AdaptiveLimit
from penstock.routing.health import Health, HealthSettings
from penstock.routing.held import HeldTime
from penstock.routing.known import Known
from penstock.routing.latency import Latency
from penstock.routing.rate import Rate
from penstock.routing.retry_budget import RetryBudget
from routing.targets import LEFT_S, ONE, OTHER, TWO, make, state, tried


def is_new(_):
    pass


def is_cooling(health):
    tried(health, 0.0, "limited", retry_after_s=30.0)


def is_open(health):
    for _ in range(5):
        tried(health, 0.0, "failed")


def is_slow(health):
    for _ in range(20):
        tried(health, 0.0, "ok", first_s=200.0, took_s=200.0)


def is_full(health):
    for _ in range(3):
        health.enter(ONE, 0.0)


def has_no_tokens(health):
    health.enter(ONE, 0.0, 700)


def has_spent_its_retries(health):
    for _ in range(9):
        assert health.may_retry(ONE, 0.0)


class Calmly:
    """A try that began without a slot, and gets one where there is more to say than that it was answered."""

    probe = False

    def __init__(self, known, now):
        self.known, self.began, self.number, self.slot = known, now, known.breaker.began, None

    def _slot(self):
        self.slot = self.slot or self.known.slot(self.began, self.number)
        return self.slot

    def first(self, now):
        self._slot().first(now)

    def leave(self, now, ending, output_tokens=0, tokens=0, retry_after_s=None):
        if ending == "ok" and self.slot is None and self.known.answered(self.began, self.number, now):
            return False
        return self._slot().leave(now, ending, output_tokens, tokens, retry_after_s)


def at_once(health, target, now, left_s, tokens):
    """Begin a try as a driver does."""
    known = health.enter_calm(target, left_s)
    return Calmly(known, now) if known is not None else health.enter_at_once(target, now, left_s, tokens)


@pytest.mark.parametrize("now", [0.0, 6.0, 50.0])
@pytest.mark.parametrize(
    "before",
    [is_new, is_cooling, is_open, is_slow, is_full, has_no_tokens, has_spent_its_retries],
    ids=lambda one: one.__name__,
)
def test_entering_at_once_is_asking_and_entering_where_the_answer_is_go(before, now):
    one, other = (make(concurrency=3, rpm=600, tpm=600) for _ in range(2))
    for health in (one, other):
        before(health)
    slot = at_once(one, ONE, now, LEFT_S, 40)
    told = other.verdict(ONE, now, LEFT_S)
    assert (slot is None) == (told != "go")
    expected = other.enter(ONE, now, 40) if told == "go" else None
    assert one.states(now) == other.states(now)
    if slot is not None:
        slot.leave(now + 1.0, "ok", output_tokens=5, tokens=50)
        expected.leave(now + 1.0, "ok", output_tokens=5, tokens=50)
        assert one.states(now) == other.states(now)
        assert [one.free_in_s(ONE, now, n) for n in range(50)] == [other.free_in_s(ONE, now, n) for n in range(50)]


def test_leaving_tells_once_whether_it_opened_the_breaker():
    health = make()
    slots = [health.enter(ONE, 0.0) for _ in range(6)]
    told = [slot.leave(0.1, "failed") for slot in slots[:5]]
    assert told == [False] * 4 + [True]
    assert [slot.leave(0.2, "failed") for slot in slots] == [False] * 6


# -- the short way and the general one --


def held(one):
    """Everything that a thing holds, as values."""
    if isinstance(one, (Health, Known, Allowance, Breaker, AdaptiveLimit, RetryBudget, Latency, Rate)):
        return {name: held(getattr(one, name)) for name in type(one).__slots__ if name not in {"is_plain", "is_calm"}}
    if isinstance(one, HeldTime):
        return one.mean_s()
    if isinstance(one, dict):
        return {name: held(value) for name, value in one.items()}
    return [(type(each), each) for each in one] if isinstance(one, deque) else one


TRIES = st.lists(
    st.tuples(
        st.floats(0.0, 3.0),  # until it comes
        st.sampled_from([ONE, OTHER, TWO]),
        st.sampled_from([0.5, 5.0, 100.0]),  # left
        st.integers(0, 300),
        st.sampled_from([None] * 3 + [0.1, 0.5, 20.0]),  # to the first content
        st.sampled_from(["ok"] * 15 + ["failed", "failed", "limited", "timeout", "rejected", "cancelled"]),
        st.integers(0, 12),  # how many others begin before it ends
        st.sampled_from([False] * 15 + [True]),  # as a probe or a retry, whatever the verdict
    ),
    max_size=150,
)
RULES = st.builds(
    HealthSettings,
    st.sampled_from([1, 2, 5, 1000]),
    st.sampled_from([None, None, None, 30, 600]),
    st.sampled_from([None, None, None, 300, 6000]),
    st.sampled_from([1.0, 5.0]),
    st.sampled_from([None, None, 4.0]),
)


@settings(deadline=None)
@given(TRIES, RULES)
def test_the_short_way_leaves_everything_as_the_general_one_does(tries, rules):
    short, general = (Health({"a": rules, "b": HealthSettings()}, 0.0) for _ in range(2))
    for one in general._providers.values():
        one.is_plain = False  # nothing ends the short way
    now, open_slots = 0.0, []
    for gap, target, left_s, tokens, first_s, ending, later, forced in tries:
        now += gap
        for place, (due, slots, ended) in reversed(list(enumerate(open_slots))):
            if due <= 0:
                del open_slots[place]
                told = [slot.leave(now, ended, tokens, tokens * 2, 1.0) for slot in slots]
                assert told[0] == told[1]
            else:
                open_slots[place] = (due - 1, slots, ended)
        assert held(short) == held(general)
        assert short.is_full(target, now) == general.is_full(target, now)
        verdict_now = general.verdict(target, now, left_s)
        if forced and verdict_now != "full":
            assert short.verdict(target, now, left_s) == verdict_now
            slots = [one.enter(target, now, tokens) for one in (short, general)]
            assert short.may_retry(target, now) == general.may_retry(target, now)
        else:
            slots = [at_once(short, target, now, left_s, tokens)]
            slots.append(general.enter(target, now, tokens) if verdict_now == "go" else None)
            if slots[0] is None or slots[1] is None:
                assert slots == [None, None]
                continue
        assert slots[0].probe == slots[1].probe
        if first_s is not None:
            for slot in slots:
                slot.first(now + first_s)
        open_slots.append((later, slots, ending))
        assert held(short) == held(general)


def test_a_slot_that_was_left_in_good_order_is_left_once():
    health = make()
    slot = health.enter_at_once(ONE, 0.0, LEFT_S, 0)
    assert not slot.leave(1.0, "ok")
    before = held(health)
    assert not slot.leave(9.0, "ok")
    assert not slot.leave(9.0, "failed")
    assert held(health) == before


# -- what ends the calm, and keeps it away --


def calm(**settings):
    health = make(**settings)
    tried(health, 0.0, "ok")
    assert calmly(health)
    return health


def calmly(health, left_s=LEFT_S):
    """Tell whether a try may begin without a slot; it is answered at once."""
    known = health.enter_calm(ONE, left_s)
    return known is not None and known.answered(0.0, known.breaker.began, 0.0)


def one_failed(health):
    tried(health, 0.0, "failed")


def one_was_too_many(health):
    for slot in [health.enter(ONE, 0.0) for _ in range(4)]:
        slot.leave(0.0, "limited")


def is_left_alone(health):
    tried(health, 0.0, "failed", retry_after_s=30.0)
    tried(health, 0.0, "ok")


def has_spent_a_retry(health):
    assert health.may_retry(ONE, 0.0)


def has_surged(health):
    for _ in range(30):
        tried(health, 0.0, "ok", first_s=0.1)
    while state(health, 0.0).limit == HealthSettings().concurrency:  # once: whoever comes next looks by itself
        tried(health, 0.0, "ok", first_s=9.0)


@pytest.mark.parametrize(
    "disturb",
    [one_failed, is_open, is_left_alone, one_was_too_many, has_spent_a_retry, has_surged, is_slow],
    ids=lambda one: one.__name__,
)
def test_there_is_no_calm_while_more_than_room_matters(disturb):
    health = calm()
    disturb(health)
    for _ in range(3):
        assert not calmly(health)
        health.enter(ONE, 0.0)  # looks whether there is calm again


def test_a_slow_start_leaves_calm_to_those_who_have_the_time():
    health = calm()
    is_slow(health)
    assert [calmly(health, left_s) for left_s in (199.0, 200.0)] == [False, True]


def test_without_room_there_is_nothing_to_take():
    health = calm(concurrency=2)
    assert [health.enter_calm(ONE, LEFT_S) is None for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("settings", [{"rpm": 60}, {"tpm": 60}, {"slow_s": 1.0}])
def test_whose_provider_limits_more_than_calls_at_once_is_never_calm(settings):
    health = make(**settings)
    for _ in range(3):
        tried(health, 0.0, "ok")
        assert not calmly(health)


def test_other_settings_end_the_calm():
    health = calm(concurrency=5)
    one_was_too_many(health)
    for _ in range(40):
        tried(health, 0.0, "ok")
    health.enter(ONE, 0.0)
    more = make(before=health, concurrency=9)
    assert not calmly(more)
    assert not calmly(make(before=calm(), rpm=5))


def test_an_answer_that_comes_after_the_calm_is_told_by_a_slot():
    health = calm()
    known = health.enter_calm(ONE, LEFT_S)
    number = known.breaker.began
    one_failed(health)
    before = held(health)
    assert not known.answered(0.0, number, 1.0)
    assert held(health) == before
    known.slot(0.0, number).leave(1.0, "ok")
    assert state(health, 1.0).in_flight == 0


def test_an_answer_from_before_the_breaker_closed_says_nothing_of_now():
    health = calm()
    known = health.enter_calm(ONE, LEFT_S)
    number = known.breaker.began
    is_open(health)
    tried(health, 6.0, "ok")
    tried(health, 6.0, "ok")
    health.enter(ONE, 6.0)
    assert calmly(health)
    calls = state(health, 6.0).calls
    assert not known.answered(0.0, number, 6.0)
    known.slot(0.0, number).leave(6.0, "ok")
    assert state(health, 6.0).calls == calls

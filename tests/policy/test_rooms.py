"""The counters of one limit."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.call import Limits
from penstock.policy.rooms import Room


def room(**limits):
    return Room("team", "web", Limits(**limits))


def test_each_limit_keeps_out_by_itself():
    assert not full(room(concurrency=2), 2, 1).fits(1, 1.0)
    assert not full(room(rpm=2), 2, 1).fits(1, 1.0)
    assert not full(room(tpm=20), 2, 10).fits(1, 1.0)
    assert full(room(concurrency=3, rpm=3, tpm=21), 2, 10).fits(1, 1.0)


def full(one, calls, tokens):
    for _ in range(calls):
        assert one.fits(tokens, 0.0)
        one.enter(tokens, 0.0)
    return one


def test_a_place_comes_back_with_the_tokens_that_were_not_used():
    one = room(concurrency=1, tpm=100)
    place = one.enter(100, 0.0)
    one.leave(place, 30, 2.0)
    assert one.fits(70, 2.0)
    assert not one.fits(71, 2.0)


def test_a_call_that_asks_for_more_than_a_minute_s_tokens_gives_back_only_its_own():
    one = room(tpm=1000)
    one.leave(one.enter(100, 0.0), 900, 0.1)
    huge = room(tpm=1000)
    huge.leave(huge.enter(10**9, 0.0), 900, 0.1)
    assert [one.fits(100, 1.0), one.fits(101, 1.0)] == [huge.fits(100, 1.0), huge.fits(101, 1.0)] == [True, False]


def test_what_is_undone_leaves_no_trace():
    one = room(concurrency=1, rpm=1, tpm=10)
    one.undo(one.enter(10, 0.0), 0.5)
    assert one.fits(10, 0.5)
    assert one.idle


def test_a_room_is_idle_once_its_minute_is_over():
    one = room(rpm=5, tpm=10)
    assert one.idle
    place = one.enter(1, 0.0)
    assert not one.idle
    one.leave(place, 1, 1.0)
    one.pass_on(59.0)
    assert not one.idle
    one.pass_on(61.0)
    assert one.idle
    assert room(concurrency=1).idle
    room(concurrency=1).pass_on(5.0)


def test_calls_at_once_are_foretold_by_how_long_calls_stay():
    one = room(concurrency=2)
    for _ in range(3):
        one.leave(one.enter(1, 0.0), 0, 8.0)
    full(one, 2, 1)
    assert one.mean_s == 8.0
    assert one.expected_at(0, 0, 1, 100.0) == 105.0, "one of two leaves every four seconds, or a little later"
    assert one.expected_at(3, 0, 1, 100.0) == 120.0
    assert room(concurrency=2).expected_at(0, 0, 1, 100.0) == 100.0
    one.leave(one.enter(1, 0.0), 0, 16.0)
    assert one.mean_s == 10.0
    for _ in range(200):
        one.leave(one.enter(1, 0.0), 0, 3.0)
    assert one.mean_s == pytest.approx(3.0, abs=0.01), "what was long ago is forgotten"


def test_rates_are_foretold_by_what_leaves_the_minute():
    one = full(room(rpm=2), 2, 1)
    assert [one.expected_at(ahead, 0, 1, 5.0) for ahead in (0, 1, 2)] == [60.0, 60.0, 120.0]
    tokens = full(room(tpm=20), 1, 15)
    assert [tokens.expected_at(1, ahead, 5, 5.0) for ahead in (0, 1, 16)] == [5.0, 60.0, 65.0]
    assert tokens.expected_at(0, 0, 10**9, 5.0) == 60.0


def test_only_a_rate_says_when_it_lets_in():
    assert full(room(concurrency=1), 1, 1).rate_at(1, 5.0) is None
    assert full(room(concurrency=1, rpm=5), 1, 1).rate_at(1, 5.0) is None
    assert full(room(rpm=1), 1, 1).rate_at(1, 5.0) == 60.0
    assert full(room(tpm=1, rpm=9), 1, 1).rate_at(10**9, 5.0) == 60.0


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"rpm": 1}, "Team 'web' has used up its requests per minute."),
        ({"tpm": 1}, "Team 'web' has used up its tokens per minute."),
        ({"concurrency": 1}, "Team 'web' has 1 calls in flight, which is all it may have."),
        ({"concurrency": 2}, "Team 'web' has room only for calls that have waited longer."),
    ],
)
def test_a_refusal_says_what_there_is_too_much_of_and_when_to_come_again(limits, words):
    error = full(room(**limits), 1, 1).refusal(1, 12.3, 1.0)
    assert (error.message, error.hint, error.retry_after_s) == (words, "Come again in 13 s.", 12.3)


def test_where_nobody_can_tell_one_may_come_again_after_a_second():
    error = full(room(concurrency=1), 1, 1).refusal(1, 0.0, 1.0)
    assert (error.hint, error.retry_after_s) == ("Come again in 1 s.", 1.0)


def test_other_limits_keep_what_was_counted():
    one = full(room(rpm=2, concurrency=5), 2, 10)
    one.limit(Limits(rpm=3, tpm=10))
    assert one.fits(10, 1.0)
    one.enter(10, 1.0)
    assert not one.fits(1, 2.0)
    one.limit(Limits(concurrency=3))
    assert not one.fits(1, 2.0)
    one.limit(Limits(concurrency=4))
    assert one.fits(1, 2.0)


def test_places_of_limits_that_went_away_are_given_back_all_the_same():
    one = room(rpm=2, tpm=100, concurrency=2)
    first, second = one.enter(10, 0.0), one.enter(10, 0.0)
    one.limit(Limits(concurrency=2))
    one.leave(first, 50, 1.0)
    one.undo(second, 1.0)
    assert one.inside == 0


def test_a_limit_that_comes_back_begins_anew():
    one = full(room(rpm=2, tpm=20), 2, 10)
    one.limit(Limits(rpm=2))
    one.limit(Limits(rpm=5, tpm=20))
    assert one.fits(20, 1.0)
    one.limit(Limits(tpm=20))
    one.limit(Limits(rpm=1, tpm=20))
    assert one.fits(20, 1.0)


def test_tokens_that_were_not_counted_are_not_corrected():
    one = room(rpm=9)
    place = one.enter(10, 0.0)
    one.limit(Limits(rpm=9, tpm=100))
    one.leave(place, 1000, 1.0)
    assert one.fits(100, 1.0)
    other = room(tpm=100)
    place = other.enter(10, 0.0)
    other.limit(Limits(rpm=9))
    other.leave(place, 1000, 1.0)
    other.limit(Limits(rpm=9, tpm=100))
    assert other.fits(100, 1.0)


MOMENTS = st.lists(st.sampled_from([0.0, 0.1, 0.15, 0.3, 59.8, 60.0]), min_size=1, max_size=30)


def counted(one):
    rates = one.rates
    if rates is None:
        return one.inside
    return one.inside, rates.used, rates.calls, rates.debt, [(s.amount, s.calls, s.at, s.began) for s in rates.slices]


@given(MOMENTS, st.none() | st.integers(1, 9), st.none() | st.integers(1, 90), st.integers(1, 60))
@example([0.0, 59.9, 0.15], 5, None, 1)
@example([0.0, 59.9, 0.15], None, 50, 10)
def test_to_try_is_to_look_and_to_enter(gaps, rpm, tpm, tokens):
    tried, entered, now = room(rpm=rpm, tpm=tpm), room(rpm=rpm, tpm=tpm), 0.0
    for gap in gaps:
        now += gap
        place = tried.try_enter(tokens, now)
        if entered.fits(tokens, now):
            assert place is not None
            assert place.tokens == entered.enter(tokens, now).tokens
            assert place.taken is (None if tried.rates is None else tried.rates.slices[-1])
        else:
            assert place is None
        assert counted(tried) == counted(entered)


def test_nobody_pushes_in_where_somebody_waits():
    one = room(rpm=5)
    assert one.try_enter(1, 0.0) is not None
    one.contest()
    assert one.try_enter(1, 0.0) is None
    assert one.inside == 1


def test_a_full_room_is_tried_in_vain():
    one = room(concurrency=1, tpm=10)
    place = one.try_enter(4, 0.0)
    assert one.try_enter(4, 0.0) is None
    one.leave(place, 4, 0.1)
    assert one.try_enter(7, 0.2) is None
    assert one.try_enter(6, 0.2) is not None


# -- those that have leave to enter, and one look at a time --

STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.01, 0.02, 0.1, 0.25, 5.0, 59.8, -0.01]),
        st.sampled_from(["enter"] * 5 + ["leave"] * 5 + ["undo", "look", "limit"]),
        st.integers(1, 60),
        st.integers(0, 9),
    ),
    max_size=80,
)


def everything(one):
    return counted(one), one.calls, one.mean_s


@settings(deadline=None, max_examples=300)
@given(STEPS, st.none() | st.integers(1, 30), st.none() | st.integers(1, 900), st.none() | st.integers(1, 9))
@example([(0.0, "enter", 9, 0), (0.01, "enter", 9, 0), (0.01, "leave", 60, 0), (0.01, "enter", 9, 0)], None, 90, None)
def test_who_has_leave_is_counted_as_one_for_whom_it_is_looked(steps, rpm, tpm, concurrency):
    limits = Limits(rpm, tpm, concurrency)
    leaving, looking = room(), room()
    now, inside = 0.0, []
    for one in (leaving, looking):
        one.limit(limits)
    for gap, what, tokens, which in steps:
        now += gap
        assert looking.inside >= 0  # whoever looks, ends the leave
        if what == "enter":
            asked = tokens if leaving.most_tokens else 0
            places = leaving.try_enter(asked, now), looking.try_enter(asked, now)
            assert (places[0] is None) == (places[1] is None)
            if None not in places:
                assert places[0].tokens == places[1].tokens
                inside.append(places)
        elif what == "look":
            assert everything(leaving) == everything(looking)
        elif what == "limit":
            limits = Limits(rpm, tpm, concurrency) if limits.rpm == 9 else Limits(9, tpm, 3)
            for one in (leaving, looking):
                one.limit(limits)
        elif inside:
            first, second = inside.pop(which % len(inside))
            if what == "undo":
                leaving.undo(first, now)
                looking.undo(second, now)
            else:
                assert leaving.leave(first, tokens, now) == looking.leave(second, tokens, now)
    assert everything(leaving) == everything(looking)


def given_leave(**limits):
    one = room(**limits)
    one.try_enter(10, 0.0)
    assert one.is_let(10, 0.1)
    return one


@pytest.mark.parametrize(
    ("limits", "happens"),
    [
        ({"tpm": 90}, lambda one: one.contest()),
        ({"tpm": 90}, lambda one: one.limit(Limits(tpm=15))),
        ({"tpm": 90}, lambda one: one.try_enter(80, 0.1)),
        ({"tpm": 90}, lambda one: one.leave(one.try_enter(10, 0.1), 300, 0.1)),
        ({"tpm": 90, "rpm": 2}, lambda one: one.try_enter(10, 0.1)),
        ({"tpm": 90, "concurrency": 2}, lambda one: one.try_enter(10, 0.1)),
    ],
)
def test_nobody_has_leave_where_the_room_is_full_or_wanted(limits, happens):
    one = given_leave(**limits)
    happens(one)
    assert not one.is_let(10, 0.1)
    assert one.try_enter(10, 0.1) is None


def test_leave_lasts_no_longer_than_the_grain_and_not_beyond_what_leaves_the_window():
    one = given_leave(tpm=90)
    assert not one.is_let(10, 0.3)
    assert not one.is_let(10, -0.1), "nor does it hold for a clock that goes back"
    one = room(tpm=90)
    one.try_enter(80, 0.0)
    one.try_enter(5, 59.9)
    assert one.is_let(5, 59.95)
    assert not one.is_let(5, 60.0)
    assert one.try_enter(85, 60.0) is not None


def test_a_debt_leaves_nobody_any_leave():
    one = room(tpm=90)
    one.leave(one.try_enter(10, 0.0), 200, 0.1)
    assert one.rates.debt == 110
    one.enter(0, 0.15)
    assert not one.is_let(0, 0.15)


def test_what_an_earlier_grain_gives_back_during_a_leave_is_there_again():
    one = room(tpm=90)
    old = one.try_enter(50, 0.0)
    one.try_enter(10, 0.3)
    assert one.is_let(10, 0.31)
    one.leave(old, 20, 0.31)
    assert one.is_let(10, 0.31)
    assert (one.rates.used, [each.amount for each in one.rates.slices]) == (30, [20, 10])

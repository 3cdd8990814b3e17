"""What is due, for budgets that are spent in every way: pure, on a clock of our own."""

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.telemetry.alerts import Claim, Due, Rules, Standing, Watches, claim

S = 1_000_000_000
MINUTE, HOUR, DAY = 60 * S, 3600 * S, 86_400 * S
USD = 1_000_000_000
START = 1_000 * DAY  # a midnight, UTC


def budget(spent_usd, *, limit_usd=100, start=START, length=DAY, **changes):
    fields = {
        "kind": "team",
        "name": "web",
        "window": "day" if length == DAY else "month",
        "limit_nano_usd": limit_usd * USD,
        "spent_nano_usd": int(spent_usd * USD),
        "held_nano_usd": 0,
        "start_ns": start,
        "end_ns": start + length,
    }
    return Standing(**(fields | changes))


class People:
    """Whoever is told: looks at budgets, and takes note of what is due as told."""

    def __init__(self, *percents, burn_rate=None, now=START - DAY):
        self.watches = Watches(Rules(percents or (50, 80, 100), burn_rate), now)
        self.heard = []

    def look(self, one, now=START + HOUR):
        due = self.watches.look(one, now)
        for each in due:
            self.watches.told(each)
        told = [each for each in due if not each.silent]
        self.heard += told
        return [each.percent or each.event for each in told]

    def spend(self, *usd, **changes):
        return [self.look(budget(one, **changes)) for one in usd]


# -- thresholds --


def test_each_threshold_is_told_once():
    assert People().spend(0, 49.99, 50, 50, 79, 80, 81, 99.999999999, 100, 120, 120) == (
        [[], [], [50], [], [], [80], [], [], [100], [], []]
    )


def test_of_several_that_are_passed_at_once_the_highest_is_told_and_names_the_others():
    people = People()

    assert people.spend(10, 85, 90, 130) == [[], [80], [], [100]]
    assert [due.lower for due in people.heard] == [(50,), ()]


def test_a_threshold_is_passed_by_the_nano_dollar():
    limit = 3  # nano-dollars: 50 % are one and a half
    rows = [budget(0, limit_nano_usd=limit, spent_nano_usd=spent) for spent in (1, 2, 3)]

    assert [People().look(row) for row in rows] == [[], [50], [100]]


def test_what_is_due_stays_due_until_somebody_was_told():
    watches = Watches(Rules(burn_rate=None), START)
    first, second = watches.look(budget(80), START), watches.look(budget(80), START)
    watches.told(first[0])

    assert first == second
    assert watches.look(budget(80), START) == []


def test_a_new_period_begins_anew():
    people = People()

    assert people.spend(85) == [[80]]
    assert people.look(budget(0, start=START + DAY), START + DAY) == []
    assert people.look(budget(85, start=START + DAY), START + DAY + HOUR) == [80]


def test_budgets_do_not_mix():
    people = People()
    several = [{}, {"name": "app"}, {"kind": "model"}, {"length": 30 * DAY}]

    assert [people.spend(60, **changes) for changes in several] == [[[50]]] * 4
    assert [people.spend(60, **changes) for changes in several] == [[[]]] * 4


def test_after_a_limit_was_raised_only_what_is_passed_anew_is_told():
    people = People()
    steps = [(85, 100), (85, 200), (99, 200), (101, 200), (160, 200), (160, 190), (160, 160), (160, 300), (240, 300)]
    told = [people.look(budget(spent, limit_usd=limit)) for spent, limit in steps]

    assert told == [[80], [], [], [50], [80], [], [100], [], [80]]


def test_a_limit_that_is_lowered_below_what_is_spent_is_told():
    people = People()

    assert people.look(budget(40)) == []
    assert people.look(budget(40, limit_usd=45)) == [80]


def test_what_was_told_under_the_limit_before_is_handed_on_in_silence():
    people = People()
    people.look(budget(85))
    (due,) = people.watches.look(budget(85, limit_usd=101), START + HOUR)

    assert (due.silent, due.percent, due.budget.limit_nano_usd) == (True, 80, 101 * USD)
    assert claim(due).key == claim(Due("budget_threshold", budget(85, limit_usd=101), 0, 80)).key


def test_what_was_told_stays_told_when_the_percentages_change():
    people = People()
    people.spend(85)
    people.watches.reload(Rules((60, 90, 95), None))

    assert people.spend(86, 90, 100) == [[], [90], [95]]


def test_thresholds_beyond_all_of_it_are_for_soft_budgets():
    assert People(100, 150).spend(120, 149, 150, 900, soft=True) == [[100], [], [150], []]


def test_without_thresholds_nothing_is_told():
    watches = Watches(Rules((), None), START)

    assert watches.look(budget(500), START) == []


def test_a_budget_of_nothing_is_told_only_if_something_was_spent():
    people = People()

    assert people.spend(0, limit_usd=0, refused=7) == [[]]
    assert people.spend(0.1, limit_usd=0, soft=True) == [[100]]


# -- refusals --


def test_a_refusal_with_hardly_anything_left_means_that_all_is_used_up():
    people = People()

    assert people.look(budget(99)) == [80]
    assert people.look(budget(99, refused=1)) == [100]
    assert people.look(budget(99, refused=5)) == []
    assert people.look(budget(100, refused=5)) == []


def test_a_refusal_with_more_left_is_told_once_and_leaves_the_thresholds_alone():
    people = People()

    assert people.look(budget(20, refused=1)) == ["budget_refusal"]
    assert people.look(budget(20, refused=9)) == []
    assert people.look(budget(60, refused=12)) == [50]
    assert people.look(budget(95, refused=12)) == [80]
    assert people.look(budget(95, refused=13)) == [100]


def test_a_refusal_and_a_threshold_may_be_due_together():
    assert People().look(budget(60, refused=1)) == ["budget_refusal", 50]


def test_a_refusal_is_told_as_such_where_nobody_wants_to_hear_of_100():
    assert People(50).look(budget(99, refused=1)) == ["budget_refusal", 50]


def test_a_budget_is_used_up_when_all_is_spent_or_hardly_anything_is_left_to_refuse_with():
    assert budget(100).is_used_up
    assert not budget(99.9).is_used_up
    assert budget(90, refused=1).is_used_up
    assert not budget(89.9, refused=1).is_used_up


# -- pace --


def run(people, spending, *, until, start=START, begin=None, step=MINUTE, **changes):
    """Spend by a function of the time within the period; give when something was told, in minutes of it."""
    now, heard = start if begin is None else begin, []
    while now < until:
        one = budget(spending(now - start), start=start, **changes)
        heard += [((now - start) // MINUTE, what) for what in people.look(one, now)]
        now += step
    return heard


def even(times, *, limit_usd=100, length=DAY):
    return lambda passed: times * limit_usd * passed / length


def test_a_budget_that_is_spent_as_fast_as_allowed_is_no_alarm():
    people = People(100, burn_rate=3)

    assert run(people, even(2.9), until=START + 8 * HOUR) == []


def test_a_budget_that_is_spent_too_fast_is_told_once():
    people = People(100, burn_rate=3)
    heard = run(people, even(4), until=START + 5 * HOUR)

    assert [what for _, what in heard] == ["budget_burn_rate"]
    assert 45 <= heard[0][0] <= 60  # three quarters of an hour's worth, as soon as it is certain


def test_the_pace_says_when_all_is_spent():
    people = People(100, burn_rate=3)
    run(people, even(6), until=START + 2 * HOUR)
    (due,) = people.heard
    left = START + 4 * HOUR - due.at_ns

    assert due.pace.tenths in {59, 60}
    assert abs(due.pace.used_up_ns - due.at_ns - left) < 5 * MINUTE


def test_spending_that_is_over_is_no_alarm():
    people = People(100, burn_rate=3)

    # A fifth of the budget within a minute, but long before anybody looked at the last five minutes.
    run(people, lambda passed: 20 if passed > 30 * MINUTE else 0, until=START + 30 * MINUTE)
    people.watches.look(budget(0), START + 31 * MINUTE)
    assert [one.event for one in people.watches.look(budget(20), START + 32 * MINUTE)] == ["budget_burn_rate"]

    late = People(100, burn_rate=3)
    late.watches.reload(Rules((100,), None))
    run(late, lambda passed: 20 if passed > 30 * MINUTE else 0, until=START + 50 * MINUTE)
    late.watches.reload(Rules((100,), 3))
    assert run(late, lambda _: 20, until=START + 3 * HOUR, begin=START + 50 * MINUTE) == []


def test_nothing_is_told_of_the_pace_before_two_percent_are_spent():
    month = 30 * DAY
    people = People(100, burn_rate=3)

    # 3.6 times the even pace of a month: half a percent in an hour.
    heard = run(people, even(3.6, length=month), until=START + 10 * HOUR, length=month)
    assert [what for _, what in heard] == ["budget_burn_rate"]
    assert 2 <= heard[0][0] * MINUTE * 3.6 * 100 / month < 2.1


def test_a_pace_that_lasts_to_the_end_of_the_period_is_no_alarm():
    people = People(100, burn_rate=3)
    begin = START + 20 * HOUR

    # Four times the even pace for the last four hours uses two thirds.
    assert run(people, lambda passed: max(0, passed - 20 * HOUR) * 400 / DAY, until=START + DAY, begin=begin) == []


def test_after_it_has_calmed_down_it_is_told_again():
    people = People(100, burn_rate=3)

    def bursts(passed):
        """An hour at six times the even pace (25 USD), three at none, and again."""
        whole, rest = divmod(passed, 4 * HOUR)
        return 25 * whole + 25 * min(rest, HOUR) / HOUR

    heard = run(people, bursts, until=START + 12 * HOUR)
    assert [what for _, what in heard] == ["budget_burn_rate"] * 3
    assert [minute // 240 for minute, _ in heard] == [0, 1, 2]


def test_a_time_in_which_nobody_looked_is_no_time_of_spending():
    people = People(100, burn_rate=3)
    run(people, lambda passed: 12 * passed / (70 * MINUTE), until=START + 70 * MINUTE)

    def later(passed):
        """Nothing for a while, unseen, and then 6 USD within six minutes."""
        return 12 + min(max(0, passed - 140 * MINUTE), 6 * MINUTE) / MINUTE

    assert run(people, later, until=START + 4 * HOUR, begin=START + 120 * MINUTE) == []
    assert people.heard == []


def test_a_pace_that_falls_a_little_below_the_limit_and_rises_again_is_told_once():
    people = People(100, burn_rate=3)

    def a_while_slower(passed):
        """Four times the even pace, but for two hours at 2.5 times."""
        slow = min(max(0, passed - 90 * MINUTE), 2 * HOUR)
        return (4 * (passed - slow) + 2.5 * slow) * 100 / DAY

    heard = run(people, a_while_slower, until=START + 6 * HOUR)
    assert [what for _, what in heard] == ["budget_burn_rate"]


def test_a_pace_that_wavers_around_the_limit_is_told_once():
    people, rng = People(100, burn_rate=3), random.Random(4)
    spent = [0.0]

    def wavering(_):
        spent[0] += rng.choice([2, 4.5]) * 100 / (24 * 60)
        return spent[0]

    heard = run(people, wavering, until=START + 6 * HOUR)
    assert [what for _, what in heard] == ["budget_burn_rate"]


def test_what_was_spent_before_anybody_looked_is_no_pace():
    people = People(100, burn_rate=3, now=START + 10 * HOUR)

    assert run(people, lambda _: 60, until=START + 14 * HOUR, begin=START + 10 * HOUR) == []


def test_soon_after_a_start_the_pace_is_that_of_the_time_that_is_known():
    people = People(100, burn_rate=3, now=START + 10 * HOUR)
    spending = even(6)
    run(
        people,
        lambda passed: 10 + spending(passed - 10 * HOUR),
        until=START + 12 * HOUR,
        begin=START + 10 * HOUR,
        step=10 * S,
    )
    (due,) = people.heard

    assert 29 * MINUTE <= due.pace.span_ns <= 36 * MINUTE
    assert 58 <= due.pace.tenths <= 60


def test_after_a_rest_a_budget_is_watched_again():
    people = People(100, burn_rate=3)
    run(people, even(1), until=START + HOUR)
    run(people, lambda _: 100 / 24, until=START + 6 * HOUR, begin=START + HOUR)
    watch = people.watches._watches["team", "web", "day"]
    assert watch.recent is None

    burst = run(
        people, lambda passed: 5 + (passed - 6 * HOUR) * 600 / DAY, until=START + 8 * HOUR, begin=START + 6 * HOUR
    )
    assert [what for _, what in burst] == ["budget_burn_rate"]


def test_a_clock_that_is_put_back_or_leaps_raises_no_alarm():
    people = People(100, burn_rate=3)
    run(people, even(2), until=START + 3 * HOUR)
    for now in (START + HOUR, START + 3 * HOUR, START + 9 * HOUR, START + 2 * HOUR):
        assert people.look(budget(25.1), now) == []
    assert people.look(budget(25.2), START + 9 * HOUR + MINUTE) == []


def test_no_pace_is_told_where_nobody_wants_it():
    assert run(People(100), even(9), until=START + 2 * HOUR) == []


@given(
    st.lists(st.tuples(st.integers(1, 900), st.integers(0, 40)), min_size=1, max_size=80),
    st.integers(2, 5),
)
def test_a_pace_is_told_only_if_an_exact_account_of_every_payment_agrees(steps, rate):
    """Every alarm against the payments themselves: more than `rate` times the even pace in 60 to 65 minutes, and in 5 to 6."""
    people = People(1000, burn_rate=rate)
    now, spent, paid = START, 0, []
    for seconds, percent in steps:
        now += seconds * S
        spent += percent * USD // 10
        paid.append((now, percent * USD // 10))
        if now >= START + DAY or spent >= 100 * USD:
            break
        for due in people.watches.look(budget(0, spent_nano_usd=spent), now):
            people.watches.told(due)
            for longest, shortest in ((65 * MINUTE, 60 * MINUTE), (6 * MINUTE, 5 * MINUTE)):
                within = sum(amount for at, amount in paid if at > now - longest)
                assert within * DAY > rate * 100 * USD * shortest
            assert spent * 50 >= 100 * USD
            assert now < due.pace.used_up_ns < START + DAY


# -- claims --


def test_a_claim_is_the_same_for_the_same_thing_and_another_one_for_any_other():
    def key(event="budget_threshold", **changes):
        return claim(Due(event, budget(80, **changes), START, 80)).key

    assert key() == key(spent_nano_usd=1, held_nano_usd=5, refused=2, soft=True)
    others = [key("budget_refusal"), key("budget_burn_rate"), key(name="app"), key(kind="model"), key(length=30 * DAY)]
    others += [key(start=START + DAY), key(limit_usd=99), key(zone="Europe/Berlin")]
    assert len({key(), *others}) == 9


def test_a_threshold_claims_its_percentage_and_a_pace_its_moment():
    def of(event, percent=None):
        return claim(Due(event, budget(80), START + HOUR, percent))

    end_s = (START + DAY) // S
    assert of("budget_threshold", 80) == Claim(of("budget_threshold", 50).key, 80, 1, end_s)
    assert of("budget_refusal").value == 1
    assert (of("budget_burn_rate").value, of("budget_burn_rate").gap) == ((START + HOUR) // S, 3600)


def test_what_is_told_of_a_budget_that_has_changed_meanwhile_is_let_go():
    watches = Watches(Rules(burn_rate=None), START)
    (due,) = watches.look(budget(80), START)
    watches.look(budget(0.5, start=START + DAY), START + DAY)
    watches.told(due)
    watches.told(Due("budget_threshold", budget(1, name="unknown"), START, 50))

    assert [one.percent for one in watches.look(budget(60, start=START + DAY), START + DAY)] == [50]


# -- memory --


def test_budgets_that_nobody_spends_take_no_memory_and_those_that_do_a_little(capsys):
    watches = Watches(Rules(), START)
    some = [budget(0, kind="user", name=f"u{number}") for number in range(10_000)]
    spending = [budget(1, kind="user", name=f"u{number}") for number in range(10_000)]
    for one in some:
        watches.look(one, START)
    assert len(watches) == 0

    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for one in spending:
        watches.look(one, START + MINUTE)
    active = (tracemalloc.get_traced_memory()[0] - before) / len(spending)
    for minute in (2, 73):
        for one in spending:
            watches.look(one, START + minute * MINUTE)
    idle = (tracemalloc.get_traced_memory()[0] - before) / len(spending)
    tracemalloc.stop()
    with capsys.disabled():
        print(f"\n    memory: {active:.0f} bytes for a budget that spends, {idle:.0f} for one that has rested")

    assert len(watches) == 10_000
    assert active < 900
    assert idle < 600


def test_budgets_that_are_gone_are_forgotten_after_their_period():
    watches = Watches(Rules(), START)
    watches.look(budget(1), START)
    watches.look(budget(1, length=30 * DAY), START)
    watches.forget(START + DAY)
    assert len(watches) == 2
    watches.forget(START + DAY + 2 * HOUR)
    assert len(watches) == 1


@pytest.mark.parametrize("event", ["budget_threshold", "budget_refusal", "budget_burn_rate"])
def test_what_is_due_can_be_told_of_any_event(event):
    watches = Watches(Rules(), START)
    watches.look(budget(10), START)
    watches.told(Due(event, budget(10), START, 10 if event == "budget_threshold" else None))

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from penstock.call import Who
from penstock.errors import BudgetExhausted, InvalidRequest
from penstock.ledger.budgets import Budgets, Limit, Scope
from penstock.ledger.periods import from_ns, to_ns, zone_of
from penstock.ledger.records import pack_receipt
from penstock.ledger.shared_budgets import SharedBudgets
from penstock.ledger.store import FILE, Store

NOW = to_ns(datetime(2026, 10, 24, 20, tzinfo=UTC))
HOUR = 3_600_000_000_000
WEB = Scope("team", "web")
INVOICES = Scope("feature", "invoices")


CALL = "019a0000-0000-7000-8000-000000000000"


def hold(budgets, who, ceiling, now_ns, model=""):
    return budgets.hold(who, ceiling, now_ns, CALL, model)


@pytest.fixture(params=["of one process", "shared"])
def budgets_of(request, tmp_path):
    """Makes budgets of either kind: they behave alike."""
    made = []

    def budgets_of(limits):
        if request.param == "shared":
            made.append(SharedBudgets(limits, now_ns=NOW, home=tmp_path / f"home {len(made)}"))
        else:
            made.append(Budgets(limits, now_ns=NOW))
        return made[-1]

    yield budgets_of
    for budgets in made:
        budgets.close()


def spent(budgets, now_ns=NOW):
    return [(state.spent_nano_usd, state.held_nano_usd) for state in budgets.states(now_ns)]


def test_a_hold_reserves_its_ceiling_and_its_settlement_books_the_cost(budgets_of):
    budgets = budgets_of([Limit(WEB, "day", 100)])
    held = hold(budgets, Who(team="web"), 60, NOW)
    assert spent(budgets) == [(0, 60)]
    budgets.settle(held, 25)
    assert spent(budgets) == [(25, 0)]
    budgets.settle(held, 25)
    assert spent(budgets) == [(25, 0)], "a second settlement changes nothing"


def test_the_last_nano_dollar_can_be_spent_and_not_one_more(budgets_of):
    budgets = budgets_of([Limit(WEB, "day", 100)])
    budgets.settle(hold(budgets, Who(team="web"), 99, NOW), 99)
    with pytest.raises(BudgetExhausted):
        hold(budgets, Who(team="web"), 2, NOW)
    budgets.settle(hold(budgets, Who(team="web"), 1, NOW), 1)
    hold(budgets, Who(team="web"), 0, NOW)


def test_calls_without_a_budget_are_held_for_nothing(budgets_of):
    budgets = budgets_of([Limit(WEB, "day", 100), Limit(INVOICES, "day", 100)])
    for who in (Who(), Who(team="other", feature="other")):
        held = hold(budgets, who, None, NOW)
        budgets.settle(held, 10**15)
        budgets.settle(held, 10**15)
    assert spent(budgets) == [(0, 0), (0, 0)]
    assert hold(budgets_of([]), Who(team="web"), 10**15, NOW).ceiling_nano_usd == 0


@pytest.mark.parametrize(
    ("kind", "who"),
    [
        ("team", Who(team="this")),
        ("feature", Who(feature="this")),
        ("key", Who(key_id="this")),
        ("user", Who(user="this")),
        ("model", Who(team="any")),
    ],
)
def test_whose_spending_is_limited(budgets_of, kind, who):
    budgets = budgets_of([Limit(Scope(kind, "this"), "month", 5)])
    with pytest.raises(BudgetExhausted, match=f"month budget of {kind} 'this' is used up"):
        hold(budgets, who, 6, NOW, model="this")
    hold(budgets, Who(), 6, NOW, model="that")


def test_all_budgets_hold_or_none_does(budgets_of):
    limits = [Limit(WEB, "day", 100), Limit(WEB, "month", 1000), Limit(INVOICES, "day", 50)]
    budgets = budgets_of(limits)
    who = Who(team="web", feature="invoices")
    with pytest.raises(BudgetExhausted, match="feature 'invoices'"):
        hold(budgets, who, 51, NOW)
    assert spent(budgets) == [(0, 0)] * 3
    hold(budgets, who, 50, NOW)
    assert spent(budgets) == [(0, 50)] * 3


def test_a_refusal_says_which_budget_how_much_and_until_when(budgets_of):
    budgets = budgets_of([Limit(WEB, "day", 20 * 10**9, "Europe/Berlin")])
    budgets.settle(hold(budgets, Who(team="web"), 19_500_000_000, NOW), 19_500_000_000)
    hold(budgets, Who(team="web"), 300_000_000, NOW)
    with pytest.raises(BudgetExhausted) as caught:
        hold(budgets, Who(team="web"), 600_000_000, NOW + HOUR)
    error = caught.value
    assert error.message == (
        "The day budget of team 'web' is used up: of 20 USD, 19.5 are spent and 0.3 held, and this call may cost 0.6."
    )
    assert error.hint == "It starts anew at 2026-10-25T00:00:00+02:00."
    assert error.retry_after_s == 3600
    assert error.status == 402


def test_a_refusal_that_only_calls_in_progress_cause_says_to_come_again_shortly(budgets_of):
    budgets = budgets_of([Limit(WEB, "day", 100)])
    hold(budgets, Who(team="web"), 80, NOW)
    with pytest.raises(BudgetExhausted, match="Calls in progress hold the rest") as caught:
        hold(budgets, Who(team="web"), 50, NOW)
    assert caught.value.retry_after_s == 1


def test_of_several_budgets_in_the_way_the_one_that_lasts_longest_is_named(budgets_of):
    budgets = budgets_of([Limit(WEB, "day", 10), Limit(WEB, "month", 10), Limit(INVOICES, "day", 10)])
    with pytest.raises(BudgetExhausted, match="The month budget of team 'web'"):
        hold(budgets, Who(team="web", feature="invoices"), 11, NOW)


def test_a_call_without_a_price_is_refused_where_a_budget_applies(budgets_of):
    budgets = budgets_of([Limit(WEB, "day", 100)])
    with pytest.raises(BudgetExhausted, match="no price is known") as caught:
        hold(budgets, Who(team="web"), None, NOW)
    assert '[prices."provider/model"]' in caught.value.hint


def test_a_window_begins_at_midnight_of_its_zone_with_nothing_spent(budgets_of):
    """2026-10-25 00:00 in Berlin is 22:00 UTC the day before, and that day has 25 hours."""
    midnight = to_ns(datetime(2026, 10, 24, 22, tzinfo=UTC))
    budgets = budgets_of([Limit(WEB, "day", 100, "Europe/Berlin")])
    budgets.settle(hold(budgets, Who(team="web"), 100, NOW), 100)
    with pytest.raises(BudgetExhausted):
        hold(budgets, Who(team="web"), 1, midnight - 1)
    budgets.settle(hold(budgets, Who(team="web"), 100, midnight), 100)
    with pytest.raises(BudgetExhausted):
        hold(budgets, Who(team="web"), 1, midnight + 25 * HOUR - 1)
    hold(budgets, Who(team="web"), 100, midnight + 25 * HOUR)


def test_a_call_counts_in_the_window_in_which_it_started(budgets_of):
    tomorrow = NOW + 24 * HOUR
    budgets = budgets_of([Limit(WEB, "day", 100), Limit(WEB, "month", 1000)])
    late = hold(budgets, Who(team="web"), 90, NOW)
    budgets.settle(hold(budgets, Who(team="web"), 100, tomorrow), 40)
    budgets.settle(late, 90)
    assert spent(budgets, tomorrow) == [(40, 0), (130, 0)]


def test_a_clock_that_steps_back_brings_no_spent_money_back(budgets_of):
    budgets = budgets_of([Limit(WEB, "day", 100)])
    budgets.settle(hold(budgets, Who(team="web"), 100, NOW + 24 * HOUR), 100)
    with pytest.raises(BudgetExhausted):
        hold(budgets, Who(team="web"), 1, NOW)


def test_a_window_is_computed_once_and_not_per_call(budgets_of, monkeypatch):
    budgets = budgets_of([Limit(WEB, "day", 10**6)])
    monkeypatch.setattr("penstock.ledger.budgets.bounds", None)
    monkeypatch.setattr("penstock.ledger.shared_budgets.bounds", None)
    for _ in range(100):
        budgets.settle(hold(budgets, Who(team="web"), 5, NOW), 5)
    monkeypatch.undo()
    hold(budgets, Who(team="web"), 5, NOW + 24 * HOUR)
    assert spent(budgets, NOW + 24 * HOUR) == [(0, 5)]
    assert spent(budgets, NOW + 48 * HOUR) == [(0, 0)], "looking at it begins the next as well"


def test_more_than_the_ceiling_is_booked_if_that_is_what_it_cost_and_a_negative_cost_is_none(budgets_of):
    budgets = budgets_of([Limit(WEB, "day", 100)])
    budgets.settle(hold(budgets, Who(team="web"), 10, NOW), 150)
    assert spent(budgets) == [(150, 0)]
    with pytest.raises(BudgetExhausted):
        hold(budgets, Who(team="web"), 0, NOW)
    budgets = budgets_of([Limit(WEB, "day", 100)])
    budgets.settle(hold(budgets, Who(team="web"), 10, NOW), -5)
    assert spent(budgets) == [(0, 0)]


def test_a_hold_can_grow_while_there_is_room_in_every_budget_and_otherwise_stays_as_it_was(budgets_of):
    budgets = budgets_of([Limit(WEB, "day", 100), Limit(INVOICES, "day", 70)])
    held = hold(budgets, Who(team="web", feature="invoices"), 30, NOW)
    budgets.grow(held, 70)
    assert (held.ceiling_nano_usd, spent(budgets)) == (70, [(0, 70), (0, 70)])
    with pytest.raises(BudgetExhausted) as caught:
        budgets.grow(held, 71)
    assert caught.value.message == (
        "The day budget of feature 'invoices' is used up: of 0.00000007 USD, 0 are spent and 0.00000007 held,"
        " and this call in progress needs 0.000000001 more."
    )
    assert "max_tokens" in caught.value.hint
    assert (held.ceiling_nano_usd, spent(budgets)) == (70, [(0, 70), (0, 70)])
    budgets.grow(held, 10)
    assert spent(budgets) == [(0, 70), (0, 70)], "nothing shrinks"
    budgets.settle(held, 65)
    budgets.grow(held, 66)
    assert spent(budgets) == [(65, 0), (65, 0)], "what is settled does not grow"


def test_a_hold_in_no_budget_may_grow_for_ever(budgets_of):
    budgets = budgets_of([Limit(WEB, "day", 100)])
    held = hold(budgets, Who(), 30, NOW)
    budgets.grow(held, 10**15)
    assert (hold(budgets, Who(), 5, NOW).ceiling_nano_usd, spent(budgets)) == (0, [(0, 0)])


def test_a_hold_grows_in_the_window_in_which_its_call_started(budgets_of):
    tomorrow = NOW + 24 * HOUR
    budgets = budgets_of([Limit(WEB, "day", 100)])
    late = hold(budgets, Who(team="web"), 30, NOW)
    hold(budgets, Who(team="web"), 90, tomorrow)
    budgets.grow(late, 100)
    with pytest.raises(BudgetExhausted, match=r"needs 0\.000000001 more"):
        budgets.grow(late, 101)
    budgets.settle(late, 100)
    assert spent(budgets, tomorrow) == [(0, 90)]


def test_an_unknown_zone_is_refused(budgets_of):
    with pytest.raises(InvalidRequest, match="there is no time zone 'Mars/Base'"):
        budgets_of([Limit(WEB, "day", 1, "Mars/Base")])


# -- what was spent before --


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / FILE)
    yield opened
    opened.close()


def test_spending_goes_on_where_the_last_process_left_off(store, make):
    local_midnight = to_ns(datetime(2026, 10, 23, 22, tzinfo=UTC))
    receipts = [
        make.receipt(local_midnight - 1, cost_nano_usd=1),
        make.receipt(local_midnight, cost_nano_usd=10),
        make.receipt(NOW, cost_nano_usd=100, feature=None),
        make.receipt(NOW, cost_nano_usd=1000, team=None, status="interrupted", cost_status="estimated"),
        make.receipt(NOW, cost_nano_usd=None, cost_status="unpriced"),
        make.receipt(NOW, cost_nano_usd=10_000, team="other", feature="other"),
        make.receipt(NOW - 30 * 24 * HOUR, cost_nano_usd=100_000),
    ]
    store.add([pack_receipt(receipt)[0] for receipt in receipts])
    limits = [
        Limit(WEB, "day", 10**6, "Europe/Berlin"),
        Limit(INVOICES, "day", 10**6, "Europe/Berlin"),
        Limit(WEB, "month", 10**6, "Europe/Berlin"),
        Limit(Scope("team", "unheard of"), "month", 10**6),
    ]
    budgets = Budgets(limits, now_ns=NOW, sums=store.sums)
    assert spent(budgets) == [(110, 0), (1010, 0), (111, 0), (0, 0)]


def test_windows_that_several_budgets_share_are_summed_once(store):
    asked = []

    def sums(span, by):
        asked.append((span, tuple(by)))
        return store.sums(span, by)

    limits = [Limit(Scope(kind, name), "day", 5) for kind in ("team", "feature") for name in "abc"]
    Budgets(limits, now_ns=NOW, sums=sums)
    assert [by for _, by in asked] == [("feature",), ("team",)]


def test_a_configuration_that_is_taken_over_keeps_what_is_spent_and_held(store):
    before = Budgets([Limit(WEB, "day", 100), Limit(WEB, "month", 1000)], now_ns=NOW)
    before.settle(hold(before, Who(team="web"), 60, NOW), 60)
    running = hold(before, Who(team="web"), 30, NOW)
    limits = [Limit(WEB, "day", 80), Limit(WEB, "month", 1000, "Asia/Kolkata"), Limit(INVOICES, "day", 10)]
    after = Budgets(limits, now_ns=NOW, sums=store.sums, before=before)
    assert spent(after) == [(60, 30), (0, 0), (0, 0)]
    with pytest.raises(BudgetExhausted):
        hold(after, Who(team="web"), 1, NOW)
    after.settle(running, 10)
    assert spent(after) == [(70, 0), (0, 0), (0, 0)]
    hold(after, Who(team="web"), 10, NOW)


# -- any sequence of calls, against a model that keeps every call --

ZONES = ("UTC", "Asia/Kolkata", "Australia/Lord_Howe", "Europe/Berlin")
LIMITS = (
    Limit(WEB, "day", 1000, "Europe/Berlin"),
    Limit(WEB, "month", 2500, "Australia/Lord_Howe"),
    Limit(INVOICES, "day", 700, "Asia/Kolkata"),
    Limit(Scope("user", "ann"), "month", 1500),
)
FIELDS = {"team": "team", "feature": "feature", "user": "user"}


class Spending(RuleBasedStateMachine):
    """Calls begin, end, end twice and outlive their windows; the model sums all of them anew each time."""

    def __init__(self):
        super().__init__()
        self.now = to_ns(datetime(2026, 10, 24, 0, tzinfo=UTC))
        self.budgets = Budgets(LIMITS, now_ns=self.now)
        self.calls = []

    holds = Bundle("holds")

    def period(self, limit, ns):
        day = from_ns(ns, zone_of(limit.zone)).date()
        return day if limit.window == "day" else day.replace(day=1)

    def booked(self, limit, now):
        """(spent, held) of the limit's window at this moment."""
        field, name = FIELDS[limit.scope.kind], limit.scope.name
        mine = [
            call
            for call in self.calls
            if getattr(call["who"], field) == name and self.period(limit, call["at"]) == self.period(limit, now)
        ]
        held = sum(call["ceiling"] for call in mine if call["cost"] is None)
        return sum(call["cost"] for call in mine if call["cost"] is not None), held

    @rule(
        target=holds,
        team=st.sampled_from(["web", "app", None]),
        feature=st.sampled_from(["invoices", None]),
        user=st.sampled_from(["ann", "bob"]),
        ceiling=st.integers(0, 400),
    )
    def begin(self, team, feature, user, ceiling):
        who = Who(team=team, feature=feature, user=user)
        applying = [limit for limit in LIMITS if getattr(who, FIELDS[limit.scope.kind]) == limit.scope.name]
        fits = all(sum(self.booked(limit, self.now)) + ceiling <= limit.nano_usd for limit in applying)
        call = {"who": who, "at": self.now, "ceiling": ceiling, "cost": None}
        try:
            call["hold"] = self.budgets.hold(who, ceiling, self.now)
        except BudgetExhausted:
            assert not fits, "a call that fits is let in"
            call["cost"] = 0
        else:
            assert fits, "a call that does not fit is refused"
        self.calls.append(call)
        return call

    @rule(call=holds, share=st.integers(0, 100))
    def end(self, call, share):
        cost = call["ceiling"] * share // 100
        if "hold" in call:
            self.budgets.settle(call["hold"], cost)
            call["cost"] = cost if call["cost"] is None else call["cost"]

    @rule(call=consumes(holds))
    def forget(self, call):
        """The caller lost it: what it holds stays held."""

    @rule(minutes=st.integers(1, 3000))
    def wait(self, minutes):
        self.now += minutes * 60 * 10**9

    @invariant()
    def what_is_spent_and_held_is_exact_and_within_its_limit(self):
        for limit, state in zip(LIMITS, self.budgets.states(self.now), strict=True):
            assert (state.spent_nano_usd, state.held_nano_usd) == self.booked(limit, self.now)
            assert 0 <= state.spent_nano_usd + state.held_nano_usd <= limit.nano_usd
            assert type(state.spent_nano_usd) is type(state.held_nano_usd) is int
            assert self.now < state.resets_ns <= self.now + timedelta(days=32).total_seconds() * 10**9


Spending.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSpending = Spending.TestCase

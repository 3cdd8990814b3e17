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
from penstock.ledger.store import FILE, Store

NOW = to_ns(datetime(2026, 10, 24, 20, tzinfo=UTC))
HOUR = 3_600_000_000_000
WEB = Scope("team", "web")
INVOICES = Scope("feature", "invoices")


def spent(budgets, now_ns=NOW):
    return [(state.spent_nano_usd, state.held_nano_usd) for state in budgets.states(now_ns)]


def test_a_hold_reserves_its_ceiling_and_its_settlement_books_the_cost():
    budgets = Budgets([Limit(WEB, "day", 100)], now_ns=NOW)
    hold = budgets.hold(Who(team="web"), 60, NOW)
    assert spent(budgets) == [(0, 60)]
    budgets.settle(hold, 25)
    assert spent(budgets) == [(25, 0)]
    budgets.settle(hold, 25)
    assert spent(budgets) == [(25, 0)], "a second settlement changes nothing"


def test_the_last_nano_dollar_can_be_spent_and_not_one_more():
    budgets = Budgets([Limit(WEB, "day", 100)], now_ns=NOW)
    budgets.settle(budgets.hold(Who(team="web"), 99, NOW), 99)
    with pytest.raises(BudgetExhausted):
        budgets.hold(Who(team="web"), 2, NOW)
    budgets.settle(budgets.hold(Who(team="web"), 1, NOW), 1)
    budgets.hold(Who(team="web"), 0, NOW)


def test_calls_without_a_budget_are_held_for_nothing():
    budgets = Budgets([Limit(WEB, "day", 100), Limit(INVOICES, "day", 100)], now_ns=NOW)
    for who in (Who(), Who(team="other", feature="other")):
        hold = budgets.hold(who, None, NOW)
        budgets.settle(hold, 10**15)
        budgets.settle(hold, 10**15)
    assert spent(budgets) == [(0, 0), (0, 0)]
    assert Budgets([], now_ns=NOW).hold(Who(team="web"), 10**15, NOW).ceiling_nano_usd == 0


@pytest.mark.parametrize(
    ("kind", "who"),
    [
        ("team", Who(team="this")),
        ("feature", Who(feature="this")),
        ("key", Who(key_id="this")),
        ("user", Who(user="this")),
    ],
)
def test_whose_spending_is_limited(kind, who):
    budgets = Budgets([Limit(Scope(kind, "this"), "month", 5)], now_ns=NOW)
    with pytest.raises(BudgetExhausted, match=f"month budget of {kind} 'this' is used up"):
        budgets.hold(who, 6, NOW)


def test_all_budgets_hold_or_none_does():
    limits = [Limit(WEB, "day", 100), Limit(WEB, "month", 1000), Limit(INVOICES, "day", 50)]
    budgets = Budgets(limits, now_ns=NOW)
    who = Who(team="web", feature="invoices")
    with pytest.raises(BudgetExhausted, match="feature 'invoices'"):
        budgets.hold(who, 51, NOW)
    assert spent(budgets) == [(0, 0)] * 3
    budgets.hold(who, 50, NOW)
    assert spent(budgets) == [(0, 50)] * 3


def test_a_refusal_says_which_budget_how_much_and_until_when():
    budgets = Budgets([Limit(WEB, "day", 20 * 10**9, "Europe/Berlin")], now_ns=NOW)
    budgets.settle(budgets.hold(Who(team="web"), 19_500_000_000, NOW), 19_500_000_000)
    budgets.hold(Who(team="web"), 300_000_000, NOW)
    with pytest.raises(BudgetExhausted) as caught:
        budgets.hold(Who(team="web"), 600_000_000, NOW + HOUR)
    error = caught.value
    assert error.message == (
        "The day budget of team 'web' is used up: of 20 USD, 19.5 are spent and 0.3 held, and this call may cost 0.6."
    )
    assert error.hint == "It starts anew at 2026-10-25T00:00:00+02:00."
    assert error.retry_after_s == 3600
    assert error.status == 402


def test_a_refusal_that_only_calls_in_progress_cause_says_to_come_again_shortly():
    budgets = Budgets([Limit(WEB, "day", 100)], now_ns=NOW)
    budgets.hold(Who(team="web"), 80, NOW)
    with pytest.raises(BudgetExhausted, match="Calls in progress hold the rest") as caught:
        budgets.hold(Who(team="web"), 50, NOW)
    assert caught.value.retry_after_s == 1


def test_of_several_budgets_in_the_way_the_one_that_lasts_longest_is_named():
    budgets = Budgets([Limit(WEB, "day", 10), Limit(WEB, "month", 10), Limit(INVOICES, "day", 10)], now_ns=NOW)
    with pytest.raises(BudgetExhausted, match="The month budget of team 'web'"):
        budgets.hold(Who(team="web", feature="invoices"), 11, NOW)


def test_a_call_without_a_price_is_refused_where_a_budget_applies():
    budgets = Budgets([Limit(WEB, "day", 100)], now_ns=NOW)
    with pytest.raises(BudgetExhausted, match="no price is known") as caught:
        budgets.hold(Who(team="web"), None, NOW)
    assert '[prices."provider/model"]' in caught.value.hint


def test_a_window_begins_at_midnight_of_its_zone_with_nothing_spent():
    """2026-10-25 00:00 in Berlin is 22:00 UTC the day before, and that day has 25 hours."""
    midnight = to_ns(datetime(2026, 10, 24, 22, tzinfo=UTC))
    budgets = Budgets([Limit(WEB, "day", 100, "Europe/Berlin")], now_ns=NOW)
    budgets.settle(budgets.hold(Who(team="web"), 100, NOW), 100)
    with pytest.raises(BudgetExhausted):
        budgets.hold(Who(team="web"), 1, midnight - 1)
    budgets.settle(budgets.hold(Who(team="web"), 100, midnight), 100)
    with pytest.raises(BudgetExhausted):
        budgets.hold(Who(team="web"), 1, midnight + 25 * HOUR - 1)
    budgets.hold(Who(team="web"), 100, midnight + 25 * HOUR)


def test_a_call_counts_in_the_window_in_which_it_started():
    tomorrow = NOW + 24 * HOUR
    budgets = Budgets([Limit(WEB, "day", 100), Limit(WEB, "month", 1000)], now_ns=NOW)
    late = budgets.hold(Who(team="web"), 90, NOW)
    budgets.settle(budgets.hold(Who(team="web"), 100, tomorrow), 40)
    budgets.settle(late, 90)
    assert spent(budgets, tomorrow) == [(40, 0), (130, 0)]


def test_a_clock_that_steps_back_brings_no_spent_money_back():
    budgets = Budgets([Limit(WEB, "day", 100)], now_ns=NOW)
    budgets.settle(budgets.hold(Who(team="web"), 100, NOW + 24 * HOUR), 100)
    with pytest.raises(BudgetExhausted):
        budgets.hold(Who(team="web"), 1, NOW)


def test_a_window_is_computed_once_and_not_per_call(monkeypatch):
    budgets = Budgets([Limit(WEB, "day", 10**6)], now_ns=NOW)
    monkeypatch.setattr("penstock.ledger.budgets.bounds", None)
    for _ in range(100):
        budgets.settle(budgets.hold(Who(team="web"), 5, NOW), 5)
    monkeypatch.undo()
    budgets.hold(Who(team="web"), 5, NOW + 24 * HOUR)
    assert spent(budgets, NOW + 24 * HOUR) == [(0, 5)]
    assert spent(budgets, NOW + 48 * HOUR) == [(0, 0)], "looking at it begins the next as well"


def test_more_than_the_ceiling_is_booked_if_that_is_what_it_cost_and_a_negative_cost_is_none():
    budgets = Budgets([Limit(WEB, "day", 100)], now_ns=NOW)
    budgets.settle(budgets.hold(Who(team="web"), 10, NOW), 150)
    assert spent(budgets) == [(150, 0)]
    with pytest.raises(BudgetExhausted):
        budgets.hold(Who(team="web"), 0, NOW)
    budgets = Budgets([Limit(WEB, "day", 100)], now_ns=NOW)
    budgets.settle(budgets.hold(Who(team="web"), 10, NOW), -5)
    assert spent(budgets) == [(0, 0)]


def test_an_unknown_zone_is_refused():
    with pytest.raises(InvalidRequest, match="there is no time zone 'Mars/Base'"):
        Budgets([Limit(WEB, "day", 1, "Mars/Base")], now_ns=NOW)


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
    before.settle(before.hold(Who(team="web"), 60, NOW), 60)
    running = before.hold(Who(team="web"), 30, NOW)
    limits = [Limit(WEB, "day", 80), Limit(WEB, "month", 1000, "Asia/Kolkata"), Limit(INVOICES, "day", 10)]
    after = Budgets(limits, now_ns=NOW, sums=store.sums, before=before)
    assert spent(after) == [(60, 30), (0, 0), (0, 0)]
    with pytest.raises(BudgetExhausted):
        after.hold(Who(team="web"), 1, NOW)
    after.settle(running, 10)
    assert spent(after) == [(70, 0), (0, 0), (0, 0)]
    after.hold(Who(team="web"), 10, NOW)


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

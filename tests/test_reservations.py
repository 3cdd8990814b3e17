from pathlib import Path

import pytest
from msgspec import structs

from penstock.call import Limits, Who
from penstock.errors import BudgetExhausted, Internal
from penstock.ledger.ledger import Ledger
from penstock.ledger.records import Intent
from penstock.ledger.shared_budgets import SharedBudgets
from penstock.ledger.sweeping import sweep
from penstock.receipt import Receipt
from penstock.reservations import PLANS, Reservations
from penstock.settings import (
    BudgetSettings,
    Config,
    LedgerSettings,
    ModelSettings,
    ServerSettings,
    SharedSettings,
    TeamSettings,
    UserSettings,
)
from penstock.target import Price, Rates, Target, most

NOW = 1_792_872_000_000_000_000  # 2026-10-24T20:00:00Z
TODAY = "2026-10-24"
WEB = Who(team="web")
CALL = "019a0000-0000-7000-8000-000000000000"


def config(day_nano_usd):
    teams = (TeamSettings(name="web", budget=BudgetSettings(day_nano_usd=day_nano_usd)),)
    return Config("test", Path(), "0", ServerSettings(), (), (), teams, (), (), LedgerSettings(), SharedSettings())


def no_sums(span, by):
    return []


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger.open(tmp_path, now_ns=NOW)
    yield opened
    if not opened._closed:
        opened.close(wait_s=1)


def figures(reservations):
    return [(state.spent_nano_usd, state.held_nano_usd) for state in reservations.budgets.states(NOW)]


@pytest.mark.parametrize("shared", [False, True])
def test_money_is_held_grows_and_is_settled_whether_budgets_are_shared_or_not(ledger, tmp_path, shared):
    home = tmp_path if shared else None
    reservations = Reservations(config(1000), now_ns=NOW, sums=ledger.store.sums, shared=home)
    first = reservations.hold(WEB, 300, NOW, CALL, "m")
    again = reservations.hold(WEB, 300, NOW, CALL, "m")
    reservations.grow(first, 600)
    assert figures(reservations) == [(0, 900)]
    with pytest.raises(BudgetExhausted):
        reservations.hold(WEB, 101, NOW, CALL)
    after = Reservations(config(700), now_ns=NOW, sums=ledger.store.sums, before=reservations, shared=home)
    with pytest.raises(BudgetExhausted):
        after.hold(WEB, 0, NOW, CALL)
    after.settle([first, again], 450)
    after.settle([first, again], 450)
    after.settle([], 450)
    assert figures(after) == [(450, 0)]
    after.hold(WEB, 250, NOW, CALL)
    after.close()


@pytest.mark.parametrize("shared", [False, True])
def test_keys_users_and_models_have_budgets_as_the_configuration_says(ledger, tmp_path, shared):
    users = UserSettings(BudgetSettings(day_nano_usd=500))
    models = (ModelSettings("m", budget=BudgetSettings(month_nano_usd=800)),)
    settings = structs.replace(config(1000), users=users, models=models)
    at = {"now_ns": NOW, "sums": ledger.store.sums, "shared": tmp_path if shared else None}
    reservations = Reservations(settings, **at)
    who = Who("k", "web", user="ann", limits=Limits(day_nano_usd=300))
    reservations.settle([reservations.hold(who, 300, NOW, CALL, "m")], 200)
    for other, ceiling, named in (
        (who, 101, "key 'k'"),
        (Who(user="ann"), 301, "user 'ann'"),
        (Who(user="bob"), 601, "model 'm'"),
        (WEB, 801, "team 'web'"),
    ):
        with pytest.raises(BudgetExhausted, match=named):
            reservations.hold(other, ceiling, NOW, CALL, "" if other is WEB else "m")
    after = Reservations(config(900), **at, before=reservations)
    assert figures(after) == [(200, 0)] * 2
    after.hold(who, 100, NOW, CALL, "m")
    after.close()


def test_a_worker_that_dies_between_two_settlements_of_a_call_has_booked_it_once_in_the_end(
    ledger, tmp_path, monkeypatch
):
    workers = [Reservations(config(1000), now_ns=NOW, sums=ledger.store.sums, shared=tmp_path) for _ in range(2)]
    dying, other = workers
    holds = [dying.hold(WEB, 100, NOW, CALL) for _ in range(3)]
    ledger.intend(Intent(CALL, NOW, "chat", "m", team="web", hold_nano_usd=100))
    ledger.settle(Receipt(CALL, NOW, "chat", "m", "ok", 200, team="web", cost_nano_usd=80, cost_status="exact"))
    settle, left = SharedBudgets.settle, [2]

    def die_at_the_third(self, hold, cost):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        settle(self, hold, cost)

    monkeypatch.setattr(SharedBudgets, "settle", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        dying.settle(holds, 80)
    dying.close()
    assert sweep(tmp_path) == 1
    assert figures(other) == [(80, 0)]
    other.close()


def test_budgets_are_shared_from_the_start_or_never(ledger, tmp_path):
    alone = Reservations(config(1000), now_ns=NOW, sums=no_sums)
    with pytest.raises(Internal, match="cannot be shared before"):
        Reservations(config(1000), now_ns=NOW, sums=no_sums, before=alone, shared=tmp_path)
    shared = Reservations(config(1000), now_ns=NOW, sums=no_sums, shared=tmp_path)
    with pytest.raises(Internal, match="stay so"):
        Reservations(config(1000), now_ns=NOW, sums=no_sums, before=shared)
    shared.close()


def test_what_was_spent_before_counts(ledger, tmp_path):
    ledger.settle(Receipt(CALL, NOW, "chat", "m", "ok", 200, team="web", cost_nano_usd=80, cost_status="exact"))
    shared = Reservations(config(1000), now_ns=NOW, sums=no_sums, shared=tmp_path)
    assert figures(shared) == [(80, 0)], "although it stands in the journal only"
    shared.close()


# -- what a call may cost --


def target(model, *prices):
    """A target whose input costs so many nano-dollars a token, and its output twice that, since these days."""
    rates = [(since, Rates(input=nano * 10**6, output=2 * nano * 10**6)) for since, nano in prices]
    return Target(f"box/{model}", "box", model, "chat", prices=tuple(Price(since, rate) for since, rate in rates))


def test_the_dearest_target_says_what_a_call_may_cost_at_most():
    reservations = Reservations(config(None), now_ns=NOW, sums=no_sums)
    cheap, dear, unpriced = target("a", ("1970-01-01", 1)), target("b", ("1970-01-01", 5)), target("c")
    assert most(10, 100, reservations.rates((cheap, dear), ("a", "b"), TODAY)) == 5 * 10 + 10 * 100
    assert most(10, 100, reservations.rates((cheap,), ("a",), TODAY)) == 10 + 200
    for _ in range(2):
        assert reservations.rates((cheap, unpriced), ("a", "c"), TODAY) is None


def test_rates_are_those_of_the_day_and_plans_are_not_remembered_without_bound():
    reservations = Reservations(config(None), now_ns=NOW, sums=no_sums)
    dearer = target("a", ("1970-01-01", 1), ("2026-10-25", 3))
    assert most(10, 0, reservations.rates((dearer,), ("a",), TODAY)) == 10
    assert most(10, 0, reservations.rates((dearer,), ("a",), "2026-10-25")) == 30
    for number in range(PLANS + 10):
        reservations.rates((dearer,), (str(number),), TODAY)
    assert len(reservations._ceilings) <= PLANS

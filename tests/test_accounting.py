"""The accounts of calls, apart from what the line's own tests say of them: the day, and the price of a plan."""

import pytest

from penstock.accounting import TEMPLATE_TOKENS, Accounting, Books
from penstock.call import Call, Content, Sampling
from penstock.config import load
from penstock.flushing import Flusher
from penstock.reservations import Reservations
from penstock.routing.router import Plan
from penstock.target import Price, Rates, Target

DAY_NS = 86_400_000_000_000
CALL = Call(dialect="chat", model="m", sampling=Sampling(max_tokens=10), read=lambda: Content(()))


@pytest.fixture
def accounts(tmp_path):
    (tmp_path / "penstock.toml").write_text('[models.m]\ntargets = ["local/penstock-mini"]\n')
    config = load(str(tmp_path / "penstock.toml"), {"PENSTOCK_HOME": str(tmp_path)})
    reservations = Reservations(config, now_ns=0, sums=lambda *_: ())
    books = Books(Flusher(None), reservations, lambda *_: None, lambda _: None, "hash")
    return Accounting(books, None, lambda: 0.0, lambda: None)


def test_a_plan_costs_at_most_what_its_dearest_target_costs_on_that_day(accounts):
    old, new = Price("2020-01-01", Rates(1_000_000, 2_000_000)), Price("2020-01-03", Rates(5_000_000, 2_000_000))
    plan = Plan.of("m", (Target(id="a/m", provider="a", model="m", dialect="chat", prices=(old, new)),))
    first = 18_262 * DAY_NS  # 2020-01-01
    into = 100 + TEMPLATE_TOKENS

    assert accounts.dearest(plan, CALL, 100, first) == into * 1 + 10 * 2
    assert accounts.dearest(plan, CALL, 100, first + 2 * DAY_NS) == into * 5 + 10 * 2
    assert accounts.dearest(plan, CALL, 100, first) == into * 1 + 10 * 2


def test_a_plan_without_a_price_has_no_ceiling(accounts):
    plan = Plan.of("m", (Target(id="a/m", provider="a", model="m", dialect="chat"),))
    assert accounts.dearest(plan, CALL, 100, 0) is None

"""The accounts of calls, apart from what the line's own tests say of them: the day, and the price of a plan."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.test_growth import HELD, PRICED, WEB, reserving

from penstock.accounting import TEMPLATE_TOKENS, TERMS, Accounting, Books
from penstock.calibrating import Calibration
from penstock.call import Call, Content, Sampling
from penstock.config import load
from penstock.flushing import Flusher
from penstock.inflight import InFlight
from penstock.reservations import Reservations
from penstock.routing.router import Plan
from penstock.target import Price, Rates, Target, ceilings, most

DAY_NS = 86_400_000_000_000
CALL = Call(dialect="chat", model="m", sampling=Sampling(max_tokens=10), read=lambda: Content(()))


def accounts_of(reservations):
    books = Books(
        Flusher(None, int),
        reservations,
        lambda *_: False,
        lambda: None,
        lambda _: None,
        lambda *_: None,
        Calibration(list, lambda _: None),
        "hash",
        None,
        lambda: 0.0,
    )
    return Accounting(books, SimpleNamespace(in_flight=0, idle=lambda: None))


@pytest.fixture
def accounts(tmp_path):
    (tmp_path / "penstock.toml").write_text('[models.m]\ntargets = ["local/penstock-mini"]\n')
    config = load(str(tmp_path / "penstock.toml"), {"PENSTOCK_HOME": str(tmp_path)})
    return accounts_of(Reservations(config, now_ns=0, sums=lambda *_: ()))


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


prices = st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)), max_size=3)
asked = st.tuples(
    st.sampled_from([None, 0, 40, 10**6]) | st.integers(0, 10**6),
    st.sampled_from([None, 7]),
    st.sampled_from([None, 3]),
    st.sampled_from(["generate", "generate", "embed"]),
    st.sampled_from([0, 0, 0, DAY_NS - 1, DAY_NS, 40 * DAY_NS]),
    st.sampled_from([0, 0, 1, 2, 3]),
)


@given(st.lists(prices, min_size=1, max_size=3), st.lists(asked, max_size=30), st.booleans())
def test_what_is_held_is_the_dearest_end_whatever_was_asked_before(targets, calls, is_free):
    accounts = accounts_of(reserving(None))
    made = [
        Target(
            *(f"a/{number}", "a", str(number), "chat"),
            prices=tuple(Price(f"1970-01-{2 * day + 1:02}", Rates(*rates)) for day, rates in enumerate(found)),
            free=is_free and not number,
        )
        for number, found in enumerate(targets)
    ]
    plans = [
        Plan.of("m", (made[0],)),
        Plan.of("m", tuple(made)),
        Plan.of("n", tuple(made[::-1])),
        Plan.of("n", made[-1:]),
    ]
    for bound, most_tokens, choices, operation, at_ns, which in calls:
        sampling, plan = Sampling(max_tokens=most_tokens, n=choices), plans[which]
        call = structs.replace(CALL, sampling=sampling, input_bound=bound, operation=operation)
        flight = InFlight("id", at_ns, 0.0, call, WEB)
        day = "1970-02-10" if at_ns == 40 * DAY_NS else "1970-01-02" if at_ns == DAY_NS else "1970-01-01"
        of = ceilings(plan.targets, day)
        assert accounts.reserve(flight, plan) is (bound is not None)
        if bound is not None:
            expected = None if of is None else most(bound + TEMPLATE_TOKENS, plan.output_bound(call), of)
            assert flight.ceiling == expected
            assert [hold.ceiling_nano_usd for hold in flight.holds] == [0], "nobody counts this caller"


def test_what_is_remembered_holds_for_its_day(accounts):
    old, new = Price("2020-01-01", Rates(1_000_000, 2_000_000)), Price("2020-01-03", Rates(5_000_000, 2_000_000))
    plan = Plan.of("m", (Target(id="a/m", provider="a", model="m", dialect="chat", prices=(old, new)),))
    first, ceilings_seen = 18_262 * DAY_NS, []
    for day in (0, 1, 2, 2, 0, 1, 3):
        flight = InFlight("id", first + day * DAY_NS, 0.0, structs.replace(CALL, input_bound=100), WEB)
        assert accounts.reserve(flight, plan)
        ceilings_seen.append(flight.ceiling)
    into = 100 + TEMPLATE_TOKENS
    assert ceilings_seen == [into * (5 if day > 1 else 1) + 20 for day in (0, 1, 2, 2, 0, 1, 3)]


def test_what_was_asked_is_remembered_within_bounds(accounts):
    plan = Plan.of("m", (Target(id="a/m", provider="a", model="m", dialect="chat", prices=PRICED),))
    for number in range(TERMS + 10):
        call = structs.replace(CALL, sampling=Sampling(max_tokens=number), input_bound=5)
        assert accounts.reserve(InFlight("id", 0, 0.0, call, WEB), plan)
        assert 0 < len(accounts._terms) <= TERMS


def test_there_is_no_room_where_the_bound_does_not_fit_and_nothing_is_held():
    accounts = accounts_of(reserving(10 * HELD))
    plan = Plan.of("m", (Target(id="a/m", provider="a", model="m", dialect="chat", prices=PRICED),))
    held = 0
    for _ in range(30):
        flight = InFlight("id", 0, 0.0, structs.replace(CALL, input_bound=40), WEB)
        if accounts.reserve(flight, plan):
            held += flight.ceiling
        else:
            assert not flight.holds
    (found,) = accounts._reservations.budgets.states(0)
    assert 9 * HELD < found.held_nano_usd == held <= 10 * HELD

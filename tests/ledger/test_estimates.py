"""Estimates: exact to the nano-dollar, against the formula that everybody writes on paper."""

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.ledger.estimates import (
    Bill,
    Gpu,
    Load,
    Used,
    bill,
    break_even,
    capacity_per_day,
    half_up,
    reprice,
    self_hosted,
    server_month,
)
from penstock.receipt import Usage
from penstock.target import Price, Rates, ServiceTier, Target, Tier, cost

DAY = "2026-11-22"
USD = 10**9


def target(*prices, **more):
    return Target("p/m", "p", "m", "chat", prices=prices, **more)


def price(into, out, **more):
    rates = {name: more.pop(name) for name in ("cached_input",) if name in more}
    return Price("2026-01-01", Rates(into, out, **rates), **more)


PLAIN = target(price(int(2.5 * USD), 10 * USD))


def test_a_month_is_requests_times_tokens_times_prices_times_thirty():
    found = bill(Load(1000, 5000, 200), PLAIN, DAY)
    assert found.month == 1000 * 30 * (5000 * 2500 + 200 * 10_000)
    assert found.request == 5000 * 2500 + 200 * 10_000
    assert (found.input, found.cached_input, found.output) == (1000 * 30 * 5000 * 2500, 0, 1000 * 30 * 200 * 10_000)
    assert (found.months, found.total, found.status) == ((found.month,), found.month, "estimated")
    assert (found.ratio_percent, found.price_since) == (400, "2026-01-01")


def test_a_share_of_the_input_is_cached():
    where = target(price(2 * USD, 8 * USD, cached_input=USD // 2))
    found = bill(Load(10, 1000, 100, cached_bp=2500, days=1), where, DAY)
    assert found.month == 10 * (750 * 2000 + 250 * 500 + 100 * 8000)
    assert found.cached_input == 10 * 250 * 500
    assert bill(Load(10, 1000, 100, cached_bp=2500, days=1), PLAIN, DAY).cached_input == 10 * 250 * 2500


def test_a_share_of_the_requests_is_sent_as_batches_where_they_have_a_price():
    batch = ServiceTier("batch", Rates(USD, 4 * USD))
    where = target(price(2 * USD, 8 * USD, services=(batch,)))
    found = bill(Load(100, 10, 10, batch_bp=4000, days=1), where, DAY)
    assert found.month == 60 * (10 * 2000 + 10 * 8000) + 40 * (10 * 1000 + 10 * 4000)
    assert found.batch
    without = bill(Load(100, 10, 10, batch_bp=4000, days=1), PLAIN, DAY)
    assert without.month == bill(Load(100, 10, 10, days=1), PLAIN, DAY).month
    assert not without.batch


def test_a_long_input_is_priced_by_its_tier_and_a_discount_comes_off():
    where = target(price(USD, USD, tiers=(Tier(1000, Rates(2 * USD, 2 * USD)),), discount_bp=2500))
    assert bill(Load(4, 1000, 0, days=1), where, DAY).month == 4 * 1000 * 1000 * 3 // 4
    assert bill(Load(4, 1001, 0, days=1), where, DAY).month == 4 * 1001 * 2000 * 3 // 4


def test_growth_is_compound_and_each_month_is_rounded_once():
    found = bill(Load(1, 1, 0, growth_bp=1000, days=1, months=4), target(price(1_000_000_000, 0)), DAY)
    assert found.months == (1000, 1100, 1210, 1331)
    assert found.total == 4641
    shrinking = bill(Load(1, 1, 0, growth_bp=-5000, days=1, months=3), target(price(1_000_000_000, 0)), DAY)
    assert shrinking.months == (1000, 500, 250)


def test_what_is_free_costs_nothing_and_what_has_no_price_is_not_known():
    free = bill(Load(1, 1, 1, months=2), target(free=True), DAY)
    assert (free.status, free.month, free.months) == ("free", 0, (0, 0))
    unknown = bill(Load(1, 1, 1), target(), DAY)
    assert (unknown.status, unknown.month, unknown.request, unknown.total) == ("unpriced", None, None, None)


def test_free_input_has_no_ratio():
    assert bill(Load(1, 1, 1), target(price(0, USD)), DAY).ratio_percent is None


loads = st.builds(
    Load,
    st.integers(0, 10**7),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10_000),
    st.just(0),
    st.integers(-10_000, 20_000),
    st.integers(1, 31),
    st.integers(1, 6),
)
rates = st.integers(0, 10**12)


@settings(deadline=None)
@given(loads, rates, rates, rates, st.integers(-5000, 10_000))
def test_every_month_is_the_formula_on_paper_rounded_half_up_once(load, into, cached, out, bp):
    found = bill(load, target(price(into, out, cached_input=cached, discount_bp=bp)), DAY)
    share, off, grown = Fraction(load.cached_bp, 10_000), 1 - Fraction(bp, 10_000), Fraction(1)
    for month in found.months:
        one = load.input_tokens * ((1 - share) * into + share * cached) + load.output_tokens * out
        exact = one * load.requests_per_day * load.days * off * grown / 1_000_000
        assert month == floor(exact + Fraction(1, 2))
        assert type(month) is int
        grown *= 1 + Fraction(load.growth_bp, 10_000)


def test_half_up():
    assert [half_up(n, 2) for n in range(5)] == [0, 1, 1, 2, 2]


# -- a GPU of one's own --

GPU = Gpu(2 * USD, 1000)


def test_a_server_is_paid_for_day_and_night():
    assert server_month(Load(1, 1, 1), GPU) == 2 * 24 * 30 * USD


def test_capacity_is_the_seconds_of_a_day_over_those_of_a_request():
    load = Load(1, 4000, 500)
    assert capacity_per_day(load, GPU) == 172_800
    assert capacity_per_day(load, Gpu(USD, 1000, use_bp=5000)) == 86_400
    assert capacity_per_day(load, Gpu(USD, 1000, input_tokens_per_s=8000)) == 86_400
    assert capacity_per_day(Load(1, 0, 0), GPU) == 86_400 * 1000


def test_a_load_takes_as_many_servers_as_it_needs():
    found = self_hosted(Load(172_801, 4000, 500), GPU)
    assert (found.servers, found.month) == (2, 2 * 2 * 24 * 30 * USD)
    assert found.request == half_up(found.month, 172_801 * 30)
    assert self_hosted(Load(172_800, 4000, 500), GPU).servers == 1
    assert self_hosted(Load(0, 4000, 500), GPU) == type(found)(1, 172_800, server_month(Load(0, 1, 1), GPU), None)


def test_a_request_longer_than_a_day_is_too_much_for_any_server():
    found = self_hosted(Load(5, 0, 10**9), Gpu(USD, 1))
    assert (found.servers, found.capacity_per_day, found.request) == (0, 0, None)
    assert break_even(Load(5, 0, 10**9), bill(Load(5, 0, 10**9), PLAIN, DAY), Gpu(USD, 1)) is None


def test_it_breaks_even_where_one_server_costs_as_much_as_the_model():
    load = Load(10, 0, 1000)  # a request costs 0.01 dollars; a server 1440 dollars a month
    hosted = bill(load, PLAIN, DAY)
    assert break_even(load, hosted, GPU) == 4800
    assert break_even(load, hosted, Gpu(2 * USD, 55)) is None  # 4752 a day at most
    assert break_even(load, hosted, Gpu(2 * USD, 56)) == 4800


def test_against_what_costs_nothing_or_is_not_known_it_never_breaks_even():
    assert break_even(Load(1, 1, 1), Bill("p/m", "unpriced"), GPU) is None
    assert break_even(Load(1, 1, 1), bill(Load(1, 1, 1), target(free=True), DAY), GPU) is None


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), rates, rates, st.integers(1, 10**12), st.integers(1, 10**5))
def test_the_break_even_is_the_least_number_of_requests_that_pays(into, out, rate_in, rate_out, hour, speed):
    gpu, load = Gpu(hour, speed), Load(1, into, out)
    found = break_even(load, bill(load, target(price(rate_in, rate_out)), DAY), gpu)
    server = server_month(load, gpu) * 1_000_000

    def hosted(requests):
        return requests * 30 * (into * rate_in + out * rate_out)

    if found is None:
        assert hosted(capacity_per_day(load, gpu)) < server
    else:
        assert found <= capacity_per_day(load, gpu)
        assert hosted(found) >= server > hosted(found - 1)


# -- history --


def test_the_same_tries_on_the_same_model_cost_what_they_did():
    old, new = price(2 * USD, 8 * USD), Price("2026-06-01", Rates(USD, 4 * USD))
    where = target(old, new)
    usages = [("2026-05-31", Usage(1, 3)), ("2026-06-01", Usage(7, 9, cached_input_tokens=2))]
    tries = [Used(day, usage, cost(usage, where, day).nano_usd) for day, usage in usages]
    (found,) = reprice(tries, (where,))
    assert found.nano_usd == sum(one.nano_usd for one in tries)
    (later,) = reprice(tries, (where,), "2026-11-22")
    assert later.nano_usd == 1 * 1000 + 3 * 4000 + 7 * 1000 + 9 * 4000


def test_each_try_is_priced_by_its_own_input():
    where = target(price(USD, 0, tiers=(Tier(10, Rates(2 * USD, 0)),)))
    (found,) = reprice([Used(DAY, Usage(10), 0), Used(DAY, Usage(11), 0)], (where,))
    assert found.nano_usd == 10 * 1000 + 11 * 2000


def test_a_model_without_a_price_has_no_sum_and_the_others_do():
    free, unknown, known = reprice([Used(DAY, Usage(1, 1), 5)], (target(free=True), target(), PLAIN))
    assert (free.nano_usd, free.status) == (0, "free")
    assert (unknown.nano_usd, unknown.status) == (None, "unpriced")
    assert (known.nano_usd, known.status) == (12_500, "estimated")


@pytest.mark.parametrize("where", [PLAIN, target(free=True), target()])
def test_nothing_costs_nothing(where):
    (found,) = reprice([], (where,))
    assert found.nano_usd == 0


def test_what_was_served_in_a_tier_is_priced_in_that_tier():
    batch = ServiceTier("batch", Rates(USD, 4 * USD))
    tiered = target(price(2 * USD, 8 * USD, services=(batch,)))
    plain = target(price(2 * USD, 8 * USD))
    tries = [Used(DAY, Usage(10, 5), 1, tier) for tier in ("batch", "flex", None, "default")]
    here, there, free = reprice(tries, (tiered, plain, target(free=True)))
    one, half = 10 * 2000 + 5 * 8000, 10 * 1000 + 5 * 4000
    assert (here.nano_usd, here.status, here.by_default) == (half + 3 * one, "estimated", 1)
    assert (there.nano_usd, there.status, there.by_default) == (4 * one, "estimated", 2)
    assert (free.nano_usd, free.status, free.by_default) == (0, "free", 0)


def test_the_same_tiers_on_the_same_model_cost_what_they_did():
    where = target(price(2 * USD, 8 * USD, services=(ServiceTier("flex", Rates(USD, 4 * USD)),)))
    tries = [Used(DAY, Usage(7, 3), cost(Usage(7, 3), where, DAY, tier).nano_usd, tier) for tier in ("flex", None)]
    (found,) = reprice(tries, (where,))
    assert found.nano_usd == sum(one.nano_usd for one in tries) == 57_000

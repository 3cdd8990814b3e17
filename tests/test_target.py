"""Prices, costs and ceilings: exact integers, rounded once."""

from decimal import ROUND_HALF_UP, Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.receipt import Usage
from penstock.target import (
    NANO_PER_USD,
    Cost,
    Price,
    Rates,
    ServiceTier,
    Target,
    Tier,
    ceilings,
    cost,
    discounted,
    most,
    plain,
    price_on,
    rates_for,
    service_of,
    usd,
)

DAY = "2026-11-21"


def usd_per_mtok(text):
    return int(Decimal(text) * 1_000_000_000)


def target(*prices, **more):
    return Target(id="p/m", provider="p", model="m", dialect="chat", prices=prices, **more)


def ceiling(into, output, where, day):
    of = ceilings((where,), day)
    return None if of is None else most(into, output, of)


GPT4O = Price(
    "2024-10-01",
    Rates(usd_per_mtok("2.50"), usd_per_mtok("10"), cached_input=usd_per_mtok("1.25"), audio_input=usd_per_mtok("40")),
)


def test_a_plain_call_costs_input_and_output():
    assert cost(Usage(1000, 500), target(GPT4O), DAY).nano_usd == 2_500_000 + 5_000_000


def test_cached_and_audio_tokens_are_subsets_at_their_own_rates():
    usage = Usage(1000, 0, cached_input_tokens=400, audio_input_tokens=100)
    assert cost(usage, target(GPT4O), DAY).nano_usd == 500 * 2500 + 400 * 1250 + 100 * 40_000


def test_every_rate_that_is_not_given_is_that_of_plain_tokens():
    usage = Usage(100, 100, 10, 10, 10, 10, 10, 10)
    plain = target(Price("2024-01-01", Rates(1_000_000_000, 2_000_000_000)))
    assert cost(usage, plain, DAY).nano_usd == 100 * 1000 + 100 * 2000


def test_every_rate_that_is_given_counts():
    rates = Rates(
        10_000_000,
        20_000_000,
        cached_input=1_000_000,
        cache_write=12_000_000,
        cache_write_1h=20_000_000,
        reasoning=30_000_000,
        audio_input=40_000_000,
        audio_output=80_000_000,
    )
    usage = Usage(100, 100, 10, 20, 30, 40, 5, 6)
    expected = 35 * 10 + 10 * 1 + 20 * 12 + 30 * 20 + 5 * 40 + 54 * 20 + 40 * 30 + 6 * 80
    assert cost(usage, target(Price("2024-01-01", rates)), DAY).nano_usd == expected


def test_an_hours_cache_write_without_a_rate_costs_what_a_short_one_does():
    price = Price("2024-01-01", Rates(10_000_000, 20_000_000, cache_write=12_500_000))
    assert cost(Usage(100, 0, cache_write_1h_tokens=40), target(price), DAY).nano_usd == 60 * 10 + 40 * 12.5


def test_a_long_context_is_charged_by_its_tier_from_the_first_token():
    tiered = Price("2025-09-29", Rates(3, 15), tiers=(Tier(200_000, Rates(6, 22)), Tier(400_000, Rates(9, 30))))
    assert rates_for(tiered, 200_000) == Rates(3, 15)
    assert rates_for(tiered, 200_001) == Rates(6, 22)
    assert rates_for(tiered, 500_000) == Rates(9, 30)


def test_a_price_holds_from_its_day_on_and_the_first_one_before():
    old, new = Price("2024-05-13", Rates(5, 15)), Price("2024-10-01", Rates(2, 10))
    assert price_on((old, new), "2024-01-01") is old
    assert price_on((old, new), "2024-09-30") is old
    assert price_on((old, new), "2024-10-01") is new
    assert price_on((), DAY) is None


def test_what_has_no_price_is_unpriced_and_never_nothing():
    assert cost(Usage(1000, 1000), target(), DAY).nano_usd is None
    assert cost(Usage(1000, 1000), target(), DAY).status == "unpriced"
    assert ceiling(1, 1, target(), DAY) is None


def test_a_free_target_is_free_and_says_so():
    assert cost(Usage(1, 1), target(free=True), DAY).status == "free"
    assert ceiling(1, 1, target(free=True), DAY) == 0


def test_a_cost_is_exact_only_where_the_provider_counted():
    assert cost(Usage(1, 1), target(GPT4O), DAY).status == "exact"
    assert cost(Usage(1, 1, source="counted"), target(GPT4O), DAY).status == "estimated"
    assert cost(Usage(1, 1), target(GPT4O), DAY).price_version == "2024-10-01"


def test_a_ceiling_takes_the_dearest_tier_and_rate():
    tiered = Price("2025-09-29", Rates(3_000_000, 15_000_000), tiers=(Tier(200_000, Rates(6_000_000, 22_500_000)),))
    assert ceiling(10, 10, target(tiered), DAY) == 60 + 225


def test_the_dearest_of_several_targets_is_the_ceiling_and_one_without_a_price_leaves_none():
    cheap = target(Price("2024-01-01", Rates(1_000_000, 2_000_000)))
    dear = target(Price("2024-01-01", Rates(3_000_000, 1_000_000)))
    assert most(10, 10, ceilings((cheap, dear), DAY)) == 40
    assert ceilings((cheap, target()), DAY) is None
    assert most(10, 10, ceilings((target(free=True),), DAY)) == 0


amounts = st.integers(0, 10**7)
rates = st.integers(0, 10**12)


@given(amounts, amounts, amounts, rates, rates, rates)
def test_a_cost_is_the_decimal_sum_rounded_half_up_once(total, cached, output, into, cheap, out):
    cached = min(cached, total)
    price = Price("2024-01-01", Rates(into, out, cached_input=cheap))
    exact = (Decimal(total - cached) * into + Decimal(cached) * cheap + Decimal(output) * out) / 1_000_000
    nano = cost(Usage(total, output, cached), target(price), DAY).nano_usd
    assert nano == int(exact.quantize(Decimal(1), ROUND_HALF_UP))
    assert type(nano) is int


@given(amounts, amounts, rates, rates, st.none() | rates)
def test_no_cost_exceeds_its_ceiling(into, output, rate_in, rate_out, reasoning):
    tiers = (Tier(1000, Rates(rate_in * 2, rate_out)),)
    where = target(Price("2024-01-01", Rates(rate_in, rate_out, reasoning=reasoning), tiers))
    usage = Usage(into, output, reasoning_tokens=output // 2)
    assert cost(usage, where, DAY).nano_usd <= ceiling(into, output, where, DAY)


@given(st.integers(-(10**20), 10**20))
def test_dollars_are_written_exactly(nano):
    assert Decimal(usd(nano)) == Decimal(nano) / 1_000_000_000
    assert "E" not in usd(nano)


def test_dollars_are_written_plainly():
    assert usd(0) == "0"
    assert usd(1) == "0.000000001"
    assert usd(1_500_000) == "0.0015"
    assert usd(-2_000_000_000) == "-2"


# -- tiers of service, discounts, pictures --

BATCH = ServiceTier("batch", Rates(1_000_000, 2_000_000), (Tier(100, Rates(3_000_000, 4_000_000)),))
SERVED = Price("2026-01-01", Rates(2_000_000, 4_000_000), services=(BATCH,))


def test_a_call_costs_by_how_it_was_served():
    assert cost(Usage(10, 10), target(SERVED), DAY).nano_usd == 60
    assert cost(Usage(10, 10), target(SERVED), DAY, "default").nano_usd == 60
    assert cost(Usage(10, 10), target(SERVED), DAY, "batch").nano_usd == 30
    assert cost(Usage(101, 10), target(SERVED), DAY, "batch").nano_usd == 343


def test_a_tier_of_service_without_a_price_is_never_exact():
    found = cost(Usage(10, 10), target(SERVED), DAY, "priority")
    assert (found.nano_usd, found.status) == (60, "estimated")
    assert cost(Usage(10, 10), target(SERVED), DAY, "batch").status == "exact"
    assert service_of(SERVED, "priority") is None
    assert service_of(SERVED, None) is SERVED


def test_a_discount_comes_off_before_the_one_rounding():
    third = Price("2026-01-01", Rates(1_000_000, 1_000_000), discount_bp=3333)
    assert cost(Usage(1, 1), target(third), DAY).nano_usd == 1
    assert cost(Usage(5000, 5000), target(third), DAY).nano_usd == 6667
    assert discounted(500_000, 0) == 1
    assert discounted(1_000_000, 5001) == 0


def test_a_ceiling_knows_every_tier_of_service_the_discount_and_pictures():
    dear = Price(
        "2026-01-01", Rates(1, 1), services=(ServiceTier("priority", Rates(7, 9)),), discount_bp=5000, image_output=90
    )
    assert ceilings((target(dear),), DAY) == ((1, 45), (4, 5))


@settings(deadline=None)
@given(
    amounts,
    amounts,
    st.lists(rates, min_size=8, max_size=8),
    st.integers(-10_000, 10_000),
    st.sampled_from(["", "batch"]),
)
def test_no_cost_exceeds_its_ceiling_however_it_is_served_and_whatever_comes_off(into, output, some, bp, service):
    batch = ServiceTier("batch", Rates(some[0], some[1], cached_input=some[2]), (Tier(1000, Rates(some[3], some[4])),))
    price = Price("2024-01-01", Rates(some[5], some[6]), services=(batch,), discount_bp=bp, image_output=some[7])
    where = target(price)
    usage = Usage(into, output, cached_input_tokens=into // 2, image_output_tokens=output // 3)
    found = cost(usage, where, DAY, service).nano_usd
    assert found <= ceiling(into, output, where, DAY)
    assert found >= 0


def ordinary_cost(into, out, cached, reasoning, rates):
    """As the settlement works it out; None where it leaves that to `cost`."""
    of_input, of_output, of_cached, of_reasoning, up_to, half, whole = rates
    total = into * of_input + out * of_output + cached * of_cached + reasoning * of_reasoning
    return None if total < 0 or into > up_to else (total + half) // whole


@settings(deadline=None)
@given(
    st.tuples(amounts, amounts, amounts, amounts),
    st.lists(st.none() | rates, min_size=6, max_size=6),
    st.integers(-10_000, 10_000),
    st.sampled_from([None, "", "default", "batch", "priority"]),
    st.lists(st.integers(0, 10**7), max_size=2),
    st.booleans(),
)
def test_the_rates_of_ordinary_calls_give_what_they_cost(tokens, some, bp, service, above, free):
    tiers = tuple(Tier(least, Rates(3, 4, cached_input=some[0])) for least in above)
    own = Rates(some[1] or 0, some[2] or 0, cached_input=some[3], reasoning=some[4])
    batch = ServiceTier("batch", Rates(some[5] or 0, 7, reasoning=some[0]), tiers)
    price = Price("2024-01-01", own, tiers, services=(batch,), discount_bp=bp)
    where = target(price, Price("2027-01-01", Rates(1, 1)), free=free)
    into, out, cached, reasoning = tokens
    expected = cost(Usage(into, out, cached, reasoning_tokens=reasoning), where, DAY, service)
    found = ordinary_cost(*tokens, plain(where, DAY, service))
    if found is None:
        assert bp == 10_000 or (above and into > min(above)) or expected == Cost(0, "estimated", "2024-01-01")
    else:
        assert found == expected.nano_usd
        assert expected.status == cost(Usage(), where, DAY, service).status


def test_there_are_no_rates_without_a_price():
    assert plain(target(), DAY, None) is None


@given(st.lists(st.tuples(rates, rates), min_size=1, max_size=8), amounts, amounts)
def test_a_ceiling_that_is_never_the_dearest_is_left_out_and_changes_nothing(some, into, output):
    targets = tuple(target(Price("2024-01-01", Rates(*each))) for each in some)
    of = ceilings(targets, DAY)
    assert set(of) <= set(some)
    assert not any(a != b and a[0] <= b[0] and a[1] <= b[1] for a in of for b in of)
    assert most(into, output, of) == -(-max(into * a + output * b for a, b in some) // 1_000_000)


def test_tokens_of_two_kinds_at_once_never_earn_money():
    price = Price("2024-01-01", Rates(1_000_000_000, 1, cached_input=100_000_000), image_input=500_000_000)
    both = Usage(1000, 0, cached_input_tokens=1000, image_input_tokens=1000)
    assert cost(both, target(price), DAY) == Cost(0, "estimated", "2024-01-01")


@given(
    st.integers(-(10**12), 10**12) | st.integers(-20, 20).map(lambda power: 10 ** abs(power) * (1 if power > 0 else -1))
)
def test_dollars_are_written_exactly_and_without_a_tail(nano):
    text = usd(nano)
    assert Decimal(text) * NANO_PER_USD == nano
    assert "." not in text or text[-1] not in "0."

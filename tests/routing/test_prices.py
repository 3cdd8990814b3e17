"""Rows of prices: dollars and percent become integers exactly, or are mistakes with their place."""

import tomllib
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.routing.prices import PriceRow, price_of
from penstock.target import Price, Rates, ServiceTier, Tier


def read(text):
    """The price of a row, and what is wrong with it."""
    table = tomllib.loads(text, parse_float=Decimal)
    mistakes = []
    return price_of(msgspec.convert(table, PriceRow), "row", mistakes), mistakes


def test_every_figure_is_read():
    found, mistakes = read(
        """
        since = 2026-01-01
        source = "a page"
        input = 2.5
        output = 10
        cached_input = 0.25
        image_input = 0.5
        discount = 12.5
        tiers = [{ above = 100, input = 5, output = 20 }]
        batch = { input = 1.25, output = 5, image_output = 15, tiers = [{ above = 100, input = 2, output = 3 }] }
        priority = { input = 4, output = 16 }
        """
    )
    assert mistakes == []
    tier = (Tier(100, Rates(2_000_000_000, 3_000_000_000)),)
    batch = ServiceTier("batch", Rates(1_250_000_000, 5_000_000_000), tier, None, 15_000_000_000)
    assert found == Price(
        "2026-01-01",
        Rates(2_500_000_000, 10_000_000_000, 250_000_000),
        (Tier(100, Rates(5_000_000_000, 20_000_000_000)),),
        "a page",
        (batch, ServiceTier("priority", Rates(4_000_000_000, 16_000_000_000))),
        1250,
        500_000_000,
    )


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("batch = { input = 0.0000000001, output = 1 }", "row.batch.input", "no whole number"),
        ("flex = { input = 1, output = -1 }", "row.flex.output", "no price"),
        ("image_input = nan", "row.image_input", "no price"),
        ("priority = { input = 1, output = 1, image_output = 1e30 }", "row.priority.image_output", "no price"),
        (
            "batch = { input = 1, output = 1, tiers = [{ above = 5, input = 1, output = 1 }, { above = 4, input = 1, output = 1 }] }",
            "row.batch.tiers",
            "above the one before",
        ),
        ("discount = 101", "row.discount", "no discount"),
        ("discount = 0.001", "row.discount", "no discount"),
        ("discount = nan", "row.discount", "no discount"),
    ],
)
def test_a_mistake_names_its_place(text, place, what):
    _, mistakes = read(f"since = 2026-01-01\ninput = 1\noutput = 1\n{text}\n")
    assert [(one.key, what in one.message) for one in mistakes] == [(place, True)]


def test_an_unknown_key_is_refused():
    with pytest.raises(msgspec.ValidationError, match="batches"):
        read("since = 2026-01-01\ninput = 1\noutput = 1\nbatches = 1\n")


@settings(deadline=None)
@given(st.integers(0, 10**15), st.integers(-10_000, 10_000))
def test_what_can_be_written_in_billionths_is_read_exactly(nano, points):
    text = f"since = 2026-01-01\ninput = {Decimal(nano).scaleb(-9):f}\noutput = 0\ndiscount = {Decimal(points).scaleb(-2):f}"
    found, mistakes = read(text)
    assert not mistakes
    assert (found.rates.input, found.discount_bp) == (nano, points)

"""A review tells every change, and what is recorded of it makes exactly the catalogue that was reviewed."""

from datetime import date

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.routing.catalog import read_catalog
from penstock.routing.review import changes, flat, percent, rows

TODAY = "2026-11-22"
FAMILY = '[[families]]\nname = "f"\nvendor = "v"\nsource = "s"\nas_of = 2026-01-01\n\n'


def model(prices="", facts="", name="m"):
    return (
        f'[[models]]\nid = "{name}"\nvendor = "v"\nfamily = "f"\nsource = "s"\nas_of = 2026-01-01\n{facts}\n'
        f"prices = [{prices}]\n\n"
    )


PRICE = "{ since = 2026-01-01, input = 2.5, output = 10 }"
BASE = (FAMILY + model(PRICE, "context = 1000")).encode()


def review(text):
    return changes(read_catalog(BASE), read_catalog(BASE, text.encode()), TODAY)


def told(text):
    return [(one.what, one.since, one.before, one.after, one.change_percent, one.rewrites) for one in review(text)]


def recorded(text, since=None):
    """The catalogue after what was recorded of an update."""
    written = rows(read_catalog(BASE), read_catalog(BASE, text.encode()), TODAY, since)
    return read_catalog(BASE, written.encode()), written


def test_the_same_again_is_no_change():
    assert review(BASE.decode()) == ()
    assert recorded(BASE.decode())[1] == ""


def test_a_new_price_is_compared_with_the_one_before():
    text = model(PRICE + ", { since = 2026-12-01, input = 2, output = 12.5, cached_input = 0.5 }")
    assert told(text) == [
        ("input", "2026-12-01", "2.5", "2", "-20.00", False),
        ("output", "2026-12-01", "10", "12.5", "+25.00", False),
        ("cached_input", "2026-12-01", None, "0.5", None, False),
    ]
    after, _ = recorded(text)
    assert [price.since for price in after.find("m").prices] == ["2026-01-01", "2026-12-01"]


def test_a_price_that_holds_already_is_never_rewritten():
    text = model("{ since = 2026-01-01, input = 2, output = 10 }")
    assert told(text) == [("input", "2026-01-01", "2.5", "2", "-20.00", True)]
    assert recorded(text)[1] == ""
    after, _ = recorded(text, TODAY)
    assert [(price.since, price.rates.input) for price in after.find("m").prices] == [
        ("2026-01-01", 2_500_000_000),
        (TODAY, 2_000_000_000),
    ]


def test_other_figures_for_what_held_once_are_left_out_altogether():
    old = FAMILY + model(PRICE + ", { since = 2026-05-01, input = 3, output = 10 }")
    text = model("{ since = 2026-01-01, input = 9, output = 10 }")
    before, after = read_catalog(old.encode()), read_catalog(old.encode(), text.encode())
    assert [one.rewrites for one in changes(before, after, TODAY)] == [True]
    assert rows(before, after, TODAY, TODAY) == ""


def test_a_price_to_come_may_still_change():
    old = FAMILY + model(PRICE + ", { since = 2026-12-01, input = 3, output = 10 }")
    text = model("{ since = 2026-12-01, input = 4, output = 10 }")
    before, after = read_catalog(old.encode()), read_catalog(old.encode(), text.encode())
    (change,) = changes(before, after, TODAY)
    assert (change.rewrites, change.before, change.after) == (False, "3", "4")
    assert "input = 4" in rows(before, after, TODAY)


def test_a_price_that_begins_today_holds_already():
    old = FAMILY + model(f"{{ since = {TODAY}, input = 3, output = 10 }}")
    text = model(f"{{ since = {TODAY}, input = 4, output = 10 }}")
    before, after = read_catalog(old.encode()), read_catalog(old.encode(), text.encode())
    assert [one.rewrites for one in changes(before, after, TODAY)] == [True]
    assert rows(before, after, TODAY, TODAY) == ""
    assert "2026-11-23" in rows(before, after, TODAY, "2026-11-23")


def test_facts_are_told_with_what_they_were():
    text = model(PRICE, 'context = 2000\noutput = 50\nretires = 2027-01-01\ncan = ["vision", "tools"]\naliases = ["x"]')
    assert told(text) == [
        ("context", None, "1000", "2000", None, False),
        ("output", None, None, "50", None, False),
        ("retires", None, None, "2027-01-01", None, False),
        ("can", None, "", "tools vision", None, False),
        ("aliases", None, "", "x", None, False),
    ]
    after, _ = recorded(text)
    assert after.find("x").profile == read_catalog(BASE, text.encode()).find("m").profile


def test_what_an_update_leaves_out_stays():
    assert told(model("")) == []
    assert len(recorded(model(""))[0].find("m").prices) == 1


def test_a_new_model_is_told_and_recorded_whole():
    text = model(PRICE, 'context = 5\nname = "An \\"odd\\" \\\\ näme\\u0007"\nsuccessor = "m"', "n")
    found = review(text)
    assert (found[0].model, found[0].what, found[0].after) == ("n", "model", "v")
    after, _ = recorded(text)
    assert after.find("n") == read_catalog(BASE, text.encode()).find("n")


def test_every_figure_of_a_price_is_told_and_recorded():
    full = (
        "{ since = 2026-12-01, input = 2, output = 8, cache_write = 1, discount = 12.5, image_output = 30, "
        'source = "a page", tiers = [{ above = 100, input = 4, output = 9 }], '
        "batch = { input = 1, output = 4, image_input = 7, tiers = [{ above = 100, input = 2, output = 3 }] }, "
        "priority = { input = 3, output = 9 } }"
    )
    text = model(full)
    names = [one.what for one in review(text)]
    assert names == [
        *("input", "output", "cache_write", "above 100 input", "above 100 output", "image_output"),
        *("batch input", "batch output", "batch above 100 input", "batch above 100 output", "batch image_input"),
        *("priority input", "priority output", "discount"),
    ]
    assert [one.after for one in review(text)][-1] == "12.5"
    after, _ = recorded(text)
    assert after.find("m").prices == read_catalog(BASE, text.encode()).find("m").prices


def test_the_first_price_of_a_model_is_compared_with_nothing():
    text = model("{ since = 2025-06-01, input = 2, output = 8 }")
    assert [(one.before, one.since) for one in review(text)] == [(None, "2025-06-01"), (None, "2025-06-01")]


def test_a_price_that_only_begins_anew_is_told():
    text = model("{ since = 2026-06-01, input = 2.5, output = 10 }")
    assert told(text) == [("price", "2026-06-01", None, "as before", None, False)]


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (100, 80, "-20.00"),
        (3, 4, "+33.33"),
        (3, 5, "+66.67"),
        (100_000, 100_005, "+0.01"),
        (100_000, 99_995, "-0.01"),
        (100_000, 100_004, "+0.00"),
        (0, 5, None),
        (None, 5, None),
        (5, None, None),
        (2, 0, "-100.00"),
    ],
)
def test_a_change_in_percent_is_rounded_half_up(before, after, text):
    assert percent(before, after) == text


money = st.integers(0, 10**12).map(lambda nano: f"{nano // 10**9}.{nano % 10**9:09d}")
days = st.dates(date(2001, 1, 1), date(2099, 12, 31)).map(str)
price_texts = st.builds(
    lambda since, into, out, tier: f"{{ since = {since}, input = {into}, output = {out}{tier} }}",
    days,
    money,
    money,
    st.just("") | money.map(lambda one: f", tiers = [{{ above = 9, input = {one}, output = 1 }}]"),
)


@settings(deadline=None)
@given(st.lists(price_texts, max_size=4, unique_by=lambda text: text[10:20]), st.none() | st.just(TODAY))
def test_whatever_is_recorded_keeps_every_version_that_holds_already(prices, since):
    text = model(", ".join(sorted(prices)))
    after, _ = recorded(text, since)
    kept = {price.since: flat(price) for price in after.find("m").prices}
    for price in read_catalog(BASE).find("m").prices:
        assert kept[price.since] == flat(price)
    for price in read_catalog((FAMILY + text).encode()).find("m").prices:
        if price.since != "2026-01-01":
            assert kept[price.since] == flat(price)


def test_a_change_can_be_written_as_json():
    (change,) = review(model(PRICE, "context = 2000"))
    assert msgspec.json.decode(msgspec.json.encode(change))["rewrites"] is False

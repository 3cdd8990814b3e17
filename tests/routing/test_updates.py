"""Updates: rows laid over rows; prices are added and none is lost."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import ConfigError
from penstock.routing.catalog import read_catalog
from penstock.routing.updates import laid_over, with_update
from penstock.target import price_on

FAMILY = '[[families]]\nname = "f"\nvendor = "v"\nsource = "s"\nas_of = 2026-01-01\n'
MODEL = (
    '[[models]]\nid = "m"\nvendor = "v"\nfamily = "f"\nsource = "s"\nas_of = 2026-01-01\ncontext = 10\n'
    "prices = [{ since = 2026-01-01, input = 1, output = 2 }, { since = 2026-05-01, input = 3, output = 4 }]\n"
)


def update(text, name="updates"):
    return f"\n[[{name}]]\n{text}\n"


def read(*texts, over=""):
    return read_catalog((FAMILY + MODEL + "".join(texts)).encode(), over.encode())


def rates(catalog, model="m"):
    return [(price.since, price.rates.input // 10**9) for price in catalog.find(model).prices]


def test_a_fact_is_replaced_and_the_others_stay():
    found = read(update('id = "m"\ncontext = 20')).find("m")
    assert (found.profile.context_tokens, found.vendor, len(found.prices)) == (20, "v", 2)


def test_prices_are_added_in_order_and_none_is_lost():
    later = update('id = "m"\nprices = [{ since = 2026-03-01, input = 2, output = 2 }]')
    latest = update('id = "m"\nprices = [{ since = 2026-09-01, input = 9, output = 2 }]')
    found = read(latest, later)
    assert rates(found) == [("2026-01-01", 1), ("2026-03-01", 2), ("2026-05-01", 3), ("2026-09-01", 9)]
    assert price_on(found.find("m").prices, "2026-02-28").rates.input == 1 * 10**9


def test_an_update_twice_is_the_same_as_once():
    text = update('id = "m"\ncontext = 20\nprices = [{ since = 2026-09-01, input = 9, output = 2 }]')
    assert read(text, text).find("m") == read(text).find("m")


def test_of_a_price_of_the_same_day_the_update_holds():
    assert rates(read(update('id = "m"\nprices = [{ since = 2026-05-01, input = 7, output = 2 }]'))) == [
        ("2026-01-01", 1),
        ("2026-05-01", 7),
    ]


def test_a_model_that_is_not_there_yet_is_new():
    found = read(update('id = "n"\nvendor = "v"\nfamily = "f"\nsource = "s"\nas_of = 2026-02-01'))
    assert [entry.id for entry in found.entries] == ["m", "n"]


def test_another_text_is_laid_over_with_its_models_and_its_new_families():
    other = FAMILY.replace('"f"', '"g"') + FAMILY + update('id = "m"\ncontext = 30', "models")
    other += update('id = "o"\nvendor = "v"\nfamily = "g"\nsource = "s"\nas_of = 2026-02-01', "models")
    found = read(over=other)
    assert (found.find("m").profile.context_tokens, found.find("o").profile.family) == (30, "g")


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        (update("context = 3"), "updates.0", "`id` is missing"),
        (update("id = 3"), "updates.0", "`id` is missing"),
        ("\n[updates]\nid = 1\n", "updates", "no list"),
        (update('id = "m"\ncontext = 0'), "models.m", "context"),
        (update('id = "n"\ncontext = 5'), "models.n", "missing required field"),
        (update('id = "m"\nprices = [{ since = 2026-09-01, input = 9 }]'), "models.m", "output"),
        (update('id = "m"\nprices = 3'), "models.m", "prices"),
        (update('id = "m"\nprices = [3]'), "models.m", "prices"),
    ],
)
def test_a_mistake_names_its_row(text, place, what):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert any(one.key == place and what in one.message for one in caught.value.mistakes), caught.value.mistakes


def test_an_unknown_table_of_another_text_is_told():
    with pytest.raises(ConfigError, match="other"):
        read(over="[other]\nx = 1\n")


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "prices", "since"]), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["models", "updates", "families", "x"]), values))
def test_no_shape_of_a_table_breaks_it(table):
    mistakes = []
    both = with_update({"models": [{"id": "m"}]}, table)
    laid_over(table, mistakes)
    assert {"id": "m"} in both["models"]
    assert {one.key.partition(".")[0] for one in mistakes} <= {"updates"}


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_text_is_an_update_or_a_list_of_mistakes(data):
    with suppress(ConfigError):
        assert [entry.id for entry in read_catalog((FAMILY + MODEL).encode(), data).entries] == ["m"]

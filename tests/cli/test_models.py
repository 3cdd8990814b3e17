"""`penstock models`, and the facts behind a name that a person types."""

from datetime import date

import pytest

from penstock.cli.models import day, look_up
from penstock.config import catalog_text, load
from penstock.errors import UnknownModel
from penstock.routing.catalog import read_catalog


def test_the_configured_names_come_first_then_the_catalogue(penstock):
    rows = penstock("models").rows

    assert rows[:2] == [["configured", "targets"], ["fast", "fake/m"]]
    assert ["chain", "fake/m, fake/unpriced"] in rows
    start = next(at for at, row in enumerate(rows) if row[0] == "model")
    assert len(rows) - start > 50
    assert {len(row) for row in rows[start:]} == {9}


def test_a_search_looks_at_names_aliases_and_vendors_without_regard_to_case(penstock):
    by_name = penstock("models", "GPT-4O-mini", "--json").json["models"]
    by_vendor = penstock("models", "anthropic", "--json").json["models"]

    assert any(model["id"] == "gpt-4o-mini" for model in by_name)
    assert {model["vendor"] for model in by_vendor} == {"anthropic"}
    assert penstock("models", "fas", "--json").json["configured"] == {"fast": ["fake/m"]}


def test_every_entry_has_all_facts_in_json(penstock):
    models = penstock("models", "--json").json["models"]
    known = next(model for model in models if model["id"] == "gpt-4o-mini")

    assert known["context_tokens"] == 128_000
    assert known["price_usd_per_mtok"]["input"] == "0.15"
    assert {frozenset(model) for model in models} == {frozenset(known)}
    assert {
        "retires",
        "successor",
        "retired",
        "capabilities",
        "tokenizer",
        "source",
        "as_of",
        "aliases",
    } <= known.keys()


def test_a_model_that_is_gone_is_marked_with_its_successor(penstock, monkeypatch):
    monkeypatch.setattr("penstock.cli.models.day", lambda: "2100-01-01")

    gone = [model for model in penstock("models", "--json").json["models"] if model["retires"]]
    rows = penstock("models").rows

    assert gone
    assert all(model["retired"] for model in gone)
    succeeded = next(model for model in gone if model["successor"])
    row = next(row for row in rows if row[0] == succeeded["id"])
    assert row[6:8] == [f"{succeeded['retires']} (gone)", succeeded["successor"]]


def test_a_model_that_is_not_gone_yet_is_not_marked(penstock, monkeypatch):
    monkeypatch.setattr("penstock.cli.models.day", lambda: "2020-01-01")

    assert not any(model["retired"] for model in penstock("models", "--json").json["models"])
    assert "(gone)" not in penstock("models").out


@pytest.mark.parametrize("json", [(), ("--json",)])
def test_nothing_found_is_a_no(penstock, json):
    done = penstock("models", "gpt-4o-mimi", *json)

    assert done.code == 1
    assert "Did you mean: gpt-4o-mini" in done.err


@pytest.fixture
def config(folder):
    text = (folder / "penstock.toml").read_text()
    (folder / "penstock.toml").write_text(text + '[models.big]\ntargets = ["fake/gpt-4o"]\n')
    return load()


@pytest.mark.parametrize(
    ("name", "target", "window", "priced"),
    [
        ("fast", "fake/m", None, True),  # configured: its first target, with the own price
        ("big", "fake/gpt-4o", 128_000, False),  # facts of the catalogue, no price: the provider is not the vendor
        ("fake/gpt-4o", "fake/gpt-4o", 128_000, False),  # provider/model
        ("fake/unheard-of", "fake/unheard-of", None, False),
        ("gpt-4o", "gpt-4o", 128_000, True),  # of the catalogue
        ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06", 128_000, True),  # a dated name of the same
    ],
)
def test_a_name_leads_to_its_facts_and_to_the_prices_that_hold_there(config, name, target, window, priced):
    found = look_up(config, name)

    assert (found.id, found.profile.context_tokens, bool(found.prices)) == (target, window, priced)


def test_an_alias_leads_to_the_facts_of_its_model(config):
    catalog = read_catalog(catalog_text())
    aliased = [entry for entry in catalog.entries if entry.aliases]

    assert aliased
    for entry in aliased:
        assert look_up(config, entry.aliases[0]).profile == entry.profile


def test_a_name_that_nobody_knows_is_refused_with_its_neighbours(config):
    with pytest.raises(UnknownModel, match="Did you mean: fast"):
        look_up(config, "fasst")
    with pytest.raises(UnknownModel, match="penstock models"):
        look_up(config, "zzzzzz")


def test_today_is_a_date():
    assert date.fromisoformat(day()).year >= 2026


def test_a_search_and_list_are_the_same(penstock):
    short, long = penstock("models", "gpt-4o-mini", "--json"), penstock("models", "list", "gpt-4o-mini", "--json")

    assert short.json == long.json
    assert penstock("models", "--json").json == penstock("models", "list", "--json").json


def test_the_group_tells_its_commands(penstock):
    told = penstock("models", "--help").out

    assert all(f"  {name} " in told for name in ("list", "diff", "apply"))


def test_a_model_may_be_called_as_a_command_is(penstock):
    assert penstock("models", "list", "apply").code == 1

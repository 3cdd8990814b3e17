"""`penstock models diff` and `apply`: reviewed first, then it counts, and no version of a price is lost."""

import pytest

from penstock.cli import prices
from penstock.cli.models import applied, catalogue

FACTS = 'vendor = "openai"\nfamily = "gpt-4o"\nsource = "a page"\nas_of = 2026-11-22\n'
NEW = f'[[models]]\nid = "gpt-4o"\n{FACTS}prices = [{{ since = 2999-01-01, input = 2, output = 12.5 }}]\n'
REWRITE = f'[[models]]\nid = "gpt-4o"\n{FACTS}prices = [{{ since = 2024-10-02, input = 2, output = 10, cached_input = 1.25 }}]\n'


@pytest.fixture
def update(folder):
    """Write an update; give its path."""

    def write(text, name="new.toml"):
        (folder / name).write_text(text)
        return folder / name

    return write


@pytest.fixture
def home(tmp_home):
    return tmp_home


def prices_of(home, model="gpt-4o"):
    return [(price.since, price.rates.input) for price in catalogue(home).find(model).prices]


def test_a_difference_is_shown_with_percent(penstock, update):
    done = penstock("models", "diff", update(NEW))

    assert done.code == 0
    assert done.rows[0] == ["model", "price since", "what", "before", "after", "change", ""]
    assert ["gpt-4o", "2999-01-01", "input", "2.5", "2", "-20.00 %", ""] in done.rows
    assert ["gpt-4o", "2999-01-01", "output", "10", "12.5", "+25.00 %", ""] in done.rows
    assert done.rows[-1] == ["3 changes of 1 models"]  # cached_input has no price of its own any more


def test_the_shape_of_json(penstock, update):
    found = penstock("models", "diff", update(NEW), "--json").json

    assert (found["rewrites"], found["file"].endswith("new.toml")) == (False, True)
    assert found["changes"][0] == {
        "model": "gpt-4o",
        "what": "input",
        "since": "2999-01-01",
        "before": "2.5",
        "after": "2",
        "change_percent": "-20.00",
        "rewrites": False,
    }


def test_the_packaged_catalogue_is_no_change_of_itself(penstock, update):
    from penstock.config import catalog_text

    done = penstock("models", "diff", update(catalog_text().decode()))
    assert (done.code, done.rows[-1]) == (0, ["no change"])
    assert penstock("models", "apply", update(catalog_text().decode())).rows[-1] == ["nothing to change"]


def test_an_applied_update_counts_and_every_version_stays(penstock, update, home):
    before = prices_of(home)
    done = penstock("models", "apply", update(NEW))

    assert done.code == 0
    assert prices_of(home) == [*before, ("2999-01-01", 2 * 10**9)]
    assert b"# Applied on " in applied(home)
    assert penstock("models", "diff", update(NEW)).rows[-1] == ["no change"]
    assert penstock("models", "apply", update(NEW), "--json").json["written"] is None


def test_updates_are_kept_one_after_the_other(penstock, update, home):
    penstock("models", "apply", update(NEW))
    penstock("models", "apply", update(NEW.replace("2999", "3999").replace("input = 2", "input = 3")))

    assert prices_of(home)[-2:] == [("2999-01-01", 2 * 10**9), ("3999-01-01", 3 * 10**9)]
    assert applied(home).count(b"# Applied on ") == 2
    assert [path.name for path in home.glob("models.toml*")] == ["models.toml"]


def test_other_figures_for_a_price_that_holds_are_a_no(penstock, update, home):
    done = penstock("models", "diff", update(REWRITE))
    assert done.code == 1
    assert ["gpt-4o", "2024-10-02", "input", "2.5", "2", "-20.00 %", "holds already"] in done.rows
    assert "gpt-4o since 2024-10-02" in done.err

    before = prices_of(home)
    refused = penstock("models", "apply", update(REWRITE))
    assert (refused.code, refused.out) == (1, "")
    assert "--since DAY" in refused.err
    assert prices_of(home) == before
    assert applied(home) == b""


def test_they_are_taken_from_a_later_day_on(penstock, update, home, monkeypatch):
    monkeypatch.setattr(prices, "day", lambda: "2026-11-22")
    before = prices_of(home)

    assert penstock("models", "apply", update(REWRITE), "--since", "2026-12-01").code == 0
    assert prices_of(home) == [*before, ("2026-12-01", 2 * 10**9)]


@pytest.mark.parametrize(("since", "told"), [("soon", "is no day"), ("2020-01-01", "is past")])
def test_a_day_that_cannot_be_is_a_mistake_of_usage(penstock, update, since, told):
    done = penstock("models", "apply", update(REWRITE), "--since", since)

    assert done.code == 2
    assert told in done.err


def test_a_new_model_is_found_by_its_name_afterwards(penstock, update):
    text = (
        f'[[models]]\nid = "gpt-99"\n{FACTS}context = 5\nprices = [{{ since = 2026-01-01, input = 1, output = 2 }}]\n'
    )

    assert penstock("models", "apply", update(text)).code == 0
    (found,) = penstock("models", "gpt-99", "--json").json["models"]
    assert (found["context_tokens"], found["price_usd_per_mtok"]["output"]) == (5, "2")


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("x = [", 1, "models.toml"),
        ('[[models]]\nid = "gpt-4o"\ncontext = 0\n', 1, "context"),
        ('[[models]]\nid = "gpt-99"\ncontext = 5\n', 1, "missing required field"),
        ("[other]\n", 1, "not known here"),
    ],
)
@pytest.mark.parametrize("what", ["diff", "apply"])
def test_a_file_that_is_no_catalogue_is_told_and_not_applied(penstock, update, home, what, text, code, told):
    done = penstock("models", what, update(text))

    assert (done.code, done.out) == (code, "")
    assert told in done.err
    assert applied(home) == b""


def test_a_file_that_is_not_there(penstock, folder):
    done = penstock("models", "diff", folder / "none.toml")

    assert done.code == 2
    assert "cannot be read" in done.err


def test_a_file_that_is_too_long(penstock, update, monkeypatch):
    monkeypatch.setattr(prices, "MAX_BYTES", 10)
    done = penstock("models", "diff", update(NEW))

    assert done.code == 2
    assert "more than 10 bytes" in done.err


def test_the_name_of_the_file_cannot_break_what_is_written(penstock, update, home):
    assert penstock("models", "apply", update(NEW, 'a\nb"]\x1b.toml')).code == 0
    assert prices_of(home)[-1][0] == "2999-01-01"

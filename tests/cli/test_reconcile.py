"""`penstock reconcile`: real calls in the ledger against exports that agree with them, or not quite."""

from datetime import UTC, datetime

import msgspec
import pytest


@pytest.fixture
def spent(penstock):
    """Two calls at one provider; give what the ledger says of them."""
    penstock("ask", "Hi there you")
    penstock("ask", "Hi")
    return penstock("spend", "--since", "1h", "--json").json["total"]


@pytest.fixture
def export(folder, spent):
    """Write an export that agrees with the ledger, but for what is given."""

    def write(name="usage.csv", **changes):
        row = {
            "date": datetime.now(UTC).date().isoformat(),
            "model": "m",
            "calls": spent["calls"],
            "input": spent["input_tokens"],
            "cached": 0,
            "output": spent["output_tokens"],
            "cost": spent["cost_usd"],
        } | changes
        (folder / name).write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
        return folder / name

    return write


def test_what_agrees_is_fine(penstock, export):
    done = penstock("reconcile", export())

    assert done.code == 0, done.out
    assert done.rows[0] == ["day", "model", "figure", "ledger", "export", "difference", ""]
    assert [row[:3] for row in done.rows[1:-1]] == [
        ["total", "", name] for name in ("requests", "input", "cached input", "output", "cost")
    ]
    assert done.rows[-1][0].endswith(": 0 differ")


def test_a_difference_of_one_token_is_a_no(penstock, export, spent):
    done = penstock("reconcile", export(output=spent["output_tokens"] + 1), "--provider", "fake")

    assert done.code == 1
    told = next(row for row in done.rows if row[1:3] == ["m", "output"])
    assert told[3:] == [str(spent["output_tokens"]), str(spent["output_tokens"] + 1), "-1", "differs"]
    assert "at fake: 1 differ" in done.rows[-1][0]


def test_within_a_tolerance_it_is_fine(penstock, export, spent):
    off = export(cost="0.000018")  # the ledger has 0.00001 and a little

    assert penstock("reconcile", off).code == 1
    assert penstock("reconcile", off, "--tolerance-usd", "0.0001").code == 0
    assert penstock("reconcile", off, "--tolerance-percent", "100").code == 0


def test_the_shape_of_json(penstock, export, spent):
    done = penstock("reconcile", export(cost="0"), "--json")

    found = done.json
    assert done.code == 1
    assert list(found) == ["provider", "since", "until", "rows", "total", "within"]
    (row,) = found["rows"]
    assert row["model"] == "m"
    assert row["ledger"] == {
        "requests": 2,
        "input_tokens": spent["input_tokens"],
        "cached_input_tokens": 0,
        "output_tokens": spent["output_tokens"],
        "cost_usd": spent["cost_usd"],
        "estimated_tries": 0,
        "unpriced_tries": 0,
    }
    assert row["difference"]["cost_usd"] == spent["cost_usd"]
    assert (found["within"], found["total"]["day"]) == (False, None)


def test_all_rows_on_request(penstock, export):
    assert penstock("reconcile", export(), "--json").json["rows"] == []
    assert len(penstock("reconcile", export(), "--json", "--all").json["rows"]) == 1


def test_tokens_of_one_export_and_money_of_another(penstock, folder, export, spent):
    usage = export("usage.csv", cost="")
    start = int(datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp())
    amount = {"value": float(spent["cost_usd"]), "currency": "usd"}
    page = {"data": [{"start_time": start, "results": [{"amount": amount, "line_item": "m, input"}]}]}
    (folder / "costs.json").write_bytes(msgspec.json.encode(page))

    assert penstock("reconcile", usage, folder / "costs.json").code == 0


def test_calls_at_another_provider_are_not_in_it(penstock, export):
    done = penstock("reconcile", export(), "--provider", "other", "--json")

    assert done.code == 1
    assert done.json["rows"][0]["ledger"]["requests"] == 0


def test_estimates_and_missing_prices_are_remarked_upon(penstock, export):
    penstock("ask", "Hi", "--model", "fake/unpriced")
    penstock("ask", "break")

    done = penstock("reconcile", export())
    assert "1 tries of the ledger have no price" in done.err
    assert "1 tries of the ledger have an estimated cost" in done.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("date,input\n2026-10-01,many\n", "usage.csv: line 2: 'many' is no number"),
        ("date,input\n", "no row with a figure"),
        ("a,b\n", "no column of days"),
    ],
)
def test_an_export_that_cannot_be_read_is_a_mistake_of_usage(penstock, folder, text, told):
    (folder / "usage.csv").write_text(text)
    done = penstock("reconcile", folder / "usage.csv")

    assert (done.code, done.out) == (2, "")
    assert told in done.err


def test_a_file_that_is_not_there_or_too_long(penstock, folder, export, monkeypatch):
    assert "cannot be read" in penstock("reconcile", folder / "none.csv").err
    monkeypatch.setattr("penstock.cli.reconcile.MOST_BYTES", 10)
    assert "more than 10 bytes" in penstock("reconcile", export()).err


def test_a_tolerance_that_is_no_number(penstock, export):
    assert penstock("reconcile", export(), "--tolerance-usd", "much").code == 2

"""`penstock spend`: parts that add up to the total, in every form, by whatever dimension."""

import csv
from decimal import Decimal

import pytest


@pytest.fixture
def spent(penstock):
    """Three calls: one with a feature, one with a feature and a team, one that has no price."""
    assert penstock("ask", "Hi", "--feature", "search").code == 0
    assert penstock("ask", "Hi there", "--feature", "chat", "--team", "web").code == 0
    assert penstock("ask", "Hi", "--model", "fake/unpriced").code == 0
    return penstock


def test_the_shape_of_json(spent):
    found = spent("spend", "--by", "feature,model", "--json").json

    assert list(found) == ["since", "until", "zone", "by", "rows", "unattributed", "total"]
    assert (found["zone"], found["by"]) == ("UTC", ["feature", "model"])
    row = found["rows"][0]
    assert {
        *(
            "feature",
            "model",
            "calls",
            "input_tokens",
            "cached_input_tokens",
            "output_tokens",
            "cost_usd",
            "cost_status",
        )
    } == row.keys()
    assert found["unattributed"]["cost_usd"] is None
    assert (found["total"]["calls"], found["total"]["cost_status"], found["total"]["unpriced_calls"]) == (
        3,
        "unpriced",
        1,
    )


@pytest.mark.parametrize(
    "by", ["feature", "model", "team", "user", "key", "target", "day", "hour", "feature,team,day", ""]
)
def test_the_parts_and_the_rest_add_up_to_the_total(spent, by):
    found = spent("spend", "--since", "yesterday", "--by", by, "--json").json

    parts = [*found["rows"], found["unattributed"]]
    for number in ("calls", "input_tokens", "cached_input_tokens", "output_tokens"):
        assert sum(part[number] for part in parts) == found["total"][number]
    assert sum(Decimal(part["cost_usd"] or 0) for part in parts) == Decimal(found["total"]["cost_usd"])
    assert found["total"]["calls"] == 3


def test_lines_for_a_pipe(spent):
    rows = spent("spend", "--by", "feature").rows

    assert rows == [
        ["feature", "calls", "input", "cached", "output", "cost", "status"],
        ["chat", "1", "2", "0", "4", "$0.00001", "exact"],
        ["search", "1", "1", "0", "3", "$0.000007", "exact"],
        ["unattributed", "1", "1", "0", "3", "unpriced", "unpriced (1 calls)"],
        ["total", "3", "4", "0", "10", "$0.000017", "unpriced (1 calls)"],
    ]


def test_without_a_dimension_there_is_the_total_alone(spent):
    assert spent("spend", "--by", "").rows == [
        ["", "calls", "input", "cached", "output", "cost", "status"],
        ["total", "3", "4", "0", "10", "$0.000017", "unpriced (1 calls)"],
    ]


def test_two_dimensions_keep_the_columns_in_line(spent):
    rows = spent("spend", "--by", "team,feature").rows

    assert {len(row) for row in rows} == {8}
    assert rows[1][:2] == ["web", "chat"]
    assert rows[-1][:2] == ["total", ""]


def test_an_interval_without_calls_is_zero_and_no_mistake(spent):
    done = spent("spend", "--since", "2020-01-01", "--until", "2020-02-01", "--json")

    assert done.code == 0
    assert done.json["rows"] == []
    assert (done.json["total"]["calls"], done.json["total"]["cost_usd"]) == (0, "0")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--since", "foo"), "is not a moment"),
        (("--by", "colour"), "cannot be given by 'colour'"),
        (("--zone", "Nowhere"), "no time zone"),
        (("--since", "2026-02-01", "--until", "2026-01-01"), "is after"),
    ],
)
def test_what_cannot_be_asked_is_a_mistake_of_usage(penstock, options, told):
    done = penstock("spend", *options)

    assert (done.code, done.out) == (2, "")
    assert told in done.err


# -- CSV --


def test_csv_says_in_each_row_what_it_is(spent):
    done = spent("spend", "--by", "feature", "--csv")

    assert done.code == 0
    assert list(csv.reader(done.out.splitlines())) == [
        [
            *("row", "feature", "calls", "input_tokens", "cached_input_tokens", "output_tokens"),
            *("cost_usd", "cost_status", "unpriced_calls"),
        ],
        ["part", "chat", "1", "2", "0", "4", "0.00001", "exact", ""],
        ["part", "search", "1", "1", "0", "3", "0.000007", "exact", ""],
        ["unattributed", "", "1", "1", "0", "3", "", "unpriced", "1"],
        ["total", "", "3", "4", "0", "10", "0.000017", "unpriced", "1"],
    ]


def test_the_parts_of_csv_add_up_to_its_total(spent):
    for by in ("", "team,feature", "day,key", "prompt"):
        rows = list(csv.DictReader(spent("spend", "--by", by, "--csv").out.splitlines()))
        total = rows.pop()
        for figure in ("calls", "input_tokens", "output_tokens", "cost_usd"):
            values = [Decimal(row[figure] or 0) for row in rows]
            assert by == "" or sum(values) == Decimal(total[figure])
        assert total["row"] == "total"


@pytest.mark.parametrize("name", ["=1+1", "+cmd", "-2", "@sum"])
def test_no_cell_of_csv_is_a_formula(penstock, name):
    assert penstock("ask", "Hi", "--feature", name).code == 0
    rows = list(csv.reader(penstock("spend", "--by", "feature", "--csv").out.splitlines()))

    assert rows[1][1] == f"'{name}"


def test_json_and_csv_at_once_is_a_mistake_of_usage(penstock):
    assert penstock("spend", "--json", "--csv").code == 2


def test_spend_by_prompt_leaves_calls_without_one_unattributed(spent):
    found = spent("spend", "--by", "prompt", "--json").json

    assert found["rows"] == []
    assert found["unattributed"]["calls"] == found["total"]["calls"] == 3

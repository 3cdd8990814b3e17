"""`penstock spend`: parts that add up to the total, in every form, by whatever dimension."""

import csv
import time
from decimal import Decimal

import pytest

from penstock.config import load
from penstock.ledger.ledger import Ledger
from penstock.receipt import Receipt

FIGURES = ("calls", "input", "cached", "output", "cost", "cache saved", "routing saved", "status")


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
            "cache_saved_usd",
            "routing_saved_usd",
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
        ["feature", *FIGURES],
        ["chat", "1", "2", "0", "4", "$0.00001", "$0", "$0", "exact"],
        ["search", "1", "1", "0", "3", "$0.000007", "$0", "$0", "exact"],
        ["unattributed", "1", "1", "0", "3", "unpriced", "$0", "$0", "unpriced (1 calls)"],
        ["total", "3", "4", "0", "10", "$0.000017", "$0", "$0", "unpriced (1 calls)"],
    ]


def test_without_a_dimension_there_is_the_total_alone(spent):
    assert spent("spend", "--by", "").rows == [
        ["", *FIGURES],
        ["total", "3", "4", "0", "10", "$0.000017", "$0", "$0", "unpriced (1 calls)"],
    ]


def test_two_dimensions_keep_the_columns_in_line(spent):
    rows = spent("spend", "--by", "team,feature").rows

    assert {len(row) for row in rows} == {10}
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


# -- what was saved --


@pytest.fixture
def saved(penstock, folder):
    """A hit of the cache, two calls that went elsewhere than to the baseline (cheaper, dearer), one of them unattributed."""
    ledger = Ledger.open(load().home, now_ns=time.time_ns())
    for feature, cache, routing in (
        ("search", 2_500_000, 0),
        ("search", 0, 1_000_000),
        ("chat", 0, -3_000_001),
        (None, 7, 0),
    ):
        now_ns = time.time_ns()
        ledger.settle(
            Receipt(
                ledger.new_id(now_ns),
                now_ns,
                *("chat", "fast", "ok", 200),
                feature=feature,
                cache_saved_nano_usd=cache,
                routing_saved_nano_usd=routing,
            )
        )
    ledger.close()
    return penstock


def test_savings_stand_in_columns_of_their_own(saved):
    rows = saved("spend", "--by", "feature").rows

    assert [(row[0], *row[6:8]) for row in rows] == [
        ("feature", "cache saved", "routing saved"),
        ("chat", "$0", "-$0.003000001"),
        ("search", "$0.0025", "$0.001"),
        ("unattributed", "$0.000000007", "$0"),
        ("total", "$0.002500007", "-$0.002000001"),
    ]


@pytest.mark.parametrize("by", ["feature", "day", "feature,hour", "prompt", ""])
def test_savings_add_up_to_the_total(saved, by):
    found = saved("spend", "--since", "yesterday", "--by", by, "--json").json

    for name, whole in (("cache_saved_usd", "0.002500007"), ("routing_saved_usd", "-0.002000001")):
        parts = [*found["rows"], found["unattributed"]]
        assert sum(Decimal(part[name]) for part in parts) == Decimal(found["total"][name]) == Decimal(whole)


def test_a_saving_below_zero_is_a_number_in_csv_and_no_name(saved):
    rows = list(csv.DictReader(saved("spend", "--by", "feature", "--csv").out.splitlines()))

    assert [row["routing_saved_usd"] for row in rows] == ["-0.003000001", "0.001", "0", "-0.002000001"]
    assert rows[-1]["cache_saved_usd"] == "0.002500007"


def test_savings_stand_on_the_receipts(saved):
    calls = saved("calls", "--json").json["calls"]
    assert sorted(call["cache_saved_usd"] for call in calls) == ["0", "0", "0.000000007", "0.0025"]
    shown = {call["routing_saved_usd"]: saved("calls", "show", call["id"]).rows for call in calls}
    assert ["routing saved", "-$0.003000001"] in shown["-0.003000001"]
    assert not any(row[0] == "cache saved" for row in shown["-0.003000001"])


# -- CSV --


def test_csv_says_in_each_row_what_it_is(spent):
    done = spent("spend", "--by", "feature", "--csv")

    assert done.code == 0
    assert list(csv.reader(done.out.splitlines())) == [
        [
            *("row", "feature", "calls", "input_tokens", "cached_input_tokens", "output_tokens"),
            *("cost_usd", "cost_status", "unpriced_calls", "cache_saved_usd", "routing_saved_usd"),
        ],
        ["part", "chat", "1", "2", "0", "4", "0.00001", "exact", "", "0", "0"],
        ["part", "search", "1", "1", "0", "3", "0.000007", "exact", "", "0", "0"],
        ["unattributed", "", "1", "1", "0", "3", "", "unpriced", "1", "0", "0"],
        ["total", "", "3", "4", "0", "10", "0.000017", "unpriced", "1", "0", "0"],
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

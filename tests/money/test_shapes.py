"""Every published shape of usage costs what the hand says, to the last billionth of a dollar; and the page says so."""

import pytest

from money.shapes import DAY, PAGE, by_hand, in_nano, read, rounded, target, usage, written
from penstock.target import ceilings, cost, most, usd

FILE = read()
SHAPES = FILE["shapes"]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape["name"])
def test_a_shape_costs_what_the_hand_says(shape):
    found = cost(usage(shape), target(shape, FILE["prices"]), DAY, shape.get("service"))

    assert found.status == shape.get("status", "exact")
    if "usd" not in shape:
        assert found.nano_usd is None
        return
    assert found.nano_usd == in_nano(shape["usd"])
    assert usd(found.nano_usd) == shape["usd"]
    assert type(found.nano_usd) is int
    if "sum" in shape:
        assert rounded(by_hand(shape["sum"])) == found.nano_usd


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape["name"])
def test_no_shape_costs_more_than_is_held_for_it(shape):
    where, used = target(shape, FILE["prices"]), usage(shape)
    of = ceilings((where,), DAY)
    if of is None:
        assert shape["status"] == "unpriced"
    else:
        found = cost(used, where, DAY, shape.get("service")).nano_usd
        assert found <= most(used.input_tokens, used.output_tokens, of)


def test_there_are_many_shapes_and_each_is_another():
    names = [shape["name"] for shape in SHAPES]

    assert len(names) >= 80
    assert len(set(names)) == len(names)
    assert set(FILE["prices"]) == {shape["price"] for shape in SHAPES if "price" in shape}


def test_the_page_shows_every_shape_as_it_is_tested():
    page = PAGE.read_text(encoding="utf-8")

    assert written(page) == page, "run: .venv/bin/python tests/money/shapes.py"
    assert all(f"| {shape['name']} |" in page for shape in (*SHAPES, *FILE["lines"]))


def test_the_hand_reads_only_sums_of_tokens_and_prices():
    assert by_hand("0.5 x (2 x 3 + 1 x 0.5)") == 3.25
    assert rounded(by_hand("1 x 0.0005")) == 1
    assert rounded(by_hand("1 x 0.000499")) == 0
    with pytest.raises(AssertionError, match="no sum"):
        by_hand("2 * 3")
    with pytest.raises(AssertionError, match="finer"):
        in_nano("0.0000000001")

"""How the functions behave inside templates is shown in test_sandbox.py and test_template.py."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from jinja2.exceptions import SecurityError
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from penstock.engine import fuel as metered
from penstock.engine.fuel import FUEL, STEP, WIDEST, Fuel, OutOfFuel


def context(units: int = 1_000) -> Context:
    environment = ImmutableSandboxedEnvironment()
    found = SimpleNamespace(parent={FUEL: Fuel(units)}, eval_ctx=EvalContext(environment), environment=environment)
    return cast("Context", found)


def spent(of: Context) -> int:
    return 1_000 - metered.fuel_of(of).left


@pytest.mark.parametrize(
    ("value", "units"),
    [
        (7, 1),
        ("abc", 4),
        (["abc", 1], 1 + 2 + 4 + 1),
        ({"k": ("v",)}, 1 + 2 + (1 + 1 + 2)),
        (None, 1),
    ],
)
def test_a_value_weighs_what_is_in_it(value: object, units: int) -> None:
    fuel = Fuel(100)
    fuel.weigh(value)

    assert fuel.left == 100 - units


def test_what_recurs_is_weighed_as_often_as_it_recurs() -> None:
    value: list[object] = ["a"]
    for _ in range(60):
        value = [value, value]

    with pytest.raises(OutOfFuel, match="loops or grows without end"):
        Fuel(100_000).weigh(value)


def test_fuel_lasts_to_the_last_unit() -> None:
    fuel = Fuel(10)
    fuel.spend(10)

    with pytest.raises(OutOfFuel):
        fuel.spend(1)


def test_what_is_put_out_or_compared_is_paid_for_and_passes() -> None:
    one, two = context(), context()

    assert metered.put_out(one, "abc") == "abc"
    assert metered.weighed(two, ["abc"]) == ["abc"]
    assert (spent(one), spent(two)) == (4, 6)


def test_iterations_are_paid_for_at_once_or_one_by_one() -> None:
    sized, lazy = context(), context()
    items = [1, 2, 3]

    assert metered.each(sized, items, 10) is items
    assert metered.each(lazy, iter(items), 10) == items
    assert spent(sized) == spent(lazy) == 30
    with pytest.raises(OutOfFuel):
        metered.each(context(), iter(lambda: 1, 2), 10)


def test_made_values_are_paid_for_by_their_length() -> None:
    of = context()

    assert metered.made(of, "abc") == "abc"
    assert metered.made(of, {"a": 1}) == {"a": 1}
    assert metered.made(of, 7) == 7
    assert spent(of) == 4


def test_concatenation_writes_every_part_as_text() -> None:
    assert metered.concat(context(), ["a", 1, None]) == "a1None"


def test_json_is_written_as_chat_templates_expect_it() -> None:
    value = {"b": ["\u00e9", 1.5, None, True], "a": "<&>"}

    assert metered.tojson(context(), value) == '{"b": ["\u00e9", 1.5, null, true], "a": "<&>"}'
    assert metered.tojson(context(), value, ensure_ascii=True, sort_keys=True).startswith(
        '{"a": "<&>", "b": ["\\u00e9"'
    )
    assert metered.tojson(context(), ["a"], indent=1) == '[\n "a"\n]'
    assert metered.tojson(context(), [1, 2], separators=(",", ":")) == "[1,2]"


@pytest.mark.parametrize(
    "wide",
    [
        lambda of: metered.tojson(of, [], indent=WIDEST + 1),
        lambda of: metered.tojson(of, [], indent=" " * (WIDEST + 1)),
        lambda of: metered.tojson(of, [], separators=(",", ":" * (WIDEST + 1))),
        lambda of: metered.indent(of, "a", WIDEST + 1),
    ],
)
def test_wide_indentations_are_refused(wide: Any) -> None:
    with pytest.raises(SecurityError, match="more than 100 characters"):
        wide(context())


def test_lines_are_indented_as_in_jinja() -> None:
    assert metered.indent(context(), "a\nb", 2) == "a\n  b"
    assert metered.indent(context(), "a\nb", "> ", first=True) == "> a\n> b"
    with pytest.raises(OutOfFuel):
        metered.indent(context(), "\n" * 1_000)


def test_replacing_and_joining_work_as_in_jinja_and_pay_in_advance() -> None:
    assert metered.replace(context(), "aXbX", "X", "y") == "aybY".replace("Y", "y")
    assert metered.replace(context(), "aXbX", "X", "y", 1) == "aybX"
    assert metered.join(context(), ["a", 1], "-") == "a-1"
    assert metered.join(context(), iter("ab")) == "ab"
    assert metered.join(context(), {"a": 1, "b": 2}, ",") == "a,b"
    assert metered.join(context(), [{"n": 1}, {"n": 2}], ",", "n") == "1,2"
    with pytest.raises(OutOfFuel):
        metered.replace(context(), "x" * 100, "x", "y" * 100)
    with pytest.raises(OutOfFuel):
        metered.join(context(), ["x"] * 50, "y" * 50)
    assert STEP > 0

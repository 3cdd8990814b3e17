"""What a chat template may still do, and the filters that pay for what they do.

`sandbox.py` rewrites templates so that loops, concatenations, comparisons, filters and new lists go through the functions
here. Each pays before anything grows: a unit is about one character of text, or one member of a list.
"""

import json  # noqa: TID251  # templates mean its exact spacing by `tojson`, which msgspec cannot write
from collections.abc import Mapping, Sized
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.filters import do_indent, do_replace, sync_do_join
from jinja2.runtime import Context

FUEL = " fuel"
"""The name of a render's fuel among its variables; the blank keeps templates from naming it."""

STEP = 8
"""Units that an iteration or a call costs at least. One unit is about a character of text made."""

WIDEST = 100
"""The largest indentation or width that a template may ask for."""


class OutOfFuel(SecurityError):
    """A template did more than any chat needs."""


class Fuel:
    """What one render may still do."""

    __slots__ = ("left",)

    def __init__(self, units: int) -> None:
        self.left = units

    def spend(self, units: int) -> None:
        """Pay; raises `OutOfFuel` where there is not so much left."""
        self.left -= units
        if self.left < 0:
            raise OutOfFuel("it loops or grows without end")

    def weigh(self, value: object) -> None:
        """Pay for the whole size of a value: characters, and members at any depth, as often as they recur."""
        todo = [value]
        while todo:
            part = todo.pop()
            self.spend(1)
            match part:
                case str():
                    self.spend(len(part))
                case Mapping():
                    todo += part.keys()
                    todo += part.values()
                case list() | tuple():
                    self.spend(len(part))  # before they are put on the list of things to do
                    todo += part
                case _:
                    pass


def fuel_of(context: Context) -> Fuel:
    """Give the fuel of the render that a context belongs to."""
    fuel: Fuel = context.parent[FUEL]
    return fuel


@jinja2.pass_context
def put_out(context: Context, value: Any) -> Any:
    """Pay for what `{{ }}` puts out, before it is written as text."""
    fuel_of(context).weigh(value)
    return value


@jinja2.pass_context
def each(context: Context, items: Any, weight: int) -> Any:
    """Pay for the iterations over `items`, all at once where their number is known."""
    fuel = fuel_of(context)
    if isinstance(items, Sized):
        fuel.spend(len(items) * weight)
        return items
    found = []
    for item in items:
        fuel.spend(weight)
        found.append(item)
    return found


@jinja2.pass_context
def concat(context: Context, parts: list[Any]) -> str:
    """Join texts as `~` does."""
    fuel_of(context).weigh(parts)
    return "".join(map(str, parts))


@jinja2.pass_context
def made(context: Context, value: Any) -> Any:
    """Pay for a value that was made out of members that are paid for already."""
    if isinstance(value, str | list | tuple | dict):
        fuel_of(context).spend(len(value))
    return value


@jinja2.pass_context
def weighed(context: Context, value: Any) -> Any:
    """Pay for a value and all that is in it."""
    fuel_of(context).weigh(value)
    return value


@jinja2.pass_context
def tojson(
    context: Context,
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """Write JSON as Python's `json.dumps` does, which is what chat templates were written against."""
    check_width(indent)
    for separator in separators or ():
        check_width(separator)
    fuel_of(context).weigh(value)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@jinja2.pass_context
def indent(context: Context, text: str, width: int | str = 4, *args: Any, **kwargs: Any) -> str:
    """Indent lines as Jinja does."""
    check_width(width)
    fuel_of(context).spend(text.count("\n") * WIDEST)
    return do_indent(text, width, *args, **kwargs)


@jinja2.pass_context
def replace(context: Context, text: Any, old: Any, new: Any, count: int | None = None) -> str:
    """Replace as Jinja does."""
    fuel = fuel_of(context)
    fuel.weigh((old, new))
    pay_for_replacing(fuel, str(text), str(old), str(new))
    return do_replace(context.eval_ctx, text, old, new, count)


@jinja2.pass_context
def join(context: Context, items: Any, d: str = "", attribute: str | int | None = None) -> str:
    """Join as Jinja does."""
    fuel = fuel_of(context)
    parts = each(context, items, STEP)
    fuel.weigh(parts if isinstance(parts, list | tuple) else list(parts))
    fuel.spend(len(parts) * len(str(d)))
    return sync_do_join(context.eval_ctx, parts, d, attribute)


def check_width(width: object) -> None:
    """Refuse an indentation, or a separator, that is wider than any prompt needs."""
    if (len(width) if isinstance(width, str) else width or 0) > WIDEST:  # type: ignore[operator]  # else a TypeError
        raise SecurityError(f"an indentation of more than {WIDEST} characters is not allowed")


def pay_for_replacing(fuel: Fuel, text: str, old: str, new: str) -> None:
    """Pay for what a replacement may add."""
    fuel.spend((text.count(old) + 1) * len(new))

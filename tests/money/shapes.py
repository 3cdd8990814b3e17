"""The published shapes of usage: read, worked out by hand's arithmetic, and written as the table of docs/money-shapes.md."""

import re
import tomllib
from fractions import Fraction
from pathlib import Path

from penstock.receipt import Usage
from penstock.target import Price, Rates, ServiceTier, Target, Tier

FILE = Path(__file__).with_name("shapes.toml")
PAGE = Path(__file__).parents[2] / "docs" / "money-shapes.md"
DAY = "2026-11-21"
TABLE = re.compile(r"(<!-- shapes -->\n).*?(<!-- end of shapes -->)", re.DOTALL)
LINES = re.compile(r"(<!-- lines -->\n).*?(<!-- end of lines -->)", re.DOTALL)
TERM = r"[0-9.]+ x [0-9.]+"
SUM = re.compile(rf"(?:([0-9.]+) x \()?({TERM}(?: \+ {TERM})*)\)?")
RATES = ("input", "output", "cached_input", "cache_write", "cache_write_1h", "reasoning", "audio_input", "audio_output")
USAGE = {
    "in": "input_tokens",
    "out": "output_tokens",
    "cached": "cached_input_tokens",
    "write": "cache_write_tokens",
    "write_1h": "cache_write_1h_tokens",
    "reasoning": "reasoning_tokens",
    "audio_in": "audio_input_tokens",
    "audio_out": "audio_output_tokens",
    "accepted": "accepted_prediction_tokens",
    "rejected": "rejected_prediction_tokens",
    "images_in": "image_input_tokens",
    "images_out": "image_output_tokens",
}


def read():
    """The whole file."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def by_hand(text):
    """Millionths of a dollar that a sum such as `1000 x 2.5 + 500 x 10` comes to, as a fraction."""
    found = SUM.fullmatch(text)
    assert found, f"{text!r} is no sum of tokens times prices"
    terms = [part.split(" x ") for part in found[2].split(" + ")]
    return Fraction(found[1] or 1) * sum(Fraction(tokens) * Fraction(price) for tokens, price in terms)


def in_nano(usd):
    """Dollars, written, as nano-dollars."""
    nano = Fraction(usd) * 10**9
    assert nano.denominator == 1, f"{usd} is finer than a billionth"
    return nano.numerator


def rounded(millionths):
    """Half up to a billionth of a dollar, in nano-dollars."""
    return (millionths * 1000 + Fraction(1, 2)).__floor__()


def _nano(usd):
    return None if usd is None else in_nano(usd)


def _rates(table):
    return Rates(**{name: _nano(table.get(name)) for name in RATES})


def _tiers(table):
    return tuple(Tier(tier["above"], _rates(tier)) for tier in table.get("tiers", ()))


def _images(table):
    return _nano(table.get("image_input")), _nano(table.get("image_output"))


def price(table):
    """A price as the program has it."""
    services = tuple(
        ServiceTier(name, _rates(one), _tiers(one), *_images(one)) for name, one in table.get("services", {}).items()
    )
    bp = table.get("discount_bp", 0)
    return Price("2026-01-01", _rates(table), _tiers(table), "", services, bp, *_images(table))


def target(shape, prices):
    """Where a shape was used."""
    known = (price(prices[shape["price"]]),) if "price" in shape else ()
    return Target("p/m", "p", "m", "chat", prices=known, free=shape.get("free", False))


def usage(shape):
    """What was used."""
    return Usage(**{USAGE[key]: shape[key] for key in USAGE if key in shape}, source=shape.get("source", "provider"))


# -- the page --


def _used(shape):
    parts = [f"{shape[key]:,} {key.replace('_', ' ')}" for key in USAGE if shape.get(key)]
    notes = [shape[key] for key in ("service", "source") if key in shape]
    return ", ".join(parts) + (f" ({', '.join(notes)})" if notes else "")


def _sum(shape):
    return shape.get("sum", "")


def _cost(shape):
    return f"${shape['usd']}" if "usd" in shape else "not known"


def table():
    """The table of shapes, as Markdown."""
    rows = [
        f"| {number} | {shape['name']} | {_used(shape)} | {_sum(shape)} | {_cost(shape)} | {shape.get('status', 'exact')} |"
        for number, shape in enumerate(read()["shapes"], 1)
    ]
    return "\n".join(
        ["| # | shape | tokens | sum, in millionths of a dollar | cost | status |", "|---|---|---|---|---|---|", *rows]
    )


def lines():
    """The table of whole calls, as Markdown."""
    rows = [
        f"| {number} | {line['name']} | {_sum(line)} | {_cost(line)} | {line['status']} |"
        for number, line in enumerate(read()["lines"], 1)
    ]
    return "\n".join(["| # | call | sum, in millionths of a dollar | cost | status |", "|---|---|---|---|---|", *rows])


def written(text):
    """The page with the tables as they are now."""
    text = TABLE.sub(lambda found: f"{found[1]}{table()}\n{found[2]}", text)
    return LINES.sub(lambda found: f"{found[1]}{lines()}\n{found[2]}", text)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

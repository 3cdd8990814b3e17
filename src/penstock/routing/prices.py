"""Rows of prices, as the catalogue has them in TOML, and the `Price` that each becomes: exact, or a mistake with its place.

Dollars per million tokens become whole nano-dollars, percent become basis points. Values only; `catalog.py` reads the text.
"""

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Annotated

from msgspec import Meta, Struct

from penstock.errors import Mistake
from penstock.target import NANO_PER_USD, Price, Rates, ServiceTier, Tier

SERVICES = ("batch", "flex", "priority")
"""Tiers of service that a row of prices may have rates of its own for."""

_MOST_DIGITS = 12


class _Rates(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """US dollars per million tokens, as TOML has them."""

    input: Decimal | int
    output: Decimal | int
    cached_input: Decimal | int | None = None
    cache_write: Decimal | int | None = None
    cache_write_1h: Decimal | int | None = None
    reasoning: Decimal | int | None = None
    audio_input: Decimal | int | None = None
    audio_output: Decimal | int | None = None


class _Tier(_Rates, frozen=True, forbid_unknown_fields=True, kw_only=True):
    above: Annotated[int, Meta(gt=0)]


class _Service(_Rates, frozen=True, forbid_unknown_fields=True, kw_only=True):
    tiers: tuple[_Tier, ...] = ()
    image_input: Decimal | int | None = None
    image_output: Decimal | int | None = None


class PriceRow(_Service, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of a model's `prices`: what holds from `since` on. `discount` is percent off all of it."""

    since: date
    source: str = ""
    batch: _Service | None = None
    flex: _Service | None = None
    priority: _Service | None = None
    discount: Decimal | int = 0


def price_of(price: PriceRow, row: str, mistakes: list[Mistake]) -> Price:
    """Turn a row into a price; what is wrong with it is added to the mistakes, with its place in `row`."""
    services = []
    for name in SERVICES:
        service: _Service | None = getattr(price, name)
        if service is not None:
            place = f"{row}.{name}"
            tiers = _tiers(service, place, mistakes)
            services.append(
                ServiceTier(name, _rates(service, place, mistakes), tiers, *_images(service, place, mistakes))
            )
    return Price(
        price.since.isoformat(),
        _rates(price, row, mistakes),
        _tiers(price, row, mistakes),
        price.source,
        tuple(services),
        _discount(Decimal(price.discount), row, mistakes),
        *_images(price, row, mistakes),
    )


def _tiers(service: _Service, row: str, mistakes: list[Mistake]) -> tuple[Tier, ...]:
    tiers = tuple(
        Tier(tier.above, _rates(tier, f"{row}.tiers[{at}]", mistakes)) for at, tier in enumerate(service.tiers)
    )
    starts = [tier.above_input_tokens for tier in tiers]
    if starts != sorted(set(starts)):
        mistakes.append(Mistake(f"{row}.tiers", "each has to begin above the one before."))
    return tiers


def _discount(percent: Decimal, row: str, mistakes: list[Mistake]) -> int:
    """Turn percent into basis points."""
    points = percent * 100 if percent.is_finite() and abs(percent) <= 100 else Decimal("NaN")
    if points.is_nan() or points != points.to_integral_value():
        mistakes.append(
            Mistake(f"{row}.discount", f"{percent} is no discount: percent from -100 to 100, in hundredths.")
        )
        return 0
    return int(points)


def _images(service: _Service, row: str, mistakes: list[Mistake]) -> tuple[int | None, int | None]:
    return (
        _rate(service.image_input, f"{row}.image_input", mistakes),
        _rate(service.image_output, f"{row}.image_output", mistakes),
    )


def _rates(usd: _Rates, row: str, mistakes: list[Mistake]) -> Rates:
    """Turn dollars per million tokens into whole nano-dollars; what is no whole number of them is a mistake."""
    given = [name for name in _Rates.__struct_fields__ if getattr(usd, name) is not None]
    nano = {name: _rate(getattr(usd, name), f"{row}.{name}", mistakes) or 0 for name in given}
    return Rates(**nano)


def _rate(usd: Decimal | int | None, row: str, mistakes: list[Mistake]) -> int | None:
    if usd is None:
        return None
    try:
        return _nano(Decimal(usd))
    except ValueError as error:
        mistakes.append(Mistake(row, str(error)))
        return None


def _nano(usd: Decimal) -> int:
    if not usd.is_finite() or usd < 0 or abs(usd.adjusted()) > _MOST_DIGITS:
        raise ValueError(f"{usd} is no price in US dollars per million tokens.")
    nano = Fraction(usd) * NANO_PER_USD
    if nano.denominator != 1:
        raise ValueError(f"{usd} is no whole number of nano-dollars per million tokens.")
    return nano.numerator

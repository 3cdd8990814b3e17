"""A review of the catalogue before it changes: what an update says otherwise, and the rows that record it.

A price that holds already was billed with: no update may say otherwise for its day. Such a change is marked, and becomes
a price of its own from a later day on, so that every version that stands on a receipt stays what it was. Pure.
"""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from penstock.routing.catalog import Catalog, Entry
from penstock.target import Price, Rates, ServiceTier, price_on, usd

_FACTS = ("context_tokens", "input_tokens", "output_tokens", "released", "retires", "successor", "tokenizer", "name")
_KEYS = ("context", "input", "output", "released", "retires", "successor", "tokenizer", "name")
_DATES = frozenset({"released", "retires", "as_of", "since"})


class Change(Struct, frozen=True):
    """One thing that would be otherwise.

    what            a fact (`context`, `retires` ...), or a rate (`input`, `batch output`, `above 200000 input` ...)
    since           the day of the price that it belongs to; None for a fact
    before, after   dollars per million tokens, percent of a discount, or the fact; None: not there
    change_percent  of a rate, with two decimals and its sign
    rewrites        the price of that day holds already and was billed with
    """

    model: str
    what: str
    since: str | None
    before: str | None
    after: str | None
    change_percent: str | None = None
    rewrites: bool = False


def changes(current: Catalog, proposed: Catalog, today: str) -> tuple[Change, ...]:
    """Say what another catalogue says otherwise, model by model. What it leaves out stays, and is no change."""
    known = {entry.id: entry for entry in current.entries}
    found: list[Change] = []
    for entry in proposed.entries:
        old = known.get(entry.id)
        if old is None:
            found.append(Change(entry.id, "model", None, None, entry.vendor))
            old = Entry(entry.id, entry.vendor, (), entry.profile)
        found += _facts(old, entry)
        found += _prices(old, entry, today)
    return tuple(found)


def _facts(old: Entry, new: Entry) -> Iterator[Change]:
    for name, (before, after) in _differing(old, new).items():
        yield Change(new.id, name, None, _text(before), _text(after))


def _differing(old: Entry, new: Entry) -> dict[str, tuple[object, object]]:
    """Give the facts that differ, under their names in TOML; what the new one does not say is left alone."""
    pairs = {
        key: (getattr(old.profile, name), getattr(new.profile, name)) for key, name in zip(_KEYS, _FACTS, strict=True)
    }
    pairs["can"] = (sorted(old.profile.capabilities), sorted(new.profile.capabilities))
    pairs["aliases"] = (sorted(old.aliases), sorted(new.aliases))
    return {key: (before, after) for key, (before, after) in pairs.items() if after and before != after}


def _text(fact: object) -> str | None:
    if isinstance(fact, list):
        return " ".join(map(str, fact))
    return None if fact is None else str(fact)


def _prices(old: Entry, new: Entry, today: str) -> Iterator[Change]:
    for price in new.prices:
        same = next((one for one in old.prices if one.since == price.since), None)
        before = {} if (base := same or _before(old.prices, price.since)) is None else flat(base)
        after = flat(price)
        if same is None and before == after:
            yield Change(new.id, "price", price.since, None, "as before")
        for what in dict.fromkeys((*before, *after)):
            if before.get(what) != after.get(what):
                yield Change(
                    new.id,
                    what,
                    price.since,
                    _dollars(before.get(what)),
                    _dollars(after.get(what)),
                    percent(before.get(what), after.get(what)),
                    rewrites=same is not None and price.since <= today,
                )


def _before(prices: tuple[Price, ...], day: str) -> Price | None:
    earlier = [price for price in prices if price.since < day]
    return earlier[-1] if earlier else None


def flat(price: Price) -> dict[str, int]:
    """Give every figure of a price by its name: rates in nano-dollars per million tokens, a discount in the same scale."""
    found = dict(_figures(price, ""))
    for service in price.services:
        found |= dict(_figures(service, f"{service.name} "))
    if price.discount_bp:
        found["discount"] = price.discount_bp * 10_000_000  # percent, as dollars are written
    return found


def _figures(held: Price | ServiceTier, prefix: str) -> Iterator[tuple[str, int]]:
    yield from _rates(held.rates, prefix)
    for tier in held.tiers:
        yield from _rates(tier.rates, f"{prefix}above {tier.above_input_tokens} ")
    for name in ("image_input", "image_output"):
        rate: int | None = getattr(held, name)
        if rate is not None:
            yield f"{prefix}{name}", rate


def _rates(rates: Rates, prefix: str) -> Iterator[tuple[str, int]]:
    for name in Rates.__struct_fields__:
        rate: int | None = getattr(rates, name)
        if rate is not None:
            yield f"{prefix}{name}", rate


def _dollars(nano: int | None) -> str | None:
    return None if nano is None else usd(nano)


def percent(before: int | None, after: int | None) -> str | None:
    """Write a change in percent, rounded half up to two decimals: `-20.00`; None where there is nothing to compare."""
    if before is None or after is None or not before:
        return None
    change = (abs(after - before) * 20_000 + before) // (2 * before)
    sign = "-" if after < before else "+"
    return f"{sign}{change // 100}.{change % 100:02d}"


# -- rows that record it --


def rows(current: Catalog, proposed: Catalog, today: str, since: str | None = None) -> str:
    """Write the updates that make the current catalogue say what the proposed one does; the empty text if it does.

    Prices that hold already are left as they are; with `since` their new figures hold from that day on.
    """
    known = {entry.id: entry for entry in current.entries}
    return "".join(_row(known.get(entry.id), entry, today, since) for entry in proposed.entries)


def _row(old: Entry | None, new: Entry, today: str, since: str | None) -> str:
    facts = _differing(Entry(new.id, new.vendor, (), type(new.profile)()) if old is None else old, new)
    prices = _to_add(() if old is None else old.prices, new.prices, today, since)
    if old is not None and not facts and not prices:
        return ""
    lines = ["[[updates]]", _line("id", new.id)]
    if old is None:
        lines += [_line("vendor", new.vendor), _line("family", new.profile.family)]
    lines += [_line(key, after) for key, (_, after) in facts.items()]
    lines += [_line("source", new.profile.source), _line("as_of", new.profile.as_of)]
    if prices:
        lines += ["prices = [", *(f"  {_table(price)}," for price in prices), "]"]
    return "\n".join(lines) + "\n\n"


def _to_add(old: tuple[Price, ...], new: tuple[Price, ...], today: str, since: str | None) -> list[Price]:
    """Give the prices that are not there yet; what says otherwise for a day that has begun is put off to `since`."""
    found = []
    for price in new:
        same = next((one for one in old if one.since == price.since), None)
        if same is not None and flat(same) == flat(price):
            continue
        if same is None or price.since > today:
            found.append(price)
        elif since is not None and since > same.since and price_on(old, since) is same:
            found.append(replace(price, since=since))
    return found


def _line(key: str, value: object) -> str:
    return f"{key} = {_value(key, value)}"


def _value(key: str, value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_value("", one) for one in value) + "]"
    if isinstance(value, int) or key in _DATES:
        return str(value)
    escaped = (f"\\U{ord(one):08x}" if one in '"\\' or not one.isprintable() else one for one in str(value))
    return '"' + "".join(escaped) + '"'


def _table(price: Price) -> str:
    parts = [f"since = {price.since}", *_held(price)]
    parts += [f"{service.name} = {{ {', '.join(_held(service))} }}" for service in price.services]
    if price.discount_bp:
        parts.append(f"discount = {usd(price.discount_bp * 10_000_000)}")
    parts.append(_line("source", price.source))
    return "{ " + ", ".join(parts) + " }"


def _held(held: Price | ServiceTier) -> list[str]:
    parts = [f"{name} = {usd(rate)}" for name, rate in _figures(held, "") if not name.startswith("above ")]
    if held.tiers:
        tiers = [
            ", ".join([f"above = {tier.above_input_tokens}", *(f"{n} = {usd(r)}" for n, r in _rates(tier.rates, ""))])
            for tier in held.tiers
        ]
        parts.append("tiers = [" + ", ".join(f"{{ {tier} }}" for tier in tiers) + "]")
    return parts

"""The receipts of a span, one after the other, however many there are, and the tries in them that used something.

Reads the store in pieces, so that a month of receipts is never in memory at once. Decides nothing.
"""

from collections.abc import Iterator

from penstock.ledger.estimates import Used
from penstock.ledger.periods import NS_PER_S, from_ns, zone_of
from penstock.ledger.store import Filter, Span, Store
from penstock.receipt import Attempt, Receipt

PIECE = 5000
"""Receipts that are read at once."""

LONGEST_NS = 86_400 * NS_PER_S
"""The longest that a call may take, as its configuration bounds it: so long after its call a try may begin."""

_US = 1000


def receipts(store: Store, which: Filter, piece: int = PIECE) -> Iterator[Receipt]:
    """Give every receipt of a span, later halves of it first. `piece` bounds how many are in memory."""
    todo = [which.span]
    while todo:
        span = todo.pop()
        length = span.until_ns - span.since_ns
        found = store.calls(_within(which, span), piece + 1)
        if len(found) > piece and length > 1:
            middle = span.since_ns + length // 2
            todo += [Span(span.since_ns, middle), Span(middle, span.until_ns)]
        elif len(found) > piece:  # more in one nanosecond: they come together
            yield from store.calls(_within(which, span), 1 << 62)
        else:
            yield from found


def _within(which: Filter, span: Span) -> Filter:
    values = {name: getattr(which, name) for name in Filter.__struct_fields__}
    return Filter(**{**values, "span": span})


def tries(store: Store, which: Filter) -> Iterator[tuple[str, Attempt]]:
    """Give the tries of a span that may have been billed, each with the day (UTC) on which it began."""
    utc = zone_of("UTC")
    for receipt in receipts(store, which):
        for attempt in receipt.tries:
            if attempt.usage is not None or attempt.cost_nano_usd != 0:
                began_ns = receipt.started_ns + attempt.started_us * _US
                yield from_ns(began_ns, utc).date().isoformat(), attempt


def used(store: Store, which: Filter) -> Iterator[Used]:
    """Give what the tries of a span used, under the day of their call: that is whose price holds."""
    utc = zone_of("UTC")
    for receipt in receipts(store, which):
        day = from_ns(receipt.started_ns, utc).date().isoformat()
        for attempt in receipt.tries:
            if attempt.usage is not None:
                yield Used(day, attempt.usage, attempt.cost_nano_usd, attempt.service_tier)

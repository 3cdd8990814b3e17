"""How a call that is over is written down: its row at once, its receipt when somebody asks for it.

Nearly every call has one try, which answered: of that one the row of the ledger is made here without a detour. Of any other
call it is made of the receipt, by `ledger/rows.py`. Both ways give the same row.

Place in the line: `accounting.py` books what comes of it. It reads no clock, and asks nobody but the one who estimates.
"""

from typing import Any

from penstock.inflight import NOT_STARTED, Estimate, InFlight, LiveTry
from penstock.ledger.rows import COLUMNS, MAX_BITS, Row, has_more, receipt_of
from penstock.receipt import Settled, Usage
from penstock.target import cost

TEAM, MODEL, TARGET = map(COLUMNS.index, ("team", "model", "target"))
INTO, OUT, COST = map(COLUMNS.index, ("input_tokens", "output_tokens", "cost_nano_usd"))
TTFT, TOTAL = map(COLUMNS.index, ("ttft_us", "total_us"))
"""Where in a row stands what others want to know of a call."""

_ANSWERED = 200


def settle(flight: InFlight[Any], now: float, day: str, estimate: Estimate, config_hash: str) -> Row | None:
    """Close a call, which has its `settled` then, and give its row; None where the row has to be made of the receipt.

    `now` is the loop's seconds, `day` the ISO day (UTC) of its start.
    """
    tries = flight.tries
    if len(tries) == 1 and flight.is_ordinary:
        live = tries[0]
        live.end("ok", now, None)
        usage = live.meter.usage
        row = _row(flight, live, usage, now, day, config_hash) if usage is not None and _is_usual(live, usage) else None
        if row is not None:
            flight.settled = Settled(flight.id, "ok", None, row[COST], row[INTO] + row[OUT], receipt_of, row)
            return row
    receipt = flight.close(now, day, estimate, config_hash)
    usage = receipt.usage
    tokens, cost_nano_usd = usage.input_tokens + usage.output_tokens, receipt.cost_nano_usd
    flight.settled = Settled(
        receipt.id, receipt.status, receipt.error, cost_nano_usd, tokens, receipt_of, None, receipt
    )
    return None


def _is_usual(live: LiveTry, usage: Usage) -> bool:
    """Tell whether all that a try says has a place in the row."""
    exchange, meter = live.exchange, live.meter
    if exchange is None or exchange.status != _ANSWERED or exchange.dropped or live.status != "ok":
        return False
    start = meter.start
    if meter.tier == "" or (start is not None and (start.fingerprint == "" or start.service_tier == "")):
        return False
    return not has_more(usage)


def _row(flight: InFlight[Any], live: LiveTry, usage: Usage, now: float, day: str, config_hash: str) -> Row | None:
    """Give the row of a call whose only try answered, in the order of `rows.COLUMNS`; None where a figure is too large."""
    meter, exchange, target, first_at = live.meter, live.exchange, live.target, live.first_at
    start, who, call = meter.start or NOT_STARTED, flight.who, flight.call
    tier = meter.tier or start.service_tier
    into, out, cached = usage.input_tokens, usage.output_tokens, usage.cached_input_tokens
    reasoning = usage.reasoning_tokens
    price = cost(usage, target, day, tier)
    nano, began, tried, ended = price.nano_usd, flight.began, live.began, live.ended or live.began
    total, started, took = int((now - began) * 1e6), int((tried - began) * 1e6), int((ended - tried) * 1e6)
    ttft = try_ttft = None
    bits = into | out | cached | reasoning | total | started | took | (nano or 0)
    if first_at is not None:
        ttft, try_ttft = int((first_at - began) * 1e6), int((first_at - tried) * 1e6)
        bits |= ttft | try_ttft
    if bits >> MAX_BITS:
        return None
    return (
        bytearray.fromhex(flight.id.replace("-", "")),
        flight.started_ns,
        who.key_id or "",
        who.team or "",
        who.feature or "",
        "",  # prompt
        call.dialect,
        call.model,
        target.id,
        "ok",
        _ANSWERED,
        1 if call.stream else 0,
        "",  # error
        "",  # error_origin
        meter.finish or "",
        usage.source,
        price.status,
        "" if exchange is None else exchange.lane,
        flight.cache,
        config_hash,
        price.price_version,
        start.model,
        start.fingerprint or "",
        tier or "",
        who.user or "",
        who.session or "",
        into,
        cached,
        out,
        reasoning,
        nano,
        ttft,
        total,
        0,  # cache_saved_nano_usd
        0,  # routing_saved_nano_usd
        started,
        try_ttft,
        took,
        start.id,
        "",  # tries
        "",  # more
    )

"""How a call that is over is written down: its row at once, its receipt when somebody asks for it.

Nearly every call has one try, which answered: of that one the row of the ledger is made here without a detour, and what
it has in common with others is remembered (`Alike`). Of any other call it is made of the receipt, by `ledger/rows.py`.
Both ways give the same row.

Place in the line: `accounting.py` books what comes of it. It reads no clock, and asks nobody but the one who estimates.
"""

from typing import Any

from penstock.inflight import NOT_STARTED, Estimate, InFlight, LiveTry
from penstock.ledger.rows import CALLER, COLUMNS, COMMON, KIND, MAX_BITS, Row, has_more, receipt_of
from penstock.receipt import Settled, Usage
from penstock.target import Plain, Target, cost, plain

assert COLUMNS[COMMON.start : COMMON.stop] == (*CALLER, *KIND), "what rows have in common stands together"

_ANSWERED = 200

KINDS = 512
"""Kinds of calls that are remembered; then remembering begins anew."""
LONG = 1024
"""Characters: what has more in all is not remembered, since callers and providers choose some of it."""

Labels = tuple[str, str, str, str]
Counted = tuple[Labels, int, int, int | None, int, int | None]
"""What is counted of a call; see `Metrics.count`."""


class Alike:
    """What the ordinary calls of one configuration have in common: a part of their rows, their labels and their rates."""

    __slots__ = ("config_hash", "known")

    def __init__(self, config_hash: str) -> None:
        self.config_hash = config_hash
        self.known: dict[tuple[Any, ...], tuple[Row, Labels, Plain | None]] = {}

    def learn(self, of: tuple[Any, ...], target: Target) -> tuple[Row, Labels, Plain | None] | None:
        """Work it out for calls of which all of this is the same (see `_ordinary`), and remember it.

        None where a text is empty that might not be there at all: in a row it would be read as that.
        """
        _, key, team, feature, dialect, model, stream, day, lane, cache, finish, source, tier, named, *rest = of
        fingerprint, first_tier = rest
        if "" in {fingerprint, first_tier, tier}:
            return None
        tier = tier or first_tier
        price = cost(Usage(source=source), target, day, tier)
        common = (
            *(key or "", team or "", feature or "", ""),
            *(dialect, model, target.id, "ok", _ANSWERED, 1 if stream else 0, "", "", finish or "", source),
            *(price.status, lane, cache, self.config_hash, price.price_version, named, fingerprint or "", tier or ""),
        )
        found = common, (team or "", model, target.id, "ok"), plain(target, day, tier)
        if sum([len(text) for text in common if isinstance(text, str)]) <= LONG:
            if len(self.known) >= KINDS:
                self.known.clear()
            self.known[of] = found
        return found


def settle(flight: InFlight[Any], now: float, day: str, estimate: Estimate, alike: Alike) -> tuple[Row, Counted] | None:
    """Close a call, which has its `settled` then; give its row and what is counted of it, or None: both need its receipt.

    `now` is the loop's seconds, `day` the ISO day (UTC) of its start.
    """
    tries = flight.tries
    if len(tries) == 1 and flight.is_ordinary:
        live = tries[0]
        live.end("ok", now, None)
        written = _ordinary(flight, live, now, day, alike)
        if written is not None:
            return written
    receipt = flight.close(now, day, estimate, alike.config_hash)
    usage = receipt.usage
    tokens, cost_nano_usd = usage.input_tokens + usage.output_tokens, receipt.cost_nano_usd
    flight.settled = Settled(
        receipt.id, receipt.status, receipt.error, cost_nano_usd, tokens, receipt_of, None, receipt
    )
    return None


def _ordinary(flight: InFlight[Any], live: LiveTry, now: float, day: str, alike: Alike) -> tuple[Row, Counted] | None:
    """Do as `settle` for a call whose only try answered; None where its row cannot say all, or a figure is too large."""
    meter, exchange, target = live.meter, live.exchange, live.target
    start, who, call, usage = meter.start or NOT_STARTED, flight.who, flight.call, meter.usage
    if usage is None or exchange is None or exchange.status != _ANSWERED or exchange.dropped or live.status != "ok":
        return None
    of = (
        target.id, who.key_id, who.team, who.feature, call.dialect, call.model, call.stream, day, exchange.lane,
        flight.cache, meter.finish, usage.source, meter.tier, start.model, start.fingerprint, start.service_tier,
    )  # fmt: skip
    known = alike.known.get(of) or alike.learn(of, target)
    into, out, cached = usage.input_tokens, usage.output_tokens, usage.cached_input_tokens
    reasoning, nano = usage.reasoning_tokens, None
    if known is None or has_more(usage):
        return None
    common, labels, rates = known
    if rates is not None:
        of_input, of_output, of_cached, of_reasoning, most, half, whole = rates
        total = into * of_input + out * of_output + cached * of_cached + reasoning * of_reasoning
        if total < 0 or into > most:
            return None
        nano = (total + half) // whole
    began, tried, first_at, ttft, try_ttft = flight.began, live.began, live.first_at, None, None
    took, started = int(((live.ended or tried) - tried) * 1e6), int((tried - began) * 1e6)
    all_us = int((now - began) * 1e6)
    bits = into | out | cached | reasoning | all_us | started | took | (nano or 0)
    if first_at is not None:
        ttft, try_ttft = int((first_at - began) * 1e6), int((first_at - tried) * 1e6)
        bits |= ttft | try_ttft
    if bits >> MAX_BITS:
        return None
    first = (bytearray.fromhex(flight.id.replace("-", "")), flight.started_ns)
    own = (
        who.user or "", who.session or "", into, cached, out, reasoning, nano, ttft, all_us, 0, 0, started, try_ttft,
        took, start.id, "", "",
    )  # fmt: skip
    row = first + common + own
    flight.settled = Settled(flight.id, "ok", None, nano, into + out, receipt_of, row)
    return row, (labels, into, out, nano, all_us, ttft)

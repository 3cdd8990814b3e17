"""How a call that is over is written down: its row at once, its receipt when somebody asks for it.

Nearly every call has one try, which answered: of that one the row of the ledger is made here without a detour, and what
it has in common with others is remembered (`Alike`). Of any other call it is made of the receipt, by `ledger/rows.py`.
Both ways give the same row.

Place in the line: `accounting.py` books what comes of it. It reads no clock, and asks nobody but the one who estimates.
"""

from binascii import a2b_hex
from typing import Any, Final

from penstock.inflight import NOT_STARTED, Estimate, InFlight, LiveTry
from penstock.ledger import brief
from penstock.ledger.brief import Common, common_of
from penstock.ledger.rows import CALLER, COLUMNS, COMMON, KIND, MAX_BITS, Row, has_more, receipt_of
from penstock.receipt import Lane, Settled, Usage, UsageSource
from penstock.reply import Told
from penstock.target import Plain, Target, cost, plain

assert COLUMNS[COMMON.start : COMMON.stop] == (*CALLER, *KIND), "what rows have in common stands together"

_ANSWERED = 200

KINDS = 512
"""Kinds of calls that are remembered; then remembering begins anew."""
LONG = 1024
"""Characters: what has more in all is not remembered, since callers and providers choose some of it."""

Way = tuple[bool, Lane, UsageSource]
"""How an answer came: whether as a stream, in which lane, and who counted its tokens."""
WHOLE: Final[Way] = (False, "verbatim", "provider")
"""How one came that `told` all of itself."""
Labels = tuple[str, str, str, str]
Counted = tuple[Labels, int, int, int | None, int, int | None]
"""What is counted of a call; see `Metrics.count`."""


Found = tuple[Common, Labels, Plain | None]


class Alike:
    """What the ordinary calls of one configuration have in common: a part of their rows, their labels and their rates.

    It is `known` by all that it depends on. Calls without a task have their `kin`, a value that is the same for those of one
    caller and dialect to one model and target: by that, the day and what the answer says it is `nearer`.
    """

    __slots__ = ("config_hash", "known", "nearer")

    def __init__(self, config_hash: str) -> None:
        self.config_hash = config_hash
        self.known: dict[tuple[Any, ...], Found] = {}
        self.nearer: dict[tuple[object, str, str, str | None, str | None, str | None], Found] = {}

    def find(self, flight: InFlight[Any], told: Told, way: Way, day: str, kin: object) -> Found | None:
        """Find it for a call, whose `kin` is None where it has none."""
        who, call, target = flight.who, flight.call, flight.tries[0].target
        model, finish, fingerprint, tier = told.model, told.finish, told.fingerprint, told.service_tier
        of = (
            way, model, finish, fingerprint, tier, target.id, who.key_id, who.team, who.feature,
            call.dialect, call.model, day, flight.cache,
        )  # fmt: skip
        found = self.known.get(of) or self._learn(of, target)
        if found is not None and kin is not None and of in self.known:
            if len(self.nearer) >= KINDS:
                self.nearer.clear()
            self.nearer[kin, day, model, finish, fingerprint, tier] = found
        return found

    def _learn(self, of: tuple[Any, ...], target: Target) -> Found | None:
        """Work it out for calls of which all of this is the same, and remember it.

        None where a text is empty that might not be there at all: in a row it would be read as that.
        """
        way, named, finish, fingerprint, tier, _, key, team, feature, dialect, model, day, cache = of
        stream, lane, source = way
        if "" in {fingerprint, tier}:
            return None
        price = cost(Usage(source=source), target, day, tier)
        values = (
            *(key or "", team or "", feature or "", ""),
            *(dialect, model, target.id, "ok", _ANSWERED, 1 if stream else 0, "", "", finish or "", source),
            *(price.status, lane, cache, self.config_hash, price.price_version, named, fingerprint or "", tier or ""),
        )
        common = common_of(values)
        if common is None:
            return None
        found = common, (team or "", model, target.id, "ok"), plain(target, day, tier)
        if sum([len(text) for text in values if isinstance(text, str)]) <= LONG:
            if len(self.known) >= KINDS:
                self.known.clear()
                self.nearer.clear()
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
        seen = _seen(flight, live) if live.told is None else (live.told, WHOLE)
        found = None if seen is None or live.status != "ok" else alike.find(flight, *seen, day, None)
        written = None if seen is None or found is None else ordinary(flight, seen[0], found, now)
        if written is not None:
            return written
    receipt = flight.close(now, day, estimate, alike.config_hash)
    usage = receipt.usage
    tokens, cost_nano_usd = usage.input_tokens + usage.output_tokens, receipt.cost_nano_usd
    flight.settled = Settled(
        receipt.id, receipt.status, receipt.error, cost_nano_usd, tokens, receipt_of, None, receipt
    )
    return None


def _seen(flight: InFlight[Any], live: LiveTry) -> tuple[Told, Way] | None:
    """Say what was seen of an answer as one that came whole says it, and the way it came; None where that is not all."""
    meter, exchange, usage = live.meter, live.exchange, live.meter.usage
    if usage is None or exchange is None or exchange.status != _ANSWERED or exchange.dropped:
        return None
    start = meter.start or NOT_STARTED
    into, out, tier = usage.input_tokens, usage.output_tokens, meter.tier or start.service_tier
    told = Told(b"", start.id, start.model, meter.finish, into, out, start.fingerprint, tier, None, usage)
    return told, (flight.call.stream, exchange.lane, usage.source)


def ordinary(flight: InFlight[Any], told: Told, found: Found, now: float) -> tuple[Row, Counted] | None:
    """Do as `settle` for a call whose only try answered, and has ended; None where its row cannot say all of it.

    `found` is what it has in common with others.
    """
    live, who, usage, began = flight.tries[0], flight.who, told.detailed, flight.began
    ttft: int | None
    try_ttft: int | None
    common, labels, rates = found
    into, out, nano = told.input_tokens, told.output_tokens, None
    cached = reasoning = started = 0
    all_us = ttft = try_ttft = took = int((now - began) * 1e6)
    bits = into | out | all_us
    if usage is not None:
        if has_more(usage):
            return None
        cached, reasoning = usage.cached_input_tokens, usage.reasoning_tokens
        bits |= cached | reasoning
    if rates is not None:
        of_input, of_output, of_cached, of_reasoning, most, half, whole = rates
        total = into * of_input + out * of_output
        if cached or reasoning:
            total += cached * of_cached + reasoning * of_reasoning
        if total < 0 or into > most:
            return None
        nano = (total + half) // whole
        bits |= nano
    if live.began is not began or live.first_at is not now or live.ended is not now:  # else no task was needed
        started, ttft, try_ttft, took, more = _times(began, live)
        bits |= more
    if bits >> MAX_BITS:
        return None
    row = (
        bytearray(a2b_hex(flight.id.replace("-", ""))), flight.started_ns, common,
        who.user or "", who.session or "", into, cached, out, reasoning, nano, ttft, all_us, 0, 0, started, try_ttft,
        took, told.id, "", "",
    )  # fmt: skip
    flight.settled = Settled(flight.id, "ok", None, nano, into + out, brief.receipt, row)
    return row, (labels, into, out, nano, all_us, ttft)


def _times(began: float, live: LiveTry) -> tuple[int, int | None, int | None, int, int]:
    """Say when a try began, when its answer did (since the call and since the try), what it took, and the bits of all these."""
    tried, first_at = live.began, live.first_at
    started, took = int((tried - began) * 1e6), int(((live.ended or tried) - tried) * 1e6)
    if first_at is None:
        return started, None, None, took, started | took
    ttft, try_ttft = int((first_at - began) * 1e6), int((first_at - tried) * 1e6)
    return started, ttft, try_ttft, took, started | took | ttft | try_ttft

"""The line, with a real ledger and a real configuration: however a call ends, it leaves one receipt and holds nothing."""

import asyncio
import base64
import errno
import os
import tempfile
import time
from contextlib import aclosing, asynccontextmanager, suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.providers.upstream import upstream, whole

from jumping import jumping
from penstock.call import Call, Caller, Content, Message, Sampling, Text, Who
from penstock.config import catalog_text, load
from penstock.errors import (
    BudgetExhausted,
    ContextOverflow,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    Overloaded,
    PenstockError,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
    UnknownModel,
    Unsupported,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from penstock.gateway import Gateway, process
from penstock.identity import OPEN_DOOR
from penstock.ledger.journal import Disk
from penstock.ledger.keys import Grant, Keyring, read_pepper
from penstock.ledger.ledger import Ledger, LedgerSettings
from penstock.ledger.reading import read_all
from penstock.ledger.records import Intent
from penstock.ledger.rows import receipt_of
from penstock.ledger.store import FILE, Filter, Span, Store
from penstock.plugins import PROVIDERS, find
from penstock.providers.http import HttpProvider
from penstock.receipt import Usage
from penstock.reply import (
    Chunk,
    Ended,
    Failed,
    Finished,
    Opening,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
    fold,
)
from penstock.routing.catalog import read_catalog
from penstock.target import Profile
from penstock.tokens.count import count_text
from penstock.tokens.vocabularies import vocabulary
from penstock.wire.registry import dialect

NOW_NS = 1_763_754_000_000_000_000  # 2025-11-21T19:40:00Z
EVER = Filter(Span(0, 2**62))
CHAT = dialect("chat")
WEB = Who(key_id="key_1", team="web")

CONFIG = """
[providers.a]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
retries = 0
[providers.b]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
retries = 0
[providers.gratis]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
free = true
[models.fast]
targets = ["a/one", "b/two"]
[models.solo]
targets = ["a/one"]
[models.safe]
targets = ["a/one", "b/two"]
static = "We are busy."
[models.small]
targets = ["a/gpt-4"]
[models.sure]
targets = ["a/gpt-4o"]
[models.unpriced]
targets = ["a/nameless"]
[models.free]
targets = ["gratis/any"]
[prices."a/one"]
input = 1
output = 2
[prices."b/two"]
input = 10
output = 20
[prices."a/gpt-4"]
input = 1
output = 2
[prices."a/gpt-4o"]
input = 1
output = 2
[teams.web]
budget_usd = { day = 100, month = 1000 }
concurrency = 3
tpm = 100_000_000
[teams.narrow]
models = ["solo"]
[teams.slow]
rpm = 1
[teams.terse]
tpm = 600
[teams.single]
concurrency = 1
[features.dear]
budget_usd = { day = 0.0003 }
[features.pinned]
model = "fast"
temperature = 0
seed = 7
max_tokens = 500
"""
IN_A, OUT_A, IN_B, OUT_B = 1000, 2000, 10_000, 20_000  # nano-dollars per token


HANG = "hang"


class Played:
    """A provider that plays a list of replies: an error to raise, `HANG`, or the pieces of an exchange.

    A piece is a chunk, an error to raise, seconds to wait, or `HANG`.
    """

    def __init__(self, *replies, dialect="chat"):
        self.dialect = dialect
        self.replies = list(replies)
        self.calls = []
        self.exchanges = []
        self.before = lambda: None

    async def send(self, call, target, deadline):
        self.calls.append((call, target, deadline))
        self.before()
        reply = self.replies.pop(0)
        if reply == HANG:
            await asyncio.Event().wait()
        if isinstance(reply, BaseException):
            raise reply
        self.exchanges.append(PlayedExchange(reply, self.dialect))
        return self.exchanges[-1]

    async def close(self):
        pass


class PlayedExchange:
    status, headers = 200, ((b"x-request-id", b"r1"),)

    def __init__(self, pieces, spoken):
        self.lane = "verbatim" if spoken else "translated"
        self.dropped = () if spoken else ("logit_bias",)
        self.pieces = list(pieces)
        self.closed = 0

    async def read(self):
        assert not self.closed, "read after it was closed"
        piece = self.pieces.pop(0) if self.pieces else None
        while isinstance(piece, float):
            await asyncio.sleep(piece)
            piece = self.pieces.pop(0) if self.pieces else None
        if piece == HANG:
            await asyncio.Event().wait()
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self):
        self.closed += 1


STARTED = Chunk((Started("id-1", "one-2025", fingerprint="fp"),), b"started ")
HELLO = Chunk((TextDelta("Hello"),), b"hello ")
WORLD = Chunk((TextDelta(" world"),), b"world ")
END = Chunk((Finished("stop", "stop"), UsageReported(Usage(9, 2)), Ended()), b"end")
BARE_END = Chunk((Finished("stop", "stop"), Ended()), b"end")
ANSWER = (STARTED, HELLO, WORLD, END)
WHOLE = (Chunk((*STARTED.events, *HELLO.events, *END.events), b"whole"),)
COST_A, COST_B = 9 * IN_A + 2 * OUT_A, 9 * IN_B + 2 * OUT_B


def cut(error):
    """A chunk that says that the stream failed."""
    return Chunk((Failed(error),), b"")


@cache
def catalog():
    return read_catalog(catalog_text())


class Still(Random):
    """Chance that never makes anybody wait."""

    def uniform(self, *_):
        return 0.0


class World:
    """One gateway over a folder, with played providers in place of those that it would call."""

    def __init__(self, folder, config, disk, played):
        (folder / "penstock.toml").write_text(config)
        self.home = folder / "home"
        self.config = load(str(folder / "penstock.toml"), {"PENSTOCK_HOME": str(self.home)})
        self.played = played
        self.later_ns = 0
        ledger = Ledger.open(self.home, now_ns=self.wall_ns(), settings=LedgerSettings(disk=disk))
        loop = asyncio.get_running_loop()
        with patch("penstock.gateway.find", self.find):
            lasting = process(self.config, ledger, catalog(), clock=loop.time, wall_ns=self.wall_ns, rng=Still(1))
            self.gateway = Gateway(self.config, lasting)
        self.taken = []

    def find(self, group, kind):
        def make(settings):
            return self.played.get(settings.name) or find(group, kind)(settings)

        return make

    def wall_ns(self):
        return NOW_NS + self.later_ns

    # -- calling --

    async def items(self, call, who=WEB, caller=Caller()):  # noqa: B008 - frozen
        """What the gateway gives out; the last chunk is not seen before its receipt is in the journal."""
        self.taken.append(None)
        place = len(self.taken) - 1
        async with aclosing(self.gateway.open(call, who, caller)) as items:
            async for item in items:
                if isinstance(item, Opening):
                    self.taken[place] = item.call_id
                elif item.receipt is not None:
                    assert item.receipt in self.journalled(), "the last chunk was given out before its receipt was kept"
                    assert self.gateway.ledger.open_intents == len(self.open_intents()), "it counts as open"
                    failed = [event for event in item.events if isinstance(event, Failed)]
                    assert bool(failed) == (item.receipt.status == "error"), "the client and the receipt disagree"
                yield item

    async def take(self, call, who=WEB, caller=Caller()):  # noqa: B008 - frozen
        """Read a call to its end: its opening and chunks, and the error if it raised one."""
        opening, chunks, error = None, [], None
        try:
            async for item in self.items(call, who, caller):
                if isinstance(item, Opening):
                    opening = item
                else:
                    chunks.append(item)
        except PenstockError as raised:
            error = raised
        if error is None:
            assert [chunk.receipt is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        return opening, chunks, error

    # -- looking --

    def read_journal(self):
        files = sorted((self.home / "journal").glob("*.log"))
        return [value for file in files for reading in read_all(file) for value in reading.values]

    def journalled(self):
        return [receipt_of(value) for value in self.read_journal() if not isinstance(value, Intent)]

    def intents(self):
        return [value for value in self.read_journal() if isinstance(value, Intent)]

    def open_intents(self):
        ended = {receipt.id for receipt in self.journalled()}
        return [intent for intent in self.intents() if intent.id not in ended]

    def receipts(self):
        """Every receipt, oldest first."""
        while self.gateway.ledger.flush(10_000):
            pass
        return self.gateway.ledger.store.calls(EVER, 10_000)[::-1]

    @property
    def receipt(self):
        (receipt,) = self.receipts()
        return receipt

    @property
    def exchanges(self):
        return [exchange for provider in self.played.values() for exchange in provider.exchanges]

    def held(self):
        return [state.held_nano_usd for state in self.gateway.reservations.budgets.states(self.wall_ns())]

    def inside(self):
        admission = self.gateway.admission
        kinds = (admission.teams, admission.features, admission.models, admission.keys)
        return {name: room.inside for rooms in kinds for name, room in rooms.items()}

    def check(self):
        """Nothing is left of any call but its receipt."""
        receipts = self.receipts()
        ids = [receipt.id for receipt in receipts]
        assert len(set(ids)) == len(ids) == len(self.taken), "not one receipt per call"
        assert {one for one in self.taken if one} <= set(ids), "a call that was opened has no receipt"
        assert self.gateway.in_flight == 0
        assert self.gateway.ledger.open_intents == 0
        assert not any(self.held()), "money is held that nobody can spend any more"
        assert not any(self.inside().values()), "room is taken by nobody"
        assert all(exchange.closed for exchange in self.exchanges), "an exchange was left open"
        for state in self.gateway.reservations.budgets.states(self.wall_ns()):
            scope = state.limit.scope
            mine = [one for one in receipts if getattr(one, scope.kind) == scope.name]
            assert state.spent_nano_usd == sum(one.cost_nano_usd or 0 for one in mine), "spent is not what was billed"
        for receipt in receipts:
            costs = [one.cost_nano_usd for one in receipt.tries]
            assert receipt.cost_nano_usd == (None if None in costs else sum(costs))
            assert all(one.status in {"ok", "error", "cancelled"} for one in receipt.tries)
            used = [one.usage for one in receipt.tries if one.usage is not None]
            assert receipt.usage.input_tokens == sum(usage.input_tokens for usage in used)
            assert receipt.usage.output_tokens == sum(usage.output_tokens for usage in used)


@asynccontextmanager
async def world(folder, *, config=CONFIG, disk=Disk(), **played):  # noqa: B008 - frozen
    """A gateway for the length of a block; at its end nothing is left of any call but its receipt."""
    vocabulary("o200k")  # whatever loads it later does so in a thread, which knows no clock but the true one
    one = World(folder, config, disk, played)
    try:
        yield one
        one.check()
    finally:
        await one.gateway.close()
    assert not list((one.home / "journal").iterdir()), "the journal was not taken over into the ledger"


def ask(model="fast", content="Hi there", *, stream=True, **members):
    body = {"model": model, "messages": [{"role": "user", "content": content}], **members}
    return CHAT.read_request(msgspec.json.encode(body | ({"stream": True} if stream else {})))


# -- answered --


@jumping
async def test_a_streamed_answer_passes_as_it_came_and_is_settled_once(tmp_path):
    async with world(tmp_path, a=Played(ANSWER)) as one:
        opening, chunks, error = await one.take(ask())
        receipt = one.receipt

    assert error is None
    assert b"".join(chunk.raw for chunk in chunks) == b"started hello world end"
    assert chunks[-1].receipt == receipt
    assert (opening.call_id, opening.target, opening.lane, opening.tries) == (receipt.id, "a/one", "verbatim", 1)
    assert opening.headers == ((b"x-request-id", b"r1"),)
    assert (receipt.status, receipt.http_status, receipt.error, receipt.error_origin) == ("ok", 200, None, None)
    assert (receipt.dialect, receipt.model, receipt.target, receipt.streamed) == ("chat", "fast", "a/one", True)
    assert (receipt.team, receipt.key_id, receipt.finish_reason, receipt.lane) == ("web", "key_1", "stop", "verbatim")
    assert receipt.usage == Usage(9, 2)
    assert (receipt.cost_nano_usd, receipt.cost_status) == (COST_A, "exact")
    assert receipt.config_hash == one.config.hash
    (only,) = receipt.tries
    assert (only.target, only.kind, only.status, only.http_status) == ("a/one", "first", "ok", 200)
    assert (only.response_id, only.response_model, only.fingerprint) == ("id-1", "one-2025", "fp")


@jumping
async def test_an_answer_in_one_piece_comes_as_one_chunk(tmp_path):
    async with world(tmp_path, a=Played(WHOLE)) as one:
        _, chunks, _ = await one.take(ask(stream=False))
        receipt = one.receipt

    assert [chunk.raw for chunk in chunks] == [b"whole"]
    assert (receipt.status, receipt.streamed, receipt.cost_nano_usd) == ("ok", False, COST_A)


@jumping
async def test_tool_calls_are_counted_and_named_as_the_reason_of_the_end(tmp_path):
    said = (
        Chunk((ToolUseStarted(0, "c1", "find"), ToolUseDelta(0, '{"q": 1}')), b"tool "),
        Chunk((Finished("tool_calls", "tool_calls"), Ended()), b"end"),
    )
    async with world(tmp_path, a=Played(said)) as one:
        await one.take(ask("sure"))

        assert one.receipt.finish_reason == "tool_calls"
        assert one.receipt.usage.output_tokens > 0


@jumping
async def test_the_intent_is_on_disk_before_the_provider_is_called_and_no_receipt_is(tmp_path):
    provider, seen = Played(ANSWER), []
    async with world(tmp_path, a=provider) as one:
        provider.before = lambda: seen.append((one.intents(), one.journalled()))
        opening, _, _ = await one.take(ask(max_tokens=50))

    (((intent,), receipts),) = seen
    assert receipts == []
    assert (intent.id, intent.target, intent.team, intent.model) == (opening.call_id, "a/one", "web", "fast")
    assert intent.hold_nano_usd >= 50 * OUT_B  # the dearest end of the plan, not of its first target
    assert intent.config_hash == one.config.hash


@jumping
async def test_money_and_room_are_held_while_the_provider_works(tmp_path):
    provider, seen = Played(ANSWER), []
    async with world(tmp_path, a=provider) as one:
        provider.before = lambda: seen.append((one.held(), one.inside()["web"], one.gateway.in_flight))
        await one.take(ask())

    ((held, inside, in_flight),) = seen
    assert all(amount > COST_A for amount in held[:2])
    assert (inside, in_flight) == (1, 1)


# -- refused --

REFUSED = {
    "unknown model": (ask("fsat"), WEB, Caller(), UnknownModel, 404),
    "model of others": (ask("fast"), Who(team="narrow"), Caller(), PermissionDenied, 403),
    "target past the team's models": (ask("a/one"), Who(team="narrow"), Caller(), PermissionDenied, 403),
    "feature of others": (ask(), Who(team="web", feature="mine"), Caller(feature="yours"), PermissionDenied, 403),
    "feature that is no name": (ask(), WEB, Caller(feature="x" * 129), InvalidRequest, 400),
    "session that cannot be printed": (ask(), WEB, Caller(session="a\nb"), InvalidRequest, 400),
    "prompt too long": (ask("small", "word " * 9000), WEB, Caller(), ContextOverflow, 400),
    "answer too long": (ask("small", max_tokens=9000), WEB, Caller(), Unsupported, 400),
    "budget too small": (ask(max_tokens=1000), WEB, Caller(feature="dear"), BudgetExhausted, 402),
    "no price under a budget": (ask("unpriced"), WEB, Caller(), BudgetExhausted, 402),
}


@pytest.mark.parametrize("case", REFUSED)
@jumping
async def test_a_refused_call_leaves_a_receipt_and_reaches_no_provider(tmp_path, case):
    call, who, caller, kind, status = REFUSED[case]
    provider = Played()
    async with world(tmp_path, a=provider, b=provider) as one:
        opening, _, error = await one.take(call, who, caller)
        receipt, intents = one.receipt, one.intents()

    assert opening is None
    assert type(error) is kind
    assert (error.status, error.call_id) == (status, receipt.id)
    assert (receipt.status, receipt.http_status, receipt.error) == ("refused", status, kind.code)
    assert receipt.error_origin == "client"
    assert (receipt.cost_nano_usd, receipt.cost_status, receipt.tries, receipt.target) == (0, "free", (), None)
    assert provider.calls == []
    assert intents == []


@jumping
async def test_requests_beyond_the_rate_are_refused_and_come_again_after_a_minute(tmp_path):
    who = Who(team="slow")
    async with world(tmp_path, a=Played(ANSWER, ANSWER)) as one:
        assert (await one.take(ask(), who))[2] is None
        _, _, error = await one.take(ask(), who)
        await asyncio.sleep(60)
        assert (await one.take(ask(), who))[2] is None

        assert isinstance(error, RateLimited)
        assert 0 < error.retry_after_s <= 60
        assert [receipt.status for receipt in one.receipts()] == ["ok", "refused", "ok"]


@jumping
async def test_tokens_beyond_the_rate_are_refused_by_what_calls_really_used(tmp_path):
    who = Who(team="terse")
    async with world(tmp_path, a=Played(ANSWER, ANSWER)) as one:
        assert (await one.take(ask(max_tokens=400), who))[2] is None
        assert (await one.take(ask(max_tokens=400), who))[2] is None  # 11 tokens were used: there is room again
        _, _, error = await one.take(ask(max_tokens=600), who)

        assert isinstance(error, RateLimited)
        assert "tokens" in error.message


@jumping
async def test_a_call_that_asks_for_a_million_tokens_does_not_shut_its_team_out_for_long(tmp_path):
    who = Who(team="terse")
    async with world(tmp_path, a=Played((HELLO, HANG), ANSWER)) as one:
        first = one.items(ask(max_tokens=10**9), who)
        await anext(first)
        await asyncio.sleep(120)  # a bucket that empties is full again after a minute
        _, _, error = await one.take(ask(max_tokens=10), who)
        await first.aclose()

        assert error is None


@jumping
async def test_calls_beyond_the_room_of_a_team_are_refused_until_one_ends(tmp_path):
    who = Who(team="single")
    async with world(tmp_path, a=Played((HELLO, HANG), ANSWER)) as one:
        first = one.items(ask(), who)
        await anext(first)
        _, _, error = await one.take(ask(), who)
        await first.aclose()
        assert (await one.take(ask(), who))[2] is None

        assert isinstance(error, RateLimited)
        assert [receipt.status for receipt in one.receipts()] == ["cancelled", "refused", "ok"]


@jumping
async def test_calls_at_once_cannot_overspend_a_budget(tmp_path):
    asked = ask("b/two", content="x", max_tokens=1)
    config = CONFIG.replace("day = 0.0003", "day = 0.009")
    async with world(tmp_path, config=config, b=Played(*[(HELLO, 1.0, BARE_END)] * 5)) as one:
        results = await asyncio.gather(*(one.take(asked, Who(), Caller(feature="dear")) for _ in range(5)))
        admitted = [error is None for _, _, error in results]

        assert 0 < sum(admitted) < 5
        spent = sum(receipt.cost_nano_usd for receipt in one.receipts())
        assert spent <= 9_000_000


# -- failed --


@jumping
async def test_when_every_try_fails_the_error_tells_of_all_and_nothing_is_billed(tmp_path):
    a, b = Played(UpstreamOverloaded("full", retry_after_s=7.0)), Played(UpstreamFailed("refused"))
    async with world(tmp_path, a=a, b=b) as one:
        opening, _, error = await one.take(ask())
        receipt = one.receipt

    assert opening is None
    assert type(error) is UpstreamFailed
    assert "a/one: full" in error.message
    assert "b/two: refused" in error.message
    assert (receipt.status, receipt.http_status, receipt.error) == ("error", 502, "upstream_failed")
    assert receipt.error_origin == "provider"
    assert [(one.target, one.kind, one.status, one.error) for one in receipt.tries] == [
        ("a/one", "first", "error", "upstream_overloaded"),
        ("b/two", "fallback", "error", "upstream_failed"),
    ]
    assert receipt.tries[0].retry_after_ms == 7000
    assert receipt.cost_nano_usd == 0


@jumping
async def test_a_mistake_of_the_caller_is_not_tried_elsewhere(tmp_path):
    b = Played()
    async with world(tmp_path, a=Played(UpstreamRejected("bad schema")), b=b) as one:
        _, _, error = await one.take(ask())

        assert type(error) is UpstreamRejected
        assert (one.receipt.error, one.receipt.error_origin) == ("upstream_rejected", "client")
        assert b.calls == []


@jumping
async def test_a_fallback_answers_and_the_receipt_adds_up_both_tries(tmp_path):
    broken = (STARTED, Chunk((UsageReported(Usage(5, 0)), Failed(UpstreamFailed("in band"))), b"x"))
    async with world(tmp_path, a=Played(broken), b=Played(ANSWER)) as one:
        opening, chunks, _ = await one.take(ask())
        receipt = one.receipt

    assert (opening.target, opening.tries) == ("b/two", 2)
    assert b"".join(chunk.raw for chunk in chunks) == b"started hello world end"  # nothing of the first try
    assert (receipt.status, receipt.target) == ("ok", "b/two")
    assert receipt.usage == Usage(14, 2)
    assert [one.cost_nano_usd for one in receipt.tries] == [5 * IN_A, COST_B]
    assert receipt.cost_nano_usd == 5 * IN_A + COST_B
    assert [(one.kind, one.status) for one in receipt.tries] == [("first", "error"), ("fallback", "ok")]


@jumping
async def test_a_try_that_may_have_been_worked_on_is_billed_by_an_estimate(tmp_path):
    lost = UpstreamTimeout("silent")
    lost.worked = True
    async with world(tmp_path, a=Played(lost), b=Played(ANSWER)) as one:
        await one.take(ask())
        first, second = one.receipt.tries

        assert first.usage.source == "estimated"
        assert first.usage.input_tokens > 0
        assert (first.cost_status, second.cost_status, one.receipt.cost_status) == ("estimated", "exact", "estimated")


@jumping
async def test_a_try_at_a_target_without_a_price_leaves_the_call_without_one(tmp_path):
    config = CONFIG.replace('targets = ["a/one", "b/two"]\n[models.solo]', 'targets = ["a/x", "b/two"]\n[models.solo]')
    broken = (STARTED, Chunk((UsageReported(Usage(5, 0)), Failed(UpstreamFailed("in band"))), b""))
    async with world(tmp_path, config=config, a=Played(broken), b=Played(ANSWER)) as one:
        await one.take(ask(), Who())

        assert (one.receipt.cost_nano_usd, one.receipt.cost_status) == (None, "unpriced")
        assert [attempt.cost_status for attempt in one.receipt.tries] == ["unpriced", "exact"]


@jumping
async def test_each_provider_has_its_own_number_of_retries_first_of_the_plan(tmp_path):
    config = CONFIG.replace("retries = 0", "retries = 2", 1)
    failures = [UpstreamFailed("500")] * 3
    async with world(tmp_path, config=config, a=Played(*failures), b=Played(ANSWER)) as one:
        await one.take(ask())

        assert [attempt.kind for attempt in one.receipt.tries] == ["first", "retry", "retry", "fallback"]


@jumping
async def test_the_retries_of_a_fallbacks_provider_hold_for_the_fallback(tmp_path):
    config = CONFIG.replace("retries = 0\n[providers.gratis]", "retries = 2\n[providers.gratis]")
    a, b = Played(UpstreamFailed("500")), Played(UpstreamFailed("500"), UpstreamFailed("500"), ANSWER)
    async with world(tmp_path, config=config, a=a, b=b) as one:
        _, _, error = await one.take(ask())

        assert error is None
        assert [attempt.target for attempt in one.receipt.tries] == ["a/one", "b/two", "b/two", "b/two"]


# -- cut after the first content --


@pytest.mark.parametrize(
    "piece", [UpstreamFailed("reset"), cut(UpstreamFailed("reset"))], ids=["raised by the read", "said in the stream"]
)
@jumping
async def test_a_cut_after_the_first_content_is_the_last_chunk_and_nobody_else_is_tried(tmp_path, piece):
    b = Played(ANSWER)
    async with world(tmp_path, a=Played((STARTED, HELLO, WORLD, piece)), b=b) as one:
        _, chunks, error = await one.take(ask())
        receipt = one.receipt

    assert error is None
    (failed,) = chunks[-1].events
    assert isinstance(failed, Failed)
    assert b"".join(chunk.raw or b"" for chunk in chunks) == b"started hello world "
    assert (receipt.status, receipt.error, receipt.error_origin) == ("error", "upstream_failed", "provider")
    assert receipt.usage.source == "estimated"
    assert receipt.usage.output_tokens > 0
    assert receipt.cost_nano_usd > 0
    assert receipt.cost_status == "estimated"
    assert b.calls == []


@jumping
async def test_a_reply_without_its_end_mark_is_said_to_be_cut(tmp_path):
    async with world(tmp_path, a=Played((STARTED, HELLO))) as one:
        _, chunks, _ = await one.take(ask())

        assert isinstance(chunks[-1].events[-1], Failed)
        assert one.receipt.error == "upstream_garbled"
        assert one.receipt.status == "error"


@jumping
async def test_content_and_cut_in_one_piece_end_the_call(tmp_path):
    async with world(tmp_path, a=Played((Chunk((TextDelta("x"), Failed(UpstreamGarbled("torn"))), b"x"),))) as one:
        _, chunks, error = await one.take(ask())

        assert error is None
        assert len(chunks) == 1
        assert one.receipt.error == "upstream_garbled"


@jumping
async def test_usage_that_was_reported_before_the_cut_holds(tmp_path):
    reported = Chunk((UsageReported(Usage(7, 1)),), b"")
    async with world(tmp_path, a=Played((HELLO, reported, UpstreamFailed("reset")))) as one:
        await one.take(ask())

        assert one.receipt.usage == Usage(7, 1)
        assert one.receipt.cost_status == "exact"


@jumping
async def test_the_last_usage_that_was_reported_holds(tmp_path):
    first, last = Chunk((UsageReported(Usage(7, 1)),), b""), Chunk((UsageReported(Usage(7, 9)), Ended()), b"")
    async with world(tmp_path, a=Played((HELLO, first, last))) as one:
        await one.take(ask())

        assert one.receipt.usage == Usage(7, 9)


# -- the deadline --

STALLED = """
[[rules]]
contains = "before"
fault = "stall"
[[rules]]
contains = "between"
text = "one two three four"
chunk_ms = 10
fault = "stall"
after_chunks = 2
[[rules]]
text = "Hello."
"""


def scripted(folder, script):
    (folder / "replies.toml").write_text(script)
    return CONFIG.replace(
        '[providers.gratis]\nkind = "openai"\nbase_url = "http://127.0.0.1:9/v1"',
        f'[providers.gratis]\nkind = "scripted"\npath = "{folder / "replies.toml"}"',
    )


@jumping
async def test_the_deadline_ends_a_call_before_its_first_byte(tmp_path):
    async with world(tmp_path, config=scripted(tmp_path, STALLED)) as one:
        loop = asyncio.get_running_loop()
        began = loop.time()
        opening, _, error = await one.take(ask("free", "before"), caller=Caller(deadline_s=2.0))

        assert opening is None
        assert type(error) is DeadlineExceeded
        assert loop.time() - began == pytest.approx(2.0)
        receipt = one.receipt
        assert (receipt.status, receipt.http_status, receipt.error) == ("error", 504, "deadline_exceeded")
        assert receipt.error_origin == "gateway"
        assert receipt.total_us == pytest.approx(2_000_000, abs=2)


@jumping
async def test_the_deadline_ends_a_stream_in_the_middle_with_one_failure(tmp_path):
    async with world(tmp_path, config=scripted(tmp_path, STALLED)) as one:
        opening, chunks, error = await one.take(ask("free", "between"), caller=Caller(deadline_s=2.0))

        assert error is None
        assert opening.target == "gratis/any"
        (failed,) = chunks[-1].events
        assert type(failed.error) is DeadlineExceeded
        assert fold(event for chunk in chunks for event in chunk.events).choices[0].text == "one two "
        assert one.receipt.usage.output_tokens > 0
        assert one.receipt.cost_status == "free"


@jumping
async def test_the_shorter_of_the_callers_and_the_servers_deadline_holds(tmp_path):
    config = scripted(tmp_path, STALLED) + "[server]\ndeadline_s = 3\n"
    async with world(tmp_path, config=config) as one:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await one.take(ask("free", "before"), caller=Caller(deadline_s=500.0))

        assert loop.time() - began == pytest.approx(3.0)


@jumping
async def test_the_deadline_reaches_the_provider_in_the_loops_time(tmp_path):
    provider = Played(ANSWER)
    async with world(tmp_path, a=provider) as one:
        began = asyncio.get_running_loop().time()
        await one.take(ask(), caller=Caller(deadline_s=5.0))

        assert provider.calls[0][2] == pytest.approx(began + 5.0)


@pytest.mark.parametrize("reply", [HANG, (HELLO, HANG)], ids=["before the reply", "within the reply"])
@jumping
async def test_a_provider_that_ignores_the_deadline_does_not_outlast_it(tmp_path, reply):
    async with world(tmp_path, a=Played(reply)) as one:
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(1000):
            await one.take(ask("solo"), caller=Caller(deadline_s=2.0))

        assert asyncio.get_running_loop().time() - began <= 2.1
        assert not asyncio.current_task().cancelling(), "the cancellation was not taken back"
        assert one.receipt.error == "deadline_exceeded"


@jumping
async def test_a_caller_that_is_busy_between_two_chunks_is_not_cancelled_in_its_own_work(tmp_path):
    async with world(tmp_path, a=Played((HELLO, HANG))) as one:
        items = one.items(ask("solo"), caller=Caller(deadline_s=2.0))
        await anext(items)
        await anext(items)
        await asyncio.sleep(60)  # the caller's own work: nothing of the gateway's

        assert one.gateway.in_flight == 0, "the call outlasts its deadline"
        last = await anext(items)
        assert type(last.events[-1].error) is DeadlineExceeded
        assert last.receipt == one.receipt
        assert not asyncio.current_task().cancelling()


# -- the client goes --


async def cancelled(one, call, *, after_s=1.0):
    """Make a call in a task of its own and cancel it."""
    task = asyncio.create_task(one.take(call))
    await asyncio.sleep(after_s)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def assert_cancelled(receipt, *, billed):
    assert (receipt.status, receipt.http_status, receipt.error) == ("cancelled", 499, "client_closed")
    assert receipt.error_origin == "client"
    assert receipt.tries[-1].status == "cancelled"
    assert bool(receipt.cost_nano_usd) == billed


@jumping
async def test_a_client_that_goes_before_the_provider_answers(tmp_path):
    async with world(tmp_path, a=Played(HANG)) as one:
        await cancelled(one, ask())

        assert_cancelled(one.receipt, billed=True)
        assert one.receipt.usage.source == "estimated"


@jumping
async def test_a_client_that_goes_before_the_first_content(tmp_path):
    async with world(tmp_path, a=Played((STARTED, HANG))) as one:
        await cancelled(one, ask())

        assert_cancelled(one.receipt, billed=True)
        assert one.receipt.ttft_us is None


@jumping
async def test_a_client_that_goes_while_a_chunk_is_awaited(tmp_path):
    async with world(tmp_path, a=Played((STARTED, HELLO, HANG))) as one:
        await cancelled(one, ask())

        assert_cancelled(one.receipt, billed=True)
        assert one.receipt.ttft_us is not None
        assert one.receipt.usage.output_tokens > 0


@pytest.mark.parametrize("chunks", [0, 1, 2])
@jumping
async def test_a_client_that_goes_between_two_chunks(tmp_path, chunks):
    async with world(tmp_path, a=Played(ANSWER)) as one:
        items = one.items(ask())
        for _ in range(1 + chunks):
            await anext(items)
        await items.aclose()

        assert_cancelled(one.receipt, billed=True)


@jumping
async def test_a_client_that_goes_after_the_last_chunk_has_its_answer(tmp_path):
    async with world(tmp_path, a=Played(ANSWER)) as one:
        items = one.items(ask())
        async for item in items:
            if isinstance(item, Chunk) and item.receipt is not None:
                break
        await items.aclose()

        assert (one.receipt.status, one.receipt.cost_nano_usd) == ("ok", COST_A)


@jumping
async def test_a_caller_that_cancels_with_a_message_has_cancelled(tmp_path):
    async with world(tmp_path, a=Played((HELLO, HANG))) as one:
        task = asyncio.create_task(one.take(ask()))
        await asyncio.sleep(1)
        task.cancel("Cancelled by cancel scope 7f0d5c0b")
        with pytest.raises(asyncio.CancelledError):
            await task

        assert_cancelled(one.receipt, billed=True)


@jumping
async def test_a_client_that_goes_while_a_retry_is_awaited(tmp_path):
    config = CONFIG.replace("retries = 0", "retries = 1", 1)
    slow = UpstreamRateLimited("slow down", retry_after_s=60.0)
    async with world(tmp_path, config=config, a=Played(slow)) as one:
        await cancelled(one, ask("solo"))

        assert (one.receipt.status, one.receipt.cost_nano_usd) == ("cancelled", 0)
        assert [attempt.status for attempt in one.receipt.tries] == ["error"]


@jumping
async def test_a_client_that_goes_while_a_long_prompt_is_counted(tmp_path):
    async with world(tmp_path, a=Played()) as one:
        task = asyncio.create_task(one.take(ask("small", "word " * 20_000)))
        await asyncio.sleep(0)  # it has begun, and counts in a thread
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert (one.receipt.status, one.receipt.tries) == ("cancelled", ())


@jumping
async def test_a_call_that_nobody_began_to_read_leaves_nothing(tmp_path):
    async with world(tmp_path, a=Played()) as one:
        await one.gateway.open(ask(), WEB, Caller()).aclose()

        assert one.receipts() == []


async def test_a_client_that_goes_does_not_make_all_others_wait_for_the_count_of_its_prompt(tmp_path):
    count_text("warm", Profile())
    prompt = "".join(map(chr, range(0x4E00, 0x9FFF))) * 100
    async with world(tmp_path, a=Played((HELLO, HANG))) as one:
        items = one.items(ask("solo", prompt), Who())
        await anext(items)
        began = time.perf_counter()
        await items.aclose()
        took = time.perf_counter() - began

        assert one.receipt.usage.input_tokens > 1_000_000
        assert took < 0.1


@jumping
async def test_a_call_that_ends_after_the_gateway_was_closed_leaves_no_timer_behind(tmp_path):
    one = World(tmp_path, CONFIG, Disk(), {"a": Played((HELLO, HANG))})
    items = one.gateway.open(ask(), WEB, Caller())
    await anext(items)
    await one.gateway.close()
    await items.aclose()
    await asyncio.sleep(1)

    assert not [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]


# -- what should not happen --


@pytest.mark.parametrize("error", [RuntimeError("sk-secret"), KeyError("x"), TimeoutError(), OSError(5, "sk-secret")])
@jumping
async def test_an_unexpected_error_of_a_provider_is_internal_and_keeps_its_details_to_itself(tmp_path, error):
    async with world(tmp_path, a=Played(error)) as one:
        _, _, raised = await one.take(ask())
        receipt = one.receipt

    assert type(raised) is Internal
    assert (raised.status, raised.call_id) == (500, receipt.id)
    assert raised.__cause__ is error
    assert "sk-secret" not in str(raised)
    assert receipt.id in str(raised)
    assert (receipt.status, receipt.http_status, receipt.error) == ("error", 500, "internal")
    assert receipt.error_origin == "gateway"


@jumping
async def test_an_unexpected_error_after_the_first_content_is_a_chunk_with_a_failure(tmp_path):
    async with world(tmp_path, a=Played((HELLO, RuntimeError("defect")))) as one:
        _, chunks, raised = await one.take(ask())

        assert raised is None
        (failed,) = chunks[-1].events
        assert type(failed.error) is Internal


@jumping
async def test_an_unexpected_error_after_the_first_content_is_settled(tmp_path):
    async with world(tmp_path, a=Played((HELLO, RuntimeError("defect")))) as one:
        await one.take(ask())

        assert (one.receipt.status, one.receipt.error) == ("error", "internal")
        assert one.receipt.cost_nano_usd > 0


class Broken(Played):
    """A provider whose exchanges cannot be closed."""

    async def send(self, call, target, deadline):
        exchange = await super().send(call, target, deadline)
        close = exchange.close

        def fail():
            close()
            raise RuntimeError("close")

        exchange.close = fail
        return exchange


@jumping
async def test_an_exchange_that_cannot_be_closed_is_settled_all_the_same(tmp_path):
    async with world(tmp_path, a=Broken(ANSWER)) as one:
        await one.take(ask())

        assert one.receipt.status in {"ok", "error"}


@jumping
async def test_a_call_whose_prompt_cannot_be_counted_is_settled_all_the_same(tmp_path):
    def unreadable():
        raise RuntimeError("a defect in reading the messages")

    call = Call("", "solo", Sampling(), unreadable, stream=True, input_bound=100)
    async with world(tmp_path, a=Played((HELLO, BARE_END))) as one:
        await one.take(call)

        assert one.receipt.status in {"ok", "error"}


class FullDisk:
    def __init__(self):
        self.full = False
        self.disk = Disk(write=self.write)

    def write(self, fd, data):
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(fd, data)


@jumping
async def test_a_call_that_cannot_be_recorded_reaches_no_provider(tmp_path):
    full, provider = FullDisk(), Played(ANSWER)
    async with world(tmp_path, disk=full.disk, a=provider) as one:
        await one.take(ask())
        full.full = True
        _, _, error = await one.take(ask())
        full.full = False
        statuses = [receipt.status for receipt in one.receipts()]

    assert type(error) is Overloaded
    assert (error.status, error.retry_after_s) == (503, 5.0)
    assert statuses == ["ok", "refused"]
    assert len(provider.calls) == 1


@jumping
async def test_a_disk_that_fills_up_during_a_call_costs_neither_answer_nor_receipt(tmp_path):
    full, provider = FullDisk(), Played(ANSWER)
    provider.before = lambda: setattr(full, "full", True)
    async with world(tmp_path, disk=full.disk, a=provider) as one:
        items = [item async for item in one.gateway.open(ask(), WEB, Caller())]
        one.taken.append(items[0].call_id)
        full.full = False

        assert items[-1].receipt.status == "ok"
        assert one.receipt == items[-1].receipt


# -- the last rung --


@jumping
async def test_the_static_text_answers_when_every_try_failed(tmp_path):
    a, b = Played(UpstreamFailed("reset")), Played(UpstreamTimeout("silent"))
    async with world(tmp_path, a=a, b=b) as one:
        opening, chunks, error = await one.take(ask("safe"))
        receipt = one.receipt

    assert error is None
    assert (opening.target, opening.lane, opening.tries) == ("static", "translated", 2)
    assert fold(chunks[0].events).choices[0].text == "We are busy."
    assert fold(chunks[0].events).ended
    assert (receipt.status, receipt.target, receipt.http_status) == ("degraded", "static", 200)
    assert [attempt.error for attempt in receipt.tries] == ["upstream_failed", "upstream_timeout"]
    assert receipt.cost_nano_usd == 0


@pytest.mark.parametrize("error", [UpstreamRejected("bad schema"), DeadlineExceeded("late")])
@jumping
async def test_the_static_text_stands_for_no_mistake_of_the_caller_and_no_deadline(tmp_path, error):
    async with world(tmp_path, a=Played(error)) as one:
        _, _, raised = await one.take(ask("safe"))

        assert raised is error
        assert one.receipt.status == "error"


@jumping
async def test_the_static_text_answers_also_where_the_budget_has_no_room_for_a_further_try(tmp_path):
    config = CONFIG.replace("day = 0.0003", "day = 0.005")
    lost = UpstreamTimeout("silent")
    lost.worked = True
    async with world(tmp_path, config=config, a=Played(lost), b=Played()) as one:
        opening, _, error = await one.take(ask("safe", "x", max_tokens=1), Who(), Caller(feature="dear"))

        assert error is None
        assert opening.target == "static"


@jumping
async def test_a_caller_that_is_busy_at_the_static_text_is_not_cancelled_in_its_own_work(tmp_path):
    async with world(tmp_path, a=Played(UpstreamFailed("x")), b=Played(UpstreamFailed("y"))) as one:
        items = one.items(ask("safe"), caller=Caller(deadline_s=2.0))
        await anext(items)
        await asyncio.sleep(60)
        await items.aclose()

        assert not asyncio.current_task().cancelling()


@jumping
async def test_a_client_that_goes_at_the_static_text_has_cancelled(tmp_path):
    async with world(tmp_path, a=Played(UpstreamFailed("x")), b=Played(UpstreamFailed("y"))) as one:
        items = one.items(ask("safe"))
        await anext(items)
        await items.aclose()

        assert one.receipt.status == "cancelled"


@jumping
async def test_the_receipt_of_a_static_text_has_the_lane_that_its_opening_told(tmp_path):
    broken = (STARTED, cut(UpstreamFailed("in band")))
    async with world(tmp_path, a=Played(broken), b=Played(broken)) as one:
        opening, _, _ = await one.take(ask("safe"))

        assert opening.lane == "translated"
        assert one.receipt.lane == opening.lane


# -- usage and money --


@pytest.mark.parametrize(
    ("model", "end", "source", "cost_status"),
    [
        ("solo", END, "provider", "exact"),
        ("solo", BARE_END, "estimated", "estimated"),
        ("sure", BARE_END, "counted", "estimated"),
        ("free", END, "provider", "free"),
        ("free", BARE_END, "estimated", "free"),
        ("unpriced", END, "provider", "unpriced"),
    ],
)
@jumping
async def test_a_receipt_says_who_counted_and_how_sure_the_cost_is(tmp_path, model, end, source, cost_status):
    pieces = (STARTED, HELLO, end)
    async with world(tmp_path, a=Played(pieces), gratis=Played(pieces)) as one:
        await one.take(ask(model), Who())
        receipt = one.receipt

    assert (receipt.usage.source, receipt.cost_status) == (source, cost_status)
    assert receipt.usage.input_tokens > 0
    assert receipt.usage.output_tokens > 0
    assert (receipt.cost_nano_usd is None) == (cost_status == "unpriced")
    assert (receipt.cost_nano_usd == 0) == (cost_status == "free")


@jumping
async def test_a_cost_is_exact_to_the_nano_dollar(tmp_path):
    config = CONFIG.replace(
        '[prices."a/one"]\ninput = 1\noutput = 2', '[prices."a/one"]\ninput = 0.0375\noutput = 0.15'
    )
    end = Chunk((Finished("stop"), UsageReported(Usage(1_000_001, 3)), Ended()), b"end")
    async with world(tmp_path, config=config, a=Played((HELLO, end))) as one:
        await one.take(ask())

        assert one.receipt.cost_nano_usd == 37_500_488  # 37,500,037.5 + 450, half up


@jumping
async def test_a_call_that_is_billed_for_several_tries_stays_within_its_budget(tmp_path):
    prompt = "word " * 5000  # 5000 tokens and a few; the budget holds one such prompt, not two
    config = CONFIG.replace("day = 0.0003", "day = 0.006")
    lost = UpstreamTimeout("silent")
    lost.worked = True
    end = Chunk((Finished("stop"), UsageReported(Usage(5010, 1)), Ended()), b"end")
    config = config.replace('targets = ["a/gpt-4o"]', 'targets = ["a/gpt-4o", "a/gpt-4"]')
    async with world(tmp_path, config=config, a=Played(lost, (HELLO, end))) as one:
        _, _, error = await one.take(ask("sure", prompt, max_tokens=1), Who(), Caller(feature="dear"))

        assert error is lost  # a second try that may be billed as well does not fit
        assert 0 < one.receipt.cost_nano_usd <= 6_000_000


@pytest.mark.parametrize("end", ["cancelled", "no usage"])
@jumping
async def test_a_picture_is_not_billed_by_its_bytes(tmp_path, end):
    picture = "data:image/png;base64," + base64.b64encode(bytes(1_500_000)).decode()
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": picture}}]
    provider = Played((HELLO, BARE_END))
    async with world(tmp_path, a=provider) as one:
        items = one.items(ask("sure", parts, max_tokens=10))
        await anext(items)
        await anext(items)
        if end == "no usage":
            await anext(items)
        await items.aclose()
        (intent,) = one.intents()

        assert one.receipt.cost_nano_usd <= intent.hold_nano_usd


@jumping
async def test_what_was_spent_before_a_restart_counts(tmp_path):
    config = CONFIG.replace("day = 0.0003", "day = 0.0006")
    asked, who = ask("b/two", content="x", max_tokens=1), Caller(feature="dear")
    end = Chunk((Finished("stop"), UsageReported(Usage(50, 1)), Ended()), b"end")
    async with world(tmp_path, config=config, b=Played((HELLO, end))) as one:
        await one.take(ask("b/two", content="x"), Who(), Caller())
    async with world(tmp_path, config=config, b=Played()) as one:
        one.taken = [None]  # the call of before
        _, _, error = await one.take(asked, Who(), who)

        assert isinstance(error, BudgetExhausted)


# -- who --


@jumping
async def test_a_user_is_kept_as_a_hash_of_team_and_name_and_nowhere_as_sent(tmp_path):
    user = "alice.liddell@example.org"
    async with world(tmp_path, a=Played(*[ANSWER] * 4)) as one:
        for team in ("web", "web", "slow"):
            await one.take(ask(user=user), Who(team=team))
        await one.take(ask(), WEB, Caller(user=user))
        first, second, other, headed = [receipt.user for receipt in one.receipts()]
        kept = b"".join(path.read_bytes() for path in one.home.rglob("*") if path.is_file())

    assert first == second == headed
    assert first != other
    assert len(first) == 16
    assert user.encode() not in kept
    assert b"liddell" not in kept
    assert not [path for path in one.home.rglob("*") if path.is_file() and b"liddell" in path.read_bytes()]


@jumping
async def test_feature_and_session_come_from_the_header_the_body_or_the_key(tmp_path):
    bound = Who(team="web", feature="mine")
    async with world(tmp_path, a=Played(*[ANSWER] * 4)) as one:
        await one.take(ask(metadata={"feature": "body", "session": "s1"}))
        await one.take(ask(metadata={"feature": "body"}), WEB, Caller(feature="header"))
        await one.take(ask(), bound)
        await one.take(ask(metadata={"feature": "mine"}), bound)

        assert [receipt.feature for receipt in one.receipts()] == ["body", "header", "mine", "mine"]
        assert one.receipts()[0].session == "s1"


@jumping
async def test_without_any_key_the_door_is_open(tmp_path):
    async with world(tmp_path, a=Played()) as one:
        assert one.gateway.identity.of(Caller()) == OPEN_DOOR
        assert one.gateway.identity.of(Caller(key="ps-whatever")) == OPEN_DOOR


@jumping
async def test_with_a_key_every_call_needs_one_that_works(tmp_path):
    async with world(tmp_path, a=Played()) as one:
        made = one.gateway.keys.create(Grant(team="web", feature="mine"), NOW_NS)

        who = one.gateway.identity.of(Caller(key=made.key))
        assert (who.key_id, who.team, who.feature, who.admin) == (made.id, "web", "mine", False)
        wrong = made.key[:-1] + ("A" if made.key[-1] != "A" else "B")
        for key in (None, "", "ps-", wrong, "ps-" + made.key[3:].swapcase(), made.key + "x", "ps-" + "é" * 43, made.id):
            with pytest.raises(Unauthenticated) as raised:
                one.gateway.identity.of(Caller(key=key))
            assert made.key not in str(raised.value)
            assert wrong not in str(raised.value)


@jumping
async def test_a_key_expires_to_the_nanosecond(tmp_path):
    async with world(tmp_path, a=Played()) as one:
        made = one.gateway.keys.create(Grant(expires_ns=NOW_NS + 1000), NOW_NS)
        one.later_ns = 999
        assert one.gateway.identity.of(Caller(key=made.key)).key_id == made.id
        one.later_ns = 1000
        with pytest.raises(Unauthenticated):
            one.gateway.identity.of(Caller(key=made.key))


@asynccontextmanager
async def elsewhere(one):
    """The keys as another process has them."""
    store = Store.open(one.home / FILE)
    try:
        yield Keyring(store, read_pepper(one.home))
    finally:
        store.close()


async def pass_time(one, seconds):
    one.later_ns += round(seconds * 1e9)
    await asyncio.sleep(seconds)


@jumping
async def test_a_key_that_another_process_revoked_is_refused_within_a_quarter_of_a_second(tmp_path):
    async with world(tmp_path, a=Played()) as one, elsewhere(one) as other:
        made = one.gateway.keys.create(Grant(), NOW_NS)
        one.gateway.identity.of(Caller(key=made.key))
        other.revoke(made.id, NOW_NS)
        await pass_time(one, 0.2501)
        with pytest.raises(Unauthenticated):
            one.gateway.identity.of(Caller(key=made.key))


@jumping
async def test_a_key_that_another_process_made_shuts_the_open_door_within_a_quarter_of_a_second(tmp_path):
    async with world(tmp_path, a=Played()) as one, elsewhere(one) as other:
        one.gateway.identity.of(Caller())
        made = other.create(Grant(team="web"), NOW_NS)
        await pass_time(one, 0.2501)
        with pytest.raises(Unauthenticated):
            one.gateway.identity.of(Caller())
        assert one.gateway.identity.of(Caller(key=made.key)).team == "web"


@jumping
async def test_a_revoked_key_is_noticed_also_after_the_wall_clock_stepped_back(tmp_path):
    async with world(tmp_path, a=Played()) as one, elsewhere(one) as other:
        made = one.gateway.keys.create(Grant(), NOW_NS)
        one.gateway.identity.of(Caller(key=made.key))
        one.later_ns -= 3600 * 10**9
        other.revoke(made.id, NOW_NS)
        await pass_time(one, 10)
        with pytest.raises(Unauthenticated):
            one.gateway.identity.of(Caller(key=made.key))


# -- what a feature pins --


async def test_pins_are_spliced_into_the_clients_own_bytes(tmp_path):
    body = b'{"model": "solo",  "messages":[{"role":"user","content":"hi"}],"temperature":0.7, "max_completion_tokens":9000}'
    reply = (
        b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}'
    )
    async with upstream(whole(reply)) as there:
        config = CONFIG.replace("http://127.0.0.1:9/v1", there.url)
        async with world(tmp_path, config=config) as one:
            opening, chunks, _ = await one.take(CHAT.read_request(body), WEB, Caller(feature="pinned"))
            receipt = one.receipt

    assert there.body == (
        b'{"model": "one",  "messages":[{"role":"user","content":"hi"}],"temperature":0, "max_completion_tokens":500,'
        b'"seed":7}'
    )
    assert opening.lane == receipt.lane == "verbatim"
    assert b"".join(chunk.raw for chunk in chunks) == reply
    assert (receipt.feature, receipt.target) == ("pinned", "a/one")


@jumping
async def test_a_pinned_model_is_subject_to_what_the_team_may_use(tmp_path):
    async with world(tmp_path, a=Played()) as one:
        _, _, error = await one.take(ask("solo"), Who(team="narrow"), Caller(feature="pinned"))

        assert isinstance(error, PermissionDenied)


# -- what clients invent --


def tables(value):
    """The sizes of everything that a gateway keeps."""
    return {name: len(kept) for name, kept in vars(value).items() if hasattr(kept, "__len__")}


@jumping
async def test_names_that_clients_invent_do_not_fill_the_memory(tmp_path):
    async with world(tmp_path, a=Played(*[WHOLE] * 1500)) as one:
        for number in range(1500):
            async for _ in one.gateway.open(ask(f"a/{number}", stream=False), Who(), Caller()):
                pass
        one.taken = [None] * 1500

        sizes = tables(one.gateway) | tables(one.gateway.router)
        assert {name: size for name, size in sizes.items() if size > 1000} == {}


# -- beside the line --


class Counter(Played):
    """A provider that can be asked for a count, and answers with this: a number, None, or what it raises."""

    def __init__(self, told):
        super().__init__()
        self.told = told

    async def count(self, call, target, deadline):
        if self.told == "silence":
            await asyncio.sleep(1000)
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


@pytest.mark.parametrize("told", [0, 7, 999_999_999])
@jumping
async def test_a_provider_that_counts_is_believed(tmp_path, told):
    async with world(tmp_path, a=Counter(told)) as one:
        count = await one.gateway.count(ask(), WEB, Caller())
        assert (count.n, count.certainty, count.band) == (told, "provider", (told, told))


@pytest.mark.parametrize(
    "told",
    [None, -1, 1_000_000_000, 10**400, UpstreamFailed("no"), DeadlineExceeded("late"), "silence"],
    ids=["none", "negative", "too many", "absurd", "fails", "late", "silent"],
)
@jumping
async def test_a_count_that_a_provider_does_not_give_in_time_or_in_earnest_is_made_here(tmp_path, told):
    async with world(tmp_path, a=Counter(told)) as one:
        began = asyncio.get_running_loop().time()
        count = await one.gateway.count(ask(), WEB, Caller(deadline_s=2.0))
        assert count.certainty == "estimated"
        assert 0 < count.n < 100
        assert asyncio.get_running_loop().time() - began < 2.1


@jumping
async def test_foreseeing_counts_and_prices_every_target_and_calls_nobody(tmp_path):
    provider = Played()
    async with world(tmp_path, a=provider, b=provider) as one:
        told = await one.gateway.foresee(ask("safe", max_tokens=100), WEB, Caller())

        assert [(step.target, step.note) for step in told.steps] == [
            ("a/one", "first"),
            ("b/two", "if all before it fail"),
        ]
        assert float(told.steps[1].ceiling_usd) > float(told.steps[0].ceiling_usd) >= 100 * OUT_A / 1e9
        assert (told.model, told.static) == ("safe", "We are busy.")
        assert provider.calls == []
        with pytest.raises(ContextOverflow):
            await one.gateway.foresee(ask("small", "word " * 9000), WEB, Caller())
        with pytest.raises(PermissionDenied):
            await one.gateway.foresee(ask("fast"), Who(team="narrow"), Caller())


@jumping
async def test_receipts_move_into_the_ledger_by_themselves(tmp_path):
    async with world(tmp_path, a=Played(*[ANSWER] * 3)) as one:
        for _ in range(3):
            await one.take(ask())
        await asyncio.sleep(1)

        assert len(one.gateway.ledger.store.calls(EVER, 10)) == 3
        assert one.gateway.ledger.backlog == 0


@jumping
async def test_the_metrics_tell_the_same_as_the_receipts(tmp_path):
    async with world(tmp_path, a=Played(ANSWER)) as one:
        await one.take(ask())
        await one.take(ask("fsat"))
        text = one.gateway.metrics.exposition().decode()

    labels = 'model="fast",status="ok",target="a/one",team="web"'
    assert f"penstock_calls_total{{{labels}}} 1.0" in text
    assert f"penstock_cost_usd_total{{{labels}}} 1.3e-05" in text
    assert 'status="refused"' in text


@jumping
async def test_the_metrics_tell_how_many_calls_are_in_flight(tmp_path):
    async with world(tmp_path, a=Played((HELLO, HANG))) as one:
        items = one.items(ask())
        await anext(items)
        text = one.gateway.metrics.exposition().decode()
        await items.aclose()

    assert "penstock_calls_in_flight 1.0" in text


@jumping
async def test_the_default_model_is_the_first_of_the_configuration(tmp_path):
    async with world(tmp_path, a=Played()) as one:
        assert one.gateway.default_model == "fast"


@jumping
async def test_a_call_of_the_library_is_the_same_call(tmp_path):
    content = Content((Message("user", (Text("Hi"),)),))
    call = Call("", "solo", Sampling(max_tokens=5), lambda: content, stream=True, input_bound=20)
    async with world(tmp_path, a=Played(ANSWER, dialect="")) as one:
        opening, _, _ = await one.take(call)

        assert (one.receipt.dialect, one.receipt.lane, opening.dropped) == ("", "translated", ("logit_bias",))
        assert one.receipt.dropped == ("logit_bias",)


def test_the_providers_of_a_configuration_come_from_the_plugins():
    assert find(PROVIDERS, "openai") is HttpProvider


# -- any script --


def worked(error):
    error.worked = True
    return error


FAILURES = st.builds(
    lambda make: make(),
    st.sampled_from(
        [
            lambda: UpstreamFailed("reset"),
            lambda: UpstreamRateLimited("slow", retry_after_s=0.5),
            lambda: UpstreamMissing("no such model"),
            lambda: UpstreamRejected("bad"),
            lambda: worked(UpstreamTimeout("silent")),
            lambda: worked(UpstreamGarbled("torn")),
            lambda: DeadlineExceeded("late"),
            lambda: RuntimeError("defect"),
            TimeoutError,
        ]
    ),
)
WAITS = st.sampled_from([0.001, 0.5, 1.5])
EVENTS = st.sampled_from(
    [
        Started("x", "m"),
        TextDelta("some words"),
        Finished("length"),
        UsageReported(Usage(11, 3)),
        UsageReported(Usage(12, 4, 5)),
        Ended(),
        Failed(UpstreamFailed("in band")),
        Failed(UpstreamRateLimited("in band", retry_after_s=1.0)),
    ]
)
CHUNKS = st.builds(lambda events: Chunk(tuple(events), b"x"), st.lists(EVENTS, max_size=3))
REPLIES = FAILURES | st.just(HANG) | st.lists(CHUNKS | FAILURES | WAITS | st.just(HANG), max_size=6).map(tuple)
CALLS = st.tuples(
    st.sampled_from(["fast", "solo", "safe", "b/two", "free", "unpriced", "nothing"]),
    st.sampled_from(["web", "slow", "single", None]),
    st.sampled_from([None, "dear", "other"]),
    st.integers(0, 5),  # the client goes after so many items, or
    st.floats(0.01, 3.0),  # after so many seconds
)


async def visit(one, call):
    """Be a client that reads some, then leaves or is cut off."""
    model, team, feature, most, seconds = call

    async def read():
        items = one.items(ask(model, max_tokens=3), Who(team=team), Caller(feature=feature, deadline_s=2.0))
        async with aclosing(items):
            for _ in range(most + 1):
                await anext(items)

    with suppress(PenstockError, StopAsyncIteration, TimeoutError):
        await asyncio.wait_for(read(), seconds)


@settings(max_examples=150, deadline=None)
@given(
    a=st.lists(REPLIES, min_size=12, max_size=12),
    b=st.lists(REPLIES, min_size=12, max_size=12),
    calls=st.lists(CALLS, min_size=1, max_size=4),
    at_once=st.booleans(),
)
def test_whatever_providers_and_clients_do_every_call_leaves_one_receipt_and_holds_nothing(a, b, calls, at_once):
    @jumping
    async def run(folder):
        config = CONFIG.replace("retries = 0", "retries = 1", 1)
        async with world(folder, config=config, a=Played(*a), b=Played(*b), gratis=Played(*b)) as one:
            if at_once:
                await asyncio.gather(*(visit(one, call) for call in calls))
            else:
                for call in calls:
                    await visit(one, call)
            assert all(earlier.id < later.id for earlier, later in pairwise(one.receipts()))

    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder))

"""Equal calls made once: who leads, who follows, what is remembered, and what a request says about it."""

import asyncio
import time
from collections import Counter

import msgspec
import pytest
from tests.providers.upstream import stream
from tests.server.test_app import ANSWER, CONFIG, DONE, HELLO, REPLY, STOP, USAGE, chat, settled, site
from tests.test_broadcast import GOOD, Caller, Work, end, shared, turns

from penstock import sharing
from penstock.errors import BudgetExhausted, DeadlineExceeded, InvalidRequest, Overloaded, RateLimited, UpstreamFailed
from penstock.event import Ended, Finished, TextDelta
from penstock.ledger.cache import Stored
from penstock.ledger.keys import Grant
from penstock.reply import Chunk
from penstock.server.caller import read_caller
from penstock.server.request import Request
from penstock.sharing import Following, Terms


async def test_500_equal_calls_make_one():
    async with shared() as share:
        work = Work(opens=False)
        callers = [Caller(f"c{n}") for n in range(500)]
        running = [asyncio.create_task(caller.run(share, work)) for caller in callers]
        await turns()
        assert (work.begun, share.running) == (1, 1)
        work.gate.set()
        await turns()
        work.say(*GOOD, end())
        await asyncio.gather(*running)

        assert work.begun == 1
        assert {caller.text for caller in callers} == {"one two three"}
        assert [caller.chunks[-1].receipt.id for caller in callers] == ["work", *(f"c{n}" for n in range(1, 500))]
        assert [caller.endings for caller in callers] == [[], *([None] for _ in range(499))]
        assert work.settled == [("done",), ("closed",)]


async def test_different_calls_are_made_each():
    async with shared() as share:
        first, second = Work(), Work()
        await Caller().begin(share, first)
        await Caller().begin(share, second, key=b"other")
        assert (first.begun, second.begun, share.running) == (1, 1, 2)


async def test_a_complete_answer_is_remembered():
    async with shared() as share:
        work = Work()
        work.say(*GOOD, end())
        await Caller().run(share, work)
        found = await Caller().begin(share, Work())
        assert isinstance(found, Stored)
        assert found.chunk.events == (TextDelta("one two three"), Finished("stop"), Ended())


async def test_an_answer_is_fresh_for_as_long_as_its_terms_say():
    now = 100.0
    async with shared(clock=lambda: now) as share:
        work = Work()
        work.say(*GOOD, end())
        await Caller().run(share, work)
        now = 160.0
        assert isinstance(await Caller().begin(share, Work()), Stored)
        now = 160.1
        assert share.stale(b"k", 100.0) is not None
        assert share.stale(b"k", 60.0) is None
        again_made = Work()
        assert isinstance(await Caller().begin(share, again_made), Following)
        assert again_made.begun == 1


async def test_one_that_must_not_be_looked_up_is_made_and_kept():
    async with shared() as share:
        for text in ("old", "new"):
            work = Work()
            work.say(Chunk((TextDelta(text),)), end())
            await Caller().run(share, work, Terms(None, single=False))
            assert work.begun == 1
        assert (await Caller().begin(share, Work())).chunk.events[0] == TextDelta("new")


async def test_one_that_stands_alone_is_not_followed():
    async with shared() as share:
        first, second = Work(), Work()
        await Caller().begin(share, first, Terms(60.0, single=False))
        await Caller().begin(share, second)
        assert (first.begun, second.begun, share.running) == (1, 1, 1)


@pytest.mark.parametrize("error", [UpstreamFailed("it broke"), Overloaded("full")])
async def test_a_broken_answer_is_not_remembered(error):
    async with shared() as share:
        work = Work()
        work.say(*GOOD, end(error=error))
        await Caller().run(share, work)
        assert share.stale(b"k", 1e9) is None


@pytest.mark.parametrize("kind", [DeadlineExceeded, BudgetExhausted, RateLimited])
async def test_what_a_leader_fails_of_alone_lets_the_next_one_lead(kind):
    async with shared() as share:
        own, good = Work(fails=kind("Yours."), opens=False), Work()
        good.say(*GOOD, end())
        first = asyncio.create_task(Caller("first").run(share, own))
        await turns()
        others = [Caller("second"), Caller("third")]
        running = [asyncio.create_task(caller.run(share, good)) for caller in others]
        await turns()
        assert good.begun == 0
        own.gate.set()
        await asyncio.gather(*running)
        with pytest.raises(kind):
            await first
        assert (own.begun, good.begun) == (1, 1)
        assert [caller.text for caller in others] == ["one two three"] * 2
        assert [caller.endings for caller in others] == [[], [None]]


async def test_nobody_joins_what_is_given_up():
    async with shared() as share:
        work, second = Work(), Work()
        caller = Caller()
        await caller.begin(share, work)
        caller.following.close()
        await Caller().begin(share, second)
        assert second.begun == 1
        await turns()
        assert work.settled == [("cancelled", ()), ("closed",)]


async def test_taking_the_last_chunk_does_not_cancel_what_is_about_to_end():
    class Slow(Work):
        async def pump(self, give, room):
            await super().pump(give, room)
            await turns(3)
            self.settled.append(("tidy",))

    async with shared() as share:
        work = Slow()
        work.say(*GOOD, end())
        await Caller().run(share, work)
        await turns()
        assert work.settled == [("done",), ("tidy",), ("closed",)]
        assert share.stale(b"k", 60.0) is not None


async def test_closing_ends_what_is_left_and_its_followers():
    async with shared() as share:
        work, caller = Work(opens=False), Caller()
        alone = Work()
        await Caller().begin(share, alone, Terms(None, single=False))
        running = asyncio.create_task(caller.begin(share, work))
        await turns()
        await share.close()
        with pytest.raises(Overloaded):
            await running
        assert work.settled == [("cancelled", ("shutting down",))]
        assert alone.settled[0] == ("cancelled", ("shutting down",))


def request(value):
    return Request(
        "POST",
        b"/",
        "/",
        b"",
        [],
        b"",
        "1.1",
        "127.0.0.1",
        fields=None if value is None else {b"x-penstock-cache": value},
    )


@pytest.mark.parametrize(
    ("value", "meant"), [(None, ""), (b"no-store", "no-store"), (b"refresh", "refresh"), (b"No-Store", "no-store")]
)
def test_a_request_may_pass_by_the_cache(value, meant):
    assert read_caller(request(value)).cache == meant


@pytest.mark.parametrize("value", [b"", b"no-cache", b"no-store, refresh", b"\xff"])
def test_other_words_for_the_cache_are_refused(value):
    with pytest.raises(InvalidRequest, match=r"no-store .* or refresh"):
        read_caller(request(value))


def test_the_module_knows_no_other_stage():
    assert not {"providers", "routing", "policy"} & set(vars(sharing))
    assert msgspec.structs.asdict(Terms(1.0)) == {"fresh_s": 1.0, "single": True}


# -- over the wire, with a real provider on loopback --

KEPT = CONFIG.replace("[models.both]", '[models.kept]\ntargets = ["box/m"]\ncache_s = 60\nstale_s = 600\n[models.both]')
HALVES = [*list(stream(HELLO, STOP, USAGE, DONE))[:2], 0.1, *list(stream(HELLO, STOP, USAGE, DONE))[2:]]


async def ask_all(one, number, **options):
    clients = [await one.client() for _ in range(number)]
    for client in clients:
        await client.send(chat("kept", **options))
    return await asyncio.gather(*[client.reply(20) for client in clients])


async def test_500_clients_with_one_request_reach_the_provider_once(tmp_path):
    async with site(tmp_path, *ANSWER, config=KEPT) as one:
        replies = await ask_all(one, 500)
        assert {(reply.status, reply.body) for reply in replies} == {(200, REPLY)}
        assert len(one.there.requests) == 1
        ids = {reply.header(b"x-penstock-call").decode() for reply in replies}
        receipts = one.receipts()
        assert {receipt.id for receipt in receipts} == ids
        assert len(ids) == 500
        assert sorted(receipt.cost_nano_usd for receipt in receipts) == [0] * 499 + [2550]
        seen = Counter(reply.header(b"x-penstock-cache") for reply in replies)
        assert seen[b"miss"] == 1
        assert seen[b"hit"] + seen[b"shared"] == 499


async def test_a_stream_is_the_same_for_who_asks_first_meanwhile_and_later(tmp_path):
    async with site(tmp_path, HALVES, config=KEPT) as one:
        replies = [*await ask_all(one, 5, stream=True), *await ask_all(one, 1, stream=True)]
        assert {reply.body for reply in replies} == {HELLO + STOP + DONE}, "as it did not ask for the usage"
        assert Counter(reply.header(b"x-penstock-cache") for reply in replies) == {b"miss": 1, b"shared": 4, b"hit": 1}
        assert len(one.there.requests) == 1


async def test_a_first_client_that_hangs_up_ends_no_stream_of_another(tmp_path):
    async with site(tmp_path, HALVES, config=KEPT) as one:
        first, second = await one.client(), await one.client()
        await first.send(chat("kept", stream=True))
        await first.reader.readuntil(b"Hello")
        await second.send(chat("kept", stream=True))
        await second.reader.readuntil(b"Hello")
        first.hang_up()
        assert (await second.reader.readuntil(b"0\r\n\r\n")).count(b"[DONE]") == 1
        assert {receipt.status for receipt in await settled(one, 2)} == {"ok"}
        assert len(one.there.requests) == 1


async def test_tenants_are_not_given_each_others_answers(tmp_path):
    async with site(tmp_path, *ANSWER * 2, config=KEPT) as one:
        seen = []
        for team in ("web", "web", "docs", None, None):
            key = one.gateway.keys.create(Grant(team=team), time.time_ns()).key
            for _ in range(2):
                (reply,) = await ask_all(one, 1, authorization=f"Bearer {key}")
                seen.append((team, reply.header(b"x-penstock-cache").decode()))
        new = [("web", "miss"), ("web", "hit")]
        assert seen == [
            *new,
            *[("web", "hit")] * 2,
            ("docs", "miss"),
            ("docs", "hit"),
            *[(None, "miss"), (None, "hit")] * 2,
        ]

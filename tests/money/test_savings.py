"""What the cache and routing save, on the whole line: told on the receipt, in nano-dollars that the hand works out as well."""

import asyncio

import pytest
from msgspec import structs
from tests.test_gateway import ANSWER, COST_A, COST_B, END, HELLO, STARTED, WORLD, Played, ask, world
from tests.test_gateway_routes import ROUTES

from jumping import jumping
from penstock.call import Caller, Who
from penstock.errors import UpstreamFailed
from penstock.event import Ended, Failed, Finished, Started, TextDelta, UsageReported
from penstock.ledger import reports
from penstock.ledger.periods import zone_of
from penstock.ledger.store import Span
from penstock.receipt import Usage
from penstock.reply import Chunk

SAVED = (
    ROUTES
    + """
[models.compared]
targets = ["a/one"]
baseline = "b/two"
[models.cheapest]
targets = ["gratis/any", "a/one"]
baseline = "b/two"
[models.odd]
targets = ["a/one"]
baseline = "b/nameless"
[models.shared]
targets = ["a/one", "b/two"]
cache_s = 60
stale_s = 3600
static = "We are busy."
[models.alone]
targets = ["a/one"]
cache_s = 60
stale_s = 3600
[models.owned]
targets = ["gratis/any"]
cache_s = 60
[models.guessed]
targets = ["a/nameless"]
cache_s = 60
[prices."b/tiered"]
input = 10
output = 20
flex = { input = 5, output = 10 }
[models.tiered]
targets = ["b/tiered"]
cache_s = 60
[models.leaned]
targets = ["narrow/one"]
when_busy = "dear"
[models.dear]
targets = ["b/two"]
"""
)
END_OF_NOTHING = Chunk((UsageReported(Usage(5, 0)), Failed(UpstreamFailed("broke off"))), b"")
BROKEN = UpstreamFailed("refused")
EVER = Span(0, 2**62)


def saving(folder, **played):
    """A gateway whose routes and prices are those of above."""
    return world(folder, config=SAVED + "[server]\nqueue_s = 10\n", **played)


def told(receipts):
    """What each receipt says that the cache and routing saved."""
    return [(receipt.cache_saved_nano_usd, receipt.routing_saved_nano_usd) for receipt in receipts]


# -- routing --


@jumping
async def test_a_fallback_to_a_dearer_target_saves_a_negative_amount(tmp_path):
    async with saving(tmp_path, a=Played(BROKEN), b=Played(ANSWER)) as one:
        await one.take(ask("fast"))
        receipt = one.receipt

    assert (receipt.target, receipt.cost_nano_usd) == ("b/two", COST_B)
    assert receipt.routing_saved_nano_usd == COST_A - COST_B < 0


@jumping
async def test_the_first_target_is_its_own_baseline(tmp_path):
    async with saving(tmp_path, a=Played(ANSWER)) as one:
        await one.take(ask("fast"))
        assert told([one.receipt]) == [(0, 0)]


@jumping
async def test_a_model_is_compared_with_the_baseline_that_it_names(tmp_path):
    async with saving(tmp_path, a=Played(ANSWER, ANSWER, BROKEN), gratis=Played(ANSWER)) as one:
        for model in ("compared", "cheapest", "odd"):
            await one.take(ask(model))
        receipts = one.receipts()

    assert [receipt.target for receipt in receipts] == ["a/one", "gratis/any", "a/one"]
    assert told(receipts) == [(0, COST_B - COST_A), (0, COST_B), (0, 0)]


@jumping
async def test_a_call_that_a_busy_model_left_to_another_is_compared_with_what_was_asked_for(tmp_path):
    slow = (STARTED, HELLO, 5.0, WORLD, END)
    async with saving(tmp_path, narrow=Played(slow), b=Played(ANSWER)) as one:
        leading = asyncio.create_task(one.take(ask("leaned")))
        await asyncio.sleep(0.01)
        await one.take(ask("leaned"))
        await leading
        diverted = next(receipt for receipt in one.receipts() if receipt.target == "b/two")

    assert diverted.routing_saved_nano_usd == COST_A - COST_B  # narrow/one costs what a/one does


@jumping
async def test_an_excuse_saves_nothing_whatever_its_tries_cost(tmp_path):
    broken = (STARTED, UpstreamFailed("broke off"))
    async with saving(tmp_path, a=Played(broken), b=Played(broken)) as one:
        await one.take(ask("safe"))
        receipt = one.receipt

    assert (receipt.target, len(receipt.tries)) == ("static", 2)
    assert told([receipt]) == [(0, 0)]


# -- the cache --


@jumping
async def test_a_hit_saves_what_the_answer_cost(tmp_path):
    async with saving(tmp_path, a=Played(ANSWER)) as one:
        for _ in range(3):
            await one.take(ask("cached"))
        receipts = one.receipts()

    assert told(receipts) == [(0, 0), (COST_A, 0), (COST_A, 0)]
    assert [receipt.cost_nano_usd for receipt in receipts] == [COST_A, 0, 0]


@jumping
async def test_a_hit_saves_what_the_target_that_answered_costs_and_not_the_first(tmp_path):
    async with saving(tmp_path, a=Played(BROKEN), b=Played(ANSWER)) as one:
        await one.take(ask("shared"))
        await one.take(ask("shared"))
        assert told(one.receipts()) == [(0, COST_A - COST_B), (COST_B, 0)]


@jumping
async def test_a_hit_is_priced_in_the_tier_in_which_its_answer_was_served(tmp_path):
    flex = Chunk((Started("id-1", "tiered", service_tier="flex"),), b"started ")
    async with saving(tmp_path, b=Played((flex, HELLO, WORLD, END))) as one:
        await one.take(ask("tiered"))
        await one.take(ask("tiered"))
        receipts = one.receipts()

    assert receipts[0].cost_nano_usd == COST_B // 2
    assert told(receipts) == [(0, 0), (COST_B // 2, 0)]


@pytest.mark.parametrize(("model", "provider"), [("owned", "gratis"), ("guessed", "a")])
@jumping
async def test_what_costs_nothing_or_nobody_knows_what_saves_nothing(tmp_path, model, provider):
    async with saving(tmp_path, **{provider: Played(ANSWER)}) as one:
        await one.take(ask(model), Who(team="single"))  # who has no budget, which would refuse what has no price
        await one.take(ask(model), Who(team="single"))
        receipts = one.receipts()

    assert [receipt.cache for receipt in receipts] == ["miss", "hit"]
    assert told(receipts) == [(0, 0), (0, 0)]


@jumping
async def test_who_follows_another_call_saves_what_that_one_paid(tmp_path):
    async with saving(tmp_path, a=Played((STARTED, HELLO, 1.0, WORLD, END))) as one:
        await asyncio.gather(*[one.take(ask("cached")) for _ in range(3)])
        receipts = one.receipts()

    assert {receipt.cache: told([receipt])[0] for receipt in receipts} == {"miss": (0, 0), "shared": (COST_A, 0)}
    assert sum(receipt.cache_saved_nano_usd for receipt in receipts) == 2 * COST_A
    assert sum(receipt.cost_nano_usd for receipt in receipts) == COST_A


@jumping
async def test_who_follows_and_hangs_up_saves_nothing(tmp_path):
    async with saving(tmp_path, a=Played((STARTED, HELLO, 1.0, WORLD, END))) as one:
        leading = asyncio.create_task(one.take(ask("cached")))
        await asyncio.sleep(0.1)
        following = asyncio.create_task(one.take(ask("cached")))
        await asyncio.sleep(0.1)
        following.cancel()
        await asyncio.wait({following})
        await leading
        receipts = one.receipts()

    assert {receipt.status: told([receipt])[0] for receipt in receipts} == {"ok": (0, 0), "cancelled": (0, 0)}


@jumping
async def test_an_old_answer_saves_as_much_as_a_fresh_one_and_failed_tries_are_paid_all_the_same(tmp_path):
    async with saving(tmp_path, a=Played(ANSWER, BROKEN), b=Played(BROKEN)) as one:
        await one.take(ask("shared"))
        await asyncio.sleep(61)
        await asyncio.gather(one.take(ask("shared")), one.take(ask("shared")))
        receipts = one.receipts()

    assert [receipt.cache for receipt in receipts] == ["miss", "stale", "stale"]
    assert told(receipts) == [(0, 0), (COST_A, 0), (COST_A, 0)]
    assert [receipt.status for receipt in receipts] == ["ok", "degraded", "degraded"]


@jumping
async def test_an_old_answer_of_the_only_target_is_not_taken_for_that_of_its_failed_try(tmp_path):
    async with saving(tmp_path, a=Played(ANSWER, (STARTED, END_OF_NOTHING))) as one:
        await one.take(ask("alone"))
        await asyncio.sleep(61)
        await asyncio.gather(one.take(ask("alone")), one.take(ask("alone")))
        receipts = one.receipts()

    assert [receipt.cache for receipt in receipts] == ["miss", "stale", "stale"]
    assert {receipt.target for receipt in receipts} == {"a/one"}
    assert told(receipts) == [(0, 0), (COST_A, 0), (COST_A, 0)]


@jumping
async def test_an_estimated_answer_saves_its_estimate(tmp_path):
    bare = Chunk((Finished("stop", "stop"), Ended()), b"end")
    async with saving(tmp_path, a=Played((STARTED, HELLO, WORLD, bare))) as one:
        await one.take(ask("cached"))
        await one.take(ask("cached"))
        paid, hit = one.receipts()

    assert paid.cost_status == "estimated"
    assert hit.cache_saved_nano_usd == paid.cost_nano_usd > 0


@jumping
async def test_prices_of_a_new_configuration_hold_for_what_was_kept_before(tmp_path):
    async with saving(tmp_path, a=Played(ANSWER)) as one:
        await one.take(ask("cached"))
        found = one.gateway.router.find("a/one")
        dearer = structs.replace(found.prices[0], rates=structs.replace(found.prices[0].rates, input=5_000_000_000))
        one.gateway.router.find = lambda _: structs.replace(found, prices=(dearer,))
        await one.take(ask("cached"))
        _, hit = one.receipts()

    assert hit.cache_saved_nano_usd == 9 * 5000 + 2 * 2000


@jumping
async def test_pictures_and_reasoning_are_saved_at_their_own_rates(tmp_path):
    used = Usage(1000, 500, 200, reasoning_tokens=100)
    ends = Chunk((Finished("stop", "stop"), UsageReported(used), Ended()), b"end")
    async with saving(tmp_path, a=Played((STARTED, Chunk((TextDelta("x"),), b"x"), ends))) as one:
        await one.take(ask("cached"))
        await one.take(ask("cached"))
        paid, hit = one.receipts()

    assert hit.cache_saved_nano_usd == paid.cost_nano_usd == 1000 * 1000 + 500 * 2000


# -- the report --


@jumping
async def test_the_report_adds_up_what_the_receipts_say(tmp_path):
    async with saving(tmp_path, a=Played(ANSWER, BROKEN), b=Played(ANSWER), gratis=Played(ANSWER)) as one:
        await one.take(ask("cached"))
        await one.take(ask("cached"))
        await one.take(ask("fast"))
        await one.take(ask("cheapest"))
        await one.take(ask("cached"), Who(team="slow"), Caller(cache="no-store"))
        receipts = one.receipts()
        found = reports.spend(one.gateway.ledger.store, EVER, ("model",), zone_of("UTC"))

    cache, routing = (sum(figures) for figures in zip(*told(receipts), strict=True))
    assert (cache, routing) == (COST_A, COST_A - COST_B + COST_B)
    assert (found.total.cache_saved_usd, found.total.routing_saved_usd) == ("0.000013", "0.000013")
    rows = {row.model: (row.cache_saved_usd, row.routing_saved_usd) for row in found.rows}
    assert rows == {"cached": ("0.000013", "0"), "fast": ("0", "-0.000117"), "cheapest": ("0", "0.00013")}

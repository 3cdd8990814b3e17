"""What a route may allow beside its targets: a model for busy times, a cache, a last rung, another target that goes on."""

import asyncio

from tests.test_gateway import (
    ANSWER,
    CONFIG,
    COST_A,
    END,
    HANG,
    HELLO,
    IN_A,
    OUT_A,
    STARTED,
    WEB,
    WORLD,
    Played,
    ask,
    cut,
    world,
)

from jumping import jumping
from penstock.call import Caller, Who
from penstock.config import load
from penstock.errors import Overloaded, UpstreamFailed, UpstreamGarbled, UpstreamRateLimited
from penstock.event import Failed, TextDelta
from penstock.receipt import Usage
from penstock.reply import Chunk, Opening, ToolUseStarted, fold

ROUTES = (
    CONFIG
    + """
[providers.narrow]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
retries = 0
concurrency = 1
[providers.patient]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
retries = 0
on_disconnect = "drain"
[models.queued]
targets = ["narrow/one"]
[models.busy]
targets = ["narrow/one"]
when_busy = "solo"
[models.excused]
targets = ["narrow/one"]
static = "We are busy."
[models.cached]
targets = ["a/one"]
cache_s = 60
[models.stale]
targets = ["a/one"]
stale_s = 3600
static = "We are busy."
[models.going]
targets = ["a/one", "b/two"]
continue = true
[models.drained]
targets = ["patient/one"]
[prices."narrow/one"]
input = 1
output = 2
[prices."patient/one"]
input = 1
output = 2
"""
)
NO_STORE, REFRESH = Caller(cache="no-store"), Caller(cache="refresh")


def routes(tmp_path, *, queue_s=10, **played):
    return world(tmp_path, config=ROUTES + f"[server]\nqueue_s = {queue_s}\n", **played)


def text_of(chunks):
    return fold([event for chunk in chunks for event in chunk.events]).choices[0].text


# -- room at the targets --


@jumping
async def test_a_call_waits_for_room_at_its_only_target(tmp_path):
    slow = (STARTED, 2.0, *ANSWER[1:])
    async with routes(tmp_path, narrow=Played(slow, ANSWER)) as one:
        first, second = await asyncio.gather(one.take(ask("queued")), one.take(ask("queued")))
        waited = one.receipts()[-1]

    assert (first[2], second[2]) == (None, None)
    assert waited.total_us > 1_990_000
    assert len(waited.tries) == 1, "standing in line is no try"


@jumping
async def test_who_would_wait_too_long_is_refused_at_once_with_the_time_to_come_again(tmp_path):
    slow = (STARTED, 30.0, *ANSWER[1:])
    async with routes(tmp_path, queue_s=0.5, narrow=Played(slow)) as one:
        leading = asyncio.create_task(one.take(ask("queued")))
        await asyncio.sleep(0.01)
        _, _, error = await one.take(ask("queued"))
        refused = next(receipt for receipt in one.receipts() if receipt.status == "refused")
        await leading

    assert isinstance(error, Overloaded)
    assert error.retry_after_s > 0
    assert refused.total_us < 50_000
    assert refused.http_status == 503


@jumping
async def test_a_call_that_hangs_up_in_line_leaves_its_place(tmp_path):
    slow = (STARTED, 5.0, *ANSWER[1:])
    async with routes(tmp_path, narrow=Played(slow, ANSWER)) as one:
        leading = asyncio.create_task(one.take(ask("queued")))
        await asyncio.sleep(0.01)
        leaving = asyncio.create_task(one.take(ask("queued")))
        await asyncio.sleep(0.01)
        leaving.cancel()
        await asyncio.wait({leaving})
        _, _, error = await one.take(ask("queued"))
        await leading
        states = one.gateway.health.states(asyncio.get_running_loop().time())

    assert error is None
    assert [state.in_flight for state in states] == [0]


@jumping
async def test_a_busy_model_leaves_the_call_to_the_one_that_the_route_names(tmp_path):
    slow = (STARTED, 5.0, *ANSWER[1:])
    async with routes(tmp_path, narrow=Played(slow), a=Played(ANSWER)) as one:
        leading = asyncio.create_task(one.take(ask("busy")))
        await asyncio.sleep(0.01)
        opening, _, error = await one.take(ask("busy"))
        await leading

    assert error is None
    assert opening.target == "a/one"


@jumping
async def test_the_static_text_answers_for_targets_without_room(tmp_path):
    slow = (STARTED, 30.0, *ANSWER[1:])
    async with routes(tmp_path, queue_s=0.1, narrow=Played(slow)) as one:
        leading = asyncio.create_task(one.take(ask("excused")))
        await asyncio.sleep(0.01)
        opening, chunks, _ = await one.take(ask("excused"))
        degraded = next(receipt for receipt in one.receipts() if receipt.status == "degraded")
        await leading

    assert opening.target == degraded.target == "static"
    assert text_of(chunks) == "We are busy."


# -- answers given again --


@jumping
async def test_an_answer_serves_the_same_request_again_and_costs_nothing(tmp_path):
    provider = Played(ANSWER)
    async with routes(tmp_path, a=provider) as one:
        first = await one.take(ask("cached"))
        again = await one.take(ask("cached"))
        paid, free = one.receipts()

    assert (first[0].cache, again[0].cache) == ("miss", "hit")
    assert b"".join(chunk.raw for chunk in first[1]) == b"".join(chunk.raw for chunk in again[1])
    assert (paid.cost_nano_usd, free.cost_nano_usd) == (COST_A, 0)
    assert (paid.cache, free.cache, free.target, free.lane) == ("miss", "hit", "a/one", "verbatim")
    assert len(provider.calls) == 1


@jumping
async def test_an_answer_is_not_given_to_another_team_nor_when_it_is_old(tmp_path):
    provider = Played(ANSWER, ANSWER, ANSWER)
    async with routes(tmp_path, a=provider) as one:
        await one.take(ask("cached"))
        await one.take(ask("cached"), Who(team="slow"))
        await asyncio.sleep(61)
        await one.take(ask("cached"))

    assert len(provider.calls) == 3


@jumping
async def test_a_request_may_ask_for_a_new_answer(tmp_path):
    provider = Played(ANSWER, (STARTED, WORLD, END), ANSWER)
    async with routes(tmp_path, a=provider) as one:
        await one.take(ask("cached"))
        refreshed = await one.take(ask("cached"), WEB, REFRESH)
        kept = await one.take(ask("cached"))
        unkept = await one.take(ask("cached"), WEB, NO_STORE)

    assert [text_of(taken[1]) for taken in (refreshed, kept, unkept)] == [" world", " world", "Hello world"]
    assert [taken[0].cache for taken in (refreshed, kept, unkept)] == ["miss", "hit", "none"]


@jumping
async def test_equal_calls_at_one_moment_are_one_call_at_the_provider(tmp_path):
    provider = Played((STARTED, HELLO, 1.0, WORLD, END))
    async with routes(tmp_path, a=provider) as one:
        taken = await asyncio.gather(*[one.take(ask("cached")) for _ in range(3)])
        receipts = one.receipts()

    assert [text_of(chunks) for _, chunks, _ in taken] == ["Hello world"] * 3
    assert len(provider.calls) == 1
    assert sorted(receipt.cache for receipt in receipts) == ["miss", "shared", "shared"]
    assert sum(receipt.cost_nano_usd for receipt in receipts) == COST_A
    assert {receipt.id for receipt in receipts} == {opening.call_id for opening, _, _ in taken}


@jumping
async def test_who_leads_may_leave_while_another_follows(tmp_path):
    provider = Played((STARTED, HELLO, 1.0, WORLD, END))
    async with routes(tmp_path, a=provider) as one:
        leading = one.items(ask("cached"))
        assert isinstance(await anext(leading), Opening)
        following = asyncio.create_task(one.take(ask("cached")))
        await asyncio.sleep(0.1)
        await leading.aclose()
        _, chunks, error = await following

    assert error is None
    assert text_of(chunks) == "Hello world"


@jumping
async def test_an_old_answer_is_better_than_none_and_says_so(tmp_path):
    async with routes(tmp_path, a=Played(ANSWER, UpstreamFailed("refused"), UpstreamFailed("refused"))) as one:
        await one.take(ask("stale"))
        opening, chunks, _ = await one.take(ask("stale"))
        other, excuse, _ = await one.take(ask("stale", "something else"))
        _, stale, static = one.receipts()

    assert (opening.cache, text_of(chunks)) == ("stale", "Hello world")
    assert (stale.status, stale.cache, stale.target, stale.cost_nano_usd) == ("degraded", "stale", "a/one", 0)
    assert (other.target, text_of(excuse)) == ("static", "We are busy.")
    assert (static.status, static.target) == ("degraded", "static")


# -- a cut stream --


def pieces(*texts, end=END):
    return tuple(Chunk((TextDelta(text),), text.encode()) for text in texts) + ((end,) if end else ())


@jumping
async def test_another_target_goes_on_with_a_text_that_was_cut(tmp_path):
    first = Played((STARTED, *pieces("Hello", ", my dear", end=None), UpstreamGarbled("cut")))
    second = Played((STARTED, *pieces(", my dear", " friend.")), dialect="")
    async with routes(tmp_path, a=first, b=second) as one:
        opening, chunks, error = await one.take(ask("going", max_tokens=100))
        receipt = one.receipt

    assert error is None
    assert text_of(chunks) == "Hello, my dear friend."
    assert opening.target == "a/one"
    assert (receipt.status, receipt.target) == ("ok", "b/two")
    assert [(row.target, row.status, row.kind) for row in receipt.tries] == [
        ("a/one", "error", "first"),
        ("b/two", "ok", "fallback"),
    ]
    asked = second.calls[0][0]
    assert asked.content.messages[-2].parts[0].text == "Hello, my dear"
    assert asked.sampling.max_tokens < 100


@jumping
async def test_a_text_that_nobody_goes_on_with_ends_in_the_error_that_cut_it(tmp_path):
    first = Played((STARTED, *pieces("Hello", end=None), cut(UpstreamFailed("broken"))))
    async with routes(tmp_path, a=first, b=Played(UpstreamFailed("refused"))) as one:
        _, chunks, _ = await one.take(ask("going"))
        receipt = one.receipt

    failed = [event for chunk in chunks for event in chunk.events if isinstance(event, Failed)]
    assert len(failed) == 1
    assert "broken" in failed[0].error.message
    assert (receipt.status, len(receipt.tries)) == ("error", 2)


@jumping
async def test_tool_calls_are_not_gone_on_with(tmp_path):
    tool = Chunk((ToolUseStarted(0, "call_1", "weather"),), b"tool")
    second = Played(ANSWER)
    async with routes(tmp_path, a=Played((STARTED, tool, UpstreamGarbled("cut"))), b=second) as one:
        await one.take(ask("going"))
        assert one.receipt.status == "error"

    assert second.calls == []


# -- a caller that hangs up --


@jumping
async def test_a_reply_is_read_to_its_end_where_the_provider_wants_that(tmp_path):
    provider = Played((STARTED, HELLO, 1.0, WORLD, 1.0, END))
    async with routes(tmp_path, patient=provider) as one:
        items = one.items(ask("drained"))
        await anext(items)
        await anext(items)
        await items.aclose()
        assert one.gateway.in_flight == 1
        await asyncio.sleep(3)
        receipt = one.receipt

    assert (receipt.status, receipt.usage, receipt.cost_status) == ("cancelled", Usage(9, 2), "exact")
    assert receipt.cost_nano_usd == 9 * IN_A + 2 * OUT_A


@jumping
async def test_so_is_one_that_had_not_begun(tmp_path):
    provider = Played((2.0, *ANSWER))
    async with routes(tmp_path, patient=provider) as one:
        taking = asyncio.create_task(one.take(ask("drained")))
        await asyncio.sleep(0.5)
        taking.cancel()
        await asyncio.wait({taking})
        await asyncio.sleep(3)
        one.taken[-1] = None
        assert (one.receipt.status, one.receipt.usage) == ("cancelled", Usage(9, 2))


@jumping
async def test_but_no_longer_than_its_deadline(tmp_path):
    provider = Played((STARTED, HELLO, HANG))
    async with routes(tmp_path, patient=provider) as one:
        items = one.items(ask("drained"), caller=Caller(deadline_s=5.0))
        await anext(items)
        await anext(items)
        await items.aclose()
        await asyncio.sleep(10)
        assert one.receipt.status == "cancelled"
        assert one.receipt.usage.source != "provider"


# -- one configuration after another --


@jumping
async def test_calls_in_flight_end_where_they_began_and_new_ones_go_to_the_successor(tmp_path):
    provider = Played((STARTED, HELLO, 5.0, WORLD, END), ANSWER)
    async with routes(tmp_path, a=provider) as one:
        begun = asyncio.create_task(one.take(ask("solo")))
        await asyncio.sleep(1)
        (tmp_path / "penstock.toml").write_text(
            ROUTES.replace("[models.solo]", "[models.sole]")
            .replace('models = ["solo"]', 'models = ["sole"]')
            .replace('when_busy = "solo"', 'when_busy = "sole"')
        )
        config = load(str(tmp_path / "penstock.toml"), {"PENSTOCK_HOME": str(one.home)})
        old, one.gateway = one.gateway, one.gateway.succeed(config)
        retiring = asyncio.create_task(old.retire())
        renamed = await one.take(ask("sole"))
        gone = await one.take(ask("solo"))
        assert not retiring.done()
        _, chunks, error = await begun
        await retiring
        assert (old.in_flight, error, renamed[2]) == (0, None, None)
        assert text_of(chunks) == "Hello world"
        assert gone[2].code == "model_not_found"
        assert one.gateway.reservations.budgets.states(one.wall_ns())[0].spent_nano_usd == 2 * COST_A


@jumping
async def test_what_is_known_of_targets_and_callers_outlives_a_configuration(tmp_path):
    limited = UpstreamRateLimited("slow down", retry_after_s=30.0)
    async with routes(tmp_path, a=Played(limited), b=Played(ANSWER, ANSWER)) as one:
        await one.take(ask("fast"))
        one.gateway = (old := one.gateway).succeed(one.config)
        await old.retire()
        opening, _, _ = await one.take(ask("fast"))

    assert opening.target == "b/two", "the first target still wants to be left alone"
    assert opening.tries == 1

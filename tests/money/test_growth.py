"""Streams that cost more than was held for them, on the real line: the hold grows before more passes, or the stream ends."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.faults.client import Answer, ask
from tests.faults.conftest import PATIENT, Site, config, gateway_at
from tests.faults.faults import LAST, PLAYS, chunk, ok
from tests.faults.provider import Heard, Peer, Provider
from tests.faults.replies import _chunk, _delta, event

from penstock.call import Call, Caller, Content, Message, Sampling, Text, Who
from penstock.ledger.keys import Grant
from penstock.reply import Failed, TextDelta
from penstock.tokens.sample import by_bytes

IN, OUT = 1_000, 2_000  # nano-dollars a token
MOST = 50  # max_tokens of every call
WORD = "wordword "
CHUNK = 20  # words that may arrive at once
MANY = 600  # of those; what they cost is far more than is held for MOST tokens
PAGE = """[features.f]
budget_usd = { day = DAY }
[models.chat]
targets = ["bad-chat/x"]
[models.messages]
targets = ["bad-messages/x"]
[prices."bad-chat/x"]
input = 1
output = 2
[prices."bad-messages/x"]
input = 1
output = 2
"""


def talker(*, used: int, midway: bool = False) -> Callable[[Peer, Heard], Awaitable[None]]:
    """A provider that goes on far beyond what was asked for, and says what was used at the end, or with each word."""

    async def talks(peer: Peer, heard: Heard) -> None:
        if heard.dialect == "messages":
            await _talk_as_messages(peer, heard, used)
            return
        await peer.send(ok(heard) + chunk(_delta(role="assistant", content="")))
        for number in range(MANY):
            more = {"usage": _usage((number + 1) * used // MANY)} if midway else {}
            choice = {"index": 0, "delta": {"content": WORD}, "finish_reason": None}
            await peer.send(chunk(_chunk([choice], **more)))
            peer.content()
            if number % CHUNK == 0:
                await peer.pause(0.001)
        await peer.send(chunk(_delta("stop") + _chunk([], usage=_usage(used))) + chunk(b"data: [DONE]\n\n") + LAST)

    return talks


async def _talk_as_messages(peer: Peer, heard: Heard, used: int) -> None:
    message: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 400, "output_tokens": 1}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    await peer.send(ok(heard) + chunk(event({"type": "message_start", "message": message}) + event(block)))
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORD}}
    for number in range(MANY):
        await peer.send(chunk(event(delta)))
        if number % CHUNK == 0:
            await peer.pause(0.001)
    ending = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
    ending["usage"] = {"output_tokens": used}
    last = event({"type": "content_block_stop", "index": 0}) + event(ending) + event({"type": "message_stop"})
    await peer.send(chunk(last) + LAST)


def _usage(used: int) -> dict[str, int]:
    return {"prompt_tokens": 9, "completion_tokens": used, "total_tokens": 9 + used}


@contextlib.asynccontextmanager
async def site(folder: Path, bad: Provider, good: Provider, *, day_usd: str, **talk: Any) -> AsyncIterator[Site]:
    bad.plays = PLAYS | {"talks": talker(**talk)}
    bad.otherwise = "talks"
    text = config(
        f"http://127.0.0.1:{bad.port}",
        f"http://127.0.0.1:{good.port}",
        more=PAGE.replace("DAY", day_usd),
        lines=PATIENT,
    )
    async with gateway_at(folder, text, bad, good) as one:
        one.key = one.gateway.keys.create(Grant(feature="f"), time.time_ns()).key
        yield one


def state(one: Site) -> tuple[int, int]:
    """What is spent and held."""
    (found,) = one.gateway.reservations.budgets.states(time.time_ns())
    return found.spent_nano_usd, found.held_nano_usd


async def pushed(one: Site, dialect: str = "chat") -> Answer:
    """A call over HTTP, whose chunks the provider pushes."""
    return await ask(one.server.port, _asked(one, dialect), dialect, stream=True)


def _asked(one: Site, dialect: str) -> bytes:
    told = [{"role": "user", "content": "hi"}]
    body = msgspec.json.encode({"model": dialect, "stream": True, "max_tokens": MOST, "messages": told}).decode()
    path = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}[dialect]
    head = f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nauthorization: Bearer {one.key}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


async def pulled(one: Site) -> Answer:
    """A call as a library makes it, chunk by chunk; said as an answer over HTTP."""
    content = Content((Message("user", (Text("hi"),)),))
    call = Call("chat", "chat", sampling=Sampling(max_tokens=MOST), stream=True, read=lambda: content, input_bound=60)
    answer = Answer("chat", stream=True)
    async with contextlib.aclosing(one.gateway.open(call, Who(feature="f"), Caller())) as opened:
        async for item in opened:
            for part in getattr(item, "events", ()):
                if isinstance(part, TextDelta):
                    answer.text += part.text
                if isinstance(part, Failed):
                    answer.errors.append({"code": part.error.code})
            answer.ended = not answer.errors
    return answer


def billed(words: int) -> int:
    """Tokens of so many words, where the vocabulary is not known."""
    return by_bytes(WORD.encode() * words)


@pytest.mark.parametrize("lane", [pushed, pulled])
@pytest.mark.parametrize("midway", [False, True])
async def test_a_stream_far_longer_than_max_tokens_is_held_for_as_it_grows_and_books_its_true_cost(
    tmp_path: Path, bad: Provider, good: Provider, lane: Any, *, midway: bool
) -> None:
    async with site(tmp_path, bad, good, day_usd="1", used=1400, midway=midway) as one:
        task = asyncio.create_task(lane(one))
        held = []
        while not task.done():
            held.append(state(one)[1])
            await asyncio.sleep(0)
        answer = await task
        await one.quiet()
        (receipt,) = one.receipts()
        grown = sorted({each for each in held if each})

        assert (answer.ended, answer.errors) == (True, [])
        assert answer.text == WORD * MANY
        cost = 9 * IN + 1400 * OUT
        assert (receipt.status, receipt.cost_nano_usd, receipt.cost_status) == ("ok", cost, "exact")
        assert state(one) == (cost, 0)
        assert len(grown) >= 3, "the hold did not grow step by step"
        assert grown[-1] >= cost * 7 // 8
        assert grown[-1] <= 2 * cost, "far more was held than the stream cost"
        print(f"\nheld: {[f'{each / 1e6:.2f}' for each in grown]} thousandths of a dollar; cost {cost / 1e6:.2f}")


@pytest.mark.parametrize("lane", [pushed, pulled])
@pytest.mark.parametrize("midway", [False, True])
async def test_a_stream_that_no_budget_has_room_for_ends_in_one_error_and_is_billed_by_what_passed(
    tmp_path: Path, bad: Provider, good: Provider, lane: Any, *, midway: bool
) -> None:
    limit = 1_000_000
    async with site(tmp_path, bad, good, day_usd="0.001", used=1350, midway=midway) as one:
        answer = await lane(one)
        await one.quiet()
        (receipt,) = one.receipts()
        spent, held = state(one)

        assert not answer.ended
        assert len(answer.errors) == 1
        assert answer.after_error == 0
        assert "budget_exhausted" in str(answer.errors[0])
        assert (receipt.status, receipt.http_status, receipt.error) == ("error", 402, "budget_exhausted")
        assert receipt.usage.source == ("provider" if midway else "estimated")
        words = len(answer.text) // len(WORD)
        low, high = (n * 1350 // MANY if midway else billed(n) for n in (words, words + CHUNK))
        assert low <= receipt.usage.output_tokens <= high, "one chunk was not passed on"
        assert receipt.cost_nano_usd == receipt.usage.input_tokens * IN + receipt.usage.output_tokens * OUT
        assert (spent, held) == (receipt.cost_nano_usd, 0)
        assert 0.75 * limit < spent <= limit
        for _ in range(1000):
            if bad.calls[0].closed_at is not None:
                break
            await asyncio.sleep(0.001)
        else:
            pytest.fail("the provider was not let go")
        print(f"\nspent {spent} of {limit}: {100 * spent / limit:.1f} %")


async def test_an_input_that_is_larger_than_its_bound_is_held_for_when_it_is_reported(
    tmp_path: Path, bad: Provider, good: Provider
) -> None:
    """The head of an Anthropic stream says 400 tokens for a prompt of two bytes; the rest is an estimate from there on."""
    async with site(tmp_path, bad, good, day_usd="0.0008", used=1350) as one:
        answer = await pushed(one, "messages")
        await one.quiet()
        (receipt,) = one.receipts()

        assert len(answer.errors) == 1
        assert (receipt.usage.input_tokens, receipt.usage.source) == (400, "estimated")
        words = len(answer.text) // len(WORD)
        assert 1 + billed(words) <= receipt.usage.output_tokens <= 1 + billed(words + CHUNK)
        assert state(one) == (receipt.cost_nano_usd, 0)
        assert receipt.cost_nano_usd <= 800_000


async def test_a_stream_whose_caller_left_and_that_is_read_on_stops_at_the_wall_too(
    tmp_path: Path, bad: Provider, good: Provider
) -> None:
    bad.plays = PLAYS | {"talks": talker(used=1350)}
    bad.otherwise = "talks"
    text = config(
        *(f"http://127.0.0.1:{bad.port}", f"http://127.0.0.1:{good.port}"),
        more=PAGE.replace("DAY", "0.001"),
        lines=PATIENT + 'on_disconnect = "drain"\n',
    )
    async with gateway_at(tmp_path, text, bad, good) as one:
        one.key = one.gateway.keys.create(Grant(feature="f"), time.time_ns()).key
        reader, writer = await asyncio.open_connection("127.0.0.1", one.server.port)
        writer.write(_asked(one, "chat"))
        await reader.readuntil(WORD.encode())
        writer.transport.abort()
        await one.quiet(5)
        (receipt,) = one.receipts()

        assert (receipt.status, receipt.usage.source) == ("cancelled", "estimated")
        assert 750_000 < (receipt.cost_nano_usd or 0) <= 1_000_000
        assert state(one) == (receipt.cost_nano_usd, 0)


async def test_a_bill_beyond_all_that_passed_is_booked_whole_and_told_once(
    tmp_path: Path, bad: Provider, good: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    """Thoughts that never show: nothing can be held for them, so the books are right and the log says that a bound was not."""
    async with site(tmp_path, bad, good, day_usd="0.1", used=40_000) as one:
        await pushed(one)
        await pushed(one)
        await one.quiet()
        first, second = one.receipts()
        third = await pushed(one)

        assert first.cost_nano_usd == second.cost_nano_usd == 9 * IN + 40_000 * OUT
        assert state(one) == (2 * 80_009_000, 0), "more than the limit, since that is what was spent"
        assert third.status == 402
    told = [record.message for record in caplog.records if "more than the" in record.message]
    assert len(told) == 1
    assert f"call {first.id} to bad-chat/x cost 0.080009 USD" in told[0]

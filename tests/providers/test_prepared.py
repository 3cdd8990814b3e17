"""A call that can be sent this moment: what becomes of it is told at once, or left to who has a task."""

import asyncio

import msgspec
import pytest
from tests.providers.test_http import (
    BODY,
    CHAT,
    DONE,
    HELLO,
    REPLY,
    STOP,
    STREAMED,
    TARGET,
    USAGE,
    provider,
)
from tests.providers.upstream import stream, upstream, whole

from penstock.errors import DeadlineExceeded, UpstreamError
from penstock.settings import Secret


class Waiting:
    """Waits for a reply without a task."""

    def __init__(self):
        self.told = asyncio.Event()

    def done(self):
        return self.told.is_set()

    def cancelled(self):
        return False

    def set_result(self, _):
        self.told.set()


@pytest.fixture
async def used():
    """A provider with a connection that waits for a request, and what it talks to."""
    async with upstream(whole(REPLY)) as one:
        box = provider(one)
        deadline = asyncio.get_running_loop().time() + 5.0
        await box.send(CHAT.read_request(BODY), TARGET, deadline)
        yield box, one, deadline
        await box.close()


async def test_a_call_that_was_prepared_goes_out_as_any_other_and_brings_its_answer(used):
    box, one, deadline = used
    prepared, told = box.prepare(CHAT.read_request(BODY), TARGET), Waiting()
    assert prepared.leave(deadline, told)
    await asyncio.wait_for(told.told.wait(), 5)
    assert one.requests[0] == one.requests[1]
    exchange = prepared.answer()
    assert (exchange.lane, exchange.take().raw, exchange.take()) == ("verbatim", REPLY, None)
    assert prepared.tell() == CHAT.tell(REPLY)
    assert (prepared.lane, prepared.dropped, prepared.status) == ("verbatim", (), 200)
    assert await prepared.read() is None
    prepared.close()


async def test_a_call_whose_connection_was_taken_meanwhile_is_sent_as_any_other(used):
    box, one, deadline = used
    first, second = (box.prepare(CHAT.read_request(BODY), TARGET) for _ in range(2))
    assert first.leave(deadline, Waiting())
    assert not second.leave(deadline, Waiting())
    exchange = await second.arrived(deadline)
    assert (await exchange.read()).raw == REPLY
    assert len(one.requests) == 3


async def test_a_call_whose_time_is_over_before_it_leaves_says_so(used):
    box, _, _ = used
    prepared = box.prepare(CHAT.read_request(BODY), TARGET)
    over = asyncio.get_running_loop().time() - 1
    assert not prepared.leave(over, Waiting())
    with pytest.raises(DeadlineExceeded):
        await prepared.arrived(over)


async def test_what_has_to_wait_or_to_be_written_otherwise_is_not_prepared(used):
    box, one, deadline = used
    mute = provider(one, stream_usage=False)
    await mute.send(CHAT.read_request(BODY), TARGET, deadline)
    assert mute.prepare(CHAT.read_request(STREAMED), TARGET) is None
    assert mute.prepare(CHAT.read_request(BODY), TARGET) is not None
    await mute.close()
    await box.close()
    assert box.prepare(CHAT.read_request(BODY), TARGET) is None, "no connection waits"
    behind = provider(one, proxy_environ=(("http_proxy", Secret(one.url.removesuffix("/v1"), "env:http_proxy")),))
    await behind.send(CHAT.read_request(BODY), TARGET, deadline)
    assert one.head.startswith(b"POST http://"), "a proxy is told where to"
    assert behind.prepare(CHAT.read_request(BODY), TARGET) is None
    await behind.close()


async def test_a_stream_goes_out_as_any_other_and_may_last_as_long_as_its_call_once_it_has_begun():
    frames = (HELLO, 0.15, STOP, USAGE, DONE)
    async with upstream(whole(REPLY), [*stream(*frames)], [*stream(*frames)]) as one:
        box, call, now = provider(one), CHAT.read_request(STREAMED), asyncio.get_running_loop().time
        await box.send(CHAT.read_request(BODY), TARGET, now() + 5)
        prepared = await answered(box, now() + 0.1, STREAMED)  # by then it has to begin, and not more
        assert prepared.answer() is None, "it is for whoever has a task"
        exchange = await prepared.arrived(now() + 5)
        told = await rest_of(exchange)
        other = await box.send(call, TARGET, now() + 5)
        assert one.requests[1] == one.requests[2]
        assert told == await rest_of(other)
        assert told.endswith(DONE)
        assert (exchange.lane, exchange.dropped, exchange.headers) == (other.lane, other.dropped, other.headers)
        await box.close()


async def test_one_piece_instead_of_a_stream_is_told_to_nobody_and_written_as_a_stream():
    async with upstream(whole(REPLY), whole(REPLY)) as one:
        box, deadline = provider(one), asyncio.get_running_loop().time() + 5
        await box.send(CHAT.read_request(BODY), TARGET, deadline)
        prepared = await answered(box, deadline, STREAMED)
        assert (prepared.tell(), prepared.answer()) == (None, None)
        exchange = await prepared.arrived(deadline)
        assert exchange.lane == "translated"
        assert (await exchange.read()).raw is None
        await box.close()


async def rest_of(exchange):
    raw = b""
    while (chunk := await exchange.read()) is not None:
        raw += chunk.raw
    exchange.close()
    return raw


async def answered(box, deadline, body=BODY):
    """Prepare a call, send it and wait for what comes."""
    prepared, waiting = box.prepare(CHAT.read_request(body), TARGET), Waiting()
    assert prepared.tell() is None, "nothing was asked yet"
    assert prepared.leave(deadline, waiting)
    assert prepared.tell() is None, "nothing has come yet"
    await asyncio.wait_for(waiting.told.wait(), 5)
    return prepared


UNUSUAL = msgspec.json.encode(msgspec.json.decode(REPLY) | {"usage": None})


@pytest.mark.parametrize(
    ("came", "is_whole"),
    [
        (whole(UNUSUAL), True),
        (whole(b"{}"), True),
        (whole(b'{"error":{"message":"no"}}', "500 Failed"), False),
        (whole(REPLY, "201 Created"), False),
        (stream(b"data: {}\n\n"), False),
    ],
)
async def test_only_a_whole_answer_of_which_nothing_is_unusual_is_told(came, is_whole):
    async with upstream(whole(REPLY), came) as one:
        box = provider(one)
        deadline = asyncio.get_running_loop().time() + 5.0
        await box.send(CHAT.read_request(BODY), TARGET, deadline)
        prepared = await answered(box, deadline)
        assert prepared.tell() is None
        assert (prepared.answer() is not None) is is_whole
        if not is_whole:
            with pytest.raises(UpstreamError):
                await (await prepared.arrived(deadline)).read()
        await box.close()


@pytest.mark.parametrize(("header", "passed"), [("", ()), ("x-request-id: r1\r\n", ((b"x-request-id", b"r1"),))])
async def test_what_is_passed_on_of_the_head_is_that_of_any_exchange(header, passed):
    async with upstream(whole(REPLY), whole(REPLY, headers=header), whole(REPLY, headers=header)) as one:
        box = provider(one)
        deadline = asyncio.get_running_loop().time() + 5.0
        await box.send(CHAT.read_request(BODY), TARGET, deadline)
        for _ in range(2):
            prepared = await answered(box, deadline)
            assert prepared.tell() is not None
            assert prepared.headers == prepared.answer().headers == passed
        await box.close()

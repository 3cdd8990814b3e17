"""The provider of these tests itself: what it plays, and what it notes of its callers. No gateway takes part."""

import asyncio

import pytest
from tests.faults.client import request
from tests.faults.conftest import PROVIDER_KEY, leaks
from tests.faults.faults import FAULTS, PLAYS


async def call(one, prompt="hello", *, stream=False):
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write(request("chat", "m", prompt, stream=stream))
    return reader, writer


async def status_of(one, prompt="hello"):
    reader, writer = await call(one, prompt)
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])


async def test_a_mark_goes_before_the_queue_and_the_queue_before_the_rest(bad):
    bad.queue.extend(["status_503", "status_404"])
    bad.otherwise = "status_529"

    statuses = [await status_of(bad, prompt) for prompt in ("fault=status_500", "hello", "hello", "hello")]
    assert statuses == [500, 503, 404, 529]
    assert [heard.fault for heard in bad.calls] == ["status_500", "status_503", "status_404", "status_529"]
    assert bad.count == 4


@pytest.mark.parametrize("stream", [False, True])
async def test_it_notes_when_its_caller_closed(bad, stream):
    reader, writer = await call(
        bad, "fault=stall_after_content" if stream else "fault=stall_before_head", stream=stream
    )
    if stream:
        assert b"200 OK" in await reader.readline()
    await asyncio.sleep(0.05)
    (heard,) = bad.calls
    assert (heard.stream, heard.closed_at, bad.in_flight) == (stream, None, 1)
    assert (heard.content_at is not None) is stream

    loop = asyncio.get_running_loop()
    closed_at = loop.time()
    writer.transport.abort()
    for _ in range(100):
        if heard.closed_at is not None:
            break
        await asyncio.sleep(0.005)
    assert closed_at <= heard.closed_at <= loop.time()
    assert heard.at < heard.closed_at


async def test_one_who_was_answered_has_not_hung_up(bad):
    reader, writer = await call(bad)
    await reader.readuntil(b"}]")
    await asyncio.sleep(0.01)
    writer.close()
    await asyncio.sleep(0.01)
    assert [heard.closed_at for heard in bad.calls] == [None]
    assert (bad.in_flight, bad.most_in_flight) == (0, 1)


async def test_a_latency_and_a_pace_are_kept(bad):
    bad.latency_s, bad.pace_s = 0.03, 0.01
    loop = asyncio.get_running_loop()
    began = loop.time()
    reader, writer = await call(bad, stream=True)
    await reader.readuntil(b"[DONE]")
    writer.close()
    assert loop.time() - began >= 0.03 + 5 * 0.01


def test_every_fault_can_be_met_by_some_call_and_says_how_it_ends():
    assert set(PLAYS) == {"answer", *FAULTS}
    for name, fault in FAULTS.items():
        assert fault.name == name
        assert fault.streamed or fault.whole, name
        assert fault.play.__name__ == name


@pytest.mark.parametrize(
    "shown",
    [
        PROVIDER_KEY,
        PROVIDER_KEY[5:17],
        PROVIDER_KEY.encode().hex(),
        PROVIDER_KEY.replace("/", "\\/"),
        "c2stY2FuYXJ5LVpxNy92WDIrd0s5PXBMcjRfdFliOA==",
        "sk-canary-Zq7%2FvX2%2BwK9%3DpLr4_tYb8",
    ],
)
def test_a_key_is_found_in_any_form(shown):
    assert leaks(PROVIDER_KEY, f"something {shown} else".encode())
    assert leaks(PROVIDER_KEY, b"something else") is None

"""Clients that hang up: at the provider the call ends within 100 ms, and what was reserved for it is free again.

Every way to be in the middle of a call, closed in both ways (FIN and RST), by clients of every dialect. After hundreds of
them each has exactly one receipt, no hold, slot or connection is left, and no provider is thought the worse of.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.faults.client import converse, request
from tests.faults.conftest import PATIENT, PROVIDER_KEY, WARM, Site, config, gateway_at, leaks
from tests.faults.faults import PLAYS, chunk, ok
from tests.faults.provider import Heard, Peer, Provider
from tests.faults.replies import INPUT_TOKENS, OUTPUT_TOKENS, stream

from penstock.ledger.keys import Grant

PROMPT_S = 0.1
"""How soon after its client the call has to end at the provider."""
AT_ONCE = 6
MANY = 30  # of each way: 300 in all
DIALECTS = ("chat", "messages", "responses")


async def begins_and_stalls(peer: Peer, heard: Heard) -> None:
    """The head and the beginning of a stream, without any content."""
    await peer.send(ok(heard) + chunk(stream(heard.dialect, "bad").start))
    await peer.stall()


async def goes_on(peer: Peer, heard: Heard) -> None:
    """A stream that does not end."""
    parts = stream(heard.dialect, "bad")
    await peer.send(ok(heard) + chunk(parts.start))
    peer.content()
    while True:
        await peer.send(chunk(parts.words[0]))
        await peer.pause(0.01)


async def floods(peer: Peer, heard: Heard) -> None:
    """A stream that comes faster than its client reads."""
    parts = stream(heard.dialect, "bad")
    await peer.send(ok(heard) + chunk(parts.start))
    peer.content()
    while True:
        await peer.send(chunk(parts.words[0]) * 100)


class Way(NamedTuple):
    """Where in a call its client hangs up: what the provider does, whether it is a stream, whether content is there.

    A warm one comes on connections that were used before, and is begun without a task.
    """

    fault: str
    stream: bool
    content: bool = False
    warm: bool = False


WAYS = {
    "not_streamed": Way("stall_before_head", stream=False),
    "without_a_task": Way("stall_before_head", stream=False, warm=True),
    "before_the_head": Way("stall_before_head", stream=True),
    "before_the_content": Way("begins_and_stalls", stream=True),
    "after_content": Way("stall_after_content", stream=True, content=True),
    "while_it_flows": Way("goes_on", stream=True, content=True),
    "stream_without_a_task": Way("stall_before_head", stream=True, warm=True),
    "before_the_content_begun_without_a_task": Way("begins_and_stalls", stream=True, warm=True),
    "while_it_flows_begun_without_a_task": Way("goes_on", stream=True, content=True, warm=True),
}
OWN = {"begins_and_stalls": begins_and_stalls, "goes_on": goes_on, "floods": floods}

CONFIG = """[server]
queue_s = 30
[features.f]
budget_usd = { day = 1000 }
[teams.t]
concurrency = 12
[models.m]
targets = ["bad-chat/m"]
[models.chat]
targets = ["bad-chat/x"]
[models.messages]
targets = ["bad-messages/x"]
[models.responses]
targets = ["bad-responses/x"]
[prices."bad-chat/x"]
input = 1
output = 1
[prices."bad-messages/x"]
input = 1
output = 1
[prices."bad-responses/x"]
input = 1
output = 1
[prices."bad-chat/m"]
input = 1
output = 1
"""

CONFIG += "".join(f'[prices."bad-{dialect}/{WARM}"]\ninput = 0\noutput = 0\n' for dialect in DIALECTS)


@contextlib.asynccontextmanager
async def site(
    folder: Path, bad: Provider, good: Provider, *, lines: str = PATIENT, url: str = ""
) -> AsyncIterator[Site]:
    """A gateway whose team has room for no more calls than are made at once, and a budget that knows of every hold."""
    bad.plays = PLAYS | OWN
    text = config(url or f"http://127.0.0.1:{bad.port}", f"http://127.0.0.1:{good.port}", more=CONFIG, lines=lines)
    async with gateway_at(folder, text, bad, good) as one:
        one.key = one.gateway.keys.create(Grant(team="t"), time.time_ns()).key
        yield one


class Caller:
    """A client that makes one call and hangs up."""

    def __init__(self, one: Site, dialect: str, way: Way, *, model: str = "") -> None:
        self.data = request(
            dialect, model or dialect, f"fault={way.fault}", stream=way.stream, key=one.key, x_penstock_feature="f"
        )
        self.before = one.warming(dialect, x_penstock_feature="f") if way.warm else []
        self.site = one
        self.closed_at = 0.0

    async def call(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.site.server.port)
        self.site.clients.append(self.writer)
        await converse(self.reader, self.writer, self.before)
        self.writer.write(self.data)

    async def hear(self) -> None:
        """Wait for content."""
        seen = b""
        while b"bad-0" not in seen:
            piece = await self.reader.read(65_536)
            assert piece, seen
            seen += piece

    def hang_up(self, how: str) -> None:
        if how == "RST":
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        elif how == "half":
            self.writer.write_eof()
        else:
            self.writer.close()
        self.closed_at = asyncio.get_running_loop().time()


async def until(condition, within_s: float = 3.0) -> None:
    """Wait, tick by tick, until something has come true."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - anything may be waited for
            await asyncio.sleep(0.001)


async def hang_up_all(one: Site, callers: list[Caller], heard: list[Heard], how: str) -> None:
    """Hang up, and see each call end at its provider in time."""
    one.stolen.seconds = 0.0
    for caller in callers:
        caller.hang_up(how)
    with contextlib.suppress(TimeoutError):
        await until(lambda: all(call.closed_at for call in heard), 1.0)
    hung_up = max(caller.closed_at for caller in callers)
    late = [None if call.closed_at is None else call.closed_at - hung_up for call in heard]
    assert None not in late, f"{late.count(None)} of {len(late)} calls go on at the provider"
    assert max(late) <= PROMPT_S + one.stolen.seconds, f"{max(late) * 1000:.0f} ms after its client"


def nothing_is_held(one: Site, calls: int) -> None:
    """Every call has its one receipt, and no money is reserved any more."""
    receipts = one.receipts()
    assert len(receipts) == len({receipt.id for receipt in receipts}) == calls
    states = one.gateway.reservations.budgets.states(time.time_ns())
    assert states
    assert [state.held_nano_usd for state in states] == [0] * len(states)
    assert sum(receipt.cost_nano_usd for receipt in receipts) == states[0].spent_nano_usd


async def check(folder: Path, bad: Provider, good: Provider, name: str, how: str, times: int) -> None:
    """Let clients hang up, some at a time, and then see that the next one is answered as ever."""
    way = WAYS[name]
    async with site(folder, bad, good) as one:
        for place in range(0, times, AT_ONCE):
            before = bad.count
            number = min(AT_ONCE, times - place)
            callers = [Caller(one, DIALECTS[turn % 3], way) for turn in range(number)]
            await asyncio.gather(*(caller.call() for caller in callers))
            await until(lambda: bad.count == before + number)  # noqa: B023 - waited for at once
            if way.content:
                await asyncio.gather(*(caller.hear() for caller in callers))
            else:
                await asyncio.sleep(0.02)  # so that what the provider said has arrived
            await hang_up_all(one, callers, bad.calls[before:], how)
            for caller in callers:
                caller.writer.transport.abort()
            await one.quiet()
        assert bool(one.direct) is way.warm
        for receipt in one.receipts():
            assert (receipt.status, receipt.error, receipt.error_origin) == ("cancelled", "client_closed", "client")
            assert (receipt.http_status, len(receipt.tries)) == (499, 1)
            assert receipt.usage.source in {"counted", "estimated", "provider"}
            assert receipt.usage.input_tokens > 0
            assert (receipt.usage.output_tokens > 0) or not way.content
        nothing_is_held(one, times)
        for dialect in DIALECTS:
            answer = await one.ask(dialect, dialect=dialect, x_penstock_feature="f")
            assert (answer.status, answer.text.count("bad-")) == (200, 6)
        nothing_is_held(one, times + len(DIALECTS))
        assert good.count == 0


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_call_ends_at_its_provider_when_its_client_hangs_up(tmp_path, bad, good, way, how):
    await check(tmp_path, bad, good, way, how, AT_ONCE)


@pytest.mark.soak
@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("way", WAYS)
async def test_three_hundred_clients_hang_up(tmp_path, bad, good, way, how):
    await check(tmp_path, bad, good, way, how, MANY)


async def test_a_client_that_has_only_said_all_counts_as_gone(tmp_path, bad, good):
    """Who closes the sending side while a call is answered is nearly always gone for good, and nobody can tell."""
    async with site(tmp_path, bad, good) as one:
        caller = Caller(one, "chat", WAYS["not_streamed"])
        await caller.call()
        await until(lambda: bad.count)
        await hang_up_all(one, [caller], bad.calls, "half")
        caller.writer.transport.abort()


async def test_a_client_that_reads_nothing_and_hangs_up_ends_a_flood(tmp_path, bad, good):
    async with site(tmp_path, bad, good) as one:
        caller = Caller(one, "chat", Way("floods", stream=True))
        await caller.call()
        await until(lambda: bad.count)
        caller.writer.transport.pause_reading()
        await asyncio.sleep(0.3)
        caller.writer.transport.abort()
        caller.closed_at = asyncio.get_running_loop().time()
        await until(lambda: bad.calls[0].closed_at, 2.0)
        assert bad.calls[0].closed_at - caller.closed_at <= PROMPT_S + one.stolen.seconds
        await one.quiet()
        nothing_is_held(one, 1)


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_hangs_up_in_the_queue_never_reaches_the_provider(tmp_path, bad, good, streamed, how):
    async with site(tmp_path, bad, good, lines=f"{PATIENT}concurrency = 1\n") as one:
        first = Caller(one, "chat", WAYS["not_streamed"], model="m")
        await first.call()
        await until(lambda: bad.count == 1)
        waiting = [Caller(one, "chat", Way("answer", stream=streamed), model="m") for _ in range(4)]
        await asyncio.gather(*(caller.call() for caller in waiting))
        await until(lambda: one.gateway.in_flight == 5)
        for caller in waiting[:3]:
            caller.hang_up(how)
        await until(lambda: one.gateway.in_flight == 2, PROMPT_S + 0.4)
        assert bad.count == 1
        receipts = one.receipts()
        assert [receipt.status for receipt in receipts] == ["cancelled"] * 3
        assert [(receipt.cost_nano_usd, receipt.usage.source) for receipt in receipts] == [(0, "none")] * 3
        await hang_up_all(one, [first], bad.calls[:1], how)
        async with asyncio.timeout(3):
            assert b"200 OK" in await waiting[3].reader.read(100)  # whose turn it is now
        for caller in (first, *waiting):
            caller.writer.transport.abort()
        await one.quiet()
        assert bad.count == 2
        nothing_is_held(one, 5)


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_client_that_hangs_up_while_a_connection_is_made_pays_nothing(tmp_path, bad, good, how):
    """Whoever accepts and never shakes hands was asked nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"https://127.0.0.1:{listener.getsockname()[1]}"
        async with site(tmp_path, bad, good, url=where) as one:
            caller = Caller(one, "chat", WAYS["not_streamed"])
            await caller.call()
            await until(lambda: one.gateway.in_flight == 1)
            await asyncio.sleep(0.03)
            caller.hang_up(how)
            await until(lambda: one.gateway.in_flight == 0, 1.0)
            await one.quiet()
            (receipt,) = one.receipts()
            assert (receipt.status, receipt.usage.source, receipt.cost_nano_usd) == ("cancelled", "none", 0)
            nothing_is_held(one, 1)


async def test_a_client_that_leaves_between_two_tries_starts_no_further_one(tmp_path, bad, good):
    """It hangs up while the line waits before a retry."""
    lines = PATIENT.replace("retries = 0", "retries = 3")
    async with site(tmp_path, bad, good, lines=lines) as one:
        bad.plays |= {"later": PLAYS["status_429_in_seconds"]}
        caller = Caller(one, "chat", Way("later", stream=False))
        await caller.call()
        await until(lambda: bad.count == 1)
        await asyncio.sleep(0.05)
        caller.hang_up("RST")
        await until(lambda: one.gateway.in_flight == 0, 1.0)
        await one.quiet()
        assert bad.count == 1
        nothing_is_held(one, 1)


# -- a provider whose replies are read to their end --


async def finishes_later(peer: Peer, heard: Heard) -> None:
    """A whole answer, whose end comes after the client is gone."""
    await peer.pause(0.2)
    await PLAYS["answer"](peer, heard)


async def says_then_finishes(peer: Peer, heard: Heard) -> None:
    """A stream with content at once, and its end later."""
    parts = stream(heard.dialect, "bad")
    await peer.send(ok(heard) + chunk(parts.start) + chunk(parts.words[0]))
    await peer.pause(0.2)
    await peer.send(b"".join(map(chunk, [*parts.words[1:], parts.finish, parts.end])) + b"0\r\n\r\n")


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_provider_that_is_drained_is_billed_by_what_it_reports(tmp_path, bad, good, streamed, how):
    async with site(tmp_path, bad, good, lines=f'{PATIENT}on_disconnect = "drain"\n') as one:
        bad.plays |= {"finishes_later": finishes_later, "says_then_finishes": says_then_finishes}
        way = Way("says_then_finishes" if streamed else "finishes_later", stream=streamed)
        callers = [Caller(one, dialect, way) for dialect in DIALECTS]
        await asyncio.gather(*(caller.call() for caller in callers))
        await until(lambda: bad.count == 3)
        if streamed:
            await asyncio.gather(*(caller.hear() for caller in callers))
        for caller in callers:
            caller.hang_up(how)
        await one.quiet(3.0)
        assert [call.closed_at for call in bad.calls] == [None] * 3, "a call was closed that was to be read to its end"
        for receipt in one.receipts():
            assert (receipt.status, receipt.error) == ("cancelled", "client_closed")
            usage = receipt.usage
            assert (usage.source, usage.input_tokens, usage.output_tokens) == ("provider", INPUT_TOKENS, OUTPUT_TOKENS)
            assert receipt.cost_status == "exact"
        nothing_is_held(one, 3)
        assert leaks(PROVIDER_KEY, repr(one.receipts()).encode()) is None

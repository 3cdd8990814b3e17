"""Every way in which a stream can end leaves one row, with its usage, its cost as worked out by hand, and nothing held.

In all client dialects, through the real server, before a provider that does as it is told. `endings.py` has the ways.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.e2e.conftest import Served, end
from tests.faults.conftest import PROVIDER_KEY, Site, gateway_at
from tests.faults.faults import PLAYS as FAULTS
from tests.faults.provider import Provider
from tests.faults.replies import stream

from money.clients import DIALECTS, UPSTREAM, request
from money.endings import ENDINGS, IN, KILLED, OUT, PAGE, PLAYS, Calls, Ending, page, written
from penstock.ledger.idempotency import Replies
from penstock.ledger.keys import Grant
from penstock.ledger.store import FILE, Filter, Span, Store
from penstock.receipt import Receipt
from penstock.server.idempotency import Idempotency
from penstock.target import Profile
from penstock.tokens.count import count_text

LAST = "shut down while it was answered"


@contextlib.asynccontextmanager
async def site(folder: Path, bad: Provider, good: Provider) -> AsyncIterator[Site]:
    bad.plays = FAULTS | PLAYS
    text = page(f"http://127.0.0.1:{bad.port}", f"http://127.0.0.1:{good.port}")
    async with gateway_at(folder, text, bad, good) as one:
        one.key = one.gateway.keys.create(Grant(team="t"), time.time_ns()).key
        once = Idempotency(Replies(one.gateway.config.home, time.time_ns), 60)
        one.server.handler.once = once
        yield one
        await once.close(1.0)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_every_ending_leaves_one_receipt_with_its_usage_and_cost(
    tmp_path: Path, bad: Provider, good: Provider, dialect: str
) -> None:
    tokens("the vocabulary is there from here on, so that no deadline passes while it is loaded")
    async with site(tmp_path, bad, good) as one:
        ways = {ending.name: Calls(one, dialect, f"s{number}") for number, ending in enumerate(ENDINGS)}
        for timed in (False, True):  # a limit of time is for those who have the processor to themselves
            async with asyncio.TaskGroup() as group:
                for ending in ENDINGS:
                    if ending.name != LAST and timed is ending.name.startswith(("deadline", "silence")):
                        group.create_task(ending.run(ways[ending.name]))
        await one.quiet()
        (last,) = [ending for ending in ENDINGS if ending.name == LAST]
        call = asyncio.create_task(last.run(ways[LAST]))
        await asyncio.sleep(0.15)
        assert await one.server.drain(0.05) == 1
        await call
        await one.quiet()
        receipts = one.receipts()
        states = one.gateway.reservations.budgets.states(time.time_ns())

    plain = ways["finished, no usage reported"]
    template = of(receipts, plain.session)[0].usage.input_tokens - tokens(plain.prompt)
    assert 3 <= template <= 12, "what stands around a message"
    print(f"\n{dialect}:")
    for ending in ENDINGS:
        found = of(receipts, ways[ending.name].session)
        assert len(found) == 1, (ending.name, found)
        (receipt,) = found
        check(ending.billed(UPSTREAM.get(dialect, "chat")), receipt, template + tokens(ways[ending.name].prompt))
        usage, cost = receipt.usage, receipt.cost_nano_usd
        said = f"{usage.source} {usage.input_tokens} + {usage.output_tokens}"
        print(
            f"  {ending.name:62} {receipt.status:10} {receipt.error or '':18} {said:18} {cost:>8} {receipt.cost_status}"
        )
    leaders = of(receipts, "leader")
    assert [leader.usage.output_tokens for leader in leaders] == [6, 6, 6]
    assert len(receipts) == len(ENDINGS) + len(leaders)
    for state in states:
        kind, name = state.limit.scope.kind, state.limit.scope.name
        spent = sum(receipt.cost_nano_usd or 0 for receipt in receipts if getattr(receipt, kind) == name)
        assert (kind, name, state.spent_nano_usd, state.held_nano_usd) == (kind, name, spent, 0)
        assert 0 < spent <= state.limit.nano_usd


def of(receipts: list[Receipt], session: str) -> list[Receipt]:
    return [receipt for receipt in receipts if receipt.session == session]


def tokens(text: str) -> int:
    """By the vocabulary of the model that is asked."""
    return count_text(text, Profile("gpt-4o", tokenizer="o200k")).n


def check(ending: Ending, receipt: Receipt, prompt: int) -> None:
    """One row against the table, and its cost against the hand's."""
    wanted = (ending.status, ending.source, ending.cost_status)
    assert (receipt.status, receipt.usage.source, receipt.cost_status) == wanted, ending.name
    if ending.error != "*":
        assert receipt.error == ending.error, ending.name
    tries = [(prompt if into is None else into, out) for into, out in ending.tries]
    used = [(u.input_tokens, u.output_tokens) if (u := attempt.usage) else (0, 0) for attempt in receipt.tries]
    if ending.error == "budget_exhausted":
        ((into, out),) = used
        assert (into, out > 50) == (tries[0][0], True), "far more came than was asked for"
        assert receipt.cost_nano_usd == into * IN + out * OUT
        return
    assert used == tries, ending.name
    assert receipt.cost_nano_usd == sum(into * IN + out * OUT for into, out in tries), ending.name
    assert receipt.usage.output_tokens == sum(out for _, out in tries)


async def test_a_process_that_is_killed_leaves_a_row_for_every_stream(
    tmp_path: Path, bad: Provider, good: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row that nobody writes in time is written when the next process starts: it costs what was held."""
    monkeypatch.setenv("FAULT_KEY", PROVIDER_KEY)
    gateway = Served(tmp_path, page(f"http://127.0.0.1:{bad.port}", f"http://127.0.0.1:{good.port}"))
    writers = []
    try:
        await asyncio.to_thread(gateway.start)
        for dialect in DIALECTS:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writers.append(writer)
            model = f"{UPSTREAM.get(dialect, 'chat')}-s0"
            prompt = "fault=stall_after_content"
            named = {"x_penstock_session": dialect, "x_penstock_feature": "f"}
            writer.write(request(dialect, model, prompt, **named))
            await reader.readuntil(b"bad-1")
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(gateway.command, "calls")
    finally:
        for writer in writers:
            writer.transport.abort()
        end(gateway.process)
    with contextlib.closing(Store.open(gateway.home / FILE)) as store:
        receipts = store.calls(Filter(Span(0, 2**62)), 100)
    assert sorted(receipt.session or "" for receipt in receipts) == sorted(DIALECTS)
    _, status, error, source, cost_status = KILLED
    for receipt in receipts:
        found = (receipt.status, receipt.error, receipt.usage.source, receipt.cost_status)
        assert found == (status, error, source, cost_status)
        above = (receipt.cost_nano_usd or 0) - 50 * OUT - 256 * IN
        assert 25 * IN <= above <= 200 * IN, "the hold: 50 tokens out, 256 for a template, and the prompt's bytes"


def test_the_page_has_the_table_of_endings() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "<!-- endings -->" in text
    assert written(text) == text, "python tests/money/endings.py writes it"
    assert stream("chat", "bad").words, "the provider has words"

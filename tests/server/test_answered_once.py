"""Requests with an idempotency-key over real sockets: one call, one receipt, the same bytes."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from tests.server.test_app import ANSWER, DONE, HELLO, STOP, STREAM, USAGE, chat, request, stream, whole
from tests.server.test_app import site as plain

from penstock.ledger.idempotency import Replies
from penstock.server.idempotency import Idempotency

PIECES = list(stream(HELLO, STOP, USAGE, DONE))
HALVES = [*PIECES[:2], 0.1, *PIECES[2:]]


@asynccontextmanager
async def site(*arguments):
    """A server that answers once what has a key."""
    async with plain(*arguments) as one:
        once = Idempotency(Replies(one.gateway.config.home, time.time_ns), 60)
        one.app.once = once
        try:
            yield one
        finally:
            await once.close(1.0)


@pytest.mark.parametrize("streamed", [False, True])
async def test_many_at_once_get_the_bytes_of_one_call(tmp_path, streamed):
    async with site(tmp_path, *(STREAM if streamed else ANSWER)) as one:
        asked = [one.ask(chat(stream=streamed, idempotency_key="k")) for _ in range(20)]
        replies = await asyncio.gather(*asked)
        other = await one.ask(chat(stream=streamed, idempotency_key="k", body=b'{"model":"fast","messages":[]}'))

        assert len({reply.body for reply in replies}) == 1
        assert len({reply.header(b"x-penstock-call") for reply in replies}) == 1
        assert sorted(reply.header(b"idempotent-replayed") or b"" for reply in replies) == [b"", *[b"true"] * 19]
        assert len(one.there.requests) == 1
        assert one.receipt.status == "ok"
        assert other.status == 422


async def test_a_client_that_hung_up_finds_its_answer(tmp_path):
    async with site(tmp_path, HALVES) as one:
        client = await one.client()
        await client.send(chat(stream=True, idempotency_key="k"))
        await client.reader.readuntil(b"Hello")
        client.hang_up()
        reply = await one.ask(chat(stream=True, idempotency_key="k"))

        assert reply.body == HELLO + STOP + DONE
        assert reply.header(b"idempotent-replayed") == b"true"
        assert (one.receipt.status, len(one.there.requests)) == ("ok", 1)


async def test_what_was_not_answered_is_tried_again(tmp_path):
    async with site(tmp_path, whole(b"{}", "500 No"), *ANSWER) as one:
        statuses = [(await one.ask(chat(idempotency_key="k"))).status for _ in range(3)]

        assert statuses == [502, 200, 200]
        assert len(one.receipts()) == 2


async def test_a_stream_that_broke_is_not_given_again(tmp_path):
    cut = [*list(stream(HELLO, end=False)), None]
    async with site(tmp_path, cut, *STREAM) as one:
        await one.ask(chat(stream=True, idempotency_key="k"))
        again = await one.ask(chat(stream=True, idempotency_key="k"))

        assert again.body == HELLO + STOP + DONE
        assert again.header(b"idempotent-replayed") is None


@pytest.mark.parametrize("path", ["/v1/messages", "/api/chat", "/model/m/converse", "/v1beta/models/m:generateContent"])
async def test_a_key_that_is_none_is_refused_in_each_dialect(tmp_path, path):
    async with site(tmp_path, *ANSWER) as one:
        reply = await one.ask(request("POST", path, b"{}", idempotency_key="x" * 300))

        assert reply.status == 400
        assert b"idempotency-key" in reply.body
        assert one.receipts() == []

"""A disk that fills up while many calls come at once: none reaches its provider, each is refused and costs nothing."""

import asyncio
import errno
import os

import msgspec
import pytest
from tests.faults.client import converse, request
from tests.faults.conftest import config, gateway_at
from tests.server.conftest import Replies

from penstock.ledger.recording import Recording

MANY = 12


class Filling:
    """The write of a journal, of which the next ones may fail, at once or after some bytes."""

    def __init__(self, journal):
        self.real, self.full, self.room, self.sizes = journal._write, False, 0, []
        journal._write = self.write

    def write(self, fd, data):
        self.sizes.append(len(data))
        if not self.full:
            return self.real(fd, data)
        part, self.room = data[: self.room], 0
        if part:
            return self.real(fd, part)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def answer(reader, data):
    replies = Replies([])
    while not (replies.found and replies.found[-1].complete):
        replies.feed(await reader.read(65_536))
    return replies.found[0]


async def until(condition):
    async with asyncio.timeout(3):
        while not condition():  # noqa: ASYNC110 - of many kinds
            await asyncio.sleep(0.002)


@pytest.fixture
def late(monkeypatch):
    """How many intents waited for the end of their turn."""
    waited, real = [], Recording.intend

    def intend(self, intent, *, soon=False):
        real(self, intent, soon=soon)
        if intent.id in self._opening:
            waited.append(intent.id)

    monkeypatch.setattr(Recording, "intend", intend)
    return waited


@pytest.mark.parametrize("room", [0, 700])
async def test_calls_that_come_together_when_the_disk_is_full_reach_no_provider(tmp_path, bad, good, late, room):
    text = config(f"http://127.0.0.1:{bad.port}", f"http://127.0.0.1:{good.port}")
    async with gateway_at(tmp_path, text, bad, good) as one:
        opened = [await asyncio.open_connection("127.0.0.1", one.server.port) for _ in range(MANY)]
        one.clients += [writer for _, writer in opened]
        for _ in range(2):  # now each has a connection of its own to the provider
            warm = request("chat", "bad-chat/warm", "fault=answer", stream=False)
            await asyncio.gather(*(converse(*both, [warm, warm]) for both in opened))
        filling, journal = Filling(one.gateway.ledger._journal), one.gateway.ledger._journal
        before, size = bad.count, journal.written
        late.clear()

        async def all_at_once():
            data = request("chat", "bad-chat/m", "fault=answer", stream=False)
            for _, writer in opened:
                writer.write(data)
            return await asyncio.gather(*(answer(reader, data) for reader, _ in opened))

        _, held = await asyncio.open_connection("127.0.0.1", one.server.port)
        one.clients.append(held)
        held.write(request("chat", "bad-chat/m", "fault=stall_before_head", stream=False))
        await until(lambda: bad.count == before + 1)
        before, size, filling.full, filling.room = bad.count, journal.written, True, room
        replies = await all_at_once()
        refused = [reply for reply in replies if reply.status == 503]
        assert len(late) > MANY // 2, "most of them waited for the end of a turn"
        assert len(refused) == MANY if not room else 0 < len(refused) < MANY
        assert bad.count - before == MANY - len(refused)
        assert (journal.written > size) is bool(room)
        for reply in refused:
            error = msgspec.json.decode(reply.body)["error"]
            assert "The ledger cannot be written: No space left on device" in error["message"]
            assert dict(reply.headers)[b"retry-after"] == b"5"
        assert one.gateway.ledger.state.refused >= len(refused)
        filling.full = False
        assert [reply.status for reply in await all_at_once()] == [200] * MANY
        held.transport.abort()
        await until(lambda: not one.gateway.in_flight)
        receipts = {receipt.id: receipt for receipt in one.receipts()}
        assert len(receipts) == 2 * MANY + 1
        for reply in refused:
            receipt = receipts[dict(reply.headers)[b"x-penstock-call"].decode()]
            assert (receipt.http_status, receipt.error, receipt.cost_nano_usd) == (503, "overloaded", 0)
            assert receipt.usage.source == "none"


async def test_calls_that_come_together_are_written_together(tmp_path, bad, good, late):
    text = config(f"http://127.0.0.1:{bad.port}", f"http://127.0.0.1:{good.port}")
    async with gateway_at(tmp_path, text, bad, good) as one:
        opened = [await asyncio.open_connection("127.0.0.1", one.server.port) for _ in range(MANY)]
        one.clients += [writer for _, writer in opened]
        warm = request("chat", "bad-chat/warm", "fault=answer", stream=False)
        for _ in range(2):
            await asyncio.gather(*(converse(*both, [warm, warm]) for both in opened))
        filling = Filling(one.gateway.ledger._journal)
        for _, writer in opened:
            writer.write(warm)
        await asyncio.gather(*(answer(reader, warm) for reader, _ in opened))
        assert len(filling.sizes) < 2 * MANY * 3 // 4

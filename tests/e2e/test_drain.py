"""A server that is told to end: whoever has begun is served, whoever watches readiness goes elsewhere, nobody fails."""

import asyncio
import signal
import time

import pytest
from tests.e2e.load import Caller, Load, Site, once, running, until

STREAMS = 50
CALLS = 2000


async def exited(site, seconds=20):
    return await asyncio.to_thread(site.process.wait, seconds)


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "two workers"])
async def test_a_signal_breaks_none_of_50_streams_and_turns_readiness_off_at_once(tmp_path, options):
    with running(Site(tmp_path, *options)) as site:
        watchers = [Caller(site.port) for _ in range(8)]  # so many that every worker has one
        for watcher in watchers:
            assert (await watcher.ask("/readyz")).status == 200
        streams = [asyncio.create_task(once(site.port, "long", stream=True)) for _ in range(STREAMS)]
        await asyncio.sleep(0.3)

        site.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        await asyncio.sleep(0.05)
        told = await asyncio.gather(*(watcher.ask("/readyz") for watcher in watchers))
        off_s = time.monotonic() - began
        late = await once(site.port)  # came by before it could know
        replies = await asyncio.gather(*streams)
        code = await exited(site)
        receipts = site.receipts()

    print(
        f"\nreadiness was off after {off_s * 1000:.0f} ms at the latest, {len(replies)} of {STREAMS} streams ended well"
    )
    assert [reply.status for reply in told] == [503] * 8
    assert off_s < 0.1 + 0.05  # the moment that was waited for is not the server's
    assert all(reply.headers["connection"] == "close" for reply in (*told, late))
    assert all(b"twelve" in reply.body for reply in replies)
    assert code == 0
    assert [receipt["status"] for receipt in receipts] == ["ok"] * (STREAMS + 1)


class Balanced:
    """What stands before two servers: it asks each for its readiness, and uses those that are ready."""

    def __init__(self, *sites):
        self.sites = sites
        self.ready = {site.port: True for site in sites}
        self.done, self.failed, self.used, self.restarted = 0, [], set(), False
        self.tasks = [asyncio.create_task(self.watch(site.port)) for site in sites]

    async def watch(self, port):
        while True:
            caller = Caller(port)
            try:
                self.ready[port] = (await caller.ask("/readyz")).status == 200
            except (OSError, EOFError):
                self.ready[port] = False
            caller.close()
            await asyncio.sleep(0.02)

    async def call(self):
        callers = {site.port: Caller(site.port) for site in self.sites}
        while not self.restarted or self.done < CALLS:
            ports = [port for port, ready in self.ready.items() if ready]
            if not ports:
                await asyncio.sleep(0.01)
                continue
            port = ports[self.done % len(ports)]
            self.used.add(port)
            try:
                await callers[port].chat()
                self.done += 1
            except (OSError, EOFError, AssertionError) as error:
                self.failed.append((port, error))
                callers[port].close()
            await asyncio.sleep(0.005)
        for caller in callers.values():
            caller.close()


async def test_a_rolling_restart_of_two_servers_fails_none_of_2000_calls(tmp_path):
    with running(Site(tmp_path / "a")) as one, running(Site(tmp_path / "b")) as other:
        balanced = Balanced(one, other)
        calls = [asyncio.create_task(balanced.call()) for _ in range(8)]
        for site in (one, other):
            await asyncio.sleep(0.3)
            before = balanced.done
            site.process.send_signal(signal.SIGTERM)
            assert await exited(site) == 0
            await asyncio.to_thread(site.start)
            await until(lambda port=site.port: balanced.ready[port])
            assert balanced.done > before, balanced.failed[:5]
        by_then, balanced.restarted = balanced.done, True
        await asyncio.gather(*calls)
        for task in balanced.tasks:
            task.cancel()
        receipts = len(one.receipts()) + len(other.receipts())

    print(f"\n{balanced.done} calls answered, {by_then} of them by the end of both restarts; failed: {balanced.failed}")
    assert balanced.failed == []
    assert balanced.done >= CALLS
    assert balanced.used == {one.port, other.port}
    assert receipts == balanced.done


async def test_a_client_that_never_asked_for_readiness_is_not_waited_for(tmp_path):
    with running(Site(tmp_path)) as site:
        load = Load(site.port)
        await asyncio.sleep(0.1)
        began = time.monotonic()
        site.process.send_signal(signal.SIGTERM)
        code = await exited(site)
        took_s = time.monotonic() - began
        await load.stop()

    assert code == 0
    assert took_s < 1.0

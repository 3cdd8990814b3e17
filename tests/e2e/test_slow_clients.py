"""500 clients that send and read as slowly as they can, beside ordinary traffic: all are closed in time, nobody else waits."""

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path

import pytest
from tests.e2e.load import Caller, Site, running, until

SLOW, DEAF = 500, 20
LIMIT_S = 10
BODY = json.dumps({"model": "fast", "messages": [{"role": "user", "content": "hi"}]}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100000\r\n"
KINDS = {
    "says nothing": (b"", b""),
    "half a head": (HEAD, b""),
    "a head that drips": (HEAD, b"x: y\r\n"),
    "half a body": (HEAD + b"\r\n" + BODY, b""),
    "a body that drips": (HEAD + b"\r\n", b" "),
    "chunks that drip": (
        HEAD.replace(b"content-length: 100000", b"transfer-encoding: chunked") + b"\r\n",
        b"1\r\n \r\n",
    ),
}


class SlowClient:
    """One that sends its beginning, then a little every second; notes how long it was borne, and what it was told."""

    def __init__(self, port, begin, drip):
        self.begin, self.drip, self.port = begin, drip, port
        self.closed_after_s, self.told = None, b""

    async def run(self):
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self.begin)
        dripping = asyncio.create_task(self.send(writer))
        with contextlib.suppress(ConnectionError):
            self.told = await asyncio.wait_for(reader.read(), 3 * LIMIT_S)
        self.closed_after_s = time.monotonic() - began
        dripping.cancel()
        writer.transport.abort()

    async def send(self, writer):
        while self.drip:
            await asyncio.sleep(1)
            writer.write(self.drip)


async def timed(caller, seconds):
    took_s = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        await caller.chat()
        took_s.append(time.monotonic() - began)
        await asyncio.sleep(0.01)
    return sorted(took_s)


async def test_500_slow_clients_are_closed_in_time_and_hold_nobody_up(tmp_path):
    with running(Site(tmp_path)) as site:
        caller = Caller(site.port)
        before = await timed(caller, 2)
        kinds = list(KINDS.values())
        slow = [SlowClient(site.port, *kinds[n % len(kinds)]) for n in range(SLOW)]
        tasks = [asyncio.create_task(one.run()) for one in slow]
        await asyncio.sleep(1)
        beside = await timed(caller, 6)
        await asyncio.gather(*tasks)
        after = await caller.chat()
        (health,) = (await caller.ask("/admin/v1/health")).json["workers"]
        caller.close()

    longest_s = max(one.closed_after_s for one in slow)
    p99_s = [took_s[int(len(took_s) * 0.99)] for took_s in (before, beside)]
    print(
        f"\n{SLOW} slow clients closed after {longest_s:.1f} s at most; ordinary calls: p99 {p99_s[0] * 1000:.1f} ms "
        f"before, {p99_s[1] * 1000:.1f} ms beside them"
    )
    assert longest_s <= LIMIT_S
    assert all(one.told.startswith(b"HTTP/1.1 408 ") for one in slow if one.begin)
    assert all(one.told == b"" for one in slow if not one.begin)
    assert p99_s[1] <= max(2 * p99_s[0], 0.05)  # the machine has others to serve
    assert after.status == 200
    assert health["connections"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
async def test_clients_that_do_not_read_their_answers_hold_nobody_up_and_cost_little_memory(tmp_path):
    site = Site(tmp_path)
    words = " ".join(["word"] * 6_000)
    rules = f'[[rules]]\ncontains = "flood"\ntext = "{words}"\n[[rules]]\ntext = "Hi."\n'
    (tmp_path / "replies.toml").write_text(rules)
    body = json.dumps({"model": "fast", "messages": [{"role": "user", "content": "flood"}], "stream": True}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(body)
    with running(site):
        caller = Caller(site.port)

        async def alone():
            return (await caller.ask("/admin/v1/health")).json["workers"][0]["connections"] == 1

        await caller.chat()
        size = len((await caller.chat("flood", stream=True)).body)
        deaf = [await asyncio.open_connection("127.0.0.1", site.port, limit=1024) for _ in range(DEAF)]
        before = resident(site.process.pid)
        for _, writer in deaf:
            writer.write((head + body) * 10)
        took_s = await timed(caller, 3)
        grown = resident(site.process.pid) - before
        for _, writer in deaf:
            writer.transport.abort()
        await until(alone)  # the server's end would wait for them
        caller.close()

    p50_s = took_s[len(took_s) // 2]
    print(
        f"\n{DEAF} clients that read nothing of {10 * DEAF} streams of {size / 2**20:.1f} MiB cost {grown / 2**20:.0f} MiB; "
        f"ordinary calls beside them: p50 {p50_s * 1000:.1f} ms"
    )
    assert size > 2**19
    assert grown < DEAF * 2**20
    assert p50_s < 0.5


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096

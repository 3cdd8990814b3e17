"""Callers for tests of a server under load: plain HTTP/1.1 on asyncio, strict about how a reply ends."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.conftest import Served, end, wait_for

PENSTOCK = Path(sys.executable).with_name("penstock")
SCRIPT = """
[[rules]]
contains = "long"
text = "one two three four five six seven eight nine ten eleven twelve"
chunk_ms = 60
[[rules]]
contains = "stuck"
fault = "stall"
[[rules]]
text = "Hello."
"""
CONFIG = """
[providers.fake]
kind = "scripted"
path = "replies.toml"
free = true
first_byte_s = 600
[models.fast]
targets = ["fake/m"]
"""


class Site(Served):
    """A server process with scripted replies, started with these options."""

    def __init__(self, folder, *options, config=CONFIG):
        folder.mkdir(exist_ok=True)
        (folder / "replies.toml").write_text(SCRIPT)
        super().__init__(folder, config)
        self.options = options

    def launch(self):
        with self.log.open("ab") as out:
            command = [PENSTOCK, "serve", "--port", str(self.port), *self.options]
            self.process = subprocess.Popen(command, env=self.environ, stdout=out, stderr=out)

    def start(self):
        self.launch()
        wait_for(f"{self.url}/healthz", self.process, self.log)
        wait_until(lambda: self.url in self.log.read_text())

    def run(self, *arguments):
        """Run `penstock ...` in the same home; give its exit code and what it printed."""
        done = subprocess.run(
            [PENSTOCK, *arguments], env=self.environ, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def receipts(self):
        done = self.command("calls", "--since", "2h", "--limit", "100000", "--json")
        return json.loads(done)["calls"]


@contextlib.contextmanager
def running(site):
    site.start()
    try:
        yield site
    finally:
        end(site.process)
    assert "Traceback" not in site.log.read_text()


def wait_until(holds, seconds=10):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.01)


async def until(holds, seconds=10):
    """Wait until something holds; `holds` may be a coroutine function."""
    async with asyncio.timeout(seconds):
        while not (await found if asyncio.iscoroutine(found := holds()) else found):  # noqa: ASYNC110 - the conditions are of many kinds
            await asyncio.sleep(0.01)


class Reply:
    """A complete reply."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Caller:
    """A client that keeps its connection for as long as the server does."""

    def __init__(self, port):
        self.port = port
        self.reader = self.writer = None

    async def ask(self, path, body=None, method=None):
        if self.reader is None or self.reader.at_eof():
            self.close()
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = b"" if body is None else json.dumps(body).encode()
        method = method or ("GET" if body is None else "POST")
        self.writer.write(
            f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data
        )
        head = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        if "content-length" in headers:
            got = await self.reader.readexactly(int(headers["content-length"]))
        else:
            got = b"".join([piece async for piece in self.chunks()])
        if headers.get("connection") == "close":
            self.close()
        return Reply(int(status.split()[1]), headers, got)

    async def chunks(self):
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)

    async def chat(self, prompt="hi", **options):
        body = {"model": "fast", "messages": [{"role": "user", "content": prompt}], **options}
        reply = await self.ask("/v1/chat/completions", body)
        assert reply.status == 200, reply.body
        assert reply.body.endswith(b"data: [DONE]\n\n" if options.get("stream") else b"}"), reply.body
        return reply

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def once(port, prompt="hi", **options):
    """Call on a connection of its own."""
    caller = Caller(port)
    try:
        return await caller.chat(prompt, **options)
    finally:
        caller.close()


class Load:
    """Callers that call one after another until they are told to stop; what went wrong is in `failed`."""

    def __init__(self, *ports, callers=6):
        self.stopped = False
        self.ids, self.failed, self.slowest_s = [], [], 0.0
        self.tasks = [asyncio.create_task(self.call(ports[n % len(ports)], n)) for n in range(callers)]

    async def call(self, port, number):
        caller = Caller(port)
        while not self.stopped:
            began = time.monotonic()
            try:
                async with asyncio.timeout(20):
                    reply = await caller.chat(stream=bool(number % 2))
                self.ids.append(reply.headers["x-penstock-call"])
            except (OSError, EOFError, AssertionError, TimeoutError) as error:
                self.failed.append(error)
                caller.close()
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        caller.close()

    async def stop(self):
        self.stopped = True
        await asyncio.gather(*self.tasks)

"""Measures what penstock does past capacity: an open-loop load at half, at once and at four times of what its provider takes.

`python bench/overload.py` starts a provider that takes a fixed time for each call, a penstock that knows how many calls at once
that provider takes, and sends calls at random moments, whether or not earlier ones are answered. It prints how much is still
served, how soon the rest is refused, how alive the gateway is meanwhile and how soon it is as before. Three processes; the
gateway has a core of its own where there are two. Exit codes: 0 every target met, 1 a target missed, 2 usage, 3 not measured.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import httptools
import load
import upstream
import uvloop
from processes import Fleet, Launch, StartFailed, environment, free_port

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_S = 5.0
PROBE_EVERY_S = 0.02
GOODPUT, REFUSAL_MS, HEALTH_MS, RECOVERY_S = 0.90, 50.0, 50.0, 5.0
"""The targets: share of the peak that is still served, p99 of refusals, p95 of /healthz, time to be as before."""

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"retry-after: *(\d+)", re.IGNORECASE)


# -- the provider --


class Slow(asyncio.Protocol):
    """One connection of the provider: every complete request is answered after the same time."""

    def __init__(self, latency_s: float, answer: bytes) -> None:
        self._latency_s, self._answer = latency_s, answer
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came; what is no HTTP ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.abort()

    def on_message_complete(self) -> None:
        """Answer later."""
        asyncio.get_running_loop().call_later(self._latency_s, self._send)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say nothing more."""
        del exc
        self._transport = None

    def _send(self) -> None:
        if self._transport is not None:
            self._transport.write(self._answer)


async def serve(port: int, latency_s: float) -> None:
    """Be the provider, until the process is ended."""
    body = upstream.plain_reply()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    answer = head.encode() + body
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Slow(latency_s, answer), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


# -- the load --


class Line(asyncio.Protocol):
    """One connection of a client, with one exchange at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[tuple[bytes, bool]] | None = None
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Gather the reply, which says how long it is."""
        self._seen += data
        head, found, body = self._seen.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if found else None
        if length is not None and len(body) >= int(length[1]):
            self._seen = b""
            self._end(head, alive=b"connection: close" not in head.lower())

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange without a reply."""
        del exc
        self._transport = None
        self._end(b"", alive=False)

    def _end(self, head: bytes, *, alive: bool) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result((head, alive))

    async def ask(self, request: bytes) -> tuple[bytes, bool]:
        """Send a request; give the head of its reply, and whether the connection can be used again."""
        if self._transport is None:
            return b"", False
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def close(self) -> None:
        """Let go of the connection."""
        if self._transport is not None:
            self._transport.abort()


@dataclass(frozen=True)
class Ask:
    """One call: when it arrived (seconds from the beginning), how it ended and how long that took."""

    at_s: float
    status: int
    took_s: float
    retry_after: bool


class Crowd:
    """Callers without end, each of whom asks once."""

    def __init__(self, port: int, request: bytes, seed: int) -> None:
        self.asked: list[Ask] = []
        self.began = time.perf_counter()
        self._port, self._request = port, request
        self._dice = random.Random(seed)
        self._free: list[Line] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def arrive(self, per_s: float, seconds: float) -> None:
        """Have calls arrive at random moments, so many a second on average; returns when the last one has arrived."""
        start = time.perf_counter()
        at = self._dice.expovariate(per_s)
        while at < seconds:
            wait_s = start + at - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            task = asyncio.get_running_loop().create_task(self._ask())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            at += self._dice.expovariate(per_s)

    async def finish(self) -> None:
        """Wait for every answer, and close."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))
        for line in self._free:
            line.close()

    async def _ask(self) -> None:
        began = time.perf_counter()
        line = self._free.pop() if self._free else await connect(self._port)
        head, alive = await line.ask(self._request) if line is not None else (b"", False)
        ended = time.perf_counter()
        if line is not None and alive:
            self._free.append(line)
        status = _STATUS.match(head)
        number = 0 if status is None else int(status[1])
        self.asked.append(Ask(began - self.began, number, ended - began, _RETRY_AFTER.search(head) is not None))


async def connect(port: int) -> Line | None:
    """Open a connection; None where it is refused."""
    try:
        _, line = await asyncio.get_running_loop().create_connection(Line, "127.0.0.1", port)
    except OSError:
        return None
    return line


async def probe(port: int, found: list[tuple[float, float]], began: float) -> None:
    """Ask again and again whether the gateway is alive; keep when and how long it took."""
    line = await connect(port)
    while line is not None:
        start = time.perf_counter()
        head, alive = await line.ask(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        found.append((start - began, time.perf_counter() - start if b" 200 " in head else float("inf")))
        if not alive:
            line = await connect(port)
        await asyncio.sleep(PROBE_EVERY_S)


# -- what came of it --


@dataclass(frozen=True)
class Found:
    """The figures of one run. Rates are calls a second, `share` is goodput at four times of capacity against the peak."""

    capacity_per_s: float
    peak_per_s: float
    goodput_per_s: float
    share: float
    calls: int
    served: int
    refused: int
    other: int
    without_retry_after: int
    refusal_p50_ms: float
    refusal_p99_ms: float
    served_p50_ms: float
    served_p99_ms: float
    health_p95_ms: float
    health_max_ms: float
    recovery_s: float

    def targets(self) -> list[tuple[str, bool]]:
        """Say what was wanted, and whether it is so."""
        return [
            (f"goodput at 4x of capacity at least {GOODPUT:.0%} of the peak", self.share >= GOODPUT),
            (f"refusals within {REFUSAL_MS:g} ms (p99)", self.refusal_p99_ms <= REFUSAL_MS),
            ("every refusal says when to come again", self.without_retry_after == 0),
            ("nothing but answers and refusals", self.other == 0),
            (f"/healthz within {HEALTH_MS:g} ms (p95)", self.health_p95_ms <= HEALTH_MS),
            (f"as before within {RECOVERY_S:g} s", self.recovery_s <= RECOVERY_S),
        ]


def quantile(values: list[float], part: float) -> float:
    """Give a quantile by rank; 0 where there is no value."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else 0.0


def rate(asked: list[Ask], start: float, end: float) -> float:
    """Count good answers that came within a span of time, a second."""
    return sum(one.status == 200 and start <= one.at_s + one.took_s < end for one in asked) / (end - start)


def evaluate(asked: list[Ask], health: list[tuple[float, float]], marks: list[float], wanted: "Wanted") -> Found:
    """Make figures of a run; `marks` are when its phases (calm, full, flood, calm again) began, and its end."""
    _, full, flood, after, _ = marks
    settle = min(1.0, wanted.seconds / 4)  # the queue fills, and rates are those of a steady state
    peak = rate(asked, full + settle, flood)
    good = rate(asked, flood + settle, after)
    flooded = [one for one in asked if flood <= one.at_s < after]
    refused = [one for one in flooded if one.status in {429, 503}]
    served = [one for one in flooded if one.status == 200]
    usual_s = 2 * wanted.latency_s + 0.05
    unusual = [
        one.at_s + one.took_s for one in asked if one.at_s >= after and (one.status != 200 or one.took_s > usual_s)
    ]
    took_ms = [one.took_s * 1000 for one in refused]
    alive_ms = [took * 1000 for at, took in health if flood <= at < after]
    return Found(
        capacity_per_s=wanted.capacity_per_s,
        peak_per_s=round(peak, 1),
        goodput_per_s=round(good, 1),
        share=round(good / peak, 3) if peak else 0.0,
        calls=len(flooded),
        served=len(served),
        refused=len(refused),
        other=len(flooded) - len(served) - len(refused),
        without_retry_after=sum(not one.retry_after for one in refused),
        refusal_p50_ms=round(quantile(took_ms, 0.5), 2),
        refusal_p99_ms=round(quantile(took_ms, 0.99), 2),
        served_p50_ms=round(quantile([one.took_s * 1000 for one in served], 0.5), 1),
        served_p99_ms=round(quantile([one.took_s * 1000 for one in served], 0.99), 1),
        health_p95_ms=round(quantile(alive_ms, 0.95), 2),
        health_max_ms=round(max(alive_ms, default=0.0), 2),
        recovery_s=round(max(unusual, default=after) - after, 2),
    )


def report(found: Found) -> str:
    """Write the figures as a table, with the targets."""
    lines = ["| figure | value |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {value:g} |" for name, value in asdict(found).items()]
    lines += ["", "| target | met |", "|---|---|"]
    lines += [f"| {name} | {'yes' if met else '**no**'} |" for name, met in found.targets()]
    return "\n".join(lines)


# -- the run --


@dataclass(frozen=True)
class Wanted:
    """The settings of a run."""

    places: int
    latency_s: float
    queue_s: float
    seconds: float
    times: float
    seed: int
    cores: tuple[int, int]

    @property
    def capacity_per_s(self) -> float:
        """What the provider can take."""
        return self.places / self.latency_s


async def run(port: int, wanted: Wanted) -> Found:
    """Carry out all phases."""
    body = load.chat_body("m")
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"x-penstock-deadline-ms: {DEADLINE_S * 1000:.0f}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    crowd = Crowd(port, head.encode() + body, wanted.seed)
    health: list[tuple[float, float]] = []
    probing = asyncio.create_task(probe(port, health, crowd.began))
    marks = []
    for share in (0.5, 1.2, wanted.times, 0.5):
        marks.append(time.perf_counter() - crowd.began)
        longer = 2.0 if len(marks) == 4 else 1.0  # to see it recover
        await crowd.arrive(share * wanted.capacity_per_s, wanted.seconds * longer)
    marks.append(time.perf_counter() - crowd.began)
    await crowd.finish()
    probing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await probing
    return evaluate(crowd.asked, health, marks, wanted)


def measure(wanted: Wanted, penstock: Path) -> Found:
    """Start the provider and the gateway, and load it from this process."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name, Fleet() as fleet:
        folder = Path(name)
        back, front = free_port(), free_port()
        gateway_core, load_core = wanted.cores
        argv = (
            sys.executable,
            str(Path(__file__)),
            "--provider",
            str(back),
            "--latency-ms",
            str(wanted.latency_s * 1000),
        )
        pid = fleet.start(Launch(argv, environment(folder), folder, load_core, folder / "provider.log"))
        fleet.wait_port(pid, back)
        (folder / "penstock.toml").write_text(configuration(back, wanted))
        env = environment(folder, PENSTOCK_HOME=str(folder / "home"), PENSTOCK_CONFIG=str(folder / "penstock.toml"))
        argv = (str(penstock), "serve", "--port", str(front))
        pid = fleet.start(Launch(argv, env, folder, gateway_core, folder / "penstock.log"))
        fleet.wait_port(pid, front)
        os.sched_setaffinity(0, {load_core})
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run(front, wanted))


def configuration(port: int, wanted: Wanted) -> str:
    """Write the gateway's configuration."""
    return f"""
[server]
queue_s = {wanted.queue_s}
[providers.box]
kind = "openai"
base_url = "http://127.0.0.1:{port}/v1"
free = true
concurrency = {wanted.places}
[models.m]
targets = ["box/mock-model"]
"""


def positive(make: Callable[[str], float]) -> Callable[[str], float]:
    """Read a number above zero."""

    def read(text: str) -> float:
        try:
            number = make(text)
        except ValueError:
            number = 0
        if number <= 0:
            raise argparse.ArgumentTypeError(f"{text} is not a number above zero")
        return number

    return read


def arguments(words: list[str]) -> argparse.Namespace:
    """Read the command line; ends the process with 2 and a hint on a mistake."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--places", type=positive(int), default=20, help="calls at once that the provider takes (20)")
    parser.add_argument("--latency-ms", type=positive(float), default=100.0, help="what it takes for each (100)")
    parser.add_argument(
        "--queue-s",
        type=positive(float),
        default=2.0,
        help="longest wait in the gateway (2, the default of the configuration)",
    )
    parser.add_argument("--seconds", type=positive(float), default=6.0, help="length of each phase (6)")
    parser.add_argument("--times", type=positive(float), default=4.0, help="the flood, in capacities (4)")
    parser.add_argument("--seed", type=int, help="draw the arrivals with this seed")
    parser.add_argument("--penstock", type=Path, default=ROOT / ".venv/bin/penstock", help="the command to measure")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--provider", type=int, metavar="PORT", help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main() -> int:
    chosen = arguments(sys.argv[1:])
    if chosen.provider is not None:
        uvloop.run(serve(chosen.provider, chosen.latency_ms / 1000))
        return 0
    if not hasattr(os, "sched_setaffinity"):
        print("this benchmark pins processes to cores: it runs on Linux only", file=sys.stderr)
        return 3
    usable = sorted(os.sched_getaffinity(0))
    seed = random.SystemRandom().randrange(2**32) if chosen.seed is None else chosen.seed
    wanted = Wanted(
        int(chosen.places),
        chosen.latency_ms / 1000,
        chosen.queue_s,
        chosen.seconds,
        chosen.times,
        seed,
        (usable[0], usable[-1]),
    )
    print(f"seed {seed}; gateway on core {usable[0]}, load and provider on core {usable[-1]}", file=sys.stderr)
    try:
        found = measure(wanted, chosen.penstock.absolute())
    except (StartFailed, OSError) as error:
        print(f"the run could not be carried out: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("stopped; every process of the run has been ended", file=sys.stderr)
        return 130
    print(json.dumps(asdict(found), indent=1) if chosen.json else report(found))
    return int(not all(met for _, met in found.targets()))


if __name__ == "__main__":
    sys.exit(main())

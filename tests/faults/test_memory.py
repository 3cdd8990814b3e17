"""What calls leave behind in memory: nothing, whether they are answered or fail in one of many ways.

The quick test counts Python's allocated blocks, which a single object that stays behind per call or per fault would show. The
long one (`make soak`) watches the resident memory of a real `penstock serve` over 100,000 calls, one in ten with a fault.
"""

import asyncio
import gc
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.faults.client import request
from tests.faults.conftest import PROVIDER_KEY, Site, config, gateway_at, model
from tests.faults.faults import PLAYS
from tests.faults.provider import provider

PENSTOCK = Path(sys.executable).with_name("penstock")
FAULTS = (
    *(
        "reset_before_head",
        "close_in_head",
        "status_500",
        "status_429_in_seconds",
        "malformed_json",
        "html_with_status_200",
    ),
    *(
        "body_cut_by_length",
        "reset_after_content",
        "no_end_mark",
        "error_event_after_content",
        "malformed_event_after_content",
    ),
    *(
        "duplicate_content_length",
        "no_usage",
        "error_event_before_content",
        "bytes_after_the_end",
        "bad_chunk_after_content",
    ),
)
"""Of those that take no time; the ones of streams and of whole answers, each met by its own kind of call."""
BOTH = ("reset_before_head", "no_usage")
STREAMED = (*(name for name in FAULTS if "content" in name or name == "no_end_mark"), *BOTH)
WHOLE = (*(name for name in FAULTS if name not in STREAMED), *BOTH)
DIALECTS = ("chat", "messages", "responses")

MODELS = "".join(model(one, f"bad-{one}/x", f"good-{one}/x") for one in DIALECTS)
LINES = "retries = 0\n"
WARM, MEASURED = 1500, 2500
BLOCKS_A_CALL = 0.3
"""Windows of samples fill for a while; a call that stays behind would be some forty blocks."""
FEW = 16
LONG, LONG_WARM = 100_000, 20_000
KIB_A_CALL = 1024 / 100_000


def descriptors(of: str = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd") -> int:
    return sum(1 for _ in Path(of).iterdir())


def course(place: int) -> tuple[str, bool, str]:
    """The dialect, the kind and the fault of a call: one in ten meets one, all of them in turn."""
    stream = place % 2 == 0
    if place % 10:
        return DIALECTS[place % 3], stream, "answer"
    turn = place // 10
    faults = STREAMED if stream else WHOLE
    return DIALECTS[turn % 3], stream, faults[turn // 2 % len(faults)]


class Keeper:
    """A client that keeps its connection, and opens another one when it was closed."""

    def __init__(self, port: int, key: str = "") -> None:
        self.port = port
        self.key = key
        self.writer: asyncio.StreamWriter | None = None
        self.statuses: dict[int, int] = {}

    async def call(self, dialect: str, fault: str, *, stream: bool) -> None:
        if self.writer is None or self.writer.is_closing():
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        self.writer.write(request(dialect, dialect, f"fault={fault}", stream=stream, key=self.key))
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        lowered = head.lower()
        if b"transfer-encoding: chunked" in lowered:
            while (size := int(await self.reader.readuntil(b"\r\n"), 16)) > 0:
                await self.reader.readexactly(size + 2)
            await self.reader.readexactly(2)
        else:
            length = int(lowered.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await self.reader.readexactly(length)
        if b"connection: close" in lowered:
            self.close()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


async def make(port: int, places: range, at_once: int = 8) -> dict[int, int]:
    """Make these calls; give how many ended with which status."""
    left = iter(places)
    keepers = [Keeper(port) for _ in range(at_once)]

    async def caller(keeper: Keeper) -> None:
        for place in left:
            dialect, stream, fault = course(place)
            await keeper.call(dialect, fault, stream=stream)

    await asyncio.gather(*(caller(keeper) for keeper in keepers))
    found: dict[int, int] = {}
    for keeper in keepers:
        keeper.close()
        for status, count in keeper.statuses.items():
            found[status] = found.get(status, 0) + count
    return found


def census() -> Counter[str]:
    """How many objects there are of each of the product's own types, and of those that hold frames."""
    kinds = Counter(type(one) for one in gc.get_objects())
    held = {"coroutine", "frame", "traceback", "Task", "Future"}
    return Counter(
        {
            f"{k.__module__}.{k.__name__}": n
            for k, n in kinds.items()
            if "penstock" in str(k.__module__) or k.__name__ in held
        }
    )


async def settled(one: Site) -> int:
    """Python's allocated blocks, when all that ends by itself has ended."""
    await one.quiet()
    while one.gateway.ledger.flush(10_000):
        pass
    for _ in range(100):
        if not one.server.connections:
            break
        await asyncio.sleep(0.005)
    gc.collect()
    return sys.getallocatedblocks()


async def test_calls_leave_no_objects_no_descriptors_and_no_tasks_behind(tmp_path, bad, good):
    bad.keeps = good.keeps = False
    text = config(f"http://127.0.0.1:{bad.port}", f"http://127.0.0.1:{good.port}", more=MODELS, lines=LINES)
    tasks = len(asyncio.all_tasks())
    async with gateway_at(tmp_path, text, bad, good) as one:
        await make(one.server.port, range(WARM))
        before, open_before, counted = await settled(one), descriptors(), census()
        statuses = await make(one.server.port, range(WARM, WARM + MEASURED))
        after = await settled(one)
        more = {kind: count for kind, count in (census() - counted).items() if count > FEW}
        grown = (after - before) / MEASURED
        print(f"{MEASURED} calls: {after - before:+d} blocks ({grown:+.3f} a call), statuses {statuses}")
        assert statuses == {200: MEASURED}
        assert more == {}, "these stay behind"
        assert grown <= BLOCKS_A_CALL, "something stays behind"
        assert descriptors() <= open_before + 2 * 8, "connections are left open"
        assert len(asyncio.all_tasks()) <= tasks + 1
        assert not one.gateway.in_flight


# -- a real process --


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def slope(points: list[tuple[int, int]]) -> float:
    """Least squares: KiB per call."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_hundred_thousand_calls_grow_by_less_than_a_mebibyte(tmp_path):
    async with provider(PLAYS) as bad, provider(PLAYS, "good") as good:
        good.heeds_marks = False
        bad.keeps = good.keeps = False
        text = config(f"http://127.0.0.1:{bad.port}", f"http://127.0.0.1:{good.port}", more=MODELS, lines=LINES)
        (tmp_path / "penstock.toml").write_text(text)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "PENSTOCK_HOME": str(tmp_path / "home"),
            "PENSTOCK_CONFIG": str(tmp_path / "penstock.toml"),
            "FAULT_KEY": PROVIDER_KEY,
        }
        with (tmp_path / "log").open("wb") as log:
            served = subprocess.Popen([PENSTOCK, "serve", "--port", str(port)], env=environ, stdout=log, stderr=log)  # noqa: ASYNC220 - quick
        try:
            await _listening(port, served)
            points = await _watch(served.pid, port)
        finally:
            served.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(served.wait, 20)
            except subprocess.TimeoutExpired:
                served.kill()
                await asyncio.to_thread(served.wait)
        assert served.returncode == 0
        log_text = (tmp_path / "log").read_text()
        assert "Traceback" not in log_text, log_text[-2000:]
        grows = slope(points)
        print(
            f"resident {points[0][1]} -> {points[-1][1]} KiB, slope {grows * 100_000 / 1024:+.2f} MiB per 100,000 calls"
        )
        assert grows <= KIB_A_CALL


async def _listening(port: int, served: subprocess.Popen[bytes]) -> None:
    for _ in range(1000):
        assert served.poll() is None, "it ended"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        return
    pytest.fail("it does not listen")


async def _watch(pid: int, port: int) -> list[tuple[int, int]]:
    """Make all calls; give the resident memory from the end of the warm-up on, and see the descriptors come back."""
    began = time.monotonic()
    await make(port, range(LONG_WARM), 16)
    open_before = descriptors(f"/proc/{pid}/fd")
    points = [(0, resident_kib(pid))]
    step = 2000
    for start in itertools.count(LONG_WARM, step):
        if start >= LONG_WARM + LONG:
            break
        statuses = await make(port, range(start, start + step), 16)
        assert statuses == {200: step}
        points.append((start + step - LONG_WARM, resident_kib(pid)))
    print(f"{LONG + LONG_WARM} calls in {time.monotonic() - began:.0f} s")
    assert descriptors(f"/proc/{pid}/fd") <= open_before + 32
    return points

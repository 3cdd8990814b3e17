"""A real server with its ledger in front of two providers: a bad one that plays faults, and a good one that answers."""

import asyncio
import contextlib
import gc
import logging
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest
import uvloop
from tests.faults.client import Answer, ask, request
from tests.faults.faults import PLAYS
from tests.faults.provider import Provider, provider

from penstock.config import load
from penstock.gateway import Gateway, start
from penstock.ledger.keys import Grant
from penstock.ledger.store import Filter, Span
from penstock.receipt import Receipt
from penstock.server.admin import control_plane
from penstock.server.app import App
from penstock.server.direct import Client
from penstock.server.http11 import Server
from penstock.server.listening import bind
from penstock.target import Profile
from penstock.tokens.count import count_text

PROVIDER_KEY = "sk-canary-Zq7/vX2+wK9=pLr4_tYb8"
"""Its characters show in base64, in hexadecimal and in a URL otherwise than as they are."""
PART = 12

KINDS = {"chat": ("openai", "/v1"), "responses": ("openai", "/v1"), "messages": ("anthropic", "")}


def limits(*, connect_s: float = 10, silence_s: float = 10) -> str:
    """What a provider is waited for; no further tries, so that a test knows how many there are."""
    return f"\nretries = 0\nconnect_s = {connect_s}\nfirst_byte_s = {silence_s}\nidle_s = {silence_s}\n"


PATIENT = limits()
WARM = "warm"
"""The model of calls that only warm a connection."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session", autouse=True)
def warm() -> None:
    """Load the vocabulary that calls are counted with where their provider does not say."""
    count_text("warm", Profile())


@pytest.fixture(autouse=True)
def alone() -> None:
    """Keep what other tests left behind out of the collector's way, which stops everything for as long as that takes."""
    gc.collect()
    gc.freeze()


class Stolen:
    """Time that this process wanted and the machine gave to others: a late tick in which we did not compute.

    What the gateway itself takes too long for is not stolen: then the processor time has advanced as well.
    """

    EVERY_S = 0.005

    def __init__(self) -> None:
        self.seconds = 0.0
        self._loop = asyncio.get_running_loop()
        self._last = (time.monotonic(), time.process_time())
        self._timer = self._loop.call_later(self.EVERY_S, self._tick)

    def _tick(self) -> None:
        wall, busy = time.monotonic(), time.process_time()
        late = wall - self._last[0] - self.EVERY_S - (busy - self._last[1])
        if late > 0.005:
            self.seconds += late
        self._last = (wall, busy)
        self._timer = self._loop.call_later(self.EVERY_S, self._tick)

    def stop(self) -> None:
        self._timer.cancel()


class Site:
    """One gateway behind one server, and its two providers."""

    def __init__(self, gateway: Gateway, server: Server, bad: Provider, good: Provider, folder: Path) -> None:
        self.gateway = gateway
        self.server = server
        self.bad = bad
        self.good = good
        self.folder = folder
        self.key = ""
        self.direct = 0  # calls that were begun without a task, but for those that only warm a connection
        self.stolen = Stolen()
        self.clients: list[asyncio.StreamWriter] = []  # that are closed at the end, if they are not before

    async def ask(
        self,
        model: str,
        fault: str = "answer",
        *,
        dialect: str = "chat",
        stream: bool = False,
        warm: bool = False,
        **headers: str,
    ) -> Answer:
        """Make a call that meets a fault at the bad provider; a warm one on connections that have answered before."""
        data = request(dialect, model, f"fault={fault}", stream=stream, key=self.key, **headers)
        before = self.warming(dialect, **headers) if warm else []
        return await ask(self.server.port, data, dialect, stream=stream, before=before)

    def warming(self, dialect: str, **headers: str) -> list[bytes]:
        """Requests after which another one with these headers is begun without a task."""
        return [request(dialect, f"bad-{dialect}/{WARM}", "fault=answer", stream=False, key=self.key, **headers)] * 3

    def receipts(self) -> list[Receipt]:
        """Every receipt, oldest first."""
        while self.gateway.ledger.flush(10_000):
            pass
        found = self.gateway.ledger.store.calls(Filter(Span(0, 2**62)), 100_000)[::-1]
        return [receipt for receipt in found if not receipt.model.endswith(WARM)]

    async def quiet(self, within_s: float = 1.0) -> None:
        """Wait until nothing is under way; fail if something stays."""
        pools = [one._pool for one in self.gateway._providers.values()]
        for _ in range(round(within_s / 0.005)):
            if not (self.gateway.in_flight or self.server.in_flight or any(pool.busy for pool in pools)):
                break
            await asyncio.sleep(0.005)
        assert self.gateway.in_flight == 0
        assert self.server.in_flight == 0
        assert [pool.busy for pool in pools] == [0] * len(pools), "a connection to a provider is still counted as busy"
        assert self.gateway.ledger.open_intents == 0
        assert self.gateway.lobby.waiting == 0
        states = self.gateway.health.states(asyncio.get_running_loop().time())
        assert sum(state.in_flight for state in states) == 0, "a slot at a target was not given back"


def config(bad_url: str, good_url: str, *, more: str = "", lines: str = PATIENT) -> str:
    """A bad and a good provider for each dialect."""
    text = more
    for who, url, extra in (("bad", bad_url, lines), ("good", good_url, PATIENT)):
        for dialect, (kind, prefix) in KINDS.items():
            text += f"""
[providers.{who}-{dialect}]
kind = "{kind}"
base_url = "{url}{prefix}"
dialect = "{dialect}"
api_key = "env:FAULT_KEY"
{extra}
"""
    return text


def model(name: str, *targets: str) -> str:
    """A model with its targets, which have a price."""
    listed = ", ".join(f'"{target}"' for target in targets)
    prices = "".join(f'[prices."{target}"]\ninput = 1\noutput = 2\n' for target in targets)
    return f'[models."{name}"]\ntargets = [{listed}]\n{prices}'


def _started(folder: Path, text: str) -> Gateway:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "penstock.toml").write_text(text)
    return start(
        load(str(folder / "penstock.toml"), {"PENSTOCK_HOME": str(folder / "home"), "FAULT_KEY": PROVIDER_KEY})
    )


@contextlib.asynccontextmanager
async def gateway_at(
    folder: Path, text: str, bad: Provider, good: Provider, *, keyed: bool = False
) -> AsyncIterator[Site]:
    """Serve a configuration; when it ends nothing is in flight, nothing crashed and no task is left."""
    before = asyncio.all_tasks()
    gateway = _started(folder, text)
    crashes: list[BaseException] = []
    server = Server(app := App(gateway, control_plane(gateway)), app.refuse, on_crash=crashes.append)
    site = Site(gateway, server, bad, good, folder)

    def at_once(clients: Sequence[Client]) -> None:
        app.at_once(clients)
        site.direct += sum(one.begun is not None and WARM.encode() + b'"' not in one.body for one in clients)

    server.at_once = at_once
    if keyed:
        site.key = gateway.keys.create(Grant(), time.time_ns()).key
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    await server.start(bind("127.0.0.1", 0, 1)[0])
    gateway.ledger.gather(server.outbox)
    try:
        yield site
        await site.quiet()
    finally:
        site.stolen.stop()
        for client in site.clients:
            client.transport.abort()
        await server.close()
        await gateway.close()
        await bad.close()
        await good.close()
    assert crashes == []
    assert reported == [], "the loop was told of an error that nobody handled"
    for _ in range(200):
        if not (left := asyncio.all_tasks() - before):
            break
        await asyncio.sleep(0.005)
    assert not left, f"tasks are left: {left}"


@pytest.fixture
async def bad() -> AsyncIterator[Provider]:
    """The provider that plays faults."""
    async with provider(PLAYS) as one:
        yield one


@pytest.fixture
async def good() -> AsyncIterator[Provider]:
    """The provider that answers, whatever a prompt says."""
    async with provider(PLAYS, "good") as one:
        one.heeds_marks = False
        yield one


@pytest.fixture
def logged() -> AsyncIterator[list[str]]:
    """Every line that anybody logs, at any level."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    root, handler = logging.getLogger(), Keep()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def leaks(secret: str, data: bytes) -> str | None:
    """The form in which some text shows a secret, or as much of it as would help anybody; None where it does not."""
    raw = secret.encode()
    forms = {
        "base64": b64encode(raw).rstrip(b"=")[:-2],
        "base64url": urlsafe_b64encode(raw).rstrip(b"=")[:-2],
        "hexadecimal": raw.hex().encode(),
        "url": quote(secret, safe="").encode(),
        "json": raw.replace(b"/", b"\\/"),
    }
    for at in range(len(raw) - PART + 1):
        forms[f"part {at}"] = raw[at : at + PART]
    lowered = data.lower()
    return next((name for name, form in forms.items() if form in data or form.lower() in lowered), None)

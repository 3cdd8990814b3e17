"""`kill -9` under load, again and again: no receipt is lost, none is doubled, and the balances are what the receipts say.

One process, or three that share budgets, of which sometimes one dies and sometimes all; some die while they start, which is
when they replay journals and settle what the dead held; some leave a journal with a torn end. The calls are whole replies
and streams, among them ones that are tried twice, that go on to another provider, that outgrow what is held for them, and
that their client leaves.
"""

import asyncio
import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from decimal import Decimal

import pytest
from msgspec import structs
from tests.e2e.conftest import PENSTOCK, Served, end
from tests.e2e.load import wait_until

from penstock.call import Caller
from penstock.config import load as load_config
from penstock.identity import Identity
from penstock.ledger.ids import Ids
from penstock.ledger.keys import Keyring, read_pepper
from penstock.ledger.store import FILE, Filter, Span, Store
from penstock.reservations import Reservations

USAGE = b'"usage":{"prompt_tokens":9,"completion_tokens":%d,"total_tokens":%d}'
PLAIN = (
    b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Hello"},"finish_reason":"stop"}],%b}'
) % (USAGE % (2, 11))
CHUNK = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
HELLO = CHUNK + b'[{"index":0,"delta":{"role":"assistant","content":"Hello"},"finish_reason":null}]}\n\n'
MORE = CHUNK + b'[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % (b"more words " * 40)
STOP = CHUNK + b'[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
TOLD = CHUNK + b"[],%b}\n\n"
DONE = b"data: [DONE]\n\n"
LONG_TOKENS = 1100
CALL, LONG = 9 * 150 + 2 * 600, 9 * 150 + LONG_TOKENS * 600  # what an undisturbed call costs, nano-dollars

CONFIG = """
[server]
port = 0
workers = WORKERS
[providers.box]
kind = "openai"
base_url = "http://127.0.0.1:PORT/v1"
[providers.flaky]
kind = "openai"
base_url = "http://127.0.0.1:PORT/flaky/v1"
retries = 1
[models.fast]
targets = ["box/m"]
[models.mixed]
targets = ["flaky/m", "box/m"]
[models.long]
targets = ["box/long"]
budget_usd = { day = 700 }
[prices."box/m"]
input = 0.15
output = 0.6
[prices."box/long"]
input = 0.15
output = 0.6
[prices."flaky/m"]
input = 1.5
output = 6
[teams.web]
budget_usd = { day = 1000, month = 20_000 }
[features.invoices]
budget_usd = { day = 900 }
[users]
budget_usd = { month = 800 }
"""

KEY = ("keys", "create", "--team", "web", "--budget-day", "600", "--json")
SCOPES = {("team", "day"), ("team", "month"), ("feature", "day"), ("user", "month"), ("model", "day"), ("key", "day")}


class Model:
    """A quick provider on a thread of its own, which counts the calls that reached it. Half of its paths are unreliable."""

    def __init__(self):
        self.calls = 0
        self.chance = random.Random(1)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        start = asyncio.start_server(self.answer, "127.0.0.1", 0)
        self.server = asyncio.run_coroutine_threadsafe(start, self.loop).result()
        self.port = self.server.sockets[0].getsockname()[1]

    async def answer(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.calls += 1
                mood = self.chance.choice(("fine",) * 5 + ("503", "cut", "late")) if b"/flaky/" in head else "fine"
                if mood == "503":
                    writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}")
                elif b'"stream"' not in body:
                    cut = 20 if mood == "cut" else 0
                    await asyncio.sleep(0.02 if mood == "late" else 0)
                    writer.write(
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(PLAIN)
                    )
                    writer.write(PLAIN[: len(PLAIN) - cut])
                    if cut:
                        return
                elif not await self.stream(writer, mood, long=b'"long"' in body):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def stream(self, writer, mood, *, long):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        told = TOLD % (USAGE % ((LONG_TOKENS, LONG_TOKENS + 9) if long else (2, 11)))
        for frame in (HELLO, *([MORE] * 10 if long else []), STOP, told, DONE):
            writer.write(b"%x\r\n%b\r\n" % (len(frame), frame))
            await asyncio.sleep(0.002)
            if mood == "cut":
                return False
        writer.write(b"0\r\n\r\n")
        return True

    def close(self):
        async def stop():
            self.server.close()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Load:
    """A client that calls on and on, and writes down each call whose whole answer it has; a dead server is called again."""

    def __init__(self, gateway, key, model, *, streamed, leaves=False):
        self.gateway, self.key, self.is_over, self.leaves = gateway, key, False, leaves
        self.answered = {}  # status by call
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
        self.body = json.dumps(body | ({"stream": True} if streamed else {}))
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.is_over:
            connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=10)
            with contextlib.suppress(http.client.HTTPException, OSError), contextlib.closing(connection):
                while not self.is_over:
                    self.call(connection)
            time.sleep(0.005)

    def call(self, connection):
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.key}"}
        headers |= {"x-penstock-feature": "invoices", "x-penstock-user": "ann"}
        connection.request("POST", "/v1/chat/completions", self.body, headers)
        reply = connection.getresponse()
        call_id = reply.headers["x-penstock-call"]
        if self.leaves:
            reply.read(10)
            raise ConnectionAbortedError
        data = reply.read()
        if reply.status == 200 and not (DONE in data or b'"error"' in data or data == PLAIN):
            return
        self.answered[call_id] = reply.status if b'"error"' not in data else 500

    def stop(self):
        self.is_over = True
        self.thread.join()


class Killing:
    """A gateway of one or of several processes, and the ways to kill it."""

    def __init__(self, folder, workers, chance):
        self.model, self.chance, self.workers = Model(), chance, workers
        text = CONFIG.replace("PORT", str(self.model.port)).replace("WORKERS", str(workers))
        self.gateway = Served(folder, text)
        self.kills, self.torn, self.key, self.admin, self.loads = 0, 0, "", "", []

    def begin(self):
        self.key = json.loads(self.gateway.command(*KEY))["key"]
        self.admin = json.loads(self.gateway.command("keys", "create", "--admin", "--json"))["key"]
        self.gateway.start()

    def pids(self):
        """The processes that answer calls; None while they cannot all be asked."""
        if self.workers == 1:
            return [self.gateway.process.pid]
        with contextlib.suppress(http.client.HTTPException, OSError, KeyError, ValueError):
            connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", "/admin/v1/health", headers={"authorization": f"Bearer {self.admin}"})
                found = json.loads(connection.getresponse().read())["workers"]
                if len(found) == self.workers and all(worker["ready"] for worker in found):
                    return [worker["pid"] for worker in found]
        return None

    def up(self):
        """Wait until everybody serves."""
        found = []
        wait_until(lambda: found.append(self.pids()) or found[-1], 30)
        return found[-1]

    def kill(self, *, last):
        """One death, or that of all at once; and what may follow on it. The last ones are single: others see what is left."""
        self.wait_for_calls(self.chance.randrange(5, 40))
        if self.workers > 1 and (last or self.chance.random() < 0.7):
            self.kill_one()
        else:
            self.kill_all()

    def wait_for_calls(self, count):
        """Let so many calls be answered, and then some time pass, so that it is no particular moment."""
        enough = sum(len(load.answered) for load in self.loads) + count
        wait_until(lambda: sum(len(load.answered) for load in self.loads) >= enough, 30)
        time.sleep(self.chance.uniform(0, 0.05))

    def kill_one(self):
        """One of several workers; a third of the time also the one that takes its place, while it starts."""
        victim = self.chance.choice(self.up())
        self.signal(victim)
        self.tear(victim)
        if self.chance.random() < 0.3:
            children = f"/proc/{self.gateway.process.pid}/task/{self.gateway.process.pid}/children"
            time.sleep(self.chance.uniform(0, 0.1))
            with contextlib.suppress(OSError), open(children) as listed:  # noqa: PTH123 - a line of the kernel's
                self.signal(max(map(int, listed.read().split())))
        self.up()

    def kill_all(self):
        """Everything; a third of the time again, while it starts."""
        for pid in {*self.up(), self.gateway.process.pid}:
            self.signal(pid)
        self.kills -= self.workers > 1  # the supervisor answers nothing
        self.gateway.process.wait()
        self.tear(None)
        if self.chance.random() < 0.3:
            with self.gateway.log.open("ab") as out:
                process = subprocess.Popen(
                    [PENSTOCK, "serve", "--port", str(self.gateway.port)],
                    env=self.gateway.environ,
                    stdout=out,
                    stderr=out,
                )
            time.sleep(self.chance.uniform(0.25, 0.6))
            process.kill()
            process.wait()  # its workers see that it is gone, and end
            self.kills += 1
        self.gateway.start()
        self.up()

    def signal(self, pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills += 1

    def tear(self, pid):
        """Leave a record that ends in its middle behind the journal of a process that is dead."""
        name = "*.log" if pid is None else f"*-{pid}.*.log"
        for path in sorted((self.gateway.home / "journal").glob(name))[-1:]:
            with contextlib.suppress(FileNotFoundError):
                data = path.read_bytes()
                if self.chance.random() < 0.5 and len(data) > 400:
                    with path.open("r+b") as log:
                        log.seek(0, os.SEEK_END)
                        log.write(data[-200 : -200 + self.chance.randrange(1, 60)])
                    self.torn += 1

    def close(self):
        end(self.gateway.process)
        self.model.close()

    # -- what is left --

    def states(self):
        """What every budget says of itself: of a process that looks into the shared file, or that sums the receipts up."""
        config = load_config(str(self.gateway.config), {"PENSTOCK_HOME": str(self.gateway.home)})
        now, shared = time.time_ns(), self.gateway.home if self.workers > 1 else None
        with contextlib.closing(Store.open(self.gateway.home / FILE)) as store:
            identity = Identity(Keyring(store, read_pepper(self.gateway.home)), time.monotonic, lambda: now)
            who = identity.hashed(structs.replace(identity.of(Caller(self.key)), user="ann", feature="invoices"))
            reservations = Reservations(config, now_ns=now, sums=store.sums, shared=shared)
            with contextlib.closing(reservations):
                here = reservations.hold(
                    who, 0, now, Ids(random.Random()).new(now), "long"
                )  # keys and users are met so
                reservations.settle([here], 0)
                return reservations.budgets.states(now)

    def receipts(self):
        """Every receipt, once the processes have moved all of them into the store."""
        found = []
        with contextlib.closing(Store.open(self.gateway.home / FILE)) as store:
            while not found or len(found[-1]) != len(found[0]):
                time.sleep(0.3)
                found = [*found[-1:], store.calls(Filter(Span(0, 2**62)), 10**9)]
            return found[-1]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("deaths", [5, pytest.param(100, marks=pytest.mark.soak)])
def test_no_kill_loses_or_doubles_a_receipt_or_leaks_a_hold(tmp_path, workers, deaths):
    seed = random.randrange(2**32)
    killing, answered = Killing(tmp_path, workers, random.Random(seed)), {}
    loads = killing.loads
    try:
        killing.begin()
        kinds = [("fast", False), ("fast", True), ("mixed", False), ("mixed", True), ("long", True), ("mixed", True)]
        loads += [Load(killing.gateway, killing.key, model, streamed=streamed) for model, streamed in kinds]
        loads.append(Load(killing.gateway, killing.key, "long", streamed=True, leaves=True))
        while killing.kills < deaths:
            killing.kill(last=killing.kills >= deaths // 2)
        killing.up()
        for load in loads:
            load.stop()
            answered |= load.answered
        if workers == 1:
            end(killing.gateway.process)
        receipts = killing.receipts()
        states = killing.states()
        spend = json.loads(killing.gateway.command("spend", "--since", "2h", "--by", "team", "--json"))
    finally:
        for load in loads:
            load.stop()
        killing.close()
    answered.pop(None, None)
    counted = Counter(receipt.error or receipt.status for receipt in receipts)
    ids = {receipt.id for receipt in receipts}
    spent = sum(receipt.cost_nano_usd for receipt in receipts)
    print(
        f"\nseed {seed}, {workers} worker(s): {killing.kills} kills, {killing.torn} torn journals, {len(answered)} "
        f"acknowledged, {len(receipts)} receipts ({dict(counted)}), {sum(len(r.tries) > 1 for r in receipts)} with several "
        f"tries, {killing.model.calls} calls at the provider; {len(answered.keys() - ids)} lost, {len(receipts) - len(ids)} "
        f"doubled, balance differences {[difference(state, receipts) for state in states]}, leaked holds "
        f"{[state.held_nano_usd for state in states]} nano-dollars, of {spent} spent"
    )
    check(receipts, answered, states, int(Decimal(spend["total"]["cost_usd"]) * 10**9))
    assert killing.model.calls <= sum(max(len(r.tries), 1) for r in receipts) + 2 * counted["interrupted"]
    assert len(answered) > 5 * deaths, "there was no load to speak of"
    assert counted["interrupted"] > 0


def check(receipts, answered, states, total):
    """Whatever died when: each call has one receipt, and what is spent is what they cost."""
    by_id = {receipt.id: receipt for receipt in receipts}
    assert len(by_id) == len(receipts), "a receipt is there twice"
    lost = answered.keys() - by_id.keys()
    assert not lost, f"{len(lost)} calls that were answered have no receipt"
    for call_id, status in answered.items():
        assert by_id[call_id].status in ({"ok"} if status == 200 else {"error", "refused"}), (status, by_id[call_id])
    for receipt in receipts:
        assert receipt.status in {"ok", "error", "interrupted", "cancelled", "refused"}, receipt
        if receipt.status == "interrupted":
            assert receipt.cost_status == "estimated"
        if receipt.status == "ok" and receipt.model != "mixed":
            assert receipt.cost_nano_usd == (LONG if receipt.model == "long" else CALL)
    spent = sum(receipt.cost_nano_usd for receipt in receipts)
    assert spent == total
    assert {(state.limit.scope.kind, state.limit.window) for state in states} == SCOPES
    for state in states:
        assert (state.limit.scope, difference(state, receipts), state.held_nano_usd) == (state.limit.scope, 0, 0)


def difference(state, receipts):
    """What a budget says is spent, less what its calls cost according to their receipts."""
    scope = state.limit.scope
    field = {"key": "key_id"}.get(scope.kind, scope.kind)
    return state.spent_nano_usd - sum(one.cost_nano_usd for one in receipts if getattr(one, field) == scope.name)

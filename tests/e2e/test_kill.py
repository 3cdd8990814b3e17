"""`kill -9` under load, again and again: no receipt is lost, none is doubled, every admitted call is accounted for."""

import asyncio
import http.client
import json
import random
import threading
import time

import pytest
from tests.e2e.conftest import Served, end

PLAIN = (
    b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}'
)
CHUNK = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
FRAMES = (
    CHUNK + b'{"role":"assistant","content":"Hello"},"finish_reason":null}]}\n\n',
    CHUNK + b'{},"finish_reason":"stop"}]}\n\n',
    CHUNK.removesuffix(b'[{"index":0,"delta":')
    + b'[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}\n\n',
    b"data: [DONE]\n\n",
)
CALL_NANO_USD = 9 * 150 + 2 * 600


class Model:
    """A quick provider on a thread of its own, which counts the calls that reached it."""

    def __init__(self):
        self.calls = 0
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
                if b'"stream"' not in body:
                    writer.write(
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(PLAIN)
                    )
                    writer.write(PLAIN)
                    continue
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                for frame in FRAMES:
                    writer.write(b"%x\r\n%b\r\n" % (len(frame), frame))
                    await asyncio.sleep(0.002)
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

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
    """A client that calls until the server is gone, and writes down each call whose whole answer it has."""

    def __init__(self, port, key, answered, *, streamed):
        self.port, self.key, self.answered = port, key, answered
        body = {"model": "fast", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
        self.body = json.dumps(body | ({"stream": True} if streamed else {}))
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.key}"}
        try:
            while True:
                connection.request("POST", "/v1/chat/completions", self.body, headers)
                reply = connection.getresponse()
                call_id = reply.headers["x-penstock-call"]
                data = reply.read()
                assert reply.status == 200, data
                if b"[DONE]" in data or data == PLAIN:
                    self.answered.append(call_id)
        except (http.client.HTTPException, OSError):
            pass
        finally:
            connection.close()


def settled(gateway):
    """Every receipt, once the server has moved all of them into the store."""
    return json.loads(gateway.command("calls", "--since", "2h", "--limit", "100000", "--json"))["calls"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [12, pytest.param(50, marks=pytest.mark.soak)])
def test_no_receipt_is_lost_or_doubled_by_a_kill(tmp_path, kills):
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    model = Model()
    config = f"""
[server]
port = 0
[providers.box]
kind = "openai"
base_url = "http://127.0.0.1:{model.port}/v1"
[models.fast]
targets = ["box/m"]
[prices."box/m"]
input = 0.15
output = 0.6
[teams.web]
budget_usd = {{ day = 1000 }}
"""
    gateway, answered = Served(tmp_path, config), []
    try:
        key = json.loads(gateway.command("keys", "create", "--team", "web", "--json"))["key"]
        for _ in range(kills):
            gateway.start()
            loads = [Load(gateway.port, key, answered, streamed=bool(n % 2)) for n in range(6)]
            time.sleep(rng.uniform(0.02, 0.3))
            gateway.kill()
            for load in loads:
                load.thread.join()
        receipts = settled(gateway)
        spend = json.loads(gateway.command("spend", "--since", "2h", "--by", "team", "--json"))
    finally:
        end(gateway.process)
        model.close()

    ids = [receipt["id"] for receipt in receipts]
    by_status = {
        status: [r for r in receipts if r["status"] == status] for status in ("ok", "interrupted", "cancelled")
    }
    print(
        f"\nseed {seed}: {kills} kills, {len(answered)} answers, {len(ids)} receipts, "
        f"{len(by_status['interrupted'])} interrupted, {model.calls} calls at the provider"
    )
    assert len(answered) > 10 * kills, "there was no load to speak of"
    assert len(ids) == len(set(ids)), "a receipt is there twice"
    assert set(answered) <= set(ids), "a call that was answered has no receipt"
    assert {r["id"] for r in by_status["interrupted"]}.isdisjoint(answered), "an answered call counts as cut"
    assert model.calls <= len(ids), "a call reached the provider and left nothing"
    assert sum(map(len, by_status.values())) == len(ids), "a call ended in a way that it cannot have"
    assert all(r["cost_status"] == "estimated" for r in by_status["interrupted"])
    total = sum(round(float(r["cost_usd"]) * 1e9) for r in receipts)
    assert round(float(spend["total"]["cost_usd"]) * 1e9) == total
    assert all(r["cost_usd"] == f"{CALL_NANO_USD / 1e9:.9f}".rstrip("0") for r in by_status["ok"])

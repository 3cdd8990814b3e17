"""Alerts of a real server: budgets are spent by real calls, and a webhook on loopback is told, once."""

import asyncio
import json
import signal
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.e2e.load import Caller, Site, running, until, wait_until

CONFIG = """
[alerts]
webhook = "env:ALERT_WEBHOOK"
burn_rate = 0
[providers.fake]
kind = "scripted"
path = "replies.toml"
[models.fast]
targets = ["fake/m"]
budget_usd = { day = 1 }
[prices."fake/m"]
input = 0
output = 20000
"""
"""An answer is one token, so it costs 2 cents."""


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def listening():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.got = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def webhook(monkeypatch):
    with listening() as server:
        monkeypatch.setenv("ALERT_WEBHOOK", f"http://127.0.0.1:{server.server_port}/secret-place")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


async def spend(site, calls, text="hello"):
    """Make calls one after the other, each on a connection of its own; give their statuses."""
    found = []
    for _ in range(calls):
        caller = Caller(site.port)
        body = {"model": "fast", "messages": [{"role": "user", "content": text}], "max_tokens": 1}
        found.append((await caller.ask("/v1/chat/completions", body)).status)
        caller.close()
    return found


def percents(webhook):
    return [alert["percent"] for alert in webhook.got]


async def metrics(site):
    caller = Caller(site.port)
    text = (await caller.ask("/metrics")).body.decode()
    caller.close()
    return text


@pytest.mark.parametrize("workers", [1, 3])
async def test_a_budget_is_told_of_at_each_step_up_to_the_refusal(tmp_path, webhook, workers):
    with running(Site(tmp_path, "--workers", str(workers), config=CONFIG)) as site:
        statuses = []
        for wanted, percent in ((26, 50), (15, 80), (10, 100)):
            statuses += await spend(site, wanted)
            await until(lambda percent=percent: percent in percents(webhook))
        text = await metrics(site)
        log = site.log.read_text()

    assert statuses.count(200) == 50
    assert set(statuses[50:]) == {402}
    assert percents(webhook) == [50, 80, 100]
    assert webhook.got[-1]["spent_usd"] == "1"
    assert webhook.got[-1]["budget"] == {"kind": "model", "name": "fast", "window": "day", "zone": "UTC", "soft": False}
    assert text.count("penstock_budget_spent_usd{") == 1
    assert 'penstock_budget_spent_usd{kind="model",name="fast",window="day"} 1.0' in text
    assert log.count("alert budget_threshold ") == 3
    assert "secret-place" not in log + text


async def test_a_restart_and_a_reload_repeat_nothing(tmp_path, webhook):
    site = Site(tmp_path, config=CONFIG)
    with running(site):
        await spend(site, 30)
        await until(lambda: 50 in percents(webhook))
        site.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "was taken over" in site.log.read_text())
        await asyncio.sleep(1.2)
    with running(site):
        await asyncio.sleep(1.2)
        assert percents(webhook).count(50) == 1
        await spend(site, 12)
        await until(lambda: 80 in percents(webhook))

    assert [one for one in percents(webhook) if one] == [50, 80]


async def test_what_is_passed_just_before_the_end_is_told_at_the_end(tmp_path, webhook):
    with running(Site(tmp_path, config=CONFIG)) as site:
        await spend(site, 30)

    assert 50 in percents(webhook)


async def test_a_webhook_that_hangs_delays_neither_calls_nor_the_end(tmp_path, webhook, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("ALERT_WEBHOOK", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        with running(Site(tmp_path, config=CONFIG)) as site:
            await spend(site, 30)
            began = time.monotonic()
            assert await spend(site, 5) == [200] * 5
            assert time.monotonic() - began < 1
            site.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            site.process.wait(10)
            took = time.monotonic() - began

    print(f"\n    the end took {took:.2f} s with a webhook that hangs")
    assert took < 4


async def test_a_budget_that_is_spent_too_fast_is_told_of_with_its_end(tmp_path, webhook):
    with running(Site(tmp_path, config=CONFIG.replace("burn_rate = 0", "burn_rate = 3"))) as site:
        await spend(site, 1)
        await until_looked(site, "0.02")
        await spend(site, 15)
        await until(lambda: webhook.got)

    (alert,) = webhook.got
    assert (alert["event"], alert["percent"], alert["spent_usd"]) == ("budget_burn_rate", None, "0.32")
    assert alert["at"] < alert["used_up_at"] < alert["resets_at"]


async def until_looked(site, spent):
    async def told():
        return f'name="fast",window="day"}} {spent}' in await metrics(site)

    await until(told)


async def test_calls_that_are_too_dear_for_what_is_left_are_told(tmp_path, webhook):
    dear = CONFIG.replace("day = 1 ", "day = 0.05 ")
    with running(Site(tmp_path, config=dear)) as site:
        caller = Caller(site.port)
        body = {"model": "fast", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 100}
        assert (await caller.ask("/v1/chat/completions", body)).status == 402
        caller.close()
        await until(lambda: webhook.got)

    assert [alert["event"] for alert in webhook.got] == ["budget_refusal"]

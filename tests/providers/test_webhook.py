"""Alerts on their way to a webhook, over real connections: whatever the other side does, nobody waits and nothing leaks."""

import asyncio
import contextlib
import logging
import ssl
from random import Random

import pytest
import trustme

from penstock.config import load
from penstock.errors import ConfigError
from penstock.providers import webhook as module
from penstock.providers.webhook import QUEUE, TRIES, Delivery, Hook, Webhook
from penstock.settings import Secret
from providers.loopback import Peer, on_both_loops, until, upstream

SECRET_PATH = "/services/T000/B000/XXXXXXXXXXXXXXXXXXXXXXXX"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


OK = answer(200, body=b"ok")


class Sink:
    """A webhook that answers with one reply after the other, the last one for ever; it keeps what it got."""

    def __init__(self, *replies: bytes) -> None:
        self.replies = list(replies)
        self.got: list[bytes] = []
        self.heads: list[bytes] = []
        self.at: list[float] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            body = await peer.request()
            self.got.append(body)
            self.heads.append(peer.head)
            self.at.append(asyncio.get_running_loop().time())
            await peer.send(self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])


def secret(url: str) -> Secret:
    return Secret(url, "env:ALERT_WEBHOOK")


def hook(up, path: str = SECRET_PATH, **options) -> Hook:
    return Hook(secret(f"{up.address.scheme}://localhost:{up.port}{path}"), **options)


class Failures(list):
    """What was not delivered, by its reasons."""


@contextlib.asynccontextmanager
async def posting(one: Hook | None):
    failures = Failures()
    webhook = Webhook(failures.append, Random(1))
    webhook.turn_to(one)
    webhook.failures = failures
    try:
        yield webhook
    finally:
        await webhook.close()


CLOSING_S = module.CLOSING_S


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pauses of hundredths of a second, and little patience."""
    monkeypatch.setattr(module, "CLOSING_S", 0.3)
    monkeypatch.setattr(module, "PAUSES_S", (0.01, 0.02, 0.04, 0.08))
    monkeypatch.setattr(module, "TRY_S", 0.3)


async def idle(webhook: Webhook) -> None:
    await until(lambda: webhook._task is None or webhook._task.done(), within_s=10)


# -- one try --


@on_both_loops
async def test_a_body_is_posted_to_the_whole_address():
    sink = Sink(OK)
    async with upstream(sink) as up:
        one = hook(up, "/hook/path?api-version=1&sig=a%2Fb#fragment")
        delivery = await one.deliver(b'{"text":"hi"}')
        one.close()

        assert (delivery.status, delivery.arrived) == (200, True)
        assert sink.got == [b'{"text":"hi"}']
        head = sink.heads[0].decode().split("\r\n")
        assert head[0] == "POST /hook/path?api-version=1&sig=a%2Fb HTTP/1.1"
        assert f"host: localhost:{up.port}" in head
        assert "content-type: application/json" in head
        assert "content-length: 13" in head


@on_both_loops
async def test_an_address_without_a_path_asks_for_the_root():
    sink = Sink(NO_CONTENT)
    async with upstream(sink) as up:
        one = hook(up, "")
        assert (await one.deliver(b"{}")).arrived
        one.close()

        assert sink.heads[0].startswith(b"POST / HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("status", "arrived", "passing"),
    [
        *((200, True, False), (202, True, False), (301, False, False), (400, False, False), (404, False, False)),
        *((408, False, True), (410, False, False), (429, False, True), (500, False, True), (503, False, True)),
    ],
)
def test_what_a_status_means(status, arrived, passing):
    delivery = Delivery(status)

    assert (delivery.arrived, delivery.passing) == (arrived, passing)


@pytest.mark.parametrize(
    "url",
    ["ftp://a/b", "https://", "http://host:99999/x", "https://host/a b", "https://host/x?a=b c", "https://hös t/"],
)
def test_an_address_that_cannot_be_posted_to_is_told_without_it(url):
    with pytest.raises(ConfigError) as caught:
        Hook(secret(url))
    text = str(caught.value)

    assert "env:ALERT_WEBHOOK" in text
    assert url not in text


# -- several tries --


@on_both_loops
async def test_alerts_are_delivered_in_their_order():
    sink = Sink(OK)
    async with upstream(sink) as up, posting(hook(up)) as webhook:
        for number in range(20):
            webhook.post(b"%d" % number)
        await idle(webhook)

        assert sink.got == [b"%d" % number for number in range(20)]
        assert webhook.failures == []
        assert len(up.peers) == 1


@on_both_loops
async def test_a_failure_of_the_other_side_is_tried_again_with_growing_pauses(caplog):
    sink = Sink(answer(500), answer(502), answer(429), OK)
    async with upstream(sink) as up, posting(hook(up)) as webhook:
        webhook.post(b"one")
        await idle(webhook)

        assert sink.got == [b"one"] * 4
        pauses = [later - earlier for earlier, later in zip(sink.at, sink.at[1:], strict=False)]
        early_s = 0.002  # uvloop counts milliseconds
        assert all(pause >= least - early_s for pause, least in zip(pauses, (0.01, 0.02, 0.04), strict=True))
        assert (webhook.failures, caplog.messages) == ([], [])


@on_both_loops
async def test_one_that_fails_for_ever_is_given_up_and_the_next_has_its_turn(caplog):
    sink = Sink(*[answer(500)] * TRIES, OK)
    async with upstream(sink) as up, posting(hook(up)) as webhook:
        webhook.post(b"one")
        webhook.post(b"two")
        await idle(webhook)

        assert sink.got == [b"one"] * TRIES + [b"two"]
        assert webhook.failures == ["unreachable"]
        (line,) = caplog.messages
        assert "after 5 tries: it answered with status 500" in line


async def test_as_long_as_it_is_asked_to_wait_it_waits():
    sink = Sink(answer(429, "retry-after: 1"), answer(503, "retry-after-ms: 200"), OK)
    async with upstream(sink) as up, posting(hook(up)) as webhook:
        webhook.post(b"one")
        await idle(webhook)

        assert 0.99 <= sink.at[1] - sink.at[0] < 2
        assert 0.19 <= sink.at[2] - sink.at[1] < 1


@on_both_loops
async def test_nobody_makes_it_wait_for_hours(monkeypatch):
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.05)
    sink = Sink(answer(429, "retry-after: 86400"), OK)
    async with upstream(sink) as up, posting(hook(up)) as webhook:
        webhook.post(b"one")
        await idle(webhook)

        assert len(sink.got) == 2


@on_both_loops
@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 404, 410])
async def test_what_the_webhook_does_not_want_is_not_sent_again_nor_elsewhere(status, caplog):
    elsewhere = Sink(OK)
    async with upstream(elsewhere) as other:
        sink = Sink(answer(status, f"location: http://localhost:{other.port}/", body=b"Invalid token /services/T000"))
        async with upstream(sink) as up, posting(hook(up)) as webhook:
            webhook.post(b"one")
            await idle(webhook)

            assert (sink.got, elsewhere.got) == ([b"one"], [])
            assert webhook.failures == ["refused"]
            assert caplog.messages == [
                f"the webhook (env:ALERT_WEBHOOK) did not take an alert: it answered with status {status}"
            ]


async def hang(peer: Peer) -> None:
    await peer.request()
    await peer.end()


async def reset(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def close_at_once(peer: Peer) -> None:
    await peer.request()
    peer.close()


async def drip(peer: Peer) -> None:
    """A head at once, and a body that never ends, byte by byte."""
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(1000):
        await peer.send(b"x")
        await asyncio.sleep(0.02)


async def rubbish(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"SSH-2.0-OpenSSH_9.6\r\n")
    await peer.end()


async def endless(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await peer.send(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")


FAULTS = [hang, reset, close_at_once, drip, rubbish, endless]


@on_both_loops
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_whatever_goes_wrong_on_the_way_it_is_tried_again(fault):
    sink = Sink(OK)
    async with upstream(fault, sink) as up, posting(hook(up)) as webhook:
        began = asyncio.get_running_loop().time()
        webhook.post(b"one")
        await idle(webhook)

        assert sink.got == [b"one"]
        assert webhook.failures == []
        assert asyncio.get_running_loop().time() - began < 2


@on_both_loops
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_the_address_is_never_told_however_it_fails(fault, caplog, monkeypatch):
    monkeypatch.setattr(module, "TRY_S", 0.05)
    caplog.set_level(logging.DEBUG)
    async with upstream(fault) as up, posting(hook(up)) as webhook:
        webhook.post(b"one")
        await idle(webhook)

        assert webhook.failures == ["unreachable"]
        assert caplog.messages
        for part in ("/services", "T000", "localhost", str(up.port)):
            assert part not in caplog.text.replace("tests/", "")
        assert "XXXX" not in f"{webhook!r} {vars(webhook)!r} {hook(up)!r}"


@on_both_loops
async def test_where_nobody_listens_it_is_given_up_after_a_few_tries(caplog):
    one = Hook(secret("http://127.0.0.1:1/secret-path"))
    async with posting(one) as webhook:
        webhook.post(b"one")
        await idle(webhook)

        assert webhook.failures == ["unreachable"]
        (line,) = caplog.messages
        assert "the webhook was not reached: " in line
        assert "127.0.0.1" not in line
        assert "secret-path" not in line


@on_both_loops
async def test_a_connection_that_was_closed_while_it_rested_costs_no_pause(monkeypatch):
    monkeypatch.setattr(module, "PAUSES_S", (30.0, 30.0, 30.0, 30.0))
    first, second = Sink(OK), Sink(OK)

    async def once(peer: Peer) -> None:
        await peer.answer(OK)
        await peer.request()  # the next one, which is on its way as this side closes
        peer.close()

    del first
    async with upstream(once, second) as up, posting(hook(up)) as webhook:
        webhook.post(b"one")
        await idle(webhook)
        webhook.post(b"two")
        await idle(webhook)

        assert second.got == [b"two"]


# -- TLS and proxies --


@on_both_loops
async def test_a_certificate_of_an_unknown_authority_is_not_believed(caplog):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    sink = Sink(OK)
    async with upstream(sink, tls=context) as up, posting(hook(up)) as webhook:
        webhook.post(b"one")
        await idle(webhook)

        assert (sink.got, webhook.failures) == ([], ["unreachable"])
        (line,) = caplog.messages
        assert "the webhook showed a certificate that does not hold" in line
        assert "localhost" not in line


@on_both_loops
@pytest.mark.parametrize("name", ["localhost", "example.com"])
async def test_a_certificate_has_to_be_that_of_the_host(name):
    authority = trustme.CA()
    context, trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(name).configure_cert(context)
    authority.configure_trust(trust)
    sink = Sink(OK)
    async with upstream(sink, tls=context) as up:
        one = hook(up, tls=trust)
        delivery = await one.deliver(b"one")
        one.close()

        assert delivery.arrived == (name == "localhost")
        assert bool(sink.got) == (name == "localhost")


@on_both_loops
async def test_a_proxy_of_the_environment_is_used_unless_the_host_is_excepted():
    proxy = Sink(OK)
    async with upstream(proxy) as up:
        through = (("http_proxy", Secret(f"http://user:word@127.0.0.1:{up.port}", "env:http_proxy")),)
        one = Hook(secret("http://hooks.example/secret"), through)
        assert (await one.deliver(b"{}")).arrived
        one.close()
        excepted = Hook(secret("http://127.0.0.1:1/x"), (*through, ("no_proxy", Secret("127.0.0.1", "env:no_proxy"))))
        assert not (await excepted.deliver(b"{}")).arrived
        excepted.close()

        assert len(proxy.got) == 1
        assert proxy.heads[0].startswith(b"POST http://hooks.example/secret HTTP/1.1\r\n")


# -- the queue, a reload and the end --


@on_both_loops
async def test_of_more_than_the_queue_holds_the_oldest_go_and_are_counted():
    let_go = asyncio.Event()
    sink = Sink(OK)

    async def slow(peer: Peer) -> None:
        await peer.request()
        await let_go.wait()
        await peer.send(OK)
        await sink(peer)

    async with upstream(slow) as up, posting(hook(up)) as webhook:
        webhook.post(b"first")
        await until(lambda: up.peers)
        for number in range(QUEUE + 7):
            webhook.post(b"%d" % number)
        let_go.set()
        await idle(webhook)

        assert webhook.failures == ["dropped"] * 7
        assert sink.got == [b"%d" % number for number in range(7, QUEUE + 7)]


@on_both_loops
async def test_posting_takes_no_time_whatever_the_webhook_does():
    async with upstream(hang) as up, posting(hook(up)) as webhook:
        began = asyncio.get_running_loop().time()
        for _ in range(10_000):
            webhook.post(b"one")
        took = asyncio.get_running_loop().time() - began

        assert took < 0.5
        assert len(webhook._queue) == QUEUE


@on_both_loops
async def test_without_a_webhook_nothing_happens():
    async with posting(None) as webhook:
        webhook.post(b"one")

        assert webhook._task is None
        assert webhook.failures == []


@on_both_loops
async def test_another_address_gets_what_waits(monkeypatch):
    monkeypatch.setattr(module, "PAUSES_S", (30.0, 30.0, 30.0, 30.0))
    old, new = Sink(answer(500)), Sink(OK)
    async with upstream(old) as before, upstream(new) as after, posting(hook(before)) as webhook:
        webhook.post(b"one")
        webhook.post(b"two")
        await until(lambda: old.got)
        webhook.turn_to(hook(after))
        await idle(webhook)

        assert (old.got, new.got, webhook.failures) == ([b"one"], [b"one", b"two"], [])


@on_both_loops
async def test_another_address_gets_what_is_on_its_way(monkeypatch):
    monkeypatch.setattr(module, "TRY_S", 30.0)
    monkeypatch.setattr(module, "PAUSES_S", (30.0, 30.0, 30.0, 30.0))
    new = Sink(OK)
    async with upstream(hang) as before, upstream(new) as after, posting(hook(before)) as webhook:
        webhook.post(b"one")
        await until(lambda: before.peers and before.peers[0].head)
        webhook.turn_to(hook(after))
        await idle(webhook)

        assert (new.got, webhook.failures) == ([b"one"], [])


@on_both_loops
async def test_an_address_that_is_taken_away_drops_what_waits():
    sink = Sink(answer(500))
    async with upstream(sink) as up, posting(hook(up)) as webhook:
        for number in range(3):
            webhook.post(b"%d" % number)
        await until(lambda: sink.got)
        webhook.turn_to(None)
        await idle(webhook)
        webhook.post(b"late")

        assert webhook.failures == ["dropped"] * 3
        assert set(sink.got) == {b"0"}


@on_both_loops
async def test_at_the_end_what_waits_is_delivered(monkeypatch):
    monkeypatch.setattr(module, "PAUSES_S", (30.0, 30.0, 30.0, 30.0))
    sink = Sink(answer(503), OK)
    async with upstream(sink) as up, posting(hook(up)) as webhook:
        webhook.post(b"one")
        webhook.post(b"two")
        await until(lambda: len(sink.got) == 1)
        await asyncio.sleep(0.02)  # it pauses now
        await webhook.close()

        assert sink.got == [b"one", b"one", b"two"]
        assert webhook.failures == []


@on_both_loops
async def test_the_end_waits_for_nobody_for_long(monkeypatch, caplog):
    monkeypatch.setattr(module, "CLOSING_S", 0.2)
    monkeypatch.setattr(module, "TRY_S", 30.0)
    async with upstream(hang) as up, posting(hook(up)) as webhook:
        for _ in range(3):
            webhook.post(b"one")
        await until(lambda: up.peers)
        began = asyncio.get_running_loop().time()
        await webhook.close()
        took = asyncio.get_running_loop().time() - began
        webhook.post(b"too late")

        assert 0.19 <= took < 1
        assert webhook.failures == ["closing"] * 4
        assert caplog.messages == ["3 alerts were not delivered to the webhook before the end"]


@on_both_loops
async def test_at_the_end_each_has_one_more_try_and_no_pause(monkeypatch):
    monkeypatch.setattr(module, "PAUSES_S", (30.0, 30.0, 30.0, 30.0))
    sink = Sink(answer(500))
    async with upstream(sink) as up, posting(hook(up)) as webhook:
        for number in range(3):
            webhook.post(b"%d" % number)
        await until(lambda: sink.got)
        await webhook.close()

        assert sink.got in ([b"0", b"0", b"1", b"2"], [b"0", b"1", b"2"])
        assert webhook.failures == ["closing"] * 3


@on_both_loops
async def test_a_configuration_says_where_to_and_through_which_proxy(tmp_path, monkeypatch):
    sink, proxy = Sink(OK), Sink(OK)
    async with upstream(sink) as up, upstream(proxy) as between, posting(None) as webhook:
        environ = {"ALERT_WEBHOOK": f"http://localhost:{up.port}/a", "PENSTOCK_HOME": str(tmp_path)}
        (tmp_path / "penstock.toml").write_text('[alerts]\nwebhook = "env:ALERT_WEBHOOK"\n')
        webhook.reload(load(str(tmp_path / "penstock.toml"), environ))
        webhook.post(b"one")
        await idle(webhook)
        before = webhook._hook
        webhook.reload(load(str(tmp_path / "penstock.toml"), environ))
        assert webhook._hook is before, "nothing that is on its way is sent twice for a reload"
        webhook.reload(load(str(tmp_path / "penstock.toml"), environ | {"http_proxy": f"127.0.0.1:{between.port}"}))
        webhook.post(b"two")
        await idle(webhook)
        (tmp_path / "penstock.toml").write_text("")
        webhook.reload(load(str(tmp_path / "penstock.toml"), environ))
        webhook.post(b"three")

        assert (sink.got, proxy.got) == ([b"one"], [b"two"])
        assert webhook._task.done()


def test_the_end_takes_two_seconds_at_most():
    assert CLOSING_S == 2.0

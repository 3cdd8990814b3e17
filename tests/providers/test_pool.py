"""The pool: dialing and its faults, TLS, proxies, the bound on connections, the queue, and counts that always add up."""

import asyncio
import contextlib
import datetime as dt
import errno
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from penstock.plugins import UNSENT
from penstock.providers import pool as module
from penstock.providers.connection import Connection
from penstock.providers.exchange import Fault, Limits
from penstock.providers.pool import Address, Pool, trust_store
from providers.loopback import OK, SSE, Peer, closing, drain, get, on_both_loops, until, upstream

PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
QUICK = Limits(connect_s=0.15)


async def serve(peer: Peer) -> None:
    """Answer every request."""
    while True:
        await peer.answer()


async def silence(peer: Peer) -> None:
    """Take whatever comes and say nothing."""
    await peer.end()


async def serve_once_then_nothing(peer: Peer) -> None:
    await peer.answer()


async def serve_slowly(peer: Peer) -> None:
    while True:
        await peer.request()
        await asyncio.sleep(0.01)
        await peer.send(OK)


@contextlib.contextmanager
def unused_port() -> Iterator[int]:
    """A port that is bound, so nobody else takes it, and refuses connections, since nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose accept queue is full, so that the kernel drops a SYN rather than refuse it."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def fault_of(pool: Pool, within_s: float = 5.0) -> Fault:
    """The fault that a send ends with; nothing may be left of it."""
    with pytest.raises(Fault) as caught:
        await get(pool, within_s=within_s)
    assert (pool.open, pool.idle, pool.busy) == (0, 0, 0)
    assert not caught.value.sent
    assert not caught.value.reused
    return caught.value


# Dialing.


@on_both_loops
async def test_a_refused_connection_is_named() -> None:
    with unused_port() as port, closing(Pool(Address("http", "127.0.0.1", port))) as pool:
        fault = await fault_of(pool)
        assert fault.kind == "refused"
        assert f"127.0.0.1:{port}" in fault.detail


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux drops a SYN when the backlog is full")
@pytest.mark.parametrize(("within_s", "kind"), [(5.0, "connect_timeout"), (0.1, "deadline")])
@on_both_loops
async def test_a_syn_that_is_never_answered_ends_in_time(within_s: float, kind: str) -> None:
    loop = asyncio.get_running_loop()
    with full_backlog() as port, closing(Pool(Address("http", "127.0.0.1", port), QUICK)) as pool:
        began = loop.time()
        fault = await fault_of(pool, within_s)
        assert fault.kind == kind
        assert "connecting" in fault.detail
        assert loop.time() - began < min(within_s, 0.15) + 0.05


@pytest.mark.parametrize("host", ["nowhere.invalid", "x" * 64 + ".invalid"])
@on_both_loops
async def test_a_name_that_does_not_exist_is_named(host: str) -> None:
    with closing(Pool(Address("http", host, 80))) as pool:
        fault = await fault_of(pool)
        assert fault.kind == "dns"
        assert host in fault.detail


@on_both_loops
async def test_a_name_server_that_never_answers_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.sleep(30)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never, raising=False)
    with closing(Pool(Address("http", "slow.test", 80), QUICK)) as pool:
        first, second = await asyncio.gather(get(pool), get(pool), return_exceptions=True)
        assert isinstance(first, Fault)
        assert isinstance(second, Fault)
        assert (first.kind, second.kind) == ("connect_timeout", "connect_timeout")
        assert "name" in first.detail
        pool._dialer._lookup.cancel()


@on_both_loops
async def test_the_addresses_of_a_name_are_tried_in_their_order_and_one_lookup_serves_all_dials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lookups = 0
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo
    async with upstream(serve_slowly) as up:
        with contextlib.ExitStack() as stack:
            ports = [stack.enter_context(unused_port())]
            if sys.platform == "linux":
                ports.append(stack.enter_context(full_backlog()))

            async def getaddrinfo(host: str, *args: object, **options: object) -> object:
                nonlocal lookups
                if host != "three.test":
                    return await real(host, *args, **options)  # uvloop asks for literals as well
                lookups += 1
                await asyncio.sleep(0.01)
                return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port)) for port in (*ports, up.port)]

            monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo, raising=False)
            with closing(Pool(Address("http", "three.test", 80), Limits(connect_s=0.6))) as pool:
                replies = await asyncio.gather(*(get(pool) for _ in range(5)))
                assert [reply.status for reply in replies] == [200] * 5
                assert lookups == 1


@pytest.mark.parametrize(
    ("listens", "host"), [("::1", "[::1]"), ("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "localhost")]
)
@on_both_loops
async def test_a_host_may_be_a_literal_of_either_kind_or_a_local_name(listens: str, host: str) -> None:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(
                socket.create_server((listens, 0), family=socket.AF_INET6 if ":" in listens else socket.AF_INET)
            )
        except OSError:
            pytest.skip("this machine has no IPv6")
    async with upstream(serve, host=listens) as up:
        address, _ = Address.parse(f"http://{host}:{up.port}")
        with closing(Pool(address)) as pool:
            assert (await get(pool)).status == 200


@on_both_loops
async def test_a_process_without_file_descriptors_is_told_what_to_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    async def exhausted(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(module, "_reach", exhausted)
    with closing(Pool(Address("http", "127.0.0.1", 1))) as pool:
        fault = await fault_of(pool)
        assert fault.kind == "busy"
        assert "ulimit" in fault.detail


@on_both_loops
async def test_a_dial_that_is_cancelled_leaves_nothing() -> None:
    async with upstream(silence) as up:
        with closing(Pool(Address("https", "127.0.0.1", up.port))) as pool:
            task = asyncio.ensure_future(get(pool))
            await until(lambda: up.peers)
            await asyncio.sleep(0.01)
            assert pool.busy == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.open == 0
            await up.left(0.1)


@on_both_loops
async def test_a_send_after_its_deadline_sends_nothing() -> None:
    async with upstream(serve) as up:
        with closing(up.pool()) as pool:
            await fault_of(pool, within_s=-0.1)
            assert up.peers == []
            await get(pool)
            with pytest.raises(Fault) as caught:
                await get(pool, within_s=-0.1)
            assert (caught.value.kind, caught.value.sent) == ("deadline", False)
            assert pool.idle == 1
            assert (await get(pool)).status == 200


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2", "http/1.1"])
    certificate.configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    with authority.cert_pem.tempfile() as bundle:
        return trust_store(bundle)


@on_both_loops
async def test_a_reply_comes_over_tls_and_the_connection_is_kept(authority: trustme.CA) -> None:
    async def script(peer: Peer) -> None:
        assert peer.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        await peer.answer()
        await peer.answer(SSE + b"2\r\nhi\r\n0\r\n\r\n")
        await peer.request()

    async with upstream(script, tls=server_tls(authority.issue_cert("127.0.0.1"))) as up:
        with closing(Pool(up.address, tls=trusting(authority))) as pool:
            assert (await get(pool)).whole == b"{}"
            assert await drain(await get(pool)) == [b"hi"]
            assert pool.opened_total == 1
            task = asyncio.ensure_future(get(pool))
            await asyncio.sleep(0.02)
            task.cancel()
            began = asyncio.get_running_loop().time()
            with pytest.raises(asyncio.CancelledError):
                await task
            await up.left(0.1)
            assert (up.peers[0].ended_at or 0) - began < 0.05


@on_both_loops
async def test_a_tls_connection_serves_one_request_after_another(authority: trustme.CA) -> None:
    async with upstream(serve, tls=server_tls(authority.issue_cert("127.0.0.1"))) as up:
        with closing(Pool(up.address, tls=trusting(authority))) as pool:
            for size in range(0, 200_000, 4001):
                assert (await get(pool, body=b"x" * size)).whole == b"{}"
                (connection,) = pool._connections
                assert not connection._unsent
            assert pool.opened_total == 1


@on_both_loops
async def test_a_certificate_is_compared_with_the_name_that_was_asked_for(authority: trustme.CA) -> None:
    async with upstream(serve, tls=server_tls(authority.issue_cert("localhost"))) as up:
        with closing(Pool(Address("https", "localhost", up.port), tls=trusting(authority))) as pool:
            assert (await get(pool)).status == 200
        with closing(Pool(up.address, tls=trusting(authority))) as pool:
            assert (await fault_of(pool)).kind == "tls"


@pytest.mark.parametrize("then", ["close", "reset"])
@on_both_loops
async def test_a_kept_tls_connection_that_ends_is_noticed(authority: trustme.CA, then: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer()
        await peer.request()
        peer.close() if then == "close" else peer.reset()

    async with upstream(script, tls=server_tls(authority.issue_cert("127.0.0.1"))) as up:
        with closing(Pool(up.address, tls=trusting(authority))) as pool:
            await get(pool)
            with pytest.raises(Fault) as caught:
                await get(pool)
            assert caught.value.kind in {"closed", "reset"}
            assert caught.value.reused
            assert pool.open == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("host", "IP address mismatch"),
        ("time", "expired"),
        ("authority", "unable to get local issuer"),
        ("itself", "self-signed"),
    ],
)
@on_both_loops
async def test_a_certificate_that_does_not_hold_is_refused(authority: trustme.CA, wrong: str, words: str) -> None:
    issuer = trustme.CA() if wrong == "authority" else authority
    certificate = issuer.issue_cert(
        "other.test" if wrong == "host" else "127.0.0.1", not_after=PAST if wrong == "time" else None
    )
    tls = server_tls(certificate)
    if wrong == "itself":
        own = trustme.CA()
        with own.cert_pem.tempfile() as cert, own.private_key_pem.tempfile() as key:
            tls.load_cert_chain(cert, key)
    async with upstream(serve, tls=tls) as up:
        with closing(Pool(up.address, tls=trusting(authority))) as pool:
            fault = await fault_of(pool)
            assert fault.kind == "tls"
            assert words.lower() in fault.detail.lower()


async def speak_plainly(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")


async def close_early(peer: Peer) -> None:
    await peer.reader.read(64)
    peer.close()


async def reset_early(peer: Peer) -> None:
    await peer.reader.read(64)
    peer.reset()


@pytest.mark.parametrize(
    ("script", "kind"),
    [(speak_plainly, "tls"), (close_early, "tls"), (reset_early, "tls"), (silence, "connect_timeout")],
)
@on_both_loops
async def test_a_handshake_that_fails_is_named_and_one_that_stalls_ends_in_time(script, kind: str) -> None:
    loop = asyncio.get_running_loop()
    async with upstream(script) as up:
        with closing(Pool(Address("https", "127.0.0.1", up.port), QUICK, tls=ssl.create_default_context())) as pool:
            began = loop.time()
            fault = await fault_of(pool)
            assert fault.kind == kind
            assert "TLS" in fault.detail
            assert loop.time() - began < 0.25


@on_both_loops
async def test_without_settings_the_trust_store_is_loaded_once_in_a_thread_and_ssl_cert_file_counts(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = 0
    load = module.trust_store

    def counted() -> ssl.SSLContext:
        nonlocal loads
        loads += 1
        return load()

    monkeypatch.setattr(module, "trust_store", counted)
    async with upstream(serve, tls=server_tls(authority.issue_cert("127.0.0.1"))) as up:
        with closing(Pool(up.address)) as pool:
            assert (await fault_of(pool)).kind == "tls"
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(bundle)
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        with closing(Pool(up.address)) as pool:
            replies = await asyncio.gather(*(get(pool) for _ in range(3)))
            assert [reply.status for reply in replies] == [200] * 3
            assert loads == 2


# Proxies.

SECRET = "horse%20staple"
CREDENTIAL = b"\r\nproxy-authorization: Basic YWxpY2U6aG9yc2Ugc3RhcGxl\r\n"  # alice:horse staple


@on_both_loops
async def test_a_proxy_forwards_plain_http_in_absolute_form() -> None:
    async with upstream(serve) as proxy:
        with closing(
            Pool(Address("http", "upstream.test", 80), proxy=f"http://alice:{SECRET}@127.0.0.1:{proxy.port}")
        ) as pool:
            for _ in range(2):
                assert (await get(pool)).whole == b"{}"
                assert proxy.peers[0].head.startswith(b"POST http://upstream.test/v1/chat HTTP/1.1\r\n")
                assert CREDENTIAL in proxy.peers[0].head
            assert pool.opened_total == 1


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def tunnel(peer: Peer) -> None:
    """A CONNECT proxy in a few lines."""
    peer.head = await peer.reader.readuntil(b"\r\n\r\n")
    host, _, port = peer.head.split()[1].decode().rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    await peer.send(b"HTTP/1.1 200 Connection established\r\nvia: 1.1 test\r\n\r\n")
    await asyncio.gather(pipe(reader, peer.writer), pipe(peer.reader, writer))


@on_both_loops
async def test_a_proxy_tunnels_https(authority: trustme.CA) -> None:
    tls = server_tls(authority.issue_cert("127.0.0.1"))
    async with upstream(serve, tls=tls) as up, upstream(tunnel) as proxy:
        url = f"alice:{SECRET}@127.0.0.1:{proxy.port}"
        with closing(Pool(up.address, proxy=url, tls=trusting(authority))) as pool:
            for _ in range(2):
                assert (await get(pool)).whole == b"{}"
            assert proxy.peers[0].head.startswith(
                b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % (up.port, up.port)
            )
            assert CREDENTIAL in proxy.peers[0].head
            assert pool.opened_total == 1


def proxy_says(data: bytes, *, then: str = "stay"):
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(data)
        if then == "close":
            peer.close()
        if then == "reset":
            peer.reset()

    return script


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        (proxy_says(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), "proxy", "407"),
        (proxy_says(b"HTTP/1.1 200 OK\r\n\r\nsurplus"), "proxy", "CONNECT"),
        (proxy_says(b"HTTP/1.1 200 OK\r\n" + b"x: %b\r\n" % (b"y" * 20_000)), "proxy", "CONNECT"),
        (proxy_says(b"what?\r\n\r\n"), "proxy", "CONNECT"),
        (proxy_says(b"HTTP/1.1 200 OK\r\n", then="close"), "proxy", "closed"),
        (proxy_says(b"", then="reset"), "proxy", "broke"),
        (proxy_says(b""), "connect_timeout", "tunnel"),
    ],
)
@on_both_loops
async def test_a_proxy_that_opens_no_tunnel_is_named_without_its_password(script, kind: str, words: str) -> None:
    async with upstream(script) as proxy:
        url = f"http://alice:{SECRET}@127.0.0.1:{proxy.port}"
        with closing(Pool(Address("https", "upstream.test", 443), QUICK, proxy=url)) as pool:
            fault = await fault_of(pool)
            assert fault.kind == kind
            assert words in fault.detail
            assert "horse" not in f"{fault!r} {fault} {fault.detail} {pool._dialer._proxy!r}"
        await proxy.left(0.1)


@pytest.mark.parametrize("scheme", ["http", "https"])
@on_both_loops
async def test_a_proxy_that_is_not_there_is_named_as_the_proxy(scheme: str) -> None:
    with unused_port() as port:
        for host in ("127.0.0.1", "nowhere.invalid"):
            with closing(Pool(Address(scheme, "upstream.test", 443), proxy=f"{host}:{port}")) as pool:
                fault = await fault_of(pool)
                assert fault.kind == "proxy"
                assert f"{host}:{port}" in fault.detail


# The pool.


@on_both_loops
async def test_the_connection_that_was_used_last_is_used_first() -> None:
    async with upstream(serve) as up:
        with closing(up.pool()) as pool:
            await asyncio.gather(*(get(pool) for _ in range(3)))
            assert (pool.open, pool.idle, pool.busy, pool.opened_total) == (3, 3, 0, 3)
            last = pool._idle[-1]
            for _ in range(3):
                await get(pool)
                assert pool._idle[-1] is last
            assert pool.opened_total == 3


@on_both_loops
async def test_sends_dial_side_by_side_and_never_beyond_the_bound() -> None:
    working = most = 0

    async def script(peer: Peer) -> None:
        nonlocal working, most
        while True:
            await peer.request()
            working += 1
            most = max(most, working)
            await asyncio.sleep(0.005)
            working -= 1
            await peer.send(OK)

    async with upstream(script) as up:
        with closing(up.pool(connections=3)) as pool:
            tasks = [asyncio.ensure_future(get(pool)) for _ in range(30)]
            await asyncio.sleep(0)
            assert (pool.open, pool.busy) == (3, 3)
            replies = await asyncio.gather(*tasks)
            assert all(reply.status == 200 for reply in replies)
            assert (most, len(up.peers), pool.opened_total) == (3, 3, 3)
            assert (pool.open, pool.idle, pool.busy) == (3, 3, 0)


@pytest.mark.parametrize("keeps", [True, False])
@on_both_loops
async def test_who_waits_longest_is_served_first_whether_a_connection_comes_free_or_ends(*, keeps: bool) -> None:
    order: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            order.append(await peer.request())
            await asyncio.sleep(0.001)
            await peer.send(OK if keeps else OK.replace(b"content-type", b"connection: close\r\ncontent-type"))

    async with upstream(script) as up:
        with closing(up.pool(connections=1)) as pool:
            await asyncio.gather(*(get(pool, body=b"%02d" % n) for n in range(20)))
            assert order == [b"%02d" % n for n in range(20)]
            assert pool.opened_total == (1 if keeps else 20)


@on_both_loops
async def test_a_queue_that_is_full_is_said_at_once() -> None:
    async with upstream(serve_slowly) as up:
        with closing(up.pool(connections=1, waiters=2)) as pool:
            results = await asyncio.gather(*(get(pool) for _ in range(5)), return_exceptions=True)
            faults = [result for result in results if isinstance(result, Fault)]
            assert [(fault.kind, fault.sent) for fault in faults] == [("busy", False)] * 2
            assert "2 calls wait" in faults[0].detail


@on_both_loops
async def test_waiting_for_a_connection_ends_at_the_deadline() -> None:
    loop = asyncio.get_running_loop()
    async with upstream(silence) as up:
        with closing(up.pool(connections=1)) as pool:
            first = asyncio.ensure_future(get(pool, within_s=0.2))
            await until(lambda: up.peers)
            began = loop.time()
            with pytest.raises(Fault) as caught:
                await get(pool, within_s=0.1)
            assert (caught.value.kind, caught.value.sent) == ("deadline", False)
            assert loop.time() - began < 0.15
            with pytest.raises(Fault) as caught:
                await first
            assert (caught.value.kind, caught.value.sent) == ("deadline", True)


@on_both_loops
async def test_a_waiter_that_is_cancelled_leaves_the_queue() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await go.wait()
            await peer.send(OK)

    async with upstream(script) as up:
        with closing(up.pool(connections=1)) as pool:
            tasks = [asyncio.ensure_future(get(pool)) for _ in range(4)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            await asyncio.sleep(0)
            assert len(pool._waiters) == 2
            go.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result).__name__ for result in results] == ["Reply", "CancelledError", "Reply", "Reply"]
            assert pool.opened_total == 1


@on_both_loops
async def test_what_was_handed_to_a_waiter_in_the_moment_of_its_cancellation_goes_to_the_next() -> None:
    async with upstream(serve_slowly) as up:
        with closing(up.pool(connections=1)) as pool:
            await get(pool)
            connection = pool._idle.pop()
            tasks = [asyncio.ensure_future(get(pool)) for _ in range(4)]
            await asyncio.sleep(0)
            pool.release(connection)  # to the first, which is cancelled before it runs
            tasks[0].cancel()
            assert (await tasks[1]).status == 200
            assert pool.opened_total == 1
            (connection,) = pool._connections
            connection.fail("aborted", "for the test")  # its slot goes to the last, which is cancelled before it runs
            tasks[3].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result).__name__ for result in results] == [
                "CancelledError",
                "Reply",
                "Fault",
                "CancelledError",
            ]
            assert pool.open == 0
            assert (await get(pool)).status == 200


@on_both_loops
async def test_a_connection_that_ends_on_its_way_to_a_waiter_is_replaced() -> None:
    async with upstream(serve) as up:
        with closing(up.pool(connections=1)) as pool:
            await get(pool)
            connection = pool._idle.pop()
            task = asyncio.ensure_future(get(pool))
            await asyncio.sleep(0)
            pool.release(connection)
            connection.drop()
            assert (await task).status == 200
            assert pool.opened_total == 2


@on_both_loops
async def test_a_waiter_whose_connection_ends_on_its_way_takes_one_that_is_free() -> None:
    async with upstream(serve) as up:
        with closing(up.pool(connections=2)) as pool:
            await asyncio.gather(get(pool), get(pool))
            first, second = pool._idle.pop(), pool._idle.pop()
            task = asyncio.ensure_future(get(pool))
            await asyncio.sleep(0)
            pool.release(first)
            pool.release(second)
            first.drop()
            assert (await task).status == 200
            assert pool.opened_total == 2


@on_both_loops
async def test_an_address_that_times_out_in_the_kernel_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    async def timed_out(*_: object) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(module, "_reach", timed_out)
    with closing(Pool(Address("http", "127.0.0.1", 1))) as pool:
        assert (await fault_of(pool, within_s=9.0)).kind == "connect_timeout"


@on_both_loops
async def test_a_pool_without_connections_makes_nobody_wait_beyond_the_deadline() -> None:
    with closing(Pool(Address("http", "127.0.0.1", 1), Limits(connections=0))) as pool:
        assert (await fault_of(pool, within_s=0.1)).kind == "deadline"


@on_both_loops
async def test_a_send_after_a_quiet_time_is_swept_again() -> None:
    async with upstream(serve_once_then_nothing) as up:
        with closing(up.pool(first_byte_s=0.1)) as pool:
            await get(pool)
            await until(lambda: pool._sweep.slow)
            began = asyncio.get_running_loop().time()
            with pytest.raises(Fault, match="first_byte_timeout"):
                await get(pool)
            assert asyncio.get_running_loop().time() - began < 0.15


@on_both_loops
async def test_a_failed_dial_gives_its_slot_to_the_next() -> None:
    with unused_port() as port, closing(Pool(Address("http", "127.0.0.1", port), Limits(connections=2))) as pool:
        results = await asyncio.gather(*(get(pool) for _ in range(10)), return_exceptions=True)
        assert [result.kind for result in results if isinstance(result, Fault)] == ["refused"] * 10
        assert pool.open == 0


@on_both_loops
async def test_a_connection_on_which_the_server_speaks_first_is_out_of_step(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dial(_: object, connection: Connection, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: connection, "127.0.0.1", up.port)
        await until(lambda: not connection.alive)

    monkeypatch.setattr(module.Dialer, "dial", dial)
    async with upstream(speak_plainly) as up:
        with closing(up.pool()) as pool:
            assert (await fault_of(pool)).kind == "closed"


@on_both_loops
async def test_an_unused_connection_is_closed_in_time_and_then_nothing_is_swept() -> None:
    loop = asyncio.get_running_loop()
    async with upstream(serve) as up:
        with closing(up.pool(keepalive_s=0.1)) as pool:
            await get(pool)
            began = loop.time()
            assert not pool._sweep.slow
            await until(lambda: pool.open == 0, within_s=1.0)
            assert 0.05 < loop.time() - began < 0.8
            assert pool._sweep._timer is None
            await up.left(0.1)
            assert (await get(pool)).status == 200


@on_both_loops
async def test_closing_a_pool_ends_everything_and_tells_everybody() -> None:
    async with upstream(serve_once_then_nothing, silence) as up:
        pool = up.pool(connections=3)
        await get(pool)
        tasks = [asyncio.ensure_future(get(pool)) for _ in range(3)]
        await until(lambda: len(up.peers) == 3)
        tasks += [asyncio.ensure_future(get(pool)) for _ in range(2)]
        await asyncio.sleep(0.02)
        pool.close()
        pool.close()
        assert (pool.open, pool.idle, pool.busy) == (0, 0, 0)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        kinds = [result.kind if isinstance(result, Fault) else "reply" for result in results]
        assert kinds == ["aborted"] * 5
        with pytest.raises(Fault, match="aborted"):
            await get(pool)


@on_both_loops
async def test_a_dial_that_ends_after_the_pool_was_closed_keeps_nothing() -> None:
    async with upstream(serve) as up:
        pool = up.pool()
        task = asyncio.ensure_future(get(pool))
        await asyncio.sleep(0)
        pool.close()
        with pytest.raises(Fault, match="aborted"):
            await task
        assert pool.open == 0


@on_both_loops
async def test_after_a_storm_of_cancellations_and_faults_the_counts_add_up() -> None:
    async def script(peer: Peer) -> None:
        while True:
            body = await peer.request()
            await asyncio.sleep(0.001 * (body[0] % 4))
            await peer.send(OK if body[0] % 5 else OK[:40])
            if body[0] % 5 == 0:
                peer.reset()
                return

    async with upstream(script) as up:
        with closing(up.pool(connections=4)) as pool:
            tasks = [asyncio.ensure_future(get(pool, body=bytes([n, 0]), within_s=2)) for n in range(120)]
            for n, task in enumerate(tasks):
                if n % 3 == 0:
                    await asyncio.sleep(0.001)
                    task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(result).__name__ for result in results} <= {"Reply", "Fault", "CancelledError"}
            assert pool.busy == 0
            assert not pool._waiters
            assert pool._dialing == 0
            assert all(result.kind in {"reset", "closed"} for result in results if isinstance(result, Fault))


# -- requests that leave together --


@pytest.mark.parametrize("number", [1, 2])
async def test_beside_others_a_request_leaves_at_the_end_of_the_turn(number: int) -> None:
    async with upstream(serve_slowly) as up:
        with closing(up.pool()) as pool:
            request = b"POST / HTTP/1.1\r\nhost: upstream.test\r\ncontent-length: 2\r\n\r\n{}"
            await asyncio.gather(
                *[pool.send(request, deadline=asyncio.get_running_loop().time() + 5) for _ in range(2)]
            )
            assert pool.idle == 2
            replies = [pool.begin(request, asyncio.get_running_loop().time() + 5) for _ in range(number)]
            assert [reply is not None and reply.unsent for reply in replies] == [False, True][:number]
            for reply in replies:
                assert reply is not None
                if reply.waiter is not None:
                    await reply.waiter
                assert (reply.status, reply.unsent) == (200, False)


class Told:
    """Who waits for a reply without a task."""

    def __init__(self) -> None:
        self.told = 0

    def done(self) -> bool:
        return self.told > 0

    cancelled = done

    def set_result(self, *_: bool) -> None:
        self.told += 1


@pytest.mark.parametrize("number", [1, 2])
async def test_so_it_does_without_a_task_and_each_is_told_once(number: int) -> None:
    async with upstream(serve_slowly) as up:
        with closing(up.pool()) as pool:
            request = b"POST / HTTP/1.1\r\nhost: upstream.test\r\ncontent-length: 2\r\n\r\n{}"
            now = asyncio.get_running_loop().time
            await asyncio.gather(*[pool.send(request, deadline=now() + 5) for _ in range(2)])
            waiters = [Told() for _ in range(number)]
            replies = [pool.begin(request, now() + 5, waiter) for waiter in waiters]
            pending = [
                reply is not None and reply.connection is not None and reply.connection.pending for reply in replies
            ]
            assert pending == [b"", request][:number]
            assert pool.idle == 2 - number
            await until(lambda: all(waiter.told for waiter in waiters))
            assert [reply and (reply.status, reply.unsent, reply.connection) for reply in replies] == [
                (200, False, None)
            ] * number
            assert (pool.idle, [waiter.told for waiter in waiters]) == (2, [1] * number)
            assert pool.begin(request, now() - 1, Told()) is None


async def test_a_connection_that_ends_before_its_request_leaves_says_that_it_has_not() -> None:
    async with upstream(serve_slowly) as up:
        with closing(up.pool()) as pool:
            request = b"POST / HTTP/1.1\r\nhost: upstream.test\r\ncontent-length: 2\r\n\r\n{}"
            deadline = asyncio.get_running_loop().time() + 5
            await asyncio.gather(*[pool.send(request, deadline=deadline) for _ in range(2)])
            waiter = Told()
            first, second = pool.begin(request, deadline, Told()), pool.begin(request, deadline, waiter)
            assert first is not None
            assert second is not None
            assert second.connection is not None
            second.connection.fail("closed", "it ended")
            assert (first.unsent, second.unsent, waiter.told) == (False, True, 1)
            await until(lambda: pool.busy == 0)


async def test_a_call_that_is_cancelled_before_its_request_leaves_says_so_and_sends_nothing() -> None:
    asked = []

    async def count(peer: Peer) -> None:
        while True:
            await peer.request()
            asked.append(1)
            await peer.send(OK)

    async with upstream(count) as up:
        with closing(up.pool()) as pool:
            request, deadline = (
                b"POST / HTTP/1.1\r\nhost: upstream.test\r\ncontent-length: 2\r\n\r\n{}",
                asyncio.get_running_loop().time() + 5,
            )
            await asyncio.gather(*[pool.send(request, deadline=deadline) for _ in range(2)])
            first = pool.begin(request, deadline)
            task = asyncio.create_task(pool.send(request, deadline=deadline))
            asyncio.get_running_loop().call_soon(task.cancel)  # between its first step and the end of that turn
            with pytest.raises(asyncio.CancelledError) as why:
                await task
            assert why.value.args == (UNSENT,)
            assert first is not None
            await until(lambda: pool.busy == 0)
            assert len(asked) == 3

"""Requests with an idempotency key over real sockets: one call, however often it is asked for, and the same bytes."""

import asyncio
import logging
import time
import tracemalloc
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.conftest import Client

from penstock.call import Who
from penstock.errors import InvalidRequest, Overloaded, PenstockError, UpstreamFailed
from penstock.ledger.idempotency import BODY_BYTES, LEASE_S, Replies
from penstock.ledger.store import StoreBusy
from penstock.server import idempotency
from penstock.server.http11 import Limits, Request, Server
from penstock.server.idempotency import Idempotency, read_key
from penstock.server.listening import bind

WEB = Who(team="web", key_id="k1")
HEADERS = [(b"content-type", b"text/plain")]


class Site:
    """A server whose handler answers once per key. What a call does is scripted; each call that is made is counted."""

    def __init__(self, home, wall_ns):
        self.once = Idempotency(Replies(home, wall_ns), 60.0)
        self.who = WEB
        self.within_s = 5.0
        self.calls = []
        self.ended = []
        self.crashes = []
        self.clients = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.script = self.whole

    async def handle(self, request, responder):
        try:
            if self.once.wanted(request):
                await self.once.answer(request, responder, self.who, self.run(request), self.within_s)
            else:
                await self.run(request)(responder)
        except PenstockError as error:
            if responder.started:
                responder.abort()
            else:
                responder.send(error.status, [(b"x-code", error.code.encode())], str(error).encode())

    def run(self, request):
        async def run(responder):
            self.calls.append(request.body)
            number = len(self.calls)
            try:
                return await self.script(responder, number)
            except asyncio.CancelledError as why:
                self.ended.append(("cancelled", why.args))
                raise
            finally:
                self.ended.append("ended")

        return run

    # -- what a call does --

    async def whole(self, responder, number):
        await self.gate.wait()
        responder.send(200, [*HEADERS, (b"x-penstock-call", b"c%d" % number)], b"answer %d" % number)
        return True

    async def stream(self, responder, number):
        responder.start(200, [*HEADERS, (b"x-penstock-call", b"c%d" % number)])
        responder.write(b"one ")
        await self.gate.wait()
        responder.write(b"two ")
        responder.finish(b"three")
        return True

    async def broken(self, responder, number):
        responder.start(200, [])
        responder.write(b"one ")
        responder.finish(b"error %d" % number)
        return False

    # -- clients --

    async def client(self, **options):
        one = Client(*await asyncio.open_connection("127.0.0.1", self.server.port, **options))
        self.clients.append(one)
        return one

    async def ask(self, key=b"k", body=b"{}", path=b"/v1/chat/completions", timeout_s=5.0):
        client = await self.client()
        await client.send(post(key, body, path))
        return await client.reply(timeout_s)


def post(key=b"k", body=b"{}", path=b"/v1/chat/completions"):
    named = b"" if key is None else b"idempotency-key: %b\r\n" % key
    return b"POST %b HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (path, named, len(body), body)


def same(one, other):
    """Whether a reply is that of an earlier request, said again."""
    framing = {b"content-length", b"transfer-encoding"}
    mine = [header for header in one.headers if header[0] not in framing]
    theirs = [header for header in other.headers if header[0] not in framing]
    return (
        (one.status, one.body) == (other.status, other.body)
        and theirs == [*mine, (b"idempotent-replayed", b"true")]
        and other.complete
    )


@asynccontextmanager
async def site(home, wall_ns=time.time_ns, limits=None):
    """A server; in the end nothing runs and nothing crashed."""
    one = Site(home, wall_ns)
    one.server = Server(
        one.handle, lambda *what: ([], repr(what).encode()), limits or Limits(), on_crash=one.crashes.append
    )
    await one.server.start(bind("127.0.0.1", 0, 1)[0])
    try:
        yield one
        assert one.crashes == []
    finally:
        for client in one.clients:
            client.writer.transport.abort()
        await one.server.close()
        await one.once.close()
    assert one.once.running == 0
    assert one.server.connections == 0


@pytest.fixture(autouse=True)
async def nothing_is_left():
    """No task outlives a test."""
    yield
    await asyncio.sleep(0.001)
    assert len(asyncio.all_tasks()) == 1


async def until(condition, within_s=3.0):
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, "it did not come to pass"
        await asyncio.sleep(0.002)


# -- one call, one reply --


@pytest.mark.parametrize("kind", ["whole", "stream"])
async def test_the_same_request_gets_the_same_reply_and_makes_one_call(tmp_path, kind):
    async with site(tmp_path) as one:
        one.script = getattr(one, kind)
        first = await one.ask()
        assert first.header(b"idempotent-replayed") is None
        for _ in range(3):
            assert same(first, await one.ask())
        assert len(one.calls) == 1
        assert first.body == (b"answer 1" if kind == "whole" else b"one two three")
        assert first.header(b"x-penstock-call") == b"c1"


async def test_a_client_of_one_connection_gets_it_as_well(tmp_path):
    async with site(tmp_path) as one:
        client = await one.client()
        replies = []
        for _ in range(3):
            await client.send(post())
            replies.append(await client.reply())
        assert same(replies[0], replies[1])
        assert same(replies[0], replies[2])
        assert len(one.calls) == 1


async def test_other_keys_callers_and_endpoints_are_other_calls(tmp_path):
    async with site(tmp_path) as one:
        await one.ask()
        await one.ask(b"other")
        await one.ask(path=b"/v1/messages")
        for who in (Who(team="docs"), Who(key_id="web"), Who(key_id="k1"), Who()):
            one.who = who
            assert (await one.ask()).header(b"idempotent-replayed") is None
        assert len(one.calls) == 7
        one.who = Who(team="web", key_id="k2", feature="f")
        assert (await one.ask()).body == b"answer 1", "a team's keys are one caller: a rotated one may repeat"


async def test_another_request_with_the_same_key_is_refused(tmp_path):
    async with site(tmp_path) as one:
        one.gate.clear()
        running = asyncio.create_task(one.ask())
        await until(lambda: one.calls)
        for when in ("while it is answered", "afterwards"):
            refused = await one.ask(body=b'{"other":1}')
            assert (refused.status, refused.header(b"x-code")) == (422, b"idempotency_key_reused"), when
            assert b"another request" in refused.body
            assert (await one.ask(path=b"/v1/chat/completions?alt=sse")).status == 422
            one.gate.set()
            await running
        assert len(one.calls) == 1


async def test_the_callers_key_in_the_query_is_no_part_of_the_request(tmp_path):
    async with site(tmp_path) as one:
        first = await one.ask(path=b"/v1beta/models/m:generateContent?key=ps-1&alt=sse")
        assert same(first, await one.ask(path=b"/v1beta/models/m:generateContent?key=ps-2&alt=sse"))


async def test_a_request_without_a_key_costs_nothing_and_is_made_each_time(tmp_path):
    async with site(tmp_path) as one:
        for _ in range(2):
            assert (await one.ask(None)).header(b"idempotent-replayed") is None
        assert len(one.calls) == 2
        assert one.once._thread is None
        assert not list(tmp_path.iterdir())


async def test_it_can_be_turned_off(tmp_path):
    async with site(tmp_path) as one:
        one.once.keep_s = 0
        await one.ask()
        await one.ask()
        assert len(one.calls) == 2
        assert not list(tmp_path.iterdir())


async def test_a_reply_is_kept_for_its_time(tmp_path):
    now = [time.time_ns()]
    async with site(tmp_path, lambda: now[0]) as one:
        await one.ask()
        await until(lambda: not one.once.running)
        now[0] += 59 * 10**9
        assert (await one.ask()).body == b"answer 1"
        await until(lambda: not one.once.running)
        now[0] += 2 * 10**9
        assert (await one.ask()).body == b"answer 2"


async def test_replies_outlive_the_process(tmp_path):
    async with site(tmp_path) as one:
        first = await one.ask()
    async with site(tmp_path) as one:
        assert same(first, await one.ask())
        assert one.calls == []


async def test_a_reply_is_kept_even_if_the_process_ends_in_that_moment(tmp_path):
    async with site(tmp_path) as one:
        one.gate.clear()
        running = asyncio.create_task(one.ask())
        await until(lambda: one.calls)
        one.once._thread_of_its_own().submit(time.sleep, 0.03)
        one.gate.set()
        first = await running
    async with site(tmp_path) as one:
        assert same(first, await one.ask())


async def test_a_reply_is_kept_after_what_has_to_be_on_disk_before_it(tmp_path, monkeypatch):
    done = []
    async with site(tmp_path) as one:
        outbox, keep, whole = one.server.outbox, one.once._replies.keep, one.whole

        async def recorded(responder, number):
            outbox.before(lambda: done.append("receipt"))
            return await whole(responder, number)

        monkeypatch.setattr(one.once._replies, "keep", lambda *given: (done.append("kept"), keep(*given))[1])
        one.script = recorded
        await one.ask()
        await one.once.close()
    assert done == ["receipt", "kept"]


async def test_large_requests_are_told_apart_as_well(tmp_path):
    async with site(tmp_path) as one:
        body = b"x" * (2 << 20)
        first = await one.ask(body=body)
        assert same(first, await one.ask(body=body))
        assert (await one.ask(body=body + b"y")).status == 422


# -- at the same time --


@pytest.mark.parametrize("kind", ["whole", "stream"])
async def test_concurrent_duplicates_wait_and_get_the_same_bytes(tmp_path, kind):
    async with site(tmp_path) as one:
        one.script = getattr(one, kind)
        one.gate.clear()
        running = [asyncio.create_task(one.ask()) for _ in range(50)]
        await until(lambda: one.calls)
        await asyncio.sleep(0.02)
        one.gate.set()
        replies = await asyncio.gather(*running)
        assert len(one.calls) == 1
        (first,) = [reply for reply in replies if reply.header(b"idempotent-replayed") is None]
        assert all(same(first, reply) for reply in replies if reply is not first)


async def test_a_first_stream_really_streams(tmp_path):
    async with site(tmp_path) as one:
        one.script = one.stream
        one.gate.clear()
        client = await one.client()
        await client.send(post())
        assert b"one " in await client.reader.readuntil(b"one ")
        one.gate.set()
        await client.reader.readuntil(b"three")


async def test_a_duplicate_waits_no_longer_than_its_time(tmp_path):
    async with site(tmp_path) as one:
        one.gate.clear()
        running = asyncio.create_task(one.ask())
        await until(lambda: one.calls)
        one.within_s = 0.02
        reply = await one.ask()
        assert (reply.status, reply.header(b"x-code")) == (504, b"deadline_exceeded")
        one.gate.set()
        assert (await running).status == 200


async def test_after_a_failure_one_of_those_who_wait_tries_again(tmp_path):
    async with site(tmp_path) as one:
        one.gate.clear()

        async def first_fails(responder, number):
            if number == 1:
                await one.gate.wait()
                raise UpstreamFailed("it broke")
            return await one.whole(responder, number)

        one.script = first_fails
        running = [asyncio.create_task(one.ask()) for _ in range(5)]
        await until(lambda: one.calls)
        await asyncio.sleep(0.01)
        one.gate.set()
        replies = await asyncio.gather(*running)
        assert sorted(reply.status for reply in replies) == [200] * 4 + [502]
        assert len(one.calls) == 2


# -- several processes --


@pytest.mark.parametrize("other_first", [True, False])
async def test_two_processes_make_one_call(tmp_path, other_first):
    async with site(tmp_path) as one, site(tmp_path) as two:
        one.gate.clear()
        running = asyncio.create_task(one.ask())
        await until(lambda: one.calls)
        asked = [b"other", *[b"{}"] * 3] if other_first else [*[b"{}"] * 3, b"other"]
        waiting = {}
        for number, body in enumerate(asked):
            client = await two.client()
            await client.send(post(body=body))
            waiting[number] = asyncio.create_task(client.reply())
        assert (await waiting.pop(asked.index(b"other"))).status == 422
        await asyncio.sleep(0.02)
        one.gate.set()
        first = await running
        for reply in await asyncio.gather(*waiting.values()):
            assert same(first, reply)
        assert (len(one.calls), len(two.calls)) == (1, 0)


async def test_the_call_of_a_process_that_died_is_taken_over(tmp_path):
    now = [time.time_ns()]
    dead = Replies(tmp_path, lambda: now[0])
    async with site(tmp_path, lambda: now[0]) as one:
        thread = asyncio.to_thread
        import threading

        claimed = threading.Thread(target=lambda: dead.claim(*_hashes()))
        claimed.start()
        await thread(claimed.join)
        running = asyncio.create_task(one.ask())
        await asyncio.sleep(0.05)
        assert one.calls == []
        now[0] += LEASE_S * 10**9
        assert (await running).body == b"answer 1"
    dead._store = None


def _hashes():
    """What the request of `ask()` is known by."""
    request = Request(
        "POST", b"/v1/chat/completions", "/v1/chat/completions", b"", [(b"idempotency-key", b"k")], b"{}", "1.1", ""
    )
    return idempotency._hash(("team", "web"), request.path, b"k"), idempotency._asked(request)


async def test_a_long_call_stays_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(idempotency, "RENEW_S", 0.01)
    now = [time.time_ns()]
    async with site(tmp_path, lambda: now[0]) as one, site(tmp_path, lambda: now[0]) as two:
        one.gate.clear()
        running = asyncio.create_task(one.ask())
        await until(lambda: one.calls)
        for _ in range(4):
            await asyncio.sleep(0.05)
            now[0] += (LEASE_S - 1) * 10**9
        two.within_s = 0.01
        assert (await two.ask()).status == 504
        assert two.calls == []
        one.gate.set()
        await running
        await asyncio.sleep(0.03)
        assert one.once._timer is None, "nothing is renewed where nothing is claimed"


async def test_a_renewal_that_fails_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(idempotency, "RENEW_S", 0.01)
    async with site(tmp_path) as one:

        def fail():
            raise StoreBusy("another process is writing")

        monkeypatch.setattr(one.once._replies, "renew", fail)
        one.gate.clear()
        running = asyncio.create_task(one.ask())
        await until(lambda: caplog.records)
        assert "were not renewed: another process" in caplog.text
        one.gate.set()
        assert (await running).status == 200


# -- what is not kept --


@pytest.mark.parametrize(
    "error", [UpstreamFailed("x"), Overloaded("x"), InvalidRequest("x"), UpstreamFailed("x", status=429)]
)
async def test_a_failure_is_a_new_attempt_each_time(tmp_path, error):
    async with site(tmp_path) as one:

        async def fail(responder, number):
            if number < 3:
                raise error
            return await one.whole(responder, number)

        one.script = fail
        for _ in range(2):
            assert (await one.ask()).status == error.status
        assert (await one.ask(body=b"changed")).body == b"answer 3", "what failed binds nobody to its body"
        assert (await one.ask(body=b"changed")).body == b"answer 3"


async def test_a_broken_stream_is_not_kept(tmp_path):
    async with site(tmp_path) as one:
        one.script = one.broken
        assert (await one.ask()).body == b"one error 1"
        assert (await one.ask()).body == b"one error 2"


@pytest.mark.parametrize("how", ["raises in the middle", "forgets its end"])
async def test_a_torn_reply_is_not_kept(tmp_path, how):
    async with site(tmp_path) as one:

        async def torn(responder, number):
            responder.start(200, [])
            responder.write(b"one")
            if how == "forgets its end":
                responder.abort()
                return True
            raise UpstreamFailed("x")

        one.script = torn
        client = await one.client()
        await client.send(post())
        assert not [reply for reply in await client.rest() if reply.complete]
        one.script = one.whole
        assert (await one.ask()).body == b"answer 2"


@pytest.mark.parametrize(("length", "is_kept"), [(BODY_BYTES, True), (BODY_BYTES + 1, False)])
async def test_a_reply_too_long_is_not_given_again(tmp_path, length, is_kept):
    async with site(tmp_path) as one:

        async def long(responder, number):
            responder.start(200, [])
            for _ in range(length // 1024):
                responder.write(b"x" * 1024)
                if responder.congested:
                    await responder.drained()
            responder.finish(b"x" * (length % 1024))
            return True

        one.script = long
        first = await one.ask()
        assert len(first.body) == length
        second = await one.ask()
        if is_kept:
            assert same(first, second)
        else:
            assert (second.status, second.header(b"x-code")) == (409, b"idempotency_reply_not_kept")
            assert b"new idempotency-key" in second.body
        assert len(one.calls) == 1
    async with site(tmp_path) as other:
        assert (await other.ask()).status == (200 if is_kept else 409)
        assert other.calls == []


async def test_a_ledger_that_fails_in_the_end_spoils_no_reply(tmp_path, monkeypatch, caplog):
    async with site(tmp_path) as one:

        def fail(*_):
            raise StoreBusy("another process is writing")

        monkeypatch.setattr(one.once._replies, "keep", fail)
        assert (await one.ask()).body == b"answer 1"
        await until(lambda: caplog.records)
        assert "not kept" in caplog.text


async def test_a_ledger_that_fails_at_first_refuses(tmp_path, monkeypatch):
    async with site(tmp_path) as one:

        def fail(*_):
            raise StoreBusy("another process is writing")

        monkeypatch.setattr(one.once._replies, "claim", fail)
        assert (await one.ask()).status == 503
        assert one.calls == []
        monkeypatch.undo()
        assert (await one.ask()).status == 200


# -- clients that leave --


@pytest.mark.parametrize("kind", ["whole", "stream"])
@pytest.mark.parametrize("reset", [True, False])
async def test_the_call_goes_on_when_its_client_hangs_up(tmp_path, kind, reset):
    async with site(tmp_path) as one:
        one.script = getattr(one, kind)
        one.gate.clear()
        client = await one.client()
        await client.send(post())
        await until(lambda: one.calls)
        await asyncio.sleep(0.01)
        client.hang_up(reset=reset)
        await until(lambda: not one.server.connections)
        assert one.ended == []
        assert one.once.running == 1
        waiting = asyncio.create_task(one.ask())
        await asyncio.sleep(0.01)
        one.gate.set()
        reply = await waiting
        assert reply.body == (b"answer 1" if kind == "whole" else b"one two three")
        assert reply.header(b"idempotent-replayed") == b"true"
        assert len(one.calls) == 1


async def test_a_duplicate_that_hangs_up_ends_nothing(tmp_path):
    async with site(tmp_path) as one:
        one.gate.clear()
        running = asyncio.create_task(one.ask())
        await until(lambda: one.calls)
        client = await one.client()
        await client.send(post())
        await asyncio.sleep(0.01)
        client.hang_up()
        await until(lambda: one.server.connections == 1)
        one.gate.set()
        assert (await running).status == 200


async def test_a_client_that_waits_for_another_process_and_leaves_makes_no_call(tmp_path):
    async with site(tmp_path) as one, site(tmp_path) as two:
        one.gate.clear()
        running = asyncio.create_task(one.ask())
        await until(lambda: one.calls)
        client = await two.client()
        await client.send(post())
        await until(lambda: two.once.running)
        client.hang_up()
        await until(lambda: not two.once.running)
        one.gate.set()
        await running
        assert two.calls == []


async def test_a_client_that_stops_reading_is_left_behind_and_the_call_goes_on(tmp_path):
    async with site(tmp_path, limits=Limits(write_stall_s=0.05)) as one:
        piece = b"x" * 100_000

        async def much(responder, number):
            responder.start(200, [])
            for _ in range(100):
                responder.write(piece)
                if responder.congested:
                    await responder.drained()
            responder.finish(b"end")
            return True

        one.script = much
        client = await one.client(limit=1024)
        await client.send(post())
        await until(lambda: one.ended == ["ended"])
        assert (await one.ask()).status == 409


async def test_a_defect_after_the_client_left_is_told(tmp_path, caplog):
    async with site(tmp_path) as one:

        async def crash(responder, number):
            await one.gate.wait()
            raise ZeroDivisionError

        one.script = crash
        one.gate.clear()
        client = await one.client()
        await client.send(post())
        await until(lambda: one.calls)
        client.hang_up()
        await until(lambda: not one.server.connections)
        with caplog.at_level(logging.ERROR):
            one.gate.set()
            await until(lambda: not one.once.running)
        assert "after its client had gone" in caplog.text


async def test_a_defect_reaches_the_servers_last_resort(tmp_path):
    async with site(tmp_path) as one:

        async def crash(responder, number):
            raise ZeroDivisionError

        one.script = crash
        assert (await one.ask()).status == 500
        assert [type(error) for error in one.crashes] == [ZeroDivisionError]
        one.crashes.clear()
        one.script = one.whole
        assert (await one.ask()).status == 200


# -- the end of the process --


async def test_at_a_shutdown_the_call_gets_its_last_word(tmp_path):
    async with site(tmp_path) as one:

        async def last_word(responder, number):
            responder.start(200, [])
            responder.write(b"one ")
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError as why:
                responder.finish(b"error: " + why.args[0].encode())
                raise
            return True

        one.script = last_word
        client = await one.client()
        await client.send(post())
        await client.reader.readuntil(b"one ")
        await one.server.close()
        assert b"error: shutting down" in await client.reader.read()
        assert one.ended == [("cancelled", ("shutting down",)), "ended"]
    async with site(tmp_path) as one:
        assert (await one.ask()).body == b"answer 1", "it was not kept"


async def test_closing_waits_for_what_has_no_client_any_more(tmp_path):
    async with site(tmp_path) as one:
        one.gate.clear()
        client = await one.client()
        await client.send(post())
        await until(lambda: one.calls)
        client.hang_up()
        await until(lambda: not one.server.connections)
        asyncio.get_running_loop().call_later(0.02, one.gate.set)
        await one.once.close(within_s=2.0)
        assert one.ended == ["ended"]
    async with site(tmp_path) as one:
        assert (await one.ask()).header(b"idempotent-replayed") == b"true"


async def test_closing_ends_what_takes_too_long(tmp_path, monkeypatch, caplog):
    async with site(tmp_path) as one:
        one.gate.clear()
        client = await one.client()
        await client.send(post())
        await until(lambda: one.calls)
        client.hang_up()
        await until(lambda: not one.server.connections)
        await one.once.close(within_s=0.01)
        assert one.ended == [("cancelled", ("shutting down",)), "ended"]

        def fail():
            raise StoreBusy("another process is writing")

        monkeypatch.setattr(one.once._replies, "close", fail)
        one.once._thread = None
        one.once._thread_of_its_own()
        await one.once.close()
        assert "busy at the end" in caplog.text


# -- keys --


def with_keys(*keys):
    return Request("POST", b"/", "/", b"", [(b"idempotency-key", key) for key in keys], b"", "1.1", "")


@pytest.mark.parametrize("key", [b"x", b"8e03978e-40d5-43e8-bc93-6894a57f9324", b'"quoted"', b"two words", b"~" * 255])
def test_a_key_is_any_printable_text(key):
    assert read_key(with_keys(key)) == key


@pytest.mark.parametrize(
    "keys", [(b"",), (b"x" * 256,), (b"a\x7f",), ("ß".encode(),), (b"a", b"b"), (b"a", b"a"), (b"\t",)]
)
def test_other_keys_are_refused(keys):
    with pytest.raises(InvalidRequest, match="1 to 255 printable") as caught:
        read_key(with_keys(*keys))
    assert caught.value.param == "idempotency-key"


async def test_a_bad_key_is_refused_before_anything_is_done(tmp_path):
    async with site(tmp_path) as one:
        reply = await one.ask(b"x" * 256)
        assert (reply.status, reply.header(b"x-code")) == (400, b"invalid_request")
        assert one.calls == []


@given(st.binary(max_size=300))
def test_a_key_is_read_or_refused_and_nothing_else(key):
    good = 0 < len(key) <= 255 and all(0x20 <= byte < 0x7F for byte in key)
    if good:
        assert read_key(with_keys(key)) == key
    else:
        with pytest.raises(InvalidRequest):
            read_key(with_keys(key))


parts = st.tuples(st.sampled_from(["team", "key"]), st.text(max_size=3)), st.text(max_size=3), st.binary(max_size=3)


@given(st.tuples(*parts), st.tuples(*parts))
def test_hashes_are_equal_only_for_equal_parts(one, other):
    assert (idempotency._hash(*one) == idempotency._hash(*other)) == (one == other)


async def test_many_requests_leave_nothing_in_memory(tmp_path):
    async with site(tmp_path) as one:
        client = await one.client()
        took = []
        for round_ in range(3):
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            for number in range(60):
                await client.send(post(b"%d-%d" % (round_, number)))
                await client.reply()
            one.calls.clear()
            one.ended.clear()
            client._replies.found.clear()
            client._given = 0
            took.append(tracemalloc.get_traced_memory()[0] - before)
            tracemalloc.stop()
        await until(lambda: not one.once.running)
        assert took[-1] < 100_000

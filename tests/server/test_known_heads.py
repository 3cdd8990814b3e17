"""Requests with a head that came before, over real sockets: each is answered as the first was, and asked anew who it is."""

import time

import pytest
from msgspec import structs
from tests.server.test_answered_once import site as answering_once
from tests.server.test_app import DONE, HELLO, REPLY, STOP, STREAM, USAGE, chat, request, site, stream, whole

from penstock.call import Who
from penstock.ledger.keys import Grant
from penstock.server.app import PATIENCE, Route
from penstock.wire.openai_chat import OpenAIChat
from penstock.wire.openai_chat_frame import Frame

ANSWERS = [whole(REPLY)] * 8
OWN = {b"x-penstock-call", b"idempotent-replayed"}
TIMES = 5


async def same(one, asked: bytes, times: int = TIMES):
    """Ask the same on one connection that has a memory; give the replies, of which the last ones were known."""
    client = await one.client()
    replies = []
    for _ in range(times):
        await client.send(asked)
        replies.append(await client.reply())
    return replies


def seen(reply):
    return reply.status, reply.body, [header for header in reply.headers if header[0] not in OWN]


@pytest.fixture
def routes(monkeypatch):
    """How often the route of a request was made."""
    made = []

    def count(*parts, **more):
        made.append(parts)
        return Route(*parts, **more)

    monkeypatch.setattr("penstock.server.app.Route", count)
    return made


LINES = {
    "nothing more": {},
    "its terms": {"x_penstock_feature": "docs", "x_penstock_session": "s", "x_penstock_user": "ann"},
    "a time": {"x_penstock_deadline_ms": "5000"},
    "an impossible time": {"x_penstock_deadline_ms": "0"},
    "strictness": {"x_penstock_strict": "true", "openai_beta": "x"},
    "odd strictness": {"x_penstock_strict": "perhaps"},
    "a foreign page": {"origin": "http://evil.example"},
    "no cache": {"x_penstock_cache": "no-store"},
    "an odd wish": {"x_penstock_cache": "?"},
}


@pytest.mark.parametrize("name", LINES)
async def test_every_request_is_answered_as_the_first_one_was(tmp_path, routes, name):
    async with site(tmp_path, *ANSWERS) as one:
        first, *others = await same(one, chat(**LINES[name]))
        assert [seen(reply) for reply in others] == [seen(first)] * (TIMES - 1)
        assert len({reply.header(b"x-penstock-call") for reply in others}) == (
            len(others) if first.status == 200 else 1
        )
        receipts = one.receipts()
    assert len({(r.status, r.team, r.feature, r.session, r.user, r.error) for r in receipts}) <= 1
    if first.status == 200:
        assert len(receipts) == TIMES
        assert len(routes) == 3  # as they were read twice, and once for all


async def test_streams_and_whole_replies_may_follow_one_another(tmp_path):
    pieces = list(stream(HELLO, STOP, USAGE, DONE))
    async with site(tmp_path, whole(REPLY), pieces, whole(REPLY), pieces, whole(REPLY), pieces) as one:
        client = await one.client()
        for _ in range(3):
            await client.send(chat())
            assert (await client.reply()).body == REPLY
            await client.send(chat(stream=True))
            assert (await client.reply()).body == HELLO + STOP + DONE


@pytest.mark.parametrize("name", LINES)
async def test_the_first_request_of_a_connection_is_answered_as_on_another_one_that_is_still_there(tmp_path, name):
    async with site(tmp_path, *ANSWERS) as one:
        first, *_ = await same(one, chat(**LINES[name]), 3)
        if first.status == 200:
            for _ in range(3):
                replies = await same(one, chat(**LINES[name]), 1)
                assert [seen(reply) for reply in replies] == [seen(first)]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("cached", [False, True])
async def test_a_request_is_read_once_whichever_way_it_goes(tmp_path, monkeypatch, streamed, cached):
    """Without a task, or, as a stream and what may be answered from the cache, in one."""
    read, pieces = [], list(stream(HELLO, STOP, USAGE, DONE))
    inner, known = OpenAIChat.read_request, Frame.read

    def count(self, body, *more):
        read.append(body)
        return inner(self, body, *more)

    def count_known(self, body):
        read.append(body)
        return known(self, body)

    monkeypatch.setattr(OpenAIChat, "read_request", count)
    monkeypatch.setattr(Frame, "read", count_known)
    async with site(tmp_path, *[pieces if streamed else whole(REPLY)] * TIMES) as one:
        asked = chat(stream=True) if streamed else chat()
        if cached:
            asked = asked.replace(b"fast", b"kept")
            plan = one.gateway.router.plan("fast", Who())
            kept = structs.replace(plan, model="kept", options=structs.replace(plan.options, cache_s=60.0))
            one.gateway.router._routes["kept"] = kept
        replies = await same(one, asked)
        assert {reply.status for reply in replies} == {200}
        assert len(read) == TIMES


def said(text: bytes, rest: bytes = b"", model: bytes = b"fast") -> bytes:
    message = b'{"role":"user","content":%b}' % text
    return b'{"model":"%b","messages":[%b]%b}' % (model, message, rest)


@pytest.mark.parametrize("first", [b"", b',"temperature":0.2,"max_tokens":9', b',"user":"ann"'])
async def test_what_differs_in_its_messages_alone_is_read_and_sent_on_as_any_other(tmp_path, monkeypatch, first):
    known, framed = Frame.read, []

    def count(self, body):
        call = known(self, body)
        framed.append(call is not None)
        return call

    monkeypatch.setattr(Frame, "read", count)
    other = b',"seed":3'
    asked = [said(b'"Hi"', first)] * 4
    asked += [said(b'"one"', first), said(b'"two \xc3\xab"', first)]
    asked += [said(b'"%d"' % number, other) for number in range(PATIENCE + 3)]
    async with site(tmp_path, *[whole(REPLY)] * len(asked)) as one:
        client = await one.client()
        for body in asked:
            await client.send(chat(body=body))
            reply = await client.reply()
            assert (reply.status, reply.body) == (200, REPLY)
        for body in (said(b'"\xff"', other), said(b"7", other), said(b'"x"', other + b',"model":"b"'), b"{}"):
            await client.send(chat(body=body))
            assert (await client.reply()).status == 400
        sent = [request.partition(b"\r\n\r\n")[2] for request in one.there.requests]
    assert sent == [body.replace(b'"fast"', b'"m"') for body in asked]
    again = 1  # what is refused is read once more, where that is answered
    assert framed.count(True) == 4 + again, "one kind from the start, another one once it has come often enough"


async def test_a_key_that_is_revoked_is_refused_with_the_next_request(tmp_path, routes):
    async with site(tmp_path, *ANSWERS) as one:
        made = one.gateway.keys.create(Grant(team="web"), time.time_ns())
        client = await one.client()
        for _ in range(5):
            await client.send(chat(authorization=f"Bearer {made.key}"))
            assert (await client.reply()).status == 200
        one.gateway.keys.revoke(made.id, time.time_ns())
        await client.send(chat(authorization=f"Bearer {made.key}"))
        assert (await client.reply()).status == 401
        assert {receipt.team for receipt in one.receipts()} == {"web"}
    assert len(routes) == 3


async def test_a_first_key_closes_the_door_for_those_who_were_let_in(tmp_path):
    async with site(tmp_path, *ANSWERS) as one:
        client = await one.client()
        for _ in range(5):
            await client.send(chat())
            assert (await client.reply()).status == 200
        one.gateway.keys.create(Grant(), time.time_ns())
        await client.send(chat())
        assert (await client.reply()).status == 401


async def test_each_key_of_one_connection_is_its_own(tmp_path):
    async with site(tmp_path, *ANSWERS) as one:
        keys = {team: one.gateway.keys.create(Grant(team=team), time.time_ns()).key for team in ("one", "two")}
        client = await one.client()
        for team in ("one", "one", "one", "one", "two", "two", "one", "two"):
            await client.send(chat(authorization=f"Bearer {keys[team]}"))
            assert (await client.reply()).status == 200
            assert one.receipts()[-1].team == team


async def test_an_idempotency_key_that_comes_again_finds_its_answer(tmp_path):
    async with answering_once(tmp_path, *ANSWERS) as one:
        first, *others = await same(one, chat(idempotency_key="k"))
        assert {reply.body for reply in others} == {first.body}
        assert all(reply.header(b"idempotent-replayed") == b"true" for reply in others)
        assert len(one.there.requests) == 1


@pytest.mark.parametrize("path", ["/v1/models/x:foo", "/api/show", "/v1/nothing", "/elsewhere", "/v1/models"])
async def test_what_is_no_call_has_no_route_to_be_known(tmp_path, routes, path):
    async with site(tmp_path, *STREAM) as one:
        first, *others = await same(one, request("POST", path, b'{"model":"fast"}'))
        assert [seen(reply) for reply in others] == [seen(first)] * (TIMES - 1)
    assert routes == []

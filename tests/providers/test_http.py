"""A provider over HTTP, against a server on loopback that answers well, badly, or not at all."""

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest
from tests.providers.upstream import stream, upstream, whole

from penstock.errors import (
    ConfigError,
    DeadlineExceeded,
    UpstreamAuth,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from penstock.plugins import UNSENT
from penstock.providers import http as module
from penstock.providers.failures import retry_after_s
from penstock.providers.http import HttpProvider
from penstock.receipt import Usage
from penstock.reply import Ended, Failed, TextDelta, UsageReported, fold
from penstock.settings import ProviderSettings, Secret
from penstock.target import Target
from penstock.wire.registry import dialect

CHAT = dialect("chat")
BODY = b'{"model": "fast", "messages": [{"role": "user", "content": "hi"}], "seed": 7}'
STREAMED = BODY[:-1] + b', "stream": true}'
TARGET = Target(id="box/m", provider="box", model="m", dialect="chat")
REPLY = (
    b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}'
)
START = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
HELLO = START + b'{"role":"assistant","content":"Hello"},"finish_reason":null}]}\n\n'
STOP = START + b'{},"finish_reason":"stop"}]}\n\n'
USAGE = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}\n\n'
)
DONE = b"data: [DONE]\n\n"


def provider(one, **more):
    settings = {"name": "box", "kind": "openai", "base_url": one.url, "api_key": Secret("sk-very-secret", "env:X")}
    return HttpProvider(ProviderSettings(**(settings | more)))


async def answer(one, body=BODY, *, wait_s=5.0, **more):
    """Send one call and read its reply to the end; give exchange and chunks."""
    box = provider(one, **more)
    try:
        deadline = asyncio.get_running_loop().time() + wait_s
        exchange = await box.send(CHAT.read_request(body), TARGET, deadline)
        chunks = []
        try:
            while (chunk := await exchange.read()) is not None:
                chunks.append(chunk)
        finally:
            exchange.close()
        return exchange, chunks
    finally:
        await box.close()


def events(chunks):
    return [event for chunk in chunks for event in chunk.events]


async def test_the_clients_bytes_go_out_with_the_targets_model_and_the_replys_bytes_come_back():
    async with upstream(whole(REPLY)) as one:
        exchange, chunks = await answer(one)
    assert one.body == BODY.replace(b'"fast"', b'"m"')
    assert [chunk.raw for chunk in chunks] == [REPLY]
    assert exchange.lane == "verbatim"
    assert UsageReported(Usage(9, 2)) in events(chunks)


async def test_the_request_carries_the_credential_and_asks_for_no_compression():
    async with upstream(whole(REPLY)) as one:
        await answer(one, headers=(("X-Team", "web"),))
    head = one.head.decode().split("\r\n")
    assert head[0] == "POST /v1/chat/completions HTTP/1.1"
    assert f"host: 127.0.0.1:{one.port}" in head
    assert "authorization: Bearer sk-very-secret" in head
    assert "accept-encoding: identity" in head
    assert "x-team: web" in head


async def test_a_server_that_needs_no_key_gets_none():
    async with upstream(whole(REPLY)) as one:
        await answer(one, api_key=None)
    assert b"authorization" not in one.head


async def test_a_streams_bytes_pass_and_usage_that_the_client_did_not_ask_for_is_taken_out():
    async with upstream(stream(HELLO, STOP, USAGE, DONE)) as one:
        _, chunks = await answer(one, STREAMED)
    assert b"".join(chunk.raw for chunk in chunks) == HELLO + STOP + DONE
    assert UsageReported(Usage(9, 2)) in events(chunks)
    assert msgspec.json.decode(one.body)["stream_options"] == {"include_usage": True}


async def test_usage_that_the_client_asked_for_stays():
    asked = STREAMED[:-1] + b', "stream_options": {"include_usage": true}}'
    async with upstream(stream(HELLO, STOP, USAGE, DONE)) as one:
        _, chunks = await answer(one, asked)
    assert b"".join(chunk.raw for chunk in chunks) == HELLO + STOP + USAGE + DONE


async def test_usage_is_not_asked_for_where_the_provider_cannot_give_it():
    async with upstream(stream(HELLO, STOP, DONE)) as one:
        await answer(one, STREAMED, stream_usage=False)
    assert "stream_options" not in msgspec.json.decode(one.body)


async def test_a_call_of_another_dialect_is_translated():
    async with upstream(whole(REPLY)) as one:
        box = provider(one)
        call = CHAT.read_request(BODY)
        foreign = msgspec.structs.replace(call, dialect="", raw=b"")
        exchange = await box.send(foreign, TARGET, asyncio.get_running_loop().time() + 5)
        chunk = await exchange.read()
        await box.close()
    assert (exchange.lane, chunk.raw) == ("translated", None)
    assert fold(chunk.events).choices[0].text == "Hello"
    assert msgspec.json.decode(one.body)["model"] == "m"


async def test_a_whole_reply_to_a_stream_is_taken_apart():
    async with upstream(whole(REPLY)) as one:
        exchange, chunks = await answer(one, STREAMED)
    assert exchange.lane == "translated"
    assert TextDelta("Hello") in events(chunks)


@pytest.mark.parametrize(
    ("status", "kind", "shown"),
    [
        (400, UpstreamRejected, 400),
        (401, UpstreamAuth, 502),
        (403, UpstreamAuth, 502),
        (404, UpstreamMissing, 502),
        (422, UpstreamRejected, 422),
        (429, UpstreamRateLimited, 429),
        (500, UpstreamFailed, 502),
        (503, UpstreamOverloaded, 503),
        (529, UpstreamOverloaded, 529),
    ],
)
async def test_an_error_of_the_provider_is_classified(status, kind, shown):
    error = b'{"error": {"message": "because", "type": "x", "code": null}}'
    async with upstream(whole(error, f"{status} No")) as one:
        with pytest.raises(kind) as raised:
            await answer(one)
    assert type(raised.value) is kind
    assert raised.value.status == shown
    assert raised.value.message.startswith("box/m: ")


async def test_an_error_that_quotes_our_key_is_not_shown():
    error = b'{"error": {"message": "Incorrect API key: sk-very-secret", "code": "invalid_api_key"}}'
    for status in ("401 No", "400 Bad", "500 Oops"):
        async with upstream(whole(error, status)) as one:
            with pytest.raises(Exception, match="box/m") as raised:
                await answer(one)
        assert "sk-very-secret" not in str(raised.value)
        assert b"sk-very-secret" not in raised.value.body


async def test_an_error_as_an_event_stream_is_read():
    async with upstream(
        [b"HTTP/1.1 500 Oops\r\ncontent-type: text/event-stream\r\ncontent-length: 4\r\n\r\n", b"oops"]
    ) as one:
        with pytest.raises(UpstreamFailed):
            await answer(one)


async def test_retry_after_is_read():
    async with upstream(whole(b"{}", "429 Slow", headers="retry-after: 7\r\n")) as one:
        with pytest.raises(UpstreamRateLimited) as raised:
            await answer(one)
    assert raised.value.retry_after_s == 7.0


@pytest.mark.parametrize("status", ["302 Found", "204 Nothing", "201 Created"])
async def test_a_status_that_answers_no_call_is_a_lie(status):
    async with upstream(whole(b"", status, headers="location: http://169.254.169.254/\r\n")) as one:
        with pytest.raises(UpstreamGarbled):
            await answer(one)


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"{", b"[]", b'{"choices": 7}'])
async def test_a_body_that_is_no_reply_is_garbled(body):
    async with upstream(whole(body)) as one:
        with pytest.raises(UpstreamGarbled):
            await answer(one)


async def test_a_stream_that_nobody_asked_for_is_garbled():
    async with upstream(stream(HELLO, DONE)) as one:
        with pytest.raises(UpstreamGarbled):
            await answer(one)


async def test_a_stream_that_ends_without_its_mark_says_so():
    async with upstream(stream(HELLO)) as one:
        _, chunks = await answer(one, STREAMED)
    assert isinstance(events(chunks)[-1], Failed)
    assert Ended() not in events(chunks)


async def test_a_stream_that_is_cut_raises():
    async with upstream(stream(HELLO, end=False), None) as one:
        one.replies = [[*stream(HELLO, end=False), None]]
        with pytest.raises((UpstreamGarbled, UpstreamFailed)):
            await answer(one, STREAMED)


async def test_silence_before_the_first_byte_and_in_between_times_out():
    async with upstream([5.0]) as one:
        with pytest.raises(UpstreamTimeout):
            await answer(one, first_byte_s=0.05)
    async with upstream([*stream(HELLO, end=False), 5.0]) as one:
        with pytest.raises(UpstreamTimeout):
            await answer(one, STREAMED, idle_s=0.05)


async def test_the_deadline_ends_it():
    async with upstream([5.0]) as one:
        with pytest.raises(DeadlineExceeded):
            await answer(one, wait_s=0.05)
        await asyncio.wait_for(one.closed.wait(), 1)


async def test_a_provider_that_is_not_there_failed():
    async with upstream(whole(REPLY)) as one:
        pass
    with pytest.raises(UpstreamFailed):
        await answer(one)


async def test_only_headers_that_clients_rely_on_are_passed_on_and_none_that_quotes_our_key():
    headers = (
        "x-ratelimit-remaining-requests: 5\r\nx-request-id: r1\r\nset-cookie: a=b\r\nx-ratelimit-x: sk-very-secret\r\n"
    )
    async with upstream(whole(REPLY, headers=headers)) as one:
        exchange, _ = await answer(one)
    assert exchange.headers == ((b"x-ratelimit-remaining-requests", b"5"), (b"x-request-id", b"r1"))


async def test_connections_are_kept_for_the_next_call():
    async with upstream(whole(REPLY)) as one:
        box = provider(one)
        for _ in range(3):
            exchange = await box.send(CHAT.read_request(BODY), TARGET, asyncio.get_running_loop().time() + 5)
            assert await exchange.read() is not None
            assert await exchange.read() is None
            exchange.close()
        assert not one.closed.is_set()
        await box.close()
    assert len(one.requests) == 3


async def test_a_stream_read_to_its_last_event_leaves_its_connection_for_the_next_call():
    frames = [*stream(HELLO, STOP, DONE, end=False), 0.02, b"0\r\n\r\n"]
    async with upstream(frames) as one:
        box = provider(one)
        for _ in range(2):
            exchange = await box.send(CHAT.read_request(STREAMED), TARGET, asyncio.get_running_loop().time() + 5)
            while (chunk := await exchange.read()) is not None:
                if Ended() in chunk.events:
                    break
            exchange.close()
            await asyncio.sleep(0.05)
        assert not one.closed.is_set()
        await box.close()
    assert len(one.requests) == 2


async def test_a_stream_that_is_not_read_to_its_end_is_dropped_at_once():
    async with upstream([*stream(HELLO, end=False), 5.0]) as one:
        box = provider(one)
        exchange = await box.send(CHAT.read_request(STREAMED), TARGET, asyncio.get_running_loop().time() + 5)
        assert await exchange.read() is not None
        exchange.close()
        await asyncio.wait_for(one.closed.wait(), 0.1)
        await box.close()


async def test_a_provider_that_never_ends_its_framing_is_dropped_after_a_moment():
    async with upstream([*stream(HELLO, STOP, DONE, end=False), 5.0]) as one:
        box = provider(one)
        exchange = await box.send(CHAT.read_request(STREAMED), TARGET, asyncio.get_running_loop().time() + 5)
        while Ended() not in (await exchange.read()).events:
            pass
        exchange.close()
        await asyncio.wait_for(one.closed.wait(), 1)
        await box.close()


@pytest.mark.parametrize(
    "content", [b"no certificate", b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_of_certificates_that_holds_none_is_a_mistake_of_the_configuration(tmp_path, content):
    (tmp_path / "ca.pem").write_bytes(content)
    settings = ProviderSettings(
        name="x", kind="openai", base_url="https://127.0.0.1:1/v1", ca_file=tmp_path / "ca.pem", api_key=None
    )
    with pytest.raises(ConfigError, match=r"providers\.x\.ca_file: .*ca\.pem holds no certificate"):
        HttpProvider(settings)


def test_a_kind_without_an_address_of_its_own_needs_one():
    with pytest.raises(ConfigError, match="base_url"):
        HttpProvider(ProviderSettings(name="x", kind="elsewhere", dialect="chat"))


NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({b"retry-after": b"3"}, 3.0),
        ({b"retry-after": b"1.5"}, 1.5),
        ({b"retry-after-ms": b"250", b"retry-after": b"9"}, 0.25),
        ({b"retry-after": b"Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ({b"retry-after": b"Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
        ({b"retry-after": b"Sat, 21 Nov 2026 12:00:30 -0000"}, 30.0),
        ({b"retry-after": b"-5"}, 0.0),
        ({b"retry-after": b"1e9"}, 86_400.0),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"soon"}, None),
        ({b"retry-after-ms": b"soon", b"retry-after": b"2"}, 2.0),
        ({}, None),
    ],
)
def test_every_form_of_retry_after_is_read(headers, seconds):
    assert retry_after_s(headers.get, NOW) == seconds


async def asked(box, body=BODY, *, wait_s=5.0):
    """Send one call over a provider; give the exchange and all chunks."""
    exchange = await box.send(CHAT.read_request(body), TARGET, asyncio.get_running_loop().time() + wait_s)
    chunks = []
    try:
        while (chunk := await exchange.read()) is not None:
            chunks.append(chunk)
    finally:
        exchange.close()
    return exchange, chunks


def told(exchange, chunks):
    return exchange.lane, exchange.dropped, exchange.status, exchange.headers, chunks


@pytest.mark.parametrize("headers", ["", "x-request-id: r1\r\n", "x-ratelimit-x: sk-very-secret\r\n"])
async def test_a_call_on_a_kept_connection_is_asked_and_answered_as_the_first_one(headers):
    async with upstream(whole(REPLY, headers=headers)) as one:
        box = provider(one, headers=(("X-Team", "web"),))
        answers = [told(*await asked(box)) for _ in range(4)]
        assert not one.closed.is_set()
        await box.close()
    assert len(set(one.requests)) == 1
    assert all(answer == answers[0] for answer in answers)


async def test_headers_are_passed_on_from_each_reply_also_after_one_that_had_none():
    plain, named = whole(REPLY), whole(REPLY, headers="x-request-id: r1\r\n")
    async with upstream(plain, plain, plain, named, plain, named) as one:
        box = provider(one)
        passed = [(await asked(box))[0].headers for _ in range(6)]
        await box.close()
    mine = ((b"x-request-id", b"r1"),)
    assert passed == [(), (), (), mine, (), mine]


async def test_on_a_kept_connection_errors_streams_and_answers_follow_on_each_other():
    error = whole(b'{"error": {"message": "because"}}', "400 Bad")
    streamed = b"".join(stream(HELLO, STOP, DONE))
    async with upstream(whole(REPLY), error, streamed, whole(REPLY), error, streamed) as one:
        box = provider(one)
        for _ in range(2):
            assert (await asked(box))[1][0].raw == REPLY
            with pytest.raises(UpstreamRejected, match="because"):
                await asked(box)
            _, chunks = await asked(box, STREAMED)
            assert b"".join(chunk.raw for chunk in chunks) == HELLO + STOP + DONE
        await box.close()
    assert len(one.requests) == 6


async def test_a_kept_connection_that_ends_before_its_reply_may_be_tried_again_at_once():
    async with upstream(whole(REPLY), [None]) as one:
        box = provider(one)
        await asked(box)
        with pytest.raises(UpstreamFailed) as raised:
            await asked(box)
        await box.close()
    assert (raised.value.retry_after_s, raised.value.worked) == (0.0, False)


async def test_a_call_on_a_kept_connection_ends_at_its_deadline_and_is_not_even_sent_after_it():
    async with upstream(whole(REPLY), [5.0]) as one:
        box = provider(one)
        await asked(box)
        with pytest.raises(DeadlineExceeded):
            await asked(box, wait_s=-1.0)
        assert len(one.requests) == 1
        with pytest.raises(DeadlineExceeded):
            await asked(box, wait_s=0.05)
        await asyncio.wait_for(one.closed.wait(), 1)
        await box.close()


async def test_cancelling_a_call_on_a_kept_connection_closes_it_at_once_and_does_not_say_that_nothing_was_sent():
    async with upstream(whole(REPLY), [5.0]) as one:
        box = provider(one)
        await asked(box)
        task = asyncio.create_task(asked(box))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as why:
            await task
        await asyncio.wait_for(one.closed.wait(), 0.1)
        await box.close()
    assert UNSENT not in why.value.args


@pytest.mark.parametrize("body", [STREAMED, STREAMED.replace(b"fast", b"other")])
async def test_a_stream_that_is_pushed_is_the_stream_that_is_read(body):
    pieces = [HELLO, HELLO[:50], HELLO[50:] + STOP, USAGE, DONE]
    async with upstream([each for piece in stream(*pieces) for each in (piece, 0.002)]) as one:
        box = provider(one)
        _, read = await asked(box, body)
        exchange = await box.send(CHAT.read_request(body), TARGET, asyncio.get_running_loop().time() + 5)
        pushed, pauses = [], 0

        def give(chunk):
            pushed.append(chunk)
            return len(pushed) % 2 == 0  # every other chunk fills the room

        while await exchange.pump(give):
            pauses += 1
        exchange.close()
        await box.close()
    assert pauses > 0
    assert b"".join(chunk.raw for chunk in pushed) == b"".join(chunk.raw for chunk in read) == HELLO * 2 + STOP + DONE
    assert events(pushed) == events(read)


QUOTING = b'{"error": {"message": "Incorrect API key: sk-very-secret", "code": "invalid_api_key"}}'


@pytest.mark.parametrize("is_pushed", [False, True])
async def test_an_error_within_a_stream_that_quotes_our_key_is_not_shown(is_pushed):
    async with upstream([*stream(HELLO, b"data: %b\n\n" % QUOTING, end=False), 0.1]) as one:
        box = provider(one)
        exchange = await box.send(CHAT.read_request(STREAMED), TARGET, asyncio.get_running_loop().time() + 5)
        chunks = []
        if is_pushed:
            await exchange.pump(lambda chunk: chunks.append(chunk) or type(chunk.events[-1]) is Failed)
        else:
            while not chunks or type(chunks[-1].events[-1]) is not Failed:
                chunks.append(await exchange.read())
        exchange.close()
        await box.close()
    error = events(chunks)[-1].error
    assert "sk-very-secret" not in error.message
    assert b"sk-very-secret" not in b"".join(chunk.raw for chunk in chunks)


@pytest.mark.parametrize("call", [BODY, STREAMED])
async def test_an_error_with_status_200_that_quotes_our_key_is_not_shown(call):
    async with upstream(whole(QUOTING)) as one:
        _, chunks = await answer(one, call)
    (failed,) = [event for event in events(chunks) if type(event) is Failed]
    assert "sk-very-secret" not in failed.error.message


async def test_a_whole_reply_that_is_closed_or_cannot_be_read_gives_no_more():
    async with upstream(whole(REPLY), whole(b"{")) as one:
        box = provider(one)
        deadline = asyncio.get_running_loop().time() + 5
        exchange = await box.send(CHAT.read_request(BODY), TARGET, deadline)
        exchange.close()
        assert await exchange.read() is None
        exchange = await box.send(CHAT.read_request(BODY), TARGET, deadline)
        with pytest.raises(UpstreamGarbled):
            await exchange.read()
        assert await exchange.read() is None
        await box.close()


@pytest.mark.parametrize("body", [BODY, STREAMED])
async def test_an_exchange_shows_neither_content_nor_credential(body):
    async with upstream(whole(REPLY) if body is BODY else [*stream(HELLO, STOP, DONE)]) as one:
        box = provider(one)
        exchange = await box.send(CHAT.read_request(body), TARGET, asyncio.get_running_loop().time() + 5)
        shown = repr(exchange)
        exchange.close()
        await box.close()
    assert "sk-very-secret" not in shown
    assert "Hello" not in shown


async def test_what_is_remembered_of_questions_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 3)
    async with upstream(whole(REPLY)) as one:
        box = provider(one)
        for number in range(5):
            target = msgspec.structs.replace(TARGET, model=f"m{number}")
            exchange = await box.send(CHAT.read_request(BODY), target, asyncio.get_running_loop().time() + 5)
            exchange.close()
        assert len(box._routes) == 2
        await box.close()

"""Bad input from both sides, through the official OpenAI client: a clear error, a server that lives on, and no secret anywhere."""

import asyncio
import base64
import contextlib
import gzip
import http.client
import json
import socket
import threading
import time
import zlib
from pathlib import Path
from urllib.parse import quote

import openai
import pytest
from tests.e2e.conftest import served
from tests.providers.upstream import Upstream, stream, whole

from penstock.ledger.store import FILE, Filter, Span, Store

HI = [{"role": "user", "content": "hi"}]
KEYS = {
    "usual": "sk-proj-CanaryA1b2C3d4E5f6G7h8",
    "short": "canary4711x",
    "odd": "canary+tweety/4711=",
}
"""Of the providers, by the kind of their look: none of them may come out."""

REPLY = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}
GOOD = whole(json.dumps(REPLY).encode())
START = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
HELLO = START + b'{"role":"assistant","content":"Hello"},"finish_reason":null}]}\n\n'
STOP = START + b'{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


class Liar:
    """A provider on a thread of its own that answers with whatever it is told."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.there = Upstream(GOOD)
        self.server = self.run(asyncio.start_server(self.there.serve, "127.0.0.1", 0))
        self.there.port = self.server.sockets[0].getsockname()[1]

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    @contextlib.contextmanager
    def answering(self, *replies):
        """Answer so for the length of a block; then well again."""
        self.there.replies = list(replies)
        try:
            yield
        finally:
            self.there.replies = [GOOD]

    def close(self):
        async def stop():
            self.server.close()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Front:
    """A gateway process as a client sees it, everything that it ever answered, and its receipts."""

    def __init__(self, gateway, liar):
        self.gateway, self.liar = gateway, liar
        self.seen = bytearray()
        self.client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=20)

    def ask(self, model="usual", **options):
        return self.client.chat.completions.create(**({"model": model, "messages": HI} | options))

    def read(self, **options):
        """Read a stream to its end; give its text, and the error that ended it."""
        said = []
        try:
            for chunk in self.ask(stream=True, **options):
                said += [choice.delta.content or "" for choice in chunk.choices]
        except openai.APIError as error:
            return "".join(said), error
        return "".join(said), None

    def raw(self, body, *, kept=True):
        """Send a body as it is; give the reply and its data."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=20)
        try:
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
            reply = connection.getresponse()
            data = reply.read()
            if kept:
                self.seen += b"\n".join(f"{name}: {value}".encode() for name, value in reply.getheaders()) + data
            return reply, data
        finally:
            connection.close()

    def receipts(self):
        """Every receipt, oldest first."""
        with contextlib.closing(Store.open(self.gateway.home / FILE)) as store:
            return store.calls(Filter(Span(0, 2**62)), 10_000)[::-1]

    def answered(self):
        """Make a call that is answered as ever; give the id of its receipt once that is in the ledger."""
        raw = self.client.chat.completions.with_raw_response.create(model="usual", messages=HI)
        assert raw.parse().choices[0].message.content == "Hello"
        call_id = raw.headers["x-penstock-call"]
        until = time.monotonic() + 3
        while all(receipt.id != call_id for receipt in self.receipts()):
            assert time.monotonic() < until, "the receipt of a call did not reach the ledger"
            time.sleep(0.005)
        return call_id

    @contextlib.contextmanager
    def leaving(self, count):
        """The block leaves so many receipts, no more and no fewer, and the next call is answered; give them."""
        left = []
        before = self.answered()
        yield left
        after = self.answered()
        left += [receipt for receipt in self.receipts() if before < receipt.id < after]
        assert len(left) == count


CONFIG = "".join(
    f"""
[providers.{name}]
kind = "openai"
base_url = "URL"
api_key = "file:{name}.key"
retries = 0
first_byte_s = 1
idle_s = 1
[models.{name}]
targets = ["{name}/m"]
[prices."{name}/m"]
input = 0.15
output = 0.6
"""
    for name in KEYS
)


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad-input")
    for name, key in KEYS.items():
        (folder / f"{name}.key").write_text(key)
    liar = Liar()
    with served(folder, CONFIG.replace("URL", liar.there.url)) as gateway:
        one = Front(gateway, liar)
        yield one
        one.client.close()
        assert gateway.process.poll() is None, "the server did not live on"
    liar.close()
    kept = {path: path.read_bytes() for path in gateway.home.rglob("*") if path.is_file()}
    for place, data in {**kept, gateway.log: gateway.log.read_bytes(), Path("replies"): bytes(one.seen)}.items():
        for key in KEYS.values():
            assert_hidden(key, data, place)
    assert "Traceback" not in gateway.log.read_text()


def forms(key):
    """A secret as it might come out: as it is, in part, or written in another way."""
    plain = key.encode()
    yield from {plain[at : at + 12] for at in range(max(1, len(plain) - 11))}
    yield base64.b64encode(plain).rstrip(b"=")
    yield plain.hex().encode()
    yield quote(key, safe="").encode()
    yield key.replace("/", "\\/").encode()


def assert_hidden(key, data, place="the reply"):
    for form in forms(key):
        assert form not in data, f"{place} shows a provider's key"


def problem(error):
    """The error object that the official client found, in OpenAI's shape and no other."""
    body = error.body
    assert set(body) == {"message", "type", "param", "code"}
    assert isinstance(body["message"], str)
    assert body["message"]
    return body


# -- from the client --

WRONG_OPTIONS = {
    "negative max_tokens": ({"max_tokens": -1}, "max_tokens"),
    "max_tokens of nothing": ({"max_tokens": 0}, "max_tokens"),
    "max_tokens that is no number": ({"max_tokens": "many"}, "max_tokens"),
    "half a token": ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
    "temperature 9": ({"temperature": 9}, "temperature"),
    "temperature below zero": ({"temperature": -0.1}, "temperature"),
    "temperature in words": ({"temperature": "hot"}, "temperature"),
    "top_p 2": ({"top_p": 2}, "top_p"),
    "no messages": ({"messages": []}, "messages"),
    "messages that are a string": ({"messages": "hi"}, "messages"),
    "a message that is none": ({"messages": [5]}, "messages[0]"),
    "a role that is none": ({"messages": [{"role": "king", "content": "hi"}]}, "messages[0].role"),
    "a message without a role": ({"messages": [{"content": "hi"}]}, "messages[0].role"),
    "content of a number": ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    "a part without its text": (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
    ),
    "n 0": ({"n": 0}, "n"),
    "n 1000": ({"n": 1000}, "n"),
    "stream in words": ({"extra_body": {"stream": "yes"}}, "stream"),
    "a tool without a function": ({"tools": [{"type": "function"}]}, "tools[0].function"),
    "tools that are an object": ({"tools": {}}, "tools"),
    "a model that is a number": ({"model": 5}, "model"),
    "a model without a name": ({"model": ""}, "model"),
    "a seed in words": ({"seed": "x"}, "seed"),
    "seventeen stops": ({"stop": ["x"] * 17}, "stop"),
}


@pytest.mark.parametrize("case", WRONG_OPTIONS)
@pytest.mark.parametrize("streamed", [False, True])
def test_an_option_that_is_wrong_is_named(front, case, streamed):
    options, param = WRONG_OPTIONS[case]
    if streamed and "extra_body" not in options:
        options = options | {"stream": True}
    with front.leaving(0), pytest.raises(openai.BadRequestError) as raised:
        front.ask(**options)

    error = problem(raised.value)
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(param) or param.startswith(error["param"])
    assert len(error["message"]) < 400


def test_an_unknown_model_is_refused_with_the_nearest_ones(front):
    with front.leaving(1), pytest.raises(openai.NotFoundError) as raised:
        front.ask("ussual")

    error = problem(raised.value)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "Did you mean: usual" in error["message"]


MESSAGE = b'{"model": "usual", "messages": [{"role": "user", "content": "hi"}]'
BODIES = {
    "nothing": b"",
    "blanks": b"  \n ",
    "no JSON": b"{ not json",
    "half of it": MESSAGE,
    "a list": b"[1, 2]",
    "a string": b'"hi"',
    "null": b"null",
    "NaN": MESSAGE + b', "temperature": NaN}',
    "Infinity": MESSAGE + b', "temperature": Infinity}',
    "1e400": MESSAGE + b', "temperature": 1e400}',
    "five thousand digits": MESSAGE + b', "seed": ' + b"9" * 5000 + b"}",
    "a lone surrogate": b'{"model": "usual", "messages": [{"role": "user", "content": "\\ud800"}]}',
    "a lone surrogate beside": MESSAGE + b', "user": "\\udc00"}',
    "two models": b'{"model": "usual", ' + MESSAGE[1:] + b"}",
    "two of an escaped name": MESSAGE + b', "mode\\u006c": "short"}',
    "bytes that are no UTF-8": b'{"model": "usual", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "UTF-16": (MESSAGE + b"}").decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + MESSAGE + b"}",
    "a NUL": MESSAGE + b"}\x00",
    "a control character": b'{"model": "usual", "messages": [{"role": "user", "content": "\x01"}]}',
    "something behind it": MESSAGE + b"} {}",
    "100,000 arrays": b"[" * 100_000,
    "100,000 arrays in a member": MESSAGE + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 objects in a member": MESSAGE + b', "x": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "65 levels in a schema": MESSAGE + b', "x": ' + b"[" * 65 + b"]" * 65 + b"}",
    "gzip": gzip.compress(MESSAGE + b"}"),
    "a form": b"model=usual&messages=hi",
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_is_no_request_is_refused(front, case):
    with front.leaving(0):
        reply, data = front.raw(BODIES[case])

    assert reply.status == 400
    error = json.loads(data)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) < 400


def test_numbers_beyond_all_bounds_are_the_providers_business(front):
    with front.leaving(2):
        assert front.ask(max_tokens=10**30).choices
        assert front.ask(seed=-(10**30)).choices


def test_200_000_members_are_read_or_refused_in_time(front):
    body = MESSAGE + b"," + b",".join(b'"m%d":%d' % (n, n) for n in range(200_000)) + b"}"
    with front.leaving(1):
        began = time.monotonic()
        reply, _ = front.raw(body)

    assert time.monotonic() - began < 10
    assert reply.status == 200  # unknown members are the provider's business


def test_a_body_of_20_mb_is_taken_and_a_larger_one_is_not(front):
    fits = MESSAGE.replace(b'"hi"', b'"' + b"word " * (4 * 1024 * 1024 - 100) + b'"') + b"}"
    assert len(fits) < 20 * 1024 * 1024
    with front.leaving(1):
        assert front.raw(fits)[0].status == 200
    with front.leaving(0), pytest.raises(openai.APIStatusError) as raised:
        front.ask(messages=[{"role": "user", "content": "x" * (21 << 20)}])

    assert raised.value.status_code == 413
    assert problem(raised.value)["code"] == "request_too_large"


def test_names_that_are_none_are_refused(front):
    for header in ("x-penstock-feature", "x-penstock-session"):
        with front.leaving(1), pytest.raises(openai.BadRequestError) as raised:
            front.ask(extra_headers={header: "x" * 200})
        assert problem(raised.value)["param"] == header.removeprefix("x-penstock-")


def test_without_a_key_where_keys_are_asked_for_nobody_gets_in(front, tmp_path):
    liar = front.liar
    for name, key in KEYS.items():
        (tmp_path / f"{name}.key").write_text(key)
    with served(tmp_path, CONFIG.replace("URL", liar.there.url)) as gateway:
        made = json.loads(gateway.command("keys", "create", "--team", "web", "--json"))["key"]
        time.sleep(0.3)
        for wrong in ("none", "ps-wrong", made[:-1] + ("A" if made[-1] != "A" else "B")):
            with (
                openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=wrong, max_retries=0) as client,
                pytest.raises(openai.AuthenticationError) as raised,
            ):
                client.chat.completions.create(model="usual", messages=HI)
            assert problem(raised.value)["code"] == "invalid_api_key"
            assert wrong not in str(raised.value.body)
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=made, max_retries=0) as client:
            assert client.chat.completions.create(model="usual", messages=HI).choices
        assert made.encode() not in b"".join(path.read_bytes() for path in gateway.home.rglob("*") if path.is_file())


# -- from the provider --


class Endless:
    """Pieces without an end."""

    def __init__(self, head, piece, wait=None):
        self.head, self.piece, self.wait = head, piece, wait

    def __iter__(self):
        yield self.head
        while True:
            yield self.piece
            if self.wait is not None:
                yield self.wait


def gzipped(megabytes):
    """A reply that grows to so many megabytes: one block of zeros, repeated as it is."""
    press = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = press.compress(b'{"x": "') + press.flush(zlib.Z_FULL_FLUSH)
    block = press.compress(b"0" * (1 << 20)) + press.flush(zlib.Z_FULL_FLUSH)
    return whole(head + block * megabytes, headers="content-encoding: gzip\r\n")


LIES = {
    "a page of HTML": (
        whole(b"<html><title>Welcome</title></html>", content_type="text/html"),
        502,
        "upstream_garbled",
    ),
    "text": (whole(b"all is well", content_type="text/plain"), 502, "upstream_garbled"),
    "nothing": (whole(b""), 502, "upstream_garbled"),
    "half of it": (whole(json.dumps(REPLY).encode()[:40]), 502, "upstream_garbled"),
    "no object": (whole(b"[]"), 502, "upstream_garbled"),
    "no choices": (whole(b'{"id": "1", "object": "chat.completion", "choices": []}'), 502, "upstream_garbled"),
    "NaN": (whole(b'{"id": "1", "choices": [{"index": NaN}]}'), 502, "upstream_garbled"),
    "100,000 levels": (whole(b'{"choices": ' + b"[" * 100_000), 502, "upstream_garbled"),
    "no UTF-8": (whole(json.dumps(REPLY).encode().replace(b"Hello", b"\xff\xff")), 502, "upstream_garbled"),
    "a redirect": (whole(b"", "302 Found", headers="location: http://127.0.0.1:TRAP/\r\n"), 502, "upstream_garbled"),
    "a permanent redirect": (
        whole(b"", "308 Moved", headers="location: http://127.0.0.1:TRAP/\r\n"),
        502,
        "upstream_garbled",
    ),
    "201": (whole(json.dumps(REPLY).encode(), "201 Created"), 502, "upstream_garbled"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 502, "upstream_garbled"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", 502, "upstream_garbled"),
    "HTTP/0.9": ([b"Hello\r\n", None], 502, "upstream_garbled"),
    "endless headers": (Endless(b"HTTP/1.1 200 OK\r\n", b"x-a: " + b"b" * 1000 + b"\r\n"), 502, "upstream_garbled"),
    "a header of 1 MB": (whole(b"{}", headers="x-a: " + "b" * 1_000_000 + "\r\n"), 502, "upstream_garbled"),
    "endless 1xx": (Endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), 502, "upstream_garbled"),
    "two lengths": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}x", 502, "upstream_garbled"),
    "a gzip bomb": (gzipped(200), 502, "upstream_garbled"),
    "gzip that is none": (whole(b"{}", headers="content-encoding: gzip\r\n"), 502, "upstream_garbled"),
    "brotli": (whole(b"{}", headers="content-encoding: br\r\n"), 502, "upstream_garbled"),
    "less than was promised": ([GOOD[:-10], None], 502, "upstream_garbled"),
    "an end before the head": ([b"HTTP/1.1 200 OK\r\n", None], 502, "upstream_failed"),
    "silence": ([30.0], 504, "upstream_timeout"),
    "silence in the body": ([GOOD[:-10], 30.0], 504, "upstream_timeout"),
    "a stream": ([*stream(HELLO, STOP, DONE)], 502, "upstream_garbled"),
    "500 in HTML": (whole(b"<html><h1>Oops</h1></html>", "500 Oops", "text/html"), 502, "upstream_failed"),
    "503": (whole(b"", "503 Full"), 503, "upstream_overloaded"),
    "401": (whole(b'{"error": "who are you?"}', "401 No"), 502, "upstream_auth"),
    "404": (whole(b'{"detail": "Not Found"}', "404 No"), 502, "upstream_missing"),
    "an error with status 200": (
        whole(b'{"error": {"message": "down", "type": "server_error"}}'),
        502,
        "upstream_failed",
    ),
}


@pytest.mark.parametrize("case", LIES)
def test_a_provider_that_lies_is_a_clear_error(front, case):
    reply, status, code = LIES[case]
    with front.leaving(1), front.liar.answering(reply), pytest.raises(openai.InternalServerError) as raised:
        front.ask()

    assert raised.value.status_code == status
    error = problem(raised.value)
    assert error["code"] == code
    assert raised.value.response.headers["x-penstock-call"]


def test_a_redirect_is_not_followed(front):
    with socket.socket() as trap:
        trap.bind(("127.0.0.1", 0))
        trap.listen()
        trap.settimeout(0.3)
        place = f"location: http://127.0.0.1:{trap.getsockname()[1]}/latest/meta-data\r\n"
        for status in ("301 Moved", "302 Found", "307 Moved", "308 Moved"):
            reply = whole(b"", status, headers=place)
            with front.leaving(1), front.liar.answering(reply), pytest.raises(openai.InternalServerError):
                front.ask()
        with pytest.raises(TimeoutError):
            trap.accept()


def test_a_gzip_bomb_does_not_blow_up_the_memory(front):
    def memory_kb():
        status = Path(f"/proc/{front.gateway.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell how much memory a process has")
    before = memory_kb()
    for _ in range(3):
        with front.liar.answering(gzipped(1000)), pytest.raises(openai.InternalServerError):
            front.ask()

    assert memory_kb() - before < 150_000


def test_a_drip_ends_at_the_deadline(front):
    drip = Endless(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n", b" ", 0.02)
    with front.leaving(1), front.liar.answering(drip):
        began = time.monotonic()
        with pytest.raises(openai.InternalServerError) as raised:
            front.ask(extra_headers={"x-penstock-deadline-ms": "300"})
        took = time.monotonic() - began

    assert problem(raised.value)["code"] == "deadline_exceeded"
    assert raised.value.status_code == 504
    assert took < 1.0


def test_a_rate_limit_of_the_provider_is_one_for_the_client(front):
    limited = whole(b'{"error": {"message": "slow down"}}', "429 Slow", headers="retry-after: 2\r\n")
    with front.leaving(1), front.liar.answering(limited), pytest.raises(openai.RateLimitError) as raised:
        front.ask()

    assert raised.value.response.headers["retry-after"] == "2"
    assert problem(raised.value)["code"] == "upstream_rate_limited"


BROKEN_STREAMS = {
    "cut": [*stream(HELLO, end=False), None],
    "cut within a frame": [*stream(HELLO, HELLO[:50], end=False), None],
    "no end mark": [*stream(HELLO)],
    "cut, delimited by the end": [SSE + b"connection: close\r\n\r\n" + HELLO, None],
    "garbage": [*stream(HELLO, b"data: garbage\n\n", DONE)],
    "no UTF-8": [*stream(HELLO, HELLO.replace(b"Hello", b"\xff"), DONE)],
    "100,000 levels": [*stream(HELLO, b'data: {"choices":' + b"[" * 100_000 + b"\n\n", DONE)],
    "an error event": [*stream(HELLO, b'data: {"error": {"message": "down", "type": "server_error"}}\n\n', DONE)],
    "a frame of 40 MB": [SSE + b"\r\n" + HELLO + b"data: " + b"x" * (40 << 20), None],
    "bad chunk framing": [*stream(HELLO, end=False), b"zz\r\nnot a chunk\r\n"],
    "silence": [*stream(HELLO, end=False), 30.0],
    "NUL bytes": [*stream(HELLO, b"\x00" * 100 + b"\n\n", b"data: \x00\n\n", DONE)],
}


@pytest.mark.parametrize("case", BROKEN_STREAMS)
def test_a_stream_that_breaks_gives_what_came_and_then_an_error(front, case):
    with front.leaving(1) as left, front.liar.answering(BROKEN_STREAMS[case]):
        said, error = front.read()

    assert said == "Hello"
    assert type(error) is openai.APIError, "the stream was torn, or taken for whole"
    (receipt,) = left
    assert (receipt.status, receipt.error) == ("error", problem(error)["code"])
    assert receipt.usage.output_tokens > 0


def test_a_stream_that_says_nothing_is_an_error_with_a_status(front):
    for pieces in ([*stream()], [*stream(DONE)], [*stream(b": hello\n\n")], [*stream(b"data: garbage\n\n")]):
        with front.leaving(1), front.liar.answering(pieces):
            said, error = front.read()
        assert said == ""
        assert isinstance(error, openai.InternalServerError)
        assert problem(error)["code"] == "upstream_garbled"


# -- secrets --

SAID = "Incorrect API key provided: {}. You can find it under https://example.org."


def quoting(text):
    return json.dumps({"error": {"message": SAID.format(text), "type": "invalid_request_error", "code": None}}).encode()


def ways_out(key):
    """Every place where a provider may quote the key that it was called with."""
    yield "401", whole(quoting(key), "401 No")
    yield "403", whole(quoting(key), "403 No")
    yield "400", whole(quoting(key), "400 Bad")
    yield "422", whole(quoting(key), "422 Bad")
    yield "404", whole(quoting(key), "404 No")
    yield "429", whole(quoting(key), "429 Slow")
    yield "500", whole(quoting(key), "500 Oops")
    yield "text", whole(SAID.format(key).encode(), "500 Oops", "text/plain")
    yield "HTML", whole(f"<html><title>{key}</title></html>".encode(), "502 Bad", "text/html")
    yield "headers", whole(b"{}", "500 Oops", headers=f"x-request-id: {key}\r\nx-ratelimit-x: Bearer {key}\r\n")
    yield (
        "headers of an answer",
        whole(json.dumps(REPLY).encode(), headers=f"x-request-id: {key}\r\nopenai-x: {key}\r\n"),
    )


def let_out(front, name, reply, *, streamed=False, kept=True):
    """What a client gets to see when a provider answers so."""
    body = {"model": name, "messages": HI} | ({"stream": True} if streamed else {})
    with front.liar.answering(reply):
        answer, data = front.raw(json.dumps(body), kept=kept)
    return b"\n".join(f"{field}: {value}".encode() for field, value in answer.getheaders()) + b"\n" + data


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("way", [way for way, _ in ways_out("")])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_key_that_a_provider_quotes_does_not_come_out(front, name, way, streamed):
    reply = dict(ways_out(KEYS[name]))[way]
    assert_hidden(KEYS[name], let_out(front, name, reply, streamed=streamed))


WRITTEN = {
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "hex": lambda key: key.encode().hex(),
    "in a URL": lambda key: quote(key, safe=""),
    "half": lambda key: key[: len(key) // 2 + 6],
}


@pytest.mark.parametrize(("name", "form"), [*(("usual", form) for form in WRITTEN), ("odd", "half")])
def test_a_key_that_a_provider_quotes_in_another_form_or_in_part_does_not_come_out(front, name, form):
    for status in ("400 Bad", "500 Oops"):
        out = let_out(front, name, whole(quoting(WRITTEN[form](KEYS[name])), status))
        assert_hidden(KEYS[name], out)


ESCAPED = b'{"error": {"message": "Wrong key: canary\\u002btweety\\/4711=", "type": "invalid_request_error"}}'


@pytest.mark.parametrize("status", ["400 Bad", "500 Oops"])
def test_a_key_that_a_provider_quotes_with_escapes_does_not_come_out(front, status):
    out = let_out(front, "odd", whole(ESCAPED, status), kept=False)

    assert b"canary" not in out


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", ["short", "odd"])
def test_a_key_that_a_provider_quotes_in_an_error_with_status_200_does_not_come_out(front, name, streamed):
    error = json.dumps({"error": {"message": SAID.format(KEYS[name]), "type": "server_error"}}).encode()
    reply = [*stream(HELLO, b"data: " + error + b"\n\n")] if streamed else whole(error)
    assert_hidden(KEYS[name], let_out(front, name, reply, streamed=streamed, kept=False))


@pytest.mark.parametrize("status", ["400 Bad", "500 Oops"])
def test_a_key_that_stands_where_a_message_is_cut_does_not_come_out_in_part(front, status):
    said = json.dumps({"error": {"message": "x, " * 129 + KEYS["odd"], "type": "server_error"}}).encode()
    out = let_out(front, "odd", whole(b"[" + said + b"]", status), kept=False)

    assert b"canary+" not in out


def test_a_key_that_stands_escaped_in_another_member_than_the_message_does_not_come_out(front):
    said = (
        b'{"error": {"message": "no", "type": "x", "param": null, "code": null, "seen": "canary\\u002btweety\\/4711="}}'
    )
    out = let_out(front, "odd", whole(said, "400 Bad"), kept=False)

    assert b"canary" not in out

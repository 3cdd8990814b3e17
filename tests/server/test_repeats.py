"""Heads that come again: the same requests and the same replies as without a memory, whatever the bytes are."""

import asyncio
import gc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.server.test_reading import VECTORS

from penstock.server import repeats, request
from penstock.server.http11 import Connection, Limits, Request, Responder
from penstock.server.reading import DEAF
from penstock.server.repeats import CHANCES, FIRST, LONGEST, Heads
from penstock.server.request import DIGITS, Endpoints

NAMES = (b"Host: a", b"Authorization: Bearer ps-secret", b"Content-Type: application/json")


def post(body: bytes = b"hello", *, length: bytes | None = None, lines=NAMES, line=b"POST /x?y=1 HTTP/1.1", more=()):
    digits = b"%d" % len(body) if length is None else length
    head = [line, *lines, b"Content-Length: " + digits, *more, b"User-Agent: u", b"", b""]
    return b"\r\n".join(head) + body


GET = b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n"
AGAIN = post()


class Talk:
    """One connection in memory: what its handler saw, what it answered, and which requests were known by their head."""

    def __init__(
        self, make_server, memory, *, remembers: bool, limits: Limits | None = None, before: bytes = b""
    ) -> None:
        """Begin; the requests `before` came on another connection, which is still there."""
        self.seen: list[Request] = []
        self.server, self.crashes = make_server(self.keep, limits)
        self.transport = memory()
        self.other = Connection(self.server)
        if before:
            self.other.connection_made(memory())
            self.other._known = learned(self.server.heads, before, limits=self.server.limits)
        self.connection = Connection(self.server)
        self.connection.connection_made(self.transport)
        if not remembers:
            self.connection._chances = 0

    async def keep(self, request: Request, responder: Responder) -> None:
        self.seen.append(request)
        await asyncio.sleep(0)
        text = f"{request.method} {request.path}?{request.query.decode()} {request.fields} {len(self.seen)} "
        responder.send(200, [], text.encode() + request.body)

    async def say(self, data: bytes, turns: int = 12) -> None:
        self.connection.data_received(data)
        for _ in range(turns):
            await asyncio.sleep(0)

    @property
    def known(self) -> list[bool]:
        return [one.head is not None for one in self.seen]

    @property
    def state(self):
        one = self.connection
        silent = one.deadline == 0.0 or one._state == DEAF
        return one._state, silent, one._paused, len(one._queue), one._held, self.transport.closed, self.crashes

    @property
    def said(self):
        fields = Request.__struct_fields__[:-2]
        return [[getattr(one, name) for name in fields] for one in self.seen], b"".join(self.transport.written)

    def hang_up(self) -> None:
        self.connection.connection_lost(None)
        if self.other._known is not None:
            self.other.connection_lost(None)


@pytest.fixture
def talk(make_server, memory):
    def make(*, remembers: bool = True, limits: Limits | None = None, before: bytes = b"") -> Talk:
        return Talk(make_server, memory, remembers=remembers, limits=limits, before=before)

    return make


async def both(talk, reads, turns: int = 12, limits: Limits | None = None, before: bytes = b"") -> Talk:
    """Send the same reads with and without a memory; nothing but the time it takes may differ."""
    with_it, without = talk(limits=limits, before=before), talk(remembers=False, limits=limits, before=before)
    for data in reads:
        await with_it.say(data, 0)
        await without.say(data, turns)  # on the same turns of the loop
        assert with_it.said == without.said, data
        assert with_it.state == without.state, data
    assert not any(without.known)
    for one in (with_it, without):
        one.hang_up()
    await asyncio.sleep(0)
    assert with_it.said == without.said
    return with_it


async def test_a_head_that_comes_again_is_known_from_the_third_request_on(talk):
    one = await both(talk, [AGAIN] * 5)
    assert one.known == [False, False, True, True, True]
    assert one.seen[1].headers == one.seen[4].headers
    assert one.seen[2].head is one.seen[4].head


async def test_a_new_connection_need_not_have_its_first_head_parsed_if_another_one_sends_it(talk):
    one = await both(talk, [post(b"another"), AGAIN, AGAIN], before=AGAIN)
    assert one.known == [True] * 3
    other = post(b"hello", more=(b"X: y",))
    one = await both(talk, [AGAIN, other, other], before=AGAIN)
    assert one.known == [True, False, True]
    one = await both(talk, [other, AGAIN, AGAIN], before=AGAIN)
    assert one.known == [False, False, True]


@pytest.mark.parametrize("cut", [1, 17, len(AGAIN) - 1])
async def test_a_first_request_in_pieces_is_read_by_the_parser(talk, cut):
    one = await both(talk, [AGAIN[:cut], AGAIN[cut:], AGAIN, AGAIN], before=AGAIN)
    assert one.known == [False, False, True]


async def test_the_first_head_of_a_peer_s_last_connection_is_as_good_as_its_limits(talk):
    one = talk(before=AGAIN)
    one.server.limits = Limits(body_bytes=3)
    await one.say(AGAIN)
    assert b" 413 " in b"".join(one.transport.written)
    one.hang_up()


async def test_now_and_then_the_first_head_of_a_connection_is_learned(talk):
    one, connections = talk(), []
    connections.append(one.connection)
    for number in range(FIRST + 2):
        one.connection = connection = Connection(one.server)
        one.transport = type(one.transport)()
        connection.connection_made(one.transport)
        connections.append(connection)
        await one.say(AGAIN)
        assert (connection._known is not None) is (number >= FIRST - 1)
        assert one.seen[-1].head is (None if number < FIRST else connection._known)
    for connection in connections:
        connection.connection_lost(None)
    await asyncio.sleep(0)


async def test_a_body_of_another_length_has_its_own_content_length(talk):
    bodies = [b"hello"] * 3 + [b"", b"a" * 10, b"b" * 999, b"hello"]
    one = await both(talk, [post(body) for body in bodies])
    assert one.known == [False, False, True, True, True, True, True]
    for seen, body in zip(one.seen, bodies, strict=True):
        assert seen.fields[b"content-length"] == b"%d" % len(body)
        assert (b"content-length", b"%d" % len(body)) in seen.headers
        assert seen.body == body


async def test_the_head_may_end_with_its_length_or_begin_with_it(talk):
    for data in (
        b"POST /x HTTP/1.1\r\nHost: a\r\ncontent-length:2\r\n\r\nab",
        b"POST /x HTTP/1.1\r\nCONTENT-LENGTH: \t2\r\nHost: a\r\n\r\nab",
    ):
        assert (await both(talk, [data] * 4)).known == [False, False, True, True]


DIFFERENT = {
    "a name in lower case": AGAIN.replace(b"Host", b"host"),
    "the length's name in lower case": AGAIN.replace(b"Content-Length", b"content-length"),
    "another key": AGAIN.replace(b"ps-secret", b"ps-other"),
    "another path": AGAIN.replace(b"/x?", b"/z?"),
    "another method": AGAIN.replace(b"POST", b"PUT"),
    "another version": AGAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "one more header": post(more=(b"X: y",)),
    "a length more": post(more=(b"Content-Length: 5",)),
    "a length more before": post(lines=(*NAMES, b"Content-Length: 5")),
    "a smaller length more": post(lines=(*NAMES, b"Content-Length: 1")),
    "a transfer coding": post(b"0\r\n\r\n", more=(b"Transfer-Encoding: chunked",)),
    "a transfer coding behind": AGAIN.replace(b"User-Agent: u", b"Transfer-Encoding: chunked"),
    "a wish to close": post(more=(b"Connection: close",)),
    "an expectation": post(more=(b"Expect: 100-continue",)),
    "an offer to upgrade": post(more=(b"Connection: upgrade", b"Upgrade: h2c")),
    "a leading zero": post(length=b"05"),
    "many leading zeros": post(length=b"000000000005"),
    "a sign": post(length=b"+5"),
    "a minus": post(length=b"-5"),
    "a blank before": post(length=b" 5"),
    "a tab before": post(length=b"\t5"),
    "a blank behind": post(length=b"5 "),
    "a blank inside": post(b"h" * 55, length=b"5 5"),
    "a list": post(length=b"5, 5"),
    "no digits": post(length=b""),
    "hexadecimal digits": post(length=b"0x5"),
    "an underscore": post(b"h" * 10, length=b"1_0"),
    "other digits": post(length=b"\xd9\xa5"),
    "superscript digits": post(b"h" * 2, length="²".encode()),
    "too many digits": post(length=b"5" * 9),
    "a number beyond all": post(length=b"9" * 40),
    "a NUL behind": post(length=b"5\0"),
    "a line break inside": post(length=b"5\r\nX: y"),
    "a bare CR behind": post(length=b"5\r"),
    "a bare LF behind": AGAIN.replace(b"Length: 5\r\n", b"Length: 5\n"),
    "a body too long": AGAIN + b"x",
    "a body too short": AGAIN[:-1],
    "another request behind": AGAIN + AGAIN,
    "another's first byte behind": AGAIN + b"P",
    "a line end behind": AGAIN + b"\r\n",
    "a line end before": b"\r\n" + AGAIN,
    "a request smuggled as body": post(GET),
    "a length shorter than the request smuggled": post(GET, length=b"0"),
    "a head alone": AGAIN[: -len(b"hello")],
    "half a head": AGAIN[:20],
    "one byte": b"P",
    "nothing but digits": b"5" * 100,
    "an old line folding": post(length=b"5\r\n 5"),
    "a body above the limit": post(length=b"20971521"),
    "a body at the end of the limit": post(b"x" * 2000, length=b"2000"),
    "a body just above it": post(b"x" * 2001, length=b"2001"),
}
PLAIN = {"a request smuggled as body", "a body at the end of the limit"}


@pytest.mark.parametrize("name", DIFFERENT)
async def test_what_differs_is_read_as_if_nothing_were_known(talk, name):
    different = DIFFERENT[name]
    one = await both(talk, [AGAIN] * 4 + [different, AGAIN, AGAIN, GET, AGAIN], limits=Limits(body_bytes=2000))
    assert one.known[:4] == [False, False, True, True]
    assert one.known[4:5] == [True] if name in PLAIN else one.known[4:5] != [True]


@pytest.mark.parametrize("name", [name for name, (_, data) in VECTORS.items() if len(data) < 1000])
async def test_what_is_refused_is_refused_behind_heads_that_were_known(talk, name):
    await both(talk, [AGAIN] * 4 + [VECTORS[name][1], GET])
    await both(talk, [AGAIN] * 4 + [AGAIN + VECTORS[name][1] + GET])


@pytest.mark.parametrize("cut", range(1, len(AGAIN)))
async def test_a_request_in_pieces_is_read_by_the_parser_and_the_next_one_is_in_step(talk, cut):
    one = await both(talk, [AGAIN] * 4 + [AGAIN[:cut], AGAIN[cut:], AGAIN, AGAIN])
    assert one.known == [False, False, True, True, False, False, True]


async def test_a_read_that_ends_within_the_next_request_leaves_nothing_to_know(talk):
    one = await both(talk, [AGAIN] * 4 + [AGAIN + b"POS", b"T" + AGAIN[4:], AGAIN, AGAIN])
    assert one.known == [False, False, True, True, False, False, False, True]
    one = await both(talk, [AGAIN] * 4 + [AGAIN + b"P", AGAIN])  # PPOST
    assert len(one.seen) == 5


async def test_a_read_that_begins_within_a_request_is_not_learned(talk):
    hidden = b"POST /hidden HTTP/1.1\r\nHost: a\r\nX: " + AGAIN  # the second read looks like a request, and is not one
    for cut in (len(hidden) - len(AGAIN), 3):
        await both(talk, [GET, hidden[:cut], hidden[cut:], AGAIN, AGAIN, AGAIN])
    body = b"POST /outer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(AGAIN)
    one = await both(talk, [GET, body, AGAIN, body, AGAIN, AGAIN, AGAIN, AGAIN])
    assert [seen.path for seen in one.seen] == ["/other", "/outer", "/outer", "/x", "/x", "/x"]


async def test_requests_that_wait_for_others_are_known_too_and_keep_their_order(talk):
    bodies = [b"%d" % number for number in range(20)]
    one = await both(talk, [*[AGAIN] * 3, *map(post, bodies), GET, *map(post, bodies)], turns=0)
    for _ in range(200):
        await asyncio.sleep(0)
    one = talk()
    for data in [*[AGAIN] * 3, *map(post, bodies)]:
        one.connection.data_received(data)
    for _ in range(200):
        await asyncio.sleep(0)
    assert [seen.body for seen in one.seen[3:]] == bodies
    assert all(one.known[3:])
    one.hang_up()


async def test_reading_pauses_for_known_heads_as_well(talk):
    one = talk(limits=Limits(pipelined=4))
    for _ in range(9):
        one.connection.data_received(AGAIN)
        if one.transport.paused:
            break
    assert len(one.connection._queue) == 4
    for _ in range(100):
        await asyncio.sleep(0)
    assert not one.transport.paused
    one.hang_up()


async def test_new_limits_are_kept_to_from_the_next_request_on(talk):
    one = talk()
    for _ in range(4):
        await one.say(AGAIN)
    one.server.limits = Limits(body_bytes=4)
    await one.say(AGAIN)
    assert one.transport.written[-1].startswith(b"HTTP/1.1 413 ")
    assert len(one.seen) == 4
    one.hang_up()


async def test_new_limits_of_heads_hold_for_those_that_are_known(talk):
    one = talk()
    for _ in range(4):
        await one.say(AGAIN)
    one.server.limits = Limits(header_count=2)
    await one.say(AGAIN)
    assert one.transport.written[-1].startswith(b"HTTP/1.1 431 ")
    one.hang_up()


async def test_a_drain_ends_a_connection_whose_head_is_known(talk):
    one = talk()
    for _ in range(4):
        await one.say(AGAIN)
    one.connection.notify()
    await one.say(AGAIN)
    assert one.known[-1]
    assert b"connection: close" in one.transport.written[-1]
    assert one.transport.closed
    await one.say(AGAIN)
    assert len(one.seen) == 5
    one.hang_up()

    idle = talk()
    for _ in range(4):
        await idle.say(AGAIN)
    idle.connection.retire()
    await idle.say(AGAIN)
    assert (len(idle.seen), idle.transport.closed) == (4, True)
    idle.hang_up()


async def test_the_time_to_the_next_request_counts_as_ever(talk):
    one = talk(limits=Limits(keepalive_s=5.0))
    for _ in range(4):
        one.server.now += 10.0
        await one.say(AGAIN)
        assert one.connection.deadline == one.server.now + 5.0
    one.connection.data_received(AGAIN)
    assert one.connection.deadline == 0.0
    one.hang_up()


# What is kept, and for how long.


def learned(heads: Heads, data: bytes, body: bytes = b"hello", limits: Limits | None = None, **other):
    lines = data[: len(data) - len(body)].split(b"\r\n")[1:-2]
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    parts = {"method": "POST", "target": b"/x?y=1", "path": "/x", "query": b"y=1", "headers": headers, "body": body}
    parts |= {"http_version": "1.1", "peer": "127.0.0.1", "fields": dict(headers)}
    return heads.learn(data, Request(**(parts | other)), limits or request.DEFAULTS)


@pytest.mark.parametrize(
    ("data", "other"),
    [
        (AGAIN, {"method": "PUT"}),
        (AGAIN, {"http_version": "1.0"}),
        (AGAIN, {"keep_alive": False}),
        (AGAIN, {"target": b"/y"}),
        (AGAIN, {"fields": None}),
        (AGAIN, {"path": "/apart"}),
        (post(length=b"05"), {}),
        (AGAIN, {"limits": Limits(header_bytes=100)}),
        (post(more=(b"X: " + b"a" * LONGEST,)), {}),
        (post(more=(b"Transfer-Encoding: chunked",)), {}),
        (post(more=(b"Transfer_Encoding: chunked",)), {}),
        (post(more=(b"Content_Length: 5",)), {}),
        (post(more=(b"Content-Length: 5",)), {}),
        (post(more=(b"X-Content-Length: 5",)), {}),
        (post(more=(b"Expect: 100-continue",)), {}),
        (post(more=(b"Upgrade: h2c",)), {}),
        (post(more=(b"Connection: keep-alive, foo",)), {}),
        (post(length=b"0" * DIGITS + b"5"), {}),
        (post(length=b"6"), {}),
        (post(length=b"5 "), {}),
        (b"\r\n" + AGAIN, {}),
        (AGAIN.replace(b"User-Agent: u\r\n", b"User-Agent: u\n"), {}),
        (AGAIN.replace(b"User-Agent: u\r\n", b"User-Agent: u\r\n\r\n"), {}),
    ],
)
def test_what_is_not_plain_is_not_learned(data, other):
    heads = Heads({"/apart"})
    assert learned(heads, AGAIN) is not None
    assert learned(heads, data, **other) is None


def test_equal_heads_of_one_peer_are_kept_once_and_only_while_they_are_used():
    heads = Heads()
    first, same, longer = learned(heads, AGAIN), learned(heads, AGAIN), learned(heads, post(b"a" * 50), b"a" * 50)
    assert first is same is longer
    other = learned(heads, AGAIN, peer="127.0.0.2")
    assert other is not first
    assert len(heads) == 2
    del first, same, longer, other
    assert len(heads) == 0


def test_no_more_heads_are_kept_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(repeats, "MOST", 3)
    heads = Heads()
    kept = [learned(heads, AGAIN, peer=str(number)) for number in range(5)]
    assert [head is not None for head in kept] == [True, True, True, False, False]
    assert learned(heads, AGAIN, peer="0") is kept[0]


def test_a_head_that_was_let_in_under_other_limits_is_learned_anew():
    heads = Heads()
    first = learned(heads, AGAIN)
    assert learned(heads, AGAIN, limits=Limits(body_bytes=9)) is not first


async def test_a_head_goes_with_its_last_connection_and_shows_nothing(talk):
    one = talk()
    for _ in range(4):
        await one.say(AGAIN)
    heads = one.server.heads
    assert len(heads) == 1
    assert repr(one.seen[-1].head) == "Head(***)"
    assert "ps-secret" not in repr(one.connection._known)
    one.seen.clear()
    one.hang_up()
    one.connection = None
    await asyncio.sleep(0)
    gc.collect()
    assert len(heads) == 0


async def test_a_client_whose_heads_are_always_new_is_no_longer_learned_from(talk):
    one = talk()
    for number in range(CHANCES + 5):
        await one.say(post(more=(b"X-Request-Id: %d" % number,)))
    assert not any(one.known)
    assert one.connection._known is None
    assert one.connection._raw == b""
    one.hang_up()


async def test_no_read_is_kept_behind_a_request(talk):
    one = talk()
    for data in (AGAIN, AGAIN, AGAIN, AGAIN + b"P", AGAIN[1:-2], b"lo", AGAIN * 3, AGAIN[:-1]):
        await one.say(data)
        assert one.connection._raw == b""
    one.hang_up()


# Whatever the bytes are.

bodies = st.one_of(st.binary(max_size=6), st.sampled_from([b"hello", b"", b"a" * 300, GET, AGAIN, b"5" * 12]))
mores = st.sampled_from([(), (), (), (b"X: y",), (b"Connection: close",), (b"Transfer-Encoding: chunked",)])
lengths = st.one_of(
    st.none(), st.none(), st.none(), st.binary(max_size=2), st.sampled_from([b"05", b"+5", b"5 ", b"5\t"])
)
heads = st.sampled_from([NAMES, NAMES, NAMES, NAMES[::-1], tuple(name.lower() for name in NAMES)])
asked = st.builds(
    lambda body, length, lines, more: post(body, length=length, lines=lines, more=more), bodies, lengths, heads, mores
)
plain = st.builds(post, st.sampled_from([b"hello", b"", b"x" * 120]))
some = st.one_of(plain, plain, plain, asked, st.just(GET), st.binary(max_size=3))


@st.composite
def conversations(draw):
    """Reads of a socket: mostly whole requests, sometimes cut, run together, or with a byte changed."""
    reads = [AGAIN] * draw(st.integers(0, 3))
    for _ in range(draw(st.integers(1, 8))):
        data = b"".join(draw(st.lists(some, min_size=1, max_size=draw(st.sampled_from([1, 1, 1, 2])))))
        match draw(st.sampled_from(["whole", "whole", "whole", "cut", "changed"])):
            case "cut":
                place = draw(st.integers(0, len(data)))
                reads += [data[:place], data[place:]]
            case "changed" if data:
                place = draw(st.integers(0, len(data) - 1))
                reads.append(data[:place] + draw(st.binary(max_size=1)) + data[place + 1 :])
            case _:
                reads.append(data)
    return [data for data in reads if data]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reads=conversations(), turns=st.sampled_from([12, 12, 0, 1, 3]), before=st.sampled_from([b"", AGAIN]))
def test_no_bytes_are_read_otherwise_where_heads_are_known(talk, reads, turns, before):
    asyncio.run(both(talk, reads, turns, Limits(body_bytes=200, header_bytes=600), before))


@pytest.mark.parametrize("first", [0, 7, 10, 99, 1000, 12_345])
def test_every_length_of_a_body_is_found_and_no_other(first):
    heads = Heads()
    head = learned(heads, post(b"x" * first), b"x" * first)
    for length in [*range(120), *range(990, 1012), *range(9_990, 10_010), 99_999, 100_000]:
        body = b"y" * length
        assert head.body(post(body)) == body
        for wrong in (length - 1, length + 1, -length - 1):
            assert head.body(post(body, length=b"%d" % wrong)) is None
    for short in (b"", b"P", head.before, head.before + head.behind, head.whole[:-1]):
        assert head.body(short) is None


lengths_at_first = st.sampled_from([b"hello", b"", b"x" * 120])
later = st.one_of(
    st.builds(post, st.sampled_from([b"hello", b"", b"x" * 120, b"x" * 12])),
    st.builds(lambda body, length: post(body, length=length), bodies, lengths),
    st.just(AGAIN),
)


@given(
    lengths_at_first,
    later,
    st.none() | st.tuples(st.integers(0, 400), st.binary(max_size=2)),
    st.sampled_from([5, 9, 999]),
)
def test_a_head_with_the_same_digits_is_read_as_one_with_any(body, data, change, most):
    kept, limits = Heads(), Limits(body_bytes=most)
    head = learned(kept, post(body), body, limits)
    if head is None:  # that body was above the limit
        return
    if change is not None:
        data = data[: change[0]] + change[1] + data[change[0] + len(change[1]) :]
    is_quick = len(data) == head.size and data[: head.end] == head.whole  # as a connection has it
    found = head.body(data)
    assert found == data[head.end :] or not is_quick
    if found is not None:
        assert post(found) == data
        request, ends = head.request(found, Endpoints(("h", 1), ("h", 2), "http")), b"%d" % len(found)
        assert (request.body, request.headers) == (found, learned(Heads(), data, found).headers)
        assert request.header(b"content-length") == ends

"""What a head says, and which heads are remembered."""

import pytest

from penstock.providers.head import MOST_BYTES, MOST_HEADS, MOST_NAMES, PAUSE, Heads, Passed, body, promised, weight

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
FIELDS = [(b"content-length", b"2")]


@pytest.mark.parametrize(
    ("framing", "status", "keep", "expected"),
    [
        ({b"content-length": b"2"}, 200, True, (False, "length", True)),
        ({b"content-length": b"2"}, 200, False, (False, "length", False)),
        ({b"content-length": b"2"}, 429, True, (False, "length", False)),
        ({b"content-length": b"2", b"set-cookie": b"a=b"}, 200, True, (False, "length", False)),
        ({b"content-length": b"2", b"x-request-id": b"1"}, 200, True, (False, "length", False)),
        ({b"content-length": b"2", **{b"%d" % n: b"" for n in range(12)}}, 200, True, (False, "length", False)),
        ({b"content-length": b"2", b"content-encoding": b"identity"}, 200, True, (False, "length", False)),
        ({b"content-length": b"2", b"content-type": b"Text/Event-Stream"}, 200, True, (True, "length", False)),
        ({b"transfer-encoding": b"chunked"}, 200, True, (False, "chunked", False)),
        ({b"transfer-encoding": b"chunked", b"content-type": b"application/x-ndjson"}, 200, True, (True, "chunked", False)),
        ({}, 200, False, (False, "close", False)),
        ({}, 204, False, (False, "length", False)),
        ({}, 304, False, (False, "length", False)),
    ],
)  # fmt: skip
def test_how_a_body_goes_on_and_whether_its_head_is_worth_remembering(framing, status, keep, expected):
    assert body(framing, status, keep=keep) == expected


@pytest.mark.parametrize(
    ("framing", "version", "expected"),
    [
        ({}, "1.1", (None, b"", None)),
        ({}, "1.0", (None, b"", None)),
        ({}, "2.0", ("protocol", b"", None)),
        ({b"transfer-encoding": b" Chunked "}, "1.1", (None, b"", None)),
        ({b"transfer-encoding": b"gzip, chunked"}, "1.1", ("protocol", b"", None)),
        ({b"content-encoding": b"Identity"}, "1.1", (None, b"", None)),
        ({b"content-encoding": b" GZIP"}, "1.1", (None, b"gzip", None)),
        ({b"content-encoding": b"br"}, "1.1", ("encoding", b"br", None)),
        ({b"keep-alive": b"Timeout=5, max=100"}, "1.1", (None, b"", 4)),
        ({b"keep-alive": b"max=100"}, "1.1", (None, b"", None)),
    ],
)
def test_what_else_a_head_promises(framing, version, expected):
    refused, coding, keepalive_s = promised(framing, version)
    assert (refused and refused[0], coding, keepalive_s) == expected


def test_a_head_weighs_what_its_lines_do():
    assert weight(FIELDS) == len(b"content-length: 2\r\n")


def test_a_head_is_remembered_with_what_it_says_and_the_length_of_its_body():
    heads = Heads()
    assert heads.learn(HEAD + b"{}", FIELDS, 2)
    assert heads == {HEAD: (tuple(FIELDS), 2)}
    assert heads.size == -1
    for more_or_less in (HEAD, HEAD + b"{", HEAD + b"{} ", HEAD[:-1], b"{}", b"", b"x" + HEAD + b"{}"):
        assert not heads.find(more_or_less, 9)
    assert heads.find(HEAD + b"[]", 9)
    assert (heads.head, heads.end, heads.size, heads.fields) == (HEAD, len(HEAD), len(HEAD) + 2, tuple(FIELDS))


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (HEAD + b"{}\r\n", 2),  # more than head and body
        (HEAD + b"{", 2),
        (b"HTTP/1.1 103 Early\r\n\r\n" + HEAD + b"{}", 2),
        (b"HTTP/1.1 200 OK\r\nx: %b\r\n\r\n{}" % (b"y" * MOST_BYTES), 2),
        (b"no head", 7),
    ],
)
def test_what_is_more_or_less_than_one_short_head_and_its_body_is_not_remembered(data, length):
    heads = Heads()
    assert not heads.learn(data, FIELDS, length)
    assert not heads


LONGER = b"HTTP/1.1 200 OK\r\nx: y\r\nContent-Length: %b\r\nz: 2\r\n\r\n%b"
SAID = [(b"x", b"y"), (b"content-length", b"2"), (b"z", b"2")]


@pytest.mark.parametrize(
    ("digits", "body", "is_known"),
    [
        (b"2", b"{}", True),
        (b"0", b"", True),
        (b"9", b"x" * 9, True),
        (b"10", b"x" * 10, False),  # more than allowed
        (b"3", b"{}", False),
        (b"1", b"{}", False),
        (b"03", b"{ }", False),
        (b"+3", b"{ }", False),
        (b"3 ", b"{ }", False),
        (b" 3", b"{ }", False),
        (b"3\r\ncontent-length: 3", b"{ }", False),
        (b"3, 3", b"{ }", False),
        (b"", b"", False),
    ],
)
def test_a_head_is_known_whatever_length_it_tells_if_it_is_that_of_the_body(digits, body, is_known):
    heads = Heads()
    assert heads.learn(LONGER % (b"2", b"{}"), SAID, 2)
    data = LONGER % (digits, body)
    assert heads.find(data, 9) is is_known
    if is_known:
        assert heads.fields == (SAID[0], (b"content-length", digits), SAID[2])
        assert (data[: heads.end], heads.size) == (heads.head, len(data))
    assert len(heads) == 1
    assert not heads.find(LONGER.replace(b"z: 2", b"z: 3") % (b"3", b"{ }"), 9)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n2: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 02\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-content-length: 2\r\n\r\n",
    ],
)
def test_a_head_that_does_not_plainly_tell_its_length_is_known_with_that_alone(head):
    heads = Heads()
    assert heads.learn(LONGER % (b"2", b"{}"), SAID, 2)
    assert heads.learn(head + b"{}", [(b"content-length", b"2")], 2)
    assert heads.find(head + b"[]", 9)
    assert not heads.find(head.replace(b"2", b"3").replace(b"300", b"200") + b"{ }", 9)


def test_without_any_head_digits_alone_are_none():
    assert not Heads().find(b"123" + b"x" * 123, 999)


def numbered(number):
    return b"HTTP/1.1 200 OK\r\nx: %d\r\n\r\n" % number


def test_the_memory_is_bounded_and_goes_on_where_it_is_of_use():
    heads = Heads()
    for number in range(2 * MOST_HEADS + 1):
        assert heads.learn(numbered(number), (), 0)
        assert heads.find(numbered(number), 9)
        assert heads.size == len(heads.head) == heads.end == len(numbered(number))
        assert heads.learn(numbered(number), (), 0)  # by another connection
    assert len(heads) == 1


def test_the_memory_pauses_where_no_head_came_again():
    heads = Heads()
    taken = [number for number in range(MOST_HEADS + PAUSE + 2) if heads.learn(numbered(number), (), 0)]
    assert taken == [*range(MOST_HEADS + 1), MOST_HEADS + PAUSE + 1]
    assert len(heads) == 2
    assert heads.size == -1


def test_only_what_clients_rely_on_is_passed_on():
    passed = Passed()
    for _ in range(2):
        for name in (
            b"retry-after",
            b"x-request-id",
            b"openai-version",
            b"x-ratelimit-reset-tokens",
            b"openai-organization",
        ):
            assert passed[name]
        for name in (b"set-cookie", b"x-ratelimit", b"server", b"retry-after-ms", b"authorization"):
            assert not passed[name]


def test_the_names_that_are_remembered_are_bounded():
    passed = Passed()
    assert not any(passed[b"x-%d" % number] for number in range(MOST_NAMES + 1))
    assert len(passed) == 1

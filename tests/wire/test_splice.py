"""Edits inside raw JSON are exact, and no second member of a name gets through: proven against a slow parser of its own."""

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode, encode

from penstock.errors import InvalidRequest
from penstock.wire.splice import Outline, splice

CASES = 2_000
SEEDS = st.integers(0, 2**64)
Edits = list[tuple[str, bytes | None]]
SPACE = b" \t\n\r"


# -- a slow parser, written from RFC 8259 alone: no regular expression, no decoder --


def skip(raw: bytes, at: int) -> int:
    while at < len(raw) and raw[at] in SPACE:
        at += 1
    return at


def string_end(raw: bytes, at: int) -> int:
    assert raw[at] == ord('"')
    at += 1
    while raw[at] != ord('"'):
        at += 2 if raw[at] == ord("\\") else 1
    return at + 1


def value_end(raw: bytes, at: int) -> int:
    if raw[at] == ord('"'):
        return string_end(raw, at)
    if raw[at] not in b"{[":
        while at < len(raw) and raw[at] not in b",]}" + SPACE:
            at += 1
        return at
    depth = 0
    while True:
        if raw[at] == ord('"'):
            at = string_end(raw, at)
            continue
        depth += (raw[at] in b"{[") - (raw[at] in b"}]")
        at += 1
        if depth == 0:
            return at


def slowly(raw: bytes) -> list[tuple[str, int, int, int]]:
    """Every member of the top level with its places, duplicates included."""
    members = []
    at = skip(raw, 0)
    assert raw[at] == ord("{")
    at = skip(raw, at + 1)
    while raw[at] != ord("}"):
        key = at
        at = string_end(raw, key)
        name = decode(raw[key:at])
        at = skip(raw, at)
        assert raw[at] == ord(":")
        start = skip(raw, at + 1)
        end = value_end(raw, start)
        members.append((name, key, start, end))
        at = skip(raw, end)
        if raw[at] == ord(","):
            at = skip(raw, at + 1)
    return members


# -- texts that try to look like something else; drawn from a seed, since that is ten times as fast as by parts --

BLANKS = (b"", b"", b" ", b"\n", b"\t", b"\r\n  ")
NAMES = ("model", "a", "", "stream", "né", 'q"q', "back\\slash", "b/c", "model ", "x,y", "}", "\U0001f600")
STRINGS = (
    "model",
    '"model":"evil"',
    '","model":"evil',
    "\\",
    "}",
    "{",
    ',"a":1',
    "é",
    "\u2028",
    "\x00",
    "",
    ":",
    '"',
    "x" * 40,
)
LEAVES = (b"0", b"-1", b"12", b"1", b"1.5e3", b"true", b"false", b"null", b'"model"')
NEW = (None, b"1", b'"new"', b'{"x": [1]}', b"null")


def any_string(rng: Random, text: str) -> bytes:
    """One of the many ways to write a string."""
    way = rng.randrange(5)
    if way == 0:
        units = text.encode("utf-16-be")
        return b'"' + b"".join(b"\\u%02x%02X" % (units[i], units[i + 1]) for i in range(0, len(units), 2)) + b'"'
    written = encode(text)
    return written.replace(b"/", b"\\/") if way == 1 else written


def any_value(rng: Random, depth: int) -> bytes:
    if depth and rng.random() < 0.4:
        if rng.random() < 0.5:
            return any_object(rng, depth - 1)
        items = [rng.choice(BLANKS) + any_value(rng, depth - 1) + rng.choice(BLANKS) for _ in range(rng.randrange(4))]
        return b"[" + b",".join(items) + b"]"
    return any_string(rng, rng.choice(STRINGS)) if rng.random() < 0.5 else rng.choice(LEAVES)


def any_object(rng: Random, depth: int) -> bytes:
    blanks = (b"",) if rng.random() < 0.4 else BLANKS
    members = [
        rng.choice(blanks)
        + any_string(rng, rng.choice(NAMES))
        + rng.choice(blanks)
        + b":"
        + rng.choice(blanks)
        + any_value(rng, depth)
        + rng.choice(blanks)
        for _ in range(rng.randrange(5))
    ]
    return b"{" + (b",".join(members) or rng.choice(blanks)) + b"}"


def any_case(seed: int) -> tuple[bytes, Edits]:
    rng = Random(seed)
    raw = rng.choice(BLANKS) + any_object(rng, 3) + rng.choice(BLANKS)
    return raw, [(name, rng.choice(NEW)) for name in rng.sample(NAMES, rng.randrange(5))]


def expected_splice(raw: bytes, edits: Edits) -> bytes:
    """Rebuild the text member by member."""
    members = slowly(raw)
    wanted = dict(edits)
    kept = [member for member in members if wanted.get(member[0], b"") is not None]
    close = raw.rindex(b"}")
    out, tail = (raw[: members[0][1]], raw[members[-1][3] :]) if members else (raw[:close], raw[close:])
    for member in kept:
        name, key, start, end = member
        if member is not kept[0]:
            out += raw[members[members.index(member) - 1][3] : key]
        out += raw[key:start] + (wanted.get(name) or raw[start:end])
    names = {name for name, *_ in members}
    added = [encode(name) + b":" + value for name, value in edits if value is not None and name not in names]
    brace = tail.index(b"}")
    return out + tail[:brace] + (b"," if kept and added else b"") + b",".join(added) + tail[brace:]


def check(raw: bytes, edits: Edits) -> None:
    members = slowly(raw)
    names = [name for name, *_ in members]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        with pytest.raises(InvalidRequest) as caught:
            splice(raw, edits)
        assert caught.value.param in twice
        return
    outline = Outline(raw)
    assert list(outline.members) == names
    for name, key, start, end in members:
        assert outline.span(name) == (key, start, end)
        assert bytes(outline.members[name]) == raw[start:end]
        for value in (b"7", raw[start:end]):
            assert outline.put(name, value) == outline.splice([(name, value)])
    spliced = splice(raw, edits)
    assert spliced == expected_splice(raw, edits)
    meant = decode(raw)
    for name, value in edits:
        if value is None:
            meant.pop(name, None)
        else:
            meant[name] = decode(value)
    assert decode(spliced) == meant


@settings(max_examples=CASES, deadline=None)
@given(seed=SEEDS)
def test_a_splice_changes_what_it_says_and_not_one_byte_more(seed: int) -> None:
    check(*any_case(seed))


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=SEEDS)
def test_a_splice_is_exact_in_many_cases(seed: int) -> None:
    check(*any_case(seed))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"b":2,"a":{"q":0,"b":2}}',
        b'{"a":12,"a":1}',
        b'{"a":1,"a":1}',
        b'{"\\u006dodel":"x","model":"x"}',
        b'{"model":"x","x":{"model":"x"}}',
        b'{"a":"b","a":{"a":"b"},"b":1}',
    ],
)
def test_a_second_member_cannot_hide(raw: bytes) -> None:
    check(raw, [("model", b'"y"')])


@settings(max_examples=CASES, deadline=None)
@given(st.one_of(st.binary(max_size=40), st.text(alphabet='{}[]":,\\ud8ab01 truefalsn', max_size=40).map(str.encode)))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        outline = Outline(raw)
    except InvalidRequest:
        return
    assert outline.splice([]) == raw


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[1]", "not an object"),
        (b'"{}"', "not an object"),
        (b'{"a":1', "not valid JSON"),
        (b'{"a":1}x', r"trailing characters \(byte 8\)"),
        (b'{"a":NaN}', r"invalid character \(byte 5\)"),
        (b'{"a":-Infinity}', "not valid JSON"),
        (b'{"a":01}', "not valid JSON"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a":"\xff"}', "not UTF-8: invalid start byte at byte 6"),
        (b'{"\xff":1}', "not UTF-8"),
        (b'{"a":"\\ud800"}', "half of a surrogate pair at byte 6"),
        (b'{"a":"\\udc00x"}', "half of a surrogate pair at byte 6"),
        (b'{"a":"\\ud83d\\ude00","b":"x\\\\\\uD800y"}', "half of a surrogate pair at byte 26"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_object_is_refused_with_the_reason(raw: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        Outline(raw)
    assert caught.value.hint


def test_a_whole_surrogate_pair_is_no_reason() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Outline(b'{"a":"\\ud83d\\ude00",}')
    assert "surrogate" not in str(caught.value)


def test_a_name_that_is_not_there_has_no_span() -> None:
    for raw in (b'{"a":1}', b'{ "a":1}'):
        with pytest.raises(KeyError):
            Outline(raw).span("b")


def test_a_member_that_says_so_already_leaves_the_very_bytes() -> None:
    raw = b'{"a":1, "b":2}'
    assert Outline(raw).put("b", b"2") is raw
    assert Outline(raw).put("b", b"3") == b'{"a":1, "b":3}'


def test_members_are_replaced_removed_and_added() -> None:
    raw = b'{ "a" : 1 , "b":[1, 2] ,"c":{} }'
    assert splice(raw, [("b", b"3")]) == b'{ "a" : 1 , "b":3 ,"c":{} }'
    assert splice(raw, [("a", None)]) == b'{ "b":[1, 2] ,"c":{} }'
    assert splice(raw, [("c", None), ("d", b"4")]) == b'{ "a" : 1 , "b":[1, 2] ,"d":4}'
    assert splice(raw, [("a", None), ("b", None), ("c", None), ("d", b"5")]) == b'{  "d":5}'
    assert splice(b"{}", [("a", b"1"), ("b", b"2")]) == b'{"a":1,"b":2}'


def test_the_bytes_of_a_name_in_a_string_are_not_the_member() -> None:
    raw = rb'{"x":"\"model\":\"a\"","model":"a","y":{"model":"a"}}'
    assert splice(raw, [("model", b'"b"')]) == rb'{"x":"\"model\":\"a\"","model":"b","y":{"model":"a"}}'
    assert re.findall(rb'"b"', splice(raw, [("model", b'"b"')])) == [b'"b"']

"""A request like the one before it is read as any other is, and sent on as any other is; whatever differs is not read here."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from penstock.call import Call
from penstock.errors import InvalidRequest
from penstock.wire.openai_chat import OpenAIChat
from penstock.wire.openai_chat_body import splice_request
from penstock.wire.openai_chat_frame import Framed
from penstock.wire.openai_chat_request import LONGEST_FRAME, frame, read_request
from penstock.wire.splice import Outline
from wire.chat_cases import body
from wire.test_openai_chat_request import MESSAGES, any_usual, damaged

CHAT, SILENT = OpenAIChat(), OpenAIChat(ask_usage=False)
MODELS = ("gpt-4o", "m", 'a "name"', "ünï", "gpt-4o")


def told(call: Call) -> object:
    """Say all that can be told of a call."""
    return {name: value for name, value in structs.asdict(call).items() if name != "read"}, call.content


def same_as_any(call: Call) -> None:
    known = read_request(call.raw)
    assert isinstance(call.read, Framed)
    assert told(call) == told(known)
    for model in MODELS:
        assert CHAT.splice(call, model) == splice_request(known, model, ask_usage=True)
        assert SILENT.splice(call, model) == splice_request(known, model, ask_usage=False)
        mute = structs.replace(call, stream_usage=True)
        assert CHAT.splice(mute, model) == splice_request(known, model, ask_usage=False)
    assert CHAT.write_request(call, "m") == CHAT.write_request(known, "m")


def like(rng: Random, raw: bytes) -> bytes:
    """Write a request with other messages in place of its own, or broken ones."""
    said = b",".join(rng.choice(MESSAGES[: rng.choice((4, None))]) for _ in range(rng.randrange(4)))
    _, start, end = Outline(raw).span("messages")
    other = raw[:start] + rng.choice((b"", b" ", b"\n")) + b"[" + said + b"]" + rng.choice((b"", b" ")) + raw[end:]
    return damaged(rng, other) if rng.random() < 0.3 else other


@settings(max_examples=2_000, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_a_request_like_the_last_one_is_read_as_any_other(seed: int) -> None:
    rng = Random(seed)
    raw = any_usual(rng)
    try:
        known = CHAT.frame(read_request(raw))
    except InvalidRequest:
        return
    if known is None:
        return
    for other in (raw, like(rng, raw), like(rng, raw), any_usual(rng)):
        call = known.read(other)
        if call is not None:
            same_as_any(call)


@pytest.mark.parametrize("order", [("model", "messages", "temperature"), ("temperature", "messages", "model")])
@pytest.mark.parametrize(("comma", "colon"), [(b",", b":"), (b" ,\n", b" : ")])
@pytest.mark.parametrize("message", MESSAGES[:4])
def test_it_is_read_where_only_its_messages_differ(
    order: tuple[str, ...], comma: bytes, colon: bytes, message: bytes
) -> None:
    members = {"model": b'"m\\u00fc"', "messages": b'[{"role":"user","content":"Hi"}]', "temperature": b"0.2"}
    first, then = (
        b"{" + comma.join(b'"%b"%b%b' % (name.encode(), colon, said[name]) for name in order) + b"}"
        for said in (members, members | {"messages": b"[" + message + b"," + message + b"]"})
    )
    known = frame(read_request(first))
    assert known is not None
    call = known.read(then)
    assert call is not None
    assert call.raw is then
    assert call.sampling is known.read(first).sampling  # type: ignore[union-attr]
    same_as_any(call)


@pytest.mark.parametrize(
    "other",
    [
        b'{"model":"m","messages":[],"n":1}',
        b'{"model":"m","messages":null,"n":1}',
        b'{"model":"m","messages":[{"role":"user","content":"x"},],"n":1}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"n":2,"n":1}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"model":"b","n":1}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"messages":[{"role":"user","content":"y"}],"n":1}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"user":"ann","n":1}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}] "n":1}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"n":1} ',
        b'{"model":"m","messages":[{"role":"user","content":"x"}]',
        b'{"model":"m","messages":,"n":1}',
        b'{"model":"m","messages":',
        b',"n":1}',
        b"",
        *(b'{"model":"m","messages":[%b],"n":1}' % message for message in (*MESSAGES[4:10], *MESSAGES[12:])),
    ],
)
def test_what_is_not_like_it_or_not_right_is_for_the_reader(other: bytes) -> None:
    good = b'{"model":"m","messages":[{"role":"user","content":"x"}],"n":1}'
    known = frame(read_request(good))
    assert known is not None
    assert known.read(other) is None
    assert known.read(good) is not None


@pytest.mark.parametrize(
    "members",
    [
        {"user": "ann"},
        {"user": None},
        {"tools": []},
        {"metadata": {"feature": "a"}},
        {"mystery": 1},
        {"reasoning_effort": "low"},
        {"stop": "x" * LONGEST_FRAME},
    ],
)
def test_what_says_more_or_is_long_is_not_remembered(members: dict[str, object]) -> None:
    assert frame(read_request(body(**members))) is None


@pytest.mark.parametrize(
    "options", [{}, {"stream_options": None}, {"stream_options": {"include_usage": False, "x": 1}}]
)
def test_a_stream_is_asked_for_usage_as_any_other(options: dict[str, object]) -> None:
    known = frame(read_request(body(stream=True, **options)))
    assert known is not None
    call = known.read(body(stream=True, messages=[{"role": "user", "content": "Once more"}], **options))
    assert call is not None
    assert call.stream
    for _ in range(2):
        same_as_any(call)
    assert b'"include_usage":true' in (CHAT.splice(call, "m") or b"")


def test_a_call_that_was_read_by_a_frame_gives_none() -> None:
    known = frame(read_request(body()))
    assert known is not None
    assert frame(known.read(body())) is None  # type: ignore[arg-type]


def test_a_call_that_says_more_than_its_body_is_spliced_as_any_other() -> None:
    known = frame(read_request(body()))
    assert known is not None
    call = known.read(body())
    assert call is not None
    pinned = structs.replace(call, sampling=structs.replace(call.sampling, seed=7), changed=("seed",))
    for one in (pinned, structs.replace(call, raw=b"")):
        assert CHAT.splice(one, "m") == splice_request(one, "m", ask_usage=True)
    assert b'"seed":7' in (CHAT.splice(pinned, "m") or b"")
    assert CHAT.splice(structs.replace(call, raw=b""), "m") is None

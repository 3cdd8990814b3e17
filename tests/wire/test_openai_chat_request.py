"""Requests are read in one go; whatever is wrong with one is an InvalidRequest that names the member and says what to do."""

import contextlib
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.json import encode

from penstock.call import Call, Sampling
from penstock.errors import InvalidRequest
from penstock.wire import openai_chat_request as reader
from penstock.wire.openai_chat_body import write_request
from penstock.wire.openai_chat_content import Reading
from penstock.wire.openai_chat_request import MAX_DEPTH, read_request
from penstock.wire.splice import Outline
from wire.chat_cases import TEXTS, any_content, any_sampling, body

HI = {"role": "user", "content": "Hi"}


def refused(raw: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_request(raw)
    error = caught.value
    assert error.status == 400
    assert error.message.endswith((".", '"'))
    assert error.hint, "a refusal says what to do"
    return error


def test_a_plain_request() -> None:
    raw = body()
    call = read_request(raw)
    assert (call.dialect, call.model, call.sampling, call.stream, call.stream_usage) == (
        "chat",
        "gpt-4o-mini",
        Sampling(),
        False,
        False,
    )
    assert (call.feature, call.session, call.user, call.changed) == (None, None, None, ())
    assert call.raw is raw
    assert call.input_bound == len(raw)


def test_every_option_is_read() -> None:
    call = read_request(
        body(
            temperature=1,
            top_p=0.5,
            top_k=-1,
            min_p=0.1,
            max_completion_tokens=9,
            stop=["a", "b"],
            seed=-3,
            presence_penalty=-2,
            frequency_penalty=2.0,
            logit_bias={"5": -100, "6": 0.5},
            n=128,
            logprobs=True,
            top_logprobs=20,
            reasoning_effort="high",
            stream=True,
            stream_options={"include_usage": True},
            metadata={"feature": "invoices", "session": "s1", "other": [1]},
            user="ann",
        )
    )
    assert call.sampling == Sampling(
        1.0, 0.5, -1, 0.1, 9, ("a", "b"), -3, -2.0, 2.0, (("5", -100.0), ("6", 0.5)), 128, True, 20, "high"
    )
    assert (call.stream, call.stream_usage) == (True, True)
    assert (call.feature, call.session, call.user) == ("invoices", "s1", "ann")


def test_null_says_nothing() -> None:
    names = (
        "temperature",
        "max_tokens",
        "stop",
        "n",
        "logprobs",
        "top_logprobs",
        "stream",
        "stream_options",
        "metadata",
        "tools",
    )
    call = read_request(body(**dict.fromkeys((*names, "user", "tool_choice", "response_format", "logit_bias"))))
    assert call.sampling == Sampling()
    assert call.content.messages == read_request(body()).content.messages
    assert not call.stream


def test_one_stop_is_a_list_of_one() -> None:
    assert read_request(body(stop="x")).sampling.stop == ("x",)


def test_the_limit_has_two_names_that_may_not_disagree() -> None:
    assert read_request(body(max_tokens=5)).sampling.max_tokens == 5
    assert read_request(body(max_tokens=5, max_completion_tokens=5)).sampling.max_tokens == 5
    error = refused(body(max_tokens=5, max_completion_tokens=6))
    assert error.param == "max_tokens"


BAD: list[tuple[dict[str, object], str]] = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": 7}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": {}}, "messages"),
    ({"messages": ["x"]}, "messages[0]"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [HI, {"role": "robot", "content": "x"}]}, "messages[1].role"),
    ({"messages": [{"role": 7, "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].image_url.url",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].input_audio"),
    ({"messages": [{"role": "user", "content": [{"type": "file", "file": None}]}]}, "messages[0].content[0].file"),
    ({"messages": [{"role": "assistant", "content": [{"type": "refusal"}]}]}, "messages[0].content[0].refusal"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].name"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"type": "function"}]}]}, "messages[0].tool_calls[0].id"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}, "messages[0].tool_calls[0].function"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}]},
        "messages[0].tool_calls[0].custom",
    ),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "x"}]}]}, "messages[0].tool_calls[0].type"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {}}}]}]},
        "messages[0].tool_calls[0].function.arguments",
    ),
    ({"messages": [{"role": "assistant", "audio": {}}]}, "messages[0].audio.id"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"temperature": b"1e400"}, "temperature"),
    ({"top_p": 1.01}, "top_p"),
    ({"min_p": -1}, "min_p"),
    ({"top_k": -2}, "top_k"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -5}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_tokens": b"9" * 5_000}, "max_tokens"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"stop": 7}, "stop"),
    ({"stop": [7]}, "stop[0]"),
    ({"stop": ["x"] * 17}, "stop"),
    ({"seed": 0.5}, "seed"),
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"frequency_penalty": -2.5}, "frequency_penalty"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"logit_bias": []}, "logit_bias"),
    ({"logprobs": 1}, "logprobs"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    ({"top_logprobs": 1}, "top_logprobs"),
    ({"top_logprobs": 1, "logprobs": False}, "top_logprobs"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"tools": {}}, "tools"),
    ({"tools": [{"function": {"name": "f"}}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": "x"}}]}, "tools[0].function.parameters"),
    ({"tool_choice": "sometimes"}, "tool_choice"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"tool_choice": {"type": "custom"}}, "tool_choice.custom"),
    ({"tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name"),
    ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "x"}}}, "tool_choice.allowed_tools.mode"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
    ({"reasoning_effort": 7}, "reasoning_effort"),
    ({"user": 7}, "user"),
    ({"metadata": []}, "metadata"),
    ({"metadata": {"feature": 7}}, "metadata.feature"),
]


@pytest.mark.parametrize(("members", "param"), BAD, ids=[f"{param}-{index}" for index, (_, param) in enumerate(BAD)])
def test_what_is_wrong_is_named(members: dict[str, object], param: str) -> None:
    for extra in ({}, {"messages_of_mine": 1}):
        error = refused(body(**members, **extra))
        assert error.param == param
        assert f"`{param}" in error.message or param.split("[", maxsplit=1)[0] in error.message


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_what_is_missing_is_named(missing: str) -> None:
    raw = encode({name: value for name, value in (("model", "m"), ("messages", [HI])) if name != missing})
    error = refused(raw)
    assert error.param == missing
    assert error.message == f"`{missing}` is missing."


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b"[]", "not an object"),
        (b'{"model":', "not valid JSON"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],}', "not valid JSON"),
        (b'{"model":"m","temperature":NaN}', "byte 27"),
        (b"\xef\xbb\xbf" + body(), "byte order mark"),
        (body()[:-1] + b',"x":"\xff"}', "not UTF-8"),
        (body()[:-1] + b',"x":"\\ud800"}', "surrogate"),
        (body(messages=b'[{"role":"user","content":"\\udfff"}]'), "surrogate"),
        (body()[:-1] + b',"model":"other"}', "two members 'model'"),
        (body()[:-1] + b',"m\\u006fdel":"other"}', "two members 'model'"),
        (body()[:-1] + b',"unknown":1,"unknown":2}', "two members 'unknown'"),
        (body(metadata=b'{"feature":"cheap","feature":"dear"}'), "two members 'feature'"),
        (
            body(stream=True, stream_options=b'{"include_usage":true,"include_usage":false}'),
            "two members 'include_usage'",
        ),
        (body(messages=b'[{"role":"user","content":"x","role":"system"}]'), "messages.0..role"),
        (body(x=b"[" * 100_000 + b"]" * 100_000), "nested"),
    ],
)
def test_what_is_no_request_is_refused_with_the_reason(raw: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        read_request(raw)


def deep(levels: int) -> bytes:
    return b"[" * levels + b"1" + b"]" * levels


@pytest.mark.parametrize("where", ["unknown", "tools", "message", "part", "metadata"])
def test_nesting_is_bounded_wherever_it_is(where: str) -> None:
    def made(levels: int) -> bytes:
        value = deep(levels)
        match where:
            case "tools":
                return body(tools=b'[{"type":"function","function":{"name":"f","parameters":{"x":%b}}}]' % value)
            case "message":
                return body(messages=b'[{"role":"user","content":"x","y":%b}]' % value)
            case "part":
                return body(messages=b'[{"role":"user","content":[{"type":"text","text":"x","y":%b}]}]' % value)
            case "metadata":
                return body(metadata=b'{"x":%b}' % value)
            case _:
                return body(x=value)

    assert read_request(made(MAX_DEPTH - 10)).content
    for levels in (MAX_DEPTH, MAX_DEPTH + 1, 900, 100_000):
        assert "nested" in refused(made(levels)).message


def test_nesting_near_the_interpreters_own_limit_is_refused_like_any_other() -> None:
    for levels in range(800, 1_000):
        assert "nested" in refused(body(x=deep(levels))).message


def test_nul_and_every_other_character_is_fine() -> None:
    for text in TEXTS:
        call = read_request(body(messages=[{"role": "user", "content": text}]))
        assert call.content.messages[0].parts[0].text == text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("members", "bounded"),
    [
        ({}, True),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, True),
        ({"messages": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "x"}]}]}, True),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "x"}}]},
            True,
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, False),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}
                ]
            },
            False,
        ),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}, False),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, False),
        ({"tools": [{"type": "web_search"}]}, False),
        ({"web_search_options": {}}, False),
    ],
)
def test_the_length_bounds_the_tokens_only_where_all_is_text(members: dict[str, object], bounded: bool) -> None:  # noqa: FBT001 - a column of the table
    raw = body(**members)
    assert read_request(raw).input_bound == (len(raw) if bounded else None)


ALPHABET = '{}[]":,\\ \nud8modelsagrtcne0123456789.-_'


@settings(max_examples=2_000, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.text(ALPHABET, max_size=80).map(str.encode)))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    only_declared(raw)


def only_declared(raw: bytes) -> None:
    try:
        call = read_request(raw)
    except InvalidRequest:
        return
    assert isinstance(call, Call)
    assert call.content.messages
    write_request(call, "m", ask_usage=True)


def damaged(rng: Random, raw: bytes) -> bytes:
    """Break a good request a little: bytes lost, doubled, changed, or values swapped."""
    data = bytearray(raw)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                del data[at : at + rng.randrange(1, 9)]
            case 1:
                data[at:at] = data[at : at + rng.randrange(1, 30)]
            case 2:
                data[at] = rng.choice(b'{}[]":,\\0x\x00\xff')
            case _:
                data[at:at] = rng.choice((b"null", b'"x"', b"[1]", b"{}", b"-7", b"\\ud800", b"1e999", b"NaN"))
        if not data:
            break
    return bytes(data)


@settings(max_examples=2_000, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_a_damaged_request_is_read_or_refused(seed: int) -> None:
    rng = Random(seed)
    content = any_content(rng)
    good = Call("chat", "m", any_sampling(rng), lambda: content, stream=rng.random() < 0.5)
    only_declared(damaged(rng, write_request(good, "m", ask_usage=True)[0]))


# -- the short way --

NUMBERS = (
    b"null",
    b"0",
    b"0.7",
    b"1",
    b"2",
    b"-2",
    b"-3",
    b"16",
    b"129",
    b"1e2",
    b'"1"',
    b"true",
    b"[]",
    b"{}",
    b"1e999",
)
OPTIONS = (b"null", b"{}", b'{"include_usage":true}', b'{"include_usage": true}', b'{"include_usage":false}')
TWICE = b'{"include_usage":true,"include_usage":false}'
USUAL: dict[str, tuple[bytes, ...]] = {
    "model": (b'"m"', b'"m"', b'"m"', b'"m"', b'""', b'"\\u00e9"', b"null"),
    "stream": (b"true", b"false", b"null", b"1"),
    "stream_options": (*OPTIONS, TWICE, b"[]", b'{"include_usage":1}'),
    "stop": (b'"x"', b"[]", b'["a","b"]', b"null", b"[1]", b"[" + b",".join([b'"a"'] * 17) + b"]"),
    "user": (b'"ann"', b"null", b"7"),
    "service_tier": (b'"flex"', b"null", b"7"),
    "parallel_tool_calls": (b"false", b"null", b"7"),
    "tools": (b"[]", b"null", b"{}"),
    "metadata": (b"{}", b'{"feature":"a","feature":"b"}'),
    "reasoning_effort": (b'"low"',),
    "mystery": (b"[[1]]", b"null"),
}
LIMITED = (
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "n",
)
MESSAGES = (
    b'{"role":"user","content":"Hi"}',
    b'{"role":"system","content":"Be good."}',
    b'{"content":"x","role":"developer","name":"ann"}',
    b'{"role":"assistant","content":"\\ud83d\\ude00 \xc3\xab"}',
    b'{"role":"assistant","content":null,"refusal":"no"}',
    b'{"role":"assistant","content":"x","tool_calls":[]}',
    b'{"role":"user","content":[{"type":"text","text":"x"}]}',
    b'{"role":"user","content":[{"type":"image_url","image_url":"https://x/y"}]}',
    b'{"role":"tool","content":"x","tool_call_id":"a"}',
    b'{"role":"user","content":"x","mystery":1}',
    b'{"role":"user","content":"x","role":"system"}',
    b'{"role":"user","content":"x","content":"y"}',
    b'{"role":"robot","content":"x"}',
    b'{"role":"user"}',
    b'{"role":"user","content":"\\ud800"}',
    b'{"role":"user","content":"\xff"}',
)


def any_usual(rng: Random) -> bytes:
    """Write a request mostly of usual members, mostly good ones."""
    good = rng.random() < 0.7
    said = [
        MESSAGES[0] if good and rng.random() < 0.5 else rng.choice(MESSAGES[: 4 if good else None]) for _ in range(2)
    ]
    members = [("model", b'"m"'), ("messages", b"[" + b",".join(said) + b"]")]
    for _ in range(rng.randrange(5)):
        name = rng.choice((*LIMITED, *USUAL))
        values = USUAL.get(name, NUMBERS)
        members.append((name, rng.choice(values[:2] if good else values)))
    if good:
        members = list(dict(members).items())
    rng.shuffle(members)
    comma, colon = rng.choice(((b",", b":"), (b", ", b": ")))
    return b"{" + comma.join(b'"%b"%b%b' % (name.encode(), colon, value) for name, value in members) + b"}"


def outcome(read: Callable[[], Call]) -> object:
    """Say all that can be told of a call, or of its refusal."""
    try:
        call = read()
    except InvalidRequest as error:
        return str(error), error.param, error.hint, error.status
    reading = call.read
    assert isinstance(reading, Reading)
    told = {name: value for name, value in structs.asdict(call).items() if name != "read"}
    return told, reading.exact, reading.outline.members, reading.outline.raw is call.raw, call.content


def same_both_ways(raw: bytes) -> None:
    assert outcome(lambda: read_request(raw)) == outcome(lambda: reader._read_any(Outline(raw)))


@settings(max_examples=2_000, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_the_short_way_says_what_the_long_one_says(seed: int) -> None:
    rng = Random(seed)
    raw = any_usual(rng)
    same_both_ways(raw)
    same_both_ways(damaged(rng, raw))


@pytest.mark.parametrize(
    ("members", "short"),
    [
        ({}, True),
        ({"temperature": 0.2, "max_tokens": 9, "stop": ["a"], "seed": 1, "n": 2, "user": "ann"}, True),
        ({"stream": True, "stream_options": {"include_usage": True}}, True),
        ({"max_completion_tokens": 9}, True),
        ({"max_completion_tokens": 9, "max_tokens": 9}, False),
        ({"stream_options": b'{"include_usage":true,"x":1}'}, False),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, False),
        ({"tools": []}, False),
        ({"metadata": {}}, False),
        ({"store": True}, False),
        ({"reasoning": {"effort": "low"}}, False),
        ({"logit_bias": {}}, False),
        ({"top_logprobs": 1, "logprobs": True}, False),
        ({"mystery": 1}, False),
        ({"temperature": 3}, False),
    ],
)
def test_the_short_way_is_for_what_is_usual(
    members: dict[str, object],
    short: bool,  # noqa: FBT001 - a column of the table
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[bytes] = []
    read_any = reader._read_any

    def seen(outline: Outline) -> Call:
        looked.append(outline.raw)
        return read_any(outline)

    monkeypatch.setattr(reader, "_read_any", seen)
    raw = body(**members)
    with contextlib.suppress(InvalidRequest):
        read_request(raw)
    assert looked == ([] if short else [raw])


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_many_damaged_requests_are_read_or_refused(seed: int) -> None:
    rng = Random(seed)
    content = any_content(rng)
    only_declared(
        damaged(rng, write_request(Call("chat", "m", any_sampling(rng), lambda: content), "m", ask_usage=True)[0])
    )

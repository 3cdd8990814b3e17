"""Embeddings: every form of input, both forms of vectors, and the official SDK on either side."""

import json
from contextlib import suppress
from random import Random
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.json import decode, encode
from openai.types import CreateEmbeddingResponse

from penstock.call import Content, Embed
from penstock.errors import InvalidRequest, UpstreamGarbled, UpstreamRejected
from penstock.receipt import Usage
from penstock.reply import Embedded, Ended, Failed, Started, UsageReported, fold
from penstock.wire.dialect import ModelRow
from penstock.wire.openai_chat import OpenAIChat
from penstock.wire.openai_embeddings import MAX_INPUTS, OpenAIEmbeddings
from wire.generated import Can, any_embed_call, any_embed_reply

EMBED = OpenAIEmbeddings()
CAN = Can(dialect="chat")
SEEDS = st.integers(0, 2**64)


def request(**members: object) -> bytes:
    return encode({"model": "text-embedding-3-small", "input": "Hi"} | members)


def check(seed: int) -> None:
    rng = Random(seed)
    call = any_embed_call(rng, CAN)
    if rng.random() < 0.5:
        content = structs.replace(call.content, embed=structs.replace(call.content.embed, form="base64"))
        call = structs.replace(call, read=lambda: content)
    body, dropped = EMBED.write_request(call, "m")
    again = EMBED.read_request(body)
    assert (again.content, again.user, again.model, again.operation) == (call.content, call.user, "m", "embed")
    assert dropped == ()
    reply = any_embed_reply(rng, CAN)
    written = EMBED.write_reply(reply, call)
    if b"base64" not in body:
        CreateEmbeddingResponse.model_validate(decode(written), strict=False)
    assert fold(EMBED.read_reply(written)) == reply
    tapped = fold(EMBED.tap_reply(written))
    assert (tapped.model, tapped.usage) == (reply.model, reply.usage)


@settings(max_examples=1_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same(seed: int) -> None:
    check(seed)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same_in_many_cases(seed: int) -> None:
    check(seed)


@pytest.mark.parametrize(
    ("given_input", "inputs"),
    [("Hi", ("Hi",)), (["a", "b"], ("a", "b")), ([1, 2], ((1, 2),)), ([[1], [2, 3]], ((1,), (2, 3)))],
)
def test_every_form_of_input_is_read(given_input: object, inputs: tuple[object, ...]) -> None:
    call = EMBED.read_request(request(input=given_input))
    assert call.content.embed == Embed(inputs)  # type: ignore[arg-type]
    assert (call.operation, call.input_bound) == ("embed", len(call.raw))


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": ["a", 1]}, "input"),
        ({"input": ["a"] * (MAX_INPUTS + 1)}, "input"),
        ({"input": None}, "input"),
        ({"input": [1.5]}, "input[0]"),
        ({"model": ""}, "model"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_what_is_wrong_is_named(members: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        EMBED.read_request(request(**members))
    assert caught.value.param == param
    assert caught.value.hint


def test_the_clients_own_bytes_are_kept_but_for_the_model() -> None:
    raw = b'{ "model": "a", "input": "Hi", "truncate": "END" }'
    call = EMBED.read_request(raw)
    assert EMBED.splice(call, "b") == raw.replace(b'"a"', b'"b"')
    assert EMBED.splice(call, "a") is raw
    assert EMBED.splice(structs.replace(call, read=lambda: Content(())), "a") is raw
    assert EMBED.splice(structs.replace(call, dialect="ollama"), "b") is None
    assert decode(EMBED.write_request(call, "b")[0])["truncate"] == "END"


def test_what_another_dialect_said_is_named() -> None:
    content = Content((), extra=(("keep_alive", b"1"),), embed=Embed(("a",), task="RETRIEVAL_QUERY", title="t"))
    call = structs.replace(EMBED.read_request(request()), dialect="generate", read=lambda: content)
    body, dropped = EMBED.write_request(call, "m")
    assert decode(body) == {"model": "m", "input": ["a"]}
    assert dropped == ("keep_alive", "task", "title")


def test_a_recorded_reply_is_read_in_both_forms() -> None:
    usage = b'"model":"m","usage":{"prompt_tokens":5,"total_tokens":5}}'
    head = b'{"object":"list","data":[{"object":"embedding","index":1,"embedding":'
    expected = (Started(model="m"), Embedded(1, (1.0, -0.5)), UsageReported(Usage(5)), Ended())
    for form in (b"[1,-0.5]", b'"AACAPwAAAL8="'):
        body = head + form + b"}]," + usage
        assert EMBED.read_reply(body) == expected
        assert EMBED.tap_reply(body) == (expected[0], Embedded(0, ()), *expected[2:])
    bare = b'{"data":[{"embedding":[1]},{"embedding":[2]}]}'
    assert EMBED.tap_reply(bare) == (Started(), Embedded(0, (1.0,)), Embedded(1, (2.0,)), Ended())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"data":[{"embedding":"!"}]}',
        b'{"data":[{"embedding":"AAA="}]}',
        b'{"data":7}',
        b'"\xff"',
        b"[" * 9_999,
    ],
)
def test_what_holds_no_embeddings_is_garbled(body: bytes) -> None:
    with pytest.raises(UpstreamGarbled):
        EMBED.read_reply(body)
    with pytest.raises(UpstreamGarbled):
        EMBED.tap_reply(body)


def test_an_error_with_status_200_is_a_failure() -> None:
    body = b'{"error":{"message":"no","code":429}}'
    for verb in (EMBED.read_reply, EMBED.tap_reply):
        first = verb(body)[0]
        assert isinstance(first, Failed)
        assert first.error.status == 429


def test_the_rest_is_that_of_the_chat_api() -> None:
    chat, call = OpenAIChat(), EMBED.read_request(request())
    assert EMBED.name == "chat"
    assert (EMBED.write_count_request(call, "m"), EMBED.write_count(3)) == (None, chat.write_count(3))
    assert EMBED.write_models([ModelRow("a")]) == chat.write_models([ModelRow("a")])
    assert EMBED.write_model(ModelRow("a")) == chat.write_model(ModelRow("a"))
    error = EMBED.read_error(400, b'{"error":{"message":"no"}}')
    assert isinstance(error, UpstreamRejected)
    assert EMBED.write_error(error) == b'{"error":{"message":"no"}}'
    assert EMBED.error_headers(error) == ()
    assert isinstance(EMBED.stream_reader().end()[0], Failed)
    assert EMBED.stream_writer(call).send([Ended()]) == b"data: [DONE]\n\n"
    with pytest.raises(UpstreamGarbled):
        EMBED.read_count(b"1")


def test_the_official_sdk_is_understood_and_understands() -> None:
    seen: list[bytes] = []

    def answer(asked: httpx2.Request) -> httpx2.Response:
        seen.append(asked.content)
        call = EMBED.read_request(asked.content)
        embed = call.content.embed
        assert embed is not None
        vectors = tuple((0.5, float(index)) for index, _ in enumerate(embed.inputs))
        events = (
            Started(model="m"),
            *(Embedded(at, v) for at, v in enumerate(vectors)),
            UsageReported(Usage(2)),
            Ended(),
        )
        return httpx2.Response(
            200, content=EMBED.write_reply(fold(events), call), headers={"content-type": "application/json"}
        )

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        client = openai.OpenAI(api_key="x", base_url="http://127.0.0.1/v1", http_client=http)
        made = client.embeddings.create(model="m", input=["a", "b"], dimensions=2)
        plain: Any = client.embeddings.create(model="m", input="a", encoding_format="float")
    assert json.loads(seen[0])["encoding_format"] == "base64"
    assert [row.embedding for row in made.data] == [[0.5, 0.0], [0.5, 1.0]]
    assert (made.usage.prompt_tokens, plain.data[0].embedding) == (2, [0.5, 0.0])


@settings(max_examples=1_000, deadline=None)
@given(data=st.one_of(st.binary(max_size=60), st.text('{}[]":,\\ud8inputdaembg 012', max_size=60).map(str.encode)))
def test_any_bytes_give_only_the_declared_errors(data: bytes) -> None:
    for verb, declared in ((EMBED.read_request, InvalidRequest), (EMBED.read_reply, UpstreamGarbled)):
        with suppress(declared):
            verb(data)
    with suppress(UpstreamGarbled):
        EMBED.tap_reply(data)

"""Embeddings: one or a batch, both ways, as google-genai asks for them and reads them."""

from contextlib import suppress
from random import Random

import pytest
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.json import decode, encode

from penstock.call import Call, Content, Embed, Sampling, Text
from penstock.errors import InvalidRequest, UpstreamError, UpstreamGarbled, UpstreamOverloaded
from penstock.reply import Embedded, Ended, Failed, Reply, Started, fold
from penstock.wire.dialect import Asked, ModelRow
from penstock.wire.gemini_embeddings import GeminiEmbeddings
from wire.generated import Can, any_embed_call, any_embed_reply

EMBED = GeminiEmbeddings()
ASKED = Asked(model="models/gemini-embedding-001", operation="embed")
ONE = {"content": {"parts": [{"text": "Hi"}]}}
CAN = Can(dialect="generate", embed_tokens=False, embed_tasks=("RETRIEVAL_QUERY",), embed_titles=True, user=False)


def batch(*requests: object) -> bytes:
    return encode({"requests": requests})


def refused(raw: bytes, asked: Asked = ASKED) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        EMBED.read_request(raw, asked)
    return caught.value


def is_read_the_same(seed: int) -> None:
    rng = Random(seed)
    call = any_embed_call(rng, CAN)
    body, dropped = EMBED.write_request(call, "m")
    assert (EMBED.read_request(body, ASKED).content.embed, dropped) == (call.content.embed, ())
    reply = any_embed_reply(rng, CAN)
    assert fold(EMBED.read_reply(EMBED.write_reply(reply, call))).embeddings == reply.embeddings


@settings(max_examples=1_500, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_what_is_written_is_read_the_same(seed: int) -> None:
    is_read_the_same(seed)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_what_is_written_is_read_the_same_in_many_cases(seed: int) -> None:
    is_read_the_same(seed)


def test_a_batch_is_read() -> None:
    first = {
        **ONE,
        "model": "models/x",
        "taskType": "RETRIEVAL_QUERY",
        "title": "T",
        "outputDimensionality": 8,
        "new": 1,
    }
    second = {**first, "content": {"parts": [{"text": "a"}, {"text": "b"}]}}
    call = EMBED.read_request(batch(first, second), ASKED)
    assert (call.model, call.operation, call.form, call.native) == ("gemini-embedding-001", "embed", "batch", ())
    assert call.input_bound == len(call.raw)
    assert call.content == Content(
        (), extra=(("new", b"1"),), embed=Embed(("Hi", "a\nb"), 8, "float", "RETRIEVAL_QUERY", "T")
    )
    body = decode(EMBED.write_request(call, "y")[0])
    assert [one["model"] for one in body["requests"]] == ["models/y", "models/y"]
    assert body["requests"][0]["new"] == 1


def test_one_is_read_and_answered_as_one() -> None:
    call = EMBED.read_request(encode({**ONE, "task_type": "CLUSTERING", "model": "models/x"}), Asked(form="one"))
    assert (call.model, call.form, call.content.embed) == ("x", "one", Embed(("Hi",), task="CLUSTERING"))
    assert EMBED.read_request(encode(ONE), ASKED).form == "one"
    assert decode(EMBED.write_reply(Reply(embeddings=((0.5, 1.0),)), call)) == {"embedding": {"values": [0.5, 1.0]}}
    assert decode(EMBED.write_reply(Reply(), call)) == {"embedding": {"values": []}}
    assert EMBED.splice(call, "y") is None


def test_a_batch_passes_with_the_model_in_each_request() -> None:
    raw = b'{"model":"models/a","requests":[{"content":{"parts":[{"text":"x"}]}, "odd": [1]},{"model":"models/a","content":{"parts":{"text":"y"}}}]}'
    call = EMBED.read_request(raw, ASKED)
    assert EMBED.splice(call, "b") == (
        b'{"model":"models/b","requests":[{"content":{"parts":[{"text":"x"}]}, "odd": [1],"model":"models/b"},'
        b'{"model":"models/b","content":{"parts":{"text":"y"}}}]}'
    )
    for other in (
        {"dialect": "chat"},
        {"raw": b""},
        {"changed": ("seed",)},
        {"operation": "generate"},
        {"form": "one"},
    ):
        assert EMBED.splice(structs.replace(call, **other), "b") is None


def test_what_is_no_text_stays_in_the_clients_own_bytes() -> None:
    picture = {"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}]}}
    call = EMBED.read_request(batch(picture), ASKED)
    assert (call.native, call.input_bound) == (("content",), None)
    assert EMBED.write_request(call, "m")[1] == ("content",)
    assert EMBED.splice(call, "m") is not None
    mixed = EMBED.read_request(batch({**ONE, "taskType": "A"}, {**ONE, "taskType": "B"}), ASKED)
    assert mixed.native == ("requests",)


def test_what_is_asked_in_other_dialects_is_written() -> None:
    content = Content((), extra=(("encoding", b"1"),), embed=Embed(("a", (1, 2)), 4))
    call = Call("chat", "m", Sampling(), lambda: content, operation="embed", user="u")
    body, dropped = EMBED.write_request(call, "m")
    assert dropped == ("encoding", "input", "user")
    assert decode(body)["requests"][0] == {
        "model": "models/m",
        "content": {"parts": [{"text": "a"}]},
        "outputDimensionality": 4,
    }
    nothing = Content((Text("x"),))  # type: ignore[arg-type]
    assert EMBED.write_request(Call("chat", "m", Sampling(), lambda: nothing), "m")[0] == b'{"requests":[]}'


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"{}", "content"),
        (b'{"requests":[]}', "requests"),
        (b'{"requests":[{}]}', "requests[0].content"),
        (batch(ONE, {"content": {"parts": []}}), "requests[1].content.parts"),
        (b'{"content":{}}', "content.parts"),
        (encode({**ONE, "outputDimensionality": 0}), "outputDimensionality"),
        (b'{"requests":[{"content":{"parts":{"text":"x"}},"model":"a","model":"b"}]}', "model"),
    ],
)
def test_what_is_wrong_is_named(raw: bytes, param: str) -> None:
    error = refused(raw)
    assert (error.param, bool(error.hint)) == (param, True)


def test_a_model_has_to_be_named() -> None:
    assert refused(encode(ONE), Asked(operation="embed")).param == "model"
    assert refused(b"").message == "The body is empty."
    assert refused(b'{"requests":7}', Asked(model="m", form="batch")).param == "requests"
    assert refused(encode(ONE), Asked(model="m", form="batch")).param == "requests"


def test_replies_of_both_forms_are_read() -> None:
    assert EMBED.read_reply(b'{"embeddings":[{"values":[1,2]},{"values":[3]}]}') == (
        Started(),
        Embedded(0, (1.0, 2.0)),
        Embedded(1, (3.0,)),
        Ended(),
    )
    assert EMBED.tap_reply(b'{"embedding":{"values":[1]}}')[1] == Embedded(0, (1.0,))
    failed = EMBED.read_reply(b'{"error":{"code":503,"message":"x"}}')[0]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, UpstreamOverloaded)
    for raw in (b"", b"{}", b'{"embeddings":[{"values":["x"]}]}', b"7"):
        with pytest.raises(UpstreamGarbled):
            EMBED.read_reply(raw)


def test_googles_own_types_take_what_is_written() -> None:
    call = EMBED.read_request(batch(ONE, ONE), ASKED)
    written = decode(EMBED.write_reply(Reply(embeddings=((0.5,), (1.0,))), call))
    read = types.EmbedContentResponse.model_validate(written)
    assert [one.values for one in read.embeddings or ()] == [[0.5], [1.0]]
    assert types.Model.model_validate({"name": "x"}).name == "x"


def test_the_other_verbs_are_those_of_the_dialect() -> None:
    call = EMBED.read_request(encode(ONE), ASKED)
    assert (EMBED.name, EMBED.stream_type) == ("generate", b"text/event-stream")
    error = EMBED.read_error(400, b'{"error":{"code":400,"message":"No.","status":"INVALID_ARGUMENT"}}')
    assert isinstance(error, UpstreamError)
    assert decode(EMBED.write_error(error))["error"]["message"] == "No."
    assert EMBED.error_headers(error) == ()
    assert isinstance(EMBED.stream_reader().end()[-1], Failed)
    assert EMBED.stream_writer(call).send([Ended()]) == b""
    assert EMBED.write_count_request(call, "m") is None
    assert decode(EMBED.write_count(7)) == {"totalTokens": 7}
    with pytest.raises(UpstreamGarbled):
        EMBED.read_count(b'{"totalTokens":7}')
    model = decode(EMBED.write_model(ModelRow("e")))
    assert model["supportedGenerationMethods"] == ["embedContent", "batchEmbedContents"]
    assert decode(EMBED.write_models([ModelRow("e")])) == {"models": [model]}


@settings(max_examples=1_000, deadline=None)
@given(
    data=st.one_of(
        st.binary(max_size=40), st.text('{}[]":,contentspartsextrequmbdigvalu 01', max_size=60).map(str.encode)
    )
)
def test_any_bytes_give_only_the_declared_errors(data: bytes) -> None:
    with suppress(InvalidRequest):
        EMBED.splice(EMBED.read_request(data, ASKED), "m")
    with suppress(UpstreamGarbled):
        EMBED.read_reply(data)

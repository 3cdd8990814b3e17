"""Embeddings, both directions and both forms."""

from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode, encode
from msgspec.structs import replace
from ollama import EmbeddingsResponse, EmbedResponse

from penstock.call import Call, Content, Embed, Sampling
from penstock.errors import InvalidRequest, UpstreamError, UpstreamGarbled, UpstreamMissing, UpstreamRejected
from penstock.receipt import Usage
from penstock.reply import Embedded, Ended, Failed, Reply, Started, UsageReported, fold
from penstock.wire.dialect import Asked, ModelRow
from penstock.wire.ollama import Ollama
from penstock.wire.ollama_embeddings import OllamaEmbeddings
from wire.generated import Can, any_embed_call, any_embed_reply

DIALECT = OllamaEmbeddings()
SEEDS = st.integers(0, 2**64)
CAN = Can(dialect="ollama", embed_tokens=False, user=False)
ONE = DIALECT.read_request(b'{"model":"e","input":"a"}')
OLD = DIALECT.read_request(b'{"model":"e","prompt":"a"}')


def read(form: str = "", **members: object) -> Call:
    return DIALECT.read_request(encode({"model": "e", **members}), Asked(form=form))


def embedded(call: Call) -> Embed:
    assert call.content.embed is not None
    return call.content.embed


@settings(max_examples=1_000, deadline=None)
@given(seed=SEEDS)
def test_a_written_call_is_read_back_the_same(seed: int) -> None:
    call = any_embed_call(Random(seed), CAN)
    data, dropped = DIALECT.write_request(call, "e")
    again = DIALECT.read_request(data)
    assert (again.content, again.operation, again.model, dropped) == (call.content, "embed", "e", ())


@settings(max_examples=1_000, deadline=None)
@given(seed=SEEDS)
def test_a_written_reply_is_read_back_the_same(seed: int) -> None:
    reply = any_embed_reply(Random(seed), CAN)
    data = DIALECT.write_reply(reply, ONE)
    EmbedResponse(**decode(data))
    again = fold(DIALECT.read_reply(data))
    assert (again.embeddings, again.usage, again.model, again.ended) == (reply.embeddings, reply.usage, "e", True)
    assert fold(DIALECT.tap_reply(data)) == replace(again, embeddings=again.embeddings[:1])


def test_a_request_of_either_form_is_read() -> None:
    raw = encode({"model": "e", "input": ["a", "b"], "dimensions": 2, "truncate": True, "keep_alive": 0})
    call = DIALECT.read_request(raw)
    assert (call.form, call.operation, call.input_bound, call.stream) == ("embed", "embed", len(raw), False)
    assert embedded(call) == Embed(("a", "b"), 2)
    assert call.content.extra == (("truncate", b"true"), ("keep_alive", b"0"))
    assert (OLD.form, embedded(OLD)) == ("embeddings", Embed(("a",)))
    assert embedded(read("embeddings", prompt="p", input="i")).inputs == ("p",)
    assert embedded(read("embed", prompt="p", input="i")).inputs == ("i",)
    assert embedded(read(input="")).inputs == ("",)


@pytest.mark.parametrize(
    ("form", "members", "param"),
    [
        ("", {}, "input"),
        ("", {"input": []}, "input"),
        ("embed", {"prompt": "x"}, "input"),
        ("embeddings", {"input": "x"}, "prompt"),
        ("", {"input": 1}, "input"),
        ("", {"input": [[1, 2]]}, "input[0]"),
        ("", {"input": "x", "dimensions": 0}, "dimensions"),
        ("", {"input": "x", "model": ""}, "model"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(form: str, members: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(form, **members)
    assert (caught.value.param, bool(caught.value.hint)) == (param, True)


def test_the_older_form_goes_out_as_it_came() -> None:
    assert DIALECT.write_request(OLD, "x") == (b'{"model":"x","prompt":"a"}', ())
    assert DIALECT.write_request(ONE, "x") == (b'{"model":"x","input":"a"}', ())
    assert DIALECT.write_request(replace(OLD, dialect="chat"), "x") == (
        b'{"model":"x","input":"a","truncate":false}',
        (),
    )
    riding = DIALECT.read_request(b'{"model":"e","input":["a"],"truncate":true,"options":{"num_ctx":1}}')
    assert decode(DIALECT.write_request(riding, "x")[0]) == {
        "model": "x",
        "input": "a",
        "truncate": True,
        "options": {"num_ctx": 1},
    }
    many = replace(OLD, read=lambda: Content((), embed=Embed(("a", "b"))))
    assert decode(DIALECT.write_request(many, "x")[0]) == {"model": "x", "input": ["a", "b"]}


def test_what_cannot_be_expressed_is_named() -> None:
    embed = Embed(("a", (1, 2)), 3, task="RETRIEVAL_QUERY", title="t")
    content = Content((), extra=(("encoding_format", b'"float"'),), embed=embed)
    call = Call("chat", "e", Sampling(), lambda: content, user="ann")
    out, dropped = DIALECT.write_request(call, "x")
    assert decode(out) == {"model": "x", "input": ["a", ""], "dimensions": 3, "truncate": False}
    assert dropped == ("encoding_format", "input", "task", "title", "user")
    assert decode(DIALECT.write_request(Call("chat", "e", Sampling(), lambda: Content(())), "x")[0])["input"] == []


def test_the_clients_bytes_go_on_with_the_model_replaced() -> None:
    raw = b'{"model": "e", "input": ["a"], "truncate": false}'
    call = DIALECT.read_request(raw)
    assert DIALECT.splice(call, "x") == raw.replace(b'"e"', b'"x"')
    assert DIALECT.splice(call, "e") is raw
    assert DIALECT.splice(replace(call, read=lambda: Content(())), "x") == raw.replace(b'"e"', b'"x"')
    for other in (replace(call, dialect="chat"), replace(call, raw=b""), replace(call, changed=("seed",))):
        assert DIALECT.splice(other, "x") is None


def test_a_reply_of_either_form_is_read() -> None:
    raw = b'{"model":"all-minilm","embeddings":[[0.5,-1],[2,3]],"total_duration":14143917,"load_duration":1,"prompt_eval_count":8}'
    assert DIALECT.read_reply(raw) == (
        Started("", "all-minilm"),
        Embedded(0, (0.5, -1.0)),
        Embedded(1, (2.0, 3.0)),
        UsageReported(Usage(8)),
        Ended(),
    )
    assert DIALECT.read_reply(b'{"embedding":[1]}') == (Started(), Embedded(0, (1.0,)), Ended())


def test_a_reply_of_either_form_is_written() -> None:
    reply = Reply(model="other", embeddings=((0.5,), (1.0,)), usage=Usage(3))
    assert decode(DIALECT.write_reply(reply, ONE)) == {
        "model": "e",
        "embeddings": [[0.5], [1.0]],
        "prompt_eval_count": 3,
    }
    old = DIALECT.write_reply(reply, OLD)
    assert EmbeddingsResponse(**decode(old)).embedding == [0.5]
    assert DIALECT.write_reply(Reply(), OLD) == b'{"embedding":[]}'
    assert decode(DIALECT.write_reply(Reply(), ONE)) == {"model": "e", "embeddings": []}


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[]", b'{"embeddings":[["x"]]}', b'{"model":"\xff"}', b'{"x":"\xff"}', b"[" * 99_999]
)
def test_what_is_no_reply_is_garbled(raw: bytes) -> None:
    with pytest.raises(UpstreamGarbled):
        DIALECT.read_reply(raw)


def test_errors_are_ollamas() -> None:
    failed = DIALECT.read_reply(b'{"error":"broken"}')
    assert isinstance(failed[0], Failed)
    assert isinstance(DIALECT.read_error(404, b'{"error":"model not found"}'), UpstreamMissing)
    error = DIALECT.read_error(400, b'{"error":"the input length exceeds the context length"}')
    assert isinstance(error, UpstreamRejected)
    assert DIALECT.write_error(error) == b'{"error":"the input length exceeds the context length"}'
    assert DIALECT.error_headers(error) == ()


def test_the_rest_is_ollamas() -> None:
    rows = [ModelRow("e", created=5)]
    assert DIALECT.write_models(rows) == Ollama().write_models(rows)
    assert DIALECT.write_model(rows[0]) == Ollama().write_model(rows[0])
    assert (DIALECT.name, DIALECT.stream_type) == ("ollama", b"application/x-ndjson")
    assert DIALECT.write_count_request(ONE, "x") is None
    assert DIALECT.write_count(3) == b'{"prompt_eval_count":3}'
    with pytest.raises(UpstreamGarbled):
        DIALECT.read_count(b"3")


def test_nothing_streams_and_what_should_says_an_error() -> None:
    reader = DIALECT.stream_reader(strip_usage=True)
    reader.feed(b'{"embeddings":[]}')
    assert isinstance(reader.end()[-1], Failed)
    error = InvalidRequest("No.")
    assert DIALECT.stream_writer(ONE).send((Failed(error),)) == b'{"error":"No."}\n'


@settings(max_examples=1_000, deadline=None)
@given(data=st.one_of(st.binary(max_size=60), st.text('{}[]":,\\ud8modelinputpr 012', max_size=60).map(str.encode)))
def test_any_bytes_give_only_the_declared_errors(data: bytes) -> None:
    with suppress(InvalidRequest):
        DIALECT.write_request(DIALECT.read_request(data), "x")
    with suppress(UpstreamGarbled):
        DIALECT.tap_reply(data)
    assert isinstance(DIALECT.read_error(400, data), UpstreamError)

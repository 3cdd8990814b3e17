"""Dialects are found by name, and each keeps the protocol that the edges rely on."""

import inspect

import pytest

from penstock.wire.dialect import Dialect, StreamReader, StreamWriter
from penstock.wire.openai_chat import OpenAIChat
from penstock.wire.registry import dialect, on_vertex

ANSWERS = ["chat", "converse", "generate", "messages", "ollama", "responses"]
EMBEDDINGS = ["chat", "generate", "ollama"]


@pytest.mark.parametrize("name", ANSWERS)
def test_a_dialect_is_found_by_its_name(name):
    found = dialect(name)
    assert found.name == name
    assert dialect(name) is found
    assert dialect(name, "count") is found


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_have_dialects_of_their_own(name):
    found = dialect(name, "embed")
    assert found.name == name
    assert found is not dialect(name)


def test_a_server_of_responses_makes_embeddings_as_openai_does():
    assert dialect("responses", "embed").name == "chat"


@pytest.mark.parametrize(("name", "operation"), [("", "generate"), ("Chat", "generate"), ("messages", "embed")])
def test_an_unknown_name_is_refused_with_the_known_ones(name, operation):
    with pytest.raises(KeyError, match=r"known: .*ollama"):
        dialect(name, operation)


def test_vertex_takes_forms_of_its_own():
    call = dialect("messages").read_request(b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"Hi"}]}')
    assert b'"model"' not in on_vertex("messages", "vertex-2023-10-16").write_request(call, "m")[0]
    count = on_vertex("generate", "").write_count_request(call, "m")
    assert count is not None
    assert b"generateContentRequest" not in count


@pytest.mark.parametrize(
    ("name", "operation"), [*((n, "generate") for n in ANSWERS), *((n, "embed") for n in EMBEDDINGS)]
)
def test_the_dialect_has_every_verb_of_the_protocol_as_it_stands_there(name, operation):
    found = dialect(name, operation)
    verbs = {verb: one for verb, one in vars(Dialect).items() if inspect.isfunction(one) and not verb.startswith("_")}
    for verb, wanted in verbs.items():
        own = inspect.signature(getattr(type(found), verb))
        assert list(own.parameters) == list(inspect.signature(wanted).parameters), verb


def test_readers_and_writers_keep_their_protocols() -> None:
    call = OpenAIChat().read_request(b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}')
    reader: StreamReader = dialect("chat").stream_reader(strip_usage=True)
    writer: StreamWriter = dialect("chat").stream_writer(call)
    events = reader.feed(b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n')
    assert reader.passed.endswith(b"[DONE]\n\n")
    assert reader.end() == ()
    assert writer.send(events).endswith(b"data: [DONE]\n\n")
    assert writer.content_type == b"text/event-stream; charset=utf-8"
    assert writer.send(()) == b""

"""Dialects are found by name, and each keeps the protocol that the edges rely on."""

import pytest

from penstock.wire.dialect import Dialect, StreamReader, StreamWriter
from penstock.wire.openai_chat import OpenAIChat
from penstock.wire.registry import dialect


def test_a_dialect_is_found_by_its_name() -> None:
    found = dialect("chat")
    assert isinstance(found, OpenAIChat)
    assert found.name == "chat"
    assert dialect("chat") is found


@pytest.mark.parametrize("name", ["", "Chat", "morse"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(KeyError, match="known: .*chat"):
        dialect(name)


def test_the_dialect_has_every_verb_of_the_protocol() -> None:
    found: Dialect = dialect("chat")
    verbs = {name for name in vars(Dialect) if not name.startswith("_")}
    assert verbs >= {
        "read_request",
        "write_request",
        "splice",
        "read_reply",
        "write_reply",
        "read_error",
        "write_error",
    }
    assert all(hasattr(found, verb) for verb in verbs)


def test_readers_and_writers_keep_their_protocols() -> None:
    call = dialect("chat").read_request(b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}')
    reader: StreamReader = dialect("chat").stream_reader(strip_usage=True)
    writer: StreamWriter = dialect("chat").stream_writer(call)
    events = reader.feed(b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n')
    assert reader.passed.endswith(b"[DONE]\n\n")
    assert reader.end() == ()
    assert writer.send(events).endswith(b"data: [DONE]\n\n")
    assert writer.content_type == b"text/event-stream; charset=utf-8"
    assert writer.send(()) == b""

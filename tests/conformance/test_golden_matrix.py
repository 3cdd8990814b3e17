"""Every recorded reply of every provider's dialect, as clients of each dialect get it: snapshots that every SDK parses.

`GOLDEN=write pytest tests/conformance/test_golden_matrix.py` writes `tests/conformance/golden` anew: look at the diff.
"""

import json
import os
from pathlib import Path

import msgspec
import pytest

from conformance.other_servers import frame
from conformance.outcome import DIALECTS
from conformance.parsers import accept_stream, accept_whole, frames
from penstock.call import Asked, Call
from penstock.reply import Event, Failed, fold
from penstock.wire.extras import neutral
from penstock.wire.registry import dialect

RECORDED = Path(__file__).parents[1] / "wire" / "golden"
SNAPSHOTS = Path(__file__).with_name("golden")
WHOLE, STREAMED = (".json",), (".sse", ".ndjson", ".jsonl")

LEAST: dict[str, tuple[object, Asked]] = {
    "chat": ({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}, Asked()),
    "responses": ({"model": "m", "input": "Hi"}, Asked()),
    "messages": ({"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}, Asked()),
    "generate": ({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}, Asked("m", form="sse")),
    "converse": ({"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}, Asked("m")),
    "ollama": ({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}, Asked(form="chat")),
}

NEWER = {
    ("generate/newer.json", "generate"),
    ("generate/newer.sse", "generate"),
    ("messages/compaction.sse", "messages"),
}
"""Recordings with members that this version of the provider's own SDK does not know, and ours passes on."""


def recordings(endings: tuple[str, ...]) -> list[str]:
    """The replies that are recorded: neither requests nor errors nor snapshots."""
    paths = [path for path in sorted(RECORDED.glob("*/*")) if path.suffix in endings]
    paths = [path for path in paths if ".request" not in path.name and ".error" not in path.name]
    return [f"{path.parent.name}/{path.name}" for path in paths]


def call_of(client: str, *, stream: bool) -> Call:
    """The least that a client of a dialect can ask, with the usage of its stream."""
    body, asked = LEAST[client]
    asked = msgspec.structs.replace(asked, stream=stream) if asked.model else asked
    extra = {"stream": stream} | ({"stream_options": {"include_usage": True}} if client == "chat" and stream else {})
    body = body | extra if asked.model is None else body  # type: ignore[operator]  # a dict
    return dialect(client).read_request(msgspec.json.encode(body), asked)


def fed(name: str) -> bytes:
    """The bytes of a recording as they come from the provider."""
    data = (RECORDED / name).read_bytes()
    if not name.endswith(".jsonl"):
        return data
    framed = []
    for line in data.splitlines():
        ((event, payload),) = json.loads(line).items()
        framed.append(frame(event, payload, "exception" if event.endswith("Exception") else "event"))
    return b"".join(framed)


def shown(client: str, data: bytes) -> str:
    """What a client is written, readable."""
    if client == "converse" and data[:1] == b"\0":
        return "".join(f"{json.dumps({name: payload}, ensure_ascii=False)}\n" for name, payload in frames(data))
    return data.decode() if data.endswith(b"\n") else f"{data.decode()}\n"


def check(name: str, written: dict[str, bytes]) -> None:
    text = "".join(f"== to {client} ==\n{shown(client, data)}" for client, data in written.items())
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    assert text == path.read_bytes().decode(), "if it is meant: GOLDEN=write"


@pytest.mark.parametrize("name", recordings(WHOLE))
def test_a_whole_reply_reaches_every_client(name: str) -> None:
    events = dialect(name.partition("/")[0]).read_reply(fed(name))
    failed = [event.error for event in events if isinstance(event, Failed)]
    written = {}
    for client in DIALECTS:
        speaks = dialect(client)
        if failed:
            written[client] = speaks.write_error(failed[0])
            continue
        said = events if client == name.partition("/")[0] else neutral(events)
        written[client] = speaks.write_reply(fold(said), call_of(client, stream=False))
        if (name, client) not in NEWER:
            accept_whole(client, written[client])
    check(name, written)


@pytest.mark.parametrize("name", recordings(STREAMED))
def test_a_streamed_reply_reaches_every_client(name: str) -> None:
    events = read_stream(name, fed(name))
    written = {}
    for client in DIALECTS:
        writer = dialect(client).stream_writer(call_of(client, stream=True))
        said = events if client == name.partition("/")[0] else neutral(events)
        written[client] = b"".join(writer.send((event,)) for event in said)
        if (name, client) not in NEWER:
            accept_stream(client, written[client])
    check(name, written)


def read_stream(name: str, data: bytes) -> tuple[Event, ...]:
    reader = dialect(name.partition("/")[0]).stream_reader()
    return reader.feed(data) + reader.end()


def test_nothing_recorded_is_missing_and_no_snapshot_is_left_over() -> None:
    kept = {path.relative_to(SNAPSHOTS).as_posix() for path in SNAPSHOTS.glob("*/*")}

    assert kept == {f"{name}.txt" for name in (*recordings(WHOLE), *recordings(STREAMED))}
    assert {name.partition("/")[0] for name in recordings(WHOLE)} == set(DIALECTS)

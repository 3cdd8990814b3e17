"""Streams and replies of every dialect, damaged at random: whatever arrives is read or refused, and nothing else happens.

The seeds are the recorded replies under `golden/`. `pytest -m soak` reads a million damaged ones, printed with the seed.
"""

import random
from pathlib import Path

import pytest
from msgspec import Raw, json

from penstock.errors import PenstockError
from penstock.wire.eventstream import event_frame, header_block
from penstock.wire.registry import dialect

GOLDEN = Path(__file__).with_name("golden")
STREAMED = {".sse", ".ndjson", ".jsonl"}
KINDS = ("chat", "responses", "messages", "generate", "converse", "ollama")
JUNK = (
    b"\n\n",
    b"\r",
    b"data: ",
    b"event: ",
    b"\xe2\x80\xa8",
    b"\x00",
    b"\xff\xfe",
    b"{",
    b"}",
    b"[",
    b'"',
    b"null",
    b"-1",
    b"1e999",
)


def recorded(kind):
    """Give the recorded replies of a dialect: as streams, and whole."""
    files = sorted(path for path in (GOLDEN / kind).iterdir() if path.is_file() and path.name.count(".") == 1)
    streams = [path.read_bytes() for path in files if path.suffix in STREAMED]
    wholes = [path.read_bytes() for path in files if path.suffix == ".json"]
    return streams, wholes


def damaged(rng, data):
    """Cut, repeat, swap, drop or replace a few bytes, or put in what parsers stumble over."""
    data = bytearray(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data) + 1)
        way = rng.randrange(5)
        if way == 0:
            del data[at : at + rng.randrange(1, 40)]
        elif way == 1:
            data[at:at] = rng.choice(JUNK)
        elif way == 2:
            data[at:at] = data[at : at + rng.randrange(1, 60)]
        elif way == 3 and data:
            data[at % len(data)] = rng.randrange(256)
        else:
            data[at:at] = rng.randbytes(rng.randrange(1, 8))
    return bytes(data)


def framed(rng, lines):
    """Put recorded events into frames as Bedrock sends them; half of the time with the damage inside of valid frames."""
    inside, out = rng.random() < 0.5, []
    hit = rng.randrange(len(lines)) if inside else -1
    for number, line in enumerate(lines):
        for name, payload in json.decode(line, type=dict[str, Raw]).items():
            kind = "exception" if name.endswith("Exception") else "event"
            head = header_block({f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind})
            out.append(event_frame(head, damaged(rng, bytes(payload)) if number == hit else bytes(payload)))
    return b"".join(out) if inside else damaged(rng, b"".join(out))


def read_stream(speaks, rng, data):
    reader, at = speaks.stream_reader(), 0
    while at < len(data):
        size = rng.randrange(1, 400)
        reader.feed(data[at : at + size])
        at += size
    reader.end()


def read_all(kind, times, seed):
    """Read so many damaged replies; give how many were refused with an error of ours."""
    rng, speaks, refused = random.Random(seed), dialect(kind), 0
    streams, wholes = recorded(kind)
    assert streams, f"no recorded stream of {kind}"
    for _ in range(times):
        is_stream = not wholes or rng.random() < 0.7
        seed_data = rng.choice(streams if is_stream else wholes)
        of_bedrock = is_stream and kind == "converse"
        data = framed(rng, seed_data.splitlines()) if of_bedrock else damaged(rng, seed_data)
        try:
            if is_stream:
                read_stream(speaks, rng, data)
            elif rng.random() < 0.5:
                speaks.read_reply(data)
            else:
                speaks.tap_reply(data)
        except PenstockError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{kind}, seed {seed}: {error!r} from {data!r}") from error
    return refused


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_reply_is_read_or_refused(kind):
    seed = random.SystemRandom().randrange(2**32)
    refused = read_all(kind, 1500, seed)
    assert 0 < refused < 1500, f"seed {seed}: damage has to show, and not always"


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_a_million_damaged_replies_are_read_or_refused(kind):
    seed, times = random.SystemRandom().randrange(2**32), 170_000
    refused = read_all(kind, times, seed)
    print(f"{kind}: {times} damaged replies, {refused} refused, seed {seed}")

"""Events that repeat are read at less cost, and to exactly the same effect as in full."""

import asyncio
from itertools import pairwise
from random import Random
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import encode

from penstock.passage import Passages
from penstock.reply import Event, Failed, TextDelta
from penstock.wire.anthropic_messages_stream import MessagesStreamReader
from penstock.wire.framing import MAX_FRAME_BYTES, Frame
from penstock.wire.openai_chat_stream import ChatStreamReader
from penstock.wire.sse_stream import MarkedStreamReader
from penstock.wire.sse_template import MAX_TEMPLATE_BYTES, NoisyTemplate, TextTemplate, template

SEEDS = st.integers(0, 2**64)
HEAD = b'{"id":"c","created":17,"model":"m","choices":[{"index":0,"delta":{'
TAIL = b'},"logprobs":null,"finish_reason":null}],"usage":null'
NOISES = (
    b'"q"',
    b'""',
    b'"a\\"',
    b'"\xff"',
    b"7",
    b'"a","error":"b"',
    b'"\\u0041"',
    b'"a"\n\n',
    b"{}",
    b'"a"b"',
    *[b'"w"'] * 13,
)
BLOCK = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":'

STRINGS = (
    *(
        b'"a"',
        b'"b c"',
        b'"\\u00e9"',
        b'"\xc3\xa9"',
        b'"\\"q\\""',
        b'"\\\\"',
        b'"\\n"',
        b'"}{,:"',
        b'"\xe2\x80\xa8"',
        b'"x"',
    ),
    *(
        b'""',
        b'"\\ud83d\\ude00"',
        b'"\\ud800"',
        b'"\xff"',
        b'"\x01"',
        b'"\n"',
        b'"a\n\nb"',
        b'"a\\"',
        b'"a"b"',
        b"null",
        b"7",
    ),
    *(
        b'"a"\n',
        b'"a"\n\n',
        b'"a"\r',
        b'"a" ',
        b' "a"',
        b'"\\x"',
        b'"a","content":"b"',
        b'["a"]',
        b'"' + b"y" * 3_000 + b'"',
    ),
)
USUAL = STRINGS[:10]


WAYS = (
    (b"17", b"18"),
    (b'"content":', b'"content": '),
    (b'"index":0', b'"index":1'),
    (b'"usage":null', b'"usage":{"prompt_tokens":1,"completion_tokens":1}'),
    (b'"finish_reason":null', b'"finish_reason":"stop"'),
    (b'"usage":null', b'"usage":null,"error":{"message":"no"}'),
    (b'"id"', b'"other":{"content":"z"},"id"'),
    (b'"content":', b'"content":"z","content":'),
    (b'},"logprobs"', b',"content":"z"},"logprobs"'),
    (b'"content":', b'"refusal":"no","content":'),
    (b'"id":"c",', b""),
    (b'"content":', b'"role":'),
    (b'"logprobs":null', b'"logprobs":{"content":[{"token":"a","logprob":-1}]}'),
)
"""What can be otherwise in a chunk."""


def chat(text: bytes, way: int = -1) -> bytes:
    """Write a chunk with this text."""
    usual = b"data: " + HEAD + b'"content":' + text + TAIL + b"}\n\n"
    return usual.replace(*WAYS[way], 1) if 0 <= way < len(WAYS) else usual


def noisy(text: bytes, way: int = -1) -> bytes:
    """As `chat`, with noise."""
    noise = NOISES[way % 23] if way > 12 else b'"' + b"aBc3"[len(text) % 4 :] + b'"'
    return chat(text, way).removesuffix(b"}\n\n") + b',"obfuscation":' + noise + b"}\n\n"


def message(text: bytes, way: int = -1) -> bytes:
    """Write an event of a message with this text; the other ways are rare, or other events."""
    data, name = BLOCK + text + b"}}", b"event: content_block_delta\n"
    match way:
        case 0:
            data = data.replace(b'"index":0', b'"index":1')
        case 1:
            data = encode({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "s"}})
        case 2:
            data = encode({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}})
        case 3:
            data = encode({"type": "content_block_stop", "index": 0})
        case 4:
            citation = {"type": "char_location", "cited_text": "x", "document_index": 0}
            delta = {"type": "citations_delta", "citation": citation}
            data = encode({"type": "content_block_delta", "index": 0, "delta": delta})
        case 5:
            data = data.replace(b'"text_delta"', b'"text_delta","partial_json":"z"')
        case 6:
            name = b""
        case 7:
            name = b"event: error\n"
        case 8:
            data = data.replace(b'"type":"content', b'"text":"z","type":"content')
    return name + b"data: " + data + b"\n\n"


COUNTED = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
BESIDE = (
    COUNTED,
    b": ping\n\n",
    b"\n",
    b"\r\n",
    b"data: [DONE]\n\n",
    b"event: error\n",
    b"\xef\xbb\xbf",
    b"data: {\n\n",
    b"data: ",
    b"\r",
)


class FullChat(ChatStreamReader):
    """Reads every event in full."""

    def _template(self, frame: Frame, block: bytes) -> None:
        """Make none."""


class FullMessages(MessagesStreamReader):
    """See `FullChat`."""

    def _template(self, frame: Frame, block: bytes) -> None:
        """Make none."""


def say(events: tuple[Event, ...]) -> list[object]:
    return [(type(e.error), str(e.error)) if isinstance(e, Failed) else e for e in events]


def any_pieces(rng: Random, write: Any) -> list[bytes]:
    """Cut a stream: one event a read, several, or anywhere."""
    strings, odd = (USUAL, 0.05) if rng.random() < 0.6 else (STRINGS, 0.3)
    frames = [
        write(rng.choice(strings), rng.randrange(36) if rng.random() < odd else -1)
        if rng.random() > odd / 3
        else rng.choice(BESIDE)
        for _ in range(rng.randrange(1, 30))
    ]
    if rng.random() < 0.1:
        frames = [frame.replace(b"\n", rng.choice((b"\r\n", b"\r"))) for frame in frames]
    cuts = {0, len(frames), *rng.sample(range(len(frames)), rng.randrange(len(frames)))}
    pieces = [b"".join(frames[a:b]) for a, b in pairwise(sorted(cuts))]
    if rng.random() < 0.5:
        return pieces
    whole = b"".join(pieces)
    at = sorted({0, len(whole), *(rng.randrange(len(whole)) for _ in range(rng.randrange(6)))})
    return [whole[a:b] for a, b in pairwise(at)]


def same(short: MarkedStreamReader, full: MarkedStreamReader, pieces: list[bytes]) -> int:
    """Feed both readers, and give how many reads went the short way."""
    hits = 0
    for piece in pieces:
        ready = short._ready
        hits += ready is not None and ready.read(piece) is not None
        assert (say(short.feed(piece)), short.passed) == (say(full.feed(piece)), full.passed)
    assert (say(short.end()), short.passed) == (say(full.end()), full.passed)
    return hits


START = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text"}}\n\n'
)
STOP = b'data: {"type":"content_block_stop","index":0}\n\n'
CITED = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{"type":"x"}}}\n\n'


@settings(max_examples=1_500, deadline=None)
@given(seed=SEEDS)
def test_what_is_read_the_short_way_is_what_is_read_in_full(seed: int) -> None:
    rng = Random(seed)
    strip = rng.random() < 0.5
    for write in (chat, noisy):
        same(ChatStreamReader(strip_usage=strip), FullChat(strip_usage=strip), any_pieces(rng, write))
    same(MessagesStreamReader(), FullMessages(), [START, *any_pieces(rng, message)])


@pytest.mark.parametrize("write", [chat, noisy])
def test_the_words_of_a_chat_go_the_short_way(write: Any) -> None:
    words = [write(text) for text in USUAL]
    many = [b"".join(words), *words, *words]
    short, full = ChatStreamReader(strip_usage=True), FullChat(strip_usage=True)
    assert same(short, full, [words[0], words[0], *many]) == 1 + len(many), "all but the first, which is learned"
    late = [word.replace(b"17", b"18") for word in words]
    cut = [b"".join(late)[:-9], b"".join(late)[-9:]]
    short, full = ChatStreamReader(strip_usage=True), FullChat(strip_usage=True)
    assert same(short, full, [*words[:4], *late, *cut, *late]) == 3 + 2 * len(late) - 1, "learned anew, kept over a cut"


@pytest.mark.parametrize(
    "odd",
    [
        *(chat(text) for text in STRINGS[len(USUAL) :] if text not in {b'"\\ud83d\\ude00"', STRINGS[-1]}),
        *(chat(b'"a"', way) for way in range(13)),
        *(noisy(b'"a"', way) for way in (24, 25, 26, 27, 28, 30, 31, 32)),
        *BESIDE,
        chat(b'"a"')[:-1],
        chat(b'"a"')[1:],
        chat(b'"a"') * 2 + b": ping\n\n",
        chat(b'"a"').replace(b"\n", b"\r\n"),
    ],
)
def test_what_is_not_such_a_word_is_read_in_full(odd: bytes) -> None:
    write = noisy if b"obfuscation" in odd else chat
    words = [write(b'"a"'), write(b'"a"'), write(b'"b"')]
    assert same(ChatStreamReader(strip_usage=False), FullChat(strip_usage=False), [*words, odd]) == 2
    same(ChatStreamReader(strip_usage=False), FullChat(strip_usage=False), [*words, odd, *words, *words])
    same(ChatStreamReader(strip_usage=False), FullChat(strip_usage=False), [odd, odd, *words])


def test_the_words_of_a_message_go_the_short_way_and_its_sources_stay_in_place() -> None:
    words = [message(text) for text in USUAL]
    pieces = [
        START,
        words[0],
        *words,
        CITED,
        words[0],
        b"".join(words),
        STOP,
        words[0],
        START,
        words[0],
        words[1],
        CITED,
        STOP,
    ]
    assert same(MessagesStreamReader(), FullMessages(), pieces) == len(words) + 1 + 1


def test_events_that_never_repeat_are_not_learned_for_ever() -> None:
    reader = ChatStreamReader(strip_usage=False)
    made = []
    for number in range(50):
        reader.feed(chat(b'"a"').replace(b"17", b"%d" % number))
        made.append(reader._known)
    assert len(set(map(id, made))) < 8
    assert reader._ready is None


def frame(data: bytes, event: str = "") -> Frame:
    return Frame(data, event, 0, 0)


def test_a_template_reads_its_text_and_nothing_else() -> None:
    made = template(b'data: {"a":"x"}\n\n', frame(b'{"a":"x"}'), (6, 7))
    assert made is not None
    assert not made.used
    assert made.read(b'data: {"a":"yz"}\n\n') == (TextDelta("yz"),)
    assert made.used
    assert made.read(b'data: {"a":"y"}\n\n' * 3) == (TextDelta("y"),) * 3
    for other in (
        b'data: {"a":"}\n\n',
        b'data: {"a":""}\n\n',
        b'data: {"a":"x"}\n',
        b"",
        b'data: {"a":"x","a":"y"}\n\n',
    ):
        assert made.read(other) is None
    assert made.read(b'data: {"a":"' + b"x" * MAX_FRAME_BYTES + b'"}\n\n') is None


async def test_a_text_that_passes_in_chunks_counts_for_its_block() -> None:
    for words, taken in (((b'"three"',), 5), ((b'"th"', b'"r\\u00e9e"'), 5), ((b'"th"', b'"\xff"'), 0)):
        reader, nobody = MessagesStreamReader(), Mock(look=lambda: False)
        reader.feed(START + message(b'"one"'))
        assert reader.short_way(nobody) is None, "until it has been of use"
        reader.feed(message(b'""'))
        reader.feed(message(b'"one"'))
        reader._spoken.length = 3
        way = reader.short_way(nobody)
        assert way is not None
        events = map(message, words)
        source = Mock(short=way)
        way.from_source(source, 30.0)
        way.meter.passed, way.unseen = 0, 99
        passages = Passages(asyncio.get_running_loop())
        passages.arrive((way, b"".join([b"%x\r\n%b\r\n" % (len(event), event) for event in events])))
        passages.run()
        assert (reader._spoken.length, source.read_on.called) == (3 + taken, not taken)


def test_noise_has_to_be_a_string() -> None:
    made = template(b'data: {"a":"x","b":"n"}\n\n', frame(b'{"a":"x","b":"n"}'), (6, 7), (14, 15))
    assert isinstance(made, NoisyTemplate)
    assert made.read(b'data: {"a":"y","b":"mm"}\n\n' * 2) == (TextDelta("y"),) * 2
    for other in (b'data: {"a":"y","b":""}\n\n', b'data: {"a":"y"}\n\n', b'data: {"a":"y","b":"m"n"}\n\n'):
        assert made.read(other) is None


@pytest.mark.parametrize(
    ("block", "event"),
    [
        (b'data:{"a":"x"}\n\n', ""),
        (b'data: {"a":"x"}\r\n\r\n', ""),
        (b': ping\ndata: {"a":"x"}\n\n', ""),
        (b'data: {"a":"x"}\n\n', "said"),
        (b'data: {"a":"x"}\n\n\n', ""),
    ],
)
def test_what_is_written_in_another_way_is_no_template(block: bytes, event: str) -> None:
    assert template(block, frame(b'{"a":"x"}', event), (6, 7)) is None


def test_a_named_event_is_one() -> None:
    made = template(b'event: said\ndata: {"a":"x"}\n\n', frame(b'{"a":"x"}', "said"), (6, 7))
    assert isinstance(made, TextTemplate)


def test_a_long_event_is_not_kept() -> None:
    reader = ChatStreamReader(strip_usage=False)
    reader.feed(chat(b'"%b"' % (b"x" * MAX_TEMPLATE_BYTES)))
    assert reader._ready is None
    reader.feed(chat(b'"x"'))
    assert reader._ready is not None

"""A stream like the one before it is read as any other: the same events, the same bytes, at less cost."""

from collections.abc import Iterable
from random import Random
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import encode

from penstock.reply import Ended, Event, Failed, Finished, Started, TextDelta, UsageReported
from penstock.wire.openai_chat import OpenAIChat
from penstock.wire.openai_chat_habits import LONGEST, MOST, TRIALS, Habits
from penstock.wire.openai_chat_stream import ChatStreamReader
from penstock.wire.sse_template import NoisyTemplate

SEEDS = st.integers(0, 2**64)
DONE = b"data: [DONE]\n\n"
ROLE = b'[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]'
STOP = b'[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]'
USAGE = b'[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}'


def says(text: object, finish: object = None) -> bytes:
    return encode([{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish}])


def event(number: int, choices: bytes, head: bytes = b'"object":"chat.completion.chunk","model":"m"') -> bytes:
    return b'data: {"id":"c%d","created":%d,%b,"choices":%b}\n\n' % (number, 17 + number, head, choices)


def stream(number: int, *texts: str, last: str | None = None) -> list[bytes]:
    end = STOP if last is None else says(last, "stop")
    written = [ROLE, *map(says, texts), end]
    return [*(event(number, one) for one in written), event(number, USAGE) + DONE]


def filled(events: bytes, noise: bytes = b"aB3") -> bytes:
    """Fill events up with noise, as OpenAI does."""
    return events.replace(b"}\n\n", b',"obfuscation":"%b"}\n\n' % noise)


class Long(ChatStreamReader):
    """Counts what is read the long way."""

    __slots__ = ("reads",)

    def __init__(self, habits: Habits | None) -> None:
        super().__init__(strip_usage=False, habits=habits)
        self.reads = 0

    def _take(self, frames):
        self.reads += 1
        return super()._take(frames)


def heard(reader: ChatStreamReader, pieces: Iterable[bytes]) -> list[tuple[tuple[object, ...], bytes]]:
    told = [(plain(reader.feed(piece)), reader.passed) for piece in pieces]
    return [*told, (plain(reader.end()), reader.passed)]


def plain(events: tuple[Event, ...]) -> tuple[object, ...]:
    return tuple(str(event.error) if isinstance(event, Failed) else event for event in events)


def test_a_stream_like_the_one_before_it_is_read_without_the_full_reader():
    habits = Habits()
    heard(Long(habits), stream(1, "a", "bc"))
    heard(Long(habits), stream(2, "x", last="y"))
    reader = Long(habits)
    told = heard(reader, stream(3, "Grüße", "b", last="ende"))
    assert reader.reads == 0
    assert [events for events, _ in told] == [
        (Started("c3", "m", 20),),
        (TextDelta("Grüße"),),
        (TextDelta("b"),),
        (TextDelta("ende"), Finished("stop", "stop")),
        (UsageReported(told[4][0][0].usage, None), Ended()),
        (),
    ]
    assert told == heard(Long(None), stream(3, "Grüße", "b", last="ende"))


def test_noise_tells_nothing():
    habits = Habits()
    heard(Long(habits), map(filled, stream(1, "a", "bc")))
    heard(Long(habits), map(filled, stream(2, "x", last="y")))
    reader = Long(habits)
    noises = iter((b"a", b"Zy", b"0", b"x1y2", b"q"))
    pieces = [filled(one, next(noises)) for one in stream(3, "Grüße", "b", last="ende")]
    assert heard(reader, pieces) == heard(Long(None), pieces)
    assert reader.reads == 0
    reader = Long(habits)
    reader.feed(filled(event(4, says("b"))))
    assert type(reader._ready) is NoisyTemplate
    assert reader.feed(filled(event(4, says("c")), b"other")) == (TextDelta("c"),)
    assert reader.feed(event(4, says("d"))) == (TextDelta("d"),)


def test_the_first_event_may_be_a_text():
    habits = Habits()
    heard(Long(habits), stream(1, "a")[1:])
    reader = Long(habits)
    assert reader.feed(event(2, says("b"))) == (Started("c2", "m", 19), TextDelta("b"))
    assert reader.short_way(Mock()) is not None, "there is nothing to be tried out any more"
    assert reader.reads == 0


STRANGE = (
    event(9, says("a"), b'"model":"m","usage":{"prompt_tokens":1}'),
    event(9, says("a"), b'"model":"m","error":{"message":"no"}'),
    event(9, says("a"), b'"model":"a,\\"choices\\":"'),
    event(9, says("a"), b'"model":{"x":1,"choices":[]}'),
    event(9, says("a"), b'"model":"m",\n"x":1'),
    event(9, says("a"), b'"model":"\xff"'),
    event(9, says("a"), b'"object":"\xff"'),
    event(9, says("a")).replace(b'"id":"c9"', b'"id":"c9}'),
    event(9, says("a")).replace(b'"id":"c9"', b'"id":null'),
    event(9, says("a")).replace(b'"id":"c9"', b'"id":"c10","id":"c11"'),
    event(9, says("")),
    event(9, says('"')),
    event(9, says("\\")),
    event(9, says("a")).replace(b'"a"', b'"\x01"'),
    event(9, says("a")).replace(b'"a"', b'"\xff"'),
    event(9, says("a")).replace(b'"a"', b'"\\u00e4"'),
    event(9, says("a")).replace(b"\n\n", b"\r\n\r\n"),
    event(9, says("a")).replace(b"\n\n", b"\n"),
    event(9, says("a")) + event(9, says("b")),
    event(9, says("a"))[5:],
    b"\xef\xbb\xbf" + event(9, says("a")),
    b"\n\n\xef\xbb\xbf" + event(9, says("a")),
    b": x\n\n" + event(9, says("a")),
    b"event: error\n" + event(9, says("a")),
    event(9, says("a"), b'"choices":[{"index":3}],"model":"m"'),
    event(9, STOP),
    event(9, STOP) + event(9, STOP),
    event(9, STOP.replace(b"stop", b"length")),
    event(9, STOP.replace(b'"index":0', b'"index":1')),
    event(9, says("a") + b',"service_tier":"flex"'),
    event(9, says("a") + b',"id":"other"'),
    event(9, says([{"text": "a"}])),
    event(9, b'[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","function":{"name":"f"}}]}}]'),
    event(9, b'[{"index":0,"delta":{"refusal":"no"}}]'),
    event(9, USAGE),
    event(9, USAGE) + DONE,
    event(9, b'[],"usage":null') + DONE,
    event(9, b'[],"usage":{"prompt_tokens":"x"}') + DONE,
    event(9, b'[],"usage":{"prompt_tokens":5},"x":1') + DONE,
    event(9, b'[],"usage":{"prompt_tokens":5},') + DONE,
    event(9, b'[],"usage":{"prompt_tokens":5,\n"x":1}') + DONE,
    event(9, b'[],"usage":{"prompt_tokens":5,"x":"\xff"}') + DONE,
    event(9, b'[],"usage":{"x":%b1%b}' % (b"[" * 5000, b"]" * 5000)) + DONE,
    event(9, USAGE + b',"x":1'),
    event(9, USAGE.replace(b"[]", b"{}")),
    event(9, USAGE) + event(9, USAGE),
    filled(event(9, USAGE)),
    filled(event(9, USAGE)) + DONE,
    *(
        filled(event(9, says("a")), noise)
        for noise in (b"", b'\\"', b"\xff", b"\x01", b"a b", b'x","y":"z', b"\xc3\xa4")
    ),
    filled(filled(event(9, says("a")))),
    filled(event(9, says("a"))).replace(b'"obfuscation"', b'"service_tier"'),
    filled(event(9, says('x,"obfuscation":"y'))),
    filled(event(9, says("a")))[:-1],
    DONE,
    DONE + DONE,
    b"data: [DONE]\r",
    b"\n",
    b"",
)
USUAL = (*stream(9, "a", "bc"), *stream(9, "a", last="b"), *stream(8, "x"))


@settings(max_examples=400)
@given(SEEDS)
def test_streams_with_habits_are_read_as_those_without(seed):
    rng, habits = Random(seed), Habits()
    heads = (b'"object":"chat.completion.chunk","model":"m"', b'"model":"m","service_tier":"flex"')
    for number in range(6):
        head = rng.choice(heads)
        pieces = [one.replace(heads[0], head) for one in stream(number, *("ab"[: rng.randrange(3)]))]
        if rng.random() < 0.4:
            pieces = [filled(one, rng.choice((b"x", b"aB3", b"9"))) for one in pieces]
        if rng.random() < 0.3:
            pieces[-1:] = [pieces[-1][: -len(DONE)], DONE]
        while rng.random() < 0.6:
            at = rng.randrange(len(pieces))
            pieces[at : at + rng.randrange(2)] = [rng.choice(STRANGE if rng.random() < 0.7 else USUAL)]
        if rng.random() < 0.2:
            whole, pieces = b"".join(pieces), []
            while whole:
                size = rng.randrange(1, 400)
                pieces, whole = [*pieces, whole[:size]], whole[size:]
        strip = rng.random() < 0.2
        full, quick = ChatStreamReader(strip_usage=strip), ChatStreamReader(strip_usage=strip, habits=habits)
        assert heard(quick, pieces) == heard(full, pieces)


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("before", [(), (event(9, ROLE),), (event(9, says("a")),), (event(9, STOP),)])
def test_what_differs_is_for_the_full_reader(strange, before):
    habits = Habits()
    for number in (1, 2):
        heard(
            ChatStreamReader(strip_usage=False, habits=habits), stream(number, "a", last="b" if number == 2 else None)
        )
    pieces = [*before, strange, event(9, says("c"))]
    quick = heard(ChatStreamReader(strip_usage=False, habits=habits), pieces)
    assert quick == heard(ChatStreamReader(strip_usage=False), pieces)
    for after in (stream(10, "a", "b"), [strange, *stream(10, "a")]):
        quick = heard(ChatStreamReader(strip_usage=False, habits=habits), after)
        assert quick == heard(ChatStreamReader(strip_usage=False), after), "nothing wrong was learned of it"


def test_a_text_that_stands_elsewhere_is_no_habit():
    habits = Habits()
    choices = b'[{"index":0,"told":{"content":"%b"},"delta":{"content":"a"}}]'
    heard(ChatStreamReader(strip_usage=False, habits=habits), [event(1, choices % b"a")])
    reader = ChatStreamReader(strip_usage=False, habits=habits)
    assert reader.feed(event(2, choices % b"b"))[-1:] == (TextDelta("a"),)


def test_what_was_left_out_has_its_line_end_left_out_as_well_only_where_that_follows():
    habits, told = Habits(), event(9, says("a"))
    heard(ChatStreamReader(strip_usage=False, habits=habits), [told])
    pieces = [told, event(9, USAGE), told, told[:-2] + b"\r\r", b"\n" + told]
    quick = heard(ChatStreamReader(strip_usage=True, habits=habits), pieces)
    assert quick == heard(ChatStreamReader(strip_usage=True), pieces)


def test_an_end_that_is_said_again_is_no_habit():
    habits = Habits()
    again = [event(1, says("a")), event(1, STOP), event(1, STOP.replace(b"{}", b'{"content":""}'))]
    heard(ChatStreamReader(strip_usage=False, habits=habits), again)
    reader = ChatStreamReader(strip_usage=False, habits=habits)
    assert reader.feed(event(2, STOP.replace(b"{}", b'{"content":""}')))[-1:] == (Finished("stop", "stop"),)


def test_no_text_is_remembered_and_never_too_much():
    habits = Habits()
    for number in range(3 * MOST):
        reader = ChatStreamReader(strip_usage=False, habits=habits)
        reader.feed(event(number, says("a secret")))
        other = ChatStreamReader(strip_usage=False, habits=habits)
        other.feed(event(number, says("a secret", f"end{number}")))
        other = ChatStreamReader(strip_usage=False, habits=habits)
        other.feed(event(number, STOP.replace(b"stop", b"end%d" % number)))
        other = ChatStreamReader(strip_usage=False, habits=habits)
        other.feed(event(number, STOP.replace(b"stop", b"x" * LONGEST)))
    kept = [habits.before, *habits._said, *habits._tails]
    assert len(kept) <= 1 + 2 * MOST
    assert all(len(one) <= LONGEST and b"secret" not in one for one in kept)


def test_streams_that_have_no_habits_are_soon_left_alone():
    habits = Habits()
    strange = event(1, says("a")).replace(b'"id":"c1",', b"")
    for _ in range(TRIALS):
        ChatStreamReader(strip_usage=False, habits=habits).feed(strange)
    reader = ChatStreamReader(strip_usage=False, habits=habits)
    reader.feed(event(1, says("a")))
    assert not habits.before


def test_each_model_has_its_own():
    chat = OpenAIChat()
    ours, theirs = chat.stream_readers(), chat.stream_readers()
    assert ours(strip_usage=False)._habits is ours(strip_usage=True)._habits
    assert ours()._habits is not theirs()._habits

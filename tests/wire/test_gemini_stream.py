"""Streams: the same at every byte boundary, whole frames passed on, exactly one ending, and what the SDK takes."""

from collections.abc import Iterable
from random import Random

import pytest
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.json import decode, encode

from penstock.call import Call, Citation, Content, Foreign, Image, Sampling, ToolUse
from penstock.errors import RateLimited, UpstreamGarbled, UpstreamOverloaded, UpstreamRateLimited
from penstock.receipt import Usage
from penstock.reply import (
    AudioDelta,
    Choice,
    Cited,
    Embedded,
    Ended,
    Event,
    Failed,
    Finished,
    ForeignDelta,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
    fold,
    unfold,
)
from penstock.wire.framing import MAX_FRAME_BYTES, SseReader
from penstock.wire.gemini_stream import MAX_STRAY_BYTES, GeminiStreamReader, GeminiStreamWriter
from wire.test_gemini_reply import any_own_reply

SEEDS = st.integers(0, 2**64)
CALL = Call("generate", "m", Sampling(), lambda: Content(()), stream=True, form="sse")
ARRAY = structs.replace(CALL, form="array")


def chunk(*parts: object, finish: str | None = None, **members: object) -> bytes:
    candidate: dict[str, object] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return b"data: " + encode({"candidates": [candidate], "responseId": "r", "modelVersion": "m", **members}) + b"\n\n"


def feed(pieces: Iterable[bytes]) -> tuple[list[Event], bytes]:
    reader = GeminiStreamReader()
    events: list[Event] = []
    passed = b""
    for piece in pieces:
        events += reader.feed(piece)
        passed += reader.passed
    events += reader.end()
    return events, passed + reader.passed


def chunks(data: bytes) -> list[dict[str, object]]:
    return [decode(frame.data) for frame in SseReader().feed(data)]


def escaped(choice: Choice) -> Choice:
    """The same, with the arguments as a stream writes them: what some clients take for a line end is escaped."""
    parts = [
        structs.replace(part, arguments=part.arguments.replace("\u2028", "\\u2028"))
        if isinstance(part, ToolUse)
        else part
        for part in choice.parts
    ]
    return structs.replace(choice, parts=tuple(parts))


def is_read_the_same(seed: int) -> None:
    rng = Random(seed)
    reply = any_own_reply(seed, streamed=True)
    writer = GeminiStreamWriter(CALL)
    events = list(unfold(reply))
    written = b""
    while events:
        count = rng.randrange(1, 5)
        written += writer.send(events[:count])
        del events[:count]
    again = fold(feed([written])[0])
    tier = again.service_tier  # stands in the usage, and so is late but for answers of nothing
    expected = structs.replace(reply, service_tier=tier, choices=tuple(map(escaped, reply.choices)))
    assert again == expected


@settings(max_examples=1_500, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_the_same(seed: int) -> None:
    is_read_the_same(seed)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_the_same_in_many_cases(seed: int) -> None:
    is_read_the_same(seed)


@settings(max_examples=200, deadline=None)
@given(seed=SEEDS)
def test_googles_own_types_take_what_is_written(seed: int) -> None:
    for form in (CALL, ARRAY):
        written = GeminiStreamWriter(form).send(unfold(any_own_reply(seed, streamed=True)))
        for one in chunks(written) if form is CALL else decode(written):
            for candidate in one.get("candidates", ()):
                candidate.pop("futureMember", None)
            types.GenerateContentResponse.model_validate(one)


# -- reading --


def test_a_stream_ends_when_every_answer_said_why() -> None:
    raw = chunk({"text": "a"}) + chunk(
        {"text": "b"}, finish="STOP", usageMetadata={"promptTokenCount": 1, "totalTokenCount": 3}
    )
    events, passed = feed([raw])
    assert events == [
        Started("r", "m"),
        TextDelta("a"),
        TextDelta("b"),
        Finished("stop", "STOP"),
        UsageReported(Usage(1, 2)),
        Ended(),
    ]
    assert passed == raw


def test_usage_that_says_the_same_again_is_no_news() -> None:
    usage = {"promptTokenCount": 1, "totalTokenCount": 3}
    events, _ = feed([chunk({"text": "a"}, usageMetadata=usage) + chunk(finish="STOP", usageMetadata=usage)])
    assert sum(isinstance(event, UsageReported) for event in events) == 1
    events, _ = feed([chunk({"text": "a"}, usageMetadata={"x": 1}) + chunk(finish="STOP")])
    assert not any(isinstance(event, UsageReported) for event in events)


def test_an_end_said_twice_is_one() -> None:
    events, _ = feed([chunk({"text": "a"}, finish="STOP") + chunk(finish="STOP")])
    assert sum(isinstance(event, Finished) for event in events) == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        chunk({"text": "a"}),
        chunk({"text": "a"}) + b'data: {"candi',
        b"data: {",
        b'{"error"',
        b'{"error": 1',
        b": ping\n\n",
    ],
)
def test_a_stream_without_an_end_was_cut(raw: bytes) -> None:
    failed = feed([raw])[0][-1]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, UpstreamGarbled)
    assert "stopped" in str(failed.error)


def test_a_last_frame_without_its_blank_line_counts() -> None:
    events, passed = feed([chunk({"text": "a"}, finish="STOP")[:-1]])
    assert events[-1] == Ended()
    assert passed.endswith(b"\n\n")
    error = b'data: {"error":{"code":503,"message":"Overloaded","status":"UNAVAILABLE"}}'
    failed = feed([error])[0][-1]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, UpstreamOverloaded)


def test_nothing_is_passed_from_an_error_on() -> None:
    good = chunk({"text": "a"})
    bad = b'data: {"error":{"code":503,"message":"Overloaded","status":"UNAVAILABLE"}}\n\n'
    reader = GeminiStreamReader()
    events = reader.feed(good + bad + good)
    assert isinstance(events[-1], Failed)
    assert reader.passed == good
    assert (reader.feed(good), reader.passed, reader.end(), reader.passed) == ((), b"", (), b"")


def test_what_is_no_chunk_fails() -> None:
    for data in (b"nonsense", b"[]", b'{"candidates":[{"content":7}]}', b'"\xff"'):
        failed = feed([b"data: " + data + b"\n\n"])[0][-1]
        assert isinstance(failed, Failed)
        assert "stream is no answer" in str(failed.error)


def test_an_error_outside_of_any_event_is_read() -> None:
    error = b'[{\n  "error": {"code": 429, "message": "Slow down", "status": "RESOURCE_EXHAUSTED"}\n}]\n'
    for pieces in ([error], [chunk({"text": "a"}), error], [chunk({"text": "a"}) + error], [error[:9], error[9:]]):
        failed = feed(pieces)[0][-1]
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, UpstreamRateLimited)


def test_memory_is_bounded() -> None:
    reader = GeminiStreamReader()
    for _ in range(MAX_FRAME_BYTES // 1_000_000 + 2):
        events = reader.feed(b"x" * 1_000_000)
        if events:
            break
    assert isinstance(events[-1], Failed)
    assert len(reader._stray) <= MAX_STRAY_BYTES
    long = GeminiStreamReader()
    long.feed(b"data: " + b"x" * (MAX_FRAME_BYTES - 10) + b"\n\n")
    over = GeminiStreamReader()
    over.feed(b"data: {}\n\ndata: " + b"x" * MAX_FRAME_BYTES)
    assert isinstance(over.end()[-1], Failed)


# -- writing --


def test_text_goes_out_at_once() -> None:
    writer = GeminiStreamWriter(CALL)
    assert writer.send([Started("r", "m", extra=(("createTime", b'"now"'),))]) == b""
    assert chunks(writer.send([TextDelta("a\u2028\u2029\x85é")])) == [
        {
            "candidates": [{"content": {"parts": [{"text": "a\u2028\u2029\x85é"}], "role": "model"}, "index": 0}],
            "modelVersion": "m",
            "responseId": "r",
            "createTime": "now",
        }
    ]
    assert b"\\u2028\\u2029\\u0085\xc3\xa9" in writer.send([TextDelta("\u2028\u2029\x85é")])


def test_why_it_ended_waits_for_the_usage() -> None:
    writer = GeminiStreamWriter(CALL)
    assert writer.send([Finished("stop", "stop")]) == b""
    assert writer.send([UsageReported(Usage(1, 2))]) == b""
    last = chunks(writer.send([Ended()]))
    assert last == [
        {
            "candidates": [{"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3},
            "modelVersion": "m",
        }
    ]
    assert writer.send([TextDelta("late")]) == b""


def test_calls_are_written_whole_and_in_order() -> None:
    writer = GeminiStreamWriter(CALL)
    out = writer.send([ToolUseStarted(0, "a", "f"), ToolUseStarted(1, "b", "g"), ToolUseDelta(1, '{"x":')])
    out += writer.send([ToolUseDelta(0, "{}"), ToolUseDelta(1, "1}"), ToolUseDelta(2, "{}")])
    assert out == b""
    parts = [
        part
        for one in chunks(writer.send([TextDelta("then")]))
        for candidate in one["candidates"]  # type: ignore[attr-defined]
        for part in candidate["content"]["parts"]
    ]
    assert parts == [
        {"functionCall": {"id": "a", "name": "f", "args": {}}},
        {"functionCall": {"id": "b", "name": "g", "args": {"x": 1}}},
        {"functionCall": {"name": "", "args": {}}},
        {"text": "then"},
    ]


def test_every_other_event_is_written_or_left_out() -> None:
    writer = GeminiStreamWriter(CALL)
    out = chunks(
        writer.send(
            [
                RefusalDelta("No."),
                ReasoningDelta(),
                ReasoningDelta("", "c2ln", signer="google"),
                AudioDelta(transcript="hi"),
                AudioDelta("aGk="),
                PartAdded(Image(data="aGk=", media_type="image/png")),
                PartAdded(Foreign("chat", "x", b"{}")),
                Cited(Citation("https://example.com")),
                TextDelta("more"),
                ForeignDelta("chat", "annotations", b"[]"),
                Embedded(0, ()),
            ]
        )
    )
    assert [one["candidates"][0]["content"]["parts"] for one in out] == [  # type: ignore[index]
        [
            {"text": "No.", "thoughtSignature": "c2ln"},
            {"inlineData": {"mimeType": "audio/wav", "data": "aGk="}},
            {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        ],
        [{"text": "more"}],
    ]
    assert out[0]["candidates"][0]["citationMetadata"] == {"citations": [{"uri": "https://example.com"}]}  # type: ignore[index]


@pytest.mark.parametrize("form", [CALL, ARRAY])
def test_an_error_is_one_well_formed_end(form: Call) -> None:
    writer = GeminiStreamWriter(form)
    error = RateLimited("Too fast.", hint="Wait.", retry_after_s=2)
    out = writer.send([TextDelta("a"), ToolUseStarted(0, "c", "f"), Failed(error), Ended()])
    read = decode(out) if form is ARRAY else chunks(out)
    assert len(read) == 2
    assert next(iter(read[1])) == "error"
    assert (read[1]["error"]["code"], read[1]["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert writer.send([Ended()]) == b""


def test_an_array_is_whole_json() -> None:
    assert GeminiStreamWriter(ARRAY).send([Ended()]) == b"[]"
    assert GeminiStreamWriter(CALL).send([Ended()]) == b""
    writer = GeminiStreamWriter(ARRAY)
    out = writer.send([TextDelta("a")]) + writer.send([TextDelta("b")]) + writer.send([Finished("stop"), Ended()])
    assert len(decode(out)) == 3


def test_a_refused_prompt_is_told_without_candidates() -> None:
    writer = GeminiStreamWriter(CALL)
    feedback = ForeignDelta("generate", "promptFeedback", b'{"blockReason":"SAFETY"}')
    assert chunks(writer.send([Started("r", "m"), feedback, Finished("content_filter", "SAFETY"), Ended()])) == [
        {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": "m", "responseId": "r"}
    ]


def test_sound_keeps_its_kind() -> None:
    writer = GeminiStreamWriter(CALL)
    kind = ForeignDelta("generate", "inlineData.mimeType", b'"audio/L16;rate=24000"')
    out = chunks(writer.send([kind, AudioDelta("aGk=")]) + writer.send([AudioDelta("aGk=")]))
    parts = [one["candidates"][0]["content"]["parts"][0] for one in out]  # type: ignore[index]
    assert parts == [{"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "aGk="}}] * 2


def test_line_ends_within_members_end_no_event() -> None:
    writer = GeminiStreamWriter(CALL)
    out = writer.send([ForeignDelta("generate", "safetyRatings", b"[\r\n1\n]"), Finished("stop"), Ended()])
    assert chunks(out)[0]["candidates"][0]["safetyRatings"] == [1]  # type: ignore[index]


def test_a_tier_that_only_the_last_chunk_tells_is_told_with_the_count() -> None:
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5, "trafficType": "ON_DEMAND_FLEX"}
    events, _ = feed([chunk({"text": "Hi"}), chunk(finish="STOP", usageMetadata=usage)])
    assert UsageReported(Usage(3, 2), "flex") in events
    assert fold(events).service_tier == "flex"
    again, _ = feed([GeminiStreamWriter(CALL).send(events)])
    assert UsageReported(Usage(3, 2), "flex") in again

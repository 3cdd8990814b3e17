"""Whole replies: the same again after writing, in Google's own types; every kind of part and of ending."""

from random import Random

import pytest
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.json import decode, encode

from penstock.call import Audio, Citation, File, Foreign, Image, Reasoning, Refusal, Text, ToolUse
from penstock.errors import UpstreamAuth, UpstreamGarbled
from penstock.reply import (
    AudioDelta,
    Choice,
    Cited,
    Ended,
    Failed,
    Finished,
    ForeignDelta,
    PartAdded,
    ReasoningDelta,
    Reply,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    fold,
)
from penstock.wire.gemini_members import write_signature
from penstock.wire.gemini_reply import native_finish, read_reply, write_reply
from wire.generated import Can, any_reply

SEEDS = st.integers(0, 2**64)
USAGE = frozenset(
    {
        "input_tokens",
        "output_tokens",
        "cached_input_tokens",
        "reasoning_tokens",
        "audio_input_tokens",
        "audio_output_tokens",
    }
)
CAN = Can(
    dialect="generate",
    refusal=False,
    empty_text=False,
    signers=("google", "anthropic", "openai"),
    tool_signers=("", "google", "anthropic"),
    caches=(),
    citations=(
        Citation("https://example.com", "T", None, 3, 9, dialect="generate", native=b'{"startIndex":3,"endIndex":9,"uri":"https://example.com","title":"T"}'),
    ),
    created=False,
    fingerprint=False,
    service_tiers=("default", "flex", "priority"),
    reply_audio=False,
    reply_images=("data",),
    raw_arguments=False,
    reply_custom_tools=False,
    foreign_reply=(Foreign("generate", "executableCode", b'{"executableCode":{"language":"PYTHON","code":"1"}}'),),
    foreign_deltas=(("avgLogprobs", b"-0.5"), ("safetyRatings", b'[{"blocked":true}]'), ("futureMember", b"1")),
    endings=(("stop", "STOP"), ("length", "MAX_TOKENS"), ("content_filter", "SAFETY"), ("error", "MALFORMED_FUNCTION_CALL")),
    refusal_logprobs=False,
    token_bytes=False,
    usage=USAGE,
)  # fmt: skip


def any_own_reply(seed: int, *, streamed: bool = False) -> Reply:
    """A reply as the reader of this dialect gives it: STOP after a call of a function is `tool_calls`."""
    rng = Random(seed)
    drawn = any_reply(rng, structs.replace(CAN, interleaved=rng.random() < 0.5), streamed=streamed)
    choices = []
    for choice in drawn.choices:
        called = any(isinstance(part, ToolUse) for part in choice.parts) and choice.native_finish == "STOP"
        texts = [part for part in choice.parts if isinstance(part, Text)]
        kept = tuple(
            structs.replace(part, citations=()) if isinstance(part, Text) and part is not texts[-1] else part
            for part in choice.parts
        )
        kept = tuple(
            structs.replace(part, redacted=False)
            if isinstance(part, Reasoning) and part.signer == "google"  # Google redacts nothing
            else part
            for part in kept
        )
        choices.append(structs.replace(choice, parts=kept, finish="tool_calls" if called else choice.finish))
    return structs.replace(drawn, choices=tuple(choices))


def is_read_the_same(seed: int) -> None:
    reply = any_own_reply(seed)
    assert fold(read_reply(write_reply(reply))) == reply


@settings(max_examples=1_500, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_the_same(seed: int) -> None:
    is_read_the_same(seed)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_the_same_in_many_cases(seed: int) -> None:
    is_read_the_same(seed)


@settings(max_examples=300, deadline=None)
@given(seed=SEEDS)
def test_googles_own_types_take_what_is_written(seed: int) -> None:
    written = decode(write_reply(any_own_reply(seed)))
    for candidate in written["candidates"]:
        candidate.pop("futureMember", None)
    types.GenerateContentResponse.model_validate(written)


def reply(*parts: object, **members: object) -> bytes:
    candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", **members}
    return encode({"candidates": [candidate], "responseId": "r", "modelVersion": "m"})


def test_every_kind_of_part_is_read() -> None:
    parts = [
        {"text": "a", "thought": True},
        {"text": "b", "thoughtSignature": "c2ln"},
        {"text": "", "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "f", "args": None}},
        {"fileData": {"fileUri": "https://example.com/a.png", "mimeType": "image/png"}},
        {"inlineData": {"mimeType": "video/mp4", "data": "aGk"}},
        {"thoughtSignature": "c2ln"},
    ]
    events = read_reply(reply(*parts))
    use = events[5]
    assert isinstance(use, ToolUseStarted)
    assert events == (
        Started("r", "m"),
        ReasoningDelta("a"),
        TextDelta("b"),
        ReasoningDelta("", "c2ln", signer="google"),
        ReasoningDelta("", "c2ln", signer="google"),
        ToolUseStarted(0, use.id, "f"),
        ToolUseDelta(0, "{}"),
        PartAdded(Image(url="https://example.com/a.png", media_type="image/png")),
        PartAdded(File(data="aGk=", media_type="video/mp4")),
        ReasoningDelta("", "c2ln", signer="google"),
        Finished("tool_calls", "STOP"),
        Ended(),
    )


def test_calls_without_an_id_get_one_that_stays() -> None:
    body = reply({"functionCall": {"name": "f"}}, {"functionCall": {"name": "f"}})
    first, second = (part.id for part in fold(read_reply(body)).choices[0].parts if isinstance(part, ToolUse))
    assert first != second
    assert read_reply(body) == read_reply(body)


def test_an_empty_answer_is_a_text() -> None:
    assert fold(read_reply(reply({"text": ""}))).choices[0].parts == (Text(""),)
    assert fold(read_reply(reply({"text": ""}, index=0))).choices[0].parts == (Text(""),)
    assert fold(read_reply(reply())).choices[0].parts == ()


def test_what_is_no_answer_is_refused() -> None:
    for body in (
        b"",
        b"[]",
        b"{}",
        b'{"candidates":[]}',
        b'{"candidates":[{"content":{"parts":[{"text":1}]}}]}',
        b'{"x":"\xff"}',
    ):
        with pytest.raises(UpstreamGarbled):
            read_reply(body)
    events = read_reply(b'{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}')
    assert events[-2:] == (Finished("other"), Ended())
    failed = read_reply(b'{"error":{"code":401,"message":"no","status":"UNAUTHENTICATED"}}')[0]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, UpstreamAuth)


def test_times_that_are_none_cost_nothing() -> None:
    for time, created in (("2026-11-20T10:11:12Z", 1_795_169_472), ("soon", None)):
        started = read_reply(b'{"createTime":"%b","candidates":[{"finishReason":"STOP"}]}' % time.encode())[0]
        assert isinstance(started, Started)
        assert (started.created, started.extra) == (created, (("createTime", encode(time)),))


def test_what_other_dialects_answer_is_written() -> None:
    choice = Choice(
        (
            Reasoning("Hm.", "c2ln", signer="anthropic"),
            Reasoning("", "b3BhcXVl", redacted=True, signer="anthropic"),
            Reasoning("Unsigned."),
            Refusal("No."),
            Text("Yes.", (), (Citation("https://example.com", "T", "quoted", 0, 4, dialect="messages", native=b"{}"),)),
            ToolUse("c1", "f", "not json", signature="c2ln", signer="openai"),
            ToolUse("c2", "f", ""),
            ToolUse("", "run", "ls", "custom"),
            Image(file_id="file-1"),
            Image(data="aGk="),
            File("a.pdf", "aGk="),
            File(data="aGk="),
            Audio("aGk=", "wav"),
            Audio(id="audio_1"),
            Foreign("messages", "server_tool_use", b"{}"),
        ),
        "tool_calls",
        "tool_use",
        foreign=(ForeignDelta("chat", "annotations", b"[]"),),
    )
    written = decode(write_reply(Reply("r", "m", choices=(choice,), extra=(("responseId", b"1"), ("x", b"1")))))
    assert (written["responseId"], written["x"], "usageMetadata" in written) == ("r", 1, False)
    candidate = written["candidates"][0]
    parts = candidate["content"]["parts"]
    assert candidate["finishReason"] == "STOP"
    assert candidate["citationMetadata"] == {
        "citations": [{"startIndex": 0, "endIndex": 4, "uri": "https://example.com", "title": "T"}]
    }
    assert parts == [
        {"text": "Hm.", "thought": True, "thoughtSignature": write_signature("c2ln", "anthropic")},
        {"text": "", "thoughtSignature": write_signature("b3BhcXVl", "anthropic")},
        {"text": "Unsigned.", "thought": True},
        {"text": "No."},
        {"text": "Yes."},
        {
            "functionCall": {"id": "c1", "name": "f", "args": {"input": "not json"}},
            "thoughtSignature": write_signature("c2ln", "openai"),
        },
        {"functionCall": {"id": "c2", "name": "f", "args": {}}},
        {"functionCall": {"name": "run", "args": {"input": "ls"}}},
        {"fileData": {"fileUri": "file-1"}},
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "aGk="}},
        {"inlineData": {"mimeType": "application/octet-stream", "data": "aGk="}},
        {"inlineData": {"mimeType": "audio/wav", "data": "aGk="}},
    ]
    types.Candidate.model_validate(candidate)


@pytest.mark.parametrize(
    ("reason", "native", "word"),
    [
        ("stop", "end_turn", "STOP"),
        ("length", "max_tokens", "MAX_TOKENS"),
        ("refusal", "refusal", "SAFETY"),
        ("pause", "pause_turn", "OTHER"),
        ("content_filter", "RECITATION", "RECITATION"),
        ("other", "QUITE_NEW", "QUITE_NEW"),
        ("other", "", "OTHER"),
        ("error", "error", "OTHER"),
    ],
)
def test_why_it_ended_is_said_in_geminis_words(reason: str, native: str, word: str) -> None:
    assert native_finish(reason, native) == word  # type: ignore[arg-type]


@pytest.mark.parametrize("word", list(types.FinishReason.__members__))
def test_every_word_of_google_is_known(word: str) -> None:
    finished = read_reply(b'{"candidates":[{"finishReason":"%b"}]}' % word.encode())[1]
    assert isinstance(finished, Finished)
    assert native_finish("stop", word) == word


def test_a_refused_prompt_is_a_filtered_answer() -> None:
    body = b'{"promptFeedback":{"blockReason":"SAFETY"},"responseId":"r","modelVersion":"m"}'
    events = read_reply(body)
    assert events[1:] == (
        ForeignDelta("generate", "promptFeedback", b'{"blockReason":"SAFETY"}'),
        Finished("content_filter", "SAFETY"),
        Ended(),
    )
    assert decode(write_reply(fold(events))) == decode(body)
    with pytest.raises(UpstreamGarbled):
        read_reply(b'{"promptFeedback":{"safetyRatings":[]}}')


def test_sound_keeps_its_kind() -> None:
    sound = {"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "aGk="}}
    events = read_reply(reply(sound, {"inlineData": {"mimeType": "audio/wav", "data": "aGk="}}))
    assert events[1:3] == (
        ForeignDelta("generate", "inlineData.mimeType", b'"audio/L16;rate=24000"'),
        AudioDelta("aGk="),
    )
    written = decode(write_reply(fold(read_reply(reply(sound)))))
    assert written["candidates"][0]["content"]["parts"] == [sound]


def test_sources_are_kept_whole_and_told() -> None:
    grounding = {"groundingChunks": [{"web": {"uri": "a", "title": "A"}}, {"web": {"uri": "a", "title": "A"}}]}
    events = read_reply(reply({"text": "x"}, groundingMetadata=grounding, unknown=None, urlContextMetadata={}))
    assert events[2:4] == (
        ForeignDelta("generate", "groundingMetadata", encode(grounding)),
        Cited(Citation("a", "A", dialect="generate")),
    )
    assert isinstance(events[4], Finished)
    written = decode(write_reply(fold(events)))["candidates"][0]
    assert (written["groundingMetadata"], "citationMetadata" in written) == (grounding, False)


def test_a_usage_that_cannot_be_read_costs_nothing() -> None:
    body = b'{"candidates":[{"finishReason":"STOP"}],"usageMetadata":[1,2]}'
    assert fold(read_reply(body)).usage is None


def test_a_server_of_old_may_leave_the_count_of_candidates_out() -> None:
    both = b'{"candidates":[{"finishReason":"STOP"},{"finishReason":"MAX_TOKENS"}]}'
    assert [choice.finish for choice in fold(read_reply(both)).choices] == ["stop", "length"]

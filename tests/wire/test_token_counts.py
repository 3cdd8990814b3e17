"""Counts of tokens: whatever a provider says of them, no dialect crashes, loses its answer or lets a cost turn negative."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.call import Asked
from penstock.receipt import Usage
from penstock.reply import Ended, TextDelta, UsageReported, fold
from penstock.target import Price, Rates, Target, cost
from penstock.wire.registry import dialect
from penstock.wire.token_counts import MOST_TOKENS, count, plausible

RATES = (
    Rates(10_000_000, 40_000_000, 1_000_000, 12_500_000, 20_000_000, 60_000_000, 30_000_000, 80_000_000),
    Rates(10_000_000, 40_000_000, 0, 0, 0, 0, 100_000_000, 0),
    Rates(3_000_000, 15_000_000),
)
TARGETS = tuple(
    Target("a/b", "a", "b", "chat", prices=(Price("2026-01-01", rates, image_input=into, image_output=out),))
    for rates, into, out in zip(RATES, (50_000_000, None, 3_000_000), (90_000_000, None, 15_000_000), strict=True)
)
"""Parts that cost more than plain tokens, less, nothing, and the same."""

numbers = st.integers(-5, 40) | st.sampled_from([-(2**70), MOST_TOKENS, MOST_TOKENS + 1, 2**53, 2**63, 2**64, 10**30])
anything = numbers | st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3) | st.booleans()


def members(*names: str) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, anything))


def modalities() -> st.SearchStrategy[object]:
    names = st.sampled_from(["TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT", "NEW", ""])
    return (
        st.lists(st.fixed_dictionaries({}, optional={"modality": names, "tokenCount": anything}), max_size=4) | anything
    )


CHAT_IN = members("cached_tokens", "audio_tokens", "image_tokens", "cache_write_tokens")
CHAT_OUT = members(
    "reasoning_tokens", "audio_tokens", "image_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens"
)
SAID = {
    "chat": st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"), anything),
            "prompt_tokens_details": CHAT_IN | st.none(),
            "completion_tokens_details": CHAT_OUT | st.none(),
        },
    ),
    "responses": st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), anything),
            "input_tokens_details": CHAT_IN | st.none(),
            "output_tokens_details": CHAT_OUT | st.none(),
        },
    ),
    "messages": st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("input_tokens", "output_tokens"), anything),
            **dict.fromkeys(("cache_creation_input_tokens", "cache_read_input_tokens"), anything),
            "cache_creation": members("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens") | st.none(),
            "output_tokens_details": members("thinking_tokens") | st.none(),
        },
    ),
    "generate": st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("promptTokenCount", "candidatesTokenCount", "totalTokenCount"), anything),
            **dict.fromkeys(("thoughtsTokenCount", "cachedContentTokenCount", "toolUsePromptTokenCount"), anything),
            **dict.fromkeys(
                ("promptTokensDetails", "candidatesTokensDetails", "toolUsePromptTokensDetails"), modalities()
            ),
        },
    ),
    "converse": st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("inputTokens", "outputTokens", "totalTokens"), anything),
            **dict.fromkeys(("cacheReadInputTokens", "cacheWriteInputTokens"), anything),
            "cacheDetails": st.lists(
                st.fixed_dictionaries(
                    {}, optional={"ttl": st.sampled_from(["5m", "1h", None]), "inputTokens": anything}
                ),
                max_size=3,
            )
            | st.none(),
        },
    ),
    "ollama": st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("prompt_eval_count", "eval_count"), numbers | st.none())
    ),
}
USAGE = "@usage@"
WHOLE: dict[str, object] = {
    "chat": {
        "id": "c",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": USAGE,
    },
    "responses": {
        "id": "r",
        "model": "m",
        "status": "completed",
        "output": [{"type": "message", "id": "o", "content": [{"type": "output_text", "text": "Hi"}]}],
        "usage": USAGE,
    },
    "messages": {
        "id": "msg",
        "model": "m",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "usage": USAGE,
    },
    "generate": {
        "responseId": "g",
        "modelVersion": "m",
        "candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
        "usageMetadata": USAGE,
    },
    "converse": {
        "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
        "stopReason": "end_turn",
        "usage": USAGE,
    },
    "ollama": {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": True, "done_reason": "stop"},
}


def body(name: str, usage: object) -> bytes:
    """A whole reply with this usage; Ollama's stands among its members."""
    whole = WHOLE[name]
    if name == "ollama":
        return msgspec.json.encode({**whole, **usage})  # type: ignore[dict-item]  # objects, both
    return msgspec.json.encode(whole).replace(msgspec.json.encode(USAGE), msgspec.json.encode(usage))


def check(usage: Usage) -> None:
    """What holds of every count: none below 0, no part above its whole, together neither, and none absurd."""
    values = msgspec.structs.asdict(usage)
    assert all(value >= 0 for name, value in values.items() if name != "source"), usage
    assert max(usage.input_tokens, usage.output_tokens, usage.accepted_prediction_tokens) <= 3 * MOST_TOKENS
    assert usage.cached_input_tokens + usage.cache_write_tokens + usage.cache_write_1h_tokens <= usage.input_tokens
    assert usage.audio_input_tokens + usage.image_input_tokens <= usage.input_tokens
    made = usage.reasoning_tokens + usage.audio_output_tokens + usage.image_output_tokens
    assert made <= usage.output_tokens
    for target in TARGETS:
        nano = cost(usage, target, "2026-11-22").nano_usd
        assert nano is not None
        assert 0 <= nano < 2**63


@pytest.mark.parametrize("name", SAID)
@given(st.data())
def test_whatever_is_said_of_usage_the_answer_is_read_and_costs_no_less_than_nothing(
    name: str, data: st.DataObject
) -> None:
    said = data.draw(SAID[name])
    whole = body(name, said)
    events, tapped = dialect(name).read_reply(whole), dialect(name).tap_reply(whole)
    assert any(isinstance(event, TextDelta) and event.text == "Hi" for event in events)
    assert isinstance(events[-1], Ended)
    found = [event.usage for event in events if isinstance(event, UsageReported)]
    assert found == [event.usage for event in tapped if isinstance(event, UsageReported)]
    for usage in found:
        check(usage)


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("usage", [None, [], {}, 7, "many", [1, 2]])
def test_a_usage_of_another_kind_is_none(name: str, usage: object) -> None:
    if name == "ollama":
        usage = {"prompt_eval_count": None}
    events = dialect(name).read_reply(body(name, usage))
    assert not any(isinstance(event, UsageReported) for event in events)


OWN: dict[str, tuple[object, Usage]] = {
    "chat": (
        {
            "prompt_tokens": 1000,
            "completion_tokens": 400,
            "total_tokens": 1400,
            "prompt_tokens_details": {"image_tokens": 300},
            "completion_tokens_details": {"image_tokens": 250},
        },
        Usage(1000, 400, image_input_tokens=300, image_output_tokens=250),
    ),
    "responses": (
        {
            "input_tokens": 1000,
            "output_tokens": 400,
            "input_tokens_details": {"image_tokens": 300, "audio_tokens": 20},
            "output_tokens_details": {"image_tokens": 250, "audio_tokens": 10},
        },
        Usage(1000, 400, 0, 0, 0, 0, 20, 10, image_input_tokens=300, image_output_tokens=250),
    ),
    "generate": (
        {
            "promptTokenCount": 990,
            "toolUsePromptTokenCount": 10,
            "candidatesTokenCount": 400,
            "totalTokenCount": 1400,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 600},
                {"modality": "IMAGE", "tokenCount": 258},
                {"modality": "VIDEO", "tokenCount": 30},
                {"modality": "DOCUMENT", "tokenCount": 7},
            ],
            "toolUsePromptTokensDetails": [{"modality": "IMAGE", "tokenCount": 5}],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 250}],
        },
        Usage(1000, 400, image_input_tokens=300, image_output_tokens=250),
    ),
}


ASKED: dict[str, tuple[object, Asked]] = {
    "chat": (
        {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream_options": {"include_usage": True}},
        Asked(),
    ),
    "responses": ({"model": "m", "input": "Hi"}, Asked()),
    "generate": ({"contents": [{"parts": [{"text": "Hi"}]}]}, Asked("m", form="sse")),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("stream", [False, True])
def test_tokens_of_pictures_are_read_and_written_again(name: str, stream: bool) -> None:  # noqa: FBT001 - a parameter
    said, usage = OWN[name]
    one, whole = dialect(name), body(name, said)
    for events in (one.read_reply(whole), one.tap_reply(whole)):
        assert [event.usage for event in events if isinstance(event, UsageReported)] == [usage]
    asked, how = ASKED[name]
    streamed = {"stream": stream} if how.model is None and stream else {}
    if how.model is None and not stream:
        asked = {key: value for key, value in asked.items() if key != "stream_options"}  # type: ignore[attr-defined]
    call = one.read_request(
        msgspec.json.encode({**asked, **streamed}),  # type: ignore[dict-item]  # objects, all of them
        msgspec.structs.replace(how, stream=stream) if how.model else how,
    )
    if stream:
        reader = one.stream_reader()
        events = (*reader.feed(one.stream_writer(call).send(one.read_reply(whole))), *reader.end())
    else:
        events = one.read_reply(one.write_reply(fold(one.read_reply(whole)), call))
    assert [event.usage for event in events if isinstance(event, UsageReported)][-1] == usage


@pytest.mark.parametrize(("value", "counted"), [(None, 0), (-(10**30), 0), (-1, 0), (0, 0), (7, 7)])
def test_a_count_is_never_below_zero(value: int | None, counted: int) -> None:
    assert count(value) == counted


@pytest.mark.parametrize(
    ("said", "held"),
    [
        (Usage(10, 10, 4, 3, 3, 4, 5, 3, 9, 10, "provider", 5, 3), None),
        (Usage(10, 10, 20, 5, 5), Usage(10, 10, 10)),
        (Usage(10, 10, 4, 5, 6), Usage(10, 10, 4, 0, 6)),
        (Usage(10, 10, 4, 9, 2), Usage(10, 10, 4, 4, 2)),
        (Usage(10, 10, audio_input_tokens=7, image_input_tokens=7), Usage(10, 10, 0, 0, 0, 0, 7, image_input_tokens=3)),
        (
            Usage(10, 10, 0, 0, 0, 6, 0, 6, image_output_tokens=6),
            Usage(10, 10, 0, 0, 0, 6, 0, 4),
        ),
        (Usage(1, 1, rejected_prediction_tokens=9), Usage(1, 1, rejected_prediction_tokens=1)),
        (Usage(1, 1, accepted_prediction_tokens=2**80), Usage(1, 1, accepted_prediction_tokens=MOST_TOKENS)),
        (Usage(MOST_TOKENS, MOST_TOKENS), None),
    ],
)
def test_parts_share_their_whole(said: Usage, held: Usage | None) -> None:
    assert plausible(said) == (held or said)


@pytest.mark.parametrize("said", [Usage(MOST_TOKENS + 1), Usage(0, MOST_TOKENS + 1), Usage(10**30, 10**30)])
def test_an_absurd_whole_is_no_count(said: Usage) -> None:
    assert plausible(said) is None

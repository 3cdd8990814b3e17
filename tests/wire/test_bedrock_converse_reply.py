"""Whole replies: recorded ones as events, events as what boto3 takes, and counts that add up."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.json import decode, encode

from penstock.call import Audio, Citation, File, Foreign, Image, Part, Reasoning, Refusal, Text, ToolUse
from penstock.errors import UpstreamGarbled
from penstock.receipt import Usage
from penstock.reply import Choice, Ended, Finished, ForeignDelta, Reply, Started, UsageReported, fold
from penstock.wire import bedrock_converse_reply_types as wire
from penstock.wire.bedrock_converse_content import read_parts
from penstock.wire.bedrock_converse_reply import (
    finished,
    native_finish,
    read_reply,
    read_usage,
    said_tier,
    said_usage,
    tap_reply,
    write_reply,
    write_usage,
)

GOLDEN = sorted(
    path for path in (Path(__file__).parent / "golden" / "converse").glob("*.json") if ".request." not in path.name
)
USAGE = {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}


def reply(*content: Any, stop: str = "end_turn", **members: Any) -> bytes:
    message = {"role": "assistant", "content": content}
    return encode(
        {"output": {"message": message}, "stopReason": stop, "usage": USAGE, "metrics": {"latencyMs": 9}, **members}
    )


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_recorded_replies_give_the_recorded_events(path: Path) -> None:
    events = "".join(f"{event!r}\n" for event in read_reply(path.read_bytes()))
    assert events == path.with_name(path.name + ".events").read_text()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_a_recorded_reply_is_written_as_it_was(path: Path) -> None:
    written = decode(write_reply(fold(read_reply(path.read_bytes()))))
    recorded = decode(path.read_bytes())
    blocks = recorded["output"]["message"]["content"]
    joined: list[Any] = []
    for block in blocks:  # texts that follow on each other are one
        if "text" in block and joined and "text" in joined[-1]:
            joined[-1] = {"text": joined[-1]["text"] + block["text"]}
        else:
            joined.append(block)
    recorded["output"]["message"]["content"] = joined
    assert written == recorded


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_the_meter_taps_the_same_start_end_and_count(path: Path) -> None:
    body = path.read_bytes()
    tapped = tap_reply(body)
    kinds = (Started, Finished, UsageReported, Ended)
    assert tapped == tuple(event for event in read_reply(body) if isinstance(event, kinds))


def test_a_reply_in_events() -> None:
    body = reply({"text": "Hi"}, serviceTier={"type": "flex"})
    folded = fold(read_reply(body))
    assert folded.choices == (
        Choice((Text("Hi"),), "stop", "end_turn", foreign=(ForeignDelta("converse", "metrics", b'{"latencyMs":9}'),)),
    )
    assert (folded.usage, folded.service_tier, folded.ended) == (Usage(5, 2), "flex", True)
    assert tap_reply(body)[0] == Started(service_tier="flex")


def test_sources_stand_where_their_text_stands() -> None:
    cited = {"citationsContent": {"content": [{"text": "b"}], "citations": [{"title": "T"}]}}
    thought = {"reasoningContent": {"reasoningText": {"text": "h"}}}
    (choice,) = fold(read_reply(reply({"text": "aa"}, cited, {"text": "c"}, thought, cited))).choices
    assert [part.text for part in choice.parts if isinstance(part, Text)] == ["aabc", "b"]
    places = [(c.start, c.end) for part in choice.parts if isinstance(part, Text) for c in part.citations]
    assert places == [(2, 3), (0, 1)]
    written = decode(write_reply(Reply(choices=(choice,))))["output"]["message"]["content"]
    assert written == [{"text": "aa"}, cited, {"text": "c"}, thought, cited]


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"{}",
            b"[]",
            b"null",
            b'{"output":{}}',
            b'{"output":{"message":{"content":7}}}',
            b"\xff",
            b"[" * 99_999,
        ),
        reply().replace(b"end_turn", b"\xff"),
        b'{"output":{"message":{"content":[{"x":' + b'{"a":' * 5000,
    ],
)
def test_what_is_no_reply_is_garbled(body: bytes) -> None:
    for read in (read_reply, tap_reply):
        with pytest.raises(UpstreamGarbled, match="Converse"):
            read(body)


@pytest.mark.parametrize("block", [{"toolUse": {"name": "f"}}, {"text": 7}, {"image": []}])
def test_blocks_are_looked_at_only_where_their_meaning_is_wanted(block: Any) -> None:
    assert tap_reply(reply(block))[-1] == Ended()
    with pytest.raises(UpstreamGarbled):
        read_reply(reply(block))


def test_a_reply_without_a_count_has_none() -> None:
    assert read_reply(b'{"output":{"message":{"content":[]}}}') == (Started(), Finished("other"), Ended())
    assert tap_reply(reply(usage={}))[-2:] == (Finished("stop", "end_turn"), Ended())


# -- counts --


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"inputTokens": 10, "outputTokens": 2}, Usage(10, 2)),
        ({"inputTokens": 10, "outputTokens": 2, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 30}, Usage(140, 2, 100, 30)),
        (
            {"inputTokens": 1, "outputTokens": 2, "cacheWriteInputTokens": 30, "cacheDetails": [{"ttl": "1h", "inputTokens": 20}, {"ttl": "5m", "inputTokens": 10}]},
            Usage(31, 2, 0, 10, 20),
        ),
        ({"inputTokens": 1, "outputTokens": 2, "cacheWriteInputTokens": 5, "cacheDetails": [{"ttl": "1h", "inputTokens": 20}]}, Usage(6, 2, 0, 0, 5)),
        ({"inputTokens": -1, "outputTokens": 2, "cacheReadInputTokens": -5}, Usage(0, 2)),
        ({"outputTokens": 2}, Usage(0, 2)),
        ({}, None),
    ],
)  # fmt: skip
def test_what_was_cached_is_among_the_input_tokens(said: dict[str, Any], meant: Usage | None) -> None:
    assert read_usage(decode(encode(said), type=wire.TokenUsage)) == meant


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_a_count_that_is_written_reads_back_the_same(plain: int, out: int, cached: int, short: int, hour: int) -> None:
    usage = Usage(plain + cached + short + hour, out, cached, short, hour)
    written = write_usage(usage)
    assert read_usage(decode(encode(written), type=wire.TokenUsage)) == usage
    assert written["totalTokens"] == usage.input_tokens + out


def test_no_count_is_negative() -> None:
    assert write_usage(Usage(5, 1, 9))["inputTokens"] == 0
    assert read_usage(None) is None


# -- ends --


@pytest.mark.parametrize(
    ("reason", "native", "word"),
    [
        ("stop", "stop", "end_turn"),
        ("stop", "stop_sequence", "stop_sequence"),
        ("length", "length", "max_tokens"),
        ("tool_calls", "tool_calls", "tool_use"),
        ("content_filter", "SAFETY", "content_filtered"),
        ("refusal", "refusal", "content_filtered"),
        ("pause", "pause_turn", "end_turn"),
        ("error", "", "malformed_model_output"),
        ("other", "", "end_turn"),
    ],
)
def test_why_an_answer_ended_is_said_in_the_apis_words(reason: Any, native: str, word: str) -> None:
    assert native_finish(reason, native) == word


def test_words_of_models_behind_the_api_are_known() -> None:
    assert finished("refusal") == Finished("refusal", "refusal")
    assert finished("pause_turn") == Finished("pause", "pause_turn")
    assert finished("newest") == Finished("other", "newest")


# -- writing --


@pytest.mark.parametrize(
    ("part", "blocks"),
    [
        (Text(""), [{"text": ""}]),
        (Text("a", (), (Citation("u", "T"),)), [{"citationsContent": {"content": [{"text": "a"}], "citations": [{"title": "T", "location": {"web": {"url": "u"}}}]}}]),
        (Reasoning("h"), [{"reasoningContent": {"reasoningText": {"text": "h"}}}]),
        (Reasoning("h", "s", signer="openai"), [{"reasoningContent": {"reasoningText": {"text": "h", "signature": "penstock.openai.s"}}}]),
        (Reasoning("", "YQ==", redacted=True, signer="anthropic"), [{"reasoningContent": {"redactedContent": "YQ=="}}]),
        (Refusal("no"), [{"text": "no"}]),
        (ToolUse("t", "a.b", ""), [{"toolUse": {"toolUseId": "t", "name": "a.b", "input": {}}}]),
        (ToolUse("t", "f", '{"cut":'), [{"toolUse": {"toolUseId": "t", "name": "f", "input": {"input": '{"cut":'}}}]),
        (Audio("YQ==", transcript="said"), [{"text": "said"}, {"audio": {"format": "wav", "source": {"bytes": "YQ=="}}}]),
        (Audio(id="a"), []),
        (Image(data="YQ==", media_type="image/png"), [{"image": {"format": "png", "source": {"bytes": "YQ=="}}}]),
        (Image(url="https://example.com/a.png"), []),
        (File("n", "YQ==", "application/pdf"), [{"document": {"name": "n", "source": {"bytes": "YQ=="}, "format": "pdf"}}]),
        (Foreign("messages", "x", b"{}"), []),
    ],
)  # fmt: skip
def test_parts_of_an_answer_of_any_model(part: Part, blocks: list[Any]) -> None:
    body = decode(write_reply(Reply(choices=(Choice((part,)),))))
    assert body["output"]["message"] == {"role": "assistant", "content": blocks}


def test_the_signature_of_a_tool_call_comes_back_from_a_client_that_repeats_the_answer() -> None:
    use = ToolUse("call/1", "f", '{"a":1}', signature="c2ln" * 99, signer="google")
    body = write_reply(Reply(choices=(Choice((use,)),)))
    blocks = decode(body, type=wire.WholeReply).output.message.content
    (again,) = read_parts(blocks)
    assert isinstance(again, ToolUse)
    assert (again.signature, again.signer, again.arguments) == (use.signature, "google", use.arguments)


def test_a_reply_of_nothing_has_all_that_the_model_requires() -> None:
    assert decode(write_reply(Reply())) == {
        "output": {"message": {"role": "assistant", "content": []}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0},
        "metrics": {"latencyMs": 0},
    }


def test_members_of_this_api_are_passed_on_and_those_of_others_are_not() -> None:
    foreign = (ForeignDelta("converse", "trace", b'{"x":1}'), ForeignDelta("chat", "annotations", b"[]"))
    body = decode(write_reply(Reply(choices=(Choice(foreign=foreign),), service_tier="flex")))
    assert body["trace"] == {"x": 1}
    assert body["serviceTier"] == {"type": "flex"}
    assert "annotations" not in body


@pytest.mark.parametrize("json", [b"", b"null", b"[]", b"7", b'"x"', b"{", b'{"type":7}', b"[" * 9999])
def test_a_strange_count_or_tier_is_none(json: bytes) -> None:
    assert said_usage(Raw(json)) is None
    assert said_tier(Raw(json)) is None


def test_a_count_that_cannot_be_true_costs_no_answer() -> None:
    assert said_tier(Raw(b'{"type":"flex"}')) == "flex"
    for usage in ({"inputTokens": 10**12, "outputTokens": 1}, {"inputTokens": "x"}, {"cacheDetails": 7}):
        for read in (read_reply, tap_reply):
            assert not any(isinstance(event, UsageReported) for event in read(reply(usage=usage)))
    odd = {"inputTokens": 1, "outputTokens": 1, "cacheDetails": [{"ttl": None, "inputTokens": None}]}
    assert said_usage(Raw(encode(odd))) == Usage(1, 1)

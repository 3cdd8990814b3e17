"""Counting texts and calls: against OpenAI's published examples where there are some, and as properties elsewhere."""

import base64
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.call import (
    Audio,
    Call,
    Content,
    Embed,
    File,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    Refusal,
    Sampling,
    Text,
    Tool,
    ToolResult,
    ToolUse,
)
from penstock.target import Profile
from penstock.tokens import count
from penstock.tokens.count import NONE, Buckets, Count, count_call, count_text, tokens, total
from penstock.tokens.rules import FAMILIES
from tokens.texts import fuzz_text

GPT_4O = Profile(family="gpt-4o", tokenizer="o200k")
GPT_4 = Profile(family="gpt-4", tokenizer="cl100k")
LLAMA = Profile(family="llama3", tokenizer="llama3")
CLAUDE, CLAUDE_NEW = Profile(family="claude"), Profile(family="claude-4.7")
NOBODY = Profile()
PROFILES = (GPT_4O, GPT_4, LLAMA, CLAUDE, CLAUDE_NEW, NOBODY, *(Profile(family=family) for family in FAMILIES))

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def call(*messages: Message, **content: Any) -> Call:
    return Call("", "m", Sampling(), lambda: Content(messages, **content))


def said(role: Any, text: str, name: str | None = None) -> Message:
    return Message(role, (Text(text),), name)


def part(*parts: Any, profile: Profile = GPT_4O) -> Buckets:
    """The buckets of a call whose only message holds these parts."""
    return count_call(call(Message("user", parts)), profile).buckets


# -- texts --


def test_a_text_is_counted_exactly_with_the_models_own_vocabulary():
    assert count_text("hello world", GPT_4O) == Count(2, "exact", (2, 2))


def test_no_text_has_no_tokens_and_that_is_certain():
    assert count_text("", CLAUDE) == NONE


@pytest.mark.parametrize(("profile", "factor"), [(CLAUDE, 1.18), (CLAUDE_NEW, 1.53)])
def test_claude_is_estimated_from_o200k_by_its_factor(profile, factor):
    text = "The quick brown fox jumps over the lazy dog. " * 50
    raw, count = count_text(text, GPT_4O).n, count_text(text, profile)
    assert count.certainty == "estimated"
    assert count.n == pytest.approx(raw * factor, abs=1)
    assert count.band[0] < count.n < count.band[1]


def test_a_model_that_nobody_knows_has_a_wide_band():
    text = "Nobody knows what this model makes of it. " * 20
    count, raw = count_text(text, NOBODY), count_text(text, GPT_4O).n
    assert count.certainty == "estimated"
    assert count.band[0] <= raw * 0.6
    assert count.band[1] >= raw * 2


def test_a_vocabulary_that_is_not_there_makes_an_estimate_rather_than_an_error():
    assert count_text("hello", Profile(tokenizer="no such vocabulary")).certainty == "estimated"


def test_a_long_run_is_an_estimate_and_says_how_far_it_may_be_off():
    count = count_text("a" * 100_000, GPT_4O)
    assert count.certainty == "estimated"
    assert count.band[0] < count.n < count.band[1]


def test_a_long_prose_is_exact_although_it_is_counted_in_slices():
    assert count_text("The quick brown fox. " * 10_000, GPT_4O).certainty == "exact"


def test_the_tokens_of_a_text_can_be_shown():
    assert [piece.text for piece in tokens("hello world", GPT_4O)] == [b"hello", b" world"]
    assert [piece.text for piece in tokens("hello world", CLAUDE)] == [b"hello", b" world"]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_text_has_a_count_in_its_band(profile):
    rng = Random(11)
    for _ in range(50):
        count = count_text(fuzz_text(rng), profile)
        assert 0 <= count.band[0] <= count.n <= count.band[1]
        assert count.n > 0


# -- calls: the examples of the OpenAI Cookbook, "How to count tokens with tiktoken" --

JARGON = (
    said(
        "system", "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."
    ),
    said("system", "New synergies will help drive top-line growth.", "example_user"),
    said("system", "Things working well together will increase revenue.", "example_assistant"),
    said(
        "system",
        "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
        "example_user",
    ),
    said("system", "Let's talk later when we're less busy about how to do better.", "example_assistant"),
    said("user", "This late pivot means we don't have time to boil the ocean for the client deliverable."),
)
WEATHER = Tool(
    "get_current_weather",
    "Get the current weather in a given location",
    msgspec.json.encode(
        {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
                "unit": {
                    "type": "string",
                    "description": "The unit of temperature to return",
                    "enum": ["celsius", "fahrenheit"],
                },
            },
            "required": ["location"],
        }
    ),
)
ASKED = (
    said("system", "You are a helpful assistant that can answer to questions about the weather."),
    said("user", "What's the weather like in San Francisco?"),
)


@pytest.mark.parametrize(
    ("profile", "expected"), [(GPT_4O, 124), (GPT_4, 129), (Profile(family="gpt-3.5", tokenizer="cl100k"), 129)]
)
def test_a_plain_chat_is_counted_as_openai_bills_it(profile, expected):
    count = count_call(call(*JARGON), profile)
    assert (count.n, count.certainty, count.band) == (expected, "exact", (expected, expected))


@pytest.mark.parametrize(("profile", "expected"), [(GPT_4O, 101), (GPT_4, 105)])
def test_tools_are_counted_as_openai_bills_them_and_called_an_estimate(profile, expected):
    count = count_call(call(*ASKED, tools=(WEATHER,)), profile)
    assert (count.n, count.certainty) == (expected, "estimated")
    assert count.band[0] < expected < count.band[1]


# -- calls: buckets --


def test_the_buckets_hold_the_system_text_the_history_and_the_last_user_turn():
    buckets = count_call(
        call(
            said("system", "one"),
            said("user", "one two"),
            said("assistant", "one two three"),
            said("user", "one two three four"),
        ),
        GPT_4O,
    ).buckets
    assert (buckets.system.n, buckets.history.n, buckets.user.n, buckets.overhead.n) == (1, 5, 4, 19)


def test_what_follows_the_last_user_turn_is_history():
    buckets = count_call(call(said("user", "go on"), said("assistant", "one two three")), GPT_4O).buckets
    assert (buckets.user.n, buckets.history.n) == (2, 3)


def test_a_call_without_a_user_has_an_empty_bucket():
    assert count_call(call(said("developer", "one")), GPT_4O).buckets.user == NONE


def test_a_message_counts_with_its_role_and_its_name():
    count = count_call(call(said("user", "hello", name="Ada")), GPT_4O)
    assert count.messages == (Count(1 + 4 + 1 + count_text("Ada", GPT_4O).n, "exact", (7, 7)),)
    assert count.n == 7 + 3


def test_roles_may_be_framed_differently():
    mistral = Profile(family="mistral", tokenizer="mistral_v3")
    user, assistant = (count_call(call(said(role, "x")), mistral).buckets.overhead.n for role in ("user", "assistant"))
    assert (user, assistant) == (3, 2)


@pytest.mark.parametrize(
    "message",
    [
        Message("user", (Text("a"), Text("b"))),
        Message("developer", (Text("a"),)),
        Message("assistant", (ToolUse("1", "f", "{}"),)),
    ],
)
def test_a_message_that_the_published_rule_says_nothing_about_is_an_estimate(message):
    assert count_call(call(message), GPT_4O).certainty == "estimated"


def test_a_frame_that_is_not_the_providers_own_makes_the_call_an_estimate():
    count = count_call(call(said("user", "hello")), LLAMA)
    assert count.certainty == "estimated"
    assert count.buckets.user.certainty == "exact"


# -- calls: parts --


def test_a_picture_counts_in_its_own_bucket():
    assert part(Image(data=PIXEL, media_type="image/png")).images.n == 85 + 170
    assert part(Image(url=f"data:image/png;base64,{PIXEL}")).images.n == 85 + 170
    far = part(Image(url="https://example.com/cat.png")).images
    assert far.band[0] == 85
    assert far.band[1] > 1_000


def test_what_a_tool_answered_counts_with_the_pictures_in_it():
    buckets = part(ToolResult("1", (Text("hello world"), Image(data=PIXEL))))
    assert (buckets.user.n, buckets.images.n) == (2, 255)


def test_the_use_of_a_tool_counts_its_name_and_its_arguments():
    assert part(ToolUse("1", "get_weather", '{"city":"Rome"}')).user.n > count_text("get_weather", GPT_4O).n + 4


def test_earlier_thinking_may_be_dropped_so_its_band_begins_at_nothing():
    count = part(Reasoning("I think so.", signature="c2lnbmVk" * 40)).user
    assert count.band[0] == 0
    assert count.band[1] > 100


def test_a_refusal_is_text():
    assert part(Refusal("hello world")).user == Count(2, "exact", (2, 2))


def test_a_foreign_part_is_counted_loosely_by_its_text():
    count = part(Foreign("chat", "search", b'{"q":"\xffhello"}')).user
    assert count.band[0] == 0 < count.n < count.band[1]


@pytest.mark.parametrize("media_type", ["text/plain", "application/json"])
def test_a_document_of_text_is_counted_as_text(media_type):
    data = base64.b64encode(b"hello world").decode()
    assert part(File(data=data, media_type=media_type)).files.n == 2


def test_other_documents_are_guessed_by_their_size():
    pdf = base64.b64encode(bytes(75_000)).decode()
    count = part(File(data=pdf, media_type="application/pdf")).files
    assert 1_500 < count.n < 3_000 < count.band[1]
    assert part(File(data="abcde", media_type="text/plain")).files.certainty == "estimated"
    assert part(File(file_id="file-1")).files.band == (0, 100_000)


def test_sound_is_guessed_by_its_size_and_an_earlier_answer_by_its_transcript():
    minute_of_mp3 = base64.b64encode(bytes(16_000 * 60)).decode()
    count = part(Audio(data=minute_of_mp3, format="mp3")).files
    assert count.band[0] < 600 < count.n < 1_920 < count.band[1]
    assert part(Audio(id="audio_1", transcript="hello world")).files.n == 2
    assert part(Audio(id="audio_1")).files.n == 0


# -- calls: tools --


def tool(parameters: Any, **more: Any) -> Tool:
    return Tool(
        "f", parameters=parameters if isinstance(parameters, bytes) else msgspec.json.encode(parameters), **more
    )


def tools(*defined: Any, profile: Profile = GPT_4O) -> Count:
    return count_call(call(said("user", "x"), tools=defined), profile).buckets.tools


def test_properties_inside_properties_and_lists_are_counted():
    flat = {"properties": {"a": {"type": "string"}}}
    assert tools(tool({"properties": {"a": {"type": "object", **flat}}})).n > tools(tool(flat)).n
    assert tools(tool({"properties": {"a": {"type": "array", "items": flat}}})).n > tools(tool(flat)).n


@pytest.mark.parametrize(
    "parameters",
    [
        b"not json",
        b"[1]",
        b"{}",
        b'{"properties":[]}',
        b'{"properties":{"a":1,"b":{"enum":"x"},"c":{"enum":[]},"d":{"items":[1]},"e":{"type":["x",null],"description":7}}}',
        b'{"properties":{"a":' * 400 + b"{}" + b"}}" * 400,
        b"[" * 100_000,
    ],
)
def test_any_schema_has_a_count(parameters):
    for profile in (GPT_4O, CLAUDE):
        assert tools(tool(parameters), profile=profile).certainty == "estimated"


def test_a_tool_that_the_provider_hosts_may_bring_long_instructions():
    assert tools(Foreign("responses", "web_search", b'{"type":"web_search"}')).band[1] > 1_000


def test_claude_is_told_how_to_use_tools():
    assert tools(WEATHER, profile=CLAUDE).n > 346 + 40


def test_the_schema_of_the_answer_counts_among_the_tools():
    output = OutputFormat("json_schema", schema=b'{"type":"object","properties":{"city":{"type":"string"}}}')
    count = count_call(call(said("user", "x"), output=output), GPT_4O)
    assert count.buckets.tools.n > 10
    assert count.certainty == "estimated"
    assert count_call(call(said("user", "x"), output=OutputFormat("json")), GPT_4O).certainty == "exact"


# -- sums --

words = st.text(max_size=30)
parts = st.one_of(
    words.map(Text),
    words.map(Refusal),
    words.map(Reasoning),
    st.builds(ToolUse, id=words, name=words, arguments=words),
    st.builds(
        Image, data=st.none() | words, url=st.none() | words, detail=st.sampled_from([None, "low", "high", "odd"])
    ),
    st.builds(File, data=st.none() | words, media_type=st.none() | st.just("text/plain")),
    st.builds(Audio, data=st.none() | words, transcript=st.none() | words),
    st.builds(Foreign, dialect=words, kind=words, json=st.binary(max_size=20)),
    st.builds(ToolResult, id=words, parts=st.lists(words.map(Text), max_size=3).map(tuple)),
)
messages = st.builds(
    Message,
    role=st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
    parts=st.lists(parts, max_size=3).map(tuple),
    name=st.none() | words,
)


@settings(deadline=None)  # a vocabulary that an example is the first to need is loaded in it
@given(st.lists(messages, max_size=4), st.sampled_from(PROFILES), st.booleans())
def test_the_buckets_add_up_to_the_call_and_every_band_holds_its_number(said, profile, with_tool):
    count = count_call(call(*said, tools=(WEATHER,) if with_tool else ()), profile)
    buckets = [getattr(count.buckets, name) for name in Buckets.__struct_fields__]
    assert total(buckets) == Count(count.n, count.certainty, count.band)
    assert len(count.messages) == len(said)
    assert sum(message.n for message in count.messages) <= count.n
    for one in (count, *buckets, *count.messages):
        assert 0 <= one.band[0] <= one.n <= one.band[1]
        if one.certainty == "exact":
            assert one.band == (one.n, one.n)


def test_a_sum_is_as_sure_as_its_least_sure_part():
    exact, given_by, estimate = Count(1, "exact", (1, 1)), Count(2, "provider", (2, 2)), Count(3, "estimated", (1, 9))
    assert total(()) == NONE
    assert total((exact, exact)) == Count(2, "exact", (2, 2))
    assert total((exact, given_by, exact)) == Count(4, "provider", (4, 4))
    assert total((estimate, exact, given_by)) == Count(6, "estimated", (4, 12))


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (Count(10, "exact", (10, 10)), "exact"),
        (Count(10, "provider", (10, 10)), "counted by the provider"),
        (Count(100, "estimated", (88, 105)), "estimated, +-12 %"),
        (Count(100, "estimated", (99, 121), 57), "estimated, +-21 %, from 57 calls"),
        (Count(100, "estimated", (99, 101), 1), "estimated, +-1 %, from 1 call"),
        (Count(0, "estimated", (0, 9)), "estimated, +-0 %"),
    ],
)
def test_a_count_says_how_sure_it_is(count, said):
    assert count.told() == said


def test_what_is_to_be_embedded_is_counted_and_ids_count_themselves():
    embed = Call("", "m", Sampling(), lambda: Content((), embed=Embed(("hello world", (1, 2, 3)))))
    count = count_call(embed, GPT_4O)
    assert (count.n, count.certainty, [one.n for one in count.messages]) == (5, "exact", [2, 3])


def test_it_is_told_whether_the_vocabulary_of_a_model_is_loaded(monkeypatch):
    loaded = {"o200k"}
    monkeypatch.setattr(count, "is_loaded", loaded.__contains__)
    assert count.is_ready(Profile(tokenizer="o200k"))
    assert not count.is_ready(Profile(tokenizer="llama3"))
    assert count.is_ready(Profile()) == ("o200k" in loaded)
    assert count.is_ready(Profile(tokenizer="/nowhere/tokenizer.json"))
    loaded.clear()
    assert not count.is_ready(Profile())

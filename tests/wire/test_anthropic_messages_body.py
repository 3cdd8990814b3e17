"""Bodies written: round trips, what is left out and named, what each Claude takes, and the client's own bytes edited."""

from itertools import pairwise
from random import Random
from typing import Any

import anthropic.types as sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode, encode
from msgspec.structs import replace
from pydantic import TypeAdapter

from penstock.call import (
    Call,
    Citation,
    Content,
    File,
    Foreign,
    Message,
    OutputFormat,
    Reasoning,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.wire.anthropic_messages import AnthropicMessages
from penstock.wire.anthropic_messages_body import DEFAULT_MAX_TOKENS, splice_request, write_count_request, write_request
from wire.generated import Can, any_call

MESSAGES = AnthropicMessages()
OLD, MIDDLE, NEW = "claude-3-7-sonnet-20250219", "claude-sonnet-4-6", "claude-opus-4-8"
CITATION = Citation("https://example.com", "A", "x", None, None, None, None, "messages", b'{"type":"web_search_result_location","url":"https://example.com","title":"A","cited_text":"x","encrypted_index":"e"}')  # fmt: skip
CAN = Can(
    dialect="messages",
    developer=False,
    names=False,
    results="together",
    results_role="user",
    result_media=True,
    is_error=True,
    after_results=True,
    prefill=False,
    empty_text=False,
    images=("url", "data", "file_id"),
    detail=False,
    audio=False,
    files=("url", "data", "file_id"),
    refusal=False,
    custom_tools=False,
    raw_arguments=False,
    signers=("anthropic",),
    unsigned=False,
    signature_only=True,
    tool_signers=(),
    citations=(CITATION,),
    foreign=(Foreign("messages", "container_upload", b'{"type":"container_upload","file_id":"file_1"}'),),
    tool_schema_needed=True,
    foreign_tools=(Foreign("messages", "bash_20250124", b'{"type":"bash_20250124","name":"bash"}'),),
    outputs=("json_schema",),
    output_name=False,
    service_tiers=("auto", "default"),
    extra=(("inference_geo", b'"us"'), ("cache_control", b'{"type":"ephemeral"}')),
    sampling=frozenset({"temperature", "top_p", "top_k", "max_tokens", "stop", "reasoning_effort"}),
    max_temperature=1.0,
    efforts=("low", "medium", "high", "max"),
)
FOREIGN = Can(dialect="chat", thinkings=(Thinking(2_000), Thinking(0), Thinking(adaptive=True), Thinking(visible=True)))
SEEDS = st.integers(0, 2**64)
BLOCK: TypeAdapter[Any] = TypeAdapter(sdk.ContentBlockParam)
TOOL: TypeAdapter[Any] = TypeAdapter(sdk.ToolParam)
CHOICE: TypeAdapter[Any] = TypeAdapter(sdk.ToolChoiceParam)
THINKING: TypeAdapter[Any] = TypeAdapter(sdk.ThinkingConfigParam)


def as_read(call: Call) -> Call:
    """The call as this API can say it."""
    content, sampling = call.content, call.sampling
    messages = tuple(
        replace(message, parts=tuple(replace(p, media_type="application/pdf") if isinstance(p, File) and p.url else p for p in message.parts))
        for message in content.messages
    )  # fmt: skip
    choice, parallel = content.tool_choice, content.parallel_tools
    if parallel is not None and choice is None:
        choice = ToolChoice("auto")
    if choice is not None and choice.mode == "none":
        parallel = None
    content = replace(content, messages=messages, tool_choice=choice, parallel_tools=parallel)
    sampling = replace(
        sampling,
        max_tokens=DEFAULT_MAX_TOKENS if sampling.max_tokens is None else sampling.max_tokens,
        stop=tuple(text for text in sampling.stop if text.strip()),
    )
    return replace(call, read=lambda: content, sampling=sampling)


def call(*messages: Message, dialect: str = "chat", sampling: Sampling | None = None, **content: Any) -> Call:
    said = Content(messages or (Message("user", (Text("Hi"),)),), **content)
    return Call(dialect, "m", sampling or Sampling(), lambda: said)


def written(asked: Call, model: str = OLD, version: str = "") -> tuple[dict[str, Any], tuple[str, ...]]:
    body, dropped = write_request(asked, model, version)
    return decode(body), dropped


def is_valid(body: dict[str, Any]) -> None:
    """The SDK's own types take every block, tool and option, and the turns are as Anthropic wants them."""
    turns = body["messages"]
    assert turns
    assert turns[0]["role"] == "user"
    uses: list[str] = []
    for turn in turns:
        blocks = [{"type": "text", "text": turn["content"]}] if isinstance(turn["content"], str) else turn["content"]
        assert blocks
        for block in blocks:
            BLOCK.validate_python(block)
            assert block["type"] != "text" or block["text"].strip() or turn is turns[-1]
        if turn["role"] == "user":
            results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
            assert results == uses, "every use is answered in the next turn, in order"
            assert all(block["type"] == "tool_result" for block in blocks[: len(results)]), "results come first"
        uses = [block["id"] for block in blocks if block["type"] == "tool_use"]
    for one, other in pairwise(turns):
        assert one["role"] != other["role"]
    for tool in body.get("tools", ()):
        TOOL.validate_python(tool)
        assert tool["input_schema"]["type"] == "object"
    if "tool_choice" in body:
        CHOICE.validate_python(body["tool_choice"])
    if (thinking := body.get("thinking")) is not None:
        THINKING.validate_python(thinking)
        assert thinking["type"] != "enabled" or 1_024 <= thinking["budget_tokens"] < body["max_tokens"]
        assert body.get("temperature", 1) == 1
        assert "top_k" not in body
    assert body["max_tokens"] >= 1
    assert 0 <= body.get("temperature", 0) <= 1


# -- properties --


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_a_call_is_written_and_read_again_as_it_was(seed: int) -> None:
    rng = Random(seed)
    for _ in range(100):
        asked = any_call(rng, CAN)
        body, dropped = write_request(asked, "a-model", "")
        again, expected = MESSAGES.read_request(body), as_read(asked)
        assert again.content == expected.content
        assert (again.sampling, again.stream, again.user) == (expected.sampling, expected.stream, expected.user)
        assert set(dropped) <= {"stop"}


@settings(max_examples=1_000, deadline=None)
@given(SEEDS, st.sampled_from([OLD, MIDDLE, NEW, "qwen"]))
def test_a_call_of_another_dialect_is_written_as_anthropic_takes_it(seed: int, model: str) -> None:
    asked = any_call(Random(seed), FOREIGN)
    body, dropped = written(asked, model)
    if not body["messages"]:  # blanks and what has no place alone: Anthropic says so better than anything made up
        kept = [part for turn in asked.content.messages for part in turn.parts if isinstance(part, Text)]
        assert not any(part.text.strip() for part in kept)
        return
    is_valid(body)
    MESSAGES.read_request(encode(body))
    sampling = asked.sampling
    for name in ("min_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "n", "logprobs"):
        assert (name in dropped) == bool(getattr(sampling, name) or (name == "seed" and sampling.seed == 0))
    if model == NEW:
        assert not {"top_p", "top_k"} & body.keys()
        assert body.get("thinking", {}).get("type") in {None, "adaptive"}
        assert body["messages"][-1]["role"] != "assistant"


@settings(max_examples=1_000, deadline=None)
@given(SEEDS)
def test_the_clients_own_bytes_differ_in_the_edited_members_alone(seed: int) -> None:
    asked = any_call(Random(seed), CAN)
    raw = write_request(asked, "a-model", "")[0]
    read = MESSAGES.read_request(raw)
    assert splice_request(read, "a-model", "") is raw
    spliced = splice_request(read, "claude-x", "")
    assert spliced == raw.replace(b'"model":"a-model"', b'"model":"claude-x"', 1)
    pinned = replace(
        read, sampling=replace(read.sampling, temperature=0.5, stop=("x",)), changed=("temperature", "stop")
    )
    edited = decode(splice_request(pinned, "a-model", "") or b"")
    assert edited == {**decode(raw), "temperature": 0.5, "stop_sequences": ["x"]}


# -- the client's own bytes --

RAW = b'{ "model" : "m", "max_tokens": 9, "stream":true, "messages":[{"role":"user","content":"Hi"}] }'


def test_splicing_says_what_the_gateway_changed() -> None:
    read = MESSAGES.read_request(RAW)
    sampling = Sampling(temperature=1.5, max_tokens=None)
    pinned = replace(read, sampling=sampling, changed=("temperature", "max_tokens", "top_p", "stop"))
    assert splice_request(pinned, "m", "") == (
        b'{ "model" : "m", "max_tokens": 4096, "stream":true, "messages":[{"role":"user","content":"Hi"}] ,"temperature":1.0}'
    )


def test_splicing_takes_the_labels_of_the_gateway_out() -> None:
    raw = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}],"metadata":{"user_id":"u","feature":"f","session":"s"}}'
    assert splice_request(MESSAGES.read_request(raw), "m", "") == raw.replace(b',"feature":"f","session":"s"', b"")
    plain = raw.replace(b',"feature":"f","session":"s"', b"")
    assert splice_request(MESSAGES.read_request(plain), "m", "") is plain


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("vertex-2023-10-16", b'{ "max_tokens": 9, "stream":true, "messages":[{"role":"user","content":"Hi"}] ,"anthropic_version":"vertex-2023-10-16"}'),
        ("bedrock-2023-05-31", b'{ "max_tokens": 9, "messages":[{"role":"user","content":"Hi"}] ,"anthropic_version":"bedrock-2023-05-31"}'),
    ],
)  # fmt: skip
def test_a_platform_that_names_the_model_elsewhere_gets_no_model(version: str, expected: bytes) -> None:
    read = MESSAGES.read_request(RAW)
    dialect = AnthropicMessages(anthropic_version=version)
    assert decode(dialect.splice(read, "x") or b"") == decode(expected)
    body = decode(dialect.write_request(read, "claude-x")[0])
    assert body == decode(expected)


def test_what_cannot_be_spliced_is_written() -> None:
    read = MESSAGES.read_request(RAW)
    assert splice_request(replace(read, dialect="chat"), "m", "") is None
    assert splice_request(replace(read, raw=b""), "m", "") is None
    assert splice_request(replace(read, changed=("seed",)), "m", "") is None
    thinking = RAW.replace(b'"stream":true', b'"thinking":{"type":"adaptive"}')
    assert splice_request(replace(MESSAGES.read_request(thinking), changed=("temperature",)), "m", "") is None
    foreign = RAW.replace(b'"Hi"', b'[{"type":"redacted_thinking","data":"penstock.google.x"}]')
    assert splice_request(MESSAGES.read_request(foreign), "m", "") is None
    unsigned = RAW.replace(b'"Hi"', b'[{"type":"thinking","thinking":"t","signature": ""}]')
    assert splice_request(MESSAGES.read_request(unsigned), NEW, "") is None
    assert splice_request(MESSAGES.read_request(unsigned), "m", "") == unsigned
    assert splice_request(replace(read, read=lambda: read.content), "m", "") == RAW


# -- options --


def test_what_has_no_place_is_named() -> None:
    sampling = Sampling(
        temperature=1.5, top_p=0.5, top_k=-1, min_p=0.0, stop=("a", " \n"), seed=0, presence_penalty=0.0,
        frequency_penalty=1.0, logit_bias=(("1", 1.0),), n=2, logprobs=True, top_logprobs=3,
    )  # fmt: skip
    body, dropped = written(call(sampling=sampling))
    assert dropped == (
        *("frequency_penalty", "logit_bias", "logprobs", "n", "seed", "stop", "temperature", "top_logprobs"),
    )
    assert (body["temperature"], body["top_p"], body["stop_sequences"]) == (1.0, 0.5, ["a"])
    assert "top_k" not in body
    assert written(call(sampling=Sampling(n=1, logprobs=False, top_k=0)))[1] == ()


def test_newer_models_take_no_sampling() -> None:
    sampling = Sampling(temperature=0.5, top_p=1.0, top_k=3)
    body, dropped = written(call(sampling=sampling), NEW)
    assert dropped == ("temperature", "top_k")
    assert body["top_p"] == 1
    both = Sampling(temperature=0.5, top_p=0.5)
    assert written(call(sampling=both), MIDDLE)[1] == ("top_p",)
    assert written(call(sampling=both, dialect="messages"), MIDDLE)[1] == ()


def test_labels_tiers_and_users_are_written_as_far_as_they_can_be() -> None:
    asked = call(metadata=(("job", "x"), ("feature", "f")), service_tier="flex")
    body, dropped = written(replace(asked, user="u" * 257))
    assert dropped == ("metadata", "service_tier", "user")
    assert not {"metadata", "service_tier"} & body.keys()
    body, dropped = written(replace(call(service_tier="priority"), user="u"))
    assert (body["metadata"], body["service_tier"], dropped) == ({"user_id": "u"}, "auto", ())
    own = call(dialect="messages", metadata=(("job", "x"), ("feature", "f")), service_tier="later")
    body, dropped = written(own)
    assert (body["metadata"], body["service_tier"], dropped) == ({"job": "x"}, "later", ())


def test_the_form_of_the_answer_is_asked_for_with_a_schema_only() -> None:
    schema = OutputFormat("json_schema", "n", "d", b'{"type":"object"}', strict=True)
    body = written(call(output=schema))[0]
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert written(call(output=OutputFormat("json")))[1] == ("output",)
    assert written(call(output=OutputFormat("text")))[1] == ()


def test_unknown_members_of_another_dialect_are_named() -> None:
    asked = call(extra=(("store", b"true"),), tools=(Foreign("chat", "custom", b"{}"),))
    body, dropped = written(asked)
    assert dropped == ("store", "tools.custom")
    assert not {"store", "tools"} & body.keys()


# -- tools --


def test_tools_get_the_schema_that_anthropic_wants() -> None:
    tools = (
        Tool("a"),
        Tool("b", "d", b'{"properties":{}}', strict=False, extra=(("x", b"1"),), cache="1h"),
        Tool("c", None, b"not json", strict=True),
    )
    body, dropped = written(call(tools=tools))
    empty = {"type": "object", "properties": {}}
    assert body["tools"] == [
        {"name": "a", "input_schema": empty},
        {"name": "b", "description": "d", "input_schema": empty, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"name": "c", "input_schema": empty, "strict": True},
    ]
    assert dropped == ("x",)


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), True, {"type": "auto", "disable_parallel_tool_use": False}),
        (ToolChoice("required"), None, {"type": "any"}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("named", "a"), False, {"type": "tool", "name": "a", "disable_parallel_tool_use": True}),
    ],
)
def test_tool_choices(choice: ToolChoice | None, parallel: bool | None, expected: object) -> None:  # noqa: FBT001 - a parameter of the test
    body = written(call(tools=(Tool("a"),), tool_choice=choice, parallel_tools=parallel))[0]
    assert body.get("tool_choice") == expected
    assert "tool_choice" not in written(call(tool_choice=ToolChoice("auto"), parallel_tools=parallel))[0]


def test_a_choice_that_only_its_dialect_knows_is_named() -> None:
    choice = ToolChoice("auto", None, (("tool_choice", b"{}"),))
    assert written(call(tools=(Tool("a"),), tool_choice=choice))[1] == ("tool_choice",)


# -- thinking --

THOUGHT = Reasoning("t", "sig", signer="anthropic")
USE = ToolUse("call_1", "a", "{}")
LOOP = (
    Message("user", (Text("Hi"),)),
    Message("assistant", (USE,)),
    Message("tool", (ToolResult("call_1", (Text("ok"),)),)),
)


@pytest.mark.parametrize(
    ("effort", "thinking", "model", "expected", "config"),
    [
        ("high", None, OLD, {"type": "enabled", "budget_tokens": 24_576}, None),
        ("minimal", None, OLD, {"type": "enabled", "budget_tokens": 1_024}, None),
        ("none", None, OLD, None, None),
        ("medium", None, MIDDLE, {"type": "adaptive"}, {"effort": "medium"}),
        ("minimal", None, NEW, {"type": "adaptive"}, {"effort": "low"}),
        (None, Thinking(9_000), OLD, {"type": "enabled", "budget_tokens": 9_000}, None),
        (None, Thinking(9_000), NEW, {"type": "adaptive"}, {"effort": "high"}),
        (None, Thinking(0), NEW, None, None),
        (None, Thinking(adaptive=True), OLD, {"type": "enabled", "budget_tokens": 8_192}, None),
        (None, Thinking(adaptive=True, visible=True), NEW, {"type": "adaptive", "display": "summarized"}, None),
        (None, Thinking(visible=False), NEW, {"type": "adaptive", "display": "omitted"}, None),
        (None, None, NEW, None, None),
    ],
)
def test_thinking_is_asked_for_as_the_model_knows_it(
    effort: str | None, thinking: Thinking | None, model: str, expected: object, config: object
) -> None:
    body, dropped = written(call(sampling=Sampling(reasoning_effort=effort), thinking=thinking), model)
    assert (body.get("thinking"), body.get("output_config"), dropped) == (expected, config, ())


def test_a_kind_of_thinking_that_nobody_knows_rides_along() -> None:
    raw = RAW.replace(b'"stream":true', b'"thinking":{"type":"between_tools"}')
    assert written(MESSAGES.read_request(raw))[0]["thinking"] == {"type": "between_tools"}


def test_a_word_that_nobody_knows_is_named() -> None:
    assert written(call(sampling=Sampling(reasoning_effort="heroic")), NEW)[1] == ("reasoning",)


@pytest.mark.parametrize(
    ("thinking", "effort", "model", "expected", "config"),
    [
        (Thinking(2_000), "high", OLD, {"type": "enabled", "budget_tokens": 2_000}, {"effort": "high"}),
        (Thinking(0), None, OLD, {"type": "disabled"}, None),
        (Thinking(adaptive=True, visible=True), "max", NEW, {"type": "adaptive", "display": "summarized"}, {"effort": "max"}),
        (Thinking(2_000), None, NEW, {"type": "adaptive"}, {"effort": "low"}),
        (None, "low", OLD, None, {"effort": "low"}),
    ],
)  # fmt: skip
def test_thinking_asked_for_in_this_dialect_stays_as_it_is_where_the_model_takes_it(
    thinking: Thinking | None, effort: str | None, model: str, expected: object, config: object
) -> None:
    asked = call(dialect="messages", sampling=Sampling(reasoning_effort=effort, max_tokens=9_000), thinking=thinking)
    body = written(asked, model)[0]
    assert (body.get("thinking"), body.get("output_config")) == (expected, config)


@pytest.mark.parametrize(
    ("limit", "asked", "budget", "dropped"),
    [
        (None, 9_000, 9_000, ()),
        (None, 10, 1_024, ("reasoning",)),
        (20_000, 9_000, 9_000, ()),
        (9_000, 9_000, 4_500, ("reasoning",)),
        (1_500, 9_000, 1_024, ("reasoning",)),
        (1_024, 1_024, None, ("reasoning",)),
    ],
)
def test_the_budget_stays_below_the_limit(
    limit: int | None, asked: int, budget: int | None, dropped: tuple[str, ...]
) -> None:
    body, names = written(call(sampling=Sampling(max_tokens=limit), thinking=Thinking(asked)))
    assert (body.get("thinking", {}).get("budget_tokens"), names) == (budget, dropped)
    assert body["max_tokens"] > (budget or 0)


def test_options_that_do_not_go_with_thinking_give_way() -> None:
    sampling = Sampling(temperature=0.2, top_p=0.5, top_k=4)
    body, dropped = written(call(sampling=sampling, thinking=Thinking(2_000)))
    assert dropped == ("temperature", "top_k", "top_p")
    assert body["thinking"]["type"] == "enabled"
    body, dropped = written(call(sampling=Sampling(temperature=1.0, top_p=0.95), thinking=Thinking(2_000)))
    assert (body["temperature"], body["top_p"], dropped) == (1, 0.95, ())


@pytest.mark.parametrize(
    ("messages", "choice", "model", "thinks"),
    [
        (LOOP[:1], ToolChoice("required"), OLD, False),
        (LOOP[:1], ToolChoice("named", "a"), NEW, False),
        (LOOP[:1], ToolChoice("auto"), OLD, True),
        (LOOP, None, OLD, False),
        (LOOP, None, NEW, True),
        ((LOOP[0], Message("assistant", (THOUGHT, USE)), LOOP[2]), None, OLD, True),
        ((LOOP[0], Message("assistant", (Text("x"), THOUGHT, USE)), LOOP[2]), None, OLD, True),
        ((LOOP[0], Message("assistant", (Text("x"),))), None, OLD, False),
        ((LOOP[0], Message("assistant", (Text("x"),)), LOOP[0]), None, OLD, True),
        ((LOOP[0], Message("assistant", (Foreign("messages", "x", b'{"type":1}'),)), LOOP[0]), None, OLD, True),
    ],
)
def test_thinking_gives_way_to_what_it_does_not_go_with(
    messages: tuple[Message, ...],
    choice: ToolChoice | None,
    model: str,
    thinks: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    body, dropped = written(call(*messages, tools=(Tool("a"),), tool_choice=choice, thinking=Thinking(2_000)), model)
    assert ("thinking" in body) == thinks
    assert ("reasoning" in dropped) == (not thinks)


def test_a_prefill_is_trimmed_and_goes_on_where_the_model_takes_none() -> None:
    prefill = (LOOP[0], Message("assistant", (Text("Il fait \n"),)))
    assert written(call(*prefill))[0]["messages"][-1] == {"role": "assistant", "content": "Il fait"}
    marked = (LOOP[0], Message("assistant", (Text("Il fait \n", cache="5m"),)))
    assert written(call(*marked))[0]["messages"][-1]["content"][0]["text"] == "Il fait"
    body, dropped = written(call(*prefill), NEW)
    assert body["messages"][-1] == {"role": "user", "content": "Continue."}
    assert dropped == ("prefill",)


def test_a_count_asks_for_the_prompt_alone() -> None:
    asked = call(sampling=Sampling(temperature=0.5, max_tokens=9), tools=(Tool("a"),), metadata=(("a", "b"),))
    body = decode(write_count_request(replace(asked, stream=True, user="u"), NEW))
    assert body.keys() == {"model", "messages", "tools"}

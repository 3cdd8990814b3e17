"""Calls become bodies: what is written is read back the same, what is spliced is the client's own, what is left out is named."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.json import decode, encode
from msgspec.structs import replace

from penstock.call import (
    Audio,
    Call,
    Citation,
    Content,
    File,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    Refusal,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.wire.ollama_body import splice_request, write_request
from penstock.wire.ollama_request import read_request
from wire.generated import Can, any_call
from wire.ollama_cases import body, own_call

SEEDS = st.integers(0, 2**64)
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def a_call(content: Content, sampling: Sampling | None = None, **fields: Any) -> Call:
    fields.setdefault("dialect", "chat")
    return Call(model="m", sampling=sampling or Sampling(), read=lambda: content, **fields)


def written(call: Call, model: str = "m") -> tuple[dict[str, Any], tuple[str, ...]]:
    data, dropped = write_request(call, model)
    return decode(data), dropped


def messages(*said: Message, **fields: Any) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    out, dropped = written(a_call(Content(said), **fields))
    return out["messages"], dropped


def check(seed: int) -> None:
    call = own_call(Random(seed))
    data, dropped = write_request(call, "m")
    assert dropped == ()
    again = read_request(data, "chat")
    assert again.content == call.content
    assert again.sampling == call.sampling
    assert (again.stream, again.model, again.form) == (call.stream, "m", "chat")
    assert write_request(again, "m")[0] == data, "what was read is written the same"


@settings(max_examples=2_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same(seed: int) -> None:
    check(seed)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same_in_many_cases(seed: int) -> None:
    check(seed)


@settings(max_examples=2_000, deadline=None)
@given(seed=SEEDS, model=st.sampled_from(["llama3.2", "gpt-oss:20b"]))
def test_what_another_dialect_said_is_written_or_named_and_can_be_read(seed: int, model: str) -> None:
    can = Can(
        dialect="messages",
        foreign=(Foreign("messages", "search_result", b'{"type":"search_result"}'),),
        foreign_tools=(Foreign("messages", "web_search_20250305", b"{}"),),
        citations=(Citation(title="t"),),
        is_error=True,
        result_media=True,
        thinkings=(Thinking(tokens=9_000), Thinking(visible=False, adaptive=True)),
        extra=(("container", b'"x"'),),
    )
    call = any_call(Random(seed), can)
    out, dropped = written(call, model)
    assert dropped == tuple(sorted(set(dropped)))
    assert "container" not in out
    again = read_request(encode(out), "chat")
    said = [part.arguments for turn in call.content.messages for part in turn.parts if isinstance(part, ToolUse)]
    kept = [part for turn in again.content.messages for part in turn.parts if isinstance(part, ToolUse)]
    assert len(kept) == len(said)
    results = [part.id for turn in call.content.messages for part in turn.parts if isinstance(part, ToolResult)]
    answers = [part.id for turn in again.content.messages for part in turn.parts if isinstance(part, ToolResult)]
    assert answers == results
    for sampling, name in ((call.sampling.logit_bias, "logit_bias"), (call.user, "user"), (call.sampling.n, "n")):
        assert bool(sampling) is (name in dropped)


# -- messages --


def test_tool_results_become_messages_of_their_own_before_what_the_user_says() -> None:
    use = Message("assistant", (ToolUse("a", "f", '{"x": 1}'), ToolUse("b", "g", "")))
    results = (
        Text("so?"),
        ToolResult("a", (Text("1"), Text("2"))),
        ToolResult("b", (Image(data=PIXEL),), is_error=True),
    )
    out, dropped = messages(use, Message("user", results))
    assert out == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "a", "function": {"name": "f", "arguments": {"x": 1}}},
                {"id": "b", "function": {"name": "g", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "1\n2", "tool_call_id": "a", "tool_name": "f"},
        {"role": "tool", "content": "", "tool_call_id": "b", "tool_name": "g", "images": [PIXEL]},
        {"role": "user", "content": "so?"},
    ]
    assert dropped == ("tool_result.is_error",)


def test_text_beside_a_result_of_a_tool_message_is_said_by_the_user() -> None:
    out, _ = messages(Message("tool", (ToolResult("a", ()), Text("x")), "f"))
    assert out == [
        {"role": "tool", "content": "", "tool_call_id": "a", "tool_name": "f"},
        {"role": "user", "content": "x"},
    ]


@pytest.mark.parametrize(
    ("said", "kind", "sent"),
    [
        ('{"a":1}', "function", {"a": 1}),
        (' {"a":1} ', "function", {"a": 1}),
        ("", "function", {}),
        ("[1]", "function", {"arguments": [1]}),
        ('"x"', "function", {"arguments": "x"}),
        ("null", "function", {"arguments": None}),
        ("not json", "function", {"arguments": "not json"}),
        ('{"cut":', "function", {"arguments": '{"cut":'}),
        ('{"a":"\ud800"}', "function", None),
        ("[" * 99_999, "function", {"arguments": "[" * 99_999}),
        ("ls -l", "custom", {"input": "ls -l"}),
        ("{}", "custom", {"input": "{}"}),
    ],
)
def test_arguments_are_an_object_whatever_the_model_wrote(said: str, kind: Any, sent: object) -> None:
    if sent is None:
        said, sent = '{"a":' + "[" * 5_000, {"arguments": '{"a":' + "[" * 5_000}
    out, _ = messages(Message("assistant", (ToolUse("a", "f", said, kind),)))
    assert out[0]["tool_calls"][0]["function"]["arguments"] == sent


def test_texts_of_an_answer_are_pieces_of_one_and_those_of_others_stand_apart() -> None:
    pair = (Text("a"), Text("b"))
    out, _ = messages(Message("user", pair), Message("assistant", (*pair, Refusal("c"))), Message("developer", pair))
    assert [turn["content"] for turn in out] == ["a\nb", "abc", "a\nb"]
    assert out[2]["role"] == "system"


def test_thoughts_go_to_a_model_here_unless_another_family_signed_them() -> None:
    out, dropped = messages(Message("assistant", (Reasoning("a"), Reasoning("b"), Text("x"))))
    assert out == [{"role": "assistant", "content": "x", "thinking": "ab"}]
    assert dropped == ()
    for thought in (Reasoning("a", "sig", signer="anthropic"), Reasoning("", "sig", redacted=True, signer="openai")):
        out, dropped = messages(Message("assistant", (thought, Text("x"))))
        assert (out, dropped) == ([{"role": "assistant", "content": "x"}], ("reasoning",))


def test_the_signature_of_a_tool_call_stays_with_its_family() -> None:
    out, dropped = messages(Message("assistant", (ToolUse("a", "f", "{}", signature="s", signer="google"),)))
    assert out[0]["tool_calls"] == [{"id": "a", "function": {"name": "f", "arguments": {}}}]
    assert dropped == ()


def test_a_picture_in_whatever_detail_the_model_likes_loses_nothing() -> None:
    assert messages(Message("user", (Image(data=PIXEL, detail="auto"),)))[1] == ()


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (Image(url="https://example.com/a.png"), "image"),
        (Image(file_id="file-1"), "image"),
        (Image(data=PIXEL, detail="low"), "detail"),
        (Image(data=PIXEL, extra=(("x", b"1"),)), "x"),
        (Audio("aGk=", "wav"), "audio"),
        (File("a.pdf", "aGk=", "application/pdf"), "file"),
        (Foreign("messages", "search_result", b"{}"), "search_result"),
        (Text("x", cache="5m"), "cache"),
        (Text("x", citations=(Citation(url="u"),)), "citations"),
        (Text("x", (("y", b"1"),)), "y"),
        (ToolResult("a", (), cache="1h"), "cache"),
    ],
)
def test_what_has_no_place_in_a_message_is_named(part: Any, name: str) -> None:
    assert messages(Message("user", (part,)))[1] == (name,)


def test_pictures_are_written_in_the_standard_alphabet() -> None:
    out, _ = messages(Message("user", (Image(data="_-8"), Image(data="no base64!"))))
    assert out[0]["images"] == ["/+8=", "no base64!"]


def test_a_name_is_for_tools_alone() -> None:
    out, dropped = messages(Message("user", (Text("x"),), "ann", (("y", b"1"),)))
    assert (out, dropped) == ([{"role": "user", "content": "x"}], ("name", "y"))


def test_a_client_of_this_dialect_gets_its_unknown_members_back() -> None:
    raw = body(
        messages=[
            {"role": "user", "content": "x", "weight": 1},
            {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {}, "why": 1}, "z": 2}]},
            {"role": "tool", "tool_call_id": "a", "tool_name": "f", "content": "1", "cached": True},
        ],
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}, "y": 1}],
        keep_alive="5m",
        options={"num_ctx": 1},
        stream=False,
    )  # fmt: skip
    call = read_request(raw, "chat")
    assert written(call, "llama3.2") == (decode(raw), ())
    out, dropped = written(replace(call, dialect="chat"))
    assert dropped == ("cached", "function", "keep_alive", "options.num_ctx", "weight", "y", "z")
    assert "keep_alive" not in out
    assert "options" not in out


# -- beside the messages --


def test_every_option_is_written_under_its_name_here() -> None:
    sampling = Sampling(
        temperature=0.5, top_p=0.9, top_k=40, min_p=0.05, max_tokens=7, stop=("x",), seed=3, presence_penalty=1.0,
        frequency_penalty=-1.0, logit_bias=(("1", 2.0),), n=2, logprobs=True, top_logprobs=3,
    )  # fmt: skip
    out, dropped = written(a_call(Content(()), sampling, stream=True))
    assert out == {
        "model": "m",
        "messages": [],
        "logprobs": True,
        "top_logprobs": 3,
        "options": {
            "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "num_predict": 7, "stop": ["x"], "seed": 3,
            "presence_penalty": 1.0, "frequency_penalty": -1.0,
        },
        "truncate": False,
        "shift": False,
        "stream": True,
    }  # fmt: skip
    assert dropped == ("logit_bias", "n")
    assert written(a_call(Content(()), Sampling(n=1)))[1] == ()


@pytest.mark.parametrize(
    ("effort", "thinking", "model", "think", "dropped"),
    [
        (None, None, "qwen3", None, ()),
        ("none", None, "qwen3", False, ()),
        ("low", None, "gpt-oss:20b", "low", ()),
        ("minimal", None, "gpt-oss:20b", "low", ("reasoning_effort",)),
        ("max", None, "openai/gpt-oss-120b", "high", ("reasoning_effort",)),
        ("strange", None, "gpt-oss", "medium", ("reasoning_effort",)),
        ("high", None, "qwen3", True, ("reasoning_effort",)),
        (None, Thinking(tokens=0), "qwen3", False, ()),
        (None, Thinking(tokens=20_000), "gpt-oss", "high", ()),
        (None, Thinking(tokens=1), "qwen3", True, ("reasoning_effort",)),
        (None, Thinking(adaptive=True), "qwen3", True, ()),
        (None, Thinking(visible=True), "qwen3", True, ()),
        (None, Thinking(visible=False), "qwen3", None, ()),
        (None, Thinking(visible=False, adaptive=True), "qwen3", True, ("thinking",)),
        ("low", Thinking(visible=False), "gpt-oss", "low", ("thinking",)),
    ],
)
def test_how_much_to_think_is_said_as_the_model_takes_it(
    effort: str | None, thinking: Thinking | None, model: str, think: object, dropped: tuple[str, ...]
) -> None:
    call = a_call(Content((), thinking=thinking), Sampling(reasoning_effort=effort))
    out, named = written(call, model)
    assert (out.get("think"), named) == (think, dropped)


def test_a_client_of_this_dialect_knows_its_model() -> None:
    for level in ("low", "medium", "high", "max"):
        call = read_request(body(think=level), "chat")
        assert written(call, "qwen3")[0]["think"] == level


@pytest.mark.parametrize(
    ("output", "sent"),
    [
        (None, None),
        (OutputFormat("text"), None),
        (OutputFormat("json"), "json"),
        (OutputFormat("json", schema=b'{"type":"object"}'), {"type": "object"}),
        (OutputFormat("json_schema", "n", "d", b'{"a":1}', strict=True), {"a": 1}),
        (OutputFormat("json_schema", "n"), "json"),
    ],
)
def test_the_form_of_the_answer_is_written(output: OutputFormat | None, sent: object) -> None:
    out, dropped = written(a_call(Content((), output=output)))
    assert (out.get("format"), dropped) == (sent, ())


def test_tools_are_written_with_a_schema_each() -> None:
    tools = (
        Tool("f", "d", b'{"type":"object"}', strict=False),
        Tool("g", strict=True, cache="5m"),
        Foreign("messages", "bash_20250124", b"{}"),
        Foreign("ollama", "web_search", b'{"type":"web_search"}'),
    )
    out, dropped = written(a_call(Content((), tools, parallel_tools=False)))
    assert out["tools"] == [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}},
        {"type": "web_search"},
    ]
    assert dropped == ("cache", "parallel_tools", "strict", "tools.bash_20250124")


@pytest.mark.parametrize(
    ("choice", "tools", "dropped"),
    [
        (ToolChoice("auto"), 1, ()),
        (ToolChoice("none"), 0, ()),
        (ToolChoice("required"), 1, ("tool_choice",)),
        (ToolChoice("named", "f"), 1, ("tool_choice",)),
        (ToolChoice("auto", None, (("allowed_tools", b"{}"),)), 1, ("allowed_tools",)),
    ],
)
def test_a_tool_cannot_be_demanded_but_be_kept_away(choice: ToolChoice, tools: int, dropped: tuple[str, ...]) -> None:
    out, named = written(a_call(Content((), (Tool("f"),), choice)))
    assert (len(out.get("tools", ())), named) == (tools, dropped)


def test_a_prompt_that_does_not_fit_is_refused_rather_than_cut_unless_ollamas_own_client_wants_that() -> None:
    assert written(a_call(Content(())))[0]["truncate"] is False
    assert written(read_request(body(), "chat"))[0].keys() == {"model", "messages", "stream"}
    assert written(read_request(body(truncate=True), "chat"))[0]["truncate"] is True


def test_what_has_no_member_is_named() -> None:
    content = Content((), service_tier="flex", metadata=(("a", "b"),), extra=(("store", b"true"),))
    assert written(a_call(content, user="ann"))[1] == ("metadata", "service_tier", "store", "user")
    assert written(a_call(replace(content, service_tier="auto", metadata=(), extra=())))[1] == ()


# -- completions --


def test_a_completion_goes_out_as_one() -> None:
    raw = encode(
        {
            "model": "m", "prompt": "p", "system": "s", "images": [PIXEL], "suffix": "x", "context": [1, 2], "raw": True,
            "options": {"seed": 1, "num_ctx": 5}, "format": "json", "think": False, "stream": False,
        }
    )  # fmt: skip
    call = read_request(raw, "generate")
    assert written(call) == (decode(raw), ())
    assert "messages" in written(replace(call, dialect="chat"))[0]


def test_a_completion_that_became_a_conversation_keeps_its_texts() -> None:
    call = read_request(encode({"model": "m", "prompt": "p", "system": "s"}), "generate")
    more = Content((*call.content.messages, Message("assistant", (Text("a"),)), Message("user", (Text("b"),))))
    out, dropped = written(replace(call, read=lambda: more))
    assert (out["prompt"], out["system"], dropped) == ("p\n\na\n\nb", "s", ("messages",))


# -- splicing --


def test_the_clients_bytes_go_on_with_the_model_replaced() -> None:
    raw = b'{ "model" : "fast", "messages":[ ] , "keep_alive":"5m" }'
    call = read_request(raw, "chat")
    assert splice_request(call, "llama3.2") == raw.replace(b'"fast"', b'"llama3.2"')
    assert splice_request(call, "fast") is raw


def test_changed_options_are_edited_in_and_unsaid_ones_taken_out() -> None:
    raw = b'{"model":"m","messages":[],"options":{"seed":1,"num_ctx":9,"temperature":0.5},"think":true,"logprobs":true}'
    sampling = Sampling(temperature=1.0, max_tokens=7, stop=("x",), reasoning_effort="high", top_logprobs=2)
    changed = ("temperature", "max_tokens", "seed", "stop", "reasoning_effort", "logprobs", "top_logprobs")
    call = replace(read_request(raw, "chat"), sampling=sampling, changed=changed)
    assert splice_request(call, "m") == (
        b'{"model":"m","messages":[],"options":{"num_ctx":9,"temperature":1.0,"num_predict":7,"stop":["x"]},'
        b'"think":"high","top_logprobs":2}'
    )
    for raw in (b'{"model":"m"}', b'{"model":"m","options":null}'):
        call = replace(read_request(raw, "chat"), sampling=Sampling(seed=1), changed=("seed",))
        assert decode(splice_request(call, "m") or b"") == {"model": "m", "options": {"seed": 1}}
    call = replace(read_request(raw, "chat"), changed=("reasoning_effort",))
    assert splice_request(call, "m") == raw


def test_bytes_that_cannot_carry_the_call_are_not_spliced() -> None:
    call = read_request(body(), "chat")
    for other in (
        replace(call, dialect="chat"),
        replace(call, raw=b""),
        replace(call, changed=("n",)),
        replace(call, changed=("messages",)),
    ):
        assert splice_request(other, "m") is None


def test_a_call_whose_content_was_replaced_can_still_be_spliced() -> None:
    call = replace(read_request(body(), "chat"), read=lambda: Content(()))
    assert decode(splice_request(call, "x") or b"") == {**decode(body()), "model": "x"}


@settings(max_examples=1_000, deadline=None)
@given(seed=SEEDS)
def test_a_splice_differs_in_the_edited_members_alone_and_says_what_writing_says(seed: int) -> None:
    rng = Random(seed)
    raw = write_request(own_call(rng), "m")[0]
    call = read_request(raw, "chat")
    changed = tuple(name for name in ("temperature", "seed", "max_tokens") if rng.random() < 0.5)
    pinned = {"temperature": 0.25, "seed": 7, "max_tokens": rng.choice((9, 10))}
    call = replace(call, sampling=replace(call.sampling, **{name: pinned[name] for name in changed}), changed=changed)
    spliced = splice_request(call, "other")
    assert spliced is not None
    assert decode(spliced) == decode(write_request(call, "other")[0])
    before, after = (decode(text, type=dict[str, Raw]) for text in (raw, spliced))
    kept = before.keys() - {"model", "options"}
    assert {name: bytes(after[name]) for name in kept} == {name: bytes(before[name]) for name in kept}

"""Calls become bodies: what is written is read back the same, what is spliced is the client's own, what is left out is named."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.json import decode

from penstock.call import (
    Audio,
    Call,
    Citation,
    Content,
    File,
    Foreign,
    Image,
    Message,
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
from penstock.wire.openai_chat_body import splice_request, write_request
from penstock.wire.openai_chat_request import read_request
from wire.chat_cases import any_content, any_messages, any_sampling, body

SEEDS = st.integers(0, 2**64)


def a_call(content: Content, sampling: Sampling | None = None, **fields: object) -> Call:
    return Call("chat", "m", sampling or Sampling(), lambda: content, **fields)  # type: ignore[arg-type]


def written(call: Call, model: str = "m", *, ask_usage: bool = True) -> tuple[dict[str, object], tuple[str, ...]]:
    data, dropped = write_request(call, model, ask_usage=ask_usage)
    return decode(data), dropped


def check(seed: int) -> None:
    rng = Random(seed)
    stream, asked = rng.random() < 0.5, rng.random() < 0.5
    call = a_call(
        any_content(rng), any_sampling(rng), stream=stream, stream_usage=stream and asked, user=rng.choice((None, "u"))
    )
    data, dropped = write_request(call, "m", ask_usage=False)
    assert dropped == ()
    again = read_request(data)
    assert again.content == call.content
    assert again.sampling == call.sampling
    assert (again.stream, again.stream_usage, again.user, again.model) == (stream, call.stream_usage, call.user, "m")
    assert again.raw is data
    assert write_request(again, "m", ask_usage=False)[0] == data, "what was read is written the same"


@settings(max_examples=2_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same(seed: int) -> None:
    check(seed)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same_in_many_cases(seed: int) -> None:
    check(seed)


@settings(max_examples=500, deadline=None)
@given(seed=SEEDS)
def test_what_another_dialect_said_is_written_or_named_and_can_be_read(seed: int) -> None:
    content = any_content(Random(seed))
    call = structs.replace(a_call(content), dialect="messages")
    out, dropped = written(call)
    names = {name for name, _ in content.extra} | {name for m in content.messages for name, _ in m.extra}
    assert names <= set(dropped)
    assert not names & out.keys()
    assert dropped == tuple(sorted(set(dropped)))
    read_request(write_request(call, "m", ask_usage=True)[0])


# -- from the neutral form --


def test_tool_results_become_messages_of_their_own_before_what_the_user_says() -> None:
    parts = (ToolResult("a", (Text("1"),)), ToolResult("b", (Text("2"), Text("3")), is_error=True), Text("so?"))
    out, dropped = written(a_call(Content((Message("user", parts, "ann"),))))
    assert out["messages"] == [
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {
            "role": "tool",
            "tool_call_id": "b",
            "content": [{"type": "text", "text": "2"}, {"type": "text", "text": "3"}],
        },
        {"role": "user", "content": "so?", "name": "ann"},
    ]
    assert dropped == ("tool_result.is_error",)


def test_text_beside_a_tool_result_is_said_by_the_user() -> None:
    out, _ = written(a_call(Content((Message("tool", (ToolResult("a", ()), Text("x")), "f"),))))
    assert out["messages"] == [
        {"role": "tool", "tool_call_id": "a", "content": [], "name": "f"},
        {"role": "user", "content": "x", "name": "f"},
    ]


def test_what_has_no_place_is_named() -> None:
    messages = (
        Message(
            "user",
            (
                Reasoning("hm"),
                ToolUse("i", "f", "{}"),
                Audio(id="a"),
                File(url="https://x"),
                Image(file_id="f"),
                Foreign("generate", "video", b"{}"),
            ),
        ),
        Message(
            "assistant", (Reasoning("hm", "signature"), Text("x", (("hint", b"{}"),), (Citation(title="t"),), "5m"))
        ),
        Message("assistant", (Text("x", (), (Citation("https://x"),)), Image(url="https://x"))),
    )
    tools = (Foreign("messages", "computer", b"{}"), Tool("f", extra=(("eager", b"1"),), cache="1h"))
    choice = ToolChoice("auto", extra=(("disable_parallel_tool_use", b"true"),))
    content = Content(
        messages,
        tools,
        choice,
        extra=(("container", b"{}"),),
        metadata=(("a", "b"),),
        thinking=Thinking(summary="auto"),
    )
    out, dropped = written(structs.replace(a_call(content), dialect="messages"))
    assert out["messages"] == [
        {"role": "user", "content": []},
        {"role": "assistant", "content": "x"},
        {"role": "assistant", "content": "x"},
    ]
    assert out["tools"] == [{"type": "function", "function": {"name": "f"}}]
    assert out["tool_choice"] == "auto"
    assert dropped == (
        *("audio", "cache", "citations", "container", "disable_parallel_tool_use", "eager", "file", "hint", "image"),
        *("metadata", "reasoning", "thinking", "tool_use", "tools.computer", "video"),
    )


def test_what_a_tool_message_cannot_hold_is_said_by_the_user_after_the_last_of_them() -> None:
    results = [
        Message("tool", (ToolResult("a", (Text("1"), Image(data="aGk=", media_type="image/gif"))),)),
        Message("tool", (ToolResult("b", (File("a.pdf", "aGk=", "application/pdf"),)),)),
    ]
    said = {
        "role": "user",
        "content": [
            {"type": "text", "text": "The tool call a also gave:"},
            {"type": "image_url", "image_url": {"url": "data:image/gif;base64,aGk="}},
            {"type": "text", "text": "The tool call b also gave:"},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}},
        ],
    }
    tools = [
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": []},
    ]
    assert written(a_call(Content((*results,))))[0]["messages"] == [*tools, said]
    out, dropped = written(a_call(Content((*results, Message("user", (Text("so?"),))))))
    assert out["messages"] == [*tools, said, {"role": "user", "content": "so?"}]
    assert dropped == ()


def test_a_picture_that_came_as_a_file_is_shown_as_a_picture() -> None:
    content = Content((Message("user", (File("a.png", "aGk=", "image/png"),)),))
    out, _ = written(structs.replace(a_call(content), dialect="messages"))
    assert out["messages"][0]["content"] == [  # type: ignore[index]
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    ]


@pytest.mark.parametrize(
    ("model", "signers"),
    [
        ("anthropic/claude-opus-4.5", ["anthropic"]),
        ("gemini-3-pro", ["google"]),
        ("openai/gpt-5", ["openai"]),
        ("gpt-5", []),
        ("deepseek-chat", []),
    ],
)
def test_signed_thoughts_go_to_the_family_that_signed_them_only(model: str, signers: list[str]) -> None:
    thoughts = [Reasoning("a", f"of-{signer}", signer=signer) for signer in ("anthropic", "google", "openai")]
    use = ToolUse("c", "f", "{}", signature="c2ln", signer="google")
    call = structs.replace(
        a_call(Content((Message("assistant", (*thoughts, Reasoning("b", "s"), use)),))), dialect="messages"
    )
    out, dropped = written(call, model)
    turn = out["messages"][0]  # type: ignore[index]
    sent = str(turn)
    assert [signer for signer in ("anthropic", "google", "openai") if f"of-{signer}" in sent] == signers
    assert ("extra_content" in turn["tool_calls"][0]) is (signers == ["google"])
    assert dropped == ("reasoning",)


@pytest.mark.parametrize(
    ("thinking", "effort", "written_as"),
    [
        (Thinking(8_192), None, "medium"),
        (Thinking(0), None, "none"),
        (Thinking(100), "high", "high"),
        (Thinking(adaptive=True), None, None),
    ],
)
def test_how_much_another_dialect_wants_thought_becomes_an_effort(
    thinking: Thinking, effort: str | None, written_as: str | None
) -> None:
    call = a_call(Content((Message("user", (Text("Hi"),)),), thinking=thinking), Sampling(reasoning_effort=effort))
    out, dropped = written(structs.replace(call, dialect="messages"))
    assert (out.get("reasoning_effort"), out.get("reasoning"), dropped) == (written_as, None, ())


def test_what_a_client_says_about_thinking_is_written_in_its_own_words() -> None:
    raw = body(reasoning={"effort": "low", "exclude": True}, thinking={"type": "enabled"})
    call = read_request(raw)
    assert call.sampling.reasoning_effort == "low"
    assert splice_request(call, "gpt-4o-mini", ask_usage=False) == raw
    out, _ = written(call)
    assert (out["reasoning"], out["thinking"]) == ({"effort": "low", "exclude": True}, {"type": "enabled"})
    assert "reasoning_effort" not in out
    changed = structs.replace(
        call, sampling=structs.replace(call.sampling, reasoning_effort="high"), changed=("reasoning_effort",)
    )
    assert splice_request(changed, "gpt-4o-mini", ask_usage=False) is None
    assert written(changed)[0]["reasoning"] == {"effort": "high", "exclude": True}
    only = read_request(body(thinking={"type": "enabled", "budget_tokens": 9}))
    pinned = structs.replace(only, sampling=Sampling(reasoning_effort="high"), changed=("reasoning_effort",))
    assert written(pinned)[0]["reasoning"] == {"effort": "high"}
    both = read_request(body(reasoning={"max_tokens": 5}, reasoning_effort="low"))
    assert written(both)[0]["reasoning_effort"] == "low"


def test_thoughts_go_back_to_where_they_came_from_only() -> None:
    content = Content((Message("assistant", (Reasoning("a"), Reasoning("b"), Text("x"))),))
    out, dropped = written(a_call(content))
    assert out["messages"] == [{"role": "assistant", "reasoning_content": "ab", "content": "x"}]
    assert dropped == ()
    assert written(structs.replace(a_call(content), dialect=""))[1] == ("reasoning",)


def test_parts_without_all_their_facts_get_the_usual_ones() -> None:
    parts = (Image(data="aGk="), Audio("aGk="), Refusal("no"))
    out, dropped = written(a_call(Content((Message("user", parts),))))
    assert out["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
                {"type": "refusal", "refusal": "no"},
            ],
        }
    ]
    assert dropped == ()


def test_a_deprecated_function_call_goes_back_in_its_own_form() -> None:
    raw = body(
        messages=[
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "42"},
        ],
        functions=[{"name": "f", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
    )
    call = read_request(raw)
    out, dropped = written(call, "m")
    assert out == {**decode(raw), "model": "m", "messages": out["messages"]}
    assert out["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "42"},
    ]
    assert dropped == ()
    elsewhere, _ = written(structs.replace(call, dialect="messages"))
    assert elsewhere["tools"] == [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    assert elsewhere["tool_choice"] == {"type": "function", "function": {"name": "f"}}


def test_an_answer_without_a_schema_name_gets_one() -> None:
    content = read_request(
        body(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}})
    ).content
    assert content.output is not None
    nameless = structs.replace(content, output=structs.replace(content.output, name=None))
    assert written(a_call(nameless))[0]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }


# -- the limit on the answer has two names --


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o-mini", "max_completion_tokens"),
        ("openai/gpt-5", "max_completion_tokens"),
        ("o3", "max_completion_tokens"),
        ("ft:gpt-4.1:me", "max_completion_tokens"),
        ("chatgpt-4o-latest", "max_completion_tokens"),
        ("gpt-oss-20b", "max_tokens"),
        ("qwen2.5-7b", "max_tokens"),
        ("olmo-2", "max_tokens"),
    ],
)
def test_the_limit_is_written_under_the_name_that_the_model_takes(model: str, name: str) -> None:
    content = Content((Message("user", (Text("Hi"),)),))
    out, _ = written(a_call(content, Sampling(max_tokens=7)), model)
    assert {key: value for key, value in out.items() if key.startswith("max_")} == {name: 7}
    raw = body(model="fast")
    call = structs.replace(read_request(raw), sampling=Sampling(max_tokens=7), changed=("max_tokens",))
    spliced = splice_request(call, model, ask_usage=True)
    assert spliced is not None
    assert decode(spliced) == {**decode(raw), "model": model, name: 7}


@pytest.mark.parametrize("said", [("max_tokens",), ("max_completion_tokens",), ("max_completion_tokens", "max_tokens")])
def test_the_limit_is_written_under_the_name_that_the_client_said(said: tuple[str, ...]) -> None:
    raw = body(**dict.fromkeys(said, 100))
    call = read_request(raw)
    assert call.sampling.max_tokens == 100
    pinned = structs.replace(call, sampling=structs.replace(call.sampling, max_tokens=5), changed=("max_tokens",))
    for out in (written(pinned)[0], decode(splice_request(pinned, "m", ask_usage=True) or b"")):
        assert {key: value for key, value in out.items() if key.startswith("max_")} == dict.fromkeys(said, 5)


def test_what_openais_own_models_refuse_is_dropped_unless_the_client_said_it() -> None:
    content = Content((Message("user", (Text("Hi"),)),))
    call = structs.replace(a_call(content, Sampling(top_k=5, min_p=0.1, temperature=1.0)), dialect="messages")
    assert written(call, "gpt-4o")[1] == ("min_p", "top_k")
    assert written(call, "qwen2.5-7b")[0]["top_k"] == 5
    assert written(structs.replace(call, dialect="chat"), "gpt-4o")[0]["min_p"] == 0.1
    assert b'"temperature":1}' in write_request(call, "gpt-4o", ask_usage=True)[0], "whole numbers stay whole"


# -- streams ask for usage --


@pytest.mark.parametrize(
    ("options", "spliced"),
    [
        ({}, b',"stream_options":{"include_usage":true}}'),
        ({"stream_options": None}, b'"stream_options":{"include_usage":true}'),
        ({"stream_options": {"include_usage": False}}, b'"stream_options":{"include_usage":true}'),
        ({"stream_options": {"x": [1]}}, b'"stream_options":{"x":[1],"include_usage":true}'),
    ],
)
def test_a_stream_is_asked_for_its_usage(options: dict[str, object], spliced: bytes) -> None:
    raw = body(stream=True, **options)
    call = read_request(raw)
    assert not call.stream_usage
    assert spliced in (splice_request(call, "gpt-4o-mini", ask_usage=True) or b"")
    assert splice_request(call, "gpt-4o-mini", ask_usage=False) is raw
    assert written(call)[0]["stream_options"]["include_usage"] is True  # type: ignore[index]
    assert "include_usage" not in written(call, ask_usage=False)[0].get("stream_options", {})  # type: ignore[operator]


def test_nothing_is_asked_for_twice_or_outside_a_stream() -> None:
    raw = body(stream=True, stream_options={"include_usage": True, "x": 1})
    call = read_request(raw)
    assert call.stream_usage
    assert splice_request(call, "gpt-4o-mini", ask_usage=True) is raw
    assert written(call, ask_usage=False)[0]["stream_options"] == {"include_usage": True, "x": 1}
    assert splice_request(read_request(body()), "gpt-4o-mini", ask_usage=True) == body()
    assert "stream_options" not in written(read_request(body(stream_options={"x": 1})))[0]


# -- splicing --


def test_the_clients_bytes_go_on_with_the_model_replaced() -> None:
    raw = b' { "model" : "fast", "unknown" : {"deep": [1, 2]} ,\n "messages":[{"role":"user","content":"model \\"model\\":\\"fast\\""}] }\n'
    call = read_request(raw)
    assert splice_request(call, "gpt-4o", ask_usage=True) == raw.replace(b'"fast",', b'"gpt-4o",')
    assert splice_request(structs.replace(call, model="other"), "fast", ask_usage=True) is raw


def test_changed_options_are_edited_in_and_unsaid_ones_taken_out() -> None:
    raw = body(temperature=0.9, stop="a", top_p=1)
    pinned = Sampling(temperature=0.0, seed=7, stop=("x", "y"), logit_bias=(("1", 2.0), ("2", 0.5)))
    changed = ("temperature", "seed", "stop", "top_p", "logit_bias", "max_tokens")
    call = structs.replace(read_request(raw), sampling=pinned, changed=changed)
    spliced = decode(splice_request(call, "m", ask_usage=True) or b"")
    expected = {"temperature": 0, "seed": 7, "stop": ["x", "y"], "logit_bias": {"1": 2, "2": 0.5}}
    assert spliced == {"model": "m", "messages": decode(raw)["messages"], **expected}


def test_bytes_that_cannot_carry_the_call_are_not_spliced() -> None:
    call = read_request(body())
    for other in ({"changed": ("messages",)}, {"raw": b""}, {"dialect": "messages"}):
        assert splice_request(structs.replace(call, **other), "m", ask_usage=True) is None


def test_a_call_whose_content_was_replaced_can_still_be_spliced() -> None:
    call = structs.replace(read_request(body()), read=lambda: Content(()))
    assert decode(splice_request(call, "m", ask_usage=True) or b"") == {**decode(body()), "model": "m"}


@settings(max_examples=500, deadline=None)
@given(seed=SEEDS)
def test_a_splice_says_what_writing_says(seed: int) -> None:
    rng = Random(seed)
    first = a_call(Content(any_messages(rng)), any_sampling(rng), stream=rng.random() < 0.5)
    call = read_request(write_request(first, "fast", ask_usage=False)[0])
    wanted = any_sampling(rng)
    changed = tuple(
        name for name in Sampling.__struct_fields__ if getattr(wanted, name) != getattr(call.sampling, name)
    )
    call = structs.replace(call, sampling=wanted, changed=changed)
    spliced = splice_request(call, "gpt-4o", ask_usage=True)
    assert decode(spliced or b"") == decode(write_request(call, "gpt-4o", ask_usage=True)[0])


def test_schemas_travel_as_the_bytes_they_were() -> None:
    schema = b'{"type" : "object", "properties":{"a":{"type":"number","const":1.0}}}'
    raw = (
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":%b}}]}'
        % schema
    )
    call = read_request(raw)
    assert call.content.tools == (Tool("f", parameters=schema),)
    assert schema in write_request(call, "m", ask_usage=True)[0]


def test_a_custom_tool_of_the_responses_api_is_taken_over() -> None:
    tools = (
        Foreign("responses", "custom", b'{"type":"custom","name":"run"}'),
        Foreign(
            "responses",
            "custom",
            b'{"type":"custom","name":"sql","format":{"type":"grammar","syntax":"lark","definition":"x"}}',
        ),
    )
    out, dropped = written(structs.replace(a_call(Content((), tools)), dialect="responses"))
    assert out["tools"] == [
        {"type": "custom", "custom": {"name": "run"}},
        {
            "type": "custom",
            "custom": {"name": "sql", "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}}},
        },
    ]
    assert dropped == ()

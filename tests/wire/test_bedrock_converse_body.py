"""Calls of any API become requests that Bedrock takes; calls of its own go through with only what was changed."""

from itertools import pairwise
from random import Random
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.json import decode, encode

from penstock.call import (
    Audio,
    Call,
    Content,
    File,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Role,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.wire.bedrock_converse_body import splice_request, write_count_request, write_request
from penstock.wire.bedrock_converse_carried import write_tool_signature
from penstock.wire.bedrock_converse_request import read_request
from penstock.wire.dialect import Asked
from penstock.wire.tool_ids import fitted
from wire.generated import Can, any_call

SEEDS = st.integers(0, 2**64)
CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
ASKED = Asked(CLAUDE, stream=False)
SERVICE = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))
USER = Message("user", (Text("Hi"),))
POINT = {"cachePoint": {"type": "default"}}


def call_of(content: Content, sampling: Sampling | None = None, dialect: str = "chat", **more: Any) -> Call:
    return Call(dialect, "m", sampling or Sampling(), lambda: content, **more)


def write(
    *messages: Message, sampling: Sampling | None = None, model: str = CLAUDE, **content: Any
) -> tuple[Any, tuple[str, ...]]:
    body, dropped = write_request(call_of(Content(messages or (USER,), **content), sampling), model)
    return decode(body), dropped


def said(role: Role, *parts: Part | str) -> Message:
    return Message(role, tuple(Text(part) if isinstance(part, str) else part for part in parts))


def answer(ident: str, text: str = "ok") -> Message:
    return said("tool", ToolResult(ident, (Text(text),)))


# -- turns --


def test_parallel_calls_are_answered_in_one_turn_results_first() -> None:
    body, dropped = write(
        said("system", "Be kind."),
        said("user", "a"),
        said("assistant", "Let me see.", ToolUse("t1", "f", "{}"), ToolUse("t2", "f", '{"a":1}')),
        answer("t1"),
        said("user", "by the way"),
        answer("t2"),
        said("developer", "Be brief."),
        said("assistant", "x"),
        said("assistant", "y"),
        said("user", "b"),
        tools=(Tool("f"),),
    )
    assert body["system"] == [{"text": "Be kind."}, {"text": "Be brief."}]
    assert [(turn["role"], [next(iter(block)) for block in turn["content"]]) for turn in body["messages"]] == [
        ("user", ["text"]),
        ("assistant", ["text", "toolUse", "toolUse"]),
        ("user", ["toolResult", "toolResult", "text"]),
        ("assistant", ["text", "text"]),
        ("user", ["text"]),
    ]
    assert dropped == ()


def test_what_an_answer_may_not_hold_goes_behind_all_answers_and_marks_stay_with_theirs() -> None:
    sound = Audio("YQ==", "wav")
    body, _ = write(
        said("user", "a"),
        said("assistant", ToolUse("t1", "f", "{}"), ToolUse("t2", "f", "{}")),
        said("tool", ToolResult("t1", (Text("x"), sound), cache="5m")),
        said("tool", ToolResult("t2", (sound,))),
    )
    kinds = [next(iter(block)) for block in body["messages"][2]["content"]]
    assert kinds == ["toolResult", "cachePoint", "toolResult", "audio", "audio"]


def test_turns_that_say_nothing_are_left_out_but_never_all() -> None:
    body, _ = write(said("user", "a"), said("assistant", ""), said("user", "b"))
    assert body["messages"] == [{"role": "user", "content": [{"text": "a"}, {"text": "b"}]}]
    assert write(said("user", ""))[0]["messages"] == [{"role": "user", "content": [{"text": ""}]}]


def test_a_user_asks_first_and_last() -> None:
    body, _ = write(said("assistant", "Hello."), USER)
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    body, dropped = write(USER, said("assistant", "I say: "))
    assert body["messages"][-1] == {"role": "assistant", "content": [{"text": "I say:"}]}
    assert dropped == ()
    body, dropped = write(USER, said("assistant", "I say: "), model="anthropic.claude-opus-4-6-v1")
    assert body["messages"][-1] == {"role": "user", "content": [{"text": "Continue."}]}
    assert dropped == ("prefill",)
    body, _ = write(USER, said("assistant", "I say: "), model="meta.llama3-70b-instruct-v1:0")
    assert body["messages"][-1]["content"] == [{"text": "I say: "}]
    body, _ = write(said("system", "Say hello."))
    assert body == {"messages": [{"role": "user", "content": [{"text": "Say hello."}]}]}


def test_only_users_have_pictures_and_sound() -> None:
    parts = (
        Image(data="YQ==", media_type="image/png"),
        File("n", "YQ==", "application/pdf"),
        Audio("YQ==", transcript="said"),
        Audio("YQ=="),
    )
    body, dropped = write(USER, said("assistant", *parts), USER)
    assert body["messages"][1]["content"] == [{"text": "said"}]
    assert dropped == ("audio", "file", "image")


def test_a_document_has_text_beside_it() -> None:
    document = File("a.pdf", "YQ==", "application/pdf")
    assert write(said("user", document))[0]["messages"][0]["content"][1] == {"text": "a-pdf"}
    assert len(write(said("user", "x", document))[0]["messages"][0]["content"]) == 2


def test_instructions_are_text_and_what_they_are_not_is_named() -> None:
    image, hosted = Image(data="YQ==", media_type="image/png"), Foreign("messages", "x", b"{}")
    message = Message("system", (Text("a", cache="5m"), Text(""), image, hosted), "bob", (("weight", b"1"),))
    body, dropped = write(message, USER)
    assert body["system"] == [{"text": "a"}, POINT]
    assert dropped == ("image", "name", "weight", "x")


# -- tools --


def test_tools_are_written_with_a_schema_and_fitted_names() -> None:
    body, dropped = write(
        tools=(Tool("a.b", "d", b'{"type":"object"}', strict=True, cache="1h"), Tool("g", "", None, None, (("x", b"1"),)), Foreign("chat", "custom", b"{}")),
        tool_choice=ToolChoice("named", "a.b"),
        parallel_tools=False,
    )  # fmt: skip
    name = fitted("a.b")
    assert body["toolConfig"] == {
        "tools": [
            {
                "toolSpec": {
                    "name": name,
                    "description": "d",
                    "inputSchema": {"json": {"type": "object"}},
                    "strict": True,
                }
            },
            {"cachePoint": {"type": "default", "ttl": "1h"}},
            {"toolSpec": {"name": "g", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
        ],
        "toolChoice": {"tool": {"name": name}},
    }
    assert dropped == ("parallel_tools", "tools.custom", "x")


@pytest.mark.parametrize(
    ("choice", "written", "dropped"),
    [
        (ToolChoice("auto"), {"auto": {}}, ()),
        (ToolChoice("required"), {"any": {}}, ()),
        (ToolChoice("named"), {"tool": {"name": fitted("")}}, ()),
        (ToolChoice("auto", None, (("allowed", b"1"),)), {"auto": {}}, ("allowed",)),
    ],
)
def test_the_choice_of_a_tool(choice: ToolChoice, written: object, dropped: tuple[str, ...]) -> None:
    body, named = write(tools=(Tool("f"),), tool_choice=choice)
    assert (body["toolConfig"]["toolChoice"], named) == (written, dropped)


def test_that_no_tool_may_be_used_is_said_by_having_none_as_long_as_none_was_used() -> None:
    none = ToolChoice("none")
    assert "toolConfig" not in write(tools=(Tool("f"),), tool_choice=none)[0]
    history = (said("user", "a"), said("assistant", ToolUse("t", "f", "{}")), answer("t"))
    body, dropped = write(*history, tools=(Tool("f"),), tool_choice=none)
    assert "toolChoice" not in body["toolConfig"]
    assert dropped == ("tool_choice",)


def test_tools_that_were_used_and_are_not_defined_any_more_are_defined_all_the_same() -> None:
    body, _ = write(said("user", "a"), said("assistant", ToolUse("t", "f", "{}"), ToolUse("u", "f", "{}")), answer("t"))
    assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]] == ["f"]
    assert write(answer("t"))[0]["toolConfig"]["tools"][0]["toolSpec"]["name"] == "tool"


@pytest.mark.parametrize(
    ("messages", "choice", "thinks"),
    [
        ((USER,), None, True),
        ((USER,), ToolChoice("required"), False),
        ((USER, said("assistant", "so")), None, False),
        ((USER, said("assistant", ToolUse("t", "f", "{}")), answer("t")), None, False),
        (
            (USER, said("assistant", Reasoning("h", "s", signer="anthropic"), ToolUse("t", "f", "{}")), answer("t")),
            None,
            True,
        ),
        ((USER, said("assistant", "so"), USER), ToolChoice("auto"), True),
    ],
)
def test_a_claude_thinks_only_where_it_may(
    messages: tuple[Message, ...], choice: ToolChoice | None, *, thinks: bool
) -> None:
    body, dropped = write(*messages, tools=(Tool("f"),), tool_choice=choice, thinking=Thinking(2048))
    assert ("additionalModelRequestFields" in body) is thinks
    assert ("reasoning" in dropped) is not thinks


# -- options --


def test_what_the_api_has_no_word_for_is_named() -> None:
    sampling = Sampling(
        temperature=1.5,
        top_k=5,
        seed=7,
        n=2,
        logprobs=True,
        top_logprobs=2,
        logit_bias=(("1", 1.0),),
        stop=("x", " ", ""),
    )
    body, dropped = write(
        sampling=sampling, output=OutputFormat("json"), service_tier="batch", extra=(("store", b"true"),)
    )
    assert body["inferenceConfig"] == {"temperature": 1.0, "stopSequences": ["x"]}
    assert body["additionalModelRequestFields"] == {"top_k": 5}
    assert dropped == ("logit_bias", "logprobs", "n", "output", "seed", "service_tier", "stop", "store", "temperature")


def test_what_means_the_default_is_no_loss() -> None:
    body, dropped = write(
        sampling=Sampling(n=1, logprobs=False), output=OutputFormat("text"), service_tier="auto", parallel_tools=True
    )
    assert dropped == ()
    assert list(body) == ["messages"]


def test_structured_output_effort_and_tier() -> None:
    form = OutputFormat("json_schema", "n", "d", b'{"type":"object"}', strict=True)
    body, dropped = write(
        output=form,
        service_tier="flex",
        sampling=Sampling(reasoning_effort="high"),
        model="anthropic.claude-opus-4-6-v1",
    )
    assert dropped == ()
    assert body["serviceTier"] == {"type": "flex"}
    schema = {"schema": '{"type":"object"}', "name": "n", "description": "d"}
    assert body["outputConfig"] == {
        "textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}},
        "effort": "high",
    }
    assert write(output=OutputFormat("json_schema"))[1] == ("output",)
    bare = write(output=OutputFormat("json_schema", schema=b"{}"))[0]["outputConfig"]
    assert bare["textFormat"]["structure"]["jsonSchema"] == {"schema": "{}"}


@pytest.mark.parametrize(
    ("metadata", "user", "written", "dropped"),
    [
        ((("a", "b"),), "u-1", {"a": "b", "user": "u-1"}, ()),
        ((("user", "x"),), "u-1", {"user": "x"}, ()),
        ((("h\u00e9", "b"), ("", "b"), ("c", "(d)")), None, None, ("metadata",)),
        (tuple((str(n), "x") for n in range(20)), "u", {str(n): "x" for n in range(16)}, ("metadata", "user")),
        ((), "a(b)", None, ("user",)),
    ],
)
def test_labels_go_along_as_far_as_the_api_takes_them(
    metadata: tuple[tuple[str, str], ...], user: str | None, written: object, dropped: tuple[str, ...]
) -> None:
    body, named = write_request(call_of(Content((USER,), metadata=metadata), user=user), CLAUDE)
    assert (decode(body).get("requestMetadata"), named) == (written, dropped)


# -- clients of this API --

OWN = b"""{"system": [{"text": "S"}],
 "messages": [{"role": "user", "content": [{"text": "a"}]}, {"role": "user", "content": [{"text": ""}]}],
 "inferenceConfig": {"temperature": 0.5, "newer": [1]},
 "additionalModelRequestFields": {"top_k": 5, "reasoning_config": {"type": "enabled", "budget_tokens": 1024}, "x": 1},
 "outputConfig": {"effort": "low"}}"""


def read_own(body: bytes = OWN, **changes: Any) -> Call:
    call = read_request(body, ASKED)
    return structs.replace(call, sampling=structs.replace(call.sampling, **changes), changed=tuple(changes))


def test_an_untouched_body_goes_as_it_came() -> None:
    assert splice_request(read_own()) is OWN


def test_changed_options_are_edited_into_the_bytes() -> None:
    edited = splice_request(read_own(temperature=0.0, max_tokens=7, stop=("a",)))
    assert edited is not None
    assert edited.startswith(OWN[: OWN.index(b'{"temperature')])
    assert b'"newer": [1]' in edited
    assert decode(edited)["inferenceConfig"] == {
        "temperature": 0.0,
        "newer": [1],
        "maxTokens": 7,
        "stopSequences": ["a"],
    }
    assert decode(splice_request(read_own(temperature=None)) or b"")["inferenceConfig"] == {"newer": [1]}
    plain = b'{"messages":[{"role":"user","content":[{"text":"a"}]}],"inferenceConfig":null}'
    assert decode(splice_request(read_own(plain, top_p=0.5)) or b"")["inferenceConfig"] == {"topP": 0.5}


def test_a_claude_does_not_think_in_a_round_whose_thought_had_to_be_taken_out() -> None:
    thought, use = {"reasoningContent": {"reasoningText": {"text": "h"}}}, {"toolUseId": "t", "name": "f", "input": {}}
    messages = [
        {"role": "user", "content": [{"text": "Hi"}]},
        {"role": "assistant", "content": [thought, {"toolUse": use}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"text": "r"}]}}]},
    ]
    tool = {"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}
    fields = {"thinking": {"type": "enabled", "budget_tokens": 2048}}
    raw = {"messages": messages, "toolConfig": {"tools": [tool]}, "additionalModelRequestFields": fields}
    call = read_request(encode(raw), Asked("m", stream=False))

    body, dropped = write_request(call, "anthropic.claude-x")
    assert "additionalModelRequestFields" not in decode(body)
    assert dropped == ("reasoning",)
    assert decode(write_request(call, "deepseek.r1-v1:0")[0])["additionalModelRequestFields"] == fields


def test_what_cannot_be_spliced_is_written_anew() -> None:
    assert splice_request(read_own(seed=7)) is None
    assert splice_request(read_own(temperature=1.5)) is None
    assert splice_request(structs.replace(read_own(), raw=b"")) is None
    thought = b'{"messages":[{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"h"}}}]}]}'
    assert splice_request(structs.replace(read_own(), raw=thought), "anthropic.claude-x") is None
    assert splice_request(structs.replace(read_own(), raw=thought), "deepseek.r1-v1:0") == thought
    assert splice_request(structs.replace(read_own(), dialect="chat")) is None
    assert splice_request(structs.replace(read_own(), operation="count")) is None
    carried = {"reasoningContent": {"redactedContent": write_tool_signature("t", "s", "google")}}
    call = read_own(encode({"messages": [{"role": "assistant", "content": [carried, {"text": "a"}]}]}))
    assert splice_request(call) is None
    assert decode(write_request(call, CLAUDE)[0])["messages"] == [{"role": "assistant", "content": [{"text": "a"}]}]


def test_a_clients_own_body_is_written_as_it_was() -> None:
    body, dropped = write_request(read_own(), CLAUDE)
    assert (decode(body), dropped) == (decode(OWN), ())


def test_what_the_gateway_set_is_set_and_what_it_cannot_set_is_named() -> None:
    call = read_own(top_k=9, seed=7, min_p=None, reasoning_effort="high")
    body, dropped = write_request(call, CLAUDE)
    fields = decode(body)["additionalModelRequestFields"]
    assert fields == {"top_k": 9, "reasoning_config": {"type": "enabled", "budget_tokens": 1024}, "x": 1}
    assert decode(body)["outputConfig"] == {"effort": "high"}
    assert dropped == ("seed",)
    gone = decode(write_request(read_own(top_k=None), CLAUDE)[0])["additionalModelRequestFields"]
    assert "top_k" not in gone


def test_a_tool_addition_stays_where_it_stood() -> None:
    addition = {"role": "system", "content": [{"toolAddition": {"tool": {"name": "f"}}}]}
    body = {"messages": [{"role": "user", "content": [{"text": "a"}]}, addition]}
    call = structs.replace(read_request(encode(body), ASKED), raw=b"")
    call = Call("converse", "m", Sampling(), call.read)
    assert decode(write_request(call, CLAUDE)[0]) == body


def test_a_clients_own_tools_are_written_as_they_were() -> None:
    spec = {"toolSpec": {"name": "f", "inputSchema": {"json": {}}, "newer": 1}}
    body = {**decode(OWN), "toolConfig": {"tools": [spec, {"systemTool": {"name": "s"}}], "toolChoice": {"any": {}}}}
    assert decode(write_request(read_own(encode(body)), CLAUDE)[0]) == body


def test_guarded_instructions_are_written_as_they_were() -> None:
    body = {"messages": [{"role": "user", "content": [{"text": "a"}]}], "system": [{"guardContent": {"text": {"text": "x"}}}, {"guardContent": {"image": {"format": "png", "source": {"bytes": "YQ=="}}}}]}  # fmt: skip
    assert decode(write_request(read_own(encode(body)), CLAUDE)[0]) == body


# -- counts --


def test_a_count_asks_with_what_the_model_sees() -> None:
    content = Content((said("system", "S"), USER), tools=(Tool("f"),), thinking=Thinking(2048))
    body = decode(write_count_request(call_of(content, Sampling(max_tokens=5000)), CLAUDE))
    assert set(body["input"]["converse"]) == {"messages", "system", "toolConfig", "additionalModelRequestFields"}
    shape = SERVICE.shape_for("CountTokensInput")
    assert not ParamValidator().validate(body["input"], shape).has_errors()


def test_a_count_of_a_client_of_this_api_goes_as_it_came_unless_it_must_not() -> None:
    raw = b'{"input":{"converse":{"messages":[{"role":"user","content":[{"text":"a"}]}],"additionalModelRequestFields":{"x":1}}}}'
    call = read_request(raw, Asked(CLAUDE, operation="count"))
    assert write_count_request(call, CLAUDE) is raw
    carried = {"reasoningContent": {"redactedContent": write_tool_signature("t", "s", "google")}}
    inner = {
        "messages": [{"role": "assistant", "content": [carried, {"text": "a"}]}],
        "additionalModelRequestFields": {"x": 1},
    }
    call = read_request(encode({"input": {"converse": inner}}), Asked(CLAUDE, operation="count"))
    assert decode(write_count_request(call, CLAUDE)) == {"input": {"converse": inner | {"messages": [{"role": "assistant", "content": [{"text": "a"}]}]}}}  # fmt: skip


# -- properties --


@given(SEEDS)
@settings(max_examples=500, deadline=None)
def test_whatever_another_api_asks_the_service_model_takes_the_answer(seed: int) -> None:
    rng = Random(seed)
    can = Can(
        dialect="chat",
        result_media=True,
        is_error=True,
        thinkings=(Thinking(2048), Thinking(0), Thinking(adaptive=True)),
    )
    call = any_call(rng, can)
    model = rng.choice(
        (CLAUDE, "anthropic.claude-opus-4-6-v1", "us.amazon.nova-2-lite-v1:0", "meta.llama3-70b-instruct-v1:0")
    )
    body, dropped = write_request(call, model)
    written = decode(body)
    report = ParamValidator().validate({"modelId": model, **_bytes(written)}, SERVICE.shape_for("ConverseRequest"))
    assert not report.has_errors(), report.generate_report()
    roles = [turn["role"] for turn in written["messages"]]
    assert all(a != b for a, b in pairwise(roles))
    uses = [part.id for m in call.content.messages for part in m.parts if isinstance(part, ToolUse)]
    ids = [b["toolUse"]["toolUseId"] for t in written["messages"] for b in t["content"] if "toolUse" in b]
    answers = [b["toolResult"]["toolUseId"] for t in written["messages"] for b in t["content"] if "toolResult" in b]
    assert ids == answers == uses
    assert list(dropped) == sorted(set(dropped))


def _bytes(value: Any) -> Any:
    """A body as boto3's caller has it: blobs are bytes."""
    if isinstance(value, dict):
        return {
            k: v.encode() if k in {"bytes", "redactedContent"} and isinstance(v, str) else _bytes(v)
            for k, v in value.items()
        }
    return [_bytes(item) for item in value] if isinstance(value, list) else value


@given(SEEDS)
@settings(max_examples=500, deadline=None)
def test_a_spliced_body_differs_from_the_clients_in_what_was_changed_alone(seed: int) -> None:
    rng = Random(seed)
    config = {
        name: value
        for name, value in (("temperature", 0.5), ("topP", 0.25), ("maxTokens", 9), ("x", {"a": 1}))
        if rng.random() < 0.5
    }
    members: dict[str, Any] = {
        "messages": [{"role": "user", "content": [{"text": "h\u00e9"}]}],
        "inferenceConfig": config,
        "guardrailConfig": {},
        "unknown": [1],
    }
    names = list(members)
    rng.shuffle(names)
    raw = encode({name: members[name] for name in names if name != "inferenceConfig" or rng.random() < 0.8})
    raw = raw.replace(b",", rng.choice((b",", b" ,\n ")))
    changes = {
        name: value for name, value in (("temperature", 1.0), ("max_tokens", 3), ("stop", ("z",))) if rng.random() < 0.5
    }
    spliced = splice_request(read_own(raw, **changes))
    assert spliced is not None
    before, after = decode(raw), decode(spliced)
    wire = {"temperature": "temperature", "max_tokens": "maxTokens", "stop": "stopSequences"}
    expected = before.get("inferenceConfig", {}) | {wire[n]: list(v) if n == "stop" else v for n, v in changes.items()}  # type: ignore[call-overload]
    assert after.get("inferenceConfig", {}) == expected
    assert {k: v for k, v in after.items() if k != "inferenceConfig"} == {
        k: v for k, v in before.items() if k != "inferenceConfig"
    }
    assert changes or spliced is raw

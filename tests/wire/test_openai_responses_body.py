"""Calls become bodies: what is written is read back the same, what is spliced is the client's own, what is left out is named."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.json import decode, encode

from penstock.call import Call, Content, Foreign, Message, OutputFormat, Sampling, Text, Thinking, Tool, ToolChoice
from penstock.wire.openai_responses_body import splice_request, write_count_request, write_request
from penstock.wire.openai_responses_request import read_request
from wire.responses_cases import body, fitting_call

SEEDS = st.integers(0, 2**64)
HI = (Message("user", (Text("Hi"),)),)


def a_call(content: Content, sampling: Sampling | None = None, **fields: object) -> Call:
    return Call("messages", "m", sampling or Sampling(), lambda: content, **fields)  # type: ignore[arg-type]


def written(call: Call, model: str = "m") -> tuple[dict[str, object], tuple[str, ...]]:
    data, dropped = write_request(call, model)
    return decode(data), dropped


def sorted_extra(content: Content) -> Content:
    return structs.replace(content, extra=tuple(sorted(content.extra)))


def check(seed: int) -> None:
    call = fitting_call(Random(seed))
    data, dropped = write_request(call, "m")
    assert dropped == ()
    again = read_request(data, "generate")
    assert sorted_extra(again.content) == sorted_extra(call.content)
    assert again.sampling == call.sampling
    assert (again.stream, again.user, again.model) == (call.stream, call.user, "m")
    assert decode(write_request(again, "m")[0]) == decode(data), "what was read is written the same"


@settings(max_examples=1_500, deadline=None)
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
def test_what_is_spliced_differs_in_the_edited_members_only(seed: int) -> None:
    rng = Random(seed)
    raw = write_request(fitting_call(rng), "a")[0]
    call = read_request(raw, "generate")
    assert splice_request(call, "a") is raw or b'"rs_penstock_' in raw
    changed = structs.replace(
        call,
        sampling=Sampling(temperature=0.5, max_tokens=7, reasoning_effort="high"),
        changed=("temperature", "max_tokens", "top_p", "reasoning_effort"),
    )
    data = splice_request(changed, "b")
    if data is None:
        assert b"rs_penstock_" in raw
        return
    wanted = {**decode(raw), "model": "b", "temperature": 0.5, "max_output_tokens": 7}
    wanted["reasoning"] = {**(wanted.get("reasoning") or {}), "effort": "high"}
    wanted.pop("top_p", None)
    assert decode(data) == wanted


def test_what_splicing_cannot_say_is_not_spliced() -> None:
    call = read_request(body(reasoning=None), "generate")
    assert splice_request(structs.replace(call, dialect="chat"), "m") is None
    assert splice_request(structs.replace(call, raw=b""), "m") is None
    assert splice_request(structs.replace(call, changed=("seed",)), "m") is None
    assert splice_request(structs.replace(call, changed=("n",), sampling=Sampling(n=2)), "m") is None
    assert splice_request(structs.replace(call, changed=("n",)), "gpt-5") == call.raw
    assert splice_request(structs.replace(call, read=lambda: Content(HI)), "gpt-5") == call.raw
    pinned = structs.replace(call, changed=("reasoning_effort",), sampling=Sampling(reasoning_effort="low"))
    assert decode(splice_request(pinned, "gpt-5") or b"")["reasoning"] == {"effort": "low"}


def test_a_call_of_another_dialect_is_not_stored_and_gets_its_thoughts_encrypted() -> None:
    call = a_call(Content(HI, thinking=Thinking(8_192, visible=True)), stream=True, user="u")
    out, dropped = written(call, "gpt-5")
    assert out == {
        "model": "gpt-5",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "user": "u",
        "include": ["reasoning.encrypted_content"],
    }
    assert dropped == ()
    assert "include" not in written(call, "gpt-4o")[0], "which refuses it"


def test_what_has_no_place_is_named() -> None:
    sampling = Sampling(
        temperature=1.0, top_k=3, min_p=0.1, stop=("a",), seed=1, n=2, presence_penalty=1, frequency_penalty=1,
        logit_bias=(("1", 1.0),), logprobs=True, top_logprobs=2,
    )  # fmt: skip
    tools = (
        Tool("f", cache="5m", extra=(("eager", b"1"),)),
        Foreign("messages", "computer", b"{}"),
        Foreign("chat", "custom", b'{"type":"custom","custom":{"name":7}}'),
    )
    content = Content(HI, tools, ToolChoice("auto", extra=(("one", b"true"),)), extra=(("container", b"1"),))
    out, dropped = written(a_call(content, sampling))
    assert (out["temperature"], out["top_logprobs"], out["include"]) == (1, 2, ["message.output_text.logprobs"])
    assert out["tools"] == [
        {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False}
    ]
    assert dropped == (
        *("cache", "container", "eager", "frequency_penalty", "logit_bias", "min_p", "n", "one", "presence_penalty"),
        *("seed", "stop", "tools.computer", "tools.custom", "top_k"),
    )
    assert written(a_call(Content(HI), Sampling(n=1)))[1] == ()


def test_a_custom_tool_of_the_chat_api_is_taken_over() -> None:
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}}
    for form, wanted in (
        (grammar, {"type": "grammar", "syntax": "lark", "definition": "x"}),
        ({"type": "text"}, {"type": "text"}),
    ):
        import_of = Foreign("chat", "custom", body_of({"type": "custom", "custom": {"name": "run", "format": form}}))
        out, dropped = written(a_call(Content(HI, (import_of,))))
        assert out["tools"] == [{"type": "custom", "name": "run", "format": wanted}]
        assert dropped == ()


def body_of(value: object) -> bytes:
    return encode(value)


def test_options_of_content() -> None:
    content = Content(
        HI,
        tool_choice=ToolChoice("named", "f"),
        parallel_tools=False,
        output=OutputFormat("json_schema", schema=b'{"a":1}'),
        service_tier="flex",
        metadata=(("a", "b"),),
    )
    out, _ = written(a_call(content))
    assert out["tool_choice"] == {"type": "function", "name": "f"}
    assert out["text"] == {"format": {"type": "json_schema", "name": "answer", "schema": {"a": 1}}}
    assert (out["service_tier"], out["metadata"], out["parallel_tool_calls"]) == ("flex", {"a": "b"}, False)
    for kind, name in (("text", "text"), ("json", "json_object")):
        form = OutputFormat(kind)  # type: ignore[arg-type]
        assert written(a_call(Content(HI, output=form)))[0]["text"] == {"format": {"type": name}}


def test_the_first_plain_text_of_the_system_is_the_instructions() -> None:
    messages = (Message("system", (Text("a"),)), Message("system", (Text("b"),)), *HI)
    out, _ = written(a_call(Content(messages)))
    assert out["instructions"] == "a"
    assert [item["role"] for item in out["input"]] == ["system", "user"]  # type: ignore[attr-defined]
    assert written(a_call(Content(())))[0]["input"] == []


def test_the_clients_own_words_ride_along_to_the_same_dialect() -> None:
    raw = body(
        store=True,
        truncation="disabled",
        prompt_cache_key="k",
        include=["reasoning.encrypted_content"],
        top_logprobs=1,
        tool_choice={"type": "mcp"},
        tools=[{"type": "web_search"}],
        text={"verbosity": "low"},
    )
    out, dropped = written(read_request(raw, "generate"), "gpt-5")
    assert {**out, "input": "Hi"} == {
        **decode(raw),
        "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
    }
    assert dropped == ()
    null = written(read_request(body(include=None), "generate"))[0]
    assert "include" not in null


def test_a_count_is_asked_with_what_is_counted() -> None:
    call = read_request(body(temperature=1, instructions="x", metadata={"a": "b"}), "generate")
    assert sorted(decode(write_count_request(call, "m"))) == ["input", "instructions", "model"]

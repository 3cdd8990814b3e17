"""The dialect as a whole: recorded replies against snapshots, errors in and out, token counts, and the official SDK on either side.

A reply stands in `golden/responses`; beside it what is read (`.events`) and what a client of this dialect is written of that
(`.responses`). `GOLDEN=write pytest tests/wire/test_openai_responses.py` writes the snapshots anew: look at the diff.
"""

import os
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.json import decode, encode
from openai.lib.streaming._deltas import accumulate_delta
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from penstock.call import Asked, Call, Foreign, Reasoning, Text, ToolUse
from penstock.errors import (
    InvalidRequest,
    RateLimited,
    UpstreamError,
    UpstreamGarbled,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.reply import Choice, Ended, Event, Failed, Reply, ToolUseStarted, fold, unfold
from penstock.wire.dialect import ModelRow
from penstock.wire.framing import SseReader
from penstock.wire.openai_chat import OpenAIChat
from penstock.wire.openai_responses import OpenAIResponses
from penstock.wire.openai_responses_signature import split
from wire.responses_cases import body, fitting_reply

GOLDEN = Path(__file__).parent / "golden" / "responses"
REPLIES = sorted(path for path in GOLDEN.glob("*.json") if not path.name.endswith(".request.json"))
STREAMS = sorted(GOLDEN.glob("*.sse"))
RESPONSES = OpenAIResponses()
CALL = RESPONSES.read_request(body())
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def lines(events: tuple[Event, ...]) -> str:
    shown = [
        f"Failed(error={type(e.error).__name__}({str(e.error)!r}))" if isinstance(e, Failed) else repr(e)
        for e in events
    ]
    return "\n".join(shown) + "\n"


def same(path: Path, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    if os.environ.get("GOLDEN") == "write":
        path.write_bytes(data)
    assert path.read_bytes() == data, f"{path.name} differs; if that is meant: GOLDEN=write"


def streamed(raw: bytes, cuts: list[int]) -> tuple[str, bytes]:
    reader = RESPONSES.stream_reader()
    events: tuple[Event, ...] = ()
    passed = b""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        events += reader.feed(raw[start:end])
        passed += reader.passed
    events += reader.end()
    return lines(events), passed + reader.passed


def read(raw: bytes) -> tuple[Event, ...]:
    reader = RESPONSES.stream_reader()
    return (*reader.feed(raw), *reader.end())


def compact(part: object) -> object:
    """A part with its JSON written without spaces."""
    if isinstance(part, Foreign):
        return structs.replace(part, json=encode(decode(part.json)))
    if isinstance(part, Text):
        citations = [structs.replace(c, native=encode(decode(c.native))) for c in part.citations]
        return structs.replace(part, citations=tuple(citations))
    return part


def nameless(part: object) -> object:
    """A thought without the id of its item, which comes too late in a stream."""
    return structs.replace(part, signature=split(part.signature or "")[1]) if isinstance(part, Reasoning) else part


# -- recorded replies --


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_a_recorded_reply_is_read_and_written(path: Path) -> None:
    Response.model_validate(decode(path.read_bytes()), strict=False)
    events = RESPONSES.read_reply(path.read_bytes())
    same(path.with_suffix(".json.events"), lines(events))
    if isinstance(events[-2], Failed):
        return
    written = RESPONSES.write_reply(fold(events), CALL)
    same(path.with_suffix(".json.responses"), written + b"\n")
    Response.model_validate(decode(written), strict=False)
    again = fold(RESPONSES.read_reply(written))
    assert (again.choices, again.usage, again.id) == (fold(events).choices, fold(events).usage, fold(events).id)


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_recorded_stream_is_read_and_written(path: Path) -> None:
    raw = path.read_bytes()
    events = read(raw)
    same(path.with_suffix(".sse.events"), lines(events))
    written = RESPONSES.stream_writer(CALL).send(events)
    same(path.with_suffix(".sse.responses"), written)
    numbers = []
    for frame in SseReader().feed(written):
        event = decode(frame.data)
        EVENT.validate_python(event, strict=False)
        assert event["type"] == frame.event
        numbers.append(event["sequence_number"])
    assert numbers == list(range(len(numbers)))
    if not isinstance(events[-1], Failed):
        again, first = fold(read(written)), fold(events)
        assert [nameless(part) for part in again.choices[0].parts] == [
            nameless(part) for part in first.choices[0].parts
        ]
        assert (again.choices[0].finish, again.usage, again.id) == (first.choices[0].finish, first.usage, first.id)


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_recorded_stream_is_the_same_at_every_byte_split(path: Path) -> None:
    raw = path.read_bytes()
    whole = streamed(raw, [])
    assert streamed(raw, list(range(1, len(raw)))) == whole
    for cut in range(1, len(raw), 13):
        assert streamed(raw, [cut]) == whole
    if "Failed" not in whole[0]:
        assert whole[1] == raw


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_streams_and_replies_of_the_same_answer_say_the_same(path: Path) -> None:
    whole, stream = fold(RESPONSES.read_reply(path.read_bytes())), fold(read(path.with_suffix(".sse").read_bytes()))
    if whole.error is None:
        assert [compact(part) for part in stream.choices[0].parts] == [compact(part) for part in whole.choices[0].parts]
    assert [(c.finish, c.native_finish, c.logprobs) for c in stream.choices] == [
        (c.finish, c.native_finish, c.logprobs) for c in whole.choices
    ]
    assert (stream.usage, str(stream.error)) == (whole.usage, str(whole.error))


def test_a_recorded_request_goes_both_ways() -> None:
    raw = (GOLDEN / "agent.request.json").read_bytes()
    call = RESPONSES.read_request(raw)
    assert (call.feature, call.stream, call.stream_usage, call.native) == (
        "demo",
        True,
        True,
        ("file_id", "web_search"),
    )
    assert call.input_bound is None
    written, dropped = RESPONSES.write_request(call, "gpt-5")
    assert dropped == ()
    again = RESPONSES.read_request(written)
    assert (again.content, again.sampling) == (call.content, call.sampling)
    ours, theirs = decode(written), decode(raw)
    assert {name for name in theirs if ours.get(name) != theirs[name]} == {"input"}, "but for ids and the usual type"
    spliced = RESPONSES.splice(call, "o4")
    assert spliced == raw.replace(b'"gpt-5"', b'"o4"', 1)
    chat, _ = OpenAIChat().write_request(call, "m")
    roles = [turn["role"] for turn in decode(chat)["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "tool", "user", "assistant", "user"], "a picture goes after"


# -- the dialect's verbs --


def test_a_count_is_asked_and_answered() -> None:
    asked = RESPONSES.read_request(encode({"model": "gpt-5", "instructions": "x"}), Asked(operation="count"))
    assert asked.operation == "count"
    call = RESPONSES.read_request(body(temperature=1, stream=True, max_output_tokens=5, tools=[]))
    assert decode(RESPONSES.write_count_request(call, "m") or b"") == {
        "model": "m",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
    }
    assert RESPONSES.write_count(7) == b'{"object":"response.input_tokens","input_tokens":7}'
    assert RESPONSES.read_count(RESPONSES.write_count(7)) == 7
    for raw in (b"", b"{}", b'{"input_tokens":"7"}', b"[" * 9_999):
        with pytest.raises(UpstreamGarbled):
            RESPONSES.read_count(raw)


def test_models_are_listed_as_the_chat_api_lists_them() -> None:
    assert RESPONSES.write_models([ModelRow("a")]) == OpenAIChat().write_models([ModelRow("a")])
    assert RESPONSES.write_model(ModelRow("a")) == OpenAIChat().write_model(ModelRow("a"))
    assert (RESPONSES.name, RESPONSES.stream_type) == ("responses", b"text/event-stream")


def test_errors_are_those_of_openai() -> None:
    raw = b'{"error":{"message":"Unknown parameter: \'x\'.","type":"invalid_request_error","param":"x","code":null}}'
    error = RESPONSES.read_error(400, raw)
    assert isinstance(error, UpstreamRejected)
    assert RESPONSES.write_error(error) == raw
    assert OpenAIChat().write_error(error) == raw
    assert RESPONSES.error_headers(error) == ()
    assert isinstance(RESPONSES.read_error(429, b"slow down"), UpstreamRateLimited)
    assert decode(RESPONSES.write_error(RateLimited("Too many.")))["error"]["type"] == "rate_limit_error"
    error.dialect = "messages"
    assert decode(RESPONSES.write_error(error))["error"]["code"] == "upstream_rejected"


# -- other families' signatures --


def test_signatures_of_every_family_come_back_from_a_client_whole() -> None:
    for seed in range(300):
        reply = fitting_reply(Random(seed))
        said = decode(RESPONSES.write_reply(reply, CALL))["output"]
        results = [
            {"type": f"{item['type']}_output", "call_id": item["call_id"], "output": "ok"}
            for item in said
            if item["type"] in {"function_call", "custom_tool_call"}
        ]
        call = RESPONSES.read_request(body(input=[{"role": "user", "content": "x"}, *said, *results]))
        parts = [part for message in call.content.messages if message.role == "assistant" for part in message.parts]
        wanted = [part for part in reply.choices[0].parts if getattr(part, "signature", None)]
        assert [part for part in parts if getattr(part, "signature", None)] == wanted
        if any(getattr(part, "signer", "") in {"anthropic", "google"} for part in wanted):
            assert RESPONSES.splice(call, "gpt-5") is None, "OpenAI would refuse what another family signed"
        sent, dropped = RESPONSES.write_request(call, "gpt-5")
        assert b"penstock." not in sent
        foreign = [p for p in wanted if not isinstance(p, ToolUse) and p.signer in {"anthropic", "google"}]  # type: ignore[union-attr]
        assert ("reasoning" in dropped) is (
            bool(foreign) or any(type(p).__name__ == "Reasoning" and not p.signature for p in parts)
        )  # type: ignore[union-attr]


# -- the official SDK --


def client(answer: Any) -> openai.OpenAI:
    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    return openai.OpenAI(api_key="x", base_url="http://127.0.0.1/v1", http_client=http, max_retries=0)


def stream_of(events: tuple[Event, ...], call: Call) -> httpx2.Response:
    written = RESPONSES.stream_writer(call).send(events)
    return httpx2.Response(200, content=written, headers={"content-type": "text/event-stream"})


def test_the_official_sdk_is_understood_and_takes_a_whole_reply_and_a_stream() -> None:
    calls: list[Call] = []
    tools = fold(RESPONSES.read_reply((GOLDEN / "tools.json").read_bytes()))

    def answer(asked: httpx2.Request) -> httpx2.Response:
        call = RESPONSES.read_request(asked.content)
        calls.append(call)
        if call.stream:
            return stream_of(unfold(tools), call)
        data = RESPONSES.write_reply(tools, call)
        return httpx2.Response(200, content=data, headers={"content-type": "application/json"})

    sdk = client(answer)
    made = sdk.responses.create(
        model="gpt-5",
        input="Weather?",
        instructions="Be brief.",
        tools=[{"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": True}],
        text={"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}},
        metadata={"feature": "f"},
    )
    assert [item.type for item in made.output] == ["reasoning", "function_call", "function_call"]
    assert (made.status, made.store, made.instructions, made.metadata) == (
        "completed",
        False,
        "Be brief.",
        {"feature": "f"},
    )  # type: ignore[attr-defined]
    again: Any = [{"role": "user", "content": "Weather?"}, *made.output]
    again += [{"type": "function_call_output", "call_id": i.call_id, "output": "1"} for i in made.output[1:]]  # type: ignore[union-attr]
    with sdk.responses.stream(model="gpt-5", input=again) as stream:
        types = [event.type for event in stream]
        final = stream.get_final_response()
    assert types[0] == "response.created"
    assert types[-1] == "response.completed"
    assert [item.type for item in final.output] == ["reasoning", "function_call", "function_call"]
    assert [m.role for m in calls[1].content.messages] == ["user", "assistant", "tool", "tool"]
    assert calls[1].content.messages[1].parts == tools.choices[0].parts


def test_the_official_sdk_raises_for_an_error_in_the_stream() -> None:
    events = (ToolUseStarted(0, "c", "f"), Failed(UpstreamRateLimited("Slow down.")), Ended())
    sdk = client(lambda asked: stream_of(events, RESPONSES.read_request(asked.content)))
    with pytest.raises(openai.APIError, match="Slow down"):
        list(sdk.responses.create(model="gpt-5", input="x", stream=True))


def test_the_official_sdk_counts() -> None:
    def answer(asked: httpx2.Request) -> httpx2.Response:
        assert RESPONSES.read_request(asked.content, Asked(operation="count")).operation == "count"
        return httpx2.Response(200, content=RESPONSES.write_count(5), headers={"content-type": "application/json"})

    assert client(answer).responses.input_tokens.count(model="gpt-5", input="x").input_tokens == 5


@settings(max_examples=2_000, deadline=None)
@given(
    data=st.one_of(st.binary(max_size=60), st.text('{}[]":,\\ud8errormsagcoti 012', max_size=60).map(str.encode)),
    status=st.integers(100, 599),
)
def test_any_bytes_give_only_the_declared_errors(data: bytes, status: int) -> None:
    for verb, declared in (
        (RESPONSES.read_request, InvalidRequest),
        (RESPONSES.read_reply, UpstreamGarbled),
        (RESPONSES.tap_reply, UpstreamGarbled),
    ):
        with suppress(declared):
            verb(data)
    assert isinstance(RESPONSES.read_error(status, data), UpstreamError)
    assert isinstance(read(data)[-1], Failed | Ended)


PIECES = (b"null", b"[]", b"{}", b'"x"', b"7", b"\xff", b'"type":"', b"[{", b"true", b'{"type":"reasoning"}')


@settings(max_examples=1_500, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_damaged_recordings_give_only_the_declared_errors(seed: int) -> None:
    rng = Random(seed)
    paths = [*REPLIES, *STREAMS, GOLDEN / "agent.request.json"]
    path = rng.choice(paths)
    data = bytearray(path.read_bytes())
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data))
        data[at : at + rng.randrange(30)] = rng.choice(PIECES)
    raw = bytes(data)
    if path.suffix == ".sse":
        events = read(raw)
        assert sum(isinstance(event, Failed | Ended) for event in events) == 1
        RESPONSES.stream_writer(CALL).send(events)
    elif path.name.endswith(".request.json"):
        with suppress(InvalidRequest):
            call = RESPONSES.read_request(raw)
            RESPONSES.write_request(call, "m")
            OpenAIChat().write_request(structs.replace(call), "m")
    else:
        with suppress(UpstreamGarbled):
            RESPONSES.write_reply(fold(RESPONSES.read_reply(raw)), CALL)


# -- agents --


def parts_of_turn(turn: int, family: str) -> tuple[Any, ...]:
    signature = f"rs_{turn}:sig" if family == "openai" else f"sig{turn}"
    tools = tuple(
        ToolUse(
            f"call_{turn}_{n}",
            "f",
            f'{{"n":{n}}}',
            signature=f"tool{turn}{n}" if family == "google" else None,
            signer="google" if family == "google" else "",
        )
        for n in range(2)
    )
    return Reasoning(f"thought {turn}", signature, signer=family), Text(f"said {turn}"), *tools  # type: ignore[arg-type]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("family", ["anthropic", "google", "openai"])
def test_a_conversation_of_ten_turns_loses_no_call_result_or_signature(family: str, streamed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    chat = OpenAIChat()
    items: list[Any] = [{"role": "user", "content": "go"}]
    messages: list[Any] = [{"role": "user", "content": "go"}]
    wanted: list[tuple[Any, ...]] = []
    for turn in range(10):
        asked = RESPONSES.read_request(body(input=items, stream=streamed))
        spoken = chat.read_request(encode({"model": "m", "messages": messages, "stream": streamed}))
        for call in (asked, spoken):
            assert [m.parts for m in call.content.messages if m.role == "assistant"] == wanted
        parts = parts_of_turn(turn, family)
        reply = Reply(f"id{turn}", "m", choices=(Choice(parts, "tool_calls"),), ended=True)
        wanted.append(parts)
        if streamed:
            frames = SseReader().feed(RESPONSES.stream_writer(asked).send(unfold(reply)))
            items += decode(frames[-1].data)["response"]["output"]
            said: dict[Any, Any] = {}
            for frame in SseReader().feed(chat.stream_writer(spoken).send(unfold(reply)))[:-1]:
                for choice in decode(frame.data)["choices"]:
                    said = accumulate_delta(said, choice["delta"])
            messages.append(said)
        else:
            items += decode(RESPONSES.write_reply(reply, asked))["output"]
            messages.append(decode(chat.write_reply(reply, spoken))["choices"][0]["message"])
        for tool in parts[2:]:
            items.append({"type": "function_call_output", "call_id": tool.id, "output": "ok"})
            messages.append({"role": "tool", "tool_call_id": tool.id, "content": "ok"})
        for call in messages[-3].get("tool_calls", ()):
            call.pop("index", None)  # as it stands in the pieces only

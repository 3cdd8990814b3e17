"""The whole dialect: what it writes it reads back, what boto3 sends it reads, and what it writes boto3 takes."""

import os
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any
from urllib.parse import unquote

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.json import decode, encode

from penstock.call import Citation, Content, File, Foreign, Image, Part, Reasoning, Text, Thinking, ToolResult, ToolUse
from penstock.errors import InvalidRequest, NotFound, Overloaded, RateLimited, UpstreamFailed, UpstreamGarbled
from penstock.receipt import Usage
from penstock.reply import Choice, Ended, Failed, Reply, Started, TextDelta, fold, unfold
from penstock.wire.bedrock_converse import BedrockConverse
from penstock.wire.dialect import Asked, Dialect, ModelRow
from wire.generated import Can, any_call, any_reply

SEEDS = st.integers(0, 2**64)
CONVERSE = BedrockConverse()
GOLDEN = Path(__file__).parent / "golden" / "converse"
MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
UNSIGNED = "deepseek.r1-v1:0"
"""A model whose thoughts have no signature."""
CITATION = Citation(
    "https://example.com/a", "A", "quoted", 0, 1, None, None, "converse",
    b'{"title":"A","sourceContent":[{"text":"quoted"}],"location":{"web":{"url":"https://example.com/a"}}}',
)  # fmt: skip
CAN = Can(
    dialect="converse",
    system="first",
    developer=False,
    names=False,
    results="together",
    results_role="user",
    result_media=True,
    is_error=True,
    after_results=True,
    images=("data",),
    detail=False,
    audio_formats=("wav", "mp3"),
    files=("data",),
    file_types=("application/pdf", "text/csv", "video/mp4"),
    refusal=False,
    custom_tools=False,
    raw_arguments=False,
    signers=("", "anthropic"),
    tool_signers=(),
    foreign=(Foreign("converse", "searchResult", b'{"searchResult":{"source":"s","title":"t","content":[{"text":"x"}]}}'),),
    tool_schema_needed=True,
    foreign_tools=(Foreign("converse", "systemTool", b'{"systemTool":{"name":"nova_grounding"}}'),),
    tool_choices=("auto", "required", "named"),
    parallel_tools=False,
    outputs=("json_schema",),
    thinkings=(Thinking(2000), Thinking(0), Thinking(4000, visible=True), Thinking(None, visible=False, adaptive=True)),
    service_tiers=("default", "flex", "priority"),
    extra=(
        ("guardrailConfig", b'{"guardrailIdentifier":"g","guardrailVersion":"1"}'),
        ("performanceConfig", b'{"latency":"optimized"}'),
        ("additionalModelResponseFieldPaths", b'["/stop_sequence"]'),
        ("additionalModelRequestFields", b'{"anthropic_beta":["x"]}'),
        ("inferenceConfig", b'{"newer":1}'),
    ),
    sampling=frozenset({"temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed", "presence_penalty", "reasoning_effort"}),
    max_temperature=1.0,
    user=False,
    ids=False,
    created=False,
    fingerprint=False,
    choices=False,
    reply_audio=False,
    reply_custom_tools=False,
    reply_images=("data",),
    foreign_reply=(
        Foreign("converse", "toolUse", b'{"toolUse":{"toolUseId":"s1","name":"web","type":"server_tool_use","input":{"q":"x"}}}'),
        Foreign("converse", "toolResult", b'{"toolResult":{"toolUseId":"s1","type":"web_result","content":[{"text":"found"}]}}'),
    ),
    foreign_deltas=(
        ("metrics", b'{"latencyMs":12}'),
        ("trace", b'{"promptRouter":{"invokedModelId":"m"}}'),
        ("performanceConfig", b'{"latency":"standard"}'),
        ("additionalModelResponseFields", b'{"stop_sequence":"x"}'),
    ),
    interleaved=True,
    endings=(
        ("stop", "end_turn"),
        ("stop", "stop_sequence"),
        ("length", "max_tokens"),
        ("length", "model_context_window_exceeded"),
        ("tool_calls", "tool_use"),
        ("content_filter", "guardrail_intervened"),
        ("content_filter", "content_filtered"),
        ("error", "malformed_model_output"),
        ("error", "malformed_tool_use"),
    ),
    logprobs=False,
    refusal_logprobs=False,
    usage=frozenset({"input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "cache_write_1h_tokens"}),
)  # fmt: skip


def asked(*, stream: bool = False) -> Asked:
    return Asked(MODEL, stream)


def test_it_is_a_dialect() -> None:
    speaks: Dialect = CONVERSE
    assert speaks.name == "converse"
    assert speaks.stream_type == b"application/vnd.amazon.eventstream"


# -- round trips --


def comparable(content: Content) -> Content:
    """Content with what an order or a spelling of no meaning is in left out."""
    tools = tuple(structs.replace(t, extra=()) if not isinstance(t, Foreign) else t for t in content.tools)
    output = None if content.output is None else structs.replace(content.output, strict=None)
    choice = content.tool_choice if content.tools else None
    messages = tuple(structs.replace(m, parts=tuple(map(as_said, m.parts))) for m in content.messages)
    extra = tuple(sorted(content.extra))
    return structs.replace(content, messages=messages, tools=tools, output=output, tool_choice=choice, extra=extra)


def as_said(part: Part) -> Part:
    """A part as the API can say it: marks behind whole results, films without a name, text as long as its source says."""
    if isinstance(part, ToolResult):
        inner = [p.cache for p in part.parts if isinstance(p, Text | Image | File) and p.cache]
        parts = tuple(structs.replace(p, cache=None) if isinstance(p, Text | Image | File) else p for p in part.parts)
        return structs.replace(part, parts=parts, cache=part.cache or next(iter(inner), None))
    if isinstance(part, File) and part.media_type == "video/mp4":
        return structs.replace(part, name=None)
    return part


@given(SEEDS)
@settings(max_examples=1000, deadline=None)
def test_a_request_that_is_written_reads_back_the_same(seed: int) -> None:
    rng = Random(seed)
    for _ in range(10):
        call = any_call(rng, structs.replace(CAN, empty_text=False))
        body, dropped = CONVERSE.write_request(call, UNSIGNED)
        assert set(dropped) <= {"output"}
        again = CONVERSE.read_request(body, asked(stream=call.stream))
        assert again.sampling == call.sampling
        assert again.stream == call.stream
        assert comparable(again.content) == comparable(call.content)
        assert CONVERSE.splice(again, UNSIGNED) == body


def of_a_stream(reply: Reply) -> Reply:
    """A reply as a stream can say it: the tier comes after everything else, as a member of no neutral form."""
    return structs.replace(reply, service_tier=None)


@given(SEEDS)
@settings(max_examples=500, deadline=None)
def test_a_reply_that_is_written_reads_back_the_same(seed: int) -> None:
    rng = Random(seed)
    for _ in range(10):
        reply = structs.replace(any_reply(rng, structs.replace(CAN, citations=())), model="")
        body = CONVERSE.write_reply(reply, None)  # type: ignore[arg-type]  # the call is not looked at
        again = fold(CONVERSE.read_reply(body))
        foreign = [one for one in again.choices[0].foreign if (one.name, one.json) != ("metrics", b'{"latencyMs":0}')]
        choice = structs.replace(again.choices[0], foreign=tuple(foreign))
        assert sorted(foreign, key=str) == sorted(reply.choices[0].foreign, key=str)
        assert structs.replace(choice, foreign=reply.choices[0].foreign) == reply.choices[0]
        assert structs.replace(again, choices=reply.choices) == reply


@given(SEEDS)
@settings(max_examples=500, deadline=None)
def test_a_stream_that_is_written_reads_back_the_same_at_any_split(seed: int) -> None:
    rng = Random(seed)
    for _ in range(10):
        reply = of_a_stream(structs.replace(any_reply(rng, CAN, streamed=True), model=""))
        raw = CONVERSE.stream_writer(None).send(unfold(reply))  # type: ignore[arg-type]  # the call is not looked at
        cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.randrange(4)))
        reader = CONVERSE.stream_reader()
        events = [event for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) for event in reader.feed(raw[a:b])]
        events += reader.end()
        again = fold(events)
        kept = [one for one in again.choices[0].foreign if (one.name, one.json) != ("metrics", b'{"latencyMs":0}')]
        ours, theirs = again.choices[0], reply.choices[0]
        assert sorted(kept, key=str) == sorted(theirs.foreign, key=str)
        assert unplaced(ours.parts) == unplaced(theirs.parts)
        assert (ours.finish, ours.native_finish) == (theirs.finish, theirs.native_finish)
        assert structs.replace(again, choices=reply.choices) == reply


def unplaced(parts: tuple[Any, ...]) -> list[Any]:
    """Parts, with citations that stand for the whole text before them, as a stream has them."""
    return [
        structs.replace(part, citations=tuple(structs.replace(c, start=0, end=0) for c in part.citations))
        if hasattr(part, "citations")
        else part
        for part in parts
    ]


# -- boto3, unchanged --


class Answer:
    """What the server answers next, and what it was asked last."""

    status = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body = b"{}"
    kind = b"application/json"
    path = ""
    asked = b""


@pytest.fixture(scope="module")
def answer() -> Iterator[tuple[Answer, Any]]:
    """A loopback server, and a client of it with made-up keys."""
    said = Answer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            said.path = self.path
            said.asked = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(said.status)
            for name, value in (*said.headers, (b"content-type", said.kind)):
                self.send_header(name.decode(), value.decode())
            self.send_header("content-length", str(len(said.body)))
            self.end_headers()
            self.wfile.write(said.body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        client = boto3.Session().client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=f"http://127.0.0.1:{server.server_port}",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )
        yield said, client
        client.close()
        server.shutdown()
        thread.join()


def say(said: Answer, body: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    said.body, said.status, said.headers = body, status, headers
    said.kind = b"application/json"


MESSAGES = [{"role": "user", "content": [{"text": "Hi"}]}]


def test_boto3_takes_a_whole_reply(answer: tuple[Answer, Any]) -> None:
    said, client = answer
    rng = Random(7)
    for _ in range(40):
        reply = any_reply(rng, CAN)
        say(said, CONVERSE.write_reply(reply, None))  # type: ignore[arg-type]  # the call is not looked at
        got = client.converse(modelId=MODEL, messages=MESSAGES)
        assert got["stopReason"] == reply.choices[0].native_finish
        assert got["usage"]["totalTokens"] == reply.usage.input_tokens + reply.usage.output_tokens  # type: ignore[union-attr]
        texts = [block["text"] for block in got["output"]["message"]["content"] if "text" in block]
        assert "".join(texts) == reply.choices[0].text
        assert isinstance(got["metrics"]["latencyMs"], int)


def test_boto3_takes_a_stream(answer: tuple[Answer, Any]) -> None:
    said, client = answer
    rng = Random(8)
    for _ in range(40):
        reply = any_reply(rng, CAN, streamed=True)
        say(said, CONVERSE.stream_writer(None).send(unfold(reply)))  # type: ignore[arg-type]  # the call is not looked at
        said.kind = CONVERSE.stream_type
        events = list(client.converse_stream(modelId=MODEL, messages=MESSAGES)["stream"])
        names = [next(iter(event)) for event in events]
        assert names[0] == "messageStart"
        assert names[-2:] == ["messageStop", "metadata"]
        assert "SDK_UNKNOWN_MEMBER" not in names
        deltas = [event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event]
        assert "".join(delta.get("text", "") for delta in deltas) == reply.choices[0].text
        opened = [e["contentBlockStop"]["contentBlockIndex"] for e in events if "contentBlockStop" in e]
        assert opened == list(range(len(opened)))


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (InvalidRequest("Wrong.", hint="Right it."), "ValidationException", 400),
        (NotFound("No."), "ResourceNotFoundException", 404),
        (RateLimited("Slower."), "ThrottlingException", 429),
        (Overloaded("Busy."), "ServiceUnavailableException", 503),
        (UpstreamFailed("Broken.", status=500), "InternalServerException", 500),
        (UpstreamFailed("Broken.", status=424), "ModelErrorException", 424),
        (UpstreamFailed("Late.", status=408), "ModelTimeoutException", 408),
        (InvalidRequest("Not yours.", status=403), "AccessDeniedException", 403),
    ],
)
def test_boto3_raises_the_exception_that_an_error_is(
    answer: tuple[Answer, Any], error: Any, kind: str, status: int
) -> None:
    said, client = answer
    say(said, CONVERSE.write_error(error), error.status, CONVERSE.error_headers(error))
    with pytest.raises(ClientError) as caught:
        client.converse(modelId=MODEL, messages=MESSAGES)
    assert type(caught.value).__name__ == kind
    assert caught.value.response["Error"] == {"Code": kind, "Message": str(error)}
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("Wrong."), "validationException"),
        (RateLimited("Slower."), "throttlingException"),
        (Overloaded("Busy."), "serviceUnavailableException"),
        (UpstreamGarbled("Torn."), "modelStreamErrorException"),
        (InvalidRequest("Ours.", status=500), "internalServerException"),
    ],
)
def test_boto3_raises_what_ends_a_stream(answer: tuple[Answer, Any], error: Any, kind: str) -> None:
    said, client = answer
    writer = CONVERSE.stream_writer(None)  # type: ignore[arg-type]  # the call is not looked at
    say(said, writer.send((Started(), TextDelta("Hel"))) + writer.send((Failed(error),)))
    said.kind = CONVERSE.stream_type
    stream = client.converse_stream(modelId=MODEL, messages=MESSAGES)["stream"]
    seen = []
    with pytest.raises(EventStreamError, match=f"{kind}.*{error.message}"):
        seen += list(stream)
    reader = CONVERSE.stream_reader()
    *before, last = reader.feed(said.body)
    assert before == [Started(), TextDelta("Hel")]
    assert isinstance(last, Failed)
    assert error.message in str(last.error)
    assert said.body.startswith(reader.passed)
    assert b"exception" not in reader.passed


def test_boto3_takes_a_count(answer: tuple[Answer, Any]) -> None:
    said, client = answer
    say(said, CONVERSE.write_count(17))
    asked_for = {"converse": {"messages": MESSAGES, "system": [{"text": "Be kind."}]}}
    assert client.count_tokens(modelId=MODEL, input=asked_for)["inputTokens"] == 17
    call = CONVERSE.read_request(said.asked, Asked(MODEL, operation="count"))
    assert [message.role for message in call.content.messages] == ["system", "user"]
    assert CONVERSE.write_count_request(call, MODEL) == said.asked
    assert CONVERSE.read_count(said.body) == 17
    client.count_tokens(modelId=MODEL, input={"invokeModel": {"body": b"{}"}})
    call = CONVERSE.read_request(said.asked, Asked(MODEL, operation="count"))
    assert call.native == ("invokeModel",)
    assert CONVERSE.write_count_request(call, MODEL) == said.asked


EVERYTHING: dict[str, Any] = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"text": "Look"},
                {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}},
                {"image": {"format": "webp", "source": {"s3Location": {"uri": "s3://bucket/a.webp", "bucketOwner": "123456789012"}}}},
                {"document": {"format": "pdf", "name": "A report", "source": {"bytes": b"%PDF"}, "context": "x", "citations": {"enabled": True}}},
                {"document": {"name": "Notes", "source": {"text": "plain words"}}},
                {"document": {"format": "txt", "name": "More", "source": {"content": [{"text": "a"}, {"text": "b"}]}}},
                {"document": {"format": "md", "name": "Far", "source": {"s3Location": {"uri": "s3://bucket/a.md"}}}},
                {"video": {"format": "three_gp", "source": {"s3Location": {"uri": "s3://bucket/a.3gp"}}}},
                {"video": {"format": "mp4", "source": {"bytes": b"mp4"}}},
                {"audio": {"format": "mp3", "source": {"bytes": b"mp3"}}},
                {"audio": {"format": "wav", "source": {"s3Location": {"uri": "s3://bucket/a.wav"}}}},
                {"guardContent": {"text": {"text": "careful", "qualifiers": ["query"]}}},
                {"guardContent": {"image": {"format": "jpeg", "source": {"bytes": b"jpeg"}}}},
                {"searchResult": {"source": "s", "title": "t", "content": [{"text": "x"}]}},
                {"cachePoint": {"type": "default"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": b"secret"}},
                {"citationsContent": {"content": [{"text": "It says"}], "citations": [{"title": "A report", "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}}}]}},
                {"toolUse": {"toolUseId": "t:1", "name": "look", "input": {"at": [1, 2.5, None, True, "\u2028"]}}},
                {"toolUse": {"toolUseId": "s1", "name": "web", "input": {"q": "x"}, "type": "server_tool_use"}},
                {"toolResult": {"toolUseId": "s1", "content": [{"text": "found"}], "type": "web_result"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "toolResult": {
                        "toolUseId": "t:1",
                        "status": "error",
                        "content": [
                            {"text": "a"},
                            {"json": {"b": 1}},
                            {"image": {"format": "gif", "source": {"bytes": b"gif"}}},
                            {"document": {"format": "csv", "name": "c", "source": {"bytes": b"1,2"}}},
                            {"video": {"format": "mkv", "source": {"bytes": b"mkv"}}},
                            {"searchResult": {"source": "s", "title": "t", "content": [{"text": "x"}]}},
                        ],
                    }
                },
                {"cachePoint": {"type": "default", "ttl": "1h"}},
            ],
        },
        {"role": "system", "content": [{"toolAddition": {"tool": {"name": "look"}}}]},
        {"role": "user", "content": [{"text": "And?"}]},
    ],
    "system": [{"text": "Be kind."}, {"cachePoint": {"type": "default"}}, {"guardContent": {"text": {"text": "Be careful."}}}],
    "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
    "toolConfig": {
        "tools": [
            {"toolSpec": {"name": "look", "description": "Looks.", "inputSchema": {"json": {"type": "object"}}, "strict": True}},
            {"cachePoint": {"type": "default", "ttl": "5m"}},
            {"systemTool": {"name": "nova_grounding"}},
        ],
        "toolChoice": {"tool": {"name": "look"}},
    },
    "guardrailConfig": {"guardrailIdentifier": "g1", "guardrailVersion": "1", "trace": "enabled"},
    "additionalModelRequestFields": {"top_k": 40, "thinking": {"type": "enabled", "budget_tokens": 2048}, "anthropic_beta": ["x"]},
    "promptVariables": {"a": {"text": "b"}},
    "additionalModelResponseFieldPaths": ["/stop_sequence"],
    "requestMetadata": {"feature": "f", "session": "s", "user": "u", "job": "nightly"},
    "performanceConfig": {"latency": "optimized"},
    "serviceTier": {"type": "flex"},
    "outputConfig": {
        "textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": '{"type":"object"}', "name": "n", "description": "d"}}},
        "effort": "high",
    },
}  # fmt: skip


def test_everything_that_boto3_can_send_is_read_and_written_back(answer: tuple[Answer, Any]) -> None:
    said, client = answer
    say(said, CONVERSE.write_reply(Reply(), None))  # type: ignore[arg-type]  # the call is not looked at
    model = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    client.converse(modelId=model, **EVERYTHING)
    call = CONVERSE.read_request(said.asked, Asked(unquote(said.path.split("/")[2]), stream=False))
    assert call.model == model
    recorded, read = GOLDEN / "everything.request.json", GOLDEN / "everything.request.json.content"
    content = "".join(f"{name}: {getattr(call.content, name)!r}\n" for name in Content.__struct_fields__)
    if os.environ.get("UPDATE"):
        recorded.write_bytes(said.asked)
        read.write_text(content)
    assert decode(said.asked) == decode(recorded.read_bytes())
    assert content == read.read_text()
    assert (call.feature, call.session, call.user) == ("f", "s", "u")
    assert set(call.native) == {
        *("s3Location", "searchResult", "toolUse", "toolResult", "toolAddition", "systemTool", "guardrailConfig", "promptVariables")
    }  # fmt: skip
    assert call.input_bound is None
    assert CONVERSE.splice(call, model) == said.asked
    body, dropped = CONVERSE.write_request(call, model)
    assert dropped == ()
    ours, theirs = decode(body), decode(said.asked)
    answered = theirs["messages"][2]["content"][0]["toolResult"]["content"]
    answered[1] = {"text": '{"b": 1}'}  # the one change of form: JSON is text to everybody else
    assert theirs["toolConfig"]["tools"][1]["cachePoint"].pop("ttl") == "5m"  # which is what it means by itself
    assert ours == theirs


@pytest.mark.parametrize("streamed", [False, True])
def test_ten_turns_of_tools_of_another_family_lose_no_call_result_or_signature(
    answer: tuple[Answer, Any], *, streamed: bool
) -> None:
    said, client = answer
    conversation: list[Any] = [{"role": "user", "content": [{"text": "Go."}]}]
    sent: list[Part] = []
    for turn in range(10):
        parts: list[Part] = [
            Reasoning(f"thought {turn}", f"rs_{turn}:\u00e9", signer="openai"),
            Text(f"turn {turn}"),
            *(ToolUse(f"call_{turn}_{n}", "f", f'{{"n":{n}}}', signature=f"sig{turn}{n}==", signer="google") for n in range(3)),
        ]  # fmt: skip
        reply = Reply(choices=(Choice(tuple(parts), "tool_calls"),), usage=Usage(1, 1), ended=True)
        if streamed:
            say(said, CONVERSE.stream_writer(None).send(unfold(reply)))  # type: ignore[arg-type]  # not looked at
            said.kind = CONVERSE.stream_type
            content = collected(client.converse_stream(modelId=MODEL, messages=conversation)["stream"])
        else:
            say(said, CONVERSE.write_reply(reply, None))  # type: ignore[arg-type]  # the call is not looked at
            content = client.converse(modelId=MODEL, messages=conversation)["output"]["message"]["content"]
        uses = [block["toolUse"] for block in content if "toolUse" in block]
        results = [{"toolResult": {"toolUseId": use["toolUseId"], "content": [{"json": use["input"]}]}} for use in uses]
        conversation += [{"role": "assistant", "content": content}, {"role": "user", "content": results}]
        sent += [*parts, *(ToolResult(use["toolUseId"], (Text(f'{{"n": {n}}}'),)) for n, use in enumerate(uses))]
    say(said, CONVERSE.write_reply(Reply(), None))  # type: ignore[arg-type]  # the call is not looked at
    client.converse(modelId=MODEL, messages=conversation)
    read = CONVERSE.read_request(said.asked, asked()).content
    got = [part for message in read.messages[1:] for part in message.parts]
    assert [plain(part) for part in got] == [plain(part) for part in sent]


def plain(part: Part) -> Part:
    """A tool call without the blanks of its arguments, which boto3 writes anew."""
    return structs.replace(part, arguments=part.arguments.replace(" ", "")) if isinstance(part, ToolUse) else part


def collected(stream: Any) -> list[Any]:
    """The blocks of a stream, put together as the user guide shows it."""
    blocks: dict[int, Any] = {}
    texts: dict[int, str] = {}
    for event in stream:
        for name, payload in event.items():
            index = payload.get("contentBlockIndex")
            if name == "contentBlockStart":
                blocks[index] = {"toolUse": dict(payload["start"]["toolUse"])}
            elif name == "contentBlockDelta":
                delta = payload["delta"]
                if "toolUse" in delta:
                    texts[index] = texts.get(index, "") + delta["toolUse"]["input"]
                    blocks[index]["toolUse"]["input"] = decode(texts[index]) if texts[index].endswith("}") else {}
                elif "redactedContent" in delta.get("reasoningContent", {}):
                    blocks[index] = {"reasoningContent": delta["reasoningContent"]}
                elif "reasoningContent" in delta:
                    block = blocks.setdefault(index, {"reasoningContent": {"reasoningText": {"text": ""}}})
                    block["reasoningContent"]["reasoningText"] |= delta["reasoningContent"]
                else:
                    blocks.setdefault(index, {"text": ""})["text"] += delta["text"]
    return [block for _, block in sorted(blocks.items())]


# -- counts and models --


@pytest.mark.parametrize("body", [b"", b"{}", b'{"inputTokens":-1}', b'{"inputTokens":"x"}', b"[" * 5000, b"\xff"])
def test_a_count_that_is_none_is_garbled(body: bytes) -> None:
    with pytest.raises(UpstreamGarbled):
        CONVERSE.read_count(body)


def test_lists_of_models_are_those_of_the_control_plane() -> None:
    service = ServiceModel(Loader().load_service_model("bedrock", "service-2"))
    parser = create_parser("rest-json")
    rows = [ModelRow("fast", input_tokens=5), ModelRow("openai/gpt-5", "openai")]
    for body, operation, member in (
        (CONVERSE.write_models(rows), "ListFoundationModels", "modelSummaries"),
        (CONVERSE.write_model(rows[0]), "GetFoundationModel", "modelDetails"),
    ):
        shape = service.operation_model(operation).output_shape
        got = parser.parse({"status_code": 200, "headers": {}, "body": body}, shape)[member]
        first = got[0] if isinstance(got, list) else got
        assert first["modelId"] == "fast"
        assert first["modelArn"].startswith("arn:aws:bedrock:")


# -- whatever the bytes --


@given(SEEDS)
@settings(max_examples=300, deadline=None)
def test_mutated_bodies_and_streams_raise_nothing_else(seed: int) -> None:
    rng = Random(seed)
    call, reply = any_call(rng, CAN), any_reply(rng, CAN)
    bodies = [
        CONVERSE.write_request(call, MODEL)[0],
        CONVERSE.write_reply(reply, call),
        CONVERSE.stream_writer(call).send(unfold(reply)),
        encode({"input": {"converse": {}}}),
        rng.randbytes(40),
    ]
    for body in bodies:
        torn = bytearray(body)
        for _ in range(rng.randrange(1, 6)):
            place = rng.randrange(len(torn))
            torn[place : place + rng.randrange(3)] = rng.choice((b"", b"null", b"{", b'"', b"\xff", b"[]", b"9"))
            torn += b" "
        take(bytes(torn))


def take(data: bytes) -> None:
    for form in (asked(), Asked(MODEL, operation="count")):
        try:
            call = CONVERSE.read_request(data, form)
        except InvalidRequest:
            continue
        assert call.content is not None
        CONVERSE.write_request(call, MODEL)
        CONVERSE.write_count_request(call, MODEL)
    for read in (CONVERSE.read_reply, CONVERSE.tap_reply, CONVERSE.read_count):
        with suppress(UpstreamGarbled):
            read(data)
    for status in (400, 403, 404, 424, 429, 500):
        CONVERSE.read_error(status, data)
    reader = CONVERSE.stream_reader()
    events = [*reader.feed(data), *reader.end()]
    assert isinstance(events[-1], Failed | Ended)

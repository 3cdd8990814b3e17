"""The dialect as a whole: hand-made replies and requests against snapshots, errors in and out, lists, and the official SDK.

A reply stands in `golden/ollama` as a server sends it; beside it what is read (`.events`) and what a client of this dialect
is written of that (`.ollama`). `GOLDEN=write pytest tests/wire/test_ollama.py` writes the snapshots anew: look at the diff.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import ollama
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode, encode
from msgspec.structs import replace
from ollama import ChatResponse, GenerateResponse, ListResponse, ShowResponse

from penstock.call import Call, Foreign, Image, Reasoning, Text, Thinking, ToolResult, ToolUse
from penstock.errors import (
    BudgetExhausted,
    InvalidRequest,
    Overloaded,
    PenstockError,
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.receipt import Usage
from penstock.reply import (
    Choice,
    Ended,
    Event,
    Failed,
    Finished,
    Logprob,
    PartAdded,
    Reply,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    fold,
    unfold,
)
from penstock.wire.dialect import Asked, ModelRow
from penstock.wire.ollama import Ollama
from penstock.wire.ollama_embeddings import OllamaEmbeddings
from penstock.wire.provider_error import MAX_SHOWN_BYTES

GOLDEN = Path(__file__).parent / "golden" / "ollama"
REPLIES = sorted(path for path in GOLDEN.glob("*.json") if not path.name.endswith((".request.json", ".error.json")))
STREAMS = sorted(GOLDEN.glob("*.ndjson"))
REQUESTS = sorted(GOLDEN.glob("*.request.json"))
ERRORS = sorted(GOLDEN.glob("*.error.json"))
OLLAMA = Ollama()
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CHAT = OLLAMA.read_request(b'{"model":"fast","messages":[{"role":"user","content":"Hi"}]}')
GENERATE = OLLAMA.read_request(b'{"model":"fast","prompt":"Hi"}', Asked(form="generate"))


def call_for(path: Path) -> Call:
    return GENERATE if "generate" in path.name else CHAT


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
    reader = OLLAMA.stream_reader()
    events: tuple[Event, ...] = ()
    passed = b""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        events += reader.feed(raw[start:end])
        passed += reader.passed
    events += reader.end()
    return lines(events), passed + reader.passed


def whole(raw: bytes) -> tuple[Event, ...]:
    reader = OLLAMA.stream_reader()
    return (*reader.feed(raw), *reader.end())


# -- recorded replies --


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_a_recorded_reply_is_read_and_written(path: Path) -> None:
    events = OLLAMA.read_reply(path.read_bytes())
    same(path.with_suffix(".json.events"), lines(events))
    if isinstance(events[0], Failed):
        return
    written = OLLAMA.write_reply(fold(events), call_for(path))
    same(path.with_suffix(".json.ollama"), written + b"\n")
    kind = GenerateResponse if "generate" in path.name else ChatResponse
    assert kind(**decode(written)).model == "fast"
    again, first = fold(OLLAMA.read_reply(written)), fold(events)
    assert (again.usage, again.created) == (first.usage, first.created)
    if path.stem != "old":  # whose server gave no reason, where we give one
        assert again.choices == first.choices


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_the_tap_agrees_with_the_reader(path: Path) -> None:
    events, tapped = OLLAMA.read_reply(path.read_bytes()), OLLAMA.tap_reply(path.read_bytes())
    assert fold(tapped).usage == fold(events).usage
    assert [e for e in tapped if isinstance(e, Finished)] == [e for e in events if isinstance(e, Finished)]
    assert [type(e) for e in tapped if isinstance(e, Started | Ended)] == [
        type(e) for e in events if isinstance(e, Started | Ended)
    ]


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_recorded_stream_is_read_and_written(path: Path) -> None:
    events = whole(path.read_bytes())
    same(path.with_suffix(".ndjson.events"), lines(events))
    written = OLLAMA.stream_writer(call_for(path)).send(events)
    same(path.with_suffix(".ndjson.ollama"), written)
    kind = GenerateResponse if "generate" in path.name else ChatResponse
    for line in written.decode().splitlines():  # as the SDK's httpx does
        assert "error" in decode(line) or kind(**decode(line)).model == "fast"
    again = fold(whole(written))
    assert (again.choices, again.usage) == (fold(events).choices, fold(events).usage)


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_recorded_stream_is_the_same_at_every_byte_split(path: Path) -> None:
    raw = path.read_bytes()
    said = streamed(raw, [])
    assert streamed(raw, list(range(1, len(raw)))) == said
    for cut in range(1, len(raw)):
        assert streamed(raw, [cut]) == said
    if "Failed" not in said[0]:
        assert said[1] == raw.rstrip(b"\n") + b"\n"


def test_streams_and_replies_of_the_same_answer_say_the_same() -> None:
    for name in ("parallel_tools", "empty"):
        stream, reply = (
            fold(whole((GOLDEN / f"{name}.ndjson").read_bytes())),
            fold(OLLAMA.read_reply((GOLDEN / f"{name}.json").read_bytes())),
        )
        tools = [[part for part in of.choices[0].parts if isinstance(part, ToolUse)] for of in (stream, reply)]
        assert [(use.name, use.arguments, use.id) for use in tools[0]] == [
            (use.name, use.arguments, use.id) for use in tools[1]
        ]
        assert stream.choices[0].finish == reply.choices[0].finish


# -- recorded requests --


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.name.split(".")[0])
def test_a_recorded_request_is_read_and_written(path: Path) -> None:
    raw = path.read_bytes()
    call = OLLAMA.read_request(raw, Asked(form="generate" if "generate" in path.name else "chat"))
    shown = f"{call.form} stream={call.stream} native={call.native} text={call.input_bound is not None}\n{call.sampling!r}\n"
    shown += "".join(f"{message!r}\n" for message in call.content.messages)
    content = call.content
    shown += f"{content.tools!r}\n{content.output!r}\n{content.thinking!r}\n{content.extra!r}\n"
    same(path.with_suffix(".call"), shown)
    written, dropped = OLLAMA.write_request(call, "other")
    same(path.with_suffix(".out"), written + b"\n" + repr(dropped).encode() + b"\n")
    again = OLLAMA.read_request(written, Asked(form=call.form))
    assert (again.sampling, again.stream, again.form) == (call.sampling, call.stream, call.form)
    if not dropped:  # a result without the name of its tool is given it
        named = [replace(message, name=None) for message in again.content.messages]
        assert named == [replace(message, name=None) for message in call.content.messages]
        assert replace(again.content, messages=()) == replace(call.content, messages=())
    assert decode(OLLAMA.splice(call, "other") or b"") == {**decode(raw), "model": "other"}


# -- the dialect's verbs --


def test_it_says_its_name_and_how_it_streams() -> None:
    assert (OLLAMA.name, OLLAMA.stream_type, OLLAMA.error_headers(InvalidRequest("x"))) == (
        "ollama",
        b"application/x-ndjson",
        (),
    )
    assert OLLAMA.stream_writer(CHAT).content_type == b"application/x-ndjson"


def test_it_counts_nothing() -> None:
    assert OLLAMA.write_count_request(CHAT, "x") is None
    assert OLLAMA.write_count(7) == b'{"prompt_eval_count":7}'
    with pytest.raises(UpstreamGarbled):
        OLLAMA.read_count(b"{}")


def test_the_models_are_listed_as_ollama_lists_them() -> None:
    listed = decode(OLLAMA.write_models([ModelRow("fast"), ModelRow("openai/gpt-4o", "openai", 1_700_000_000)]))
    models = ListResponse(**listed).models
    assert [model.model for model in models] == ["fast", "openai/gpt-4o"]
    assert [model["name"] for model in listed["models"]] == ["fast", "openai/gpt-4o"]
    assert models[1].modified_at is not None
    assert models[1].modified_at.timestamp() == 1_700_000_000


def test_a_model_is_shown_with_its_window() -> None:
    shown = ShowResponse(**decode(OLLAMA.write_model(ModelRow("fast", input_tokens=8192))))
    assert shown.modelinfo is not None
    assert shown.modelinfo["penstock.context_length"] == 8192
    assert shown.capabilities == ["completion"]
    assert b"context_length" not in OLLAMA.write_model(ModelRow("fast"))


# -- errors --

KINDS = {
    "404_model": UpstreamMissing,
    "400_tools": UpstreamRejected,
    "400_context": UpstreamRejected,
    "400_think": UpstreamRejected,
    "401_signin": UpstreamAuth,
    "429_usage": UpstreamRateLimited,
    "500_runner": UpstreamFailed,
    "500_plain": UpstreamFailed,
    "503_busy": UpstreamOverloaded,
}


@pytest.mark.parametrize("path", ERRORS, ids=lambda path: path.stem)
def test_a_recorded_error_is_classified(path: Path) -> None:
    name = path.name.removesuffix(".error.json")
    raw = path.read_bytes()
    error = OLLAMA.read_error(int(name[:3]), raw)
    assert type(error) is KINDS[name]
    assert "c3NoLWVk" not in str(error)
    if isinstance(error, UpstreamRejected):
        assert (error.body, error.dialect, OLLAMA.write_error(error)) == (raw, "ollama", raw)
    else:
        assert error.body == b""
        assert decode(OLLAMA.write_error(error)) == {"error": str(error)}


def test_an_overflow_says_so() -> None:
    error = OLLAMA.read_error(400, (GOLDEN / "400_context.error.json").read_bytes())
    assert "does not fit" in str(error)


@pytest.mark.parametrize(
    "raw",
    [b"", b"<html>", b'{"error":{"message":"x"}}', b'{"error":"\xff"}', b'{"error":"key sk-abcdefgh12345678 is bad"}',
     b'{"error":"' + b"x " * MAX_SHOWN_BYTES + b'"}', b'{"error":"x","deep":' + b"[" * 5_000],
)  # fmt: skip
def test_a_body_that_may_not_be_shown_is_replaced(raw: bytes) -> None:
    error = OLLAMA.read_error(400, raw)
    assert error.body == b""
    assert "sk-abcdefgh" not in decode(OLLAMA.write_error(error))["error"]


@settings(max_examples=1_000, deadline=None)
@given(
    data=st.one_of(
        st.binary(max_size=80),
        st.text('{}[]":,\\ud8errormsagcodnti \n012', max_size=80).map(str.encode),
        st.sampled_from([path.read_bytes() for path in (*REPLIES, *STREAMS, *REQUESTS)]).flatmap(
            lambda raw: st.tuples(st.integers(0, len(raw)), st.binary(max_size=4), st.integers(0, 9)).map(
                lambda cut: raw[: cut[0]] + cut[1] + raw[cut[0] + cut[2] :]
            )
        ),
    ),
    status=st.integers(100, 599),
    form=st.sampled_from(["", "chat", "generate"]),
)
def test_any_bytes_give_only_the_declared_errors(data: bytes, status: int, form: str) -> None:
    with suppress(InvalidRequest):
        call = OLLAMA.read_request(data, Asked(form=form))
        OLLAMA.write_request(call, "x")
        OLLAMA.splice(call, "x")
    for verb in (OLLAMA.read_reply, OLLAMA.tap_reply):
        with suppress(UpstreamGarbled):
            OLLAMA.write_reply(fold(verb(data)), CHAT)
    assert isinstance(OLLAMA.read_error(status, data), UpstreamError)
    events = whole(data)
    assert isinstance(events[-1], Failed | Ended)
    for call in (CHAT, GENERATE):
        written = OLLAMA.stream_writer(call).send(events)
        assert all(decode(line) for line in written.decode().splitlines())


# -- the official SDK as client --

ANSWERS: dict[str, Reply | PenstockError] = {
    "text": Reply(choices=(Choice((Text("a\u2028b\x85c"),), "stop"),), usage=Usage(3, 4), created=1_700_000_000),
    "tools": Reply(
        choices=(
            Choice((Text("Ok."), ToolUse("call_1", "f", '{"x":1}'), ToolUse("call_2", "g", "not json")), "tool_calls"),
        ),
    ),
    "thinking": Reply(choices=(Choice((Reasoning("Hm.", "c2ln", signer="anthropic"), Text("Yes.")), "stop"),)),
    "logprobs": Reply(choices=(Choice((Text("a"),), "length", logprobs=(Logprob("a", -0.5, (97,)),)),)),
    "image": Reply(choices=(Choice((Text("See:"), Image(data=PIXEL, media_type="image/png")), "stop"),)),
    "broke": BudgetExhausted("The budget is spent.", hint="Ask for more."),
    "busy": Overloaded("Too much to do."),
}


class Gateway(BaseHTTPRequestHandler):
    """As much of a server as the SDK needs: it reads with the dialect, and answers what the model's name says."""

    server: "Server"

    def do_GET(self) -> None:
        self._answer(200, b"application/json", OLLAMA.write_models([ModelRow("text", created=1_700_000_000)]))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        form = self.path.rpartition("/")[2]
        if form in {"embed", "embeddings"}:
            self.server.calls.append(OllamaEmbeddings().read_request(body, Asked(form=form)))
            reply = Reply(usage=Usage(5), embeddings=((0.5, -1.0), (1.5, 2.0)))
            self._answer(200, b"application/json", OllamaEmbeddings().write_reply(reply, self.server.calls[-1]))
            return
        if form == "show":
            self._answer(200, b"application/json", OLLAMA.write_model(ModelRow("text", input_tokens=4096)))
            return
        call = OLLAMA.read_request(body, Asked(form=form))
        self.server.calls.append(call)
        self.server.bodies.append(body)
        answer = ANSWERS[call.model]
        if isinstance(answer, PenstockError) and not call.stream:
            self._answer(answer.status, b"application/json", OLLAMA.write_error(answer))
        elif isinstance(answer, PenstockError):
            writer = OLLAMA.stream_writer(call)
            stream = writer.send((Started(), TextDelta("Be"))) + writer.send((Failed(answer),))
            self._answer(200, writer.content_type, stream)
        elif call.stream:
            writer = OLLAMA.stream_writer(call)
            events = (*unfold(answer), Ended())
            self._answer(200, writer.content_type, b"".join(writer.send((event,)) for event in events))
        else:
            self._answer(200, b"application/json", OLLAMA.write_reply(answer, call))

    def _answer(self, status: int, kind: bytes, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind.decode())
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Say nothing."""


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Gateway)
        self.calls: list[Call] = []
        self.bodies: list[bytes] = []


@contextmanager
def serving() -> Iterator[tuple[ollama.Client, Server]]:
    server = Server()
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    client = ollama.Client(host=f"http://127.0.0.1:{server.server_address[1]}", trust_env=False)
    try:
        yield client, server
    finally:
        client.close()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def sdk() -> Iterator[tuple[ollama.Client, Server]]:
    with serving() as both:
        yield both


USER = [{"role": "user", "content": "Hi"}]


def test_the_sdk_chats(sdk: tuple[ollama.Client, Server]) -> None:
    client, server = sdk
    reply = client.chat("text", USER, options={"temperature": 0.5, "num_ctx": 4096, "stop": ["x"]}, keep_alive="5m")
    assert (reply.message.content, reply.done_reason, reply.model) == ("a\u2028b\x85c", "stop", "text")
    assert (reply.prompt_eval_count, reply.eval_count) == (3, 4)
    assert reply.created_at == "2023-11-14T22:13:20Z"
    call = server.calls[-1]
    assert (call.stream, call.sampling.temperature, call.sampling.stop) == (False, 0.5, ("x",))
    assert call.content.extra == (("keep_alive", b'"5m"'), ("options.num_ctx", b"4096"))


def test_the_sdk_streams_a_chat_with_line_separators_in_it(sdk: tuple[ollama.Client, Server]) -> None:
    client, server = sdk
    parts = list(client.chat("text", USER, stream=True))
    assert "".join(part.message.content or "" for part in parts) == "a\u2028b\x85c"
    assert [part.done for part in parts] == [False, True]
    assert (parts[-1].done_reason, parts[-1].eval_count) == ("stop", 4)
    assert server.calls[-1].stream


@pytest.mark.parametrize("stream", [False, True])
def test_the_sdk_generates(sdk: tuple[ollama.Client, Server], stream: bool) -> None:  # noqa: FBT001 - a parameter of the test
    client, server = sdk
    reply: Any = client.generate(
        "text", "Hi", system="Be brief.", images=[PIXEL], format="json", think=True, stream=stream
    )
    parts = list(reply) if stream else [reply]
    assert "".join(part.response for part in parts) == "a\u2028b\x85c"
    assert (parts[-1].done, parts[-1].eval_count) == (True, 4)
    call = server.calls[-1]
    assert (call.form, call.native, call.input_bound) == ("generate", (), None)
    assert [message.role for message in call.content.messages] == ["system", "user"]
    assert call.content.messages[1].parts[1] == Image(data=PIXEL, media_type="image/png")
    assert call.content.thinking == Thinking(visible=True, adaptive=True)


def weather(city: str) -> str:
    """Tell the weather.

    Args:
      city: Where

    Returns:
      str: the weather
    """
    return city


@pytest.mark.parametrize("stream", [False, True])
def test_the_sdk_calls_tools_and_sends_their_results_back(sdk: tuple[ollama.Client, Server], stream: bool) -> None:  # noqa: FBT001 - a parameter of the test
    client, server = sdk
    reply: Any = client.chat("tools", USER, tools=[weather], stream=stream)
    message = next(part for part in reply if part.message.tool_calls).message if stream else reply.message
    assert [(call.function.name, call.function.arguments) for call in message.tool_calls] == [
        ("f", {"x": 1}),
        ("g", {"arguments": "not json"}),
    ]
    assert server.calls[-1].content.tools[0].name == "weather"  # type: ignore[union-attr]  # a function, as was sent
    results = [
        {"role": "tool", "tool_name": "g", "content": "2"},
        {"role": "tool", "tool_name": "f", "content": "1"},
    ]
    client.chat("text", [*USER, message, *results])
    turns = server.calls[-1].content.messages
    uses = {part.name: part.id for part in turns[1].parts if isinstance(part, ToolUse)}
    answered = [part for turn in turns[2:] for part in turn.parts if isinstance(part, ToolResult)]
    assert [result.id for result in answered] == [uses["g"], uses["f"]]
    assert uses["f"] != uses["g"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_sdk_shows_thoughts_and_sends_them_back(sdk: tuple[ollama.Client, Server], stream: bool) -> None:  # noqa: FBT001 - a parameter of the test
    client, server = sdk
    reply: Any = client.chat("thinking", USER, think="low", stream=stream)
    parts = list(reply) if stream else [reply]
    assert "".join(part.message.thinking or "" for part in parts) == "Hm."
    assert server.calls[-1].sampling.reasoning_effort == "low"
    client.chat("text", [*USER, {"role": "assistant", "content": "Yes.", "thinking": "Hm."}])
    assert server.calls[-1].content.messages[1].parts == (Reasoning("Hm."), Text("Yes."))


@pytest.mark.parametrize("stream", [False, True])
def test_the_sdk_reads_log_probabilities_and_pictures(sdk: tuple[ollama.Client, Server], stream: bool) -> None:  # noqa: FBT001 - a parameter of the test
    client, server = sdk
    reply: Any = client.chat("logprobs", USER, logprobs=True, top_logprobs=2, stream=stream)
    told = [part.logprobs for part in (reply if stream else [reply]) if part.logprobs]
    assert [(token.token, token.logprob) for token in told[0]] == [("a", -0.5)]
    assert (server.calls[-1].sampling.logprobs, server.calls[-1].sampling.top_logprobs) == (True, 2)
    reply = client.chat("image", USER, stream=stream)
    assert next(iter(reply if stream else [reply])).message.content == "See:"
    reply = client.generate("image", "Draw.", stream=stream)
    assert [part.image for part in (reply if stream else [reply]) if part.image] == [PIXEL]


def test_the_sdk_sends_pictures_and_schemas(sdk: tuple[ollama.Client, Server]) -> None:
    client, server = sdk
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    client.chat("text", [{"role": "user", "content": "?", "images": [b"\x89PNG\r\n\x1a\n\x00\x00"]}], format=schema)
    call = server.calls[-1]
    assert call.content.messages[0].parts == (Text("?"), Image(data="iVBORw0KGgoAAA==", media_type="image/png"))
    assert call.content.output is not None
    assert decode(call.content.output.schema or b"") == schema
    assert decode(OLLAMA.splice(call, "m") or b"") == {**decode(server.bodies[-1]), "model": "m"}


def test_the_sdk_raises_errors_with_their_status(sdk: tuple[ollama.Client, Server]) -> None:
    client, _ = sdk
    for name, status, text in (("broke", 402, "The budget is spent. Ask for more."), ("busy", 503, "Too much to do.")):
        with pytest.raises(ollama.ResponseError) as caught:
            client.chat(name, USER)
        assert (caught.value.status_code, caught.value.error) == (status, text)


def test_the_sdk_raises_an_error_within_a_stream(sdk: tuple[ollama.Client, Server]) -> None:
    client, _ = sdk
    parts = client.chat("broke", USER, stream=True)
    assert next(parts).message.content == "Be"
    with pytest.raises(ollama.ResponseError, match="The budget is spent"):
        next(parts)


def test_the_sdk_lists_and_shows_models(sdk: tuple[ollama.Client, Server]) -> None:
    client, _ = sdk
    assert [model.model for model in client.list().models] == ["text"]
    assert client.show("text").modelinfo == {
        "general.architecture": "penstock",
        "general.basename": "text",
        "penstock.context_length": 4096,
    }


def test_the_sdk_embeds(sdk: tuple[ollama.Client, Server]) -> None:
    client, server = sdk
    reply = client.embed("e", ["a", "b"], dimensions=2, truncate=True)
    assert reply.embeddings == [[0.5, -1.0], [1.5, 2.0]]
    assert (reply.model, reply.prompt_eval_count) == ("e", 5)
    embed = server.calls[-1].content.embed
    assert embed is not None
    assert (embed.inputs, embed.dimensions) == (("a", "b"), 2)
    assert client.embeddings("e", "a").embedding == [0.5, -1.0]


# -- conversations through several families --


def test_ten_turns_with_parallel_tools_lose_nothing() -> None:
    """A client that sends messages back as it got them keeps ids, signatures and the order of results."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Go"}]
    expected: list[object] = []
    for turn in range(10):
        thought = Reasoning(f"Thought {turn}.", f"sig{turn}", signer="anthropic")
        uses = tuple(
            ToolUse(f"toolu_{turn}_{n}", "f", f'{{"n":{n}}}', signature=f"t{turn}{n}", signer="google") for n in (0, 1)
        )
        answer = Reply(choices=(Choice((thought, Text(f"Turn {turn}."), *uses), "tool_calls"),), ended=True)
        if turn % 2:
            message = decode(OLLAMA.write_reply(answer, CHAT))["message"]
        else:
            message = merged(OLLAMA.stream_writer(CHAT).send(unfold(answer)))
        messages.append(message)
        messages += [{"role": "tool", "tool_name": "f", "content": str(n)} for n in (0, 1)]
        expected += [(thought, Text(f"Turn {turn}."), *uses)]
        expected += [(ToolResult(use.id, (Text(str(n)),)),) for n, use in enumerate(uses)]
    call = OLLAMA.read_request(encode({"model": "m", "messages": messages}))
    assert [message.parts for message in call.content.messages[1:]] == expected


def merged(stream: bytes) -> dict[str, Any]:
    """Put the message of a stream together as a client does that keeps all members."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    for line in stream.splitlines():
        for name, value in decode(line)["message"].items():
            if name in {"content", "thinking"}:
                message[name] = message.get(name, "") + value
            elif name != "role":
                message.setdefault(name, []).extend(value)
    return message


def test_what_only_other_dialects_know_is_left_out_of_a_reply() -> None:
    events: tuple[Event, ...] = (
        Started(),
        TextDelta("a"),
        TextDelta("second", 1),
        ToolUseStarted(0, "x", "f", choice=1),
        ToolUseDelta(0, "{}", 1),
        PartAdded(Foreign("messages", "server_tool_use", b"{}")),
        Finished("stop", "end_turn"),
        Ended(),
    )
    written = OLLAMA.stream_writer(CHAT).send(events)
    assert [decode(line)["message"]["content"] for line in written.splitlines()] == ["a", ""]
    assert decode(OLLAMA.write_reply(fold(events), CHAT))["message"] == {"role": "assistant", "content": "a"}

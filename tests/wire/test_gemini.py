"""The dialect as a whole: recorded replies against snapshots, Google's own SDK on both sides, counts, models, any bytes.

See `golden/generate/README.md` for the recordings. `GOLDEN=write pytest tests/wire/test_gemini.py` writes the snapshots anew.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from random import Random
from threading import Thread

import pytest
from google import genai
from google.genai import errors, types
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.json import decode, encode

from penstock.call import (
    Call,
    Embed,
    Image,
    Reasoning,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.errors import InvalidRequest, RateLimited, UpstreamError, UpstreamGarbled, UpstreamOverloaded
from penstock.receipt import Usage
from penstock.reply import (
    Choice,
    Ended,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    Reply,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
    fold,
)
from penstock.wire.dialect import Asked, ModelRow
from penstock.wire.framing import SseReader
from penstock.wire.gemini import Gemini
from penstock.wire.gemini_embeddings import GeminiEmbeddings

GOLDEN = Path(__file__).parent / "golden" / "generate"
REPLIES = sorted(path for path in GOLDEN.glob("*.json") if not path.name.endswith(".request.json"))
STREAMS = sorted(GOLDEN.glob("*.sse"))
REQUESTS = sorted(GOLDEN.glob("*.request.json"))
GEMINI = Gemini()
ASKED = Asked(model="gemini-2.5-flash")
STREAMED = Asked(model="gemini-2.5-flash", stream=True, form="sse")
HI = b'{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}'
CALL = GEMINI.read_request(HI, ASKED)


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


def parsed(json: bytes) -> types.GenerateContentResponse:
    """Read a reply with Google's own types, which forbid members that they do not know."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return types.GenerateContentResponse.model_validate(decode(json))


def events_of(raw: bytes, cuts: list[int]) -> tuple[str, bytes]:
    reader = GEMINI.stream_reader()
    events: tuple[Event, ...] = ()
    passed = b""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        events += reader.feed(raw[start:end])
        passed += reader.passed
    events += reader.end()
    return lines(events), passed + reader.passed


# -- recordings --


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_a_recorded_reply_is_read_and_written(path: Path) -> None:
    events = GEMINI.read_reply(path.read_bytes())
    same(path.with_suffix(".json.events"), lines(events))
    if isinstance(events[0], Failed):
        return
    written = GEMINI.write_reply(fold(events), CALL)
    same(path.with_suffix(".json.generate"), written + b"\n")
    if path.stem != "newer":
        parsed(written)
    assert fold(GEMINI.read_reply(written)) == fold(events)


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_the_tap_of_a_recorded_reply_agrees_with_its_reader(path: Path) -> None:
    whole, tapped = (fold(read(path.read_bytes())) for read in (GEMINI.read_reply, GEMINI.tap_reply))
    assert (tapped.id, tapped.model, tapped.usage) == (whole.id, whole.model, whole.usage)
    assert [choice.finish for choice in tapped.choices] == [choice.finish for choice in whole.choices]


@pytest.mark.parametrize("form", ["sse", "array"])
@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_recorded_stream_is_read_and_written(path: Path, form: str) -> None:
    raw = path.read_bytes()
    reader = GEMINI.stream_reader()
    events = (*reader.feed(raw), *reader.end())
    same(path.with_suffix(".sse.events"), lines(events))
    call = GEMINI.read_request(HI, Asked(model="m", stream=True, form=form))
    writer = GEMINI.stream_writer(call)
    written = b"".join(writer.send([event]) for event in events)
    if form == "array":
        assert writer.content_type.startswith(b"application/json")
        chunks = [encode(chunk) for chunk in decode(written)]
        written = b"".join(b"data: %b\n\n" % chunk for chunk in chunks)
    else:
        same(path.with_suffix(".sse.generate"), written)
        chunks = [frame.data for frame in SseReader().feed(written)]
    for chunk in chunks:
        if path.stem != "newer" and not chunk.startswith(b'{"error":'):
            parsed(chunk)
    again = GEMINI.stream_reader()
    reread, first = fold((*again.feed(written), *again.end())), fold(events)
    if first.error is not None:
        assert reread.error is not None
        return
    assert (reread.usage, reread.id, reread.model) == (first.usage, first.id, first.model)
    if form == "sse":
        assert reread.choices == first.choices
    else:
        assert [(one.text, one.finish) for one in reread.choices] == [(one.text, one.finish) for one in first.choices]


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_recorded_stream_is_the_same_at_every_byte_split(path: Path) -> None:
    raw = path.read_bytes()
    whole = events_of(raw, [])
    assert events_of(raw, list(range(1, len(raw)))) == whole
    for cut in range(1, len(raw)):
        assert events_of(raw, [cut]) == whole
    if "Failed" not in whole[0]:
        assert whole[1] == raw


def test_streams_and_replies_of_the_same_answer_say_the_same() -> None:
    for name in ("image", "grounded", "audio"):
        reader = GEMINI.stream_reader()
        stream = fold((*reader.feed((GOLDEN / f"{name}.sse").read_bytes()), *reader.end())).choices[0]
        whole = fold(GEMINI.read_reply((GOLDEN / f"{name}.json").read_bytes())).choices[0]
        assert (len(stream.parts), stream.finish) == (len(whole.parts), whole.finish)
        assert name == "image" or stream.parts == whole.parts


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
def test_a_recorded_request_is_read_and_written(path: Path) -> None:
    call = GEMINI.read_request(encode(decode(path.read_bytes())), ASKED)
    content = call.content
    shown = [repr(call.sampling), repr(call.native), *map(repr, content.messages)]
    shown += [f"{name}={getattr(content, name)!r}" for name in content.__struct_fields__ if name != "messages"]
    same(path.with_suffix(".content"), "\n".join(shown) + "\n")
    written, dropped = GEMINI.write_request(call, "gemini-2.5-flash")
    same(path.with_suffix(".generate"), written + b"\n")
    assert dropped == ()
    again = GEMINI.read_request(written, ASKED)
    assert (again.content, again.sampling, again.native) == (content, call.sampling, call.native)


# -- the dialect's verbs --


def test_a_request_passes_as_it_came() -> None:
    call = GEMINI.read_request(HI, STREAMED)
    assert (call.model, call.stream, call.form, GEMINI.name) == ("gemini-2.5-flash", True, "sse", "generate")
    assert GEMINI.splice(call, "gemini-2.5-flash-002") is HI
    assert GEMINI.write_request(call, "x") == (HI, ())


def test_tokens_are_counted() -> None:
    assert GEMINI.write_count_request(CALL, "m") == HI
    assert types.CountTokensResponse.model_validate(decode(GEMINI.write_count(31))).total_tokens == 31
    assert GEMINI.read_count(b'{"totalTokens": 31, "promptTokensDetails": []}') == 31
    for raw in (b"", b"{}", b'{"totalTokens":-1}', b'{"totalTokens":"x"}'):
        with pytest.raises(UpstreamGarbled):
            GEMINI.read_count(raw)


def test_both_shapes_of_a_question_for_tokens_are_read() -> None:
    asked = Asked(model="m", operation="count")
    whole = b'{"generateContentRequest":{"model":"models/m","systemInstruction":{"parts":[{"text":"S"}]},%b' % HI[1:]
    plain, wrapped = GEMINI.read_request(HI, asked), GEMINI.read_request(whole + b"}", asked)
    assert (plain.operation, wrapped.operation) == ("count", "count")
    assert wrapped.content.messages[1:] == plain.content.messages
    assert GEMINI.splice(wrapped, "m") is None
    body = decode(GEMINI.write_count_request(wrapped, "g") or b"")
    assert body["generateContentRequest"]["model"] == "models/g"
    vertex = decode(Gemini(wraps_count=False).write_count_request(wrapped, "g") or b"")
    assert set(vertex) == {"contents", "systemInstruction"}
    with pytest.raises(InvalidRequest, match="not an object"):
        GEMINI.read_request(b'{"generateContentRequest":7}', asked)


def test_the_models_are_listed_as_gemini_lists_them() -> None:
    listed = decode(GEMINI.write_models([ModelRow("fast"), ModelRow("google/gemini", "google", 17, 1000, 99)]))
    assert listed["models"][0] == {
        "name": "models/fast",
        "version": "001",
        "displayName": "fast",
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }
    assert (listed["models"][1]["inputTokenLimit"], listed["models"][1]["outputTokenLimit"]) == (1000, 99)
    assert decode(GEMINI.write_model(ModelRow("fast"))) == listed["models"][0]


def test_errors_go_through_the_dialect() -> None:
    error = GEMINI.read_error(400, b'{"error":{"code":400,"message":"No.","status":"INVALID_ARGUMENT"}}')
    assert decode(GEMINI.write_error(error))["error"]["message"] == "No."
    assert GEMINI.error_headers(error) == ()
    assert GEMINI.stream_type == b"text/event-stream"


# -- any bytes --

RECORDED = [path.read_bytes() for path in (*REPLIES, *STREAMS, *REQUESTS)]
TOKENS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b"null",
    b"-1",
    b"1e999",
    b'"functionCall":{}',
    b"\xff",
    b"\n\n",
    b"data: ",
    b"[" * 3000,
)


def mutated(rng: Random) -> bytes:
    data = bytearray(rng.choice(RECORDED))
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(3):
            case 0:
                data[at : at + rng.randrange(9)] = b""
            case 1:
                data[at:at] = rng.choice(TOKENS)
            case _:
                words = data.split(b'"')
                data = bytearray(b'"'.join(rng.choice(words) if rng.random() < 0.02 else word for word in words))
    return bytes(data)


@settings(max_examples=3_000, deadline=None)
@given(seed=st.integers(0, 2**64), status=st.integers(100, 599))
def test_any_bytes_give_only_the_declared_errors(seed: int, status: int) -> None:
    rng = Random(seed)
    data = mutated(rng) if rng.random() < 0.9 else rng.randbytes(rng.randrange(40))
    with suppress(InvalidRequest):
        call = GEMINI.read_request(data, ASKED)
        GEMINI.write_request(call, "gemini-3-pro")
        GEMINI.splice(structs.replace(call, changed=("max_tokens", "stop")), "gemini-3-pro")
    for verb in (GEMINI.read_reply, GEMINI.tap_reply):
        with suppress(UpstreamGarbled):
            GEMINI.write_reply(fold(verb(data)), CALL)
    with suppress(UpstreamGarbled):
        GEMINI.read_count(data)
    assert isinstance(GEMINI.read_error(status, data), UpstreamError)
    reader = GEMINI.stream_reader()
    events = (*reader.feed(data), *reader.end())
    assert isinstance(events[-1], Failed | Ended)
    GEMINI.stream_writer(CALL).send(events)


def test_a_text_alone_is_the_whole_message() -> None:
    assert CALL.content.messages[0].parts == (Text("Hi"),)


# -- Google's own SDK against a server that is this dialect --


class Loopback:
    """A server on the loopback that keeps what it is sent and answers with what it is given."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.answers: list[tuple[int, bytes, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked.append((self.path, self.rfile.read(int(self.headers.get("content-length") or 0))))
                status, kind, body = outer.answers.pop(0)
                self.send_response(status)
                self.send_header("content-type", kind.decode())
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST  # noqa: N815 - the name that http.server calls

            def log_message(self, *args: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, body: bytes, status: int = 200, kind: bytes = b"application/json") -> None:
        self.answers.append((status, kind, body))

    def call(self, *, stream: bool = False) -> Call:
        """Read the last request as the server of this dialect does."""
        path, body = self.asked[-1]
        model = path.partition("/models/")[2].partition(":")[0]
        return GEMINI.read_request(body, Asked(model=model, stream=stream, form="sse"))


@pytest.fixture(scope="module")
def loopback() -> Iterator[Loopback]:
    server = Loopback()
    yield server
    server.close()


@pytest.fixture(scope="module")
def client(loopback: Loopback) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=loopback.url, retry_options=types.HttpRetryOptions(attempts=1))
    with genai.Client(api_key="ps-test", http_options=options) as made:
        yield made


def get_weather(city: str, days: int = 1) -> dict[str, str]:
    """The weather of a city."""
    return {"city": city, "days": str(days)}


def test_what_the_sdk_sends_is_read_without_loss(loopback: Loopback, client: genai.Client) -> None:
    loopback.answer(GEMINI.write_reply(fold(GEMINI.read_reply((GOLDEN / "thinking.json").read_bytes())), CALL))
    config = types.GenerateContentConfig(
        system_instruction="Be brief.",
        temperature=0.5,
        top_k=40,
        max_output_tokens=9,
        stop_sequences=["END"],
        response_mime_type="application/json",
        response_schema={"type": "OBJECT", "properties": {"b": {"type": "STRING"}, "a": {"type": "INTEGER"}}},
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=100),
        tools=[get_weather, types.Tool(google_search=types.GoogleSearch())],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        tool_config=types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode="ANY")),
        safety_settings=[types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="BLOCK_NONE")],
    )
    picture = types.Part.from_bytes(data=b"\xfb\xff\xfe", mime_type="image/png")
    reply = client.models.generate_content(model="gemini-2.5-flash", contents=["Look", picture], config=config)
    assert (reply.text, reply.usage_metadata and reply.usage_metadata.thoughts_token_count) == ("4", 41)
    call = loopback.call()
    content = call.content
    assert call.model == "gemini-2.5-flash"
    assert call.sampling == Sampling(temperature=0.5, top_k=40, max_tokens=9, stop=("END",))
    assert content.messages[1].parts == (Text("Look"), Image(data="+//+", media_type="image/png"))
    assert [one.name if isinstance(one, Tool) else one.kind for one in content.tools] == ["get_weather", "googleSearch"]
    assert content.thinking == Thinking(100, visible=True)
    assert content.tool_choice == ToolChoice("required")
    assert content.output is not None
    sent, written = decode(loopback.asked[-1][1]), decode(GEMINI.write_request(call, "m")[0])
    data = sent["contents"][0]["parts"][1]["inlineData"]
    assert data.pop("mime_type") == "image/png", "the SDK mixes both spellings"
    data |= {"data": "+//+", "mimeType": "image/png"}
    sent["generationConfig"]["thinkingConfig"] = {"includeThoughts": True, "thinkingBudget": 100}
    sent["systemInstruction"].pop("role", None)
    schema = sent["generationConfig"]["responseSchema"]
    schema.pop("property_ordering", None)
    schema["propertyOrdering"] = ["b", "a"]
    functions = sent.pop("tools"), written.pop("tools")
    assert written == sent
    assert len(functions[0]) == len(functions[1])


def test_the_sdk_streams(loopback: Loopback, client: genai.Client) -> None:
    writer = GEMINI.stream_writer(GEMINI.read_request(HI, STREAMED))
    reader = GEMINI.stream_reader()
    raw = (GOLDEN / "thinking.sse").read_bytes()
    loopback.answer(writer.send((*reader.feed(raw), *reader.end())), kind=writer.content_type)
    got = list(client.models.generate_content_stream(model="m", contents="Hi"))
    assert "".join(one.text or "" for one in got) == "It is 4."
    usage = got[-1].usage_metadata
    assert (usage and usage.total_token_count, got[-1].candidates[0].finish_reason) == (57, types.FinishReason.STOP)  # type: ignore[index]
    assert loopback.asked[-1][0].endswith(":streamGenerateContent?alt=sse")


def test_the_sdk_raises_on_errors_before_and_within_streams(loopback: Loopback, client: genai.Client) -> None:
    loopback.answer(GEMINI.write_error(RateLimited("Too fast.", hint="Wait.", retry_after_s=2)), status=429)
    with pytest.raises(errors.ClientError) as refused:
        client.models.generate_content(model="m", contents="Hi")
    assert (refused.value.code, refused.value.status) == (429, "RESOURCE_EXHAUSTED")
    writer = GEMINI.stream_writer(CALL)
    out = writer.send([TextDelta("Once"), Failed(UpstreamOverloaded("Busy.", status=529)), Ended()])
    loopback.answer(out, kind=writer.content_type)
    stream = client.models.generate_content_stream(model="m", contents="Hi")
    assert next(stream).text == "Once"
    with pytest.raises(errors.ServerError) as cut:
        next(stream)
    assert (cut.value.code, cut.value.message) == (529, "Busy.")


def test_the_sdk_counts_lists_and_embeds(loopback: Loopback, client: genai.Client) -> None:
    loopback.answer(GEMINI.write_count(31))
    assert client.models.count_tokens(model="m", contents="Hi").total_tokens == 31
    path, body = loopback.asked[-1]
    assert path.endswith(":countTokens")
    assert GEMINI.read_request(body, Asked(model="m", operation="count")).content == CALL.content
    loopback.answer(GEMINI.write_models([ModelRow("fast", input_tokens=1000)]))
    (model,) = list(client.models.list())
    assert (model.name, model.input_token_limit, model.supported_actions) == (
        "models/fast",
        1000,
        ["generateContent", "countTokens"],
    )
    loopback.answer(GEMINI.write_model(ModelRow("fast")))
    assert client.models.get(model="fast").display_name == "fast"
    embed = GeminiEmbeddings()
    loopback.answer(b'{"embeddings":[{"values":[0.5]},{"values":[1.0]}]}')
    config = types.EmbedContentConfig(task_type="RETRIEVAL_QUERY", output_dimensionality=1)
    read = client.models.embed_content(model="gemini-embedding-001", contents=["a", "b"], config=config)
    assert [one.values for one in read.embeddings or ()] == [[0.5], [1.0]]
    path, body = loopback.asked[-1]
    assert path.endswith(":batchEmbedContents")
    call = embed.read_request(body, Asked(model="x", operation="embed"))
    assert call.content.embed == Embed(("a", "b"), 1, task="RETRIEVAL_QUERY")


def test_a_chat_of_the_sdk_brings_back_what_another_model_signed(loopback: Loopback, client: genai.Client) -> None:
    events = (
        Started("r", "claude"),
        ReasoningDelta("Let me "),
        ReasoningDelta("see."),
        ReasoningDelta("", "RXFRQkNr", signer="anthropic"),
        ReasoningDelta("", "cmVkYWN0ZWQ=", redacted=True, signer="anthropic"),
        TextDelta("One moment."),
        ToolUseStarted(0, "toolu_1", "get_weather"),
        ToolUseDelta(0, '{"city":'),
        ToolUseDelta(0, '"Paris"}'),
        Finished("tool_calls", "tool_use"),
        UsageReported(Usage(9, 9)),
        Ended(),
    )
    writer = GEMINI.stream_writer(CALL)
    loopback.answer(b"".join(writer.send([event]) for event in events), kind=writer.content_type)
    chat = client.chats.create(model="m")
    for _ in chat.send_message_stream("Weather?"):
        pass
    loopback.answer(GEMINI.write_reply(Reply("r", "m", choices=(Choice((Text("Sunny."),)),)), CALL))
    result = types.Part(function_response=types.FunctionResponse(id="toolu_1", name="get_weather", response={"t": 21}))
    assert chat.send_message([result]).text == "Sunny."
    _, assistant, tool = loopback.call().content.messages
    assert [part for part in assistant.parts if part != Text("")] == [
        Reasoning("Let me see.", "RXFRQkNr", signer="anthropic"),
        Reasoning("", "cmVkYWN0ZWQ=", redacted=True, signer="anthropic"),
        Text("One moment."),
        ToolUse("toolu_1", "get_weather", '{"city": "Paris"}'),
    ]
    assert tool.parts == (ToolResult("toolu_1", (Text('{"t": 21}'),)),)

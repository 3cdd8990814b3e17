"""Chat completions drawn from a seed: contents that the dialect can say, and replies that it can carry.

Drawn by `random` from a seed that hypothesis gives, since building such values part by part takes ten times as long.
"""

from random import Random
from typing import TypeVar

from msgspec import Raw, structs
from msgspec.json import encode

from penstock.call import (
    Audio,
    Cache,
    Citation,
    Content,
    File,
    Foreign,
    Image,
    Json,
    Members,
    Message,
    OutputFormat,
    Part,
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
from penstock.receipt import Usage
from penstock.reply import Choice, Finish, ForeignDelta, Logprob, Reply

T = TypeVar("T")
TEXTS = (
    "Hello",
    "",
    "line\nline\r\n",
    'say "hi"',
    "\\ \u2028 \x85 \x1c",
    "héllo 😀",
    "\x00",
    "data: [DONE]\n\n",
    "{}",
    "a" * 300,
)
SAID = tuple(text for text in TEXTS if text)
NAMES = ("f", "get_weather", "a-b_c")
VALUES: tuple[Json, ...] = (b"1", b'"x"', b'{"type":"ephemeral"}', b"[1,2]", b"true", b'{"a":{"b":[]}}')
SCHEMA: Json = b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}'


def maybe(rng: Random, value: T, odds: float = 0.5) -> T | None:
    return value if rng.random() < odds else None


def some(rng: Random, names: tuple[str, ...], odds: float = 0.2) -> Members:
    return tuple((name, rng.choice(VALUES)) for name in names if rng.random() < odds)


def inner(rng: Random, name: str) -> Members:
    return ((name, b'{"unknown":1}'),) if rng.random() < 0.1 else ()


def mark(rng: Random) -> Cache | None:
    return rng.choice(("5m", "1h")) if rng.random() < 0.1 else None


CITATIONS = (
    Citation(
        "https://example.com",
        "t",
        None,
        0,
        1,
        dialect="chat",
        native=b'{"type":"url_citation","url_citation":{"url":"https://example.com","title":"t","start_index":0,"end_index":1}}',
    ),
    Citation(dialect="chat", native=b'{"type":"other"}'),
)


def citations(rng: Random) -> tuple[Citation, ...]:
    return CITATIONS[: rng.randrange(3)] if rng.random() < 0.2 else ()


def thoughts(rng: Random) -> list[Part]:
    """Blocks of thinking: one without a signature, or some with one."""
    if rng.random() < 0.5:
        return [Reasoning(rng.choice(SAID))]
    kinds: tuple[Reasoning, ...] = (
        Reasoning(rng.choice(SAID), "c2ln", signer="anthropic"),
        Reasoning("", "c2ln", redacted=True, signer="anthropic"),
        Reasoning(rng.choice(SAID), "c2ln", signer="google"),
        Reasoning(rng.choice(TEXTS), "rs_1:gAAA", signer="openai"),
        Reasoning("", "gAAA", signer="openai"),
        Reasoning(rng.choice(SAID), "c2ln"),
    )
    return [rng.choice(kinds) for _ in range(rng.randrange(1, 4))]


# -- what is asked --


def text_part(rng: Random) -> Text:
    return Text(rng.choice(TEXTS), some(rng, ("cache_hint",), 0.1), cache=mark(rng))


def any_part(rng: Random) -> Part:
    detail = rng.choice((None, "low", "auto"))
    extra, cache = some(rng, ("cache_hint",), 0.1), mark(rng)
    match rng.randrange(8):
        case 0:
            return Image(
                url="https://example.com/a.png", detail=detail, extra=extra + inner(rng, "image_url"), cache=cache
            )
        case 1:
            return Image(data="aGk=", media_type="image/png", detail=detail, extra=extra, cache=cache)
        case 2:
            return Audio("aGk=", rng.choice(("wav", "mp3")), extra=extra + inner(rng, "input_audio"))
        case 3:
            return File("a.pdf", "aGk=", "application/pdf", extra=extra + inner(rng, "file"), cache=cache)
        case 4:
            return File(rng.choice((None, "a.txt")), "aGk=", None, file_id=rng.choice((None, "file-1")))
        case 5:
            return Foreign("chat", "video_url", b'{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}')
        case 6:
            return Foreign("chat", "input_text", b'{"type":"input_text","text":"x"}')
        case _:
            return text_part(rng)


def tool_use(rng: Random) -> ToolUse:
    kind = rng.choice(("function", "function", "custom"))
    extra = some(rng, ("index",), 0.1) + inner(rng, kind)
    signed = rng.random() < 0.2
    return ToolUse(
        f"call_{rng.randrange(10**6)}",
        rng.choice(NAMES),
        rng.choice(TEXTS),
        kind,  # type: ignore[arg-type]  # one of the literals
        extra,
        rng.choice(("c2ln", "AAAA")) if signed else None,
        rng.choice(("google", "anthropic")) if signed else "",  # type: ignore[arg-type]  # one of the literals
        mark(rng),
    )


def assistant(rng: Random, index: int) -> Message:
    parts: list[Part] = []
    if rng.random() < 0.2:
        parts += thoughts(rng)
    texts = [text_part(rng) for _ in range(rng.choice((0, 1, 1, 2)))]
    parts += [structs.replace(text, citations=citations(rng) if at == 0 else ()) for at, text in enumerate(texts)]
    if rng.random() < 0.1:
        parts.append(Refusal(rng.choice(SAID)))
    if rng.random() < 0.1:
        parts.append(Audio(id="audio_1", extra=some(rng, ("expires_at",))))
    if rng.random() < 0.1:
        parts += [Image(data="aGk=", media_type="image/png"), Image(url="https://example.com/a.png")]
    parts += [tool_use(rng) for _ in range(rng.choice((0, 0, 1, 2)))]
    if rng.random() < 0.1:
        parts.append(ToolUse(f"function_call-{index}", "f", "{}", extra=some(rng, ("x",), 0.1)))
    return Message("assistant", tuple(parts), maybe(rng, "bot", 0.1), some(rng, ("prefix",), 0.1))


def any_messages(rng: Random) -> tuple[Message, ...]:
    messages = []
    legacy = "function_call-"
    for index in range(rng.randrange(1, 6)):
        name, extra = maybe(rng, "ann", 0.1), some(rng, ("weight",), 0.1)
        role = rng.choice(("system", "developer", "user", "user", "assistant", "assistant", "tool", "function"))
        if role == "assistant":
            message = assistant(rng, index)
            legacy = next(
                (p.id for p in message.parts if isinstance(p, ToolUse) and p.id.startswith("function")), legacy
            )
        elif role == "tool":
            parts = tuple(text_part(rng) for _ in range(rng.randrange(3)))
            message = Message("tool", (ToolResult("call_1", parts, cache=mark(rng)),), name, extra)
        elif role == "function":
            parts = tuple(Text(rng.choice(TEXTS)) for _ in range(rng.randrange(2)))
            message = Message("tool", (ToolResult(legacy, parts),), "f", extra)
        else:
            message = Message(role, tuple(any_part(rng) for _ in range(rng.choice((0, 1, 1, 2)))), name, extra)  # type: ignore[arg-type]
        messages.append(message)
    return tuple(messages)


def any_tool(rng: Random) -> Tool | Foreign:
    if rng.random() < 0.2:
        return Foreign("chat", "custom", b'{"type":"custom","custom":{"name":"run","format":{"type":"text"}}}')
    extra = some(rng, ("hint",), 0.1) + inner(rng, "function")
    name = rng.choice(NAMES)
    return Tool(name, maybe(rng, "Does it."), maybe(rng, SCHEMA), maybe(rng, value=True), extra, mark(rng))


TOOL_CHOICES = (
    None,
    ToolChoice("auto"),
    ToolChoice("none"),
    ToolChoice("required"),
    ToolChoice("named", "f"),
    ToolChoice("named", "run", (("tool_choice", b'{"type":"custom","custom":{"name":"run"}}'),)),
    ToolChoice(
        "required", None, (("tool_choice", b'{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[]}}'),)
    ),
    ToolChoice("auto", None, (("tool_choice", b'{"type":"mcp","server":"x"}'),)),
)
OUTPUTS = (
    None,
    OutputFormat("text"),
    OutputFormat("json"),
    OutputFormat("json", schema=SCHEMA),
    OutputFormat("json_schema", "answer", "An answer.", SCHEMA, strict=True),
    OutputFormat("json_schema", "answer"),
)


THINKINGS = (
    Thinking(4_000),
    Thinking(0),
    Thinking(visible=False),
    Thinking(2_000, visible=True, summary="auto"),
    Thinking(adaptive=True),
)


def any_content(rng: Random) -> Content:
    tools = tuple(any_tool(rng) for _ in range(rng.choice((0, 0, 1, 3))))
    extra = some(rng, ("metadata_of_mine", "web_search_options", "verbosity", "modalities", "né"), 0.1)
    return Content(
        any_messages(rng),
        tools,
        rng.choice(TOOL_CHOICES),
        rng.choice((None, True, False)),
        rng.choice(OUTPUTS),
        extra,
        rng.choice(THINKINGS) if rng.random() < 0.2 else None,
        maybe(rng, "flex", 0.2),
        (("job", "nightly"), ("né", "")) if rng.random() < 0.2 else (),
    )


def any_sampling(rng: Random) -> Sampling:
    logprobs = maybe(rng, value=True, odds=0.2)
    return Sampling(
        temperature=maybe(rng, rng.choice((0.0, 0.7, 1.0, 2.0))),
        top_p=maybe(rng, 0.9, 0.2),
        top_k=maybe(rng, 40, 0.1),
        min_p=maybe(rng, 0.05, 0.1),
        max_tokens=maybe(rng, rng.randrange(1, 9999)),
        stop=rng.choice(((), ("\n",), ("a", "b"))),
        seed=maybe(rng, rng.randrange(-5, 2**63), 0.2),
        presence_penalty=maybe(rng, -0.5, 0.2),
        frequency_penalty=maybe(rng, 2.0, 0.2),
        logit_bias=rng.choice(((), (), (("50256", -100.0), ("7", 0.5)))),
        n=maybe(rng, 2, 0.2),
        logprobs=logprobs,
        top_logprobs=maybe(rng, 3) if logprobs else None,
        reasoning_effort=maybe(rng, "low", 0.2),
    )


# -- what comes back --


def any_logprob(rng: Random, top: int) -> Logprob:
    data = maybe(rng, tuple(rng.choice(SAID).encode()))
    return Logprob(rng.choice(TEXTS), -rng.random() * 9, data, tuple(any_logprob(rng, 0) for _ in range(top)))


def logprobs(rng: Random) -> tuple[Logprob, ...]:
    return tuple(any_logprob(rng, rng.randrange(3)) for _ in range(rng.randrange(1, 3))) if rng.random() < 0.2 else ()


ENDINGS: tuple[tuple[Finish, str], ...] = (
    ("stop", "stop"),
    ("length", "length"),
    ("tool_calls", "tool_calls"),
    ("tool_calls", "function_call"),
    ("content_filter", "content_filter"),
)


def any_choice(rng: Random, number: int, *, streamed: bool) -> Choice:
    parts: list[Part] = []
    if rng.random() < 0.3:
        parts += thoughts(rng)
    if rng.random() < 0.8:
        parts.append(Text(rng.choice(SAID if streamed else TEXTS), citations=citations(rng)[:1]))
    if rng.random() < 0.1:
        parts.append(Refusal(rng.choice(SAID)))
    if rng.random() < 0.1:
        parts.append(Audio("aGk=", None, "audio_7", "hi", 1_760_000_000))
    if rng.random() < 0.1:
        parts.append(Image(data="aGk=", media_type="image/png"))
    if rng.random() < 0.1:
        parts.append(ToolUse("function_call-0", "f", rng.choice(TEXTS)))
    else:
        for _ in range(rng.choice((0, 0, 1, 3))):
            call = tool_use(rng)
            parts.append(structs.replace(call, extra=(), cache=None))
    foreign = () if streamed else some(rng, ("provider_notes", "choice.content_filter_results"), 0.1)
    finish, native = rng.choice(ENDINGS)
    if finish == "stop" and any(isinstance(part, Refusal) for part in parts):
        finish = "refusal"
    return Choice(
        tuple(parts),
        finish,
        native,
        logprobs(rng),
        logprobs(rng),
        tuple(ForeignDelta("chat", name, json, number) for name, json in foreign),
    )


def any_usage(rng: Random) -> Usage:
    into, out = rng.randrange(5_000), rng.randrange(5_000)
    return Usage(
        into,
        out,
        cached_input_tokens=rng.randrange(into // 2 + 1),
        cache_write_tokens=rng.randrange(into // 2 + 1),
        reasoning_tokens=rng.randrange(out // 2 + 1),
        audio_input_tokens=rng.randrange(into // 2 + 1),
        audio_output_tokens=rng.randrange(out // 4 + 1),
        image_input_tokens=rng.randrange(into // 2 + 1),
        image_output_tokens=rng.randrange(out // 4 + 1),
        accepted_prediction_tokens=rng.randrange(out + 1),
        rejected_prediction_tokens=rng.randrange(out + 1),
    )


def any_reply(rng: Random, *, streamed: bool = False) -> Reply:
    return Reply(
        id="chatcmpl-" + str(rng.randrange(10**6)),
        model="gpt-4o-mini-2024-07-18",
        created=rng.randrange(1, 2**31),
        fingerprint=maybe(rng, "fp_1"),
        service_tier=maybe(rng, "default"),
        choices=tuple(any_choice(rng, number, streamed=streamed) for number in range(rng.choice((1, 1, 1, 3)))),
        usage=maybe(rng, any_usage(rng), 0.9),
        extra=() if streamed else some(rng, ("timings", "x_groq", "provider"), 0.1),
        ended=True,
    )


def body(**members: object) -> bytes:
    """A request with the least that it needs, and these members."""
    least: dict[str, object] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
    return encode(
        {name: Raw(value) if isinstance(value, bytes) else value for name, value in (least | members).items()}
    )

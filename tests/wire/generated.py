"""Calls and replies drawn from a seed, in the neutral vocabulary: what every dialect's round trips are tried with.

    CAN = Can(dialect="converse", results="together", audio=False, ...)   # once, at the top of a test file
    call = any_call(Random(seed), CAN)                 # a `Call` as the dialect's own reader might give it, without `raw`
    reply = any_reply(Random(seed), CAN)               # a `Reply`; `streamed=True`: one that a stream can say

`Can` says what a dialect can express; whatever it leaves out is never drawn. The defaults draw everything that the
vocabulary has in its usual form. Smaller pieces are public too: `any_messages`, `any_tools`, `any_content`, `any_sampling`,
`any_choice`, `any_usage`, `any_embed_call`, `any_embed_reply`. Where a dialect needs a form that no member of `Can` has,
change the drawn value in that dialect's own test (`msgspec.structs.replace`).

What holds of every drawn value:
- conversations make sense: system text first (or anywhere), user and assistant in turn, tool results right after the uses
  of the same ids, in order, and all of them answered; the last message is never the assistant's unless `prefill`;
- ids of tool uses are unique within a call and within a reply, `[A-Za-z0-9_]{1,40}`, or made from a seed by `Can.tool_id`;
- arguments are JSON objects written without spaces unless `raw_arguments`; custom tools take free text;
- a reply's text is never followed by more text, nor thinking by more thinking: `fold` would join some of them;
- base64 is standard, with padding.

Drawn by `random` from a seed that hypothesis gives, since building such values part by part takes ten times as long.
"""

from collections.abc import Callable
from random import Random
from typing import Literal, TypeVar

from msgspec import Struct
from msgspec.json import encode

from penstock.call import (
    Audio,
    Cache,
    Call,
    Citation,
    Content,
    Embed,
    File,
    Foreign,
    Image,
    Json,
    Members,
    Message,
    Operation,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Sampling,
    Signer,
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
    "line\nline\r\n",
    'say "hi"',
    "\\ \u2028 \u2029 \x85 \x1c",
    "h\u00e9llo \U0001f600",
    "\x00",
    "data: [DONE]\n\n",
    "event: message_stop\ndata: {}\n\n",
    "{}",
    " ",
    "a" * 300,
)
"""No empty one: see `Can.empty_text`."""
NAMES = ("f", "get_weather", "a-b_c")
SCHEMAS: tuple[Json, ...] = (
    b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}',
    b'{"type":"object","properties":{}}',
    b'{"type":"object","properties":{"n":{"type":"integer","description":"how many"}},"additionalProperties":false}',
)
ARGUMENTS = ("{}", '{"city":"Paris"}', '{"a":{"b":[1,2.5,null,true]},"c":"h\u00e9 \U0001f600 \u2028"}', '{"n":1}')
RAW_ARGUMENTS = ("", "not json", '{"cut":', "[1]", '"text"', '{ "spaced" : 1 }')
"""What a model may write that is no object, or not in the shortest form."""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SIGNATURES = ("c2lnbmF0dXJl", "RXFRQkNrWUlCUmdDS2tE" * 8, "AAAA")
"""Standard base64."""

ALL_SAMPLING = frozenset(Sampling.__struct_fields__)
ALL_USAGE = frozenset(Usage.__struct_fields__) - {"source"}
ENDINGS: tuple[tuple[Finish, str], ...] = (
    ("stop", "stop"),
    ("length", "length"),
    ("tool_calls", "tool_calls"),
    ("content_filter", "content_filter"),
)

Source = Literal["url", "data", "file_id"]


class Can(Struct, frozen=True):
    """What a dialect can say.

    dialect        of `Call.dialect` and of `ForeignDelta`s
    system         where system text may stand; "first": one message of one or more texts, before all others
    developer      the role `developer` is a role of its own
    names          messages may have a `name`
    results        tool results: "apart": one `tool` message each; "together": all of a turn in one message of `results_role`
    result_media   tool results may hold pictures (and files, as far as there are any)
    is_error       tool results may say that they are errors
    after_results  text of the user may follow on results in their own message ("together" only)
    prefill        the last message may be the assistant's
    alternate      user and assistant strictly in turn; else two of a kind may follow on each other
    many_texts     several texts in one message
    images, files  how pictures and files may be given, () for not at all; `image_types`, `file_types` their media types
    detail, audio, file_name, custom_tools, raw_arguments, refusal    as they are called
    reasoning      thoughts in assistant messages and replies; `signers`: who may have signed them, "" for nobody
    unsigned       thoughts without signature; `redacted`: thoughts that are a signature alone, `signature_only`: as that, unredacted
    tool_signers   who may have signed tool uses
    caches         marks, where `cache_on` says: "text", "image", "file", "tool_use", "tool_result", "tool"
    citations      samples to be drawn on texts of assistants and replies
    foreign        samples of foreign parts in user messages; `foreign_reply` in replies; `foreign_tools` among the tools
    choices        more answers than one; `endings` (reason, native word) to draw from
    logprobs       log probabilities; `token_bytes`: with bytes; `refusal_logprobs`
    reply_images   pictures in replies
    usage          members of `Usage` that can be said; the others are 0
    created, fingerprint, service_tier, metadata, user, stream, thinking, output, ...   as they are called
    """

    dialect: str = ""
    # messages
    system: Literal["none", "first", "anywhere"] = "anywhere"
    developer: bool = True
    names: bool = True
    results: Literal["apart", "together"] = "apart"
    results_role: Literal["tool", "user"] = "tool"
    result_media: bool = False
    is_error: bool = False
    after_results: bool = False
    prefill: bool = True
    alternate: bool = False
    many_texts: bool = True
    empty_text: bool = True
    images: tuple[Source, ...] = ("url", "data")
    image_types: tuple[str, ...] = ("image/png", "image/jpeg")
    detail: bool = True
    audio: bool = True
    audio_formats: tuple[str, ...] = ("wav", "mp3")
    files: tuple[Source, ...] = ("data", "file_id")
    file_types: tuple[str, ...] = ("application/pdf",)
    file_name: bool = True
    refusal: bool = True
    custom_tools: bool = True
    raw_arguments: bool = True
    tool_id: Callable[[Random], str] | None = None
    reasoning: bool = True
    signers: tuple[Signer, ...] = ("", "anthropic", "google", "openai")
    unsigned: bool = True
    redacted: bool = True
    signature_only: bool = False
    tool_signers: tuple[Signer, ...] = ("", "google")
    caches: tuple[Cache, ...] = ("5m", "1h")
    cache_on: tuple[str, ...] = ("text", "image", "file", "tool_use", "tool_result", "tool")
    citations: tuple[Citation, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    # beside the messages
    tools: bool = True
    tool_schema_needed: bool = False
    tool_strict: bool = True
    foreign_tools: tuple[Foreign, ...] = ()
    tool_choices: tuple[str, ...] = ("auto", "none", "required", "named")
    parallel_tools: bool = True
    outputs: tuple[str, ...] = ("text", "json", "json_schema")
    output_name: bool = True
    thinkings: tuple[Thinking, ...] = ()
    service_tiers: tuple[str, ...] = ("auto", "default", "flex", "priority")
    metadata: bool = True
    extra: Members = ()
    sampling: frozenset[str] = ALL_SAMPLING
    max_temperature: float = 2.0
    efforts: tuple[str, ...] = ("minimal", "low", "medium", "high")
    streams: tuple[bool, ...] = (False, True)
    user: bool = True
    # replies
    ids: bool = True
    created: bool = True
    fingerprint: bool = True
    choices: bool = True
    reply_audio: bool = True
    reply_images: tuple[Source, ...] = ()
    reply_custom_tools: bool = True
    foreign_reply: tuple[Foreign, ...] = ()
    foreign_deltas: tuple[tuple[str, Json], ...] = ()
    interleaved: bool = False
    endings: tuple[tuple[Finish, str], ...] = ENDINGS
    logprobs: bool = True
    refusal_logprobs: bool = True
    token_bytes: bool = True
    usage: frozenset[str] = ALL_USAGE
    # embeddings
    embed_tokens: bool = True
    embed_many: bool = True
    embed_tasks: tuple[str, ...] = ()
    embed_titles: bool = False
    dimensions: bool = True


def maybe(rng: Random, value: T, odds: float = 0.5) -> T | None:
    return value if rng.random() < odds else None


def text_of(rng: Random, can: Can) -> str:
    return "" if can.empty_text and rng.random() < 0.05 else rng.choice(TEXTS)


def cache_of(rng: Random, can: Can, where: str) -> Cache | None:
    return rng.choice(can.caches) if can.caches and where in can.cache_on and rng.random() < 0.1 else None


# -- parts --


def any_text(rng: Random, can: Can) -> Text:
    return Text(text_of(rng, can), cache=cache_of(rng, can, "text"))


def any_image(rng: Random, can: Can, sources: tuple[Source, ...] = ()) -> Image:
    detail = rng.choice((None, "low", "auto", "high")) if can.detail else None
    cache = cache_of(rng, can, "image")
    match rng.choice(sources or can.images):
        case "url":
            return Image(url=f"https://example.com/{rng.randrange(99)}.png", detail=detail, cache=cache)
        case "data":
            return Image(data=PIXEL, media_type=rng.choice(can.image_types), detail=detail, cache=cache)
        case _:
            return Image(file_id=f"file-{rng.randrange(999)}", detail=detail, cache=cache)


def any_file(rng: Random, can: Can) -> File:
    name = rng.choice(("a.pdf", "h\u00e9.pdf", "report (1).pdf")) if can.file_name else None
    cache = cache_of(rng, can, "file")
    match rng.choice(can.files):
        case "url":
            return File(url="https://example.com/a.pdf", cache=cache)
        case "data":
            return File(name, "JVBERi0xLjQ=", rng.choice(can.file_types), cache=cache)
        case _:
            return File(file_id=f"file-{rng.randrange(999)}", cache=cache)


def any_said_part(rng: Random, can: Can) -> Part:
    """One part of what a user says."""
    kinds: list[Callable[[Random, Can], Part]] = [any_text]
    if can.images:
        kinds.append(any_image)
    if can.files:
        kinds.append(any_file)
    if can.audio:
        kinds.append(lambda rng, can: Audio("UklGRg==", rng.choice(can.audio_formats)))
    if can.foreign:
        kinds.append(lambda rng, can: rng.choice(can.foreign))
    return rng.choice(kinds)(rng, can)


def any_reasoning(rng: Random, can: Can) -> Reasoning:
    """One block of thinking, signed as the dialect has it."""
    signers = tuple(signer for signer in can.signers if signer)
    kinds = [kind for kind, allowed in (("plain", can.unsigned), ("signed", bool(signers))) if allowed]
    kinds += ["redacted"] if can.redacted and signers else []
    kinds += ["only"] if can.signature_only and signers else []
    kind = rng.choice(kinds)
    if kind == "plain":
        return Reasoning(rng.choice(TEXTS))
    signer, signature = rng.choice(signers), rng.choice(SIGNATURES)
    if kind == "redacted":
        return Reasoning("", signature, redacted=True, signer=signer)
    return Reasoning("" if kind == "only" else rng.choice(TEXTS), signature, signer=signer)


def any_tool_use(rng: Random, can: Can, number: int, *, custom: bool, cached: bool = True) -> ToolUse:
    """`number` makes the id unique within its call or reply."""
    ident = can.tool_id(rng) if can.tool_id is not None else f"call_{number}_{rng.randrange(10**6)}"
    cache = cache_of(rng, can, "tool_use") if cached else None
    signer: Signer = rng.choice(can.tool_signers) if can.tool_signers else ""
    signature = rng.choice(SIGNATURES) if signer else None
    if custom and rng.random() < 0.2:
        return ToolUse(ident, rng.choice(NAMES), rng.choice(TEXTS), "custom", cache=cache)
    raw = can.raw_arguments and rng.random() < 0.1
    arguments = rng.choice(RAW_ARGUMENTS if raw else ARGUMENTS)
    return ToolUse(ident, rng.choice(NAMES), arguments, signature=signature, signer=signer, cache=cache)


def any_result(rng: Random, can: Can, use: ToolUse) -> ToolResult:
    parts: list[Part] = [any_text(rng, can) for _ in range(rng.choice((1, 1, 1, 2)) if can.many_texts else 1)]
    if can.result_media and can.images and rng.random() < 0.2:
        parts.append(any_image(rng, can))
    return ToolResult(
        use.id, tuple(parts), can.is_error and rng.random() < 0.2, cache=cache_of(rng, can, "tool_result")
    )


# -- what is asked --


def any_messages(rng: Random, can: Can) -> tuple[Message, ...]:
    """Draw a conversation of one to four exchanges."""
    messages: list[Message] = []
    if can.system != "none" and rng.random() < 0.5:
        messages.append(_system(rng, can))
    for exchange in range(rng.choice((1, 1, 2, 4))):
        messages.append(_user(rng, can))
        if not can.alternate and rng.random() < 0.1:
            messages.append(_user(rng, can))
        if can.system == "anywhere" and rng.random() < 0.1:
            messages.append(_system(rng, can))
        assistant = _assistant(rng, can, exchange)
        messages.append(assistant)
        uses = [part for part in assistant.parts if isinstance(part, ToolUse)]
        messages += _results(rng, can, uses)
        if uses and rng.random() < 0.7:
            messages.append(Message("assistant", (any_text(rng, can),)))
        elif uses and can.alternate:
            messages.append(Message("assistant", (Text("Done."),)))
    if messages[-1].role == "assistant" and not (can.prefill and rng.random() < 0.2):
        messages.append(_user(rng, can))
    return tuple(messages)


def _name(rng: Random, can: Can) -> str | None:
    return "ann" if can.names and rng.random() < 0.1 else None


def _system(rng: Random, can: Can) -> Message:
    role: Literal["system", "developer"] = "developer" if can.developer and rng.random() < 0.3 else "system"
    count = rng.choice((1, 1, 2)) if can.many_texts else 1
    return Message(role, tuple(any_text(rng, can) for _ in range(count)), _name(rng, can))


def _user(rng: Random, can: Can) -> Message:
    parts: list[Part] = [any_said_part(rng, can) for _ in range(rng.choice((1, 1, 2, 3)))]
    if not can.many_texts:
        texts = [part for part in parts if isinstance(part, Text)]
        parts = [*texts[:1], *(part for part in parts if not isinstance(part, Text))]
    return Message("user", tuple(parts), _name(rng, can))


def _assistant(rng: Random, can: Can, exchange: int) -> Message:
    parts: list[Part] = []
    if can.reasoning and rng.random() < 0.3:
        parts.append(any_reasoning(rng, can))
    for _ in range(rng.choice((0, 1, 1, 2)) if can.many_texts else rng.choice((0, 1))):
        text = any_text(rng, can)
        citations = (rng.choice(can.citations),) if can.citations and rng.random() < 0.3 and text.text else ()
        parts.append(Text(text.text, (), citations, text.cache))
    if can.refusal and rng.random() < 0.05:
        parts.append(Refusal(rng.choice(TEXTS)))
    if can.tools:
        count = rng.choice((0, 0, 1, 2, 3))
        parts += [any_tool_use(rng, can, 10 * exchange + n, custom=can.custom_tools) for n in range(count)]
    if not any(not isinstance(part, Reasoning) for part in parts):
        parts.append(Text("Yes."))
    return Message("assistant", tuple(parts), _name(rng, can))


def _results(rng: Random, can: Can, uses: list[ToolUse]) -> list[Message]:
    results = [any_result(rng, can, use) for use in uses]
    if not results:
        return []
    if can.results == "apart":
        return [Message("tool", (result,)) for result in results]
    after: tuple[Part, ...] = (any_text(rng, can),) if can.after_results and rng.random() < 0.3 else ()
    return [Message(can.results_role, (*results, *after))]


def any_tools(rng: Random, can: Can) -> tuple[Tool | Foreign, ...]:
    tools: list[Tool | Foreign] = []
    for name in NAMES[: rng.choice((0, 1, 2, 3))] if can.tools else ():
        schema = rng.choice(SCHEMAS) if can.tool_schema_needed or rng.random() < 0.8 else None
        strict = rng.choice((None, True, False)) if can.tool_strict else None
        tools.append(Tool(name, maybe(rng, "Does it."), schema, strict, cache=cache_of(rng, can, "tool")))
    if can.foreign_tools and rng.random() < 0.2:
        tools.append(rng.choice(can.foreign_tools))
    return tuple(tools)


def any_tool_choice(rng: Random, can: Can, tools: tuple[Tool | Foreign, ...]) -> ToolChoice | None:
    """Draw a choice among the tools there are; None without any."""
    named = [tool for tool in tools if isinstance(tool, Tool)]
    if not named or not can.tool_choices or rng.random() < 0.5:
        return None
    mode = rng.choice(can.tool_choices)
    if mode == "named":
        return ToolChoice("named", rng.choice(named).name)
    return ToolChoice(mode)  # type: ignore[arg-type]  # one of the literals


def any_output(rng: Random, can: Can) -> OutputFormat | None:
    if not can.outputs or rng.random() < 0.7:
        return None
    kind = rng.choice(can.outputs)
    if kind != "json_schema":
        return OutputFormat(kind)  # type: ignore[arg-type]  # one of the literals
    if not can.output_name:
        return OutputFormat("json_schema", schema=rng.choice(SCHEMAS))
    return OutputFormat(
        "json_schema", "answer", maybe(rng, "An answer."), rng.choice(SCHEMAS), rng.choice((None, True, False))
    )


def any_content(rng: Random, can: Can) -> Content:
    tools = any_tools(rng, can)
    metadata = (("job", "nightly"), ("h\u00e9", "1")) if can.metadata and rng.random() < 0.2 else ()
    return Content(
        messages=any_messages(rng, can),
        tools=tools,
        tool_choice=any_tool_choice(rng, can, tools),
        parallel_tools=rng.choice((None, True, False)) if can.parallel_tools and tools else None,
        output=any_output(rng, can),
        extra=tuple(member for member in can.extra if rng.random() < 0.1),
        thinking=rng.choice(can.thinkings) if can.thinkings and rng.random() < 0.3 else None,
        service_tier=rng.choice(can.service_tiers) if can.service_tiers and rng.random() < 0.2 else None,
        metadata=metadata,
    )


def any_sampling(rng: Random, can: Can) -> Sampling:
    logprobs = maybe(rng, value=True, odds=0.2) if "logprobs" in can.sampling else None
    drawn: dict[str, object] = {
        "temperature": maybe(rng, rng.choice((0.0, 0.7, 1.0, can.max_temperature))),
        "top_p": maybe(rng, 0.9, 0.2),
        "top_k": maybe(rng, 40, 0.1),
        "min_p": maybe(rng, 0.05, 0.1),
        "max_tokens": maybe(rng, rng.randrange(1, 9999)),
        "stop": rng.choice(((), ("\n",), ("a", "b"))),
        "seed": maybe(rng, rng.randrange(2**31), 0.2),
        "presence_penalty": maybe(rng, -0.5, 0.2),
        "frequency_penalty": maybe(rng, 2.0, 0.2),
        "logit_bias": rng.choice(((), (), (("50256", -100.0), ("7", 0.5)))),
        "n": maybe(rng, 2, 0.2),
        "logprobs": logprobs,
        "top_logprobs": maybe(rng, 3) if logprobs else None,
        "reasoning_effort": rng.choice(can.efforts) if can.efforts and rng.random() < 0.2 else None,
    }
    return Sampling(**{name: value for name, value in drawn.items() if name in can.sampling})  # type: ignore[arg-type]


def any_call(rng: Random, can: Can) -> Call:
    """Draw a call; `raw` is empty and `content` at hand."""
    content, sampling = any_content(rng, can), any_sampling(rng, can)
    stream = rng.choice(can.streams)
    user = maybe(rng, "user-1", 0.2) if can.user else None
    return Call(can.dialect, "a-model", sampling, lambda: content, stream=stream, stream_usage=True, user=user)


# -- what comes back --


def any_logprob(rng: Random, can: Can, top: int) -> Logprob:
    token = rng.choice(TEXTS)
    data = tuple(token.encode()) if can.token_bytes and rng.random() < 0.8 else None
    return Logprob(token, -rng.random() * 9, data, tuple(any_logprob(rng, can, 0) for _ in range(top)))


def any_logprobs(rng: Random, can: Can) -> tuple[Logprob, ...]:
    return tuple(any_logprob(rng, can, rng.randrange(3)) for _ in range(rng.randrange(1, 3)))


def _reply_text(rng: Random, can: Can) -> Text:
    citations = tuple(c for c in can.citations if rng.random() < 0.3) if rng.random() < 0.3 else ()
    return Text(rng.choice(TEXTS), citations=citations)


def any_choice(rng: Random, can: Can, number: int = 0, *, streamed: bool = False) -> Choice:
    """Draw one answer; parts in the order thinking, text, refusal, pictures, tools unless `Can.interleaved`."""
    parts: list[Part] = []
    for _ in range(2 if can.interleaved and rng.random() < 0.3 else 1):
        if can.reasoning and rng.random() < 0.3 and not (parts and isinstance(parts[-1], Reasoning)):
            parts.append(any_reasoning(rng, can))
        if rng.random() < 0.8 and not (parts and isinstance(parts[-1], Text)):
            parts.append(_reply_text(rng, can))
        if can.foreign_reply and rng.random() < 0.1:
            parts.append(rng.choice(can.foreign_reply))
        if can.tools:
            count = rng.choice((0, 0, 1, 3))
            start = 10 * (number + 1) + len(parts)
            parts += [
                any_tool_use(rng, can, start + n, custom=can.reply_custom_tools, cached=False) for n in range(count)
            ]
    texts = [place for place, part in enumerate(parts) if not isinstance(part, ToolUse)]
    before_tools = texts[-1] + 1 if texts else 0
    if can.reply_images and rng.random() < 0.1:
        image = any_image(rng, can, can.reply_images)
        parts.insert(before_tools, Image(image.url, image.data, image.media_type, file_id=image.file_id))
    if can.refusal and rng.random() < 0.1:
        parts.insert(before_tools, Refusal(rng.choice(TEXTS)))
    if can.reply_audio and rng.random() < 0.1:
        parts.append(Audio("aGk=", None, "audio_7", "hi", 1_760_000_000))
    if not streamed and can.empty_text and not parts:
        parts.append(Text(""))
    finish, native = rng.choice(can.endings)
    has_text = any(isinstance(part, Text) for part in parts)
    has_refusal = any(isinstance(part, Refusal) for part in parts)
    return Choice(
        tuple(parts),
        finish,
        native,
        any_logprobs(rng, can) if can.logprobs and has_text and rng.random() < 0.2 else (),
        any_logprobs(rng, can) if can.refusal_logprobs and has_refusal and rng.random() < 0.2 else (),
        tuple(ForeignDelta(can.dialect, name, json, number) for name, json in can.foreign_deltas if rng.random() < 0.1),
    )


def any_usage(rng: Random, can: Can) -> Usage:
    """Draw counts that add up: parts never exceed their whole, and what is cached, written, heard and seen never overlaps."""
    into, out = rng.randrange(1, 5_000), rng.randrange(1, 5_000)
    fourth = into // 4
    drawn = {
        "input_tokens": into,
        "output_tokens": out,
        "cached_input_tokens": rng.randrange(fourth + 1),
        "cache_write_tokens": rng.randrange(fourth + 1),
        "cache_write_1h_tokens": rng.randrange(fourth + 1),
        "reasoning_tokens": rng.randrange(out // 2 + 1),
        "audio_input_tokens": rng.randrange(fourth + 1),
        "audio_output_tokens": rng.randrange(out // 4 + 1),
        "accepted_prediction_tokens": rng.randrange(out // 4 + 1),
        "rejected_prediction_tokens": rng.randrange(out // 4 + 1),
        "image_input_tokens": rng.randrange(fourth + 1),
        "image_output_tokens": rng.randrange(out // 4 + 1),
    }
    return Usage(**{name: value for name, value in drawn.items() if name in can.usage})  # type: ignore[arg-type]


def any_reply(rng: Random, can: Can, *, streamed: bool = False) -> Reply:
    """Draw a complete reply; of a streamed one every text says something."""
    count = rng.choice((1, 1, 1, 3)) if can.choices else 1
    return Reply(
        id=f"reply-{rng.randrange(10**6)}" if can.ids else "",
        model="a-model-2026-01-01",
        created=rng.randrange(1, 2**31) if can.created else None,
        fingerprint=maybe(rng, "fp_1") if can.fingerprint else None,
        service_tier=rng.choice(can.service_tiers) if can.service_tiers and rng.random() < 0.3 else None,
        choices=tuple(any_choice(rng, can, number, streamed=streamed) for number in range(count)),
        usage=any_usage(rng, can),
        ended=True,
    )


# -- embeddings --


def any_embed_call(rng: Random, can: Can) -> Call:
    count = rng.choice((1, 1, 2, 5)) if can.embed_many else 1
    tokens = can.embed_tokens and rng.random() < 0.3
    inputs = tuple(
        tuple(rng.randrange(100_000) for _ in range(rng.randrange(1, 5))) if tokens else rng.choice(TEXTS)
        for _ in range(count)
    )
    embed = Embed(
        inputs,
        rng.choice((None, 2, 256)) if can.dimensions else None,
        task=rng.choice(can.embed_tasks) if can.embed_tasks and rng.random() < 0.5 else None,
        title=maybe(rng, "A title") if can.embed_titles else None,
    )
    content = Content((), embed=embed)
    operation: Operation = "embed"
    user = maybe(rng, "user-1", 0.2) if can.user else None
    return Call(can.dialect, "a-model", Sampling(), lambda: content, operation=operation, user=user)


def any_embed_reply(rng: Random, can: Can) -> Reply:
    """Vectors of numbers that a 32-bit float holds exactly."""
    width = rng.randrange(1, 5)
    vectors = tuple(tuple(rng.randrange(-512, 512) / 256 for _ in range(width)) for _ in range(rng.randrange(1, 4)))
    usage = Usage(input_tokens=rng.randrange(1, 999)) if "input_tokens" in can.usage else None
    return Reply(model="a-model-2026-01-01", usage=usage, ended=True, embeddings=vectors)


def as_json(value: object) -> Json:
    """Write a value as the JSON of an unknown member."""
    return encode(value)

"""What the Responses API can say: the features of its generated calls and replies, and bodies with the least they need."""

from random import Random

from msgspec import Raw, structs
from msgspec.json import encode

from penstock.call import Call, Citation, Foreign, Reasoning, Text, Thinking, ToolUse
from penstock.reply import Choice, Finish, Reply
from wire.generated import ALL_USAGE, Can, any_call, any_reply

CITATIONS = (
    Citation(
        "https://example.com",
        "t",
        start=0,
        end=1,
        dialect="responses",
        native=b'{"type":"url_citation","url":"https://example.com","title":"t","start_index":0,"end_index":1}',
    ),
    Citation(
        title="a.pdf",
        file_id="file-1",
        dialect="responses",
        native=b'{"type":"file_citation","file_id":"file-1","filename":"a.pdf","index":3}',
    ),
)
SEARCH = b'{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"q"}}'

CAN = Can(
    dialect="responses",
    names=False,
    images=("url", "data", "file_id"),
    files=("url", "data", "file_id"),
    audio=True,
    result_media=True,
    signers=("", "anthropic", "google", "openai"),
    signature_only=True,
    tool_signers=("", "google"),
    caches=(),
    citations=CITATIONS,
    foreign=(Foreign("responses", "content.input_video", b'{"type":"input_video","url":"https://x"}'),),
    foreign_tools=(
        Foreign("responses", "web_search", b'{"type":"web_search"}'),
        Foreign("responses", "custom", b'{"type":"custom","name":"run"}'),
    ),
    thinkings=(Thinking(summary="auto"), Thinking(summary="detailed")),
    extra=(("verbosity_hint", b"1"), ("include", b'["file_search_call.results"]'), ("text", b'{"verbosity":"low"}')),
    sampling=frozenset({"temperature", "top_p", "max_tokens", "logprobs", "top_logprobs", "reasoning_effort"}),
    fingerprint=False,
    choices=False,
    reply_audio=False,
    reply_images=(),
    refusal_logprobs=False,
    usage=ALL_USAGE - {"cache_write_1h_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens"},
    foreign_reply=(Foreign("responses", "web_search_call", SEARCH),),
    interleaved=True,
)
ASKED = structs.replace(CAN, signers=("", "openai"), tool_signers=(), redacted=False)
"""A provider is sent the signatures of its own family only; a client gets those of all."""


def fitting_call(rng: Random) -> Call:
    """A call as this dialect's own reader gives it."""
    call = any_call(rng, ASKED)
    content = call.content
    messages = tuple(
        structs.replace(message, parts=tuple(_named(part) for part in message.parts)) for message in content.messages
    )
    content = structs.replace(content, messages=messages)
    return structs.replace(call, read=lambda: content)


def _named(part: object) -> object:
    """OpenAI's thoughts that come without the id of an item have none that could come back; those of nobody are OpenAI's."""
    if isinstance(part, Reasoning) and part.signer == "openai" and part.signature is not None:
        return structs.replace(part, signature=f"rs_1:{part.signature}", redacted=False)
    if isinstance(part, ToolUse) and part.kind == "custom":
        return structs.replace(part, signature=None, signer="")
    return part


def fitting_reply(rng: Random, *, streamed: bool = False) -> Reply:
    """A reply as this dialect's own reader gives it: one choice, an ending that goes with its parts."""
    reply = any_reply(rng, CAN, streamed=streamed)
    parts = tuple(_named(part) for part in reply.choices[0].parts)
    finish: tuple[Finish, str] = ("stop", "completed")
    if rng.random() < 0.2:
        finish = rng.choice((("length", "max_output_tokens"), ("content_filter", "content_filter")))
    elif any(isinstance(part, ToolUse) for part in parts):
        finish = ("tool_calls", "completed")
    elif any(type(part).__name__ == "Refusal" for part in parts) and not any(isinstance(part, Text) for part in parts):
        finish = ("refusal", "completed")
    logprobs = tuple(
        structs.replace(
            token, bytes=_bytes(token.token), top=tuple(structs.replace(t, bytes=_bytes(t.token)) for t in token.top)
        )
        for token in reply.choices[0].logprobs
    )
    choice = Choice(parts, *finish, logprobs)  # type: ignore[arg-type]  # parts of the same kinds
    return structs.replace(reply, choices=(choice,), service_tier=reply.service_tier or "default")


def _bytes(token: str) -> tuple[int, ...]:
    return tuple(token.encode())


def body(**members: object) -> bytes:
    """A request with the least that it needs, and these members."""
    least: dict[str, object] = {"model": "gpt-5", "input": "Hi"}
    return encode(
        {name: Raw(value) if isinstance(value, bytes) else value for name, value in (least | members).items()}
    )

"""What the meter needs of a whole chat completion whose bytes go on to the client as they are: no text, no tool calls.

Pure. One decode into exactly these members, everything else skipped at the decoder's speed. Nearly every reply is one that
`tell` says in one value. Where anything is unusual (an error, no usage, counts that do not add up) the full reader of
`openai_chat_reply.py` has the word.
Place in the line: the verbatim lane of replies that are not streamed.
"""

from typing import Annotated, Final, Literal

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder

from penstock.receipt import Usage
from penstock.reply import Ended, Event, Finished, Started, Told, UsageReported
from penstock.wire.openai_chat_reply import finished, read_reply
from penstock.wire.token_counts import MOST_TOKENS, plausible

_Count = Annotated[int, Meta(ge=0)]
_Whole = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]


class _Message(Struct, gc=False):
    """What was said; only whether it is a refusal matters here."""

    refusal: str | None = None


class _Said(Struct, gc=False):
    """What was said, and is no refusal."""

    refusal: Literal[""] | None = None


class _Choice(Struct, gc=False):
    message: _Message
    finish_reason: str
    index: int = 0


class _Only(Struct, gc=False):
    """The choice of a reply that has one, which ended for a reason that needs no reading."""

    message: _Said
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]
    index: Literal[0] = 0


class _Given(Struct, gc=False):
    cached_tokens: _Count | None = 0
    audio_tokens: _Count | None = 0
    cache_write_tokens: _Count | None = 0
    image_tokens: _Count | None = 0


class _Made(Struct, gc=False):
    reasoning_tokens: _Count | None = 0
    audio_tokens: _Count | None = 0
    accepted_prediction_tokens: _Count | None = 0
    rejected_prediction_tokens: _Count | None = 0
    image_tokens: _Count | None = 0


class _Usage(Struct, gc=False):
    prompt_tokens: _Whole
    completion_tokens: _Whole
    total_tokens: _Whole
    prompt_tokens_details: _Given | None = None
    completion_tokens_details: _Made | None = None
    cached_tokens: _Count | None = None
    prompt_cache_hit_tokens: _Count | None = None


class _Ordinary(Struct, gc=False):
    """A reply of which nothing is unusual; what is typed as nothing makes another of it."""

    id: str
    model: str
    choices: tuple[_Only]
    usage: _Usage
    created: int | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    error: None = None


class _Reply(Struct, gc=False):
    """A usual reply, however many choices it has and however they end."""

    id: str
    model: str
    choices: Annotated[list[_Choice], Meta(min_length=1)]
    usage: _Usage
    created: int | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    error: None = None


_ORDINARY: Final = Decoder(_Ordinary)
_REPLY: Final = Decoder(_Reply)
_NONE_GIVEN: Final = _Given()
_NONE_MADE: Final = _Made()


def tell(body: bytes) -> Told | None:
    """Say in one value what a whole reply says of which nothing is unusual; None of any other."""
    try:
        reply = _ORDINARY.decode(body)
        if not body.isascii():
            body.decode()  # the decoder does not check what it skips
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None
    usage = reply.usage
    into, out, detailed = usage.prompt_tokens, usage.completion_tokens, None
    if into + out != usage.total_tokens:
        return None
    given, made = usage.prompt_tokens_details, usage.completion_tokens_details
    cached = usage.cached_tokens or usage.prompt_cache_hit_tokens
    if cached or (given and given != _NONE_GIVEN) or (made and made != _NONE_MADE):
        detailed = _detailed(usage)
        if detailed is None:
            return None
    return Told(  # by position: see InFlight.close
        body, reply.id, reply.model, reply.choices[0].finish_reason, into, out,
        reply.system_fingerprint, reply.service_tier, reply.created or None, detailed,
    )  # fmt: skip


def tap_reply(body: bytes) -> tuple[Event, ...]:
    """Give start, ends, usage and end mark of a whole reply; all of its events where it is unusual. Raises UpstreamGarbled."""
    told = tell(body)
    if told is not None:
        return told.events
    try:
        reply = _REPLY.decode(body)
        if not body.isascii():
            body.decode()
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return read_reply(body)  # which says what is wrong
    usage, counted = reply.usage, _detailed(reply.usage)
    if counted is None or usage.prompt_tokens + usage.completion_tokens != usage.total_tokens:
        return read_reply(body)
    started = Started(reply.id, reply.model, reply.created or None, reply.system_fingerprint, reply.service_tier)
    return started, *map(_finished, reply.choices), UsageReported(counted), Ended()


def _detailed(usage: _Usage) -> Usage | None:
    """Put the parts of a count to the whole, as `openai_chat_usage.read_usage` does."""
    given, made = usage.prompt_tokens_details or _NONE_GIVEN, usage.completion_tokens_details or _NONE_MADE
    said = Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        given.cached_tokens or usage.prompt_cache_hit_tokens or usage.cached_tokens or 0,
        given.cache_write_tokens or 0,
        0,
        made.reasoning_tokens or 0,
        given.audio_tokens or 0,
        made.audio_tokens or 0,
        made.accepted_prediction_tokens or 0,
        made.rejected_prediction_tokens or 0,
        "provider",
        given.image_tokens or 0,
        made.image_tokens or 0,
    )
    return plausible(said)


def _finished(choice: _Choice) -> Finished:
    return finished(choice.finish_reason, choice.index, refused=bool(choice.message.refusal))

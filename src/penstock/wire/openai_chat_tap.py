"""What the meter needs of a whole chat completion whose bytes go on to the client as they are: no text, no tool calls.

Pure. One decode into exactly these members, everything else skipped at the decoder's speed. Where anything is unusual (an
error, no usage, counts that do not add up) the full reader of `openai_chat_reply.py` has the word.
Place in the line: the verbatim lane of replies that are not streamed.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder

from penstock.event import Ended, Event, Finished, Started, UsageReported
from penstock.receipt import Usage
from penstock.wire.openai_chat_reply import finished, read_reply
from penstock.wire.token_counts import MOST_TOKENS, plausible

_Count = Annotated[int, Meta(ge=0)]
_Whole = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]


class _Message(Struct, gc=False):
    """What was said; only whether it is a refusal matters here."""

    refusal: str | None = None


class _Choice(Struct, gc=False):
    message: _Message
    finish_reason: str
    index: int = 0


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


class _Reply(Struct, gc=False):
    """A usual reply: what is typed as nothing makes another of it."""

    id: str
    model: str
    choices: Annotated[list[_Choice], Meta(min_length=1)]
    usage: _Usage
    created: int | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    error: None = None


_REPLY: Final = Decoder(_Reply)
_ENDED: Final = Ended()
_ENDS: Final[Mapping[str, Finished]] = MappingProxyType(
    {
        "stop": Finished("stop", "stop"),
        "length": Finished("length", "length"),
        "tool_calls": Finished("tool_calls", "tool_calls"),
        "content_filter": Finished("content_filter", "content_filter"),
    }
)
_NONE_GIVEN: Final = _Given()
_NONE_MADE: Final = _Made()


def tap_reply(body: bytes) -> tuple[Event, ...]:
    """Give start, ends, usage and end mark of a whole reply; all of its events where it is unusual. Raises UpstreamGarbled."""
    try:
        reply = _REPLY.decode(body)
        if not body.isascii():
            body.decode()  # the decoder does not check what it skips
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return read_reply(body)  # which says what is wrong
    usage, choices, end = reply.usage, reply.choices, _ENDS.get(reply.choices[0].finish_reason)
    into, out, given = usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details
    made, cached = usage.completion_tokens_details, usage.prompt_cache_hit_tokens or usage.cached_tokens or 0
    bare = not cached and (given is None or given == _NONE_GIVEN) and (made is None or made == _NONE_MADE)
    counted = Usage(into, out) if bare else _detailed(into, out, cached, given or _NONE_GIVEN, made or _NONE_MADE)
    if counted is None or into + out != usage.total_tokens:
        return read_reply(body)
    started = Started(reply.id, reply.model, reply.created or None, reply.system_fingerprint, reply.service_tier)
    if end is None or len(choices) > 1 or choices[0].index or choices[0].message.refusal:
        return started, *map(_finished, choices), UsageReported(counted), _ENDED
    return started, end, UsageReported(counted), _ENDED


def _detailed(into: int, out: int, cached: int, given: _Given, made: _Made) -> Usage | None:
    """Put the parts of a count to the whole, as `openai_chat_usage.read_usage` does."""
    said = Usage(
        into,
        out,
        given.cached_tokens or cached,
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

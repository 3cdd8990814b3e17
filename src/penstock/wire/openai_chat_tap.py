"""What the meter needs of a whole chat completion whose bytes go on to the client as they are: no text, no tool calls.

Pure. One decode into exactly these members, everything else skipped at the decoder's speed. Where anything is unusual (an
error, no usage, counts that do not add up) the full reader of `openai_chat_reply.py` has the word.
Place in the line: the verbatim lane of replies that are not streamed.
"""

from typing import Final

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from penstock.event import Ended, Event, Finished, Started, UsageReported
from penstock.receipt import Usage
from penstock.wire.openai_chat_reply import finished, read_reply
from penstock.wire.token_counts import MOST_TOKENS


class _Message(Struct):
    """What was said; only whether it is a refusal matters here."""

    refusal: str | None = None


class _Choice(Struct):
    message: _Message
    finish_reason: str
    index: int = 0


class _Given(Struct):
    cached_tokens: int | None = None
    audio_tokens: int | None = None
    cache_write_tokens: int | None = None
    image_tokens: int | None = None


class _Made(Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None
    image_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _Given | None = None
    completion_tokens_details: _Made | None = None
    cached_tokens: Raw = Raw(b"")
    prompt_cache_hit_tokens: Raw = Raw(b"")


class _Reply(Struct):
    id: str
    model: str
    choices: list[_Choice]
    usage: _Usage
    created: int | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    error: Raw = Raw(b"")


_REPLY: Final = Decoder(_Reply)
_ENDED: Final = Ended()
_NO_DETAILS: Final = (_Given(), _Made())


def tap_reply(body: bytes) -> tuple[Event, ...]:
    """Give start, ends, usage and end mark of a whole reply; all of its events where it is unusual. Raises UpstreamGarbled."""
    try:
        reply = _REPLY.decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return read_reply(body)  # which says what is wrong
    usage, choices = reply.usage, reply.choices
    into, out = usage.prompt_tokens, usage.completion_tokens
    given, made = usage.prompt_tokens_details or _NO_DETAILS[0], usage.completion_tokens_details or _NO_DETAILS[1]
    cached, written, heard = given.cached_tokens or 0, given.cache_write_tokens or 0, given.audio_tokens or 0
    thought, said = made.reasoning_tokens or 0, made.audio_tokens or 0
    seen, drawn = given.image_tokens or 0, made.image_tokens or 0
    right, wrong = made.accepted_prediction_tokens or 0, made.rejected_prediction_tokens or 0
    plain = (
        into + out == usage.total_tokens <= MOST_TOKENS
        and cached >= 0 <= written <= into - cached
        and heard >= 0 <= seen <= into - heard
        and thought >= 0 <= said <= out - thought - drawn
        and drawn >= 0 <= wrong <= out
        and 0 <= right <= MOST_TOKENS
    )
    if not plain or not choices or reply.error or usage.cached_tokens or usage.prompt_cache_hit_tokens:
        return read_reply(body)
    if not body.isascii():
        return read_reply(body)  # which checks that it is UTF-8
    started = Started(reply.id, reply.model, reply.created, reply.system_fingerprint, reply.service_tier)
    counted = UsageReported(
        Usage(into, out, cached, written, 0, thought, heard, said, right, wrong, "provider", seen, drawn)
    )
    if len(choices) == 1:
        return started, _finished(choices[0]), counted, _ENDED
    return started, *[_finished(choice) for choice in choices], counted, _ENDED


def _finished(choice: _Choice) -> Finished:
    return finished(choice.finish_reason, choice.index, refused=bool(choice.message.refusal))

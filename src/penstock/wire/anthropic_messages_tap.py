"""What the meter needs of a whole message whose bytes go on to the client as they are: no text, no tool calls.

Pure. One decode into exactly these members, everything else skipped at the decoder's speed. Where anything is unusual (an
error, no usage, a refusal) the full reader of `anthropic_messages_reply.py` has the word.
Place in the line: the verbatim lane of replies that are not streamed.
"""

from typing import Final

from msgspec import Raw, Struct
from msgspec.json import Decoder

from penstock.reply import Event, Told
from penstock.wire.anthropic_messages_errors import GARBLED
from penstock.wire.anthropic_messages_reply import finish_of, read_reply
from penstock.wire.anthropic_messages_usage import WireUsage, neutral_usage, tier_of


class _Usage(WireUsage, gc=False, kw_only=True):
    input_tokens: int
    output_tokens: int


class _Reply(Struct):
    id: str
    model: str
    content: Raw
    stop_reason: str
    usage: _Usage
    error: Raw = Raw(b"")


_REPLY: Final = Decoder(_Reply)


def tell(body: bytes) -> Told | None:
    """Say in one value what a whole reply says of which nothing is unusual; None of any other."""
    try:
        reply = _REPLY.decode(body)
    except GARBLED:
        return None
    if reply.error or not body.isascii() or memoryview(reply.content)[0] != ord("["):
        return None  # the full reader also checks that it is UTF-8
    usage, native = neutral_usage(reply.usage), reply.stop_reason
    if usage is None or not native:
        return None
    into, out, tier = usage.input_tokens, usage.output_tokens, tier_of(reply.usage)
    return Told(body, reply.id, reply.model, finish_of(native), into, out, None, tier, None, usage, native)


def tap_reply(body: bytes) -> tuple[Event, ...]:
    """Give start, end, usage and end mark of a whole reply; all of its events where it is unusual. Raises UpstreamGarbled."""
    told = tell(body)
    return read_reply(body) if told is None else told.events

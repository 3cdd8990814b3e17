"""What the meter needs of a whole Gemini reply whose bytes go on to the client as they are: no text.

Pure. One decode into exactly these members, everything else skipped at the decoder's speed. Where anything is unusual (an
error, a refused prompt, calls of functions, no usage) the full reader of `gemini_reply.py` has the word.
Place in the line: the verbatim lane of replies that are not streamed.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from penstock.reply import Event, Finish, Told
from penstock.wire.gemini_details import read_usage
from penstock.wire.gemini_reply import read_reply


class _Candidate(Struct, rename="camel"):
    finish_reason: str
    index: int | None = None


class _Reply(Struct, rename="camel"):
    candidates: list[_Candidate]
    usage_metadata: Raw
    response_id: str
    model_version: str
    prompt_feedback: Raw = Raw(b"")
    error: Raw = Raw(b"")


_REPLY: Final = Decoder(_Reply)
_ENDINGS: Final[Mapping[str, Finish]] = MappingProxyType({"STOP": "stop", "MAX_TOKENS": "length"})


def tell(body: bytes) -> Told | None:
    """Say in one value what a whole reply says of which nothing is unusual; None of any other."""
    if b'"functionCall"' in body or b'"trafficType"' in body or not body.isascii():
        return None
    try:
        reply = _REPLY.decode(body)
    except (DecodeError, RecursionError):
        return None
    if len(reply.candidates) != 1 or reply.error or reply.prompt_feedback or reply.candidates[0].index:
        return None
    native = reply.candidates[0].finish_reason
    reason, usage = _ENDINGS.get(native), read_usage(reply.usage_metadata)
    if reason is None or usage is None:
        return None
    into, out = usage.input_tokens, usage.output_tokens
    return Told(body, reply.response_id, reply.model_version, reason, into, out, None, None, None, usage, native)


def tap_reply(body: bytes) -> tuple[Event, ...]:
    """Give start, end, usage and end mark of a whole reply; all of its events where it is unusual. Raises UpstreamGarbled."""
    told = tell(body)
    return read_reply(body) if told is None else told.events

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

from penstock.reply import Ended, Event, Finish, Finished, Started, UsageReported
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


def tap_reply(body: bytes) -> tuple[Event, ...]:
    """Give start, end, usage and end mark of a whole reply; all of its events where it is unusual. Raises UpstreamGarbled."""
    if b'"functionCall"' in body or b'"trafficType"' in body or not body.isascii():
        return read_reply(body)
    try:
        reply = _REPLY.decode(body)
    except (DecodeError, RecursionError):
        return read_reply(body)
    if len(reply.candidates) != 1 or reply.error or reply.prompt_feedback or reply.candidates[0].index:
        return read_reply(body)
    native = reply.candidates[0].finish_reason
    reason = _ENDINGS.get(native)
    usage = read_usage(reply.usage_metadata)
    if reason is None or usage is None:
        return read_reply(body)
    started = Started(reply.response_id, reply.model_version)
    return started, Finished(reason, native), UsageReported(usage), Ended()

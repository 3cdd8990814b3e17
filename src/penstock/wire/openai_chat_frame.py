"""Reads a chat completions request that differs from one before it in its messages alone.

Pure. A client says the same of most of its calls. What stands around the messages of one was checked when it was read
(`openai_chat_request.frame`); where a body has the very same bytes there, only its messages are new. They are one JSON value
between two texts that are known, so the body is whole, and none of its members can stand twice. Only messages that are
nothing but text are read this way; any other body is for `openai_chat_request.py`, which has the word.
Place in the line: behind `openai_chat.py`, on the client's side, and on the provider's for the body that it is sent.
"""

from typing import Annotated, Final

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder

from penstock.call import Call, Content
from penstock.wire import openai_chat_request_types as wire
from penstock.wire.openai_chat_body import splice_request
from penstock.wire.openai_chat_content import Reading
from penstock.wire.openai_chat_request_types import NAME
from penstock.wire.splice import Outline

_MESSAGES: Final = Decoder(Annotated[list[wire.TextMessage], Meta(min_length=1)])


class Framed(Struct, frozen=True, eq=False, gc=False):
    """Gives the content of such a request, as `Reading` does of any."""

    raw: bytes
    frame: "Frame"

    def __call__(self) -> Content:
        """Read everything but the options."""
        return Reading(Outline(self.raw))()

    def put(self, call: Call, model: str, *, ask_usage: bool) -> bytes | None:
        """Do as `splice_request`; None if the call says more by now than its body does."""
        raw, frame, asks = self.raw, self.frame, call.stream and ask_usage and not call.stream_usage
        if raw is not call.raw or call.changed:
            return None
        if model != frame.named or asks is not frame.asks:
            frame.edit(model, asks=asks)
        return frame.sent_before + raw[frame.start : frame.sent_end] + frame.sent_behind


class Frame:
    """What stands before and behind the messages of a request, and what it says.

    `sent_before` and `sent_behind` are the same with the model `named`, and with the question for usage if it `asks`, as somebody
    wanted them last; what lies between them ends at `sent_end`, None where all that follows stays as it is.
    """

    __slots__ = (
        *("_before", "_behind", "_end", "_model", "_sampling", "_stream", "_usage"),
        *("asks", "named", "sent_before", "sent_behind", "sent_end", "start"),
    )

    def __init__(self, before: bytes, behind: bytes, call: Call) -> None:
        """`before` ends where the messages begin; `call` is what was read of them and both texts."""
        self._before, self._behind = before, behind
        self._model, self._sampling, self._stream, self._usage = (
            call.model,
            call.sampling,
            call.stream,
            call.stream_usage,
        )
        self.start, self._end = len(before), -len(behind)
        self.named, self.asks, self.sent_before, self.sent_behind = "", False, b"", b""
        self.sent_end: int | None = None

    def read(self, body: bytes) -> Call | None:
        """Read a body; None for one that is not of this kind, or not right."""
        start, end = self.start, self._end
        if body[:start] != self._before or body[end:] != self._behind:
            return None
        try:
            _MESSAGES.decode(body[start:end])
        except (DecodeError, UnicodeDecodeError, RecursionError):
            return None
        reading, stream, usage, size = Framed(body, self), self._stream, self._usage, len(body)
        return Call(NAME, self._model, self._sampling, reading, stream, usage, body, None, None, None, (), size)

    def edit(self, model: str, *, asks: bool) -> None:
        """Put a model in, and the question for usage, for every request that is read here."""
        raw = self._before + b"[]" + self._behind
        empty = Call(NAME, self._model, self._sampling, Reading(Outline(raw)), self._stream, not asks, raw)
        sent = splice_request(empty, model, ask_usage=True)
        assert sent is not None, "what says no more than its body can be spliced"
        _, start, end = Outline(sent).span("messages")
        self.named, self.asks, self.sent_before, self.sent_behind, self.sent_end = (
            model,
            asks,
            sent[:start],
            sent[end:],
            self._end,
        )
        if self.sent_behind == self._behind:
            self.sent_behind, self.sent_end = b"", None

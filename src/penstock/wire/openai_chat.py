"""The dialect of OpenAI's chat completions, which most servers of models speak: `POST /v1/chat/completions`, `GET /v1/models`.

Pure: bytes to meaning and back, in both directions. This file is the dialect as the rest of the program sees it, with its
errors and its list of models; the work is done in the files beside it:

    openai_chat_request.py   bytes -> Call (checked)     openai_chat_body.py     Call -> bytes (written or spliced)
    openai_chat_content.py   its messages, on demand     openai_chat_reply.py    whole replies, both directions
    openai_chat_frame.py     a request like the last one   openai_chat_habits.py  a stream like the last one
    openai_chat_*_types.py   the JSON as structs         openai_chat_stream.py   streams, both directions

Place in the line: `server/app.py` and `providers/http.py` reach it through `dialect.py`. Source: OpenAI's API reference.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from msgspec import Struct
from msgspec.json import encode

from penstock.call import Call
from penstock.errors import PenstockError, UpstreamError, UpstreamGarbled, UpstreamRejected
from penstock.reply import Event, Reply
from penstock.wire import openai_chat_body, openai_chat_reply, openai_chat_request, openai_chat_tap
from penstock.wire.dialect import NOTHING_ASKED, Asked, ModelRow, Readers
from penstock.wire.openai_chat_frame import Frame, Framed
from penstock.wire.openai_chat_habits import Habits
from penstock.wire.openai_chat_request_types import NAME
from penstock.wire.openai_chat_stream import ChatStreamReader
from penstock.wire.openai_chat_stream_writer import ChatStreamWriter
from penstock.wire.provider_error import classify, may_be_shown, read_said

_FAMILY: Final = frozenset({NAME, "responses"})
"""Dialects whose errors have one shape."""


class ErrorBody(Struct):
    """The least that makes an error body one of this dialect."""

    error: "_ErrorObject"


class _ErrorObject(Struct):
    message: str


class OpenAIChat(Struct, frozen=True):
    """See `dialect.Dialect`. With `ask_usage` every stream is asked for its usage, whether or not the client did."""

    ask_usage: bool = True
    stream_type: bytes = b"text/event-stream"

    @property
    def name(self) -> str:
        """The name in configurations, receipts and `Call.dialect`."""
        return NAME

    def read_request(self, body: bytes, asked: Asked = NOTHING_ASKED) -> Call:  # noqa: ARG002 - all stands in the body
        """Read a client's request. Raises InvalidRequest that names the member, whatever the bytes."""
        return openai_chat_request.read_request(body)

    def frame(self, call: Call) -> Frame | None:
        """Give what stands around the messages of a call just read, and reads others that have the same there."""
        return openai_chat_request.frame(call)

    def write_request(self, call: Call, model: str) -> tuple[bytes, tuple[str, ...]]:
        """Write a provider's request, and the names of what could not be expressed."""
        return openai_chat_body.write_request(call, model, ask_usage=self.ask_usage)

    def splice(self, call: Call, model: str) -> bytes | None:
        """Edit model, changed options and the question for usage into the client's own bytes; None if that cannot be."""
        reading = call.read
        if isinstance(reading, Framed) and (body := reading.put(call, model, ask_usage=self.ask_usage)) is not None:
            return body
        return openai_chat_body.splice_request(call, model, ask_usage=self.ask_usage)

    def read_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read a whole reply. Raises UpstreamGarbled; an error that came with status 200 is a `Failed`."""
        return openai_chat_reply.read_reply(body)

    def tap_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read start, ends and usage of a whole reply; more where it is unusual. Raises UpstreamGarbled."""
        return openai_chat_tap.tap_reply(body)

    tell = staticmethod(openai_chat_tap.tell)

    def write_reply(self, reply: Reply, call: Call) -> bytes:
        """Write a whole reply."""
        del call
        return openai_chat_reply.write_reply(reply)

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """Say what a provider's error means. Its own body is kept where a client of this dialect may see it."""
        error = classify(status, read_said(body))
        if isinstance(error, UpstreamRejected) and may_be_shown(body, ErrorBody):
            error.body = body
            error.dialect = NAME
        return error

    def write_error(self, error: PenstockError) -> bytes:
        """Write an error in OpenAI's form; what a provider of OpenAI's APIs said about the request goes on as it is."""
        if isinstance(error, UpstreamRejected) and error.dialect in _FAMILY and error.body:
            return error.body
        return openai_chat_reply.write_error(error)

    def error_headers(self, error: PenstockError) -> tuple[tuple[bytes, bytes], ...]:
        """Give nothing: the body says all."""
        del error
        return ()

    def stream_reader(self, *, strip_usage: bool = False) -> ChatStreamReader:
        """Make the reader of one stream; with `strip_usage` the frame with nothing but usage is not passed on."""
        return ChatStreamReader(strip_usage=strip_usage)

    def stream_readers(self) -> Readers:
        """Give what makes readers of the streams of one model, which read quicker what those before it had in common."""
        return partial(ChatStreamReader, strip_usage=False, habits=Habits())

    def stream_writer(self, call: Call) -> ChatStreamWriter:
        """Make the writer of one stream."""
        return ChatStreamWriter(call)

    def write_count_request(self, call: Call, model: str) -> bytes | None:
        """Give None: this API counts nothing beforehand."""
        del call, model
        return None

    def read_count(self, body: bytes) -> int:
        """Refuse: this API counts nothing beforehand."""
        del body
        raise UpstreamGarbled("This API has no counts of tokens.")

    def write_count(self, tokens: int) -> bytes:
        """Write a count as OpenAI's newer API does."""
        return encode({"object": "response.input_tokens", "input_tokens": tokens})

    def write_models(self, models: Sequence[ModelRow]) -> bytes:
        """Write the answer of `GET /v1/models`."""
        return encode({"object": "list", "data": [_model(model) for model in models]})

    def write_model(self, model: ModelRow) -> bytes:
        """Write the answer of `GET /v1/models/{id}`."""
        return encode(_model(model))


def _model(model: ModelRow) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owner}

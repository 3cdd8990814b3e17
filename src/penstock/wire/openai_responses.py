"""The dialect of OpenAI's Responses API: `POST /v1/responses`, `/v1/responses/input_tokens`, `GET /v1/models`.

Pure: bytes to meaning and back, in both directions. This file is the dialect as the rest of the program sees it; the work is done
in the files beside it:

    openai_responses_request.py   bytes -> Call (checked)    openai_responses_body.py            Call -> bytes (written or spliced)
    openai_responses_content.py   its items, on demand       openai_responses_items.py           messages -> items of the input
    openai_responses_reply.py     whole replies, read        openai_responses_output.py          whole replies, written
    openai_responses_stream.py    streams, read              openai_responses_stream_writer.py   streams, written
    openai_responses_reasoning.py, _signature.py, _citations.py   what the two directions share

Nothing is stored here: what refers to stored things goes to a provider of this dialect only, and a Response that was made from
another dialect's answer says `store: false`. Place in the line: `server/app.py` and `providers/http.py` reach it through
`registry.py`. Source: OpenAI's API reference.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import DecodeError, Struct
from msgspec.json import decode, encode

from penstock.call import NOTHING_ASKED, Asked, Call
from penstock.errors import PenstockError, UpstreamError, UpstreamGarbled, UpstreamRejected
from penstock.reply import Event, Reply
from penstock.wire import (
    openai_chat_reply,
    openai_responses_body,
    openai_responses_output,
    openai_responses_reply,
    openai_responses_request,
)
from penstock.wire.dialect import ModelRow
from penstock.wire.openai_chat import ErrorBody, OpenAIChat
from penstock.wire.openai_responses_request_types import NAME
from penstock.wire.openai_responses_stream import ResponsesStreamReader
from penstock.wire.openai_responses_stream_writer import ResponsesStreamWriter
from penstock.wire.provider_error import classify, may_be_shown, read_said

_FAMILY: Final = frozenset({NAME, "chat"})
"""Dialects whose errors have one shape."""


class _Count(Struct):
    input_tokens: int


class OpenAIResponses(Struct, frozen=True):
    """See `dialect.Dialect`."""

    stream_type: bytes = b"text/event-stream"

    @property
    def name(self) -> str:
        """The name in configurations, receipts and `Call.dialect`."""
        return NAME

    def read_request(self, body: bytes, asked: Asked = NOTHING_ASKED) -> Call:
        """Read a client's request. Raises InvalidRequest that names the member, whatever the bytes."""
        return openai_responses_request.read_request(body, asked.operation)

    def write_request(self, call: Call, model: str) -> tuple[bytes, tuple[str, ...]]:
        """Write a provider's request, and the names of what could not be expressed."""
        return openai_responses_body.write_request(call, model)

    def splice(self, call: Call, model: str) -> bytes | None:
        """Edit model and changed options into the client's own bytes; None if that cannot be."""
        return openai_responses_body.splice_request(call, model)

    def read_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read a whole reply. Raises UpstreamGarbled; an error that came with status 200 is a `Failed`."""
        return openai_responses_reply.read_reply(body)

    def tap_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read start, end and usage of a whole reply; more where it is unusual. Raises UpstreamGarbled."""
        return openai_responses_reply.tap_reply(body)

    def write_reply(self, reply: Reply, call: Call) -> bytes:
        """Write a whole reply, which says again what the call asked."""
        return openai_responses_output.write_reply(reply, call)

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

    def stream_reader(self, *, strip_usage: bool = False) -> ResponsesStreamReader:
        """Make the reader of one stream; usage is part of its last event and never left out."""
        del strip_usage
        return ResponsesStreamReader()

    def stream_writer(self, call: Call) -> ResponsesStreamWriter:
        """Make the writer of one stream."""
        return ResponsesStreamWriter(call)

    def write_count_request(self, call: Call, model: str) -> bytes | None:
        """Write the question how many tokens a prompt has."""
        return openai_responses_body.write_count_request(call, model)

    def read_count(self, body: bytes) -> int:
        """Read the answer to it. Raises UpstreamGarbled."""
        try:
            return max(0, decode(body, type=_Count).input_tokens)
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamGarbled("The provider's count of tokens is none.") from error

    def write_count(self, tokens: int) -> bytes:
        """Write the answer to a client's question how many tokens a prompt has."""
        return encode({"object": "response.input_tokens", "input_tokens": tokens})

    def write_models(self, models: Sequence[ModelRow]) -> bytes:
        """Write the answer of `GET /v1/models`."""
        return OpenAIChat().write_models(models)

    def write_model(self, model: ModelRow) -> bytes:
        """Write the answer of `GET /v1/models/{id}`."""
        return OpenAIChat().write_model(model)

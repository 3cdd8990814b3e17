"""The dialect of Anthropic's Messages: `POST /v1/messages`, `/v1/messages/count_tokens`, `GET /v1/models`.

Pure: bytes to meaning and back, in both directions. This file is the dialect as the rest of the program sees it, with its
errors, counts and list of models; the work is done in the files beside it:

    anthropic_messages_request.py  bytes -> Call (checked)     anthropic_messages_body.py    Call -> bytes (or spliced)
    anthropic_messages_content.py  its messages, on demand     anthropic_messages_turns.py   its messages
    anthropic_messages_reply.py    whole replies, both ways    anthropic_messages_rules.py   what each Claude takes
    anthropic_messages_stream.py   streams read                anthropic_messages_writer.py  streams written
    anthropic_messages_usage.py    usage, both ways            anthropic_messages_errors.py  errors, both ways
    anthropic_messages_tap.py      what the meter needs        anthropic_messages_citations.py  sources of texts

Place in the line: `server/app.py` and `providers/http.py` reach it through `dialect.py`. Source: Anthropic's API reference.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.json import decode, encode

from penstock.call import Call
from penstock.errors import PenstockError, UpstreamError, UpstreamGarbled, UpstreamRejected
from penstock.reply import Event, Reply
from penstock.wire import (
    anthropic_messages_body,
    anthropic_messages_errors,
    anthropic_messages_reply,
    anthropic_messages_request,
)
from penstock.wire.anthropic_messages_errors import GARBLED, garbled
from penstock.wire.anthropic_messages_request_types import NAME
from penstock.wire.anthropic_messages_stream import MessagesStreamReader
from penstock.wire.anthropic_messages_tap import tap_reply, tell
from penstock.wire.anthropic_messages_writer import MessagesStreamWriter
from penstock.wire.dialect import NOTHING_ASKED, Asked, ModelRow
from penstock.wire.provider_error import may_be_shown, read_said

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_S: Final = 253_402_300_799
"""The end of the year 9999."""


class _ErrorObject(Struct):
    type: str
    message: str


class _ErrorBody(Struct):
    """The least that makes an error body one of this dialect."""

    type: Literal["error"]
    error: _ErrorObject


class _Count(Struct):
    input_tokens: int


class AnthropicMessages(Struct, frozen=True):
    """See `dialect.Dialect`.

    With `anthropic_version` bodies are written for a platform that names the model elsewhere: `vertex-2023-10-16`,
    `bedrock-2023-05-31`.
    """

    anthropic_version: str = ""
    stream_type: bytes = b"text/event-stream"

    @property
    def name(self) -> str:
        """The name in configurations, receipts and `Call.dialect`."""
        return NAME

    def read_request(self, body: bytes, asked: Asked = NOTHING_ASKED) -> Call:
        """Read a client's request. Raises InvalidRequest that names the member, whatever the bytes."""
        return anthropic_messages_request.read_request(body, asked)

    def write_request(self, call: Call, model: str) -> tuple[bytes, tuple[str, ...]]:
        """Write a provider's request, and the names of what could not be expressed."""
        return anthropic_messages_body.write_request(call, model, self.anthropic_version)

    def splice(self, call: Call, model: str) -> bytes | None:
        """Edit the model and changed options into the client's own bytes; None if that cannot be."""
        return anthropic_messages_body.splice_request(call, model, self.anthropic_version)

    def read_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read a whole reply. Raises UpstreamGarbled; an error that came with status 200 is a `Failed`."""
        return anthropic_messages_reply.read_reply(body)

    def tap_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read start, end and usage of a whole reply; more where it is unusual. Raises UpstreamGarbled."""
        return tap_reply(body)

    tell = staticmethod(tell)

    def write_reply(self, reply: Reply, call: Call) -> bytes:
        """Write a whole reply."""
        del call
        return anthropic_messages_reply.write_reply(reply)

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """Say what a provider's error means. Its own body is kept where a client of this dialect may see it."""
        error = anthropic_messages_errors.read_said(status, read_said(body))
        if isinstance(error, UpstreamRejected) and may_be_shown(body, _ErrorBody):
            error.body = body
            error.dialect = NAME
        return error

    def write_error(self, error: PenstockError) -> bytes:
        """Write an error in Anthropic's form; what a provider of this dialect said about the request goes on as it is."""
        if isinstance(error, UpstreamRejected) and error.dialect == NAME and error.body:
            return error.body
        return anthropic_messages_errors.write_error(error)

    def error_headers(self, error: PenstockError) -> tuple[tuple[bytes, bytes], ...]:
        """Give the id of the call under the name where Anthropic's SDKs look for it."""
        return ((b"request-id", error.call_id.encode()),) if error.call_id else ()

    def stream_reader(self, *, strip_usage: bool = False) -> MessagesStreamReader:
        """Make the reader of one stream. Usage is always a part of it, so there is nothing to strip."""
        del strip_usage
        return MessagesStreamReader()

    def stream_writer(self, call: Call) -> MessagesStreamWriter:
        """Make the writer of one stream."""
        return MessagesStreamWriter(call)

    def write_count_request(self, call: Call, model: str) -> bytes | None:
        """Write the body of `/v1/messages/count_tokens`."""
        return anthropic_messages_body.write_count_request(call, model)

    def read_count(self, body: bytes) -> int:
        """Read its answer. Raises UpstreamGarbled."""
        try:
            count = decode(body, type=_Count).input_tokens
        except GARBLED as error:
            raise garbled("count", error) from None
        if count < 0:
            raise UpstreamGarbled("The provider's count of tokens is negative.")
        return count

    def write_count(self, tokens: int) -> bytes:
        """Write the answer of `/v1/messages/count_tokens`."""
        return encode({"input_tokens": tokens})

    def write_models(self, models: Sequence[ModelRow]) -> bytes:
        """Write the answer of `GET /v1/models`: all models on one page."""
        data = [_model(model) for model in models]
        first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        return encode({"data": data, "has_more": False, "first_id": first, "last_id": last})

    def write_model(self, model: ModelRow) -> bytes:
        """Write the answer of `GET /v1/models/{id}`."""
        return encode(_model(model))


def _model(model: ModelRow) -> dict[str, Any]:
    created = _EPOCH + timedelta(seconds=min(max(model.created, 0), _LATEST_S))
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": model.input_tokens,
        "max_tokens": model.output_tokens,
    }

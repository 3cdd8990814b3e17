"""The dialect of Amazon Bedrock's Converse: `POST /model/{modelId}/converse`, `/converse-stream` and `/count-tokens`.

Pure: bytes to meaning and back, in both directions. This file is the dialect as the rest of the program sees it, with its
counts and its lists of models; the work is done in the files beside it:

    ..._request.py   bytes -> Call (checked)          ..._body.py       Call -> bytes (written or spliced)
    ..._content.py   its messages, on demand          ..._blocks.py     its parts as blocks
    ..._fields.py    what one family of models takes  ..._citations.py, ..._carried.py, ..._media.py   sources, signatures, formats
    ..._reply.py     whole replies, both directions   ..._stream.py     frames -> events
    ..._errors.py    errors, both directions          ..._writer.py     events -> frames
    ..._types.py     the JSON as structs              eventstream.py    AWS's framing

The model stands in the path, so every body goes to a target of the same dialect as it came, unless an option was changed.
Place in the line: `server/app.py` and `providers/http.py` reach it through `dialect.py`. Source: the service model of
bedrock-runtime as the AWS SDKs have it (botocore), and the API reference made from it.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, encode

from penstock.call import Call
from penstock.errors import PenstockError, UpstreamError, UpstreamGarbled
from penstock.reply import Event, Reply
from penstock.wire import (
    bedrock_converse_body,
    bedrock_converse_errors,
    bedrock_converse_reply,
    bedrock_converse_request,
)
from penstock.wire.bedrock_converse_request_types import NAME
from penstock.wire.bedrock_converse_stream import ConverseStreamReader
from penstock.wire.bedrock_converse_writer import ConverseStreamWriter
from penstock.wire.dialect import NOTHING_ASKED, Asked, ModelRow
from penstock.wire.eventstream import CONTENT_TYPE


class _Counted(Struct, rename="camel"):
    input_tokens: int


_COUNTED: Final = Decoder(_Counted)


class BedrockConverse(Struct, frozen=True):
    """See `dialect.Dialect`."""

    stream_type: bytes = CONTENT_TYPE

    @property
    def name(self) -> str:
        """The name in configurations, receipts and `Call.dialect`."""
        return NAME

    def read_request(self, body: bytes, asked: Asked = NOTHING_ASKED) -> Call:
        """Read a client's request. Raises InvalidRequest that names the member, whatever the bytes."""
        return bedrock_converse_request.read_request(body, asked)

    def write_request(self, call: Call, model: str) -> tuple[bytes, tuple[str, ...]]:
        """Write a provider's request, and the names of what could not be expressed."""
        return bedrock_converse_body.write_request(call, model)

    def splice(self, call: Call, model: str) -> bytes | None:
        """Edit changed options into the client's own bytes; None if that cannot be."""
        return bedrock_converse_body.splice_request(call, model)  # whose name stands in the path

    def read_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read a whole reply. Raises UpstreamGarbled."""
        return bedrock_converse_reply.read_reply(body)

    def tap_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read start, end and usage of a whole reply; more where it is unusual. Raises UpstreamGarbled."""
        return bedrock_converse_reply.tap_reply(body)

    def write_reply(self, reply: Reply, call: Call) -> bytes:
        """Write a whole reply."""
        del call
        return bedrock_converse_reply.write_reply(reply)

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """Say what a provider's error means. Its own body is kept where a client of this dialect may see it."""
        return bedrock_converse_errors.read_error(status, body)

    def write_error(self, error: PenstockError) -> bytes:
        """Write an error; what a provider of this dialect said about the request goes on as it is."""
        return bedrock_converse_errors.write_error(error)

    def error_headers(self, error: PenstockError) -> tuple[tuple[bytes, bytes], ...]:
        """Give the header that says which exception it is."""
        return bedrock_converse_errors.error_headers(error)

    def stream_reader(self, *, strip_usage: bool = False) -> ConverseStreamReader:
        """Make the reader of one stream; its usage is never stripped, since clients of this API always get it."""
        del strip_usage
        return ConverseStreamReader()

    def stream_writer(self, call: Call) -> ConverseStreamWriter:
        """Make the writer of one stream."""
        return ConverseStreamWriter(call)

    def write_count_request(self, call: Call, model: str) -> bytes | None:
        """Write the question how many tokens a prompt has."""
        return bedrock_converse_body.write_count_request(call, model)

    def read_count(self, body: bytes) -> int:
        """Read the answer to it. Raises UpstreamGarbled."""
        try:
            tokens = _COUNTED.decode(body).input_tokens
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise bedrock_converse_reply.garbled("count", error) from None
        if tokens < 0:
            raise UpstreamGarbled("The provider counted less than no tokens.")
        return tokens

    def write_count(self, tokens: int) -> bytes:
        """Write the answer of `/count-tokens`."""
        return encode({"inputTokens": tokens})

    def write_models(self, models: Sequence[ModelRow]) -> bytes:
        """Write a list of models as Bedrock's control plane does (`ListFoundationModels`); this API itself has none."""
        return encode({"modelSummaries": [_model(model) for model in models]})

    def write_model(self, model: ModelRow) -> bytes:
        """Write one model as Bedrock's control plane does (`GetFoundationModel`)."""
        return encode({"modelDetails": _model(model)})


def _model(model: ModelRow) -> dict[str, Any]:
    return {
        "modelArn": f"arn:aws:bedrock:local::foundation-model/{model.id}",
        "modelId": model.id,
        "modelName": model.id,
        "providerName": model.owner,
        "inputModalities": ["TEXT"],
        "outputModalities": ["TEXT"],
        "responseStreamingSupported": True,
    }

"""The dialect of Gemini's `generateContent`, which the Gemini API and Vertex AI speak, with its streams and token counts.

Pure: bytes to meaning and back, in both directions. This file is the dialect as the rest of the program sees it, with its
counts and its list of models; the work is done in the files beside it:

    gemini_request.py   bytes -> Call (checked)      gemini_body.py, gemini_turns.py   Call -> bytes (written or spliced)
    gemini_content.py   its turns, on demand         gemini_reply.py, gemini_tap.py    whole replies, both directions
    gemini_schema.py    JSON Schema, both ways       gemini_stream.py                  streams, both directions
    gemini_errors.py    errors, both directions      gemini_details.py                 usage, sources, log probabilities
    gemini_types.py     the JSON as structs          gemini_members.py                 names, unknown members, signatures

The model, and whether the answer is streamed, stand in the path. Place in the line: `server/app.py` and `providers/http.py`
reach it through `dialect.py`. Source: the reference of the Gemini API, and Google's SDK for Python.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, encode

from penstock.call import Call
from penstock.errors import PenstockError, UpstreamError, UpstreamGarbled
from penstock.reply import Event, Reply
from penstock.wire import gemini_body, gemini_errors, gemini_reply, gemini_request
from penstock.wire.dialect import NOTHING_ASKED, Asked, ModelRow
from penstock.wire.gemini_stream import SSE_TYPE, GeminiStreamReader, GeminiStreamWriter
from penstock.wire.gemini_tap import tap_reply, tell
from penstock.wire.gemini_types import NAME

ANSWERS: Final = ("generateContent", "countTokens")
"""What models that answer can be asked."""


class _Count(Struct, rename="camel"):
    total_tokens: int


_COUNT: Final = Decoder(_Count)


class Gemini(Struct, frozen=True):
    """See `dialect.Dialect`. Without `wraps_count` a count is asked for as Vertex AI wants it."""

    wraps_count: bool = True
    stream_type: bytes = SSE_TYPE

    @property
    def name(self) -> str:
        """The name in configurations, receipts and `Call.dialect`."""
        return NAME

    def read_request(self, body: bytes, asked: Asked = NOTHING_ASKED) -> Call:
        """Read a client's request. Raises InvalidRequest that names the member, whatever the bytes."""
        return gemini_request.read_request(body, asked)

    def write_request(self, call: Call, model: str) -> tuple[bytes, tuple[str, ...]]:
        """Write a provider's request, and the names of what could not be expressed."""
        return gemini_body.write_request(call, model)

    def splice(self, call: Call, model: str) -> bytes | None:
        """Edit changed options into the client's own bytes; None if that cannot be."""
        return gemini_body.splice_request(call, model)

    def read_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read a whole reply. Raises UpstreamGarbled; an error that came with status 200 is a `Failed`."""
        return gemini_reply.read_reply(body)

    def tap_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read start, end and usage of a whole reply; more where it is unusual. Raises UpstreamGarbled."""
        return tap_reply(body)

    tell = staticmethod(tell)

    def write_reply(self, reply: Reply, call: Call) -> bytes:
        """Write a whole reply."""
        del call
        return gemini_reply.write_reply(reply)

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """Say what a provider's error means. Its own body is kept where a client of this dialect may see it."""
        return gemini_errors.read_error(status, body)

    def write_error(self, error: PenstockError) -> bytes:
        """Write an error in Google's form; what a provider of this dialect said about the request goes on as it is."""
        return gemini_errors.write_error(error)

    def error_headers(self, error: PenstockError) -> tuple[tuple[bytes, bytes], ...]:
        """Give nothing: the body says all."""
        del error
        return ()

    def stream_reader(self, *, strip_usage: bool = False) -> GeminiStreamReader:
        """Make the reader of one stream; usage comes with it unasked, so nothing is ever stripped."""
        del strip_usage
        return GeminiStreamReader()

    def stream_writer(self, call: Call) -> GeminiStreamWriter:
        """Make the writer of one stream, in the form that the client asked for."""
        return GeminiStreamWriter(call)

    def write_count_request(self, call: Call, model: str) -> bytes | None:
        """Write the body of a `countTokens`."""
        return gemini_body.write_count_request(call, model, wrapped=self.wraps_count)

    def read_count(self, body: bytes) -> int:
        """Read the answer to it. Raises UpstreamGarbled."""
        try:
            count = _COUNT.decode(body)
        except (DecodeError, RecursionError) as error:
            raise gemini_reply.garbled("count", error) from None
        if count.total_tokens < 0:
            raise UpstreamGarbled("The provider counted less than no tokens.")
        return count.total_tokens

    def write_count(self, tokens: int) -> bytes:
        """Write the answer to a client's `countTokens`."""
        return encode({"totalTokens": tokens})

    def write_models(self, models: Sequence[ModelRow]) -> bytes:
        """Write the answer of `GET /v1beta/models`."""
        return encode({"models": [model_object(model, ANSWERS) for model in models]})

    def write_model(self, model: ModelRow) -> bytes:
        """Write the answer of `GET /v1beta/models/{model}`."""
        return encode(model_object(model, ANSWERS))


def model_object(model: ModelRow, methods: Sequence[str]) -> dict[str, Any]:
    """Write a model and what it can be asked."""
    out: dict[str, Any] = {"name": f"models/{model.id}", "version": "001", "displayName": model.id}
    if model.input_tokens is not None:
        out["inputTokenLimit"] = model.input_tokens
    if model.output_tokens is not None:
        out["outputTokenLimit"] = model.output_tokens
    return {**out, "supportedGenerationMethods": list(methods)}

"""The dialect of Ollama: `POST /api/chat`, `POST /api/generate`, `GET /api/tags`, `POST /api/show`.

Pure: bytes to meaning and back, in both directions. This file is the dialect as the rest of the program sees it, with its
errors and its lists of models; the work is done in the files beside it:

    ollama_request.py   bytes -> Call (checked)     ollama_body.py        Call -> bytes (written or spliced)
    ollama_content.py   its messages, on demand     ollama_reply.py       whole replies, both directions
    ollama_*_types.py   the JSON as structs         ollama_stream.py      streams (ndjson.py), both directions
    ollama_reasoning.py signatures                  ollama_embeddings.py  embeddings: a dialect of its own

`Call.form` is "chat" or "generate". A call of the form "generate" is written as such and goes to `/api/generate`; any other
to `/api/chat`. Streams are the default of both.
Place in the line: `server/app.py` and `providers/http.py` reach it through `registry.py`. Source: Ollama's API documentation.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.json import encode

from penstock.call import Call
from penstock.errors import PenstockError, UpstreamError, UpstreamGarbled, UpstreamRejected
from penstock.reply import Event, Reply
from penstock.wire import ollama_body, ollama_reply, ollama_request
from penstock.wire.dialect import NOTHING_ASKED, Asked, ModelRow
from penstock.wire.ollama_request_types import NAME
from penstock.wire.ollama_stream import CONTENT_TYPE, OllamaStreamReader, OllamaStreamWriter
from penstock.wire.provider_error import classify, may_be_shown, read_said


class _ErrorBody(Struct):
    """The least that makes an error body one of this dialect."""

    error: str


class Ollama(Struct, frozen=True):
    """See `dialect.Dialect`."""

    stream_type: bytes = CONTENT_TYPE

    @property
    def name(self) -> str:
        """The name in configurations, receipts and `Call.dialect`."""
        return NAME

    def read_request(self, body: bytes, asked: Asked = NOTHING_ASKED) -> Call:
        """Read a client's request of the form that was asked for. Raises InvalidRequest that names the member."""
        return ollama_request.read_request(body, asked.form)

    def write_request(self, call: Call, model: str) -> tuple[bytes, tuple[str, ...]]:
        """Write a provider's request, and the names of what could not be expressed."""
        return ollama_body.write_request(call, model)

    def splice(self, call: Call, model: str) -> bytes | None:
        """Edit model and changed options into the client's own bytes; None if that cannot be."""
        return ollama_body.splice_request(call, model)

    def read_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read a whole reply of either form. Raises UpstreamGarbled; an error that came with status 200 is a `Failed`."""
        return ollama_reply.read_reply(body)

    def tap_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read start, end and usage of a whole reply; more where it is unusual. Raises UpstreamGarbled."""
        return ollama_reply.tap_reply(body)

    def write_reply(self, reply: Reply, call: Call) -> bytes:
        """Write a whole reply in the form of the call."""
        return ollama_reply.write_reply(reply, call)

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """Say what a provider's error means. Its own body is kept where a client of this dialect may see it."""
        error = classify(status, read_said(body))
        if isinstance(error, UpstreamRejected) and may_be_shown(body, _ErrorBody):
            error.body = body
            error.dialect = NAME
        return error

    def write_error(self, error: PenstockError) -> bytes:
        """Write an error in Ollama's form; what a provider of this dialect said about the request goes on as it is."""
        if isinstance(error, UpstreamRejected) and error.dialect == NAME and error.body:
            return error.body
        return ollama_reply.write_error(error)

    def error_headers(self, error: PenstockError) -> tuple[tuple[bytes, bytes], ...]:
        """Give nothing: the body says all."""
        del error
        return ()

    def stream_reader(self, *, strip_usage: bool = False) -> OllamaStreamReader:
        """Make the reader of one stream. Usage always stands in its last line, which no client can do without."""
        del strip_usage
        return OllamaStreamReader()

    def stream_writer(self, call: Call) -> OllamaStreamWriter:
        """Make the writer of one stream."""
        return OllamaStreamWriter(call)

    def write_count_request(self, call: Call, model: str) -> bytes | None:
        """Give None: this API counts nothing beforehand."""
        del call, model
        return None

    def read_count(self, body: bytes) -> int:
        """Refuse: this API counts nothing beforehand."""
        del body
        raise UpstreamGarbled("This API has no counts of tokens.")

    def write_count(self, tokens: int) -> bytes:
        """Write a count under the name that it has in a reply; Ollama's clients never ask."""
        return encode({"prompt_eval_count": tokens})

    def write_models(self, models: Sequence[ModelRow]) -> bytes:
        """Write the answer of `GET /api/tags`."""
        rows = [
            {
                "name": model.id,
                "model": model.id,
                "modified_at": ollama_reply.write_time(model.created),
                "size": 0,
                "digest": "",
                "details": _details(model),
            }
            for model in models
        ]
        return encode({"models": rows})

    def write_model(self, model: ModelRow) -> bytes:
        """Write the answer of `POST /api/show`."""
        info: dict[str, Any] = {"general.architecture": "penstock", "general.basename": model.id}
        if model.input_tokens is not None:
            info["penstock.context_length"] = model.input_tokens
        return encode(
            {
                "modelfile": "",
                "parameters": "",
                "template": "",
                "details": _details(model),
                "model_info": info,
                "capabilities": ["completion", *(word for name, word in _CAPABILITIES if name in model.capabilities)],
                "modified_at": ollama_reply.write_time(model.created),
            }
        )


_CAPABILITIES: Final = (("tools", "tools"), ("vision", "vision"), ("reasoning", "thinking"))
"""What a model can do, in our words and in Ollama's."""


def _details(model: ModelRow) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "",
        "family": model.owner,
        "families": [model.owner],
        "parameter_size": "",
        "quantization_level": "",
    }

"""The dialect of OpenAI's embeddings: `POST /v1/embeddings`.

Pure: bytes to meaning and back, in both directions. Vectors come as numbers or, as OpenAI's SDK asks by default, in base64 of
little-endian 32-bit floats; both are read, and each client gets what it asked for. Errors, model lists and the rest are those of
the chat API. Place in the line: `server/app.py` and `providers/http.py` reach it through `registry.py`. Source: OpenAI's API
reference.
"""

import struct
from binascii import Error as BadBase64
from binascii import a2b_base64, b2a_base64
from typing import Annotated, Any, Final, Literal

from msgspec import DecodeError, Meta, Raw, Struct, ValidationError
from msgspec.json import Decoder, encode

from penstock.call import NOTHING_ASKED, Asked, Call, Content, Embed, Sampling
from penstock.errors import InvalidRequest, UpstreamGarbled
from penstock.event import Embedded, Ended, Event, Failed, Started, UsageReported
from penstock.receipt import Usage
from penstock.reply import Reply
from penstock.wire.dialect import told_nothing
from penstock.wire.openai_chat import OpenAIChat
from penstock.wire.openai_chat_reply import check_utf8, read_in_band
from penstock.wire.openai_chat_request_types import NAME
from penstock.wire.openai_chat_usage import is_said
from penstock.wire.openai_responses_request import refuse, wrong
from penstock.wire.provider_error import clean
from penstock.wire.splice import Outline
from penstock.wire.token_counts import count, plausible

MAX_INPUTS: Final = 2_048
"""As many texts as OpenAI takes at once."""

_FLOAT_BYTES: Final = 4
_INPUT: Final = "Send a text, a list of texts, a list of token ids, or a list of such lists; at most 2,048 of them."
_NEUTRAL: Final = frozenset({"model", "input", "dimensions", "encoding_format", "user"})


class _Request(Struct, gc=False):
    model: Annotated[str, Meta(min_length=1)]
    input: str | Annotated[list[str | int | list[int]], Meta(min_length=1)]
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


class _Vector(Struct, gc=False):
    embedding: list[float] | str
    index: int | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: int | None = None


class _Head(Struct, gc=False):
    model: str | None = None
    usage: _Usage | None = None
    error: Raw = Raw(b"")


class _Reply(_Head, gc=False):
    data: list[_Vector] | None = None


_REQUEST: Final = Decoder(_Request)
_REPLY: Final = Decoder(_Reply)
_HEAD: Final = Decoder(_Head)


class _Reading:
    """Gives the content of one request."""

    __slots__ = ("outline",)

    def __init__(self, outline: Outline) -> None:
        self.outline = outline

    def __call__(self) -> Content:
        request = _REQUEST.decode(self.outline.raw)
        members = self.outline.members.items()
        return Content(
            (),
            extra=tuple((name, bytes(raw)) for name, raw in members if name not in _NEUTRAL),
            embed=Embed(_inputs(request.input), request.dimensions, request.encoding_format or "float"),
        )


class OpenAIEmbeddings(OpenAIChat, frozen=True):
    """See `dialect.Dialect`. Errors and lists of models are those of the chat API; streams there are none."""

    def read_request(self, body: bytes, asked: Asked = NOTHING_ASKED) -> Call:
        """Read a client's request. Raises InvalidRequest that names the member, whatever the bytes."""
        del asked  # everything stands in the body
        outline = Outline(body)
        try:
            request = _REQUEST.decode(body)
        except (ValidationError, RecursionError) as error:
            raise _refuse(error) from None
        _check(request.input)
        return Call(
            NAME,
            request.model,
            Sampling(),
            _Reading(outline),
            raw=body,
            user=request.user,
            input_bound=len(body),
            operation="embed",
        )

    def write_request(self, call: Call, model: str) -> tuple[bytes, tuple[str, ...]]:
        """Write a provider's request, and the names of what could not be expressed."""
        content = call.content
        embed = content.embed or Embed(())
        own = call.dialect == NAME
        body: dict[str, Any] = {"model": model, "input": embed.inputs}
        if embed.dimensions is not None:
            body["dimensions"] = embed.dimensions
        if own:
            body["encoding_format"] = embed.form
        if call.user is not None:
            body["user"] = call.user
        dropped = {name for name, value in (("task", embed.task), ("title", embed.title)) if value is not None}
        if own:
            body.update((name, Raw(json)) for name, json in content.extra)
        else:
            dropped.update(name for name, _ in content.extra)
        return encode(body), tuple(sorted(dropped))

    def splice(self, call: Call, model: str) -> bytes | None:
        """Edit the model into the client's own bytes; None if there are none."""
        if call.dialect != NAME or not call.raw or call.changed:
            return None
        reading = call.read
        outline = reading.outline if isinstance(reading, _Reading) else Outline(call.raw)
        name = encode(model)
        return call.raw if bytes(outline.members["model"]) == name else outline.splice([("model", name)])

    def read_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read all vectors. Raises UpstreamGarbled; an error that came with status 200 is a `Failed`."""
        try:
            check_utf8(body)
            reply = _REPLY.decode(body)
            if is_said(reply.error):
                return Failed(read_in_band(reply.error)), Ended()
            if reply.data is None:
                raise UpstreamGarbled("The provider's reply has no embeddings.")
            vectors = [
                Embedded(place if vector.index is None else vector.index, _numbers(vector.embedding))
                for place, vector in enumerate(reply.data)
            ]
        except (DecodeError, UnicodeDecodeError, RecursionError, BadBase64, struct.error) as error:
            raise _garbled(error) from None
        return Started(model=reply.model or ""), *vectors, *_used(reply.usage), Ended()

    tell = staticmethod(told_nothing)

    def tap_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read who answered and the usage; more where it is unusual. Raises UpstreamGarbled."""
        try:
            check_utf8(body)
            reply = _HEAD.decode(body)
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _garbled(error) from None
        if is_said(reply.error) or reply.usage is None:
            return self.read_reply(body)
        arrived = Embedded(0, ())  # tells the line that there is an answer, whose vectors pass unread
        return Started(model=reply.model or ""), arrived, *_used(reply.usage), Ended()

    def write_reply(self, reply: Reply, call: Call) -> bytes:
        """Write all vectors, in the form that the call asked for."""
        embed = call.content.embed
        in_base64 = embed is not None and embed.form == "base64"
        tokens = 0 if reply.usage is None else reply.usage.input_tokens
        data = [
            {"object": "embedding", "index": index, "embedding": _base64(vector) if in_base64 else vector}
            for index, vector in enumerate(reply.embeddings)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return encode({"object": "list", "data": data, "model": reply.model or call.model, "usage": usage})


def _check(said: str | list[str | int | list[int]]) -> None:
    """Check what types cannot say of the input: that it is one kind, holds something, and is not too long."""
    if not isinstance(said, list):
        if not said:
            raise wrong("input", "`input` is empty.", _INPUT)
        return
    if len({type(item) for item in said}) > 1:
        raise wrong("input", "`input` mixes texts, token ids and lists.", _INPUT)
    if not isinstance(said[0], int) and len(said) > MAX_INPUTS:
        raise wrong("input", f"`input` has {len(said)} texts.", _INPUT)
    for index, item in enumerate(said):
        if item in ("", []):
            raise wrong(f"input[{index}]", f"`input[{index}]` is empty.", _INPUT)


def _inputs(said: str | list[str | int | list[int]]) -> tuple[str | tuple[int, ...], ...]:
    if isinstance(said, str):
        return (said,)
    if isinstance(said[0], int):
        return (tuple(item for item in said if isinstance(item, int)),)
    return tuple(tuple(item) if isinstance(item, list) else str(item) for item in said)


def _numbers(embedding: list[float] | str) -> tuple[float, ...]:
    if not isinstance(embedding, str):
        return tuple(embedding)
    data = a2b_base64(embedding, strict_mode=True)
    return struct.unpack(f"<{len(data) // _FLOAT_BYTES}f", data)


def _base64(vector: tuple[float, ...]) -> str:
    return b2a_base64(struct.pack(f"<{len(vector)}f", *vector), newline=False).decode()


def _used(usage: _Usage | None) -> tuple[UsageReported, ...]:
    if usage is None or usage.prompt_tokens is None:
        return ()
    used = plausible(Usage(count(usage.prompt_tokens)))
    return () if used is None else (UsageReported(used),)


def _refuse(error: Exception) -> InvalidRequest:
    refused = refuse(error, "")
    if refused.param is not None and refused.param.startswith("input"):
        refused.hint = _INPUT
    return refused


def _garbled(error: Exception) -> UpstreamGarbled:
    return UpstreamGarbled(f"The provider's reply holds no embeddings: {clean(str(error), 200)}.")

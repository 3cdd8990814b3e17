"""The dialect of Gemini's embeddings: `:embedContent` for one text, `:batchEmbedContents` for several.

Pure, in both directions. Providers are always asked for a batch, as Google's own SDK does; a client is answered in the form
that it asked in. The API reports no usage. Contents that are not text (newer models embed pictures) stay in the client's own
bytes, which only a provider of this dialect can be sent.
Place in the line: `server/app.py` and `providers/http.py` reach it through `dialect.py`. Source: the Gemini API's reference.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from msgspec import DecodeError, Meta, Raw, Struct, ValidationError
from msgspec.json import Decoder, decode, encode

from penstock.call import Call, Content, Embed, Members, Sampling
from penstock.errors import InvalidRequest, UpstreamGarbled
from penstock.reply import Embedded, Ended, Event, Failed, Reply, Started
from penstock.wire import gemini_errors
from penstock.wire.dialect import NOTHING_ASKED, Asked, ModelRow, told_nothing
from penstock.wire.gemini import Gemini, model_object
from penstock.wire.gemini_content import turns_of
from penstock.wire.gemini_members import ITEMS, Object, given, rest
from penstock.wire.gemini_reply import SILENT, garbled
from penstock.wire.gemini_request import in_one_spelling, refuse
from penstock.wire.gemini_types import NAME, Turn
from penstock.wire.splice import Outline, splice

METHODS: Final = ("embedContent", "batchEmbedContents")
"""What models that embed can be asked."""


class _One(Struct, rename="camel"):
    content: Turn
    model: str | None = None
    task_type: str | None = None
    title: str | None = None
    output_dimensionality: Annotated[int, Meta(ge=1)] | None = None


class _Batch(Struct):
    requests: Annotated[list[_One], Meta(min_length=1)]
    model: str | None = None


class _Vector(Struct):
    values: list[float]


class _Vectors(Struct):
    embedding: _Vector | None = None
    embeddings: list[_Vector] | None = None
    error: Raw = Raw(b"")


_ONE: Final = Decoder(_One)
_BATCH: Final = Decoder(_Batch)
_VECTORS: Final = Decoder(_Vectors)
_MEMBERS: Final = ("content", "model", "taskType", "title", "outputDimensionality")


class _Reading:
    """Gives the content of one request; `requests` are its parts, `extra` what only this dialect knows."""

    __slots__ = ("_extra", "_requests")

    def __init__(self, requests: list[_One], extra: Members) -> None:
        self._requests = requests
        self._extra = extra

    def __call__(self) -> Content:
        """Read the texts and what is said of all of them."""
        first = self._requests[0]
        texts = tuple("\n".join(part.text or "" for part in turns_of(one.content.parts)) for one in self._requests)
        embed = Embed(texts, first.output_dimensionality, "float", first.task_type, first.title)
        return Content((), extra=self._extra, embed=embed)


class GeminiEmbeddings(Gemini, frozen=True):
    """See `dialect.Dialect`. Errors are those of Gemini's other methods; streams and counts there are none."""

    def read_request(self, body: bytes, asked: Asked = NOTHING_ASKED) -> Call:
        """Read a client's request. Raises InvalidRequest that names the member, whatever the bytes."""
        try:
            outline = in_one_spelling(Outline(body))
            form = asked.form or ("batch" if "requests" in outline.members else "one")
            if form == "one":
                requests = [_ONE.decode(outline.raw)]
                raws = [outline.raw]
            else:
                requests = _BATCH.decode(outline.raw).requests
                raws = [bytes(raw) for raw in ITEMS.decode(outline.members["requests"])]
        except (ValidationError, RecursionError) as error:
            raise refuse(error) from None
        native = set[str]()
        for index, one in enumerate(requests):
            _check(one, "content" if form == "one" else f"requests[{index}].content", native)
            if _said_of_all(one) != _said_of_all(requests[0]):
                native.add("requests")
        extra = {name: json for raw in raws for name, json in rest(Outline(raw).members, *_MEMBERS)}
        model = (asked.model or requests[0].model or "").removeprefix("models/")
        if not model:
            hint = "Send it in the path: /v1beta/models/{model}:embedContent."
            raise InvalidRequest("The request names no model.", param="model", hint=hint)
        return Call(
            NAME,
            model,
            Sampling(),
            _Reading(requests, tuple(extra.items())),
            raw=body,
            input_bound=None if native else len(body),
            operation="embed",
            native=tuple(sorted(native)),
            form=form,
        )

    def write_request(self, call: Call, model: str) -> tuple[bytes, tuple[str, ...]]:
        """Write a batch, and the names of what could not be expressed."""
        content = call.content
        embed = content.embed or Embed(())
        own = call.dialect == NAME
        dropped = set(call.native) | (set() if own else {name for name, _ in content.extra})
        if call.user is not None:
            dropped.add("user")
        said: Object = given(taskType=embed.task, title=embed.title, outputDimensionality=embed.dimensions) | {
            name: Raw(json) for name, json in content.extra if own
        }
        requests: list[Object] = []
        for text in embed.inputs:
            if not isinstance(text, str):
                dropped.add("input")  # ids of tokens mean nothing to another vocabulary
            known = text if isinstance(text, str) else ""
            requests.append({"model": f"models/{model}", "content": {"parts": [{"text": known}]}, **said})
        return encode({"requests": requests}), tuple(sorted(dropped))

    def splice(self, call: Call, model: str) -> bytes | None:
        """Edit the model into each request of the client's own batch; None if that cannot be."""
        if call.dialect != NAME or call.operation != "embed" or call.form != "batch" or not call.raw or call.changed:
            return None
        outline = Outline(call.raw)
        name = encode(f"models/{model}")
        edits: list[tuple[str, bytes | None]] = [("model", name)] if "model" in outline.members else []
        requests = [splice(bytes(raw), [("model", name)]) for raw in ITEMS.decode(outline.members["requests"])]
        return outline.splice([*edits, ("requests", b"[%b]" % b",".join(requests))])

    def read_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read the embeddings. Raises UpstreamGarbled; an error that came with status 200 is a `Failed`."""
        try:
            reply = _VECTORS.decode(body)
            if bytes(reply.error) not in SILENT:
                return Failed(gemini_errors.read_in_band(decode(body))), Ended()
        except (DecodeError, RecursionError) as error:
            raise garbled("reply", error) from None
        vectors = reply.embeddings if reply.embedding is None else [reply.embedding]
        if vectors is None:
            raise UpstreamGarbled("The provider's reply has no embeddings.")
        events = [Embedded(index, tuple(vector.values)) for index, vector in enumerate(vectors)]
        return Started(), *events, Ended()

    tell = staticmethod(told_nothing)

    def tap_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read the reply: there is no usage in it that could be read alone. Raises UpstreamGarbled."""
        return self.read_reply(body)

    def write_reply(self, reply: Reply, call: Call) -> bytes:
        """Write the embeddings in the form that the client asked in."""
        vectors = [{"values": vector} for vector in reply.embeddings]
        return encode(
            {"embedding": vectors[0] if vectors else {"values": []}} if call.form == "one" else {"embeddings": vectors}
        )

    def write_count_request(self, call: Call, model: str) -> bytes | None:
        """Give None: what is embedded is not counted beforehand."""
        del call, model
        return None

    def read_count(self, body: bytes) -> int:
        """Refuse: what is embedded is not counted beforehand."""
        del body
        raise UpstreamGarbled("This API has no counts of tokens for embeddings.")

    def write_models(self, models: Sequence[ModelRow]) -> bytes:
        """Write a list of models."""
        return encode({"models": [model_object(model, METHODS) for model in models]})

    def write_model(self, model: ModelRow) -> bytes:
        """Write one model."""
        return encode(model_object(model, METHODS))


def _said_of_all(one: _One) -> tuple[Any, ...]:
    return one.task_type, one.title, one.output_dimensionality


def _check(one: _One, place: str, native: set[str]) -> None:
    """Check that there is something to embed, and note what is no text."""
    parts = turns_of(one.content.parts)
    if not parts:
        hint = 'Send a list of parts: [{"text": ...}].'
        raise InvalidRequest(f"`{place}.parts` is missing or empty.", param=f"{place}.parts", hint=hint)
    for part in parts:
        if part.text is None:
            native.add("content")

"""The dialect of Ollama's embeddings: `POST /api/embed`, and the older `POST /api/embeddings` for one text.

Pure: bytes to meaning and back, in both directions. `Call.form` is "embed" or "embeddings"; a call of the older form is
written as such and goes to `/api/embeddings`, any other to `/api/embed`. Nothing streams here.
Place in the line: `server/app.py` and `providers/http.py` reach it through `registry.py`. Source: Ollama's API documentation.
"""

from typing import Any, Final

from msgspec import DecodeError, Raw, ValidationError
from msgspec.json import Decoder, encode

from penstock.call import Call, Content, Embed, Sampling
from penstock.errors import InvalidRequest, UpstreamGarbled
from penstock.reply import Embedded, Ended, Event, Failed, Reply, Started, UsageReported
from penstock.wire.dialect import NOTHING_ASKED, Asked
from penstock.wire.ollama import Ollama
from penstock.wire.ollama_reply import read_in_band, read_usage
from penstock.wire.ollama_reply_types import EmbedReply
from penstock.wire.ollama_request import check_depth, refuse
from penstock.wire.ollama_request_types import NAME, EmbedRequest
from penstock.wire.provider_error import clean
from penstock.wire.splice import Outline

EMBED: Final = "embed"
EMBEDDINGS: Final = "embeddings"

_REQUEST: Final = Decoder(EmbedRequest)
_REPLY: Final = Decoder(EmbedReply)
_KNOWN: Final = frozenset(EmbedRequest.__struct_fields__)
_NULL: Final = len("null")


class _Reading:
    """Gives the content of one request."""

    __slots__ = ("form", "outline")

    def __init__(self, outline: Outline, form: str) -> None:
        self.outline = outline
        self.form = form

    def __call__(self) -> Content:
        """Read what is to be embedded; what is not known here rides along."""
        request = _REQUEST.decode(self.outline.raw)
        said = request.prompt if self.form == EMBEDDINGS else request.input
        inputs = (said,) if isinstance(said, str) else tuple(said or ())
        extra = tuple((name, bytes(raw)) for name, raw in self.outline.members.items() if name not in _KNOWN)
        return Content((), extra=extra, embed=Embed(inputs, request.dimensions))


class OllamaEmbeddings(Ollama, frozen=True):
    """See `dialect.Dialect`. Errors and lists of models are those of Ollama's other endpoints; streams there are none."""

    def read_request(self, body: bytes, asked: Asked = NOTHING_ASKED) -> Call:
        """Read a client's request. Raises InvalidRequest that names the member, whatever the bytes."""
        outline = Outline(body)
        members = outline.members
        form = asked.form or (EMBEDDINGS if "prompt" in members and "input" not in members else EMBED)
        try:
            request = _REQUEST.decode(body)
            check_depth(body)
        except (ValidationError, RecursionError) as error:
            raise refuse(error) from None
        name = "prompt" if form == EMBEDDINGS else "input"
        if getattr(request, name) in (None, []):
            hint = "Send the text." if name == "prompt" else "Send a text, or a list with at least one."
            raise InvalidRequest(f"`{name}` is missing.", param=name, hint=hint)
        return Call(
            NAME,
            request.model,
            Sampling(),
            _Reading(outline, form),
            raw=body,
            input_bound=len(body),
            operation="embed",
            form=form,
        )

    def write_request(self, call: Call, model: str) -> tuple[bytes, tuple[str, ...]]:
        """Write a provider's request, and the names of what could not be expressed.

        Token ids cannot: in their place stands an empty text, so that the vectors keep their order, and `input` is named.
        """
        content, own = call.content, call.dialect == NAME
        embed = content.embed or Embed(())
        texts = [said if isinstance(said, str) else "" for said in embed.inputs]
        body: dict[str, Any] = {"model": model}
        if own and call.form == EMBEDDINGS and len(texts) == 1:
            body["prompt"] = texts[0]
        else:
            body["input"] = texts[0] if len(texts) == 1 else texts
        if embed.dimensions is not None:
            body["dimensions"] = embed.dimensions
        if not own:
            body["truncate"] = False  # else what does not fit is left out without a word
        said_too = {
            "input": any(not isinstance(said, str) for said in embed.inputs),
            "task": embed.task is not None,
            "title": embed.title is not None,
            "user": call.user is not None and not own,
        }
        dropped = {name for name, is_said in said_too.items() if is_said}
        for name, json in content.extra:
            if own:
                body.setdefault(name, Raw(json))
            else:
                dropped.add(name)
        return encode(body), tuple(sorted(dropped))

    def splice(self, call: Call, model: str) -> bytes | None:
        """Edit the model into the client's own bytes; None if that cannot be."""
        if call.dialect != NAME or not call.raw or call.changed:
            return None
        reading = call.read
        outline = reading.outline if isinstance(reading, _Reading) else Outline(call.raw)
        name = encode(model)
        return call.raw if bytes(outline.members["model"]) == name else outline.splice([("model", name)])

    def read_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read a whole reply of either form. Raises UpstreamGarbled; an error that came with status 200 is a `Failed`."""
        try:
            if not body.isascii():
                body.decode()
            reply = _REPLY.decode(body)
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            text = clean(str(error), 200)
            raise UpstreamGarbled(f"The provider's reply is not one of Ollama's embeddings: {text}.") from None
        if len(reply.error) > _NULL:
            return Failed(read_in_band(reply.error)), Ended()
        vectors = [reply.embedding] if reply.embeddings is None and reply.embedding is not None else reply.embeddings
        if vectors is None:
            raise UpstreamGarbled("The provider's reply has no `embeddings`.")
        events: list[Event] = [Started("", reply.model or "")]
        events += [Embedded(index, tuple(vector)) for index, vector in enumerate(vectors)]
        if (used := read_usage(reply.prompt_eval_count, 0)) is not None:
            events.append(UsageReported(used))
        return (*events, Ended())

    def tap_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read start, usage and end of a whole reply, and of its vectors the first, which tells that there are some."""
        return tuple(event for event in self.read_reply(body) if not isinstance(event, Embedded) or event.index == 0)

    def write_reply(self, reply: Reply, call: Call) -> bytes:
        """Write a whole reply in the form of the call."""
        if call.form == EMBEDDINGS:
            return encode({"embedding": reply.embeddings[0] if reply.embeddings else ()})
        out: dict[str, Any] = {"model": call.model, "embeddings": reply.embeddings}
        if reply.usage is not None:
            out["prompt_eval_count"] = reply.usage.input_tokens
        return encode(out)

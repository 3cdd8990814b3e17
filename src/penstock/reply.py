"""What comes back: the whole reply as the fold of its events, and the chunks that carry them.

Values, `fold` and its inverse. The events themselves stand in `event.py` and may be imported from here as well.
"""

from collections.abc import Iterable

from msgspec import Struct

from penstock.call import Audio, Citation, File, Foreign, Image, Members, Part, Reasoning, Refusal, Text, ToolUse
from penstock.errors import PenstockError
from penstock.event import (
    AudioDelta,
    Cited,
    Embedded,
    Ended,
    Event,
    Failed,
    Finish,
    Finished,
    ForeignDelta,
    Logprob,
    LogprobsDelta,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)
from penstock.receipt import Lane, Receipt, Settled, Usage

__all__ = (
    "AudioDelta",
    "Choice",
    "Chunk",
    "Cited",
    "Embedded",
    "Ended",
    "Event",
    "Failed",
    "Finish",
    "Finished",
    "ForeignDelta",
    "Logprob",
    "LogprobsDelta",
    "Opening",
    "PartAdded",
    "ReasoningDelta",
    "RefusalDelta",
    "Reply",
    "Started",
    "TextDelta",
    "Told",
    "ToolUseDelta",
    "ToolUseStarted",
    "UsageReported",
    "fold",
    "unfold",
)

# -- the whole reply --


class Choice(Struct, frozen=True):
    """One of the `n` answers. Parts stand in the order in which they began; what follows on its like is one part with it."""

    parts: tuple[Part, ...] = ()
    finish: Finish = "stop"
    native_finish: str = ""
    logprobs: tuple[Logprob, ...] = ()
    refusal_logprobs: tuple[Logprob, ...] = ()
    foreign: tuple[ForeignDelta, ...] = ()

    @property
    def text(self) -> str:
        """The plain text of the answer."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


class Reply(Struct, frozen=True):
    """The fold of a reply's events."""

    id: str = ""
    model: str = ""
    created: int | None = None
    fingerprint: str | None = None
    service_tier: str | None = None
    choices: tuple[Choice, ...] = ()
    usage: Usage | None = None
    extra: Members = ()
    error: PenstockError | None = None
    ended: bool = False
    embeddings: tuple[tuple[float, ...], ...] = ()


# -- on its way to the client --


class Chunk(Struct, frozen=True):
    """What arrived at one moment: its meaning, and the provider's bytes on the verbatim lane.

    raw       bytes to pass to the client as they are; None where the events have to be written
    settled   only on the last chunk of a call, which is settled before that chunk is given out: how it ended
    """

    events: tuple[Event, ...]
    raw: bytes | None = None
    settled: Settled | Receipt | None = None

    @property
    def receipt(self) -> Receipt | None:
        """The receipt, on the last chunk of a call."""
        settled = self.settled
        return settled.receipt if isinstance(settled, Settled) else settled


class Told(Struct, frozen=True, gc=False):
    """A whole reply of which nothing is unusual, in one value: its bytes, and what its four events say.

    id, model, created, fingerprint, service_tier   as in `Started`
    finish    why its only choice ended, in the words of a `Finished`; `native` is the provider's own, where that is another
    detailed  the count, where it says more than how many tokens went in and came out
    """

    raw: bytes
    id: str
    model: str
    finish: Finish | None
    input_tokens: int
    output_tokens: int
    fingerprint: str | None = None
    service_tier: str | None = None
    created: int | None = None
    detailed: Usage | None = None
    native: str = ""

    @property
    def usage(self) -> Usage:
        """The provider's count."""
        return self.detailed or Usage(self.input_tokens, self.output_tokens)

    @property
    def events(self) -> tuple[Started, Finished, UsageReported, Ended]:
        """The same as events."""
        started = Started(self.id, self.model, self.created, self.fingerprint, self.service_tier)
        ended = Finished(self.finish or "other", self.native or self.finish or "")
        return started, ended, UsageReported(self.usage), Ended()


class Opening(Struct, frozen=True, gc=False):
    """The first thing that the gateway gives out: who answers, after how many tries, and what may be passed on.

    `cache`: none (not asked), miss, hit, shared (with an equal call on its way) or stale.
    """

    call_id: str
    target: str
    lane: Lane
    tries: int
    dropped: tuple[str, ...] = ()
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    cache: str = "none"


class _Tool:
    """A tool call while its arguments come in."""

    def __init__(self, started: ToolUseStarted) -> None:
        self.started = started
        self.arguments: list[str] = []


class _Folding:
    """One choice while it is put together: its parts in the order in which they began."""

    def __init__(self) -> None:
        self.parts: list[Part | _Tool | list[TextDelta] | list[RefusalDelta] | list[AudioDelta]] = []
        self.cited: dict[int, list[Citation]] = {}  # by the place of their text in `parts`
        self.tools: dict[int, _Tool] = {}
        self.logprobs: list[Logprob] = []
        self.refusal_logprobs: list[Logprob] = []
        self.foreign: list[ForeignDelta] = []
        self.finish: Finished | None = None

    def add(self, event: Event) -> None:
        match event:
            case TextDelta() | RefusalDelta() | AudioDelta():
                self._go_on(event)
            case ReasoningDelta():
                self._think(event)
            case ToolUseStarted():
                self._call(event)
            case ToolUseDelta():
                if event.index not in self.tools:
                    self._call(ToolUseStarted(event.index, "", "", choice=event.choice))
                self.tools[event.index].arguments.append(event.arguments)
            case LogprobsDelta():
                (self.refusal_logprobs if event.refusal else self.logprobs).extend(event.tokens)
            case _:
                self._rare(event)

    def _rare(self, event: Event) -> None:
        match event:
            case Cited():
                self._cite(event.citation)
            case PartAdded():
                self.parts.append(event.part)
            case ForeignDelta():
                self.foreign.append(event)
            case Finished():
                self.finish = event

    def _go_on(self, event: TextDelta | RefusalDelta | AudioDelta) -> None:
        """Join deltas of one kind that follow on each other."""
        last = self.parts[-1] if self.parts else None
        if isinstance(last, list) and type(last[0]) is type(event):
            last.append(event)  # type: ignore[arg-type]  # of the same kind, as was just asked
        else:
            self.parts.append([event])  # type: ignore[arg-type]  # a list of that kind

    def _think(self, event: ReasoningDelta) -> None:
        """Join deltas to one block; a signature or a redaction closes the block."""
        last = self.parts[-1] if self.parts else None
        new = Reasoning(event.text, event.signature, event.redacted, (), event.signer)
        if not isinstance(last, Reasoning) or last.signature is not None or last.redacted or event.redacted:
            self.parts.append(new)
        else:
            signer = event.signer or last.signer
            self.parts[-1] = Reasoning(last.text + event.text, event.signature, last.redacted, (), signer)

    def _call(self, event: ToolUseStarted) -> None:
        self.tools[event.index] = tool = _Tool(event)
        self.parts.append(tool)

    def _cite(self, citation: Citation) -> None:
        """Give a source to the last text; to a new one where there is none."""
        texts = [place for place, part in enumerate(self.parts) if isinstance(part, list) and _is_text(part)]
        if not texts:
            self.parts.append([TextDelta("")])
        self.cited.setdefault(texts[-1] if texts else len(self.parts) - 1, []).append(citation)

    def choice(self) -> Choice:
        by_index = iter([tool for _, tool in sorted(self.tools.items())])
        ordered = [next(by_index) if isinstance(part, _Tool) else part for part in self.parts]
        parts = [self._part(place, part) for place, part in enumerate(ordered)]
        finish = self.finish or Finished("other")
        return Choice(
            parts=tuple(parts),
            finish=finish.reason,
            native_finish=finish.native,
            logprobs=tuple(self.logprobs),
            refusal_logprobs=tuple(self.refusal_logprobs),
            foreign=tuple(self.foreign),
        )

    def _part(self, place: int, part: Part | _Tool | list[TextDelta] | list[RefusalDelta] | list[AudioDelta]) -> Part:
        if isinstance(part, _Tool):
            start = part.started
            arguments = "".join(part.arguments)
            return ToolUse(start.id, start.name, arguments, start.kind, (), start.signature, start.signer)
        if not isinstance(part, list):
            return part
        match part[0]:
            case TextDelta():
                text = "".join(delta.text for delta in part if isinstance(delta, TextDelta))
                return Text(text, (), tuple(self.cited.get(place, ())))
            case RefusalDelta():
                return Refusal("".join(delta.text for delta in part if isinstance(delta, RefusalDelta)))
            case AudioDelta():
                return _join_audio([delta for delta in part if isinstance(delta, AudioDelta)])


def _is_text(deltas: list[TextDelta] | list[RefusalDelta] | list[AudioDelta]) -> bool:
    return isinstance(deltas[0], TextDelta)


def _join_audio(deltas: list[AudioDelta]) -> Audio:
    return Audio(
        data="".join(delta.data for delta in deltas),
        id=next((delta.id for delta in deltas if delta.id), None),
        transcript="".join(delta.transcript for delta in deltas),
        expires_at=next((delta.expires_at for delta in deltas if delta.expires_at), None),
    )


def fold(events: Iterable[Event]) -> Reply:
    """Put a whole reply together from its events, of which the last usage and the first start hold."""
    start, usage, tier, error, ended = Started(), None, None, None, False
    choices: dict[int, _Folding] = {}
    vectors: dict[int, tuple[float, ...]] = {}
    for event in events:
        match event:
            case Started():
                start = event if start == Started() else start
            case UsageReported():
                usage, tier = event.usage, event.service_tier or tier
            case Failed():
                error = event.error
            case Ended():
                ended = True
            case Embedded():
                vectors[event.index] = event.vector
            case _:
                choices.setdefault(event.choice, _Folding()).add(event)
    return Reply(
        id=start.id,
        model=start.model,
        created=start.created,
        fingerprint=start.fingerprint,
        service_tier=tier or start.service_tier,
        choices=tuple(folding.choice() for _, folding in sorted(choices.items())),
        usage=usage,
        extra=start.extra,
        error=error,
        ended=ended,
        embeddings=tuple(vector for _, vector in sorted(vectors.items())),
    )


def unfold(reply: Reply) -> tuple[Event, ...]:
    """Give the events of a whole reply, of which `fold` makes the same reply again."""
    events: list[Event] = [
        Started(reply.id, reply.model, reply.created, reply.fingerprint, reply.service_tier, reply.extra)
    ]
    for number, choice in enumerate(reply.choices):
        events += _unfold_choice(number, choice)
    events += [Embedded(index, vector) for index, vector in enumerate(reply.embeddings)]
    if reply.usage is not None:
        events.append(UsageReported(reply.usage))
    if reply.error is not None:
        events.append(Failed(reply.error))
    if reply.ended:
        events.append(Ended())
    return tuple(events)


def _unfold_choice(number: int, choice: Choice) -> list[Event]:
    events: list[Event] = []
    tools = 0
    for part in choice.parts:
        match part:
            case Reasoning():
                events.append(ReasoningDelta(part.text, part.signature, part.redacted, number, part.signer))
            case Text():
                events.append(TextDelta(part.text, choice=number))
                events += [Cited(citation, number) for citation in part.citations]
            case Refusal():
                events.append(RefusalDelta(part.text, choice=number))
            case Audio():
                events.append(
                    AudioDelta(part.data or "", part.transcript or "", part.id, part.expires_at, choice=number)
                )
            case ToolUse():
                events.append(ToolUseStarted(tools, part.id, part.name, part.kind, number, part.signature, part.signer))
                events.append(ToolUseDelta(tools, part.arguments, choice=number))
                tools += 1
            case Image() | File() | Foreign():
                events.append(PartAdded(part, number))
            case _:
                pass
    if choice.logprobs:
        events.append(LogprobsDelta(choice.logprobs, choice=number))
    if choice.refusal_logprobs:
        events.append(LogprobsDelta(choice.refusal_logprobs, refusal=True, choice=number))
    events += [ForeignDelta(f.dialect, f.name, f.json, choice=number) for f in choice.foreign]
    events.append(Finished(choice.finish, choice.native_finish, choice=number))
    return events

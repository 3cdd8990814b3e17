"""Goes on with a streamed answer that its provider cut: what the next target is asked, and how the two pieces join.

Pure. Only an answer that is nothing but one text so far can be gone on with: no tool call, picture or second choice. The next
target gets the conversation with that text and the request to write on. Models like to begin a few words early, so the end of
the first piece and the beginning of the second are compared, and what both have is given out once. A model that begins
from the start is followed silently for as long as it says the same. Place in the line: used by `flow.py`.
"""

from msgspec import structs

from penstock.call import Call, Message, Text
from penstock.errors import UpstreamGarbled
from penstock.event import (
    Ended,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    UsageReported,
)

ASK = (
    "Your answer above was cut off by an error. Go on from exactly where it stops, in the middle of a word if need be. "
    "Repeat nothing of it, and add no remark of your own."
)
HELD = 160
"""Characters of the second piece that are compared before any of it is given out."""
SHORTEST = 5
"""A shorter overlap is taken for chance."""
CHARACTERS_PER_TOKEN = 4

_HARMLESS = (Started, ReasoningDelta, UsageReported)


class Continuation:
    """What was said of one answer.

    `possible` tells whether it could be gone on with if it broke off now, `resumed` that it has been.
    """

    __slots__ = ("_again", "_held", "_said", "possible", "resumed")

    def __init__(self) -> None:
        self.possible = True
        self.resumed = False
        self._said: list[str] = []
        self._held: str | None = None  # of the next piece, until it is known how it joins
        self._again: int | None = None  # how far the next piece has repeated the answer from its start

    def hear(self, events: tuple[Event, ...]) -> None:
        """Take note of what is given out."""
        for event in events:
            if isinstance(event, TextDelta) and not event.choice:
                self._said.append(event.text)
            elif not isinstance(event, _HARMLESS):
                self.possible = False

    def begin(self, call: Call) -> Call:
        """Give the call that asks for the rest; from here on `join` gets the next piece's events."""
        self.resumed = True
        said = "".join(self._said)
        self._said, self._held, self._again = [said], "", None
        if not said:
            return call
        content = call.content
        more = (Message("assistant", (Text(said),)), Message("user", (Text(ASK),)))
        asked = structs.replace(content, messages=(*content.messages, *more))
        bound = None if call.input_bound is None else call.input_bound + len(said.encode()) + len(ASK)
        sampling, most = call.sampling, call.sampling.max_tokens
        if most is not None:
            sampling = structs.replace(sampling, max_tokens=max(1, most - len(said) // CHARACTERS_PER_TOKEN))
        return structs.replace(call, raw=b"", read=lambda: asked, input_bound=bound, sampling=sampling)

    def join(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """Give what of the next piece is new."""
        out: list[Event] = []
        for event in events:
            if isinstance(event, Started | ReasoningDelta):
                continue  # there is one beginning, and thoughts of a second model do not belong behind text
            if isinstance(event, TextDelta) and (self._held is not None or self._again is not None):
                out += self._compare(event.text)
                if out and isinstance(out[-1], Failed):
                    return tuple(out)
            else:
                if isinstance(event, Finished | Failed | Ended):
                    out += self._flush()
                out.append(event)
        return tuple(out)

    def _compare(self, text: str) -> list[Event]:
        if self._held is not None:
            self._held += text
            return self._flush() if len(self._held) >= HELD else []
        return self._follow(text)

    def _flush(self) -> list[Event]:
        """Say how the held text joins, and give what of it is new."""
        held, self._held = self._held, None
        if not held:
            return []
        said = self._said[0]
        if said.startswith(held[:HELD]) and len(held) >= SHORTEST:
            self._again = 0
            return self._follow(held)
        most = min(len(said), len(held))
        overlap = next((size for size in range(most, SHORTEST - 1, -1) if said.endswith(held[:size])), 0)
        new = held[overlap:]
        return [TextDelta(new)] if new else []

    def _follow(self, text: str) -> list[Event]:
        """Pass over what was said before; what comes after it is new. One that says something else has to end."""
        said, at = self._said[0], self._again
        assert at is not None, "followed only from the start on"
        same = said[at : at + len(text)]
        if not text.startswith(same):
            self._again = None
            return [Failed(UpstreamGarbled("The target that was to go on with the answer gave another one."))]
        self._again = at + len(same) if at + len(same) < len(said) else None
        new = text[len(same) :]
        return [TextDelta(new)] if new else []

"""Measures a reply as it passes: usage, why it ended, whether content has begun, and the text where nobody counts it.

A meter belongs to one try. It never changes an event and never decides; what it saw goes into the receipt.
"""

from penstock.errors import PenstockError
from penstock.receipt import Usage
from penstock.reply import (
    Ended,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)

KEEP_CHARACTERS = 4_000_000
"""Text kept for counting where the provider reports no usage; what is beyond is counted by its length alone."""

LOOSE = 512
"""Pieces of text that are kept as they came before they are joined."""


class Meter:
    """What has been seen of one reply so far."""

    __slots__ = ("begun", "beyond", "ended", "error", "finish", "kept", "loose", "start", "text", "usage")

    def __init__(self) -> None:
        self.begun = False
        self.ended = False
        self.error: PenstockError | None = None
        self.finish: str | None = None
        self.start: Started | None = None
        self.usage: Usage | None = None
        self.text: list[str] = []
        self.kept = 0
        self.loose = 0  # pieces of the text that are not joined yet
        self.beyond = 0

    def observe(self, events: tuple[Event, ...]) -> None:
        """Take in the events of one chunk."""
        for event in events:
            kind = type(event)
            if kind is TextDelta or kind is ReasoningDelta or kind is RefusalDelta:
                self.begun = True
                self._keep(event.text)  # type: ignore[union-attr]  # the three kinds above all have a text
            elif kind is Finished:
                self.begun = True
                if self.finish is None:
                    self.finish = event.reason  # type: ignore[union-attr]  # as `kind` says
            elif kind is UsageReported:
                self.usage = event.usage  # type: ignore[union-attr]  # as `kind` says
            elif kind is Ended:
                self.ended = True
            elif kind is Started:
                if self.start is None:
                    self.start = event  # type: ignore[assignment]  # as `kind` says
            else:
                self._rare(event)

    def _rare(self, event: Event) -> None:
        if isinstance(event, Failed):
            self.error = event.error
            return
        self.begun = True
        if isinstance(event, ToolUseDelta):
            self._keep(event.arguments)
        elif isinstance(event, ToolUseStarted):
            self._keep(event.name)

    def _keep(self, text: str) -> None:
        if self.kept < KEEP_CHARACTERS:
            pieces = self.text
            pieces.append(text)
            self.kept += len(text)
            self.loose += 1
            if self.loose == LOOSE:  # a word alone takes ten times its length in memory
                pieces[-LOOSE:] = ["".join(pieces[-LOOSE:])]
                self.loose = 0
        else:
            self.beyond += len(text)

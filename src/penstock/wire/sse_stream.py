"""What the readers of SSE streams with an end mark have in common: bytes to frames, and what the end of the bytes means.

Pure. A dialect brings `_take`, which reads frames and settles what of their bytes is passed. Place in the line: under the
stream readers of chat completions and of Messages.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from penstock.errors import UpstreamError, UpstreamGarbled
from penstock.reply import Ended, Event, Failed
from penstock.wire.framing import Frame, SseReader


class MarkedStreamReader(ABC):
    """See `dialect.StreamReader`. `MARK` is what its streams end with, as an error names it."""

    __slots__ = ("_late_lf", "_over", "_sse", "passed")

    MARK: ClassVar[str]

    def __init__(self) -> None:
        self.passed = b""
        self._sse = SseReader()
        self._over = False
        self._late_lf = False  # the end mark's frame ended with a CR: its LF may follow

    def feed(self, data: bytes) -> tuple[Event, ...]:
        """Give the events that these bytes complete; a stream that cannot be read ends in a `Failed`."""
        if self._over:
            self.passed = b"\n" if self._late_lf and data.startswith(b"\n") else b""
            self._late_lf = self._late_lf and not data
            return ()
        try:
            frames = self._sse.feed(data)
        except UpstreamGarbled as error:
            return self._fail(error)
        return self._take(frames)

    def end(self) -> tuple[Event, ...]:
        """Say what the end of the bytes means: without the end mark the reply was cut short."""
        if self._over:
            self.passed = b""
            return ()
        try:
            frames = self._sse.end()
        except UpstreamGarbled as error:
            return self._fail(error)
        events = self._take(frames)
        last = events[-1] if events else None
        if isinstance(last, Ended):
            return events
        if isinstance(last, Failed):
            if not isinstance(last.error, UpstreamGarbled):
                return events
            events = events[:-1]  # half a frame: what matters is that the rest is missing
        self._over = True
        cut = UpstreamGarbled(f"The provider's stream stopped before its end mark, {self.MARK}.")
        return (*events, Failed(cut))

    def _fail(self, error: UpstreamError) -> tuple[Event, ...]:
        self.passed = self._sse.taken
        self._over = True
        return (Failed(error),)

    @abstractmethod
    def _take(self, frames: list[Frame]) -> tuple[Event, ...]:
        """Read the frames, and settle in `passed` which of their bytes go on."""

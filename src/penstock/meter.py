"""Measures a reply as it passes: usage, why it ended, whether content has begun, and the text where nobody counts it.

A meter belongs to one try. It never changes an event and never decides; what it saw goes into the receipt. It also says
when more has passed than was foreseen (`passed > limit`), so that the accounts can hold more money before more passes.
"""

from collections.abc import Callable
from typing import Final

from penstock.errors import PenstockError
from penstock.passage import Outflow, Taker
from penstock.receipt import Usage
from penstock.reply import (
    Ended,
    Event,
    Failed,
    Finish,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    Told,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)
from penstock.target import Profile
from penstock.tokens.sample import MILLI_PER_BYTE, by_bytes, sampled

KEEP_BYTES = 4_000_000
"""Text kept for counting where the provider reports no usage; what is beyond is counted by its length alone."""

LOOSE = 512
"""Pieces of text that are kept as they came before they are joined."""

LOOSE_BYTES = 4_096
"""So much text may pass on until its pieces are counted."""

LOOK_BYTES = 64
"""How much passes between two looks at the least."""

NEVER = 1 << 62
"""No limit: more tokens and bytes than anything has."""


_WHOLE: Final = 4
"""Events that are told of a reply that came in one piece and whose text nobody needs: start, finish, usage, end."""


class Meter:
    """What has been seen of one reply so far.

    tier      of service, where it is told with the usage
    reported  the last count of the provider, and `counted` how much of what passed is in it
    passed    bytes (UTF-8) of text so far; `beyond` are those of them that are not kept in `text`
    limit     bytes that may pass until somebody has to look: the first time at once
    roomy     so much money may be held in one go that none of it has to be counted
    """

    begun = ended = roomy = False
    error: PenstockError | None = None
    finish: Finish | None = None
    start: Started | None = None
    tier: str | None = None
    reported: Usage | None = None
    counted = passed = beyond = 0
    limit = -1
    _full = LOOSE  # so many pieces are too many
    _into = _out = NEVER  # tokens that a report may say
    _spare = 0  # and so many more of the output are held
    _milli = 1_000  # thousandths of a token that a byte of the text has at the most
    _told = _at = 0  # tokens that were counted in so many characters of the text
    _pieces = 0  # and these are so many pieces of it; zero where that is not known any more

    def __init__(self) -> None:
        self.text: list[str] = []

    @classmethod
    def of(cls, told: Told | None) -> "Meter":
        """Make the meter of a reply that said all of this in one piece; of one that has not begun where nothing is told."""
        meter = cls()
        if told is not None:
            meter.observe(told.events)
        return meter

    @property
    def kept(self) -> int:
        """Bytes of the text that is kept."""
        return self.passed - self.beyond

    @property
    def usage(self) -> Usage | None:
        """What the provider said of all that passed; None where it said nothing, or was cut after more had passed."""
        return self.reported if self.ended or self.counted == self.passed else None

    def most_tokens(self, profile: Profile) -> int:
        """Give the most that can have come out, without a count: as reported, and since then what bytes have at the most.

        That is from now on what says how far the next look may be.
        """
        reported = self.reported
        self._milli = 1_000 if profile.tokenizer is not None else MILLI_PER_BYTE
        since = -(-(self.passed - self.counted) * self._milli // 1_000)
        return since + (0 if reported is None else reported.output_tokens)

    def output_tokens(self, profile: Profile) -> int:
        """Count what has come out: as reported, and the text since then by the model's vocabulary, or by its bytes."""
        reported, passed = self.reported, self.passed
        said = 0 if reported is None else reported.output_tokens
        since, kept = passed - self.counted, passed - self.beyond
        if not (since and kept):
            return said
        new = "".join(self.text[self._pieces :])  # what was counted once is not counted again: one token more, if that
        if not self._pieces:
            new = new[self._at :]
        known = profile.tokenizer is not None
        self._told += sampled(new, profile).n if known else by_bytes(new.encode("utf-8", "surrogatepass"))
        self._at, self._pieces = self._at + len(new), len(self.text)
        return said - (-self._told * since // kept)

    def goes_on(self, profile: Profile) -> bool:
        """Count what has come out; where that is what was foreseen, and there is something to spare, put the next look off."""
        if not self._spare:
            return False
        used = self.output_tokens(profile)
        if used > self._out:
            return False
        self._put_off(used)
        return True

    def watch(self, input_tokens: int, output_tokens: int, used: int, spare: int = 0) -> None:
        """Set the limit: more input may be reported, or more output have come, of which so much has been counted now.

        While nothing is reported it may also use up the spare tokens beyond that output.
        """
        self._into, self._out, self._spare = input_tokens, output_tokens, spare
        self._put_off(used)

    def _put_off(self, used: int) -> None:
        """Set the limit to where all may be used up, were the text from now on as dense as any can be."""
        left = self._out + self._spare - used
        self.limit = self.passed + max(left * 1_000 // self._milli, LOOK_BYTES)

    def observe(self, events: tuple[Event, ...]) -> None:
        """Take in the events of one chunk."""
        if len(events) == _WHOLE and not self.begun and self._observe_whole(*events):
            return
        for event in events:
            if type(event) is TextDelta or type(event) is ReasoningDelta:
                text = event.text
            elif (kept := self._observe_other(event)) is not None:
                text = kept
            else:
                continue
            self.begun = True
            before, size = self.passed, len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
            self.passed = before + size
            if before < KEEP_BYTES:
                self.text.append(text)
                if len(self.text) >= self._full:  # a word alone takes ten times its length in memory
                    at = self._full - LOOSE
                    self.text[at:] = ["".join(self.text[at:])]
                    self._full, self._pieces = self._full + 1, 0
            else:
                self.beyond += size

    @property
    def unseen(self) -> int:
        """How many bytes of text may have passed that need only be put into `text`, and counted in `passed`."""
        return min(self.limit, KEEP_BYTES, self.passed + LOOSE_BYTES)

    def passing(self, outflow: Outflow, look: Callable[[], bool]) -> Taker:
        """Give what takes words of this reply that go on as they came; `look` is asked once more has passed than the limit."""
        assert self.begun, "what is passed on goes on with an answer"
        return Taker(self, outflow, look)

    def _observe_whole(self, start: Event, finish: Event, told: Event, end: Event) -> bool:
        """Take in the only chunk of a reply, as `_observe_other` would one event after the other; or give False."""
        if not (
            type(start) is Started and type(finish) is Finished and type(told) is UsageReported and type(end) is Ended
        ):
            return False
        self.begun = self.ended = True
        self.start, self.finish, self.tier = self.start or start, finish.reason, told.service_tier or self.tier
        self._take(told.usage)
        return True

    def _observe_other(self, event: Event) -> str | None:
        """Take in what is not an answer's text; give the text in it that has to be kept."""
        if isinstance(event, Started):  # first what every stream has
            self.start = self.start or event
        elif isinstance(event, Finished):
            self.begun = True
            self.finish = self.finish or event.reason
        elif isinstance(event, UsageReported):
            self.tier = event.service_tier or self.tier
            self._take(event.usage)
        elif isinstance(event, Ended):
            self.ended = True
        elif isinstance(event, ToolUseDelta):
            return event.arguments
        elif isinstance(event, ToolUseStarted):
            return event.name
        elif isinstance(event, RefusalDelta):
            return event.text
        elif isinstance(event, Failed):
            self.error = event.error
        else:
            self.begun = True
        return None

    def _take(self, usage: Usage) -> None:
        """Believe the provider from here on: what passed is what it says, and the limit moves accordingly."""
        self.reported, self.counted = usage, self.passed
        if self.limit >= 0:
            self.limit = self.passed + self._out - usage.output_tokens if usage.input_tokens <= self._into else -1

"""Measures a reply as it passes: usage, why it ended, whether content has begun, and the text where nobody counts it.

A meter belongs to one try. It never changes an event and never decides; what it saw goes into the receipt. It also says
when more has passed than was foreseen (`passed > limit`), so that the accounts can hold more money before more passes.
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
from penstock.target import Profile
from penstock.tokens.sample import by_bytes, sampled

KEEP_BYTES = 4_000_000
"""Text kept for counting where the provider reports no usage; what is beyond is counted by its length alone."""

LOOSE = 512
"""Pieces of text that are kept as they came before they are joined."""

DENSER = 2
"""So many times more tokens than it had until now may a text have in as many bytes, and never more than one in each."""

SHORT_BYTES = 256
"""A shorter text does not tell how dense it is."""

LOOK_BYTES = 64
"""How much passes between two looks at the least."""

NEVER = 1 << 62
"""No limit: more tokens and bytes than anything has."""


class Meter:
    """What has been seen of one reply so far."""

    __slots__ = (
        *(
            "begun",
            "beyond",
            "counted",
            "ended",
            "error",
            "finish",
            "loose",
            "passed",
            "reported",
            "start",
            "text",
            "tier",
        ),
        *("_into", "_out", "_since", "limit"),
    )

    def __init__(self) -> None:
        self.begun = False
        self.ended = False
        self.error: PenstockError | None = None
        self.finish: str | None = None
        self.start: Started | None = None
        self.tier: str | None = None  # of service, where it is told with the usage
        self.reported: Usage | None = None  # the last count
        self.counted = 0  # how much of what passed is in it
        self.text: list[str] = []
        self.passed = 0  # bytes (UTF-8) of text so far
        self.beyond = 0  # those of them that are not kept
        self.loose = 0  # pieces of the text that are not joined yet
        self.limit = -1  # bytes that may pass until somebody has to look: the first time at once
        self._into = self._out = NEVER  # tokens that a report may say
        self._since = 0  # tokens of the text since the last report, as they were last counted

    @property
    def kept(self) -> int:
        """Bytes of the text that is kept."""
        return self.passed - self.beyond

    @property
    def usage(self) -> Usage | None:
        """What the provider said of all that passed; None where it said nothing, or was cut after more had passed."""
        return self.reported if self.ended or self.counted == self.passed else None

    def output_tokens(self, profile: Profile) -> int:
        """Count what has come out: as reported, and the text since then by the model's vocabulary, or by its bytes."""
        reported, since, kept = self.reported, self.passed - self.counted, self.kept
        self._since = 0
        if since and kept:
            said = "".join(self.text)
            known = profile.tokenizer is not None
            n = sampled(said, profile).n if known else by_bytes(said.encode("utf-8", "surrogatepass"))
            self._since = -(-n * since // kept)
        return self._since + (0 if reported is None else reported.output_tokens)

    def watch(self, input_tokens: int, output_tokens: int, used: int, least_bytes: int = LOOK_BYTES) -> None:
        """Set the limit: more input may be reported, or more output have come, of which so much has been counted now.

        At least so many bytes pass before the next look.
        """
        self._into, self._out = input_tokens, output_tokens
        since, per_token = self.passed - self.counted, 1
        if since >= SHORT_BYTES and self._since:
            per_token = max(1, since // (DENSER * self._since))
        self.limit = self.passed + max((output_tokens - used) * per_token, least_bytes)

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
                self.tier = event.service_tier or self.tier  # type: ignore[union-attr]  # as `kind` says
                self._take(event.usage)  # type: ignore[union-attr]  # as `kind` says
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

    def _take(self, usage: Usage) -> None:
        """Believe the provider from here on: what passed is what it says, and the limit moves accordingly."""
        self.reported, self.counted = usage, self.passed
        if self.limit >= 0:
            self.limit = self.passed + self._out - usage.output_tokens if usage.input_tokens <= self._into else -1

    def _keep(self, text: str) -> None:
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        before = self.passed
        self.passed = before + size
        if before < KEEP_BYTES:
            pieces = self.text
            pieces.append(text)
            self.loose += 1
            if self.loose == LOOSE:  # a word alone takes ten times its length in memory
                pieces[-LOOSE:] = ["".join(pieces[-LOOSE:])]
                self.loose = 0
        else:
            self.beyond += size

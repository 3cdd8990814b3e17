"""What is recorded of calls while they last, into the journal: an intent before a provider is called, a receipt after.

Each is one write. With an `outbox` what comes in one turn of the loop while other calls are under way is one write together
(`commit`), which the outbox has done before anything that was written in that turn leaves: a request after its intent, an
answer after its receipt. A write that fails concerns each call for itself: the intents that could not be written refuse
theirs, the receipts wait in memory.

In the line: `gateway.py` calls `intend` and `settle`; `ledger.py` moves on from here what is recorded.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from penstock.errors import Overloaded
from penstock.ledger.background import Background
from penstock.ledger.journal import Journal, Segment
from penstock.ledger.records import BriefIntent, Intent, pack_intents, pack_receipts, row_for
from penstock.ledger.rows import Row
from penstock.outbox import Outbox
from penstock.receipt import Receipt

_GROUP_COMMIT_S = 0.002
_RETRY_AFTER_S = 5.0

Place = tuple[Segment, int]
"""A segment of our own and an offset in it."""
Late = tuple[str, Row]
"""A receipt that is not in the journal yet: its id and its row."""

_NOBODY: Final[Mapping[str, Overloaded]] = MappingProxyType({})


class Recording:
    """The request path of the ledger. `memory_rows` and `power` are its settings."""

    def __init__(self, journal: Journal, memory_rows: int, *, power: bool) -> None:
        self._journal = journal
        self._memory_rows = memory_rows
        self._power = power
        self._outbox: Outbox | None = None
        self._due: Outbox | None = None  # has what follows written at the end of this turn
        self._opening: dict[str, Intent | BriefIntent] = {}  # intents that are not written yet, by call
        self._ended: list[str] = []  # calls of which the receipt is not
        self._rows: list[Row] = []  # and those receipts
        self._open: dict[str, Segment] = {}
        self._pending: list[Row] = []
        self._late: deque[Late] = deque()
        self._behind: Place | None = None
        self._unread = 0
        self._settled = 0
        self._refused = self._dropped = 0
        self._trouble = ""
        self._closed = False
        self._syncing = Background("penstock-sync", self._sync, _GROUP_COMMIT_S)

    def gather(self, outbox: Outbox) -> None:
        """Let records wait for the end of the turn of the loop in which they come."""
        self._outbox = outbox

    @property
    def receipts_wait(self) -> bool:
        """Whether a receipt waits so; what is booked elsewhere may not be ahead of it."""
        return bool(self._ended)

    def intend(self, intent: Intent | BriefIntent, *, soon: bool = False) -> None:
        """Record a call before it may cost anything; once, however often. Raises `Overloaded` where that is not possible.

        `soon`: at the end of this turn at the latest. That is for a call whose request is the next one that the outbox is
        given, which takes it back where its intent could not be written; if it goes another way after all, ask once more.
        """
        if soon and (outbox := self._due or self._wait(1)):
            self._opening[intent.id] = intent
            outbox.intent = intent.id
        elif self._closed:
            raise Overloaded("The ledger is closed: this process is ending.", retry_after_s=_RETRY_AFTER_S)
        elif intent.id not in self._open:
            self._opening[intent.id] = intent
            refusal = self.commit().get(intent.id)
            if refusal is not None:
                raise refusal

    def settle(self, receipt: Receipt) -> None:
        """Record how a call ended, once per call; a second receipt of the same id changes nothing. Never raises."""
        self.settle_row(receipt.id, row_for(receipt))

    def settle_row(self, call_id: str, row: Row) -> None:
        """Record the same as `settle`, of which the row is there already."""
        self._ended.append(call_id)
        self._rows.append(row)
        if not (self._due or self._wait(2)):
            self.commit()

    def settle_rows(self, call_ids: list[str], rows: list[Row]) -> None:
        """Do so for several."""
        self._ended += call_ids
        self._rows += rows
        if not (self._due or self._wait(2)):
            self.commit()

    def _wait(self, calls: int) -> Outbox | None:
        """Have what comes now written at the end of this turn, if so many calls are under way; give who sees to that."""
        outbox = self._outbox
        if outbox is not None and len(self._open) >= calls:
            self._due = outbox
            outbox.before(self.commit)
        return self._due

    def commit(self) -> Mapping[str, Overloaded]:
        """Write what is not in the journal yet, in one write; give the calls whose intents could not be written."""
        opening, ended, rows = self._opening, self._ended, self._rows
        if not opening and not ended:
            return _NOBODY
        failed = self._journal.write(pack_intents(opening.values()), pack_receipts(rows))
        self._opening, self._ended, self._rows, self._due = {}, [], [], None
        if failed is not None:
            return self._sort_out(opening, [*zip(ended, rows, strict=True)], failed)
        self._count(opening, ended, rows)
        return _NOBODY

    def _count(self, opening: Collection[str], ended: Sequence[str], rows: list[Row]) -> None:
        """Take note of what has come into the journal."""
        opened, segment = self._open, self._journal.segments[-1]
        if opening:
            segment.open += len(opening)
            opened.update(dict.fromkeys(opening, segment))
        if ended:
            number = self._settled = segment.last = self._settled + len(ended)
            began = [opened.pop(call_id, None) for call_id in ended]
            if began.count(segment) == len(began):  # as nearly always
                segment.open -= len(began)
            else:
                _note_ends(began, number)
            if self._behind is not None:
                self._unread += len(ended)
            else:
                self._pending += rows
                if len(self._pending) >= self._memory_rows:
                    self._behind = self._journal.place
        if self._power:
            self._syncing.ask()

    def _sort_out(
        self, opening: Mapping[str, Intent | BriefIntent], ended: list[Late], failed: list[OSError | None]
    ) -> Mapping[str, Overloaded]:
        """Take note of what could be written; refuse the calls of the other intents, and keep the other receipts."""
        began = zip(opening, failed, strict=False)
        lost = {call_id: self._refusal(error) for call_id, error in began if error is not None}
        kept = failed[len(opening) :]
        written = [late for late, error in zip(ended, kept, strict=True) if error is None]
        begun = [call_id for call_id in opening if call_id not in lost]
        if begun or written:
            self._count(begun, [call_id for call_id, _ in written], [row for _, row in written])
        for late, error in zip(ended, kept, strict=True):
            if error is not None:
                self._settle_late(late, error)
        for call_id, refusal in lost.items():
            if self._outbox is not None:
                self._outbox.refuse(call_id, refusal)
        return lost

    def _refusal(self, error: OSError) -> Overloaded:
        """Count a call whose intent could not be written, and say so."""
        self._refused += 1
        self._trouble = str(error)
        return Overloaded(
            f"The ledger cannot be written: {error.strerror or error}.",
            hint=f"Calls are refused until there is room in {self._journal.folder}.",
            retry_after_s=_RETRY_AFTER_S,
        )

    def _settle_late(self, late: Late, error: OSError) -> None:
        """Keep a receipt in memory; those of calls without an intent cost nothing, and are not kept without bound."""
        self._trouble = str(error)
        if late[0] in self._open or len(self._late) < self._memory_rows:
            self._late.append(late)
        else:
            self._dropped += 1

    def sync(self) -> None:
        """Wait until everything recorded so far is safe from the loss of power. Raises `OSError`."""
        self.commit()
        self._journal.sync()

    def _sync(self) -> None:
        """Do so in a thread of its own, with what is written."""
        try:
            self._journal.sync()
        except OSError as error:
            self._trouble = str(error)


def _note_ends(began: Iterable[Segment | None], number: int) -> None:
    """Take note in each segment that calls ended which began there, the last of them with this outcome."""
    for segment in began:
        if segment is not None:
            segment.open -= 1
            segment.last = number

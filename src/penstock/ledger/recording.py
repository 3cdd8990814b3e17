"""What is recorded of calls while they last, into the journal: an intent before a provider is called, a receipt after.

Each is one write. With an `outbox` what comes in one turn of the loop while other calls are under way is one write together
(`commit`), which the outbox has done before anything that was written in that turn leaves: a request after its intent, an
answer after its receipt. A write that fails concerns each call for itself: the intents that could not be written refuse
theirs, the receipts wait in memory.

In the line: `gateway.py` calls `intend` and `settle`; `ledger.py` moves on from here what is recorded.
"""

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from penstock.errors import Overloaded
from penstock.ledger.background import Background
from penstock.ledger.journal import Journal, Segment
from penstock.ledger.records import Intent, pack_intent, pack_receipt, pack_row
from penstock.ledger.rows import Row
from penstock.outbox import Outbox
from penstock.receipt import Receipt, Settled

_GROUP_COMMIT_S = 0.002
_RETRY_AFTER_S = 5.0

Place = tuple[Segment, int]
"""A segment of our own and an offset in it."""
Late = tuple[str, Row, bytes]
"""A receipt that is not in the journal yet: its id, its row and its record."""

_NOBODY: Final[Mapping[str, Overloaded]] = MappingProxyType({})


class Recording:
    """The request path of the ledger. `memory_rows` and `power` are its settings."""

    def __init__(self, journal: Journal, memory_rows: int, *, power: bool) -> None:
        self._journal = journal
        self._memory_rows = memory_rows
        self._power = power
        self._outbox: Outbox | None = None
        self._due: Outbox | None = None  # has what follows written at the end of this turn
        self._opening: dict[str, bytes] = {}  # intents that are not written yet, by call
        self._ending: list[Late] = []  # receipts that are not
        self._open: dict[str, Segment] = {}
        self._pending: deque[Row] = deque()
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
        return bool(self._ending)

    def intend(self, intent: Intent, *, soon: bool = False) -> None:
        """Record a call before it may cost anything; once, however often. Raises `Overloaded` where that is not possible.

        `soon`: at the end of this turn at the latest. That is for a call whose request is the next one that the outbox is
        given, which takes it back where its intent could not be written; if it goes another way after all, ask once more.
        """
        if self._closed:
            raise Overloaded("The ledger is closed: this process is ending.", retry_after_s=_RETRY_AFTER_S)
        if soon and (outbox := self._due or self._wait(1)):
            self._opening[intent.id] = pack_intent(intent)
            outbox.intent = intent.id
        elif intent.id not in self._open:
            self._opening[intent.id] = pack_intent(intent)
            refusal = self.commit().get(intent.id)
            if refusal is not None:
                raise refusal

    def settle(self, receipt: Receipt) -> None:
        """Record how a call ended, once per call; a second receipt of the same id changes nothing. Never raises."""
        self._settle((receipt.id, *pack_receipt(receipt)))

    def settle_row(self, row: Row, settled: Settled) -> None:
        """Record the same as `settle`, of which the row is there already."""
        payload = pack_row(row)
        if payload:
            self._settle((settled.id, row, payload))
        else:
            self.settle(settled.receipt)

    def _settle(self, receipt: Late) -> None:
        self._ending.append(receipt)
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
        opening, ending = self._opening, self._ending
        if not opening and not ending:
            return _NOBODY
        failed = self._journal.write(opening.values(), [payload for _, _, payload in ending])
        self._opening, self._ending, self._due = {}, [], None
        if failed is not None:
            return self._sort_out(opening, ending, failed)
        self._count(opening, ending)
        return _NOBODY

    def _count(self, opening: Mapping[str, bytes], ending: list[Late]) -> None:
        """Take note of what has come into the journal."""
        opened, segment = self._open, self._journal.segments[-1]
        if opening:
            segment.open += len(opening)
            opened.update(dict.fromkeys(opening, segment))
        if ending:
            number = self._settled = segment.last = self._settled + len(ending)
            for call_id, _, _ in ending:
                began = opened.pop(call_id, None)
                if began is not None:
                    began.open -= 1
                    began.last = number
            if self._behind is not None:
                self._unread += len(ending)
            else:
                self._pending.extend([row for _, row, _ in ending])
                if len(self._pending) >= self._memory_rows:
                    self._behind = self._journal.place
        if self._power:
            self._syncing.ask()

    def _sort_out(
        self, opening: Mapping[str, bytes], ending: list[Late], failed: list[OSError | None]
    ) -> Mapping[str, Overloaded]:
        """Take note of what could be written; refuse the calls of the other intents, and keep the other receipts."""
        began = zip(opening, failed, strict=False)
        lost = {call_id: self._refusal(error) for call_id, error in began if error is not None}
        ended = [*zip(ending, failed[len(opening) :], strict=True)]
        written = {call_id: payload for call_id, payload in opening.items() if call_id not in lost}
        if written or not all(error for _, error in ended):
            self._count(written, [receipt for receipt, error in ended if error is None])
        for receipt, error in ended:
            if error is not None:
                self._settle_late(receipt, error)
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

"""The ledger: every call that was let in leaves exactly one receipt here, however it or its process ended.

In the line: `recording.py` is the request path; `flush`, which the gateway calls every few milliseconds, moves receipts from
the journal into the store. Opening recovers what dead processes left behind. Reports and keys read `store`.

What waits for the store is kept in memory, up to a bound; what comes beyond it is read back from the journal, so a store
that is stuck costs disk, not memory. A receipt that the journal could not take (a full disk) waits in memory and goes
wherever there is room first; meanwhile `intend` refuses new calls, since money that cannot be recorded must not be spent.

One thread uses a `Ledger`. Others serve it, started when first needed: one for checkpoints and for deleting segments, one
that sums up what is over, and under the policy `power` one that syncs the journal.
"""

import os
import time
from collections import deque
from itertools import islice
from pathlib import Path
from random import Random
from typing import Literal

from msgspec import Struct

from penstock.errors import Internal
from penstock.ledger.background import Background
from penstock.ledger.ids import Ids
from penstock.ledger.journal import SEGMENT_BYTES, Disk, Journal, Segment
from penstock.ledger.reading import read
from penstock.ledger.recording import Place, Recording
from penstock.ledger.records import Intent
from penstock.ledger.recovery import Recovery, recover
from penstock.ledger.rolling import Roller
from penstock.ledger.rows import Row
from penstock.ledger.store import FILE, Store, StoreBusy, checkpoint

_CHECKPOINT_ROWS = 1024
"""Few: a checkpoint of more keeps a processor for milliseconds, which calls have to wait for where it is the only one."""
_ROLLING_ROWS = 8192
_CLOSING_ROWS = 1024
_RETRY_S = 0.005


class LedgerSettings(Struct, frozen=True):
    """How safe, and how much memory.

    sync          `process`: a record survives the death of the process; `power`: soon after also the loss of power
    memory_rows   receipts that wait in memory for the store, before they are read back from the journal
    segment_bytes size of a journal file
    """

    sync: Literal["process", "power"] = "process"
    memory_rows: int = 16_384
    segment_bytes: int = SEGMENT_BYTES
    disk: Disk = Disk()


class LedgerState(Struct, frozen=True):
    """How the ledger is doing, for metrics and `doctor`.

    backlog     receipts that are not in the store yet, `late` those of them that are not in the journal either
    refused     calls refused since their intent could not be written
    dropped     receipts of calls that cost nothing, given up since neither journal nor store could take them
    unreadable  receipts of our own journal that could not be read back
    trouble     what the disk or the store said last, until it works again
    """

    open_intents: int
    backlog: int
    late: int
    refused: int
    dropped: int
    unreadable: int
    written: int
    synced: int
    trouble: str


class Ledger(Recording):
    """See the module. `recovered` tells what opening found."""

    def __init__(self, store: Store, journal: Journal, settings: LedgerSettings, ids: Ids) -> None:
        super().__init__(journal, settings.memory_rows, power=settings.sync == "power")
        self.store = store
        self.recovered = Recovery()
        self.new_id = ids.new
        self._settings = settings
        self._flushed = 0
        self._since_checkpoint = 0
        self._unreadable = 0
        self._safe = True
        self._done: deque[Segment] = deque()
        self._tidying = Background("penstock-checkpoint", self._tidy)
        self._roller = Roller(store.path)
        self._rolling = Background("penstock-sums", self._roll)

    @classmethod
    def open(cls, home: Path, *, now_ns: int, settings: LedgerSettings = LedgerSettings()) -> "Ledger":  # noqa: B008 - frozen
        """Open the ledger in this folder, make it if there is none, and recover what dead processes left.

        `now_ns` is the wall clock. Raises `Internal`, which says what to do.
        """
        home = home.absolute()
        folder = home / "journal"
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise Internal(
                f"The folder {home} cannot be made: {error.strerror}.",
                hint="Let this user write there, or set PENSTOCK_HOME to another folder.",
            ) from None
        ids = Ids(Random())  # noqa: S311 - ids are no secrets, and the seed is the system's randomness
        writer = f"{ids.new(now_ns)}-{os.getpid()}"
        journal = Journal(
            folder, writer, disk=settings.disk, power=settings.sync == "power", segment_bytes=settings.segment_bytes
        )
        store = Store.open(home / FILE)
        ledger = cls(store, journal, settings, ids)
        try:
            ledger.recover()
        except BaseException:
            store.close()
            raise
        store.hurry(on=True)
        return ledger

    def recover(self) -> Recovery:
        """Take over what dead processes left; `open` does it, and it may be repeated at any time."""
        try:
            found = recover(self._journal.folder, self.store, own=self._journal.writer)
        except StoreBusy:
            raise Internal(
                f"The ledger {self.store.path} is being written by another process for too long.", hint="Try again."
            ) from None
        except OSError as error:
            raise Internal(f"The journal {error.filename} cannot be recovered: {error.strerror}.") from None
        self.recovered += found
        return found

    # -- beside it --

    @property
    def backlog(self) -> int:
        """Receipts that are not in the store yet."""
        self.commit()
        return len(self._pending) + self._unread + len(self._late)

    @property
    def open_intents(self) -> int:
        """Calls that were let in and have not ended."""
        self.commit()
        return len(self._open)

    @property
    def state(self) -> LedgerState:
        """How the ledger is doing."""
        return LedgerState(
            open_intents=self.open_intents,
            backlog=self.backlog,
            late=len(self._late),
            refused=self._refused,
            dropped=self._dropped,
            unreadable=self._unreadable,
            written=self._journal.written,
            synced=self._journal.synced,
            trouble=self._trouble,
        )

    def flush(self, max_rows: int = 128) -> int:
        """Move up to `max_rows` receipts into the store, in one transaction; give how many are left. Never raises.

        Where the store is busy or broken nothing moves, `state` says why, and the journal keeps everything.
        """
        self.commit()
        try:
            if self._late:
                self._flush_late(max_rows)
            elif self._pending:
                self._flush_pending(max_rows)
            elif self._behind is not None:
                self._flush_behind(self._behind, max_rows)
            else:
                return 0
            self._trouble = ""
        except StoreBusy:
            pass
        except (Internal, OSError) as error:
            self._trouble = str(error)
        return self.backlog

    def _flush_late(self, max_rows: int) -> None:
        late = self._late
        while late:
            before = len(late)
            self.settle_row(*late.popleft())
            self.commit()
            if len(late) == before:  # it came back: the journal has no room yet, but perhaps the store
                break
        if not late:
            return
        batch = list(islice(late, max_rows))
        self.store.add([row for _, row in batch])
        for call_id, _ in batch:
            late.popleft()
            began = self._open.pop(call_id, None)
            if began is not None:
                began.open -= 1

    def _flush_pending(self, max_rows: int) -> None:
        batch = self._pending[:max_rows]
        self.store.add(batch)
        del self._pending[:max_rows]
        self._moved(len(batch))

    def _flush_behind(self, behind: Place, max_rows: int) -> None:
        """Go on in our own journal, where memory ended; what cannot be read there is given up, and counted."""
        rows, place = self._read_behind(behind, max_rows) if self._unread else ([], behind)
        if rows:
            self.store.add(rows)
        else:
            self._unreadable += self._unread
        moved = len(rows) or self._unread
        self._unread -= moved
        self._behind = place if self._unread else None
        self._moved(moved)

    def _read_behind(self, behind: Place, max_records: int) -> tuple[list[Row], Place]:
        """Give the next rows after this place and where they end; none if there are no more."""
        segment, offset = behind
        while True:
            segments = self._journal.segments
            values, end = _read_on(segment, offset, max_records) if segment in segments else ([], offset)
            if end > offset:
                rows = [value for value in values if not isinstance(value, Intent)]
                offset = end
                if rows:
                    return rows, (segment, offset)
            else:
                following = [each for each in segments if each.number > segment.number]
                if not following:
                    return [], behind
                segment, offset = following[0], 0

    def _moved(self, rows: int) -> None:
        """Count rows that are in the store now; now and then have a checkpoint made, done segments deleted, and sums made."""
        before, self._flushed = self._flushed, self._flushed + rows
        self._since_checkpoint += rows
        if len(self._journal.segments) > 1:
            self._done.extend(self._journal.done(self._flushed))
        if not before or self._flushed // _ROLLING_ROWS > before // _ROLLING_ROWS:
            self._rolling.ask()
        if self._done or self._since_checkpoint >= _CHECKPOINT_ROWS:
            self._since_checkpoint = 0
            self._tidying.ask()

    # -- in threads --

    def _tidy(self) -> None:
        """Make a checkpoint; what was done before it began is safe then, and can go."""
        done = len(self._done)
        self._safe = False
        try:
            self._safe = checkpoint(self.store.path)
            for _ in range(done if self._safe else 0):
                self._done.popleft().path.unlink(missing_ok=True)
        except (Internal, OSError, StoreBusy) as error:
            self._trouble = str(error)

    def _roll(self) -> None:
        """Sum up what is over, so that reports and budgets need not read every call."""
        try:
            self._roller.run(time.time_ns())
        except (Internal, OSError, StoreBusy) as error:
            self._trouble = str(error)

    def close(self, wait_s: float = 5.0) -> None:
        """Move everything into the store and delete the own journal.

        Where that is not possible within `wait_s`, or calls are still open, the journal stays, and the next ledger that
        opens here recovers it; so it does with a receipt that comes after all.
        """
        self.commit()
        self._outbox, self._closed = None, True
        self._syncing.close()
        if self._power:
            self._sync()
        self.store.hurry(on=False)
        deadline = time.monotonic() + wait_s
        while self.backlog and time.monotonic() < deadline:
            before = self.backlog
            if self.flush(_CLOSING_ROWS) >= before:
                time.sleep(_RETRY_S)
        self._roller.stop()
        self._rolling.close()
        self._tidying.close()
        if self._journal.segments:
            self._done.extend(self._journal.done(self._flushed))
            self._tidy()
        self._journal.close(delete=self._safe and not self.backlog and not self._open)
        self.store.close()


def _read_on(segment: Segment, offset: int, limit: int) -> tuple[list[Intent | Row], int]:
    try:
        reading = read(segment.path, offset, limit)
    except FileNotFoundError:  # someone deleted it under us
        return [], offset
    return reading.values, reading.end

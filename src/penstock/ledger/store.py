"""The one SQL door: every receipt and every key in one SQLite file, `<home>/ledger.db`.

Write-ahead log, synchronous NORMAL: a commit costs no fsync and survives the death of the process. What the loss of power
could take, the journal still has: its segments go only after a checkpoint. On the request path (`hurry`) a connection
waits for nobody: where another process is writing it raises `StoreBusy`, and the caller comes again. Checkpoints never
happen by themselves but in `checkpoint()`, which a thread calls.

Knows rows and statements; never what a budget is, nor how a report looks. A `Store` belongs to the thread that opened it.
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from penstock.errors import Internal, Overloaded
from penstock.ledger import sql
from penstock.ledger.ids import first_key
from penstock.ledger.periods import MAX_NS
from penstock.ledger.rows import Row, receipt_of
from penstock.receipt import Receipt

FILE = "ledger.db"

_WAL_BYTES = 64 << 20
_RETRY_S = 0.01
_NAMES = 6
_SLACK_NS = 60_000_000_000

_MAY_WRITE = "Let this user write the file and its folder, or set PENSTOCK_HOME to another folder."
_MOVE = "Move the file away, or set PENSTOCK_HOME to another folder."
_HINTS: Final = {
    sqlite3.SQLITE_FULL: "The disk is full: free some space.",
    sqlite3.SQLITE_IOERR: "The disk fails: look at the system's log.",
    sqlite3.SQLITE_READONLY: _MAY_WRITE,
    sqlite3.SQLITE_CANTOPEN: _MAY_WRITE,
    sqlite3.SQLITE_NOTADB: _MOVE,
    sqlite3.SQLITE_CORRUPT: "Restore a backup, or save what can be saved with `sqlite3 FILE .recover`.",
}


class StoreBusy(Overloaded):
    """Another process is writing: nothing was done, come again."""


class Span(Struct, frozen=True, gc=False):
    """From `since_ns` up to but not including `until_ns`."""

    since_ns: int
    until_ns: int


class Filter(Struct, frozen=True):
    """Which calls; None means any. `after` is the 16 bytes of an id: only calls with greater ids."""

    span: Span
    team: str | None = None
    feature: str | None = None
    model: str | None = None
    user: str | None = None
    key: str | None = None
    target: str | None = None
    status: str | None = None
    after: bytes = b""


class Sums(Struct, frozen=True, gc=False):
    """A group of calls: its dimensions (None where not asked for, or not known), and what they sum up to.

    `quarter` counts quarters of an hour since the epoch, 0 where time was not asked for; `cost_nano_usd` leaves the
    `unpriced` calls out.
    """

    feature: str | None
    model: str | None
    team: str | None
    user: str | None
    key: str | None
    target: str | None
    quarter: int
    calls: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_nano_usd: int
    unpriced: int
    estimated: int
    exact: int


class Claim(Struct, frozen=True, gc=False):
    """Who makes the call of an idempotency key: both hashes, the owner, and until when it holds."""

    id: bytes
    request: bytes
    owner: str
    until_ns: int

    def values(self) -> dict[str, Any]:
        """Give it as parameters."""
        return {"id": self.id, "request": self.request, "owner": self.owner, "until": self.until_ns}


def _failure(error: sqlite3.Error, path: Path) -> Exception:
    """Turn what SQLite says into what we raise: `StoreBusy`, or `Internal` with what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy("Another process is writing to the ledger.", hint="Try again.", retry_after_s=1.0)
    return Internal(f"The ledger {path} cannot be used: {error}.", hint=_HINTS.get(code, ""))


def _make_file(path: Path) -> None:
    """Make the file for this user alone if there is none; SQLite gives its companions the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Internal(f"The ledger {path} cannot be opened: {error.strerror}.", hint=_MAY_WRITE) from None


def _bounds(span: Span) -> dict[str, Any]:
    """Give the span as parameters: as moments, and as the keys that can hold them, ids being in order of time."""
    since, until = max(span.since_ns, 0), min(span.until_ns, MAX_NS)
    first, beyond = first_key(since - _SLACK_NS), first_key(until + _SLACK_NS)
    return {"first": first, "beyond": beyond, "since_ns": since, "until_ns": until}


def _sums(row: Row) -> Sums:
    values: list[Any] = [*(name or None for name in row[:_NAMES]), *row[_NAMES:]]
    return Sums(*values)


class Store:
    """One connection. Every method raises `Internal` where the file cannot be used."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection
        self._execute = connection.execute

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open the file; make it if there is none; bring its schema up to date."""
        _make_file(path)
        connection = sqlite3.connect(path, isolation_level=None, timeout=sql.WAIT_S)
        store = cls(path, connection)
        try:
            with store._told():
                store._prepare()
        except BaseException:
            connection.close()
            raise
        return store

    def _prepare(self) -> None:
        for setting in sql.SETTINGS:
            self._execute(setting)
        self._refuse_strangers()
        deadline = time.monotonic() + sql.WAIT_S
        while True:
            try:
                self._execute(sql.WAL)
                break
            except sqlite3.OperationalError as error:  # of several that change the mode at once only one waits
                if not isinstance(_failure(error, self.path), StoreBusy) or time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_S)
        if self._version() != len(sql.MIGRATIONS):
            with self._transaction():
                self._migrate(self._version())

    def _refuse_strangers(self) -> None:
        tables = self._one(sql.TABLES)  # first: whoever makes them at this moment has marked the file by the end
        mark = self._one(sql.MARK_OF)
        if mark != sql.APPLICATION_ID and (mark or tables):
            raise Internal(f"{self.path} is the database of another program.", hint=_MOVE)

    def _version(self) -> int:
        return self._one(sql.VERSION_OF) if self._one(sql.TABLES) else 0

    def _migrate(self, version: int) -> None:
        newest = len(sql.MIGRATIONS)
        if version > newest:
            raise Internal(
                f"The ledger {self.path} was written by a newer penstock: schema {version}, and this one knows {newest}.",
                hint="Upgrade penstock, or set PENSTOCK_HOME to another folder.",
            )
        for statements in sql.MIGRATIONS[version:]:
            for statement in statements:
                self._execute(statement)
        self._execute(sql.SET_VERSION, (newest,))
        self._execute(sql.MARK)

    def _one(self, statement: str) -> int:
        value: int = self._execute(statement).fetchone()[0]
        return value

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit what is done inside, or nothing of it."""
        self._execute(sql.BEGIN)
        try:
            yield
            self._execute(sql.COMMIT)
        finally:
            if self._db.in_transaction:
                with suppress(sqlite3.Error):
                    self._execute(sql.ROLLBACK)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _failure(error, self.path) from None

    def hurry(self, *, on: bool) -> None:
        """Let a write not wait for other processes from now on, or for up to 5 seconds, as after `open`."""
        self._execute(sql.HURRY if on else sql.WAIT)

    def close(self) -> None:
        """Let go of the file."""
        with self._told():
            self._db.close()

    # -- calls --

    def add(self, rows: Sequence[Row]) -> int:
        """Add the calls that are not there yet, in one transaction; give how many. Raises `StoreBusy` as well."""
        with self._told(), self._transaction():
            return self._db.executemany(sql.ADD_CALL, rows).rowcount

    def call(self, key: bytes) -> Receipt | None:
        """Find a receipt by the 16 bytes of its id."""
        with self._told():
            row = self._execute(sql.CALL, (key,)).fetchone()
        return receipt_of(row) if row else None

    def calls(self, which: Filter, limit: int) -> list[Receipt]:
        """Give receipts, newest first."""
        wanted = {name: getattr(which, name) for name in Filter.__struct_fields__ if name != "span"}
        with self._told():
            rows = self._execute(sql.CALLS, {**_bounds(which.span), **wanted, "limit": limit}).fetchall()
        return [receipt_of(row) for row in rows]

    def sums(self, span: Span, by: Sequence[str]) -> list[Sums]:
        """Sum calls up by any of feature, model, team, user, key, target and time (quarters of an hour)."""
        values = _bounds(span)
        if len(by) > 1:
            statement = sql.SUMS
            values |= {name: name in by for name in sql.SUMS_BY}
        else:
            statement = sql.SUMS_BY[by[0]] if by else sql.SUM
        with self._told():
            rows = self._execute(statement, values).fetchall()
        found = [_sums(row) for row in rows]
        return [sums for sums in found if sums.calls]

    # -- keys --

    def key_rows(self) -> list[Row]:
        """Give every key: id, hash, team, feature, label, admin, created_ns, expires_ns, revoked_ns, rpm, tpm, concurrency."""
        with self._told():
            return self._execute(sql.KEYS).fetchall()

    def add_key(self, row: Row, *, instead_of: str | None = None, until_ns: int | None = None) -> None:
        """Add a key; let the one that it replaces expire at `until_ns`. Raises `StoreBusy` as well."""
        with self._told(), self._transaction():
            self._execute(sql.ADD_KEY, row)
            if instead_of is not None:
                self._execute(sql.EXPIRE_KEY, {"id": instead_of, "at": until_ns})
            self._execute(sql.KEYS_CHANGED)

    def revoke_key(self, key_id: str, at_ns: int) -> bool:
        """Revoke a key, once and for all; give whether there is one of that id. Raises `StoreBusy` as well."""
        with self._told(), self._transaction():
            found = self._execute(sql.REVOKE_KEY, {"id": key_id, "at": at_ns}).rowcount == 1
            self._execute(sql.KEYS_CHANGED)
            return found

    def keys_version(self) -> int:
        """Give a number that grows whenever a key changes."""
        with self._told():
            return self._one(sql.KEYS_VERSION)

    # -- idempotency keys: see `idempotency.py` --

    def shred(self) -> None:
        """Overwrite what this connection deletes, from now on."""
        with self._told():
            self._execute(sql.SHRED).fetchone()

    def claim(self, claim: Claim, now_ns: int, sweep: int) -> Row | None:
        """Claim a key and give None, or give whose it is: request, status, headers, body.

        In passing, up to `sweep` rows that are over go. Raises `StoreBusy` as well, as all of these.
        """
        values = {**claim.values(), "now": now_ns}
        with self._told():
            found: Row | None = self._execute(sql.CLAIM_OF, values).fetchone()
            if found is not None:  # mostly, while somebody waits: this locks nothing
                return found
            with self._transaction():
                self._execute(sql.FORGET_REPLIES, {"now": now_ns, "limit": sweep})
                is_mine = self._execute(sql.CLAIM, values).rowcount == 1
                found = None if is_mine else self._execute(sql.CLAIM_OF, values).fetchone()
        return found

    def renew_claims(self, owner: str, until_ns: int) -> None:
        """Let all claims of this owner live on."""
        with self._told():
            self._execute(sql.RENEW_CLAIMS, {"owner": owner, "until": until_ns})

    def keep_reply(self, claim: Claim, status: int, headers: bytes, body: bytes | None) -> bool:
        """Make a reply of a claim, kept until the claim's `until_ns`; False where it is not its owner's any more."""
        values = {**claim.values(), "status": status, "headers": headers, "body": body}
        with self._told():
            return self._execute(sql.KEEP_REPLY, values).rowcount == 1

    def release_claim(self, claim: Claim) -> None:
        """Give a claim up."""
        with self._told():
            self._execute(sql.RELEASE_CLAIM, claim.values())

    def release_claims(self, owner: str) -> None:
        """Give up all claims of this owner."""
        with self._told():
            self._execute(sql.RELEASE_CLAIMS, {"owner": owner})

    def data_version(self) -> int:
        """Give a number that differs once another connection has changed anything."""
        with self._told():
            return self._one(sql.DATA_VERSION)


def checkpoint(path: Path) -> bool:
    """Move the write-ahead log into the database and sync both; give whether all that was committed before is safe.

    Blocks nobody, unless the log has grown beyond 64 MiB under constant writing: then writers are kept out for the
    moment that it takes to begin it anew. Opens a connection of its own, so any thread may call it.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=sql.WAIT_S)
        try:
            busy, in_log, moved = connection.execute(sql.CHECKPOINT).fetchone()
            log = path.with_name(f"{path.name}-wal")
            if log.exists() and log.stat().st_size > _WAL_BYTES:
                connection.execute(sql.SHRINK)
            return not busy and in_log == moved
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise _failure(error, path) from None

"""The door to SQLite: one connection to the file, its schema, its transactions, and what goes wrong with them.

Write-ahead log, synchronous NORMAL: a commit costs no fsync and survives the death of the process. What the loss of power
could take, the journal still has: its segments go only after a checkpoint. On the request path (`hurry`) a connection
waits for nobody: where another process is writing it raises `StoreBusy`, and the caller comes again. Checkpoints never
happen by themselves but in `checkpoint()`, which a thread calls.

Knows files and statements, never what stands in the tables; `store.py` does.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from penstock.errors import Internal, Overloaded
from penstock.ledger import sql
from penstock.ledger.rows import Row

FILE = "ledger.db"

_WAL_BYTES = 64 << 20
_RETRY_S = 0.01
_STEPS = 20_000
"""Instructions of SQLite's machine between two questions whether to go on: about a millisecond."""

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
    """Another process is writing, or this one is ending: nothing was done, come again."""


def _failure(error: sqlite3.Error, path: Path) -> Exception:
    """Turn what SQLite says into what we raise: `StoreBusy`, or `Internal` with what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy("Another process is writing to the ledger.", hint="Try again.", retry_after_s=1.0)
    if code == sqlite3.SQLITE_INTERRUPT:
        return StoreBusy("The ledger is closing.", retry_after_s=1.0)
    return Internal(f"The ledger {path} cannot be used: {error}.", hint=_HINTS.get(code, ""))


def _make_file(path: Path) -> None:
    """Make the file for this user alone if there is none; SQLite gives its companions the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return  # nor is it opened: to close it would drop the locks of this process's other connections (POSIX)
    except OSError as error:
        raise Internal(f"The ledger {path} cannot be opened: {error.strerror}.", hint=_MAY_WRITE) from None


class Database:
    """One connection. Every method raises `Internal` where the file cannot be used."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection
        self._execute = connection.execute

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file; make it if there is none; bring its schema up to date."""
        _make_file(path)
        connection = sqlite3.connect(path, isolation_level=None, timeout=sql.WAIT_S)
        database = cls(path, connection)
        try:
            with database._told():
                database._prepare()
        except BaseException:
            connection.close()
            raise
        return database

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

    def _one(self, statement: str, values: Any = ()) -> int:
        value: int = self._execute(statement, values).fetchone()[0]
        return value

    def _rows(self, statement: str, values: Any = ()) -> list[Row]:
        return self._execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self, begin: str = sql.BEGIN) -> Iterator[None]:
        """Commit what is done inside, or nothing of it."""
        self._execute(begin)
        try:
            yield
            self._execute(sql.COMMIT)
        finally:
            if self._db.in_transaction:
                with suppress(sqlite3.Error):
                    self._execute(sql.ROLLBACK)

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Read the file as it is at one moment, whoever writes meanwhile."""
        with self._told(), self._transaction(sql.BEGIN_READING):
            yield

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _failure(error, self.path) from None

    def hurry(self, *, on: bool) -> None:
        """Let a write not wait for other processes from now on, or for up to 5 seconds, as after `open`."""
        self._execute(sql.HURRY if on else sql.WAIT)

    def pace(self, goes_on: Callable[[], bool]) -> None:
        """Ask this about every millisecond of work; once it gives False what is being done fails with `StoreBusy`."""
        self._db.set_progress_handler(lambda: not goes_on(), _STEPS)

    def data_version(self) -> int:
        """Give a number that differs once another connection has changed anything."""
        with self._told():
            return self._one(sql.DATA_VERSION)

    def close(self) -> None:
        """Let go of the file."""
        with self._told():
            self._db.close()


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

"""The journal: what a call intends and what came of it, on disk before anything else happens.

One writer is one process: `<home>/journal/<uuid7>-<pid>.lock`, locked for as long as the process lives, and its segments
`<uuid7>-<pid>.000001.log`, ... A lock that can be taken tells that its writer is dead. A forked child shares the lock,
so a ledger is opened after the fork.

`write` does one `write` of any number of records to a file opened for appending. The kernel has them when it returns: the
death of the process, by whatever signal, loses nothing. Against the loss of power there is `sync()`, one fdatasync for everything
written before it, which `Ledger` runs in a thread under the policy `power`; `written` and `synced` tell how far it is.

Never knows SQL, and never decides what may be deleted: `Ledger` says which segments are done.
"""

import fcntl
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from threading import Lock

from msgspec import Struct

from penstock.ledger.records import (
    HEAD,
    INTENT,
    RECEIPT,
    Seeds,
    frame,
    frames,
    pack_head,
    seeds_of,
)

SEGMENT_BYTES = 16 << 20
LOCK, LOG = ".lock", ".log"


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


class Disk(Struct, frozen=True):
    """The system calls under the journal; a test puts failing ones in their place.

    On macOS `sync` reaches the drive and not its own cache, as SQLite's syncs do there unless told otherwise.
    """

    open: Callable[[Path, int], int] = _open
    write: Callable[[int, bytes], int] = os.write
    truncate: Callable[[int, int], None] = os.ftruncate
    sync: Callable[[int], None] = os.fsync if sys.platform == "darwin" else os.fdatasync


class Segment:
    """One file of this writer.

    `open` counts its intents without an outcome, `last` is the number of the last outcome that concerns it, counted by
    the ledger: once that one is in the store and nothing is open, nobody needs the segment any more.
    """

    __slots__ = ("last", "number", "open", "path", "seeds")

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.seeds: Seeds = seeds_of(path.name)
        self.open = 0
        self.last = 0


class Journal:
    """The segments that this process writes. Making it touches nothing; the first record creates the files."""

    def __init__(self, folder: Path, writer: str, *, disk: Disk, power: bool, segment_bytes: int) -> None:
        self.folder = folder
        self.writer = writer
        self.segments: list[Segment] = []
        self._disk = disk
        self._write = disk.write
        self._power = power
        self._segment_bytes = segment_bytes
        self._lock = -1
        self._fd = -1
        self._end = 0
        self._limit = 0
        self._number = 0
        self._seeds: Seeds = (0, 0, 0)
        self._written = 0
        self._synced = 0
        self._rolled: list[int] = []
        self._syncing = Lock()

    @property
    def place(self) -> tuple[Segment, int]:
        """The last segment, and where in it the next record would stand."""
        return self.segments[-1], self._end

    @property
    def written(self) -> int:
        """Bytes that the kernel has: safe from the death of the process."""
        return self._written

    @property
    def synced(self) -> int:
        """How many of them are safe from the loss of power as well; moves under the policy `power` only."""
        return self._synced

    def write(self, intents: Collection[bytes], receipts: Collection[bytes]) -> list[OSError | None] | None:
        """Record the payloads of these intents, then of these receipts, in one segment.

        None where that was done; else for each of them why it could not be done, and then nothing of it is there.
        """
        if self._end >= self._limit:
            try:
                self._roll()
            except OSError as error:
                return [error] * (len(intents) + len(receipts))
        records = frames(INTENT, intents, self._seeds)
        records += frames(RECEIPT, receipts, self._seeds)
        return self._append(records)

    def _append(self, records: list[bytes]) -> list[OSError | None] | None:
        data = b"".join(records)
        size, written = len(data), 0
        try:
            while written < size:
                written += self._write(self._fd, data[written:])
        except OSError as error:
            return self._append_rest(records, written, error)
        self._end += size
        self._written += size
        return None

    def _append_rest(self, records: list[bytes], written: int, error: OSError) -> list[OSError | None]:
        """After a write that failed keep what is whole, take its last fragment back, and try the other records one by one."""
        count = end = 0
        while end + len(records[count]) <= written:
            end += len(records[count])
            count += 1
        self._end += end
        self._written += end
        if written > end:
            try:
                self._disk.truncate(self._fd, self._end)
            except OSError:
                self._end += written - end  # the fragment stays where it is; readers skip it
        if len(records) == 1:
            return [error]
        failed: list[OSError | None] = [None] * count
        for record in records[count:]:
            failed += self._append([record]) or [None]
        return failed

    def _roll(self) -> None:
        """Begin a segment. If that fails while there is one, that one goes on beyond its size."""
        try:
            self._begin()
        except OSError:
            if self._fd < 0:
                raise
            self._limit = self._end + self._segment_bytes // 16

    def _begin(self) -> None:
        if self._lock < 0:
            self._lock = take_lock(self.folder, self.writer)
        self._number += 1
        segment = Segment(self.folder / f"{self.writer}.{self._number:06d}{LOG}", self._number)
        data = frame(HEAD, pack_head(), segment.seeds)
        fd = self._disk.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        try:
            self._write_head(fd, data)
            if self._power:
                sync_folder(self.folder)
        except OSError:
            os.close(fd)
            segment.path.unlink(missing_ok=True)
            raise
        if self._fd >= 0:
            self._rolled.append(self._fd)
        self._fd, self._end, self._limit = fd, len(data), self._segment_bytes
        self._seeds = segment.seeds
        self._written += len(data)
        self.segments.append(segment)
        if not self._power:
            self._close_rolled()

    def _write_head(self, fd: int, data: bytes) -> None:
        if self._write(fd, data) != len(data):
            raise OSError("the head of a journal segment was not written whole")

    def _close_rolled(self) -> None:
        while self._rolled:
            os.close(self._rolled.pop())

    def sync(self) -> None:
        """Make everything written so far safe from the loss of power. Callable from any thread. Raises `OSError`."""
        with self._syncing:
            written, current = self._written, self._fd
            for fd in self._rolled[:]:  # a roll meanwhile adds to it; that one is still `current` here
                if fd != current:
                    self._disk.sync(fd)
                    self._rolled.remove(fd)
                    os.close(fd)
            if current >= 0:
                self._disk.sync(current)
            self._synced = max(self._synced, written)

    def done(self, flushed: int) -> list[Segment]:
        """Let go of the segments that nobody needs once `flushed` outcomes are in the store, and give them."""
        done = [segment for segment in self.segments[:-1] if not segment.open and segment.last <= flushed]
        if done:
            self.segments = [segment for segment in self.segments if segment not in done]
        return done

    def close(self, *, delete: bool) -> None:
        """Let go of the files; without `delete` the next ledger that opens reads them as those of a dead writer."""
        with self._syncing:
            self._close_rolled()
            if self._fd >= 0:
                os.close(self._fd)
            if delete:
                for segment in self.segments:
                    segment.path.unlink(missing_ok=True)
                if self._lock >= 0:
                    (self.folder / f"{self.writer}{LOCK}").unlink(missing_ok=True)
            if self._lock >= 0:
                os.close(self._lock)
            self._fd = self._lock = -1
            self._limit = 0


def take_lock(folder: Path, writer: str) -> int:
    """Make and take this writer's lock; give its descriptor. Raises `OSError`."""
    while True:
        fd = lock(folder, writer, wait=True)
        if fd is not None:
            return fd


def lock(folder: Path, writer: str, *, wait: bool = False) -> int | None:
    """Take a writer's lock, which the living hold; None if it is held, or was deleted while we took it."""
    path = folder / f"{writer}{LOCK}"
    fd = _open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), path.stat()):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(fd)
        raise
    os.close(fd)
    return None


def sync_folder(folder: Path) -> None:
    """Make the names in a folder safe from the loss of power."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

"""Remembers what people were told, so that it is told once: by one of several workers, and not again after a restart.

`<home>/alerts/told` has a head (a magic word, 8 random bytes that name this home, 8 more that name the file) and records
of 36 bytes, each with its checksum: what was claimed, with which value, and until when that counts. Claims are appended under the lock of
`<home>/alerts/lock` (flock), which the kernel gives back when its holder dies; whoever claims reads first what others have
appended. So of several that claim the same, one gets it. A record that a crash tore is written over. Once most records
are over, the file is written anew and put in its place by one rename.

Nothing is forced to the disk: after a loss of power something may be told twice. Never decides what is worth telling.
Never waits: a lock that somebody else holds is for the next time.
"""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from struct import Struct as Layout
from typing import Final
from zlib import crc32

from penstock.telemetry.alerts import Claim

FOLDER, TOLD, LOCK = "alerts", "told", "lock"

_MAGIC: Final = b"PSTOLD1\n"
_HEAD: Final = Layout("=8s8s8s")
_RECORD: Final = Layout("=16sqqI")
_SUM: Final = 4
"""Bytes of the checksum at the end of a record."""
MANY: Final = 4096
"""Records from which on it is looked whether most of them are over."""
KEPT_S: Final = 86_400
"""How long what is over is remembered, for whoever's clock is late."""


class Told:
    """The memory of one home, as one process sees it. Opens nothing before the first claim."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER
        self._lock_fd = -1
        self._head = b""  # of the file that was read
        self._read = 0  # bytes of it
        self._known: dict[bytes, int] = {}
        self.instance = ""
        """Names this home among others, once something was claimed."""

    def claim(self, claims: Sequence[Claim], now_s: int) -> tuple[bool, ...] | None:
        """Say for each claim whether it is the caller's; None where somebody else is at it. Raises OSError."""
        if self._lock_fd < 0:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_fd = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        try:
            return self._claimed(claims, now_s)
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the lock's file."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
        self._lock_fd = -1

    def _claimed(self, claims: Sequence[Claim], now_s: int) -> tuple[bool, ...]:
        fd = os.open(self._folder / TOLD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._catch_up(fd)
            known, ours, written = dict[bytes, int](), [], []
            for one in claims:
                before = known.get(one.key, self._known.get(one.key))
                is_ours = before is None or one.value >= before + one.gap
                ours.append(is_ours)
                if is_ours:
                    known[one.key] = one.value
                    written.append(_record(one))
            if written:
                _write(fd, b"".join(written), self._read)
                self._known.update(known)
                self._read += len(written) * _RECORD.size
                self._tidy(fd, now_s)
        finally:
            os.close(fd)
        return tuple(ours)

    def _catch_up(self, fd: int) -> None:
        """Read what others have appended, or the whole file if it is another one."""
        size, head = os.fstat(fd).st_size, os.pread(fd, _HEAD.size, 0)
        if len(head) < _HEAD.size or not head.startswith(_MAGIC):
            head, size = _HEAD.pack(_MAGIC, os.urandom(8), os.urandom(8)), _HEAD.size
            os.ftruncate(fd, 0)
            _write(fd, head, 0)
        if head != self._head or size < self._read:
            self._known.clear()
            self._head, self._read = head, _HEAD.size
            self.instance = _HEAD.unpack(head)[1].hex()
        data = os.pread(fd, size - self._read, self._read)
        whole = data[: len(data) - len(data) % _RECORD.size]
        for key, value, _ in _records(whole):
            self._known[key] = value
        self._read += len(whole)

    def _tidy(self, fd: int, now_s: int) -> None:
        """Write the file anew without what is over, once that is most of it."""
        if self._read < MANY * _RECORD.size:
            return
        data = os.pread(fd, self._read - _HEAD.size, _HEAD.size)
        last = {key: (value, until_s) for key, value, until_s in _records(data) if until_s + KEPT_S >= now_s}
        if 2 * len(last) * _RECORD.size > len(data):
            return
        magic, instance, _ = _HEAD.unpack(self._head)
        head = _HEAD.pack(magic, instance, os.urandom(8))
        rows = [_record(Claim(key, value, 0, until_s)) for key, (value, until_s) in last.items()]
        path = self._folder / f"{TOLD}.new"
        new = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write(new, head + b"".join(rows), 0)
        finally:
            os.close(new)
        path.replace(self._folder / TOLD)


def _record(one: Claim) -> bytes:
    whole = _RECORD.pack(one.key, one.value, one.until_s, 0)[:-_SUM]
    return _RECORD.pack(one.key, one.value, one.until_s, crc32(whole))


def _records(data: bytes) -> list[tuple[bytes, int, int]]:
    """Read records; one whose checksum does not hold was never written whole, and is left out."""
    found = []
    for at in range(0, len(data), _RECORD.size):
        key, value, until_s, summed = _RECORD.unpack_from(data, at)
        if crc32(data[at : at + _RECORD.size - _SUM]) == summed:
            found.append((key, value, until_s))
    return found


def _write(fd: int, data: bytes, at: int) -> None:
    while data:
        written = os.pwrite(fd, data, at)
        data, at = data[written:], at + written

"""The processes that share a file: a lock for the moment of a change, and a number for as long as a process lives.

Both are locks of files (flock), which the kernel gives back when their holder dies, by whatever signal. The number of a
process is that of a file `<number>.lock` beside the shared one, which it keeps locked; a number whose lock can be taken is
nobody's. A forked child would share its parent's locks: take them after the fork.

Never reads or writes a file.
"""

import fcntl
import os
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Final, Self

from penstock.errors import Internal, Overloaded

TRY: Final = fcntl.LOCK_EX | fcntl.LOCK_NB
PATIENCE_S = 0.25
"""How long a call waits for the lock, at most."""
SLOW_S = 10.0
"""How long what is not a call waits for it."""
MAX_PROCESSES = 256

_SUFFIX = ".lock"
_PAUSE_S = 20e-6
_STUCK_S = 1.0


class Lock:
    """The lock of a shared file, which is made if there is none. Raises `OSError`."""

    __slots__ = ("_path", "_stuck_until", "fd")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stuck_until = 0.0
        self.fd = _open(path)

    def wait(self, patience_s: float) -> None:
        """Take the lock. Others hold it for microseconds; if one is stopped meanwhile, no call waits for it twice.

        Raises `Overloaded` where it cannot be had.
        """
        if self.fd < 0:
            raise Overloaded("The budgets are closed: this process is ending.", retry_after_s=_STUCK_S)
        now = monotonic()
        deadline = now + patience_s if now >= self._stuck_until else now
        while True:
            try:
                fcntl.flock(self.fd, TRY)
            except BlockingIOError:
                if monotonic() >= deadline:
                    self._stuck_until = monotonic() + _STUCK_S
                    raise Overloaded(
                        f"Another process sits on the lock of {self._path}.",
                        hint="Is one of the workers stopped, or very short of processor time?",
                        retry_after_s=_STUCK_S,
                    ) from None
                sleep(_PAUSE_S)
            else:
                return

    def __enter__(self) -> None:
        self.wait(SLOW_S)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


class Roll:
    """Calls the roll of a folder, for whoever has the lock: `living` are the numbers in use. Raises `OSError`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._idle: dict[int, int] = {}
        self.living: set[int] = set()

    def __enter__(self) -> Self:
        for path in self._folder.glob(f"*{_SUFFIX}"):
            if path.stem.isdecimal():
                fd = lock_of_dead(self._folder, int(path.stem))
                if fd is None:
                    self.living.add(int(path.stem))
                else:
                    self._idle[int(path.stem)] = fd
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for fd in self._idle.values():
            os.close(fd)

    def take(self, taken: set[int]) -> tuple[int, int]:
        """Take the lowest number that is neither in use nor among those given: its descriptor, and the number."""
        for number in range(1, MAX_PROCESSES + 1):
            if number not in self.living and number not in taken:
                fd = self._idle.pop(number, None)
                if fd is None:
                    fd = lock_of_dead(self._folder, number)
                if fd is not None:
                    return fd, number
        raise Internal(f"More than {MAX_PROCESSES} processes share {self._folder}, or died there lately.")


def lock_of_dead(folder: Path, number: int) -> int | None:
    """Take the lock of a number; None if its process lives. Raises `OSError`."""
    fd = _open(folder / f"{number}{_SUFFIX}")
    try:
        fcntl.flock(fd, TRY)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

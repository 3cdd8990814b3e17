"""The file by which a command finds a server that runs in a home, and learns what became of a reload.

`<home>/servers/<pid>` says where the server answers, and what the last reload came to; the server holds a lock on it for
as long as it lives, so a file that can be locked belongs to a dead one and is removed. A signal asks for the reload and
the file has the answer: that needs neither a key nor a certificate, only the right of the server's own user.
"""

import fcntl
import logging
import os
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from penstock.errors import Mistake

log = logging.getLogger("penstock")

FOLDER = "servers"
_TRIES = 5


class Reloaded(Struct, frozen=True):
    """What became of a changed configuration.

    reloaded  it was taken over; otherwise the one before it goes on, and `mistakes` say why
    hash      of the configuration that holds now, as on receipts
    restart   keys that were changed and hold only after a restart
    """

    reloaded: bool
    source: str
    hash: str
    restart: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = ()


class Running(Struct, frozen=True):
    """A server that runs: `reloads` counts how often its configuration was to be taken over, `last` is what came of it."""

    pid: int
    url: str
    reloads: int = 0
    last: Reloaded | None = None


class Presence:
    """The file of the server that this process is. Making it may raise OSError."""

    def __init__(self, home: Path, url: str) -> None:
        self._running = Running(os.getpid(), url)
        folder = home / FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / str(self._running.pid)
        draft = self._path.with_name(f"{self._path.name}.new")
        self._file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._write()
        draft.rename(self._path)  # nobody sees it unlocked

    @classmethod
    def make(cls, home: Path, url: str) -> "Presence | None":
        """Let commands find this server, if the file can be made: it serves without that, too."""
        try:
            return cls(home, url)
        except OSError as error:
            log.warning("`penstock reload` will not find this server: %s; SIGHUP does the same", error)
            return None

    def tell(self, reloaded: Reloaded) -> None:
        """Say what became of a reload."""
        self._running = structs.replace(self._running, reloads=self._running.reloads + 1, last=reloaded)
        self._write()

    def _write(self) -> None:
        data = msgspec.json.encode(self._running)
        os.pwrite(self._file, data, 0)
        os.ftruncate(self._file, len(data))

    def forget(self) -> None:
        """Let a forked process have nothing to do with it."""
        os.close(self._file)

    def close(self) -> None:
        """Be found no more."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def servers(home: Path) -> list[Running]:
    """Give the servers that run in a home, by their process ids."""
    names = sorted(int(path.name) for path in (home / FOLDER).glob("*") if path.name.isdigit())
    found = (look(home / FOLDER / str(name)) for name in names)
    return [running for running in found if running is not None]


def look(path: Path) -> Running | None:
    """Read a server's file; None, and the file is gone, where the server is."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(file)
    else:
        path.unlink(missing_ok=True)
        return None
    finally:
        os.close(file)


def _read(file: int) -> Running | None:
    for _ in range(_TRIES):  # it may be read while it is being written
        data = os.pread(file, os.fstat(file).st_size, 0)
        try:
            return msgspec.json.decode(data, type=Running)
        except (msgspec.DecodeError, RecursionError):
            continue
    return None

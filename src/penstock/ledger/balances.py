"""The balances that several processes of one machine share: one mapped file, one lock, no server between them.

`<home>/balances/table` holds, in native words of 8 bytes: a head; lines of 8 words that are balances (what is spent and
held in one period of one budget); and lines that are records (one open hold of one call, with the balances that it
counts in). Lines come in areas of 1,024; an area belongs to the balances, or to the records of one process.

Everything is changed under the file's lock (flock), which the kernel gives back when its holder dies. What belongs
together is changed by `commit`: the new values are written to a log first, then one word says that the log counts, then
they are put in place, then the word is cleared. A death before that word leaves everything as it was; after one behind it
whoever takes the lock next puts the values in place once more, which changes nothing where they are there already. So no
moment of dying leaves half a change. What is not in a commit is a single word whose writing takes one instruction.

Balances are added one behind the other, until some go since they are over, which begins a new epoch: see `index.py`.
A process is known by its number (`processes.py`). Whoever finds nobody alive begins a new table, for what was in it can be
had from the receipts; so the file is never older than its oldest process, and no loss of power leaves a torn one in use.

Knows words, lines and numbers; never what a budget or a receipt is. One thread uses a `Balances`.
"""

import os
from collections.abc import Iterable, Iterator
from fcntl import LOCK_UN, flock
from mmap import mmap
from pathlib import Path
from struct import Struct as Layout
from typing import Final

from penstock.errors import Internal, Overloaded
from penstock.ledger.holding import LINE, RECORD, Open
from penstock.ledger.index import Index
from penstock.ledger.processes import PATIENCE_S, SLOW_S, TRY, Lock, Roll, lock_of_dead

FOLDER, TABLE = "balances", "table"

FORM: Final = 0x5053_5442_414C_0003
"""The first word of a table of this layout."""
MOST: Final = (1 << 62) - 1
"""Nano-dollars: more is never spent nor held. Twice as much fits into a word."""
LOG_WORDS: Final = 64
"""What fits into one `commit`: places and their new values."""

KEY, KEY_2, START, END, SPENT, TAKEN = range(6)
"""The words of a balance; a line whose first word is 0 is free. What is taken is spent or held."""
EPOCH: Final = 4
"""The word that tells whether balances may have gone."""

_FORM, _PENDING, _AREAS, _NEXT, _LOG, _OWNERS, _HEAD = 0, 1, 2, 3, 8, 8 + LOG_WORDS, 4096
_MAX_AREAS = _HEAD - _OWNERS
_LINES = 1024
_AREA = _LINES * LINE
_WORD = 8
_FREE, _BALANCES = 0, -1

_LOGS: Final = tuple(Layout(f"={n}q") for n in range(LOG_WORDS + 1))

_KEEP_NS = 2 * 86_400 * 1_000_000_000
"""How long a balance stays after the end of its period, for whoever's clock is late."""

Key = tuple[int, int]
"""What a balance is found by; the first number is not 0."""


class Balances:
    """One process's hold of the table. `number` is the process's, 0 for one that only looks after those of the dead."""

    __slots__ = ("_fd", "_folder", "_free", "_index", "_known", "_lock", "_memory", "_number_fd", "number", "words")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = Lock(folder / TABLE)
        self._fd = self._lock.fd
        self._number_fd = -1
        self._free: list[int] = []
        self._index = Index(LINE, _LINES)
        self._known: tuple[tuple[int, int], list[int]] = (0, 0), []
        self.number = 0
        self._memory: mmap
        self.words: memoryview[int]

    @classmethod
    def attach(cls, home: Path) -> "Balances":
        """Join the processes that share the table of this home; begin a new one if there are none. Raises `Internal`."""
        folder = home / FOLDER
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            table = cls(folder)
            try:
                with table._lock, Roll(folder) as roll:
                    table._join(roll)
            except BaseException:
                table.close()
                raise
        except OSError as error:
            raise _unusable(folder, error) from None
        return table

    @classmethod
    def visit(cls, home: Path) -> "Balances | None":
        """Open the table without joining; None if nobody uses it. Raises `Internal`."""
        folder = home / FOLDER
        if not (folder / TABLE).exists():
            return None
        try:
            table = cls(folder)
            try:
                with table._lock, Roll(folder) as roll:
                    if roll.living:
                        table._map()
                        return table
            except BaseException:
                table.close()
                raise
        except OSError as error:
            raise _unusable(folder, error) from None
        table.close()
        return None

    def close(self) -> None:
        """Let go of the file and of the number. What is still held stays, until somebody settles it."""
        self._lock.close()
        if self._number_fd >= 0:
            os.close(self._number_fd)
        self._fd = self._number_fd = -1
        if hasattr(self, "words"):
            del self.words, self._memory

    @property
    def is_open(self) -> bool:
        """Whether its words are there."""
        return self._fd >= 0

    def _join(self, roll: Roll) -> None:
        if roll.living:
            self._map()
            self._number_fd, self.number = roll.take({*self._owners()})
        else:
            self._begin()
            self._number_fd, self.number = roll.take(set())

    def _begin(self) -> None:
        """Make the table anew. It may be longer than its head says: areas are cleared when they are first used."""
        _write(self._fd, bytes(_HEAD * _WORD), 0)
        self._memory = mmap(self._fd, _HEAD * _WORD)
        self.words = memoryview(self._memory).cast("q")
        self.words[_FORM] = FORM

    def _map(self) -> None:
        """Map the table as long as it is now. Raises `Internal` if it is not one."""
        size = os.fstat(self._fd).st_size
        if size >= _HEAD * _WORD:
            self._memory = mmap(self._fd, size - size % _WORD)
            self.words = memoryview(self._memory).cast("q")
            if self.words[_FORM] == FORM and _HEAD + self.words[_AREAS] * _AREA <= len(self.words):
                return
        raise Internal(
            f"{self._folder / TABLE} is damaged, or of another version, and other processes use it.",
            hint="Stop every penstock process of this home and start again: the table is made anew from the receipts.",
        )

    # -- the lock --

    def acquire(self, patience_s: float = PATIENCE_S) -> None:
        """Take the lock, and finish what its last holder died over. Raises `Overloaded` if somebody sits on it."""
        try:
            flock(self._fd, TRY)
        except (BlockingIOError, ValueError):
            self._lock.wait(patience_s)
        if self.words[_PENDING]:
            self._redo()

    def release(self) -> None:
        """Give the lock back."""
        flock(self._fd, LOCK_UN)

    # -- changing --

    def commit(self, cells: list[int]) -> None:
        """Change words, all or none: `cells` are places and their new values in turn."""
        words, count = self.words, len(cells)
        _LOGS[count].pack_into(self._memory, _LOG * _WORD, *cells)
        words[_PENDING] = count
        pairs = iter(cells)
        for at in pairs:
            words[at] = next(pairs)
        words[_PENDING] = 0

    def _redo(self) -> None:
        """Put in place what somebody who died had decided to."""
        try:
            self._fit()
            words = self.words
            log = words[_LOG : _LOG + words[_PENDING]].tolist()
            for at, value in zip(log[::2], log[1::2], strict=True):
                words[at] = value
            words[_PENDING] = 0
        except BaseException:
            self.release()
            raise

    def record(self) -> int:
        """Give a free record of this process."""
        free = self._free
        if not free:
            first = self._claim(self.number)
            free.extend(range(first + _AREA - LINE, first - LINE, -LINE))
        return free.pop()

    def open(self, call: bytes, lines: bytes, cells: list[int]) -> None:
        """Write a record. `lines` are its balances, `packed`; `cells` begin with its place and its ceiling and one."""
        at = (cells[0] + 1) * _WORD
        self._memory[at : at + RECORD.size] = call + lines
        self.commit(cells)

    def free(self, records: list[int]) -> None:
        """Take records of this process back, once they are closed."""
        self._free += records

    # -- balances --

    def find(self, key: Key) -> int:
        """Give the line of a balance, 0 if there is none."""
        at = self._index.find(self.words, key)
        if not at:
            self._fit()
            words = self.words
            self._index.read_on(words, self._lines(), words[EPOCH], words[_NEXT])
            at = self._index.find(words, key)
        return at

    def create(self, key: Key, span: tuple[int, int], spent: int, now_ns: int) -> int:
        """Add a balance of the period from `span[0]` to `span[1]`; give its line. Raises `Overloaded`."""
        at = self._room() or (self._expire(now_ns) and self._room()) or self._more_room()
        words = self.words
        words[at + KEY_2] = key[1]
        words[at + START], words[at + END] = span
        words[at + SPENT] = words[at + TAKEN] = spent
        words[at] = key[0]  # from here on it is there
        return at

    def _room(self) -> int:
        """Give the next line that is free, 0 if there is none."""
        self._fit()
        words, areas = self.words, self._lines()
        while words[_NEXT] < len(areas) * _LINES:
            number = words[_NEXT]
            words[_NEXT] = number + 1
            at = areas[number // _LINES] + number % _LINES * LINE
            if not words[at]:
                return at
        return 0

    def _lines(self) -> list[int]:
        """Give the areas of balances, in order; that only changes when the file grows or an epoch begins."""
        now = self.words[_AREAS], self.words[EPOCH]
        if self._known[0] != now:
            self._known = now, self._areas(_BALANCES)
        return self._known[1]

    def _more_room(self) -> int:
        """Give the first line of an area more. One that lies among the others begins an epoch, since it changes their order."""
        if _FREE in self.words[_OWNERS : _OWNERS + self.words[_AREAS]].tolist():
            self._begin_epoch()
        self._claim(_BALANCES)
        self._known = (0, 0), []
        return self._room()

    def _begin_epoch(self) -> None:
        self.words[EPOCH] += 1
        self.words[_NEXT] = 0

    def _expire(self, now_ns: int) -> bool:
        """Let go of balances that are long over and that no open record needs; give whether there were any."""
        words = self.words
        needed = {line for owner in self._owners() for record in self.opened(owner) for line in record.lines}
        over: list[int] = []
        for area in self._lines():
            ends = words[area + END : area + _AREA : LINE].tolist()
            over += [area + at * LINE for at, end in enumerate(ends) if end + _KEEP_NS < now_ns]
        over = [at for at in over if words[at] and at not in needed]
        if over:
            self._begin_epoch()
        for at in over:
            words[at] = 0
        return bool(over)

    # -- areas --

    def _areas(self, owner: int) -> list[int]:
        owners = self.words[_OWNERS : _OWNERS + self.words[_AREAS]].tolist()
        return [_HEAD + number * _AREA for number, one in enumerate(owners) if one == owner]

    def _owners(self) -> set[int]:
        """Give the numbers of processes that have records, open or not."""
        return set(self.words[_OWNERS : _OWNERS + self.words[_AREAS]].tolist()) - {_FREE, _BALANCES}

    def _claim(self, owner: int) -> int:
        """Give an area to an owner: a free one, or one that makes the file longer. Raises `Overloaded`."""
        self._fit()
        count = self.words[_AREAS]
        owners = self.words[_OWNERS : _OWNERS + count].tolist()
        number = owners.index(_FREE) if _FREE in owners else count
        if number == count:
            self._lengthen(count)
        self.words[_OWNERS + number] = owner
        return _HEAD + number * _AREA

    def _lengthen(self, count: int) -> None:
        if count == _MAX_AREAS:
            raise Overloaded("Too many calls in progress hold money at once.", retry_after_s=1.0)
        try:
            _write(self._fd, bytes(_AREA * _WORD), (_HEAD + count * _AREA) * _WORD)
        except OSError as error:
            raise Overloaded(
                f"{self._folder / TABLE} cannot grow: {error.strerror}.",
                hint="Calls with a budget are refused until there is room on the disk.",
                retry_after_s=5.0,
            ) from None
        self.words[_AREAS] = count + 1
        self._fit()

    def _fit(self) -> None:
        """Map what other processes, or this one, have added."""
        if _HEAD + self.words[_AREAS] * _AREA > len(self.words):
            self._map()

    # -- of the dead --

    def dead(self) -> Iterator[int]:
        """Give the numbers of processes that died and left records; each is locked while it is looked at."""
        self.acquire(SLOW_S)
        try:
            self._fit()
            numbers = self._owners() - {self.number}
        finally:
            self.release()
        for number in sorted(numbers):
            fd = lock_of_dead(self._folder, number)
            if fd is not None:
                try:
                    yield number
                finally:
                    os.close(fd)

    def opened(self, number: int) -> list[Open]:
        """Give the open records of a process."""
        words, found = self.words, []
        for area in self._areas(number):
            states = words[area : area + _AREA : LINE].tolist()
            for line in [line for line, state in enumerate(states) if state]:
                at = area + line * LINE
                call, *lines = RECORD.unpack_from(self._memory, (at + 1) * _WORD)
                found.append(Open(at, call, states[line] - 1, tuple(line * LINE for line in lines if line)))
        return found

    def close_records(self, records: Iterable[int], held: int, lines: Iterable[tuple[int, int]], cost: int) -> None:
        """Settle holds in the same balances: all that they held is given back, and what they cost is booked.

        The lines come with the first number of their keys: they may be gone where nothing was held.
        """
        words, cells = self.words, list[int]()
        for record in records:
            cells += (record, 0)
        for line, key in lines:
            if words[line] == key:
                before = words[line + SPENT]
                spent = min(before + cost, MOST)
                cells += (line + SPENT, spent, line + TAKEN, words[line + TAKEN] - held + spent - before)
        self.commit(cells)

    def disown(self, number: int) -> None:
        """Let others have the areas of a process that has no open records any more."""
        for area in self._areas(number):
            self.words[_OWNERS + (area - _HEAD) // _AREA] = _FREE


def _write(fd: int, data: bytes, at: int) -> None:
    """Write for certain, so that the disk has room for it before it is mapped."""
    while data:
        written = os.pwrite(fd, data, at)
        data, at = data[written:], at + written


def _unusable(folder: Path, error: OSError) -> Internal:
    return Internal(
        f"The shared balances in {folder} cannot be used: {error.strerror or error}.",
        hint="Let this user write there, or set PENSTOCK_HOME to another folder of a local disk.",
    )

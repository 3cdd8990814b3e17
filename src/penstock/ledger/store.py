"""Every receipt, every key and every claim in one SQLite file, `<home>/ledger.db`.

Adds rows and finds them again; sums them up, from what is kept of quarters and days where it is kept (`rollups.py`), from
the calls where not: in one snapshot, so that the answer is exact whoever writes meanwhile. A row that was there already is
never added again, nor summed twice.

Knows rows and statements; never what a budget is, nor how a report looks. A `Store` belongs to the thread that opened it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from penstock.call import Limits
from penstock.ledger import sql, summing
from penstock.ledger.database import FILE, Database, StoreBusy, checkpoint
from penstock.ledger.interning import Interning
from penstock.ledger.periods import QUARTER_NS
from penstock.ledger.rollups import DAY, NAMES, Piece, Span, bounds, part_of, pieces
from penstock.ledger.rows import Row, adapted, receipt_of, row_of
from penstock.receipt import Receipt

__all__ = ["FILE", "Claim", "Filter", "Span", "Store", "StoreBusy", "Sums", "checkpoint"]

_PIECE = 2000
"""Rows of the older form that are moved at once."""
_CHECKPOINT = 32
"""Pieces after which the write-ahead log is moved, while they are."""


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
    `unpriced` calls out. What routing saved may be negative.
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
    prompt: str | None = None
    cache_saved_nano_usd: int = 0
    routing_saved_nano_usd: int = 0


class Claim(Struct, frozen=True, gc=False):
    """Who makes the call of an idempotency key: both hashes, the owner, and until when it holds."""

    id: bytes
    request: bytes
    owner: str
    until_ns: int

    def values(self) -> dict[str, Any]:
        """Give it as parameters."""
        return {"id": self.id, "request": self.request, "owner": self.owner, "until": self.until_ns}


def _sums(row: Row) -> Sums:
    feature, model, team, user, key, target, prompt, quarter, *figures, cache_saved, routing_saved = row
    values = (feature or None, model or None, team or None, user or None, key or None, target or None, quarter)
    known: list[Any] = [*values, *figures, prompt or None, cache_saved, routing_saved]
    return Sums(*known)


def _together(rows: Iterable[Row]) -> Iterable[Row]:
    """Add up rows of the same names and time."""
    groups: dict[Row, list[int]] = {}
    place = len(NAMES) + 1
    for row in rows:
        known = groups.get(row[:place])
        if known is None:
            groups[row[:place]] = list(row[place:])
        else:
            for at, figure in enumerate(row[place:]):
                known[at] += figure
    return [(*names, *figures) for names, figures in groups.items()]


class Store(Database):
    """One connection. Every method raises `Internal` where the file cannot be used."""

    def __init__(self, path: Path, connection: Any) -> None:
        super().__init__(path, connection)
        self._interning = Interning(connection.execute)

    def _prepare(self) -> None:
        super()._prepare()
        self._move_calls()

    def _move_calls(self) -> None:
        """Bring calls of the older, wide form into the present one, in pieces.

        Each piece is a transaction of its own: whatever ends this process on the way, the next one that opens the file
        goes on, and several do it together.
        """
        moved = 0
        while self._one(sql.IS_WIDE):
            with self._transaction():
                if not self._one(sql.IS_WIDE):  # another process was quicker
                    return
                cursor = self._execute(sql.WIDE, (_PIECE,))
                names = [column[0] for column in cursor.description]
                rows = [row_of(receipt_of(adapted(dict(zip(names, row, strict=True))))) for row in cursor]
                if rows:
                    self._insert(rows)
                    self._execute(sql.FORGET_WIDE, (rows[-1][0],))
                else:
                    self._execute(sql.DROP_WIDE)
            moved += 1
            if moved % _CHECKPOINT == 0:
                self._execute(sql.CHECKPOINT).fetchone()

    # -- calls --

    def add(self, rows: Sequence[Row]) -> int:
        """Add the calls that are not there yet, in one transaction; give how many. Raises `StoreBusy` as well."""
        with self._told(), self._transaction():
            return self._insert(rows)

    def _insert(self, rows: Sequence[Row]) -> int:
        """Add calls, and take back what was summed of their time: another process may have done that already."""
        try:
            pack, rest = self._interning.pack, len(rows) % sql.TOGETHER
            added = self._db.executemany(sql.ADD_CALL, [pack((row,)) for row in rows[:rest]]).rowcount if rest else 0
            for at in range(rest, len(rows), sql.TOGETHER):
                added += self._execute(*self._interning.together(rows[at : at + sql.TOGETHER])).rowcount
            for quarter in {row[1] // QUARTER_NS for row in rows} if added else ():
                self._execute(summing.UNROLL, (1, quarter))
                self._execute(summing.UNROLL, (DAY, quarter // DAY * DAY))
        except BaseException:
            self._interning.forget()
            raise
        return added

    def call(self, key: bytes) -> Receipt | None:
        """Find a receipt by the 16 bytes of its id."""
        with self._told():
            row = self._execute(sql.CALL, (key,)).fetchone()
        return receipt_of(row) if row else None

    def calls(self, which: Filter, limit: int) -> list[Receipt]:
        """Give receipts, newest first."""
        wanted = {name: getattr(which, name) for name in Filter.__struct_fields__ if name != "span"}
        with self._told():
            rows = self._rows(sql.CALLS, {**bounds(which.span), **wanted, "limit": limit})
        return [receipt_of(row) for row in rows]

    def sums(self, span: Span, by: Sequence[str]) -> list[Sums]:
        """Sum calls up by any of feature, model, team, user, key, target, prompt, and time or day.

        `time` is quarters of an hour, `day` days in UTC; a group tells the quarter with which its own begins.
        """
        step = 1 if "time" in by else DAY if "day" in by else 0
        names = tuple(name for name in by if name in NAMES)
        lengths = (1,) if step == 1 else (DAY, 1)
        with self._snapshot():
            parts = pieces(span, names, self._marks, lengths)
            rows: Iterable[Row] = [row for part in parts for row in self._sum(part, names, step)]
        if len(parts) > 1:
            rows = _together(rows)
        return [_sums(row) for row in rows]

    def _marks(self, quarters: int, first: int, beyond: int) -> list[Row]:
        return self._rows(summing.MARKS, (quarters, first, beyond))

    def _sum(self, part: Piece, names: Sequence[str], step: int) -> list[Row]:
        statement, values = part_of(part, names, timed=step > 0)
        return [row for row in self._rows(statement, {**values, "step": step}) if row[len(NAMES) + 1]]

    # -- keys --

    def key_rows(self) -> list[Row]:
        """Give every key: id, hash, team, feature, label, admin, three moments and its limits, as `sql.KEYS` has them."""
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

    def limit_key(self, key_id: str, limits: Limits) -> bool:
        """Give a key other limits; give whether there is one of that id. Raises `StoreBusy` as well."""
        with self._told(), self._transaction():
            found = self._execute(sql.LIMIT_KEY, {**structs.asdict(limits), "id": key_id}).rowcount == 1
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

    # -- what counts are corrected by --

    def factors(self) -> list[Row]:
        """Give what was learnt per model: model, seen, mean, variance."""
        with self._told():
            return self._execute(sql.FACTORS).fetchall()

    def keep_factors(self, rows: Sequence[Row]) -> None:
        """Keep what was learnt, in the form of `factors`, in place of what was known. Raises `StoreBusy` as well."""
        with self._told(), self._transaction():
            self._db.executemany(sql.KEEP_FACTOR, rows)

"""Keeps the replies to requests with an idempotency key, in the store, for every process of this machine.

Whoever makes a call claims its key first; the claim lives as long as its owner renews it, so that of several processes
one makes the call, and the claim of one that died is taken over after `LEASE_S`. A reply takes the place of its claim, and
goes when its time is over; what goes is overwritten. Keys and requests stand here as hashes, replies as they were sent.

Every method may wait for the disk, or for another process that writes: all of them belong into one thread, which also
opens the store, at the first of them. Nothing here waits for a reply, nor decides which one is kept; `server/idempotency.py`
does.
"""

import secrets
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct, msgpack

from penstock.ledger.store import FILE, Claim, Store, checkpoint

LEASE_S: Final = 10
"""How long the claim of a process that died stands."""
RENEW_S: Final = 2.0
"""How often an owner has to renew its claims."""
BODY_BYTES: Final = 1 << 20
"""A longer reply is not kept, only that there was one."""

_NS: Final = 1_000_000_000
_SWEEP: Final = (
    4  # replies that are over, deleted with each claim: more than one, so that they end before the claims do
)
_CHECKPOINT_BYTES: Final = 16 << 20
_FASTEST: Final = 1

Headers = tuple[tuple[bytes, bytes], ...]


class KeptReply(Struct, frozen=True):
    """A reply as it was sent; `body` is None where it was too long to be kept."""

    status: int
    headers: Headers
    body: bytes | None


class Found(Struct, frozen=True):
    """What became of a wish to make a call.

    mine    it is ours to make, and has to be kept or released
    taken   somebody makes it now
    other   the key belongs to another request
    kept    it was made: `reply`
    """

    state: Literal["mine", "taken", "other", "kept"]
    reply: KeptReply | None = None


MINE: Final = Found("mine")
TAKEN: Final = Found("taken")
OTHER: Final = Found("other")


class Replies:
    """Claims and replies of one process. `wall_ns` gives nanoseconds since the epoch. See the module for its thread."""

    def __init__(self, home: Path, wall_ns: Callable[[], int]) -> None:
        self.owner = secrets.token_hex(8)
        self._path = home / FILE
        self._wall_ns = wall_ns
        self._store: Store | None = None
        self._written = 0

    def claim(self, key: bytes, request: bytes) -> Found:
        """Claim the call of this key. Raises `StoreBusy`, and `Internal` where the ledger cannot be used."""
        now_ns = self._wall_ns()
        row = self._open().claim(self._claim(key, request, LEASE_S * _NS), now_ns, _SWEEP)
        if row is None:
            return MINE
        theirs, status, headers, body = row
        if theirs != request:
            return OTHER
        if status is None:
            return TAKEN
        text = None if body is None else zlib.decompress(body)
        return Found("kept", KeptReply(status, msgpack.decode(headers, type=Headers), text))

    def renew(self) -> None:
        """Let this process's claims stand for another `LEASE_S`. Raises as `claim`."""
        self._open().renew_claims(self.owner, self._wall_ns() + LEASE_S * _NS)

    def keep(self, key: bytes, reply: KeptReply, keep_s: float) -> bool:
        """Put a reply in the place of our claim; False where it is ours no more. Raises as `claim`."""
        body = None if reply.body is None else zlib.compress(reply.body, _FASTEST)
        headers = msgpack.encode(reply.headers)
        is_kept = self._open().keep_reply(self._claim(key, b"", int(keep_s * _NS)), reply.status, headers, body)
        self._written += len(headers) + len(body or b"")
        if self._written > _CHECKPOINT_BYTES:  # or the write-ahead log grows as large as all of them
            self._written = 0
            checkpoint(self._path)
        return is_kept

    def release(self, key: bytes) -> None:
        """Give our claim up: there is nothing to keep, and who asks again has a call of its own. Raises as `claim`."""
        self._open().release_claim(self._claim(key, b"", 0))

    def close(self) -> None:
        """Give up what claims are left, and let go of the store. Raises as `claim`, and lets go all the same."""
        store, self._store = self._store, None
        if store is not None:
            try:
                store.release_claims(self.owner)
            finally:
                store.close()

    def _claim(self, key: bytes, request: bytes, for_ns: int) -> Claim:
        return Claim(key, request, self.owner, self._wall_ns() + for_ns)

    def _open(self) -> Store:
        if self._store is None:
            self._store = Store.open(self._path)
            self._store.shred()
        return self._store

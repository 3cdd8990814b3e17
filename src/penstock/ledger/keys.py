"""Callers' keys and pseudonyms of users.

A key is `ps-` and 32 random bytes. It is shown once; what is stored is its keyed hash (BLAKE2b, the key of which is the
pepper, a file beside the database), so neither the database nor a copy of it opens anything. A key is found by looking
its hash up, never by comparing secrets, so the time that takes tells nothing about any other key.

Never reads a clock, an environment or a request. A `Keyring` belongs to the thread of its store.
"""

import os
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from penstock.call import Limits, Who
from penstock.document import Wrong
from penstock.errors import Internal, InvalidRequest, NotFound
from penstock.forms import MAX_USD, nano_usd
from penstock.ledger.periods import NS_PER_S, iso
from penstock.ledger.store import Store
from penstock.target import usd

PREFIX = "ps-"
NONE = "none"
"""What takes a limit away."""
PEPPER_FILE = "pepper"

_PEPPER_BYTES = 32
_KEY_BYTES = 32
_KEY_CHARS = len(PREFIX) + 43
_HINT = "See `penstock keys list`."
UNLIMITED = Limits()


class Grant(Struct, frozen=True):
    """What a key is for: who pays, until when it is good, how much it may ask. Times are nanoseconds since the epoch."""

    team: str | None = None
    feature: str | None = None
    label: str = ""
    admin: bool = False
    expires_ns: int | None = None
    limits: Limits = UNLIMITED


class Key(Struct, frozen=True):
    """A key without its secret. `limits` is None where it has none of its own."""

    id: str
    team: str | None
    feature: str | None
    label: str
    admin: bool
    created_ns: int
    expires_ns: int | None = None
    revoked_ns: int | None = None
    limits: Limits | None = None

    def works(self, now_ns: int) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_ns is None and (self.expires_ns is None or now_ns < self.expires_ns)


class CreatedKey(Struct, frozen=True):
    """What `penstock keys create --json` prints, and the only time that the secret `key` is seen."""

    id: str
    key: str
    team: str | None
    feature: str | None
    expires_at: str | None

    def __repr__(self) -> str:
        return f"CreatedKey(id={self.id!r}, key='***')"


class ListedKey(Struct, frozen=True):
    """What `penstock keys list --json` prints per key; money as exact decimal strings."""

    id: str
    team: str | None
    feature: str | None
    label: str
    admin: bool
    rpm: int | None
    tpm: int | None
    concurrency: int | None
    budget_day_usd: str | None
    budget_month_usd: str | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None


def listed(key: Key) -> ListedKey:
    """Write a key for people and scripts."""
    limits = key.limits or UNLIMITED
    return ListedKey(
        key.id,
        key.team,
        key.feature,
        key.label,
        key.admin,
        limits.rpm,
        limits.tpm,
        limits.concurrency,
        _usd(limits.day_nano_usd),
        _usd(limits.month_nano_usd),
        iso(key.created_ns),
        _at(key.expires_ns),
        _at(key.revoked_ns),
    )


def _usd(nano_usd: int | None) -> str | None:
    return None if nano_usd is None else usd(nano_usd)


def _at(ns: int | None) -> str | None:
    return None if ns is None else iso(ns)


def read_usd(amount: str | Decimal, param: str) -> int:
    """Read an amount of dollars exactly: nano-dollars. Raises `InvalidRequest`."""
    try:
        return nano_usd(Decimal(amount), MAX_USD)
    except InvalidOperation:
        raise InvalidRequest(
            f"{param} must be an amount in US dollars.", hint="Such as 5 or 0.25.", param=param
        ) from None
    except Wrong as wrong:
        raise InvalidRequest(f"{param} {wrong.message}", hint=wrong.suggestion, param=param) from None


def read_pepper(home: Path) -> bytes:
    """Give this home's pepper; make it at first. Of several processes that make it at once all get the same."""
    path = home / PEPPER_FILE
    try:
        if not path.exists():
            _make_pepper(path)
        pepper = path.read_bytes()
    except OSError as error:
        raise Internal(f"The pepper {path} cannot be read: {error.strerror}.", hint="Let this user read it.") from None
    if len(pepper) != _PEPPER_BYTES:
        raise Internal(
            f"The pepper {path} is damaged: it has {len(pepper)} bytes and should have {_PEPPER_BYTES}.",
            hint="Restore it from a backup; without it every key has to be made anew.",
        )
    return pepper


def _make_pepper(path: Path) -> None:
    """Write it whole under another name, then give it its name, unless another process was quicker."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_bytes(_PEPPER_BYTES))
        os.fsync(fd)
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        os.close(fd)
        draft.unlink()


class Keyring:
    """Every key by its hash. `lasting` and `owner` are for the request path; the rest reads or writes the store.

    `lasting` has who calls with the keys that work until somebody changes one, by their hash, as they were asked for.
    """

    def __init__(self, store: Store, pepper: bytes) -> None:
        self._store = store
        self._key_hash = blake2b(key=pepper, digest_size=32, person=b"penstock-key")
        self._user_hash = blake2b(key=pepper, digest_size=8, person=b"penstock-user")
        self._keys: dict[bytes, Key] = {}
        self.lasting: dict[bytes | None, Who] = {}
        self._owners: dict[bytes, Who] = {}  # of those that end as well
        self._data_version = -1
        self._keys_version = -1
        self.refresh()

    @property
    def empty(self) -> bool:
        """Whether there has never been a key. One that was revoked still counts: the door does not open again."""
        return not self._keys

    def find(self, key: str, now_ns: int) -> Key | None:
        """Give the key that works now; None for one that is unknown, revoked or expired, or no key at all."""
        return self.found(self.digest(key), now_ns)

    def found(self, digest: bytes | None, now_ns: int) -> Key | None:
        """Give the key of this digest, if it works now."""
        found = None if digest is None else self._keys.get(digest)
        return found if found is not None and found.works(now_ns) else None

    def owner(self, digest: bytes | None, now_ns: int) -> Who | None:
        """Give who calls with the key of this digest, if it works now: the same value each time, until a key changes."""
        key = self.found(digest, now_ns)
        if key is None or digest is None:
            return None
        who = self._owners.get(digest)
        if who is None:
            who = self._owners[digest] = Who(key.id, key.team, key.feature, None, None, key.admin, key.limits)
            if key.expires_ns is None:
                self.lasting[digest] = who
        return who

    def digest(self, key: str | None) -> bytes | None:
        """Give by what a key is looked up; None for what is no key."""
        if key is None or len(key) != _KEY_CHARS or not key.startswith(PREFIX) or not key.isascii():
            return None
        return self._digest(key)

    def _digest(self, key: str) -> bytes:
        digest = self._key_hash.copy()
        digest.update(key.encode())
        return digest.digest()

    def user_hash(self, user: str, team: str | None) -> str:
        """Give the pseudonym of a user within a team: 16 hexadecimal characters. Nobody can turn it back."""
        digest = self._user_hash.copy()
        place = team or ""
        digest.update(f"{len(place)}:{place}:{user}".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def refresh(self) -> bool:
        """Take over what other processes changed since the last time; give whether there was anything.

        Costs three microseconds where nothing was written and a few more where only calls were.
        """
        data = self._store.data_version()
        if data == self._data_version:
            return False
        version = self._store.keys_version()
        self._data_version = data
        if version == self._keys_version:
            return False
        self._read(version)
        return True

    def _read(self, version: int) -> None:
        self._keys = {row[1]: _key(row) for row in self._store.key_rows()}
        self.lasting.clear()
        self._owners.clear()
        self._keys_version = version

    # -- managing --

    def list(self) -> list[Key]:
        """Give every key, oldest first, those that no longer work included."""
        return [_key(row) for row in self._store.key_rows()]

    def create(self, grant: Grant, now_ns: int) -> CreatedKey:
        """Make a key. Its secret is in the answer and nowhere else. Raises `StoreBusy`."""
        return self._add(grant, now_ns)

    def revoke(self, key_id: str, now_ns: int) -> None:
        """End a key at once, for good. Raises `NotFound` and `StoreBusy`."""
        if not self._store.revoke_key(key_id, now_ns):
            raise NotFound(f"There is no key {key_id!r}.", hint=_HINT)
        self._read(self._store.keys_version())

    def limit(self, key_id: str, change: Callable[[Limits], Limits]) -> Key:
        """Change how much a key may ask and spend; its secret stays. Gives it as it is then.

        Raises `NotFound` where there is no such key or it is revoked, and `StoreBusy`.
        """
        key = self._of(key_id)
        if key is None or key.revoked_ns is not None:
            raise NotFound(f"There is no key {key_id!r} that is not revoked.", hint=_HINT)
        self._store.limit_key(key_id, change(key.limits or UNLIMITED))
        self._read(self._store.keys_version())
        return self._of(key_id) or key

    def limited(self, now_ns: int) -> Iterator[Who]:
        """Give who calls with each key that works and has a budget."""
        for key in self._keys.values():
            limits = key.limits
            if limits is not None and not (limits.day_nano_usd is limits.month_nano_usd is None) and key.works(now_ns):
                yield Who(key.id, key.team, key.feature, limits=limits)

    def rotate(self, key_id: str, now_ns: int, grace_s: int) -> CreatedKey:
        """Make a key with the same rights in place of one, which works for `grace_s` more seconds.

        Raises `NotFound` where there is no such key or it no longer works, and `StoreBusy`.
        """
        old = self._of(key_id)
        if old is None or not old.works(now_ns):
            what = "There is no key" if old is None else "No longer works: key"
            raise NotFound(f"{what} {key_id!r}.", hint=_HINT)
        grant = Grant(old.team, old.feature, old.label, old.admin, old.expires_ns, old.limits or UNLIMITED)
        return self._add(grant, now_ns, instead_of=key_id, until_ns=now_ns + grace_s * NS_PER_S)

    def _of(self, key_id: str) -> Key | None:
        return next((key for key in self.list() if key.id == key_id), None)

    def _add(
        self, grant: Grant, now_ns: int, *, instead_of: str | None = None, until_ns: int | None = None
    ) -> CreatedKey:
        key_id = f"key_{secrets.token_hex(8)}"
        secret = PREFIX + urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).rstrip(b"=").decode()
        row = (
            *(key_id, self._digest(secret), grant.team, grant.feature, grant.label, grant.admin),
            *(now_ns, grant.expires_ns, None, *structs.astuple(grant.limits)),
        )
        self._store.add_key(row, instead_of=instead_of, until_ns=until_ns)
        self._read(self._store.keys_version())
        return CreatedKey(key_id, secret, grant.team, grant.feature, _at(grant.expires_ns))


def _key(row: tuple[Any, ...]) -> Key:
    key_id, _, team, feature, label, admin, created_ns, expires_ns, revoked_ns, *limited = row
    limits = Limits(*limited) if any(limit is not None for limit in limited) else None
    return Key(key_id, team, feature, label, bool(admin), created_ns, expires_ns, revoked_ns, limits)

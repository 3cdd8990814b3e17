"""Says whose key a request carries. The keys themselves are the ledger's; nothing here is decided about a call.

While there is no key at all, everybody is an administrator, and the server then listens on loopback only.
Place in the line: the first step of `gateway.py`, before a body is read.
"""

from collections.abc import Callable, Mapping
from math import inf

from penstock.call import Caller, Who
from penstock.errors import Unauthenticated
from penstock.ledger.keys import Keyring

KEYS_S = 0.25
"""How old may be what this process knows of keys that another one made or revoked."""

OPEN_DOOR = Who(admin=True)
"""Who calls while there is no key at all."""


class Identity:
    """The keys of one ledger. `clock` gives the loop's seconds, `wall_ns` nanoseconds since the epoch."""

    def __init__(self, keys: Keyring, clock: Callable[[], float], wall_ns: Callable[[], int]) -> None:
        self.keys = keys
        self._seen = -inf
        self._clock = clock
        self._wall_ns = wall_ns

    def owners(self) -> Mapping[bytes | None, Who]:
        """Give the owners of keys by their digests, as of now; `of` knows those that are not among them."""
        clock, keys = self._clock, self.keys
        now = clock()
        if now - self._seen > KEYS_S:
            self._seen = now
            keys.refresh()
        return keys.lasting

    def of(self, caller: Caller, digest: bytes | None = None) -> Who:
        """Give the owner of a key, the `digest` of which may be known already. Raises Unauthenticated.

        It is the same value each time, until a key changes.
        """
        who = self.owners().get(digest)
        return self._look_up(caller, digest) if who is None else who

    def _look_up(self, caller: Caller, digest: bytes | None) -> Who:
        keys = self.keys
        who = keys.owner(keys.digest(caller.key) if digest is None else digest, self._wall_ns())
        if who is not None:
            return who
        if keys.empty:
            return OPEN_DOOR
        if caller.key is None:
            raise Unauthenticated(
                "This gateway asks for a key and the request has none.",
                hint='Send it as "authorization: Bearer ps-...".',
            )
        raise Unauthenticated("The key is unknown, revoked or expired.", hint="Make one: penstock keys create.")

    def hashed(self, who: Who) -> Who:
        """Put a keyed hash in place of the plain name of a user."""
        if who.user is None:
            return who
        user = self.keys.user_hash(who.user, who.team)
        return Who(who.key_id, who.team, who.feature, user, who.session, limits=who.limits)

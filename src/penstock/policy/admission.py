"""Decides who is calling and whether there is room for the call now.

Pure: time is passed in, keys were looked up before. It holds the counters of this process (requests, tokens and calls at
once per team); it never waits and never touches money.

A rate is a token bucket that starts full: `rpm` requests at once, refilled evenly over a minute. Tokens are taken by an
estimate when a call comes in and corrected by its real usage when it leaves, so the bucket may go into debt.
"""

from math import ceil

from msgspec import structs

from penstock.call import Call, Caller, Ticket, Who
from penstock.errors import InvalidRequest, PermissionDenied, RateLimited
from penstock.settings import TeamSettings

BYTES_PER_TOKEN = 4
"""A usual share of text per token: good enough to spread load, never used for money."""

NAME_CHARACTERS = 128


class _Bucket:
    """A token bucket; `level` may be negative after a correction."""

    __slots__ = ("at", "capacity", "level", "per_s")

    def __init__(self, per_minute: int, now: float) -> None:
        self.capacity = float(per_minute)
        self.per_s = per_minute / 60.0
        self.level = self.capacity
        self.at = now

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` could be taken; 0 means now. More than the bucket holds needs a full bucket."""
        self.level = min(self.capacity, self.level + (now - self.at) * self.per_s)
        self.at = now
        missing = min(amount, self.capacity) - self.level
        return 0.0 if missing <= 0 else missing / self.per_s


class _Room:
    """The counters of one team."""

    __slots__ = ("concurrency", "inside", "requests", "tokens")

    def __init__(self, team: TeamSettings, now: float) -> None:
        self.requests = _Bucket(team.rpm, now) if team.rpm else None
        self.tokens = _Bucket(team.tpm, now) if team.tpm else None
        self.concurrency = team.concurrency
        self.inside = 0


class Admission:
    """Room per team."""

    def __init__(self, teams: tuple[TeamSettings, ...], now: float) -> None:
        self._rooms = {team.name: _Room(team, now) for team in teams if team.rpm or team.tpm or team.concurrency}

    def enter(self, who: Who, call: Call, now: float) -> Ticket:
        """Take a place, or raise RateLimited with the time after which it is worth coming again."""
        room = self._rooms.get(who.team) if who.team is not None else None
        if room is None:
            return Ticket(None, 0)
        if room.concurrency is not None and room.inside >= room.concurrency:
            raise RateLimited(
                f"Team {who.team!r} has {room.inside} calls in flight, which is all it may have.",
                hint="Wait for one to end.",
                retry_after_s=1.0,
            )
        tokens = 0
        if room.requests is not None and (wait_s := room.requests.wait_s(1.0, now)):
            raise _limited(who.team, "requests", wait_s)
        if room.tokens is not None:
            tokens = (len(call.raw) or call.input_bound or 0) // BYTES_PER_TOKEN + (call.sampling.max_tokens or 0)
            tokens = min(tokens, int(room.tokens.capacity))  # what is asked for beyond a minute's worth may not come
            if wait_s := room.tokens.wait_s(tokens, now):
                raise _limited(who.team, "tokens", wait_s)
            room.tokens.level -= tokens
        if room.requests is not None:
            room.requests.level -= 1.0
        room.inside += 1
        return Ticket(who.team, tokens)

    def leave(self, ticket: Ticket, tokens: int) -> None:
        """Give the place back; `tokens` is what the call really used."""
        if ticket.team is None:
            return
        room = self._rooms[ticket.team]
        room.inside -= 1
        if room.tokens is not None:
            room.tokens.level += ticket.tokens - tokens


def _limited(team: str | None, what: str, wait_s: float) -> RateLimited:
    return RateLimited(
        f"Team {team!r} has used up its {what} per minute.",
        hint=f"Come again in {max(1, ceil(wait_s))} s.",
        retry_after_s=wait_s,
    )


def attribute(who: Who, caller: Caller, call: Call) -> Who:
    """Add to a key's identity what the request says about itself, as far as the key allows.

    A key that is bound to a feature decides the feature; another one named by the request is refused, since somebody
    else would pay. `user` is taken as it is; the gateway hashes it before it is kept.
    """
    feature = caller.feature or call.feature
    if who.feature is not None:
        if feature is not None and feature != who.feature:
            raise PermissionDenied(
                f"This key is bound to the feature {who.feature!r} and cannot call for {feature!r}.",
                hint="Leave the feature out or use another key.",
            )
        feature = who.feature
    session = caller.session or call.session
    user = caller.user or call.user
    if feature is None and session is None and user is None:
        return who
    _check("feature", feature)
    _check("session", session)
    return structs.replace(who, feature=feature, session=session, user=user)


def _check(name: str, value: str | None) -> None:
    if value is not None and (len(value) > NAME_CHARACTERS or not value.isprintable()):
        raise InvalidRequest(
            f"The {name} is longer than {NAME_CHARACTERS} characters or has characters that cannot be printed.",
            param=name,
        )

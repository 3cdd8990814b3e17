"""Decides whether there is room for a call now, who has to wait for it, and for whom waiting is no use.

Keys, teams, features and models may have limits: requests and tokens per minute, calls at once. A call takes a place in all
that apply to it, or in none. It has to wait where one of them is full, or where somebody who came before waits for it.
Tokens are taken by an estimate when a call comes in and corrected by its real usage when it leaves.

    admission = Admission(config, now, before=None)         `before`: what it takes the place of at a reload; its counters stay
    ticket = admission.try_enter(who, model, call, now)     None: it has to wait; raises RateLimited where none may wait
    claim = admission.claim(who, model, call, latest)       what it waits for, and until when
    admission.expect(claim, queue, now)                     seconds until its turn; raises RateLimited where that is too late
    admission.close(claim, now)                             it waits: what it waits for is closed to all who come later
    admission.begin(); admission.give(claim, now)           once per look at the queue; then a Ticket or None, in fair order
    wanted = admission.leave(ticket, tokens, now)           gives the places back; whether somebody waits for one of them
    admission.undo(ticket, now)                             as if the call had never come

`waiting.py` does the waiting, and most callers want its `Lobby`. Pure: time is passed in, the loop's seconds; keys were looked
up before. It never waits and never touches money. The counters are those of this process.
"""

from collections.abc import Iterable
from math import inf
from typing import Any

from penstock.call import Call, Caller, Limits, Ticket, Who
from penstock.errors import InvalidRequest, PermissionDenied, RateLimited
from penstock.policy.queue import Claim, FairQueue
from penstock.policy.rooms import Kind, Room
from penstock.settings import Config, FeatureSettings, ModelSettings, Priority, TeamSettings

BYTES_PER_TOKEN = 4
"""A usual share of text per token: good enough to spread load, never used for money."""
MEDIA_TOKENS = 2000
"""For the input of a call with pictures, sound or files, whose bytes say nothing of its tokens, at most."""

NAME_CHARACTERS = 128
KEY_ROOMS = 1024
"""Keys with limits that may be remembered before those that are idle are forgotten."""
FEATURES = 64
"""Features for which one key calls of which it is remembered who that is."""
KNOWN = 4096
"""Callers and what they ask for of which the rooms are remembered."""

Rooms = dict[str | None, Room]
"""By name; nothing is ever called None, so that whoever has no team finds no room."""

Found = tuple[Limits | None, tuple[Room, ...], Room | None]
"""The limits of a key, the rooms that its calls have to enter, and the only one of them, if there is only one."""

UNLIMITED = Limits()
FREE = Ticket()
"""For a call that no limit applies to."""


class Admission:
    """A room for each limit of a configuration; for those of keys as they come."""

    def __init__(self, config: Config, now: float, before: "Admission | None" = None) -> None:
        """Begin with empty rooms, or go on with those of `before`, which is not to be used any more."""
        self.may_wait = config.server.queue > 0 and config.server.queue_s > 0
        self.teams: Rooms = _rooms("team", config.teams, {} if before is None else before.teams)
        self.features: Rooms = _rooms("feature", config.features, {} if before is None else before.features)
        self.models: Rooms = _rooms("model", config.models, {} if before is None else before.models)
        self.keys: dict[str, Room] = {} if before is None else before.keys
        self._most_keys = KEY_ROOMS
        self._known: dict[tuple[str | None, ...], Found] = {}
        self._sharers = config.server.sharers
        self._team_priority: dict[str | None, Priority] = {one.name: one.priority for one in config.teams}
        self._feature_priority: dict[str | None, Priority] = {
            one.name: one.priority for one in config.features if one.priority is not None
        }
        self.contested: list[Room] = [] if before is None else before.contested
        self.next_at = inf if before is None else now
        """When a rate is expected to let somebody in who waits; inf if only a call that leaves can."""

    def try_enter(self, who: Who, model: str, call: Call, now: float) -> Ticket | None:
        """Take a place wherever a limit applies; None where it has to wait. Raises RateLimited where nobody may wait."""
        known = self._known.get((who.key_id, who.team, who.feature, model))
        if known is None or known[0] is not who.limits:
            known = self._found(who, model, now)
        _, rooms, alone = known
        if alone is not None:
            tokens, bound, sampling = 0, call.input_bound, call.sampling
            if alone.most_tokens:  # as `estimate` has it
                asked = (sampling.max_tokens or 0) * (sampling.n or 1)
                tokens = estimate(call) if bound is None else bound // BYTES_PER_TOKEN + asked or 1
            ticket = alone.try_enter(tokens, now)
            if ticket is not None:
                return ticket
        if not rooms:
            return FREE
        tokens = estimate(call)
        for room in rooms:
            if not room.is_let(tokens if room.most_tokens else 0, now) and (
                room.contested or not room.fits(tokens, now)
            ):
                if not self.may_wait:
                    raise self._refusal(rooms, tokens, None, now)
                return None
        return _enter(rooms, tokens, now)

    def leave(self, ticket: Ticket, tokens: int, now: float) -> bool:
        """Give the places back; `tokens` is what the call really used. Give whether somebody waits for one of them."""
        room: Room | None = ticket.room
        return room is not None and room.leave(ticket, tokens, now)

    def undo(self, ticket: Ticket, now: float) -> None:
        """Take back that a call entered: it was gone before it began."""
        place: Ticket | None = ticket
        while place is not None and place.room is not None:
            place.room.undo(place, now)
            place = place.also

    # -- those that wait --

    def claim(self, who: Who, model: str, call: Call, now: float, latest: float) -> Claim[Room]:
        """Say what a call waits for, who it is in the queue, and until when it waits."""
        return self._claim(who, model, estimate(call), now, latest)

    def renew(self, claim: Claim[Room], now: float) -> Claim[Room]:
        """Say what a call of the admission before this one waits for by now."""
        who, model = claim.about
        return self._claim(who, model, claim.size, now, claim.latest)

    def expect(self, claim: Claim[Room], queue: FairQueue[Room, Any], now: float) -> float:
        """Foretell in how many seconds a call's turn comes. Raises RateLimited where that is too late."""
        at = max([self._expected_at(room, claim, queue, now) for room in claim.needs], default=now)
        if at >= claim.latest:
            raise self.refusal(claim, queue, now)
        return at - now

    def refusal(self, claim: Claim[Room], queue: FairQueue[Room, Any], now: float) -> RateLimited:
        """Say why a call that wanted to wait is refused, and when to come again."""
        return self._refusal(claim.needs, claim.size, (claim, queue), now)

    def begin(self) -> None:
        """Begin to look who can enter now; everybody in the queue is to be asked for once, in fair order."""
        for room in self.contested:
            room.contested = False
        self.contested.clear()
        self.next_at = inf

    def give(self, claim: Claim[Room], now: float) -> Ticket | None:
        """Let a call in that has waited; else close the room that it waits for to those behind it, until `begin`."""
        if self.close(claim, now):
            return None
        return _enter(claim.needs, claim.size, now)

    def close(self, claim: Claim[Room], now: float) -> bool:
        """Close the room that a call has to wait for to those behind it, until `begin`; give whether there is one."""
        tokens = claim.size
        for room in claim.needs:
            if room.contested:
                return True
            if not room.fits(tokens, now):
                room.contest()
                self.contested.append(room)
                at = room.rate_at(tokens, now)
                if at is not None and at < self.next_at:
                    self.next_at = at
                return True
        return False

    def _claim(self, who: Who, model: str, tokens: int, now: float, latest: float) -> Claim[Room]:
        flow = (who.key_id if who.team is None else who.team, who.key_id)
        return Claim(self._rooms_of(who, model, now), flow, self.priority(who), latest, tokens, (who, model))

    def priority(self, who: Who) -> Priority:
        """Say who goes first where calls have to wait: as the feature has it, else as the team has."""
        return self._feature_priority.get(who.feature) or self._team_priority.get(who.team, "normal")

    def _rooms_of(self, who: Who, model: str, now: float) -> tuple[Room, ...]:
        """Give the rooms that a call has to enter."""
        return self._found(who, model, now)[1]

    def _found(self, who: Who, model: str, now: float) -> Found:
        """Find the rooms that a call has to enter; they are remembered, until a key changes or is forgotten."""
        limits, name = who.limits, (who.key_id, who.team, who.feature, model)
        known = self._known.get(name)
        if known is not None and known[0] is limits:
            return known
        key = None if limits is None or not limits.rates else self._key(who.key_id or "", limits, now)
        found = (key, self.teams.get(who.team), self.features.get(who.feature), self.models.get(model))
        rooms = tuple([room for room in found if room is not None])
        if len(self._known) >= KNOWN:  # a client may ask for any model
            self._known.clear()
        self._known[name] = limits, rooms, rooms[0] if len(rooms) == 1 else None
        return self._known[name]

    def _key(self, key_id: str, limits: Limits, now: float) -> Room:
        if self._sharers > 1:
            limits = limits.over(self._sharers)
        room = self.keys.get(key_id)
        if room is None:
            if len(self.keys) >= self._most_keys and not self.contested:  # whoever waits may wait for one of them
                for one in self.keys.values():
                    one.pass_on(now)
                idle = [name for name, one in self.keys.items() if one.idle]
                for name in idle:
                    del self.keys[name]
                self._known.clear()
                self._most_keys = max(KEY_ROOMS, 2 * len(self.keys))
            room = self.keys[key_id] = Room("key", key_id, limits)
        elif room.limits != limits:
            room.limit(limits)
        return room

    def _expected_at(self, room: Room, claim: Claim[Room], queue: FairQueue[Room, Any], now: float) -> float:
        """Say when a room can be expected to have a place: at its turn, where others wait for it."""
        ahead, tokens = queue.ahead(room, claim) if room.contested else (0, 0)
        return room.expected_at(ahead, tokens, claim.size, now)

    def _refusal(
        self,
        rooms: tuple[Room, ...],
        tokens: int,
        waiting: tuple[Claim[Room], FairQueue[Room, Any]] | None,
        now: float,
    ) -> RateLimited:
        """Name the room that keeps a call out for longest."""
        if waiting is None:
            times = [room.expected_at(0, 0, tokens, now) for room in rooms]
        else:
            times = [self._expected_at(room, *waiting, now) for room in rooms]
        full = [not room.fits(tokens, now) for room in rooms]
        at, _, place = max(zip(times, full, range(len(rooms)), strict=True))
        return rooms[place].refusal(tokens, at - now, now)


def _enter(rooms: tuple[Room, ...], tokens: int, now: float) -> Ticket:
    """Take a place in each of the rooms, which have one."""
    ticket: Ticket | None = None
    for room in reversed(rooms):
        ticket = room.try_enter(tokens if room.most_tokens else 0, now, ticket)
        assert ticket is not None, "it was looked whether there is room"
    return ticket or FREE


def estimate(call: Call) -> int:
    """Guess how many tokens a call will take, in and out: at least 1, so that debts keep out everybody."""
    bound, sampling = call.input_bound, call.sampling
    into = min(len(call.raw) // BYTES_PER_TOKEN, MEDIA_TOKENS) if bound is None else bound // BYTES_PER_TOKEN
    return into + (sampling.max_tokens or 0) * (sampling.n or 1) or 1


def _rooms(kind: Kind, settings: Iterable[TeamSettings | FeatureSettings | ModelSettings], before: Rooms) -> Rooms:
    """Give a room to whatever has a limit; one that had a room keeps it."""
    rooms: Rooms = {}
    for one in settings:
        limits = Limits(one.rpm, one.tpm, one.concurrency)
        if limits == UNLIMITED:
            continue
        room = before.get(one.name)
        if room is None:
            room = Room(kind, one.name, limits)
        else:
            room.limit(limits)
        rooms[one.name] = room
    return rooms


def attribute(who: Who, caller: Caller, call: Call) -> Who:
    """Add to a key's identity what the request says about itself, as far as the key allows.

    A key that is bound to a feature decides the feature; another one named by the request is refused, since somebody
    else would pay. `user` is taken as it is; the gateway hashes it before it is kept.
    """
    feature, session, user = caller.feature or call.feature, caller.session or call.session, caller.user or call.user
    if not (session is user is None):
        return _attributed(who, feature, session, user)
    if feature is who.feature is None:
        return who
    known = who.features.get(feature)
    if known is None:
        known = _attributed(who, feature, None, None)
        if len(who.features) >= FEATURES:  # a client may name any
            who.features.clear()
        who.features[feature] = known
    return known


def _attributed(who: Who, feature: str | None, session: str | None, user: str | None) -> Who:
    """Add a feature, a session and a user to a key's identity, as far as the key allows."""
    if who.feature is not None:
        if feature is not None and feature != who.feature:
            raise PermissionDenied(
                f"This key is bound to the feature {who.feature!r} and cannot call for {feature!r}.",
                hint="Leave the feature out or use another key.",
            )
        feature = who.feature
    if feature is not None and (len(feature) > NAME_CHARACTERS or not feature.isprintable()):
        raise _unfit("feature")
    if session is not None and (len(session) > NAME_CHARACTERS or not session.isprintable()):
        raise _unfit("session")
    return Who(who.key_id, who.team, feature, user, session, who.admin, who.limits)


def _unfit(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"The {name} is longer than {NAME_CHARACTERS} characters or has characters that cannot be printed.",
        param=name,
    )

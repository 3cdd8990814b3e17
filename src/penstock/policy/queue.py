"""A queue for those that have to wait: bounded, fair, and never later than its entries' deadlines. It decides who is next.

Strategy. Three classes share by weight (16 : 4 : 1 of what is given while all three wait), so that a higher one goes first
and no lower one starves. Inside a class teams take turns, inside a team its keys, inside a key calls go in order of
arrival. Entries that need the same things stand in one lane: where the first of a lane cannot be served, those behind it
cannot either, and the next lane is asked, so that one who waits for a thing of his own holds up nobody else.

A full queue takes a new entry in only where its turn would come before that of another one, which is then dropped: the
newest of the longest flow.

    queue.push(item, claim)     -> its entry, and the one dropped for it or None; raises Full
    queue.serve(give)              give(entry) says whether it was served; asked in fair order until nobody else can be
    queue.expire(now)           -> entries whose time is over, which are never given out afterwards
    queue.remove(entry)            somebody hung up
    queue.ahead(need, claim)    -> how many would be served before, of those that need the same, and their size

Every step costs O(1), or O(log n) for the deadlines, per entry that is served, added, dropped or found stuck. Pure: time
is passed in, waiting is done elsewhere (`waiting.py`).
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any, Generic, TypeVar

from msgspec import Struct

from penstock.policy.crowd import RANKS, STRIDES, Crowd
from penstock.settings import Priority

N = TypeVar("N", bound=Hashable)
"""What is waited for: a room, a target."""
T = TypeVar("T")
"""What the queue keeps for whoever waits."""

Flow = tuple[Hashable, Hashable]
"""Who takes turns: (team, key)."""

SLACK = 64


class Full(Exception):
    """The queue holds as many as it may, and all of them are entitled to their places."""


class Claim(Struct, Generic[N], frozen=True):
    """What somebody waits for.

    needs     the things it takes: all of them or any, as `give` decides; equal needs share a lane
    flow      (team, key): who takes turns
    latest    the moment after which it is not given any more
    size      what it counts for, such as tokens
    about     what whoever gives wants to know of it
    """

    needs: tuple[N, ...]
    flow: Flow
    priority: Priority = "normal"
    latest: float = inf
    size: int = 1
    about: Any = None


class Entry(Generic[N, T]):
    """One that waits; `waits` turns false when it is served, dropped, removed or too late."""

    __slots__ = ("claim", "item", "lanes", "rank", "seq", "waits")

    claim: Claim[N]
    rank: int
    lanes: "_Lanes[N, T]"

    def __init__(self, item: T, seq: int) -> None:
        self.item = item
        self.seq = seq
        self.waits = False


Give = Callable[[Entry[N, T]], bool]


class _Lanes(Generic[N, T]):
    """What one key waits for: lanes by what they need, each in order of arrival."""

    __slots__ = ("lanes",)

    def __init__(self) -> None:
        self.lanes: dict[tuple[N, ...], OrderedDict[int, Entry[N, T]]] = {}

    @property
    def empty(self) -> bool:
        return not self.lanes

    def add(self, entry: Entry[N, T]) -> None:
        lane = self.lanes.get(entry.claim.needs)
        if lane is None:
            lane = self.lanes[entry.claim.needs] = OrderedDict()
        lane[entry.seq] = entry

    def remove(self, entry: Entry[N, T]) -> None:
        needs = entry.claim.needs
        lane = self.lanes[needs]
        del lane[entry.seq]
        if not lane:
            del self.lanes[needs]

    def newest(self) -> Entry[N, T]:
        return max((next(reversed(lane.values())) for lane in self.lanes.values()), key=lambda entry: entry.seq)

    def serve(self, give: Give[N, T], stuck: set[tuple[N, ...]]) -> Entry[N, T] | None:
        first = [next(iter(lane.values())) for needs, lane in self.lanes.items() if needs not in stuck]
        if len(first) > 1:
            first.sort(key=lambda entry: entry.seq)
        for entry in first:
            if give(entry):
                return entry
            stuck.add(entry.claim.needs)
        return None

    def restore(self) -> None:
        """Nothing was put aside here."""


class _Ring(Generic[N, T]):
    """Takes turns: who was served goes to the end, who cannot be served now keeps its place."""

    __slots__ = ("aside", "children", "order")

    def __init__(self) -> None:
        self.children: dict[Hashable, _Ring[N, T] | _Lanes[N, T]] = {}
        self.order: deque[Hashable] = deque()
        self.aside: list[Hashable] = []

    @property
    def empty(self) -> bool:
        return not self.children

    def add(self, name: Hashable, child: "_Ring[N, T] | _Lanes[N, T]") -> None:
        self.children[name] = child
        self.order.append(name)

    def serve(self, give: Give[N, T], stuck: set[tuple[N, ...]]) -> Entry[N, T] | None:
        order, children = self.order, self.children
        while order:
            child = children[order[0]]
            served = child.serve(give, stuck)
            if served is not None:
                order.rotate(-1)
                return served
            name = order.popleft()
            if child.empty:
                del children[name]
            else:
                self.aside.append(name)
        return None

    def restore(self) -> None:
        self.order.extendleft(reversed(self.aside))
        self.aside.clear()
        for child in self.children.values():
            child.restore()


class FairQueue(Generic[N, T]):
    """At most `bound` entries; `size` is how many there are."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._seq = 0
        self.size = 0
        self._all = Crowd()
        self._crowds: dict[N, Crowd] = {}
        self._rings: list[_Ring[N, T]] = [_Ring() for _ in RANKS]
        self._by_deadline: list[tuple[float, int, Entry[N, T]]] = []
        # Start-time fair queueing: a class that was served may start again a stride later, and none saves turns up.
        self._time = 0
        self._starts = [0] * len(RANKS)

    def __len__(self) -> int:
        return self.size

    def push(self, item: T, claim: Claim[N], beside: int = 0) -> tuple[Entry[N, T], Entry[N, T] | None]:
        """Add an entry; give it, and the one that had to go for it. `beside` places are taken elsewhere. Raises Full."""
        dropped = None
        if self.size + beside >= self.bound:
            dropped = self._least_entitled(claim)
            if dropped is None:
                raise Full
            self.remove(dropped)
        self._seq += 1
        entry: Entry[N, T] = Entry(item, self._seq)
        self._add(entry, claim)
        if claim.latest < inf:
            heappush(self._by_deadline, (claim.latest, entry.seq, entry))
        return entry, dropped

    def remove(self, entry: Entry[N, T]) -> bool:
        """Take an entry out; give whether it still waited."""
        if not entry.waits:
            return False
        entry.waits = False
        claim = entry.claim
        entry.lanes.remove(entry)
        self.size -= 1
        self._all.remove(entry.rank, claim.flow, 0)
        for need in claim.needs:
            crowd = self._crowds[need]
            crowd.remove(entry.rank, claim.flow, claim.size)
            if not crowd.total:
                del self._crowds[need]
        return True

    def serve(self, give: Give[N, T]) -> int:
        """Ask `give` in fair order until nobody else can be served; give how many were."""
        stuck: set[tuple[N, ...]] = set()
        ranks = [rank for rank, ring in enumerate(self._rings) if not ring.empty]
        served = 0
        try:
            while ranks:
                rank = min(ranks, key=self._start)
                entry = self._rings[rank].serve(give, stuck)
                if entry is None:
                    ranks.remove(rank)
                    continue
                self._time = self._start(rank)
                self._starts[rank] = self._time + STRIDES[rank]
                self.remove(entry)
                served += 1
        finally:
            for ring in self._rings:
                ring.restore()
        return served

    def expire(self, now: float) -> list[Entry[N, T]]:
        """Take out every entry whose time is over, and give them."""
        late = []
        while self.next_expiry() <= now:
            entry = heappop(self._by_deadline)[2]
            self.remove(entry)
            late.append(entry)
        return late

    def next_expiry(self) -> float:
        """Give the moment when the next entry is too late; inf if none ever is."""
        heap = self._by_deadline
        if len(heap) > 2 * self.size + SLACK:  # most of them have gone otherwise
            heap[:] = [one for one in heap if one[2].waits]
            heapify(heap)
        while heap and not heap[0][2].waits:
            heappop(heap)
        return heap[0][0] if heap else inf

    def entries(self) -> list[Entry[N, T]]:
        """Give all that wait, in order of arrival."""
        flows = [lanes for ring in self._rings for team in ring.children.values() for lanes in _lanes(team)]
        found = [entry for flow in flows for lane in flow.lanes.values() for entry in lane.values()]
        return sorted(found, key=lambda entry: entry.seq)

    def waiting_for(self, need: N) -> int:
        """Say how many wait for a thing."""
        crowd = self._crowds.get(need)
        return 0 if crowd is None else crowd.total

    def ahead(self, need: N, claim: Claim[N]) -> tuple[int, int]:
        """Foretell how many would be served before a new entry, of those that need the same, and their size together.

        Supposes that whoever waits keeps on coming, since that is what makes others wait.
        """
        crowd = self._crowds.get(need)
        if crowd is None:
            return 0, 0
        count = crowd.ahead_if_all_go_on(RANKS[claim.priority], claim.flow)
        return count, count * crowd.size // crowd.total

    def refile(self, claim_of: Callable[[Entry[N, T]], Claim[N]]) -> None:
        """Let all that wait go on waiting, for something else; how long they wait at most stays as it was."""
        entries = self.entries()
        for entry in entries:
            self.remove(entry)
        for entry in entries:
            self._add(entry, claim_of(entry))

    def _add(self, entry: Entry[N, T], claim: Claim[N]) -> None:
        entry.claim, entry.rank, entry.lanes, entry.waits = claim, RANKS[claim.priority], self._lanes_of(claim), True
        entry.lanes.add(entry)
        self.size += 1
        self._all.add(entry.rank, claim.flow, 0)
        for need in claim.needs:
            crowd = self._crowds.get(need)
            if crowd is None:
                crowd = self._crowds[need] = Crowd()
            crowd.add(entry.rank, claim.flow, claim.size)

    def _start(self, rank: int) -> int:
        return max(self._starts[rank], self._time)

    def _lanes_of(self, claim: Claim[N]) -> _Lanes[N, T]:
        team, key = claim.flow
        ring = self._rings[RANKS[claim.priority]]
        keys = ring.children.get(team)
        if not isinstance(keys, _Ring):
            keys = _Ring()
            ring.add(team, keys)
        lanes = keys.children.get(key)
        if not isinstance(lanes, _Lanes):
            lanes = _Lanes()
            keys.add(key, lanes)
        return lanes

    def _least_entitled(self, claim: Claim[N]) -> Entry[N, T] | None:
        found = self._all.last(RANKS[claim.priority], claim.flow)
        if found is None:
            return None
        rank, (team, key) = found
        keys = self._rings[rank].children[team]
        lanes = keys.children[key] if isinstance(keys, _Ring) else keys
        return lanes.newest() if isinstance(lanes, _Lanes) else None


def _lanes(child: "_Ring[N, T] | _Lanes[N, T]") -> "list[_Lanes[N, T]]":
    if isinstance(child, _Lanes):
        return [child]
    return [lanes for inner in child.children.values() for lanes in _lanes(inner)]

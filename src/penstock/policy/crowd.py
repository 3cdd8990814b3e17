"""Counts who waits for one thing, by class, team and key, so that a place in line can be foretold without walking it.

Pure. Place in the line: `queue.py` keeps one crowd for all that wait and one for each thing that is waited for.
"""

from collections.abc import Hashable
from typing import Final

from penstock.settings import Priority

RANKS: Final[dict[Priority, int]] = {"high": 0, "normal": 1, "low": 2}
STRIDES: Final = (1, 4, 16)
"""How far apart the turns of a class are: of 21 turns the high class has 16, the normal 4 and the low one 1."""

Flow = tuple[Hashable, Hashable]
"""(team, key)."""


class Crowd:
    """How many there are, and their `size` together."""

    __slots__ = ("_teams", "size", "total")

    def __init__(self) -> None:
        self.total = 0
        self.size = 0
        self._teams: tuple[dict[Hashable, dict[Hashable, int]], ...] = tuple({} for _ in STRIDES)

    def add(self, rank: int, flow: Flow, size: int) -> None:
        """Count one more."""
        self.total += 1
        self.size += size
        team, key = flow
        keys = self._teams[rank].setdefault(team, {})
        keys[key] = keys.get(key, 0) + 1

    def remove(self, rank: int, flow: Flow, size: int) -> None:
        """Count one less."""
        self.total -= 1
        self.size -= size
        team, key = flow
        keys = self._teams[rank][team]
        keys[key] -= 1
        if not keys[key]:
            del keys[key]
        if not keys:
            del self._teams[rank][team]

    def ahead(self, rank: int, flow: Flow) -> int:
        """Say how many are served before one more of this flow: its own, and a turn of each other for each of its own."""
        team, key = flow
        teams = self._teams[rank]
        keys = teams.get(team, {})
        turn = keys.get(key, 0) + 1
        turn += sum(min(count, turn) for name, count in keys.items() if name != key)
        turn += sum(min(_count(other), turn) for name, other in teams.items() if name != team)
        return turn - 1 + self._of_others(rank, turn)

    def ahead_if_all_go_on(self, rank: int, flow: Flow) -> int:
        """Say the same for the case that everybody of its class who waits keeps on coming, as under load they do."""
        team, key = flow
        teams = self._teams[rank]
        keys = teams.get(team, {})
        turn = (keys.get(key, 0) + 1) * (len(keys) + (key not in keys)) * (len(teams) + (team not in teams))
        return turn - 1 + self._of_others(rank, turn)

    def _of_others(self, rank: int, turn: int) -> int:
        """Say how many of the other classes are served before the `turn`-th of this one."""
        return sum(
            min(sum(map(_count, teams.values())), -(-turn * STRIDES[rank] // STRIDES[other]))
            for other, teams in enumerate(self._teams)
            if other != rank
        )

    def last(self, rank: int, flow: Flow) -> tuple[int, Flow] | None:
        """Name class and flow of those who would be served last, if that is later than one more of `flow`; else None."""
        latest, found = self.ahead(rank, flow), None
        for other, teams in enumerate(self._teams):
            if teams:
                team = max(teams, key=lambda name: _count(teams[name]))
                longest = team, max(teams[team], key=teams[team].__getitem__)
                ahead = self.ahead(other, longest)
                if ahead > latest:
                    latest, found = ahead, (other, longest)
        return found


def _count(keys: dict[Hashable, int]) -> int:
    return sum(keys.values())

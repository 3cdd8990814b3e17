"""Deadlines that nobody else keeps."""

import asyncio
from types import SimpleNamespace

import pytest

from penstock.deadlines import LOOK_S, Deadlines


def call(deadline):
    return SimpleHashable(deadline=deadline, overdue=False)


class SimpleHashable(SimpleNamespace):
    __hash__ = object.__hash__


async def test_a_call_whose_time_is_past_is_told_once_and_the_others_are_left_alone():
    now, told = [0.0], []
    watched = Deadlines(lambda: now[0], told.append)
    late, early, gone = call(1.0), call(100.0), call(1.0)
    for one in (late, early, gone):
        watched.watch(one)
    watched.forget(gone)
    watched.forget(call(0.0))
    now[0] = 1.0 + 2 * LOOK_S
    watched._look()
    watched._look()

    assert told == [late]
    assert late.overdue
    assert not early.overdue
    watched.close()


async def test_the_calls_are_looked_at_only_once_the_earliest_deadline_has_come():
    now, told, looks = [0.0], [], []

    class Counted(SimpleHashable):
        @property
        def deadline(self):
            looks.append(self)
            return self.at

    watched = Deadlines(lambda: now[0], told.append)
    first, second = Counted(at=1.0, overdue=False), Counted(at=2.0, overdue=False)
    watched.watch(second)
    watched.watch(first)
    looks.clear()
    for _ in range(5):
        watched._look()
    assert not looks
    now[0] = 1.0 + 2 * LOOK_S
    watched._look()
    assert told == [first]
    looks.clear()
    watched._look()
    assert not looks  # the next one is later, and the one that was told is not told again
    now[0] = 2.0 + 2 * LOOK_S
    watched._look()
    assert told == [first, second]
    third = call(0.5)
    watched.watch(third)  # earlier than all before it
    watched._look()
    assert told == [first, second, third]
    watched.close()


async def test_a_call_that_cannot_be_ended_does_not_leave_the_others_without_a_deadline():
    told = []

    def over(one):
        told.append(one)
        if len(told) == 1:
            raise ValueError("no")

    watched = Deadlines(lambda: 5.0, over)
    calls = [call(1.0), call(1.0), call(1.0)]
    for one in calls:
        watched.watch(one)
    with pytest.raises(ValueError, match="no"):
        watched._look()
    watched._look()
    assert sorted(map(id, told)) == sorted(map(id, calls))
    watched.close()


async def test_it_looks_only_while_there_are_calls():
    watched = Deadlines(lambda: 0.0, lambda _: None)
    watched.close()
    one = call(1.0)
    watched.watch(one)
    watched.forget(one)
    watched._look()

    assert watched._timer is None


async def test_it_looks_by_itself():
    told = asyncio.Event()
    watched = Deadlines(lambda: 10.0, lambda _: told.set())
    watched.watch(call(0.0))
    await asyncio.wait_for(told.wait(), 1)
    watched.close()

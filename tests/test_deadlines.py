"""Deadlines that nobody else keeps."""

import asyncio
from types import SimpleNamespace

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

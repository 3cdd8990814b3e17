"""When the loop stays awake between two calls, for how long, and that it sleeps otherwise; with a clock of the test's own."""

import pytest

from penstock.server import busy_poll
from penstock.server.busy_poll import BusyPoll

WITHIN_S = 0.0005


class Loop:
    """Callbacks that are due in the next turn."""

    def __init__(self):
        self.due = []

    def call_soon(self, callback):
        self.due.append(callback)

    def turn(self):
        due, self.due = self.due, []
        for callback in due:
            callback()


@pytest.fixture
def clock(monkeypatch):
    times = [10.0]
    monkeypatch.setattr(busy_poll, "monotonic", lambda: times[0])
    return times


def test_sleeps_after_a_call_that_came_alone(clock):
    loop = Loop()
    BusyPoll(loop).begun(clock[0], WITHIN_S)
    assert not loop.due


def test_sleeps_where_calls_are_as_far_apart_as_it_would_wait(clock):
    loop = Loop()
    poll = BusyPoll(loop)
    for call in range(5):
        poll.begun(clock[0] + call * WITHIN_S * 1.01, WITHIN_S)
    assert not loop.due


def test_stays_awake_after_two_close_calls_and_sleeps_again_when_nothing_follows(clock):
    loop = Loop()
    poll = BusyPoll(loop)
    poll.begun(10.0, WITHIN_S)
    poll.begun(10.0003, WITHIN_S)
    for clock[0] in (10.0004, 10.0006, 10.00079):
        loop.turn()
        assert len(loop.due) == 1, "it looks again"
    clock[0] = 10.0009
    loop.turn()
    assert not loop.due
    assert poll.looks == 4


def test_each_close_call_makes_it_stay_longer_but_never_look_twice_in_a_turn(clock):
    loop = Loop()
    poll = BusyPoll(loop)
    for call in range(20):
        clock[0] = 10.0 + call * 0.0003
        poll.begun(clock[0], WITHIN_S)
        loop.turn()
        assert len(loop.due) == (1 if call else 0)
    clock[0] += WITHIN_S
    loop.turn()
    assert not loop.due


def test_wakes_again_after_it_slept(clock):
    loop = Loop()
    poll = BusyPoll(loop)
    for start in (10.0, 20.0):
        poll.begun(start, WITHIN_S)
        poll.begun(start + 0.0001, WITHIN_S)
        assert len(loop.due) == 1
        clock[0] = start + 1
        loop.turn()
        assert not loop.due


def test_never_looks_where_it_may_not(clock):
    loop = Loop()
    poll = BusyPoll(loop)
    for _ in range(3):
        poll.begun(clock[0], 0.0)
    assert not loop.due
    assert poll.looks == 0

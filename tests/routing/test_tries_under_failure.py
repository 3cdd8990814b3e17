"""What callers and providers see while targets fail: thousands of calls on a simulated clock, against the real decisions.

Each test prints what it measured; `pytest -s` shows it.
"""

from itertools import pairwise
from random import Random

import pytest

from penstock.errors import UpstreamFailed, UpstreamOverloaded, UpstreamRateLimited, UpstreamRejected, UpstreamTimeout
from penstock.routing.attempts import Patience
from penstock.routing.health import HealthSettings
from routing.simulation import Reply, Simulation, target

ONE, TWO, THREE, FOUR = (target(name) for name in ("one", "two", "three", "four"))
CALLS = 5_000
PROBE_S = HealthSettings().probe_s

DOWN = Reply(end_s=0.05, error=UpstreamFailed("500"))
REFUSED = Reply(end_s=0.05, error=UpstreamRejected("400"))


def failing(share):
    return lambda world, _: DOWN if world.rng.random() < share else Reply()


def traffic(world, *, calls=CALLS, per_s=50.0, start=0.0, targets=None):
    """Have calls come in at random, so many a second on average; give when the last one does."""
    at = start
    for _ in range(calls):
        world.call(at, targets=targets)
        at += world.rng.expovariate(per_s)
    return at


# -- retries never multiply the load --


@pytest.mark.parametrize(("share", "most"), [(0.01, 1.02), (0.2, 1.10), (0.5, 1.10), (1.0, 1.10)])
@pytest.mark.parametrize("others", [(), (TWO,)], ids=["alone", "with a fallback"])
def test_a_failing_target_gets_hardly_more_tries_than_calls(share, most, others):
    world = Simulation((ONE, *others))
    world.replies[ONE.id] = failing(share)
    traffic(world)
    world.run()
    tries = sum(one.target == ONE.id for one in world.tried)
    answered = sum(how == "ok" for _, _, how in world.ended)
    print(
        f"p={share:g}, {1 + len(others)} target(s): {tries / CALLS:.3f} tries per call, {answered / CALLS:.1%} answered"
    )
    assert len(world.ended) == CALLS
    assert tries <= most * CALLS + (10 if share > 0.01 else 0)
    if others:
        assert answered == CALLS
    else:
        assert tries >= CALLS, "the only target is never taken away"


def test_all_calls_to_a_dead_pair_are_bounded_as_well():
    world = Simulation((ONE, TWO))
    world.replies = {ONE.id: failing(1.0), TWO.id: failing(1.0)}
    traffic(world)
    world.run()
    for one in (ONE, TWO):
        tries = sum(tried.target == one.id for tried in world.tried)
        assert CALLS <= tries <= 1.10 * CALLS + 10


# -- nobody is asked earlier than it said --


@pytest.mark.parametrize("asked", [0.5, 1.0, 3.0, 20.0, 59.0])
def test_a_busy_target_is_asked_by_nobody_before_its_time(asked):
    """One target that refuses everything for a second and says how long; calls that come in meanwhile wait as well."""
    world, told = Simulation((ONE,)), []

    def reply(world, _):
        if world.now >= 1.0:
            return Reply()
        told.append(world.now + 0.05)
        return Reply(end_s=0.05, error=UpstreamRateLimited("429", retry_after_s=asked))

    world.replies[ONE.id] = reply
    traffic(world, calls=200, per_s=20.0)
    world.run()
    early = [one for one in world.tried for at in told if at < one.at < at + asked]
    print(f"Retry-After {asked:g} s: {len(early)} early tries of {len(world.tried)}, {len(told)} refused")
    assert told
    assert not early
    assert all(how == "ok" for _, _, how in world.ended)


@pytest.mark.parametrize("asked", [86_400.0, 1e9, 130.0])
def test_a_wait_beyond_the_deadline_means_the_next_target_at_once(asked):
    world = Simulation((ONE, TWO))
    world.replies[ONE.id] = lambda *_: Reply(end_s=0.05, error=UpstreamRateLimited("429", retry_after_s=asked))
    world.call(0.0)
    world.run()
    assert [(one.at, one.target) for one in world.tried] == [(0.0, ONE.id), (0.05, TWO.id)]


# -- a target that breaks is left alone, and found again --


@pytest.mark.parametrize("per_s", [1.0, 5.0, 20.0, 100.0])
@pytest.mark.parametrize("broken", [DOWN, Reply(end_s=0.5, error=UpstreamTimeout("silent"))], ids=["down", "silent"])
def test_a_target_that_breaks_at_once_is_left_alone_within_twenty_tries_or_two_seconds(per_s, broken):
    world = Simulation((ONE, TWO))
    world.replies[ONE.id] = lambda world, _: broken if world.now >= 60.0 else Reply(end_s=10.0)
    traffic(world, calls=int(60 * per_s) + 500, per_s=per_s)
    opened_at = None
    while opened_at is None:
        world.run(until=world.now + 0.005)
        world.now += 0.005
        if world.now > 60.0 and world.state(ONE).breaker != "closed":
            opened_at = world.now
    tries = sum(one.target == ONE.id and one.at >= 60.0 for one in world.tried)
    print(f"{per_s:g}/s: open {opened_at - 60:.2f} s and {tries} tries after the step")
    assert opened_at - 60.0 <= 2.0 or tries <= 20


def test_one_that_fails_half_of_the_time_is_left_alone_too():
    world = Simulation((ONE, TWO))
    world.replies[ONE.id] = failing(0.6)
    traffic(world, calls=60, per_s=20.0)
    world.run()
    assert world.state(ONE).openings >= 1


def test_an_open_target_gets_one_probe_per_interval_and_nothing_else():
    world = Simulation((ONE, TWO))
    world.replies[ONE.id] = failing(1.0)
    traffic(world, calls=20_000, per_s=100.0)
    world.run()
    tries = [one for one in world.tried if one.target == ONE.id]
    probes = [one for one in tries if one.probe]
    gaps = [later.at - earlier.at for earlier, later in pairwise(probes)]
    others = [one for one in tries if not one.probe]
    print(f"{len(probes)} probes in {world.now:.0f} s, at least {min(gaps):.3f} s apart; {len(others)} other tries")
    assert min(gaps) >= PROBE_S
    assert len(probes) >= world.now / PROBE_S - 5
    assert len(others) <= 20
    assert max(one.at for one in others) < 2.0
    assert all(how == "ok" for _, _, how in world.ended)


@pytest.mark.parametrize("heal_s", [30.0, 31.7, 33.3, 34.9])
def test_a_target_that_heals_is_called_again_within_one_interval(heal_s):
    world = Simulation((ONE, TWO))
    world.replies[ONE.id] = lambda world, _: DOWN if world.now < heal_s else Reply(first_s=0.3, end_s=30.0)
    traffic(world, calls=3_000, per_s=50.0)
    world.run(until=heal_s)
    assert world.state(ONE).breaker != "closed"
    while world.state(ONE).breaker != "closed":
        world.now += 0.01
        world.run(until=world.now)
    print(f"healed at {heal_s:g} s: closed {world.now - heal_s:.2f} s later")
    assert world.now - heal_s <= PROBE_S + 0.3 + 0.1  # its first content, and the gap between calls


def test_what_callers_do_wrong_never_trips_a_breaker():
    world = Simulation((ONE, TWO))
    world.replies[ONE.id] = lambda *_: REFUSED
    traffic(world, calls=2_000)
    world.run()
    assert world.state(ONE).openings == 0
    assert {one.target for one in world.tried} == {ONE.id}


def test_a_busy_target_never_trips_a_breaker():
    world = Simulation((ONE, TWO))
    world.replies[ONE.id] = lambda world, _: (
        Reply(end_s=0.02, error=UpstreamRateLimited("429")) if world.in_flight[ONE.id] > 5 else Reply()
    )
    traffic(world, calls=2_000)
    world.run()
    assert world.state(ONE).openings == 0
    assert all(how == "ok" for _, _, how in world.ended)


def test_the_last_target_is_tried_by_every_call_however_broken_it_is():
    world = Simulation((ONE,))
    world.replies[ONE.id] = lambda world, _: DOWN if world.now < 30.0 else Reply(first_s=0.3)
    traffic(world, calls=2_000, per_s=50.0)
    world.run()
    firsts = [one for one in world.tried if one.kind == "first"]
    assert len(firsts) == 2_000
    begun = {one.call: one.at for one in firsts}
    assert all(how == "ok" for number, _, how in world.ended if begun[number] >= 30.0)


@pytest.mark.parametrize("seed", range(8))
def test_four_targets_that_break_and_heal_in_any_order_are_all_well_in_the_end(seed):
    """Broken one by one in random order, then mended in random order: no call fails while one is well, and none stays out."""
    order = Random(seed)
    targets = (ONE, TWO, THREE, FOUR)
    world = Simulation(targets, seed)
    down_at = dict(zip(order.sample(targets, 4), (10.0, 20.0, 30.0, 40.0), strict=True))
    healed_at = dict(zip(order.sample(targets, 4), (50.0, 55.0, 60.0, 65.0), strict=True))

    def reply_of(one):
        return lambda world, _: DOWN if down_at[one] <= world.now < healed_at[one] else Reply(first_s=0.3)

    world.replies = {one.id: reply_of(one) for one in targets}
    for number in range(4_000):
        turn = number % 4  # each target is the first one for a quarter of the calls
        world.call(number * 0.025, targets=targets[turn:] + targets[:turn])
    world.run()
    begun = {one.call: one.at for one in world.tried if one.kind == "first"}
    lost = [number for number, at, how in world.ended if how == "failed" and not (begun[number] < 50.0 and at > 40.0)]
    assert not lost, "all four are down from the 40th to the 50th second only"
    assert [world.state(one).breaker for one in targets] == ["closed"] * 4
    after = [one for one in world.tried if one.at >= 65.0 + PROBE_S + 0.5]
    assert {one.target for one in after if one.kind == "first"} == {one.id for one in targets}
    assert all(one.kind == "first" for one in after)


# -- time and room --


def test_a_target_that_is_too_slow_for_the_time_left_is_skipped_and_found_out_again():
    world = Simulation((ONE, TWO))
    world.replies[ONE.id] = lambda *_: Reply(first_s=4.0, end_s=5.0)
    for number in range(30):
        world.call(number * 1.0)
    world.run(until=35.0)
    world.tried.clear()
    for number in range(40):
        world.call(40.0 + number * 0.1, deadline_s=3.0)
        world.call(40.0 + number * 0.1, deadline_s=30.0)
    world.run()
    hasty = [one.target for one in world.tried if one.call >= 30 and one.call % 2 == 0]
    patient = [one.target for one in world.tried if one.call >= 30 and one.call % 2 == 1]
    assert set(hasty) == {TWO.id}
    assert set(patient) == {ONE.id}


@pytest.mark.parametrize("retry_after_s", [None, 0.2])
def test_four_times_the_load_that_a_target_takes_still_gets_nearly_all_of_its_work(retry_after_s):
    capacity, hold_s = 10, 1.0

    def reply(world, _):
        if world.in_flight[ONE.id] > capacity:
            return Reply(end_s=0.02, error=UpstreamOverloaded("529", status=529, retry_after_s=retry_after_s))
        return Reply(first_s=0.3, end_s=hold_s)

    world = Simulation((ONE,), patience=Patience(retries=2))
    world.replies[ONE.id] = reply
    for number in range(4 * capacity * 40):
        world.call(number / (4 * capacity), deadline_s=3.0)
    world.run(until=40.0)
    peak = capacity / hold_s
    done = sum(10.0 <= at < 40.0 and how == "ok" for _, at, how in world.ended) / 30.0
    print(f"Retry-After {retry_after_s}: {done / peak:.1%} of its peak")
    assert done >= 0.9 * peak

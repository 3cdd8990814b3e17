"""Calls that wait are let in in turn, end in time, and leave no trace when nobody waits for them any more."""

import asyncio
import gc
from math import inf
from random import Random

import pytest

from jumping import jumping
from penstock.call import Call, Content, Limits, Sampling, Who
from penstock.errors import Overloaded, RateLimited
from penstock.policy.admission import FREE, Admission
from penstock.policy.queue import Claim
from penstock.settings import Config, LedgerSettings, ModelSettings, ServerSettings, SharedSettings, TeamSettings
from penstock.waiting import Line, Lobby

CALL = Call(dialect="chat", model="m", sampling=Sampling(), read=lambda: Content(()), raw=b"x" * 40)
WEB = Who(key_id="k", team="web")
FAR = 1e9


def clock():
    return asyncio.get_running_loop().time()


def config(*teams, models=(), **server):
    return Config(
        *("a test", None, "", ServerSettings(**server), (), models, teams, (), (), LedgerSettings(), SharedSettings())
    )


class World:
    """A lobby at work."""

    def __init__(self, *teams, models=(), **server):
        self.config = config(*teams, models=models, **server)
        self.admission = Admission(self.config, clock())
        self.lobby = Lobby(self.admission, self.config.server, clock)

    def come(self, who=WEB, model="m", deadline=FAR):
        return asyncio.create_task(self.lobby.enter(who, model, CALL, deadline))

    async def enter(self, who=WEB, model="m", deadline=FAR):
        return await self.lobby.enter(who, model, CALL, deadline)

    def leave(self, ticket, tokens=10):
        if self.admission.leave(ticket, tokens, clock()):
            self.lobby.left()


def web(**limits):
    return TeamSettings(name="web", **limits)


async def settled():
    for _ in range(4):
        await asyncio.sleep(0)


# -- limits --


@jumping
async def test_a_call_without_a_limit_does_not_wait():
    world = World(web(concurrency=1))
    assert await world.enter(Who(), "m") is FREE
    assert world.lobby.waiting == 0


@jumping
async def test_who_waits_gets_in_when_a_call_leaves():
    world = World(web(concurrency=1))
    first = await world.enter()
    waits = world.come()
    await asyncio.sleep(1)
    assert (waits.done(), world.lobby.waiting) == (False, 1)
    world.leave(first)
    ticket = await waits
    assert (ticket.entered, world.lobby.waiting) == (clock(), 0)
    world.leave(ticket)
    assert await world.enter()


@jumping
async def test_who_waits_for_a_rate_gets_in_by_the_timer_to_the_moment():
    world = World(web(rpm=2), queue_s=61.0)
    start = clock()
    await world.enter()
    await asyncio.sleep(5)
    await world.enter()
    entered = [(await one).entered - start for one in [world.come(), world.come()]]
    assert entered == [pytest.approx(60.0, abs=0.01), pytest.approx(65.0, abs=0.01)]
    assert min(entered) >= 60.0


@jumping
async def test_those_that_wait_get_in_in_turn_however_greedy_one_is():
    world, order = World(models=(ModelSettings(name="m", concurrency=1),), queue_s=1000.0), []
    ticket = await world.enter()

    async def one(team):
        got = await world.enter(Who(team, team))
        order.append(team)
        await asyncio.sleep(1)
        world.leave(got)

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(one("greedy"))
        await settled()
        for _ in range(5):
            group.create_task(one("modest"))
        await settled()
        world.leave(ticket)
    assert order[:10] in (["greedy", "modest"] * 5, ["modest", "greedy"] * 5)
    assert len(order) == 25


@jumping
async def test_nobody_pushes_in_between_a_call_that_leaves_and_the_one_that_waits():
    world = World(web(concurrency=1))
    first = await world.enter()
    waits = world.come()
    await settled()
    world.leave(first)
    late = world.come()
    await settled()
    assert (waits.done(), late.done()) == (True, False)
    world.leave(await waits)
    await late


@jumping
async def test_several_that_leave_at_once_let_as_many_in():
    world = World(web(concurrency=3))
    tickets = [await world.enter() for _ in range(3)]
    waiting = [world.come() for _ in range(4)]
    await settled()
    for ticket in tickets:
        world.leave(ticket)
    await settled()
    assert [one.done() for one in waiting] == [True, True, True, False]
    world.leave(waiting[0].result())
    await waiting[3]


# -- no longer than it may be --


@jumping
async def test_who_has_waited_too_long_is_refused_in_time_with_the_time_to_come_again():
    world = World(web(concurrency=1), queue_s=10.0)
    await world.enter()
    began = clock()
    with pytest.raises(RateLimited, match="1 calls in flight") as raised:
        await world.enter()
    assert clock() - began == pytest.approx(10.0, abs=0.01)
    assert raised.value.retry_after_s >= 1.0
    assert world.lobby.waiting == 0


@jumping
async def test_the_deadline_of_a_call_ends_its_wait_before():
    world = World(web(concurrency=1), queue_s=10.0)
    await world.enter()
    began = clock()
    with pytest.raises(RateLimited):
        await world.enter(deadline=began + 2.5)
    assert clock() - began == pytest.approx(2.5, abs=0.01)


@jumping
async def test_where_the_wait_would_be_too_long_nobody_waits_at_all():
    world = World(web(rpm=1), queue_s=10.0)
    await world.enter()
    began = clock()
    with pytest.raises(RateLimited) as raised:
        await world.enter()
    assert (clock() - began, raised.value.retry_after_s) == (0.0, 60.0)
    await asyncio.sleep(51)
    assert (await world.enter()).entered == pytest.approx(began + 60.0, abs=0.01)


@jumping
async def test_calls_are_shed_once_too_many_wait_for_how_long_calls_stay():
    world = World(web(concurrency=1), queue_s=11.0)
    for _ in range(5):
        ticket = await world.enter()
        await asyncio.sleep(4)
        world.leave(ticket)
    await world.enter()
    waiting = [world.come() for _ in range(2)]  # one leaves every four seconds, or a little later
    await settled()
    began = clock()
    with pytest.raises(RateLimited, match="Come again in 15 s") as raised:
        await world.enter()
    assert (clock() - began, raised.value.retry_after_s) == (0.0, 15.0)
    assert world.lobby.waiting == 2
    for one in waiting:
        with pytest.raises(RateLimited):
            await one


@pytest.mark.parametrize("server", [{"queue": 0}, {"queue_s": 0.0}])
@jumping
async def test_where_nobody_may_wait_whoever_finds_no_room_is_refused_at_once(server):
    world = World(web(concurrency=1), **server)
    await world.enter()
    began = clock()
    with pytest.raises(RateLimited):
        await world.enter()
    assert clock() == began


@jumping
async def test_a_full_queue_refuses():
    world = World(web(concurrency=1), queue=2)
    ticket = await world.enter()
    waiting = [world.come() for _ in range(2)]
    await settled()
    with pytest.raises(Overloaded, match="2 calls wait already") as raised:
        await world.enter()
    assert raised.value.retry_after_s >= 1.0
    world.leave(ticket)
    for one in waiting:
        world.leave(await one)


@jumping
async def test_a_refusal_by_a_full_queue_closes_no_room():
    world = World(web(concurrency=1), TeamSettings(name="app", concurrency=1), queue=1)
    await world.enter()
    world.come()
    app = await world.enter(Who("j", "app"))
    await settled()
    with pytest.raises(Overloaded):
        await world.enter(Who("j", "app"))
    world.leave(app)
    assert await world.enter(Who("j", "app"))


@jumping
async def test_a_greedy_flow_gives_up_its_newest_place_in_a_full_queue():
    world = World(models=(ModelSettings(name="m", concurrency=1),), queue=3)
    ticket = await world.enter()
    greedy = [world.come(Who("g", "greedy")) for _ in range(3)]
    await settled()
    modest = world.come(Who("x", "modest"))
    with pytest.raises(Overloaded):
        await greedy[2]
    assert world.lobby.waiting == 3
    for one in (greedy[0], modest, greedy[1]):
        world.leave(ticket)
        ticket = await one


@jumping
async def test_two_lines_share_one_bound():
    world = World(web(concurrency=1), queue=2)
    line = Line(2, clock)
    world.lobby.beside, line.beside = line, world.lobby
    await world.enter()
    tasks = [world.come(), asyncio.create_task(line.wait(Claim(("t",), ("a", "b"))))]
    await settled()
    with pytest.raises(Overloaded):
        await world.enter()
    with pytest.raises(Overloaded):
        await line.wait(Claim(("t",), ("a", "b")))
    await cancel(*tasks)


# -- nobody waits for it any more --


async def cancel(*tasks):
    for task in tasks:
        task.cancel()
    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task


@jumping
async def test_who_hangs_up_leaves_no_trace():
    world = World(web(concurrency=1, rpm=3))
    first = await world.enter()
    gone, stays = world.come(), world.come()
    await settled()
    await cancel(gone)
    assert world.lobby.waiting == 1
    world.leave(first)
    world.leave(await stays)
    await world.enter()
    (room,) = world.admission.teams.values()
    assert (room.inside, room.rates.calls, room.contested) == (1, 3, False)


@jumping
async def test_who_hangs_up_while_being_let_in_gives_it_all_back_to_the_next():
    world = World(web(concurrency=1, rpm=3, tpm=30))
    first = await world.enter()
    gone, stays = world.come(), world.come()
    await settled()
    world.leave(first)
    world.lobby._look()  # it has a place and does not know yet
    assert world.lobby.waiting == 1
    await cancel(gone)
    assert await stays
    (room,) = world.admission.teams.values()
    assert (room.inside, room.rates.calls, room.rates.used) == (1, 2, 20)


@jumping
async def test_a_place_is_not_wasted_on_one_who_is_just_hanging_up():
    world = World(web(concurrency=1, rpm=3))
    first = await world.enter()
    gone, stays = world.come(), world.come()
    await settled()
    gone.cancel()
    world.leave(first)
    world.lobby._look()
    assert await stays
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert world.admission.teams["web"].rates.calls == 2


@jumping
async def test_who_hangs_up_when_it_is_refused_is_just_gone():
    world = World(web(concurrency=1), queue_s=5.0)
    await world.enter()
    gone = world.come()
    await settled()
    asyncio.get_running_loop().now += 5.0
    world.lobby._look()
    await cancel(gone)
    gc.collect()  # an error that nobody looked at would be told here
    assert world.lobby.waiting == 0


@jumping
async def test_the_room_that_the_one_who_hung_up_waited_for_is_open_again():
    world = World(TeamSettings(name="web", tpm=100))
    ticket = await world.enter()
    large = Call(dialect="", model="m", sampling=Sampling(max_tokens=90), read=lambda: Content(()), input_bound=40)
    waits = asyncio.create_task(world.lobby.enter(WEB, "m", large, FAR))
    await settled()
    waits.cancel()
    await settled()
    assert world.lobby.waiting == 0
    assert await world.enter() is not ticket


@jumping
async def test_nothing_runs_while_nobody_waits():
    world = World(web(concurrency=1, rpm=1), queue_s=100.0)
    ticket = await world.enter()
    waits = world.come()
    await settled()
    assert world.lobby._timer is not None
    await cancel(waits)
    await settled()
    assert world.lobby._timer is None
    world.leave(ticket)
    assert world.lobby._soon is None


# -- another configuration, and the end --


@jumping
async def test_those_that_wait_go_on_with_another_configuration():
    world = World(web(concurrency=1))
    first = await world.enter()
    waits = [world.come() for _ in range(2)]
    await settled()
    wider = config(web(concurrency=2), queue_s=3.0, queue=1)
    world.lobby.reload(Admission(wider, clock(), world.admission), wider.server)
    second = await waits[0]
    assert world.lobby.waiting == 1
    with pytest.raises(Overloaded):
        await world.enter()
    world.leave(first)
    world.leave(await waits[1])
    world.leave(second)
    assert world.admission.teams["web"].inside == 0


@jumping
async def test_a_limit_that_goes_away_lets_all_in_who_wait_for_it():
    world = World(web(concurrency=1))
    await world.enter()
    waits = [world.come() for _ in range(3)]
    await settled()
    free = config()
    world.lobby.reload(Admission(free, clock(), world.admission), free.server)
    for one in waits:
        assert (await one).room is None


@jumping
async def test_whose_time_is_over_when_another_configuration_comes_is_refused():
    world = World(web(concurrency=1), queue_s=5.0)
    await world.enter()
    late = world.come()
    await settled()
    asyncio.get_running_loop().now += 5.0
    free = config()
    world.lobby.reload(Admission(free, clock(), world.admission), free.server)
    with pytest.raises(RateLimited, match="Team 'web'"):
        await late


@jumping
async def test_at_the_end_nobody_waits_any_longer():
    world = World(web(concurrency=1))
    await world.enter()
    waits = [world.come() for _ in range(2)]
    await settled()
    world.lobby.close()
    for one in waits:
        with pytest.raises(Overloaded, match="shutting down"):
            await one
    assert (world.lobby.waiting, world.lobby._timer) == (0, None)


# -- whatever happens --


@pytest.mark.parametrize("seed", range(20))
@jumping
async def test_under_any_load_no_limit_is_exceeded_and_nothing_is_left_behind(seed):
    rng = Random(seed)
    limits = {"web": 3, "app": 2, "m": 4}
    world = World(
        web(concurrency=3),
        TeamSettings(name="app", concurrency=2, rpm=40, priority="low"),
        models=(ModelSettings(name="m", concurrency=4, tpm=900),),
        queue=12,
        queue_s=20.0,
    )
    inside = dict.fromkeys(limits, 0)
    ends = {"ok": 0, "refused": 0, "cancelled": 0}
    again = []

    async def one():
        who = Who(rng.choice("abc"), rng.choice(["web", "app", None]), limits=rng.choice([None, Limits(concurrency=2)]))
        ticket = await world.enter(who, rng.choice("mn"), clock() + rng.choice([3.0, 60.0]))
        places = [place for place in (ticket, ticket.also, ticket.also and ticket.also.also) if place is not None]
        names = [place.room.name for place in places if place.room is not None and place.room.name in inside]
        for name in names:
            inside[name] += 1
            assert inside[name] <= limits[name]
        try:
            await asyncio.sleep(rng.expovariate(0.4))
        finally:
            for name in names:
                inside[name] -= 1
            world.leave(ticket, rng.randrange(30))

    async def hurried():
        try:
            async with asyncio.timeout(rng.choice([2.0, 1000.0])):
                await one()
            ends["ok"] += 1
        except TimeoutError:
            ends["cancelled"] += 1
        except (RateLimited, Overloaded) as error:
            again.append(error.retry_after_s)
            ends["refused"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(400):
            group.create_task(hurried())
            await asyncio.sleep(rng.expovariate(3.0))
    await settled()
    assert min(ends.values()) > 10
    assert min(again) > 0
    assert (world.lobby.waiting, world.lobby._timer, world.lobby._soon) == (0, None, None)
    admission = world.admission
    rooms = [*admission.teams.values(), *admission.models.values(), *admission.keys.values()]
    assert not any(room.inside or room.contested for room in rooms)


# -- a line for whatever else is waited for --


def targets(*names, flow=("t", "k"), priority="normal", latest=inf):
    return Claim(names, flow, priority, latest)


@jumping
async def test_a_line_gives_what_has_become_free_to_whom_it_serves_in_turn():
    line = Line(10, clock)
    tasks = [
        asyncio.create_task(line.wait(one))
        for one in (targets("a", "b"), targets("b"), targets("a"), targets("b", flow=("u", "k"), priority="high"))
    ]
    await settled()
    assert (line.waiting, line.waiting_for("a"), line.ahead("a", targets("a"))) == (4, 2, 2)
    free = {"b": 2}

    def give(entry):
        for name in entry.claim.needs:
            if free.get(name):
                free[name] -= 1
                return f"slot at {name}"
        return None

    line.wake(give)
    await settled()
    assert [one.done() for one in tasks] == [True, False, False, True]
    assert await tasks[0] == await tasks[3] == "slot at b"
    await cancel(tasks[1], tasks[2])
    assert line.waiting == 0


@jumping
async def test_a_line_refuses_at_once_what_would_come_too_late():
    line, began = Line(10, clock), clock()
    with pytest.raises(Overloaded, match="Come again in 8 s") as raised:
        await line.wait(targets("a", latest=began + 5), 7.5)
    assert (clock(), raised.value.retry_after_s) == (began, 7.5)


@jumping
async def test_a_line_refuses_in_time_whom_nothing_was_given():
    line, began = Line(10, clock), clock()
    with pytest.raises(Overloaded, match="busy") as raised:
        await line.wait(targets("a", latest=began + 5), 1.0)
    assert clock() - began == pytest.approx(5.0, abs=0.01)
    assert raised.value.retry_after_s == 1.0
    assert line._timer is None


@jumping
async def test_nobody_is_given_anything_after_its_time():
    line, given = Line(10, clock), []
    task = asyncio.create_task(line.wait(targets("a", latest=clock() + 5)))
    await settled()
    asyncio.get_running_loop().now += 5.0
    line.wake(lambda entry: given.append(entry) or "slot")
    with pytest.raises(Overloaded):
        await task
    assert given == []


@jumping
async def test_a_timer_that_comes_early_comes_again():
    line = Line(10, clock)
    task = asyncio.create_task(line.wait(targets("a", latest=clock() + 5)))
    await settled()
    line._timer.cancel()
    line._rang()
    assert line._timer is not None
    with pytest.raises(Overloaded):
        await task


@jumping
async def test_a_later_one_with_less_time_is_refused_before():
    line = Line(10, clock)
    slow = asyncio.create_task(line.wait(targets("a", latest=clock() + 9)))
    quick = asyncio.create_task(line.wait(targets("a", latest=clock() + 2)))
    began = clock()
    with pytest.raises(Overloaded):
        await quick
    assert clock() - began == pytest.approx(2.0, abs=0.01)
    with pytest.raises(Overloaded):
        await slow
    assert clock() - began == pytest.approx(9.0, abs=0.01)


@jumping
async def test_what_was_given_to_one_who_is_gone_comes_back():
    back = []
    line = Line(10, clock, back.append)
    task = asyncio.create_task(line.wait(targets("a")))
    await settled()
    line.wake(lambda _: "slot")
    await cancel(task)
    assert back == ["slot"]


@jumping
async def test_what_needs_no_giving_back_is_just_dropped():
    line = Line(10, clock)
    task = asyncio.create_task(line.wait(targets("a")))
    await settled()
    line.wake(lambda _: "slot")
    await cancel(task)
    assert line.waiting == 0


@jumping
async def test_a_full_line_drops_the_newest_of_the_longest_for_another_flow():
    line = Line(2, clock)
    tasks = [asyncio.create_task(line.wait(targets("a"))) for _ in range(2)]
    await settled()
    other = asyncio.create_task(line.wait(targets("a", flow=("u", "k"))))
    with pytest.raises(Overloaded, match="2 calls wait already"):
        await tasks[1]
    line.wake(lambda _: "slot")
    assert await tasks[0] == await other == "slot"

"""The line behind the targets' limits: who goes next has the room already, and nobody waits in vain."""

import asyncio
import time

import pytest

from penstock.call import Call, Content, Sampling, Who
from penstock.errors import Overloaded
from penstock.policy.admission import Admission
from penstock.routing.health import Health, HealthSettings
from penstock.settings import ServerSettings
from penstock.standing import TargetLine
from penstock.target import Target
from penstock.waiting import Lobby

CALL = Call(dialect="chat", model="fast", sampling=Sampling(), read=lambda: Content(()))
ONE = Target(id="a/one", provider="a", model="one", dialect="chat")
TWO = Target(id="b/two", provider="b", model="two", dialect="chat")


class Stander:
    """A call that may have to stand."""

    def __init__(self, key="key_1", within_s=5.0):
        self.call = CALL
        self.who = Who(key_id=key)
        self.deadline = time.monotonic() + within_s
        self.asked_tokens = 10


def line_of(config, *, queue=10, queue_s=5.0, **limits):
    settings = ServerSettings(queue=queue, queue_s=queue_s)
    health = Health({name: HealthSettings(**limits) for name in ("a", "b")}, time.monotonic())
    lobby = Lobby(Admission(config, 0.0), settings, time.monotonic)
    return TargetLine(health, settings, time.monotonic, lobby, lambda _: "normal"), health


@pytest.fixture
def config(tmp_path):
    from penstock.config import load

    (tmp_path / "penstock.toml").write_text('[models.m]\ntargets = ["local/penstock-mini"]\n')
    return load(str(tmp_path / "penstock.toml"), {"PENSTOCK_HOME": str(tmp_path)})


async def test_who_stands_gets_the_room_that_becomes_free_and_nobody_comes_between(config):
    line, health = line_of(config, concurrency=1)
    slot = health.enter(ONE, time.monotonic())
    assert not line.has_room(Stander(), (ONE,))
    standing = asyncio.create_task(line.stand(Stander(), (ONE,)))
    await asyncio.sleep(0)
    assert line.waiting == 1
    slot.leave(time.monotonic(), "ok")
    line.move()
    assert not line.has_room(Stander(), (ONE,)), "it was taken in the same moment"
    target, taken = await standing
    assert target is ONE
    taken.leave(time.monotonic(), "ok")
    assert line.has_room(Stander(), (ONE,))


async def test_any_of_the_targets_will_do(config):
    line, health = line_of(config, concurrency=1)
    slots = [health.enter(target, time.monotonic()) for target in (ONE, TWO)]
    standing = asyncio.create_task(line.stand(Stander(), (ONE, TWO)))
    await asyncio.sleep(0)
    slots[1].leave(time.monotonic(), "ok")
    line.move()
    assert (await standing)[0] is TWO


async def test_room_that_only_time_makes_is_noticed(config):
    line, health = line_of(config, rpm=3000)  # one each 20 ms
    while line.has_room(Stander(), (ONE,)):
        health.enter(ONE, time.monotonic()).leave(time.monotonic(), "ok")
    target, _ = await asyncio.wait_for(line.stand(Stander(), (ONE,)), 1.0)
    assert target is ONE


async def test_a_stander_that_leaves_before_it_could_look_gives_its_room_back(config):
    line, health = line_of(config, concurrency=1)
    slot = health.enter(ONE, time.monotonic())
    standing = asyncio.create_task(line.stand(Stander(), (ONE,)))
    await asyncio.sleep(0)
    slot.leave(time.monotonic(), "ok")
    line.move()
    standing.cancel()
    await asyncio.wait({standing})
    assert line.has_room(Stander(), (ONE,))
    assert line.waiting == 0


async def test_who_would_stand_in_vain_is_refused_before_anything_is_held(config):
    line, health = line_of(config, concurrency=1, queue_s=0.1)
    health.enter(ONE, time.monotonic())
    with pytest.raises(Overloaded) as refused:
        line.refuse_hopeless(Stander(), (ONE,))
    assert refused.value.retry_after_s > 0
    patient, health = line_of(config, concurrency=1, queue_s=10.0)
    health.enter(ONE, time.monotonic())
    patient.refuse_hopeless(Stander(within_s=10.0), (ONE,))

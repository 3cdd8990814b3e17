"""Calls that begin in one turn of the loop: each as if it were alone, whatever befalls the others."""

import asyncio
from random import Random

import pytest
from msgspec import structs
from tests.test_direct import CALL, SHARED, TOLD, Asker, Ready, alike
from tests.test_gateway import CONFIG, WEB, WHOLE, Played, ask, jumping, world

from penstock import closing
from penstock.call import Caller, Sampling, Who
from penstock.calls_alike import Standing
from penstock.errors import Internal, UpstreamFailed
from penstock.routing.health import Health

ROOMY = CONFIG.replace("concurrency = 3", "concurrency = 50")
MODELS = ("solo", "solo", "solo", "fast", "small", "free", "kept")
OWNERS = (WEB, WEB, Who(key_id="key_2", team="web"), Who(team="web", feature="dear"), Who(team="terse"))


def some_calls(rng):
    """What one turn brings: all kinds of calls."""
    for _ in range(rng.randint(1, 8)):
        words = "Hi " * rng.choice((1, 1, 40, 4000))
        call = structs.replace(ask(rng.choice(MODELS), words, stream=False), user=rng.choice((None, None, "ann")))
        if rng.random() < 0.2:
            call = structs.replace(call, sampling=Sampling(max_tokens=rng.choice((9, 8000))))
        yield call, rng.choice(OWNERS)


async def play(one, provider, askers, begin, rng):
    """Have calls begin, and all come to their end; each one's receipt."""
    known, before = len(one.receipts()), len(provider.sent)
    begin(askers)
    for sent in [each for each in provider.sent[before:] if hasattr(each, "waiter")]:
        how = rng.random()
        if how < 0.6:
            sent.come(told=TOLD)
        elif how < 0.8:
            sent.come(WHOLE)
        else:
            sent.come(instead=UpstreamFailed("a/one: down", status=500))
    await asyncio.sleep(0)
    for asker in askers:
        assert len(asker.answers) + len(asker.handed) == 1, "each is answered or handed over, once"
        if asker.handed == [None]:
            await one.take(asker.call, asker.who)
        elif asker.handed:
            await asker.finish()
    receipts = [
        structs.replace(receipt, user=None) for receipt in one.receipts()[known:]
    ]  # whose hash is the ledger's own
    return sorted(map(str, map(alike, receipts)))


@pytest.mark.parametrize("seed", range(8))
@jumping
async def test_calls_that_begin_together_end_as_those_that_begin_one_by_one(tmp_path, seed):
    endings = {}
    for way in ("together", "apart"):
        rng, provider = Random(seed), Ready(*[WHOLE] * 200)
        (tmp_path / way).mkdir()
        others = {"b": Played(*[WHOLE] * 200), "gratis": Played(*[WHOLE] * 200)}
        async with world(tmp_path / way, config=SHARED, a=provider, **others) as one:
            direct, standings = one.gateway.direct, {}

            def apart(askers, direct=direct):
                for asker in askers:
                    direct([asker])

            endings[way] = []
            for _ in range(6):
                askers = [
                    Asker(one, call, who, standings.setdefault((who, call.model), Standing(Caller())))
                    for call, who in some_calls(rng)
                ]
                endings[way].append(
                    await play(one, provider, askers, direct if way == "together" else apart, Random(seed))
                )
            assert any(settled for settled in endings[way])
            one.check()
    assert endings["together"] == endings["apart"]


def nth(call, number):
    """Do as `call`, but fail the `number`-th time."""
    made = []

    def fails(*args, **named):
        made.append(args)
        if len(made) == number:
            raise ZeroDivisionError
        return call(*args, **named)

    return fails


STEPS = {
    "planned": lambda one, _: (one.gateway, "planned"),
    "prepare": lambda one, _: (one.gateway.direct.__self__._commons._prepares, "a"),
    "enter": lambda one, _: (one.gateway.admission, "try_enter"),
    "reserve": lambda one, _: (one.gateway._accounts, "reserve"),
    "try": lambda _, __: (Health, "enter_calm"),
    "intend": lambda one, _: (one.gateway._accounts, "intend"),
    "leave": lambda _, provider: (provider, "before"),
}


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("step", STEPS)
@jumping
async def test_where_a_step_fails_for_one_the_others_go_on_and_nothing_of_it_is_left(
    tmp_path, monkeypatch, step, number
):
    provider = Ready(WHOLE)
    async with world(tmp_path, config=ROOMY, a=provider) as one:
        await one.take(CALL)  # so that the target is known
        askers = [Asker(one) for _ in range(4)]
        place, name = STEPS[step](one, provider)
        if isinstance(place, dict):
            monkeypatch.setitem(place, name, nth(place[name], number))
        else:
            monkeypatch.setattr(place, name, nth(getattr(place, name), number))
        one.gateway.direct(askers)
        broken = askers.pop(number - 1)
        if step == "leave":  # it is written down already
            assert broken.handed == [broken.direct]
            assert isinstance(await broken.finish(), Internal)
        else:
            assert (broken.handed, broken.direct) == ([None], None)
        assert one.gateway.in_flight == len(askers)
        for asker in askers:
            asker.direct.prepared.come(told=TOLD)
        await asyncio.sleep(0)
        assert [len(asker.answers) for asker in askers] == [1] * 3
        one.check()


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("step", ["tell", "end", "row"])
@jumping
async def test_an_answer_that_fails_fails_alone(tmp_path, monkeypatch, step, number, caplog):
    provider = Ready(WHOLE)  # which would answer, if it were asked once more
    async with world(tmp_path, config=ROOMY, a=provider) as one:
        askers = [Asker(one) for _ in range(4)]
        one.gateway.direct(askers)
        broken = askers.pop(number - 1)
        if step == "end":
            monkeypatch.setattr(broken.direct.flight.tries[0], "_calm", Broken())
        elif step == "row":
            monkeypatch.setattr(closing, "ordinary", nth(closing.ordinary, number))
        for sent in provider.sent:
            sent.come(told=ZeroDivisionError() if step == "tell" and sent is broken.direct.prepared else TOLD)
        assert not any(asker.answers for asker in askers), "they are given out at the end of the turn"
        await asyncio.sleep(0)
        assert [len(asker.answers) for asker in askers] == [1] * 3
        assert broken.answers == []
        assert isinstance(await broken.finish(), Internal)
        assert "failed" in caplog.text
        one.check()


class Broken:
    def answered(self, *_):
        raise ZeroDivisionError


@jumping
async def test_an_answer_that_came_before_its_client_left_is_given_out_and_billed(tmp_path):
    provider = Ready()
    async with world(tmp_path, config=ROOMY, a=provider) as one:
        askers = [Asker(one) for _ in range(3)]
        one.gateway.direct(askers)
        for sent in provider.sent[:2]:
            sent.come(told=TOLD)
        askers[0].direct.abandon(asyncio.CancelledError())
        askers[2].direct.abandon(asyncio.CancelledError())
        assert [len(asker.answers) for asker in askers] == [1, 1, 0]
        assert [receipt.status for receipt in one.receipts()] == ["ok", "ok", "cancelled"]
        one.check()


@jumping
async def test_room_that_an_answer_makes_is_there_for_the_calls_of_the_same_turn(tmp_path):
    provider, single = Ready(), Who(team="single")
    async with world(tmp_path, a=provider) as one:
        other, first, second = Asker(one), Asker(one, who=single), Asker(one, who=single)
        one.gateway.direct([other, first])
        provider.sent[1].come(told=TOLD)
        assert first.answers == []
        one.gateway.direct([second])
        assert len(first.answers) == 1
        assert second.direct is not None
        for sent in (provider.sent[0], provider.sent[2]):
            sent.come(told=TOLD)
        await asyncio.sleep(0)
        one.check()

"""Under load: how many tries a failure costs a provider, when a target is left alone and tried again, what happens past capacity.

Everything is counted at the provider, over real sockets. The long runs are for `make soak`; `bench/overload.py` makes the same
with a process per side and prints figures.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from tests.faults.client import Answer, ask, request
from tests.faults.conftest import Site, config, gateway_at, model
from tests.faults.faults import PLAYS, say_error
from tests.faults.provider import Heard, Peer, Provider

LINES = """
connect_s = 1
first_byte_s = 5
idle_s = 5
"""
SEED = 20_261_122


@contextlib.asynccontextmanager
async def site(
    folder: Path, bad: Provider, good: Provider, models: str, *, lines: str = "", server: str = ""
) -> AsyncIterator[Site]:
    more = f"[server]\n{server}\n{models}"
    text = config(f"http://127.0.0.1:{bad.port}", f"http://127.0.0.1:{good.port}", more=more, lines=LINES + lines)
    bad.heeds_marks = False
    async with gateway_at(folder, text, bad, good) as one:
        yield one


async def crowd(one: Site, name: str, calls: int, at_once: int = 100, **more: str) -> list[Answer]:
    """Make so many calls, so many at a time; give the answers."""
    answers: list[Answer] = []
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            answers.append(await one.ask(name, **more))  # noqa: PERF401 - others add to it meanwhile

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return answers


# -- how many tries --


def failing(share: float, seed: int = SEED):
    """Answer, or fail with a likelihood."""
    dice = Random(seed)

    async def play(peer: Peer, heard: Heard) -> None:
        await PLAYS["status_500" if dice.random() < share else "answer"](peer, heard)

    return play


async def check_tries(folder: Path, bad: Provider, good: Provider, share: float, calls: int, names: str) -> None:
    most = (1.02 if share < 0.02 else 1.10) * calls + 10
    targets = [f"bad-chat/{name}" for name in names]
    async with site(folder, bad, good, model("m", *targets)) as one:
        bad.plays = PLAYS | {"dice": failing(share)}
        bad.otherwise = "dice"
        bad.keeps = False
        answers = await crowd(one, "m", calls)
        await one.quiet()
        tries = sum(len(receipt.tries) for receipt in one.receipts())
    served = sum(answer.status == 200 for answer in answers)
    print(f"p(fail) {share:g}: {calls} calls, {bad.count} tries ({bad.count / calls:.3f} a call), {served} served")
    assert len(answers) == calls
    assert bad.count == tries, "a try that no receipt tells of"
    assert bad.count <= most * len(targets) if len(targets) > 1 else bad.count <= most
    assert served >= (1 - share) * calls * 0.9
    assert {answer.status for answer in answers} <= {200, 502, 503}


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 1.0])
async def test_a_failing_provider_is_hardly_asked_more_often_than_a_good_one(tmp_path, bad, good, share):
    await check_tries(tmp_path, bad, good, share, 400, "a")


@pytest.mark.soak
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 1.0])
async def test_five_thousand_calls_to_a_failing_provider(tmp_path, bad, good, share):
    await check_tries(tmp_path, bad, good, share, 5000, "a")


async def test_a_retry_is_never_earlier_than_the_provider_asked_for(tmp_path, bad, good):
    """In whole seconds, in fractions and in milliseconds; the next try comes after that time, and it is the same target."""
    asked = {"retry-after: 0.2": 0.2, "retry-after-ms: 150": 0.15, "retry-after: 1": 1.0}
    names = "abc"
    models = "".join(model(name, f"bad-chat/{name}") for name in names)
    async with site(tmp_path, bad, good, models) as one:
        for name, (line, wait_s) in zip(names, asked.items(), strict=True):

            async def limited(peer: Peer, heard: Heard, line: str = line) -> None:
                await say_error(peer, heard, "429 Too Many Requests", more=f"{line}\r\n")

            bad.plays = PLAYS | {"limited": limited}
            bad.queue.append("limited")
            before = len(bad.calls)
            answer = await one.ask(name, x_penstock_deadline_ms="5000")
            assert answer.status == 200
            first, second = bad.calls[before:]
            assert second.at - first.at >= wait_s
            assert second.at - first.at <= wait_s + 0.5 + one.stolen.seconds


async def test_a_wait_past_the_deadline_is_not_waited(tmp_path, bad, good):
    models = model("alone", "bad-chat/a") + model("two", "bad-chat/b", "good-chat/b")
    async with site(tmp_path, bad, good, models) as one:
        bad.otherwise = "status_429_in_seconds"
        alone = await one.ask("alone", x_penstock_deadline_ms="2000")
        two = await one.ask("two", x_penstock_deadline_ms="2000")
        assert (alone.status, two.status) == (429, 200)
        assert max(alone.took_s, two.took_s) <= 0.5 + one.stolen.seconds
        assert 28 <= int(alone.header("retry-after")) <= 31


# -- when a target is left alone --

PROBE_S = 0.4


async def pace(one: Site, name: str, seconds: float, every_s: float = 0.01) -> list[Answer]:
    """Make calls one after another for a while."""
    answers, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        answers.append(await one.ask(name))
        await asyncio.sleep(every_s)
    return answers


async def test_a_failing_target_is_left_alone_probed_and_taken_back(tmp_path, bad, good):
    models = model("m", "bad-chat/m", "good-chat/m")
    async with site(tmp_path, bad, good, models, lines=f"retries = 0\nprobe_s = {PROBE_S}\n") as one:
        assert (await one.ask("m")).text.startswith("bad-")

        bad.otherwise = "status_500"
        before, began = bad.count, time.monotonic()
        answers = [await one.ask("m") for _ in range(40)]
        opened_after = bad.count - before
        assert {answer.status for answer in answers} == {200}
        assert opened_after <= 20, "it is still asked"
        (state,) = [one for one in one.gateway.health.states(asyncio.get_running_loop().time()) if "bad" in one.target]
        assert state.breaker in {"open", "half_open"} or time.monotonic() - began > PROBE_S

        before, began = bad.count, time.monotonic()
        answers = await pace(one, "m", 3.5 * PROBE_S)
        probes, most = bad.count - before, (time.monotonic() - began) / PROBE_S + 1
        assert {answer.status for answer in answers} == {200}
        assert 1 <= probes <= most, f"{probes} probes in {time.monotonic() - began:.2f} s"

        bad.otherwise = "answer"
        healed = time.monotonic()
        while not (await one.ask("m")).text.startswith("bad-"):
            assert time.monotonic() - healed <= 1.5 * PROBE_S + one.stolen.seconds + 0.1, "it is not taken back"
            await asyncio.sleep(0.01)
        again = [await one.ask("m") for _ in range(20)]
        assert {answer.text[:4] for answer in again} == {"bad-"}


async def test_while_a_target_is_probed_the_others_answer_all_other_calls(tmp_path, bad, good):
    """A probe that stalls holds up one call, not those that come meanwhile."""
    models = model("m", "bad-chat/m", "good-chat/m")
    lines = f"retries = 0\nprobe_s = {PROBE_S}\n"
    async with site(tmp_path, bad, good, models, lines=lines) as one:
        bad.otherwise = "status_500"
        for _ in range(10):
            await one.ask("m")
        bad.otherwise = "stall_before_head"
        before = bad.count
        await asyncio.sleep(PROBE_S * 1.1)
        held = asyncio.create_task(one.ask("m"))
        await asyncio.sleep(0.05)
        assert bad.count == before + 1
        answers = await crowd(one, "m", 20, 20)
        assert {answer.text[:5] for answer in answers} == {"good-"}
        assert bad.count == before + 1
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)


@pytest.mark.parametrize("fault", ["status_400", "status_429_without_a_time", "status_529"])
async def test_what_is_the_callers_fault_or_only_says_slow_down_opens_no_breaker(tmp_path, bad, good, fault):
    async def status_400(peer: Peer, heard: Heard) -> None:
        await say_error(peer, heard, "400 Bad Request")

    models = model("m", "bad-chat/m", "good-chat/m")
    async with site(tmp_path, bad, good, models, lines="retries = 0\nprobe_s = 60\n") as one:
        bad.plays = PLAYS | {"status_400": status_400}
        bad.otherwise = fault
        answers = [await one.ask("m") for _ in range(30)]
        assert {answer.status for answer in answers} == {400 if fault == "status_400" else 200}
        assert bad.count == 30
        bad.otherwise = "answer"
        assert (await one.ask("m")).text.startswith("bad-")


async def test_the_last_target_is_never_taken_away(tmp_path, bad, good):
    async with site(tmp_path, bad, good, model("m", "bad-chat/m"), lines="retries = 0\nprobe_s = 60\n") as one:
        bad.otherwise = "status_500"
        answers = [await one.ask("m") for _ in range(30)]
        assert {answer.status for answer in answers} == {502}
        assert bad.count == 30
        bad.otherwise = "answer"
        assert (await one.ask("m")).status == 200


async def test_targets_that_fail_in_turn_and_heal_in_any_order_fail_no_call(tmp_path, bad, good):
    """Four targets; one after the other stops, they come back shuffled, and one is always well."""
    names = ["a", "b", "c", "d"]
    dice = Random(SEED)
    async with site(
        tmp_path,
        bad,
        good,
        model("m", *(f"bad-chat/{name}" for name in names)),
        lines=f"retries = 0\nprobe_s = {PROBE_S}\n",
    ) as one:
        down: set[str] = set()

        async def by_model(peer: Peer, heard: Heard) -> None:
            is_down = any(f'"model":"{name}"'.encode() in heard.body for name in down)
            await PLAYS["reset_before_head" if is_down else "answer"](peer, heard)

        bad.plays = PLAYS | {"by_model": by_model}
        bad.otherwise = "by_model"
        for _ in range(3):
            for name in dice.sample(names, 3):
                down.add(name)
                answers = await crowd(one, "m", 12, 4)
                assert {answer.status for answer in answers} == {200}, down
            for name in dice.sample(sorted(down), 3):
                down.discard(name)
                answers = await crowd(one, "m", 12, 4)
                assert {answer.status for answer in answers} == {200}, down
        await asyncio.sleep(PROBE_S * 1.1)
        for _ in range(4):
            await one.ask("m")
        again = [await one.ask("m") for _ in range(5)]
        assert {answer.header("x-penstock-target") for answer in again} == {"bad-chat/a"}, "the first is well again"


# -- past capacity --

PLACES, LATENCY_S = 5, 0.05
CAPACITY = PLACES / LATENCY_S
QUEUE_S = 0.5


async def arrivals(one: Site, per_s: float, seconds: float, **headers: str) -> list[Answer]:
    """Calls that arrive whether or not others are answered, at random moments; every one of them is waited for."""
    dice, tasks = Random(SEED), []
    began = time.monotonic()
    at = 0.0
    data = request("chat", "m", "hello", stream=False, **headers)
    while (at := at + dice.expovariate(per_s)) < seconds:
        if (wait := at - (time.monotonic() - began)) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(ask(one.server.port, data, "chat", stream=False)))
    return await asyncio.gather(*tasks)


async def healthz(one: Site, times: list[float]) -> None:
    """Ask every few milliseconds whether the gateway is alive."""
    while True:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", one.server.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        assert b"200 OK" in await reader.read()
        times.append(time.monotonic() - began)
        writer.close()
        await asyncio.sleep(0.01)


def share(times: list[float], part: float) -> float:
    return sorted(times)[int(part * (len(times) - 1))]


class Burst(NamedTuple):
    """What came of four times as many calls as can be served, and what was too slow about it."""

    answers: list[Answer]
    missed: list[str]


async def burst(one: Site) -> Burst:
    times: list[float] = []
    watching = asyncio.create_task(healthz(one, times))
    one.stolen.seconds = 0.0
    began = time.monotonic()
    answers = await arrivals(one, 4 * CAPACITY, 1.5)
    took_s, lag_s = time.monotonic() - began, one.stolen.seconds
    watching.cancel()
    served = [answer.took_s for answer in answers if answer.status == 200]
    refused = [answer.took_s for answer in answers if answer.status != 200]
    figures = {
        "goodput": (0.9 * CAPACITY * (took_s - lag_s) - PLACES, len(served)),
        "refusals, p95": (share(refused, 0.95), 0.05 + lag_s),
        "/healthz, p95": (share(times, 0.95), 0.05 + lag_s),
        "the longest wait": (max(served), QUEUE_S + 3 * LATENCY_S + 0.1 + lag_s),
    }
    print(f"{len(answers)} calls, {len(served)} served of {CAPACITY * took_s:.0f} possible, {len(refused)} refused")
    return Burst(answers, [f"{what}: {less:.3f} > {more:.3f}" for what, (less, more) in figures.items() if less > more])


async def test_past_capacity_what_fits_is_served_and_the_rest_is_refused_at_once(tmp_path, bad, good):
    """The best of three bursts: a disk or a neighbour that stops us for a moment makes one slower, and none quicker."""
    lines = f"retries = 0\nconcurrency = {PLACES}\n"
    async with site(tmp_path, bad, good, model("m", "bad-chat/m"), lines=lines, server=f"queue_s = {QUEUE_S}") as one:
        bad.latency_s = LATENCY_S
        await arrivals(one, CAPACITY / 2, 0.5)
        found = []
        for _ in range(3):
            found.append(await burst(one))
            refused = [answer for answer in found[-1].answers if answer.status != 200]
            assert bad.most_in_flight <= PLACES
            assert {answer.status for answer in refused} == {503}
            assert all(1 <= int(answer.header("retry-after")) <= 60 for answer in refused)
            if not found[-1].missed:
                break
        assert not found[-1].missed, [each.missed for each in found]

        began = time.monotonic()
        while True:
            calm = await arrivals(one, CAPACITY / 2, 0.3)
            if all(answer.status == 200 and answer.took_s < 3 * LATENCY_S + 0.1 for answer in calm):
                break
            assert time.monotonic() - began < 5, "it does not recover"
        kept = [receipt.status for receipt in one.receipts()]
        assert kept.count("ok") == bad.count, "a call that was served without a receipt"


async def test_calls_that_wait_longer_than_their_deadline_allows_are_refused_at_once(tmp_path, bad, good):
    lines = "retries = 0\nconcurrency = 1\n"
    async with site(tmp_path, bad, good, model("m", "bad-chat/m"), lines=lines) as one:
        bad.latency_s = 0.3
        await one.ask("m")  # from which it knows how long a call takes
        answers = await asyncio.gather(
            *(one.ask("m", x_penstock_deadline_ms="700") for _ in range(6)),
        )
        served = [answer for answer in answers if answer.status == 200]
        refused = [answer for answer in answers if answer.status != 200]
        assert 1 <= len(served) <= 3
        assert {answer.status for answer in refused} <= {503, 504}
        assert max(answer.took_s for answer in answers) <= 0.8 + one.stolen.seconds
        assert bad.count <= 1 + len(served) + 1, "a call that could not be in time was sent"

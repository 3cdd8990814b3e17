"""Alerts as they come out: once in the log, in the metrics and at the webhook, whoever looks and however often."""

import asyncio
import fcntl
import logging
import multiprocessing
import os
import time
from itertools import pairwise
from typing import NamedTuple

import msgspec
import pytest
from msgspec import structs

from penstock import alarms as module
from penstock.alarms import PATIENCE, SLICE, Alarms
from penstock.config import load
from penstock.errors import ConfigError, Overloaded
from penstock.settings import AlertSettings, Secret
from penstock.telemetry.metrics import Metrics
from penstock.telemetry.notices import Notice
from penstock.telemetry.told import FOLDER, LOCK

S = 1_000_000_000
DAY = 86_400 * S
START = 20_000 * DAY
QUIET = AlertSettings(burn_rate=None)


class Scope(NamedTuple):
    kind: str
    name: str


class Limit(NamedTuple):
    scope: Scope
    nano_usd: int
    window: str = "day"
    zone: str = "UTC"
    soft: bool = False


class State(NamedTuple):
    """A budget, in the shape that the ledger gives it."""

    limit: Limit
    spent_nano_usd: int
    held_nano_usd: int
    starts_ns: int
    resets_ns: int
    refused: int = 0


def standing(spent_usd, name="web", *, limit_usd=100, start=START, kind="team", held_usd=0):
    limit = Limit(Scope(kind, name), limit_usd * S)
    return State(limit, int(spent_usd * S), int(held_usd * S), start, start + DAY)


def says(settings):
    """A configuration that says so of alerts."""
    config = load(None, {})
    return structs.replace(config, alerts=settings)


class Poster:
    """The way to a webhook that takes everything."""

    def __init__(self):
        self.posted, self.configs, self.closed = [], [], 0

    def post(self, body):
        assert not self.closed
        self.posted.append(body)

    def reload(self, config):
        if config.alerts.webhook is not None:
            raise ConfigError("penstock.toml", ())
        self.configs.append(config)

    async def close(self):
        self.closed += 1


class Office:
    """One process with its alarms, on a clock that is put by hand."""

    def __init__(self, home, settings=QUIET, now_ns=START + 3600 * S):
        self.now_ns = now_ns
        self.metrics, self.poster = Metrics(), Poster()
        self.alarms = Alarms(self.poster, self.metrics, home, lambda: self.now_ns / 1e9, lambda: self.now_ns)
        self.reload(settings)

    def reload(self, settings, states=lambda _: ()):
        self.alarms.reload(says(settings), states)

    @property
    def posted(self):
        return self.poster.posted

    @property
    def notices(self):
        return [msgspec.json.decode(body, type=Notice) for body in self.posted]

    @property
    def percents(self):
        return [notice.percent for notice in self.notices]


@pytest.fixture
async def office(tmp_path):
    made = []

    def make(settings=QUIET, home=tmp_path, **options):
        made.append(Office(home, settings, **options))
        return made[-1]

    yield make
    for one in made:
        await one.alarms.close()


def test_an_alert_is_a_line_a_count_and_a_post(office, caplog):
    one = office()
    one.alarms.look([standing(81, held_usd=0.5)])
    (notice,) = one.notices

    assert (notice.event, notice.percent, notice.spent_usd, notice.held_usd) == ("budget_threshold", 80, "81", "0.5")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("penstock", logging.WARNING)
    assert record.getMessage() == f"alert budget_threshold {notice.id}: {notice.text}"
    assert len(record.getMessage().splitlines()) == 1
    assert b'penstock_alerts_total{event="budget_threshold",percent="80"} 1.0' in one.metrics.exposition()


def test_it_is_told_once_however_often_it_is_looked_at(office):
    one = office()
    for spent in (10, 55, 55, 60, 85, 99, 100, 130):
        one.alarms.look([standing(spent)])

    assert one.percents == [50, 80, 100]


def test_several_workers_tell_it_once_between_them(office, caplog):
    workers = [office() for _ in range(4)]
    for spent in (55, 85, 101):
        for one in workers:
            one.alarms.look([standing(spent), standing(spent, "app")])

    assert sorted(percent for one in workers for percent in one.percents) == [50, 50, 80, 80, 100, 100]
    assert len(caplog.records) == 6


def worker(home, start, results):
    """Look at budgets that are being spent, as one of several processes."""
    one = Office(home, AlertSettings())
    start.wait()
    for minute in range(120):
        one.now_ns = START + minute * 60 * S
        for name in ("web", "app", "ci"):
            one.alarms.look([standing(minute, name)])
        time.sleep(0.001)
    asyncio.run(one.alarms.close())
    results.put([(notice.event, notice.budget.name, notice.percent) for notice in one.notices])


def test_several_processes_that_see_the_same_spending_tell_everything_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=worker, args=(tmp_path, start, results)) for _ in range(3)]
    for process in processes:
        process.start()
    heard = [each for _ in processes for each in results.get(timeout=60)]
    for process in processes:
        process.join(10)

    thresholds = [("budget_threshold", name, percent) for name in ("web", "app", "ci") for percent in (50, 80, 100)]
    paces = [("budget_burn_rate", name, None) for name in ("web", "app", "ci")]
    assert sorted(heard, key=str) == sorted(thresholds + paces, key=str)


async def test_after_a_restart_only_what_is_new_is_told(office):
    before = office()
    before.alarms.look([standing(85)])
    await before.alarms.close()
    after = office()
    after.alarms.look([standing(90), standing(60, "app")])
    after.alarms.look([standing(100), standing(60, "app")])

    assert [(notice.budget.name, notice.percent) for notice in after.notices] == [("app", 50), ("web", 100)]


def test_what_was_passed_while_nobody_looked_is_told_at_the_start(office):
    one = office()
    one.alarms.look([standing(101)])

    assert one.percents == [100]
    assert "50 %, 80 % was passed at the same time" in one.notices[0].text


def test_a_reload_repeats_nothing(office):
    one = office()
    one.alarms.look([standing(85)])
    one.reload(AlertSettings(budget_percent=(60, 80, 95), burn_rate=None))
    one.alarms.look([standing(86)])
    one.alarms.look([standing(96)])

    assert one.percents == [80, 95]


def test_another_limit_repeats_nothing_that_still_holds_not_even_after_a_restart(office):
    one = office()
    one.alarms.look([standing(85)])
    one.alarms.look([standing(85, limit_usd=101)])
    after = office()
    after.alarms.look([standing(86, limit_usd=101)])
    after.alarms.look([standing(101, limit_usd=101)])

    assert (one.percents, after.percents) == ([80], [100])


def test_a_new_day_begins_anew(office):
    one = office()
    one.alarms.look([standing(85)])
    one.now_ns += DAY
    one.alarms.look([standing(85, start=START + DAY)])

    assert one.percents == [80, 80]
    assert len({notice.id for notice in one.notices}) == 2


def test_a_pace_is_told_again_after_it_has_calmed_down_but_not_within_the_hour_after_a_restart(office):
    burning = AlertSettings(budget_percent=(100,), burn_rate=3)
    one, spent = office(burning, now_ns=START), 0.0

    def minutes(who, count, usd):
        nonlocal spent
        for _ in range(count):
            who.now_ns += 60 * S
            spent += usd
            who.alarms.look([standing(spent)])

    minutes(one, 60, 0.5)
    assert [notice.event for notice in one.notices] == ["budget_burn_rate"]
    again = office(burning, now_ns=one.now_ns)
    minutes(again, 25, 0.5)
    assert again.notices == []
    minutes(again, 90, 0.0)
    minutes(again, 60, 0.5)
    assert [notice.event for notice in again.notices] == ["budget_burn_rate"]


# -- the memory of what was told --


def test_while_another_process_sits_on_the_memory_alerts_wait_and_then_go_out(office, tmp_path):
    one = office()
    one.alarms.look([standing(55)])
    fd = os.open(tmp_path / FOLDER / LOCK, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    one.alarms.look([standing(85)])
    assert one.percents == [50]
    os.close(fd)
    one.alarms.look([standing(85)])
    assert one.percents == [50, 80]


def test_they_do_not_wait_for_ever(office, tmp_path):
    one = office()
    one.alarms.look([standing(55)])
    fd = os.open(tmp_path / FOLDER / LOCK, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        for _ in range(PATIENCE + 3):
            one.alarms.look([standing(85)])
        assert one.percents == [50, 80]
    finally:
        os.close(fd)


def test_where_nothing_can_be_remembered_alerts_go_out_all_the_same(office, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    one = office(home=tmp_path / "file")
    for spent in (55, 55, 85, 100):
        one.alarms.look([standing(spent)])

    assert one.percents == [50, 80, 100]
    assert sum("some may be told twice" in message for message in caplog.messages) == 1


# -- metrics --


def test_the_metrics_tell_of_the_last_look(office):
    one = office(AlertSettings(budget_percent=(), burn_rate=None))
    one.alarms.look([standing(10), standing(20, "app")])
    one.alarms.look([standing(11), standing(3, "u1", kind="user")])
    text = one.metrics.exposition().decode()

    assert 'penstock_budget_spent_usd{kind="team",name="web",window="day"} 11.0' in text
    assert 'name="app"' not in text
    assert 'penstock_budgets{kind="user",window="day"} 1.0' in text


# -- the timer --


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(module, "BREATH_S", 0.001)


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - anything may be waited for
            await asyncio.sleep(0.002)


async def test_it_looks_by_itself(office, quick):
    one, spent = office(), [10]
    one.reload(QUIET, lambda _: [standing(spent[0])])
    spent[0] = 55
    await until(lambda: one.posted)
    spent[0] = 85
    await until(lambda: len(one.posted) == 2)

    assert one.percents == [50, 80]


async def test_many_budgets_are_looked_at_in_slices_with_the_loop_free_between(office, quick):
    one, turns = office(), []

    def states(_):
        for number in range(5 * SLICE + 1):
            if number % SLICE == 0:
                turns.append(time.monotonic())
            yield standing(60, f"u{number}", kind="user")

    one.reload(QUIET, states)
    await until(lambda: one.metrics.budgets.counts["user", "day"] == 5 * SLICE + 1)

    assert len(one.posted) == 5 * SLICE + 1
    assert all(later - earlier >= 0.001 for earlier, later in pairwise(turns[:6]))


async def test_a_look_takes_a_twentieth_of_the_time_at_most(office, quick):
    one, begun = office(), []

    def states(_):
        begun.append(time.monotonic())
        one.now_ns += 5_000_000  # it takes 5 ms, by the clock of these alarms
        return []

    one.reload(QUIET, states)
    await until(lambda: len(begun) >= 3)

    assert begun[1] - begun[0] >= 0.1


async def test_budgets_that_cannot_be_read_are_told_once_and_looked_at_again(office, quick, caplog):
    one, looks, stuck = office(), [], [True]

    def states(_):
        looks.append(1)
        if stuck[0]:
            raise Overloaded("Another process sits on the lock.")
        return [standing(55)]

    one.reload(QUIET, states)
    await until(lambda: len(looks) > 3)
    stuck[0] = False
    await until(lambda: one.posted)

    assert [message for message in caplog.messages if "cannot be looked at" in message] == [
        "the budgets cannot be looked at, so no alert is given out: Another process sits on the lock."
    ]


async def test_a_defect_does_not_end_the_looking(office, quick):
    one, looks, defects = office(), [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: defects.append(report["exception"]))

    def states(_):
        looks.append(1)
        if len(looks) == 1:
            raise ZeroDivisionError
        return [standing(55)]

    one.reload(QUIET, states)
    await until(lambda: one.posted)

    assert [type(defect) for defect in defects] == [ZeroDivisionError]


async def test_after_a_reload_the_budgets_are_those_of_the_new_configuration(office, quick):
    one = office()
    one.reload(QUIET, lambda _: [standing(55, f"old{number}", kind="user") for number in range(3 * SLICE)])
    await until(lambda: one.posted)
    one.reload(QUIET, lambda _: [standing(55, "new")])
    await until(lambda: one.metrics.budgets.named)

    assert [each.name for each in one.metrics.budgets.named] == ["new"]
    assert one.notices[-1].budget.name == "new"


async def test_at_the_end_it_looks_once_more_and_never_again(office, quick):
    one, spent = office(), [10]
    one.reload(QUIET, lambda _: [standing(spent[0])])
    await until(lambda: one.metrics.budgets.named)
    spent[0] = 55
    await one.alarms.close()
    assert (one.percents, one.poster.closed) == ([50], 1)
    spent[0] = 85
    await one.alarms.close()
    one.reload(QUIET, lambda _: [standing(spent[0])])
    await asyncio.sleep(0.03)

    assert (one.percents, one.poster.closed) == ([50], 1)


async def test_budgets_that_are_gone_are_forgotten(office):
    one = office()
    one.alarms.look([standing(55, f"u{number}", kind="user") for number in range(10)])
    assert len(one.alarms._watches) == 10
    one.now_ns += 2 * DAY
    one.alarms.look([standing(1, start=START + 2 * DAY)])

    assert len(one.alarms._watches) == 1


def test_a_hundred_thousand_budgets_are_looked_at_in_a_fraction_of_a_second(office, capsys):
    one = office(AlertSettings())
    budgets = [standing(number % 40, f"user{number}", kind="user") for number in range(100_000)]
    one.alarms.look(budgets)
    began = time.perf_counter()
    one.alarms.look(budgets)
    took = time.perf_counter() - began
    with capsys.disabled():
        print(f"\n    100,000 budgets: {took * 1000:.0f} ms a look, {took / 100_000 * SLICE * 1e6:.0f} us a slice")

    assert took < 2


async def test_a_configuration_whose_webhook_is_wrong_changes_nothing(office, quick):
    one = office()
    one.reload(QUIET, lambda _: [standing(55, "old")])
    with pytest.raises(ConfigError):
        one.reload(AlertSettings(webhook=Secret("x", "env:X"), budget_percent=(1,)), lambda _: [standing(55, "new")])
    await until(lambda: one.posted)

    assert [(notice.budget.name, notice.percent) for notice in one.notices] == [("old", 50)]


def test_without_a_loop_nothing_is_looked_at_by_itself(tmp_path):
    one = Office(tmp_path)
    one.alarms.look([standing(55)])

    assert one.percents == [50]
    asyncio.run(one.alarms.close())


def test_a_sample_is_the_body_of_an_alert_that_is_only_a_test():
    identity, body = module.sample(START)
    said = msgspec.json.decode(body, type=Notice)

    assert (said.id, said.test) == (identity, True)


async def test_one_that_never_heard_of_a_budget_ends_as_well(tmp_path):
    poster = Poster()
    await Alarms(poster, Metrics(), tmp_path, time.monotonic, time.time_ns).close()

    assert (poster.posted, poster.closed) == ([], 1)

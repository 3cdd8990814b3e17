"""What the supervisor does when workers come and go, without any process; `tests/e2e/test_workers.py` has the processes."""

import contextlib
import os
import signal

import msgspec
import pytest

from penstock.config import load
from penstock.errors import ConfigError, Internal, Mistake
from penstock.server import workers
from penstock.server.channel import Answer, Ask, Failed, Order, Pipe, Ready, Worker
from penstock.server.presence import servers
from penstock.server.workers import HOPELESS, PAUSES_S, NoWorker, Supervisor

CONFIG = """
[server]
workers = 2
drain_s = 5
[providers.fake]
kind = "scripted"
[models.fast]
targets = ["fake/m"]
"""


class Staff:
    """A supervisor whose workers are the test itself."""

    def __init__(self, folder, monkeypatch):
        (folder / "penstock.toml").write_text(CONFIG)
        config = load(str(folder / "penstock.toml"), {"PENSTOCK_HOME": str(folder)})
        self.now, self.killed, self.made, self.pids = 100.0, [], [], 1000
        monkeypatch.setattr(workers.time, "monotonic", lambda: self.now)
        monkeypatch.setattr("penstock.server.channel.monotonic", lambda: self.now)
        monkeypatch.setattr(workers.os, "kill", lambda *what: self.killed.append(what))
        self.boss = Supervisor(config, lambda: config, print)
        self.boss._url = "http://127.0.0.1:1"
        self.boss._spawn = self.spawn
        self.ends = {}
        for number in (1, 2):
            self.spawn(number)

    def spawn(self, number):
        self.boss._due.pop(number, None)
        (one, two), (three, four) = os.pipe(), os.pipe()
        self.pids += 1
        self.boss.workers[number] = Worker(number, self.pids, Pipe(one, four), self.boss.generation)
        self.ends[number] = Pipe(three, two)
        self.made += [self.boss.workers[number].pipe, self.ends[number]]

    def say(self, number, message):
        self.ends[number].send(message)
        self.boss._hear(self.boss.workers[number])

    def heard(self, number):
        return self.ends[number].receive()

    def die(self, number, code=-9, after_s=0.0):
        self.now += after_s
        self.boss._lost(self.boss.workers[number], code)

    def wait(self, seconds):
        self.now += seconds
        self.boss._keep_time(self.now)

    def close(self):
        for pipe in self.made:
            with contextlib.suppress(OSError):
                pipe.close()
        if self.boss.presence is not None:
            self.boss.presence.close()


@pytest.fixture
def staff(tmp_path, monkeypatch):
    one = Staff(tmp_path, monkeypatch)
    yield one
    monkeypatch.undo()
    one.close()


def test_the_server_is_announced_once_and_only_when_all_are_ready(staff, tmp_path):
    staff.say(2, Ready())
    assert staff.heard(2) == []
    assert servers(tmp_path) == []
    staff.say(1, Ready())
    assert staff.heard(1) == [Order("announce")]
    assert [one.url for one in servers(tmp_path)] == ["http://127.0.0.1:1"]
    staff.die(1, after_s=100)
    staff.wait(0)
    staff.say(1, Ready())
    assert staff.heard(1) == []


def test_a_worker_that_has_worked_is_replaced_at_once_and_one_that_dies_at_once_after_growing_pauses(staff):
    staff.say(1, Ready())
    staff.die(1, after_s=100)
    assert staff.boss._due == {1: staff.now}
    pauses = []
    for _ in range(len(PAUSES_S) + 2):
        staff.wait(max(0.0, staff.boss._due[1] - staff.now))
        assert 1 in staff.boss.workers
        staff.say(1, Ready())
        staff.die(1, after_s=0.1)
        pauses.append(round(staff.boss._due[1] - staff.now, 3))
    assert pauses == [*PAUSES_S[1:], PAUSES_S[-1], PAUSES_S[-1], PAUSES_S[-1]]
    staff.wait(5)
    staff.say(1, Ready())
    staff.die(1, after_s=100)
    assert staff.boss._due[1] == staff.now


def test_where_none_ever_comes_up_it_is_given_up(staff):
    for death in range(HOPELESS):
        assert staff.boss._failure is None
        number = 1 + death % 2
        staff.die(number, after_s=0.01)
        staff.wait(10) if death < HOPELESS - 1 else None

    assert isinstance(staff.boss._failure, NoWorker)
    assert staff.boss._endings == 1
    assert staff.boss._due == {}


def test_what_keeps_the_first_from_serving_is_the_answer_and_ends_the_others(staff):
    mistakes = (Mistake("providers.fake.path", "is not there."),)
    staff.say(1, Failed("penstock.toml", mistakes, "1 mistake"))
    staff.die(1, 1)

    assert isinstance(staff.boss._failure, ConfigError)
    assert staff.boss._failure.mistakes == mistakes
    assert staff.heard(2) == [Order("drain")]


def test_words_without_mistakes_are_passed_on(staff):
    staff.say(2, Failed("", (), "The folder cannot be made."))
    staff.die(2, 1)

    assert isinstance(staff.boss._failure, Internal)
    assert "The folder cannot be made." in str(staff.boss._failure)


def test_a_worker_that_fails_later_ends_nobody(staff, caplog):
    staff.say(1, Ready())
    staff.say(2, Failed("", (), "The disk is full."))
    staff.die(2, 1)

    assert staff.boss._failure is None
    assert "The disk is full." in caplog.text
    assert 2 in staff.boss._due


def test_what_one_asks_all_that_are_ready_answer_and_the_dead_are_left_out(staff):
    for number in (1, 2):
        staff.say(number, Ready())
        staff.heard(number)
    staff.say(2, Ask(5, "health"))
    (first,), (second,) = staff.heard(1), staff.heard(2)
    assert (first.what, second.what) == ("health", "health")
    staff.say(2, Answer(second.number, b"two"))
    assert staff.heard(2) == []
    staff.die(1)
    (answer,) = staff.heard(2)

    assert answer.number == 5
    assert msgspec.msgpack.decode(answer.data, type=dict[int, bytes]) == {2: b"two"}


def test_one_that_does_not_answer_is_not_waited_for(staff):
    for number in (1, 2):
        staff.say(number, Ready())
        staff.heard(number)
    staff.say(1, Ask(5, "metrics"))
    (_, mine) = (staff.heard(2), staff.heard(1)[0])
    staff.say(1, Answer(mine.number, b"one"))
    staff.wait(workers.ASK_S)
    (answer,) = staff.heard(1)
    staff.say(2, Answer(mine.number + 1, b"too late"))

    assert msgspec.msgpack.decode(answer.data, type=dict[int, bytes]) == {1: b"one"}
    assert staff.heard(1) == []


def test_one_that_comes_up_with_an_older_configuration_is_replaced(staff):
    staff.boss.generation = 3
    staff.say(1, Ready())

    assert staff.killed == [(staff.boss.workers[1].pid, signal.SIGTERM)]


def test_an_end_is_a_drain_then_an_end_at_once_and_then_a_kill(staff):
    staff.boss.end(patient=True)
    assert staff.heard(1) == staff.heard(2) == [Order("drain", patient=True)]
    staff.wait(5 + workers.OVERTIME_S - 0.1)
    assert staff.killed == []
    staff.boss.end(patient=False)
    assert staff.heard(1) == staff.heard(2) == [Order("end")]
    staff.die(2)
    assert staff.boss._due == {}
    staff.wait(workers.OVERTIME_S)
    assert staff.killed == [(staff.boss.workers[1].pid, signal.SIGKILL)]


def test_signals_are_what_they_are_for(staff, tmp_path):
    for number in (1, 2):
        staff.say(number, Ready())
        staff.heard(number)
    (tmp_path / "servers").mkdir(exist_ok=True)
    staff.boss._signalled(signal.SIGHUP)
    (ask,) = staff.heard(1)
    assert ask.what == "reload"
    staff.boss._signalled(signal.SIGINT)
    assert staff.heard(1) == [Order("drain")]


def test_what_a_full_pipe_does_not_take_is_kept(staff):
    worker = staff.boss.workers[1]
    staff.boss._send(worker, Answer(1, b"x" * 1_000_000))

    assert staff.boss._writing == {1}

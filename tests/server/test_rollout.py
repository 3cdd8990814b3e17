"""How a configuration reaches every worker: a supervisor of the test's own, and workers that do as they are told."""

import msgspec
import pytest

from penstock.config import load
from penstock.errors import ConfigError, Mistake
from penstock.server.channel import Worker
from penstock.server.presence import Reloaded
from penstock.server.rollout import Rollout

CONFIG = """
[server]
workers = 3
[providers.fake]
kind = "scripted"
[models.fast]
targets = ["fake/m"]
"""
WRONG = (Mistake("models.fast", "is wrong.", 5),)


class Crew:
    """Three workers; `says` has what each of them answers, and None stands for a worker that dies or says nothing."""

    def __init__(self, config):
        self.config, self.generation = config, 0
        self.workers = [Worker(number, number, None, 0) for number in (1, 2, 3)]
        self.says: dict[int, Reloaded | None] = {}
        self.asked, self.replaced, self.published = [], [], []
        self.late = []

    def ready(self):
        return list(self.workers)

    def ask(self, worker, what, told, within_s):
        assert what == "reload"
        self.asked.append(worker.number)
        self.late.append((worker, told))

    def answer(self):
        worker, told = self.late.pop(0)
        said = self.says.get(worker.number, Reloaded(True, "penstock.toml", self.wanted))
        told(worker, None if said is None else msgspec.json.encode(said))

    def answer_all(self):
        while self.late:
            self.answer()

    def replace(self, worker):
        self.replaced.append(worker.number)

    def publish(self, reloaded):
        self.published.append(reloaded)


@pytest.fixture
def read(tmp_path):
    def read(text=CONFIG):
        (tmp_path / "penstock.toml").write_text(text)
        return load(str(tmp_path / "penstock.toml"), {"PENSTOCK_HOME": str(tmp_path)})

    return read


class Run:
    """A rollout and what it told."""

    def __init__(self, read):
        self.files = [read(CONFIG.replace("fake/m", f"fake/m{number}")) for number in range(3)]
        self.before = read()
        self.crew = Crew(self.before)
        self.rollout = Rollout(self.crew, self.read)
        self.told = []

    def read(self):
        file = self.files.pop(0)
        if isinstance(file, Exception):
            raise file
        self.crew.wanted = file.hash
        return file

    def begin(self):
        self.rollout.begin(self.told.append)


@pytest.fixture
def run(read):
    return Run(read)


def test_every_worker_takes_it_over_one_after_another(run):
    wanted = run.files[0]
    run.begin()
    assert run.crew.asked == [1]
    assert run.crew.config is run.before
    run.crew.answer()
    assert run.crew.asked == [1, 2]
    assert run.crew.config is wanted
    run.crew.answer_all()

    assert run.crew.asked == [1, 2, 3]
    assert run.told == run.crew.published == [Reloaded(True, wanted.source, wanted.hash)]
    assert {worker.generation for worker in run.crew.workers} == {run.crew.generation} == {1}
    assert run.crew.replaced == []


def test_one_that_cannot_be_read_reaches_no_worker(run):
    run.files[0] = ConfigError("penstock.toml", WRONG)
    run.begin()

    (told,) = run.told
    assert (told.reloaded, told.mistakes, told.hash) == (False, WRONG, run.before.hash)
    assert run.crew.asked == []
    assert run.crew.config is run.before


def test_one_that_the_first_worker_refuses_reaches_no_other(run):
    run.crew.says[1] = Reloaded(False, "penstock.toml", run.before.hash, mistakes=WRONG)
    run.begin()
    run.crew.answer_all()

    (told,) = run.told
    assert (told.reloaded, told.mistakes) == (False, WRONG)
    assert run.crew.asked == [1]
    assert (run.crew.config, run.crew.generation, run.crew.replaced) == (run.before, 0, [])


@pytest.mark.parametrize("said", [None, Reloaded(True, "penstock.toml", "another")])
def test_a_first_worker_that_dies_or_finds_another_file_leaves_everything_as_it_was(run, said):
    run.crew.says[1] = said
    run.begin()
    run.crew.answer_all()

    (told,) = run.told
    assert not told.reloaded
    assert told.mistakes[0].suggestion == "Try again."
    assert run.crew.config is run.before
    assert run.crew.replaced == ([] if said is None else [1])


@pytest.mark.parametrize("said", [Reloaded(False, "x", "y", mistakes=WRONG), Reloaded(True, "x", "another")])
def test_a_later_worker_that_does_not_take_it_over_is_replaced_by_one_that_starts_with_it(run, said):
    wanted = run.files[0]
    run.crew.says[2] = said
    run.begin()
    run.crew.answer_all()

    assert run.told[0].reloaded
    assert run.crew.config is wanted
    assert run.crew.replaced == [2]
    assert [worker.generation for worker in run.crew.workers] == [1, 0, 1]


def test_whoever_asks_meanwhile_is_told_what_the_next_one_came_to(run):
    hashes = [file.hash for file in run.files]
    run.begin()
    run.begin()
    run.rollout.begin(None)
    assert run.crew.asked == [1]
    run.crew.answer_all()

    assert [one.hash for one in run.told] == hashes[:2]
    assert len(run.crew.published) == 2, "three asked, and the last two at the same time"


def test_where_no_worker_is_ready_those_that_start_have_it(run):
    wanted = run.files[0]
    run.crew.workers = []
    run.begin()

    assert run.told[0].reloaded
    assert (run.crew.config, run.crew.generation) == (wanted, 1)


def test_what_needs_a_restart_is_told(run, read):
    run.files[0] = read(CONFIG.replace("workers = 3", "workers = 1\nport = 9"))
    run.begin()
    run.crew.answer_all()

    assert run.told[0].restart == ("server.port", "server.workers")

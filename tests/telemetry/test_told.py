"""What was told is told once: in one process, in several, after a restart, and after a crash at any byte."""

import fcntl
import multiprocessing
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.telemetry import told as module
from penstock.telemetry.alerts import Claim
from penstock.telemetry.told import FOLDER, LOCK, TOLD, Told

NOW = 1_700_000_000
HEAD, RECORD = 24, 36


def one(name, value=80, gap=1, until=NOW + 86_400):
    return Claim(name.encode().ljust(16, b"."), value, gap, until)


@pytest.fixture
def memory(tmp_path):
    made = []

    def make():
        made.append(Told(tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_claim_is_given_once(memory):
    told = memory()

    assert told.claim([one("a"), one("b")], NOW) == (True, True)
    assert told.claim([one("a"), one("c"), one("b")], NOW) == (False, True, False)


def test_a_higher_value_may_be_claimed_and_a_lower_one_not(memory):
    told = memory()

    assert told.claim([one("a", 50), one("a", 80), one("a", 60), one("a", 100)], NOW) == (True, True, False, True)
    assert told.claim([one("a", 80)], NOW) == (False,)


def test_a_pace_may_be_claimed_again_after_its_gap(memory):
    told = memory()
    moments = [NOW, NOW + 3599, NOW + 3600, NOW + 3601]

    assert [told.claim([one("a", at, 3600)], NOW) for at in moments] == [(True,), (False,), (True,), (False,)]


def test_a_process_sees_what_another_one_claimed(memory):
    first, second = memory(), memory()

    assert (first.claim([one("a")], NOW), second.claim([one("a"), one("b")], NOW)) == ((True,), (False, True))
    assert first.claim([one("b"), one("c")], NOW) == (False, True)
    assert first.instance == second.instance != ""


def test_after_a_restart_it_is_still_known(memory):
    before = memory()
    before.claim([one("a")], NOW)
    before.close()
    after = memory()

    assert after.claim([one("a")], NOW) == (False,)
    assert after.instance == before.instance


def race(home, start, results):
    told = Told(home)
    start.wait()
    ours = []
    for number in range(100):
        verdict = None
        while verdict is None:
            verdict = told.claim([one(f"a{number}"), one(f"b{number // 10}", number, 3)], NOW)
        ours.append(verdict)
    results.put(ours)


def test_of_several_processes_that_claim_the_same_at_once_one_gets_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=race, args=(tmp_path, start, results)) for _ in range(4)]
    for process in processes:
        process.start()
    rows = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(10)

    for number in range(100):
        assert sum(row[number][0] for row in rows) == 1, number
    assert len((tmp_path / FOLDER / TOLD).read_bytes()) == HEAD + RECORD * sum(
        sum(pair) for row in rows for pair in row
    )


def test_a_lock_that_somebody_else_holds_is_for_the_next_time(memory, tmp_path):
    told = memory()
    told.claim([one("a")], NOW)
    fd = os.open(tmp_path / FOLDER / LOCK, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert told.claim([one("b")], NOW) is None
    os.close(fd)
    assert told.claim([one("b")], NOW) == (True,)


@given(st.integers(0, HEAD + 3 * RECORD), st.binary(max_size=80))
def test_a_file_that_a_crash_cut_or_spoilt_anywhere_loses_only_what_stood_there(tmp_path_factory, length, rubbish):
    home = tmp_path_factory.mktemp("home")
    told = Told(home)
    told.claim([one("a"), one("b"), one("c")], NOW)
    told.close()
    path = home / FOLDER / TOLD
    before = path.read_bytes()
    after = before[:length] + rubbish
    path.write_bytes(after)
    records = [slice(HEAD + number * RECORD, HEAD + (number + 1) * RECORD) for number in range(3)]
    is_one = len(after) >= HEAD and after[:8] == before[:8]
    told, another = Told(home), Told(home)
    again = told.claim([one("a"), one("b"), one("c")], NOW)

    assert again == tuple(not is_one or after[place] != before[place] for place in records)
    assert told.claim([one("a"), one("b"), one("c"), one("d")], NOW) == (False, False, False, True)
    assert another.claim([one("a"), one("b"), one("c"), one("d")], NOW) == (False,) * 4
    told.close()
    another.close()


def test_zeros_that_a_loss_of_power_leaves_are_no_claims(memory, tmp_path):
    path = tmp_path / FOLDER / TOLD
    memory().claim([one("a")], NOW)
    with path.open("ab") as file:
        file.write(bytes(4096))

    assert memory().claim([one("a"), Claim(bytes(16), 0, 1, 0)], NOW) == (False, True)


def test_a_file_of_another_form_is_begun_anew(memory, tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / TOLD).write_bytes(b"something else" * 100)

    assert memory().claim([one("a")], NOW) == (True,)
    assert memory().claim([one("a")], NOW) == (False,)


def test_a_file_that_is_deleted_while_it_is_used_is_made_anew(memory, tmp_path):
    told = memory()
    told.claim([one("a")], NOW)
    (tmp_path / FOLDER / TOLD).unlink()

    assert told.claim([one("a")], NOW) == (True,)
    assert memory().claim([one("a")], NOW) == (False,)


def test_what_is_over_is_left_out_once_it_is_most_of_the_file(memory, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MANY", 100)
    told, other = memory(), memory()
    path = tmp_path / FOLDER / TOLD
    told.claim([one(f"old{number}", until=NOW - 90_000) for number in range(90)], NOW - 100_000)
    other.claim([one("kept")], NOW)
    told.claim([one(f"new{number}") for number in range(8)], NOW)
    assert path.stat().st_size == HEAD + 99 * RECORD
    told.claim([one("last"), one("kept", 100)], NOW)

    assert path.stat().st_size == HEAD + 10 * RECORD
    again = [one("old1"), one("kept", 100), one("new7"), one("last")]
    assert other.claim(again, NOW) == (True, False, False, False)
    assert told.claim(again, NOW) == memory().claim(again, NOW) == (False,) * 4
    assert told.instance == other.instance
    assert [each.name for each in path.parent.iterdir() if each.name.endswith(".new")] == []


def test_a_file_in_which_most_still_counts_is_left_alone(memory, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MANY", 4)
    memory().claim([one(f"a{number}") for number in range(50)], NOW)

    assert (tmp_path / FOLDER / TOLD).stat().st_size == HEAD + 50 * RECORD


def test_a_home_that_cannot_be_written_raises(tmp_path):
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(OSError, match="alerts"):
        Told(tmp_path).claim([one("a")], NOW)


def test_only_the_owner_may_read_it(memory, tmp_path):
    memory().claim([one("a")], NOW)

    for path in (tmp_path / FOLDER, tmp_path / FOLDER / TOLD, tmp_path / FOLDER / LOCK):
        assert path.stat().st_mode & 0o077 == 0

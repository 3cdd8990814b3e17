import pytest

from penstock.errors import Internal, Overloaded
from penstock.ledger.processes import Lock, Roll, lock_of_dead


@pytest.fixture
def locks(tmp_path):
    """Two processes' locks of one file."""
    pair = Lock(tmp_path / "table"), Lock(tmp_path / "table")
    yield pair
    for lock in pair:
        lock.close()


def test_one_at_a_time_has_the_lock(locks):
    mine, yours = locks
    with mine, pytest.raises(Overloaded, match=r"sits on the lock of .*table"):
        yours.wait(0.0)
    with yours:
        pass


def test_who_waited_in_vain_does_not_wait_again_for_a_while(locks, monkeypatch):
    mine, yours = locks
    now = [100.0]
    waits = []
    monkeypatch.setattr("penstock.ledger.processes.monotonic", lambda: now[0])
    monkeypatch.setattr("penstock.ledger.processes.sleep", lambda s: waits.append(s) or now.__setitem__(0, now[0] + s))
    with mine:
        for waited, after_s in ((True, 0.0), (False, 0.0), (False, 0.5), (True, 1.0)):
            now[0] += after_s
            waits.clear()
            with pytest.raises(Overloaded) as caught:
                yours.wait(0.25)
            assert sum(waits) == (pytest.approx(0.25, abs=0.001) if waited else 0)
            assert caught.value.retry_after_s == 1.0
    yours.wait(0.25)


def test_a_lock_that_is_let_go_of_meanwhile_is_had(locks, monkeypatch):
    mine, yours = locks
    mine.wait(0.0)
    monkeypatch.setattr("penstock.ledger.processes.sleep", lambda _: mine.close())
    yours.wait(1.0)


def test_a_closed_lock_says_that_the_process_ends(locks):
    mine, _ = locks
    mine.close()
    mine.close()
    with pytest.raises(Overloaded, match="ending"):
        mine.wait(0.0)


def test_the_roll_knows_the_living_and_gives_the_lowest_free_number(tmp_path):
    (tmp_path / "notes.lock").touch()
    held = []
    for expected in (1, 2, 3):
        with Roll(tmp_path) as roll:
            lock, number = roll.take(set())
        assert (number, roll.living) == (expected, set(range(1, expected)))
        held.append(Lock(tmp_path / "other"))
        held[-1].close()
        held[-1].fd = lock
    held[1].close()
    with Roll(tmp_path) as roll:
        assert roll.living == {1, 3}
        lock, number = roll.take({2})
        assert number == 4
    assert lock_of_dead(tmp_path, 4) is None
    two = Lock(tmp_path / "other")
    two.close()
    two.fd = lock_of_dead(tmp_path, 2)
    for one in (*held, two):
        one.close()
    with Roll(tmp_path) as roll:
        assert roll.living == {4}


def test_nobody_is_given_a_number_beyond_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr("penstock.ledger.processes.MAX_PROCESSES", 3)
    with Roll(tmp_path) as roll, pytest.raises(Internal, match="More than 3 processes"):
        roll.take({1, 2, 3})

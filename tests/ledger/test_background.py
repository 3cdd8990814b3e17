from threading import Event, current_thread

from penstock.ledger.background import Background


def test_work_is_done_in_another_thread_when_it_is_asked_for_and_not_before():
    done, where = Event(), []

    def work():
        where.append(current_thread())
        done.set()

    background = Background("test-work", work)
    assert not done.wait(0.01)
    background.ask()
    assert done.wait(5)
    background.close()
    assert where[0] is not current_thread()
    assert where[0].name == "test-work"
    assert not where[0].is_alive()


def test_requests_during_a_run_lead_to_one_more_run():
    started, go_on, runs = Event(), Event(), []

    def work():
        runs.append(len(runs))
        started.set()
        assert go_on.wait(5)

    background = Background("test-work", work)
    background.ask()
    assert started.wait(5)
    started.clear()
    for _ in range(100):
        background.ask()
    go_on.set()
    assert started.wait(5)
    background.close()
    assert runs == [0, 1]


def test_a_pause_gathers_requests():
    runs, done = [], Event()

    def work():
        runs.append(1)
        done.set()

    background = Background("test-work", work, pause_s=0.02)
    for _ in range(100):
        background.ask()
    assert done.wait(5)
    background.close()
    assert runs == [1]


def test_an_end_that_comes_while_requests_are_gathered_is_not_missed():
    runs = []
    background = Background("test-work", lambda: runs.append(1), pause_s=0.02)
    background.ask()
    background.close()
    assert background._thread is None
    assert len(runs) <= 1


def test_nothing_begins_after_the_end():
    runs = []
    background = Background("test-work", lambda: runs.append(1))
    background.close()
    background.ask()
    background.close()
    assert runs == []

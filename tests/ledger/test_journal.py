import errno
import os
import stat
from pathlib import Path

import pytest

from ledger.journalling import append
from penstock.ledger.journal import LOCK, Disk, Journal, lock, take_lock
from penstock.ledger.reading import read_all, segments_of
from penstock.ledger.records import INTENT, RECEIPT, pack_intent, pack_receipt


class FailingDisk:
    """A real disk whose next writes, truncations and syncs go as the test says: an errno, or so many bytes."""

    def __init__(self):
        self.writes, self.truncates, self.syncs, self.opens = [], [], [], []
        self.synced, self.paths = {}, {}
        self.disk = Disk(open=self.open, write=self.write, truncate=self.truncate, sync=self.sync)

    def _fail(self, plan):
        if plan and plan[0] is not None and plan[0] < 0:
            number = -plan.pop(0)
            raise OSError(number, os.strerror(number))
        return plan.pop(0) if plan else None

    def open(self, path, flags):
        self._fail(self.opens)
        fd = os.open(path, flags, 0o600)
        self.paths[fd] = str(path)
        return fd

    def write(self, fd, data):
        count = self._fail(self.writes)
        return os.write(fd, data if count is None else data[:count])

    def truncate(self, fd, size):
        self._fail(self.truncates)
        os.ftruncate(fd, size)

    def sync(self, fd):
        self._fail(self.syncs)
        os.fsync(fd)
        self.synced[self.paths[fd]] = os.fstat(fd).st_size


FULL, BROKEN, TOO_MANY = -errno.ENOSPC, -errno.EIO, -errno.EMFILE


@pytest.fixture
def failing():
    return FailingDisk()


@pytest.fixture
def journal(tmp_path, failing):
    made = Journal(tmp_path, "018f-7", disk=failing.disk, power=False, segment_bytes=2000)
    yield made
    made.close(delete=False)


def open_files():
    return len(list(Path("/dev/fd").iterdir()))


def values(folder, writer="018f-7"):
    """Everything that can be read of a writer, and how many places could not."""
    readings = [reading for path in segments_of(folder, writer) for reading in read_all(path)]
    return [value for reading in readings for value in reading.values], sum(reading.corrupt for reading in readings)


def test_what_is_appended_is_in_the_file_at_once_for_this_user_alone(journal, tmp_path, make):
    intent, (row, payload) = make.intent(), pack_receipt(make.receipt())
    append(journal, INTENT, pack_intent(intent))
    append(journal, RECEIPT, payload)
    assert values(tmp_path) == ([intent, row], 0)
    (segment,) = segments_of(tmp_path, "018f-7")
    assert stat.S_IMODE(segment.stat().st_mode) == 0o600
    assert journal.written == segment.stat().st_size


def test_making_a_journal_touches_nothing(journal, tmp_path):
    journal.close(delete=True)
    assert list(tmp_path.iterdir()) == []


def test_a_short_write_is_finished(journal, failing, tmp_path, make):
    append(journal, INTENT, pack_intent(make.intent()))
    failing.writes = [5, 3]
    append(journal, INTENT, pack_intent(make.intent()))
    found, corrupt = values(tmp_path)
    assert (len(found), corrupt) == (2, 0)


@pytest.mark.parametrize("fault", [FULL, BROKEN])
def test_a_write_that_fails_leaves_nothing_behind_and_says_why(journal, failing, tmp_path, make, fault):
    append(journal, INTENT, pack_intent(make.intent()))
    size = journal.written
    for plan in ([fault], [7, fault]):
        failing.writes = plan
        with pytest.raises(OSError, match=os.strerror(-fault)):
            append(journal, INTENT, pack_intent(make.intent()))
    assert segments_of(tmp_path, "018f-7")[0].stat().st_size == size == journal.written
    append(journal, INTENT, pack_intent(make.intent()))
    found, corrupt = values(tmp_path)
    assert (len(found), corrupt) == (2, 0)


@pytest.mark.parametrize("truncates", [[], [BROKEN]])
def test_of_records_that_are_written_together_those_are_there_that_are_not_said_to_have_failed(
    tmp_path, failing, make, truncates
):
    intents, receipts = [make.intent() for _ in range(3)], [pack_receipt(make.receipt()) for _ in range(2)]
    payloads = [pack_intent(intent) for intent in intents], [payload for _, payload in receipts]
    given = [*intents, *[row for row, _ in receipts]]
    whole = sum(len(payload) + 11 for each in payloads for payload in each)
    for cut in range(1, whole, 37):
        journal = Journal(tmp_path, f"018f-{cut}", disk=failing.disk, power=False, segment_bytes=10_000)
        append(journal, INTENT, pack_intent(make.intent()))
        failing.writes, failing.truncates = [cut, FULL, None, BROKEN], truncates[:]
        failed = journal.write(*payloads)
        failing.writes, failing.truncates = [], []
        found, corrupt = values(tmp_path, f"018f-{cut}")
        assert found[1:] == [value for value, error in zip(given, failed, strict=True) if error is None]
        assert corrupt == 0 or truncates
        assert sum(error is not None for error in failed) < 3
        assert journal.write(*payloads) is None
        assert values(tmp_path, f"018f-{cut}")[0] == [*found, *given]
        assert journal.place[1] == journal.segments[0].path.stat().st_size
        journal.close(delete=True)


def test_records_that_are_written_together_are_one_write(journal, failing, tmp_path, make):
    append(journal, INTENT, pack_intent(make.intent()))
    failing.writes = [None, BROKEN]
    assert journal.write([pack_intent(make.intent())] * 5, [pack_receipt(make.receipt())[1]] * 5) is None
    assert failing.writes == [BROKEN]


def test_a_fragment_that_cannot_even_be_taken_back_costs_no_record_around_it(journal, failing, tmp_path, make):
    append(journal, INTENT, pack_intent(make.intent()))
    failing.writes, failing.truncates = [7, FULL], [BROKEN]
    with pytest.raises(OSError, match="No space"):
        append(journal, INTENT, pack_intent(make.intent()))
    assert journal.place[1] == segments_of(tmp_path, "018f-7")[0].stat().st_size
    append(journal, INTENT, pack_intent(make.intent()))
    found, corrupt = values(tmp_path)
    assert (len(found), corrupt) == (2, 1)


def test_segments_follow_one_another_and_lose_nothing(journal, tmp_path, make):
    intents = [make.intent() for _ in range(60)]
    for intent in intents:
        append(journal, INTENT, pack_intent(intent))
    assert len(segments_of(tmp_path, "018f-7")) > 2
    assert all(path.stat().st_size < 2500 for path in segments_of(tmp_path, "018f-7"))
    assert values(tmp_path) == (intents, 0)
    assert [segment.number for segment in journal.segments] == list(range(1, len(journal.segments) + 1))


@pytest.mark.parametrize("plan", ["open", "head fails", "head is short"])
def test_where_no_further_segment_can_be_begun_the_last_one_goes_on(journal, failing, tmp_path, make, plan):
    intents = [make.intent() for _ in range(40)]
    append(journal, INTENT, pack_intent(intents[0]))
    for intent in intents[1:]:
        if journal.place[1] >= journal._limit and plan == "open":
            failing.opens = [TOO_MANY]
        elif journal.place[1] >= journal._limit:
            failing.writes = [FULL if plan == "head fails" else 3]
        append(journal, INTENT, pack_intent(intent))
        failing.opens = failing.writes = []
    assert values(tmp_path) == (intents, 0)
    assert len(segments_of(tmp_path, "018f-7")) == len(journal.segments)


def test_without_any_segment_the_fault_is_the_callers_and_the_next_try_works(journal, failing, tmp_path, make):
    intent = make.intent()
    failing.writes = [FULL]
    with pytest.raises(OSError, match="No space"):
        append(journal, INTENT, pack_intent(intent))
    assert segments_of(tmp_path, "018f-7") == []
    append(journal, INTENT, pack_intent(intent))
    assert values(tmp_path) == ([intent], 0)


def test_a_segment_is_done_when_nothing_in_it_is_open_and_its_last_outcome_is_in_the_store(journal, make):
    for _ in range(60):
        append(journal, INTENT, pack_intent(make.intent()))
    first, second, *_ = journal.segments
    for segment in journal.segments:
        segment.open, segment.last = 1, 9
    first.open, first.last, second.open, second.last = 0, 5, 0, 7
    assert journal.done(4) == []
    assert journal.done(5) == [first]
    assert journal.done(7) == [second]
    for segment in journal.segments:
        segment.open = 0
    current = journal.segments[-1]
    journal.done(100)
    assert journal.segments == [current], "the one that is being written stays"


def test_closing_deletes_everything_only_when_told_so(tmp_path, make):
    for delete in (False, True):
        journal = Journal(tmp_path, f"018f-{delete}", disk=Disk(), power=False, segment_bytes=500)
        for _ in range(10):
            append(journal, INTENT, pack_intent(make.intent()))
        journal.close(delete=delete)
        assert bool(list(tmp_path.glob(f"018f-{delete}*"))) is not delete


# -- the loss of power --


def test_what_was_synced_survives_the_loss_of_everything_that_was_not(tmp_path, failing, make):
    journal = Journal(tmp_path, "018f-7", disk=failing.disk, power=True, segment_bytes=700)
    kept = [make.intent() for _ in range(20)]
    for intent in kept:
        append(journal, INTENT, pack_intent(intent))
    journal.sync()
    assert journal.synced == journal.written
    for _ in range(20):
        append(journal, INTENT, pack_intent(make.intent()))
    assert journal.synced < journal.written
    for path in segments_of(tmp_path, "018f-7"):
        os.truncate(path, failing.synced.get(str(path), 0))
    assert values(tmp_path)[0] == kept
    journal.close(delete=False)


def test_segments_that_were_left_are_synced_too_and_closed_after(tmp_path, failing, make):
    journal = Journal(tmp_path, "018f-7", disk=failing.disk, power=True, segment_bytes=300)
    before = open_files()
    for _ in range(12):
        append(journal, INTENT, pack_intent(make.intent()))
    paths = {str(path) for path in segments_of(tmp_path, "018f-7")}
    assert len(paths) > 3
    journal.sync()
    assert set(failing.synced) == paths
    journal.sync()
    assert open_files() == before + 2, "the lock and the segment that is written"
    journal.close(delete=True)


def test_a_sync_that_fails_says_so_and_promises_nothing(tmp_path, failing, make):
    journal = Journal(tmp_path, "018f-7", disk=failing.disk, power=True, segment_bytes=5000)
    append(journal, INTENT, pack_intent(make.intent()))
    failing.syncs = [BROKEN]
    with pytest.raises(OSError, match="Input/output"):
        journal.sync()
    assert journal.synced == 0
    journal.close(delete=True)


def test_syncing_a_journal_without_a_record_does_nothing(journal, failing):
    journal.sync()
    assert failing.synced == {}


# -- locks --


def test_a_lock_is_held_until_its_holder_lets_go(tmp_path):
    held = take_lock(tmp_path, "w-1")
    assert lock(tmp_path, "w-1") is None
    os.close(held)
    again = lock(tmp_path, "w-1")
    assert again is not None
    os.close(again)


def test_a_lock_that_was_deleted_while_it_was_taken_is_no_lock(tmp_path, monkeypatch):
    path = tmp_path / f"w-1{LOCK}"
    real = os.open

    def opening(name, flags, mode=0o777):
        fd = real(name, flags, mode)
        path.unlink()
        return fd

    monkeypatch.setattr("penstock.ledger.journal.os.open", opening)
    assert lock(tmp_path, "w-1") is None


def test_a_writer_whose_lock_was_deleted_takes_another(tmp_path, monkeypatch):
    path, real, times = tmp_path / f"w-1{LOCK}", os.open, []

    def opening(name, flags, mode=0o777):
        fd = real(name, flags, mode)
        times.append(fd)
        if len(times) == 1:
            path.unlink()
        return fd

    monkeypatch.setattr("penstock.ledger.journal.os.open", opening)
    held = take_lock(tmp_path, "w-1")
    assert os.path.samestat(os.fstat(held), path.stat())
    assert len(times) == 2
    os.close(held)


def test_a_folder_that_cannot_be_locked_is_an_error_and_leaves_no_file_open(tmp_path, monkeypatch):
    def refusing(fd, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("penstock.ledger.journal.fcntl.flock", refusing)
    before = open_files()
    with pytest.raises(OSError, match="No locks"):
        lock(tmp_path, "w-1")
    assert open_files() == before

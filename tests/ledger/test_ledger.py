import errno
import os
import random
import sqlite3
import stat
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from penstock.errors import Internal, Overloaded
from penstock.ledger import ledger as module
from penstock.ledger.ids import id_bytes
from penstock.ledger.journal import Disk
from penstock.ledger.ledger import Ledger
from penstock.ledger.recovery import Recovery
from penstock.ledger.store import FILE, Filter, Span, Store

EVER = Span(0, 2**62)
NOW_NS = 1_763_754_000_000_000_000


class FullDisk:
    """A disk on which writes fail while it is `full`."""

    def __init__(self):
        self.full = False
        self.disk = Disk(write=self.write)

    def write(self, fd, data):
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(fd, data)


def stored(home, by=()):
    store = Store.open(home / FILE)
    try:
        return store.sums(EVER, by)
    finally:
        store.close()


def calls(home):
    store = Store.open(home / FILE)
    try:
        return store.calls(Filter(EVER), 1_000_000)
    finally:
        store.close()


def run_calls(ledger, make, count):
    """So many calls, from intent to receipt."""
    receipts = []
    for _ in range(count):
        intent = make.intent()
        ledger.intend(intent)
        receipts.append(make.receipt(intent.started_ns, id=intent.id))
        ledger.settle(receipts[-1])
    return receipts


def files(home):
    return sorted(path.name for path in (home / "journal").iterdir())


# -- the ordinary way --


def test_a_call_goes_from_intent_to_receipt_to_store(open_ledger, home, make):
    ledger = open_ledger()
    intent = make.intent()
    ledger.intend(intent)
    assert (ledger.open_intents, ledger.backlog) == (1, 0)
    receipt = make.receipt(intent.started_ns, id=intent.id)
    ledger.settle(receipt)
    assert (ledger.open_intents, ledger.backlog) == (0, 1)
    assert ledger.store.call(id_bytes(receipt.id)) is None
    assert ledger.flush() == 0
    assert ledger.store.call(id_bytes(receipt.id)) == receipt
    ledger.close()
    assert files(home) == []
    assert calls(home) == [receipt]


def test_a_refused_call_leaves_a_receipt_without_an_intent(open_ledger, home, make):
    ledger = open_ledger()
    ledger.settle(make.receipt(status="refused", http_status=402, cost_nano_usd=0, tries=()))
    ledger.close()
    assert [call.status for call in calls(home)] == ["refused"]


def test_a_second_receipt_of_a_call_changes_nothing(open_ledger, home, make):
    ledger = open_ledger()
    (receipt,) = run_calls(ledger, make, 1)
    ledger.settle(make.receipt(id=receipt.id, cost_nano_usd=999))
    ledger.close()
    assert calls(home) == [receipt]


def test_flushing_moves_what_is_asked_in_the_order_of_settlement(open_ledger, make):
    ledger = open_ledger()
    receipts = run_calls(ledger, make, 10)
    assert ledger.flush(4) == 6
    assert ledger.store.calls(Filter(EVER), 100) == receipts[3::-1]
    assert ledger.flush(4) == 2
    assert ledger.flush(4) == 0
    assert ledger.flush(4) == 0


def test_a_ledger_that_only_reads_leaves_no_trace(open_ledger, home):
    open_ledger().close()
    assert files(home) == []


def test_everything_is_for_this_user_alone(open_ledger, home, make):
    run_calls(open_ledger(), make, 1)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "journal").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.rglob("*") if path.is_file()} == {0o600}


def test_ids_are_new_and_in_order(open_ledger):
    ledger = open_ledger()
    made = [ledger.new_id(NOW_NS) for _ in range(100)]
    assert made == sorted(set(made))


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "home").touch()
    with pytest.raises(Internal, match="cannot be made: File exists") as caught:
        Ledger.open(tmp_path / "home", now_ns=NOW_NS)
    assert "PENSTOCK_HOME" in caught.value.hint


def test_a_home_given_relative_to_the_folder_stays_where_it_was(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    ledger = Ledger.open(Path("home"), now_ns=NOW_NS)
    monkeypatch.chdir("/")
    run_calls(ledger, make, 1)
    ledger.close()
    assert len(calls(tmp_path / "home")) == 1


# -- segments --


def test_segments_go_once_their_calls_are_safe_in_the_store(open_ledger, home, make):
    ledger = open_ledger(segment_bytes=3000)
    held = make.intent()
    ledger.intend(held)
    run_calls(ledger, make, 50)
    assert len(files(home)) > 5
    while ledger.flush():
        pass
    ledger._tidying.close()
    ledger._tidy()
    first, last = [name for name in files(home) if name.endswith(".log")]
    assert first.endswith(".000001.log"), "the segment of the open call stays"
    assert last == ledger._journal.segments[-1].path.name
    ledger.settle(make.receipt(held.started_ns, id=held.id))
    ledger.close()
    assert files(home) == []
    assert stored(home)[0].calls == 51


def test_checkpoints_are_made_in_another_thread_now_and_then(open_ledger, home, make, monkeypatch):
    monkeypatch.setattr(module, "_CHECKPOINT_ROWS", 64)
    ledger = open_ledger()
    ledger._rolling.close()  # a transaction of its thread would keep a checkpoint from coming to its end
    run_calls(ledger, make, 64)
    ledger.flush(32)
    assert ledger._tidying._thread is None
    ledger.flush(32)
    ledger._tidying.close()
    copy = home / "copy.db"
    copy.write_bytes((home / FILE).read_bytes())
    opened = Store.open(copy)
    assert opened.sums(EVER, ())[0].calls == 64
    opened.close()


def test_sums_are_asked_for_with_the_first_calls_and_then_more_seldom_than_checkpoints(open_ledger, make, monkeypatch):
    monkeypatch.setattr(module, "_CHECKPOINT_ROWS", 16)
    monkeypatch.setattr(module, "_ROLLING_ROWS", 64)
    ledger = open_ledger()
    asked = {"_rolling": [], "_tidying": []}
    for name, moments in asked.items():
        getattr(ledger, name).close()
        setattr(ledger, name, Mock(ask=lambda moments=moments: moments.append(ledger._flushed)))
    run_calls(ledger, make, 200)
    while ledger.flush(8):
        pass
    assert asked == {"_rolling": [8, 64, 128, 192], "_tidying": [*range(16, 201, 16)]}


def test_a_checkpoint_that_fails_is_told_and_deletes_nothing(open_ledger, home, make, monkeypatch):
    ledger = open_ledger(segment_bytes=1000)
    run_calls(ledger, make, 10)
    while ledger.flush():
        pass
    ledger._tidying.close()
    monkeypatch.setattr(module, "checkpoint", failing_checkpoint)
    ledger._done.extend(ledger._journal.done(10**9))
    ledger._tidy()
    assert "failed" in ledger.state.trouble
    ledger.close(wait_s=0)
    assert files(home) != []
    monkeypatch.undo()
    assert open_ledger().recovered.added == 0
    assert stored(home)[0].calls == 10


def failing_checkpoint(path):
    raise Internal("The checkpoint failed.")


# -- a store that is stuck --


def test_a_store_that_is_busy_keeps_nobody_waiting_and_loses_nothing(open_ledger, home, make):
    ledger = open_ledger()
    run_calls(ledger, make, 5)
    other = sqlite3.connect(home / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.perf_counter()
    assert ledger.flush() == 5
    assert time.perf_counter() - started < 0.5
    assert ledger.state.trouble == ""
    other.execute("ROLLBACK")
    other.close()
    assert ledger.flush() == 0


def test_memory_is_bounded_while_the_store_is_stuck_and_the_rest_is_read_back(open_ledger, home, make):
    ledger = open_ledger(memory_rows=20, segment_bytes=4000)
    other = sqlite3.connect(home / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    receipts = []
    for _ in range(10):
        receipts += run_calls(ledger, make, 17)
        assert ledger.flush() == len(receipts)
    assert len(ledger._pending) == 20
    other.execute("ROLLBACK")
    other.close()
    assert [ledger.flush(16) for _ in range(2)] == [154, 150], "first what is in memory"
    assert ledger.flush(16) < 150
    while ledger.flush(16):
        receipts += run_calls(ledger, make, 1) if len(receipts) < 200 else []
    receipts += run_calls(ledger, make, 3)
    assert len(ledger._pending) == 3, "memory serves again"
    ledger.close()
    assert calls(home) == receipts[::-1]
    assert files(home) == []


def test_what_cannot_be_read_back_is_counted_and_holds_nothing_up(open_ledger, home, make):
    ledger = open_ledger(memory_rows=10, segment_bytes=3000)
    run_calls(ledger, make, 60)
    lost = ledger._journal.segments[-2]
    lost.path.unlink()
    while ledger.flush(7):
        pass
    state = ledger.state
    assert 0 < state.unreadable < 20
    assert stored(home)[0].calls == 60 - state.unreadable
    run_calls(ledger, make, 2)
    assert ledger.flush() == 0


def test_a_store_that_is_broken_is_told_until_it_works_again(open_ledger, make):
    ledger = open_ledger()
    run_calls(ledger, make, 200)
    ledger.store._execute("PRAGMA max_page_count = 12")
    assert ledger.flush(200) == 200
    assert "full" in ledger.state.trouble
    ledger.store._execute("PRAGMA max_page_count = 100000")
    assert ledger.flush(200) == 0
    assert ledger.state.trouble == ""


def test_closing_with_a_store_that_is_stuck_keeps_the_journal_for_the_next(open_ledger, home, make):
    ledger = open_ledger()
    receipts = run_calls(ledger, make, 5)
    ledger.store._execute("PRAGMA query_only = 1")
    ledger.close(wait_s=0.02)
    assert open_ledger().recovered == Recovery(journals=1, added=5)
    assert calls(home) == receipts[::-1]


# -- a disk that is full --


def test_calls_are_refused_while_their_intent_cannot_be_written(open_ledger, make):
    full = FullDisk()
    ledger = open_ledger(disk=full.disk)
    run_calls(ledger, make, 1)
    full.full = True
    with pytest.raises(Overloaded, match="The ledger cannot be written: No space left on device") as caught:
        ledger.intend(make.intent())
    assert caught.value.status == 503
    assert caught.value.retry_after_s == 5
    assert "journal" in caught.value.hint
    assert (ledger.open_intents, ledger.state.refused) == (0, 1)
    assert "No space" in ledger.state.trouble
    full.full = False
    run_calls(ledger, make, 1)


def test_a_receipt_that_finds_no_room_waits_in_memory_and_is_written_later(open_ledger, home, make):
    full = FullDisk()
    ledger = open_ledger(disk=full.disk)
    intents = [make.intent() for _ in range(3)]
    for intent in intents:
        ledger.intend(intent)
    full.full = True
    receipts = [make.receipt(intent.started_ns, id=intent.id) for intent in intents]
    for receipt in receipts:
        ledger.settle(receipt)
    assert (ledger.backlog, ledger.state.late, ledger.open_intents) == (3, 3, 3)
    full.full = False
    assert ledger.flush() == 3
    assert (ledger.state.late, ledger.open_intents) == (0, 0)
    assert ledger.flush() == 0
    ledger.close()
    assert calls(home) == receipts[::-1]
    assert files(home) == []


def test_a_receipt_that_finds_no_room_in_the_journal_goes_straight_to_the_store(open_ledger, home, make):
    full = FullDisk()
    ledger = open_ledger(disk=full.disk)
    intent = make.intent()
    ledger.intend(intent)
    full.full = True
    ledger.settle(make.receipt(intent.started_ns, id=intent.id))
    ledger.settle(make.receipt(status="refused"))
    assert ledger.flush() == 0
    assert (ledger.open_intents, ledger.backlog) == (0, 0)
    ledger.close()
    assert {call.status for call in calls(home)} == {"ok", "refused"}
    assert files(home) == []


def test_receipts_without_money_are_not_kept_without_bound_while_nothing_works(open_ledger, make):
    full = FullDisk()
    ledger = open_ledger(disk=full.disk, memory_rows=5)
    intents = [make.intent() for _ in range(4)]
    for intent in intents:
        ledger.intend(intent)
    full.full = True
    for _ in range(10):
        ledger.settle(make.receipt(status="refused"))
    for intent in intents:
        ledger.settle(make.receipt(intent.started_ns, id=intent.id))
    assert ledger.state.late == 5 + 4
    assert ledger.state.dropped == 5
    ledger.store._execute("PRAGMA query_only = 1")
    assert ledger.flush() >= 4
    ledger.store._execute("PRAGMA query_only = 0")
    while ledger.flush():
        pass
    assert sum(call.status == "ok" for call in ledger.store.calls(Filter(EVER), 100)) == 4


def test_a_late_receipt_beyond_the_bound_of_memory_is_read_back_as_well(open_ledger, home, make):
    full = FullDisk()
    ledger = open_ledger(disk=full.disk, memory_rows=4)
    run_calls(ledger, make, 9)
    intent = make.intent()
    ledger.intend(intent)
    full.full = True
    ledger.settle(make.receipt(intent.started_ns, id=intent.id))
    full.full = False
    while ledger.flush(3):
        pass
    assert stored(home)[0].calls == 10


# -- after a crash --


def test_what_a_dead_process_left_is_recovered_on_opening(open_ledger, home, make):
    ledger = open_ledger()
    receipts = run_calls(ledger, make, 3)
    ledger.flush(1)
    ledger.intend(make.intent())
    ledger._journal.close(delete=False)
    ledger._closed = True
    ledger.store.close()
    again = open_ledger()
    assert again.recovered == Recovery(journals=1, added=3, interrupted=1)
    assert {call.id for call in calls(home)} >= {receipt.id for receipt in receipts}
    after = again.recover()  # the journal stays as long as somebody, such as the keeper of sums, reads the store
    assert (after.added, after.interrupted) == (0, 0)


def test_a_reader_beside_a_living_writer_sees_what_was_flushed_and_touches_nothing(open_ledger, make):
    writer = open_ledger()
    run_calls(writer, make, 2)
    writer.intend(make.intent())
    writer.flush()
    run_calls(writer, make, 1)
    reader = open_ledger()
    assert reader.recovered == Recovery()
    assert len(reader.store.calls(Filter(EVER), 10)) == 2
    reader.close()
    assert writer.open_intents == 1
    writer.flush()
    assert len(writer.store.calls(Filter(EVER), 10)) == 3


def test_calls_that_are_open_at_the_end_become_interrupted_at_the_next_start(open_ledger, make):
    ledger = open_ledger()
    ledger.intend(make.intent())
    ledger.close()
    again = open_ledger()
    assert again.recovered == Recovery(journals=1, added=1, interrupted=1)


def test_a_closed_ledger_refuses_calls_but_still_keeps_receipts(open_ledger, home, make):
    ledger = open_ledger()
    intent = make.intent()
    ledger.intend(intent)
    ledger.close()
    with pytest.raises(Overloaded, match="closed"):
        ledger.intend(make.intent())
    receipt = make.receipt(intent.started_ns, id=intent.id)
    ledger.settle(receipt)
    ledger._journal.close(delete=False)
    assert open_ledger().recovered.interrupted == 0
    assert calls(home) == [receipt]


def test_a_journal_that_cannot_be_read_is_told(open_ledger, home, monkeypatch):
    open_ledger().close()

    def refusing(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "x.log")

    monkeypatch.setattr(module, "recover", refusing)
    with pytest.raises(Internal, match=r"x\.log cannot be recovered: Permission denied"):
        open_ledger()


def test_recovery_that_another_process_keeps_from_writing_says_so(open_ledger, home, make, monkeypatch):
    ledger = open_ledger()
    ledger.settle(make.receipt())
    ledger._journal.close(delete=False)
    ledger._closed = True
    other = sqlite3.connect(home / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    reader = Ledger(ledger.store, ledger._journal, ledger._settings, module.Ids(random.Random(1)))
    reader._journal.writer = "another"
    with pytest.raises(Internal, match="for too long"):
        reader.recover()
    other.close()
    ledger.store.close()


# -- the loss of power --


def test_under_the_policy_power_records_are_synced_soon_without_being_asked(open_ledger, make):
    ledger = open_ledger(sync="power", segment_bytes=2000)
    run_calls(ledger, make, 20)
    deadline = time.monotonic() + 5
    while ledger.state.synced < ledger.state.written and time.monotonic() < deadline:
        time.sleep(0.005)
    assert ledger.state.synced == ledger.state.written > 0
    ledger.close()


def test_a_sync_can_be_waited_for(open_ledger, make):
    ledger = open_ledger()
    run_calls(ledger, make, 1)
    assert ledger.state.synced == 0
    ledger.sync()
    assert ledger.state.synced == ledger.state.written


def test_a_sync_that_fails_in_its_thread_is_told(open_ledger, make):
    def failing(fd):
        raise OSError(errno.EIO, "Input/output error")

    ledger = open_ledger(disk=Disk(sync=failing), sync="power")
    run_calls(ledger, make, 1)
    ledger._syncing.close()
    ledger._sync()
    assert "Input/output" in ledger.state.trouble
    assert ledger.state.synced == 0

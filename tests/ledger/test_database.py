"""The file, its schema, its transactions, and what goes wrong with them; a `Store` is the connection."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from penstock.errors import Internal, Overloaded
from penstock.ledger import database, sql
from penstock.ledger.records import pack_receipt
from penstock.ledger.store import FILE, Filter, Span, Store, StoreBusy, checkpoint

EVER = Span(0, 2**62)


@pytest.fixture
def path(tmp_path):
    return tmp_path / FILE


@pytest.fixture
def opened(path):
    store = Store.open(path)
    yield store
    store.close()


def row(receipt):
    return pack_receipt(receipt)[0]


# -- the file --


def test_the_file_and_its_companions_are_for_this_user_alone(opened, path, make):
    opened.add([row(make.receipt())])
    files = list(path.parent.iterdir())
    assert {each.name for each in files} >= {FILE, f"{FILE}-wal"}
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}


def test_a_file_is_opened_again_as_it_was(path, make):
    receipt = make.receipt()
    for expected in (1, 0):
        again = Store.open(path)
        assert again.add([row(receipt)]) == expected
        again.close()


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="there is no /proc/locks: not Linux")
def test_opening_the_file_again_leaves_this_process_its_locks(opened, path):
    """POSIX: whoever closes any descriptor of a file drops all locks that its process has on that file.

    Without them another process takes itself for the last one, and deletes the log that this one goes on writing to.
    """

    files = {str(one.stat().st_ino) for one in path.parent.iterdir()}

    def locks():
        """On these files: those of other tests may come and go in the same process."""
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return sum(str(os.getpid()) in line and line[-3].rpartition(":")[2] in files for line in lines)

    opened.key_rows()
    before = locks()
    assert before
    Store.open(path).close()
    assert locks() == before


def test_what_is_written_beside_the_commands_of_other_processes_stays(opened, path, make):
    """A process that opened the file twice, and others that open it once and leave."""
    beside = Store.open(path)
    command = "import sys; from pathlib import Path; from penstock.ledger.store import Store; Store.open(Path(sys.argv[1])).close()"
    for _ in range(5):
        opened.add([row(make.receipt())])
        subprocess.run([sys.executable, "-c", command, str(path)], check=True)
    beside.close()
    again = sqlite3.connect(path)
    assert again.execute("SELECT count(*) FROM calls").fetchone() == (5,)
    again.close()


def test_a_ledger_of_a_newer_version_is_refused_and_not_changed(path):
    Store.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE name = 'schema'")
    connection.close()
    content = path.read_bytes()
    with pytest.raises(Internal, match="newer penstock: schema 99") as caught:
        Store.open(path)
    assert "Upgrade penstock" in caught.value.hint
    assert path.read_bytes() == content


def test_an_older_ledger_is_brought_up_to_date_step_by_step(path, monkeypatch, make):
    Store.open(path).close()
    steps = (
        ("CREATE TABLE notes (call_id BLOB NOT NULL, text TEXT)",),
        ("ALTER TABLE notes ADD COLUMN author TEXT", "INSERT INTO notes VALUES (x'00', 'first', 'someone')"),
    )
    newest = len(sql.MIGRATIONS) + 2
    monkeypatch.setattr(sql, "MIGRATIONS", sql.MIGRATIONS + steps)
    for _ in range(2):
        opened = Store.open(path)
        assert opened._one(sql.VERSION_OF) == newest
        assert opened._execute("SELECT author FROM notes").fetchall() == [("someone",)]
        opened.close()


def test_a_step_that_fails_leaves_the_older_ledger_as_it_was(path, monkeypatch):
    Store.open(path).close()
    steps = (("CREATE TABLE notes (text TEXT)", "INSERT INTO nowhere VALUES (1)"),)
    with monkeypatch.context() as patch:
        patch.setattr(sql, "MIGRATIONS", sql.MIGRATIONS + steps)
        with pytest.raises(Internal, match="nowhere"):
            Store.open(path)
    opened = Store.open(path)
    assert opened._one(sql.VERSION_OF) == len(sql.MIGRATIONS)
    opened.close()


def test_what_is_no_database_is_refused_with_what_to_do(path):
    path.write_text("Dear diary, " * 1000)
    with pytest.raises(Internal, match="not a database") as caught:
        Store.open(path)
    assert "PENSTOCK_HOME" in caught.value.hint


@pytest.mark.parametrize("mark", [0, 5])
def test_the_database_of_another_program_is_refused_and_not_changed(path, mark):
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id = {mark}")
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    content = path.read_bytes()
    with pytest.raises(Internal, match="another program") as caught:
        Store.open(path)
    assert "Move the file away" in caught.value.hint
    assert path.read_bytes() == content


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(Internal, match="cannot be opened: No such file") as caught:
        Store.open(tmp_path / "nowhere" / FILE)
    assert "PENSTOCK_HOME" in caught.value.hint


def test_a_file_that_may_not_be_written_is_told(path, monkeypatch):
    Store.open(path).close()
    monkeypatch.setattr(database.sqlite3, "connect", read_only(database.sqlite3.connect))
    opened = Store.open(path)
    with pytest.raises(Internal, match="readonly") as caught:
        opened.add_key(("key_1", b"h1", None, None, "", False, 5, *[None] * 7))
    opened.close()
    assert "Let this user write" in caught.value.hint


def read_only(connect):
    return lambda path, **options: connect(f"file:{path}?mode=ro", uri=True, **options)


def test_a_full_disk_is_told_and_over_once_there_is_room(opened, make):
    opened._execute("PRAGMA max_page_count = 20")
    rows = [row(make.receipt()) for _ in range(500)]
    with pytest.raises(Internal, match="full") as caught:
        opened.add(rows)
    assert "free some space" in caught.value.hint
    opened._execute("PRAGMA max_page_count = 100000")
    assert opened.add([row(make.receipt())]) == 1


# -- others --


def test_a_write_while_another_process_writes_is_refused_at_once_on_the_request_path(opened, path, make):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    opened.hurry(on=True)
    with pytest.raises(StoreBusy) as caught:
        opened.add([row(make.receipt())])
    assert isinstance(caught.value, Overloaded)
    assert opened.sums(EVER, ()) == [], "reading goes on"
    other.execute("ROLLBACK")
    assert opened.add([row(make.receipt())]) == 1
    other.close()


def test_a_patient_write_waits_for_another_process(opened, path, make):
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    letting_go = threading.Timer(0.03, lambda: other.execute("ROLLBACK"))
    letting_go.start()
    assert opened.add([row(make.receipt())]) == 1
    letting_go.join()
    other.close()


def test_a_checkpoint_makes_all_that_was_committed_safe(opened, path, make):
    opened.add([row(make.receipt()) for _ in range(50)])
    assert checkpoint(path)
    alone = path.with_name("alone.db")
    alone.write_bytes(path.read_bytes())
    copy = Store.open(alone)
    assert len(copy.calls(Filter(EVER), 100)) == 50
    copy.close()


def test_a_checkpoint_that_a_reader_holds_up_does_not_claim_to_be_whole(opened, path, make):
    opened.add([row(make.receipt())])
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM calls").fetchall()
    opened.add([row(make.receipt())])
    assert not checkpoint(path)
    reader.close()
    assert checkpoint(path)


def test_a_log_that_grew_too_large_is_begun_anew(opened, path, make, monkeypatch):
    monkeypatch.setattr(database, "_WAL_BYTES", 50_000)
    opened.add([row(make.receipt()) for _ in range(500)])
    log = path.with_name(f"{FILE}-wal")
    assert log.stat().st_size > 50_000
    assert checkpoint(path)
    assert log.stat().st_size == 0


def test_a_checkpoint_after_everyone_has_left_has_nothing_to_do(path):
    Store.open(path).close()
    assert checkpoint(path)


def test_a_checkpoint_of_what_is_no_database_is_told(path):
    path.write_text("Dear diary, " * 1000)
    with pytest.raises(Internal, match="not a database"):
        checkpoint(path)


OPENING = """
import sys
from pathlib import Path
from penstock.ledger.store import Store
sys.stdin.readline()
Store.open(Path(sys.argv[1])).close()
"""


def test_processes_that_make_the_same_file_at_once_do_not_disturb_one_another(path):
    children = [Popen([sys.executable, "-c", OPENING, str(path)], stdin=PIPE, stderr=PIPE, text=True) for _ in range(6)]
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    errors = [child.communicate(timeout=30)[1] for child in children]
    assert errors == [""] * 6
    opened = Store.open(path)
    assert opened._one(sql.VERSION_OF) == len(sql.MIGRATIONS)
    opened.close()


def test_a_mode_that_cannot_be_changed_now_is_changed_a_little_later(path, monkeypatch):
    """SQLite does not wait where several connections change the journal mode at once."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    letting_go = threading.Timer(0.03, lambda: other.execute("ROLLBACK"))
    letting_go.start()
    monkeypatch.setattr(sql, "SETTINGS", ("PRAGMA busy_timeout = 0",))
    monkeypatch.setattr(Store, "_refuse_strangers", lambda _: None)
    Store.open(path).close()
    letting_go.join()
    other.close()


def test_a_mode_that_cannot_be_changed_for_long_is_an_error(path, monkeypatch):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sql, "SETTINGS", ("PRAGMA busy_timeout = 0",))
    monkeypatch.setattr(sql, "WAIT_S", 0.02)
    monkeypatch.setattr(Store, "_refuse_strangers", lambda _: None)
    with pytest.raises(StoreBusy):
        Store.open(path)
    other.close()

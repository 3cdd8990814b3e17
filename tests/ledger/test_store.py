import sqlite3
import stat
import sys
import threading
from subprocess import PIPE, Popen

import msgspec
import pytest

from penstock.errors import Internal, Overloaded
from penstock.ledger import sql, store
from penstock.ledger.ids import id_bytes
from penstock.ledger.records import pack_receipt
from penstock.ledger.store import FILE, Filter, Span, Store, StoreBusy, checkpoint
from penstock.receipt import Attempt, Usage

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


# -- receipts --


def test_a_receipt_is_found_by_its_id_whole(opened, make):
    usage = Usage(input_tokens=3, output_tokens=2, cache_write_tokens=9, source="counted")
    receipt = make.receipt(
        dropped=("seed",),
        tries=(Attempt("a/b", status="error", retry_after_ms=5), Attempt("c/d", "retry", usage=usage)),
    )
    assert opened.add([row(receipt)]) == 1
    assert opened.call(id_bytes(receipt.id)) == receipt
    assert opened.call(bytes(16)) is None


def test_a_call_is_there_once_however_often_it_is_added_and_the_first_stays(opened, make):
    receipt = make.receipt()
    other = make.receipt(id=receipt.id, status="interrupted", cost_nano_usd=9)
    assert opened.add([row(receipt), row(make.receipt()), row(other)]) == 2
    assert opened.add([row(other), row(receipt)]) == 0
    assert opened.call(id_bytes(receipt.id)) == receipt


def test_a_batch_is_added_whole_or_not_at_all(opened, make):
    good, bad = row(make.receipt()), (b"x",)
    with pytest.raises(Internal):
        opened.add([good, bad])
    assert opened.calls(Filter(EVER), 10) == []
    assert opened.add([good]) == 1


def test_calls_are_listed_newest_first_as_far_as_asked(opened, make):
    receipts = [make.receipt() for _ in range(5)]
    opened.add([row(each) for each in receipts])
    assert opened.calls(Filter(EVER), 3) == receipts[:1:-1]
    after = Filter(EVER, after=id_bytes(receipts[2].id))
    assert opened.calls(after, 10) == receipts[:2:-1]


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        *(("team", "team"), ("feature", "feature"), ("model", "model"), ("user", "user")),
        *(("key_id", "key"), ("target", "target"), ("status", "status")),
    ],
)
def test_calls_are_filtered_by(opened, make, field, asked):
    value = "error" if field == "status" else "this"
    wanted = make.receipt(**{field: value})
    opened.add([row(each) for each in (make.receipt(), wanted, make.receipt(team=None))])
    assert opened.calls(Filter(EVER, **{asked: value}), 10) == [wanted]
    assert opened.calls(Filter(EVER, **{asked: "';--"}), 10) == []


def test_a_span_includes_its_start_and_excludes_its_end_to_the_nanosecond(opened, make):
    start = make.now()
    receipts = [make.receipt(started_ns=start + step) for step in (-1, 0, 5, 6)]
    opened.add([row(each) for each in receipts])
    assert opened.calls(Filter(Span(start, start + 6)), 10) == receipts[2:0:-1]
    assert sum(each.calls for each in opened.sums(Span(start, start + 6), ())) == 2
    assert sum(each.calls for each in opened.sums(Span(-5, 2**80), ())) == 4


def test_sums_are_by_what_is_asked_and_by_nothing_else(opened, make):
    receipts = [make.receipt(team=team, feature=feature) for team in ("a", "b", None) for feature in ("x", "y")]
    opened.add([row(each) for each in receipts])
    (all_of_it,) = opened.sums(EVER, ())
    assert (all_of_it.calls, all_of_it.cost_nano_usd, all_of_it.quarter) == (6, 9000, 0)
    assert {each.team: each.calls for each in opened.sums(EVER, ("team",))} == {"a": 2, "b": 2, None: 2}
    assert len(opened.sums(EVER, ("team", "feature"))) == 6
    assert {type(getattr(all_of_it, name)) for name in all_of_it.__struct_fields__[6:]} == {int}


@pytest.mark.parametrize("name", list(sql.SUMS_BY))
def test_sums_by_one_dimension_are_those_by_several_put_together(opened, make, name):
    fields = ("feature", "model", "team", "user", "key_id", "target")
    for value in "ab":
        opened.add([row(make.receipt(make.now() + 10**13 * ord(value), **dict.fromkeys(fields, value)))] * 2)
    opened.add([row(make.receipt(cost_nano_usd=None, cost_status="unpriced"))])
    alone = {str(each): each for each in opened.sums(EVER, (name,))}
    other = "model" if name == "team" else "team"
    for each in opened.sums(EVER, (name, other)):
        values = msgspec.structs.replace(each, **{other: None})
        assert alone.pop(str(values)) == values
    assert alone == {}


def test_calls_without_a_price_are_counted_and_add_nothing(opened, make):
    opened.add(
        [
            row(make.receipt(cost_nano_usd=None, cost_status="unpriced")),
            row(make.receipt(cost_nano_usd=5, cost_status="estimated")),
            row(make.receipt(cost_nano_usd=7, cost_status="exact")),
            row(make.receipt(cost_nano_usd=0, cost_status="free")),
        ]
    )
    (found,) = opened.sums(EVER, ())
    assert (found.calls, found.cost_nano_usd, found.unpriced, found.estimated, found.exact) == (4, 12, 1, 1, 1)
    opened.add([row(make.receipt(team="poor", cost_nano_usd=None, cost_status="unpriced"))])
    assert {each.team: each.cost_nano_usd for each in opened.sums(EVER, ("team",))}["poor"] == 0


def test_the_largest_figures_can_be_summed(opened, make):
    huge = Usage(*([2**63] * 10))
    opened.add([row(make.receipt(usage=huge, cost_nano_usd=2**80)) for _ in range(500)])
    (found,) = opened.sums(EVER, ())
    assert found.cost_nano_usd == found.input_tokens == 500 * (2**53 - 1)


# -- keys --


def test_keys_are_added_replaced_and_revoked_and_every_change_is_told(opened):
    before = opened.keys_version()
    opened.add_key(("key_1", b"h1", "web", None, "", False, 5, None, None, None, None, None))
    opened.add_key(
        ("key_2", b"h2", "web", None, "", False, 6, None, None, None, None, None), instead_of="key_1", until_ns=50
    )
    assert opened.revoke_key("key_2", 70)
    assert opened.revoke_key("key_2", 90)
    assert not opened.revoke_key("key_3", 70)
    assert [(each[0], each[7], each[8]) for each in opened.key_rows()] == [("key_1", 50, None), ("key_2", None, 70)]
    assert opened.keys_version() > before


def test_a_key_that_expires_sooner_than_its_grace_keeps_its_end(opened):
    opened.add_key(("key_1", b"h1", None, None, "", False, 5, 30, None, None, None, None))
    opened.add_key(
        ("key_2", b"h2", None, None, "", False, 6, None, None, None, None, None), instead_of="key_1", until_ns=50
    )
    assert opened.key_rows()[0][7] == 30


def test_another_connections_changes_are_noticed(opened, path, make):
    before = opened.data_version()
    assert opened.data_version() == before
    other = Store.open(path)
    other.add([row(make.receipt())])
    other.close()
    assert opened.data_version() != before


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


def test_a_ledger_from_before_keys_had_limits_keeps_its_keys_and_calls(path, monkeypatch, make):
    receipt = make.receipt()
    with monkeypatch.context() as patch:
        patch.setattr(sql, "MIGRATIONS", sql.MIGRATIONS[:1])
        former = Store.open(path)
        former.add([row(receipt)])
        former._execute("INSERT INTO keys VALUES ('key_1', x'01', 'web', NULL, 'ci', 0, 5, NULL, NULL)")
        assert former._one(sql.VERSION_OF) == 1
        former.close()
    opened = Store.open(path)
    assert opened._one(sql.VERSION_OF) == len(sql.MIGRATIONS) > 1
    old = ("key_1", b"\x01", "web", None, "ci", 0, 5, None, None, None, None, None)
    assert opened.key_rows() == [old]
    assert opened.call(id_bytes(receipt.id)) == receipt
    new = ("key_2", b"h2", None, None, "", 0, 6, None, None, 60, 1000, 2)
    opened.add_key(new, instead_of="key_1", until_ns=9)
    assert opened.key_rows() == [(*old[:7], 9, *old[8:]), new]
    opened.close()


def test_a_process_that_knows_fewer_columns_of_keys_goes_on(opened):
    opened.add_key(("key_1", b"h1", "web", None, "", 0, 5, None, None, 60, None, None))
    opened._execute("ALTER TABLE keys ADD COLUMN later TEXT")
    opened.add_key(("key_2", b"h2", "web", None, "", 0, 6, None, None, None, None, None))
    assert [each[0] for each in opened.key_rows()] == ["key_1", "key_2"]


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
    monkeypatch.setattr(store.sqlite3, "connect", read_only(store.sqlite3.connect))
    opened = Store.open(path)
    with pytest.raises(Internal, match="readonly") as caught:
        opened.add_key(("key_1", b"h1", None, None, "", False, 5, None, None, None, None, None))
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
    monkeypatch.setattr(store, "_WAL_BYTES", 50_000)
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

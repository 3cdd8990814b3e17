"""Claims and replies of idempotency keys, in a real SQLite file, by several processes."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import Internal
from penstock.ledger import idempotency
from penstock.ledger.idempotency import LEASE_S, MINE, OTHER, TAKEN, KeptReply, Replies
from penstock.ledger.store import FILE, Store, checkpoint

NS = 1_000_000_000
REPLY = KeptReply(200, ((b"content-type", b"text/plain"), (b"x-penstock-call", b"c1")), b"Hello \xff\x00")


class Clock:
    """The wall clock of all processes of a test."""

    def __init__(self):
        self.now_s = 1_000_000.0

    def __call__(self):
        return int(self.now_s * NS)


@contextmanager
def processes(home, number=1):
    """So many processes' worth of replies on one ledger, with the clock they share."""
    clock = Clock()
    home.mkdir(exist_ok=True)
    ones = [Replies(home, clock) for _ in range(number)]
    try:
        yield clock, *ones
    finally:
        for one in ones:
            one.close()


def kept(reply):
    return idempotency.Found("kept", reply)


def test_a_key_is_claimed_once_and_its_reply_found_by_all(tmp_path):
    with processes(tmp_path, 2) as (_, one, two):
        assert one.claim(b"k", b"r") is MINE
        assert two.claim(b"k", b"r") is TAKEN
        assert one.claim(b"k", b"r") is TAKEN
        assert one.keep(b"k", REPLY, 60.0)
        assert two.claim(b"k", b"r") == one.claim(b"k", b"r") == kept(REPLY)


def test_another_request_is_told_apart_while_the_call_lasts_and_afterwards(tmp_path):
    with processes(tmp_path, 2) as (_, one, two):
        one.claim(b"k", b"r")
        assert two.claim(b"k", b"other") is OTHER
        one.keep(b"k", REPLY, 60.0)
        assert two.claim(b"k", b"other") is OTHER
        assert two.claim(b"k2", b"other") is MINE


def test_what_is_released_can_be_claimed_again_also_for_another_request(tmp_path):
    with processes(tmp_path, 2) as (_, one, two):
        one.claim(b"k", b"r")
        one.release(b"k")
        assert two.claim(b"k", b"other") is MINE


def test_nobody_keeps_or_releases_what_is_not_its_own(tmp_path):
    with processes(tmp_path, 2) as (_, one, two):
        one.claim(b"k", b"r")
        assert not two.keep(b"k", REPLY, 60.0)
        two.release(b"k")
        assert two.claim(b"k", b"r") is TAKEN
        one.keep(b"k", REPLY, 60.0)
        one.release(b"k")
        assert two.claim(b"k", b"r") == kept(REPLY), "a reply is not given up"
        assert not one.keep(b"k", KeptReply(500, (), b""), 60.0)


def test_a_claim_lives_as_long_as_it_is_renewed(tmp_path):
    with processes(tmp_path, 2) as (clock, one, two):
        one.claim(b"k", b"r")
        for _ in range(10):
            clock.now_s += LEASE_S - 1
            one.renew()
        assert two.claim(b"k", b"r") is TAKEN
        clock.now_s += LEASE_S - 0.001
        assert two.claim(b"k", b"r") is TAKEN
        clock.now_s += 0.001
        assert two.claim(b"k", b"other") is MINE
        assert not one.keep(b"k", REPLY, 60.0), "it was taken for dead"
        one.renew()
        one.release(b"k")
        assert one.claim(b"k", b"r") is OTHER


def test_renewing_touches_neither_replies_nor_the_claims_of_others(tmp_path):
    with processes(tmp_path, 2) as (clock, one, two):
        one.claim(b"done", b"r")
        one.keep(b"done", REPLY, 5.0)
        two.claim(b"theirs", b"r")
        clock.now_s += 5
        one.renew()
        assert one.claim(b"done", b"r") is MINE
        clock.now_s += 5
        assert one.claim(b"theirs", b"r") is MINE


def test_a_reply_is_kept_for_its_time(tmp_path):
    with processes(tmp_path) as (clock, one):
        one.claim(b"k", b"r")
        one.keep(b"k", REPLY, 3600.0)
        clock.now_s += 3599.9
        assert one.claim(b"k", b"r") == kept(REPLY)
        assert one.claim(b"k", b"other") is OTHER
        clock.now_s += 0.2
        assert one.claim(b"k", b"other") is MINE
        one.keep(b"k", KeptReply(201, (), b"new"), 60.0)
        assert one.claim(b"k", b"other") == kept(KeptReply(201, (), b"new"))


def test_what_is_over_is_deleted_in_passing_and_overwritten(tmp_path):
    secret = os.urandom(6000)  # which no compression changes
    places = (tmp_path / FILE, tmp_path / f"{FILE}-wal")
    with processes(tmp_path) as (clock, one):
        for number in range(20):
            one.claim(b"old%d" % number, b"r")
            one.keep(b"old%d" % number, KeptReply(200, (), secret), 60.0)
        assert checkpoint(tmp_path / FILE)
        assert secret[100:200] in places[0].read_bytes(), "it was there"
        clock.now_s += 61
        for number in range(10):
            one.claim(b"new%d" % number, b"r")
    connection = sqlite3.connect(tmp_path / FILE)
    assert connection.execute("SELECT count(*) FROM idempotency WHERE status IS NOT NULL").fetchone() == (0,)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert not [place for place in places if place.exists() and secret[100:200] in place.read_bytes()]


def test_a_reply_too_long_to_be_kept_leaves_a_word(tmp_path):
    with processes(tmp_path) as (_, one):
        one.claim(b"k", b"r")
        one.keep(b"k", KeptReply(200, (), None), 60.0)
        assert one.claim(b"k", b"r") == kept(KeptReply(200, (), None))


@settings(max_examples=20, deadline=None)
@given(
    st.integers(200, 299),
    st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=50)), max_size=5),
    st.binary(max_size=5000),
)
def test_a_reply_comes_back_byte_for_byte(tmp_path_factory, status, headers, body):
    with processes(tmp_path_factory.mktemp("home")) as (_, one):
        reply = KeptReply(status, tuple(headers), body)
        one.claim(b"k", b"r")
        one.keep(b"k", reply, 60.0)
        assert one.claim(b"k", b"r") == kept(reply)


def test_replies_survive_a_restart_and_claims_do_not(tmp_path):
    with processes(tmp_path) as (_, one):
        one.claim(b"done", b"r")
        one.keep(b"done", REPLY, 60.0)
        one.claim(b"open", b"r")
    with processes(tmp_path) as (_, one):
        assert one.claim(b"done", b"r") == kept(REPLY)
        assert one.claim(b"open", b"r") is MINE


def test_the_claim_of_a_process_that_was_killed_is_taken_over(tmp_path):
    text = (
        "import sys, time\nfrom pathlib import Path\nfrom penstock.ledger.idempotency import Replies\n"
        f"one = Replies(Path(sys.argv[1]), lambda: {1_000_000 * NS})\n"
        "print(one.claim(b'k', b'r').state, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", text, str(tmp_path)], stdout=subprocess.PIPE) as there:
        assert there.stdout.readline() == b"mine\n"
        there.send_signal(signal.SIGKILL)
    with processes(tmp_path) as (clock, one):
        assert one.claim(b"k", b"r") is TAKEN
        clock.now_s += LEASE_S
        assert one.claim(b"k", b"r") is MINE


def test_of_many_at_once_one_gets_the_claim(tmp_path):
    together = threading.Barrier(8)

    def claim(key):
        one = Replies(tmp_path, Clock())
        one.claim(b"warm", b"r")
        together.wait()
        found = [one.claim(b"%s-%d" % (key, number), b"r").state for number in range(20)]
        together.wait()
        one.close()
        return found

    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(claim, [b"k"] * 8))
    for column in zip(*rows, strict=True):
        assert sorted(column) == ["mine", *["taken"] * 7]


def test_one_that_claims_in_the_same_moment_comes_second(tmp_path, monkeypatch):
    with processes(tmp_path, 2) as (_, one, two):
        one.claim(b"warm", b"r")
        transaction = one._store._transaction

        def late():
            assert two.claim(b"k", b"r") is MINE
            return transaction()

        monkeypatch.setattr(one._store, "_transaction", late)
        assert one.claim(b"k", b"r") is TAKEN


def test_long_replies_do_not_pile_up_in_the_log(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(idempotency, "checkpoint", made.append)
    monkeypatch.setattr(idempotency, "_CHECKPOINT_BYTES", 1 << 20)
    with processes(tmp_path) as (_, one):
        for number in range(25):
            one.claim(b"%d" % number, b"r")
            one.keep(b"%d" % number, KeptReply(200, (), os.urandom(100_000)), 60.0)
    assert made == [tmp_path / FILE] * 2


def test_a_ledger_that_cannot_be_used_says_so(tmp_path):
    (tmp_path / FILE).write_bytes(b"not a database" * 1000)
    one = Replies(tmp_path, Clock())
    with pytest.raises(Internal, match="cannot be used"):
        one.claim(b"k", b"r")
    one.close()


def test_the_store_is_let_go_even_where_claims_cannot_be_released(tmp_path, monkeypatch):
    one = Replies(tmp_path, Clock())
    one.claim(b"k", b"r")
    closed = []
    store = one._store

    def fail(_owner):
        raise Internal("no")

    def close(self):
        closed.append(self)

    monkeypatch.setattr(store, "release_claims", fail)
    monkeypatch.setattr(Store, "close", close)
    with pytest.raises(Internal):
        one.close()
    assert closed == [store]
    monkeypatch.undo()
    store.close()


def test_an_old_ledger_gets_the_table(tmp_path, monkeypatch):
    from penstock.ledger import sql

    with monkeypatch.context() as patch:
        patch.setattr(sql, "MIGRATIONS", sql.MIGRATIONS[:1])
        Store.open(tmp_path / FILE).close()
    with processes(tmp_path) as (_, one):
        assert one.claim(b"k", b"r") is MINE

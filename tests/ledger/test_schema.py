"""Calls of the older, wide form become narrow ones, whole and once, whatever happens on the way."""

import os
import signal
import sqlite3
import sys
import time
from subprocess import PIPE, Popen

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from ledger.test_rows import receipts as any_receipts
from penstock.errors import Internal
from penstock.ledger import sql, store
from penstock.ledger.ids import id_bytes
from penstock.ledger.schema import NARROW_CALLS
from penstock.ledger.store import FILE, Filter, Span, Store
from penstock.receipt import Usage

EVER = Span(0, 2**62)
TEXTS = (
    *("dialect", "model", "status", "key_id", "team", "feature", "user", "session", "target", "error", "error_origin"),
    *("finish_reason", "cost_status", "lane", "cache", "prompt", "config_hash"),
)
NUMBERS = ("started_ns", "http_status", "streamed", "cost_nano_usd", "ttft_us", "total_us")
TOKENS = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
RARE = (
    *("cache_write_tokens", "cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens"),
    *("accepted_prediction_tokens", "rejected_prediction_tokens"),
)


def wide(receipt):
    """The values under which a receipt stood before calls were narrow."""
    usage, tries = receipt.usage, [msgspec.structs.astuple(each) for each in receipt.tries]
    written = [(*each[:9], each[9] and msgspec.structs.astuple(each[9])[:11], *each[10:16]) for each in tries]
    values = {name: getattr(receipt, name) or "" for name in TEXTS}
    values |= {name: getattr(receipt, name) for name in NUMBERS}
    values |= {name: getattr(usage, name) for name in TOKENS}
    values["id"], values["usage_source"] = id_bytes(receipt.id), usage.source
    values["tries"] = msgspec.json.encode(written).decode()
    rare = {name: getattr(usage, name) for name in RARE if getattr(usage, name)}
    values["more"] = msgspec.json.encode(rare | ({"dropped": receipt.dropped} if receipt.dropped else {})).decode()
    return values


def of_before(receipt):
    """A receipt as it could be then: without what came later."""
    then = {"image_input_tokens": 0, "image_output_tokens": 0}
    tries = [
        msgspec.structs.replace(
            each, service_tier=None, usage=None if each.usage is None else msgspec.structs.replace(each.usage, **then)
        )
        for each in receipt.tries
    ]
    return msgspec.structs.replace(
        receipt,
        tries=tuple(tries),
        usage=msgspec.structs.replace(receipt.usage, **then),
        cache_saved_nano_usd=0,
        routing_saved_nano_usd=0,
    )


def older(path, receipts):
    """A ledger as it was before, with these receipts."""
    at = sql.MIGRATIONS.index(NARROW_CALLS)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN")
    for statements in sql.MIGRATIONS[:at]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(sql.SET_VERSION, (at,))
    connection.execute(sql.MARK)
    for receipt in receipts:
        values = wide(receipt)
        connection.execute(
            f"INSERT INTO calls ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",  # noqa: S608 - ours
            [*values.values()],
        )
    connection.execute("COMMIT")
    connection.close()


def some(make, count):
    usage = Usage(input_tokens=10, output_tokens=5, cached_input_tokens=4, cache_write_tokens=2)
    return [
        make.receipt(
            team=f"team-{number % 7}", prompt=None if number % 3 else "greet@3", usage=usage, dropped=("seed",)
        )
        for number in range(count)
    ]


def opened(path):
    found = Store.open(path)
    try:
        total = {each.team: each.calls for each in found.sums(EVER, ("team",))}
        return found.calls(Filter(EVER), 10**9)[::-1], total, found._one(sql.IS_WIDE)
    finally:
        found.close()


def counted(receipts):
    found = {}
    for receipt in receipts:
        found[receipt.team] = found.get(receipt.team, 0) + 1
    return found


def test_every_call_is_there_as_it_was(tmp_path, make, monkeypatch):
    monkeypatch.setattr(store, "_PIECE", 10)
    monkeypatch.setattr(store, "_CHECKPOINT", 2)
    receipts = some(make, 95)
    older(tmp_path / FILE, receipts)
    for _ in range(2):
        assert opened(tmp_path / FILE) == (receipts, counted(receipts), 0)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_receipts)
def test_whatever_stood_in_the_older_form_is_read_as_it_was(tmp_path_factory, receipt):
    receipt = of_before(receipt)
    path = tmp_path_factory.mktemp("wide") / FILE
    older(path, [receipt])
    found = Store.open(path)
    assert found.call(id_bytes(receipt.id)) == receipt
    found.close()


def test_a_row_from_before_a_column_existed_holds_null_there(tmp_path, make):
    receipt = make.receipt(tries=())
    older(tmp_path / FILE, [receipt])
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("UPDATE calls SET prompt = NULL, tries = NULL, more = NULL, lane = NULL")
    connection.commit()
    connection.close()
    assert opened(tmp_path / FILE)[0] == [msgspec.structs.replace(receipt, lane=None)]


def test_a_move_that_breaks_off_is_gone_on_with_and_loses_nothing(tmp_path, make, monkeypatch):
    monkeypatch.setattr(store, "_PIECE", 10)
    receipts = some(make, 95)
    older(tmp_path / FILE, receipts)
    insert, left = Store._insert, [3]

    def failing(self, rows):
        left[0] -= 1
        added = insert(self, rows)
        if left[0] < 0:
            raise Internal("the disk is full")
        return added

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_insert", failing)
        with pytest.raises(Internal, match="the disk is full"):
            Store.open(tmp_path / FILE)
    connection = sqlite3.connect(tmp_path / FILE)
    halves = [
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - ours
        for table in ("calls", "wide_calls")
    ]
    connection.close()
    assert halves == [30, 65]
    assert opened(tmp_path / FILE) == (receipts, counted(receipts), 0)


OPENING = """
import sys
from pathlib import Path
from penstock.ledger import store
store._PIECE = 5
sys.stdin.readline()
store.Store.open(Path(sys.argv[1])).close()
print("done", flush=True)
"""


def start(path):
    return Popen([sys.executable, "-c", OPENING, str(path)], stdin=PIPE, stdout=PIPE, text=True)


def test_processes_that_move_at_once_share_the_work(tmp_path, make):
    receipts = some(make, 400)
    older(tmp_path / FILE, receipts)
    children = [start(tmp_path / FILE) for _ in range(3)]
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        assert child.communicate(timeout=60)[0] == "done\n"
    assert opened(tmp_path / FILE) == (receipts, counted(receipts), 0)


def test_a_process_that_is_killed_while_it_moves_loses_nothing(tmp_path, make):
    receipts = some(make, 1500)
    older(tmp_path / FILE, receipts)
    for _ in range(3):
        child = start(tmp_path / FILE)
        child.stdin.write("\n")
        child.stdin.flush()
        watching = sqlite3.connect(tmp_path / FILE)
        before = left(watching)
        until = time.monotonic() + 20
        while left(watching) >= before and time.monotonic() < until:
            time.sleep(0.001)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        assert 0 < left(watching) < before
        watching.close()
    assert opened(tmp_path / FILE) == (receipts, counted(receipts), 0)


def left(connection):
    """How many calls stand in the older form still."""
    for table in ("wide_calls", "calls"):
        if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]:
            return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - ours
    return 0

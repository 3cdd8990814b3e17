"""The statements, run by hand against a real database, as a person would."""

import re
import sqlite3

import pytest

from penstock.ledger import sql
from penstock.ledger.records import pack_receipt
from penstock.ledger.rows import COLUMNS
from penstock.ledger.store import FILE, Store
from penstock.receipt import Attempt, Usage

STARTED_NS = 1_763_754_000_123_456_789


@pytest.fixture
def database(tmp_path, make):
    """A ledger with one call of two tries, opened by a person."""
    usage = Usage(input_tokens=812, output_tokens=120, cached_input_tokens=512, reasoning_tokens=7)
    answered = Attempt(
        *(
            "box/qwen",
            "fallback",
            "ok",
            200,
            None,
            None,
            1500,
            250,
            2500,
            usage,
            193_800,
            "exact",
            "",
            "chat-1",
            "",
            "fp_1",
        )
    )
    failed = Attempt("openai/gpt", status="error", http_status=503, error="upstream_overloaded", retry_after_ms=250)
    tries = (failed, answered)
    receipt = make.receipt(STARTED_NS, tries=tries, usage=usage, cost_nano_usd=193_800, ttft_us=312_400)
    free = make.receipt(STARTED_NS + 10**9, tries=(), cost_nano_usd=0, cost_status="free", target=None)
    unpriced = make.receipt(STARTED_NS + 2 * 10**9, tries=(), cost_nano_usd=None, cost_status="unpriced")
    dear = make.receipt(STARTED_NS + 3 * 10**9, tries=(), cost_nano_usd=120_000_000_000)
    store = Store.open(tmp_path / FILE)
    store.add([pack_receipt(each)[0] for each in (receipt, free, unpriced, dear)])
    store.close()
    connection = sqlite3.connect(tmp_path / FILE)
    connection.row_factory = sqlite3.Row
    yield connection, receipt
    connection.close()


def test_the_columns_of_calls_are_those_of_a_row_in_their_order(database):
    connection, _ = database
    assert tuple(row["name"] for row in connection.execute("PRAGMA table_info(calls)")) == COLUMNS
    assert sql.ADD_CALL.count("?") == len(COLUMNS)


def test_the_mark_in_the_file_is_the_one_that_is_looked_for(database):
    connection, _ = database
    assert connection.execute(sql.MARK_OF).fetchone()[0] == sql.APPLICATION_ID
    assert str(sql.APPLICATION_ID) in sql.MARK


def test_a_person_reads_calls_with_ids_as_text_dollars_and_iso_times(database):
    connection, receipt = database
    first, free, unpriced, dear = connection.execute("SELECT * FROM call_log ORDER BY call").fetchall()
    assert first["call"] == receipt.id
    assert first["started_at"] == "2025-11-21T19:40:00.123Z"
    assert first["cost_usd"] == "0.0001938"
    assert (first["ttft_ms"], first["total_ms"], first["tries"]) == (312.4, 812.345, 2)
    assert (free["cost_usd"], unpriced["cost_usd"], dear["cost_usd"]) == ("0", None, "120")
    assert free["tries"] == 0


def test_a_person_reads_tries_one_per_row(database):
    connection, receipt = database
    failed, answered = connection.execute("SELECT * FROM try_log ORDER BY call, n").fetchall()
    assert (failed["call"], failed["n"], failed["kind"], failed["target"]) == (receipt.id, 0, "first", "openai/gpt")
    assert (failed["status"], failed["http_status"], failed["error"]) == ("error", 503, "upstream_overloaded")
    assert (failed["retry_after_ms"], failed["input_tokens"], failed["cost_usd"]) == (250, None, None)
    assert (answered["n"], answered["kind"], answered["status"]) == (1, "fallback", "ok")
    assert (answered["started_ms"], answered["ttft_ms"], answered["total_ms"]) == (1.5, 0.25, 2.5)
    tokens = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "usage_source")
    assert tuple(answered[name] for name in tokens) == (812, 512, 120, 7, "provider")
    assert (answered["cost_usd"], answered["cost_status"]) == ("0.0001938", "exact")
    assert (answered["response_id"], answered["fingerprint"], answered["price_version"]) == ("chat-1", "fp_1", "")


def test_the_view_tries_has_a_row_per_call_and_number(database):
    connection, _ = database
    rows = connection.execute("SELECT hex(call_id), n FROM tries").fetchall()
    assert len({tuple(row) for row in rows}) == len(rows) == 2


def test_statements_take_values_as_parameters_only():
    texts = [value for value in vars(sql).values() if isinstance(value, str)]
    texts += [statement for statements in sql.MIGRATIONS for statement in statements]
    assert len(texts) > 20
    assert not [text for text in texts if re.search(r"\{[^}]*\}", text)]


def test_a_span_of_time_is_looked_up_as_a_span_of_keys(database):
    connection, _ = database
    names = re.findall(r":(\w+)", sql.SUMS + sql.CALLS)
    for statement in (sql.SUMS, sql.SUM, *sql.SUMS_BY.values(), sql.CALLS):
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", dict.fromkeys(names, 0)).fetchall()
        assert "PRIMARY KEY (id>? AND id<?)" in plan[0]["detail"]

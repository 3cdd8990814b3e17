"""The statements, run by hand against a real database, as a person would."""

import re
import sqlite3
from itertools import chain, combinations
from pathlib import Path

import msgspec
import pytest

from penstock.ledger import sql, summing
from penstock.ledger.records import pack_receipt
from penstock.ledger.rollups import NAMES
from penstock.ledger.rows import CALLER, KIND, OWN
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
    receipt = msgspec.structs.replace(receipt, cache_saved_nano_usd=500_000_000, routing_saved_nano_usd=-1_000_000_001)
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


def test_the_columns_of_the_tables_are_the_places_of_a_row_in_their_order(database):
    connection, _ = database

    def columns(table):
        return tuple(row["name"] for row in connection.execute(f"PRAGMA table_info({table})"))

    assert columns("calls") == ("id", "started_ns", "caller", "kind", *OWN)
    assert columns("callers") == ("id", *CALLER)
    assert columns("kinds") == ("id", *KIND)
    assert sql.ADD_CALL.count("?") == len(columns("calls"))
    assert sql.ADD_CALLS.count("?") == sql.TOGETHER * len(columns("calls"))
    assert sql.ADD_PLAIN_CALLS.count(",''") == 4 * sql.TOGETHER
    assert sql.ADD_PLAIN_CALLS.count("?") == sql.TOGETHER * (len(columns("calls")) - 6)


def test_the_mark_in_the_file_is_the_one_that_is_looked_for(database):
    connection, _ = database
    assert connection.execute(sql.MARK_OF).fetchone()[0] == sql.APPLICATION_ID
    assert str(sql.APPLICATION_ID) in sql.MARK


def test_a_person_reads_calls_with_ids_as_text_dollars_and_iso_times(database):
    connection, receipt = database
    dear, unpriced, free, first = connection.execute("SELECT * FROM call_log").fetchall()
    assert first["call"] == receipt.id
    assert first["started_at"] == "2025-11-21T19:40:00.123Z"
    assert first["cost_usd"] == "0.0001938"
    assert (first["ttft_ms"], first["total_ms"], first["tries"]) == (312.4, 812.345, 2)
    assert (free["cost_usd"], unpriced["cost_usd"], dear["cost_usd"]) == ("0", None, "120")
    assert free["tries"] == 0
    assert [each["cache_saved_usd"] for each in (first, free)] == ["0.5", "0"]
    assert [each["routing_saved_usd"] for each in (first, free)] == ["-1.000000001", "0"]


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


def test_a_person_reads_the_only_try_of_a_call_as_any_other(tmp_path, make):
    receipt = make.receipt(STARTED_NS)
    only = msgspec.structs.replace(
        receipt.tries[0], started_us=150, ttft_us=300, total_us=2500, response_id="chat-1", fingerprint="fp_1"
    )
    plain = msgspec.structs.replace(receipt, tries=(only,))
    written = make.receipt(STARTED_NS, tries=(only, only))
    store = Store.open(tmp_path / "other.db")
    store.add([pack_receipt(each)[0] for each in (plain, written)])
    store.close()
    connection = sqlite3.connect(tmp_path / "other.db")
    alone, first, second = connection.execute("SELECT * FROM try_log ORDER BY call, n").fetchall()
    connection.close()
    assert alone[0] == plain.id
    assert alone[1:] == first[1:]
    assert second[2:] == first[2:]


def test_the_latest_calls_are_read_without_sorting_all_of_them(database):
    connection, _ = database
    plan = connection.execute("EXPLAIN QUERY PLAN SELECT started_at, cost_usd FROM call_log LIMIT 20").fetchall()
    assert not [step["detail"] for step in plan if "TEMP B-TREE" in step["detail"]]


def test_the_view_tries_has_a_row_per_call_and_number(database):
    connection, _ = database
    rows = connection.execute("SELECT hex(call_id), n FROM tries").fetchall()
    assert len({tuple(row) for row in rows}) == len(rows) == 2


def test_what_the_page_of_the_ledger_says_can_be_asked(database):
    connection, receipt = database
    page = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text(encoding="utf-8")
    asked = re.findall(r'ledger\.db "(select .*?)"$', page, re.MULTILINE) + re.findall(
        r"```sql\n(.*?)```", page, re.DOTALL
    )
    assert len(asked) == 4
    latest, failed, _, _ = [connection.execute(statement).fetchall() for statement in asked]
    assert [row["model"] for row in latest] == ["fast"] * 4
    assert [tuple(row) for row in failed] == [(receipt.id, 0, "openai/gpt", "upstream_overloaded")]
    names = re.findall(r"^\| `(\w+)`", page.split("## Tables and views")[1].split("## Sums")[0], re.MULTILINE)
    there = {
        row["name"] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
    }
    assert {*names, "idempotency", "factors", "meta"} >= there - {"sqlite_sequence"}


def test_statements_take_values_as_parameters_only():
    texts = [value for module in (sql, summing) for value in vars(module).values() if isinstance(value, str)]
    texts += [statement for statements in sql.MIGRATIONS for statement in statements]
    assert len(texts) > 20
    assert not [text for text in texts if re.search(r"\{[^}]*\}", text)]


def test_a_span_of_time_is_looked_up_as_a_span_of_keys(database):
    connection, _ = database
    every = chain.from_iterable(combinations(NAMES, count) for count in range(len(NAMES) + 1))
    sums = [summing.sums_of_calls(by, timed=timed) for by in every for timed in (False, True)]
    for statement in (*sums, sql.CALLS, summing.COUNT_TO):
        names = re.findall(r":(\w+)", statement)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", dict.fromkeys(names, 0)).fetchall()
        details = [step["detail"] for step in plan]
        assert [each for each in details if "calls USING PRIMARY KEY (id>? AND id<?)" in each], details
        assert not [each for each in details if each.startswith("SCAN calls")]


def test_kept_sums_are_looked_up_by_way_length_and_time(database):
    connection, _ = database
    for by in ((), ("feature",), NAMES):
        statement = summing.sums_of_sums(by, timed=False)
        plan = connection.execute(
            f"EXPLAIN QUERY PLAN {statement}", dict.fromkeys(re.findall(r":(\w+)", statement), 0)
        ).fetchall()
        assert "PRIMARY KEY (dims=? AND quarters=? AND quarter>? AND quarter<?)" in plan[0]["detail"]

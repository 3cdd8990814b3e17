"""What a receipt takes on disk and what a report has to read, with calls like those of a busy company."""

import pytest
from bench.traffic import DAY_NS, FEATURES, Traffic

from penstock.ledger import reports
from penstock.ledger.periods import zone_of
from penstock.ledger.rolling import Rolling
from penstock.ledger.rows import row_of
from penstock.ledger.store import FILE, Span, Store, checkpoint

UNTIL_NS = 1_795_305_600_000_000_000  # 2026-11-22T00:00:00Z


def fill(path, traffic):
    store = Store.open(path)
    rows = [row_of(receipt) for _, receipt in traffic]
    for at in range(0, len(rows), 256):
        store.add(rows[at : at + 256])
    store.close()
    roll(path)
    checkpoint(path)
    return len(rows)


def roll(path):
    rolling = Rolling.open(path)
    rolling.roll(UNTIL_NS + DAY_NS)
    rolling.close()


@pytest.mark.parametrize("retried", [0.0, 0.2])
def test_a_receipt_takes_at_most_300_bytes_on_disk_everything_included(tmp_path, retried):
    path = tmp_path / FILE
    rows = fill(path, Traffic(50_000, UNTIL_NS, 30 * DAY_NS, retried))
    size = path.stat().st_size / rows
    print(f"{size:.1f} bytes a receipt, {1 + retried} tries each")
    assert size <= 300


def steps(path, span, by):
    """How much SQLite's machine does for a report, in tens of instructions."""
    store, done = Store.open(path), [0]

    def step():
        done[0] += 1
        return 0

    store._db.set_progress_handler(step, 10)
    found = reports.spend(store, span, by, zone_of("UTC"))
    store.close()
    return done[0], found


@pytest.mark.parametrize("by", [(), ("feature",), ("user",), ("feature", "model", "hour"), ("prompt", "day")])
def test_what_a_report_costs_does_not_depend_on_the_calls_outside_its_span(tmp_path, by):
    day = Span(UNTIL_NS - DAY_NS, UNTIL_NS)
    few, many = tmp_path / "few.db", tmp_path / "many.db"
    fill(few, Traffic(500, UNTIL_NS, DAY_NS))
    fill(many, Traffic(500, UNTIL_NS, DAY_NS))
    fill(many, Traffic(20_000, UNTIL_NS - 2 * DAY_NS, 20 * DAY_NS))
    (alone, expected), (among, found) = steps(few, day, by), steps(many, day, by)
    print(f"{by}: {alone} among 500 calls, {among} among 20,500")
    assert found == expected
    assert among <= alone * 1.1 + 5


def test_what_a_report_of_kept_sums_costs_does_not_depend_on_the_calls_in_it(tmp_path):
    span = Span(UNTIL_NS - 10 * DAY_NS, UNTIL_NS)
    few, many = tmp_path / "few.db", tmp_path / "many.db"
    fill(few, Traffic(8_000, UNTIL_NS, 10 * DAY_NS))
    fill(many, Traffic(40_000, UNTIL_NS, 10 * DAY_NS))
    (small, _), (large, found) = steps(few, span, ("feature",)), steps(many, span, ("feature",))
    print(f"{small} for 8,000 calls, {large} for 40,000")
    assert found.total.calls == 40_000
    assert {row.feature for row in found.rows} == set(FEATURES)
    assert large <= small * 1.1 + 5

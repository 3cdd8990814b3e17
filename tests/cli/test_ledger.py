"""The moments that people type, and what a reading command does to a ledger that a dead process left."""

import os
import signal
import time

import pytest

from penstock.cli.ledger import open_store, read_span
from penstock.config import load
from penstock.errors import InvalidRequest
from penstock.ledger.store import Filter, Span

DAY_NS = 86_400 * 10**9


def test_a_span_goes_up_to_now_unless_it_has_an_end():
    before = time.time_ns()
    span = read_span("24h", None)
    after = time.time_ns()

    assert before <= span.until_ns <= after
    assert span.until_ns - span.since_ns == DAY_NS


def test_days_are_those_of_the_zone():
    utc = read_span("2026-01-01", "2026-01-02", "UTC")
    berlin = read_span("2026-01-01", "2026-01-02", "Europe/Berlin")

    assert utc.until_ns - utc.since_ns == berlin.until_ns - berlin.since_ns == DAY_NS
    assert utc.since_ns - berlin.since_ns == DAY_NS // 24


@pytest.mark.parametrize(
    ("since", "until", "zone"),
    [
        ("soon", None, "UTC"),
        ("today", "later", "UTC"),
        ("today", None, "Mars/Base"),
        ("2026-02-01", "2026-01-01", "UTC"),
    ],
)
def test_what_is_no_span_is_refused(since, until, zone):
    with pytest.raises(InvalidRequest):
        read_span(since, until, zone)


def test_reading_first_settles_what_a_dead_process_left(process, folder):
    one = process("ask", "slow")
    while one.stdout.read(1) != "e":
        pass
    os.kill(one.pid, signal.SIGKILL)
    one.wait()

    with open_store(load()) as store:
        now_ns = time.time_ns()
        (receipt,) = store.calls(Filter(Span(now_ns - DAY_NS, now_ns)), 10)

    assert receipt.status == "interrupted"

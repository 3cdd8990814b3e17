"""The end of accounts: what is known of a reply that was cut, what cost more than was held, and who learns from it."""

from math import inf

from msgspec import structs
from tests.test_accounting import CALL, HELD, WEB, accounts
from tests.test_growth import Reply

from penstock.closing import TARGETS, _completed
from penstock.inflight import InFlight
from penstock.live_try import LiveTry
from penstock.receipt import Receipt, Settled, Usage
from penstock.reply import TextDelta, UsageReported
from penstock.target import Target

__all__ = ["accounts"]


def test_what_was_reported_midway_and_what_passed_since_are_added_up():
    meter = LiveTry(Target("a/m", "a", "m", "chat"), "first", 0.0).meter
    meter.observe((UsageReported(Usage(1000, 3, cached_input_tokens=900)), TextDelta("word" * 50)))
    assert _completed(meter, Usage(7, 50, source="counted")) == Usage(
        1000, 53, cached_input_tokens=900, source="counted"
    )
    meter.observe((UsageReported(Usage(1000, 60)), TextDelta("word" * 50)))
    assert _completed(meter, Usage(7, 101, source="estimated")) == Usage(1000, 60 + 51, source="estimated")


def test_a_report_without_an_input_leaves_that_to_the_count():
    meter = LiveTry(Target("a/m", "a", "m", "chat"), "first", 0.0).meter
    meter.observe((UsageReported(Usage(0, 1)), TextDelta("word")))
    assert _completed(meter, Usage(7, 1, source="estimated")) == Usage(7, 2, source="estimated")


def test_a_call_that_cost_more_than_was_held_is_logged_once_per_target_and_counted(accounts, caplog):
    reply = Reply(10**9)
    accounts._reservations = reply.reservations
    receipt = Receipt("id", 0, "chat", "m", "ok", 200, target="a/m", cost_nano_usd=HELD + 1)
    accounts._books, accounts._ledger = structs.replace(accounts._books, flusher=Flushes()), Flushes.ledger
    accounts._deadlines = Forgetful()

    def book(receipt):
        reply.flight.settled = Settled("id", "ok", None, receipt.cost_nano_usd, 0, lambda _: receipt, None)
        accounts._book(reply.flight, None, 0.0)

    for _ in range(2):
        book(receipt)
    assert accounts.outgrown == {"a/m": 2}
    (line,) = [record.message for record in caplog.records]
    assert "cost 0.001000001 USD, more than the 0.001" in line
    assert reply.state == (HELD + 1, 0), "never clipped"
    book(structs.replace(receipt, cost_nano_usd=HELD))
    accounts.again(reply.flight)
    book(structs.replace(receipt, cost_nano_usd=2 * HELD))
    assert accounts.outgrown == {"a/m": 2}, "two tries were held for"


class Learning:
    """Cares for a target from a moment on, and notes whom it was shown."""

    def __init__(self):
        self.at, self.seen = {}, []

    def settled(self, flight, now):
        self.seen.append((flight.tries[0].target.id, now))

    def next_at(self, target):
        return self.at.get(target.id, 0.0)


def test_the_calibration_is_shown_the_calls_that_may_teach_it_something(accounts):
    learning = Learning()
    accounts._books = structs.replace(accounts._books, flusher=Flushes(), calibration=learning)
    accounts._ledger, accounts._deadlines = Flushes.ledger, Forgetful()

    def book(name, now, written=((), ())):
        flight = InFlight("id", 0, 0.0, CALL, WEB)
        flight.tries.append(LiveTry(Target(name, "a", "m", "chat"), "first", 0.0))
        flight.settled = Settled("id", "ok", None, 0, 0, lambda _: None, None, Receipt("id", 0, "chat", "m", "ok", 200))
        accounts._book(flight, written, now)

    for name in ("a", "b", "a"):
        book(name, 1.0)
    assert learning.seen == [("a", 1.0), ("b", 1.0), ("a", 1.0)]
    learning.at, learning.seen = {"a": inf, "b": 5.0}, []
    for now in (2.0, 3.0, 4.9, 5.0, 6.0):
        book("a", now)
        book("b", now)
    assert learning.seen == [("a", 2.0), ("b", 2.0), ("b", 5.0), ("b", 6.0)]
    book("a", 6.0, None)
    assert learning.seen[-1] == ("a", 6.0), "one that is not ordinary may have had other targets"
    for number in range(2 * TARGETS):
        book(str(number), 7.0)
    assert len(accounts._learns_at) <= TARGETS


class Ledger:
    def settle_row(self, call_id, row):
        pass

    def settle(self, receipt):
        pass


class Flushes:
    ledger = Ledger()
    timer = None

    def soon(self):
        pass


class Forgetful:
    def forget(self, flight):
        pass

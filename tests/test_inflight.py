"""A call while it lasts, and the receipt that it becomes."""

from itertools import product

import pytest

from penstock.call import Call, Content, Sampling, Who
from penstock.errors import (
    BudgetExhausted,
    ClientClosed,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    NoTarget,
    Overloaded,
    RateLimited,
    UpstreamAuth,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from penstock.execute import LiveTry
from penstock.inflight import BYTES_PER_TOKEN, STATIC, InFlight, opening, rough, static_events
from penstock.receipt import Usage
from penstock.reply import Finished, Opening, Started, TextDelta, UsageReported, fold
from penstock.routing.attempts import Try
from penstock.target import Price, Rates, Target

DAY = "2026-11-21"
CALL = Call(dialect="chat", model="fast", sampling=Sampling(), read=lambda: Content(()), stream=True)
WHO = Who(key_id="key_1", team="web", feature="demo", user="u" * 16, session="s1")
PRICE = Price("2026-01-01", Rates(input=1_000_000_000, output=2_000_000_000))  # 1000 and 2000 nano-dollars per token
PRICED = Target("a/one", "a", "one", "chat", prices=(PRICE,))
UNPRICED = Target("b/two", "b", "two", "chat")
FREE = Target("c/three", "c", "three", "chat", free=True)
GUESS = Usage(30, 4, source="estimated")
COUNT = Usage(30, 4, source="counted")


class Reply:
    """What is seen of an exchange."""

    def __init__(self, lane="verbatim", dropped=(), status=200):
        self.lane, self.dropped, self.status = lane, dropped, status
        self.closed = 0

    def close(self):
        self.closed += 1


def begun(began=100.0):
    return InFlight("019aa7ee-3e80-7000-8000-000000000000", 1_700_000_000_000_000_000, began, CALL, WHO)


def tried(target=PRICED, kind="first", began=100.5, *, reply=None, events=(), first_at=None):
    live = LiveTry(Try(target, kind), began)
    live.exchange = reply
    live.first_at = first_at
    live.meter.observe(tuple(events))
    return live


def closed(flight, now=103.0, guess=GUESS):
    return flight.close(now, DAY, lambda *_: guess, "c0ffee")


def test_an_answered_call_tells_who_what_when_and_how_much():
    flight = begun()
    reply = Reply(dropped=("seed",))
    events = (
        Started("r1", "one-2025", fingerprint="fp"),
        TextDelta("x"),
        Finished("stop"),
        UsageReported(Usage(10, 5, 2)),
    )
    flight.tries = [tried(reply=reply, events=events, first_at=101.25)]
    receipt = closed(flight)

    assert receipt is flight.receipt
    assert (receipt.id, receipt.started_ns) == (flight.id, 1_700_000_000_000_000_000)
    assert (receipt.dialect, receipt.model, receipt.streamed) == ("chat", "fast", True)
    assert (receipt.key_id, receipt.team, receipt.feature) == ("key_1", "web", "demo")
    assert (receipt.user, receipt.session) == ("u" * 16, "s1")
    assert (receipt.status, receipt.http_status, receipt.target) == ("ok", 200, "a/one")
    assert (receipt.error, receipt.error_origin, receipt.finish_reason) == (None, None, "stop")
    assert (receipt.usage, receipt.cost_nano_usd, receipt.cost_status) == (Usage(10, 5, 2), 20_000, "exact")
    assert (receipt.ttft_us, receipt.total_us) == (1_250_000, 3_000_000)
    assert (receipt.lane, receipt.dropped, receipt.cache, receipt.prompt) == ("verbatim", ("seed",), "none", None)
    assert receipt.config_hash == "c0ffee"
    (row,) = receipt.tries
    assert (row.target, row.kind, row.status, row.http_status) == ("a/one", "first", "ok", 200)
    assert (row.started_us, row.ttft_us, row.total_us) == (500_000, 750_000, 2_500_000)
    assert (row.response_id, row.response_model, row.fingerprint) == ("r1", "one-2025", "fp")
    assert (row.cost_nano_usd, row.cost_status, row.price_version) == (20_000, "exact", "2026-01-01")
    assert reply.closed == 1


def test_a_call_that_was_never_tried_has_neither_target_nor_cost():
    flight = begun()
    flight.fail("refused", RateLimited("slow down"))
    receipt = closed(flight)

    assert (receipt.status, receipt.http_status, receipt.error) == ("refused", 429, "rate_limit_exceeded")
    assert (receipt.target, receipt.lane, receipt.ttft_us, receipt.finish_reason) == (None, None, None, None)
    assert (receipt.usage, receipt.cost_nano_usd, receipt.cost_status) == (Usage(source="none"), 0, "free")
    assert receipt.tries == ()


def test_the_first_word_on_how_a_call_ended_counts():
    flight = begun()
    flight.fail("error", UpstreamFailed("cut"))
    flight.fail("cancelled", ClientClosed("gone"))

    assert (closed(flight).status, closed(flight).error) == ("error", "upstream_failed")


@pytest.mark.parametrize(("status", "row"), [("cancelled", "cancelled"), ("error", "error"), ("refused", "error")])
def test_a_try_that_is_open_ends_as_the_call_does(status, row):
    flight = begun()
    reply = Reply(dropped=("seed",))
    flight.tries = [tried(reply=reply, events=(TextDelta("x"),), first_at=101.0)]
    flight.fail(status, ClientClosed("gone"))
    receipt = closed(flight)

    assert receipt.tries[0].status == row
    assert receipt.tries[0].total_us == 2_500_000
    assert receipt.usage == GUESS
    assert receipt.cost_status == "estimated"
    assert receipt.dropped == ()
    assert reply.closed == 1


def test_a_try_that_ended_before_keeps_its_end():
    flight = begun()
    first = tried(reply=Reply(status=200))
    first.end("error", 101.0, UpstreamRateLimited("slow", retry_after_s=1.5))
    flight.tries = [first, tried(kind="retry", began=102.0, reply=Reply(), events=(UsageReported(Usage(1, 1)),))]
    receipt = closed(flight)

    assert [(row.kind, row.status, row.error) for row in receipt.tries] == [
        ("first", "error", "upstream_rate_limited"),
        ("retry", "ok", None),
    ]
    assert receipt.tries[0].retry_after_ms == 1500
    assert receipt.tries[0].total_us == 500_000
    assert receipt.tries[1].retry_after_ms is None


# -- who is billed for what --


def ended(error, *, reply=None, target=PRICED, worked=False, events=()):
    live = tried(target, reply=reply, events=events)
    error.worked = worked
    live.end("error", 101.0, error)
    return live


def test_a_try_that_the_provider_surely_did_no_work_for_costs_nothing():
    flight = begun()
    flight.tries = [ended(UpstreamFailed("refused")), ended(UpstreamFailed("refused"), target=FREE)]
    flight.fail("error", UpstreamFailed("refused"))
    receipt = closed(flight)

    assert [(row.usage, row.cost_nano_usd, row.cost_status) for row in receipt.tries] == [
        (None, 0, "exact"),
        (None, 0, "free"),
    ]
    assert receipt.usage.source == "none"


@pytest.mark.parametrize(
    "live",
    [
        lambda: ended(UpstreamTimeout("silent"), worked=True),
        lambda: ended(UpstreamFailed("cut"), reply=Reply()),
        lambda: tried(reply=Reply()),
    ],
)
def test_a_try_that_may_have_been_worked_on_is_billed_by_what_was_counted(live):
    flight = begun()
    flight.tries = [live()]
    receipt = closed(flight)

    assert receipt.usage == GUESS
    assert (receipt.cost_nano_usd, receipt.cost_status) == (30 * 1000 + 4 * 2000, "estimated")


def test_a_try_that_was_cancelled_before_its_answer_is_billed_as_it_may_have_been_worked_on():
    flight = begun()
    flight.tries = [tried()]
    flight.fail("cancelled", ClientClosed("gone"))

    assert closed(flight).usage == GUESS


def test_what_the_provider_reported_is_not_counted_again():
    flight = begun()
    flight.tries = [ended(UpstreamFailed("cut"), reply=Reply(), events=(UsageReported(Usage(7, 1)),))]

    assert closed(flight).usage == Usage(7, 1)


# -- sums --


def reported(target, usage, kind="first"):
    return tried(target, kind, reply=Reply(), events=(UsageReported(usage),))


def test_all_tries_are_paid_for():
    flight = begun()
    usage = Usage(10, 5, 1, 2, 3, 4, 5, 6, 7, 8)
    flight.tries = [reported(PRICED, usage), reported(PRICED, usage, "fallback")]
    receipt = closed(flight)

    assert receipt.usage == Usage(20, 10, 2, 4, 6, 8, 10, 12, 14, 16)
    assert receipt.cost_nano_usd == sum(row.cost_nano_usd for row in receipt.tries) == 40_000


STATUS_OF = {"free": FREE, "exact": PRICED, "estimated": PRICED, "unpriced": UNPRICED}


@pytest.mark.parametrize("pair", list(product(STATUS_OF, repeat=2)))
def test_the_least_sure_of_the_tries_says_how_sure_the_cost_is(pair):
    flight = begun()
    flight.tries = [
        reported(STATUS_OF[status], Usage(10, 5, source="counted" if status == "estimated" else "provider"))
        for status in pair
    ]
    receipt = closed(flight)

    worst = max(pair, key=list(STATUS_OF).index)
    assert receipt.cost_status == worst
    assert (receipt.cost_nano_usd is None) == (worst == "unpriced")


@pytest.mark.parametrize(
    ("sources", "whole"),
    [
        (("provider", "provider"), "provider"),
        (("provider", "counted"), "counted"),
        (("counted", "counted"), "counted"),
        (("counted", "estimated"), "estimated"),
        (("provider", "estimated"), "estimated"),
    ],
)
def test_the_least_sure_of_the_tries_says_who_counted(sources, whole):
    flight = begun()
    flight.tries = [reported(PRICED, Usage(1, 1, source=source)) for source in sources]

    assert closed(flight).usage == Usage(2, 2, source=whole)


# -- whose fault --


@pytest.mark.parametrize(
    ("status", "error", "origin"),
    [
        ("refused", InvalidRequest("bad"), "client"),
        ("refused", BudgetExhausted("spent"), "client"),
        ("refused", RateLimited("slow"), "client"),
        ("refused", Overloaded("full"), "gateway"),
        ("error", NoTarget("none"), "gateway"),
        ("error", DeadlineExceeded("late"), "gateway"),
        ("error", Internal("defect"), "gateway"),
        ("error", UpstreamRejected("bad schema"), "client"),
        ("error", UpstreamRejected("too large", status=413), "client"),
        ("error", UpstreamRateLimited("slow"), "provider"),
        ("error", UpstreamAuth("key"), "provider"),
        ("error", UpstreamFailed("500"), "provider"),
        ("error", UpstreamTimeout("silent"), "provider"),
        ("cancelled", ClientClosed("gone"), "client"),
        ("cancelled", UpstreamFailed("x"), "gateway"),
    ],
)
def test_the_receipt_says_whose_fault_it_was(status, error, origin):
    flight = begun()
    flight.fail(status, error)
    receipt = closed(flight)

    assert (receipt.error_origin, receipt.http_status, receipt.error) == (origin, error.status, error.code)


# -- what the receipt of a try says of HTTP --


def test_a_tries_status_is_the_replys_or_the_errors_or_none():
    flight = begun()
    flight.tries = [
        tried(reply=Reply(status=200)),
        ended(UpstreamRateLimited("slow")),
        ended(DeadlineExceeded("late")),
    ]

    assert [row.http_status for row in closed(flight).tries] == [200, 429, None]


def test_the_static_text_is_the_target_of_a_degraded_call():
    flight = begun()
    flight.tries = [ended(UpstreamFailed("refused"))]
    flight.status, flight.stands_for = "degraded", STATIC
    receipt = closed(flight)

    assert (receipt.status, receipt.target, receipt.http_status, receipt.error) == ("degraded", STATIC, 200, None)
    assert receipt.tries[0].target == "a/one"


# -- what is said of it on the way --


def test_the_opening_tells_who_answers_and_after_how_many_tries():
    flight = begun()
    reply = Reply("translated", ("seed",))
    reply.headers = ((b"x-request-id", b"r1"),)
    flight.tries = [ended(UpstreamFailed("refused")), tried(UNPRICED, "fallback", reply=reply)]

    assert opening(flight, flight.tries[1]) == Opening(
        flight.id, "b/two", "translated", 2, ("seed",), 200, ((b"x-request-id", b"r1"),)
    )


def test_the_static_text_is_a_whole_reply():
    reply = fold(static_events("safe", "We are busy."))

    assert reply.model == "safe"
    assert (reply.choices[0].text, reply.choices[0].finish, reply.ended) == ("We are busy.", "stop", True)


@pytest.mark.parametrize(
    ("bound", "counted", "into"),
    [(400, None, 400 // BYTES_PER_TOKEN), (401, None, 400 // BYTES_PER_TOKEN + 1), (400, 90, 90), (None, 1200, 1200)],
)
def test_a_rough_estimate_takes_what_was_counted_and_else_the_bytes_of_text_alone(bound, counted, into):
    flight = begun()
    flight.call = Call("chat", "fast", Sampling(), lambda: Content(()), raw=b"x" * 10_000, input_bound=bound)
    flight.counted = counted
    live = tried(events=(TextDelta("x" * 10),))

    assert rough(flight, live) == Usage(into, 3, source="estimated")

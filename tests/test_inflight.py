"""A call while it lasts, and the receipt that it becomes."""

from itertools import product

import pytest
from msgspec.structs import replace

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
from penstock.inflight import BYTES_PER_TOKEN, STATIC, InFlight, opening, rough, static_events
from penstock.ledger.cache import Stored
from penstock.live_try import LiveTry
from penstock.receipt import Usage
from penstock.reply import Chunk, Finished, Opening, Started, TextDelta, UsageReported, fold
from penstock.target import Price, Rates, ServiceTier, Target

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
    live = LiveTry(target, kind, began)
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


# -- what was saved --

BASE = Target("d/base", "d", "base", "chat", prices=(Price("2026-01-01", Rates(5_000_000_000, 10_000_000_000)),))
TIERED = Target(
    "e/tiered",
    "e",
    "tiered",
    "chat",
    prices=(
        Price(
            "2026-01-01",
            Rates(5_000_000_000, 10_000_000_000),
            services=(ServiceTier("flex", Rates(2_500_000_000, 5_000_000_000)),),
        ),
    ),
)
USED = Usage(10, 5)
ANSWER = (Started("r1", "one"), TextDelta("x"), Finished("stop"), UsageReported(USED))


def routed(target, baseline, *, events=ANSWER, error=None, before=()):
    """The receipt of a call that this target answered, where routing is compared with that one."""
    flight = begun()
    flight.go((target,), baseline, continues=False)
    flight.tries = [*before, tried(target, reply=Reply(), events=events, first_at=101.0)]
    if error is not None:
        flight.fail("error", error)
    return closed(flight)


@pytest.mark.parametrize(
    ("target", "baseline", "saved"),
    [
        (PRICED, BASE, 100_000 - 20_000),
        (BASE, PRICED, 20_000 - 100_000),
        (FREE, BASE, 100_000),
        (BASE, FREE, -100_000),
        (PRICED, PRICED, 0),
        (PRICED, replace(PRICED, prices=BASE.prices), 0),
        (PRICED, UNPRICED, 0),
        (UNPRICED, BASE, 0),
        (PRICED, None, 0),
    ],
)
def test_routing_saved_what_the_baseline_would_have_cost_more(target, baseline, saved):
    assert routed(target, baseline).routing_saved_nano_usd == saved


def test_the_baseline_is_priced_in_the_tier_that_served_the_call():
    flex = (Started("r1", "one", service_tier="flex"), *ANSWER[1:])
    assert routed(PRICED, TIERED, events=flex).routing_saved_nano_usd == 50_000 - 20_000
    assert routed(PRICED, TIERED).routing_saved_nano_usd == 100_000 - 20_000


def test_only_the_try_that_answered_is_compared():
    failed = tried(BASE, reply=Reply(), events=(UsageReported(USED),))
    failed.end("error", 100.6, UpstreamTimeout("d/base was silent."))
    receipt = routed(PRICED, BASE, before=[failed])
    assert receipt.tries[0].cost_nano_usd
    assert receipt.routing_saved_nano_usd == 80_000


def test_a_call_that_failed_saved_nothing():
    assert routed(PRICED, BASE, error=UpstreamFailed("broke off")).routing_saved_nano_usd == 0


def test_a_call_that_no_target_answered_was_not_routed():
    flight = begun()
    flight.go((PRICED,), BASE, continues=False)
    flight.tries = [tried(PRICED, reply=Reply(), events=ANSWER)]
    flight.degrade(STATIC, "translated", "none")
    assert closed(flight).routing_saved_nano_usd == 0
    assert closed(begun()).routing_saved_nano_usd == 0


def kept(usage=USED, tier=None):
    return Stored("e/tiered", "verbatim", 200, (), (), Chunk(()), 0.0, usage, tier)


@pytest.mark.parametrize(
    ("stored", "target", "saved"),
    [
        (kept(), TIERED, 100_000),
        (kept(tier="flex"), TIERED, 50_000),
        (kept(tier="batch"), TIERED, 100_000),  # without a price of its own: as by default
        (kept(), FREE, 0),
        (kept(), UNPRICED, 0),
        (kept(), None, 0),
        (kept(usage=None), TIERED, 0),
    ],
)
def test_an_answer_of_the_cache_saved_what_it_would_cost_today(stored, target, saved):
    flight = begun()
    flight.reuse(stored, target, "hit", "ok")
    receipt = closed(flight)
    assert (receipt.cache, receipt.target, receipt.status) == ("hit", "e/tiered", "ok")
    assert (receipt.cache_saved_nano_usd, receipt.routing_saved_nano_usd) == (saved, 0)
    assert (receipt.cost_nano_usd, receipt.cost_status, receipt.usage) == (0, "free", Usage(source="none"))


def test_the_price_is_that_of_the_saved_calls_own_day():
    dearer = replace(TIERED, prices=(*TIERED.prices, Price("2026-12-01", Rates(6_000_000_000, 10_000_000_000))))
    for day, saved in (("2026-11-30", 100_000), ("2026-12-01", 110_000)):
        flight = begun()
        flight.reuse(kept(), dearer, "hit", "ok")
        assert flight.close(103.0, day, lambda *_: GUESS, "c").cache_saved_nano_usd == saved


def test_a_caller_that_did_not_get_the_kept_answer_saved_nothing():
    flight = begun()
    flight.reuse(kept(), TIERED, "hit", "ok")
    flight.fail("cancelled", ClientClosed("gone"))
    assert closed(flight).cache_saved_nano_usd == 0


def followed(theirs, error=None):
    flight = begun()
    flight.share(Opening("other", theirs.target, "verbatim", 1, cache=theirs.cache))
    flight.follow(error, theirs)
    return closed(flight)


@pytest.mark.parametrize(
    ("leader", "saved"),
    [
        (routed(PRICED, None), 20_000),
        (routed(FREE, None), 0),
        (routed(UNPRICED, None), 0),
    ],
)
def test_who_shares_an_answer_saved_what_another_paid_for_it(leader, saved):
    receipt = followed(replace(leader, cache="miss"))
    assert (receipt.cache, receipt.cache_saved_nano_usd, receipt.cost_nano_usd) == ("shared", saved, 0)
    assert leader.cache_saved_nano_usd == 0


def test_who_shares_an_old_answer_saved_as_much_as_the_one_who_was_given_it():
    flight = begun()
    flight.tries = [tried(PRICED, reply=None)]
    flight.reuse(kept(), TIERED, "stale", "degraded")
    leader = closed(flight)
    assert (leader.cache, leader.cache_saved_nano_usd) == ("stale", 100_000)
    receipt = followed(leader)
    assert (receipt.status, receipt.cache, receipt.cache_saved_nano_usd) == ("degraded", "stale", 100_000)


def test_who_shares_an_excuse_or_an_error_saved_nothing():
    flight = begun()
    flight.tries = [tried(PRICED, reply=Reply(), events=ANSWER)]
    flight.degrade(STATIC, "translated", "miss")
    assert followed(closed(flight)).cache_saved_nano_usd == 0
    assert followed(routed(PRICED, None), UpstreamFailed("broke off")).cache_saved_nano_usd == 0
    assert followed(routed(PRICED, None), ClientClosed("gone")).cache_saved_nano_usd == 0


def test_a_call_shows_nothing_of_itself():
    call = replace(CALL, raw=b"a secret")
    assert "secret" not in repr(InFlight("id", 0, 0.0, call, WHO))


def test_no_two_calls_share_their_tries_or_holds():
    one, other = begun(), begun()
    one.tries.append(LiveTry(PRICED, "first", 0.0))
    one.holds.append(object())
    assert (other.tries, other.holds) == ([], [])

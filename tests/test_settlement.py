"""How a call is written down: the short way to its row and the long way over its receipt come to the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.call import Call, Content, Sampling, Who
from penstock.errors import UpstreamFailed
from penstock.inflight import InFlight
from penstock.ledger.brief import wide
from penstock.ledger.rows import COLUMNS, receipt_of, row_of
from penstock.live_try import LiveTry
from penstock.receipt import Usage
from penstock.reply import Finished, Started, TextDelta, Told, UsageReported
from penstock.settlement import KINDS, LONG, WHOLE, Alike, settle
from penstock.settlement import ordinary as ordinary_row
from penstock.target import Price, Rates, ServiceTier, Target, Tier

DAY, NOW = "2026-11-21", 103.0
RATES = Rates(150_000_000, 600_000_000, cached_input=75_000_000, reasoning=700_000_000)
TIERED = Price("2026-01-01", RATES, tiers=(Tier(1_000, Rates(1, 2)),), services=(ServiceTier("flex", Rates(7, 9)),))
SHRINKING = Price("2026-01-01", Rates(9, 9, cached_input=1, reasoning=2), discount_bp=10_000)
TARGETS = (
    Target("a/one", "a", "one", "chat", prices=(Price("2026-01-01", RATES),)),
    Target("a/two", "a", "two", "chat", prices=(Price("2025-01-01", Rates(1, 1)), TIERED)),
    Target("b/three", "b", "three", "chat", prices=(Price("2026-01-01", RATES, discount_bp=1_250),)),
    Target("b/four", "b", "four", "chat"),
    Target("c/five", "c", "five", "chat", free=True),
    Target("c/six", "c", "six", "chat", prices=(SHRINKING,)),
)
NAMES = st.none() | st.text(st.characters(codec="utf-8"), max_size=8)
AMOUNTS = st.integers(0, 5_000) | st.integers(0, 2**60)
SOURCES = st.sampled_from(["provider", "counted", "estimated"])
SECONDS = st.floats(0, 2.5) | st.just(0.0)


class Reply:
    """What is seen of an exchange."""

    def __init__(self, lane="verbatim", dropped=(), status=200):
        self.lane, self.dropped, self.status = lane, dropped, status

    def close(self):
        pass


def begun(**more):
    call = Call(dialect="chat", model="fast", sampling=Sampling(), read=lambda: Content(()), **more)
    who = Who(key_id="key_1", team="web", feature="demo", user="u" * 16, session="s1")
    return InFlight("019aa7ee-3e80-7000-8000-000000000000", 1_700_000_000_000_000_000, 100.0, call, who)


def answered(flight, target=TARGETS[0], *, events=(), began=100.5, first_at=101.0, reply=None):
    live = LiveTry(target, "first", began)
    live.exchange, live.first_at = reply or Reply(), first_at
    live.meter.observe(events)
    flight.tries = [live]
    return flight


def told(flight, value, target=TARGETS[0], *, began=100.0):
    """Have a call answered in one value, as one is that needed no task."""
    live = LiveTry(target, "first", began)
    live.exchange, live.told, live.first_at = Reply(), value, NOW
    flight.tries = [live]
    return flight


def estimated(*_):
    return Usage(30, 4, source="estimated")


def settled(flight, alike=None):
    return settle(flight, NOW, DAY, estimated, alike or Alike("c0ffee"))


def of_receipt(flight):
    return row_of(flight.close(NOW, DAY, estimated, "c0ffee"))


@st.composite
def ordinary(draw):
    flight = begun(stream=draw(st.booleans()))
    flight.who = Who(*draw(st.tuples(NAMES, NAMES, NAMES, NAMES, NAMES)))
    flight.cache = draw(st.sampled_from(["none", "miss"]))
    usage = Usage(*draw(st.tuples(AMOUNTS, AMOUNTS, AMOUNTS)), reasoning_tokens=draw(AMOUNTS), source=draw(SOURCES))
    some_text = st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=6) | st.just("flex")
    started = Started(draw(st.text(max_size=4)), draw(st.text(max_size=4)), draw(some_text), draw(some_text))
    finish = draw(st.sampled_from([(), (Finished("stop"),), (Finished("length"),)]))
    events = (*draw(st.sampled_from([(), (started,)])), TextDelta("x"), *finish, UsageReported(usage))
    began, first_at = 100.0 + draw(SECONDS), draw(st.none() | SECONDS.map(lambda s: 100.0 + s))
    lane = draw(st.sampled_from(["verbatim", "translated"]))
    target = draw(st.sampled_from(TARGETS))
    flight.baseline = draw(st.sampled_from([None, target]))
    return answered(flight, target, events=events, began=began, first_at=first_at, reply=Reply(lane))


SEEN = Alike("c0ffee")
"""What is remembered from one example to the next."""


@given(ordinary())
def test_the_row_of_an_ordinary_call_is_that_of_its_receipt(flight):
    made = settled(flight, SEEN)
    if made is None:  # figures that have to be clipped
        assert row_of(flight.settled.receipt) == of_receipt(flight)
    else:
        assert wide(made[0]) == of_receipt(flight)
        assert flight.settled.receipt == receipt_of(wide(made[0]))


@given(ordinary())
def test_what_is_counted_of_an_ordinary_call_is_what_its_receipt_says(flight):
    made = settled(flight, SEEN)
    if made is not None:
        receipt, (labels, *figures) = flight.settled.receipt, made[1]
        assert labels == (receipt.team or "", receipt.model, receipt.target, receipt.status)
        assert figures == [
            *(receipt.usage.input_tokens, receipt.usage.output_tokens),
            *(receipt.cost_nano_usd, receipt.total_us, receipt.ttft_us),
        ]


@given(ordinary())
def test_what_an_answer_tells_is_what_the_receipt_says(flight):
    settled(flight)
    told, receipt = flight.settled, flight.settled.receipt
    tokens = receipt.usage.input_tokens + receipt.usage.output_tokens
    if told.cost_nano_usd is None or told.cost_nano_usd < 2**53:
        assert (told.id, told.status, told.error, told.cost_nano_usd, told.tokens) == (
            *(receipt.id, receipt.status, receipt.error, receipt.cost_nano_usd),
            tokens,
        )


@st.composite
def ordinary_told(draw):
    some_text = st.none() | st.text(st.characters(codec="utf-8"), max_size=6) | st.just("flex")
    into, out = draw(AMOUNTS), draw(AMOUNTS)
    parts = st.builds(Usage, st.just(into), st.just(out), AMOUNTS, st.just(0) | AMOUNTS, reasoning_tokens=AMOUNTS)
    value = Told(
        *(b"{}", draw(st.text(max_size=4)), draw(st.text(max_size=4)), draw(st.sampled_from(["stop", "length"]))),
        *(into, out, draw(some_text), draw(some_text), draw(st.none() | st.just(7)), draw(st.none() | parts)),
    )
    target, began = draw(st.sampled_from(TARGETS)), 100.0 + draw(SECONDS)
    who, cache = Who(*draw(st.tuples(NAMES, NAMES, NAMES, NAMES, NAMES))), draw(st.sampled_from(["none", "miss"]))
    flights = begun(), begun()
    for flight in flights:
        flight.who, flight.cache = who, cache
    return told(flights[0], value, target, began=began), answered(
        flights[1], target, events=value.events, began=began, first_at=NOW
    )


@given(ordinary_told())
def test_what_is_told_in_one_value_is_written_down_as_what_a_meter_saw(flights):
    flight, seen = flights
    made, as_seen = settled(flight, SEEN), settled(seen, SEEN)
    assert (made is None) is (as_seen is None)
    assert made == as_seen
    assert flight.settled.receipt == seen.settled.receipt
    assert row_of(flight.settled.receipt) == of_receipt(flight)


@pytest.mark.parametrize("parts", [{}, {"cached_input_tokens": 2**52}, {"reasoning_tokens": 2**53}])
@pytest.mark.parametrize("into", [5, 2**50, 2**53])
def test_a_figure_too_large_for_a_row_is_left_to_the_receipt_whichever_it_is(into, parts):
    """The cost of 2**50 tokens is, though they are not."""
    value = Told(b"{}", "1", "m", "stop", into, 5, detailed=Usage(into, 5, **parts) if parts else None)
    flight = told(begun(), value)
    made = settled(flight)
    assert (made is None) is (into > 5 or bool(parts))
    assert row_of(flight.settled.receipt) == of_receipt(flight)


def test_what_was_told_needs_no_meter():
    flight = told(begun(), Told(b"{}", "1", "m", "stop", 10, 5))
    row, counted = settled(flight)
    assert "meter" not in vars(flight.tries[0])
    assert counted == (("web", "fast", "a/one", "ok"), 10, 5, 4_500, 3_000_000, 3_000_000)
    assert wide(row) == of_receipt(flight)


def test_what_was_told_of_a_try_that_had_ended_otherwise_is_not_an_answer():
    flight = told(begun(), Told(b"{}", "1", "m", "stop", 10, 5))
    flight.tries[0].end("cancelled", 101.0)
    assert settled(flight) is None
    assert flight.settled.receipt.tries[0].status == "cancelled"


def test_most_calls_take_the_short_way():
    reported = UsageReported(Usage(10, 5, 2, reasoning_tokens=3))
    assert settled(answered(begun(), events=(Started("r"), TextDelta("x"), Finished("stop"), reported))) is not None


def test_a_row_has_a_place_for_every_column():
    row, counted = settled(answered(begun(), events=(TextDelta("x"), UsageReported(Usage(10, 5)))))
    assert counted == (("web", "fast", "a/one", "ok"), 10, 5, 4_500, 3_000_000, 1_000_000)
    assert len(wide(row)) == len(COLUMNS)


# -- what is remembered of calls --

PLAIN = (Started("r", "m-1", "fp", "default"), TextDelta("x"), Finished("stop"), UsageReported(Usage(10, 5)))


def test_a_call_like_one_before_is_not_looked_at_again():
    alike = Alike("c0ffee")
    first, second = (settled(answered(begun(), events=PLAIN), alike) for _ in "12")
    assert first == second
    assert len(alike.known) == 1


DIFFERENT = {
    "key": lambda flight: setattr(flight, "who", replace(flight.who, key_id="key_2")),
    "team": lambda flight: setattr(flight, "who", replace(flight.who, team=None)),
    "feature": lambda flight: setattr(flight, "who", replace(flight.who, feature="other")),
    "dialect": lambda flight: setattr(flight, "call", replace(flight.call, dialect="messages")),
    "model": lambda flight: setattr(flight, "call", replace(flight.call, model="a/one")),
    "stream": lambda flight: setattr(flight, "call", replace(flight.call, stream=True)),
    "cache": lambda flight: setattr(flight, "cache", "miss"),
    "lane": lambda flight: setattr(flight.tries[0].exchange, "lane", "translated"),
    "target": lambda flight: setattr(flight.tries[0], "target", TARGETS[2]),
    "finish": lambda flight: setattr(flight.tries[0].meter, "finish", "length"),
    "source": lambda flight: setattr(flight.tries[0].meter, "reported", Usage(10, 5, source="counted")),
    "tier": lambda flight: setattr(flight.tries[0].meter, "tier", "flex"),
    **{
        name: lambda flight, name=name: setattr(
            flight.tries[0].meter, "start", replace(flight.tries[0].meter.start, **{name: "flex"})
        )
        for name in ("model", "fingerprint", "service_tier")
    },
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_is_remembered_of_a_call_is_not_taken_for_another(what):
    alike = Alike("c0ffee")
    settled(answered(begun(), events=PLAIN), alike)
    flight = answered(begun(), events=PLAIN)
    DIFFERENT[what](flight)
    made = settled(flight, alike)
    assert made is not None
    assert wide(made[0]) == of_receipt(flight)


ALIKE_BUT_FOR = {
    "model": Told(b"", "r", "m-2", "stop", 10, 5, "fp", "default"),
    "finish": Told(b"", "r", "m-1", "length", 10, 5, "fp", "default"),
    "fingerprint": Told(b"", "r", "m-1", "stop", 10, 5, "other", "default"),
    "none": Told(b"", "r", "m-1", "stop", 10, 5, None, "default"),
    "tier": Told(b"", "r", "m-1", "stop", 10, 5, "fp", "flex"),
    "empty": Told(b"", "r", "m-1", "stop", 10, 5, "", "default"),
    "nothing": Told(b"", "r", "m-1", "stop", 10, 5, "fp", "default"),
}


def of_kin(value, kin, alike, target=TARGETS[1], day=DAY):
    """Settle a call that was told as one of its kin; give what is made of it without any, too."""
    made = []
    for own, memory in ((kin, alike), (None, Alike("c0ffee"))):
        flight = told(begun(), value, target)
        flight.tries[0].end("ok", NOW)
        near = memory.nearer.get((own, day, value.model, value.finish, value.fingerprint, value.service_tier))
        found = near or memory.find(flight, value, WHOLE, day, own)
        made.append(None if found is None else ordinary_row(flight, value, found, NOW))
    return made


@pytest.mark.parametrize("what", ALIKE_BUT_FOR)
def test_of_what_is_remembered_for_its_kin_a_call_is_given_what_is_its_own(what):
    alike, kin = Alike("c0ffee"), object()
    of_kin(ALIKE_BUT_FOR["nothing"], kin, alike)
    for day in (DAY, "2025-06-01", DAY):
        made, alone = of_kin(ALIKE_BUT_FOR[what], kin, alike, day=day)
        assert made == alone or (wide(made[0]), made[1]) == (wide(alone[0]), alone[1])


def test_calls_of_two_kins_that_have_all_in_common_share_it():
    alike, value = Alike("c0ffee"), ALIKE_BUT_FOR["nothing"]
    rows = [of_kin(value, kin, alike)[0][0] for kin in (1, 2, 1)]
    assert len(alike.nearer) == 2
    assert len({id(row[2]) for row in rows}) == len(alike.known) == 1


def test_what_is_remembered_for_kins_is_bounded_and_goes_with_what_is_known():
    alike, value = Alike("c0ffee"), ALIKE_BUT_FOR["nothing"]
    for kin in range(KINDS + 10):
        of_kin(value, kin, alike)
    assert 0 < len(alike.nearer) <= KINDS
    assert of_kin(Told(b"", "r", "m" * LONG, "stop", 10, 5), 0, alike)[0] is not None
    assert all(found in alike.known.values() for found in alike.nearer.values())


def test_a_price_of_another_day_is_not_taken_for_that_of_today():
    alike, early = Alike("c0ffee"), "2025-06-01"
    for day in (DAY, early, DAY):
        flight = answered(begun(), TARGETS[1], events=PLAIN)
        row, _ = settle(flight, NOW, day, estimated, alike)
        assert wide(row) == row_of(flight.close(NOW, day, estimated, "c0ffee"))


def test_kinds_of_calls_are_remembered_within_bounds():
    alike = Alike("c0ffee")
    for number in range(KINDS + 10):
        flight = begun()
        flight.who = Who(feature=f"feature {number}")
        settled(answered(flight, events=PLAIN), alike)
    assert 0 < len(alike.known) <= KINDS


def test_what_a_provider_calls_itself_at_length_is_not_remembered():
    alike = Alike("c0ffee")
    flight = answered(begun(), events=(Started("r", "m" * LONG), UsageReported(Usage(10, 5))))
    assert wide(settled(flight, alike)[0]) == of_receipt(flight)
    assert not alike.known


def continued(flight):
    flight.continues = True


def failed(flight):
    flight.fail("error", UpstreamFailed("no"))


def excused(flight):
    flight.degrade("static", "translated", "none")


def shared(flight):
    flight.degrade("a/one", "verbatim", "shared", "ok")


def compared(flight):
    flight.baseline = TARGETS[1]


def tried_twice(flight):
    flight.tries = [*flight.tries, *flight.tries]


def never_tried(flight):
    flight.tries = []


@pytest.mark.parametrize(
    "change",
    [continued, failed, excused, shared, compared, tried_twice, never_tried],
    ids=lambda change: change.__name__,
)
def test_a_call_that_did_not_go_as_usual_takes_the_long_way(change):
    flight = answered(begun(), events=(TextDelta("x"), UsageReported(Usage(10, 5))))
    change(flight)
    assert settled(flight) is None
    assert flight.settled.receipt == flight.close(NOW, DAY, estimated, "c0ffee")


RARE = {
    "no usage": ((TextDelta("x"),), {}),
    "another status": ((UsageReported(Usage(1, 1)),), {"status": 202}),
    "dropped members": ((UsageReported(Usage(1, 1)),), {"dropped": ("seed",)}),
    "an empty fingerprint": ((Started("r", fingerprint=""), UsageReported(Usage(1, 1))), {}),
    "an empty tier": ((Started("r", service_tier=""), UsageReported(Usage(1, 1))), {}),
    "figures beyond all bounds": ((UsageReported(Usage(2**60, 1)),), {}),
    "more cached than there was input": ((UsageReported(Usage(1, 0, 9)),), {}),
    **{
        name: ((UsageReported(replace(Usage(9, 9), **{name: 1})),), {})
        for name in Usage.__struct_fields__
        if name.endswith("_tokens")
        and name not in {"input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"}
    },
}


@pytest.mark.parametrize("rare", RARE)
def test_an_answer_of_which_anything_is_rare_takes_the_long_way(rare):
    events, reply = RARE[rare]
    flight = answered(begun(), events=events, reply=Reply(**reply))
    assert settled(flight) is None
    assert flight.settled.receipt == flight.close(NOW, DAY, estimated, "c0ffee")


def test_what_happens_after_the_end_does_not_change_the_receipt():
    flight = answered(begun(), events=(TextDelta("x"), UsageReported(Usage(10, 5))))
    settled(flight)
    failed(flight)
    assert (flight.settled.receipt.status, flight.settled.receipt.error) == ("ok", None)
    assert flight.settled.receipt is flight.settled.receipt

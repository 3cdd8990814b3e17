"""What a reply that flows may come to cost is held in time, and no more of a budget than there is."""

from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from penstock.call import Call, Content, Sampling, Who
from penstock.errors import BudgetExhausted
from penstock.growth import FAR, MUCH_TOKENS, Growth, _output_for
from penstock.inflight import InFlight
from penstock.live_try import LiveTry
from penstock.meter import NEVER
from penstock.receipt import Usage
from penstock.reply import TextDelta, UsageReported
from penstock.reservations import Reservations
from penstock.settings import BudgetSettings, Config, LedgerSettings, ServerSettings, SharedSettings, TeamSettings
from penstock.target import Price, Profile, Rates, Target, most
from penstock.tokens.sample import by_bytes

DAY = "1970-01-01"
CALL = Call(dialect="chat", model="m", sampling=Sampling(max_tokens=10), read=lambda: Content(()))
OUT, IN = 8_000, 2_000  # nano-dollars a token
HELD = 1_000_000
PRICED = (Price("2020-01-01", Rates(IN * 10**6, OUT * 10**6)),)


WEB = Who(team="web")


def reserving(day_nano_usd, *, soft=False):
    """Reservations against one budget, or none."""
    teams = (TeamSettings(name="web", budget=BudgetSettings(day_nano_usd=day_nano_usd, soft=soft)),)
    config = Config("test", Path(), "0", ServerSettings(), (), (), teams, (), (), LedgerSettings(), SharedSettings())
    return Reservations(config, now_ns=0, sums=lambda *_: ())


class Reply:
    """A reply that flows, with what is held for it in budgets that have so much room."""

    def __init__(self, room, *, bound=40, target=None, held=HELD, soft=False, reservations=None):
        self.looks = 0
        target = target or Target(id="a/m", provider="a", model="m", dialect="chat", prices=PRICED)
        self.reservations = reservations or reserving(None if room is None else held + room, soft=soft)
        self.growth = Growth(self.reservations)
        call = structs.replace(CALL, input_bound=bound)
        self.flight = InFlight("id", 0, 0.0, call, WEB)
        self.flight.ceiling = held
        self.live = LiveTry(target, "first", 0.0)
        self.flight.tries.append(self.live)
        self.hold()

    def hold(self):
        self.flight.holds.append(self.reservations.hold(WEB, self.flight.ceiling, 0))

    def pass_on(self, *events):
        self.live.meter.observe(events)
        if self.live.meter.passed > self.live.meter.limit:
            self.looks += 1
            self.growth.look(self.flight, self.live, DAY)

    def write(self, tokens, times=1):
        for _ in range(times):
            self.pass_on(TextDelta("word" * tokens))

    @property
    def state(self):
        (found,) = self.reservations.budgets.states(0)
        return found.spent_nano_usd, found.held_nano_usd

    @property
    def cost(self):
        """Of what has passed, worked out otherwise: a token has its class of bytes."""
        return 10 * IN + by_bytes(b"word" * (self.live.meter.passed // 4)) * OUT

    @property
    def held(self):
        return self.flight.holds[-1].ceiling_nano_usd


def test_a_hold_grows_by_half_once_seven_eighths_of_it_may_be_used_up():
    reply = Reply(10**9, held=100_000_000)
    while reply.cost < 100_000_000 * 7 // 8:
        assert reply.held == 100_000_000
        reply.write(1)
    reply.write(1000)
    assert reply.held == 150_000_000
    assert reply.state == (0, 150_000_000)


def test_a_small_hold_grows_by_a_thousand_tokens_so_that_it_does_not_grow_at_every_turn():
    reply = Reply(10**9)
    reply.write(120)
    assert reply.held == reply.cost + 1024 * OUT


def test_where_a_budget_has_little_room_a_hold_grows_a_little():
    reply = Reply(800_000)
    reply.write(120)
    assert reply.held == (reply.cost + 64 * OUT) * 8 // 7 + 1
    assert reply.live.meter.limit > reply.live.meter.passed


def test_without_room_a_reply_goes_on_until_what_is_held_is_used_up_and_the_budget_stays_whole():
    reply = Reply(0)
    with pytest.raises(BudgetExhausted, match="this call in progress needs"):
        reply.write(1, times=1000)
    assert 0.7 * HELD < reply.cost <= HELD
    assert reply.held == HELD


def test_room_that_comes_meanwhile_is_taken():
    reply = Reply(10**9, held=10 * HELD)
    other = reply.reservations.hold(WEB, 10**9, 0)
    reply.write(1, times=1240)
    assert reply.held == 10 * HELD
    reply.reservations.settle([other], 0)
    reply.write(1, times=50)
    assert reply.held > 10 * HELD


def test_what_the_provider_reports_counts_rather_than_the_length():
    reply = Reply(10**9)
    for number in range(1, 400):
        reply.pass_on(TextDelta("a long word "), UsageReported(Usage(10, number // 4)))
    assert reply.held == HELD, "a hundred tokens, although their text is as long as 1,200"
    reply.pass_on(UsageReported(Usage(10, 120)), TextDelta("x"))
    assert reply.held > HELD


def test_an_input_that_is_reported_larger_than_the_bound_is_held_for():
    reply = Reply(10**9)
    reply.write(1)
    reply.pass_on(UsageReported(Usage(600, 1)))
    assert reply.held >= 600 * IN + 8 * 1024
    late = Reply(0)
    late.write(1)
    with pytest.raises(BudgetExhausted):
        late.pass_on(UsageReported(Usage(600, 1)))


def test_an_honest_reply_to_its_last_token_is_not_ended_where_its_vocabulary_is_known():
    """Words of many bytes: by their length they are three times as many tokens as they are."""
    most = 300
    held = (40 + 256) * IN + most * OUT
    target = Target("a/m", "a", "m", "chat", profile=Profile("m", tokenizer="o200k"), prices=PRICED)
    reply = Reply(0, held=held, target=target)
    for _ in range(most - 1):
        reply.pass_on(TextDelta(" international"))
    assert reply.live.meter.passed // 4 * OUT > held
    assert reply.held == held


@pytest.mark.parametrize("why", ["no budget", "free", "soft"])
def test_where_no_budget_refuses_anybody_or_nothing_costs_a_reply_is_looked_at_once(why):
    target = Target(id="a/m", provider="a", model="m", dialect="chat", prices=PRICED, free=why == "free")
    reply = Reply(None if why == "no budget" else 0, target=target, soft=why == "soft")
    reply.write(1000, times=50)
    assert reply.looks == 1
    assert reply.live.meter.limit > 10**15


def test_a_call_without_a_hold_is_never_looked_at_again():
    reply = Reply(0)
    reply.flight.holds.clear()
    reply.write(1000, times=3)
    assert reply.live.meter.limit > 10**15


def test_looks_are_few_however_long_a_reply_is():
    reply = Reply(10**15)
    reply.write(10, times=20_000)
    assert reply.looks < 100, "each one gets half as far as is left"


def test_where_every_wall_is_far_a_long_reply_is_looked_at_once_and_nothing_is_counted():
    far = FAR * MUCH_TOKENS * OUT
    near, roomy = Reply(far - 1), Reply(far)
    for reply in (near, roomy):
        reply.live.meter.output_tokens = Mock(wraps=reply.live.meter.output_tokens)
        reply.write(1, times=80)
    assert (near.looks, near.live.meter.output_tokens.call_count, near.held) == (3, 2, HELD)
    assert (roomy.looks, roomy.live.meter.output_tokens.call_count, roomy.held) == (1, 0, HELD + MUCH_TOKENS * OUT)
    roomy.write(1, times=4_000)
    assert roomy.looks == 1
    roomy.write(1, times=4_000)
    assert roomy.looks > 1, "walls are not that far any more"
    assert roomy.live.meter.output_tokens.called
    assert roomy.cost <= roomy.held


def test_what_long_replies_hold_in_advance_leaves_room_for_hundreds_of_others():
    room = 2 * FAR * MUCH_TOKENS * OUT
    reply = first = Reply(room)
    for _ in range(2 * FAR):
        reply.write(1, times=100)
        reply = Reply(None, reservations=first.reservations)
    (state,) = first.reservations.budgets.states(0)
    held = 2 * FAR * HELD
    assert (FAR - 1) * MUCH_TOKENS * OUT - held < room - state.held_nano_usd < (FAR + 1) * MUCH_TOKENS * OUT


CEILINGS = st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 10**10)), max_size=3).map(tuple)


@given(st.integers(0, 10**10), st.integers(0, 10**6), CEILINGS)
def test_money_is_enough_for_the_most_tokens_that_do_not_cost_more(nano_usd, into, rates):
    room = _output_for(nano_usd, into, rates)
    if room >= NEVER:
        assert most(into, 10**9, rates) <= nano_usd or any(out for _, out in rates)
    else:
        assert room < 0 or most(into, room, rates) <= nano_usd
        assert most(into, max(0, room + 1), rates) > nano_usd


ANYTHING = ("word", "4711", "{}[]<>;:", "日本", "é", " " * 50, "a" * 200, "{" * 90)


@given(
    st.lists(st.sampled_from(ANYTHING), min_size=1, max_size=150),
    st.sampled_from((HELD, 2 * HELD, 20 * HELD)),
    st.sampled_from((0, HELD // 2, 10**9)),
)
def test_what_has_passed_never_costs_more_than_is_held_however_seldom_it_is_looked_at(texts, held, room):
    """Whatever it is, and but for the chunk that was let pass last."""
    reply, passed = Reply(room, held=held), ""
    for text in texts:
        try:
            reply.pass_on(TextDelta(text))
        except BudgetExhausted:
            assert reply.held + 200 * OUT > held + room, "there was no more to be had"
            return
        assert 10 * IN + by_bytes(passed.encode()) * OUT <= reply.held
        passed += text


@given(
    st.lists(st.sampled_from((*ANYTHING, UsageReported)), max_size=150),
    st.sampled_from((0, HELD // 2, 10**9)),
)
def test_looks_that_need_no_price_decide_as_those_that_do(texts, room):
    short, long = (Reply(room) for _ in range(2))
    long.live.meter.goes_on = lambda _: False
    for at, text in enumerate(texts):
        event = UsageReported(Usage(10, at)) if text is UsageReported else TextDelta(text)
        refused = []
        for reply in (short, long):
            try:
                reply.pass_on(event)
            except BudgetExhausted as error:
                refused.append(str(error))
        assert len(refused) in (0, 2)
        assert (short.live.meter.limit, short.held) == (long.live.meter.limit, long.held)
        if refused:
            return


def test_nothing_is_counted_before_its_bytes_could_cost_what_is_held(monkeypatch):
    reply = Reply(10**9)
    meter, counts = reply.live.meter, []
    count = meter.output_tokens
    monkeypatch.setattr(meter, "output_tokens", lambda profile: (counts.append(1), count(profile))[1])
    tokens = (HELD - 10 * IN) // OUT
    reply.write(1, times=tokens * 10 // 7 // 4)
    assert not counts
    reply.write(1, times=2)
    assert counts


def test_prices_are_asked_for_once_and_when_more_is_held(monkeypatch):
    reply = Reply(10**9, held=10 * HELD)
    asked = []
    rates = reply.reservations.rates
    monkeypatch.setattr(reply.reservations, "rates", lambda *of: (asked.append(1), rates(*of))[1])
    while reply.held == 10 * HELD:
        assert len(asked) <= 1
        reply.write(1)
    assert len(asked) == 2


def test_a_report_without_an_input_does_not_make_the_input_free():
    reply = Reply(10**9, bound=1_600)
    reply.pass_on(TextDelta("word"), UsageReported(Usage(0, 1)), TextDelta("word"))
    assert reply.live.meter._out == (HELD * 7 // 8 - 1 - 400 * IN) // OUT


def test_the_last_of_several_holds_grows_which_is_that_of_the_try_that_answers():
    reply = Reply(10**9)
    reply.hold()
    reply.write(200)
    assert [hold.ceiling_nano_usd > HELD for hold in reply.flight.holds] == [False, True]

"""Room for keys, teams, features and models, and what a request may say about who pays."""

from math import inf
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from penstock.call import Call, Caller, Content, Limits, Sampling, Ticket, Who
from penstock.errors import InvalidRequest, PermissionDenied, RateLimited
from penstock.policy import admission as module
from penstock.policy.admission import FREE, MEDIA_TOKENS, Admission, attribute, estimate
from penstock.policy.queue import FairQueue
from penstock.settings import (
    Config,
    FeatureSettings,
    LedgerSettings,
    ModelSettings,
    ServerSettings,
    SharedSettings,
    TeamSettings,
)

WEB = Who(key_id="k", team="web")


def call(raw=b"", max_tokens=None, **more):
    return Call(
        dialect="chat", model="m", sampling=Sampling(max_tokens=max_tokens), read=lambda: Content(()), raw=raw, **more
    )


def config(teams=(), features=(), models=(), **server):
    return Config(
        source="a test",
        home=Path(),
        hash="",
        server=ServerSettings(**server),
        providers=(),
        models=models,
        teams=teams,
        features=features,
        prices=(),
        ledger=LedgerSettings(),
        shared=SharedSettings(),
    )


def team(name="web", **limits):
    return Admission(config((TeamSettings(name=name, **limits),)), now=0.0)


def impatient(**limits):
    return Admission(config((TeamSettings(name="web", **limits),), queue=0), now=0.0)


def places(ticket):
    """Give the places that a call has, one in each room."""
    while ticket is not None and ticket.room is not None:
        yield ticket
        ticket = ticket.also


def enter(room, who=WEB, asked=None, now=0.0, model="m"):
    return room.try_enter(who, model, asked or call(), now)


# -- rooms --


def test_without_limits_everybody_gets_in_for_nothing():
    for room in (team(), Admission(config(), 0.0)):
        assert enter(room) is enter(room, Who()) is FREE
        assert not room.leave(FREE, 5, 1.0)
        room.undo(FREE, 1.0)


def test_a_key_without_a_team_has_no_limits_of_a_team():
    assert enter(team(rpm=1), Who()) is FREE


def test_workers_share_out_the_limits_of_a_key():
    one = Admission(config(queue=0, sharers=3), 0.0)
    who = Who("k", limits=Limits(concurrency=7, day_nano_usd=5))
    for _ in range(3):
        assert enter(one, who) is not FREE
    with pytest.raises(RateLimited):
        enter(one, who)
    assert who.limits.over(3) == Limits(concurrency=3, day_nano_usd=5)


def test_a_key_with_a_budget_alone_takes_no_room():
    one = Admission(config(), 0.0)
    assert enter(one, Who("k", limits=Limits(day_nano_usd=5))) is FREE
    assert not one.keys


def test_whose_limits_are_whose():
    room = Admission(
        config(
            (TeamSettings(name="web", concurrency=9),),
            (FeatureSettings(name="search", concurrency=9),),
            (ModelSettings(name="fast", concurrency=9),),
        ),
        0.0,
    )
    limits = Limits(concurrency=9)
    for who, model, names in (
        (Who("k", "web"), "m", ["web"]),
        (Who("k", "app", "search"), "m", ["search"]),
        (Who("k", "app", "find"), "fast", ["fast"]),
        (Who("k", "web", "search", limits=limits), "fast", ["k", "web", "search", "fast"]),
        (Who("k", "app", limits=limits), "m", ["k"]),
        (Who("j", limits=limits), "m", ["j"]),
    ):
        ticket = room.try_enter(who, model, call(), 0.0)
        assert [place.room.name for place in places(ticket)] == names
    assert room.keys["k"].inside == 2


@pytest.mark.parametrize("last", ["key", "team", "feature", "model"])
def test_a_place_is_taken_everywhere_or_nowhere(last):
    one = {"rpm": 50, "tpm": 1000, "concurrency": 50}
    tight = {"concurrency": 1}
    of = {kind: tight if kind == last else one for kind in ("key", "team", "feature", "model")}
    room = Admission(
        config(
            (TeamSettings(name="web", **of["team"]),),
            (FeatureSettings(name="search", **of["feature"]),),
            (ModelSettings(name="m", **of["model"]),),
        ),
        0.0,
    )
    who = Who("k", "web", "search", limits=Limits(**of["key"]))
    first = enter(room, who, call(b"x" * 40))
    rooms = [place.room for place in places(first)]

    def counted():
        return [(one.inside, one.rates and (one.rates.calls, one.rates.used)) for one in rooms]

    before = counted()
    assert enter(room, who, call(b"x" * 40)) is None
    assert counted() == before
    assert len(rooms) == 4
    room.leave(first, 10, 1.0)
    assert enter(room, who, call(b"x" * 40), 1.0) is not None


def test_requests_are_limited_per_minute_and_the_wait_is_told_where_none_may_wait():
    room = impatient(rpm=2)
    for _ in range(2):
        enter(room)
    with pytest.raises(
        RateLimited, match=r"Team 'web' has used up its requests per minute\. Come again in 50 s\."
    ) as raised:
        enter(room, now=10.0)
    assert raised.value.retry_after_s == 50.0
    assert enter(room, now=60.0)


def test_of_several_limits_the_one_that_lasts_longest_is_told():
    room = Admission(
        config((TeamSettings(name="web", concurrency=1),), (), (ModelSettings(name="m", rpm=1),), queue_s=0.0), 0.0
    )
    enter(room)
    with pytest.raises(RateLimited, match=r"Model 'm' has used up its requests per minute\. Come again in 55 s\."):
        enter(room, now=5.0)
    with pytest.raises(RateLimited, match=r"Team 'web' has 1 calls in flight"):
        enter(room, now=5.0, model="other")


def test_tokens_are_taken_by_estimate_and_corrected_by_use():
    room = team(tpm=100)
    ticket = enter(room, asked=call(b"x" * 200, max_tokens=50))
    assert ticket.tokens == 100
    assert enter(room, asked=call(b"x" * 4)) is None
    room.leave(ticket, 20, 1.0)
    assert enter(room, asked=call(b"x" * 320), now=1.0).tokens == 80
    assert enter(room, asked=call(), now=1.0) is None, "a call that asks for nothing needs a token all the same"


def test_an_estimate_knows_bytes_bounds_pictures_and_answers():
    assert estimate(call()) == 1
    assert estimate(call(b"x" * 400, input_bound=400)) == 100
    assert estimate(call(b"x" * 10**7)) == MEDIA_TOKENS, "the bytes of a picture say nothing of its tokens"
    assert estimate(call(b"x" * 400, 50, input_bound=400)) == 150
    several = Call(
        dialect="", model="m", sampling=Sampling(max_tokens=50, n=3), read=lambda: Content(()), input_bound=40
    )
    assert estimate(several) == 160


def test_what_is_undone_leaves_no_trace():
    room = team(rpm=1, tpm=10, concurrency=1)
    room.undo(enter(room, asked=call(b"x" * 40)), 0.5)
    assert enter(room, asked=call(b"x" * 40), now=0.5)


def test_a_key_s_limits_may_change():
    room = Admission(config(), 0.0)
    assert enter(room, Who("k", limits=Limits(concurrency=1)))
    assert enter(room, Who("k", limits=Limits(concurrency=1))) is None
    assert enter(room, Who("k", limits=Limits(concurrency=2)))


def test_keys_that_are_idle_are_forgotten(monkeypatch):
    monkeypatch.setattr(module, "KEY_ROOMS", 4)
    room = Admission(config(), 0.0)
    busy = enter(room, Who("busy", limits=Limits(concurrency=1)))
    for number in range(100):
        for who in (Who(f"k{number}", limits=Limits(rpm=1)), Who(f"j{number}", limits=Limits(concurrency=1))):
            ticket = enter(room, who, now=100.0 * number)
            room.leave(ticket, 1, 100.0 * number)
        assert len(room.keys) <= 12
    assert enter(room, Who("busy", limits=Limits(concurrency=1))) is None
    room.leave(busy, 1, 1e6)


def test_a_key_that_was_forgotten_and_comes_back_has_a_room_that_counts(monkeypatch):
    monkeypatch.setattr(module, "KEY_ROOMS", 1)
    room, who = Admission(config(), 0.0), Who("k", limits=Limits(concurrency=1))
    room.leave(enter(room, who), 1, 1.0)
    room.leave(enter(room, Who("j", limits=Limits(concurrency=1)), now=100.0), 1, 100.0)
    assert "k" not in room.keys
    assert enter(room, who, now=100.0)
    assert room.keys["k"].inside == 1
    assert enter(room, Who("k", limits=Limits(concurrency=1)), now=100.0) is None


def test_rooms_are_remembered_for_so_many_and_for_each_as_they_are(monkeypatch):
    monkeypatch.setattr(module, "KNOWN", 3)
    room = Admission(config((TeamSettings(name="web", rpm=9),), (), (ModelSettings(name="fast", rpm=9),)), 0.0)
    for number in range(9):
        for who in (Who("a", "web"), Who("a", "app", "web"), Who("b", limits=Limits(rpm=1)), Who("b")):
            for model in ("fast", f"m{number}"):
                expected = ["b"] * bool(who.limits) + ["web"] * (who.team == "web") + ["fast"] * (model == "fast")
                for _ in range(2):
                    needs = room.claim(who, model, call(), 0.0, 1.0).needs
                    assert [one.name for one in needs] == expected
                    assert len(room._known) <= 3


def test_keys_are_not_forgotten_while_somebody_waits(monkeypatch):
    monkeypatch.setattr(module, "KEY_ROOMS", 1)
    room, queue, who = team(concurrency=1), FairQueue(9), Who("k", "web", limits=Limits(concurrency=1))
    first = enter(room)
    line_up(room, queue, who)
    enter(room, Who("j", limits=Limits(concurrency=1)))
    room.leave(first, 1, 1.0)
    assert len(look(room, queue, 1.0)) == 1
    assert room.keys["k"].inside == 1


# -- waiting --


def line_up(room, queue, who=WEB, asked=None, now=0.0, latest=inf, model="m"):
    claim = room.claim(who, model, asked or call(), now, latest)
    room.expect(claim, queue, now)
    queue.push((who, now), claim)
    room.close(claim, now)


def look(room, queue, now):
    """Look who can enter now; give who did, and their tickets."""
    found = []

    def give(entry):
        ticket = room.give(entry.claim, now)
        if ticket is not None:
            found.append((entry.item[0], ticket))
        return ticket is not None

    queue.expire(now)
    room.begin()
    queue.serve(give)
    return found


def test_who_waits_is_let_in_when_a_call_leaves():
    room, queue = team(concurrency=1), FairQueue(9)
    first = enter(room)
    assert enter(room) is None
    line_up(room, queue)
    assert look(room, queue, 1.0) == []
    assert room.leave(first, 5, 2.0)
    ((who, ticket),) = look(room, queue, 2.0)
    assert who is WEB
    assert ticket.entered == 2.0
    assert not room.leave(ticket, 5, 3.0), "nobody waits any longer"


def test_nobody_pushes_in_before_those_that_wait():
    room, queue = team(concurrency=1), FairQueue(9)
    first = enter(room)
    line_up(room, queue)
    room.leave(first, 5, 1.0)
    assert enter(room, now=1.0) is None
    assert len(look(room, queue, 1.0)) == 1


def test_who_waits_for_a_room_of_his_own_keeps_nobody_else_out():
    limited = (TeamSettings(name="web", concurrency=1), TeamSettings(name="app", concurrency=5))
    room, queue = Admission(config(limited, (), (ModelSettings(name="m", concurrency=5),)), 0.0), FairQueue(9)
    enter(room)
    line_up(room, queue)
    assert enter(room, Who("j", "app"))
    line_up(room, queue, Who("j", "app"))
    assert [who.team for who, _ in look(room, queue, 1.0)] == ["app"]


def test_a_small_call_does_not_keep_a_large_one_waiting_for_ever():
    room, queue = team(tpm=100), FairQueue(9)
    enter(room, asked=call(b"x" * 240))
    line_up(room, queue, Who("large", "web"), call(b"x" * 320), 1.0)
    assert enter(room, asked=call(b"x" * 40), now=2.0) is None, "there are 40 tokens, but somebody waits for them"
    line_up(room, queue, Who("small", "web"), call(b"x" * 40), 2.0)
    line_up(room, queue, Who("small", "web", "of another lane", limits=Limits(rpm=9)), call(b"x" * 40), 2.0)
    assert look(room, queue, 59.0) == [], "those behind it do not pass it either, for all that they would find room"
    assert [who.key_id for who, _ in look(room, queue, 60.0)] == ["large", "small", "small"]


def test_when_a_rate_lets_somebody_in_is_told():
    room, queue = team(rpm=1, concurrency=5), FairQueue(9)
    assert room.next_at == inf
    enter(room, now=3.0)
    line_up(room, queue, now=5.0)
    assert room.next_at == 63.0
    assert look(room, queue, 62.9) == []
    assert room.next_at == 63.0
    assert len(look(room, queue, 63.0)) == 1
    assert room.next_at == inf


def test_only_a_call_that_leaves_makes_room_for_calls_at_once():
    room, queue = team(concurrency=1), FairQueue(9)
    enter(room)
    line_up(room, queue)
    assert room.next_at == inf


def test_who_would_wait_too_long_for_a_rate_is_refused_at_once():
    room, queue = team(rpm=2), FairQueue(99)
    enter(room)
    enter(room, now=4.0)
    with pytest.raises(RateLimited, match="Come again in 10 s"):
        line_up(room, queue, now=50.0, latest=60.0)
    line_up(room, queue, now=50.0, latest=60.1)
    with pytest.raises(RateLimited, match="Come again in 14 s") as raised:
        line_up(room, queue, now=50.0, latest=64.0)
    assert raised.value.retry_after_s == 14.0
    line_up(room, queue, now=50.0, latest=64.1)


def test_who_would_wait_too_long_for_tokens_is_refused_at_once():
    room, queue = team(tpm=100), FairQueue(99)
    enter(room, asked=call(b"x" * 200))
    enter(room, asked=call(b"x" * 200), now=20.0)
    asked = call(b"x" * 160)
    line_up(room, queue, asked=asked, now=30.0, latest=60.1)
    with pytest.raises(RateLimited, match="Come again in 50 s"):
        line_up(room, queue, asked=asked, now=30.0, latest=61.0)


def test_who_would_wait_too_long_for_calls_to_leave_is_refused_at_once():
    room, queue = team(concurrency=2), FairQueue(99)
    for _ in range(2):
        room.leave(enter(room), 1, 8.0)
    enter(room)
    enter(room)
    line_up(room, queue, now=10.0, latest=15.1)
    with pytest.raises(RateLimited, match=r"2 calls in flight.*Come again in 10 s"):
        line_up(room, queue, now=10.0, latest=15.1)
    other = Who("other", "web")
    with pytest.raises(RateLimited, match="Come again in 10 s"):
        line_up(room, queue, other, now=10.0, latest=20.0)
    line_up(room, queue, other, now=10.0, latest=20.1)


def test_a_greedy_key_does_not_make_the_wait_of_others_look_longer():
    room, queue = team(concurrency=1), FairQueue(99)
    room.leave(enter(room), 1, 1.0)
    enter(room)
    for _ in range(50):
        line_up(room, queue, Who("greedy", "web"), now=2.0)
    line_up(room, queue, Who("modest", "web"), now=2.0, latest=4.6)


def test_priority_is_the_feature_s_or_else_the_team_s():
    room = Admission(
        config(
            (TeamSettings(name="web", priority="low", concurrency=1), TeamSettings(name="app", concurrency=1)),
            (FeatureSettings(name="chat", priority="high"), FeatureSettings(name="batch")),
        ),
        0.0,
    )
    for who, priority in (
        (Who("k", "web"), "low"),
        (Who("k", "web", "chat"), "high"),
        (Who("k", "web", "batch"), "low"),
        (Who("k", "app", "batch"), "normal"),
        (Who("k"), "normal"),
    ):
        assert room.claim(who, "m", call(), 0.0, inf).priority == priority
    assert room.claim(Who("k"), "m", call(), 0.0, inf).flow == ("k", "k")
    assert room.claim(Who("k", "web"), "m", call(), 0.0, inf).flow == ("web", "k")


def test_low_priority_is_served_last_but_is_served():
    teams = (TeamSettings(name="slow", priority="low"), TeamSettings(name="quick", priority="high"))
    room, queue = Admission(config(teams, (), (ModelSettings(name="m", concurrency=1),)), 0.0), FairQueue(999)
    ticket, order = enter(room), []
    line_up(room, queue, Who("s", "slow"))
    for number in range(40):
        for _ in range(2):
            line_up(room, queue, Who("q", "quick"), now=number)
        room.leave(ticket, 1, number)
        ((who, ticket),) = look(room, queue, number)
        order.append(who.team)
    assert order.index("slow") <= 16
    assert order.count("quick") == 39


@pytest.mark.parametrize("limits", [{"rpm": 120}, {"tpm": 12_000}, {"rpm": 120, "tpm": 24_000, "concurrency": 50}])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_over_ten_minutes_of_more_than_enough_99_to_100_percent_of_a_limit_pass(limits, seed):
    """Calls of known size that stay a while, in an order drawn from the seed, three times as many as may."""
    rng, room, queue, now = Random(seed), team(**limits), FairQueue(100), 0.0
    asked, inside, entered = call(b"x" * 400, input_bound=400), [], []
    size = estimate(asked)

    def let_in(ticket):
        entered.append(now)
        inside.append((now + rng.uniform(0, 3), ticket))

    while now < 600.0:
        ticket = enter(room, asked=asked, now=now)
        if ticket is not None:
            let_in(ticket)
        elif len(queue) < 100:
            line_up(room, queue, asked=asked, now=now)
        for at, gone in [one for one in inside if one[0] <= now]:
            inside.remove((at, gone))
            room.leave(gone, size, now)
        for _, waited in look(room, queue, now):
            let_in(waited)
        now = min(now + rng.expovariate(6.0), max(now + 1e-9, room.next_at))
    per_minute = min(limits.get("rpm", inf), limits.get("tpm", inf) / size)
    assert 0.99 * 10 * per_minute <= len(entered) <= 10 * per_minute
    for start in entered:
        assert sum(start <= one < start + 60.0 for one in entered) <= per_minute


# -- another configuration --


def test_another_configuration_keeps_the_counters_of_limits_that_stay():
    before = team(concurrency=2, rpm=9)
    first, second = enter(before), enter(before)
    now_one = Admission(config((TeamSettings(name="web", concurrency=2, rpm=2),)), 5.0, before)
    assert enter(now_one, now=5.0) is None
    now_one.leave(first, 5, 6.0)
    assert enter(now_one, now=6.0) is None, "two requests were made in this minute"
    assert enter(now_one, now=60.0)
    assert enter(now_one, now=60.0) is None
    before.leave(second, 5, 61.0)
    assert enter(now_one, now=61.0)


def test_another_configuration_forgets_limits_that_are_gone_and_begins_new_ones():
    before = team(concurrency=1)
    ticket = enter(before)
    after = Admission(config((TeamSettings(name="app", rpm=1),), queue=0), 1.0, before)
    assert enter(after, now=1.0) is FREE
    enter(after, Who("k", "app"), now=1.0)
    with pytest.raises(RateLimited):
        enter(after, Who("k", "app"), now=1.0)
    after.leave(ticket, 1, 2.0)


def test_another_configuration_keeps_the_counters_of_keys():
    before, who = Admission(config(), 0.0), Who("k", limits=Limits(concurrency=1))
    enter(before, who)
    assert enter(Admission(config(), 1.0, before), who, now=1.0) is None


def test_those_that_wait_wait_for_what_another_configuration_says():
    before, queue = team(concurrency=1), FairQueue(9)
    enter(before)
    line_up(before, queue, latest=99.0)
    after = Admission(config((), (), (ModelSettings(name="m", concurrency=1),)), 1.0, before)
    assert after.next_at == 1.0, "somebody has to look"
    queue.refile(lambda entry: after.renew(entry.claim, 1.0))
    (entry,) = queue.entries()
    assert [room.name for room in entry.claim.needs] == ["m"]
    assert (entry.claim.latest, entry.claim.size) == (99.0, 1)
    assert len(look(after, queue, 1.0)) == 1
    assert enter(after, now=1.0) is None


# -- whatever comes in whatever order --

LIMITS = {
    "web": Limits(rpm=4, concurrency=3),
    "app": Limits(tpm=60),
    "search": Limits(concurrency=2, tpm=80),
    "fast": Limits(rpm=6, tpm=100, concurrency=4),
    "k1": Limits(rpm=3, concurrency=2),
}


class Interleaved(RuleBasedStateMachine):
    """Calls come, wait, enter, leave and hang up in any order; no limit is ever exceeded, and nobody is left behind."""

    def __init__(self):
        super().__init__()
        of = {name: {n: getattr(one, n) for n in ("rpm", "tpm", "concurrency")} for name, one in LIMITS.items()}
        self.room = Admission(
            config(
                (TeamSettings(name="web", **of["web"]), TeamSettings(name="app", priority="low", **of["app"])),
                (FeatureSettings(name="search", **of["search"]),),
                (ModelSettings(name="fast", **of["fast"]),),
            ),
            0.0,
        )
        self.queue = FairQueue(20)
        self.now = 0.0
        self.inside = []
        self.entered = {name: [] for name in LIMITS}
        self.lookable = False

    @rule(
        key=st.sampled_from(["k1", "k2"]),
        of=st.sampled_from(["web", "app", None]),
        feature=st.sampled_from(["search", None]),
        model=st.sampled_from(["fast", "m"]),
        tokens=st.integers(1, 70),
    )
    def come(self, key, of, feature, model, tokens):
        who = Who(key, of, feature, limits=LIMITS.get(key))
        asked = call(b"x" * 4 * tokens)
        ticket = self.room.try_enter(who, model, asked, self.now)
        if ticket is not None:
            self.let_in(ticket)
        elif len(self.queue) < 20:
            claim = self.room.claim(who, model, asked, self.now, self.now + 30)
            self.queue.push((who, self.now), claim)
            self.room.close(claim, self.now)

    def let_in(self, ticket):
        self.inside.append(ticket)
        for place in places(ticket):
            self.entered[place.room.name].append([self.now, place.tokens])

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), used=st.floats(0, 1), hangs_up=st.booleans())
    def leave(self, data, used, hangs_up):
        ticket = self.inside.pop(data.draw(st.integers(0, len(self.inside) - 1)))
        if hangs_up and ticket.entered == self.now:
            self.room.undo(ticket, self.now)
            for place in places(ticket):
                self.entered[place.room.name].remove([self.now, place.tokens])
        else:
            self.room.leave(ticket, int(used * ticket.tokens), self.now)

    @precondition(lambda self: len(self.queue))
    @rule(data=st.data())
    def hang_up(self, data):
        self.queue.remove(data.draw(st.sampled_from(self.queue.entries())))

    @rule()
    def look(self):
        for _, ticket in look(self.room, self.queue, self.now):
            self.let_in(ticket)
        for entry in self.queue.entries():  # nobody is left behind for whom there is room, but for who is before
            free = [room for room in entry.claim.needs if room.fits(entry.claim.size, self.now) and not room.contested]
            assert len(free) < len(entry.claim.needs)

    @rule(by=st.sampled_from([0.1, 3.0, 20.0, 61.0]))
    def pass_time(self, by):
        self.now += by

    @invariant()
    def no_limit_is_exceeded(self):
        for name, limits in LIMITS.items():
            inside = sum(place.room.name == name for ticket in self.inside for place in places(ticket))
            assert limits.concurrency is None or inside <= limits.concurrency
            minute = [one for one in self.entered[name] if one[0] > self.now - 60.0]
            assert limits.rpm is None or len(minute) <= limits.rpm

    @invariant()
    def the_counters_are_right(self):
        room = self.room
        rooms = {**room.teams, **room.features, **room.models, **room.keys}
        for name, one in rooms.items():
            inside = sum(place.room.name == name for ticket in self.inside for place in places(ticket))
            assert one.inside == inside
            assert one.rates is None or one.rates.used <= one.rates.limit


Interleaved.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_no_limit_is_exceeded_in_any_order = Interleaved.TestCase


# -- who pays --


def test_a_plain_request_adds_nothing():
    assert attribute(WEB, Caller(), call()) is WEB


def test_headers_come_before_the_body():
    who = attribute(WEB, Caller(feature="a", user="u"), call(feature="b", session="s", user="v"))
    assert (who.feature, who.session, who.user, who.team) == ("a", "s", "u", "web")


def test_a_key_bound_to_a_feature_decides_it():
    bound = Who(key_id="k", feature="invoices")
    assert attribute(bound, Caller(), call()).feature == "invoices"
    assert attribute(bound, Caller(feature="invoices"), call()).feature == "invoices"
    with pytest.raises(PermissionDenied, match="bound to the feature 'invoices' and cannot call for 'other'"):
        attribute(bound, Caller(feature="other"), call())


@pytest.mark.parametrize("bad", ["x" * 129, "a\nb", "\x00"])
def test_names_that_cannot_be_shown_are_refused(bad):
    with pytest.raises(InvalidRequest, match="feature"):
        attribute(WEB, Caller(feature=bad), call())
    with pytest.raises(InvalidRequest, match="session"):
        attribute(WEB, Caller(session=bad), call())


def test_a_caller_is_the_same_value_for_the_same_feature():
    first = attribute(WEB, Caller(feature="a"), call())
    assert (
        attribute(WEB, Caller(feature="a"), call(feature="b")) is attribute(WEB, Caller(), call(feature="a")) is first
    )
    assert attribute(WEB, Caller(feature="b"), call()).feature == "b"
    assert attribute(WEB, Caller(feature="a", session="s"), call()).session == "s"
    assert attribute(Who(key_id="k", team="other"), Caller(feature="a"), call()).team == "other"


def test_only_so_many_features_of_a_caller_are_remembered_and_none_that_is_refused():
    who = Who(key_id="k")
    for number in range(1000):
        assert attribute(who, Caller(feature=f"f{number}"), call()).feature == f"f{number}"
        with pytest.raises(InvalidRequest):
            attribute(who, Caller(feature="x" * 200), call())
        assert len(who.features) <= module.FEATURES
    assert not any(len(name or "") > 128 for name in who.features)


NAMES = st.none() | st.sampled_from(["", "a", "b", "a\nb", "x" * 129])


def written_out(who, caller, asked):
    """Do what `attribute` does, without any memory."""
    feature = caller.feature or asked.feature
    if who.feature is not None:
        if feature is not None and feature != who.feature:
            raise PermissionDenied("another feature")
        feature = who.feature
    session, user = caller.session or asked.session, caller.user or asked.user
    if feature is session is user is None:
        return who
    if any(name is not None and (len(name) > 128 or not name.isprintable()) for name in (feature, session)):
        raise InvalidRequest("unfit")
    return Who(who.key_id, who.team, feature, user, session, who.admin, who.limits)


@given(
    st.lists(st.tuples(NAMES, NAMES, NAMES, NAMES, NAMES, NAMES), max_size=12),
    st.sampled_from([None, "a", "a\nb"]),
    st.booleans(),
)
def test_who_is_remembered_is_who_would_be_made(requests, bound, admin):
    who = Who("k", "web", bound, admin=admin, limits=Limits(rpm=1))
    for *of_caller, feature, session, user in requests:
        caller, asked = Caller(None, *of_caller), call(feature=feature, session=session, user=user)
        told = []
        for way in (attribute, written_out):
            try:
                told.append(way(who, caller, asked))
            except (PermissionDenied, InvalidRequest) as error:
                told.append(type(error))
        assert told[0] == told[1]


# -- the short way and the general one --


def looked_at(room):
    """Give a room that nobody may enter without a look."""
    assert room.inside >= 0
    return room


def alone(place):
    """Give a place without those that its call has elsewhere."""
    return structs.replace(place, also=None)


class General(Admission):
    """Looks whether a call fits everywhere, and then enters everywhere, a room at a time."""

    def try_enter(self, who, model, call, now):
        rooms = self._rooms_of(who, model, now)
        if not rooms:
            return FREE
        tokens = estimate(call)
        if any(room.contested or not room.fits(tokens, now) for room in rooms):
            if not self.may_wait:
                raise self._refusal(rooms, tokens, None, now)
            return None
        ticket = None
        for room in reversed(rooms):
            ticket = looked_at(room).enter(tokens, now, ticket)
        return ticket

    def leave(self, ticket, tokens, now):
        return True in [looked_at(place.room).leave(alone(place), tokens, now) for place in places(ticket)]


def counters(room):
    """Everything that the rooms of an admission hold."""
    found = {}
    for kind in (room.teams, room.features, room.models, room.keys):
        for name, one in kind.items():
            rates = one.rates
            slices = [] if rates is None else [(s.amount, s.calls, s.at, s.began) for s in rates.slices]
            counted = None if rates is None else (rates.used, rates.calls, rates.debt, slices)
            found[one.kind, name] = (one.inside, one.calls, one.mean_s, one.contested, counted)
    return found


SOME = st.builds(
    dict,
    rpm=st.none() | st.integers(1, 30),
    tpm=st.none() | st.integers(1, 3000),
    concurrency=st.none() | st.integers(1, 6) | st.just(1),
)
VISITS = st.lists(
    st.tuples(
        st.sampled_from(
            [0.0, 0.0, 0.01, 0.01, 0.01, 0.1, 0.15, 0.3, 1.0, 20.0, 59.8, 61.0, -0.01]
        ),  # the clock of one loop may not, and this may
        st.sampled_from([WEB, Who("k2", "web", limits=Limits(rpm=9, tpm=900)), Who(), Who("k", "web", "f")]),
        st.sampled_from(["m", "other"]),
        st.integers(0, 4000),  # bytes
        st.none() | st.integers(1, 800),
        st.integers(0, 6),  # how many others come before it leaves
        st.integers(0, 2000),  # tokens that it used
        st.sampled_from(["leave"] * 9 + ["undo", "wait", "wait"]),
        st.sampled_from([False] * 9 + [True]),  # whether anybody looks at the counters
    ),
    max_size=80,
)


@settings(deadline=None, max_examples=300)
@given(VISITS, SOME, SOME, SOME, st.booleans())
def test_the_short_way_leaves_everything_as_the_general_one_does(visits, of_team, of_feature, of_model, patient):
    made = config(
        (TeamSettings(name="web", **of_team),),
        (FeatureSettings(name="f", **of_feature),),
        (ModelSettings(name="m", targets=("a/m",), **of_model),),
        queue=100 if patient else 0,
    )
    both, now, inside = [Admission(made, 0.0), General(made, 0.0)], 0.0, []
    for gap, who, model, size, most, stays, used, end, looks in visits:
        now += gap
        for one in [one for one in inside if one[0] <= 0]:
            inside.remove(one)
            told = [
                room.undo(ticket, now) if one[3] == "undo" else room.leave(ticket, one[2], now)
                for room, ticket in zip(both, one[1], strict=True)
            ]
            assert told[0] == told[1]
        inside = [(left - 1, *rest) for left, *rest in inside]
        assert not looks or counters(both[0]) == counters(both[1])
        asked, tickets = call(max_tokens=most, input_bound=size), []
        if end == "wait":  # somebody waits, or nobody any more
            for room in both:
                room.begin() if room.contested else room.close(room.claim(who, model, asked, now, inf), now)
        for room in both:
            try:
                tickets.append(room.try_enter(who, model, asked, now))
            except RateLimited as error:
                tickets.append((error.message, error.retry_after_s))
        ticket, other = tickets
        if isinstance(ticket, Ticket):
            assert (ticket is FREE) == (other is FREE)
            assert [(one.room.name, one.tokens, one.entered) for one in places(ticket)] == [
                (one.room.name, one.tokens, now) for one in places(other)
            ]
            inside.append((stays, tickets, used, end))
        else:
            assert ticket == other
    assert counters(both[0]) == counters(both[1])

"""Who is next: fair between flows, weighted between classes, in order inside a flow, never too late."""

from collections import Counter
from itertools import pairwise
from math import inf

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.policy.queue import Claim, FairQueue, Full

ROOM = ("room",)


def claim(team="t", key="k", priority="normal", *, needs=ROOM, latest=inf, size=1):
    return Claim(needs, (team, key), priority, latest, size)


def served(queue, most=None, fits=lambda _: True):
    """Let so many through; give their items in order."""
    order = []

    def give(entry):
        if (most is not None and len(order) >= most) or not fits(entry):
            return False
        order.append(entry.item)
        return True

    assert queue.serve(give) == len(order)
    return order


def fill(queue, *claims):
    return [queue.push(number, one)[0] for number, one in enumerate(claims)]


def test_nobody_is_served_where_nobody_waits():
    queue = FairQueue(3)
    assert (len(queue), served(queue), queue.expire(1.0), queue.next_expiry(), queue.entries()) == (0, [], [], inf, [])
    assert queue.ahead("room", claim()) == (0, 0)
    assert queue.waiting_for("room") == 0


def test_inside_a_flow_whoever_came_first_goes_first():
    queue = FairQueue(10)
    fill(queue, *[claim()] * 6)
    assert served(queue, 2) + served(queue) == [0, 1, 2, 3, 4, 5]
    assert len(queue) == 0


def test_a_greedy_team_gets_no_more_than_its_share():
    queue = FairQueue(200)
    for number in range(100):
        queue.push(("greedy", number), claim("greedy"))
    for number in range(10):
        queue.push(("modest", number), claim("modest"))
    for _ in range(10):
        counts = Counter(team for team, _ in served(queue, 2))
        assert counts == {"greedy": 1, "modest": 1}
    assert {team for team, _ in served(queue)} == {"greedy"}


def test_keys_take_turns_inside_their_team_and_cannot_outnumber_another_team():
    queue = FairQueue(200)
    for key in "abcd":
        for number in range(8):
            queue.push(f"many {key}", claim("many", key))
            if key == "a":
                queue.push("one", claim("one", "x", size=number))
    counts = Counter(served(queue, 16))
    assert counts == {"one": 8, "many a": 2, "many b": 2, "many c": 2, "many d": 2}


def test_classes_share_by_weight_and_the_high_one_goes_first():
    queue = FairQueue(1000)
    for priority in ("low", "normal", "high"):
        for _ in range(200):
            queue.push(priority, claim(priority=priority))
    order = served(queue, 21 * 5)
    assert order[0] == "high"
    assert Counter(order) == {"high": 80, "normal": 20, "low": 5}


@pytest.mark.parametrize("most", [1, 2, 7])
def test_the_low_class_does_not_starve_however_many_high_ones_come(most):
    queue = FairQueue(1000)
    queue.push("low", claim(priority="low"))
    rounds = 0
    while True:
        for _ in range(most + 1):
            queue.push("high", claim(priority="high"))
        rounds += most
        if "low" in served(queue, most):
            break
    assert rounds <= 16 + most


def test_a_class_saves_up_no_turns_while_nobody_of_it_waits():
    queue = FairQueue(1000)
    for _ in range(100):
        queue.push("high", claim(priority="high"))
    served(queue, 50)
    for _ in range(20):
        queue.push("low", claim(priority="low"))
    assert Counter(served(queue, 17))["low"] <= 2


def test_a_class_saves_up_no_turns_while_it_cannot_be_served():
    queue = FairQueue(1000)
    for _ in range(50):
        queue.push("low", claim(priority="low", needs=("shut",)))
    for _ in range(400):
        queue.push("high", claim(priority="high"))
    served(queue, 300, lambda entry: entry.claim.needs == ROOM)
    assert Counter(served(queue, 17))["low"] <= 2


def test_who_cannot_be_served_holds_up_nobody_who_needs_something_else():
    queue = FairQueue(10)
    fill(queue, claim(needs=("full",)), claim(needs=("full",)), claim(needs=("free",)), claim("other", needs=("free",)))
    asked = []

    def give(entry):
        asked.append(entry.item)
        return entry.claim.needs == ("free",)

    assert queue.serve(give) == 2
    assert asked == [0, 2, 3], "the second of the lane that is stuck is not even asked"
    assert [entry.item for entry in queue.entries()] == [0, 1]


def test_who_was_stuck_keeps_the_turn():
    queue = FairQueue(20)
    fill(queue, claim("a", needs=("x",)), *[claim("b")] * 3, claim("c"), *[claim("a")] * 2)
    assert served(queue, 2, lambda entry: entry.claim.needs == ROOM) == [5, 1]
    assert served(queue, 3) == [4, 0, 2], "c has not had a turn yet, then those that had one in order"


def test_an_oldest_lane_goes_first_inside_a_flow():
    queue = FairQueue(20)
    fill(queue, claim(needs=("y",)), claim(needs=("x",)), claim(needs=("y",)), claim(needs=("x",)))
    assert served(queue) == [0, 1, 2, 3]


def test_whoever_hangs_up_is_gone():
    queue = FairQueue(10)
    entries = fill(queue, *[claim(latest=5.0)] * 3)
    assert queue.remove(entries[1])
    assert not queue.remove(entries[1])
    assert len(queue) == queue.waiting_for("room") == 2
    assert served(queue) == [0, 2]
    assert not queue.remove(entries[0])
    assert queue.expire(9.0) == []


def test_whose_time_is_over_is_given_back_and_never_out():
    queue = FairQueue(10)
    fill(queue, claim(latest=5.0), claim(), claim(latest=3.0), claim(latest=4.0))
    assert queue.next_expiry() == 3.0
    assert [entry.item for entry in queue.expire(4.0)] == [2, 3]
    assert queue.next_expiry() == 5.0
    assert served(queue) == [0, 1]
    assert queue.next_expiry() == inf


def test_a_full_queue_refuses_whoever_would_be_last():
    queue = FairQueue(2)
    fill(queue, *[claim()] * 2)
    with pytest.raises(Full):
        queue.push("new", claim())
    assert served(queue) == [0, 1]


def test_places_that_are_taken_elsewhere_count():
    queue = FairQueue(3)
    queue.push(0, claim())
    with pytest.raises(Full):
        queue.push(1, claim(), beside=2)
    queue.push(1, claim(), beside=1)


def test_a_full_queue_drops_the_newest_of_the_longest_for_whoever_would_be_served_before():
    queue = FairQueue(3)
    fill(queue, *[claim("greedy")] * 3)
    entry, dropped = queue.push("modest", claim("modest"))
    assert (dropped.item, dropped.waits, entry.waits) == (2, False, True)
    assert served(queue) == [0, "modest", 1]


def test_neither_class_shuts_another_out_of_a_full_queue():
    queue = FairQueue(40)
    fill(queue, *[claim(priority="high")] * 40)
    assert queue.push("low", claim(priority="low"))[1].item == 39
    assert queue.push("normal", claim(priority="normal"))[1].item == 38
    low = FairQueue(2)
    fill(low, *[claim(priority="low")] * 2)
    assert low.push("high", claim(priority="high"))[1].item == 1


def test_a_queue_of_no_places_refuses():
    with pytest.raises(Full):
        FairQueue(0).push(1, claim())


def test_all_may_go_on_waiting_for_something_else_in_the_same_order():
    queue = FairQueue(10)
    fill(queue, claim("a", latest=5.0), claim("b"), claim("a"))
    queue.refile(lambda entry: claim("z", priority="high", needs=("other", entry.item), latest=9.0))
    assert [queue.waiting_for(need) for need in ("room", "other")] == [0, 3]
    assert queue.next_expiry() == 5.0
    assert served(queue) == [0, 1, 2]


def test_an_error_on_the_way_loses_nobody():
    queue = FairQueue(10)
    fill(queue, claim("a", needs=("x",)), claim("b"), claim("c"))

    def give(entry):
        if entry.item == 1:
            raise KeyError(entry.item)
        return False

    with pytest.raises(KeyError):
        queue.serve(give)
    assert served(queue) == [0, 1, 2]


def test_deadlines_of_those_that_are_gone_do_not_pile_up():
    queue = FairQueue(10)
    kept, _ = queue.push("kept", claim(latest=5.0))
    for number in range(1000):
        queue.remove(queue.push(number, claim(latest=10.0 + number))[0])
        assert queue.next_expiry() == 5.0
    assert len(queue._by_deadline) <= 70
    assert queue.expire(9.0) == [kept]


def test_flows_of_those_that_are_gone_do_not_pile_up():
    queue = FairQueue(10)
    for number in range(1000):
        queue.remove(queue.push(number, claim(f"team {number}"))[0])
        served(queue)
    assert not any(ring.children for ring in queue._rings)
    assert not queue._crowds


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["greedy", "modest"]), min_size=20, max_size=200),
    st.lists(st.integers(1, 5), min_size=1, max_size=60),
)
def test_while_both_wait_two_flows_get_shares_within_one_call(arrivals, slots):
    queue = FairQueue(1000)
    for team in arrivals:
        queue.push(team, claim(team))
    counts = Counter()
    for free in slots:
        both = min(arrivals.count(team) - counts[team] for team in ("greedy", "modest"))
        if both < free:
            break
        counts.update(served(queue, free))
        assert abs(counts["greedy"] - counts["modest"]) <= 1


class Waiting(RuleBasedStateMachine):
    """Whatever is asked in whatever order: everybody is served, dropped, removed or late exactly once, in order."""

    def __init__(self):
        super().__init__()
        self.queue = FairQueue(12)
        self.now = 0.0
        self.entries = {}
        self.number = 0

    @rule(
        team=st.sampled_from("ab"),
        key=st.sampled_from("xy"),
        priority=st.sampled_from(["high", "normal", "low"]),
        needs=st.sampled_from([("r",), ("s",), ("r", "s")]),
        stays=st.sampled_from([1.0, 5.0, inf]),
    )
    def come(self, team, key, priority, needs, stays):
        self.number += 1
        one = claim(team, key, priority, needs=needs, latest=self.now + stays)
        try:
            entry, dropped = self.queue.push(self.number, one)
        except Full:
            assert len(self.entries) == 12
            return
        if dropped is not None:
            assert self.entries.pop(dropped.item) is dropped
        self.entries[self.number] = entry

    @rule(open_=st.sets(st.sampled_from("rs")), most=st.integers(0, 4))
    def serve(self, open_, most):
        got = []

        def give(entry):
            if len(got) >= most or not open_.issuperset(entry.claim.needs):
                return False
            got.append(entry)
            return True

        for late in self.queue.expire(self.now):
            assert self.entries.pop(late.item).claim.latest <= self.now
        before = list(self.entries.values())
        self.queue.serve(give)
        for entry in got:
            assert self.entries.pop(entry.item).claim.latest > self.now
        lane = {entry.item: (entry.claim.flow, entry.claim.priority, entry.claim.needs) for entry in before}
        for one, other in pairwise(sorted(got, key=lambda entry: (repr(lane[entry.item]), got.index(entry)))):
            assert lane[one.item] != lane[other.item] or one.item < other.item
        if len(got) < most:
            assert not any(open_.issuperset(entry.claim.needs) for entry in self.entries.values())

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def hang_up(self, data):
        item = data.draw(st.sampled_from(sorted(self.entries)))
        assert self.queue.remove(self.entries.pop(item))

    @rule(by=st.sampled_from([0.5, 1.0, 4.0]))
    def pass_time(self, by):
        self.now += by

    @invariant()
    def counts_agree(self):
        waiting = self.entries.values()
        assert len(self.queue) == len(waiting)
        assert [entry.item for entry in self.queue.entries()] == sorted(self.entries)
        for need in "rs":
            assert self.queue.waiting_for(need) == sum(need in entry.claim.needs for entry in waiting)
        assert self.queue.next_expiry() == min((entry.claim.latest for entry in waiting), default=inf)


Waiting.TestCase.settings = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
test_everybody_is_served_once_in_order_or_not_at_all = Waiting.TestCase

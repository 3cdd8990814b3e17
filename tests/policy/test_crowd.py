"""A place in line is foretold as the queue then gives it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.policy.crowd import RANKS, Crowd
from penstock.policy.queue import Claim, FairQueue

PRIORITIES = st.sampled_from(["high", "normal", "low"])
FLOWS = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"))


def crowd(*waiting):
    one = Crowd()
    for rank, flow, count in waiting:
        for _ in range(count):
            one.add(rank, flow, 5)
    return one


def test_its_own_flow_is_ahead_and_a_turn_of_each_other():
    assert Crowd().ahead(1, ("a", "x")) == 0
    assert crowd((1, ("a", "x"), 3)).ahead(1, ("a", "x")) == 3
    assert crowd((1, ("a", "x"), 9)).ahead(1, ("b", "x")) == 1
    assert crowd((1, ("a", "x"), 9)).ahead(1, ("a", "y")) == 1
    assert crowd((1, ("a", "x"), 9), (1, ("b", "x"), 2)).ahead(1, ("b", "x")) == 5


def test_classes_are_ahead_by_their_weight():
    assert crowd((0, ("a", "x"), 99)).ahead(1, ("b", "x")) == 4
    assert crowd((0, ("a", "x"), 99)).ahead(2, ("b", "x")) == 16
    assert crowd((0, ("a", "x"), 3)).ahead(2, ("b", "x")) == 3
    assert crowd((2, ("a", "x"), 99)).ahead(0, ("b", "x")) == 1


def test_whoever_leaves_is_counted_no_more():
    one = crowd((1, ("a", "x"), 2), (1, ("a", "y"), 1))
    assert (one.total, one.size) == (3, 15)
    for key in "xxy":
        one.remove(1, ("a", key), 5)
    assert (one.total, one.size, one.ahead(1, ("a", "x"))) == (0, 0, 0)


def test_the_last_is_named_only_where_a_newcomer_would_be_served_before():
    assert Crowd().last(1, ("a", "x")) is None
    assert crowd((1, ("a", "x"), 9)).last(1, ("a", "x")) is None
    assert crowd((1, ("a", "x"), 9), (1, ("b", "y"), 2)).last(1, ("b", "z")) == (1, ("a", "x"))
    assert crowd((1, ("a", "x"), 1)).last(1, ("b", "x")) is None
    assert crowd((1, ("a", "x"), 2)).last(1, ("b", "x")) == (1, ("a", "x"))
    assert crowd((2, ("a", "x"), 2)).last(0, ("b", "x")) == (2, ("a", "x"))
    assert crowd((0, ("a", "x"), 100)).last(2, ("b", "x")) == (0, ("a", "x")), "the low class has its share of places"


def filled(waiting):
    queue, one = FairQueue(100), Crowd()
    for number, (priority, flow) in enumerate(waiting):
        queue.push(number, Claim(("room",), flow, priority))
        one.add(RANKS[priority], flow, 1)
    return queue, one


def place(queue, claim):
    queue.push("new", claim)
    order = []
    queue.serve(lambda entry: order.append(entry.item) or True)
    return order.index("new")


@settings(deadline=None)
@given(st.lists(FLOWS, max_size=40), FLOWS)
def test_inside_a_class_the_queue_serves_as_foretold_or_better(waiting, flow):
    queue, one = filled([("normal", each) for each in waiting])
    foretold, lasting = one.ahead(1, flow), one.ahead_if_all_go_on(1, flow)
    assert queue.ahead("room", Claim(("room",), flow)) == (lasting, lasting)
    assert place(queue, Claim(("room",), flow)) <= foretold <= lasting
    if flow not in waiting and len({team for team, _ in waiting}) <= 1:
        assert foretold == lasting, "whoever has no other call waiting waits for one turn of each other"


@settings(deadline=None)
@given(st.lists(st.tuples(PRIORITIES, FLOWS), max_size=40), PRIORITIES, FLOWS)
def test_between_classes_it_is_about_right(waiting, priority, flow):
    queue, one = filled(waiting)
    foretold = one.ahead(RANKS[priority], flow)
    # Which class comes first in a tie depends on whose turn it was.
    assert abs(place(queue, Claim(("room",), flow, priority)) - foretold) <= 9 + 16


def test_who_keeps_on_coming_is_ahead_with_every_turn():
    one = crowd((1, ("a", "x"), 3), (1, ("a", "y"), 1), (1, ("b", "x"), 1), (0, ("c", "x"), 2))
    assert one.ahead_if_all_go_on(1, ("a", "x")) == 4 * 2 * 2 - 1 + 2
    assert one.ahead_if_all_go_on(1, ("d", "x")) == 3 - 1 + 2

"""When a target is left alone, as playbooks.

`.` an answer, `x` a failure, `b` an answer that breaks off, `~` what says nothing, `p` a probe begins, `+` and `-` how it
ended; digits let so many seconds pass.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.breaker import FEWEST, IN_A_ROW, WINDOW, Breaker

PROBE_S = 5.0


def play(book, breaker=None, now=0.0):
    """Run a playbook; give the breaker and the time."""
    breaker, number = breaker or Breaker(), 0
    for step in book:
        if step.isdigit():
            now += int(step)
        elif step == "p":
            number = breaker.begin()
            assert breaker.begin_probe(now, PROBE_S), f"no probe may be sent at {now}"
        elif step == ".":
            breaker.answer(now, breaker.begin())
        elif step == "x":
            breaker.fail(now, breaker.begin(), PROBE_S)
        elif step == "~":
            breaker.pass_over(breaker.begin())
        elif step == "b":
            number = breaker.begin()
            breaker.answer(now, number)
            breaker.fail(now, number, PROBE_S, answered=True)
        else:
            if step == "+":
                breaker.answer(now, number)
            else:
                breaker.fail(now, number, PROBE_S)
            breaker.end_probe(number)
    return breaker, now


@pytest.mark.parametrize(
    ("book", "state"),
    [
        ("", "closed"),
        ("xxxx", "closed"),
        ("xxxxx", "open"),
        ("xxxx.xxxx", "closed"),  # 8 of 9, too few to judge by their share
        ("xxxx.xxxx.", "closed"),  # an answer never opens it
        ("xxxx.xxxx.x", "open"),  # 9 of 11
        ("x.x.x.x.x.x", "open"),
        ("x.x.x.x.x", "closed"),  # 5 of 9
        ("x..x..x..x..x..x..x..x..", "closed"),  # a third of them
        ("bbbbbbbbb", "closed"),
        ("bbbbbbbbbb", "open"),
        ("b.b.b.b.b.b", "open"),
        ("x~~~~x~~~~x~~~~x~~~~x", "open"),  # what says nothing neither breaks a row nor thins it
        ("xxxx99.xxx99.xxx99.xxx", "closed"),  # never many within ten seconds, nor in a row
        ("x9x9x9x9x", "open"),  # a row counts however long it takes
        ("xxxxx4", "open"),
        ("xxxxx5", "half_open"),
        ("xxxxx5p", "half_open"),
        ("xxxxx5p-", "open"),
        ("xxxxx5p+", "closed"),
        ("xxxxx5p+xxxx", "closed"),
        ("xxxxx5p+xxxxx", "open"),
        ("xxxxx5p-5p-5p+", "closed"),
        ("xxxxx5p5p", "half_open"),  # the first one is still out
        ("xxxxx9xxxxx", "half_open"),  # what fails while it is open does not put its probe off
        ("xxxxx.", "closed"),  # a call that went there all the same
    ],
)
def test_the_state_after_a_playbook(book, state):
    breaker, now = play(book)
    assert breaker.state(now) == state
    assert (breaker.opened_at is None) == (state == "closed")


def test_the_share_of_failures_counts_only_the_last_twenty():
    breaker, now = play("." * WINDOW + "x.." * 4)
    assert breaker.window(now) == (4, WINDOW)


def test_the_share_of_failures_counts_only_the_last_ten_seconds():
    breaker, now = play("xx.x9")
    assert breaker.window(now) == (3, 4)
    assert breaker.window(now + 1.5) == (0, 0)


def test_one_probe_is_let_through_per_interval_and_no_more():
    breaker, now = play("xxxxx")
    sent = [t / 10 for t in range(1, 400) if breaker.begin_probe(now + t / 10, PROBE_S)]
    assert sent == [5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0]


def test_a_probe_that_takes_long_does_not_hold_the_next_one_up():
    breaker, now = play("xxxxx5")
    first, second = breaker.begin(), 0
    assert breaker.begin_probe(now, PROBE_S)
    second = breaker.begin()
    assert breaker.begin_probe(now + 5.0, PROBE_S)
    breaker.fail(now + 5.1, first, PROBE_S)
    breaker.end_probe(first)
    assert breaker.next_probe_at == now + 10.0
    assert breaker.state(now + 5.1) == "half_open"
    breaker.end_probe(second)
    assert breaker.state(now + 5.2) == "open"


def test_what_began_before_it_changed_says_nothing_afterwards():
    breaker = Breaker()
    old = [breaker.begin() for _ in range(IN_A_ROW)]
    play("xxxxxxxxxx5p+", breaker)
    for number in old:
        breaker.fail(6.0, number, PROBE_S)  # timeouts of the outage that come in late
        breaker.pass_over(number)
    assert breaker.opened_at is None
    play("xxxxx", breaker, 7.0)
    breaker.answer(8.0, old[0])  # a stream of before that goes on
    breaker.end_probe(old[0])
    assert breaker.state(8.0) == "open"
    assert breaker.openings == 2


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2])
def test_failures_that_come_sooner_than_answers_do_not_open_a_new_one(share):
    """A thousand tries begin before the first answer is there; a few of them fail at once."""
    breaker = Breaker()
    every = round(1 / share)
    for number in range(1, 1001):
        breaker.begin()
        if number % every == 0:
            breaker.fail(0.001 * number, number, PROBE_S)
    assert breaker.opened_at is None
    for number in range(1, 1001):
        if number % every:
            breaker.answer(1.0 + 0.001 * number, number)
        if number % every == 0:
            breaker.fail(1.0 + 0.001 * number, breaker.begin(), PROBE_S)
    assert breaker.opened_at is None


def test_timeouts_open_a_new_one_although_many_tries_are_still_out():
    breaker = Breaker()
    numbers = [breaker.begin() for _ in range(6000)]
    for number in numbers[:IN_A_ROW]:
        breaker.fail(60.0, number, PROBE_S)
    assert breaker.opened_at == 60.0


def test_it_opens_within_twenty_outcomes_once_all_or_half_of_the_calls_fail():
    worst = 0
    for before in range(30):
        for pattern in ("x", "x."):
            breaker, _ = play("." * before)
            outcomes = 0
            while breaker.opened_at is None:
                play(pattern[outcomes % len(pattern)], breaker, 1.0)
                outcomes += 1
                assert outcomes <= 20, (before, pattern)
            worst = max(worst, outcomes)
    print(f"opens after at most {worst} outcomes")


@given(st.text(".x1", max_size=200))
def test_an_open_breaker_had_its_reasons(book):
    """A slow model of the rule: the outcomes, as a list."""
    breaker, now, seen, row = Breaker(), 0.0, [], 0
    for step in book:
        play(step, breaker, now)
        if step == "1":
            now += 1
            continue
        seen.append((now, step == "x"))
        row = row + 1 if step == "x" else 0
        recent = [failed for at, failed in seen[-WINDOW:] if now - at <= 10.0]
        many = len(recent) >= FEWEST and sum(recent) * 2 >= len(recent)
        failures = sum(failed for _, failed in seen)
        is_sure = len(seen) - failures >= WINDOW or failures * 3 >= len(seen)
        if step == "x" and (row >= IN_A_ROW or many) and is_sure:
            assert breaker.opened_at == now
            return
        assert breaker.opened_at is None

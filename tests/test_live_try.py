"""One try while it lasts: it gives back what it holds once, and says how its target did."""

from functools import partial

import pytest

from penstock.errors import (
    DeadlineExceeded,
    RateLimited,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from penstock.live_try import SILENT_S, LiveTry, name_target
from penstock.policy.queue import Claim, FairQueue
from penstock.reply import Told
from penstock.target import Target

TARGET = Target(id="a/one", provider="a", model="one", dialect="chat")


class Room:
    """A slot that notes how it was left."""

    def __init__(self):
        self.left = []
        self.firsts = []

    def first(self, now):
        self.firsts.append(now)

    def leave(self, now, ending, output_tokens=0, tokens=0, retry_after_s=None):
        self.left.append((now, ending, retry_after_s))
        self.used = (output_tokens, tokens)
        return False


class Line:
    """A line in which one waits, who notes when he is let go."""

    def __init__(self, freed):
        self.queue = FairQueue(1)
        self.queue.push(None, Claim((), ("t", "k")))
        self.move = partial(freed.append, True)


class Held:
    """An exchange that counts how often it is closed."""

    closed = 0

    def close(self):
        self.closed += 1


def trying(began=0.0):
    freed = []
    live = LiveTry(TARGET, "first", began, Line(freed), Room())
    live.exchange = Held()
    return live, live._slot, freed


def test_only_the_first_ending_counts_and_everything_is_given_back_once():
    live, room, freed = trying()
    live.end("ok", 1.0)
    live.end("error", 2.0, UpstreamFailed("a/one: down"))
    assert (live.status, live.ended, live.error) == ("ok", 1.0, None)
    assert room.left == [(1.0, "ok", None)]
    assert freed == [True]
    assert live.exchange.closed == 1


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (UpstreamRateLimited("slower", retry_after_s=3.0), "limited"),
        (UpstreamOverloaded("busy", status=529), "limited"),
        (UpstreamOverloaded("down", status=503), "failed"),
        (UpstreamTimeout("late"), "timeout"),
        (UpstreamRejected("no"), "rejected"),
        (UpstreamFailed("down"), "failed"),
        (RateLimited("ours"), "rejected"),
    ],
)
def test_an_error_says_how_its_target_did(error, ending):
    live, room, _ = trying()
    live.end("error", 1.0, error)
    assert room.left == [(1.0, ending, error.retry_after_s)]


@pytest.mark.parametrize(
    ("after_s", "first", "ending"),
    [(SILENT_S, False, "timeout"), (1.0, False, "cancelled"), (SILENT_S, True, "cancelled")],
)
def test_a_deadline_is_held_against_a_target_that_said_nothing_for_long(after_s, first, ending):
    live, room, _ = trying()
    if first:
        live.first(1.0, streamed=True)
    live.end("error", after_s, DeadlineExceeded("over"))
    assert room.left == [(after_s, ending, None)]


def test_the_first_content_of_a_stream_is_told_and_that_of_a_whole_reply_is_not():
    for streamed in (True, False):
        live, room, _ = trying()
        live.first(1.0, streamed=streamed)
        assert live.first_at == 1.0
        assert room.firsts == ([1.0] if streamed else [])


def test_a_reply_that_told_all_of_itself_is_read_there_and_by_a_meter_alike():
    live, room, _ = trying()
    live.told = Told(b"{}", "1", "m", "stop", 10, 5)
    live.end("ok", 1.0)
    assert "meter" not in vars(live), "nobody asked for it"
    assert live.exchange.closed == 0, "it holds nothing any more"
    other, its_room, _ = trying()
    other.meter.observe(live.told.events)
    other.end("ok", 1.0)
    assert room.used == its_room.used == (5, 15)
    assert vars(live.meter) == vars(other.meter)


def test_what_may_have_been_worked_on_is_billed():
    answered, refused, gone, unsent = (trying()[0] for _ in range(4))
    for live in (refused, gone, unsent):
        live.exchange = None
    refused.end("error", 1.0, UpstreamRejected("no"))
    gone.end("cancelled", 1.0)
    unsent.sent = False
    unsent.end("cancelled", 1.0)
    assert [live.billed for live in (answered, refused, gone, unsent)] == [True, False, True, False]


def test_an_error_of_a_provider_says_whose_it_is_once():
    error = UpstreamFailed("down")
    assert name_target(name_target(error, TARGET), TARGET).message == "a/one: down"
    assert name_target(RateLimited("slower"), TARGET).message == "slower"

"""The end of accounts: what is known of a reply that was cut, what cost more than was held, and who learns from it."""

import asyncio
from math import inf

import pytest
from msgspec import structs
from tests.test_accounting import CALL, HELD, WEB, accounts
from tests.test_direct import TOLD, Asker, Ready
from tests.test_gateway import CONFIG, WHOLE, jumping, world
from tests.test_growth import Reply

from penstock.closing import TARGETS, _completed
from penstock.errors import Internal
from penstock.inflight import InFlight
from penstock.live_try import LiveTry
from penstock.policy.rooms import Room
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


# -- where something is raised that should not be --


ROOMY = CONFIG.replace("concurrency = 3", "concurrency = 50")
STEPS = {
    "money": lambda one: (one.gateway.reservations.budgets, "settle"),
    "room": lambda _: (Room, "leave"),
    "deadline": lambda one: (one.gateway._deadlines, "forget"),
    "learning": lambda one: (one.gateway._accounts, "_learn"),
}


class Defect:
    """Takes the place of a function, and raises at some of its calls: behind what it does, or instead of it."""

    def __init__(self, monkeypatch, place, name, numbers, *, late=True):
        self.does, self.numbers, self.late = getattr(place, name), numbers, late
        self.calls, self.left = 0, []

        def stands_in(*arguments):  # a function, to which a class would give its object
            return self.call(*arguments)

        monkeypatch.setattr(place, name, stands_in)

    def call(self, *arguments):
        self.calls += 1
        fails = self.calls in self.numbers
        found = self.does(*arguments) if self.late or not fails else self.left.append(arguments)
        if fails:
            raise ZeroDivisionError(self.calls)
        return found

    def repair(self):
        """Do what was not done."""
        for arguments in self.left:
            self.does(*arguments)


@pytest.fixture
def raised():
    """What the loop was told of: see `listen`."""
    return []


def listen(raised):
    asyncio.get_running_loop().set_exception_handler(lambda _, said: raised.append(said["exception"]))


def answer_all(one, provider, count):
    """Have calls answered in one turn; who asked."""
    askers = [Asker(one) for _ in range(count)]
    one.gateway.direct(askers)
    for sent in provider.sent[-count:]:
        sent.come(told=TOLD)
    return askers


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("step", STEPS)
@jumping
async def test_a_call_that_cannot_be_closed_keeps_no_other_from_it(tmp_path, monkeypatch, step, number, late, raised):
    provider = Ready()
    listen(raised)
    async with world(tmp_path, config=ROOMY, a=provider) as one:
        place, name = STEPS[step](one)
        if step == "learning":
            one.gateway._accounts._learns_at.clear()
        defect = Defect(monkeypatch, place, name, {number}, late=late)
        askers = answer_all(one, provider, 4)
        ceiling = askers[0].direct.flight.ceiling
        await asyncio.sleep(0)
        assert [type(error) for error in raised] == [ZeroDivisionError]
        assert [len(asker.answers) for asker in askers] == [1] * 4, "that they are closed is no business of theirs"
        assert one.gateway.in_flight == 0
        left = not late
        assert {*one.held()} <= {0, ceiling if left and step == "money" else 0}
        assert one.inside()["web"] == (left and step == "room")
        defect.repair()
        one.check()


@jumping
async def test_where_several_cannot_be_closed_the_first_is_raised_and_the_others_are_logged(
    tmp_path, monkeypatch, raised, caplog
):
    provider = Ready()
    listen(raised)
    async with world(tmp_path, config=ROOMY, a=provider) as one:
        Defect(monkeypatch, *STEPS["money"](one), {2, 3, 5})
        Defect(monkeypatch, *STEPS["room"](one), {1, 2})
        askers = answer_all(one, provider, 5)
        await asyncio.sleep(0)
        assert [error.args for error in raised] == [(2,)]
        logged = [record.args[0] for record in caplog.records if "could not be closed" in record.message]
        assert logged == [askers[number].direct.flight.id for number in (2, 4, 0, 1)]
        assert [len(asker.answers) for asker in askers] == [1] * 5
        one.check()


@pytest.mark.parametrize("step", ["money", "room", "count"])
@jumping
async def test_a_call_that_is_closed_alone_leaves_nothing_either(tmp_path, monkeypatch, step):
    provider = Ready()
    async with world(tmp_path, config=ROOMY, a=provider) as one:
        if step == "count":
            accounts = one.gateway._accounts
            accounts._books = structs.replace(accounts._books, count=broken)
        else:
            Defect(monkeypatch, *STEPS[step](one), {1})
        asker = Asker(one)
        asker.begin()
        provider.sent[0].come(WHOLE)
        assert isinstance(await asker.finish(), Internal), "whoever had it closed is told"
        one.check()


@jumping
async def test_figures_that_cannot_be_counted_keep_nothing_from_being_given_back(tmp_path, raised):
    provider = Ready()
    listen(raised)
    async with world(tmp_path, config=ROOMY, a=provider) as one:
        accounts = one.gateway._accounts
        accounts._books = structs.replace(accounts._books, count=broken)
        askers = answer_all(one, provider, 3)
        await asyncio.sleep(0)
        assert [type(error) for error in raised] == [ZeroDivisionError]
        assert [len(asker.answers) for asker in askers] == [1] * 3
        one.check()


def broken(*_):
    raise ZeroDivisionError

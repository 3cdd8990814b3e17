"""Whatever comes together in a turn of the loop: no request leaves before its intent, no last byte before its receipt.

Calls begin, go on, end and are given up in random turns, over the real ledger and outbox, on a disk that fails at random and
sockets of which each write is compared with what stands in the journal at that moment.
"""

import asyncio
import errno
import os
import random
from collections import Counter
from types import SimpleNamespace

import pytest

from penstock.errors import Overloaded
from penstock.ledger.ids import Ids, id_bytes
from penstock.ledger.journal import Disk
from penstock.ledger.ledger import Ledger, LedgerSettings
from penstock.ledger.reading import read_all, segments_of
from penstock.ledger.records import Intent
from penstock.ledger.rows import receipt_of
from penstock.ledger.store import FILE, Filter, Span, Store
from penstock.outbox import Outbox
from penstock.providers.exchange import Reply
from penstock.providers.sending import depart
from penstock.receipt import Receipt
from penstock.server.outlet import PENDING_BYTES, Outlet

NOW_NS = 1_763_754_000_000_000_000
EVER = Span(0, 2**62)


class Loop:
    """A loop of which the test says when a turn is over."""

    def __init__(self):
        self.soon = []

    def call_soon(self, what):
        self.soon.append(what)

    def turn(self):
        soon, self.soon = self.soon, []
        for each in soon:
            each()

    def create_future(self):
        return Waiter()


class Waiter:
    """As much of a future as is used: who waits is told, or has gone."""

    def __init__(self):
        self.told = self.gone = False

    def done(self):
        return self.told or self.gone

    def cancelled(self):
        return self.gone

    def set_result(self, _):
        self.told = True


class BadDisk:
    """A real disk; `odds` say how often a write fails, at once or after a few bytes, and a truncation does."""

    def __init__(self, chance, odds):
        self.chance, self.odds = chance, odds
        self.writes = 0
        self.disk = Disk(write=self.write, truncate=self.truncate)
        self.is_short = False

    def write(self, fd, data):
        self.writes += 1
        if self.chance.random() >= self.odds and not self.is_short:
            return os.write(fd, data)
        if not self.is_short and self.chance.random() < 0.5:
            self.is_short = True  # the rest of it fails
            return os.write(fd, data[: self.chance.randrange(len(data))])
        self.is_short = False
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def truncate(self, fd, size):
        if self.chance.random() < self.odds:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.ftruncate(fd, size)


class Wire:
    """A socket, of a client or of a provider, whose every write is looked at."""

    def __init__(self, look):
        self.look = look
        self.ended = False

    def write(self, data):
        self.look(data)

    def write_eof(self):
        self.ended = True

    close = abort = write_eof

    def get_write_buffer_size(self):
        return 0

    def get_extra_info(self, _):
        return SimpleNamespace(setsockopt=lambda *_: None)


class Source:
    """A connection to a provider."""

    def __init__(self, loop):
        self.loop, self.reply, self.dropped = loop, None, False

    def fail(self, kind, detail):
        self.dropped = True
        self.reply.connection = None
        self.reply.wake()


class Call:
    """One call, and what it has come to."""

    def __init__(self, name, world):
        self.id, self.reply = name, None
        self.is_settled = self.is_refused = self.is_gone = self.has_ended = False
        self.sent = []
        self.outlet = Outlet(world.clock, Wire(lambda data: world.look(self, data)), (0, 0, b""))
        self.upstream = Wire(lambda data: world.leave(self, data))


class World:
    """A ledger, an outbox and calls."""

    def __init__(self, home, seed, odds=0.0, **settings):
        self.chance = random.Random(seed)
        self.home = home
        self.loop = Loop()
        self.outbox = Outbox.of(self.loop)
        self.bad = BadDisk(self.chance, 0.0)
        self.ledger = Ledger.open(home, now_ns=NOW_NS, settings=LedgerSettings(disk=self.bad.disk, **settings))
        self.ledger.gather(self.outbox)
        self.ledger._tidying = SimpleNamespace(ask=lambda: None, close=lambda: None)  # segments stay until it is closed
        self.bad.odds = odds
        self.clock = SimpleNamespace(
            limits=SimpleNamespace(write_stall_s=1),
            loop=self.loop,
            outbox=self.outbox,
            in_flight=0,
            now=0.0,
            draining=False,
        )
        self.ids = Ids(self.chance)
        self.calls = []
        self.refusals = 0

    def journal(self):
        """The ids of the intents and of the receipts that the kernel has."""
        folder, writer = self.ledger._journal.folder, self.ledger._journal.writer
        values = [v for path in segments_of(folder, writer) for reading in read_all(path) for v in reading.values]
        intents = Counter(id_bytes(value.id) for value in values if isinstance(value, Intent))
        return intents, Counter(bytes(value[0]) for value in values if not isinstance(value, Intent))

    # -- what sockets are given --

    def leave(self, call, data):
        assert self.journal()[0][id_bytes(call.id)] or call.sent, "a request left before its intent was written"
        assert not call.is_refused
        call.sent.append(data)

    def look(self, call, data):
        if b"END" in data:
            name = id_bytes(call.id)
            late = any(one[0] == call.id for one in self.ledger._late)
            is_kept = self.journal()[1][name] or self.ledger.store.call(name) is not None
            assert late or is_kept, "an answer ended before its receipt was written"
            call.has_ended = True

    # -- what calls do --

    def begin(self):
        call = Call(self.ids.new(NOW_NS), self)
        self.calls.append(call)
        intent = Intent(call.id, NOW_NS, "chat", "m" * self.chance.randrange(1, 200), hold_nano_usd=7)
        soon = self.chance.random() < 0.8
        try:
            self.ledger.intend(intent, soon=soon)
            if soon and self.chance.random() < 0.1:  # it goes another way after all
                self.ledger.intend(intent)
                soon = False
        except Overloaded:
            call.is_refused = True
            self.refusals += 1
            self.end(call)
            return
        if not soon and self.chance.random() < 0.5:
            self.loop.call_soon(lambda: self.ask(call))
        else:
            self.ask(call)

    def ask(self, call):
        """Send its request, for the first time or once more."""
        if not call.is_settled:
            source = Source(self.loop)
            call.reply = source.reply = Reply(source, Waiter())
            outbox = self.outbox if self.chance.random() < 0.8 else None
            depart(call.reply, b"request", call.upstream.write, outbox)

    def go_on(self, call):
        data = b"x" * (PENDING_BYTES if self.chance.random() < 0.1 else 20)
        call.outlet.write(data)

    def end(self, call):
        call.is_settled = True
        status = "refused" if call.is_refused else "ok"
        self.ledger.settle(Receipt(call.id, NOW_NS, "chat", "m", status, 200, cost_nano_usd=0))
        call.outlet.write(b"END")
        self.chance.choice([lambda: None, lambda: None, call.outlet.close, call.outlet.half_close, call.outlet.reset])()

    def give_up(self, call):
        call.is_gone = True
        if call.reply is not None:
            call.reply.waiter = Waiter()
            call.reply.waiter.gone = True
        call.outlet.stop()
        self.end(call)

    def look_at_replies(self):
        """Have the calls whose request was taken back end."""
        for call in self.calls:
            fault = None if call.reply is None else call.reply.fault
            if fault is not None and fault.why is not None and not call.is_settled:
                assert isinstance(fault.why, Overloaded)
                assert not fault.sent
                assert call.reply.unsent
                call.is_refused = True
                self.refusals += 1
                self.end(call)

    def turn(self):
        for _ in range(self.chance.randrange(12)):
            alive = [call for call in self.calls if not call.is_settled]
            self.clock.in_flight = len(alive)
            call = self.chance.choice(alive) if alive else None
            what = self.chance.random()
            if call is None or what < 0.4:
                self.begin()
            elif what < 0.5:
                self.go_on(call)
            elif what < 0.8:
                self.end(call)
            elif what < 0.85:
                self.give_up(call)
            elif what < 0.9 and call.sent:
                self.ask(call)
            elif what < 0.93:
                assert self.ledger.state.open_intents >= 0
            elif what < 0.95:
                self.ledger.flush()

    def check(self):
        """What the ledger says of itself is what has happened."""
        opened = {call.id for call in self.calls if not call.is_settled}
        late = {one[0] for one in self.ledger._late}
        self.ledger.commit()
        assert {*self.ledger._open} - late <= opened
        assert sum(segment.open for segment in self.ledger._journal.segments) == len(self.ledger._open)
        kept = sum(one.calls for one in self.ledger.store.sums(EVER, ()))
        assert self.ledger.backlog + kept == sum(call.is_settled for call in self.calls)


def run(world, turns):
    for _ in range(turns):
        world.turn()
        world.loop.turn()
        world.look_at_replies()
        if not world.loop.soon:
            world.check()


def finish(world):
    world.bad.odds = 0.0
    while world.loop.soon:
        world.loop.turn()
        world.look_at_replies()
    for call in world.calls:
        if not call.is_settled:
            world.end(call)
    world.loop.turn()


@pytest.mark.parametrize(("odds", "memory_rows"), [(0.0, 40), (0.15, 80), (0.6, 10_000)])
@pytest.mark.parametrize("seed", range(4))
def test_nothing_leaves_before_it_is_written_and_every_call_has_one_receipt(tmp_path, seed, odds, memory_rows):
    world = World(tmp_path / "home", seed, odds, segment_bytes=3000, memory_rows=memory_rows)
    run(world, 40)
    finish(world)
    world.check()
    ledger = world.ledger
    assert len(world.calls) > 30
    assert all(call.has_ended or call.is_gone for call in world.calls)
    if odds:
        assert ledger.state.refused >= world.refusals > 0
    else:
        assert ledger.state.refused == world.refusals == 0
        assert world.bad.writes < 2 * len(world.calls), "records are written together"
    while ledger.flush():
        pass
    assert (ledger.open_intents, ledger.state.unreadable) == (0, 0)
    ledger.close()
    store = Store.open(tmp_path / "home" / FILE)
    receipts = {receipt.id: receipt.status for receipt in store.calls(Filter(EVER), 100_000)}
    store.close()
    assert receipts == {call.id: "refused" if call.is_refused else "ok" for call in world.calls}
    assert list((tmp_path / "home" / "journal").iterdir()) == []


@pytest.mark.parametrize("odds", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_whenever_the_process_dies_what_left_is_known(tmp_path, seed, odds):
    world = World(tmp_path / "home", seed, odds, segment_bytes=3000)
    run(world, 10)
    world.turn()  # and dies within it
    folder, journal = tmp_path / "home" / "journal", world.ledger._journal
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    late = {one[0] for one in world.ledger._late}
    asked = {call.id for call in world.calls if call.sent}
    ended = {call.id for call in world.calls if call.has_ended} - late
    journal.close(delete=False)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
    again = Ledger.open(tmp_path / "home", now_ns=NOW_NS)
    receipts = {receipt.id: receipt.status for receipt in again.store.calls(Filter(EVER), 100_000)}
    again.close()
    assert asked <= {*receipts}
    assert all(receipts[call] != "interrupted" for call in ended)
    world.ledger._closed = True


async def test_a_loop_that_runs_writes_the_records_of_a_turn_at_its_end(tmp_path):
    disk = BadDisk(random.Random(1), 0.0)
    ledger = Ledger.open(tmp_path / "home", now_ns=NOW_NS, settings=LedgerSettings(disk=disk.disk))
    ids = Ids(random.Random(1))
    ledger.gather(Outbox.of(asyncio.get_running_loop()))
    names = [ids.new(NOW_NS) for _ in range(20)]
    for name in names:
        ledger.intend(Intent(name, NOW_NS, "chat", "m"), soon=True)
    assert disk.writes == 2, "the head, and the first, beside which there is no other"
    await asyncio.sleep(0)
    assert disk.writes == 3
    for name in names:
        ledger.settle(Receipt(name, NOW_NS, "chat", "m", "ok", 200))
    assert disk.writes == 3
    await asyncio.sleep(0)
    assert (disk.writes, ledger.open_intents, ledger.backlog) == (4, 0, 20)
    ledger.close()


async def test_whoever_books_after_a_receipt_is_told_whether_one_waits(tmp_path):
    disk = BadDisk(random.Random(1), 0.0)
    ledger = Ledger.open(tmp_path / "home", now_ns=NOW_NS, settings=LedgerSettings(disk=disk.disk))
    ids = Ids(random.Random(1))
    outbox = Outbox.of(asyncio.get_running_loop())
    ledger.gather(outbox)
    names = [ids.new(NOW_NS) for _ in range(3)]
    for name in names:
        ledger.intend(Intent(name, NOW_NS, "chat", "m"), soon=True)
    assert (disk.writes, ledger.receipts_wait) == (2, False)
    ledger.settle(Receipt(names[0], NOW_NS, "chat", "m", "ok", 200))
    assert (disk.writes, ledger.receipts_wait) == (2, True)
    outbox.commit()
    assert (disk.writes, ledger.receipts_wait) == (3, False)
    ledger.settle(Receipt(names[1], NOW_NS, "chat", "m", "ok", 200))
    ledger.settle(Receipt(names[2], NOW_NS, "chat", "m", "ok", 200))
    outbox.commit()
    assert ledger.open_intents == 0
    ledger.close()


async def test_an_intent_that_waits_is_written_once_when_its_request_goes_another_way(tmp_path):
    disk = BadDisk(random.Random(1), 0.0)
    ledger = Ledger.open(tmp_path / "home", now_ns=NOW_NS, settings=LedgerSettings(disk=disk.disk))
    ids = Ids(random.Random(1))
    ledger.gather(Outbox.of(asyncio.get_running_loop()))
    first, second = (Intent(ids.new(NOW_NS), NOW_NS, "chat", "m") for _ in range(2))
    ledger.intend(first)
    ledger.intend(second, soon=True)
    assert disk.writes == 2
    for _ in range(3):
        ledger.intend(second)
    assert disk.writes == 3
    await asyncio.sleep(0)
    assert disk.writes == 3
    assert ledger._journal.segments[-1].open == ledger.open_intents == 2
    ledger.close()


async def test_a_monstrous_record_is_clipped_and_those_beside_it_stay_as_they_are(tmp_path):
    ledger = Ledger.open(tmp_path / "home", now_ns=NOW_NS)
    ids = Ids(random.Random(1))
    outbox = Outbox.of(asyncio.get_running_loop())
    ledger.gather(outbox)
    names = [ids.new(NOW_NS) for _ in range(5)]
    sessions = ["a", "b" * 100_000, "c", "\ud800", "e"]
    for name, session in zip(names, sessions, strict=True):
        ledger.intend(Intent(name, NOW_NS, "chat", "m", session=session), soon=True)
    outbox.commit()
    for name, session in zip(names, sessions, strict=True):
        ledger.settle(Receipt(name, NOW_NS, "chat", "m", "ok", 200, session=session))
    outbox.commit()
    folder, writer = ledger._journal.folder, ledger._journal.writer
    written = [v for path in segments_of(folder, writer) for reading in read_all(path) for v in reading.values]
    clipped = ["a", "b" * 256, "c", "?", "e"]
    assert [value.session for value in written[:5]] == clipped
    assert [receipt_of(row).session for row in written[5:]] == clipped
    while ledger.flush():
        pass
    assert [ledger.store.call(id_bytes(name)).session for name in names] == clipped
    ledger.close()


async def test_a_batch_may_end_calls_of_several_segments_and_calls_without_an_intent(tmp_path):
    settings = LedgerSettings(segment_bytes=600)
    ledger = Ledger.open(tmp_path / "home", now_ns=NOW_NS, settings=settings)
    ledger._tidying = SimpleNamespace(ask=lambda: None, close=lambda: None)
    ids = Ids(random.Random(1))
    outbox = Outbox.of(asyncio.get_running_loop())
    ledger.gather(outbox)
    names = [ids.new(NOW_NS) for _ in range(8)]
    for name in names[:6]:
        ledger.intend(Intent(name, NOW_NS, "chat", "m" * 100))
    segments = ledger._journal.segments
    assert len(segments) > 2
    for name in (*names[1:], names[1]):
        ledger.settle(Receipt(name, NOW_NS, "chat", "m", "refused", 402, cost_nano_usd=0))
    outbox.commit()
    assert [segment.open for segment in segments] == [1] + [0] * (len(segments) - 1)
    assert {segment.last for segment in segments[1:]} == {8}
    assert ledger.open_intents == 1
    ledger.close()

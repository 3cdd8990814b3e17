"""How a request leaves, with a task or without one, and how one is taken back."""

import asyncio

import pytest

from penstock.errors import Overloaded
from penstock.outbox import Outbox
from penstock.plugins import UNSENT
from penstock.providers.exchange import Fault, Reply
from penstock.providers.failures import failure
from penstock.providers.sending import Sending, depart


class Line:
    """A connection, as its reply sees it, and what was written to it."""

    pending = b""

    def __init__(self, done: list[str]) -> None:
        self.loop = asyncio.get_running_loop()
        self.done = done
        self.reply = Reply(self, self.loop.create_future())  # type: ignore[arg-type]

    def fail(self, kind: str, detail: str) -> None:
        self.done.append("dropped")
        self.reply.connection = None
        self.reply.wake()

    def write(self, data: bytes) -> None:
        self.done.append(data.decode())

    def ask(self, outbox: Outbox | None) -> Reply:
        return depart(self.reply, b"asked", self.write, outbox)


@pytest.fixture
async def outbox() -> Outbox:
    return Outbox.of(asyncio.get_running_loop())


async def test_without_an_outbox_a_request_leaves_at_once_unless_something_has_to_be_on_disk_before(
    outbox: Outbox,
) -> None:
    done: list[str] = []
    assert not Line(done).ask(None).unsent
    assert done == ["asked"]
    outbox.before(lambda: done.append("record"))
    reply = Line(done).ask(None)
    assert (done, reply.unsent) == (["asked"], True)
    await asyncio.sleep(0)
    assert (done, reply.unsent) == (["asked", "record", "asked"], False)


async def test_a_request_whose_intent_could_not_be_written_never_leaves_and_whoever_waits_is_told_why(
    outbox: Outbox,
) -> None:
    done: list[str] = []
    why = Overloaded("The ledger cannot be written.")
    outbox.before(lambda: outbox.refuse("a", why))
    outbox.intent = "a"
    refused = Line(done).ask(outbox)
    other = Line(done).ask(outbox)
    await asyncio.sleep(0)
    assert done == ["dropped", "asked"]
    assert (refused.waiter, refused.fault is not None, refused.unsent, other.fault) == (None, True, True, None)
    assert refused.fault is not None
    assert not refused.fault.sent
    assert failure(refused.fault.copy(), "box/m") is why
    assert not why.worked


async def test_one_that_nobody_waits_for_any_more_is_not_told(outbox: Outbox) -> None:
    done: list[str] = []
    outbox.before(lambda: outbox.refuse("a", Overloaded("full")))
    outbox.intent = "a"
    reply = Line(done).ask(outbox)
    assert isinstance(reply.waiter, asyncio.Future)
    reply.waiter.cancel()
    await asyncio.sleep(0)
    assert (done, reply.fault) == ([], None)


# -- without a task --


class Waiter:
    """Whoever began a call, and what it was told."""

    def __init__(self) -> None:
        self.told: list[bool] = []

    def done(self) -> bool:
        return bool(self.told)

    cancelled = done

    def set_result(self, *told: bool) -> None:
        self.told += told


class Half(Sending):
    """The sending half of a connection, beside one that only knows how to end."""

    chunks: tuple[bytes, ...] = ()

    def __init__(self, done: list[str], name: str) -> None:
        super().__init__(asyncio.get_running_loop())
        self.done, self.name, self.waiter = done, name, Waiter()
        self.send = lambda data: done.append(data.decode())
        self._first_byte_s = 3.0

    def ask_for(self, outbox: Outbox | None) -> Reply:
        return self.ask(self.name.encode(), 9.0, 1.0, self.waiter, outbox)

    def fail(self, kind: str, detail: str) -> None:
        self.done.append(f"dropped {self.name}")
        reply, self.pending, self.reply = self.reply, b"", None
        assert reply is not None
        reply.fault, reply.connection = Fault("aborted", detail, sent=True), None
        reply.wake()


async def test_one_that_is_alone_leaves_at_once_unless_something_has_to_be_on_disk_before(outbox: Outbox) -> None:
    done: list[str] = []
    one = Half(done, "one")
    reply = one.ask_for(None)
    assert (done, one.pending, one.due, one.deadline) == (["one"], b"", 4.0, 9.0)
    assert (reply.connection, reply.waiter, one.reply) == (one, one.waiter, reply)
    outbox.before(lambda: done.append("record"))
    two = Half(done, "two")
    two.ask_for(None)
    assert (done, two.pending) == (["one"], b"two")
    await asyncio.sleep(0)
    assert (done, two.pending) == (["one", "record", "two"], b"")


async def test_others_leave_at_the_end_of_the_turn_and_one_that_is_given_up_before_never_does(outbox: Outbox) -> None:
    done: list[str] = []
    halves = [Half(done, name) for name in "abc"]
    replies = [half.ask_for(outbox) for half in halves]
    assert done == []
    why = asyncio.CancelledError("gone")
    replies[1].abandon(why)
    assert why.args == ("gone", UNSENT)
    await asyncio.sleep(0)
    assert done == ["dropped b", "a", "c"]
    late = asyncio.CancelledError("gone")
    replies[0].abandon(late)
    assert late.args == ("gone",)


async def test_one_whose_intent_could_not_be_written_never_leaves_and_its_call_is_told_once(outbox: Outbox) -> None:
    done: list[str] = []
    why = Overloaded("The ledger cannot be written.")
    outbox.before(lambda: [outbox.refuse(name, why) for name in ("a", "b", "unheard of")])
    halves = [Half(done, name) for name in "abc"]
    replies = []
    for half in halves:
        outbox.intent = half.name
        replies.append(half.ask_for(outbox))
    outbox.commit()  # somebody could not wait for the end of the turn
    assert done == []
    gone = asyncio.CancelledError()
    replies[1].abandon(gone)
    assert gone.args == (UNSENT,)
    await asyncio.sleep(0)
    assert done == ["dropped b", "dropped a", "c"]
    assert [half.waiter.told for half in halves] == [[False], [False], []]
    fault = replies[0].fault
    assert fault is not None
    assert (fault.why, fault.sent, replies[0].unsent, replies[2].fault) == (why, False, True, None)
    assert failure(fault.copy(), "box/m") is why
    outbox.refuse("c", why)  # of another turn
    await asyncio.sleep(0)
    assert done == ["dropped b", "dropped a", "c"]


async def test_one_that_is_refused_after_its_call_was_given_up_leaves_everything_as_it_is(outbox: Outbox) -> None:
    done: list[str] = []
    half = Half(done, "a")
    outbox.before(lambda: outbox.refuse("a", Overloaded("full")))
    outbox.intent = "a"
    half.ask_for(outbox).close()
    await asyncio.sleep(0)
    assert done == ["dropped a"]

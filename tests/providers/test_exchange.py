"""What an exchange gives, apart from any connection."""

import asyncio

import pytest

from penstock.errors import Overloaded
from penstock.outbox import Outbox
from penstock.providers.exchange import Fault, Limits, Reply, depart
from penstock.providers.failures import failure


def test_a_fault_says_its_kind_and_what_happened() -> None:
    fault = Fault("reset", "upstream.test:443 broke the connection", sent=True, reused=True)
    assert str(fault) == "reset: upstream.test:443 broke the connection"
    assert (fault.kind, fault.sent, fault.reused) == ("reset", True, True)
    assert not Fault("dns", "no such name", sent=False).reused


def test_limits_are_frozen_and_bounded_by_default() -> None:
    limits = Limits()
    with pytest.raises(AttributeError):
        limits.connect_s = 1.0  # type: ignore[misc]
    assert limits.reply_bytes == 64 * 1024 * 1024
    assert (limits.connections, limits.waiters, limits.interim) == (1000, 10_000, 8)


@pytest.mark.parametrize(("status", "reason"), [(200, "OK"), (429, "Too Many Requests"), (529, ""), (999, "")])
def test_the_reason_is_the_registered_one(status: int, reason: str) -> None:
    assert Reply(None, None, status=status).reason == reason


def test_two_replies_are_never_the_same_and_show_no_content() -> None:
    one = Reply(None, None, status=200, whole=b"secret")
    assert one != Reply(None, None, status=200, whole=b"secret")
    assert repr(one) == "<Reply 200 ended>"


async def test_an_ended_reply_gives_its_rest_once_and_may_be_closed_and_woken_at_any_time() -> None:
    reply = Reply(None, None, status=200, rest=b"rest")
    reply.wake()
    reply.close()
    assert await reply.read() == b"rest"
    assert await reply.read() is None


# -- how a request leaves --


class Line:
    """A connection, as its reply sees it, and what was written to it."""

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

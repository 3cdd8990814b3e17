"""What an exchange gives, apart from any connection."""

import pytest

from penstock.providers.exchange import Fault, Limits, Reply


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

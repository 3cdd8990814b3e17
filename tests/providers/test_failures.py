"""What a broken connection means for the line, how long to wait, and which words show a key."""

from datetime import UTC, datetime

import pytest

from penstock.errors import (
    DeadlineExceeded,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from penstock.providers.exchange import Fault
from penstock.providers.failures import MAX_RETRY_AFTER_S, failure, quotes, retry_after_s, spelled_out

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("deadline", DeadlineExceeded),
        ("first_byte_timeout", UpstreamTimeout),
        ("idle_timeout", UpstreamTimeout),
        ("connect_timeout", UpstreamTimeout),
        ("truncated", UpstreamGarbled),
        ("protocol", UpstreamGarbled),
        ("too_large", UpstreamGarbled),
        ("encoding", UpstreamGarbled),
        ("busy", UpstreamOverloaded),
        ("refused", UpstreamFailed),
        ("tls", UpstreamFailed),
        ("reset", UpstreamFailed),
    ],
)
def test_each_fault_has_its_class(kind, error):
    found = failure(Fault(kind, "it broke", sent=False), "box/m")
    assert type(found) is error
    assert "box/m" in found.message
    assert not found.worked


def test_a_request_that_went_out_may_have_been_worked_on():
    assert failure(Fault("reset", "x", sent=True), "box/m").worked


def test_a_stale_connection_is_tried_again_at_once():
    stale = failure(Fault("closed", "x", sent=True, reused=True), "box/m")
    assert stale.retry_after_s == 0.0
    assert not stale.worked


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"retry-after": b"7"}, 7.0),
        ({b"retry-after": b"0.5"}, 0.5),
        ({b"retry-after-ms": b"250", b"retry-after": b"9"}, 0.25),
        ({b"retry-after-ms": b"soon", b"retry-after": b"9"}, 9.0),
        ({b"retry-after": b"Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ({b"retry-after": b"Sat, 21 Nov 2026 12:00:30 -0000"}, 30.0),
        ({b"retry-after": b"Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
        ({b"retry-after": b"-5"}, 0.0),
        ({b"retry-after": b"1e99"}, MAX_RETRY_AFTER_S),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"tomorrow"}, None),
        ({b"retry-after": b"\xff\xfe"}, None),
    ],
)
def test_how_long_to_wait_is_read_from_any_form(headers, seconds):
    assert retry_after_s(headers.get, NOW) == seconds


def test_a_key_and_a_good_part_of_it_are_found_in_a_text():
    assert quotes("sk-very-secret-key", "the key sk-very-secret-key is wrong")
    assert quotes("sk-very-secret-key", "ends in secret-key? yes: ry-secret-key")
    assert not quotes("sk-very-secret-key", "the key is wrong")
    assert not quotes("short", "a short text"), "a placeholder is no secret"


def test_escapes_do_not_hide_a_key():
    assert "sk-a/b" in spelled_out(rb'{"e":"sk-\u0061\/b"}')
    assert "a/b" in spelled_out(rb"not json a\/b")

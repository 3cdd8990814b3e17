"""What a broken connection means for the line, how long to wait, and which words show a key."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_a_pool_without_room_asks_for_no_wait_so_that_the_target_is_not_taken_for_broken():
    assert failure(Fault("busy", "x", sent=False), "box/m").retry_after_s == 0.0


AN_HOUR_AGO = b"Sat, 21 Nov 2026 11:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "+3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "1e99"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 -0000"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 14:00:30 +0200"}, 30.0),
        ({"retry-after": "Saturday, 21-Nov-26 12:00:30 GMT"}, 30.0),  # RFC 850, obsolete and still to be read
        ({"retry-after": "Sat Nov 21 12:00:30 2026"}, 30.0),  # asctime, as well
        ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "Sat, 21 Nov 99999999999999999999 12:00:30 GMT"}, None),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "1e9"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "1e99"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "1e999"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-Infinity"}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "0x10"}, None),
        ({"retry-after": "5, 6"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "\xff\xfe"}, None),
        # the provider's clock, not ours
        ({"retry-after": "Sat, 21 Nov 2026 11:00:30 GMT", "date": "Sat, 21 Nov 2026 11:00:00 GMT"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT", "date": "yesterday"}, 30.0),
        # resets of limits that are used up
        ({"x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-requests": "1s"}, 1.0),
        ({"x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-reset-requests": "2m59.56s"}, 179.56),
        ({"x-ratelimit-reset-requests": "1h2m3s4ms"}, 3723.004),
        ({"x-ratelimit-reset-tokens": "500us"}, 0.0005),
        ({"x-ratelimit-reset-tokens": "999999999999999999h"}, MAX_RETRY_AFTER_S),
        ({"x-ratelimit-reset-tokens": "6m0"}, None),
        ({"x-ratelimit-reset-tokens": "-1s"}, None),
        ({"x-ratelimit-reset-tokens": "1..2s"}, None),
        ({"x-ratelimit-reset-tokens": "0s"}, None),
        ({"x-ratelimit-reset-requests": "10"}, 10.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2s"}, 2.0),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "2s"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "2s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "9s",
            },
            9.0,
        ),
        ({"retry-after": "1", "x-ratelimit-reset-requests": "6m0s"}, 1.0),
        ({"retry-after": "soon", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795262442"}, 42.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795262442500"}, 42.5),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795262300"}, None),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "30"}, 30.0),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-11-21T12:00:09Z",
            },
            9.0,
        ),
        (
            {"anthropic-ratelimit-tokens-remaining": "7", "anthropic-ratelimit-tokens-reset": "2026-11-21T12:00:09Z"},
            None,
        ),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-21T12:00:09",
                "anthropic-ratelimit-output-tokens-remaining": "0",
                "anthropic-ratelimit-output-tokens-reset": "2026-11-21T14:00:04+02:00",
            },
            9.0,
        ),
        ({"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "noon"}, None),
        (
            {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2026-11-21T11:00:00Z"},
            None,
        ),
        (
            {"anthropic-ratelimit-tokens-reset": "2026-11-21T11:00:09Z", "date": AN_HOUR_AGO.decode()},
            9.0,
        ),
    ],
)
def test_how_long_to_wait_is_read_from_any_form(headers, seconds):
    values = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    assert retry_after_s(values.get, NOW) == (None if seconds is None else pytest.approx(seconds))


NAMES = (
    b"retry-after",
    b"retry-after-ms",
    b"date",
    b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-requests",
    b"x-ratelimit-reset",
    b"anthropic-ratelimit-tokens-reset",
)
LIKELY = st.one_of(
    st.text("0123456789.eE+-hmsun :,TZGMTSatNov", max_size=30).map(lambda text: text.encode("latin-1")),
    st.datetimes().map(lambda when: when.isoformat().encode()),
    st.datetimes().map(lambda when: when.strftime("%a, %d %b %Y %H:%M:%S GMT").encode()),
    st.datetimes().map(lambda when: when.strftime("%a, %d %b %Y %H:%M:%S -2359").encode()),
    st.floats().map(lambda value: repr(value).encode()),
    st.binary(max_size=150),
)


@given(st.dictionaries(st.sampled_from(NAMES), LIKELY))
def test_whatever_a_provider_says_is_a_time_within_a_day_or_nothing(values):
    seconds = retry_after_s(values.get, NOW)
    assert seconds is None or 0.0 <= seconds <= MAX_RETRY_AFTER_S


def test_a_key_and_a_good_part_of_it_are_found_in_a_text():
    assert quotes("sk-very-secret-key", "the key sk-very-secret-key is wrong")
    assert quotes("sk-very-secret-key", "ends in secret-key? yes: ry-secret-key")
    assert not quotes("sk-very-secret-key", "the key is wrong")
    assert not quotes("short", "a short text"), "a placeholder is no secret"


def test_escapes_do_not_hide_a_key():
    assert "sk-a/b" in spelled_out(rb'{"e":"sk-\u0061\/b"}')
    assert "a/b" in spelled_out(rb"not json a\/b")

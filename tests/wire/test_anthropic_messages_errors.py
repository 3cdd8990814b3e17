"""Errors: what a provider's mean, in a body or in the place of a reply, and how the gateway's own are written."""

import pytest
from msgspec import Raw, ValidationError
from msgspec.json import decode, encode

from penstock.errors import (
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.wire.anthropic_messages_errors import check_utf8, garbled, in_band, read_said, said, write_error
from penstock.wire.provider_error import Said


@pytest.mark.parametrize(
    ("kind", "error", "status"),
    [
        ("overloaded_error", UpstreamOverloaded, 529),
        ("rate_limit_error", UpstreamRateLimited, 429),
        ("invalid_request_error", UpstreamRejected, 400),
        ("request_too_large", UpstreamRejected, 413),
        ("authentication_error", UpstreamAuth, 502),
        ("billing_error", UpstreamAuth, 502),
        ("not_found_error", UpstreamMissing, 502),
        ("timeout_error", UpstreamFailed, 502),
        ("later", UpstreamFailed, 502),
    ],
)
def test_an_error_without_a_status_is_what_its_type_says(kind: str, error: type[UpstreamError], status: int) -> None:
    failure = in_band(Raw(encode({"type": kind, "message": "Sorry"})))
    assert (type(failure), failure.status) == (error, status)
    if error is not UpstreamAuth:
        assert str(failure).startswith("The provider ended its reply with an error: Sorry")
    assert isinstance(in_band(Raw(b"null")), UpstreamFailed)


def test_what_the_provider_says_in_words_alone_is_understood() -> None:
    empty = read_said(400, Said("Your credit balance is too low to access the Anthropic API."))
    assert isinstance(empty, UpstreamAuth)
    overflow = read_said(400, Said("input length and `max_tokens` exceed context limit: 190000 + 16000 > 200000"))
    assert isinstance(overflow, UpstreamRejected)
    assert "context window" in overflow.message


def test_an_error_is_written_with_the_type_of_its_status() -> None:
    error = decode(write_error(UpstreamOverloaded("Busy.", hint="Come again.", status=529)))
    assert error["error"] == {"type": "overloaded_error", "message": "Busy. Come again."}
    assert decode(write_error(UpstreamFailed("x")))["error"]["type"] == "api_error"


def test_what_says_nothing_is_told_from_what_does() -> None:
    assert [said(Raw(json)) for json in (b"", b"null", b"[]", b"{}", b"0", b"false", b"[1]")] == [False] * 4 + [
        True
    ] * 3


def test_bytes_that_are_no_utf8_are_refused_and_named() -> None:
    check_utf8("h\u00e9".encode())
    with pytest.raises(UnicodeDecodeError):
        check_utf8(b"\xff")
    error = garbled("reply", ValidationError("Expected `str`"))
    assert isinstance(error, UpstreamGarbled)
    assert "not a message" in str(error)

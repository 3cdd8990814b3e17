"""Errors as Google's APIs have them: what they mean, what may be shown, and what google-genai makes of ours."""

import pytest
from google.genai import errors
from msgspec.json import decode, encode

from penstock.errors import (
    BudgetExhausted,
    ContextOverflow,
    InvalidRequest,
    Overloaded,
    PenstockError,
    RateLimited,
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.wire.gemini_errors import read_error, read_in_band, write_error
from penstock.wire.provider_error import MAX_SHOWN_BYTES

TYPE = "type.googleapis.com/google.rpc."


def body(code: int, message: str, status: str, *details: object) -> bytes:
    return encode({"error": {"code": code, "message": message, "status": status, "details": details}})


ERRORS = [
    (400, body(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT"), UpstreamAuth),
    (
        400,
        body(400, "Odd", "INVALID_ARGUMENT", {"@type": TYPE + "ErrorInfo", "reason": "API_KEY_INVALID"}),
        UpstreamAuth,
    ),
    (400, body(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"), UpstreamAuth),
    (403, body(403, "Method doesn't allow unregistered callers", "PERMISSION_DENIED"), UpstreamAuth),
    (404, body(404, "models/x is not found for API version v1beta", "NOT_FOUND"), UpstreamMissing),
    (429, body(429, "You exceeded your current quota", "RESOURCE_EXHAUSTED"), UpstreamRateLimited),
    (499, body(499, "The operation was cancelled.", "CANCELLED"), UpstreamFailed),
    (500, body(500, "An internal error has occurred.", "INTERNAL"), UpstreamFailed),
    (503, body(503, "The model is overloaded.", "UNAVAILABLE"), UpstreamOverloaded),
    (
        400,
        body(400, "* GenerateContentRequest.contents: contents is not specified", "INVALID_ARGUMENT"),
        UpstreamRejected,
    ),
    (400, b'[{"error":{"code":400,"message":"x","status":"INVALID_ARGUMENT"}}]', UpstreamRejected),
    (400, b"", UpstreamRejected),
    (400, b'{"error":"text"}', UpstreamRejected),
    (400, b'{"error":{"details":7,"message":7}}', UpstreamRejected),
]


@pytest.mark.parametrize(("status", "raw", "kind"), ERRORS)
def test_a_recorded_error_is_classified(status: int, raw: bytes, kind: type[UpstreamError]) -> None:
    error = read_error(status, raw)
    assert type(error) is kind
    written = decode(write_error(error))["error"]
    assert set(written) >= {"code", "message", "status"}


def test_an_overflow_of_the_window_is_one() -> None:
    raw = body(
        400,
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "INVALID_ARGUMENT",
    )
    assert "does not fit" in str(read_error(400, raw))


def test_the_time_to_wait_is_read() -> None:
    retry = {"@type": TYPE + "RetryInfo", "retryDelay": "34.07s"}
    assert read_error(429, body(429, "x", "RESOURCE_EXHAUSTED", {"retryDelay": 7}, retry)).retry_after_s == 34.07
    assert read_error(429, body(429, "x", "RESOURCE_EXHAUSTED", {"retryDelay": "soon"}, 7)).retry_after_s is None
    assert read_error(429, body(429, "x", "X", {"retryDelay": "999999999s"})).retry_after_s == 86_400
    assert read_error(429, b" " * 70_000).retry_after_s is None


def test_what_a_provider_says_about_the_request_reaches_the_client_as_it_is() -> None:
    raw = body(400, "Invalid value at 'contents'", "INVALID_ARGUMENT")
    error = read_error(400, raw)
    assert (error.body, error.dialect) == (raw, "generate")
    assert write_error(error) == raw
    error.dialect = "chat"
    assert decode(write_error(error))["error"]["details"][0]["reason"] == "UPSTREAM_REJECTED"


@pytest.mark.parametrize(
    "raw",
    [
        b"<html>",
        b'{"error":{"message":"x"}}',
        b'{"error":{"code":400,"message":"key AIzaSyA1234567890abcdefgh is bad"}}',
        b'{"error":{"code":400,"message":"\xff"}}',
        b'{"error":{"code":400,"message":"' + b"x " * MAX_SHOWN_BYTES + b'"}}',
    ],
)
def test_a_body_that_may_not_be_shown_is_replaced(raw: bytes) -> None:
    error = read_error(400, raw)
    assert error.body == b""
    assert b"AIza" not in write_error(error)


def test_errors_within_a_reply_are_read_by_their_number_or_their_word() -> None:
    error = read_in_band({"error": {"code": 429, "message": "x", "details": [{"retryDelay": "3s"}]}})
    assert (type(error), error.retry_after_s) == (UpstreamRateLimited, 3.0)
    assert type(read_in_band({"error": {"message": "x", "status": "UNAVAILABLE"}})) is UpstreamOverloaded
    assert type(read_in_band([])) is UpstreamFailed


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("x", param="contents"), "INVALID_ARGUMENT"),
        (ContextOverflow("x"), "INVALID_ARGUMENT"),
        (BudgetExhausted("x"), "RESOURCE_EXHAUSTED"),
        (RateLimited("x", retry_after_s=1.5), "RESOURCE_EXHAUSTED"),
        (Overloaded("x", retry_after_s=2), "UNAVAILABLE"),
        (UpstreamOverloaded("x", status=529), "UNAVAILABLE"),
        (InvalidRequest("x", status=418), "INVALID_ARGUMENT"),
        (PenstockError("x", status=599), "INTERNAL"),
    ],
)
def test_googles_sdk_raises_what_is_written(error: PenstockError, status: str) -> None:
    written = decode(write_error(error))
    kind = errors.ClientError if error.status < 500 else errors.ServerError
    with pytest.raises(kind) as caught:
        errors.APIError.raise_error(error.status, written, None)
    assert (caught.value.code, caught.value.status, caught.value.message) == (error.status, status, "x")


def test_what_to_do_stands_in_the_details() -> None:
    details = decode(write_error(InvalidRequest("No.", param="contents", retry_after_s=1.5)))["error"]["details"]
    assert details == [
        {"@type": TYPE + "ErrorInfo", "reason": "INVALID_REQUEST", "domain": "penstock"},
        {"@type": TYPE + "BadRequest", "fieldViolations": [{"field": "contents", "description": "No."}]},
        {"@type": TYPE + "RetryInfo", "retryDelay": "1.5s"},
    ]
    waits = [
        decode(write_error(RateLimited("x", retry_after_s=s)))["error"]["details"][1]["retryDelay"] for s in (10, 0, -1)
    ]
    assert waits == ["10s", "0s", "0s"]

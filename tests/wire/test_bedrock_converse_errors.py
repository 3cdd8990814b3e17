"""Errors mean the same on both sides, whatever form they come in, and show no key."""

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import decode, encode

from penstock.errors import (
    BudgetExhausted,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    PenstockError,
    Unauthenticated,
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.wire.bedrock_converse_errors import (
    error_headers,
    error_type,
    read_error,
    read_exception,
    write_error,
    write_exception,
)
from penstock.wire.eventstream import EventStreamReader

MODEL = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("x"), b"ValidationException"),
        (Unauthenticated("x"), b"UnrecognizedClientException"),
        (BudgetExhausted("x"), b"ServiceQuotaExceededException"),
        (DeadlineExceeded("x"), b"ModelTimeoutException"),
        (Internal("x"), b"InternalServerException"),
        (UpstreamOverloaded("x", status=529), b"ServiceUnavailableException"),
        (UpstreamFailed("x"), b"InternalServerException"),
    ],
)
def test_the_header_says_which_exception_it_is(error: PenstockError, kind: bytes) -> None:
    assert error_headers(error) == ((b"x-amzn-errortype", kind),)


def test_every_exception_of_the_model_is_named_for_its_status() -> None:
    for shape in MODEL.operation_model("Converse").error_shapes:
        status = shape.metadata["error"]["httpStatusCode"]
        assert error_type(status) == shape.name or shape.name == "ModelNotReadyException"


def test_the_body_is_the_message_with_its_hint() -> None:
    assert decode(write_error(InvalidRequest("Wrong.", hint="Right it."))) == {"message": "Wrong. Right it."}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"message": "Malformed input"}, UpstreamRejected),
        (400, {"message": "The provided model identifier is invalid."}, UpstreamMissing),
        (400, {"message": "Invocation of model ID x with on-demand throughput isn't supported."}, UpstreamMissing),
        (400, {"message": "Too much.", "__type": "com.amazon#ServiceQuotaExceededException"}, UpstreamRateLimited),
        (403, {"message": "You don't have access"}, UpstreamAuth),
        (403, {"Message": "The security token is expired", "__type": "ExpiredTokenException"}, UpstreamAuth),
        (404, {"message": "No such model"}, UpstreamMissing),
        (408, {"message": "Model has timed out"}, UpstreamFailed),
        (424, {"message": "The model failed", "originalStatusCode": 500}, UpstreamFailed),
        (424, {}, UpstreamFailed),
        (429, {"message": "Too many tokens, please wait"}, UpstreamRateLimited),
        (429, {"message": "Model is not ready", "__type": "ModelNotReadyException"}, UpstreamRateLimited),
        (500, {"message": "Oh."}, UpstreamFailed),
        (503, {"message": "Bedrock is unable to process your request."}, UpstreamOverloaded),
        (502, b"<html><title>Bad Gateway</title></html>", UpstreamFailed),
        (403, {"__type": "AccessDeniedException"}, UpstreamAuth),
        (400, b"\xff", UpstreamRejected),
        (400, b"{" + b" " * 70_000 + b"}", UpstreamRejected),
    ],
)
def test_a_providers_error_is_told_by_status_and_words(
    status: int, body: dict[str, object] | bytes, kind: type[UpstreamError]
) -> None:
    error = read_error(status, body if isinstance(body, bytes) else encode(body))
    assert type(error) is kind
    assert error.then == kind.then


def test_a_prompt_that_is_too_long_is_called_that() -> None:
    error = read_error(400, b'{"message":"Input is too long for requested model."}')
    assert "context window" in str(error)


def test_what_bedrock_said_about_the_request_goes_on_as_it_is() -> None:
    body = b'{"message":"messages.0.content is empty","more":1}'
    error = read_error(400, body)
    assert (error.body, error.dialect) == (body, "converse")
    assert write_error(error) == body
    assert error_headers(error)[0][1] == b"ValidationException"


@pytest.mark.parametrize(
    "body",
    [
        b'{"message":"key AKIAIOSFODNN7EXAMPLE1 is wrong"}',
        b'{"Message":"x"}',
        b'{"message":"' + b"x" * 20_000 + b'"}',
        b'{"message":"\xff"}',
        b"plain text",
    ],
)
def test_what_could_hold_a_key_or_is_of_no_known_form_is_not_shown(body: bytes) -> None:
    error = read_error(400, body)
    assert error.body == b""
    assert "AKIA" not in str(error)


def frame(error: PenstockError) -> tuple[dict[str, object], dict[str, object]]:
    (found,) = EventStreamReader().feed(write_exception(error))
    return dict(found.headers), decode(found.payload)


@pytest.mark.parametrize(
    ("error", "kind", "back"),
    [
        (InvalidRequest("Wrong."), "validationException", UpstreamRejected),
        (UpstreamRejected("Wrong.", status=422), "validationException", UpstreamRejected),
        (UpstreamAuth("Ours."), "internalServerException", UpstreamFailed),
        (UpstreamRateLimited("Slower."), "throttlingException", UpstreamRateLimited),
        (UpstreamOverloaded("Busy.", status=529), "serviceUnavailableException", UpstreamOverloaded),
        (Internal("Oh."), "internalServerException", UpstreamFailed),
        (UpstreamFailed("Oh."), "modelStreamErrorException", UpstreamFailed),
    ],
)
def test_an_exception_in_a_stream_comes_back_as_what_it_was(
    error: PenstockError, kind: str, back: type[UpstreamError]
) -> None:
    headers, payload = frame(error)
    assert headers == {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    assert kind in MODEL.shape_for("ConverseStreamOutput").members
    assert set(payload) <= set(MODEL.shape_for("ConverseStreamOutput").members[kind].members)
    again = read_exception(headers, encode(payload))  # type: ignore[arg-type]  # values of headers
    assert type(again) is back
    assert str(error) in again.message
    assert "ended its reply with an error" in again.message


@pytest.mark.parametrize(
    ("headers", "payload", "kind", "says"),
    [
        (
            {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "Oh no"},
            b"",
            UpstreamFailed,
            "Oh no",
        ),
        ({":message-type": "error"}, b"", UpstreamFailed, "ended its reply"),
        ({":exception-type": 7}, b"{}", UpstreamFailed, "ended its reply"),
        ({":exception-type": "throttlingException"}, b'{"message":"Slow"}', UpstreamRateLimited, "Slow"),
        ({":exception-type": "accessDeniedException"}, b'{"message":"Slow"}', UpstreamAuth, "credential"),
        ({":exception-type": "modelTimeoutException"}, b"{}", UpstreamFailed, "ended its reply"),
    ],
)
def test_what_is_no_event_is_an_error(
    headers: dict[str, str], payload: bytes, kind: type[UpstreamError], says: str
) -> None:
    error = read_exception(headers, payload)
    assert type(error) is kind
    assert says in str(error)


@given(st.integers(400, 599), st.binary(max_size=60))
def test_no_bytes_whatever_raise(status: int, body: bytes) -> None:
    assert isinstance(read_error(status, body), UpstreamError)
    assert isinstance(read_exception({":exception-type": "x"}, body), UpstreamError)

"""Reads and writes errors as Google's APIs have them: `google.rpc.Status` in an object named `error`.

Pure. What a provider said about the request is kept where a client of this dialect may see it. Source: Google's API
Improvement Proposal 193; the error details of googleapis (`google/rpc/error_details.proto`).
Place in the line: behind `gemini.py` and its readers.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

from msgspec import DecodeError, Struct, structs
from msgspec.json import decode, encode

from penstock.errors import PenstockError, UpstreamError, UpstreamRejected
from penstock.wire.gemini_types import NAME
from penstock.wire.provider_error import (
    MAX_JSON_BYTES,
    Said,
    classify,
    classify_in_stream,
    may_be_shown,
    read_said,
    said_by,
)

MAX_WAIT_S: Final = 86_400.0

_TYPE: Final = "type.googleapis.com/google.rpc."
_OVERFLOW: Final = re.compile(r"(?i)token count .{0,40}exceeds|exceeds the maximum number of (?:input )?tokens").search
_REFUSED: Final = re.compile(r"(?i)API key (?:not valid|expired|not found)|User location is not|enable billing").match
_REFUSALS: Final = ("API_KEY_", "CONSUMER_", "BILLING_", "ACCESS_TOKEN_")
"""What Google answers with a 400 although it is about who asks: words, and the reasons that begin so."""
_DELAY: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s\Z").match
_CANCELLED: Final = 499
_INTERNAL: Final = 500
_WORDS: Final[Mapping[int, str]] = MappingProxyType(
    {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        402: "RESOURCE_EXHAUSTED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        405: "UNIMPLEMENTED",
        408: "DEADLINE_EXCEEDED",
        409: "ABORTED",
        429: "RESOURCE_EXHAUSTED",
        499: "CANCELLED",
        500: "INTERNAL",
        501: "UNIMPLEMENTED",
        502: "UNAVAILABLE",
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
        529: "UNAVAILABLE",
    }
)


class _ErrorBody(Struct):
    """The least that makes an error body one of this dialect."""

    error: "_ErrorObject"


class _ErrorObject(Struct):
    code: int
    message: str
    status: str = ""


class _Found(Struct, frozen=True):
    """What an error says beyond its message: the objects of its `details`, and whether it is about who asks."""

    details: tuple[dict[str, Any], ...] = ()
    refuses_caller: bool = False


_NOTHING: Final = _Found()


def read_error(status: int, body: bytes) -> UpstreamError:
    """Say what a provider's error means. Its own body is kept where a client of this dialect may see it."""
    found = _NOTHING
    if len(body) <= MAX_JSON_BYTES:
        with suppress(DecodeError, UnicodeDecodeError, RecursionError):
            found = _look(decode(body))
    error = classify(_status(status, found), _told(read_said(body)))
    error.retry_after_s = _delay(found)
    if isinstance(error, UpstreamRejected) and may_be_shown(body, _ErrorBody):
        error.body = body
        error.dialect = NAME
    return error


def read_in_band(value: Any) -> UpstreamError:
    """Read what stands where an answer should, decoded: an object with `error`, or a list of one; the status was 200."""
    found = _look(value)
    said = _told(said_by(value))
    status = None if said.status is None else _status(said.status, found)
    error = classify_in_stream(structs.replace(said, status=status))
    error.retry_after_s = _delay(found)
    return error


def _told(said: Said) -> Said:
    """Put what only this API says in words that are understood by all: an overflow of the window."""
    return structs.replace(said, code="context_length_exceeded") if _OVERFLOW(said.message) else said


def _status(status: int, found: _Found) -> int:
    """Give the status that tells what is wrong: Google refuses keys, regions and accounts with a 400 as well."""
    if status == _CANCELLED:
        return _INTERNAL
    return 401 if status == 400 and found.refuses_caller else status


def _look(value: Any) -> _Found:
    if isinstance(value, list) and value:
        value = value[0]
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return _NOTHING
    listed, message = error.get("details"), error.get("message")
    details = tuple(one for one in listed if isinstance(one, dict)) if isinstance(listed, list) else ()
    reasons = [str(one.get("reason", "")) for one in details]
    refuses = any(reason.startswith(_REFUSALS) for reason in reasons)
    return _Found(details, refuses or (isinstance(message, str) and _REFUSED(message) is not None))


def _delay(found: _Found) -> float | None:
    """Give the seconds that the provider asks to wait."""
    for one in found.details:
        delay = one.get("retryDelay")
        if isinstance(delay, str) and (time := _DELAY(delay)) is not None:
            return min(float(time[1]), MAX_WAIT_S)
    return None


def write_error(error: PenstockError) -> bytes:
    """Write an error in Google's form; what a provider of this dialect said about the request goes on as it is."""
    if isinstance(error, UpstreamRejected) and error.dialect == NAME and error.body:
        return error.body
    return encode(error_object(error))


def error_object(error: PenstockError) -> dict[str, Any]:
    """Give the object of an error: google-genai takes a chunk for one by its first member, and raises by its code."""
    message = str(error)
    details: list[dict[str, Any]] = [
        {"@type": f"{_TYPE}ErrorInfo", "reason": error.code.upper(), "domain": "penstock"},
    ]
    if error.param is not None:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": f"{_TYPE}BadRequest", "fieldViolations": [violation]})
    if error.retry_after_s is not None:
        details.append(
            {
                "@type": f"{_TYPE}RetryInfo",
                "retryDelay": f"{max(0.0, error.retry_after_s):.3f}".rstrip("0").rstrip(".") + "s",
            }
        )
    word = _WORDS.get(error.status, "INVALID_ARGUMENT" if error.status < _INTERNAL else "INTERNAL")
    return {"error": {"code": error.status, "message": message, "status": word, "details": details}}

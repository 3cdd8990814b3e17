"""Errors both ways, in a body, in place of a reply or in a stream; and what is no message of this dialect.

Pure. Place in the line: behind `anthropic_messages.py` and the files of replies. Source: Anthropic's API reference on errors.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import DecodeError, Raw
from msgspec.json import decode, encode

from penstock.errors import PenstockError, UpstreamAuth, UpstreamError, UpstreamGarbled
from penstock.wire.provider_error import Said, classify, clean, said_by

GARBLED: Final = (DecodeError, UnicodeDecodeError, RecursionError)
"""What reading bytes can raise."""

_STATUS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "billing_error": 402,
        "permission_error": 403,
        "not_found_error": 404,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "api_error": 500,
        "timeout_error": 504,
        "overloaded_error": 529,
    }
)
_KINDS: Final[Mapping[int, str]] = MappingProxyType(
    {status: kind for kind, status in _STATUS.items()} | {503: "overloaded_error", 408: "timeout_error"}
)
_SERVER_ERROR: Final = 500
_NOTHING: Final = frozenset({b"", b"null", b"[]", b"{}"})


def write_error(error: PenstockError) -> bytes:
    """Write an error as Anthropic's error object, for a body or a stream; the status decides its type."""
    kind = _KINDS.get(error.status, "invalid_request_error" if error.status < _SERVER_ERROR else "api_error")
    return encode(
        {"type": "error", "error": {"type": kind, "message": str(error)}, "request_id": error.call_id or None}
    )


def read_said(status: int, said_: Said) -> UpstreamError:
    """Say what an error means: Anthropic tells of an empty account and of an overflow in words alone."""
    message = said_.message.lower()
    if said_.kind == "billing_error" or "credit balance is too low" in message:
        return classify(402, said_)
    if "exceed context limit" in message:
        said_ = Said(said_.message, "context_length_exceeded", said_.kind, said_.status)
    return classify(status, said_)


def in_band(error: Raw) -> UpstreamError:
    """Read an error that stands where a reply should be; the status was 200, its type says what it would have been."""
    said_ = said_by({"error": decode(error) if said(error) else {}})
    status = _STATUS.get(said_.kind, said_.status or _SERVER_ERROR)
    failure = read_said(status, said_)
    if not isinstance(failure, UpstreamAuth):
        failure.message = failure.message.replace(f"answered {status}", "ended its reply with an error", 1)
    return failure


def check_utf8(body: bytes) -> None:
    """Raise UnicodeDecodeError for what is not UTF-8, in members too that the decoder skips or keeps as they are."""
    if not body.isascii():
        body.decode()


def said(json: Raw) -> bool:
    """Return whether a member says something, rather than null, nothing at all or an empty value."""
    return len(json) > len("null") or bytes(json) not in _NOTHING


def garbled(what: str, error: Exception) -> UpstreamGarbled:
    """Say that what came is not what it should be."""
    return UpstreamGarbled(f"The provider's {what} is not a message: {clean(str(error), 200)}.")

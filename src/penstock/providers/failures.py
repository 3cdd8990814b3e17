"""Says what went wrong at a provider over HTTP, and sees that its words show no credential.

Pure: faults and headers in, errors of the line out. It never decides what is tried next, beyond the class of the error.
Place in the line: beside `http.py`.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from penstock.errors import (
    DeadlineExceeded,
    PenstockError,
    UpstreamError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from penstock.providers.exchange import Fault

MAX_RETRY_AFTER_S = 86_400.0
PART_CHARACTERS = 12
SHORTEST_KEY = 8
LONGEST_VALUE = 100
"""Characters of a header that says a time; a longer one is nonsense."""

_LIMITS: Final = (
    *((b"x-ratelimit-remaining" + of, b"x-ratelimit-reset" + of) for of in (b"-requests", b"-tokens", b"")),
    *(
        (b"anthropic-ratelimit-" + of + b"-remaining", b"anthropic-ratelimit-" + of + b"-reset")
        for of in (b"requests", b"tokens", b"input-tokens", b"output-tokens")
    ),
    (b"ratelimit-remaining", b"ratelimit-reset"),
)
"""Headers that say what is left of a limit and when it is whole again."""
_EPOCH_FROM_S: Final = 1e9
_EPOCH_FROM_MS: Final = 1e11
_UNITS_S: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_IS_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?").fullmatch
_IS_DURATION: Final = re.compile(r"([0-9]+(\.[0-9]*)?(h|m|s|ms|us|ns))+").fullmatch
_PARTS: Final = re.compile(r"([0-9.]+)(h|ms|m|s|us|ns)").findall


def quotes(secret: str, text: str) -> bool:
    """Whether a text holds a key, or as much of it as would help anybody."""
    if len(secret) < SHORTEST_KEY:
        return False  # a placeholder, as servers without keys are given one
    most = max(1, len(secret) - PART_CHARACTERS + 1)
    return any(secret[at : at + PART_CHARACTERS] in text for at in range(most))


def spelled_out(body: bytes) -> str:
    """Give a body's text as it is, and once more with JSON's escapes undone."""
    text = body.decode("utf-8", "replace")
    try:
        return text + msgspec.json.encode(msgspec.json.decode(body)).decode("utf-8", "replace")
    except (msgspec.DecodeError, RecursionError, ValueError):
        return text + text.replace("\\/", "/")


def failure(fault: Fault, target: str) -> PenstockError:
    """Say what a failed connection means for the line."""
    if fault.why is not None:
        return fault.why
    error = _classified(fault, target)
    error.worked = fault.sent and not fault.reused
    return error


def _classified(fault: Fault, target: str) -> PenstockError:
    message = f"{target}: {fault.detail}"
    if fault.kind == "deadline":
        return DeadlineExceeded(f"The deadline passed while {target} was answering.")
    if fault.kind in {"first_byte_timeout", "idle_timeout", "connect_timeout"}:
        return UpstreamTimeout(message)
    if fault.kind in {"truncated", "protocol", "too_large", "encoding"}:
        return UpstreamGarbled(message)
    if fault.kind == "busy":  # it is we who have no connection left: the target itself is as well as ever
        return UpstreamOverloaded(message, retry_after_s=0.0)
    failed: UpstreamError = UpstreamFailed(message)
    if fault.reused:
        failed.retry_after_s = 0.0  # the provider closed an idle connection as we wrote: nothing to wait for
    return failed


def retry_after_s(header: Callable[[bytes], bytes | None], now: datetime) -> float | None:
    """Read how long a provider asks us to wait, in seconds; None if it does not say, or says nonsense.

    `retry-after-ms` (OpenAI, Azure) wins over `retry-after`, which is seconds or an HTTP date (RFC 9110, 10.2.3). Without
    either it is the latest reset of the limits that are used up: a duration (OpenAI, Groq: `6m0s`, `20ms`), RFC 3339
    (Anthropic), seconds, or the epoch in seconds or milliseconds (OpenRouter). A date is read against the provider's own
    clock, if it tells it, so that ours may be wrong. `header` gives the value of a name in lower case.
    """
    for name, scale in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        text = _text(header(name))
        seconds = _seconds(text)
        if seconds is not None:
            return _bounded(seconds * scale)
        if name == b"retry-after" and (when := _http_date(text)) is not None:
            return _bounded((when - _now_there(header, now)).total_seconds())
    waits = [_reset_s(header, limit, now) for limit in _LIMITS]
    longest = max([wait for wait in waits if wait is not None], default=0.0)
    return _bounded(longest) if longest > 0.0 else None  # one that has passed says nothing


def _reset_s(header: Callable[[bytes], bytes | None], limit: tuple[bytes, bytes], now: datetime) -> float | None:
    """Give the seconds until a limit is reset; None unless it is used up."""
    remaining, reset = limit
    left = _seconds(_text(header(remaining)))
    text = _text(header(reset))
    if not text or (left is not None and left > 0.0):
        return None
    seconds = _seconds(text)
    if seconds is not None:
        if seconds < _EPOCH_FROM_S:
            return seconds
        there = _now_there(header, now).timestamp()
        return (seconds / 1000.0 if seconds >= _EPOCH_FROM_MS else seconds) - there
    if _IS_DURATION(text):
        return sum(float(number) * _UNITS_S[unit] for number, unit in _PARTS(text))
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (_aware(when) - _now_there(header, now)).total_seconds()


def _text(value: bytes | None) -> str:
    return "" if value is None or len(value) > LONGEST_VALUE else value.decode("latin-1").strip()


def _seconds(text: str) -> float | None:
    return float(text) if _IS_NUMBER(text) else None


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), MAX_RETRY_AFTER_S)


def _now_there(header: Callable[[bytes], bytes | None], now: datetime) -> datetime:
    """Give the provider's time: a wrong clock of ours must not make us come early."""
    return _http_date(_text(header(b"date"))) or now


def _http_date(text: str) -> datetime | None:
    try:
        return _aware(parsedate_to_datetime(text))
    except (ValueError, OverflowError):  # the latter by a year beyond all integers
        return None


def _aware(when: datetime) -> datetime:
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when

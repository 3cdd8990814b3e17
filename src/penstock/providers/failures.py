"""Says what went wrong at a provider over HTTP, and sees that its words show no credential.

Pure: faults and headers in, errors of the line out. It never decides what is tried next, beyond the class of the error.
Place in the line: beside `http.py`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isnan

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
    if fault.kind == "busy":
        return UpstreamOverloaded(message)
    failed: UpstreamError = UpstreamFailed(message)
    if fault.reused:
        failed.retry_after_s = 0.0  # the provider closed an idle connection as we wrote: nothing to wait for
    return failed


def retry_after_s(header: Callable[[bytes], bytes | None], now: datetime) -> float | None:
    """Read how long a provider asks us to wait, in seconds; None if it does not say, or says nonsense.

    `retry-after-ms` (OpenAI, Azure) wins over `retry-after`, which is seconds or an HTTP date (RFC 9110, 10.2.3).
    """
    for name, scale in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        value = header(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            pass
        else:
            if isnan(seconds):
                continue
            return min(max(0.0, seconds), MAX_RETRY_AFTER_S)
        try:
            when = parsedate_to_datetime(value.decode("latin-1"))
        except ValueError:
            continue
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return min(max(0.0, (when - now).total_seconds()), MAX_RETRY_AFTER_S)
    return None

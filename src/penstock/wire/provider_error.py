"""What a provider's error means for the line, whatever shape its body has.

Pure, and shared by the dialects. It never passes on a key: text is cut to a length, stripped of control characters and
masked, and where the provider refused the gateway's own credential none of its text is used.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from msgspec import DecodeError, Struct
from msgspec.json import decode

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

MAX_JSON_BYTES: Final = 65_536
"""A larger error is not looked into."""
MAX_SHOWN_BYTES: Final = 16_384
"""An error of a provider that is larger is not passed on whole."""
MAX_TEXT: Final = 400

_SNIPPET_BYTES: Final = 2_048
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f-\xa0\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffd]+")
_KEY: Final = re.compile(
    r"""(?ix)
    \b (?: bearer | basic ) \s+ [^\s,;'"]+ | \b api[-_]?key ["']? \s* [:=] \s* [^\s,;]+   # as it stands in a header
    | \b (?: sk | pk | rk | ak | ps | gsk | xai | hf | key | token ) [-_] [\w*.\-]{6,}   # as providers name their keys
    | \b (?: AKIA | ASIA | AIza ) [\w\-]{12,}
    | [a-z0-9+/=_]{32,} | [a-z0-9+/=_\-]{44,}                              # anything that could be one
    """
)
_TITLE: Final = re.compile(r"(?is)<title[^>]*>(.*?)</title>|<h1[^>]*>(.*?)</h1>")
_MARKUP: Final = re.compile(r"(?i)<(?:!doctype|html|head|body|title)\b")
_OVERFLOW: Final = re.compile(
    r"(?i)maximum context length|context (?:length|window|size)|maximum model length|prompt is too long|too many tokens"
)
_OVERFLOW_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"})
_NO_MONEY_CODES: Final = frozenset(
    {"insufficient_quota", "insufficient_balance", "billing_hard_limit_reached", "billing_not_active"}
)
_NO_MODEL_CODES: Final = frozenset({"model_not_found", "DeploymentNotFound", "model_not_exist"})
_RETRIED: Final[Mapping[int, type[UpstreamError]]] = MappingProxyType(
    {
        408: UpstreamFailed,
        409: UpstreamFailed,
        425: UpstreamFailed,
        429: UpstreamRateLimited,
        503: UpstreamOverloaded,
        529: UpstreamOverloaded,
    }
)
_KINDS: Final = (
    # a word in the type of an error within a stream, and the status that it would have had outside
    ("rate_limit", HTTPStatus.TOO_MANY_REQUESTS),
    ("insufficient", HTTPStatus.PAYMENT_REQUIRED),
    ("overloaded", HTTPStatus.SERVICE_UNAVAILABLE),
    ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    ("authentication", HTTPStatus.UNAUTHORIZED),
    ("permission", HTTPStatus.FORBIDDEN),
    ("not_found", HTTPStatus.NOT_FOUND),
    ("invalid", HTTPStatus.BAD_REQUEST),
    ("badrequest", HTTPStatus.BAD_REQUEST),
    ("context", HTTPStatus.BAD_REQUEST),
)


class Said(Struct, frozen=True):
    """What a provider said: `message` is clean already; `status` is the HTTP number within the body, if there is one."""

    message: str = ""
    code: str = ""
    kind: str = ""
    status: int | None = None


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """Give a text that is fit for a log and a reply: one line, without control characters, keys masked, at most `limit` long."""
    text = _KEY.sub("***", _CONTROL.sub(" ", text[: 8 * limit])).strip()
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def holds_key(text: str) -> bool:
    """Return whether anything in a text looks like a key."""
    return _KEY.search(text) is not None


def may_be_shown(body: bytes, form: type[Struct]) -> bool:
    """Return whether a body is a small error of this form that has nothing in it that looks like a key."""
    if len(body) > MAX_SHOWN_BYTES:
        return False
    try:
        text = body.decode()
        decode(body, type=form)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return not holds_key(text)


def read_said(body: bytes) -> Said:
    """Read an error's body: any JSON shape that is in use, a page of HTML, plain text, or nothing."""
    if len(body) <= MAX_JSON_BYTES:
        try:
            return said_by(decode(body))
        except (DecodeError, UnicodeDecodeError, RecursionError):
            pass
    text = body[:_SNIPPET_BYTES].decode("utf-8", "replace")
    if _MARKUP.search(text):
        title = _TITLE.search(text)
        return Said("a page of HTML" + (f": {clean(title[1] or title[2] or '')}" if title else ""))
    return Said(clean(text))


def said_by(value: Any) -> Said:
    """Read an error that was decoded: `{"error": {...}}`, `{"error": "..."}`, `{"message": ...}`, `{"detail": ...}` or a list."""
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, str):
        return Said(clean(value))
    if not isinstance(value, dict):
        return Said()
    inner = value.get("error")
    error = {"message": inner} if isinstance(inner, str) else inner if isinstance(inner, dict) else value
    code = error.get("code")
    kind = error.get("type", error.get("status"))
    number = next((n for n in (code, error.get("status"), value.get("status")) if _is_status(n)), None)
    return Said(
        message=clean(_text(error.get("message") or error.get("detail") or error.get("msg") or value.get("message"))),
        code=code if isinstance(code, str) else "",
        kind=kind if isinstance(kind, str) else "",
        status=None if number is None else int(number),
    )


def classify(status: int, said: Said) -> UpstreamError:
    """Give the error that a status and what was said with it stand for."""
    text = f"The provider answered {status}" + (f": {said.message}" if said.message else ".")
    if said.code in _NO_MONEY_CODES or said.kind in _NO_MONEY_CODES or status == HTTPStatus.PAYMENT_REQUIRED:
        return UpstreamAuth(
            f"The gateway's account with the provider has no money or quota left ({status}).",
            hint="Top it up, or remove the target.",
        )
    if status in {401, 403}:
        return UpstreamAuth(
            f"The provider refused the gateway's credential ({status}).", hint="Check its api_key in the configuration."
        )
    if status == HTTPStatus.NOT_FOUND or (said.code in _NO_MODEL_CODES and status < HTTPStatus.INTERNAL_SERVER_ERROR):
        return UpstreamMissing(text, hint="Check the model's name and the base_url in the configuration.")
    kind = _RETRIED.get(status, UpstreamFailed if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None)
    if kind is not None:
        return kind(text, status=status if kind is UpstreamOverloaded else None)
    if status >= HTTPStatus.BAD_REQUEST:
        return _rejected(status, said, text)
    return UpstreamGarbled(f"The provider answered {status}, which is no answer to a call.")


def classify_in_stream(said: Said) -> UpstreamError:
    """Give the error that stands within a stream, where the status was 200 and the kind has to say it."""
    if said.status is not None:
        return classify(said.status, said)
    words = f"{said.kind} {said.code}".lower()
    status = next((status for word, status in _KINDS if word in words), HTTPStatus.INTERNAL_SERVER_ERROR)
    error = classify(status, said)
    if not isinstance(error, UpstreamAuth):
        error.message = error.message.replace(f"answered {int(status)}", "ended its reply with an error", 1)
    return error


def _rejected(status: int, said: Said, text: str) -> UpstreamError:
    if {said.code, said.kind} & _OVERFLOW_CODES or _OVERFLOW.search(said.message):
        return UpstreamRejected(
            f"The prompt does not fit into the model's context window. {text}",
            hint="Shorten it, ask for fewer tokens, or use a model with a larger window.",
            status=status,
        )
    return UpstreamRejected(text, status=status)


def _is_status(value: object) -> bool:
    """Return whether a value is the number of an HTTP error, or its digits."""
    if isinstance(value, str):
        return len(value) == 3 and value.isascii() and value.isdigit() and value[0] in "45"
    return isinstance(value, int) and HTTPStatus.BAD_REQUEST <= value < 600


def _text(value: object) -> str:
    """Give the text of a message, which may be FastAPI's list of `{"loc": [...], "msg": ...}`."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    lines = []
    for item in value[:3]:
        if isinstance(item, dict):
            place = item.get("loc")
            where = ".".join(str(step) for step in place) if isinstance(place, list) else ""
            lines.append(f"{where}: {item.get('msg', '')}" if where else str(item.get("msg", "")))
        else:
            lines.append(str(item))
    return "; ".join(lines)

"""Reads from a request's headers who is calling and on what terms.

A key is taken from wherever the client of any dialect puts it. Pure; nothing here is trusted before admission.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs

from msgspec import DecodeError, Struct
from msgspec.json import decode

from penstock.call import Caller
from penstock.errors import InvalidRequest
from penstock.server.request import Request

_KEY_HEADERS: Final = (b"x-api-key", b"x-goog-api-key", b"api-key", b"x-amz-security-token")
_OWN: Final = frozenset(
    {
        *(b"x-penstock-feature", b"x-penstock-session", b"x-penstock-user", b"x-penstock-deadline-ms"),
        *(b"x-penstock-cache",),
    }
)
_CACHE: Final = frozenset({b"no-store", b"refresh"})
_PASSED_ON: Final = (b"anthropic-beta", b"openai-beta")
_STRICT: Final = b"x-penstock-strict"
RARE: Final = frozenset({*_PASSED_ON, _STRICT})
"""Headers that say something about a call, beyond who makes it. Most requests have none."""


def read_caller(request: Request) -> Caller:
    """Read who is calling and on what terms. Raises InvalidRequest."""
    fields = request.fields or {}
    key = _key(fields, request.query)
    if not _OWN.isdisjoint(fields):
        return Caller(
            key=key,
            feature=_text(fields.get(b"x-penstock-feature")),
            session=_text(fields.get(b"x-penstock-session")),
            user=_text(fields.get(b"x-penstock-user")),
            deadline_s=_seconds(fields.get(b"x-penstock-deadline-ms")),
            peer=request.peer,
            cache=_cache(fields.get(b"x-penstock-cache")),
        )
    return Caller(key=key, peer=request.peer)


def passed_on(fields: Mapping[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """Give the headers that a provider of the same dialect gets as well: the features in trial that a client asks for."""
    return tuple((name, fields[name]) for name in _PASSED_ON if name in fields)


def wants_strictness(request: Request) -> bool:
    """Tell whether what a target cannot express is to be refused. Raises InvalidRequest."""
    value = request.header(_STRICT)
    if value is None:
        return False
    if value not in {b"true", b"false"}:
        raise InvalidRequest("x-penstock-strict has to be true or false.", param="x-penstock-strict")
    return value == b"true"


class _Named(Struct):
    """A question about a model. Older clients call it `name`."""

    model: str = ""
    name: str = ""


def read_name(body: bytes) -> str:
    """Read which model a question is about. Raises InvalidRequest."""
    try:
        asked = decode(body, type=_Named)
    except (DecodeError, RecursionError, UnicodeDecodeError):
        raise InvalidRequest('The body has to be {"model": "..."}.', param="model") from None
    if not (asked.model or asked.name):
        raise InvalidRequest("The body names no model.", hint='Send {"model": "..."}.', param="model")
    return asked.model or asked.name


def _key(fields: Mapping[bytes, bytes], query: bytes) -> str | None:
    authorization = fields.get(b"authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            return token.strip().decode("latin-1") or None
    for name in _KEY_HEADERS:
        if (given := fields.get(name)) is not None:
            return given.decode("latin-1") or None
    if b"key=" in query:
        return next(iter(parse_qs(query.decode("latin-1")).get("key", ())), None)
    return None


def _text(value: bytes | None) -> str | None:
    if not value:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _cache(value: bytes | None) -> str:
    if value is None:
        return ""
    word = value.lower()
    if word not in _CACHE:
        raise InvalidRequest(
            "x-penstock-cache has to be no-store (neither look into the cache nor keep the answer) or refresh (only keep it).",
            param="x-penstock-cache",
        )
    return word.decode()


def _seconds(value: bytes | None) -> float | None:
    if value is None:
        return None
    if not value.isdigit() or len(value) > 8 or not 0 < int(value) <= 86_400_000:
        raise InvalidRequest(
            "x-penstock-deadline-ms has to be a whole number of milliseconds, from 1 to 86400000.",
            param="x-penstock-deadline-ms",
        )
    return int(value) / 1000

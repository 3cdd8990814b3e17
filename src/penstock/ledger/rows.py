"""Receipts as rows: the one form in which they are journalled, handed to the store and read back. Pure.

What people filter and sum by has a place of its own. The first places after id and moment are what many calls have in
common, the caller's and the kind's (`COMMON`): the store keeps those once. Nearly every call has one try that says what
the receipt says, so of that one only what the receipt lacks stands here, and `tries` is empty; any others stand there as
JSON arrays in the order of the fields of `Attempt` and `Usage` (which therefore only grow at their ends). The rest stands
as JSON in `more`.
"""

from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from penstock.ledger.ids import id_bytes, id_text
from penstock.ledger.periods import MAX_NS
from penstock.receipt import Attempt, Receipt, Usage

Row = tuple[Any, ...]

CALLER: Final = ("key_id", "team", "feature", "prompt")
KIND: Final = (
    *("dialect", "model", "target", "status", "http_status", "streamed", "error", "error_origin", "finish_reason"),
    *("usage_source", "cost_status", "lane", "cache", "config_hash"),
    *("price_version", "response_model", "fingerprint", "service_tier"),
)
OWN: Final = (
    *("user", "session", "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "cost_nano_usd"),
    *("ttft_us", "total_us", "cache_saved_nano_usd", "routing_saved_nano_usd"),
    *("try_started_us", "try_ttft_us", "try_total_us", "response_id", "tries", "more"),
)
COLUMNS: Final = ("id", "started_ns", *CALLER, *KIND, *OWN)
"""The places of a row, in order. The head of a journal's segment names them, so that they may change.

A text that is not there is the empty text, and the id is a `bytearray`: Python's sqlite3 looks for adapters of every
value that is not exactly an int, a float, a str or a bytearray, which takes longer than all the rest of binding it.
"""

COMMON: Final = slice(2, len(COLUMNS) - len(OWN))
"""Where in a row the caller and the kind stand; behind them is what is the call's own."""

_NULLS: Final = ("cost_nano_usd", "ttft_us", "try_ttft_us")
_NUMBERS: Final = frozenset(
    name for name in COLUMNS if name.endswith(("_ns", "_us", "_tokens", "_usd", "http_status", "streamed"))
)
ABSENT: Final = MappingProxyType(
    {
        name: None if name in _NULLS else 0 if name in _NUMBERS else "[]" if name == "tries" else ""
        for name in COLUMNS
        if name != "id"
    }
)
"""What stands where a row from before knows nothing."""

_MAY_MISS: Final = (
    *("key_id", "team", "feature", "user", "session", "target", "error", "error_origin", "finish_reason", "lane"),
    "prompt",
)
_OF_TRY: Final = (
    *("price_version", "response_model", "fingerprint", "service_tier"),
    *("try_started_us", "try_ttft_us", "try_total_us", "response_id"),
)

_MAY_BE_NEGATIVE = ("routing_saved_nano_usd",)

MAX_BITS = 53
"""Of any figure: what every reader of JSON can hold."""
_MAX_COUNT = (1 << MAX_BITS) - 1
_MAX_CHARS = 256
_MAX_ITEMS = 32


class _More(Struct, frozen=True, omit_defaults=True):
    """What of a receipt has no column."""

    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0
    dropped: tuple[str, ...] = ()
    image_input_tokens: int = 0
    image_output_tokens: int = 0


_TRY_USAGE = Attempt.__struct_fields__.index("usage")

_encode = msgspec.json.Encoder().encode
_decode_more = msgspec.json.Decoder(_More).decode
_decode_tries = msgspec.json.Decoder(list[list[Any]]).decode


def row_of(r: Receipt) -> Row:
    """Give the row of a receipt. Figures above 2**53 and below 0 are no true ones: they are clipped."""
    u, tries, cost, ttft = r.usage, r.tries, r.cost_nano_usd, r.ttft_us
    if len(tries) == 1 and _says_the_same(only := tries[0], r, u):
        version, named, response, rest = only.price_version, only.response_model, only.response_id, ""
        fingerprint, tier = only.fingerprint or "", only.service_tier or ""
        try_started, try_ttft, try_total = only.started_us, only.ttft_us, only.total_us
    else:
        version = named = response = fingerprint = tier = ""
        try_started, try_ttft, try_total = 0, None, 0
        rest = _encode([_try_array(attempt) for attempt in tries]).decode() if tries else "[]"
    bits = u.input_tokens | u.output_tokens | u.cached_input_tokens | u.reasoning_tokens | r.http_status | r.total_us
    bits |= (cost or 0) | (ttft or 0) | try_started | (try_ttft or 0) | try_total | r.cache_saved_nano_usd
    if bits >> MAX_BITS or not -_MAX_COUNT <= r.routing_saved_nano_usd <= _MAX_COUNT:
        return row_of(clip(r, Receipt))
    return (
        bytearray(id_bytes(r.id)),
        r.started_ns,
        r.key_id or "",
        r.team or "",
        r.feature or "",
        r.prompt or "",
        r.dialect,
        r.model,
        r.target or "",
        r.status,
        r.http_status,
        1 if r.streamed else 0,
        r.error or "",
        r.error_origin or "",
        r.finish_reason or "",
        u.source,
        r.cost_status,
        r.lane or "",
        r.cache,
        r.config_hash,
        version,
        named,
        fingerprint,
        tier,
        r.user or "",
        r.session or "",
        u.input_tokens,
        u.cached_input_tokens,
        u.output_tokens,
        u.reasoning_tokens,
        cost,
        ttft,
        r.total_us,
        r.cache_saved_nano_usd,
        r.routing_saved_nano_usd,
        try_started,
        try_ttft,
        try_total,
        response,
        rest,
        _more(r, u),
    )


def _says_the_same(t: Attempt, r: Receipt, u: Usage) -> bool:
    """Whether a call's only try says what its receipt says, but for what has a place beside it.

    An empty text where there might be none would be read as none.
    """
    usage = t.usage
    return (
        (usage is u or usage == u)
        and t.cost_nano_usd == r.cost_nano_usd
        and t.target == r.target != ""
        and t.status == r.status
        and t.http_status == r.http_status
        and t.cost_status == r.cost_status
        and t.kind == "first"
        and t.retry_after_ms is None
        and t.error == r.error != ""
        and t.fingerprint != ""
        and t.service_tier != ""
    )


def _try_array(attempt: Attempt) -> tuple[Any, ...]:
    flat = astuple(attempt)
    usage = flat[_TRY_USAGE]
    return flat if usage is None else (*flat[:_TRY_USAGE], astuple(usage), *flat[_TRY_USAGE + 1 :])


def has_more(u: Usage) -> bool:
    """Tell whether a usage has figures without a column."""
    return bool(
        u.cache_write_tokens
        or u.audio_input_tokens
        or u.audio_output_tokens
        or u.image_input_tokens
        or u.image_output_tokens
        or u.cache_write_1h_tokens
        or u.accepted_prediction_tokens
        or u.rejected_prediction_tokens
    )


def _more(r: Receipt, u: Usage) -> str:
    if not (r.dropped or has_more(u)):
        return ""
    rare = _More(
        cache_write_tokens=u.cache_write_tokens,
        cache_write_1h_tokens=u.cache_write_1h_tokens,
        audio_input_tokens=u.audio_input_tokens,
        audio_output_tokens=u.audio_output_tokens,
        accepted_prediction_tokens=u.accepted_prediction_tokens,
        rejected_prediction_tokens=u.rejected_prediction_tokens,
        dropped=r.dropped,
        image_input_tokens=u.image_input_tokens,
        image_output_tokens=u.image_output_tokens,
    )
    return _encode(rare).decode()


def adapted(named: dict[str, Any]) -> Row:
    """Give the row of values that stand under the names of an older or newer form; what is missing there is empty."""
    found = [named.get(name) for name in COLUMNS]
    return tuple(ABSENT.get(name) if value is None else value for name, value in zip(COLUMNS, found, strict=True))


def receipt_of(row: Row) -> Receipt:
    """Put a receipt together again."""
    values = dict(zip(COLUMNS, row, strict=True))
    values |= {name: values[name] or None for name in _MAY_MISS}
    more = _decode_more(values.pop("more") or "{}")
    values |= {name: getattr(more, name) for name in _More.__struct_fields__}
    values["source"] = values.pop("usage_source")
    usage = Usage(**{name: values.pop(name) for name in Usage.__struct_fields__})
    of_try = [values.pop(name) for name in _OF_TRY]
    written = values.pop("tries")
    values["id"] = id_text(values["id"])
    values["streamed"] = bool(values["streamed"])
    receipt = Receipt(**values, usage=usage)
    tries = (_same(receipt, of_try),) if written == "" else tuple(map(_try_of, _decode_tries(written)))
    return msgspec.structs.replace(receipt, tries=tries)


def _same(r: Receipt, of_try: list[Any]) -> Attempt:
    version, named, fingerprint, tier, started, ttft, total, response = of_try
    return Attempt(
        target=r.target or "",
        status=r.status,
        http_status=r.http_status,
        error=r.error,
        started_us=started,
        ttft_us=ttft,
        total_us=total,
        usage=r.usage,
        cost_nano_usd=r.cost_nano_usd,
        cost_status=r.cost_status,
        price_version=version,
        response_id=response,
        response_model=named,
        fingerprint=fingerprint or None,
        service_tier=tier or None,
    )


def _try_of(array: list[Any]) -> Attempt:
    values = dict(zip(Attempt.__struct_fields__, array, strict=False))
    usage = values["usage"]
    values["usage"] = None if usage is None else Usage(*usage)
    return Attempt(**values)


_Value = TypeVar("_Value", bound=Struct)


def clip(value: _Value, kind: type[_Value]) -> _Value:
    """Bound what a caller or a provider may have blown up: long texts, long lists, huge or negative numbers."""
    plain = {name: _clip(item, name) for name, item in msgspec.to_builtins(value).items()}
    return msgspec.convert(plain, kind)


def _clip(item: Any, name: str = "") -> Any:
    match item:
        case bool() | None:
            return item
        case int():
            least = -_MAX_COUNT if name in _MAY_BE_NEGATIVE else 0
            return min(max(item, least), MAX_NS if name == "started_ns" else _MAX_COUNT)
        case str():
            return item[:_MAX_CHARS].encode("utf-8", "replace").decode("utf-8")
        case dict():
            return {key: _clip(inner, key) for key, inner in item.items()}
        case _:
            return [_clip(inner) for inner in item[:_MAX_ITEMS]]

"""Receipts as rows: the one form in which they are journalled, stored and read back. Pure.

What people filter and sum by has a column. The tries stand in one column, as JSON arrays in the order of the fields of
`Attempt` and `Usage` (which therefore only grow at their ends); the view `tries` makes rows of them again. A table of
their own would cost half as much again per call, and nearly every call has one try. The rest stands as JSON in `more`.
"""

from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from penstock.ledger.ids import id_bytes, id_text
from penstock.ledger.periods import MAX_NS
from penstock.receipt import Attempt, Receipt, Usage

Row = tuple[Any, ...]

COLUMNS: Final = (
    "id",
    "started_ns",
    "dialect",
    "model",
    "status",
    "http_status",
    "streamed",
    "key_id",
    "team",
    "feature",
    "user",
    "session",
    "target",
    "error",
    "error_origin",
    "finish_reason",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "usage_source",
    "cost_nano_usd",
    "cost_status",
    "ttft_us",
    "total_us",
    "lane",
    "cache",
    "prompt",
    "config_hash",
    "tries",
    "more",
)
"""The columns of `calls`, in order. Only ever added to, at the end: rows from before hold NULL there.

A text that is not there is the empty text, and the id is a `bytearray`: Python's sqlite3 looks for adapters of every
value that is not exactly an int, a float, a str or a bytearray, which takes longer than all the rest of binding it.
"""

_MAY_MISS = (
    *("key_id", "team", "feature", "user", "session", "target", "error", "error_origin", "finish_reason", "lane"),
    "prompt",
)

_MAY_BE_NEGATIVE = ("routing_saved_nano_usd",)

_MAX_BITS = 53
_MAX_COUNT = (1 << _MAX_BITS) - 1
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
    cache_saved_nano_usd: int = 0
    routing_saved_nano_usd: int = 0


_TRY_USAGE = Attempt.__struct_fields__.index("usage")

_encode = msgspec.json.Encoder().encode
_decode_more = msgspec.json.Decoder(_More).decode
_decode_tries = msgspec.json.Decoder(list[list[Any]]).decode


def row_of(r: Receipt) -> Row:
    """Give the row of a receipt. Figures above 2**53 and below 0 are no true ones: they are clipped."""
    u = r.usage
    bits = u.input_tokens | u.output_tokens | u.cached_input_tokens | u.reasoning_tokens | (r.cost_nano_usd or 0)
    if bits >> _MAX_BITS:
        return row_of(clip(r, Receipt))
    return (
        bytearray(id_bytes(r.id)),
        r.started_ns,
        r.dialect,
        r.model,
        r.status,
        r.http_status,
        int(r.streamed),
        r.key_id or "",
        r.team or "",
        r.feature or "",
        r.user or "",
        r.session or "",
        r.target or "",
        r.error or "",
        r.error_origin or "",
        r.finish_reason or "",
        u.input_tokens,
        u.cached_input_tokens,
        u.output_tokens,
        u.reasoning_tokens,
        u.source,
        r.cost_nano_usd,
        r.cost_status,
        r.ttft_us,
        r.total_us,
        r.lane or "",
        r.cache,
        r.prompt or "",
        r.config_hash,
        _encode([_try_array(attempt) for attempt in r.tries]).decode() if r.tries else "[]",
        _more(r, u),
    )


def _try_array(attempt: Attempt) -> tuple[Any, ...]:
    flat = astuple(attempt)
    usage = flat[_TRY_USAGE]
    return flat if usage is None else (*flat[:_TRY_USAGE], astuple(usage), *flat[_TRY_USAGE + 1 :])


def _more(r: Receipt, u: Usage) -> str:
    if not (
        u.cache_write_tokens
        or u.cache_write_1h_tokens
        or u.audio_input_tokens
        or u.audio_output_tokens
        or u.accepted_prediction_tokens
        or u.rejected_prediction_tokens
        or u.image_input_tokens
        or u.image_output_tokens
        or r.dropped
        or r.cache_saved_nano_usd
        or r.routing_saved_nano_usd
    ):
        return "{}"
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
        cache_saved_nano_usd=r.cache_saved_nano_usd,
        routing_saved_nano_usd=r.routing_saved_nano_usd,
    )
    return _encode(rare).decode()


def receipt_of(row: Row) -> Receipt:
    """Put a receipt together again."""
    values = dict(zip(COLUMNS, row, strict=True))
    values |= {name: values[name] or None for name in _MAY_MISS}
    more = _decode_more(values.pop("more") or "{}")
    values |= {name: getattr(more, name) for name in _More.__struct_fields__}
    values["source"] = values.pop("usage_source")
    usage = Usage(**{name: values.pop(name) for name in Usage.__struct_fields__})
    tries = tuple(_try_of(array) for array in _decode_tries(values.pop("tries") or "[]"))
    values["id"] = id_text(values["id"])
    values["streamed"] = bool(values["streamed"])
    return Receipt(**values, usage=usage, tries=tries)


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

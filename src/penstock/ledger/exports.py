"""Usage exports of providers, read: what somebody else says was used and charged, by day (UTC) and model.

A file is known by its shape, never by who made it:

    JSON  buckets of time with results, one page or a list of pages: the usage and cost reports of OpenAI's and
          Anthropic's administration APIs
    CSV   a line of column names, commas, semicolons or tabs: the exports of both consoles, or one's own with
          date, model, input, cached, output, cost

Pure: bytes in, rows out. Input tokens are inclusive, as everywhere here, however the export counts them; money is exact
until the one rounding of a row. What cannot be read is an error with its place.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from io import StringIO
from typing import Any, Final

import msgspec
from msgspec import Struct

from penstock.errors import InvalidRequest
from penstock.target import NANO_PER_USD

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS = re.compile(r"\d{9,11}", re.ASCII)
"""Seconds since the epoch, from 1973 on; eight digits are a date without hyphens."""
_LARGEST = 18
_SEPARATORS = "\t;,"
_CENT = Fraction(1, 100)

_DAY: Final = ("date", "day", "usage_date_utc", "start_time_iso", "starting_at", "timestamp", "start_time", "created")
_MODEL: Final = ("model", "model_version", "line_item")
_INPUT: Final = ("input_tokens", "input", "prompt_tokens")
_UNCACHED: Final = ("usage_input_tokens_no_cache", "uncached_input_tokens", "input_uncached_tokens")
_CACHED: Final = (
    *("cached_input_tokens", "input_cached_tokens", "cached_tokens", "cached"),
    *("usage_input_tokens_cache_read", "cache_read_input_tokens"),
)
_WRITTEN: Final = (
    *("usage_input_tokens_cache_write_5m", "usage_input_tokens_cache_write_1h", "input_cache_write_tokens"),
    *("cache_creation.ephemeral_5m_input_tokens", "cache_creation.ephemeral_1h_input_tokens"),
)
_OUTPUT: Final = ("output_tokens", "output", "completion_tokens", "usage_output_tokens")
_REQUESTS: Final = ("num_model_requests", "requests", "num_requests", "calls")
_COST: Final = ("cost_usd", "cost", "amount_value", "amount.value", "amount")
_CURRENCY: Final = ("currency", "amount_currency", "amount.currency")
_TIMES: Final = ("start_time", "start_time_iso", "starting_at")
_KNOWN = frozenset((*_INPUT, *_UNCACHED, *_CACHED, *_WRITTEN, *_OUTPUT, *_REQUESTS, *_COST))


class Said(Struct, frozen=True):
    """What an export says of a day and a model; None: it says nothing of it. `model` is empty where it names none."""

    day: str
    model: str
    requests: int | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Fraction | None = None  # US dollars

    @property
    def cost_nano_usd(self) -> int | None:
        """What it cost, rounded half up: exports carry the dust of binary fractions."""
        return None if self.cost is None else int((self.cost * NANO_PER_USD + Fraction(1, 2)) // 1)


def read_export(data: bytes, name: str) -> tuple[Said, ...]:
    """Read an export; its rows are summed up by day and model. Raises InvalidRequest, with `name` and the place."""
    text = _text(data, name)
    rows = _json_rows(data, name) if text.lstrip()[:1] in {"{", "["} else _csv_rows(text, name)
    return summed(_said(row, place) for place, row in rows)


def summed(rows: Iterable[Said | None]) -> tuple[Said, ...]:
    """Sum rows up by day and model; a figure that none of them has stays unsaid."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        if row is None:
            continue
        sums = found.setdefault((row.day, row.model), {})
        for figure in Said.__struct_fields__[2:]:
            value = getattr(row, figure)
            if value is not None:
                sums[figure] = sums.get(figure, 0) + value
    return tuple(Said(*key, **sums) for key, sums in sorted(found.items()))


def _wrong(place: str, what: str, hint: str = "") -> InvalidRequest:
    return InvalidRequest(f"{place}: {what}", hint=hint)


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _wrong(name, f"is not UTF-8 text: byte {error.start}.", "Export it as UTF-8.") from None


# -- JSON --


def _json_rows(data: bytes, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the results of every bucket, flat, each with its bucket's beginning."""
    try:
        document = msgspec.json.Decoder(float_hook=Decimal).decode(data.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError, InvalidOperation) as error:
        raise _wrong(name, f"is not valid JSON: {error}.") from None
    pages = document if isinstance(document, list) else [document]
    for number, page in enumerate(pages, 1):
        buckets = page.get("data") if isinstance(page, dict) else None
        if not isinstance(buckets, list):
            raise _wrong(
                name, f"page {number} has no list `data`.", "Give the answer of a usage or cost report as it is."
            )
        if page.get("has_more") is True and number == len(pages):
            raise _wrong(name, "has_more is true: there are more pages.", "Put all pages into one list.")
        for at, bucket in enumerate(buckets):
            place = f"{name}: page {number}, bucket {at}"
            results = bucket.get("results") if isinstance(bucket, dict) else None
            if not isinstance(results, list):
                raise _wrong(place, "has no list `results`.")
            times = {key: bucket[key] for key in _TIMES if key in bucket}
            cents = "starting_at" in bucket
            for result in results:
                yield place, _flat(result, place) | times | ({"cents": cents} if cents else {})


def _flat(result: Any, place: str) -> dict[str, Any]:
    if not isinstance(result, dict):
        raise _wrong(place, "has a result that is no object.")
    flat: dict[str, Any] = {}
    for key, value in result.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": one for inner, one in value.items()}
        else:
            flat[key] = value
    return flat


# -- CSV --


def _csv_rows(text: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if not text.strip():
        raise _wrong(name, "is empty.")
    separator = max(_SEPARATORS, key=text.partition("\n")[0].count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        columns = [column.strip().lower().replace(" ", "_") for column in next(reader)]
        if not set(columns) & set(_DAY) or not set(columns) & _KNOWN:
            raise _wrong(
                name, "has no column of days, or none of figures.", "Give date, model, input, cached, output, cost."
            )
        for row in reader:
            place = f"{name}: line {reader.line_num}"
            if len(row) > len(columns):
                raise _wrong(place, f"has {len(row)} values for {len(columns)} columns.")
            yield place, dict(zip(columns, row, strict=False))
    except csv.Error as error:
        raise _wrong(f"{name}: line {reader.line_num}", f"is not valid CSV: {error}.") from None


# -- a row --


def _said(row: Mapping[str, Any], place: str) -> Said | None:
    """Read one row; None where it has no figure, as for days on which nothing was used."""
    plain = _count(row, _INPUT, place)
    apart = _count(row, _UNCACHED, place)
    cached = _count(row, _CACHED, place)
    written = [count for name in _WRITTEN if (count := _count(row, (name,), place)) is not None]
    if plain is None and apart is not None:
        plain = apart + (cached or 0) + sum(written)
    requests, output, cost = _count(row, _REQUESTS, place), _count(row, _OUTPUT, place), _cost(row, place)
    if all(figure is None for figure in (requests, plain, cached, output, cost)):
        return None
    model = _first(row, _MODEL)
    name = "" if model is None else str(model).partition(",")[0].strip().lower()
    return Said(_day(row, place), name, requests, plain, cached, output, cost)


def _first(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    """Give the first of these members that says something."""
    for name in names:
        value = row.get(name)
        if value is not None and value != "":
            return value
    return None


def _number(value: Any, place: str) -> Decimal:
    text = value.replace(",", "").removeprefix("$").strip() if isinstance(value, str) else value
    try:
        number = (
            Decimal(text) if isinstance(text, str | int | Decimal) and not isinstance(text, bool) else Decimal("NaN")
        )
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number.adjusted()) > _LARGEST:
        raise _wrong(place, f"{str(value)[:32]!r} is no number.")
    return number


def _count(row: Mapping[str, Any], names: Iterable[str], place: str) -> int | None:
    value = _first(row, names)
    if value is None:
        return None
    number = _number(value, place)
    if number < 0 or number != number.to_integral_value():
        raise _wrong(place, f"{str(value)[:32]!r} is no number of tokens.")
    return int(number)


def _cost(row: Mapping[str, Any], place: str) -> Fraction | None:
    value = _first(row, _COST)
    if value is None:
        return None
    currency = _first(row, _CURRENCY)
    if currency is not None and str(currency).lower() != "usd":
        raise _wrong(place, f"the amount is in {str(currency)[:8]!r}, not in US dollars.", "Convert it first.")
    amount = Fraction(_number(value, place))
    return amount * _CENT if row.get("cents") else amount


def _day(row: Mapping[str, Any], place: str) -> str:
    value = _first(row, _DAY)
    text = str(value).strip()
    try:
        if _SECONDS.fullmatch(text):
            return (_EPOCH + timedelta(seconds=int(text))).date().isoformat()
        text = text.replace("/", "-").replace(" ", "T", 1)
        if "T" not in text:
            return date.fromisoformat(text).isoformat()
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is None else moment.astimezone(UTC)).date().isoformat()
    except (ValueError, OverflowError):
        raise _wrong(place, f"{str(value)[:32]!r} is no day.", "Write year-month-day.") from None

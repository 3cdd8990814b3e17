"""The SQL of sums: of calls, of sums that are kept, and of making those. Text only.

A statement is put together from constants, by what is asked for; values reach it as parameters and never otherwise. Every
sum has the same columns: a name or NULL for each of `rollups.NAMES`, a quarter of an hour since the epoch or 0, the figures.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

_NAMES: Final = MappingProxyType(
    {
        "feature": "feature",
        "model": "model",
        "team": "team",
        "user": "user",
        "key": "key_id",
        "target": "target",
        "prompt": "prompt",
    }
)
_FIGURES: Final = (
    *("calls", "input_tokens", "cached_input_tokens", "output_tokens", "cost_nano_usd"),
    *("unpriced", "estimated", "exact", "cache_saved_nano_usd", "routing_saved_nano_usd"),
)
_OF_GROUPS = ", ".join("sum(" + name + ") AS " + name for name in _FIGURES)
_COUNTED = """
    count(*) AS calls, sum(input_tokens) AS input_tokens, sum(cached_input_tokens) AS cached_input_tokens,
    sum(output_tokens) AS output_tokens, coalesce(sum(cost_nano_usd), 0) AS cost_nano_usd,
"""
_SAVED = " sum(cache_saved_nano_usd) AS cache_saved_nano_usd, sum(routing_saved_nano_usd) AS routing_saved_nano_usd FROM calls"
_STATUSES = """
    sum(cost_status = 'unpriced') AS unpriced, sum(cost_status = 'estimated') AS estimated, sum(cost_status = 'exact') AS exact,
"""
_WITHIN = """
    WHERE calls.id >= :first AND calls.id < :beyond AND started_ns >= :since_ns AND started_ns < :until_ns
"""
_KINDS, _CALLERS = " CROSS JOIN kinds ON kinds.id = kind", " CROSS JOIN callers ON callers.id = caller"
_BY_STATUS = """
    sum(calls) AS calls, sum(input_tokens) AS input_tokens, sum(cached_input_tokens) AS cached_input_tokens,
    sum(output_tokens) AS output_tokens, sum(cost_nano_usd) AS cost_nano_usd,
    sum(calls * (cost_status = 'unpriced')) AS unpriced, sum(calls * (cost_status = 'estimated')) AS estimated,
    sum(calls * (cost_status = 'exact')) AS exact,
    sum(cache_saved_nano_usd) AS cache_saved_nano_usd, sum(routing_saved_nano_usd) AS routing_saved_nano_usd
"""
_EACH_STATUS = """
    calls, input_tokens, cached_input_tokens, output_tokens, cost_nano_usd, calls * (cost_status = 'unpriced'),
    calls * (cost_status = 'estimated'), calls * (cost_status = 'exact'), cache_saved_nano_usd, routing_saved_nano_usd
"""
_STEP = " / :step * :step"
_QUARTER = "started_ns / 900000000000" + _STEP


def _asked(by: Sequence[str], quarter: str) -> tuple[str, str]:
    """Give the columns before the figures, NULL for what is not asked for, and by what is grouped."""
    columns = [column if name in by else "NULL" for name, column in _NAMES.items()]
    names = [str(place) for place, column in enumerate((*columns, quarter), 1) if column not in ("NULL", "0")]
    return ", ".join((*columns, quarter)) + ", ", " GROUP BY " + ", ".join(names) if names else ""


def sums_of_calls(by: Sequence[str], *, timed: bool, grouped: bool = True) -> str:
    """Sum calls of a span (:first, :beyond, :since_ns, :until_ns) up by these names and, if `timed`, :step quarters.

    The calls are grouped by the numbers of their callers and kinds first, of which there are few, and those by name; not
    `grouped`, a name may come several times. By user, and by nothing, one step is quicker.
    """
    columns, group_by = _asked(by, _QUARTER if timed else "0")
    callers = _CALLERS if {"team", "feature", "key", "prompt"} & set(by) else ""
    if "user" in by or not by:
        return "SELECT " + columns + _COUNTED + _STATUSES + _SAVED + _KINDS + callers + _WITHIN + group_by
    numbers = ["kind", "caller" if callers else "0 AS caller", _QUARTER + " AS quarter" if timed else "0 AS quarter"]
    places = ["1", *(["2"] if callers else []), *(["3"] if timed else [])]
    groups = "SELECT " + ", ".join(numbers) + "," + _COUNTED + _SAVED + _WITHIN + "GROUP BY " + ", ".join(places)
    columns, group_by = _asked(by, "quarter" if timed else "0")
    joined = " FROM (" + groups + ")" + _KINDS + callers
    if not grouped:
        return "SELECT " + columns + _EACH_STATUS + joined
    return "SELECT " + columns + _BY_STATUS + joined + group_by


def sums_of_sums(by: Sequence[str], *, timed: bool) -> str:
    """Sum up what is kept (:way, :quarters, from :first_quarter before :beyond_quarter) in the same form."""
    columns, group_by = _asked(by, "quarter" + _STEP if timed else "0")
    where = " FROM sums WHERE dims = :way AND quarters = :quarters"
    return (
        "SELECT "
        + columns
        + _OF_GROUPS
        + where
        + " AND quarter >= :first_quarter AND quarter < :beyond_quarter"
        + group_by
    )


MARKS = (
    "SELECT quarter, dims FROM rolled WHERE quarters = ? AND quarter >= ? AND quarter < ? AND dims > 0 ORDER BY quarter"
)
UNROLL = "DELETE FROM rolled WHERE quarters = ? AND quarter = ?"

# -- making what is kept --

FIRST_CALL = "SELECT started_ns FROM calls ORDER BY id LIMIT 1"
COUNT_TO = """
    SELECT count(*) FROM (SELECT 1 FROM calls
    WHERE id >= :first AND id < :beyond AND started_ns >= :since_ns AND started_ns < :until_ns LIMIT :most)
"""
MARKED = (
    "SELECT quarter FROM rolled WHERE quarters = ? AND quarter >= ? AND quarter < ? AND (dims IS NOT NULL OR maker > ?)"
)
BEGIN_MAKING = "INSERT OR REPLACE INTO rolled (quarters, quarter, dims, maker) VALUES (?, ?, NULL, ?)"
MAKER_OF = "SELECT count(*) FROM rolled WHERE quarters = ? AND quarter = ? AND dims IS NULL AND maker = ?"
MADE = "UPDATE rolled SET dims = ? WHERE quarters = ? AND quarter = ?"
FORGET_SUMS = "DELETE FROM sums WHERE dims = ? AND quarters = ? AND quarter = ?"
KEEP_SUMS = "INSERT INTO sums SELECT * FROM temp.made"
FORGET_MADE = "DELETE FROM temp.made"
FORGET_GATHERED = "DELETE FROM temp.gathered"
FORGET_NARROWED = "DELETE FROM temp.narrowed"
NOT_WORTH_IT = "DELETE FROM temp.made WHERE dims = ?"
_COLUMNS = " (" + ", ".join((*_NAMES.values(), "quarter", *_FIGURES)) + ")"
WORKSHOP = (
    "CREATE TEMP TABLE gathered" + _COLUMNS,
    "CREATE TEMP TABLE narrowed" + _COLUMNS,
    "CREATE TEMP TABLE made AS SELECT * FROM sums LIMIT 0",
)
NO_WORKSHOP = ("DROP TABLE temp.gathered", "DROP TABLE temp.narrowed", "DROP TABLE temp.made")
GATHER = "INSERT INTO temp.gathered "
GATHERED = "SELECT coalesce(sum(calls), 0) FROM temp.gathered"

_MAKE = "INSERT INTO temp.made SELECT "
_NARROW = "INSERT INTO temp.narrowed SELECT "


def narrow(by: Sequence[str]) -> str:
    """Sum what was gathered up by these names, for several ways that are among them."""
    columns, group_by = _asked(by, "0")
    return _NARROW + columns + _OF_GROUPS + " FROM temp.gathered" + group_by


def make(by: Sequence[str], *, narrowed: bool = False) -> str:
    """Sum up what was gathered, or narrowed, by these names, as rows of `sums` (:way, :quarters, :quarter)."""
    names = [column if name in by else "''" for name, column in _NAMES.items()]
    columns = ", ".join((":way", ":quarters", ":quarter", *names))
    group_by = ", ".join(column for name, column in _NAMES.items() if name in by)
    source = " FROM temp.narrowed" if narrowed else " FROM temp.gathered"
    return _MAKE + columns + ", " + _OF_GROUPS + source + " GROUP BY " + group_by

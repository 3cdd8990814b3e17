"""Updates of the catalogue: rows that are laid over it, so that a price can change without a new release.

An update has the form of a row of `[[models]]` under the name `[[updates]]`. What it says replaces what the row of that
id says, but for prices: its own are added to those that are there, each with its `since`, and replace only one of the
same day. So the version by which an older receipt was billed stays. Plain tables in and out; `catalog.py` checks them.
"""

from collections.abc import Mapping
from typing import Any

from penstock.errors import Mistake


def with_update(table: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """Add the rows of another text as updates: its models and its updates, and the families that are not there yet."""
    rows = [*_list(table, "updates"), *_list(update, "models"), *_list(update, "updates")]
    families = _list(table, "families")
    known = [family.get("name") for family in families if isinstance(family, dict)]
    new = [one for one in _list(update, "families") if not isinstance(one, dict) or one.get("name") not in known]
    rest = {name: rows for name, rows in update.items() if name not in {"models", "updates", "families"}}
    return {**rest, **table, "families": [*families, *new], "updates": rows}


def _list(table: Mapping[str, Any], name: str) -> list[Any]:
    rows = table.get(name, [])
    return rows if isinstance(rows, list) else [rows]


def laid_over(table: Mapping[str, Any], mistakes: list[Mistake]) -> Any:
    """Give the rows of `models` with the `updates` laid over them, in order; an id that is not there yet is a new row."""
    models, updates = table.get("models", []), table.get("updates", [])
    if not updates:
        return models
    if not isinstance(models, list) or not isinstance(updates, list):
        mistakes.append(Mistake("updates", "is no list of tables.", None, "Write [[updates]]."))
        return models
    places = {row.get("id"): at for at, row in enumerate(models) if isinstance(row, dict) and _is_id(row.get("id"))}
    rows = list(models)
    for number, update in enumerate(updates):
        name = update.get("id") if isinstance(update, dict) else None
        if not _is_id(name):
            mistakes.append(Mistake(f"updates.{number}", "`id` is missing: the model that it is about."))
        elif name in places:
            rows[places[name]] = _over(rows[places[name]], update)
        else:
            places[name] = len(rows)
            rows.append(update)
    return rows


def _is_id(name: Any) -> bool:
    return isinstance(name, str) and bool(name)


def _over(row: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    both = {**row, **update}
    old, new = row.get("prices", []), update.get("prices", [])
    if isinstance(old, list) and isinstance(new, list):
        days = [_day(price) for price in new]
        both["prices"] = sorted([*(price for price in old if _day(price) not in days), *new], key=_day)
    return both


def _day(price: Any) -> str:
    """Give the day from which a row of prices holds, as text: what is no day is found out elsewhere."""
    return str(price.get("since", "")) if isinstance(price, dict) else ""

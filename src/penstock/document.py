"""TOML text to frozen structs: every mistake at once, each with its line, its key and what was probably meant.

The struct is the schema: its fields, types, ranges and defaults say what a file may hold, and one walker over
`msgspec.inspect` reads any of them. Notes on a field stand in `msgspec.Meta`:

    examples          shown when the value is wrong or missing
    extra["form"]     the value is read by the `Form` of that name (money, names, addresses)
    extra["derived"]  not a key of the file: filled in by whoever reads it; `name` in a table of tables is the table's key
    extra["later"]    values (or beginnings of them) that are planned and that this version cannot do
    extra["unique"]   a list without repetitions

Nothing here opens a file, and no value of a text is ever quoted in a message: it might be a secret.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, Protocol, TypeVar, cast, runtime_checkable

from msgspec import Struct, inspect, json

from penstock.errors import ConfigError, Mistake
from penstock.toml import KeyPath, Toml

T = TypeVar("T", bound=Struct)

MAX_NUMBER = 1e300
SHOWN = 100
_BAD: Final[Any] = object()


class Wrong(ValueError):
    """Raised by a `Form`: what is wrong with a value, and what to do."""

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion


class Form(Struct, frozen=True):
    """How a special value is written: `expected` completes "must be ...", `read` gives the value or raises `Wrong`."""

    expected: str
    read: Callable[[Any, KeyPath], Any]


@runtime_checkable
class Checked(Protocol):
    """A struct that knows what makes no sense within it; it is asked once all of its keys are well read."""

    def contradictions(self) -> Iterable[Mistake]:
        """Give what is wrong; the key of a mistake is that of a field, or "" for the table itself."""
        ...


class Document:
    """One TOML text while it is read; `mistakes` gathers what is wrong with it."""

    def __init__(self, source: str, text: Toml, forms: Mapping[str | type, Form]) -> None:
        self.source = source
        self.mistakes: list[Mistake] = []
        self._text = text
        self._forms = forms

    def read(self, cls: type[T]) -> T | None:
        """Give the whole text as a struct; None if something that it needs is missing or wrong."""
        value = self._struct(cast("inspect.StructType", inspect.type_info(cls)), self._text.table, ())
        return None if value is _BAD else cast("T", value)

    def given(self, *path: str, empty: bool = False) -> bool:
        """Tell whether the text says anything at a place, right or wrong; with `empty`, whether that is nothing."""
        value = self._text.get(*path)
        return value in ([], {}, "") if empty else value is not None

    def wrong(self, path: KeyPath, message: str, suggestion: str = "") -> None:
        """Note a mistake at a place."""
        self.mistakes.append(Mistake(write_key(path), message, self._text.lines.get(path), suggestion))

    def finish(self) -> None:
        """Raise ConfigError if there was any mistake, in the order of the lines."""
        if self.mistakes:
            raise ConfigError(self.source, tuple(sorted(self.mistakes, key=lambda mistake: mistake.line or 0)))

    # -- the walk --

    def _struct(self, kind: inspect.StructType, raw: Mapping[str, Any], path: KeyPath, **given: Any) -> Any:
        fields = keys_of(kind)
        values, complete, before = dict(given), True, len(self.mistakes)
        for key, value in raw.items():
            field = fields.get(key)
            if field is None:
                self._unknown((*path, key), key, fields)
                continue
            read = self._value(field.type, value, (*path, key), field)
            if read is not _BAD:
                values[field.name] = read
            elif field.required:
                complete = False
        for key, field in fields.items():
            if field.required and key not in raw:
                self.wrong(path, f"`{key}` is missing.", _example(key, field))
                complete = False
        if not complete:
            return _BAD
        value = kind.cls(**values)
        if len(self.mistakes) == before and isinstance(value, Checked):
            for mistake in value.contradictions():
                self.wrong((*path, mistake.key) if mistake.key else path, mistake.message, mistake.suggestion)
        return value

    def _unknown(self, path: KeyPath, key: str, fields: Mapping[str, inspect.Field]) -> None:
        close = nearest(key, fields)
        self.wrong(path, "unknown key.", f"Did you mean `{close}`?" if close else f"Known here: {', '.join(fields)}.")

    def _value(self, kind: inspect.Type, raw: Any, path: KeyPath, field: inspect.Field | None = None) -> Any:
        kind, notes = unwrap(kind)
        planned = _planned(raw, notes.get("later", ()))
        if planned is not None:
            self.wrong(path, f"`{planned or path[-1]}` is planned and not in this version.", self._instead(kind))
            return _BAD
        form = self._form(kind, notes)
        if form is not None:
            try:
                return form.read(raw, path)
            except Wrong as wrong:
                self.wrong(path, wrong.message, wrong.suggestion or _example(path[-1], field))
                return _BAD
        match kind:
            case inspect.UnionType(types=kinds) if chosen := [one for one in kinds if _fits(unwrap(one)[0], raw)]:
                return self._value(chosen[0], raw, path, field)
            case _:
                pass
        if not _fits(kind, raw):
            wanted = expected(kind, self._forms, notes)
            self.wrong(path, f"must be {wanted}, not {_found(raw)}.", _example(path[-1], field))
            return _BAD
        match kind:
            case inspect.StructType():
                return self._struct(kind, raw, path)
            case inspect.VarTupleType(item_type=item):
                return self._tuple(item, raw, path, unique="unique" in notes)
            case _:
                return self._scalar(kind, raw, path, field)

    def _tuple(self, item: inspect.Type, raw: Any, path: KeyPath, *, unique: bool) -> Any:
        """Read a list, a table of tables (each named by its key) or a table of pairs."""
        kind, _ = unwrap(item)
        if isinstance(raw, list):
            values = [self._value(item, value, (*path, place)) for place, value in enumerate(raw)]
            seen: set[Any] = set()
            for place, value in enumerate(values if unique else ()):
                if value in seen:
                    self.wrong((*path, place), "stands here twice.", "Remove one of them.")
                seen.add(place if value is _BAD else value)
        elif isinstance(kind, inspect.StructType):
            values = [self._named(kind, key, value, (*path, key)) for key, value in raw.items()]
        else:
            pair = cast("inspect.TupleType", kind)
            values = [
                (key, read)
                for key, value in raw.items()
                if (read := self._value(pair.item_types[1], value, (*path, key))) is not _BAD
            ]
        return tuple(value for value in values if value is not _BAD)

    def _named(self, kind: inspect.StructType, key: str, raw: Any, path: KeyPath) -> Any:
        field = next(field for field in kind.fields if field.name == "name")
        name = self._value(field.type, key, path)
        if not isinstance(raw, dict):
            self.wrong(path, f"must be a table, not {_found(raw)}.", f"Write [{write_key(path)}].")
            return _BAD
        return self._struct(kind, raw, path, name=key if name is _BAD else name)

    def _scalar(self, kind: inspect.Type, raw: Any, path: KeyPath, field: inspect.Field | None) -> Any:
        match kind:
            case inspect.LiteralType(values=values) if raw not in values:
                close = nearest(raw, values)
                choice = f"Did you mean {write_value(close)}?" if close and len(values) > 1 else ""
                self.wrong(path, f"must be {expected(kind, self._forms)}.", choice)
                return _BAD
            case inspect.IntType() | inspect.FloatType() if not _in_range(kind, raw):
                self.wrong(path, f"is out of range: must be {expected(kind, self._forms)}.", _example(path[-1], field))
                return _BAD
            case inspect.StrType(min_length=least) if least and not raw.strip():
                self.wrong(path, "must not be empty.", _example(path[-1], field))
                return _BAD
            case inspect.StrType(pattern=pattern) if pattern and not re.fullmatch(pattern, raw):
                shape = pattern.removeprefix("^").removesuffix("$")
                self.wrong(path, f"is not of the shape {shape}.", _example(path[-1], field))
                return _BAD
            case inspect.FloatType():
                return float(raw)
            case _:
                return raw

    def _form(self, kind: inspect.Type, notes: Mapping[str, Any]) -> Form | None:
        return _find_form(kind, notes, self._forms)

    def _instead(self, kind: inspect.Type) -> str:
        return f"It has: {expected(kind, self._forms)}." if isinstance(kind, inspect.LiteralType) else "Remove it."


# -- the schema --


def keys_of(kind: inspect.StructType) -> dict[str, inspect.Field]:
    """Fields that are keys of a file, under the names that they have there."""
    return {field.encode_name: field for field in kind.fields if not unwrap(field.type)[1].get("derived")}


def unwrap(kind: inspect.Type) -> tuple[inspect.Type, dict[str, Any]]:
    """Give a type without its annotations and its None, and the notes that were on it."""
    notes: dict[str, Any] = {}
    while True:
        match kind:
            case inspect.Metadata(type=inner, extra=extra, extra_json_schema=shown):
                notes |= (extra or {}) | (shown or {})
                kind = inner
            case inspect.UnionType(types=kinds) if len(rest := [one for one in kinds if not _is_none(one)]) == 1:
                kind = rest[0]
            case _:
                return kind, notes


def expected(kind: inspect.Type, forms: Mapping[str | type, Form], notes: Mapping[str, Any] | None = None) -> str:
    """Complete the sentence "must be ..." for a type."""
    kind, more = unwrap(kind)
    form = _find_form(kind, more | dict(notes or {}), forms)
    if form is not None:
        return form.expected
    match kind:
        case inspect.IntType():
            text = f"a whole number{_range(kind)}"
        case inspect.FloatType():
            text = f"a number{_range(kind)}"
        case inspect.BoolType():
            text = "true or false"
        case inspect.LiteralType(values=values):
            text = " or ".join(write_value(value) for value in values)
        case inspect.UnionType(types=kinds):
            text = " or ".join(expected(one, forms) for one in kinds if not _is_none(one))
        case inspect.VarTupleType(item_type=item) if isinstance(unwrap(item)[0], inspect.TupleType):
            text = "a table of texts"
        case inspect.VarTupleType(item_type=item):
            text = f"a list, each {expected(item, forms)}"
        case inspect.StructType():
            text = "a table"
        case _:
            text = "text"
    return text


def nearest(name: object, names: Iterable[object]) -> str | None:
    """Give the known name that was probably meant."""
    if not isinstance(name, str):
        return None
    known = {str(one).casefold(): str(one) for one in names}
    close = difflib.get_close_matches(name.casefold(), known, n=1)
    return known[close[0]] if close else None


def _find_form(kind: inspect.Type, notes: Mapping[str, Any], forms: Mapping[str | type, Form]) -> Form | None:
    if "form" in notes:
        return forms[notes["form"]]
    return forms[kind.cls] if isinstance(kind, inspect.CustomType) else None


def _is_none(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.NoneType)


def _planned(raw: Any, later: tuple[str, ...]) -> str | None:
    """Give which of the planned values this is: one of them, or what begins with one that ends in a colon; "" is any."""
    if later == ("",):
        return ""
    text = raw if isinstance(raw, str) else ""
    return next((one for one in later if text == one or (one.endswith(":") and text.startswith(one))), None)


def _fits(kind: inspect.Type, raw: Any) -> bool:
    """Whether a TOML value is of the right shape; its range is another question."""
    match kind:
        case inspect.BoolType():
            fits = isinstance(raw, bool)
        case inspect.IntType():
            fits = isinstance(raw, int) and not isinstance(raw, bool)
        case inspect.FloatType():
            fits = isinstance(raw, int | Decimal) and not isinstance(raw, bool)
        case inspect.StructType():
            fits = isinstance(raw, dict)
        case inspect.VarTupleType(item_type=item):
            fits = isinstance(raw, dict if _is_table(unwrap(item)[0]) else list)
        case inspect.UnionType():
            fits = False
        case _:
            fits = isinstance(raw, str)
    return fits


def _is_table(item: inspect.Type) -> bool:
    """Whether a tuple of these is written as a table: of pairs, or of tables that are named by their keys."""
    match item:
        case inspect.StructType(fields=fields):
            return any(field.name == "name" and unwrap(field.type)[1].get("derived") for field in fields)
        case _:
            return isinstance(item, inspect.TupleType)


def _in_range(kind: inspect.IntType | inspect.FloatType, raw: int | Decimal) -> bool:
    if isinstance(raw, Decimal) and not raw.is_finite():
        return False
    low = (kind.ge is None or raw >= kind.ge) and (kind.gt is None or raw > kind.gt)
    high = (kind.le is None or raw <= kind.le) and (kind.lt is None or raw < kind.lt)
    return low and high and -MAX_NUMBER <= raw <= MAX_NUMBER


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.gt is not None:
        return f" above {kind.gt}" + ("" if kind.le is None else f" and at most {kind.le}")
    if kind.ge is not None:
        return f" of at least {kind.ge}" if kind.le is None else f" from {kind.ge} to {kind.le}"
    return ""


# -- writing --


def write_key(path: KeyPath) -> str:
    """Write a path as TOML writes keys: `prices."box/qwen".input`, `rules[0].text`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{_write_name(part)}" for part in path]
    return "".join(parts).removeprefix(".") or "(top level)"


def write_value(value: Any) -> str:
    """Write a value as TOML does."""
    match value:
        case str():
            text = json.encode(value).decode()
        case dict():
            inner = ", ".join(f"{_write_name(key)} = {write_value(one)}" for key, one in value.items())
            text = f"{{ {inner} }}" if inner else "{}"
        case list() | tuple():
            text = f"[{', '.join(map(write_value, value))}]"
        case bool():
            text = str(value).lower()
        case float() if value.is_integer():
            text = str(int(value))
        case _:
            text = str(value)
    return text


def _write_name(name: str) -> str:
    name = name if len(name) <= SHOWN else f"{name[:SHOWN]}..."
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else write_value(name)


def _found(raw: Any) -> str:
    kinds = {
        bool: "true or false",
        int: "a whole number",
        Decimal: "a number",
        str: "text",
        list: "a list",
        dict: "a table",
    }
    return kinds.get(type(raw), "a date or time")


def _example(key: str | int, field: inspect.Field | None) -> str:
    if field is None:
        return ""
    shown = unwrap(field.type)[1].get("examples")
    value = shown[0] if shown else field.default
    simple = isinstance(value, bool | int | float | str | list | dict) and not isinstance(key, int)
    return f"Example: {_write_name(str(key))} = {write_value(value)}" if simple else ""

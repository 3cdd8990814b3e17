"""TOML text to plain values and the line of every key: the standard library's parser, and a locator beside it.

`tomllib` decides what is TOML and gives no lines; the locator walks the same text, which is known to be valid by then,
and notes where each key stands. It never judges: where it does not know a line there is none. Numbers with a fraction
come as `Decimal`, so that money stays exact. Grammar: TOML 1.0.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from msgspec import Struct

from penstock.errors import ConfigError, Mistake

KeyPath = tuple[str | int, ...]
"""The way to a value: names of tables and keys, places in lists (from 0)."""

MAX_BYTES = 16 * 1024 * 1024
DEEPEST_KEY = 32
"""Longer paths get no line: no real file has them, and noting every step of one costs its length squared."""

# No possessive quantifier on a group: Python before 3.11.5 matches those wrongly (python/cpython#106052).
_SPACE = re.compile(r"[ \t\r\n]*+(?:#[^\n]*+[ \t\r\n]*+)*")
_STRING = re.compile(
    r'"""(?:[^"\\]++|\\.|"(?!""))*"{3,5}|'
    r"'''(?:[^']++|'(?!''))*'{3,5}|"
    r'"(?:[^"\\]++|\\.)*"|'
    r"'[^']*+'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_VALUE = re.compile(r"\d{4}-\d\d-\d\d \d\d:[^,\]}\s#]*+|[^,\]}\s#]++")
_PLACE = re.compile(r"^(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)$", re.DOTALL)


class Toml(Struct, frozen=True):
    """The values of a text, and the lines of its keys, counted from 1."""

    table: Mapping[str, Any]
    lines: Mapping[KeyPath, int]

    def get(self, *path: str) -> Any:
        """Give the value at the end of a path of tables; None if there is none."""
        value: Any = self.table
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def names(self, table: str) -> tuple[str, ...]:
        """Give the keys of a table, in their order."""
        value = self.get(table)
        return tuple(value) if isinstance(value, dict) else ()


def parse(source: str, data: bytes) -> Toml:
    """Read a text. Raises ConfigError with its first place that is no TOML."""
    if len(data) > MAX_BYTES:
        raise _refused(source, f"the file has more than {MAX_BYTES} bytes.", None)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(source, "the file is not UTF-8 text.", data.count(b"\n", 0, error.start) + 1) from None
    try:
        table = tomllib.loads(text, parse_float=_decimal)
    except tomllib.TOMLDecodeError as error:
        raise _syntax(source, text, str(error)) from None
    except RecursionError:
        raise _refused(source, "lists or tables are nested too deeply.", None) from None
    except ValueError:  # a whole number or a date that is well written and beyond what Python reads
        raise _refused(source, "a number or a date is beyond all bounds.", None) from None
    return Toml(table, locate(text))


def locate(text: str) -> dict[KeyPath, int]:
    """Give the line of every key, table and list item of a valid TOML text."""
    return _Locator(text).read()


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond what Decimal holds
        return Decimal("NaN")


def _refused(source: str, what: str, line: int | None, suggestion: str = "") -> ConfigError:
    return ConfigError(source, (Mistake("TOML", what, line, suggestion),))


def _syntax(source: str, text: str, message: str) -> ConfigError:
    found = _PLACE.match(message)
    what = found["what"] if found else message
    line = int(found["line"]) if found and found["line"] else text.count("\n") + 1
    hint = "Text stands in quotes; numbers, true and false do not." if what == "Invalid value" else ""
    return _refused(source, f"{what[:200]}.", line, hint)


class _Locator:
    """One walk over a valid text. `at` is the next character, `lines` what was found so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self._breaks = [found.start() for found in re.finditer("\n", text)]
        self._counts: dict[KeyPath, int] = {}

    def read(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._more():
            start = self.at
            if self.text.startswith("[", start):
                self.at += 1
                many = self.text.startswith("[", self.at)
                self.at += many
                table = self._table(self._keys(), many=many)
                self._note(table, start)
                self.at += 1 + many  # the closing brackets
            else:
                self._pair(table)
        return self.lines

    def _more(self) -> bool:
        """Skip white space and comments; tell whether anything follows."""
        self.at = _end(_SPACE, self.text, self.at)
        return self.at < len(self.text)

    def _note(self, path: KeyPath, at: int) -> None:
        if len(path) > DEEPEST_KEY:
            return
        line = bisect_right(self._breaks, at) + 1
        for end in range(1, len(path)):
            self.lines.setdefault(path[:end], line)
        self.lines[path] = line

    def _keys(self) -> KeyPath:
        """Read a dotted key up to and without its `=` or `]`."""
        keys: list[str] = []
        while self._more():
            start = self.at
            if self.text[start] in "\"'":
                self.at = _end(_STRING, self.text, start)
                keys.append(tomllib.loads(f"key = {self.text[start : self.at]}")["key"])
            else:
                self.at = _end(_BARE_KEY, self.text, start)
                keys.append(self.text[start : self.at])
            self._more()
            if not self.text.startswith(".", self.at):
                break
            self.at += 1
        return tuple(keys)

    def _table(self, keys: KeyPath, *, many: bool) -> KeyPath:
        """Give the path that a header opens: a name of a list of tables means the last one of them."""
        path: KeyPath = ()
        for place, key in enumerate(keys):
            path += (key,)
            if many and place == len(keys) - 1:
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                path += (self._counts[path],)
        return path

    def _pair(self, table: KeyPath) -> None:
        start = self.at
        path = table + self._keys()
        self._note(path, start)
        self.at += 1  # the equals sign
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._more()
        first = self.text[self.at]
        if first in "\"'":
            self.at = _end(_STRING, self.text, self.at)
        elif first in "[{":
            self._items(path, "]" if first == "[" else "}")
        else:
            self.at = _end(_BARE_VALUE, self.text, self.at)

    def _items(self, path: KeyPath, closing: str) -> None:
        self.at += 1
        place = 0
        while self._more() and self.text[self.at] != closing:
            if closing == "}":
                self._pair(path)
            else:
                self._note((*path, place), self.at)
                self._value((*path, place))
                place += 1
            if self._more() and self.text[self.at] == ",":
                self.at += 1
        self.at += 1


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Give the end of a match at a place. Always further on than `at` for what stands in a valid text."""
    found = pattern.match(text, at)
    return at if found is None else found.end()

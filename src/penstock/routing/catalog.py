"""The catalogue: dated facts about models, read once from `models.toml`, and looked up by whatever name a model goes by.

It says what a model is, can and costs; it never says where it can be reached, and nothing here reads a file: the text
comes in as bytes. A mistake in the text is an error that names the row, and all of them are reported at once.

List prices hold at the vendor alone. So a name that is not the vendor's own (a Hugging Face repository, a Bedrock or Vertex
id, a tag of Ollama) finds the facts without the prices, and so does a name of which only the family is known.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from penstock.errors import ConfigError, Mistake
from penstock.routing.prices import PriceRow, price_of
from penstock.routing.updates import laid_over, with_update
from penstock.target import Price, Profile

Capability = Literal[
    "vision",
    "audio",
    "files",
    "tools",
    "parallel_tools",
    "json",
    "json_schema",
    "reasoning",
    "logprobs",
    "seed",
    "prompt_cache",
    "streaming",
]
_Tokens = Annotated[int, Meta(gt=0)]
_Name = Annotated[str, Meta(min_length=1)]

LONGEST_NAME = 200
"""Names longer than this are nobody's; they are not looked at any further."""


class Entry(Struct, frozen=True):
    """A model under its vendor's name. `prices` are the vendor's list prices, sorted by the day from which they hold."""

    id: str
    vendor: str
    aliases: tuple[str, ...]
    profile: Profile
    prices: tuple[Price, ...] = ()


class _Model(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of `[[models]]`. `can` are capabilities; without a tokenizer of its own it has its family's."""

    id: _Name
    vendor: _Name
    family: _Name
    source: _Name
    as_of: date
    name: str = ""
    aliases: tuple[_Name, ...] = ()
    tokenizer: str | None = None
    context: _Tokens | None = None
    input: _Tokens | None = None
    output: _Tokens | None = None
    can: tuple[Capability, ...] = ()
    released: date | None = None
    retires: date | None = None
    successor: str | None = None
    prices: tuple[PriceRow, ...] = ()


class _Family(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of `[[families]]`: what a name that begins with one of `covers` surely is, where no row has it."""

    name: _Name
    vendor: _Name
    source: _Name
    as_of: date
    covers: tuple[_Name, ...] = ()
    tokenizer: str | None = None


_Row = TypeVar("_Row", _Model, _Family)


class Catalog:
    """All entries, and the ways to find one."""

    __slots__ = ("_families", "_names", "entries")

    def __init__(self, entries: tuple[Entry, ...], families: Mapping[str, Entry]) -> None:
        """Index the entries. `families` gives, by the beginning of a name, what every such name has in common."""
        self.entries = entries
        self._families = tuple(sorted(families.items(), key=lambda item: -len(item[0])))
        self._names = {name: entry for entry in entries for name in _names_of(entry)}

    def find(self, model: str, vendor: str | None = None) -> Entry | None:
        """Find a model by id, alias, dated id or another's name for it; of `vendor` only, if one is given.

        An entry that was found by a name that is not the vendor's own has no prices.
        """
        if len(model) > LONGEST_NAME:
            return None
        name = model.strip().lower()
        own = self._own(name)
        if own is not None and vendor in (None, own.vendor):
            return own
        others = list(_other_names(name))
        for one in others:
            other = self._own(one)
            if other is not None and vendor in (None, other.vendor):
                return replace(other, prices=())
        for beginning, family in self._families:
            if others[0].startswith(beginning) and vendor in (None, family.vendor):
                return family
        return None

    def _own(self, name: str) -> Entry | None:
        return self._names.get(name) or self._names.get(_DATE.sub("", name))


_DATE = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|20\d{6}|00\d)$")
_HOSTED = re.compile(
    r"^(?:(?:us|eu|apac|ap|jp|au|ca|sa|me|global|us-gov)\.)?"
    r"(?:anthropic|meta|mistral|openai|deepseek|qwen|google|amazon|cohere|ai21|writer)\."
)
_VERSION = re.compile(r"-v\d+(?::\d+)?$")
_TAIL = re.compile(
    r"[-._](?:latest|instruct|it|chat|hf|base|free|thinking|beta|preview|gguf|ggml|mlx|awq|gptq|bnb|fp8|fp16|bf16|"
    r"f16|int4|int8|4bit|8bit|w4a16|w8a8|dynamic|turbo-instruct|q\d(?:_[a-z0-9]+)*|iq\d(?:_[a-z0-9]+)*)$"
)


def _other_names(name: str) -> Iterator[str]:
    """Give what a model may be called at its vendor's, given what it is called elsewhere: the path, the tags cut off."""
    bare = name.split(":")[1] if name.startswith("ft:") else name.rpartition("/")[2]
    bare = _VERSION.sub("", _HOSTED.sub("", bare)).replace("@", "-").replace(":", "-")
    yield bare
    while True:
        shorter = _TAIL.sub("", _DATE.sub("", bare))
        if shorter == bare:
            return
        bare = shorter
        yield bare


def _names_of(entry: Entry) -> Iterator[str]:
    yield entry.id.lower()
    yield from (alias.lower() for alias in entry.aliases)


def nearest(name: str, names: Iterable[str], n: int = 3) -> tuple[str, ...]:
    """Give at most `n` of the names, the likeliest misspelt first; none if nothing is near."""
    if len(name) > LONGEST_NAME:
        return ()
    by_lower = {known.lower(): known for known in names}
    return tuple(by_lower[found] for found in get_close_matches(name.lower(), by_lower, n))


def read_catalog(text: bytes, update: bytes = b"") -> Catalog:
    """Read the text of models.toml; the models of an `update`, another such text, are laid over it.

    Raises ConfigError, which lists every mistake with the row that it stands in.
    """
    mistakes: list[Mistake] = []
    table = _parsed(text)
    if update:
        table = with_update(table, _parsed(update))
    unknown = set(table) - {"models", "families", "updates"}
    hint = "Known are models, families and updates."
    mistakes += [Mistake(key, "is not known here.", None, hint) for key in sorted(unknown)]
    rows = _rows(table.get("families", []), _Family, "families", "name", mistakes)
    families = {family.name: family for family in rows}
    models = _rows(laid_over(table, mistakes), _Model, "models", "id", mistakes)
    mistakes += _quarrels(models, rows)
    entries = [_entry(model, families[model.family], mistakes) for model in models if model.family in families]
    if mistakes:
        raise ConfigError("models.toml", tuple(mistakes))
    return Catalog(tuple(entries), {cover.lower(): _common(family) for family in rows for cover in family.covers})


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(text.decode(), parse_float=Decimal)
    except (ValueError, RecursionError, ArithmeticError) as error:  # TOML, UTF-8 and dates are all ValueError
        place = re.search(r"at line (\d+)", str(error))
        line = int(place[1]) if place else None
        above = re.findall(rb'^(?:id|name) = "([^"]*)"', b"\n".join(text.split(b"\n")[:line]), re.MULTILINE)
        row = above[-1].decode("utf-8", "replace") if above and line else "models.toml"
        raise ConfigError("models.toml", (Mistake(row, f"{error}.", line),)) from None


def _rows(rows: Any, kind: type[_Row], table: str, key: str, mistakes: list[Mistake]) -> list[_Row]:
    """Give the rows that are well formed, and add a mistake for each of the others."""
    found: list[_Row] = []
    for place, row in enumerate(rows if isinstance(rows, list) else [rows]):
        try:
            found.append(msgspec.convert(row, kind))
        except msgspec.ValidationError as error:
            name = row.get(key) if isinstance(row, dict) else None
            mistakes.append(Mistake(f"{table}.{name or place}", f"{error}."))
    return found


def _quarrels(models: list[_Model], families: list[_Family]) -> Iterator[Mistake]:
    """Find rows that contradict themselves or each other."""
    taken: dict[str, str] = {}
    for model in models:
        for name in {model.id.lower(), *(alias.lower() for alias in model.aliases)}:
            other = taken.setdefault(name, model.id)
            if other != model.id:
                yield Mistake(f"models.{model.id}", f"the name {name!r} is also that of {other}.")
        if model.released and model.retires and model.retires <= model.released:
            yield Mistake(f"models.{model.id}.retires", "is not after released.")
    for number, model in enumerate(models):
        if any(model.id == earlier.id for earlier in models[:number]):
            yield Mistake(f"models.{model.id}", "there are two rows of this id.")
        if all(model.family != family.name for family in families):
            yield Mistake(f"models.{model.id}.family", f"there is no family {model.family!r}.")
    yield from _lost_successors({model.id: model.successor for model in models})
    for names in ([family.name for family in families], [cover for family in families for cover in family.covers]):
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield Mistake("families", f"two rows claim {name!r}.")


def _lost_successors(successors: Mapping[str, str | None]) -> Iterator[Mistake]:
    """Find chains of successors that lead to no row, or round in a circle."""
    for model, first in successors.items():
        if first is not None and first not in successors:
            yield Mistake(f"models.{model}.successor", f"there is no model {first!r}.")
        seen = {model}
        step = first
        while step is not None and step not in seen:
            seen.add(step)
            step = successors.get(step)
        if step == model:
            yield Mistake(f"models.{model}.successor", "the successors lead back to this model.")


def _entry(model: _Model, family: _Family, mistakes: list[Mistake]) -> Entry:
    profile = Profile(
        name=model.name or model.id,
        family=model.family,
        tokenizer=model.tokenizer or family.tokenizer,
        context_tokens=model.context,
        input_tokens=model.input,
        output_tokens=model.output,
        capabilities=frozenset(model.can),
        released=_iso(model.released),
        retires=_iso(model.retires),
        successor=model.successor,
        source=model.source,
        as_of=model.as_of.isoformat(),
    )
    prices = tuple(
        price_of(price, f"models.{model.id}.prices[{at}]", mistakes) for at, price in enumerate(model.prices)
    )
    days = [price.since for price in prices]
    if days != sorted(set(days)):
        mistakes.append(Mistake(f"models.{model.id}.prices", "each has to begin on a later day than the one before."))
    return Entry(model.id, model.vendor, model.aliases, profile, prices)


def _common(family: _Family) -> Entry:
    profile = Profile(
        name=family.name,
        family=family.name,
        tokenizer=family.tokenizer,
        source=family.source,
        as_of=family.as_of.isoformat(),
    )
    return Entry(family.name, family.vendor, (), profile)


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()

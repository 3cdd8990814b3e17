"""`penstock models`: what the catalogue knows; and how commands find the facts of a model that a person names.

`penstock models SEARCH` is short for `penstock models list SEARCH`.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from penstock.call import Who
from penstock.cli.command import NO, command
from penstock.cli.options import Config, Json
from penstock.cli.screen import note, print_json, print_table, say
from penstock.config import catalog_text, load
from penstock.errors import UnknownModel
from penstock.routing.catalog import Catalog, Entry, nearest, read_catalog
from penstock.routing.router import Router
from penstock.settings import Config as Configuration
from penstock.target import Price, Target, price_on, usd

UPDATES = "models.toml"
"""The file in `PENSTOCK_HOME` with the updates of the catalogue that were applied."""


class _Group(TyperGroup):
    """Takes what is no command of the group for what `list` is asked."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args[:1] != ["--help"] and not set(args[:1]) & set(self.commands):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_Group, help="The catalogue of models, and updates of it.")


@app.command("list")
@command
def models(
    search: Annotated[str | None, typer.Argument(help="Only models whose name, alias or vendor contains this.")] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List models and their facts.

    That is what is configured, and the catalogue: window, list price, capabilities, retirement and successor. Exit code 1 says that nothing was found.
    """
    configuration = load(config)
    catalog, today = catalogue(configuration.home), day()
    configured = [model for model in configuration.models if search is None or search.lower() in model.name.lower()]
    found = [entry for entry in catalog.entries if search is None or _matches(entry, search.lower())]
    if json:
        targets = {model.name: model.targets for model in configured}
        print_json({"configured": targets, "models": [_shape(entry, today) for entry in found]})
    else:
        if configured:
            print_table(("configured", "targets"), [(model.name, ", ".join(model.targets)) for model in configured])
            say()
        if found:
            print_table(
                ("model", "vendor", "window", "output", "$/M in", "$/M out", "retires", "successor", "can"),
                [_row(entry, today) for entry in found],
                ("window", "output", "$/M in", "$/M out"),
            )
    if not found and not configured:
        close = nearest(search or "", _names(catalog))
        note(f"There is no model {search!r}." + (f" Did you mean: {', '.join(close)}?" if close else ""))
        raise typer.Exit(NO)


def look_up(config: Configuration, name: str) -> Target:
    """Find what is known of a configured model (its first target), of `provider/model` or of a name of the catalogue.

    Own prices and free providers count where the name leads to a provider. Raises UnknownModel.
    """
    catalog = catalogue(config.home)
    router = Router(config, catalog, {provider.name: "" for provider in config.providers})
    try:
        return router.plan(name, Who(admin=True)).targets[0]
    except UnknownModel:
        entry = catalog.find(name)
    if entry is not None:
        return Target(id=name, provider="", model=name, dialect="", profile=entry.profile, prices=entry.prices)
    close = ", ".join(nearest(name, [*router.models, *_names(catalog)]))
    raise UnknownModel(
        f"There is no model {name!r}.", hint=f"Did you mean: {close}?" if close else "`penstock models` lists them all."
    )


def catalogue(home: Path, update: bytes = b"") -> Catalog:
    """Read the catalogue as it holds: the packaged one, the updates that were applied in this home, and an `update`.

    Raises ConfigError.
    """
    return read_catalog(catalog_text() + b"\n" + applied(home), update)


def applied(home: Path) -> bytes:
    """Give the updates that were applied in this home, TOML; nothing where there are none."""
    try:
        return (home / UPDATES).read_bytes()
    except FileNotFoundError:
        return b""


def day() -> str:
    """Give today's date, UTC: the day whose prices hold."""
    return datetime.fromtimestamp(time.time(), UTC).date().isoformat()


def _names(catalog: Catalog) -> list[str]:
    return [name for entry in catalog.entries for name in (entry.id, *entry.aliases)]


def _matches(entry: Entry, text: str) -> bool:
    return any(text in name.lower() for name in (entry.id, entry.vendor, entry.profile.name, *entry.aliases))


def _is_retired(entry: Entry, today: str) -> bool:
    return entry.profile.retires is not None and entry.profile.retires <= today


def _row(entry: Entry, today: str) -> tuple[object, ...]:
    facts, price = entry.profile, price_on(entry.prices, today)
    retires = f"{facts.retires} (gone)" if _is_retired(entry, today) else facts.retires
    return (
        *(entry.id, entry.vendor, facts.context_tokens, facts.output_tokens),
        *(None if price is None else usd(price.rates.input), None if price is None else usd(price.rates.output)),
        *(retires, facts.successor, " ".join(sorted(facts.capabilities))),
    )


def _shape(entry: Entry, today: str) -> dict[str, object]:
    facts, price = entry.profile, price_on(entry.prices, today)
    return {
        "id": entry.id,
        "vendor": entry.vendor,
        "aliases": entry.aliases,
        "tokenizer": facts.tokenizer,
        "context_tokens": facts.context_tokens,
        "input_tokens": facts.input_tokens,
        "output_tokens": facts.output_tokens,
        "capabilities": sorted(facts.capabilities),
        "released": facts.released,
        "retires": facts.retires,
        "retired": _is_retired(entry, today),
        "successor": facts.successor,
        "price_usd_per_mtok": None if price is None else _rates(price),
        "price_since": None if price is None else price.since,
        "source": facts.source,
        "as_of": facts.as_of,
    }


def _rates(price: Price) -> dict[str, str]:
    rates = price.rates
    given = ((name, getattr(rates, name)) for name in rates.__struct_fields__)
    return {name: usd(rate) for name, rate in given if rate is not None}

"""`penstock models`: what the catalogue knows; and how commands find the facts of a model that a person names."""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer

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


@command
def models(
    search: Annotated[str | None, typer.Argument(help="Only models whose name, alias or vendor contains this.")] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List models and their facts.

    That is what is configured, and the catalogue: window, list price, capabilities, retirement and successor. Exit code 1 says that nothing was found.
    """
    catalog, today = read_catalog(catalog_text()), day()
    configured = [model for model in load(config).models if search is None or search.lower() in model.name.lower()]
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
    catalog = read_catalog(catalog_text())
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

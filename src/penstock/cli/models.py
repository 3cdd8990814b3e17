"""`penstock models` and `penstock tokens`: what the catalogue knows, and how a text is counted."""

import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import Config, Json, Model
from penstock.cli.screen import console, money, print_json, print_table
from penstock.config import catalog_text, load
from penstock.errors import UnknownModel
from penstock.routing.catalog import Catalog, Entry, nearest, read_catalog
from penstock.target import Price, price_on, usd
from penstock.tokens.count import count_text
from penstock.tokens.count import tokens as pieces


def models(
    search: Annotated[str | None, typer.Argument(help="Only names that contain this.")] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List the catalogue: window, list price, capabilities, retirement and successor."""
    catalog, today = read_catalog(catalog_text()), _today()
    configured = {model.name: model.targets for model in load(config).models}
    found = [entry for entry in catalog.entries if search is None or search.lower() in entry.id.lower()]
    if json:
        print_json({"configured": configured, "models": [_shape(entry, today) for entry in found]})
        return
    if search is None:
        print_table(("configured", "targets"), [(name, ", ".join(targets)) for name, targets in configured.items()])
        console.print()
    print_table(
        ("model", "vendor", "window", "output", "$/M in", "$/M out", "retires", "successor", "can"),
        [_row(entry, today) for entry in found],
        ("window", "output", "$/M in", "$/M out"),
    )


def _row(entry: Entry, today: str) -> tuple[object, ...]:
    facts, price = entry.profile, price_on(entry.prices, today)
    retires = facts.retires
    if retires is not None and retires <= today:
        retires = f"{retires} (gone)"
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
        "retired": facts.retires is not None and facts.retires <= today,
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


def tokens(
    text: Annotated[str | None, typer.Argument(help="The text; - reads the standard input.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the text from a file.")] = None,
    model: Model = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Count a text for a model: number, certainty, the tokens themselves, share of the window, price."""
    content = _content(text, file)
    catalog = read_catalog(catalog_text())
    name = model or "gpt-4o"
    entry = _entry(catalog, config, name)
    count = count_text(content, entry.profile)
    price, window = price_on(entry.prices, _today()), entry.profile.context_tokens
    nano = None if price is None else -(-count.n * price.rates.input // 1_000_000)
    share = None if window is None else f"{100 * count.n / window:.2f} %"
    if json:
        print_json(
            {
                "model": entry.id,
                "tokens": count.n,
                "certainty": count.certainty,
                "band": count.band,
                "characters": len(content),
                "window": window,
                "share_of_window": None if window is None else str(Decimal(count.n) / Decimal(window)),
                "input_cost_usd": None if nano is None else usd(nano),
                "pieces": [
                    {"id": piece.id, "text": piece.text.decode("utf-8", "replace")}
                    for piece in pieces(content, entry.profile)
                ],
            }
        )
        return
    band = "" if count.certainty == "exact" else f", {count.band[0]} to {count.band[1]}"
    console.print(f"{count.n} tokens for {entry.id} ({count.certainty}{band}), {len(content)} characters", markup=False)
    if share is not None:
        console.print(f"{share} of the window of {window}")
    console.print(f"{money(None if nano is None else usd(nano))} as input", markup=False)
    if console.is_terminal and count.n <= SHOWN:
        shades = ("on blue", "on magenta")
        for number, piece in enumerate(pieces(content, entry.profile)):
            console.print(piece.text.decode("utf-8", "replace"), style=shades[number % 2], end="", markup=False)
        console.print()


SHOWN = 500


def _content(text: str | None, file: Path | None) -> str:
    if file is not None:
        return file.read_text(encoding="utf-8", errors="replace")
    if text is None or text == "-":
        return sys.stdin.read()
    return text


def _entry(catalog: Catalog, config: str | None, name: str) -> Entry:
    """Find a model's facts: of a configured name, those of its first target."""
    targets = next((model.targets for model in load(config).models if model.name == name), ())
    wanted = targets[0].partition("/")[2] if targets else name
    entry = catalog.find(wanted) or catalog.find(wanted.partition("/")[2])
    if entry is None:
        close = ", ".join(nearest(name, [entry.id for entry in catalog.entries]))
        raise UnknownModel(f"The catalogue has no model {name!r}.", hint=f"Did you mean: {close}?" if close else "")
    return entry


def _today() -> str:
    return datetime.fromtimestamp(time.time(), UTC).date().isoformat()

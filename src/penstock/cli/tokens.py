"""`penstock tokens`: how a text is counted for a model, and what that costs."""

import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from penstock.calibrating import Calibration
from penstock.cli.command import command
from penstock.cli.ledger import open_store
from penstock.cli.models import day, look_up
from penstock.cli.options import Config, Json, Model, read_text
from penstock.cli.screen import money, print_json, say, visible
from penstock.config import load
from penstock.counting import load as load_vocabularies
from penstock.errors import InvalidRequest
from penstock.receipt import Usage
from penstock.settings import Config as Configuration
from penstock.target import Target, cost, usd
from penstock.tokens.count import Count, count_text
from penstock.tokens.count import tokens as pieces_of

FALLBACK = "gpt-4o"
"""Counted for where no model is named and the vocabulary of the default one is not known."""

LEDGER = "ledger.db"
"""Where a home keeps what was learnt; one without it has learnt nothing."""

SHOWN = 500
"""Tokens that are shown at a terminal."""

LISTED = 100_000
"""Tokens that are listed in JSON; for a longer text `pieces` is null."""


@command
def tokens(
    text: Annotated[str | None, typer.Argument(help="The text; - reads the standard input.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the text from a file.")] = None,
    model: Model = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Count the tokens of a text.

    Says how many, how sure that is, where one ends and the next begins, their share of the window and their price. The model is a configured one, provider/model, or any name of the catalogue. The count is that of the text alone: a
    call adds what the chat template puts around it.
    """
    content = read_text(text, file)
    settings = load(config)
    target = _target(settings, model)
    if problems := load_vocabularies((target,)):
        raise InvalidRequest(problems[0])
    count = _corrected(count_text(content, target.profile), target, settings)
    price = cost(Usage(count.n), target, day()).nano_usd
    amount = None if price is None else usd(price)
    if json:
        print_json(_shape(content, count, target, amount))
        return
    band = "" if count.certainty == "exact" else f": {count.band[0]} to {count.band[1]}"
    say(
        f"{count.n} token{'s' if count.n != 1 else ''} for {target.id} ({count.told()}{band}), {len(content)} characters"
    )
    window = target.profile.context_tokens
    if window is not None:
        say(f"{100 * count.n / window:.2f} % of the window of {window}")
    say(f"{money(amount)} as input" if not target.free else "free")
    if sys.stdout.isatty() and 0 < count.n <= SHOWN:
        _paint(content, target)


def _target(config: Configuration, name: str | None) -> Target:
    if name is not None:
        return look_up(config, name)
    default = look_up(config, config.models[0].name)
    return default if default.profile.tokenizer is not None else look_up(config, FALLBACK)


def _corrected(count: Count, target: Target, config: Configuration) -> Count:
    """Correct an estimate by what the gateway has learnt from the bills of this target, if it has one."""
    if count.certainty != "estimated" or target.profile.tokenizer is not None or not (config.home / LEDGER).exists():
        return count
    with open_store(config) as store:
        return Calibration(store.factors, store.keep_factors).corrected(count, target)


def _shape(content: str, count: Count, target: Target, amount: str | None) -> dict[str, object]:
    window = target.profile.context_tokens
    pieces = pieces_of(content, target.profile) if count.n <= LISTED else None
    return {
        "model": target.id,
        "tokens": count.n,
        "certainty": count.certainty,
        "band": count.band,
        "reports": count.reports,
        "characters": len(content),
        "window": window,
        "share_of_window": None if window is None else str(Decimal(count.n) / Decimal(window)),
        "input_cost_usd": amount,
        "pieces": None
        if pieces is None
        else [{"id": piece.id, "text": piece.text.decode("utf-8", "replace")} for piece in pieces],
    }


def _paint(content: str, target: Target) -> None:
    """Show where one token ends and the next begins, by two shades in turn."""
    painted = Text()
    for number, piece in enumerate(pieces_of(content, target.profile)):
        painted.append(visible(piece.text.decode("utf-8", "replace")), ("on blue", "on magenta")[number % 2])
    Console(highlight=False).print(painted)

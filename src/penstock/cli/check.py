"""`penstock check` and `penstock plan`: what would happen, without calling anyone."""

import asyncio
from typing import Annotated

import typer

from penstock.cli.options import Config, Feature, Json, Model
from penstock.cli.screen import console, money, print_json, print_table
from penstock.config import load
from penstock.errors import ConfigError


def check(config: Config = None, json: Json = False) -> None:
    """Validate the configuration and report every mistake at once; exit 1 if there is any."""
    try:
        loaded = load(config)
    except ConfigError as error:
        if json:
            print_json({"valid": False, "source": error.source, "mistakes": error.mistakes})
        else:
            typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if json:
        print_json({"valid": True, "source": loaded.source, "hash": loaded.hash, "mistakes": []})
        return
    console.print(
        f"{loaded.source} is fine: {len(loaded.providers)} providers, {len(loaded.models)} models, "
        f"{len(loaded.teams)} teams, {len(loaded.features)} features ({loaded.hash})",
        markup=False,
    )


def plan(
    prompt: Annotated[str, typer.Argument(help="The prompt.")],
    model: Model = None,
    feature: Feature = None,
    team: Annotated[str | None, typer.Option(help="As a key of this team.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="At most so many tokens of answer.")] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Say what would be done with a call and why, and what it could cost at most; nobody is called."""
    from penstock.client import AsyncGateway

    async def foresee() -> None:
        async with AsyncGateway(config) as gateway:
            seen = await gateway.plan(prompt, model=model, team=team, feature=feature, max_tokens=max_tokens)
        if json:
            print_json(seen)
            return
        rows: list[tuple[object, ...]] = [
            (number, step.target, step.input.n, step.input.certainty, money(step.ceiling_usd), step.note)
            for number, step in enumerate(seen.steps, 1)
        ]
        rows += [("-", left.target, "", "", "", left.reason) for left in seen.left_out]
        print_table(("try", "target", "input", "counted", "at most", "why"), rows, ("try", "input", "at most"))

    asyncio.run(foresee())

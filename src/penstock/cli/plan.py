"""`penstock plan`: what would be done with a call and why, without calling anyone."""

import asyncio
from decimal import Decimal
from typing import Annotated

import typer
from msgspec import Struct, structs

from penstock.cli.command import command
from penstock.cli.options import Config, Feature, Json, MaxTokens, Model, System, Team, read_text
from penstock.cli.screen import money, print_json, print_table, say
from penstock.foresight import Foresight


class Options(Struct, frozen=True):
    """The call to be planned; see `penstock.client.Options`."""

    model: Model = None
    system: System = None
    feature: Feature = None
    team: Team = None
    max_tokens: MaxTokens = None


@command
def plan(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; - reads it from the standard input.")] = None,
    options: Options = Options(),  # noqa: B008 - frozen
    config: Config = None,
    json: Json = False,
) -> None:
    """Foresee a call without making it.

    Says which targets would be tried in which order, why the others were left out, and what the call could cost at most:
    that is what its budgets would have to hold. Without --max-tokens it is the longest answer that the model can write.
    """
    text = read_text(prompt)
    seen = asyncio.run(_foresee(text, options, config))
    ceiling = _ceiling(seen)
    if json:
        print_json({**structs.asdict(seen), "ceiling_usd": ceiling})
        return
    rows: list[tuple[object, ...]] = [
        (number, step.target, step.input.n, step.input.certainty, money(step.ceiling_usd), step.note)
        for number, step in enumerate(seen.steps, 1)
    ]
    rows += [("-", left.target, None, None, None, f"left out: {left.reason}") for left in seen.left_out]
    if seen.static is not None:
        rows.append((len(seen.steps) + 1, "static", None, None, "$0", "the fixed text, if all of them fail"))
    print_table(("try", "target", "input", "counted", "at most", "why"), rows, ("try", "input", "at most"))
    if ceiling is None:
        say(f"model {seen.model}: no ceiling, since a target has no price; a call with a budget would be refused")
    else:
        say(f"model {seen.model}: at most {money(ceiling)}, which is held from its budgets until the call ends")


async def _foresee(text: str, options: Options, config: str | None) -> Foresight:
    from penstock.client import AsyncGateway

    async with AsyncGateway(config) as gateway:
        return await gateway.plan(text, **structs.asdict(options))


def _ceiling(seen: Foresight) -> str | None:
    """Give the dearest of the steps, as the line holds it; None if one of them has no price."""
    amounts = [step.ceiling_usd for step in seen.steps]
    known = [amount for amount in amounts if amount is not None]
    return max(known, key=Decimal) if len(known) == len(amounts) else None

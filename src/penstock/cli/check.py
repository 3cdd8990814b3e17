"""`penstock check`: whether a configuration can be served, and what about it may surprise."""

import asyncio
from collections.abc import Iterator

import typer

from penstock.cli.command import NO, command
from penstock.cli.models import day
from penstock.cli.options import Config, Json
from penstock.cli.screen import note, print_json, say
from penstock.config import catalog_text, load
from penstock.errors import ConfigError, Mistake
from penstock.plugins import PROVIDERS, find
from penstock.routing.catalog import read_catalog
from penstock.routing.router import Router
from penstock.server.tls import server_context
from penstock.settings import Config as Configuration


@command
def check(config: Config = None, json: Json = False) -> None:
    """Validate the configuration.

    Reports every mistake at once, with exit code 1 if there is any. Secrets are looked up, providers are made (so that scripts and certificates are read), and nobody is called.
    """
    try:
        loaded = load(config)
        errors = [*_load_certificate(loaded), *asyncio.run(_make_providers(loaded))]
    except ConfigError as error:
        errors = [error]
    if errors:
        if json:
            mistakes = [mistake for wrong in errors for mistake in wrong.mistakes]
            print_json({"valid": False, "source": errors[0].source, "mistakes": mistakes})
        else:
            note("\n".join(map(str, errors)))
        raise typer.Exit(NO)
    warnings = list(_warn(loaded))
    if json:
        facts = {"valid": True, "source": loaded.source, "hash": loaded.hash}
        print_json({**facts, "mistakes": [], "warnings": warnings})
        return
    say(
        f"{loaded.source}: no mistake. {len(loaded.providers)} providers, {len(loaded.models)} models, "
        f"{len(loaded.teams)} teams, {len(loaded.features)} features; hash {loaded.hash}"
    )
    for warning in warnings:
        note(f"warning: {warning}", "yellow")


def _load_certificate(config: Configuration) -> Iterator[ConfigError]:
    """Load the server's certificate as serving would."""
    server = config.server
    if server.tls_cert is not None:
        try:
            server_context(server.tls_cert, server.tls_key)
        except OSError as error:
            what = f"the certificate and its key cannot be loaded: {error}."
            yield ConfigError(config.source, (Mistake("server.tls_cert", what),))


async def _make_providers(config: Configuration) -> list[ConfigError]:
    """Make every provider as serving would, and give what is wrong with them."""
    errors = []
    for settings in config.providers:
        try:
            provider = find(PROVIDERS, settings.kind)(settings)
        except ConfigError as error:
            errors.append(error)
        except OSError as error:
            mistake = Mistake(f"providers.{settings.name}", f"a file of it cannot be used: {error}.")
            errors.append(ConfigError(config.source, (mistake,)))
        else:
            await provider.close()
    return errors


def _warn(config: Configuration) -> Iterator[str]:
    """Tell what is allowed and still may surprise: models that are gone, and models that no budget can hold."""
    router = Router(
        config, read_catalog(catalog_text(config.home)), {provider.name: "" for provider in config.providers}
    )
    budgets = [
        *(f"team {team.name!r}" for team in config.teams if team.budget.day_nano_usd or team.budget.month_nano_usd),
        *(f"feature {one.name!r}" for one in config.features if one.budget.day_nano_usd or one.budget.month_nano_usd),
    ]
    today = day()
    targets = {target.id: target for plan in router.models.values() for target in plan.targets}
    for target in targets.values():
        retires, successor = target.profile.retires, target.profile.successor
        if retires is not None and retires <= today:
            instead = f" Its vendor names {successor} instead." if successor else ""
            yield f"{target.id} was retired on {retires}.{instead}"
        if budgets and not target.free and not target.prices:
            yield (
                f"{target.id} has no price, so calls with the budget of {budgets[0]} are refused there. "
                f'Give it one: [prices."{target.id}"].'
            )

"""The commands, put together; each file beside this one has the commands of one concern."""

from typing import Annotated

import typer

from penstock import __version__
from penstock.cli import (
    alerts,
    ask,
    budgets,
    calls,
    check,
    estimate,
    keys,
    models,
    plan,
    prices,
    reconcile,
    reload,
    serve,
    spend,
    tokens,
)

app = typer.Typer(
    name="penstock",
    help="An LLM gateway: one process between your applications and every model they use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(serve.serve)
app.command()(ask.ask)
app.command()(tokens.tokens)
app.add_typer(models.app, name="models")
models.app.command()(prices.diff)
models.app.command()(prices.apply)
app.command()(plan.plan)
app.command()(estimate.estimate)
app.add_typer(keys.app, name="keys")
app.command()(spend.spend)
app.command()(budgets.budgets)
app.command()(reconcile.reconcile)
app.add_typer(calls.app, name="calls")
app.add_typer(alerts.app, name="alerts")
app.command()(check.check)
app.command()(reload.reload)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"penstock {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take the options that come before a command."""

"""The commands, put together; each file beside this one has the commands of one concern."""

import typer

from penstock import __version__
from penstock.cli import ask, check, keys, ledger, models, serve

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
app.command()(models.tokens)
app.command("models")(models.models)
app.command()(check.plan)
app.add_typer(keys.app, name="keys")
app.command()(ledger.spend)
app.add_typer(ledger.app, name="calls")
app.command("check")(check.check)


def _version(asked: bool) -> None:  # noqa: FBT001 - typer gives the option's value
    if asked:
        typer.echo(f"penstock {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Take the options that come before a command."""

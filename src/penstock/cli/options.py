"""Options that several commands share."""

from typing import Annotated

import typer

Config = Annotated[str | None, typer.Option("--config", "-c", help="The configuration file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[str | None, typer.Option("--model", "-m", help="A configured model, or provider/model.")]
Feature = Annotated[str | None, typer.Option("--feature", help="The feature that pays.")]
Since = Annotated[str, typer.Option("--since", help="today, yesterday, 24h, 7d, 2026-11-01 ...")]
Until = Annotated[str | None, typer.Option("--until", help="As --since; now if left out.")]
Zone = Annotated[str, typer.Option("--zone", help="The time zone of days and hours.")]

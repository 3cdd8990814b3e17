"""`penstock serve`."""

import logging
from typing import Annotated

import typer
from msgspec import structs

from penstock.cli.options import Config
from penstock.cli.screen import console
from penstock.config import load
from penstock.gateway import Gateway


def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = None,
) -> None:
    """Serve the gateway until a signal ends it."""
    from penstock.server.serve import run

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    loaded = load(config)
    changes = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    if changes:
        loaded = structs.replace(loaded, server=structs.replace(loaded.server, **changes))
    run(loaded, _announce)


def _announce(url: str, gateway: Gateway) -> None:
    """Say where the gateway answers and how to try it."""
    name = gateway.default_model
    body = f'{{"model": "{name}", "messages": [{{"role": "user", "content": "What is penstock?"}}]}}'
    recovered = gateway.ledger.recovered
    console.print(f"[bold]penstock[/bold] serves on [bold]{url}[/bold]  ({gateway.config.source})")
    console.print(f"  models   {', '.join(gateway.router.models)}")
    key = "" if gateway.keys.empty else " -H 'authorization: Bearer ps-...'"
    console.print(f"  try      curl {url}/v1/chat/completions{key} -d '{body}'", markup=False)
    console.print(f"  control  {url}/admin/v1/openapi.json, {url}/metrics")
    if gateway.keys.empty:
        console.print("  keys     none yet, so it answers on loopback only; make one: penstock keys create")
    if recovered.interrupted:
        console.print(f"  ledger   {recovered.interrupted} calls of an earlier process were cut; they are settled now")

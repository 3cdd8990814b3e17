"""`penstock serve`."""

import logging
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL, EPERM
from typing import Annotated, NoReturn

import typer
from msgspec import structs

from penstock.cli.command import NO, command
from penstock.cli.options import Config
from penstock.cli.screen import note, say
from penstock.config import load
from penstock.errors import InvalidRequest
from penstock.gateway import Gateway
from penstock.settings import Config as Configuration

NO_PLACE = frozenset({EADDRINUSE, EADDRNOTAVAIL, EACCES, EPERM})
"""What the system says of an address that is taken, not this machine's or not for this user."""


@command
def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="How many processes answer.")] = None,
) -> None:
    """Serve until a signal ends it.

    SIGTERM or Ctrl-C lets calls in flight end, for at most [server] drain_s; a second one ends them at once.
    SIGHUP takes a changed configuration over, as `penstock reload` does.
    """
    from penstock.server.workers import NoWorker
    from penstock.server.workers import serve as run

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    if host == "":
        raise InvalidRequest("The host is empty.", hint="Name an address to listen on: --host 127.0.0.1.")
    given = (("host", host), ("port", port), ("workers", workers))
    changes = {name: value for name, value in given if value is not None}

    def read() -> Configuration:
        loaded = load(config)
        return structs.replace(loaded, server=structs.replace(loaded.server, **changes)) if changes else loaded

    loaded = read()
    try:
        run(loaded, read, _announce)
    except NoWorker as error:
        note(str(error))
        raise typer.Exit(NO) from None
    except UnicodeError:  # from the encoding of names, IDNA
        _refuse(loaded, "this cannot be a host's name")
    except OSError as error:
        if error.errno not in NO_PLACE and (error.errno or 0) >= 0:  # names that cannot be resolved have negative ones
            raise
        _refuse(loaded, error.strerror or str(error))


def _refuse(config: Configuration, why: str) -> NoReturn:
    server = config.server
    note(f"Cannot listen on {server.host}, port {server.port}: {why}. Choose another place with --host and --port.")
    raise typer.Exit(NO)


def _announce(url: str, gateway: Gateway) -> None:
    """Say where the gateway answers and how to try it."""
    name, keyless = gateway.default_model or f"{gateway.config.providers[0].name}/...", gateway.keys.empty
    body = f'{{"model": "{name}", "messages": [{{"role": "user", "content": "What is penstock?"}}]}}'
    key = "" if keyless else " -H 'authorization: Bearer ps-...'"
    recovered = gateway.ledger.recovered
    say(("penstock", "bold"), " serves on ", (url, "bold"), f"  ({gateway.config.source})")
    say(f"  models   {', '.join(gateway.router.models) or 'none by a name of your own; ask for provider/model'}")
    say(f"  try      curl {url}/v1/chat/completions{key} -d '{body}'")
    say(f"  control  {url}/admin/v1/openapi.json, {url}/metrics")
    if keyless:
        say("  keys     none yet, so it answers on loopback only; make one: penstock keys create")
    if recovered.interrupted:
        say(f"  ledger   {recovered.interrupted} calls of an earlier process were cut; they are settled now")
    if recovered.corrupt or recovered.newer:
        say(f"  ledger   {recovered.corrupt} places and {recovered.newer} journals could not be read; they are kept")

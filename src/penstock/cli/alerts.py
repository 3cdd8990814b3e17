"""`penstock alerts`: whether alerts arrive."""

import asyncio
import time
from http import HTTPStatus

import typer

from penstock.alarms import sample
from penstock.cli.command import NO, UNKNOWN, command
from penstock.cli.options import Config, Json
from penstock.cli.screen import note, print_json, say
from penstock.config import load
from penstock.errors import InvalidRequest
from penstock.providers.webhook import Hook, hook_of

app = typer.Typer(help="Alerts about budgets.", no_args_is_help=True)


@app.callback()
def _alerts() -> None:
    """Be a group, although it has one command."""


@app.command("test")
@command
def send_sample(config: Config = None, json: Json = False) -> None:
    """Post a sample alert to the webhook, once.

    Exit code 0 says that the webhook took it, 1 that it did not want it, 3 that it was not reached.
    """
    configuration = load(config)
    hook = hook_of(configuration)
    if hook is None:
        raise InvalidRequest("No webhook is configured.", hint='Give one: [alerts] webhook = "env:ALERT_WEBHOOK".')
    alert_id, body = sample(time.time_ns())
    status, fault, took_ms = asyncio.run(_deliver(hook, body))
    arrived = status is not None and 200 <= status < 300
    if json:
        told = {"webhook": hook.reference, "id": alert_id, "arrived": arrived, "status": status}
        print_json({**told, "error": fault or None, "ms": took_ms})
    elif status is not None:
        say(f"{hook.reference} answered {_named(status)} in {took_ms} ms")
    if arrived:
        return
    if not json:
        note(fault or "The alert was not taken.")
    raise typer.Exit(UNKNOWN if status is None else NO)


async def _deliver(hook: Hook, body: bytes) -> tuple[int | None, str, int]:
    """Post once; give the status or what went wrong, and how many milliseconds it took."""
    began = time.monotonic()
    try:
        delivery = await hook.deliver(body)
    finally:
        hook.close()
    return delivery.status, delivery.fault, int((time.monotonic() - began) * 1000)


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)

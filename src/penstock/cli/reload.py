"""`penstock reload`."""

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.command import NO, UNKNOWN, command
from penstock.cli.options import Json
from penstock.cli.screen import note, print_json, say
from penstock.config import home
from penstock.server.presence import FOLDER, Reloaded, Running, look, servers

POLL_S = 0.02


@command
def reload(
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="How many seconds to wait for it.")] = 60.0,
    json: Json = False,
) -> None:
    """Have a running server take over its changed configuration.

    A configuration with mistakes is refused with all of them and exit code 1; the one before goes on. No call is lost either way.
    """
    place = home()
    found = servers(place)
    for one in found:
        os.kill(one.pid, signal.SIGHUP)
    until = time.monotonic() + timeout_s
    told = [(one, _wait(place, one, until)) for one in found]
    if json:
        print_json({"servers": [_row(one, reloaded) for one, reloaded in told]})
    else:
        for one, reloaded in told:
            _say(one, reloaded)
    if not found:
        note(f"No server runs in {place}.")
    if not found or any(reloaded is None for _, reloaded in told):
        raise typer.Exit(UNKNOWN)
    if not all(reloaded is not None and reloaded.reloaded for _, reloaded in told):
        raise typer.Exit(NO)


def _wait(place: Path, before: Running, until: float) -> Reloaded | None:
    """Give what a server says of its reload; None where it ends or says nothing in time."""
    while time.monotonic() < until:
        now = look(place / FOLDER / str(before.pid))
        if now is None:
            return None
        if now.reloads > before.reloads:
            return now.last
        time.sleep(POLL_S)
    return None


def _row(one: Running, reloaded: Reloaded | None) -> dict[str, object]:
    if reloaded is None:
        return {"pid": one.pid, "url": one.url, "reloaded": None}
    return {
        "pid": one.pid,
        "url": one.url,
        "reloaded": reloaded.reloaded,
        "source": reloaded.source,
        "hash": reloaded.hash,
        "restart": reloaded.restart,
        "mistakes": reloaded.mistakes,
    }


def _say(one: Running, reloaded: Reloaded | None) -> None:
    if reloaded is None:
        note(f"{one.url} (process {one.pid}) did not say in time what became of it: see its log.")
    elif reloaded.reloaded:
        say(f"{one.url} has taken {reloaded.source} over; hash {reloaded.hash}")
        if reloaded.restart:
            note(f"warning: only a restart makes these hold: {', '.join(reloaded.restart)}", "yellow")
    else:
        lines = "".join(f"\n  {mistake}" for mistake in reloaded.mistakes)
        count = len(reloaded.mistakes)
        note(f"{one.url} keeps its configuration: {reloaded.source} has {count} mistake{'s' * (count != 1)}:{lines}")

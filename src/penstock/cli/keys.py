"""`penstock keys`: make, list, revoke and rotate the keys of callers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from penstock.cli.options import Config, Json
from penstock.cli.screen import print_json, print_table
from penstock.config import load
from penstock.ledger.keys import CreatedKey, Grant, Keyring, listed, read_pepper
from penstock.ledger.ledger import Ledger
from penstock.ledger.periods import read_expiry, zone_of

app = typer.Typer(help="Keys of callers: shown once, stored as hashes.", no_args_is_help=True)
KeyId = Annotated[str, typer.Argument(help="The key's id: key_...")]


@contextmanager
def _keyring(config: str | None) -> Iterator[Keyring]:
    home = load(config).home
    ledger = Ledger.open(home, now_ns=time.time_ns())
    try:
        yield Keyring(ledger.store, read_pepper(home))
    finally:
        ledger.close()


@app.command()
def create(
    team: Annotated[str | None, typer.Option(help="The team that pays.")] = None,
    feature: Annotated[str | None, typer.Option(help="Bind the key to one feature.")] = None,
    expires: Annotated[str | None, typer.Option(help="30d, 12h, or a day: 2027-01-31.")] = None,
    label: Annotated[str, typer.Option(help="A note for yourself.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="May use /admin/v1.")] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a key. It is shown once, now."""
    now_ns = time.time_ns()
    until = None if expires is None else read_expiry(expires, now_ns, zone_of("UTC"))
    with _keyring(config) as keys:
        _tell(keys.create(Grant(team, feature, label, admin, until), now_ns), json=json)


@app.command("list")
def list_(config: Config = None, json: Json = False) -> None:
    """List every key, without its secret."""
    with _keyring(config) as keys:
        found = [listed(key) for key in keys.list()]
    if json:
        print_json({"keys": found})
        return
    print_table(
        ("id", "team", "feature", "label", "admin", "created", "expires", "revoked"),
        [
            (k.id, k.team, k.feature, k.label, "yes" if k.admin else "", k.created_at, k.expires_at, k.revoked_at)
            for k in found
        ],
    )


@app.command()
def revoke(key_id: KeyId, config: Config = None, json: Json = False) -> None:
    """End a key at once, for good; a running server notices within a second."""
    with _keyring(config) as keys:
        keys.revoke(key_id, time.time_ns())
    if json:
        print_json({"revoked": key_id})
    else:
        typer.echo(f"{key_id} is revoked.")


@app.command()
def rotate(
    key_id: KeyId,
    grace: Annotated[int, typer.Option(min=0, help="Seconds for which the old key still works.")] = 3600,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a new key in place of one, which ends after the grace period."""
    with _keyring(config) as keys:
        _tell(keys.rotate(key_id, time.time_ns(), grace), json=json)


def _tell(key: CreatedKey, *, json: bool) -> None:
    if json:
        print_json(key)
        return
    typer.echo(key.key)
    typer.echo(f"{key.id}: keep it now, it is not shown again.", err=True)

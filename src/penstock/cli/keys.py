"""`penstock keys`: make, list, limit, revoke and rotate the keys of callers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Annotated

import typer
from msgspec import Struct, structs

from penstock.call import Limits
from penstock.cli.command import command
from penstock.cli.options import Config, Json, Team
from penstock.cli.screen import money, note, print_json, print_table, say
from penstock.config import load
from penstock.errors import InvalidRequest
from penstock.ledger.keys import NONE, CreatedKey, Grant, Key, Keyring, listed, read_pepper, read_usd
from penstock.ledger.ledger import Ledger
from penstock.ledger.periods import read_expiry, zone_of
from penstock.settings import Config as Configuration

app = typer.Typer(help="Make, list, limit, revoke and rotate keys.", no_args_is_help=True)
MOST = 1_000_000_000
DIGITS = 10
NUMBER, USD = f"N|{NONE}", f"USD|{NONE}"
KeyId = Annotated[str, typer.Argument(help="The key's id: key_...")]


class Wanted(Struct, frozen=True):
    """What a new key is for."""

    team: Team = None
    feature: Annotated[str | None, typer.Option(help="Bind the key to one feature.")] = None
    expires: Annotated[str | None, typer.Option(help="30d, 12h, or a day: 2027-01-31. Without it, never.")] = None
    label: Annotated[str, typer.Option(help="A note for yourself.")] = ""
    admin: Annotated[bool, typer.Option("--admin", help="May use /admin/v1.")] = False
    rpm: Annotated[int | None, typer.Option(min=1, max=MOST, help="Requests per minute; no limit if left out.")] = None
    tpm: Annotated[int | None, typer.Option(min=1, max=MOST, help="Tokens per minute, in and out together.")] = None
    concurrency: Annotated[int | None, typer.Option(min=1, max=MOST, help="Calls at once.")] = None
    budget_day: Annotated[str | None, typer.Option(metavar="USD", help="May be spent in a day.")] = None
    budget_month: Annotated[str | None, typer.Option(metavar="USD", help="May be spent in a month.")] = None

    @property
    def limits(self) -> Limits:
        """How much it may ask and spend. Raises InvalidRequest."""
        day, month = (
            None if amount is None else read_usd(amount, option)
            for amount, option in ((self.budget_day, "--budget-day"), (self.budget_month, "--budget-month"))
        )
        return Limits(self.rpm, self.tpm, self.concurrency, day, month)


class Change(Struct, frozen=True):
    """What becomes of a key's limits; what is not given stays."""

    rpm: Annotated[str | None, typer.Option(metavar=NUMBER, help="Requests per minute.")] = None
    tpm: Annotated[str | None, typer.Option(metavar=NUMBER, help="Tokens per minute, in and out together.")] = None
    concurrency: Annotated[str | None, typer.Option(metavar=NUMBER, help="Calls at once.")] = None
    budget_day: Annotated[str | None, typer.Option(metavar=USD, help="May be spent in a day.")] = None
    budget_month: Annotated[str | None, typer.Option(metavar=USD, help="May be spent in a month.")] = None

    def of(self, limits: Limits) -> Limits:
        """Give other limits. Raises InvalidRequest."""
        return structs.replace(
            limits,
            rpm=_number(self.rpm, "--rpm", limits.rpm),
            tpm=_number(self.tpm, "--tpm", limits.tpm),
            concurrency=_number(self.concurrency, "--concurrency", limits.concurrency),
            day_nano_usd=_usd(self.budget_day, "--budget-day", limits.day_nano_usd),
            month_nano_usd=_usd(self.budget_month, "--budget-month", limits.month_nano_usd),
        )


def _number(text: str | None, option: str, before: int | None) -> int | None:
    if text is None or text == NONE:
        return before if text is None else None
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS else 0
    if not 1 <= number <= MOST:
        raise InvalidRequest(f"{option} must be a whole number from 1 to {MOST}, or {NONE}.", param=option)
    return number


def _usd(text: str | None, option: str, before: int | None) -> int | None:
    if text is None or text == NONE:
        return before if text is None else None
    return read_usd(text, option)


@contextmanager
def _keyring(config: Configuration) -> Iterator[Keyring]:
    ledger = Ledger.open(config.home, now_ns=time.time_ns())
    try:
        yield Keyring(ledger.store, read_pepper(config.home))
    finally:
        ledger.close()


@app.command()
@command
def create(wanted: Wanted = Wanted(), config: Config = None, json: Json = False) -> None:  # noqa: B008 - frozen
    """Make a key.

    It is shown once, now: the key goes to the standard output, all else to the standard error.
    """
    now_ns, loaded = time.time_ns(), load(config)
    until = None if wanted.expires is None else read_expiry(wanted.expires, now_ns, zone_of("UTC"))
    _doubt("team", wanted.team, [team.name for team in loaded.teams])
    _doubt("feature", wanted.feature, [feature.name for feature in loaded.features])
    limits = wanted.limits
    with _keyring(loaded) as keys:
        made = keys.create(Grant(wanted.team, wanted.feature, wanted.label, wanted.admin, until, limits), now_ns)
    _tell(made, json=json)


@app.command("list")
@command
def list_(config: Config = None, json: Json = False) -> None:
    """List every key, without its secret."""
    now_ns = time.time_ns()
    with _keyring(load(config)) as keys:
        found = keys.list()
    if json:
        print_json({"keys": [listed(key) for key in found]})
    else:
        limits = ("rpm", "tpm", "concurrency", "day budget", "month budget")
        columns = ("id", "team", "feature", "label", "admin", *limits, "created", "expires", "state")
        print_table(columns, [_row(key, now_ns) for key in found], limits)


@app.command("set")
@command
def set_(key_id: KeyId, change: Change = Change(), config: Config = None, json: Json = False) -> None:  # noqa: B008 - frozen
    """Change how much a key may ask and spend.

    Its secret stays; `none` takes a limit away. A running server notices within a second, and what was spent before in
    the day and the month counts.
    """
    if change == Change():
        raise InvalidRequest("Nothing is to be changed.", hint="Give a limit, such as --budget-day 5.")
    change.of(Limits())  # says what is wrong with it, before a key is looked up
    with _keyring(load(config)) as keys:
        changed = keys.limit(key_id, change.of)
    if json:
        print_json(listed(changed))
    else:
        note(f"{key_id} is changed.")


@app.command()
@command
def revoke(key_id: KeyId, config: Config = None, json: Json = False) -> None:
    """End a key at once, for good.

    A running server notices within a second.
    """
    with _keyring(load(config)) as keys:
        keys.revoke(key_id, time.time_ns())
    if json:
        print_json({"revoked": key_id})
    else:
        note(f"{key_id} is revoked.")


@app.command()
@command
def rotate(
    key_id: KeyId,
    grace: Annotated[int, typer.Option(min=0, help="Seconds for which the old key still works.")] = 3600,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a new key in place of one.

    It has the same rights, and the old one ends after the grace period.
    """
    with _keyring(load(config)) as keys:
        made = keys.rotate(key_id, time.time_ns(), grace)
    _tell(made, json=json)


def _tell(key: CreatedKey, *, json: bool) -> None:
    if json:
        print_json(key)
        return
    say(key.key)
    note(f"{key.id}: keep the key now, it is not shown again.")


def _dollars(usd: str | None) -> str | None:
    return None if usd is None else money(usd)


def _doubt(kind: str, name: str | None, known: list[str]) -> None:
    """Say that a name is none of the configured ones: it is charged to, and nothing limits what it spends."""
    if name is None or not known or name in known:
        return
    close = get_close_matches(name, known, 1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    note(f"The configuration has no {kind} {name!r}, so no budget and no limit of it holds for this key.{meant}")


def _row(key: Key, now_ns: int) -> tuple[object, ...]:
    shown = listed(key)
    state = "works" if key.works(now_ns) else "expired" if key.revoked_ns is None else f"revoked {shown.revoked_at}"
    flags = "yes" if key.admin else ""
    limits = (shown.rpm, shown.tpm, shown.concurrency, *map(_dollars, (shown.budget_day_usd, shown.budget_month_usd)))
    return (key.id, key.team, key.feature, key.label, flags, *limits, shown.created_at, shown.expires_at, state)

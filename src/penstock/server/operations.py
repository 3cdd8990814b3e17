"""What the control plane can do, as a table: each operation with its parameters, what it gives and how.

One table makes the routes, the checks of what was asked and the OpenAPI document, so that none of them can say something
else. An operation runs in a thread, on a connection to the ledger of its own: a report over millions of calls must not
hold up the loop that serves them. Knows no HTTP beyond names; `admin.py` is its door.
"""

import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Literal, TypeVar, get_args
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET, Struct, UnsetType

from penstock.call import Limits
from penstock.errors import InvalidRequest
from penstock.gateway import Gateway
from penstock.ledger import reports
from penstock.ledger.keys import CreatedKey, Grant, Keyring, ListedKey, listed, read_pepper, read_usd
from penstock.ledger.periods import read_expiry, read_moment, zone_of
from penstock.ledger.reports import Calls, CallShape, Spend
from penstock.ledger.store import FILE, Filter, Span, Store
from penstock.receipt import Status
from penstock.settings import Limit

T = TypeVar("T")

MOST_CALLS = 1000
MOST_GRACE_S = 30 * 86_400
DIGITS = 9


class Asked(Struct, frozen=True):
    """A request to the control plane: the id in its path, its query and its body."""

    gateway: Gateway
    store: Store
    id: str
    query: Mapping[str, str]
    body: bytes
    now_ns: int


class Parameter(Struct, frozen=True):
    """A parameter of a query. `kind` is its type in JSON Schema, `choices` the only values that it may have."""

    name: str
    about: str
    kind: Literal["string", "integer"] = "string"
    choices: tuple[str, ...] = ()


class Operation(Struct, frozen=True):
    """One route. `gives` and `takes` are the types of its answer and of its body."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    name: str
    about: str
    answer: Callable[[Asked], Any]
    gives: type
    parameters: tuple[Parameter, ...] = ()
    takes: type | None = None


# -- shapes --


class Model(Struct, frozen=True):
    """A configured model and its targets, in fallback order."""

    name: str
    targets: tuple[str, ...]


class Models(Struct, frozen=True):
    """Every configured model."""

    models: tuple[Model, ...]


class Keys(Struct, frozen=True):
    """Every key, oldest first, without its secret."""

    keys: tuple[ListedKey, ...]


class Revoked(Struct, frozen=True):
    """The id of the key that works no longer."""

    revoked: str


class NewKey(Struct, frozen=True, forbid_unknown_fields=True):
    """What a key is for, and how much it may ask and spend; `expires` as in `penstock keys create --expires`.

    Budgets are decimal numbers of dollars, better as strings: an exact amount is no float.
    """

    team: str | None = None
    feature: str | None = None
    label: str = ""
    admin: bool = False
    expires: str | None = None
    rpm: Limit | None = None
    tpm: Limit | None = None
    concurrency: Limit | None = None
    budget_day_usd: Decimal | None = None
    budget_month_usd: Decimal | None = None


class KeyLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of a key's limits: what is left out stays, null takes a limit away. Budgets as in `NewKey`."""

    rpm: Limit | UnsetType | None = UNSET
    tpm: Limit | UnsetType | None = UNSET
    concurrency: Limit | UnsetType | None = UNSET
    budget_day_usd: Decimal | UnsetType | None = UNSET
    budget_month_usd: Decimal | UnsetType | None = UNSET

    def of(self, limits: Limits) -> Limits:
        """Give other limits. Raises InvalidRequest."""
        return Limits(
            limits.rpm if self.rpm is UNSET else self.rpm,
            limits.tpm if self.tpm is UNSET else self.tpm,
            limits.concurrency if self.concurrency is UNSET else self.concurrency,
            limits.day_nano_usd if self.budget_day_usd is UNSET else _usd(self.budget_day_usd, "budget_day_usd"),
            limits.month_nano_usd
            if self.budget_month_usd is UNSET
            else _usd(self.budget_month_usd, "budget_month_usd"),
        )


class Rotation(Struct, frozen=True, forbid_unknown_fields=True):
    """For how many seconds the old key still works."""

    grace_s: int = 3600


# -- answers --


def _spend(asked: Asked) -> Spend:
    zone, span = _span(asked, "today")
    return reports.spend(asked.store, span, reports.dimensions(asked.query.get("by", "model")), zone)


def _calls(asked: Asked) -> Calls:
    query = asked.query
    _, span = _span(asked, "24h")
    status = query.get("status")
    if status not in (None, *get_args(Status)):
        raise InvalidRequest(f"status has to be one of {', '.join(get_args(Status))}.", param="status")
    which = Filter(
        span,
        team=query.get("team"),
        feature=query.get("feature"),
        model=query.get("model"),
        user=query.get("user"),
        key=query.get("key"),
        target=query.get("target"),
        status=status,
    )
    return reports.calls(asked.store, which, _number(query.get("limit", "20"), "limit", MOST_CALLS))


def _call(asked: Asked) -> CallShape:
    return reports.show(asked.store, asked.id)


def _models(asked: Asked) -> Models:
    plans = asked.gateway.router.models.values()
    return Models(tuple(Model(plan.model, tuple(target.id for target in plan.targets)) for plan in plans))


def _keys(asked: Asked) -> Keys:
    return Keys(tuple(listed(key) for key in _ring(asked).list()))


def _create_key(asked: Asked) -> CreatedKey:
    wanted = _body(asked, NewKey)
    until = None if wanted.expires is None else read_expiry(wanted.expires, asked.now_ns, zone_of("UTC"))
    day, month = _usd(wanted.budget_day_usd, "budget_day_usd"), _usd(wanted.budget_month_usd, "budget_month_usd")
    limits = Limits(wanted.rpm, wanted.tpm, wanted.concurrency, day, month)
    grant = Grant(wanted.team, wanted.feature, wanted.label, wanted.admin, until, limits)
    return _ring(asked).create(grant, asked.now_ns)


def _usd(amount: Decimal | None, param: str) -> int | None:
    return None if amount is None else read_usd(amount, param)


def _limit_key(asked: Asked) -> ListedKey:
    return listed(_ring(asked).limit(asked.id, _body(asked, KeyLimits).of))


def _revoke_key(asked: Asked) -> Revoked:
    _ring(asked).revoke(asked.id, asked.now_ns)
    return Revoked(asked.id)


def _rotate_key(asked: Asked) -> CreatedKey:
    grace_s = _body(asked, Rotation).grace_s
    if not 0 <= grace_s <= MOST_GRACE_S:
        raise InvalidRequest(f"grace_s has to be from 0 to {MOST_GRACE_S}.", param="grace_s")
    return _ring(asked).rotate(asked.id, asked.now_ns, grace_s)


SINCE = "Calls that started at or after this: today, yesterday, now, 30m, 24h, 7d, an ISO date or time. "
UNTIL = Parameter("until", "Calls that started before this, as `since`; now if left out.")
ZONE = Parameter("zone", "The IANA time zone of days and hours; UTC if left out.")
FILTERS = tuple(
    Parameter(name, about)
    for name, about in (
        ("team", "Only calls of this team."),
        ("feature", "Only calls of this feature."),
        ("model", "Only calls for this model, as the client named it."),
        ("user", "Only calls of this user, by the pseudonym in receipts."),
        ("key", "Only calls with the key of this id."),
        ("target", "Only calls that this target answered."),
    )
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET",
        "/admin/v1/spend",
        "spend",
        "Sum up what calls used and cost. The parts and the unattributed rest add up to the total.",
        _spend,
        Spend,
        (
            Parameter("since", SINCE + "Today if left out."),
            UNTIL,
            Parameter("by", f"Dimensions, comma-separated, of: {', '.join(reports.DIMENSIONS)}; model if left out."),
            ZONE,
        ),
    ),
    Operation(
        "GET",
        "/admin/v1/calls",
        "calls",
        "Give receipts, newest first.",
        _calls,
        Calls,
        (
            Parameter("since", SINCE + "24h if left out."),
            UNTIL,
            ZONE,
            *FILTERS,
            Parameter("status", "Only calls that ended so.", choices=get_args(Status)),
            Parameter("limit", f"At most so many: 1 to {MOST_CALLS}; 20 if left out.", "integer"),
        ),
    ),
    Operation("GET", "/admin/v1/calls/{id}", "call", "Give one receipt.", _call, CallShape),
    Operation("GET", "/admin/v1/models", "models", "Give the configured models and their targets.", _models, Models),
    Operation("GET", "/admin/v1/keys", "keys", "List every key, without its secret.", _keys, Keys),
    Operation(
        "POST",
        "/admin/v1/keys",
        "create_key",
        "Make a key. Its secret is in the answer and nowhere else.",
        _create_key,
        CreatedKey,
        takes=NewKey,
    ),
    Operation(
        "PATCH",
        "/admin/v1/keys/{id}",
        "limit_key",
        "Change how much a key may ask and spend; its secret stays.",
        _limit_key,
        ListedKey,
        takes=KeyLimits,
    ),
    Operation("DELETE", "/admin/v1/keys/{id}", "revoke_key", "End a key at once, for good.", _revoke_key, Revoked),
    Operation(
        "POST",
        "/admin/v1/keys/{id}/rotate",
        "rotate_key",
        "Make a key with the same rights in place of one, which ends after a while.",
        _rotate_key,
        CreatedKey,
        takes=Rotation,
    ),
)


def perform(gateway: Gateway, operation: Operation, call_id: str, query: list[tuple[str, str]], body: bytes) -> Any:
    """Do an operation, on a connection to the ledger of its own. Raises a PenstockError."""
    values = _query(operation, query)
    store = Store.open(gateway.config.home / FILE)
    try:
        return operation.answer(Asked(gateway, store, call_id, values, body, time.time_ns()))
    finally:
        store.close()


def _ring(asked: Asked) -> Keyring:
    return Keyring(asked.store, read_pepper(asked.gateway.config.home))


def _query(operation: Operation, given: list[tuple[str, str]]) -> dict[str, str]:
    """Give the query as values, each parameter once and none that the operation does not have."""
    known = [parameter.name for parameter in operation.parameters]
    values: dict[str, str] = {}
    for name, value in given:
        if name not in known:
            hint = f"It takes {', '.join(known)}." if known else "It takes none."
            raise InvalidRequest(f"{operation.path} has no parameter {name[:64]!r}.", hint=hint, param=name[:64])
        if name in values:
            raise InvalidRequest(f"{name} is given twice.", param=name)
        values[name] = value
    return values


def _span(asked: Asked, since: str) -> tuple[ZoneInfo, Span]:
    query, now_ns = asked.query, asked.now_ns
    zone = zone_of(query.get("zone", "UTC"))
    begin = read_moment(query.get("since", since), now_ns, zone)
    end = read_moment(query["until"], now_ns, zone, "until") if "until" in query else now_ns
    if begin > end:
        raise InvalidRequest("since is after until.", param="since")
    return zone, Span(begin, end)


def _number(text: str, name: str, most: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS else 0
    if not 0 < number <= most:
        raise InvalidRequest(f"{name} has to be a whole number from 1 to {most}.", param=name)
    return number


def _body(asked: Asked, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(asked.body or b"{}", type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body cannot be understood: {error}.") from None

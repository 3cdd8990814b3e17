"""The operations of the control plane on a real ledger: what each gives, and what it refuses to be asked."""

import time
from decimal import Decimal

import msgspec
import pytest

from penstock.config import load
from penstock.errors import InvalidRequest, NotFound
from penstock.gateway import start
from penstock.ledger.keys import Keyring, read_pepper
from penstock.receipt import Attempt, Receipt, Usage
from penstock.server.operations import OPERATIONS, perform

BY_NAME = {operation.name: operation for operation in OPERATIONS}
CONFIG = """
[providers.fake]
kind = "scripted"
[models.fast]
targets = ["fake/m", "fake/n"]
[models.slow]
targets = ["fake/o"]
"""


@pytest.fixture
def gateway(tmp_path):
    (tmp_path / "penstock.toml").write_text(CONFIG)
    one = start(load(str(tmp_path / "penstock.toml"), {"PENSTOCK_HOME": str(tmp_path / "home")}))
    yield one
    one.ledger.close()


@pytest.fixture
def do(gateway):
    """Do an operation by its name."""

    def run(name, call_id="", body=b"", **query):
        return perform(gateway, BY_NAME[name], call_id, list(query.items()), body)

    return run


@pytest.fixture
def receipts(gateway):
    """Five receipts, one a minute, the newest of them just now."""
    now_ns, made = time.time_ns(), []
    for number in range(5):
        at = now_ns - (4 - number) * 60 * 10**9 - 10**7
        team = "web" if number % 2 else None
        usage = Usage(10 * number, number, source="provider")
        attempt = Attempt("fake/m", usage=usage, cost_nano_usd=number, cost_status="exact")
        receipt = Receipt(
            gateway.ledger.new_id(at),
            at,
            "chat",
            "fast",
            "ok" if number else "error",
            200,
            team=team,
            usage=usage,
            cost_nano_usd=number,
            cost_status="exact",
            target="fake/m",
            tries=(attempt,),
        )
        gateway.ledger.settle(receipt)
        made.append(receipt)
    while gateway.ledger.flush():
        pass
    return made


def test_spend_adds_up_by_what_is_asked_for(do, receipts):
    found = do("spend", since="1h", by="team")

    parts = [*found.rows, found.unattributed]
    assert found.by == ("team",)
    assert (found.total.calls, found.total.cost_usd) == (5, "0.00000001")
    assert sum(part.calls for part in parts) == 5
    assert sum(Decimal(part.cost_usd) for part in parts) == Decimal(found.total.cost_usd)


def test_spend_is_by_model_and_of_today_unless_asked_otherwise(do, receipts):
    found = do("spend")

    assert (found.by, found.zone) == (("model",), "UTC")
    assert found.since.endswith("T00:00:00+00:00")


def test_the_zone_decides_where_days_begin(do):
    assert do("spend", zone="Asia/Kolkata").since.endswith("T00:00:00+05:30")


def test_calls_are_given_newest_first_and_filtered(do, receipts):
    every = do("calls", limit="1000").calls
    some = do("calls", team="web").calls

    assert [call.id for call in every] == [receipt.id for receipt in reversed(receipts)]
    assert {call.team for call in some} == {"web"}
    assert len(do("calls", limit="2").calls) == 2
    assert len(do("calls", status="error").calls) == 1
    assert len(do("calls", target="fake/m", model="fast", since="150s").calls) == 3
    for name in ("feature", "user", "key"):
        assert do("calls", **{name: "none"}).calls == ()


def test_one_receipt_is_given_by_its_id(do, receipts):
    assert do("call", receipts[2].id).id == receipts[2].id


@pytest.mark.parametrize("call_id", ["nope", "01a1fff6-ecc2-71e6-a331-10ce22a08fa3"])
def test_a_receipt_that_is_not_there_is_not_found(do, call_id):
    with pytest.raises(NotFound, match=call_id):
        do("call", call_id)


def test_models_are_given_with_their_targets_in_order(do):
    assert [(model.name, model.targets) for model in do("models").models] == [
        ("fast", ("fake/m", "fake/n")),
        ("slow", ("fake/o",)),
    ]


def test_a_key_is_made_listed_replaced_and_ended(do, gateway):
    asked = {"team": "web", "feature": "search", "label": "the shop", "admin": True, "expires": "30d"}
    made = do("create_key", body=msgspec.json.encode(asked))
    new = do("rotate_key", made.id, b'{"grace_s": 60}')
    ended = do("revoke_key", new.id)
    ring = Keyring(gateway.ledger.store, read_pepper(gateway.config.home))

    assert (made.team, made.feature) == (new.team, new.feature) == ("web", "search")
    assert made.expires_at is not None
    assert ended.revoked == new.id
    first, second = do("keys").keys
    assert (first.id, first.label, first.admin, first.revoked_at) == (made.id, "the shop", True, None)
    assert (second.id, second.revoked_at is None) == (new.id, False)
    assert ring.find(made.key, time.time_ns()).id == made.id
    assert ring.find(made.key, time.time_ns() + 61 * 10**9) is None
    assert ring.find(new.key, time.time_ns()) is None


def test_a_key_may_have_limits_of_its_own_which_are_listed(do):
    made = do("create_key", body=b'{"rpm": 60, "tpm": 10000, "concurrency": 3}')
    do("rotate_key", made.id)

    assert [(key.rpm, key.tpm, key.concurrency) for key in do("keys").keys] == [(60, 10_000, 3)] * 2


def test_a_key_may_be_asked_for_without_a_word(do):
    made = do("create_key")

    assert (made.team, made.feature, made.expires_at) == (None, None, None)
    assert do("rotate_key", made.id).id != made.id


@pytest.mark.parametrize("amount", [b"0.1", b'"0.1"', b"1e-1"])
def test_budgets_of_a_key_are_exact_however_the_amount_is_written(do, amount):
    do("create_key", body=b'{"rpm": 5, "budget_day_usd": %b, "budget_month_usd": "2.000000001"}' % amount)

    (key,) = do("keys").keys
    assert (key.rpm, key.budget_day_usd, key.budget_month_usd) == (5, "0.1", "2.000000001")


def test_limits_of_a_key_change_by_what_is_given_and_null_takes_one_away(do):
    key_id = do("create_key", body=b'{"rpm": 5, "tpm": 7, "budget_day_usd": 1, "budget_month_usd": 9}').id
    for body, limits in (
        (b"{}", (5, 7, None, "1", "9")),
        (b'{"budget_day_usd": 2, "tpm": null}', (5, None, None, "2", "9")),
        (b'{"concurrency": 3, "rpm": 6, "tpm": 8, "budget_month_usd": null}', (6, 8, 3, "2", None)),
        (
            b'{"budget_day_usd": null, "budget_month_usd": "4", "rpm": null, "concurrency": null}',
            (None, 8, None, None, "4"),
        ),
    ):
        changed = do("limit_key", key_id, body)
        assert changed == do("keys").keys[0]
        assert (
            changed.rpm,
            changed.tpm,
            changed.concurrency,
            changed.budget_day_usd,
            changed.budget_month_usd,
        ) == limits


@pytest.mark.parametrize("name", ["revoke_key", "rotate_key", "limit_key"])
def test_a_key_that_is_not_there_is_not_found(do, name):
    with pytest.raises(NotFound, match="key_none"):
        do(name, "key_none")


@pytest.mark.parametrize(
    ("name", "query", "param"),
    [
        ("spend", {"since": "soon"}, "since"),
        ("spend", {"until": "later"}, "until"),
        ("spend", {"since": "2026-02-01", "until": "2026-01-01"}, "since"),
        ("spend", {"zone": "Nowhere"}, "zone"),
        ("spend", {"by": "colour"}, "by"),
        ("spend", {"limit": "5"}, "limit"),
        ("calls", {"limit": "0"}, "limit"),
        ("calls", {"limit": "1001"}, "limit"),
        ("calls", {"limit": "-1"}, "limit"),
        ("calls", {"limit": "²"}, "limit"),
        ("calls", {"limit": "9" * 5000}, "limit"),
        ("calls", {"limit": ""}, "limit"),
        ("calls", {"status": "fine"}, "status"),
        ("calls", {"limt": "5"}, "limt"),
        ("call", {"x": "1"}, "x"),
        ("models", {"x" * 5000: "1"}, "x" * 64),
    ],
)
def test_a_query_that_cannot_be_is_refused_by_its_name(do, name, query, param):
    with pytest.raises(InvalidRequest) as refused:
        do(name, "", b"", **query)

    assert refused.value.param == param
    assert len(str(refused.value)) < 400


def test_a_parameter_that_is_given_twice_is_refused(gateway):
    with pytest.raises(InvalidRequest, match="team is given twice"):
        perform(gateway, BY_NAME["calls"], "", [("team", "a"), ("team", "b")], b"")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("create_key", b"{"),
        ("create_key", b"[]"),
        ("create_key", b'{"tema": "web"}'),
        ("create_key", b'{"team": 5}'),
        ("create_key", b"\xff"),
        ("create_key", b"[" * 100_000),
        ("create_key", b'{"expires": "yesterday"}'),
        ("create_key", b'{"rpm": 0}'),
        ("create_key", b'{"budget_day_usd": "much"}'),
        ("create_key", b'{"budget_day_usd": -1}'),
        ("create_key", b'{"budget_month_usd": "0.0000000001"}'),
        ("create_key", b'{"budget_month_usd": true}'),
        ("limit_key", b'{"budget_day_usd": "NaN"}'),
        ("limit_key", b'{"budget_month_usd": 1e99}'),
        ("limit_key", b'{"rpm": 0}'),
        ("limit_key", b'{"label": "x"}'),
        ("create_key", b'{"tpm": 1.5}'),
        ("create_key", b'{"concurrency": 1000000001}'),
        ("rotate_key", b'{"grace_s": -1}'),
        ("rotate_key", b'{"grace_s": 99999999999}'),
        ("rotate_key", b'{"grace_s": "1h"}'),
    ],
)
def test_a_body_that_cannot_be_is_refused_and_changes_nothing(do, name, body):
    key_id = do("create_key").id
    with pytest.raises(InvalidRequest):
        do(name, key_id, body)

    (key,) = do("keys").keys
    assert (key.expires_at, key.rpm, key.budget_day_usd, key.budget_month_usd) == (None,) * 4


def test_every_operation_has_a_name_a_path_and_words_of_its_own():
    assert len(BY_NAME) == len(OPERATIONS)
    assert len({(operation.method, operation.path) for operation in OPERATIONS}) == len(OPERATIONS)
    assert all(operation.about.endswith(".") for operation in OPERATIONS)
    assert all(parameter.about.endswith(".") for operation in OPERATIONS for parameter in operation.parameters)

"""Every budget in words, from states and from receipts alone."""

from datetime import UTC, datetime

import pytest

from penstock.call import Limits, Who
from penstock.config import load
from penstock.ledger.budget_report import from_ledger, spenders, written
from penstock.ledger.limits import BudgetState, Limit, Scope
from penstock.ledger.periods import to_ns
from penstock.ledger.records import pack_receipt
from penstock.ledger.store import FILE, Store

NOW = to_ns(datetime(2026, 10, 24, 20, tzinfo=UTC))
RESETS = to_ns(datetime(2026, 10, 24, 22, tzinfo=UTC))


@pytest.mark.parametrize(
    ("limit", "spent", "held", "left", "percent"),
    [
        (10**9, 0, 0, "1", "0.0"),
        (10**9, 1, 2, "0.999999997", "0.0"),
        (10**9, 999_999_999, 0, "0.000000001", "99.9"),
        (10**9, 10**9, 0, "0", "100.0"),
        (10**9, 1_500_000_000, 0, "-0.5", "150.0"),
        (0, 5, 0, "-0.000000005", None),
    ],
)
def test_a_state_is_written_exactly(limit, spent, held, left, percent):
    state = BudgetState(Limit(Scope("team", "web"), "day", limit, "Europe/Berlin"), spent, held, RESETS)
    (told,) = written([state]).budgets
    assert (told.left_usd, told.percent) == (left, percent)
    assert told.resets_at == "2026-10-25T00:00:00+02:00"
    assert (told.kind, told.name, told.window, told.enforcement) == ("team", "web", "day", "hard")


def test_a_ledger_tells_every_budget_of_keys_and_of_users_that_spent_something(tmp_path, make):
    (tmp_path / "penstock.toml").write_text("""
        [teams.web]
        zone = "Asia/Kolkata"
        [users]
        budget_usd = { day = 1, month = 2 }
        [features.other]
        budget_usd = { day = 1 }
    """)
    config, store = load(str(tmp_path / "penstock.toml"), {}), Store.open(tmp_path / FILE)
    kolkata_today = to_ns(datetime(2026, 10, 24, 18, 30, tzinfo=UTC))
    for at, cost, user in (
        (kolkata_today - 1, 1, "ann"),
        (kolkata_today, 20, "ann"),
        (NOW - 10 * 86_400 * 10**9, 300, "bob"),
    ):
        store.add([pack_receipt(make.receipt(at, cost_nano_usd=cost, user=user, key_id="k", feature=None))[0]])
    keys = [
        Who("k", "web", limits=Limits(day_nano_usd=5, month_nano_usd=500)),
        Who("new", limits=Limits(day_nano_usd=7)),
    ]

    assert spenders(config, store.sums, NOW) == [Who(user="ann"), Who(user="bob")]
    told = from_ledger(config, keys, store.sums, NOW).budgets

    nano = 10**9
    assert [(one.kind, one.name, one.window, int(float(one.spent_usd) * nano + 0.5)) for one in told] == [
        ("feature", "other", "day", 0),
        *(("key", "k", "day", 20), ("key", "k", "month", 321), ("key", "new", "day", 0)),
        *(("user", "ann", "day", 21), ("user", "ann", "month", 21)),
        *(("user", "bob", "day", 0), ("user", "bob", "month", 300)),
    ]
    store.close()

"""What budgets are made of: the limits of a configuration and of a key, and what is only counted."""

import pytest

from penstock.call import Limits
from penstock.config import load
from penstock.ledger.limits import ENDLESS, Budget, Each, Limit, Scope, each_of, limits_in, limits_of, limits_of_key
from penstock.settings import BudgetSettings

WEB = Scope("team", "web")


@pytest.fixture
def config(tmp_path):
    (tmp_path / "penstock.toml").write_text("""
        [models.fast]
        targets = ["local/penstock-mini"]
        budget_usd = { month = 7, soft = true }
        zone = "Asia/Tokyo"
        [models.free]
        targets = ["local/penstock-mini"]
        [teams.web]
        budget_usd = { day = 20, month = 300 }
        zone = "Europe/Berlin"
        [teams.app]
        [features.invoices]
        budget_usd = { day = 0.5 }
        [users]
        budget_usd = { day = 1 }
        zone = "America/New_York"
    """)
    return load(str(tmp_path / "penstock.toml"), {})


def test_every_budget_of_a_configuration_is_in_its_own_zone(config):
    assert [*limits_of(config)] == [
        Limit(WEB, "day", 20 * 10**9, "Europe/Berlin"),
        Limit(WEB, "month", 300 * 10**9, "Europe/Berlin"),
        Limit(Scope("feature", "invoices"), "day", 500_000_000),
        Limit(Scope("model", "fast"), "month", 7 * 10**9, "Asia/Tokyo", soft=True),
    ]


def test_what_holds_for_each_key_and_user_is_known(config):
    users = BudgetSettings(10**9, None, "America/New_York")
    assert each_of(config) == Each(users, (("web", "Europe/Berlin"), ("app", "UTC")))
    assert [*limits_in(Scope("user", "ann"), users)] == [Limit(Scope("user", "ann"), "day", 10**9, "America/New_York")]


def test_a_key_is_counted_in_both_windows_and_limited_in_those_that_it_has_a_budget_for():
    scope = Scope("key", "k")
    counted = [Limit(scope, window, ENDLESS, "UTC", soft=True) for window in ("day", "month")]
    assert [*limits_of_key("k", None, "UTC")] == [*limits_of_key("k", Limits(rpm=5), "UTC")] == counted
    month = Limits(month_nano_usd=0)
    assert [*limits_of_key("k", month, "UTC")] == [counted[0], Limit(scope, "month", 0)]


@pytest.mark.parametrize(
    ("limit", "wall", "is_limited"),
    [
        (Limit(WEB, "day", 5), 5, True),
        (Limit(WEB, "day", 5, soft=True), ENDLESS, True),
        (Limit(WEB, "day", ENDLESS, soft=True), ENDLESS, False),
        (Limit(WEB, "day", 10**40), ENDLESS, True),
    ],
)
def test_a_hard_limit_is_a_wall_and_a_soft_one_is_none(limit, wall, is_limited):
    budget = Budget(limit, (0, 10))
    assert (budget.wall, budget.is_limited, budget.limit) == (wall, is_limited, limit)
    budget.limit_to(Limit(WEB, "day", 3))
    assert (budget.wall, budget.is_limited) == (3, True)

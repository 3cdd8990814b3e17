"""`penstock budgets`: every budget with what is left of it, to the last billionth of a dollar."""

import time

import pytest

from penstock.ledger.ledger import Ledger
from penstock.receipt import Receipt

MORE = """
[users]
budget_usd = { month = 0.5 }
zone = "Europe/Berlin"
[features.soft]
budget_usd = { month = 0.001, soft = true }
"""


@pytest.fixture
def spend(folder, tmp_home):
    """Write a receipt of now into the ledger."""

    def spend(cost, **names):
        now_ns = time.time_ns()
        ledger = Ledger.open(tmp_home, now_ns=now_ns)
        call = ledger.new_id(now_ns)
        ledger.settle(
            Receipt(call, now_ns, "chat", "fast", "ok", 200, **names, cost_nano_usd=cost, cost_status="exact")
        )
        ledger.close()

    return spend


def test_every_budget_is_told_with_what_is_left(penstock, folder, spend):
    with (folder / "penstock.toml").open("a") as file:
        file.write(MORE)
    key = penstock("keys", "create", "--team", "web", "--budget-day", "2", "--json").json["id"]
    penstock("keys", "create", "--rpm", "5")
    spend(1_234_567_891, team="web", key_id=key, user="0123456789abcdef", feature="soft")

    told = penstock("budgets", "--json").json["budgets"]

    shown = [
        tuple(one[name] for name in ("kind", "name", "window", "enforcement", "limit_usd", "spent_usd", "left_usd"))
        for one in told
    ]
    assert shown == [
        ("team", "web", "day", "hard", "10", "1.234567891", "8.765432109"),
        ("team", "poor", "day", "hard", "0", "0", "0"),
        ("feature", "soft", "month", "soft", "0.001", "1.234567891", "-1.233567891"),
        ("key", key, "day", "hard", "2", "1.234567891", "0.765432109"),
        ("user", "0123456789abcdef", "month", "hard", "0.5", "1.234567891", "-0.734567891"),
    ]
    assert [one["percent"] for one in told] == ["12.3", None, "123456.7", "61.7", "246.9"]
    assert {one["held_usd"] for one in told} == {"0"}
    assert [one["zone"] for one in told] == ["UTC"] * 4 + ["Europe/Berlin"]
    assert told[0]["resets_at"].endswith("T00:00:00+00:00")


def test_people_get_a_table(penstock, spend):
    spend(2_500_000_000, team="web")

    header, web, poor = penstock("budgets").rows

    assert header == [
        "kind",
        "name",
        "per",
        "limit",
        "spent",
        "held",
        "left",
        "percent",
        "resets",
        "zone",
        "enforcement",
    ]
    assert web[:8] == ["team", "web", "day", "$10", "$2.5", "$0", "$7.5", "25.0 %"]
    assert poor[:8] == ["team", "poor", "day", "$0", "$0", "$0", "$0", ""]


def test_a_configuration_without_budgets_has_none(penstock, folder):
    (folder / "penstock.toml").write_text("")

    assert penstock("budgets", "--json").json == {"budgets": []}
    assert penstock("budgets").code == 0

"""`GET /admin/v1/budgets`: what is spent and held in every budget of a gateway that runs."""

import time

import pytest

from penstock.call import Caller, Limits, Who
from penstock.config import load
from penstock.errors import BudgetExhausted, Unauthenticated
from penstock.gateway import start
from penstock.identity import KEYS_S
from penstock.ledger.keys import Grant, Keyring, read_pepper
from penstock.ledger.store import FILE, Store
from penstock.receipt import Receipt
from penstock.server.budgets import BUDGETS
from penstock.server.live import perform

CONFIG = """
[providers.fake]
kind = "scripted"
[models.fast]
targets = ["fake/m"]
budget_usd = { day = 0.000001, soft = true }
[teams.web]
budget_usd = { day = 1 }
zone = "Asia/Kolkata"
[users]
budget_usd = { month = 0.00001 }
"""
MODEL, WEB = ("model", "fast", "day"), ("team", "web", "day")


class Server:
    """A server that runs one gateway."""

    def __init__(self, gateway):
        self.gateway = gateway


@pytest.fixture
def server(tmp_path):
    (tmp_path / "penstock.toml").write_text(CONFIG)
    server = Server(start(load(str(tmp_path / "penstock.toml"), {"PENSTOCK_HOME": str(tmp_path / "home")})))
    yield server
    server.gateway.ledger.close()


async def told(server):
    found = await perform(server, BUDGETS, [])
    return {(one.kind, one.name, one.window): one for one in found.budgets}


async def test_what_is_spent_and_held_is_told_of_every_budget(server):
    keys, reservations, now_ns = server.gateway.keys, server.gateway.reservations, time.time_ns()
    limits = Limits(day_nano_usd=5000)
    key = keys.create(Grant("web", limits=limits), now_ns).id
    keys.create(Grant("web"), now_ns)
    who = Who(key, "web", user="0123456789abcdef", limits=limits)
    reservations.settle([reservations.hold(who, 900, now_ns, model="fast")], 700)
    reservations.hold(who, 800, now_ns, model="fast")

    found = await told(server)

    key_day, user_month = ("key", key, "day"), ("user", "0123456789abcdef", "month")
    assert [*found] == [WEB, MODEL, key_day, user_month]
    assert {(one.spent_usd, one.held_usd) for one in found.values()} == {("0.0000007", "0.0000008")}
    assert (found[MODEL].enforcement, found[MODEL].left_usd) == ("soft", "-0.0000005")
    assert (found[key_day].zone, found[key_day].left_usd) == ("Asia/Kolkata", "0.0000035")
    assert found[key_day].resets_at.endswith("T00:00:00+05:30")


async def test_a_key_and_a_user_that_this_process_has_not_seen_yet_are_told_as_well(server):
    gateway, now_ns = server.gateway, time.time_ns()
    key = gateway.keys.create(Grant(limits=Limits(month_nano_usd=5000)), now_ns).id
    other = gateway.ledger.new_id(now_ns)
    gateway.ledger.settle(
        Receipt(other, now_ns, "chat", "fast", "ok", 200, user="fedcba9876543210", cost_nano_usd=9, cost_status="exact")
    )
    gateway.ledger.flush()

    found = await told(server)

    assert found["key", key, "month"].left_usd == "0.000005"
    assert ("user", "fedcba9876543210", "month") in found


async def test_a_budget_that_another_process_changes_or_a_key_that_it_revokes_follows_within_the_refresh(tmp_path):
    (tmp_path / "penstock.toml").write_text(CONFIG)
    clock, home = [0.0], tmp_path / "home"
    config = load(str(tmp_path / "penstock.toml"), {"PENSTOCK_HOME": str(home)})
    gateway = start(config, clock=lambda: clock[0])
    command = Store.open(home / FILE)
    keys, now_ns = Keyring(command, read_pepper(home)), time.time_ns()
    made = keys.create(Grant("web"), now_ns)

    def call(ceiling):
        clock[0] += KEYS_S + 0.01
        who = gateway.identity.of(Caller(key=made.key))
        gateway.reservations.settle([gateway.reservations.hold(who, ceiling, now_ns)], ceiling)

    call(300)
    keys.limit(made.id, lambda _: Limits(day_nano_usd=400))
    with pytest.raises(BudgetExhausted, match=f"day budget of key '{made.id}'") as refused:
        call(101)
    assert (refused.value.status, refused.value.code) == (402, "budget_exhausted")
    call(100)
    keys.limit(made.id, lambda _: Limits(day_nano_usd=500, month_nano_usd=450))
    with pytest.raises(BudgetExhausted, match="month budget"):
        call(51)
    call(50)
    keys.revoke(made.id, now_ns)
    with pytest.raises(Unauthenticated):
        call(0)
    command.close()
    gateway.ledger.close()

"""`penstock keys`: shown once, listed without their secret, ended for good, replaced with a grace."""

import re

import pytest

SECRET = re.compile(r"ps-[\w-]{43}")


def test_the_shape_of_json(penstock):
    made = penstock("keys", "create", "--team", "web", "--feature", "short", "--json").json

    assert list(made) == ["id", "key", "team", "feature", "expires_at"]
    assert SECRET.fullmatch(made["key"])
    assert (made["team"], made["feature"], made["expires_at"]) == ("web", "short", None)


def test_the_standard_output_has_the_key_and_nothing_else(penstock):
    done = penstock("keys", "create")

    assert SECRET.fullmatch(done.out.rstrip("\n"))
    assert re.fullmatch(r"key_[0-9a-f]{16}: keep the key now, it is not shown again\.\n", done.err)


def test_a_key_is_listed_with_all_but_its_secret(penstock):
    options = ("--team", "web", "--feature", "short", "--label", "the shop", "--admin", "--expires", "2099-01-31")
    made = penstock("keys", "create", *options, "--json").json

    listed = penstock("keys", "list", "--json")
    (row,) = penstock("keys", "list").rows[1:]

    (key,) = listed.json["keys"]
    assert key["expires_at"] == made["expires_at"] == "2099-01-31T00:00:00.000Z"
    assert (key["id"], key["team"], key["feature"], key["label"], key["admin"]) == (
        *(made["id"], "web", "short", "the shop", True),
    )
    assert row[:5] == [made["id"], "web", "short", "the shop", "yes"]
    assert row[-1] == "works"
    assert made["key"] not in listed.out + penstock("keys", "list").out


def test_a_key_may_have_limits_of_its_own_which_are_listed(penstock):
    options = ("--rpm", "60", "--tpm", "10000", "--concurrency", "3")
    made = penstock("keys", "create", *options, "--json").json
    penstock("keys", "create", "--rpm", "5")
    rotated = penstock("keys", "rotate", made["id"], "--json").json

    limits = {
        key["id"]: (key["rpm"], key["tpm"], key["concurrency"])
        for key in penstock("keys", "list", "--json").json["keys"]
    }
    header, *rows = penstock("keys", "list").rows

    assert limits.pop(made["id"]) == limits.pop(rotated["id"]) == (60, 10_000, 3)
    assert list(limits.values()) == [(5, None, None)]
    assert header[5:8] == ["rpm", "tpm", "concurrency"]
    assert {row[0]: row[5:8] for row in rows}[made["id"]] == ["60", "10000", "3"]


def test_a_key_may_have_budgets_which_are_exact_and_listed(penstock):
    made = penstock("keys", "create", "--budget-day", "0.1", "--budget-month", "2.000000001", "--json").json

    (key,) = penstock("keys", "list", "--json").json["keys"]
    header, row = penstock("keys", "list").rows

    assert (key["id"], key["budget_day_usd"], key["budget_month_usd"]) == (made["id"], "0.1", "2.000000001")
    assert dict(zip(header, row, strict=True))["day budget"] == "$0.1"
    assert dict(zip(header, row, strict=True))["month budget"] == "$2.000000001"


def test_limits_of_a_key_are_changed_one_by_one_and_taken_away(penstock):
    made = penstock("keys", "create", "--rpm", "5", "--budget-day", "1", "--json").json

    def shown():
        (key,) = penstock("keys", "list", "--json").json["keys"]
        return [key[name] for name in ("rpm", "tpm", "concurrency", "budget_day_usd", "budget_month_usd")]

    done = penstock("keys", "set", made["id"], "--budget-month", "30")
    assert (done.code, done.out, done.err) == (0, "", f"{made['id']} is changed.\n")
    assert shown() == [5, None, None, "1", "30"]
    every = ("--rpm", "6", "--tpm", "7", "--concurrency", "8", "--budget-day", "none", "--budget-month", "none")
    changed = penstock("keys", "set", made["id"], *every, "--json").json
    assert shown() == [6, 7, 8, None, None]
    assert (changed["id"], changed["concurrency"], changed["budget_day_usd"]) == (made["id"], 8, None)
    penstock("keys", "set", made["id"], "--rpm", "none", "--tpm", "none", "--concurrency", "none")
    assert shown() == [None] * 5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("set", "key_x"), "Nothing is to be changed"),
        (("set", "key_x", "--rpm", "0"), "--rpm must be a whole number from 1 to 1000000000, or none"),
        (("set", "key_x", "--tpm", "1.5"), "--tpm must be"),
        (("set", "key_x", "--concurrency", "9" * 5000), "--concurrency must be"),
        (("set", "key_x", "--budget-day", "-1"), "--budget-day is out of range"),
        (("set", "key_x", "--budget-month", "much"), "--budget-month must be an amount in US dollars"),
        (("create", "--budget-day", "0.0000000001"), "--budget-day is finer than a billionth of a dollar"),
        (("create", "--budget-month", "NaN"), "--budget-month is out of range"),
    ],
)
def test_limits_that_cannot_be_are_usage_errors(penstock, arguments, told):
    done = penstock("keys", *arguments)

    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert penstock("keys", "list", "--json").json["keys"] == []


def test_limits_of_a_key_that_is_not_there_are_not_found(penstock):
    done = penstock("keys", "set", "key_x", "--rpm", "5")

    assert done.code == 1
    assert "no key 'key_x'" in done.err


@pytest.mark.parametrize("option", ["--rpm", "--tpm", "--concurrency"])
@pytest.mark.parametrize("value", ["0", "-1", "1000000001", "many", "1.5"])
def test_a_limit_that_is_no_number_of_something_is_a_mistake_of_usage(penstock, option, value):
    assert penstock("keys", "create", option, value).code == 2
    assert penstock("keys", "list", "--json").json == {"keys": []}


@pytest.mark.parametrize("expires", ["30d", "12h", "2099-01-31"])
def test_a_key_may_end_after_a_while_or_on_a_day(penstock, expires):
    assert penstock("keys", "create", "--expires", expires, "--json").json["expires_at"]


@pytest.mark.parametrize("expires", ["yesterday", "2001-01-01", "soon", ""])
def test_an_end_that_is_no_moment_to_come_is_a_mistake_of_usage(penstock, expires):
    done = penstock("keys", "create", "--expires", expires)

    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize("kind", ["team", "feature"])
def test_a_name_that_the_configuration_has_not_is_doubted(penstock, kind):
    name = {"team": "wbe", "feature": "shrt"}[kind]

    done = penstock("keys", "create", f"--{kind}", name)

    assert done.code == 0
    assert f"The configuration has no {kind} '{name}'" in done.err
    assert "Did you mean" in done.err


def test_any_name_will_do_where_the_configuration_has_none(penstock, folder):
    (folder / "penstock.toml").unlink()

    assert "has no team" not in penstock("keys", "create", "--team", "web").err


def test_a_key_is_revoked_for_good(penstock):
    key_id = penstock("keys", "create", "--json").json["id"]

    done = penstock("keys", "revoke", key_id)
    again = penstock("keys", "revoke", key_id, "--json")

    assert (done.code, done.err) == (0, f"{key_id} is revoked.\n")
    assert (again.code, again.json) == (0, {"revoked": key_id})
    assert penstock("keys", "list").rows[1][-1].startswith("revoked 20")


def test_a_rotated_key_ends_after_its_grace(penstock):
    old = penstock("keys", "create", "--team", "web", "--json").json
    new = penstock("keys", "rotate", old["id"], "--grace", "0", "--json").json

    states = {row[0]: row[-1] for row in penstock("keys", "list").rows[1:]}
    assert new["team"] == "web"
    assert new["key"] != old["key"]
    assert states == {old["id"]: "expired", new["id"]: "works"}


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_a_key_that_is_not_there_is_a_no(penstock, command):
    done = penstock("keys", command, "key_none")

    assert done.code == 1
    assert done.err == "There is no key 'key_none'. See `penstock keys list`.\n"


def test_what_belongs_to_no_command_is_a_mistake_of_usage(penstock):
    assert penstock("keys").code == 2
    assert penstock("keys", "rotate", "x", "--grace", "-1").code == 2
    assert penstock("keys", "revoke").code == 2

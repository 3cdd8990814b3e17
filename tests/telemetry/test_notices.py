"""What an alert says: exact amounts, and a sentence that needs nothing beside it."""

import re
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.telemetry.alerts import Due, Pace, Standing
from penstock.telemetry.notices import Notice, notice, sample

PAGE = Path(__file__).parents[2] / "docs" / "alerts.md"
S = 1_000_000_000
NOW = 1_795_359_600 * S  # 2026-11-22T15:00:00Z
END = 1_795_392_000 * S  # 2026-11-23T00:00:00Z
DAY = 86_400 * S


def standing(spent=16_250_000_000, **changes):
    fields = {
        "kind": "team",
        "name": "web",
        "window": "day",
        "limit_nano_usd": 20_000_000_000,
        "spent_nano_usd": spent,
        "held_nano_usd": 0,
        "start_ns": END - DAY,
        "end_ns": END,
    }
    return Standing(**(fields | changes))


def body(due, instance="0a1b2c3d4e5f6071"):
    return msgspec.json.decode(msgspec.json.encode(notice(due, instance)))


def test_a_threshold_says_it_all():
    said = body(Due("budget_threshold", standing(held_nano_usd=750_000_000), NOW, 80))

    assert said.pop("id").startswith("0a1b2c3d4e5f6071-")
    assert said == {
        "event": "budget_threshold",
        "at": "2026-11-22T15:00:00Z",
        "budget": {"kind": "team", "name": "web", "window": "day", "zone": "UTC", "soft": False},
        "percent": 80,
        "spent_usd": "16.25",
        "held_usd": "0.75",
        "limit_usd": "20",
        "resets_at": "2026-11-23T00:00:00Z",
        "text": "The day budget of team 'web' has passed 80 %: 16.25 of 20 USD are spent (81 %), and calls in progress hold"
        " 0.75. It starts anew at 2026-11-23T00:00:00Z.",
    }


def text(due):
    return notice(due, "x").text


def test_thresholds_that_were_passed_at_the_same_time_are_named():
    assert "has passed 80 % (50 % was passed at the same time): " in text(
        Due("budget_threshold", standing(), NOW, 80, (50,))
    )


def test_a_budget_that_is_used_up_says_what_becomes_of_calls():
    hard = text(Due("budget_threshold", standing(19_999_999_999, refused=1), NOW, 100))
    soft = text(Due("budget_threshold", standing(20_000_000_001, soft=True), NOW, 100))

    assert hard == (
        "The day budget of team 'web' is used up: 19.999999999 of 20 USD are spent (99 %). Calls are refused."
        " It starts anew at 2026-11-23T00:00:00Z."
    )
    assert "20.000000001 of 20 USD are spent (100 %). Calls go on, since it is soft." in soft
    assert "is used up and has passed 150 %: " in text(Due("budget_threshold", standing(31 * S, soft=True), NOW, 150))


def test_a_refusal_says_what_to_do():
    said = body(Due("budget_refusal", standing(12 * S), NOW))

    assert (said["event"], said["percent"]) == ("budget_refusal", None)
    assert (
        "refuses calls that may cost more than is left: 12 of 20 USD are spent (60 %). Calls that set max_tokens"
        in (said["text"])
    )


def test_a_pace_says_when_all_is_used_up():
    pace = Pace(5 * S, 3900 * S, 55, NOW + 2700 * S)
    said = body(Due("budget_burn_rate", standing(), NOW, pace=pace))

    assert (said["burn_rate"], said["used_up_at"], said["percent"]) == ("5.5", "2026-11-22T15:45:00Z", None)
    assert said["text"] == (
        "The day budget of team 'web' is being spent 5.5 times faster than evenly: 5 USD in the last hour;"
        " 16.25 of 20 USD are spent (81 %). At this pace it is used up at 2026-11-22T15:45:00Z."
        " It starts anew at 2026-11-23T00:00:00Z."
    )


def test_a_pace_of_less_than_an_hour_says_so():
    assert "5 USD in the last 12 minutes;" in text(
        Due("budget_burn_rate", standing(), NOW, pace=Pace(5 * S, 720 * S, 55, NOW))
    )


def test_a_budget_of_nothing_has_no_share():
    assert "0.1 of 0 USD are spent. Calls go on" in text(
        Due("budget_threshold", standing(S // 10, limit_nano_usd=0, soft=True), NOW, 100)
    )


def test_the_id_is_that_of_the_alert_and_of_the_gateway():
    def identity(instance="a", percent=80, spent=16 * S, at=NOW):
        return notice(Due("budget_threshold", standing(spent), at, percent), instance).id

    assert identity() == identity(spent=17 * S, at=NOW + S)
    assert len({identity(), identity("b"), identity(percent=100)}) == 3


@given(st.integers(0, 10**18), st.integers(0, 10**18), st.integers(0, 10**18), st.text(max_size=80))
def test_amounts_are_exact_and_any_name_stays_on_one_line(spent, held, limit, name):
    one = standing(spent, held_nano_usd=held, limit_nano_usd=limit, name=name)
    said = msgspec.json.decode(msgspec.json.encode(notice(Due("budget_threshold", one, NOW, 50), "x")), type=Notice)

    for amount, told in ((spent, said.spent_usd), (held, said.held_usd), (limit, said.limit_usd)):
        whole, _, rest = told.partition(".")
        assert int(whole) * 10**9 + int(rest.ljust(9, "0")) == amount
    assert len(said.text.splitlines()) == 1
    assert said.budget.name == name


def test_a_sample_has_the_shape_of_an_alert_and_says_that_it_is_none():
    said = sample(NOW)
    real = body(Due("budget_threshold", standing(), NOW, 80))

    assert msgspec.json.decode(msgspec.json.encode(said)).keys() == {*real, "test"}
    assert said.test
    assert "test" in said.text
    assert (said.at, said.resets_at) == ("2026-11-22T15:00:00Z", "2026-11-23T00:00:00Z")


def test_the_page_on_alerts_shows_them_as_they_are():
    page = PAGE.read_text(encoding="utf-8")
    ((example,),) = [re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    due = Due(
        "budget_burn_rate", standing(held_nano_usd=750_000_000), NOW, pace=Pace(5 * S, 3900 * S, 55, NOW + 2700 * S)
    )
    real = body(due)

    assert msgspec.json.decode(example) | {"id": real["id"]} == real
    assert text(Due("budget_threshold", standing(held_nano_usd=750_000_000), NOW, 80)) in page
    members = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE))))
    assert set(Notice.__struct_fields__) <= members

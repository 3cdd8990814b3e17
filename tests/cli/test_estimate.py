"""`penstock estimate`: the month on paper, the break-even, and what was priced again."""

import time
from decimal import Decimal

import pytest

from penstock.config import load
from penstock.ledger.ledger import Ledger
from penstock.receipt import Attempt, Receipt, Usage


@pytest.fixture
def models(folder):
    text = (folder / "penstock.toml").read_text()
    (folder / "penstock.toml").write_text(
        text
        + '[prices."fake/dear"]\ninput = 10\noutput = 50\ncached_input = 1\n[models.dear]\ntargets = ["fake/dear"]\n'
    )


def estimate(penstock, *options):
    done = penstock("estimate", *options, "--json")
    assert done.code == 0, done.err
    return done.json


def test_a_month_is_what_paper_says(penstock, models):
    found = estimate(penstock, "fast", "dear", "--requests", 1000, "--input", 500, "--output", 200)

    fast, dear = found["models"]
    assert (fast["model"], fast["target"], fast["month_usd"]) == (
        "fast",
        "fake/m",
        "27",
    )  # 30,000 x (500 x 1 + 200 x 2)
    assert (dear["month_usd"], dear["request_usd"], dear["output_input_ratio"]) == ("450", "0.015", "5.00")
    assert found["self_hosted"] is None
    assert fast["break_even_requests_per_day"] is None


def test_every_member_of_json(penstock, models):
    found = estimate(
        penstock,
        *("dear", "--requests", 10, "--input", 1000, "--output", 100, "--cached", "62.5%", "--batch", "10"),
        *("--growth", "10", "--months", 3, "--days", 10),
        *("--gpu-usd-per-hour", "$0.5", "--gpu-tokens-per-s", 100, "--gpu-input-tokens-per-s", 1000, "--gpu-use", "50"),
    )

    assert found == {
        "requests_per_day": 10,
        "input_tokens": 1000,
        "output_tokens": 100,
        "cached_percent": "62.5",
        "batch_percent": "10",
        "growth_percent": "10",
        "days": 10,
        "months": 3,
        "models": [
            {
                "model": "dear",
                "target": "fake/dear",
                "cost_status": "estimated",
                "price_since": "1970-01-01",
                "input_usd_per_mtok": "10",
                "output_usd_per_mtok": "50",
                "output_input_ratio": "5.00",
                "request_usd": "0.009375",
                "month_usd": "0.9375",
                "month_input_usd": "0.375",
                "month_cached_input_usd": "0.0625",
                "month_output_usd": "0.5",
                "months_usd": ["0.9375", "1.03125", "1.134375"],
                "total_usd": "3.103125",
                "batch_priced": False,
                "break_even_requests_per_day": 1280,
            }
        ],
        "self_hosted": {
            "servers": 1,
            "capacity_requests_per_day": 21_600,
            "request_usd": "1.2",
            "month_usd": "120",
        },
    }


def test_lines_for_a_pipe(penstock, models):
    done = penstock(
        *("estimate", "fast", "dear", "--requests", 100, "--batch", 50),
        *("--gpu-usd-per-hour", 1, "--gpu-tokens-per-s", 10, "--gpu-use", "10.5"),
    )

    assert done.code == 0
    assert done.rows == [
        ["model", "$/M in", "$/M out", "out/in", "a request", "a month", "all months", "breaks even at"],
        ["fast", "1", "2", "2.00", "$0.0016", "$4.8", "$4.8", "never"],
        ["dear", "10", "50", "5.00", "$0.025", "$75", "$75", "never"],
        ["own GPU x 1", "", "", "", "$0.24", "$720", "", ""],
        ["3000 requests a month, 1000 tokens in and 300 out each"],
        ["one server of your own can do 302 such requests a day"],
    ]
    assert "fast: no price of batches is known" in done.err


def test_configured_models_are_compared_where_none_is_named(penstock):
    done = penstock("estimate", "--requests", 10, "--json")

    assert [one["model"] for one in done.json["models"]] == ["fast", "safe", "chain"]


def test_models_of_the_catalogue_can_be_compared(penstock):
    found = estimate(penstock, "gpt-4o-mini", "--requests", 1000, "--input", 1_000_000, "--output", 0, "--days", 1)

    assert found["models"][0]["month_usd"] == "150"


def test_a_model_without_a_price_is_a_no_and_the_others_are_told(penstock):
    done = penstock("estimate", "fast", "fake/unpriced", "--requests", 10)

    assert done.code == 1
    assert done.rows[2][4:6] == ["unpriced", "unpriced"]
    assert '[prices."fake/unpriced"]' in done.err
    assert penstock("estimate", "fake/unpriced", "--requests", 10, "--json").json["models"][0]["month_usd"] is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "How many requests"),
        (("--requests", 1, "--cached", "101"), "--cached '101' is no number from 0 to 100"),
        (("--requests", 1, "--cached", "x"), "is no number"),
        (("--requests", 1, "--cached", "nan"), "is no number"),
        (("--requests", 1, "--cached", "1e-9999999"), "is no number"),
        (("--requests", 1, "--batch", "0.001"), "finer than a hundredth"),
        (("--requests", 1, "--growth", "-101"), "is no number from -100"),
        (("--requests", 1, "--gpu-tokens-per-s", 5), "needs a price and a speed"),
        (("--requests", 1, "--gpu-usd-per-hour", "1"), "needs a price and a speed"),
        (("--requests", 1, "--gpu-usd-per-hour", "0.0000000001", "--gpu-tokens-per-s", 5), "billionth"),
        (("--requests", 1, "--gpu-usd-per-hour", "-1", "--gpu-tokens-per-s", 5), "is no number"),
    ],
)
def test_what_cannot_be_asked_is_a_mistake_of_usage(penstock, options, told):
    done = penstock("estimate", "fast", *options)

    assert (done.code, done.out) == (2, "")
    assert told in done.err


def test_an_unknown_model_is_a_no(penstock):
    assert penstock("estimate", "zzzzzz", "--requests", 1).code == 1


# -- history --


@pytest.fixture
def spent(penstock, models):
    assert penstock("ask", "Hi there you", "--feature", "search").code == 0
    assert penstock("ask", "Hi", "--team", "web").code == 0
    return penstock


def test_the_same_model_costs_what_it_did(spent):
    found = estimate(spent, "fast", "dear", "--from-history", "--since", "1h")

    total = spent("spend", "--since", "1h", "--json").json["total"]
    fast, dear = found["models"]
    assert (found["tries"], found["input_tokens"]) == (2, total["input_tokens"])
    assert found["cost_usd"] == fast["cost_usd"] == total["cost_usd"]
    assert fast["difference_usd"] == "0"
    tokens = 10 * total["input_tokens"] + 50 * total["output_tokens"]
    assert Decimal(dear["cost_usd"]) * 10**6 == tokens
    assert Decimal(dear["difference_usd"]) == Decimal(dear["cost_usd"]) - Decimal(total["cost_usd"])


def test_history_of_one_feature_or_team(spent):
    assert estimate(spent, "fast", "--from-history", "--feature", "search")["tries"] == 1
    assert estimate(spent, "fast", "--from-history", "--team", "web", "--todays-prices")["tries"] == 1
    assert estimate(spent, "fast", "--from-history", "--since", "2020-01-01", "--until", "2020-02-01")["tries"] == 0


def test_history_in_lines(spent):
    done = spent("estimate", "fast", "dear", "--from-history")

    assert done.rows[0] == ["model", "cost", "difference"]
    assert [row[0] for row in done.rows[1:4]] == ["as it was", "fast", "dear"]
    assert done.rows[3][2].startswith("+0.")
    assert "another vocabulary" in done.err


def test_calls_that_were_served_in_a_tier_are_priced_in_it_where_there_is_a_price(penstock, models, folder, tmp_home):
    usage = Usage(1000, 1000)
    row = Attempt("fake/m", usage=usage, cost_nano_usd=1_500_000, cost_status="exact", service_tier="batch")
    with (folder / "penstock.toml").open("a") as config:
        config.write('[prices."fake/m".batch]\ninput = 0.5\noutput = 1\n')
    ledger = Ledger.open(load().home, now_ns=time.time_ns())
    now_ns = time.time_ns()
    ledger.settle(Receipt(ledger.new_id(now_ns), now_ns, "chat", "fast", "ok", 200, usage=usage, tries=(row,) * 2))
    ledger.close()

    fast, dear = estimate(penstock, "fast", "dear", "--from-history")["models"]
    assert (fast["cost_usd"], fast["difference_usd"], fast["tries_priced_by_default"]) == ("0.003", "0", 0)
    assert (dear["cost_usd"], dear["tries_priced_by_default"]) == ("0.12", 2)  # 2 x (1000 x 10 + 1000 x 50)
    assert "dear: 2 tries were served in a tier" in penstock("estimate", "fast", "dear", "--from-history").err


def test_history_with_a_call_or_a_model_that_has_no_price(spent):
    assert spent("ask", "Hi", "--model", "fake/unpriced").code == 0

    found = estimate(spent, "fast", "--from-history")
    assert (found["cost_usd"], found["models"][0]["difference_usd"]) == (None, None)
    done = spent("estimate", "fake/unpriced", "--from-history")
    assert done.code == 1
    assert done.rows[2] == ["fake/unpriced", "unpriced", ""]

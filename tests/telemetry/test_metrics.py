"""What Prometheus reads, read as Prometheus reads it."""

import random
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.receipt import Attempt, Receipt, Usage
from penstock.telemetry.alerts import Standing
from penstock.telemetry.metrics import AT_ONCE, SECONDS, SERIES, Budgets, Metrics


def receipt(**changes):
    fields = {
        "id": "019aa7ee-3e80-7000-8000-000000000000",
        "started_ns": 1,
        "dialect": "chat",
        "model": "fast",
        "status": "ok",
        "http_status": 200,
        "team": "web",
        "user": "5e884898da280471",
        "session": "s-secret",
        "key_id": "key_secret",
        "feature": "demo",
        "target": "box/m",
        "usage": Usage(10, 5),
        "cost_nano_usd": 1500,
        "cost_status": "exact",
        "ttft_us": 20_000,
        "total_us": 300_000,
        "tries": (Attempt("box/m"),),
    }
    return Receipt(**(fields | changes))


def read(metrics):
    """Every sample by its name and labels, as Prometheus's own parser sees them."""
    families = list(text_string_to_metric_families(metrics.exposition().decode()))
    samples = {}
    for family in families:
        for sample in family.samples:
            place = (sample.name, *sorted(sample.labels.items()))
            assert place not in samples, "a series is there twice"
            samples[place] = sample.value
    return families, samples


def of(team="web", model="fast", target="box/m", status="ok"):
    return (("model", model), ("status", status), ("target", target), ("team", team))


def test_nothing_was_counted_at_first():
    families, samples = read(Metrics())

    assert {family.name for family in families} >= {"penstock_calls", "penstock_cost_usd", "penstock_call_seconds"}
    assert not any(samples.values())


def test_the_form_is_the_one_that_is_announced():
    assert Metrics.content_type.startswith("text/plain; version=")
    assert Metrics().exposition().endswith(b"\n")


def test_calls_tries_tokens_and_dollars_are_summed_by_team_model_target_and_status():
    metrics = Metrics()
    metrics.observe(receipt())
    metrics.observe(receipt(usage=Usage(1, 2), cost_nano_usd=500, tries=(Attempt("a"), Attempt("b"))))
    metrics.observe(
        receipt(team=None, target=None, status="refused", usage=Usage(source="none"), cost_nano_usd=0, tries=())
    )
    _, samples = read(metrics)

    assert samples["penstock_calls_total", *of()] == 2
    assert samples["penstock_tries_total", *of()] == 3
    assert samples["penstock_input_tokens_total", *of()] == 11
    assert samples["penstock_output_tokens_total", *of()] == 7
    assert samples["penstock_cost_usd_total", *of()] == pytest.approx(2e-6)
    assert samples["penstock_unpriced_calls_total", *of()] == 0
    assert samples["penstock_calls_total", *of("", "", "", "refused")] == 1
    assert samples["penstock_tries_total", *of("", "", "", "refused")] == 0


def test_a_call_without_a_price_is_counted_as_such_and_adds_no_dollars():
    metrics = Metrics()
    metrics.observe(receipt(cost_nano_usd=None, cost_status="unpriced"))
    _, samples = read(metrics)

    assert samples["penstock_unpriced_calls_total", *of()] == 1
    assert samples["penstock_cost_usd_total", *of()] == 0


def test_dollars_do_not_drift():
    metrics = Metrics()
    for _ in range(10_000):
        metrics.observe(receipt(cost_nano_usd=1))
    _, samples = read(metrics)

    assert samples["penstock_cost_usd_total", *of()] == 10_000 / 1e9


def test_nobody_can_be_told_from_the_metrics():
    metrics = Metrics()
    metrics.observe(receipt())
    text = metrics.exposition().decode()

    for secret in ("5e884898da280471", "s-secret", "key_secret", "019aa7ee"):
        assert secret not in text
    assert set(re.findall(r'(\w+)="', text)) <= {"team", "model", "target", "status", "le"}


def test_a_label_may_hold_anything():
    metrics = Metrics()
    nasty = 'a"b\\c\nd{e}=f,é\u2028👋'
    metrics.observe(receipt(model=nasty, target=nasty, team=nasty))
    _, samples = read(metrics)

    assert samples["penstock_calls_total", *of(nasty, nasty, nasty)] == 1


def test_durations_fall_into_cumulative_buckets():
    metrics = Metrics()
    micros = [0, 4_999, 5_000, 5_001, 10_000, 99_999, 1_000_000, 120_000_000, 120_000_001, 10**10]
    for total_us in micros:
        metrics.observe(receipt(total_us=total_us, ttft_us=None))
    _, samples = read(metrics)

    for bound in SECONDS:
        counted = samples["penstock_call_seconds_bucket", ("le", str(bound))]
        assert counted == sum(total_us <= bound * 1e6 for total_us in micros), bound
    assert samples["penstock_call_seconds_bucket", ("le", "+Inf")] == len(micros)
    assert samples["penstock_call_seconds_count",] == len(micros)
    assert samples["penstock_call_seconds_sum",] == pytest.approx(sum(micros) / 1e6)
    assert samples["penstock_first_content_seconds_count",] == 0


def test_the_time_to_first_content_is_that_of_calls_which_had_any():
    metrics = Metrics()
    metrics.observe(receipt(ttft_us=30_000))
    metrics.observe(receipt(ttft_us=None))
    _, samples = read(metrics)

    assert samples["penstock_first_content_seconds_count",] == 1
    assert samples["penstock_first_content_seconds_sum",] == pytest.approx(0.03)


def test_the_calls_in_flight_are_read_at_the_moment_of_the_scrape():
    metrics, inside = Metrics(), [3]
    metrics.watch(lambda: inside[0])
    assert read(metrics)[1]["penstock_calls_in_flight",] == 3
    inside[0] = 1
    assert read(metrics)[1]["penstock_calls_in_flight",] == 1


class Vitals:
    """How a target does."""

    def __init__(self, target, breaker="closed", openings=0, in_flight=0, limit=100):
        self.target, self.breaker, self.openings = target, breaker, openings
        self.in_flight, self.limit = in_flight, limit


class Line:
    """A line in which calls wait: so many for targets, beside so many for their own room."""

    def __init__(self, waiting, lobby=0):
        self.waiting = waiting
        self.everybody = waiting + lobby

    def states(self):
        return (Vitals("box/a", in_flight=3), Vitals("box/b", "half_open", 2, limit=7))


def test_targets_are_told_of_as_they_do():
    metrics = Metrics()
    metrics.watch(int, Line(0))
    _, samples = read(metrics)
    told = {place: value for place, value in samples.items() if ("target", "box/b") in place}

    assert told == {
        ("penstock_breaker_open", ("target", "box/b")): 1,
        ("penstock_breaker_openings_total", ("target", "box/b")): 2,
        ("penstock_target_in_flight", ("target", "box/b")): 0,
        ("penstock_target_limit", ("target", "box/b")): 7,
    }
    assert samples["penstock_breaker_open", ("target", "box/a")] == 0
    assert samples["penstock_target_in_flight", ("target", "box/a")] == 3


def test_calls_of_every_configuration_that_still_has_some_are_in_flight():
    metrics, generations = Metrics(), [[3], [0], [2]]
    for generation in generations:
        metrics.watch(lambda inside=generation: inside[0])
    assert read(metrics)[1]["penstock_calls_in_flight",] == 5
    generations[0][0], generations[1][0] = 1, 0
    assert read(metrics)[1]["penstock_calls_in_flight",] == 3
    generations[2][0] = 0
    assert read(metrics)[1]["penstock_calls_in_flight",] == 1
    generations[2][0] = 7  # the newest counts again, whatever it was before
    assert read(metrics)[1]["penstock_calls_in_flight",] == 8


def test_a_configuration_whose_last_call_has_ended_is_let_go_though_nobody_scrapes():
    metrics, inside = Metrics(), [1]
    metrics.watch(lambda: inside[0])
    for _ in range(100):
        metrics.watch(int)
    assert len(metrics._watched) <= 3
    inside[0] = 0
    metrics.watch(int)
    assert len(metrics._watched) <= 2


def test_who_waits_at_the_targets_of_a_former_configuration_waits_still():
    metrics, inside = Metrics(), [4]
    metrics.watch(lambda: inside[0], Line(3, lobby=10))
    metrics.watch(int, Line(2, lobby=10))
    assert read(metrics)[1]["penstock_calls_waiting",] == 15
    inside[0] = 0
    assert read(metrics)[1]["penstock_calls_waiting",] == 12


def standing(kind="team", name="web", window="day", spent=16_250_000_000, **changes):
    return Standing(kind, name, window, 20_000_000_000, spent, 750_000_000, 0, 86_400_000_000_000, **changes)


def of_budget(kind="team", name="web", window="day"):
    return (("kind", kind), ("name", name), ("window", window))


def test_budgets_of_teams_features_and_models_are_told_by_name():
    metrics = Metrics()
    for one in (standing(), standing("feature", "invoices", "month", 0), standing("model", "fast")):
        metrics.budgets.add(one)
    _, samples = read(metrics)

    assert samples["penstock_budget_spent_usd", *of_budget()] == 16.25
    assert samples["penstock_budget_held_usd", *of_budget()] == 0.75
    assert samples["penstock_budget_limit_usd", *of_budget("model", "fast")] == 20
    assert samples["penstock_budget_spent_usd", *of_budget("feature", "invoices", "month")] == 0


def test_budgets_of_keys_and_users_are_told_by_their_number():
    metrics = Metrics()
    budgets = Budgets()
    for number in range(5000):
        budgets.add(standing("user", f"user-{number}", spent=(number % 10 == 0) * 20_000_000_000))
    budgets.add(standing("key", "key_secret", spent=19_900_000_000, refused=1))
    metrics.budgets = budgets
    _, samples = read(metrics)

    assert samples["penstock_budgets", ("kind", "user"), ("window", "day")] == 5000
    assert samples["penstock_budgets_used_up", ("kind", "user"), ("window", "day")] == 500
    assert samples["penstock_budgets_used_up", ("kind", "key"), ("window", "day")] == 1
    text = metrics.exposition().decode()
    assert "user-" not in text
    assert "key_secret" not in text


def test_the_number_of_budgets_that_are_told_by_name_is_bounded():
    metrics = Metrics()
    for number in range(SERIES + 10):
        metrics.budgets.add(standing(name=f"team-{number}"))
    _, samples = read(metrics)

    assert sum(place[0] == "penstock_budget_spent_usd" for place in samples) == SERIES
    assert samples["penstock_budgets", ("kind", "team"), ("window", "day")] == SERIES + 10


def test_alerts_are_counted_by_event_and_percentage_and_failures_by_reason():
    metrics = Metrics()
    for percent in (50, 80, 80, None):
        metrics.alert("budget_threshold" if percent else "budget_burn_rate", percent)
    metrics.alert_failed("dropped")
    metrics.alert_failed("dropped")
    _, samples = read(metrics)

    assert samples["penstock_alerts_total", ("event", "budget_threshold"), ("percent", "80")] == 2
    assert samples["penstock_alerts_total", ("event", "budget_burn_rate"), ("percent", "")] == 1
    assert samples["penstock_alerts_failed_total", ("reason", "dropped")] == 2


def test_the_number_of_series_is_bounded_and_what_is_beyond_is_counted_together():
    metrics = Metrics()
    for number in range(SERIES + 500):
        metrics.observe(receipt(model=f"model-{number}"))
    metrics.observe(receipt(model="model-0"))
    metrics.observe(receipt(model="late", status="error"))
    _, samples = read(metrics)
    calls = {place: value for place, value in samples.items() if place[0] == "penstock_calls_total"}

    assert len(calls) <= SERIES + 6  # `other` once per status
    assert sum(calls.values()) == SERIES + 502
    assert samples["penstock_calls_total", *of("other", "other", "other", "ok")] == 500
    assert samples["penstock_calls_total", *of("other", "other", "other", "error")] == 1
    assert samples["penstock_calls_total", *of(model="model-0")] == 2


def figures(one):
    """What `Metrics.count` is told of a receipt with one try."""
    labels = (one.team or "", one.model, one.target, one.status)
    return labels, one.usage.input_tokens, one.usage.output_tokens, one.cost_nano_usd, one.total_us, one.ttft_us


@pytest.mark.parametrize("calls", [0, 1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE + 7])
def test_calls_that_are_added_up_together_make_the_same_metrics_as_one_by_one(calls):
    rng, together, single = random.Random(calls), Metrics(), Metrics()
    edges = [round(seconds * 1e6) + by for seconds in SECONDS for by in (-1, 0, 1)]
    for number in range(calls):
        one = receipt(
            team=rng.choice([None, "a", "b"]),
            model=rng.choice("xyz"),
            usage=Usage(rng.randrange(100), rng.randrange(100)),
            cost_nano_usd=rng.choice([None, 0, 17]),
            total_us=rng.choice([*edges, 10**12, 0]),
            ttft_us=rng.choice([None, *edges]),
        )
        single.observe(one)
        together.count(figures(one))
        if number % 100 == 50:  # a receipt in between
            single.observe(one)
            together.observe(one)
    assert together.exposition() == single.exposition()
    assert together.exposition() == single.exposition()


def test_what_waits_is_added_up_some_at_a_time():
    metrics = Metrics()
    for _ in range(2 * AT_ONCE + 7):
        metrics.count(figures(receipt()))
    assert [metrics.add_up() for _ in range(4)] == [AT_ONCE + 7, 7, 0, 0]
    metrics.count(figures(receipt()))
    _, samples = read(metrics)
    assert samples["penstock_calls_total", *of()] == 2 * AT_ONCE + 8


def test_labels_beyond_the_bound_are_counted_together_in_the_order_in_which_they_came():
    metrics = Metrics()
    for number in range(SERIES - 1):
        metrics.count(figures(receipt(model=f"model-{number}")))
    metrics.count(figures(receipt(model="last")))
    metrics.observe(receipt(model="late"))
    metrics.count(figures(receipt(model="later")))
    _, samples = read(metrics)
    assert samples["penstock_calls_total", *of(model="last")] == 1
    assert samples["penstock_calls_total", *of("other", "other", "other", "ok")] == 2


def test_a_label_is_no_longer_than_a_name():
    metrics = Metrics()
    metrics.observe(receipt(model="x" * 100_000, target=None, status="refused"))

    assert len(metrics.exposition()) < 20_000


def test_names_that_do_not_exist_leave_room_for_those_that_do():
    metrics = Metrics()
    for number in range(SERIES):
        metrics.observe(receipt(model=f"nothing-{number}", target=None, status="refused", error="model_not_found"))
    metrics.observe(receipt(model="fast"))
    _, samples = read(metrics)

    assert ("penstock_calls_total", *of()) in samples


def test_counters_only_grow():
    metrics, rng = Metrics(), random.Random(7)
    before = {}
    for _ in range(50):
        metrics.observe(
            receipt(
                model=rng.choice(["a", "b"]),
                status=rng.choice(["ok", "error", "cancelled"]),
                usage=Usage(rng.randrange(100), rng.randrange(100)),
                cost_nano_usd=rng.choice([None, 0, 17]),
                total_us=rng.randrange(10**7),
            )
        )
        _, now = read(metrics)
        assert all(now[place] >= value for place, value in before.items())
        before = now

"""What Prometheus reads, read as Prometheus reads it."""

import random
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.receipt import Attempt, Receipt, Usage
from penstock.telemetry.metrics import SECONDS, SERIES, Metrics


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

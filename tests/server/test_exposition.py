"""The metrics of several workers as one exposition, read by Prometheus's own parser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from penstock.server.exposition import joined, labelled
from penstock.telemetry.alerts import Standing
from penstock.telemetry.metrics import Metrics


def samples(data):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(data.decode())
        for sample in family.samples
    }


def test_every_family_is_told_once_and_every_sample_with_its_worker():
    alone = Metrics().exposition()

    both = joined({2: alone, 1: alone})

    names = [line.split()[2] for line in both.decode().splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert samples(both) == {
        (name, tuple(sorted((*labels, ("worker", worker))))): value
        for (name, labels), value in samples(alone).items()
        for worker in ("1", "2")
    }


def test_a_family_that_one_worker_alone_has_is_there():
    both = joined({1: b"# HELP a A.\n# TYPE a gauge\na 1.0\n", 2: b"# TYPE b gauge\nb 2.0\n"})

    assert samples(both) == {("a", (("worker", "1"),)): 1.0, ("b", (("worker", "2"),)): 2.0}


def worker(*budgets):
    metrics = Metrics()
    for kind, name, spent in budgets:
        metrics.budgets.add(Standing(kind, name, "day", 20 * 10**9, spent * 10**9, 0, 0, 1))
    metrics.alert("budget_threshold", 80)
    return metrics.exposition()


def test_what_workers_keep_together_is_told_once_and_can_be_summed_up():
    both = joined(
        {
            1: worker(("team", "web", 5), ("user", "a", 1)),
            2: worker(("team", "web", 6), ("team", "app", 7)),
            3: worker(("team", "web", 4)),
        }
    )
    found = samples(both)
    spent = {place: value for place, value in found.items() if place[0] == "penstock_budget_spent_usd"}

    assert spent == {
        ("penstock_budget_spent_usd", (("kind", "team"), ("name", name), ("window", "day"))): value
        for name, value in (("web", 6.0), ("app", 7.0))
    }
    assert found["penstock_budgets", (("kind", "team"), ("window", "day"))] == 2.0
    assert not any(dict(labels).get("worker") for name, labels in found if name.startswith("penstock_budget"))
    labels = (("event", "budget_threshold"), ("percent", "80"))
    assert [found["penstock_alerts_total", (*labels, ("worker", number))] for number in "12"] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (b"a 1.0", b'a{w="1"} 1.0'),
        (b"a{} 1.0", b'a{w="1"} 1.0'),
        (b'a{b="c"} 1.0 123', b'a{w="1",b="c"} 1.0 123'),
        (b'a{b="c d{e",f=""} 1.0', b'a{w="1",b="c d{e",f=""} 1.0'),
    ],
)
def test_a_label_is_put_in_front(sample, expected):
    assert labelled(sample, b'w="1"') == expected


@given(st.dictionaries(st.sampled_from("abcd"), st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))))
def test_whatever_values_the_labels_have_they_stay_what_they_are(labels):
    escaped = {k: v.replace("\\", "\\\\").replace('"', '\\"') for k, v in labels.items()}
    inner = ",".join(f'{name}="{value}"' for name, value in escaped.items())
    line = f"x{{{inner}}} 1.0"

    ((_, found),) = samples(joined({3: f"# TYPE x gauge\n{line}\n".encode()}))

    assert dict(found) == labels | {"worker": "3"}

"""The metrics of several workers as one exposition, read by Prometheus's own parser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from penstock.server.exposition import joined, labelled
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

"""What `penstock plan` tells is plain values, which encode."""

import msgspec

from penstock.foresight import Foresight, Skipped, Step
from penstock.tokens.count import Count


def test_a_foresight_encodes_with_its_steps_and_what_was_left_out():
    step = Step("a/one", Count(7, "exact", (7, 7)), "0.0015", "first")
    told = msgspec.json.decode(msgspec.json.encode(Foresight("fast", (step,), (Skipped("b/two", "too small"),))))

    assert told["steps"][0]["input"]["n"] == 7
    assert told["left_out"] == [{"target": "b/two", "reason": "too small"}]

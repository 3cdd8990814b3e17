"""What a meter sees of a reply."""

from penstock.errors import UpstreamFailed
from penstock.meter import KEEP_CHARACTERS, Meter
from penstock.receipt import Usage
from penstock.reply import (
    Ended,
    Failed,
    Finished,
    LogprobsDelta,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)


def metered(*events):
    meter = Meter()
    meter.observe(events)
    return meter


def test_a_start_is_not_yet_content():
    meter = metered(Started(id="x"), Started(id="y"))
    assert not meter.begun
    assert meter.start.id == "x"


def test_text_thought_and_refusal_are_content_and_are_kept_for_counting():
    meter = metered(TextDelta("a"), ReasoningDelta("b"), RefusalDelta("c"))
    assert meter.begun
    assert meter.text == ["a", "b", "c"]


def test_a_tool_call_is_content_and_its_name_and_arguments_are_kept():
    meter = metered(ToolUseStarted(0, "id", "find"), ToolUseDelta(0, '{"q":1}'))
    assert meter.begun
    assert meter.text == ["find", '{"q":1}']


def test_other_content_counts_as_begun():
    assert metered(LogprobsDelta(())).begun


def test_the_first_finish_and_the_last_usage_hold():
    meter = metered(Finished("stop"), Finished("length", choice=1), UsageReported(Usage(1)), UsageReported(Usage(2)))
    assert meter.finish == "stop"
    assert meter.usage == Usage(2)


def test_the_end_and_a_failure_are_seen():
    assert metered(Ended()).ended
    error = UpstreamFailed("cut")
    meter = metered(Failed(error))
    assert meter.error is error
    assert not meter.begun


def test_what_is_kept_is_bounded_and_the_rest_is_counted():
    meter = metered(TextDelta("x" * KEEP_CHARACTERS), TextDelta("y" * 7))
    assert len(meter.text) == 1
    assert meter.beyond == 7


def test_many_pieces_of_text_are_joined_to_few_and_stay_the_same_text():
    meter = Meter()
    words = [f"{number} " for number in range(1300)]
    for word in words:
        meter.observe((TextDelta(word),))
    assert "".join(meter.text) == "".join(words)
    assert meter.kept == len("".join(words))
    assert len(meter.text) == 2 + 1300 - 2 * 512

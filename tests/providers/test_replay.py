"""What a rule does, step by step: the events of its reply and its faults, each at its time."""

import math
from itertools import islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.errors import (
    UpstreamAuth,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.providers.replay import Asked, count_words, steps
from penstock.providers.script import Rule, Tokens, ToolCall, read_script
from penstock.receipt import Usage
from penstock.reply import (
    Ended,
    Failed,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
    fold,
)

HELLO = Asked("m", "Hello there")


def rule(**keys):
    return Rule(**{"ttft_ms": 0.0, "chunk": "word", "usage": "words"} | keys)


def play(asked=HELLO, **keys):
    return list(steps(rule(**keys), asked))


def events(asked=HELLO, **keys):
    return [event for step in play(asked, **keys) for event in step.events]


def reply(asked=HELLO, **keys):
    return fold(events(asked, **keys))


def text(asked=HELLO, **keys):
    return reply(asked, **keys).choices[0].text


# -- answers --


def test_an_answer_begins_flows_and_ends():
    assert events(text="One two  three\n") == [
        Started("scripted-1", "m"),
        TextDelta("One "),
        TextDelta("two  "),
        TextDelta("three\n"),
        Finished("stop", "stop"),
        UsageReported(Usage(0, 3)),
        Ended(),
    ]


def test_an_empty_answer_has_no_content():
    assert events(text="") == [Started("scripted-1", "m"), Finished("stop", "stop"), UsageReported(Usage()), Ended()]


@pytest.mark.parametrize(
    ("chunk", "pieces"),
    [
        ("word", ["  a ", "bc ", "d"]),
        ("character", list("  a bc d")),
        (3, ["  a", " bc", " d"]),
        ("whole", ["  a bc d"]),
    ],
)
def test_an_answer_comes_in_chunks(chunk, pieces):
    assert [e.text for e in events(text="  a bc d", chunk=chunk) if isinstance(e, TextDelta)] == pieces


CHUNKS = st.sampled_from(["word", "character", "whole"]) | st.integers(1, 9)


@example(" \n", "word", None)
@given(st.text(max_size=40), CHUNKS, st.none() | st.integers(0, 5))
def test_chunks_add_up_to_the_text(answer, chunk, rate):
    played = play(text=answer.replace("{", "("), chunk=chunk, tokens_per_s=rate or None)
    times = [step.at_s for step in played]

    assert "".join(e.text for step in played for e in step.events if isinstance(e, TextDelta)) == answer.replace(
        "{", "("
    )
    assert times == sorted(times)
    assert isinstance(played[-1].events[-1], Ended)


def test_everything_that_a_model_says_has_its_events():
    whole = events(
        reasoning="Let me",
        text="So:",
        refusal="no",
        tool_calls=(ToolCall("weather", '{"a": 1}'), ToolCall("now", "")),
        chunk="whole",
    )

    assert whole[1:] == [
        ReasoningDelta("Let me"),
        TextDelta("So:"),
        RefusalDelta("no"),
        ToolUseStarted(0, "call_1_0", "weather"),
        ToolUseDelta(0, '{"a": 1}'),
        ToolUseStarted(1, "call_1_1", "now"),
        Finished("tool_calls", "tool_calls"),
        UsageReported(Usage(0, 2 + 1 + 1 + (1 + 2) + 1, reasoning_tokens=2)),
        Ended(),
    ]


def test_a_tool_call_is_one_piece_with_its_first_arguments():
    first, second = [step.events for step in play(tool_calls=(ToolCall("t", '{"a": 1}'),), usage="none")][1:3]

    assert first == (ToolUseStarted(0, "call_1_0", "t"), ToolUseDelta(0, '{"a": '))
    assert second == (ToolUseDelta(0, "1}"),)


def test_the_end_has_its_usual_reason_or_the_one_given():
    assert reply(text="a").choices[0].finish == "stop"
    assert reply(refusal="a").choices[0].finish == "refusal"
    assert reply(tool_calls=(ToolCall("a"),)).choices[0].finish == "tool_calls"
    assert reply(text="a", finish="content_filter").choices[0].finish == "content_filter"


def test_texts_take_turns():
    said = [text(Asked("m", "", number=number), text=("a", "b {n}")) for number in range(1, 5)]

    assert said == ["a", "b 2", "a", "b 4"]


def test_placeholders_stand_for_the_call():
    asked = Asked("gpt", "say {model} {n}", number=3)

    assert text(asked, text="{model}/{n}: {prompt} {other} {} {") == "gpt/3: say {model} {n} {other} {} {"
    assert reply(asked, refusal="{n}", reasoning="{model}").choices[0].parts[0].text == "gpt"


def test_an_excerpt_is_short_and_on_one_line():
    assert text(Asked("m", " a\n\n b\t"), text="[{excerpt}]") == "[a b]"
    long = text(Asked("m", "word " * 1000), text="{excerpt}")
    assert long.endswith(" ...")
    assert len(long) < 130


def test_an_answer_is_cut_where_the_caller_wants_it():
    asked = Asked("m", "", max_tokens=2)

    cut = reply(asked, text="one two three")
    assert (cut.choices[0].text, cut.choices[0].finish, cut.usage.output_tokens) == ("one two", "length", 2)
    assert reply(asked, text="one two ").choices[0].finish == "stop"
    assert text(asked, text="one two three", usage=Tokens(1, 9)) == "one two three"
    assert text(Asked("m", "", max_tokens=0), text="one") == ""


def test_usage_is_counted_given_or_missing():
    assert reply(Asked("m", "", input_words=7), text="a b").usage == Usage(7, 2)
    given = Tokens(10, 20, 5, 3, 4)
    assert reply(text="a", usage=given).usage == Usage(10, 20, 5, 3, reasoning_tokens=4)
    assert reply(text="a", usage="none").usage is None


def test_words_stand_between_white_space():
    assert [count_words(one) for one in ("", "  ", "a", " a  b\nc ", "a-b, c")] == [0, 0, 1, 3, 2]


# -- time --


def test_pieces_come_at_their_pace():
    assert [step.at_s for step in play(text="a b c", ttft_ms=30.0, chunk_ms=10.0)] == pytest.approx(
        [0.03, 0.03, 0.04, 0.05, 0.05]
    )


def test_words_a_second_hold_whatever_the_chunks():
    words = "ten words are what it takes to fill one second"

    for chunk, last in (("word", 0.9), ("character", 45 / 46), (23, 0.5), ("whole", 0.0)):
        times = [step.at_s for step in play(text=words, tokens_per_s=10.0, chunk=chunk)]
        assert times[-1] == pytest.approx(last)
        assert times == sorted(times)


def test_no_pace_is_at_once():
    assert {step.at_s for step in play(text="a b c")} == {0.0}


# -- faults --


@pytest.mark.parametrize(
    ("status", "error", "shown"),
    [
        (400, UpstreamRejected, 400),
        (401, UpstreamAuth, 502),
        (403, UpstreamAuth, 502),
        (404, UpstreamMissing, 502),
        (408, UpstreamFailed, 502),
        (413, UpstreamRejected, 413),
        (422, UpstreamRejected, 422),
        (429, UpstreamRateLimited, 429),
        (500, UpstreamFailed, 502),
        (502, UpstreamFailed, 502),
        (503, UpstreamOverloaded, 503),
        (504, UpstreamFailed, 502),
        (529, UpstreamOverloaded, 529),
    ],
)
def test_a_status_is_the_error_that_it_would_be(status, error, shown):
    (step,) = play(status=status, ttft_ms=20.0)

    assert type(step.error) is error
    assert step.error.status == shown
    assert step.at_s == 0.02
    assert str(status) in step.error.message


def test_a_status_may_ask_to_wait_and_say_why():
    for status in (429, 503, 500):
        (step,) = play(status=status, retry_after_s=1.5, message="Later, {model}.")
        assert (step.error.retry_after_s, step.error.message) == (1.5, "Later, m.")


@pytest.mark.parametrize(
    ("fault", "error"), [("refuse", UpstreamFailed), ("reset", UpstreamFailed), ("garble", UpstreamGarbled)]
)
def test_a_fault_comes_before_the_reply_begins(fault, error):
    (step,) = play(fault=fault, text="a b c", ttft_ms=10.0)

    assert type(step.error) is error
    assert (step.at_s, step.events) == (0.01, ())


def test_a_stall_lasts_for_ever():
    (step,) = play(fault="stall")

    assert step.at_s == math.inf


def test_a_drip_lasts_for_ever_and_is_no_silence():
    (step,) = play(fault="drip")
    assert (step.at_s, step.drips, step.events) == (math.inf, True, ())

    *before, late = play(fault="drip", text="a b c", after_chunks=2)
    assert [event.text for step in before[1:] for event in step.events] == ["a ", "b "]
    assert (late.at_s, late.drips) == (math.inf, True)


@pytest.mark.parametrize(
    ("after", "times"),
    [
        (None, [2.0, 2.0, 2.01, 2.02, 2.02]),
        (0, [0.0, 2.0, 2.01, 2.02, 2.02]),
        (1, [0.0, 0.0, 2.01, 2.02, 2.02]),
        (3, [0.0, 0.0, 0.01, 0.02, 2.02]),
        (9, [0.0, 0.0, 0.01, 0.02, 2.02]),
    ],
)
def test_after_a_pause_a_reply_goes_on_to_its_end(after, times):
    course = play(fault="pause", pause_ms=2000.0, after_chunks=after, text="a b c", chunk_ms=10.0)

    assert [round(step.at_s, 6) for step in course] == times
    assert fold(event for step in course for event in step.events).choices[0].text == "a b c"
    assert course[-1].events[-1] == Ended()


def test_an_empty_reply_begins_and_ends():
    assert events(fault="empty") == [Started("scripted-1", "m"), Ended()]


def test_an_endless_reply_says_its_text_over_and_over():
    course = list(islice(steps(rule(fault="endless", text="a b "), Asked("m", "", max_tokens=1)), 7))

    assert [event.text for step in course[1:] for event in step.events] == ["a"] * 6  # one word, as it was asked for
    course = list(islice(steps(rule(fault="endless", text="a b ", chunk_ms=500.0), HELLO), 6))
    assert [event.text for step in course[1:] for event in step.events] == ["a ", "b ", "a ", "b ", "a "]
    assert [step.at_s for step in course[1:]] == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_an_endless_reply_of_nothing_says_nothing_for_ever():
    started, step = play(Asked("m", ""), fault="endless", text="{prompt}")

    assert started.events == (Started("scripted-1", "m"),)
    assert (step.at_s, step.drips) == (math.inf, True)


@pytest.mark.parametrize("fault", ["reset", "garble", "stall", "error", "truncate"])
@pytest.mark.parametrize("after", [0, 1, 2, 3, 9])
def test_a_late_fault_comes_after_so_many_chunks_and_is_the_end(fault, after):
    *before, last = play(fault=fault, after_chunks=after, text="a b c", chunk_ms=10.0)
    content = [event for step in before for event in step.events]

    assert content[0] == Started("scripted-1", "m")
    assert [event.text for event in content[1:]] == ["a ", "b ", "c"][:after]
    match fault:
        case "stall":
            assert last.at_s == math.inf
        case "error" | "truncate":
            (failed,) = last.events
            assert type(failed) is Failed
            assert type(failed.error) is (UpstreamFailed if fault == "error" else UpstreamGarbled)
        case _:
            assert type(last.error) is (UpstreamFailed if fault == "reset" else UpstreamGarbled)


@pytest.mark.parametrize("fault", ["error", "truncate"])
def test_an_error_within_a_reply_needs_one_that_has_begun(fault):
    started, failed = play(fault=fault, text="a b c")

    assert started.events == (Started("scripted-1", "m"),)
    assert type(failed.events[0]) is Failed


def test_an_error_within_a_reply_is_of_the_class_of_its_status():
    last = play(fault="error", status=529, text="a", after_chunks=1, message="Busy.", retry_after_s=2.0)[-1]

    (failed,) = last.events
    assert type(failed.error) is UpstreamOverloaded
    assert (failed.error.status, failed.error.message, failed.error.retry_after_s) == (529, "Busy.", 2.0)


def test_a_rule_as_it_is_read_can_be_played():
    (read,) = read_script("x", b"[[rules]]\ntext = 'a'\n").rules

    assert fold(event for step in steps(read, HELLO) for event in step.events).ended

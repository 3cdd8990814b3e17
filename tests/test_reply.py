"""A whole reply is the fold of its events."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.call import Audio, Reasoning, Refusal, Text, ToolUse
from penstock.errors import UpstreamFailed
from penstock.receipt import Usage
from penstock.reply import (
    AudioDelta,
    Choice,
    Ended,
    Failed,
    Finished,
    ForeignDelta,
    Logprob,
    LogprobsDelta,
    ReasoningDelta,
    RefusalDelta,
    Reply,
    Started,
    TextDelta,
    Told,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
    fold,
    unfold,
)


def test_text_deltas_join():
    reply = fold([Started(id="1", model="m"), TextDelta("a"), TextDelta("b"), Finished("stop", "stop"), Ended()])
    assert reply.choices[0].text == "ab"
    assert reply.id == "1"
    assert reply.ended


def test_the_first_start_and_the_last_usage_hold():
    reply = fold([Started(id="1"), Started(id="2"), UsageReported(Usage(1)), UsageReported(Usage(5))])
    assert reply.id == "1"
    assert reply.usage == Usage(5)


def test_parallel_tool_calls_are_put_together_by_index():
    reply = fold(
        [
            ToolUseStarted(1, "b", "two"),
            ToolUseStarted(0, "a", "one"),
            ToolUseDelta(0, '{"x"'),
            ToolUseDelta(1, "{}"),
            ToolUseDelta(0, ":1}"),
            Finished("tool_calls"),
        ]
    )
    assert reply.choices[0].parts == (ToolUse("a", "one", '{"x":1}'), ToolUse("b", "two", "{}"))


def test_arguments_without_a_beginning_are_kept():
    assert fold([ToolUseDelta(0, "{}")]).choices[0].parts == (ToolUse("", "", "{}"),)


def test_the_tier_that_is_told_with_the_count_holds():
    begins, count = Started("r", service_tier="auto"), Usage(1, 2)
    assert fold([begins, UsageReported(count)]).service_tier == "auto"
    assert fold([begins, UsageReported(count, "flex"), UsageReported(count)]).service_tier == "flex"
    assert fold([begins, UsageReported(count, "flex"), UsageReported(count, "default")]).service_tier == "default"


def test_a_signature_closes_a_block_of_thinking():
    reply = fold(
        [
            ReasoningDelta("a"),
            ReasoningDelta("b"),
            ReasoningDelta(signature="s"),
            ReasoningDelta("c"),
            ReasoningDelta("x", redacted=True),
            ReasoningDelta("d"),
        ]
    )
    assert reply.choices[0].parts == (
        Reasoning("ab", "s"),
        Reasoning("c"),
        Reasoning("x", redacted=True),
        Reasoning("d"),
    )


def test_audio_joins_its_pieces():
    reply = fold([AudioDelta(id="1"), AudioDelta("aa", "he"), AudioDelta("bb", "y", expires_at=5)])
    assert reply.choices[0].parts == (Audio(data="aabb", id="1", transcript="hey", expires_at=5),)


def test_a_choice_without_a_finish_is_of_another_kind():
    assert fold([TextDelta("a")]).choices[0].finish == "other"


def test_a_failure_is_kept():
    error = UpstreamFailed("cut")
    assert fold([Failed(error)]).error is error
    assert list(unfold(Reply(error=error)))[-1] == Failed(error)


text = st.text(min_size=1, max_size=5)
logprobs = st.lists(st.builds(Logprob, text, st.floats(-9, 0)), max_size=2).map(tuple)


@st.composite
def choices(draw):
    parts = [
        *draw(st.lists(st.builds(Reasoning, text, text), max_size=2)),
        *draw(st.lists(st.builds(Text, text), max_size=1)),
        *draw(st.lists(st.builds(Refusal, text), max_size=1)),
        *draw(
            st.lists(st.builds(Audio, data=text, id=text, transcript=text, expires_at=st.integers(1, 9)), max_size=1)
        ),
        *draw(st.lists(st.builds(ToolUse, text, text, text), max_size=3)),
    ]
    number = draw(st.just(0))
    foreign = draw(st.lists(st.builds(ForeignDelta, st.just("chat"), text, st.just(b"1")), max_size=1))
    return Choice(tuple(parts), "stop", draw(text), draw(logprobs), draw(logprobs), tuple(foreign[: 1 + number]))


@given(
    st.builds(Reply, id=text, model=text, choices=st.tuples(choices()), usage=st.just(Usage(3)), ended=st.booleans())
)
def test_folding_undoes_unfolding(reply):
    assert fold(unfold(reply)) == reply


def test_several_choices_come_back_in_order():
    reply = Reply(choices=(Choice((Text("a"),)), Choice((RefusalDelta and Refusal("b"),))), ended=True)
    assert fold(unfold(reply)).choices == reply.choices


def test_logprobs_belong_to_their_kind():
    one = (Logprob("a", -1.0),)
    choice = fold([LogprobsDelta(one), LogprobsDelta(one, refusal=True)]).choices[0]
    assert choice.logprobs == choice.refusal_logprobs == one


def test_a_reply_in_one_value_has_the_events_of_an_ordinary_one():
    assert Told(b"{}", "1", "m", "stop", 10, 5, "fp", "flex", 7).events == (
        *(Started("1", "m", 7, "fp", "flex"), Finished("stop", "stop"), UsageReported(Usage(10, 5)), Ended()),
    )
    other = Told(b"{}", "1", "m", "length", 10, 5, detailed=Usage(10, 5, 3), native="MAX_TOKENS")
    assert other.events[1:3] == (Finished("length", "MAX_TOKENS"), UsageReported(Usage(10, 5, 3)))

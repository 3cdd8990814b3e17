"""How the two pieces of an answer that was cut join: nothing twice, nothing lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.call import Call, Content, Message, Sampling, Text
from penstock.continuation import ASK, HELD, Continuation
from penstock.event import Ended, Failed, Finished, ReasoningDelta, Started, TextDelta, ToolUseStarted, UsageReported
from penstock.receipt import Usage

CALL = Call(
    dialect="chat",
    model="fast",
    sampling=Sampling(max_tokens=100),
    read=lambda: Content((Message("user", (Text("Hi"),)),)),
    stream=True,
    raw=b"{}",
    input_bound=50,
)
END = (Finished("stop"), UsageReported(Usage(1, 1)), Ended())


def joined(said, *pieces, end=END):
    """Give the text behind what was said, and what else came."""
    one = Continuation()
    one.hear((Started("1"), TextDelta(said)))
    one.begin(CALL)
    events = [event for piece in pieces for event in one.join((TextDelta(piece),))]
    events += one.join(end)
    return "".join(event.text for event in events if isinstance(event, TextDelta)), events


def test_what_was_said_is_asked_to_be_gone_on_with():
    one = Continuation()
    one.hear((Started("1"), TextDelta("Once upon"), ReasoningDelta("hm"), TextDelta(" a time")))
    asked = one.begin(CALL)

    assert one.possible
    assert one.resumed
    assert [(message.role, message.parts[0].text) for message in asked.content.messages] == [
        ("user", "Hi"),
        ("assistant", "Once upon a time"),
        ("user", ASK),
    ]
    assert asked.raw == b""
    assert asked.input_bound == 50 + len("Once upon a time") + len(ASK)
    assert asked.sampling.max_tokens == 96


def test_where_nothing_was_said_the_same_is_asked_again():
    assert Continuation().begin(CALL) is CALL


def test_a_call_without_limits_stays_without():
    from msgspec import structs

    one = Continuation()
    one.hear((TextDelta("Once"),))
    asked = one.begin(structs.replace(CALL, sampling=Sampling(), input_bound=None))
    assert (asked.sampling.max_tokens, asked.input_bound) == (None, None)


@pytest.mark.parametrize(
    "event", [ToolUseStarted(0, "1", "f"), TextDelta("second choice", choice=1), Finished("stop"), Ended()]
)
def test_more_than_one_text_cannot_be_gone_on_with(event):
    one = Continuation()
    one.hear((TextDelta("a"), event))
    assert not one.possible


@pytest.mark.parametrize(
    ("said", "pieces", "rest"),
    [
        ("The quick", (" brown", " fox"), " brown fox"),
        ("The quick brown", ("quick brown", " fox"), " fox"),
        ("The quick", ("The qui", "ck brown fox"), " brown fox"),
        ("The quick", ("The quick brown fox",), " brown fox"),
        ("The quick", (), ""),
        ("a" * 300, ("a" * 300, "b"), "b"),
        ("one two", ("two",), "two"),  # too short to be told from chance
    ],
)
def test_what_both_pieces_have_is_given_out_once(said, pieces, rest):
    assert joined(said, *pieces)[0] == rest


def test_the_rest_comes_with_its_end_and_without_a_second_beginning():
    _, events = joined("The quick", " brown fox")
    assert events[-3:] == list(END)

    one = Continuation()
    one.hear((TextDelta("x"),))
    one.begin(CALL)
    assert one.join((Started("2"), ReasoningDelta("hm"))) == ()


def test_an_answer_that_begins_anew_and_then_differs_is_an_error():
    said = "It was a dark and stormy night. " * 10
    _, events = joined(said, said[:HELD], "Something else")
    assert isinstance(events[-1], Failed) or any(isinstance(event, Failed) for event in events)


@given(st.text(max_size=400), st.text(max_size=400), st.data())
def test_a_piece_that_repeats_nothing_is_given_out_whole(said, rest, data):
    text, pieces, at = "§" + rest, [], 0
    while at < len(text):
        size = data.draw(st.integers(1, 50))
        pieces.append(text[at : at + size])
        at += size
    if "§" not in said:
        assert joined(said, *pieces)[0] == text


@given(st.text(alphabet="abcdefg hij", min_size=5, max_size=400), st.text(max_size=200), st.integers(1, 60))
def test_an_answer_told_from_its_start_is_given_out_once(said, rest, size):
    text = said + "§" + rest
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert joined(said, *pieces)[0] == "§" + rest

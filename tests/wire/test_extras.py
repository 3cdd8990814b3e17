"""What another dialect does not understand is taken out, and nothing else."""

from penstock.call import File, Foreign, Image
from penstock.reply import Ended, PartAdded, Started, TextDelta
from penstock.wire.extras import neutral

OWN = (("timings", b"{}"),)


def test_members_without_a_neutral_form_are_taken_out() -> None:
    events = (
        Started("r", "m", 7, "fp", "flex", OWN),
        TextDelta("Hi"),
        PartAdded(Image("https://x", extra=OWN), 1),
        PartAdded(File("n", extra=OWN)),
        Ended(),
    )

    assert neutral(events) == (
        Started("r", "m", 7, "fp", "flex"),
        TextDelta("Hi"),
        PartAdded(Image("https://x"), 1),
        PartAdded(File("n")),
        Ended(),
    )


def test_events_without_any_are_given_back_as_they_are() -> None:
    events = (Started("r"), PartAdded(Image("https://x")), PartAdded(Foreign("chat", "k", b"{}")), Ended())

    assert neutral(events) is events
    assert neutral(()) == ()

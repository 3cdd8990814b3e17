"""What every stream with an end mark means: complete, cut short, or unreadable, and what of its bytes goes on."""

import pytest

from penstock.errors import UpstreamFailed, UpstreamGarbled
from penstock.reply import Ended, Event, Failed, TextDelta
from penstock.wire.framing import Frame
from penstock.wire.sse_stream import MarkedStreamReader


class Reader(MarkedStreamReader):
    """Each frame is text, `END` the mark, `BROKEN` an error of the provider."""

    MARK = "END"

    def _take(self, frames: list[Frame]) -> tuple[Event, ...]:
        events: list[Event] = []
        self.passed = self._sse.taken
        for frame in frames:
            if frame.data == b"END":
                events.append(Ended())
                self._over = True
                self._late_lf = self.passed.endswith(b"\r")
            elif frame.data == b"BROKEN":
                events.append(Failed(UpstreamFailed("it broke")))
                self._over = True
            elif frame.data == b"HALF":
                events.append(Failed(UpstreamGarbled("cannot be read")))
                self._over = True
            else:
                events.append(TextDelta(frame.data.decode()))
        return tuple(events)


def test_a_stream_that_came_to_its_mark_is_complete_and_nothing_after_it_passes() -> None:
    reader = Reader()
    assert reader.feed(b"data: a\n\ndata: END\n\n") == (TextDelta("a"), Ended())
    assert reader.passed == b"data: a\n\ndata: END\n\n"
    assert reader.feed(b"data: more\n\n") == ()
    assert (reader.passed, reader.end(), reader.passed) == (b"", (), b"")


def test_the_lf_of_a_late_crlf_still_passes() -> None:
    reader = Reader()
    reader.feed(b"data: END\r\n\r")
    assert reader.feed(b"\n") == ()
    assert reader.passed == b"\n"
    assert reader.feed(b"\n") == ()


def test_a_mark_without_its_last_line_end_counts() -> None:
    reader = Reader()
    assert reader.feed(b"data: END") == ()
    assert reader.end() == (Ended(),)


@pytest.mark.parametrize("rest", [b"", b"data: ha"])
def test_a_stream_without_its_mark_was_cut_short(rest: bytes) -> None:
    reader = Reader()
    reader.feed(b"data: a\n\n" + rest)
    (failed,) = [event for event in reader.end() if isinstance(event, Failed)]
    assert isinstance(failed.error, UpstreamGarbled)
    assert "before its end mark, END" in failed.error.message
    assert reader.end() == ()


def test_an_error_of_the_provider_is_the_last_word() -> None:
    reader = Reader()
    events = reader.feed(b"data: BROKEN\n\n")
    assert isinstance(events[-1], Failed)
    assert reader.end() == ()
    late = Reader()
    late.feed(b"data: BROKEN")
    (failed,) = late.end()
    assert isinstance(failed, Failed)
    assert failed.error.message == "it broke"


def test_of_half_a_frame_matters_that_the_rest_is_missing() -> None:
    reader = Reader()
    reader.feed(b"data: HALF")
    (failed,) = reader.end()
    assert isinstance(failed, Failed)
    assert "before its end mark, END" in failed.error.message


def test_what_is_no_stream_fails_at_once() -> None:
    reader = Reader()
    (failed,) = reader.feed(b"data: " + b"x" * 20_000_000)
    assert isinstance(failed, Failed)
    assert reader.feed(b"data: a\n\n") == ()


def test_what_is_no_stream_behind_a_good_frame_fails_with_the_next_look() -> None:
    reader = Reader()
    assert reader.feed(b"data: a\n\ndata: " + b"x" * 20_000_000) == (TextDelta("a"),)
    (failed,) = reader.end()
    assert isinstance(failed, Failed)

"""The judgement on streams: what is complete and what is not."""

import pytest
import streams
import upstream
from streams import Heard

EVENTS = upstream.events()
WHOLE = b"".join(EVENTS)


def test_the_mocks_own_stream_is_complete() -> None:
    assert streams.stream_problem(200, WHOLE) is None


def test_line_ends_and_comments_of_another_writer_do_not_matter() -> None:
    assert streams.stream_problem(200, b": hello\r\n\r\n" + WHOLE.replace(b"\n", b"\r\n")) is None


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (429, b"slow down", "status 429: slow down"),
        (200, b"", "no end mark after 0 events"),
        (200, b"".join(EVENTS[:-1]), "no end mark"),
        (200, b"".join(EVENTS[:40] + EVENTS[41:]), "the text is not"),
        (200, b"".join([EVENTS[1], EVENTS[0], *EVENTS[2:]]), "the text is not"),
        (200, b"".join([*EVENTS[:50], EVENTS[49], *EVENTS[50:]]), "the text is not"),
        (200, b"".join([*EVENTS[:-2], EVENTS[-1]]), "the usage is not"),
        (200, WHOLE.replace(b'"completion_tokens":100', b'"completion_tokens":99'), "the usage is not"),
        (200, b"data: {\n\n" + WHOLE, "a chunk is not one of a chat completion"),
        (200, b'data: {"error":"x"}\n\n' + WHOLE, "a chunk is not one of a chat completion"),
    ],
)
def test_a_stream_that_lacks_anything_is_named(status: int, body: bytes, problem: str) -> None:
    assert str(streams.stream_problem(status, body)).startswith(problem)


def test_torn_streams_give_chunks_but_no_complete_stream() -> None:
    heard = [Heard(200, WHOLE, 0.001, 1.0), Heard(200, WHOLE, 0.003, 1.2), Heard(500, b"oops", 0.001, 0.1)]
    result = streams.judge(4, heard, [b"".join(EVENTS[:10])], 1.5)
    assert (result.streams, result.complete, result.chunks) == (4, 2, 210)
    assert (result.ttft_p50_ms, result.total_p50_ms) == (2.0, 1100.0)
    assert result.problems == ("status 500: oops",)

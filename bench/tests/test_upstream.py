"""The mock provider: sizes and pace of what it sends, and that it costs nothing while nobody asks."""

import json
import sys
import time
from pathlib import Path

import measure
import streams
import upstream
from load import Request, chat_body
from processes import Fleet, Launch, environment, free_port


def test_the_plain_reply_has_about_700_bytes_and_its_usage() -> None:
    body = upstream.plain_reply()
    assert 650 <= len(body) <= 800
    assert json.loads(body)["usage"] == {"prompt_tokens": 206, "completion_tokens": 98, "total_tokens": 304}


def test_the_plain_reply_needs_no_escape_in_an_nginx_string() -> None:
    assert not set(upstream.plain_reply()) & set(b"'$\\")


def test_every_content_chunk_has_300_bytes_but_the_last_which_says_stop() -> None:
    *content, usage, end = upstream.events()
    assert len(content) == upstream.CHUNKS
    assert {len(event) for event in content[:-1]} == {upstream.CHUNK_BYTES}
    assert json.loads(content[-1][6:])["choices"][0]["finish_reason"] == "stop"
    assert json.loads(usage[6:])["usage"]["total_tokens"] == sum(upstream.PACED_TOKENS)
    assert end == b"data: [DONE]\n\n"


def test_no_two_chunks_carry_the_same_text() -> None:
    assert len(set(upstream.chunk_texts())) == upstream.CHUNKS


def test_a_stream_is_one_write_a_chunk_and_one_for_usage_and_end() -> None:
    frames = upstream.http_frames()
    assert len(frames) == upstream.CHUNKS + 1
    assert frames[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert frames[-1].endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_streams_come_whole_at_their_pace_and_an_idle_mock_spends_no_cpu(tmp_path: Path) -> None:
    port = free_port()
    argv = (sys.executable, str(Path(upstream.__file__)), "--port", str(port))
    request = Request(port, "/v1/chat/completions", (), chat_body("m", stream=True))
    with Fleet() as fleet:
        pid = fleet.start(Launch(argv, environment(tmp_path), tmp_path, 0, tmp_path / "out.log"))
        fleet.wait_port(pid, port)
        spent = []
        for _ in range(2):  # before the first stream, and after streams have come and gone
            time.sleep(0.05)
            before = measure.cpu_s(pid)
            time.sleep(0.5)
            spent.append(measure.cpu_s(pid) - before)
            result = streams.run(request, streams=20, passes=1, limit_s=10)
            assert (result.complete, result.chunks, result.problems) == (20, 2000, ())
            assert result.total_p50_ms is not None
            assert 950 <= result.total_p50_ms <= 1300
    assert max(spent) <= 0.1


def test_a_stream_that_is_cut_short_by_the_limit_is_not_complete(tmp_path: Path) -> None:
    port = free_port()
    argv = (sys.executable, str(Path(upstream.__file__)), "--port", str(port))
    request = Request(port, "/v1/chat/completions", (), chat_body("m", stream=True))
    with Fleet() as fleet:
        pid = fleet.start(Launch(argv, environment(tmp_path), tmp_path, 0, tmp_path / "out.log"))
        fleet.wait_port(pid, port)
        result = streams.run(request, streams=3, passes=1, limit_s=0.6)
    assert (result.streams, result.complete) == (3, 0)
    assert 0 < result.chunks < 300


def test_a_gateway_that_nobody_can_reach_gives_no_stream_and_no_crash() -> None:
    result = streams.run(Request(free_port(), "/", (), b""), streams=2, passes=1, limit_s=2)
    assert (result.streams, result.complete, result.chunks, result.ttft_p50_ms) == (2, 0, 0, None)

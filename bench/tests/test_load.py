"""The plain load: wrk's result, the request that is sent, the check of one answer."""

import json
import time
from pathlib import Path

import load
import pytest
import upstream
from load import LoadFailed
from processes import Fleet, Launch, environment, free_port

LINE = (
    'wrk-result {"answers":1000,"refused":10,"duration_us":2000000,"connect":1,"read":2,"write":3,"timeout":4,'
    '"p50_us":150,"p99_us":900,"max_us":1200}'
)


def test_a_result_is_read_from_among_wrks_own_lines() -> None:
    result = load.parse_wrk(f"Running 2s test @ http://x\n  1 threads\n\n{LINE}\n", 16)
    assert (result.connections, result.answers, result.served, result.socket_errors) == (16, 1000, 990, 10)
    assert (result.p50_us, result.p99_us, result.max_us, result.duration_s) == (150, 900, 1200, 2.0)


def test_the_rate_counts_good_answers_only() -> None:
    assert load.parse_wrk(LINE, 16).per_s == 495.0


def test_output_without_a_result_raises_with_what_wrk_said() -> None:
    with pytest.raises(LoadFailed, match="unable to connect"):
        load.parse_wrk("unable to connect to 127.0.0.1:1 Connection refused", 1)


def test_the_request_has_about_one_kilobyte_and_is_a_chat_completion() -> None:
    for stream in (False, True):
        body = load.chat_body("fast", stream=stream)
        assert 950 <= len(body) <= 1150
        assert json.loads(body)["model"] == "fast"
        assert json.loads(body).get("stream", False) is stream


def test_the_mocks_own_answer_has_no_problem() -> None:
    assert load.plain_problem(200, upstream.plain_reply()) is None


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (401, b"no", "status 401: no"),
        (200, b"<html>", "not a chat completion"),
        (200, b"[]", "not a chat completion"),
        (200, b'{"choices":[]}', "not a chat completion"),
        (200, upstream.plain_reply().replace(b"gateway", b"getaway"), "the text is not"),
        (200, upstream.plain_reply().replace(b'"prompt_tokens":206', b'"prompt_tokens":1'), "the usage is not"),
    ],
)
def test_an_answer_that_is_not_the_providers_is_named(status: int, body: bytes, problem: str) -> None:
    assert str(load.plain_problem(status, body)).startswith(problem)


def test_wrk_counts_what_the_mock_answers_and_what_it_refuses(tmp_path: Path) -> None:
    port, env = free_port(), environment(tmp_path)
    config = tmp_path / "mock.conf"
    config.write_text(upstream.nginx_config(port, tmp_path))
    with Fleet() as fleet:
        argv = ("nginx", "-e", str(tmp_path / "e.log"), "-c", str(config))
        pid = fleet.start(Launch(argv, env, tmp_path, 0, tmp_path / "out.log"))
        fleet.wait_port(pid, port)
        began = time.monotonic()
        good = load.wrk(load.Request(port, "/v1/chat/completions", (), load.chat_body("m")), 4, 1, tmp_path)
        bad = load.wrk(load.Request(port, "/nowhere", (), b"{}"), 1, 1, tmp_path)
        assert time.monotonic() - began < 10
    assert good.served == good.answers > 100
    assert 0 < good.p50_us <= good.p99_us <= good.max_us
    assert bad.answers == bad.refused > 10
    assert bad.served == 0

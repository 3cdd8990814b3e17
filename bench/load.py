"""The plain load: wrk in a closed loop, its result as a value, and one checked call by hand. Starts no server.

wrk keeps `connections` calls in flight and sends the next one when an answer is there. It corrects its percentiles for
coordinated omission (a slow answer also counts for the calls that had to wait behind it), so p99 is on the strict side.
When time is up it leaves without waiting for the calls in flight: a gateway may have seen up to `connections` more
calls than wrk counts.
"""

import http.client
import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import upstream

_LUA = Path(__file__).with_name("chat.lua")
_MARK = "wrk-result "
TIMEOUT_S = 10


class LoadFailed(Exception):
    """The load could not be sent or its result could not be read; says what came out instead."""


@dataclass(frozen=True)
class Request:
    """One call as a candidate wants it: where to, with which headers, which body."""

    port: int
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def url(self) -> str:
        """The whole address, for wrk."""
        return f"http://127.0.0.1:{self.port}{self.path}"


@dataclass(frozen=True)
class PlainLoad:
    """What wrk saw. Latencies in microseconds; `answers` counts every complete answer, `refused` those above 399."""

    connections: int
    answers: int
    refused: int
    socket_errors: int
    duration_s: float
    p50_us: float
    p99_us: float
    max_us: float

    @property
    def served(self) -> int:
        """Answers with a good status (no candidate redirects, so these are the 200s)."""
        return self.answers - self.refused

    @property
    def per_s(self) -> float:
        """Good answers a second."""
        return self.served / self.duration_s

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "per_s": round(self.per_s, 1)}


def chat_body(model: str, *, stream: bool = False) -> bytes:
    """Build a chat completion request of about 1 KB."""
    system = "You are a careful assistant. " + upstream.ANSWER[:200]
    user = "Please sum up the following notes in two sentences. " + upstream.ANSWER + " " + upstream.ANSWER[:290]
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
        "temperature": 0.2,
        "max_tokens": 256,
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body, separators=(",", ":")).encode()


def parse_wrk(output: str, connections: int) -> PlainLoad:
    """Read the line that `chat.lua` prints; raises `LoadFailed` with wrk's own words when there is none."""
    line = next((line for line in output.splitlines() if line.startswith(_MARK)), None)
    if line is None:
        raise LoadFailed(f"wrk printed no result; it said: {output.strip()[-500:] or 'nothing'}")
    found = json.loads(line.removeprefix(_MARK))
    return PlainLoad(
        connections=connections,
        answers=found["answers"],
        refused=found["refused"],
        socket_errors=found["connect"] + found["read"] + found["write"] + found["timeout"],
        duration_s=found["duration_us"] / 1e6,
        p50_us=found["p50_us"],
        p99_us=found["p99_us"],
        max_us=found["max_us"],
    )


def wrk(request: Request, connections: int, seconds: int, work: Path) -> PlainLoad:
    """Load `request` with one wrk thread for `seconds` (whole ones: wrk takes no fractions) and return what it saw."""
    body = work / "wrk-body.json"
    body.write_bytes(request.body)
    headers = [part for name, value in request.headers for part in ("-H", f"{name}: {value}")]
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={TIMEOUT_S}s", "-s", str(_LUA)]
    argv += [*headers, request.url, "--", str(body)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 30, check=False)
    except FileNotFoundError as error:
        raise LoadFailed("wrk is not installed; on Debian: apt-get install wrk") from error
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"wrk did not end within {seconds + 30} s") from error
    return parse_wrk(done.stdout + done.stderr, connections)


def call(request: Request, timeout_s: float = 10.0) -> tuple[int, bytes]:
    """Send `request` once on a connection of its own; return status and body. Raises `OSError` or `HTTPException`."""
    connection = http.client.HTTPConnection("127.0.0.1", request.port, timeout=timeout_s)
    try:
        connection.request("POST", request.path, request.body, dict(request.headers))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def plain_problem(status: int, body: bytes) -> str | None:
    """Say what is wrong with a plain answer of the mock that came through a gateway; None when it is whole."""
    if status != http.HTTPStatus.OK:
        return f"status {status}: {body[:300].decode(errors='replace')}"
    try:
        reply = json.loads(body)
        text, usage = reply["choices"][0]["message"]["content"], reply["usage"]
        tokens = (usage["prompt_tokens"], usage["completion_tokens"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return f"not a chat completion ({error!r}): {body[:300].decode(errors='replace')}"
    if text != upstream.ANSWER:
        return f"the text is not the provider's: {text[:80]!r}"
    return None if tokens == upstream.PLAIN_TOKENS else f"the usage is not the provider's: {tokens}"

"""The embedded model as a user meets it: `penstock serve` without a configuration, on one core, and one curl. One command.

`python bench/embedded.py` prints the time from a request to its first token (the first request after the start, and the
median of the following ones), tokens per second over HTTP, and the memory of the process. Nothing is configured: the
model, its tokenizer and NumPy are what `make serve` has.
"""

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import measure
from peers import NotMeasured
from processes import Fleet, Launch, StartFailed, environment, free_port
from startup import ROOT, Figure, healthy

QUESTION = "What is a context window, and what happens when a prompt does not fit into it?"
_POLL_S = 0.005
_SETTLE_S = 2.0


def ask(port: int, *, temperature: float = 0.0) -> tuple[float, float, int]:
    """Ask for a stream; return seconds to the first token, seconds in all, and how many tokens came."""
    body = {
        "model": "penstock-mini",
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 64,
        "temperature": temperature,
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    began = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    reply = connection.getresponse()
    if reply.status != http.HTTPStatus.OK:
        raise NotMeasured(f"the answer was {reply.status}: {reply.read(300)!r}")
    first, usage = 0.0, None
    for raw in reply:
        line = raw.strip()
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line[6:])
        usage = chunk.get("usage") or usage
        if not first and any(choice["delta"].get("content") for choice in chunk["choices"]):
            first = time.perf_counter() - began
    took = time.perf_counter() - began
    connection.close()
    if usage is None or not first:
        raise NotMeasured("the stream had no text or no usage")
    return first, took, usage["completion_tokens"]


def figures(penstock: Path, times: int, core: int) -> list[Figure]:
    """Start penstock without a configuration and ask."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder, Fleet() as fleet:
        work, port = Path(folder), free_port()
        argv = (str(penstock), "serve", "--port", str(port))
        env = environment(work) | {"PENSTOCK_HOME": str(work / "home")}
        pid = fleet.start(Launch(argv, env, work, core, work / "penstock.log"))
        until = time.perf_counter() + 30
        while not healthy(port):
            fleet.check(pid)
            if time.perf_counter() > until:
                raise StartFailed("/healthz did not answer within 30 s")
            time.sleep(_POLL_S)
        time.sleep(_SETTLE_S)  # the time in which a person turns to another terminal
        first = ask(port)[0]
        later = [ask(port, temperature=0.7) for _ in range(times)]
        memory = measure.memory(pid)
    speeds = [(tokens - 1) / (took - began) for began, took, tokens in later if tokens > 1]
    return [
        Figure("first token of the first call after the start", first * 1000, "ms", 100),
        Figure("first token, median of later calls", statistics.median(one[0] for one in later) * 1000, "ms", 100),
        Figure("tokens per second over HTTP, median", statistics.median(speeds), "1/s"),
        Figure("time for 200 tokens", 200 / statistics.median(speeds), "s", 1.0),
        Figure("memory (RSS) with the model loaded", memory.rss_mb, "MB"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=10, help="calls after the first (default 10)")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="the core that it runs on")
    parser.add_argument("--penstock", type=Path, default=ROOT / ".venv/bin/penstock", help="the command to start")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    try:
        found = figures(chosen.penstock.absolute(), chosen.times, chosen.core)
    except (NotMeasured, StartFailed, OSError) as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 3
    if chosen.json:
        print(json.dumps([vars(figure) for figure in found], indent=2))
    else:
        print("\n".join(figure.line() for figure in found))
    return int(any(figure.limit is not None and figure.value > figure.limit for figure in found))


if __name__ == "__main__":
    sys.exit(main())

"""The mock provider: fixed plain replies from nginx, and paced streams from a small server of our own.

nginx answers a plain call at about the cost of the kernel alone, so the figures show the gateway and not the mock. It
cannot pace a stream; `python bench/upstream.py` does: 100 chunks of 300 bytes, one every 10 ms, then a usage chunk
and the end mark, as OpenAI's chat completions send them. Both speak HTTP/1.1 with keep-alive on loopback only.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import cast

import httptools
import uvloop

CHUNKS = 100
CHUNK_BYTES = 300
PACE_S = 0.010
SLOTS = 10  # streams are spread over the pace, so that their chunks do not arrive in one burst
_TICK_S = PACE_S / SLOTS
PLAIN_TOKENS = (206, 98)
PACED_TOKENS = (206, 100)
_CREATED = 1_760_000_000
_SENTENCE = "A gateway reads a call, decides who may make it and where it goes, and passes on what comes back. "


def _text(length: int) -> str:
    return (_SENTENCE * (length // len(_SENTENCE) + 1))[:length].strip()


def _usage(tokens: tuple[int, int]) -> dict[str, int]:
    return {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


ANSWER = _text(330)


def plain_reply() -> bytes:
    """Build the body of every plain answer: a chat completion of about 0.7 KB."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": ANSWER, "refusal": None, "annotations": []},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return _json(
        {
            "id": "chatcmpl-benchBENCHbench",
            "object": "chat.completion",
            "created": _CREATED,
            "model": "mock-model",
            "choices": [choice],
            "usage": _usage(PLAIN_TOKENS),
            "service_tier": "default",
            "system_fingerprint": "fp_bench",
        }
    )


def _chunk(choices: list[dict[str, object]], usage: dict[str, int] | None) -> bytes:
    body = {
        "id": "chatcmpl-benchBENCHbench",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": "mock-model",
        "system_fingerprint": "fp_bench",
        "choices": choices,
        "usage": usage,
    }
    return b"data: " + _json(body) + b"\n\n"


def _delta(text: str, finish: str | None = None) -> bytes:
    return _chunk([{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish}], None)


def chunk_texts() -> list[str]:
    """Write the text of each content chunk: its number first, and so long that its event has 300 bytes."""
    room = CHUNK_BYTES - len(_delta(""))
    return [f"{number:03d} {_text(room)}"[: room - 1] + "." for number in range(CHUNKS)]


def stream_text() -> str:
    """Return the text that a complete stream adds up to."""
    return "".join(chunk_texts())


def events() -> list[bytes]:
    """Build the events of one stream, in order: the content chunks, then usage, then the end mark."""
    texts = chunk_texts()
    content = [_delta(text, "stop" if text is texts[-1] else None) for text in texts]
    return [*content, _chunk([], _usage(PACED_TOKENS)), b"data: [DONE]\n\n"]


def http_frames() -> list[bytes]:
    """Cut one stream into its writes, in chunked transfer coding (RFC 9112, 7.1); the first carries the response head."""
    frames = [f"{len(event):x}\r\n".encode() + event + b"\r\n" for event in events()]
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    usage, end = frames.pop(-2), frames.pop(-1)
    return [head + frames[0], *frames[1:], usage + end + b"0\r\n\r\n"]


def nginx_config(port: int, work: Path) -> str:
    """Configure the plain mock: one worker, no log, one fixed answer."""
    return f"""{nginx_user()}
worker_processes 1;
daemon off;
pid {work}/mock.pid;
error_log {work}/mock.log error;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  {nginx_temp_paths(work)}
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /v1/chat/completions {{
      default_type application/json;
      return 200 '{plain_reply().decode()}';
    }}
  }}
}}
"""


def nginx_user() -> str:
    """Return the directive that lets a worker of root's nginx read our folder; others need none."""
    return "user root;" if os.geteuid() == 0 else ""


def nginx_temp_paths(work: Path) -> str:
    """Return the directives that keep nginx's temporary files inside `work`, so that it needs no right elsewhere."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {work}/nginx-{kind};" for kind in kinds)


class Pacer:
    """Sends each stream's next write once per pace. One timer serves all; a late tick is followed by its successors.

    The timer counts whole milliseconds, and none runs while there is no stream: uvloop rounds a shorter wait down to
    none at all, and a mock that spins would take half of the load's core.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: list[set[Stream]] = [set() for _ in range(SLOTS)]
        self._turn = 0
        self._streams = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, stream: "Stream") -> None:
        """Take a stream in, whose first write has just left."""
        self._streams += 1
        if self._timer is None:
            self._due = self._loop.time() + _TICK_S
            self._timer = self._loop.call_later(_TICK_S, self._tick)
        # The slot that has just been served: the second chunk leaves one pace after the first.
        slot = self._slots[(self._turn - 1) % SLOTS]
        stream.slot = slot
        slot.add(stream)

    def remove(self, stream: "Stream") -> None:
        """Let a stream go that has ended or lost its connection; nothing happens when it has gone already."""
        if stream.slot is not None:
            stream.slot.discard(stream)
            stream.slot = None
            self._streams -= 1

    def _tick(self) -> None:
        now = self._loop.time()
        while self._due <= now:
            for stream in list(self._slots[self._turn % SLOTS]):
                stream.send_next()
            self._turn += 1
            self._due += _TICK_S
        self._timer = self._loop.call_later(_TICK_S, self._tick) if self._streams else None


class Stream(asyncio.Protocol):
    """One connection: every complete request is answered with one paced stream."""

    def __init__(self, pacer: Pacer, frames: list[bytes]) -> None:
        self._pacer, self._frames = pacer, frames
        self._next = 0
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self.slot: set[Stream] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class, of the same shape

    def data_received(self, data: bytes) -> None:
        """Parse what came; what is no HTTP ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.abort()

    def on_message_complete(self) -> None:
        """Answer: the head and the first chunk at once, the rest at the pace."""
        self._next = 0
        self.send_next()
        self._pacer.add(self)

    def send_next(self) -> None:
        """Write the next piece; after the last one the connection waits for its next request."""
        if self._transport is None:
            return
        self._transport.write(self._frames[self._next])
        self._next += 1
        if self._next == len(self._frames):
            self._pacer.remove(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop writing: the gateway hung up."""
        del exc
        self._transport = None
        self._pacer.remove(self)


async def serve(port: int) -> None:
    """Serve paced streams on loopback until the process is ended."""
    loop = asyncio.get_running_loop()
    pacer, frames = Pacer(loop), http_frames()
    server = await loop.create_server(lambda: Stream(pacer, frames), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


def main() -> int:
    parser = argparse.ArgumentParser(description="The paced mock provider of the benchmark.")
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))
    return 0


if __name__ == "__main__":
    sys.exit(main())

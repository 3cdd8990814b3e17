"""On the verbatim lane the client gets the very bytes that the provider sent: a recorder stands between the two."""

import asyncio
import json
import threading
import time

import pytest
from tests.e2e.conftest import served
from tests.e2e.test_openai_client import CASES, HI, raw_reply


class Recorder:
    """A TCP relay to the model server that keeps the bytes of the replies."""

    def __init__(self, port):
        self.to = port
        self.seen = bytearray()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self.relay, "127.0.0.1", 0), self.loop
        ).result()
        self.port = self.server.sockets[0].getsockname()[1]

    async def relay(self, reader, writer):
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.to)

        async def copy(source, sink, keep):
            try:
                while data := await source.read(65536):
                    if keep:
                        self.seen += data
                    sink.write(data)
                    await sink.drain()
            except ConnectionError:
                pass
            finally:
                sink.close()

        await asyncio.gather(copy(reader, up_writer, keep=False), copy(up_reader, writer, keep=True))

    def body(self):
        """The body of the only reply seen, without HTTP's framing."""
        head, _, rest = self.complete().partition(b"\r\n\r\n")
        self.seen.clear()
        if b"chunked" not in head.lower():
            return rest
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            body, rest = body + rest[:length], rest[length + 2 :]
        return body

    def complete(self):
        """Wait for the mark that ends the chunks: the gateway has answered before it comes, since it knows the last event."""
        for _ in range(500):
            if b"chunked" not in bytes(self.seen).lower() or self.seen.endswith(b"\r\n0\r\n\r\n"):
                break
            time.sleep(0.001)
        return bytes(self.seen)

    def close(self):
        async def stop():
            self.server.close()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()

        asyncio.run_coroutine_threadsafe(stop(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def recorded(llama, tmp_path_factory):
    recorder = Recorder(int(llama.rsplit(":", 1)[1].split("/")[0]))
    config = f"""
[providers.box]
kind = "openai"
base_url = "http://127.0.0.1:{recorder.port}/v1"
[models.fast]
targets = ["box/tiny"]
"""
    with served(tmp_path_factory.mktemp("verbatim"), config) as gateway:
        yield recorder, gateway
    recorder.close()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("streamed", [None, False, True])
def test_the_body_is_the_providers_byte_for_byte(recorded, case, streamed):
    recorder, gateway = recorded
    options = dict(CASES[case])
    body = (
        {"model": "fast", "messages": HI, "max_tokens": 12, "temperature": 0} | options.pop("extra_body", {}) | options
    )
    if streamed is not None:
        body |= {"stream": True, "stream_options": {"include_usage": streamed}}
    recorder.seen.clear()
    reply, data = raw_reply(f"{gateway.url}/v1", json.dumps(body))
    sent = recorder.body()

    assert reply.status == 200
    assert reply.headers["x-penstock-lane"] == "verbatim"
    if streamed is False:
        frames = sent.split(b"\n\n")
        sent = b"\n\n".join(frame for frame in frames if b'"choices":[]' not in frame)
    assert data == sent

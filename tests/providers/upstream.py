"""A provider on loopback that answers with the bytes it is told, and remembers what it was sent."""

import asyncio
from contextlib import asynccontextmanager


class Upstream:
    """Replies are taken from a list, the last one again and again; each is bytes, or pieces with waits (seconds) between."""

    def __init__(self, *replies):
        self.replies = list(replies)
        self.requests = []
        self.closed = asyncio.Event()
        self.port = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def body(self):
        return self.requests[-1].partition(b"\r\n\r\n")[2]

    @property
    def head(self):
        return self.requests[-1].partition(b"\r\n\r\n")[0]

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                for piece in [reply] if isinstance(reply, bytes) else reply:
                    if isinstance(piece, float):
                        if not await self.wait(reader, piece):
                            return
                    elif piece is None:
                        return
                    else:
                        writer.write(piece)
                        await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed.set()
            writer.close()

    @staticmethod
    async def wait(reader, seconds):
        """Wait, unless the client goes away meanwhile."""
        try:
            return bool(await asyncio.wait_for(reader.read(1), seconds))
        except TimeoutError:
            return True


def whole(body, status="200 OK", content_type="application/json", headers=""):
    """A reply in one piece."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def stream(*frames, end=True):
    """A reply as an event stream, one chunk per frame; pieces for `Upstream`."""
    yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    for frame in frames:
        if isinstance(frame, bytes):
            yield b"%x\r\n%b\r\n" % (len(frame), frame)
        else:
            yield frame
    if end:
        yield b"0\r\n\r\n"


@asynccontextmanager
async def upstream(*replies):
    """Serve for the length of a block."""
    one = Upstream(*replies)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()

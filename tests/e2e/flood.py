"""More load than a server can take: `python flood.py PORT CLIENTS SECONDS`; prints how many were answered and refused."""

import asyncio
import sys
import time

BODY = b'{"model":"fast","messages":[{"role":"user","content":"hi"}]}'
CALL = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


class Client(asyncio.Protocol):
    """Asks again as soon as it has an answer."""

    answered = refused = lost = 0

    def connection_made(self, transport):
        self.transport = transport
        transport.write(CALL)

    def data_received(self, data):
        if data.startswith(b"HTTP/1.1 200"):
            Client.answered += 1
        elif data.startswith(b"HTTP/1.1 503") and b"retry-after: " in data:
            Client.refused += 1
        self.transport.write(CALL)

    def connection_lost(self, error):
        Client.lost += 1


async def main(port, clients, seconds):
    loop = asyncio.get_running_loop()
    until = time.monotonic() + seconds
    for _ in range(clients):
        await loop.create_connection(Client, "127.0.0.1", port)
    await asyncio.sleep(until - time.monotonic())
    print(Client.answered, Client.refused, Client.lost, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))

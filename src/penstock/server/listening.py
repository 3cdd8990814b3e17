"""Sockets that one or several processes listen on: bound once, handed to each of them, and kept by whoever bound them.

Knows no process and no loop: `workers` forks the processes, `http11` accepts. What waits in a socket for a process that
died is there for the next one, as long as the binder keeps the socket open. A port that somebody else has is waited for:
the workers of a supervisor that was killed have it until they have seen that they are alone.
"""

import logging
import os
import sys
import time
from collections.abc import Iterable
from errno import EADDRINUSE
from socket import (
    AF_INET6,
    AI_PASSIVE,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SOCK_STREAM,
    SOL_SOCKET,
    getaddrinfo,
)
from socket import socket as Socket  # noqa: N812 - a class
from typing import Any, Final

__all__ = ("Socket", "bind", "doubles")

log = logging.getLogger("penstock")

BACKLOG: Final = 2048
ACCEPTS: Final = 8
"""Connections that a listening socket may bring in one turn of the loop."""
PATIENCE_S: Final = 2.5
"""How long a port that is in use is waited for: a worker that starts sees only then that its supervisor is gone."""
_PAUSE_S: Final = 0.05


def bind(host: str, port: int, count: int) -> list[list[Socket]]:
    """Bind and listen for `count` processes: for each the sockets of every address of the host.

    On Linux each of several processes has sockets of its own and the kernel spreads connections over them
    (SO_REUSEPORT); elsewhere all have the same ones. Raises OSError; where the port is in use, after `PATIENCE_S`.
    """
    until = None
    while True:
        try:
            return _bind(host, port, count)
        except OSError as error:
            now = time.monotonic()
            if error.errno != EADDRINUSE or (until is not None and now >= until):
                raise
            if until is None:
                until = now + PATIENCE_S
                log.warning("port %d of %s is in use; waiting %g s for whoever has it to end", port, host, PATIENCE_S)
        time.sleep(_PAUSE_S)


def _bind(host: str, port: int, count: int) -> list[list[Socket]]:
    found = getaddrinfo(host, port, type=SOCK_STREAM, flags=AI_PASSIVE)
    addresses = list(dict.fromkeys((family, place) for family, _, _, _, place in found))
    share = count > 1 and sys.platform == "linux"
    rows: list[list[Socket]] = []
    try:
        rows.append([])
        for family, place in addresses:
            where = (place[0], port, *place[2:])
            if share and port:
                _listen(family, where, several=False).close()  # is it anybody else's?
            rows[0].append(_listen(family, where, several=share))
            port = port or rows[0][0].getsockname()[1]
        for _ in range(1, count):
            rows.append([])
            for family, place in addresses:
                where = (place[0], port, *place[2:])
                rows[-1].append(_listen(family, where, several=True) if share else rows[0][len(rows[-1])].dup())
    except OSError:
        for row in rows:
            for sock in row:
                sock.close()
        raise
    return rows


def doubles(sockets: Iterable[Any]) -> list[Socket]:
    """Give the same sockets again, so that more is accepted in one turn: a loop takes one connection from each of them."""
    return [Socket(fileno=os.dup(one.fileno())) for one in list(sockets) * (ACCEPTS - 1)]


def _listen(family: int, where: tuple[Any, ...], *, several: bool) -> Socket:
    sock = Socket(family, SOCK_STREAM)
    try:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        if several:
            sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        if family == AF_INET6:
            sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock

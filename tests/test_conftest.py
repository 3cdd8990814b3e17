"""The guard around the suite works: no test can reach another machine unnoticed."""

import asyncio
import os
import socket
from pathlib import Path

import pytest
import uvloop

FOREIGN = ("192.0.2.1", 9)  # reserved for documentation by RFC 5737


def test_a_socket_may_not_connect_to_another_machine() -> None:
    with socket.socket() as ours, pytest.raises(RuntimeError, match=r"tried to reach '192\.0\.2\.1'"):
        ours.connect(FOREIGN)
    with socket.socket() as ours, pytest.raises(RuntimeError, match="tests talk to"):
        ours.connect_ex(FOREIGN)


def test_a_host_name_is_refused_before_it_is_looked_up() -> None:
    with socket.socket() as ours, pytest.raises(RuntimeError, match=r"example\.com"):
        ours.connect(("example.com", 80))


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_neither_event_loop_reaches_another_machine(run) -> None:
    async def reach() -> None:
        await asyncio.get_running_loop().create_connection(asyncio.Protocol, *FOREIGN)

    with pytest.raises(RuntimeError, match="tests talk to"):
        run(reach())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_this_machine_may_be_reached(run) -> None:
    async def reach() -> bytes:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        said = await reader.read()
        writer.close()
        server.close()
        await server.wait_closed()
        return said

    assert run(reach()) == b""


def test_a_home_of_its_own_holds_nothing_of_the_machine(tmp_home: Path, tmp_path: Path) -> None:
    assert os.environ["PENSTOCK_HOME"] == str(tmp_home)
    assert tmp_home.is_relative_to(tmp_path)
    assert not [name for name in os.environ if name.endswith("_API_KEY")]

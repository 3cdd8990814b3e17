"""Sockets for several processes: every one of them is heard, and a port that is taken is said to be."""

import errno
import select
import socket
import sys
from types import SimpleNamespace

import pytest

from penstock.server import listening
from penstock.server.listening import ACCEPTS, bind, doubles


@pytest.fixture
def bound():
    rows = []

    def make(*arguments):
        rows.extend(made := bind(*arguments))
        return made

    yield make
    for row in rows:
        for sock in row:
            sock.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel spreads connections on Linux only")
def test_the_kernel_spreads_connections_over_the_processes_sockets(bound):
    rows = bound("127.0.0.1", 0, 3)
    port = rows[0][0].getsockname()[1]
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(64)]
    ready, _, _ = select.select([row[0] for row in rows], [], [], 1)
    for client in clients:
        client.close()

    assert {row[0].getsockname()[1] for row in rows} == {port}
    assert len(ready) == 3


def test_elsewhere_all_processes_have_the_same_sockets(bound, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    one, other = bound("127.0.0.1", 0, 2)
    client = socket.create_connection(one[0].getsockname())
    one[0].close()
    select.select([other[0]], [], [], 1)
    taken, _ = other[0].accept()
    client.sendall(b"heard")

    assert taken.recv(5) == b"heard"
    for sock in (client, taken):
        sock.close()


def test_every_address_of_a_name_is_bound_to_the_same_port(bound, monkeypatch):
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(listening, "getaddrinfo", lambda *_, **__: found)

    rows = bound("both", 0, 2)

    assert [[sock.getsockname()[0] for sock in row] for row in rows] == [["::1", "127.0.0.1"]] * 2
    assert len({sock.getsockname()[1] for row in rows for sock in row}) == 1


@pytest.fixture
def passing(monkeypatch):
    """Time that passes only in waiting; what is to happen in a wait can be appended."""
    now, happens = [0.0], []

    def sleep(seconds):
        now[0] += seconds
        if happens:
            happens.pop(0)()

    monkeypatch.setattr(listening, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return SimpleNamespace(now=now, happens=happens)


def test_a_port_is_waited_for_that_another_process_is_about_to_give_back(bound, passing, caplog):
    other = socket.create_server(("127.0.0.1", 0))
    port = other.getsockname()[1]
    passing.happens += [lambda: None, other.close]

    rows = bound("127.0.0.1", port, 2)

    assert rows[1][0].getsockname()[1] == port
    assert passing.now[0] == pytest.approx(0.1)
    assert caplog.messages == [f"port {port} of 127.0.0.1 is in use; waiting 2.5 s for whoever has it to end"]


def test_what_else_stands_against_an_address_is_told_at_once(passing):
    with pytest.raises(OSError, match="assign requested address"):
        bind("192.0.2.1", 0, 1)

    assert passing.now[0] == 0


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("shares", [False, True])
def test_a_port_that_stays_taken_is_refused_even_where_the_other_would_share_it(shares, count, passing):
    with socket.socket() as other:
        if shares:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use") as failed:
            bind("127.0.0.1", other.getsockname()[1], count)

    assert failed.value.errno == errno.EADDRINUSE
    assert passing.now[0] == pytest.approx(listening.PATIENCE_S, abs=0.1)


def test_a_port_of_a_server_that_has_ended_can_be_bound_at_once(bound):
    rows = bound("127.0.0.1", 0, 1)
    port = rows[0][0].getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    rows[0][0].setblocking(True)
    taken, _ = rows[0][0].accept()
    taken.close()  # first, so that the port is in TIME_WAIT
    client.close()
    rows[0][0].close()

    assert bound("127.0.0.1", port, 2)[1][0].getsockname()[1] == port


def test_a_doubled_socket_listens_at_the_same_place(bound):
    ((one,),) = bound("127.0.0.1", 0, 1)
    more = doubles([one])
    try:
        assert len(more) == ACCEPTS - 1
        assert {sock.getsockname() for sock in more} == {one.getsockname()}
        assert one.fileno() not in {sock.fileno() for sock in more}
    finally:
        for sock in more:
            sock.close()

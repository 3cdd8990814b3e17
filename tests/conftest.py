"""For every test: the seed in the header, no address but this machine's, and a home of its own on request."""

import gc
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator, Iterator
from functools import lru_cache, wraps
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Any

import pytest
import uvloop

import penstock.gateway
import penstock.plugins
from penstock.routing.catalog import read_catalog

# A shell starts its background jobs with SIGINT ignored, and processes that tests start and interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header(config: pytest.Config) -> list[str]:
    seed = config.getoption("randomly_seed", None)
    return [
        f"random seed: {seed} (the same order again: --randomly-seed={seed})",
        f"penstock under test: {Path(penstock.__file__).parent}",
    ]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Have the garbage collector leave alone what stays to the end: 15,000 tests and all that they import.

    Otherwise it would go through them again and again: half a second whenever a test asks for a full collection.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def refuse_foreign(address: object) -> None:
    """Raise for an address that is not this machine's: neither loopback nor a Unix socket."""
    host = address[0] if isinstance(address, tuple) and address else address
    if isinstance(address, str | bytes) or host in {"localhost", "", None}:
        return
    try:
        is_loopback = ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise RuntimeError(f"A test tried to reach {host!r}; tests talk to 127.0.0.1 only.")


@pytest.fixture(autouse=True, scope="session")
def loopback_only() -> Iterator[None]:
    """Refuse connections to other machines, in Python's sockets and in uvloop, which has its own."""

    def checked(connect: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(connect)
        def wrapper(self: socket.socket, address: object, /, *rest: Any) -> Any:
            refuse_foreign(address)
            return connect(self, address, *rest)

        return wrapper

    def checked_loop(create_connection: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(create_connection)
        def wrapper(self: uvloop.Loop, factory: Any, host: Any = None, *args: Any, **options: Any) -> Any:
            refuse_foreign((host,))
            return create_connection(self, factory, host, *args, **options)

        return wrapper

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", checked(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", checked(socket.socket.connect_ex))
        patch.setattr(uvloop.Loop, "create_connection", checked_loop(uvloop.Loop.create_connection))
        yield


@pytest.fixture(autouse=True, scope="session")
def read_once() -> Iterator[None]:
    """Have the facts of models parsed and the plugins of this machine looked up once, not by each of 1,000 gateways."""

    @lru_cache
    def found(group: str, path: tuple[str, ...]) -> EntryPoints:
        return entry_points(group=group)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(penstock.gateway, "read_catalog", lru_cache(8)(read_catalog))
        patch.setattr(penstock.plugins, "entry_points", lambda group: found(group, tuple(sys.path)))
        yield


@pytest.fixture
def tmp_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `PENSTOCK_HOME`, and none of the settings and keys that this machine's owner may have exported."""
    for name in list(os.environ):
        if name.startswith("PENSTOCK_") or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("PENSTOCK_HOME", str(home))
    return home

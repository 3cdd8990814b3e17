"""Runs the server: one gateway, one socket, from start to drained.

The only place that chooses the event loop. Signals: SIGTERM and SIGINT drain (readiness off at once, calls in flight end,
at most `drain_s`), a second one ends what is left.
"""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable
from ipaddress import ip_address

import uvloop

from penstock.errors import ConfigError, Mistake
from penstock.gateway import Gateway, start
from penstock.server.admin import control_plane
from penstock.server.app import App
from penstock.server.http11 import Limits, Server
from penstock.server.tls import SSLContext, server_context
from penstock.settings import Config

log = logging.getLogger("penstock")

YOUNG, MIDDLE, OLD = 20_000, 50, 100
"""Garbage collection: what lives through start-up is frozen, and what a call makes is freed by reference counts."""


def run(config: Config, announce: Callable[[str, Gateway], None]) -> None:
    """Serve until a signal ends it; `announce` is told the base URL once it answers. Raises ConfigError, OSError."""
    uvloop.run(_serve(config, announce))


async def _serve(config: Config, announce: Callable[[str, Gateway], None]) -> None:
    settings = config.server
    gateway = start(config)
    try:
        _refuse_open_door(config, gateway)
        app = App(gateway, control_plane(gateway))
        server = Server(app, app.refuse, _limits(config), on_crash=_crashed)
        await server.start(settings.host, settings.port, ssl=_tls(config))
        sys.set_asyncgen_hooks(firstiter=None)  # a weak reference per call, for generators that we close ourselves
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG, MIDDLE, OLD)
        scheme = "https" if settings.tls_cert else "http"
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        asked = asyncio.create_task(_signalled())
        await asyncio.sleep(0)  # the handlers stand before anybody is told that there is something to end
        announce(f"{scheme}://{host}:{server.port}", gateway)
        warming = asyncio.create_task(gateway.warm())
        await asked
        app.ready = False
        cut = asyncio.create_task(server.drain(settings.drain_s))
        again = asyncio.create_task(_signalled())
        await asyncio.wait({cut, again}, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        await server.close()
        cut.cancel()
        await warming
    finally:
        await gateway.close()


def _limits(config: Config) -> Limits:
    settings = config.server
    return Limits(
        body_bytes=settings.max_body_bytes, connections=settings.max_connections, keepalive_s=settings.keepalive_s
    )


def _refuse_open_door(config: Config, gateway: Gateway) -> None:
    """Without any key the gateway answers on loopback only."""
    host = config.server.host
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and gateway.keys.empty:
        raise ConfigError(
            config.source,
            (
                Mistake(
                    "server.host",
                    f"{host} can be reached from elsewhere and there is no key yet.",
                    None,
                    "Make one first: penstock keys create.",
                ),
            ),
        )


def _tls(config: Config) -> SSLContext | None:
    settings = config.server
    if settings.tls_cert is None:
        return None
    try:
        return server_context(settings.tls_cert, settings.tls_key)
    except OSError as error:
        mistake = Mistake("server.tls_cert", f"the certificate and its key cannot be loaded: {error}.")
        raise ConfigError(config.source, (mistake,)) from None


async def _signalled() -> None:
    """Wait for the next signal that asks to end."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()


def _crashed(error: BaseException) -> None:
    """Tell the log of a defect; the client has got a plain 500."""
    log.error("a request failed", exc_info=error)

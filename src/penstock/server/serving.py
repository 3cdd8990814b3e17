"""The server while it runs: the gateway that answers now, and what can be done with it.

A changed configuration is taken over by putting a gateway of its own in the place of the one before, in one assignment:
calls that have begun end with the old one, and no call is between the two. What cannot be had without listening anew
(address, port, workers) is told to need a restart. Where there are several workers, each of them answers for all: it asks
the others through the supervisor.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from time import monotonic, time_ns
from typing import Any

import msgspec

from penstock.errors import ConfigError, Mistake, PenstockError
from penstock.gateway import Gateway
from penstock.ledger.idempotency import Replies
from penstock.server.admin import control_plane
from penstock.server.app import App
from penstock.server.channel import Channel, What
from penstock.server.exposition import joined
from penstock.server.http11 import Server
from penstock.server.idempotency import Idempotency
from penstock.server.live import HealthReport, WorkerHealth
from penstock.server.presence import Reloaded
from penstock.server.request import Limits
from penstock.server.tls import Certificate, SSLContext, server_context
from penstock.settings import Config

log = logging.getLogger("penstock")

URGENT = ("/healthz", "/readyz")
FIXED = (("server", "host"), ("server", "port"), ("server", "workers"), ("ledger", "url"), ("ledger", "sync"))
"""What holds from the start to the end of a process."""


class Serving:
    """One process of the server. `channel` leads to the others, where there are any."""

    def __init__(self, gateway: Gateway, read: Callable[[], Config], channel: Channel | None = None) -> None:
        """Serve with `gateway`; `read` gives the configuration anew. Raises ConfigError for a certificate."""
        self._started = config = gateway.config
        self._read = read
        self._channel = channel
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.once = Idempotency(Replies(config.home, time_ns), config.server.idempotency_s)
        self.app = App(gateway, control_plane(self), self.once)
        self.server = Server(self.app, self.app.refuse, limits_of(config), on_crash=crashed, urgent=URGENT)
        self.server.at_once = self.app.at_once
        self.certificate = _certificate(config)

    @property
    def gateway(self) -> Gateway:
        """The one that answers now."""
        return self.app.gateway

    # -- the configuration --

    async def reload(self) -> Reloaded:
        """Take the configuration over, in every worker; say what came of it."""
        if self._channel is None:
            return await self.take_over()
        return msgspec.json.decode(await self._channel.ask("reload"), type=Reloaded)

    async def take_over(self) -> Reloaded:
        """Take the configuration over in this process, or keep the one before and say why."""
        async with self._turn:
            old = self.gateway
            try:
                config = await asyncio.to_thread(self._read)
                context = new_context(config)
                successor = old.succeed(config)
            except (PenstockError, OSError) as error:
                return refused(old.config, error)
            self.app.gateway = successor
            self.server.limits = limits_of(config)
            self.once.keep_s = config.server.idempotency_s
            if context is not None and self.certificate is not None:
                self.certificate.replace(context)
            self.keep(old.retire())
            self.keep(successor.warm())
            log.warning("the configuration %s was taken over; its hash is %s", config.source, config.hash)
            return Reloaded(True, config.source, config.hash, needing_restart(self._started, config))

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Do some work beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def retired(self, timeout_s: float) -> None:
        """Wait for gateways whose last calls are ending, and for whatever else is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    # -- what it says of itself --

    async def metrics(self) -> bytes:
        """Write the metrics of every worker in Prometheus's text format."""
        if self._channel is None:
            return self.gateway.metrics.exposition()
        return joined(await self._channel.gather("metrics"))

    async def health(self) -> HealthReport:
        """Say how every worker does."""
        if self._channel is None:
            return HealthReport((self._health(1),))
        parts = await self._channel.gather("health")
        return HealthReport(tuple(msgspec.json.decode(parts[number], type=WorkerHealth) for number in sorted(parts)))

    def _health(self, number: int) -> WorkerHealth:
        gateway, server = self.gateway, self.server
        return WorkerHealth(
            worker=number,
            pid=os.getpid(),
            ready=self.app.ready,
            config=gateway.config.hash,
            connections=server.connections,
            in_flight=gateway.in_flight,
            waiting=server.waiting,
            shed=server.shed,
            targets=gateway.health.states(monotonic()),
        )

    async def answer(self, what: What) -> bytes:
        """Answer for this process alone, as the supervisor asks."""
        match what:
            case "metrics":
                return self.gateway.metrics.exposition()
            case "health":
                return msgspec.json.encode(self._health(self._channel.number if self._channel else 1))
            case "reload":
                return msgspec.json.encode(await self.take_over())


def limits_of(config: Config) -> Limits:
    """Give what a client may ask of the server."""
    settings = config.server
    return Limits(
        body_bytes=settings.max_body_bytes,
        connections=settings.max_connections,
        keepalive_s=settings.keepalive_s,
        busy_poll_s=settings.busy_poll_s,
    )


def new_context(config: Config) -> SSLContext | None:
    """Load the certificate of a configuration, if it has one. Raises ConfigError."""
    settings = config.server
    if settings.tls_cert is None:
        return None
    try:
        return server_context(settings.tls_cert, settings.tls_key)
    except OSError as error:
        raise _unloadable(config, error) from None


def _certificate(config: Config) -> Certificate | None:
    settings = config.server
    if settings.tls_cert is None:
        return None
    try:
        return Certificate(settings.tls_cert, settings.tls_key)
    except OSError as error:
        raise _unloadable(config, error) from None


def _unloadable(config: Config, error: OSError) -> ConfigError:
    mistake = Mistake("server.tls_cert", f"the certificate and its key cannot be loaded: {error}.")
    return ConfigError(config.source, (mistake,))


def needing_restart(started: Config, config: Config) -> tuple[str, ...]:
    """Give the keys that differ from those that a process was started with, and that it cannot change."""
    keys = [
        f"{table}.{key}"
        for table, key in FIXED
        if getattr(getattr(started, table), key) != getattr(getattr(config, table), key)
    ]
    if (started.server.tls_cert is None) != (config.server.tls_cert is None):
        keys.append("server.tls_cert")
    return tuple(keys)


def refused(holding: Config, error: PenstockError | OSError) -> Reloaded:
    """Say why a configuration was not taken over, and which one goes on; every mistake is logged."""
    if isinstance(error, ConfigError):
        source, mistakes = error.source, error.mistakes
    else:
        source, mistakes = holding.source, (Mistake("the configuration", f"cannot be taken over: {error}"),)
    log.error("the configuration was not taken over, the one before goes on: %s", error)
    return Reloaded(False, source, holding.hash, mistakes=mistakes)


def crashed(error: BaseException) -> None:
    """Tell the log of a defect; the client has got a plain 500."""
    log.error("a request failed", exc_info=error)

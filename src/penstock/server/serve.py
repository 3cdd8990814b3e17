"""Runs a process of the server: one gateway, its sockets, from start to drained.

The only place that chooses the event loop. SIGTERM drains: readiness is off at once; where somebody has ever asked for
it, new connections are still served for a moment, so that whoever watches it finds out before the door closes; calls in
flight end, within `drain_s`. SIGINT does so without that moment, a second signal ends what is left. SIGHUP takes the
configuration over. A worker gets its orders from its supervisor instead, but for SIGTERM.
"""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final

import uvloop
from msgspec import Struct

from penstock.errors import ConfigError, Mistake
from penstock.gateway import Gateway, start
from penstock.server.channel import Channel, Order
from penstock.server.listening import Socket, bind
from penstock.server.presence import Presence
from penstock.server.serving import Serving
from penstock.settings import Config

log = logging.getLogger("penstock")

YOUNG, MIDDLE, OLD = 20_000, 50, 100
"""Garbage collection: what lives through start-up is frozen, and what a call makes is freed by reference counts."""
NOTICE_S: Final = 1.0
"""How long new connections are still served once readiness is off."""
RETIRING_S: Final = 1.0

Announce = Callable[[str, Gateway], None]
Read = Callable[[], Config]


class Duty(Struct, frozen=True):
    """What a process has to do.

    read      gives the configuration anew
    announce  is told the base URL once the server answers
    channel   leads to the supervisor, if this is a worker; `socks` are then what it listens on, at `url`
    """

    read: Read
    announce: Announce
    channel: Channel | None = None
    socks: Sequence[Socket] = ()
    url: str = ""


class Ending:
    """Who has asked to end: the first asks for a drain, the next for an end at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()
        self.patient = False

    def ask(self, *, patient: bool) -> None:
        """Ask once more."""
        if self.asked.is_set():
            self.at_once.set()
        self.patient = patient
        self.asked.set()


def run(config: Config, duty: Duty) -> None:
    """Serve until a signal ends it. Raises ConfigError, OSError."""
    uvloop.run(_serve(config, duty))


async def _serve(config: Config, duty: Duty) -> None:
    gateway = start(config)
    try:
        _refuse_open_door(config, gateway)
        serving = Serving(gateway, duty.read, duty.channel)
        tls = None if serving.certificate is None else serving.certificate.context
        socks = duty.socks or bind(config.server.host, config.server.port, 1)[0]
        await serving.server.start(socks, ssl=tls)
        gateway.reservations.gather(serving.server.outbox, gateway.ledger)
    except BaseException:
        await gateway.close()
        raise
    sys.set_asyncgen_hooks(firstiter=None)  # a weak reference per call, for generators that we close ourselves
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    presence = None
    try:
        ending = Ending()
        if duty.channel is None:
            url = base_url(config, serving.server.port)
            presence = Presence.make(config.home, url)
            await _alone(serving, ending, presence)
            duty.announce(url, gateway)
        else:
            _under(duty, duty.channel, serving, ending)
        warming = asyncio.create_task(gateway.warm())
        await ending.asked.wait()
        await _end(serving, ending)
        await warming
    finally:
        if presence is not None:
            presence.close()
        if duty.channel is not None:
            duty.channel.close()
        await serving.gateway.close()


async def _alone(serving: Serving, ending: Ending, presence: Presence | None) -> None:
    """Hear signals."""

    async def reload() -> None:
        reloaded = await serving.take_over()
        if presence is not None:
            presence.tell(reloaded)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: ending.ask(patient=True))
    loop.add_signal_handler(signal.SIGINT, lambda: ending.ask(patient=False))
    loop.add_signal_handler(signal.SIGHUP, lambda: serving.keep(reload()))
    await asyncio.sleep(0)  # the handlers stand before anybody is told that there is something to end


def _under(duty: Duty, channel: Channel, serving: Serving, ending: Ending) -> None:
    """Hear the supervisor; once it is gone, end as well."""

    def obey(order: Order | None) -> None:
        if order is None:
            log.error("the supervisor is gone: worker %d ends as well", channel.number)
            ending.ask(patient=False)
        elif order.what == "announce":
            duty.announce(duty.url, serving.gateway)
        elif order.what == "drain":
            ending.ask(patient=order.patient)
        else:
            ending.ask(patient=False)
            ending.at_once.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: ending.ask(patient=True))
    channel.open(obey, serving.answer)


async def _end(serving: Serving, ending: Ending) -> None:
    """Drain: readiness off, calls in flight end, at most `drain_s` in all; a second signal ends what is left."""
    serving.app.ready = False
    server, left_s = serving.server, serving.gateway.config.server.drain_s
    again = asyncio.create_task(ending.at_once.wait())
    if ending.patient and serving.app.watched:
        server.notice()
        notice_s = min(NOTICE_S, left_s)
        left_s -= notice_s
        await asyncio.wait([again], timeout=notice_s)
    drained = asyncio.create_task(server.drain(left_s))
    await asyncio.wait({drained, again}, return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    await server.close()
    drained.cancel()
    await serving.once.close(RETIRING_S)
    await serving.retired(RETIRING_S)


def base_url(config: Config, port: int) -> str:
    """Give the address under which a server answers."""
    host = config.server.host
    return f"{'https' if config.server.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


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

"""Posts alerts to a webhook: in order, one at a time, and never in anybody's way.

`post` only puts a body into a queue of at most `QUEUE`; beyond that the oldest goes, and is counted. A task takes them out:
5 s for a try, up to `TRIES` tries with growing pauses after a failed connection, 408, 429 or 5xx (as long as
`retry-after` asks, within a minute), and none after any other status. A redirect is not followed. `close` gives what is
left two seconds.

The address is a credential: no log line, error or repr shows it or any part of it, host included. Place in the line: beside
it; `pool.py` connects, `alarms.py` decides what is posted.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from penstock.errors import ConfigError, Mistake
from penstock.providers.exchange import Fault, Limits
from penstock.providers.failures import retry_after_s
from penstock.providers.pool import Address, Pool, SSLContext, proxy_for
from penstock.settings import Config, Secret

log = logging.getLogger("penstock")

TRY_S: Final = 5.0
TRIES: Final = 5
PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0)
LONGEST_PAUSE_S: Final = 60.0
CLOSING_S: Final = 2.0
QUEUE: Final = 256

_LIMITS: Final = Limits(
    connect_s=TRY_S, first_byte_s=TRY_S, idle_s=TRY_S, keepalive_s=10.0, connections=2, reply_bytes=65_536
)

Reason = Literal["dropped", "refused", "unreachable", "closing"]
"""Why an alert was not delivered: too many waited, the webhook did not want it, it did not answer well in time, or the end."""


class Delivery(Struct, frozen=True):
    """What came of one try: the status that the webhook answered with, or what went wrong before there was one."""

    status: int | None
    fault: str = ""
    retry_after_s: float | None = None
    at_once: bool = False

    @property
    def arrived(self) -> bool:
        """Whether the webhook took it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def passing(self) -> bool:
        """Whether another try makes sense."""
        return self.status is None or self.status in {408, 429} or self.status >= 500

    def __str__(self) -> str:
        return self.fault if self.status is None else f"it answered with status {self.status}"


class Hook:
    """One address that can be posted to. `proxies` are the proxy variables of the environment. Raises ConfigError."""

    __slots__ = ("_head", "_hidden", "_pool", "reference")

    def __init__(self, url: Secret, proxies: Sequence[tuple[str, Secret]] = (), tls: SSLContext | None = None) -> None:
        self.reference = url.reference
        try:
            address, where = _read(url.reveal())
            proxy = proxy_for(address, {name: value.reveal() for name, value in proxies})
            self._pool = Pool(address, _LIMITS, proxy=proxy, tls=tls)
        except ValueError as error:
            mistake = Mistake("alerts.webhook", f"{url.reference} cannot be posted to: {error}.", None, "Correct it.")
            raise ConfigError("the configuration", (mistake,)) from None
        self._hidden = (address.netloc, address.host)
        self._head = (
            b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\naccept: */*\r\n"
            b"accept-encoding: identity\r\nuser-agent: penstock\r\ncontent-length: "
        ) % (where, address.host_header)

    async def deliver(self, body: bytes) -> Delivery:
        """Post a body once, within `TRY_S`; never raises."""
        request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        try:
            reply = await self._pool.send(request, deadline=asyncio.get_running_loop().time() + TRY_S)
        except Fault as fault:
            return Delivery(None, self._told(fault), at_once=fault.reused)
        status = reply.status
        waits_s = retry_after_s(reply.header, datetime.now(UTC))
        reply.close()
        return Delivery(status, retry_after_s=waits_s)

    def close(self) -> None:
        """End its connections at once."""
        self._pool.close()

    def _told(self, fault: Fault) -> str:
        """Say what went wrong, without the address."""
        text = fault.detail
        for part in self._hidden:
            text = text.replace(part, "the webhook")
        return text


Source = tuple[Secret | None, tuple[tuple[str, Secret], ...]]
"""What a hook is made of: the address, and the proxy variables of the environment."""


def _source(config: Config) -> Source:
    return config.alerts.webhook, next((one.proxy_environ for one in config.providers), ())


def hook_of(config: Config) -> Hook | None:
    """Give the webhook of a configuration, if it has one; by the proxies that hold for providers. Raises ConfigError."""
    webhook, proxies = _source(config)
    return None if webhook is None else Hook(webhook, proxies)


class Webhook:
    """Posts to the webhook of the configuration, if it has one.

    `failed` is told of each alert that was not delivered; `rng` spreads the pauses. It is used on one event loop.
    """

    def __init__(self, failed: Callable[[Reason], None], rng: Random | None = None) -> None:
        self._hook: Hook | None = None
        self._source: Source = (None, ())
        self._failed = failed
        self._jitter = (rng or Random()).random  # noqa: S311 - jitter
        self._queue: deque[bytes] = deque()
        self._now: bytes | None = None  # the one that is being delivered
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()  # nobody pauses any more: another address, or the end
        self._closing = False

    def post(self, body: bytes) -> None:
        """Have a body delivered, soon; a JSON document. Where there is no webhook, nothing happens."""
        if self._hook is None:
            return
        if self._closing:
            self._failed("closing")
            return
        if len(self._queue) >= QUEUE:
            self._queue.popleft()
            self._failed("dropped")
        self._queue.append(body)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    def reload(self, config: Config) -> None:
        """Post to where this configuration says. Raises ConfigError; then all is as it was."""
        source = _source(config)
        if source != self._source:
            self.turn_to(hook_of(config))
            self._source = source

    def turn_to(self, hook: Hook | None) -> None:
        """Post to another address from now on, with what waits as well; to none, and what waits is dropped."""
        old, self._hook = self._hook, hook
        if hook is None:
            for _ in range(len(self._queue)):
                self._failed("dropped")
            self._queue.clear()
        self._hurry.set()
        if old is not None:
            old.close()

    async def close(self) -> None:
        """Deliver what waits, for `CLOSING_S` at most, and end."""
        self._closing = True
        self._hurry.set()
        task = self._task
        if task is not None and not task.done():
            done, _ = await asyncio.wait({task}, timeout=CLOSING_S)
            if not done:
                task.cancel()
                await asyncio.wait({task})
        left = len(self._queue) + (self._now is not None)
        if left:
            for _ in range(left):
                self._failed("closing")
            log.warning("%d alerts were not delivered to the webhook before the end", left)
            self._queue.clear()
        if self._hook is not None:
            self._hook.close()

    async def _work(self) -> None:
        """Deliver until nothing waits."""
        while self._queue:
            self._now = self._queue.popleft()
            reason = await self._deliver(self._now)
            self._now = None
            if reason is not None:
                self._failed(reason)

    async def _deliver(self, body: bytes) -> Reason | None:
        """Try until it has arrived; give why it did not, or None."""
        delivery = Delivery(None, "there was no try")
        for number in range(TRIES):
            hook = self._hook
            if hook is None:
                return "dropped"
            delivery = await hook.deliver(body)
            if delivery.arrived:
                return None
            if not delivery.passing:
                log.warning("the webhook (%s) did not take an alert: %s", hook.reference, delivery)
                return "refused"
            if self._closing:
                return "closing"
            if number < TRIES - 1 and not delivery.at_once and hook is self._hook:
                await self._pause(number, delivery.retry_after_s)
        log.warning("an alert could not be delivered to the webhook after %d tries: %s", TRIES, delivery)
        return "unreachable"

    async def _pause(self, number: int, asked_s: float | None) -> None:
        """Wait before the next try, unless there is hurry."""
        own_s = PAUSES_S[number] * (1.0 + 0.25 * self._jitter())
        self._hurry.clear()
        pause_s = own_s if asked_s is None else min(max(asked_s, own_s), LONGEST_PAUSE_S)
        try:
            async with asyncio.timeout(pause_s):
                await self._hurry.wait()
        except TimeoutError:
            return


def _read(url: str) -> tuple[Address, bytes]:
    """Read where to connect and what to ask for. Raises ValueError that repeats nothing of it."""
    before, question, query = url.partition("#")[0].partition("?")
    address, _ = Address.parse(before)
    path = urlsplit(before).path or "/"
    if not (query.isascii() and query.isprintable() and " " not in query):
        raise ValueError("what follows its ? holds a blank or a special character: write it %-encoded")
    return address, f"{path}{question}{query}".encode()

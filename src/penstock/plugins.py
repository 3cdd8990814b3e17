"""The extension points: a Protocol of one to three methods each, found by entry points.

The built-ins come in through the same door (see `[project.entry-points]` in pyproject.toml), so the door is always in
use. Loading happens once, when a configuration is taken over; nothing here decides or keeps anything.
"""

from asyncio import CancelledError
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

from penstock.call import Call
from penstock.errors import ConfigError, Mistake
from penstock.receipt import Lane
from penstock.reply import Chunk, Told
from penstock.target import Target

UNSENT = "unsent"
"""Among the arguments of a `CancelledError` that comes out of `send`: nothing had gone out by then, so nothing is billed."""

PROVIDERS = "penstock.providers"
"""Entry points are named after the `kind` of a `[providers.x]` table and give a `MakeProvider`."""


class Exchange(Protocol):
    """One reply while it comes in. `read` raises an `UpstreamError`; `close` is synchronous and idempotent."""

    @property
    def lane(self) -> Lane:
        """How the answer goes on to the client."""
        ...

    @property
    def dropped(self) -> tuple[str, ...]:
        """What of the call could not be expressed."""
        ...

    @property
    def status(self) -> int:
        """The status of the answer."""
        ...

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Those that are passed on."""
        ...

    async def read(self) -> Chunk | None:
        """Give what arrived since the last read, as one chunk; None after the end."""
        ...

    def close(self) -> None:
        """Give the connection back if the reply is complete, else drop it at once."""
        ...


class WholeExchange(Exchange, Protocol):
    """A reply that is there, all of it."""

    def take(self) -> Chunk | None:
        """Do as `read`, at once. Raises an `UpstreamError`."""
        ...


class Waiter(Protocol):
    """Is told once that there is something to look at: a future, or whoever need not be woken by the loop."""

    def done(self) -> bool:
        """Tell whether it was told, or waits no more."""

    def cancelled(self) -> bool:
        """Tell whether it waits no more."""

    def set_result(self, is_full: bool, /) -> None:  # noqa: FBT001 - as a future has it
        """Tell it; True where a sink wants no more."""


class Prepared(Exchange, Protocol):
    """A call that can be sent this moment, without waiting for anything; the exchange of what it `tell`s, when that is over.

    `by_outbox`: its request is given to the loop's `Outbox` by `leave`, and so goes out after its intent is written.
    """

    @property
    def by_outbox(self) -> bool:
        """Whether it is so."""
        ...

    def leave(self, deadline: float, waiter: Waiter) -> bool:
        """Send it, and have `waiter` told when its reply has come, or a part of it, or a fault; False: nothing was sent."""
        ...

    def tell(self) -> Told | None:
        """Give the answer in one value, where it has come, is whole, and nothing is unusual in it; then all of it was read."""
        ...

    def answer(self) -> WholeExchange | None:
        """Give the answer, where it has come and is whole; None for whatever else there is."""
        ...

    async def arrived(self, deadline: float) -> Exchange:
        """Give what has come instead, or raise what it means; send it first, if nothing was sent. Raises an `UpstreamError`."""
        ...

    def abandon(self, why: CancelledError) -> None:
        """Let go of the reply since its call was cancelled, which learns if its request had not even gone out."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A provider that need not be waited for until a call is sent."""

    def prepare(self, call: Call, target: Target) -> Prepared | None:
        """Give a call that can be sent this moment, in one piece and answered in one; None for any other."""
        ...


class Provider(Protocol):
    """A place that answers calls. `dialect` names what it speaks, "" where it gives events without bytes."""

    dialect: str

    async def send(self, call: Call, target: Target, deadline: float) -> Exchange:
        """Send the call; return when the reply begins. `deadline` is in the loop's time. Raises an `UpstreamError`."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...


@runtime_checkable
class Counts(Protocol):
    """A provider that can be asked how many tokens a prompt has."""

    async def count(self, call: Call, target: Target, deadline: float) -> int | None:
        """Give its own count; None where it has none for this model. Raises an `UpstreamError`."""
        ...


@runtime_checkable
class Warms(Protocol):
    """A provider that has something to load before it can answer."""

    async def warm(self) -> None:
        """Load it. Raises an `UpstreamError` where that is not possible."""
        ...


MakeProvider = Callable[[Any], Provider]
"""Given the provider's settings (`penstock.config.ProviderSettings`)."""


def find(group: str, name: str) -> Any:
    """Load the plugin of that name, or raise a `ConfigError` that lists the names there are."""
    found = entry_points(group=group)
    for entry in found:
        if entry.name == name:
            return entry.load()
    known = ", ".join(sorted({entry.name for entry in found}))
    raise ConfigError("the configuration", (Mistake(group, f"there is no plugin {name!r}.", None, f"Known: {known}."),))

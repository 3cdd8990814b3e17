"""What the control plane can do with the server that runs, rather than with its ledger.

The second half of the table of operations: these are answered on the server's loop, by `serving`. Knows no HTTP beyond
names; `admin.py` is the door.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

from msgspec import Struct

from penstock.errors import ConfigError, InvalidRequest
from penstock.gateway import Gateway
from penstock.routing.health import TargetState
from penstock.server.operations import Parameter
from penstock.server.presence import Reloaded


class WorkerHealth(Struct, frozen=True):
    """How one process does.

    ready        it takes calls
    config       the hash of its configuration
    connections  clients that are connected
    in_flight    calls between admission and receipt
    waiting      calls that stand in line for their turn on the event loop
    shed         calls that were turned away since the process began, for that line was too long
    targets      how each target does that was tried so far
    """

    worker: int
    pid: int
    ready: bool
    config: str
    connections: int
    in_flight: int
    waiting: int
    shed: int
    targets: tuple[TargetState, ...]


class HealthReport(Struct, frozen=True):
    """How each worker does; there is one unless there are more."""

    workers: tuple[WorkerHealth, ...]


class Live(Protocol):
    """The server that runs."""

    @property
    def gateway(self) -> Gateway:
        """The gateway that answers now."""

    async def reload(self) -> Reloaded:
        """Take the configuration over; say what came of it."""

    async def metrics(self) -> bytes:
        """Write the metrics of every worker."""

    async def health(self) -> HealthReport:
        """Say how every worker does."""


class LiveOperation(Struct, frozen=True):
    """One route, as `operations.Operation` has them; it takes neither parameters nor a body."""

    method: Literal["GET", "POST"]
    path: str
    name: str
    about: str
    answer: Callable[[Live], Awaitable[Any]]
    gives: type
    parameters: tuple[Parameter, ...] = ()
    takes: type | None = None


async def _health(live: Live) -> HealthReport:
    return await live.health()


async def _reload(live: Live) -> Reloaded:
    """Take the configuration over. Raises ConfigError with all that is wrong with it."""
    reloaded = await live.reload()
    if not reloaded.reloaded:
        raise ConfigError(reloaded.source, reloaded.mistakes)
    return reloaded


LIVE: tuple[LiveOperation, ...] = (
    LiveOperation("GET", "/admin/v1/health", "health", "Say how each worker does.", _health, HealthReport),
    LiveOperation(
        "POST",
        "/admin/v1/reload",
        "reload",
        "Take the configuration file over. One with mistakes is refused with all of them, and the one before goes on.",
        _reload,
        Reloaded,
    ),
)


async def perform(live: Live, operation: LiveOperation, query: list[tuple[str, str]]) -> Any:
    """Do an operation. Raises a PenstockError."""
    for name, _ in query:
        raise InvalidRequest(
            f"{operation.path} has no parameter {name[:64]!r}.", hint="It takes none.", param=name[:64]
        )
    return await operation.answer(live)

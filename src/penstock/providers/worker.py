"""One thread that owns an embedded model and answers several calls in turn, a token of each at a time.

The event loop hands jobs over and gets tokens back; neither ever waits for the other. What waits for a place is bounded;
a call that is cancelled is out of the batch before the next token. It knows no dialect and no model: those come in as an
`Engine`. Place in the line: below `local.py`.
"""

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from penstock.errors import PenstockError, UpstreamMissing, UpstreamOverloaded

Q = TypeVar("Q")
"""What is ordered: a call, in the engine's terms."""
T = TypeVar("T")
"""What the engine gives for each token."""
R = TypeVar("R")
Taken_contra = TypeVar("Taken_contra", contravariant=True)
Given_co = TypeVar("Given_co", covariant=True)


SWITCH_S = 0.0005
"""How long this thread may keep the interpreter when the loop wants it; Python's own 5 ms would be felt by every call."""


class Step(Struct, Generic[T], frozen=True):
    """A token of one choice; `last` where the choice has ended with it."""

    choice: int
    token: T
    last: bool


class Engine(Protocol[Taken_contra, Given_co]):
    """A model with its batch. Every method is called in the worker's thread, and raises nothing but PenstockErrors."""

    def prompt(self, order: Taken_contra) -> Sequence[int]:
        """Give the tokens of an order's prompt."""
        ...

    @property
    def free(self) -> int:
        """How many choices may still be taken in."""
        ...

    def begin(self, order: Taken_contra) -> Sequence[int]:
        """Take an order into the batch; give a ticket for each of its choices."""
        ...

    def step(self) -> Sequence[tuple[int, Given_co, bool]]:
        """Go one token further with all: ticket, token, whether it is the last."""
        ...

    def cancel(self, ticket: int) -> None:
        """Take a choice out of the batch."""
        ...


class Job(Generic[Q, T]):
    """One call with `choices` answers. `told` is called in the loop with its next tokens, or with what ended it."""

    __slots__ = ("choices", "done", "left", "order", "tickets", "told")

    def __init__(self, order: Q, choices: int, told: Callable[[list[Step[T]] | PenstockError], None]) -> None:
        self.order = order
        self.choices = choices
        self.told = told
        self.tickets: dict[int, int] = {}
        self.left = choices
        self.done = False


class Worker(Generic[Q, T]):
    """The thread, begun with the first job. `load` makes the engine, in the thread."""

    def __init__(self, name: str, load: Callable[[], Engine[Q, T]], most: int) -> None:
        """Prepare; at most `most` calls are open at once, waiting ones included."""
        self._name = name
        self._load = load
        self._most = most
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._open: set[Job[Q, T]] = set()
        self._asked: set[asyncio.Future[Any]] = set()
        self._failure: PenstockError | None = None
        # of the thread alone
        self._engine: Engine[Q, T]
        self._queue: deque[Job[Q, T]] = deque()
        self._running: dict[int, Job[Q, T]] = {}

    # -- in the loop --

    def submit(self, job: Job[Q, T]) -> None:
        """Hand a job over. Raises UpstreamOverloaded where too many are open, UpstreamMissing where the model is of no use."""
        if self._failure is not None:
            raise _gone(self._failure)
        if len(self._open) >= self._most:
            raise UpstreamOverloaded(
                f"{self._name} has {len(self._open)} calls to answer, which is all it takes.", retry_after_s=1.0
            )
        self._begin()
        self._open.add(job)
        self._inbox.put(lambda: self._queue.append(job))

    def cancel(self, job: Job[Q, T]) -> None:
        """Forget a job; nothing more of it is told."""
        if not job.done:
            self._close(job)
            self._inbox.put(lambda: self._drop(job))

    async def run(self, work: Callable[[Engine[Q, T]], R]) -> R:
        """Do something with the engine between two tokens. Raises the PenstockError that it raises."""
        if self._failure is not None:
            raise _gone(self._failure)
        self._begin()
        loop = self._loop
        outcome: asyncio.Future[R] = loop.create_future()

        def do() -> None:
            try:
                value = work(self._engine)
            except PenstockError as error:
                loop.call_soon_threadsafe(_fail, outcome, error)
            else:
                loop.call_soon_threadsafe(_give, outcome, value)

        self._inbox.put(do)
        self._asked.add(outcome)
        try:
            return await outcome
        finally:
            self._asked.discard(outcome)

    async def close(self) -> None:
        """End the thread, after the token that it is at."""
        if self._thread is not None:
            self._inbox.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _begin(self) -> None:
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._live, name=f"penstock-{self._name}", daemon=True)
            self._thread.start()

    def _tell(self, told: Iterable[tuple[Job[Q, T], list[Step[T]] | PenstockError]]) -> None:
        for job, what in told:
            if job.done:
                continue
            if isinstance(what, PenstockError):
                self._close(job)
            else:
                job.left -= sum(step.last for step in what)
                if not job.left:
                    self._close(job)
            job.told(what)

    def _close(self, job: Job[Q, T]) -> None:
        job.done = True
        self._open.discard(job)

    def _die(self, error: PenstockError) -> None:
        """Tell everybody that nothing more will come."""
        self._failure = error
        self._tell([(job, _gone(error)) for job in list(self._open)])
        for outcome in self._asked:
            _fail(outcome, _gone(error))

    # -- in the thread --

    def _live(self) -> None:
        sys.setswitchinterval(SWITCH_S)
        failure: PenstockError = UpstreamMissing(f"The thread of {self._name} ended; the log says why.")
        try:
            self._engine = self._load()
            while self._take():
                self._admit()
                self._advance()
            failure = UpstreamMissing(f"{self._name} was closed.")
        except PenstockError as error:  # the model cannot be loaded, or computes no numbers
            failure = error
        finally:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._die, failure)

    def _take(self) -> bool:
        """Take in what the loop has put down; wait for it where there is nothing else to do. False: it is over."""
        idle = not self._running and not self._queue
        while True:
            try:
                do = self._inbox.get(block=idle)
            except Empty:
                return True
            if do is None:
                return False
            do()
            idle = False

    def _admit(self) -> None:
        """Begin waiting jobs, in the order in which they came, while there is room."""
        engine = self._engine
        while self._queue and engine.free >= self._queue[0].choices:
            job = self._queue.popleft()
            try:
                tickets = engine.begin(job.order)
            except PenstockError as error:
                self._say([(job, error)])
                continue
            job.tickets = {ticket: choice for choice, ticket in enumerate(tickets)}
            self._running.update(dict.fromkeys(tickets, job))

    def _advance(self) -> None:
        if not self._running:
            return
        steps: dict[Job[Q, T], list[Step[T]]] = {}
        for ticket, token, last in self._engine.step():
            job = self._running.get(ticket)
            if job is not None:
                steps.setdefault(job, []).append(Step(job.tickets[ticket], token, last))
            if last:
                self._running.pop(ticket, None)
        if steps:
            self._say(list(steps.items()))

    def _drop(self, job: Job[Q, T]) -> None:
        if job in self._queue:
            self._queue.remove(job)
        for ticket in job.tickets:
            if self._running.pop(ticket, None) is not None:
                self._engine.cancel(ticket)

    def _say(self, told: Iterable[tuple[Job[Q, T], list[Step[T]] | PenstockError]]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, told)


def _gone(error: PenstockError) -> UpstreamMissing:
    """Say once more why there is no model: another try would not find one, and each call has an error of its own."""
    return UpstreamMissing(error.message, hint=error.hint)


def _give(outcome: "asyncio.Future[R]", value: R) -> None:
    if not outcome.done():
        outcome.set_result(value)


def _fail(outcome: "asyncio.Future[Any]", error: PenstockError) -> None:
    if not outcome.done():
        outcome.set_exception(error)

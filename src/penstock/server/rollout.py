"""How a changed configuration reaches every worker: read once by the supervisor, then taken over by one after another.

If the first worker refuses it nothing has changed, and the mistakes are told. From then on it holds: a worker that does
not take it over, for whatever reason, is replaced by a process that starts with it. One rollout at a time; whoever asks
meanwhile is told what the next one came to. Runs on the supervisor's turns and never waits.
"""

import logging
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from penstock.errors import ConfigError, Mistake, PenstockError
from penstock.server.channel import What, Worker
from penstock.server.presence import Reloaded
from penstock.server.serving import needing_restart, new_context, refused
from penstock.settings import Config

log = logging.getLogger("penstock")

TAKING_S: Final = 30.0
"""How long a worker may take; reading a configuration may run commands for its secrets."""

Tell = Callable[[Reloaded], None]


class Crew(Protocol):
    """The workers and the configuration that they hold, as the supervisor keeps them."""

    config: Config
    generation: int

    def ready(self) -> list[Worker]:
        """Give the workers that answer calls."""

    def ask(self, worker: Worker, what: What, told: Callable[[Worker, bytes | None], None], within_s: float) -> None:
        """Ask a worker something; `told` is called once, with its answer or with None."""

    def replace(self, worker: Worker) -> None:
        """Have a worker drain, and another one take its place."""

    def publish(self, reloaded: Reloaded) -> None:
        """Say for commands what became of a reload."""


class Rollout:
    """See the module."""

    def __init__(self, crew: Crew, read: Callable[[], Config]) -> None:
        self._crew = crew
        self._read = read
        self._started = crew.config
        self._asking: list[Tell] = []
        self._telling: list[Tell] = []
        self._config: Config | None = None  # that is being taken over
        self._left: list[Worker] = []
        self._holds = False  # the first worker has taken it over
        self._again = False  # somebody asked meanwhile

    def begin(self, tell: Tell | None) -> None:
        """Read the configuration and have it taken over; `tell` hears what came of it."""
        if tell is not None:
            self._asking.append(tell)
        if self._config is None:
            self._start()
        else:
            self._again = True

    def _start(self) -> None:
        self._telling, self._asking, self._again = self._asking, [], False
        crew = self._crew
        try:
            config = self._read()
            new_context(config)
        except (PenstockError, OSError) as error:
            self._finish(refused(crew.config, error))
            return
        self._config, self._left, self._holds = config, crew.ready(), False
        if not self._left:
            self._hold(config)
        self._next()

    def _next(self) -> None:
        config = self._config
        assert config is not None, "there is a rollout under way"
        if self._left:
            self._crew.ask(self._left.pop(0), "reload", self._told, TAKING_S)
        else:
            self._finish(Reloaded(True, config.source, config.hash, needing_restart(self._started, config)))

    def _told(self, worker: Worker, data: bytes | None) -> None:
        config, crew = self._config, self._crew
        assert config is not None, "there is a rollout under way"
        told = None if data is None else msgspec.json.decode(data, type=Reloaded)
        if told is not None and told.reloaded and told.hash == config.hash:
            if not self._holds:
                self._hold(config)
            worker.generation = crew.generation
        elif not self._holds and told is not None and not told.reloaded:
            self._finish(told)
            return
        else:
            log.error("worker %d did not take the configuration over: another one takes its place", worker.number)
            if told is not None:
                crew.replace(worker)
            if not self._holds:
                what = "was not taken over: a worker ended, did not answer, or found another file than the supervisor."
                mistake = Mistake("the configuration", what, None, "Try again.")
                self._finish(refused(crew.config, ConfigError(config.source, (mistake,))))
                return
        self._next()

    def _hold(self, config: Config) -> None:
        self._holds = True
        self._crew.config = config
        self._crew.generation += 1

    def _finish(self, reloaded: Reloaded) -> None:
        self._config = None
        self._crew.publish(reloaded)
        for tell in self._telling:
            tell(reloaded)
        if self._again:
            self._start()

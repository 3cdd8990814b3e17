"""Several processes behind one port: a supervisor that answers nothing itself, and workers that do.

The supervisor binds the port, forks the workers and looks after them: one that dies is replaced, after a pause that grows
where it dies at once; signals are passed on; the server is announced once all of them are ready, and the supervisor ends
when all have ended. It holds no ledger, no gateway and no loop, so that a fork has nothing to inherit but sockets, which
it keeps open: what waits in one for a worker that died is there for the next. Workers that see their supervisor gone end
as well. Decides nothing about calls, and nothing about a configuration: that is for `rollout`.
"""

import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from penstock.errors import ConfigError, Internal, PenstockError
from penstock.server.channel import Answer, Ask, Channel, Failed, Message, Order, Pipe, Ready, What, Worker, tell
from penstock.server.listening import Socket, bind
from penstock.server.presence import Presence, Reloaded
from penstock.server.rollout import Rollout
from penstock.server.serve import Announce, Duty, Read, base_url, run
from penstock.server.share import share
from penstock.settings import Config

log = logging.getLogger("penstock")

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
SOON_S: Final = 1.0
"""A worker that ends within this, or before it is ready, has died at once."""
PAUSES_S: Final = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Before a worker is replaced that has died at once so many times in a row."""
HOPELESS: Final = 5
"""Deaths before the first worker is ever ready, after which there is no point in another try."""
ASK_S: Final = 2.0
OVERTIME_S: Final = 10.0
"""How much longer than `drain_s` a worker may take to end, before it is killed."""

Told = Callable[[Worker, bytes | None], None]
"""Is told what a worker answered; None where it did not."""


class NoWorker(PenstockError):
    """No worker ever came up."""


def serve(config: Config, read: Read, announce: Announce) -> None:
    """Serve until a signal ends it, in as many processes as are configured. Raises ConfigError, NoWorker, OSError."""
    if config.server.workers == 1:
        run(config, Duty(read, announce))
    else:
        Supervisor(config, read, announce).run()


class Supervisor:
    """See the module."""

    def __init__(self, config: Config, read: Read, announce: Announce) -> None:
        self.config = config
        self.generation = 0
        self.workers: dict[int, Worker] = {}
        self.presence: Presence | None = None
        self._read = read
        self._announce = announce
        self._count = config.server.workers
        self._rollout = Rollout(self, read)
        self._rows: list[list[Socket]] = []
        self._url = ""
        self._announced = self._ever_ready = False
        self._deaths: dict[int, int] = {}  # in a row, by the worker's number
        self._due: dict[int, float] = {}  # when a worker is to be started
        self._asked: dict[int, tuple[float, Worker, Told]] = {}
        self._number = 0  # of the last question
        self._writing: set[int] = set()
        self._endings = 0
        self._killing = float("inf")
        self._failure: PenstockError | None = None

    def run(self) -> None:
        """Start the workers and look after them until all have ended."""
        server = self.config.server
        self._rows = bind(server.host, server.port, server.workers)
        self._url = base_url(self.config, self._rows[0][0].getsockname()[1])
        try:
            with _heard() as heard:
                for number in range(1, server.workers + 1):
                    self._spawn(number)
                while self.workers or (self._due and not self._endings):
                    self._turn(heard)
        finally:
            self._close_sockets()
            if self.presence is not None:
                self.presence.close()
        if self._failure is not None:
            raise self._failure

    # -- processes --

    def _spawn(self, number: int) -> None:
        self._due.pop(number, None)
        (ours_in, theirs_out), (theirs_in, ours_out) = os.pipe(), os.pipe()
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            os.close(theirs_in)
            os.close(theirs_out)
            self.workers[number] = Worker(number, pid, Pipe(ours_in, ours_out), self.generation)
            return
        code = 1
        try:
            os.close(ours_in)
            os.close(ours_out)
            self._forget_the_others(number)
            code = self._work(number, Pipe(theirs_in, theirs_out))
        finally:  # a child never returns into what its parent was doing
            logging.shutdown()
            sys.stdout.flush()
            os._exit(code)

    def _forget_the_others(self, number: int) -> None:
        """In a child: keep nothing of the supervisor's but the own sockets."""
        signal.set_wakeup_fd(-1)
        for one in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all; the supervisor passes them on
            signal.signal(one, signal.SIG_IGN)
        for one in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(one, signal.SIG_DFL)
        for worker in self.workers.values():
            worker.pipe.close()
        for row in self._rows[: number - 1] + self._rows[number:]:
            for sock in row:
                sock.close()
        if self.presence is not None:
            self.presence.forget()

    def _work(self, number: int, pipe: Pipe) -> int:
        """Be a worker; give the exit code."""
        socks = self._rows[number - 1]
        count, read = self._count, self._read
        duty = Duty(lambda: share(read(), count), self._announce, Channel(number, pipe), socks, self._url)
        try:
            run(share(self.config, count), duty)
        except ConfigError as error:
            tell(pipe, Failed(error.source, error.mistakes, str(error)))
            return 1
        except (PenstockError, OSError) as error:
            tell(pipe, Failed("", (), str(error)))
            return 1
        return 0

    def _reap(self) -> None:
        for worker in list(self.workers.values()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._hear(worker)  # its last words
                self._lost(worker, os.waitstatus_to_exitcode(status))

    def _lost(self, worker: Worker, code: int) -> None:
        del self.workers[worker.number]
        self._writing.discard(worker.number)
        worker.pipe.close()
        for asked in [number for number, (_, whom, _) in self._asked.items() if whom is worker]:
            _, _, told = self._asked.pop(asked)
            told(worker, None)
        if self._endings:
            return
        at_once = not worker.ready or time.monotonic() - worker.began < SOON_S
        deaths = self._deaths[worker.number] = self._deaths.get(worker.number, 0) + 1 if at_once else 0
        if not self._ever_ready and (self._failure is not None or sum(self._deaths.values()) >= HOPELESS):
            self._failure = self._failure or NoWorker(
                "No worker came up: each of them ended at once. The log says why."
            )
            self.end(patient=False)
            return
        pause_s = PAUSES_S[min(deaths, len(PAUSES_S) - 1)]
        log.warning(
            "worker %d (process %d) ended with %d; another one starts in %g s", worker.number, worker.pid, code, pause_s
        )
        self._due[worker.number] = time.monotonic() + pause_s

    # -- one turn --

    def _turn(self, heard: int) -> None:
        now = time.monotonic()
        moments = [self._killing, *self._due.values(), *(until for until, _, _ in self._asked.values())]
        reads = [heard, *(worker.pipe.reads for worker in self.workers.values())]
        writes = [worker.pipe.writes for worker in self.workers.values() if worker.number in self._writing]
        wait_s = min(moments) - now
        readable, writable, _ = select.select(reads, writes, [], None if wait_s == float("inf") else max(0.0, wait_s))
        for worker in list(self.workers.values()):
            if worker.pipe.writes in writable and not worker.pipe.flush():
                self._writing.discard(worker.number)
            if worker.pipe.reads in readable:
                self._hear(worker)
        if heard in readable:
            for number in os.read(heard, 512):
                self._signalled(number)
        self._keep_time(time.monotonic())

    def _signalled(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGHUP:
            self._rollout.begin(None)
        else:
            self.end(patient=number == signal.SIGTERM)

    def _keep_time(self, now: float) -> None:
        for number, (until, worker, told) in list(self._asked.items()):
            if now >= until and number in self._asked:
                del self._asked[number]
                told(worker, None)
        for number, due in list(self._due.items()):
            if now >= due and not self._endings:
                self._spawn(number)
        if now >= self._killing:
            self._killing = float("inf")
            for worker in self.workers.values():
                log.error("worker %d does not end: it is killed", worker.number)
                os.kill(worker.pid, signal.SIGKILL)

    def end(self, *, patient: bool) -> None:
        """Have every worker drain; asked again, have them end at once."""
        self._endings += 1
        self._close_sockets()
        self._due.clear()
        self._killing = time.monotonic() + OVERTIME_S + (self.config.server.drain_s if self._endings == 1 else 0.0)
        for worker in self.workers.values():
            self._send(worker, Order("drain" if self._endings == 1 else "end", patient))

    def _close_sockets(self) -> None:
        for row in self._rows:
            for sock in row:
                sock.close()

    # -- messages --

    def _send(self, worker: Worker, message: Message) -> None:
        if worker.pipe.send(message):
            self._writing.add(worker.number)

    def _hear(self, worker: Worker) -> None:
        for message in worker.pipe.receive() or ():
            match message:
                case Ready():
                    self._is_ready(worker)
                case Failed():
                    self._failed(message)
                case Ask():
                    self._answer(worker, message)
                case Answer() if message.number in self._asked:
                    _, _, told = self._asked.pop(message.number)
                    told(worker, message.data)
                case _:
                    pass  # an answer that comes too late

    def _is_ready(self, worker: Worker) -> None:
        worker.ready = self._ever_ready = True
        if worker.generation != self.generation:
            self.replace(worker)
        elif not self._announced and len(self.ready()) == self._count:
            self._announced = True
            self.presence = Presence.make(self.config.home, self._url)
            self._send(worker, Order("announce"))

    def _failed(self, failed: Failed) -> None:
        if self._ever_ready:
            log.error("a worker cannot serve: %s", failed.message)
        elif failed.mistakes:
            self._failure = ConfigError(failed.source, failed.mistakes)
        else:
            self._failure = Internal(failed.message)

    def _answer(self, asker: Worker, ask: Ask) -> None:
        if ask.what == "reload":
            self._rollout.begin(lambda told: self._send(asker, Answer(ask.number, msgspec.json.encode(told))))
            return
        parts: dict[int, bytes] = {}
        left = self.ready()

        def told(worker: Worker, data: bytes | None) -> None:
            left.remove(worker)
            if data is not None:
                parts[worker.number] = data
            if not left:
                self._send(asker, Answer(ask.number, msgspec.msgpack.encode(parts)))

        for worker in list(left):
            self.ask(worker, ask.what, told, ASK_S)

    # -- for the rollout of a configuration --

    def ready(self) -> list[Worker]:
        """Give the workers that answer calls, by their numbers."""
        return [self.workers[number] for number in sorted(self.workers) if self.workers[number].ready]

    def ask(self, worker: Worker, what: What, told: Told, within_s: float) -> None:
        """Ask a worker something; `told` is called once, with its answer or with None."""
        self._number += 1
        self._asked[self._number] = (time.monotonic() + within_s, worker, told)
        self._send(worker, Ask(self._number, what))

    def replace(self, worker: Worker) -> None:
        """Have a worker drain; another one takes its place, with the configuration that holds now."""
        os.kill(worker.pid, signal.SIGTERM)

    def publish(self, reloaded: Reloaded) -> None:
        """Say for commands what became of a reload."""
        if self.presence is not None:
            self.presence.tell(reloaded)


@contextmanager
def _heard() -> Iterator[int]:
    """Give a descriptor from which the numbers of signals can be read as they come."""
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    os.set_blocking(writes, False)
    before = {one: signal.signal(one, _nothing) for one in SIGNALS}
    wakeup = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    try:
        yield reads
    finally:
        signal.set_wakeup_fd(wakeup)
        for one, handler in before.items():
            signal.signal(one, handler)
        os.close(reads)
        os.close(writes)


def _nothing(_number: int, _frame: object) -> None:
    """Be a handler, so that the signal's number is written to the descriptor."""

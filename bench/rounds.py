"""The run itself: start everyone, then let each take each load in turn, in random order, round after round.

All candidates stay up for the whole run and rest while another one works, so one load of every candidate lies within
seconds of the others': what the machine does meanwhile falls on all alike. Before each load the run waits until no
candidate works any more. A candidate that fails is noted with the reason and takes no further part.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import gateways
import load
import measure
import processes
import streams
import upstream
from findings import NOISE, Cell, Findings, LedgerCheck, Resident
from gateways import Places, Setup
from load import LoadFailed, PlainLoad
from peers import NotMeasured
from processes import Fleet, Launch, StartFailed, environment
from streams import StreamLoad

_STREAM_LIMIT_S = 15.0
_QUIET_LIMIT_S = 10.0
_LEDGER_LIMIT_S = 8.0
_EXACT_CALLS = 200
_CALM_S = 0.011  # CPU in a tenth of a second that still counts as rest: one clock tick
_TAKES = 3
_POLL_S = 0.002

Step = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How long, how often, how many. `cores` are the gateway's and that of load and upstream."""

    names: tuple[str, ...]
    rounds: int
    seconds: int
    connections: tuple[int, ...]
    streams: int
    passes: int
    starts: int
    retakes: int
    cores: tuple[int, int]
    seed: int


@dataclass
class Running:
    """A candidate that serves. `pid` is None for the direct line, which has no process."""

    setup: Setup
    pid: int | None
    port: int


class Run:
    """One run over all candidates; fills its `found` as it goes."""

    def __init__(self, settings: Settings, fleet: Fleet, places: Places, found: Findings) -> None:
        self._settings, self._fleet, self._places = settings, fleet, places
        self._order = random.Random(settings.seed)
        self._running: dict[str, Running] = {}
        self._retakes = settings.retakes
        self._receipts: int | None = None  # the last settled count
        self.found = found

    def everything(self) -> None:
        """Start all, measure all rounds, check the receipts one by one at the end."""
        for name in self._settings.names:
            self._attempt(name, self._bring_up)
        if not self._running:
            return
        self._rest()
        for name in list(self._running):
            self._attempt(name, self._warm_up)
        for number in range(1, self._settings.rounds + 1):
            for kind in (*self._settings.connections, None):
                names = list(self._running)
                self._order.shuffle(names)
                _say(f"round {number}: {f'{kind} connections' if kind else 'streams'}: {', '.join(names)}")
                for name in names:
                    self._attempt(name, lambda name, kind=kind, number=number: self._load(name, kind, number))  # type: ignore[misc]
        if "penstock" in self._running:
            self._attempt("penstock", self._exact)

    def _attempt(self, name: str, step: Step) -> None:
        """Take one step of one candidate; when it fails, note why and end the candidate."""
        try:
            step(name)
        except (NotMeasured, StartFailed, LoadFailed, OSError) as error:
            self.found.not_measured[name] = str(error)
            _say(f"{name}: not measured: {error}")
            gone = self._running.pop(name, None)
            if gone is not None and gone.pid is not None:
                self._fleet.end(gone.pid)

    def _bring_up(self, name: str) -> None:
        setup = gateways.CANDIDATES[name](self._places.inside(name))
        self.found.versions[name] = setup.version, setup.does
        if not setup.argv:
            self._running[name] = Running(setup, None, setup.port)
            return
        # A slow starter starts once: seconds matter less than that the run ends.
        times_s: list[float] = []
        while True:
            running, took_s = self._start(setup)
            times_s.append(took_s)
            if len(times_s) >= self._settings.starts or took_s > 2:
                break
            self._fleet.end(running.pid or 0)
        self._running[name] = running
        _say(f"{name} {setup.version}: ready in {min(times_s):.2f} s")
        self.found.residents[name] = Resident(tuple(times_s), measure.Memory(0.0, None))

    def _start(self, setup: Setup) -> tuple[Running, float]:
        """Start a candidate; return it with the seconds from exec to its first good answer."""
        if setup.port_file is not None:
            setup.port_file.unlink(missing_ok=True)
        log = setup.work / f"{setup.name}.log"
        began = time.perf_counter()
        pid = self._fleet.start(Launch(setup.argv, setup.env, setup.work, self._settings.cores[0], log))
        problem: str | None = "no answer yet"
        while problem is not None:
            if time.perf_counter() - began > setup.start_limit_s:
                raise StartFailed(f"no good answer in {setup.start_limit_s:g} s: {problem}; {processes.tail(log)}")
            time.sleep(_POLL_S)
            self._fleet.check(pid)
            port = setup.port
            if setup.port_file is not None:
                if not setup.port_file.exists():
                    continue
                port = int(setup.port_file.read_text())
            problem = processes.tries(setup.plain(port))
        return Running(setup, pid, port), time.perf_counter() - began

    def _rest(self) -> None:
        """Let everyone settle after its start, then read the memory at rest."""
        self._quiet()
        time.sleep(1.0)
        for name, running in self._running.items():
            if running.pid is not None:
                self.found.residents[name] = Resident(self.found.residents[name].starts_s, measure.memory(running.pid))

    def _quiet(self) -> None:
        """Wait until no candidate works: what one left in flight must not be paid by the next."""
        pids = self._pids()
        ends_at, calm = time.monotonic() + _QUIET_LIMIT_S, 0
        while time.monotonic() < ends_at:
            before = [measure.cpu_s(pid) for pid in pids]
            time.sleep(0.1)
            still = all(measure.cpu_s(pid) - then <= _CALM_S for pid, then in zip(pids, before, strict=True))
            calm = calm + 1 if still else 0
            if calm == 2:
                return
        _say(f"somebody still worked after {_QUIET_LIMIT_S:g} s of rest; the next figures are noisier for it")

    def _warm_up(self, name: str) -> None:
        running = self._running[name]
        if name == "penstock":
            self._receipts = self._recorded()
        result = load.wrk(running.setup.plain(running.port), max(self._settings.connections), 1, self._places.work)
        if name == "penstock":
            self._compare("warm-up", *_receipts_of(result))

    def _load(self, name: str, connections: int | None, number: int) -> None:
        """Put one load on one candidate: `connections` plain ones, or the streams when None.

        A load that something else disturbed is taken again while the run has retakes left, and the least disturbed
        take counts: chosen by the noise, never by the result.
        """
        takes = [self._take(name, connections, number)]
        while takes[-1].disturbed > NOISE and len(takes) < _TAKES and self._retakes > 0:
            self._retakes -= 1
            _say(f"  {name}: {takes[-1].disturbed:.0%} of a core went to something else: taken again")
            takes.append(self._take(name, connections, number))
        self.found.cells.append(min(takes, key=lambda cell: cell.disturbed))

    def _take(self, name: str, connections: int | None, number: int) -> Cell:
        self._quiet()
        running = self._running[name]
        window = measure.Window(running.pid, self._pids(but=name), self._settings.cores)
        result = self._plain(running, connections) if connections else self._streamed(running)
        spent = window.close()
        units = result.served if isinstance(result, PlainLoad) else result.chunks
        cpu_us = spent.used_s / units * 1e6 if units and running.pid is not None else None
        cell = Cell(name, number, result, cpu_us, spent.foreign, spent.stolen)
        if running.pid is not None:
            self._fleet.check(running.pid)
            if connections == max(self._settings.connections):
                self._note_memory(name, running.pid)
        if name == "penstock":
            self._compare(f"round {number}, {cell.kind}", *_receipts_of(result))
        return cell

    def _pids(self, but: str = "") -> list[int]:
        return [running.pid for name, running in self._running.items() if running.pid is not None and name != but]

    def _plain(self, running: Running, connections: int) -> PlainLoad:
        return load.wrk(running.setup.plain(running.port), connections, self._settings.seconds, self._places.work)

    def _streamed(self, running: Running) -> StreamLoad:
        request = running.setup.paced(running.port)
        return streams.run(request, self._settings.streams, self._settings.passes, _STREAM_LIMIT_S)

    def _note_memory(self, name: str, pid: int) -> None:
        known, now = self.found.residents[name], measure.memory(pid)
        if known.loaded is None or now.rss_mb > known.loaded.rss_mb:
            self.found.residents[name] = Resident(known.starts_s, known.idle, now)

    def _recorded(self) -> int | None:
        """How many calls the receipts of this run add up to, as `penstock spend` tells it; None when it cannot tell."""
        if self.found.ledger_problem is not None:
            return None
        words = ("spend", "--since", "today", "--by", "model", "--json")
        said = ""
        try:
            said = gateways.run_penstock(self._places.inside("penstock"), *words)
            return int(json.loads(said)["total"]["calls"])
        except (NotMeasured, ValueError, KeyError, TypeError) as error:
            self.found.ledger_problem = f"`penstock {' '.join(words)}` did not tell total.calls: {error!r} {said[:200]}"
            _say(f"  receipts not compared: {self.found.ledger_problem}")
            return None

    def _compare(self, what: str, answered: int, at_most: int) -> None:
        """Compare the receipts that came since the last comparison with the answers, once every row is written.

        It counts as written when there is a receipt for every answer and two readings are the same.
        """
        patience_s = _LEDGER_LIMIT_S if all(check.holds for check in self.found.ledger) else 1.0
        before, ends_at, last = self._receipts, time.monotonic() + patience_s, -1
        now = self._recorded()
        while before is not None and now is not None and time.monotonic() < ends_at:
            if now == last and now - before >= answered:
                break
            time.sleep(0.1)
            last, now = now, self._recorded()
        self._receipts = now
        if before is None or now is None:
            return
        check = LedgerCheck(what, answered, now - before, at_most)
        self.found.ledger.append(check)
        verdict = "ok" if check.holds else f"DIFFERS (must lie in {answered}..{at_most})"
        _say(f"  receipts, {what}: {check.recorded} for {answered} good answers: {verdict}")

    def _exact(self, name: str) -> None:
        """Make calls one by one, so that nothing is in flight at the end: receipts and answers must be equal."""
        running = self._running[name]
        self._quiet()
        problems = [processes.tries(running.setup.plain(running.port)) for _ in range(_EXACT_CALLS)]
        good = sum(problem is None for problem in problems)
        self._compare(f"{_EXACT_CALLS} single calls", good, good)


def _receipts_of(result: PlainLoad | StreamLoad) -> tuple[int, int]:
    """Return how many receipts a load must leave at least, and how many it can leave at most."""
    if isinstance(result, PlainLoad):
        return result.served, result.answers + result.connections + result.socket_errors
    return result.complete, result.streams


def bring_up_upstreams(fleet: Fleet, work: Path, core: int) -> tuple[int, int]:
    """Start both mock providers on the load's core; return the port of the plain and of the paced one."""
    plain, paced = processes.free_port(), processes.free_port()
    config = work / "mock.conf"
    config.write_text(upstream.nginx_config(plain, work))
    env = environment(work)
    argv = ("nginx", "-e", str(work / "mock-start.log"), "-c", str(config))
    try:
        mock = fleet.start(Launch(argv, env, work, core, work / "mock.out"))
    except FileNotFoundError as error:
        raise NotMeasured("the mock provider needs nginx; on Debian: apt-get install nginx-light") from error
    pacer = (sys.executable, str(Path(upstream.__file__)), "--port", str(paced))
    pid = fleet.start(Launch(pacer, env, work, core, work / "paced.out"))
    fleet.wait_port(mock, plain)
    fleet.wait_port(pid, paced)
    return plain, paced


def run(settings: Settings, root: Path, work: Path, penstock: Path) -> Findings:
    """Carry out one run and return what it found; every process that it started has ended then."""
    os.sched_setaffinity(0, {settings.cores[1]})  # the load is ours, and so are wrk and whatever else we call
    found = Findings(measure.machine(root, settings.cores), asdict(settings))
    with Fleet() as fleet:
        ports = bring_up_upstreams(fleet, work, settings.cores[1])
        Run(settings, fleet, Places(root, work, *ports, penstock), found).everything()
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

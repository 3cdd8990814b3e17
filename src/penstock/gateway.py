"""The line: every step of a call in order, and its one settlement.

`Gateway.open` is the product; a reader who knows it, and the steps that it takes, knows the program. No step knows the next
one, and none of them sees bytes: dialects stand at the two edges. Whatever happens after a call was let in, it leaves one
receipt, in the journal before the last chunk of the answer is given out.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from functools import partial
from random import Random
from time import monotonic, time_ns
from typing import Any, TypeVar

from msgspec import Struct, structs

from penstock.accounting import Accounting
from penstock.alarms import Alarms
from penstock.beginning import Directs, Steps
from penstock.calibrating import Calibration
from penstock.call import Call, Caller, Who
from penstock.closing import Books
from penstock.config import catalog_text, stamp
from penstock.counting import count_asking
from penstock.deadlines import Deadlines
from penstock.direct import Direct
from penstock.draining import Drains
from penstock.errors import DeadlineExceeded, Internal, Overloaded, PenstockError
from penstock.execute import Arrived, Driver, Rules
from penstock.flow import Flow
from penstock.flushing import Flusher
from penstock.foresight import Foresight, Skipped, steps
from penstock.identity import Identity
from penstock.inflight import STATIC, InFlight, opening, static_events
from penstock.ledger.budgets import Hold
from penstock.ledger.cache import ReplyCache, Stored
from penstock.ledger.cache import key as cache_key
from penstock.ledger.keys import Keyring, read_pepper
from penstock.ledger.ledger import Ledger, LedgerSettings
from penstock.plugins import PROVIDERS, Provider, find
from penstock.policy.admission import Admission, attribute
from penstock.policy.sampling import pin
from penstock.providers.webhook import Webhook
from penstock.receipt import Receipt, Status
from penstock.reply import Chunk, Opening
from penstock.reservations import Reservations
from penstock.routing.catalog import Catalog, read_catalog
from penstock.routing.health import Health, HealthSettings
from penstock.routing.router import Plan, Router
from penstock.settings import Config, Pins
from penstock.sharing import Following, Joining, Sharing, Terms
from penstock.standing import TargetLine
from penstock.telemetry.metrics import Metrics
from penstock.tokens.count import Count
from penstock.waiting import Lobby
from penstock.warming import warm

T = TypeVar("T")

log = logging.getLogger("penstock")


class Process(Struct, frozen=True):
    """What outlives a configuration: the ledger, who is known, what was counted, and the clocks.

    `clock` gives the loop's monotonic seconds, `wall_ns` nanoseconds since the epoch.
    """

    ledger: Ledger
    catalog: Catalog
    identity: Identity
    metrics: Metrics
    flusher: Flusher
    alarms: Alarms
    calibration: Calibration
    rng: Random
    clock: Callable[[], float] = monotonic
    wall_ns: Callable[[], int] = time_ns
    catalog_text: bytes = b""


class Gateway:
    """One configuration at work; `succeed` gives the gateway of the next one."""

    def __init__(self, config: Config, process: Process, before: "Gateway | None" = None) -> None:
        """Build everything that the configuration says; `before` is what this takes the place of. Raises ConfigError."""
        now, now_ns = process.clock(), process.wall_ns()
        self.config, self.process = config, process
        self.ledger, self.metrics = process.ledger, process.metrics
        self.keys, self.identity, self._hashed = process.identity.keys, process.identity, process.identity.hashed
        self.in_flight = 0
        self._clock, self._wall_ns = process.clock, process.wall_ns
        kept = {} if before is None else before.kept_providers(config)
        self.kept = tuple(kept.values())
        made: dict[str, Provider] = {p.name: kept.get(p.name) or find(PROVIDERS, p.kind)(p) for p in config.providers}
        self._providers = made
        self._stamps = {p.name: stamp(p) for p in config.providers}
        held = None if before is None else before.reservations
        self.reservations: Reservations = Reservations.of(config, self.ledger.store.sums, now_ns, held)
        self.router = Router(config, process.catalog, {name: p.dialect for name, p in made.items()})
        self.default_model = next(iter(self.router.models), "")  # is meant where none is named
        limits = {p.name: HealthSettings(p.concurrency, p.rpm, p.tpm, p.probe_s, p.slow_s) for p in config.providers}
        self.health: Health = Health(limits, now, None if before is None else before.health)
        self.admission: Admission = Admission(config, now, None if before is None else before.admission)
        self.lobby: Lobby = Lobby(self.admission, config.server, process.clock) if before is None else before.lobby
        self.sharing: Sharing = Sharing(ReplyCache(), process.clock) if before is None else before.sharing
        pinned = [(feature.name, pins) for feature in config.features if (pins := feature.pins) is not None]
        self._pins: dict[str | None, Pins] = dict(pinned)
        self._deadlines: Deadlines[InFlight[Hold]] = Deadlines(process.clock, self._over)
        learnt, told, flusher = process.calibration, self.metrics, process.flusher
        room, times = (self.admission.leave, self.lobby.left), (self._deadlines, process.clock)
        books = Books(flusher, self.reservations, *room, told.observe, told.count, learnt, config.hash, *times)
        self._learnt, accounts = learnt, Accounting(books, self)
        self._accounts, self.settle, self.grow = accounts, accounts.settle, accounts.grow
        self.settle_told = accounts.settle_told
        rules, again = Rules.of(config.providers, self.health, process.rng), self._accounts.again
        self._line = TargetLine(self.health, config.server, process.clock, self.lobby, self.admission.priority)
        self._driver: Driver[InFlight[Hold]] = Driver(made, rules, self._line, process.clock, again)
        self.resume = self._driver.resume
        self._drains = Drains(rules.sheltered, process.clock, self.settle, self.grow)
        self._run = partial(self._drains.pursue, run=self._driver.run) if rules.sheltered else self._driver.run
        steps = Steps(self.admission, self._accounts, self._driver, process, made, rules.sheltered)
        self.direct = Directs(self, steps, config.server.deadline_s).begin
        self._successor: Gateway | None = None
        self._before, self._idle, self.retired = before, asyncio.Event(), asyncio.Event()
        process.alarms.reload(config, self.reservations.budgets.walk)
        if before is not None:
            self.lobby.reload(self.admission, config.server)
        targets = [target for plan in self.router.models.values() for target in plan.targets]
        self.warm = partial(warm, targets, made)  # loads what the first calls would have to wait for
        self.metrics.watch(lambda: self.in_flight, self._line)

    # -- the line --

    async def foresee(self, call: Call, who: Who, caller: Caller) -> Foresight:
        """Say what would be done with a call, without calling anyone. Raises as `open` does before the first try."""
        call, _, plan = self.planned(call, who, caller)
        if not plan.surely_serves(call):
            plan = await self._fit(call, plan)
        now_ns, dearest = self._wall_ns(), self._accounts.dearest
        told = await steps(
            *(call, plan.targets),
            lambda target, tokens: dearest(Plan.of(plan.model, (target,)), call, tokens, now_ns),
            self._learnt.count,
        )
        left = tuple(Skipped(one.target, one.reason) for one in plan.left_out)
        return Foresight(plan.model, told, left, plan.options.static)

    async def count(self, call: Call, who: Who, caller: Caller) -> Count:
        """Count a prompt for the model that would answer. Raises as `open` does before the first try; leaves no receipt."""
        call, _, plan = self.planned(call, who, caller)
        target, limit_s = plan.targets[0], caller.within(self.config.server.deadline_s)
        counted = await count_asking(call, target, self._providers[target.provider], self._clock() + limit_s, limit_s)
        return self._learnt.corrected(counted, target)

    async def open(self, call: Call, who: Who, caller: Caller) -> AsyncGenerator[Opening | Chunk, None]:
        """Take one call through the line: give its `Opening`, then its chunks, the last of which has the receipt.

        Raises a PenstockError where nothing can be given; after the opening a failure is a chunk with `Failed`.
        """
        flow = await self.begin(call, who, caller)
        try:
            yield flow.opening
            while (chunk := await flow.next()) is not None:
                yield chunk
        finally:
            flow.close()

    async def begin(self, call: Call, who: Who, caller: Caller) -> Flow[Hold] | Following:
        """Take one call through the line up to the first content of its answer, from where on it flows. Raises as `open`."""
        now_ns, now = self._wall_ns(), self._clock()
        flight: InFlight[Hold] = InFlight(self.ledger.new_id(now_ns), now_ns, now, call, who)
        flight.deadline = now + caller.within(self.config.server.deadline_s)
        self.in_flight += 1
        try:
            flight.call, flight.who, plan = self.planned(call, who, caller)
            flight.ticket = self.admission.try_enter(flight.who, plan.model, flight.call, now)
            if flight.ticket is None:
                flight.ticket = await self.lobby.enter(flight.who, plan.model, flight.call, flight.deadline)
            options = plan.options
            if (options.cache_s is not None or options.stale_s is not None) and caller.cache != "no-store":
                flight.key = cache_key(flight.call, flight.who, "\n".join((plan.model, *plan.ids)))
                flight.cache = "none" if flight.key is None else "miss"
            if flight.key is None:
                return await self._onward(flight, plan)
        except BaseException as error:
            self.break_off(flight, error)
            raise
        return await self._shared(flight, plan, caller)

    async def _shared(self, flight: InFlight[Hold], plan: Plan, caller: Caller) -> Flow[Hold] | Following:
        """Give an answer from the cache, or one that is on its way to somebody else."""
        assert flight.key is not None, "without one nothing can be shared"
        fresh_s = None if caller.cache == "refresh" else plan.options.cache_s

        def finish(error: PenstockError | None, theirs: Receipt | None) -> Receipt:
            flight.follow(error, theirs)
            return self.settle(flight).receipt

        terms, joining = Terms(fresh_s, single=fresh_s is not None), Joining(flight.id, flight.deadline, finish)
        found = await self.sharing.begin(
            flight.key, terms, lambda: self.guard(flight, self._onward(flight, plan)), joining
        )
        if not isinstance(found, Following):
            return self._kept(flight, found, "hit", "ok")
        if not found.leads:
            found.opening = flight.share(found.opening)
        return found

    def _kept(self, flight: InFlight[Hold], stored: Stored, cache: str, status: Status) -> Flow[Hold]:
        """Give an answer of the cache."""
        flight.reuse(stored, self.router.find(stored.target), cache, status)
        return Flow(self, flight, structs.replace(stored.opening(flight.id), cache=cache), None, stored.chunk)

    async def go_on(self, begun: Direct) -> Flow[Hold]:
        """Take a call on that was begun without a task, where that has come to its end. Raises as `open`."""
        begun.over = True
        if begun.defect is not None:
            self.break_off(begun.flight, begun.defect)
            raise begun.defect
        arrived = partial(begun.prepared.arrived, begun.flight.deadline)
        return await self.guard(begun.flight, self._onward(begun.flight, begun.plan, arrived))

    async def _onward(self, flight: InFlight[Hold], plan: Plan, arrived: Arrived | None = None) -> Flow[Hold]:
        """Every step behind admission; of a call of which something has `arrived`, what is left of them."""
        call, asked = flight.call, plan
        flight.wait()
        self._deadlines.watch(flight)
        if not plan.surely_serves(call):
            plan = await self._fit(call, plan)
        try:
            if arrived is not None:
                live, chunk = await self._driver.go_on(flight, plan.targets, arrived)
            else:
                if not self._line.has_room(flight, plan.targets):
                    plan = await self._elsewhere(flight, plan)
                if not self._accounts.reserve(flight, plan):
                    await self._accounts.reserve_counted(flight, plan)
                self._accounts.intend(flight, plan.targets[0])
                flight.go(plan.targets, asked.baseline, continues=plan.options.continues)
                live, chunk = await self._run(flight, plan.targets)
        except PenstockError as error:
            return self._last_rung(flight, asked, error)
        flight.waiting = False
        return Flow(self, flight, opening(flight, live), live, chunk)

    def _last_rung(self, flight: InFlight[Hold], plan: Plan, error: PenstockError) -> Flow[Hold]:
        """Give what the route says instead of an answer, or raise why there is none."""
        static, stale_s = plan.options.static, plan.options.stale_s
        if error.then == "stop" and not isinstance(error, Overloaded):
            raise error
        stale = None if flight.key is None or stale_s is None else self.sharing.stale(flight.key, stale_s)
        if stale is not None:
            return self._kept(flight, stale, "stale", "degraded")
        if static is None:
            raise error
        flight.degrade(STATIC, "translated", flight.cache)
        fixed = Opening(flight.id, STATIC, "translated", len(flight.tries))
        return Flow(self, flight, fixed, None, Chunk(static_events(plan.model, static)))

    async def guard(self, flight: InFlight[Hold], work: Coroutine[Any, Any, T]) -> T:
        """Do some work of a call; whatever it raises ends the call, and comes out as a PenstockError or a cancellation."""
        try:
            return await work
        except BaseException as error:
            self.break_off(flight, error)
            raise

    def break_off(self, flight: InFlight[Hold], error: BaseException) -> None:
        """Settle a call that something ended while it was worked on; what is to be raised instead of that is raised here."""
        if isinstance(error, PenstockError):
            flight.fail("error" if flight.intended else "refused", error)
            self.settle(flight)
        elif isinstance(error, asyncio.CancelledError):
            is_ours = flight.cut(error)
            self.abandon(flight)
            if is_ours and flight.error is not None:
                raise flight.error from None
        elif isinstance(error, Exception):  # which should not happen: the log has it, the client gets no details
            log.error("call %s failed", flight.id, exc_info=error)
            flight.fail("error", Internal("The gateway failed.", hint=f"Its log tells more, under {flight.id}."))
            self.settle(flight)
            raise (flight.error or error) from error

    # -- the steps --

    def planned(self, call: Call, who: Who, caller: Caller) -> tuple[Call, Who, Plan]:
        """Say who pays, what is pinned and where the call may go."""
        who = self._hashed(attribute(who, caller, call))
        if who.feature in self._pins:
            call = pin(call, self._pins[who.feature])
        return call, who, self.router.plan_call(call, who)

    async def _fit(self, call: Call, plan: Plan) -> Plan:
        """Leave out what has no room for the call, by a count."""
        return plan.fit(call, {t.id: (await self._learnt.count(call, t)).band[0] for t in plan.targets})

    async def _elsewhere(self, flight: InFlight[Hold], plan: Plan) -> Plan:
        """Go where the route allows it, as there is no room at the plan's targets, or stand there. Raises Overloaded."""
        line, other = self._line, plan.options.when_busy
        if other is not None and line.has_room(flight, (instead := self.router.plan(other, Who())).targets):
            with suppress(PenstockError):  # it may not be able to do what is asked
                return instead if instead.surely_serves(flight.call) else await self._fit(flight.call, instead)
        line.refuse_hopeless(flight, plan.targets)
        return plan

    def abandon(self, flight: InFlight[Hold]) -> None:
        """Settle a call that nobody waits for any more, at once or when its reply has been read to the end."""
        if flight.settled is None and self._drains.wants(flight):
            self._drains.begin(flight)
        else:
            self._drains.give_up(flight)
            self.settle(flight)

    def _over(self, flight: InFlight[Hold]) -> None:
        """End a call that outlasts its deadline, although its provider, or its caller, does not."""
        if not flight.waiting:
            flight.fail("error", DeadlineExceeded("The deadline passed before the caller had taken the answer."))
            self.settle(flight)
        elif flight.task is not None:
            flight.task.cancel()

    def idle(self) -> None:
        """Hear that no call is in flight any more."""
        self._idle.set()

    # -- from one configuration to the next --

    def succeed(self, config: Config) -> "Gateway":
        """Make the gateway of another configuration, which takes over what this one knows. Raises ConfigError.

        Calls in flight end here; whoever asks the new one from now on lets this one `retire`.
        """
        text, known = catalog_text(config.home), self.process
        if text != known.catalog_text:  # to read it takes as long as some hundred calls
            known = structs.replace(known, catalog=read_catalog(text), catalog_text=text)
        self._successor = Gateway(config, known, self)
        return self._successor

    def kept_providers(self, config: Config) -> dict[str, Provider]:
        """Give the providers that another configuration has as well, just as they are here."""
        same = [p for p in config.providers if self.config.provider(p.name) == p and self._stamps[p.name] == stamp(p)]
        return {p.name: self._providers[p.name] for p in same}

    async def retire(self) -> None:
        """Let calls in flight end, here and in those before, then close what the successor did not take over."""
        if self._before is not None:
            await self._before.retired.wait()
            self._before = None
        while self.in_flight:
            self._idle.clear()
            await self._idle.wait()
        self._deadlines.close()
        taken = set() if self._successor is None else {*map(id, self._successor.kept)}
        for provider in self._providers.values():
            if id(provider) not in taken:
                await provider.close()
        self.retired.set()

    async def close(self) -> None:
        """Let go of the providers and write the ledger out."""
        self.lobby.close()
        await self.sharing.close()
        await self._drains.close()
        self._deadlines.close()
        self.process.flusher.close()
        await self.process.alarms.close()
        for provider in self._providers.values():
            await provider.close()
        self.reservations.close()
        self._learnt.close()
        self.ledger.close()


def start(config: Config, *, clock: Callable[[], float] = monotonic, wall_ns: Callable[[], int] = time_ns) -> Gateway:
    """Open the ledger of a configuration (after a crash: settle what was left open) and make its gateway."""
    ledger = Ledger.open(config.home, now_ns=wall_ns(), settings=LedgerSettings(sync=config.ledger.sync))
    text = catalog_text(config.home)
    made = process(config, ledger, read_catalog(text), clock=clock, wall_ns=wall_ns)
    return Gateway(config, structs.replace(made, catalog_text=text))


def process(
    config: Config,
    ledger: Ledger,
    catalog: Catalog,
    *,
    clock: Callable[[], float],
    wall_ns: Callable[[], int],
    rng: Random | None = None,
) -> Process:
    """Put together what outlives a configuration."""
    identity = Identity(Keyring(ledger.store, read_pepper(config.home)), clock, wall_ns)
    metrics, kept = Metrics(), ledger.store
    alarms = Alarms(Webhook(metrics.alert_failed), metrics, config.home, clock, wall_ns)
    learnt, dice = Calibration(kept.factors, kept.keep_factors), rng or Random()  # noqa: S311 - jitter
    flusher = Flusher(ledger, metrics.add_up)
    return Process(ledger, catalog, identity, metrics, flusher, alarms, learnt, dice, clock, wall_ns)

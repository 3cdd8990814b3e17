"""The line: every step of a call in order, and its one settlement.

`Gateway.open` is the product; a reader who knows it, and the steps that it takes, knows the program. No step knows the next
one, and none of them sees bytes: dialects stand at the two edges. Whatever happens after a call was let in, it leaves one
receipt, in the journal before the last chunk of the answer is given out.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from datetime import date
from math import inf
from random import Random
from time import monotonic, time_ns
from typing import Any, TypeVar

from penstock.call import Call, Caller, Who
from penstock.config import catalog_text
from penstock.counting import INLINE_BYTES, count_prompt, count_used, load
from penstock.deadlines import Deadlines
from penstock.errors import (
    BudgetExhausted,
    DeadlineExceeded,
    Internal,
    PenstockError,
    Unauthenticated,
    UpstreamError,
)
from penstock.execute import Driver, LiveTry
from penstock.flow import Flow
from penstock.foresight import Foresight, Skipped, Step
from penstock.inflight import STATIC, InFlight, opening, rough, static_events
from penstock.ledger.budgets import Budgets, Hold, limits_of
from penstock.ledger.keys import Keyring, read_pepper
from penstock.ledger.ledger import Ledger, LedgerSettings
from penstock.ledger.records import Intent
from penstock.plugins import PROVIDERS, Counts, Provider, Warms, find
from penstock.policy.admission import Admission, attribute
from penstock.policy.sampling import pin
from penstock.receipt import Receipt, Usage
from penstock.reply import Chunk, Opening
from penstock.routing.attempts import Patience
from penstock.routing.catalog import Catalog, read_catalog
from penstock.routing.router import Plan, Router
from penstock.settings import Config
from penstock.target import Ceiling, ceilings, most, usd
from penstock.telemetry.metrics import Metrics
from penstock.tokens.count import Count

T = TypeVar("T")

log = logging.getLogger("penstock")

TEMPLATE_TOKENS = 256
"""What a chat template may add to any prompt (role marks, a default system text), on top of the bound of a call."""

UNLIKELY = 1_000_000_000
"""Tokens of a prompt: a provider that counts as many is not believed."""
CEILINGS = 1000
FLUSH_S = 0.02
FLUSH_ROWS = 256  # together: a transaction costs as much as many rows
KEYS_S = 0.25
"""How old may be what this process knows of keys that another one made or revoked."""

OPEN_DOOR = Who(admin=True)
"""Who calls while there is no key at all; the server then listens on loopback only."""


class Gateway:
    """One configuration at work. `clock` gives the loop's monotonic seconds, `wall_ns` nanoseconds since the epoch."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        catalog: Catalog,
        *,
        clock: Callable[[], float] = monotonic,
        wall_ns: Callable[[], int] = time_ns,
        rng: Random | None = None,
    ) -> None:
        self.config = config
        self.ledger = ledger
        self.metrics = Metrics()
        self.keys = Keyring(ledger.store, read_pepper(config.home))
        self._keys_seen = -inf
        self.in_flight = 0
        self._clock = clock
        self._wall_ns = wall_ns
        self._providers: dict[str, Provider] = {p.name: find(PROVIDERS, p.kind)(p) for p in config.providers}
        self.router = Router(config, catalog, {name: p.dialect for name, p in self._providers.items()})
        self._admission = Admission(config.teams, clock())
        self._budgets = Budgets(limits_of(config), now_ns=wall_ns(), sums=ledger.store.sums)
        self._pins = {feature.name: pins for feature in config.features if (pins := feature.pins) is not None}
        patience = {p.name: Patience(retries=p.retries) for p in config.providers}
        self._driver = Driver(self._providers, rng or Random(), clock, patience, self._again)  # noqa: S311 - jitter
        self._day = (0, "")
        self._ceilings: dict[tuple[str, ...], tuple[tuple[Ceiling, ...] | None]] = {}  # of today
        self._timer: asyncio.TimerHandle | None = None
        self._deadlines: Deadlines[InFlight[Hold]] = Deadlines(clock, self._over)
        self._closed = False
        self.metrics.watch(lambda: self.in_flight)

    @property
    def default_model(self) -> str:
        """The model that is meant where none is named: the first of the configuration; "" where it names none."""
        return next(iter(self.router.models), "")

    # -- the line --

    def identify(self, caller: Caller) -> Who:
        """Say whose key a request carries, before its body is read. Raises Unauthenticated."""
        keys, now = self.keys, self._clock()
        if now - self._keys_seen > KEYS_S:
            self._keys_seen = now
            keys.refresh()
        if keys.empty:
            return OPEN_DOOR
        if caller.key is None:
            raise Unauthenticated(
                "This gateway asks for a key and the request has none.",
                hint='Send it as "authorization: Bearer ps-...".',
            )
        key = keys.find(caller.key, self._wall_ns())
        if key is None:
            raise Unauthenticated("The key is unknown, revoked or expired.", hint="Make one: penstock keys create.")
        return Who(key_id=key.id, team=key.team, feature=key.feature, admin=key.admin)

    async def foresee(self, call: Call, who: Who, caller: Caller) -> Foresight:
        """Say what would be done with a call, without calling anyone. Raises as `open` does before the first try."""
        call = self._pin(call, who := self._attribute(who, caller, call))
        plan = self.router.plan_call(call, who)
        if not plan.surely_serves(call):
            plan = await self._fit(call, plan)
        now_ns, steps = self._wall_ns(), []
        for number, target in enumerate(plan.targets):
            count = await count_prompt(call, target.profile)
            ceiling = self._dearest(Plan.of(plan.model, (target,)), call, count.band[1] + TEMPLATE_TOKENS, now_ns)
            note = "first" if number == 0 else "if all before it fail"
            steps.append(Step(target.id, count, None if ceiling is None else usd(ceiling), note))
        left = tuple(Skipped(one.target, one.reason) for one in plan.left_out)
        return Foresight(plan.model, tuple(steps), left, plan.static)

    async def count(self, call: Call, who: Who, caller: Caller) -> Count:
        """Count a prompt for the model that would answer: with its own vocabulary, else by asking its provider, else roughly.

        What the provider does not say within the call's time, or says in jest, is estimated. Raises as `open` does before the first try. Nothing is spent and no receipt is left.
        """
        call = self._pin(call, who := self._attribute(who, caller, call))
        target = self.router.plan_call(call, who).targets[0]
        count = await count_prompt(call, target.profile)
        provider = self._providers[target.provider]
        if count.certainty == "exact" or not isinstance(provider, Counts):
            return count
        own = self.config.server.deadline_s
        limit_s = own if caller.deadline_s is None else min(own, caller.deadline_s)
        with suppress(UpstreamError, DeadlineExceeded, TimeoutError):
            async with asyncio.timeout(limit_s):
                counted = await provider.count(call, target, self._clock() + limit_s)
            if counted is not None and 0 <= counted < UNLIKELY:
                return Count(counted, "provider", (counted, counted))
        return count

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

    async def begin(self, call: Call, who: Who, caller: Caller) -> Flow[Hold]:
        """Take one call through the line up to the first content of its answer, from where on it flows. Raises as `open`."""
        now_ns, now = self._wall_ns(), self._clock()
        flight: InFlight[Hold] = InFlight(self.ledger.new_id(now_ns), now_ns, now, call, who)
        self.in_flight += 1
        return await self.guard(flight, self._steps(flight, caller))

    async def _steps(self, flight: InFlight[Hold], caller: Caller) -> Flow[Hold]:
        """Every step of a call, in order."""
        call, who, now = flight.call, flight.who, flight.began
        flight.who = who = self._attribute(who, caller, call)
        flight.ticket = self._admission.enter(who, call, now)
        flight.call = call = self._pin(call, who)
        plan = self.router.plan_call(call, who)
        if not plan.surely_serves(call):
            plan = await self._fit(call, plan)
        await self._reserve(flight, plan)
        self._intend(flight, plan)
        self._watch(flight, caller)
        try:
            live, chunk = await self._driver.run(flight, plan.targets)
        except PenstockError as error:
            if plan.static is None or error.then == "stop":
                raise
            flight.status, flight.waiting = "degraded", False
            fixed = Opening(flight.id, STATIC, "translated", len(flight.tries))
            return Flow(self, flight, fixed, None, Chunk(static_events(plan.model, plan.static)))
        flight.waiting = False
        return Flow(self, flight, opening(flight, live), live, chunk)

    async def guard(self, flight: InFlight[Hold], work: Coroutine[Any, Any, T]) -> T:
        """Do some work of a call; whatever it raises ends the call, and comes out as a PenstockError or a cancellation."""
        try:
            return await work
        except PenstockError as error:
            flight.fail("error" if flight.intended else "refused", error)
            self.settle(flight)
            raise
        except asyncio.CancelledError as error:
            flight.cut(error)
            self.settle(flight)
            if flight.overdue and flight.error is not None:
                raise flight.error from None
            raise
        except Exception as error:
            defect = self._defect(flight, error)
            self.settle(flight)
            raise defect from error

    # -- the steps --

    def _attribute(self, who: Who, caller: Caller, call: Call) -> Who:
        who = attribute(who, caller, call)
        if who.user is None:
            return who
        return Who(who.key_id, who.team, who.feature, self.keys.user_hash(who.user, who.team), who.session)

    def _pin(self, call: Call, who: Who) -> Call:
        pins = self._pins.get(who.feature) if who.feature is not None else None
        return call if pins is None else pin(call, pins)

    async def _fit(self, call: Call, plan: Plan) -> Plan:
        """Leave out what has no room for the call, by a count."""
        return plan.fit(call, {t.id: (await count_prompt(call, t.profile)).band[0] for t in plan.targets})

    async def _reserve(self, flight: InFlight[Hold], plan: Plan) -> None:
        """Hold the dearest end of the plan: by a bound that is surely enough, else by a count. Raises BudgetExhausted."""
        bound = flight.call.input_bound
        if bound is not None:
            with suppress(BudgetExhausted):  # the bound may be far too high
                return self._hold(flight, plan, bound)
        counts = [await count_prompt(flight.call, target.profile) for target in plan.targets]
        flight.counted = counts[0].n
        return self._hold(flight, plan, max(count.band[1] for count in counts))

    def _hold(self, flight: InFlight[Hold], plan: Plan, tokens: int) -> None:
        flight.ceiling = self._dearest(plan, flight.call, tokens + TEMPLATE_TOKENS, flight.started_ns)
        flight.holds.append(self._budgets.hold(flight.who, flight.ceiling, flight.started_ns))

    def _dearest(self, plan: Plan, call: Call, input_tokens: int, now_ns: int) -> int | None:
        """Give the most that any target of the plan may cost, in nano-dollars; None if one of them has no price."""
        day = self._today(now_ns)
        known = self._ceilings.get(plan.ids)
        if known is None:
            if len(self._ceilings) >= CEILINGS:
                self._ceilings.clear()
            known = self._ceilings[plan.ids] = (ceilings(plan.targets, day),)
        of = known[0]
        return None if of is None else most(input_tokens, plan.output_bound(call), of)

    def _intend(self, flight: InFlight[Hold], plan: Plan) -> None:
        """Write down that the call will be made: from here on it cannot be lost."""
        who = flight.who
        self.ledger.intend(
            Intent(  # by position: see InFlight.close
                flight.id,
                flight.started_ns,
                flight.call.dialect,
                flight.call.model,
                flight.call.stream,
                who.key_id,
                who.team,
                who.feature,
                who.user,
                who.session,
                plan.targets[0].id,
                flight.ceiling,
                self.config.hash,
            )
        )
        flight.intended = True

    def _watch(self, flight: InFlight[Hold], caller: Caller) -> None:
        """Set the call's deadline, and see that it is kept."""
        own = self.config.server.deadline_s
        flight.task = asyncio.current_task()
        flight.deadline = flight.began + (own if caller.deadline_s is None else min(own, caller.deadline_s))
        self._deadlines.watch(flight)

    def _again(self, flight: InFlight[Hold]) -> None:
        """Hold once more: a further try after one that may be billed costs again. Raises BudgetExhausted."""
        flight.holds.append(self._budgets.hold(flight.who, flight.ceiling, flight.started_ns))

    def _over(self, flight: InFlight[Hold]) -> None:
        """End a call that outlasts its deadline, although its provider, or its caller, does not."""
        if not flight.waiting:
            flight.fail("error", DeadlineExceeded("The deadline passed before the caller had taken the answer."))
            self.settle(flight)
        elif flight.task is not None:
            flight.task.cancel()

    def _defect(self, flight: InFlight[Hold], error: Exception) -> PenstockError:
        """Log what should not happen, under the call's id; the client gets no details."""
        log.error("call %s failed", flight.id, exc_info=error)
        flight.fail("error", Internal("The gateway failed.", hint=f"Its log tells more, under {flight.id}."))
        return flight.error or Internal("The gateway failed.")

    def settle(self, flight: InFlight[Hold]) -> Receipt:
        """Close the call: usage, cost, receipt, hold, room, metrics. Never waits; runs once."""
        if flight.receipt is not None:
            return flight.receipt
        now, day, config = self._clock(), self._today(flight.started_ns), self.config.hash
        if flight.error is not None:
            flight.error.call_id = flight.id
        try:
            flight.close(now, day, self._estimate, config)
        finally:  # whatever a provider's exchange or a prompt does on the way
            receipt = self._book(flight, flight.receipt or flight.close(now, day, rough, config))
        return receipt

    def _book(self, flight: InFlight[Hold], receipt: Receipt) -> Receipt:
        """Write the receipt down, and give back what was reserved."""
        self.ledger.settle(receipt)
        cost = receipt.cost_nano_usd or 0
        for hold in flight.holds:
            self._budgets.settle(hold, cost)
            cost = 0  # the first hold books it all
        if flight.ticket is not None:
            self._admission.leave(flight.ticket, receipt.usage.input_tokens + receipt.usage.output_tokens)
        self._deadlines.forget(flight)
        self.in_flight -= 1
        self.metrics.observe(receipt)
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)
        return receipt

    def _estimate(self, flight: InFlight[Hold], live: LiveTry) -> Usage:
        """Count what a provider did not report: the prompt, and the text that passed; roughly, if they are long."""
        call, profile, meter = flight.call, live.target.profile, live.meter
        is_long = (call.input_bound or len(call.raw)) > INLINE_BYTES or meter.kept > INLINE_BYTES
        if is_long or profile.tokenizer is None:  # whose vocabulary is not public is not worth loading another one
            return rough(flight, live)
        return count_used(call, meter.text, profile)

    # -- around the line --

    async def warm(self) -> None:
        """Load what the first calls would have to wait for: vocabularies, and models that run in this process."""
        targets = [target for plan in self.router.models.values() for target in plan.targets]
        for name in dict.fromkeys(target.provider for target in targets):
            provider = self._providers[name]
            if isinstance(provider, Warms):
                try:
                    await provider.warm()
                except PenstockError as error:
                    log.warning("%s: %s", name, error)
        await asyncio.to_thread(load, [target.profile for target in targets])

    def _today(self, now_ns: int) -> str:
        number = now_ns // 86_400_000_000_000
        if self._day[0] != number:
            self._day = (number, date.fromordinal(719_163 + number).isoformat())
            self._ceilings.clear()
        return self._day[1]

    def _flush(self) -> None:
        """Move settled rows into SQL, a few at a time, so that no call waits long."""
        backlog = self.ledger.flush(FLUSH_ROWS)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(FLUSH_S, self._flush) if backlog else None

    async def close(self) -> None:
        """Let go of the providers and write the ledger out."""
        self._closed = True
        self._deadlines.close()
        if self._timer is not None:
            self._timer.cancel()
        for provider in self._providers.values():
            await provider.close()
        self.ledger.close()


def start(config: Config, *, clock: Callable[[], float] = monotonic, wall_ns: Callable[[], int] = time_ns) -> Gateway:
    """Open the ledger of a configuration (after a crash: settle what was left open) and make its gateway."""
    ledger = Ledger.open(config.home, now_ns=wall_ns(), settings=LedgerSettings(sync=config.ledger.sync))
    return Gateway(config, ledger, read_catalog(catalog_text()), clock=clock, wall_ns=wall_ns)

"""Gives alerts about budgets out: a line in the log, a counter, and a post to the webhook.

A timer looks at the budgets about once a second, a slice of them in one turn of the loop, and never takes more than a
twentieth of its time; a call costs nothing for it. What is due, `telemetry/alerts.py` says; that it is told once,
however many workers see it and however often they are started anew, `telemetry/told.py`. Where that memory cannot be used
alerts are given out all the same: rather twice than never.

Place in the line: beside it. `gateway.py` says where the budgets are and brings the webhook. Decides nothing itself.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

import msgspec

from penstock.errors import PenstockError
from penstock.settings import Config
from penstock.telemetry import notices
from penstock.telemetry.alerts import NS_PER_S, Due, Rules, Standing, Watches, claim
from penstock.telemetry.metrics import Budgets, Metrics
from penstock.telemetry.told import Told

log = logging.getLogger("penstock")

LOOK_S = 1.0
"""Between two looks at all budgets."""
SLICE = 200
"""Budgets that are looked at in one turn of the loop."""
BREATH_S = 0.005
"""Between two slices."""
SHARE = 20
"""A look is followed by a pause of at least so many times as long as it took."""
PATIENCE = 5
"""Looks for which alerts wait while another process sits on the memory of what was told."""
TIDY_NS = 3_600 * NS_PER_S


class Scope(Protocol):
    """Whose a budget is; see `ledger.limits.Scope`."""

    @property
    def kind(self) -> str:
        """Whether it is a team's, a feature's, a model's, a key's or a user's."""

    @property
    def name(self) -> str:
        """The name."""


class Limit(Protocol):
    """What a budget allows; see `ledger.limits.Limit`."""

    @property
    def scope(self) -> Scope:
        """Whose it is."""

    @property
    def window(self) -> str:
        """Whether it is a day's or a month's."""

    @property
    def nano_usd(self) -> int:
        """So much in each."""

    @property
    def zone(self) -> str:
        """Where the day or the month is one."""

    @property
    def soft(self) -> bool:
        """Whether it refuses nobody."""


class State(Protocol):
    """A budget at a moment; see `ledger.limits.BudgetState`."""

    @property
    def limit(self) -> Limit:
        """What it allows."""

    @property
    def spent_nano_usd(self) -> int:
        """What is spent in this period."""

    @property
    def held_nano_usd(self) -> int:
        """What calls in progress hold."""

    @property
    def starts_ns(self) -> int:
        """When the period began."""

    @property
    def resets_ns(self) -> int:
        """When it ends."""

    @property
    def refused(self) -> int:
        """How many calls it refused in this period since too little was left, as far as this process knows."""


class Poster(Protocol):
    """The way to the webhook; see `providers.webhook.Webhook`."""

    def post(self, body: bytes) -> None:
        """Have a JSON document delivered, and never wait."""

    def reload(self, config: Config) -> None:
        """Post to where this configuration says. Raises ConfigError."""

    async def close(self) -> None:
        """Deliver what waits, within two seconds."""


States = Callable[[int], Iterable[State]]
"""Gives every budget as it is at a moment, in nanoseconds since the epoch."""


class Alarms:
    """The alerts of one process. `clock` gives monotonic seconds, `wall_ns` nanoseconds since the epoch."""

    def __init__(
        self, poster: Poster, metrics: Metrics, home: Path, clock: Callable[[], float], wall_ns: Callable[[], int]
    ) -> None:
        """Begin; nothing is looked at before the first `reload`. What was told is remembered in `home`."""
        self._poster, self._metrics, self._told = poster, metrics, Told(home)
        self._clock, self._wall_ns = clock, wall_ns
        self._watches = Watches(Rules(), wall_ns())
        self._tidied_ns = wall_ns()
        self._states: States = _none
        self._timer: asyncio.TimerHandle | None = None
        self._pass: Iterator[State] | None = None  # the look that is under way
        self._seen = Budgets()
        self._took_s = 0.0
        self._busy = 0
        self._complained = self._forgets = False
        self._closed = False

    def reload(self, config: Config, states: States) -> None:
        """Go by this configuration, and look at these budgets from now on, if an event loop runs; what was told stays told.

        Raises ConfigError where the webhook cannot be posted to; then all is as it was.
        """
        self._poster.reload(config)
        self._watches.reload(Rules(config.alerts.budget_percent, config.alerts.burn_rate))
        self._states, self._pass = states, None
        if self._timer is None and not self._closed:
            try:
                self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._turn)
            except RuntimeError:  # nobody is served, so nothing is spent
                return

    def look(self, states: Iterable[State]) -> None:
        """Look at all budgets at once, and give out what is due."""
        self._begin(states)
        while self._slice():
            pass

    async def close(self) -> None:
        """Look once more and stop; give the webhook two seconds for what waits."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._closed:
            self._closed = True
            self._guarded(lambda: self.look(self._states(self._wall_ns())))
            self._told.close()
            await self._poster.close()

    # -- the timer --

    def _turn(self) -> None:
        began = self._clock()
        more = False
        try:
            more = self._guarded(self._go_on)
        finally:
            self._took_s += self._clock() - began
            pause_s = BREATH_S
            if not more:
                pause_s, self._took_s = max(LOOK_S, SHARE * self._took_s), 0.0
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._turn)

    def _go_on(self) -> bool:
        """Begin a look, or go on with the one that is under way; say whether there is more to come."""
        if self._pass is None:
            self._begin(self._states(self._wall_ns()))
        return self._slice()

    def _guarded(self, work: Callable[[], bool | None]) -> bool:
        """Do something with the budgets; where they cannot be read now, say so once and go on with the next look."""
        try:
            more = bool(work())
        except (PenstockError, OSError) as error:
            self._pass = None
            if not self._complained:
                log.warning("the budgets cannot be looked at, so no alert is given out: %s", error)
            self._complained = True
            return False
        self._complained = False
        return more

    # -- a look --

    def _begin(self, states: Iterable[State]) -> None:
        self._pass, self._seen = iter(states), Budgets()

    def _slice(self) -> bool:
        assert self._pass is not None, "a look has begun"
        now_ns, look = self._wall_ns(), self._watches.look
        budgets = [_standing(state) for state in islice(self._pass, SLICE)]
        due: list[Due] = []
        for budget in budgets:
            self._seen.add(budget)
            due += look(budget, now_ns)
        if due:
            self._give(due, now_ns)
        if len(budgets) == SLICE:
            return True
        self._metrics.budgets, self._pass = self._seen, None
        if not -TIDY_NS < now_ns - self._tidied_ns < TIDY_NS:
            self._tidied_ns = now_ns
            self._watches.forget(now_ns)
        return False

    def _give(self, due: list[Due], now_ns: int) -> None:
        """Claim what is due, and tell what nobody has told."""
        ours = self._claimed(due, now_ns)
        if ours is None:
            return  # it is due at the next look as well
        for one, is_ours in zip(due, ours, strict=True):
            self._watches.told(one)
            if is_ours and not one.silent:
                self._tell(one)

    def _claimed(self, due: list[Due], now_ns: int) -> tuple[bool, ...] | None:
        try:
            ours = self._told.claim([claim(one) for one in due], now_ns // NS_PER_S)
        except OSError as error:
            if not self._forgets:
                log.warning("what alerts were told cannot be remembered, so some may be told twice: %s", error)
            self._forgets = True
            return (True,) * len(due)
        self._busy = 0 if ours is not None else self._busy + 1
        if self._busy > PATIENCE:
            self._busy = 0
            return (True,) * len(due)
        return ours

    def _tell(self, due: Due) -> None:
        said = notices.notice(due, self._told.instance)
        log.warning("alert %s %s: %s", said.event, said.id, said.text)
        self._metrics.alert(due.event, due.percent)
        self._poster.post(msgspec.json.encode(said))


def sample(now_ns: int) -> tuple[str, bytes]:
    """Give an alert that is only a test: its id, and what is posted."""
    said = notices.sample(now_ns)
    return said.id, msgspec.json.encode(said)


def _standing(state: State) -> Standing:
    limit = state.limit
    scope = limit.scope
    return Standing(
        scope.kind,
        scope.name,
        limit.window,
        limit.nano_usd,
        state.spent_nano_usd,
        state.held_nano_usd,
        state.starts_ns,
        state.resets_ns,
        limit.zone,
        limit.soft,
        state.refused,
    )


def _none(_now_ns: int) -> Iterable[State]:
    return ()

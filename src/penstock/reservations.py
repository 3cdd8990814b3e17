"""What calls may cost at most, and the holds on budgets that are made of it.

Place in the line: between `gateway.py`, which says when, and the ledger's budgets, which say whether it fits.
"""

from pathlib import Path

from penstock.call import Who
from penstock.errors import Internal
from penstock.ledger.budgets import Budgets, SumUp
from penstock.ledger.limits import Hold, each_of, limits_of
from penstock.ledger.recording import Recording
from penstock.ledger.shared_budgets import SharedBudgets
from penstock.outbox import Outbox
from penstock.settings import Config
from penstock.target import Ceiling, Target, ceilings

PLANS = 1000
"""Plans of which the dearest rates are remembered."""


class Reservations:
    """The budgets of one configuration. `before` is what this takes the place of when a configuration is taken over."""

    def __init__(
        self,
        config: Config,
        *,
        now_ns: int,
        sums: SumUp,
        before: "Reservations | None" = None,
        shared: Path | None = None,
    ) -> None:
        """Begin; `shared` is the home whose processes share the budgets, None where this one is alone.

        Raises `Internal` and `Overloaded` where what they share cannot be used.
        """
        self.budgets: Budgets = _budgets(config, now_ns, sums, before, shared)
        self._day = ""
        self._ceilings: dict[tuple[str, ...], tuple[tuple[Ceiling, ...] | None]] = {}  # of that day

    @classmethod
    def of(cls, config: Config, sums: SumUp, now_ns: int, before: "Reservations | None") -> "Reservations":
        """Begin with the budgets of a configuration, shared where the process began as one of several workers."""
        is_shared = config.server.workers > 1 if before is None else isinstance(before.budgets, SharedBudgets)
        return cls(config, now_ns=now_ns, sums=sums, before=before, shared=config.home if is_shared else None)

    def rates(self, targets: tuple[Target, ...], ids: tuple[str, ...], day: str) -> tuple[Ceiling, ...] | None:
        """Give the dearest rates of any of these targets; None if one of them has no price. What they come to `most` says.

        `ids` are the names of the targets, `day` is ISO.
        """
        known = self._ceilings.get(ids) if self._day == day else None
        return self._find(targets, ids, day) if known is None else known[0]

    def _find(self, targets: tuple[Target, ...], ids: tuple[str, ...], day: str) -> tuple[Ceiling, ...] | None:
        """Work out the dearest rates of a plan, and remember them for the day."""
        if self._day != day or len(self._ceilings) >= PLANS:
            self._day = day
            self._ceilings.clear()
        of = ceilings(targets, day)
        self._ceilings[ids] = (of,)
        return of

    def hold(self, who: Who, ceiling: int | None, now_ns: int, call_id: str = "", model: str = "") -> Hold:
        """Hold so much in every budget that applies. Raises BudgetExhausted, and Overloaded where budgets are shared.

        `call_id` is the id of the intent and the receipt, which are written after this; `model` is what the call asks for.
        """
        return self.budgets.hold(who, ceiling, now_ns, call_id, model)

    def refuse(self, who: Who, ceiling: int | None, now_ns: int, model: str = "") -> None:
        """Take note that a call was refused since so much could not be held for it."""
        self.budgets.refuse(who, ceiling, now_ns, model)

    def grow(self, hold: Hold, ceiling: int) -> None:
        """Hold so much in all for a call that outgrows what is held for it. Raises as `hold`; then all is as it was."""
        self.budgets.grow(hold, ceiling)

    def settle(self, holds: list[Hold], cost_nano_usd: int) -> None:
        """Give back all that a call holds, and book what it cost; after its receipt is written.

        The first hold books it all, and is settled last: while it is open, a dead worker's call is known as not booked.
        """
        settle = self.budgets.settle
        if len(holds) > 1:
            for hold in holds[:0:-1]:
                settle(hold, 0)
        if holds:
            settle(holds[0], cost_nano_usd)

    def gather(self, outbox: Outbox, records: Recording) -> None:
        """Let what is recorded wait for the end of the turn of the loop, and behind it what is booked in shared budgets."""
        if isinstance(self.budgets, SharedBudgets):
            self.budgets.gather(outbox, records)
        records.gather(outbox)

    def close(self) -> None:
        """Let go of the budgets, after the last settlement."""
        self.budgets.close()


def _budgets(config: Config, now_ns: int, sums: SumUp, before: Reservations | None, shared: Path | None) -> Budgets:
    limits, each = limits_of(config), each_of(config)
    old = None if before is None else before.budgets
    if shared is None:
        if isinstance(old, SharedBudgets):
            raise Internal("Budgets that are shared stay so until the process ends.")
        return Budgets(limits, now_ns=now_ns, sums=sums, before=old, each=each)
    if old is not None and not isinstance(old, SharedBudgets):
        raise Internal("Budgets of one process cannot be shared before it ends.")
    return SharedBudgets(limits, now_ns=now_ns, home=shared, before=old, each=each)

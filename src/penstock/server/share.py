"""What each of several workers may have of the limits of a configuration, and what cannot be shared out.

Rates and calls at once are counted by every worker for itself, against its share: the limit over the number of workers,
rounded up. Budgets are kept by one process: more than one cannot have them. Pure.
"""

from typing import Any, TypeVar

from msgspec import Struct, structs

from penstock.errors import ConfigError, Mistake
from penstock.settings import BudgetSettings, Config

S = TypeVar("S", bound=Struct)

_SHARED = ("rpm", "tpm", "concurrency")


def check_workers(config: Config, workers: int) -> None:
    """Refuse what several workers cannot have. Raises ConfigError."""
    if workers == 1:
        return
    none = BudgetSettings()
    for table, rows in (("teams", config.teams), ("features", config.features)):
        for row in rows:
            if row.budget != structs.replace(none, zone=row.budget.zone):
                what = f"{workers} workers cannot keep one budget, and {table}.{row.name} has one."
                raise ConfigError(
                    config.source, (Mistake("server.workers", what, None, "Use one worker, or remove the budget."),)
                )


def share(config: Config, workers: int) -> Config:
    """Give what one of so many workers may have."""
    if workers == 1:
        return config
    server = structs.replace(
        config.server,
        queue=_part(config.server.queue, workers),
        max_connections=_part(config.server.max_connections, workers),
    )
    return structs.replace(
        config,
        server=server,
        providers=tuple(_shared(one, workers) for one in config.providers),
        models=tuple(_shared(one, workers) for one in config.models),
        teams=tuple(_shared(one, workers) for one in config.teams),
        features=tuple(_shared(one, workers) for one in config.features),
    )


def _shared(settings: S, workers: int) -> S:
    parts: dict[str, Any] = {name: getattr(settings, name) for name in _SHARED}
    return structs.replace(settings, **{k: _part(v, workers) for k, v in parts.items() if v is not None})


def _part(limit: int, workers: int) -> int:
    return -(-limit // workers)

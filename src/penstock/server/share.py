"""What each of several workers may have of the limits of a configuration.

Rates and calls at once are counted by every worker for itself, against its share: the limit over the number of workers,
rounded up. Budgets are not shared out: all workers keep them together. Pure.
"""

from typing import Any, TypeVar

from msgspec import Struct, structs

from penstock.settings import Config

S = TypeVar("S", bound=Struct)

_SHARED = ("rpm", "tpm", "concurrency")


def share(config: Config, workers: int) -> Config:
    """Give what one of so many workers may have."""
    if workers == 1:
        return config
    server = structs.replace(
        config.server,
        queue=_part(config.server.queue, workers),
        max_connections=_part(config.server.max_connections, workers),
        sharers=workers,
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

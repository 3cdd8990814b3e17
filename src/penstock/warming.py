"""Loads what the first calls would have to wait for: vocabularies, and models that run in this process.

Place in the line: beside `gateway.py`, once after the start; a model that cannot be loaded is a line in the log.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from penstock.counting import load
from penstock.errors import PenstockError
from penstock.plugins import Provider, Warms
from penstock.target import Target

log = logging.getLogger("penstock")


async def warm(targets: Sequence[Target], providers: Mapping[str, Provider]) -> None:
    """Load what these targets need."""
    for name in dict.fromkeys(target.provider for target in targets):
        provider = providers[name]
        if isinstance(provider, Warms):
            try:
                await provider.warm()
            except PenstockError as error:
                log.warning("%s: %s", name, error)
    for problem in await asyncio.to_thread(load, targets):
        log.warning("%s", problem)

"""Rule 6 is shown to fail on planted breaches."""

import pytest

from architecture import purity
from architecture.planted import Plant, check

BREACHES = (
    Plant(
        "a pure room waits",
        purity.purity,
        {
            "wire/x.py": """
                async def f(items):  # <-
                    await items  # <-
                    async for item in items:  # <-
                        pass
                    async with items:  # <-
                        pass
                    return [item async for item in items]  # <-
                """
        },
    ),
    Plant(
        "a pure room imports what acts",
        purity.purity,
        {
            "tokens/x.py": """
                import asyncio  # <-
                import socket as s  # <-
                from sqlite3 import connect  # <-
                import logging.handlers  # <-
                from time import monotonic as now  # <-
                import os.path  # <-
                """
        },
    ),
    Plant(
        "a pure room imports what acts, hidden",
        purity.purity,
        {
            "policy/x.py": """
                import importlib
                from typing import TYPE_CHECKING

                if TYPE_CHECKING:
                    import asyncio  # <-


                def f():
                    return importlib.import_module("time").time()  # <-


                def g():
                    return __import__("os").environ  # <-
                """
        },
    ),
    Plant(
        "a pure room opens files",
        purity.purity,
        {
            "routing/x.py": """
                import builtins
                import io
                from importlib import resources  # <-
                from pathlib import Path  # <-

                a = open("x")  # <-
                b = builtins.open("x")  # <-
                c = io.open("x")  # <-
                d = getattr(builtins, "open")("x")  # <-
                e = something.read_bytes()  # <-
                f = map(open, [])  # <-
                """
        },
    ),
    Plant(
        "a pure room reads the clock through another module",
        purity.purity,
        {
            "routing/x.py": """
                import datetime
                from datetime import datetime as when, date

                a = datetime.datetime.now()  # <-
                b = when.utcnow()  # <-
                c = date.today()  # <-
                """
        },
    ),
    Plant(
        "a pure room rolls its own dice",
        purity.purity,
        {
            "engine/x.py": """
                import random
                import secrets  # <-
                from random import choice  # <-
                from random import *  # <-
                from uuid import uuid4  # <-

                import numpy as np

                a = random.random()  # <-
                b = np.random.rand(3)  # <-
                c = random.Random()  # <-
                d = random.SystemRandom()  # <-
                e = np.random.default_rng()  # <-
                """
        },
    ),
    Plant(
        "a pure room reaches for the reader of the configuration",
        purity.purity,
        {"routing/x.py": "from penstock.config import load  # <-\n"},
    ),
    Plant("a pure room prints", purity.purity, {"engine/x.py": 'print("hello")  # <-\n'}),
)

SOUND = (
    Plant(
        "time and chance arrive as arguments",
        purity.purity,
        {
            "routing/x.py": """
                import random
                from datetime import datetime, timedelta
                from random import Random

                import numpy as np


                def f(now: datetime, rng: random.Random, open: bool) -> bool:
                    return open and rng.random() < 0.5 and now + timedelta(1) > now


                def g(seed: int) -> None:
                    Random(seed).shuffle([np.random.default_rng(seed)])
                """
        },
    ),
    Plant(
        "the other rooms may act", purity.purity, {"ledger/x.py": "import time\n\n\nasync def f():\n    open('x')\n"}
    ),
    Plant("a method may be called open", purity.purity, {"policy/x.py": "def f(breaker):\n    breaker.open()\n"}),
)


@pytest.mark.parametrize("plant", [pytest.param(plant, id=plant.what) for plant in BREACHES + SOUND])
def test_a_rule_finds_what_is_planted_and_nothing_else(plant: Plant) -> None:
    check(plant)


def test_every_rule_of_the_group_has_several_plants() -> None:
    assert all(sum(plant.rule is rule for plant in BREACHES) > 1 for rule in purity.RULES)

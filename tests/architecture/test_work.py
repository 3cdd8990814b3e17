"""Rule 10 on work at import time is shown to fail on planted breaches."""

import pytest

from architecture import work
from architecture.planted import Plant, check

BREACHES = (
    Plant(
        "a module that acts when it is imported",
        work.import_work,
        {
            "telemetry/x.py": """
                import datetime
                import logging
                import os
                import threading
                from pathlib import Path

                from penstock import call
                from penstock.call import make

                logging.basicConfig()  # <-
                STARTED = datetime.datetime.now()  # <-
                TEXT = Path("x").read_text()  # <-
                PID = os.getpid()  # <-
                LOCK = threading.Lock()  # <-
                TABLE = tuple(make(n) for n in range(8))  # <-
                os.environ  # <-
                for n in range(8):  # <-
                    X = n
                with STARTED as x:  # <-
                    pass
                try:
                    Y = make(1)  # <-
                except ValueError:
                    Y = make(2)  # <-
                Z = {"x": [make(3)]}  # <-
                N = call.count()  # <-
                P = os.path.join("a", "b")  # <-
                if X:
                    Q = make(4)  # <-
                """
        },
    ),
    Plant(
        "classes and functions that act when they are defined",
        work.import_work,
        {
            "ledger/x.py": """
                import time

                from penstock.call import make


                @make(1)  # <-
                def f(now=time.time()): ...  # <-


                class C(make("Base")):  # <-
                    started = time.time()  # <-

                    def m(self, *, x=make(2)): ...  # <-
                """
        },
    ),
    Plant(
        "objects of ours that could do anything while they are made",
        work.import_work,
        {
            "ledger/x.py": """
                from penstock.ledger.y import Journal, Store


                class Local:
                    def __init__(self):
                        self.x = open("x")


                class Child(Local): ...


                A = Local()  # <-
                B = Child()  # <-
                C = Store()  # <-
                D = Journal()  # <-
                """,
            "ledger/y.py": """
                from threading import Thread


                class Store:
                    def __new__(cls): ...


                class Journal(Thread): ...
                """,
        },
    ),
    Plant(
        "a terminal outside the command line",
        work.import_work,
        {"server/x.py": "import typer\n\napp = typer.Typer()  # <-\napp.command()(f)  # <-\n"},
    ),
)

SOUND = (
    Plant(
        "constants of every kind",
        work.import_work,
        {
            "wire/x.py": """
                import logging
                import re
                import struct
                from contextvars import ContextVar
                from datetime import timedelta
                from types import MappingProxyType
                from typing import Final, Generic, NewType, Protocol, TypeVar

                import msgspec
                from msgspec import Struct, field

                from penstock.call import Call

                T = TypeVar("T")
                Id = NewType("Id", str)
                LENGTH = struct.Struct(">I")
                LINE = re.compile(rb"\\r?\\n")
                NAMES: Final = frozenset("a b".split())
                TABLE = MappingProxyType({name: name.encode() for name in NAMES})
                ROWS = tuple(sorted(len(name) for name in NAMES))
                encode = msgspec.json.Encoder().encode
                DAY = timedelta(days=1)
                CURRENT: ContextVar[str] = ContextVar("current")
                log = logging.getLogger(__name__)
                LOWER = bytes.maketrans(b"A", b"a")
                CALL = Call(model="x")
                MODEL = Call.__struct_fields__.index("model")


                class Reader(Protocol): ...


                class Value(Struct, Generic[T], frozen=True):
                    items: tuple[T, ...] = ()
                    names: list[str] = field(default_factory=list)


                class Dialect:
                    def read(self): ...


                class Child(Dialect): ...


                EMPTY = Value()
                DIALECT = Child()
                later = lambda: log.info("x")
                if __name__ == "__main__":
                    log.info("x")
                """
        },
    ),
    Plant(
        "the command line declares its commands",
        work.import_work,
        {
            "cli/ask.py": """
                import typer

                from penstock.cli import keys

                app = typer.Typer()
                app.add_typer(keys.app)
                app.command("keys")(keys.list)


                @app.command()
                def ask(model: str = typer.Option("fast")): ...
                """
        },
    ),
)


@pytest.mark.parametrize("plant", [pytest.param(plant, id=plant.what) for plant in BREACHES + SOUND])
def test_a_rule_finds_what_is_planted_and_nothing_else(plant: Plant) -> None:
    check(plant)


def test_every_rule_of_the_group_has_several_plants() -> None:
    assert all(sum(plant.rule is rule for plant in BREACHES) > 1 for rule in work.RULES)

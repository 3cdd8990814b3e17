"""Rule 10 on mutable state is shown to fail on planted breaches."""

import pytest

from architecture import state
from architecture.planted import Plant, check

BREACHES = (
    Plant(
        "containers at the top of a module",
        state.mutable_state,
        {
            "routing/x.py": """
                import collections as c
                import itertools
                from collections import defaultdict

                a = []  # <-
                b: dict[str, int] = {}  # <-
                d = {1, 2}  # <-
                e = [x for x in "abc"]  # <-
                f = c.deque()  # <-
                g = defaultdict(list)  # <-
                h = dict(a=1)  # <-
                i, j = 1, []  # <-
                k = ([], 1)  # <-
                m = bytearray(8)  # <-
                n = [0] * 8  # <-
                if a:
                    o = {}  # <-
                p = itertools.count()  # <-
                q = r = []  # <-
                s = [] if a else ()  # <-
                t = () if a else []  # <-
                u = a or []  # <-
                v = () + [1]  # <-
                """
        },
    ),
    Plant(
        "containers that a class shares",
        state.mutable_state,
        {
            "ledger/x.py": """
                from typing import ClassVar


                class C:
                    seen = set()  # <-
                    by_name: ClassVar[dict[str, int]] = {}  # <-
                """
        },
    ),
    Plant(
        "constants that are changed after all",
        state.mutable_state,
        {
            "routing/x.py": """
                from typing import Final

                A: Final = {}
                B: Final[list[int]] = []


                def f():
                    A["x"] = 1  # <-
                    A.update(x=1)  # <-
                    B.append(1)  # <-
                    B[0] += 1  # <-
                    del A["x"]  # <-


                B += [1]  # <-
                """,
            "ledger/x.py": """
                from penstock.routing import x
                from penstock.routing.x import A


                def f():
                    x.B.clear()  # <-
                    A.pop("x")  # <-
                """,
        },
    ),
    Plant(
        "global, and members of modules, classes and functions",
        state.mutable_state,
        {
            "routing/x.py": """
                import socket

                from penstock import config

                count = 0


                class C:
                    made = 0

                    def __init__(self):
                        type(self).made = 1  # <-
                        self.__class__.made += 1  # <-
                        C.made += 1  # <-

                    @classmethod
                    def g(cls):
                        cls.made = 2  # <-


                def f():
                    global count  # <-
                    count += 1
                    f.calls = 1  # <-
                    config.HOME = "x"  # <-
                    setattr(config, "HOME", "x")  # <-
                    socket.socket = None  # <-
                    globals()["count"] = 2  # <-
                """
        },
    ),
    Plant(
        "memos that grow",
        state.mutable_state,
        {
            "tokens/x.py": """
                import functools
                from functools import cache, lru_cache


                @cache  # <-
                def f(text): ...


                @functools.lru_cache(maxsize=None)  # <-
                def g(text): ...


                @lru_cache(None)  # <-
                async def h(text): ...
                """
        },
    ),
)

SOUND = (
    Plant(
        "constants",
        state.mutable_state,
        {
            "routing/x.py": """
                from collections.abc import Mapping, Sequence, Set
                from functools import cache, lru_cache, wraps
                from types import MappingProxyType
                from typing import ClassVar, Final

                from msgspec import Struct

                __all__ = ["f"]
                A: Final = {"a": 1}
                B: Mapping[str, list[int]] = {"a": [1]}
                C = MappingProxyType({"a": 1})
                D = frozenset({1})
                E: Set[str] = {"a"}
                F: Final[Sequence[int]] = [1]


                class S(Struct):
                    items: list[int] = []
                    names: ClassVar[Mapping[str, int]] = {}

                    def add(self, item):
                        self.items.append(item)
                        self.count = 1


                @lru_cache(maxsize=64)
                def f(text):
                    found = {}
                    found[text] = B["a"] or A.get("a")
                    make(found).count = isinstance(found, S)
                    return found


                @wraps(None)
                def g(text): ...


                @cache
                def table():
                    return [1]
                """
        },
    ),
    Plant(
        "a parameter may have the name of an import",
        state.mutable_state,
        {"routing/x.py": "from penstock import config\n\n\ndef f(config):\n    config.x = 1\n"},
    ),
)


@pytest.mark.parametrize("plant", [pytest.param(plant, id=plant.what) for plant in BREACHES + SOUND])
def test_a_rule_finds_what_is_planted_and_nothing_else(plant: Plant) -> None:
    check(plant)


def test_every_rule_of_the_group_has_several_plants() -> None:
    assert all(sum(plant.rule is rule for plant in BREACHES) > 1 for rule in state.RULES)

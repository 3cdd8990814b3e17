"""Rules 1 to 5 and 8 are shown to fail on planted breaches."""

import pytest

from architecture import imports
from architecture.planted import Plant, check

BREACHES = (
    Plant(
        "the vocabulary imports a room", imports.vocabulary, {"call.py": "from penstock.wire import framing  # <-\n"}
    ),
    Plant("the vocabulary imports settings", imports.vocabulary, {"reply.py": "import penstock.config as c  # <-\n"}),
    Plant("the vocabulary imports a library", imports.vocabulary, {"target.py": "import httptools  # <-\n"}),
    Plant(
        "the vocabulary imports the package", imports.vocabulary, {"errors.py": "from penstock import Gateway  # <-\n"}
    ),
    Plant(
        "the vocabulary imports a room for types only",
        imports.vocabulary,
        {
            "receipt.py": """
                from typing import TYPE_CHECKING

                if TYPE_CHECKING:
                    from .ledger import budgets  # <-
                """
        },
    ),
    Plant("config imports a room", imports.vocabulary, {"config.py": "from .routing import router  # <-\n"}),
    Plant(
        "plugins import the gateway", imports.vocabulary, {"plugins.py": "def f():\n    from . import gateway  # <-\n"}
    ),
    Plant("a room imports another", imports.rooms, {"wire/sse.py": "from penstock.tokens.count import count  # <-\n"}),
    Plant(
        "a room imports another by its alias",
        imports.rooms,
        {"wire/sse.py": "import penstock.tokens.count as c  # <-\n"},
    ),
    Plant("a room imports another relatively", imports.rooms, {"routing/x.py": "from ..policy import context  # <-\n"}),
    Plant("a room imports a folder", imports.rooms, {"routing/x.py": "from .. import policy  # <-\n"}),
    Plant("a room imports the whole package", imports.rooms, {"telemetry/log.py": "import penstock  # <-\n"}),
    Plant("a room imports everything", imports.rooms, {"telemetry/log.py": "from penstock.ledger import *  # <-\n"}),
    Plant(
        "a room reaches another through the package",
        imports.rooms,
        {"ledger/x.py": "import penstock.call\n\nC = penstock.call.Call\nF = penstock.wire.framing.feed  # <-\n"},
    ),
    Plant(
        "a room imports another dynamically",
        imports.rooms,
        {
            "tokens/x.py": """
                import importlib
                from importlib import import_module as load

                a = importlib.import_module("penstock.wire.framing")  # <-
                b = load("..routing", __package__)  # <-
                c = __import__("penstock.ledger.budgets")  # <-
                d = load(name="penstock.config")
                e = load(package="penstock.tokens", name="..policy")  # <-
                """
        },
    ),
    Plant(
        "a room takes another from sys.modules",
        imports.rooms,
        {"tokens/x.py": 'import sys\n\na = sys.modules["penstock.wire.framing"].feed  # <-\n'},
    ),
    Plant(
        "a room imports another for types only",
        imports.rooms,
        {
            "policy/x.py": "import typing as t\n\nif t.TYPE_CHECKING:\n    from penstock.routing.router import plan  # <-\n"
        },
    ),
    Plant(
        "a room imports another late",
        imports.rooms,
        {"policy/x.py": "def f():\n    from penstock import routing  # <-\n"},
    ),
    Plant(
        "an exception belongs to one file",
        imports.rooms,
        {"providers/pool.py": "from penstock.wire import framing  # <-\n"},
    ),
    Plant(
        "an exception is for one room",
        imports.rooms,
        {"providers/http.py": "from penstock.tokens import count  # <-\n"},
    ),
    Plant(
        "a room imports the gateway", imports.rooms, {"routing/x.py": "from penstock.gateway import Gateway  # <-\n"}
    ),
    Plant(
        "the engine imports the vocabulary", imports.engine, {"engine/x.py": "from penstock.call import Call  # <-\n"}
    ),
    Plant("the engine imports a neighbour", imports.engine, {"engine/x.py": "from ..tokens import count  # <-\n"}),
    Plant("the engine imports the package", imports.engine, {"engine/x.py": "from .. import Gateway  # <-\n"}),
    Plant(
        "another than the gateway imports stages",
        imports.gateway,
        {"client.py": "from penstock.ledger import budgets  # <-\nfrom penstock.routing import router  # <-\n"},
    ),
    Plant(
        "the driver imports a second stage",
        imports.gateway,
        {"execute.py": "import penstock.routing.router\nfrom penstock import policy\n".replace("\n", "  # <-\n")},
    ),
    Plant("the gateway imports bytes", imports.gateway, {"gateway.py": "from .wire.framing import feed  # <-\n"}),
    Plant(
        "the gateway imports the server", imports.gateway, {"gateway.py": "def f():\n    from . import server  # <-\n"}
    ),
    Plant("the client imports bytes", imports.edges, {"client.py": "from penstock.wire import framing  # <-\n"}),
    Plant(
        "the server imports bytes elsewhere",
        imports.edges,
        {"server/admin.py": "import penstock.wire.framing as f  # <-\n"},
    ),
    Plant("a stage imports the server", imports.edges, {"routing/x.py": "from penstock.server import app  # <-\n"}),
    Plant(
        "the client imports the command line", imports.edges, {"client.py": "from penstock.cli import serve  # <-\n"}
    ),
    Plant(
        "the server imports the evaluations",
        imports.edges,
        {"evals/run.py": '"""Runs."""\n', "server/admin.py": "from penstock.evals import run  # <-\n"},
    ),
    Plant(
        "two modules import each other",
        imports.cycles,
        {"routing/a.py": "from . import b  # <-\n", "routing/b.py": "from penstock.routing.a import f  # <-\n"},
    ),
    Plant(
        "three modules make a circle, one late and one for types only",
        imports.cycles,
        {
            "routing/a.py": "import penstock.routing.b as b  # <-\n",
            "routing/b.py": "def f():\n    from penstock.routing import c  # <-\n",
            "routing/c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import f  # <-\n",
        },
    ),
    Plant(
        "a module and its folder import each other",
        imports.cycles,
        {"tokens/__init__.py": "from .x import f  # <-\n", "tokens/x.py": "from penstock.tokens import f  # <-\n"},
    ),
    Plant(
        "imports inside functions",
        imports.late_imports,
        {
            "routing/x.py": """
                import importlib


                def f():
                    import math  # <-

                    def g():
                        from .. import call  # <-


                class C:
                    async def h(self):
                        return importlib.import_module("json")  # <-


                late = lambda: __import__("re")  # <-
                """
        },
    ),
    Plant(
        "a door to an extra imports something else late",
        imports.late_imports,
        {"telemetry/otel.py": "def f():\n    import opentelemetry.sdk\n    import opentelemetrysomething  # <-\n"},
    ),
    Plant(
        "imports that nobody can read",
        imports.late_imports,
        {
            "ledger/x.py": 'import importlib\nfrom math import *  # <-\nm = importlib.import_module("penstock." + x)  # <-\n'
        },
    ),
)

SOUND = (
    Plant(
        "the vocabulary imports itself",
        imports.vocabulary,
        {"reply.py": "from .call import Call\nimport msgspec.json\n"},
    ),
    Plant(
        "config and plugins import each other's neighbours",
        imports.vocabulary,
        {"plugins.py": "from penstock.config import Config\nfrom penstock.call import Call\n"},
    ),
    Plant(
        "a room imports its own files",
        imports.rooms,
        {
            "wire/sse.py": "from . import framing\nfrom .framing import feed\nfrom penstock import reply, config, plugins\n"
        },
    ),
    Plant(
        "an engine imports itself",
        imports.engine,
        {"engine/x.py": "from penstock.engine import sampler\nimport math\n"},
    ),
    Plant(
        "the one file for a pair of rooms does not count as a second stage",
        imports.gateway,
        {"policy/context.py": "from penstock.tokens import count\nfrom penstock.policy import guards\n"},
    ),
    Plant("one stage is not several", imports.gateway, {"execute.py": "from penstock.routing import router\n"}),
    Plant(
        "the gateway, the vocabulary and one stage are not several stages",
        imports.gateway,
        {
            "client.py": "from penstock.gateway import Gateway\nfrom penstock.call import Call\nfrom penstock.ledger import budgets\n"
        },
    ),
    Plant(
        "the command line imports what it runs", imports.edges, {"cli/serve.py": "from penstock.server import app\n"}
    ),
    Plant("a diamond is no circle", imports.cycles, {"routing/a.py": "from . import health, router\n"}),
    Plant(
        "plugins load what they find",
        imports.late_imports,
        {"plugins.py": "import importlib\n\n\ndef f(name):\n    return importlib.import_module(name)\n"},
    ),
    Plant(
        "the public names are resolved lazily",
        imports.late_imports,
        {
            "__init__.py": "from importlib import import_module\n\n\ndef __getattr__(name):\n    return import_module(name)\n"
        },
    ),
    Plant(
        "a command imports what it needs",
        imports.late_imports,
        {"cli/ask.py": "def ask():\n    from penstock import gateway\n"},
    ),
    Plant(
        "a door to an extra imports it late",
        imports.late_imports,
        {"providers/local.py": "def f():\n    from penstock.providers.local_engine import LocalEngine\n"},
    ),
)


@pytest.mark.parametrize("plant", [pytest.param(plant, id=plant.what) for plant in BREACHES + SOUND])
def test_a_rule_finds_what_is_planted_and_nothing_else(plant: Plant) -> None:
    check(plant)


def test_every_rule_of_the_group_has_several_plants() -> None:
    assert all(sum(plant.rule is rule for plant in BREACHES) > 1 for rule in imports.RULES)

"""Rule 7 is shown to fail on planted breaches."""

import pytest

from architecture import doors
from architecture.planted import Plant, check


def stray(library: str, place: str) -> Plant:
    return Plant(f"{library} in {place}", doors.doors, {place: f"import {library}  # <-\n"})


BREACHES = (
    *(stray("httptools", place) for place in ("server/app.py", "providers/http.py", "gateway.py")),
    stray("socket", "providers/http.py"),
    stray("ssl", "config.py"),
    stray("uvloop", "cli.py"),
    stray("sqlite3", "ledger/budgets.py"),
    *(stray("numpy", place) for place in ("routing/router.py", "providers/local.py", "evals/run.py")),
    *(stray("starlette.routing", place) for place in ("server/app.py", "cli.py")),
    stray("prometheus_client", "server/app.py"),
    stray("opentelemetry.sdk", "telemetry/log.py"),
    stray("splintr", "tokens/count.py"),
    *(stray("typer", place) for place in ("client.py", "server/admin.py")),
    stray("rich.console", "telemetry/log.py"),
    stray("xllamacpp", "providers/local.py"),
    stray("botocore.session", "providers/auth.py"),
    stray("azure.identity", "providers/auth.py"),
    stray("google.auth", "providers/http.py"),
    stray("jinja2", "policy/prompts.py"),
    stray("regex", "tokens/vocabularies.py"),
    stray("urllib.request", "providers/connection.py"),
    stray("http.client", "client.py"),
    stray("aiohttp", "providers/connection.py"),
    stray("requests", "client.py"),
    Plant(
        "the event loop is chosen twice",
        doors.doors,
        {"server/http11.py": "import uvloop  # <-\n", "server/workers.py": "from uvloop import run  # <-\n"},
    ),
    Plant(
        "a library by the back door",
        doors.doors,
        {
            "routing/x.py": """
                import importlib
                from typing import TYPE_CHECKING

                if TYPE_CHECKING:
                    from numpy.typing import NDArray  # <-


                def f():
                    return importlib.import_module("sqlite3"), __import__("httptools")  # <-
                """
        },
    ),
    Plant(
        "the environment by every name",
        doors.doors,
        {
            "telemetry/x.py": """
                import os
                import os as system
                import os.path
                from os import environ as settings  # <-
                from os import *  # <-

                a = os.environ["X"]  # <-
                b = system.getenv("X")  # <-
                c = getattr(os, "environ")  # <-
                d = os.path.expandvars("$X")  # <-
                e = settings.get("X")  # <-
                f = __import__("os").getenv("X")  # <-
                home = os
                g = home.environ  # <-
                """
        },
    ),
    Plant(
        "a command line option reads the environment",
        doors.doors,
        {"cli.py": 'import typer\n\nport = typer.Option(8420, envvar="PORT")  # <-\n'},
    ),
    Plant(
        "sockets that asyncio opens",
        doors.doors,
        {
            "providers/http.py": """
                import asyncio


                async def f(loop):
                    await asyncio.open_connection("127.0.0.1", 1)  # <-
                    await loop.create_connection(asyncio.Protocol)  # <-
                    return asyncio.start_server  # <-
                """
        },
    ),
)

SOUND = (
    Plant(
        "the doors themselves",
        doors.doors,
        {
            "server/http11.py": "import socket\nimport ssl\n\nimport httptools\nimport uvloop\n",
            "providers/connection.py": "import ssl\n\nimport httptools\n\n\ndef f(loop):\n    loop.create_connection(f)\n",
            "ledger/database.py": "import sqlite3\n",
            "config.py": "import os\n\nHOME = os.environ.get('X')\n",
            "engine/x.py": "import numpy as np\n",
            "server/admin.py": "from starlette.routing import Route\n",
            "telemetry/metrics.py": "import prometheus_client\n",
            "telemetry/otel.py": "import opentelemetry.sdk\n",
            "tokens/vocabularies.py": "import splintr\n",
            "cli/serve.py": "import rich\nimport typer\n",
        },
    ),
    Plant(
        "harmless neighbours",
        doors.doors,
        {"gateway.py": "import http\nimport os\nimport urllib.parse\n\nimport msgspec\nS = os.sep\n"},
    ),
)


@pytest.mark.parametrize("plant", [pytest.param(plant, id=plant.what) for plant in BREACHES + SOUND])
def test_a_rule_finds_what_is_planted_and_nothing_else(plant: Plant) -> None:
    check(plant)


def test_every_door_has_a_plant() -> None:
    planted = " ".join(text for plant in BREACHES for text in plant.files.values())

    assert not [door.what for door in doors.DOORS if not any(name.split(".")[0] in planted for name in door.libraries)]

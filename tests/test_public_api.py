"""What `import penstock` gives: every name that is promised, each from where it lives, and nothing loaded before its use."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import penstock

HEAVY = {
    *(
        "asyncio",
        "httptools",
        "msgspec",
        "numpy",
        "prometheus_client",
        "rich",
        "splintr",
        "sqlite3",
        "ssl",
        "starlette",
    ),
    *("typer", "uvloop"),
}


def loaded_by(code):
    """Names of the top-level modules that a fresh interpreter has loaded after some code."""
    show = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-I", "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_no_library():
    assert not loaded_by("import penstock; penstock.__version__") & HEAVY


def test_errors_and_receipts_load_neither_a_network_nor_a_database():
    heavy = loaded_by("from penstock import PenstockError, Receipt, Message, TextDelta") & HEAVY

    assert heavy == {"msgspec"}


def test_a_command_and_a_server_load_no_library_that_only_others_need(tmp_path):
    run = f"import os; os.environ['PENSTOCK_HOME'] = {str(tmp_path)!r}; import sys, penstock.server.workers"
    run += "; sys.argv[1:] = ['tokens', 'hi']; from penstock.cli import main\ntry: main()\nexcept SystemExit: pass"
    loaded = loaded_by(run)

    assert {"typer", "uvloop"} <= loaded
    assert not loaded & {"anthropic", "botocore", "google", "httpx", "numpy", "openai", "pydantic", "requests"}


def test_the_library_loads_neither_the_server_nor_the_command_line_nor_numpy():
    heavy = loaded_by("from penstock import Gateway, AsyncGateway") & HEAVY

    assert not heavy & {"numpy", "rich", "starlette", "typer", "uvloop"}


@pytest.mark.parametrize("name", penstock.__all__)
def test_every_promised_name_is_there(name):
    assert getattr(penstock, name) is not None


def test_a_name_that_is_not_promised_is_not_there():
    with pytest.raises(AttributeError, match="module 'penstock' has no attribute 'Gatewya'"):
        penstock.Gatewya  # noqa: B018 - looking it up is the test


def test_names_are_promised_once_and_in_order():
    names = [name for name in penstock.__all__ if name != "__version__"]

    assert names == sorted(set(names))
    assert set(dir(penstock)) == set(penstock.__all__)


def test_what_a_type_checker_sees_is_what_there_is_at_run_time():
    tree = ast.parse(Path(penstock.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in block.body for alias in node.names}

    assert {*typed, "__version__"} == set(penstock.__all__)
    for name, module in typed.items():
        __import__(module)
        assert getattr(penstock, name) is getattr(sys.modules[module], name)


def test_a_star_import_gives_every_promised_name():
    code = f"from penstock import *; missing = set({penstock.__all__}) - set(dir()); assert not missing, missing"

    assert loaded_by(code)


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert penstock.__version__ == version("penstock")

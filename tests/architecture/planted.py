"""A small sane tree, and the check that a rule finds exactly what was planted in it.

A plant is a few files laid over `SANE`. Each line that a rule has to report ends in `# <-`; a plant without such a line
shows what a rule must leave alone.
"""

import re
from collections.abc import Mapping
from textwrap import dedent
from typing import NamedTuple

from architecture.tree import SOURCE, Rule, Tree

MARK = "# <-"

SANE: Tree = {
    "src/penstock/__init__.py": '"""Public names, resolved lazily."""\n',
    "src/penstock/call.py": '"""What is asked."""\nfrom msgspec import Struct\n\n\nclass Call(Struct, frozen=True):\n    model: str\n',
    "src/penstock/reply.py": '"""What comes back."""\n\nfrom penstock.call import Call\n',
    "src/penstock/errors.py": '"""What goes wrong."""\n',
    "src/penstock/config.py": '"""Settings."""\n\nimport os\n\nfrom penstock.errors import X\n\nHOME = "PENSTOCK_HOME"\n',
    "src/penstock/plugins.py": '"""Extension points."""\n\nfrom penstock.call import Call\n',
    "src/penstock/gateway.py": '"""The line."""\n\nfrom penstock.ledger import budgets\nfrom penstock.routing import router\n',
    "src/penstock/wire/__init__.py": '"""Bytes and meaning."""\n',
    "src/penstock/wire/framing.py": '"""Frames."""\n\nfrom penstock.reply import Chunk\n',
    "src/penstock/tokens/__init__.py": '"""Counting."""\n',
    "src/penstock/tokens/count.py": '"""Counts."""\n\nfrom penstock.call import Call\n',
    "src/penstock/policy/context.py": '"""Fits."""\n\nfrom penstock.tokens.count import count\n',
    "src/penstock/routing/router.py": '"""Plans."""\n\nfrom penstock.routing.health import Health\n',
    "src/penstock/routing/health.py": '"""Health."""\n',
    "src/penstock/providers/http.py": '"""HTTP providers."""\n\nfrom penstock.wire import framing\n',
    "src/penstock/ledger/__init__.py": '"""Memory."""\n',
    "src/penstock/ledger/budgets.py": '"""Budgets."""\n',
    "src/penstock/engine/sampler.py": '"""Samples."""\n\nimport numpy\n',
    "src/penstock/server/app.py": '"""Routes."""\n\nfrom penstock.gateway import Gateway\nfrom penstock.wire import framing\n',
    "src/penstock/cli.py": '"""Commands."""\n\nimport typer\n\n\ndef serve() -> None:\n    from penstock.server import app\n',
    "src/penstock/__main__.py": '"""python -m penstock."""\n\nfrom penstock.cli import serve\n\nserve()\n',
    "README.md": "# penstock\n",
} | {
    f"tests/{place}": "def test_it(): ...\n"
    for place in (
        *(
            "test_call.py",
            "test_reply.py",
            "test_errors.py",
            "test_config.py",
            "test_plugins.py",
            "test_gateway.py",
            "test_cli.py",
        ),
        *("wire/test_framing.py", "tokens/test_count.py", "policy/test_context.py", "routing/test_router.py"),
        *("routing/test_health.py", "providers/test_http.py", "ledger/test_budgets.py", "engine/test_sampler.py"),
        "server/test_app.py",
    )
}


class Plant(NamedTuple):
    """What is planted, in words; the rule that has to find it; the files, below `src/penstock` unless they say other."""

    what: str
    rule: Rule
    files: Mapping[str, str]


def check(plant: Plant) -> None:
    """The rule reports the marked lines and no others, each with its file, line and number."""
    tree = dict(SANE)
    for place, text in plant.files.items():
        path = place if place.startswith(("tests/", "docs/", "README")) else f"{SOURCE}{place}"
        tree[path] = dedent(text).lstrip("\n")
    marked = {
        (path, number)
        for path, text in tree.items()
        for number, line in enumerate(text.splitlines(), 1)
        if line.endswith(MARK)
    }
    found = plant.rule(tree)
    matches = [re.fullmatch(r"(\S+):(\d+): rule (\d+): (.+)", line) for line in found]
    number = re.match(r"Rule (\d+)", plant.rule.__doc__ or "")

    assert all(matches), f"not in the form path:line: rule N: text: {found}"
    assert number
    assert {match[3] for match in matches if match} <= {number[1]}
    assert {(match[1], int(match[2])) for match in matches if match} == marked, "\n".join(found)

"""The rules of ARCHITECTURE.md hold over the real source.

Each rule is a pure function in `architecture/`; the test files beside them show each rule to fail on planted breaches.
"""

from pathlib import Path

import pytest

from architecture.rules import RULES
from architecture.tree import Rule, Tree, modules, read_tree


@pytest.fixture(scope="module")
def repository() -> Tree:
    return read_tree(Path(__file__).parents[1])


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.__name__) for rule in RULES])
def test_the_source_keeps_every_rule(rule: Rule, repository: Tree) -> None:
    breaches = rule(repository)

    assert not breaches, f"{(rule.__doc__ or '').splitlines()[0]}\n" + "\n".join(breaches)


def test_the_source_is_really_read(repository: Tree) -> None:
    assert {"call.py", "errors.py", "plugins.py"} <= {module.place for module in modules(repository)}
    assert {"README.md", "pyproject.toml", "tests/test_architecture.py"} <= set(repository)

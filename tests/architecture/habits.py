"""Habits that keep the house readable: rules 11 to 14 of ARCHITECTURE.md."""

import ast
import re

from architecture.tree import Module, Tree, breach, line_of, modules, unique

NEEDS_NO_TEST = {"__init__.py", "__main__.py"}
# Written so that the patterns do not find themselves.
UNFINISHED = re.compile(r"\b(?:[T]ODO|[F]IXME|[X]XX)\b")
BROAD = {"builtins.Exception", "builtins.BaseException"}
LAST_RESORTS = {"server/http11.py", "together.py"}
PLACE = re.compile(r"(?<!\w)/[w]ork/|[h]elper agent|(?<!\w/)\b[s]hared/|\b(?:[H]OUSE|[F]ACE|[B]RIEF)\.md")
TEST_DATA = re.compile(r"[s]hared/data")
"""Words that speak of the place where the text was written rather than of the product."""
OUR_TEXT = ("src/", "tests/", "docs/", "bench/")


def docstrings(tree: Tree) -> list[str]:
    """Rule 11: every module opens with what it does or decides, what it never does, its place in the line."""
    return [
        breach(module.path, 1, 11, "the module has no docstring")
        for module in modules(tree)
        if not (ast.get_docstring(module.syntax) or "").strip()
    ]


def mirror(tree: Tree) -> list[str]:
    """Rule 11: `src/penstock/a/b.py` is tested by `tests/a/test_b.py`."""
    found = []
    for module in modules(tree):
        folder, _, name = module.place.rpartition("/")
        test = "/".join(filter(None, ("tests", folder, f"test_{name}")))
        if name not in NEEDS_NO_TEST and test not in tree:
            found.append(breach(module.path, 1, 11, f"there is no {test}"))
    return found


def unfinished(tree: Tree) -> list[str]:
    """Rule 12: what is in the tree is finished; the rest is an issue."""
    found = [
        breach(path, number, 12, f"unfinished: {line.strip()[:60]}")
        for path, text in sorted(tree.items())
        if path.endswith(".py")
        for number, line in enumerate(text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    return found + [
        breach(module.path, use.line, 12, "NotImplementedError: use a Protocol, or leave the function out")
        for module in modules(tree)
        for use in module.uses
        if use.name == "builtins.NotImplementedError"
    ]


def broad_excepts(tree: Tree) -> list[str]:
    """Rule 13: one broad `except` as the last resort of each way in which the server answers: with a task, and without.

    `except BaseException` that only cleans up and always ends in a bare `raise` hides nothing, and is allowed.
    """
    found = []
    for module in modules(tree):
        broad = sorted(
            (line_of(node) for node in ast.walk(module.syntax) if _hides_everything(module, node)),
        )
        spare = 1 if module.place in LAST_RESORTS else 0
        found += [breach(module.path, line, 13, "name the errors that are expected here") for line in broad[spare:]]
    return unique(found)


def own_words(tree: Tree) -> list[str]:
    """Rule 14: the text speaks of the product, not of the place where it was written; tests may look their data up."""
    return [
        breach(path, number, 14, f"speaks of {match.group()!r}")
        for path, text in sorted(tree.items())
        if path.startswith(OUR_TEXT) or "/" not in path
        for number, line in enumerate(text.splitlines(), 1)
        if (match := PLACE.search(line)) and not (path.startswith("tests/") and TEST_DATA.search(line))
    ]


def _hides_everything(module: Module, node: ast.AST) -> bool:
    match node:
        case ast.ExceptHandler(type=None, body=[*_, ast.Raise(exc=None)]):
            return any(isinstance(inner, ast.Return | ast.Continue | ast.Break) for inner in ast.walk(node))
        case ast.ExceptHandler(type=None):
            return True
        case ast.ExceptHandler(type=ast.expr() as kind, body=body):
            kinds = {module.resolve(part) for part in (kind.elts if isinstance(kind, ast.Tuple) else [kind])}
            raises = isinstance(body[-1], ast.Raise) and body[-1].exc is None
            leaves = any(isinstance(inner, ast.Return | ast.Continue | ast.Break) for inner in ast.walk(node))
            cleans_up = kinds == {"builtins.BaseException"} and raises and not leaves
            return bool(kinds & BROAD) and not cleans_up
        case ast.Call(func=func, args=args) if module.resolve(func) == "contextlib.suppress":
            return bool({module.resolve(arg) for arg in args} & BROAD)
        case _:
            return False


RULES = (docstrings, mirror, unfinished, broad_excepts, own_words)

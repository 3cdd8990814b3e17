"""Caps: rule 9 of ARCHITECTURE.md. There is no exemption list: raising a cap is a recorded decision."""

import ast
import re
from collections.abc import Sequence

from architecture.tree import Tree, breach, modules, unique

FILE_LINES = 400
DIALECT_LINES = 600
FUNCTION_LINES = 60
PARAMETERS = 6
COMPLEXITY = 12

DIALECT = re.compile(r"wire/(?:openai|anthropic|gemini|bedrock|ollama)\w*\.py")


def file_size(tree: Tree) -> list[str]:
    """Rule 9: a file fits into a reader's head. Lines of every kind count; a dialect holds two directions."""
    found = []
    for module in modules(tree):
        cap = DIALECT_LINES if DIALECT.fullmatch(module.place) else FILE_LINES
        lines = len(module.source.splitlines())
        if lines > cap:
            found.append(breach(module.path, cap + 1, 9, f"{lines} lines; the cap is {cap}"))
    return found


def function_size(tree: Tree) -> list[str]:
    """Rule 9: lines (from `def` to the end, docstring included), parameters and complexity of every function.

    `self` and `cls` are no parameters; `*args` and `**kwargs` are, also where a command line is built from them.
    """
    found = []
    for module in modules(tree):
        methods = {id(item) for node in ast.walk(module.syntax) if isinstance(node, ast.ClassDef) for item in node.body}
        for node in ast.walk(module.syntax):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            counts = (
                ("lines", lines, FUNCTION_LINES),
                ("parameters", parameters(node, method=id(node) in methods), PARAMETERS),
                ("as complexity", complexity(node), COMPLEXITY),
            )
            found += [
                breach(module.path, node.lineno, 9, f"{node.name} has {count} {what}; the cap is {cap}")
                for what, count, cap in counts
                if count > cap
            ]
    return unique(found)


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef, *, method: bool) -> int:
    """How many values a caller has to keep apart."""
    spec = function.args
    names = [arg.arg for arg in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
    bound = method and names[:1] in (["self"], ["cls"], ["mcs"])
    return len(names) + bool(spec.vararg) + bool(spec.kwarg) - bound


def complexity(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """McCabe's number as ruff's C901 counts it: statements that branch, plus one; nested functions included."""
    return 1 + _branches(function.body)


def _branches(body: Sequence[ast.stmt]) -> int:
    return sum(_branch(statement) for statement in body)


def _branch(node: ast.stmt) -> int:
    match node:
        case ast.If(body=body, orelse=orelse) | ast.For(body=body, orelse=orelse):
            return 1 + _branches(body) + _branches(orelse)
        case ast.AsyncFor(body=body, orelse=orelse) | ast.While(body=body, orelse=orelse):
            return 1 + _branches(body) + _branches(orelse)
        case ast.Try() | ast.TryStar():
            handlers = sum(1 + _branches(handler.body) for handler in node.handlers)
            return handlers + bool(node.orelse) + sum(map(_branches, (node.body, node.orelse, node.finalbody)))
        case ast.With(body=body) | ast.AsyncWith(body=body) | ast.ClassDef(body=body):
            return _branches(body)
        case ast.Match(cases=cases):
            last = cases[-1]
            return sum(1 + _branches(case.body) for case in cases) - (last.guard is None and _catches_all(last.pattern))
        case ast.FunctionDef(body=body) | ast.AsyncFunctionDef(body=body):
            return 1 + _branches(body)
        case _:
            return 0


def _catches_all(pattern: ast.pattern) -> bool:
    match pattern:
        case ast.MatchAs(pattern=None):
            return True
        case ast.MatchAs(pattern=ast.pattern() as inner):
            return _catches_all(inner)
        case ast.MatchOr(patterns=patterns):
            return any(map(_catches_all, patterns))
        case _:
            return False


RULES = (file_size, function_size)

"""No float in a path of money: rule 15 of ARCHITECTURE.md.

A float literal, a true division, `float()` and what gives one (`round`, `math`, `statistics`, Decimal's and Fraction's
ways there) do not stand in a file through which amounts, rates or tokens go. Milliseconds and seconds are no money: what
is bound to a name that ends in `_ms` or `_s`, or stands in a function of such a name, is left alone. Nor is the way to a
file a division: one side of it is text, or is called a folder, a home or a path.
"""

import ast

from architecture.tree import Module, Tree, breach, covers, line_of, modules, unique

MONEY = (
    *("target.py", "receipt.py", "reservations.py"),
    *(
        "ledger/budgets.py",
        "ledger/shared_budgets.py",
        "ledger/balances.py",
        "ledger/booking.py",
        "ledger/reports.py",
        "ledger/rows.py",
    ),
    *("ledger/limits.py", "ledger/budget_report.py", "cli/budgets.py"),
    *("ledger/estimates.py", "ledger/exports.py", "ledger/reconcile.py", "ledger/history.py", "ledger/recovery.py"),
    *("telemetry/alerts.py", "telemetry/notices.py"),
    *("ledger/rollups.py", "ledger/rolling.py", "ledger/summing.py", "ledger/interning.py", "ledger/store.py"),
    *("routing/prices.py", "routing/updates.py", "routing/review.py"),
    *("cli/estimate.py", "cli/reconcile.py", "cli/prices.py", "cli/spend.py"),
)
"""Files through which money goes; one that is not there is none."""

GIVES_FLOATS = (
    *("builtins.float", "builtins.round", "builtins.complex", "math", "cmath", "statistics", "numpy", "time.time"),
    *("operator.truediv", "fractions.Fraction.from_float", "decimal.Decimal.from_float"),
)
EXACT = ("math.floor", "math.ceil", "math.gcd", "math.lcm", "math.comb", "math.isqrt", "math.prod")
METHODS = frozenset({"__float__", "total_seconds", "timestamp"})
TIMES = ("_ms", "_s", "_us")
PATHS = ("folder", "home", "path")


def no_floats(tree: Tree) -> list[str]:
    """Rule 15: money is integers from end to end."""
    found = []
    for module in modules(tree):
        if module.place in MONEY:
            found += [
                breach(module.path, line_of(node), 15, f"money is no float: {what}")
                for node, what in _floats(module, module.syntax)
            ]
    return unique(found)


def _floats(module: Module, node: ast.AST) -> list[tuple[ast.AST, str]]:
    """Every float below a node, but for those in times."""
    found = []
    for child in ast.iter_child_nodes(node):
        if _is_time(child):
            continue
        what = _what(module, child)
        if what:
            found.append((child, what))
        found += _floats(module, child)
    return found


def _is_time(node: ast.AST) -> bool:
    match node:
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.AnnAssign(target=ast.Attribute(attr=name)):
            return name.lower().endswith(TIMES)
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.Assign(targets=[ast.Attribute(attr=name)]):
            return name.lower().endswith(TIMES)
        case ast.keyword(arg=str(name)) | ast.arg(arg=name) | ast.FunctionDef(name=name):
            return name.endswith(TIMES)
        case _:
            return False


def _is_path(node: ast.expr) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.lower().endswith(PATHS)
        case ast.Constant(value=str()) | ast.JoinedStr():
            return True
        case _:
            return False


def _what(module: Module, node: ast.AST) -> str | None:
    match node:
        case ast.Constant(value=float() | complex() as value):
            return f"{value!r}"
        case ast.BinOp(left=left, op=ast.Div(), right=right) if _is_path(left) or _is_path(right):
            return None
        case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
            return "divide with //, and say which way it rounds"
        case ast.Attribute(attr=attr) if attr in METHODS:
            return f".{attr}"
        case ast.Name() | ast.Attribute():
            name = module.resolve(node)
            if name and any(covers(one, name) for one in GIVES_FLOATS) and name not in EXACT and name != "math":
                return name
            return None
        case _:
            return None


RULES = (no_floats,)

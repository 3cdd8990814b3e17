"""A module holds constants: rule 10 of ARCHITECTURE.md, as far as it speaks of state."""

import ast
import re
from collections.abc import Iterator

from architecture.tree import Module, Tree, breach, modules, unique

MUTABLE_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MUTABLE_TYPES = {
    *("builtins.list", "builtins.dict", "builtins.set", "builtins.bytearray", "builtins.iter", "array.array"),
    *("collections.deque", "collections.defaultdict", "collections.OrderedDict", "collections.Counter"),
    *("collections.ChainMap", "itertools.count", "itertools.cycle", "io.BytesIO", "io.StringIO", "random.Random"),
}
READ_ONLY = {"Final", "Mapping", "Sequence", "Set", "AbstractSet", "Collection", "Iterable", "Container"}
MUTATORS = {
    *("append", "appendleft", "extend", "insert", "remove", "pop", "popleft", "popitem", "clear", "sort", "reverse"),
    *("add", "discard", "update", "setdefault", "__setitem__", "__delitem__", "subtract"),
}


def mutable_state(tree: Tree) -> list[str]:
    """Rule 10: a module holds constants.

    A list, dict, set or the like at the top of a module or a class must be typed read-only (`Final`, `Mapping`,
    `Sequence` ...) or wrapped (`MappingProxyType`, `frozenset`, `tuple`), and may not be changed even then. `global`,
    assignments to members of modules, classes and functions, and memos without a bound are state as well. Annotated
    members of a class body are fields with a default, not state; `__all__` and `__slots__` are left alone.
    """
    bound = {name for module in modules(tree) for name in _mutable_names(module)}
    found = []
    for module in modules(tree):
        for statement, in_class in import_time(module.syntax.body):
            for name, value, annotation in bindings(statement):
                if (
                    not name.startswith("__")
                    and _mutable(module, value)
                    and not _read_only(annotation, in_class=in_class)
                ):
                    text = f"{name} is mutable state of the module; type it read-only or wrap it"
                    found.append(breach(module.path, statement.lineno, 10, text))
        found += [
            breach(module.path, line, 10, text)
            for node in ast.walk(module.syntax)
            for line, text in _change(module, node, bound)
        ]
    return unique(found)


def import_time(body: list[ast.stmt], *, in_class: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """Statements that run when the module is imported, those of class bodies included, with whether they are in one."""
    for statement in body:
        yield statement, in_class
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        inside = in_class or isinstance(statement, ast.ClassDef)
        for name in ("body", "orelse", "finalbody"):
            yield from import_time(getattr(statement, name, []), in_class=inside)
        for part in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
            yield from import_time(part.body, in_class=inside)


def bindings(statement: ast.stmt) -> Iterator[tuple[str, ast.expr, ast.expr | None]]:
    """(name, value, annotation) for each plain name that a statement binds."""
    match statement:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield from _unpacked(target, value)
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value, annotation=annotation):
            yield name, value, annotation
        case _:
            pass


def _unpacked(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr, None]]:
    match target, value:
        case ast.Name(id=name), _:
            yield name, value, None
        case ((ast.Tuple(elts=targets) | ast.List(elts=targets)), (ast.Tuple(elts=values) | ast.List(elts=values))):
            for inner, part in zip(targets, values, strict=False):
                yield from _unpacked(inner, part)
        case _:
            pass


def _mutable(module: Module, value: ast.expr) -> bool:
    match value:
        case ast.Call(func=func):
            return module.resolve(func) in MUTABLE_TYPES
        case ast.Tuple(elts=parts):
            return any(_mutable(module, part) for part in parts)
        case ast.IfExp(body=one, orelse=other):
            return _mutable(module, one) or _mutable(module, other)
        case ast.BoolOp(values=parts):
            return any(_mutable(module, part) for part in parts)
        case ast.BinOp(left=left, right=right):
            return _mutable(module, left) or _mutable(module, right)
        case _:
            return isinstance(value, MUTABLE_DISPLAYS)


def _read_only(annotation: ast.expr | None, *, in_class: bool) -> bool:
    if annotation is None:
        return False
    words = re.findall(r"\w+", ast.unparse(annotation).replace("typing.", "").replace("collections.abc.", ""))
    outer = [word for word in words if word != "ClassVar"][:1]
    is_field = in_class and "ClassVar" not in words
    return is_field or bool(READ_ONLY.intersection(outer))


def _mutable_names(module: Module) -> Iterator[str]:
    for statement, in_class in import_time(module.syntax.body):
        for name, value, _ in bindings(statement):
            if not in_class and _mutable(module, value):
                yield f"{module.name}.{name}"


def _change(module: Module, node: ast.AST, bound: set[str]) -> Iterator[tuple[int, str]]:
    """Ways to change what lives in a module: `global`, its containers, its members, its memos."""
    match node:
        case ast.Global(names=names):
            yield node.lineno, f"global {', '.join(names)}: hand the value in and out instead"
        case ast.Call(func=ast.Attribute(value=owner, attr=attr)) if attr in MUTATORS and _is(module, owner, bound):
            yield node.lineno, f"{ast.unparse(node.func)} changes a value that the module shares"
        case ast.Call(func=func, args=[owner, *_]) if module.resolve(func) in {"builtins.setattr", "builtins.delattr"}:
            if _is_shared(module, owner):
                yield node.lineno, f"sets a member of {ast.unparse(owner)}, which everybody shares"
        case ast.Call(func=func) if module.resolve(func) == "builtins.globals":
            yield node.lineno, "globals(): hand the value in and out instead"
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            yield from _assigned(module, node, targets, bound)
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            yield from _assigned(module, node, [target], bound)
        case ast.FunctionDef(decorator_list=decorators) | ast.AsyncFunctionDef(decorator_list=decorators):
            for decorator in decorators:
                if _is_endless_memo(module, decorator) and ast.unparse(node.args):
                    yield decorator.lineno, "a memo without a bound grows with what callers send"
        case _:
            pass


def _assigned(module: Module, node: ast.stmt, targets: list[ast.expr], bound: set[str]) -> Iterator[tuple[int, str]]:
    for target in targets:
        match target:
            case ast.Subscript(value=owner) if _is(module, owner, bound):
                yield node.lineno, f"{ast.unparse(target)} = ... changes a value that the module shares"
            case ast.Attribute(value=owner) if _is_shared(module, owner):
                yield node.lineno, f"sets {ast.unparse(target)}, which everybody shares"
            case ast.Name() if isinstance(node, ast.AugAssign) and _is(module, target, bound):
                yield node.lineno, f"{target.id} += ... changes a value that the module shares"
            case _:
                pass


def _is(module: Module, node: ast.expr, bound: set[str]) -> bool:
    """Whether an expression is one of the module-level containers, here or in a module that was imported."""
    name = module.resolve(node)
    if name is None and isinstance(node, ast.Name):
        name = f"{module.name}.{node.id}"
    return name in bound


def _is_shared(module: Module, node: ast.expr) -> bool:
    """Whether an expression is a module, a class or a function rather than a value of one."""
    match node:
        case ast.Name(id="cls") | ast.Attribute(value=ast.Name(id="self"), attr="__class__"):
            return True
        case ast.Call(func=func) if module.resolve(func) == "builtins.type":
            return True
        case ast.Name(id=name) if name in module.stored:
            return False  # a parameter or a local that only looks like an import
        case ast.Name() | ast.Attribute():
            return module.resolve(node) is not None
        case _:
            return False


def _is_endless_memo(module: Module, decorator: ast.expr) -> bool:
    match decorator:
        case ast.Call(func=func) if module.resolve(func) == "functools.lru_cache":
            sizes = [*decorator.args[:1], *(word.value for word in decorator.keywords if word.arg == "maxsize")]
            return any(isinstance(size, ast.Constant) and size.value is None for size in sizes)
        case _:
            return module.resolve(decorator) == "functools.cache"


RULES = (mutable_state,)

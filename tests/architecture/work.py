"""Nothing happens on import: rule 10 of ARCHITECTURE.md, as far as it speaks of work."""

import ast
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from architecture.state import import_time
from architecture.tree import FUNCTIONS, PACKAGE, Module, Tree, breach, modules, places, unique

VALUES = (
    *("typing", "enum", "dataclasses", "operator", "math", "string", "itertools", "decimal", "fractions", "struct"),
    *("msgspec", "re.compile", "re.escape", "types.MappingProxyType", "contextvars.ContextVar", "logging.getLogger"),
    *("functools.partial", "functools.lru_cache", "functools.wraps", "collections.namedtuple", "uuid.UUID"),
    *("datetime.timedelta", "datetime.datetime", "datetime.date", "datetime.time", "datetime.timezone"),
    *("pathlib.Path", "pathlib.PurePath", "pathlib.PurePosixPath", "ipaddress.ip_network", "ipaddress.ip_address"),
    *("collections.deque", "collections.defaultdict", "collections.OrderedDict", "collections.Counter"),  # see state.py
    *("numpy.dtype", "numpy.float32", "numpy.float64", "numpy.int64", "numpy.finfo"),
)
"""What may be called on import: making a constant, not doing anything."""

CLOCKS = ("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today")
BUILTINS = {
    f"builtins.{name}"
    for name in (
        *("frozenset", "tuple", "range", "bytes", "str", "int", "float", "bool", "complex", "slice", "object", "type"),
        *("len", "min", "max", "sum", "sorted", "zip", "enumerate", "map", "filter", "reversed", "abs", "round"),
        *("divmod", "pow", "ord", "chr", "hex", "repr", "format", "isinstance", "issubclass", "any", "all"),
        *("property", "staticmethod", "classmethod", "super", "list", "dict", "set", "bytearray", "memoryview"),
    )
}
TEXT_METHODS = {
    *("encode", "decode", "split", "splitlines", "join", "lower", "upper", "title", "strip", "lstrip", "rstrip"),
    *("format", "replace", "translate", "removeprefix", "removesuffix", "partition", "rpartition", "fromhex"),
    *("maketrans", "to_bytes", "from_bytes", "items", "keys", "values", "index", "count", "startswith", "endswith"),
    *("setter", "getter", "deleter"),
}
VALUE_BASES = {
    *("Struct", "Enum", "IntEnum", "StrEnum", "Flag", "IntFlag", "Protocol", "Generic", "NamedTuple", "TypedDict"),
    *("object", "Exception", "ValueError", "str", "int", "bytes", "tuple", "float", "frozenset"),
}
CONSTRUCTORS = {"__init__", "__new__"}
COMMAND_LINE = {"typer", "rich"}
DECLARATIONS = {"command", "callback", "add_typer"}


class Known(NamedTuple):
    """What the tree defines: dotted name -> class and the module it stands in; the names of all modules."""

    classes: Mapping[str, tuple[Module, ast.ClassDef]]
    modules: Collection[str]


def import_work(tree: Tree) -> list[str]:
    """Rule 10: importing a module makes constants and nothing else: no loop, no `with`, no call that does something.

    Allowed are calls that make a value of the standard library or of msgspec, methods of text, and the construction of
    our own classes that have no constructor of their own (structs, enums, stateless objects). The command line may
    declare its commands. Blocks under `if __name__ == "__main__"` do not run on import.
    """
    classes = {f"{module.name}.{node.name}": (module, node) for module in modules(tree) for node in _classes(module)}
    known = Known(classes, places(tree).keys())
    found = []
    for module in modules(tree):
        if module.room == "__main__":
            continue
        body = [statement for statement in module.syntax.body if not _main_guard(statement)]
        for statement, _ in import_time(body):
            if isinstance(statement, ast.For | ast.While | ast.With):
                found.append(breach(module.path, statement.lineno, 10, "a loop or a with block runs on import"))
            if isinstance(statement, ast.Expr) and not (
                isinstance(statement.value, ast.Constant) or _declares_command(module, statement.value)
            ):
                found.append(breach(module.path, statement.lineno, 10, "a bare expression runs on import"))
            found += [
                breach(module.path, call.lineno, 10, f"{ast.unparse(call.func)}(...) runs on import")
                for call in _calls(statement)
                if not _makes_value(module, call, known)
            ]
    return unique(found)


def _classes(module: Module) -> list[ast.ClassDef]:
    return [statement for statement in module.syntax.body if isinstance(statement, ast.ClassDef)]


def _main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'"


def _calls(statement: ast.stmt) -> Iterator[ast.Call]:
    """The calls that a statement itself makes on import; the statements below it are walked on their own."""
    todo: list[ast.AST] = []
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            todo += [*statement.decorator_list, *statement.args.defaults, *filter(None, statement.args.kw_defaults)]
        case ast.ClassDef():
            todo += [*statement.decorator_list, *statement.bases, *(word.value for word in statement.keywords)]
        case _:
            todo += [node for node in ast.iter_child_nodes(statement) if isinstance(node, ast.expr | ast.withitem)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Call):
            yield node
        if not isinstance(node, FUNCTIONS):
            todo += ast.iter_child_nodes(node)


def _makes_value(module: Module, call: ast.Call, known: Known) -> bool:
    name = module.resolve(call.func)
    if _declares_command(module, call):
        return True
    if name is None:
        return isinstance(call.func, ast.Attribute) and call.func.attr in TEXT_METHODS
    if name in CLOCKS:
        return False
    owner, _, method = name.rpartition(".")
    if method in TEXT_METHODS and owner.startswith(f"{PACKAGE}.") and owner not in known.modules:
        return True  # a method of a constant of ours, not a function in one of our modules
    if name in BUILTINS or any(name == value or name.startswith(f"{value}.") for value in VALUES):
        return True
    if name.startswith("builtins.") and name.split(".")[1] in {"str", "bytes", "int", "dict"}:
        return name.rpartition(".")[2] in TEXT_METHODS
    return name in known.classes and _is_value(name, known)


def _declares_command(module: Module, call: ast.expr) -> bool:
    """Whether the command line says what commands it has: `typer.Option(...)`, `@app.command()`, `app.command()(f)`."""
    if module.room != "cli" or not isinstance(call, ast.Call):
        return False
    if isinstance(call.func, ast.Call):
        return _declares_command(module, call.func)
    name = module.resolve(call.func)
    declares = isinstance(call.func, ast.Attribute) and call.func.attr in DECLARATIONS
    return declares or (name is not None and name.split(".")[0] in COMMAND_LINE)


def _is_value(name: str, known: Known) -> bool:
    """Whether making an object of a class only makes a value: ours, without a constructor that could do more."""
    if name not in known.classes:
        return name.rpartition(".")[2] in VALUE_BASES
    module, node = known.classes[name]
    if any(isinstance(item, ast.FunctionDef) and item.name in CONSTRUCTORS for item in node.body):
        return False
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    names = [module.resolve(base) or "" for base in bases]
    return all(base != name and _is_value(base, known) for base in names)


RULES = (import_work,)

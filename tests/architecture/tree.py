"""A source tree as text, and what each module of it names.

Every rule in this folder is a pure function from a `Tree` (path below the repository -> text) to breaches, so that the
same function judges the real source and a made-up tree with a planted breach. Names are resolved as far as syntax
allows: aliases, relative and star imports, `importlib.import_module("...")`, `__import__`, `getattr` with a literal,
`sys.modules["..."]` and attribute chains all give one dotted name.
"""

import ast
import builtins
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

Tree = Mapping[str, str]
Rule = Callable[[Tree], list[str]]

PACKAGE = "penstock"
SOURCE = f"src/{PACKAGE}/"
TEXT = {".py", ".md", ".toml", ".html", ".js", ".css", ".yaml", ".yml"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
IMPORTERS = {"importlib.import_module", "importlib.__import__", "builtins.__import__"}


def breach(path: str, line: int, rule: int, text: str) -> str:
    """One finding, in the form that an editor can jump to."""
    return f"{path}:{line}: rule {rule}: {text}"


def read_tree(root: Path) -> Tree:
    """Everything that a person wrote in the repository at `root`: source, tests, documentation, configuration."""
    found = [path for name in ("src", "tests", "docs", "bench", ".ci") for path in sorted((root / name).rglob("*"))]
    found += sorted(root.glob("*"))
    plain = [path for path in found if path.is_file() and (path.suffix in TEXT or path.name in {"Makefile", "run"})]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in plain}


@dataclass(frozen=True)
class Use:
    """A dotted name that a module uses: `penstock.wire.framing`, `os.environ`, `builtins.open`, `os.*`."""

    name: str
    line: int
    imported: bool = False
    inside: bool = False
    """Imported inside a function."""


@dataclass
class Module:
    """One source file. `place` is its path below the package: `wire/framing.py`."""

    path: str
    source: str
    bindings: dict[str, str] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    modules: set[str] = field(default_factory=set)
    """Names that stand where only a module can stand: `a.b` of `import a.b` and of `from a.b import c`."""
    hidden: list[Use] = field(default_factory=list)
    """Star imports and imports of a computed name: nobody can tell by reading what they bring in."""

    def __post_init__(self) -> None:
        _Reader(self).read()

    @cached_property
    def syntax(self) -> ast.Module:
        return ast.parse(self.source, self.path)

    @cached_property
    def stored(self) -> frozenset[str]:
        """Names that the module binds itself, so that a parameter called `open` is not taken for the builtin."""
        names = {
            node.id for node in ast.walk(self.syntax) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        return frozenset(names | {node.arg for node in ast.walk(self.syntax) if isinstance(node, ast.arg)})

    @property
    def place(self) -> str:
        return self.path.removeprefix(SOURCE)

    @property
    def room(self) -> str:
        """The first step below the package: `wire` of `wire/framing.py`, `cli` of `cli.py`, "" of `__init__.py`."""
        first = self.place.split("/")[0].removesuffix(".py")
        return "" if first == "__init__" else first

    @property
    def name(self) -> str:
        return _dotted(self.path)

    @property
    def package(self) -> str:
        return self.name if self.path.endswith("/__init__.py") else self.name.rpartition(".")[0]

    def resolve(self, node: ast.expr) -> str | None:
        """The dotted name that an expression stands for, if syntax alone can tell."""
        match node:
            case ast.Name(id=name) if name in self.bindings:
                return self.bindings[name]
            case ast.Name(id=name) if hasattr(builtins, name) and name not in self.stored:
                return f"builtins.{name}"
            case ast.Attribute(value=value, attr=attr):
                owner = self.resolve(value)
                return f"{owner}.{attr}" if owner else None
            case ast.Call(func=ast.Name(id="getattr"), args=[owner_node, ast.Constant(value=str(attr)), *_]):
                owner = self.resolve(owner_node)
                return f"{owner}.{attr}" if owner else None
            case ast.Call(func=func) if self.resolve(func) in IMPORTERS:
                return self.import_target(node)
            case ast.Subscript(value=value, slice=ast.Constant(value=str(name))) if (
                self.resolve(value) == "sys.modules"
            ):
                return name
            case _:
                return None

    def import_target(self, call: ast.Call) -> str | None:
        """What a call of `import_module` or `__import__` brings in; None if its name is computed."""
        first = call.args[:1] + [word.value for word in call.keywords if word.arg == "name"]
        match first:
            case [ast.Constant(value=str(name))]:
                return self.absolute(name.lstrip("."), len(name) - len(name.lstrip(".")))
            case _:
                return None

    def absolute(self, name: str, level: int) -> str:
        """A possibly relative module name as an absolute one."""
        if not level:
            return name
        steps = self.package.split(".")
        base = ".".join(steps[: len(steps) - level + 1])
        return f"{base}.{name}" if name else base


class _Reader(ast.NodeVisitor):
    """Fills a module's bindings first and its uses second, since a name may be used above its import."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.depth = 0

    def read(self) -> None:
        for node in ast.walk(self.module.syntax):
            self._bind(node)
        self.visit(self.module.syntax)

    def _bind(self, node: ast.AST) -> None:
        bindings = self.module.bindings
        match node:
            case ast.Import(names=names):
                for alias in names:
                    bindings[alias.asname or alias.name.split(".")[0]] = (
                        alias.name if alias.asname else alias.name.split(".")[0]
                    )
            case ast.ImportFrom(module=source, names=names, level=level):
                base = self.module.absolute(source or "", level)
                bindings.update({alias.asname or alias.name: f"{base}.{alias.name}" for alias in names})
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                owner = self.module.resolve(value)
                if owner and name not in bindings:
                    bindings[name] = owner
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                if node in self.module.syntax.body:
                    bindings[name] = f"{self.module.name}.{name}"

    def _use(self, name: str, line: int, *, imported: bool = False) -> None:
        self.module.uses.append(Use(name, line, imported, imported and self.depth > 0))

    def visit(self, node: ast.AST) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                self.depth += 1
                self.generic_visit(node)
                self.depth -= 1
            case ast.Import(names=names):
                for alias in names:
                    self._import(alias.name, alias.lineno)
            case ast.ImportFrom():
                self._import_from(node)
            case ast.Call(func=func):
                if self.module.resolve(func) in IMPORTERS:
                    self._import(self.module.import_target(node), node.lineno)
                self._named(node)
            case ast.Attribute() | ast.Subscript() | ast.Name():
                self._named(node)
            case _:
                self.generic_visit(node)

    def _import(self, name: str | None, line: int) -> None:
        if name is None:
            self.module.hidden.append(Use("a computed name", line))
        else:
            self.module.modules.add(name)
            self._use(name, line, imported=True)

    def _import_from(self, node: ast.ImportFrom) -> None:
        base = self.module.absolute(node.module or "", node.level)
        self.module.modules.add(base)
        for alias in node.names:
            self._use(f"{base}.{alias.name}", alias.lineno, imported=True)
            if alias.name == "*":
                self.module.hidden.append(Use(base, alias.lineno))

    def _named(self, node: ast.expr) -> None:
        name = self.module.resolve(node)
        if name:
            self._use(name, node.lineno)
        if not name or isinstance(node, ast.Call):
            self.generic_visit(node)


@lru_cache(maxsize=1024)
def _module(path: str, source: str) -> Module:
    return Module(path, source)


def modules(tree: Tree) -> list[Module]:
    """The modules of the package, in the order of their paths."""
    return [_module(path, tree[path]) for path in sorted(tree) if path.startswith(SOURCE) and path.endswith(".py")]


def _dotted(path: str) -> str:
    return path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def places(tree: Tree) -> Mapping[str, str]:
    """Dotted name -> path of every module, every folder of modules, and every module that somebody imports."""
    known = {module.name: module.path for module in modules(tree)}
    for module in modules(tree):
        for name in module.modules:
            if name.startswith(f"{PACKAGE}."):
                known.setdefault(name, f"src/{name.replace('.', '/')}.py")
        parent = module.name.rpartition(".")[0]
        while parent:
            known.setdefault(parent, f"src/{parent.replace('.', '/')}")
            parent = parent.rpartition(".")[0]
    return known


def inner_uses(module: Module, known: Mapping[str, str]) -> Iterator[tuple[str, Use]]:
    """The project's own modules that a module names, as (dotted module name, use); the package itself is `penstock`."""
    for use in module.uses:
        name = use.name
        if name.split(".")[0] != PACKAGE:
            continue
        while name not in known and name != PACKAGE:
            name = name.rpartition(".")[0]
        if name != module.name:
            yield name, use


def room_of(name: str) -> str:
    """`wire` of `penstock.wire.framing`; "" of `penstock` itself."""
    return name.partition(".")[2].split(".")[0]


def covers(library: str, name: str) -> bool:
    """Whether using `name` is using `library`; `from os import *` uses all of os."""
    if name == library or name.startswith(f"{library}."):
        return True
    return name.endswith(".*") and library.startswith(name.removesuffix("*"))


def third_party(name: str) -> str | None:
    """The library that a dotted name belongs to; None for the standard library and for the project itself."""
    top = name.partition(".")[0]
    return None if top == PACKAGE or top in sys.stdlib_module_names else top


def line_of(node: ast.AST) -> int:
    """The line of a node; the loop of a comprehension has none of its own."""
    return node.target.lineno if isinstance(node, ast.comprehension) else getattr(node, "lineno", 1)


def unique(found: list[str]) -> list[str]:
    """The breaches without repetitions, in their order."""
    return list(dict.fromkeys(found))

"""Deciding is pure: rule 6 of ARCHITECTURE.md.

The rule names async, open and eight modules. What it means is: no clock, no chance, no environment, no file, no socket,
no thread, no log. So the back doors to the same things are closed as well (`datetime.now`, `uuid4`, `Path.read_text`,
`urllib`, `subprocess` ...). `random.Random` may be named, as the type of the `rng` that is handed in, and built from a
seed; `numpy.random` the same way.
"""

import ast

from architecture.tree import Module, Tree, breach, covers, line_of, modules, unique

PURE = {"wire", "tokens", "policy", "routing", "engine"}

IMPURE = (
    *("asyncio", "socket", "sqlite3", "logging", "time", "os"),  # as the rule says
    *("ssl", "select", "selectors", "socketserver", "urllib.request", "http.client", "http.server"),
    *("threading", "multiprocessing", "concurrent", "subprocess", "signal", "queue", "sched"),
    *("builtins.open", "builtins.print", "io.open", "posix", "mmap", "tempfile", "shutil", "glob", "fileinput"),
    *(
        "pathlib.Path",
        "importlib.resources",
        "numpy.load",
        "numpy.loadtxt",
        "numpy.memmap",
        "numpy.save",
        "numpy.savez",
    ),
    *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"),
    "penstock.config",  # the reader of file and environment; the values themselves are in penstock.settings
    *("secrets", "uuid.uuid1", "uuid.uuid4", "uuid.getnode", "sys.argv", "sys.stdin", "sys.stdout", "sys.stderr"),
)
FILE_READERS = {"engine/folder.py", "engine/weights.py"}
"""A model is gigabytes in files, read where they are needed and mapped into memory: these two may, and do nothing else impure."""
FILES = ("pathlib.Path", "importlib.resources", "numpy.memmap")
FILE_METHODS = {"read_text", "read_bytes", "write_text", "write_bytes", "tofile", "fromfile"}
SEEDED = ("random.Random", "numpy.random.Generator", "numpy.random.PCG64", "numpy.random.default_rng")


def purity(tree: Tree) -> list[str]:
    """Rule 6: time arrives as `now`, chance as `rng`, bytes as bytes; nothing waits."""
    found = []
    for module in modules(tree):
        if module.room not in PURE:
            continue
        reads = module.place in FILE_READERS
        for use in module.uses:
            if reads and any(covers(name, use.name) for name in FILES):
                continue
            if any(covers(name, use.name) for name in IMPURE):
                found.append(breach(module.path, use.line, 6, f"{module.room} is pure: no {use.name} here"))
            elif _is_chance(use.name):
                text = f"{module.room} is pure: chance arrives as rng, not from {use.name}"
                found.append(breach(module.path, use.line, 6, text))
        found += [
            breach(module.path, line_of(node), 6, f"{module.room} is pure: {what}")
            for node in ast.walk(module.syntax)
            if (what := _impure(module, node)) and not (reads and what.startswith("files are read elsewhere"))
        ]
    return unique(found)


def _is_chance(name: str) -> bool:
    """Whether a name belongs to the process-wide generator. A bare `import random` does nothing yet."""
    seeded = any(f"{name}.".startswith(f"{allowed}.") for allowed in SEEDED)
    return name.startswith(("random.", "numpy.random.")) and not seeded


def _impure(module: Module, node: ast.AST) -> str | None:
    match node:
        case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
            return "no async and no await"
        case ast.comprehension(is_async=1):
            return "no async and no await"
        case ast.Call(func=ast.Attribute(attr=attr)) if attr in FILE_METHODS:
            return f"files are read elsewhere, so no .{attr}()"
        case ast.Call(func=func, args=[], keywords=[]) if module.resolve(func) in SEEDED:
            return "a generator without a seed is chance; take rng as an argument"
        case _:
            return None


RULES = (purity,)

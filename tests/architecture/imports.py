"""Who may import whom: rules 1 to 5 and 8 of ARCHITECTURE.md.

Imports under `if TYPE_CHECKING` and inside functions count like any other: a type that crosses a border is a dependency.
"""

from architecture.tree import Module, Tree, breach, inner_uses, modules, places, room_of, third_party, unique

VOCABULARY = {"call", "event", "reply", "receipt", "target", "errors", "settings"}
SETTINGS = {"config", "document", "forms", "toml", "plugins", "per_loop", "outbox", "passage", "together"}
"""Below every room, above the vocabulary: the reading of the configuration, the Protocols of the extension points, and what
both ends of the line write, pass on and take steps by, once per event loop."""

ROOMS = {"wire", "tokens", "policy", "routing", "providers", "ledger", "telemetry"}
EXCEPTIONS = {"providers/http.py": "wire", "providers/local_engine.py": "engine", "policy/context.py": "tokens"}

STAGES = {"tokens", "policy", "routing", "providers", "ledger", "telemetry", "execute"}
GATEWAY_NEVER = {"wire", "server"}
WIRE_IMPORTERS = {"server/app.py", "providers/http.py"}
COMMAND_LINE = {"cli", "__main__"}
ONLY_FOR_COMMANDS = {"server", "cli", "evals"}

OPTIONAL_DOORS = {
    "providers/local.py": {"penstock.providers.local_engine"},
    "providers/llamacpp.py": {"xllamacpp"},
    "providers/aws_credentials.py": {"botocore"},
    "providers/azure_credentials.py": {"azure"},
    "providers/google_credentials.py": {"google"},
    "telemetry/otel.py": {"opentelemetry"},
}
"""Doors to optional extras, and what each may import late, so that the program starts without them."""


def vocabulary(tree: Tree) -> list[str]:
    """Rule 1: the vocabulary imports only itself, the standard library and msgspec.

    The reading of the configuration and `plugins` stand one step above it: they may import the vocabulary and each other.
    """
    found = []
    for module in modules(tree):
        if module.room in VOCABULARY:
            allowed = VOCABULARY
        elif module.room in SETTINGS:
            allowed = VOCABULARY | SETTINGS
        else:
            continue
        found += _outside(tree, module, allowed, 1, "is below the rooms and may import only the vocabulary")
        if module.room in VOCABULARY:
            found += [
                breach(
                    module.path, use.line, 1, f"the vocabulary imports msgspec and the standard library, not {use.name}"
                )
                for use in module.uses
                if use.imported and third_party(use.name) not in {None, "msgspec"}
            ]
    return unique(found)


def rooms(tree: Tree) -> list[str]:
    """Rule 2: a room imports the vocabulary, the settings and its own folder; three files may do more."""
    found = []
    for module in modules(tree):
        if module.room in ROOMS:
            allowed = VOCABULARY | SETTINGS | {module.room, EXCEPTIONS.get(module.place, module.room)}
            found += _outside(tree, module, allowed, 2, f"is in the room {module.room!r}, which stands alone")
    return unique(found)


def engine(tree: Tree) -> list[str]:
    """Rule 3: the engine imports nothing of the project."""
    found = []
    for module in modules(tree):
        if module.room == "engine":
            found += _outside(tree, module, {"engine"}, 3, "is in the engine, which could be released alone")
    return unique(found)


def gateway(tree: Tree) -> list[str]:
    """Rule 4: only `gateway.py` knows several stages, and it never sees bytes.

    A room's own files do not count, nor do the exceptions of rule 2. `execute` counts as a stage: whoever needs it and
    another stage wants the gateway.
    """
    found = []
    for module in modules(tree):
        seen: dict[str, int] = {}
        for name, use in inner_uses(module, places(tree)):
            room = room_of(name)
            if module.place == "gateway.py" and room in GATEWAY_NEVER:
                found.append(
                    breach(module.path, use.line, 4, f"the gateway never sees bytes, so it may not import {name}")
                )
            if room in STAGES and room != module.room and EXCEPTIONS.get(module.place) != room:
                seen.setdefault(room, use.line)
        if module.place != "gateway.py" and len(seen) > 1:
            text = f"only gateway.py may import several stages; this imports {', '.join(seen)}"
            found += [breach(module.path, line, 4, text) for line in seen.values()]
    return unique(found)


def edges(tree: Tree) -> list[str]:
    """Rule 5: bytes are read and written at two places, and nothing depends on the outermost ring."""
    found = []
    for module in modules(tree):
        for name, use in inner_uses(module, places(tree)):
            room = room_of(name)
            if room == "wire" and module.room != "wire" and module.place not in WIRE_IMPORTERS:
                text = f"only {' and '.join(sorted(WIRE_IMPORTERS))} may import wire; this imports {name}"
                found.append(breach(module.path, use.line, 5, text))
            if room in ONLY_FOR_COMMANDS and module.room not in {room, *COMMAND_LINE}:
                found.append(breach(module.path, use.line, 5, f"only the command line may import {name}"))
    return unique(found)


def cycles(tree: Tree) -> list[str]:
    """Rule 8, first half: no import cycle, late imports and imports for types included."""
    known = places(tree)
    graph: dict[str, dict[str, int]] = {}
    for module in modules(tree):
        lines = graph.setdefault(module.name, {})
        for name, use in inner_uses(module, known):
            lines.setdefault(name, use.line)
    found = []
    for name, lines in graph.items():
        for target, line in lines.items():
            if name in _reachable(graph, target):
                found.append(breach(known[name], line, 8, f"import cycle: {target} leads back to {name}"))
    return unique(found)


def late_imports(tree: Tree) -> list[str]:
    """Rule 8, second half: imports stand at the top, where a reader finds them, and say what they bring."""
    found = []
    for module in modules(tree):
        free = module.room in {"cli", "plugins"} or module.path.endswith("/__init__.py")
        extras = OPTIONAL_DOORS.get(module.place, set())
        found += [
            breach(module.path, use.line, 8, f"import {use.name} at the top of the file")
            for use in module.uses
            if use.inside and not free and not any(f"{use.name}.".startswith(f"{extra}.") for extra in extras)
        ]
        for use in module.hidden:
            if use.name != "a computed name":
                found.append(breach(module.path, use.line, 8, f"name what you need of {use.name} instead of *"))
            elif not free:
                found.append(breach(module.path, use.line, 8, "a computed import belongs into plugins.py"))
    return unique(found)


def _outside(tree: Tree, module: Module, allowed: set[str], rule: int, why: str) -> list[str]:
    return [
        breach(module.path, use.line, rule, f"{module.place} {why}; it imports {name}")
        for name, use in inner_uses(module, places(tree))
        if room_of(name) not in allowed
    ]


def _reachable(graph: dict[str, dict[str, int]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += graph.get(name, {})
    return seen


RULES = (vocabulary, rooms, engine, gateway, edges, cycles, late_imports)

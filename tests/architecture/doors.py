"""One door each: rule 7 of ARCHITECTURE.md.

A library that is not in this table may not be imported at all: a new dependency brings its own row, and swapping a
library is a change of the files in that row.
"""

import ast
from fnmatch import fnmatch
from typing import NamedTuple

from architecture.tree import Tree, breach, covers, modules, third_party, unique

EVERYWHERE = {"msgspec"}


class Door(NamedTuple):
    """Files (patterns below the package) that may use the libraries; `only_one` of those that match, if so said."""

    what: str
    libraries: tuple[str, ...]
    files: tuple[str, ...]
    only_one: bool = False


SOCKETS = ("providers/connection.py", "providers/pool.py", "server/http11.py", "server/listening.py", "server/tls.py")

DOORS = (
    Door("HTTP parsing", ("httptools",), SOCKETS),
    Door("sockets and TLS", ("socket", "ssl"), SOCKETS),
    Door("the event loop", ("uvloop",), ("server/*.py",), only_one=True),
    Door("SQL", ("sqlite3",), ("ledger/database.py",)),
    Door(
        "the environment",
        ("os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.unsetenv", "os.path.expandvars"),
        ("config.py",),
    ),
    Door("NumPy", ("numpy",), ("engine/*.py",)),  # a numeric file of routing/ joins by its name
    Door("ASGI", ("starlette",), ("server/admin.py", "server/console.py", "server/console/*.py")),
    Door("Prometheus", ("prometheus_client",), ("telemetry/metrics.py",)),
    Door("OpenTelemetry", ("opentelemetry",), ("telemetry/otel.py",)),
    Door("the tokenizer engine", ("splintr",), ("tokens/vocabularies.py",)),
    Door("GGUF models in process", ("xllamacpp",), ("providers/llamacpp.py",)),
    Door("AWS credentials", ("botocore",), ("providers/aws_credentials.py",)),
    Door("Azure credentials", ("azure",), ("providers/azure_credentials.py",)),
    Door("Google credentials", ("google",), ("providers/google_credentials.py",)),
    Door("templates", ("jinja2",), ("engine/fuel.py", "engine/sandbox.py", "engine/template.py")),
    Door("Unicode patterns", ("regex",), ("engine/pretokenize.py",)),
    Door("the terminal", ("typer", "rich"), ("cli.py", "cli/*.py")),
    Door(
        "HTTP by other means",
        ("urllib.request", "http.client", "http.server", "socketserver", "xmlrpc"),
        ("providers/google_credentials.py",),
    ),
)
SOCKET_CALLS = {
    *("create_connection", "create_server", "create_unix_connection", "create_unix_server"),
    *("open_connection", "start_server", "open_unix_connection", "start_unix_server", "create_datagram_endpoint"),
    *("sock_connect", "sock_accept", "start_tls"),
}


def doors(tree: Tree) -> list[str]:
    """Rule 7: each library, and the environment, is used behind its own door and nowhere else."""
    found = []
    users: dict[str, dict[str, str]] = {}
    for module in modules(tree):
        for use in module.uses:
            door = next((door for door in DOORS if any(covers(name, use.name) for name in door.libraries)), None)
            if door is None:
                library = third_party(use.name)
                if library and library not in EVERYWHERE and use.imported:
                    text = f"{library} has no door: add it to the table of doors, with the one file that uses it"
                    found.append(breach(module.path, use.line, 7, text))
            elif not any(fnmatch(module.place, pattern) for pattern in door.files):
                text = f"{use.name} belongs behind the door for {door.what} ({', '.join(door.files) or 'none'})"
                found.append(breach(module.path, use.line, 7, text))
            elif door.only_one:
                text = f"{door.what} is chosen in one place, but {use.name} is used in several"
                users.setdefault(door.what, {}).setdefault(module.path, breach(module.path, use.line, 7, text))
        found += [breach(module.path, line, 7, text) for line, text in _calls(module.place, module.syntax)]
    found += [text for places in users.values() if len(places) > 1 for text in places.values()]
    return unique(found)


def _calls(place: str, tree: ast.AST) -> list[tuple[int, str]]:
    """Doors that are opened by a method's name, or by a keyword, rather than by an import."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=attr) if attr in SOCKET_CALLS and place not in SOCKETS:
                found.append((node.lineno, f".{attr} opens a socket; that belongs behind {', '.join(SOCKETS)}"))
            case ast.keyword(arg="envvar"):
                found.append((node.lineno, "envvar= reads the environment, which only config.py does"))
            case _:
                pass
    return found


RULES = (doors,)

"""penstock: one process between your applications and every model they use.

As a server: `penstock serve`. As a library::

    from penstock import Gateway

    with Gateway("penstock.toml") as gateway:
        print(gateway.ask("Hi", model="fast").text)

The public names are resolved on first use, so that importing the package loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.call import Message
    from penstock.client import Answer, AsyncGateway, Gateway
    from penstock.errors import ConfigError, PenstockError
    from penstock.receipt import Receipt, Usage

__all__ = (
    "Answer",
    "AsyncGateway",
    "ConfigError",
    "Gateway",
    "Message",
    "PenstockError",
    "Receipt",
    "Usage",
    "__version__",
)

__version__ = "0.1.0"

_HOMES = {
    "Answer": "client",
    "AsyncGateway": "client",
    "ConfigError": "errors",
    "Gateway": "client",
    "Message": "call",
    "PenstockError": "errors",
    "Receipt": "receipt",
    "Usage": "receipt",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    return getattr(import_module(f"penstock.{home}"), name)

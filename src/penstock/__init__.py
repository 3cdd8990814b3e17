"""penstock: one process between your applications and every model they use.

As a server: `penstock serve`. As a library::

    from penstock import Gateway

    with Gateway("penstock.toml") as gateway:
        print(gateway.ask("Hi", model="fast").text)

The public names are resolved on first use, so that importing the package loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from penstock.arguments import Options
    from penstock.call import (
        Audio,
        File,
        Image,
        Message,
        OutputFormat,
        Reasoning,
        Refusal,
        Text,
        Tool,
        ToolChoice,
        ToolResult,
        ToolUse,
    )
    from penstock.client import Answer, AsyncGateway, Gateway
    from penstock.errors import ConfigError, PenstockError
    from penstock.foresight import Foresight
    from penstock.receipt import Attempt, Receipt, Usage
    from penstock.reply import (
        Chunk,
        Ended,
        Event,
        Failed,
        Finished,
        ReasoningDelta,
        RefusalDelta,
        Reply,
        Started,
        TextDelta,
        ToolUseDelta,
        ToolUseStarted,
        UsageReported,
    )

__all__ = (
    "Answer",
    "AsyncGateway",
    "Attempt",
    "Audio",
    "Chunk",
    "ConfigError",
    "Ended",
    "Event",
    "Failed",
    "File",
    "Finished",
    "Foresight",
    "Gateway",
    "Image",
    "Message",
    "Options",
    "OutputFormat",
    "PenstockError",
    "Reasoning",
    "ReasoningDelta",
    "Receipt",
    "Refusal",
    "RefusalDelta",
    "Reply",
    "Started",
    "Text",
    "TextDelta",
    "Tool",
    "ToolChoice",
    "ToolResult",
    "ToolUse",
    "ToolUseDelta",
    "ToolUseStarted",
    "Usage",
    "UsageReported",
    "__version__",
)

__version__ = "0.1.0"

_HOMES: Final = {
    "arguments": ("Options",),
    "call": (
        *("Audio", "File", "Image", "Message", "OutputFormat", "Reasoning", "Refusal", "Text"),
        *("Tool", "ToolChoice", "ToolResult", "ToolUse"),
    ),
    "client": ("Answer", "AsyncGateway", "Gateway"),
    "errors": ("ConfigError", "PenstockError"),
    "gateway": ("Foresight",),
    "receipt": ("Attempt", "Receipt", "Usage"),
    "reply": (
        *("Chunk", "Ended", "Event", "Failed", "Finished", "ReasoningDelta", "RefusalDelta", "Reply", "Started"),
        *("TextDelta", "ToolUseDelta", "ToolUseStarted", "UsageReported"),
    ),
}
"""Where the names live: looking one up loads that module, and importing the package loads none."""


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"penstock.{home}"), name)
    raise AttributeError(f"module 'penstock' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

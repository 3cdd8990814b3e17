"""What the embedded engine is asked: a call as messages of plain text, and what of it such a model cannot do.

Pure. Place in the line: beside `local.py`, which hands this to the engine.
"""

from msgspec import Struct
from msgspec.json import decode

from penstock.call import (
    Audio,
    Call,
    Content,
    File,
    Foreign,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolResult,
)
from penstock.errors import Inexpressible, InvalidRequest
from penstock.reply import Event

MOST_EXPLAINED = 50
ID_DIGITS = 20


class Piece(Struct, frozen=True, gc=False):
    """What one token of a choice adds to the answer, and how long the prompt was."""

    events: tuple[Event, ...]
    prompt_tokens: int


class Order(Struct, frozen=True):
    """A call as the engine takes it. `explain` is how many candidates of each step are told; 0: none."""

    messages: tuple[dict[str, str], ...]
    call: Call
    choices: int = 1
    explain: int = 0


def order_of(call: Call, target: str) -> tuple[Order, tuple[str, ...]]:
    """Give the order, and the names of what this kind of model leaves out. Raises Inexpressible or InvalidRequest."""
    content = call.content
    messages = tuple(_message(message, target) for message in content.messages)
    if call.operation == "embed":
        raise Inexpressible(f"{target} makes no embeddings.", hint="Ask a model for embeddings.", param="model")
    return Order(messages, call, call.sampling.n or 1, _explain(content)), _dropped(call)


def _message(message: Message, target: str) -> dict[str, str]:
    """Give the message as a chat template takes it: a developer's word is a system's, a tool's is the user's."""
    role = {"developer": "system", "tool": "user"}.get(message.role, message.role)
    return {"role": role, "content": "\n".join(filter(None, (_text(part, target) for part in message.parts)))}


def _text(part: Part, target: str) -> str:
    match part:
        case Text(text) | Refusal(text):
            return text
        case ToolResult(parts=parts):
            return "\n".join(_text(one, target) for one in parts)
        case Reasoning():
            return ""
        case Image() | Audio() | File() | Foreign():
            what = type(part).__name__.lower()
            raise Inexpressible(
                f"{target} reads text only, and the prompt holds a part of another kind ({what}).",
                hint="Ask a model with that capability.",
                param="messages",
            )
        case _:
            return f"{part.name}({part.arguments})"


def _dropped(call: Call) -> tuple[str, ...]:
    content, sampling = call.content, call.sampling
    asked = {
        "tools": bool(content.tools),
        "output": content.output is not None and content.output.kind != "text",
        "reasoning_effort": sampling.reasoning_effort is not None,
        "reasoning": content.thinking is not None,
    }
    more = (name for name, _ in content.extra if name != "explain")
    return (*(name for name, wanted in asked.items() if wanted), *more)


def _explain(content: Content) -> int:
    for name, json in content.extra:
        if name == "explain":
            value = decode(json)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_EXPLAINED:
                raise InvalidRequest(f"explain has to be a whole number from 0 to {MOST_EXPLAINED}.", param="explain")
            return value
    return 0


def token_bias(call: Call) -> tuple[tuple[int, float], ...]:
    """Give the bias by token id. Raises InvalidRequest for a key that is no id."""
    pairs = []
    for name, bias in call.sampling.logit_bias:
        if not (name.isascii() and name.isdigit() and len(name) <= ID_DIGITS):
            raise InvalidRequest(f"logit_bias names the token {name[:32]!r}, which is no id.", param="logit_bias")
        pairs.append((int(name), bias))
    return tuple(pairs)

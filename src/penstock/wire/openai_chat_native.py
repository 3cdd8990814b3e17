"""What of a chat completions request only its own provider can honour, and what it says about thinking.

Pure. Place in the line: below `openai_chat_request.py`, on the client's side.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import DecodeError, Raw
from msgspec.json import Decoder

from penstock.call import Thinking
from penstock.wire import openai_chat_request_types as wire

_REASONING: Final = Decoder(wire.ReasoningOptions)
_THINKING: Final = Decoder(wire.ThinkingOptions)
_NO_REASONING: Final = wire.ReasoningOptions()
_WITH_STATE: Final = ("web_search_options", "prediction", "audio")
MAY_HAVE: Final = frozenset({*_WITH_STATE, "store"})
"""A request without any of these, all of whose messages are text, has nothing of the kind."""
_OWN_TOOLS: Final = frozenset({"function", "custom"})
_NULL: Final = b"null"


def names(request: wire.Request | wire.ExactRequest, members: Mapping[str, Raw], *, plain: bool) -> tuple[str, ...]:
    """Give the members that need the same provider: its search, its sound, stored completions, its files, hosted tools.

    `plain`: all messages are text, and no tool is hosted.
    """
    found = [name for name in _WITH_STATE if name in members and bytes(members[name]) != _NULL]
    if request.store is True:
        found.append("store")
    if plain:
        return tuple(found)
    found += [tool.type for tool in request.tools or () if tool.type not in _OWN_TOOLS]
    for message in request.messages:
        if isinstance(message, wire.Assistant) and message.audio is not None:
            found.append("audio")
        parts = message.content if isinstance(message.content, list) else ()
        if any(part.file is not None and part.file.file_id is not None for part in parts):
            found.append("file_id")
    return tuple(dict.fromkeys(found))


def read_reasoning(json: Raw) -> wire.ReasoningOptions:
    """Read `reasoning`; nothing where it has another form."""
    if not json:
        return _NO_REASONING
    try:
        return _REASONING.decode(json)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return _NO_REASONING


def read_thinking(reasoning: Raw, thinking: Raw) -> Thinking | None:
    """Read what `reasoning`, else `thinking`, says beyond the effort."""
    said = read_reasoning(reasoning)
    tokens, adaptive = said.max_tokens, said.enabled is True and said.effort is None and said.max_tokens is None
    if said.enabled is False:
        tokens = 0
    if tokens is None and thinking:
        try:
            other = _THINKING.decode(thinking)
        except (DecodeError, UnicodeDecodeError, RecursionError):
            other = wire.ThinkingOptions("")
        tokens = 0 if other.type == "disabled" else other.budget_tokens
        adaptive = adaptive or (tokens is None and other.type in {"enabled", "adaptive", "auto"})
    visible = None if said.exclude is None else not said.exclude
    if tokens is None and visible is None and said.summary is None and not adaptive:
        return None
    return Thinking(tokens, visible, said.summary, adaptive)


def write_thinking(thinking: Thinking) -> dict[str, object]:
    """Write it as `reasoning`."""
    said = {
        "max_tokens": thinking.tokens,
        "exclude": None if thinking.visible is None else not thinking.visible,
        "enabled": True if thinking.adaptive else None,
        "summary": thinking.summary,
    }
    return {name: value for name, value in said.items() if value is not None}

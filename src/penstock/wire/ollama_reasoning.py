"""Signed thoughts and tool calls in Ollama's messages, which have no place of their own for a signature.

Pure. They travel in members that other APIs document for this: `reasoning_details` of a message (OpenRouter) and
`extra_content.google.thought_signature` of a tool call (Google's OpenAI-compatible endpoint). Clients that send a message
back as they got it keep them; others lose the signature and nothing else. A signature carries who made it, since no model
behind Ollama did (see `signatures.py`).
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from penstock.call import Reasoning, Signer
from penstock.wire import signatures

_TEXT: Final = "reasoning.text"
_ENCRYPTED: Final = "reasoning.encrypted"
_TEXTS: Final = frozenset({_TEXT, "reasoning.summary"})


class _Detail(Struct, gc=False):
    type: str
    text: str | None = None
    summary: str | None = None
    signature: str | None = None
    data: str | None = None


class _Google(Struct, gc=False):
    thought_signature: str | None = None


class _Extra(Struct, gc=False):
    google: _Google | None = None


_DETAILS: Final = Decoder(list[_Detail])
_EXTRA: Final = Decoder(_Extra)


def read_details(json: Raw) -> tuple[Reasoning, ...]:
    """Read `reasoning_details`; () for what is none."""
    if not json:
        return ()
    try:
        details = _DETAILS.decode(json)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    thoughts = []
    for detail in details:
        if detail.type == _ENCRYPTED and detail.data:
            signature, signer = signatures.take(detail.data, "")
            thoughts.append(Reasoning("", signature, redacted=True, signer=signer))
        elif detail.type in _TEXTS:
            signature, signer = signatures.take(detail.signature, "")
            thoughts.append(Reasoning(detail.text or detail.summary or "", signature, signer=signer))
    return tuple(thoughts)


def write_details(thoughts: Iterable[Reasoning]) -> list[dict[str, Any]]:
    """Write `reasoning_details`; [] where nothing is signed, so that the plain text says all."""
    thoughts = tuple(thoughts)
    if not any(thought.signature for thought in thoughts):
        return []
    details: list[dict[str, Any]] = []
    for index, thought in enumerate(thoughts):
        signature = signatures.carry(thought.signature, thought.signer, "")
        if thought.redacted:
            details.append({"type": _ENCRYPTED, "data": signature, "index": index})
        else:
            details.append({"type": _TEXT, "text": thought.text, "signature": signature, "index": index})
    return details


def read_tool_signature(json: Raw) -> tuple[str | None, Signer]:
    """Read the signature of a tool call from its `extra_content`."""
    if not json:
        return None, ""
    try:
        extra = _EXTRA.decode(json)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None, ""
    return signatures.take(extra.google.thought_signature, "") if extra.google is not None else (None, "")


def write_tool_signature(signature: str | None, signer: Signer) -> dict[str, Any]:
    """Write the member that carries the signature of a tool call; {} where it has none."""
    carried = signatures.carry(signature, signer, "")
    return {"extra_content": {"google": {"thought_signature": carried}}} if carried else {}

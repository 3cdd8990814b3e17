"""Thoughts and signatures in chat completions, in messages, replies and streams.

Pure. Plain thinking stands in `reasoning_content`; what is signed stands in `reasoning_details` as OpenRouter documents them:
`reasoning.text` with text and signature, `reasoning.summary`, `reasoning.encrypted` with data; `format` names the family.
The signature of a tool call stands in its `extra_content.google.thought_signature`, as Google documents it.
Place in the line: below the readers and writers of `openai_chat*.py`.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from penstock.call import Reasoning, Signer
from penstock.reply import Event, ReasoningDelta
from penstock.wire import openai_responses_signature, signatures
from penstock.wire.openai_chat_reply_types import Delta

_FORMATS: Final[Mapping[Signer, str]] = MappingProxyType(
    {"anthropic": "anthropic-claude-v1", "google": "google-gemini-v1", "openai": "openai-responses-v1"}
)
_FAMILIES: Final[tuple[tuple[str, Signer], ...]] = (
    ("anthropic", "anthropic"),
    ("google", "google"),
    ("gemini", "google"),
    ("openai", "openai"),
)
_KINDS: Final = frozenset({"reasoning.text", "reasoning.summary", "reasoning.encrypted"})


class Detail(Struct, gc=False):
    """One entry of `reasoning_details`, or a piece of one."""

    type: str
    text: str | None = None
    summary: str | None = None
    data: str | None = None
    signature: str | None = None
    format: str | None = None
    id: str | None = None
    index: int | None = None


class _Google(Struct, gc=False, forbid_unknown_fields=True):
    thought_signature: str


class _ExtraContent(Struct, gc=False, forbid_unknown_fields=True):
    google: _Google


_DETAILS: Final = Decoder(list[Detail])
_EXTRA_CONTENT: Final = Decoder(_ExtraContent)


def read_details(json: bytes | Raw) -> list[Detail] | None:
    """Read the entries; None where anything is said that has no neutral form, so that the whole list has to be kept."""
    try:
        details = _DETAILS.decode(json)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None
    known = all(detail.type in _KINDS and _family(detail.format) is not None for detail in details)
    return details if known else None


def _family(form: str | None) -> Signer | None:
    """Give the family that a format names, "" where none is named; None for a family without a neutral name."""
    if not form or form == "unknown":
        return ""
    return next((signer for word, signer in _FAMILIES if word in form), None)


def read_blocks(details: Iterable[Detail]) -> list[Reasoning]:
    """Give the blocks of thinking of a whole message. Pieces of one entry, which a client may have kept apart, are joined."""
    blocks: list[Reasoning] = []
    before: Detail | None = None
    for detail in details:
        last = blocks[-1] if blocks else None
        is_open = before is not None and last is not None and last.signature is None
        family = _family(detail.format) or ""
        if detail.type == "reasoning.encrypted":
            block = _encrypted(detail, family)
            if is_open and family == "openai" and before is not None and before.type == "reasoning.summary":
                block = Reasoning(blocks.pop().text, block.signature, signer=family)
            blocks.append(block)
        else:
            text = (detail.summary if detail.type == "reasoning.summary" else detail.text) or ""
            signer: Signer = family if detail.signature else ""
            same = before is not None and before.type == detail.type and before.index == detail.index is not None
            if is_open and same:
                text = blocks.pop().text + text
            blocks.append(Reasoning(text, detail.signature or None, signer=signer))
        before = detail
    return [block for block in blocks if block.text or block.signature is not None]


def _encrypted(detail: Detail, family: Signer) -> Reasoning:
    data = detail.data or ""
    if family == "openai":
        return Reasoning("", openai_responses_signature.join(detail.id, data), signer=family)
    return Reasoning("", data, redacted=True, signer=family)


def write_details(blocks: Iterable[Reasoning], index: int = 0) -> list[dict[str, Any]]:
    """Write blocks of thinking as entries, counted from `index`."""
    entries: list[dict[str, Any]] = []
    for block in blocks:
        form = {"format": _FORMATS[block.signer]} if block.signer else {}
        if block.signer == "openai" and block.signature is not None:
            ident, data = openai_responses_signature.split(block.signature)
            if block.text:
                entries.append({"type": "reasoning.summary", "summary": block.text, **form})
            entries.append(
                {"type": "reasoning.encrypted", "data": data, **({"id": ident} if ident is not None else {}), **form}
            )
        elif block.redacted:
            entries.append({"type": "reasoning.encrypted", "data": block.signature or "", **form})
        elif block.signature is not None:
            entries.append({"type": "reasoning.text", "text": block.text, "signature": block.signature, **form})
        else:
            entries.append({"type": "reasoning.text", "text": block.text})
    for number, entry in enumerate(entries, index):
        entry["index"] = number
    return entries


def are_signed(blocks: Iterable[Reasoning]) -> bool:
    """Return whether there is more to the thinking than its text."""
    return any(block.signature is not None or block.redacted for block in blocks)


def read_whole(message: Delta, choice: int, events: list[Event]) -> bool:
    """Read the entries of a whole message, which say all that `reasoning_content` does; False where they cannot be read."""
    details = read_details(message.reasoning_details)
    if details is None:
        return False
    blocks = read_blocks(details)
    if blocks:
        message.reasoning = message.reasoning_content = None
    events += [ReasoningDelta(b.text, b.signature, b.redacted, choice, b.signer) for b in blocks]
    return True


def read_pieces(delta: Delta, told: list[str], choice: int, events: list[Event]) -> bool:
    """Read entries, or pieces of them, of a stream; False where they cannot be read.

    `told` is what came as `reasoning_content` alone. An entry that repeats the end of it brings the signature of that.
    """
    details = read_details(delta.reasoning_details)
    if details is None:
        return False
    before = "" if delta.reasoning or delta.reasoning_content else "".join(told)
    delta.reasoning = delta.reasoning_content = None
    for detail in details:
        family = _family(detail.format) or ""
        if detail.type == "reasoning.encrypted":
            block = _encrypted(detail, family)
            events.append(ReasoningDelta("", block.signature, block.redacted, choice, family))
            continue
        text = (detail.summary if detail.type == "reasoning.summary" else detail.text) or ""
        if text and before.endswith(text):
            text = ""
        if text or detail.signature:
            signer: Signer = family if detail.signature else ""
            events.append(ReasoningDelta(text, detail.signature or None, choice=choice, signer=signer))
    return True


# -- tool calls --


def read_signature(json: bytes | Raw) -> tuple[str | None, Signer]:
    """Read the signature of a tool call from its `extra_content`; (None, "") where that says anything else."""
    try:
        return signatures.take(_EXTRA_CONTENT.decode(json).google.thought_signature, "google")
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None, ""


def write_signature(signature: str | None, signer: Signer) -> dict[str, Any]:
    """Write the signature of a tool call: the member to add, or none."""
    if signature is None:
        return {}
    return {"extra_content": {"google": {"thought_signature": signatures.carry(signature, signer, "google")}}}

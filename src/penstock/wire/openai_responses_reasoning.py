"""Reasoning items of the Responses API, and what else is signed.

Pure. An item's id and encrypted content are one signature of OpenAI's family (see `openai_responses_signature.py`). Signatures
of other families travel through a client of this dialect as encrypted content, marked by `signatures.carry`: of a thought as it
is, `redacted:` before one that is the thinking itself, and `tool:<call id>:` before that of a tool call, which has an item of its
own right before the call. Place in the line: below the readers and writers of `openai_responses*.py`.
"""

from typing import Any, Final

from penstock.call import Reasoning, ToolUse
from penstock.wire import openai_responses_signature, signatures, tool_ids

MADE: Final = "rs_penstock_"
"""Begins the id of a thought that has none of its own, or had one that is not known."""

_REDACTED: Final = "redacted:"
_TOOL: Final = "tool:"
_BETWEEN: Final = "\n\n"
"""Stands between the parts of a summary, where they become one text."""

Signature = tuple[str, str, str]
"""Of a tool call: its id, the signature and who made it."""


def item_id(prefix: str, *of: str | int) -> str:
    """Make the id of an item from what tells it from all others; that of a thought shows that nobody else knows it."""
    return f"{MADE if prefix == 'rs' else prefix + '_'}{tool_ids.made(*of).removeprefix('call_')}"


def read_item(ident: str | None, encrypted: str | None, summary: list[str], told: list[str]) -> Reasoning | Signature:
    """Read an item: its summary, else the text of its thinking; or the signature of the tool call that follows."""
    text = _BETWEEN.join(summary) if summary else "".join(told)
    item_id = None if ident is not None and ident.startswith(MADE) else ident
    if not encrypted:
        known = item_id is not None and item_id.startswith("rs_") and bool(summary)
        signature = openai_responses_signature.join(item_id, "") if known else None
        return Reasoning(text, signature, signer="openai" if known else "")
    signature, signer = signatures.take(encrypted, "openai")
    assert signature is not None, "an empty one was sorted out"
    if signer == "openai":
        return Reasoning(text, openai_responses_signature.join(item_id, signature), signer=signer)
    if signature.startswith(_TOOL):
        call_id, _, signature = signature.removeprefix(_TOOL).rpartition(":")
        return call_id, signature, signer
    redacted = signature.startswith(_REDACTED)
    return Reasoning(text, signature.removeprefix(_REDACTED), redacted=redacted, signer=signer)


def write_item(part: Reasoning, made_id: str) -> dict[str, Any]:
    """Write a thought as an item, its text as the summary; `made_id` is for one that has no id of its own."""
    item: dict[str, Any] = {"type": "reasoning", "id": made_id, "summary": []}
    if part.text:
        item["summary"] = [{"type": "summary_text", "text": part.text}]
    if part.signature is None:
        return item
    if part.signer == "openai":
        own_id, encrypted = openai_responses_signature.split(part.signature)
        item["id"] = own_id or made_id
    else:
        signature = _REDACTED + part.signature if part.redacted else part.signature
        encrypted = signatures.carry(signature, part.signer, "openai") or ""
    if encrypted:
        item["encrypted_content"] = encrypted
    return item


def write_tool_signature(use: ToolUse, made_id: str) -> dict[str, Any] | None:
    """Write the signature of a tool call as an item that goes before it; None where it has none."""
    if use.signature is None or use.signer in {"", "openai"}:
        return None
    encrypted = signatures.carry(f"{_TOOL}{use.id}:{use.signature}", use.signer, "openai")
    return {"type": "reasoning", "id": made_id, "summary": [], "encrypted_content": encrypted}

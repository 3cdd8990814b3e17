"""What signs a thought of OpenAI's models: the id of its item and its encrypted content, in one text. Pure.

A reasoning item comes back whole, with its id; elsewhere a signature is one opaque text, so the two travel as `rs_1:gAAA...`.
Encrypted content is base64 and an item's id has no colon, so the first colon parts them. Place in the line: below the dialects
of OpenAI.
"""

from typing import Final

_ITEM: Final = "rs_"


def join(item_id: str | None, encrypted: str) -> str:
    """Give one text for both; the encrypted content alone where the id is none of a reasoning item."""
    return f"{item_id}:{encrypted}" if item_id and item_id.startswith(_ITEM) and ":" not in item_id else encrypted


def split(signature: str) -> tuple[str | None, str]:
    """Give the id of the item, if there is one, and its encrypted content, which may be empty."""
    item_id, colon, encrypted = signature.partition(":")
    return (item_id, encrypted) if colon and item_id.startswith(_ITEM) else (None, signature)

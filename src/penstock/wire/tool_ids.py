"""Ids of tool calls where a dialect has none, or is choosy about them. Pure: the same call has the same id every time.

A made id is a digest of what makes the call the one it is (the reply's id, its place), so that two readers of the same
bytes agree; a fitted one keeps the client's own characters as far as the dialect takes them.
"""

import re
from hashlib import sha256
from typing import Final

_FOREIGN: Final = re.compile(r"[^A-Za-z0-9_-]")
DIGITS: Final = 24


def made(*of: str | int) -> str:
    """Make an id of what tells the call from all others: `call_` and 24 hexadecimal digits."""
    text = "\x1f".join(map(str, of))
    return f"call_{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:DIGITS]}"


def fitted(tool_id: str, longest: int = 64) -> str:
    """Give the id in letters, digits, `_` and `-` alone, at most `longest` long; itself where it is so already.

    Different ids stay different: one that has to change gets a digest of what it was.
    """
    if tool_id and len(tool_id) <= longest and not _FOREIGN.search(tool_id):
        return tool_id
    digest = sha256(tool_id.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_FOREIGN.sub('_', tool_id)[: longest - 13]}_{digest}"

"""Says which member of a client's request a decoder objects to, and what to send instead.

Pure, and shared by the dialects: each brings what its own API expects of a member. Place in the line: where a body is read.
"""

import re
from collections.abc import Mapping
from typing import Final

from penstock.errors import InvalidRequest

_PLACE: Final = re.compile(r"(.*?) - at `(?:key` in `)?\$\.?(.*)`$", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`$")
_BEFORE_THE_LAST_NAME: Final = re.compile(r".*\.|\[\d*\]")


def refuse(error: Exception, hints: Mapping[str, str], otherwise: str, place: str = "") -> InvalidRequest:
    """Name the member that msgspec objects to, within `place`, and say what it may be.

    `hints` are by the last name of the member; `otherwise` stands for all others.
    """
    text, param = str(error), place
    if (found := _PLACE.match(text)) is not None:
        inner = found[2].replace("[...]", "")
        text, param = found[1], f"{place}{'' if inner.startswith('[') or not place else '.'}{inner}"
    if (missing := _MISSING.match(text)) is not None:
        param = f"{param}.{missing[1]}".lstrip(".")
        text = f"`{param}` is missing."
    elif param:
        text = f"`{param}`: {text[:1].lower()}{text[1:]}."
    hint = hints.get(_BEFORE_THE_LAST_NAME.sub("", param), otherwise)
    return InvalidRequest(text, param=param or None, hint=hint)

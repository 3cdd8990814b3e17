"""Members that have no neutral form, their names in both spellings, and signatures as Gemini's dialect carries them.

Pure. A signature is base64 here, and Google's SDK reads it as such and writes it in the URL-safe alphabet; so one that
another family made is carried as the base64 of its marked text (see `signatures.py`), and one of Google's own is put back
into the standard alphabet. Place in the line: below the readers and writers of the dialect.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Raw
from msgspec.json import Decoder, encode

from penstock.call import Members, Signer
from penstock.errors import InvalidRequest
from penstock.wire.media import standard_base64
from penstock.wire.signatures import carry, take
from penstock.wire.splice import Outline

MEMBERS: Final = Decoder(dict[str, Raw])
ITEMS: Final = Decoder(list[Raw])
CARRIED: Final = b"cGVuc3RvY2su"
"""Begins every signature that another family made: the base64 of `penstock.`."""

_BRACE: Final = ord("{")
_BRACKET: Final = ord("[")
_SNAKE_KEY: Final = re.compile(rb'_[a-z_]*[a-z]"[ \t\n\r]*:').search
"""The end of a member's name that may be in snake_case; it begins with its rarest character, which is quick to look for."""
_SNAKE: Final = re.compile(r"(?<=[a-z])_([a-z])")
_HUMP: Final = re.compile(r"(?<=[a-z])([A-Z])")
_OPAQUE: Final = frozenset(
    {
        *("args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema"),
        *("labels", "partMetadata", "customMetadata", "uriParams", "headers"),
    }
)
"""Members whose own members are the caller's, and keep their names."""

_EDITED: Final = frozenset({"", "generationConfig"})
"""Objects into which options may be edited: no name may stand twice in them."""

Own = Mapping[str, Raw]
"""The members of an object as they were sent; empty where nothing unknown can be among them."""

Object = dict[str, Any]


def camel(name: str) -> str:
    """Give a member's name in camelCase."""
    return _SNAKE.sub(lambda found: found[1].upper(), name)


def snake(name: str) -> str:
    """Give a member's name in snake_case."""
    return _HUMP.sub(lambda found: "_" + found[1].lower(), name)


def in_camel(json: bytes, place: str = "") -> bytes:
    """Write an object or a list with every member in camelCase, apart from what is the caller's own; itself if it is so.

    The nesting has to be bounded before. Raises InvalidRequest for a member that stands there in both spellings.
    """
    if _SNAKE_KEY(json) is None:
        return json
    if json.startswith(b"["):
        whole = [bytes(item) for item in ITEMS.decode(json)]
        written = [in_camel(item, place) for item in whole]
        same = all(one is other for one, other in zip(whole, written, strict=True))
        return json if same else b"[%b]" % b",".join(written)
    if not json.startswith(b"{"):
        return json
    own = Outline(json).members if place in _EDITED else MEMBERS.decode(json)
    out: dict[str, Raw] = {}
    same = True
    for name, value in own.items():
        known = camel(name) if "_" in name else name
        where = f"{place}.{known}".lstrip(".")
        if known in out:
            text = f"`{where}` stands in the body in both spellings, camelCase and snake_case."
            raise InvalidRequest(text, param=where, hint="Send it once.")
        before = bytes(value)
        after = before if known in _OPAQUE else in_camel(before, where)
        same = same and known == name and after is before
        out[known] = Raw(after)
    return json if same else encode(out)


# -- members that nobody knows --


def members(raw: Raw | None) -> Own:
    """Give the members of an object; none for what is no object."""
    return MEMBERS.decode(raw) if raw is not None and memoryview(raw)[0] == _BRACE else {}


def items(raw: Raw | None) -> list[Raw]:
    """Give the items of a list; of anything else that is there, that one."""
    if raw is None or bytes(raw) == b"null":
        return []
    return ITEMS.decode(raw) if memoryview(raw)[0] == _BRACKET else [raw]


def rest(own: Own, *known: str) -> Members:
    """Give the members that are not known and say something."""
    if not own or frozenset(known).issuperset(own):
        return ()
    return tuple((name, bytes(raw)) for name, raw in own.items() if name not in known and bytes(raw) != b"null")


def inner(own: Own, name: str, *known: str) -> Members:
    """Give the unknown members of an object within, under its name."""
    if name not in own:
        return ()
    unknown = rest(members(own[name]), *known)
    return ((name, encode({key: Raw(json) for key, json in unknown})),) if unknown else ()


def merge(out: Object, extra: Members) -> None:
    """Add unknown members; where an object of that name was written, they are that object's own."""
    for name, json in extra:
        written = out.get(name)
        if isinstance(written, dict) and json.startswith(b"{"):
            for key, value in MEMBERS.decode(json).items():
                written.setdefault(key, value)
        else:
            out.setdefault(name, Raw(json))


def given(**said: Any) -> Object:
    """Keep the members that are said."""
    return {name: value for name, value in said.items() if value is not None}


def is_object(json: bytes) -> bool:
    """Return whether a JSON text is an object."""
    return json.lstrip()[:1] == b"{"


# -- signatures --


def read_signature(text: str | None) -> tuple[str | None, Signer]:
    """Give a signature and who made it."""
    if not text:
        return None, ""
    signature = standard_base64(text)
    if signature is None:
        return take(text, "google")
    if signature.startswith(CARRIED.decode()):
        return take(b64decode(signature).decode("utf-8", "replace"), "google")
    return signature, "google"


def write_signature(signature: str | None, signer: Signer) -> str | None:
    """Give the signature as a client of this dialect is to keep it: base64, whoever made it."""
    if signature is None:
        return None
    text = carry(signature, signer, "google") or ""
    if text == signature:
        own = standard_base64(signature)
        if own is not None:
            return own
        text = f"penstock.google.{signature}"
    return b64encode(text.encode()).decode()

"""Signatures that Converse has no place for, and how they travel through its clients all the same.

Pure. Two cases: redacted thinking of a family that does not write base64 or is not Anthropic's, and the signature of a tool
call (Gemini's thought signatures). Both go out as `redactedContent`, a blob that clients send back unchanged; that of a tool
call in a block of its own, right before the call, and it names the call. What is carried begins with the prefix that
`signatures.py` uses, in base64. Place in the line: behind the readers and writers of contents, replies and streams.
"""

from base64 import b64decode, b64encode
from typing import Final, get_args

from msgspec import DecodeError
from msgspec.json import Decoder, encode

from penstock.call import Signer
from penstock.wire.signatures import carry, take

OWN: Final = "anthropic"
"""The family that signs thoughts in this dialect."""

_TOOL: Final = b"penstock.tool."
_MARKS: Final = (b'"penstock.', b'"cGVuc3RvY2su')
"""How a carried signature begins in the text of a body, plain and in base64."""
_CARRIED: Final = _MARKS[1][1:].decode()
_SIGNED: Final = Decoder(tuple[str, str, str])

Signed = tuple[str, Signer]


def holds_carried(body: bytes) -> bool:
    """Return whether a body may hold a signature that was carried, and so cannot go to Bedrock as it is."""
    return any(mark in body for mark in _MARKS)


def write_redacted(signature: str, signer: Signer) -> str:
    """Give the blob for redacted thinking: its own, if it is one and Anthropic's."""
    if signer in {"", OWN} and _is_base64(signature):
        return signature
    return b64encode((carry(signature, signer or OWN, "") or "").encode("utf-8", "surrogatepass")).decode()


def read_redacted(blob: str) -> Signed:
    """Give the signature of redacted thinking, and whose it is."""
    if blob.startswith(_CARRIED) and (data := _decoded(blob)) is not None:
        signature, signer = take(data.decode("utf-8", "replace"), OWN)
        return signature or "", signer
    return blob, OWN


def write_tool_signature(tool_use_id: str, signature: str, signer: Signer) -> str:
    """Give the blob that goes before a tool call and holds its signature."""
    return b64encode(_TOOL + encode((tool_use_id, signer, signature))).decode()


def read_tool_signature(blob: str) -> tuple[str, Signed] | None:
    """Give a tool call's id and its signature; None for a blob that is something else."""
    if not blob.startswith(_CARRIED) or (data := _decoded(blob)) is None or not data.startswith(_TOOL):
        return None
    try:
        ident, signer, signature = _SIGNED.decode(data.removeprefix(_TOOL))
    except (DecodeError, UnicodeDecodeError):
        return None
    return (ident, (signature, signer)) if signer in get_args(Signer) else None  # type: ignore[return-value]


def _decoded(blob: str) -> bytes | None:
    try:
        return b64decode(blob, validate=True)
    except ValueError:
        return None


def _is_base64(text: str) -> bool:
    """Return whether a text is base64 that stays the same when a client decodes it and encodes it again."""
    data = _decoded(text)
    return data is not None and b64encode(data).decode() == text

"""How a signature of one family of models travels through a client of another dialect, and comes back whole.

A client returns the opaque signatures of thoughts and tool calls as it got them. A dialect has no place that says who made
one, so a foreign one is given a prefix on its way out, which is taken off again on its way in. Pure.
"""

from typing import Final, get_args

from penstock.call import Signer

_PREFIX: Final = "penstock."
_SIGNERS: Final = frozenset(get_args(Signer))


def carry(signature: str | None, signer: Signer, own: Signer) -> str | None:
    """Give the signature as a client whose dialect belongs to the family `own` is to keep it."""
    if signature is None or signer in {"", own}:
        return signature
    return f"{_PREFIX}{signer}.{signature}"


def take(text: str | None, own: Signer) -> tuple[str | None, Signer]:
    """Give a signature that came back from such a client, and who made it; an empty one is none."""
    if not text:
        return None, ""
    if text.startswith(_PREFIX):
        signer, dot, signature = text.removeprefix(_PREFIX).partition(".")
        if dot and signer and signer in _SIGNERS:
            return signature, signer  # type: ignore[return-value]  # one of the literals, as was just asked
    return text, own

"""Call ids: UUIDv7 (RFC 9562), so that the order of ids is the order of time.

Makes them, and turns them between their 36 characters and the 16 bytes that the store keeps. Never reads a clock and
never asks the system for randomness: both are given.
"""

from binascii import a2b_hex
from random import Random

from penstock.errors import NotFound

_NS_PER_MS = 1_000_000
_TAIL_BITS = 62
_TAIL = (1 << _TAIL_BITS) - 1
_NODE_BITS = 48
_NODE = (1 << _NODE_BITS) - 1
_VARIANT = 0b10 << _TAIL_BITS
_START_BITS = 73
_LIMIT = 1 << 74
_STEP_BITS = 32
ID_BYTES = 16
_ID_CHARS = 36
_MAX_MS = (1 << 48) - 1

BACKWARD_MS = 10_000
"""How far the clock may step back while ids keep growing; beyond that they follow the clock again."""


class Ids:
    """Makes ids for one process. Each is greater than the one before, unless the clock fell back by more than 10 s."""

    __slots__ = ("_bits", "_head", "_last_ms", "_node", "_random")

    def __init__(self, rng: Random) -> None:
        self._bits = rng.getrandbits
        self._last_ms = -1
        self._head = ""  # all of the last id but its node: at load many share it
        self._node = _NODE  # the last 48 bits of the last id
        self._random = 0  # the rest of its random bits

    def new(self, now_ns: int) -> str:
        """Give a new id; `now_ns` is the wall clock, nanoseconds since the epoch."""
        ms, node = now_ns // _NS_PER_MS, self._node + 1 + self._bits(_STEP_BITS)
        if ms != self._last_ms or node > _NODE:
            return self._go_on(ms, node)
        self._node = node
        return self._head + node.to_bytes(6).hex()

    def _go_on(self, ms: int, node: int) -> str:
        """Give the id of another moment than the last one's, or where 48 bits do not suffice."""
        last = self._last_ms
        if ms > last or last - ms > BACKWARD_MS:
            return self._begin(ms, self._bits(_START_BITS))
        tail = (self._random << _NODE_BITS) + node
        if tail >= _LIMIT:  # a thousand billion ids within one millisecond
            last, tail = last + 1, self._bits(_START_BITS)
        return self._begin(last, tail)

    def _begin(self, ms: int, tail: int) -> str:
        """Give the id of these 74 random bits."""
        self._last_ms, self._random, self._node = ms, tail >> _NODE_BITS, tail & _NODE
        end = _VARIANT | tail & _TAIL
        self._head = f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7{tail >> _TAIL_BITS:03x}-{end >> _NODE_BITS:04x}-"
        return self._head + self._node.to_bytes(6).hex()


def id_bytes(text: str) -> bytes:
    """Give the 16 bytes of an id, or raise `ValueError`."""
    raw = a2b_hex(text.replace("-", ""))
    if len(raw) != ID_BYTES:
        raise ValueError(f"{text!r} is not a call id.")
    return raw


def id_text(raw: bytes) -> str:
    """Give the 36 characters of 16 bytes."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def asked_id(text: str) -> bytes:
    """Read an id that a person typed, or raise `NotFound`."""
    try:
        return id_bytes(text.strip())
    except ValueError:
        raise NotFound(
            f"{text[:_ID_CHARS]!r} is not a call id.", hint="Ids stand in x-penstock-call and in `penstock calls`."
        ) from None


def first_key(ns: int) -> bytes:
    """Give the smallest 16 bytes that an id of this moment can have."""
    return min(max(ns // _NS_PER_MS, 0), _MAX_MS).to_bytes(6, "big") + bytes(10)

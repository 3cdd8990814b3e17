"""Tokens of a picture: its size from the first bytes of the file, then the rule of the family.

Decodes no picture: PNG, GIF, WebP and JPEG say their size in their headers (PNG and GIF specifications; RFC 9649; ITU-T
T.81, section B.2.2). Of a picture that is only a URL, or of another format, nothing is known but the bounds of the rule.
Whatever the bytes, nothing is raised.
"""

import base64
import binascii
from math import ceil, floor, sqrt

from penstock.tokens.rules import ImageRule

HEAD_CHARS = 1_024
JPEG_HEAD_CHARS = 1_048_576
"""Base64 characters that are decoded at most; a JPEG may carry a thumbnail and profiles before it says its size."""

TYPICAL = (1_024, 1_024)
LARGEST = (4_096, 4_096)
"""Sizes for the middle of the band where nothing is known, and for its top where a rule has no cap of its own."""

LONGEST_SIDE = 30_000
"""Nobody takes larger pictures; a header that claims one is not believed."""

MAX_SEGMENTS = 256
"""JPEG segments that are looked at; real files have a dozen before the size."""

_JPEG_START = b"\xff\xd8"
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_MIN_CROP = 256


def picture_tokens(rule: ImageRule, data: str | None, detail: str | None) -> tuple[int, int, int]:
    """Give (low, likely, high) for a picture: base64 `data` if it was sent along, else None."""
    size = None if data is None else size_of(data)
    if rule.kind == "flat":
        return min(64, rule.per), rule.per, max(rule.per, rule.cap)
    if size is None:
        least = detail if detail == "high" else "low"
        return tokens(rule, 1, 1, least), tokens(rule, *TYPICAL, detail), _most(rule, detail)
    n = tokens(rule, *size, detail)
    return n * 9 // 10, n, n + n // 10


def tokens(rule: ImageRule, width: int, height: int, detail: str | None = None) -> int:
    """Apply a rule to a picture of this many pixels."""
    match rule.kind:
        case "tile":
            n = 0 if detail == "low" else _tiles(rule, width, height)
        case "patch":
            n = ceil(_patches(rule, width, height) * rule.factor / 1_000)
        case "area":
            n = _area(rule, width, height)
        case "crop":
            n = _crops(rule, width, height)
        case "flat":
            n = rule.per
    return rule.base + n


def _most(rule: ImageRule, detail: str | None) -> int:
    match rule.kind:
        case "tile" if detail != "low":
            return rule.base + rule.per * (rule.edge // rule.unit) * ceil(rule.side / rule.unit)
        case "patch":
            return rule.base + ceil(rule.cap * rule.factor / 1_000)
        case "area":
            return rule.base + rule.cap
        case _:
            return tokens(rule, *LARGEST, detail)


def _tiles(rule: ImageRule, width: int, height: int) -> int:
    long, short = max(width, height), min(width, height)
    scale, part = 1, 1  # as a fraction, so that 768 of 768 pixels never becomes two tiles
    if long > rule.edge:
        scale, part = rule.edge, long
    if short * scale > rule.side * part:
        scale, part = rule.side, short
    across, down = -(-width * scale // (part * rule.unit)), -(-height * scale // (part * rule.unit))
    return rule.per * across * down


def _patches(rule: ImageRule, width: int, height: int) -> int:
    unit = rule.unit
    n = -(-width // unit) * -(-height // unit)
    if n <= rule.cap:
        return n
    shrink = sqrt(unit * unit * rule.cap / (width * height))
    across, down = width * shrink / unit, height * shrink / unit
    shrink *= min(max(1, floor(across)) / across, max(1, floor(down)) / down)
    return min(rule.cap, ceil(width * shrink / unit - 1e-9) * ceil(height * shrink / unit - 1e-9))


def _area(rule: ImageRule, width: int, height: int) -> int:
    def at(scale: float) -> int:
        return ceil(width * scale / rule.unit - 1e-9) * ceil(height * scale / rule.unit - 1e-9)

    high = min(1.0, rule.edge / max(width, height))
    if at(high) <= rule.cap:
        return max(1, at(high))
    low = 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) <= rule.cap else (low, middle)
    return max(1, at(low))


def _crops(rule: ImageRule, width: int, height: int) -> int:
    if max(width, height) <= rule.edge:
        return rule.per
    unit = min(max(min(width, height) * 2 // 3, _MIN_CROP), rule.unit)
    return rule.per * -(-width // unit) * -(-height // unit)


def size_of(data: str) -> tuple[int, int] | None:
    """Read width and height in pixels from the head of a base64-encoded picture; None if it is none that is known."""
    head = _decoded(data, HEAD_CHARS)
    size = None
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
        size = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    elif head.startswith((b"GIF87a", b"GIF89a")):
        size = int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        size = _webp(head)
    elif head.startswith(_JPEG_START):
        size = _jpeg(head) or _jpeg(_decoded(data, JPEG_HEAD_CHARS))
    return size if size and min(size) > 0 and max(size) <= LONGEST_SIDE else None


def _decoded(data: str, chars: int) -> bytes:
    part = data[: chars - chars % 4]
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        return b""


def _webp(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            sides = int.from_bytes(head[26:30], "little")
            return sides & 0x3FFF, sides >> 16 & 0x3FFF
        case _:
            return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """Walk the segments to the first frame header."""
    place = 2
    for _ in range(MAX_SEGMENTS):
        if place + 9 > len(data) or data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _FRAMES:
            return int.from_bytes(data[place + 7 : place + 9], "big"), int.from_bytes(
                data[place + 5 : place + 7], "big"
            )
        else:
            place += 2 + max(2, int.from_bytes(data[place + 2 : place + 4], "big"))
    return None

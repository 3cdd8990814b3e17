"""Journal records as bytes: framing, checksums and the form of intents and receipts. Pure.

A record is `magic (2) | kind (1) | payload length (4) | CRC-32 (4) | payload`, little endian. The CRC covers kind and
payload and starts from a value that only this file's name gives, so that text which a caller smuggles into a payload
can never pass for a record, whatever is broken around it.

Payloads are MessagePack arrays, a receipt's being its row. The head of a segment names the positions, so a later program
reads them by name: what it no longer knows is dropped, what is new is empty (`rows.adapted`).

Reading strategy: records follow one another; where one does not verify, the next that verifies is looked for. If there
is one, what lies between is corrupt and counted; if there is none, it is the torn tail of a writer that died.
"""

import struct
import zlib
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from penstock.ledger import brief
from penstock.ledger.brief import packed
from penstock.ledger.ids import ID_BYTES, id_bytes
from penstock.ledger.rows import COLUMNS, Row, adapted, clip, row_of
from penstock.receipt import Receipt

SCHEMA = 1
"""Grows when a reader of the older form could no longer make sense of a segment; new fields alone do not need it."""

HEAD, INTENT, RECEIPT = 0, 1, 2
MAX_PAYLOAD: Final = 1 << 20

_MAGIC = b"\xa7P"
_FRAME = struct.Struct("<2sBII")
_CLIP_ABOVE = 16 * 1024

Seeds = tuple[int, int, int]
"""The CRC's start per kind of record, in one segment."""


class Intent(Struct, frozen=True, gc=False):
    """What is written before a provider is called: who asks, for what, and the most that it can cost.

    `hold_nano_usd` is None where the first target has no price.
    """

    id: str
    started_ns: int
    dialect: str
    model: str
    streamed: bool = False
    key_id: str | None = None
    team: str | None = None
    feature: str | None = None
    user: str | None = None
    session: str | None = None
    target: str | None = None
    hold_nano_usd: int | None = None
    config_hash: str = ""


class BriefIntent(Struct, frozen=True, array_like=True, gc=False):
    """The same, where what it has in common with many others is one value in the form that the journal has: see `in_common`."""

    id: str
    started_ns: int
    common: msgspec.Raw
    hold_nano_usd: int | None
    config_hash: str

    def wide(self) -> Intent:
        """Give it with every value in its own place."""
        common = _values(_OF_COMMON + bytes(self.common))
        values: list[Any] = [self.id, self.started_ns, *common, self.hold_nano_usd, self.config_hash]
        return Intent(*values)


class Head(Struct, frozen=True):
    """The first record of a segment: the form of those that follow."""

    schema: int = SCHEMA
    intent: tuple[str, ...] = Intent.__struct_fields__
    receipt: tuple[str, ...] = COLUMNS


class Parsed(Struct, frozen=True):
    """Whole records as (kind, payload), where reading may go on, and how many places between them were corrupt."""

    records: list[tuple[int, bytes]]
    end: int
    corrupt: int


class Unreadable(ValueError):
    """A record whose checksum is right and whose content makes no sense to this program."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_OF_COMMON: Final = b"\x99"
"""What MessagePack has before the nine values that intents may have in common, from `dialect` to `target`."""
_OF_INTENT: Final = bytes([0x90 | len(Intent.__struct_fields__)])
_MONSTROUS = (OverflowError, UnicodeEncodeError)
_Value = TypeVar("_Value")
_GARBLED = (msgspec.DecodeError, ValueError, TypeError, RecursionError)


# -- values <-> payloads --


def pack_head() -> bytes:
    """Give the payload of a segment's head."""
    return _encode(Head())


def in_common(intent: Intent) -> msgspec.Raw | None:
    """Give what stands for all of an intent but its id, its moment, its hold and its configuration; None where that is monstrous."""
    try:
        common = _encode(astuple(intent)[2:-2])
    except _MONSTROUS:
        return None
    return msgspec.Raw(common[len(_OF_COMMON) :]) if len(common) <= _CLIP_ABOVE else None


def pack_intents(intents: Collection[Intent | BriefIntent]) -> list[bytes]:
    """Give the payloads of intents, each clipped if it is monstrous. A brief one has the payload of the wide one."""
    return _pack(_intents, intents) or [pack_intent(intent) for intent in intents]


def pack_intent(intent: Intent | BriefIntent) -> bytes:
    """Give the payload of one."""
    wide = intent.wide() if isinstance(intent, BriefIntent) else intent
    (payload,) = _pack(_intents, (wide,)) or _intents((clip(wide, Intent),))
    return payload


def _intents(intents: Iterable[Intent | BriefIntent]) -> list[bytes]:
    return [
        _OF_INTENT + _encode(intent)[1:] if isinstance(intent, BriefIntent) else _encode(astuple(intent))
        for intent in intents
    ]


def pack_receipts(rows: list[Row]) -> list[bytes]:
    """Give the payloads of receipts that are rows; what is monstrous is clipped, in `rows` as well."""
    payloads = _pack(packed, rows)
    if payloads is None:
        payloads = []
        for place, row in enumerate(rows):
            if (alone := _pack(packed, (row,))) is None:
                rows[place] = row_of(clip(brief.receipt(row), Receipt))
                alone = packed((rows[place],))
            payloads += alone
    return payloads


def pack_receipt(receipt: Receipt) -> tuple[Row, bytes]:
    """Give the row of a receipt, clipped if it is monstrous, and its payload."""
    rows = [row_for(receipt)]
    (payload,) = pack_receipts(rows)
    return rows[0], payload


def row_for(receipt: Receipt) -> Row:
    """Give the row of a receipt, clipped where it could not be one."""
    try:
        return row_of(receipt)
    except _MONSTROUS:
        return row_of(clip(receipt, Receipt))


def _pack(by: Callable[[Iterable[_Value]], list[bytes]], values: Iterable[_Value]) -> list[bytes] | None:
    """Give the payloads of values; None where one of them is monstrous."""
    try:
        payloads = by(values)
    except _MONSTROUS:
        return None
    return payloads if not payloads or len(max(payloads, key=len)) <= _CLIP_ABOVE else None


def unpack_head(payload: bytes) -> Head:
    """Read a segment's head, or raise `Unreadable`."""
    try:
        return _decode_head(payload)
    except _GARBLED as error:
        raise Unreadable(str(error)) from None


def unpack_intent(payload: bytes, form: Head) -> Intent:
    """Read an intent that was written in this form, or raise `Unreadable`."""
    values = dict(zip(form.intent, _values(payload), strict=False))
    try:
        intent = msgspec.convert(values, Intent)
        id_bytes(intent.id)
    except _GARBLED as error:
        raise Unreadable(str(error)) from None
    return intent


def unpack_receipt(payload: bytes, form: Head) -> Row:
    """Read the row of a receipt that was written in this form, or raise `Unreadable`."""
    values = tuple(_values(payload))
    if form.receipt != COLUMNS:
        values = adapted(dict(zip(form.receipt, values, strict=False)))
    if len(values) != len(COLUMNS) or not isinstance(values[0], bytes) or len(values[0]) != ID_BYTES:
        raise Unreadable("not the row of a receipt")
    return values


def _values(payload: bytes) -> list[Any]:
    try:
        values = _decode(payload)
    except _GARBLED as error:
        raise Unreadable(str(error)) from None
    if not isinstance(values, list):
        raise Unreadable("not an array")
    return values


# -- records --


def seeds_of(segment: str) -> Seeds:
    """Give the CRC's starts for the segment of this file name."""
    start = zlib.crc32(segment.encode())
    return (zlib.crc32(b"\0", start), zlib.crc32(b"\1", start), zlib.crc32(b"\2", start))


def frame(kind: int, payload: bytes, seeds: Seeds) -> bytes:
    """Give the record as it stands in the file."""
    return frames(kind, (payload,), seeds)[0]


def frames(kind: int, payloads: Iterable[bytes], seeds: Seeds) -> list[bytes]:
    """Give such records of one kind."""
    pack, check, start = _FRAME.pack, zlib.crc32, seeds[kind]
    return [pack(_MAGIC, kind, len(payload), check(payload, start)) + payload for payload in payloads]


def _end_of(data: bytes, at: int, seeds: Seeds) -> int:
    """Where the record at `at` ends; 0 if none verifies there."""
    start = at + _FRAME.size
    if start > len(data):
        return 0
    magic, kind, length, crc = _FRAME.unpack_from(data, at)
    end: int = start + length
    if magic != _MAGIC or kind > RECEIPT or length > MAX_PAYLOAD or end > len(data):
        return 0
    return end if zlib.crc32(memoryview(data)[start:end], seeds[kind]) == crc else 0


def _unfinished(data: bytes, at: int) -> bool:
    """Whether what stands at `at` looks like a record that goes on after the data."""
    start = at + _FRAME.size
    if start > len(data):
        return True
    magic, kind, length, _ = _FRAME.unpack_from(data, at)
    return bool(magic == _MAGIC and kind <= RECEIPT and length <= MAX_PAYLOAD and start + length > len(data))


def parse(data: bytes, seeds: Seeds, *, whole: bool, limit: int | None = None) -> Parsed:
    """Read records from the start of `data`, at most `limit`; `whole` says that nothing follows the data."""
    records: list[tuple[int, bytes]] = []
    at = corrupt = 0
    while at < len(data) and (limit is None or len(records) < limit):
        end = _end_of(data, at, seeds)
        if end:
            records.append((data[at + 2], data[at + _FRAME.size : end]))
            at = end
            continue
        if not whole and _unfinished(data, at):
            break
        found = _next_record(data, at + 1, seeds)
        if found < 0:
            break
        corrupt += 1
        at = found
    return Parsed(records, at, corrupt)


def _next_record(data: bytes, start: int, seeds: Seeds) -> int:
    at = data.find(_MAGIC, start)
    while at >= 0 and not _end_of(data, at, seeds):
        at = data.find(_MAGIC, at + 1)
    return at

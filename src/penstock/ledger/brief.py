"""Brief rows: what a row has in common with many others stands in it as one value, in the form that the journal has. Pure.

An ordinary call's row is made, journalled and stored in this form, where its caller's and its kind's twenty-two values are
never looked at one by one. A brief row and the wide one that it stands for are the same in the journal, byte by byte, and
in the store. Who needs the values has the row made wide.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from penstock.ledger.rows import COLUMNS, COMMON, Row, receipt_of
from penstock.receipt import Receipt

Common = msgspec.Raw
"""What the places of `COMMON` hold, in MessagePack; compared by identity, so one value is to stand for all that are alike."""

_PLACE: Final = COMMON.start
_WIDTH: Final = len(COLUMNS)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Any, ...]).decode


_HEAD: Final = 3
"""Bytes that MessagePack has before the values of an array of sixteen at least."""
_OF_COMMON: Final = b"\xdc" + (COMMON.stop - COMMON.start).to_bytes(2)
_OF_ROW: Final = b"\xdc" + _WIDTH.to_bytes(2)


def common_of(values: Row) -> Common | None:
    """Give what stands for these values in brief rows; None where one of them is no text that could be written."""
    try:
        return Common(_encode(values)[_HEAD:])
    except UnicodeEncodeError:
        return None


def values_of(common: Common) -> Row:
    """Give the values that it stands for."""
    return _decode(_OF_COMMON + bytes(common))


def is_brief(row: Row) -> bool:
    """Tell whether a row is a brief one."""
    return len(row) < _WIDTH and isinstance(row[_PLACE], Common)


def wide(row: Row) -> Row:
    """Give a row with every value in its own place."""
    return row[:_PLACE] + values_of(row[_PLACE]) + row[_PLACE + 1 :] if is_brief(row) else row


def receipt(row: Row) -> Receipt:
    """Put the receipt of a row together again."""
    return receipt_of(wide(row))


def packed(rows: Iterable[Row]) -> list[bytes]:
    """Give the payloads of rows, which for a brief one are those of the wide one. Raises as the encoder does."""
    return [_encode(row) if len(row) == _WIDTH else _OF_ROW + _encode(row)[_HEAD:] for row in rows]

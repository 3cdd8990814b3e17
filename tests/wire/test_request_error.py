"""A request that cannot be read is refused with the member that is wrong, and with what to send there."""

import pytest
from msgspec import DecodeError, Struct, ValidationError
from msgspec.json import decode

from penstock.wire.request_error import refuse

HINTS = {"size": "Send a whole number.", "items": "Send a list."}


class _Item(Struct):
    size: int


class _Body(Struct):
    items: list[_Item]
    names: dict[str, int] = {}


def refused(body: bytes, place: str = "") -> tuple[str, str | None, str]:
    with pytest.raises((ValidationError, DecodeError)) as raised:
        decode(body, type=_Body)
    error = refuse(raised.value, HINTS, "Read the reference.", place)
    return error.message, error.param, error.hint


def test_a_wrong_member_is_named_by_its_place_with_its_own_hint() -> None:
    text, param, hint = refused(b'{"items":[{"size":"x"}]}')
    assert (param, hint) == ("items[0].size", HINTS["size"])
    assert text == "`items[0].size`: expected `int`, got `str`."


def test_a_missing_member_is_named() -> None:
    assert refused(b'{"items":[{}]}') == ("`items[0].size` is missing.", "items[0].size", HINTS["size"])
    assert refused(b"{}") == ("`items` is missing.", "items", HINTS["items"])


def test_a_place_goes_before_what_was_found_within_it() -> None:
    assert refused(b'{"items":[{}]}', "input[2]")[1] == "input[2].items[0].size"
    assert refused(b"{}", "input[2]")[:2] == ("`input[2].items` is missing.", "input[2].items")


def test_what_has_no_hint_of_its_own_gets_the_general_one() -> None:
    assert refused(b'{"items":[],"names":{"a":"x"}}')[2] == "Read the reference."


def test_a_body_that_is_no_json_names_no_member() -> None:
    text, param, hint = refused(b"{")
    assert (param, hint) == (None, "Read the reference.")
    assert "truncated" in text

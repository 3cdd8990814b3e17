"""How a hold stands in the file of shared balances."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.ledger.holding import BALANCES_PER_HOLD, LINE, RECORD, packed

CALL = bytes(range(16))


@given(st.lists(st.integers(1, 2**31).map(lambda number: number * LINE), max_size=BALANCES_PER_HOLD))
def test_the_places_of_balances_are_read_as_they_were_packed(lines):
    call, *numbers = RECORD.unpack(CALL + packed(lines))
    assert call == CALL
    assert [number * LINE for number in numbers if number] == lines


def test_a_record_fits_its_line_behind_the_first_word():
    assert {len(packed([LINE] * count)) + len(CALL) for count in range(BALANCES_PER_HOLD + 1)} == {(LINE - 1) * 8}
    assert RECORD.size == (LINE - 1) * 8

import re

from hypothesis import given
from hypothesis import strategies as st

from penstock.wire.tool_ids import fitted, made


def test_the_same_call_has_the_same_id_and_another_one_has_another():
    assert made("msg_1", 0, "f") == made("msg_1", 0, "f")
    assert len({made("msg_1", 0), made("msg_1", 1), made("msg_10"), made("msg_1", "0", "")}) == 4


def test_an_id_that_fits_is_kept():
    assert fitted("toolu_01A-b") == "toolu_01A-b"


@given(st.text())
def test_a_fitted_id_fits_and_fitting_it_again_changes_nothing(tool_id):
    fit = fitted(tool_id)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", fit)
    assert fitted(fit) == fit


@given(st.lists(st.text(), unique=True))
def test_different_ids_stay_different(ids):
    assert len({fitted(tool_id) for tool_id in ids}) == len(ids)


def test_a_short_limit_is_kept():
    assert len(fitted("x" * 100, 40)) == 40

"""The switch for threads reaches the library that NumPy really uses."""

import ctypes

import pytest
from numpy.linalg import _umath_linalg

from penstock.engine import threads
from penstock.engine.threads import limit_blas_threads


def in_use():
    library = ctypes.CDLL(_umath_linalg.__file__)
    for name in ("scipy_openblas_get_num_threads64_", "openblas_get_num_threads"):
        if getter := getattr(library, name, None):
            return getter()
    return None


@pytest.mark.skipif(in_use() is None, reason="NumPy here does not use OpenBLAS")
def test_the_number_of_threads_is_set():
    before = in_use()
    try:
        assert limit_blas_threads(2)
        assert in_use() == 2
        assert limit_blas_threads(1)
        assert in_use() == 1
    finally:
        limit_blas_threads(before)


def test_a_library_without_such_a_switch_is_left_alone(monkeypatch):
    monkeypatch.setattr(threads, "SETTERS", ("no_such_function",))

    assert not limit_blas_threads(1)


def test_no_threads_are_no_choice():
    with pytest.raises(ValueError, match="at least 1 thread"):
        limit_blas_threads(0)

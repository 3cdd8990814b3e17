"""Rows through a weight matrix: right, and for each row the same bits whoever comes with it."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.linear import FEWEST_ROWS, TILE_BYTES, Linear, tiling

SHAPES = [(1, 1), (3, 7), (16, 64), (48, 64), (769, 64), (1187, 96), (2048, 256), (151, 4099), (1000, 768)]


def matrix(rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32)


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize("biased", [False, True])
def test_both_ways_give_the_product_and_the_bias(rows, columns, biased):
    weight, inputs = matrix(rows, columns), matrix(5, columns, 1)
    bias = matrix(1, rows, 2)[0] if biased else None
    linear = Linear([weight], bias)
    want = inputs.astype(float) @ weight.T.astype(float) + (bias if biased else 0)

    assert linear.outputs == rows
    for got in (linear.each(inputs), linear.together(inputs), linear.each(inputs[:1]), linear.together(inputs[:1])):
        np.testing.assert_allclose(got, want[: len(got)], atol=2e-5 * columns**0.5)


def test_matrices_below_each_other_give_what_they_give_alone():
    parts = [matrix(rows, 64, rows) for rows in (16, 769, 48)]
    inputs = matrix(3, 64, 9)
    joined = Linear(parts)

    np.testing.assert_array_equal(joined.each(inputs), np.concatenate([Linear([one]).each(inputs) for one in parts], 1))
    np.testing.assert_allclose(
        joined.together(inputs), np.concatenate([Linear([one]).together(inputs) for one in parts], 1), atol=1e-4
    )


@settings(deadline=None)
@given(
    shape=st.sampled_from(SHAPES), others=st.lists(st.integers(0, 11), min_size=1, max_size=11), at=st.integers(0, 10)
)
def test_a_row_is_the_same_bits_alone_and_among_any_others_at_any_place(shape, others, at):
    linear = Linear([matrix(*shape)])
    rows = matrix(12, shape[1], 1)
    at %= len(others)
    alone = linear.each(rows[others[at]][None])[0]

    np.testing.assert_array_equal(linear.each(rows[others])[at].view(np.uint32), alone.view(np.uint32))


@pytest.mark.skipif(sys.platform == "darwin", reason="says something about OpenBLAS, which NumPy does not use there")
def test_one_matrix_product_would_not_do_that():
    """Why `each` exists."""
    linear = Linear([matrix(2048, 256)])
    rows = matrix(8, 256, 1)

    assert (linear.together(rows) != np.concatenate([linear.together(row[None]) for row in rows])).mean() > 0.1


@settings(deadline=None)
@given(rows=st.integers(1, 40_000), columns=st.integers(1, 20_000))
def test_tiles_cover_every_row_once_and_fit_into_the_cache(rows, columns):
    tiles = tiling(rows, columns)
    at = 0
    for first, count, height in tiles:
        assert first == at
        assert 4 * height * columns <= max(TILE_BYTES, 4 * FEWEST_ROWS * columns)
        at += count * height
    assert at == rows
    assert len(tiles) <= 2


@pytest.mark.parametrize(
    ("rows", "columns"), [(32000, 768), (128256, 4096), (151936, 896), (4096, 14336), (1536, 1536)]
)
def test_usual_sizes_are_cut_into_equal_tiles_of_a_good_height(rows, columns):
    ((_, count, height),) = tiling(rows, columns)

    assert count * height == rows
    assert TILE_BYTES / 4 <= 4 * height * columns <= TILE_BYTES * 3

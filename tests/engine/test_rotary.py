"""Rotary positions: the published formulas, in the layout of Hugging Face weights."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.config import Rope
from penstock.engine.rotary import BLOCK, Rotary, frequencies, rotate

LLAMA3 = Rope(500000.0, "llama3", 8.0, 1.0, 4.0, 8192)


def plain(theta, head_dim):
    return np.array([theta ** (-2 * pair / head_dim) for pair in range(head_dim // 2)])


@pytest.mark.parametrize("theta", [10000.0, 500000.0, 1000000.0])
@pytest.mark.parametrize("head_dim", [2, 16, 64, 128])
def test_frequencies_fall_from_one_by_powers_of_the_base(theta, head_dim):
    got = frequencies(Rope(theta), head_dim)

    assert got.dtype == np.float32
    np.testing.assert_allclose(got, plain(theta, head_dim), rtol=3e-7)


def test_linear_scaling_divides_every_frequency():
    np.testing.assert_allclose(frequencies(Rope(10000.0, "linear", 4.0), 64), plain(10000.0, 64) / 4, rtol=3e-7)


def test_llama_3_scaling_leaves_short_waves_divides_long_ones_and_goes_over_smoothly_between():
    got = frequencies(LLAMA3, 128).astype(float)
    want = []
    for frequency in plain(500000.0, 128):
        wave = 2 * math.pi / frequency
        if wave < 8192 / 4:
            want.append(frequency)
        elif wave > 8192 / 1:
            want.append(frequency / 8)
        else:
            smooth = (8192 / wave - 1) / (4 - 1)
            want.append((1 - smooth) * frequency / 8 + smooth * frequency)
    kinds = [
        sum(1 for one in (got / plain(500000.0, 128)) if low < one < high)
        for low, high in ((0.99, 2), (0.13, 0.99), (0, 0.13))
    ]

    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert min(kinds) > 2, "each of the three kinds should occur"


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(1, 3), st.integers(1, 3), st.integers(1, 8))
def test_a_pair_is_turned_like_a_complex_number(position, tokens, heads, pairs):
    rng = np.random.default_rng(position)
    numbers = rng.standard_normal((tokens, heads, 2 * pairs), dtype=np.float32)
    positions = np.arange(position, position + tokens)
    got = rotate(numbers, Rotary(Rope(), 2 * pairs).at(positions))

    angles = positions[:, None].astype(np.float32) * frequencies(Rope(), 2 * pairs)
    turned = (numbers[..., :pairs] + 1j * numbers[..., pairs:]) * np.exp(1j * angles.astype(float))[:, None]
    np.testing.assert_allclose(got, np.concatenate([turned.real, turned.imag], -1), atol=2e-6)


def test_the_first_position_is_not_turned_at_all():
    numbers = np.arange(8, dtype=np.float32).reshape(1, 2, 4)

    np.testing.assert_array_equal(rotate(numbers, Rotary(LLAMA3, 4).at(np.array([0]))), numbers)


def test_the_table_is_the_same_bits_in_whatever_order_it_grows():
    forward, far = Rotary(LLAMA3, 16), Rotary(LLAMA3, 16)
    rows = np.concatenate([forward.at(np.array([position])) for position in range(0, 3 * BLOCK, 7)])

    np.testing.assert_array_equal(rows, far.at(np.arange(0, 3 * BLOCK, 7)))
    np.testing.assert_array_equal(rows[[3, 0]], far.at(np.array([21, 0])))

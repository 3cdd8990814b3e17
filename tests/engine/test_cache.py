"""The cache of one sequence: grows as it is used, keeps what it holds, never exceeds its bound."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.random_models import LLAMA

from penstock.engine.cache import STEP, Cache
from penstock.engine.config import read_config

CONFIG = read_config(msgspec.json.encode(LLAMA))
"""3 layers, 2 heads of keys and values, 16 numbers each."""


@settings(deadline=None)
@given(bound=st.integers(1, 700), pieces=st.lists(st.integers(1, 130), max_size=12))
def test_what_was_written_stays_and_memory_follows_use_up_to_the_bound(bound, pieces):
    cache = Cache(CONFIG, bound)
    written = np.empty((3, 4, 0, 16), np.float32)
    for number, piece in enumerate(pieces):
        if cache.length + piece > bound:
            break
        cache.reserve(piece)
        rows = np.full((3, 4, piece, 16), number + 1, np.float32) + np.arange(16, dtype=np.float32) / 16
        for layer in range(3):
            cache.layer(layer)[:, cache.length : cache.length + piece] = rows[layer]
        cache.advance(piece)
        written = np.concatenate([written, rows], 2)

    assert cache.length == written.shape[2]
    assert cache.length <= cache.capacity < bound + STEP
    assert cache.capacity < 2 * cache.length + STEP or not cache.length
    for layer in range(3):
        np.testing.assert_array_equal(cache.layer(layer)[:, : cache.length], written[layer])


def test_an_empty_cache_takes_no_memory():
    assert Cache(CONFIG, 1_000_000).capacity == 0


def test_growing_beyond_the_bound_is_a_defect_of_the_caller():
    cache = Cache(CONFIG, 4)
    cache.reserve(4)
    cache.advance(4)

    with pytest.raises(AssertionError, match="outgrow"):
        cache.reserve(1)


def test_each_head_begins_at_a_cache_line():
    cache = Cache(CONFIG, 100)
    cache.reserve(70)

    assert {cache.layer(layer)[head].ctypes.data % 64 for layer in range(3) for head in range(4)} == {0}

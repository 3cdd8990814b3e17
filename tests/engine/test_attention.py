"""Attention against the formula, head by head and token by token, in 64-bit floats."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.random_models import SMALL

from penstock.engine.attention import attend_piece, attend_token, mask
from penstock.engine.cache import Cache
from penstock.engine.config import read_config

HEADS, HEAD_DIM = 6, 8


def filled(kv_heads, tokens, new, seed):
    """A cache that has seen some tokens, with keys and values of `new` more written behind them."""
    file = SMALL | {"model_type": "llama", "num_attention_heads": HEADS, "head_dim": HEAD_DIM}
    config = read_config(msgspec.json.encode(file | {"num_key_value_heads": kv_heads, "num_hidden_layers": 1}))
    cache = Cache(config, tokens + new)
    cache.reserve(tokens + new)
    cache.layer(0)[:, : tokens + new] = np.random.default_rng(seed).standard_normal(
        (2 * kv_heads, tokens + new, HEAD_DIM)
    )
    cache.advance(tokens)
    return cache


def by_the_formula(queries, cache, sliding):
    """Query `i` is at position `length + i` and looks at itself and what is before it, within the sliding window."""
    stored = cache.layer(0)[:, : cache.length + len(queries)].astype(float)
    kv_heads = len(stored) // 2
    mixed = np.empty(queries.shape)
    for token, head in np.ndindex(queries.shape[:2]):
        at = cache.length + token
        first = 0 if sliding is None else max(0, at + 1 - sliding)
        group = head // (HEADS // kv_heads)
        keys, values = stored[group, first : at + 1], stored[kv_heads + group, first : at + 1]
        weights = np.exp(keys @ queries[token, head].astype(float))
        mixed[token, head] = weights @ values / weights.sum()
    return mixed


@settings(deadline=None)
@given(
    kv_heads=st.sampled_from([1, 2, 3, 6]),
    before=st.integers(0, 40),
    new=st.integers(1, 20),
    sliding=st.none() | st.integers(1, 30),
    seed=st.integers(0, 9),
)
def test_a_piece_sees_all_before_it_and_nothing_after(kv_heads, before, new, sliding, seed):
    cache = filled(kv_heads, before, new, seed)
    queries = np.random.default_rng(seed + 100).standard_normal((new, HEADS, HEAD_DIM), dtype=np.float32)

    np.testing.assert_allclose(
        attend_piece(queries, cache, 0, sliding), by_the_formula(queries, cache, sliding), atol=2e-6
    )


@settings(deadline=None)
@given(
    kv_heads=st.sampled_from([1, 2, 3, 6]),
    before=st.integers(0, 60),
    sliding=st.none() | st.integers(1, 30),
    seed=st.integers(0, 9),
)
def test_one_token_sees_all_before_it_and_itself(kv_heads, before, sliding, seed):
    cache = filled(kv_heads, before, 1, seed)
    queries = np.random.default_rng(seed + 100).standard_normal((1, HEADS, HEAD_DIM), dtype=np.float32)

    got = attend_token(queries[0], cache, 0, sliding)
    np.testing.assert_allclose(got, by_the_formula(queries, cache, sliding)[0], atol=2e-6)


def test_very_large_scores_do_not_overflow():
    cache = filled(2, 10, 1, 0)
    queries = np.full((1, HEADS, HEAD_DIM), 1e4, np.float32)

    assert np.isfinite(attend_token(queries[0], cache, 0, None)).all()
    assert np.isfinite(attend_piece(queries, cache, 0, None)).all()


@pytest.mark.parametrize(
    ("sliding", "rows"),
    [
        (None, ["######..", "#######.", "########"]),
        (3, ["...###..", "....###.", ".....###"]),
        (1, [".....#..", "......#.", ".......#"]),
    ],
)
def test_the_mask_is_causal_and_slides(sliding, rows):
    drawn = ["".join("#" if cell == 0 else "." for cell in row) for row in mask(5, 3, 0, sliding)]

    assert drawn == rows


def test_the_mask_may_begin_later():
    np.testing.assert_array_equal(mask(5, 3, 3, 3), mask(5, 3, 0, 3)[:, 3:])

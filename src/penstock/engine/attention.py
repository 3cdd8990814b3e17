"""Attention: each token weighs the tokens before it by their keys and mixes their values.

Grouped heads (Ainslie et al., 2023): several query heads share one head of keys and values, which are never repeated in
memory. A sliding layer sees only the last positions. Every call here is about one sequence, with shapes that follow from
that sequence alone, so that others cannot change its numbers.
"""

import numpy as np
from numpy.typing import NDArray

from penstock.engine.cache import Cache

Floats = NDArray[np.float32]


def attend_token(queries: Floats, cache: Cache, layer: int, sliding: int | None) -> Floats:
    """Attend for one new token, whose key and value stand in the cache already, just behind `length`.

    Queries [heads, head_dim], scaled; gives the mixed values, [heads, head_dim].
    """
    stored = cache.layer(layer)
    kv_heads = len(stored) // 2
    last = cache.length + 1
    first = 0 if sliding is None else max(0, last - sliding)
    grouped = queries.reshape(kv_heads, -1, queries.shape[1])
    # One product per query head: for a matrix of so few rows that is quicker than one product per group.
    scores = np.matmul(stored[:kv_heads, None, first:last], grouped[..., None])[..., 0]
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    mixed: Floats = np.matmul(scores, stored[kv_heads:, first:last])
    mixed /= np.add.reduce(scores, axis=-1, keepdims=True)
    return mixed.reshape(queries.shape)


def attend_piece(queries: Floats, cache: Cache, layer: int, sliding: int | None) -> Floats:
    """Attend for a piece of a prompt, whose keys and values stand in the cache already, just behind `length`.

    Queries [tokens, heads, head_dim], scaled; gives the mixed values in the same shape.
    """
    tokens, heads, head_dim = queries.shape
    stored = cache.layer(layer)
    kv_heads = len(stored) // 2
    last = cache.length + tokens
    first = 0 if sliding is None else max(0, cache.length + 1 - sliding)
    hidden = mask(cache.length, tokens, first, sliding)
    mixed = np.empty_like(queries)
    group = heads // kv_heads
    for head in range(
        kv_heads
    ):  # one at a time: scores of all heads at once would not fit into the cache, or into memory
        mine = slice(head * group, (head + 1) * group)
        rows = queries[:, mine].reshape(tokens * group, head_dim)
        scores = np.matmul(rows, stored[head, first:last].T)
        scores.reshape(tokens, group, last - first)[...] += hidden[:, None]
        scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        values = np.matmul(scores, stored[kv_heads + head, first:last])
        values /= np.add.reduce(scores, axis=-1, keepdims=True)
        mixed[:, mine] = values.reshape(tokens, group, head_dim)
    return mixed


def mask(before: int, tokens: int, first: int, sliding: int | None) -> Floats:
    """Give 0 where a token may look and minus infinity where it may not, [tokens, positions from `first` on]."""
    rows = np.arange(before, before + tokens)[:, None]
    columns = np.arange(first, before + tokens)[None, :]
    hidden = columns > rows
    if sliding is not None:
        hidden |= columns <= rows - sliding
    return np.where(hidden, np.float32("-inf"), np.float32(0))

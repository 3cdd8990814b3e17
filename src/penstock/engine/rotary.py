"""Rotary positions: which angle each pair of a head's numbers is turned by at each position.

As in RoFormer (Su et al., 2021), in the layout of Hugging Face weights: a number pairs with the one half a head further,
not with its neighbour as in GGUF files of the Llama family. Frequencies are rounded step by step like `transformers`
does, since a last bit grows with the position. Pure: a table of cosines and sines that grows with the positions in use.
"""

import math

import numpy as np
from numpy.typing import NDArray

from penstock.engine.config import Rope

Floats = NDArray[np.float32]

BLOCK = 512
"""Positions that are added to the table at a time: always computed by the same call, whoever asks first."""


def frequencies(rope: Rope, head_dim: int) -> Floats:
    """Give radians per position for the pairs of a head, [head_dim / 2], stretched as the configuration says."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    powers = np.power(rope.theta, exponents, dtype=np.float64).astype(np.float32)
    plain: Floats = np.float32(1) / powers
    if rope.kind == "default":
        return plain
    factor = np.float32(rope.factor)
    return _llama3(rope, plain, factor) if rope.kind == "llama3" else np.divide(plain, factor)


def _llama3(rope: Rope, plain: Floats, factor: np.float32) -> Floats:
    """Stretch long waves by the factor, leave short ones, and go over smoothly between (Llama 3.1)."""
    one = np.float32(1)
    waves = np.float32(2 * math.pi) / plain
    low, high = np.float32(rope.low_freq_factor), np.float32(rope.high_freq_factor)
    longest, shortest = rope.original_window / rope.low_freq_factor, rope.original_window / rope.high_freq_factor
    smooth = (np.float32(rope.original_window) / waves - low) / (high - low)
    between = (one - smooth) * plain / factor + smooth * plain
    stretched = np.where(waves > longest, plain / factor, plain)
    medium = (waves >= shortest) & (waves <= longest)
    return np.where(medium, between, stretched)


class Rotary:
    """The table for one model: per position cosines and signed sines, [positions, 2, 2, head_dim / 2]."""

    __slots__ = ("_frequencies", "_table")

    def __init__(self, rope: Rope, head_dim: int) -> None:
        self._frequencies = frequencies(rope, head_dim)
        self._table = np.empty((0, 2, 2, head_dim // 2), np.float32)

    def at(self, positions: NDArray[np.int64]) -> Floats:
        """Give the rows for some positions, in their order; the table grows where it has to."""
        while len(self._table) <= positions.max():
            self._table = np.concatenate([self._table, self._block(len(self._table))])
        rows: Floats = self._table[positions]
        return rows

    def _block(self, first: int) -> Floats:
        positions = np.arange(first, first + BLOCK, dtype=np.float32)
        angles = (positions[:, None] * self._frequencies).astype(np.float64)
        cosines, sines = np.cos(angles), np.sin(angles)
        rows = np.stack([np.stack([cosines, cosines], 1), np.stack([-sines, sines], 1)], 1)
        return rows.astype(np.float32)


def rotate(heads: Floats, rows: Floats) -> Floats:
    """Turn heads, [tokens, heads, head_dim], by the table's rows of their tokens.

    The pair (a, b) becomes (a cos - b sin, b cos + a sin): the halves times the cosine, plus the halves swapped times
    the signed sine.
    """
    tokens, count, size = heads.shape
    halves = heads.reshape(tokens, count, 2, size // 2)
    turned = halves * rows[:, None, 0]
    turned += halves[:, :, ::-1] * rows[:, None, 1]
    return turned.reshape(tokens, count, size)

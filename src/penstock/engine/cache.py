"""What a sequence's tokens leave behind for later ones: keys and values of each layer, up to a bound.

One cache belongs to one sequence, and grows with it in steps, so that memory follows what is used and never exceeds the
bound that was given. Nothing is shared between sequences: what one of them computes cannot depend on another.
"""

import numpy as np
from numpy.typing import NDArray

from penstock.engine.config import Config
from penstock.engine.weights import aligned

Floats = NDArray[np.float32]

STEP = 64
"""Tokens; the least by which a cache grows. Capacities are multiples, so that every head's part begins at a cache line."""


class Cache:
    """Keys and values of one sequence: per layer [2 x kv_heads, capacity, head_dim], keys first.

    `length` is the number of tokens that all layers have seen; `bound` how many there may ever be.
    """

    __slots__ = ("_config", "_layers", "bound", "length")

    def __init__(self, config: Config, bound: int) -> None:
        self._config = config
        self._layers: Floats = aligned((config.layers, 2 * config.kv_heads, 0, config.head_dim))
        self.bound = bound
        self.length = 0

    @property
    def capacity(self) -> int:
        """How many tokens fit into the memory that is held now."""
        return int(self._layers.shape[2])

    def reserve(self, tokens: int) -> None:
        """Hold room for some more tokens; the bound is the caller's promise, so exceeding it is a defect of the caller."""
        needed = self.length + tokens
        assert needed <= self.bound, "a sequence may not outgrow its cache"
        if needed <= self.capacity:
            return
        wanted = min(max(needed, 2 * self.capacity), self.bound)
        layers = aligned((*self._layers.shape[:2], -(-wanted // STEP) * STEP, self._config.head_dim))
        layers[:, :, : self.length] = self._layers[:, :, : self.length]
        self._layers = layers

    def layer(self, number: int) -> Floats:
        """Give a layer's keys and values, a view to read and to write behind `length`."""
        layer: Floats = self._layers[number]
        return layer

    def advance(self, tokens: int) -> None:
        """Count tokens as seen, once all layers have written them."""
        self.length += tokens

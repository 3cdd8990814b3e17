"""Matrix times vector, so that a request's numbers never depend on who else is being served.

BLAS rounds a product differently when the same row comes alone or among others: other kernels, other orders of adding.
So requests that are decoded together are not put into one matrix. Each row goes through exactly the call that it would go
through alone (`gemv` on the same tile of weights), and what they share is the tile: it is small enough to stay in the
processor's cache while all rows pass it, so weights come from memory once per step. The loop over tiles and rows runs
inside one call of `numpy.matmul`. Measured, eight rows this way are not slower than one matrix product of eight rows.

Pieces of a prompt are one matrix product; their sizes follow from the prompt alone.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

TILE_BYTES = 192 * 1024
"""A tile and the rows that pass it fit into the second-level cache of any processor of the last ten years."""
FEWEST_ROWS = 8


def tiling(rows: int, columns: int) -> tuple[tuple[int, int, int], ...]:
    """Cut a matrix into tiles of equal height: (first row, tiles, rows per tile), and one lower tile if it must be."""
    most = max(TILE_BYTES // (4 * columns), FEWEST_ROWS)
    if rows <= most:
        return ((0, 1, rows),)
    even = max(height for height in range(1, most + 1) if rows % height == 0)
    if 4 * even >= most:
        return ((0, rows // even, even),)
    whole = rows // most
    return ((0, whole, most), (whole * most, 1, rows - whole * most))


class Linear:
    """Rows of numbers times a weight matrix (as stored: [outputs, inputs]), plus a bias if there is one.

    Several matrices over the same inputs may stand one below the other: one call computes queries, keys and values.
    """

    __slots__ = ("_bias", "_parts", "_tiles", "outputs")

    def __init__(self, parts: Sequence[Floats], bias: Floats | None = None) -> None:
        self._parts: list[tuple[int, int, Floats]] = []
        self._tiles: list[tuple[int, int, Floats]] = []
        self._bias = bias
        self.outputs = 0
        for part in parts:
            rows, columns = part.shape
            self._parts.append((self.outputs, self.outputs + rows, part.T))
            for first, count, height in tiling(rows, columns):
                tiles = part[first : first + count * height].reshape(count, 1, height, columns)
                start = self.outputs + first
                self._tiles.append((start, start + count * height, tiles))
            self.outputs += rows

    def each(self, inputs: Floats) -> Floats:
        """Give [rows, inputs] -> [rows, outputs]; a row's result is the same bits whatever the other rows are."""
        rows = len(inputs)
        outputs = np.empty((rows, self.outputs), np.float32)
        columns = inputs[None, :, :, None]
        for first, last, tiles in self._tiles:
            count, _, height, _ = tiles.shape
            if rows == 1:
                np.matmul(tiles, columns, out=outputs[0, first:last].reshape(count, 1, height, 1))
            else:
                products = np.empty((count, rows, height, 1), np.float32)
                np.matmul(tiles, columns, out=products)
                outputs[:, first:last].reshape(rows, count, height)[...] = products[..., 0].transpose(1, 0, 2)
        if self._bias is not None:
            outputs += self._bias
        return outputs

    def together(self, inputs: Floats) -> Floats:
        """Give [rows, inputs] -> [rows, outputs] as one matrix product; last bits depend on the number of rows."""
        outputs = np.empty((len(inputs), self.outputs), np.float32)
        for first, last, part in self._parts:
            np.matmul(inputs, part, out=outputs[:, first:last])
        if self._bias is not None:
            outputs += self._bias
        return outputs

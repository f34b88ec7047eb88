"""Rows of a table as training reads them: feature-major, in blocks, in a fixed order.

Feature-major blocks make a step of few outputs two to three times as fast as row-major ones, and a
last row of ones makes b one more column of the parameters, so that a step is two products.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from app.numeric.activations import Array
from app.numeric.errors import ShapeError

# float32 or float64: how the rows are held. Parameters and sums are float64 always.
DataArray = NDArray[Any]

# Larger than that, two products over a block fetch it from memory twice; much smaller, the calls
# cost more than the products.
BLOCK_BYTES = 4 << 20


class Block(NamedTuple):
    """Some of the rows: x (n + 1, k), its last row ones; y (m, k); weight (k,), None for 1 each."""

    x: DataArray
    y: DataArray
    weight: DataArray | None


class Rows(NamedTuple):
    """All rows, `total` of them, as blocks of at most `block_rows`.

    `blocks()` gives the same blocks in the same order every time. Rows that are not `in_memory` are
    read anew each time, and a block then holds only until the next one is taken. The mean of the
    weights over all rows is 1.
    """

    total: int
    inputs: int
    outputs: int
    block_rows: int
    dtype: np.dtype[Any]
    in_memory: bool
    blocks: Callable[[], Iterable[Block]]


def rows_of(
    x: Array, y: Array, weight: Array | None = None, *, dtype: DTypeLike = np.float64
) -> Rows:
    """Rows held in memory, copied from x (N, n), y (N, m) and weights (N,) of any positive mean.

    Raises ShapeError for arrays that do not fit together.
    """
    if (
        x.ndim != 2
        or y.ndim != 2
        or len(x) != len(y)
        or (weight is not None and len(weight) != len(x))
    ):
        raise ShapeError(f"x and y must be (rows, columns) of the same rows: {x.shape}, {y.shape}")
    design = np.empty((x.shape[1] + 1, len(x)), dtype)
    design[:-1] = x.T
    design[-1] = 1.0
    targets = np.ascontiguousarray(y.T, dtype=dtype)
    return rows_from(design, targets, None if weight is None else normalised(weight).astype(dtype))


def rows_from(design: DataArray, y: DataArray, weight: DataArray | None) -> Rows:
    """Rows over arrays that are feature-major already: design (n + 1, N), y (m, N), weight (N,).

    The last row of the design must be ones, and the mean of the weights 1; nothing is copied.
    """
    width, count = design.shape
    size = block_rows_of(width, count, design.dtype.itemsize)
    blocks = tuple(
        Block(
            design[:, start : start + size],
            y[:, start : start + size],
            None if weight is None else weight[start : start + size],
        )
        for start in range(0, count, size)
    )
    return Rows(count, width - 1, len(y), size, design.dtype, True, lambda: blocks)


def block_rows_of(width: int, count: int, itemsize: int, block_bytes: int = BLOCK_BYTES) -> int:
    """How many rows a block has: about `block_bytes` of them, or all if little would be left."""
    size = max(256, block_bytes // (width * itemsize))
    return max(count, 1) if size >= 0.75 * count else size


def normalised(weight: Array) -> Array:
    """The weights divided by their mean."""
    shares: Array = weight / weight.mean()
    return shares

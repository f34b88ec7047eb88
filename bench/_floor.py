"""The floor of a step: its two matrix products alone, in every layout that has a claim to be quick.

z = w x^T, m by N        slope = z x, m by n
"""

from collections.abc import Callable, Mapping

import numpy as np

from bench._problem import DataArray

# As large as the blocks of a pass that wants each of them to stay in cache for both products.
BLOCK_BYTES = 4 << 20

Run = Callable[[], object]


def layouts(x: DataArray, outputs: int) -> Mapping[str, Run]:
    """A function for each layout that makes both products over x (N, n), row-major."""
    count, n = x.shape
    size = max(256, BLOCK_BYTES // (n * x.itemsize))
    columns = np.ascontiguousarray(x.T)
    found = {
        "row-major": _row_major([x], outputs),
        "row-major, z feature-major": _row_major_z_feature_major([x], outputs),
        "feature-major": _feature_major([columns], outputs),
        "feature-major, z row-major": _feature_major_z_row_major([columns], outputs),
    }
    if size < 0.75 * count:
        starts = range(0, count, size)
        row_blocks = [x[first : first + size] for first in starts]
        column_blocks = [np.ascontiguousarray(block.T) for block in row_blocks]
        found |= {
            "row-major blocks": _row_major(row_blocks, outputs),
            "row-major blocks, z feature-major": _row_major_z_feature_major(row_blocks, outputs),
            "feature-major blocks": _feature_major(column_blocks, outputs),
        }
    return found


def _parameters(n: int, outputs: int, dtype: np.dtype[np.floating]) -> DataArray:
    return np.random.default_rng(0).standard_normal((outputs, n)).astype(dtype)


def _row_major(blocks: list[DataArray], outputs: int) -> Run:
    w = _parameters(blocks[0].shape[1], outputs, blocks[0].dtype)
    z = np.empty((max(map(len, blocks)), outputs), w.dtype)
    slope = np.empty_like(w)

    def run() -> None:
        for x in blocks:
            here = np.matmul(x, w.T, out=z[: len(x)])
            np.matmul(here.T, x, out=slope)

    return run


def _row_major_z_feature_major(blocks: list[DataArray], outputs: int) -> Run:
    w = _parameters(blocks[0].shape[1], outputs, blocks[0].dtype)
    z = [np.empty((outputs, len(x)), w.dtype) for x in (blocks[0], blocks[-1])]
    slope = np.empty_like(w)

    def run() -> None:
        for x in blocks:
            here = np.matmul(w, x.T, out=z[0] if len(x) == z[0].shape[1] else z[1])
            np.matmul(here, x, out=slope)

    return run


def _feature_major(blocks: list[DataArray], outputs: int) -> Run:
    w = _parameters(len(blocks[0]), outputs, blocks[0].dtype)
    z = [np.empty((outputs, x.shape[1]), w.dtype) for x in (blocks[0], blocks[-1])]
    slope = np.empty_like(w)

    def run() -> None:
        for x in blocks:
            here = np.matmul(w, x, out=z[0] if x.shape[1] == z[0].shape[1] else z[1])
            np.matmul(here, x.T, out=slope)

    return run


def _feature_major_z_row_major(blocks: list[DataArray], outputs: int) -> Run:
    w = _parameters(len(blocks[0]), outputs, blocks[0].dtype)
    z = np.empty((max(x.shape[1] for x in blocks), outputs), w.dtype)
    slope = np.empty_like(w)

    def run() -> None:
        for x in blocks:
            here = np.matmul(x.T, w.T, out=z[: x.shape[1]])
            np.matmul(here.T, x.T, out=slope)

    return run

"""A sample of rows held in memory that is spread over all of them."""

import numpy as np

from app.numeric.rows import Rows, normalised, rows_from


def sample_of(rows: Rows, share: float, seed: int) -> Rows | None:
    """One row, drawn by the seed, of each of share N equal stretches of the rows, in their order.

    So rows that are sorted, by class say, are drawn in proportion, and rows with a period are not
    met at the same phase. The weights have mean 1 again; None if all of them are 0.
    """
    size = max(1, round(share * rows.total))
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    places = (np.arange(size) + random.random(size)) * (rows.total / size)
    drawn = np.minimum(places.astype(np.intp), rows.total - 1)
    design = np.empty((rows.inputs + 1, size), rows.dtype)
    targets = np.empty((rows.outputs, size), rows.dtype)
    weights = np.ones(size, rows.dtype)
    start = weighted = 0
    for x, y, weight in rows.blocks():
        first, last = np.searchsorted(drawn, (start, start + x.shape[1]))
        inside = drawn[first:last] - start
        design[:, first:last] = x[:, inside]
        targets[:, first:last] = y[:, inside]
        if weight is not None:
            weights[first:last] = weight[inside]
            weighted += 1
        start += x.shape[1]
    if not weights.any():
        return None
    return rows_from(design, targets, normalised(weights) if weighted else None)

"""The loss history: packed while it is written, thinned while it is read."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from app.storage.arrays import unpack

RECORD_WIDTH = 4  # epoch, cost, validation cost, step norm


def join(blocks: Sequence[bytes]) -> NDArray[np.float64]:
    """All records of a job, shape (epochs, 4)."""
    if not blocks:
        return np.empty((0, RECORD_WIDTH))
    return np.concatenate([unpack(block) for block in blocks])


def thin(records: NDArray[np.float64], points_max: int) -> NDArray[np.float64]:
    """At most `points_max` of the records, always with the first, the last and the extremes.

    The epochs are cut into equal buckets, and of each the lowest and the highest cost are kept, so
    that a spike survives however long the history is.
    """
    if len(records) <= points_max:
        return records
    keep = {0, len(records) - 1}
    buckets = max(1, (points_max - 2) // 2)
    edges = np.linspace(0, len(records), buckets + 1).astype(int)
    for start, end in pairwise(edges):
        costs = records[start:end, 1]
        comparable = np.where(np.isnan(costs), np.inf, costs)
        keep |= {int(start + comparable.argmin()), int(start + comparable.argmax())}
    return records[sorted(keep)]

"""Which rows train and which validate."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric.errors import NumericError


class Split(NamedTuple):
    """Row numbers, ascending; together every row once."""

    training: NDArray[np.intp]
    validation: NDArray[np.intp]


def split(rows: int, *, fraction: float, seed: int) -> Split:
    """A random split that anyone can make again.

    The first round(fraction * rows) of `Generator(Philox(seed)).permutation(rows)` validate (halves
    round to even, at least one row is left to train), the others train; both sorted.
    Raises NumericError unless 0 <= fraction < 1.
    """
    if not 0.0 <= fraction < 1.0:
        raise NumericError(
            f"the validation fraction must be at least 0 and below 1, not {fraction}"
        )
    order = np.random.Generator(np.random.Philox(seed)).permutation(rows)
    count = min(round(fraction * rows), max(rows - 1, 0))
    return Split(training=np.sort(order[count:]), validation=np.sort(order[:count]))

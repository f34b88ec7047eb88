"""Numbers on the wire: JSON has no word for what is not finite."""

import math

import numpy as np
from numpy.typing import NDArray


def finite_or_none(values: NDArray[np.float64]) -> list[float | None]:
    """The values (k,), with None for infinities and nan."""
    return [value if math.isfinite(value) else None for value in values.tolist()]

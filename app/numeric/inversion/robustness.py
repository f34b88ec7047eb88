"""How far off the inputs or the weights may be before an answer no longer has what was wanted."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric.activations import Array
from app.numeric.inversion.question import Conditions


class Robustness(NamedTuple):
    """Both are the largest that no choice of signs or directions defeats; infinite if none can.

    `input_rounding`: every number may be off by so many units of x at once. `weight_change`: the
    rows of [w b] that a wish reads may be off by a matrix of that Frobenius norm.
    """

    input_rounding: float
    weight_change: float


def robustness(
    wishes: Conditions, x: Array, numbers: NDArray[np.intp], rows_read: Array
) -> Robustness:
    """Of an answer x (n,); `numbers` are the columns that may be off.

    `rows_read` (r,): how many rows of [w b] each wish reads: two where classes are compared.
    """
    value = wishes.a @ x
    room = np.maximum(np.minimum(value - wishes.low, wishes.high - value), 0.0)
    reach = np.abs(wishes.a[:, numbers]).sum(axis=1)
    length = np.sqrt(rows_read * (1.0 + x @ x))
    with np.errstate(divide="ignore", invalid="ignore"):
        rounding = np.where(reach > 0.0, room / reach, np.inf)
    return Robustness(
        float(rounding.min(initial=np.inf)), float((room / length).min(initial=np.inf))
    )


def tightened(wishes: Conditions, numbers: NDArray[np.intp], epsilon: float) -> Conditions:
    """The wishes that hold although every number may be off by epsilon, in units of x."""
    reach = epsilon * np.abs(wishes.a[:, numbers]).sum(axis=1)
    return Conditions(wishes.a, wishes.low + reach, wishes.high - reach)

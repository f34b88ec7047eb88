"""Targets on a scale that suits the layer, and outputs back in the units of the targets.

A layer with scaled targets gives y = offset + scale * sigma(z). Shapes: y (..., m), so that
row-major y is taken as it is and feature-major y as its transpose.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from app.numeric.activations import Array
from app.numeric.column_statistics import ColumnStatistics
from app.numeric.scaling import SCALINGS, offset_and_scale, require_known


class TargetScaling(NamedTuple):
    """One offset and one scale, above 0, per target: (m,) each."""

    offset: Array
    scale: Array


def fit(scaling: str, targets: Sequence[ColumnStatistics]) -> TargetScaling:
    """The scaling of targets with these statistics of their training rows, by a row of SCALINGS.

    Raises NumericError for an unknown scaling, or a target whose numbers are too far apart.
    """
    require_known("scaling", scaling, SCALINGS)
    pairs = [
        offset_and_scale(scaling, found, of=f"target {number + 1}")
        for number, found in enumerate(targets)
    ]
    offset, scale = np.array(pairs, dtype=np.float64).reshape(-1, 2).T.copy()
    return TargetScaling(offset, scale)


@np.errstate(over="ignore")
def scale(scaling: TargetScaling, y: Array) -> Array:
    """(y - offset) / scale, in float64.

    `min_max` takes the training range into [0, 1] exactly, ends to ends: rounding keeps order, so
    neither y - min nor the quotient can pass its largest value. Targets that were rounded to
    float32 before can pass it.
    """
    scaled: Array = (y - scaling.offset) / scaling.scale
    return scaled


@np.errstate(over="ignore")
def unscale(scaling: TargetScaling, y: Array) -> Array:
    """offset + scale * y, the units of the targets."""
    return scaling.offset + scaling.scale * y

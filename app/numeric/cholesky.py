"""Cholesky factors of curvature matrices that do not mind the units of the columns.

A matrix is brought to unit diagonal first, near the best condition that scaling can give (van der
Sluis 1969), and what is added where it is singular is relative to each entry of the diagonal.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import lapack

from app.numeric.activations import Array

EPSILON = float(np.finfo(np.float64).eps)

# A pivot of q entries that rounding alone could have made; the jitter lifts it well above.
PIVOT_ROUNDINGS = 1.0
JITTER_PIVOTS = 10.0
JITTER_GROWTH = 100.0


class Factor(NamedTuple):
    """matrix + jitter diag(matrix) = D L L^T D: L (q, q) below its diagonal, `unit` = 1 / D (q,).

    `jitter` is 0 unless the matrix was singular to rounding.
    """

    lower: Array
    unit: Array
    jitter: float


def factorised(matrix: Array, *, resolution: float = EPSILON) -> Factor | None:
    """The factor of a symmetric positive semidefinite matrix (q, q); None if it is not finite.

    `resolution`: the relative error of its entries. An entry 0 of the diagonal counts as 1, so that
    a column of zeros gets the solution 0 where the right side is 0.
    """
    if not np.isfinite(matrix).all():
        return None
    diagonal = matrix.diagonal()
    unit = 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
    equilibrated = matrix * unit
    equilibrated *= unit[:, np.newaxis]
    pivot_min = PIVOT_ROUNDINGS * len(matrix) * resolution
    jitter = 0.0
    while True:
        shifted = equilibrated.copy()
        # The exact diagonal, also where it was 0.
        shifted.ravel()[:: len(matrix) + 1] = 1.0 + jitter
        # Symmetric, so the transpose is the same matrix in the order that LAPACK works in.
        lower, failed = lapack.dpotrf(shifted.T, lower=True, clean=False, overwrite_a=True)
        if not failed and lower.diagonal().min() ** 2 >= min(pivot_min, 1.0):
            return Factor(lower, unit, jitter)
        jitter = max(JITTER_GROWTH * jitter, JITTER_PIVOTS * pivot_min)


def solved(factor: Factor, right: Array) -> Array:
    """The solution (q,) of the factored matrix for a right side (q,)."""
    solution, _ = lapack.dpotrs(factor.lower, factor.unit * right, lower=True)
    solution *= factor.unit
    return np.asarray(solution, dtype=np.float64)

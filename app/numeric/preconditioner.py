"""Coordinates in which the curvature of the objective is about 1 in every direction.

With A_j of output j as curvature_matrices has them and A_j^-1 = F_j^T F_j, a step u in these
coordinates moves its row of P by u F_j, and the slope g is g F_j^T there: whatever the units of the
features, and however much they have in common.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike
from scipy.linalg import lapack

from app.numeric.activations import Array
from app.numeric.cholesky import factorised
from app.numeric.curvature_matrices import TINY, bound_matrix, local_matrices, typical_curvature
from app.numeric.objective import Objective

# Beyond, A takes more than 128 MB, and its factor more time than hundreds of passes over the rows.
SIDE_MAX = 4000


class Coordinates(NamedTuple):
    """F and its inverse, (groups, n + 1, n + 1): one for all outputs or one for each."""

    factor: Array
    inverse: Array

    def pull(self, slope: Array) -> Array:
        """The slope (m, n + 1) in these coordinates, flat."""
        return _times(slope, self.factor.swapaxes(1, 2)).ravel()

    def way(self, direction: Array) -> Array:
        """The step (m, n + 1) of P that a direction (m, n + 1) in these coordinates is."""
        return _times(direction, self.factor)

    def moved(self, steps: Array, pulls: Array, there: "Coordinates") -> tuple[Array, Array]:
        """Flat steps and pulls (k, m (n + 1)) of these coordinates in other ones."""
        shape = (len(steps), -1, self.factor.shape[1])
        change = np.matmul(self.factor, there.inverse)
        back = np.matmul(there.factor, self.inverse).swapaxes(1, 2)
        return (
            _times(steps.reshape(shape), change).reshape(steps.shape),
            _times(pulls.reshape(shape), back).reshape(pulls.shape),
        )


class Uniform(NamedTuple):
    """Coordinates that only scale P, all of it alike."""

    scale: float

    def pull(self, slope: Array) -> Array:
        """The slope (m, n + 1) in these coordinates, flat."""
        pull: Array = (self.scale * slope).ravel()
        return pull

    def way(self, direction: Array) -> Array:
        """The step (m, n + 1) of P that a direction (m, n + 1) in these coordinates is."""
        way: Array = self.scale * direction
        return way


def bounded(objective: Objective) -> Coordinates | Uniform:
    """Coordinates by the bound of d2C/dz2, or its mean at the start where it has none.

    The mean diagonal of A stands for A where there are too many inputs for a matrix, or it
    overflows.
    """
    if objective.shape[1] <= SIDE_MAX:
        found = _coordinates(objective, lambda dtype: bound_matrix(objective, dtype))
        if found is not None:
            return found
    return Uniform(_mean_scale(objective))


def local(objective: Objective, parameters: Array) -> Coordinates | None:
    """Coordinates by the size of d2C/dz2 at P; None if the matrices overflow."""
    return _coordinates(objective, lambda dtype: local_matrices(objective, parameters, dtype))


def _times(rows: Array, matrices: Array) -> Array:
    """Rows (..., m, q), each times its own of the matrices (m, q, q) or all times the only one."""
    if len(matrices) == 1:
        product: Array = np.matmul(rows, matrices[0])
        return product
    each: Array = np.matmul(rows[..., np.newaxis, :], matrices)[..., 0, :]
    return each


def _coordinates(objective: Objective, make: Callable[[DTypeLike], Array]) -> Coordinates | None:
    """Coordinates of matrices that are made from products in a dtype.

    Those of float32 serve while no direction is so small that their rounding matters there.
    """
    dtype: DTypeLike = objective.rows.dtype
    resolution = float(np.finfo(dtype).eps)
    factors = [factorised(matrix, resolution=resolution) for matrix in make(dtype)]
    if dtype != np.float64 and any(factor is None or factor.jitter for factor in factors):
        factors = [factorised(matrix) for matrix in make(np.float64)]
    shape = (len(factors), objective.shape[1], objective.shape[1])
    found = Coordinates(np.zeros(shape), np.zeros(shape))
    for group, factor in enumerate(factors):
        if factor is None:
            return None
        lower = np.tril(factor.lower)
        found.inverse[group] = lower / factor.unit[:, np.newaxis]
        found.factor[group] = lapack.dtrtri(lower, lower=1)[0] * factor.unit
    return found


@np.errstate(over="ignore", invalid="ignore", under="ignore")
def _mean_scale(objective: Objective) -> float:
    """1 / sqrt(trace A / (n + 1)); 1 if that is not finite."""
    total = 0.0
    for x, _, weight in objective.rows.blocks():
        squares = np.einsum("ik,ik->k", x, x, dtype=np.float64)
        total += float(squares.sum() if weight is None else squares @ weight)
    entries = objective.rows.total * objective.shape[1]
    mean = typical_curvature(objective) * total / entries + objective.l2
    return 1.0 / math.sqrt(mean) if TINY <= mean < math.inf else 1.0

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
from app.numeric.row_sample import sample_of
from app.numeric.rows import Rows

# Beyond, A takes more than 128 MB, and its factor more time than hundreds of passes over the rows.
SIDE_MAX = 4000
# A sample of so many rows an unknown makes the matrix, where there are several times more.
SAMPLE_ROWS_PER_UNKNOWN = 16
SAMPLED_FROM = 2
# Of smaller tables (rows times unknowns) the product takes less time than the sample.
SAMPLED_ENTRIES_MIN = 1 << 22
SAMPLE_SEED = 0


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


class Basis(NamedTuple):
    """What matrices are made from: the objective, on all rows or on a sample of them.

    With a sample, `stretch` (n + 1,) says by how much each feature is larger, in root mean square,
    on all rows. Where a sample has met nothing but 0 of a feature, it is 0 and `lost` has the mean
    square on all rows, so that a rare level keeps its place on the diagonal.
    """

    objective: Objective
    stretch: Array | None = None
    lost: Array | None = None


def basis_of(objective: Objective) -> Basis:
    """A sample of the rows where there are many times more of them than unknowns, else all.

    The product of a matrix with itself is all that a preconditioner costs; from 16 rows an unknown
    it is within a quarter of that from all rows, and steps are no more for it.
    """
    rows, side = objective.rows, objective.shape[1]
    wanted = SAMPLE_ROWS_PER_UNKNOWN * side
    large = rows.total * side >= SAMPLED_ENTRIES_MIN and rows.total >= SAMPLED_FROM * wanted
    if not (large and rows.in_memory and side <= SIDE_MAX):
        return Basis(objective)
    sample = sample_of(rows, wanted / rows.total, SAMPLE_SEED)
    if sample is None:
        return Basis(objective)
    on_all, on_sample = _mean_squares(rows), _mean_squares(sample)
    if not np.isfinite(on_all).all():
        return Basis(objective)
    met = on_sample > 0.0
    ratio = np.divide(on_all, on_sample, out=np.zeros_like(on_all), where=met)
    thinned = Objective(objective.activation, objective.cost, sample, l2=objective.l2)
    return Basis(thinned, np.sqrt(ratio), np.where(met, 0.0, on_all))


def bounded(objective: Objective, basis: Basis) -> Coordinates | Uniform:
    """Coordinates by the bound of d2C/dz2, or its mean at the start where it has none.

    The mean diagonal of A stands for A where there are too many inputs for a matrix, or it
    overflows.
    """
    if objective.shape[1] <= SIDE_MAX:
        found = _coordinates(basis, lambda dtype: bound_matrix(basis.objective, dtype))
        if found is not None:
            return found
    return Uniform(_mean_scale(objective))


def local(basis: Basis, parameters: Array) -> Coordinates | None:
    """Coordinates by the size of d2C/dz2 at P; None if the matrices overflow."""
    return _coordinates(basis, lambda dtype: local_matrices(basis.objective, parameters, dtype))


def _times(rows: Array, matrices: Array) -> Array:
    """Rows (..., m, q), each times its own of the matrices (m, q, q) or all times the only one."""
    if len(matrices) == 1:
        product: Array = np.matmul(rows, matrices[0])
        return product
    each: Array = np.matmul(rows[..., np.newaxis, :], matrices)[..., 0, :]
    return each


def _coordinates(basis: Basis, make: Callable[[DTypeLike], Array]) -> Coordinates | None:
    """Coordinates of matrices that are made from products in a dtype.

    Those of float32 serve while no direction is so small that their rounding matters there.
    """
    objective = basis.objective
    dtype: DTypeLike = objective.rows.dtype
    resolution = float(np.finfo(dtype).eps)
    factors = [factorised(m, resolution=resolution) for m in _stretched(basis, make(dtype))]
    if dtype != np.float64 and any(factor is None or factor.jitter for factor in factors):
        factors = [factorised(matrix) for matrix in _stretched(basis, make(np.float64))]
    shape = (len(factors), objective.shape[1], objective.shape[1])
    found = Coordinates(np.zeros(shape), np.zeros(shape))
    for group, factor in enumerate(factors):
        if factor is None:
            return None
        lower = np.tril(factor.lower)
        found.inverse[group] = lower / factor.unit[:, np.newaxis]
        found.factor[group] = lapack.dtrtri(lower, lower=1)[0] * factor.unit
    return found


def _stretched(basis: Basis, matrices: Array) -> Array:
    """The matrices as if features had on the sample the mean squares that they have on all rows."""
    if basis.stretch is None or basis.lost is None:
        return matrices
    l2 = basis.objective.l2
    diagonals = np.einsum("jii->ji", matrices)
    diagonals[:, :-1] -= l2
    matrices *= basis.stretch
    matrices *= basis.stretch[:, np.newaxis]
    diagonals += basis.lost * typical_curvature(basis.objective)
    diagonals[:, :-1] += l2
    return matrices


@np.errstate(over="ignore", invalid="ignore", under="ignore")
def _mean_squares(rows: Rows) -> Array:
    """Of each feature, over all rows, weighted; (n + 1,)."""
    total = np.zeros(rows.inputs + 1)
    for x, _, weight in rows.blocks():
        if weight is None:
            total += np.einsum("ik,ik->i", x, x)
        else:
            total += np.einsum("ik,ik,k->i", x, x, weight)
    return total / rows.total


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

"""Matrices of how the slope of the objective changes with P, in one pass over the rows.

That of output j is

    A_j = sum over rows of weight c x x^T / N + l2 J        x with its 1; J = I, but 0 for b

c is a bound of d2C/dz2, the same for all rows and outputs, or the size of d2C/dz2 itself at some P.
Products are taken in the given dtype, block by block, and added up in float64. With a `centre`
(n + 1,), its last entry 0, x - centre stands for x: that is another b, and keeps the digits of
features whose mean is far larger than what they vary by.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import DTypeLike, NDArray

from app.numeric.activations import Array, softmax
from app.numeric.costs import COSTS
from app.numeric.objective import Objective
from app.numeric.rows import BLOCK_BYTES, Block, DataArray, Rows

# Up to here each output can have a matrix of its own: they cost about as much as a dozen passes.
OWN_SIDE_MAX = 128
OWN_ENTRIES_MAX = 1 << 21
# A row counts at least this share of the mean of its block, where a matrix is to serve for more
# than one step: the curvature of saturated rows comes back within a step of some length.
ROW_SHARE_MIN = 0.01
# And this share of the bound: rows may have no curvature at all, far out or where relu is 0.
BOUND_SHARE_MIN = 1e-8
# For central differences of slopes whose scale in z is 1.
DIFFERENCE = 1e-4
TINY = float(np.finfo(np.float64).tiny)

# The square root of what each row of a block counts: (groups, k), or None for 1 each.
Roots = Callable[[Block], DataArray | None]


def bound_matrix(objective: Objective, dtype: DTypeLike, *, centre: Array | None = None) -> Array:
    """A (1, n + 1, n + 1) by the bound of d2C/dz2, or its mean at the start where it has none."""

    def roots(block: Block) -> DataArray | None:
        return None if block.weight is None else np.sqrt(block.weight)[np.newaxis]

    grams = _grams(objective, roots, 1, dtype, centre)
    return _penalised(objective, typical_curvature(objective) * grams)


def has_own_matrices(objective: Objective) -> bool:
    """Whether there are so few unknowns that each output can have its own matrix."""
    outputs, side = objective.shape
    return side <= OWN_SIDE_MAX and outputs * side * side <= OWN_ENTRIES_MAX


def local_matrices(
    objective: Objective, parameters: Array, dtype: DTypeLike, *, centre: Array | None = None
) -> Array:
    """A (groups, n + 1, n + 1) by the size of d2C/dz2 at P, made to serve for steps of some length.

    One for each output, or one for all, by the mean over them, if that would be much work.
    """
    own = has_own_matrices(objective)
    groups = objective.shape[0] if own else 1
    bound = objective.curvature
    least = BOUND_SHARE_MIN * bound if math.isfinite(bound) else TINY

    def roots(block: Block) -> DataArray:
        sizes = curvatures(objective, parameters, block)
        if not own:
            sizes = sizes.mean(axis=0, keepdims=True)
        sizes += ROW_SHARE_MIN * sizes.mean(axis=1, keepdims=True) + least
        return _weighted_roots(sizes, block)

    return _penalised(objective, _grams(objective, roots, groups, dtype, centre))


def second_derivatives(
    objective: Objective, parameters: Array, outputs: NDArray[np.intp], *, centre: Array
) -> Array:
    """d2f/dP2 at P, without l1, of some outputs of a convex cost that do not depend on each other.

    Shape (len(outputs), n + 1, n + 1).
    """

    def roots(block: Block) -> DataArray:
        return _weighted_roots(curvatures(objective, parameters, block)[outputs], block)

    return _penalised(objective, _grams(objective, roots, len(outputs), np.float64, centre))


@np.errstate(over="ignore", invalid="ignore", under="ignore")
def softmax_second_derivatives(objective: Objective, parameters: Array, *, centre: Array) -> Array:
    """d2f/dP2 at P, without l1, of softmax with cross-entropy, (m (n + 1), m (n + 1)).

    H[(a, i), (c, j)] = sum over rows of weight p_a (delta_ac - p_c) x_i x_j / N + l2 (not for b)
    """
    outputs, side = objective.shape
    total = np.zeros((outputs * side, outputs * side))
    for block in objective.rows.blocks():
        for part in _parts(block, len(total)):
            p = softmax(objective.pre_activation(parameters, part.x).T.astype(np.float64)).T
            x = part.x - centre[:, np.newaxis]
            if part.weight is not None:
                x *= np.sqrt(part.weight)
            scaled = (p[:, np.newaxis] * x).reshape(len(total), -1)
            total -= np.matmul(scaled, scaled.T)
            for output in range(outputs):
                own = slice(output * side, (output + 1) * side)
                total[own, own] += np.matmul(scaled[own], x.T)
    total /= objective.rows.total
    penalised = np.tile(np.arange(side) < side - 1, outputs)
    np.einsum("ii->i", total)[penalised] += objective.l2
    return total


def _parts(block: Block, width: int) -> Iterator[Block]:
    """The block in parts of which `width` float64 numbers for each row are a small array."""
    x, y, weight = block
    size = max(256, BLOCK_BYTES // (8 * width))
    for start in range(0, x.shape[1], size):
        rows = slice(start, start + size)
        yield Block(x[:, rows], y[:, rows], None if weight is None else weight[rows])


@np.errstate(over="ignore", invalid="ignore", under="ignore")
def curvatures(objective: Objective, parameters: Array, block: Block) -> Array:
    """The size of d2C/dz2 of each output in each row of a block, (m, k) float64.

    For softmax that of the cross-entropy, whatever the cost. For huber, which is straight beyond 1,
    at least that of the parabola above it that touches it there: sigma'^2 / max(1, |y_hat - y|)
    (Huber and Ronchetti 2009, 7.8).
    """
    z = objective.pre_activation(parameters, block.x).astype(np.float64)
    if not objective.sigma.elementwise:
        p = softmax(z.T).T
        return p * (1.0 - p)
    cost, y = COSTS[objective.cost], block.y.astype(np.float64, copy=False)
    exact = cost.second_derivative.get(objective.activation)
    if exact is not None and objective.cost != "huber":
        return exact(z, y)
    change = cost.delta(objective.sigma, z + DIFFERENCE, y)
    change -= cost.delta(objective.sigma, z - DIFFERENCE, y)
    change /= 2.0 * DIFFERENCE
    np.abs(change, out=change)
    derivative = objective.sigma.derivative
    if objective.cost == "huber" and derivative is not None:
        y_hat = objective.sigma.forward(z)
        parabola = np.square(derivative(z, y_hat)) / np.maximum(np.abs(y_hat - y), 1.0)
        np.maximum(change, parabola, out=change)
    return change


def typical_curvature(objective: Objective) -> float:
    """The bound of d2C/dz2 or, where it has none, its mean over rows and outputs at the start."""
    if math.isfinite(objective.curvature):
        return objective.curvature
    parameters, total = objective.start(), 0.0
    for block in objective.rows.blocks():
        sizes = curvatures(objective, parameters, block).mean(axis=0)
        total += float(sizes.sum() if block.weight is None else sizes @ block.weight)
    return max(total / objective.rows.total, TINY)


def centre_of(rows: Rows) -> Array:
    """The weighted mean of each feature, and 0, (n + 1,)."""
    total = np.zeros(rows.inputs + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        for x, _, weight in rows.blocks():
            total += x.sum(axis=1, dtype=np.float64) if weight is None else x @ weight
    total /= rows.total
    total[-1] = 0.0
    return total


def _weighted_roots(sizes: Array, block: Block) -> DataArray:
    if block.weight is not None:
        sizes *= block.weight
    return np.sqrt(sizes, out=sizes)


@np.errstate(over="ignore", invalid="ignore", under="ignore")
def _grams(
    objective: Objective, roots: Roots, groups: int, dtype: DTypeLike, centre: Array | None
) -> Array:
    """Sums over rows of roots^2 x x^T / N, (groups, n + 1, n + 1)."""
    rows, side = objective.rows, objective.shape[1]
    total = np.zeros((groups, side, side))
    for block in rows.blocks():
        x = block.x if centre is None else block.x - centre[:, np.newaxis]
        x = x.astype(dtype, copy=False)
        counts = roots(block)
        if counts is None:
            total[0] += np.matmul(x, x.T)
            continue
        for group, root in enumerate(counts.astype(dtype, copy=False)):
            scaled = x * root
            total[group] += np.matmul(scaled, scaled.T)
    total /= rows.total
    return total


def _penalised(objective: Objective, matrices: Array) -> Array:
    np.einsum("jii->ji", matrices)[:, :-1] += objective.l2
    return matrices

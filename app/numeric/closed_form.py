"""Least squares with an unpenalised b, in one step, from sums over blocks of rows.

Minimises mean over rows of weight/2 |w x + b - y|^2 + l2/2 |w|^2 (ridge with alpha = N l2), in
three ways, from the quickest to the most careful:

    Gram matrix     [X 1]^T [X 1] by Cholesky, then one step with residuals taken from the data
    triangle        orthogonal reduction of centred columns to a triangle R, then an SVD of R, which
                    shows the rank
    refined         of small tables, on top of that: residuals in twice the precision

A way is taken if the condition of the table lets it keep the digits, so columns may be of any unit,
nearly coincide, be constant, or be more than the rows.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from app.numeric.activations import Array
from app.numeric.method import Run, Settings, State
from app.numeric.objective import Objective
from app.numeric.rows import Block, DataArray, Rows
from app.numeric.twofold import sum_of_products

# Below this reciprocal condition the normal equations have lost half of the digits; one refinement
# step with residuals taken from the data gives them back above it.
GRAM_CONDITION_MIN: Mapping[np.dtype[Any], float] = MappingProxyType(
    {np.dtype(np.float32): 3e-4, np.dtype(np.float64): 1e-8}
)
# Tables of at most so many values (rows * columns * outputs) are refined within milliseconds, so
# they are when the normal equations have lost a quarter of the digits.
REFINED_VALUES_MAX = 20_000
REFINED_CONDITION_MAX = 1e-4
REFINEMENT_STEPS_MAX = 4
# With less of its sum of squares than that around its mean, a column is centred for residuals.
FAR_SHARE = 1e-2
EPSILON = float(np.finfo(np.float64).eps)
# A column that varies by less is constant: its weight, or what is penalised of it, would overflow.
SPREAD_MIN = 1e-290
# Columns that LAPACK reduces together.
PANEL = 32


class Centring(NamedTuple):
    """What the columns are brought to size with: (x - x_mean) / scale lies in [-1, 1].

    Shapes: x_mean, scale and constant (n,), y_mean (m,). Constant columns have scale 1.
    """

    x_mean: Array
    scale: Array
    constant: NDArray[np.bool_]
    y_mean: Array


def prepare(objective: Objective, settings: Settings) -> Run:  # noqa: ARG001 - has no settings
    """One epoch, which ends at the minimum."""

    def step(state: State) -> State:
        found = _least_squares(objective.rows, objective.l2)
        cost = objective.value(found.parameters) if found.cost is None else found.cost
        return State(state.epoch + 1, 0, found.parameters, cost, True, ())

    start = objective.start()
    return Run(State(0, 0, start, objective.value(start), False, ()), step, learning_rate=None)


class Solution(NamedTuple):
    """P (m, n + 1), and the objective there if it was found on the way."""

    parameters: Array
    cost: float | None


def least_squares(rows: Rows, *, l2: float) -> Array:
    """P (m, n + 1) of least penalised squares, its last column b; of several, that of smallest |w|.

    A column that is constant, in the rows with a weight above 0, gets w = 0. Values that overflow
    float64 give nan. Memory: one block and a few arrays of (n + m, n + m), whatever the rows are.
    """
    return _least_squares(rows, l2).parameters


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _least_squares(rows: Rows, l2: float) -> Solution:
    small = rows.total * (rows.inputs + 1) * rows.outputs <= REFINED_VALUES_MAX
    for dtype in dict.fromkeys((rows.dtype, np.dtype(np.float64))):
        condition_min = max(GRAM_CONDITION_MIN[dtype], REFINED_CONDITION_MAX if small else 0.0)
        solution = _from_gram(rows, l2, dtype, condition_min)
        if solution is not None:
            return solution
    return Solution(_from_triangle(rows, l2, refine=small), None)


def _from_gram(
    rows: Rows, l2: float, dtype: np.dtype[Any], condition_min: float
) -> Solution | None:
    """By Cholesky and one refinement step, products in `dtype`; None if the condition is bad.

    The row of ones is one more feature, so that eliminating it centres the others.
    Source of the refinement: Bjorck 1987, corrected seminormal equations.
    """
    gram, right = _sums(rows, dtype)
    if not (np.isfinite(gram).all() and np.isfinite(right).all()):
        return None
    # A sum of squares that is not above this has lost digits to underflow.
    smallest = rows.total * float(np.finfo(dtype).tiny / np.finfo(dtype).eps)
    diagonal = np.einsum("ii->i", gram)
    squares = diagonal[:-1].copy()
    mean = gram[-1, :-1] / gram[-1, -1]
    spread = squares - mean * gram[-1, :-1]
    constant = np.flatnonzero(spread <= condition_min * squares)
    if len(constant):
        constant = constant[_centring(rows, constant).constant]
    gram[constant] = gram[:, constant] = 0.0
    right[:, constant] = 0.0
    diagonal[:-1] += rows.total * l2
    diagonal[constant] = 1.0
    solve = None if diagonal.min() <= smallest else _solver(gram, condition_min)
    if solve is None:
        return None
    shift = np.zeros(len(gram), dtype)
    if (spread < FAR_SHARE * squares).any():
        shift[:-1] = mean
    solution = _step(rows, l2, solve, solve(right), shift, constant)
    return solution if np.isfinite(solution.parameters).all() else None


def _solver(gram: Array, condition_min: float) -> Callable[[Array], Array] | None:
    """What solves d gram = sums for d (m, q), or None if the condition is bad; overwrites gram.

    Unit diagonal first: near the best condition that scaling can give (van der Sluis 1969).
    """
    unit = 1.0 / np.sqrt(np.einsum("ii->i", gram))
    gram *= unit
    gram *= unit[:, None]
    norm = np.abs(gram).sum(axis=0).max()
    factor, failed = linalg.lapack.dpotrf(gram.T, lower=True, clean=False, overwrite_a=True)
    if failed or not linalg.lapack.dpocon(factor, norm, uplo="L")[0] >= condition_min:
        return None

    def solve(sums: Array) -> Array:
        scaled = linalg.cho_solve((factor, True), (unit * sums).T, check_finite=False)
        solution: Array = unit * scaled.T
        return solution

    return solve


def _step(
    rows: Rows,
    l2: float,
    solve: Callable[[Array], Array],
    parameters: Array,
    shift: DataArray,
    constant: NDArray[np.intp],
) -> Solution:
    """After one refinement step, from residuals on x - shift, products in the dtype of shift.

    The objective is that before the step less what a step to the minimum of a parabola gains.
    """
    moved = parameters.copy()
    moved[:, -1] += parameters @ shift
    used = moved.astype(shift.dtype)
    slope, squares = _residual_sums(rows, used, shift)
    slope += slope[:, -1:] * shift
    moved = used.astype(np.float64)
    slope[:, :-1] -= rows.total * l2 * moved[:, :-1]
    slope[:, constant] = 0.0
    change = solve(slope)
    twice_cost = (squares - float(np.vdot(slope, change))) / rows.total
    twice_cost += l2 * float(np.square(moved[:, :-1]).sum())
    change[:, -1] += change @ shift
    moved += change
    moved[:, -1] -= moved @ shift
    return Solution(moved, 0.5 * twice_cost)


def _sums(rows: Rows, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """The sums over rows of weight x x^T (q, q) and weight y x^T (m, q), with q = n + 1."""
    width = rows.inputs + 1
    gram, right = np.zeros((width, width)), np.zeros((rows.outputs, width))
    product = np.empty((width, width), dtype)
    for block in rows.blocks():
        x, y = block.x.astype(dtype, copy=False), block.y.astype(dtype, copy=False)
        if block.weight is not None:
            root = np.sqrt(block.weight, dtype=dtype)
            x, y = x * root, y * root
        # The same array twice: numpy then computes one half of the product only.
        gram += np.matmul(x, x.T, out=product)
        right += y @ x.T
    return gram, right


def _residual_sums(rows: Rows, parameters: DataArray, shift: DataArray) -> tuple[Array, float]:
    """With x - shift for x and r = y - P x: the sums of weight r x^T, (m, q), and weight r^2."""
    total, squares = np.zeros(parameters.shape), 0.0
    at_home = not shift.any()
    for block in rows.blocks():
        x = block.x.astype(shift.dtype, copy=False)
        if not at_home:
            x = x - shift[:, None]
        residual = block.y - parameters @ x
        weighted = residual if block.weight is None else residual * block.weight
        squares += float(np.multiply(residual, weighted).sum(axis=1).astype(np.float64).sum())
        total += weighted @ x.T
    return total, squares


def _centring(rows: Rows, columns: NDArray[np.intp] | slice) -> Centring:
    """Means and largest deviations of some of the columns, over the rows that have a weight."""
    count = len(np.arange(rows.inputs)[columns])
    x_sum, y_sum = np.zeros(count), np.zeros(rows.outputs)
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    total = 0.0
    for block in rows.blocks():
        x, y, weight = _with_weight(block, columns)
        x_sum += x @ weight
        y_sum += y @ weight
        total += float(weight.sum())
        np.minimum(low, x.min(axis=1, initial=np.inf), out=low)
        np.maximum(high, x.max(axis=1, initial=-np.inf), out=high)
    # Between the ends also after rounding: the mean of equal values is that value.
    mean = np.clip(x_sum / total, low, high)
    scale = np.maximum(high - mean, mean - low)
    constant = scale <= 4 * EPSILON * np.abs(mean) + SPREAD_MIN
    scale[constant] = 1.0
    return Centring(mean, scale, constant, y_sum / total)


def _with_weight(block: Block, columns: NDArray[np.intp] | slice) -> tuple[Array, Array, Array]:
    """Some columns of x, y and weight, in float64, of the rows with a weight above 0."""
    x, y = block.x[columns], block.y
    if block.weight is None:
        weight = np.ones(x.shape[1])
    else:
        kept = block.weight > 0
        x, y, weight = x[:, kept], y[:, kept], block.weight[kept]
    return (
        x.astype(np.float64, copy=False),
        y.astype(np.float64, copy=False),
        weight.astype(np.float64, copy=False),
    )


def _from_triangle(rows: Rows, l2: float, *, refine: bool) -> Array:
    """P by a rank-revealing SVD of the triangle that orthogonal reduction leaves of the rows."""
    width = rows.inputs + 1
    centring = _centring(rows, slice(rows.inputs))
    scale = centring.scale
    triangle = _triangle(rows, centring)
    if not np.isfinite(triangle).all():
        return np.full((rows.outputs, width), np.nan)
    weights, rank = _minimum_norm(
        triangle[1:width, 1:width],
        triangle[1:width, width:],
        np.sqrt(rows.total * l2) / scale,
        scale,
        tolerance=EPSILON * max(rows.total, rows.inputs),
    )
    weights[centring.constant] = 0.0
    offset = (triangle[0, width:] - triangle[0, 1:width] @ weights) / triangle[0, 0]
    w = (weights / scale[:, None]).T
    b = centring.y_mean + offset - w @ centring.x_mean
    parameters = np.column_stack((w, b))
    if refine and rank == rows.inputs - centring.constant.sum():
        return _refined(rows, l2, centring, parameters)
    return parameters


def _triangle(rows: Rows, centring: Centring) -> Array:
    """The upper triangle R (q + m, q + m) with R^T R = A^T A for A = [1 X Y], centred and scaled.

    The ones come first: what is right of their column and below their row is centred to the last
    digit, whatever rounding left of the means. Householder reflections of [R; block], block after
    block, are as stable as those of all rows at once (Demmel et al. 2012, TSQR).
    """
    width = rows.inputs + 1
    size = width + rows.outputs
    triangle = np.zeros((size, size), order="F")
    for x, y, weight in rows.blocks():
        block = np.ones((size, x.shape[1]))
        np.subtract(x[:-1], centring.x_mean[:, None], out=block[1:width])
        block[1:width] /= centring.scale[:, None]
        block[1:width][centring.constant] = 0.0
        np.subtract(y, centring.y_mean[:, None], out=block[width:])
        if weight is not None:
            block *= np.sqrt(weight, dtype=np.float64)
        triangle, _, _, _ = linalg.lapack.dtpqrt(
            0, min(PANEL, size), triangle, block.T, overwrite_a=True, overwrite_b=True
        )
    return triangle


def _minimum_norm(
    x: Array, y: Array, penalty: Array, scale: Array, *, tolerance: float
) -> tuple[Array, int]:
    """Weights (n, m) by a rank-revealing SVD; of several, those of smallest |weights / scale|.

    Also the rank. It is decided on columns of unit length, where it does not depend on units. What
    the data leave open, the null space, then makes the weights small in the units of the caller;
    whatever rounding does there, the fit stays the same.
    """
    if not len(scale):
        return np.zeros((0, y.shape[1])), 0
    if penalty.any():
        x = np.vstack((x, np.diag(penalty)))
        y = np.vstack((y, np.zeros((len(penalty), y.shape[1]))))
    length = np.sqrt(np.einsum("ij,ij->j", x, x))
    length[length == 0.0] = 1.0
    u, s, vt = linalg.svd(x / length, full_matrices=False)
    rank = int(np.sum(s > tolerance * s[0]))
    units = 1.0 / (length * scale)[:, None]
    fitted = vt[:rank].T @ ((u[:, :rank].T @ y) / s[:rank, None])
    if rank < x.shape[1]:
        open_ways = vt[rank:].T
        fitted -= open_ways @ linalg.lstsq(units * open_ways, units * fitted)[0]
    return fitted / length[:, None], rank


def _refined(rows: Rows, l2: float, centring: Centring, parameters: Array) -> Array:
    """P with its digits restored, for columns that are independent.

    P and the residuals r are both unknowns: r + A P = y, A^T W r = 0, on the columns as they are.
    The corrections come from a QR of the centred columns, the right sides from sums in twice the
    precision. Source: Bjorck 1967, iterative refinement of linear least squares solutions.
    """
    x, y, weight = _gathered(rows, l2)
    kept = np.append(~centring.constant, True)
    x, p = x[kept], parameters[:, kept]
    mean = np.append(centring.x_mean[~centring.constant], 0.0)[:, None]
    scale = np.append(centring.scale[~centring.constant], 1.0)[:, None]
    root = np.sqrt(weight)
    q, r = linalg.qr((root * (x - mean * x[-1]) / scale).T, mode="economic", check_finite=False)
    solve = partial(linalg.solve_triangular, r, check_finite=False)
    residual = y - p @ x
    before = np.inf
    for _ in range(REFINEMENT_STEPS_MAX):
        lack = root * _lack(x, y, p, residual)
        slope = -sum_of_products(x, (weight * residual)[:, None])
        across = solve((slope.T - mean * slope[:, -1]) / scale, trans="T")
        along = q.T @ lack.T
        step = solve(along - across)
        size = np.abs(step).max()
        # Where rounding is all that is left, steps no longer shrink; nan ends it too.
        if not size < 0.25 * before:
            break
        before = size
        residual += (lack - (q @ (along - across)).T) / root
        step /= scale
        step[-1] -= mean[:-1, 0] @ step[:-1]
        p = p + step.T
    refined = parameters.copy()
    refined[:, kept] = p
    return refined


def _gathered(rows: Rows, l2: float) -> tuple[Array, Array, Array]:
    """x (q, k), y (m, k) and weight (k,) of the rows that have a weight, and of the penalty."""
    width = rows.inputs + 1
    penalty = np.eye(width)[:, : rows.inputs if l2 else 0] * np.sqrt(rows.total * l2)
    parts = [(penalty, np.zeros((rows.outputs, penalty.shape[1])), np.ones(penalty.shape[1]))]
    for block in rows.blocks():
        x, y, weight = _with_weight(block, slice(width))
        # A streamed block holds only until the next one is taken.
        parts.append((x.copy(), y.copy(), weight.copy()))
    x, y, weight = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return x, y, weight


def _lack(x: Array, y: Array, p: Array, residual: Array) -> Array:
    """y - r - P x, (m, k), in twice the precision."""
    outputs, count = y.shape
    ones = np.ones((outputs, count, 1))
    return sum_of_products(
        np.dstack((np.broadcast_to(x.T, (outputs, *x.T.shape)), y, residual)),
        np.dstack((np.broadcast_to(-p[:, None], (outputs, count, len(x))), ones, -ones)),
    )

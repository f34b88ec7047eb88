"""Quadratic models of the smooth part of f, and where they and l1 |w|_1 together are lowest.

    model(d) = slope . d + scale/2 d^T H d + l1 |w + d|_1        w + d >= 0 where that is asked for

b is not penalised: it follows from w in closed form and leaves a problem in w alone, which lasso
solves. Nothing in it depends on the units of the features: H is brought to unit diagonal.
"""

from typing import NamedTuple

import numpy as np

from app.numeric.activations import Array
from app.numeric.cholesky import factorised, solved
from app.numeric.lasso import Quadratic, lowest

EPSILON = float(np.finfo(np.float64).eps)
# What b leaves of a column is constant, if it is no more than so many roundings of its length.
ROUNDINGS = 4.0


class Model(NamedTuple):
    """H of some outputs, `a` of them, without their b; k = a n weights.

    `matrix` (k, k) has unit diagonal: it was multiplied on both sides by `unit` (k,), the inverse
    square roots of its diagonal, 0 where a feature is constant. With H_bb of the b and H_bw between
    them and w, `coupling` (a, k) is H_bb^-1 H_bw and `inverse` (a, a) is H_bb^-1.
    """

    matrix: Array
    unit: Array
    coupling: Array
    inverse: Array


class Penalty(NamedTuple):
    """What else counts: l1 |w|_1, and w >= 0."""

    l1: float
    non_negative: bool


class Lowest(NamedTuple):
    """Rows of P where a model is lowest, and by how much it is lower there than at d = 0."""

    rows: Array
    gain: float


def model_of(matrix: Array, centre: Array, outputs: int = 1) -> Model | None:
    """The model of H (a (n + 1), a (n + 1)), output by output; None if H is not finite.

    H is that of rows x - centre, (n + 1,).
    Where softmax ties outputs together, the same shift of all b changes nothing and H_bb is
    singular there: it gets something added. The slope has no part there, so nothing else changes.
    """
    if not np.isfinite(matrix).all():
        return None
    side = len(matrix) // outputs
    whole = matrix.reshape(outputs, side, outputs, side)
    size = outputs * (side - 1)
    own = whole[:, :-1, :, :-1].reshape(size, size)
    biases = whole[:, -1, :, -1].copy()
    if outputs > 1:
        biases += np.trace(biases) / outputs**2
    inverse = _inverse(biases)
    crossed = whole[:, -1, :, :-1].reshape(outputs, size)
    coupling = inverse @ crossed
    left = own - crossed.T @ coupling
    diagonal = left.diagonal()
    varies = diagonal > ROUNDINGS * side * EPSILON * own.diagonal()
    unit = np.where(varies, 1.0 / np.sqrt(np.where(varies, diagonal, 1.0)), 0.0)
    left *= unit
    left *= unit[:, np.newaxis]
    np.einsum("ii->i", left)[:] = 1.0
    # With z = w (x - centre) + b', b is b' - w centre.
    coupling += np.kron(np.eye(outputs), centre[:-1])
    return Model(left, unit, coupling, inverse)


def _inverse(biases: Array) -> Array:
    """The inverse of H_bb; 0 if it overflowed."""
    factor = factorised(biases)
    if factor is None:
        return np.zeros_like(biases)
    return np.column_stack([solved(factor, column) for column in np.eye(len(biases))])


def lowest_rows(
    model: Model, rows: Array, slope: Array, penalty: Penalty, scale: float = 1.0
) -> Lowest:
    """The rows (a, n + 1) of P near `rows` where the model with this slope is lowest.

    The weights there may be 0 exactly.
    """
    matrix, unit, coupling, inverse = model
    w, b = rows[:, :-1].ravel(), rows[:, -1]
    slope_w, slope_b = slope[:, :-1].ravel() / scale, slope[:, -1] / scale
    l1 = penalty.l1 / scale
    pull = (slope_w - slope_b @ coupling) * unit
    start = np.divide(w, unit, out=np.zeros_like(w), where=unit > 0.0)
    linear = pull - matrix @ start
    allowed = np.maximum(start, 0.0) if penalty.non_negative else start
    v = lowest(Quadratic(matrix, linear, l1 * unit, penalty.non_negative), allowed)
    new_w = v * unit
    step = v - start
    new_b = b - inverse @ slope_b - coupling @ (new_w - w)
    fall = 0.5 * float(slope_b @ inverse @ slope_b)
    fall -= float(pull @ step) + 0.5 * float(step @ matrix @ step)
    fall -= l1 * float(np.abs(new_w).sum() - np.abs(w).sum())
    found = np.column_stack((new_w.reshape(len(b), -1), new_b))
    return Lowest(found, scale * fall)


def unshifted(w: Array, l2: float, penalty: Penalty) -> Array:
    """The w (m, n) of softmax, each feature shifted alike in all outputs to where it costs least.

    No probability changes with such a shift s, but l1 |w - s|_1 + l2/2 |w - s|^2 does. With k of m
    weights below s its slope is 0 at s_k = (sum w - l1/l2 (2 k - m)) / m, and it is lowest at the
    median of all weights and all s_k (Li and Osher 2009).
    """
    l1, outputs = penalty.l1, len(w)
    if not (l1 or l2):
        return w
    if penalty.non_negative:
        shift = w.min(axis=0)
    elif not l2:
        ordered = np.sort(w, axis=0)
        shift = np.clip(0.0, ordered[(outputs - 1) // 2], ordered[outputs // 2])
    else:
        below = np.arange(outputs + 1)[:, np.newaxis]
        level = (w.sum(axis=0) - l1 / l2 * (2 * below - outputs)) / outputs
        shift = np.median(np.vstack((w, level)), axis=0)
    result: Array = w - shift
    return result

"""Quadratic functions with a penalty on absolute values: their lowest point, with exact zeros.

    q(v) = 1/2 v^T S v + c^T v + sum_k p_k |v_k|        and v >= 0 where that is asked for

Coordinate descent finds which entries are not 0, and with which sign; linear systems on them then
give all digits at once. Where an entry would change its sign on the way to a solution, the lowest
place on the way is taken and the system solved anew without it. Each part lowers q, so that they
cannot turn in circles.

Sources: coordinate descent Friedman, Hastie and Tibshirani 2010; the way to the solution Lee,
Battle, Raina and Ng 2006 (feature-sign search) and, with v >= 0, Lawson and Hanson 1974.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.numeric.activations import Array
from app.numeric.cholesky import factorised, solved

ROUNDS_MAX = 500
# A residual of so many roundings of its terms is as small as it gets.
ROUNDINGS = 8.0
EPSILON = float(np.finfo(np.float64).eps)


class Quadratic(NamedTuple):
    """S (k, k) symmetric, its diagonal 1; c (k,); the penalties p (k,), none below 0."""

    matrix: Array
    linear: Array
    penalty: Array
    non_negative: bool


def lowest(problem: Quadratic, start: Array) -> Array:
    """The v (k,) that minimises q, of several one near `start` (k,), which must be allowed."""
    matrix, linear, penalty, _ = problem
    v = start.copy()
    for _ in range(ROUNDS_MAX):
        slope = matrix @ v + linear
        residual = kkt_residual(problem, v, slope)
        terms = np.abs(linear).max(initial=0.0) + np.abs(v).sum() + penalty.max(initial=0.0)
        wrong = residual > ROUNDINGS * EPSILON * terms
        if not wrong.any():
            break
        fall = 0.0
        if (wrong & (v == 0.0)).any():
            fall = descend(problem, v, slope, np.flatnonzero(wrong | (v != 0.0)))
        fall += solve(problem, v, slope)
        if not fall > EPSILON * float(np.abs(linear) @ np.abs(v)):
            break
    return v


def kkt_residual(problem: Quadratic, v: Array, slope: Array) -> Array:
    """How far each entry is from being lowest, (k,): the distance of 0 from the slopes of q."""
    pushed = slope + problem.penalty
    if problem.non_negative:
        return np.where(v > 0.0, np.abs(pushed), np.maximum(-pushed, 0.0))
    at_zero = np.maximum(np.abs(slope) - problem.penalty, 0.0)
    return np.where(v == 0.0, at_zero, np.abs(slope + np.sign(v) * problem.penalty))


def descend(problem: Quadratic, v: Array, slope: Array, entries: NDArray[np.intp]) -> float:
    """Puts each of some entries at its lowest, one after the other; `slope` follows. In place.

    Gives a bound from below of how much q falls.
    """
    matrix, penalties = problem.matrix, problem.penalty.tolist()
    fall = 0.0
    for entry in entries.tolist():
        old, penalty = float(v[entry]), penalties[entry]
        new = old - float(slope[entry])
        if new > penalty:
            new -= penalty
        elif new < -penalty and not problem.non_negative:
            new += penalty
        else:
            new = 0.0
        if new != old:
            v[entry] = new
            slope += (new - old) * matrix[entry]
            fall += 0.5 * (new - old) ** 2
    return fall


def solve(problem: Quadratic, v: Array, slope: Array) -> float:
    """Moves the entries that are not 0 to where q is lowest with their signs, in place.

    An entry that reaches 0 on the way stays there. Gives by how much q falls.
    """
    entries = np.flatnonzero(v)
    fall = 0.0
    while len(entries):
        old = v[entries]
        new, further = _solved(problem, entries, old, slope[entries])
        step = new - old
        change = problem.matrix[entries].T @ step
        fall -= float(step @ (slope[entries] + 0.5 * change[entries]))
        fall -= float(problem.penalty[entries] @ (np.abs(new) - np.abs(old)))
        v[entries] = new
        slope += change
        if not further:
            break
        entries = entries[new != 0.0]
    return fall


def _solved(
    problem: Quadratic, entries: NDArray[np.intp], old: Array, slope: Array
) -> tuple[Array, bool]:
    """Where to move some entries, and whether the search goes on from there."""
    penalty, signs = problem.penalty[entries], np.sign(old)
    matrix = problem.matrix[np.ix_(entries, entries)]
    factor = factorised(matrix)
    if factor is None:
        return old, False
    way = -solved(factor, slope + signs * penalty)
    new = old + way
    crossing = (new * signs <= 0.0) & ((penalty > 0.0) | problem.non_negative)
    if not crossing.any():
        return new, False

    def change(there: Array) -> float:
        step = there - old
        curved = float(step @ (slope + 0.5 * (matrix @ step)))
        return curved + float(penalty @ (np.abs(there) - np.abs(old)))

    # All at once, if that is lower: often so where many crossed only because of each other.
    cut = np.where(crossing, 0.0, new)
    if change(cut) < 0.0:
        return cut, True
    places = -old[crossing] / way[crossing]
    if problem.non_negative:
        place = float(places.min())
    else:
        curved, along = 0.5 * float(way @ matrix @ way), float(slope @ way)
        passed = np.abs(old + places[:, np.newaxis] * way) @ penalty
        place = float(places[(places * (places * curved + along) + passed).argmin()])
    new = old + place * way
    new[np.flatnonzero(crossing)[places == place]] = 0.0
    return (np.maximum(new, 0.0) if problem.non_negative else new), True

"""Linear equations within limits: the nearest solution, or the nearest miss with its proof.

    minimise 1/2 |x - start|^2   subject to   a x = d,   low <= x <= high

Shapes: a (m, n), d (m,); start, low, high, x (n,). Limits may be infinite; low == high freezes a
feature.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import linalg, optimize

from app.numeric.activations import Array

EPSILON = float(np.finfo(np.float64).eps)
# A residual counts as zero below this share of the terms that it is the difference of.
REACHED = 1e-11
NEWTON_STEPS_MAX = 60
LINE_STEPS_MAX = 40
DOUBLINGS_MAX = 10
# Dual values beyond this many times the data belong to equations without a solution.
DUAL_MAX = 1e13


class Equations(NamedTuple):
    """a x = d; `size` (m,) is the size of the terms of d, whose rounding it carries."""

    a: Array
    d: Array
    size: Array

    def misses(self, x: Array) -> bool:
        """Whether some equation is off by more than rounding."""
        terms = self.size + np.abs(self.a) @ np.abs(x)
        return bool((np.abs(self.a @ x - self.d) > REACHED * terms).any())


class Limits(NamedTuple):
    """low <= x <= high, each (n,)."""

    low: Array
    high: Array

    @property
    def free(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """The features that can move."""
        return np.asarray(self.low < self.high)

    def clip(self, x: Array) -> Array:
        """The nearest point within."""
        return np.clip(x, self.low, self.high)

    def at(self, features: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> "Limits":
        """The limits of some features."""
        return Limits(self.low[features], self.high[features])


class Search(NamedTuple):
    """An x if one was found, and whether it is proved that none within limits reaches d."""

    x: Array | None
    excluded: bool


def nearest_solution(equations: Equations, start: Array, limits: Limits) -> Search:
    """The solution nearest to start, if one is found."""
    free, x = limits.free, limits.clip(start)
    if not free.any():
        missed = equations.misses(x)
        return Search(None if missed else x, excluded=missed)
    rest = equations.d - equations.a[:, ~free] @ x[~free]
    moving = Equations(equations.a[:, free], rest, equations.size)
    found = _nearest_free(moving, start[free], limits.at(free))
    if found.x is None:
        return found
    x[free] = found.x
    return Search(None if equations.misses(x) else x, excluded=False)


def nearest_miss(equations: Equations, start: Array, limits: Limits) -> Array:
    """The x within limits of smallest |a x - d|; of several, the nearest to start if found."""
    free, x = limits.free, limits.clip(start)
    if free.any():
        low, high = limits.at(free)
        moves = optimize.lsq_linear(
            equations.a[:, free],
            equations.d - equations.a @ x,
            (low - x[free], high - x[free]),
            method="bvls",
            tol=1e-14,
        )
        x[free] = np.clip(x[free] + moves.x, low, high)
        nearer = nearest_solution(equations._replace(d=equations.a @ x), start, limits).x
        x = x if nearer is None else nearer
    return x


def is_separated(a: Array, residual: Array, x: Array, limits: Limits) -> bool:
    """Whether the residual r = a x - d (m,) proves that no x' within limits has a x' = d (Farkas).

    Every x' has r (a x' - d) >= |r|^2 - gap, where gap sums what moving each feature to its better
    limit could win. The caller sees to it that r is more than rounding.
    """
    slope = residual @ a
    # What rounding leaves of a zero must not be multiplied by an infinite limit.
    slopes = np.abs(slope) > REACHED * (np.abs(residual) @ np.abs(a))
    way = x[slopes] - np.where(slope > 0, limits.low, limits.high)[slopes]
    gap = np.abs(slope[slopes] * way).sum()
    return bool(gap < 0.5 * residual @ residual)


def _nearest_free(equations: Equations, start: Array, limits: Limits) -> Search:
    """`nearest_solution` where every feature can move."""
    length = np.sqrt(np.einsum("ij,ij->i", equations.a, equations.a))
    length[length == 0.0] = 1.0
    u, s, vt = linalg.svd(equations.a / length[:, None], full_matrices=False)
    rank = int(np.sum(s > 4 * EPSILON * max(equations.a.shape) * s.max(initial=EPSILON)))
    unit = equations.d / length
    right = u[:, :rank].T @ unit
    # What dependent equations ask beyond the others is out of reach for any x.
    lost = np.abs(unit - u[:, :rank] @ right)
    if (lost > REACHED * (np.abs(unit).max(initial=0.0) + equations.size / length)).any():
        return Search(None, excluded=True)
    found = _newton(vt[:rank], right / s[:rank], start, limits)
    return found if found.x is None else Search(_polished(equations, found.x, limits), False)


def _newton(q: Array, right: Array, start: Array, limits: Limits) -> Search:
    """The nearest x with q x = right, q (r, n) of orthonormal rows, by Newton on the dual.

    x(p) = clip(start + q^T p); q x(p) - right is the slope of a convex, piecewise quadratic
    function of p with curvature q_I q_I^T over the features I strictly inside. The ridge makes the
    step defined where too few are inside and fades with the residual.
    Source: Qi and Sun 2006, A Quadratically Convergent Newton Method for Computing the Nearest
    Correlation Matrix: the same dual, with a box in place of the cone.
    """
    p = right - q @ start
    x = start + p @ q
    if (limits.clip(x) == x).all():
        return Search(x, excluded=False)
    p = np.zeros_like(right)
    reach = np.abs(right).max(initial=0.0) + np.abs(start).max()
    previous = np.inf
    for _ in range(NEWTON_STEPS_MAX):
        unlimited = start + p @ q
        x = limits.clip(unlimited)
        slope = q @ x - right
        size, scale = np.abs(slope).max(initial=0.0), reach + np.abs(x).max()
        if size <= 8 * EPSILON * scale or previous <= 2 * size <= 1e-9 * scale:
            return Search(x, excluded=False)
        if size > 1e-9 * scale and is_separated(q, slope, x, limits):
            return Search(None, excluded=True)
        if np.abs(p).max() > DUAL_MAX * scale:
            break
        inside = q[:, unlimited == x]
        curvature, basis = np.linalg.eigh(inside @ inside.T)
        ridge = max(1e-3 * min(1.0, size / scale), EPSILON)
        step = -basis @ ((basis.T @ slope) / (np.maximum(curvature, 0.0) + ridge))

        def slope_along(t: float, p: Array = p, step: Array = step) -> float:
            return float((q @ limits.clip(start + (p + t * step) @ q) - right) @ step)

        p = p + _step_length(slope_along) * step
        previous = size
    return Search(None, excluded=False)


def _step_length(slope_along: Callable[[float], float]) -> float:
    """A t where a convex function still falls, at no more than half its first slope (weak Wolfe).

    Only slopes are read, so the rounding of values cannot stop the search.
    """
    first = slope_along(0.0)
    low, high, t = 0.0, np.inf, 1.0
    for _ in range(LINE_STEPS_MAX):
        slope = slope_along(t)
        if slope > -1e-6 * first:
            high = t
        elif slope < 0.5 * first:
            low = t
        else:
            return t
        if high == np.inf and t >= 2.0**DOUBLINGS_MAX:
            return t
        t = 2.0 * t if high == np.inf else 0.5 * (low + high)
    return low or t


def _polished(equations: Equations, x: Array, limits: Limits) -> Array:
    """x with the last rounding of the equations removed by the features strictly inside."""
    inside = (x > limits.low) & (x < limits.high)
    residual = equations.d - equations.a @ x
    if not inside.any() or not residual.any():
        return x
    moved = x.copy()
    moved[inside] += linalg.lstsq(equations.a[:, inside], residual)[0]
    moved = limits.clip(moved)
    better = np.abs(equations.d - equations.a @ moved).max() < np.abs(residual).max()
    return moved if better else x

"""The way back: an input for a wanted output, with w, b and sigma fixed.

Works in the encoded space, on one row. Shapes: w (m, n), b (m,); start, low, high, x (n,); target,
y (m,).
A target of nan leaves that output free. Limits may be infinite; low == high freezes a feature.
For a strictly monotone sigma, y = target is w x + b = sigma^-1(target): linear in x.
"""

from enum import StrEnum
from typing import NamedTuple

import numpy as np

from app.numeric.activations import ACTIVATIONS, Activation, Array, pullback
from app.numeric.box import Equations, Limits, is_separated, nearest_miss, nearest_solution
from app.numeric.costs import COSTS
from app.numeric.errors import LimitsConflict, NotInvertible, OutOfRange, ShapeError
from app.numeric.layer import Layer, forward


class Status(StrEnum):
    """What is known of an answer; each method says what it claims.

    OPTIMAL: reached, and no nearer input does. FEASIBLE: reached. INFEASIBLE: proved out of reach.
    """

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    STEP_LIMIT = "step_limit"


class Inversion(NamedTuple):
    """x (n,) and what it gives: y (m,), all outputs, and C over the wanted ones.

    `trace` (steps + 1,) is C from the first point to the last. `multipliers` (n,), exact method
    only: by how much moving the limit that holds a feature outward lowers what was minimised, per
    unit; 0 where none holds it.
    Minimised was 1/2 |x - start|^2 if OPTIMAL, 1/2 |w x + b - z*|^2 if INFEASIBLE, else None is
    given.
    """

    status: Status
    x: Array
    y: Array
    cost: float
    steps: int
    trace: Array
    multipliers: Array | None


def invert_exact(layer: Layer, start: Array, target: Array, low: Array, high: Array) -> Inversion:
    """The input nearest to start that gives the target, or the nearest attainable one.

    OPTIMAL: smallest |x - start| of all within the limits. INFEASIBLE: no x within the limits
    reaches the target, and x has the smallest |w x + b - sigma^-1(target)|. Between the two, where
    rounding hides which it is: FEASIBLE if x reaches the target, STEP_LIMIT if not.
    Raises NotInvertible, OutOfRange for a target not inside the open range, LimitsConflict,
    ShapeError.
    """
    sigma, limits = ACTIVATIONS[layer.activation], Limits(low, high)
    if sigma.inverse is None or not sigma.strictly_monotone:
        raise NotInvertible(layer.activation)
    _check_shapes(layer, start, target, limits)
    _check_range(target, sigma, closed=False)
    wanted = ~np.isnan(target)
    z_wanted, b = sigma.inverse(target[wanted]), layer.b[wanted]
    equations = Equations(layer.w[wanted], z_wanted - b, np.abs(z_wanted) + np.abs(b))
    multipliers: Array | None
    x, excluded = nearest_solution(equations, start, limits)
    if x is not None:
        status = Status.OPTIMAL
        multipliers = _multipliers_of_nearness(equations.a, x - start, x, limits)
    else:
        x = nearest_miss(equations, start, limits)
        status = _status_of_miss(equations, x, limits, excluded=excluded)
        slope = (equations.a @ x - equations.d) @ equations.a
        multipliers = _held(slope, x, limits) if status is Status.INFEASIBLE else None
    y = _output(layer, x)
    trace = np.array([_cost(_output(layer, start), target), _cost(y, target)])
    return Inversion(status, x, y, float(trace[-1]), 1, trace, multipliers)


def invert_gradient(
    layer: Layer,
    start: Array,
    target: Array,
    low: Array,
    high: Array,
    *,
    learning_rate: float | None,
    steps_max: int,
    tolerance: float,
) -> Inversion:
    """x <- clip(x - rate w^T sigma'(z) (y_hat - target)) from clip(start), for any activation.

    FEASIBLE once every wanted output is within tolerance * max(1, |target|), else STEP_LIMIT, also
    when x stands still earlier. learning_rate None is 1 / (curvature |w|_2^2) over the wanted
    outputs, with which C never rises; where the curvature has no bound, it is that of the start,
    halved whenever C would rise.
    A step that would leave the finite numbers is not taken and ends the run.
    Raises OutOfRange for a target outside the closed range, LimitsConflict, ShapeError.
    """
    sigma, limits = ACTIVATIONS[layer.activation], Limits(low, high)
    _check_shapes(layer, start, target, limits)
    _check_range(target, sigma, closed=True)
    # Softmax ties the outputs together: those that may be anything are computed all the same.
    wanted = ~np.isnan(target) if sigma.elementwise else np.full(len(target), True)
    part = Layer(layer.w[wanted], layer.b[wanted], layer.activation)
    goal = target[wanted]
    near = tolerance * np.maximum(1.0, np.abs(goal))
    x = limits.clip(start)
    z, y = _point(part, sigma, x)
    rate = _automatic_rate(part, sigma, z, y) if learning_rate is None else learning_rate
    halving = learning_rate is None and not np.isfinite(_curvature(sigma))
    trace = [_cost(y, goal)]
    reached = _is_near(y, goal, near)
    while not reached and len(trace) <= steps_max:
        moved = limits.clip(_descended(part, sigma, x, z, y, goal, rate))
        z_moved, y_moved = _point(part, sigma, moved)
        cost = _cost(y_moved, goal)
        if (moved == x).all():
            break
        if halving and not cost <= trace[-1]:
            rate *= 0.5
            continue
        if not (np.isfinite(moved).all() and np.isfinite(cost)):
            break
        x, z, y = moved, z_moved, y_moved
        trace.append(cost)
        reached = _is_near(y, goal, near)
    status = Status.FEASIBLE if reached else Status.STEP_LIMIT
    return Inversion(
        status, x, _output(layer, x), trace[-1], len(trace) - 1, np.array(trace), multipliers=None
    )


def attainable(layer: Layer, low: Array, high: Array) -> tuple[Array, Array]:
    """The least and greatest value of each output over the box, (m,) each.

    Exact by interval arithmetic up to rounding: sigma rises, and z is least with every feature at
    the limit that its weight asks for. A weight of 0 asks for none, even if the limit is infinite.
    Raises NotInvertible where outputs depend on each other (softmax), LimitsConflict, ShapeError.
    """
    if not ACTIVATIONS[layer.activation].elementwise:
        raise NotInvertible(layer.activation)
    limits = Limits(low, high)
    _check_limits(layer, limits)
    up = np.maximum(layer.w, 0.0)
    down = np.minimum(layer.w, 0.0)
    forward_z = ACTIVATIONS[layer.activation].forward
    least = layer.b + _sum_of_products(up, low) + _sum_of_products(down, high)
    greatest = layer.b + _sum_of_products(up, high) + _sum_of_products(down, low)
    return forward_z(least), forward_z(greatest)


def _sum_of_products(w: Array, limit: Array) -> Array:
    products = np.zeros_like(w)
    np.multiply(w, limit, out=products, where=w != 0.0)
    total: Array = products.sum(axis=1)
    return total


def _status_of_miss(equations: Equations, x: Array, limits: Limits, *, excluded: bool) -> Status:
    if not equations.misses(x):
        return Status.FEASIBLE
    residual = equations.a @ x - equations.d
    proved = excluded or is_separated(equations.a, residual, x, limits)
    return Status.INFEASIBLE if proved else Status.STEP_LIMIT


def _multipliers_of_nearness(a: Array, change: Array, x: Array, limits: Limits) -> Array:
    """change = a^T p + what the limits hold back; p from the features that nothing holds."""
    inside = (x > limits.low) & (x < limits.high)
    p = np.linalg.lstsq(a[:, inside].T, change[inside])[0]
    return _held(change - p @ a, x, limits)


def _held(slope: Array, x: Array, limits: Limits) -> Array:
    held = (x <= limits.low) | (x >= limits.high)
    return np.where(held, np.abs(slope), 0.0)


def _point(layer: Layer, sigma: Activation, x: Array) -> tuple[Array, Array]:
    with np.errstate(over="ignore", invalid="ignore"):
        z = layer.w @ x + layer.b
    return z, sigma.forward(z)


@np.errstate(over="ignore", invalid="ignore")
def _descended(
    layer: Layer, sigma: Activation, x: Array, z: Array, y: Array, goal: Array, rate: float
) -> Array:
    residual = np.where(np.isnan(goal), 0.0, y - goal)
    return x - rate * (pullback(sigma, z, y, residual) @ layer.w)


@np.errstate(over="ignore")
def _automatic_rate(layer: Layer, sigma: Activation, z: Array, y: Array) -> float:
    norm = float(np.linalg.norm(layer.w, 2)) if layer.w.size else 0.0
    curvature = _curvature(sigma)
    if not np.isfinite(curvature):
        slope = np.abs(pullback(sigma, z, y, np.ones_like(y))).max(initial=0.0)
        curvature = max(float(slope) ** 2, np.finfo(np.float64).tiny)
    curvature *= norm**2
    return min(1.0 / curvature, 1e300) if curvature else 0.0


def _curvature(sigma: Activation) -> float:
    return COSTS["half_squared_error"].curvature(sigma)


def _is_near(y: Array, goal: Array, near: Array) -> bool:
    return bool(((np.abs(y - goal) <= near) | np.isnan(goal)).all())


def _output(layer: Layer, x: Array) -> Array:
    y: Array = forward(layer, x[None])[0]
    return y


@np.errstate(over="ignore")
def _cost(y: Array, target: Array) -> float:
    return 0.5 * float(np.nansum(np.square(y - target)))


def _check_shapes(layer: Layer, start: Array, target: Array, limits: Limits) -> None:
    m, n = layer.w.shape
    if start.shape != (n,) or target.shape != (m,):
        raise ShapeError(
            f"start must be ({n},) and target ({m},), not {start.shape} and {target.shape}"
        )
    _check_limits(layer, limits)


def _check_limits(layer: Layer, limits: Limits) -> None:
    width = (layer.w.shape[1],)
    if limits.low.shape != width or limits.high.shape != width:
        raise ShapeError(f"limits must be {width}, not {limits.low.shape}, {limits.high.shape}")
    wrong = np.flatnonzero(
        ~(limits.low <= limits.high) | (limits.low == np.inf) | (limits.high == -np.inf)
    )
    if len(wrong):
        feature = int(wrong[0])
        raise LimitsConflict(feature, float(limits.low[feature]), float(limits.high[feature]))


def _check_range(target: Array, sigma: Activation, *, closed: bool) -> None:
    allowed = sigma.output_range
    if closed:
        allowed = COSTS["half_squared_error"].target_range(sigma)
    wrong = np.flatnonzero(~(allowed.contains(target) | np.isnan(target)))
    if len(wrong):
        output = int(wrong[0])
        raise OutOfRange(output, float(target[output]), allowed.low, allowed.high)

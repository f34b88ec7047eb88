"""Down the slope dC/dx: what the third derivative says of an input, step by step.

C = 1/2 sum over outputs of (weight x distance of y from [low, high])^2
dC/dx = w^T J^T residual        x <- clip(x - rate dC/dx)
"""

from typing import NamedTuple

import numpy as np

from app.numeric.activations import ACTIVATIONS, Activation, Array, pullback
from app.numeric.costs import COSTS
from app.numeric.inversion.program import Clock
from app.numeric.inversion.question import Status
from app.numeric.layer import Layer


class Goal(NamedTuple):
    """Intervals of the outputs, (m,) each, in the units of sigma; infinite where all will do.

    `near` (m,): how far beside its interval an output may be to count as reached.
    """

    low: Array
    high: Array
    weight: Array
    near: Array


class Descent(NamedTuple):
    """`trace` (steps + 1,) is C from the first point to the last."""

    status: Status
    x: Array
    trace: Array


def descend(
    layer: Layer,
    start: Array,
    goal: Goal,
    x_low: Array,
    x_high: Array,
    *,
    learning_rate: float | None,
    steps_max: int,
    clock: Clock,
) -> Descent:
    """From clip(start) down, until every output is near its interval: FEASIBLE.

    STEP_LIMIT where the steps or the time are used up, or x stands still before. A learning rate of
    None is 1 / (curvature |weight w|_2^2), with which C never rises; where the curvature has no
    bound, it is that of the start, halved whenever C would rise. A step that would leave the finite
    numbers is not taken and ends the run.
    """
    sigma = ACTIVATIONS[layer.activation]
    x = np.clip(start, x_low, x_high)
    z, y = _point(layer, sigma, x)
    rate = _automatic_rate(layer, sigma, goal, z, y) if learning_rate is None else learning_rate
    halving = learning_rate is None and not np.isfinite(_curvature(sigma))
    trace = [_cost(goal, y)]
    reached = _is_near(goal, y)
    while not reached and len(trace) <= steps_max and clock.seconds:
        with np.errstate(over="ignore", invalid="ignore"):
            slope = pullback(sigma, z, y, np.square(goal.weight) * _residual(goal, y)) @ layer.w
            moved = np.clip(x - rate * slope, x_low, x_high)
        if (moved == x).all() or not np.isfinite(slope).all():
            break
        z_moved, y_moved = _point(layer, sigma, moved)
        cost = _cost(goal, y_moved)
        if halving and not cost <= trace[-1]:
            rate *= 0.5
            continue
        if not (np.isfinite(moved).all() and np.isfinite(cost)):
            break
        x, z, y = moved, z_moved, y_moved
        trace.append(cost)
        reached = _is_near(goal, y)
    return Descent(Status.FEASIBLE if reached else Status.STEP_LIMIT, x, np.array(trace))


def _residual(goal: Goal, y: Array) -> Array:
    """How far each output is beside its interval, with its sign."""
    return np.asarray(y - np.clip(y, goal.low, goal.high))


@np.errstate(over="ignore")
def _cost(goal: Goal, y: Array) -> float:
    return 0.5 * float(np.square(goal.weight * _residual(goal, y)).sum())


def _is_near(goal: Goal, y: Array) -> bool:
    return bool((np.abs(_residual(goal, y)) <= goal.near).all())


def _point(layer: Layer, sigma: Activation, x: Array) -> tuple[Array, Array]:
    with np.errstate(over="ignore", invalid="ignore"):
        z = layer.w @ x + layer.b
    return z, sigma.forward(z)


@np.errstate(over="ignore")
def _automatic_rate(layer: Layer, sigma: Activation, goal: Goal, z: Array, y: Array) -> float:
    asked = np.isfinite(goal.low) | np.isfinite(goal.high)
    w = (goal.weight[:, None] * layer.w)[asked] if sigma.elementwise else layer.w
    norm = float(np.linalg.norm(w, 2)) if w.size else 0.0
    curvature = _curvature(sigma)
    if not np.isfinite(curvature):
        slope = np.abs(pullback(sigma, z, y, np.ones_like(y))).max(initial=0.0)
        curvature = max(float(np.square(slope)), np.finfo(np.float64).tiny)
    curvature *= norm**2 * (1.0 if sigma.elementwise else float(np.square(goal.weight).max()))
    return min(1.0 / curvature, 1e300) if curvature else 0.0


def _curvature(sigma: Activation) -> float:
    return COSTS["half_squared_error"].curvature(sigma)

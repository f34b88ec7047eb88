"""How a step moves the parameters: one row of a table each, for all rows and for mini-batches.

    gradient_descent   P <- P - rate slope(P)
    momentum           v <- k v - rate slope(P),        P <- P + v      Polyak 1964
    nesterov           v <- k v - rate slope(P + k v),  P <- P + v      Sutskever et al. 2013
    adam               Kingma and Ba 2015, algorithm 1, with k as beta1

Shapes: P, slope and velocities are (m, n + 1) of one dtype, all of them written in place: this is
the inner loop. Numbers are floats of Python, so that float32 arrays stay float32.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from app.numeric.rows import DataArray

ADAM_BETA2 = 0.999
ADAM_EPSILON = 1e-8

Velocities = Sequence[DataArray]
Ahead = Callable[[DataArray], None]
Move = Callable[[DataArray, DataArray, float, float, int], None]


class Rule(NamedTuple):
    """An update with its velocities, which it writes.

    `ahead(P)` comes first where the slope is taken elsewhere than at P, and leaves P there.
    `move(P, slope, scale, rate, step)`: the slope of the cost is `scale` times `slope`, so that
    means and clipping need no pass over it; afterwards it holds anything. `step` counts from 1.
    """

    ahead: Ahead | None
    move: Move


class Update(NamedTuple):
    """A rule that remembers so many velocities, made for them and for k.

    `adaptive`: the length of the slope does not tell that of the step, so that a step from rest is
    no plain gradient step.
    """

    velocities: int
    adaptive: bool
    rule: Callable[[Velocities, float], Rule]


def _gradient_descent(_: Velocities, momentum: float) -> Rule:
    del momentum

    def move(p: DataArray, slope: DataArray, scale: float, rate: float, _: int) -> None:
        np.multiply(slope, rate * scale, slope)
        np.subtract(p, slope, p)

    return Rule(None, move)


def _heavy_ball(velocities: Velocities, momentum: float) -> Rule:
    (v,) = velocities

    def move(p: DataArray, slope: DataArray, scale: float, rate: float, _: int) -> None:
        np.multiply(v, momentum, v)
        np.multiply(slope, rate * scale, slope)
        np.subtract(v, slope, v)
        np.add(p, v, p)

    return Rule(None, move)


def _nesterov(velocities: Velocities, momentum: float) -> Rule:
    (v,) = velocities

    def ahead(p: DataArray) -> None:
        np.multiply(v, momentum, v)
        np.add(p, v, p)

    def move(p: DataArray, slope: DataArray, scale: float, rate: float, _: int) -> None:
        np.multiply(slope, rate * scale, slope)
        np.subtract(v, slope, v)
        np.subtract(p, slope, p)

    return Rule(ahead, move)


def _adam(velocities: Velocities, beta1: float) -> Rule:
    """rate m_hat / (sqrt(v_hat) + eps), with the two bias corrections taken out of the arrays."""
    mean, square = velocities
    scratch = np.empty_like(mean)

    def move(p: DataArray, slope: DataArray, scale: float, rate: float, step: int) -> None:
        np.multiply(mean, beta1, mean)
        np.multiply(slope, (1.0 - beta1) * scale, scratch)
        np.add(mean, scratch, mean)
        np.multiply(square, ADAM_BETA2, square)
        np.multiply(slope, slope, slope)
        np.multiply(slope, (1.0 - ADAM_BETA2) * scale**2, slope)
        np.add(square, slope, square)
        root = math.sqrt(1.0 - ADAM_BETA2**step)
        np.sqrt(square, slope)
        np.add(slope, ADAM_EPSILON * root, slope)
        np.divide(mean, slope, slope)
        np.multiply(slope, rate * root / (1.0 - beta1**step), slope)
        np.subtract(p, slope, p)

    return Rule(None, move)


UPDATES: Mapping[str, Update] = MappingProxyType(
    {
        "gradient_descent": Update(0, adaptive=False, rule=_gradient_descent),
        "momentum": Update(1, adaptive=False, rule=_heavy_ball),
        "nesterov": Update(1, adaptive=False, rule=_nesterov),
        "adam": Update(2, adaptive=True, rule=_adam),
    }
)


def shrink(w: DataArray, threshold: float, *, non_negative: bool) -> None:
    """The w' in place that minimises 1/2 |w' - w|^2 + threshold |w'|_1, with w' >= 0 if asked.

    What is set to zero is 0.0 exactly.
    """
    if non_negative:
        np.subtract(w, threshold, w)
        np.maximum(w, 0.0, out=w)
    else:
        np.subtract(w, np.clip(w, -threshold, threshold), w)

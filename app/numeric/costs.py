"""The costs: one row of a table each.

Conventions: z and y are (N, m). `terms` gives C of each row in parts, (N, m), or (N, 1) where
softmax ties the outputs together; C of a row is the sum of its terms, never their average. The mean
over rows is taken where the training objective is made. `delta` gives dC/dz, (N, m).
`terms` takes complex z where the activation does (complex-step checks).
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from scipy import special

from app.numeric.activations import (
    ACTIVATIONS,
    Activation,
    Array,
    OutputRange,
    log1p_exp_minus_abs,
    pullback,
    sigmoid,
    softmax,
)

Curved = Callable[[Array, Array], Array]


class Cost(NamedTuple):
    """A cost and what the rest must know of it.

    `activations` names those it goes with, None means any. `target_range(activation)` is what
    targets may be. `curvature(activation)` bounds d2C/dz2 from above, over all z and all targets in
    that range; infinite without a bound.
    `second_derivative`: the activations with which C is convex in z, and d2C/dz2 (N, m) from (z, y)
    for those that work on each output alone; None for softmax, where it is diag(p) - p p^T.
    """

    terms: Callable[[Activation, Array, Array], Array]
    delta: Callable[[Activation, Array, Array], Array]
    activations: frozenset[str] | None
    target_range: Callable[[Activation], OutputRange]
    curvature: Callable[[Activation], float]
    second_derivative: Mapping[str, Curved | None]


@np.errstate(over="ignore", invalid="ignore")
def _half_squared_error(activation: Activation, z: Array, y: Array) -> Array:
    return 0.5 * np.square(activation.forward(z) - y)


@np.errstate(over="ignore", invalid="ignore")
def _half_squared_error_delta(activation: Activation, z: Array, y: Array) -> Array:
    y_hat = activation.forward(z)
    return pullback(activation, z, y_hat, y_hat - y)


@np.errstate(over="ignore", invalid="ignore")
def _huber(activation: Activation, z: Array, y: Array) -> Array:
    """r^2 / 2 within 1 of the target, |r| - 1/2 beyond (Huber 1964)."""
    residual = activation.forward(z) - y
    sign = np.where(np.real(residual) < 0, -1.0, 1.0)
    size = sign * residual
    return np.where(np.real(size) <= 1.0, 0.5 * np.square(residual), size - 0.5)


@np.errstate(over="ignore", invalid="ignore")
def _huber_delta(activation: Activation, z: Array, y: Array) -> Array:
    y_hat = activation.forward(z)
    return pullback(activation, z, y_hat, np.clip(y_hat - y, -1.0, 1.0))


@np.errstate(over="ignore", invalid="ignore")
def _cross_entropy(activation: Activation, z: Array, y: Array) -> Array:
    """-sum y log p for softmax; for sigmoid -(y log p + (1-y) log(1-p)) of each output.

    The latter as max(z, 0) - y z + log(1 + exp(-|z|)), with max(z, 0) - y z written as one product,
    so that nothing cancels where the cost is near 0.
    """
    if activation.elementwise:
        linear = np.where(np.real(z) > 0, 1.0 - y, -y) * z
        return linear + log1p_exp_minus_abs(z)
    shifted = z - np.real(z).max(axis=-1, keepdims=True)
    log_total = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    terms: Array = (y * (log_total - shifted)).sum(axis=-1, keepdims=True)
    return terms


@np.errstate(invalid="ignore")
def _cross_entropy_delta(activation: Activation, z: Array, y: Array) -> Array:
    """The Jacobian of sigma cancels against dC/dp: what stays is p - y."""
    return (sigmoid(z) if activation.elementwise else softmax(z)) - y


@np.errstate(over="ignore", invalid="ignore")
def _poisson(_: Activation, z: Array, y: Array) -> Array:
    """Half the unit deviance, y log(y / y_hat) - y + y_hat with y_hat = exp(z): never negative."""
    return np.exp(z) - y * z + (special.xlogy(y, y) - y)


@np.errstate(over="ignore", invalid="ignore")
def _poisson_delta(_: Activation, z: Array, y: Array) -> Array:
    return np.exp(z) - y


def is_bounded(activation: str, cost: str) -> bool:
    """Whether the curvature of C has a bound: then there is a rate of descent safe everywhere."""
    return math.isfinite(COSTS[cost].curvature(ACTIVATIONS[activation]))


def _closure(activation: Activation) -> OutputRange:
    low, high, _, _ = activation.output_range
    return OutputRange(low, high, low_open=bool(np.isinf(low)), high_open=bool(np.isinf(high)))


def _sigmoid_curvature(z: Array, _: Array) -> Array:
    p = sigmoid(z)
    return p * (1.0 - p)


@np.errstate(over="ignore")
def _exp_curvature(z: Array, _: Array) -> Array:
    return np.exp(z)


COSTS: Mapping[str, Cost] = MappingProxyType(
    {
        "half_squared_error": Cost(
            terms=_half_squared_error,
            delta=_half_squared_error_delta,
            activations=None,
            target_range=_closure,
            curvature=lambda activation: activation.squared_cost_curvature,
            second_derivative={"identity": lambda z, _: np.ones_like(z)},
        ),
        "cross_entropy": Cost(
            terms=_cross_entropy,
            delta=_cross_entropy_delta,
            activations=frozenset({"sigmoid", "softmax"}),
            target_range=lambda _: OutputRange(0.0, 1.0, False, False),
            # p (1 - p) is at most 1/4, diag(p) - p p^T at most 1/2.
            curvature=lambda activation: 0.25 if activation.elementwise else 0.5,
            second_derivative={"sigmoid": _sigmoid_curvature, "softmax": None},
        ),
        "huber": Cost(
            terms=_huber,
            delta=_huber_delta,
            activations=None,
            target_range=_closure,
            curvature=lambda activation: activation.huber_curvature,
            second_derivative={
                "identity": lambda z, y: (np.abs(z - y) <= 1.0).astype(z.dtype),
            },
        ),
        "poisson": Cost(
            terms=_poisson,
            delta=_poisson_delta,
            activations=frozenset({"exp"}),
            target_range=lambda _: OutputRange(0.0, np.inf, False, True),
            curvature=lambda _: np.inf,
            second_derivative={"exp": _exp_curvature},
        ),
    }
)

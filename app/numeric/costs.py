"""The costs: one row of a table each.

Conventions: z and y are (N, m). `value` gives C of each row, (N,); `delta` gives dC/dz, (N, m). C
is summed over the outputs of a row and never averaged; the mean over rows is taken where the
training objective is made.
`value` takes complex z where the activation does (complex-step checks).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from app.numeric.activations import Activation, Array, OutputRange, log1p_exp_minus_abs, sigmoid


class Cost(NamedTuple):
    """A cost and what the rest must know of it.

    `activations` names those it goes with, None means any. `target_range(activation)` is what
    targets may be.
    `curvature(activation)` bounds d2C/dz2 of one output from above, over all z and all targets in
    that range.
    """

    value: Callable[[Activation, Array, Array], Array]
    delta: Callable[[Activation, Array, Array], Array]
    activations: frozenset[str] | None
    target_range: Callable[[Activation], OutputRange]
    curvature: Callable[[Activation], float]


@np.errstate(over="ignore", invalid="ignore")
def _half_squared_error(activation: Activation, z: Array, y: Array) -> Array:
    residual = activation.forward(z) - y
    total: Array = 0.5 * np.square(residual).sum(axis=1)
    return total


@np.errstate(over="ignore", invalid="ignore")
def _half_squared_error_delta(activation: Activation, z: Array, y: Array) -> Array:
    y_hat = activation.forward(z)
    return activation.derivative(z, y_hat) * (y_hat - y)


@np.errstate(over="ignore", invalid="ignore")
def _cross_entropy(_: Activation, z: Array, y: Array) -> Array:
    """-(y log p + (1-y) log(1-p)), p = sigmoid(z), as max(z, 0) - y z + log(1 + exp(-|z|)).

    max(z, 0) - y z is written as one product, so that nothing cancels where the cost is near 0.
    """
    linear = np.where(np.real(z) > 0, 1.0 - y, -y) * z
    total: Array = (linear + log1p_exp_minus_abs(z)).sum(axis=1)
    return total


@np.errstate(invalid="ignore")
def _cross_entropy_delta(_: Activation, z: Array, y: Array) -> Array:
    """sigma'(z) cancels against dC/dp = (p - y) / (p (1-p)): what stays is p - y."""
    return sigmoid(z) - y


def _closure(activation: Activation) -> OutputRange:
    low, high, _, _ = activation.output_range
    return OutputRange(low, high, low_open=bool(np.isinf(low)), high_open=bool(np.isinf(high)))


COSTS: Mapping[str, Cost] = MappingProxyType(
    {
        "half_squared_error": Cost(
            value=_half_squared_error,
            delta=_half_squared_error_delta,
            activations=None,
            target_range=_closure,
            curvature=lambda activation: activation.squared_cost_curvature,
        ),
        "cross_entropy": Cost(
            value=_cross_entropy,
            delta=_cross_entropy_delta,
            activations=frozenset({"sigmoid"}),
            target_range=lambda _: OutputRange(0.0, 1.0, False, False),
            curvature=lambda _: 0.25,
        ),
    }
)

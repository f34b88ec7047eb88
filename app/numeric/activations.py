"""The activations: one row of a table each.

Conventions: `z` is the pre-activation, `y = sigma(z)`, both of any shape; softmax runs over the
last axis, which counts the outputs. All functions are silent for every finite and infinite z.
`forward` of a smooth activation is analytic code: it takes complex z, so that a complex step
(Squire and Trapp 1998) can check its derivative.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]

# The slope of leaky_relu below 0 (Maas, Hannun and Ng 2013).
LEAK = 0.01


class OutputRange(NamedTuple):
    """An interval of outputs; an infinite end is always open."""

    low: float
    high: float
    low_open: bool
    high_open: bool

    def contains(self, value: ArrayLike) -> NDArray[np.bool_]:
        """Whether each value lies in the interval, in the shape of `value`; nan never does."""
        values = np.asarray(value)
        above = values > self.low if self.low_open else values >= self.low
        below = values < self.high if self.high_open else values <= self.high
        return np.asarray(above & below)


class Activation(NamedTuple):
    """sigma and what the rest must know of it.

    `derivative(z, y)` is sigma'(z), None unless sigma works on each output alone; where y =
    sigma(z) makes it cheaper, z is not read. In the tails of sigmoid and tanh its error is 1e-16
    absolute, not relative. `smooth`: sigma' is continuous.
    `squared_cost_curvature` bounds d2/dz2 of 1/2 (sigma(z) - t)^2 from above, for every z and every
    target t in the closure of the range, and `huber_curvature` that of the Huber cost; infinite
    where there is no bound. An upper bound is all that the descent lemma needs, so it also serves
    where the cost is not convex.
    """

    forward: Callable[[Array], Array]
    derivative: Callable[[Array, Array], Array] | None
    inverse: Callable[[Array], Array] | None
    output_range: OutputRange
    smooth: bool
    squared_cost_curvature: float
    huber_curvature: float

    @property
    def elementwise(self) -> bool:
        """Whether each output depends on its own z alone."""
        return self.derivative is not None


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), right to 2 units in the last place; where exp overflows, y is 0."""
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-z))


def softplus(z: Array) -> Array:
    """log(1 + exp(z)) as max(z, 0) + log1p(exp(-|z|)), precise in both tails."""
    positive = np.real(z) > 0
    return np.where(positive, z, 0.0) + log1p_exp_minus_abs(z)


def log1p_exp_minus_abs(z: Array) -> Array:
    """log(1 + exp(-|z|)), where |z| changes the sign by the real part and so stays analytic."""
    return np.log1p(np.exp(np.where(np.real(z) > 0, -z, z)))


def softmax(z: Array) -> Array:
    """exp(z) over its sum along the last axis, shifted by the maximum so that nothing overflows."""
    with np.errstate(over="ignore"):
        powers = np.exp(z - np.real(z).max(axis=-1, keepdims=True))
    y: Array = powers / powers.sum(axis=-1, keepdims=True)
    return y


def pullback(sigma: Activation, z: Array, y: Array, slope: Array) -> Array:
    """dC/dz = J^T slope for slope = dC/dy, where J is the Jacobian of sigma at z, y = sigma(z).

    Of softmax, J = diag(y) - y y^T.
    """
    pulled: Array
    if sigma.derivative is not None:
        pulled = sigma.derivative(z, y) * slope
    else:
        pulled = y * (slope - (y * slope).sum(axis=-1, keepdims=True))
    return pulled


def _softplus_inverse(y: Array) -> Array:
    return y + np.log(-np.expm1(-y))


def _elu(z: Array) -> Array:
    positive = np.real(z) > 0
    return np.where(positive, z, np.expm1(np.where(positive, 0.0, z)))


def _exp(z: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.exp(z)


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "identity": Activation(
            forward=lambda z: z,
            derivative=lambda z, _: np.ones_like(z),
            inverse=lambda y: y,
            output_range=OutputRange(-np.inf, np.inf, True, True),
            smooth=True,
            squared_cost_curvature=1.0,
            huber_curvature=1.0,
        ),
        # With p = y the second derivative is p (1-p) (p (1-p) + (p-t) (1-2p)): linear in t, so the
        # worst t is 0 or 1, and p^2 (1-p) (2-3p) has its maximum at p = (15 - sqrt 33) / 24. tanh z
        # is 2 sigmoid(2z) - 1.
        "sigmoid": Activation(
            forward=sigmoid,
            derivative=lambda _, y: y * (1.0 - y),
            inverse=special.logit,
            output_range=OutputRange(0.0, 1.0, True, True),
            smooth=True,
            squared_cost_curvature=0.0770293,
            huber_curvature=0.0770293,
        ),
        "tanh": Activation(
            forward=np.tanh,
            derivative=lambda _, y: (1.0 - y) * (1.0 + y),
            inverse=np.arctanh,
            output_range=OutputRange(-1.0, 1.0, True, True),
            smooth=True,
            squared_cost_curvature=16 * 0.0770293,
            huber_curvature=16 * 0.0770293,
        ),
        # s^2 + (softplus(z) - t) s (1-s) with s = sigmoid(z) and t >= 0: largest at t = 0, z =
        # 3.10.
        "softplus": Activation(
            forward=softplus,
            derivative=lambda z, _: sigmoid(z),
            inverse=_softplus_inverse,
            output_range=OutputRange(0.0, np.inf, True, True),
            smooth=True,
            squared_cost_curvature=1.0454,
            huber_curvature=1.0,
        ),
        # For t >= 0 the cost is flat, then has a concave kink at z = 0, then curvature 1.
        "relu": Activation(
            forward=lambda z: np.maximum(z, 0.0),
            derivative=lambda z, _: (z > 0).astype(np.float64),
            inverse=None,
            output_range=OutputRange(0.0, np.inf, False, True),
            smooth=False,
            squared_cost_curvature=1.0,
            huber_curvature=1.0,
        ),
        # The slope jumps up at z = 0 wherever the target is negative: no bound there.
        "leaky_relu": Activation(
            forward=lambda z: np.where(np.real(z) > 0, z, LEAK * z),
            derivative=lambda z, _: np.where(z > 0, 1.0, LEAK),
            inverse=lambda y: np.where(y > 0, y, y / LEAK),
            output_range=OutputRange(-np.inf, np.inf, True, True),
            smooth=False,
            squared_cost_curvature=np.inf,
            huber_curvature=np.inf,
        ),
        # Below 0: 2 exp(2z) - (1 + t) exp(z), largest at t = -1 and z = 0. Above: 1.
        "elu": Activation(
            forward=_elu,
            derivative=lambda z, y: np.where(z > 0, 1.0, 1.0 + np.minimum(y, 0.0)),
            inverse=lambda y: np.where(y > 0, y, np.log1p(np.minimum(y, 0.0))),
            output_range=OutputRange(-1.0, np.inf, True, True),
            smooth=True,
            squared_cost_curvature=2.0,
            huber_curvature=2.0,
        ),
        "exp": Activation(
            forward=_exp,
            derivative=lambda _, y: y,
            inverse=np.log,
            output_range=OutputRange(0.0, np.inf, True, True),
            smooth=True,
            squared_cost_curvature=np.inf,
            huber_curvature=np.inf,
        ),
        # J is at most 1/2, so J^T J at most 1/4; the residuals, each at most 1, weigh the second
        # derivatives: at most sum_k p_k (e_k - p)(e_k - p)^T = J, and J once more.
        "softmax": Activation(
            forward=softmax,
            derivative=None,
            inverse=None,
            output_range=OutputRange(0.0, 1.0, True, True),
            smooth=True,
            squared_cost_curvature=1.25,
            huber_curvature=1.25,
        ),
    }
)

"""One dense layer y = sigma(w x + b), its cost and the three gradients.

Shapes: w (m, n), b (m,), x (N, n), y (N, m).

    z = x w^T + b        y_hat = sigma(z)        delta = dC/dz
    dC_dw = delta^T x    dC_db = sum of delta over rows    dC_dx = delta w
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from app.numeric.activations import ACTIVATIONS, Array
from app.numeric.costs import COSTS
from app.numeric.errors import ShapeError

# Passes over the rows go in pieces that stay in cache; the temporaries of a piece are reused by the
# allocator.
CHUNK_BYTES = 1 << 22
START_MARGIN = 1e-3


class Layer(NamedTuple):
    """A dense layer: w (m, n), b (m,), and the name of its activation."""

    w: Array
    b: Array
    activation: str


class Gradients(NamedTuple):
    """Slopes of C summed over the rows: dC_dw (m, n), dC_db (m,); and of each row: dC_dx (N, n)."""

    dC_dw: Array
    dC_db: Array
    dC_dx: Array


def initial_layer(activation: str, y: Array, inputs: int) -> Layer:
    """A layer that gives every row the mean target: w = 0, b = sigma^-1(mean of y).

    One layer has no symmetry to break, so zeros are right for w. The mean is kept inside the open
    range by 1e-3; relu is the identity where it rises, and from b > 0 every row has a slope: it
    does not start dead. Softmax knows b up to a constant: here it sums to 0.
    """
    sigma = ACTIVATIONS[activation]
    low, high = sigma.output_range.low, sigma.output_range.high
    mean = np.clip(y.mean(axis=0), low + START_MARGIN, high - START_MARGIN)
    if not sigma.elementwise:
        b = np.log(mean) - np.log(mean).mean()
    else:
        b = mean if sigma.inverse is None else sigma.inverse(mean)
    return Layer(np.zeros((y.shape[1], inputs)), b, activation)


@np.errstate(over="ignore", invalid="ignore")
def pre_activation(layer: Layer, x: Array) -> Array:
    """z = x w^T + b, (N, m). Raises ShapeError if x is not (N, n)."""
    if x.ndim != 2 or x.shape[1] != layer.w.shape[1]:
        raise ShapeError(f"x must be (rows, {layer.w.shape[1]}), not {x.shape}")
    z: Array = x @ layer.w.T
    z += layer.b
    return z


def forward(layer: Layer, x: Array) -> Array:
    """y_hat = sigma(x w^T + b), (N, m). Raises ShapeError if x is not (N, n)."""
    return ACTIVATIONS[layer.activation].forward(pre_activation(layer, x))


def delta(layer: Layer, cost: str, x: Array, y: Array) -> Array:
    """dC/dz, (N, m). Raises ShapeError if x, y and the layer do not fit."""
    check_rows(layer, x, y)
    return COSTS[cost].delta(ACTIVATIONS[layer.activation], pre_activation(layer, x), y)


def gradients(layer: Layer, cost: str, x: Array, y: Array) -> Gradients:
    """The three gradients of C, without penalty; the first two are sums over the rows."""
    slope = delta(layer, cost, x, y)
    return Gradients(slope.T @ x, slope.sum(axis=0), slope @ layer.w)


@np.errstate(over="ignore", invalid="ignore")
def mean_cost(layer: Layer, cost: str, x: Array, y: Array) -> float:
    """The mean over rows of C, without penalty; nan for no rows."""
    check_rows(layer, x, y)
    if not len(x):
        return float("nan")
    terms, sigma = COSTS[cost].terms, ACTIVATIONS[layer.activation]
    sums = [
        float(terms(sigma, pre_activation(layer, x[rows]), y[rows]).sum())
        for rows in chunks(*x.shape)
    ]
    return sum(sums) / len(x)


def chunks(rows: int, columns: int) -> Iterator[slice]:
    """Slices that cover the rows in order, each about CHUNK_BYTES of float64 columns."""
    size = max(1, CHUNK_BYTES // (8 * max(columns, 1)))
    return (slice(start, start + size) for start in range(0, rows, size))


def check_rows(layer: Layer, x: Array, y: Array) -> None:
    """Raises ShapeError unless y is (N, m) for the N rows of x."""
    expected = (len(x), len(layer.b))
    if y.shape != expected:
        raise ShapeError(f"y must be {expected}, not {y.shape}")
